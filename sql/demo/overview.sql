select o.job, o.state, o.schedule, o.run_on, o.pool, o.last_state, o.last_duration_seconds, o.success_ratio,
       o.p95_seconds, o.next_due_at
  from sisyphus.overview o
 order by o.job
