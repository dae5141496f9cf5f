//! The keeper's alarm: one timer on a clock that nobody sets.

use std::{
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        time::TimeSpec,
        timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    },
};

/// What is due waits no longer than this for others that wait.
const PATIENCE_US: i64 = 100_000;

/// A timer that rings once.
#[derive(Debug)]
pub(super) struct Alarm {
    timer: TimerFd,
    set_us: Option<i64>,
    /// Since when something is due and lets others go first.
    polite_since_us: Option<i64>,
}

impl Alarm {
    pub(super) fn new() -> Result<Self, Errno> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        Ok(Self { timer: TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?, set_us: None, polite_since_us: None })
    }

    /// It has rung.
    pub(super) fn rang(&mut self) {
        // Not waiting again resets it; what is due is done by whoever set it.
        let _ = self.timer.wait();
        self.set_us = None;
    }

    /// Whether what is due at `due_us` is to be done now; `others` says whether something else waits, which goes first.
    pub(super) fn is_time(&mut self, due_us: Option<i64>, now_us: i64, others: bool) -> bool {
        if due_us.is_none_or(|due_us| now_us < due_us) {
            return false;
        }
        let since_us = *self.polite_since_us.get_or_insert(now_us);
        let is_time = !others || now_us >= since_us + PATIENCE_US;
        self.polite_since_us.take_if(|_| is_time);
        is_time
    }

    /// To ring at this time of the boot clock, or not at all.
    pub(super) fn set(&mut self, next_us: Option<i64>) -> Result<(), Errno> {
        if next_us == self.set_us {
            return Ok(());
        }
        self.set_us = next_us;
        match next_us {
            None => self.timer.unset(),
            Some(at_us) => {
                // Zero would disarm it.
                let at = TimeSpec::from_duration(Duration::from_micros(at_us.max(1) as u64));
                self.timer.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)
            }
        }
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_lets_others_go_first_but_not_for_ever() {
        let mut alarm = Alarm::new().unwrap();
        assert!(!alarm.is_time(None, 10, false));
        assert!(!alarm.is_time(Some(11), 10, false));
        assert!(alarm.is_time(Some(11), 11, false));
        assert!(!alarm.is_time(Some(11), 12, true));
        assert!(!alarm.is_time(Some(11), 11 + PATIENCE_US, true));
        assert!(alarm.is_time(Some(11), 12 + PATIENCE_US, true));
        assert!(!alarm.is_time(Some(11), 13 + PATIENCE_US, true), "it has had its turn");
    }
}
