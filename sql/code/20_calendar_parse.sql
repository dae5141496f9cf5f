-- Text to integers: a schedule is parsed once, when it is defined, and kept as bigint[] in job.compiled.
--
-- compiled[1] is the kind: 0 never fires, 1 fixed cron, 2 wildcard cron (section DST of docs/calendar.md),
-- 3 every {3, seconds}, 4 at {4, epoch second}. Cron goes on with
--   [2] seconds  [3] minutes  [4] hours  [5] days  [6] months  [7] weekdays, Sunday = 0
--   [8] special days: bits 1 to 31 for 1W to 31W, 32 for L, 33 for LW
--   [9] special weekdays: bit 7 n + weekday for MON#n, 42 + weekday for 5L
--   [10] how the day fields combine: 0 every day, 1 both must match, 2 either may
--   [11] the first matching second of a day
-- Bit n of a mask is the n-th from the LEFT, so `(mask << n) < 0` asks for n, and
-- `position(B'1' in (mask << n)::bit(64))` finds the next value at or after n.
--
-- Private functions here and in 21 have no SET search_path: it costs more than the work they do. Every function and
-- table in them is qualified; they are executable by nobody but the owner, whose public functions pin the path.

create or replace function sisyphus._bit(p_value int)
returns bigint language sql immutable parallel safe
as $$ select 1::bigint << (63 - p_value) $$;
comment on function sisyphus._bit(int) is 'the mask that holds one value: bit p_value from the left';

-- A colon-free, quotable form of what the user wrote; errors must stay readable when the text is huge.
create or replace function sisyphus._schedule_excerpt(p_text text)
returns text language sql immutable parallel safe
as $$ select case when pg_catalog.length(p_text) > 80 then pg_catalog.left(p_text, 77) || '...' else p_text end $$;
comment on function sisyphus._schedule_excerpt(text) is 'the start of a text, short enough for an error message';

create or replace function sisyphus._cron_field_name(p_field int)
returns text language sql immutable parallel safe
as $$ select (array['second', 'minute', 'hour', 'day of month', 'month', 'day of week'])[p_field] $$;
comment on function sisyphus._cron_field_name(int) is 'name of a cron field, 1 second to 6 day of week';

create or replace function sisyphus._cron_field_allows(p_field int)
returns text language sql immutable parallel safe
as $$ select (array[
    '0 to 59', '0 to 59', '0 to 23', '1 to 31, L (the last day), LW (the last weekday) and 15W (the weekday nearest the 15th)',
    '1 to 12 and JAN to DEC', '0 to 7 (0 and 7 are Sunday), SUN to SAT, 5L (the last Friday) and MON#2 (the second Monday)'])[p_field] $$;
comment on function sisyphus._cron_field_allows(int) is 'what a cron field may hold, in words';

-- The one place where a cron field is refused. p_found is a part of item number p_item of the field; p_instead,
-- when something near is right, takes the place of the whole item in the hint.
create or replace function sisyphus._refuse_field(
    p_code text, p_schedule text, p_fields int, p_field int, p_item int, p_found text, p_problem text, p_instead text)
returns void language plpgsql immutable parallel safe
as $$
declare
    v_number int := p_field - (6 - p_fields);
    v_start int := pg_catalog.regexp_instr(p_schedule, '[^ \t]+', 1, v_number);
    v_items text[] := pg_catalog.string_to_array(pg_catalog.regexp_substr(p_schedule, '[^ \t]+', 1, v_number), ',');
    v_item text := v_items[p_item];
    v_position int;
    v_hint text;
begin
    v_start := v_start + pg_catalog.length(pg_catalog.array_to_string(v_items[:p_item - 1], ',')) + (p_item > 1)::int;
    v_position := v_start + greatest(pg_catalog.strpos(v_item, p_found) - 1, 0);
    if p_instead is not null then
        v_hint := pg_catalog.format('Write "%s": the schedule becomes "%s".', p_instead,
            pg_catalog.overlay(p_schedule, p_instead, v_start, pg_catalog.length(v_item)));
    else
        v_hint := pg_catalog.format('The %s field takes %s, each also in lists (1,2), ranges (1-5) and steps (*/2, 1-5/2, 3/2).',
            sisyphus._cron_field_name(p_field), sisyphus._cron_field_allows(p_field));
    end if;
    if p_fields = 6 then
        v_hint := v_hint || ' Six fields begin with the second: second, minute, hour, day of month, month, day of week.';
    end if;
    raise exception using errcode = p_code,
        message = pg_catalog.format('schedule "%s": %s field: %s',
            sisyphus._schedule_excerpt(p_schedule), sisyphus._cron_field_name(p_field), p_problem),
        detail = pg_catalog.format('Found "%s" at position %s (field %s of %s, %s); allowed: %s.', sisyphus._schedule_excerpt(p_found),
            v_position, v_number, p_fields, sisyphus._cron_field_name(p_field), sisyphus._cron_field_allows(p_field)),
        hint = v_hint;
