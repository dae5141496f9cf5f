//! What a guardian and the database say to each other, as [`super::Api`] passes it.

use std::{fmt, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use uuid::Uuid;

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
    /// The newest tick that this host saw, and in which installation.
    pub seen_tick: Option<SeenTick>,
}

/// A tick of an installation, which a backup of it may not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenTick {
    /// The installation.
    pub installation: Uuid,
    /// When, microseconds since 1970.
    pub at_us: i64,
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
    /// The database's clock, microseconds since 1970.
    pub now_us: i64,
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
    /// The newest tick it saw, microseconds since 1970.
    pub seen_tick_us: Option<i64>,
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
    /// Stop its processes.
    Pause,
    /// Let them go on.
    Unpause,
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
    /// The newest tick, microseconds since 1970.
    pub tick_us: Option<i64>,
    /// `active` or `draining`.
    pub state: String,
    /// Runs the host may take at once, as an operator or its guardian has said.
    pub slots: Option<i32>,
    /// Bytes kept of each output stream where the job does not say.
    pub output_limit: i64,
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
    pub(super) timeline: String,
    pub(super) started_at: String,
    pub(super) system_identifier: String,
    pub(super) address: String,
}

/// All that tells it from another, in a line.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { timeline, started_at, system_identifier, address } = self;
        write!(f, "{system_identifier} {timeline} {started_at} {address}")
    }
}

impl Server {
    /// The `system_identifier` of its cluster.
    pub fn system_identifier(&self) -> &str {
        &self.system_identifier
    }

    /// Address and port of its end of the connection; `local` for a Unix socket.
    pub fn address(&self) -> &str {
        &self.address
    }
}
