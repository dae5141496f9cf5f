//! The functions of the schema that a guardian calls, one typed method each. All its SQL text is here.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use tokio::time::timeout;
use tokio_postgres::{
    Client, Row,
    types::{Json, ToSql, Type},
};
use uuid::Uuid;

use super::session::CALL_TIMEOUT;
use crate::error::{Error, ErrorKind, Result};

/// The functions, called over one session. Nothing is prepared, so that a transaction pooler may stand in
/// between.
#[derive(Debug, Clone, Copy)]
pub struct Api<'a> {
    client: &'a Client,
}

/// What a guardian says of itself when it registers.
#[derive(Debug, Clone)]
pub struct Registration {
    /// Name of the host.
    pub host: String,
    /// Runs it takes at once.
    pub slots: i32,
    /// Labels it claims.
    pub labels: Value,
    /// Pools it asks to join.
    pub pools: Vec<String>,
    /// Random identity of the state directory.
    pub host_key: Uuid,
    /// Boot of the machine.
    pub boot_id: String,
    /// Keepers alive on the host.
    pub keepers: Vec<Uuid>,
    /// What they hold.
    pub held: Vec<HeldClaim>,
    /// Whether this is one pass of `--once`.
    pub periodic: bool,
}

/// A claim that a keeper holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldClaim {
    /// The run.
    pub run_id: i64,
    /// The claim.
    pub claim_no: i64,
    /// Whether it has ended and its result waits to be delivered.
    pub ended: bool,
}

/// The answer to a registration.
#[derive(Debug, Clone)]
pub struct Registered {
    /// This incarnation; every later call carries it.
    pub guardian_id: i64,
    /// The host; its channel is `sisyphus_host_<host_id>`.
    pub host_id: i64,
    /// The installation that owns this database's runs.
    pub installation: Uuid,
    /// Times that govern the guardian.
    pub settings: Settings,
    /// What of the held claims is still this host's.
    pub held: Vec<HeldClaim>,
}

/// Settings of the installation, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Settings {
    /// Longest time between two claims.
    pub heartbeat: f64,
    /// A guardian not heard of for this long is lost.
    pub lease_timeout: f64,
    /// How long before it is due a run may be claimed.
    pub claim_ahead: f64,
}

/// A request for work, which is also the heartbeat.
#[derive(Debug, Clone)]
pub struct Claim {
    /// This incarnation.
    pub guardian_id: i64,
    /// At most this many runs, those ahead of their time included.
    pub max_runs: i32,
    /// At most this many that are due.
    pub slots_free: i32,
    /// How far ahead.
    pub ahead: Duration,
    /// Claims received and neither finished nor given back.
    pub holding: Vec<i64>,
    /// Requests received since the last call that succeeded.
    pub acknowledged: Vec<i64>,
    /// For the view `fleet`.
    pub report: Report,
}

/// What a guardian tells of itself with each claim.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Runs it takes at once.
    pub slots: i32,
    /// Processes it has.
    pub running: i32,
    /// The host's clock less the database's.
    pub clock_offset_ms: Option<f64>,
    /// What hinders it.
    pub problem: Option<String>,
}

/// The answer to a claim.
#[derive(Debug, Default)]
pub struct Claimed {
    /// Runs, each with the seconds until it starts.
    pub runs: Vec<ClaimedRun>,
    /// Requests for runs that the guardian has.
    pub requests: Vec<RunRequest>,
    /// Seconds until the next claim.
    pub next_in: f64,
    /// The rest of the answer.
    pub next: Next,
}

/// A run that is now this guardian's.
#[derive(Debug)]
pub struct ClaimedRun {
    /// The run.
    pub run_id: i64,
    /// The claim.
    pub claim_no: i64,
    /// Seconds from [`Next::now_us`] to its start; negative: overdue.
    pub starts_in: f64,
    /// What to run, for the keeper.
    pub spec: Box<RawValue>,
}

