//! What round trips say of the offset between two clocks, and of the rate at which it changes.
//!
//! "Never early" rests on this: between two round trips the offset changes by no more than [`DRIFT`], and the rate of
//! the next seconds is that of the last minutes but for [`WANDER`]. Free-running and disciplined quartz stays far
//! within both: it is off by less than 50 ppm, a machine that gets warmer by ten degrees changes it by 1 or 2 ppm, and
//! a settled NTP client by less than that. One that corrects what it has found wrong does not: ntpd slews at up to
//! 500 ppm, chrony faster. Then a start can be early by as much as was corrected since the last round trip, as it can
//! when a clock is set; the next round trip contradicts what was known, and all of that is forgotten. Where guardian
//! and server share a machine both clocks are slewed together.

use std::collections::VecDeque;

use super::moment::Boot;

/// Round trips that are looked at; the best of them decides.
const RECENT: usize = 16;
/// How far apart two clocks may drift, in billionths, while it has not been measured more exactly.
const DRIFT: i64 = 50_000;
/// How much the rate of the next seconds may differ from the measured one of the last minutes, in billionths.
const WANDER: i64 = 10_000;
/// The quickest round trip of each of the last so many stretches of time is kept: between two of them lies a rate.
const KEPT: usize = 20;
/// Such a stretch, in microseconds.
const STRETCH: i64 = 30_000_000;
const BILLION: i64 = 1_000_000_000;

/// One round trip: the server read its clock at some moment between sending and receiving.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    low: i64,
    high: i64,
    at: Boot,
}

/// What is known of the offset `database - boot`: it lies within these bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) low: i64,
    pub(super) high: i64,
}

/// Bounds of the rate at which the offset changes, in billionths.
#[derive(Debug, Clone, Copy)]
struct Rate {
    low: i64,
    high: i64,
}

#[derive(Debug, Default)]
pub(super) struct Samples {
    recent: VecDeque<Sample>,
    kept: VecDeque<Sample>,
    rate: Rate,
}

impl Default for Rate {
    fn default() -> Self {
        Self { low: -DRIFT, high: DRIFT }
    }
}

impl Sample {
    pub(super) fn new(sent: Boot, received: Boot, now_us: i64) -> Self {
        // Of the offset when the answer came: read early, it may have grown until then.
        let grown = ceil_billionth(DRIFT.saturating_mul(received.0 - sent.0));
        Self { low: now_us - received.0, high: now_us - sent.0 + grown, at: received }
    }

    fn width(&self) -> i64 {
        self.high - self.low
    }

    /// What it says of another moment, before or after it.
    fn bounds(&self, moment: Boot, rate: Rate) -> Bounds {
        let time = moment.0 - self.at.0;
        let (one, other) = (rate.low.saturating_mul(time), rate.high.saturating_mul(time));
        Bounds {
            low: self.low + one.min(other).div_euclid(BILLION),
            high: self.high + ceil_billionth(one.max(other)),
        }
    }

    /// The mean rate between two, as far as they tell.
    fn rate_to(&self, later: &Self) -> Rate {
        let time = later.at.0 - self.at.0;
        if time <= 0 {
            return Rate::default();
        }
        let billionths = |change: i64| change.saturating_mul(BILLION).div_euclid(time);
        Rate { low: billionths(later.low - self.high), high: billionths(later.high - self.low) + 1 }
    }
}

impl Samples {
    pub(super) fn add(&mut self, sample: Sample) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(sample);
        // A clock that was set makes older samples contradict the newest; the newest is right. Nor does what they say
        // of the rate hold: a clock that is being corrected runs at another one.
        if self.bounds(sample.at).is_none() {
            self.forget_rate();
        }
        while self.recent.len() > 1 && self.bounds(sample.at).is_none() {
            self.recent.pop_front();
        }
        self.keep(sample);
        self.rate = self.measured();
        if self.rate.low > self.rate.high {
            self.forget_rate();
            self.keep(sample);
        }
    }

    fn forget_rate(&mut self) {
        self.kept.clear();
        self.rate = Rate::default();
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The bounds of the offset at a moment; none before the first sample. Of a moment before all that is remembered,
    /// those of the oldest: what is unknown for hours would be unknown by a second.
    pub(super) fn bounds(&self, moment: Boot) -> Option<Bounds> {
        let known = || self.recent.iter().chain(&self.kept);
        let moment = moment.max(known().map(|sample| sample.at).min()?);
        let each = known().map(|sample| sample.bounds(moment, self.rate));
        let all = each.reduce(|a, b| Bounds { low: a.low.max(b.low), high: a.high.min(b.high) });
        all.filter(|b| b.low <= b.high)
    }

    fn keep(&mut self, sample: Sample) {
        let stretch = |sample: &Sample| sample.at.0.div_euclid(STRETCH);
        match self.kept.back_mut() {
            Some(last) if stretch(last) == stretch(&sample) => {
                if sample.width() < last.width() {
                    *last = sample;
                }
            }
            _ => self.kept.push_back(sample),
        }
        if self.kept.len() > KEPT {
            self.kept.pop_front();
        }
    }

    /// The rate for the next seconds: what each two of those kept allow, and never more than two clocks may drift.
    fn measured(&self) -> Rate {
        let pairs = self
            .kept
            .iter()
            .enumerate()
            .flat_map(|(n, old)| self.kept.iter().skip(n + 1).map(|later| old.rate_to(later)));
        pairs.fold(Rate::default(), |known, rate| Rate {
            low: known.low.max(rate.low - WANDER),
            high: known.high.min(rate.high + WANDER),
        })
    }
}

fn ceil_billionth(value: i64) -> i64 {
    -(-value).div_euclid(BILLION)
}

#[cfg(test)]
mod tests;
