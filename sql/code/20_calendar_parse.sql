-- Text to integers: a schedule is parsed once, when it is defined, and kept as bigint[] in job.compiled.
--
-- compiled[1] is the kind: 0 cron that never fires, 1 fixed cron, 2 wildcard cron (docs/calendar.md, clock changes),
-- 3 every {3, seconds}, 4 at {4, epoch second}. Cron goes on with masks:
--   [2] seconds  [3] minutes  [4] hours  [5] days  [6] months  [7] weekdays, Sunday = 0
--   [8] special days: bits 1 to 31 for 1W to 31W, 32 for L, 33 for LW
--   [9] special weekdays: bit 7 n + weekday for MON#n, 42 + weekday for 5L
--   [10] how the day fields combine: 0 every day matches, 1 both must match, 2 either may
--   [11] the first matching second of a day
-- Bit n of a mask is the n-th from the LEFT, so `(mask << n) < 0` asks for n, and
-- `position(B'1' in (mask << n)::bit(64))` is one more than the way from n to the next value.
--
-- Private functions of files 20 to 26 have no SET search_path, which would cost more than the work they do. Every
-- function in them is qualified, nobody but the owner may execute them, and the public functions that call them pin
-- the path. For the same reason there are few regular expressions: one with captures takes 18 us, split_part 0.2.
--
-- Patterns are E'' strings: in others a session may take backslashes for escapes (standard_conforming_strings).
--
-- A new session looks up, parses and plans all that next_fire() meets: some 15 us for each expression and 3 for each operator
-- in it, 15 for the first use of a function, an operator with two types or a cast, 30 for a function of ours and 3 for each
-- of its variables, 100 for the first least(), greatest() or array_remove() of a type. So the files use few of each, again
-- and again, with types that fit exactly (bigint % bigint, not % int; text 'epoch' where a function has overloads), ask
-- `not a = b` where = is known and <> is not, and leave what is rarely needed to a statement or a function of its own.

create or replace function sisyphus._bit(p_value int)
returns bigint language sql immutable parallel safe
as $$ select 1::bigint << (63 - p_value) $$;
comment on function sisyphus._bit(int) is 'The mask that holds one value: bit p_value from the left';

-- Fields are numbered 1 second to 6 day of week, whether or not the expression has seconds; 0 takes any number.
create or replace function sisyphus._field_value(p_field int, p_text text)
returns int language plpgsql immutable parallel safe
as $$
declare
    v_at int;
begin
    if pg_catalog.ltrim(p_text, '0123456789') = '' then
        return case when pg_catalog.length(p_text) > 9 then 999999999 else nullif(p_text, '')::int end;
    elsif p_field > 4 and pg_catalog.length(p_text) = 3 then
        v_at := pg_catalog.strpos(case p_field when 5 then '---janfebmaraprmayjunjulaugsepoctnovdec' else 'sunmontuewedthufrisat' end,
                                  pg_catalog.lower(p_text collate "C"));
        return case when v_at % 3 = 1 then v_at / 3 end;
    end if;
    return null;
end
$$;
comment on function sisyphus._field_value(int, text)
    is 'A number or a three-letter name as a value of a cron field, null when it is neither';

create or replace function sisyphus._special_day(p_field int, p_item text)
returns bigint language plpgsql immutable parallel safe
as $$
declare
    v_item text := pg_catalog.upper(p_item collate "C");
    v_value int;
    v_nth int;
begin
    if p_field = 4 and v_item = 'L' then
        return sisyphus._bit(32);
    elsif p_field = 4 and v_item = 'LW' then
        return sisyphus._bit(33);
    elsif p_field = 4 and pg_catalog.ltrim(v_item, '0123456789') = 'W' then
        v_value := sisyphus._field_value(4, pg_catalog.rtrim(v_item, 'W'));
        return case when v_value between 1 and 31 then sisyphus._bit(v_value) end;
    elsif p_field = 6 and pg_catalog.ltrim(v_item, '0123456789') = 'L' then
        v_value := sisyphus._field_value(6, pg_catalog.rtrim(v_item, 'L'));
        return case when v_value between 0 and 7 then sisyphus._bit(42 + v_value % 7) end;
    elsif p_field = 6 and v_item ~ '^[^#]+#[1-5]$' then
        v_value := sisyphus._field_value(6, pg_catalog.split_part(v_item, '#', 1));
        v_nth := pg_catalog.right(v_item, 1)::int;
        return case when v_value between 0 and 7 then sisyphus._bit(7 * v_nth + v_value % 7) end;
    end if;
    return null;
end
$$;
comment on function sisyphus._special_day(int, text)
    is 'L, LW, 15W, 5L or MON#2 as a mask for compiled[8] or [9], null when the item is none of them';

