//! When to claim, and whether a run may start on what the last claim said. No I/O.

use std::time::Duration;

use super::moment::Boot;
use crate::db::messages::Settings;

/// Slots that free one after the other are offered together, at the latest after this. A claim of fifty costs the
/// database little more than one of ten.
const GATHER: Duration = Duration::from_millis(25);
/// The successor of a run that has ended becomes claimable with the report of that end. It is claimed
/// this much later, ahead of its time, even when it is due before the next heartbeat.
const FOLLOW_UP: Duration = Duration::from_millis(250);
/// A wake-up later than this means that the machine slept: what it knows is old.
const OVERSLEPT: Duration = Duration::from_secs(1);

/// The rhythm of claims and what follows from it.
#[derive(Debug)]
pub(super) struct Pace {
    heartbeat: Duration,
    lease_timeout: Duration,
    claim_ahead: Duration,
    /// When the claim was sent whose answer is awaited.
    in_flight: Option<Boot>,
    /// When the last claim was sent that was answered: it confirmed all that is held.
    confirmed: Option<Boot>,
    /// Nothing starts on a claim sent before this.
    distrust_before: Boot,
    next_at: Boot,
    wanted: bool,
    /// The last claim left no slot free, so the database sends no wake-ups.
    full: bool,
    freed_at: Option<Boot>,
    held_back_until: Boot,
}

impl Pace {
    pub(super) fn new(settings: &Settings, now: Boot) -> Self {
        let seconds = |s: f64| Duration::try_from_secs_f64(s).unwrap_or(Duration::ZERO);
        Self {
            heartbeat: seconds(settings.heartbeat),
            lease_timeout: seconds(settings.lease_timeout),
            claim_ahead: seconds(settings.claim_ahead),
            in_flight: None,
            confirmed: None,
            distrust_before: Boot(0),
            next_at: now,
            wanted: true,
            full: true,
            freed_at: None,
            held_back_until: Boot(0),
        }
    }

    pub(super) fn claim_ahead(&self) -> Duration {
        self.claim_ahead
    }

    /// A claim is wanted as soon as the one in flight is answered.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    /// The database has heard of the end of runs.
    pub(super) fn reported(&mut self, now: Boot) {
        self.next_at = self.next_at.min(now + FOLLOW_UP);
    }

    pub(super) fn slot_freed(&mut self, now: Boot) {
        self.freed_at.get_or_insert(now);
    }

    /// When to send a claim, given the slots; none while one is in flight.
    pub(super) fn claim_at(&self, free: usize, slots: usize, now: Boot) -> Option<Boot> {
        if self.in_flight.is_some() {
            return None;
        }
        if self.wanted {
            return Some(now.max(self.held_back_until));
        }
        match self.freed_at {
            Some(freed) if self.full && free > 0 => {
                let at = if free * 2 >= slots { now } else { freed + GATHER };
                Some(at.max(self.held_back_until).min(self.next_at))
            }
            _ => Some(self.next_at),
        }
    }

    /// How soon a slot that becomes free now is offered; none when the database knows of free ones.
    pub(super) fn offers_within(&self) -> Option<Duration> {
        self.full.then_some(GATHER)
    }

    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    pub(super) fn sent(&mut self, now: Boot) {
        self.in_flight = Some(now);
        self.wanted = false;
        self.freed_at = None;
    }

    /// A claim sent then was answered; `left` slots stay free as far as the database knows.
    pub(super) fn answered(&mut self, sent: Boot, received: Boot, next_in: f64, left: usize) {
        self.in_flight = None;
        self.confirmed = Some(sent);
        self.full = left == 0;
        let next_in = Duration::try_from_secs_f64(next_in).unwrap_or(Duration::ZERO);
        self.next_at = received + next_in.min(self.heartbeat);
    }

    /// The claim failed, and another one makes sense no earlier than after this wait.
    pub(super) fn failed(&mut self, now: Boot, wait: Duration) {
        self.in_flight = None;
        self.wanted = true;
        self.held_back_until = now + wait;
    }

    /// The alarm for `set_for` rang. Whether the machine slept in between.
    pub(super) fn woke_up(&mut self, set_for: Boot, now: Boot) -> bool {
        let overslept = now.since(set_for) > OVERSLEPT;
        if overslept {
            self.distrust_before = now;
            self.wanted = true;
        }
        overslept
    }

    /// Whether a run may start now. `connected` says whether the database is in reach.
    pub(super) fn may_start(&self, fenced: bool, connected: bool, now: Boot) -> bool {
        let Some(confirmed) = self.confirmed else { return false };
        // A withdrawal reaches a host that is cut off no more, so what was claimed is good for so long only.
        let good_for = self.claim_ahead.max(self.heartbeat).min(self.lease_timeout);
        confirmed >= self.distrust_before && now < confirmed + good_for && (connected || !fenced)
    }

    /// How long ago the last claim that was answered was sent.
    pub(super) fn confirmed_before(&self, now: Boot) -> Option<Duration> {
        self.confirmed.map(|confirmed| now.since(confirmed))
    }

    /// When the lease ends at the earliest: by it a fenced run must be gone.
    pub(super) fn deadline(&self) -> Option<Boot> {
        self.confirmed.map(|confirmed| confirmed + self.lease_timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(n: i64) -> Boot {
        Boot(n * 1_000_000)
    }

    fn pace() -> Pace {
        Pace::new(
            &Settings { heartbeat: 5.0, lease_timeout: 30.0, claim_ahead: 10.0, now_us: 0 },
            second(100),
        )
    }

    #[test]
    fn what_was_claimed_is_good_for_claim_ahead_after_the_claim_was_sent() {
        let mut pace = pace();
        assert!(!pace.may_start(false, true, second(100)));
        pace.sent(second(100));
        pace.answered(second(100), second(103), 5.0, 1);
        assert!(pace.may_start(false, false, second(109)));
        assert!(!pace.may_start(false, false, second(110)));
        assert!(!pace.may_start(true, false, second(101)), "fenced, and the database is away");
        assert!(pace.may_start(true, true, second(101)));
        assert_eq!(pace.deadline(), Some(second(130)));
    }

    #[test]
    fn after_a_sleep_nothing_starts_before_a_fresh_answer() {
        let mut pace = pace();
        pace.sent(second(100));
        pace.answered(second(100), second(100), 5.0, 1);
        assert!(!pace.woke_up(second(102), second(102)));
        assert!(pace.woke_up(second(102), second(104)));
        assert!(!pace.may_start(false, true, second(104)));
        assert_eq!(pace.claim_at(1, 1, second(104)), Some(second(104)));
        pace.sent(second(104));
        pace.answered(second(104), second(104), 5.0, 1);
        assert!(pace.may_start(false, true, second(104)));
    }

    #[test]
    fn freed_slots_are_offered_together() {
        let mut pace = pace();
        pace.sent(second(100));
        assert_eq!(pace.claim_at(8, 8, second(100)), None, "one claim at a time");
        pace.answered(second(100), second(100), 5.0, 0);
        assert_eq!(pace.claim_at(0, 8, second(101)), Some(second(105)));
        pace.slot_freed(second(101));
        assert_eq!(pace.claim_at(1, 8, second(101)), Some(second(101) + GATHER));
        assert_eq!(pace.claim_at(4, 8, second(101)), Some(second(101)), "half of them are free");
        pace.sent(second(101));
        pace.answered(second(101), second(101), 5.0, 3);
        pace.slot_freed(second(102));
        assert_eq!(pace.claim_at(4, 8, second(102)), Some(second(106)), "a wake-up would come");
    }
}
