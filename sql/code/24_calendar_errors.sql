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
comment on function sisyphus._near_value(int, text) is 'The value of a cron field that is meant by a text, null when none is near';

-- What is wrong with an item that has an L, W or # where these have a meaning.
create or replace function sisyphus._diagnose_special(p_field int, p_item text, out code text, out part text, out problem text, out instead text)
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
    if p_field = 6 and p_item ~* '^(lw|wl|[\d-]+w+)$' or p_field = 4 and p_item ~* '#|^\dl$' or p_field not in (4, 6) then
        problem := pg_catalog.format('"%s" belongs in the %s field', p_item,
            sisyphus._field_name(case when p_item ~* '#|^[a-z\d]+l$' and p_item !~* '^w' then 6 else 4 end));
    elsif p_field = 4 then
        if p_item ~* '^\d+w$' then
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
    elsif p_item ~* '^\d+l$' then
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
    if part ~ '^\d+$' and part is distinct from sisyphus._near_value(p_field, part) then
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
    elsif p_step = '' then
        if v_near_first !~ '\d' then
            v_ends := case p_field when 5 then '{{JAN,DEC}}'::text[] else '{{SUN,SAT}}'::text[] end;
        end if;
        instead := v_near_first || case when pg_catalog.upper(v_near_first) = v_ends[1][2] then '' else '-' || v_ends[1][2] end
            || ',' || case when pg_catalog.upper(v_near_last) = v_ends[1][1] then '' else v_ends[1][1] || '-' end || v_near_last;
    end if;
end
$$;
comment on function sisyphus._diagnose_range(int, text, text) is 'What is wrong with a value or range of a cron field';

-- Why _parse_field could not read an item: the code, the part at fault, the problem, and what to write instead.
create or replace function sisyphus._diagnose_item(p_field int, p_item text, out code text, out part text, out problem text, out instead text)
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
        instead := case when v_odd = ';' then pg_catalog.replace(p_item, ';', ',') end;
    elsif p_item ~* '#|^(l|w|lw|wl|l-.*|[\d-]+[lw]+|[a-z]{3}l)$' then
        select d.* into code, part, problem, instead from sisyphus._diagnose_special(p_field, p_item) d;
    elsif v_step <> '' and (v_step !~ '^/\d+$' or v_step ~ '^/0+$' or v_range = '') then
        code := 'SY106';
        part := case when v_range = '' then p_item else v_step end;
        problem := case
            when v_range = '' then 'a step needs something in front of it'
            when v_step ~ '^/0+$' then 'a step of 0 goes nowhere'
            else 'a step is one number' end;
        instead := case when v_range = '' and v_step ~ '^/\d*[1-9]\d*$' then '*' || v_step when v_range <> '' and v_step ~ '^/0*$' then v_range end;
    elsif v_range ~ '^-|-$|-.*-' then
        code := 'SY105';
        part := v_range;
        problem := 'a range has one value on each side of one "-"';
        instead := sisyphus._near_value(p_field, pg_catalog.substring(v_range, '^(\w+)-$')) || v_step;
    elsif v_range ~ '\*' or v_range !~ '^(\d+|[A-Za-z]+)(-(\d+|[A-Za-z]+))?$' then
        code := 'SY104';
        part := v_range;
        problem := pg_catalog.format('"%s" is no value', v_range);
    else
        select d.* into code, part, problem, instead from sisyphus._diagnose_range(p_field, v_range, v_step) d;
    end if;
end
$$;
comment on function sisyphus._diagnose_item(int, text) is 'What is wrong with an item of a cron field';

-- raises: SY102 to SY108
create or replace function sisyphus._refuse_item(p_schedule text, p_fields int, p_field int, p_number int, p_items text[])
returns void language plpgsql immutable parallel safe
as $$
declare
    v_fault record;
    v_field_no int := p_field - 6 + p_fields;
    v_field_start int := pg_catalog.regexp_instr(p_schedule, '[^ \t]+', 1, v_field_no);
    v_field text := pg_catalog.array_to_string(p_items, ',');
    v_before text := pg_catalog.array_to_string(p_items[:p_number - 1], ',') || case when p_number > 1 then ',' else '' end;
    v_instead text;
    v_hint text;
