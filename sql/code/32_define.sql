-- schedule(), alter_job() and unschedule(). A definition call writes job, job_definition, request and audit and nothing
-- else; job_state and the runs follow when a tick has applied the request, after the caller has committed.

-- Of a suspension with its bounds: when the planner looks, it may be over.
create or replace function sisyphus._ask_planner(
    p_job_id bigint, p_replan_from timestamptz, p_now timestamptz,
    p_suspended_at timestamptz default null, p_suspended_until timestamptz default null, p_reason text default null)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into sisyphus.request (action, job_id, role_name, requested_at, replan_from, suspended_at, suspended_until, reason)
    values ('define', p_job_id, sisyphus._caller(), p_now, p_replan_from, p_suspended_at, p_suspended_until, p_reason);
    perform sisyphus._wake_planner(p_now);
end
$$;
comment on function sisyphus._ask_planner(bigint, timestamptz, timestamptz, timestamptz, timestamptz, text) is
    'Tells the planner that a job has changed, or is suspended from one moment to another; wakes one guardian to tick';

-- A deleted job gives its row back to whoever schedules its name next.
-- locks: the job's row, until the caller's transaction ends.
create or replace function sisyphus._lock_name(p_name text)
returns sisyphus.job
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_job sisyphus.job;
begin
    if exists (select from sisyphus.job j where j.name = p_name and j.deleted_at is null) then
        perform sisyphus._require_job(p_name, false);
    end if;
    select j.* into v_job from sisyphus.job j where j.name = p_name for no key update;
    if found and v_job.deleted_at is null then
        perform sisyphus._require_job(p_name, false);
    end if;
    return v_job;
end
$$;
comment on function sisyphus._lock_name(text) is 'The job of a name, deleted or not, locked; null when the name is new; raises 42501';

-- false: another session has made a job of this name meanwhile.
create or replace function sisyphus._store_job(p_job sisyphus.job, p_is_new boolean)
returns boolean
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    if p_is_new then
        insert into sisyphus.job overriding system value values (p_job.*) on conflict (name) do nothing;
        return found;
    end if;
    update sisyphus.job j
       set (owner, version, deleted_at, schedule, timezone, compiled, anchor_at, command, argv, pool_id, run_on, ttl, missed,
            overlap, max_runtime, grace, retries, retry_delay, retry_backoff, retry_max_delay, retry_on_lost, fenced,
            success_exit_codes, no_retry_exit_codes, priority, jitter, starts_at, ends_at, except_on, only_on, payload, env,
            cwd, run_as, limits, leftovers, retention, description, tags, suspended_at, suspended_until, suspend_reason,
            spec, retain_success, retain_failure, created_at, changed_at)
         = row(p_job.owner, p_job.version, p_job.deleted_at, p_job.schedule, p_job.timezone, p_job.compiled, p_job.anchor_at,
            p_job.command, p_job.argv, p_job.pool_id, p_job.run_on, p_job.ttl, p_job.missed, p_job.overlap,
            p_job.max_runtime, p_job.grace, p_job.retries, p_job.retry_delay, p_job.retry_backoff, p_job.retry_max_delay,
            p_job.retry_on_lost, p_job.fenced, p_job.success_exit_codes, p_job.no_retry_exit_codes, p_job.priority,
            p_job.jitter, p_job.starts_at, p_job.ends_at, p_job.except_on, p_job.only_on, p_job.payload, p_job.env,
            p_job.cwd, p_job.run_as, p_job.limits, p_job.leftovers, p_job.retention, p_job.description, p_job.tags,
            p_job.suspended_at, p_job.suspended_until, p_job.suspend_reason, p_job.spec, p_job.retain_success,
            p_job.retain_failure, p_job.created_at, p_job.changed_at)
     where j.job_id = p_job.job_id;
    return true;
end
$$;
comment on function sisyphus._store_job(sisyphus.job, boolean) is 'Writes the row of a job; false when its name has just been taken';

create or replace function sisyphus._merge_definition(
    p_what text, p_before jsonb, p_given jsonb, p_reset text[], p_known text[])
