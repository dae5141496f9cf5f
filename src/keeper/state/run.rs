//! One live run: its deadlines and how it is brought to an end.

use super::{
    super::{
        clock::Moment,
        output,
        protocol::{EndedBy, Leftovers, RunKey, RunResult, Start, Time},
        sys::Exit,
    },
    Collected, Effect, Fault, Force,
};

/// How long pipes that leftovers hold open are still read.
const DRAIN_US: i64 = 250_000;
/// How long processes that do not die of KILL (uninterruptible sleep) may delay a result.
const KILL_PATIENCE_US: i64 = 2_000_000;
/// Between two KILLs of a run that will not go.
const KILL_AGAIN_US: i64 = 1_000_000;
/// Bytes of a stream that are kept when there is no room for more.
const SHORT_OUTPUT: usize = 1024;

/// A run from its start to the collection of its result.
#[derive(Debug)]
pub(super) struct Run {
    key: RunKey,
    pub(super) pid: Option<i32>,
    executing: bool,
    /// How long it may take to get there.
    start_limit_us: i64,
    gave_up: bool,
    /// When to let go of a process that hangs before its program and does not die.
    abandon_us: Option<i64>,
    /// When its process was made.
    forked: Option<Moment>,
    max_runtime: Option<f64>,
    /// Since when it is paused.
    paused: Option<Moment>,
    /// How long it was paused before.
    rested_us: i64,
    grace_us: i64,
    fence_us: Option<i64>,
    leftovers: Leftovers,
    ended_by: Option<(EndedBy, String)>,
    kill_us: Option<i64>,
    killed: bool,
    /// Both pipes have ended; a job may close them long before it ends.
    closed: bool,
    leaving: Option<Leaving>,
}

/// The first process of a run has ended.
#[derive(Debug)]
struct Leaving {
    exit: Exit,
    at: Moment,
    rest: Rest,
    /// When to stop waiting for the rest or for the pipes; none once the result is collected.
    until_us: Option<i64>,
}

/// What is left of a run whose first process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// Processes that got the TERM too and have the rest of the grace: a shell dies of it before the
    /// program that it waits for has cleaned up.
    Asked,
    /// Processes that are being killed.
    Killed,
    /// Nothing, or nothing of ours.
    Gone,
}

impl Run {
    pub(super) fn new(start: &Start, start_limit_us: i64) -> Self {
        Self {
            key: start.key(),
            pid: None,
            executing: false,
            start_limit_us,
            gave_up: false,
            abandon_us: None,
            forked: None,
            max_runtime: start.spec.max_runtime,
            paused: None,
            rested_us: 0,
            grace_us: micros(start.spec.grace),
            fence_us: start.deadline_boottime_us,
            leftovers: start.spec.leftovers,
            ended_by: None,
            kill_us: None,
            killed: false,
            closed: false,
            leaving: None,
        }
    }

    pub(super) fn forked(&mut self, now: Moment, pid: i32) {
        self.pid = Some(pid);
        self.forked = Some(now);
    }

    pub(super) fn started(&self, boot_id: &str) -> Option<Time> {
        self.forked.filter(|_| self.executing).map(|moment| moment.in_boot(boot_id))
    }

    /// Its program is executing. Of one that was given up this only means that its process has died.
    pub(super) fn execute(&mut self) {
        self.executing = !self.gave_up;
    }

    /// The program could not be executed; the process that tried is about to end, or hangs.
    pub(super) fn not_executed(&mut self, now: Moment, fault: Fault) -> Option<Effect> {
        self.ended_by.get_or_insert(match fault {
            Fault::Host(reason) | Fault::Late(reason) | Fault::Spawn(reason) => (EndedBy::Spawn, reason),
            Fault::Policy(reason) => (EndedBy::Policy, reason),
        });
        self.gave_up.then(|| self.kill(now))
    }

    /// Why it was ended, of a run that never had a process.
    pub(super) fn into_end(self) -> Option<(EndedBy, String)> {
        self.ended_by
    }

    /// Of a run that was started without a fence this is not the business: a guardian that took it over
    /// does not know.
    pub(super) fn move_fence(&mut self, boottime_us: i64) {
        self.fence_us = self.fence_us.map(|_| boottime_us);
    }

