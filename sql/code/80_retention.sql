-- How long ended attempts are kept. Table attempt is split by retention class (days; 0: for ever), each class by the
-- time of recording: 1 and 7 by UTC days, 30 and 90 by weeks, 400 and 0 by months. Old partitions are dropped whole.

-- No SET clause: a single expression, inlined.
create or replace function sisyphus._retention_class(p_retention interval) returns integer
language sql
immutable
parallel safe
begin atomic
    select case when p_retention is null then null
                when p_retention <= interval '1 day' then 1
                when p_retention <= interval '7 days' then 7
                when p_retention <= interval '30 days' then 30
                when p_retention <= interval '90 days' then 90
                when p_retention <= interval '400 days' then 400
                else 0 end;
end;
comment on function sisyphus._retention_class(interval) is
    'The retention class, in days, that keeps rows at least this long: 1, 7, 30, 90, 400, or 0 for ever';

create or replace function sisyphus._retention_days(p_what text, p_retention jsonb, p_key text)
returns integer
language plpgsql
stable
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_text constant text := p_retention ->> p_key;
    v_interval interval;
begin
    if v_text is null then
        return null;
    elsif v_text = 'forever' then
        return 0;
    end if;
    begin
        -- A number without a unit would mean seconds.
        v_interval := case when v_text !~ '^[[:space:]]*[0-9.]*[[:space:]]*$' then v_text::interval end;
    exception when invalid_datetime_format or datetime_field_overflow or interval_field_overflow then
        v_interval := null;
    end;
    if not coalesce(v_interval > '0 s', false) then
        perform sisyphus._raise_argument(p_what, 'retention ' || p_key, v_text,
            'Give an interval such as "7 days", or "forever".', null);
    end if;
    return sisyphus._retention_class(v_interval);
end
$$;
comment on function sisyphus._retention_days(text, jsonb, text) is
    'The retention class of one key of retention; null: not given; raises 22023';

-- Seven days from p_now on, so that a result still finds its partition when no tick comes for a week.
create or replace function sisyphus._due_partitions(p_now timestamptz)
returns table (class integer, name text, lower_bound text, upper_bound text)
language sql
stable
strict
parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select c.class,
           format('attempt_%s_%s', c.class, to_char(d.lower_at, c.name_format)),
           to_char(d.lower_at, 'YYYY-MM-DD"T00:00Z"'),
           to_char(d.lower_at + c.width, 'YYYY-MM-DD"T00:00Z"')
      from (values (1, 'day', interval '1 day', 'YYYYMMDD'),
                   (7, 'day', interval '1 day', 'YYYYMMDD'),
                   (30, 'week', interval '7 days', 'IYYY"w"IW'),
                   (90, 'week', interval '7 days', 'IYYY"w"IW'),
                   (400, 'month', interval '1 month', 'YYYYMM'),
                   (0, 'month', interval '1 month', 'YYYYMM')) c (class, unit, width, name_format)
           cross join lateral generate_series(date_trunc(c.unit, p_now at time zone 'UTC'),
                                              p_now at time zone 'UTC' + interval '7 days', c.width) d (lower_at)
$$;
comment on function sisyphus._due_partitions(timestamptz) is
    'Partitions of table attempt that must exist at a moment: those of the seven days from it on';

-- CREATE TABLE ... PARTITION OF would wait behind an open SELECT and stop every INSERT meanwhile; a table that is made
-- on its own and attached needs no more than SHARE UPDATE EXCLUSIVE on its class.
create or replace function sisyphus._add_partitions(p_class integer, p_now timestamptz) returns integer
language plpgsql
volatile
strict
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_due record;
    v_made integer := 0;
begin
    for v_due in
        select d.name, d.lower_bound, d.upper_bound
          from sisyphus._due_partitions(p_now) d
         where d.class = p_class and to_regclass('sisyphus.' || d.name) is null
         order by d.lower_bound
    loop
        -- Dynamic, because names and bounds of partitions follow the calendar.
        execute format('create table sisyphus.%I (like sisyphus.attempt including all excluding comments)', v_due.name);
        -- No key tells its rows apart, and without an identity an update fails where all tables are published. It costs
        -- nothing while none is.
        execute format('alter table sisyphus.%I replica identity full', v_due.name);
        execute format('alter table sisyphus.%I attach partition sisyphus.%I for values from (%L) to (%L)',
                       'attempt_' || p_class, v_due.name, v_due.lower_bound, v_due.upper_bound);
        v_made := v_made + 1;
    end loop;
    return v_made;
end;
$$;
comment on function sisyphus._add_partitions(integer, timestamptz) is
    'Makes and attaches the missing partitions of a class; how many it made';

-- Two callers meet at the lock of a class, and the second finds nothing left to do. Ahead of time nobody waits there (an
-- ANALYZE of the whole history may hold it for minutes), and nothing that is in the way stops a tick: the next one tries again.
-- locks: attempt_<class> share update exclusive, only when a partition is missing.
create or replace function sisyphus._ensure_partitions(p_now timestamptz) returns integer
language plpgsql
volatile
strict
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_utc constant timestamp := p_now at time zone 'UTC';
    v_today constant boolean := to_regclass('sisyphus.attempt_1_' || to_char(v_utc, 'YYYYMMDD')) is not null;
    v_class integer;
    v_made integer := 0;
