//! The processes of the live runs: made, watched, killed, collected.

use std::{
    collections::HashMap,
    fs::File,
    io::Read,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
};

use nix::{errno::Errno, sys::signal::Signal, unistd::Pid};
use uuid::Uuid;

use super::{
    env::{Account, Environment},
    orphans::Orphans,
    output::Stream,
    poll::{Channel, Poll, Token, Watched},
    processes::{self, Stat},
    protocol::{RunKey, Start},
    result_file::RunDirectory,
    spawn::{Forked, Inheritance, Launch, Names},
    state::{Collected, Fault, Force, Input},
    sys,
};

/// Read at once of a pipe.
const SCRATCH: usize = 64 << 10;

/// All runs that have a process.
#[derive(Debug)]
pub(super) struct Children {
    keeper: Uuid,
    account: Account,
    inheritance: Inheritance,
    runs: PathBuf,
    table: HashMap<RunKey, Child>,
    /// The first processes, not reaped: their pids and process groups are surely theirs.
    leaders: HashMap<i32, RunKey>,
    orphans: Orphans,
    /// Runs whose leftovers are waited for, and how.
    sweeping: HashMap<RunKey, Force>,
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
    directory: RunDirectory,
    names: Names,
}

impl Children {
    pub(super) fn new(keeper: Uuid, runs: PathBuf) -> Result<Self, Errno> {
        Ok(Self {
            keeper,
            account: Account::own(),
            inheritance: Inheritance::take()?,
            runs,
            table: HashMap::new(),
            leaders: HashMap::new(),
            orphans: Orphans::new(keeper),
            sweeping: HashMap::new(),
            scratch: vec![0; SCRATCH],
        })
    }

    /// Whether leftovers of an ended run are being waited for.
    pub(super) fn is_sweeping(&self) -> bool {
        !self.sweeping.is_empty()
    }

    /// Makes the process of a run.
    pub(super) fn spawn(&mut self, poll: &mut Poll, start: &Start) -> Input {
        let key = start.key();
        let directory = match RunDirectory::make(&self.runs, key) {
            Ok(directory) => directory,
            Err(err) => {
                let reason = format!("cannot make the run's directory in {:?}: {err}", self.runs);
                return Input::NotForked(key, Fault::Host(reason));
            }
        };
        match self.launch(start, &directory) {
            Ok((forked, pidfd, names)) => {
                let pid = forked.pid.as_raw();
                self.leaders.insert(pid, key);
                match Child::watch(poll, start, forked, pidfd, directory, names) {
                    Ok(child) => drop(self.table.insert(key, child)),
                    Err(errno) => {
                        processes::signal_group(pid, Signal::SIGKILL);
                        self.leaders.remove(&pid);
                        return Input::NotForked(
                            key,
                            Fault::Host(format!("cannot watch a process: {errno}")),
                        );
                    }
                }
                Input::Forked(key, pid)
            }
            Err(fault) => {
                directory.remove();
                Input::NotForked(key, fault)
            }
        }
    }

