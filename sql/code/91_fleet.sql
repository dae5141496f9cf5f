-- Hosts, queues, calendars, settings and the audit log, as views; what 90_monitor.sql says of views holds here too.

create or replace view sisyphus.fleet as
select h.name as host,
       -- A single pass signs off when it has done its work: it is neither silent nor stopped.
       case when g.guardian_id is null then 'stopped'
            when g.ended_as = 'lost' or g.ended_at is null and g.lease_until <= n.now then 'lost'
            when coalesce(o.state, h.state) = 'draining' and (g.ended_at is null or g.periodic) then 'draining'
            when g.periodic then 'periodic'
            when g.ended_at is not null then 'stopped'
            when g.seen_at < n.now - 2 * s.heartbeat then 'unreachable'
            else 'active' end as state,
       coalesce(o.slots, h.slots) as slots,
       (select count(*) from sisyphus.run r where r.guardian_id = g.guardian_id and r.state = 'running') as running,
       round(extract(epoch from n.now - g.seen_at), 3)::double precision as seen_seconds_ago,
       g.clock_offset_ms,
       g.version,
       h.labels,
       array(select p.name from sisyphus.pool p where p.pool_id = any(h.lanes) order by p.name) as pools,
       coalesce((select sisyphus._installation_problem()), g.problem) as problem
  from sisyphus.host h
       left join sisyphus.host_order o on o.host_id = h.host_id
       cross join sisyphus.setting s
       cross join lateral (select (select sisyphus._clock()) as now) n
       left join lateral (
           select l.guardian_id, l.periodic, l.seen_at, l.lease_until, l.ended_at, l.ended_as, l.clock_offset_ms,
                  l.version, l.problem
             from sisyphus.guardian l
            where l.host_id = h.host_id
            order by l.guardian_id desc
            limit 1) g on true
 order by h.name;
comment on view sisyphus.fleet is 'Hosts and how their guardians are';
comment on column sisyphus.fleet.host is 'Host';
comment on column sisyphus.fleet.state is 'active, draining, unreachable (silent for 2 heartbeats), lost (its lease ran out), stopped (signed off), periodic (last seen by --once)';
comment on column sisyphus.fleet.slots is 'Runs it takes at once';
comment on column sisyphus.fleet.running is 'Runs whose process is running there';
comment on column sisyphus.fleet.seen_seconds_ago is 'Time since its guardian was last heard of, seconds';
comment on column sisyphus.fleet.clock_offset_ms is 'Its clock less the database''s, milliseconds';
comment on column sisyphus.fleet.version is 'Version of its guardian';
comment on column sisyphus.fleet.labels is 'Labels, for pool selectors';
comment on column sisyphus.fleet.pools is 'Pools it is a member of';
comment on column sisyphus.fleet.problem is 'What hinders it, in its own words, or what hinders all';

create or replace view sisyphus.queue_depth as
select p.name as pool,
       coalesce(q.pending, 0) as pending,
       coalesce(q.overdue, 0) as overdue,
       coalesce(q.claimed, 0) as claimed,
       coalesce(q.running, 0) as running,
       coalesce((select sum(g.slots_free)
                   from sisyphus.host h
                        join sisyphus.guardian g on g.host_id = h.host_id
                  where p.pool_id = any(h.lanes)
                    and h.state = 'active'
                    and g.ended_at is null
                    and g.lease_until > (select sisyphus._clock())), 0) as slots_free,
       p.description,
       p.selector,
       array(select m.host_name from sisyphus.pool_member m where m.pool_id = p.pool_id order by m.host_name) as listed,
       array(select h.name from sisyphus.host h where p.pool_id = any(h.lanes) order by h.name) as members
  from sisyphus.pool p
       left join (
           -- A run for one host counts in the pool of its job.
           select coalesce(j.pool_id, r.lane_id) as pool_id,
                  count(*) filter (where r.state = 'pending') as pending,
                  count(*) filter (where r.state = 'pending' and r.due_at < (select sisyphus._clock())) as overdue,
                  count(*) filter (where r.state = 'claimed') as claimed,
                  count(*) filter (where r.state = 'running') as running
             from sisyphus.run r
                  left join sisyphus.job j on j.job_id = r.job_id
            group by 1) q on q.pool_id = p.pool_id
 order by p.name;
