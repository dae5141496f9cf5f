-- What a refused schedule is told: SQLSTATE of class SY1, the field, the position, what was found, what is allowed, and
-- a corrected expression where one is near. Speed does not matter here: every function ends in an error.

create or replace function sisyphus._excerpt(p_text text)
returns text language sql immutable parallel safe
as $$ select case when pg_catalog.length(p_text) > 100 then pg_catalog.left(p_text, 97) || '...' else p_text end $$;
comment on function sisyphus._excerpt(text) is 'A text, short enough to be quoted in an error message';

create or replace function sisyphus._field_name(p_field int)
returns text language sql immutable parallel safe
as $$ select ('{second,minute,hour,day of month,month,day of week}'::text[])[p_field] $$;
comment on function sisyphus._field_name(int) is 'Name of a cron field, 1 second to 6 day of week';

create or replace function sisyphus._field_allows(p_field int)
returns text language sql immutable parallel safe
as $$
    select (array['0 to 59', '0 to 59', '0 to 23',
        '1 to 31, L (the last day), LW (the last weekday), 15W (the weekday nearest the 15th)',
        '1 to 12, JAN to DEC',
        '0 to 7 (0 and 7 are Sunday), SUN to SAT, 5L (the last Friday), MON#2 (the second Monday)'])[p_field]
$$;
comment on function sisyphus._field_allows(int) is 'What a cron field may hold, in words';

-- The nearest value of the field as text: the text itself when it is one, MON for MONDAY, 23 for 24; null when none is near.
create or replace function sisyphus._near_value(p_field int, p_text text)
returns text language sql immutable parallel safe
as $$
    select case
        when v.value between v.low and v.high then p_text
        when v.value = v.high + 1 then v.high::text
        when v.value = v.low - 1 then v.low::text
        when p_text ~ '^[A-Za-z]+$' and sisyphus._field_value(p_field, pg_catalog.left(p_text, 3)) is not null
            then pg_catalog.upper(pg_catalog.left(p_text, 3) collate "C")
    end
    from (select sisyphus._field_value(p_field, p_text) as value, case when p_field in (4, 5) then 1 else 0 end as low,
                 ('{59,59,23,31,12,7}'::int[])[p_field] as high) v
$$;
comment on function sisyphus._near_value(int, text)
    is 'The value of a cron field that is meant by a text, null when none is near';

-- What is wrong with an item that has an L, W or # where these have a meaning.
create or replace function sisyphus._diagnose_special(
    p_field int, p_item text, out code text, out part text, out problem text, out instead text)
language plpgsql immutable parallel safe
as $$
declare
    v_weekday text := pg_catalog.regexp_replace(p_item, '[#Ll].*$', '');
    v_value int := sisyphus._field_value(6, v_weekday);
    v_nth text := pg_catalog.split_part(p_item, '#', 2);
begin
    code := 'SY108';
    part := p_item;
    problem := pg_catalog.format('"%s" is none of its special forms', p_item);
    if p_field = 6 and p_item ~* E'^(lw|wl|[\\d-]+w+)$' or p_field = 4 and p_item ~* E'#|^\\dl$' or p_field not in (4, 6) then
        problem := pg_catalog.format('"%s" belongs in the %s field', p_item,
            sisyphus._field_name(case when p_item ~* E'#|^[a-z\\d]+l$' and p_item !~* '^w' then 6 else 4 end));
    elsif p_field = 4 then
        if p_item ~* E'^\\d+w$' then
            problem := pg_catalog.format('no month has a day %s', pg_catalog.left(p_item, -1));
            instead := sisyphus._near_value(4, pg_catalog.left(p_item, -1)) || 'W';
        elsif p_item ~* '^wl$' then
            instead := 'LW';
        elsif p_item ~* '^l-' then
            problem := 'days before the last one cannot be counted';
        elsif p_item ~* '-' then
            problem := 'W takes one day, not a range';
        end if;
    elsif p_item ~ '#' then
        if v_value is null or v_value > 7 then
            part := v_weekday;
            problem := pg_catalog.format('"%s" is no weekday', v_weekday);
            instead := sisyphus._near_value(6, v_weekday) || '#' || v_nth;
        elsif v_nth ~* '^l$' then
            problem := 'the last one of a weekday is written with L';
            instead := v_value || 'L';
        else
            part := '#' || v_nth;
            problem := 'a month has a first to a fifth of each weekday';
            instead := case v_nth when '0' then v_weekday || '#1' when '6' then v_weekday || '#5' end;
        end if;
    elsif p_item ~* '^[a-z]{3}l$' and v_value is not null then
        problem := 'L follows the number of a weekday';
        instead := v_value || 'L';
    elsif p_item ~* '^l$' then
        problem := 'L needs a weekday in front, 5L is the last Friday';
    elsif p_item ~* E'^\\d+l$' then
        problem := pg_catalog.format('there is no weekday %s', v_weekday);
    end if;
