-- Guardians come and go: registration, adoption of what their host holds, leases.

-- locks: run, by SKIP LOCKED. What an ended guardian held and nobody took over.
create or replace function sisyphus._settle_held(
    p_guardian_id bigint, p_host text, p_never_started boolean, p_reason text, p_now timestamptz)
returns integer
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_back bigint[];
    v_lost bigint[];
    v_claims bigint[];
    v_reasons text[];
begin
    -- A claimed run may have started unless its time has not come, or its keeper lives and never had it.
    with held as materialized (
        select r.run_id from sisyphus.run r
         where r.guardian_id = p_guardian_id and r.state = 'claimed' and (p_never_started or r.due_at > p_now)
           for no key update skip locked),
    given_back as (
        update sisyphus.run r
           set state = 'waiting', claim_no = null, guardian_id = null, host_id = null, claimed_at = null,
               started_at = null, pid = null, attempt = r.attempt - 1, wake_at = p_now
          from held h
         where r.run_id = h.run_id
        returning r.run_id)
    select array_agg(g.run_id) into v_back from given_back g;
    if v_back is not null then
        perform sisyphus._give_back(v_back, p_now);
    end if;
    select array_agg(r.run_id), array_agg(r.claim_no),
           array_agg(case r.state when 'claimed' then p_reason || ' (may have started)' else p_reason end)
      into v_lost, v_claims, v_reasons
      from sisyphus.run r
     where r.guardian_id = p_guardian_id;
    if v_lost is not null then
        v_lost := sisyphus._finish_runs(p_guardian_id, p_host, v_lost, v_claims, null, null,
                                        array_fill('keeper'::text, array[cardinality(v_lost)]), v_reasons,
                                        null, null, null, null, null, null, null, null, false, p_now);
    end if;
    return coalesce(cardinality(v_back), 0) + coalesce(cardinality(v_lost), 0);
end
$$;
comment on function sisyphus._settle_held(bigint, text, boolean, text, timestamptz) is
    'Settles what an ended guardian held: back to waiting when it cannot have started, else lost';

create or replace function sisyphus._check_binding(p_host text, p_pools text[], p_labels jsonb)
returns void
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller constant name := sisyphus._caller();
    v_binding sisyphus.guardian_binding;
    v_pool text;
begin
    -- An admin's login (dev, a first trial) gets what it asks for.
    if sisyphus._caller_is('sisyphus_admin') then
        return;
    end if;
    select b.* into v_binding from sisyphus.guardian_binding b
     where b.role_name = v_caller and b.host_name in (p_host, '*')
     order by b.host_name = '*' limit 1;
    if not found then
        raise exception 'role "%" is not bound to host "%"', v_caller, p_host
            using errcode = '42501',
                  hint = format('An admin can allow it: select sisyphus.bind_guardian(%L, %L).', v_caller, p_host);
    end if;
    foreach v_pool in array p_pools loop
        if v_pool <> all(v_binding.pools) then
            raise exception 'host "%" may not join pool "%"', p_host, v_pool
                using errcode = '42501',
                      hint = format('An admin can grant it with sisyphus.bind_guardian(%L, %L, pools => ...).', v_caller, p_host);
        end if;
    end loop;
    if not (p_labels <@ v_binding.labels) then
        raise exception 'host "%" may not claim these labels', p_host
            using errcode = '42501', detail = format('Asked: %s. Granted: %s.', p_labels, v_binding.labels),
                  hint = format('An admin can grant them with sisyphus.bind_guardian(%L, %L, labels => ...).', v_caller, p_host);
    end if;
end
$$;
comment on function sisyphus._check_binding(text, text[], jsonb) is
    'Whether the caller may act for a host, in these pools, with these labels; raises 42501';

-- Whoever adds or drops the same at this moment, in a transaction that is still open, decides: a registration waits for
-- nobody's.
create or replace function sisyphus._join_pools(p_host text, p_pools text[])
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
set lock_timeout = '50ms'
as $$
declare
    v_pool text;
