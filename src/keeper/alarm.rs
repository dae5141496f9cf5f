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

/// A timer that rings once.
#[derive(Debug)]
pub(super) struct Alarm {
    timer: TimerFd,
    set_us: Option<i64>,
}

impl Alarm {
    pub(super) fn new() -> Result<Self, Errno> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        Ok(Self { timer: TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?, set_us: None })
    }

    /// It has rung.
    pub(super) fn rang(&mut self) {
        // Not waiting again resets it; what is due is done by whoever set it.
        let _ = self.timer.wait();
        self.set_us = None;
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
