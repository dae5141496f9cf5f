-- What a schedule is told that is refused as a whole, and a time zone that is none. Every function ends in an error.

-- raises: SY101, or SY100 for what is no cron expression at all
create or replace function sisyphus._refuse_count(p_schedule text, p_fields text[])
returns void language plpgsql immutable parallel safe
as $$
declare
    v_count int := pg_catalog.cardinality(p_fields);
    v_found text := v_count || case when v_count = 1 then ' field' else ' fields' end;
    v_text text := pg_catalog.btrim(pg_catalog.lower(p_schedule collate "C"), E' \t');
    v_joined text := pg_catalog.regexp_replace(pg_catalog.btrim(p_schedule, E' \t'), E'\\s*(,|[/-](?=\\s*\\d))\\s*', E'\\1', 'g');
    v_clock text[] := pg_catalog.regexp_match(v_text, E'^([01]?\\d|2[0-3]):([0-5]\\d)$');
    v_hint text := 'A cron expression has five fields (minute, hour, day of month, month, day of week) or six (second in front).';
begin
    if p_schedule ~ E'[^ -~\\t]' then
        perform sisyphus._refuse_text(p_schedule);
    elsif v_clock is not null then
        v_hint := pg_catalog.format('For every day at that time write "%s %s * * *".', v_clock[2]::int, v_clock[1]::int);
    elsif sisyphus._macro_schedule('@' || v_text) is not null then
        v_hint := pg_catalog.format('Did you mean "@%s"?', v_text);
    elsif v_text ~ E'^(\\d+\\s*[a-z]+\\s*)+$' then
        v_hint := pg_catalog.format('Did you mean "every %s"?', v_text);
    elsif v_text ~ E'^\\d{4}-\\d\\d-\\d\\d' then
        v_hint := pg_catalog.format('Did you mean "at %s"?', pg_catalog.btrim(p_schedule));
    elsif pg_catalog.lower(v_joined collate "C") <> v_text
        and pg_catalog.cardinality(pg_catalog.regexp_split_to_array(v_joined, E'[ \\t]+')) in (5, 6)
    then
        v_hint := pg_catalog.format('Lists, ranges and steps hold no blanks: "%s".', v_joined);
    elsif v_count = 7 and v_text ~ E'[ \\t](\\*|\\d{4}\\S*)$' then
        v_hint := v_hint || ' There is no seventh field for years; use starts_at and ends_at.';
    elsif v_count > 6 then
        v_hint := v_hint || ' The command is not part of the schedule.';
    end if;
    if v_count = 0 or v_text !~ '[0-9*]' then
        raise exception using errcode = 'SY100',
            message = case when v_count = 0 then 'schedule is empty'
                else pg_catalog.format('schedule "%s" is not understood', sisyphus._excerpt(p_schedule)) end,
            detail = 'A schedule is a cron expression ("0 7 * * MON-FRI"), a macro ("@daily"), an interval ("every 90 seconds") '
                'or a moment ("at 2027-01-31 18:00").',
            hint = v_hint;
    end if;
    raise exception using errcode = 'SY101',
        message = pg_catalog.format('schedule "%s" has %s', sisyphus._excerpt(p_schedule), v_found),
        detail = pg_catalog.format('Found %s; allowed are 5, or 6 with seconds.', v_found),
        hint = v_hint;
end
$$;
comment on function sisyphus._refuse_count(text, text[])
    is 'Raises SY101 for another number of fields, SY100 for what is no schedule at all';

-- raises: SY102 for characters that no schedule has, SY100 for a text that is too long
create or replace function sisyphus._refuse_text(p_schedule text)
returns void language plpgsql immutable parallel safe
as $$
declare
    -- Six dashes, two stars, three slashes, four blanks and two commas that documents and web pages put in place of
    -- ASCII. In bytes: a database in another encoding than UTF-8 could not load them.
    c_typographic constant text := 'e28090e28091e28092e28093e28094e28892e28897efbc8ae28184e28895efbc8fc2a0e28089e280afe38080efbc8ce2809a';
    v_plain text := p_schedule;
    v_position int := pg_catalog.regexp_instr(p_schedule, E'[^ -~\\t]');
