//! Tells the database what happened: starts, ends and releases, each in batches, each until it is answered.

mod handle;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use self::handle::finishes;
pub(super) use self::handle::{Command, Lent, Release, ReporterEvent, ReporterHandle};
use super::{
    Input,
    backoff::Backoff,
    clock::Clock,
    delivery::{self, Delivered},
    ends::Ends,
    outbox::Queue,
    told,
};
use crate::{
    db::{
        Pool,
        messages::{Answer, Start},
        pool::PooledSession,
    },
    error::{Error, ErrorKind},
    keeper::protocol::Started,
    observe::event,
    sqlstate,
};

/// Ends that come within this time travel together.
const LINGER: Duration = Duration::from_millis(10);
/// The same while there are many, of which nobody waits for each: a larger call costs each of them less.
const LINGER_BUSY: Duration = Duration::from_millis(30);
/// Ends in a call that are many.
const MANY: usize = 16;
/// A run that ends sooner is not reported as started: its end tells both.
const SHORT_RUN: Duration = Duration::from_millis(50);
/// Results a call.
const BATCH: usize = 500;
/// Bytes a call.
const BATCH_BYTES: usize = 8 << 20;

#[derive(Debug)]
pub(super) struct Reporter {
    pool: Pool,
    clock: Clock,
    boot_id: String,
    inputs: mpsc::UnboundedSender<Input>,
    commands: mpsc::UnboundedReceiver<Command>,
    guardian: Option<i64>,
    releases: Queue<Release>,
    ends: Ends,
    starts: Queue<(Instant, Started)>,
    /// Earliest moment of the next call with ends.
    ends_at: Instant,
    blocked_until: Instant,
    backoff: Backoff,
    flushing: bool,
}

impl Reporter {
    pub(super) fn new(
        pool: Pool,
        clock: Clock,
        boot_id: String,
        inputs: mpsc::UnboundedSender<Input>,
    ) -> (Self, ReporterHandle) {
        let (sender, commands) = mpsc::unbounded_channel();
        let ends = Ends::default();
        let handle = ReporterHandle {
            commands: sender,
            ends: ends.clone(),
            clock: clock.clone(),
            boot_id: boot_id.clone(),
        };
        let reporter = Self {
            pool,
            clock,
            boot_id,
            inputs,
            commands,
            guardian: None,
            releases: Queue::default(),
            ends,
            starts: Queue::default(),
            ends_at: Instant::now(),
            blocked_until: Instant::now(),
            backoff: Backoff::default(),
            flushing: false,
        };
        (reporter, handle)
    }

