//! What the checker reads: jobs, rows of the history, processes, faults and calls. Times are microseconds since 1970.

use super::standing::Change;

/// One second.
pub(super) const SECOND: i64 = 1_000_000;

/// What a job may do, as it was scheduled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job {
    pub(super) name: &'static str,
    /// Seconds between occurrences, counted from midnight UTC; none: on demand.
    pub(super) period: Option<i64>,
    /// Whether each host has a run of its own.
    pub(super) all: bool,
    pub(super) overlap: &'static str,
    /// Seconds; none: until the next occurrence is due, and for ever on demand.
    pub(super) ttl: Option<i64>,
    pub(super) missed: &'static str,
    /// Seconds.
    pub(super) max_runtime: Option<i64>,
    pub(super) retries: i32,
    /// Seconds.
    pub(super) retry_delay: i32,
    pub(super) retry_on_lost: bool,
    pub(super) fenced: bool,
    /// Whether its definition is changed all the while; then `period` is of the first one.
    pub(super) changing: bool,
    /// What it does: tenths of a second from and to, how many in a hundred fail, bytes of output.
    pub(super) work: [u32; 4],
}

impl Job {
    /// One that runs when asked to, beside itself.
    pub(super) const PLAIN: Self = Self {
        name: "",
        period: None,
        all: false,
        overlap: "allow",
        ttl: None,
        missed: "latest",
        max_runtime: None,
        retries: 0,
        retry_delay: 1,
        retry_on_lost: false,
        fenced: false,
        changing: false,
        work: [0, 0, 0, 0],
    };

    pub(super) fn exclusive(&self) -> bool {
        self.overlap != "allow"
    }
}

/// A row of the history.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Row {
    pub(super) run_id: i64,
    pub(super) attempt: i32,
    pub(super) claim_no: Option<i64>,
    pub(super) is_final: bool,
    pub(super) origin: String,
    pub(super) job: String,
    pub(super) host: Option<String>,
    pub(super) state: String,
    pub(super) reason: String,
    pub(super) exit_code: Option<i32>,
    pub(super) signal: Option<i32>,
    pub(super) due: i64,
    pub(super) nominal: i64,
    pub(super) last_due: Option<i64>,
    pub(super) expires: Option<i64>,
    pub(super) claimed: Option<i64>,
    pub(super) started: Option<i64>,
    pub(super) finished: i64,
    pub(super) recorded: i64,
    pub(super) occurrences: i64,
    pub(super) late_exit_code: Option<i32>,
    /// The number of the change that made the version of the job that it names.
    pub(super) definition: Option<i64>,
    /// The number in its payload.
    pub(super) token: Option<i64>,
}

/// A process, by what it wrote about itself.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Process {
    pub(super) job: String,
    pub(super) run_id: i64,
    pub(super) attempt: i32,
    pub(super) claim_no: i64,
    pub(super) host: String,
    /// The number in its payload.
    pub(super) token: Option<i64>,
    /// The number of the change that made the definition it runs by; 0 is the first.
    pub(super) definition: i64,
    pub(super) due: i64,
    pub(super) pid: i32,
    /// It was forked between these two moments, by the clock of the machine.
    pub(super) began: (i64, i64),
    /// The last sign of life.
    pub(super) seen: i64,
    pub(super) ended: Option<(i64, i32)>,
}

/// What the driver breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    GuardianKilled,
    GuardianStopped,
    GuardianPaused,
    KeeperKilled,
    /// Stopped by a signal, it and the older ones beside it, but not their writers.
    KeeperPaused,
    HostCrashed,
    /// The file of the program is replaced, and after a while the guardian restarted, which begins a keeper of its own.
    Upgraded,
    BackendsEnded,
    ServerRestarted,
    ServerCrashed,
    FailedOver,
    /// A failover to a standby that did not know the last commits: those of the whole time of the fault.
    CommitsLost,
    NetworkCut,
    NetworkSlow,
    NetworkReset,
    ConnectionsStranded,
    ReplyLost,
    DiskFull,
}

impl Kind {
    /// Whether the host may not be heard of for seconds: nothing ends its session, or nothing is there to open another.
    /// An upgrade is over in a moment, and excuses nothing.
    pub(super) fn silences(self) -> bool {
        matches!(
            self,
            Self::GuardianKilled
                | Self::GuardianStopped
                | Self::GuardianPaused
                | Self::HostCrashed
                | Self::NetworkCut
                | Self::ConnectionsStranded
        )
    }

    /// Whether the server may be away for seconds.
    pub(super) fn takes_the_server_away(self) -> bool {
        matches!(self, Self::ServerRestarted | Self::ServerCrashed | Self::FailedOver | Self::CommitsLost)
    }

    /// Whether the keeper may not hear for seconds that a lease was renewed.
    pub(super) fn hides_the_lease(self) -> bool {
        self.silences() || self.takes_the_server_away() || self == Self::KeeperPaused
    }

    /// Whether a program of the host does nothing for a while, and then what it was told before.
    pub(super) fn pauses(self) -> bool {
        matches!(self, Self::GuardianPaused | Self::KeeperPaused)
    }

    /// Whether the keeper of the host died of it.
    pub(super) fn ends_the_keeper(self) -> bool {
        matches!(self, Self::KeeperKilled | Self::HostCrashed)
    }
}

/// Something broken: on one host, or, with no host, for all of them.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    pub(super) host: Option<String>,
    pub(super) from: i64,
    pub(super) until: i64,
}

/// Runs asked for by hand, each with a number of its own as payload.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) job: &'static str,
    pub(super) tokens: Vec<i64>,
    /// When the answer came.
    pub(super) at: i64,
    /// Whether the database has said that it is done; else it may have been, as a whole.
    pub(super) acknowledged: bool,
}

/// All there is to know.
#[derive(Debug, Clone, Default)]
pub(super) struct Books {
    pub(super) jobs: Vec<Job>,
    pub(super) hosts: Vec<String>,
    /// Occurrences from the first, before the second.
    pub(super) span: (i64, i64),
    pub(super) lease: i64,
    pub(super) claim_ahead: i64,
    pub(super) plan_ahead: i64,
    pub(super) rows: Vec<Row>,
    /// Runs that have not ended.
    pub(super) live: Vec<i64>,
    pub(super) processes: Vec<Process>,
    pub(super) faults: Vec<Fault>,
    pub(super) calls: Vec<Call>,
    /// In the order in which they were asked for.
    pub(super) changes: Vec<Change>,
    /// When the machine was late, and by how much.
    pub(super) stalls: Vec<(i64, i64)>,
}

/// The clock of the machine, which witness, driver and servers share.
#[expect(clippy::disallowed_methods, reason = "the witness is independent of the database's clock")]
pub(super) fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.expect("after 1970").as_micros()).expect("before the year 290000")
}