begin
    if pg_catalog.getdatabaseencoding() = 'UTF8' then
        v_plain := pg_catalog.translate(v_plain, pg_catalog.convert_from(pg_catalog.decode(c_typographic, 'hex'), 'UTF8'), '------**///    ,,');
    end if;
    v_plain := pg_catalog.btrim(pg_catalog.regexp_replace(v_plain, E'[\\r\\n\\t]+', ' ', 'g'));
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
comment on function sisyphus._refuse_text(text)
    is 'Raises SY102 for characters that no schedule has, SY100 for a text that is too long';

-- raises: SY109. Returns text, so that it can stand where the expression was expected.
create or replace function sisyphus._refuse_macro(p_schedule text, p_macro text)
returns text language plpgsql immutable parallel safe
as $$
declare
    v_instead text := case
        when p_macro ~ E'^@every[ \\t]' then pg_catalog.substr(p_macro, 2)
        when p_macro ~ E'^@at[ \\t]' then pg_catalog.substr(p_macro, 2)
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
        detail = pg_catalog.format('Found "%s" at position %s; allowed are @hourly, @daily, @midnight, @weekly, @monthly, @yearly '
            'and @annually.', sisyphus._excerpt(p_macro), pg_catalog.strpos(p_schedule, '@')),
        hint = case
            when p_macro = '@reboot' then 'A schedule does not know when a host boots; let a unit of the host call sisyphus.run_now().'
            else coalesce('Did you mean "' || v_instead || '"?', 'Write a cron expression such as "0 7 * * *".') end;
end
$$;
comment on function sisyphus._refuse_macro(text, text) is 'Raises SY109: there is no such macro';

-- raises: SY110
create or replace function sisyphus._refuse_every(p_schedule text, p_interval text)
returns void language plpgsql immutable parallel safe
as $$
declare
    v_months int := case
        when p_interval ~ 'year' then 12
        when p_interval ~ 'quarter' then 3
        else pg_catalog.substring(p_interval, E'^(\\d{1,3})\\s*mon(?:th)?s?$')::int end;
    v_weekday text := pg_catalog.substring(p_interval, '^(sun|mon|tue|wed|thu|fri|sat)');
    v_hint text := 'Write numbers with seconds, minutes, hours, days or weeks: "every 90 seconds", "every 1 hour 30 minutes", "every 2 weeks".';
begin
    if p_interval ~ E'mon(th)?s?\\M|year|quarter|\\dy|p\\d+[my]' then
        v_hint := pg_catalog.format('Months and years have no fixed length; use a cron expression: "%s".', case
            when v_months = 12 then '0 0 1 1 *'
            when v_months in (2, 3, 4, 6) then pg_catalog.format('0 0 1 */%s *', v_months)
            else '0 0 1 * *' end);
    elsif p_interval ~ E'^\\d+$' then
        v_hint := pg_catalog.format('A number needs a unit: "every %s minutes".', pg_catalog.left(p_interval, 9));
    elsif v_weekday is not null then
        v_hint := pg_catalog.format('For a weekday use a cron expression: "0 0 * * %s".', pg_catalog.upper(v_weekday collate "C"));
    elsif p_interval ~ E'\\mat\\M' then
        v_hint := 'For a time of the day use a cron expression: "0 7 * * *".';
    end if;
    raise exception using errcode = 'SY110',
        message = pg_catalog.format('schedule "%s": not an interval that "every" takes', sisyphus._excerpt(p_schedule)),
        detail = pg_catalog.format('Found "%s" at position %s; allowed are whole seconds, from 1 second to 36525 days.',
            sisyphus._excerpt(p_interval), pg_catalog.regexp_instr(p_schedule, E'^[ \\t]*every[ \\t]*', 1, 1, 1, 'i')),
        hint = v_hint;
end
$$;
comment on function sisyphus._refuse_every(text, text) is 'Raises SY110: not an interval that every takes';

-- raises: SY111. p_timezone: null, or the zone whose clocks never show that time.
create or replace function sisyphus._refuse_at(p_schedule text, p_timestamp text, p_timezone text)
returns void language plpgsql immutable parallel safe
as $$
declare
    v_clock text[] := pg_catalog.regexp_match(p_timestamp, E'^([01]?\\d|2[0-3]):([0-5]\\d)$');
