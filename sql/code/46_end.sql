-- How a run ends without having been started, and what a waiting retry that gives way leaves.

-- locks: run, by SKIP LOCKED; a locked one stays for the next pass.
create or replace function sisyphus._end_unstarted(
    p_run_ids bigint[], p_state text, p_reasons text[], p_now timestamptz)
returns integer
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_count integer;
begin
    if coalesce(cardinality(p_run_ids), 0) = 0 then
        return 0;
    end if;
    with given as (
        select g.run_id, g.reason from unnest(p_run_ids, p_reasons) g (run_id, reason)),
    locked as materialized (
        select r.run_id, g.reason
          from given g
          join sisyphus.run r on r.run_id = g.run_id
         where r.state in ('waiting', 'pending')
           for update of r skip locked),
    ended as (
        delete from sisyphus.run r using locked l where r.run_id = l.run_id
        returning r.*, l.reason as why),
    -- A retry that waits has a row of its last attempt already: that one becomes the final one.
    finalised as (
        update sisyphus.attempt a
           set is_final = true,
               reason = regexp_replace(a.reason, '; attempt [0-9]+ of [0-9]+ follows in [^;)]+', '') || '; not retried: ' || e.why
          from ended e
         where e.attempt > 0 and a.run_id = e.run_id and a.attempt = e.attempt and not a.is_final
        returning a.run_id),
    recorded as (
        insert into sisyphus.attempt (
            run_id, job_id, due_at, nominal_at, expires_at, requested_at, finished_at, recorded_at, attempt,
            job_version, retention_days, is_final, state, origin, job, owner, pool, host, reason, payload, command)
        select e.run_id, e.job_id, e.due_at, e.nominal_at, e.expires_at, e.requested_at, p_now, p_now, 0,
               e.job_version, coalesce(j.retain_failure, sisyphus._retention_class(s.retention_failure)), true,
               p_state, e.origin, j.name, coalesce(d.changed_by, j.owner, (e.spec ->> 'owner')::name), p.name, h.name, e.why,
               coalesce(e.payload, case when d.version is null then j.payload end),
               coalesce(e.spec ->> 'command', e.spec ->> 'argv')
          from ended e
          cross join sisyphus.setting s
          left join sisyphus.job j on j.job_id = e.job_id
          -- Of the job that had the name before, asked for in a transaction that was open until then.
          left join sisyphus.job_definition d
            on d.job_id = e.job_id and d.version = e.job_version and e.requested_at < j.created_at
          left join sisyphus.pool p on p.pool_id = coalesce(j.pool_id, e.lane_id)
          left join sisyphus.host h on h.host_id = e.lane_id
         where e.attempt = 0
        returning run_id)
    select count(*) into v_count from ended;
    return v_count;
end
$$;
comment on function sisyphus._end_unstarted(bigint[], text, text[], timestamptz) is
    'Ends waiting and pending runs in a state with a reason each; returns how many';

create or replace function sisyphus._why_unstarted(p_run sisyphus.run, p_now timestamptz)
returns text
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lane text;
    v_hosts integer;
    v_draining integer;
    v_slots bigint;
    v_free bigint;
    v_blocker bigint;
begin
    select coalesce('pool "' || p.name || '"', 'host "' || h.name || '"') into v_lane
      from (select) one
      left join sisyphus.pool p on p.pool_id = p_run.lane_id
      left join sisyphus.host h on h.host_id = p_run.lane_id;
    select count(*) filter (where h.state = 'active'), count(*) filter (where h.state = 'draining'),
           coalesce(sum(h.slots) filter (where h.state = 'active'), 0),
           coalesce(sum(g.slots_free) filter (where h.state = 'active'), 0)
      into v_hosts, v_draining, v_slots, v_free
      from sisyphus.host h
      join sisyphus.guardian g on g.host_id = h.host_id and g.ended_at is null and g.lease_until > p_now
     where p_run.lane_id = any(h.lanes);
    if v_hosts = 0 and v_lane like 'host %' then
        return v_lane || case when v_draining > 0 then ' is draining' else ' was away' end;
    elsif v_hosts = 0 and v_draining > 0 then
        return format('all active hosts of %s are draining', v_lane);
    elsif v_hosts = 0 then
        return format('no active host in %s', v_lane);
    elsif v_slots = 0 then
        return format('the hosts of %s have no slots', v_lane);
    end if;
    if p_run.exclusive and p_run.state = 'waiting' then
        select r.run_id into v_blocker
          from sisyphus.run r
         where r.job_id = p_run.job_id and r.target = p_run.target and r.exclusive and r.run_id <> p_run.run_id
           and r.state in ('pending', 'claimed', 'running');
        if v_blocker is not null then
            return format('run %s of the job was still live', v_blocker);
        end if;
    end if;
    return coalesce(p_run.reason || '; ', '')
           || case when v_free > 0 then format('%s had a free slot, but no guardian took it in time', v_lane)
                   else format('every slot of %s was busy', v_lane) end;
