-- Occurrences that nobody planned: the job was suspended or broken, or a change came before they were due. They are told
-- by the schedule of that time; where nobody can read that any more (its time zone has gone), by a row without a count.

create or replace function sisyphus._job_as_of(p_job sisyphus.job, p_version integer)
returns sisyphus.job
language plpgsql
stable
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_then sisyphus.job_definition;
begin
    p_job.deleted_at := null;
    select d.* into v_then from sisyphus.job_definition d where d.job_id = p_job.job_id and d.version = p_version;
    if not found or p_version = p_job.version then
        return p_job;
    end if;
    p_job.version := p_version;
    p_job.anchor_at := v_then.anchor_at;
    p_job.starts_at := (v_then.definition ->> 'starts_at')::timestamptz;
    p_job.ends_at := (v_then.definition ->> 'ends_at')::timestamptz;
    p_job.except_on := v_then.definition ->> 'except_on';
    p_job.only_on := v_then.definition ->> 'only_on';
    if (v_then.definition ->> 'schedule', v_then.definition ->> 'timezone') is distinct from (p_job.schedule, p_job.timezone) then
        p_job.schedule := v_then.definition ->> 'schedule';
        p_job.timezone := v_then.definition ->> 'timezone';
        p_job.compiled := sisyphus._compile_schedule(p_job.schedule, p_job.timezone);
    end if;
    return p_job;
end
$$;
comment on function sisyphus._job_as_of(sisyphus.job, integer) is
    'A job with version, schedule and calendars of an earlier version; raises 22023 when its time zone has gone';

create or replace function sisyphus._was_due(p_job sisyphus.job, p_version integer, p_at timestamptz)
returns boolean
language plpgsql
stable
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    return sisyphus._next_due_at(sisyphus._job_as_of(p_job, p_version), p_at - interval '1 us') = p_at;
exception when data_exception then
    return null;
end
$$;
comment on function sisyphus._was_due(sisyphus.job, integer, timestamptz) is
    'Whether an instant is an occurrence of a job as it was, left out or not; null: its time zone has gone, nobody can tell';

create or replace function sisyphus._record_uncounted(
    p_job sisyphus.job, p_state sisyphus.job_state, p_end text, p_until timestamptz, p_reason text, p_now timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    p_job.version := p_state.version;
    perform sisyphus._record_occurrences(p_job, p_end, p_reason || '; how often it was due nobody can tell',
                                         p_state.watermark + interval '1 us', p_until, null, p_now);
end
$$;
comment on function sisyphus._record_uncounted(sisyphus.job, sisyphus.job_state, text, timestamptz, text, timestamptz) is
    'A row that stands for a stretch of time of which nobody can tell the occurrences';

create or replace function sisyphus._skip_unplanned(
    p_job sisyphus.job, p_state sisyphus.job_state, p_until timestamptz, p_reason text, p_now timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_job sisyphus.job;
    v_since timestamptz;
    v_until timestamptz;
    v_fire timestamptz;
begin
    if not coalesce(p_until > p_state.watermark, false) then
        return;
    end if;
    v_job := sisyphus._job_as_of(p_job, p_state.version);
    v_since := greatest(p_state.watermark, v_job.starts_at - interval '1 us');
    v_until := least(p_until, v_job.ends_at - interval '1 us');
    if v_job.compiled is null or v_until <= v_since then
        return;
    end if;
    -- The watermark was set back by a change: what had been planned before it has a row of its own.
    while v_since < p_state.planned_until loop
        v_fire := sisyphus._next_due_at(v_job, v_since);
        exit when v_fire > least(p_state.planned_until, v_until);
        if not sisyphus._is_told(v_job, v_fire) then
            perform sisyphus._record_occurrences(v_job, 'skipped', p_reason, v_fire, v_fire, 1, p_now);
        end if;
        v_since := v_fire;
    end loop;
    perform sisyphus._record_occurrences(
        v_job, 'skipped', p_reason, sisyphus._next_fire(v_job.compiled, v_job.timezone, v_since, v_job.anchor_at),
        (select max(f) from sisyphus._last_fires(v_job.compiled, v_job.timezone, v_since, v_until, v_job.anchor_at, 1) f),
        sisyphus._count_fires(v_job.compiled, v_job.timezone, v_since, v_until, v_job.anchor_at), p_now);
exception when data_exception then
    perform sisyphus._record_uncounted(p_job, p_state, 'skipped', p_until, p_reason, p_now);
end
$$;
comment on function sisyphus._skip_unplanned(sisyphus.job, sisyphus.job_state, timestamptz, text, timestamptz) is
    'One skipped row for the occurrences of a job as it was that a suspension, or that it was broken, has left out';

-- Nobody ticked between their due time and the change.
create or replace function sisyphus._withdraw_unplanned(
    p_job sisyphus.job, p_state sisyphus.job_state, p_until timestamptz, p_reason text, p_now timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_reason constant text := p_reason || ' before it was planned';
    v_job sisyphus.job;
    v_since timestamptz;
    v_until timestamptz;
begin
    v_job := sisyphus._job_as_of(p_job, p_state.version);
    v_since := greatest(p_state.watermark, p_state.planned_until, v_job.starts_at - interval '1 us');
    v_until := least(p_until, v_job.ends_at - interval '1 us');
    if v_since < v_until then
        perform sisyphus._record_left_out(v_job, v_since, v_until, p_now);
        perform sisyphus._record_occurrences(
            v_job, 'cancelled', v_reason, sisyphus._next_kept(v_job, v_since),
            (select max(f) from sisyphus._last_kept(v_job, v_since, v_until, 1) f),
            sisyphus._count_kept(v_job, v_since, v_until), p_now);
    end if;
exception when data_exception or undefined_object then
    perform sisyphus._record_uncounted(p_job, p_state, 'cancelled', p_until, v_reason, p_now);
end
$$;
comment on function sisyphus._withdraw_unplanned(sisyphus.job, sisyphus.job_state, timestamptz, text, timestamptz) is
    'One cancelled row for the occurrences of a job as it was that a change came before';
