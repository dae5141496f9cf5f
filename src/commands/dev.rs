//! `sisyphus dev`: the embedded default.

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use clap::Args;
use tokio::process::Command;

use super::{output::print, signals::Signals};
use crate::{
    dev::{
        demo,
        house::{House, Log, Plan, say},
    },
    error::{Error, ErrorKind, Result},
};

/// Try it out: a private PostgreSQL with a guardian
///
/// Makes a PostgreSQL server of its own (on a Unix socket, reachable for you alone), installs the schema and
/// runs a guardian for host `dev`. Ctrl-C terminates the jobs, waits for their results, and ends everything;
/// the next start finds the same data. As root, server and jobs run as `postgres`, else as `nobody`.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  sisyphus dev\n  sisyphus dev --demo\n  sisyphus dev -- psql -c 'table sisyphus.overview'"
)]
pub struct DevArgs {
    /// Where the server keeps its data [default: /var/lib/sisyphus-dev for root, else
    /// $XDG_STATE_HOME/sisyphus-dev]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Show jobs at work on two hosts for half a minute, in a database `demo` made anew
    #[arg(long, conflicts_with = "command")]
    pub demo: bool,

    /// Command to run beside it, with PGHOST and the like set; when it ends, so does everything
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// Runs until a signal, the end of the demo or of the command.
pub async fn run(args: DevArgs) -> Result<()> {
    let mut signals = Signals::register()?;
    let data_dir = args.data_dir.map_or_else(default_data_dir, Ok)?;
    let plan = if args.demo { demo::plan(&data_dir) } else { plan(&data_dir, !args.command.is_empty()) };
    let mut house = House::start(plan, signals.any()).await?;
    let outcome = if args.demo {
        show_demo(&mut house, &mut signals).await
    } else if args.command.is_empty() {
        serve(&mut house, &mut signals).await
    } else {
        run_command(&house, &args.command, &mut signals).await
    };
    let stopped = house.stop(signals.any()).await;
    let status = outcome?;
    stopped?;
    if args.demo {
        let program = env::args().next().unwrap_or_else(|| "sisyphus".to_owned());
        say(&format!("to look around: {program} dev --data-dir {} -- psql demo", data_dir.display()));
    }
    match status {
        // Everything has ended in order; all that is left is to end as the command did.
        Some(status) if !status.success() => std::process::exit(code_of(status)),
        _ => Ok(()),
    }
}

fn plan(data_dir: &Path, beside_a_command: bool) -> Plan<'_> {
    let log = if beside_a_command { Log::File } else { Log::Stderr };
    Plan { data_dir, database: "sisyphus", fresh: false, hosts: &["dev"], log }
}

async fn show_demo(house: &mut House, signals: &mut Signals) -> Result<Option<ExitStatus>> {
    tokio::select! {
        shown = demo::show(house) => shown.map(|()| None),
        () = signals.any() => Err(Error::new(ErrorKind::Failed, "the demo was stopped before its end")),
    }
}

async fn serve(house: &mut House, signals: &mut Signals) -> Result<Option<ExitStatus>> {
    print(&house.psql())?;
    say("host dev is ready; Ctrl-C ends its jobs, then everything");
    tokio::select! {
        () = signals.any() => Ok(None),
        error = house.broken() => Err(error),
    }
}

async fn run_command(house: &House, words: &[String], signals: &mut Signals) -> Result<Option<ExitStatus>> {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).envs(house.variables()).kill_on_drop(true);
    let mut child = command
        .spawn()
        .map_err(|err| Error::new(ErrorKind::Failed, format!("{} cannot be run", words[0])).source(err))?;
    tokio::select! {
        status = child.wait() => status.map(Some).map_err(|err| {
            Error::new(ErrorKind::Failed, format!("{} cannot be waited for", words[0])).source(err)
        }),
        // A Ctrl-C reaches the command as well, and is its business: psql cancels a query with it.
        () = signals.terminate() => Err(Error::new(ErrorKind::Failed, format!("stopped while {} ran", words[0]))),
    }
}

fn default_data_dir() -> Result<PathBuf> {
    if nix::unistd::geteuid().is_root() {
        return Ok("/var/lib/sisyphus-dev".into());
    }
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".local/state")))
        .map(|state| state.join("sisyphus-dev"))
        .ok_or_else(|| {
            Error::new(ErrorKind::Config, "no data directory: HOME is not set")
                .hint("choose one with --data-dir")
        })
}

/// As a shell tells it: the exit code, or 128 and the signal.
fn code_of(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(1)
}
