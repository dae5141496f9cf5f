//! Ends of runs on their way to the database. The reporter takes them there, or the link with a claim: then
//! it is one transaction for both.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{backoff::Backoff, outbox::Queue};
use crate::{db::messages::Answer, keeper::protocol::RunResult};

/// Ends that go along with one claim.
const ALONG: usize = 500;
/// Bytes that go along with one claim, which is also the heartbeat.
const ALONG_BYTES: usize = 1 << 20;
/// An end waits so much longer than the claim it may go along with.
const SLACK: Duration = Duration::from_millis(10);

pub(super) type End = Box<RunResult>;

/// The clones share what waits.
#[derive(Debug, Clone, Default)]
pub(super) struct Ends(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) queue: Queue<End>,
    /// The reporter leaves them alone until then: a claim is to take them along.
    wait_until: Option<Instant>,
    /// On their way with a claim.
    lent: usize,
    /// A claim with results failed: they travel apart, until the reporter has brought some home.
    apart: bool,
    /// At most so many in the next call: one with more took too long.
    portion: Option<usize>,
    /// Claims whose result could not be stored in any form.
    unstorable: HashMap<i64, Backoff>,
}

impl Ends {
    pub(super) fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing in here can leave the list half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// `claim_within` says when a claim is to follow, if one is.
    pub(super) fn push(&mut self, end: End, claim_within: Option<Duration>) {
        self.queue.push(end);
        if let Some(within) = claim_within.filter(|_| !self.apart) {
            self.wait_until.get_or_insert(Instant::now() + within + SLACK);
        }
    }

    /// When the reporter may take what is ready.
    pub(super) fn free_at(&self, or_later: Instant) -> Instant {
        self.wait_until.map_or(or_later, |at| at.max(or_later))
    }

    /// For the reporter.
    pub(super) fn take(&mut self, most: usize, most_bytes: usize) -> Vec<End> {
        self.wait_until = None;
        let most = self.portion.map_or(most, |portion| portion.min(most));
        let (mut count, mut bytes) = (0, 0);
        self.queue.take_while(|end| {
            count += 1;
            bytes += weight(end);
            count == 1 || count <= most && bytes <= most_bytes
        })
    }

    /// What may go along with a claim.
    pub(super) fn lend(&mut self) -> Vec<End> {
        let fits = |end: &End| weight(end) <= ALONG_BYTES;
        if self.apart || !self.queue.first().is_some_and(fits) {
            return Vec::new();
        }
        let lent = self.take(ALONG, ALONG_BYTES);
        self.lent = lent.len();
        lent
    }

    /// The claim was answered; what is not settled was busy.
    pub(super) fn arrived(&mut self, lent: Vec<End>, settled: &[(i64, Answer)]) {
        self.lent = 0;
        self.queue.set_aside(unsettled(lent, settled), Instant::now());
    }

    /// The claim failed, for whatever reason.
    pub(super) fn came_back(&mut self, lent: Vec<End>) {
        self.lent = 0;
        self.apart = true;
        self.queue.put_back(lent);
    }

    /// The reporter brought some home. What is not settled was busy, or could not be stored in any form.
    pub(super) fn reported(&mut self, batch: Vec<End>, settled: &[(i64, Answer)], unstorable: &[i64]) {
        let now = Instant::now();
        self.unstorable.retain(|of, _| settled.iter().all(|(claim_no, _)| claim_no != of));
        for end in unsettled(batch, settled) {
            let claim_no = end.key.claim_no;
            if unstorable.contains(&claim_no) {
                let wait = self.unstorable.entry(claim_no).or_default().next();
                self.queue.set_aside_until([end], now + wait);
            } else {
                self.queue.set_aside([end], now);
            }
        }
        self.apart = false;
        self.portion = self.portion.map(|portion| portion * 2).filter(|portion| *portion < ALONG);
    }

    /// The reporter's call with so many took too long.
    pub(super) fn was_too_much(&mut self, count: usize) {
        self.portion = Some((count / 2).max(1));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lent == 0 && self.queue.is_empty()
    }
}

/// What is to be sent again.
fn unsettled(ends: Vec<End>, settled: &[(i64, Answer)]) -> impl Iterator<Item = End> {
    let done: HashSet<i64> = settled.iter().map(|(no, _)| *no).collect();
    ends.into_iter().filter(move |end| !done.contains(&end.key.claim_no))
}

