create or replace function sisyphus.preview(name text, n integer default 10)
returns table (due_at timestamptz, local_time timestamp, host_or_pool text)
language plpgsql
volatile
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_job sisyphus.job;
    v_fire timestamptz := sisyphus._clock();
begin
    -- When a job runs is no secret, unlike what it runs.
    select j.* into v_job from sisyphus.job j where j.name = preview.name and j.deleted_at is null;
    if not found then
        perform sisyphus._raise_no_job(preview.name);
    elsif not coalesce(preview.n between 1 and 1000, false) then
        perform sisyphus._raise_argument(format('job "%s"', preview.name), 'n', coalesce(preview.n::text, 'null'),
                                         'Give how many occurrences to show, 1 to 1000.', null);
    end if;
    v_fire := greatest(v_fire, v_job.suspended_until - interval '1 us');
    for i in 1 .. preview.n loop
        v_fire := sisyphus._next_occurrence(v_job, v_fire);
        exit when v_fire = 'infinity';
        return query
            select o.at, o.at at time zone v_job.timezone, t.label
              from (select sisyphus._jittered(v_job.job_id, v_fire, v_job.jitter) as at) o
              cross join (
                  select p.name as label from sisyphus.pool p where p.pool_id = v_job.pool_id and v_job.run_on = 'any'
                  union all
                  select h.name from sisyphus.host h where v_job.pool_id = any(sisyphus._lanes_of(h)) and v_job.run_on = 'all') t
             order by t.label;
    end loop;
end
$$;
comment on function sisyphus.preview(text, integer) is
    'The next n occurrences of a job, in its own zone too, on its pool or, with run_on all, on each host there is now; those before the end of a suspension are left out, one without end is not considered';

grant execute on function sisyphus.preview
    to sisyphus_viewer, sisyphus_author, sisyphus_operator, sisyphus_admin;
