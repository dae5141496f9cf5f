-- Views for people, dashboards and \watch. A contract: columns are added at the end, never renamed, units in names.
-- Nobody is shown fewer rows than others; what belongs to an owner (command, payload, env, output) is null for others.
-- The mask is part of the column itself, so a leaky function in a WHERE clause sees no more than a select list does,
-- and the planner may still use indexes and partitions, which security_barrier would forbid.

-- Definer: views call functions as the reader, who may call no other private one.
create or replace function sisyphus._visible_owners() returns name[]
language sql
stable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(array_agg(r.rolname), '{}') from pg_roles r where sisyphus._caller_is(r.rolname)
$$;
comment on function sisyphus._visible_owners() is 'Roles whose commands, payloads and output the caller may see: its own and those it is a member of';

create or replace function sisyphus._sees_all() returns boolean
language sql
stable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
as $$
    select sisyphus._caller_is('sisyphus_admin')
$$;
comment on function sisyphus._sees_all() is 'Whether the caller may see every owner''s commands, payloads and output: an admin';

-- A newer tzdata may lack a zone from the server's next start on, long before a tick needs it: one such job must not
-- take the view of all from everybody. Unsafe: it catches, which no parallel plan may.
create or replace function sisyphus._timezone_problem(p_timezone text) returns text
language plpgsql
stable
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    perform timezone(p_timezone, timestamptz '1970-01-01 00:00:00+00');
    return null;
exception when invalid_parameter_value then
    return format('%s (%s)', sqlerrm, sqlstate);
end
$$;
comment on function sisyphus._timezone_problem(text) is
    'Why a job of this time zone cannot be planned, as the tick that finds out says it; null: the server knows the zone';

-- What the ticks have not planned yet, also of definitions that are not committed: it reads job, not job_state, where
-- the two differ. Capped for each job, or one that fires each second would give 86,400 rows; and the time for all of them
-- together, or thousands of them would take minutes. The next one of each is told in any case.
create or replace function sisyphus._computed_fires(p_now timestamptz, p_until timestamptz, p_limit integer)
returns table (job_id bigint, due_at timestamptz)
language plpgsql
stable
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_job record;
    v_until timestamptz := p_until;
    v_gone constant text[] := array(
        select z.timezone from (select distinct j.timezone from sisyphus.job j) z
         where sisyphus._timezone_problem(z.timezone) is not null);
begin
    if (select count(*) > 100 from sisyphus.job j where j.deleted_at is null and j.compiled is not null) then
        -- 100,000 at the rate that the next two of each tell.
        v_until := least(p_until, p_now + (
            select interval '100000 s' / sum(1 / extract(epoch from n.next - f.fire)::double precision)
              from sisyphus.job j
             cross join lateral (select sisyphus._next_fire(j.compiled, j.timezone, p_now, j.anchor_at) as fire) f
             cross join lateral (select sisyphus._next_fire(j.compiled, j.timezone, f.fire, j.anchor_at) as next) n
             where j.deleted_at is null and j.compiled is not null and j.timezone <> all (v_gone)));
    end if;
    for v_job in
        select j, j.job_id, j.compiled, j.timezone, j.anchor_at, j.ends_at,
               j.except_on is not null or j.only_on is not null as has_calendar,
               greatest(p_now, j.starts_at - interval '1 microsecond', j.suspended_until - interval '1 microsecond',
                        case when s.version = j.version then s.watermark end) as planned_until
          from sisyphus.job j
               left join sisyphus.job_state s on s.job_id = j.job_id
         where j.deleted_at is null
           and j.compiled is not null
           and s.broken is null
           and (j.suspended_at is null or j.suspended_until is not null)
           and j.timezone <> all (v_gone)
    loop
        job_id := v_job.job_id;
        due_at := v_job.planned_until;
        for i in 1 .. p_limit loop
            due_at := case when v_job.has_calendar then sisyphus._next_kept(v_job.j, due_at)
                           else sisyphus._next_fire(v_job.compiled, v_job.timezone, due_at, v_job.anchor_at) end;
            exit when due_at is null or due_at > case when i = 1 then p_until else v_until end or due_at >= v_job.ends_at;
            return next;
        end loop;
    end loop;