begin
    foreach v_pool in array p_pools loop
        if not exists (select from sisyphus.pool p where p.name = v_pool) then
            raise exception 'pool "%" does not exist', sisyphus._excerpt(v_pool)
                using errcode = '42704',
                      hint = coalesce('Did you mean "' || sisyphus._nearest(v_pool, array(select p.name from sisyphus.pool p)) || '"?',
                                      format('Make it first: select sisyphus.create_pool(%L).', sisyphus._excerpt(v_pool)));
        end if;
        begin
            insert into sisyphus.pool_member (pool_id, host_name)
            select p.pool_id, p_host from sisyphus.pool p
             where p.name = v_pool and p.name <> 'default'
               and not exists (select from sisyphus.pool_member m where m.pool_id = p.pool_id and m.host_name = p_host)
                on conflict do nothing;
        exception when lock_not_available then
            raise warning 'pool "%" is being changed by another transaction: host "%" did not join it', v_pool, p_host
                using hint = format('When it is over and the host no member: select sisyphus.add_host(%L, %L).', v_pool, p_host);
        end;
    end loop;
end
$$;
comment on function sisyphus._join_pools(text, text[]) is 'Makes a host a listed member of pools';

create or replace function sisyphus._check_registration(
    p_host text, p_slots integer, p_labels jsonb, p_pools text[], p_keepers uuid[], p_held jsonb, p_periodic boolean)
returns void
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_bad record;
begin
    perform sisyphus._check_host_names('guardian', array[p_host]);
    select c.* into v_bad
      from (values
        ('slots', p_slots between 0 and 10000, p_slots::text, 'Give how many runs the host takes at once, 0 to 10000.'),
        ('labels', jsonb_typeof(p_labels) = 'object', p_labels::text, 'Give an object such as {"role": "web"}.'),
        ('pools', p_pools is not null, null, 'Give an array of names of pools, or leave it out.'),
        ('keepers', p_keepers is not null, null, 'Give the keepers of the host, or leave it out.'),
        ('periodic', p_periodic is not null, null, 'Give false, or true for a guardian that leaves after one pass.'),
        ('held', jsonb_typeof(p_held) = 'array' and not exists (
            select from jsonb_array_elements(case jsonb_typeof(p_held) when 'array' then p_held end) e
             where coalesce(jsonb_typeof(e -> 'run_id') <> 'number' or e ->> 'run_id' !~ '^[0-9]{1,18}$'
                            or jsonb_typeof(e -> 'claim_no') <> 'number' or e ->> 'claim_no' !~ '^[0-9]{1,18}$', true)), p_held::text, 'Give an array of objects: [{"run_id": 1, "claim_no": 1}].')
      ) c (argument, valid, found, hint)
     where not coalesce(c.valid, false)
     limit 1;
    if found then
        perform sisyphus._raise_argument(format('host "%s"', p_host), v_bad.argument, coalesce(v_bad.found, 'null'), v_bad.hint, null);
    end if;
end
$$;
comment on function sisyphus._check_registration(text, integer, jsonb, text[], uuid[], jsonb, boolean) is
    'raises 22023 for an argument with which no guardian can register';

create or replace function sisyphus.register_guardian(
    host text, slots integer, labels jsonb default '{}', pools text[] default '{}', version text default null,
    host_key uuid default null, boot_id text default null, keepers uuid[] default '{}', held jsonb default '[]',
    periodic boolean default false)
returns table (guardian_id bigint, host_id bigint, installation uuid, settings jsonb, owned jsonb)
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_now constant timestamptz := sisyphus._clock();
    v_setting sisyphus.setting;
    v_host sisyphus.host;
    v_alive sisyphus.guardian;
    v_earlier sisyphus.guardian;
    v_id bigint;
