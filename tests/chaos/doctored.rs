//! Books that are doctored, one lie at a time: the checker must name each.

use super::{
    checker::{Report, Violation, check},
    records::{Books, Call, Fault, Job, Kind, Process, Row, SECOND},
};

const SILENT: &str = "host \"web1\" was not heard of for 5 s";
const KEEPER: &str = "the keeper of host \"web1\" no longer has it";

/// An hour of nothing but three occurrences on two hosts, two runs by hand, and a host that was cut off.
pub(super) fn honest() -> Books {
    let skip = Job { name: "skip", period: Some(10), ttl: Some(4), overlap: "skip", ..Job::PLAIN };
    let all = Job { name: "all", period: Some(30), all: true, overlap: "queue", retries: 1, ..Job::PLAIN };
    let asked = Job { name: "asked", retries: 1, retry_on_lost: true, ..Job::PLAIN };
    let fenced = Job { name: "fenced", fenced: true, max_runtime: Some(9), ..skip };
    let mut books = Books {
        jobs: vec![skip, all, asked, Job { period: None, ..fenced }],
        hosts: vec!["web1".to_owned(), "web2".to_owned()],
        span: (0, 30 * SECOND),
        lease: 5 * SECOND,
        ..Books::default()
    };
    run(&mut books, 1, "skip", 0, "web1");
    run(&mut books, 2, "skip", 10, "web1");
    // The last two as one row, which stands for one here: the span ends.
    books.rows.push(Row {
        run_id: 3,
        last_due: Some(20 * SECOND),
        state: "expired".to_owned(),
        reason: "nothing ran here during a downtime, and it is no longer fresh".to_owned(),
        claim_no: None,
        attempt: 0,
        exit_code: None,
        ..row(3, "skip", 20)
    });
    run(&mut books, 4, "all", 0, "web1");
    run(&mut books, 5, "all", 0, "web2");
    // Its host fell silent at 3 s, was given up at 8 s, and the second attempt went beside the first.
    run(&mut books, 6, "asked", 1, "web1");
    let first = books.rows.last_mut().unwrap();
    *first = Row {
        state: "lost".to_owned(),
        reason: SILENT.to_owned(),
        is_final: false,
        exit_code: None,
        late_exit_code: Some(0),
        recorded: 8 * SECOND,
        ..first.clone()
    };
    books.processes.last_mut().unwrap().seen = 14 * SECOND;
    books.processes.last_mut().unwrap().ended = Some((14 * SECOND, 0));
    run(&mut books, 7, "asked", 1, "web2");
    let (second, process) = (books.rows.last_mut().unwrap(), books.processes.last_mut().unwrap());
    (second.run_id, second.attempt, second.token) = (6, 2, Some(6));
    process.token = Some(6);
    (process.run_id, process.attempt, process.began) = (6, 2, (9 * SECOND, 9 * SECOND + 100));
    (process.seen, process.ended) = (11 * SECOND, Some((11 * SECOND, 0)));
    for row in books.rows.iter_mut().filter(|row| row.job == "asked") {
        (row.origin, row.expires) = ("run_many".to_owned(), None);
    }
    books.calls.push(Call { job: "asked", tokens: vec![6], at: SECOND, acknowledged: true });
    books.calls.push(Call { job: "asked", tokens: vec![60, 61], at: SECOND, acknowledged: false });
    books.faults.push(Fault {
        kind: Kind::NetworkCut,
        host: Some("web1".to_owned()),
        from: 3 * SECOND,
        until: 12 * SECOND,
    });
    books
}

pub(super) fn row(run_id: i64, job: &str, due: i64) -> Row {
    Row {
        run_id,
        attempt: 1,
        claim_no: Some(run_id * 10),
        is_final: true,
        origin: "schedule".to_owned(),
        job: job.to_owned(),
        state: "succeeded".to_owned(),
        reason: "exit code 0".to_owned(),
        exit_code: Some(0),
        due: due * SECOND,
        nominal: due * SECOND,
        expires: Some((due + 4) * SECOND),
        claimed: Some((due - 1) * SECOND),
        started: Some(due * SECOND),
        finished: (due + 2) * SECOND,
        recorded: (due + 2) * SECOND,
        occurrences: 1,
        token: Some(run_id),
        definition: Some(0),
        ..Row::default()
    }
}