end;
$$;
comment on function sisyphus._computed_fires(timestamptz, timestamptz, integer) is
    'Occurrences that are not planned yet, of all jobs, before jitter; at most so many a job, and some 100,000 together';

-- Definer, as above; for a job that no tick has looked at since it changed.
create or replace function sisyphus._next_due(p_job_id bigint, p_now timestamptz) returns timestamptz
language sql
stable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
as $$
    select nullif(sisyphus._next_occurrence(j, p_now), 'infinity') from sisyphus.job j where j.job_id = p_job_id
$$;
comment on function sisyphus._next_due(bigint, timestamptz) is 'The next occurrence of a job by its definition';

create or replace view sisyphus.overview as
select j.name as job,
       case when b.why is not null then 'broken' when d.suspended then 'suspended' else 'active' end as state,
       j.schedule,
       j.timezone,
       p.name as pool,
       j.run_on,
       case when d.suspended or b.why is not null then null
            when s.version = j.version and j.except_on is null and j.only_on is null
            then least(live.next_due_at, nullif(s.next_due_at, 'infinity'))
            else sisyphus._next_due(j.job_id, (select sisyphus._clock())) end as next_due_at,
       live.running,
       last.state as last_state,
       last.started_at as last_started_at,
       round(extract(epoch from last.finished_at - last.started_at), 3)::double precision as last_duration_seconds,
       recent.success_ratio,
       round(recent.quantiles[1]::numeric, 3)::double precision as p50_seconds,
       round(recent.quantiles[2]::numeric, 3)::double precision as p95_seconds,
       j.owner,
       coalesce((select sisyphus._installation_problem()),
                case when b.why is not null then b.why when d.suspended then j.suspend_reason
                     else coalesce(sisyphus._calendar_problem(j.except_on, (select sisyphus._clock())),
                                   sisyphus._calendar_problem(j.only_on, (select sisyphus._clock()))) end) as problem
  from sisyphus.job j
       join sisyphus.pool p on p.pool_id = j.pool_id
       left join sisyphus.job_state s on s.job_id = j.job_id
       cross join lateral (select coalesce(s.broken, sisyphus._timezone_problem(j.timezone)) as why) b
       cross join lateral (
           select j.suspended_at is not null
                  and (j.suspended_until is null or j.suspended_until > (select sisyphus._clock())) as suspended) d
       cross join lateral (
           select count(*) filter (where r.state = 'running') as running,
                  min(r.due_at) filter (where r.due_at > (select sisyphus._clock())) as next_due_at
             from sisyphus.run r
            where r.job_id = j.job_id) live
       left join lateral (
           select a.state, a.started_at, a.finished_at
             from sisyphus.attempt a
            where a.job = j.name and a.is_final and a.state not in ('skipped', 'cancelled')
            order by a.recorded_at desc
            limit 1) last on true
       -- Of the last 1,000 rows: a job that is skipped each second must not make everybody's overview slow.
       cross join lateral (
           select round(avg((started.state = 'succeeded')::integer), 3)::double precision as success_ratio,
                  percentile_cont('{0.5, 0.95}'::double precision[]) within group (
                      order by round(extract(epoch from started.finished_at - started.started_at), 3)::double precision)
                      as quantiles
             from (select newest.state, newest.started_at, newest.finished_at
                     from (select a.state, a.started_at, a.finished_at, a.is_final
                             from sisyphus.attempt a
                            where a.job = j.name
                            order by a.recorded_at desc
                            limit 1000) newest
                    where newest.is_final and newest.started_at is not null
                    limit 100) started) recent
 where j.deleted_at is null
 order by j.name;
