-- Schedules as sentences. They are told from the compiled integers, so `1-5`, `MON-FRI` and `1,2,3,4,5` read the same.

-- 'a, b and c'
create or replace function sisyphus._and_list(p_words text[])
returns text language sql immutable parallel safe
as $$
    select case when pg_catalog.cardinality(p_words) < 2 then p_words[1]
        else pg_catalog.array_to_string(p_words[:pg_catalog.cardinality(p_words) - 1], ', ') || ' and '
            || p_words[pg_catalog.cardinality(p_words)] end
$$;
comment on function sisyphus._and_list(text[]) is 'Words as an enumeration: a, b and c';

create or replace function sisyphus._mask_values(p_mask bigint)
returns int[] language sql immutable parallel safe
as $$
    select coalesce(pg_catalog.array_agg(v order by v), '{}') from pg_catalog.generate_series(0, 63) v where (p_mask << v) < 0
$$;
comment on function sisyphus._mask_values(bigint) is 'The values that a mask of a compiled schedule holds';

create or replace function sisyphus._range_mask(p_first int, p_last int)
returns bigint language sql immutable parallel safe
as $$ select ((1::bigint << (p_last - p_first + 1)) - 1) << (63 - p_last) $$;
comment on function sisyphus._range_mask(int, int) is 'The mask of the values from p_first to p_last';

-- Runs of three and more values become 'first to last'.
create or replace function sisyphus._describe_values(p_values int[], p_names text[])
returns text language sql immutable parallel safe
as $$
    select sisyphus._and_list(pg_catalog.array_agg(w.word order by w.first, w.word_no))
      from (select r.first, n.word_no,
                   case when r.size > 2 then p_names[r.first + 1] || ' to ' || p_names[r.last + 1]
                        else p_names[case n.word_no when 1 then r.first else r.last end + 1] end as word
              from (select pg_catalog.min(g.v) as first, pg_catalog.max(g.v) as last, pg_catalog.count(*) as size
                      from (select u.v, u.v - pg_catalog.row_number() over (order by u.v) as run from pg_catalog.unnest(p_values) u(v)) g
                     group by g.run) r,
                   pg_catalog.generate_series(1, case when r.size = 2 then 2 else 1 end) n(word_no)) w
$$;
comment on function sisyphus._describe_values(int[], text[]) is 'Values by their names, runs as first to last';

create or replace function sisyphus._ordinal(p_number int)
returns text language sql immutable parallel safe
as $$
    select p_number || case when p_number % 100 between 11 and 13 then 'th'
        when p_number % 10 = 1 then 'st' when p_number % 10 = 2 then 'nd' when p_number % 10 = 3 then 'rd' else 'th' end
$$;
comment on function sisyphus._ordinal(int) is '1st, 2nd, 3rd';

-- The distance between the values when they are evenly spaced, else null.
create or replace function sisyphus._even_step(p_values int[])
returns int language sql immutable parallel safe
as $$
    select case when pg_catalog.count(distinct d.gap) = 1 then pg_catalog.min(d.gap) end
      from (select u.v - pg_catalog.lag(u.v) over (order by u.v) as gap from pg_catalog.unnest(p_values) u(v)) d
     where d.gap is not null
$$;
comment on function sisyphus._even_step(int[]) is 'Distance of evenly spaced values, null when they are not';

-- 'every minute', 'every 5 minutes', 'at minute 7', 'at minutes 3 and 7'
create or replace function sisyphus._describe_unit(p_values int[], p_unit text)
returns text language sql immutable parallel safe
as $$
    select case
        when pg_catalog.cardinality(p_values) = 60 then 'every ' || p_unit
        when p_values[1] = 0 and pg_catalog.cardinality(p_values) * sisyphus._even_step(p_values) = 60
            then pg_catalog.format('every %s %ss', sisyphus._even_step(p_values), p_unit)
        else pg_catalog.format('at %s%s %s', p_unit, case when pg_catalog.cardinality(p_values) > 1 then 's' else '' end,
            sisyphus._describe_values(p_values, (select pg_catalog.array_agg(v::text order by v) from pg_catalog.generate_series(0, 59) v)))
    end
$$;
comment on function sisyphus._describe_unit(int[], text) is 'Seconds of a minute or minutes of an hour in words';