/// A run that began when it was due and succeeded two seconds later.
pub(super) fn run(books: &mut Books, run_id: i64, job: &str, due: i64, host: &str) {
    books.rows.push(Row { host: Some(host.to_owned()), ..row(run_id, job, due) });
    books.processes.push(Process {
        job: job.to_owned(),
        run_id,
        attempt: 1,
        claim_no: run_id * 10,
        host: host.to_owned(),
        token: Some(run_id),
        definition: 0,
        due: due * SECOND,
        pid: 1000,
        began: (due * SECOND + 1000, due * SECOND + 2000),
        seen: (due + 2) * SECOND,
        ended: Some(((due + 2) * SECOND, 0)),
    });
}

/// All the while, on the host of runs 1 and 2.
fn upgrade(books: &mut Books) {
    let (from, until) = (-20 * SECOND, 20 * SECOND);
    books.faults.push(Fault { kind: Kind::Upgraded, host: Some("web1".to_owned()), from, until });
}

fn checked(doctor: impl FnOnce(&mut Books)) -> Report {
    let mut books = honest();
    doctor(&mut books);
    check(&books)
}

/// The row of a run, and its process.
pub(super) fn of(books: &mut Books, run_id: i64) -> (&mut Row, &mut Process) {
    let row = books.rows.iter_mut().find(|row| row.run_id == run_id).unwrap();
    let process = books.processes.iter_mut().find(|process| process.run_id == run_id).unwrap();
    (row, process)
}

#[test]
fn honest_books_balance() {
    let report = check(&honest());
    assert_eq!(report.violations, []);
    assert_eq!(report.excused["overlap after a host was given up"], 1);
    assert!(report.checks.values().all(|times| *times > 0));
}

/// A test for each lie: the promise that it breaks is named.
macro_rules! lies {
    ($($name:ident: $promise:literal, $doctor:expr;)*) => {
        $(#[test]
        fn $name() {
            let report = checked($doctor);
            let named = report.violations.iter().any(|violation| violation.promise == $promise);
            assert!(named, "{report:#?}");
        })*
    };
}

