//! The database's clock, as this host can know it: an offset to `CLOCK_BOOTTIME` with bounds.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use nix::time::ClockId;

use super::{
    moment::{Boot, DbTime},
    samples::{Sample, Samples},
};
use crate::keeper::{clock::read, protocol::Time};

/// The clock, shared by the guardian's tasks. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Clock(Arc<Mutex<Samples>>);

impl Clock {
    /// Learns from a round trip whose answer carried the database's time.
    pub(super) fn sample(&self, sent: Boot, received: Boot, now_us: i64) {
        self.samples().add(Sample::new(sent, received, now_us));
    }

    /// Forgets everything: another server may answer from now on.
    pub(super) fn reset(&self) {
        self.samples().clear();
    }

    /// The moment on this host from which on the database's clock surely shows `time`.
    pub(super) fn surely(&self, time: DbTime, now: Boot) -> Option<Boot> {
        self.samples().bounds(now).map(|b| Boot(time.0.saturating_sub(b.low)))
    }

    /// The moment on this host until which the database's clock surely does not show `time`.
    pub(super) fn not_before(&self, time: DbTime, now: Boot) -> Option<Boot> {
        let samples = self.samples();
        let until = |seen: Boot| samples.bounds(seen).map(|b| Boot(time.0.saturating_sub(b.high)));
        // What is known now will be less certain then.
        until(until(now)?.max(now))
    }

    /// The latest time that the database's clock may show now.
    pub(super) fn at_most(&self, now: Boot) -> Option<DbTime> {
        self.samples().bounds(now).map(|b| DbTime(now.0 + b.high))
    }

    /// The latest database time that a moment can have had which a keeper noted: what started when it was surely due
    /// is never told to have started before. For a moment of an earlier boot, the likely one.
    pub(super) fn timestamp(&self, time: &Time, boot_id: &str) -> Option<DateTime<Utc>> {
        if time.boot_id == boot_id {
            let bounds = self.samples().bounds(Boot(time.boottime_us))?;
            return Some(DbTime(time.boottime_us + bounds.high).timestamp());
        }
        Some(DbTime(time.realtime_us - self.host_ahead(self.likely()?)).timestamp())
    }

    /// Seconds from a time on the database's clock to a moment of this boot.
    pub(super) fn seconds_after(&self, time: DbTime, moment: Boot) -> Option<f64> {
        self.likely().map(|offset| (moment.0 + offset - time.0) as f64 / 1e6)
    }

    /// The host's wall clock less the database's, in milliseconds.
    pub(super) fn offset_ms(&self) -> Option<f64> {
        Some(self.host_ahead(self.likely()?) as f64 / 1e3)
    }

    fn likely(&self) -> Option<i64> {
        self.samples().bounds(Boot::now()).map(|b| b.low + (b.high - b.low) / 2)
    }

    fn host_ahead(&self, offset: i64) -> i64 {
        read(ClockId::CLOCK_REALTIME) - (Boot::now().0 + offset)
    }

    fn samples(&self) -> std::sync::MutexGuard<'_, Samples> {
        // Nothing in here can leave the samples half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn second(n: i64) -> Boot {
        Boot(n * 1_000_000)
    }

    #[test]
    fn a_moment_is_never_taken_too_early() {
        let clock = Clock::default();
        // Sent at 1.000 s, received at 1.010 s; in between the database read 501.004 s.
        clock.sample(second(1), Boot(1_010_000), 501_004_000);
        let due = DbTime(502_000_000);
        let start = clock.surely(due, Boot(1_010_000)).unwrap();
        // Had the clock been read at the very end, 502.000 s is reached at 2.006 s.
        assert_eq!(start, Boot(2_006_000));
        assert_eq!(clock.at_most(Boot(1_010_000)).unwrap(), DbTime(501_014_001));
    }

    #[test]
    fn a_moment_is_never_taken_too_late() {
        let clock = Clock::default();
        let time = DbTime(3_600_000_000);
        assert_eq!(clock.not_before(time, second(0)), None);
        clock.sample(Boot(0), Boot(400), 1_000);
        let until = clock.not_before(time, second(0)).unwrap();
        assert!(until < Boot(3_600_000_000 - 1_000), "{until:?}");
        assert!(clock.at_most(until).unwrap() <= time, "an hour of drift is allowed for");
        assert!(clock.at_most(Boot(until.0 + 2_000)).unwrap() > time, "and no more");
        assert!(clock.not_before(time, second(4_000)).unwrap() < second(3_600), "what has passed has passed");
    }

    #[test]
    fn the_quickest_round_trip_decides() {
        let clock = Clock::default();
        clock.sample(second(1), Boot(1_200_000), 501_100_000);
        clock.sample(second(2), Boot(2_000_400), 502_000_200);
        clock.sample(second(3), Boot(3_200_000), 503_100_000);
        let start = clock.surely(DbTime(504_000_000), Boot(3_200_000)).unwrap();
        assert!((start.0 - 4_000_200).abs() < 200, "{start:?}");
    }

    #[test]
    fn what_started_when_it_was_due_is_not_told_to_have_started_before() {
        let clock = Clock::default();
        let now = Boot::now();
        let before = now - Duration::from_secs(100);
        clock.sample(before, before, 401_000_000);
        let due = DbTime(402_000_000);
        let started = clock.surely(due, before).unwrap();
        // What is known grows old, and what comes after it says: hardly more, perhaps much less.
        clock.sample(now - Duration::from_micros(8_100), now, 500_992_000);
        let time = Time { boottime_us: started.0, realtime_us: 0, boot_id: "this".into() };
        let told = clock.timestamp(&time, "this").unwrap();
        assert!(told >= due.timestamp(), "{told}");
    }

    #[test]
    fn a_clock_that_was_set_is_believed() {
        let clock = Clock::default();
        clock.sample(second(1), Boot(1_000_400), 501_000_200);
        clock.sample(second(2), Boot(2_000_400), 602_000_200);
        let start = clock.surely(DbTime(603_000_000), second(2)).unwrap();
        assert_eq!(start, Boot(3_000_200));
    }
}
