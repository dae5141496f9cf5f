//! What is withdrawn does not start, what is planned is what the definition of that time says.

use std::collections::HashMap;

use super::{
    super::{
        checker::{Report, Sorted},
        records::{Job, Kind, Row, SECOND},
        standing::{Stretch, What, stretches},
    },
    ends::told,
    processes::FORK,
};

type Ends<'a> = HashMap<(i64, &'a str), Vec<&'a Row>>;

/// No process begins later than `claim_ahead` after a change that withdrew its run; each runs by a definition that the
/// job had then, at a time of that definition.
pub(in super::super) fn withdrawn_stays_withdrawn(sorted: &Sorted<'_>, report: &mut Report) {
    for job in sorted.books.jobs.iter().filter(|job| job.changing) {
        let stretches = stretches(&sorted.books.changes, job.name);
        for process in sorted.books.processes.iter().filter(|process| process.job == job.name) {
            let mut withdrawn = None;
            for (stretch, (from, until)) in stretches.iter().filter_map(|s| Some((s, s.sure?))) {
                let latest = from.saturating_add(sorted.books.claim_ahead);
                let late = process.began.0 > latest + FORK + sorted.stalled(latest, process.began.0);
                let outdated = process.definition < stretch.standing.definition;
                if late && (outdated || !stretch.standing.is_active() && process.began.1 < until) {
                    withdrawn = Some((stretch, from));
                }
            }
            let paused = |from| sorted.was_broken(Some(&process.host), from, process.began.1, Kind::pauses);
            if withdrawn.is_some_and(|(_, from)| paused(from)) {
                report.excuse("started after its withdrawal by a guardian or keeper that was paused");
                withdrawn = None;
            }
            report.check("withdrawn means withdrawn", withdrawn.is_none(), || {
                format!("{process:?} began {} us after {withdrawn:?}", process.began.0 - withdrawn.unwrap().1)
            });
            let by = stretches.iter().find(|s| s.standing.definition == process.definition);
            let first = process.attempt == 1
                && sorted
                    .row_of(process)
                    .is_some_and(|row| row.origin == "schedule" && row.nominal == row.due);
            let fits = by.is_some_and(|by| {
                by.perhaps.0 <= process.began.1 && (!first || by.standing.rhythm.has(process.due))
            });
            let told = sorted.row_of(process).is_none_or(|row| row.definition == Some(process.definition));
            report.check("runs by its definition", fits && told, || {
                let row = sorted.row_of(process).map(|row| row.definition);
                format!("{process:?}, defined by {by:?}, its row says {row:?}")
            });
        }
    }
}

/// Each occurrence of what a job was at the time is told once, and no other.
pub(in super::super) fn told_as_it_stood(sorted: &Sorted<'_>, report: &mut Report) {
    for job in sorted.books.jobs.iter().filter(|job| job.changing) {
        let stretches = stretches(&sorted.books.changes, job.name);
        let targets: Vec<&str> =
            if job.all { sorted.books.hosts.iter().map(String::as_str).collect() } else { vec![""] };
        let ends = ends_of(sorted, job, &targets, &stretches, report);
        for ((at, target), rows) in &ends {
            let runs = rows.iter().filter(|row| row.state != "cancelled").count();
            let was_due = stretches.iter().any(|s| {
                let (from, until) = s.perhaps;
                let planned_until = until.saturating_add(sorted.books.plan_ahead);
                !s.standing.removed && s.standing.rhythm.has(*at) && from <= *at && *at <= planned_until
            });
            report.check("no occurrence twice", runs <= 1 && was_due, || {
                format!("{} at {at} on {target:?}, due {was_due}: {}", job.name, told(rows))
            });
        }
        for stretch in &stretches {
            for target in &targets {
                as_it_stood(sorted, job, stretch, target, &ends, report);
            }
        }
    }
}

