//! Whether the keeper that starts the runs is heard of after it was told to start one. A run that takes long to start
//! is not its fault: before it counts as silent it is asked for something that it can answer at once. No I/O.

use std::time::Duration;

use tokio::time::Instant;

/// It is asked when nothing was heard for this long.
const ASK_AFTER: Duration = Duration::from_secs(5);
/// Then it may take this long: one that says nothing is hung, stopped, or waits for a disk.
const PATIENCE: Duration = Duration::from_secs(5);

/// What comes next when nothing is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lapse {
    /// To ask it.
    Ask,
    /// To take it for silent.
    Silent,
}

#[derive(Debug, Default)]
pub(super) struct Hearing {
    next: Option<(Instant, Lapse)>,
    is_silent: bool,
}

impl Hearing {
    /// It was told to start a run.
    pub(super) fn told(&mut self, now: Instant) {
        if !self.is_silent {
            self.next.get_or_insert((now + ASK_AFTER, Lapse::Ask));
        }
    }

    /// It has said something. Whether it had been silent.
    pub(super) fn heard(&mut self) -> bool {
        self.next = None;
        std::mem::take(&mut self.is_silent)
    }

    /// When [`Self::lapse`] has something to say.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.next.map(|(at, _)| at)
    }

    /// What has come.
    pub(super) fn lapse(&mut self, now: Instant) -> Option<Lapse> {
        let (_, lapse) = self.next.take_if(|(at, _)| *at <= now)?;
        match lapse {
            Lapse::Ask => self.next = Some((now + PATIENCE, Lapse::Silent)),
            Lapse::Silent => self.is_silent = true,
        }
        Some(lapse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keeper_that_answers_is_not_silent_however_long_a_run_takes_to_start() {
        let (mut hearing, begin) = (Hearing::default(), Instant::now());
        assert_eq!(hearing.next_at(), None, "nobody has asked it for anything");
        hearing.told(begin);
        hearing.told(begin + Duration::from_secs(1));
        assert_eq!(hearing.next_at(), Some(begin + ASK_AFTER), "the first one counts");
        assert_eq!(hearing.lapse(begin), None);
        assert_eq!(hearing.lapse(begin + ASK_AFTER), Some(Lapse::Ask));
        assert!(!hearing.heard());
        assert_eq!(hearing.next_at(), None, "the run still has not started");
    }

    #[test]
    fn a_keeper_that_does_not_answer_is_silent_until_it_does() {
        let (mut hearing, begin) = (Hearing::default(), Instant::now());
        hearing.told(begin);
        // The guardian was stopped as well: the keeper gets its time to answer all the same.
        let late = begin + Duration::from_secs(60);
        assert_eq!(hearing.lapse(late), Some(Lapse::Ask));
        assert_eq!(hearing.lapse(late), None);
        assert_eq!(hearing.lapse(late + PATIENCE), Some(Lapse::Silent));
        hearing.told(late + PATIENCE);
        assert_eq!(hearing.next_at(), None);
        assert!(hearing.heard());
        assert!(!hearing.heard());
    }
}
