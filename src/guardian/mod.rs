//! The guardian: the daemon of a host. It claims runs, has the keeper run them, and reports what happened.
//!
//! One actor, `Guardian`, holds the state and does no I/O of its own but the alarm. Around it a task each:
//! the `Link` (connection A: listen, register, claim, and finish with a claim), the `Hands` (the keeper's
//! socket), the `Reporter` (start, finish, release) and the `Ticker` (the planner's clock), which share a pool.
//! They know the actor's inbox, the actor knows their handles.

mod actor;
mod adopting;
mod away;
mod backoff;
mod clock;
mod crew;
mod delivery;
mod ends;
mod hands;
mod health;
mod hearing;
mod http;
mod identity;
mod joining;
mod leaving;
mod link;
mod metrics;
mod moment;
mod offering;
mod outbox;
mod pace;
mod reporter;
mod running;
mod runs;
mod samples;
mod silent;
mod supervisor;
mod ticker;
mod timer;
mod working;

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{JoinError, JoinSet},
};

use self::{
    actor::{Guardian, Handles, Inputs},
    clock::Clock,
    crew::Site,
    hands::{Hands, HandsEvent},
    http::Http,
    identity::Identity,
    link::{Link, LinkEvent},
    metrics::Snapshot,
    reporter::{Reporter, ReporterEvent},
    ticker::{Ticker, TickerEvent},
    timer::Timer,
};
use crate::{
    config::Connection,
    db::{Pool, Sessions},
    error::{Error, ErrorKind, Result},
    keeper::{self, StateDirectory},
    observe::event,
};

/// How a guardian is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Name of the host in the database.
    pub host: String,
    /// Runs it takes at once.
    pub slots: u16,
    /// Labels it claims.
    pub labels: BTreeMap<String, String>,
    /// Pools it asks to join.
    pub pools: Vec<String>,
    /// Where guardian and keeper meet.
    pub state_dir: PathBuf,
    /// Where a keeper listens that something else starts; without, the guardian starts its keeper itself.
    pub keeper_dir: Option<PathBuf>,
    /// Where to show metrics and state over HTTP.
    pub http_address: Option<SocketAddr>,
    /// Policy of the keeper that it starts when there is none.
    pub policy: Option<PathBuf>,
    /// One pass: tick, claim what is due, run to the end, leave.
    pub once: bool,
    /// At the end terminate the jobs and wait for their results, instead of leaving them to the keeper.
    pub stop_jobs: bool,
}

/// The database, as its settings have it now.
#[derive(Debug, Clone)]
pub struct Databases {
    /// Where to listen and claim.
    pub control: watch::Receiver<Connection>,
    /// Where reports and ticks go: they may pass through a pooler.
    pub work: watch::Receiver<Connection>,
}

/// Everything that the guardian hears.
#[derive(Debug)]
enum Input {
    Link(LinkEvent),
    Hands(HandsEvent),
    Reporter(ReporterEvent),
    Ticker(TickerEvent),
    /// Somebody wants to know how it is.
    Look(oneshot::Sender<Snapshot>),
}

/// Runs a guardian until `stop` becomes true or, with `once`, its pass is over.
pub async fn run(options: Options, databases: Databases, stop: watch::Receiver<bool>) -> Result<()> {
    let directory = StateDirectory::open(&options.state_dir)?;
    let Some(identity) = Identity::take(directory)? else {
        if options.once {
            return tick_only(&options, databases).await;
        }
        return Err(Error::new(
            ErrorKind::Config,
            format!("state directory {:?} is in use by another guardian", options.state_dir),
        )
        .hint("one guardian a host; a second one on this machine needs its own --host and --state-dir"));
    };
    let mut tasks = JoinSet::new();
    let guardian = assemble(options, databases, identity, &mut tasks).await?;
    // Boxed: the state machine of the loop is large.
    let guarding = Box::pin(guardian.run(stop));
    tokio::select! {
        outcome = guarding => outcome,
        Some(ended) = tasks.join_next() => Err(ended_early(ended)),
    }
}

/// Starts the tasks around the actor.
async fn assemble(
    options: Options,
    databases: Databases,
    identity: Identity,
    tasks: &mut JoinSet<()>,
) -> Result<Guardian> {
    let (inputs, inbox) = mpsc::unbounded_channel();
    let clock = Clock::default();
    let boot_id = keeper::clock::boot_id()?;
    let pool = Pool::new(Sessions::new(databases.work, "work", &options.host));
    let reload = databases.control.clone();
    let control = Sessions::new(databases.control, "control", &options.host);

    let site = Site {
        directory: identity.directory.clone(),
        keeper_dir: options.keeper_dir.as_ref().map(StateDirectory::at).transpose()?,
        policy: options.policy.clone(),
        epoch: identity.epoch,
    };
    let (hands_task, hands) = Hands::new(site, inputs.clone());
    let (reporter_task, reporter) =
        Reporter::new(pool.clone(), clock.clone(), boot_id.clone(), inputs.clone());
    let (link_task, link) = Link::new(control, inputs.clone(), reporter.clone());
    let (ticker_task, ticker) = Ticker::new(pool.clone(), inputs.clone());
    if let Some(address) = options.http_address.filter(|_| !options.once) {
        tasks.spawn(Http::bind(address, inputs).await?.run());
    }
    tasks.spawn(link_task.run());
    tasks.spawn(hands_task.run());
    tasks.spawn(reporter_task.run());
    tasks.spawn(ticker_task.run());

    let handles = Handles { link, hands, reporter, ticker, pool };
    Ok(Guardian::new(
        options,
        identity,
        boot_id,
        clock,
        handles,
        Inputs { inbox, reload, timer: Timer::new()? },
    ))
}

/// The pass of a `--once` that finds another guardian at work: that one claims, but may not be ticking.
async fn tick_only(options: &Options, databases: Databases) -> Result<()> {
    tracing::info!(event = event::GUARDIAN_ONLY_TICKS, state_dir = ?options.state_dir, "another guardian is at work: only a tick");
    let pool = Pool::new(Sessions::new(databases.work, "once", &options.host));
    pool.get().await?.api().tick(None).await.map(drop)
}

/// An error with its causes in a line, for the log.
fn told(err: &Error) -> impl fmt::Display {
    fmt::from_fn(|f| f.write_str(&err.in_a_line()))
}

/// The tasks run for ever; one that ends has panicked.
fn ended_early(ended: Result<(), JoinError>) -> Error {
    let error = Error::new(ErrorKind::Failed, "a part of the guardian has ended");
    match ended {
        Ok(()) => error,
        Err(err) => error.source(err),
    }
}
