-- A guardian_id is usable by the role that registered it alone; what has ended must register anew.
create or replace function sisyphus._raise_guardian(p_guardian_id bigint)
returns void
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_guardian sisyphus.guardian;
begin
    select g.* into v_guardian from sisyphus.guardian g where g.guardian_id = p_guardian_id;
    if found and v_guardian.role_name <> sisyphus._caller() then
        raise exception 'guardian % was registered by another role', p_guardian_id
            using errcode = '42501', hint = format('Act for it as role %I.', v_guardian.role_name);
    end if;
    raise exception 'guardian % %', p_guardian_id,
            case when found then 'has ended: ' || v_guardian.ended_as else 'is unknown' end
        using errcode = 'SY401', hint = 'Call register_guardian() and go on with the number it returns.';
end
$$;
comment on function sisyphus._raise_guardian(bigint) is 'Says why a guardian may not act: 42501 or SY401';

-- Of the runs that are not yet due a guardian takes its share, or ten runs on ten idle hosts would land on one.
create or replace function sisyphus._share_ahead(
    p_lane_id bigint, p_guardian_id bigint, p_until timestamptz, p_now timestamptz)
returns integer
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
    with ahead as (
        select r.guardian_id
          from sisyphus.run r
         where r.state in ('pending', 'claimed') and r.lane_id = p_lane_id
           and r.due_at > p_now and r.due_at <= p_until
         limit 10000)
    select greatest(0, ceil((select count(*) from ahead)::numeric / greatest(1, (
               select count(*)
                 from sisyphus.guardian g
                 join sisyphus.host h on h.host_id = g.host_id
                where g.ended_at is null and g.lease_until > p_now and not g.periodic
                  and h.state = 'active' and p_lane_id = any(h.lanes))))
           - (select count(*) from ahead where guardian_id = p_guardian_id))::integer);
end
$$;
comment on function sisyphus._share_ahead(bigint, bigint, timestamptz, timestamptz) is
    'How many runs of a lane that are not yet due a guardian may take now';

-- locks: run, by SKIP LOCKED. One probe of run_claim_idx a lane and priority: with the priority left open the
-- floor would be no seek. Every condition stands before the LIMIT, and no join.
-- Looked up first and locked by run_id in a statement of its own: what another guardian claimed and committed since a
-- statement's snapshot is locked all the same before the row is checked again (EvalPlanQual), stays locked until
-- commit, and that guardian's finish is answered busy. The second snapshot is a moment old, not as old as the scan.
-- Locked and written as in start_job(); what was changed in that moment stays for the next look.
-- More are looked up than wanted, because others may hold the first ones.
-- A run whose job has changed meanwhile goes back to waiting, where _promote() fits it to the definition. So does one of
-- p_resumed: what was due in the suspension the next tick skips.
create or replace function sisyphus._claim_lane(
    p_lane_id bigint, p_priority smallint, p_floor bigint, p_after timestamptz, p_until timestamptz, p_limit integer,
    p_guardian_id bigint, p_host_id bigint, p_resumed bigint[], p_now timestamptz)
returns table (run_id bigint, claim_no bigint, attempt integer, job text, starts_in double precision, spec jsonb,
               due_at timestamptz, expires_at timestamptz, payload jsonb)
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_seen bigint[];
begin
    -- Others may have taken all that was seen: looked at again, a few times, or work would wait for a heartbeat.
    for i in 1 .. 3 loop
        v_seen := array(
            select r.run_id
              from sisyphus.run r
             where r.state = 'pending' and r.lane_id = p_lane_id and r.priority = p_priority and r.ready_no > p_floor
               and r.due_at > p_after and r.due_at <= p_until
               and (r.expires_at is null or r.expires_at > p_now or r.attempt > 0)
               and (r.anywhere_at is null or r.anywhere_at <= p_now or r.last_host_id <> p_host_id)
             order by r.ready_no
             limit 2 * p_limit + 20);
        exit when v_seen = '{}';
        return query
        -- What is asked of a job is asked here, once: below it would be put into every column that depends on it.
        with candidate as materialized (
            select r.place, j.name as job, j.version, j.spec, j.payload,
                   r.job_id = 0 or (j.deleted_at is null
                       and (j.suspended_at is null or coalesce(j.suspended_until <= p_now, false))
                       and (j.version = r.job_version
                           or (r.origin <> 'schedule' or r.attempt > 0) and coalesce(r.requested_at, r.due_at) >= j.created_at
                              and j.priority = p_priority and (j.overlap <> 'allow') = r.exclusive
                              and p_lane_id in (j.pool_id, p_host_id))
                       and r.job_id <> all(p_resumed)) as fits
              from unnest(v_seen) with ordinality c (run_id, nth)
             cross join lateral (
                  select r.ctid as place, r.job_id, r.job_version, r.origin, r.attempt, r.exclusive, r.requested_at, r.due_at
                    from sisyphus.run r
                   where r.run_id = c.run_id and case r.state when 'pending' then true end
                     for no key update skip locked) r
              left join sisyphus.job j on j.job_id = r.job_id
             order by c.nth
             limit p_limit),
        claimed as (
            update sisyphus.run r
               set state = case when f.fits then 'claimed' else 'waiting' end,
                   ready_no = null,
                   wake_at = case when f.fits then null else p_now end,
                   claim_no = case when f.fits then nextval('sisyphus.claim_no_seq') end,
                   guardian_id = case when f.fits then p_guardian_id end,
                   host_id = case when f.fits then p_host_id end,
                   claimed_at = case when f.fits then p_now end,
                   attempt = r.attempt + f.fits::integer,
                   -- What runs by hand and retries take is the current definition, unless that has them wait elsewhere.
                   job_version = case when f.fits then coalesce(f.version, r.job_version) else r.job_version end,
                   reason = null
              from candidate f
             where r.ctid = f.place
            returning r.run_id, r.claim_no, r.attempt, coalesce(f.job, 'submit'),
                      date_part('epoch', greatest(r.due_at, p_now) - p_now), coalesce(r.spec, f.spec), r.due_at,
                      case when r.attempt = 1 then r.expires_at end, coalesce(r.payload, f.payload))
        select c.* from claimed c where c.claim_no is not null;
        exit when found;
    end loop;
