//! Reaching all processes of a run: its control group, else its session, its process group, its
//! descendants, and those who lost their parent.

use nix::{sys::signal::Signal, unistd::Pid};

use super::{
    super::{
        poll::Poll,
        processes::{self, Stat},
        protocol::RunKey,
        state::{Fault, Force, Input},
    },
    Child, Children,
};

/// Looks at a run that forks faster than it can be stopped.
const MOST_ROUNDS: usize = 20;

impl Children {
    /// Signals every process of a run; one that waits for its user to be looked up will have none.
    pub(in crate::keeper) fn kill(&mut self, key: RunKey, force: Force, writer: Pid) -> Option<Input> {
        if self.accounts.withdraw(|start| start.key() == key).is_some() {
            return Some(Input::NotForked(key, Fault::Spawn("it was ended before it started".to_owned())));
        }
        match force {
            // A stopped process takes its TERM when it goes on.
            Force::Term => {
                self.signal(key, &[Signal::SIGTERM, Signal::SIGCONT], writer);
                self.table.get(&key).and_then(Child::group).inspect(|group| group.freeze(false));
            }
            Force::Kill => {
                self.table.get(&key).and_then(Child::group).inspect(|group| group.kill());
                self.signal(key, &[Signal::SIGKILL], writer);
            }
        }
        None
    }

    /// Stops every process of a run, or lets all go on.
    pub(in crate::keeper) fn pause(&mut self, key: RunKey, stopped: bool, writer: Pid) {
        if let Some(group) = self.table.get(&key).and_then(Child::group).filter(|group| group.is_real()) {
            return group.freeze(stopped);
        }
        if !stopped {
            self.signal(key, &[Signal::SIGCONT], writer);
            return;
        }
        // Who was forking when it was looked for is found by the next look, until nobody is left to fork.
        let mut reached = 0;
        for _ in 0..MOST_ROUNDS {
            let now = self.signal(key, &[Signal::SIGSTOP], writer);
            if now == reached {
                break;
            }
            reached = now;
        }
    }

    /// Says what a process hangs in that has not executed its program.
    pub(in crate::keeper) fn give_up(&self, key: RunKey) -> Option<Input> {
        let child = self.table.get(&key)?;
        let at = std::fs::read_to_string(format!("/proc/{}/comm", child.pid)).unwrap_or_default();
        Some(Input::NotExecuted(key, child.names.hanging(at.trim())))
    }

    /// Lets go of a process that does not even die of KILL. Its zombie, should it ever be one, is an orphan's.
    pub(in crate::keeper) fn abandon(&mut self, poll: &mut Poll, key: RunKey) -> Input {
        if let Some(mut child) = self.table.remove(&key) {
            child.forget(poll);
            self.sweeping.remove(&key);
            self.hidden.remove(&key);
            self.leaders.remove(&child.pid.as_raw());
            self.leave(child.room);
        }
        Input::Abandoned(key)
    }

    /// Waits for what an ended first process left, or kills it. [`Self::look`] tells when nothing is left.
    pub(in crate::keeper) fn sweep(&mut self, key: RunKey, force: Force, writer: Pid) -> Vec<Input> {
        let Some(child) = self.table.get(&key) else { return Vec::new() };
        // What is in a group is seen there at once; outside of one the orphans have to be looked through.
        if let Some(group) = child.group().filter(|group| group.is_real()) {
            if !group.is_populated() {
                return vec![Input::Swept(key)];
            }
            if force == Force::Kill {
                group.kill();
            }
        } else if force == Force::Kill {
            // The zombie keeps the group's number taken.
            processes::signal_group(child.pid.as_raw(), Signal::SIGKILL);
        }
        self.sweeping.insert(key, force);
        self.look(writer)
    }

    /// Reaps orphans, kills those of ended runs, and tells which runs are swept.
    pub(in crate::keeper) fn look(&mut self, writer: Pid) -> Vec<Input> {
        self.orphans.look(&self.leaders, |pid| pid == writer.as_raw());
        let (orphans, table) = (&self.orphans, &self.table);
        let swept = self.sweeping.extract_if(|key, force| {
            let group = table.get(key).and_then(Child::group).filter(|group| group.is_real());
            if *force == Force::Kill {
                group.map_or_else(|| orphans.kill(*key), |group| group.kill());
            }
            group.map_or_else(|| orphans.of(*key).is_empty(), |group| !group.is_populated())
        });
        swept.map(|(key, _)| Input::Swept(key)).collect()
    }

    /// Returns how many were reached outside of a control group.
    fn signal(&mut self, key: RunKey, signals: &[Signal], writer: Pid) -> usize {
        let Some(child) = self.table.get(&key) else { return 0 };
        if let Some(group) = child.group().filter(|group| group.is_real()) {
            group.signal(signals);
            return 0;
        }
        let leader = child.pid.as_raw();
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
        family.len()
    }
}
