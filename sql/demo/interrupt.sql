select r.run_id, r.job, r.host from sisyphus.running r where r.job = 'import' and r.state = 'running'
