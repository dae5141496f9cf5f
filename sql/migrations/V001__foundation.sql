-- A fresh schema: takes no lock that anybody waits for.
-- The migrator has made schema sisyphus and its schema_history; from here on sisyphus_owner owns everything.

do $$
declare
    v_role text;
begin
    foreach v_role in array array['sisyphus_owner', 'sisyphus_admin', 'sisyphus_author', 'sisyphus_operator',
                                  'sisyphus_viewer', 'sisyphus_guardian'] loop
        -- Roles belong to the cluster: another database's installation may have made them already.
        if not exists (select from pg_catalog.pg_roles r where r.rolname = v_role) then
            execute pg_catalog.format('create role %I nologin', v_role);
        end if;
    end loop;
    -- From PostgreSQL 16 on who made a role is a member that may not become it, but may grant it.
    if not pg_catalog.pg_has_role(current_user, 'sisyphus_owner',
            case when pg_catalog.current_setting('server_version_num')::integer >= 160000 then 'set' else 'member' end) then
        execute pg_catalog.format('grant sisyphus_owner to %I', current_user);
    end if;
end
$$;

alter schema sisyphus owner to sisyphus_owner;
alter table sisyphus.schema_history owner to sisyphus_owner;
grant usage on schema sisyphus
    to sisyphus_admin, sisyphus_author, sisyphus_operator, sisyphus_viewer, sisyphus_guardian;

set local role sisyphus_owner;

-- The form "in schema" would not remove the built-in grant to PUBLIC.
alter default privileges revoke execute on functions from public;
alter default privileges revoke usage on types from public;

comment on schema sisyphus is 'Sisyphus, a job scheduler: jobs, schedules, runs and their results';
comment on table sisyphus.schema_history is 'Applied migrations, kept by the migrator';
comment on column sisyphus.schema_history.version is 'Number of the migration';
comment on column sisyphus.schema_history.name is 'Name of the migration';
comment on column sisyphus.schema_history.applied_on is 'When it was applied, RFC 3339';
comment on column sisyphus.schema_history.checksum is 'Checksum of number, name and text';

create sequence sisyphus.run_id_seq as bigint;
comment on sequence sisyphus.run_id_seq is 'Numbers of runs, never used again';
create sequence sisyphus.claim_no_seq as bigint;
comment on sequence sisyphus.claim_no_seq is 'The fence: a new number with each claim';
-- CACHE 1: the floor of a lane relies on numbers growing over sessions.
create sequence sisyphus.ready_no_seq as bigint cache 1;
comment on sequence sisyphus.ready_no_seq is 'Order in which runs became claimable';
create sequence sisyphus.lane_id_seq as bigint;
comment on sequence sisyphus.lane_id_seq is 'Numbers of lanes: a pool and a host never share one';

create table sisyphus.installation (
    only_row boolean not null default true,
    installation_id uuid not null default pg_catalog.gen_random_uuid(),
    bundle_checksum text,
    system_identifier bigint not null,
    database_oid oid not null,
    database_name name not null,
    timeline text not null,
    server_started_at timestamptz not null,
    seen_tick_at timestamptz,
    adopted_at timestamptz not null default pg_catalog.now(),
    constraint installation_pkey primary key (only_row),
    constraint installation_only_row_check check (only_row)
);
comment on table sisyphus.installation is 'This installation: who it is and what code it carries; one row';
comment on column sisyphus.installation.only_row is 'Always true: there is one row';
comment on column sisyphus.installation.installation_id is 'Random identity; keepers tell starts of different installations apart by it';
comment on column sisyphus.installation.bundle_checksum is 'SHA-256 of the applied code bundle (sql/code); null when loaded by psql';
comment on column sisyphus.installation.system_identifier is 'Cluster that this installation was adopted on';
comment on column sisyphus.installation.database_oid is 'Database that this installation was adopted in';
comment on column sisyphus.installation.database_name is 'Its name when the server was last looked at';
comment on column sisyphus.installation.timeline is 'Timeline that the server wrote then';
comment on column sisyphus.installation.server_started_at is 'Start of the server that was last looked at';
comment on column sisyphus.installation.seen_tick_at is 'A tick that a guardian has seen and this database has not: it was restored';
comment on column sisyphus.installation.adopted_at is 'When it was installed or adopted';

insert into sisyphus.installation (system_identifier, database_oid, database_name, timeline, server_started_at)
select c.system_identifier, d.oid, d.datname,
       pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8), pg_catalog.pg_postmaster_start_time()
  from pg_catalog.pg_control_system() c
  join pg_catalog.pg_database d on d.datname = pg_catalog.current_database();

