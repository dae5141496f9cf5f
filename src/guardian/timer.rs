//! One alarm at a time, on `CLOCK_BOOTTIME`. A tokio timer is late by a millisecond; this one by 20 µs.

use std::{
    os::fd::{AsFd, AsRawFd, RawFd},
    time::Duration,
};

use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};
use tokio::io::unix::AsyncFd;

use super::moment::Boot;
use crate::error::{Error, ErrorKind, Result};

#[derive(Debug)]
pub(super) struct Timer {
    fd: AsyncFd<Alarm>,
    set_for: Option<Boot>,
}

#[derive(Debug)]
struct Alarm(TimerFd);

impl AsRawFd for Alarm {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Timer {
    #[expect(deprecated, reason = "its successor is unsafe; this descriptor never becomes another one")]
    pub(super) fn new() -> Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags).map_err(fault)?;
        let fd = AsyncFd::new(Alarm(timer))
            .map_err(|err| Error::new(ErrorKind::Failed, "the timer cannot be watched").source(err))?;
        Ok(Self { fd, set_for: None })
    }

    /// Sets the alarm, in place of an earlier one. A moment that has passed rings at once.
    pub(super) fn set(&mut self, at: Boot) -> Result<()> {
        if self.set_for == Some(at) {
            return Ok(());
        }
        // Zero would disarm it.
        let at_least = u64::try_from(at.0).unwrap_or(0).max(1);
        let expiration = Expiration::OneShot(TimeSpec::from_duration(Duration::from_micros(at_least)));
        self.fd.get_ref().0.set(expiration, TimerSetTimeFlags::TFD_TIMER_ABSTIME).map_err(fault)?;
        self.set_for = Some(at);
        Ok(())
    }

    /// The moment that the alarm was set for, once it has passed; whether it rang or something else came first.
    pub(super) fn passed(&mut self, now: Boot) -> Option<Boot> {
        self.set_for.take_if(|at| *at <= now)
    }

    /// Waits until the alarm rings. Cancel safe.
    pub(super) async fn ring(&mut self) -> Result<()> {
        loop {
            let mut ready =
                self.fd.readable().await.map_err(|err| {
                    Error::new(ErrorKind::Failed, "the timer cannot be watched").source(err)
                })?;
            ready.clear_ready();
            // Else it rang for a moment that has been replaced since.
            if self.set_for.is_some_and(|at| at <= Boot::now()) {
                return Ok(());
            }
        }
    }
}

fn fault(errno: nix::Error) -> Error {
    Error::new(ErrorKind::Failed, "the timer does not work").source(errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_rings_at_its_moment_and_not_before() {
        let mut timer = Timer::new().unwrap();
        let at = Boot::now() + Duration::from_millis(5);
        timer.set(Boot::now() + Duration::from_secs(60)).unwrap();
        timer.set(at).unwrap();
        assert_eq!(timer.passed(Boot::now()), None);
        timer.ring().await.unwrap();
        assert!(Boot::now() >= at);
        assert_eq!(timer.passed(Boot::now()), Some(at));
        assert_eq!(timer.passed(Boot::now()), None);
    }

    #[tokio::test]
    async fn that_its_moment_has_passed_is_known_before_it_has_rung() {
        let mut timer = Timer::new().unwrap();
        let at = Boot::now() + Duration::from_secs(60);
        timer.set(at).unwrap();
        assert_eq!(timer.passed(at - Duration::from_secs(1)), None);
        assert_eq!(timer.passed(at + Duration::from_secs(2)), Some(at));
        // And it can be set for it once more.
        timer.set(at).unwrap();
        assert_eq!(timer.passed(at), Some(at));
    }

    #[tokio::test]
    async fn a_moment_that_has_passed_rings_at_once() {
        let mut timer = Timer::new().unwrap();
        let at = Boot::now() - Duration::from_secs(1);
        timer.set(at).unwrap();
        timer.ring().await.unwrap();
        assert_eq!(timer.passed(Boot::now()), Some(at));
    }
}
