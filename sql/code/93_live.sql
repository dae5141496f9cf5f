-- All that has not ended. What 90_monitor.sql says of views holds here too.

-- Why a run waits is dear. Of thousands that wait their turn it would be a look at all the others each, so they say no
-- more than that (explain_run() does). No column reads the clock itself: it is volatile, and would be asked of every run
-- also by who does not want it or wants the first few.
create or replace view sisyphus.live as
select r.run_id,
       r.attempt,
       r.claim_no,
       r.origin,
       j.name as job,
       r.job_version,
       o.owner,
       p.name as pool,
       h.name as host,
       r.state,
       r.due_at,
       r.expires_at,
       r.requested_at,
       r.claimed_at,
       r.started_at,
       round(extract(epoch from n.now - r.started_at), 3)::double precision as running_seconds,
       make_interval(secs => (s.spec ->> 'max_runtime')::double precision) as max_runtime,
       r.paused_at,
       r.pid,
       case when o.owner = any ((select sisyphus._visible_owners())::name[]) or (select sisyphus._sees_all())
            then coalesce(s.spec ->> 'command', s.spec ->> 'argv') end as command,
       case when r.state = 'waiting' and r.in_order and r.attempt = 0 then 'waits its turn'
            when r.state in ('waiting', 'pending')
            then coalesce((select sisyphus._installation_problem()),
                          sisyphus._why_late(r.run_id, n.now, (select sisyphus._why_lanes_wait()) ->> r.lane_id::text))
            when r.paused_at is not null then 'paused since ' || sisyphus._instant_text(r.paused_at) end as why
  from sisyphus.run r
       cross join lateral (select (select sisyphus._clock()) as now) n
       left join sisyphus.job j on j.job_id = r.job_id
       left join sisyphus.job_definition d on d.job_id = r.job_id and d.version = r.job_version
       left join sisyphus.host h on h.host_id = coalesce(r.host_id, r.lane_id)
       left join sisyphus.pool p on p.pool_id = coalesce(j.pool_id, r.lane_id)
       cross join lateral (select coalesce(r.spec, d.spec) as spec) s
       cross join lateral (select coalesce(j.owner, (r.spec ->> 'owner')::name) as owner) o;
comment on view sisyphus.live is 'Runs that have not ended: waiting, pending, claimed and running ones';
comment on column sisyphus.live.run_id is 'Run';
comment on column sisyphus.live.attempt is 'Attempt, from 1; of a retry that waits, the one before; 0: none yet';
comment on column sisyphus.live.claim_no is 'Fence of its claim; null: not claimed';
comment on column sisyphus.live.origin is 'What made the run: schedule, run_now, run_many, submit, rerun or backfill';
comment on column sisyphus.live.job is 'Job; null: submitted without one';
comment on column sisyphus.live.job_version is 'Version of the job it was made or claimed from';
comment on column sisyphus.live.owner is 'Owner of the job, or who submitted it';
comment on column sisyphus.live.pool is 'Pool';
comment on column sisyphus.live.host is 'Host that has it, or that it is for alone';
comment on column sisyphus.live.state is 'waiting, pending, claimed or running';
comment on column sisyphus.live.due_at is 'When it is due';
comment on column sisyphus.live.expires_at is 'Until when it may start; null: for ever';
comment on column sisyphus.live.requested_at is 'When it was asked for by hand; null: scheduled';
comment on column sisyphus.live.claimed_at is 'When a host claimed it';
comment on column sisyphus.live.started_at is 'When its process started';
comment on column sisyphus.live.running_seconds is 'How long its process has been running, pauses included, seconds';
comment on column sisyphus.live.max_runtime is 'How long it may take; null: no limit';
comment on column sisyphus.live.paused_at is 'Since when it is paused; null: it is not';
comment on column sisyphus.live.pid is 'Process on its host';
comment on column sisyphus.live.command is 'What it runs, an argv as JSON; null for who may not see it';
comment on column sisyphus.live.why is 'What it waits for, or since when it is paused';

grant execute on function sisyphus._instant_text(timestamptz) to sisyphus_admin, sisyphus_author, sisyphus_operator, sisyphus_viewer;
grant select on sisyphus.live to sisyphus_admin, sisyphus_author, sisyphus_operator, sisyphus_viewer;
