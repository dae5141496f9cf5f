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
                   coalesce('the last tick was ' || round(m.value) || ' s ago', 'there was no tick yet') as found,
                   'guardians tick: start one, or call select sisyphus.tick() for a look' as remedy
              from sisyphus.metrics m
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
                   format('host %s: %s', f.host,
                          coalesce(f.problem, f.state || case when f.state in ('unreachable', 'lost')
                              then ', silent for ' || round(f.seen_seconds_ago) || ' s' else '' end)),
                   case f.state
                       when 'active' then 'mend it; the guardian notices by itself'
                       when 'draining' then format('`sisyphus activate %s` when it may work again', f.host)
                       else format('start its guardian, or select sisyphus.forget_host(%L) when it is gone',
                                   f.host)
                   end
              from sisyphus.fleet f
             where f.problem is not null or f.state in ('unreachable', 'lost', 'draining', 'stopped')",
    },
    Check {
        name: "jobs",
        good: "none is broken or without a host",
        query: "
            select true as bad, format('job %s is broken: %s', o.job, o.problem) as found,
                   format('mend it with `sisyphus alter %s`', o.job) as remedy
              from sisyphus.overview o where o.state = 'broken'
            union all
            select true, format('pool %s has no active host, so %s does not run', o.pool,
                                string_agg(o.job, ', ' order by o.job)),
                   format('start a guardian with --pool %s, or `sisyphus pool add %s HOST`', o.pool, o.pool)
              from sisyphus.overview o
             where o.state = 'active'
               and not exists (select from sisyphus.fleet f
                                where f.state in ('active', 'periodic') and o.pool = any (f.pools))
             group by o.pool
            union all
            select false, format('suspended: %s', string_agg(o.job, ', ' order by o.job)),
                   '`sisyphus resume JOB` when it may run again'
              from sisyphus.overview o where o.state = 'suspended'
            having count(*) > 0
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
                   format('run %s of %s is %s s late: %s', o.run_id, o.job, round(o.late_seconds), o.why) as found,
                   '`sisyphus hosts` and `sisyphus pool list` show where room is' as remedy
              from sisyphus.overdue o
             where o.late_seconds > 5
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
