-- Which cluster and database this installation lives in. A restored or cloned database must not run its jobs until a
-- person has said so: nothing is planned, claimed or finished there (SY001) until adopt_installation().

-- Cheap, because each claim and each finish asks: whatever was copied to another cluster, promoted or restored as files
-- has another postmaster, and what was restored in place stands behind what its guardians saw.
create or replace function sisyphus._is_home(p_seen_tick_at timestamptz)
returns boolean
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    return (select i.server_started_at = pg_postmaster_start_time()
                   and i.database_oid = (select d.oid from pg_database d where d.datname = current_database())
                   and coalesce(greatest(i.seen_tick_at, p_seen_tick_at)
                                <= coalesce(p.newest_tick_at, '-infinity') + interval '5 min', true)
              from sisyphus.installation i, sisyphus.planner p);
end
$$;
comment on function sisyphus._is_home(timestamptz) is
    'Whether the server and database are those of the last look, and no guardian has seen a much later tick';

-- Definer: views and explain() ask as the reader.
create or replace function sisyphus._installation_problem(p_seen_tick_at timestamptz default null)
returns text
language sql
stable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
as $$
    select 'installation not adopted: '
           || case when c.system_identifier <> i.system_identifier
                   then format('this is a copy in another cluster (%s, it was installed in %s)',
                               c.system_identifier, i.system_identifier)
                   when d.oid <> i.database_oid
                   then format('this is a copy of database "%s" in the same cluster', i.database_name)
                   else format('it was restored: its last tick was at %s, a guardian has seen one at %s',
                               coalesce(to_char(p.newest_tick_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'), 'no time'),
                               to_char(s.seen_tick_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"')) end
      from sisyphus.installation i
           cross join sisyphus.planner p
           cross join pg_control_system() c
           join pg_database d on d.datname = current_database()
           cross join lateral (select greatest(i.seen_tick_at, p_seen_tick_at) as seen_tick_at) s
     where c.system_identifier <> i.system_identifier
        or d.oid <> i.database_oid
        or s.seen_tick_at > coalesce(p.newest_tick_at, '-infinity') + interval '5 min'
$$;
comment on function sisyphus._installation_problem(timestamptz) is
    'Why nothing is planned and claimed here before adopt_installation(); null: this is the installation';

-- Raised, because an asynchronous standby, and even more a backup, may not know the last numbers that were given out.
-- A thousand a second is more than a fleet keeps up for the hours that a backup is old.
create or replace function sisyphus._start_anew(p_behind interval, p_now timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_raise constant bigint := 1000000 + 1000 * greatest(0, extract(epoch from coalesce(p_behind, '0'))::bigint);
begin
    perform setval('sisyphus.run_id_seq', s.last_value + v_raise) from sisyphus.run_id_seq s;
    perform setval('sisyphus.claim_no_seq', s.last_value + v_raise) from sisyphus.claim_no_seq s;
    update sisyphus.guardian g
       set lease_until = p_now + (sisyphus._setting()).lease_timeout
     where g.ended_at is null or exists (select from sisyphus.run r where r.guardian_id = g.guardian_id);
    -- Transactions of another server: one here may have the same number.
    update sisyphus.lane_floor f set candidate = null, candidate_after = null where f.candidate is not null;
end
$$;
comment on function sisyphus._start_anew(interval, timestamptz) is
    'What a server that may have lost its last transactions needs: higher numbers, new leases';

-- What tells the servers of a failover apart; never read on a standby, where nobody may write.
create or replace function sisyphus._timeline()
returns text
language sql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
    select substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)
$$;
comment on function sisyphus._timeline() is 'Timeline that the server writes, as in the names of WAL files';

-- locks: installation, only when the server is another one than at the last look; whoever comes first settles it.
create or replace function sisyphus._check_installation(p_seen_tick_at timestamptz, p_now timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_known sisyphus.installation;
    v_problem text;
begin
    if sisyphus._is_home(p_seen_tick_at) then
        return;
    end if;
    v_problem := sisyphus._installation_problem(p_seen_tick_at);
    if v_problem is not null then
        raise exception '%', v_problem
            using errcode = 'SY001',
                  detail = 'Nothing is planned, claimed or started here, so that no job runs twice.',
                  hint = 'If the original is gone for good, an admin calls sisyphus.adopt_installation(), or runs sisyphus migrate --adopt.';
    end if;
    -- As for tick().
    perform set_config('idle_in_transaction_session_timeout', '5s', true);
    select i.* into v_known from sisyphus.installation i for no key update;
    if v_known.server_started_at = pg_postmaster_start_time() then
        return;
    end if;
    update sisyphus.installation i
       set server_started_at = pg_postmaster_start_time(), timeline = sisyphus._timeline(), database_name = current_database();
    if v_known.timeline <> sisyphus._timeline() then
        perform sisyphus._start_anew(null, p_now);
    end if;
end
$$;
comment on function sisyphus._check_installation(timestamptz, timestamptz) is
    'Refuses (SY001) in a restored or cloned database; after a failover raises numbers and renews leases, once';

create or replace function sisyphus.note_tick(installation uuid, seen_at timestamptz)
returns boolean
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    -- Nobody has seen the future: told so, no later tick would ever do.
    v_seen_at constant timestamptz := least(note_tick.seen_at, sisyphus._clock());
begin
    if sisyphus._is_home(v_seen_at) then
        return false;
    end if;
    update sisyphus.installation i
       set seen_tick_at = v_seen_at
     where i.installation_id = note_tick.installation
       and exists (select from sisyphus.planner p
                    where v_seen_at > coalesce(p.newest_tick_at, '-infinity') + interval '5 min')
       and coalesce(i.seen_tick_at < v_seen_at, true);
    return sisyphus._installation_problem() is not null;
end
$$;
comment on function sisyphus.note_tick(uuid, timestamptz) is
    'Tells the newest tick that a guardian has seen in an installation; true: this database stands more than 5 min behind it, and is refused until adopt_installation()';
grant execute on function sisyphus.note_tick(uuid, timestamptz) to sisyphus_guardian, sisyphus_admin;

create or replace function sisyphus.adopt_installation()
returns boolean
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now constant timestamptz := sisyphus._clock();
    v_problem constant text := sisyphus._installation_problem();
    v_known sisyphus.installation;
    v_planner sisyphus.planner;
begin
    if v_problem is null then
        return false;
    end if;
    select p.* into v_planner from sisyphus.planner p for update;
    select i.* into v_known from sisyphus.installation i for update;
    perform sisyphus._start_anew(v_now - v_planner.newest_tick_at, v_now);
    update sisyphus.installation i
       set system_identifier = c.system_identifier, database_oid = d.oid, database_name = d.datname,
           timeline = sisyphus._timeline(), server_started_at = pg_postmaster_start_time(), seen_tick_at = null,
           adopted_at = v_now
      from pg_control_system() c, pg_database d
     where d.datname = current_database();
    update sisyphus.planner p set newest_tick_at = greatest(p.newest_tick_at, v_now);
    perform sisyphus._audit('adopt_installation', v_known.installation_id::text,
        jsonb_build_object('system_identifier', v_known.system_identifier, 'database', v_known.database_name,
                           'last_tick_at', v_planner.last_tick_at, 'problem', v_problem),
        (select jsonb_build_object('system_identifier', i.system_identifier, 'database', i.database_name)
           from sisyphus.installation i), v_now);
    return true;
end
$$;
comment on function sisyphus.adopt_installation() is
    'Makes a restored, cloned or pg_upgraded database the installation: from here on its jobs run. False when it is already';
grant execute on function sisyphus.adopt_installation() to sisyphus_admin;
