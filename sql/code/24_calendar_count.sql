-- How often, and which last: for what a downtime has missed. Counted in closed form, no fire is visited that is not asked
-- for, so a year of a per-second job costs no more than one of a daily job. Terms as in 21_calendar_next.sql.

-- How many values below p_value a mask holds.
create or replace function sisyphus._count_below(p_mask bigint, p_value int)
returns bigint language sql immutable parallel safe
as $$ select pg_catalog.bit_count(((p_mask >> 1 >> (63 - p_value)) & ((1::bigint << p_value) - 1))::bit(64)) $$;
comment on function sisyphus._count_below(bigint, int) is 'How many values below p_value a mask holds';

-- How many seconds of a matching day before p_second fire; 86400 counts the whole day.
create or replace function sisyphus._count_seconds(p_compiled bigint[], p_second int)
returns bigint language plpgsql immutable parallel safe
as $$
declare
    v_hour int := p_second / 3600;
    v_minute int := p_second / 60 % 60;
    v_seconds bigint := pg_catalog.bit_count(p_compiled[2]::bit(64));
    v_count bigint;
begin
    v_count := sisyphus._count_below(p_compiled[4], v_hour) * pg_catalog.bit_count(p_compiled[3]::bit(64)) * v_seconds;
    if (p_compiled[4] << v_hour) < 0 then
        v_count := v_count + sisyphus._count_below(p_compiled[3], v_minute) * v_seconds;
        if (p_compiled[3] << v_minute) < 0 then
            v_count := v_count + sisyphus._count_below(p_compiled[2], p_second % 60);
        end if;
    end if;
    return v_count;
end
$$;
comment on function sisyphus._count_seconds(bigint[], int) is 'How many seconds of a matching day before p_second fire';

-- How many days from p_first up to p_end, exclusive, match.
create or replace function sisyphus._count_days(p_compiled bigint[], p_first int, p_end int)
returns bigint language plpgsql immutable parallel safe
as $$
declare
    v_count bigint := 0;
    v_date date := date '1970-01-01' + p_first;
    v_month date := pg_catalog.make_date(pg_catalog.date_part('year', v_date)::int, pg_catalog.date_part('month', v_date)::int, 1);
    v_next date;
    v_start int;
    v_days bigint;
begin
    if p_compiled[10] = 0 then
        return p_end - p_first;
    end if;
    while v_month - date '1970-01-01' < p_end loop
        v_start := v_month - date '1970-01-01';
        v_next := (v_month + interval '1 month')::date;
        if (p_compiled[6] << pg_catalog.date_part('month', v_month)::int) < 0 then
            v_days := sisyphus._month_days(p_compiled, v_start, v_next - v_month);
            v_count := v_count + sisyphus._count_below(v_days, least(p_end - v_start + 1, 32))
                - sisyphus._count_below(v_days, greatest(p_first - v_start + 1, 0));
        end if;
        v_month := v_next;
    end loop;
    return v_count;
end
$$;
comment on function sisyphus._count_days(bigint[], int, int)
    is 'How many days from p_first up to p_end, exclusive, match';

-- How many seconds of the wall clock from p_first to p_last, both inclusive, match.
create or replace function sisyphus._count_matches(p_compiled bigint[], p_first bigint, p_last bigint)
returns bigint language plpgsql immutable parallel safe
as $$
declare
    v_end bigint := p_last + 1;
    v_first_second int := (p_first % 86400 + 86400) % 86400;
    v_end_second int := (v_end % 86400 + 86400) % 86400;
    v_first_day int := (p_first - v_first_second) / 86400;
    v_end_day int := (v_end - v_end_second) / 86400;
begin
    if p_last < p_first then
        return 0;
    end if;
    return sisyphus._count_days(p_compiled, v_first_day, v_end_day) * sisyphus._count_seconds(p_compiled, 86400)
        - sisyphus._count_days(p_compiled, v_first_day, v_first_day + 1) * sisyphus._count_seconds(p_compiled, v_first_second)
        + sisyphus._count_days(p_compiled, v_end_day, v_end_day + 1) * sisyphus._count_seconds(p_compiled, v_end_second);
end
$$;
comment on function sisyphus._count_matches(bigint[], bigint, bigint)
    is 'How many seconds of the wall clock between two of them, both inclusive, match';

-- Fires of a cron schedule after p_since and not after p_until: the matches of the wall clock between one clock change
-- and the next, counted, plus what each change adds.
create or replace function sisyphus._count_cron_fires(p_compiled bigint[], p_timezone text, p_since bigint, p_until bigint)
returns bigint language plpgsql stable parallel safe
as $$
declare
    c_short constant int := 10800;
    v_offset bigint := sisyphus._offset_at(p_timezone, p_since);
    v_base bigint := p_since;
    v_local bigint := p_since + v_offset + 1;
    v_count bigint := 0;
    v_change bigint;
    v_jump bigint;