create table sisyphus.setting (
    only_row boolean not null default true,
    default_timezone text not null default 'UTC',
    heartbeat interval not null default '5 s',
    lease_timeout interval not null default '30 s',
    claim_ahead interval not null default '10 s',
    plan_ahead interval not null default '15 s',
    retention_success interval not null default '30 days',
    retention_failure interval not null default '90 days',
    retention_audit interval not null default '400 days',
    output_limit integer not null default 65536,
    constraint setting_pkey primary key (only_row),
    constraint setting_only_row_check check (only_row),
    constraint setting_heartbeat_check check (heartbeat >= '200 ms' and heartbeat <= '1 min'),
    constraint setting_lease_timeout_check check (claim_ahead + heartbeat < lease_timeout and lease_timeout <= '1 day'),
    constraint setting_plan_ahead_check check (plan_ahead >= claim_ahead + heartbeat and plan_ahead <= '1 day'),
    constraint setting_claim_ahead_check check (claim_ahead >= '0 s'),
    constraint setting_output_limit_check check (output_limit between 1024 and 1048576)
);
comment on table sisyphus.setting is 'Settings of the installation, one column each; change them with set_setting()';
comment on column sisyphus.setting.only_row is 'Always true: there is one row';
comment on column sisyphus.setting.default_timezone is 'Time zone of jobs that name none';
comment on column sisyphus.setting.heartbeat is 'Longest time between two claims of a guardian and between two ticks';
comment on column sisyphus.setting.lease_timeout is 'A guardian that is not heard of for this long is lost';
comment on column sisyphus.setting.claim_ahead is 'How long before it is due a run may be claimed';
comment on column sisyphus.setting.plan_ahead is 'How long before it is due an occurrence becomes a run';
comment on column sisyphus.setting.retention_success is 'How long rows of succeeded runs are kept, unless the job says otherwise';
comment on column sisyphus.setting.retention_failure is 'How long rows of all other runs are kept, unless the job says otherwise';
comment on column sisyphus.setting.retention_audit is 'How long entries of the audit log are kept';
comment on column sisyphus.setting.output_limit is 'Bytes kept of each output stream (head and tail), unless the job says otherwise';

-- The database's own zone where it is one that a job may name: not an abbreviation such as CET, not "localtime".
insert into sisyphus.setting (default_timezone)
select coalesce((select z.name from pg_catalog.pg_timezone_names z
                  where z.name = pg_catalog.current_setting('TimeZone')
                    and z.name ~ '^([A-Za-z_-]+/[A-Za-z/_-]+|Etc/GMT[+-][0-9]+)$'), 'UTC');

create table sisyphus.planner (
    only_row boolean not null default true,
    last_tick_at timestamptz,
    newest_tick_at timestamptz,
    next_tick_at timestamptz not null default '-infinity',
    downtime_until timestamptz,
    constraint planner_pkey primary key (only_row),
    constraint planner_only_row_check check (only_row)
) with (fillfactor = 10);
comment on table sisyphus.planner is 'The private lock and memory of tick(); one row, written by ticks only';
comment on column sisyphus.planner.only_row is 'Always true: there is one row';
comment on column sisyphus.planner.last_tick_at is 'When the last tick that did its work began';
comment on column sisyphus.planner.newest_tick_at is 'Latest of all ticks: the clock of the server may have been set back since';
comment on column sisyphus.planner.next_tick_at is 'When the next tick has something to do';
comment on column sisyphus.planner.downtime_until is 'When the last downtime was over: what was due by then and is not planned was missed';
insert into sisyphus.planner default values;

create table sisyphus.pool (
    pool_id bigint not null default pg_catalog.nextval('sisyphus.lane_id_seq'),
    name text not null,
    selector jsonb,
    description text,
    created_at timestamptz not null default pg_catalog.now(),
    constraint pool_pkey primary key (pool_id),
    constraint pool_name_key unique (name),
    constraint pool_name_check check (name ~ E'^[^\\u0001-\\u001f\\u007f-\\u009f\\u2028\\u2029]{1,63}$')
);
comment on table sisyphus.pool is 'Named sets of hosts; every host is in pool default';
comment on column sisyphus.pool.pool_id is 'Number of the pool and of its lane';
comment on column sisyphus.pool.name is 'Name';
comment on column sisyphus.pool.selector is 'Labels that a host must have to be a member; null: listed members only';
comment on column sisyphus.pool.description is 'What it is for';
comment on column sisyphus.pool.created_at is 'When it was made';

create table sisyphus.pool_member (
    pool_id bigint not null,
    host_name text not null,
    constraint pool_member_pkey primary key (pool_id, host_name),
    constraint pool_member_pool_id_fkey foreign key (pool_id) references sisyphus.pool on delete cascade
);
comment on table sisyphus.pool_member is 'Listed members of pools, by name: a host may be listed before it registers';
comment on column sisyphus.pool_member.pool_id is 'The pool';
comment on column sisyphus.pool_member.host_name is 'Name of the host';

insert into sisyphus.pool (name, description) values ('default', 'every host');

create table sisyphus.host (
    host_id bigint not null default pg_catalog.nextval('sisyphus.lane_id_seq'),
    name text not null,
    state text not null default 'active',
    slots integer not null default 1,
    labels jsonb not null default '{}',
    host_key uuid,
    boot_id text,
    lanes bigint[] not null default '{}',
    registered_at timestamptz,
    constraint host_pkey primary key (host_id),
    constraint host_name_key unique (name),
    constraint host_name_check check (name ~ E'^[^\\u0001-\\u001f\\u007f-\\u009f\\u2028\\u2029]{1,63}$'),
    constraint host_state_check check (state in ('active', 'draining')),
    constraint host_slots_check check (slots between 0 and 10000)
);
comment on table sisyphus.host is 'Machines that have, or had, a guardian';
comment on column sisyphus.host.host_id is 'Number of the host and of its lane';
comment on column sisyphus.host.name is 'Name';
comment on column sisyphus.host.state is 'active or draining, as ordered';
comment on column sisyphus.host.slots is 'Runs it takes at once';
comment on column sisyphus.host.labels is 'Labels, for pool selectors';
comment on column sisyphus.host.host_key is 'Random identity of its state directory: tells cloned machines apart';
comment on column sisyphus.host.boot_id is 'Boot of the machine at the last registration';
comment on column sisyphus.host.lanes is 'Lanes it claims from: its own and those of its pools';
comment on column sisyphus.host.registered_at is 'When a guardian last registered for it';