-- '07:00', '07:00:30'
create or replace function sisyphus._describe_time(p_second int, p_with_seconds boolean)
returns text language sql immutable parallel safe
as $$
    select pg_catalog.lpad((p_second / 3600)::text, 2, '0') || ':' || pg_catalog.lpad((p_second / 60 % 60)::text, 2, '0')
        || case when p_with_seconds then ':' || pg_catalog.lpad((p_second % 60)::text, 2, '0') else '' end
$$;
comment on function sisyphus._describe_time(int, boolean) is 'A second of the day as a time of the day';

-- First and last hour when the hours stand in a row, also over midnight (22,23,0,1); else null.
create or replace function sisyphus._hours_in_a_row(p_hours int[])
returns int[] language sql immutable parallel safe
as $$
    select case when pg_catalog.count(*) = 1
        then array[pg_catalog.min(e.first), (pg_catalog.min(e.first) + pg_catalog.cardinality(p_hours) - 1) % 24] end
      from (select h as first from pg_catalog.unnest(p_hours) h
             where (h + 23) % 24 <> all (p_hours) or pg_catalog.cardinality(p_hours) = 24 and h = 0) e
$$;
comment on function sisyphus._hours_in_a_row(int[])
    is 'First and last of hours that stand in a row, also over midnight, else null';

-- ' from 09:00 to 17:55', ' of the hours 2, 5 and 7', nothing for the whole day
create or replace function sisyphus._describe_hours(p_hours int[], p_last_minute int)
returns text language sql immutable parallel safe
as $$
    select case
        when pg_catalog.cardinality(p_hours) = 24 then ''
        when r.ends is not null then pg_catalog.format(' from %s to %s', sisyphus._describe_time(r.ends[1] * 3600, false),
            sisyphus._describe_time(r.ends[2] * 3600 + p_last_minute * 60, false))
        else ' of the hours ' || sisyphus._describe_values(p_hours,
            (select pg_catalog.array_agg(v::text order by v) from pg_catalog.generate_series(0, 23) v))
    end
    from (select sisyphus._hours_in_a_row(p_hours) as ends) r
$$;
comment on function sisyphus._describe_hours(int[], int) is 'Hours of the day in words, as the end of a phrase';

-- Once an hour, at one minute: 'every 2 hours', 'every hour from 09:30 to 17:30'; null when the hours have no rhythm.
create or replace function sisyphus._describe_hourly(p_hours int[], p_minute int)
returns text language plpgsql immutable parallel safe
as $$
declare
    v_ends int[] := sisyphus._hours_in_a_row(p_hours);
    v_step int := case when v_ends is null then sisyphus._even_step(p_hours) else 1 end;
    v_text text := case v_step when 1 then 'every hour' else pg_catalog.format('every %s hours', v_step) end;
begin
    if v_step is null then
        return null;
    elsif p_hours[1] = 0 and pg_catalog.cardinality(p_hours) * v_step = 24 then
        return case when p_minute = 0 then v_text when v_step = 1 then pg_catalog.format('at minute %s of every hour', p_minute)
            else pg_catalog.format('%s at minute %s', v_text, p_minute) end;
    end if;
    v_ends := coalesce(v_ends, array[p_hours[1], p_hours[pg_catalog.cardinality(p_hours)]]);
    return pg_catalog.format('%s from %s to %s', v_text, sisyphus._describe_time(v_ends[1] * 3600 + p_minute * 60, false),
        sisyphus._describe_time(v_ends[2] * 3600 + p_minute * 60, false));
end
$$;
comment on function sisyphus._describe_hourly(int[], int)
    is 'One minute of evenly spaced hours in words, null when they are not';

-- Up to six times of the day are named; more are told by their rhythm.
create or replace function sisyphus._describe_clock(p_compiled bigint[])
returns text language plpgsql immutable parallel safe
as $$
declare
    v_seconds int[] := sisyphus._mask_values(p_compiled[2]);
    v_minutes int[] := sisyphus._mask_values(p_compiled[3]);
    v_hours int[] := sisyphus._mask_values(p_compiled[4]);
    v_on_minute boolean := v_seconds = '{0}';
    v_second_text text := sisyphus._describe_unit(v_seconds, 'second');
    v_minute_text text := sisyphus._describe_unit(v_minutes, 'minute');
    v_hours_text text := sisyphus._describe_hours(v_hours, v_minutes[pg_catalog.cardinality(v_minutes)]);
    v_text text;
