-- Occurrences that nobody planned, because of a suspension or of a change that came before they were due.

-- What was left out before a change is told by the schedule of that time.
create or replace function sisyphus._job_as_of(p_job sisyphus.job, p_version integer)
returns sisyphus.job
language plpgsql
stable
parallel safe
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
    p_job.starts_at := (v_then.definition ->> 'starts_at')::timestamptz;
    p_job.ends_at := (v_then.definition ->> 'ends_at')::timestamptz;
    if (v_then.definition ->> 'schedule', v_then.definition ->> 'timezone') is distinct from (p_job.schedule, p_job.timezone) then
        p_job.schedule := v_then.definition ->> 'schedule';
        p_job.timezone := v_then.definition ->> 'timezone';
        p_job.compiled := sisyphus._compile_schedule(p_job.schedule, p_job.timezone);
        p_job.anchor_at := coalesce(p_job.starts_at, v_then.changed_at);
    end if;
    return p_job;
end
$$;
comment on function sisyphus._job_as_of(sisyphus.job, integer) is 'A job with the schedule of an earlier version';

create or replace function sisyphus._end_suspension(
    p_job sisyphus.job, p_state sisyphus.job_state, p_until timestamptz, p_now timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_reason constant text := 'the job was suspended' || coalesce(': ' || p_job.suspend_reason, '');
    v_since timestamptz := greatest(p_state.watermark, p_job.starts_at - interval '1 us');
    v_until constant timestamptz := least(p_until, p_job.ends_at - interval '1 us');
    v_fire timestamptz;
begin
    if p_job.compiled is null or p_until is null or v_until <= v_since then
        return;
    end if;
    -- The watermark was set back by a change: what had been planned before it has a row of its own.
    while v_since < p_state.planned_until loop
        v_fire := sisyphus._next_due_at(p_job, v_since);
        exit when v_fire > least(p_state.planned_until, v_until);
        if not sisyphus._is_told(p_job, v_fire) then
            perform sisyphus._record_occurrences(p_job, 'skipped', v_reason, v_fire, v_fire, 1, p_now);
        end if;
        v_since := v_fire;
    end loop;
    perform sisyphus._record_occurrences(
        p_job, 'skipped', v_reason, sisyphus._next_fire(p_job.compiled, p_job.timezone, v_since, p_job.anchor_at),
        (select max(f) from sisyphus._last_fires(p_job.compiled, p_job.timezone, v_since, v_until, p_job.anchor_at, 1) f),
        sisyphus._count_fires(p_job.compiled, p_job.timezone, v_since, v_until, p_job.anchor_at), p_now);
end
$$;
comment on function sisyphus._end_suspension(sisyphus.job, sisyphus.job_state, timestamptz, timestamptz) is
    'One skipped row for the occurrences of a suspension that has ended';

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
    v_since constant timestamptz := greatest(p_state.watermark, p_state.planned_until, p_job.starts_at - interval '1 us');
    v_until constant timestamptz := least(p_until, p_job.ends_at - interval '1 us');
begin
    if v_since < v_until then
        perform sisyphus._record_left_out(p_job, v_since, v_until, p_now);
        perform sisyphus._record_occurrences(
            p_job, 'cancelled', p_reason || ' before it was planned', sisyphus._next_kept(p_job, v_since),
            (select max(f) from sisyphus._last_kept(p_job, v_since, v_until, 1) f),
            sisyphus._count_kept(p_job, v_since, v_until), p_now);
    end if;
end
$$;
comment on function sisyphus._withdraw_unplanned(sisyphus.job, sisyphus.job_state, timestamptz, text, timestamptz) is
    'One cancelled row for the occurrences of a job as it was that a change came before';
