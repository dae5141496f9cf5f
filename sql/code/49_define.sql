-- How committed definitions reach what is planned already.

-- locks: run, by SKIP LOCKED. Unstarted runs of changed jobs: re-planned under the same run_id when their occurrence
-- still exists, else withdrawn; claimed ones are recalled. What a suspension withdraws and is not yet due is set aside,
-- so that a resume before that brings it back, and ends skipped when it is.
create or replace function sisyphus._fit_runs(p_job_ids bigint[], p_now timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_one record;
    v_end text;
    v_why text;
    v_suspended boolean;
    v_is_current boolean;
    v_over sisyphus.request;
begin
    for v_one in
        select r, r.run_id, r.state, r.due_at, r.requested_at, r.job_version, r.withdrawn, j
          from sisyphus.run r
          join sisyphus.job j on j.job_id = r.job_id
         where r.job_id = any(p_job_ids) and r.state <> 'running'
         order by r.run_id
    loop
        v_end := null;
        v_why := null;
        v_suspended := (v_one.j).suspended_at is not null and coalesce((v_one.j).suspended_until > p_now, true);
        -- Due in a suspension that has ended, which no tick has applied yet.
        select q.* into v_over from sisyphus.request q
         where q.guardian_id is null and q.action = 'define' and q.job_id = (v_one.j).job_id and q.suspended_until <= p_now
           and q.suspended_until >= v_one.due_at and coalesce(v_one.requested_at < q.suspended_until, true)
         order by q.request_id desc limit 1;
        if v_one.state <> 'claimed' and v_over.request_id is not null then
            v_end := 'skipped';
            v_why := sisyphus._suspended_text(v_over.reason);
        elsif (v_one.j).deleted_at is not null
              -- Of the job that had the name before: by its version too, for a clock can have been wrong.
              or coalesce(v_one.requested_at, v_one.due_at) < (v_one.j).created_at
                 and exists (select from sisyphus.job_definition d
                              where d.job_id = (v_one.j).job_id and d.version > v_one.job_version
                                and d.changed_at = (v_one.j).created_at) then
            v_end := 'cancelled';
            v_why := 'the job was unscheduled';
        elsif v_suspended then
            v_end := 'skipped';
            v_why := 'the job is suspended' || coalesce(': ' || (v_one.j).suspend_reason, '');
        else
            v_is_current := v_one.job_version = (v_one.j).version and (v_one.state = 'claimed' or v_one.withdrawn is null);
            select m.state, m.reason into v_end, v_why from sisyphus._misfit(v_one.j, v_one.r, v_is_current) m;
            continue when v_is_current and v_end is null;
        end if;
        if v_one.state = 'claimed' and v_one.withdrawn is null then
            -- A suspension may be over when it comes back: then it is looked at anew.
            perform sisyphus._ask_holder(
                v_one.run_id, case when v_suspended and v_end = 'skipped' then 'recall' else coalesce(v_end, 'recall') end,
                coalesce(v_why, format('version %s of the job', (v_one.j).version)), p_now);
        elsif v_one.state = 'claimed' then
            continue;
        elsif v_suspended and v_end = 'skipped' and v_one.due_at > p_now then
            update sisyphus.run r
               set state = 'waiting', ready_no = null, wake_at = r.due_at, withdrawn = 'skipped', reason = v_why
              from (select l.run_id from sisyphus.run l
                     where l.run_id = v_one.run_id and l.state in ('waiting', 'pending') for no key update skip locked) l
             where r.run_id = l.run_id;
        elsif v_end is not null then
            perform sisyphus._end_unstarted(array[v_one.run_id], v_end, array[v_why], p_now);
        else
            perform sisyphus._replan_run(v_one.run_id, v_one.j, p_now);
        end if;
    end loop;
end
$$;
comment on function sisyphus._fit_runs(bigint[], timestamptz) is
    'Fits unstarted runs to the current definition of their jobs: re-planned, set aside, withdrawn or recalled';

create or replace function sisyphus._replan_run(p_run_id bigint, p_job sisyphus.job, p_now timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_run sisyphus.run;
    v_due_at timestamptz;
begin
    select r.* into v_run from sisyphus.run r
     where r.run_id = p_run_id and r.state in ('waiting', 'pending')
       for no key update skip locked;
    if not found then
        return;
    end if;
    v_due_at := v_run.due_at;
    if v_run.origin = 'schedule' and v_run.attempt = 0 then
        v_due_at := sisyphus._jittered(p_job.job_id, v_run.nominal_at, p_job.jitter);
        v_run.expires_at := sisyphus._expires_at(p_job, v_due_at, sisyphus._next_occurrence(p_job, v_run.nominal_at));
    end if;
    update sisyphus.run r
       set job_version = p_job.version, due_at = v_due_at, expires_at = v_run.expires_at, priority = p_job.priority,
           exclusive = p_job.overlap <> 'allow', state = 'waiting', ready_no = null,
           -- A retry keeps its delay, and what waits its turn waits on.
           wake_at = coalesce(case when r.withdrawn is null and (r.origin <> 'schedule' or r.attempt > 0) then r.wake_at end,
                              greatest(p_now, v_due_at - (sisyphus._setting()).claim_ahead)),
           withdrawn = null, reason = null,
           -- A run for one host stays there; one for the pool follows the job.
           lane_id = case when exists (select from sisyphus.pool p where p.pool_id = r.lane_id) then p_job.pool_id
                          else r.lane_id end
     where r.run_id = p_run_id;
end
$$;
comment on function sisyphus._replan_run(bigint, sisyphus.job, timestamptz) is
    'Gives an unstarted run the current definition of its job, under the same run_id';

-- The last of its requests ends a suspension: p_request, or one that waits behind it.
create or replace function sisyphus._suspension_end(p_job sisyphus.job, p_request sisyphus.request, p_suspended boolean, p_now timestamptz)
returns timestamptz
language sql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select case
        -- It has been prolonged since.
        when p_suspended and p_request.suspended_at = p_job.suspended_at then null
        when p_request.suspended_until <= p_now then p_request.suspended_until
        when p_suspended or p_request.suspended_at is not null
             or exists (select from sisyphus.request q
                         where q.guardian_id is null and q.action = 'define' and q.job_id = p_job.job_id
                           and q.request_id > p_request.request_id and q.suspended_until <= p_now) then null
        else least(p_request.requested_at, case when p_job.suspended_at is not null then p_job.suspended_until end) end
$$;
comment on function sisyphus._suspension_end(sisyphus.job, sisyphus.request, boolean, timestamptz) is
    'When the suspension of a job has ended that a request tells of; null: it goes on, or another request ends it';

-- A job as a request left it: of several that one tick applies, each but the last meets a definition of its own. Of a job
-- that was unscheduled and scheduled anew since, deleted_at is set.
create or replace function sisyphus._job_after(p_job sisyphus.job, p_request sisyphus.request)
returns sisyphus.job
language plpgsql
stable
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_then sisyphus.job_definition;
begin
    -- Mostly; and to look for others at each of thousands of requests would read all of them each time.
    if p_job.changed_at <= p_request.requested_at or not exists (
        select from sisyphus.request q where q.guardian_id is null and q.action in ('define', 'replan')
            and q.job_id = p_job.job_id and q.request_id > p_request.request_id) then
        return p_job;
    end if;
    select d.* into v_then from sisyphus.job_definition d
     where d.job_id = p_job.job_id and d.changed_at <= p_request.requested_at
     order by d.version desc limit 1;
    if not found then
        return p_job;
    end if;
    p_job := sisyphus._job_as_of(p_job, v_then.version);
    -- A job that was only mended has no version of that call either.
    if p_request.replan_from > v_then.changed_at and p_job.created_at > p_request.requested_at then
        p_job.deleted_at := p_request.replan_from;
    end if;
    return p_job;
end
$$;
comment on function sisyphus._job_after(sisyphus.job, sisyphus.request) is
    'A job with the version and the schedule that it had after a request';

create or replace function sisyphus._apply_definition(p_job sisyphus.job, p_request sisyphus.request, p_now timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_state sisyphus.job_state;
    v_until timestamptz;
    -- At the time of the call: when a suspension ends by itself is looked at after all changes that came before that.
    v_suspended constant boolean := p_job.deleted_at is null and sisyphus._is_suspended(p_job, least(p_request.requested_at, p_now));
    v_end constant timestamptz := sisyphus._suspension_end(p_job, p_request, v_suspended, p_now);
    v_requested_at constant timestamptz := p_request.requested_at;
    -- From here on the job is another one; of the job as it was nothing beyond is planned.
    v_replan_from timestamptz := p_request.replan_from;
    v_then sisyphus.job := sisyphus._job_after(p_job, p_request);
    v_ends boolean;
begin
    p_job.suspend_reason := coalesce(p_job.suspend_reason, p_request.reason);
    select s.* into v_state from sisyphus.job_state s where s.job_id = p_job.job_id;
    if v_state.version > v_then.version then
        -- A caller who waited for another has the older time: versions only grow.
        v_then := sisyphus._job_as_of(p_job, v_state.version);
    end if;
    if v_state.broken is not null then
        perform sisyphus._skip_unplanned(p_job, v_state, v_requested_at, 'the job was broken: ' || v_state.broken, p_now);
        v_state.watermark := greatest(v_state.watermark, v_requested_at);
    end if;
    if p_request.action = 'replan' or v_replan_from is not null and v_state.version = v_then.version and v_then.deleted_at is null then
        -- A refreshed calendar, or a mend of what another has mended, moves the watermark back, never ahead: what is not
        -- decided yet is decided now.
        v_replan_from := least(v_requested_at, v_state.watermark);
    end if;
    v_ends := v_end is not null and (v_state.suspended_since is not null or p_request.suspended_at is not null);
    if v_ends or v_state.suspended_since is not null then
        -- Of several changes since the last tick the first one ends what the schedule of that time left out.
        v_until := least(v_end, (select min(q.replan_from) from sisyphus.request q
                                  where q.guardian_id is null and q.action = 'define' and q.job_id = p_job.job_id));
        perform sisyphus._skip_unplanned(p_job, v_state, v_until, sisyphus._suspended_text(p_job.suspend_reason), p_now);
        v_state.watermark := greatest(v_state.watermark, v_until, v_end);
    end if;
    if (v_state.suspended_since is null or v_end is not null) and v_state.next_due_at <= v_replan_from then
        perform sisyphus._withdraw_unplanned(p_job, v_state, v_replan_from,
            case when v_then.deleted_at is null then format('withdrawn by version %s of the job', v_then.version)
                 else 'the job was unscheduled' end, p_now);
    end if;
    if v_state.watermark > v_replan_from + (sisyphus._setting()).plan_ahead then
        perform sisyphus._trim_left_out(p_job, v_replan_from);
    end if;
    v_state.watermark := coalesce(v_replan_from, v_state.watermark);
    update sisyphus.job_state s
       set version = v_then.version, watermark = v_state.watermark, broken = null,
           suspended_since = case when v_end is null then coalesce(v_state.suspended_since, case when v_suspended then p_job.suspended_at end)
                                  when v_suspended then p_job.suspended_at end,
           -- A suspension that ends by itself is looked at when it does.
           next_due_at = case when v_suspended then coalesce(p_job.suspended_until, 'infinity')
                              else sisyphus._next_due_at(v_then, v_state.watermark) end
     where s.job_id = p_job.job_id;
    if v_ends then
        perform sisyphus._skip_suspended(p_job, v_end, p_now);
    end if;
    perform sisyphus._fit_runs(array[p_job.job_id], p_now);
end
$$;
comment on function sisyphus._apply_definition(sisyphus.job, sisyphus.request, timestamptz) is
    'Brings planner state and unstarted runs of a job in line with its committed definition';

create or replace function sisyphus._apply_definitions(p_now timestamptz, p_limit integer default 1000)
returns integer
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_request record;
    v_count integer := 0;
    v_job_ids constant bigint[] := sisyphus._lock_states(array(
        select q.job_id from sisyphus.request q
         where q.guardian_id is null and q.action in ('define', 'replan')
         order by q.request_id
         limit p_limit), false, p_now);
begin
    for v_request in
        select q, j
          from sisyphus.request q
          join sisyphus.job j on j.job_id = q.job_id
         where q.guardian_id is null and q.action in ('define', 'replan') and q.job_id = any(v_job_ids)
         order by q.request_id
         limit p_limit
           for update of q skip locked
    loop
        v_count := v_count + 1;
        -- One bad definition (a time zone or a calendar that has vanished since) must not stop the others.
        begin
            perform sisyphus._apply_definition(v_request.j, v_request.q, p_now);
        exception when data_exception or undefined_object then
            perform sisyphus._break_job(v_request.j, sqlerrm);
        end;
        delete from sisyphus.request q where q.request_id = (v_request.q).request_id;
    end loop;
    -- Suspensions that have ended by themselves.
    for v_request in
        select s, j
          from sisyphus.job_state s
          join sisyphus.job j on j.job_id = s.job_id
         where s.suspended_since is not null and s.next_due_at <= p_now and j.suspended_until <= p_now
         limit p_limit
           for no key update of s skip locked
    loop
        v_count := v_count + 1;
        begin
            perform sisyphus._skip_unplanned(v_request.j, v_request.s, (v_request.j).suspended_until,
                                             sisyphus._suspended_text((v_request.j).suspend_reason), p_now);
            update sisyphus.job_state s
               set suspended_since = null, watermark = greatest(s.watermark, (v_request.j).suspended_until),
                   next_due_at = sisyphus._next_due_at(v_request.j, greatest(s.watermark, (v_request.j).suspended_until))
             where s.job_id = (v_request.j).job_id;
        exception when data_exception or undefined_object then
            perform sisyphus._break_job(v_request.j, sqlerrm);
        end;
        perform sisyphus._skip_suspended(v_request.j, (v_request.j).suspended_until, p_now);
        perform sisyphus._fit_runs(array[(v_request.j).job_id], p_now);
        -- Its next occurrence may be due before a heartbeat has passed.
        if (v_request.j).run_on = 'any' then
            perform sisyphus._wake_lane((v_request.j).pool_id, p_now);
        else
            perform sisyphus._wake_host(h.host_id) from sisyphus.host h where (v_request.j).pool_id = any(h.lanes);
        end if;
    end loop;
    return v_count;
end
$$;
comment on function sisyphus._apply_definitions(timestamptz, integer) is
    'Applies committed definitions, and suspensions that have ended; returns how many';
