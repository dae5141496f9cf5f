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
    -- Bytes left in this reply.
    v_room bigint := 16777216;
    v_bytes integer;
    v_seen_no bigint;
    v_seen_tick_at timestamptz;
    v_running constant double precision := sisyphus._number(report, 'running');
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

    if holding is not null then
        v_seen_no := coalesce((select max(h) from unnest(holding) h), 0);
        -- Mostly nothing is: to ask costs a fifth of the join.
        if exists (select from sisyphus.run r where r.guardian_id = v_me and r.claim_no > v_seen_no and r.state = 'claimed') then
            kind := 'run';
            for run_id, claim_no, attempt, job, starts_in, spec, due_at, expires_at, payload, v_bytes in
                select a.* from sisyphus._tell_again(v_me, v_seen_no, v_now) a
            loop
                v_taken := v_taken + 1;
                v_due_taken := v_due_taken + (due_at <= v_now)::integer;
                v_room := v_room - v_bytes;
                return next;
            end loop;
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
            exit when v_room <= 0;
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
            kind := 'run';
            for run_id, claim_no, attempt, job, starts_in, spec, due_at, expires_at, payload, v_bytes in
                select c.*
                  from sisyphus._claim_lane(
                      v_floor.lane_id, v_floor.priority, v_floor.floor,
                      case when v_floor.is_due then '-infinity' else v_now end,
                      case when v_floor.is_due then v_now else v_until end,
                      v_wanted, v_room, v_me, v_host.host_id, v_resumed, v_now) c
            loop
                v_taken := v_taken + 1;
                v_due_taken := v_due_taken + v_floor.is_due::integer;
                v_room := v_room - v_bytes;
                return next;
            end loop;
        end loop;
    end if;

    update sisyphus.guardian g
       set seen_at = v_now,
           lease_until = v_now + v_setting.lease_timeout,
           slots_free = greatest(claim_job.slots_free - v_due_taken, 0),
           running = case when v_running is null then g.running else least(greatest(v_running, 0), 10000)::integer end,
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
                   'tick_in', sisyphus._tick_in(v_me, p, v_setting.heartbeat, v_now)),
               null::timestamptz, null::timestamptz, null::jsonb
          from sisyphus.planner p;
end
$$;
comment on function sisyphus.claim_job(bigint, integer, integer, interval, bigint[], bigint[], jsonb) is
    'Heartbeat of a guardian and its claim: returns claimed runs (kind run), what was asked of its runs (request) and when to call again (next; seconds). holding: claim_nos it has received, the highest at least; later ones are told again. A reply that has reached 16 MB takes no more runs. spec: what to run, as the job defines it; of next, what holds for all of them';
grant execute on function sisyphus.claim_job(bigint, integer, integer, interval, bigint[], bigint[], jsonb) to sisyphus_guardian, sisyphus_admin;
