-- Runs that a person or a program asks for. Each is inserted as waiting, outside the unique index of exclusive runs, so
-- an uncommitted one holds up nobody; ticks and claims promote it after commit.

create or replace function sisyphus._require_active(p_name text, p_now timestamptz)
returns sisyphus.job
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_job constant sisyphus.job := sisyphus._require_job(p_name, true);
begin
    if sisyphus._is_suspended(v_job, p_now) then
        raise exception 'job "%" is suspended', p_name
            using errcode = '55000', detail = 'Reason: ' || coalesce(v_job.suspend_reason, 'none was given') || '.',
                  hint = format('Resume it first: select sisyphus.resume(%L).', p_name);
    end if;
    return v_job;
end
$$;
comment on function sisyphus._require_active(text, timestamptz) is
    'A job that the caller may run; raises 42704, 42501, or 55000 when it is suspended';

-- Target 0 is "any host": naming one chooses only the lane, so overlap is judged over all of them.
create or replace function sisyphus._run_targets(p_pool_id bigint, p_run_on text, p_host text)
returns table (target bigint, lane_id bigint)
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_host sisyphus.host;
    v_pool text;
begin
    if p_host is null and p_run_on = 'any' then
        return query select 0::bigint, p_pool_id;
        return;
    end if;
    select p.name into v_pool from sisyphus.pool p where p.pool_id = p_pool_id;
    if p_host is not null then
        v_host := sisyphus._require_host(p_host);
        if p_pool_id <> all (sisyphus._lanes_of(v_host)) then
            raise exception 'host "%" is not in pool "%"', p_host, v_pool
                using errcode = '22023', hint = format('Name a host of pool "%s", or none.', v_pool);
        end if;
        return query select case p_run_on when 'any' then 0 else v_host.host_id end, v_host.host_id;
        return;
    end if;
    return query
        select h.host_id, h.host_id from sisyphus.host h where p_pool_id = any(sisyphus._lanes_of(h)) order by h.host_id;
    if not found then
        raise exception 'pool "%" has no host', v_pool
            using errcode = '55000', hint = 'Hosts that it lists (add_host() adds one) or whose labels it selects join when their guardian has registered.';
    end if;
end
$$;
comment on function sisyphus._run_targets(bigint, text, text) is
    'Where runs asked for now go: any host of the pool, the named one, or each; raises 42704, 22023 or 55000';

-- A key that another transaction has inserted and not yet committed is waited for, by callers of the same key alone.
create or replace function sisyphus._insert_run(p_run sisyphus.run)
returns bigint
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_run_id bigint;
begin
    loop
        if p_run.dedup_key is not null then
            select r.run_id into v_run_id
              from sisyphus.run r
             where r.job_id = p_run.job_id and r.dedup_key = p_run.dedup_key;
            exit when found;
        end if;
        insert into sisyphus.run (
            job_id, target, lane_id, due_at, nominal_at, expires_at, requested_at, wake_at, job_version, priority,
            exclusive, in_order, origin, dedup_key, payload, spec)
        values (
            p_run.job_id, p_run.target, p_run.lane_id, p_run.due_at, p_run.due_at, p_run.expires_at, p_run.requested_at,
            p_run.wake_at, p_run.job_version, p_run.priority, p_run.exclusive, p_run.in_order, p_run.origin,
            p_run.dedup_key, p_run.payload, p_run.spec)
            on conflict (job_id, dedup_key) where dedup_key is not null do nothing
        returning run_id into v_run_id;
        exit when found;
    end loop;
    return v_run_id;
end
$$;
comment on function sisyphus._insert_run(sisyphus.run) is
    'Inserts a waiting run and returns its number; with a dedup_key that is taken, the number of the run that has it';

