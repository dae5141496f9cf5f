-- suspend() and resume() change the job's row and tell the planner; the claim looks at the row again.

create or replace function sisyphus.suspend(name text, until timestamptz default null, reason text default null)
returns boolean
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now constant timestamptz := sisyphus._clock();
    v_job sisyphus.job;
    v_was_suspended boolean;
begin
    if suspend.until <= v_now or not isfinite(suspend.until) then
        perform sisyphus._raise_argument(format('job "%s"', suspend.name), 'until', suspend.until::text,
            'Give an instant in the future, or leave it out: until resume().', null);
    end if;
    perform sisyphus._check_size(format('job "%s"', suspend.name), 'reason', array[suspend.reason], 1000);
    v_job := sisyphus._lock_job(suspend.name, true);
    v_was_suspended := sisyphus._is_suspended(v_job, v_now);
    update sisyphus.job j
       set suspended_at = case when v_was_suspended then j.suspended_at else v_now end,
           suspended_until = suspend.until,
           suspend_reason = suspend.reason
     where j.job_id = v_job.job_id;
    perform sisyphus._ask_planner(v_job.job_id, null, v_now, case when v_was_suspended then v_job.suspended_at else v_now end,
                                  suspend.until, suspend.reason);
    perform sisyphus._audit('suspend', v_job.name,
        jsonb_build_object('suspended', v_was_suspended, 'until', v_job.suspended_until, 'reason', v_job.suspend_reason),
        jsonb_build_object('suspended', true, 'until', suspend.until, 'reason', suspend.reason), v_now);
    return not v_was_suspended;
end
$$;
comment on function sisyphus.suspend(text, timestamptz, text) is
    'No run of the job starts any more, those running go on; false when it was suspended already (until and reason are replaced)';

create or replace function sisyphus.resume(name text)
returns boolean
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now constant timestamptz := sisyphus._clock();
    v_job sisyphus.job;
    v_was_suspended boolean;
begin
    v_job := sisyphus._lock_job(resume.name, true);
    v_was_suspended := sisyphus._is_suspended(v_job, v_now);
    if v_job.suspended_at is not null then
        update sisyphus.job j
           set suspended_at = null, suspended_until = null, suspend_reason = null
         where j.job_id = v_job.job_id;
        perform sisyphus._ask_planner(v_job.job_id, null, v_now, v_job.suspended_at, least(v_job.suspended_until, v_now),
                                      v_job.suspend_reason);
    end if;
    perform sisyphus._audit('resume', v_job.name,
        jsonb_build_object('suspended', v_was_suspended, 'until', v_job.suspended_until, 'reason', v_job.suspend_reason),
        jsonb_build_object('suspended', false), v_now);
    return v_was_suspended;
end
$$;
comment on function sisyphus.resume(text) is
    'Ends a suspension; what was due meanwhile is not caught up. false when the job was not suspended';

-- A job that an open transaction is changing is left out and named: an emergency stop must not wait for it.
-- locks: job, by SKIP LOCKED.
create or replace function sisyphus._suspend_jobs(p_pool text, p_suspend boolean, p_reason text, p_now timestamptz)
returns bigint
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_pool_id constant bigint := case when p_pool is not null then sisyphus._require_pool(p_pool) end;
    v_operator constant boolean := sisyphus._caller_is('sisyphus_operator') or sisyphus._caller_is('sisyphus_admin');
    v_wanted bigint[];
    v_changed bigint;
    v_busy text;
begin
    select array_agg(j.job_id) into v_wanted
      from sisyphus.job j
     where j.deleted_at is null and (v_pool_id is null or j.pool_id = v_pool_id)
       and (v_operator or sisyphus._caller_is(j.owner))
       and sisyphus._is_suspended(j, p_now) <> p_suspend;
    with free as materialized (
        select j.job_id, j.suspended_at, j.suspend_reason from sisyphus.job j
         where j.job_id = any(v_wanted) and j.deleted_at is null and sisyphus._is_suspended(j, p_now) <> p_suspend
         order by j.job_id
           for no key update skip locked),
    changed as (
        update sisyphus.job j
           set suspended_at = case when p_suspend then p_now end, suspended_until = null, suspend_reason = p_reason
          from free f
         where j.job_id = f.job_id
        returning j.job_id, case when p_suspend then p_now else f.suspended_at end as suspended_at,
                  case when p_suspend then p_reason else f.suspend_reason end as reason),
    asked as (
        insert into sisyphus.request (action, job_id, role_name, requested_at, suspended_at, suspended_until, reason)
        select 'define', c.job_id, sisyphus._caller(), p_now, c.suspended_at, case when not p_suspend then p_now end, c.reason
          from changed c
        returning request_id)
    select count(*) into v_changed from asked;
    perform sisyphus._wake_planner(p_now);
    select string_agg(j.name, ', ' order by j.name) into v_busy
      from sisyphus.job j
     where j.job_id = any(v_wanted) and j.deleted_at is null and sisyphus._is_suspended(j, p_now) <> p_suspend;
    if v_busy is not null then
        raise notice 'jobs left out, another transaction is changing them: %', v_busy
            using hint = 'Call it again when that transaction has ended.';
    end if;
    return v_changed;
end
$$;
comment on function sisyphus._suspend_jobs(text, boolean, text, timestamptz) is
    'Suspends or resumes every job of a pool, or all, that the caller may; returns how many have changed';

create or replace function sisyphus.suspend_all(pool text default null, reason text default null)
returns bigint
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now constant timestamptz := sisyphus._clock();
    v_count bigint;
begin
    perform sisyphus._check_size('suspend_all', 'reason', array[suspend_all.reason], 1000);
    v_count := sisyphus._suspend_jobs(suspend_all.pool, true, suspend_all.reason, v_now);
    perform sisyphus._audit('suspend_all', suspend_all.pool, null,
                            jsonb_build_object('jobs', v_count, 'reason', suspend_all.reason), v_now);
    return v_count;
end
$$;
comment on function sisyphus.suspend_all(text, text) is
    'Suspends every job of a pool, or all, that the caller may suspend; returns how many were not yet';

create or replace function sisyphus.resume_all(pool text default null)
returns bigint
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now constant timestamptz := sisyphus._clock();
    v_count bigint;
begin
    v_count := sisyphus._suspend_jobs(resume_all.pool, false, null, v_now);
    perform sisyphus._audit('resume_all', resume_all.pool, null, jsonb_build_object('jobs', v_count), v_now);
    return v_count;
end
$$;
comment on function sisyphus.resume_all(text) is
    'Resumes every suspended job of a pool, or all, that the caller may resume; returns how many';

grant execute on function sisyphus.suspend, sisyphus.resume, sisyphus.suspend_all, sisyphus.resume_all
    to sisyphus_author, sisyphus_operator, sisyphus_admin;