create table sisyphus.host_order (
    host_id bigint not null,
    state text not null default 'active',
    slots integer,
    constraint host_order_pkey primary key (host_id),
    constraint host_order_host_id_fkey foreign key (host_id) references sisyphus.host on delete cascade,
    constraint host_order_state_check check (state in ('active', 'draining')),
    constraint host_order_slots_check check (slots between 0 and 10000)
);
comment on table sisyphus.host_order is 'What operators want of hosts; written by callers, and carried over to host by claims, ticks and registrations';
comment on column sisyphus.host_order.host_id is 'The host';
comment on column sisyphus.host_order.state is 'active or draining';
comment on column sisyphus.host_order.slots is 'Runs it takes at once; null: as its guardian says';

create table sisyphus.guardian (
    guardian_id bigint generated always as identity,
    host_id bigint not null,
    role_name name not null,
    version text,
    keepers uuid[] not null default '{}',
    periodic boolean not null default false,
    registered_at timestamptz not null,
    seen_at timestamptz not null,
    lease_until timestamptz not null,
    ended_at timestamptz,
    ended_as text,
    slots_free integer not null default 0,
    running integer not null default 0,
    clock_offset_ms double precision,
    problem text,
    constraint guardian_pkey primary key (guardian_id),
    constraint guardian_host_id_fkey foreign key (host_id) references sisyphus.host on delete cascade,
    constraint guardian_ended_as_check check (ended_as in ('stopped', 'superseded', 'lost')),
    constraint guardian_ended_at_check check ((ended_at is null) = (ended_as is null))
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
-- The heartbeat columns stand in no index, so that a heartbeat is a HOT update.
create index guardian_host_id_idx on sisyphus.guardian (host_id);
comment on index sisyphus.guardian_host_id_idx is 'register_guardian(): earlier guardians of a host';
comment on table sisyphus.guardian is 'Incarnations of the daemon; each start gets a new one';
comment on column sisyphus.guardian.guardian_id is 'Number of the incarnation';
comment on column sisyphus.guardian.host_id is 'Its host';
comment on column sisyphus.guardian.role_name is 'Role that registered it; no other acts for it';
comment on column sisyphus.guardian.version is 'Version of its program';
comment on column sisyphus.guardian.keepers is 'Keepers alive on its host at registration, first the one that starts its runs';
comment on column sisyphus.guardian.periodic is 'Whether it is a single pass (guardian --once)';
comment on column sisyphus.guardian.registered_at is 'When it registered';
comment on column sisyphus.guardian.seen_at is 'When it was last heard of';
comment on column sisyphus.guardian.lease_until is 'Until when it counts as alive unheard';
comment on column sisyphus.guardian.ended_at is 'When it signed off, was followed by another, or was given up; null: alive';
comment on column sisyphus.guardian.ended_as is 'stopped, superseded or lost';
comment on column sisyphus.guardian.slots_free is 'Free slots at its last claim, less what that claim gave it';
comment on column sisyphus.guardian.running is 'Processes it had at its last claim';
comment on column sisyphus.guardian.clock_offset_ms is 'Its host''s clock less the database''s, milliseconds';
comment on column sisyphus.guardian.problem is 'What hinders it, in its own words';

create table sisyphus.guardian_binding (
    role_name name not null,
    host_name text not null,
    pools text[] not null default '{}',
    labels jsonb not null default '{}',
    constraint guardian_binding_pkey primary key (role_name, host_name)
);
comment on table sisyphus.guardian_binding is 'Which login may act for which host, in which pools, with which labels';
comment on column sisyphus.guardian_binding.role_name is 'The login';
comment on column sisyphus.guardian_binding.host_name is 'The host; * for any';
comment on column sisyphus.guardian_binding.pools is 'Pools its guardian may ask to join';
comment on column sisyphus.guardian_binding.labels is 'Labels its guardian may claim';

create table sisyphus.run_as_grant (
    role_name name not null,
    os_user text not null,
    constraint run_as_grant_pkey primary key (role_name, os_user)
);
comment on table sisyphus.run_as_grant is 'As which operating system users the jobs of which roles may run';
comment on column sisyphus.run_as_grant.role_name is 'The owner of jobs, or a role that owners are members of';
comment on column sisyphus.run_as_grant.os_user is 'The operating system user';

create table sisyphus.job (
    job_id bigint generated always as identity,
    name text not null,
    owner name not null,
    version integer not null default 1,
    deleted_at timestamptz,
    schedule text,
    timezone text not null,
    compiled bigint[],
    anchor_at timestamptz not null,
    command text,
    argv text[],
    pool_id bigint not null,
    run_on text not null default 'any',
    ttl interval,
    missed text not null default 'latest',
    overlap text not null default 'skip',
    max_runtime interval,
    grace interval not null default '10 s',
    retries integer not null default 0,
    retry_delay interval not null default '10 s',
    retry_backoff double precision not null default 2,
    retry_max_delay interval not null default '1 h',
    retry_on_lost boolean not null default false,
    fenced boolean not null default false,
    success_exit_codes integer[] not null default '{0}',
    no_retry_exit_codes integer[] not null default '{}',
    priority smallint not null default 0,
    jitter interval,
    starts_at timestamptz,
    ends_at timestamptz,
    except_on text,
    only_on text,
    payload jsonb,
    env jsonb,
    cwd text,
    run_as text,
    limits jsonb,
    leftovers text not null default 'kill',
    retention jsonb,
    description text,
    tags text[] not null default '{}',
    suspended_at timestamptz,
    suspended_until timestamptz,
    suspend_reason text,
    spec jsonb not null default '{}',
    retain_success integer,
    retain_failure integer,
    created_at timestamptz not null default pg_catalog.now(),
    changed_at timestamptz not null default pg_catalog.now(),
    constraint job_pkey primary key (job_id),
    constraint job_name_key unique (name),
    constraint job_name_check check (name ~ E'^[^\\u0001-\\u001f\\u007f-\\u009f\\u2028\\u2029]{1,200}$'),
    constraint job_command_check check ((command is null) <> (argv is null)),
    constraint job_argv_check check (argv is null or pg_catalog.cardinality(argv) > 0 and pg_catalog.array_position(argv, null) is null),
    constraint job_schedule_check check ((schedule is null) = (compiled is null)),
    constraint job_run_on_check check (run_on in ('any', 'all')),
    constraint job_ttl_check check (ttl >= '1 s'),
    constraint job_missed_check check (missed in ('latest', 'all', 'none') and (missed <> 'all' or ttl is not null)),
    constraint job_overlap_check check (overlap in ('skip', 'queue', 'replace', 'allow')),
    constraint job_max_runtime_check check (max_runtime > '0 s'),
    constraint job_grace_check check (grace >= '0 s'),
    constraint job_retries_check check (retries between 0 and 1000),
    constraint job_retry_delay_check check (retry_delay >= '0 s' and retry_max_delay >= '0 s' and retry_backoff >= 1),
    constraint job_retry_on_lost_check check (not retry_on_lost or retries >= 1),
    constraint job_priority_check check (priority between -9 and 9),
    constraint job_jitter_check check (jitter >= '0 s'),
    constraint job_leftovers_check check (leftovers in ('kill', 'leave')),
    constraint job_ends_at_check check (ends_at > starts_at),
    constraint job_suspended_at_check check (suspended_at is not null or suspended_until is null)
);
create index job_pool_id_idx on sisyphus.job (pool_id);
comment on index sisyphus.job_pool_id_idx is 'drop_pool(): jobs of a pool';
comment on table sisyphus.job is 'Definitions: what to run, when, where, under which policy; written by callers, never by ticks';
comment on column sisyphus.job.job_id is 'Number of the job; a job that is scheduled again under its name keeps it';
comment on column sisyphus.job.name is 'Unique name';
comment on column sisyphus.job.owner is 'Role that made it';
comment on column sisyphus.job.version is 'Grows with each change that matters to a run';
comment on column sisyphus.job.deleted_at is 'When it was unscheduled; null: it exists';
comment on column sisyphus.job.schedule is 'When: cron expression, @macro, every <interval>, at <timestamp>; null: on demand only';
comment on column sisyphus.job.timezone is 'Time zone of the schedule';
comment on column sisyphus.job.compiled is 'The schedule as integers, see sql/code/20_calendar_parse.sql';
comment on column sisyphus.job.anchor_at is 'From when "every" counts';
comment on column sisyphus.job.command is 'Shell command; or argv';
comment on column sisyphus.job.argv is 'Program and arguments, executed without a shell; or command';
comment on column sisyphus.job.pool_id is 'Where: pool';
comment on column sisyphus.job.run_on is 'any: on one host of the pool; all: on each';
comment on column sisyphus.job.ttl is 'How late a run may still start; null: until the next occurrence is due';
comment on column sisyphus.job.missed is 'Which fresh occurrences of a downtime become runs: latest, all, none';
comment on column sisyphus.job.overlap is 'When the previous run is still live at due time: skip, queue, replace, allow';
comment on column sisyphus.job.max_runtime is 'How long an attempt may take; null: no limit';
comment on column sisyphus.job.grace is 'Time between TERM and KILL';
comment on column sisyphus.job.retries is 'Further attempts after a failure';
comment on column sisyphus.job.retry_delay is 'Wait before the first retry';
comment on column sisyphus.job.retry_backoff is 'Factor of the wait from one retry to the next';
comment on column sisyphus.job.retry_max_delay is 'Longest wait before a retry';
comment on column sisyphus.job.retry_on_lost is 'Whether a lost attempt is retried';
comment on column sisyphus.job.fenced is 'Whether its processes end when their guardian''s lease does';
comment on column sisyphus.job.success_exit_codes is 'Exit codes that mean success';
comment on column sisyphus.job.no_retry_exit_codes is 'Exit codes that end the run at once';
comment on column sisyphus.job.priority is '-9 to 9, higher first';
comment on column sisyphus.job.jitter is 'Spread: each occurrence is due up to this much later';
comment on column sisyphus.job.starts_at is 'No occurrence before';
comment on column sisyphus.job.ends_at is 'No occurrence at or after';
comment on column sisyphus.job.except_on is 'Calendar whose ranges are left out';
comment on column sisyphus.job.only_on is 'Calendar outside whose ranges nothing runs';
comment on column sisyphus.job.payload is 'Input handed to the process';
comment on column sisyphus.job.env is 'Environment variables, an object of strings';
comment on column sisyphus.job.cwd is 'Working directory';
comment on column sisyphus.job.run_as is 'OS user';
comment on column sisyphus.job.limits is 'Resource limits';
comment on column sisyphus.job.leftovers is 'What happens to processes it leaves behind: kill or leave';
comment on column sisyphus.job.retention is 'Own retention: {"success": interval, "failure": interval}';
comment on column sisyphus.job.description is 'What it is for';
comment on column sisyphus.job.tags is 'Tags';
comment on column sisyphus.job.suspended_at is 'When it was suspended; null: it is not';
comment on column sisyphus.job.suspended_until is 'When the suspension ends by itself';
comment on column sisyphus.job.suspend_reason is 'Why it is suspended';
comment on column sisyphus.job.spec is 'What a keeper needs of the definition, made when it is defined';
comment on column sisyphus.job.retain_success is 'Retention class of succeeded attempts, days; null: as the settings say';
comment on column sisyphus.job.retain_failure is 'Retention class of all other attempts, days; null: as the settings say';
comment on column sisyphus.job.created_at is 'When it was scheduled: first, or anew after unschedule()';
comment on column sisyphus.job.changed_at is 'When it was last changed';

create table sisyphus.calendar (
    calendar_id bigint generated always as identity,
    name text not null,
    owner name not null,
    query text not null,
    kind text not null,
    refreshed_at timestamptz not null,
    constraint calendar_pkey primary key (calendar_id),
    constraint calendar_name_key unique (name),
    constraint calendar_name_check check (name ~ E'^[^\\u0001-\\u001f\\u007f-\\u009f\\u2028\\u2029]{1,63}$'),
    constraint calendar_kind_check check (kind in ('dates', 'ranges'))
);
comment on table sisyphus.calendar is 'Named sets of days or times that jobs leave out or keep to; read it through calendars';
comment on column sisyphus.calendar.calendar_id is 'Number of the calendar';
comment on column sisyphus.calendar.name is 'Name';
comment on column sisyphus.calendar.owner is 'Role that made it, the only one that may refresh it';
comment on column sisyphus.calendar.query is 'What refresh_calendar() asks, with the rights of the owner';
comment on column sisyphus.calendar.kind is 'dates, on the clock of each job, or ranges of instants';
comment on column sisyphus.calendar.refreshed_at is 'When it was last asked';

create table sisyphus.calendar_range (
    calendar_id bigint not null,
    ends_at timestamp not null,
    starts_at timestamp not null,
    constraint calendar_range_pkey primary key (calendar_id, ends_at),
    constraint calendar_range_calendar_id_fkey foreign key (calendar_id) references sisyphus.calendar on delete cascade,
    constraint calendar_range_ends_at_check check (ends_at > starts_at)
);
comment on table sisyphus.calendar_range is 'What a calendar held when it was last refreshed; ranges of one calendar neither meet nor overlap';
comment on column sisyphus.calendar_range.calendar_id is 'The calendar';
comment on column sisyphus.calendar_range.ends_at is 'End, exclusive';
comment on column sisyphus.calendar_range.starts_at is 'Begin, inclusive; both on the clock of the job (dates) or in UTC (ranges)';

create table sisyphus.job_definition (
    job_id bigint not null,
    version integer not null,
    definition jsonb not null,
    anchor_at timestamptz not null,
    spec jsonb not null,
    changed_at timestamptz not null,
    changed_by name not null,
    constraint job_definition_pkey primary key (job_id, version)
);
comment on table sisyphus.job_definition is 'Every version of every job: what was run, not only what would be run now';
comment on column sisyphus.job_definition.job_id is 'The job';
comment on column sisyphus.job_definition.version is 'Version';
comment on column sisyphus.job_definition.definition is 'The definition as given';
comment on column sisyphus.job_definition.anchor_at is 'From when "every" counted';
comment on column sisyphus.job_definition.spec is 'What a keeper was told of it';
comment on column sisyphus.job_definition.changed_at is 'When';
comment on column sisyphus.job_definition.changed_by is 'By which role';

create table sisyphus.job_state (
    job_id bigint not null,
    version integer not null,
    watermark timestamptz not null,
    planned_until timestamptz not null default '-infinity',
    next_due_at timestamptz not null,
    suspended_since timestamptz,
    broken text,
    constraint job_state_pkey primary key (job_id)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);
create index job_state_next_due_at_idx on sisyphus.job_state (next_due_at);
comment on index sisyphus.job_state_next_due_at_idx is '_plan(): jobs whose next occurrence is near';
comment on table sisyphus.job_state is 'How far each job is planned; written by ticks only, so an open suspend() stops no other job';
comment on column sisyphus.job_state.job_id is 'The job';
comment on column sisyphus.job_state.version is 'Version that was last looked at';
comment on column sisyphus.job_state.watermark is 'Everything up to here is planned';
comment on column sisyphus.job_state.planned_until is 'Highest watermark ever: up to here an occurrence may have been planned already';
comment on column sisyphus.job_state.next_due_at is 'First occurrence after the watermark, before jitter; infinity: none';
comment on column sisyphus.job_state.suspended_since is 'Since when occurrences are left out because of a suspension';
comment on column sisyphus.job_state.broken is 'Why it cannot be planned; null: it can';

create table sisyphus.request (
    request_id bigint generated always as identity,
    action text not null,
    job_id bigint,
    run_id bigint,
    claim_no bigint,
    guardian_id bigint,
    reason text,
    role_name name not null,
    requested_at timestamptz not null,
    replan_from timestamptz,
    suspended_at timestamptz,
    suspended_until timestamptz,
    constraint request_pkey primary key (request_id),
    constraint request_action_check check (action in ('define', 'replan', 'host', 'cancel', 'terminate', 'recall', 'pause', 'unpause')),
    constraint request_object_check check ((action in ('define', 'replan', 'host')) = (run_id is null))
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_cost_delay = 0);
create index request_guardian_id_job_id_idx on sisyphus.request (guardian_id, job_id);
comment on index sisyphus.request_guardian_id_job_id_idx is
    'claim_job(): requests of a guardian; those not yet applied (null), and of these the ones of runs and hosts (null). tick(): the ones of a job, of thousands that wait';
create index request_run_id_idx on sisyphus.request (run_id) where run_id is not null;
comment on index sisyphus.request_run_id_idx is 'finish: requests of a run that ended';
create index request_suspended_until_idx on sisyphus.request (suspended_until) where suspended_until is not null;
comment on index sisyphus.request_suspended_until_idx is 'claim_job(): suspensions that may have ended and that no tick has applied';
comment on table sisyphus.request is 'What callers asked of live runs and of the planner; ticks and claims apply it after commit';
comment on column sisyphus.request.request_id is 'Number of the request';
comment on column sisyphus.request.action is 'define: a job changed; replan: a calendar of it did; host: so did a host_order; the others concern a run';
comment on column sisyphus.request.job_id is 'The job of a define or replan';
comment on column sisyphus.request.run_id is 'The run';
comment on column sisyphus.request.claim_no is 'Claim it was handed to; null: not yet applied';
comment on column sisyphus.request.guardian_id is 'Guardian that must act on it; null: not yet applied';
comment on column sisyphus.request.reason is 'Why';
comment on column sisyphus.request.role_name is 'Who asked';
comment on column sisyphus.request.requested_at is 'When';
comment on column sisyphus.request.replan_from is 'New watermark of a define; null: the watermark stays';
comment on column sisyphus.request.suspended_at is 'Since when the job was suspended that this suspends or resumes';
comment on column sisyphus.request.suspended_until is 'When that suspension ends; null: not before resume()';

create table sisyphus.run (
    run_id bigint not null default pg_catalog.nextval('sisyphus.run_id_seq'),
    job_id bigint not null,
    target bigint not null default 0,
    lane_id bigint not null,
    ready_no bigint,
    claim_no bigint,
    guardian_id bigint,
    host_id bigint,
    last_host_id bigint,
    due_at timestamptz not null,
    nominal_at timestamptz not null,
    expires_at timestamptz,
    requested_at timestamptz,
    wake_at timestamptz,
    anywhere_at timestamptz,
    claimed_at timestamptz,
    started_at timestamptz,
    paused_at timestamptz,
    job_version integer not null,
    attempt integer not null default 0,
    pid integer,
    priority smallint not null default 0,
    exclusive boolean not null,
    in_order boolean not null default false,
    state text not null default 'waiting',
    origin text not null,
    stopping text,
    withdrawn text,
    reason text,
    dedup_key text,
    payload jsonb,
    spec jsonb,
    -- Half full, here and below: each claim makes another entry beside the first, and pages need not split for it.
    constraint run_pkey primary key (run_id) with (fillfactor = 50),
    constraint run_state_check check (state in ('waiting', 'pending', 'claimed', 'running')),
    constraint run_origin_check check (origin in ('schedule', 'run_now', 'run_many', 'submit', 'rerun', 'backfill')),
    constraint run_stopping_check check (stopping in ('terminate', 'replace')),
    constraint run_withdrawn_check check (withdrawn in ('waiting', 'skipped', 'cancelled')),
    constraint run_wake_at_check check ((state = 'waiting') = (wake_at is not null)),
    constraint run_ready_no_check check ((state = 'pending') = (ready_no is not null)),
    constraint run_claim_no_check check ((state in ('claimed', 'running')) = (claim_no is not null)),
    constraint run_guardian_id_check check ((claim_no is null) = (guardian_id is null) and (claim_no is null) = (host_id is null))
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0,
        autovacuum_vacuum_insert_threshold = 10000, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000);
alter sequence sisyphus.run_id_seq owned by sisyphus.run.run_id;
-- No foreign key to job: its KEY SHARE lock would let an open transaction on job block the planner.
create unique index run_exclusive_key on sisyphus.run (job_id, target)
    where exclusive and state in ('pending', 'claimed', 'running');
comment on index sisyphus.run_exclusive_key is 'Never twice at once: one pending, claimed or running run a target';
create index run_claim_idx on sisyphus.run (lane_id, priority, ready_no) where state = 'pending';
comment on index sisyphus.run_claim_idx is 'claim_job(): oldest claimable run of a lane and priority above the floor';
create index run_wake_at_idx on sisyphus.run (wake_at) where state = 'waiting';
comment on index sisyphus.run_wake_at_idx is '_promote(): waiting runs whose time has come';
create index run_expires_at_idx on sisyphus.run (expires_at)
    where state in ('waiting', 'pending') and attempt = 0 and expires_at is not null;
comment on index sisyphus.run_expires_at_idx is '_expire(): runs whose ttl has passed before they started';
create index run_guardian_id_idx on sisyphus.run (guardian_id, claim_no) where guardian_id is not null;
comment on index sisyphus.run_guardian_id_idx is 'claim_job(), register_guardian(), _reap(): runs that a guardian holds';
create index run_job_id_idx on sisyphus.run (job_id, run_id) with (fillfactor = 50);
comment on index sisyphus.run_job_id_idx is '_apply_requests(), finish_job(): live runs of a job';
create index run_retry_idx on sisyphus.run (job_id) where state = 'waiting' and attempt > 0;
comment on index sisyphus.run_retry_idx is '_supersede_retries(): retries that wait';
create unique index run_dedup_key on sisyphus.run (job_id, dedup_key) where dedup_key is not null;
comment on index sisyphus.run_dedup_key is 'run_now(dedup_key): one unfinished run a key';
comment on table sisyphus.run is 'Live runs, one row each; ended attempts stand in table attempt';
comment on column sisyphus.run.run_id is 'Number of the run, never used again';
comment on column sisyphus.run.job_id is 'Its job; 0: submitted without one';
comment on column sisyphus.run.target is '0: any host; else the host of a run_on all run';
comment on column sisyphus.run.lane_id is 'Claim queue: pool or host';
comment on column sisyphus.run.ready_no is 'Order in its lane since it became pending';
comment on column sisyphus.run.claim_no is 'Fence of the current claim';
comment on column sisyphus.run.guardian_id is 'Guardian that holds it';
comment on column sisyphus.run.host_id is 'Host that holds it';
comment on column sisyphus.run.due_at is 'When it is due';
comment on column sisyphus.run.nominal_at is 'The occurrence it stands for, before jitter';
comment on column sisyphus.run.expires_at is 'The first attempt may not start at or after this; null: never expires';
comment on column sisyphus.run.requested_at is 'When it was asked for by hand; null: scheduled';
comment on column sisyphus.run.wake_at is 'When a waiting run is looked at next';
comment on column sisyphus.run.last_host_id is 'Of a retry, the host of the attempt before';
comment on column sisyphus.run.anywhere_at is 'From when a retry is for that host too; null: at once';
comment on column sisyphus.run.claimed_at is 'When it was claimed';
comment on column sisyphus.run.started_at is 'When its process started';
comment on column sisyphus.run.paused_at is 'Since when its processes are stopped';
comment on column sisyphus.run.job_version is 'Version of the job it was planned from';
comment on column sisyphus.run.attempt is 'Claims that were not given back unstarted';
comment on column sisyphus.run.pid is 'Process';
comment on column sisyphus.run.priority is 'Higher first';
comment on column sisyphus.run.exclusive is 'Whether at most one run a target may be pending, claimed or running';
comment on column sisyphus.run.in_order is 'Waits its turn and is never skipped for overlap (run_many, backfill, catching up)';
comment on column sisyphus.run.state is 'waiting, pending, claimed or running';
comment on column sisyphus.run.origin is 'What made it';
comment on column sisyphus.run.stopping is 'Why its process is being ended';
comment on column sisyphus.run.withdrawn is 'What becomes of it when its guardian gives it back unstarted';
comment on column sisyphus.run.reason is 'Why it is stopping or withdrawn';
comment on column sisyphus.run.dedup_key is 'Key that names one unfinished run of the job';
comment on column sisyphus.run.payload is 'Own input; null: the job''s';
comment on column sisyphus.run.spec is 'Own definition of a submitted run; null: the job''s';

create table sisyphus.lane_floor (
    lane_id bigint not null,
    priority smallint not null,
    floor bigint not null default 0,
    candidate bigint,
    candidate_after text[],
    constraint lane_floor_pkey primary key (lane_id, priority)
) with (fillfactor = 50);
comment on table sisyphus.lane_floor is 'Per lane and priority: the number up to which every pending run has been claimed';
comment on column sisyphus.lane_floor.lane_id is 'Lane';
comment on column sisyphus.lane_floor.priority is 'Priority';
comment on column sisyphus.lane_floor.floor is 'No pending run has this number or a lower one';
comment on column sisyphus.lane_floor.candidate is 'Last number given when the candidate was taken';
comment on column sisyphus.lane_floor.candidate_after is 'Virtual transactions that may still commit a number up to the candidate; it becomes the floor when they have ended';

create table sisyphus.attempt (
    run_id bigint not null,
    claim_no bigint,
    job_id bigint not null,
    due_at timestamptz not null,
    nominal_at timestamptz not null,
    last_due_at timestamptz,
    expires_at timestamptz,
    requested_at timestamptz,
    claimed_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz not null,
    recorded_at timestamptz not null,
    occurrences bigint not null default 1,
    peak_memory_bytes bigint,
    cpu_user_seconds double precision,
    cpu_system_seconds double precision,
    attempt integer not null,
    job_version integer not null,
    exit_code integer,
    signal integer,
    retention_days integer not null,
    is_final boolean not null,
    state text not null,
    origin text not null,
    job text,
    owner name,
    pool text,
    host text,
    reason text not null,
    stdout text,
    stderr text,
    result jsonb,
    payload jsonb,
    command text,
    late_state text,
    late_exit_code integer,
    late_finished_at timestamptz,
    constraint attempt_state_check check (state in ('succeeded', 'failed', 'timed_out', 'terminated', 'lost', 'refused',
                                                    'expired', 'skipped', 'cancelled'))
) partition by list (retention_days);
create index attempt_run_id_idx on sisyphus.attempt (run_id);
comment on index sisyphus.attempt_run_id_idx is 'finish_job(): late and repeated results; a run looked up by number';
create index attempt_job_idx on sisyphus.attempt (job, recorded_at);
comment on index sisyphus.attempt_job_idx is 'overview, explain(), history of a job: its last attempts';
create index attempt_failed_idx on sisyphus.attempt (recorded_at)
    where is_final and state in ('failed', 'timed_out', 'lost', 'refused', 'expired');
comment on index sisyphus.attempt_failed_idx is 'failures: the last days'' few among many';
comment on table sisyphus.attempt is 'Ended attempts, and occurrences that never started (attempt 0); outlives the jobs; read it through history';
comment on column sisyphus.attempt.run_id is 'The run';
comment on column sisyphus.attempt.claim_no is 'Claim of the attempt; null: never claimed';
comment on column sisyphus.attempt.job_id is 'The job; 0: submitted without one';
comment on column sisyphus.attempt.due_at is 'When it was due; of several occurrences, the first';
comment on column sisyphus.attempt.nominal_at is 'The occurrence before jitter';
comment on column sisyphus.attempt.last_due_at is 'Of several occurrences in one row, the last';
comment on column sisyphus.attempt.expires_at is 'Until when it might have started';
comment on column sisyphus.attempt.requested_at is 'When it was asked for by hand; null: scheduled';
comment on column sisyphus.attempt.claimed_at is 'When it was claimed';
comment on column sisyphus.attempt.started_at is 'When its process started';
comment on column sisyphus.attempt.finished_at is 'When it ended';
comment on column sisyphus.attempt.recorded_at is 'When the row was written; decides its partition';
comment on column sisyphus.attempt.occurrences is 'How many occurrences the row stands for; 0: nobody can tell, the time zone has gone';
comment on column sisyphus.attempt.peak_memory_bytes is 'Largest resident size, bytes';
comment on column sisyphus.attempt.cpu_user_seconds is 'User CPU time, seconds';
comment on column sisyphus.attempt.cpu_system_seconds is 'System CPU time, seconds';
comment on column sisyphus.attempt.attempt is 'Attempt; 0: never started';
comment on column sisyphus.attempt.job_version is 'Version of the job';
comment on column sisyphus.attempt.exit_code is 'Exit code, when it exited';
comment on column sisyphus.attempt.signal is 'Signal, when one killed it';
comment on column sisyphus.attempt.retention_days is 'Retention class: 1, 7, 30, 90, 400 days, or 0 for ever';
comment on column sisyphus.attempt.is_final is 'Whether this attempt ended the run';
comment on column sisyphus.attempt.state is 'Final state';
comment on column sisyphus.attempt.origin is 'What made the run';
comment on column sisyphus.attempt.job is 'Name of the job then';
comment on column sisyphus.attempt.owner is 'Owner of the job then';
comment on column sisyphus.attempt.pool is 'Pool';
comment on column sisyphus.attempt.host is 'Host';
comment on column sisyphus.attempt.reason is 'Why it ended so, for a person';
comment on column sisyphus.attempt.stdout is 'Standard output, head and tail';
comment on column sisyphus.attempt.stderr is 'Standard error, head and tail';
comment on column sisyphus.attempt.result is 'What the job wrote to its result file';
comment on column sisyphus.attempt.payload is 'Input it was given';
comment on column sisyphus.attempt.command is 'What was submitted without a job, an argv as JSON; null: as that version of the job says';
comment on column sisyphus.attempt.late_state is 'Result that arrived after a later attempt was claimed';
comment on column sisyphus.attempt.late_exit_code is 'Its exit code';
comment on column sisyphus.attempt.late_finished_at is 'When that one ended';

create table sisyphus.attempt_1 partition of sisyphus.attempt for values in (1) partition by range (recorded_at);
create table sisyphus.attempt_7 partition of sisyphus.attempt for values in (7) partition by range (recorded_at);
create table sisyphus.attempt_30 partition of sisyphus.attempt for values in (30) partition by range (recorded_at);
create table sisyphus.attempt_90 partition of sisyphus.attempt for values in (90) partition by range (recorded_at);
create table sisyphus.attempt_400 partition of sisyphus.attempt for values in (400) partition by range (recorded_at);
create table sisyphus.attempt_0 partition of sisyphus.attempt for values in (0) partition by range (recorded_at);

create table sisyphus.audit (
    audit_id bigint generated always as identity,
    at timestamptz not null,
    role_name name not null,
    action text not null,
    object text,
    owner name,
    before jsonb,
    after jsonb,
    constraint audit_pkey primary key (audit_id)
);
comment on table sisyphus.audit is 'Definition and control calls, who and when; read it through audit_log';
comment on column sisyphus.audit.audit_id is 'Number of the entry';
comment on column sisyphus.audit.at is 'When';
comment on column sisyphus.audit.role_name is 'Who';
comment on column sisyphus.audit.action is 'Function that was called';
comment on column sisyphus.audit.object is 'Job, run, host or pool';
comment on column sisyphus.audit.owner is 'Owner of the job or run then, where it is one';
comment on column sisyphus.audit.before is 'What it was';
comment on column sisyphus.audit.after is 'What it became';