end
$$;
comment on function sisyphus._refuse_field(text, text, int, int, int, text, text, text)
    is 'raises an error of class SY1 about one item of one cron field, with its position and a correction';

-- A number or a three-letter name as a value of the field; null when it is neither.
create or replace function sisyphus._field_value(p_field int, p_text text)
returns int language sql immutable parallel safe
as $$
    select case
        when p_text ~ '^\d{1,9}$' then p_text::int
        when p_text ~ '^\d+$' then 999999999
        when p_field = 5 then pg_catalog.array_position(
            '{jan,feb,mar,apr,may,jun,jul,aug,sep,oct,nov,dec}'::text[], pg_catalog.lower(p_text))
        when p_field = 6 then pg_catalog.array_position('{sun,mon,tue,wed,thu,fri,sat}'::text[], pg_catalog.lower(p_text)) - 1
    end
$$;
comment on function sisyphus._field_value(int, text) is 'a number or name as a value of a cron field, null when it is neither';

-- L, LW, 15W, 5L and MON#2 as a mask for compiled[8] or [9]; null when the item has none of these forms or is out of range.
create or replace function sisyphus._special_day(p_field int, p_item text)
returns bigint language plpgsql immutable parallel safe
as $$
declare
    v_item text := pg_catalog.upper(p_item);
    v_value int;
    v_nth int;
begin
    if p_field = 4 then
        if v_item = 'L' then
            return sisyphus._bit(32);
        elsif v_item = 'LW' then
            return sisyphus._bit(33);
        elsif v_item ~ '^\d+W$' then
            v_value := sisyphus._field_value(4, pg_catalog.rtrim(v_item, 'W'));
            return case when v_value between 1 and 31 then sisyphus._bit(v_value) end;
        end if;
    elsif p_field = 6 then
        if v_item ~ '^\d+L$' then
            v_value := sisyphus._field_value(6, pg_catalog.rtrim(v_item, 'L'));
            return case when v_value between 0 and 7 then sisyphus._bit(42 + v_value % 7) end;
        elsif v_item ~ '^(\d+|[A-Z]{3})#\d+$' then
            v_value := sisyphus._field_value(6, pg_catalog.split_part(v_item, '#', 1));
            v_nth := sisyphus._field_value(1, pg_catalog.split_part(v_item, '#', 2));
            return case when v_value between 0 and 7 and v_nth between 1 and 5 then sisyphus._bit(7 * v_nth + v_value % 7) end;
        end if;
    end if;
    return null;
end
$$;
comment on function sisyphus._special_day(int, text) is 'L, LW, 15W, 5L and MON#2 as a mask, null when the item is none of them';

-- The values from p_first to p_last, every p_step-th of them.
create or replace function sisyphus._range_mask(p_first int, p_last int, p_step int)
returns bigint language plpgsql immutable parallel safe
as $$
declare
    v_mask bigint := 0;
begin
    if p_step = 1 then
        return ((1::bigint << (p_last - p_first + 1)) - 1) << (63 - p_last);
    end if;
    for v_value in p_first .. p_last by p_step loop
        v_mask := v_mask | (1::bigint << (63 - v_value));
    end loop;
    return v_mask;
end
$$;
comment on function sisyphus._range_mask(int, int, int) is 'mask of a range of values with a step';

-- One cron field: {mask of plain values, mask of special days}. Captures of a regular expression would cost 18 us an
-- item, a test without them and split_part cost 1.
create or replace function sisyphus._parse_field(p_schedule text, p_fields int, p_field int, p_text text)
returns bigint[] language plpgsql immutable parallel safe
as $$
declare
    v_min int := case when p_field in (4, 5) then 1 else 0 end;
    v_max int := ('{59,59,23,31,12,7}'::int[])[p_field];
    v_mask bigint := 0;
    v_special bigint := 0;
    v_items text[] := pg_catalog.string_to_array(p_text, ',');
    v_item text;
    v_range text;
    v_step text;
    v_first int;
    v_last int;
    v_bits bigint;
