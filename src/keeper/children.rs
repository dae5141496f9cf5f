//! The processes of the live runs: made, watched, killed, collected.

mod ending;
mod starting;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::Read,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
};

use nix::{errno::Errno, sys::signal::Signal, unistd::Pid};
use uuid::Uuid;

use self::starting::Looking;

use super::{
    accounts::Accounts,
    cgroup::{Cgroup, Cgroups},
    orphans::Orphans,
    output::Stream,
    policy::Policy,
    poll::{Channel, Poll, Token, Watched},
    processes::Stat,
    protocol::{Leftovers, RunKey, Start},
    result_file::{RunDirectories, RunDirectory},
    spawn::{Forked, Inheritance, MESSAGE, Names, Sheet},
    state::{Collected, Force, Input},
    sys::{self, Usage},
};
use crate::observe::event;

/// Read at once of a pipe.
const SCRATCH: usize = 64 << 10;

/// All runs that have a process.
#[derive(Debug)]
pub(super) struct Children {
    keeper: Uuid,
    /// The language of the keeper is that of the jobs.
    lang: String,
    policy: Policy,
    accounts: Accounts<Box<Start>>,
    looking: HashMap<u64, Looking>,
    looked: u64,
    inheritance: Inheritance,
    directories: RunDirectories,
    groups: Option<Cgroups>,
    table: HashMap<RunKey, Child>,
    /// The first processes, not reaped: their pids and process groups are surely theirs.
    leaders: HashMap<i32, RunKey>,
    orphans: Orphans,
    /// Runs whose leftovers are waited for, and how.
    sweeping: HashMap<RunKey, Force>,
    /// Runs whose first process has ended, and another process that traces it has to see that first.
    hidden: HashSet<RunKey>,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    exit: Option<Token>,
    status: Option<(File, Token)>,
    stdout: (Stream, Option<Token>),
    stderr: (Stream, Option<Token>),
    /// While the process may look at it.
    sheet: Option<Sheet>,
    names: Names,
    room: Room,
    leftovers: Leftovers,
}

/// What a run is given before it has a process.
#[derive(Debug)]
struct Room {
    directory: RunDirectory,
    group: Option<Cgroup>,
}

impl Children {
    pub(super) fn new(
        keeper: Uuid,
        runs: PathBuf,
        policy: Policy,
        groups: Option<Cgroups>,
    ) -> Result<Self, Errno> {
        Ok(Self {
            keeper,
            lang: std::env::var("LANG").unwrap_or_else(|_| "C.UTF-8".to_owned()),
            policy,
            accounts: Accounts::new(),
            looking: HashMap::new(),
            looked: 0,
            inheritance: Inheritance::take()?,
            directories: RunDirectories::new(runs, keeper),
            groups,
            table: HashMap::new(),
            leaders: HashMap::new(),
            orphans: Orphans::new(keeper),
            sweeping: HashMap::new(),
            hidden: HashSet::new(),
            scratch: vec![0; SCRATCH],
        })
    }

    /// Reads the policy again; one that is not right leaves the old one in force.
    pub(super) fn reload(&mut self) {
        match self.policy.again(&self.accounts.own().name) {
            Ok(policy) => {
                self.policy = policy;
                tracing::info!(event = event::KEEPER_POLICY_READ, "the policy was read again");
            }
            Err(err) => {
                let err: &dyn std::error::Error = &err;
                tracing::error!(event = event::KEEPER_POLICY_KEPT, error = err, "the policy stays as it was");
            }
        }
    }

    /// The limits that this host cannot hold a run to, though it may be asked to.
    pub(super) fn unenforced(&self) -> Vec<String> {
        let (memory, cpu) = self.controls();
        let missing = [(!memory).then_some("memory"), (!cpu).then_some("cpu")];
        missing.into_iter().flatten().map(str::to_owned).collect()
    }

    /// Whether no run has a process.
    pub(super) fn are_none(&self) -> bool {
        self.table.is_empty()
    }

    /// Whether leftovers of an ended run are being waited for.
    pub(super) fn is_sweeping(&self) -> bool {
        !self.sweeping.is_empty()
    }

    /// The status pipe has something to say.
    pub(super) fn status(&mut self, poll: &mut Poll, key: RunKey) -> Option<Input> {
        let child = self.table.get_mut(&key)?;
        let mut said = [0; MESSAGE];
        // The message is one write, so one read gets it whole.
        let length = match child.status.as_mut()?.0.read(&mut said) {
            Ok(length) => length,
            Err(err) if err.kind() == std::io::ErrorKind::WouldBlock => return None,
            Err(_) => 0,
        };
        let (pipe, token) = child.status.take()?;
        poll.remove(&pipe, token);
        Some(match length {
            0 => {
                child.give_back(&mut self.inheritance);
                Input::Executing(key)
            }
            length => Input::NotExecuted(key, child.names.fault(&said[..length])),
        })
    }

    /// An output pipe has something to read, or is at its end.
    pub(super) fn output(&mut self, poll: &mut Poll, key: RunKey, channel: Channel) -> Option<Input> {
        let child = self.table.get_mut(&key)?;
        let stream = match channel {
            Channel::Stdout => &mut child.stdout,
            Channel::Stderr => &mut child.stderr,
        };
        if !stream.0.read(&mut self.scratch) {
            return None;
        }
        close(poll, stream);
        (child.stdout.1.is_none() && child.stderr.1.is_none()).then_some(Input::Closed(key))
    }

