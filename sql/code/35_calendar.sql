-- Calendars: which days or times there are. The query runs where its owner calls, never in a tick: a definer function
-- cannot become the owner, and no timeout could bound the query there. What it yielded is stored and the planner reads that.

-- locks: the calendar's row, for key share. One that another transaction is dropping is refused, not waited for.
create or replace function sisyphus._require_calendar(p_name text)
returns sisyphus.calendar
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_calendar sisyphus.calendar;
    v_nearest text;
begin
    select c.* into v_calendar from sisyphus.calendar c where c.name = p_name for key share skip locked;
    if found then
        return v_calendar;
    end if;
    if exists (select from sisyphus.calendar c where c.name = p_name) then
        raise exception 'calendar "%" is being dropped', p_name
            using errcode = '55006', hint = 'Choose another calendar, or try again when that transaction has ended.';
    end if;
    v_nearest := sisyphus._nearest(p_name, array(select c.name from sisyphus.calendar c));
    raise exception 'calendar "%" does not exist', sisyphus._excerpt(p_name)
        using errcode = '42704',
              hint = case when v_nearest is not null then format('Did you mean "%s"?', v_nearest)
                          else format('Make it with create_calendar(%L, ''select day from ...'').', sisyphus._excerpt(p_name)) end;
end
$$;
comment on function sisyphus._require_calendar(text) is 'A calendar that exists; raises 42704 with the nearest name, or 55006';

-- Nobody but the owner, no admin and no member either: whoever refreshes lends the query his rights.
create or replace function sisyphus._check_calendar_owner(p_calendar sisyphus.calendar)
returns void
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    if p_calendar.owner <> sisyphus._caller() then
        raise exception 'calendar "%" belongs to role %', p_calendar.name, p_calendar.owner
            using errcode = '42501', hint = format('Only that role asks its query: set role %I.', p_calendar.owner);
    end if;
end
$$;
comment on function sisyphus._check_calendar_owner(sisyphus.calendar) is 'raises 42501 unless the calling role is the owner itself';

-- Definer: callers may read no table.
create or replace function sisyphus._calendar_query(p_name text)
returns text
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_calendar constant sisyphus.calendar := sisyphus._require_calendar(p_name);
begin
    perform sisyphus._check_calendar_owner(v_calendar);
    return v_calendar.query;
end
$$;
comment on function sisyphus._calendar_query(text) is 'The query of a calendar, for its owner; raises 42704 or 42501';

-- Not definer: the query runs with the rights of the caller. It stands in a definer function of the caller's own, in
-- which no role can be set: an admin who has become the owner with SET ROLE would else lend it the way back to his rights.
create or replace function sisyphus._ask_calendar(p_name text, p_query text, out kind text, out dates date[], out spans tstzrange[])
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO'
set quote_all_identifiers = off
as $$
declare
    c_body constant text := $body$
#variable_conflict use_column
begin
    kind := pg_typeof((select q.value from ({query}
    ) q (value) limit 0));
    if kind = 'date' then
        dates := array(select q.value from ({query}
            ) q (value) limit 100001);
    elsif kind = 'tstzrange' then
        spans := array(select q.value from ({query}
            ) q (value) limit 100001);
    end if;
end
$body$;
    v_query constant text := regexp_replace(p_query, '[;[:space:]]+$', '');
    v_state text;
    v_message text;
