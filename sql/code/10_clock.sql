-- Every public function reads the clock once, here, and hands it inward as p_now.
-- Tests replace this function in their own database; a catalogue test pins the shipped body.
create or replace function sisyphus._clock()
returns timestamptz
language sql
volatile
parallel safe
begin atomic
    select pg_catalog.clock_timestamp();
end;
comment on function sisyphus._clock() is 'The only clock: the time of the database, read once a call';

-- Reading one-row settings through a function keeps callers to one name; it inlines.
create or replace function sisyphus._setting()
returns sisyphus.setting
language sql
stable
parallel safe
begin atomic
    select s from sisyphus.setting s;
end;
comment on function sisyphus._setting() is 'The settings as one row';

-- Not interval's own text: that depends on the session's IntervalStyle.
create or replace function sisyphus._duration_text(p_duration interval)
returns text
language sql
immutable
strict
parallel safe
begin atomic
    select case
        when pg_catalog.abs(s) < 1 then pg_catalog.round((s * 1000)::numeric, 0)::text || ' ms'
        when s < 120 then pg_catalog.trim_scale(pg_catalog.round(s::numeric, 1))::text || ' s'
        when s < 7200 then pg_catalog.floor(s / 60)::text || ' min'
        when s < 172800 then pg_catalog.floor(s / 3600)::text || ' h'
                             || coalesce(' ' || nullif(pg_catalog.floor(s / 60)::bigint % 60, 0)::text || ' min', '')
        else pg_catalog.floor(s / 86400)::text || ' days' end
      from (select extract(epoch from p_duration)::double precision as s) x;
end;
comment on function sisyphus._duration_text(interval) is 'A duration as a person says it: 250 ms, 90 s, 10 min, 1 h 30 min, 3 days';

-- A timestamptz plus an interval follows the clocks of the session's time zone, where a day may have 23 hours.
create or replace function sisyphus._later(p_at timestamptz, p_by interval)
returns timestamptz
language sql
stable
strict
parallel safe
begin atomic
    select p_at + pg_catalog.make_interval(secs => extract(epoch from p_by)::double precision);
end;
comment on function sisyphus._later(timestamptz, interval) is
    'An instant and a duration after it: a day has 24 hours, whatever the session''s time zone';

-- RFC 3339 in UTC, whatever the session's DateStyle.
create or replace function sisyphus._instant_text(p_at timestamptz)
returns text
language sql
stable
strict
parallel safe
begin atomic
    select pg_catalog.to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"');
end;
comment on function sisyphus._instant_text(timestamptz) is 'An instant as RFC 3339 in UTC, whole seconds';

-- extract() of a timestamptz counts as stable; said to be immutable, this would no longer inline.
create or replace function sisyphus._epoch_us(p_at timestamptz)
returns bigint
language sql
stable
strict
parallel safe
begin atomic
    select (extract(epoch from p_at) * 1000000)::bigint;
end;
comment on function sisyphus._epoch_us(timestamptz) is 'An instant as microseconds since 1970';
