-- Waiting runs become pending here and nowhere else. Runs of exclusive jobs are decided under the lock of their
-- job_state row: two promoters that each see the target free would meet in run_exclusive_key.
-- Lock order: job_state (ids ascending), then run (SKIP LOCKED).

-- A due run of an exclusive job meets its predecessor: skip, queue or replace. Runs of run_many and backfill
-- (in_order) wait their turn and are nobody's predecessor; a run not yet due is never an overlap.
create or replace function sisyphus._settle_overlaps(p_job_ids bigint[], p_now timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_run record;
    v_target bigint[];
    v_is_live_seen boolean;
    -- Who has the target when a run is due, who waits behind it, and until when, if nobody starts them.
    v_first bigint;
    v_first_until timestamptz;
    v_second bigint;
    v_second_until timestamptz;
    v_loser bigint;
    v_reason text;
begin
    -- One after the other in the order of their due times, as ticks in time would have: what has expired since, and no
    -- sweep has ended yet, was live until then.
    for v_run in
        with asked as (
            select r.run_id, r.job_id, r.target, r.state, r.attempt, r.exclusive, r.due_at, r.expires_at, r.withdrawn,
                   -- A rerun has the due time of the occurrence it stands for.
                   greatest(r.due_at, r.requested_at) as asked_at
              from sisyphus.run r
             where r.job_id = any(p_job_ids) and not r.in_order),
        -- Several where the job allowed overlaps before: the first one speaks for all.
        live as (
            select distinct on (a.job_id, a.target) a.job_id, a.target, a.run_id, a.state, a.attempt, a.asked_at, a.expires_at
              from asked a
             where a.state in ('pending', 'claimed', 'running')
             order by a.job_id, a.target, a.asked_at, a.run_id)
        select r.run_id, r.job_id, r.target, r.asked_at, j.overlap,
               coalesce(r.expires_at, 'infinity') as expires_at,
               lead(r.run_id) over (partition by r.job_id, r.target order by r.asked_at, r.run_id) is null as is_newest,
               l.run_id as live_id, l.state as live_state, l.asked_at as live_asked_at,
               case when l.state = 'pending' and l.attempt = 0 then coalesce(l.expires_at, 'infinity') else 'infinity' end as live_until
          from asked r
          join sisyphus.job j on j.job_id = r.job_id
          left join live l on l.job_id = r.job_id and l.target = r.target
         where r.state = 'waiting' and r.exclusive
           -- Also those that are looked at again later: they wait all the same.
           and r.attempt = 0 and r.due_at <= p_now and r.withdrawn is null
           and not sisyphus._is_due_in_suspension(j, r.due_at, p_now)
         order by r.job_id, r.target, r.asked_at, r.run_id
    loop
        if v_target is distinct from array[v_run.job_id, v_run.target] then
            v_target := array[v_run.job_id, v_run.target];
            v_is_live_seen := false;
            v_first := null;
            v_second := null;
        end if;
        if not v_is_live_seen and v_run.live_asked_at <= v_run.asked_at then
            v_is_live_seen := true;
            v_second := v_first;
            v_second_until := v_first_until;
            v_first := v_run.live_id;
            v_first_until := v_run.live_until;
        end if;
        if v_second_until <= v_run.asked_at then
            v_second := null;
        end if;
        if v_first is null or v_first_until <= v_run.asked_at then
            v_first := v_second;
            v_first_until := v_second_until;
            v_second := null;
        end if;
        v_loser := null;
        if v_first is null then
            v_first := v_run.run_id;
            v_first_until := v_run.expires_at;
        elsif v_run.overlap = 'skip' then
            v_loser := v_run.run_id;
            v_reason := format('overlap: run %s was still live', v_first);
        elsif v_run.overlap = 'queue' and v_second is not null then
            v_loser := v_run.run_id;
            v_reason := format('overlap: run %s already waits', v_second);
        elsif v_run.overlap = 'replace' and (v_first is distinct from v_run.live_id or v_run.live_state = 'pending') then
            v_loser := v_first;
            v_reason := format('overlap: replaced by run %s', v_run.run_id);
            v_first := v_run.run_id;
            v_first_until := v_run.expires_at;
        else
            if v_run.overlap = 'replace' then
                v_loser := v_second;
                v_reason := format('overlap: replaced by run %s', v_run.run_id);
            end if;
            v_second := v_run.run_id;
            v_second_until := v_run.expires_at;
        end if;
        if v_loser is not null then
            perform sisyphus._end_unstarted(array[v_loser], 'skipped', array[v_reason], p_now);
        end if;
        -- Nothing is ended for one that can no longer start.
        if v_run.overlap = 'replace' and v_run.is_newest and v_run.expires_at > p_now
           and v_first = v_run.live_id and v_second = v_run.run_id then
            perform sisyphus._ask_holder(l.run_id, 'replace', format('replaced by run %s', v_run.run_id), p_now)
               from sisyphus.run l
              where l.job_id = v_run.job_id and l.target = v_run.target and not l.in_order and l.state in ('claimed', 'running')
                and greatest(l.due_at, l.requested_at) <= v_run.asked_at;
        end if;
    end loop;
end
$$;
comment on function sisyphus._settle_overlaps(bigint[], timestamptz) is
    'Decides skip, queue and replace for due runs of exclusive jobs';

-- A waiting retry gives way to the next occurrence, though that one may have come and gone since the last pass.
-- p_job_ids narrows it to jobs whose lock is held.
create or replace function sisyphus._supersede_retries(p_now timestamptz, p_job_ids bigint[] default null)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_late record;
begin
    -- Mostly there is none, and to plan what follows takes longer than all the rest of a tick: it looks into every
    -- partition of the history.
    if not exists (select from sisyphus.run r
                    where r.state = 'waiting' and r.attempt > 0 and r.exclusive and not r.in_order) then
        return;
    end if;
    for v_late in
        select r.run_id, coalesce(
                   (select min(n.run_id) from sisyphus.run n
                     where n.job_id = r.job_id and n.target = r.target and n.run_id <> r.run_id and n.attempt
                           <= (n.state in ('claimed', 'running'))::integer
                       and not n.in_order and n.due_at > t.asked_at and n.due_at <= p_now),
                   (select a.run_id from sisyphus.attempt a
                     -- By its name too: that has an index. Not the least number: that is sought in all rows.
                     where a.job = j.name and a.job_id = r.job_id and a.recorded_at >= t.asked_at and a.attempt > 0 and a.run_id <> r.run_id
                       and a.origin = 'schedule' and a.due_at > t.asked_at and a.due_at <= p_now
                       and (r.target = 0 or a.host = (select h.name from sisyphus.host h where h.host_id = r.target))
                     order by a.due_at, a.run_id limit 1)) as next_id
          from sisyphus.run r
          join sisyphus.job j on j.job_id = r.job_id
         cross join lateral (select greatest(r.due_at, r.requested_at) as asked_at) t
         where r.state = 'waiting' and r.attempt > 0 and r.exclusive and not r.in_order
           and (p_job_ids is null or r.job_id = any(p_job_ids))
    loop
        if v_late.next_id is not null then
            perform sisyphus._end_unstarted(array[v_late.run_id], 'cancelled',
                                            array[format('superseded by run %s', v_late.next_id)], p_now);
        end if;
    end loop;
end
$$;
comment on function sisyphus._supersede_retries(timestamptz, bigint[]) is
    'Ends waiting retries whose job''s next occurrence is due: the row of their last attempt becomes final';

-- What is claimed ahead and not yet due gives way to a run that is due (run_now, a late retry).
create or replace function sisyphus._recall_early(p_job_ids bigint[], p_now timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_early record;
begin
    for v_early in
        select e.run_id, e.state, e.due_at, w.run_id as waiter_id
          from sisyphus.run w
          join sisyphus.run e on e.job_id = w.job_id and e.target = w.target and e.exclusive
           and e.state in ('pending', 'claimed') and e.due_at > p_now and e.withdrawn is null
         where w.job_id = any(p_job_ids) and w.state = 'waiting' and w.exclusive
           and w.wake_at <= p_now and w.due_at <= p_now
    loop
        if v_early.state = 'pending' then
            update sisyphus.run r set state = 'waiting', ready_no = null, wake_at = v_early.due_at
              from (select l.run_id from sisyphus.run l
                     where l.run_id = v_early.run_id and case l.state when 'pending' then true end for update skip locked) l
             where r.run_id = l.run_id;
        else
            perform sisyphus._ask_holder(v_early.run_id, 'recall', format('run %s goes first', v_early.waiter_id), p_now);
        end if;
    end loop;
end
$$;
comment on function sisyphus._recall_early(bigint[], timestamptz) is
    'Takes back runs claimed ahead of time when a due run of the same target waits';

-- Where rows are looked up by number the state stands in a CASE, out of the planner's sight: see _promote().
-- p_wait: a finish waits for a promoter of its job that began before it, or what waited for it would sit out a
-- heartbeat. A tick never waits here: it holds such locks already.
create or replace function sisyphus._promote_exclusive(p_job_ids bigint[], p_wait boolean, p_now timestamptz)
returns bigint[]
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_job_ids bigint[];
    v_run_ids bigint[];
    v_ripe constant timestamptz := p_now + (sisyphus._setting()).claim_ahead;
begin
    v_job_ids := sisyphus._lock_states(p_job_ids, p_wait, p_now);
    if v_job_ids = '{}' then
        return null;
    end if;
    -- Each statement from here on sees what was committed before the lock was had.
    if exists (select from sisyphus.run r where r.state = 'waiting' and r.attempt > 0 and r.job_id = any(v_job_ids)) then
        perform sisyphus._supersede_retries(p_now, v_job_ids);
    end if;
    perform sisyphus._settle_overlaps(v_job_ids, p_now);
    perform sisyphus._recall_early(v_job_ids, p_now);
    with head as (
        select distinct on (r.job_id, r.target) r.run_id
          from sisyphus.run r
         where r.job_id = any(v_job_ids) and r.state = 'waiting' and r.exclusive and r.withdrawn is null
           and (r.wake_at <= p_now or r.wake_at = 'infinity' or (r.attempt = 0 and r.due_at <= v_ripe))
           and not (r.attempt = 0 and coalesce(r.expires_at <= p_now, false))
           and not exists (select from sisyphus.run l
                            where l.job_id = r.job_id and l.target = r.target
                              and l.state in ('pending', 'claimed', 'running'))
         -- An occurrence that is due goes before what waits its turn.
         order by r.job_id, r.target, r.in_order, r.due_at, r.run_id),
    locked as materialized (
        select r.run_id
          from head h
          join sisyphus.run r on r.run_id = h.run_id
         where case r.state when 'waiting' then true end
           for no key update of r skip locked),
    promoted as (
        update sisyphus.run r
           set state = 'pending', wake_at = null, ready_no = nextval('sisyphus.ready_no_seq')
          from locked l
         where r.run_id = l.run_id
        returning r.run_id)
    select array_agg(p.run_id) into v_run_ids from promoted p;
    -- What stays behind is looked at again when it is due, or a heartbeat later; of a long row that waits its
    -- turn only the first one is.
    with again as materialized (
        select r.run_id, r.wake_at, r.due_at, r.in_order,
               row_number() over (partition by r.job_id, r.target, r.in_order order by r.due_at, r.run_id) as nth
          from sisyphus.run r
         where r.job_id = any(v_job_ids) and r.state = 'waiting' and r.exclusive
           and (r.wake_at <= p_now or r.wake_at = 'infinity')),
    locked as materialized (
        select r.run_id, a.nth, a.due_at, a.in_order
          from again a
          join sisyphus.run r on r.run_id = a.run_id
         where case r.state when 'waiting' then a.nth = 1 or not a.in_order or a.wake_at <> 'infinity' end
           for no key update of r skip locked)
    update sisyphus.run r
       set wake_at = case when l.in_order and l.nth > 1 then 'infinity'
                          when l.due_at > p_now then l.due_at
                          else p_now + s.heartbeat end
      from locked l, sisyphus.setting s
     where r.run_id = l.run_id;
    return v_run_ids;
end
$$;
comment on function sisyphus._promote_exclusive(bigint[], boolean, timestamptz) is
    'For each free target of exclusive jobs makes the oldest waiting run pending; returns those';

-- A retry is for another host, where one is idle; when that has not taken it within a heartbeat, for any.
create or replace function sisyphus._send_elsewhere(p_run_ids bigint[], p_now timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_retry record;
begin
    for v_retry in
        select r.run_id, sisyphus._idle_host(r.lane_id, p_now, r.last_host_id) as host_id
          from sisyphus.run r
         where r.run_id = any(p_run_ids) and r.attempt > 0 and r.last_host_id is not null
    loop
        if v_retry.host_id is not null then
            update sisyphus.run r set anywhere_at = p_now + s.heartbeat from sisyphus.setting s where r.run_id = v_retry.run_id;
            perform sisyphus._wake_host(v_retry.host_id);
        end if;
    end loop;
end
$$;
comment on function sisyphus._send_elsewhere(bigint[], timestamptz) is
    'Keeps retries that have become claimable from the host of the attempt before, where another one is idle, and wakes that one';

-- One pass over waiting runs whose time has come; p_job_ids narrows it to jobs that have just become free.
create or replace function sisyphus._promote(
    p_now timestamptz, p_job_ids bigint[] default null, p_wait boolean default false, p_limit integer default 1000)
returns integer
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_ripe timestamptz;
    v_candidate record;
    v_promoted bigint[];
    v_free bigint[];
begin
    -- Most calls find nothing to do.
    if p_job_ids is null and not exists (select from sisyphus.run r where r.state = 'waiting' and r.wake_at <= p_now) then
        return 0;
    end if;
    v_ripe := p_now + (sisyphus._setting()).claim_ahead;
    select count(*) as n, bool_or(c.attempt > 0) as has_retries,
           array_agg(distinct c.job_id) filter (where c.exclusive and c.job_id <> 0) as exclusive_ids,
           array_agg(distinct c.job_id) filter (where not c.fits) as unfit_ids,
           array_agg(c.run_id) filter (where not c.exclusive) as free_ids
      into v_candidate
      from (select r.run_id, r.job_id, r.attempt,
                   -- As _fit_runs() will have made it.
                   coalesce(j.overlap <> 'allow', r.exclusive) as exclusive,
                   r.job_id = 0 or (j.deleted_at is null
                       and (j.suspended_at is null or coalesce(j.suspended_until <= p_now, false))
                       and j.version = r.job_version and r.withdrawn is null
                       -- Due in a suspension that has ended: the next tick skips it.
                       and not exists (select from sisyphus.request q
                                        where q.guardian_id is null and q.action = 'define' and q.job_id = r.job_id
                                          and q.suspended_until >= r.due_at)) as fits
              from sisyphus.run r
              left join sisyphus.job j on j.job_id = r.job_id
             where r.state = 'waiting'
               and (p_job_ids is null and r.wake_at <= p_now
                    or r.job_id = any(p_job_ids)
                       and (r.wake_at <= p_now or r.wake_at = 'infinity' or (r.attempt = 0 and r.due_at <= v_ripe)))
             order by r.wake_at
             limit p_limit) c;
    if v_candidate.n = 0 then
        return 0;
    end if;
    -- Ticks wait for what is locked from here on; a caller who leaves the transaction open is ended by the server.
    perform set_config('idle_in_transaction_session_timeout', '5s', true);
    -- Before the first number is drawn, until its commit: _raise_floors() sees by it who may still have one.
    lock table sisyphus.lane_floor in row exclusive mode;
    if v_candidate.unfit_ids is not null then
        perform sisyphus._fit_runs(v_candidate.unfit_ids, p_now);
    end if;
    if v_candidate.exclusive_ids is not null then
        v_promoted := sisyphus._promote_exclusive(v_candidate.exclusive_ids, p_wait, p_now);
    end if;
    if v_candidate.free_ids is not null then
        with locked as materialized (
            -- Each by its number: with "state = 'waiting'" as a condition all that waits is read, and compared each with each.
            select r.run_id
              from unnest(v_candidate.free_ids) c (run_id)
              join sisyphus.run r on r.run_id = c.run_id
             where case r.state when 'waiting' then not r.exclusive and r.withdrawn is null and r.wake_at <= p_now end
             order by r.due_at, r.run_id
               for no key update of r skip locked),
        freed as (
            update sisyphus.run r
               set state = 'pending', wake_at = null, ready_no = nextval('sisyphus.ready_no_seq')
              from locked l
             where r.run_id = l.run_id
            returning r.run_id)
        select array_agg(f.run_id) into v_free from freed f;
        v_promoted := v_promoted || v_free;
    end if;
    if v_promoted is not null and v_candidate.has_retries then
        perform sisyphus._send_elsewhere(v_promoted, p_now);
    end if;
    if v_promoted is not null then
        insert into sisyphus.lane_floor (lane_id, priority)
        select distinct r.lane_id, r.priority
          from sisyphus.run r
         where r.run_id = any(v_promoted)
           and not exists (select from sisyphus.lane_floor f where f.lane_id = r.lane_id and f.priority = r.priority)
         order by 1, 2
            on conflict do nothing;
    end if;
    return coalesce(cardinality(v_promoted), 0);
end
$$;
comment on function sisyphus._promote(timestamptz, bigint[], boolean, integer) is
    'Makes waiting runs claimable whose time has come and whose target is free; returns how many';
