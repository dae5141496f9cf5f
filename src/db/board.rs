//! What `sisyphus top` shows, in one statement.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::{Rows, Session};
use crate::error::{Error, ErrorKind, Result};

/// Of the view overview, whose rows are dear, those that can have changed: jobs that run, or of which one of the
/// newest runs has ended; then the first by name, so that a quiet installation shows its jobs too.
const BOARD: &str = "
    select to_char(clock_timestamp() at time zone 'UTC', 'HH24:MI:SS') as clock,
           f.hosts, f.active, f.slots, f.busy,
           (select count(*) from sisyphus.running) as taken,
           (select coalesce(sum(q.pending), 0) from sisyphus.queue_depth q) as pending,
           (select count(*) from sisyphus.overdue) as overdue,
           (select coalesce(json_agg(r), '[]')
              from (select r.run_id, r.attempt, r.job, r.command, r.host, r.due_at, r.running_seconds,
                           case when r.paused_at is null then r.state
                                else 'paused since ' || to_char(r.paused_at at time zone 'UTC', 'HH24:MI:SS') end as state,
                           extract(epoch from r.max_runtime)::float8 as max_runtime_seconds
                      from sisyphus.live r
                     where r.state in ('claimed', 'running')
                     order by r.started_at, r.due_at, r.run_id
                     limit $1) r) as runs,
           (select coalesce(json_agg(j), '[]')
              from (select o.job, o.state, o.schedule, o.next_due_at, o.running, o.last_state, o.last_started_at,
                           o.last_duration_seconds, o.success_ratio
                      from sisyphus.overview o
                     where o.job = any (array(
                           (select r.job from sisyphus.running r limit $1)
                           union all
                           (select h.job from sisyphus.history h order by h.run_id desc, h.attempt desc limit $1)
                           union all
                           (select d.job from sisyphus.definitions d order by d.job limit $1)))
                     order by o.running desc, o.last_started_at desc nulls last, o.job
                     limit $1) j) as jobs
      from (select count(*) as hosts, count(*) filter (where f.state = 'active') as active,
                   coalesce(sum(f.slots) filter (where f.state = 'active'), 0) as slots,
                   coalesce(sum(f.running) filter (where f.state = 'active'), 0) as busy
              from sisyphus.fleet f) f";

/// The state of the installation at a moment.
#[derive(Debug)]
pub struct Board {
    /// Numbers that are shown as such.
    pub totals: Totals,
    /// Runs that are claimed or running, the longest first.
    pub runs: Rows,
    /// Jobs, the busiest first.
    pub jobs: Rows,
}

/// Numbers over all hosts and runs.
#[derive(Debug, Deserialize)]
pub struct Totals {
    /// The time, UTC.
    pub clock: String,
    /// Hosts.
    pub hosts: i64,
    /// Those that take runs.
    pub active: i64,
    /// How many runs these take at once.
    pub slots: i64,
    /// How many they are running.
    pub busy: i64,
    /// Runs that are claimed or running.
    pub taken: i64,
    /// Runs that may be claimed.
    pub pending: i64,
    /// Runs past their due time that no host has claimed.
    pub overdue: i64,
}

#[derive(Deserialize)]
struct Parts {
    runs: Vec<Box<RawValue>>,
    jobs: Vec<Box<RawValue>>,
}

impl Session {
    /// The state of the installation, with so many runs and jobs at most.
    pub async fn board(&self, limit: i64) -> Result<Board> {
        let rows = self.rows(BOARD, &[&limit]).await?;
        let none = || Error::new(ErrorKind::Failed, "the database sent no row");
        let totals = rows.read()?.pop().ok_or_else(none)?;
        let Parts { runs, jobs } = rows.read()?.pop().ok_or_else(none)?;
        let part = |objects: Vec<Box<RawValue>>| Rows {
            now: rows.now,
            objects: objects.iter().map(|row| row.get().to_owned()).collect(),
        };
        Ok(Board { totals, runs: part(runs), jobs: part(jobs) })
    }
}