begin
    if current_user <> sisyphus._caller() then
        raise exception 'calendar "%" is refreshed by its owner itself', p_name
            using errcode = '42501', hint = 'Call it from the session, not from a security definer function.';
    elsif coalesce(v_query, '') = '' then
        raise exception 'calendar "%" has no query', p_name
            using errcode = '22023', hint = 'Give one that yields dates or tstzranges: select day from public.holidays.';
    end if;
    begin
        execute format('create or replace function pg_temp.sisyphus_calendar(out kind text, out dates date[], out spans tstzrange[]) '
                       'language plpgsql security definer set search_path = pg_catalog, pg_temp as %L',
                       replace(c_body, '{query}', v_query));
        execute format('select c.kind, c.dates, c.spans from %I.sisyphus_calendar() c', 'pg_temp') into kind, dates, spans;
        execute 'drop function pg_temp.sisyphus_calendar()';
    exception when syntax_error_or_access_rule_violation then
        get stacked diagnostics v_state = returned_sqlstate, v_message = message_text;
        raise exception 'calendar "%": %', p_name, v_message
            using errcode = v_state,
                  hint = 'The query runs as its owner, with search_path pg_catalog: write names with their schema, as in public.holidays.';
    end;
end
$$;
comment on function sisyphus._ask_calendar(text, text) is
    'What the first column of a query yields, asked with the rights of the caller, dates or tstzranges; kind is its type';

create or replace function sisyphus._calendar_spans(p_name text, p_kind text, p_dates date[], p_spans tstzrange[])
returns tsmultirange
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    c_instant constant interval := interval '1 us';
begin
    if p_kind not in ('date', 'tstzrange') then
        raise exception 'calendar "%": its query yields %, not dates or tstzranges', p_name, p_kind
            using errcode = '42804', hint = 'Cast its first column: select day::date from ...';
    elsif greatest(cardinality(p_dates), cardinality(p_spans)) > 100000 then
        raise exception 'calendar "%": its query yields more than 100000 rows', p_name
            using errcode = '54000', hint = 'Leave out what lies far away.';
    elsif array_position(p_dates, null) is not null or array_position(p_spans, null) is not null
          or exists (select from unnest(p_dates) d where d not between '0001-01-01' and '9999-12-31')
          or exists (select from unnest(p_spans) s
                      where isfinite(lower(s)) and lower(s) not between '0001-01-01 00:00:00+00' and '9999-12-31 00:00:00+00'
                         or isfinite(upper(s)) and upper(s) not between '0001-01-01 00:00:00+00' and '9999-12-31 00:00:00+00') then
        raise exception 'calendar "%": its query yields a null, an infinite date or one outside the years 1 to 9999', p_name
            using errcode = '22004', hint = 'Add a condition that leaves it out.';
    end if;
    -- Instants count microseconds: a bound that is not in a range ends or begins it one later.
    return (select coalesce(range_agg(tsrange(g.starts_at, g.ends_at)), '{}')
              from (select d::timestamp as starts_at, (d + 1)::timestamp as ends_at from unnest(p_dates) d
                     union all
                    select coalesce(timezone('UTC', lower(s)) + case when lower_inc(s) then '0' else c_instant end, '-infinity'),
                           coalesce(timezone('UTC', upper(s)) + case when upper_inc(s) then c_instant else '0' end, 'infinity')
                      from unnest(p_spans) s
                     where not isempty(s)) g);
end
$$;
comment on function sisyphus._calendar_spans(text, text, date[], tstzrange[]) is
    'What a query yielded as spans of the wall clock, merged; raises 42804, 54000 or 22004';

-- Definer: callers may write no table. p_query: null keeps the calendar's own.
-- locks: the calendar's row, until the caller's transaction ends.
create or replace function sisyphus._store_calendar(p_name text, p_query text, p_kind text, p_dates date[], p_spans tstzrange[])
returns bigint
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now constant timestamptz := sisyphus._clock();
    v_kind constant text := case p_kind when 'date' then 'dates' else 'ranges' end;
    v_spans constant tsmultirange := sisyphus._calendar_spans(p_name, p_kind, p_dates, p_spans);
    v_count constant bigint := (select count(*) from unnest(v_spans));
    v_old sisyphus.calendar;
    v_calendar_id bigint;
