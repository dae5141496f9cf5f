-- Occurrences become runs here, from a stored watermark per job, never by asking "is it now?".
-- Only a tick that holds the planner's lock runs these functions, so job_state has one writer.

create or replace function sisyphus._next_occurrence(p_job sisyphus.job, p_after timestamptz)
returns timestamptz
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_next timestamptz;
begin
    if p_job.compiled is null or p_job.deleted_at is not null then
        return 'infinity'::timestamptz;
    end if;
    -- starts_at itself may fire; ends_at may not.
    v_next := sisyphus._next_kept(p_job, greatest(p_after, p_job.starts_at - interval '1 us'));
    return case when v_next is null or v_next >= p_job.ends_at then 'infinity'::timestamptz else v_next end;
end
$$;
comment on function sisyphus._next_occurrence(sisyphus.job, timestamptz) is
    'First occurrence of a job strictly later that its calendars keep, before jitter; infinity: none';

-- What calendars leave out is recorded when it would be due, so the planner looks there too.
create or replace function sisyphus._next_due_at(p_job sisyphus.job, p_after timestamptz)
returns timestamptz
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    p_job.except_on := null;
    p_job.only_on := null;
    return sisyphus._next_occurrence(p_job, p_after);
end
$$;
comment on function sisyphus._next_due_at(sisyphus.job, timestamptz) is
    'First occurrence of a job strictly later, whether its calendars keep it or not, for job_state.next_due_at; infinity: none';

-- From a hash, so that planning again moves nothing.
create or replace function sisyphus._jittered(p_job_id bigint, p_nominal_at timestamptz, p_jitter interval)
returns timestamptz
language sql
stable
parallel safe
begin atomic
    select case when p_jitter is null then p_nominal_at
           else sisyphus._later(p_nominal_at, p_jitter * ((pg_catalog.hashint8extended(p_job_id, sisyphus._epoch_us(p_nominal_at)) & 1048575)
                                                           / 1048576.0::double precision)) end;
end;
comment on function sisyphus._jittered(bigint, timestamptz, interval) is 'When an occurrence is due: up to jitter later, the same each time it is asked';

-- Without a ttl until the next one is due; where its jitter puts that before this one, until it must have been.
create or replace function sisyphus._expires_at(p_job sisyphus.job, p_due_at timestamptz, p_next timestamptz)
returns timestamptz
language sql
stable
parallel safe
begin atomic
    select case when (p_job).ttl is not null then sisyphus._later(p_due_at, (p_job).ttl)
                when p_next >= least((p_job).ends_at, 'infinity') then null
                when sisyphus._jittered((p_job).job_id, p_next, (p_job).jitter) > p_due_at
                then sisyphus._jittered((p_job).job_id, p_next, (p_job).jitter)
                else sisyphus._later(p_next, (p_job).jitter) end;
end;
comment on function sisyphus._expires_at(sisyphus.job, timestamptz, timestamptz) is
    'Until when an occurrence may start, of which the next one is p_next; null: never expires';

