-- NOTIFY takes a lock over the whole database until its commit is on disk and wakes every listening
-- backend, so it is a hint to one host, sent only when that host could act at once. A lost one costs a heartbeat.

create or replace function sisyphus._wake_host(p_host_id bigint, p_payload text default '')
returns void
language sql
volatile
parallel unsafe
begin atomic
    select pg_catalog.pg_notify('sisyphus_host_' || p_host_id, p_payload);
end;
comment on function sisyphus._wake_host(bigint, text) is
    'Tells the guardian of a host to claim, or with payload tick to plan and claim';

-- Reads guardian rows without locking them: a stale answer costs one heartbeat at most. plpgsql for its kept plan:
-- claims call it.
create or replace function sisyphus._idle_host(p_lane_id bigint, p_now timestamptz, p_but_not bigint default 0)
returns bigint
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select h.host_id
          from sisyphus.guardian g
          join sisyphus.host h on h.host_id = g.host_id
         where g.ended_at is null and not g.periodic and g.lease_until > p_now and g.slots_free > 0
           and h.state = 'active' and p_lane_id = any(h.lanes) and h.host_id <> p_but_not
         order by g.slots_free desc, random()
         limit 1);
end
$$;
comment on function sisyphus._idle_host(bigint, timestamptz, bigint) is 'A host of a lane, but for one, whose guardian has a free slot; null: none';

create or replace function sisyphus._wake_lane(p_lane_id bigint, p_now timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_host_id constant bigint := sisyphus._idle_host(p_lane_id, p_now);
begin
    if v_host_id is not null then
        perform sisyphus._wake_host(v_host_id);
    end if;
end
$$;
comment on function sisyphus._wake_lane(bigint, timestamptz) is 'Tells one idle guardian of a lane to claim; none when all are busy';

create or replace function sisyphus._wake_planner(p_now timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_host_id bigint;
begin
    select g.host_id into v_host_id
      from sisyphus.guardian g
     where g.ended_at is null and not g.periodic and g.lease_until > p_now
     order by g.slots_free desc, random()
     limit 1;
    if found then
        perform pg_notify('sisyphus_host_' || v_host_id, 'tick');
    end if;
end
$$;
comment on function sisyphus._wake_planner(timestamptz) is 'Tells one guardian to tick and then claim';