begin
    raise exception using errcode = 'SY111',
        message = case
            when p_timezone is not null
                then pg_catalog.format('schedule "%s": the clocks of %s skip that time', sisyphus._excerpt(p_schedule), p_timezone)
            else pg_catalog.format('schedule "%s": not a timestamp', sisyphus._excerpt(p_schedule)) end,
        detail = pg_catalog.format('Found "%s" at position %s; allowed is ISO 8601 to the second, with Z or an offset, '
            'or else in the time zone of the job.', sisyphus._excerpt(p_timestamp), pg_catalog.regexp_instr(p_schedule, E'^[ \\t]*at[ \\t]*', 1, 1, 1, 'i')),
        hint = case
            when p_timezone is not null then 'Give the offset from UTC, or another time.'
            when v_clock is not null then pg_catalog.format('For every day at that time write "%s %s * * *".', v_clock[2]::int, v_clock[1]::int)
            when p_timestamp ~ E'^\\d{4}-\\d\\d-\\d\\d' then 'Look at the numbers: does that date, time or offset exist?'
            else 'Write "at 2027-01-31 18:00", "at 2027-01-31T18:00:00Z" or "at 2027-01-31 18:00+01:00".' end;
end
$$;
comment on function sisyphus._refuse_at(text, text, text)
    is 'Raises SY111: not a timestamp, or one that the clocks of the zone skip';

-- raises: SY112
create or replace function sisyphus._refuse_never(p_schedule text)
returns void language plpgsql immutable parallel safe
as $$
begin
    raise exception using errcode = 'SY112',
        message = pg_catalog.format('schedule "%s" can never fire', sisyphus._excerpt(p_schedule)),
        detail = 'No date from here to eternity matches its day and month fields.',
        hint = 'Look at the day of month: February has at most 29 days, April, June, September and November have 30; '
            'L is the last day of any month.';
end
$$;
comment on function sisyphus._refuse_never(text) is 'Raises SY112: a schedule that can never fire';

-- Reads all names of zones, a third of a second; errors may.
-- raises: 22023
create or replace function sisyphus._refuse_timezone(p_timezone text)
returns text language plpgsql stable parallel safe
as $$
declare
    -- No zone has a longer name, and likeness takes the square of the length.
    v_wanted text := pg_catalog.replace(pg_catalog.lower(pg_catalog.left(p_timezone, 64) collate "C"), ' ', '_');
    v_near text := case pg_catalog.upper(p_timezone collate "C")
        when 'CET' then 'Europe/Brussels' when 'CEST' then 'Europe/Brussels' when 'MET' then 'Europe/Brussels'
        when 'EET' then 'Europe/Athens' when 'EEST' then 'Europe/Athens' when 'WET' then 'Europe/Lisbon'
        when 'BST' then 'Europe/London' when 'EST' then 'America/New_York' when 'EDT' then 'America/New_York'
        when 'CST' then 'America/Chicago' when 'CDT' then 'America/Chicago' when 'MST' then 'America/Denver'
        when 'MDT' then 'America/Denver' when 'PST' then 'America/Los_Angeles' when 'PDT' then 'America/Los_Angeles'
        when 'HST' then 'Pacific/Honolulu' when 'IST' then 'Asia/Kolkata' when 'JST' then 'Asia/Tokyo' end;
    v_hours int := -(pg_catalog.regexp_match(p_timezone, E'^(?:UTC|GMT)?([+-]\\d{1,2})(?::?00)?$', 'i'))[1]::int;
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
        hint = coalesce('Did you mean "' || v_near || '"?', 'Write a name such as "Europe/Amsterdam".')
            || ' The view pg_timezone_names lists all.';
end
$$;
comment on function sisyphus._refuse_timezone(text)
    is 'Raises 22023 for what is not the name of a time zone, with the nearest name as hint';

create or replace function sisyphus._likeness(p_one text, p_other text)
returns float8 language sql immutable parallel safe
as $$
    select 2.0 * pg_catalog.count(*) filter (where exists (
               select from pg_catalog.generate_series(1, pg_catalog.length(p_other) - 1) j
                where pg_catalog.substr(p_other, j, 2) = pg_catalog.substr(p_one, i, 2)))
           / nullif(pg_catalog.length(p_one) + pg_catalog.length(p_other), 0)
      from pg_catalog.generate_series(1, pg_catalog.length(p_one) - 1) i
$$;
comment on function sisyphus._likeness(text, text)
    is 'Share of the pairs of letters that two texts have in common, 0 to about 1';

revoke all on function
    sisyphus._refuse_count(text, text[]), sisyphus._refuse_text(text), sisyphus._refuse_macro(text, text),
    sisyphus._refuse_every(text, text), sisyphus._refuse_at(text, text, text), sisyphus._refuse_never(text),
    sisyphus._refuse_timezone(text), sisyphus._likeness(text, text)
from public;
