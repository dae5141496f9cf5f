-- Names, rights and single arguments: what every definition and control call checks before it writes anything.

create or replace function sisyphus._raise_no_job(p_name text)
returns void
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_deleted_at timestamptz;
    v_nearest text;
begin
    select j.deleted_at into v_deleted_at from sisyphus.job j where j.name = p_name;
    v_nearest := sisyphus._nearest(p_name, array(select j.name from sisyphus.job j where j.deleted_at is null));
    raise exception 'job "%" does not exist', sisyphus._excerpt(p_name)
        using errcode = '42704',
              hint = case
                  when v_deleted_at is not null then format('It was unscheduled at %s; schedule() brings it back.',
                                                            sisyphus._instant_text(v_deleted_at))
                  when v_nearest is not null then format('Did you mean "%s"?', v_nearest)
                  else 'View sisyphus.overview lists the jobs.' end;
end
$$;
comment on function sisyphus._raise_no_job(text) is 'raises 42704 for a job name, with the nearest one';

create or replace function sisyphus._check_access(p_what text, p_owner name, p_operators boolean)
returns void
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    if sisyphus._caller_is(p_owner) or sisyphus._caller_is('sisyphus_admin')
       or p_operators and sisyphus._caller_is('sisyphus_operator') then
        return;
    end if;
    raise exception '% belongs to role %', p_what, p_owner
        using errcode = '42501',
              hint = format('Act as %I, or as a member of it or of %s.', p_owner,
                            case when p_operators then 'sisyphus_operator or ' else '' end || 'sisyphus_admin');
end
$$;
comment on function sisyphus._check_access(text, name, boolean) is
    'raises 42501 unless the caller owns the thing, is an admin, or is an operator where those may act too';

-- A run takes the name, the owner and the definition of its job: with live runs of the old one, who comes next could
-- read and end what is not his.
create or replace function sisyphus._check_taken_over(p_job sisyphus.job)
returns void
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_run_id bigint;
begin
    if p_job.deleted_at is null or p_job.owner = sisyphus._caller() then
        return;
    end if;
    select r.run_id into v_run_id from sisyphus.run r where r.job_id = p_job.job_id order by r.run_id limit 1;
    if found then
        raise exception 'job "%" of role % was unscheduled, and run % of it is live', p_job.name, p_job.owner, v_run_id
            using errcode = '55000',
                  hint = format('What waits is withdrawn by the next tick; for what runs wait, have %I end it, or choose another name.',
                                p_job.owner);
    end if;
end
$$;
comment on function sisyphus._check_taken_over(sisyphus.job) is
    'raises 55000 for an unscheduled job of another owner that still has live runs';

-- Reads without a lock: an open transaction that changes the job holds up nobody who only needs it.
create or replace function sisyphus._require_job(p_name text, p_operators boolean)
returns sisyphus.job
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_job sisyphus.job;
begin
    select j.* into v_job from sisyphus.job j where j.name = p_name and j.deleted_at is null;
    if not found then
        perform sisyphus._raise_no_job(p_name);
    end if;
    perform sisyphus._check_access(format('job "%s"', p_name), v_job.owner, p_operators);
    return v_job;
end
$$;
comment on function sisyphus._require_job(text, boolean) is
    'A job that exists and that the caller may act on; raises 42704 or 42501';

-- locks: the job's row, until the caller's transaction ends.
create or replace function sisyphus._lock_job(p_name text, p_operators boolean)
returns sisyphus.job
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    -- First whether the caller may: nobody holds the lock of a job that is not his.
    perform sisyphus._require_job(p_name, p_operators);
    perform from sisyphus.job j where j.name = p_name for no key update;
    return sisyphus._require_job(p_name, p_operators);
end
$$;
comment on function sisyphus._lock_job(text, boolean) is 'As _require_job(), and locks the job against other definition calls';

create or replace function sisyphus._is_suspended(p_job sisyphus.job, p_now timestamptz)
returns boolean
language sql
immutable
parallel safe
begin atomic
    select (p_job).suspended_at is not null
       and ((p_job).suspended_until is null or (p_job).suspended_until > p_now);
end;
comment on function sisyphus._is_suspended(sisyphus.job, timestamptz) is 'Whether a job is suspended at a moment';

create or replace function sisyphus._suspended_text(p_why text)
returns text
language sql
immutable
parallel safe
begin atomic
    select 'the job was suspended' || coalesce(': ' || p_why, '');
