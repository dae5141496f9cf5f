//! The properties of a job as flags, the same for `schedule` and `alter`.

use serde_json::{Map, Value};

use crate::{
    db::client::Call,
    error::{Error, ErrorKind, Result},
};

/// Every property of a job beside name, schedule and command. What is not given is not passed.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct JobOptions {
    /// Time zone of the schedule, such as Europe/Amsterdam
    #[arg(long, value_name = "ZONE", help_heading = "When")]
    timezone: Option<String>,
    /// How late a run may still start, such as 10min; until the next occurrence when not given
    #[arg(long, value_name = "INTERVAL", allow_hyphen_values = true, help_heading = "When")]
    ttl: Option<String>,
    /// Which occurrences of a downtime still run: latest, all or none
    #[arg(long, value_name = "POLICY", help_heading = "When")]
    missed: Option<String>,
    /// Move each occurrence by a fixed share of this
    #[arg(long, value_name = "INTERVAL", allow_hyphen_values = true, help_heading = "When")]
    jitter: Option<String>,
    /// No occurrence before this
    #[arg(long, value_name = "TIMESTAMP", help_heading = "When")]
    starts_at: Option<String>,
    /// No occurrence from this on
    #[arg(long, value_name = "TIMESTAMP", help_heading = "When")]
    ends_at: Option<String>,
    /// Not on the days of this calendar
    #[arg(long, value_name = "CALENDAR", help_heading = "When")]
    except_on: Option<String>,
    /// Only on the days of this calendar
    #[arg(long, value_name = "CALENDAR", help_heading = "When")]
    only_on: Option<String>,

    /// Hosts it may run on
    #[arg(long, help_heading = "Where")]
    pool: Option<String>,
    /// any: one host of the pool; all: every host of it
    #[arg(long, value_name = "any|all", help_heading = "Where")]
    run_on: Option<String>,
    /// Higher goes first, -9 to 9
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = "Where")]
    priority: Option<i32>,

    /// When the last run is still going: skip, queue, replace or allow
    #[arg(long, value_name = "POLICY", help_heading = "How it runs")]
    overlap: Option<String>,
    /// Kill it when its host loses the database
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "true|false", help_heading = "How it runs")]
    fenced: Option<bool>,
    #[command(flatten)]
    process: ProcessOptions,

    /// How often to try again when it fails
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = "When it fails")]
    retries: Option<i32>,
    /// Time before the first retry
    #[arg(long, value_name = "INTERVAL", allow_hyphen_values = true, help_heading = "When it fails")]
    retry_delay: Option<String>,
    /// Factor from one delay to the next
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true, help_heading = "When it fails")]
    retry_backoff: Option<f64>,
    /// Longest delay
    #[arg(long, value_name = "INTERVAL", allow_hyphen_values = true, help_heading = "When it fails")]
    retry_max_delay: Option<String>,
    /// Try again when its host was lost, though it may have run
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(value_name = "true|false", help_heading = "When it fails")]
    retry_on_lost: Option<bool>,
    /// Exit codes that count as success, such as 0,3
    #[arg(long, value_name = "CODES", value_delimiter = ',', help_heading = "When it fails")]
    success_exit_codes: Vec<i32>,
    /// Exit codes that are not tried again
    #[arg(long, value_name = "CODES", value_delimiter = ',', help_heading = "When it fails")]
    no_retry_exit_codes: Vec<i32>,

    /// How long results are kept: success='7 days', failure='90 days', may be repeated
    #[arg(long, value_name = "NAME=INTERVAL", help_heading = "Notes")]
    retention: Vec<String>,
    /// What it is for
    #[arg(long, value_name = "TEXT", help_heading = "Notes")]
    description: Option<String>,
    /// Tag, may be repeated
    #[arg(long = "tag", value_name = "TAG", help_heading = "Notes")]
    tags: Vec<String>,
}

