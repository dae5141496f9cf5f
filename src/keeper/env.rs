//! The environment of a job, built from nothing.

use std::{collections::BTreeMap, ffi::CString, path::Path};

use chrono::{DateTime, SecondsFormat};
use serde_json::Value;
use uuid::Uuid;

use super::{accounts::Account, protocol::Start, state::Fault};

/// Where programs are looked for unless the job's `env` says otherwise.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The longest payload that is also given as a variable; exec refuses a variable over 128 KiB.
const PAYLOAD_LIMIT: usize = 32 << 10;

/// A finished environment.
#[derive(Debug)]
pub(super) struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    /// HOME, LOGNAME, SHELL, PATH, LANG, then the job's own variables, then what Sisyphus says.
    pub(super) fn build(
        start: &Start,
        account: &Account,
        lang: &str,
        keeper: Uuid,
        result_file: &Path,
    ) -> Result<Self, Fault> {
        let mut variables: BTreeMap<String, String> = [
            ("HOME", account.home.as_str()),
            ("LOGNAME", &account.name),
            ("SHELL", "/bin/sh"),
            ("PATH", PATH),
            ("LANG", lang),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        for (name, value) in start.spec.env.iter().flatten() {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(Fault::Spawn(format!("cannot set the environment variable {name:?}")));
            }
            match value {
                Value::Null => drop(variables.remove(name)),
                Value::String(text) => drop(variables.insert(name.clone(), text.clone())),
                other => drop(variables.insert(name.clone(), other.to_string())),
            }
        }
        let spec = &start.spec;
        let mut say = |name: &str, value: String| variables.insert(format!("SISYPHUS_{name}"), value);
        say("JOB", spec.job.clone());
        say("RUN_ID", spec.run_id.to_string());
        say("ATTEMPT", spec.attempt.to_string());
        say("CLAIM", spec.claim_no.to_string());
        say("KEEPER", keeper.to_string());
        say("HOST", start.host.clone());
        say("RESULT_FILE", result_file.to_string_lossy().into_owned());
        if let Some(due) = DateTime::from_timestamp_micros(spec.due_us) {
            say("DUE_AT", due.to_rfc3339_opts(SecondsFormat::AutoSi, true));
        }
        match &spec.payload {
            Some(payload) if payload.get().len() <= PAYLOAD_LIMIT => {
                say("PAYLOAD", payload.get().to_owned());
            }
            _ => drop(variables.remove("SISYPHUS_PAYLOAD")),
        }
        Ok(Self { variables })
    }

    /// Where a program named without a slash is looked for.
    pub(super) fn path(&self) -> &str {
        self.variables.get("PATH").map_or(PATH, String::as_str)
    }

    /// As exec takes it.
    pub(super) fn to_strings(&self) -> Result<Vec<CString>, Fault> {
        self.variables
            .iter()
            .map(|(name, value)| {
                CString::new(format!("{name}={value}"))
                    .map_err(|_| Fault::Spawn(format!("the environment variable {name:?} holds a NUL byte")))
            })
            .collect()
    }
}
