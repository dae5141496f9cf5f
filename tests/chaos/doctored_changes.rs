//! Books of a job that is changed while it runs, doctored one lie at a time.

use super::{
    checker::{Report, check},
    doctored::{of, row, run},
    records::{Books, Fault, Job, Kind, Row, SECOND},
    standing::{Change, Rhythm, What},
};

const EVERY_2: Rhythm = Rhythm { period: 2, phase: 0 };
const EVERY_3: Rhythm = Rhythm { period: 3, phase: 0 };

/// Due at 0, 2 and 4; every 3 seconds from 5 on; suspended from 13 to 22; removed at 28, and there again at 35.
fn honest() -> Books {
    let mut books = Books {
        jobs: vec![Job { name: "changing", period: Some(2), changing: true, ..Job::PLAIN }],
        hosts: vec!["web1".to_owned(), "web2".to_owned()],
        span: (0, 41 * SECOND),
        lease: 5 * SECOND,
        claim_ahead: SECOND,
        plan_ahead: 3 * SECOND,
        ..Books::default()
    };
    let calls = [
        (-1, What::Schedule(EVERY_2)),
        (5, What::Alter(EVERY_3)),
        (13, What::Suspend),
        (22, What::Resume),
        (28, What::Unschedule),
        (35, What::Schedule(EVERY_2)),
    ];
    for (number, (at, what)) in (0..).zip(calls) {
        let (asked, answered) = (at * SECOND, Some(at * SECOND + 100));
        books.changes.push(Change { job: "changing", number, what, asked, answered, kept: true });
    }
    let runs = [(0, 0), (2, 0), (4, 0), (6, 1), (9, 1), (12, 1), (24, 1), (27, 1), (36, 5), (38, 5), (40, 5)];
    for (due, definition) in runs {
        run(&mut books, 100 + due, "changing", due, "web1");
        by(&mut books, 100 + due, definition);
    }
    // Planned before the change.
    books.rows.push(unstarted(208, 8, "cancelled", "withdrawn by version 2 of the job", 5));
    books.rows.push(unstarted(230, 30, "cancelled", "the job was unscheduled", 28));
    let skipped = unstarted(215, 15, "skipped", "the job was suspended", 22);
    books.rows.push(Row { last_due: Some(21 * SECOND), occurrences: 3, ..skipped });
    books
}

fn unstarted(run_id: i64, due: i64, state: &str, reason: &str, recorded: i64) -> Row {
    Row {
        state: state.to_owned(),
        reason: reason.to_owned(),
        attempt: 0,
        claim_no: None,
        exit_code: None,
        recorded: recorded * SECOND + 200,
        ..row(run_id, "changing", due)
    }
}

fn checked(doctor: impl FnOnce(&mut Books)) -> Report {
    let mut books = honest();
    doctor(&mut books);
    check(&books)
}

/// A run that began so many seconds after the start.
fn begun(books: &mut Books, due: i64, definition: i64, at: i64) {
    run(books, 300 + due, "changing", due, "web1");
    by(books, 300 + due, definition);
    let (row, process) = of(books, 300 + due);
    row.expires = None;
    process.began = (at * SECOND, at * SECOND + 1000);
}

/// Process and row of a run say that it ran by a definition.
fn by(books: &mut Books, run_id: i64, definition: i64) {
    let (row, process) = of(books, run_id);
    (row.definition, process.definition) = (Some(definition), definition);
}

fn named(report: &Report, promise: &str) -> bool {
    report.violations.iter().any(|violation| violation.promise == promise)
}

#[test]
fn honest_books_balance() {
    let report = check(&honest());
    assert_eq!(report.violations, []);
    for promise in [
        "withdrawn means withdrawn",
        "runs by its definition",
        "no occurrence twice",
        "nothing of a removed job",
        "each occurrence of a changing job",
        "suspended means skipped",
        "resumed means run",
    ] {
        assert!(report.checks[promise] > 0, "{promise}");
    }
}

macro_rules! lies {
    ($($name:ident: $promise:literal, $doctor:expr;)*) => {
        $(#[test]
        fn $name() {
            let report = checked($doctor);
            assert!(named(&report, $promise), "{report:#?}");
        })*
    };
}