create or replace function sisyphus._requested_run(p_job sisyphus.job, p_origin text, p_at timestamptz, p_now timestamptz)
returns sisyphus.run
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_run sisyphus.run;
begin
    -- Times are added to an instant: it stays far from the last one that a timestamp can hold.
    if not isfinite(p_at) or p_at >= '10000-01-01 00:00:00+00' then
        perform sisyphus._raise_argument('run', 'at', p_at::text, 'Give an instant before the year 10000, or leave it out.', null);
    end if;
    v_run.job_id := coalesce(p_job.job_id, 0);
    v_run.target := 0;
    v_run.lane_id := p_job.pool_id;
    v_run.due_at := greatest(p_at, p_now);
    -- Lateness counts from the call, or from the later instant asked for.
    v_run.expires_at := sisyphus._later(v_run.due_at, p_job.ttl);
    v_run.requested_at := p_now;
    v_run.wake_at := greatest(p_now, v_run.due_at - (sisyphus._setting()).claim_ahead);
    v_run.job_version := coalesce(p_job.version, 0);
    v_run.priority := p_job.priority;
    v_run.exclusive := p_job.overlap <> 'allow' and p_job.job_id is not null;
    v_run.in_order := p_origin in ('run_many', 'backfill');
    v_run.origin := p_origin;
    perform sisyphus._notice_no_host(p_job.pool_id, p_now);
    return v_run;
end
$$;
comment on function sisyphus._requested_run(sisyphus.job, text, timestamptz, timestamptz) is
    'A run that is asked for by hand, as it will be inserted, for any host of the job''s pool; a NOTICE when none is active';