begin
    select * into v_fault from sisyphus._diagnose_item(p_field, p_items[p_number]) d;
    if v_fault.code = 'SY107' then
        v_instead := nullif(pg_catalog.array_to_string(pg_catalog.array_remove(p_items, ''), ','), '');
    elsif v_fault.instead is not null then
        v_instead := pg_catalog.overlay(v_field, v_fault.instead, pg_catalog.length(v_before) + 1, pg_catalog.length(p_items[p_number]));
    end if;
    v_hint := pg_catalog.format('Did you mean "%s"?',
        pg_catalog.overlay(p_schedule, v_instead, v_field_start, pg_catalog.length(v_field)));
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
            v_field_start + pg_catalog.length(v_before) + greatest(pg_catalog.strpos(p_items[p_number], v_fault.part) - 1, 0),
            sisyphus._field_allows(p_field)),
        hint = v_hint;
end
$$;
comment on function sisyphus._refuse_item(text, int, int, int, text[]) is 'Raises the error that says what is wrong with an item of a cron field';

-- raises: SY101, or SY100 for what is no cron expression at all
create or replace function sisyphus._refuse_count(p_schedule text, p_fields text[])
returns void language plpgsql immutable parallel safe
as $$
declare
    v_count int := pg_catalog.cardinality(p_fields);
    v_text text := pg_catalog.btrim(pg_catalog.lower(p_schedule collate "C"), E' \t');
    v_joined text := pg_catalog.regexp_replace(pg_catalog.btrim(p_schedule, E' \t'), '\s*([,-]|/(?=\s*\d))\s*', '\1', 'g');
    v_clock text[] := pg_catalog.regexp_match(v_text, '^([01]?\d|2[0-3]):([0-5]\d)$');
    v_hint text := 'A cron expression has five fields (minute, hour, day of month, month, day of week) or six (second in front).';
begin
    if v_clock is not null then
        v_hint := pg_catalog.format('For every day at that time write "%s %s * * *".', v_clock[2]::int, v_clock[1]::int);
    elsif sisyphus._macro_schedule('@' || v_text) is not null then
        v_hint := pg_catalog.format('Did you mean "@%s"?', v_text);
    elsif v_text ~ '^(\d+\s*[a-z]+\s*)+$' then
        v_hint := pg_catalog.format('Did you mean "every %s"?', v_text);
    elsif v_text ~ '^\d{4}-\d\d-\d\d' then
        v_hint := pg_catalog.format('Did you mean "at %s"?', pg_catalog.btrim(p_schedule));
    elsif pg_catalog.cardinality(pg_catalog.regexp_split_to_array(v_joined, '[ \t]+')) in (5, 6) and pg_catalog.lower(v_joined collate "C") <> v_text then
        v_hint := pg_catalog.format('Lists, ranges and steps hold no blanks: "%s".', v_joined);
    elsif v_count = 7 and v_text ~ '[ \t](\*|\d{4}\S*)$' then
        v_hint := v_hint || ' There is no seventh field for years; use starts_at and ends_at.';
    elsif v_count > 6 then
        v_hint := v_hint || ' The command is not part of the schedule.';
    end if;
    if v_count = 0 or v_text !~ '[0-9*]' then
        raise exception using errcode = 'SY100',
            message = case when v_count = 0 then 'schedule is empty'
                else pg_catalog.format('schedule "%s" is not understood', sisyphus._excerpt(p_schedule)) end,
            detail = 'A schedule is a cron expression ("0 7 * * MON-FRI"), a macro ("@daily"), an interval ("every 90 seconds") or a moment ("at 2027-01-31 18:00").',
            hint = v_hint;
    end if;
    raise exception using errcode = 'SY101',
        message = pg_catalog.format('schedule "%s" has %s field%s', sisyphus._excerpt(p_schedule), v_count, case when v_count > 1 then 's' else '' end),
        detail = pg_catalog.format('Found %s field%s; allowed are 5, or 6 with seconds.', v_count, case when v_count > 1 then 's' else '' end),
        hint = v_hint;
end
$$;
comment on function sisyphus._refuse_count(text, text[]) is 'Raises SY101 for another number of fields, SY100 for what is no schedule at all';

