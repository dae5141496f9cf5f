//! Each run has exactly one end, and the end has a cause.

use super::super::{
    checker::{Report, Sorted, died_with_its_keeper, was_forgotten, was_given_up},
    records::{Kind, Row, SECOND},
};

/// A call that nobody answers is given up after 12 s.
const GOT_OVER: i64 = 12 * SECOND;

/// One final row a run, the last attempt's, with no attempt left out; nothing is still alive.
pub(in super::super) fn one_end_each(sorted: &Sorted<'_>, report: &mut Report) {
    for (run_id, rows) in &sorted.by_run {
        let finals = rows.iter().filter(|row| row.is_final).count();
        let last_is_final = rows.last().is_some_and(|row| row.is_final);
        report.check("one end each", finals == 1 && last_is_final, || {
            format!("run {run_id} has {finals} final rows: {}", told(rows))
        });
        let first = rows.first().map_or(0, |row| row.attempt);
        let numbered = rows.iter().zip(first..).all(|(row, number)| row.attempt == number);
        report.check("attempts are numbered", numbered && first <= 1, || {
            format!("run {run_id}: {}", told(rows))
        });
    }
    for run_id in &sorted.books.live {
        report.check("one end each", false, || format!("run {run_id} has not ended"));
    }
}

/// The state of each row fits what it says, and what was broken at the time.
pub(in super::super) fn explained(sorted: &Sorted<'_>, report: &mut Report) {
    for row in &sorted.books.rows {
        let fits = !row.reason.is_empty() && fits(sorted, row);
        report.check("explained", fits, || told(&[row]));
    }
}

fn fits(sorted: &Sorted<'_>, row: &Row) -> bool {
    let Some(job) = sorted.jobs.get(row.job.as_str()) else { return false };
    let unstarted = row.attempt == 0 && row.exit_code.is_none() && row.signal.is_none();
    match row.state.as_str() {
        "succeeded" => row.attempt > 0 && row.exit_code == Some(0),
        "failed" if row.exit_code.is_some() => row.exit_code != Some(0),
        // It could not be started; nobody sends signals to processes.
        "failed" => row.signal.is_none() && broken(sorted, row, |kind| kind == Kind::DiskFull),
        "timed_out" => job.max_runtime.is_some(),
        "cancelled" | "skipped" if unstarted && super::changes::explains(sorted, row) => true,
        // Claimed, asked to end, and given back unstarted.
        "cancelled" => unstarted && job.overlap == "replace" && row.reason.contains("replaced by run"),
        "terminated" => job.overlap == "replace" && row.reason.contains("replaced by run"),
        "skipped" => {
            unstarted
                && (job.exclusive() && row.reason.starts_with("overlap")
                    || row.reason.starts_with("passed over after a downtime"))
        }
        "expired" => unstarted && (job.ttl.is_some() || job.period.is_some()),
        "lost" => {
            was_given_up(row) && fell_silent(sorted, row)
                || died_with_its_keeper(row) && (lost_its_keeper(sorted, row) || was_forgotten(sorted, row))
                // Ended a grace before the lease ends.
                || job.fenced
                    && was_kept_from_its_lease(sorted, row, row.finished + SECOND, Kind::hides_the_lease)
        }
        _ => false,
    }
}

/// Whether something keeps the row's host from being heard of for the lease that was over when this was recorded: also
/// when the server was away as it began, and the host could not reach it once it was back.
fn fell_silent(sorted: &Sorted<'_>, row: &Row) -> bool {
    let kept = |by: fn(Kind) -> bool| was_kept_from_its_lease(sorted, row, row.recorded, by);
    let during = (row.recorded - sorted.books.lease, row.recorded);
    kept(Kind::silences)
        || kept(Kind::takes_the_server_away)
            && sorted.was_broken(row.host.as_deref(), during.0, during.1, Kind::silences)
}

/// Whether something that can keep the row's host from renewing a lease that ends at some moment did: it was broken when
/// the lease began or, while it is being got over, before.
fn was_kept_from_its_lease(sorted: &Sorted<'_>, row: &Row, at: i64, by: impl Fn(Kind) -> bool) -> bool {
    let begun = at - sorted.books.lease;
    let noticed = SECOND + sorted.stalled(begun, at);
    sorted.was_broken(row.host.as_deref(), begun - GOT_OVER, begun + noticed, by)
}

/// Whether the keeper died that had the row's run, or would have had it: a claim goes to the keeper of the moment in which
/// it was asked for. Or it hung, and the host registered without it, so that nobody can say that the run never started.
fn lost_its_keeper(sorted: &Sorted<'_>, row: &Row) -> bool {
    let claimed = row.claimed.unwrap_or(row.recorded);
    let asked = asked(sorted, row, claimed);
    let unstarted = row.reason.ends_with("(may have started)");
    sorted.was_broken(row.host.as_deref(), asked - SECOND, row.recorded, |kind| {
        kind.ends_the_keeper() || unstarted && kind == Kind::KeeperPaused
    })
}

/// When a call may have been sent that the server got at some moment: what is sent into a cut network arrives when it is
/// mended, even from a host that has crashed since.
fn asked(sorted: &Sorted<'_>, row: &Row, arrived: i64) -> i64 {
    let cut = sorted.books.faults.iter().find(|fault| {
        let mended_then = (fault.until.saturating_sub(arrived)).abs() <= SECOND;
        fault.kind == Kind::NetworkCut && fault.host == row.host && mended_then
    });
    cut.map_or(arrived, |fault| fault.from.min(arrived))
}

/// Whether something was broken between the claim and the row; a lease runs out some time after.
fn broken(sorted: &Sorted<'_>, row: &Row, kind: impl Fn(Kind) -> bool) -> bool {
    let from = row.claimed.unwrap_or(row.recorded) - sorted.books.lease - SECOND;
    sorted.was_broken(row.host.as_deref(), from, row.recorded, kind)
}

/// Another attempt follows only what may be retried, and no more often than the job allows.
pub(in super::super) fn retried_as_asked(sorted: &Sorted<'_>, report: &mut Report) {
    for rows in sorted.by_run.values() {
        let Some(job) = rows.first().and_then(|row| sorted.jobs.get(row.job.as_str())) else { continue };
        for row in rows.iter().filter(|row| !row.is_final) {
            let may = row.attempt <= job.retries
                && match row.state.as_str() {
                    "failed" | "timed_out" => true,
                    "lost" => job.retry_on_lost,
                    _ => false,
                };
            report.check("retried as asked", may, || told(&[row]));
        }
    }
}

pub(super) fn told(rows: &[&Row]) -> String {
    let one = |row: &&Row| {
        format!(
            "run {} of {} on {}, attempt {} under claim {:?} of {:?}: {} {:?} {:?} ({}), final {}, late {:?}, recorded {}",
            row.run_id,
            row.job,
            row.host.as_deref().unwrap_or("-"),
            row.attempt,
            row.claim_no,
            row.claimed,
            row.state,
            row.exit_code,
            row.signal,
            row.reason,
            row.is_final,
            row.late_exit_code,
            row.recorded
        )
    };
    rows.iter().map(one).collect::<Vec<_>>().join("; ")
}