    /// The status pipe has something to say.
    pub(super) fn status(&mut self, poll: &mut Poll, key: RunKey) -> Option<Input> {
        let child = self.table.get_mut(&key)?;
        let mut said = [0; 8];
        // The message is one write of five bytes, so one read gets it whole.
        let length = match child.status.as_mut()?.0.read(&mut said) {
            Ok(length) => length,
            Err(err) if err.kind() == std::io::ErrorKind::WouldBlock => return None,
            Err(_) => 0,
        };
        let (pipe, token) = child.status.take()?;
        poll.remove(&pipe, token);
        Some(match length {
            0 => Input::Executing(key),
            length => Input::NotExecuted(key, child.names.failure(&said[..length])),
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
    pub(super) fn exited(&mut self, poll: &mut Poll, key: RunKey) -> Vec<Input> {
        let status = self.status(poll, key);
        let Some(child) = self.table.get_mut(&key) else { return Vec::new() };
        let Ok(Some(exit)) = sys::peek_exit(child.pidfd.as_fd()) else { return status.into_iter().collect() };
        if let Some(token) = child.exit.take() {
            poll.remove(&child.pidfd, token);
        }
        status.into_iter().chain([Input::Exited(key, exit)]).collect()
    }

    /// Signals every process of a run.
    pub(super) fn kill(&mut self, key: RunKey, force: Force, writer: Pid) {
        let Some(leader) = self.table.get(&key).map(|child| child.pid.as_raw()) else { return };
        let signals: &[Signal] = match force {
            // A stopped process takes its TERM when it goes on.
            Force::Term => &[Signal::SIGTERM, Signal::SIGCONT],
            Force::Kill => &[Signal::SIGKILL],
        };
        self.orphans.look(&self.leaders, |pid| pid == writer.as_raw());
        let snapshot = processes::snapshot();
        let family = processes::family(&snapshot, leader, &self.orphans.of(key));
        for signal in signals {
            processes::signal_group(leader, *signal);
            for pid in &family {
                let stat: Stat = snapshot[pid];
                if stat.group != leader && *pid != leader {
                    let _ = processes::signal(*pid, stat, *signal);
                }
            }
        }
    }

    /// Waits for what an ended first process left, or kills it. [`Self::look`] tells when nothing is left.
    pub(super) fn sweep(&mut self, key: RunKey, force: Force, writer: Pid) -> Vec<Input> {
        let Some(child) = self.table.get(&key) else { return Vec::new() };
        if force == Force::Kill {
            // The zombie keeps the group's number taken.
            processes::signal_group(child.pid.as_raw(), Signal::SIGKILL);
        }
        self.sweeping.insert(key, force);
        self.look(writer)
    }

    /// Reaps orphans, kills those of ended runs, and tells which runs are swept.
    pub(super) fn look(&mut self, writer: Pid) -> Vec<Input> {
        self.orphans.look(&self.leaders, |pid| pid == writer.as_raw());
        let orphans = &self.orphans;
        let swept = self.sweeping.extract_if(|key, force| {
            if *force == Force::Kill {
                orphans.kill(*key);
            }
            orphans.of(*key).is_empty()
        });
        swept.map(|(key, _)| Input::Swept(key)).collect()
    }

    /// Reaps the first process and gathers what is known of the run.
    pub(super) fn collect(&mut self, poll: &mut Poll, key: RunKey) -> Option<Input> {
        let mut child = self.table.remove(&key)?;
        self.sweeping.remove(&key);
        for stream in [&mut child.stdout, &mut child.stderr] {
            stream.0.read(&mut self.scratch);
            close(poll, stream);
        }
        if let Some((pipe, token)) = &child.status {
            poll.remove(pipe, *token);
        }
        if let Some(token) = child.exit {
            poll.remove(&child.pidfd, token);
        }
        let usage = sys::reap(child.pid).ok().flatten().unwrap_or_default();
        self.leaders.remove(&child.pid.as_raw());
        let (result, note) = child.directory.collect();
        let (stdout, stderr) = (child.stdout.0.into_text(), child.stderr.0.into_text());
        Some(Input::Collected(key, Box::new(Collected { stdout, stderr, result, note, usage })))
    }

    fn launch(&self, start: &Start, directory: &RunDirectory) -> Result<(Forked, OwnedFd, Names), Fault> {
        let environment = Environment::build(start, &self.account, self.keeper, &directory.result_file())?;
        let launch = Launch::prepare(&start.spec, &environment, &self.account)?;
        let host = |errno: Errno| Fault::Host(format!("cannot make a process: {}", errno.desc()));
        // Once the process is there, no want of a descriptor may make it unwatchable.
        let reserve = self.inheritance.reserve().map_err(host)?;
        let forked = launch.fork(&self.inheritance).map_err(host)?;
        drop(reserve);
        let pidfd = sys::pidfd_open(forked.pid).map_err(|errno| {
            processes::signal_group(forked.pid.as_raw(), Signal::SIGKILL);
            host(errno)
        })?;
        Ok((forked, pidfd, launch.into_names()))
    }
}

impl Child {
    fn watch(
        poll: &mut Poll,
        start: &Start,
        forked: Forked,
        pidfd: OwnedFd,
        directory: RunDirectory,
        names: Names,
    ) -> Result<Self, Errno> {
        let (key, limit) = (start.key(), start.spec.output_limit);
        let exit = poll.add(&pidfd, Watched::Exit(key))?;
        let status = File::from(forked.status);
        let status_token = poll.add(&status, Watched::Status(key))?;
        let stdout_token = poll.add(&forked.stdout, Watched::Output(key, Channel::Stdout))?;
        let stderr_token = poll.add(&forked.stderr, Watched::Output(key, Channel::Stderr))?;
        Ok(Self {
            pid: forked.pid,
            pidfd,
            exit: Some(exit),
            status: Some((status, status_token)),
            stdout: (Stream::new(forked.stdout, limit), Some(stdout_token)),
            stderr: (Stream::new(forked.stderr, limit), Some(stderr_token)),
            directory,
            names,
        })
    }
}

/// Closes a stream that is in the epoll set.
fn close(poll: &mut Poll, (stream, token): &mut (Stream, Option<Token>)) {
    if let (Some(pipe), Some(token)) = (stream.pipe(), token.take()) {
        poll.remove(pipe, token);
    }
    stream.close();
}
