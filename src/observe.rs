//! Logging: where it goes, how it looks, and the names of what is logged.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::error::{Error, ErrorKind, Result};

/// The variable that sets what is logged, in the form of `RUST_LOG`.
pub const LOG_VARIABLE: &str = "SISYPHUS_LOG";

/// What is logged when [`LOG_VARIABLE`] is not set. Refinery tells each migration itself; the server's
/// notices of the migration are of no use to a person.
pub const DEFAULT_FILTER: &str = "info,refinery_core=warn,tokio_postgres=warn";

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object a line, for collectors
    Json,
}

macro_rules! events {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal;)*) => {
        $($(#[doc = $doc])* pub const $name: &str = $text;)*
        /// All of them.
        pub const ALL: &[&str] = &[$($name),*];
    };
}

/// Names of events, the value of the field `event` in each line of the log. docs/monitoring.md has a row for each.
pub mod event {
    events! {
        /// Another migrator holds the lock of this database.
        MIGRATE_WAITING = "migrate.waiting";
        /// The password file was not used because others can read it.
        PASSWORD_FILE_IGNORED = "config.password_file_ignored";
        /// A guardian starts.
        GUARDIAN_STARTING = "guardian.starting";
        /// Another guardian is at work: this pass of `--once` only ticks.
        GUARDIAN_ONLY_TICKS = "guardian.only_ticks";
        /// The database knows the guardian.
        GUARDIAN_REGISTERED = "guardian.registered";
        /// The database knows it no more.
        GUARDIAN_SUPERSEDED = "guardian.superseded";
        /// The machine slept, or the process was stopped.
        GUARDIAN_WOKE_LATE = "guardian.woke_late";
        /// It was told to read its settings again.
        GUARDIAN_RELOADED = "guardian.reloaded";
        /// It could not read its settings, and goes on with the old ones.
        GUARDIAN_RELOAD_FAILED = "guardian.reload_failed";
        /// It was told to stop.
        GUARDIAN_STOPPING = "guardian.stopping";
        /// It has left.
        GUARDIAN_ENDED = "guardian.ended";
        /// A session for claims stands.
        DATABASE_CONNECTED = "database.connected";
        /// That session is lost.
        DATABASE_LOST = "database.lost";
        /// It is out of reach: told at first, when the reason is another one, and once a minute.
        DATABASE_AWAY = "database.away";
        /// The database answered a registration or claim with an error.
        DATABASE_REFUSED = "database.refused";
        /// The planner's pass failed.
        TICK_FAILED = "tick.failed";
        /// Starts, ends or releases could not be reported, and will be again.
        REPORT_FAILED = "report.failed";
        /// The keeper answers.
        KEEPER_CONNECTED = "keeper.connected";
        /// It does not.
        KEEPER_LOST = "keeper.lost";
        /// An older keeper stays beside it until its last run has ended.
        KEEPER_OLDER = "keeper.older";
        /// One that is alive does not answer; what it has stays its own.
        KEEPER_SILENT = "keeper.silent";
        /// An older keeper has left.
        KEEPER_LEFT = "keeper.left";
        /// The keeper of a unit has left, for the unit to start a newer one.
        KEEPER_REPLACED = "keeper.replaced";
        /// No newer keeper can be started: the older one starts the runs.
        KEEPER_OLD = "keeper.old";
        /// A guardian that got SIGHUP could not pass it on.
        KEEPER_NOT_RELOADED = "keeper.not_reloaded";
        /// The place of an older keeper cannot be used; what it has stays its own.
        KEEPER_PLACE_BROKEN = "keeper.place_broken";
        /// What an older keeper left cannot be removed.
        KEEPER_PLACE_KEPT = "keeper.place_kept";
        /// A keeper listens.
        KEEPER_STARTED = "keeper.started";
        /// It has nothing left to do and ends.
        KEEPER_ENDED = "keeper.ended";
        /// Processes that a dead keeper had left were ended.
        KEEPER_SWEPT = "keeper.swept";
        /// Some of them cannot be.
        KEEPER_SWEEP_FAILED = "keeper.sweep_failed";
        /// Each run gets a control group.
        KEEPER_GROUPS = "keeper.groups";
        /// No control groups can be had.
        KEEPER_NO_GROUPS = "keeper.no_groups";
        /// The policy was read again.
        KEEPER_POLICY_READ = "keeper.policy_read";
        /// It is not right, and the old rules stay in force.
        KEEPER_POLICY_KEPT = "keeper.policy_kept";
        /// A connection cannot be taken, and is tried again.
        KEEPER_DEAF = "keeper.deaf";
        /// Another user's connection was turned away.
        KEEPER_STRANGER = "keeper.stranger";
        /// A request cannot be read, and its connection is closed.
        KEEPER_REQUEST_UNREADABLE = "keeper.request_unreadable";
        /// The disk does not take results; they wait in memory, and are cut if they must.
        KEEPER_RESULTS_UNSTORED = "keeper.results_unstored";
        /// A stored result cannot be read again.
        KEEPER_RESULT_UNREADABLE = "keeper.result_unreadable";
        /// The process that stores results has died; another one is started, at most once a second.
        KEEPER_WRITER_DIED = "keeper.writer_died";
        /// The host takes no runs.
        HOST_UNFIT = "host.unfit";
        /// It takes runs again.
        HOST_FIT = "host.fit";
        /// What to run cannot be read.
        RUN_UNREADABLE = "run.unreadable";
        /// A run is given back: the host could not start it (an error), or the order came too late.
        RUN_NOT_STARTED = "run.not_started";
        /// What another server may lack has been offered again, and is delivered.
        RESULTS_OFFERED = "results.offered";
        /// A result came when the claim was lost.
        RUN_TOO_LATE = "run.too_late";
        /// A result cannot be stored in any form, and is sent again, ever more rarely.
        RUN_UNSTORABLE = "run.unstorable";
        /// A request of a kind that only newer guardians know.
        REQUEST_UNKNOWN = "request.unknown";
        /// The service manager cannot be told.
        SUPERVISOR_UNREACHABLE = "supervisor.unreachable";
        /// The address for metrics does not take connections.
        HTTP_FAILED = "http.failed";
    }
}

/// A number that a guardian shows at `/metrics`.
#[derive(Debug)]
pub struct Metric {
    /// Its name in Prometheus.
    pub name: &'static str,
    /// gauge, counter or histogram.
    pub kind: &'static str,
    /// What it says.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($name:ident = $kind:literal $text:literal $help:literal;)*) => {
        $(#[doc = $help] pub const $name: Metric = Metric { name: $text, kind: $kind, help: $help };)*
        /// All of them.
        pub const ALL: &[&Metric] = &[$(&$name),*];
    };
}

/// The numbers of a guardian. docs/monitoring.md has a row for each.
#[rustfmt::skip]
pub mod metric {
    use super::Metric;

    metrics! {
        BUILD = "gauge" "sisyphus_build_info" "Always 1; the version is a label";
        READY = "gauge" "sisyphus_guardian_ready" "Whether it has database, registration and keeper, and takes runs";
        CONNECTED = "gauge" "sisyphus_guardian_database_connected" "Whether the session for claims stands";
        KEEPER = "gauge" "sisyphus_guardian_keeper_connected" "Whether the keeper answers";
        FIT = "gauge" "sisyphus_guardian_fit" "0 while something keeps the host from taking runs, as in fleet.problem";
        SLOTS = "gauge" "sisyphus_guardian_slots" "Runs that the host takes at once";
        RUNS = "gauge" "sisyphus_guardian_runs" "Runs it holds, by stage: waiting, starting, running, ended, releasing";
        CLAIM_AGE = "gauge" "sisyphus_guardian_claim_age_seconds" "Time since the last claim that was answered was sent; absent before the first";
        CLOCK_OFFSET = "gauge" "sisyphus_guardian_clock_offset_seconds" "The host's clock less the database's; absent before the first claim";
        CONNECTS = "counter" "sisyphus_guardian_connects_total" "Sessions for claims that were opened";
        CLAIMS = "counter" "sisyphus_guardian_claims_total" "Claims that were answered";
        CLAIM_SECONDS = "counter" "sisyphus_guardian_claim_seconds_total" "Time that those took";
        CLAIMED = "counter" "sisyphus_guardian_runs_claimed_total" "Runs that they brought";
        STARTED = "counter" "sisyphus_guardian_runs_started_total" "Runs that the keeper has started";
        REFUSED = "counter" "sisyphus_guardian_runs_not_started_total" "Runs that the host could not start";
        RELEASED = "counter" "sisyphus_guardian_runs_released_total" "Runs that were given back";
        RECORDED = "counter" "sisyphus_guardian_results_total" "Results that the database has answered for";
        LATENESS = "histogram" "sisyphus_guardian_start_lateness_seconds" "From the due instant to the start, of runs claimed ahead";
        CPU = "counter" "process_cpu_seconds_total" "User and system time of the guardian";
        MEMORY = "gauge" "process_resident_memory_bytes" "Its resident memory";
        FILES = "gauge" "process_open_fds" "Its open files";
    }
}

/// What is logged, and where that was said.
pub fn filter() -> (String, &'static str) {
    std::env::var(LOG_VARIABLE)
        .ok()
        .filter(|wanted| !wanted.is_empty())
        .map_or_else(|| (DEFAULT_FILTER.to_owned(), "default"), |wanted| (wanted, LOG_VARIABLE))
}

/// Starts logging to stderr. To be called once, before the first event.
pub fn init(format: LogFormat) -> Result<()> {
    let (wanted, _) = filter();
    let filter = EnvFilter::try_new(&wanted).map_err(|e| {
        Error::new(ErrorKind::Config, format!("{LOG_VARIABLE}={wanted:?} is not a log filter"))
            .hint("for example SISYPHUS_LOG=debug or SISYPHUS_LOG=info,sisyphus::guardian=trace")
            .source(e)
    })?;
    let registry = tracing_subscriber::registry().with(filter);
    let to_stderr = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let begun = match format {
        LogFormat::Text => registry.with(to_stderr.with_ansi(std::io::stderr().is_terminal())).try_init(),
        LogFormat::Json => registry.with(to_stderr.json().flatten_event(true)).try_init(),
    };
    begun.map_err(|e| Error::new(ErrorKind::Failed, "logging cannot start").source(e))
}
