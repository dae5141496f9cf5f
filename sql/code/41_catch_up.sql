-- After a downtime missed decides among the occurrences that were due and are still fresh: of the newest 1,000 that can
-- be; the rest is counted in closed form, never walked. Fresh is what its due time says, jitter included.
-- Up to p_planned_until an occurrence may have its run already (a changed schedule): those go one by one.
create or replace function sisyphus._catch_up(
    p_job sisyphus.job, p_watermark timestamptz, p_planned_until timestamptz, p_now timestamptz)
returns void
language plpgsql
volatile
parallel unsafe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_since timestamptz := greatest(p_watermark, p_job.starts_at - interval '1 us');
    v_until constant timestamptz := least(p_now, p_job.ends_at - interval '1 us');
    v_jitter constant interval := coalesce(p_job.jitter, '0 s');
    v_fire timestamptz;
    v_border timestamptz;
    v_fires timestamptz[];
    v_stale bigint;
    v_older bigint;
    v_part record;
    v_runs timestamptz[] := array[]::timestamptz[];
    v_later timestamptz[] := array[]::timestamptz[];
begin
    perform sisyphus._record_left_out(p_job, v_since, v_until, p_now);
    for i in 1 .. 500 loop
        v_fire := sisyphus._next_occurrence(p_job, v_since);
        exit when v_fire > least(p_planned_until, v_until);
        perform sisyphus._make_runs(array[p_job.job_id], array[v_fire],
                                    array[sisyphus._next_occurrence(p_job, v_fire)], false, p_now);
        v_since := v_fire;
    end loop;
    -- Up to here nothing can be fresh. Without a ttl an occurrence is until the next one is due.
    v_border := greatest(v_since, case
        when p_job.ttl is not null then least(v_until, sisyphus._later(p_now, - p_job.ttl - v_jitter))
        else (select f - interval '1 us' from sisyphus._last_kept(p_job, v_since, greatest(v_since, sisyphus._later(v_until, - v_jitter)), 1) f) end);
    v_fires := array(select f from sisyphus._last_kept(
                         p_job, v_border, v_until,
                         case when v_jitter = '0 s' and (p_job.ttl is null or p_job.missed = 'latest') then 1 else 1000 end) f
                      order by f);
    v_stale := sisyphus._count_kept(p_job, v_since, v_border);
    v_older := sisyphus._count_kept(p_job, v_border, v_until) - cardinality(v_fires);
    for v_part in
        with one as (
            select f.fire, sisyphus._jittered(p_job.job_id, f.fire, p_job.jitter) as due_at,
                   lead(f.fire) over (order by f.fire) as next
              from unnest(v_fires) f (fire)),
        judged as (
            select o.fire, o.due_at > p_now as is_later,
                   coalesce(sisyphus._expires_at(p_job, o.due_at, o.next) > p_now, true) as is_fresh
              from one o),
        piece as (
            select 0 as place, 'expired' as kind, sisyphus._next_kept(p_job, v_since) as first,
                   (select max(f) from sisyphus._last_kept(p_job, v_since, v_border, 1) f) as last, v_stale as number
             where v_stale > 0
            union all
            select 1, 'skipped', sisyphus._next_kept(p_job, v_border),
                   (select max(f) from sisyphus._last_kept(p_job, v_border, v_fires[1] - interval '1 us', 1) f), v_older
             where v_older > 0
            union all
            select 1 + row_number() over (order by g.fire),
                   case when g.is_later then 'later'
                        when not g.is_fresh then 'expired'
                        when p_job.missed = 'all' or p_job.missed = 'latest'
                             and g.fire = max(g.fire) filter (where g.is_fresh and not g.is_later) over () then 'run'
                        else 'skipped' end,
                   g.fire, g.fire, 1
              from judged g),
        -- Neighbours of one kind make one row.
        part as (
            select p.*, row_number() over (order by p.place) - row_number() over (partition by p.kind order by p.place) as part
              from piece p)
        select p.kind, min(p.first) as first, max(p.last) as last, sum(p.number)::bigint as number,
               array_agg(p.first order by p.place) as fires
          from part p
         group by p.kind, p.part
         order by min(p.place)
    loop
        case v_part.kind
            when 'run' then
                v_runs := v_runs || v_part.fires;
            when 'later' then
                v_later := v_later || v_part.fires;
            else
                perform sisyphus._record_occurrences(
                    p_job, v_part.kind,
                    case v_part.kind when 'expired' then 'nothing ran here during a downtime, and it is no longer fresh'
                                     else format('passed over after a downtime (missed => %L)', p_job.missed) end,
                    v_part.first, v_part.last, v_part.number, p_now);
        end case;
    end loop;
    -- Caught up runs wait their turn: they are late by nature, not overlaps.
    perform sisyphus._make_runs(
                array[p_job.job_id], r.fires, array(select sisyphus._next_occurrence(p_job, f) from unnest(r.fires) f),
                r.in_order, p_now)
       from (values (v_runs, cardinality(v_runs) > 1), (v_later, false)) r (fires, in_order)
      where r.fires <> '{}';
end
$$;
comment on function sisyphus._catch_up(sisyphus.job, timestamptz, timestamptz, timestamptz) is
    'Settles what a job missed in a downtime: fresh occurrences become runs as missed says, the rest one row for neighbours of one kind';
