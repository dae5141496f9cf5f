-- What is asked of a run that exists. Nothing here touches its row: a request is inserted, and whoever ticks or claims
-- next applies it after commit.

create or replace function sisyphus._require_run(p_run_id bigint)
returns table (job_id bigint, job text, owner name, state text, is_live boolean, host_id bigint, host text)
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
        select r.job_id, j.name, coalesce(j.owner, (r.spec ->> 'owner')::name), r.state, true, r.host_id, h.name
          from sisyphus.run r
          left join sisyphus.job j on j.job_id = r.job_id
          left join sisyphus.host h on h.host_id = coalesce(r.host_id, nullif(r.target, 0))
         where r.run_id = p_run_id;
    if not found then
        return query
            select a.job_id, a.job, a.owner, a.state, false, null::bigint, a.host
              from sisyphus.attempt a
             where a.run_id = p_run_id
             order by a.attempt desc, a.claim_no desc nulls last
             limit 1;
    end if;
    if not found then
        raise exception 'run % does not exist', p_run_id
            using errcode = '42704', hint = 'Views sisyphus.live and sisyphus.history list runs.';
    end if;
end
$$;
comment on function sisyphus._require_run(bigint) is 'A run, live or ended, with its owner; raises 42704';

create or replace function sisyphus._ask_run(p_action text, p_run_id bigint, p_reason text, p_now timestamptz)
returns boolean
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_run record;
    v_is_possible boolean;
begin
    select r.* into v_run from sisyphus._require_run(p_run_id) r;
    perform sisyphus._check_access('run ' || p_run_id, v_run.owner, true);
    perform sisyphus._check_size('run ' || p_run_id, 'reason', array[p_reason], 1000);
    v_is_possible := v_run.is_live and case p_action
        when 'terminate' then true
        when 'cancel' then v_run.state <> 'running'
        else v_run.state = 'running' end;
    if v_is_possible then
        insert into sisyphus.request (action, run_id, role_name, requested_at, reason)
        values (p_action, p_run_id, sisyphus._caller(), p_now,
                format('%s by %s', case p_action when 'terminate' then 'terminated' when 'cancel' then 'cancelled' else p_action || 'd' end,
                       sisyphus._caller())
                || coalesce(': ' || p_reason, ''));
        -- Any claim applies requests: the holder's own brings it to the process at once.
        if v_run.host_id is not null then
            perform sisyphus._wake_host(v_run.host_id);
        else
            perform sisyphus._wake_planner(p_now);
        end if;
    end if;
    perform sisyphus._audit(p_action, p_run_id::text, jsonb_build_object('state', v_run.state),
        case when v_is_possible then jsonb_strip_nulls(jsonb_build_object('reason', p_reason))
             else jsonb_build_object('changed', false, 'why', case
                 when not v_run.is_live then 'the run had ended'
                 when p_action = 'cancel' then 'the run had started'
                 else 'the run had not started' end) end, p_now);
    return v_is_possible;
end
$$;
comment on function sisyphus._ask_run(text, bigint, text, timestamptz) is
    'Inserts a request for a live run; false, and noted in the audit log, when there is nothing to ask of it';

create or replace function sisyphus.terminate(run_id bigint, reason text default null)
returns boolean
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return sisyphus._ask_run('terminate', terminate.run_id, terminate.reason, sisyphus._clock());
end
$$;
comment on function sisyphus.terminate(bigint, text) is
    'Ends a run: TERM, grace, KILL to all of it; one that has not started is cancelled. false: it had ended before';

create or replace function sisyphus.cancel(run_id bigint)
returns boolean
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return sisyphus._ask_run('cancel', cancel.run_id, null, sisyphus._clock());
end
$$;
comment on function sisyphus.cancel(bigint) is 'Withdraws a run that has not started; false: it had started or ended, nothing changes';

create or replace function sisyphus.pause(run_id bigint)
returns boolean
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return sisyphus._ask_run('pause', pause.run_id, null, sisyphus._clock());
end
$$;
comment on function sisyphus.pause(bigint) is
    'Stops the processes of a running run; its max_runtime stands still, its lease does not; false: it is not running';

create or replace function sisyphus.unpause(run_id bigint)
returns boolean
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return sisyphus._ask_run('unpause', unpause.run_id, null, sisyphus._clock());
end
$$;
comment on function sisyphus.unpause(bigint) is 'Lets the processes of a paused run go on; false: it is not running';

-- The payload may be private: who runs it again must have had a right to the old run as well as to the job.
create or replace function sisyphus.rerun(run_id bigint)
returns bigint
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now constant timestamptz := sisyphus._clock();
    v_old record;
    v_attempt sisyphus.attempt;
    v_job sisyphus.job;
    v_run sisyphus.run;
begin
    select r.* into v_old from sisyphus._require_run(rerun.run_id) r;
    perform sisyphus._check_access('run ' || rerun.run_id, v_old.owner, true);
    if v_old.is_live then
        raise exception 'run % has not ended', rerun.run_id
            using errcode = '55000', detail = format('It is %s.', v_old.state),
                  hint = format('Wait for it, or end it first: select sisyphus.terminate(%s).', rerun.run_id);
    elsif v_old.job_id = 0 then
        raise exception 'run % was submitted without a job', rerun.run_id
            using errcode = '0A000', hint = 'Call submit() with its command again.';
    end if;
    select j.* into v_job from sisyphus.job j where j.job_id = v_old.job_id;
    v_job := sisyphus._require_active(v_job.name, v_now);
    select a.* into v_attempt from sisyphus.attempt a where a.run_id = rerun.run_id order by a.attempt desc limit 1;
    if v_job.run_on = 'all' and v_old.host is null then
        raise exception 'run % names no host, and job "%" runs on all', rerun.run_id, v_job.name
            using errcode = '55000', hint = format('Call run_now(%L), with host => ... for one of them.', v_job.name);
    end if;
    v_run := sisyphus._requested_run(v_job, 'rerun', null, v_now);
    select t.target, t.lane_id into v_run.target, v_run.lane_id
      from sisyphus._run_targets(v_job.pool_id, v_job.run_on, case v_job.run_on when 'all' then v_old.host end) t;
    -- It stands for the same occurrence; its lateness counts from now.
    v_run.due_at := v_attempt.due_at;
    v_run.payload := v_attempt.payload;
    v_run.run_id := sisyphus._insert_run(v_run);
    perform sisyphus._wake_lane(v_run.lane_id, v_now);
    perform sisyphus._audit('rerun', rerun.run_id::text, null, jsonb_build_object('run_id', v_run.run_id), v_now);
    return v_run.run_id;
