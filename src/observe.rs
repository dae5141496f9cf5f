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

/// Names of events, the value of the field `event` in each line of the log.
pub mod event {
    /// Another migrator holds the lock of this database.
    pub const MIGRATE_WAITING: &str = "migrate.waiting";
    /// The password file was not used because others can read it.
    pub const PASSWORD_FILE_IGNORED: &str = "config.password_file_ignored";
}

/// Starts logging to stderr. To be called once, before the first event.
pub fn init(format: LogFormat) -> Result<()> {
    let wanted = std::env::var(LOG_VARIABLE).unwrap_or_else(|_| DEFAULT_FILTER.to_owned());
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
