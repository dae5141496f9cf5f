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

create or replace function sisyphus._retry_after(
    p_delay interval, p_backoff double precision, p_max_delay interval, p_attempt integer)
returns interval
language sql
immutable
parallel safe
begin atomic
    -- In seconds, capped before an interval is made of them; the exponent is bounded: a thousandth retry must not overflow.
    select pg_catalog.make_interval(secs => least(
        extract(epoch from p_max_delay)::double precision,
        extract(epoch from p_delay)::double precision * least(pg_catalog.power(p_backoff, least(p_attempt - 1, 60)), 1e6)));
end;
comment on function sisyphus._retry_after(interval, double precision, interval, integer) is
    'Wait after a failed attempt: delay × backoff^(attempt − 1), capped';

-- Results that meet no live run of theirs: repeated, late or unknown ones.
-- locks: run (SKIP LOCKED): the retry that nobody has claimed, and that a late success makes needless.
create or replace function sisyphus._finish_late(
    p_run_id bigint, p_claim_no bigint, p_exit_code integer, p_signal integer, p_ended_by text, p_reason text,
    p_started_at timestamptz, p_finished_at timestamptz, p_stdout text, p_stderr text, p_result jsonb,
    p_cpu_user double precision, p_cpu_system double precision, p_peak_memory bigint, p_host text, p_now timestamptz)
returns text
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_attempt sisyphus.attempt;
    v_retry sisyphus.run;
    v_job sisyphus.job;
    v_state text;
    v_reason text;
    v_is_final boolean;
begin
    select a.* into v_attempt from sisyphus.attempt a where a.run_id = p_run_id and a.claim_no = p_claim_no;
    -- Only where it ran can be known how it ended.
    if not found or v_attempt.host is distinct from p_host then
        return 'refused';
    elsif v_attempt.state <> 'lost' or v_attempt.late_state is not null then
        return 'already';
    end if;
    v_attempt.started_at := case when p_ended_by in ('spawn', 'policy') then null
        else least(greatest(coalesce(p_started_at, v_attempt.started_at), v_attempt.claimed_at), p_now) end;
    p_finished_at := least(greatest(p_finished_at, v_attempt.started_at, v_attempt.claimed_at), p_now);
    select j.* into v_job from sisyphus.job j where j.job_id = v_attempt.job_id;
    v_state := sisyphus._end_state(p_ended_by, p_exit_code, v_job.success_exit_codes);
    v_reason := sisyphus._end_reason(v_state, p_exit_code, p_signal, p_reason, null);
    -- Told before, in time or late.
    if v_state = 'lost' and starts_with(v_attempt.reason, v_reason) then
        return 'already';
    end if;
    v_is_final := v_attempt.is_final;
    if not v_attempt.is_final then
        if exists (select from sisyphus.run r
                    where r.run_id = p_run_id and r.attempt = v_attempt.attempt and r.state in ('waiting', 'pending')) then
            select r.* into v_retry
              from sisyphus.run r
             where r.run_id = p_run_id and r.attempt = v_attempt.attempt and r.state in ('waiting', 'pending')
               for update skip locked;
            if not found then
                return 'busy';
            end if;
            v_is_final := v_state not in ('failed', 'timed_out', 'lost')
                          or coalesce(p_exit_code = any(v_job.no_retry_exit_codes), false);
        else
            update sisyphus.attempt a
               set late_state = v_state, late_exit_code = p_exit_code, late_finished_at = p_finished_at
             where a.run_id = p_run_id and a.claim_no = p_claim_no;
            return 'superseded';
        end if;
    end if;
    -- It was given up but nobody took over: its true result is the result.
    update sisyphus.attempt a
       set state = v_state, exit_code = p_exit_code, signal = p_signal, stdout = p_stdout, stderr = p_stderr,
           result = p_result, started_at = v_attempt.started_at, finished_at = p_finished_at, is_final = v_is_final,
           cpu_user_seconds = p_cpu_user, cpu_system_seconds = p_cpu_system, peak_memory_bytes = p_peak_memory,
           reason = v_reason || ' (reported late: '
                    || case when v_is_final then split_part(a.reason, '; attempt ', 1) else a.reason end || ')'
     where a.run_id = p_run_id and a.claim_no = p_claim_no;
    if v_is_final and v_retry.run_id is not null then
        delete from sisyphus.run r where r.run_id = p_run_id;
        delete from sisyphus.request q where q.run_id = p_run_id;
        if v_retry.exclusive then
            perform sisyphus._after_finish(array[p_run_id], array[v_retry.job_id], array[v_retry.target],
                                           array['infinity'::timestamptz], array[p_now], false, p_now);
        end if;
    end if;
    return 'accepted';
