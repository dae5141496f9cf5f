-- What calendars leave out is recorded like what runs: when the first of it would be planned. One row stands for what
-- one reason leaves out of one job on one day, so a job that fires each second does not flood the history.

create or replace function sisyphus._record_left_out(
    p_job sisyphus.job, p_since timestamptz, p_until timestamptz, p_now timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_row record;
begin
    if p_job.except_on is null and p_job.only_on is null then
        return;
    end if;
    for v_row in
        select s.left_out, min(s.since) as first_since, max(s.since) as last_since, max(s.until) as last_until,
               sum(sisyphus._count_fires(p_job.compiled, p_job.timezone, s.since, s.until, p_job.anchor_at))::bigint as fires
          from sisyphus._stretches(p_job, p_since, p_until) s
         where s.left_out is not null
         group by s.left_out
         order by 2
    loop
        perform sisyphus._record_occurrences(
            p_job, 'skipped', v_row.left_out, v_row.first_since + interval '1 us',
            (select f from sisyphus._last_fires(p_job.compiled, p_job.timezone, v_row.last_since, v_row.last_until,
                                                p_job.anchor_at, 1) f),
            v_row.fires, p_now);
    end loop;
end
$$;
comment on function sisyphus._record_left_out(sisyphus.job, timestamptz, timestamptz, timestamptz) is
    'A skipped row for each reason for which calendars leave out occurrences after p_since and up to p_until';

-- The history is looked at from the moment on that it may have been planned.
create or replace function sisyphus._is_told(p_job sisyphus.job, p_fire timestamptz)
returns boolean
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (select from sisyphus.run r
                    where r.job_id = p_job.job_id and r.nominal_at = p_fire and r.origin = 'schedule')
        or exists (select from sisyphus.attempt a
                    where a.job = p_job.name and a.nominal_at = p_fire and a.origin = 'schedule' and a.state <> 'cancelled'
                      and a.recorded_at >= p_fire - (sisyphus._setting()).plan_ahead - interval '1 min');
end
$$;
comment on function sisyphus._is_told(sisyphus.job, timestamptz) is 'Whether an occurrence of a job has a run or a row of the history, other than of having been withdrawn';

-- An occurrence of which a run was planned before a calendar was refreshed or taken has its own row, or will have.
create or replace function sisyphus._first_unplanned(p_job sisyphus.job, p_fire timestamptz)
returns timestamptz
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_planned_until constant timestamptz := (select s.planned_until from sisyphus.job_state s where s.job_id = p_job.job_id);
    v_fire timestamptz := p_fire;
begin
    while v_fire <= v_planned_until and sisyphus._is_told(p_job, v_fire) loop
        v_fire := sisyphus._next_fire(p_job.compiled, p_job.timezone, v_fire, p_job.anchor_at);
    end loop;
    return coalesce(v_fire, 'infinity');
end
$$;
comment on function sisyphus._first_unplanned(sisyphus.job, timestamptz) is
    'The first fire of a job from an occurrence on of which there is neither a run nor a row of the history';

create or replace function sisyphus._leave_out(p_job_ids bigint[], p_job sisyphus.job, p_fire timestamptz, p_now timestamptz)
returns timestamptz
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    c_instant constant interval := interval '1 us';
    v_stretch record;
    v_until timestamptz;
    v_job sisyphus.job;
begin
    select s.until, s.left_out into v_stretch from sisyphus._stretch(p_job, p_fire) s;
    if v_stretch.left_out is null then
        return null;
    end if;
    v_until := least(v_stretch.until, sisyphus._clock_reaches(
        p_job.timezone, p_fire, date_trunc('day', timezone(p_job.timezone, p_fire)) + interval '1 day')) - c_instant;
    for v_job in select j.* from sisyphus.job j where j.job_id = any(p_job_ids) order by j.job_id loop
        perform sisyphus._record_left_out(
            v_job, sisyphus._first_unplanned(v_job, greatest(p_fire, v_job.starts_at)) - c_instant,
            least(v_until, v_job.ends_at - c_instant), p_now);
    end loop;
    return v_until;
end
$$;
comment on function sisyphus._leave_out(bigint[], sisyphus.job, timestamptz, timestamptz) is
    'Records what calendars leave out of jobs from an occurrence to the end of its day, and returns up to when; null: they keep it';

-- The day's row was written when its first occurrence was due. Where a new definition or a refreshed calendar takes
-- effect before the last one, the row is cut back to what it had come to, counted by the schedule of that time.
create or replace function sisyphus._trim_left_out(p_job sisyphus.job, p_from timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_row record;
    v_compiled bigint[];
    v_first timestamptz;
begin
    for v_row in
        select a.run_id, a.recorded_at, a.retention_days, a.due_at, d.definition ->> 'schedule' as schedule,
               d.definition ->> 'timezone' as timezone, d.anchor_at
          from sisyphus.attempt a
          join sisyphus.job_definition d on d.job_id = a.job_id and d.version = a.job_version
         where a.job = p_job.name and a.job_id = p_job.job_id and a.recorded_at > p_from - interval '2 days'
           and a.state = 'skipped' and a.attempt = 0 and a.last_due_at > p_from
    loop
        begin
            v_compiled := sisyphus._compile_schedule(v_row.schedule, v_row.timezone);
            v_first := v_row.due_at - interval '1 us';
            delete from sisyphus.attempt a
             where a.run_id = v_row.run_id and a.recorded_at = v_row.recorded_at and a.retention_days = v_row.retention_days
               and a.due_at > p_from;
            update sisyphus.attempt a
               set occurrences = sisyphus._count_fires(v_compiled, v_row.timezone, v_first, p_from, v_row.anchor_at),
                   last_due_at = (select f from sisyphus._last_fires(v_compiled, v_row.timezone, v_first, p_from, v_row.anchor_at, 1) f)
             where a.run_id = v_row.run_id and a.recorded_at = v_row.recorded_at and a.retention_days = v_row.retention_days;
        exception when data_exception then
            -- Its time zone has gone: nobody can tell what it had come to.
            null;
        end;
    end loop;
end
$$;
comment on function sisyphus._trim_left_out(sisyphus.job, timestamptz) is
    'Takes back what was recorded as left out of a job after an instant that has turned out otherwise';

-- Claims ask this too: a job whose time zone or calendar has vanished must not stop them.
create or replace function sisyphus._misfit(
    p_job sisyphus.job, p_run sisyphus.run, p_is_current boolean, out state text, out reason text)
language plpgsql
stable
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    state := 'cancelled';
    if not p_is_current then
        select format('host "%s" is not in pool "%s"', h.name, (select p.name from sisyphus.pool p where p.pool_id = p_job.pool_id))
          into reason
          from sisyphus.host h where h.host_id = p_run.lane_id and p_job.pool_id <> all (sisyphus._lanes_of(h));
    end if;
    -- A retry, or what was asked for by hand, stands for no occurrence that could have gone.
    if reason is null and p_run.origin = 'schedule' and p_run.attempt = (p_run.state = 'claimed')::integer then
        if p_job.except_on is not null or p_job.only_on is not null then
            reason := (sisyphus._stretch(p_job, p_run.nominal_at)).left_out;
        end if;
        if reason is not null then
            state := 'skipped';
        elsif not p_is_current and ((p_run.target = 0) <> (p_job.run_on = 'any')
                  or sisyphus._next_occurrence(p_job, p_run.nominal_at - interval '1 us') <> p_run.nominal_at) then
            reason := format('withdrawn by version %s of the job', p_job.version);
        end if;
    end if;
    if reason is null then
        state := null;
    end if;
exception when data_exception or undefined_object then
    state := 'cancelled';
    reason := sqlerrm;
end
$$;
comment on function sisyphus._misfit(sisyphus.job, sisyphus.run, boolean) is
    'How an unstarted run ends whose job leaves its occurrence out, or no longer has it or its host; null: it stays';
