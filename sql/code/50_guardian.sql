-- Who calls: a guardian acts for itself alone, and only while it lives.

-- A guardian_id is usable by the role that registered it alone; what has ended must register anew.
create or replace function sisyphus._raise_guardian(p_guardian_id bigint)
returns void
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_guardian sisyphus.guardian;
begin
    select g.* into v_guardian from sisyphus.guardian g where g.guardian_id = p_guardian_id;
    if found and v_guardian.role_name <> sisyphus._caller() then
        raise exception 'guardian % was registered by another role', p_guardian_id
            using errcode = '42501', hint = format('Act for it as role %I.', v_guardian.role_name);
    end if;
    raise exception 'guardian % %', p_guardian_id,
            case when found then 'has ended: ' || v_guardian.ended_as else 'is unknown' end
        using errcode = 'SY401', hint = 'Call register_guardian() and go on with the number it returns.';
end
$$;
comment on function sisyphus._raise_guardian(bigint) is 'Says why a guardian may not act: 42501 or SY401';

create or replace function sisyphus._check_guardian(p_guardian_id bigint)
returns sisyphus.host
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_host sisyphus.host;
begin
    select h.* into v_host
      from sisyphus.guardian g
      join sisyphus.host h on h.host_id = g.host_id
     where g.guardian_id = p_guardian_id and g.ended_at is null and g.role_name = sisyphus._caller();
    if not found then
        perform sisyphus._raise_guardian(p_guardian_id);
    end if;
    return v_host;
end
$$;
comment on function sisyphus._check_guardian(bigint) is 'The host of a living guardian of the caller; raises SY401 or 42501';

create or replace function sisyphus._number(p_report jsonb, p_key text)
returns double precision
language sql
immutable
parallel safe
begin atomic
    select case pg_catalog.jsonb_typeof(p_report -> p_key) when 'number' then (p_report -> p_key)::double precision end;
end;
comment on function sisyphus._number(jsonb, text) is 'A number that a guardian reports; null: none, or no number';