returns jsonb
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_word text;
begin
    select r into v_word from unnest(p_reset) r where r is null or r <> all (p_known) limit 1;
    if found then
        perform sisyphus._raise_argument(p_what, 'reset', coalesce(v_word, 'null'),
            'Give names of arguments of schedule().', p_known);
    end if;
    select r into v_word from unnest(p_reset) r where p_given ? r limit 1;
    if found then
        perform sisyphus._raise_argument(p_what, 'reset', v_word, 'Give it a value or reset it, not both.', null);
    end if;
    return sisyphus._job_defaults()
        || (p_before - p_reset
            -- The one takes the place of the other.
            - case when p_given ? 'command' then 'argv' when p_given ? 'argv' then 'command' else '' end)
        || p_given;
end
$$;
comment on function sisyphus._merge_definition(text, jsonb, jsonb, text[], text[]) is
    'A definition with some of it given anew and some reset to the defaults; raises 22023';

create or replace function sisyphus._build_job(
    p_what text, p_old sisyphus.job, p_definition jsonb, p_known text[], p_now timestamptz)
returns sisyphus.job
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_job sisyphus.job;
begin
    v_job := sisyphus._read_definition(p_what, p_old, p_definition, p_known);
    perform sisyphus._check_timezone(v_job.timezone);
    v_job.pool_id := sisyphus._require_pool(p_definition ->> 'pool');
    perform sisyphus._use_calendars(v_job);
    v_job.compiled := sisyphus._check_schedule(v_job.schedule, v_job.timezone);
    if v_job.deleted_at is not null then
        v_job.owner := null;
        v_job.suspended_at := null;
        v_job.suspended_until := null;
        v_job.suspend_reason := null;
    end if;
    v_job.owner := coalesce(v_job.owner, sisyphus._caller());
    perform sisyphus._check_run_as(p_what, v_job.run_as, v_job.owner);
    v_job.anchor_at := case
        when v_job.starts_at is not null then v_job.starts_at
        -- One to come was a starts_at, which is no longer given.
        when v_job.deleted_at is null and p_old.schedule ~* '^[[:space:]]*every[[:>:]]' and v_job.schedule ~* '^[[:space:]]*every[[:>:]]'
             and p_old.anchor_at <= p_now then p_old.anchor_at
        else date_trunc('second', p_now) end;
    v_job.deleted_at := null;
    if v_job.retention is not null then
        perform sisyphus._check_keys(p_what, 'retention', v_job.retention, '{success,failure}');
    end if;
    v_job.retain_success := sisyphus._retention_days(p_what, v_job.retention, 'success');
    v_job.retain_failure := sisyphus._retention_days(p_what, v_job.retention, 'failure');
    v_job.spec := sisyphus._job_spec(v_job);
    return v_job;
end
$$;
comment on function sisyphus._build_job(text, sisyphus.job, jsonb, text[], timestamptz) is
    'The row that a definition makes of a job, checked; not its version';

create or replace function sisyphus._define_job(p_action text, p_name text, p_arguments jsonb, p_reset text[])
returns bigint
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now constant timestamptz := sisyphus._clock();
    v_what constant text := format('job "%s"', p_name);
    v_known constant text[] := array(select jsonb_object_keys(p_arguments));
    v_occurring constant text[] := '{schedule,timezone,starts_at,except_on,only_on}'::text[];
    v_planning constant text[] := v_occurring || '{ends_at,jitter}'::text[];
    v_placing constant text[] := '{pool,run_on}'::text[];
    v_old sisyphus.job;
    v_new sisyphus.job;
    v_before jsonb := '{}'::jsonb;
    v_after jsonb;
    v_is_new boolean;
    v_is_changed boolean;
    v_is_replanned boolean;
    v_is_broken boolean;
    v_is_anew boolean;