begin
    if v_hours_text <> ''
        and pg_catalog.cardinality(v_seconds) * pg_catalog.cardinality(v_minutes) * pg_catalog.cardinality(v_hours) <= 6
    then
        select 'at ' || sisyphus._and_list(pg_catalog.array_agg(
                   sisyphus._describe_time(h * 3600 + m * 60 + s, not v_on_minute) order by h, m, s))
          into v_text
          from pg_catalog.unnest(v_hours) h, pg_catalog.unnest(v_minutes) m, pg_catalog.unnest(v_seconds) s;
        return v_text;
    elsif v_on_minute and pg_catalog.cardinality(v_minutes) = 1 then
        v_text := sisyphus._describe_hourly(v_hours, v_minutes[1]);
        if v_text is not null then
            return v_text;
        end if;
    end if;
    if v_minute_text like 'at %' and v_hours_text not like ' of %' then
        v_hours_text := case when pg_catalog.cardinality(v_hours) = 1 then ' past ' || sisyphus._describe_time(v_hours[1] * 3600, false)
            else ' of every hour' || sisyphus._describe_hours(v_hours, 59) end;
    end if;
    if v_on_minute then
        v_text := v_minute_text;
    elsif v_minute_text = 'every minute' then
        v_text := v_second_text || case when v_second_text like 'at %' then ' of every minute' else '' end;
    elsif v_minute_text like 'at %' then
        v_text := v_second_text || ' of ' || pg_catalog.substr(v_minute_text, 4);
    else
        v_text := v_second_text || case when v_second_text like 'at %' then ', ' || v_minute_text
            else pg_catalog.regexp_replace(v_minute_text, E'every (\\d+) minutes', E', one minute out of \\1') end;
    end if;
    return v_text || v_hours_text;
end
$$;
comment on function sisyphus._describe_clock(bigint[]) is 'The times of the day of a compiled cron schedule in words';

-- 'the 1st and 15th', 'the last day', 'the weekday nearest the 15th'
create or replace function sisyphus._describe_dates(p_compiled bigint[])
returns text language plpgsql immutable parallel safe
as $$
declare
    v_days int[] := sisyphus._mask_values(p_compiled[5]);
    v_special int[] := sisyphus._mask_values(p_compiled[8]);
    v_step int := sisyphus._even_step(v_days);
    v_ordinals text[] := (select pg_catalog.array_agg(sisyphus._ordinal(v) order by v) from pg_catalog.generate_series(0, 31) v);
    v_words text[] := '{}'::text[];
begin
    if v_step > 1 and pg_catalog.cardinality(v_days) > 6 and v_days[pg_catalog.cardinality(v_days)] + v_step > 31 then
        v_words := array[pg_catalog.format('every %s day from the %s',
            case v_step when 2 then 'second' when 3 then 'third' else sisyphus._ordinal(v_step) end, sisyphus._ordinal(v_days[1]))];
    elsif v_days <> '{}' then
        v_words := array['the ' || sisyphus._describe_values(v_days, v_ordinals)];
    end if;
    if (p_compiled[8] << 32) < 0 then
        v_words := v_words || 'the last day'::text;
    end if;
    if (p_compiled[8] << 33) < 0 then
        v_words := v_words || 'the last weekday'::text;
    end if;
    if v_special[1] < 32 then
        v_words := v_words || (select 'the weekday nearest the ' || sisyphus._and_list(pg_catalog.array_agg(sisyphus._ordinal(v) order by v))
            from pg_catalog.unnest(v_special) v where v < 32);
    end if;
    return sisyphus._and_list(v_words);
end
$$;
comment on function sisyphus._describe_dates(bigint[]) is 'The days of the month of a compiled cron schedule in words';

-- Plain weekdays and those counted within the month apart: {'Monday to Friday', 'the second Monday'}.
create or replace function sisyphus._describe_weekdays(p_compiled bigint[])
returns text[] language plpgsql immutable parallel safe
as $$
declare
    -- Sunday stands last
    c_names constant text[] := '{Monday,Tuesday,Wednesday,Thursday,Friday,Saturday,Sunday}'::text[];
    c_counts constant text[] := '{first,second,third,fourth,fifth,last}'::text[];
    v_plain int[] := (select coalesce(pg_catalog.array_agg((v + 6) % 7), '{}')
                        from pg_catalog.unnest(sisyphus._mask_values(p_compiled[7])) v where v < 7);
    v_counted text[];