comment on view sisyphus.queue_depth is 'Pools and what waits and runs in them';
comment on column sisyphus.queue_depth.pool is 'Pool';
comment on column sisyphus.queue_depth.pending is 'Runs that a host may claim, not yet due ones included';
comment on column sisyphus.queue_depth.overdue is 'Of these, runs that are past their due time';
comment on column sisyphus.queue_depth.claimed is 'Runs that a host has claimed and not reported as started';
comment on column sisyphus.queue_depth.running is 'Runs whose process is running';
comment on column sisyphus.queue_depth.slots_free is 'Free slots of its live, active hosts at their last claim; a host counts in each of its pools';
comment on column sisyphus.queue_depth.description is 'What it is for';
comment on column sisyphus.queue_depth.selector is 'Labels that make a host a member; null: none';
comment on column sisyphus.queue_depth.listed is 'Hosts that it lists, registered or not';
comment on column sisyphus.queue_depth.members is 'Hosts that are members: listed, or selected by their labels, and registered';

create or replace view sisyphus.calendars as
select c.name as calendar,
       c.owner,
       c.kind,
       r.ranges,
       r.starts_at,
       r.ends_at,
       c.refreshed_at,
       round(extract(epoch from (select sisyphus._clock()) - c.refreshed_at), 3)::double precision as age_seconds,
       array(select j.name from sisyphus.job j
              where c.name in (j.except_on, j.only_on) and j.deleted_at is null order by j.name) as jobs,
       sisyphus._calendar_problem(c.name, (select sisyphus._clock())) as problem,
       case when c.owner = any ((select sisyphus._visible_owners())::name[]) or (select sisyphus._sees_all())
            then c.query end as query
  from sisyphus.calendar c
       cross join lateral (
           select count(*) as ranges, nullif(min(g.starts_at), '-infinity') as starts_at,
                  nullif(max(g.ends_at), 'infinity') as ends_at
             from sisyphus.calendar_range g
            where g.calendar_id = c.calendar_id) r
 order by c.name;
comment on view sisyphus.calendars is 'Calendars, for except_on and only_on: what they hold and how old that is';
comment on column sisyphus.calendars.calendar is 'Calendar';
comment on column sisyphus.calendars.owner is 'Role that made it, the only one that may refresh it';
comment on column sisyphus.calendars.kind is 'dates: days on the clock of each job; ranges: spans between instants';
comment on column sisyphus.calendars.ranges is 'How many ranges it has; days in a row are one';
comment on column sisyphus.calendars.starts_at is 'Begin of its first range, on the clock of each job (dates) or in UTC (ranges); null: none, or without begin';
comment on column sisyphus.calendars.ends_at is 'End of its last range, exclusive; it says nothing of what comes later; null: none, or without end';
comment on column sisyphus.calendars.refreshed_at is 'When its query was last asked';
comment on column sisyphus.calendars.age_seconds is 'How long ago that was, seconds';
comment on column sisyphus.calendars.jobs is 'Jobs that use it';
comment on column sisyphus.calendars.problem is 'It is empty, or has ended; null: nothing';
comment on column sisyphus.calendars.query is 'Its query; null for who may not see it';

create or replace view sisyphus.settings as
select v.name,
       v.value,
       v.unit,
       v.standard as "default",
       pg_catalog.col_description('sisyphus.setting'::pg_catalog.regclass, a.attnum) as description
  from sisyphus.setting s
       cross join lateral (
           values ('default_timezone', s.default_timezone, 'time zone', 'UTC'),
                  ('heartbeat', s.heartbeat::text, 'interval', (interval '5 s')::text),
                  ('lease_timeout', s.lease_timeout::text, 'interval', (interval '30 s')::text),
                  ('claim_ahead', s.claim_ahead::text, 'interval', (interval '10 s')::text),
                  ('plan_ahead', s.plan_ahead::text, 'interval', (interval '15 s')::text),
                  ('retention_success', s.retention_success::text, 'interval', (interval '30 days')::text),
                  ('retention_failure', s.retention_failure::text, 'interval', (interval '90 days')::text),
                  ('retention_audit', s.retention_audit::text, 'interval', (interval '400 days')::text),
                  ('output_limit', s.output_limit::text, 'bytes', '65536')) v (name, value, unit, standard)
       join pg_catalog.pg_attribute a
         on a.attrelid = 'sisyphus.setting'::pg_catalog.regclass and a.attname = v.name;