    pub(super) async fn run(mut self) {
        let mut commands = Vec::new();
        loop {
            let next = self.next_at();
            tokio::select! {
                _ = self.commands.recv_many(&mut commands, BATCH) => {
                    commands.drain(..).for_each(|command| self.obey(command));
                }
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
            if self.next_at().is_some_and(|at| at <= Instant::now()) {
                self.round().await;
            }
            self.tell_when_flushed();
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Guardian(guardian) => {
                // What was claimed before is not this one's to give back.
                self.releases.clear();
                if guardian.is_none() {
                    // The keeper's list comes before a registration, and tells what runs.
                    self.starts.clear();
                }
                self.guardian = guardian;
            }
            Command::Started(started) => self.starts.push((Instant::now() + SHORT_RUN, started)),
            Command::Ended(claim_no) => {
                self.starts.retain(|(_, started)| started.key.claim_no != claim_no);
            }
            Command::Release(release) => self.releases.push(release),
            Command::Retry => {
                self.backoff.reset();
                self.blocked_until = Instant::now();
            }
            Command::Flush => self.flushing = true,
            Command::Look => {}
        }
    }

    /// When there is something to call for; none: when the next command says so.
    fn next_at(&self) -> Option<Instant> {
        self.guardian?;
        let now = Instant::now();
        let releases = self.releases.first().map(|_| now);
        let (ends, busy_ends) = self.next_ends(now);
        let starts = self.starts.first().map(|(at, _)| if self.flushing { now } else { *at });
        let busy = [self.releases.busy_until(), busy_ends, self.starts.busy_until()];
        let first = [releases, ends, starts].into_iter().chain(busy).flatten().min()?;
        Some(first.max(self.blocked_until))
    }

    /// When ends are to be sent, and when those set aside are looked at again.
    fn next_ends(&self, now: Instant) -> (Option<Instant>, Option<Instant>) {
        let ends = self.ends.lock();
        let at = if ends.queue.ready() >= BATCH { now } else { ends.free_at(self.ends_at) };
        (ends.queue.first().map(|_| at), ends.queue.busy_until())
    }

    /// One call of each kind that has something to say.
    async fn round(&mut self) {
        let (Some(guardian), now) = (self.guardian, Instant::now()) else { return };
        self.releases.wake(now);
        self.ends.lock().queue.wake(now);
        self.starts.wake(now);
        let mut outcome = self.release(guardian).await;
        if outcome.is_ok() && self.next_ends(now).0.is_some_and(|at| at <= now) {
            outcome = self.finish(guardian).await;
        }
        if outcome.is_ok() {
            outcome = self.start(guardian).await;
        }
        match outcome {
            Ok(()) => self.backoff.reset(),
            Err(err) => self.failed(guardian, err),
        }
    }

    fn failed(&mut self, guardian: i64, err: Error) {
        if err.code() == Some(sqlstate::GUARDIAN_UNKNOWN) {
            self.guardian = None;
            self.tell(ReporterEvent::Superseded(guardian));
            return;
        }
        self.blocked_until = Instant::now() + self.backoff.next();
        if err.kind() == ErrorKind::Unreachable {
            self.pool.drop_idle();
            self.tell(ReporterEvent::Away(err));
        } else {
            tracing::warn!(event = event::REPORT_FAILED, error = %told(&err), "a report was refused and is sent again");
        }
    }

    async fn release(&mut self, guardian: i64) -> Result<(), Error> {
        while let Some(reason) = self.releases.first().map(|first| first.reason.clone()) {
            let batch = self.releases.take_while(|next| next.reason == reason);
            let claims: Vec<_> = batch.iter().map(|one| (one.run_id, one.claim_no)).collect();
            let call =
                async |session: &PooledSession| session.api().release_job(guardian, &claims, &reason).await;
            match self.call(call).await {
                Ok(answers) => {
                    let busy = busy_claims(&answers);
                    let again = batch.into_iter().filter(|one| busy.contains(&one.claim_no));
                    self.releases.set_aside(again, Instant::now());
                    self.tell(ReporterEvent::Released(settled(answers)));
                }
                Err(err) => {
                    self.releases.put_back(batch);
                    return Err(err);
                }
            }
        }
        Ok(())
    }

    async fn start(&mut self, guardian: i64) -> Result<(), Error> {
        let (now, flushing) = (Instant::now(), self.flushing);
        let batch = self.starts.take_while(|(at, _)| flushing || *at <= now);
        if batch.is_empty() {
            return Ok(());
        }
        let starts: Vec<Start> =
            batch.iter().filter_map(|(_, s)| delivery::start(s, &self.clock, &self.boot_id)).collect();
        if starts.len() < batch.len() {
            self.starts.set_aside(batch, Instant::now());
            return Ok(());
        }
        let call = async |session: &PooledSession| session.api().start_job(guardian, &starts).await;
        match self.call(call).await {
            Ok(answers) => {
                let busy = busy_claims(&answers);
                let again = batch.into_iter().filter(|(_, s)| busy.contains(&s.key.claim_no));
                self.starts.set_aside(again, Instant::now());
                Ok(())
            }
            Err(err) => {
                self.starts.put_back(batch);
                Err(err)
            }
        }
    }

    async fn finish(&mut self, guardian: i64) -> Result<(), Error> {
        let batch = self.ends.lock().take(BATCH, BATCH_BYTES);
        if batch.is_empty() {
            return Ok(());
        }
        // Counted from the sending, so that a steady stream is not slowed by the time of the calls.
        self.ends_at = Instant::now() + if batch.len() < MANY { LINGER } else { LINGER_BUSY };
        let ends = finishes(&batch, &self.clock, &self.boot_id);
        if ends.len() < batch.len() {
            // The database's clock is not known before the first claim.
            self.ends.lock().queue.put_back(batch);
            return Ok(());
        }
        let call = async |session: &PooledSession| delivery::deliver(session.api(), guardian, ends).await;
        match self.call(call).await {
            Ok(Delivered { answers, unstorable }) => {
                let settled = settled(answers);
                self.ends.lock().reported(batch, &settled, &unstorable);
                self.tell(ReporterEvent::Finished(settled));
                Ok(())
            }
            Err(err) => {
                let mut ends = self.ends.lock();
                if delivery::took_too_long(&err) {
                    ends.was_too_much(batch.len());
                }
                // Part of it may have been taken: the repeated rest is answered `already`.
                ends.queue.put_back(batch);
                drop(ends);
                Err(err)
            }
        }
    }

    /// A session that failed is not used again: it may be on a server that has become a standby.
    async fn call<T>(&self, call: impl AsyncFnOnce(&PooledSession) -> Result<T, Error>) -> Result<T, Error> {
        let session = self.pool.get().await?;
        let outcome = call(&session).await;
        if outcome.as_ref().is_err_and(|err| err.kind() == ErrorKind::Unreachable) {
            session.discard();
        }
        outcome
    }

    fn tell_when_flushed(&mut self) {
        let nothing_left = self.releases.is_empty() && self.ends.lock().is_empty() && self.starts.is_empty();
        if self.flushing && nothing_left {
            self.flushing = false;
            self.tell(ReporterEvent::Flushed);
        }
    }

    fn tell(&self, event: ReporterEvent) {
        let _ = self.inputs.send(Input::Reporter(event));
    }
}

fn busy_claims(answers: &[(i64, Answer)]) -> Vec<i64> {
    answers.iter().filter(|(_, answer)| *answer == Answer::Busy).map(|(no, _)| *no).collect()
}

fn settled(answers: Vec<(i64, Answer)>) -> Vec<(i64, Answer)> {
    answers.into_iter().filter(|(_, answer)| *answer != Answer::Busy).collect()
}
