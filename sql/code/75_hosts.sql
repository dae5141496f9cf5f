-- Pools. Membership is kept ready for the claim in host.lanes. That follows at registration and, after a pool has
-- changed, with the next tick: a caller who updated rows of host would keep a guardian from registering.

create or replace function sisyphus._lanes_of(p_host sisyphus.host)
returns bigint[]
language sql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
    select array_agg(l.lane_id order by l.lane_id)
      from (select (p_host).host_id as lane_id
            union all
            select p.pool_id
              from sisyphus.pool p
             where p.name = 'default' or (p_host).labels @> p.selector
                or exists (select from sisyphus.pool_member m
                            where m.pool_id = p.pool_id and m.host_name = (p_host).name)) l;
$$;
comment on function sisyphus._lanes_of(sisyphus.host) is
    'Lanes of a host: its own, pool default, pools that list it or whose selector its labels satisfy';

-- locks: host, by SKIP LOCKED; a locked one is left to the next call.
create or replace function sisyphus._refresh_lanes(p_host_id bigint default null)
returns integer
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_count integer;
begin
    with stale as materialized (
        select h.host_id
          from sisyphus.host h
         where (p_host_id is null or h.host_id = p_host_id) and h.lanes is distinct from sisyphus._lanes_of(h)
         order by h.host_id
           for no key update skip locked)
    update sisyphus.host h set lanes = sisyphus._lanes_of(h) from stale s where h.host_id = s.host_id;
    get diagnostics v_count = row_count;
    return v_count;
end
$$;
comment on function sisyphus._refresh_lanes(bigint) is 'Brings host.lanes in line with pools, of one host or all; returns how many have changed';

