-- A definition as jsonb (the arguments of schedule() by name, without nulls), and the rules that it must keep.

create or replace function sisyphus._given(p_definition jsonb)
returns jsonb
language plpgsql
immutable
strict
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    return (select coalesce(jsonb_object_agg(e.key, e.value), '{}') from jsonb_each(p_definition) e where e.value <> 'null');
end
$$;
comment on function sisyphus._given(jsonb) is 'What is not null in a definition; nulls deeper in (payload) stay';

create or replace function sisyphus._job_defaults()
returns jsonb
language sql
stable
parallel safe
begin atomic
    select pg_catalog.jsonb_build_object(
        'timezone', s.default_timezone, 'pool', 'default', 'run_on', 'any', 'missed', 'latest', 'overlap', 'skip',
        'grace', '00:00:10', 'retries', 0, 'retry_delay', '00:00:10', 'retry_backoff', 2, 'retry_max_delay', '01:00:00',
        'retry_on_lost', false, 'fenced', false, 'success_exit_codes', '[0]'::jsonb, 'no_retry_exit_codes', '[]'::jsonb,
        'priority', 0, 'leftovers', 'kill', 'tags', '[]'::jsonb)
      from sisyphus.setting s;
end;
comment on function sisyphus._job_defaults() is 'The definition of a job of which nothing is given';

create or replace function sisyphus._job_definition(p_job sisyphus.job)
returns jsonb
language sql
stable
parallel safe
set search_path = pg_catalog, pg_temp
set intervalstyle = 'postgres'
set timezone = 'UTC'
as $$
    select sisyphus._given(to_jsonb(p_job) || jsonb_build_object('pool', p.name))
           - '{job_id,name,owner,version,deleted_at,compiled,anchor_at,pool_id,suspended_at,suspended_until,suspend_reason,
               spec,retain_success,retain_failure,created_at,changed_at}'::text[]
      from (select (select name from sisyphus.pool where pool_id = p_job.pool_id)) p;
$$;
comment on function sisyphus._job_definition(sisyphus.job) is 'The definition of a job, as schedule() would be given it';

-- What is private to the owner (audit_log has other readers) is named but not shown.
create or replace function sisyphus._changes(p_of jsonb, p_against jsonb)
returns jsonb
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    return (select jsonb_object_agg(e.key, case when e.key in ('command', 'argv', 'payload', 'env', 'cwd') then '"(private)"'
                                                else e.value end)
              from jsonb_each(p_of) e
             where p_against -> e.key is distinct from e.value);
end
$$;
comment on function sisyphus._changes(jsonb, jsonb) is 'The part of a definition that is not the same in another, for the audit log';

create or replace function sisyphus._is_os_user(p_name text)
returns boolean
language sql
immutable
parallel safe
begin atomic
    select p_name ~ '^[^-:/[:cntrl:][:space:]][^:/[:cntrl:][:space:]]{0,254}$';
end;
comment on function sisyphus._is_os_user(text) is 'Whether a text can be the name of an operating system user';

-- Intervals have a longest value too: added to an instant they must not leave the range of timestamps.
create or replace function sisyphus._check_job(p_what text, p_job sisyphus.job)
returns void
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_bad record;
    v_longest_grace constant interval := (select s.lease_timeout - 3 * s.heartbeat from sisyphus.setting s);