comment on view sisyphus.overview is 'Jobs: what each is, when it runs next and how it has been doing';
comment on column sisyphus.overview.job is 'Job';
comment on column sisyphus.overview.state is 'active, suspended, or broken: it cannot be planned';
comment on column sisyphus.overview.schedule is 'When it runs; null: on demand only';
comment on column sisyphus.overview.timezone is 'Time zone of the schedule';
comment on column sisyphus.overview.pool is 'Where: pool';
comment on column sisyphus.overview.run_on is 'any: on one host of the pool; all: on each';
comment on column sisyphus.overview.next_due_at is 'Next time it is due; null: not, or suspended or broken';
comment on column sisyphus.overview.running is 'Runs whose process is running';
comment on column sisyphus.overview.last_state is 'How its last run ended, leaving out skipped and cancelled ones';
comment on column sisyphus.overview.last_started_at is 'When that run started; null: it never did';
comment on column sisyphus.overview.last_duration_seconds is 'How long that run took, seconds';
comment on column sisyphus.overview.success_ratio is 'Succeeded among the last 100 started runs, 0 to 1';
comment on column sisyphus.overview.p50_seconds is 'Median duration of the last 100 started runs, seconds';
comment on column sisyphus.overview.p95_seconds is 'Duration that 95 of the last 100 started runs stayed below, seconds';
comment on column sisyphus.overview.owner is 'Role that made it';
comment on column sisyphus.overview.problem is 'Why it is broken or suspended, what its calendars lack, or why nothing runs here at all';

create or replace view sisyphus.running as
select r.run_id,
       r.attempt,
       r.claim_no,
       j.name as job,
       h.name as host,
       r.state,
       r.due_at,
       r.started_at,
       round(extract(epoch from (select sisyphus._clock()) - r.started_at), 3)::double precision as running_seconds,
       -- As it was claimed: a change since then does not reach it.
       make_interval(secs => (coalesce(r.spec, d.spec) ->> 'max_runtime')::double precision) as max_runtime,
       r.paused_at,
       r.pid
  from sisyphus.run r
       left join sisyphus.job j on j.job_id = r.job_id
       left join sisyphus.job_definition d on d.job_id = r.job_id and d.version = r.job_version
       left join sisyphus.host h on h.host_id = r.host_id
 where r.state in ('claimed', 'running')
 order by r.started_at, r.due_at, r.run_id;
comment on view sisyphus.running is 'Attempts that a host has claimed or is running';
comment on column sisyphus.running.run_id is 'Run';
comment on column sisyphus.running.attempt is 'Attempt, from 1';
comment on column sisyphus.running.claim_no is 'Fence of its claim, for assert_current()';
comment on column sisyphus.running.job is 'Job; null: submitted without one';
comment on column sisyphus.running.host is 'Host';
comment on column sisyphus.running.state is 'claimed: not reported as started yet; running';
comment on column sisyphus.running.due_at is 'When it is due';
comment on column sisyphus.running.started_at is 'When its process started';
comment on column sisyphus.running.running_seconds is 'How long its process has been running, pauses included, seconds';
comment on column sisyphus.running.max_runtime is 'How long it may take; null: no limit';
comment on column sisyphus.running.paused_at is 'Since when it is paused; null: it is not';
comment on column sisyphus.running.pid is 'Process on its host';

create or replace view sisyphus.upcoming as
select u.job,
       u.due_at,
       u.due_at at time zone u.timezone as local_time,
       u.pool,
       u.host,
       u.run_id,
       case when u.owner = any ((select sisyphus._visible_owners())::name[]) or (select sisyphus._sees_all())
            then u.command end as command
  from (select j.name as job, w.due_at,
               case when sisyphus._timezone_problem(j.timezone) is null then coalesce(j.timezone, 'UTC') end as timezone,
               p.name as pool, h.name as host, r.run_id, coalesce(j.owner, (r.spec ->> 'owner')::name) as owner,
               coalesce(r.spec ->> 'command', r.spec ->> 'argv', j.command, to_jsonb(j.argv)::text) as command
          from sisyphus.run r
               cross join lateral (
                   select case when r.state = 'waiting' and r.attempt > 0 and isfinite(r.wake_at) then r.wake_at
                               else r.due_at end as due_at) w
               left join sisyphus.job j on j.job_id = r.job_id
               left join sisyphus.host h on h.host_id = r.lane_id
               left join sisyphus.pool p on p.pool_id = coalesce(j.pool_id, r.lane_id)
         where r.state in ('waiting', 'pending', 'claimed')
           and r.withdrawn is null
           and w.due_at > (select sisyphus._clock())
           -- A definition that changed meanwhile is computed anew.
           and (r.origin <> 'schedule' or j.version = r.job_version and j.deleted_at is null
                                          and (j.suspended_at is null or r.due_at >= j.suspended_until))
         union all
        select j.name, f.due_at, j.timezone, p.name, h.name, null, j.owner, coalesce(j.command, to_jsonb(j.argv)::text)
          from sisyphus._computed_fires((select sisyphus._clock()), (select sisyphus._clock()) + interval '1 day', 1440) f
               join sisyphus.job j on j.job_id = f.job_id
               join sisyphus.pool p on p.pool_id = j.pool_id
               left join sisyphus.host h on j.run_on = 'all' and j.pool_id = any(h.lanes)
       ) u
 order by u.due_at, u.job, u.host;