-- raises: SY102 for characters that no schedule has, SY100 for a text that is too long
create or replace function sisyphus._refuse_text(p_schedule text)
returns void language plpgsql immutable parallel safe
as $$
declare
    -- dashes, stars, slashes, blanks and commas that word processors and web pages put in place of ASCII
    v_plain text := pg_catalog.btrim(pg_catalog.regexp_replace(pg_catalog.translate(p_schedule,
        U&'\2010\2011\2012\2013\2014\2212\2217\FF0A\2044\2215\FF0F\00A0\2009\202F\3000\FF0C\201A', '------**///    ,,'), '[\r\n\t]+', ' ', 'g'));
    v_position int := pg_catalog.regexp_instr(p_schedule, '[^ -~\t]');
begin
    if v_position = 0 then
        raise exception using errcode = 'SY100',
            message = pg_catalog.format('schedule "%s" is too long', sisyphus._excerpt(p_schedule)),
            detail = pg_catalog.format('It has %s characters; allowed are 1000.', pg_catalog.length(p_schedule)),
            hint = 'Write ranges and steps in place of long lists, or use several jobs.';
    end if;
    raise exception using errcode = 'SY102',
        message = pg_catalog.format('schedule "%s" has a character that is not plain ASCII', sisyphus._excerpt(p_schedule)),
        detail = pg_catalog.format('Found U+%s at position %s; allowed are printable ASCII characters, blanks and tabs.',
            pg_catalog.lpad(pg_catalog.upper(pg_catalog.to_hex(pg_catalog.ascii(pg_catalog.substr(p_schedule, v_position, 1)))), 4, '0'), v_position),
        hint = case when v_plain <> '' and v_plain !~ '[^ -~]' then pg_catalog.format('Did you mean "%s"?', v_plain)
            else 'Type it anew: dashes, stars and blanks copied from a document often are other characters.' end;
end
$$;
comment on function sisyphus._refuse_text(text) is 'Raises SY102 for characters that no schedule has, SY100 for a text that is too long';

-- raises: SY109. Returns text, so that it can stand where the expression was expected.
create or replace function sisyphus._refuse_macro(p_schedule text, p_macro text)
returns text language plpgsql immutable parallel safe
as $$
declare
    v_instead text := case
        when p_macro ~ '^@every[ \t]' then pg_catalog.substr(p_macro, 2)
        when p_macro ~ '^@at[ \t]' then pg_catalog.upper(pg_catalog.substr(p_macro, 2))
        when p_macro in ('@minutely', '@minute', '@every_minute') then '* * * * *'
        when p_macro in ('@secondly', '@second', '@every_second') then '* * * * * *'
        when p_macro in ('@quarterly', '@quarter') then '0 0 1 */3 *'
        when p_macro in ('@weekdays', '@weekday', '@workdays') then '0 0 * * MON-FRI'
        when p_macro in ('@weekends', '@weekend') then '0 0 * * SAT,SUN'
        when p_macro = '@noon' then '0 12 * * *'
        when p_macro in ('@day', '@dayly', '@dailly') then '@daily'
        else (select m from pg_catalog.unnest('{@hourly,@daily,@midnight,@weekly,@monthly,@yearly,@annually}'::text[]) m
               where pg_catalog.length(p_macro) > 3 and (pg_catalog.starts_with(m, p_macro) or pg_catalog.starts_with(p_macro, m)) limit 1)
    end;
begin
    raise exception using errcode = 'SY109',
        message = pg_catalog.format('schedule "%s": there is no macro of that name', sisyphus._excerpt(p_schedule)),
        detail = pg_catalog.format('Found "%s" at position %s; allowed are @hourly, @daily, @midnight, @weekly, @monthly, @yearly and @annually.',
            sisyphus._excerpt(p_macro), pg_catalog.strpos(p_schedule, '@')),
        hint = case
            when p_macro = '@reboot' then 'A schedule does not know when a host boots; let a unit of the host call sisyphus.run_now().'
            else coalesce(pg_catalog.format('Did you mean "%s"?', v_instead), 'Write a cron expression such as "0 7 * * *".') end;
end
$$;
comment on function sisyphus._refuse_macro(text, text) is 'Raises SY109: there is no such macro';

-- raises: SY110
create or replace function sisyphus._refuse_every(p_schedule text, p_interval text)
returns void language plpgsql immutable parallel safe
as $$
declare
    v_months int := pg_catalog.substring(p_interval, '^(\d{1,3})\s*mon(?:th)?s?$')::int;
    v_weekday text := pg_catalog.substring(p_interval, '^(sun|mon|tue|wed|thu|fri|sat)');
    v_hint text := 'Write numbers with seconds, minutes, hours, days or weeks: "every 90 seconds", "every 1 hour 30 minutes", "every 2 weeks".';