begin
    perform sisyphus._check_registration(register_guardian.host, register_guardian.slots, register_guardian.labels,
                                         pools, keepers, coalesce(register_guardian.held, '[]'), register_guardian.periodic);
    perform sisyphus._check_binding(register_guardian.host, pools, register_guardian.labels);
    -- As for tick().
    perform set_config('idle_in_transaction_session_timeout', '5s', true);
    perform sisyphus._check_installation(null, v_now);
    perform sisyphus._join_pools(register_guardian.host, pools);
    select s.* into v_setting from sisyphus.setting s;
    insert into sisyphus.host (name) values (register_guardian.host) on conflict (name) do nothing;
    select h.* into v_host from sisyphus.host h where h.name = register_guardian.host for no key update;
    -- locks: guardian before request and run, as a claim does that is still under way.
    perform from sisyphus.guardian g
      where g.host_id = v_host.host_id
        and (g.ended_at is null or exists (select from sisyphus.run r where r.guardian_id = g.guardian_id))
      order by g.guardian_id
        for no key update;
    select g.* into v_alive from sisyphus.guardian g
     where g.host_id = v_host.host_id and g.ended_at is null and g.lease_until > v_now;
    if found and v_host.host_key is distinct from register_guardian.host_key then
        raise exception 'host "%" already has a guardian with another host_key', v_host.name
            using errcode = 'SY402',
                  detail = format('Its lease ends in %s.', sisyphus._duration_text(v_alive.lease_until - v_now)),
                  hint = 'Two machines or two state directories use one host name: give each its own --host.';
    end if;
    update sisyphus.host h
       set slots = coalesce(o.slots, register_guardian.slots), state = coalesce(o.state, 'active'),
           labels = register_guardian.labels, host_key = register_guardian.host_key, boot_id = register_guardian.boot_id,
           registered_at = v_now
      from (select) one
      left join sisyphus.host_order o on o.host_id = v_host.host_id
     where h.host_id = v_host.host_id
    returning h.* into v_host;
    perform sisyphus._refresh_lanes(v_host.host_id);
    perform sisyphus._ensure_partitions(v_now);
    insert into sisyphus.guardian (host_id, role_name, version, keepers, periodic, registered_at, seen_at, lease_until)
    values (v_host.host_id, sisyphus._caller(), register_guardian.version, keepers, register_guardian.periodic,
            v_now, v_now, v_now + v_setting.lease_timeout)
    returning guardian.guardian_id into v_id;
    -- What the host's keepers hold passes to the new guardian; a process without a start report has started.
    update sisyphus.run r
       set guardian_id = v_id, state = 'running', started_at = coalesce(r.started_at, r.claimed_at), withdrawn = null
      from jsonb_to_recordset(register_guardian.held) o (run_id bigint, claim_no bigint)
     where r.run_id = o.run_id and r.claim_no = o.claim_no and r.host_id = v_host.host_id;
    update sisyphus.request q
       set guardian_id = v_id
      from sisyphus.run r
     where r.guardian_id = v_id and q.run_id = r.run_id and q.guardian_id is not null;
    for v_earlier in
        update sisyphus.guardian g
           set ended_at = coalesce(g.ended_at, v_now), ended_as = coalesce(g.ended_as, 'superseded')
         where g.host_id = v_host.host_id and g.guardian_id <> v_id
           and (g.ended_at is null or exists (select from sisyphus.run r where r.guardian_id = g.guardian_id))
        returning g.*
    loop
        -- Only the first of its keepers was told to start anything.
        perform sisyphus._settle_held(
            v_earlier.guardian_id, v_host.name,
            coalesce(v_earlier.keepers[1] = any (register_guardian.keepers), false),
            format('the keeper of host "%s" no longer has it', v_host.name), v_now);
    end loop;
    return query
        select v_id, v_host.host_id, i.installation_id,
               jsonb_build_object('heartbeat', extract(epoch from v_setting.heartbeat),
                                  'lease_timeout', extract(epoch from v_setting.lease_timeout),
                                  'claim_ahead', extract(epoch from v_setting.claim_ahead),
                                  'slots', v_host.slots, 'now_us', sisyphus._epoch_us(sisyphus._clock())),
               coalesce((select jsonb_agg(o.value order by o.ordinality)
                           from jsonb_array_elements(register_guardian.held) with ordinality o
                          where exists (select from sisyphus.run r
                                         where r.guardian_id = v_id and r.run_id = (o.value ->> 'run_id')::bigint
                                           and r.claim_no = (o.value ->> 'claim_no')::bigint)), '[]')
          from sisyphus.installation i;