end
$$;
comment on function sisyphus._why_unstarted(sisyphus.run, timestamptz) is
    'Why a due run has not been claimed, in words: no active host, draining, blocked, no slot';

-- locks: job_state (ids ascending, SKIP LOCKED), then run, as a promoter does.
create or replace function sisyphus._expire(p_now timestamptz, p_limit integer)
returns integer
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    -- Of the tick before this one.
    v_last_tick_at constant timestamptz := (select p.last_tick_at from sisyphus.planner p);
    v_is_downtime constant boolean := p_now - v_last_tick_at > (sisyphus._setting()).lease_timeout;
    v_looked_ids bigint[];
    v_met_ids bigint[];
    v_free_ids bigint[];
    v_ids bigint[];
    v_reasons text[];
begin
    select array_agg(r.run_id) into v_looked_ids
      from (select r.run_id
              from sisyphus.run r
             where r.state in ('waiting', 'pending') and r.attempt = 0 and r.expires_at <= p_now and r.withdrawn is null
             order by r.expires_at
             limit p_limit) r;
    if v_looked_ids is null then
        return 0;
    end if;
    -- A tick that comes late: who was still live when another was due is decided first.
    select array_agg(distinct r.job_id) into v_met_ids
      from sisyphus.run r
     where r.run_id = any(v_looked_ids) and r.exclusive and not r.in_order
       and exists (select from sisyphus.run n
                    where n.job_id = r.job_id and n.target = r.target and n.run_id <> r.run_id and not n.in_order
                      and n.due_at < r.expires_at and n.due_at <= p_now);
    if v_met_ids is not null then
        select array_agg(l.job_id) into v_free_ids
          from (select s.job_id from sisyphus.job_state s
                 where s.job_id = any(v_met_ids) order by s.job_id for update skip locked) l;
        perform sisyphus._settle_overlaps(v_free_ids, p_now);
    end if;
    select array_agg(r.run_id),
           array_agg(format('not started within %s: %s',
                            sisyphus._duration_text(r.expires_at - coalesce(r.requested_at, r.due_at)),
                            case when v_is_downtime and v_last_tick_at <= r.due_at then 'nothing ran here during a downtime'
                                 else sisyphus._why_unstarted(r, p_now) end))
      into v_ids, v_reasons
      from sisyphus.run r
     where r.run_id = any(v_looked_ids) and r.state in ('waiting', 'pending')
       -- Somebody is just deciding these.
       and not (r.job_id = any(coalesce(v_met_ids, '{}')) and r.job_id <> all(coalesce(v_free_ids, '{}')));
    perform sisyphus._end_unstarted(v_ids, 'expired', v_reasons, p_now);
    return cardinality(v_looked_ids);
end
$$;
comment on function sisyphus._expire(timestamptz, integer) is
    'Ends runs whose ttl has passed before they started; returns how many it looked at, at most p_limit';

create or replace function sisyphus._is_due_in_suspension(p_job sisyphus.job, p_due_at timestamptz, p_now timestamptz)
returns boolean
language sql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select sisyphus._is_suspended(p_job, p_now)
           or exists (select from sisyphus.request q
                       where q.guardian_id is null and q.action = 'define' and q.job_id = p_job.job_id
                         and q.suspended_until >= p_due_at)
$$;
comment on function sisyphus._is_due_in_suspension(sisyphus.job, timestamptz, timestamptz) is
    'Whether a run that is due by now falls into a suspension, also into one that has ended and no tick has applied yet';

-- When a suspension has ended, whatever was due by then and has not started is left out; so it does not matter whether
-- a tick came in between; what a guardian was asked for ends when it comes back. What was asked for after it stays.
create or replace function sisyphus._skip_suspended(p_job sisyphus.job, p_until timestamptz, p_now timestamptz)
returns void
language sql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
    select sisyphus._end_unstarted(
               array_agg(r.run_id), 'skipped',
               array_agg(sisyphus._suspended_text(p_job.suspend_reason)), p_now)
      from sisyphus.run r
     where r.job_id = p_job.job_id and r.state in ('waiting', 'pending') and r.due_at <= p_until
       and coalesce(r.requested_at < p_until, true);
    update sisyphus.run r
       set withdrawn = 'skipped', reason = sisyphus._suspended_text(p_job.suspend_reason)
      from (select c.run_id from sisyphus.run c
             where c.job_id = p_job.job_id and c.state = 'claimed' and c.withdrawn = 'waiting' and c.due_at <= p_until
               and coalesce(c.requested_at < p_until, true)
               for no key update skip locked) c
     where r.run_id = c.run_id;
$$;
comment on function sisyphus._skip_suspended(sisyphus.job, timestamptz, timestamptz) is
    'Ends what a suspension that is over has withdrawn, of what was due by its end';
