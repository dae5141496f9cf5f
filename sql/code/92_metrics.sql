-- Numbers for a monitoring system, one a row, as Prometheus names them. Cheap enough to be asked every 15 s: live tables
-- are small, and of the history only the last hour is read, by the index that begins with the job.

-- One pass over the last hour for all of its numbers.
create or replace view sisyphus.metrics as
with n as materialized (
    select sisyphus._clock() as now
), hour as materialized (
    select a.state, count(*) as attempts,
           percentile_cont(0.95) within group (
               order by extract(epoch from a.started_at - greatest(a.due_at, a.requested_at))::double precision)
               filter (where a.attempt = 1) as lateness_p95
      from (select h.state, h.attempt, h.started_at, h.due_at, h.requested_at, h.recorded_at
              from sisyphus.job j
                   join sisyphus.attempt h on h.job = j.name
             union all
            select h.state, h.attempt, h.started_at, h.due_at, h.requested_at, h.recorded_at
              from sisyphus.attempt h
             where h.job is null) a
     where a.recorded_at > (select n.now from n) - interval '1 hour'
           -- Partitions are made ahead: to look for each job in those too takes thrice the time.
       and a.recorded_at < (select n.now from n) + interval '1 hour'
     group by grouping sets ((a.state), ())
)
select 'sisyphus_jobs' as name, jsonb_build_object('state', s.state) as labels, count(o.state)::double precision as value
  from (values ('active'), ('suspended'), ('broken')) s (state)
       left join (
           select case when t.broken is not null then 'broken'
                       when j.suspended_at is not null and (j.suspended_until is null or j.suspended_until > (select n.now from n))
                       then 'suspended' else 'active' end as state
             from sisyphus.job j
                  left join sisyphus.job_state t on t.job_id = j.job_id
            where j.deleted_at is null) o on o.state = s.state
 group by s.state
 union all
select 'sisyphus_runs', jsonb_build_object('state', s.state), count(r.state)
  from (values ('waiting'), ('pending'), ('claimed'), ('running')) s (state)
       left join sisyphus.run r on r.state = s.state
 group by s.state
 union all
select 'sisyphus_hosts', jsonb_build_object('state', s.state), count(f.state)
  from (values ('active'), ('draining'), ('unreachable'), ('lost'), ('stopped'), ('periodic')) s (state)
       left join sisyphus.fleet f on f.state = s.state
 group by s.state
 union all
select 'sisyphus_hosts_with_problem', '{}', count(*) from sisyphus.fleet f where f.problem is not null
 union all
select m.name, jsonb_build_object('pool', q.pool), m.value
  from sisyphus.queue_depth q
       cross join lateral (
           values ('sisyphus_pool_pending', q.pending), ('sisyphus_pool_overdue', q.overdue),
                  ('sisyphus_pool_running', q.running), ('sisyphus_pool_slots_free', q.slots_free)) m (name, value)
 union all
select 'sisyphus_oldest_overdue_seconds', '{}',
       coalesce(extract(epoch from max((select n.now from n) - greatest(r.due_at, r.requested_at))), 0)
  from sisyphus.run r
 where r.state = 'pending' and r.due_at < (select n.now from n)
 union all
select 'sisyphus_attempts_last_hour', jsonb_build_object('state', s.state), coalesce(h.attempts, 0)
  from (values ('succeeded'), ('failed'), ('timed_out'), ('terminated'), ('lost'), ('refused'), ('expired'), ('skipped'),
               ('cancelled')) s (state)
       left join hour h on h.state = s.state
 union all
select 'sisyphus_lateness_p95_seconds', '{}', coalesce(h.lateness_p95, 0) from hour h where h.state is null
 union all
select 'sisyphus_tick_age_seconds', '{}', extract(epoch from (select n.now from n) - p.last_tick_at)
  from sisyphus.planner p
 union all
select 'sisyphus_requests', '{}', count(*) from sisyphus.request
 union all
select 'sisyphus_installation_adopted', '{}', (sisyphus._installation_problem() is null)::integer
 union all
select 'sisyphus_dead_rows', jsonb_build_object('table', c.relname), pg_catalog.pg_stat_get_dead_tuples(c.oid)
  from pg_catalog.pg_class c
 where c.oid in ('sisyphus.run'::pg_catalog.regclass, 'sisyphus.request'::pg_catalog.regclass,
                 'sisyphus.guardian'::pg_catalog.regclass, 'sisyphus.job_state'::pg_catalog.regclass)
 union all
-- Pages as the last vacuum or analyze counted them: asking the files would wait behind a drop.
select 'sisyphus_history_bytes', jsonb_build_object('retention_days', substring(p.relname from E'\\d+')),
       coalesce(sum(c.relpages), 0) * pg_catalog.current_setting('block_size')::double precision
  from pg_catalog.pg_inherits k
       join pg_catalog.pg_class p on p.oid = k.inhrelid
       left join pg_catalog.pg_inherits i on i.inhparent = p.oid
       left join pg_catalog.pg_class t on t.oid = i.inhrelid
       left join pg_catalog.pg_class c on c.oid in (t.oid, nullif(t.reltoastrelid, 0))
 where k.inhparent = 'sisyphus.attempt'::pg_catalog.regclass
 group by p.relname;
comment on view sisyphus.metrics is 'Numbers for a monitoring system';
comment on column sisyphus.metrics.name is 'Name, as Prometheus would have it, with the unit at its end';
comment on column sisyphus.metrics.labels is 'Labels';
comment on column sisyphus.metrics.value is 'Value';

grant select on sisyphus.metrics to sisyphus_admin, sisyphus_author, sisyphus_operator, sisyphus_viewer;
