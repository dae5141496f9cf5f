-- Where a run stands and what became of an occurrence, in a sentence. Read-only; never locks.

create or replace function sisyphus._explain_live(p_run sisyphus.run, p_now timestamptz) returns text
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_host text;
    v_host_state text;
begin
    if p_run.state in ('waiting', 'pending') then
        return p_run.state || ': ' || coalesce(sisyphus._installation_problem(), sisyphus._why_unstarted_now(p_run, p_now));
    end if;
    select h.name, f.state into v_host, v_host_state
      from sisyphus.host h
           join sisyphus.fleet f on f.host = h.name
     where h.host_id = p_run.host_id;
    return format(case p_run.state when 'claimed' then 'claimed by %s' else 'running on %s' end, v_host)
        || case when v_host_state in ('unreachable', 'lost', 'stopped') then format(', which is %s', v_host_state) else '' end
        || case when p_run.state = 'claimed' and p_run.due_at > p_now
                then format('; starts %s', sisyphus._ago(p_run.due_at, p_now))
                when p_run.state = 'claimed'
                then format(' %s; no start reported yet', sisyphus._ago(p_run.claimed_at, p_now))
                else format('; started %s', sisyphus._ago(p_run.started_at, p_now)) end
        || case when p_run.attempt > 1 then format('; attempt %s', p_run.attempt) else '' end
        || case when p_run.paused_at is not null then format('; paused %s', sisyphus._ago(p_run.paused_at, p_now)) else '' end
        || case when p_run.stopping is not null or p_run.withdrawn is not null
                then '; being ended' || coalesce(': ' || p_run.reason, '') else '' end;
end;
$$;
comment on function sisyphus._explain_live(sisyphus.run, timestamptz) is 'Where a live run stands, in words';

create or replace function sisyphus._explain_ended(p_attempt sisyphus.attempt) returns text
language sql
stable
parallel safe
begin atomic
    select (p_attempt).state
        || coalesce(' on ' || case when (p_attempt).attempt > 0 then (p_attempt).host end, '')
        || ' at ' || sisyphus._instant_text((p_attempt).finished_at)
        || case when (p_attempt).attempt > 1 then pg_catalog.format(', attempt %s', (p_attempt).attempt) else '' end
        || case when (p_attempt).occurrences > 1
                then pg_catalog.format(', one of %s occurrences', (p_attempt).occurrences) else '' end
        || coalesce(': ' || nullif(
            case when sisyphus._caller_is((p_attempt).owner) or sisyphus._caller_is('sisyphus_admin') then (p_attempt).reason
                 else sisyphus._reason_without_names(
                     (p_attempt).state, (p_attempt).exit_code, (p_attempt).signal, (p_attempt).reason) end, ''), '');
end;
comment on function sisyphus._explain_ended(sisyphus.attempt) is 'How an attempt ended, in words';

-- Definer: callers may read no table.
create or replace function sisyphus.explain_run(run_id bigint) returns text
language plpgsql
stable
parallel safe
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_run sisyphus.run;
    v_attempt sisyphus.attempt;
begin
    select r.* into v_run from sisyphus.run r where r.run_id = explain_run.run_id;
    if found then
        return sisyphus._explain_live(v_run, sisyphus._clock());
    end if;
    select a.* into v_attempt
      from sisyphus.attempt a
     where a.run_id = explain_run.run_id
     order by a.is_final desc, a.attempt desc
     limit 1;
    if found then
        return sisyphus._explain_ended(v_attempt);
    end if;
    raise exception 'run % does not exist', explain_run.run_id
        using errcode = '42704',
              hint = 'It was never made, or its rows are older than their retention; views live and history show the others.';
end;
$$;
comment on function sisyphus.explain_run(bigint) is
    'Why a run has not started, where it runs or how it ended, in a sentence. raises: 42704 when there is none';

-- An instant that no run and no row of history stands for.
create or replace function sisyphus._explain_unplanned(p_job sisyphus.job, p_due_at timestamptz, p_now timestamptz) returns text
language plpgsql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_state sisyphus.job_state;
    v_next timestamptz;
    v_left_out text;
    v_setting sisyphus.setting;