/// A person's wish that concerns a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRequest {
    /// To be acknowledged with the next claim.
    pub request_id: i64,
    /// The run.
    pub run_id: i64,
    /// The claim.
    pub claim_no: i64,
    /// What is wanted.
    pub action: RequestedAction,
    /// Why.
    pub reason: String,
}

/// The kinds of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestedAction {
    /// End it.
    Terminate,
    /// Give it back when it has not started.
    Recall,
    /// One that this program does not know.
    #[serde(other)]
    Unknown,
}

/// The last row of an answer to a claim.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Next {
    /// The database's clock, microseconds since 1970.
    pub now_us: i64,
    /// Seconds until a tick has something to do.
    pub tick_in: f64,
    /// `active` or `draining`.
    pub state: String,
    /// Runs the host may take at once, when an operator has said so.
    #[serde(default)]
    pub slots: Option<i32>,
}

/// A process that runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// The run.
    pub run_id: i64,
    /// The claim.
    pub claim_no: i64,
    /// Its first process.
    pub pid: i32,
    /// Since when, on the database's clock.
    pub started_at: DateTime<Utc>,
}

/// How an attempt ended.
#[derive(Debug, Clone)]
pub struct Finish {
    /// The run.
    pub run_id: i64,
    /// The claim.
    pub claim_no: i64,
    /// Exit code, when it exited.
    pub exit_code: Option<i32>,
    /// Signal, when one killed it.
    pub signal: Option<i32>,
    /// Why it did not end by itself.
    pub ended_by: Option<&'static str>,
    /// For people.
    pub reason: Option<String>,
    /// On the database's clock.
    pub started_at: Option<DateTime<Utc>>,
    /// On the database's clock.
    pub finished_at: DateTime<Utc>,
    /// Head and tail of standard output; absent when the database cannot hold it.
    pub stdout: Option<String>,
    /// Head and tail of standard error; absent when the database cannot hold it.
    pub stderr: Option<String>,
    /// What the job wrote as its result.
    pub result: Option<Box<RawValue>>,
    /// User CPU seconds.
    pub cpu_user: f64,
    /// System CPU seconds.
    pub cpu_system: f64,
    /// Peak resident bytes.
    pub peak_memory: i64,
    /// Its first process.
    pub pid: Option<i32>,
}

/// What the database says to a write about a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Written.
    Accepted,
    /// Written before: a reply was lost.
    Already,
    /// Kept beside: a later attempt was claimed.
    Superseded,
    /// The claim is lost or the run is unknown.
    Refused,
    /// Somebody holds the row: send again.
    Busy,
}

/// Which server answers; another one may have forgotten what was committed last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    timeline: String,
    started_at: String,
}

type Param<'a> = (&'a (dyn ToSql + Sync), Type);

impl<'a> Api<'a> {
    /// Calls over this session.
    pub fn new(client: &'a Client) -> Self {
        Self { client }
    }

    /// Which server this session is with.
    pub async fn server(&self) -> Result<Server> {
        let rows = self
            .call(
                "select pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8),
                        pg_catalog.pg_postmaster_start_time()::text",
                &[],
            )
            .await?;
        let row = only(&rows)?;
        Ok(Server { timeline: row.try_get(0)?, started_at: row.try_get(1)? })
    }

    /// Subscribes this session to the wake-ups of a host.
    pub async fn listen(&self, host_id: i64) -> Result<()> {
        let sql = format!("listen sisyphus_host_{host_id}");
        within(self.client.batch_execute(&sql)).await
    }

