-- Jobs as they would be written down: what was given to schedule(), without what is the default anyway.

-- The zone stands there although it is the default one, which another database, or this one later, has otherwise.
create or replace function sisyphus._declared_jobs()
returns table (job text, declared jsonb)
language sql
stable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
set intervalstyle = 'postgres'
set timezone = 'UTC'
as $$
    select j.name,
           (select coalesce(jsonb_object_agg(e.key, e.value), '{}')
              from jsonb_each(sisyphus._job_definition(j)) e
             where e.value is distinct from d.defaults -> e.key
                or e.key = 'timezone' and j.schedule is not null)
      from sisyphus.job j
           cross join (select sisyphus._job_defaults() as defaults) d
     where j.deleted_at is null
       and (sisyphus._caller_is(j.owner) or sisyphus._caller_is('sisyphus_admin'))
     order by j.name
$$;
comment on function sisyphus._declared_jobs() is
    'Jobs that the caller may change, each with the arguments of schedule() that make it and are no defaults';

grant execute on function sisyphus._declared_jobs()
    to sisyphus_admin, sisyphus_author, sisyphus_operator, sisyphus_viewer;