begin
    if not sisyphus._is_name(p_name, 200) then
        raise exception 'job name "%" is not allowed', coalesce(sisyphus._excerpt(p_name), '')
            using errcode = '22023', hint = 'Give 1 to 200 printable characters, no blank at either end.';
    end if;
    if p_action = 'alter_job' then
        v_old := sisyphus._lock_job(p_name, false);
    else
        v_old := sisyphus._lock_name(p_name);
        perform sisyphus._check_taken_over(v_old);
    end if;
    v_is_new := v_old.job_id is null or v_old.deleted_at is not null;
    if not v_is_new then
        v_before := sisyphus._job_definition(v_old);
    end if;
    v_new := sisyphus._build_job(v_what, v_old, sisyphus._merge_definition(
        v_what, case when p_action = 'alter_job' then v_before else '{}' end, sisyphus._given(p_arguments), p_reset, v_known),
        v_known, v_now);
    v_new.name := p_name;
    v_after := sisyphus._job_definition(v_new);
    v_is_changed := v_is_new or v_before - '{description,tags,retention}'::text[] <> v_after - '{description,tags,retention}'::text[];
    v_is_replanned := v_is_new or exists (select from unnest(v_planning) k where v_before -> k is distinct from v_after -> k);
    if v_is_replanned then
        perform sisyphus._check_fires(v_what, v_new, v_now);
    end if;

    v_new.version := coalesce(v_old.version, 0) + v_is_changed::integer;
    if v_new is distinct from v_old then
        v_new.changed_at := v_now;
        if v_is_new then
            v_new.created_at := v_now;
        end if;
        if v_old.job_id is null then
            v_new.job_id := nextval('sisyphus.job_job_id_seq');
        end if;
        if not sisyphus._store_job(v_new, v_old.job_id is null) then
            return sisyphus._define_job(p_action, p_name, p_arguments, p_reset);
        end if;
    end if;
    if v_is_changed then
        insert into sisyphus.job_definition (job_id, version, definition, anchor_at, spec, changed_at, changed_by)
        values (v_new.job_id, v_new.version, v_after, v_new.anchor_at, v_new.spec, v_now, sisyphus._caller());
    end if;
    -- What it lacked may be there again, though nothing of it has changed.
    v_is_broken := exists (select from sisyphus.job_state s where s.job_id = v_new.job_id and s.broken is not null);
    v_is_anew := v_is_new or v_is_broken or coalesce(v_old.ends_at <= v_now, false)
        or exists (select from unnest(v_occurring) k where v_before -> k is distinct from v_after -> k);
    if not v_is_anew and exists (select from unnest(v_planning || v_placing) k where v_before -> k is distinct from v_after -> k) then
        -- The watermark may go back, as for a refreshed calendar, and never ahead: what was due before stays due, and
        -- other hosts than before get runs of what is planned.
        insert into sisyphus.request (action, job_id, role_name, requested_at)
        values ('replan', v_new.job_id, sisyphus._caller(), v_now);
        perform sisyphus._wake_planner(v_now);
    elsif v_is_changed or v_is_broken then
        perform sisyphus._ask_planner(v_new.job_id, case when v_is_replanned or v_is_broken then v_now end, v_now);
    end if;
    perform sisyphus._audit(p_action, p_name, sisyphus._changes(v_before, v_after), sisyphus._changes(v_after, v_before), v_now);
    if v_is_new or v_new.pool_id <> v_old.pool_id then
        perform sisyphus._notice_hosts(v_new.pool_id, v_now);
    end if;
    if v_is_replanned and (v_new.except_on is not null or v_new.only_on is not null) then
        perform sisyphus._notice_calendars(v_what, v_new, v_now);
    end if;
    return v_new.job_id;
end
$$;
comment on function sisyphus._define_job(text, text, jsonb, text[]) is
    'The one way of a definition into the table: merges, checks, stores, keeps the version, tells the planner';

create or replace function sisyphus.schedule(
    name text,
    schedule text,
    command text default null,
    timezone text default null,
    argv text[] default null,
    pool text default 'default',
    run_on text default 'any',
    ttl interval default null,
    missed text default 'latest',
    overlap text default 'skip',
    max_runtime interval default null,
    grace interval default '10 s',
    retries integer default 0,
    retry_delay interval default '10 s',
    retry_backoff double precision default 2,
    retry_max_delay interval default '1 h',
    retry_on_lost boolean default false,
    fenced boolean default false,
    success_exit_codes integer[] default '{0}',
    no_retry_exit_codes integer[] default '{}',
    priority integer default 0,
    jitter interval default null,
    starts_at timestamptz default null,
    ends_at timestamptz default null,
    except_on text default null,
    only_on text default null,
    payload jsonb default null,
    env jsonb default null,
    cwd text default null,
    run_as text default null,
    limits jsonb default null,
    leftovers text default 'kill',
    retention jsonb default null,
    description text default null,
    tags text[] default '{}')
