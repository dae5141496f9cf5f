select r.run_id, r.job, r.host
  from sisyphus.running r
 where r.host = any ($1::text[]) and r.state = 'running'
 order by r.run_id
