CREATE SCHEMA sisyphus;

CREATE TABLE sisyphus.job (
    job_id bigint NOT NULL,
    name text NOT NULL,
    owner name NOT NULL,
    version integer DEFAULT 1 NOT NULL,
    deleted_at timestamp with time zone,
    schedule text,
    timezone text NOT NULL,
    compiled bigint[],
    anchor_at timestamp with time zone NOT NULL,
    command text,
    argv text[],
    pool_id bigint NOT NULL,
    run_on text DEFAULT 'any'::text NOT NULL,
    ttl interval,
    missed text DEFAULT 'latest'::text NOT NULL,
    overlap text DEFAULT 'skip'::text NOT NULL,
    max_runtime interval,
    grace interval DEFAULT '00:00:10'::interval NOT NULL,
    retries integer DEFAULT 0 NOT NULL,
    retry_delay interval DEFAULT '00:00:10'::interval NOT NULL,
    retry_backoff double precision DEFAULT 2 NOT NULL,
    retry_max_delay interval DEFAULT '01:00:00'::interval NOT NULL,
    retry_on_lost boolean DEFAULT false NOT NULL,
    fenced boolean DEFAULT false NOT NULL,
    success_exit_codes integer[] DEFAULT '{0}'::integer[] NOT NULL,
    no_retry_exit_codes integer[] DEFAULT '{}'::integer[] NOT NULL,
    priority smallint DEFAULT 0 NOT NULL,
    jitter interval,
    starts_at timestamp with time zone,
    ends_at timestamp with time zone,
    except_on text,
    only_on text,
    payload jsonb,
    env jsonb,
    cwd text,
    run_as text,
    limits jsonb,
    leftovers text DEFAULT 'kill'::text NOT NULL,
    retention jsonb,
    description text,
    tags text[] DEFAULT '{}'::text[] NOT NULL,
    suspended_at timestamp with time zone,
    suspended_until timestamp with time zone,
    suspend_reason text,
    spec jsonb DEFAULT '{}'::jsonb NOT NULL,
    retain_success integer,
    retain_failure integer,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    changed_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT job_argv_check CHECK (((argv IS NULL) OR ((cardinality(argv) > 0) AND (array_position(argv, NULL::text) IS NULL)))),
    CONSTRAINT job_command_check CHECK (((command IS NULL) <> (argv IS NULL))),
    CONSTRAINT job_ends_at_check CHECK ((ends_at > starts_at)),
    CONSTRAINT job_grace_check CHECK ((grace >= '00:00:00'::interval)),
    CONSTRAINT job_jitter_check CHECK ((jitter >= '00:00:00'::interval)),
    CONSTRAINT job_leftovers_check CHECK ((leftovers = ANY (ARRAY['kill'::text, 'leave'::text]))),
    CONSTRAINT job_max_runtime_check CHECK ((max_runtime > '00:00:00'::interval)),
    CONSTRAINT job_missed_check CHECK (((missed = ANY (ARRAY['latest'::text, 'all'::text, 'none'::text])) AND ((missed <> 'all'::text) OR (ttl IS NOT NULL)))),
    CONSTRAINT job_name_check CHECK ((name ~ '^[^\u0001-\u001f\u007f-\u009f\u2028\u2029]{1,200}$'::text)),
    CONSTRAINT job_overlap_check CHECK ((overlap = ANY (ARRAY['skip'::text, 'queue'::text, 'replace'::text, 'allow'::text]))),
    CONSTRAINT job_priority_check CHECK (((priority >= '-9'::integer) AND (priority <= 9))),
    CONSTRAINT job_retries_check CHECK (((retries >= 0) AND (retries <= 1000))),
    CONSTRAINT job_retry_delay_check CHECK (((retry_delay >= '00:00:00'::interval) AND (retry_max_delay >= '00:00:00'::interval) AND (retry_backoff >= (1)::double precision))),
    CONSTRAINT job_retry_on_lost_check CHECK (((NOT retry_on_lost) OR (retries >= 1))),
    CONSTRAINT job_run_on_check CHECK ((run_on = ANY (ARRAY['any'::text, 'all'::text]))),
    CONSTRAINT job_schedule_check CHECK (((schedule IS NULL) = (compiled IS NULL))),
    CONSTRAINT job_suspended_at_check CHECK (((suspended_at IS NOT NULL) OR (suspended_until IS NULL))),
    CONSTRAINT job_ttl_check CHECK ((ttl >= '00:00:01'::interval))
);

CREATE TABLE sisyphus.request (
    request_id bigint NOT NULL,
    action text NOT NULL,
    job_id bigint,
    run_id bigint,
    claim_no bigint,
    guardian_id bigint,
    reason text,
    role_name name NOT NULL,
    requested_at timestamp with time zone NOT NULL,
    replan_from timestamp with time zone,
    suspended_at timestamp with time zone,
    suspended_until timestamp with time zone,
    CONSTRAINT request_action_check CHECK ((action = ANY (ARRAY['define'::text, 'replan'::text, 'host'::text, 'cancel'::text, 'terminate'::text, 'recall'::text, 'pause'::text, 'unpause'::text]))),
    CONSTRAINT request_object_check CHECK (((action = ANY (ARRAY['define'::text, 'replan'::text, 'host'::text])) = (run_id IS NULL)))
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='200', autovacuum_vacuum_cost_delay='0');

CREATE TABLE sisyphus.calendar (
    calendar_id bigint NOT NULL,
    name text NOT NULL,
    owner name NOT NULL,
    query text NOT NULL,
    kind text NOT NULL,
    refreshed_at timestamp with time zone NOT NULL,
    CONSTRAINT calendar_kind_check CHECK ((kind = ANY (ARRAY['dates'::text, 'ranges'::text]))),
    CONSTRAINT calendar_name_check CHECK ((name ~ '^[^\u0001-\u001f\u007f-\u009f\u2028\u2029]{1,63}$'::text))
);

CREATE SEQUENCE sisyphus.lane_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE sisyphus.host (
    host_id bigint DEFAULT nextval('sisyphus.lane_id_seq'::regclass) NOT NULL,
    name text NOT NULL,
    state text DEFAULT 'active'::text NOT NULL,
    slots integer DEFAULT 1 NOT NULL,
    labels jsonb DEFAULT '{}'::jsonb NOT NULL,
    host_key uuid,
    boot_id text,
    lanes bigint[] DEFAULT '{}'::bigint[] NOT NULL,
    registered_at timestamp with time zone,
    CONSTRAINT host_name_check CHECK ((name ~ '^[^\u0001-\u001f\u007f-\u009f\u2028\u2029]{1,63}$'::text)),
    CONSTRAINT host_slots_check CHECK (((slots >= 0) AND (slots <= 10000))),
    CONSTRAINT host_state_check CHECK ((state = ANY (ARRAY['active'::text, 'draining'::text])))
);

CREATE TABLE sisyphus.attempt (
    run_id bigint NOT NULL,
    claim_no bigint,
    job_id bigint NOT NULL,
    due_at timestamp with time zone NOT NULL,
    nominal_at timestamp with time zone NOT NULL,
    last_due_at timestamp with time zone,
    expires_at timestamp with time zone,
    requested_at timestamp with time zone,
    claimed_at timestamp with time zone,
    started_at timestamp with time zone,
    finished_at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    occurrences bigint DEFAULT 1 NOT NULL,
    peak_memory_bytes bigint,
    cpu_user_seconds double precision,
    cpu_system_seconds double precision,
    attempt integer NOT NULL,
    job_version integer NOT NULL,
    exit_code integer,
    signal integer,
    retention_days integer NOT NULL,
    is_final boolean NOT NULL,
    state text NOT NULL,
    origin text NOT NULL,
    job text,
    owner name,
    pool text,
    host text,
    reason text NOT NULL,
    stdout text,
    stderr text,
    result jsonb,
    payload jsonb,
    command text,
    late_state text,
    late_exit_code integer,
    late_finished_at timestamp with time zone,
    CONSTRAINT attempt_state_check CHECK ((state = ANY (ARRAY['succeeded'::text, 'failed'::text, 'timed_out'::text, 'terminated'::text, 'lost'::text, 'refused'::text, 'expired'::text, 'skipped'::text, 'cancelled'::text])))
)
PARTITION BY LIST (retention_days);

CREATE TABLE sisyphus.run (
    run_id bigint NOT NULL,
    job_id bigint NOT NULL,
    target bigint DEFAULT 0 NOT NULL,
    lane_id bigint NOT NULL,
    ready_no bigint,
    claim_no bigint,
    guardian_id bigint,
    host_id bigint,
    last_host_id bigint,
    due_at timestamp with time zone NOT NULL,
    nominal_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone,
    requested_at timestamp with time zone,
    wake_at timestamp with time zone,
    anywhere_at timestamp with time zone,
    claimed_at timestamp with time zone,
    started_at timestamp with time zone,
    paused_at timestamp with time zone,
    job_version integer NOT NULL,
    attempt integer DEFAULT 0 NOT NULL,
    pid integer,
    priority smallint DEFAULT 0 NOT NULL,
    exclusive boolean NOT NULL,
    in_order boolean DEFAULT false NOT NULL,
    state text DEFAULT 'waiting'::text NOT NULL,
    origin text NOT NULL,
    stopping text,
    withdrawn text,
    reason text,
    dedup_key text,
    payload jsonb,
    spec jsonb,
    CONSTRAINT run_claim_no_check CHECK (((state = ANY (ARRAY['claimed'::text, 'running'::text])) = (claim_no IS NOT NULL))),
    CONSTRAINT run_guardian_id_check CHECK ((((claim_no IS NULL) = (guardian_id IS NULL)) AND ((claim_no IS NULL) = (host_id IS NULL)))),
    CONSTRAINT run_origin_check CHECK ((origin = ANY (ARRAY['schedule'::text, 'run_now'::text, 'run_many'::text, 'submit'::text, 'rerun'::text, 'backfill'::text]))),
    CONSTRAINT run_ready_no_check CHECK (((state = 'pending'::text) = (ready_no IS NOT NULL))),
    CONSTRAINT run_state_check CHECK ((state = ANY (ARRAY['waiting'::text, 'pending'::text, 'claimed'::text, 'running'::text]))),
    CONSTRAINT run_stopping_check CHECK ((stopping = ANY (ARRAY['terminate'::text, 'replace'::text]))),
    CONSTRAINT run_wake_at_check CHECK (((state = 'waiting'::text) = (wake_at IS NOT NULL))),
    CONSTRAINT run_withdrawn_check CHECK ((withdrawn = ANY (ARRAY['waiting'::text, 'skipped'::text, 'cancelled'::text])))
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='500', autovacuum_vacuum_cost_delay='0', autovacuum_vacuum_insert_threshold='10000', autovacuum_analyze_scale_factor='0', autovacuum_analyze_threshold='5000');

CREATE TABLE sisyphus.planner (
    only_row boolean DEFAULT true NOT NULL,
    last_tick_at timestamp with time zone,
    newest_tick_at timestamp with time zone,
    next_tick_at timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    downtime_until timestamp with time zone,
    CONSTRAINT planner_only_row_check CHECK (only_row)
)
WITH (fillfactor='10');

CREATE TABLE sisyphus.setting (
    only_row boolean DEFAULT true NOT NULL,
    default_timezone text DEFAULT 'UTC'::text NOT NULL,
    heartbeat interval DEFAULT '00:00:05'::interval NOT NULL,
    lease_timeout interval DEFAULT '00:00:30'::interval NOT NULL,
    claim_ahead interval DEFAULT '00:00:10'::interval NOT NULL,
    plan_ahead interval DEFAULT '00:00:15'::interval NOT NULL,
    retention_success interval DEFAULT '30 days'::interval NOT NULL,
    retention_failure interval DEFAULT '90 days'::interval NOT NULL,
    retention_audit interval DEFAULT '400 days'::interval NOT NULL,
    output_limit integer DEFAULT 65536 NOT NULL,
    CONSTRAINT setting_claim_ahead_check CHECK ((claim_ahead >= '00:00:00'::interval)),
    CONSTRAINT setting_heartbeat_check CHECK (((heartbeat >= '00:00:00.2'::interval) AND (heartbeat <= '00:01:00'::interval))),
    CONSTRAINT setting_lease_timeout_check CHECK ((((claim_ahead + heartbeat) < lease_timeout) AND (lease_timeout <= '1 day'::interval))),
    CONSTRAINT setting_only_row_check CHECK (only_row),
    CONSTRAINT setting_output_limit_check CHECK (((output_limit >= 1024) AND (output_limit <= 1048576))),
    CONSTRAINT setting_plan_ahead_check CHECK (((plan_ahead >= (claim_ahead + heartbeat)) AND (plan_ahead <= '1 day'::interval)))
);

CREATE TABLE sisyphus.job_state (
    job_id bigint NOT NULL,
    version integer NOT NULL,
    watermark timestamp with time zone NOT NULL,
    planned_until timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    next_due_at timestamp with time zone NOT NULL,
    suspended_since timestamp with time zone,
    broken text
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='500', autovacuum_vacuum_cost_delay='0');

