//! The keeper's loop: epoll around the state machine. It waits nowhere else, and touches no disk but to
//! read what is offered again.

mod traffic;

use std::{
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::Uid,
};
use uuid::Uuid;

use super::{
    alarm::Alarm,
    cgroup::Cgroups,
    children::Children,
    clock::{self, Moment},
    directory::StateDirectory,
    footprint,
    peers::Peers,
    policy::Policy,
    poll::{Poll, Token, Watched},
    program::program,
    protocol::{KeeperHello, PROTOCOL, RunKey},
    state::{Effect, Input, State, Times},
    store::{self, Store},
};
use crate::{
    error::{Error, ErrorKind, Result},
    observe::event,
};

/// Orphans that end are reaped no more often than this, and leftovers looked at again at least so often.
const LOOK_US: i64 = 20_000;
/// After a start, the keeper looks so often whether it has come to rest.
const REST_US: i64 = 60_000_000;
/// How long a keeper that is done waits for a disk that takes no results.
const PARTING_US: i64 = 10_000_000;

/// The keeper at work.
#[derive(Debug)]
pub(super) struct Shell {
    poll: Poll,
    alarm: Alarm,
    signals: SignalFd,
    socket: PathBuf,
    peers: Peers,
    children: Children,
    /// When to look at the orphans.
    look_us: Option<i64>,
    looked_us: i64,
    store: Store,
    /// The writer's socket in the epoll set.
    storing: Option<Token>,
    storing_blocked: bool,
    state: State,
    /// When to see whether memory can go back.
    rest_us: Option<i64>,
    done_us: Option<i64>,
}