    /// Makes this guardian the one of its host, and takes over what it holds.
    pub async fn register_guardian(&self, this: &Registration) -> Result<Registered> {
        let rows = self
            .call(
                "select guardian_id, host_id, installation, settings, held
                   from sisyphus.register_guardian($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                &[
                    (&this.host, Type::TEXT),
                    (&this.slots, Type::INT4),
                    (&this.labels, Type::JSONB),
                    (&this.pools, Type::TEXT_ARRAY),
                    (&env!("CARGO_PKG_VERSION"), Type::TEXT),
                    (&this.host_key, Type::UUID),
                    (&this.boot_id, Type::TEXT),
                    (&this.keepers, Type::UUID_ARRAY),
                    (&Json(&this.held), Type::JSONB),
                    (&this.periodic, Type::BOOL),
                ],
            )
            .await?;
        let row = only(&rows)?;
        let Json(settings) = row.try_get(3)?;
        let held: Option<Json<Vec<HeldClaim>>> = row.try_get(4)?;
        Ok(Registered {
            guardian_id: row.try_get(0)?,
            host_id: row.try_get(1)?,
            installation: row.try_get(2)?,
            settings,
            held: held.map(|Json(held)| held).unwrap_or_default(),
        })
    }

    /// Claims runs and renews the lease.
    pub async fn claim_job(&self, claim: &Claim) -> Result<Claimed> {
        let ahead = format!("{} microseconds", claim.ahead.as_micros());
        let rows = self
            .call(
                "select kind, run_id, claim_no, starts_in, spec
                   from sisyphus.claim_job($1, $2, $3, $4::text::interval, $5, $6, $7)",
                &[
                    (&claim.guardian_id, Type::INT8),
                    (&claim.max_runs, Type::INT4),
                    (&claim.slots_free, Type::INT4),
                    (&ahead, Type::TEXT),
                    (&claim.holding, Type::INT8_ARRAY),
                    (&claim.acknowledged, Type::INT8_ARRAY),
                    (&Json(&claim.report), Type::JSONB),
                ],
            )
            .await?;
        let mut claimed = Claimed::default();
        for row in &rows {
            match row.try_get(0)? {
                "run" => claimed.runs.push(claimed_run(row)?),
                "request" => claimed.requests.push(run_request(row)?),
                "next" => {
                    claimed.next_in = row.try_get(3)?;
                    Json(claimed.next) = row.try_get(4)?;
                }
                kind => return Err(strange(format!("claim_job() answered with a row of kind {kind:?}"))),
            }
        }
        Ok(claimed)
    }

    /// Reports processes that run.
    pub async fn start_job(&self, guardian_id: i64, starts: &[Start]) -> Result<Vec<(i64, Answer)>> {
        let rows = self
            .call(
                "select claim_no, answer from sisyphus.start_job($1, $2, $3, $4, $5)",
                &[
                    (&guardian_id, Type::INT8),
                    (&column(starts, |s| s.run_id), Type::INT8_ARRAY),
                    (&column(starts, |s| s.claim_no), Type::INT8_ARRAY),
                    (&column(starts, |s| s.pid), Type::INT4_ARRAY),
                    (&column(starts, |s| s.started_at), Type::TIMESTAMPTZ_ARRAY),
                ],
            )
            .await?;
        answers(&rows)
    }

    /// Reports attempts that ended.
    pub async fn finish_job(&self, guardian_id: i64, ends: &[Finish]) -> Result<Vec<(i64, Answer)>> {
        let rows = self
            .call(
                "select claim_no, answer
                   from sisyphus.finish_job($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
                &[
                    (&guardian_id, Type::INT8),
                    (&column(ends, |e| e.run_id), Type::INT8_ARRAY),
                    (&column(ends, |e| e.claim_no), Type::INT8_ARRAY),
                    (&column(ends, |e| e.exit_code), Type::INT4_ARRAY),
                    (&column(ends, |e| e.signal), Type::INT4_ARRAY),
                    (&column(ends, |e| e.ended_by), Type::TEXT_ARRAY),
                    (&column(ends, |e| e.reason.as_deref()), Type::TEXT_ARRAY),
                    (&column(ends, |e| e.started_at), Type::TIMESTAMPTZ_ARRAY),
                    (&column(ends, |e| e.finished_at), Type::TIMESTAMPTZ_ARRAY),
                    (&column(ends, |e| e.stdout.as_deref()), Type::TEXT_ARRAY),
                    (&column(ends, |e| e.stderr.as_deref()), Type::TEXT_ARRAY),
                    (&column(ends, |e| e.result.as_deref().map(Json)), Type::JSONB_ARRAY),
                    (&column(ends, |e| e.cpu_user), Type::FLOAT8_ARRAY),
                    (&column(ends, |e| e.cpu_system), Type::FLOAT8_ARRAY),
                    (&column(ends, |e| e.peak_memory), Type::INT8_ARRAY),
                    (&column(ends, |e| e.pid), Type::INT4_ARRAY),
                ],
            )
            .await?;
        answers(&rows)
    }

    /// Gives claims back that were not started.
    pub async fn release_job(
        &self,
        guardian_id: i64,
        claims: &[(i64, i64)],
        reason: &str,
    ) -> Result<Vec<(i64, Answer)>> {
        let rows = self
            .call(
                "select claim_no, answer from sisyphus.release_job($1, $2, $3, $4)",
                &[
                    (&guardian_id, Type::INT8),
                    (&column(claims, |c| c.0), Type::INT8_ARRAY),
                    (&column(claims, |c| c.1), Type::INT8_ARRAY),
                    (&reason, Type::TEXT),
                ],
            )
            .await?;
        answers(&rows)
    }

    /// Says that this guardian leaves; its host is then `stopped`.
    pub async fn sign_off(&self, guardian_id: i64) -> Result<()> {
        self.call("select sisyphus.sign_off($1)", &[(&guardian_id, Type::INT8)]).await.map(drop)
    }

    /// One pass of the planner. Returns the seconds until the next one has something to do.
    pub async fn tick(&self) -> Result<f64> {
        let rows = self
            .call(
                "select extract(epoch from t.next_at - pg_catalog.clock_timestamp())::float8
                   from sisyphus.tick() t(next_at)",
                &[],
            )
            .await?;
        Ok(only(&rows)?.try_get(0)?)
    }

    /// Drops partitions of the history whose time is over.
    pub async fn maintain(&self) -> Result<()> {
        self.call("select sisyphus.maintain()", &[]).await.map(drop)
    }

    async fn call(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>> {
        within(self.client.query_typed(sql, params)).await
    }
}

/// Bounds a call. After a timeout the session is of no more use, which [`ErrorKind::Unreachable`] says.
async fn within<T>(call: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T> {
    match timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Error::new(
            ErrorKind::Unreachable,
            format!("the database did not answer within {CALL_TIMEOUT:?}"),
        )),
    }
}

fn column<'a, T, V>(rows: &'a [T], value: impl Fn(&'a T) -> V) -> Vec<V> {
    rows.iter().map(value).collect()
}

fn only(rows: &[Row]) -> Result<&Row> {
    rows.first().ok_or_else(|| strange("a function that returns one row returned none"))
}

fn strange(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Schema, what)
        .hint("the schema is of another version than this program: run `sisyphus migrate`")
}

fn claimed_run(row: &Row) -> Result<ClaimedRun> {
    let Json(spec) = row.try_get(4)?;
    Ok(ClaimedRun { run_id: row.try_get(1)?, claim_no: row.try_get(2)?, starts_in: row.try_get(3)?, spec })
}

fn run_request(row: &Row) -> Result<RunRequest> {
    #[derive(Deserialize)]
    struct Wish {
        request_id: i64,
        action: RequestedAction,
        reason: Option<String>,
    }
    let Json(wish): Json<Wish> = row.try_get(4)?;
    Ok(RunRequest {
        request_id: wish.request_id,
        run_id: row.try_get(1)?,
        claim_no: row.try_get(2)?,
        action: wish.action,
        reason: wish.reason.unwrap_or_default(),
    })
}

fn answers(rows: &[Row]) -> Result<Vec<(i64, Answer)>> {
    rows.iter()
        .map(|row| {
            let answer = match row.try_get(1)? {
                "accepted" => Answer::Accepted,
                "already" => Answer::Already,
                "superseded" => Answer::Superseded,
                "refused" => Answer::Refused,
                "busy" => Answer::Busy,
                word => return Err(strange(format!("the database answered {word:?}"))),
            };
            Ok((row.try_get(0)?, answer))
        })
        .collect()
}
