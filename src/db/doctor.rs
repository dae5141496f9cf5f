//! The questions of `sisyphus doctor`: each query answers with a row for everything that is wrong.

use super::client::{Rows, Session};
use crate::error::Result;

/// A question to the views. Its rows have `bad` (false: worth a note), `found` and `remedy`.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// What is looked at.
    pub name: &'static str,
    /// What is said when no row comes.
    pub good: &'static str,
    query: &'static str,
}

/// In the order in which a person would look.
pub const CHECKS: &[Check] = &[
    Check {
        name: "copy",
        good: "this is the installation, not a copy",
        query: "
            select true as bad, p as found,
                   '`sisyphus migrate --adopt`, if the original is gone for good' as remedy
              from sisyphus._installation_problem() p
             where p is not null",
    },
    Check {
        name: "planner",
        good: "ticks in time",
        query: "
            select true as bad,
                   coalesce('the last tick was ' || round(m.value) || ' s ago', 'there was no tick yet')
                   || case when h.gid is not null then ', prepared transaction ' || quote_literal(h.gid) || ' keeps others out'
                           when h.pid is not null then ', session ' || h.pid || ' keeps others out' else '' end as found,
                   case when h.gid is not null then 'rollback prepared ' || quote_literal(h.gid)
                        when h.pid is not null then 'see pg_stat_activity, and end it: select pg_terminate_backend(' || h.pid || ')'
                        else 'guardians tick: start one, or call select sisyphus.tick() for a look' end as remedy
              from sisyphus.metrics m
              -- A tick that is left open is ended by the server, but not one that was prepared.
              left join lateral (
                   select x.gid, l.pid
                     from pg_locks l
                     join pg_database d on d.oid = l.database and d.datname = current_database()
                     left join pg_locks t
                       on l.pid is null and t.pid is null and t.locktype = 'transactionid' and t.virtualtransaction = l.virtualtransaction
                     left join pg_prepared_xacts x on x.transaction = t.transactionid
                    where l.relation = 'sisyphus.planner'::regclass and l.mode = 'RowShareLock' and l.granted
                    limit 1) h on true
             where m.name = 'sisyphus_tick_age_seconds'
               and (m.value is null
                    or m.value > 3 * extract(epoch from (select s.value from sisyphus.settings s
                                                          where s.name = 'heartbeat')::interval))",
    },
    Check {
        name: "hosts",
        good: "guardians are alive and report no problem",
        query: "
            select true as bad, 'no host has registered' as found,
                   'start `sisyphus guardian` on a host' as remedy
             where not exists (select from sisyphus.fleet)
            union all
            select true, 'no host is active', 'start a guardian, or `sisyphus activate HOST`'
             where exists (select from sisyphus.fleet)
               and not exists (select from sisyphus.fleet f where f.state in ('active', 'periodic'))
            union all
            select f.state = 'active' and f.problem is not null,
                   case when f.nth > 5 then format('%s more hosts are %s', f.number - 5, f.state)
                        else format('host %s: %s', f.host,
                                    coalesce(f.problem, f.state || case when f.state in ('unreachable', 'lost')
                                        then ', silent for ' || round(f.seen_seconds_ago) || ' s' else '' end)) end,
                   case when f.nth > 5 then '`sisyphus hosts` lists them'
                        when f.state = 'active' then 'mend it; the guardian notices by itself'
                        when f.state = 'draining' then format('`sisyphus activate %s` when it may work again', f.host)
                        else format('start its guardian, or `sisyphus forget %s` when it is gone', f.host) end
              from (select h.host, h.state, h.problem, h.seen_seconds_ago, count(*) over (partition by h.state) as number,
                           row_number() over (partition by h.state order by h.host) as nth
                      from sisyphus.fleet h
                     where h.problem is not null or h.state in ('unreachable', 'lost', 'draining', 'stopped')) f
             where f.nth <= 6
            union all
            select false, format('host %s has no slot', f.host), format('`sisyphus slots %s N` gives it some', f.host)
              from sisyphus.fleet f
             where f.state in ('active', 'periodic') and f.slots = 0",
    },
    // The newest rows by their number: these are found without reading a day of history.
    Check {
        name: "starts",
        good: "what hosts are given they start",
        query: "
            select c.failing >= 3 as bad,
                   case c.failing when 1 then format('the last attempt on %s could not be started: %s', c.host, c.reason)
                        else format('of the last %s attempts on %s none could be started: %s', c.failing, c.host, c.reason)
                        end as found,
                   format('`sisyphus runs --host %s` shows them; mend the host, or what its jobs ask of it', c.host) as remedy
              from (select r.host, count(*) as attempts, count(*) filter (where r.started_since = 0) as failing,
                           (array_agg(r.reason order by r.run_id desc, r.attempt desc))[1] as reason
                      from (select h.host, h.run_id, h.attempt, h.reason,
                                   count(h.started_at) over (partition by h.host order by h.run_id desc, h.attempt desc)
                                       as started_since
                              from (select a.host, a.run_id, a.attempt, a.state, a.reason, a.started_at
                                      from sisyphus.history a order by a.run_id desc, a.attempt desc limit 1000) h
                             where h.attempt > 0 and (h.started_at is not null or h.state in ('failed', 'refused'))) r
                     group by r.host) c
                   join sisyphus.fleet f on f.host = c.host and f.state in ('active', 'periodic')
             where c.failing >= 3 or c.failing > 0 and c.failing = c.attempts",
    },
    Check {
        name: "jobs",
        good: "none is broken or without a host",
        query: "
            with named as (
                select o.state, o.pool, count(*) as number,
                       string_agg(o.job, ', ' order by o.job) filter (where o.nth <= 5)
                           || case when count(*) > 5 then format(' and %s more', count(*) - 5) else '' end as jobs
                  from (select j.job, j.state, p.pool,
                               row_number() over (partition by j.state, p.pool order by j.job) as nth
                          from sisyphus.overview j
                               cross join lateral (select case j.state when 'active' then j.pool end as pool) p
                         where j.state in ('active', 'suspended')) o
                 group by o.state, o.pool)
            select true as bad, format('job %s is broken: %s', o.job, o.problem) as found,
                   format('mend it with `sisyphus alter %s`', o.job) as remedy
              from sisyphus.overview o where o.state = 'broken'
            union all
            select true, format('pool %s has no active host, so %s %s not run', n.pool, n.jobs,
                                case n.number when 1 then 'does' else 'do' end),
                   case n.pool when 'default' then 'start a guardian, or `sisyphus activate HOST`'
                        else format('start a guardian with --pool %s, or `sisyphus pool add %s HOST`', n.pool, n.pool) end
              from named n
             where n.state = 'active'
               and not exists (select from sisyphus.fleet f
                                where f.state in ('active', 'periodic') and n.pool = any (f.pools))
            union all
            select false, format('suspended: %s', n.jobs), '`sisyphus resume JOB` when it may run again'
              from named n where n.state = 'suspended'
            union all
            select false, format('%s: it says nothing about %s', c.problem, array_to_string(c.jobs, ', ')),
                   format('its owner, %s, calls `sisyphus calendar refresh %s`, best once a day', c.owner, c.calendar)
              from sisyphus.calendars c where c.problem is not null and c.jobs <> '{}'",
    },
    Check {
        name: "runs",
        good: "none is late",
        query: "
            select true as bad,
                   format('run %s%s is %s s late%s: %s', o.run_id, ' of ' || o.job, round(o.late_seconds),
                          case when o.number > 1 then format(', and %s more are late', o.number - 1) end, o.why) as found,
                   '`sisyphus hosts` and `sisyphus pool list` show where room is, `sisyphus slots HOST N` makes more'
                       as remedy
              from (select l.run_id, l.job, l.late_seconds, l.why, count(*) over (partition by l.why) as number,
                           row_number() over (partition by l.why order by l.late_seconds desc, l.run_id) as nth
                      from sisyphus.overdue l
                     where l.late_seconds > 5) o
             where o.nth = 1
             order by o.late_seconds desc
             limit 10",
    },
];

impl Session {
    /// Asks one question.
    pub async fn doctor(&self, check: &Check) -> Result<Rows> {
        self.rows(check.query, &[]).await
    }
}