end
$$;
comment on function sisyphus._diagnose_special(int, text) is 'What is wrong with an item that has an L, W or #';

-- What is wrong with a value or range that may have a step.
create or replace function sisyphus._diagnose_range(
    p_field int, p_range text, p_step text, out code text, out part text, out problem text, out instead text)
language plpgsql immutable parallel safe
as $$
declare
    v_first text := pg_catalog.split_part(p_range, '-', 1);
    v_last text := case when pg_catalog.strpos(p_range, '-') > 0 then pg_catalog.split_part(p_range, '-', 2) else v_first end;
    v_near_first text := sisyphus._near_value(p_field, v_first);
    v_near_last text := sisyphus._near_value(p_field, v_last);
    v_ends text[] := ('{{0,59},{0,59},{0,23},{1,31},{1,12},{0,6}}'::text[])[p_field:p_field];
begin
    part := case when v_near_first is distinct from v_first then v_first else v_last end;
    if part ~ E'^\\d+$' and part is distinct from sisyphus._near_value(p_field, part) then
        code := 'SY103';
        problem := pg_catalog.format('%s is out of range', part);
    elsif part is distinct from sisyphus._near_value(p_field, part) then
        code := 'SY104';
        problem := case
            when sisyphus._field_value(5, part) is not null then pg_catalog.format('"%s" belongs in the month field', part)
            when sisyphus._field_value(6, part) is not null then pg_catalog.format('"%s" belongs in the day of week field', part)
            when p_field < 5 then pg_catalog.format('"%s" is no number', part)
            else pg_catalog.format('"%s" is no name of a %s', part, case p_field when 5 then 'month' else 'weekday' end)
        end;
    else
        code := 'SY105';
        part := p_range;
        problem := pg_catalog.format('the range %s ends before it begins', p_range);
    end if;
    if pg_catalog.strpos(p_range, '-') = 0 then
        instead := case when p_field = 3 and v_first = '24' or p_field < 3 and v_first = '60' then '0' else v_near_first end || p_step;
    elsif sisyphus._field_value(p_field, v_near_first) <= sisyphus._field_value(p_field, v_near_last) then
        instead := v_near_first || '-' || v_near_last || p_step;
    elsif p_step = '' and v_near_first = '7' then
        instead := '0-' || v_near_last;
    elsif p_step = '' then
        if v_near_first !~ E'\\d' then
            v_ends := case p_field when 5 then '{{JAN,DEC}}'::text[] else '{{SUN,SAT}}'::text[] end;
        end if;
        instead := v_near_first || case when pg_catalog.upper(v_near_first) = v_ends[1][2] then '' else '-' || v_ends[1][2] end
            || ',' || case when pg_catalog.upper(v_near_last) = v_ends[1][1] then '' else v_ends[1][1] || '-' end || v_near_last;
    end if;
end
$$;
comment on function sisyphus._diagnose_range(int, text, text) is 'What is wrong with a value or range of a cron field';

-- Why _compile_cron could not read an item: the code, the part at fault, the problem, and what to write instead.
create or replace function sisyphus._diagnose_item(
    p_field int, p_item text, out code text, out part text, out problem text, out instead text)
language plpgsql immutable parallel safe
as $$
declare
    v_range text := pg_catalog.split_part(p_item, '/', 1);
    v_step text := pg_catalog.substr(p_item, pg_catalog.length(v_range) + 1);
    v_odd text := pg_catalog.substring(p_item, '[^0-9A-Za-z*/#-]');