-- Begins with what `* * * * *` is, and replaces the fields that are not a single star.
-- raises: SY101 for another number of fields, SY102 to SY108 for what a field holds
create or replace function sisyphus._compile_cron(p_schedule text)
returns bigint[] language plpgsql immutable parallel safe
as $$
declare
    v_fields text[] := pg_catalog.regexp_split_to_array(pg_catalog.btrim(p_schedule, E' \t'), E'[ \t]+');
    v_count int := pg_catalog.cardinality(v_fields);
    -- Of five fields the seconds are missing.
    v_field int := 6 - v_count;
    v_compiled bigint[] := '{1,-9223372036854775808,-16,-1099511627776,9223372032559808512,9221120237041090560,-72057594037927936,0,0,0,0}'::bigint[];
    v_text text;
    v_item text;
    v_range text;
    v_min int;
    v_max int;
    v_first int;
    v_last int;
    v_step int;
    v_mask bigint;
    v_restricted int;
begin
    if not (v_count = 5 or v_count = 6) then
        perform sisyphus._refuse_count(p_schedule, pg_catalog.array_remove(v_fields, ''));
    end if;
    foreach v_text in array v_fields loop
        v_field := v_field + 1;
        continue when v_text = '*' and v_field > 1;
        v_min := ('{0,0,0,1,1,0}'::int[])[v_field];
        v_max := ('{59,59,23,31,12,7}'::int[])[v_field];
        v_mask := 0::bigint;
        foreach v_item in array pg_catalog.string_to_array(v_text, ',') loop
            v_range := pg_catalog.split_part(v_item, '/', 1);
            v_first := case when v_range = '*' then v_min else sisyphus._field_value(v_field, pg_catalog.split_part(v_range, '-', 1)) end;
            v_last := case
                when v_range = '*' then v_max
                when pg_catalog.strpos(v_range, '-') > 0
                    then sisyphus._field_value(v_field, pg_catalog.substr(v_range, pg_catalog.strpos(v_range, '-') + 1))
                when v_range = v_item then v_first
                else v_max end;
            v_step := case when v_range = v_item then 1
                else sisyphus._field_value(0, pg_catalog.substr(v_item, pg_catalog.length(v_range) + 2)) end;
            if v_first >= v_min and v_last >= v_first and v_max >= v_last and v_step >= 1 then
                for v_value in v_first .. v_last by v_step loop
                    v_mask := v_mask | (1::bigint << (63 - v_value));
                end loop;
            else
                v_compiled[6 + v_field / 2] := v_compiled[6 + v_field / 2] | coalesce(sisyphus._special_day(v_field, v_item),
                    sisyphus._refuse_field_item(p_schedule, v_count, v_field, v_item, v_text));
            end if;
        end loop;
        v_compiled[v_field + 1] := v_mask;
        v_restricted := v_field;
    end loop;
    v_compiled[11] := position(B'1' in v_compiled[4]::bit(64)) * 3600 + position(B'1' in v_compiled[3]::bit(64)) * 60
        + position(B'1' in v_compiled[2]::bit(64)) - 3661;
    if pg_catalog.strpos(v_fields[v_count - 4], '*') = 1 or pg_catalog.strpos(v_fields[v_count - 3], '*') = 1 then
        v_compiled[1] := 2;
    end if;
    if v_restricted > 3 then
        -- 7 is Sunday, as 0 is.
        v_compiled[7] := v_compiled[7] | (v_compiled[7] << 7);
        v_compiled[10] := case
            when pg_catalog.strpos(v_fields[v_count - 2], '*') = 1 or pg_catalog.strpos(v_fields[v_count], '*') = 1 then 1
            else 2 end;
        -- From 1999-12-31 on: 28 years of it hold every kind of year, leap or not, beginning on each weekday.
        if sisyphus._next_day(v_compiled, 10956) is null then
            v_compiled[1] := 0;
        end if;
    end if;
    return v_compiled;
end
$$;
comment on function sisyphus._compile_cron(text)
    is 'A cron expression of five or six fields as integers, of kind 0 when no date can match';

-- Read without the interval type: its input depends on IntervalStyle, and it knows months.
-- raises: SY110
create or replace function sisyphus._compile_every(p_schedule text)
returns bigint[] language plpgsql immutable parallel safe
as $$
declare
    c_quantity constant text := E'(\\d{1,12}(?:\\.\\d{1,6})?)\\s*([a-z]+)';
    v_schedule text := pg_catalog.btrim(pg_catalog.lower(p_schedule collate "C"), E' \t');
    v_interval text := pg_catalog.btrim(pg_catalog.substr(v_schedule, 6), E' \t');
    v_text text := case
        when v_interval ~ E'^p\\d[0-9.wd]*$' or v_interval ~ '^p[0-9.wd]*t[0-9.hms]+$'
            then pg_catalog.translate(v_interval, 'pt', '')
        when v_interval ~ E'^\\d{1,6}:[0-5]\\d(:[0-5]\\d)?$'
            then pg_catalog.regexp_replace(v_interval, E'^(\\d+):(\\d+):?(\\d*)$', E'\\1h \\2m 0\\3s')
        when v_interval ~ '^[a-z]+$' then '1 ' || v_interval
        else v_interval
    end;
    v_quantity text[];
    v_seconds numeric := 0;