begin
    if not sisyphus._is_name(p_name, 63) then
        raise exception 'calendar name "%" is not allowed', coalesce(sisyphus._excerpt(p_name), '')
            using errcode = '22023', hint = 'Give 1 to 63 printable characters, no blank at either end.';
    end if;
    select c.* into v_old from sisyphus.calendar c where c.name = p_name for no key update;
    if found then
        perform sisyphus._check_calendar_owner(v_old);
    end if;
    -- The owner is asked again: another session may have made one of that name meanwhile.
    insert into sisyphus.calendar as c (name, owner, query, kind, refreshed_at)
    values (p_name, sisyphus._caller(), coalesce(p_query, v_old.query), v_kind, v_now)
        on conflict on constraint calendar_name_key
        do update set query = excluded.query, kind = excluded.kind, refreshed_at = excluded.refreshed_at
                where c.owner = excluded.owner
    returning c.calendar_id into v_calendar_id;
    if not found then
        return sisyphus._store_calendar(p_name, p_query, p_kind, p_dates, p_spans);
    end if;
    if v_kind is distinct from v_old.kind
       or v_spans <> (select coalesce(range_agg(tsrange(r.starts_at, r.ends_at)), '{}')
                        from sisyphus.calendar_range r where r.calendar_id = v_calendar_id) then
        delete from sisyphus.calendar_range r where r.calendar_id = v_calendar_id;
        insert into sisyphus.calendar_range (calendar_id, starts_at, ends_at)
        select v_calendar_id, lower(s), upper(s) from unnest(v_spans) s;
        insert into sisyphus.request (action, job_id, role_name, requested_at)
        select 'replan', j.job_id, sisyphus._caller(), v_now
          from sisyphus.job j
         where p_name in (j.except_on, j.only_on) and j.deleted_at is null and j.compiled is not null;
        perform sisyphus._wake_planner(v_now);
    end if;
    if v_count = 0 then
        raise notice 'calendar "%" is empty', p_name
            using hint = 'With except_on it leaves out nothing, with only_on everything.';
    end if;
    perform sisyphus._audit(case when p_query is null then 'refresh_calendar' else 'create_calendar' end, p_name, null,
                            jsonb_build_object('kind', v_kind, 'ranges', v_count), v_now);
    return v_count;
end
$$;
comment on function sisyphus._store_calendar(text, text, text, date[], tstzrange[]) is
    'Stores what the owner''s query yielded and has the jobs replanned that use the calendar, when it is not the same as before';

create or replace function sisyphus.create_calendar(name text, query text)
returns bigint
language sql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
    select sisyphus._store_calendar(create_calendar.name, coalesce(create_calendar.query, ''), a.kind, a.dates, a.spans)
      from sisyphus._ask_calendar(create_calendar.name, create_calendar.query) a;
$$;
comment on function sisyphus.create_calendar(text, text) is
    'Makes a calendar of what the first column of a query yields, dates or tstzranges, or replaces an own one of that name. The query runs at once, and at each refresh_calendar(), with the rights of the caller and search_path pg_catalog. Returns how many ranges it has';

create or replace function sisyphus.refresh_calendar(name text)
returns bigint
language sql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
    select sisyphus._store_calendar(refresh_calendar.name, null, a.kind, a.dates, a.spans)
      from sisyphus._ask_calendar(refresh_calendar.name, sisyphus._calendar_query(refresh_calendar.name)) a;
$$;
comment on function sisyphus.refresh_calendar(text) is
    'Asks the query of a calendar again, with the rights of the caller, who must be its owner, and stores the ranges. Returns how many';

create or replace function sisyphus.drop_calendar(name text)
returns void
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now constant timestamptz := sisyphus._clock();
    v_calendar constant sisyphus.calendar := sisyphus._require_calendar(drop_calendar.name);
    v_jobs text;
