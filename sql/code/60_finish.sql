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