begin
    select pg_catalog.array_agg(pg_catalog.format('the %s %s', c_counts[v / 7], c_names[(v + 6) % 7 + 1]) order by (v + 6) % 7, v)
      into v_counted from pg_catalog.unnest(sisyphus._mask_values(p_compiled[9])) v;
    return array[sisyphus._describe_values(v_plain, c_names), sisyphus._and_list(v_counted)];
end
$$;
comment on function sisyphus._describe_weekdays(bigint[])
    is 'The weekdays of a compiled cron schedule in words: plain ones, and those counted within the month';

create or replace function sisyphus._describe_days(p_compiled bigint[])
returns text language plpgsql immutable parallel safe
as $$
declare
    v_any_date boolean := p_compiled[5] = sisyphus._range_mask(1, 31);
    v_any_weekday boolean := (p_compiled[7] >> 57) & 127 = 127;
    v_months text := sisyphus._describe_values(sisyphus._mask_values(p_compiled[6]),
        '{"",January,February,March,April,May,June,July,August,September,October,November,December}'::text[]);
    v_any_month boolean := p_compiled[6] = sisyphus._range_mask(1, 12);
    v_of_month text := case when v_any_month then ' of every month' else ' of ' || v_months end;
    v_in_month text := case when v_any_month then '' else ' in ' || v_months end;
    v_weekdays text[] := sisyphus._describe_weekdays(p_compiled);
    v_weekday text := case when v_weekdays[2] is null then v_weekdays[1]
        when v_weekdays[1] is null then v_weekdays[2] || v_of_month
        else v_weekdays[1] || ' and ' || v_weekdays[2] || v_of_month end;
begin
    if p_compiled[10] = 2 and not (v_any_date or v_any_weekday) then
        return pg_catalog.format('on %s%s and also on %s%s', sisyphus._describe_dates(p_compiled), v_of_month,
            case when v_weekdays[2] is null then 'every ' || pg_catalog.replace(v_weekday, ' and ', ' and every ') else v_weekday end,
            case when v_weekdays[1] is null then '' else v_in_month end);
    elsif p_compiled[10] = 2 or v_any_date and v_any_weekday then
        return case when v_any_month then '' else 'in ' || v_months end;
    elsif v_any_date then
        return 'on ' || v_weekday || case when v_weekdays[1] is null then '' else v_in_month end;
    elsif v_any_weekday then
        return 'on ' || sisyphus._describe_dates(p_compiled) || v_of_month;
    end if;
    return pg_catalog.format('on %s%s if that is %s', sisyphus._describe_dates(p_compiled), v_of_month,
        case when v_weekdays[2] is null then 'a ' || v_weekday else v_weekday end);
end
$$;
comment on function sisyphus._describe_days(bigint[])
    is 'The days of a compiled cron schedule in words, empty for every day';

create or replace function sisyphus._describe_interval(p_seconds bigint)
returns text language sql immutable parallel safe
as $$
    select case
        when p_seconds = 86400 then 'every 24 hours, whatever the clocks do'
        when p_seconds % 86400 = 0 then pg_catalog.format('every %s days of 24 hours, whatever the clocks do', p_seconds / 86400)
        when p_seconds = 3600 then 'every hour'
        when p_seconds % 3600 = 0 then pg_catalog.format('every %s hours', p_seconds / 3600)
        when p_seconds = 60 then 'every minute'
        when p_seconds % 60 = 0 and p_seconds < 7200 then pg_catalog.format('every %s minutes', p_seconds / 60)
        when p_seconds = 1 then 'every second'
        when p_seconds < 120 then pg_catalog.format('every %s seconds', p_seconds)
        else 'every ' || (
            select pg_catalog.string_agg(
                       pg_catalog.format('%s %s%s', p.n, p.unit, case when p.n = 1 then '' else 's' end), ' ' order by p.rank)
              from (values (1, p_seconds / 86400, 'day'), (2, p_seconds / 3600 % 24, 'hour'), (3, p_seconds / 60 % 60, 'minute'),
                           (4, p_seconds % 60, 'second')) p(rank, n, unit)
             where p.n > 0)
    end