begin
    select c.* into v_bad
      from (values
        ('run_on', p_job.run_on in ('any', 'all'), p_job.run_on, null, '{any,all}'::text[], null::interval),
        ('missed', p_job.missed in ('latest', 'all', 'none'), p_job.missed, null, '{latest,all,none}', null),
        ('overlap', p_job.overlap in ('skip', 'queue', 'replace', 'allow'), p_job.overlap, null, '{skip,queue,replace,allow}', null),
        ('leftovers', p_job.leftovers in ('kill', 'leave'), p_job.leftovers, null, '{kill,leave}', null),
        ('command', p_job.command ~ '[^[:space:]]', p_job.command, 'Give a shell command, or argv.', null, null),
        ('argv', array_ndims(p_job.argv) = 1 and p_job.argv[1] <> '' and array_position(p_job.argv, null) is null,
            p_job.argv::text, 'Give the program and its arguments: array[''/bin/echo'', ''hello''].', null, null),
        ('ttl', p_job.ttl between '1 s' and '100 years', null, 'Give 1 s or more, up to 100 years.', null, p_job.ttl),
        ('max_runtime', p_job.max_runtime > '0 s' and p_job.max_runtime <= '100 years', null,
            'Give more than 0, up to 100 years.', null, p_job.max_runtime),
        ('grace', p_job.grace between '0 s' and '1 day', null, 'Give 0 or more, up to 1 day.', null, p_job.grace),
        ('retries', p_job.retries between 0 and 1000, p_job.retries::text, 'Give 0 to 1000.', null, null),
        ('retry_delay', p_job.retry_delay between '0 s' and '1 year', null,
            'Give 0 or more, up to 1 year.', null, p_job.retry_delay),
        ('retry_backoff', p_job.retry_backoff between 1 and 100, p_job.retry_backoff::text, 'Give 1 to 100.', null, null),
        ('retry_max_delay', p_job.retry_max_delay between '0 s' and '1 year', null,
            'Give 0 or more, up to 1 year.', null, p_job.retry_max_delay),
        ('jitter', p_job.jitter between '0 s' and '1 day', null, 'Give 0 or more, up to 1 day.', null, p_job.jitter),
        ('success_exit_codes', cardinality(p_job.success_exit_codes) > 0 and 0 <= all (p_job.success_exit_codes)
                               and 255 >= all (p_job.success_exit_codes),
            p_job.success_exit_codes::text, 'Give at least one number of 0 to 255.', null, null),
        ('no_retry_exit_codes', 0 <= all (p_job.no_retry_exit_codes) and 255 >= all (p_job.no_retry_exit_codes),
            p_job.no_retry_exit_codes::text, 'Give numbers of 0 to 255.', null, null),
        ('starts_at', p_job.starts_at between '0001-01-01 00:00:00+00' and '9999-12-31 00:00:00+00', p_job.starts_at::text,
            'Give an instant of the years 1 to 9999, or leave it out.', null, null),
        ('ends_at', p_job.ends_at between '0001-01-01 00:00:00+00' and '9999-12-31 00:00:00+00', p_job.ends_at::text,
            'Give an instant of the years 1 to 9999, or leave it out.', null, null),
        ('run_as', sisyphus._is_os_user(p_job.run_as), p_job.run_as, 'Give the name of an operating system user.', null, null),
        ('cwd', p_job.cwd ~ '^/', p_job.cwd, 'Give an absolute path.', null, null),
        ('tags', case when array_ndims(p_job.tags) > 1 then false else array_position(p_job.tags, null) is null end, p_job.tags::text,
            'Give an array of words.', null, null)
      ) c (argument, valid, found, hint, words, duration)
     -- A null among exit codes makes "valid" null; the other nulls mean: not given.
     where not coalesce(c.valid, c.found is null);
    if found then
        perform sisyphus._raise_argument(p_what, v_bad.argument, coalesce(v_bad.found, sisyphus._duration_text(v_bad.duration)),
                                         v_bad.hint, v_bad.words);
    end if;
    perform sisyphus._check_size(p_what, c.argument, array[c.given])
       from (values ('payload', p_job.payload::text), ('command', p_job.command), ('argv', p_job.argv::text),
                    ('env', p_job.env::text)) c (argument, given);
    perform sisyphus._check_env(p_what, p_job.env);
    perform sisyphus._check_limits(p_what, p_job.limits);
    select c.* into v_bad
      from (values
        ((p_job.command is null) <> (p_job.argv is null), 'SY202',
         case when p_job.argv is null then 'neither command nor argv is given' else 'both command and argv are given' end,
         'Give exactly one: command for the shell, argv to be executed without one.'),
        (p_job.missed <> 'all' or p_job.ttl is not null, 'SY203', 'missed "all" needs a ttl',
         'Say with ttl how late a missed occurrence may still start, for example ttl => ''1 day''.'),
        (not p_job.retry_on_lost or p_job.retries >= 1, 'SY203', 'retry_on_lost needs retries',
         'A lost attempt uses up a retry: give retries => 1 or more.'),
        (coalesce(p_job.ends_at > p_job.starts_at, true), 'SY203', 'ends_at is not after starts_at',
         'Give a later ends_at.'),
        (coalesce(p_job.except_on <> p_job.only_on, true), 'SY203', 'except_on and only_on name the same calendar',
         'It would never run: leave one of them out.'),
        -- Between two heartbeats, of which one may be lost, its keeper must not see the end of the lease near.
        (not p_job.fenced or p_job.grace <= v_longest_grace, 'SY203', 'fenced needs a shorter grace',
         'It must end before a lease does: give a grace of at most %s (lease_timeout less three heartbeats).')
      ) c (valid, code, message, hint)
     where not c.valid;
    if found then
        raise exception '%: %', p_what, v_bad.message
            using errcode = v_bad.code, hint = format(v_bad.hint, sisyphus._duration_text(v_longest_grace));
    end if;
end
$$;
comment on function sisyphus._check_job(text, sisyphus.job) is
    'Every rule that a definition must keep but those of its schedule; raises 22023, SY202 or SY203';