begin
    if p_interval ~ 'mon(th)?s?\M|year|quarter|\dy|p\d+[my]' then
        v_months := coalesce(v_months, case when p_interval ~ 'year' then 12 when p_interval ~ 'quarter' then 3 when p_interval ~ '^\s*(1\s*)?mon' then 1 end);
        v_hint := pg_catalog.format('Months and years have no fixed length; use a cron expression: "%s".', case
            when v_months = 12 then '0 0 1 1 *' when 12 % nullif(v_months, 0) = 0 and v_months > 1 then pg_catalog.format('0 0 1 */%s *', v_months)
            else '0 0 1 * *' end);
    elsif p_interval ~ '^\d+$' then
        v_hint := pg_catalog.format('A number needs a unit: "every %s minutes".', pg_catalog.left(p_interval, 9));
    elsif v_weekday is not null then
        v_hint := pg_catalog.format('For a weekday use a cron expression: "0 0 * * %s".', pg_catalog.upper(v_weekday collate "C"));
    elsif p_interval ~ '\mat\M' then
        v_hint := 'For a time of the day use a cron expression: "0 7 * * *".';
    end if;
    raise exception using errcode = 'SY110',
        message = pg_catalog.format('schedule "%s": not an interval that "every" takes', sisyphus._excerpt(p_schedule)),
        detail = pg_catalog.format('Found "%s" at position %s; allowed are whole seconds, from 1 second to 36525 days.',
            sisyphus._excerpt(p_interval), pg_catalog.regexp_instr(p_schedule, '^[ \t]*every[ \t]*', 1, 1, 1, 'i')),
        hint = v_hint;
end
$$;
comment on function sisyphus._refuse_every(text, text) is 'Raises SY110: not an interval that every takes';

-- raises: SY111. p_timezone: null, or the zone whose clocks never show that time.
create or replace function sisyphus._refuse_at(p_schedule text, p_timestamp text, p_timezone text)
returns void language plpgsql immutable parallel safe
as $$
declare
    v_clock text[] := pg_catalog.regexp_match(p_timestamp, '^([01]?\d|2[0-3]):([0-5]\d)$');
begin
    raise exception using errcode = 'SY111',
        message = case
            when p_timezone is not null then pg_catalog.format('schedule "%s": the clocks of %s skip that time', sisyphus._excerpt(p_schedule), p_timezone)
            else pg_catalog.format('schedule "%s": not a timestamp', sisyphus._excerpt(p_schedule)) end,
        detail = pg_catalog.format('Found "%s" at position %s; allowed is ISO 8601 to the second, with Z or an offset, or else in the time zone of the job.',
            sisyphus._excerpt(p_timestamp), pg_catalog.regexp_instr(p_schedule, '^[ \t]*at[ \t]*', 1, 1, 1, 'i')),
        hint = case
            when p_timezone is not null then 'Give the offset from UTC, or another time.'
            when v_clock is not null then pg_catalog.format('For every day at that time write "%s %s * * *".', v_clock[2]::int, v_clock[1]::int)
            when p_timestamp ~ '^\d{4}-\d\d-\d\d' then 'Look at the numbers: does that date, time or offset exist?'
            else 'Write "at 2027-01-31 18:00", "at 2027-01-31T18:00:00Z" or "at 2027-01-31 18:00+01:00".' end;
end
$$;
comment on function sisyphus._refuse_at(text, text, text) is 'Raises SY111: not a timestamp, or one that the clocks of the zone skip';

-- raises: SY112
create or replace function sisyphus._refuse_never(p_schedule text)
returns void language plpgsql immutable parallel safe
as $$
begin
    raise exception using errcode = 'SY112',
        message = pg_catalog.format('schedule "%s" can never fire', sisyphus._excerpt(p_schedule)),
        detail = 'No date from here to eternity matches its day and month fields.',
        hint = 'Look at the day of month: February has at most 29 days, April, June, September and November have 30; L is the last day of any month.';
end
$$;
comment on function sisyphus._refuse_never(text) is 'Raises SY112: a schedule that can never fire';

