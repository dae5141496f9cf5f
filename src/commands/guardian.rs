//! The daemon of a host.

use std::{ffi::OsStr, net::SocketAddr, path::PathBuf};

use clap::{FromArgMatches, error::ContextKind};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    cli::without_empty_variables,
    config::{Connection, process_env},
    error::{Error, ErrorKind, Result},
    guardian::{self, Databases, Options},
    keeper::{StateDirectory, footprint},
    observe::event,
};

/// As the database has it.
const MOST_SLOTS: u16 = 10_000;

/// Run the jobs of this host
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Example: sisyphus guardian --slots 8 --label gpu=yes --pool web\n\n\
    Stopped by SIGTERM or SIGINT it claims nothing more, gives back what it has not started, and leaves \
    the jobs that run to the keeper, where the next guardian of this host finds them.")]
pub struct GuardianArgs {
    /// Name of this host in the database [default: the host name]
    #[arg(long, env = "SISYPHUS_HOST", value_name = "NAME", help_heading = "Host")]
    pub host: Option<String>,

    /// Runs to take at once [default: the number of cores]
    #[arg(long, env = "SISYPHUS_SLOTS", value_name = "N", help_heading = "Host")]
    #[arg(value_parser = clap::value_parser!(u16).range(..=i64::from(MOST_SLOTS)))]
    pub slots: Option<u16>,

    /// Label of this host, for pools that select by label; may be repeated
    #[arg(long = "label", env = "SISYPHUS_LABELS", value_name = "KEY=VALUE", value_delimiter = ',')]
    #[arg(value_parser = parse_label, help_heading = "Host")]
    pub labels: Vec<(String, String)>,

    /// Pool to join; may be repeated
    #[arg(long = "pool", env = "SISYPHUS_POOLS", value_name = "POOL", value_delimiter = ',')]
    #[arg(help_heading = "Host")]
    pub pools: Vec<String>,

    /// Where guardian and keeper meet and results wait [default: /var/lib/sisyphus, or the XDG state folder]
    #[arg(long, env = "SISYPHUS_STATE_DIR", value_name = "DIR", help_heading = "Host")]
    pub state_dir: Option<PathBuf>,

    /// The server itself, to listen and claim at, where --database-url is a pooler in transaction mode
    #[arg(
        long,
        env = "SISYPHUS_LISTEN_URL",
        value_name = "URL",
        help_heading = "Database",
        hide_env_values = true
    )]
    pub listen_url: Option<String>,

    /// Show /metrics, /live and /ready over HTTP at this address, such as 127.0.0.1:9464
    #[arg(long, env = "SISYPHUS_HTTP_ADDRESS", value_name = "ADDRESS", help_heading = "Monitoring")]
    pub http_address: Option<SocketAddr>,

    /// What this host runs, for the keeper that is started when there is none; see `sisyphus keeper --help`
    #[arg(long, env = "SISYPHUS_POLICY", hide_env_values = true, value_name = "FILE", help_heading = "Host")]
    pub policy: Option<PathBuf>,

    /// State directory of the keeper that a unit runs, perhaps as another user: wait for that one, and start none
    #[arg(long, env = "SISYPHUS_KEEPER_DIR", value_name = "DIR", help_heading = "Host")]
    pub keeper_dir: Option<PathBuf>,

    /// Make one pass and leave, for a crontab line: tick, claim what is due, run it to the end
    #[arg(long)]
    pub once: bool,

    /// When stopped, terminate the jobs and wait for their results
    #[arg(long, hide = true)]
    pub stop_jobs: bool,
}

/// Runs until told to stop.
pub async fn run(args: GuardianArgs, database_url: Option<String>, connection: Connection) -> Result<()> {
    let listen_url = args.listen_url.clone();
    let read_again = || Connection::resolve(database_url.as_deref(), &process_env);
    let listen_at = |otherwise: &Connection| match &listen_url {
        Some(url) => Connection::resolve_url(Some(("--listen-url", url)), &process_env),
        None => Ok(otherwise.clone()),
    };
    footprint::share_heap();
    let options = options(args)?;
    let (control_now, control) = watch::channel(listen_at(&connection)?);
    let (work_now, work) = watch::channel(connection);
    let (stop, stopping) = watch::channel(false);
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hangup = listen(SignalKind::hangup())?;
    let guarding = Box::pin(guardian::run(options, Databases { control, work }, stopping));
    tokio::pin!(guarding);
    loop {
        tokio::select! {
            outcome = &mut guarding => return outcome,
            Some(()) = terminate.recv() => drop(stop.send(true)),
            Some(()) = interrupt.recv() => drop(stop.send(true)),
            Some(()) = hangup.recv() => {
                match read_again().and_then(|work| Ok((listen_at(&work)?, work))) {
                    Ok((control, work)) => {
                        work_now.send_replace(work);
                        control_now.send_replace(control);
                    }
                    Err(err) => tracing::error!(
                        event = event::GUARDIAN_RELOAD_FAILED,
                        error = err.in_a_line(),
                        "the settings cannot be read: the old ones stay"
                    ),
                }
            }
        }
    }
}