$$;
comment on function sisyphus._describe_interval(bigint) is 'every <interval> in words';

create or replace function sisyphus._describe_moment(p_at bigint, p_in_utc boolean)
returns text language sql immutable parallel safe
as $$
    select pg_catalog.format('once, at %s%s on %s %s %s',
        sisyphus._describe_time((p_at - pg_catalog.floor(p_at / 86400.0) * 86400)::int, p_at % 60 <> 0),
        case when p_in_utc then ' UTC' else '' end, pg_catalog.date_part('day', m.at),
        ('{January,February,March,April,May,June,July,August,September,October,November,December}'::text[])[m.month],
        pg_catalog.date_part('year', m.at))
      from (select u.at, pg_catalog.date_part('month', u.at)::int as month
              from pg_catalog.timezone('UTC', pg_catalog.to_timestamp(p_at)) u(at)) m
$$;
comment on function sisyphus._describe_moment(bigint, boolean) is 'at <timestamp> in words';

-- What a clock change does, when it does anything: hours 1 to 3 are those that get skipped or repeated nearly everywhere.
create or replace function sisyphus._describe_clock_change(p_compiled bigint[])
returns text language sql immutable parallel safe
as $$
    select case
        when (p_compiled[4] & sisyphus._range_mask(1, 3)) = 0 then ''
        when p_compiled[1] = 2 and p_compiled[4] = sisyphus._range_mask(0, 23) then ''
        when p_compiled[1] = 2 then ' (when the clocks change, wildcard: not in a skipped hour, twice in a repeated one)'
        else ' (when the clocks change, fixed: after a skipped hour instead of in it, once in a repeated one)'
    end
$$;
comment on function sisyphus._describe_clock_change(bigint[])
    is 'How a compiled cron schedule takes clock changes, empty when that does not matter';

-- raises: SY1xx for what is no schedule. Definer: as next_fire.
create or replace function sisyphus.describe_schedule(schedule text)
returns text language plpgsql stable strict parallel unsafe security definer set search_path = pg_catalog, pg_temp
as $$
declare
    v_compiled bigint[] := sisyphus._compile_schedule(describe_schedule.schedule, 'UTC');
    v_clock text;
    v_days text;
    v_text text;
begin
    if v_compiled[1] = 3 then
        return sisyphus._describe_interval(v_compiled[2]);
    elsif v_compiled[1] = 4 then
        return sisyphus._describe_moment(v_compiled[2], describe_schedule.schedule ~ E'([Zz]|[+-]\\d\\d(:?\\d\\d)?)[ \\t]*$'
            and describe_schedule.schedule ~ ':');
    end if;
    v_clock := sisyphus._describe_clock(v_compiled);
    v_days := sisyphus._describe_days(v_compiled);
    if v_clock ~ E'^at \\d' and v_days !~ '^on' then
        v_clock := v_clock || ' every day';
    end if;
    v_text := v_clock || case when v_days = '' then '' else ' ' || v_days end;
    return case when v_compiled[1] = 0 then pg_catalog.format('never: there is no such day (%s)', v_text)
        else v_text || sisyphus._describe_clock_change(v_compiled) end;
end
$$;
comment on function sisyphus.describe_schedule(text) is 'A schedule as a sentence: at 07:00 on Monday to Friday';

revoke all on function
    sisyphus._and_list(text[]), sisyphus._mask_values(bigint), sisyphus._range_mask(int, int), sisyphus._describe_values(int[], text[]),
    sisyphus._ordinal(int), sisyphus._even_step(int[]), sisyphus._describe_unit(int[], text),
    sisyphus._describe_time(int, boolean), sisyphus._hours_in_a_row(int[]), sisyphus._describe_hours(int[], int),
    sisyphus._describe_hourly(int[], int), sisyphus._describe_clock(bigint[]), sisyphus._describe_dates(bigint[]),
    sisyphus._describe_weekdays(bigint[]), sisyphus._describe_days(bigint[]), sisyphus._describe_interval(bigint),
    sisyphus._describe_moment(bigint, boolean), sisyphus._describe_clock_change(bigint[]), sisyphus.describe_schedule(text)
from public;

grant execute on function sisyphus.describe_schedule(text)
to sisyphus_admin, sisyphus_author, sisyphus_operator, sisyphus_viewer, sisyphus_guardian;