begin
    if p_compiled[1] = 1 then
        -- From the second pass of a repeated hour a fixed schedule fires only after it.
        v_change := sisyphus._next_transition(p_timezone, p_since - c_short, p_since);
        v_jump := v_offset - sisyphus._offset_at(p_timezone, v_change - 1);
        if v_jump between 1 - c_short and -1 then
            v_local := greatest(v_local, v_change + v_offset - v_jump);
        end if;
    end if;
    loop
        v_change := sisyphus._next_transition(p_timezone, v_base, p_until);
        v_count := v_count + sisyphus._count_matches(p_compiled, v_local, coalesce(v_change - 1, p_until) + v_offset);
        exit when v_change is null;
        v_jump := sisyphus._offset_at(p_timezone, v_change) - v_offset;
        v_base := v_change;
        v_local := v_change + v_offset + v_jump;
        if p_compiled[1] = 1 and v_jump between 1 and c_short - 1 then
            -- All of the gap is one fire at its end, unless the schedule fires there anyway.
            if sisyphus._count_matches(p_compiled, v_change + v_offset, v_local - 1) > 0
                and sisyphus._count_matches(p_compiled, v_local, v_local) = 0
            then
                v_count := v_count + 1;
            end if;
        elsif p_compiled[1] = 1 and v_jump between 1 - c_short and -1 then
            v_local := v_change + v_offset;
        end if;
        v_offset := v_offset + v_jump;
    end loop;
    return v_count;
end
$$;
comment on function sisyphus._count_cron_fires(bigint[], text, bigint, bigint)
    is 'How often a compiled cron schedule fires after p_since and not after p_until';

-- In closed form: no fire is visited, so a year of a per-second job costs no more than one of a daily job.
create or replace function sisyphus._count_fires(p_compiled bigint[], p_timezone text, p_since timestamptz, p_until timestamptz, p_anchor timestamptz)
returns bigint language plpgsql stable parallel safe
as $$
declare
    v_since bigint := pg_catalog.floor(pg_catalog.date_part('epoch', greatest(p_since, timestamptz '0001-01-01 00:00:00+00')));
    v_until bigint := pg_catalog.floor(pg_catalog.date_part('epoch', least(p_until, timestamptz '9999-01-01 00:00:00+00')));
    v_anchor bigint;
begin
    if v_until <= v_since then
        return 0;
    end if;
    case p_compiled[1]
        when 1, 2 then
            return sisyphus._count_cron_fires(p_compiled, p_timezone, v_since, v_until);
        when 3 then
            v_anchor := pg_catalog.floor(pg_catalog.date_part('epoch', p_anchor))::bigint;
            return case when v_until < v_anchor then 0 else (v_until - v_anchor) / p_compiled[2] + 1 end
                - case when v_since < v_anchor then 0 else (v_since - v_anchor) / p_compiled[2] + 1 end;
        when 4 then
            return (p_compiled[2] > v_since and p_compiled[2] <= v_until)::int;
        else
            return 0;
    end case;
end
$$;
comment on function sisyphus._count_fires(bigint[], text, timestamptz, timestamptz, timestamptz)
    is 'How often a compiled schedule fires after p_since and not after p_until';

-- The newest p_limit fires after p_since and not after p_until, ascending. Bisects with _count_fires for the instant
-- that has about p_limit fires after it; only those are visited.
create or replace function sisyphus._last_fires(
    p_compiled bigint[], p_timezone text, p_since timestamptz, p_until timestamptz, p_anchor timestamptz, p_limit int)
returns setof timestamptz language plpgsql stable parallel safe
as $$
declare
    v_low bigint := pg_catalog.floor(pg_catalog.date_part('epoch', greatest(p_since, timestamptz '0001-01-01 00:00:00+00')));
    v_until timestamptz := least(p_until, timestamptz '9999-01-01 00:00:00+00');
    v_high bigint := pg_catalog.floor(pg_catalog.date_part('epoch', v_until));
    v_middle bigint;
    v_extra bigint := sisyphus._count_fires(p_compiled, p_timezone, p_since, v_until, p_anchor) - p_limit;
    v_more bigint;
    v_fire timestamptz;
begin
    -- v_low always has p_limit + v_extra fires after it.
    while v_extra > p_limit and v_high - v_low > 1 loop
        v_middle := (v_low + v_high) / 2;
        v_more := sisyphus._count_fires(p_compiled, p_timezone, pg_catalog.to_timestamp(v_middle), v_until, p_anchor) - p_limit;
        if v_more >= 0 then
            v_low := v_middle;
            v_extra := v_more;
        else
            v_high := v_middle;
        end if;
    end loop;
    v_fire := pg_catalog.to_timestamp(v_low);
    loop
        v_fire := sisyphus._next_fire(p_compiled, p_timezone, v_fire, p_anchor);
        exit when v_fire > v_until or v_fire is null;
        v_extra := v_extra - 1;
        if v_extra < 0 then
            return next v_fire;
        end if;
    end loop;
end
$$;
comment on function sisyphus._last_fires(bigint[], text, timestamptz, timestamptz, timestamptz, int)
    is 'The newest p_limit fires of a compiled schedule after p_since and not after p_until, ascending';

revoke all on function
    sisyphus._count_below(bigint, int), sisyphus._count_seconds(bigint[], int), sisyphus._count_days(bigint[], int, int),
    sisyphus._count_matches(bigint[], bigint, bigint), sisyphus._count_cron_fires(bigint[], text, bigint, bigint),
    sisyphus._count_fires(bigint[], text, timestamptz, timestamptz, timestamptz),
    sisyphus._last_fires(bigint[], text, timestamptz, timestamptz, timestamptz, int)
from public;