create or replace function sisyphus._wake_for(p_lane_id bigint, p_at timestamptz, p_now timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    -- What is due later meets a claim in time.
    if p_at <= p_now + (sisyphus._setting()).claim_ahead then
        perform sisyphus._wake_lane(p_lane_id, p_now);
    end if;
end
$$;
comment on function sisyphus._wake_for(bigint, timestamptz, timestamptz) is
    'Wakes an idle guardian of a lane for work that can be claimed now';

create or replace function sisyphus.run_now(
    name text, payload jsonb default null, at timestamptz default null, host text default null, dedup_key text default null)
returns setof bigint
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now constant timestamptz := sisyphus._clock();
    v_job constant sisyphus.job := sisyphus._require_active(run_now.name, v_now);
    v_run sisyphus.run := sisyphus._requested_run(v_job, 'run_now', run_now.at, v_now);
    v_target record;
    v_run_ids bigint[] := '{}'::bigint[];
begin
    if length(run_now.dedup_key) > 200 then
        perform sisyphus._raise_argument(format('job "%s"', v_job.name), 'dedup_key', run_now.dedup_key,
                                         'Give at most 200 characters.', null);
    end if;
    perform sisyphus._check_size(format('job "%s"', v_job.name), 'payload', array[run_now.payload::text]);
    v_run.payload := run_now.payload;
    for v_target in select t.target, t.lane_id from sisyphus._run_targets(v_job.pool_id, v_job.run_on, run_now.host) t loop
        v_run.target := v_target.target;
        v_run.lane_id := v_target.lane_id;
        -- With run_on all the key names one unfinished run of each host.
        v_run.dedup_key := run_now.dedup_key || case v_run.target when 0 then '' else '@' || v_run.target end;
        v_run_ids := v_run_ids || sisyphus._insert_run(v_run);
        perform sisyphus._wake_for(v_run.lane_id, v_run.due_at, v_now);
    end loop;
    if run_now.host is not null then
        perform sisyphus._notice_no_host(v_run.lane_id, v_now);
    end if;
    perform sisyphus._audit('run_now', v_job.name, null, jsonb_strip_nulls(jsonb_build_object(
        'run_ids', v_run_ids, 'at', run_now.at, 'host', run_now.host, 'dedup_key', run_now.dedup_key)), v_now);
    return query select i from unnest(v_run_ids) i;
end
$$;
comment on function sisyphus.run_now(text, jsonb, timestamptz, text, text) is
    'Runs a job now or at an instant, on one host of its pool, the named one, or with run_on all on each; returns the run_ids. With a dedup_key that an unfinished run of the job has, the number of that run';

create or replace function sisyphus.run_many(name text, payloads jsonb[])
returns bigint
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now constant timestamptz := sisyphus._clock();
    v_job constant sisyphus.job := sisyphus._require_active(run_many.name, v_now);
    v_run constant sisyphus.run := sisyphus._requested_run(v_job, 'run_many', null, v_now);
    v_count bigint;
    v_lane record;
begin
    if run_many.payloads is null then
        perform sisyphus._raise_argument(format('job "%s"', v_job.name), 'payloads', null,
            'Give an array of jsonb, one element a run.', null);
    end if;
    perform sisyphus._check_size(format('job "%s"', v_job.name), 'payloads', array(select p::text from unnest(run_many.payloads) p));
    insert into sisyphus.run (
        job_id, target, lane_id, due_at, nominal_at, expires_at, requested_at, wake_at, job_version, priority, exclusive,
        in_order, origin, payload)
    select v_run.job_id, t.target, t.lane_id, v_run.due_at, v_run.due_at, v_run.expires_at, v_run.requested_at,
           v_run.wake_at, v_run.job_version, v_run.priority, v_run.exclusive, true, v_run.origin, p.payload
      from unnest(run_many.payloads) with ordinality p (payload, n)
      cross join sisyphus._run_targets(v_job.pool_id, v_job.run_on, null) t
     order by p.n, t.target;
    get diagnostics v_count = row_count;
    for v_lane in select t.lane_id from sisyphus._run_targets(v_job.pool_id, v_job.run_on, null) t where v_count > 0 loop
        perform sisyphus._wake_lane(v_lane.lane_id, v_now);
    end loop;
    perform sisyphus._audit('run_many', v_job.name, null, jsonb_build_object('runs', v_count), v_now);
    return v_count;
end
$$;
comment on function sisyphus.run_many(text, jsonb[]) is
    'One run for each payload, in order; they wait their turn and are never skipped for overlap. Returns how many';

create or replace function sisyphus.submit(
    command text default null,
    argv text[] default null,
    pool text default 'default',
    host text default null,
    at timestamptz default null,
    ttl interval default null,
    max_runtime interval default null,
    grace interval default '10 s',
    priority integer default 0,
    payload jsonb default null,
    env jsonb default null,
    cwd text default null,
    run_as text default null,
    limits jsonb default null,
    leftovers text default 'kill')
returns bigint
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
set intervalstyle = 'postgres'
set timezone = 'UTC'
set extra_float_digits = 1
as $$
declare
    v_now constant timestamptz := sisyphus._clock();
    v_definition jsonb;
    v_job sisyphus.job;
    v_run sisyphus.run;
begin
    select sisyphus._job_defaults() || sisyphus._given(to_jsonb(a)) into v_definition
      from (select submit.command, submit.argv, submit.pool, submit.ttl, submit.max_runtime, submit.grace, submit.priority,
                   submit.env, submit.cwd, submit.run_as, submit.limits, submit.leftovers) a;
    v_job := sisyphus._read_definition('run', null, v_definition, '{}');
    perform sisyphus._check_run_as('run', v_job.run_as, sisyphus._caller());
    v_job.pool_id := sisyphus._require_pool(v_definition ->> 'pool');
    v_run := sisyphus._requested_run(v_job, 'submit', submit.at, v_now);
    perform sisyphus._check_size('run', 'payload', array[submit.payload::text]);
    v_run.payload := submit.payload;
    v_run.spec := sisyphus._job_spec(v_job) || jsonb_build_object('owner', sisyphus._caller());
    select t.lane_id into v_run.lane_id from sisyphus._run_targets(v_job.pool_id, 'any', submit.host) t;
    v_run.run_id := sisyphus._insert_run(v_run);
    perform sisyphus._wake_for(v_run.lane_id, v_run.due_at, v_now);
    if submit.host is not null then
        perform sisyphus._notice_no_host(v_run.lane_id, v_now);
    end if;
    perform sisyphus._audit('submit', v_run.run_id::text, null, jsonb_strip_nulls(jsonb_build_object(
        'pool', v_definition -> 'pool', 'host', submit.host, 'at', submit.at)), v_now);
    return v_run.run_id;
end
$$;
comment on function sisyphus.submit is 'Runs a command once, without a job, like at(1); returns its run_id';

grant execute on function sisyphus.run_now, sisyphus.run_many to sisyphus_author, sisyphus_operator, sisyphus_admin;
grant execute on function sisyphus.submit to sisyphus_author, sisyphus_admin;
