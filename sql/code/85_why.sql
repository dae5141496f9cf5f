-- Why a run has not started, in a sentence. Read-only; never locks.

create or replace function sisyphus._ago(p_at timestamptz, p_now timestamptz) returns text
language sql
immutable
strict
parallel safe
begin atomic
    select case when p_at <= p_now then sisyphus._duration_text(p_now - p_at) || ' ago'
                else 'in ' || sisyphus._duration_text(p_at - p_now) end;
end;
comment on function sisyphus._ago(timestamptz, timestamptz) is 'How far a moment is from now: 3 min ago, in 20 s';

create or replace function sisyphus._lane_name(p_lane_id bigint) returns text
language plpgsql
stable
strict
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce((select format('pool "%s"', p.name) from sisyphus.pool p where p.pool_id = p_lane_id),
                    (select format('host "%s"', h.name) from sisyphus.host h where h.host_id = p_lane_id));
end
$$;
comment on function sisyphus._lane_name(bigint) is 'A lane as a person calls it: pool "web", host "web1"';

create or replace function sisyphus._why_lane_waits(p_lane_id bigint, p_now timestamptz) returns text
language plpgsql
stable
strict
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lane constant text := sisyphus._lane_name(p_lane_id);
    v_active bigint;
    v_slots bigint;
    v_others text;
    v_other bigint;
    v_busy bigint;
    v_busy_with text;
begin
    select count(*) filter (where f.state in ('active', 'periodic')),
           sum(f.slots) filter (where f.state in ('active', 'periodic')),
           string_agg(format('%s is %s', f.host, f.state), ', ' order by f.host) filter (where f.nth <= 5),
           count(f.nth)
      into v_active, v_slots, v_others, v_other
      from (select f.host, f.state, f.slots,
                   case when f.state not in ('active', 'periodic')
                        then row_number() over (partition by f.state in ('active', 'periodic') order by f.host) end as nth
              from sisyphus.host h
                   join sisyphus.fleet f on f.host = h.name
             where p_lane_id = any(h.lanes)) f;
    if v_active = 0 and v_lane like 'host %' then
        return v_lane || coalesce(regexp_replace(v_others, '^.* is ', ' is '), ' never had a guardian');
    elsif v_active = 0 then
        return format('no active host in %s', v_lane) || coalesce(': ' || v_others, '')
               || case when v_other > 5 then format(' and %s more', v_other - 5) else '' end;
    elsif v_slots = 0 then
        return format(case when v_lane like 'host %' then '%s has no slot' else 'no host in %s has a slot' end, v_lane)
               || ': set_slots() changes that';
    end if;
    select count(*), string_agg(r.text, ', ' order by r.run_id) filter (where r.nth <= 5) into v_busy, v_busy_with
      from (select r.run_id, row_number() over (order by r.run_id) as nth,
                   format('run %s of %s on %s', r.run_id, coalesce(j.name, 'no job'), h.name) as text
              from sisyphus.host h
                   join sisyphus.run r on r.host_id = h.host_id
                                      and (r.state = 'running' or r.state = 'claimed' and r.due_at <= p_now)
                   left join sisyphus.job j on j.job_id = r.job_id
             where p_lane_id = any(h.lanes)) r;
    if v_busy >= v_slots then
        return format('every slot of %s is busy: %s%s', v_lane, v_busy_with,
                      case when v_busy > 5 then format(' and %s more', v_busy - 5) else '' end);
    end if;
    return '';
end;
$$;
comment on function sisyphus._why_lane_waits(bigint, timestamptz) is
    'What keeps the hosts of a lane from all that is due in it: none active, no free slot; empty: nothing';

-- Definer: views call it as the reader, once for all of their rows.
create or replace function sisyphus._why_lanes_wait() returns jsonb
language sql
stable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
as $$
    select jsonb_object_agg(l.lane_id, sisyphus._why_lane_waits(l.lane_id, l.now))
      from (select distinct r.lane_id, n.now
              from (select sisyphus._clock() as now) n
                   join sisyphus.run r on r.state = 'pending' and r.due_at <= n.now) l
$$;
comment on function sisyphus._why_lanes_wait() is
    'What _why_lane_waits() says of each lane that has due, pending runs, by its number';

create or replace function sisyphus._why_unclaimed(p_run sisyphus.run, p_now timestamptz, p_why_lane text, p_ahead bigint)
returns text
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lane constant text := sisyphus._lane_name(p_run.lane_id);
    v_why_lane constant text := coalesce(p_why_lane, sisyphus._why_lane_waits(p_run.lane_id, p_now));
    v_ahead bigint := p_ahead;
begin
    if v_why_lane <> '' then
        return v_why_lane;
    end if;
    if v_ahead is null then
        -- No more than a person wants to know.
        select count(*) into v_ahead
          from (select from sisyphus.run r
                 where r.state = 'pending' and r.lane_id = p_run.lane_id and r.due_at <= p_now and r.priority > p_run.priority
                 union all
                select from sisyphus.run r
                 where r.state = 'pending' and r.lane_id = p_run.lane_id and r.due_at <= p_now and r.priority = p_run.priority
                   and r.ready_no < p_run.ready_no
                 limit 101) a;
    end if;
    if v_ahead > 0 then
        return format('%s due %s of %s before it', case when v_ahead > 100 then 'more than 100' else v_ahead::text end,
                      case v_ahead when 1 then 'run' else 'runs' end, v_lane);
    end if;
    return format(case when v_lane like 'host %' then '%s takes it at its next claim' else 'a host of %s takes it at its next claim' end, v_lane);