    /// The first process of a run has ended; what it said about its start comes before that.
    pub(super) fn exited(&mut self, poll: &mut Poll, key: RunKey, writer: Pid) -> Vec<Input> {
        let status = self.status(poll, key);
        let Some(child) = self.table.get_mut(&key) else { return Vec::new() };
        let exit = sys::peek_exit(child.pidfd.as_fd()).ok().flatten();
        let is_hidden = exit.is_none() && Stat::of(child.pid.as_raw()).is_some_and(|it| it.is_zombie());
        if (exit.is_some() || is_hidden)
            && let Some(token) = child.exit.take()
        {
            poll.remove(&child.pidfd, token);
        }
        let mut inputs: Vec<Input> = status.into_iter().collect();
        if let Some(exit) = exit {
            child.give_back(&mut self.inheritance);
            self.hidden.remove(&key);
            inputs.push(Input::Exited(key, exit));
        } else if is_hidden {
            let is_killed = child.leftovers == Leftovers::Kill;
            self.hidden.insert(key);
            if is_killed {
                // One of its own that traces it is a leftover.
                inputs.extend(self.sweep(key, Force::Kill, writer));
            }
        }
        inputs
    }

    /// Those that a SIGCHLD may have been about: who traced them has let go.
    pub(super) fn hidden(&self) -> Vec<RunKey> {
        self.hidden.iter().copied().collect()
    }

    /// Reaps the first process and gathers what is known of the run.
    pub(super) fn collect(&mut self, poll: &mut Poll, key: RunKey) -> Option<Input> {
        let mut child = self.table.remove(&key)?;
        self.sweeping.remove(&key);
        self.hidden.remove(&key);
        for stream in [&mut child.stdout, &mut child.stderr] {
            stream.0.read(&mut self.scratch);
        }
        child.forget(poll);
        let mut usage = sys::reap(child.pid).ok().flatten().unwrap_or_default();
        self.leaders.remove(&child.pid.as_raw());
        let (result, mut note) = self.directories.collect(child.room.directory);
        if let Some(used) = child.room.group.as_ref().and_then(Cgroup::usage) {
            usage = Usage {
                cpu_user: used.cpu_user,
                cpu_system: used.cpu_system,
                peak_memory: used.peak_memory.unwrap_or(usage.peak_memory),
            };
            if used.out_of_memory {
                note =
                    Some("processes were killed: all of them together were over the memory limit".to_owned());
            }
        }
        self.release(child.room.group);
        let (stdout, stderr) = (child.stdout.0.into_text(), child.stderr.0.into_text());
        Some(Input::Collected(key, Box::new(Collected { stdout, stderr, result, note, usage })))
    }

    fn release(&mut self, group: Option<Cgroup>) {
        if let (Some(groups), Some(group)) = (&mut self.groups, group) {
            groups.release(group);
        }
    }

    fn controls(&self) -> (bool, bool) {
        self.groups.as_ref().map(Cgroups::controls).unwrap_or_default()
    }
}

impl Child {
    /// Takes all that is its own out of the set.
    fn forget(&mut self, poll: &mut Poll) {
        close(poll, &mut self.stdout);
        close(poll, &mut self.stderr);
        if let Some((pipe, token)) = self.status.take() {
            poll.remove(&pipe, token);
        }
        if let Some(token) = self.exit.take() {
            poll.remove(&self.pidfd, token);
        }
    }

    /// The process has left the keeper's memory: the kernel closes the status pipe after that.
    fn give_back(&mut self, inheritance: &mut Inheritance) {
        self.sheet.take().into_iter().for_each(|sheet| inheritance.take_back(sheet));
    }

    fn group(&self) -> Option<&Cgroup> {
        self.room.group.as_ref()
    }

    /// Watches a new process. When that cannot be, it is killed, and its room comes back.
    fn watch(
        poll: &mut Poll,
        start: &Start,
        forked: Forked,
        names: Names,
        room: Room,
    ) -> Result<Self, (Errno, Room)> {
        let limit = start.spec.output_limit;
        let status = File::from(forked.status);
        let mut child = Self {
            pid: forked.pid,
            pidfd: forked.pidfd,
            exit: None,
            status: None,
            stdout: (Stream::new(forked.stdout, limit), None),
            stderr: (Stream::new(forked.stderr, limit), None),
            sheet: forked.sheet,
            names,
            room,
            leftovers: start.spec.leftovers,
        };
        match child.enter(poll, status, start.key()) {
            Ok(()) => Ok(child),
            Err(errno) => {
                // By its descriptor: it may not have a process group of its own yet.
                let _ = sys::pidfd_kill(child.pidfd.as_fd(), Signal::SIGKILL as i32);
                child.forget(poll);
                Err((errno, child.room))
            }
        }
    }

    fn enter(&mut self, poll: &mut Poll, status: File, key: RunKey) -> Result<(), Errno> {
        self.exit = Some(poll.add(&self.pidfd, Watched::Exit(key))?);
        let token = poll.add(&status, Watched::Status(key))?;
        self.status = Some((status, token));
        for (stream, channel) in [(&mut self.stdout, Channel::Stdout), (&mut self.stderr, Channel::Stderr)] {
            let (pipe, token) = stream;
            *token = pipe.pipe().map(|pipe| poll.add(pipe, Watched::Output(key, channel))).transpose()?;
        }
        Ok(())
    }
}

/// Closes a stream that is in the epoll set.
fn close(poll: &mut Poll, (stream, token): &mut (Stream, Option<Token>)) {
    if let (Some(pipe), Some(token)) = (stream.pipe(), token.take()) {
        poll.remove(pipe, token);
    }
    stream.close();
}