CREATE FUNCTION sisyphus.activate_host(name text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.add_host(pool text, host text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.adopt_installation() RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.alter_job(name text, schedule text DEFAULT NULL::text, command text DEFAULT NULL::text, timezone text DEFAULT NULL::text, argv text[] DEFAULT NULL::text[], pool text DEFAULT NULL::text, run_on text DEFAULT NULL::text, ttl interval DEFAULT NULL::interval, missed text DEFAULT NULL::text, overlap text DEFAULT NULL::text, max_runtime interval DEFAULT NULL::interval, grace interval DEFAULT NULL::interval, retries integer DEFAULT NULL::integer, retry_delay interval DEFAULT NULL::interval, retry_backoff double precision DEFAULT NULL::double precision, retry_max_delay interval DEFAULT NULL::interval, retry_on_lost boolean DEFAULT NULL::boolean, fenced boolean DEFAULT NULL::boolean, success_exit_codes integer[] DEFAULT NULL::integer[], no_retry_exit_codes integer[] DEFAULT NULL::integer[], priority integer DEFAULT NULL::integer, jitter interval DEFAULT NULL::interval, starts_at timestamp with time zone DEFAULT NULL::timestamp with time zone, ends_at timestamp with time zone DEFAULT NULL::timestamp with time zone, except_on text DEFAULT NULL::text, only_on text DEFAULT NULL::text, payload jsonb DEFAULT NULL::jsonb, env jsonb DEFAULT NULL::jsonb, cwd text DEFAULT NULL::text, run_as text DEFAULT NULL::text, limits jsonb DEFAULT NULL::jsonb, leftovers text DEFAULT NULL::text, retention jsonb DEFAULT NULL::jsonb, description text DEFAULT NULL::text, tags text[] DEFAULT NULL::text[], reset text[] DEFAULT '{}'::text[]) RETURNS bigint
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "IntervalStyle" TO 'postgres'
    SET "TimeZone" TO 'UTC'
    SET extra_float_digits TO '1'

CREATE FUNCTION sisyphus.assert_current(run_id bigint, claim_no bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.backfill(name text, since timestamp with time zone, until timestamp with time zone) RETURNS SETOF bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.bind_guardian(role name, host text, pools text[] DEFAULT '{}'::text[], labels jsonb DEFAULT '{}'::jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.cancel(run_id bigint) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.claim_job(guardian_id bigint, max_runs integer DEFAULT 1, slots_free integer DEFAULT 1, ahead interval DEFAULT '00:00:10'::interval, holding bigint[] DEFAULT NULL::bigint[], acknowledged bigint[] DEFAULT NULL::bigint[], report jsonb DEFAULT NULL::jsonb) RETURNS TABLE(kind text, run_id bigint, claim_no bigint, attempt integer, job text, starts_in double precision, spec jsonb, due_at timestamp with time zone, expires_at timestamp with time zone, payload jsonb)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'

CREATE FUNCTION sisyphus.create_calendar(name text, query text) RETURNS bigint
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.create_pool(name text, hosts text[] DEFAULT '{}'::text[], selector jsonb DEFAULT NULL::jsonb, description text DEFAULT NULL::text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.describe_schedule(schedule text) RETURNS text
    LANGUAGE plpgsql STABLE STRICT SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.drain_host(name text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.drop_calendar(name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.drop_pool(name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.explain(name text, due_at timestamp with time zone) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.explain_run(run_id bigint) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.finish_job(guardian_id bigint, run_ids bigint[], claim_nos bigint[], exit_codes integer[] DEFAULT NULL::integer[], signals integer[] DEFAULT NULL::integer[], ended_by text[] DEFAULT NULL::text[], reasons text[] DEFAULT NULL::text[], started_at timestamp with time zone[] DEFAULT NULL::timestamp with time zone[], finished_at timestamp with time zone[] DEFAULT NULL::timestamp with time zone[], stdouts text[] DEFAULT NULL::text[], stderrs text[] DEFAULT NULL::text[], results jsonb[] DEFAULT NULL::jsonb[], cpu_user double precision[] DEFAULT NULL::double precision[], cpu_system double precision[] DEFAULT NULL::double precision[], peak_memory bigint[] DEFAULT NULL::bigint[]) RETURNS TABLE(run_id bigint, claim_no bigint, answer text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'

CREATE FUNCTION sisyphus.fires(schedule text, timezone text, since timestamp with time zone, until timestamp with time zone, max integer DEFAULT 1000, starts_at timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS SETOF timestamp with time zone
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.forget_host(name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.grant_run_as(role name, os_user text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.maintain() RETURNS TABLE(relation text, outcome text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.next_fire(schedule text, timezone text DEFAULT 'UTC'::text, after timestamp with time zone DEFAULT NULL::timestamp with time zone, starts_at timestamp with time zone DEFAULT '1970-01-01 00:00:00+00'::timestamp with time zone) RETURNS timestamp with time zone
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.note_tick(installation uuid, seen_at timestamp with time zone) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.pause(run_id bigint) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.preview(name text, n integer DEFAULT 10) RETURNS TABLE(due_at timestamp with time zone, local_time timestamp without time zone, host_or_pool text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.refresh_calendar(name text) RETURNS bigint
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.register_guardian(host text, slots integer, labels jsonb DEFAULT '{}'::jsonb, pools text[] DEFAULT '{}'::text[], version text DEFAULT NULL::text, host_key uuid DEFAULT NULL::uuid, boot_id text DEFAULT NULL::text, keepers uuid[] DEFAULT '{}'::uuid[], held jsonb DEFAULT '[]'::jsonb, periodic boolean DEFAULT false) RETURNS TABLE(guardian_id bigint, host_id bigint, installation uuid, settings jsonb, owned jsonb)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.release_job(guardian_id bigint, run_ids bigint[], claim_nos bigint[], reason text DEFAULT NULL::text) RETURNS TABLE(run_id bigint, claim_no bigint, answer text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'

CREATE FUNCTION sisyphus.remove_host(pool text, host text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.rerun(run_id bigint) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.resume(name text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.resume_all(pool text DEFAULT NULL::text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.revoke_run_as(role name, os_user text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.run_many(name text, payloads jsonb[]) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.run_now(name text, payload jsonb DEFAULT NULL::jsonb, at timestamp with time zone DEFAULT NULL::timestamp with time zone, host text DEFAULT NULL::text, dedup_key text DEFAULT NULL::text) RETURNS SETOF bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.schedule(name text, schedule text, command text DEFAULT NULL::text, timezone text DEFAULT NULL::text, argv text[] DEFAULT NULL::text[], pool text DEFAULT 'default'::text, run_on text DEFAULT 'any'::text, ttl interval DEFAULT NULL::interval, missed text DEFAULT 'latest'::text, overlap text DEFAULT 'skip'::text, max_runtime interval DEFAULT NULL::interval, grace interval DEFAULT '00:00:10'::interval, retries integer DEFAULT 0, retry_delay interval DEFAULT '00:00:10'::interval, retry_backoff double precision DEFAULT 2, retry_max_delay interval DEFAULT '01:00:00'::interval, retry_on_lost boolean DEFAULT false, fenced boolean DEFAULT false, success_exit_codes integer[] DEFAULT '{0}'::integer[], no_retry_exit_codes integer[] DEFAULT '{}'::integer[], priority integer DEFAULT 0, jitter interval DEFAULT NULL::interval, starts_at timestamp with time zone DEFAULT NULL::timestamp with time zone, ends_at timestamp with time zone DEFAULT NULL::timestamp with time zone, except_on text DEFAULT NULL::text, only_on text DEFAULT NULL::text, payload jsonb DEFAULT NULL::jsonb, env jsonb DEFAULT NULL::jsonb, cwd text DEFAULT NULL::text, run_as text DEFAULT NULL::text, limits jsonb DEFAULT NULL::jsonb, leftovers text DEFAULT 'kill'::text, retention jsonb DEFAULT NULL::jsonb, description text DEFAULT NULL::text, tags text[] DEFAULT '{}'::text[]) RETURNS bigint
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "IntervalStyle" TO 'postgres'
    SET "TimeZone" TO 'UTC'
    SET extra_float_digits TO '1'

CREATE FUNCTION sisyphus.set_setting(name text, value text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "IntervalStyle" TO 'postgres'

CREATE FUNCTION sisyphus.set_slots(host text, n integer) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.sign_off(guardian_id bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.start_job(guardian_id bigint, run_ids bigint[], claim_nos bigint[], pids integer[] DEFAULT NULL::integer[], started_at timestamp with time zone[] DEFAULT NULL::timestamp with time zone[]) RETURNS TABLE(run_id bigint, claim_no bigint, answer text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET enable_seqscan TO 'off'
    SET enable_bitmapscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'

CREATE FUNCTION sisyphus.submit(command text DEFAULT NULL::text, argv text[] DEFAULT NULL::text[], pool text DEFAULT 'default'::text, host text DEFAULT NULL::text, at timestamp with time zone DEFAULT NULL::timestamp with time zone, ttl interval DEFAULT NULL::interval, max_runtime interval DEFAULT NULL::interval, grace interval DEFAULT '00:00:10'::interval, priority integer DEFAULT 0, payload jsonb DEFAULT NULL::jsonb, env jsonb DEFAULT NULL::jsonb, cwd text DEFAULT NULL::text, run_as text DEFAULT NULL::text, limits jsonb DEFAULT NULL::jsonb, leftovers text DEFAULT 'kill'::text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "IntervalStyle" TO 'postgres'
    SET "TimeZone" TO 'UTC'
    SET extra_float_digits TO '1'

CREATE FUNCTION sisyphus.suspend(name text, until timestamp with time zone DEFAULT NULL::timestamp with time zone, reason text DEFAULT NULL::text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.suspend_all(pool text DEFAULT NULL::text, reason text DEFAULT NULL::text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.terminate(run_id bigint, reason text DEFAULT NULL::text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.tick(seen_tick_at timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS timestamp with time zone
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    SET enable_seqscan TO 'off'

CREATE FUNCTION sisyphus.unpause(run_id bigint) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE FUNCTION sisyphus.unschedule(name text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'

CREATE TABLE sisyphus.attempt_0 (
    run_id bigint NOT NULL,
    claim_no bigint,
    job_id bigint NOT NULL,
    due_at timestamp with time zone NOT NULL,
    nominal_at timestamp with time zone NOT NULL,
    last_due_at timestamp with time zone,
    expires_at timestamp with time zone,
    requested_at timestamp with time zone,
    claimed_at timestamp with time zone,
    started_at timestamp with time zone,
    finished_at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    occurrences bigint DEFAULT 1 NOT NULL,
    peak_memory_bytes bigint,
    cpu_user_seconds double precision,
    cpu_system_seconds double precision,
    attempt integer NOT NULL,
    job_version integer NOT NULL,
    exit_code integer,
    signal integer,
    retention_days integer NOT NULL,
    is_final boolean NOT NULL,
    state text NOT NULL,
    origin text NOT NULL,
    job text,
    owner name,
    pool text,
    host text,
    reason text NOT NULL,
    stdout text,
    stderr text,
    result jsonb,
    payload jsonb,
    command text,
    late_state text,
    late_exit_code integer,
    late_finished_at timestamp with time zone,
    CONSTRAINT attempt_state_check CHECK ((state = ANY (ARRAY['succeeded'::text, 'failed'::text, 'timed_out'::text, 'terminated'::text, 'lost'::text, 'refused'::text, 'expired'::text, 'skipped'::text, 'cancelled'::text])))
)
PARTITION BY RANGE (recorded_at);

CREATE TABLE sisyphus.attempt_1 (
    run_id bigint NOT NULL,
    claim_no bigint,
    job_id bigint NOT NULL,
    due_at timestamp with time zone NOT NULL,
    nominal_at timestamp with time zone NOT NULL,
    last_due_at timestamp with time zone,
    expires_at timestamp with time zone,
    requested_at timestamp with time zone,
    claimed_at timestamp with time zone,
    started_at timestamp with time zone,
    finished_at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    occurrences bigint DEFAULT 1 NOT NULL,
    peak_memory_bytes bigint,
    cpu_user_seconds double precision,
    cpu_system_seconds double precision,
    attempt integer NOT NULL,
    job_version integer NOT NULL,
    exit_code integer,
    signal integer,
    retention_days integer NOT NULL,
    is_final boolean NOT NULL,
    state text NOT NULL,
    origin text NOT NULL,
    job text,
    owner name,
    pool text,
    host text,
    reason text NOT NULL,
    stdout text,
    stderr text,
    result jsonb,
    payload jsonb,
    command text,
    late_state text,
    late_exit_code integer,
    late_finished_at timestamp with time zone,
    CONSTRAINT attempt_state_check CHECK ((state = ANY (ARRAY['succeeded'::text, 'failed'::text, 'timed_out'::text, 'terminated'::text, 'lost'::text, 'refused'::text, 'expired'::text, 'skipped'::text, 'cancelled'::text])))
)
PARTITION BY RANGE (recorded_at);

CREATE TABLE sisyphus.attempt_30 (
    run_id bigint NOT NULL,
    claim_no bigint,
    job_id bigint NOT NULL,
    due_at timestamp with time zone NOT NULL,
    nominal_at timestamp with time zone NOT NULL,
    last_due_at timestamp with time zone,
    expires_at timestamp with time zone,
    requested_at timestamp with time zone,
    claimed_at timestamp with time zone,
    started_at timestamp with time zone,
    finished_at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    occurrences bigint DEFAULT 1 NOT NULL,
    peak_memory_bytes bigint,
    cpu_user_seconds double precision,
    cpu_system_seconds double precision,
    attempt integer NOT NULL,
    job_version integer NOT NULL,
    exit_code integer,
    signal integer,
    retention_days integer NOT NULL,
    is_final boolean NOT NULL,
    state text NOT NULL,
    origin text NOT NULL,
    job text,
    owner name,
    pool text,
    host text,
    reason text NOT NULL,
    stdout text,
    stderr text,
    result jsonb,
    payload jsonb,
    command text,
    late_state text,
    late_exit_code integer,
    late_finished_at timestamp with time zone,
    CONSTRAINT attempt_state_check CHECK ((state = ANY (ARRAY['succeeded'::text, 'failed'::text, 'timed_out'::text, 'terminated'::text, 'lost'::text, 'refused'::text, 'expired'::text, 'skipped'::text, 'cancelled'::text])))
)
PARTITION BY RANGE (recorded_at);

CREATE TABLE sisyphus.attempt_400 (
    run_id bigint NOT NULL,
    claim_no bigint,
    job_id bigint NOT NULL,
    due_at timestamp with time zone NOT NULL,
    nominal_at timestamp with time zone NOT NULL,
    last_due_at timestamp with time zone,
    expires_at timestamp with time zone,
    requested_at timestamp with time zone,
    claimed_at timestamp with time zone,
    started_at timestamp with time zone,
    finished_at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    occurrences bigint DEFAULT 1 NOT NULL,
    peak_memory_bytes bigint,
    cpu_user_seconds double precision,
    cpu_system_seconds double precision,
    attempt integer NOT NULL,
    job_version integer NOT NULL,
    exit_code integer,
    signal integer,
    retention_days integer NOT NULL,
    is_final boolean NOT NULL,
    state text NOT NULL,
    origin text NOT NULL,
    job text,
    owner name,
    pool text,
    host text,
    reason text NOT NULL,
    stdout text,
    stderr text,
    result jsonb,
    payload jsonb,
    command text,
    late_state text,
    late_exit_code integer,
    late_finished_at timestamp with time zone,
    CONSTRAINT attempt_state_check CHECK ((state = ANY (ARRAY['succeeded'::text, 'failed'::text, 'timed_out'::text, 'terminated'::text, 'lost'::text, 'refused'::text, 'expired'::text, 'skipped'::text, 'cancelled'::text])))
)
PARTITION BY RANGE (recorded_at);

CREATE TABLE sisyphus.attempt_7 (
    run_id bigint NOT NULL,
    claim_no bigint,
    job_id bigint NOT NULL,
    due_at timestamp with time zone NOT NULL,
    nominal_at timestamp with time zone NOT NULL,
    last_due_at timestamp with time zone,
    expires_at timestamp with time zone,
    requested_at timestamp with time zone,
    claimed_at timestamp with time zone,
    started_at timestamp with time zone,
    finished_at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    occurrences bigint DEFAULT 1 NOT NULL,
    peak_memory_bytes bigint,
    cpu_user_seconds double precision,
    cpu_system_seconds double precision,
    attempt integer NOT NULL,
    job_version integer NOT NULL,
    exit_code integer,
    signal integer,
    retention_days integer NOT NULL,
    is_final boolean NOT NULL,
    state text NOT NULL,
    origin text NOT NULL,
    job text,
    owner name,
    pool text,
    host text,
    reason text NOT NULL,
    stdout text,
    stderr text,
    result jsonb,
    payload jsonb,
    command text,
    late_state text,
    late_exit_code integer,
    late_finished_at timestamp with time zone,
    CONSTRAINT attempt_state_check CHECK ((state = ANY (ARRAY['succeeded'::text, 'failed'::text, 'timed_out'::text, 'terminated'::text, 'lost'::text, 'refused'::text, 'expired'::text, 'skipped'::text, 'cancelled'::text])))
)
PARTITION BY RANGE (recorded_at);

CREATE TABLE sisyphus.attempt_90 (
    run_id bigint NOT NULL,
    claim_no bigint,
    job_id bigint NOT NULL,
    due_at timestamp with time zone NOT NULL,
    nominal_at timestamp with time zone NOT NULL,
    last_due_at timestamp with time zone,
    expires_at timestamp with time zone,
    requested_at timestamp with time zone,
    claimed_at timestamp with time zone,
    started_at timestamp with time zone,
    finished_at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone NOT NULL,
    occurrences bigint DEFAULT 1 NOT NULL,
    peak_memory_bytes bigint,
    cpu_user_seconds double precision,
    cpu_system_seconds double precision,
    attempt integer NOT NULL,
    job_version integer NOT NULL,
    exit_code integer,
    signal integer,
    retention_days integer NOT NULL,
    is_final boolean NOT NULL,
    state text NOT NULL,
    origin text NOT NULL,
    job text,
    owner name,
    pool text,
    host text,
    reason text NOT NULL,
    stdout text,
    stderr text,
    result jsonb,
    payload jsonb,
    command text,
    late_state text,
    late_exit_code integer,
    late_finished_at timestamp with time zone,
    CONSTRAINT attempt_state_check CHECK ((state = ANY (ARRAY['succeeded'::text, 'failed'::text, 'timed_out'::text, 'terminated'::text, 'lost'::text, 'refused'::text, 'expired'::text, 'skipped'::text, 'cancelled'::text])))
)
PARTITION BY RANGE (recorded_at);

CREATE TABLE sisyphus.audit (
    audit_id bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    role_name name NOT NULL,
    action text NOT NULL,
    object text,
    owner name,
    before jsonb,
    after jsonb
);

ALTER TABLE sisyphus.audit ALTER COLUMN audit_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME sisyphus.audit_audit_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE VIEW sisyphus.audit_log AS
 SELECT a.at,
    a.role_name AS role,
    a.action,
    a.object,
        CASE
            WHEN v.visible THEN a.before
            ELSE NULL::jsonb
        END AS before,
        CASE
            WHEN v.visible THEN a.after
            ELSE NULL::jsonb
        END AS after
   FROM (sisyphus.audit a
     CROSS JOIN LATERAL ( SELECT (COALESCE((a.role_name = ANY (( SELECT sisyphus._visible_owners() AS _visible_owners)::name[])), false) OR COALESCE((a.owner = ANY (( SELECT sisyphus._visible_owners() AS _visible_owners)::name[])), false) OR ( SELECT sisyphus._sees_all() AS _sees_all)) AS visible) v);

ALTER TABLE sisyphus.calendar ALTER COLUMN calendar_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME sisyphus.calendar_calendar_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE sisyphus.calendar_range (
    calendar_id bigint NOT NULL,
    ends_at timestamp without time zone NOT NULL,
    starts_at timestamp without time zone NOT NULL,
    CONSTRAINT calendar_range_ends_at_check CHECK ((ends_at > starts_at))
);

CREATE VIEW sisyphus.calendars AS
 SELECT c.name AS calendar,
    c.owner,
    c.kind,
    r.ranges,
    r.starts_at,
    r.ends_at,
    c.refreshed_at,
    (round(EXTRACT(epoch FROM (( SELECT sisyphus._clock() AS _clock) - c.refreshed_at)), 3))::double precision AS age_seconds,
    ARRAY( SELECT j.name
           FROM sisyphus.job j
          WHERE (((c.name = j.except_on) OR (c.name = j.only_on)) AND (j.deleted_at IS NULL))
          ORDER BY j.name) AS jobs,
    sisyphus._calendar_problem(c.name, ( SELECT sisyphus._clock() AS _clock)) AS problem,
        CASE
            WHEN ((c.owner = ANY (( SELECT sisyphus._visible_owners() AS _visible_owners)::name[])) OR ( SELECT sisyphus._sees_all() AS _sees_all)) THEN c.query
            ELSE NULL::text
        END AS query
   FROM (sisyphus.calendar c
     CROSS JOIN LATERAL ( SELECT count(*) AS ranges,
            NULLIF(min(g.starts_at), '-infinity'::timestamp without time zone) AS starts_at,
            NULLIF(max(g.ends_at), 'infinity'::timestamp without time zone) AS ends_at
           FROM sisyphus.calendar_range g
          WHERE (g.calendar_id = c.calendar_id)) r)
  ORDER BY c.name;

CREATE SEQUENCE sisyphus.claim_no_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

CREATE TABLE sisyphus.pool (
    pool_id bigint DEFAULT nextval('sisyphus.lane_id_seq'::regclass) NOT NULL,
    name text NOT NULL,
    selector jsonb,
    description text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT pool_name_check CHECK ((name ~ '^[^\u0001-\u001f\u007f-\u009f\u2028\u2029]{1,63}$'::text))
);

CREATE VIEW sisyphus.definitions AS
 SELECT j.name AS job,
    j.owner,
    j.version,
    j.schedule,
        CASE
            WHEN v.visible THEN j.command
            ELSE NULL::text
        END AS command,
    j.timezone,
        CASE
            WHEN v.visible THEN j.argv
            ELSE NULL::text[]
        END AS argv,
    p.name AS pool,
    j.run_on,
    j.ttl,
    j.missed,
    j.overlap,
    j.max_runtime,
    j.grace,
    j.retries,
    j.retry_delay,
    j.retry_backoff,
    j.retry_max_delay,
    j.retry_on_lost,
    j.fenced,
    j.success_exit_codes,
    j.no_retry_exit_codes,
    (j.priority)::integer AS priority,
    j.jitter,
    j.starts_at,
    j.ends_at,
    j.except_on,
    j.only_on,
        CASE
            WHEN v.visible THEN j.payload
            ELSE NULL::jsonb
        END AS payload,
        CASE
            WHEN v.visible THEN j.env
            ELSE NULL::jsonb
        END AS env,
        CASE
            WHEN v.visible THEN j.cwd
            ELSE NULL::text
        END AS cwd,
    j.run_as,
    j.limits,
    j.leftovers,
    j.retention,
    j.description,
    j.tags,
    j.suspended_at,
    j.suspended_until,
    j.suspend_reason,
    j.created_at,
    j.changed_at
   FROM ((sisyphus.job j
     JOIN sisyphus.pool p ON ((p.pool_id = j.pool_id)))
     CROSS JOIN LATERAL ( SELECT ((j.owner = ANY (( SELECT sisyphus._visible_owners() AS _visible_owners)::name[])) OR ( SELECT sisyphus._sees_all() AS _sees_all)) AS visible) v)
  WHERE (j.deleted_at IS NULL)
  ORDER BY j.name;

CREATE TABLE sisyphus.job_definition (
    job_id bigint NOT NULL,
    version integer NOT NULL,
    definition jsonb NOT NULL,
    anchor_at timestamp with time zone NOT NULL,
    spec jsonb NOT NULL,
    changed_at timestamp with time zone NOT NULL,
    changed_by name NOT NULL
);

CREATE VIEW sisyphus.history AS
 SELECT a.run_id,
    a.attempt,
    a.claim_no,
    a.is_final,
    a.origin,
    a.job,
    a.job_version,
    a.pool,
    a.host,
    a.state,
        CASE
            WHEN v.visible THEN a.reason
            ELSE sisyphus._reason_without_names(a.state, a.exit_code, a.signal, a.reason)
        END AS reason,
    a.exit_code,
    a.signal,
    a.due_at,
    a.claimed_at,
    a.started_at,
    a.finished_at,
        CASE
            WHEN (a.attempt = 1) THEN (EXTRACT(epoch FROM (a.started_at - GREATEST(a.due_at, a.requested_at))))::double precision
            ELSE NULL::double precision
        END AS lateness_seconds,
    (EXTRACT(epoch FROM (a.finished_at - a.started_at)))::double precision AS duration_seconds,
    a.cpu_user_seconds,
    a.cpu_system_seconds,
    a.peak_memory_bytes,
        CASE
            WHEN v.visible THEN a.stdout
            ELSE NULL::text
        END AS stdout,
        CASE
            WHEN v.visible THEN a.stderr
            ELSE NULL::text
        END AS stderr,
        CASE
            WHEN v.visible THEN a.result
            ELSE NULL::jsonb
        END AS result,
        CASE
            WHEN v.visible THEN a.payload
            ELSE NULL::jsonb
        END AS payload,
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
        CASE
            WHEN v.visible THEN COALESCE(a.command, ( SELECT COALESCE((d.spec ->> 'command'::text), (d.spec ->> 'argv'::text)) AS "coalesce"
               FROM sisyphus.job_definition d
              WHERE ((d.job_id = a.job_id) AND (d.version = a.job_version))))
            ELSE NULL::text
        END AS command
   FROM (sisyphus.attempt a
     CROSS JOIN LATERAL ( SELECT (COALESCE((a.owner = ANY (( SELECT sisyphus._visible_owners() AS _visible_owners)::name[])), false) OR ( SELECT sisyphus._sees_all() AS _sees_all)) AS visible) v);

CREATE VIEW sisyphus.failures AS
 SELECT h.run_id,
    h.attempt,
    h.claim_no,
    h.is_final,
    h.origin,
    h.job,
    h.job_version,
    h.pool,
    h.host,
    h.state,
    h.reason,
    h.exit_code,
    h.signal,
    h.due_at,
    h.claimed_at,
    h.started_at,
    h.finished_at,
    h.lateness_seconds,
    h.duration_seconds,
    h.cpu_user_seconds,
    h.cpu_system_seconds,
    h.peak_memory_bytes,
    h.stdout,
    h.stderr,
    h.result,
    h.payload,
    h.nominal_at,
    h.expires_at,
    h.last_due_at,
    h.occurrences,
    h.late_state,
    h.late_exit_code,
    h.late_finished_at,
    h.owner,
    h.requested_at,
    h.recorded_at,
    h.command
   FROM sisyphus.history h
  WHERE (h.is_final AND (h.state = ANY (ARRAY['failed'::text, 'timed_out'::text, 'lost'::text, 'refused'::text, 'expired'::text])) AND (h.recorded_at > (( SELECT sisyphus._clock() AS _clock) - '7 days'::interval)));

CREATE TABLE sisyphus.guardian (
    guardian_id bigint NOT NULL,
    host_id bigint NOT NULL,
    role_name name NOT NULL,
    version text,
    keepers uuid[] DEFAULT '{}'::uuid[] NOT NULL,
    periodic boolean DEFAULT false NOT NULL,
    registered_at timestamp with time zone NOT NULL,
    seen_at timestamp with time zone NOT NULL,
    lease_until timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    ended_as text,
    slots_free integer DEFAULT 0 NOT NULL,
    running integer DEFAULT 0 NOT NULL,
    clock_offset_ms double precision,
    problem text,
    CONSTRAINT guardian_ended_as_check CHECK ((ended_as = ANY (ARRAY['stopped'::text, 'superseded'::text, 'lost'::text]))),
    CONSTRAINT guardian_ended_at_check CHECK (((ended_at IS NULL) = (ended_as IS NULL)))
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='500', autovacuum_vacuum_cost_delay='0');

CREATE TABLE sisyphus.host_order (
    host_id bigint NOT NULL,
    state text DEFAULT 'active'::text NOT NULL,
    slots integer,
    CONSTRAINT host_order_slots_check CHECK (((slots >= 0) AND (slots <= 10000))),
    CONSTRAINT host_order_state_check CHECK ((state = ANY (ARRAY['active'::text, 'draining'::text])))
);

CREATE VIEW sisyphus.fleet AS
 SELECT h.name AS host,
        CASE
            WHEN (g.guardian_id IS NULL) THEN 'stopped'::text
            WHEN ((g.ended_as = 'lost'::text) OR ((g.ended_at IS NULL) AND (g.lease_until <= n.now))) THEN 'lost'::text
            WHEN ((COALESCE(o.state, h.state) = 'draining'::text) AND ((g.ended_at IS NULL) OR g.periodic)) THEN 'draining'::text
            WHEN g.periodic THEN 'periodic'::text
            WHEN (g.ended_at IS NOT NULL) THEN 'stopped'::text
            WHEN (g.seen_at < (n.now - ((2)::double precision * s.heartbeat))) THEN 'unreachable'::text
            ELSE 'active'::text
        END AS state,
    COALESCE(o.slots, h.slots) AS slots,
    ( SELECT count(*) AS count
           FROM sisyphus.run r
          WHERE ((r.guardian_id = g.guardian_id) AND (r.state = 'running'::text))) AS running,
    (round(EXTRACT(epoch FROM (n.now - g.seen_at)), 3))::double precision AS seen_seconds_ago,
    g.clock_offset_ms,
    g.version,
    h.labels,
    ARRAY( SELECT p.name
           FROM sisyphus.pool p
          WHERE (p.pool_id = ANY (h.lanes))
          ORDER BY p.name) AS pools,
    COALESCE(( SELECT sisyphus._installation_problem() AS _installation_problem), g.problem) AS problem
   FROM ((((sisyphus.host h
     LEFT JOIN sisyphus.host_order o ON ((o.host_id = h.host_id)))
     CROSS JOIN sisyphus.setting s)
     CROSS JOIN LATERAL ( SELECT ( SELECT sisyphus._clock() AS _clock) AS now) n)
     LEFT JOIN LATERAL ( SELECT l.guardian_id,
            l.periodic,
            l.seen_at,
            l.lease_until,
            l.ended_at,
            l.ended_as,
            l.clock_offset_ms,
            l.version,
            l.problem
           FROM sisyphus.guardian l
          WHERE (l.host_id = h.host_id)
          ORDER BY l.guardian_id DESC
         LIMIT 1) g ON (true))
  ORDER BY h.name;

CREATE TABLE sisyphus.guardian_binding (
    role_name name NOT NULL,
    host_name text NOT NULL,
    pools text[] DEFAULT '{}'::text[] NOT NULL,
    labels jsonb DEFAULT '{}'::jsonb NOT NULL
);

ALTER TABLE sisyphus.guardian ALTER COLUMN guardian_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME sisyphus.guardian_guardian_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE sisyphus.installation (
    only_row boolean DEFAULT true NOT NULL,
    installation_id uuid DEFAULT gen_random_uuid() NOT NULL,
    bundle_checksum text,
    system_identifier bigint NOT NULL,
    database_oid oid NOT NULL,
    database_name name NOT NULL,
    timeline text NOT NULL,
    server_started_at timestamp with time zone NOT NULL,
    seen_tick_at timestamp with time zone,
    adopted_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT installation_only_row_check CHECK (only_row)
);

ALTER TABLE sisyphus.job ALTER COLUMN job_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME sisyphus.job_job_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE sisyphus.lane_floor (
    lane_id bigint NOT NULL,
    priority smallint NOT NULL,
    floor bigint DEFAULT 0 NOT NULL,
    candidate bigint,
    candidate_after text[]
)
WITH (fillfactor='50');

CREATE VIEW sisyphus.live AS
 SELECT r.run_id,
    r.attempt,
    r.claim_no,
    r.origin,
    j.name AS job,
    r.job_version,
    o.owner,
    p.name AS pool,
    h.name AS host,
    r.state,
    r.due_at,
    r.expires_at,
    r.requested_at,
    r.claimed_at,
    r.started_at,
    (round(EXTRACT(epoch FROM (n.now - r.started_at)), 3))::double precision AS running_seconds,
    make_interval(secs => ((s.spec ->> 'max_runtime'::text))::double precision) AS max_runtime,
    r.paused_at,
    r.pid,
        CASE
            WHEN ((o.owner = ANY (( SELECT sisyphus._visible_owners() AS _visible_owners)::name[])) OR ( SELECT sisyphus._sees_all() AS _sees_all)) THEN COALESCE((s.spec ->> 'command'::text), (s.spec ->> 'argv'::text))
            ELSE NULL::text
        END AS command,
        CASE
            WHEN ((r.state = 'waiting'::text) AND r.in_order AND (r.attempt = 0)) THEN 'waits its turn'::text
            WHEN (r.state = ANY (ARRAY['waiting'::text, 'pending'::text])) THEN COALESCE(( SELECT sisyphus._installation_problem() AS _installation_problem), sisyphus._why_late(r.run_id, n.now, (( SELECT sisyphus._why_lanes_wait() AS _why_lanes_wait) ->> (r.lane_id)::text)))
            WHEN (r.paused_at IS NOT NULL) THEN ('paused since '::text || sisyphus._instant_text(r.paused_at))
            ELSE NULL::text
        END AS why
   FROM (((((((sisyphus.run r
     CROSS JOIN LATERAL ( SELECT ( SELECT sisyphus._clock() AS _clock) AS now) n)
     LEFT JOIN sisyphus.job j ON ((j.job_id = r.job_id)))
     LEFT JOIN sisyphus.job_definition d ON (((d.job_id = r.job_id) AND (d.version = r.job_version))))
     LEFT JOIN sisyphus.host h ON ((h.host_id = COALESCE(r.host_id, r.lane_id))))
     LEFT JOIN sisyphus.pool p ON ((p.pool_id = COALESCE(j.pool_id, r.lane_id))))
     CROSS JOIN LATERAL ( SELECT COALESCE(r.spec, d.spec) AS spec) s)
     CROSS JOIN LATERAL ( SELECT COALESCE(j.owner, ((r.spec ->> 'owner'::text))::name) AS owner) o);

CREATE TABLE sisyphus.pool_member (
    pool_id bigint NOT NULL,
    host_name text NOT NULL
);

CREATE VIEW sisyphus.queue_depth AS
 SELECT p.name AS pool,
    COALESCE(q.pending, (0)::bigint) AS pending,
    COALESCE(q.overdue, (0)::bigint) AS overdue,
    COALESCE(q.claimed, (0)::bigint) AS claimed,
    COALESCE(q.running, (0)::bigint) AS running,
    COALESCE(( SELECT sum(g.slots_free) AS sum
           FROM (sisyphus.host h
             JOIN sisyphus.guardian g ON ((g.host_id = h.host_id)))
          WHERE ((p.pool_id = ANY (h.lanes)) AND (h.state = 'active'::text) AND (g.ended_at IS NULL) AND (g.lease_until > ( SELECT sisyphus._clock() AS _clock)))), (0)::bigint) AS slots_free,
    p.description,
    p.selector,
    ARRAY( SELECT m.host_name
           FROM sisyphus.pool_member m
          WHERE (m.pool_id = p.pool_id)
          ORDER BY m.host_name) AS listed,
    ARRAY( SELECT h.name
           FROM sisyphus.host h
          WHERE (p.pool_id = ANY (h.lanes))
          ORDER BY h.name) AS members
   FROM (sisyphus.pool p
     LEFT JOIN ( SELECT COALESCE(j.pool_id, r.lane_id) AS pool_id,
            count(*) FILTER (WHERE (r.state = 'pending'::text)) AS pending,
            count(*) FILTER (WHERE ((r.state = 'pending'::text) AND (r.due_at < ( SELECT sisyphus._clock() AS _clock)))) AS overdue,
            count(*) FILTER (WHERE (r.state = 'claimed'::text)) AS claimed,
            count(*) FILTER (WHERE (r.state = 'running'::text)) AS running
           FROM (sisyphus.run r
             LEFT JOIN sisyphus.job j ON ((j.job_id = r.job_id)))
          GROUP BY COALESCE(j.pool_id, r.lane_id)) q ON ((q.pool_id = p.pool_id)))
  ORDER BY p.name;

CREATE VIEW sisyphus.metrics AS
 WITH n AS MATERIALIZED (
         SELECT sisyphus._clock() AS now
        ), hour AS MATERIALIZED (
         SELECT a.state,
            count(*) AS attempts,
            percentile_cont((0.95)::double precision) WITHIN GROUP (ORDER BY ((EXTRACT(epoch FROM (a.started_at - GREATEST(a.due_at, a.requested_at))))::double precision)) FILTER (WHERE (a.attempt = 1)) AS lateness_p95
           FROM ( SELECT h.state,
                    h.attempt,
                    h.started_at,
                    h.due_at,
                    h.requested_at,
                    h.recorded_at
                   FROM (sisyphus.job j
                     JOIN sisyphus.attempt h ON ((h.job = j.name)))
                UNION ALL
                 SELECT h.state,
                    h.attempt,
                    h.started_at,
                    h.due_at,
                    h.requested_at,
                    h.recorded_at
                   FROM sisyphus.attempt h
                  WHERE (h.job IS NULL)) a
          WHERE ((a.recorded_at > (( SELECT n.now
                   FROM n) - '01:00:00'::interval)) AND (a.recorded_at < (( SELECT n.now
                   FROM n) + '01:00:00'::interval)))
          GROUP BY GROUPING SETS ((a.state), ())
        )
 SELECT 'sisyphus_jobs'::text AS name,
    jsonb_build_object('state', s.state) AS labels,
    (count(o.state))::double precision AS value
   FROM (( VALUES ('active'::text), ('suspended'::text), ('broken'::text)) s(state)
     LEFT JOIN ( SELECT
                CASE
                    WHEN (t.broken IS NOT NULL) THEN 'broken'::text
                    WHEN ((j.suspended_at IS NOT NULL) AND ((j.suspended_until IS NULL) OR (j.suspended_until > ( SELECT n.now
                       FROM n)))) THEN 'suspended'::text
                    ELSE 'active'::text
                END AS state
           FROM (sisyphus.job j
             LEFT JOIN sisyphus.job_state t ON ((t.job_id = j.job_id)))
          WHERE (j.deleted_at IS NULL)) o ON ((o.state = s.state)))
  GROUP BY s.state
UNION ALL
 SELECT 'sisyphus_runs'::text AS name,
    jsonb_build_object('state', s.state) AS labels,
    count(r.state) AS value
   FROM (( VALUES ('waiting'::text), ('pending'::text), ('claimed'::text), ('running'::text)) s(state)
     LEFT JOIN sisyphus.run r ON ((r.state = s.state)))
  GROUP BY s.state
UNION ALL
 SELECT 'sisyphus_hosts'::text AS name,
    jsonb_build_object('state', s.state) AS labels,
    count(f.state) AS value
   FROM (( VALUES ('active'::text), ('draining'::text), ('unreachable'::text), ('lost'::text), ('stopped'::text), ('periodic'::text)) s(state)
     LEFT JOIN sisyphus.fleet f ON ((f.state = s.state)))
  GROUP BY s.state
UNION ALL
 SELECT 'sisyphus_hosts_with_problem'::text AS name,
    '{}'::jsonb AS labels,
    count(*) AS value
   FROM sisyphus.fleet f
  WHERE (f.problem IS NOT NULL)
UNION ALL
 SELECT m.name,
    jsonb_build_object('pool', q.pool) AS labels,
    m.value
   FROM (sisyphus.queue_depth q
     CROSS JOIN LATERAL ( VALUES ('sisyphus_pool_pending'::text,q.pending), ('sisyphus_pool_overdue'::text,q.overdue), ('sisyphus_pool_running'::text,q.running), ('sisyphus_pool_slots_free'::text,q.slots_free)) m(name, value))
UNION ALL
 SELECT 'sisyphus_oldest_overdue_seconds'::text AS name,
    '{}'::jsonb AS labels,
    COALESCE(EXTRACT(epoch FROM max((( SELECT n.now
           FROM n) - GREATEST(r.due_at, r.requested_at)))), (0)::numeric) AS value
   FROM sisyphus.run r
  WHERE ((r.state = 'pending'::text) AND (r.due_at < ( SELECT n.now
           FROM n)))
UNION ALL
 SELECT 'sisyphus_attempts_last_hour'::text AS name,
    jsonb_build_object('state', s.state) AS labels,
    COALESCE(h.attempts, (0)::bigint) AS value
   FROM (( VALUES ('succeeded'::text), ('failed'::text), ('timed_out'::text), ('terminated'::text), ('lost'::text), ('refused'::text), ('expired'::text), ('skipped'::text), ('cancelled'::text)) s(state)
     LEFT JOIN hour h ON ((h.state = s.state)))
UNION ALL
 SELECT 'sisyphus_lateness_p95_seconds'::text AS name,
    '{}'::jsonb AS labels,
    COALESCE(h.lateness_p95, (0)::double precision) AS value
   FROM hour h
  WHERE (h.state IS NULL)
UNION ALL
 SELECT 'sisyphus_tick_age_seconds'::text AS name,
    '{}'::jsonb AS labels,
    EXTRACT(epoch FROM (( SELECT n.now
           FROM n) - p.last_tick_at)) AS value
   FROM sisyphus.planner p
UNION ALL
 SELECT 'sisyphus_requests'::text AS name,
    '{}'::jsonb AS labels,
    count(*) AS value
   FROM sisyphus.request
UNION ALL
 SELECT 'sisyphus_installation_adopted'::text AS name,
    '{}'::jsonb AS labels,
    ((sisyphus._installation_problem() IS NULL))::integer AS value
UNION ALL
 SELECT 'sisyphus_dead_rows'::text AS name,
    jsonb_build_object('table', c.relname) AS labels,
    pg_stat_get_dead_tuples(c.oid) AS value
   FROM pg_class c
  WHERE (c.oid = ANY (ARRAY[('sisyphus.run'::regclass)::oid, ('sisyphus.request'::regclass)::oid, ('sisyphus.guardian'::regclass)::oid, ('sisyphus.job_state'::regclass)::oid]))
UNION ALL
 SELECT 'sisyphus_history_bytes'::text AS name,
    jsonb_build_object('retention_days', "substring"((p.relname)::text, '\d+'::text)) AS labels,
    ((COALESCE(sum(c.relpages), (0)::bigint))::double precision * (current_setting('block_size'::text))::double precision) AS value
   FROM ((((pg_inherits k
     JOIN pg_class p ON ((p.oid = k.inhrelid)))
     LEFT JOIN pg_inherits i ON ((i.inhparent = p.oid)))
     LEFT JOIN pg_class t ON ((t.oid = i.inhrelid)))
     LEFT JOIN pg_class c ON (((c.oid = t.oid) OR (c.oid = NULLIF(t.reltoastrelid, (0)::oid)))))
  WHERE (k.inhparent = ('sisyphus.attempt'::regclass)::oid)
  GROUP BY p.relname;

CREATE VIEW sisyphus.overdue AS
 WITH queue AS MATERIALIZED (
         SELECT r_1.run_id,
            (row_number() OVER (PARTITION BY r_1.lane_id ORDER BY r_1.priority DESC, r_1.ready_no) - 1) AS ahead
           FROM sisyphus.run r_1
          WHERE ((r_1.state = 'pending'::text) AND (r_1.due_at <= ( SELECT sisyphus._clock() AS _clock)))
        )
 SELECT r.run_id,
    j.name AS job,
    r.due_at,
    (round(EXTRACT(epoch FROM (( SELECT sisyphus._clock() AS _clock) - GREATEST(r.due_at, r.requested_at))), 3))::double precision AS late_seconds,
    r.expires_at,
    COALESCE(( SELECT sisyphus._installation_problem() AS _installation_problem), sisyphus._why_late(r.run_id, ( SELECT sisyphus._clock() AS _clock), COALESCE((( SELECT sisyphus._why_lanes_wait() AS _why_lanes_wait) ->> (r.lane_id)::text), ''::text), q.ahead)) AS why
   FROM ((sisyphus.run r
     LEFT JOIN sisyphus.job j ON ((j.job_id = r.job_id)))
     LEFT JOIN queue q ON ((q.run_id = r.run_id)))
  WHERE ((r.due_at < ( SELECT sisyphus._clock() AS _clock)) AND ((r.state = 'pending'::text) OR ((r.state = 'waiting'::text) AND (r.attempt = 0) AND (NOT r.in_order))))
  ORDER BY r.due_at, r.run_id;

CREATE VIEW sisyphus.overview AS
 SELECT j.name AS job,
        CASE
            WHEN (b.why IS NOT NULL) THEN 'broken'::text
            WHEN d.suspended THEN 'suspended'::text
            ELSE 'active'::text
        END AS state,
    j.schedule,
    j.timezone,
    p.name AS pool,
    j.run_on,
        CASE
            WHEN (d.suspended OR (b.why IS NOT NULL)) THEN NULL::timestamp with time zone
            WHEN ((s.version = j.version) AND (j.except_on IS NULL) AND (j.only_on IS NULL)) THEN LEAST(live.next_due_at, NULLIF(s.next_due_at, 'infinity'::timestamp with time zone))
            ELSE sisyphus._next_due(j.job_id, ( SELECT sisyphus._clock() AS _clock))
        END AS next_due_at,
    live.running,
    last.state AS last_state,
    last.started_at AS last_started_at,
    (round(EXTRACT(epoch FROM (last.finished_at - last.started_at)), 3))::double precision AS last_duration_seconds,
    recent.success_ratio,
    (round((recent.quantiles[1])::numeric, 3))::double precision AS p50_seconds,
    (round((recent.quantiles[2])::numeric, 3))::double precision AS p95_seconds,
    j.owner,
    COALESCE(( SELECT sisyphus._installation_problem() AS _installation_problem),
        CASE
            WHEN (b.why IS NOT NULL) THEN b.why
            WHEN d.suspended THEN j.suspend_reason
            ELSE COALESCE(sisyphus._calendar_problem(j.except_on, ( SELECT sisyphus._clock() AS _clock)), sisyphus._calendar_problem(j.only_on, ( SELECT sisyphus._clock() AS _clock)))
        END) AS problem
   FROM (((((((sisyphus.job j
     JOIN sisyphus.pool p ON ((p.pool_id = j.pool_id)))
     LEFT JOIN sisyphus.job_state s ON ((s.job_id = j.job_id)))
     CROSS JOIN LATERAL ( SELECT COALESCE(s.broken, sisyphus._timezone_problem(j.timezone)) AS why) b)
     CROSS JOIN LATERAL ( SELECT ((j.suspended_at IS NOT NULL) AND ((j.suspended_until IS NULL) OR (j.suspended_until > ( SELECT sisyphus._clock() AS _clock)))) AS suspended) d)
     CROSS JOIN LATERAL ( SELECT count(*) FILTER (WHERE (r.state = 'running'::text)) AS running,
            min(r.due_at) FILTER (WHERE (r.due_at > ( SELECT sisyphus._clock() AS _clock))) AS next_due_at
           FROM sisyphus.run r
          WHERE (r.job_id = j.job_id)) live)
     LEFT JOIN LATERAL ( SELECT a.state,
            a.started_at,
            a.finished_at
           FROM sisyphus.attempt a
          WHERE ((a.job = j.name) AND a.is_final AND (a.state <> ALL (ARRAY['skipped'::text, 'cancelled'::text])))
          ORDER BY a.recorded_at DESC
         LIMIT 1) last ON (true))
     CROSS JOIN LATERAL ( SELECT (round(avg(((started.state = 'succeeded'::text))::integer), 3))::double precision AS success_ratio,
            percentile_cont('{0.5,0.95}'::double precision[]) WITHIN GROUP (ORDER BY ((round(EXTRACT(epoch FROM (started.finished_at - started.started_at)), 3))::double precision)) AS quantiles
           FROM ( SELECT newest.state,
                    newest.started_at,
                    newest.finished_at
                   FROM ( SELECT a.state,
                            a.started_at,
                            a.finished_at,
                            a.is_final
                           FROM sisyphus.attempt a
                          WHERE (a.job = j.name)
                          ORDER BY a.recorded_at DESC
                         LIMIT 1000) newest
                  WHERE (newest.is_final AND (newest.started_at IS NOT NULL))
                 LIMIT 100) started) recent)
  WHERE (j.deleted_at IS NULL)
  ORDER BY j.name;

CREATE SEQUENCE sisyphus.ready_no_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER TABLE sisyphus.request ALTER COLUMN request_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME sisyphus.request_request_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE sisyphus.run_as_grant (
    role_name name NOT NULL,
    os_user text NOT NULL
);

CREATE SEQUENCE sisyphus.run_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

ALTER SEQUENCE sisyphus.run_id_seq OWNED BY sisyphus.run.run_id;

CREATE VIEW sisyphus.running AS
 SELECT r.run_id,
    r.attempt,
    r.claim_no,
    j.name AS job,
    h.name AS host,
    r.state,
    r.due_at,
    r.started_at,
    (round(EXTRACT(epoch FROM (( SELECT sisyphus._clock() AS _clock) - r.started_at)), 3))::double precision AS running_seconds,
    make_interval(secs => ((COALESCE(r.spec, d.spec) ->> 'max_runtime'::text))::double precision) AS max_runtime,
    r.paused_at,
    r.pid
   FROM (((sisyphus.run r
     LEFT JOIN sisyphus.job j ON ((j.job_id = r.job_id)))
     LEFT JOIN sisyphus.job_definition d ON (((d.job_id = r.job_id) AND (d.version = r.job_version))))
     LEFT JOIN sisyphus.host h ON ((h.host_id = r.host_id)))
  WHERE (r.state = ANY (ARRAY['claimed'::text, 'running'::text]))
  ORDER BY r.started_at, r.due_at, r.run_id;

CREATE TABLE sisyphus.schema_history (
    version bigint NOT NULL,
    name character varying(255),
    applied_on character varying(255),
    checksum character varying(255)
);

CREATE VIEW sisyphus.settings AS
 SELECT v.name,
    v.value,
    v.unit,
    v.standard AS "default",
    col_description(('sisyphus.setting'::regclass)::oid, (a.attnum)::integer) AS description
   FROM ((sisyphus.setting s
     CROSS JOIN LATERAL ( VALUES ('default_timezone'::text,s.default_timezone,'time zone'::text,'UTC'::text), ('heartbeat'::text,(s.heartbeat)::text,'interval'::text,('00:00:05'::interval)::text), ('lease_timeout'::text,(s.lease_timeout)::text,'interval'::text,('00:00:30'::interval)::text), ('claim_ahead'::text,(s.claim_ahead)::text,'interval'::text,('00:00:10'::interval)::text), ('plan_ahead'::text,(s.plan_ahead)::text,'interval'::text,('00:00:15'::interval)::text), ('retention_success'::text,(s.retention_success)::text,'interval'::text,('30 days'::interval)::text), ('retention_failure'::text,(s.retention_failure)::text,'interval'::text,('90 days'::interval)::text), ('retention_audit'::text,(s.retention_audit)::text,'interval'::text,('400 days'::interval)::text), ('output_limit'::text,(s.output_limit)::text,'bytes'::text,'65536'::text)) v(name, value, unit, standard))
     JOIN pg_attribute a ON (((a.attrelid = ('sisyphus.setting'::regclass)::oid) AND (a.attname = v.name))));

CREATE VIEW sisyphus.upcoming AS
 SELECT u.job,
    u.due_at,
    (u.due_at AT TIME ZONE u.timezone) AS local_time,
    u.pool,
    u.host,
    u.run_id,
        CASE
            WHEN ((u.owner = ANY (( SELECT sisyphus._visible_owners() AS _visible_owners)::name[])) OR ( SELECT sisyphus._sees_all() AS _sees_all)) THEN u.command
            ELSE NULL::text
        END AS command
   FROM ( SELECT j.name AS job,
            w.due_at,
                CASE
                    WHEN (sisyphus._timezone_problem(j.timezone) IS NULL) THEN COALESCE(j.timezone, 'UTC'::text)
                    ELSE NULL::text
                END AS timezone,
            p.name AS pool,
            h.name AS host,
            r.run_id,
            COALESCE(j.owner, ((r.spec ->> 'owner'::text))::name) AS owner,
            COALESCE((r.spec ->> 'command'::text), (r.spec ->> 'argv'::text), j.command, (to_jsonb(j.argv))::text) AS command
           FROM ((((sisyphus.run r
             CROSS JOIN LATERAL ( SELECT
                        CASE
                            WHEN ((r.state = 'waiting'::text) AND (r.attempt > 0) AND isfinite(r.wake_at)) THEN r.wake_at
                            ELSE r.due_at
                        END AS due_at) w)
             LEFT JOIN sisyphus.job j ON ((j.job_id = r.job_id)))
             LEFT JOIN sisyphus.host h ON ((h.host_id = r.lane_id)))
             LEFT JOIN sisyphus.pool p ON ((p.pool_id = COALESCE(j.pool_id, r.lane_id))))
          WHERE ((r.state = ANY (ARRAY['waiting'::text, 'pending'::text, 'claimed'::text])) AND (r.withdrawn IS NULL) AND (w.due_at > ( SELECT sisyphus._clock() AS _clock)) AND ((r.origin <> 'schedule'::text) OR ((j.version = r.job_version) AND (j.deleted_at IS NULL) AND ((j.suspended_at IS NULL) OR (r.due_at >= j.suspended_until)))))
        UNION ALL
         SELECT j.name,
            f.due_at,
            j.timezone,
            p.name,
            h.name,
            NULL::bigint,
            j.owner,
            COALESCE(j.command, (to_jsonb(j.argv))::text) AS "coalesce"
           FROM (((sisyphus._computed_fires(( SELECT sisyphus._clock() AS _clock), (( SELECT sisyphus._clock() AS _clock) + '1 day'::interval), 1440) f(job_id, due_at)
             JOIN sisyphus.job j ON ((j.job_id = f.job_id)))
             JOIN sisyphus.pool p ON ((p.pool_id = j.pool_id)))
             LEFT JOIN sisyphus.host h ON (((j.run_on = 'all'::text) AND (j.pool_id = ANY (h.lanes)))))) u
  ORDER BY u.due_at, u.job, u.host;

ALTER TABLE ONLY sisyphus.attempt ATTACH PARTITION sisyphus.attempt_0 FOR VALUES IN (0);

ALTER TABLE ONLY sisyphus.attempt ATTACH PARTITION sisyphus.attempt_1 FOR VALUES IN (1);

ALTER TABLE ONLY sisyphus.attempt ATTACH PARTITION sisyphus.attempt_30 FOR VALUES IN (30);

ALTER TABLE ONLY sisyphus.attempt ATTACH PARTITION sisyphus.attempt_400 FOR VALUES IN (400);

ALTER TABLE ONLY sisyphus.attempt ATTACH PARTITION sisyphus.attempt_7 FOR VALUES IN (7);

ALTER TABLE ONLY sisyphus.attempt ATTACH PARTITION sisyphus.attempt_90 FOR VALUES IN (90);

ALTER TABLE ONLY sisyphus.run ALTER COLUMN run_id SET DEFAULT nextval('sisyphus.run_id_seq'::regclass);

ALTER TABLE ONLY sisyphus.audit
    ADD CONSTRAINT audit_pkey PRIMARY KEY (audit_id);

ALTER TABLE ONLY sisyphus.calendar
    ADD CONSTRAINT calendar_name_key UNIQUE (name);

ALTER TABLE ONLY sisyphus.calendar
    ADD CONSTRAINT calendar_pkey PRIMARY KEY (calendar_id);

ALTER TABLE ONLY sisyphus.calendar_range
    ADD CONSTRAINT calendar_range_pkey PRIMARY KEY (calendar_id, ends_at);

ALTER TABLE ONLY sisyphus.guardian_binding
    ADD CONSTRAINT guardian_binding_pkey PRIMARY KEY (role_name, host_name);

ALTER TABLE ONLY sisyphus.guardian
    ADD CONSTRAINT guardian_pkey PRIMARY KEY (guardian_id);

ALTER TABLE ONLY sisyphus.host
    ADD CONSTRAINT host_name_key UNIQUE (name);

ALTER TABLE ONLY sisyphus.host_order
    ADD CONSTRAINT host_order_pkey PRIMARY KEY (host_id);

ALTER TABLE ONLY sisyphus.host
    ADD CONSTRAINT host_pkey PRIMARY KEY (host_id);

ALTER TABLE ONLY sisyphus.installation
    ADD CONSTRAINT installation_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY sisyphus.job_definition
    ADD CONSTRAINT job_definition_pkey PRIMARY KEY (job_id, version);

ALTER TABLE ONLY sisyphus.job
    ADD CONSTRAINT job_name_key UNIQUE (name);

ALTER TABLE ONLY sisyphus.job
    ADD CONSTRAINT job_pkey PRIMARY KEY (job_id);

ALTER TABLE ONLY sisyphus.job_state
    ADD CONSTRAINT job_state_pkey PRIMARY KEY (job_id);

ALTER TABLE ONLY sisyphus.lane_floor
    ADD CONSTRAINT lane_floor_pkey PRIMARY KEY (lane_id, priority);

ALTER TABLE ONLY sisyphus.planner
    ADD CONSTRAINT planner_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY sisyphus.pool_member
    ADD CONSTRAINT pool_member_pkey PRIMARY KEY (pool_id, host_name);

ALTER TABLE ONLY sisyphus.pool
    ADD CONSTRAINT pool_name_key UNIQUE (name);

ALTER TABLE ONLY sisyphus.pool
    ADD CONSTRAINT pool_pkey PRIMARY KEY (pool_id);

ALTER TABLE ONLY sisyphus.request
    ADD CONSTRAINT request_pkey PRIMARY KEY (request_id);

ALTER TABLE ONLY sisyphus.run_as_grant
    ADD CONSTRAINT run_as_grant_pkey PRIMARY KEY (role_name, os_user);

ALTER TABLE ONLY sisyphus.run
    ADD CONSTRAINT run_pkey PRIMARY KEY (run_id) WITH (fillfactor='50');

ALTER TABLE ONLY sisyphus.schema_history
    ADD CONSTRAINT schema_history_pkey PRIMARY KEY (version);

ALTER TABLE ONLY sisyphus.setting
    ADD CONSTRAINT setting_pkey PRIMARY KEY (only_row);

CREATE INDEX attempt_job_idx ON ONLY sisyphus.attempt USING btree (job, recorded_at);

CREATE INDEX attempt_0_job_recorded_at_idx ON ONLY sisyphus.attempt_0 USING btree (job, recorded_at);

CREATE INDEX attempt_failed_idx ON ONLY sisyphus.attempt USING btree (recorded_at) WHERE (is_final AND (state = ANY (ARRAY['failed'::text, 'timed_out'::text, 'lost'::text, 'refused'::text, 'expired'::text])));

CREATE INDEX attempt_0_recorded_at_idx ON ONLY sisyphus.attempt_0 USING btree (recorded_at) WHERE (is_final AND (state = ANY (ARRAY['failed'::text, 'timed_out'::text, 'lost'::text, 'refused'::text, 'expired'::text])));

CREATE INDEX attempt_run_id_idx ON ONLY sisyphus.attempt USING btree (run_id);

CREATE INDEX attempt_0_run_id_idx ON ONLY sisyphus.attempt_0 USING btree (run_id);

CREATE INDEX attempt_1_job_recorded_at_idx ON ONLY sisyphus.attempt_1 USING btree (job, recorded_at);

CREATE INDEX attempt_1_recorded_at_idx ON ONLY sisyphus.attempt_1 USING btree (recorded_at) WHERE (is_final AND (state = ANY (ARRAY['failed'::text, 'timed_out'::text, 'lost'::text, 'refused'::text, 'expired'::text])));

CREATE INDEX attempt_1_run_id_idx ON ONLY sisyphus.attempt_1 USING btree (run_id);

CREATE INDEX attempt_30_job_recorded_at_idx ON ONLY sisyphus.attempt_30 USING btree (job, recorded_at);

CREATE INDEX attempt_30_recorded_at_idx ON ONLY sisyphus.attempt_30 USING btree (recorded_at) WHERE (is_final AND (state = ANY (ARRAY['failed'::text, 'timed_out'::text, 'lost'::text, 'refused'::text, 'expired'::text])));

CREATE INDEX attempt_30_run_id_idx ON ONLY sisyphus.attempt_30 USING btree (run_id);

CREATE INDEX attempt_400_job_recorded_at_idx ON ONLY sisyphus.attempt_400 USING btree (job, recorded_at);

CREATE INDEX attempt_400_recorded_at_idx ON ONLY sisyphus.attempt_400 USING btree (recorded_at) WHERE (is_final AND (state = ANY (ARRAY['failed'::text, 'timed_out'::text, 'lost'::text, 'refused'::text, 'expired'::text])));

CREATE INDEX attempt_400_run_id_idx ON ONLY sisyphus.attempt_400 USING btree (run_id);

CREATE INDEX attempt_7_job_recorded_at_idx ON ONLY sisyphus.attempt_7 USING btree (job, recorded_at);

CREATE INDEX attempt_7_recorded_at_idx ON ONLY sisyphus.attempt_7 USING btree (recorded_at) WHERE (is_final AND (state = ANY (ARRAY['failed'::text, 'timed_out'::text, 'lost'::text, 'refused'::text, 'expired'::text])));

CREATE INDEX attempt_7_run_id_idx ON ONLY sisyphus.attempt_7 USING btree (run_id);

CREATE INDEX attempt_90_job_recorded_at_idx ON ONLY sisyphus.attempt_90 USING btree (job, recorded_at);

CREATE INDEX attempt_90_recorded_at_idx ON ONLY sisyphus.attempt_90 USING btree (recorded_at) WHERE (is_final AND (state = ANY (ARRAY['failed'::text, 'timed_out'::text, 'lost'::text, 'refused'::text, 'expired'::text])));

CREATE INDEX attempt_90_run_id_idx ON ONLY sisyphus.attempt_90 USING btree (run_id);

CREATE INDEX guardian_host_id_idx ON sisyphus.guardian USING btree (host_id);

CREATE INDEX job_pool_id_idx ON sisyphus.job USING btree (pool_id);

CREATE INDEX job_state_next_due_at_idx ON sisyphus.job_state USING btree (next_due_at);

CREATE INDEX request_guardian_id_job_id_idx ON sisyphus.request USING btree (guardian_id, job_id);

CREATE INDEX request_run_id_idx ON sisyphus.request USING btree (run_id) WHERE (run_id IS NOT NULL);

CREATE INDEX request_suspended_until_idx ON sisyphus.request USING btree (suspended_until) WHERE (suspended_until IS NOT NULL);

CREATE INDEX run_claim_idx ON sisyphus.run USING btree (lane_id, priority, ready_no) WHERE (state = 'pending'::text);

CREATE UNIQUE INDEX run_dedup_key ON sisyphus.run USING btree (job_id, dedup_key) WHERE (dedup_key IS NOT NULL);

CREATE UNIQUE INDEX run_exclusive_key ON sisyphus.run USING btree (job_id, target) WHERE (exclusive AND (state = ANY (ARRAY['pending'::text, 'claimed'::text, 'running'::text])));

CREATE INDEX run_expires_at_idx ON sisyphus.run USING btree (expires_at) WHERE ((state = ANY (ARRAY['waiting'::text, 'pending'::text])) AND (attempt = 0) AND (expires_at IS NOT NULL));

CREATE INDEX run_guardian_id_idx ON sisyphus.run USING btree (guardian_id, claim_no) WHERE (guardian_id IS NOT NULL);

CREATE INDEX run_job_id_idx ON sisyphus.run USING btree (job_id, run_id) WITH (fillfactor='50');

CREATE INDEX run_retry_idx ON sisyphus.run USING btree (job_id) WHERE ((state = 'waiting'::text) AND (attempt > 0));

CREATE INDEX run_wake_at_idx ON sisyphus.run USING btree (wake_at) WHERE (state = 'waiting'::text);

ALTER INDEX sisyphus.attempt_job_idx ATTACH PARTITION sisyphus.attempt_0_job_recorded_at_idx;

ALTER INDEX sisyphus.attempt_failed_idx ATTACH PARTITION sisyphus.attempt_0_recorded_at_idx;

ALTER INDEX sisyphus.attempt_run_id_idx ATTACH PARTITION sisyphus.attempt_0_run_id_idx;

ALTER INDEX sisyphus.attempt_job_idx ATTACH PARTITION sisyphus.attempt_1_job_recorded_at_idx;

ALTER INDEX sisyphus.attempt_failed_idx ATTACH PARTITION sisyphus.attempt_1_recorded_at_idx;

ALTER INDEX sisyphus.attempt_run_id_idx ATTACH PARTITION sisyphus.attempt_1_run_id_idx;

ALTER INDEX sisyphus.attempt_job_idx ATTACH PARTITION sisyphus.attempt_30_job_recorded_at_idx;

ALTER INDEX sisyphus.attempt_failed_idx ATTACH PARTITION sisyphus.attempt_30_recorded_at_idx;

ALTER INDEX sisyphus.attempt_run_id_idx ATTACH PARTITION sisyphus.attempt_30_run_id_idx;

ALTER INDEX sisyphus.attempt_job_idx ATTACH PARTITION sisyphus.attempt_400_job_recorded_at_idx;

ALTER INDEX sisyphus.attempt_failed_idx ATTACH PARTITION sisyphus.attempt_400_recorded_at_idx;

ALTER INDEX sisyphus.attempt_run_id_idx ATTACH PARTITION sisyphus.attempt_400_run_id_idx;

ALTER INDEX sisyphus.attempt_job_idx ATTACH PARTITION sisyphus.attempt_7_job_recorded_at_idx;

ALTER INDEX sisyphus.attempt_failed_idx ATTACH PARTITION sisyphus.attempt_7_recorded_at_idx;

ALTER INDEX sisyphus.attempt_run_id_idx ATTACH PARTITION sisyphus.attempt_7_run_id_idx;

ALTER INDEX sisyphus.attempt_job_idx ATTACH PARTITION sisyphus.attempt_90_job_recorded_at_idx;

ALTER INDEX sisyphus.attempt_failed_idx ATTACH PARTITION sisyphus.attempt_90_recorded_at_idx;

ALTER INDEX sisyphus.attempt_run_id_idx ATTACH PARTITION sisyphus.attempt_90_run_id_idx;

ALTER TABLE ONLY sisyphus.calendar_range
    ADD CONSTRAINT calendar_range_calendar_id_fkey FOREIGN KEY (calendar_id) REFERENCES sisyphus.calendar(calendar_id) ON DELETE CASCADE;

ALTER TABLE ONLY sisyphus.guardian
    ADD CONSTRAINT guardian_host_id_fkey FOREIGN KEY (host_id) REFERENCES sisyphus.host(host_id) ON DELETE CASCADE;

ALTER TABLE ONLY sisyphus.host_order
    ADD CONSTRAINT host_order_host_id_fkey FOREIGN KEY (host_id) REFERENCES sisyphus.host(host_id) ON DELETE CASCADE;

ALTER TABLE ONLY sisyphus.pool_member
    ADD CONSTRAINT pool_member_pool_id_fkey FOREIGN KEY (pool_id) REFERENCES sisyphus.pool(pool_id) ON DELETE CASCADE;

GRANT USAGE ON SCHEMA sisyphus TO sisyphus_admin;
GRANT USAGE ON SCHEMA sisyphus TO sisyphus_author;
GRANT USAGE ON SCHEMA sisyphus TO sisyphus_operator;
GRANT USAGE ON SCHEMA sisyphus TO sisyphus_viewer;
GRANT USAGE ON SCHEMA sisyphus TO sisyphus_guardian;

GRANT ALL ON FUNCTION sisyphus._ask_calendar(p_name text, p_query text, OUT kind text, OUT dates date[], OUT spans tstzrange[]) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus._ask_calendar(p_name text, p_query text, OUT kind text, OUT dates date[], OUT spans tstzrange[]) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus._calendar_problem(p_calendar text, p_now timestamp with time zone) TO sisyphus_admin;
GRANT ALL ON FUNCTION sisyphus._calendar_problem(p_calendar text, p_now timestamp with time zone) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus._calendar_problem(p_calendar text, p_now timestamp with time zone) TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus._calendar_problem(p_calendar text, p_now timestamp with time zone) TO sisyphus_viewer;

GRANT ALL ON FUNCTION sisyphus._calendar_query(p_name text) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus._calendar_query(p_name text) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus._caller() TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus._caller() TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus._clock() TO sisyphus_admin;
GRANT ALL ON FUNCTION sisyphus._clock() TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus._clock() TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus._clock() TO sisyphus_viewer;

GRANT ALL ON FUNCTION sisyphus._computed_fires(p_now timestamp with time zone, p_until timestamp with time zone, p_limit integer) TO sisyphus_admin;
GRANT ALL ON FUNCTION sisyphus._computed_fires(p_now timestamp with time zone, p_until timestamp with time zone, p_limit integer) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus._computed_fires(p_now timestamp with time zone, p_until timestamp with time zone, p_limit integer) TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus._computed_fires(p_now timestamp with time zone, p_until timestamp with time zone, p_limit integer) TO sisyphus_viewer;

GRANT ALL ON FUNCTION sisyphus._declared_jobs() TO sisyphus_admin;
GRANT ALL ON FUNCTION sisyphus._declared_jobs() TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus._declared_jobs() TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus._declared_jobs() TO sisyphus_viewer;

GRANT ALL ON FUNCTION sisyphus._instant_text(p_at timestamp with time zone) TO sisyphus_admin;
GRANT ALL ON FUNCTION sisyphus._instant_text(p_at timestamp with time zone) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus._instant_text(p_at timestamp with time zone) TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus._instant_text(p_at timestamp with time zone) TO sisyphus_viewer;

GRANT ALL ON FUNCTION sisyphus._reason_without_names(p_state text, p_exit_code integer, p_signal integer, p_reason text) TO sisyphus_admin;
GRANT ALL ON FUNCTION sisyphus._reason_without_names(p_state text, p_exit_code integer, p_signal integer, p_reason text) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus._reason_without_names(p_state text, p_exit_code integer, p_signal integer, p_reason text) TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus._reason_without_names(p_state text, p_exit_code integer, p_signal integer, p_reason text) TO sisyphus_viewer;

GRANT ALL ON FUNCTION sisyphus._installation_problem(p_seen_tick_at timestamp with time zone) TO sisyphus_admin;
GRANT ALL ON FUNCTION sisyphus._installation_problem(p_seen_tick_at timestamp with time zone) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus._installation_problem(p_seen_tick_at timestamp with time zone) TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus._installation_problem(p_seen_tick_at timestamp with time zone) TO sisyphus_viewer;

GRANT ALL ON FUNCTION sisyphus._next_due(p_job_id bigint, p_now timestamp with time zone) TO sisyphus_admin;
GRANT ALL ON FUNCTION sisyphus._next_due(p_job_id bigint, p_now timestamp with time zone) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus._next_due(p_job_id bigint, p_now timestamp with time zone) TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus._next_due(p_job_id bigint, p_now timestamp with time zone) TO sisyphus_viewer;

GRANT ALL ON FUNCTION sisyphus._sees_all() TO sisyphus_admin;
GRANT ALL ON FUNCTION sisyphus._sees_all() TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus._sees_all() TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus._sees_all() TO sisyphus_viewer;

GRANT ALL ON FUNCTION sisyphus._store_calendar(p_name text, p_query text, p_kind text, p_dates date[], p_spans tstzrange[]) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus._store_calendar(p_name text, p_query text, p_kind text, p_dates date[], p_spans tstzrange[]) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus._timezone_problem(p_timezone text) TO sisyphus_admin;
GRANT ALL ON FUNCTION sisyphus._timezone_problem(p_timezone text) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus._timezone_problem(p_timezone text) TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus._timezone_problem(p_timezone text) TO sisyphus_viewer;

GRANT ALL ON FUNCTION sisyphus._visible_owners() TO sisyphus_admin;
GRANT ALL ON FUNCTION sisyphus._visible_owners() TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus._visible_owners() TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus._visible_owners() TO sisyphus_viewer;

GRANT ALL ON FUNCTION sisyphus._why_lanes_wait() TO sisyphus_admin;
GRANT ALL ON FUNCTION sisyphus._why_lanes_wait() TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus._why_lanes_wait() TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus._why_lanes_wait() TO sisyphus_viewer;

GRANT ALL ON FUNCTION sisyphus._why_late(p_run_id bigint, p_now timestamp with time zone, p_why_lane text, p_ahead bigint) TO sisyphus_admin;
GRANT ALL ON FUNCTION sisyphus._why_late(p_run_id bigint, p_now timestamp with time zone, p_why_lane text, p_ahead bigint) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus._why_late(p_run_id bigint, p_now timestamp with time zone, p_why_lane text, p_ahead bigint) TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus._why_late(p_run_id bigint, p_now timestamp with time zone, p_why_lane text, p_ahead bigint) TO sisyphus_viewer;

GRANT ALL ON FUNCTION sisyphus.activate_host(name text) TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus.activate_host(name text) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.add_host(pool text, host text) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.adopt_installation() TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.alter_job(name text, schedule text, command text, timezone text, argv text[], pool text, run_on text, ttl interval, missed text, overlap text, max_runtime interval, grace interval, retries integer, retry_delay interval, retry_backoff double precision, retry_max_delay interval, retry_on_lost boolean, fenced boolean, success_exit_codes integer[], no_retry_exit_codes integer[], priority integer, jitter interval, starts_at timestamp with time zone, ends_at timestamp with time zone, except_on text, only_on text, payload jsonb, env jsonb, cwd text, run_as text, limits jsonb, leftovers text, retention jsonb, description text, tags text[], reset text[]) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus.alter_job(name text, schedule text, command text, timezone text, argv text[], pool text, run_on text, ttl interval, missed text, overlap text, max_runtime interval, grace interval, retries integer, retry_delay interval, retry_backoff double precision, retry_max_delay interval, retry_on_lost boolean, fenced boolean, success_exit_codes integer[], no_retry_exit_codes integer[], priority integer, jitter interval, starts_at timestamp with time zone, ends_at timestamp with time zone, except_on text, only_on text, payload jsonb, env jsonb, cwd text, run_as text, limits jsonb, leftovers text, retention jsonb, description text, tags text[], reset text[]) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.assert_current(run_id bigint, claim_no bigint) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus.assert_current(run_id bigint, claim_no bigint) TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus.assert_current(run_id bigint, claim_no bigint) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.backfill(name text, since timestamp with time zone, until timestamp with time zone) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus.backfill(name text, since timestamp with time zone, until timestamp with time zone) TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus.backfill(name text, since timestamp with time zone, until timestamp with time zone) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.bind_guardian(role name, host text, pools text[], labels jsonb) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.cancel(run_id bigint) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus.cancel(run_id bigint) TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus.cancel(run_id bigint) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.claim_job(guardian_id bigint, max_runs integer, slots_free integer, ahead interval, holding bigint[], acknowledged bigint[], report jsonb) TO sisyphus_guardian;
GRANT ALL ON FUNCTION sisyphus.claim_job(guardian_id bigint, max_runs integer, slots_free integer, ahead interval, holding bigint[], acknowledged bigint[], report jsonb) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.create_calendar(name text, query text) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus.create_calendar(name text, query text) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.create_pool(name text, hosts text[], selector jsonb, description text) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.describe_schedule(schedule text) TO sisyphus_admin;
GRANT ALL ON FUNCTION sisyphus.describe_schedule(schedule text) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus.describe_schedule(schedule text) TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus.describe_schedule(schedule text) TO sisyphus_viewer;
GRANT ALL ON FUNCTION sisyphus.describe_schedule(schedule text) TO sisyphus_guardian;

GRANT ALL ON FUNCTION sisyphus.drain_host(name text) TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus.drain_host(name text) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.drop_calendar(name text) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus.drop_calendar(name text) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.drop_pool(name text) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.explain(name text, due_at timestamp with time zone) TO sisyphus_admin;
GRANT ALL ON FUNCTION sisyphus.explain(name text, due_at timestamp with time zone) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus.explain(name text, due_at timestamp with time zone) TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus.explain(name text, due_at timestamp with time zone) TO sisyphus_viewer;

GRANT ALL ON FUNCTION sisyphus.explain_run(run_id bigint) TO sisyphus_admin;
GRANT ALL ON FUNCTION sisyphus.explain_run(run_id bigint) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus.explain_run(run_id bigint) TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus.explain_run(run_id bigint) TO sisyphus_viewer;

GRANT ALL ON FUNCTION sisyphus.finish_job(guardian_id bigint, run_ids bigint[], claim_nos bigint[], exit_codes integer[], signals integer[], ended_by text[], reasons text[], started_at timestamp with time zone[], finished_at timestamp with time zone[], stdouts text[], stderrs text[], results jsonb[], cpu_user double precision[], cpu_system double precision[], peak_memory bigint[]) TO sisyphus_guardian;
GRANT ALL ON FUNCTION sisyphus.finish_job(guardian_id bigint, run_ids bigint[], claim_nos bigint[], exit_codes integer[], signals integer[], ended_by text[], reasons text[], started_at timestamp with time zone[], finished_at timestamp with time zone[], stdouts text[], stderrs text[], results jsonb[], cpu_user double precision[], cpu_system double precision[], peak_memory bigint[]) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.fires(schedule text, timezone text, since timestamp with time zone, until timestamp with time zone, max integer, starts_at timestamp with time zone) TO sisyphus_admin;
GRANT ALL ON FUNCTION sisyphus.fires(schedule text, timezone text, since timestamp with time zone, until timestamp with time zone, max integer, starts_at timestamp with time zone) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus.fires(schedule text, timezone text, since timestamp with time zone, until timestamp with time zone, max integer, starts_at timestamp with time zone) TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus.fires(schedule text, timezone text, since timestamp with time zone, until timestamp with time zone, max integer, starts_at timestamp with time zone) TO sisyphus_viewer;
GRANT ALL ON FUNCTION sisyphus.fires(schedule text, timezone text, since timestamp with time zone, until timestamp with time zone, max integer, starts_at timestamp with time zone) TO sisyphus_guardian;

GRANT ALL ON FUNCTION sisyphus.forget_host(name text) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.grant_run_as(role name, os_user text) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.maintain() TO sisyphus_admin;
GRANT ALL ON FUNCTION sisyphus.maintain() TO sisyphus_guardian;

GRANT ALL ON FUNCTION sisyphus.next_fire(schedule text, timezone text, after timestamp with time zone, starts_at timestamp with time zone) TO sisyphus_admin;
GRANT ALL ON FUNCTION sisyphus.next_fire(schedule text, timezone text, after timestamp with time zone, starts_at timestamp with time zone) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus.next_fire(schedule text, timezone text, after timestamp with time zone, starts_at timestamp with time zone) TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus.next_fire(schedule text, timezone text, after timestamp with time zone, starts_at timestamp with time zone) TO sisyphus_viewer;
GRANT ALL ON FUNCTION sisyphus.next_fire(schedule text, timezone text, after timestamp with time zone, starts_at timestamp with time zone) TO sisyphus_guardian;

GRANT ALL ON FUNCTION sisyphus.note_tick(installation uuid, seen_at timestamp with time zone) TO sisyphus_guardian;
GRANT ALL ON FUNCTION sisyphus.note_tick(installation uuid, seen_at timestamp with time zone) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.pause(run_id bigint) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus.pause(run_id bigint) TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus.pause(run_id bigint) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.preview(name text, n integer) TO sisyphus_viewer;
GRANT ALL ON FUNCTION sisyphus.preview(name text, n integer) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus.preview(name text, n integer) TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus.preview(name text, n integer) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.refresh_calendar(name text) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus.refresh_calendar(name text) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.register_guardian(host text, slots integer, labels jsonb, pools text[], version text, host_key uuid, boot_id text, keepers uuid[], held jsonb, periodic boolean) TO sisyphus_guardian;
GRANT ALL ON FUNCTION sisyphus.register_guardian(host text, slots integer, labels jsonb, pools text[], version text, host_key uuid, boot_id text, keepers uuid[], held jsonb, periodic boolean) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.release_job(guardian_id bigint, run_ids bigint[], claim_nos bigint[], reason text) TO sisyphus_guardian;
GRANT ALL ON FUNCTION sisyphus.release_job(guardian_id bigint, run_ids bigint[], claim_nos bigint[], reason text) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.remove_host(pool text, host text) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.rerun(run_id bigint) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus.rerun(run_id bigint) TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus.rerun(run_id bigint) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.resume(name text) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus.resume(name text) TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus.resume(name text) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.resume_all(pool text) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus.resume_all(pool text) TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus.resume_all(pool text) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.revoke_run_as(role name, os_user text) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.run_many(name text, payloads jsonb[]) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus.run_many(name text, payloads jsonb[]) TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus.run_many(name text, payloads jsonb[]) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.run_now(name text, payload jsonb, at timestamp with time zone, host text, dedup_key text) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus.run_now(name text, payload jsonb, at timestamp with time zone, host text, dedup_key text) TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus.run_now(name text, payload jsonb, at timestamp with time zone, host text, dedup_key text) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.schedule(name text, schedule text, command text, timezone text, argv text[], pool text, run_on text, ttl interval, missed text, overlap text, max_runtime interval, grace interval, retries integer, retry_delay interval, retry_backoff double precision, retry_max_delay interval, retry_on_lost boolean, fenced boolean, success_exit_codes integer[], no_retry_exit_codes integer[], priority integer, jitter interval, starts_at timestamp with time zone, ends_at timestamp with time zone, except_on text, only_on text, payload jsonb, env jsonb, cwd text, run_as text, limits jsonb, leftovers text, retention jsonb, description text, tags text[]) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus.schedule(name text, schedule text, command text, timezone text, argv text[], pool text, run_on text, ttl interval, missed text, overlap text, max_runtime interval, grace interval, retries integer, retry_delay interval, retry_backoff double precision, retry_max_delay interval, retry_on_lost boolean, fenced boolean, success_exit_codes integer[], no_retry_exit_codes integer[], priority integer, jitter interval, starts_at timestamp with time zone, ends_at timestamp with time zone, except_on text, only_on text, payload jsonb, env jsonb, cwd text, run_as text, limits jsonb, leftovers text, retention jsonb, description text, tags text[]) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.set_setting(name text, value text) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.set_slots(host text, n integer) TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus.set_slots(host text, n integer) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.sign_off(guardian_id bigint) TO sisyphus_guardian;
GRANT ALL ON FUNCTION sisyphus.sign_off(guardian_id bigint) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.start_job(guardian_id bigint, run_ids bigint[], claim_nos bigint[], pids integer[], started_at timestamp with time zone[]) TO sisyphus_guardian;
GRANT ALL ON FUNCTION sisyphus.start_job(guardian_id bigint, run_ids bigint[], claim_nos bigint[], pids integer[], started_at timestamp with time zone[]) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.submit(command text, argv text[], pool text, host text, at timestamp with time zone, ttl interval, max_runtime interval, grace interval, priority integer, payload jsonb, env jsonb, cwd text, run_as text, limits jsonb, leftovers text) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus.submit(command text, argv text[], pool text, host text, at timestamp with time zone, ttl interval, max_runtime interval, grace interval, priority integer, payload jsonb, env jsonb, cwd text, run_as text, limits jsonb, leftovers text) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.suspend(name text, until timestamp with time zone, reason text) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus.suspend(name text, until timestamp with time zone, reason text) TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus.suspend(name text, until timestamp with time zone, reason text) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.suspend_all(pool text, reason text) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus.suspend_all(pool text, reason text) TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus.suspend_all(pool text, reason text) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.terminate(run_id bigint, reason text) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus.terminate(run_id bigint, reason text) TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus.terminate(run_id bigint, reason text) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.tick(seen_tick_at timestamp with time zone) TO sisyphus_guardian;
GRANT ALL ON FUNCTION sisyphus.tick(seen_tick_at timestamp with time zone) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.unpause(run_id bigint) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus.unpause(run_id bigint) TO sisyphus_operator;
GRANT ALL ON FUNCTION sisyphus.unpause(run_id bigint) TO sisyphus_admin;

GRANT ALL ON FUNCTION sisyphus.unschedule(name text) TO sisyphus_author;
GRANT ALL ON FUNCTION sisyphus.unschedule(name text) TO sisyphus_admin;

GRANT SELECT ON TABLE sisyphus.audit_log TO sisyphus_admin;
GRANT SELECT ON TABLE sisyphus.audit_log TO sisyphus_author;
GRANT SELECT ON TABLE sisyphus.audit_log TO sisyphus_operator;
GRANT SELECT ON TABLE sisyphus.audit_log TO sisyphus_viewer;

GRANT SELECT ON TABLE sisyphus.calendars TO sisyphus_admin;
GRANT SELECT ON TABLE sisyphus.calendars TO sisyphus_author;
GRANT SELECT ON TABLE sisyphus.calendars TO sisyphus_operator;
GRANT SELECT ON TABLE sisyphus.calendars TO sisyphus_viewer;

GRANT SELECT ON TABLE sisyphus.definitions TO sisyphus_admin;
GRANT SELECT ON TABLE sisyphus.definitions TO sisyphus_author;
GRANT SELECT ON TABLE sisyphus.definitions TO sisyphus_operator;
GRANT SELECT ON TABLE sisyphus.definitions TO sisyphus_viewer;

GRANT SELECT ON TABLE sisyphus.history TO sisyphus_admin;
GRANT SELECT ON TABLE sisyphus.history TO sisyphus_author;
GRANT SELECT ON TABLE sisyphus.history TO sisyphus_operator;
GRANT SELECT ON TABLE sisyphus.history TO sisyphus_viewer;

GRANT SELECT ON TABLE sisyphus.failures TO sisyphus_admin;
GRANT SELECT ON TABLE sisyphus.failures TO sisyphus_author;
GRANT SELECT ON TABLE sisyphus.failures TO sisyphus_operator;
GRANT SELECT ON TABLE sisyphus.failures TO sisyphus_viewer;

GRANT SELECT ON TABLE sisyphus.fleet TO sisyphus_admin;
GRANT SELECT ON TABLE sisyphus.fleet TO sisyphus_author;
GRANT SELECT ON TABLE sisyphus.fleet TO sisyphus_operator;
GRANT SELECT ON TABLE sisyphus.fleet TO sisyphus_viewer;

GRANT SELECT ON TABLE sisyphus.live TO sisyphus_admin;
GRANT SELECT ON TABLE sisyphus.live TO sisyphus_author;
GRANT SELECT ON TABLE sisyphus.live TO sisyphus_operator;
GRANT SELECT ON TABLE sisyphus.live TO sisyphus_viewer;

GRANT SELECT ON TABLE sisyphus.queue_depth TO sisyphus_admin;
GRANT SELECT ON TABLE sisyphus.queue_depth TO sisyphus_author;
GRANT SELECT ON TABLE sisyphus.queue_depth TO sisyphus_operator;
GRANT SELECT ON TABLE sisyphus.queue_depth TO sisyphus_viewer;

GRANT SELECT ON TABLE sisyphus.metrics TO sisyphus_admin;
GRANT SELECT ON TABLE sisyphus.metrics TO sisyphus_author;
GRANT SELECT ON TABLE sisyphus.metrics TO sisyphus_operator;
GRANT SELECT ON TABLE sisyphus.metrics TO sisyphus_viewer;

GRANT SELECT ON TABLE sisyphus.overdue TO sisyphus_admin;
GRANT SELECT ON TABLE sisyphus.overdue TO sisyphus_author;
GRANT SELECT ON TABLE sisyphus.overdue TO sisyphus_operator;
GRANT SELECT ON TABLE sisyphus.overdue TO sisyphus_viewer;

GRANT SELECT ON TABLE sisyphus.overview TO sisyphus_admin;
GRANT SELECT ON TABLE sisyphus.overview TO sisyphus_author;
GRANT SELECT ON TABLE sisyphus.overview TO sisyphus_operator;
GRANT SELECT ON TABLE sisyphus.overview TO sisyphus_viewer;

GRANT SELECT ON TABLE sisyphus.running TO sisyphus_admin;
GRANT SELECT ON TABLE sisyphus.running TO sisyphus_author;
GRANT SELECT ON TABLE sisyphus.running TO sisyphus_operator;
GRANT SELECT ON TABLE sisyphus.running TO sisyphus_viewer;

GRANT SELECT ON TABLE sisyphus.settings TO sisyphus_admin;
GRANT SELECT ON TABLE sisyphus.settings TO sisyphus_author;
GRANT SELECT ON TABLE sisyphus.settings TO sisyphus_operator;
GRANT SELECT ON TABLE sisyphus.settings TO sisyphus_viewer;

GRANT SELECT ON TABLE sisyphus.upcoming TO sisyphus_admin;
GRANT SELECT ON TABLE sisyphus.upcoming TO sisyphus_author;
GRANT SELECT ON TABLE sisyphus.upcoming TO sisyphus_operator;
GRANT SELECT ON TABLE sisyphus.upcoming TO sisyphus_viewer;