end;
comment on function sisyphus._suspended_text(text) is 'The reason of what a suspension has left out';

-- A pool that another transaction is dropping is refused, not waited for.
-- locks: the pool's row, for key share.
create or replace function sisyphus._require_pool(p_name text)
returns bigint
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_pool_id bigint;
    v_nearest text;
begin
    select p.pool_id into v_pool_id from sisyphus.pool p where p.name = p_name for key share skip locked;
    if found then
        return v_pool_id;
    end if;
    if exists (select from sisyphus.pool p where p.name = p_name) then
        raise exception 'pool "%" is being dropped', p_name
            using errcode = '55006', hint = 'Choose another pool, or try again when that transaction has ended.';
    end if;
    v_nearest := sisyphus._nearest(p_name, array(select p.name from sisyphus.pool p));
    raise exception 'pool "%" does not exist', sisyphus._excerpt(p_name)
        using errcode = '42704',
              hint = case when v_nearest is not null then format('Did you mean "%s"?', v_nearest)
                          else format('Make it with create_pool(%L), or use pool default.', sisyphus._excerpt(p_name)) end;
end
$$;
comment on function sisyphus._require_pool(text) is 'The number of a pool; raises 42704 with the nearest name, or 55006';

create or replace function sisyphus._require_host(p_name text)
returns sisyphus.host
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_host sisyphus.host;
    v_nearest text;
begin
    select h.* into v_host from sisyphus.host h where h.name = p_name;
    if not found then
        v_nearest := sisyphus._nearest(p_name, array(select h.name from sisyphus.host h));
        raise exception 'host "%" does not exist', sisyphus._excerpt(p_name)
            using errcode = '42704',
                  hint = case when v_nearest is not null then format('Did you mean "%s"?', v_nearest)
                              else 'A host exists once its guardian has registered; view sisyphus.fleet lists them.' end;
    end if;
    return v_host;
end
$$;
comment on function sisyphus._require_host(text) is 'A host that has registered; raises 42704 with the nearest name';

create or replace function sisyphus._raise_argument(p_what text, p_argument text, p_found text, p_hint text, p_words text[])
returns void
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_nearest text := sisyphus._nearest(p_found, p_words);
begin
    raise exception '%: % "%" is not allowed', p_what, p_argument, sisyphus._excerpt(p_found)
        using errcode = '22023', column = p_argument,
              hint = concat_ws(' ', 'Did you mean "' || v_nearest || '"?',
                               coalesce(p_hint, format('Give one of %s.', array_to_string(p_words, ', '))));
end
$$;
comment on function sisyphus._raise_argument(text, text, text, text, text[]) is
    'raises 22023 for a value of an argument, with what is allowed';

-- What a run is given travels in one reply, with what other runs are given; a larger input belongs into a file or a table.
create or replace function sisyphus._check_size(
    p_what text, p_argument text, p_texts text[], p_most integer default 1048576)
returns void
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_bytes constant bigint := (select max(octet_length(t)) from unnest(p_texts) t);
begin
    if v_bytes > p_most then
        -- Its size alone: it may be private, and an error is logged.
        perform sisyphus._raise_argument(p_what, p_argument, v_bytes || ' bytes', format('Give at most %s bytes.', p_most), null);
    end if;
end
$$;
comment on function sisyphus._check_size(text, text, text[], integer) is 'raises 22023 for a text of too many bytes';

create or replace function sisyphus._check_env(p_what text, p_env jsonb)
returns void
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_bad record;
begin
    if p_env is null then
        return;
    end if;
    if jsonb_typeof(p_env) <> 'object' then
        perform sisyphus._raise_argument(p_what, 'env', p_env::text, 'Give an object such as {"LANG": "C"}.', null);
    end if;
    select e.key, e.value into v_bad
      from jsonb_each(p_env) e
     where e.key !~ '^[A-Za-z_][A-Za-z0-9_]*$' or e.key ~ '^SISYPHUS_' or jsonb_typeof(e.value) <> 'string'
     order by e.key
     limit 1;
    if not found then
        return;
    end if;
    perform sisyphus._raise_argument(p_what, 'env', v_bad.key, case
        when v_bad.key ~ '^SISYPHUS_' then 'Names that begin with SISYPHUS_ are set by Sisyphus.'
        when v_bad.key !~ '^[A-Za-z_][A-Za-z0-9_]*$' then 'Names consist of letters, digits and _, and begin with no digit.'
        else format('Give its value as a string: {"%s": "%s"}.', v_bad.key, sisyphus._excerpt(v_bad.value::text)) end, null);
