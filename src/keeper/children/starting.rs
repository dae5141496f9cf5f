//! From the order to start a run to its process: the policy, the user, the room, the fork.

use std::os::fd::OwnedFd;

use nix::errno::Errno;

use super::{
    super::{
        accounts::{Account, Found},
        clock,
        env::Environment,
        limits::Limits,
        poll::{Poll, Token, Watched},
        protocol::{Leftovers, RunKey, Start},
        spawn::{Forked, Launch, Names},
        state::{Fault, Input},
    },
    Child, Children, Room,
};

/// A user is being looked up.
#[derive(Debug)]
pub(super) struct Looking {
    name: String,
    pipe: OwnedFd,
    token: Token,
}

impl Children {
    /// Makes the process of a run; none yet when its user has to be looked up first.
    pub(in crate::keeper) fn spawn(&mut self, poll: &mut Poll, start: Box<Start>) -> Option<Input> {
        let key = start.key();
        match self.begin(poll, start) {
            Ok(pid) => pid.map(|pid| Input::Forked(key, pid)),
            Err(fault) => Some(Input::NotForked(key, fault)),
        }
    }

    /// The answer about a user is there.
    pub(in crate::keeper) fn looked_up(&mut self, poll: &mut Poll, number: u64) -> Vec<Input> {
        let Some(Looking { name, pipe, token }) = self.looking.remove(&number) else { return Vec::new() };
        poll.remove(&pipe, token);
        let (answer, waiting) = self.accounts.told(&name, pipe, clock::now().boottime_us);
        match answer {
            Ok(_) => waiting.into_iter().filter_map(|start| self.spawn(poll, start)).collect(),
            Err(reason) => not_forked(&waiting, &reason),
        }
    }

    /// When [`Self::tend`] has something to do, on the boot clock.
    pub(in crate::keeper) fn next_us(&self) -> Option<i64> {
        self.accounts.next_us()
    }

    /// Gives up look-ups that take too long.
    pub(in crate::keeper) fn tend(&mut self, poll: &mut Poll, now_us: i64) -> Vec<Input> {
        let mut inputs = Vec::new();
        for (name, (answer, waiting)) in self.accounts.overdue(now_us) {
            for (_, late) in self.looking.extract_if(|_, looking| looking.name == name) {
                poll.remove(&late.pipe, late.token);
            }
            inputs.extend(not_forked(&waiting, &answer.err().unwrap_or_default()));
        }
        inputs
    }

    fn begin(&mut self, poll: &mut Poll, start: Box<Start>) -> Result<Option<i32>, Fault> {
        // It may have waited: in the socket of a keeper that was stopped, or for its user.
        if start.expires_boottime_us.is_some_and(|at| clock::now().boottime_us >= at) {
            return Err(Fault::Late("it expired before it could be started".to_owned()));
        }
        let wanted = Limits::of(&start.spec)?;
        let allowed = self.policy.judge(&start, wanted).map_err(Fault::Policy)?;
        let (name, limits) = (allowed.user.to_owned(), allowed.limits);
        let (only_trusted, root) = (allowed.only_trusted, allowed.root);
        let own = self.accounts.own();
        if name != own.name && !own.uid().is_root() {
            let reason = format!("the keeper of this host is not root and runs jobs as {:?} alone", own.name);
            return Err(Fault::Policy(reason));
        }
        let host = |errno: Errno| Fault::Host(format!("cannot look a user up: {}", errno.desc()));
        let found = self.accounts.find(&name, || start.clone(), clock::now().boottime_us);
        match found.map_err(host)? {
            Found::Now(account) if account.identity.is_some() && account.uid().is_root() && !root => {
                Err(Fault::Policy(format!("user {name:?} is root by another name")))
            }
            Found::Now(account) => self.make(poll, &start, limits, &account, only_trusted).map(Some),
            Found::Later(None) => Ok(None),
            Found::Later(Some(pipe)) => {
                self.looked += 1;
                let token = poll.add(&pipe, Watched::LookUp(self.looked)).map_err(host)?;
                self.looking.insert(self.looked, Looking { name, pipe, token });
                Ok(None)
            }
        }
    }

    fn make(
        &mut self,
        poll: &mut Poll,
        start: &Start,
        limits: Limits,
        account: &Account,
        only_trusted: bool,
    ) -> Result<i32, Fault> {
        let key = start.key();
        let is_reusable = start.spec.leftovers != Leftovers::Leave;
        let room = self.make_room(key, &limits, account, is_reusable)?;
        match self.launch(start, limits, &room, account, only_trusted) {
            Ok((forked, names)) => match Child::watch(poll, start, forked, names, room) {
                Ok(child) => {
                    let pid = child.pid.as_raw();
                    self.leaders.insert(pid, key);
                    self.table.insert(key, child);
                    Ok(pid)
                }
                Err((errno, room)) => {
                    self.leave(room);
                    Err(Fault::Host(format!("cannot watch a process: {}", errno.desc())))
                }
            },
            Err(fault) => {
                self.leave(room);
                Err(fault)
            }
        }
    }

    pub(super) fn leave(&mut self, room: Room) {
        room.directory.remove();
        self.release(room.group);
    }

    fn make_room(
        &mut self,
        key: RunKey,
        limits: &Limits,
        account: &Account,
        is_reusable: bool,
    ) -> Result<Room, Fault> {
        let directory = self.directories.make(key, account.identity.as_ref(), is_reusable);
        let directory = directory.map_err(|err| {
            Fault::Host(format!("cannot make the run's directory in {:?}: {err}", self.directories.path()))
        })?;
        match self.groups.as_mut().map(|groups| groups.make(key, limits, is_reusable)).transpose() {
            Ok(group) => Ok(Room { directory, group }),
            Err(err) => {
                directory.remove();
                Err(Fault::Host(format!("cannot make a control group: {err}")))
            }
        }
    }

    fn launch(
        &mut self,
        start: &Start,
        limits: Limits,
        room: &Room,
        account: &Account,
        only_trusted: bool,
    ) -> Result<(Forked, Names), Fault> {
        let limits = if self.controls().0 { limits } else { limits.process_by_process() };
        let result_file = room.directory.result_file();
        let environment = Environment::build(start, account, &self.lang, self.keeper, &result_file)?;
        let launch = Launch::prepare(&start.spec, limits, &environment, account, only_trusted)?;
        let host = |errno: Errno| Fault::Host(format!("cannot make a process: {}", errno.desc()));
        let forked = launch.fork(&mut self.inheritance, room.group.as_ref()).map_err(host)?;
        Ok((forked, launch.into_names()))
    }
}

fn not_forked(waiting: &[Box<Start>], reason: &str) -> Vec<Input> {
    let fault = || Fault::Spawn(reason.to_owned());
    waiting.iter().map(|start| Input::NotForked(start.key(), fault())).collect()
}
