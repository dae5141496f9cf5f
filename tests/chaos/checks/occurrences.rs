//! Each occurrence of each schedule is in the history, once a target; each call made its runs, once.

use std::collections::HashMap;

use super::{
    super::{
        checker::{Report, Sorted},
        records::{Job, Row, SECOND},
    },
    ends::told,
};

/// Each occurrence has a run of its own on each target, or one row that stands for several occurrences.
pub(in super::super) fn each_accounted_for(sorted: &Sorted<'_>, report: &mut Report) {
    for job in &sorted.books.jobs {
        let Some(period) = job.period.filter(|_| !job.changing) else { continue };
        let targets: Vec<&str> =
            if job.all { sorted.books.hosts.iter().map(String::as_str).collect() } else { vec![""] };
        let mut ends = ends_of(sorted, job, period, &targets, report);
        for at in occurrences(sorted.books.span, period) {
            for target in &targets {
                let runs = ends.remove(&(at, *target)).unwrap_or_default();
                report.check("each occurrence once", runs.len() == 1, || {
                    format!("{} at {} on {target:?} has runs {runs:?}", job.name, at / SECOND)
                });
            }
        }
        for ((at, target), runs) in ends {
            report.check("each occurrence once", false, || {
                format!("{} is not due at {at} on {target:?}, but has runs {runs:?}", job.name)
            });
        }
    }
}

/// The runs that ended for each occurrence and target.
fn ends_of<'a>(
    sorted: &Sorted<'a>,
    job: &Job,
    period: i64,
    targets: &[&'a str],
    report: &mut Report,
) -> HashMap<(i64, &'a str), Vec<i64>> {
    let mut ends: HashMap<(i64, &str), Vec<i64>> = HashMap::new();
    let of_job = |row: &&&Row| row.job == job.name && row.origin == "schedule" && row.is_final;
    for row in sorted.by_run.values().flatten().filter(of_job) {
        let Some(last) = row.last_due else {
            let target = if job.all { row.host.as_deref().unwrap_or("nowhere") } else { "" };
            ends.entry((row.nominal, target)).or_default().push(row.run_id);
            continue;
        };
        let covered: Vec<i64> = occurrences((row.nominal, last + 1), period).collect();
        report.check("rows count what they stand for", covered.len() as i64 == row.occurrences, || {
            format!("{} stands for {} of {}", told(&[row]), row.occurrences, covered.len())
        });
        for at in covered {
            for target in targets {
                ends.entry((at, *target)).or_default().push(row.run_id);
            }
        }
    }
    ends
}

/// From the first moment, before the second.
pub(in super::super) fn occurrences(span: (i64, i64), period: i64) -> impl Iterator<Item = i64> {
    let period = period * SECOND;
    let first = span.0.div_euclid(period) + i64::from(span.0.rem_euclid(period) != 0);
    (first..).map(move |number| number * period).take_while(move |at| *at < span.1)
}

/// What was acknowledged ran or ended otherwise, once; what was not did as a whole or not at all.
pub(in super::super) fn what_was_asked_for(sorted: &Sorted<'_>, report: &mut Report) {
    let mut ends: HashMap<(&str, i64), usize> = HashMap::new();
    for row in sorted.books.rows.iter().filter(|row| row.is_final && row.origin != "schedule") {
        if let Some(token) = row.token {
            *ends.entry((&row.job, token)).or_default() += 1;
        }
        let asked = row.token.is_some_and(|token| {
            sorted.books.calls.iter().any(|call| call.job == row.job && call.tokens.contains(&token))
        });
        report.check("only what was asked for", asked, || told(&[row]));
    }
    for call in &sorted.books.calls {
        let times: Vec<usize> = call
            .tokens
            .iter()
            .map(|token| ends.get(&(call.job, *token)).copied().unwrap_or_default())
            .collect();
        let mut none = times.iter().all(|times| *times == 0);
        if none && call.acknowledged && sorted.was_forgotten(call.at) {
            report.excuse("asked for by a commit that was lost");
        } else {
            none &= !call.acknowledged;
        }
        report.check("each call once", none || times.iter().all(|times| *times == 1), || {
            format!("{call:?} ended {times:?} times")
        });
    }
}
