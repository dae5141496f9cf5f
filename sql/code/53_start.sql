-- What becomes of a claim before its process ends: it has started, or it is given back.

create or replace function sisyphus.start_job(
    guardian_id bigint, run_ids bigint[], claim_nos bigint[],
    pids integer[] default null, started_at timestamptz[] default null)
returns table (run_id bigint, claim_no bigint, answer text)
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
-- Probe by probe, whatever the statistics say: a hash or merge join reads all that is held, and while an old snapshot
-- is held all that has ended since. Locked in a lateral look-up and written by its place: joined by number, a plan that
-- was made while few runs were there would read all of them for ever. The state stands in a CASE, out of the planner's sight.
-- What was changed between look and lock is busy.
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
#variable_conflict use_column
declare
    v_now constant timestamptz := sisyphus._clock();
    v_me constant bigint := start_job.guardian_id;
    v_started bigint[];
begin
    perform sisyphus._check_guardian(v_me);
    if not sisyphus._is_home(null) then
        perform sisyphus._check_installation(null, v_now);
    end if;
    with given as (
        select i.* from unnest(run_ids, claim_nos, pids, start_job.started_at) i (run_id, claim_no, pid, started_at)),
    held as materialized (
        select r.place, i.pid, i.started_at
          from given i
         cross join lateral (
              select r.ctid as place
                from sisyphus.run r
               where r.run_id = i.run_id and r.claim_no = i.claim_no and coalesce(r.guardian_id, 0) = v_me
                 and case r.state when 'claimed' then true end
                 for no key update skip locked) r),
    started as (
        update sisyphus.run r
           set state = 'running', pid = h.pid,
               started_at = least(greatest(coalesce(h.started_at, v_now), r.claimed_at), v_now),
               -- It started before a recall reached it, and runs on.
               withdrawn = null
          from held h
         where r.ctid = h.place
        returning r.run_id)
    select array_agg(s.run_id) into v_started from started s;
    return query
        select i.run_id, i.claim_no,
               case when i.run_id = any(v_started) then 'accepted'
                    when r.run_id is null then 'refused'
                    when r.state = 'running' then 'already'
                    else 'busy' end
          from unnest(run_ids, claim_nos) i (run_id, claim_no)
          left join sisyphus.run r on r.run_id = i.run_id and r.claim_no = i.claim_no and coalesce(r.guardian_id, 0) = v_me;
end
$$;
comment on function sisyphus.start_job(bigint, bigint[], bigint[], integer[], timestamptz[]) is
    'Reports processes that have started (no permission: it is skipped for runs that end within a moment); answers accepted, already, busy or refused per run';
grant execute on function sisyphus.start_job(bigint, bigint[], bigint[], integer[], timestamptz[]) to sisyphus_guardian, sisyphus_admin;

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