begin
    perform sisyphus._check_access(format('calendar "%s"', v_calendar.name), v_calendar.owner, false);
    -- A definition call that has not committed holds the row; it is not waited for.
    perform from sisyphus.calendar c where c.calendar_id = v_calendar.calendar_id for update skip locked;
    if not found then
        raise exception 'calendar "%" is being used by an open transaction', v_calendar.name
            using errcode = '55006', hint = 'Try again when that transaction has ended.';
    end if;
    select string_agg(format('"%s"', j.name), ', ' order by j.name) into v_jobs
      from sisyphus.job j where v_calendar.name in (j.except_on, j.only_on) and j.deleted_at is null;
    if v_jobs is not null then
        raise exception 'calendar "%" is in use', v_calendar.name
            using errcode = '2BP01', detail = 'Jobs: ' || v_jobs || '.',
                  hint = 'Take it from these jobs, alter_job(..., reset => ''{except_on}''), or unschedule them.';
    end if;
    delete from sisyphus.calendar c where c.calendar_id = v_calendar.calendar_id;
    perform sisyphus._audit('drop_calendar', v_calendar.name, jsonb_build_object('owner', v_calendar.owner), null, v_now);
end
$$;
comment on function sisyphus.drop_calendar(text) is 'Drops a calendar that no job uses; its owner, a member of that role or an admin may';

-- What is wrong with a calendar as far as it goes; null: nothing.
create or replace function sisyphus._calendar_problem(p_calendar text, p_now timestamptz)
returns text
language sql
stable
strict
parallel safe
security definer
set search_path = pg_catalog, pg_temp
as $$
    select case when e.ends_at is null then format('calendar "%s" is empty', c.name)
                -- A day's grace: dates end with the day of each job's zone.
                when e.ends_at <= timezone('UTC', p_now) - interval '1 day'
                then format('calendar "%s" ends with %s and was last refreshed at %s', c.name,
                            to_char(e.ends_at - interval '1 us', 'YYYY-MM-DD'), sisyphus._instant_text(c.refreshed_at)) end
      from sisyphus.calendar c
           cross join lateral (select max(r.ends_at) as ends_at from sisyphus.calendar_range r
                                where r.calendar_id = c.calendar_id) e
     where c.name = p_calendar
$$;
comment on function sisyphus._calendar_problem(text, timestamptz) is 'Why a calendar says nothing about today: it is empty, or has ended; null: it does say';

create or replace function sisyphus._use_calendars(p_job sisyphus.job)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    perform sisyphus._require_calendar(n) from unnest(array[p_job.except_on, p_job.only_on]) n where n is not null order by n;
end
$$;
comment on function sisyphus._use_calendars(sisyphus.job) is 'Keeps the calendars of a job from being dropped until the transaction ends; raises 42704 or 55006';

-- A definition that its calendars silence is no error: they may be refreshed.
create or replace function sisyphus._notice_calendars(p_what text, p_job sisyphus.job, p_now timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_problem text;
begin
    for v_problem in
        select p from unnest(array[p_job.except_on, p_job.only_on]) n, sisyphus._calendar_problem(n, p_now) p where p is not null
    loop
        raise notice '%: %', p_what, v_problem using hint = 'Its owner calls refresh_calendar(), best once a day.';
    end loop;
    if v_problem is null and p_job.compiled is not null and sisyphus._next_occurrence(p_job, p_now) = 'infinity' then
        raise notice '%: its calendars leave out every occurrence as far as they go', p_what
            using hint = 'Look at view sisyphus.calendars: they may end before the next occurrence.';
    end if;
end
$$;
comment on function sisyphus._notice_calendars(text, sisyphus.job, timestamptz) is 'Gives a NOTICE when calendars of a job are empty, have ended, or leave out all of it';

grant execute on function sisyphus._caller(), sisyphus._calendar_query(text), sisyphus._ask_calendar(text, text),
        sisyphus._store_calendar(text, text, text, date[], tstzrange[])
    to sisyphus_author, sisyphus_admin;
grant execute on function sisyphus.create_calendar, sisyphus.refresh_calendar, sisyphus.drop_calendar
    to sisyphus_author, sisyphus_admin;