create or replace function sisyphus._ask_lanes(p_now timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Job 0 is none: it is the pools that were defined.
    insert into sisyphus.request (action, job_id, role_name, requested_at) values ('define', 0, sisyphus._caller(), p_now);
    perform sisyphus._wake_planner(p_now);
end
$$;
comment on function sisyphus._ask_lanes(timestamptz) is 'Tells the planner that pools have changed; wakes one guardian to tick';

-- Once in a while without being asked: a host that registers while a pool is changed sees the old pool, and the tick
-- after that change does not see the host.
create or replace function sisyphus._apply_pools(p_anyway boolean)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    delete from sisyphus.request q
     using (select r.request_id from sisyphus.request r
             where r.guardian_id is null and r.action = 'define' and r.job_id = 0
               for update skip locked) l
     where q.request_id = l.request_id;
    if found or p_anyway then
        perform sisyphus._refresh_lanes();
    end if;
end
$$;
comment on function sisyphus._apply_pools(boolean) is 'Brings host.lanes in line after pools have changed, or anyway';

create or replace function sisyphus._notice_unknown(p_pool text, p_hosts text[])
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_unknown text;
begin
    select string_agg(w, ', ' order by w) into v_unknown
      from unnest(p_hosts) w
     where not exists (select from sisyphus.host h where h.name = w);
    if v_unknown is not null then
        raise notice 'pool "%" lists hosts that have not registered yet: %', p_pool, v_unknown
            using hint = 'They join when their guardian starts.';
    end if;
end
$$;
comment on function sisyphus._notice_unknown(text, text[]) is 'Gives a NOTICE for hosts that have not registered';

create or replace function sisyphus._check_host_names(p_what text, p_hosts text[])
returns void
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_bad text;
begin
    select coalesce(w, 'null') into v_bad
      from unnest(p_hosts) w
     where not sisyphus._is_name(w, 63)
     limit 1;
    if found then
        perform sisyphus._raise_argument(p_what, 'host', v_bad, 'Give 1 to 63 printable characters, no blank at either end.', null);
    end if;
end
$$;
comment on function sisyphus._check_host_names(text, text[]) is 'raises 22023 for a name that no host can have';

create or replace function sisyphus.create_pool(
    name text, hosts text[] default '{}', selector jsonb default null, description text default null)
returns bigint
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now constant timestamptz := sisyphus._clock();
    v_what constant text := format('pool "%s"', create_pool.name);
    v_pool_id bigint;
    v_before jsonb;
begin
    if not sisyphus._is_name(create_pool.name, 63) then
        raise exception 'pool name "%" is not allowed', coalesce(sisyphus._excerpt(create_pool.name), '')
            using errcode = '22023', hint = 'Give 1 to 63 printable characters, no blank at either end.';
    elsif create_pool.name = 'default' then
        raise exception 'pool "default" always has every host'
            using errcode = '55000', hint = 'Make a pool of another name.';
    elsif jsonb_typeof(create_pool.selector) <> 'object' or create_pool.selector = '{}' then
        perform sisyphus._raise_argument(v_what, 'selector', create_pool.selector::text,
            'Give the labels that its hosts have: {"role": "web"}.', null);
    end if;
    perform sisyphus._check_host_names(v_what, create_pool.hosts);
    select jsonb_build_object('selector', p.selector, 'description', p.description, 'hosts', array(
               select m.host_name from sisyphus.pool_member m where m.pool_id = p.pool_id order by m.host_name))
      into v_before
      from sisyphus.pool p where p.name = create_pool.name;
    insert into sisyphus.pool as p (name, selector, description)
    values (create_pool.name, create_pool.selector, create_pool.description)
        on conflict on constraint pool_name_key do update set selector = excluded.selector, description = excluded.description
    returning p.pool_id into v_pool_id;
    delete from sisyphus.pool_member m where m.pool_id = v_pool_id and m.host_name <> all (coalesce(create_pool.hosts, '{}'));
    insert into sisyphus.pool_member (pool_id, host_name)
    select v_pool_id, w from unnest(create_pool.hosts) w on conflict do nothing;
    perform sisyphus._ask_lanes(v_now);
    perform sisyphus._notice_unknown(create_pool.name, create_pool.hosts);
    perform sisyphus._audit('create_pool', create_pool.name, v_before, jsonb_build_object(
        'selector', create_pool.selector, 'description', create_pool.description, 'hosts', create_pool.hosts), v_now);
    return v_pool_id;
end
$$;
comment on function sisyphus.create_pool(text, text[], jsonb, text) is
    'Makes a pool of listed hosts, of those whose labels contain the selector, or both; replaces one of that name. Returns its pool_id';

create or replace function sisyphus.drop_pool(name text)
returns void
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now constant timestamptz := sisyphus._clock();
    v_pool_id constant bigint := sisyphus._require_pool(drop_pool.name);
    v_jobs text;
begin
    if drop_pool.name = 'default' then
        raise exception 'pool "default" cannot be dropped' using errcode = '55000', hint = 'Every host is in it.';
    end if;
    -- A definition call that has not committed holds the row; it is not waited for.
    perform from sisyphus.pool p where p.pool_id = v_pool_id for update skip locked;
    if not found then
        raise exception 'pool "%" is being used by an open transaction', drop_pool.name
            using errcode = '55006', hint = 'Try again when that transaction has ended.';
    end if;
    select string_agg(format('"%s"', j.name), ', ' order by j.name) into v_jobs
      from sisyphus.job j where j.pool_id = v_pool_id and j.deleted_at is null;
    if v_jobs is not null or exists (select from sisyphus.run r where r.lane_id = v_pool_id) then
        raise exception 'pool "%" is in use', drop_pool.name
            using errcode = '2BP01', detail = coalesce('Jobs: ' || v_jobs || '.', 'Runs of it have not ended.'),
                  hint = case when v_jobs is null then 'Wait for them, or terminate them.'
                              else 'Give these jobs another pool, or unschedule them.' end;
    end if;
    delete from sisyphus.pool p where p.pool_id = v_pool_id;
    perform sisyphus._ask_lanes(v_now);
    perform sisyphus._audit('drop_pool', drop_pool.name, null, null, v_now);
end
$$;
comment on function sisyphus.drop_pool(text) is 'Drops a pool that no job uses';

create or replace function sisyphus._list_host(p_action text, p_pool text, p_host text)
returns boolean
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now constant timestamptz := sisyphus._clock();
    v_pool_id constant bigint := sisyphus._require_pool(p_pool);
    v_is_changed boolean;
begin
    perform sisyphus._check_host_names(format('pool "%s"', p_pool), array[p_host]);
    if p_pool = 'default' then
        raise exception 'pool "default" always has every host' using errcode = '55000', hint = 'Name another pool.';
    end if;
    if p_action = 'add_host' then
        insert into sisyphus.pool_member (pool_id, host_name) values (v_pool_id, p_host) on conflict do nothing;
        v_is_changed := found;
        perform sisyphus._notice_unknown(p_pool, array[p_host]);
    else
        delete from sisyphus.pool_member m where m.pool_id = v_pool_id and m.host_name = p_host;
        v_is_changed := found;
        if exists (select from sisyphus.host h where h.name = p_host and v_pool_id = any(sisyphus._lanes_of(h))) then
            raise notice 'host "%" stays in pool "%": its labels match the selector', p_host, p_pool;
        end if;
    end if;
    perform sisyphus._ask_lanes(v_now);
    perform sisyphus._audit(p_action, p_pool, null, jsonb_build_object('host', p_host, 'changed', v_is_changed), v_now);
    return v_is_changed;
end
$$;
comment on function sisyphus._list_host(text, text, text) is 'Adds a host to the list of a pool or takes it out; false when that changes nothing';

create or replace function sisyphus.add_host(pool text, host text)
returns boolean
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return sisyphus._list_host('add_host', add_host.pool, add_host.host);
end
$$;
comment on function sisyphus.add_host(text, text) is
    'Lists a host in a pool, also one that has not registered yet; false when it was listed already';

create or replace function sisyphus.remove_host(pool text, host text)
returns boolean
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return sisyphus._list_host('remove_host', remove_host.pool, remove_host.host);
end
$$;
comment on function sisyphus.remove_host(text, text) is 'Takes a host out of the list of a pool; false when it was not listed';

grant execute on function sisyphus.create_pool, sisyphus.drop_pool, sisyphus.add_host, sisyphus.remove_host to sisyphus_admin;