end
$$;
comment on function sisyphus.register_guardian(text, integer, jsonb, text[], text, uuid, text, uuid[], jsonb, boolean) is
    'Signs a guardian on for a host, hands it what the host''s keepers hold and settles the rest; of keepers the first is the one that starts runs; raises 42501 (not bound), SY402 (another machine has that name) and SY001 (a copy that was not adopted)';
grant execute on function sisyphus.register_guardian(text, integer, jsonb, text[], text, uuid, text, uuid[], jsonb, boolean) to sisyphus_guardian, sisyphus_admin;

create or replace function sisyphus.sign_off(guardian_id bigint)
returns void
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_now constant timestamptz := sisyphus._clock();
    v_me constant bigint := sign_off.guardian_id;
begin
    perform sisyphus._check_guardian(v_me);
    -- locks: guardian before job_state, as its finish does that is still under way.
    perform from sisyphus.guardian g where g.guardian_id = v_me for no key update;
    -- A claim that is due may have started unreported: its guardian gives it back itself when it knows better.
    perform sisyphus.release_job(v_me, array_agg(r.run_id), array_agg(r.claim_no), 'given back: the guardian stopped')
       from sisyphus.run r
      where r.guardian_id = v_me and r.state = 'claimed' and r.due_at > v_now
     having count(*) > 0;
    update sisyphus.guardian g
       set ended_at = v_now, ended_as = 'stopped', slots_free = 0
     where g.guardian_id = v_me;
end
$$;
comment on function sisyphus.sign_off(bigint) is
    'Ends a guardian in order: runs that are not yet due go back; running ones wait a lease for the next guardian of the host';
grant execute on function sisyphus.sign_off(bigint) to sisyphus_guardian, sisyphus_admin;

-- Leases run only while ticks run: after a gap nobody is declared lost because the database was away.
create or replace function sisyphus._reap(p_last_tick_at timestamptz, p_now timestamptz, p_limit integer default 100)
returns integer
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_setting constant sisyphus.setting := sisyphus._setting();
    v_gone record;
    v_message text;
    v_count integer := 0;
begin
    if p_last_tick_at is null or p_now - p_last_tick_at > 2 * v_setting.heartbeat then
        -- A row that is locked is just being renewed, and hosts register while they wait for runs that are locked here.
        update sisyphus.guardian g
           set lease_until = p_now + v_setting.lease_timeout
          from (select l.guardian_id from sisyphus.guardian l
                 where l.ended_at is null or exists (select from sisyphus.run r where r.guardian_id = l.guardian_id)
                   for no key update skip locked) l
         where g.guardian_id = l.guardian_id;
        return 0;
    end if;
    for v_gone in
        select g.guardian_id, h.name, g.ended_at is null as was_alive
          from sisyphus.guardian g
          join sisyphus.host h on h.host_id = g.host_id
         where g.lease_until <= p_now
           and (g.ended_at is null or exists (select from sisyphus.run r where r.guardian_id = g.guardian_id))
         order by g.guardian_id
         limit p_limit
           for no key update of g skip locked
    loop
        if v_gone.was_alive then
            update sisyphus.guardian g set ended_at = p_now, ended_as = 'lost', slots_free = 0
             where g.guardian_id = v_gone.guardian_id;
        end if;
        -- One run that cannot be recorded must not keep the others from being given up, nor end the tick.
        begin
            v_count := v_count + 1 + sisyphus._settle_held(
                v_gone.guardian_id, v_gone.name, false, format('host "%s" was not heard of for %s', v_gone.name,
                                                               sisyphus._duration_text(v_setting.lease_timeout)), p_now);
        exception when data_exception or integrity_constraint_violation then
            get stacked diagnostics v_message = message_text;
            raise warning 'what host "%" held cannot be settled: %', v_gone.name, v_message
                using hint = 'The next tick tries again.';
        end;
    end loop;
    return v_count;
end
$$;
comment on function sisyphus._reap(timestamptz, timestamptz, integer) is
    'Declares guardians lost whose lease ran out and settles their runs; after a gap in ticking renews all leases instead';