end
$$;
comment on function sisyphus._check_env(text, jsonb) is 'raises 22023 unless env is an object of strings with usable names';

create or replace function sisyphus._check_keys(p_what text, p_argument text, p_value jsonb, p_keys text[])
returns void
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_key text;
begin
    if jsonb_typeof(p_value) <> 'object' then
        perform sisyphus._raise_argument(p_what, p_argument, p_value::text,
            format('Give an object with keys of %s.', array_to_string(p_keys, ', ')), null);
    end if;
    select k into v_key from jsonb_object_keys(p_value) k where k <> all (p_keys) order by k limit 1;
    if found then
        perform sisyphus._raise_argument(p_what, p_argument || ' key', v_key, null, p_keys);
    end if;
end
$$;
comment on function sisyphus._check_keys(text, text, jsonb, text[]) is
    'raises 22023 unless a value is an object with known keys only';

-- pg_size_bytes() takes '64kB' and '65536' but says nothing of ours when it does not.
create or replace function sisyphus._output_limit(p_what text, p_limits jsonb)
returns integer
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_text constant text := p_limits ->> 'output';
    v_bytes bigint;
begin
    if v_text is null then
        return null;
    end if;
    if v_text ~* '^[[:space:]]*[0-9]{1,9}[[:space:]]*(bytes|kb|mb)?[[:space:]]*$' then
        v_bytes := pg_size_bytes(v_text);
    end if;
    if v_bytes between 1024 and 1048576 then
        return v_bytes;
    end if;
    perform sisyphus._raise_argument(p_what, 'limits output', v_text, 'Give a size from "1kB" to "1MB".', null);
    return null;
end
$$;
comment on function sisyphus._output_limit(text, jsonb) is 'Bytes kept of each output stream under a job''s limits; null: not given; raises 22023';

create or replace function sisyphus._memory_limit(p_what text, p_limits jsonb)
returns bigint
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_text constant text := p_limits ->> 'memory';
    v_bytes numeric;
begin
    if v_text is null then
        return null;
    end if;
    if v_text ~* '^[[:space:]]*[0-9]{1,15}[[:space:]]*(bytes|kb|mb|gb|tb)?[[:space:]]*$' then
        v_bytes := substring(v_text from '[0-9]+')::numeric * pg_size_bytes('1' || coalesce(substring(v_text from '[A-Za-z]+'), ''));
    end if;
    if v_bytes between 1048576 and 1125899906842624 then
        return v_bytes;
    end if;
    perform sisyphus._raise_argument(p_what, 'limits memory', v_text, 'Give a size from "1MB" to "1024TB".', null);
    return null;
end
$$;
comment on function sisyphus._memory_limit(text, jsonb) is 'Bytes of memory under a job''s limits; null: not given; raises 22023';

create or replace function sisyphus._check_limits(p_what text, p_limits jsonb)
returns void
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_bad record;
begin
    if p_limits is null then
        return;
    end if;
    perform sisyphus._check_keys(p_what, 'limits', p_limits, '{memory,cpu,nice,open_files,output}');
    select n.key, n.found, n.low, n.high into v_bad
      from (values ('nice', p_limits -> 'nice', -20, 19),
                   ('open_files', p_limits -> 'open_files', 16, 1048576)) n (key, found, low, high)
     where case when jsonb_typeof(n.found) = 'number'
                then (n.found)::numeric % 1 <> 0 or (n.found)::numeric not between n.low and n.high
                else n.found is not null end
     limit 1;
    if found then
        perform sisyphus._raise_argument(p_what, 'limits ' || v_bad.key, v_bad.found #>> '{}',
            format('Give a whole number from %s to %s.', v_bad.low, v_bad.high), null);
    end if;
    if p_limits ? 'cpu' and not coalesce(jsonb_typeof(p_limits -> 'cpu') = 'number'
                                         and (p_limits ->> 'cpu')::numeric between 0.01 and 1024, false) then
        perform sisyphus._raise_argument(p_what, 'limits cpu', p_limits ->> 'cpu',
            'Give a number of processors from 0.01 to 1024, for example 1.5.', null);
    end if;
    perform sisyphus._memory_limit(p_what, p_limits);
    perform sisyphus._output_limit(p_what, p_limits);
end
$$;
comment on function sisyphus._check_limits(text, jsonb) is 'raises 22023 for limits that are unknown or out of range';