lies! {
    a_run_without_an_end: "one end each", |books| of(books, 1).0.is_final = false;
    a_run_with_two_ends: "one end each", |books| {
        let again = of(books, 1).0.clone();
        books.rows.push(Row { attempt: 2, claim_no: Some(99), ..again });
    };
    a_run_that_never_ends: "one end each", |books| books.live.push(70);
    an_attempt_that_is_missing: "attempts are numbered", |books| of(books, 1).0.attempt = 3;
    an_end_without_a_reason: "explained", |books| of(books, 1).0.reason.clear();
    a_success_with_another_exit_code: "explained", |books| of(books, 1).0.exit_code = Some(1);
    a_signal_that_nobody_sent: "explained", |books| {
        let row = of(books, 1).0;
        (row.state, row.exit_code, row.signal) = ("failed".to_owned(), None, Some(9));
    };
    a_host_given_up_though_nothing_broke: "explained", |books| books.faults.clear();
    a_host_given_up_for_an_upgrade: "explained", |books| books.faults[0].kind = Kind::Upgraded;
    a_host_given_up_for_what_silences_nobody: "explained", |books| books.faults[0].kind = Kind::DiskFull;
    a_host_given_up_for_what_broke_elsewhere: "explained", |books| books.faults[0].host = Some("web2".to_owned());
    a_host_given_up_for_what_broke_later: "explained", |books| books.faults[0].from = 5 * SECOND;
    a_host_given_up_for_what_was_mended_long_before: "explained", |books| {
        (books.faults[0].from, books.faults[0].until) = (-20 * SECOND, -10 * SECOND);
    };
    a_keeper_that_lost_a_run_and_died_before_its_claim: "explained", |books| {
        let row = of(books, 2).0;
        (row.state, row.exit_code, row.reason) = ("lost".to_owned(), None, KEEPER.to_owned());
        let (from, until) = (7 * SECOND, 7 * SECOND);
        books.faults.push(Fault { kind: Kind::KeeperKilled, host: Some("web1".to_owned()), from, until });
    };
    a_keeper_that_lost_a_run_and_was_not_killed: "explained", |books| of(books, 6).0.reason = KEEPER.to_owned();
    a_run_that_was_lost_in_an_upgrade: "explained", |books| {
        let row = of(books, 2).0;
        (row.state, row.exit_code, row.reason) = ("lost".to_owned(), None, KEEPER.to_owned());
        upgrade(books);
    };
    a_run_that_could_not_be_started_in_an_upgrade: "explained", |books| {
        let row = of(books, 2).0;
        (row.state, row.exit_code) = ("failed".to_owned(), None);
        upgrade(books);
    };
    a_time_limit_that_nobody_set: "explained", |books| of(books, 1).0.state = "timed_out".to_owned();
    a_termination_that_nobody_asked_for: "explained", |books| of(books, 1).0.state = "terminated".to_owned();
    a_withdrawal_that_nobody_asked_for: "explained", |books| of(books, 1).0.state = "cancelled".to_owned();
    a_retry_too_many: "retried as asked", |books| books.jobs[2].retries = 0;
    a_lost_run_that_was_not_to_be_repeated: "retried as asked", |books| books.jobs[2].retry_on_lost = false;
    a_success_that_is_repeated: "retried as asked", |books| of(books, 6).0.state = "succeeded".to_owned();
    an_occurrence_that_was_forgotten: "each occurrence once", |books| books.rows.retain(|row| row.run_id != 2);
    an_occurrence_with_two_runs: "each occurrence once", |books| run(books, 8, "skip", 10, "web2");
    a_host_that_was_left_out: "each occurrence once", |books| books.rows.retain(|row| row.run_id != 5);
    a_run_when_nothing_is_due: "each occurrence once", |books| run(books, 8, "skip", 13, "web2");
    a_row_for_an_occurrence_that_ran: "each occurrence once", |books| {
        books.rows[2].nominal = 10 * SECOND;
        books.rows[2].occurrences = 2;
    };
    a_row_that_counts_wrongly: "rows count what they stand for", |books| books.rows[2].occurrences = 2;
    a_call_that_was_acknowledged_and_forgotten: "each call once", |books| books.calls[1].acknowledged = true;
    a_call_done_by_half: "each call once", |books| {
        run(books, 8, "asked", 3, "web2");
        (of(books, 8).0.origin, of(books, 8).0.token) = ("run_many".to_owned(), Some(60));
    };
    a_call_done_twice: "each call once", |books| {
        run(books, 8, "asked", 3, "web2");
        (of(books, 8).0.origin, of(books, 8).0.token) = ("run_many".to_owned(), Some(6));
    };
    a_run_that_nobody_asked_for: "only what was asked for", |books| {
        run(books, 8, "asked", 3, "web2");
        (of(books, 8).0.origin, of(books, 8).0.token) = ("run_now".to_owned(), Some(66));
    };
    a_process_without_a_row: "no start without its row", |books| of(books, 1).1.claim_no = 11;
    a_process_on_another_host: "no start without its row", |books| of(books, 1).1.host = "web2".to_owned();
    a_process_that_thinks_it_is_another_attempt: "no start without its row", |books| of(books, 1).1.attempt = 2;
    a_process_with_another_payload: "no start without its row", |books| of(books, 6).1.token = Some(5);
    a_claim_that_starts_twice: "a claim starts once", |books| {
        let again = of(books, 1).1.clone();
        books.processes.push(again);
    };
    a_result_without_a_process: "no result without its process", |books| books.processes.retain(|p| p.run_id != 1);
    a_result_of_a_process_that_has_not_ended: "no result without its process", |books| of(books, 1).1.ended = None;
    a_start_before_it_is_due: "never early", |books| of(books, 2).1.began = (9_900_000, 9_950_000);
    a_start_after_its_ttl: "never stale", |books| of(books, 2).1.began = (14_900_000, 14_950_000);
    a_ttl_of_another_length: "ttl counts from due", |books| of(books, 2).0.expires = Some(900 * SECOND);
    two_runs_of_an_exclusive_job_at_once: "never twice at once", |books| of(books, 1).1.seen = 11 * SECOND;
    two_processes_of_a_run_whose_keeper_died: "never twice at once", |books| of(books, 6).0.reason = KEEPER.to_owned();
    two_processes_of_a_run_before_it_is_given_up: "never twice at once", |books| of(books, 6).0.recorded = 10 * SECOND;
    two_processes_of_a_run_that_is_not_to_be_repeated: "never twice at once", |books| books.jobs[2].retry_on_lost = false;
    two_processes_of_a_run_that_is_fenced: "never twice at once", |books| books.jobs[2].fenced = true;
    a_result_that_was_lost: "no result lost", |books| of(books, 6).0.late_exit_code = None;
    a_result_that_is_not_the_true_one: "no result lost", |books| of(books, 2).1.ended = Some((12 * SECOND, 3));
    two_runs_of_an_exclusive_job_in_an_upgrade: "never twice at once", |books| {
        of(books, 1).1.seen = 11 * SECOND;
        upgrade(books);
    };
    a_result_lost_in_an_upgrade: "no result lost", |books| {
        let row = of(books, 2).0;
        (row.state, row.exit_code, row.reason) = ("lost".to_owned(), None, KEEPER.to_owned());
        upgrade(books);
    };
    a_result_lost_though_the_keeper_lived: "no result lost", |books| {
        let row = of(books, 1).0;
        (row.state, row.exit_code, row.reason) = ("lost".to_owned(), None, KEEPER.to_owned());
        books.faults.push(Fault { kind: Kind::KeeperKilled, host: Some("web2".to_owned()), from: 2 * SECOND, until: 2 * SECOND });
    };
}