-- Reads all names of zones, a third of a second; errors may.
-- raises: 22023
create or replace function sisyphus._refuse_timezone(p_timezone text)
returns void language plpgsql stable parallel safe
as $$
declare
    v_wanted text := pg_catalog.replace(pg_catalog.lower(p_timezone collate "C"), ' ', '_');
    v_near text := case pg_catalog.upper(p_timezone collate "C")
        when 'CET' then 'Europe/Brussels' when 'CEST' then 'Europe/Brussels' when 'MET' then 'Europe/Brussels'
        when 'EET' then 'Europe/Athens' when 'EEST' then 'Europe/Athens' when 'WET' then 'Europe/Lisbon'
        when 'BST' then 'Europe/London' when 'EST' then 'America/New_York' when 'EDT' then 'America/New_York'
        when 'CST' then 'America/Chicago' when 'CDT' then 'America/Chicago' when 'MST' then 'America/Denver'
        when 'MDT' then 'America/Denver' when 'PST' then 'America/Los_Angeles' when 'PDT' then 'America/Los_Angeles'
        when 'HST' then 'Pacific/Honolulu' when 'IST' then 'Asia/Kolkata' when 'JST' then 'Asia/Tokyo' end;
    v_hours int := -(pg_catalog.regexp_match(p_timezone, '^(?:UTC|GMT)?([+-]\d{1,2})(?::?00)?$', 'i'))[1]::int;
begin
    if v_hours between -14 and 12 then
        -- POSIX counts to the west, and so do the names in Etc
        v_near := 'Etc/GMT' || case when v_hours = 0 then '' else pg_catalog.to_char(v_hours, 'FMSG99') end;
    end if;
    if v_near is null then
        select z.name into v_near
          from pg_catalog.pg_timezone_names z,
               pg_catalog.lower(z.name collate "C") low(name),
               pg_catalog.split_part(low.name, '/', -1) city(name)
         where z.name ~ '^[A-Z]' and z.name !~ '^Etc/|[0-9]' and sisyphus._likeness(low.name, v_wanted) > 0.3
         order by low.name = v_wanted desc, city.name = pg_catalog.split_part(v_wanted, '/', -1) desc,
               pg_catalog.right(low.name, pg_catalog.length(v_wanted) + 1) = '/' || v_wanted desc,
               sisyphus._likeness(low.name, v_wanted) desc, z.name
         limit 1;
    end if;
    raise exception using errcode = '22023',
        message = pg_catalog.format('"%s" is not the name of a time zone', sisyphus._excerpt(p_timezone)),
        detail = 'Time zones are names of the IANA database, such as Europe/Amsterdam or UTC; abbreviations and offsets know no clock changes.',
        hint = coalesce(pg_catalog.format('Did you mean "%s"?', v_near), 'Write a name such as "Europe/Amsterdam".')
            || ' The view pg_timezone_names lists all.';
end
$$;
comment on function sisyphus._refuse_timezone(text) is 'Raises 22023 for what is not the name of a time zone, with the nearest name as hint';

create or replace function sisyphus._likeness(p_one text, p_other text)
returns float8 language sql immutable parallel safe
as $$
    select 2.0 * pg_catalog.count(*) filter (where exists (
               select from pg_catalog.generate_series(1, pg_catalog.length(p_other) - 1) j
                where pg_catalog.substr(p_other, j, 2) = pg_catalog.substr(p_one, i, 2)))
           / nullif(pg_catalog.length(p_one) + pg_catalog.length(p_other), 0)
      from pg_catalog.generate_series(1, pg_catalog.length(p_one) - 1) i
$$;
comment on function sisyphus._likeness(text, text) is 'Share of the pairs of letters that two texts have in common, 0 to about 1';

revoke all on function
    sisyphus._excerpt(text), sisyphus._field_name(int), sisyphus._field_allows(int), sisyphus._near_value(int, text),
    sisyphus._diagnose_special(int, text), sisyphus._diagnose_range(int, text, text), sisyphus._diagnose_item(int, text),
    sisyphus._refuse_item(text, int, int, int, text[]), sisyphus._refuse_count(text, text[]), sisyphus._refuse_text(text),
    sisyphus._refuse_macro(text, text), sisyphus._refuse_every(text, text), sisyphus._refuse_at(text, text, text),
    sisyphus._refuse_never(text), sisyphus._refuse_timezone(text), sisyphus._likeness(text, text)
from public;