begin
    if p_job.deleted_at is not null then
        return format('job "%s" was unscheduled at %s', p_job.name, sisyphus._instant_text(p_job.deleted_at));
    elsif p_job.compiled is null then
        return format('job "%s" has no schedule: it runs on demand only', p_job.name);
    end if;
    select s.* into v_state from sisyphus.job_state s where s.job_id = p_job.job_id;
    if v_state.broken is not null then
        return format('job "%s" is broken: %s', p_job.name, v_state.broken);
    end if;
    v_next := sisyphus._next_fire(p_job.compiled, p_job.timezone, p_due_at - interval '1 microsecond', p_job.anchor_at);
    if v_next is distinct from p_due_at then
        return format('not an occurrence of "%s" in %s; %s', p_job.schedule, p_job.timezone,
                      coalesce('the next one after it is ' || sisyphus._instant_text(v_next), 'there is none after it'));
    elsif p_due_at < p_job.starts_at then
        return format('before the job starts, at %s', sisyphus._instant_text(p_job.starts_at));
    elsif p_due_at >= p_job.ends_at then
        return format('not before the job ends, at %s', sisyphus._instant_text(p_job.ends_at));
    elsif p_due_at <= p_job.created_at then
        return format('before the job was scheduled, at %s', sisyphus._instant_text(p_job.created_at));
    elsif p_job.suspended_at is not null and (p_job.suspended_until is null or p_job.suspended_until > p_due_at)
          and p_due_at > p_job.suspended_at then
        return format('left out: job "%s" was suspended at %s', p_job.name, sisyphus._instant_text(p_job.suspended_at))
               || coalesce(': ' || p_job.suspend_reason, '');
    end if;
    v_left_out := (sisyphus._stretch(p_job, p_due_at)).left_out;
    if v_left_out is not null then
        return v_left_out;
    end if;
    if sisyphus._installation_problem() is not null then
        return 'not planned: ' || sisyphus._installation_problem();
    end if;
    select s.* into v_setting from sisyphus.setting s;
    if p_due_at > p_now + v_setting.plan_ahead then
        return format('not yet due: due %s, planned %s before', sisyphus._ago(p_due_at, p_now),
                      sisyphus._duration_text(v_setting.plan_ahead));
    elsif v_state.watermark is null or v_state.watermark < p_due_at then
        return format('not planned yet: the last tick was at %s',
                      coalesce((select sisyphus._instant_text(p.last_tick_at) from sisyphus.planner p), 'no time'));
    end if;
    return 'nothing is recorded: the job was changed after it, or its rows are older than their retention';
end;
$$;
comment on function sisyphus._explain_unplanned(sisyphus.job, timestamptz, timestamptz) is
    'Why there is no run for an instant: no occurrence, suspended, not yet due';

-- Definer: callers may read no table.
create or replace function sisyphus.explain(name text, due_at timestamptz) returns text
language plpgsql
stable
parallel unsafe
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now constant timestamptz := sisyphus._clock();
    v_job sisyphus.job;
    v_text text;
begin
    select j.* into v_job from sisyphus.job j where j.name = explain.name;
    if not found then
        perform sisyphus._raise_no_job(explain.name);
    elsif not coalesce(explain.due_at between '0001-01-01 00:00:00+00' and '9999-12-31 00:00:00+00', false) then
        perform sisyphus._raise_argument(format('job "%s"', v_job.name), 'due_at', coalesce(explain.due_at::text, 'null'),
                                         'Give the instant of an occurrence.', null);
    end if;
    -- A run on each host has several; jitter moves due_at away from the occurrence.
    select string_agg(format('run %s %s', l.run_id, l.text), '; ' order by l.run_id) into v_text
      from (select r.run_id, sisyphus._explain_live(r, v_now) as text
              from sisyphus.run r
             where r.job_id = v_job.job_id and explain.due_at in (r.due_at, r.nominal_at)
             union all
            select e.run_id, e.text
              from (select distinct on (a.run_id) a.run_id, sisyphus._explain_ended(a) as text
                      from sisyphus.attempt a
                     where a.job = v_job.name
                       and a.recorded_at >= least(explain.due_at, v_now) - interval '1 day'
                       and (explain.due_at in (a.due_at, a.nominal_at)
                            or explain.due_at between a.due_at and a.last_due_at
                               and sisyphus._was_due(v_job, a.job_version, explain.due_at) is not false)
                       and not exists (select from sisyphus.run r where r.run_id = a.run_id)
                     order by a.run_id, a.is_final desc, a.attempt desc
                     limit 20) e
           ) l;
    return coalesce(v_text, sisyphus._explain_unplanned(v_job, explain.due_at, v_now));
end;
$$;
comment on function sisyphus.explain(text, timestamptz) is
    'What became, or will become, of an occurrence of a job, in a sentence. raises: 42704 when there is no such job';

grant execute on function sisyphus.explain_run(bigint), sisyphus.explain(text, timestamptz)
    to sisyphus_admin, sisyphus_author, sisyphus_operator, sisyphus_viewer;