/// Bytes that matter.
fn weight(end: &RunResult) -> usize {
    end.stdout.len() + end.stderr.len() + end.result.as_ref().map_or(0, |result| result.get().len())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::keeper::protocol::{RunKey, Time};

    fn end(claim_no: i64, output: usize) -> End {
        let finished = Time { boottime_us: 0, realtime_us: 0, boot_id: String::new() };
        Box::new(RunResult {
            key: RunKey { installation: Uuid::nil(), run_id: claim_no, claim_no },
            pid: None,
            exit_code: Some(0),
            signal: None,
            ended_by: None,
            reason: None,
            started: None,
            finished,
            stdout: "x".repeat(output),
            stderr: String::new(),
            result: None,
            cpu_user: 0.0,
            cpu_system: 0.0,
            peak_memory: 0,
        })
    }

    fn numbers(ends: &[End]) -> Vec<i64> {
        ends.iter().map(|end| end.key.claim_no).collect()
    }

    #[test]
    fn an_end_waits_for_the_claim_that_is_to_follow_and_no_longer() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        waiting.push(end(1, 0), None);
        assert_eq!(waiting.free_at(now), now);
        waiting.push(end(2, 0), Some(Duration::from_millis(25)));
        waiting.push(end(3, 0), Some(Duration::from_secs(25)));
        let free_at = waiting.free_at(now);
        assert!(free_at > now && free_at < now + Duration::from_secs(5), "the first one counts");
        assert_eq!(numbers(&waiting.lend()), [1, 2, 3]);
        assert_eq!(waiting.free_at(now), now);
        assert!(!waiting.is_empty(), "they are on their way");
        waiting.arrived(Vec::new(), &[]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn after_a_claim_that_failed_ends_travel_apart_until_some_arrived() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        waiting.push(end(1, 0), None);
        let lent = waiting.lend();
        waiting.came_back(lent);
        waiting.push(end(2, 0), Some(Duration::from_millis(25)));
        assert_eq!(waiting.free_at(now), now);
        assert!(waiting.lend().is_empty());
        assert_eq!(numbers(&waiting.take(10, 1000)), [1, 2]);
        waiting.reported(Vec::new(), &[], &[]);
        waiting.push(end(3, 0), None);
        assert_eq!(numbers(&waiting.lend()), [3]);
    }

    #[test]
    fn a_large_result_is_as_heavy_as_a_large_output() {
        let mut waiting = Waiting::default();
        let heavy = |claim_no| {
            let text = format!("{:?}", "x".repeat(ALONG_BYTES / 2));
            let result = Some(serde_json::value::RawValue::from_string(text).unwrap());
            Box::new(RunResult { result, ..*end(claim_no, 0) })
        };
        (1..=3).for_each(|claim_no| waiting.push(heavy(claim_no), None));
        assert_eq!(numbers(&waiting.lend()), [1]);
        waiting.arrived(Vec::new(), &[]);
        assert_eq!(numbers(&waiting.take(10, ALONG_BYTES)), [2]);
        waiting.push(Box::new(RunResult { stdout: "x".repeat(ALONG_BYTES), ..*heavy(4) }), None);
        assert_eq!(numbers(&waiting.lend()), [3]);
        waiting.arrived(Vec::new(), &[]);
        assert!(waiting.lend().is_empty());
    }

    #[test]
    fn after_a_call_that_took_too_long_the_next_one_takes_half_until_some_arrived() {
        let mut waiting = Waiting::default();
        (1..=9).for_each(|claim_no| waiting.push(end(claim_no, 0), None));
        let expect = |waiting: &mut Waiting, count| {
            let batch = waiting.take(8, 1000);
            assert_eq!(batch.len(), count);
            waiting.queue.put_back(batch);
        };
        expect(&mut waiting, 8);
        for half in [4, 2, 1, 1] {
            let count = waiting.take(8, 1000).len();
            (1..=9).for_each(|claim_no| waiting.push(end(claim_no, 0), None));
            waiting.was_too_much(count);
            expect(&mut waiting, half);
        }
        for more in [2, 4, 8, 8] {
            waiting.reported(Vec::new(), &[], &[]);
            expect(&mut waiting, more);
        }
    }

    #[test]
    fn what_cannot_be_stored_is_sent_again_ever_more_rarely_and_holds_up_nothing() {
        let mut waiting = Waiting::default();
        let accepted = |claim_no| [(claim_no, Answer::Accepted)];
        let mut wait = Duration::ZERO;
        for _ in 0..12 {
            waiting.reported(vec![end(1, 0), end(2, 0)], &accepted(2), &[1]);
            wait = waiting.queue.busy_until().unwrap() - Instant::now();
            waiting.push(end(3, 0), None);
            assert_eq!(numbers(&waiting.take(10, 1000)), [3]);
            waiting.queue.wake(Instant::now() + Duration::from_secs(60));
            assert_eq!(numbers(&waiting.take(10, 1000)), [1]);
        }
        assert!(wait > Duration::from_secs(2), "{wait:?}");
        waiting.reported(vec![end(1, 0)], &accepted(1), &[]);
        assert!(waiting.unstorable.is_empty() && waiting.is_empty());
    }

    #[test]
    fn a_claim_takes_no_large_output_along() {
        let mut waiting = Waiting::default();
        waiting.push(end(1, ALONG_BYTES - 1), None);
        waiting.push(end(2, 2), None);
        waiting.push(end(3, ALONG_BYTES + 1), None);
        assert_eq!(numbers(&waiting.lend()), [1]);
        waiting.arrived(Vec::new(), &[]);
        assert_eq!(numbers(&waiting.lend()), [2]);
        waiting.arrived(Vec::new(), &[]);
        assert!(waiting.lend().is_empty());
        assert_eq!(numbers(&waiting.take(10, 1)), [3], "nor does it wait for ever");
    }
}
