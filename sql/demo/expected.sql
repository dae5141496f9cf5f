-- What the history must say when the demo is over, a row a job. On a machine that is busy otherwise an occurrence
-- may come too late (expired) or meet the one before it (skipped): that is as it should be, a failure is not.
with seen as materialized (
    select h.job, h.run_id, h.attempt, h.state, h.is_final, h.host, h.exit_code, h.signal, h.stdout, h.result, h.reason
      from sisyphus.history h
)
select e.job, e.wanted, coalesce(e.ok, false) as ok,
       coalesce((select pg_catalog.string_agg(t.n || ' ' || t.state, ', ' order by t.state)
                   from (select s.state, count(*) as n from seen s where s.job = e.job group by s.state) t),
                'nothing') as seen
  from (values
      ('backup', 'two dumps or more, none failed',
          (select count(*) filter (where s.state = 'succeeded' and s.stdout like '%demo.dump%') >= 2
                  and bool_and(s.state in ('succeeded', 'expired', 'skipped'))
             from seen s where s.job = 'backup')),
      ('disk-space', 'on each host three times or more, with a result, none failed',
          (select count(*) filter (where s.host = 'web1' and s.result ->> 'used_kb' > '0') >= 3
                  and count(*) filter (where s.host = 'web2' and s.result ->> 'used_kb' > '0') >= 3
                  and bool_and(s.state in ('succeeded', 'expired', 'skipped'))
             from seen s where s.job = 'disk-space')),
      ('rotate-logs', 'five runs or more, the log rotated once or more, none failed',
          (select count(*) filter (where s.state = 'succeeded') >= 5
                  and count(*) filter (where s.stdout like 'rotated by web%') >= 1
                  and bool_and(s.state in ('succeeded', 'expired', 'skipped'))
             from seen s where s.job = 'rotate-logs')),
      ('upload', 'two failed attempts, then success',
          (select pg_catalog.array_agg(s.state order by s.attempt) = '{failed,failed,succeeded}'
                  and pg_catalog.array_agg(s.is_final order by s.attempt) = '{f,f,t}'
                  and bool_and(s.state = 'succeeded' or s.exit_code = 75)
                  and bool_or(s.stdout like '%report.pdf%')
             from seen s where s.job = 'upload')),
      ('runaway', 'timed out, killed after the grace',
          (select count(*) = 1 and bool_and(s.state = 'timed_out' and s.signal = 9 and s.stdout = e'busy\n')
             from seen s where s.job = 'runaway')),
      ('mirror', 'two runs or more, the occurrences in between skipped',
          (select count(*) filter (where s.state = 'succeeded') >= 2 and count(*) filter (where s.state = 'skipped') >= 2
                  and bool_and(s.state in ('succeeded', 'expired', 'skipped'))
             from seen s where s.job = 'mirror')),
      ('training', 'expired, never started',
          (select count(*) >= 1 and bool_and(s.state = 'expired' and s.attempt = 0 and s.host is null)
             from seen s where s.job = 'training')),
      ('import', 'terminated in its first attempt, with its output, though its guardian was killed meanwhile',
          (select count(*) = 1 and bool_and(s.state = 'terminated' and s.attempt = 1 and s.stdout = e'importing\n')
                  and exists (select from sisyphus.guardian g where g.ended_as = 'superseded')
             from seen s where s.job = 'import')),
      ('nightly-report', 'not run, but due within four days',
          (select not exists (select from seen s where s.job = 'nightly-report')
                  and o.next_due_at < pg_catalog.now() + interval '4 days'
             from sisyphus.overview o where o.job = 'nightly-report'))
  ) as e (job, wanted, ok)
 order by e.job
