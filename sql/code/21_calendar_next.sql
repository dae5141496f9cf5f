-- Integers to instants. Wall-clock time is counted in seconds since 1970-01-01 00:00 of the same clock ("local"),
-- instants in seconds since the epoch; the difference is the zone's offset at that instant.
--
-- No offset of any zone lies more than 26 hours from another one of that zone, so nothing further than 27 hours
-- (97,200 s) away from a clock change can be touched by it. Two changes that cancel each other have never been nearer
-- than 3.9 days (Freetown, 1939). Both numbers were read from the whole zone database; a test reads them again.

-- The offset of a zone at an instant.
create or replace function sisyphus._offset_at(p_timezone text, p_at bigint)
returns int language plpgsql stable parallel safe
as $$
begin
    return (pg_catalog.date_part(text 'epoch', pg_catalog.timezone(p_timezone, pg_catalog.to_timestamp(p_at)))::bigint - p_at)::int;
end
$$;
comment on function sisyphus._offset_at(text, bigint)
    is 'Seconds by which the clocks of a zone are ahead of UTC at an instant';

-- First instant in (p_from, p_to] at which the clocks of the zone change; null when they do not.
create or replace function sisyphus._next_transition(p_timezone text, p_from bigint, p_to bigint)
returns bigint language plpgsql stable parallel safe
as $$
declare
    c_step constant int := 259200;
    v_offset int := sisyphus._offset_at(p_timezone, p_from);
    v_same bigint := p_from;
    v_other bigint := p_from;
    v_middle bigint;
begin
    loop
        v_other := least(v_other + c_step, p_to);
        exit when sisyphus._offset_at(p_timezone, v_other) <> v_offset;
        if v_other >= p_to then
            return null;
        end if;
        v_same := v_other;
    end loop;
    while v_other - v_same > 1 loop
        v_middle := (v_same + v_other) / 2;
        if sisyphus._offset_at(p_timezone, v_middle) = v_offset then
            v_same := v_middle;
        else
            v_other := v_middle;
        end if;
    end loop;
    return v_other;
end
$$;
comment on function sisyphus._next_transition(text, bigint, bigint)
    is 'First clock change of a zone after p_from and not after p_to, null when there is none';

-- Months are counted from January of the year -400: the calendar repeats itself after 400 years, and make_date() knows no
-- year 0.
create or replace function sisyphus._month_start(p_month int)
returns int language sql immutable parallel safe
return pg_catalog.make_date(p_month / 12, p_month % 12 + 1, 1) - date '2370-01-01';
comment on function sisyphus._month_start(int)
    is 'The day (0 is 1970-01-01) on which a month begins, counted from January of the year -400';

-- 1W to 31W, L and LW, of compiled[8].
create or replace function sisyphus._special_days(p_special bigint, p_first int, p_length int)
returns bigint language plpgsql immutable parallel safe
as $$
declare
    v_special bigint := p_special;
    v_weekday int := (p_first % 7 + 11) % 7;
    v_last int := (v_weekday + p_length - 1) % 7;
    v_days bigint := 0;
    v_day int;
begin
    if (v_special << 32) < 0 then
        v_days := sisyphus._bit(p_length);
    end if;
    if (v_special << 33) < 0 then
        v_days := v_days | sisyphus._bit(p_length - case v_last when 6 then 1 when 0 then 2 else 0 end);
    end if;
    loop
        v_day := position(B'1' in v_special::bit(64)) - 1;
        exit when v_day not between 1 and p_length;
        v_days := v_days | sisyphus._bit(v_day + case (v_weekday + v_day - 1) % 7
            when 6 then case when v_day = 1 then 2 else -1 end
            when 0 then case when v_day = p_length then -2 else 1 end
            else 0 end);
        v_special := v_special & ~sisyphus._bit(v_day);
    end loop;
    return v_days;
end
$$;
comment on function sisyphus._special_days(bigint, int, int) is 'The days of a month that W and L mean';

-- MON#2 and 5L, of compiled[9].
create or replace function sisyphus._special_weekdays(p_special bigint, p_first int, p_length int)
returns bigint language plpgsql immutable parallel safe
as $$
declare
    v_days bigint := 0;
begin
    for v_nth in 1 .. 6 loop
        v_days := v_days | (((p_special >> (57 - 7 * v_nth)) & 127) * 34630287489 << (21 + (p_first % 7 + 11) % 7)
            & (127::bigint << (63 - case when v_nth < 6 then 7 * v_nth else p_length end)));
    end loop;
    return v_days;
end
$$;
comment on function sisyphus._special_weekdays(bigint, int, int) is 'The days of a month that # and L mean in the day of week field';