lies! {
    a_start_in_a_suspension: "withdrawn means withdrawn", |books| begun(books, 12, 1, 18);
    a_start_by_a_definition_that_was_replaced: "withdrawn means withdrawn", |books| begun(books, 4, 0, 9);
    a_start_of_a_removed_job: "withdrawn means withdrawn", |books| begun(books, 27, 1, 31);
    a_start_by_a_definition_that_was_to_come: "runs by its definition", |books| by(books, 102, 1);
    a_start_by_a_definition_of_another_rhythm: "runs by its definition", |books| by(books, 104, 1);
    a_row_that_names_another_version: "runs by its definition", |books| of(books, 109).0.definition = Some(0);
    an_occurrence_that_was_forgotten: "each occurrence of a changing job", |books| {
        books.rows.retain(|row| row.run_id != 109);
    };
    an_occurrence_withdrawn_by_nobody: "each occurrence of a changing job", |books| {
        of(books, 109).0.state = "cancelled".to_owned();
        of(books, 109).0.recorded = 10 * SECOND;
    };
    an_occurrence_with_two_runs: "no occurrence twice", |books| run(books, 309, "changing", 9, "web2");
    a_run_of_an_old_rhythm: "no occurrence twice", |books| run(books, 310, "changing", 10, "web1");
    a_run_planned_for_a_removed_job: "nothing of a removed job", |books| {
        books.rows.push(unstarted(333, 33, "expired", "not started within 2 s", 34));
    };
    an_occurrence_in_a_suspension_that_is_not_told: "each occurrence of a changing job", |books| {
        books.rows.retain(|row| row.run_id != 215);
    };
    an_occurrence_in_a_suspension_that_ran: "suspended means skipped", |books| {
        books.rows.retain(|row| row.run_id != 215);
        begun(books, 18, 1, 18);
    };
    an_occurrence_in_a_suspension_that_expired: "suspended means skipped", |books| {
        let row = books.rows.iter_mut().find(|row| row.run_id == 215).unwrap();
        (row.state, row.reason) = ("expired".to_owned(), "nothing ran here during a downtime".to_owned());
    };
    an_occurrence_after_a_suspension_that_is_skipped: "resumed means run", |books| {
        books.rows.retain(|row| row.run_id != 127);
        books.rows.push(unstarted(327, 27, "skipped", "the job is suspended", 27));
    };
    a_row_that_counts_wrongly: "rows count what they stand for", |books| {
        books.rows.iter_mut().find(|row| row.run_id == 215).unwrap().occurrences = 2;
    };
    a_skip_before_any_suspension: "explained", |books| {
        books.rows.push(unstarted(302, 2, "skipped", "the job is suspended", 3));
    };
    a_withdrawal_before_any_change: "explained", |books| {
        books.rows.push(unstarted(302, 2, "cancelled", "withdrawn by version 2 of the job", 3));
    };
    a_removal_before_any_unschedule: "explained", |books| {
        books.rows.push(unstarted(302, 2, "cancelled", "the job was unscheduled", 3));
    };
}

#[test]
fn a_start_after_a_withdrawal_is_excused_where_guardian_or_keeper_was_paused() {
    let paused = |kind: Kind, host: &str| {
        checked(|books| {
            begun(books, 27, 1, 31);
            books.rows.retain(|row| row.run_id != 127);
            let (from, until) = (27 * SECOND, 31 * SECOND);
            books.faults.push(Fault { kind, host: Some(host.to_owned()), from, until });
        })
    };
    for kind in [Kind::GuardianPaused, Kind::KeeperPaused] {
        assert!(!named(&paused(kind, "web1"), "withdrawn means withdrawn"));
        assert!(named(&paused(kind, "web2"), "withdrawn means withdrawn"));
    }
}

#[test]
fn what_nobody_can_know_is_not_held_against_anybody() {
    // Nobody has said whether it was done, and a commit that was lost.
    for answered in [None, Some(13 * SECOND + 100)] {
        let report = checked(|books| {
            (books.changes[2].answered, books.changes[2].kept) = (answered, false);
            books.rows.retain(|row| row.run_id != 215);
            for due in [15, 18, 21] {
                begun(books, due, 1, due);
            }
        });
        assert_eq!(report.violations, []);
    }
}

#[test]
fn a_stall_of_the_machine_is_no_late_start() {
    let report = checked(|books| {
        begun(books, 12, 1, 16);
        books.rows.retain(|row| row.run_id != 112);
        books.processes.retain(|process| process.run_id != 112);
        books.stalls.push((16 * SECOND, 2 * SECOND));
    });
    assert_eq!(report.violations, []);
}
