-- A floor passes a number only when nobody can still commit a lower one. Who makes runs claimable holds a lock on
-- lane_floor from before the first number until its commit. The last number is read first, then who holds the lock: when
-- these have ended, what is at or below that number is committed and seen by the next statement. Not by the oldest xid:
-- one open transaction of anybody, in any database of the server, would hold all floors.
create or replace function sisyphus._raise_floors()
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_last constant bigint := (select s.last_value from sisyphus.ready_no_seq s);
    v_holders text[];
begin
    -- With a snapshot for the whole transaction the next statement would not see what has just been committed.
    if current_setting('transaction_isolation') <> 'read committed'
       or not exists (select from sisyphus.lane_floor f
                       where f.candidate is null or f.candidate < v_last or f.floor < f.candidate) then
        return;
    end if;
    v_holders := array(select l.virtualtransaction from pg_locks l
                        where l.locktype = 'relation' and l.relation = 'sisyphus.lane_floor'::regclass
                          and l.database = (select d.oid from pg_database d where d.datname = current_database())
                          and l.mode = 'RowExclusiveLock' and l.pid is distinct from pg_backend_pid());
    update sisyphus.lane_floor f
       set floor = case when n.passed is null then f.floor else greatest(f.floor, least(n.passed, first.ready_no - 1)) end,
           candidate = v_last, candidate_after = v_holders
      from sisyphus.lane_floor l
      cross join lateral (
            select case when v_holders = '{}' then v_last
                        when not l.candidate_after && v_holders then l.candidate end as passed) n
      left join lateral (
            select r.ready_no from sisyphus.run r
             where r.state = 'pending' and r.lane_id = l.lane_id and r.priority = l.priority and r.ready_no > l.floor
             order by r.ready_no limit 1) first on true
     where f.lane_id = l.lane_id and f.priority = l.priority
       -- Nothing was claimed here since: leave the row alone.
       and (f.candidate is null or f.candidate < v_last or f.floor < f.candidate)
       and (f.candidate is null or n.passed is not null);
end
$$;
comment on function sisyphus._raise_floors() is 'Moves the floors of all lanes up to where every pending run has been claimed';

-- plpgsql for its kept plan: the same in SQL is planned at each call.
create or replace function sisyphus._next_tick(p_more boolean, p_now timestamptz)
returns timestamptz
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    return (select case when p_more then p_now else greatest(p_now + interval '5 ms', least(
        p_now + s.heartbeat,
        -- Thousands of runs a second: the floors follow closely, or each claim walks over what was claimed since.
        (select p_now + interval '200 ms' from sisyphus.lane_floor f, sisyphus.ready_no_seq q
          where f.candidate is not null and q.last_value - f.floor > 2000 and f.floor < f.candidate limit 1),
        -- Occurrences are planned ahead; a suspension that ends by itself is looked at when it does.
        (select case when j.suspended_since is null then j.next_due_at - s.claim_ahead else j.next_due_at end
           from sisyphus.job_state j order by j.next_due_at limit 1),
        -- A run that is looked at when or after it is due: an overlap to decide, a retry. Others meet a claim in time.
        (select r.wake_at from sisyphus.run r
          where r.state = 'waiting' and r.wake_at > p_now and r.wake_at < 'infinity' and r.due_at <= r.wake_at
          order by r.wake_at limit 1),
        (select r.expires_at from sisyphus.run r
          where r.state in ('waiting', 'pending') and r.attempt = 0 and r.expires_at > p_now
          order by r.expires_at limit 1))) end
      from sisyphus.setting s);
end
$$;
comment on function sisyphus._next_tick(boolean, timestamptz) is 'When the next tick has something to do; at most a heartbeat away';

create or replace function sisyphus._is_tick_due(p_planner sisyphus.planner, p_now timestamptz)
returns boolean
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    -- A last tick in the future, or a next one further away than a heartbeat can be: a clock was set.
    return p_planner.next_tick_at <= p_now or p_planner.last_tick_at > p_now
        or p_planner.next_tick_at > p_planner.last_tick_at + interval '1 min'
        or exists (select from sisyphus.request q where q.guardian_id is null);
end
$$;
comment on function sisyphus._is_tick_due(sisyphus.planner, timestamptz) is 'Whether a tick has something to do';

-- One tick a heartbeat is enough, and each host would call one. Whom three others follow with a claim before it is due
-- leaves it to them, and so on: the last three are told to come. Where these die, the next claim finds the tick due.
create or replace function sisyphus._tick_in(
    p_guardian_id bigint, p_planner sisyphus.planner, p_heartbeat interval, p_now timestamptz)