end;
$$;
comment on function sisyphus._why_unclaimed(sisyphus.run, timestamptz, text, bigint) is
    'What keeps a due, pending run from being claimed: its lane, others before it (null: not asked yet)';

-- A waiting run: what it waits for.
create or replace function sisyphus._why_waiting(p_run sisyphus.run, p_now timestamptz) returns text
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_other record;
    v_last_tick_at timestamptz;
begin
    if p_run.exclusive then
        select r.run_id, r.state, h.name as host into v_other
          from sisyphus.run r
               left join sisyphus.host h on h.host_id = r.host_id
         where r.job_id = p_run.job_id and r.target = p_run.target and r.run_id <> p_run.run_id
           and (r.exclusive and r.state in ('pending', 'claimed', 'running')
                or p_run.in_order and r.in_order and r.state = 'waiting' and r.run_id < p_run.run_id)
         order by r.state = 'waiting', r.run_id
         limit 1;
        if found then
            return format('blocked by run %s of the same job, which is %s%s', v_other.run_id, v_other.state,
                          coalesce(' on ' || v_other.host, ''));
        end if;
    end if;
    if p_run.attempt > 0 and p_run.wake_at > p_now then
        return format('attempt %s follows %s', p_run.attempt + 1, sisyphus._ago(p_run.wake_at, p_now));
    elsif p_run.wake_at > p_now and isfinite(p_run.wake_at) then
        return format('is looked at again %s', sisyphus._ago(p_run.wake_at, p_now));
    end if;
    select p.last_tick_at into v_last_tick_at from sisyphus.planner p;
    if v_last_tick_at is null or v_last_tick_at < p_now - 2 * (select s.heartbeat from sisyphus.setting s) then
        return format('the planner has not ticked since %s: no guardian is alive',
                      coalesce(sisyphus._instant_text(v_last_tick_at), 'it was installed'));
    end if;
    return 'the next tick makes it claimable';
end;
$$;
comment on function sisyphus._why_waiting(sisyphus.run, timestamptz) is
    'What a waiting run waits for: its retry delay, another run, its turn, a tick';

create or replace function sisyphus._why_unstarted_now(
    p_run sisyphus.run, p_now timestamptz, p_why_lane text default null, p_ahead bigint default null)
returns text
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_job sisyphus.job;
    v_request sisyphus.request;
begin
    select q.* into v_request
      from sisyphus.request q
     where q.run_id = p_run.run_id and q.action in ('cancel', 'terminate')
     order by q.request_id
     limit 1;
    if found then
        return format('%s was asked by %s %s', v_request.action, v_request.role_name,
                      sisyphus._ago(v_request.requested_at, p_now));
    end if;
    select j.* into v_job from sisyphus.job j where j.job_id = p_run.job_id;
    if v_job.deleted_at is not null then
        return format('job "%s" was unscheduled %s', v_job.name, sisyphus._ago(v_job.deleted_at, p_now));
    elsif v_job.suspended_at is not null and (v_job.suspended_until is null or v_job.suspended_until > p_now) then
        return format('job "%s" was suspended %s', v_job.name, sisyphus._ago(v_job.suspended_at, p_now))
               || coalesce(': ' || v_job.suspend_reason, '');
    elsif p_run.attempt = 0 and p_run.expires_at <= p_now then
        return format('its ttl passed %s; the next tick records that', sisyphus._ago(p_run.expires_at, p_now));
    elsif p_run.attempt = 0 and p_run.due_at > p_now then
        return format('not yet due: due %s, at %s', sisyphus._ago(p_run.due_at, p_now), sisyphus._instant_text(p_run.due_at));
    elsif p_run.state = 'waiting' then
        return sisyphus._why_waiting(p_run, p_now);
    end if;
    return sisyphus._why_unclaimed(p_run, p_now, p_why_lane, p_ahead);
end;
$$;
comment on function sisyphus._why_unstarted_now(sisyphus.run, timestamptz, text, bigint) is
    'Why a waiting or pending run has not been claimed in an installation that has no problem';

-- Definer: views overdue and live call it as the reader; plpgsql for its kept plan.
create or replace function sisyphus._why_late(
    p_run_id bigint, p_now timestamptz, p_why_lane text default null, p_ahead bigint default null)
returns text
language plpgsql
stable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return (select sisyphus._why_unstarted_now(r, p_now, p_why_lane, p_ahead) from sisyphus.run r where r.run_id = p_run_id);
end
$$;
comment on function sisyphus._why_late(bigint, timestamptz, text, bigint) is
    'Why a run, by number, has not been claimed in an installation that has no problem; p_why_lane: what _why_lane_waits() says, p_ahead: how many due runs of its lane go before it; null: to be asked';

grant execute on function sisyphus._why_lanes_wait(), sisyphus._why_late(bigint, timestamptz, text, bigint)
    to sisyphus_admin, sisyphus_author, sisyphus_operator, sisyphus_viewer;