#[test]
fn a_claim_that_the_network_held_back_until_its_host_had_crashed_is_lost() {
    let with_cut = |kind: Kind, from: i64| {
        checked(|books| {
            let row = of(books, 2).0;
            (row.state, row.exit_code, row.reason) = ("lost".to_owned(), None, KEEPER.to_owned());
            let host = row.host.clone();
            books.processes.retain(|process| process.run_id != 2);
            let at = 6 * SECOND;
            books.faults.push(Fault { kind: Kind::HostCrashed, host: host.clone(), from: at, until: at });
            // Claimed at 9 s.
            books.faults[0].until = 5 * SECOND;
            books.faults.push(Fault { kind, host, from: from * SECOND, until: 8_900_000 });
        })
    };
    let named = |report: Report| report.violations.iter().any(|violation| violation.promise == "explained");
    assert!(!named(with_cut(Kind::NetworkCut, 5)));
    assert!(named(with_cut(Kind::NetworkCut, 8)), "it crashed before the call was sent");
    assert!(named(with_cut(Kind::DiskFull, 5)), "nothing was cut");
}

#[test]
fn a_host_is_given_up_that_was_cut_off_before_it_could_come_back_to_the_server() {
    let broken = |server: i64, cut: i64| {
        checked(|books| {
            let until = (server + 1) * SECOND;
            books.faults[0].from = cut * SECOND;
            books.faults.push(Fault { kind: Kind::ServerCrashed, host: None, from: server * SECOND, until });
        })
    };
    // Given up at 8 s, after 5 s.
    let named = |report: Report| report.violations.iter().any(|found| found.promise == "explained");
    assert!(!named(broken(3, 6)));
    assert!(named(broken(6, 6)), "it was heard of at 5 s");
    assert!(named(broken(3, 9)), "nothing kept it from the server at 7 s");
}

#[test]
fn a_fenced_run_is_lost_where_its_keeper_could_not_hear_of_its_lease() {
    let broken = |kind: Kind, host: Option<&str>, is_fenced: bool| {
        checked(|books| {
            books.jobs[0].fenced = is_fenced;
            let row = of(books, 2).0;
            (row.state, row.exit_code) = ("lost".to_owned(), None);
            row.reason = "the lease was not renewed in time".to_owned();
            let host = host.map(str::to_owned);
            books.faults = vec![Fault { kind, host, from: 6 * SECOND, until: 9 * SECOND }];
        })
    };
    let named = |report: Report| {
        let explained =
            |found: &Violation| found.promise == "explained" && found.what.starts_with("run 2 of");
        report.violations.iter().any(explained)
    };
    assert!(!named(broken(Kind::KeeperPaused, Some("web1"), true)));
    assert!(!named(broken(Kind::CommitsLost, None, true)));
    assert!(named(broken(Kind::KeeperPaused, Some("web2"), true)), "its own keeper was not paused");
    assert!(named(broken(Kind::KeeperPaused, Some("web1"), false)), "it is not fenced");
    assert!(named(broken(Kind::DiskFull, Some("web1"), true)), "nothing hid the lease");
}

#[test]
fn a_run_that_a_keeper_had_not_read_may_be_lost_when_it_hung() {
    let paused = |host: &str, from: i64, why: &str| {
        let report = checked(|books| {
            let row = of(books, 2).0;
            (row.state, row.exit_code, row.reason) = ("lost".to_owned(), None, format!("{KEEPER}{why}"));
            books.processes.retain(|process| process.run_id != 2);
            let host = Some(host.to_owned());
            books.faults.push(Fault {
                kind: Kind::KeeperPaused,
                host,
                from: from * SECOND,
                until: (from + 1) * SECOND,
            });
        });
        report.violations.iter().any(|found| found.promise == "explained")
    };
    // Claimed at 9 s, given up at 12 s.
    assert!(!paused("web1", 9, " (may have started)"));
    assert!(paused("web2", 9, " (may have started)"), "another keeper was paused");
    assert!(paused("web1", 6, " (may have started)"), "it went on before the claim");
    assert!(paused("web1", 9, ""), "it had started, and a keeper that goes on has it still");
}