end
$$;
comment on function sisyphus._claim_lane(bigint, smallint, bigint, timestamptz, timestamptz, integer, bigint, bigint, bigint[], timestamptz) is
    'Claims pending runs of one lane and priority that are due in a window, oldest first; returns them as claim_job() does';

-- A claim that leaves due work behind passes the hint on. One probe of run_claim_idx a lane and priority: as a join
-- this read every pending run at each claim.
create or replace function sisyphus._pass_on(p_lanes bigint[], p_now timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_floor sisyphus.lane_floor;
    v_lane bigint;
    v_host_id bigint;
begin
    for v_floor in
        select f.* from sisyphus.lane_floor f where f.lane_id = any(p_lanes) order by f.lane_id
    loop
        -- Once a lane; null again after its hint has been given.
        if v_lane is distinct from v_floor.lane_id then
            v_lane := v_floor.lane_id;
            v_host_id := sisyphus._idle_host(v_lane, p_now);
        end if;
        if v_host_id is not null and exists (select from sisyphus.run r
                    where r.state = 'pending' and r.lane_id = v_floor.lane_id and r.priority = v_floor.priority
                      and r.ready_no > v_floor.floor and r.due_at <= p_now) then
            perform sisyphus._wake_host(v_host_id);
            v_host_id := null;
        end if;
    end loop;
end
$$;
comment on function sisyphus._pass_on(bigint[], timestamptz) is 'Wakes an idle guardian for each of these lanes that has due work left';

create or replace function sisyphus.claim_job(
    guardian_id bigint,
    max_runs integer default 1,
    slots_free integer default 1,
    ahead interval default '10 s',
    holding bigint[] default null,
    acknowledged bigint[] default null,
    report jsonb default null)
returns table (kind text, run_id bigint, claim_no bigint, attempt integer, job text, starts_in double precision, spec jsonb,
               due_at timestamptz, expires_at timestamptz, payload jsonb)
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
-- Planning anew costs more than a small claim; every statement below has one good plan (tests/catalogue_plans.rs).
set plan_cache_mode = force_generic_plan
-- By the index and in its order, whatever the statistics say, here and in what is called from here: with many runs
-- waiting or due, a scan of the whole table for the first of them seems cheaper to the planner, and is not.
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
#variable_conflict use_column
declare
    v_now constant timestamptz := sisyphus._clock();
    v_me constant bigint := claim_job.guardian_id;
    v_setting sisyphus.setting;
    v_host sisyphus.host;
    v_until timestamptz;
    v_wanted integer;
    v_promoted integer;
    v_taken integer := 0;
    v_due_taken integer := 0;
    v_batch integer;
    v_seen_no bigint;
    v_seen_tick_at timestamptz;
    v_resumed bigint[] := array[]::bigint[];
    v_floor record;
begin
    if max_runs is null or max_runs < 0 or slots_free is null or slots_free < 0 then
        raise exception 'max_runs and slots_free must not be negative'
            using errcode = '22023', hint = 'Give how many runs to take and how many slots are free.';
    end if;
    v_seen_tick_at := to_timestamp(sisyphus._number(report, 'seen_tick_us') / 1000000);
    -- Asked here and in start and finish, not by the call: that costs more than the question.
    if not sisyphus._is_home(v_seen_tick_at) then
        perform sisyphus._check_installation(v_seen_tick_at, v_now);
    end if;
    select s.* into v_setting from sisyphus.setting s;
    -- As _check_guardian(), and locked. locks: guardian before job_state, as a tick that reaps does; written at the end, once.
    select h.* into v_host
      from sisyphus.guardian g
      join sisyphus.host h on h.host_id = g.host_id
     where g.guardian_id = v_me and g.ended_at is null and g.role_name = sisyphus._caller()
       for no key update of g;
    if not found then
        perform sisyphus._raise_guardian(v_me);
    end if;
    if cardinality(acknowledged) > 0 then
        delete from sisyphus.request q where q.guardian_id = v_me and q.request_id = any(acknowledged);
    end if;
    if exists (select from sisyphus.request q where q.guardian_id is null) then
        perform sisyphus._apply_run_requests(v_now);
        v_resumed := array(select q.job_id from sisyphus.request q
                            where q.action = 'define' and q.suspended_until > '-infinity');
        -- One of them may have drained this host.
        select h.* into v_host from sisyphus.host h where h.host_id = v_host.host_id;
    end if;
    v_promoted := sisyphus._promote(v_now);

    -- A reply can be lost: what came after the last claim that the guardian has seen is told again. Its calls are
    -- one after the other (the lock above), so nothing earlier is missing; and what is earlier is not looked at, for
    -- while an old snapshot is held the dead entries of all that it ever ran stay in the index.
    if holding is not null then
        v_seen_no := coalesce((select max(h) from unnest(holding) h), 0);
        -- Mostly nothing is: to ask costs a fifth of the join.
        if exists (select from sisyphus.run r where r.guardian_id = v_me and r.claim_no > v_seen_no and r.state = 'claimed') then
            return query
                select 'run'::text, r.run_id, r.claim_no, r.attempt, coalesce(j.name, 'submit'),
                       date_part('epoch', greatest(r.due_at, r.claimed_at) - v_now), coalesce(r.spec, d.spec), r.due_at,
                       case when r.attempt = 1 then r.expires_at end, coalesce(r.payload, d.definition -> 'payload')
                  from sisyphus.run r
                  left join sisyphus.job j on j.job_id = r.job_id
                  -- As it was claimed: a change since then recalls it.
                  left join sisyphus.job_definition d on d.job_id = r.job_id and d.version = r.job_version
                 where r.guardian_id = v_me and r.claim_no > v_seen_no and r.state = 'claimed'
                 order by r.claim_no;
        end if;
    end if;

    if v_host.state = 'active' then
        v_until := v_now + greatest(least(ahead, v_setting.claim_ahead), '0 s');
        -- Runs already due first, as many as slots are free; then its share of those that are not.
        for v_floor in
            select f.lane_id, f.priority, f.floor, w.is_due
              from sisyphus.lane_floor f, (values (true), (false)) w (is_due)
             where f.lane_id = any(v_host.lanes) and (w.is_due or v_until > v_now)
             order by w.is_due desc, f.priority desc, f.lane_id = v_host.host_id desc, f.lane_id
        loop
            v_wanted := least(max_runs, 10000) - v_taken;
            if v_floor.is_due then
                v_wanted := least(v_wanted, claim_job.slots_free - v_due_taken);
            end if;
            continue when v_wanted <= 0;
            if not v_floor.is_due then
                -- Due work goes first, whoever takes it; and behind a backlog the few that are not due are far to seek.
                continue when exists (
                    select from sisyphus.run r
                     where r.state = 'pending' and r.lane_id = v_floor.lane_id and r.priority = v_floor.priority
                       and r.ready_no > v_floor.floor and r.due_at <= v_now)
                    or not exists (
                    select from sisyphus.run r
                     where r.state = 'pending' and r.lane_id = v_floor.lane_id and r.priority = v_floor.priority
                       and r.ready_no > v_floor.floor and r.due_at <= v_until);
                v_wanted := least(v_wanted, sisyphus._share_ahead(v_floor.lane_id, v_me, v_until, v_now));
                continue when v_wanted <= 0;
            end if;
            return query
                select 'run'::text, c.*
                  from sisyphus._claim_lane(
                      v_floor.lane_id, v_floor.priority, v_floor.floor,
                      case when v_floor.is_due then '-infinity' else v_now end,
                      case when v_floor.is_due then v_now else v_until end,
                      v_wanted, v_me, v_host.host_id, v_resumed, v_now) c;
            get diagnostics v_batch = row_count;
            v_taken := v_taken + v_batch;
            if v_floor.is_due then
                v_due_taken := v_due_taken + v_batch;
            end if;
        end loop;
    end if;

    update sisyphus.guardian g
       set seen_at = v_now,
           lease_until = v_now + v_setting.lease_timeout,
           slots_free = claim_job.slots_free - v_due_taken,
           running = coalesce(least(sisyphus._number(report, 'running'), 10000)::integer, g.running),
           clock_offset_ms = coalesce(sisyphus._number(report, 'clock_offset_ms'), g.clock_offset_ms),
           problem = case when report is null then g.problem else report ->> 'problem' end
     where g.guardian_id = v_me;
    if (v_promoted > 0 or v_due_taken = claim_job.slots_free and v_due_taken > 0)
        and exists (select from sisyphus.guardian g where g.ended_at is null and g.slots_free > 0)
    then
        perform sisyphus._pass_on(v_host.lanes, v_now);
    end if;
    if exists (select from sisyphus.request q where q.guardian_id = v_me) then
        return query
            select 'request'::text, q.run_id, q.claim_no, null::integer, null::text, null::double precision,
                   jsonb_build_object('request_id', q.request_id, 'action', q.action, 'reason', q.reason),
                   null::timestamptz, null::timestamptz, null::jsonb
              from sisyphus.request q
             where q.guardian_id = v_me
             order by q.request_id;
    end if;
    return query
        select 'next'::text, null::bigint, null::bigint, null::integer, null::text,
               case when v_taken > 0 and v_taken < claim_job.slots_free then 0
                    else extract(epoch from v_setting.heartbeat) end::double precision,
               jsonb_build_object(
                   'now_us', sisyphus._epoch_us(sisyphus._clock()), 'state', v_host.state, 'slots', v_host.slots,
                   'lease', extract(epoch from v_setting.lease_timeout), 'output_limit', v_setting.output_limit,
                   'tick_us', sisyphus._epoch_us(p.newest_tick_at),
                   'tick_in', case when exists (select from sisyphus.request q where q.guardian_id is null) then 0
                                   else extract(epoch from greatest(v_now, least(
                                       p.next_tick_at, p.last_tick_at + v_setting.heartbeat)) - v_now) end),
               null::timestamptz, null::timestamptz, null::jsonb
          from sisyphus.planner p;
end
$$;
comment on function sisyphus.claim_job(bigint, integer, integer, interval, bigint[], bigint[], jsonb) is
    'Heartbeat of a guardian and its claim: returns claimed runs (kind run), what was asked of its runs (request) and when to call again (next; seconds). holding: claim_nos it has received, the highest at least; later ones are told again. spec: what to run, as the job defines it; of next, what holds for all of them';
grant execute on function sisyphus.claim_job(bigint, integer, integer, interval, bigint[], bigint[], jsonb) to sisyphus_guardian, sisyphus_admin;

create or replace function sisyphus.release_job(
    guardian_id bigint, run_ids bigint[], claim_nos bigint[], reason text default null)
returns table (run_id bigint, claim_no bigint, answer text)
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
-- As for start_job().
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
#variable_conflict use_column
declare
    v_now constant timestamptz := sisyphus._clock();
    v_me constant bigint := release_job.guardian_id;
    v_released bigint[];
begin
    perform sisyphus._check_guardian(v_me);
    with given as (
        select i.run_id, i.claim_no from unnest(run_ids, claim_nos) i (run_id, claim_no)),
    held as materialized (
        select r.place
          from given i
         cross join lateral (
              select r.ctid as place
                from sisyphus.run r
               where r.run_id = i.run_id and r.claim_no = i.claim_no and coalesce(r.guardian_id, 0) = v_me
                 and case r.state when 'claimed' then true end
                 for no key update skip locked) r),
    given_back as (
        update sisyphus.run r
           set state = 'waiting', claim_no = null, guardian_id = null, host_id = null, claimed_at = null,
               started_at = null, pid = null, attempt = r.attempt - 1,
               reason = case when r.withdrawn is null then release_job.reason else r.reason end,
               -- A recalled run gave way to another: looked at again when it is due.
               wake_at = case when r.withdrawn = 'waiting' then greatest(v_now, r.due_at) else v_now end
          from held h
         where r.ctid = h.place
        returning r.run_id)
    select array_agg(g.run_id) into v_released from given_back g;
    if v_released is not null then
        perform sisyphus._give_back(v_released, v_now);
    end if;
    return query
        select i.run_id, i.claim_no,
               case when i.run_id = any(v_released) then 'accepted'
                    when exists (select from sisyphus.run r
                                  where r.run_id = i.run_id and r.claim_no = i.claim_no and r.guardian_id = v_me
                                    and r.state = 'claimed') then 'busy'
                    else 'refused' end
          from unnest(run_ids, claim_nos) i (run_id, claim_no);
end
$$;
comment on function sisyphus.release_job(bigint, bigint[], bigint[], text) is
    'Gives claimed runs back that never started; answers accepted, busy (send again) or refused per run';
grant execute on function sisyphus.release_job(bigint, bigint[], bigint[], text) to sisyphus_guardian, sisyphus_admin;