end
$$;
comment on function sisyphus.rerun(bigint) is
    'Runs an ended run again under the job''s current definition, with the same payload and for the same occurrence; returns the new run_id';

create or replace function sisyphus._backfill_fires(p_job sisyphus.job, p_since timestamptz, p_until timestamptz, p_now timestamptz)
returns setof timestamptz
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    c_most constant integer := 10000;
    v_what constant text := format('job "%s"', p_job.name);
    c_first constant timestamptz := timestamptz '0001-01-01 00:00:00+00';
    v_since constant timestamptz := greatest(p_since, p_job.starts_at, c_first) - interval '1 us';
    v_until constant timestamptz := greatest(least(p_until, p_job.ends_at), c_first) - interval '1 us';
    v_count bigint;
begin
    if p_job.compiled is null then
        raise exception '% has no schedule', v_what
            using errcode = '55000', hint = 'There are no occurrences to backfill; call run_now() or run_many().';
    elsif not coalesce(isfinite(p_since), false) then
        perform sisyphus._raise_argument(v_what, 'since', coalesce(p_since::text, 'null'), 'Give the first instant.', null);
    elsif not coalesce(p_until > p_since and p_until <= p_now, false) then
        perform sisyphus._raise_argument(v_what, 'until', coalesce(p_until::text, 'null'),
            'Give an instant after since and not in the future; what is due then is not included.', null);
    end if;
    v_count := sisyphus._count_kept(p_job, v_since, v_until);
    if v_count > c_most then
        raise exception '%: a backfill of % occurrences is too large', v_what, v_count
            using errcode = '22023', hint = format('Give a shorter span: at most %s occurrences a call.', c_most);
    end if;
    return query select f from sisyphus._last_kept(p_job, v_since, v_until, c_most) f;
end
$$;
comment on function sisyphus._backfill_fires(sisyphus.job, timestamptz, timestamptz, timestamptz) is
    'Occurrences of a job in the past, ascending; raises 22023 or 55000';

create or replace function sisyphus.backfill(name text, since timestamptz, until timestamptz)
returns setof bigint
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now constant timestamptz := sisyphus._clock();
    v_job constant sisyphus.job := sisyphus._require_active(backfill.name, v_now);
    v_run sisyphus.run := sisyphus._requested_run(v_job, 'backfill', null, v_now);
    v_fires constant timestamptz[] := array(select f from sisyphus._backfill_fires(v_job, backfill.since, backfill.until, v_now) f);
    v_target record;
    v_run_ids bigint[] := '{}'::bigint[];
begin
    for v_target in
        select t.target, t.lane_id, f.fire
          from unnest(v_fires) f (fire)
          cross join sisyphus._run_targets(v_job.pool_id, v_job.run_on, null) t
         order by f.fire, t.target
    loop
        v_run.target := v_target.target;
        v_run.lane_id := v_target.lane_id;
        v_run.due_at := v_target.fire;
        v_run_ids := v_run_ids || sisyphus._insert_run(v_run);
    end loop;
    perform sisyphus._wake_planner(v_now);
    perform sisyphus._audit('backfill', v_job.name, null, jsonb_build_object(
        'since', backfill.since, 'until', backfill.until, 'runs', cardinality(v_run_ids)), v_now);
    return query select i from unnest(v_run_ids) i;
end
$$;
comment on function sisyphus.backfill(text, timestamptz, timestamptz) is
    'Runs a job for each past occurrence from since (inclusive) to until (exclusive), in order; returns the run_ids';

-- Only the job's own role: the lock keeps the run's end waiting for as long as the caller's transaction is open.
-- locks: run, for key share.
create or replace function sisyphus.assert_current(run_id bigint, claim_no bigint)
returns void
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_owner name;
begin
    select coalesce(j.owner, (r.spec ->> 'owner')::name) into v_owner
      from sisyphus.run r
      left join sisyphus.job j on j.job_id = r.job_id
     where r.run_id = assert_current.run_id;
    if found then
        perform sisyphus._check_access('run ' || assert_current.run_id, v_owner, false);
    end if;
    perform from sisyphus.run r
      where r.run_id = assert_current.run_id and r.claim_no = assert_current.claim_no
        for key share;
    if not found then
        raise exception 'run % is no longer held under claim %', assert_current.run_id, assert_current.claim_no
            using errcode = 'SY301', hint = 'Roll back and stop: another attempt may be running.';
    end if;
end
$$;
comment on function sisyphus.assert_current(bigint, bigint) is
    'For a job''s own SQL: raises SY301 when this claim has been lost, and keeps it until the transaction ends';

grant execute on function sisyphus.terminate, sisyphus.cancel, sisyphus.pause, sisyphus.unpause, sisyphus.rerun,
    sisyphus.backfill, sisyphus.assert_current to sisyphus_author, sisyphus_operator, sisyphus_admin;
