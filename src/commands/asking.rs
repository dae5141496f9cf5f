//! What several commands ask of a job or a run, and how they tell it.

use serde_json::{Map, Value};

use super::{amount, output};
use crate::{
    db::client::{Call, Rows},
    error::Result,
};

/// The next occurrences of a job; an unknown name is refused, with the nearest one.
pub(super) fn preview(name: &str, n: &str) -> Call {
    Call::new("preview").arg("name", "text", name).arg("n", "int", n)
}

/// A sentence that begins after "run N".
pub(super) fn explain_run(run_id: i64) -> Call {
    Call::new("explain_run").arg("run_id", "bigint", run_id.to_string())
}

/// What a job's rows say of its suspension; `with_runs`: occurrences are listed under it.
pub(super) fn suspension(job: &Rows, with_runs: bool) -> Result<Option<String>> {
    let Some([overview, definition]) = rows_of_job(job)? else { return Ok(None) };
    if overview.get("state").is_none_or(|state| state != "suspended") {
        return Ok(None);
    }
    let until = suspended_until(job)?.map(|until| format!(" until {until}"));
    let why = definition.get("suspend_reason").and_then(Value::as_str);
    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
    let runs = match (&until, with_runs) {
        (None, true) => "; these do not run",
        (Some(_), true) => "; what is due before does not run",
        (_, false) => "",
    };
    Ok(Some(format!("suspended{}{why}{runs}", until.unwrap_or_default())))
}

/// When the suspension of a job ends by itself.
pub(super) fn suspended_until(job: &Rows) -> Result<Option<String>> {
    let until = rows_of_job(job)?.and_then(|[_, definition]| definition.get("suspended_until").cloned());
    Ok(until.as_ref().and_then(Value::as_str).map(amount::instant))
}

/// Why a job that is not suspended has no occurrence to come.
pub(super) fn nothing_to_come(name: &str, job: &Rows) -> Result<String> {
    let on_demand =
        rows_of_job(job)?.is_some_and(|[overview, _]| overview.get("schedule").is_none_or(Value::is_null));
    Ok(match on_demand {
        true => format!("it runs on demand: sisyphus run {}", output::shell_word(name)),
        // On all hosts of a pool that has none, or past its end.
        false => "no run is to come as things are".to_owned(),
    })
}

/// How a job is, and how it is defined.
fn rows_of_job(job: &Rows) -> Result<Option<[Map<String, Value>; 2]>> {
    match &job.objects[..] {
        [overview, definition] => Ok(Some([output::object(overview)?, output::object(definition)?])),
        _ => Ok(None),
    }
}