comment on view sisyphus.upcoming is 'What is to come: runs that exist, whatever their date, and what schedules make due within a day, of each job the first 1,440; of hundreds of frequent jobs some 100,000 in a shorter time, and the next one of each';
comment on column sisyphus.upcoming.job is 'Job; null: submitted without one';
comment on column sisyphus.upcoming.due_at is 'When it is due; of a retry, when its delay has passed; jitter is added when it is planned';
comment on column sisyphus.upcoming.local_time is 'The same in the time zone of the job; null: the server does not know that zone';
comment on column sisyphus.upcoming.pool is 'Pool';
comment on column sisyphus.upcoming.host is 'Host, when it is for this one alone';
comment on column sisyphus.upcoming.run_id is 'Run, for cancel(); null: not planned yet';
comment on column sisyphus.upcoming.command is 'What it will run, an argv as JSON; null for who may not see it';

-- What is the same for many of them, or a count of the others, is found once for all.
create or replace view sisyphus.overdue as
with queue as materialized (
    select r.run_id,
           row_number() over (partition by r.lane_id order by r.priority desc, r.ready_no) - 1 as ahead
      from sisyphus.run r
     where r.state = 'pending' and r.due_at <= (select sisyphus._clock()))
select r.run_id,
       j.name as job,
       r.due_at,
       round(extract(epoch from (select sisyphus._clock()) - greatest(r.due_at, r.requested_at)), 3)::double precision
           as late_seconds,
       r.expires_at,
       coalesce((select sisyphus._installation_problem()),
                sisyphus._why_late(r.run_id, (select sisyphus._clock()),
                                   coalesce((select sisyphus._why_lanes_wait()) ->> r.lane_id::text, ''), q.ahead)) as why
  from sisyphus.run r
       left join sisyphus.job j on j.job_id = r.job_id
       left join queue q on q.run_id = r.run_id
 where r.due_at < (select sisyphus._clock())
   and (r.state = 'pending' or r.state = 'waiting' and r.attempt = 0 and not r.in_order)
 order by r.due_at, r.run_id;
comment on view sisyphus.overdue is 'Runs that are past their due time and that no host has claimed; without retries and runs that wait their turn';
comment on column sisyphus.overdue.run_id is 'Run';
comment on column sisyphus.overdue.job is 'Job; null: submitted without one';
comment on column sisyphus.overdue.due_at is 'When it was due';
comment on column sisyphus.overdue.late_seconds is 'How late it is, from its due time or from when it was asked for, seconds';
comment on column sisyphus.overdue.expires_at is 'When its ttl passes; null: never';
comment on column sisyphus.overdue.why is 'Why it has not started';

grant execute on function sisyphus._clock(), sisyphus._reason_without_names(text, integer, integer, text),
    sisyphus._installation_problem(timestamptz), sisyphus._visible_owners(), sisyphus._sees_all(),
        sisyphus._computed_fires(timestamptz, timestamptz, integer), sisyphus._next_due(bigint, timestamptz),
        sisyphus._timezone_problem(text), sisyphus._calendar_problem(text, timestamptz)
    to sisyphus_admin, sisyphus_author, sisyphus_operator, sisyphus_viewer;
grant select on sisyphus.overview, sisyphus.running, sisyphus.upcoming, sisyphus.overdue
    to sisyphus_admin, sisyphus_author, sisyphus_operator, sisyphus_viewer;
