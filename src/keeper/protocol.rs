//! The socket protocol between guardian and keeper: one JSON object a line, externally tagged.
//!
//! A conversation begins with [`Request::Hello`], answered by [`Event::Hello`]; then every result that is
//! not acknowledged yet is offered, and again after each later hello. A hello with a higher epoch closes
//! the connections of lower ones, and what stands unread in them is never executed.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use uuid::Uuid;

/// The version of this protocol; a keeper closes a connection that greets with another one.
pub const PROTOCOL: u32 = 1;

/// The longest line either side accepts. The client refuses to send a longer one.
pub const MAX_LINE: usize = 64 << 20;

/// What a guardian says to a keeper.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// First line of a connection.
    Hello(GuardianHello),
    /// Asks for everything the keeper holds: [`Event::Listed`].
    List {},
    /// Starts a run. Idempotent by [`RunKey`]: a repeated start of a live run answers
    /// [`Event::Started`] again, of an ended one its [`Event::Result`].
    Start(Box<Start>),
    /// Ends a run (TERM, grace, KILL to all of it), stops it or lets it go on. A run that is not here is ignored.
    Signal(Signal),
    /// Moves the deadline of a fenced run; the KILL comes at the deadline, the TERM `grace` earlier.
    Deadline(Deadline),
    /// The database has committed this result; the keeper need not offer it any more.
    Ack(RunKey),
    /// Offers again what was acknowledged in the last ten minutes (a failover may have lost it), the newest 64 MiB
    /// whole and what is older with little of its output, and says [`Event::Offered`] after the last.
    Offer {},
    /// Another keeper starts the runs from now on: the keeper refuses to, and leaves, saying
    /// [`Event::Retired`], when nothing lives in it and every result is acknowledged.
    Retire {
        /// Only if that is so at this moment; otherwise nothing changes.
        #[serde(default)]
        if_idle: bool,
    },
}

/// What a keeper says to a guardian.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Answer to the hello.
    Hello(KeeperHello),
    /// Answer to `list`.
    Listed {
        /// Live runs, and ended ones whose result is not acknowledged.
        runs: Vec<Held>,
    },
    /// The program of this run is executing.
    Started(Started),
    /// The run was not started and never will be by this `start`; the job is not the reason. The guardian gives the
    /// run back.
    Refused(Refused),
    /// The run has ended, or could not be started. Offered until acknowledged.
    Result(Box<RunResult>),
    /// All that was asked for with `offer` has been offered.
    Offered {},
    /// The keeper was told to retire, has nothing left to do, and leaves once it has said what it was asked.
    Retired {},
}

/// The identity of one claimed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RunKey {
    /// The database installation that owns the run.
    pub installation: Uuid,
    /// The run.
    pub run_id: i64,
    /// The claim, the fence of the attempt.
    pub claim_no: i64,
}

/// Greeting of a guardian.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardianHello {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// A counter raised by each guardian under the lock of the state directory.
    pub epoch: u64,
}

/// Greeting of a keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeeperHello {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// New with each start of a keeper; every process of its jobs carries it as `SISYPHUS_KEEPER`.
    pub keeper_id: Uuid,
    /// The keeper's process id as it knows it itself, for people: elsewhere than in its pid namespace it has another one.
    pub pid: i32,
    /// The boot the keeper runs in.
    pub boot_id: String,
    /// Limits by name that this host cannot hold a run to, or not the run as a whole.
    #[serde(default)]
    pub unenforced: Vec<String>,
    /// What it executes, as [`super::program()`] has it.
    #[serde(default)]
    pub program: String,
    /// Whether it was told to retire.
    #[serde(default)]
    pub retiring: bool,
}

/// The order to start a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Start {
    /// The database installation that owns the run.
    pub installation: Uuid,
    /// The host's name in the database (`SISYPHUS_HOST`).
    pub host: String,
    /// The database that sends it, for the host's policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<Database>,
    /// What to run.
    pub spec: RunSpec,
    /// First deadline of a fenced run (`CLOCK_BOOTTIME`, microseconds), so that no moment is unguarded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_boottime_us: Option<i64>,
    /// Not to be started at or after this (`CLOCK_BOOTTIME`, microseconds), however long the order has been on its
    /// way or unread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_boottime_us: Option<i64>,
}

impl Start {
    /// The identity of the attempt to start.
    pub fn key(&self) -> RunKey {
        RunKey { installation: self.installation, run_id: self.spec.run_id, claim_no: self.spec.claim_no }
    }
}

/// A database as its guardian knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// `system_identifier` of its cluster.
    pub system_identifier: String,
    /// Address and port as the server has them, `10.0.0.1:5432`; `local` over a Unix socket.
    pub address: String,
}

