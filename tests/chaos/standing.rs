//! Changes of jobs while they run, and how a job stands after each.

use super::records::SECOND;

/// When a job is due: every so many seconds of a minute, from one on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rhythm {
    pub(super) period: i64,
    pub(super) phase: i64,
}

impl Rhythm {
    pub(super) fn expression(self) -> String {
        format!("{}/{} * * * * *", self.phase, self.period)
    }

    /// The occurrences after one moment and before another.
    pub(super) fn between(self, after: i64, before: i64) -> impl Iterator<Item = i64> {
        let (period, phase) = (self.period * SECOND, self.phase * SECOND);
        let next = ((after - phase).div_euclid(period) + 1) * period + phase;
        (0..).map(move |number| next + number * period).take_while(move |at| *at < before)
    }

    pub(super) fn has(self, at: i64) -> bool {
        at.rem_euclid(self.period * SECOND) == self.phase * SECOND
    }
}

/// What is asked of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Schedule(Rhythm),
    Alter(Rhythm),
    Suspend,
    Resume,
    Unschedule,
}

/// A call that changes a job. A definition has the number of its change in the environment of its processes.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) job: &'static str,
    pub(super) number: i64,
    pub(super) what: What,
    pub(super) asked: i64,
    /// When the database said that it is done; none: it may be or not, and nobody knows when.
    pub(super) answered: Option<i64>,
    /// Whether it is in the database in the end.
    pub(super) kept: bool,
}

/// How a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) definition: i64,
    pub(super) rhythm: Rhythm,
    pub(super) suspended: bool,
    pub(super) removed: bool,
}

impl Standing {
    /// After a change; none is before the first, which defines it.
    pub(super) fn after(before: Option<Self>, change: &Change) -> Option<Self> {
        match (change.what, before) {
            (What::Schedule(rhythm), None) => {
                Some(Self { definition: change.number, rhythm, suspended: false, removed: false })
            }
            (_, None) => None,
            (What::Schedule(rhythm), Some(now)) => Some(Self {
                definition: change.number,
                rhythm,
                suspended: now.suspended && !now.removed,
                removed: false,
            }),
            (What::Alter(rhythm), Some(now)) => Some(Self { definition: change.number, rhythm, ..now }),
            (What::Suspend, Some(now)) => Some(Self { suspended: true, ..now }),
            (What::Resume, Some(now)) => Some(Self { suspended: false, ..now }),
            (What::Unschedule, Some(now)) => Some(Self { removed: true, ..now }),
        }
    }

    pub(super) fn is_active(self) -> bool {
        !self.suspended && !self.removed
    }
}

/// A job from one change to the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    pub(super) standing: Standing,
    /// From the answer to the next call: then it stood so, whatever else happened.
    pub(super) sure: Option<(i64, i64)>,
    /// From when until when it may have stood so.
    pub(super) perhaps: (i64, i64),
}

/// The stretches of a job. Calls for a job are one after the other, and a call waits for the transaction of one before
/// that is still open: what an answered one found is known, unless a failover lost it later.
pub(super) fn stretches(changes: &[Change], job: &str) -> Vec<Stretch> {
    let changes: Vec<&Change> = changes.iter().filter(|change| change.job == job).collect();
    let mut stretches = Vec::new();
    let mut kept = None;
    for (number, change) in changes.iter().enumerate() {
        let Some(standing) = Standing::after(kept, change) else { continue };
        if change.kept {
            kept = Some(standing);
        }
        let later = &changes[number + 1..];
        let next = later.first().map_or(i64::MAX, |next| next.asked);
        let known = later.iter().filter(|later| later.kept).find_map(|later| later.answered);
        let sure = change.answered.filter(|_| change.kept).map(|answered| (answered, next));
        stretches.push(Stretch { standing, sure, perhaps: (change.asked, known.unwrap_or(i64::MAX)) });
    }
    stretches
}
