//! The keeper's logic: inputs in, effects out, no input/output and no clock of its own.

mod remembered;
mod run;
#[cfg(test)]
mod tests;
mod words;

use std::collections::{BTreeSet, HashMap, VecDeque};

pub(super) use self::words::{Collected, Effect, Fault, Force, Input};
use self::{remembered::Remembered, run::Run};
use super::{
    clock::Moment,
    protocol::{
        Action, Deadline, EndedBy, Event, GuardianHello, Held, KeeperHello, PROTOCOL, Refused, Request,
        RunKey, RunResult, Signal, Start, Started,
    },
};

/// A connection, as the shell names it; never used again for another one.
pub(super) type Connection = u64;

/// All runs of one keeper.
#[derive(Debug)]
pub(super) struct State {
    keeper: KeeperHello,
    times: Times,
    live: HashMap<RunKey, Run>,
    /// Ended, the result not acknowledged.
    ended: BTreeSet<RunKey>,
    acknowledged: Remembered,
    /// The next moment at which each run needs attention.
    timers: BTreeSet<(i64, RunKey)>,
    /// The greeted connection.
    guardian: Option<Connection>,
    epoch: u64,
    stopping: bool,
    /// Whether it has said that it has retired.
    retired: bool,
    idle_since_us: Option<i64>,
    effects: VecDeque<Effect>,
}

/// How long a keeper waits for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// With nothing to do, until it ends; none: for ever.
    pub(super) idle_us: Option<i64>,
    /// For a process to execute its program.
    pub(super) start_us: i64,
}

impl State {
    /// A keeper with no live run; `ended` are the stored results that nobody acknowledged yet.
    pub(super) fn new(
        now: Moment,
        keeper: KeeperHello,
        times: Times,
        ended: impl IntoIterator<Item = RunKey>,
    ) -> Self {
        let mut state = Self {
            keeper,
            times,
            live: HashMap::new(),
            ended: ended.into_iter().collect(),
            acknowledged: Remembered::default(),
            timers: BTreeSet::new(),
            guardian: None,
            epoch: 0,
            stopping: false,
            retired: false,
            idle_since_us: None,
            effects: VecDeque::new(),
        };
        state.note_idleness(now);
        state
    }

    /// Takes one input. The caller performs all effects before it brings the next one from outside.
    pub(super) fn handle(&mut self, now: Moment, input: Input) {
        match input {
            Input::Request(from, request) => self.request(now, from, request),
            Input::Disconnected(connection) => {
                self.guardian.take_if(|guardian| *guardian == connection);
            }
            Input::Forked(key, pid) => self.change(key, |run| {
                run.forked(now, pid);
                None
            }),
            Input::NotForked(key, fault) => self.not_forked(now, key, fault),
            Input::Executing(key) => self.executing(key),
            Input::NotExecuted(key, fault) => self.change(key, |run| run.not_executed(now, fault)),
            Input::Abandoned(key) => self.abandoned(now, key),
            Input::Exited(key, exit) => self.change(key, |run| run.exited(now, exit)),
            Input::Swept(key) => self.change(key, |run| run.swept(now)),
            Input::Closed(key) => self.change(key, Run::closed),
            Input::Collected(key, collected) => self.collected(key, *collected),
            Input::Stop => self.stop(now),
            Input::Tick => self.attend(now),
        }
        self.note_retirement();
        self.note_idleness(now);
    }

