-- Ended runs leave for the history, or wait for another attempt.

-- Of an exclusive job whose run has just ended: occurrences that fell due while it was live are overlaps, however
-- late this is told; then the next one may go.
create or replace function sisyphus._after_finish(
    p_run_ids bigint[], p_job_ids bigint[], p_targets bigint[], p_asked_at timestamptz[], p_ended_at timestamptz[],
    p_wait boolean, p_now timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_job_ids bigint[];
    v_run_ids bigint[];
    v_reasons text[];
begin
    with waiter as (
        select r.run_id, r.job_id, d.run_id as done_id,
               j.overlap = 'skip' and not r.in_order and r.attempt = 0 and r.target = d.target
                   and t.asked_at > d.asked_at and t.asked_at < d.ended_at and r.withdrawn is null
                   and not sisyphus._is_due_in_suspension(j, r.due_at, p_now) as overlapped
          from unnest(p_run_ids, p_job_ids, p_targets, p_asked_at, p_ended_at) d (run_id, job_id, target, asked_at, ended_at)
          join sisyphus.run r on r.job_id = d.job_id and r.state = 'waiting'
          join sisyphus.job j on j.job_id = d.job_id
         -- A rerun has the due time of the occurrence it stands for.
         cross join lateral (select greatest(r.due_at, r.requested_at) as asked_at) t)
    select array_agg(distinct w.job_id),
           array_agg(w.run_id) filter (where w.overlapped),
           array_agg(format('overlap: run %s was still live', w.done_id)) filter (where w.overlapped)
      into v_job_ids, v_run_ids, v_reasons
      from waiter w;
    if v_job_ids is not null then
        perform sisyphus._end_unstarted(v_run_ids, 'skipped', v_reasons, p_now);
        perform sisyphus._promote(p_now, v_job_ids, p_wait);
    end if;
end
$$;
comment on function sisyphus._after_finish(bigint[], bigint[], bigint[], timestamptz[], timestamptz[], boolean, timestamptz) is
    'After runs of exclusive jobs ended: skips what fell due meanwhile, and promotes what waited for them';

-- locks: run (SKIP LOCKED), then job_state in _promote(). One join of the arrays with the table and one pass to
-- the history; a held lock on a run (assert_current in an idle session) delays that run's result alone. The rows are
-- deleted by run_id: a ctid read under the lock may be newer than the statement's snapshot.
create or replace function sisyphus._finish_runs(
    p_guardian_id bigint, p_host text, p_run_ids bigint[], p_claim_nos bigint[],
    p_exit_codes integer[], p_signals integer[], p_ended_by text[], p_reasons text[],
    p_started_at timestamptz[], p_finished_at timestamptz[], p_stdouts text[], p_stderrs text[], p_results jsonb[],
    p_cpu_user double precision[], p_cpu_system double precision[], p_peak_memory bigint[], p_wait boolean,
    p_now timestamptz)
returns bigint[]
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_retain_success integer;
    v_retain_failure integer;
    v_done bigint[];
    v_asked bigint[];
    v_retried bigint[];
    v_waits interval[];
    v_exclusive bigint[];
    v_jobs bigint[];
    v_targets bigint[];
    v_asked_at timestamptz[];
    v_ends timestamptz[];
    v_is_twice boolean;
begin
    select sisyphus._retention_class(s.retention_success), sisyphus._retention_class(s.retention_failure)
      into v_retain_success, v_retain_failure
      from sisyphus.setting s;
    with given as (
        select i.* from unnest(p_run_ids, p_claim_nos, p_exit_codes, p_signals, p_ended_by, p_reasons, p_started_at,
                               p_finished_at, p_stdouts, p_stderrs, p_results, p_cpu_user, p_cpu_system, p_peak_memory)
            i (run_id, claim_no, exit_code, signal, ended_by, why, began, ended, stdout, stderr, result,
               cpu_user, cpu_system, peak_memory)),
    -- What is read more than once below goes by a tuple store: no column more than is needed.
    verdict as materialized (
        select r.run_id, r.claim_no, r.job_id, r.target, r.due_at, r.nominal_at, r.expires_at, r.requested_at,
               r.claimed_at, r.attempt, r.job_version, r.exclusive, r.in_order, r.origin,
               r.stopping is not null or r.withdrawn is not null as asked,
               i.exit_code, i.signal, i.stdout, i.stderr, i.result, i.cpu_user, i.cpu_system, i.peak_memory,
               case when i.ended_by in ('spawn', 'policy') then null
                    else least(greatest(coalesce(i.began, r.started_at), r.claimed_at), p_now) end as began,
               least(greatest(coalesce(i.ended, p_now), r.claimed_at, i.began), p_now) as ended,
               e.state,
               i.why, r.reason as asked_why,
               case when j.deleted_at is null and j.retries >= r.attempt and r.stopping is null
                     and (i.exit_code is null or i.exit_code <> all(j.no_retry_exit_codes))
                     and e.state = any(case when j.retry_on_lost then '{failed,timed_out,lost}' else '{failed,timed_out}' end::text[])
                    then sisyphus._retry_after(j.retry_delay, j.retry_backoff, j.retry_max_delay, r.attempt) end as again,
               coalesce(j.retain_success, v_retain_success) as retain_success,
               coalesce(j.retain_failure, v_retain_failure) as retain_failure,
               j.name as job, coalesce(j.owner, (r.spec ->> 'owner')::name) as owner,
               p.name as pool,
               j.retries, coalesce(r.payload, j.payload) as payload, coalesce(r.spec ->> 'command', r.spec ->> 'argv') as command,
               -- Where the job has changed since, it says nothing of this run.
               case when j.version = r.job_version then j.max_runtime end as max_runtime
          from given i
         -- Locked row by row, below the joins: above them each row would carry a copy of all that was given. And probed
         -- row by row whatever the planner thinks of a table that was small when the plan was made.
         cross join lateral (
              select r.run_id, r.claim_no, r.job_id, r.target, r.lane_id, r.due_at, r.nominal_at, r.expires_at, r.requested_at,
                     r.claimed_at, r.started_at, r.attempt, r.job_version, r.exclusive, r.in_order, r.origin, r.stopping,
                     r.withdrawn, r.reason, r.spec, r.payload
                from sisyphus.run r
               -- Not "r.guardian_id =": that would allow run_guardian_id_idx, and so every held row for every given one.
               where r.run_id = i.run_id and r.claim_no = i.claim_no and coalesce(r.guardian_id, 0) = p_guardian_id
                 for update skip locked) r
          left join sisyphus.job j on j.job_id = r.job_id
          left join sisyphus.pool p on p.pool_id = coalesce(j.pool_id, r.lane_id)
          cross join lateral (
              select sisyphus._end_state(i.ended_by, i.exit_code, j.success_exit_codes) as state) e),
    -- Not joined with the verdicts: that would copy each of them, with its output, for every row.
    ended as (
        delete from sisyphus.run r
         where r.run_id = any(array(select v.run_id from verdict v where v.again is null))),
    recorded as (
        insert into sisyphus.attempt (
            run_id, claim_no, job_id, due_at, nominal_at, expires_at, requested_at, claimed_at, started_at,
            finished_at, recorded_at, peak_memory_bytes, cpu_user_seconds, cpu_system_seconds, attempt, job_version,
            exit_code, signal, retention_days, is_final, state, origin, job, owner, pool, host, reason, stdout,
            stderr, result, payload, command)
        select v.run_id, v.claim_no, v.job_id, v.due_at, v.nominal_at, v.expires_at, v.requested_at, v.claimed_at,
               v.began, v.ended, p_now, v.peak_memory, v.cpu_user, v.cpu_system, v.attempt, v.job_version,
               v.exit_code, v.signal, case when v.state = 'succeeded' then v.retain_success else v.retain_failure end,
               v.again is null, v.state, v.origin, v.job, v.owner, v.pool,
               p_host,
               sisyphus._end_reason(v.state, v.exit_code, v.signal,
                                    case when v.state = 'terminated' then coalesce(v.asked_why, v.why) else v.why end, v.max_runtime)
                   || case when v.again is not null then
                               '; attempt ' || v.attempt + 1 || ' of ' || v.retries + 1 || ' follows in '
                               || sisyphus._duration_text(v.again)
                           when v.state in ('failed', 'timed_out') and v.attempt > 1
                           then '; attempt ' || v.attempt || ' of ' || v.retries + 1 else '' end,
               v.stdout, v.stderr, v.result, v.payload, v.command
          from verdict v)
    select array_agg(v.run_id), array_agg(v.run_id) filter (where v.asked),
           array_agg(v.run_id) filter (where v.again is not null), array_agg(v.again) filter (where v.again is not null),
           array_agg(v.run_id) filter (where v.exclusive), array_agg(v.job_id) filter (where v.exclusive),
           array_agg(v.target) filter (where v.exclusive),
           -- What waits its turn is nobody's predecessor.
           array_agg(case when v.in_order then 'infinity' else greatest(v.due_at, v.requested_at) end) filter (where v.exclusive),
           array_agg(v.ended) filter (where v.exclusive), count(distinct v.run_id) < count(*)
      into v_done, v_asked, v_retried, v_waits, v_exclusive, v_jobs, v_targets, v_asked_at, v_ends, v_is_twice
      from verdict v;
    if v_is_twice then
        raise exception 'a run is given twice' using errcode = '22023', hint = 'Give each run_id once a call.';
    end if;
    if v_retried is not null then
        update sisyphus.run r
           set state = 'waiting', wake_at = p_now + w.wait, claim_no = null, guardian_id = null, host_id = null, last_host_id = r.host_id,
               claimed_at = null, started_at = null, pid = null, paused_at = null, withdrawn = null, reason = null
          from unnest(v_retried, v_waits) w (run_id, wait)
         where r.run_id = w.run_id;
        -- Those that wait for nothing meet the next claim.
        if exists (select from unnest(v_waits) w (wait), sisyphus.planner p where w.wait > '0 s' and p_now + w.wait < p.next_tick_at) then
            perform sisyphus._wake_planner(p_now);
        end if;
    end if;
    if v_asked is not null then
        delete from sisyphus.request q where q.run_id = any(v_asked);
    end if;
    if v_exclusive is not null then
        perform sisyphus._after_finish(v_exclusive, v_jobs, v_targets, v_asked_at, v_ends, p_wait, p_now);
    end if;
    return v_done;
end
$$;
comment on function sisyphus._finish_runs(bigint, text, bigint[], bigint[], integer[], integer[], text[], text[], timestamptz[], timestamptz[], text[], text[], jsonb[], double precision[], double precision[], bigint[], boolean, timestamptz) is
    'Moves ended runs of a guardian to the history, or back to waiting when they are retried; returns the run_ids it owned';