-- Bit d from the left for day d. p_first is the day number of the 1st (0 is 1970-01-01), p_length the number of days.
-- 34630287489 repeats the seven bits of a week six times; they are shifted to the weekday of the 1st.
create or replace function sisyphus._month_days(p_compiled bigint[], p_first int, p_length int)
returns bigint language plpgsql immutable parallel safe
as $$
declare
    v_weekdays bigint := ((p_compiled[7] >> 57) & 127::bigint) * 34630287489 << (21 + (p_first % 7 + 11) % 7);
begin
    if not p_compiled[8] | p_compiled[9] = 0 then
        if not p_compiled[8] = 0 then
            p_compiled[5] := p_compiled[5] | sisyphus._special_days(p_compiled[8], p_first, p_length);
        end if;
        if not p_compiled[9] = 0 then
            v_weekdays := v_weekdays | sisyphus._special_weekdays(p_compiled[9], p_first, p_length);
        end if;
    end if;
    return ((1::bigint << p_length) - 1) << (63 - p_length)
        & case when p_compiled[10] = 2 then p_compiled[5] | v_weekdays else p_compiled[5] & v_weekdays end;
end
$$;
comment on function sisyphus._month_days(bigint[], int, int) is 'The matching days of a month as a mask';

-- First matching day at or after p_day (0 is 1970-01-01); null when the next 41 years have none: 29 February on a
-- given weekday can be 40 years away, around a century that is no leap year.
create or replace function sisyphus._next_day(p_compiled bigint[], p_day int)
returns int language plpgsql immutable parallel safe
as $$
declare
    -- 3135 days are 103 months, nearly: this is the month before that of p_day, or the one before.
    v_month int := (p_day + 865593) * 103 / 3135;
    v_first int;
    v_day int;
    v_next int;
begin
    loop
        -- To the next matching month; the mask holds January to December twice.
        v_month := v_month + position(B'1' in ((p_compiled[6] | (p_compiled[6] >> 12)) << (v_month % 12 + 2))::bit(64));
        v_first := sisyphus._month_start(v_month);
        v_day := case when p_day > v_first then p_day else v_first end;
        v_next := position(B'1' in (sisyphus._month_days(p_compiled, v_first, sisyphus._month_start(v_month + 1) - v_first)
                                    << (v_day - v_first + 1))::bit(64));
        if v_next > 0 then
            return v_day + v_next - 1;
        end if;
        exit when v_first > p_day + 15000;
    end loop;
    return null;
end
$$;
comment on function sisyphus._next_day(bigint[], int)
    is 'First matching day at or after p_day, null when there is none';

-- First fire of a cron schedule, around all clock changes.
-- Known: nothing fires before the wall clock shows p_from, reckoned in the zone's offset at p_base, which is not later.
create or replace function sisyphus._next_cron_fire(p_compiled bigint[], p_timezone text, p_base bigint, p_from bigint)
returns bigint language plpgsql stable parallel safe
as $$
declare
    v_offset int := sisyphus._offset_at(p_timezone, p_base);
    -- Days and seconds of the wall clock. From the year 0, because a division rounds towards 0.
    v_day int := ((p_from + v_offset + 62167219200) / 86400)::int - 719528;
    v_second int := (p_from + v_offset - 86400::bigint * v_day)::int;
    v_first_day int;
    v_next int;
    v_fire bigint;
begin
    if (p_compiled[4] << (v_second / 3600)) < 0 then
        -- In this minute, or in a later one of this hour.
        v_next := coalesce(
            case when (p_compiled[3] << (v_second / 60 % 60)) < 0
                then v_second + nullif(position(B'1' in (p_compiled[2] << (v_second % 60))::bit(64)), 0) - 1 end,
            (v_second / 60 + nullif(position(B'1' in (p_compiled[3] << (v_second / 60 % 60 + 1))::bit(64)), 0)) * 60
                + p_compiled[11]::int % 60);
    end if;
    if v_next is null then
        -- In a later hour, or on the next day.
        v_next := coalesce(
            (v_second / 3600 + nullif(position(B'1' in (p_compiled[4] << (v_second / 3600 + 1))::bit(64)), 0)) * 3600
                + p_compiled[11]::int % 3600,
            86400 + p_compiled[11]::int);
    end if;
    if not p_compiled[10] = 0 then
        v_first_day := v_day + v_next / 86400;
        v_day := sisyphus._next_day(p_compiled, v_first_day);
        v_next := case when v_day > v_first_day then p_compiled[11]::int else v_next % 86400 end;
    end if;
    v_fire := 86400::bigint * v_day + v_next - v_offset;
    -- No clock change near either end, or none before a wildcard job that fires soon.
    if sisyphus._offset_at(p_timezone, v_fire) = v_offset
        and (v_fire - p_base < 97200 and p_compiled[1] = 2
            or sisyphus._offset_at(p_timezone, v_fire - 97200) = v_offset
            and (v_fire - p_base < 97200 or sisyphus._offset_at(p_timezone, p_base + 97200) = v_offset))
    then
        return v_fire;
    end if;
    return sisyphus._cron_fire_at_change(p_compiled, p_timezone, p_base, v_offset, v_fire);