create or replace function sisyphus._read_definition(p_what text, p_old sisyphus.job, p_definition jsonb, p_known text[])
returns sisyphus.job
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_job sisyphus.job;
begin
    -- Before the cast to smallint can fail.
    if (p_definition ->> 'priority')::integer not between -9 and 9 then
        perform sisyphus._raise_argument(p_what, 'priority', p_definition ->> 'priority', 'Give -9 to 9; higher goes first.', null);
    end if;
    v_job := jsonb_populate_record(
        p_old, coalesce((select jsonb_object_agg(k, null) from unnest(p_known) k), '{}') || p_definition);
    perform sisyphus._check_job(p_what, v_job);
    return v_job;
end
$$;
comment on function sisyphus._read_definition(text, sisyphus.job, jsonb, text[]) is
    'A job with its definition replaced: what is known and not in the new one becomes null; raises what _check_job() does';

create or replace function sisyphus._job_spec(p_job sisyphus.job)
returns jsonb
language sql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select jsonb_strip_nulls(jsonb_build_object(
        'owner', p_job.owner, 'command', p_job.command, 'argv', p_job.argv, 'env', p_job.env, 'cwd', p_job.cwd,
        'run_as', p_job.run_as,
        'max_runtime', extract(epoch from p_job.max_runtime)::double precision,
        'grace', extract(epoch from p_job.grace)::double precision,
        'fenced', p_job.fenced, 'leftovers', p_job.leftovers,
        'limits', nullif((p_job.limits - 'output') || jsonb_strip_nulls(jsonb_build_object(
            'memory', sisyphus._memory_limit('job', p_job.limits))), '{}'),
        'output_limit', sisyphus._output_limit('job', p_job.limits)));
$$;
comment on function sisyphus._job_spec(sisyphus.job) is 'What a keeper needs to know to run a job';

create or replace function sisyphus._check_fires(p_what text, p_job sisyphus.job, p_now timestamptz)
returns void
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_first timestamptz;
begin
    if p_job.schedule is null then
        return;
    end if;
    v_first := sisyphus._next_fire(p_job.compiled, p_job.timezone,
                                   greatest(p_now, p_job.starts_at - interval '1 us'), p_job.anchor_at);
    if v_first is not null and (p_job.ends_at is null or v_first < p_job.ends_at) then
        return;
    end if;
    raise exception '%: schedule "%" is never due', p_what, p_job.schedule
        using errcode = 'SY201',
              hint = case
                  when v_first is not null then format('It is first due at %s, which is not before ends_at.',
                                                       sisyphus._instant_text(v_first))
                  else format('Give an instant after %s, or call run_now().', sisyphus._instant_text(p_now)) end;
end
$$;
comment on function sisyphus._check_fires(text, sisyphus.job, timestamptz) is 'raises SY201 for a schedule that has no occurrence to come';

-- The commonest reason why "my job does not run". Stored lanes first: this is asked for each run by hand, too.
create or replace function sisyphus._notice_no_host(p_lane_id bigint, p_now timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
-- To plan it takes far longer than to find the first host.
set plan_cache_mode = force_generic_plan
as $$
declare
    v_lane text;
begin
    -- A single pass signs off when it has done its work, and comes again.
    if not exists (select from sisyphus.host h
                     join sisyphus.guardian g on g.host_id = h.host_id
                     left join sisyphus.host_order o on o.host_id = h.host_id
                    where (p_lane_id = any(h.lanes) or p_lane_id = any(sisyphus._lanes_of(h)))
                      and coalesce(o.state, h.state) = 'active'
                      and (g.ended_at is null and g.lease_until > p_now
                           or g.periodic and g.ended_as is distinct from 'lost'
                              and not exists (select from sisyphus.guardian l
                                               where l.host_id = g.host_id and l.guardian_id > g.guardian_id))) then
        v_lane := sisyphus._lane_name(p_lane_id);
        if v_lane like 'host %' then
            raise notice '% is not active now', v_lane
                using hint = 'It runs nothing new until it is; view sisyphus.fleet shows it.';
        else
            raise notice '% has no active host now', v_lane
                using hint = 'Nothing in it runs until one of its hosts is active; view sisyphus.fleet shows them.';
        end if;
    end if;
end
$$;
comment on function sisyphus._notice_no_host(bigint, timestamptz) is
    'Gives a NOTICE when a pool has no active host, or when a host is not active, by the number of its lane';

create or replace function sisyphus._notice_hosts(p_pool_id bigint, p_now timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    perform sisyphus._notice_unknown((select p.name from sisyphus.pool p where p.pool_id = p_pool_id), array_agg(m.host_name))
       from sisyphus.pool_member m where m.pool_id = p_pool_id having count(*) > 0;
    perform sisyphus._notice_no_host(p_pool_id, p_now);
end
$$;
comment on function sisyphus._notice_hosts(bigint, timestamptz) is 'Gives a NOTICE when a pool has no active host, or lists unknown ones';