returns double precision
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_at timestamptz := least(p_planner.next_tick_at, p_planner.last_tick_at + p_heartbeat);
begin
    if sisyphus._is_tick_due(p_planner, p_now) then
        return 0;
    end if;
    if (select count(*)
          from (select from sisyphus.guardian g
                 where g.ended_at is null and not g.periodic and g.guardian_id <> p_guardian_id
                   and g.seen_at > p_now - p_heartbeat and g.seen_at <= v_at - p_heartbeat
                 limit 3) c) = 3 then
        v_at := v_at + p_heartbeat;
    end if;
    return greatest(0, extract(epoch from v_at - p_now));
end
$$;
comment on function sisyphus._tick_in(bigint, sisyphus.planner, interval, timestamptz) is
    'In how many seconds a guardian that claims now is to tick, unless its next claim says otherwise';

-- No leader: any number of callers, the lock on the planner's row lets one in. A row lock, because any login could
-- hold an advisory lock. Of the lock order it waits for installation and lane_floor, and for job_state when the clock was set back.
create or replace function sisyphus.tick(seen_tick_at timestamptz default null)
returns timestamptz
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
-- Over all partitions the estimates look dear enough to compile: 200 ms a statement that takes one.
set jit = off
-- As for claim_job(): what is looked for is few among many.
set enable_seqscan = off
as $$
declare
    v_now constant timestamptz := sisyphus._clock();
    v_planner sisyphus.planner;
    v_setting sisyphus.setting;
    v_downtime_until timestamptz;
    v_more boolean;
    v_next timestamptz;
begin
    -- A caller who leaves the transaction open would hold the lock: the server ends that session.
    perform set_config('idle_in_transaction_session_timeout', '5s', true);
    select p.* into v_planner from sisyphus.planner p where sisyphus._is_tick_due(p, v_now) for update skip locked;
    if not found then
        select p.* into v_planner from sisyphus.planner p;
        if sisyphus._is_tick_due(v_planner, v_now) then
            -- The tick at work may not see what this one was called for. It began about when it was due: what has taken
            -- long goes on for long, and a whole fleet meets it.
            return v_now + greatest(interval '20 ms', v_now - greatest(v_planner.next_tick_at, v_now - interval '1 s'));
        end if;
        -- A retry that has been recorded since may be sooner.
        v_next := sisyphus._next_tick(false, v_now);
        if v_next < v_planner.next_tick_at then
            update sisyphus.planner p set next_tick_at = v_next
              from (select from sisyphus.planner l for update skip locked) l
             where p.next_tick_at > v_next;
        end if;
        return least(v_next, v_planner.next_tick_at);
    end if;
    perform sisyphus._check_installation(tick.seen_tick_at, v_now);
    select s.* into v_setting from sisyphus.setting s;
    v_downtime_until := case when v_now - v_planner.last_tick_at > v_setting.lease_timeout then v_now
                             when v_planner.downtime_until <= v_now then v_planner.downtime_until end;
    perform sisyphus._ensure_partitions(v_now);
    perform sisyphus._apply_pools(date_trunc('minute', v_planner.last_tick_at) is distinct from date_trunc('minute', v_now));
    if v_planner.last_tick_at > v_now + interval '1 s' then
        perform sisyphus._set_back(v_now);
    end if;
    v_more := sisyphus._apply_definitions(v_now) >= 1000;
    v_more := sisyphus._apply_run_requests(v_now) >= 1000 or v_more;
    v_more := sisyphus._reap(v_planner.last_tick_at, v_now) >= 100 or v_more;
    v_more := sisyphus._plan(v_downtime_until, v_now) >= 1000 or v_more;
    v_more := sisyphus._expire(v_now, 1000) >= 1000 or v_more;
    perform sisyphus._supersede_retries(v_now);
    v_more := sisyphus._promote(v_now) >= 1000 or v_more;
    perform sisyphus._pass_on(array(select distinct f.lane_id from sisyphus.lane_floor f), v_now);
    -- Asked of a claim that is over: nobody is left to answer.
    delete from sisyphus.request q
     using (select l.request_id from sisyphus.request l
             where l.guardian_id is not null
               and not exists (select from sisyphus.run r where r.run_id = l.run_id and r.claim_no = l.claim_no)
               for update skip locked) l
     where q.request_id = l.request_id;
    perform sisyphus._raise_floors();
    v_next := sisyphus._next_tick(v_more, v_now);
    update sisyphus.planner p
       set last_tick_at = v_now, newest_tick_at = greatest(p.newest_tick_at, v_now), next_tick_at = v_next,
           downtime_until = v_downtime_until
     where p.only_row;
    return v_next;
end
$$;
comment on function sisyphus.tick(timestamptz) is
    'One pass of the planner: occurrences become runs, requests are applied, stale runs expire, lost guardians are noticed. Returns when to call it next; safe to call from anywhere at any time. Guardians tell the newest tick they saw: SY001 in a database restored from before it';
grant execute on function sisyphus.tick(timestamptz) to sisyphus_guardian, sisyphus_admin;