end
$$;
comment on function sisyphus._next_cron_fire(bigint[], text, bigint, bigint)
    is 'First fire of a compiled cron schedule from p_from on, in seconds since the epoch, null when there is none';

-- What _next_cron_fire says when p_fire, which it found in the offset of p_base, may be on the other side of a clock
-- change. Finds the answer, or looks again from a later p_base, past a clock change at the latest.
create or replace function sisyphus._cron_fire_at_change(
    p_compiled bigint[], p_timezone text, p_base bigint, p_offset int, p_fire bigint)
returns bigint language plpgsql stable strict parallel safe
as $$
declare
    c_far constant int := 97200;
    c_short constant int := 10800;
    v_fixed boolean := p_compiled[1] = 1;
    v_base bigint;
    v_change bigint := sisyphus._next_transition(p_timezone, p_base, p_base + c_far);
    v_jump int;
begin
    if v_change is null and p_fire - p_base > c_far then
        -- Nothing is near p_base: look again from shortly before the match, in the offset of that time.
        v_base := p_fire - c_far;
    elsif v_change is null or p_fire < v_change then
        -- Before the change: right, unless a fixed job is in the second pass of a repeated hour.
        v_change := sisyphus._next_transition(p_timezone, p_fire - c_short, p_fire);
        v_jump := p_offset - sisyphus._offset_at(p_timezone, v_change - 1);
        if not v_fixed or v_change is null or v_jump not between 1 - c_short and -1 or p_fire >= v_change - v_jump then
            return p_fire;
        end if;
        v_base := v_change - v_jump;
    else
        v_jump := sisyphus._offset_at(p_timezone, v_change) - p_offset;
        if v_fixed and v_jump between 1 and c_short - 1 and p_fire < v_change + v_jump then
            -- In the gap: moves to its end.
            return v_change;
        end if;
        v_base := v_change - case when v_fixed and v_jump between 1 - c_short and -1 then v_jump else 0 end;
    end if;
    return sisyphus._next_cron_fire(p_compiled, p_timezone, v_base, v_base);
end
$$;
comment on function sisyphus._cron_fire_at_change(bigint[], text, bigint, int, bigint)
    is 'As _next_cron_fire, when a clock change is near p_base or near p_fire, which is what it would be without';