#[test]
fn a_result_that_a_full_disk_did_not_take_may_go_with_a_lost_commit() {
    let lost = |kinds: &[(Kind, Option<&str>)]| {
        checked(|books| {
            let row = of(books, 2).0;
            (row.state, row.exit_code, row.reason) = ("lost".to_owned(), None, KEEPER.to_owned());
            for (kind, host) in kinds {
                let (from, until) = (11 * SECOND, 12 * SECOND);
                books.faults.push(Fault { kind: *kind, host: host.map(str::to_owned), from, until });
            }
        })
    };
    let (full, lost_commits) = ((Kind::DiskFull, Some("web1")), (Kind::CommitsLost, None));
    let report = lost(&[full, lost_commits]);
    assert_eq!(report.violations, []);
    assert_eq!(report.excused["delivered from a full disk in a commit that was lost"], 1);
    let named = |kinds: &[(Kind, Option<&str>)]| {
        let violations = lost(kinds).violations;
        ["explained", "no result lost"].map(|promise| violations.iter().any(|found| found.promise == promise))
    };
    assert_eq!(named(&[full]), [true; 2], "the database did not lose it");
    assert_eq!(named(&[lost_commits]), [true; 2], "the keeper had it");
    assert_eq!(named(&[(Kind::DiskFull, Some("web2")), lost_commits]), [true; 2], "the disk of another host");
}

#[test]
fn a_process_that_ends_as_its_keeper_is_killed_may_be_lost() {
    let report = checked(|books| {
        let row = of(books, 1).0;
        (row.state, row.exit_code, row.reason) = ("lost".to_owned(), None, KEEPER.to_owned());
        books.faults.push(Fault {
            kind: Kind::KeeperKilled,
            host: Some("web1".to_owned()),
            from: 2 * SECOND,
            until: 2 * SECOND,
        });
    });
    assert_eq!(report.violations, []);
    assert_eq!(report.excused["ended as its keeper was killed"], 1);
}

#[test]
fn a_process_whose_keeper_is_killed_before_it_could_see_the_end_may_be_lost() {
    let paused = |host: &str, until: i64| {
        checked(|books| {
            let row = of(books, 1).0;
            (row.state, row.exit_code, row.reason) = ("lost".to_owned(), None, KEEPER.to_owned());
            for (kind, host, from, until) in
                [(Kind::KeeperPaused, host, 1, until), (Kind::KeeperKilled, "web1", 8, 8)]
            {
                let (from, until) = (from * SECOND, until * SECOND);
                books.faults.push(Fault { kind, host: Some(host.to_owned()), from, until });
            }
        })
    };
    let named = |report: Report| report.violations.iter().any(|found| found.promise == "no result lost");
    assert!(!named(paused("web1", 9)));
    assert!(named(paused("web1", 5)), "it had time to store it");
    assert!(named(paused("web2", 9)), "another keeper was paused");
}

#[test]
fn what_went_with_lost_commits_is_excused_and_what_came_later_is_not() {
    let lost = |from: i64| {
        checked(|books| {
            of(books, 1).1.claim_no = 11;
            books.rows.retain(|row| row.run_id != 1);
            run(books, 8, "skip", 0, "web2");
            books.calls[1].acknowledged = true;
            let (from, until) = (from * SECOND, (from + 1) * SECOND);
            books.faults.push(Fault { kind: Kind::CommitsLost, host: None, from, until });
        })
    };
    let report = lost(0);
    assert_eq!(report.violations, []);
    for excuse in
        ["claimed by a commit that was lost", "overlap with what was claimed by a commit that was lost"]
    {
        assert_eq!(report.excused[excuse], 1, "{excuse}");
    }
    assert_eq!(report.excused["asked for by a commit that was lost"], 1);
    let promises: Vec<_> = lost(5).violations.iter().map(|violation| violation.promise).collect();
    assert_eq!(promises, ["each call once", "no start without its row", "never twice at once"]);
}