/// The properties of the process, the same for what is submitted without a job.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ProcessOptions {
    /// End it after this long
    #[arg(long, value_name = "INTERVAL", allow_hyphen_values = true, help_heading = "How it runs")]
    max_runtime: Option<String>,
    /// Time between SIGTERM and SIGKILL
    #[arg(long, value_name = "INTERVAL", allow_hyphen_values = true, help_heading = "How it runs")]
    grace: Option<String>,
    /// Processes it leaves behind: kill or leave
    #[arg(long, value_name = "POLICY", help_heading = "How it runs")]
    leftovers: Option<String>,
    /// Input of the job: JSON in SISYPHUS_PAYLOAD and on stdin
    #[arg(long, value_name = "JSON", help_heading = "How it runs")]
    payload: Option<String>,
    /// Environment variable, may be repeated
    #[arg(long = "env", value_name = "NAME=VALUE", help_heading = "How it runs")]
    env: Vec<String>,
    /// Directory to run in
    #[arg(long, value_name = "DIR", help_heading = "How it runs")]
    cwd: Option<String>,
    /// Operating system user to run as
    #[arg(long, value_name = "USER", help_heading = "How it runs")]
    run_as: Option<String>,
    /// Limit such as memory=512MB, cpu=1.5, nice=10 or output=64kB, may be repeated
    #[arg(long = "limit", value_name = "NAME=VALUE", help_heading = "How it runs")]
    limits: Vec<String>,
}

impl JobOptions {
    /// Adds what was given to a call of `schedule` or `alter_job`.
    pub(super) fn add_to(&self, call: Call) -> Result<Call> {
        Ok(self
            .process
            .add_to(call)?
            .given("timezone", "text", self.timezone.as_ref())
            .given("ttl", "interval", self.ttl.as_ref())
            .given("missed", "text", self.missed.as_ref())
            .given("jitter", "interval", self.jitter.as_ref())
            .given("starts_at", "timestamptz", self.starts_at.as_ref())
            .given("ends_at", "timestamptz", self.ends_at.as_ref())
            .given("except_on", "text", self.except_on.as_ref())
            .given("only_on", "text", self.only_on.as_ref())
            .given("pool", "text", self.pool.as_ref())
            .given("run_on", "text", self.run_on.as_ref())
            .given("priority", "int", self.priority)
            .given("overlap", "text", self.overlap.as_ref())
            .given("fenced", "boolean", self.fenced)
            .given("retries", "int", self.retries)
            .given("retry_delay", "interval", self.retry_delay.as_ref())
            .given("retry_backoff", "float8", self.retry_backoff)
            .given("retry_max_delay", "interval", self.retry_max_delay.as_ref())
            .given("retry_on_lost", "boolean", self.retry_on_lost)
            .list("success_exit_codes", "int[]", &self.success_exit_codes)
            .list("no_retry_exit_codes", "int[]", &self.no_retry_exit_codes)
            .given("retention", "jsonb", pairs("--retention", &self.retention, text)?)
            .given("description", "text", self.description.as_ref())
            .list("tags", "text[]", &self.tags))
    }
}

impl ProcessOptions {
    /// Adds what was given to a call of `schedule`, `alter_job` or `submit`.
    pub(super) fn add_to(&self, call: Call) -> Result<Call> {
        Ok(call
            .of_flags()
            .given("max_runtime", "interval", self.max_runtime.as_ref())
            .given("grace", "interval", self.grace.as_ref())
            .given("leftovers", "text", self.leftovers.as_ref())
            .given("payload", "jsonb", self.payload.as_ref())
            .given("env", "jsonb", pairs("--env", &self.env, text)?)
            .given("cwd", "text", self.cwd.as_ref())
            .given("run_as", "text", self.run_as.as_ref())
            .given("limits", "jsonb", pairs("--limit", &self.limits, number_or_text)?))
    }
}

/// `NAME=VALUE` flags as one JSON object; none when there are none.
pub(super) fn pairs(flag: &str, given: &[String], value: fn(&str) -> Value) -> Result<Option<Value>> {
    if given.is_empty() {
        return Ok(None);
    }
    let object = given
        .iter()
        .map(|pair| match pair.split_once('=') {
            Some((name, text)) if !name.is_empty() => Ok((name.to_owned(), value(text))),
            _ => Err(Error::new(ErrorKind::Usage, format!("{flag} {pair:?} is not NAME=VALUE"))),
        })
        .collect::<Result<Map<_, _>>>()?;
    Ok(Some(Value::Object(object)))
}

pub(super) fn text(text: &str) -> Value {
    Value::from(text)
}

/// `1.5` is a number, `512MB` a text; what a limit may be is the database's to say.
fn number_or_text(text: &str) -> Value {
    text.parse::<serde_json::Number>().map_or_else(|_| Value::from(text), Value::Number)
}
