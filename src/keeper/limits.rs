//! The resource limits of a run.
#![allow(unsafe_code)]

use nix::libc;

use super::{protocol::RunSpec, state::Fault};

/// What the child sets before it executes the program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Limits {
    nice: Option<i32>,
    open_files: Option<u64>,
}

impl Limits {
    /// Of a run; what is not supported is refused, never ignored.
    pub(super) fn of(spec: &RunSpec) -> Result<Self, Fault> {
        let mut limits = Self::default();
        for (name, value) in spec.limits.iter().flatten() {
            let wrong = || Fault::Policy(format!("limit {name:?} cannot be {value}"));
            match name.as_str() {
                _ if value.is_null() => {}
                "nice" => {
                    let nice = value.as_i64().filter(|nice| (-20..=19).contains(nice));
                    limits.nice = Some(nice.ok_or_else(wrong)? as i32);
                }
                "open_files" => limits.open_files = Some(value.as_u64().ok_or_else(wrong)?),
                // The database has already turned it into the run's output_limit.
                "output" => {}
                _ => {
                    return Err(Fault::Policy(format!("limit {name:?} is not supported yet on this host")));
                }
            }
        }
        Ok(limits)
    }

    /// Sets them for this process; `check` sees the result of each call.
    ///
    /// # Safety
    /// Made for a forked child: setpriority and setrlimit only, no allocation.
    pub(super) unsafe fn apply(&self, inherited_files: &libc::rlimit, check: impl Fn(i32)) {
        let mut files = *inherited_files;
        if let Some(wanted) = self.open_files {
            (files.rlim_cur, files.rlim_max) = (wanted, wanted);
        }
        // SAFETY: plain numbers and a pointer to a local.
        unsafe {
            check(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const files));
            if let Some(nice) = self.nice {
                check(libc::setpriority(libc::PRIO_PROCESS, 0, nice));
            }
        }
    }
}
