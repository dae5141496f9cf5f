//! Balances the books: every promise that can be read off history and witness, and what breaks it.

use std::collections::{BTreeMap, HashMap};

use super::{
    checks,
    records::{Books, Job, Kind, Process, Row, SECOND},
};

/// What does not fit, under the name of the promise.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Violation {
    pub(super) promise: &'static str,
    pub(super) what: String,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) violations: Vec<Violation>,
    /// How often each promise was put to the test.
    pub(super) checks: BTreeMap<&'static str, usize>,
    /// Exceptions that the promises allow, by name.
    pub(super) excused: BTreeMap<&'static str, usize>,
}

impl Report {
    /// Notes one test of a promise; what does not hold is told.
    pub(super) fn check(&mut self, promise: &'static str, holds: bool, what: impl FnOnce() -> String) {
        *self.checks.entry(promise).or_default() += 1;
        if !holds {
            self.violations.push(Violation { promise, what: what() });
        }
    }

    pub(super) fn excuse(&mut self, name: &'static str) {
        *self.excused.entry(name).or_default() += 1;
    }
}

/// The books, with what is looked up again and again.
pub(super) struct Sorted<'a> {
    pub(super) books: &'a Books,
    pub(super) by_claim: HashMap<(i64, i64), &'a Row>,
    pub(super) by_run: BTreeMap<i64, Vec<&'a Row>>,
    pub(super) processes: HashMap<(i64, i64), &'a Process>,
    pub(super) jobs: HashMap<&'a str, &'a Job>,
}

impl<'a> Sorted<'a> {
    fn new(books: &'a Books) -> Self {
        let mut by_run: BTreeMap<i64, Vec<&Row>> = BTreeMap::new();
        for row in &books.rows {
            by_run.entry(row.run_id).or_default().push(row);
        }
        for rows in by_run.values_mut() {
            rows.sort_by_key(|row| row.attempt);
        }
        let by_claim = books.rows.iter().filter_map(|row| Some(((row.run_id, row.claim_no?), row))).collect();
        let processes = books.processes.iter().map(|p| ((p.run_id, p.claim_no), p)).collect();
        let jobs = books.jobs.iter().map(|job| (job.name, job)).collect();
        Self { books, by_claim, by_run, processes, jobs }
    }

    pub(super) fn row_of(&self, process: &Process) -> Option<&'a Row> {
        self.by_claim.get(&(process.run_id, process.claim_no)).copied()
    }

    pub(super) fn process_of(&self, row: &Row) -> Option<&'a Process> {
        self.processes.get(&(row.run_id, row.claim_no?)).copied()
    }

    /// Whether what was committed at this moment may be lost, by a failover to a standby that did not know it; of a
    /// process, whether it began under such a claim.
    pub(super) fn was_forgotten(&self, at: i64) -> bool {
        let lost = |kind| kind == Kind::CommitsLost;
        // A run that was claimed ahead begins that much later.
        self.was_broken(None, at - 2 * SECOND, at, lost)
    }

    /// How long the machine kept its programs waiting about that time. Two waits are in a start: for the guardian, for the
    /// keeper.
    pub(super) fn stalled(&self, from: i64, until: i64) -> i64 {
        let about = |stall: &&(i64, i64)| stall.0 >= from - SECOND && stall.0 - stall.1 <= until + SECOND;
        2 * self.books.stalls.iter().filter(about).map(|stall| stall.1).sum::<i64>()
    }

    /// Whether something of these kinds was broken at a host between two moments.
    pub(super) fn was_broken(
        &self,
        host: Option<&str>,
        from: i64,
        until: i64,
        kind: impl Fn(Kind) -> bool,
    ) -> bool {
        self.books.faults.iter().any(|fault| {
            let here = fault.host.is_none() || fault.host.as_deref() == host;
            here && kind(fault.kind) && fault.from <= until && fault.until >= from
        })
    }
}

/// Whether the row was, at first, of a host that was silent for a lease: its process may have gone on.
pub(super) fn was_given_up(row: &Row) -> bool {
    row.reason.contains("was not heard of for")
}

/// Whether the row was, at first, of a keeper that died: its process died too.
pub(super) fn died_with_its_keeper(row: &Row) -> bool {
    row.reason.contains("no longer has it")
}

/// Whether the database may have had the result and lost it with a commit, and the keeper could not keep it for that: what
/// is delivered before a full disk takes it is stored nowhere else.
pub(super) fn was_forgotten(sorted: &Sorted<'_>, row: &Row) -> bool {
    let from = row.claimed.unwrap_or(row.recorded);
    let broken = |kind: Kind| sorted.was_broken(row.host.as_deref(), from, row.recorded, |it| it == kind);
    row.state == "lost" && broken(Kind::DiskFull) && broken(Kind::CommitsLost)
}

/// Reads the books.
pub(super) fn check(books: &Books) -> Report {
    let sorted = Sorted::new(books);
    let mut report = Report::default();
    checks::ends::one_end_each(&sorted, &mut report);
    checks::ends::explained(&sorted, &mut report);
    checks::ends::retried_as_asked(&sorted, &mut report);
    checks::occurrences::each_accounted_for(&sorted, &mut report);
    checks::occurrences::what_was_asked_for(&sorted, &mut report);
    checks::changes::withdrawn_stays_withdrawn(&sorted, &mut report);
    checks::changes::told_as_it_stood(&sorted, &mut report);
    checks::processes::known(&sorted, &mut report);
    checks::processes::on_time(&sorted, &mut report);
    checks::processes::alone(&sorted, &mut report);
    checks::processes::true_results(&sorted, &mut report);
    report
}