begin
    if v_text !~ ('^(?:' || c_quantity || E'\\s*)+$') then
        perform sisyphus._refuse_every(p_schedule, v_interval);
    end if;
    for v_quantity in select q from pg_catalog.regexp_matches(v_text, c_quantity, 'g') q loop
        v_seconds := v_seconds + v_quantity[1]::numeric * case
            when v_quantity[2] in ('s', 'sec', 'secs', 'second', 'seconds') then 1
            when v_quantity[2] in ('m', 'min', 'mins', 'minute', 'minutes') then 60
            when v_quantity[2] in ('h', 'hr', 'hrs', 'hour', 'hours') then 3600
            when v_quantity[2] in ('d', 'day', 'days') then 86400
            when v_quantity[2] in ('w', 'week', 'weeks') then 604800
        end;
    end loop;
    if v_seconds is null or v_seconds <> pg_catalog.trunc(v_seconds) or v_seconds not between 1 and 3155760000 then
        perform sisyphus._refuse_every(p_schedule, v_interval);
    end if;
    return array[3, v_seconds::bigint];
end
$$;
comment on function sisyphus._compile_every(text) is 'Every <interval> as {3, seconds}';

-- A wall-clock time that the clocks skip moves to the end of the gap and one that they repeat is the first of the
-- two, as for a fixed cron job.
-- raises: SY111
create or replace function sisyphus._compile_at(p_schedule text, p_timezone text)
returns bigint[] language plpgsql stable parallel safe
as $$
declare
    v_text text := pg_catalog.btrim(pg_catalog.substr(pg_catalog.btrim(p_schedule, E' \t'), 3), E' \t');
    v_parts text[] := pg_catalog.regexp_match(v_text,
        E'^(\\d{4})-(\\d\\d)-(\\d\\d)(?:(?:[Tt]|[ \\t]+)(\\d\\d):(\\d\\d)(?::(\\d\\d)(?:\\.0+)?)?[ \\t]*(?:([Zz])|([+-])(\\d\\d):?(\\d\\d)?)?)?$');
    v_month int := v_parts[1]::int * 12 + v_parts[2]::int + 4799;
    v_local bigint;
    v_at bigint;
begin
    if v_parts is null or v_parts[1]::int = 0 or v_parts[2]::int not between 1 and 12
        or v_parts[3]::int not between 1 and sisyphus._month_start(v_month + 1) - sisyphus._month_start(v_month)
        or v_parts[4]::int > 23 or v_parts[5]::int > 59 or v_parts[6]::int > 59
        or v_parts[9]::int > 15 or v_parts[10]::int > 59
    then
        perform sisyphus._refuse_at(p_schedule, v_text, null);
    end if;
    v_local := (sisyphus._month_start(v_month) + v_parts[3]::int - 1) * 86400::bigint
        + coalesce(v_parts[4]::int * 3600 + v_parts[5]::int * 60, 0) + coalesce(v_parts[6]::int, 0);
    v_at := case
        when v_parts[7] is not null then v_local
        when v_parts[8] is not null
            then v_local - (v_parts[8] || '1')::int * (v_parts[9]::int * 3600 + coalesce(v_parts[10]::int, 0) * 60)
        else sisyphus._instant(p_timezone, v_local)
    end;
    if v_at is null then
        perform sisyphus._refuse_at(p_schedule, v_text, p_timezone);
    end if;
    return array[4, v_at];
end
$$;
comment on function sisyphus._compile_at(text, text) is 'At <timestamp> as {4, epoch second}';

-- raises: SY1xx; 22023 for a time zone that is not one
create or replace function sisyphus._compile_schedule(p_schedule text, p_timezone text)
returns bigint[] language plpgsql stable strict parallel unsafe
as $$
declare
    v_timezone text := sisyphus._check_timezone(p_timezone);
    v_schedule text;
