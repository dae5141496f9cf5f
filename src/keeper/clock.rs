//! The host's clocks. Nothing else in this program reads them for more than waiting.

use nix::time::{ClockId, clock_gettime};

use super::protocol::Time;
use crate::error::{Error, ErrorKind, Result};

/// A moment read once and handed around.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// `CLOCK_BOOTTIME`, microseconds: runs on while the machine sleeps, is never set.
    pub boottime_us: i64,
    /// `CLOCK_REALTIME`, microseconds since 1970: may jump.
    pub realtime_us: i64,
}

impl Moment {
    /// This moment as the protocol tells it.
    pub fn in_boot(self, boot_id: &str) -> Time {
        Time { boottime_us: self.boottime_us, realtime_us: self.realtime_us, boot_id: boot_id.to_owned() }
    }
}

/// The present moment.
pub fn now() -> Moment {
    Moment { boottime_us: read(ClockId::CLOCK_BOOTTIME), realtime_us: read(ClockId::CLOCK_REALTIME) }
}

/// The boot this machine runs in.
pub fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(path)
        .map_err(|err| Error::new(ErrorKind::Config, format!("cannot read {path}")).source(err))?;
    Ok(text.trim().to_owned())
}

/// What a clock shows, in microseconds.
pub(crate) fn read(clock: ClockId) -> i64 {
    let time = clock_gettime(clock).expect("Linux has had these clocks since 2.6.39");
    time.tv_sec() * 1_000_000 + time.tv_nsec() / 1_000
}
