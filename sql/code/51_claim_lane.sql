-- What a claim takes of one lane, and whom it tells of the rest.

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

-- A payload counts as it will be sent: a number of ten characters can be written out as a hundred thousand digits.
-- pg_column_size() is stable; said to be immutable, this would not inline.
create or replace function sisyphus._reply_bytes(p_spec jsonb, p_payload jsonb)
returns integer
language sql
stable
parallel safe
begin atomic
    select pg_catalog.pg_column_size(p_spec) + coalesce(pg_catalog.octet_length(p_payload::text), 0);
end;
comment on function sisyphus._reply_bytes(jsonb, jsonb) is 'How much a run takes of the reply of a claim, about';

-- A reply can be lost: what came after the last claim that the guardian has seen is told again. Its calls are one after
-- the other (claim_job() locks its row), so nothing earlier is missing; and what is earlier is not looked at, for while an
-- old snapshot is held the dead entries of all that it ever ran stay in the index.
create or replace function sisyphus._tell_again(p_guardian_id bigint, p_seen_no bigint, p_now timestamptz)
returns table (run_id bigint, claim_no bigint, attempt integer, job text, starts_in double precision, spec jsonb,
               due_at timestamptz, expires_at timestamptz, payload jsonb, bytes integer)
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
        select r.run_id, r.claim_no, r.attempt, coalesce(j.name, 'submit'),
               date_part('epoch', greatest(r.due_at, r.claimed_at) - p_now), t.spec, r.due_at,
               case when r.attempt = 1 then r.expires_at end, t.payload, sisyphus._reply_bytes(t.spec, t.payload)
          from sisyphus.run r
          left join sisyphus.job j on j.job_id = r.job_id
          -- As it was claimed: a change since then recalls it.
          left join sisyphus.job_definition d on d.job_id = r.job_id and d.version = r.job_version
         cross join lateral (
              select coalesce(r.spec, d.spec) as spec, coalesce(r.payload, d.definition -> 'payload') as payload) t
         where r.guardian_id = p_guardian_id and r.claim_no > p_seen_no and r.state = 'claimed'
         order by r.claim_no;
end
$$;
comment on function sisyphus._tell_again(bigint, bigint, timestamptz) is
    'What a guardian has claimed after the last claim that it has seen, as claim_job() returns it';

-- locks: run, by SKIP LOCKED. One probe of run_claim_idx a lane and priority: with the priority left open the
-- floor would be no seek. Every condition stands before the LIMIT, and no join.
-- Looked up first and locked by run_id in a statement of its own: what another guardian claimed and committed since a
-- statement's snapshot is locked all the same before the row is checked again (EvalPlanQual), stays locked until
-- commit, and that guardian's finish is answered busy. The second snapshot is a moment old, not as old as the scan.
-- Locked and written as in start_job(); what was changed in that moment stays for the next look.
-- More are looked up than wanted, because others may hold the first ones. Those that fit into p_room bytes are claimed, one at least.
-- A run whose job has changed meanwhile goes back to waiting, where _promote() fits it to the definition. So does one of
-- p_resumed: what was due in the suspension the next tick skips.
create or replace function sisyphus._claim_lane(
    p_lane_id bigint, p_priority smallint, p_floor bigint, p_after timestamptz, p_until timestamptz, p_limit integer,
    p_room bigint, p_guardian_id bigint, p_host_id bigint, p_resumed bigint[], p_now timestamptz)
returns table (run_id bigint, claim_no bigint, attempt integer, job text, starts_in double precision, spec jsonb,
               due_at timestamptz, expires_at timestamptz, payload jsonb, bytes integer)
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
            select r.place, j.name as job, j.version, t.spec, t.payload, t.bytes,
                   sum(t.bytes) over (order by c.nth rows between unbounded preceding and 1 preceding) as bytes_before,
                   r.job_id = 0 or (j.deleted_at is null
                       and (j.suspended_at is null or coalesce(j.suspended_until <= p_now, false))
                       and (j.version = r.job_version
                           or (r.origin <> 'schedule' or r.attempt > 0) and coalesce(r.requested_at, r.due_at) >= j.created_at
                              and j.priority = p_priority and (j.overlap <> 'allow') = r.exclusive
                              and p_lane_id in (j.pool_id, p_host_id))
                       and r.job_id <> all(p_resumed)) as fits
              from unnest(v_seen) with ordinality c (run_id, nth)
             cross join lateral (
                  select r.ctid as place, r.job_id, r.job_version, r.origin, r.attempt, r.exclusive, r.requested_at, r.due_at,
                         r.spec, r.payload
                    from sisyphus.run r
                   where r.run_id = c.run_id and case r.state when 'pending' then true end
                     for no key update skip locked) r
              left join sisyphus.job j on j.job_id = r.job_id
             cross join lateral (
                  select b.*, sisyphus._reply_bytes(b.spec, b.payload) as bytes
                    from (select coalesce(r.spec, j.spec) as spec, coalesce(r.payload, j.payload) as payload) b) t
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
             where r.ctid = f.place and coalesce(f.bytes_before < p_room, true)
            returning r.run_id, r.claim_no, r.attempt, coalesce(f.job, 'submit'),
                      date_part('epoch', greatest(r.due_at, p_now) - p_now), f.spec, r.due_at,
                      case when r.attempt = 1 then r.expires_at end, f.payload, f.bytes)
        select c.* from claimed c where c.claim_no is not null;
        exit when found;
    end loop;
end
$$;
comment on function sisyphus._claim_lane(bigint, smallint, bigint, timestamptz, timestamptz, integer, bigint, bigint, bigint, bigint[], timestamptz) is
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
