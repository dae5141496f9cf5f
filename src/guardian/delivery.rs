//! Results on their way into the database: times, batches, and what a database cannot hold.

use tokio::time::error::Elapsed;
use tokio_postgres::error::SqlState;

use super::{clock::Clock, told};
use crate::{
    db::{
        Api,
        messages::{Answer, Finish, Start},
    },
    error::{Error, Result},
    keeper::protocol::{RunResult, Started},
    observe::event,
    sqlstate,
};

/// A start at database time; none while the database's clock is not known.
pub(super) fn start(started: &Started, clock: &Clock, boot_id: &str) -> Option<Start> {
    Some(Start {
        run_id: started.key.run_id,
        claim_no: started.key.claim_no,
        pid: started.pid,
        started_at: clock.timestamp(&started.started, boot_id)?,
    })
}

/// An end at database time; none while the database's clock is not known.
pub(super) fn finish(end: &RunResult, clock: &Clock, boot_id: &str) -> Option<Finish> {
    let started_at = match &end.started {
        Some(time) => Some(clock.timestamp(time, boot_id)?),
        None => None,
    };
    Some(Finish {
        run_id: end.key.run_id,
        claim_no: end.key.claim_no,
        exit_code: end.exit_code,
        signal: end.signal,
        ended_by: end.ended_by.map(|word| word.as_str()),
        reason: end.reason.clone(),
        started_at,
        finished_at: clock.timestamp(&end.finished, boot_id)?,
        stdout: Some(end.stdout.clone()),
        stderr: Some(end.stderr.clone()),
        result: end.result.clone(),
        cpu_user: end.cpu_user,
        cpu_system: end.cpu_system,
        peak_memory: end.peak_memory,
    })
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    pub(super) answers: Vec<(i64, Answer)>,
    /// Claims whose result the database takes in no form.
    pub(super) unstorable: Vec<i64>,
}

/// Delivers a batch. When it holds a value that the database cannot take, it is split until the bad one
/// stands alone, which is then delivered without that value. A claim that got no answer is to be sent
/// again.
pub(super) async fn deliver(api: Api<'_>, guardian: i64, ends: Vec<Finish>) -> Result<Delivered> {
    let mut delivered = Delivered::default();
    let mut batches = vec![ends];
    while let Some(mut batch) = batches.pop() {
        match api.finish_job(guardian, &batch).await {
            Ok(answers) => delivered.answers.extend(answers),
            Err(err) if !is_bad_value(&err) => return Err(err),
            Err(_) if batch.len() > 1 => {
                batches.push(batch.split_off(batch.len() / 2));
                batches.push(batch);
            }
            Err(err) => {
                let end = batch.remove(0);
                let (run_id, claim_no) = (end.run_id, end.claim_no);
                match plainer(end, &err) {
                    Some(end) => batches.push(vec![end]),
                    None => {
                        tracing::error!(event = event::RUN_UNSTORABLE, run_id, error = %told(&err), "a result cannot be stored in any form");
                        delivered.unstorable.push(claim_no);
                    }
                }
            }
        }
    }
    Ok(delivered)
}

/// The same end with less in it, and the reason why; none when there is nothing left to leave out.
fn plainer(mut end: Finish, err: &Error) -> Option<Finish> {
    let note = if is_foreign_character(err) && in_ascii(&mut end) {
        format!("\"?\" stands for what is not ASCII: {err}")
    } else if end.result.take().is_some() {
        format!("its result could not be stored: {err}")
    } else if end.stdout.take().is_some() | end.stderr.take().is_some() {
        format!("its output could not be stored: {err}")
    } else {
        return None;
    };
    end.reason = Some(match end.reason {
        Some(reason) => format!("{reason}; {note}"),
        None => note,
    });
    Some(end)
}

/// Puts a question mark for each other character of its texts; whether there was one.
fn in_ascii(end: &mut Finish) -> bool {
    let mut changed = false;
    for text in [&mut end.stdout, &mut end.stderr, &mut end.reason].into_iter().flatten() {
        if !text.is_ascii() {
            *text = text.replace(|c: char| !c.is_ascii(), "?");
            changed = true;
        }
    }
    changed
}

/// Whether the server ended the call, or the client gave up on it.
pub(super) fn took_too_long(err: &Error) -> bool {
    let cause = std::error::Error::source(err);
    err.code() == Some(sqlstate::QUERY_CANCELED) || cause.is_some_and(|cause| cause.is::<Elapsed>())
}

/// Whether a text holds what the encoding of the database has not.
fn is_foreign_character(err: &Error) -> bool {
    let codes = [SqlState::UNTRANSLATABLE_CHARACTER, SqlState::CHARACTER_NOT_IN_REPERTOIRE];
    codes.iter().any(|code| err.code() == Some(code.code()))
}

/// Whether the values and not the circumstances are to blame.
fn is_bad_value(err: &Error) -> bool {
    let Some(code) = err.code() else { return false };
    code.starts_with("22")
        || code.starts_with("54")
        || [SqlState::CHECK_VIOLATION.code(), SqlState::NOT_NULL_VIOLATION.code()].contains(&code)
}