fn as_it_stood(
    sorted: &Sorted<'_>,
    job: &Job,
    s: &Stretch,
    target: &str,
    ends: &Ends<'_>,
    report: &mut Report,
) {
    let Some((from, until)) = s.sure else { return };
    let span = sorted.books.span;
    let asked_before = |row: &Row, kind: fn(What) -> bool| {
        let met = until..=met_until(sorted, row);
        sorted
            .books
            .changes
            .iter()
            .any(|change| change.job == job.name && kind(change.what) && met.contains(&change.asked))
    };
    for at in s.standing.rhythm.between(from.max(span.0 - 1), until.min(span.1)) {
        let rows = ends.get(&(at, target)).map_or(&[][..], Vec::as_slice);
        let what = || format!("{} at {at} on {target:?} in {s:?}: {}", job.name, told(rows));
        if s.standing.removed {
            let planned_before = at <= from + sorted.books.plan_ahead;
            report.check("nothing of a removed job", planned_before || rows.is_empty(), what);
            continue;
        }
        let runs: Vec<&&Row> = rows.iter().filter(|row| row.state != "cancelled").collect();
        let withdrawn = runs.is_empty()
            && rows.iter().any(|row| {
                asked_before(row, |what| {
                    matches!(what, What::Alter(_) | What::Schedule(_) | What::Unschedule)
                })
            });
        report.check("each occurrence of a changing job", runs.len() == 1 || withdrawn, what);
        let Some(row) = runs.first() else { continue };
        let skipped = row.state == "skipped" && row.reason.contains("suspended");
        if s.standing.suspended {
            let claimed_before = at <= from + sorted.books.claim_ahead;
            report.check("suspended means skipped", claimed_before || skipped, what);
        } else {
            let suspended = asked_before(row, |what| what == What::Suspend);
            report.check("resumed means run", !skipped || suspended, what);
        }
    }
}

/// Until when a change can have been asked for that a row knows of: a row is of the moment at which its transaction began,
/// which may meet what has been committed since.
fn met_until(sorted: &Sorted<'_>, row: &Row) -> i64 {
    row.recorded + SECOND + sorted.stalled(row.recorded, row.recorded + SECOND)
}

/// The rows that stand for each occurrence and target.
fn ends_of<'a>(
    sorted: &Sorted<'a>,
    job: &Job,
    targets: &[&'a str],
    stretches: &[Stretch],
    report: &mut Report,
) -> Ends<'a> {
    let mut ends: Ends<'a> = HashMap::new();
    let rows = sorted.by_run.values().flatten();
    for row in rows.filter(|row| row.job == job.name && row.origin == "schedule" && row.is_final) {
        let Some(last) = row.last_due else {
            let target = if job.all { row.host.as_deref().unwrap_or("nowhere") } else { "" };
            ends.entry((row.nominal, target)).or_default().push(row);
            continue;
        };
        // By the rhythm of one of its definitions.
        let covered = stretches.iter().find_map(|s| {
            let rhythm = s.standing.rhythm;
            let covered: Vec<i64> = rhythm.between(row.nominal - 1, last + 1).collect();
            let whole = rhythm.has(row.nominal) && rhythm.has(last);
            (whole && covered.len() as i64 == row.occurrences).then_some(covered)
        });
        report.check("rows count what they stand for", covered.is_some(), || told(&[row]));
        for at in covered.unwrap_or_default() {
            for target in targets {
                ends.entry((at, target)).or_default().push(row);
            }
        }
    }
    ends
}

/// Whether a change accounts for a row that says so; the first one withdraws nothing.
pub(super) fn explains(sorted: &Sorted<'_>, row: &Row) -> bool {
    let kinds: fn(What) -> bool = match row.state.as_str() {
        "cancelled" if row.reason.starts_with("withdrawn by version") => {
            |what| matches!(what, What::Alter(_) | What::Schedule(_))
        }
        "cancelled" if row.reason.starts_with("the job was unscheduled") => |what| what == What::Unschedule,
        "skipped" if row.reason.contains("suspended") => |what| what == What::Suspend,
        _ => return false,
    };
    sorted
        .books
        .changes
        .iter()
        .filter(|change| change.number > 0 && change.job == row.job)
        .any(|change| kinds(change.what) && change.asked <= met_until(sorted, row))
}