begin
    part := p_item;
    if p_item = '' then
        code := 'SY107';
        problem := 'an item of the list is empty';
    elsif p_item = '?' then
        code := 'SY102';
        problem := '"?" is not known, "*" says the same';
        instead := '*';
    elsif v_odd is not null then
        code := 'SY102';
        part := v_odd;
        problem := pg_catalog.format('"%s" is not allowed here', v_odd);
        instead := case when v_odd = ';' then pg_catalog.replace(pg_catalog.rtrim(p_item, ';'), ';', ',') end;
    elsif p_item ~* E'#|^(l|w|lw|wl|l-.*|[\\d-]+[lw]+|[a-z]{3}l)$' then
        select d.* into code, part, problem, instead from sisyphus._diagnose_special(p_field, p_item) d;
    elsif v_step <> '' and (v_step !~ E'^/\\d+$' or v_step ~ '^/0+$' or v_range = '') then
        code := 'SY106';
        part := case when v_range = '' then p_item else v_step end;
        problem := case
            when v_range = '' then 'a step needs something in front of it'
            when v_step ~ '^/0+$' then 'a step of 0 goes nowhere'
            else 'a step is one number' end;
        instead := case
            when v_range = '' and v_step ~ E'^/\\d*[1-9]\\d*$' then '*' || v_step
            when v_range <> '' and v_step ~ '^/0*$' then v_range end;
    elsif v_range ~ '^-|-$|-.*-' then
        code := 'SY105';
        part := v_range;
        problem := 'a range has one value on each side of one "-"';
        instead := sisyphus._near_value(p_field, pg_catalog.substring(v_range, E'^(\\w+)-$')) || v_step;
    elsif v_range ~ E'\\*' or v_range !~ E'^(\\d+|[A-Za-z]+)(-(\\d+|[A-Za-z]+))?$' then
        code := 'SY104';
        part := v_range;
        problem := pg_catalog.format('"%s" is no value', v_range);
    else
        select d.* into code, part, problem, instead from sisyphus._diagnose_range(p_field, v_range, v_step) d;
    end if;
end
$$;
comment on function sisyphus._diagnose_item(int, text) is 'What is wrong with an item of a cron field';

-- raises: SY102 to SY108, SY102 of _refuse_text before all. Returns bigint, so that it can stand where a mask was expected.
create or replace function sisyphus._refuse_field_item(p_schedule text, p_fields int, p_field int, p_item text, p_text text)
returns bigint language plpgsql immutable parallel safe
as $$
declare
    v_fault record;
    v_field_no int := p_field - 6 + p_fields;
    v_field_start int := pg_catalog.regexp_instr(p_schedule, E'[^ \\t]+', 1, v_field_no);
    v_items text[] := pg_catalog.string_to_array(p_text, ',');
    -- The first of its like: it was met first.
    v_number int := pg_catalog.array_position(v_items, p_item);
    v_before text := pg_catalog.array_to_string(v_items[:v_number - 1], ',') || case when v_number > 1 then ',' else '' end;
    v_instead text;
    v_hint text;
begin
    if p_schedule ~ E'[^ -~\\t]' then
        perform sisyphus._refuse_text(p_schedule);
    end if;
    select * into v_fault from sisyphus._diagnose_item(p_field, p_item) d;
    if v_fault.code = 'SY107' then
        v_instead := nullif(pg_catalog.array_to_string(pg_catalog.array_remove(v_items, ''), ','), '');
    elsif v_fault.instead is not null then
        v_instead := pg_catalog.overlay(p_text, v_fault.instead, pg_catalog.length(v_before) + 1, pg_catalog.length(p_item));
    end if;
    v_hint := pg_catalog.format('Did you mean "%s"?',
        pg_catalog.overlay(p_schedule, v_instead, v_field_start, pg_catalog.length(p_text)));
    if v_instead is null then
        v_hint := 'Write * for all values, a list (1,2), a range (1-5) or a step (*/2, 1-5/2, or 3/2 for 3 and every second one after it).';
    end if;
    if p_fields = 6 then
        v_hint := v_hint || ' With six fields the first is the second: second, minute, hour, day of month, month, day of week.';
    end if;
    raise exception using errcode = v_fault.code,
        message = pg_catalog.format('schedule "%s": %s field: %s',
            sisyphus._excerpt(p_schedule), sisyphus._field_name(p_field), v_fault.problem),
        detail = pg_catalog.format('Field %s of %s (%s) has "%s" at position %s; allowed are %s.', v_field_no, p_fields,
            sisyphus._field_name(p_field), v_fault.part,
            v_field_start + pg_catalog.length(v_before) + greatest(pg_catalog.strpos(p_item, v_fault.part) - 1, 0),
            sisyphus._field_allows(p_field)),
        hint = v_hint;
end
$$;
comment on function sisyphus._refuse_field_item(text, int, int, text, text)
    is 'Raises the error that says what is wrong with an item of a cron field';

revoke all on function
    sisyphus._excerpt(text), sisyphus._field_name(int), sisyphus._field_allows(int), sisyphus._near_value(int, text),
    sisyphus._diagnose_special(int, text), sisyphus._diagnose_range(int, text, text), sisyphus._diagnose_item(int, text),
    sisyphus._refuse_field_item(text, int, int, text, text)
from public;
