//! What people ask of the views.

use serde::Deserialize;

use super::client::{Rows, Session};
use crate::error::Result;

const JOBS: &str = "select * from sisyphus.overview o \
     where ($1::text is null or o.pool = $1) and ($2::text is null or o.state = $2) order by o.job";

/// What comes next of what has not started, what a host has, and the newest that ended: the latest first.
const RUNS: &str = "(select * \
       from (select {live} from sisyphus.live l where {of live} and l.state in ('waiting', 'pending') \
              order by l.due_at, l.run_id limit $6) l \
      order by l.due_at desc, l.run_id desc) \
     union all \
     (select {live} from sisyphus.live l where {of live} and l.state in ('claimed', 'running') order by l.due_at desc) \
     union all \
     (select h.run_id, h.attempt, h.job, h.host, h.state, h.due_at, h.started_at, h.finished_at, \
            h.duration_seconds, h.exit_code, h.signal, h.reason, h.command \
       from sisyphus.history h \
      where ($1::text is null or h.job = $1) and ($2::text is null or h.host = $2) \
        and ($3::text is null or h.state = $3) and not $5::boolean \
        and (not $4::boolean or h.state in ('failed', 'timed_out', 'lost', 'refused', 'expired')) \
      order by {newest first} limit $6)";

const LIVE: &str = "l.run_id, l.attempt, l.job, l.host, l.state, l.due_at, l.started_at, \
     null::timestamptz as finished_at, l.running_seconds as duration_seconds, null::int as exit_code, \
     null::int as signal, l.why as reason, l.command";

const OF_LIVE: &str = "($1::text is null or l.job = $1) and ($2::text is null or l.host = $2) \
     and ($3::text is null or l.state = $3) and not $4::boolean";

const ATTEMPTS: &str = "select * from sisyphus.history h where h.run_id = $1 order by h.attempt desc";

const ENDED: &str = "select h.run_id, h.state, h.host, h.reason, h.started_at from sisyphus.history h \
     where h.run_id = $1 and h.is_final";

const STATE: &str = "(select l.state, true as is_live from sisyphus.live l where l.run_id = $1) \
     union all \
     (select h.state, false from sisyphus.history h where h.run_id = $1 order by h.is_final desc, h.attempt desc) \
     limit 1";

const LAST_END: &str = "select h.run_id, h.state, h.host, h.reason from sisyphus.history h \
     where h.job = $1 order by h.recorded_at desc limit 1";

const END: &str = "h.run_id, h.attempt, h.is_final, h.state, h.host, h.reason, h.owner, h.command, h.stdout, \
     h.stderr, \
     extract(epoch from h.recorded_at)::float8 as recorded_at";

const OUTPUT: &str = "select {end} from sisyphus.history h \
     where ($1::bigint is null or h.run_id = $1) and ($2::text is null or h.job = $2) \
       and ($3::int is null or h.attempt = $3) and h.attempt > 0 \
     order by h.recorded_at desc, h.attempt desc limit 1";

/// Rows are not committed in the order of `recorded_at`: what is a minute older than the newest may still come.
const ENDS: &str = "select {end} \
      from sisyphus.history h \
     where ($1::bigint is null or h.run_id = $1) and ($2::text is null or h.job = $2) \
       and h.recorded_at > to_timestamp($3::float8) - interval '1 min' \
       and not exists (select from unnest($4::bigint[], $5::bigint[]) s (run_id, attempt) \
                        where s.run_id = h.run_id and s.attempt = h.attempt) \
     order by h.recorded_at, h.run_id, h.attempt limit 100";

const DEFINITION: &str = "select d.tags, (to_jsonb(d) - '{owner,version,created_at,changed_at}'::text[])::text as definition \
      from sisyphus.definitions d where d.job = $1";

const DIFFERENCE: &str = "select case when $2::text is null then 'created' when c.properties is null then 'unchanged' \
            else 'changed' end as action, d.job, d.schedule, d.pool, case when $2 is not null then c.properties end as properties \
       from sisyphus.definitions d \
      cross join lateral (select string_agg(n.key, ', ' order by n.key) as properties \
                            from jsonb_each(to_jsonb(d) - '{owner,version,created_at,changed_at}'::text[]) n \
                           where $2::text::jsonb -> n.key is distinct from n.value) c \
      where d.job = $1";

