//! Several jobs at once: all are defined, or none, and what that changed is told.

use serde::Deserialize;

use super::output::{Column, Format, print_rows};
use crate::{
    db::client::{Call, Rows, Session},
    error::{Error, ErrorKind, Result},
};

/// A job as it should be.
pub(super) struct Wanted {
    /// Its name.
    pub(super) job: String,
    /// The call that makes it so.
    pub(super) call: Call,
    /// Where that is written: `crontab:7:1`.
    pub(super) place: String,
}

/// Whether a job of this name, which has these tags, may be replaced; else why not, and what would do.
pub(super) type Check<'a> = &'a dyn Fn(&str, &[String]) -> Result<(), (String, String)>;

#[derive(Deserialize)]
struct Defined {
    tags: Vec<String>,
    definition: String,
}

#[derive(Deserialize)]
struct Outcome {
    action: String,
    job: String,
}

/// Defines jobs in the transaction that is open; a row of each says what became of it. One that is so already is
/// not touched: neither its row nor the audit log shows that it was looked at.
pub(super) async fn define<'a>(
    wanted: impl IntoIterator<Item = &'a Wanted>,
    may_replace: Check<'_>,
    session: &Session,
) -> Result<Rows> {
    let mut told = Rows { now: 0.0, objects: Vec::new() };
    for one in wanted {
        let refused = |err: Error| err.within(format!("{}: job {:?} is refused", one.place, one.job));
        let before: Option<Defined> = session.definition(&one.job).await?.read()?.pop();
        if let Some(before) = &before {
            may_replace(&one.job, &before.tags)
                .map_err(|(message, hint)| refused(Error::new(ErrorKind::Failed, message).hint(hint)))?;
        }
        session.mark().await?;
        session.call(&one.call).await.map_err(refused)?;
        let rows = session.difference(&one.job, before.as_ref().map(|b| b.definition.as_str())).await?;
        let outcomes: Vec<Outcome> = rows.read()?;
        if outcomes.iter().all(|outcome| outcome.action == "unchanged") {
            session.undo().await?;
        } else {
            session.keep().await?;
        }
        told.now = rows.now;
        told.objects.extend(rows.objects);
    }
    Ok(told)
}

/// Prints what became of each job, and says of how many, with the rest of that sentence.
pub(super) fn print_outcomes(rows: &Rows, format: Format, rest: &str) -> Result<()> {
    let columns = [
        Column::text("action"),
        Column::text("job"),
        Column::prose("schedule"),
        Column::text("pool"),
        Column::prose("properties").titled("changed"),
    ];
    print_rows(rows, &columns, format, "no jobs")?;
    say_counts(rows, rest)
}

/// Says of how many jobs became what: `2 created, 1 unchanged`, and the rest of the sentence.
pub(super) fn say_counts(rows: &Rows, rest: &str) -> Result<()> {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for Outcome { action, .. } in rows.read()? {
        match counts.iter_mut().find(|(known, _)| *known == action) {
            Some((_, count)) => *count += 1,
            None => counts.push((action, 1)),
        }
    }
    if !counts.is_empty() {
        let counts: Vec<_> = counts.iter().map(|(action, count)| format!("{count} {action}")).collect();
        eprintln!("{}{rest}", counts.join(", "));
    }
    Ok(())
}

/// The names of the jobs in rows that tell outcomes.
pub(super) fn jobs_of(rows: &Rows) -> Result<Vec<String>> {
    Ok(rows.read()?.into_iter().map(|Outcome { job, .. }| job).collect())
}
