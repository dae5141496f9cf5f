//! What processes say about themselves, beside what the history says about them.

use std::collections::HashMap;

use super::{
    super::{
        checker::{Report, Sorted, was_forgotten, was_given_up},
        records::{Kind, Process, Row, SECOND},
    },
    ends::told,
};

/// The age of a process is told in hundredths of a second, twice.
const TICK: i64 = 20_000;
/// From the look at the clock to the fork, on a machine that is busy.
pub(super) const FORK: i64 = 250_000;

/// No process without its row, no result without its process, no claim with two.
pub(in super::super) fn known(sorted: &Sorted<'_>, report: &mut Report) {
    let mut times: HashMap<(i64, i64), usize> = HashMap::new();
    for process in &sorted.books.processes {
        *times.entry((process.run_id, process.claim_no)).or_default() += 1;
        let row = sorted.row_of(process);
        if row.is_none() && sorted.was_forgotten(process.began.1) {
            report.excuse("claimed by a commit that was lost");
            continue;
        }
        let same = row.is_some_and(|row| {
            (row.attempt, row.due, row.token) == (process.attempt, process.due, process.token)
                && (row.job.as_str(), row.host.as_deref()) == (&process.job, Some(&process.host))
        });
        report.check("no start without its row", same, || {
            let rows = sorted.by_run.get(&process.run_id).map_or(&[][..], Vec::as_slice);
            format!("{process:?}; of its run there are: {}", told(rows))
        });
    }
    for ((run_id, claim_no), times) in times {
        report.check("a claim starts once", times == 1, || format!("run {run_id} claim {claim_no}: {times}"));
    }
    for row in &sorted.books.rows {
        let Some(code) = row.exit_code.or(row.late_exit_code) else { continue };
        let told_by = sorted.process_of(row).and_then(|process| process.ended);
        report.check("no result without its process", told_by.is_some_and(|(_, told)| told == code), || {
            format!("{} ended {told_by:?}", told(&[row]))
        });
    }
}

/// No start before it is due; no first start once its ttl has passed.
pub(in super::super) fn on_time(sorted: &Sorted<'_>, report: &mut Report) {
    for process in &sorted.books.processes {
        let (earliest, latest) = process.began;
        report.check("never early", latest + TICK >= process.due, || {
            format!("{process:?} began {} us early", process.due - latest)
        });
        let Some(row) = sorted.row_of(process).filter(|_| process.attempt == 1) else { continue };
        let ttl = sorted.jobs.get(row.job.as_str()).and_then(|job| job.ttl);
        if let (Some(ttl), true) = (ttl, row.origin == "schedule") {
            let promised = row.expires == Some(process.due + ttl * SECOND);
            report.check("ttl counts from due", promised, || told(&[row]));
        }
        if let Some(expires) = row.expires {
            report.check(
                "never stale",
                earliest - TICK < expires + FORK + sorted.stalled(expires, earliest),
                || format!("{process:?} began {} us after its end {expires}", earliest - expires),
            );
        }
    }
}

/// No two processes of one run, nor of one target of an exclusive job, live at once. The one exception: the host of
/// the earlier one was silent for a lease, its run was given up for that reason before the later one began, and
/// the job is not fenced; for a second process of the same run it must also ask for `retry_on_lost`. And after a
/// failover that lost commits nobody knows of the claims among them.
pub(in super::super) fn alone(sorted: &Sorted<'_>, report: &mut Report) {
    let mut groups: HashMap<(&str, i64, &str), Vec<&Process>> = HashMap::new();
    for process in &sorted.books.processes {
        let Some(job) = sorted.jobs.get(process.job.as_str()) else { continue };
        let target = if job.all { process.host.as_str() } else { "" };
        let run = if job.exclusive() { 0 } else { process.run_id };
        groups.entry((job.name, run, target)).or_default().push(process);
    }
    for group in groups.values_mut() {
        group.sort_by_key(|process| process.began);
        for (number, later) in group.iter().enumerate() {
            for earlier in group[..number].iter().filter(|p| p.seen > later.began.1 + TICK) {
                let forgotten = [earlier, later]
                    .iter()
                    .any(|p| sorted.row_of(p).is_none() && sorted.was_forgotten(p.began.1));
                let may = forgotten || may_overlap(sorted, earlier, later);
                if may {
                    report.excuse(if forgotten {
                        "overlap with what was claimed by a commit that was lost"
                    } else {
                        "overlap after a host was given up"
                    });
                }
                report.check("never twice at once", may, || {
                    let row = sorted.row_of(earlier).map_or_else(String::new, |row| told(&[row]));
                    format!("{earlier:?} ({row}) lives while {later:?} begins")
                });
            }
            report.check("never twice at once", true, String::new);
        }
    }
}

fn may_overlap(sorted: &Sorted<'_>, earlier: &Process, later: &Process) -> bool {
    let (Some(row), Some(job)) = (sorted.row_of(earlier), sorted.jobs.get(earlier.job.as_str())) else {
        return false;
    };
    let same_run = earlier.run_id == later.run_id;
    was_given_up(row)
        && row.recorded <= later.began.1 + TICK
        && !job.fenced
        && (!same_run || job.retry_on_lost && earlier.attempt < later.attempt)
}

/// Whoever wrote how it ended has that end in the history: as its result, or beside a later attempt.
pub(in super::super) fn true_results(sorted: &Sorted<'_>, report: &mut Report) {
    for process in &sorted.books.processes {
        let (Some((at, code)), Some(row)) = (process.ended, sorted.row_of(process)) else { continue };
        let recorded = row.exit_code == Some(code) && row.state != "lost";
        let excuse = (!recorded && row.late_exit_code != Some(code)).then(|| excuse(sorted, row, at));
        if let Some(Some(name)) = excuse {
            report.excuse(name);
        }
        report.check("no result lost", excuse != Some(None), || {
            format!("{process:?} is recorded as {}", told(&[row]))
        });
    }
}

/// Why a process that wrote its last line may have another end in the history.
fn excuse(sorted: &Sorted<'_>, row: &Row, at: i64) -> Option<&'static str> {
    let fenced = sorted.jobs.get(row.job.as_str()).is_some_and(|job| job.fenced);
    let stopped = matches!(row.state.as_str(), "timed_out" | "terminated") || row.state == "lost" && fenced;
    let moment = SECOND + sorted.stalled(at, at + SECOND);
    if stopped && row.exit_code.is_none() && (row.finished - at).abs() < moment {
        return Some("stopped between its last line and its exit");
    }
    // Its keeper died before it could store the end, or before it could see it.
    let host = row.host.as_deref();
    let paused = sorted.books.faults.iter().filter(|fault| {
        fault.kind == Kind::KeeperPaused
            && fault.host.as_deref() == host
            && (fault.from..=fault.until).contains(&at)
    });
    let unseen_until = paused.map(|fault| fault.until).max().unwrap_or(at);
    let killed =
        sorted.was_broken(host, at - SECOND / 10, unseen_until.saturating_add(moment), Kind::ends_the_keeper);
    if row.state == "lost" && killed {
        return Some("ended as its keeper was killed");
    }
    was_forgotten(sorted, row).then_some("delivered from a full disk in a commit that was lost")
}