comment on view sisyphus.settings is 'Settings of this installation; set_setting() changes them';
comment on column sisyphus.settings.name is 'Name, for set_setting()';
comment on column sisyphus.settings.value is 'Value';
comment on column sisyphus.settings.unit is 'What the value is: interval, bytes, time zone';
comment on column sisyphus.settings."default" is 'Value in a new installation';
comment on column sisyphus.settings.description is 'What it does';

create or replace view sisyphus.audit_log as
select a.at,
       a.role_name as role,
       a.action,
       a.object,
       case when v.visible then a.before end as before,
       case when v.visible then a.after end as after
  from sisyphus.audit a
       cross join lateral (
           select coalesce(a.role_name = any ((select sisyphus._visible_owners())::name[]), false)
                  or coalesce(a.owner = any ((select sisyphus._visible_owners())::name[]), false)
                  or (select sisyphus._sees_all()) as visible) v;
comment on view sisyphus.audit_log is 'Definition and control calls: who did what, and when';
comment on column sisyphus.audit_log.at is 'When';
comment on column sisyphus.audit_log.role is 'Who';
comment on column sisyphus.audit_log.action is 'Function that was called';
comment on column sisyphus.audit_log.object is 'Job, run, host or pool';
comment on column sisyphus.audit_log.before is 'What it was; null for who may not see it';
comment on column sisyphus.audit_log.after is 'What it became; null for who may not see it';

create or replace view sisyphus.definitions as
select j.name as job,
       j.owner,
       j.version,
       j.schedule,
       case when v.visible then j.command end as command,
       j.timezone,
       case when v.visible then j.argv end as argv,
       p.name as pool,
       j.run_on,
       j.ttl,
       j.missed,
       j.overlap,
       j.max_runtime,
       j.grace,
       j.retries,
       j.retry_delay,
       j.retry_backoff,
       j.retry_max_delay,
       j.retry_on_lost,
       j.fenced,
       j.success_exit_codes,
       j.no_retry_exit_codes,
       j.priority::integer as priority,
       j.jitter,
       j.starts_at,
       j.ends_at,
       j.except_on,
       j.only_on,
       case when v.visible then j.payload end as payload,
       case when v.visible then j.env end as env,
       case when v.visible then j.cwd end as cwd,
       j.run_as,
       j.limits,
       j.leftovers,
       j.retention,
       j.description,
       j.tags,
       j.suspended_at,
       j.suspended_until,
       j.suspend_reason,
       j.created_at,
       j.changed_at
  from sisyphus.job j
       join sisyphus.pool p on p.pool_id = j.pool_id
       cross join lateral (
           select j.owner = any ((select sisyphus._visible_owners())::name[])
                  or (select sisyphus._sees_all()) as visible) v
 where j.deleted_at is null
 order by j.name;
comment on view sisyphus.definitions is 'Jobs as they are defined, in the words of schedule()';

do $$
declare
    v_column record;
begin
    for v_column in
        select a.attname,
               coalesce(pg_catalog.col_description('sisyphus.job'::pg_catalog.regclass, t.attnum),
                        case a.attname when 'job' then 'Name' when 'pool' then 'Where: pool' end)
               || case when a.attname in ('command', 'argv', 'payload', 'env', 'cwd')
                       then '; null for who may not see it' else '' end as comment
          from pg_catalog.pg_attribute a
               left join pg_catalog.pg_attribute t
                 on t.attrelid = 'sisyphus.job'::pg_catalog.regclass and t.attname = a.attname
         where a.attrelid = 'sisyphus.definitions'::pg_catalog.regclass
    loop
        -- Dynamic, because COMMENT takes no expression.
        execute pg_catalog.format('comment on column sisyphus.definitions.%I is %L', v_column.attname, v_column.comment);
    end loop;
end
$$;

grant select on sisyphus.calendars, sisyphus.fleet, sisyphus.queue_depth, sisyphus.settings, sisyphus.audit_log, sisyphus.definitions
    to sisyphus_admin, sisyphus_author, sisyphus_operator, sisyphus_viewer;