end
$$;
comment on function sisyphus._finish_late(bigint, bigint, integer, integer, text, text, timestamptz, timestamptz, text, text, jsonb, double precision, double precision, bigint, text, timestamptz) is
    'Answers for a result whose claim is not live: already, superseded, refused, busy while its retry is held, or accepted when it corrects a lost attempt';

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

create or replace function sisyphus.finish_job(
    guardian_id bigint, run_ids bigint[], claim_nos bigint[],
    exit_codes integer[] default null, signals integer[] default null, ended_by text[] default null,
    reasons text[] default null, started_at timestamptz[] default null, finished_at timestamptz[] default null,
    stdouts text[] default null, stderrs text[] default null, results jsonb[] default null,
    cpu_user double precision[] default null, cpu_system double precision[] default null,
    peak_memory bigint[] default null)
returns table (run_id bigint, claim_no bigint, answer text)
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
-- One good plan each, whatever the size of the batch: not worth planning anew.
set plan_cache_mode = force_generic_plan
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
    v_me constant bigint := finish_job.guardian_id;
    v_host text;
    v_done bigint[];
begin
    if cardinality(run_ids) is distinct from cardinality(claim_nos) then
        raise exception 'run_ids and claim_nos differ in length'
            using errcode = '22023', hint = 'Give one claim_no for each run_id.';
    end if;
    if not sisyphus._is_home(null) then
        perform sisyphus._check_installation(null, v_now);
    end if;
    -- As _check_guardian(), and locked. locks: guardian before job_state and run: a claim may follow in the transaction.
    select h.name into v_host
      from sisyphus.guardian g
      join sisyphus.host h on h.host_id = g.host_id
     where g.guardian_id = v_me and g.ended_at is null and g.role_name = sisyphus._caller()
       for no key update of g;
    if not found then
        perform sisyphus._raise_guardian(v_me);
    end if;
    v_done := sisyphus._finish_runs(
        v_me, v_host, run_ids, claim_nos, exit_codes, signals, finish_job.ended_by, reasons,
        finish_job.started_at, finish_job.finished_at, stdouts, stderrs, results, cpu_user, cpu_system, peak_memory,
        true, v_now);
    if cardinality(v_done) is not distinct from cardinality(run_ids) then
        return query select i.run_id, i.claim_no, 'accepted'::text from unnest(run_ids, claim_nos) i (run_id, claim_no);
        return;
    end if;
    return query
        select i.run_id, i.claim_no,
               case when i.run_id = any(v_done) then 'accepted'
                    when exists (select from sisyphus.run r where r.run_id = i.run_id and r.claim_no = i.claim_no) then 'busy'
                    else sisyphus._finish_late(i.run_id, i.claim_no, i.exit_code, i.signal, i.ended_by, i.why, i.began,
                                               coalesce(i.ended, v_now), i.stdout, i.stderr, i.result, i.cpu_user,
                                               i.cpu_system, i.peak_memory, v_host, v_now) end
          from unnest(run_ids, claim_nos, exit_codes, signals, finish_job.ended_by, reasons, finish_job.started_at,
                      finish_job.finished_at, stdouts, stderrs, results, cpu_user, cpu_system, peak_memory)
              i (run_id, claim_no, exit_code, signal, ended_by, why, began, ended, stdout, stderr, result,
                 cpu_user, cpu_system, peak_memory);
end
$$;
comment on function sisyphus.finish_job(bigint, bigint[], bigint[], integer[], integer[], text[], text[], timestamptz[], timestamptz[], text[], text[], jsonb[], double precision[], double precision[], bigint[]) is
    'Reports ended processes; idempotent. Answers per run: accepted, already, superseded (kept beside a later attempt), refused (claim unknown), busy (send again)';
grant execute on function sisyphus.finish_job(bigint, bigint[], bigint[], integer[], integer[], text[], text[], timestamptz[], timestamptz[], text[], text[], jsonb[], double precision[], double precision[], bigint[]) to sisyphus_guardian, sisyphus_admin;