-- The instant at which the clocks of a zone show a wall-clock time: the first when they show it twice, the end of the gap
-- when it lies in a short one; null when it lies in a longer one (Apia's lost day).
create or replace function sisyphus._instant(p_timezone text, p_local bigint)
returns bigint language plpgsql stable parallel safe
as $$
declare
    c_far constant int := 97200;
    v_before bigint := sisyphus._offset_at(p_timezone, p_local - c_far);
    v_change bigint := sisyphus._next_transition(p_timezone, p_local - c_far, p_local + c_far);
    v_after bigint := sisyphus._offset_at(p_timezone, v_change);
begin
    if v_change is null or p_local - v_before < v_change then
        return p_local - v_before;
    elsif p_local - v_after >= v_change then
        return p_local - v_after;
    end if;
    return case when v_after - v_before < 10800 then v_change end;
end
$$;
comment on function sisyphus._instant(text, bigint)
    is 'The instant of a wall-clock time in a zone, null when its clocks never show it';

-- Strictly after p_after. p_anchor: where `every` counts from.
create or replace function sisyphus._next_fire(p_compiled bigint[], p_timezone text, p_after timestamptz, p_anchor timestamptz)
returns timestamptz language plpgsql stable parallel safe
as $$
declare
    v_after bigint;
    v_anchor bigint;
begin
    if p_compiled[1] = 0 or not timestamptz '9999-01-01 00:00:00+00' > p_after then
        return null;
    end if;
    v_after := case when p_after > timestamptz '0001-01-01 00:00:00+00'
        then pg_catalog.floor(pg_catalog.date_part(text 'epoch', p_after))::bigint else -62135596800 end;
    if p_compiled[1] < 3 then
        return pg_catalog.to_timestamp(sisyphus._next_cron_fire(p_compiled, p_timezone, v_after, v_after + 1));
    elsif p_compiled[1] = 4 then
        return case when p_compiled[2] > v_after then pg_catalog.to_timestamp(p_compiled[2]) end;
    end if;
    v_anchor := pg_catalog.floor(pg_catalog.date_part(text 'epoch', p_anchor));
    return pg_catalog.to_timestamp(v_anchor
        + case when v_anchor > v_after then 0 else ((v_after - v_anchor) / p_compiled[2] + 1) * p_compiled[2] end);
end
$$;
comment on function sisyphus._next_fire(bigint[], text, timestamptz, timestamptz)
    is 'First fire of a compiled schedule strictly after p_after, null when there is none';

-- Definer: callers may not execute the private functions, which read no table.
create or replace function sisyphus.next_fire(schedule text, timezone text default 'UTC', after timestamptz default null,
    starts_at timestamptz default timestamptz '1970-01-01 00:00:00+00')
returns timestamptz language plpgsql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if next_fire.starts_at <> timestamptz '1970-01-01 00:00:00+00' then
        next_fire.starts_at := greatest(next_fire.starts_at, timestamptz '0001-01-01 00:00:00+00');
        -- starts_at itself may fire.
        next_fire.after := greatest(coalesce(next_fire.after, pg_catalog.clock_timestamp()), next_fire.starts_at - interval '1 microsecond');
    end if;
    return sisyphus._next_fire(sisyphus._compile_schedule(next_fire.schedule, coalesce(next_fire.timezone, 'UTC')),
        coalesce(next_fire.timezone, 'UTC'), coalesce(next_fire.after, pg_catalog.clock_timestamp()),
        coalesce(next_fire.starts_at, timestamptz '1970-01-01 00:00:00+00'));
end
$$;
comment on function sisyphus.next_fire(text, text, timestamptz, timestamptz)
    is 'First fire of a schedule strictly after an instant (default: now) and not before starts_at; null when it never fires again';

create or replace function sisyphus.fires(schedule text, timezone text, since timestamptz, until timestamptz,
    max int default 1000, starts_at timestamptz default null)
returns setof timestamptz language plpgsql stable parallel unsafe security definer set search_path = pg_catalog, pg_temp
as $$
declare
    c_epoch constant timestamptz := timestamptz '1970-01-01 00:00:00+00';
    c_first constant timestamptz := timestamptz '0001-01-01 00:00:00+00';
    v_timezone text := coalesce(fires.timezone, 'UTC');
    v_compiled bigint[] := sisyphus._compile_schedule(fires.schedule, v_timezone);
    v_starts_at timestamptz := greatest(coalesce(fires.starts_at, c_epoch), c_first);
    v_fire timestamptz := greatest(coalesce(fires.since, pg_catalog.clock_timestamp()), c_first) - interval '1 microsecond';
begin
    if v_fire < fires.starts_at then
        v_fire := v_starts_at - interval '1 microsecond';
    end if;
    for v_number in 1 .. coalesce(fires.max, 1000) loop
        v_fire := sisyphus._next_fire(v_compiled, v_timezone, v_fire, v_starts_at);
        exit when v_fire is null or v_fire >= fires.until;
        return next v_fire;
    end loop;
end
$$;
comment on function sisyphus.fires(text, text, timestamptz, timestamptz, int, timestamptz)
    is 'The fires of a schedule from since (inclusive) to until (exclusive; null: no end), at most max of them';

revoke all on function
    sisyphus._offset_at(text, bigint), sisyphus._next_transition(text, bigint, bigint),
    sisyphus._month_start(int), sisyphus._special_days(bigint, int, int),
    sisyphus._special_weekdays(bigint, int, int), sisyphus._month_days(bigint[], int, int), sisyphus._next_day(bigint[], int),
    sisyphus._next_cron_fire(bigint[], text, bigint, bigint), sisyphus._cron_fire_at_change(bigint[], text, bigint, int, bigint),
    sisyphus._instant(text, bigint), sisyphus._next_fire(bigint[], text, timestamptz, timestamptz),
    sisyphus.next_fire(text, text, timestamptz, timestamptz),
    sisyphus.fires(text, text, timestamptz, timestamptz, int, timestamptz)
from public;

grant execute on function
    sisyphus.next_fire(text, text, timestamptz, timestamptz),
    sisyphus.fires(text, text, timestamptz, timestamptz, int, timestamptz)
to sisyphus_admin, sisyphus_author, sisyphus_operator, sisyphus_viewer, sisyphus_guardian;
