-- Which occurrences of a job its calendars leave out. A calendar is a set of spans that neither meet nor overlap, kept
-- as wall-clock times: of the job's own clock where its query gave dates, of UTC where it gave ranges.
-- A stretch is a span of time all of whose occurrences are kept, or all left out for one reason. Occurrences are judged
-- by their nominal time, before jitter.

-- The first instant after p_at at which the clock shows p_local. An earlier clock change is told instead: it can take
-- the clock back over the beginning of a day (St. John's, until 2011, at 00:01), and the caller looks again there.
create or replace function sisyphus._clock_reaches(p_timezone text, p_at timestamptz, p_local timestamp)
returns timestamptz language plpgsql stable parallel safe
as $$
declare
    c_far constant int := 97200;
    v_at bigint := pg_catalog.floor(pg_catalog.date_part('epoch', p_at))::bigint;
    v_local bigint := case when pg_catalog.isfinite(p_local) then pg_catalog.floor(pg_catalog.date_part('epoch', p_local))::bigint end;
    v_end bigint := v_local - sisyphus._offset_at(p_timezone, v_at);
    v_change bigint;
begin
    if p_timezone = 'UTC' then
        return pg_catalog.timezone('UTC', p_local);
    end if;
    v_change := sisyphus._next_transition(p_timezone, v_at, least(v_at + c_far, v_end));
    if v_change is null and v_end - v_at > c_far then
        -- Null on a lost day: the end of it.
        v_end := coalesce(sisyphus._instant(p_timezone, v_local), sisyphus._next_transition(p_timezone, v_local - c_far, v_local + c_far));
    end if;
    return coalesce(pg_catalog.to_timestamp(coalesce(v_change, v_end)), 'infinity');
end
$$;
comment on function sisyphus._clock_reaches(text, timestamptz, timestamp)
    is 'The first instant after p_at at which the clock of a zone shows p_local, or the clock change that comes before it';

-- raises: 42704, which marks the job as broken
create or replace function sisyphus._calendar_at(
    p_calendar text, p_timezone text, p_at timestamptz, out inside boolean, out until timestamptz, out is_last boolean)
language plpgsql stable parallel safe
as $$
declare
    v_calendar_id bigint;
    v_timezone text;
    v_local timestamp;
    v_starts_at timestamp;
    v_ends_at timestamp;
begin
    select c.calendar_id, case c.kind when 'dates' then p_timezone else 'UTC' end into v_calendar_id, v_timezone
      from sisyphus.calendar c where c.name = p_calendar;
    if not found then
        raise exception 'calendar "%" does not exist', p_calendar
            using errcode = '42704', hint = 'Make it with create_calendar(), or reset except_on and only_on.';
    end if;
    v_local := pg_catalog.timezone(v_timezone, p_at);
    select r.starts_at, r.ends_at into v_starts_at, v_ends_at
      from sisyphus.calendar_range r
     where r.calendar_id = v_calendar_id and r.ends_at > v_local
     order by r.ends_at
     limit 1;
    is_last := not found;
    inside := coalesce(v_starts_at <= v_local, false);
    until := sisyphus._clock_reaches(v_timezone, p_at, coalesce(case when inside then v_ends_at else v_starts_at end, 'infinity'));
end
$$;
comment on function sisyphus._calendar_at(text, text, timestamptz)
    is 'Whether an instant lies in a calendar, until when (exclusive) that stays so, and whether no range ends later';

create or replace function sisyphus._stretch(p_job sisyphus.job, p_at timestamptz, out until timestamptz, out left_out text)
language plpgsql stable parallel safe
as $$
declare
    v_found record;
begin
    until := 'infinity';
    if p_job.except_on is not null then
        select c.inside, c.until into v_found from sisyphus._calendar_at(p_job.except_on, p_job.timezone, p_at) c;
        until := v_found.until;
        if v_found.inside then
            left_out := pg_catalog.format('left out by calendar "%s"', p_job.except_on);
            return;
        end if;
    end if;
    if p_job.only_on is not null then
        select c.inside, c.until, c.is_last into v_found from sisyphus._calendar_at(p_job.only_on, p_job.timezone, p_at) c;
        if v_found.inside then
            until := least(until, v_found.until);
        else
            until := v_found.until;
            left_out := pg_catalog.format('not in calendar "%s"%s', p_job.only_on,
                case when v_found.is_last then ', which holds nothing later' else '' end);
        end if;
    end if;
end
$$;
comment on function sisyphus._stretch(sisyphus.job, timestamptz)
    is 'Why the calendars of a job leave out what is due at an instant (null: they do not), and until when, exclusive, that holds';

create or replace function sisyphus._next_kept(p_job sisyphus.job, p_after timestamptz)
returns timestamptz language plpgsql stable parallel safe
as $$
declare
    v_fire timestamptz := p_after;
    v_stretch record;
begin
    loop
        v_fire := sisyphus._next_fire(p_job.compiled, p_job.timezone, v_fire, p_job.anchor_at);
        if v_fire is null or p_job.except_on is null and p_job.only_on is null then
            return v_fire;
        end if;
        select s.until, s.left_out into v_stretch from sisyphus._stretch(p_job, v_fire) s;
        if v_stretch.left_out is null then
            return v_fire;
        end if;
        v_fire := v_stretch.until - interval '1 microsecond';
    end loop;
end
$$;
comment on function sisyphus._next_kept(sisyphus.job, timestamptz)
    is 'First fire of a job strictly after p_after that its calendars keep; null: none. starts_at and ends_at are not considered';

-- Stretches without a fire are passed over.
create or replace function sisyphus._stretches(p_job sisyphus.job, p_since timestamptz, p_until timestamptz)
returns table (since timestamptz, until timestamptz, left_out text) language plpgsql stable parallel safe
as $$
declare
    v_fire timestamptz;
begin
    until := p_since;
    loop
        v_fire := sisyphus._next_fire(p_job.compiled, p_job.timezone, until, p_job.anchor_at);
        exit when v_fire is null or v_fire > p_until;
        since := v_fire - interval '1 microsecond';
        select least(s.until - interval '1 microsecond', p_until), s.left_out into until, left_out
          from sisyphus._stretch(p_job, v_fire) s;
        return next;
    end loop;
end
$$;
comment on function sisyphus._stretches(sisyphus.job, timestamptz, timestamptz)
    is 'The stretches after p_since and up to p_until in which a job fires: after since, up to until, kept where left_out is null';

create or replace function sisyphus._count_kept(p_job sisyphus.job, p_since timestamptz, p_until timestamptz)
returns bigint language plpgsql stable parallel safe
as $$
begin
    if p_job.except_on is null and p_job.only_on is null then
        return sisyphus._count_fires(p_job.compiled, p_job.timezone, p_since, p_until, p_job.anchor_at);
    end if;
    return (select coalesce(pg_catalog.sum(sisyphus._count_fires(p_job.compiled, p_job.timezone, s.since, s.until, p_job.anchor_at)), 0)
              from sisyphus._stretches(p_job, p_since, p_until) s
             where s.left_out is null);
end
$$;
comment on function sisyphus._count_kept(sisyphus.job, timestamptz, timestamptz)
    is 'How many fires of a job after p_since and up to p_until its calendars keep; counted, not visited';

create or replace function sisyphus._last_kept(p_job sisyphus.job, p_since timestamptz, p_until timestamptz, p_limit int)
returns setof timestamptz language plpgsql stable parallel safe
as $$
declare
    v_stretch record;
    v_fires timestamptz[] := '{}'::timestamptz[];
begin
    if p_job.except_on is null and p_job.only_on is null then
        return query select f from sisyphus._last_fires(p_job.compiled, p_job.timezone, p_since, p_until, p_job.anchor_at, p_limit) f;
        return;
    end if;
    for v_stretch in
        select s.since, s.until from sisyphus._stretches(p_job, p_since, p_until) s where s.left_out is null order by s.since desc
    loop
        v_fires := array(select f from sisyphus._last_fires(p_job.compiled, p_job.timezone, v_stretch.since, v_stretch.until,
                             p_job.anchor_at, p_limit - pg_catalog.cardinality(v_fires)) f) || v_fires;
        exit when pg_catalog.cardinality(v_fires) >= p_limit;
    end loop;
    return query select f from pg_catalog.unnest(v_fires) f;
end
$$;
comment on function sisyphus._last_kept(sisyphus.job, timestamptz, timestamptz, int)
    is 'The newest p_limit fires of a job after p_since and up to p_until that its calendars keep, ascending';

revoke all on function
    sisyphus._clock_reaches(text, timestamptz, timestamp), sisyphus._calendar_at(text, text, timestamptz),
    sisyphus._stretch(sisyphus.job, timestamptz), sisyphus._next_kept(sisyphus.job, timestamptz),
    sisyphus._stretches(sisyphus.job, timestamptz, timestamptz), sisyphus._count_kept(sisyphus.job, timestamptz, timestamptz),
    sisyphus._last_kept(sisyphus.job, timestamptz, timestamptz, int)
from public;
