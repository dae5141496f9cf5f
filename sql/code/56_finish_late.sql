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