-- One row for occurrences that became no run: passed over, no longer fresh, suspended, broken, left out.
create or replace function sisyphus._record_occurrences(
    p_job sisyphus.job, p_state text, p_reason text, p_first timestamptz, p_last timestamptz, p_count bigint,
    p_now timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into sisyphus.attempt (
        run_id, job_id, due_at, nominal_at, last_due_at, finished_at, recorded_at, occurrences, attempt, job_version,
        retention_days, is_final, state, origin, job, owner, pool, reason)
    select nextval('sisyphus.run_id_seq'), p_job.job_id, p_first, p_first, p_last, p_now, p_now, coalesce(p_count, 0), 0,
           p_job.version,
           coalesce(p_job.retain_failure, sisyphus._retention_class((sisyphus._setting()).retention_failure)), true, p_state, 'schedule', p_job.name, p_job.owner,
           (select p.name from sisyphus.pool p where p.pool_id = p_job.pool_id), p_reason
     where p_count > 0 or p_count is null;
end
$$;
comment on function sisyphus._record_occurrences(sisyphus.job, text, text, timestamptz, timestamptz, bigint, timestamptz) is
    'Writes one final row that stands for a number of occurrences, nothing when it is 0; null: nobody can tell how many';

-- Makes runs of occurrences: for each job its targets, read at this moment. Where a watermark was set back (a new
-- schedule, a clock that jumped) an occurrence may have its run already, or have had it. The version is the one that the
-- planner knows: a change that has committed since withdraws or re-plans what is made here.
create or replace function sisyphus._make_runs(
    p_job_ids bigint[], p_fires timestamptz[], p_nexts timestamptz[], p_in_order boolean, p_now timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_empty record;
begin
    with occurrence as (
        select j, f.fire, f.next, s.planned_until, s.version, sisyphus._jittered(j.job_id, f.fire, j.jitter) as due_at
          from sisyphus.job j
          join sisyphus.job_state s on s.job_id = j.job_id
          cross join unnest(p_fires, p_nexts) f (fire, next)
         where j.job_id = any(p_job_ids) and (j.ends_at is null or f.fire < j.ends_at)
           and (j.starts_at is null or f.fire >= j.starts_at)),
    target as (
        select o.*, 0::bigint as target, (o.j).pool_id as lane_id
          from occurrence o
         where (o.j).run_on = 'any'
        union all
        select o.*, h.host_id, h.host_id
          from occurrence o
          join sisyphus.host h on (o.j).pool_id = any(h.lanes)
         where (o.j).run_on = 'all')
    insert into sisyphus.run (
        job_id, target, lane_id, due_at, nominal_at, expires_at, wake_at, job_version, priority, exclusive, in_order, origin)
    select (t.j).job_id, t.target, t.lane_id, t.due_at, t.fire,
           sisyphus._expires_at(t.j, t.due_at, t.next),
           t.due_at - s.claim_ahead, t.version, (t.j).priority, (t.j).overlap <> 'allow', p_in_order, 'schedule'
      from target t
      cross join sisyphus.setting s
     where t.fire > t.planned_until
        or not exists (select from sisyphus.run r
                        where r.job_id = (t.j).job_id and r.target = t.target and r.nominal_at = t.fire
                          and r.origin = 'schedule')
       and not exists (select from sisyphus.attempt a
                        where a.job = (t.j).name and a.nominal_at = t.fire and a.origin = 'schedule'
                          and a.recorded_at >= t.fire - s.plan_ahead - interval '1 min'
                          and a.state not in ('cancelled', 'skipped')
                          -- Expired by a clock that has been set back since: its time is still to come.
                          and (a.attempt > 0 or a.recorded_at <= p_now))
     order by t.due_at, (t.j).job_id, t.target;
    for v_empty in
        select j, array_agg(f.fire order by f.fire) as fires
          from sisyphus.job j
          cross join unnest(p_fires) f (fire)
         where j.job_id = any(p_job_ids) and j.run_on = 'all' and (j.ends_at is null or f.fire < j.ends_at)
           and not exists (select from sisyphus.host h where j.pool_id = any(h.lanes))
         group by j
    loop
        perform sisyphus._record_occurrences(
            v_empty.j, 'skipped', 'the pool has no host', v_empty.fires[1],
            v_empty.fires[cardinality(v_empty.fires)], cardinality(v_empty.fires), p_now);
    end loop;
end
$$;
comment on function sisyphus._make_runs(bigint[], timestamptz[], timestamptz[], boolean, timestamptz) is
    'Inserts a waiting run for each job, occurrence and target';

-- Who waits holds no other lock of a job, or a finish and a tick would wait for each other.
create or replace function sisyphus._lock_states(p_job_ids bigint[], p_wait boolean, p_now timestamptz)
returns bigint[]
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    -- A job that no tick has met yet: its row is made as the lock, the tick fills it in.
    insert into sisyphus.job_state (job_id, version, watermark, next_due_at)
    select distinct j.job_id, 0, p_now, 'infinity'::timestamptz
      from unnest(p_job_ids) j (job_id)
     where not exists (select from sisyphus.job_state s where s.job_id = j.job_id)
     order by 1
        on conflict do nothing;
    if p_wait then
        return array(select s.job_id from sisyphus.job_state s
                      where s.job_id = any(p_job_ids) order by s.job_id for update);
    end if;
    return array(select s.job_id from sisyphus.job_state s
                  where s.job_id = any(p_job_ids) order by s.job_id for update skip locked);
end
$$;
comment on function sisyphus._lock_states(bigint[], boolean, timestamptz) is
    'Locks the planner''s state of jobs, ids ascending, waiting or leaving out what others hold; returns those it has';

create or replace function sisyphus._plan_jobs(
    p_job_ids bigint[], p_next_due_at timestamptz, p_downtime boolean, p_now timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_setting constant sisyphus.setting := sisyphus._setting();
    v_job sisyphus.job;
    v_gone name;
    v_one record;
    v_fire timestamptz := p_next_due_at;
    v_fires timestamptz[] := array[]::timestamptz[];
    v_nexts timestamptz[] := array[]::timestamptz[];
    v_has_calendar boolean;
    v_left_out_until timestamptz;
    v_planned_until timestamptz;
    v_done timestamptz;
begin
    -- All of p_job_ids share schedule, zone, anchor, calendars and next occurrence: the first one's fires are everybody's.
    select j.* into v_job from sisyphus.job j where j.job_id = p_job_ids[1];
    -- What belongs to nobody, nobody answers for.
    select j.owner into v_gone from sisyphus.job j
     where j.job_id = any(p_job_ids) and to_regrole(quote_ident(j.owner)) is null limit 1;
    if found then
        raise exception 'role "%" does not exist', v_gone
            using errcode = '42704', hint = 'Make it again and define its jobs again, or unschedule() these.';
    end if;
    v_has_calendar := v_job.except_on is not null or v_job.only_on is not null;
    if p_downtime and v_fire <= p_now then
        for v_one in
            select j, s.watermark, s.planned_until from sisyphus.job j join sisyphus.job_state s on s.job_id = j.job_id
             where j.job_id = any(p_job_ids)
        loop
            perform sisyphus._catch_up(v_one.j, v_one.watermark, v_one.planned_until, p_now);
        end loop;
        v_fire := coalesce(sisyphus._next_fire(v_job.compiled, v_job.timezone, p_now, v_job.anchor_at), 'infinity');
    end if;
    while v_fire <= p_now + v_setting.plan_ahead and cardinality(v_fires) < 500 loop
        v_done := v_fire;
        v_left_out_until := case when v_has_calendar then sisyphus._leave_out(p_job_ids, v_job, v_fire, p_now) end;
        v_fire := coalesce(sisyphus._next_fire(v_job.compiled, v_job.timezone, coalesce(v_left_out_until, v_fire),
                                               v_job.anchor_at), 'infinity');
        if v_left_out_until is null then
            v_fires := v_fires || v_done;
            v_nexts := v_nexts || case when v_has_calendar then coalesce(sisyphus._next_kept(v_job, v_done), 'infinity') else v_fire end;
        end if;
    end loop;
    if v_fires <> '{}' then
        perform sisyphus._make_runs(p_job_ids, v_fires, v_nexts, false, p_now);
    end if;
    v_planned_until := greatest(v_fires[cardinality(v_fires)], case when p_downtime then least(p_now, v_fire) end);
    update sisyphus.job_state s
       set watermark = greatest(s.watermark, v_planned_until, v_left_out_until),
           planned_until = greatest(s.planned_until, s.watermark, v_planned_until),
           next_due_at = case when v_fire >= j.ends_at then 'infinity' else v_fire end
      from sisyphus.job j
     where s.job_id = any(p_job_ids) and j.job_id = s.job_id;
end
$$;
comment on function sisyphus._plan_jobs(bigint[], timestamptz, boolean, timestamptz) is
    'Plans jobs that share schedule, zone, anchor, calendars and next occurrence up to plan_ahead from now';

-- Distinct schedules are advanced once, however many jobs share them. One bad job (a vanished time zone) fails the
-- pass, which is then repeated job by job: the bad one is marked broken, the others are planned.
-- What was missed in a downtime is settled job by job, by as many ticks as it takes.
create or replace function sisyphus._plan(p_downtime_until timestamptz, p_now timestamptz, p_limit integer default 1000)
returns integer
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_group record;
    v_job_id bigint;
    v_count integer := 0;
begin
    for v_group in
        select s.next_due_at, array_agg(j.job_id order by j.job_id) as job_ids, s.is_missed
               -- What a promoter holds is planned by the next tick.
          from (select l.*, coalesce(l.next_due_at <= p_downtime_until, false) as is_missed from sisyphus.job_state l
                 where l.next_due_at <= p_now + (sisyphus._setting()).plan_ahead
                   for no key update skip locked) s
          join sisyphus.job j on j.job_id = s.job_id
         where s.broken is null and s.suspended_since is null and s.version = j.version
           and j.compiled is not null and j.deleted_at is null
         group by j.compiled, j.timezone, j.except_on, j.only_on, case when j.schedule ilike '%every%' then j.anchor_at end,
                  case when s.is_missed then j.job_id end, s.next_due_at, s.is_missed
         order by s.next_due_at
         limit p_limit
    loop
        -- Which takes several times as long.
        v_count := v_count + case when v_group.is_missed then 4 else 1 end;
        begin
            perform sisyphus._plan_jobs(v_group.job_ids, v_group.next_due_at, v_group.is_missed, p_now);
        exception when others then
            foreach v_job_id in array v_group.job_ids loop
                perform sisyphus._plan_or_break(v_job_id, v_group.next_due_at, v_group.is_missed, p_now);
            end loop;
        end;
        exit when v_count >= p_limit;
    end loop;
    return v_count;
end
$$;
comment on function sisyphus._plan(timestamptz, timestamptz, integer) is
    'Turns occurrences that are near into waiting runs, and settles what was missed by p_downtime_until; returns p_limit when there is more to do';

-- What a suspension leaves out is counted as the job is: nothing of a broken one can be.
create or replace function sisyphus._break_job(p_job sisyphus.job, p_why text)
returns void
language sql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
    update sisyphus.job_state s
       set version = p_job.version, broken = p_why, suspended_since = null, next_due_at = 'infinity'
     where s.job_id = p_job.job_id;
$$;
comment on function sisyphus._break_job(sisyphus.job, text) is 'Marks a job broken in its present version; define it again to mend it';

create or replace function sisyphus._plan_or_break(
    p_job_id bigint, p_next_due_at timestamptz, p_downtime boolean, p_now timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_state text;
    v_message text;
begin
    perform sisyphus._plan_jobs(array[p_job_id], p_next_due_at, p_downtime, p_now);
exception
    -- A lock that could not be had, a deadlock, a cancelled statement or a full disk says nothing about the job.
    when transaction_rollback or insufficient_resources or object_not_in_prerequisite_state or operator_intervention
         or system_error then
        raise;
    when others then
        get stacked diagnostics v_state = returned_sqlstate, v_message = message_text;
        update sisyphus.job_state s
           set broken = format('%s (%s)', v_message, v_state), next_due_at = 'infinity'
         where s.job_id = p_job_id;
end
$$;
comment on function sisyphus._plan_or_break(bigint, timestamptz, boolean, timestamptz) is
    'Plans one job, or marks it broken with the reason; define it again to mend it';

-- The clock of the server went back: a watermark in the future would silence its job until then.
create or replace function sisyphus._set_back(p_now timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_job sisyphus.job;
begin
    for v_job in
        select j.*
          from sisyphus.job_state s
          join sisyphus.job j on j.job_id = s.job_id
         where s.watermark > p_now + (sisyphus._setting()).plan_ahead
         order by s.job_id
           for no key update of s
    loop
        begin
            perform sisyphus._trim_left_out(v_job, p_now)
              where v_job.except_on is not null or v_job.only_on is not null;
            update sisyphus.job_state s
               set next_due_at = sisyphus._next_due_at(v_job, p_now)
             where s.job_id = v_job.job_id and s.broken is null and s.suspended_since is null;
        exception when data_exception then
            perform sisyphus._break_job(v_job, sqlerrm);
        end;
    end loop;
    update sisyphus.job_state s
       set planned_until = greatest(s.planned_until, s.watermark), watermark = p_now
     where s.watermark > p_now + (sisyphus._setting()).plan_ahead;
    update sisyphus.run r
       set wake_at = p_now
     where r.state = 'waiting' and r.wake_at < 'infinity' and r.wake_at > p_now;
end
$$;
comment on function sisyphus._set_back(timestamptz) is 'Moves watermarks that lie in the future back to now; occurrences planned already are not planned again';
