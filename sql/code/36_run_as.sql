-- As which operating system users the jobs of a role may run. A host has the last word: its policy is checked by its
-- keeper at every start.

create or replace function sisyphus._check_run_as(p_what text, p_run_as text, p_owner name)
returns void
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    if p_run_as is null or exists (
            select from pg_roles o
             where o.rolname = p_owner
               and (pg_has_role(o.oid, 'sisyphus_admin', 'member')
                    or exists (select from sisyphus.run_as_grant g join pg_roles r on r.rolname = g.role_name
                                where g.os_user = p_run_as and pg_has_role(o.oid, r.oid, 'member')))) then
        return;
    end if;
    raise exception '%: role "%" may not run jobs as user "%"', p_what, p_owner, p_run_as
        using errcode = '42501',
              hint = format('An admin allows it: select sisyphus.grant_run_as(%L, %L). The policy of the host has to as well.',
                            p_owner, p_run_as);
end
$$;
comment on function sisyphus._check_run_as(text, text, name) is
    'raises 42501 when a role that owns a job may not have it run as this operating system user';

create or replace function sisyphus.grant_run_as(role name, os_user text)
returns void
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (select from pg_roles r where r.rolname = grant_run_as.role) then
        raise exception 'role "%" does not exist', grant_run_as.role
            using errcode = '42704', hint = 'Name a role of this database cluster that owns jobs, or a group of such roles.';
    elsif not coalesce(sisyphus._is_os_user(grant_run_as.os_user), false) then
        perform sisyphus._raise_argument(format('role "%s"', grant_run_as.role), 'os_user', coalesce(grant_run_as.os_user, 'null'),
            'Give the name of an operating system user.', null);
    end if;
    insert into sisyphus.run_as_grant (role_name, os_user) values (grant_run_as.role, grant_run_as.os_user)
        on conflict on constraint run_as_grant_pkey do nothing;
    perform sisyphus._audit('grant_run_as', grant_run_as.role, null, jsonb_build_object('os_user', grant_run_as.os_user),
                            sisyphus._clock());
end
$$;
comment on function sisyphus.grant_run_as(name, text) is
    'Lets jobs of a role and its members run as an operating system user, on hosts whose policy allows it too';

-- A job keeps what it was defined with, so the grant stays until no job needs it: nobody is cut off unawares.
create or replace function sisyphus.revoke_run_as(role name, os_user text)
returns boolean
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_job sisyphus.job;
    v_found boolean;
begin
    delete from sisyphus.run_as_grant g
     where g.role_name = revoke_run_as.role and g.os_user = revoke_run_as.os_user;
    v_found := found;
    for v_job in
        select j.* from sisyphus.job j where j.deleted_at is null and j.run_as = revoke_run_as.os_user order by j.name
    loop
        begin
            perform sisyphus._check_run_as('', v_job.run_as, v_job.owner);
        exception when insufficient_privilege then
            raise exception 'job "%" of role "%" runs as user "%"', v_job.name, v_job.owner, v_job.run_as
                using errcode = '55000', hint = 'Give it another run_as with alter_job(), or unschedule() it, then revoke.';
        end;
    end loop;
    perform sisyphus._audit('revoke_run_as', revoke_run_as.role, jsonb_build_object('os_user', revoke_run_as.os_user), null,
                            sisyphus._clock());
    return v_found;
end
$$;
comment on function sisyphus.revoke_run_as(name, text) is
    'Takes grant_run_as() back; false: it was not granted; refused while a job needs it';

grant execute on function sisyphus.grant_run_as, sisyphus.revoke_run_as to sisyphus_admin;
