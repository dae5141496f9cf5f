//! What is told of a database out of reach: at first, when the reason is another one, and now and then. No I/O.

use std::time::Duration;

use super::moment::Boot;
use crate::error::Error;

/// The same reason is told again after this.
const AGAIN: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Away {
    told: Option<(String, Boot)>,
}

impl Away {
    /// Whether to tell this reason.
    pub(super) fn is_news(&mut self, err: &Error, now: Boot) -> bool {
        let reason = format!("{:?} {:?} {}", err.kind(), err.code(), err.in_a_line());
        let is_old = |(told, at): &(String, Boot)| *told == reason && now.since(*at) < AGAIN;
        if self.told.as_ref().is_some_and(is_old) {
            return false;
        }
        self.told = Some((reason, now));
        true
    }

    /// It is within reach.
    pub(super) fn is_over(&mut self) {
        self.told = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_reason_is_told_once_a_minute_and_another_one_at_once() {
        let second = |n: i64| Boot(n * 1_000_000);
        let err = |kind, text: &str| Error::new(kind, "cannot connect").source(text.to_owned());
        let mut away = Away::default();
        let refused = err(ErrorKind::Unreachable, "connection refused");
        assert!(away.is_news(&refused, second(1)));
        assert!(!away.is_news(&refused, second(2)));
        assert!(away.is_news(&err(ErrorKind::Unreachable, "timed out"), second(3)));
        assert!(away.is_news(&err(ErrorKind::Config, "timed out"), second(3)));
        assert!(away.is_news(&refused, second(4)));
        assert!(!away.is_news(&refused, second(63)));
        assert!(away.is_news(&refused, second(64)));
        away.is_over();
        assert!(away.is_news(&refused, second(65)));
    }
}