    /// TERM now, KILL after the grace; once.
    pub(super) fn end(&mut self, now: Moment, by: EndedBy, reason: String) -> Option<Effect> {
        if self.leaving.is_some() || self.ended_by.is_some() {
            return None;
        }
        self.ended_by = Some((by, reason));
        // TERM wakes it.
        self.paused = None;
        if self.grace_us == 0 {
            return Some(self.kill(now));
        }
        self.kill_us = Some(now.boottime_us.saturating_add(self.grace_us));
        Some(Effect::Kill(self.key, Force::Term))
    }

    /// Stops it, and its time limit; a fence moves by the lease alone.
    pub(super) fn pause(&mut self, now: Moment) -> Option<Effect> {
        // One that waits for its user, or ends, has nothing to stop.
        if self.pid.is_none() || self.leaving.is_some() || self.ended_by.is_some() || self.paused.is_some() {
            return None;
        }
        self.paused = Some(now);
        Some(Effect::Pause(self.key))
    }

    /// Lets it go on.
    pub(super) fn unpause(&mut self, now: Moment) -> Option<Effect> {
        let since = self.paused.take()?;
        self.rested_us += now.boottime_us - since.boottime_us;
        Some(Effect::Unpause(self.key))
    }

    /// The first process has ended: what is left is swept, then the pipes are drained.
    pub(super) fn exited(&mut self, now: Moment, exit: Exit) -> Option<Effect> {
        if self.leaving.is_some() {
            return None;
        }
        let asked_until = self.kill_us.filter(|_| !self.killed);
        let asked_until = asked_until.map(|kill| self.fence_us.map_or(kill, |fence| fence.min(kill)));
        let (rest, until_us) = match (self.leftovers, asked_until) {
            (Leftovers::Leave, _) => (Rest::Gone, now.boottime_us + DRAIN_US),
            (Leftovers::Kill, Some(until_us)) => (Rest::Asked, until_us),
            (Leftovers::Kill, None) => (Rest::Killed, now.boottime_us + KILL_PATIENCE_US),
        };
        self.leaving = Some(Leaving { exit, at: now, rest, until_us: Some(until_us) });
        match rest {
            Rest::Asked => Some(Effect::Sweep(self.key, Force::Term)),
            Rest::Killed => Some(Effect::Sweep(self.key, Force::Kill)),
            Rest::Gone => self.collect_when_ready(),
        }
    }

    /// Nothing is left of the run but its zombie, and perhaps unread output.
    pub(super) fn swept(&mut self, now: Moment) -> Option<Effect> {
        let leaving = self.leaving.as_mut().filter(|leaving| leaving.rest != Rest::Gone)?;
        leaving.rest = Rest::Gone;
        leaving.until_us = Some(now.boottime_us + DRAIN_US);
        self.collect_when_ready()
    }

    /// Both pipes have ended.
    pub(super) fn closed(&mut self) -> Option<Effect> {
        self.closed = true;
        self.collect_when_ready()
    }

    /// When this run next needs [`Self::attend`].
    pub(super) fn next_us(&self) -> Option<i64> {
        if let Some(leaving) = &self.leaving {
            return leaving.until_us;
        }
        let limits = [self.limit_us(), self.fence_us.map(|fence| fence.saturating_sub(self.grace_us))];
        let limits = [limits[0], limits[1], self.give_up_us()];
        let soft = limits.into_iter().flatten().min().filter(|_| self.ended_by.is_none());
        let hard = [self.kill_us, self.fence_us.filter(|_| self.kill_us.is_some()), self.abandon_us];
        hard.into_iter().chain([soft]).flatten().min()
    }

    /// Does what is due.
    pub(super) fn attend(&mut self, now: Moment) -> Option<Effect> {
        let due = |at: Option<i64>| at.is_some_and(|at| at <= now.boottime_us);
        if let Some(leaving) = &mut self.leaving {
            return match leaving.rest {
                _ if !due(leaving.until_us) => None,
                Rest::Asked => {
                    leaving.rest = Rest::Killed;
                    leaving.until_us = Some(now.boottime_us + KILL_PATIENCE_US);
                    Some(Effect::Sweep(self.key, Force::Kill))
                }
                Rest::Killed => self.swept(now),
                Rest::Gone => self.closed(),
            };
        }
        if due(self.abandon_us) {
            self.abandon_us = None;
            return Some(Effect::Abandon(self.key));
        }
        if due(self.kill_us) || (self.kill_us.is_some() && due(self.fence_us)) {
            return Some(self.kill(now));
        }
        if due(self.give_up_us()) && self.ended_by.is_none() {
            self.gave_up = true;
            return Some(Effect::GiveUp(self.key));
        }
        if due(self.limit_us()) {
            let seconds = self.max_runtime.unwrap_or_default();
            return self.end(now, EndedBy::Timeout, format!("ran longer than max_runtime ({seconds} s)"));
        }
        if due(self.fence_us.map(|fence| fence.saturating_sub(self.grace_us))) {
            return self.end(now, EndedBy::Fence, "the lease was not renewed in time".to_owned());
        }
        None
    }

