//! The start of a keeper: one at a time in a state directory, in the background when asked.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use nix::{
    fcntl::OFlag,
    unistd::{Uid, User, geteuid, pipe2, setsid},
};
use uuid::Uuid;

use super::{
    cgroup::{Cgroups, Place},
    directory::StateDirectory,
    policy::Policy,
    shell::Shell,
    state::Times,
    sweep, sys,
};
use crate::{
    error::{Error, ErrorKind, Result},
    observe::event,
};

/// How long a keeper that a guardian started stays with nothing to do and nobody connected.
const IDLE_LIMIT_US: i64 = 60_000_000;
/// A guardian's glance at the lock holds it for a moment.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);
/// What the background process says when the socket listens.
const READY: u8 = b'R';

/// How a keeper is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Go to the background, and end when there is nothing to do.
    pub detach: bool,
    /// Where it makes control groups.
    pub cgroup: Place,
    /// What the host allows; none: what the default file says.
    pub policy: Option<PathBuf>,
    /// How long a process may take to enter its directory and execute its program.
    pub start_timeout: Duration,
    /// Whose guardian may connect, by name or number, when that is another user.
    pub guardian_user: Option<String>,
}

/// Runs the keeper of this directory until it is told to stop or, detached, has nothing left to do.
///
/// To be called while the process has a single thread. Detached, it returns once the keeper listens in
/// the background.
pub fn run(directory: &StateDirectory, options: &Options) -> Result<()> {
    if !options.detach {
        return open(directory, options, None)?.run();
    }
    let fault =
        |err: std::io::Error| Error::new(ErrorKind::Failed, "cannot go to the background").source(err);
    let (ready, say_ready) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| fault(errno.into()))?;
    sys::fork_into(|| match background(directory, options, say_ready.as_fd()) {
        Ok(()) => 0,
        Err(err) => {
            let _ = err.report(&mut std::io::stderr());
            i32::from(err.kind().exit_code())
        }
    })
    .map_err(fault)?;
    drop(say_ready);
    let mut said = [0];
    match File::from(ready).read(&mut said) {
        Ok(1) => Ok(()),
        // The child has said why on standard error, which is this process's as well.
        _ => Err(Error::new(ErrorKind::Failed, format!("no keeper was started in {:?}", directory.path()))),
    }
}

fn background(directory: &StateDirectory, options: &Options, say_ready: BorrowedFd<'_>) -> Result<()> {
    let fault =
        |err: std::io::Error| Error::new(ErrorKind::Failed, "cannot go to the background").source(err);
    setsid().map_err(|errno| fault(errno.into()))?;
    let shell = open(directory, options, Some(IDLE_LIMIT_US))?;
    let leave = || {
        std::env::set_current_dir("/")?;
        sys::silence()?;
        File::from(say_ready.try_clone_to_owned()?).write_all(&[READY])
    };
    leave().map_err(fault)?;
    shell.run()
}

/// Takes the lock, ends what a dead predecessor left, and opens everything.
fn open(directory: &StateDirectory, options: &Options, idle_limit_us: Option<i64>) -> Result<Shell> {
    let own = User::from_uid(geteuid()).ok().flatten();
    let own = own.map_or_else(|| geteuid().to_string(), |user| user.name);
    let policy = Policy::load(options.policy.as_deref(), &own)?;
    let guardian = options.guardian_user.as_deref().map(guardian_user).transpose()?;
    let start_us = i64::try_from(options.start_timeout.as_micros()).unwrap_or(i64::MAX);
    let times = Times { idle_us: idle_limit_us, start_us };
    let lock = lock(directory)?;
    if let Some(dead) = directory.keeper_id() {
        match sweep::sweep(directory, dead) {
            Ok(0) => {}
            Ok(killed) => {
                tracing::warn!(event = event::KEEPER_SWEPT, keeper = %dead, killed, "processes of a dead keeper were ended")
            }
            // It must not keep the host from working for ever.
            Err(err) => {
                tracing::error!(event = event::KEEPER_SWEEP_FAILED, keeper = %dead, error = %err, "leftovers of a dead keeper")
            }
        }
    }
    let config =
        |err| Error::new(ErrorKind::Config, format!("cannot use {:?}", directory.runs())).source(err);
    sweep::clear_runs(directory).map_err(config)?;
    // Other users reach the result file of their run, and see nothing else on the way.
    if geteuid().is_root() {
        directory.let_through().map_err(config)?;
    }
    let keeper_id = Uuid::new_v4();
    // In this order: a successor must find the groups of whoever is named.
    let groups = Cgroups::open(&options.cgroup, keeper_id);
    directory.write_groups(groups.as_ref().map(Cgroups::root))?;
    directory.write_keeper_id(keeper_id)?;
    let shell = Shell::open(directory, (lock, guardian), keeper_id, policy, groups, times)?;
    tracing::info!(event = event::KEEPER_STARTED, keeper = %keeper_id, directory = ?directory.path(), "the keeper listens");
    Ok(shell)
}

fn guardian_user(user: &str) -> Result<Uid> {
    let config = |what: &str| Error::new(ErrorKind::Config, format!("user {user:?} of the guardian {what}"));
    let uid = match user.parse() {
        Ok(number) => Uid::from_raw(number),
        Err(_) => {
            let found = User::from_name(user).map_err(|errno| config("cannot be looked up").source(errno))?;
            found.ok_or_else(|| config("does not exist"))?.uid
        }
    };
    if geteuid().is_root() || uid == geteuid() {
        return Ok(uid);
    }
    Err(config("is not the keeper's").hint("Only a keeper of root has a guardian of another user."))
}

fn lock(directory: &StateDirectory) -> Result<OwnedFd> {
    let begun = Instant::now();
    loop {
        if let Some(lock) = directory.try_lock_keeper()? {
            // The lock lives as long as its open file does; the number alone is enough to keep it.
            let file = lock.as_fd().try_clone_to_owned();
            std::mem::forget(lock);
            return file.map_err(|err| Error::new(ErrorKind::Failed, "cannot keep the lock").source(err));
        }
        if begun.elapsed() > LOCK_PATIENCE {
            let message = format!("another keeper holds {:?}", directory.path());
            return Err(Error::new(ErrorKind::Config, message)
                .hint("One keeper serves a host; stop it first, or choose another --state-dir."));
        }
        thread::sleep(Duration::from_millis(5));
    }
}
