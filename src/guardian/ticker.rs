//! Calls `tick()` when the database said that there will be something to do, and `maintain()` now and then.

use std::time::Duration;

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{Input, backoff::Backoff, moment::Boot, told};
use crate::{db::Pool, error::Error};

/// Guardians that were given the same time do not all come at once.
const SPREAD: Duration = Duration::from_millis(20);
const MAINTAIN_EVERY: Duration = Duration::from_secs(60 * 60);

#[derive(Debug)]
pub(super) enum Command {
    /// Tick now.
    Now,
    /// Tick no later than in this time; also begins to tick at all.
    Within(Duration),
    /// A claim sent then was told to tick in this time, in place of what earlier ones were told: when others claim
    /// before the tick is due, it is left to them.
    Told(Duration, Boot),
    /// The newest tick that a claim told of, microseconds since 1970.
    Saw(i64),
    /// Not registered: do not tick.
    Rest,
}

#[derive(Debug)]
pub(super) enum TickerEvent {
    /// `asked`: because somebody wanted one at once.
    Ticked {
        asked: bool,
    },
    Failed(Error),
}

#[derive(Debug)]
pub(super) struct TickerHandle {
    commands: mpsc::UnboundedSender<Command>,
}

impl TickerHandle {
    pub(super) fn send(&self, command: Command) {
        let _ = self.commands.send(command);
    }
}

#[derive(Debug)]
pub(super) struct Ticker {
    pool: Pool,
    inputs: mpsc::UnboundedSender<Input>,
    commands: mpsc::UnboundedReceiver<Command>,
    next: Option<Instant>,
    asked: bool,
    /// When the last tick was answered: an older claim knows nothing of it.
    answered: Boot,
    seen_tick_us: Option<i64>,
    maintain_at: Instant,
    backoff: Backoff,
}

impl Ticker {
    pub(super) fn new(pool: Pool, inputs: mpsc::UnboundedSender<Input>) -> (Self, TickerHandle) {
        let (sender, commands) = mpsc::unbounded_channel();
        // Not all guardians of a fleet that was started at once.
        let maintain_at = Instant::now() + MAINTAIN_EVERY.mul_f64(fastrand::f64());
        let ticker = Self {
            pool,
            inputs,
            commands,
            next: None,
            asked: false,
            answered: Boot::default(),
            seen_tick_us: None,
            maintain_at,
            backoff: Backoff::default(),
        };
        (ticker, TickerHandle { commands: sender })
    }

    pub(super) async fn run(mut self) {
        loop {
            let next = self.next.unwrap_or_else(|| Instant::now() + MAINTAIN_EVERY);
            tokio::select! {
                Some(command) = self.commands.recv() => self.obey(command),
                () = sleep_until(next) => if self.next.is_some() { self.tick().await },
            }
        }
    }

    fn obey(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Now => {
                self.next = Some(now);
                self.asked = true;
            }
            Command::Told(wait, sent) if !self.asked && sent >= self.answered => {
                self.next = Some(spread(now + wait))
            }
            Command::Within(wait) | Command::Told(wait, _) => {
                let at = spread(now + wait);
                self.next = Some(self.next.map_or(at, |next| next.min(at)));
            }
            Command::Saw(at_us) => self.seen_tick_us = self.seen_tick_us.max(Some(at_us)),
            // What registers next may be another installation.
            Command::Rest => (self.next, self.seen_tick_us) = (None, None),
        }
    }

    async fn tick(&mut self) {
        match self.try_tick().await {
            Ok(next_in) => {
                self.backoff.reset();
                let wait = Duration::try_from_secs_f64(next_in).unwrap_or(Duration::ZERO);
                self.next = Some(spread(Instant::now() + wait));
                self.answered = Boot::now();
                let asked = std::mem::take(&mut self.asked);
                self.tell(TickerEvent::Ticked { asked });
            }
            Err(err) => {
                self.next = Some(Instant::now() + self.backoff.next());
                self.tell(TickerEvent::Failed(err));
            }
        }
    }

    async fn try_tick(&mut self) -> Result<f64, Error> {
        let session = self.pool.get().await?;
        let ticked = session.api().tick(self.seen_tick_us).await;
        if ticked.is_err() {
            session.discard();
            return ticked;
        }
        if self.maintain_at <= Instant::now() {
            self.maintain_at = Instant::now() + MAINTAIN_EVERY;
            // Another one may be at it, or a report holds what it would drop: there is always a next time.
            if let Err(err) = session.api().maintain().await {
                tracing::debug!(error = %told(&err), "maintain failed");
            }
        }
        ticked
    }

    fn tell(&self, event: TickerEvent) {
        let _ = self.inputs.send(Input::Ticker(event));
    }
}

fn spread(at: Instant) -> Instant {
    at + SPREAD.mul_f64(fastrand::f64())
}
