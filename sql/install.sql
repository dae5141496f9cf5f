-- The schema with psql alone, in one transaction:
--     psql -d jobs -f sql/install.sql
-- It notes the migrations as `sisyphus migrate` does, which goes on from here.
\set ON_ERROR_STOP on
\set QUIET on
begin;
set local client_min_messages = warning;
-- A migrator that runs now holds the same lock.
do 'begin perform pg_advisory_xact_lock(5860125741484954369); end';
create schema sisyphus;
create table sisyphus.schema_history (
    version int8 primary key,
    name varchar(255),
    applied_on varchar(255),
    checksum varchar(255)
);
\ir migrations/V001__foundation.sql
insert into sisyphus.schema_history values (1, 'foundation',
    to_char(now() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), '1716813436467426018');
set local role sisyphus_owner;
\ir code/10_clock.sql
\ir code/15_caller.sql
\ir code/16_installation.sql
\ir code/20_calendar_parse.sql
\ir code/21_calendar_next.sql
\ir code/22_calendar_describe.sql
\ir code/23_calendar_dates.sql
\ir code/24_calendar_count.sql
\ir code/25_calendar_field_errors.sql
\ir code/26_calendar_errors.sql
\ir code/30_job.sql
\ir code/31_check.sql
\ir code/32_define.sql
\ir code/33_suspend.sql
\ir code/34_preview.sql
\ir code/35_calendar.sql
\ir code/36_run_as.sql
\ir code/37_export.sql
\ir code/39_left_out.sql
\ir code/40_plan.sql
\ir code/41_catch_up.sql
\ir code/42_unplanned.sql
\ir code/45_wakeup.sql
\ir code/46_end.sql
\ir code/47_promote.sql
\ir code/48_request.sql
\ir code/49_define.sql
\ir code/50_guardian.sql
\ir code/51_claim_lane.sql
\ir code/52_claim.sql
\ir code/53_start.sql
\ir code/54_verdict.sql
\ir code/55_finish_runs.sql
\ir code/56_finish_late.sql
\ir code/60_finish.sql
\ir code/61_reap.sql
\ir code/62_tick.sql
\ir code/70_control.sql
\ir code/71_runs.sql
\ir code/75_hosts.sql
\ir code/76_fleet.sql
\ir code/80_retention.sql
\ir code/85_why.sql
\ir code/86_explain.sql
\ir code/90_monitor.sql
\ir code/91_fleet.sql
\ir code/92_metrics.sql
\ir code/93_live.sql
\ir code/94_history.sql
\ir code/99_security.sql
commit;