impl Shell {
    /// Opens everything, for guardians of this user. The caller holds the keeper's lock and has ended what a predecessor left.
    pub(super) fn open(
        directory: &StateDirectory,
        (lock, guardian): (OwnedFd, Option<Uid>),
        keeper_id: Uuid,
        policy: Policy,
        groups: Option<Cgroups>,
        times: Times,
    ) -> Result<Self> {
        let fault = |what: &'static str| {
            move |errno: Errno| Error::new(ErrorKind::Failed, format!("keeper: cannot {what}")).source(errno)
        };
        prctl::set_child_subreaper(true).map_err(fault("become a subreaper"))?;
        let mask = SigSet::from_iter([Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
        mask.thread_block().map_err(fault("block signals"))?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC);
        let signals = signals.map_err(fault("take signals"))?;
        let alarm = Alarm::new().map_err(fault("make a timer"))?;
        let now = clock::now();
        let store = Store::open(directory.results(), lock, now)
            .map_err(|err| Error::new(ErrorKind::Config, "cannot open the result log").source(err))?;
        let mut poll = Poll::new().map_err(fault("make an epoll set"))?;
        let watch = |poll: &mut Poll, file: BorrowedFd<'_>, watched| {
            poll.add(file, watched).map_err(fault("watch a file"))
        };
        watch(&mut poll, alarm.as_fd(), Watched::Timer)?;
        watch(&mut poll, signals.as_fd(), Watched::Signals)?;
        let peers = Peers::listen(&mut poll, directory, guardian)?;
        let storing = store.socket().map(|socket| watch(&mut poll, socket, Watched::Writer)).transpose()?;
        let children = Children::new(keeper_id, directory.runs(), policy, groups)
            .map_err(fault("prepare for children"))?;
        let keeper = KeeperHello {
            protocol: PROTOCOL,
            keeper_id,
            pid: std::process::id() as i32,
            boot_id: clock::boot_id()?,
            unenforced: children.unenforced(),
            program: program(),
            retiring: false,
        };
        let state = State::new(now, keeper, times, store.unacknowledged());
        Ok(Self {
            poll,
            alarm,
            signals,
            socket: directory.socket(),
            peers,
            children,
            look_us: None,
            looked_us: 0,
            store,
            storing,
            storing_blocked: false,
            state,
            rest_us: None,
            done_us: None,
        })
    }

    /// Works until there is nothing more to do.
    pub(super) fn run(mut self) -> Result<()> {
        let fault =
            |errno: Errno| Error::new(ErrorKind::Failed, "keeper: cannot wait for events").source(errno);
        footprint::give_back();
        loop {
            let patient = !self.peers.have_work();
            self.arm().map_err(fault)?;
            let tokens = self.poll.wait(patient).map_err(fault)?;
            let woken = clock::now();
            for token in tokens {
                if let Some(watched) = self.poll.watched(token) {
                    self.dispatch(watched);
                }
            }
            self.serve();
            self.tend(woken);
            self.offer();
            self.exchange();
            self.flush();
            if self.is_done() {
                break;
            }
        }
        let _ = fs::remove_file(&self.socket);
        tracing::info!(event = event::KEEPER_ENDED, "the keeper ends");
        Ok(())
    }

    fn dispatch(&mut self, watched: Watched) {
        match watched {
            Watched::Listener => self.peers.accept(&mut self.poll, clock::now()),
            Watched::Timer => self.alarm.rang(),
            Watched::Signals => self.signalled(),
            // Both directions are served once a turn, by `exchange` and `flush`.
            Watched::Writer => {}
            Watched::Peer(connection) => {
                if self.peers.get(connection).is_some_and(|peer| !peer.read()) {
                    self.hang_up(connection);
                }
            }
            Watched::Exit(key) => self.exited(key),
            Watched::Status(key) => {
                let input = self.children.status(&mut self.poll, key);
                self.feed_all(input);
            }
            Watched::LookUp(number) => {
                let inputs = self.children.looked_up(&mut self.poll, number);
                self.feed_all(inputs);
            }
            Watched::Output(key, channel) => {
                let input = self.children.output(&mut self.poll, key, channel);
                self.feed_all(input);
            }
        }
    }

    fn exited(&mut self, key: RunKey) {
        let inputs = self.children.exited(&mut self.poll, key, self.store.writer_pid());
        self.feed_all(inputs);
    }

    /// Takes an input and performs all that follows from it.
    fn feed(&mut self, input: Input) {
        self.feed_at(clock::now(), input);
    }

    fn feed_at(&mut self, now: Moment, input: Input) {
        self.state.handle(now, input);
        while let Some(effect) = self.state.next_effect() {
            let inputs = self.perform(effect);
            let now = clock::now();
            inputs.into_iter().for_each(|input| self.state.handle(now, input));
        }
    }

    fn feed_all(&mut self, inputs: impl IntoIterator<Item = Input>) {
        inputs.into_iter().for_each(|input| self.feed(input));
    }

    fn perform(&mut self, effect: Effect) -> Vec<Input> {
        let writer = self.store.writer_pid();
        match effect {
            Effect::Send(connection, event) => self.send(connection, &event),
            Effect::Close(connection) => {
                // A farewell, if there is one, goes out first.
                self.peers.get(connection).map(|peer| peer.flush(&self.poll));
                self.peers.close(&mut self.poll, connection);
                return vec![Input::Disconnected(connection)];
            }
            Effect::Spawn(start) => {
                self.rest_us.get_or_insert(clock::now().boottime_us + REST_US);
                return self.children.spawn(&mut self.poll, start).into_iter().collect();
            }
            Effect::Kill(key, force) => return self.children.kill(key, force, writer).into_iter().collect(),
            Effect::GiveUp(key) => return self.children.give_up(key).into_iter().collect(),
            Effect::Abandon(key) => return vec![self.children.abandon(&mut self.poll, key)],
            Effect::Pause(key) => self.children.pause(key, true, writer),
            Effect::Unpause(key) => self.children.pause(key, false, writer),
            Effect::Sweep(key, force) => {
                self.looked_us = clock::now().boottime_us;
                return self.children.sweep(key, force, writer);
            }
            Effect::Collect(key) => return self.children.collect(&mut self.poll, key).into_iter().collect(),
            Effect::Record(result) => self.record(*result),
            Effect::Offer(connection, key) => {
                if let Some(peer) = self.peers.get(connection) {
                    peer.offer(key, None);
                }
            }
            Effect::OfferRetained(connection) => {
                let retained = self.store.retained(store::WHOLE_BYTES);
                if let Some(peer) = self.peers.get(connection) {
                    peer.offer_retained(retained);
                }
            }
            Effect::Forget(key) => self.store.acknowledge(clock::now(), key),
        }
        Vec::new()
    }

    fn signalled(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            match Signal::try_from(info.ssi_signo as i32) {
                Ok(Signal::SIGTERM | Signal::SIGINT) => self.feed(Input::Stop),
                Ok(Signal::SIGHUP) => self.children.reload(),
                Ok(Signal::SIGCHLD) => self.look_us = self.look_us.or(Some(self.looked_us + LOOK_US)),
                _ => {}
            }
        }
    }

    /// Does what was due when this turn began. Not what is due by now: the keeper may have been stopped meanwhile, and
    /// what others did then comes first, such as a process that ended or a lease that was renewed.
    fn tend(&mut self, now: Moment) {
        let due = |at: &mut i64| *at <= now.boottime_us;
        if self.alarm.is_time(self.state.next_tick_us(), now.boottime_us, self.peers.have_work()) {
            self.feed_at(now, Input::Tick);
        }
        // A run whose leftovers are dying waits for every single SIGCHLD.
        if self.look_us.take_if(|at| due(at) || self.children.is_sweeping()).is_some() {
            self.looked_us = now.boottime_us;
            let swept = self.children.look(self.store.writer_pid());
            self.feed_all(swept);
            self.children.hidden().into_iter().for_each(|key| self.exited(key));
        }
        if self.children.is_sweeping() {
            self.look_us = self.look_us.or(Some(self.looked_us + LOOK_US));
        }
        if self.rest_us.take_if(|at| due(at)).is_some() {
            if self.children.are_none() {
                footprint::give_back();
            } else {
                self.rest_us = Some(now.boottime_us + REST_US);
            }
        }
        let given_up = self.children.tend(&mut self.poll, now.boottime_us);
        self.feed_all(given_up);
        self.peers.tend(&mut self.poll, now);
        self.store.tend(now);
    }

    fn arm(&mut self) -> Result<(), Errno> {
        let wakeups = [
            self.state.next_tick_us(),
            self.store.next_us(),
            self.look_us,
            self.rest_us,
            self.peers.next_us(),
            self.children.next_us(),
            self.done_us.map(|since| since + PARTING_US),
        ];
        self.alarm.set(wakeups.into_iter().flatten().min())
    }

    fn is_done(&mut self) -> bool {
        let now: Moment = clock::now();
        let is_asked = self.state.is_retiring() && self.peers.have_unsent();
        if !self.state.is_finished(now) || is_asked {
            self.done_us = None;
            return false;
        }
        let since = *self.done_us.get_or_insert(now.boottime_us);
        self.store.is_durable() || since + PARTING_US <= now.boottime_us
    }
}
