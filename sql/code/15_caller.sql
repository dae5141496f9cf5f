-- In a definer function current_user is the definer, and behind a pooler session_user is everybody:
-- the caller is the role that was SET, else the login.
create or replace function sisyphus._caller()
returns name
language sql
stable
parallel safe
begin atomic
    select case when pg_catalog.current_setting('role') = 'none' then session_user
                else pg_catalog.current_setting('role')::name end;
end;
comment on function sisyphus._caller() is 'The calling role: the one that was SET, else the login';

create or replace function sisyphus._caller_is(p_role name)
returns boolean
language sql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
    -- A dropped role is nobody, not an error: its jobs must not stop the others.
    select coalesce((select pg_catalog.pg_has_role(sisyphus._caller(), r.oid, 'member')
                       from pg_catalog.pg_roles r where r.rolname = p_role), false);
$$;
comment on function sisyphus._caller_is(name) is 'Whether the calling role is the given one or a member of it';

create or replace function sisyphus._audit(
    p_action text, p_object text, p_before jsonb, p_after jsonb, p_now timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into sisyphus.audit (at, role_name, action, object, owner, before, after)
    values (p_now, sisyphus._caller(), p_action, p_object,
            -- By the action: anything else may have the name of a job, or a number.
            case when p_action in ('schedule', 'alter_job', 'unschedule', 'suspend', 'resume', 'run_now', 'run_many', 'backfill')
                 then (select j.owner from sisyphus.job j where j.name = p_object)
                 when p_action in ('terminate', 'cancel', 'pause', 'unpause', 'rerun')
                 then (select r.owner from sisyphus._require_run(p_object::bigint) r) end,
            p_before, p_after);
end
$$;
comment on function sisyphus._audit(text, text, jsonb, jsonb, timestamptz) is
    'Writes an entry of the audit log';

-- By code points: where LC_CTYPE is C the classes of a regular expression know ASCII alone.
create or replace function sisyphus._is_name(p_text text, p_most integer)
returns boolean
language sql
immutable
parallel safe
begin atomic
    select coalesce(pg_catalog.length(p_text) between 1 and p_most
                    and p_text !~ E'[\\u0001-\\u001f\\u007f-\\u009f\\u2028\\u2029]'
                    and p_text !~ E'^[\\u0020\\u00a0\\u3000]|[\\u0020\\u00a0\\u3000]$', false);
end;
comment on function sisyphus._is_name(text, integer) is
    'Whether a text can name a job, pool, host or calendar: no control character, no blank at either end, not too long';

-- By rows, for hints only: words are short and the lists are names. Two letters that changed places are one mistake.
create or replace function sisyphus._distance(p_a text, p_b text)
returns integer
language plpgsql
immutable
strict
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_a constant text[] := string_to_array(lower(left(p_a, 40)), null);
    v_b constant text[] := string_to_array(lower(left(p_b, 40)), null);
    v_previous integer[] := array(select generate_series(0, cardinality(v_b)));
    v_before integer[];
    v_current integer[];
begin
    for i in 1 .. cardinality(v_a) loop
        v_current := array[i];
        for k in 1 .. cardinality(v_b) loop
            v_current[k + 1] := least(v_current[k] + 1, v_previous[k + 1] + 1,
                                      v_previous[k] + (v_a[i] <> v_b[k])::integer);
            if i > 1 and k > 1 and v_a[i] = v_b[k - 1] and v_a[i - 1] = v_b[k] then
                v_current[k + 1] := least(v_current[k + 1], v_before[k - 1] + 1);
            end if;
        end loop;
        v_before := v_previous;
        v_previous := v_current;
    end loop;
    return v_previous[cardinality(v_b) + 1];
end
$$;
comment on function sisyphus._distance(text, text) is 'Edit distance of two words, in letters, ignoring case';

create or replace function sisyphus._nearest(p_word text, p_words text[])
returns text
language sql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
    -- One mistake, and another one every six letters: a far-fetched guess is worse than none.
    select w
      from (select w, sisyphus._distance(p_word, w) as d
              from unnest(p_words) w
             where abs(length(w) - length(p_word)) <= 1 + length(p_word) / 6
             limit 5000) near
     where d <= 1 + length(p_word) / 6
     order by d, w
     limit 1;
$$;
comment on function sisyphus._nearest(text, text[]) is 'The word nearest to a mistyped one, for hints; null: none is near';