begin
    -- The tick's usual case. Class 1 is made last, so its first and last day speak for all.
    if v_today and to_regclass('sisyphus.attempt_1_' || to_char(v_utc + interval '7 days', 'YYYYMMDD')) is not null then
        return 0;
    end if;
    -- A subtransaction in the tick, but only once a day.
    begin
        foreach v_class in array '{7,30,90,400,0,1}'::integer[] loop
            continue when not exists (
                select from sisyphus._due_partitions(p_now) d
                 where d.class = v_class and to_regclass('sisyphus.' || d.name) is null);
            -- Dynamic, because the class is a table.
            execute format('lock table only sisyphus.%I in share update exclusive mode%s', 'attempt_' || v_class,
                           case when v_today then ' nowait' else '' end);
            v_made := v_made + sisyphus._add_partitions(v_class, p_now);
        end loop;
    -- A lock, a full disk, a table of that name or an overlapping range, a trigger of the database on such statements.
    exception when lock_not_available or insufficient_resources or system_error or syntax_error_or_access_rule_violation
                or plpgsql_error then
        if not v_today then
            raise;
        end if;
        if sqlstate <> '55P03' then
            raise warning 'the history of the days to come cannot be made: %', sqlerrm
                using hint = 'Each tick tries again; when today has none, nothing runs any more.';
        end if;
        return 0;
    end;
    return v_made;
end;
$$;
comment on function sisyphus._ensure_partitions(timestamptz) is
    'Makes and attaches the partitions of table attempt that are missing for the next seven days; how many it made';

-- A drop needs ACCESS EXCLUSIVE on the class, and whoever waits for that stops every INSERT behind it. So it waits 50 ms
-- and no more, once a class; what is busy is left for the next call.
-- locks: attempt_<class> access exclusive, until the caller's transaction ends: call it on its own.
create or replace function sisyphus._drop_partitions(p_now timestamptz)
returns table (relation text, outcome text)
language plpgsql
volatile
strict
parallel unsafe
set search_path = pg_catalog, pg_temp
-- Bounds are read back from their text.
set datestyle = 'ISO, YMD'
set lock_timeout = '50ms'
as $$
declare
    v_class integer;
    v_busy_class integer := -1;
begin
    for v_class, relation in
        select c.class, p.relname
          from unnest('{1,7,30,90,400}'::integer[]) c (class)
               join pg_inherits i on i.inhparent = to_regclass('sisyphus.attempt_' || c.class)
               join pg_class p on p.oid = i.inhrelid
         where substring(pg_get_expr(p.relpartbound, p.oid) from ' TO [(]''(.+)''[)]$')::timestamptz
               <= p_now - make_interval(days => c.class)
         order by c.class, p.relname
    loop
        outcome := 'busy';
        if v_class <> v_busy_class then
            begin
                -- Dynamic, because partitions are named by the calendar.
                execute format('drop table sisyphus.%I', relation);
                outcome := 'dropped';
            exception when lock_not_available then
                v_busy_class := v_class;
            end;
        end if;
        return next;
    end loop;
end;
$$;
comment on function sisyphus._drop_partitions(timestamptz) is
    'Drops partitions of table attempt that are wholly older than their class; busy ones are left';

-- Each start of a guardian makes a row, from a crontab line one a minute.
-- locks: ended guardians that own nothing.
create or replace function sisyphus._forget_guardians(p_now timestamptz, p_limit integer) returns bigint
language sql
volatile
strict
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
    with forgotten as (
        select g.guardian_id
          from sisyphus.guardian g
         where g.ended_at < p_now - interval '7 days'
           and exists (select from sisyphus.guardian later
                        where later.host_id = g.host_id and later.guardian_id > g.guardian_id)
           and not exists (select from sisyphus.run r where r.guardian_id = g.guardian_id)
           and not exists (select from sisyphus.request q where q.guardian_id = g.guardian_id)
         order by g.guardian_id
         limit p_limit
           for update of g skip locked
    ), deleted as (
        delete from sisyphus.guardian g using forgotten f where g.guardian_id = f.guardian_id returning g.guardian_id
    )
    select count(*) from deleted
$$;
comment on function sisyphus._forget_guardians(timestamptz, integer) is
    'Deletes guardians that ended a week ago and were followed by others, at most so many; how many it deleted';

-- The oldest are those with the lowest numbers, nearly, so no index on the time is needed.
create or replace function sisyphus._forget_audit(p_now timestamptz, p_limit integer) returns bigint
language sql
volatile
strict
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
    with deleted as (
        delete from sisyphus.audit a
         using (select l.audit_id, l.at from sisyphus.audit l order by l.audit_id limit p_limit) o, sisyphus.setting s
         where a.audit_id = o.audit_id and p_now - o.at > s.retention_audit
        returning a.audit_id)
    select count(*) from deleted
$$;
comment on function sisyphus._forget_audit(timestamptz, integer) is
    'Deletes entries of the audit log that are older than retention_audit, at most so many; how many it deleted';

-- Definer: callers own no partition.
create or replace function sisyphus.maintain()
returns table (relation text, outcome text)
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now constant timestamptz := sisyphus._clock();
begin
    -- As for tick().
    perform set_config('idle_in_transaction_session_timeout', '5s', true);
    perform sisyphus._ensure_partitions(v_now);
    perform sisyphus._forget_guardians(v_now, 10000);
    perform sisyphus._forget_audit(v_now, 10000);
    return query select d.relation, d.outcome from sisyphus._drop_partitions(v_now) d;
end;
$$;
comment on function sisyphus.maintain() is
    'Drops history and audit log that are older than their retention; one row a partition of the history: dropped, or busy and left for the next call. Call it about once an hour, in a transaction of its own';

grant execute on function sisyphus.maintain() to sisyphus_admin, sisyphus_guardian;