begin
    for v_number in 1 .. pg_catalog.cardinality(v_items) loop
        v_item := v_items[v_number];
        v_bits := null;
        if v_item ~ '^(?:\*|(?:\d+|[A-Za-z]+)(?:-(?:\d+|[A-Za-z]+))?)(?:/\d+)?$' then
            v_range := pg_catalog.split_part(v_item, '/', 1);
            v_step := pg_catalog.split_part(v_item, '/', 2);
            if v_range = '*' then
                v_first := v_min;
                v_last := v_max;
            else
                v_first := sisyphus._field_value(p_field, pg_catalog.split_part(v_range, '-', 1));
                v_last := case
                    when pg_catalog.strpos(v_range, '-') > 0 then sisyphus._field_value(p_field, pg_catalog.split_part(v_range, '-', 2))
                    when v_step <> '' then v_max
                    else v_first
                end;
            end if;
            if v_first >= v_min and v_last between v_first and v_max and v_step !~ '^0+$' then
                v_bits := sisyphus._range_mask(v_first, v_last, case when v_step = '' then 1 else sisyphus._field_value(0, v_step) end);
                v_mask := v_mask | v_bits;
            end if;
        end if;
        if v_bits is null then
            v_bits := sisyphus._special_day(p_field, v_item);
            if v_bits is null then
                perform sisyphus._explain_item(p_schedule, p_fields, p_field, v_number, v_item);
            end if;
            v_special := v_special | v_bits;
        end if;
    end loop;
    if p_field = 6 and (v_mask << 7) < 0 then
        v_mask := v_mask | sisyphus._bit(0);
    end if;
    return array[v_mask, v_special];
end
$$;
comment on function sisyphus._parse_field(text, int, int, text) is 'one cron field as {mask of plain values, mask of special days}';

-- Says what is wrong with an item that _parse_field could not read. Always raises.
create or replace function sisyphus._explain_item(p_schedule text, p_fields int, p_field int, p_number int, p_item text)
returns void language plpgsql immutable parallel safe
as $$
declare
    v_max int := ('{59,59,23,31,12,7}'::int[])[p_field];
    v_min int := case when p_field in (4, 5) then 1 else 0 end;
    v_range text := pg_catalog.split_part(p_item, '/', 1);
    v_step text := pg_catalog.split_part(p_item, '/', 2);
    v_first text := pg_catalog.split_part(v_range, '-', 1);
    v_last text := pg_catalog.split_part(v_range, '-', 2);
    v_tail text := pg_catalog.substr(p_item, pg_catalog.length(v_range) + 1);
    v_low int;
    v_high int;
    v_code text := 'SY103';
    v_found text := p_item;
    v_problem text;
    v_instead text;
begin
    v_low := sisyphus._field_value(p_field, v_first);
    v_high := sisyphus._field_value(p_field, v_last);
    if p_item = '' then
        v_code := 'SY107';
        v_problem := 'an item of the list is empty';
    elsif p_item = '?' then
        v_code := 'SY102';
        v_problem := '"?" is not known here';
        v_instead := '*';
    end if;
    perform sisyphus._refuse_field(v_code, p_schedule, p_fields, p_field, p_number, v_found,
        coalesce(v_problem, pg_catalog.format('"%s" is not understood', p_item)), v_instead);
end
$$;
comment on function sisyphus._explain_item(text, int, int, int, text) is 'raises the error of class SY1 that says what is wrong with an item of a cron field';

-- A cron expression, five or six fields, as compiled integers.
create or replace function sisyphus._compile_cron(p_schedule text)
returns bigint[] language plpgsql immutable parallel safe
as $$
declare
    v_fields text[] := pg_catalog.array_remove(pg_catalog.string_to_array(pg_catalog.translate(p_schedule, E'\t', ' '), ' '), '');
    v_count int := pg_catalog.cardinality(v_fields);
    v_compiled bigint[] := array[1, sisyphus._bit(0), 0, 0, 0, 0, 0, 0, 0, 1, 0];
    v_parsed bigint[];
begin
    if v_count not in (5, 6) then
        perform sisyphus._refuse_count(p_schedule, v_fields);
    end if;
    if v_count = 5 then
        v_fields := pg_catalog.array_prepend('0', v_fields);
    end if;
    for v_field in 1 .. 6 loop
        v_parsed := sisyphus._parse_field(p_schedule, v_count, v_field, v_fields[v_field]);
        v_compiled[v_field + 1] := v_parsed[1];
        if v_field = 4 then
            v_compiled[8] := v_parsed[2];
        elsif v_field = 6 then
            v_compiled[9] := v_parsed[2];
        end if;
    end loop;
    if v_fields[2] like '*%' or v_fields[3] like '*%' then
        v_compiled[1] := 2;
    end if;
    if v_fields[4] not like '*%' and v_fields[6] not like '*%' then
        v_compiled[10] := 2;
    elsif v_fields[4:6] = '{*,*,*}' then
        v_compiled[10] := 0;
    end if;
    v_compiled[11] := sisyphus._next_second(v_compiled, 0);
    -- 28 years hold every kind of year: leap or not, beginning on each weekday.
    if v_compiled[10] > 0 and sisyphus._next_day(v_compiled, 10957) is null then
        return '{0}';
    end if;
    return v_compiled;