    /// The result of a run whose process was reaped.
    pub(super) fn result(self, collected: Collected, boot_id: &str) -> RunResult {
        let started = self.started(boot_id);
        let leaving = self.leaving.expect("a run is collected only after it has ended");
        let not_started = matches!(self.ended_by, Some((EndedBy::Spawn | EndedBy::Policy, _)));
        let (exit_code, signal) = match leaving.exit {
            _ if not_started => (None, None),
            Exit::Code(code) => (Some(code), None),
            Exit::Signal(signal) => (None, Some(signal)),
        };
        let (ended_by, reason) = self.ended_by.unzip();
        RunResult {
            key: self.key,
            pid: self.pid.filter(|_| !not_started),
            exit_code,
            signal,
            ended_by,
            reason: reason.or(collected.note),
            started,
            finished: leaving.at.in_boot(boot_id),
            stdout: collected.stdout,
            stderr: collected.stderr,
            result: collected.result,
            cpu_user: collected.usage.cpu_user,
            cpu_system: collected.usage.cpu_system,
            peak_memory: collected.usage.peak_memory,
        }
    }

    fn kill(&mut self, now: Moment) -> Effect {
        // Again and again: a process in uninterruptible sleep, or one that escaped by forking, may be left.
        self.kill_us = Some(now.boottime_us + KILL_AGAIN_US);
        self.fence_us = None;
        self.killed = true;
        if !self.executing {
            self.abandon_us.get_or_insert(now.boottime_us + KILL_PATIENCE_US);
        }
        Effect::Kill(self.key, Force::Kill)
    }

    fn give_up_us(&self) -> Option<i64> {
        let at = self.forked?.boottime_us.saturating_add(self.start_limit_us);
        (!self.executing && !self.gave_up).then_some(at)
    }

    fn limit_us(&self) -> Option<i64> {
        let limit_us = micros(self.max_runtime?).saturating_add(self.rested_us);
        self.forked.filter(|_| self.paused.is_none()).map(|at| at.boottime_us.saturating_add(limit_us))
    }

    fn collect_when_ready(&mut self) -> Option<Effect> {
        let leaving = self.leaving.as_mut().filter(|leaving| leaving.rest == Rest::Gone && self.closed)?;
        leaving.until_us.take().map(|_| Effect::Collect(self.key))
    }
}

impl RunResult {
    /// Of a run that never had a process.
    pub(crate) fn not_started(
        key: RunKey,
        now: Moment,
        ended_by: EndedBy,
        reason: String,
        boot_id: &str,
    ) -> Self {
        Self {
            key,
            pid: None,
            exit_code: None,
            signal: None,
            ended_by: Some(ended_by),
            reason: Some(reason),
            started: None,
            finished: now.in_boot(boot_id),
            stdout: String::new(),
            stderr: String::new(),
            result: None,
            cpu_user: 0.0,
            cpu_system: 0.0,
            peak_memory: 0,
        }
    }

    /// The same outcome with little output, where there is no room for more.
    pub(in crate::keeper) fn shortened(mut self, why: &str) -> Self {
        for text in [&mut self.stdout, &mut self.stderr] {
            if text.len() > SHORT_OUTPUT {
                *text = output::shortened(text, SHORT_OUTPUT);
            }
        }
        if self.result.as_ref().is_some_and(|result| result.get().len() > SHORT_OUTPUT) {
            self.result = None;
            self.reason.get_or_insert_with(|| format!("result dropped: {why}"));
        }
        self
    }
}

/// Seconds as microseconds; what is no length of time counts as nothing.
fn micros(seconds: f64) -> i64 {
    // A float's cast saturates, and NaN becomes 0.
    (seconds * 1e6).max(0.0) as i64
}
