//! Moments on the two clocks of a guardian: its own and the database's.

use std::{
    ops::{Add, Sub},
    time::Duration,
};

use chrono::{DateTime, Utc};
use nix::time::ClockId;

use crate::keeper::clock::read;

/// A moment of `CLOCK_BOOTTIME`, in microseconds. It also counts while the machine sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Boot(pub(super) i64);

/// A moment on the database's clock, in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DbTime(pub(super) i64);

impl Boot {
    pub(super) fn now() -> Self {
        Self(read(ClockId::CLOCK_BOOTTIME))
    }

    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Add<Duration> for Boot {
    type Output = Self;
    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(micros(later)))
    }
}

impl Sub<Duration> for Boot {
    type Output = Self;
    fn sub(self, earlier: Duration) -> Self {
        Self(self.0.saturating_sub(micros(earlier)))
    }
}

impl DbTime {
    pub(super) fn after_seconds(self, seconds: f64) -> Self {
        // `as` saturates, which is right for an overdue run of long ago.
        Self(self.0.saturating_add((seconds * 1e6).round() as i64))
    }

    pub(super) fn timestamp(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).unwrap_or_default()
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