end
$$;
comment on function sisyphus._compile_cron(text) is 'a cron expression of five or six fields as integers, see the head of 20_calendar_parse.sql';

create or replace function sisyphus._refuse_count(p_schedule text, p_fields text[])
returns void language plpgsql immutable parallel safe
as $$
begin
    raise exception using errcode = 'SY101',
        message = pg_catalog.format('schedule "%s" has %s fields', sisyphus._schedule_excerpt(p_schedule), pg_catalog.cardinality(p_fields));
end
$$;
comment on function sisyphus._refuse_count(text, text[]) is 'raises SY101: neither five nor six fields';

-- every <interval>: {3, seconds}. Read without the interval type: its input depends on IntervalStyle, and it has months.
create or replace function sisyphus._compile_every(p_schedule text)
returns bigint[] language plpgsql immutable parallel safe
as $$
declare
    c_quantity constant text := '(\d+(?:\.\d+)?)\s*([a-z]+)';
    v_text text := pg_catalog.btrim(pg_catalog.lower(pg_catalog.regexp_replace(p_schedule, '^\s*every', '', 'i')), E' \t');
    v_quantity text[];
    v_unit numeric;
    v_seconds numeric := 0;
begin
    if v_text ~ '^[a-z]+$' and v_text !~ '^p' then
        v_text := '1 ' || v_text;
    elsif v_text ~ '^\d{1,6}:[0-5]\d(:[0-5]\d)?$' then
        v_text := pg_catalog.regexp_replace(v_text, '^(\d+):(\d+):?(\d*)$', '\1h \2m 0\3s');
    elsif v_text ~ '^p(?=.)[0-9.wd]*(t(?=.)[0-9.hms]+)?$' then
        v_text := pg_catalog.translate(v_text, 'pt', '');
    end if;
    if v_text !~ ('^(?:' || c_quantity || '\s*)+$') then
        perform sisyphus._refuse_every(p_schedule, v_text, null);
    end if;
    for v_quantity in select q from pg_catalog.regexp_matches(v_text, c_quantity, 'g') q loop
        v_unit := case
            when v_quantity[2] ~ '^(s|sec|secs|second|seconds)$' then 1
            when v_quantity[2] ~ '^(m|min|mins|minute|minutes)$' then 60
            when v_quantity[2] ~ '^(h|hr|hrs|hour|hours)$' then 3600
            when v_quantity[2] ~ '^(d|day|days)$' then 86400
            when v_quantity[2] ~ '^(w|week|weeks)$' then 604800
        end;
        if v_unit is null or pg_catalog.length(v_quantity[1]) > 15 then
            perform sisyphus._refuse_every(p_schedule, v_text, v_quantity[2]);
        end if;
        v_seconds := v_seconds + v_quantity[1]::numeric * v_unit;
    end loop;
    if v_seconds <> pg_catalog.trunc(v_seconds) or v_seconds not between 1 and 3155760000 then
        perform sisyphus._refuse_every(p_schedule, v_text, null);
    end if;
    return array[3, v_seconds::bigint];
end
$$;
comment on function sisyphus._compile_every(text) is 'every <interval> as integers';

create or replace function sisyphus._refuse_every(p_schedule text, p_interval text, p_unit text)
returns void language plpgsql immutable parallel safe
as $$
begin
    raise exception using errcode = 'SY110', message = pg_catalog.format('schedule "%s": "%s" is no interval', p_schedule, p_interval);
end
$$;
comment on function sisyphus._refuse_every(text, text, text) is 'raises SY110: not an interval that every takes';

-- at <timestamp>: {4, epoch second}. A wall-clock time that the clocks skip moves to the end of the gap, one that they
-- repeat is the first of the two, as for a fixed cron job.
create or replace function sisyphus._compile_at(p_schedule text, p_timezone text)
returns bigint[] language plpgsql stable parallel safe
as $$
declare
    v_text text := pg_catalog.upper(pg_catalog.btrim(pg_catalog.regexp_replace(p_schedule, '^\s*at', '', 'i'), E' \t'));
    v_parts text[] := pg_catalog.regexp_match(v_text,
        '^(\d{4})-(\d\d)-(\d\d)(?:[T ]+(\d\d):(\d\d)(?::(\d\d)(?:\.(0+))?)?)?\s*(?:(Z)|([+-])(\d\d):?(\d\d)?)?$');
    v_days int := 31;
    v_local bigint;
    v_at bigint;
