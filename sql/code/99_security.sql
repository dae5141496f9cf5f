-- The last sweep. Each file grants what its functions and views need beside them; here everything is taken from PUBLIC,
-- and a bundle that would leave a door open is refused as a whole.

revoke all on schema sisyphus from public;
revoke all on all tables in schema sisyphus from public;
revoke all on all sequences in schema sisyphus from public;
revoke all on all functions in schema sisyphus from public;
revoke all on all procedures in schema sisyphus from public;

do $$
declare
    v_wrong text;
begin
    select pg_catalog.string_agg(w.wrong, '; ' order by w.wrong) into v_wrong
      from (select pg_catalog.format('%s is not owned by sisyphus_owner', c.oid::pg_catalog.regclass) as wrong
              from pg_catalog.pg_class c
             where c.relnamespace = 'sisyphus'::pg_catalog.regnamespace
               and c.relowner <> 'sisyphus_owner'::pg_catalog.regrole
             union all
            select pg_catalog.format('%s is not owned by sisyphus_owner', p.oid::pg_catalog.regprocedure)
              from pg_catalog.pg_proc p
             where p.pronamespace = 'sisyphus'::pg_catalog.regnamespace
               and p.proowner <> 'sisyphus_owner'::pg_catalog.regrole
             union all
            select pg_catalog.format('%s is granted on table %s', x.privilege_type, c.oid::pg_catalog.regclass)
              from pg_catalog.pg_class c
                   cross join lateral pg_catalog.aclexplode(c.relacl) x
             where c.relnamespace = 'sisyphus'::pg_catalog.regnamespace
               and c.relkind in ('r', 'p', 'S')
               and x.grantee <> c.relowner
             union all
            select pg_catalog.format('%s runs with the rights of its owner and pins no search_path', p.oid::pg_catalog.regprocedure)
              from pg_catalog.pg_proc p
             where p.pronamespace = 'sisyphus'::pg_catalog.regnamespace
               and p.prosecdef
               and p.prosqlbody is null
               -- Stored with quotes where quote_all_identifiers is on.
               and not exists (select from pg_catalog.unnest(p.proconfig) c
                                where pg_catalog.replace(c, '"', '') = 'search_path=pg_catalog, pg_temp')) w;
    if v_wrong is not null then
        raise exception 'the code bundle is not safe: %', v_wrong
            using errcode = '42501', hint = 'Mend the bundle; nothing of it was applied.';
    end if;
end
$$;