/// What to run, as the database wrote it at the claim.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunSpec {
    /// Name of the job.
    pub job: String,
    /// The database role that owns the job.
    #[serde(default)]
    pub owner: Option<String>,
    /// The run.
    pub run_id: i64,
    /// Which try of the run this is.
    pub attempt: i32,
    /// The claim.
    pub claim_no: i64,
    /// A command line for `/bin/sh -c`; exactly one of `command` and `argv` is given.
    #[serde(default)]
    pub command: Option<String>,
    /// A program and its arguments, executed without a shell, looked up in the job's PATH.
    #[serde(default)]
    pub argv: Option<Vec<String>>,
    /// Variables on top of the environment built from nothing. A text stands for itself, null unsets.
    #[serde(default)]
    pub env: Option<BTreeMap<String, Value>>,
    /// Working directory; the home directory when absent.
    #[serde(default)]
    pub cwd: Option<String>,
    /// Operating system user.
    #[serde(default)]
    pub run_as: Option<String>,
    /// Given whole on standard input, byte for byte as the database printed it.
    #[serde(default)]
    pub payload: Option<Box<RawValue>>,
    /// When the run is due, microseconds since 1970.
    pub due_us: i64,
    /// Not to be started at or after this. The guardian checks it, which knows the database's clock, and tells the
    /// keeper until when that holds.
    #[serde(default)]
    pub expires_us: Option<i64>,
    /// Seconds after which the run is ended as `timeout`.
    #[serde(default)]
    pub max_runtime: Option<f64>,
    /// Seconds between TERM and KILL.
    pub grace: f64,
    /// Whether the run must end before the lease does.
    #[serde(default)]
    pub fenced: bool,
    /// Resource limits by name.
    #[serde(default)]
    pub limits: Option<serde_json::Map<String, Value>>,
    /// What becomes of processes that the job leaves behind.
    #[serde(default)]
    pub leftovers: Leftovers,
    /// Bytes kept of each output stream.
    #[serde(default = "default_output_limit")]
    pub output_limit: u64,
}

fn default_output_limit() -> u64 {
    64 << 10
}

/// What becomes of processes that a job leaves behind when its first process ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leftovers {
    /// They are killed.
    #[default]
    Kill,
    /// They live on and are nobody's.
    Leave,
}

/// An intervention in a live run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Signal {
    /// The run.
    #[serde(flatten)]
    pub key: RunKey,
    /// What to do.
    pub action: Action,
    /// Why, for the history.
    pub reason: String,
}

/// The kinds of intervention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// TERM, grace, KILL.
    Terminate,
    /// All its processes stop, and its `max_runtime` with them.
    Pause,
    /// They go on.
    Unpause,
}

/// A new deadline of a fenced run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadline {
    /// The run.
    #[serde(flatten)]
    pub key: RunKey,
    /// `CLOCK_BOOTTIME` in microseconds.
    pub boottime_us: i64,
}

/// One line of [`Event::Listed`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The run.
    #[serde(flatten)]
    pub key: RunKey,
    /// Its first process, while it lives.
    pub pid: Option<i32>,
    /// When it was started, while it lives.
    pub started: Option<Time>,
    /// Whether it has ended and its result waits to be acknowledged.
    pub ended: bool,
}

/// The program of a run is executing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The run.
    #[serde(flatten)]
    pub key: RunKey,
    /// Its first process, leader of a session of its own.
    pub pid: i32,
    /// When.
    pub started: Time,
}

/// A run that this keeper did not start, for a reason that is not the job's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The run.
    #[serde(flatten)]
    pub key: RunKey,
    /// Why, for people.
    pub reason: String,
    /// Whether the order alone was the reason, as one that came too late. Otherwise it is the host, for a while (no
    /// process or descriptor to be had, keeper is stopping).
    #[serde(default)]
    pub fit: bool,
}

/// Why a run did not end by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// It ran longer than `max_runtime`.
    Timeout,
    /// Somebody asked for it.
    Terminate,
    /// Its guardian could not renew the lease in time.
    Fence,
    /// It could not be started; the reason says why.
    Spawn,
    /// The host does not allow or support what was asked; it was not started.
    Policy,
    /// Its keeper was stopped.
    Keeper,
}

impl EndedBy {
    /// The word that `finish_job` takes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Terminate => "terminate",
            Self::Fence => "fence",
            Self::Spawn => "spawn",
            Self::Policy => "policy",
            Self::Keeper => "keeper",
        }
    }
}

/// How a run ended. Texts hold no NUL and are valid UTF-8, cut to the run's output limit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunResult {
    /// The run.
    #[serde(flatten)]
    pub key: RunKey,
    /// Its first process; absent when none was made.
    pub pid: Option<i32>,
    /// Exit code, when it exited.
    pub exit_code: Option<i32>,
    /// Signal number, when a signal killed it.
    pub signal: Option<i32>,
    /// Absent when it ended by itself.
    pub ended_by: Option<EndedBy>,
    /// For people.
    pub reason: Option<String>,
    /// Absent when it could not be started.
    pub started: Option<Time>,
    /// When its first process ended.
    pub finished: Time,
    /// Head and tail of standard output.
    pub stdout: String,
    /// Head and tail of standard error.
    pub stderr: String,
    /// What the job wrote to `SISYPHUS_RESULT_FILE`.
    pub result: Option<Box<RawValue>>,
    /// User CPU seconds.
    pub cpu_user: f64,
    /// System CPU seconds.
    pub cpu_system: f64,
    /// Peak resident memory in bytes.
    pub peak_memory: i64,
}

/// A moment on this host. Turn it into database time by the boot clock while the boot is the same, else by
/// the wall clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Time {
    /// `CLOCK_BOOTTIME`, microseconds.
    pub boottime_us: i64,
    /// `CLOCK_REALTIME`, microseconds since 1970.
    pub realtime_us: i64,
    /// The boot it was read in.
    pub boot_id: String,
}