fn options(args: GuardianArgs) -> Result<Options> {
    let host = match args.host {
        Some(host) => host,
        None => host_name()?,
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let state_dir = match args.state_dir {
        Some(directory) => directory,
        None => StateDirectory::default_path()?,
    };
    Ok(Options {
        http_address: args.http_address,
        host,
        slots: args
            .slots
            .unwrap_or_else(|| u16::try_from(cores).map_or(MOST_SLOTS, |cores| cores.min(MOST_SLOTS))),
        labels: args.labels.into_iter().collect(),
        pools: args.pools,
        state_dir,
        policy: args.policy,
        keeper_dir: args.keeper_dir,
        once: args.once,
        stop_jobs: args.stop_jobs,
    })
}

/// That a variable of the environment has a value which the guardian's argument does not take.
fn unfit(err: &clap::Error, mut command: clap::Command) -> Error {
    command.build();
    let named = err.get(ContextKind::InvalidArg).map(ToString::to_string);
    let argument = command.get_arguments().find(|argument| Some(argument.to_string()) == named);
    let variable = argument.and_then(|argument| argument.get_env()).unwrap_or(OsStr::new("the environment"));
    // The rest of what clap prints is about the command line.
    let text = err.to_string();
    let cause = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
    Error::new(ErrorKind::Config, format!("{} cannot be used", variable.to_string_lossy()))
        .source(Error::new(ErrorKind::Config, cause))
}

/// What a guardian started here would take from the environment and its defaults: flag, value, and where from.
pub(super) fn settings() -> Result<Vec<(String, String, String)>> {
    let command = <GuardianArgs as clap::Args>::augment_args(clap::Command::new("sisyphus guardian"));
    let given = without_empty_variables(command.clone())
        .try_get_matches_from(["sisyphus guardian"])
        .map_err(|err| unfit(&err, command.clone()))?;
    let defaults = options(GuardianArgs::from_arg_matches(&given).expect("they have just been matched"))?;
    let mut settings = Vec::new();
    for argument in command.get_arguments() {
        let (Some(flag), Some(variable)) = (argument.get_long(), argument.get_env()) else { continue };
        let words = given.get_raw(argument.get_id().as_str()).into_iter().flatten();
        let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
        let (value, origin) = match (flag, words.join(",")) {
            ("host", value) if value.is_empty() => {
                (defaults.host.clone(), "host name of the machine".to_owned())
            }
            ("slots", value) if value.is_empty() => {
                (defaults.slots.to_string(), "default: the cores".to_owned())
            }
            ("state-dir", value) if value.is_empty() => {
                (defaults.state_dir.display().to_string(), "default".to_owned())
            }
            (_, value) if value.is_empty() => ("none".to_owned(), "default".to_owned()),
            // It may hold a password.
            ("listen-url", value) => {
                let at = Connection::resolve_url(Some(("--listen-url", &value)), &process_env)?;
                (at.hosts(), variable.to_string_lossy().into_owned())
            }
            (_, value) => (value, variable.to_string_lossy().into_owned()),
        };
        settings.push((format!("--{flag}"), value, origin));
    }
    Ok(settings)
}

fn host_name() -> Result<String> {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.filter(|name| !name.is_empty()).ok_or_else(|| {
        Error::new(ErrorKind::Config, "this machine has no usable host name").hint("give one with --host")
    })
}

fn listen(kind: SignalKind) -> Result<tokio::signal::unix::Signal> {
    signal(kind).map_err(|err| Error::new(ErrorKind::Failed, "signals cannot be received").source(err))
}

fn parse_label(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not of the form key=value")),
    }
}
