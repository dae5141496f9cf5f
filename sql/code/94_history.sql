-- What has ended, as views; what 90_monitor.sql says of views holds here too.

create or replace view sisyphus.history as
select a.run_id,
       a.attempt,
       a.claim_no,
       a.is_final,
       a.origin,
       a.job,
       a.job_version,
       a.pool,
       a.host,
       a.state,
       case when v.visible then a.reason
            else sisyphus._reason_without_names(a.state, a.exit_code, a.signal, a.reason) end as reason,
       a.exit_code,
       a.signal,
       a.due_at,
       a.claimed_at,
       a.started_at,
       a.finished_at,
       case when a.attempt = 1
            then extract(epoch from a.started_at - greatest(a.due_at, a.requested_at))::double precision end as lateness_seconds,
       extract(epoch from a.finished_at - a.started_at)::double precision as duration_seconds,
       a.cpu_user_seconds,
       a.cpu_system_seconds,
       a.peak_memory_bytes,
       case when v.visible then a.stdout end as stdout,
       case when v.visible then a.stderr end as stderr,
       case when v.visible then a.result end as result,
       case when v.visible then a.payload end as payload,
       a.nominal_at,
       a.expires_at,
       a.last_due_at,
       a.occurrences,
       a.late_state,
       a.late_exit_code,
       a.late_finished_at,
       a.owner,
       a.requested_at,
       a.recorded_at,
       case when v.visible
            then coalesce(a.command, (select coalesce(d.spec ->> 'command', d.spec ->> 'argv')
                                        from sisyphus.job_definition d
                                       where d.job_id = a.job_id and d.version = a.job_version)) end as command
  from sisyphus.attempt a
       cross join lateral (
           select coalesce(a.owner = any ((select sisyphus._visible_owners())::name[]), false)
                  or (select sisyphus._sees_all()) as visible) v;
comment on view sisyphus.history is 'Ended attempts, and occurrences and runs that never started (attempt 0); order by run_id desc finds the newest by an index, order by recorded_at desc reads them all';
comment on column sisyphus.history.run_id is 'Run';
comment on column sisyphus.history.attempt is 'Attempt, from 1; 0: it never started';
comment on column sisyphus.history.claim_no is 'Claim of the attempt; null: it was never claimed';
comment on column sisyphus.history.is_final is 'Whether this attempt ended the run; judge a job by these only';
comment on column sisyphus.history.origin is 'What made the run: schedule, run_now, run_many, submit, rerun or backfill';
comment on column sisyphus.history.job is 'Name of the job then; null: submitted without one';
comment on column sisyphus.history.job_version is 'Version of the job then';
comment on column sisyphus.history.pool is 'Pool';
comment on column sisyphus.history.host is 'Host';
comment on column sisyphus.history.state is 'succeeded, failed, timed_out, terminated, lost, refused, expired, skipped or cancelled';
comment on column sisyphus.history.reason is 'Why it ended so; what could not be started is not named to who may not see its command';
comment on column sisyphus.history.exit_code is 'Exit code, when it exited';
comment on column sisyphus.history.signal is 'Signal, when one killed it';
comment on column sisyphus.history.due_at is 'When it was due; of several occurrences, the first';
comment on column sisyphus.history.claimed_at is 'When a host claimed it';
comment on column sisyphus.history.started_at is 'When its process started';
comment on column sisyphus.history.finished_at is 'When it ended';
comment on column sisyphus.history.lateness_seconds is 'First attempts: from due, or asked for, to started, seconds';
comment on column sisyphus.history.duration_seconds is 'From started to finished, seconds';
comment on column sisyphus.history.cpu_user_seconds is 'User CPU time, seconds';
comment on column sisyphus.history.cpu_system_seconds is 'System CPU time, seconds';
comment on column sisyphus.history.peak_memory_bytes is 'Largest resident size, bytes';
comment on column sisyphus.history.stdout is 'Standard output, head and tail; null for who may not see it';
comment on column sisyphus.history.stderr is 'Standard error, head and tail; null for who may not see it';
comment on column sisyphus.history.result is 'What it wrote to its result file; null for who may not see it';
comment on column sisyphus.history.payload is 'Input it was given; null for who may not see it';
comment on column sisyphus.history.nominal_at is 'The occurrence before jitter';
comment on column sisyphus.history.expires_at is 'Until when it might have started; null: for ever';
comment on column sisyphus.history.last_due_at is 'Of several occurrences in one row, the last';
comment on column sisyphus.history.occurrences is 'How many occurrences the row stands for; 0: nobody can tell, the time zone has gone';
comment on column sisyphus.history.late_state is 'Result that arrived after a later attempt had been claimed';
comment on column sisyphus.history.late_exit_code is 'Its exit code';
comment on column sisyphus.history.late_finished_at is 'When that one ended';
comment on column sisyphus.history.owner is 'Owner of the job then';
comment on column sisyphus.history.requested_at is 'When it was asked for by hand; null: scheduled';
comment on column sisyphus.history.recorded_at is 'When the row was written; searches by time are fastest on it';
comment on column sisyphus.history.command is 'What it ran, an argv as JSON; null for who may not see it';

create or replace view sisyphus.failures as
select h.*
  from sisyphus.history h
 where h.is_final
   and h.state in ('failed', 'timed_out', 'lost', 'refused', 'expired')
   and h.recorded_at > (select sisyphus._clock()) - interval '7 days';
comment on view sisyphus.failures is 'What ended badly within 7 days; columns as history';

do $$
declare
    v_column record;
begin
    for v_column in
        select a.attname, pg_catalog.col_description(a.attrelid, a.attnum) as comment
          from pg_catalog.pg_attribute a
         where a.attrelid = 'sisyphus.history'::pg_catalog.regclass
    loop
        -- Dynamic, because COMMENT takes no expression.
        execute pg_catalog.format('comment on column sisyphus.failures.%I is %L', v_column.attname, v_column.comment);
    end loop;
end
$$;

grant select on sisyphus.history, sisyphus.failures to sisyphus_admin, sisyphus_author, sisyphus_operator, sisyphus_viewer;