returns bigint
language sql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
set intervalstyle = 'postgres'
set timezone = 'UTC'
set extra_float_digits = 1
as $$
    select sisyphus._define_job('schedule', schedule.name, to_jsonb(a), '{}')
      from (select schedule.schedule, schedule.command, schedule.timezone, schedule.argv, schedule.pool, schedule.run_on,
                   schedule.ttl, schedule.missed, schedule.overlap, schedule.max_runtime, schedule.grace, schedule.retries,
                   schedule.retry_delay, schedule.retry_backoff, schedule.retry_max_delay, schedule.retry_on_lost,
                   schedule.fenced, schedule.success_exit_codes, schedule.no_retry_exit_codes, schedule.priority,
                   schedule.jitter, schedule.starts_at, schedule.ends_at, schedule.except_on, schedule.only_on,
                   schedule.payload, schedule.env, schedule.cwd, schedule.run_as, schedule.limits, schedule.leftovers,
                   schedule.retention, schedule.description, schedule.tags) a;
$$;
comment on function sisyphus.schedule is
    'Creates a job or replaces it: what is not given, or null, has its default; keeps suspension and the anchor of "every". Returns its job_id';

create or replace function sisyphus.alter_job(
    name text,
    schedule text default null,
    command text default null,
    timezone text default null,
    argv text[] default null,
    pool text default null,
    run_on text default null,
    ttl interval default null,
    missed text default null,
    overlap text default null,
    max_runtime interval default null,
    grace interval default null,
    retries integer default null,
    retry_delay interval default null,
    retry_backoff double precision default null,
    retry_max_delay interval default null,
    retry_on_lost boolean default null,
    fenced boolean default null,
    success_exit_codes integer[] default null,
    no_retry_exit_codes integer[] default null,
    priority integer default null,
    jitter interval default null,
    starts_at timestamptz default null,
    ends_at timestamptz default null,
    except_on text default null,
    only_on text default null,
    payload jsonb default null,
    env jsonb default null,
    cwd text default null,
    run_as text default null,
    limits jsonb default null,
    leftovers text default null,
    retention jsonb default null,
    description text default null,
    tags text[] default null,
    reset text[] default '{}')
returns bigint
language sql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
set intervalstyle = 'postgres'
set timezone = 'UTC'
set extra_float_digits = 1
as $$
    select sisyphus._define_job('alter_job', alter_job.name, to_jsonb(a), coalesce(alter_job.reset, '{}'))
      from (select alter_job.schedule, alter_job.command, alter_job.timezone, alter_job.argv, alter_job.pool,
                   alter_job.run_on, alter_job.ttl, alter_job.missed, alter_job.overlap, alter_job.max_runtime,
                   alter_job.grace, alter_job.retries, alter_job.retry_delay, alter_job.retry_backoff,
                   alter_job.retry_max_delay, alter_job.retry_on_lost, alter_job.fenced, alter_job.success_exit_codes,
                   alter_job.no_retry_exit_codes, alter_job.priority, alter_job.jitter, alter_job.starts_at,
                   alter_job.ends_at, alter_job.except_on, alter_job.only_on, alter_job.payload, alter_job.env,
                   alter_job.cwd, alter_job.run_as, alter_job.limits, alter_job.leftovers, alter_job.retention,
                   alter_job.description, alter_job.tags) a;
$$;
comment on function sisyphus.alter_job is
    'Changes what is given of a job; reset names arguments of schedule() that get their default again. Returns its job_id';

-- The row stays: the history refers to it, and schedule() of the name brings it back.
create or replace function sisyphus.unschedule(name text)
returns boolean
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now constant timestamptz := sisyphus._clock();
    v_job sisyphus.job;
begin
    v_job := sisyphus._lock_name(unschedule.name);
    if v_job.job_id is null then
        perform sisyphus._raise_no_job(unschedule.name);
    end if;
    if v_job.deleted_at is null then
        update sisyphus.job j set deleted_at = v_now, changed_at = v_now where j.job_id = v_job.job_id;
        -- A suspension ends with it.
        perform sisyphus._ask_planner(
            v_job.job_id, v_now, v_now, v_job.suspended_at,
            case when v_job.suspended_at is not null then least(v_job.suspended_until, v_now) end, v_job.suspend_reason);
    end if;
    perform sisyphus._audit('unschedule', v_job.name, to_jsonb(v_job.deleted_at is null), null, v_now);
    return v_job.deleted_at is null;
end
$$;
comment on function sisyphus.unschedule(text) is
    'Removes a job: what is planned of it is withdrawn, what runs goes on; false when it had been removed before';

grant execute on function sisyphus.schedule, sisyphus.alter_job, sisyphus.unschedule to sisyphus_author, sisyphus_admin;