begin
    -- What begins so is cron. Its fields refuse what the rest of this function asks for.
    if pg_catalog.strpos('0123456789*', pg_catalog.substr(p_schedule, 1, 1)) > 0 and not pg_catalog.length(p_schedule) > 1000 then
        return sisyphus._compile_cron(p_schedule);
    end if;
    v_schedule := pg_catalog.lower(pg_catalog.btrim(p_schedule, E' \t') collate "C");
    if pg_catalog.length(p_schedule) > 1000
        or pg_catalog.ltrim(v_schedule, E'0123456789* \t,-/abcdefghijklmnopqrstuvwxyz#!"$%&''()+.:;<=>?@[\\]^_`{|}~') <> ''
    then
        perform sisyphus._refuse_text(p_schedule);
    elsif pg_catalog.substr(v_schedule, 1, 1) = '@' then
        return sisyphus._compile_cron(coalesce(sisyphus._macro_schedule(v_schedule), sisyphus._refuse_macro(p_schedule, v_schedule)));
    elsif v_schedule ~ E'^every\\M' then
        return sisyphus._compile_every(p_schedule);
    elsif v_schedule ~ E'^at\\M' then
        return sisyphus._compile_at(p_schedule, v_timezone);
    end if;
    return sisyphus._compile_cron(p_schedule);
end
$$;
comment on function sisyphus._compile_schedule(text, text)
    is 'A schedule as integers for job.compiled and _next_fire; the time zone matters to `at` without an offset only';

create or replace function sisyphus._macro_schedule(p_macro text)
returns text language sql immutable parallel safe
as $$
    select case p_macro
        when '@hourly' then '0 * * * *'
        when '@daily' then '0 0 * * *'
        when '@midnight' then '0 0 * * *'
        when '@weekly' then '0 0 * * 0'
        when '@monthly' then '0 0 1 * *'
        when '@yearly' then '0 0 1 1 *'
        when '@annually' then '0 0 1 1 *'
    end
$$;
comment on function sisyphus._macro_schedule(text) is 'The cron expression that a macro in lower case stands for';

-- raises: what _compile_schedule raises, SY112 for a schedule that can never fire
create or replace function sisyphus._check_schedule(p_schedule text, p_timezone text)
returns bigint[] language plpgsql stable strict parallel unsafe
as $$
declare
    v_compiled bigint[] := sisyphus._compile_schedule(p_schedule, p_timezone);
begin
    if v_compiled[1] = 0 then
        perform sisyphus._refuse_never(p_schedule);
    end if;
    return v_compiled;
end
$$;
comment on function sisyphus._check_schedule(text, text)
    is 'As _compile_schedule, but refuses a schedule that can never fire, as a job must';

-- `at time zone` also takes abbreviations (a fixed offset, which depends on a setting) and POSIX rules (UTC+2 is west
-- of Greenwich). Neither is what the author of a job means.
-- raises: 22023, with the nearest name as hint
create or replace function sisyphus._check_timezone(p_timezone text)
returns text language plpgsql stable parallel unsafe
as $$
begin
    if not (pg_catalog.strpos(p_timezone, '/') > 1
        and pg_catalog.ltrim(p_timezone, 'abcdefghijklmnopqrstuvwxyz/_-ABCDEFGHIJKLMNOPQRSTUVWXYZ') = '')
    then
        if p_timezone = 'UTC' then
            return p_timezone;
        elsif not sisyphus._is_plain_timezone(p_timezone) then
            return sisyphus._refuse_timezone(p_timezone);
        end if;
    end if;
    begin
        return case when pg_catalog.timezone(p_timezone, timestamptz '1970-01-01 00:00:00+00') is not null then p_timezone end;
    exception
        when invalid_parameter_value then
            return sisyphus._refuse_timezone(p_timezone);
    end;
end
$$;
comment on function sisyphus._check_timezone(text) is 'Returns the name of a time zone, refuses what is not one';

create or replace function sisyphus._is_plain_timezone(p_timezone text)
returns boolean language plpgsql stable parallel safe
as $$
begin
    return case
        when p_timezone ~ '^[A-Za-z/_-]+$' then pg_catalog.upper(p_timezone collate "C") in ('GMT', 'UCT', 'UTC', 'ZULU')
            or not exists (select from pg_catalog.pg_timezone_abbrevs a where a.abbrev = pg_catalog.upper(p_timezone collate "C"))
        else p_timezone ~* '^(etc/gmt[+-]?[0-9]{1,2}|gmt[+-]?0|est5edt|cst6cdt|mst7mdt|pst8pdt)$'
    end;
end
$$;
comment on function sisyphus._is_plain_timezone(text)
    is 'Whether a name without region is neither an abbreviation nor a POSIX rule';

revoke all on function
    sisyphus._bit(int), sisyphus._field_value(int, text),
    sisyphus._special_day(int, text), sisyphus._compile_cron(text),
    sisyphus._compile_every(text), sisyphus._compile_at(text, text), sisyphus._compile_schedule(text, text),
    sisyphus._macro_schedule(text), sisyphus._check_schedule(text, text), sisyphus._check_timezone(text),
    sisyphus._is_plain_timezone(text)
from public;
