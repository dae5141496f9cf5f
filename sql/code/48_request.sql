-- Callers insert requests; ticks and claims apply them after commit. A request whose run is locked by another
-- transaction stays for the next pass.

-- locks: run, by SKIP LOCKED. Hands a request to the guardian that holds the run.
create or replace function sisyphus._ask_holder(p_run_id bigint, p_what text, p_reason text, p_now timestamptz)
returns boolean
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_run sisyphus.run;
begin
    select r.* into v_run from sisyphus.run r
     where r.run_id = p_run_id and r.state in ('claimed', 'running')
       for no key update skip locked;
    if not found then
        return false;
    end if;
    if p_what in ('terminate', 'replace') then
        if v_run.stopping is not null then
            return true;
        end if;
        update sisyphus.run r
           set stopping = p_what, reason = p_reason,
               withdrawn = case when r.state = 'claimed' then 'cancelled' end
         where r.run_id = p_run_id;
    elsif v_run.state = 'claimed' and v_run.withdrawn is null then
        update sisyphus.run r
           set withdrawn = case p_what when 'recall' then 'waiting' else p_what end, reason = p_reason
         where r.run_id = p_run_id;
    else
        return v_run.state = 'claimed';
    end if;
    insert into sisyphus.request (action, run_id, claim_no, guardian_id, reason, role_name, requested_at)
    values (case when p_what in ('terminate', 'replace') then 'terminate' else 'recall' end,
            v_run.run_id, v_run.claim_no, v_run.guardian_id, p_reason, sisyphus._caller(), p_now);
    perform sisyphus._wake_host(v_run.host_id);
    return true;
end
$$;
comment on function sisyphus._ask_holder(bigint, text, text, timestamptz) is
    'Asks the guardian of a claimed or running run to terminate or replace it, or to give it back (recall, skipped, cancelled); false: not held or locked';

-- What a guardian gave back goes where it was withdrawn to, or is free for others at once.
create or replace function sisyphus._give_back(p_run_ids bigint[], p_now timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lane bigint;
begin
    perform sisyphus._end_unstarted(array_agg(r.run_id), r.withdrawn, array_agg(coalesce(r.reason, 'withdrawn')), p_now)
       from sisyphus.run r
      where r.run_id = any(p_run_ids) and r.withdrawn in ('cancelled', 'skipped')
      group by r.withdrawn;
    update sisyphus.run r
       set withdrawn = null, reason = null
     where r.run_id = any(p_run_ids) and r.withdrawn = 'waiting';
    delete from sisyphus.request q where q.run_id = any(p_run_ids) and q.guardian_id is not null;
    perform sisyphus._promote(p_now, array_agg(distinct r.job_id))
       from sisyphus.run r
      where r.run_id = any(p_run_ids)
     having count(*) > 0;
    for v_lane in
        select distinct r.lane_id from sisyphus.run r
         where r.run_id = any(p_run_ids) and case r.state when 'pending' then true end
    loop
        perform sisyphus._wake_lane(v_lane, p_now);
    end loop;
end
$$;
comment on function sisyphus._give_back(bigint[], timestamptz) is
    'Settles runs that were given back unstarted: withdrawn ones end, the others become claimable again';

-- locks: the caller holds the run.
create or replace function sisyphus._pause_run(p_run sisyphus.run, p_request sisyphus.request, p_now timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    if p_run.state <> 'running' or p_run.stopping is not null then
        insert into sisyphus.audit (at, role_name, action, object, before, after)
        values (p_now, p_request.role_name, p_request.action, p_run.run_id::text, null,
                jsonb_build_object('changed', false, 'why',
                                   case when p_run.stopping is null then 'the run was not running' else 'the run was ending' end));
        return;
    end if;
    update sisyphus.run r
       set paused_at = case p_request.action when 'pause' then coalesce(r.paused_at, p_now) end
     where r.run_id = p_run.run_id;
    insert into sisyphus.request (action, run_id, claim_no, guardian_id, reason, role_name, requested_at)
    values (p_request.action, p_run.run_id, p_run.claim_no, p_run.guardian_id, p_request.reason, p_request.role_name, p_now);
    perform sisyphus._wake_host(p_run.host_id);
end
$$;
comment on function sisyphus._pause_run(sisyphus.run, sisyphus.request, timestamptz) is
    'Notes that a running run is paused or goes on, and asks its guardian for it; anything else is noted in the audit log';

create or replace function sisyphus._apply_run_requests(p_now timestamptz, p_limit integer default 1000)
returns integer
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_request sisyphus.request;
    v_run sisyphus.run;
    v_count integer := 0;
begin
    perform sisyphus._apply_orders();
    for v_request in
        select q.* from sisyphus.request q
         where q.guardian_id is null and q.job_id is null and q.run_id is not null
         order by q.request_id
         limit p_limit
           for update skip locked
    loop
        v_count := v_count + 1;
        -- A locked run is found by the second look alone: then the request stays.
        select r.* into v_run from sisyphus.run r where r.run_id = v_request.run_id for no key update skip locked;
        if not found then
            delete from sisyphus.request q
             where q.request_id = v_request.request_id
               and not exists (select from sisyphus.run r where r.run_id = v_request.run_id);
        elsif v_request.action in ('pause', 'unpause') then
            perform sisyphus._pause_run(v_run, v_request, p_now);
            delete from sisyphus.request q where q.request_id = v_request.request_id;
        elsif v_run.state in ('waiting', 'pending') then
            -- A KEY SHARE lock (assert_current) lets the look through and not the end.
            if sisyphus._end_unstarted(array[v_run.run_id], 'cancelled', array[v_request.reason], p_now) = 1 then
                delete from sisyphus.request q where q.request_id = v_request.request_id;
            end if;
        else
            if v_request.action = 'terminate' then
                perform sisyphus._ask_holder(v_run.run_id, 'terminate', v_request.reason, p_now);
            elsif v_run.state = 'claimed' then
                perform sisyphus._ask_holder(v_run.run_id, 'cancelled', v_request.reason, p_now);
            else
                insert into sisyphus.audit (at, role_name, action, object, before, after)
                values (p_now, v_request.role_name, v_request.action, v_run.run_id::text, null,
                        '{"changed": false, "why": "the run had started"}');
            end if;
            delete from sisyphus.request q where q.request_id = v_request.request_id;
        end if;
    end loop;
    return v_count;
end
$$;
comment on function sisyphus._apply_run_requests(timestamptz, integer) is
    'Applies committed orders for hosts, and requests about runs (cancel, terminate, pause, unpause); returns how many of these were looked at';