begin
    if v_parts[2] in ('04', '06', '09', '11') then
        v_days := 30;
    elsif v_parts[2] = '02' then
        v_days := case when v_parts[1]::int % 4 = 0 and (v_parts[1]::int % 100 <> 0 or v_parts[1]::int % 400 = 0) then 29 else 28 end;
    end if;
    if v_parts is null or v_parts[1]::int < 1 or v_parts[2]::int not between 1 and 12 or v_parts[3]::int not between 1 and v_days
        or v_parts[4]::int > 23 or v_parts[5]::int > 59 or v_parts[6]::int > 59 or v_parts[10]::int > 15 or v_parts[11]::int > 59
    then
        perform sisyphus._refuse_at(p_schedule, v_text);
    end if;
    v_local := (pg_catalog.make_date(v_parts[1]::int, v_parts[2]::int, v_parts[3]::int) - date '1970-01-01')::bigint * 86400
        + coalesce(v_parts[4]::int, 0) * 3600 + coalesce(v_parts[5]::int, 0) * 60 + coalesce(v_parts[6]::int, 0);
    if v_parts[8] is not null then
        return array[4, v_local];
    elsif v_parts[9] is not null then
        return array[4, v_local - (v_parts[9] || '1')::int * (v_parts[10]::int * 3600 + coalesce(v_parts[11]::int, 0) * 60)];
    end if;
    v_at := sisyphus._instant(p_timezone, v_local);
    if v_at is null then
        perform sisyphus._refuse_at(p_schedule, v_text);
    end if;
    return array[4, v_at];
end
$$;
comment on function sisyphus._compile_at(text, text) is 'at <timestamp> as integers';

create or replace function sisyphus._refuse_at(p_schedule text, p_timestamp text)
returns void language plpgsql immutable parallel safe
as $$
begin
    raise exception using errcode = 'SY111', message = pg_catalog.format('schedule "%s": "%s" is no timestamp', p_schedule, p_timestamp);
end
$$;
comment on function sisyphus._refuse_at(text, text) is 'raises SY111: not a timestamp';

create or replace function sisyphus._compile_schedule(p_schedule text, p_timezone text)
returns bigint[] language plpgsql stable strict parallel safe
as $$
declare
    v_schedule text := pg_catalog.btrim(p_schedule, E' \t');
begin
    if v_schedule ~ '^[0-9*]' then
        return sisyphus._compile_cron(p_schedule);
    elsif v_schedule ~* '^every\M' then
        return sisyphus._compile_every(p_schedule);
    elsif v_schedule ~* '^at\M' then
        return sisyphus._compile_at(p_schedule, p_timezone);
    end if;
    return case pg_catalog.lower(v_schedule)
        when '@hourly' then sisyphus._compile_cron('0 * * * *')
        when '@daily' then sisyphus._compile_cron('0 0 * * *')
        when '@midnight' then sisyphus._compile_cron('0 0 * * *')
        when '@weekly' then sisyphus._compile_cron('0 0 * * 0')
        when '@monthly' then sisyphus._compile_cron('0 0 1 * *')
        when '@yearly' then sisyphus._compile_cron('0 0 1 1 *')
        when '@annually' then sisyphus._compile_cron('0 0 1 1 *')
        else sisyphus._compile_cron(p_schedule) end;
end
$$;
comment on function sisyphus._compile_schedule(text, text) is 'a schedule as integers, see the head of 20_calendar_parse.sql';

revoke all on function
    sisyphus._bit(int), sisyphus._schedule_excerpt(text), sisyphus._cron_field_name(int), sisyphus._cron_field_allows(int),
    sisyphus._refuse_field(text, text, int, int, int, text, text, text), sisyphus._field_value(int, text),
    sisyphus._special_day(int, text), sisyphus._range_mask(int, int, int), sisyphus._parse_field(text, int, int, text),
    sisyphus._explain_item(text, int, int, int, text), sisyphus._refuse_count(text, text[]), sisyphus._compile_cron(text),
    sisyphus._refuse_every(text, text, text), sisyphus._compile_every(text), sisyphus._refuse_at(text, text),
    sisyphus._compile_at(text, text), sisyphus._compile_schedule(text, text)
from public;