const PROPERTIES: &str = "select a.name, pg_catalog.format_type(a.type, null) as kind \
      from pg_catalog.pg_proc p \
     cross join unnest(p.proargnames, p.proargtypes::oid[]) with ordinality a (name, type, n) \
     where p.oid = 'sisyphus.schedule'::regproc and a.name <> 'name' order by a.n";

/// A payload as its text: a number in it may be one that Rust has no type for.
const DECLARED: &str = "select d.job, case when d.declared ? 'payload' \
            then jsonb_set(d.declared, '{payload}', to_jsonb((d.declared -> 'payload')::text)) else d.declared end as declared \
      from sisyphus._declared_jobs() d \
     where $1::text is null or d.declared -> 'tags' ? $1 order by d.job";

const SURPLUS: &str = "select 'removed' as action, o.job, o.schedule, o.pool, null as properties \
      from sisyphus._declared_jobs() d join sisyphus.definitions o on o.job = d.job \
     where d.declared -> 'tags' ? $1 and d.job <> all($2::text[]) order by d.job";

const FIRES: &str = "select f as due_at, f at time zone $2 as local_time \
     from sisyphus.fires($1, $2, clock_timestamp(), clock_timestamp() + '50 years', $3::bigint::int) f";

const HOSTS: &str = "select * from sisyphus.fleet f \
     where $1::text is null or $1 = any(f.pools) order by f.host";

/// Every state of a run.
pub const STATES: [&str; 13] = [
    "waiting",
    "pending",
    "claimed",
    "running",
    "succeeded",
    "failed",
    "timed_out",
    "terminated",
    "lost",
    "refused",
    "expired",
    "skipped",
    "cancelled",
];

/// Which attempts to list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunFilter<'a> {
    /// Of this job.
    pub job: Option<&'a str>,
    /// On this host.
    pub host: Option<&'a str>,
    /// In this state.
    pub state: Option<&'a str>,
    /// Only failures.
    pub failed: bool,
    /// Only what has not ended.
    pub live: bool,
    /// How many that ended, and that have not started.
    pub limit: i64,
}

