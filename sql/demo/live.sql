select o.job, o.schedule, r.hosts as running_on, h.attempts, h.succeeded, h.otherwise, o.next_due_at
  from sisyphus.overview o
  left join (select r.job, pg_catalog.string_agg(r.host, ', ' order by r.host) as hosts
               from sisyphus.running r
              where r.state = 'running'
              group by r.job) r on r.job = o.job
  left join (select s.job, sum(s.attempts) as attempts,
                    sum(s.attempts) filter (where s.state = 'succeeded') as succeeded,
                    pg_catalog.string_agg(s.attempts || ' ' || s.state, ', ' order by s.state)
                        filter (where s.state <> 'succeeded') as otherwise
               from (select h.job, h.state, count(*) as attempts
                       from sisyphus.history h
                      group by h.job, h.state) s
              group by s.job) h on h.job = o.job
 order by o.job
