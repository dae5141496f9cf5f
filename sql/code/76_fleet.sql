-- What an operator wants of hosts, who may act for them, and the settings of the installation.

-- The row of host is not the caller's to change: in a transaction that stays open it would keep the host's guardian
-- from registering.
create or replace function sisyphus._ask_host(p_host_id bigint, p_now timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into sisyphus.request (action, role_name, requested_at) values ('host', sisyphus._caller(), p_now);
    perform sisyphus._wake_host(p_host_id);
end
$$;
comment on function sisyphus._ask_host(bigint, timestamptz) is 'Has a host''s order carried over to it, by its own next claim or whoever comes first';

-- locks: request and host, by SKIP LOCKED; what is locked stays for the next pass.
create or replace function sisyphus._apply_orders()
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_request_ids bigint[];
begin
    select array_agg(l.request_id) into v_request_ids
      from (select q.request_id from sisyphus.request q
             where q.guardian_id is null and q.job_id is null and q.action = 'host' for update skip locked) l;
    if v_request_ids is null then
        return;
    end if;
    with ordered as materialized (
        select h.host_id, o.state, coalesce(o.slots, h.slots) as slots
          from sisyphus.host h
          join sisyphus.host_order o on o.host_id = h.host_id
         where (h.state, h.slots) <> (o.state, coalesce(o.slots, h.slots))
         order by h.host_id
           for no key update of h skip locked)
    update sisyphus.host h set state = o.state, slots = o.slots from ordered o where h.host_id = o.host_id;
    delete from sisyphus.request q
     where q.request_id = any(v_request_ids)
       and not exists (select from sisyphus.host h
                         join sisyphus.host_order o on o.host_id = h.host_id
                        where (h.state, h.slots) <> (o.state, coalesce(o.slots, h.slots)));
end
$$;
comment on function sisyphus._apply_orders() is 'Carries committed orders over to their hosts';

create or replace function sisyphus._set_host_state(p_action text, p_name text, p_state text)
returns boolean
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now constant timestamptz := sisyphus._clock();
    v_host_id constant bigint := (sisyphus._require_host(p_name)).host_id;
    v_before constant text := coalesce((select o.state from sisyphus.host_order o where o.host_id = v_host_id), 'active');
begin
    if v_before <> p_state then
        insert into sisyphus.host_order as o (host_id, state) values (v_host_id, p_state)
            on conflict on constraint host_order_pkey do update set state = excluded.state;
        perform sisyphus._ask_host(v_host_id, v_now);
    end if;
    perform sisyphus._audit(p_action, p_name, jsonb_build_object('state', v_before), jsonb_build_object('state', p_state), v_now);
    return v_before <> p_state;
end
$$;
comment on function sisyphus._set_host_state(text, text, text) is 'Makes a host active or draining; false when it is already';

create or replace function sisyphus.drain_host(name text)
returns boolean
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return sisyphus._set_host_state('drain_host', drain_host.name, 'draining');
end
$$;
comment on function sisyphus.drain_host(text) is
    'A host finishes what it runs and claims nothing new; false when it is draining already';

create or replace function sisyphus.activate_host(name text)
returns boolean
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return sisyphus._set_host_state('activate_host', activate_host.name, 'active');
end
$$;
comment on function sisyphus.activate_host(text) is 'A drained host claims again; false when it is active already';

create or replace function sisyphus.set_slots(host text, n integer)
returns void
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now constant timestamptz := sisyphus._clock();
    v_host constant sisyphus.host := sisyphus._require_host(set_slots.host);
    v_before integer;
begin
    if set_slots.n not between 0 and 10000 then
        perform sisyphus._raise_argument(format('host "%s"', set_slots.host), 'n', set_slots.n::text,
            'Give 0 to 10000, or null for what its guardian says.', null);
    end if;
    select o.slots into v_before from sisyphus.host_order o where o.host_id = v_host.host_id;
    insert into sisyphus.host_order as o (host_id, slots) values (v_host.host_id, set_slots.n)
        on conflict on constraint host_order_pkey do update set slots = excluded.slots;
    perform sisyphus._ask_host(v_host.host_id, v_now);
    perform sisyphus._audit('set_slots', v_host.name, jsonb_build_object('slots', coalesce(v_before, v_host.slots)),
                            jsonb_build_object('slots', set_slots.n), v_now);
end
$$;
comment on function sisyphus.set_slots(text, integer) is
    'How many runs a host takes at once, whatever its guardian says; null: what the guardian says at its next start';

create or replace function sisyphus.forget_host(name text)
returns void
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now constant timestamptz := sisyphus._clock();
    v_host constant sisyphus.host := sisyphus._require_host(forget_host.name);
    v_held bigint;
begin
    if exists (select from sisyphus.guardian g
                where g.host_id = v_host.host_id and g.ended_at is null and g.lease_until > v_now) then
        raise exception 'host "%" has a living guardian', forget_host.name
            using errcode = '55000', hint = 'Stop its guardian first; to keep new work away, call drain_host().';
    end if;
    select count(*) into v_held from sisyphus.run r where r.host_id = v_host.host_id;
    if v_held > 0 then
        raise exception 'host "%" still holds % runs', forget_host.name, v_held
            using errcode = '55000', hint = 'Wait for the next tick, which gives them up as lost.';
    end if;
    -- Runs for this host alone would wait for ever.
    insert into sisyphus.request (action, run_id, role_name, requested_at, reason)
    select 'cancel', r.run_id, sisyphus._caller(), v_now, format('host "%s" was forgotten', v_host.name)
      from sisyphus.run r
     where r.lane_id = v_host.host_id;
    delete from sisyphus.host h where h.host_id = v_host.host_id;
    perform sisyphus._wake_planner(v_now);
    perform sisyphus._audit('forget_host', v_host.name, to_jsonb(v_host) - 'host_key', null, v_now);
end
$$;
comment on function sisyphus.forget_host(text) is
    'Removes a host that is gone; its runs that wait are cancelled. It may register again';

create or replace function sisyphus.bind_guardian(role name, host text, pools text[] default '{}', labels jsonb default '{}')
returns void
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_pool text;
    v_before jsonb;
begin
    if not exists (select from pg_roles r where r.rolname = bind_guardian.role) then
        raise exception 'role "%" does not exist', bind_guardian.role
            using errcode = '42704', hint = format('Make it first: create role %s login in role sisyphus_guardian.',
                                                   coalesce(quote_ident(bind_guardian.role), 'web1'));
    end if;
    perform sisyphus._check_host_names(format('role "%s"', bind_guardian.role), array[bind_guardian.host]);
    foreach v_pool in array coalesce(bind_guardian.pools, '{}') loop
        perform sisyphus._require_pool(v_pool);
    end loop;
    if coalesce(jsonb_typeof(bind_guardian.labels), 'object') <> 'object' then
        perform sisyphus._raise_argument(format('role "%s"', bind_guardian.role), 'labels', bind_guardian.labels::text,
            'Give an object such as {"role": "web"}.', null);
    end if;
    select to_jsonb(b) into v_before from sisyphus.guardian_binding b
     where b.role_name = bind_guardian.role and b.host_name = bind_guardian.host;
    insert into sisyphus.guardian_binding as b (role_name, host_name, pools, labels)
    values (bind_guardian.role, bind_guardian.host, coalesce(bind_guardian.pools, '{}'), coalesce(bind_guardian.labels, '{}'))
        on conflict on constraint guardian_binding_pkey do update set pools = excluded.pools, labels = excluded.labels;
    if not pg_has_role(bind_guardian.role, 'sisyphus_guardian', 'member') then
        raise notice 'role "%" is not a member of sisyphus_guardian', bind_guardian.role
            using hint = format('Grant it: grant sisyphus_guardian to %I.', bind_guardian.role);
    end if;
    perform sisyphus._audit('bind_guardian', bind_guardian.role, v_before, jsonb_build_object(
        'host', bind_guardian.host, 'pools', bind_guardian.pools, 'labels', bind_guardian.labels), sisyphus._clock());
end
$$;
comment on function sisyphus.bind_guardian(name, text, text[], jsonb) is
    'Lets a login act for a host (* for any), in these pools and with these labels; replaces an earlier binding of the two';

create or replace function sisyphus.set_setting(name text, value text)
returns void
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
set intervalstyle = 'postgres'
as $$
declare
    v_names constant text[] := array(
        select a.attname::text from pg_attribute a
         where a.attrelid = 'sisyphus.setting'::regclass and a.attnum > 0 and not a.attisdropped and a.attname <> 'only_row'
         order by a.attname);
    v_before jsonb;
    v_rule text;
begin
    if coalesce(set_setting.name, '') <> all (v_names) then
        perform sisyphus._raise_argument('setting', 'name', coalesce(set_setting.name, 'null'), null, v_names);
    elsif set_setting.value is null then
        perform sisyphus._raise_argument('setting', set_setting.name, 'null', 'Give a value; view sisyphus.settings shows the defaults.', null);
    elsif set_setting.name = 'default_timezone' then
        perform sisyphus._check_timezone(set_setting.value);
    end if;
    select to_jsonb(s) -> set_setting.name into v_before from sisyphus.setting s;
    begin
        if set_setting.name ~ '^retention_' and set_setting.value::interval <= '0 s' then
            perform sisyphus._raise_argument('setting', set_setting.name, set_setting.value, 'Give an interval such as "30 days".', null);
        end if;
        -- The column is the argument; its name has been checked against the catalogue.
        execute format('update sisyphus.setting set %1$I = (jsonb_populate_record(null::sisyphus.setting, jsonb_build_object(%1$L, $1))).%1$I',
                       set_setting.name) using set_setting.value;
    exception
        when check_violation then
            get stacked diagnostics v_rule = constraint_name;
            select regexp_replace(pg_get_constraintdef(c.oid), 'CHECK |::[a-z_]+|[()]', '', 'g') into v_rule
              from pg_constraint c where c.conrelid = 'sisyphus.setting'::regclass and c.conname = v_rule;
            perform sisyphus._raise_argument('setting', set_setting.name, set_setting.value,
                                             format('It must hold that %s.', v_rule), null);
        when invalid_datetime_format or datetime_field_overflow or interval_field_overflow or invalid_text_representation
             or numeric_value_out_of_range then
            perform sisyphus._raise_argument('setting', set_setting.name, set_setting.value,
                                             'Give an interval such as "5 s", a number or a word, as view sisyphus.settings shows it.', null);
    end;
    if set_setting.name in ('lease_timeout', 'heartbeat') then
        select format('Job "%s" is fenced with a grace of %s: lease_timeout less three heartbeats must not be shorter.',
                      j.name, sisyphus._duration_text(j.grace)) into v_rule
          from sisyphus.job j, sisyphus.setting s
         where j.deleted_at is null and j.fenced and j.grace > s.lease_timeout - 3 * s.heartbeat
         order by j.grace desc
         limit 1;
        if found then
            perform sisyphus._raise_argument('setting', set_setting.name, set_setting.value, v_rule, null);
        end if;
    end if;
    perform sisyphus._audit('set_setting', set_setting.name, v_before, to_jsonb(set_setting.value), sisyphus._clock());
end
$$;
comment on function sisyphus.set_setting(text, text) is 'Changes a setting of the installation; guardians learn it at their next start';

grant execute on function sisyphus.drain_host, sisyphus.activate_host, sisyphus.set_slots to sisyphus_operator, sisyphus_admin;
grant execute on function sisyphus.forget_host, sisyphus.bind_guardian, sisyphus.set_setting to sisyphus_admin;