    /// The next thing to do.
    pub(super) fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`Input::Tick`] is due, on the boot clock.
    pub(super) fn next_tick_us(&self) -> Option<i64> {
        let idle = self.idle_since_us.zip(self.times.idle_us).map(|(since, limit)| since + limit);
        [self.timers.first().map(|timer| timer.0), idle].into_iter().flatten().min()
    }

    /// Whether the keeper has nothing more to do and may end once its results are on disk.
    pub(super) fn is_finished(&self, now: Moment) -> bool {
        let idle = self.idle_since_us.zip(self.times.idle_us);
        (self.stopping && self.live.is_empty())
            || (self.keeper.retiring && self.has_nothing())
            || idle.is_some_and(|(since, limit)| since + limit <= now.boottime_us)
    }

    /// Whether it was told to retire, so that a guardian is to get all it has asked for.
    pub(super) fn is_retiring(&self) -> bool {
        self.keeper.retiring
    }

    /// The connection that is greeted.
    pub(super) fn guardian(&self) -> Option<Connection> {
        self.guardian
    }

    /// Whether the result of this run still waits to be acknowledged.
    pub(super) fn is_unacknowledged(&self, key: RunKey) -> bool {
        self.ended.contains(&key)
    }

    fn request(&mut self, now: Moment, from: Connection, request: Request) {
        if let Request::Hello(hello) = request {
            return self.greet(from, hello);
        }
        // Whoever did not greet, or was superseded while its lines were on the way, is not obeyed.
        if self.guardian != Some(from) {
            return self.effects.push_back(Effect::Close(from));
        }
        match request {
            Request::Hello(_) => {}
            Request::List {} => {
                let runs = self.held();
                self.effects.push_back(Effect::Send(from, Event::Listed { runs }));
            }
            Request::Start(start) => self.start(from, start),
            Request::Signal(Signal { key, action, reason }) => self.change(key, |run| match action {
                Action::Terminate => run.end(now, EndedBy::Terminate, reason),
                Action::Pause => run.pause(now),
                Action::Unpause => run.unpause(now),
            }),
            Request::Deadline(Deadline { key, boottime_us }) => self.change(key, |run| {
                run.move_fence(boottime_us);
                None
            }),
            Request::Ack(key) => {
                if self.ended.remove(&key) {
                    self.acknowledged.insert(key);
                    self.effects.push_back(Effect::Forget(key));
                }
            }
            Request::Offer {} => self.effects.push_back(Effect::OfferRetained(from)),
            Request::Retire { if_idle } => self.keeper.retiring |= !if_idle || self.has_nothing(),
        }
    }

    fn greet(&mut self, from: Connection, hello: GuardianHello) {
        if hello.protocol != PROTOCOL {
            self.effects.push_back(Effect::Send(from, Event::Hello(self.keeper.clone())));
            return self.effects.push_back(Effect::Close(from));
        }
        if hello.epoch < self.epoch {
            return self.effects.push_back(Effect::Close(from));
        }
        self.epoch = hello.epoch;
        if let Some(older) = self.guardian.replace(from).filter(|&older| older != from) {
            self.effects.push_back(Effect::Close(older));
        }
        self.effects.push_back(Effect::Send(from, Event::Hello(self.keeper.clone())));
        self.effects.extend(self.ended.iter().map(|&key| Effect::Offer(from, key)));
    }

    fn start(&mut self, from: Connection, start: Box<Start>) {
        let key = start.key();
        let refused = |reason: &str, fit| {
            Effect::Send(from, Event::Refused(Refused { key, reason: reason.to_owned(), fit }))
        };
        if let Some(run) = self.live.get(&key) {
            self.effects.extend(self.started(key, run).map(|event| Effect::Send(from, event)));
        } else if self.ended.contains(&key) {
            self.effects.push_back(Effect::Offer(from, key));
        } else if self.acknowledged.contains(key) {
            self.effects.push_back(refused("it has ended and its result was acknowledged", true));
        } else if self.stopping {
            self.effects.push_back(refused("the keeper is stopping", false));
        } else if self.keeper.retiring {
            self.effects.push_back(refused("the keeper makes room for another one", true));
        } else {
            let run = Run::new(&start, self.times.start_us);
            // A fence is there from the first moment.
            run.next_us().map(|at| self.timers.insert((at, key)));
            self.live.insert(key, run);
            self.effects.push_back(Effect::Spawn(start));
        }
    }

    fn not_forked(&mut self, now: Moment, key: RunKey, fault: Fault) {
        let ended = self.forget(key).and_then(Run::into_end);
        let fit = matches!(fault, Fault::Late(_));
        let (ended_by, reason) = match (ended, fault) {
            // Somebody wanted it to end before it had begun.
            (Some(end), _) => end,
            (None, Fault::Host(reason) | Fault::Late(reason)) => {
                let event = |to| Effect::Send(to, Event::Refused(Refused { key, reason, fit }));
                return self.effects.extend(self.guardian.map(event));
            }
            (None, Fault::Spawn(reason)) => (EndedBy::Spawn, reason),
            (None, Fault::Policy(reason)) => (EndedBy::Policy, reason),
        };
        self.record(RunResult::not_started(key, now, ended_by, reason, &self.keeper.boot_id));
    }

    fn executing(&mut self, key: RunKey) {
        self.change(key, |run| {
            run.execute();
            None
        });
        let event = self.live.get(&key).and_then(|run| self.started(key, run));
        self.effects.extend(self.guardian.zip(event).map(|(to, event)| Effect::Send(to, event)));
    }

    fn collected(&mut self, key: RunKey, collected: Collected) {
        if let Some(run) = self.forget(key) {
            self.record(run.result(collected, &self.keeper.boot_id));
        }
    }

    fn abandoned(&mut self, now: Moment, key: RunKey) {
        if let Some((by, reason)) = self.forget(key).and_then(Run::into_end) {
            self.record(RunResult::not_started(key, now, by, reason, &self.keeper.boot_id));
        }
    }

    fn record(&mut self, result: RunResult) {
        self.ended.insert(result.key);
        self.effects.push_back(Effect::Record(Box::new(result)));
    }

    fn stop(&mut self, now: Moment) {
        self.stopping = true;
        for key in self.live.keys().copied().collect::<Vec<_>>() {
            self.change(key, |run| run.end(now, EndedBy::Keeper, "the keeper was stopped".to_owned()));
        }
    }

    fn held(&self) -> Vec<Held> {
        let live = self.live.iter().map(|(&key, run)| Held {
            key,
            pid: run.pid,
            started: run.started(&self.keeper.boot_id),
            ended: false,
        });
        let ended = self.ended.iter().map(|&key| Held { key, pid: None, started: None, ended: true });
        live.chain(ended).collect()
    }

    fn started(&self, key: RunKey, run: &Run) -> Option<Event> {
        let (pid, started) = run.pid.zip(run.started(&self.keeper.boot_id))?;
        Some(Event::Started(Started { key, pid, started }))
    }

    /// Changes a live run, takes the effect and keeps its timer true.
    fn change(&mut self, key: RunKey, change: impl FnOnce(&mut Run) -> Option<Effect>) {
        let Some(run) = self.live.get_mut(&key) else { return };
        let before = run.next_us();
        self.effects.extend(change(run));
        let after = run.next_us();
        if before != after {
            before.map(|at| self.timers.remove(&(at, key)));
            after.map(|at| self.timers.insert((at, key)));
        }
    }

    fn forget(&mut self, key: RunKey) -> Option<Run> {
        let run = self.live.remove(&key)?;
        run.next_us().map(|at| self.timers.remove(&(at, key)));
        Some(run)
    }

    fn attend(&mut self, now: Moment) {
        while let Some(&(at, key)) = self.timers.first()
            && at <= now.boottime_us
        {
            self.change(key, |run| run.attend(now));
        }
    }

    fn has_nothing(&self) -> bool {
        self.live.is_empty() && self.ended.is_empty()
    }

    fn note_retirement(&mut self) {
        if self.keeper.retiring
            && self.has_nothing()
            && !self.retired
            && let Some(guardian) = self.guardian
        {
            self.retired = true;
            self.effects.push_back(Effect::Send(guardian, Event::Retired {}));
        }
    }

    fn note_idleness(&mut self, now: Moment) {
        let idle = self.has_nothing() && self.guardian.is_none();
        self.idle_since_us = idle.then(|| self.idle_since_us.unwrap_or(now.boottime_us));
    }
}
