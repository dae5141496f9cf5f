select h.run_id, h.attempt, h.job, h.host, h.state, h.lateness_seconds, h.reason,
       pg_catalog.split_part(coalesce(nullif(h.stdout, ''), h.stderr), e'\n', 1) as output
  from (select * from sisyphus.history h order by h.finished_at desc limit 20) h
 order by h.finished_at, h.run_id, h.attempt