/// An argument of schedule().
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Property {
    /// Its name.
    pub name: String,
    /// Its type in SQL.
    pub kind: String,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Setting {
    value: String,
}

impl Session {
    /// The view `overview`.
    pub async fn jobs(&self, pool: Option<&str>, state: Option<&str>) -> Result<Rows> {
        self.rows(JOBS, &[&pool, &state]).await
    }

    /// A job: how it is, then how it is defined. No row when there is none.
    pub async fn job(&self, name: &str) -> Result<Rows> {
        let mut found = self.rows("select * from sisyphus.overview o where o.job = $1", &[&name]).await?;
        let defined = self.rows("select * from sisyphus.definitions d where d.job = $1", &[&name]).await?;
        found.objects.extend(defined.objects);
        Ok(found)
    }

    /// The definition of a job as text to compare, and its tags. No row when there is none.
    pub async fn definition(&self, name: &str) -> Result<Rows> {
        self.rows(DEFINITION, &[&name]).await
    }

    /// What has become of a job since its definition was `before`: created, changed or unchanged.
    pub async fn difference(&self, name: &str, before: Option<&str>) -> Result<Rows> {
        self.rows(DIFFERENCE, &[&name, &before]).await
    }

    /// The arguments of schedule() beside the name, with their types, in its order.
    pub async fn properties(&self) -> Result<Vec<Property>> {
        self.rows(PROPERTIES, &[]).await?.read()
    }

    /// The jobs that the caller may change, perhaps only those with a tag, as they were declared.
    pub async fn declared(&self, tag: Option<&str>) -> Result<Rows> {
        self.rows(DECLARED, &[&tag]).await
    }

    /// The jobs with a tag that the caller may change and that are not among these.
    pub async fn surplus(&self, tag: &str, jobs: &[&str]) -> Result<Rows> {
        self.rows(SURPLUS, &[&tag, &jobs]).await
    }

    /// Live runs, then the newest ended attempts.
    pub async fn runs(&self, filter: &RunFilter<'_>) -> Result<Rows> {
        let RunFilter { job, host, state, failed, live, limit } = filter;
        // Each order has an index behind it; the history may be long.
        let newest = if job.is_some() {
            "h.recorded_at desc, h.attempt desc"
        } else {
            "h.run_id desc, h.attempt desc"
        };
        let query =
            RUNS.replace("{live}", LIVE).replace("{of live}", OF_LIVE).replace("{newest first}", newest);
        self.rows(&query, &[job, host, state, failed, live, limit]).await
    }

    /// A run as it stands while it is live, and its ended attempts, the newest first, with all columns.
    pub async fn run(&self, run_id: i64) -> Result<Rows> {
        let mut live = self.rows("select * from sisyphus.live l where l.run_id = $1", &[&run_id]).await?;
        let ended = self.rows(ATTEMPTS, &[&run_id]).await?;
        live.now = live.now.max(ended.now);
        live.objects.extend(ended.objects);
        Ok(live)
    }

    /// The attempt that ended a run; no row while it has not ended.
    pub async fn ended_run(&self, run_id: i64) -> Result<Rows> {
        self.rows(ENDED, &[&run_id]).await
    }

    /// The state of a run, and whether it is live; no row when there is none.
    pub async fn run_state(&self, run_id: i64) -> Result<Rows> {
        self.rows(STATE, &[&run_id]).await
    }

    /// The newest row of a job's history.
    pub async fn last_end(&self, job: &str) -> Result<Rows> {
        self.rows(LAST_END, &[&job]).await
    }

    /// What the last ended attempt of a run or job wrote.
    pub async fn output(&self, run_id: Option<i64>, job: Option<&str>, attempt: Option<i32>) -> Result<Rows> {
        self.rows(&OUTPUT.replace("{end}", END), &[&run_id, &job, &attempt]).await
    }

    /// Attempts and unstarted runs that ended since an instant, or up to a minute before, and that are not among
    /// those seen; a hundred at most, the oldest first.
    pub async fn ends(
        &self,
        run_id: Option<i64>,
        job: Option<&str>,
        since: f64,
        seen: (&[i64], &[i64]),
    ) -> Result<Rows> {
        self.rows(&ENDS.replace("{end}", END), &[&run_id, &job, &since, &seen.0, &seen.1]).await
    }

    /// The database's clock, seconds of the epoch.
    pub async fn now(&self) -> Result<f64> {
        Ok(self.rows("select", &[]).await?.now)
    }

    /// The view `upcoming`.
    pub async fn upcoming(&self, limit: i64) -> Result<Rows> {
        self.rows("select * from sisyphus.upcoming u order by u.due_at, u.job limit $1", &[&limit]).await
    }

    /// The next occurrences of a schedule that no job has.
    pub async fn fires(&self, schedule: &str, timezone: &str, limit: i64) -> Result<Rows> {
        self.rows(FIRES, &[&schedule, &timezone, &limit]).await
    }

    /// The view `fleet`.
    pub async fn hosts(&self, pool: Option<&str>) -> Result<Rows> {
        self.rows(HOSTS, &[&pool]).await
    }

    /// The names of all hosts.
    pub async fn host_names(&self) -> Result<Vec<String>> {
        self.names("select f.host as name from sisyphus.fleet f order by f.host").await
    }

    /// The names of all pools.
    pub async fn pool_names(&self) -> Result<Vec<String>> {
        self.names("select q.pool as name from sisyphus.queue_depth q order by q.pool").await
    }

    async fn names(&self, query: &str) -> Result<Vec<String>> {
        let found: Vec<Named> = self.rows(query, &[]).await?.read()?;
        Ok(found.into_iter().map(|row| row.name).collect())
    }

    /// The view `calendars`, or the one row of it.
    pub async fn calendars(&self, name: Option<&str>) -> Result<Rows> {
        let query = "select * from sisyphus.calendars c where $1::text is null or c.calendar = $1 order by c.calendar";
        self.rows(query, &[&name]).await
    }

    /// A setting of the installation.
    pub async fn setting(&self, name: &str) -> Result<String> {
        let rows = self.rows("select s.value from sisyphus.settings s where s.name = $1", &[&name]).await?;
        let mut found: Vec<Setting> = rows.read()?;
        Ok(found.pop().map(|setting| setting.value).unwrap_or_default())
    }

    /// The view `queue_depth`, or the one row of it.
    pub async fn pools(&self, name: Option<&str>) -> Result<Rows> {
        let query =
            "select * from sisyphus.queue_depth q where $1::text is null or q.pool = $1 order by q.pool";
        self.rows(query, &[&name]).await
    }
}
