//! The resource limits of a run.
#![allow(unsafe_code)]

use nix::libc;
use syscalls::{Errno, Sysno, syscall};

use super::{protocol::RunSpec, state::Fault};

/// What a run may use at most.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Limits {
    /// Bytes, of all its processes together where there are control groups.
    pub(super) memory: Option<u64>,
    /// Processors.
    pub(super) cpu: Option<f64>,
    pub(super) nice: Option<i32>,
    pub(super) open_files: Option<u64>,
    /// Bytes of data of each process: what is left to do about memory without control groups.
    pub(super) data: Option<u64>,
}

impl Limits {
    /// Of a run; what is unknown is refused, never ignored.
    pub(super) fn of(spec: &RunSpec) -> Result<Self, Fault> {
        let mut limits = Self::default();
        for (name, value) in spec.limits.iter().flatten() {
            let wrong = || Fault::Policy(format!("limit {name:?} cannot be {value}"));
            match name.as_str() {
                _ if value.is_null() => {}
                "memory" => limits.memory = Some(value.as_u64().ok_or_else(wrong)?),
                "cpu" => {
                    limits.cpu = Some(value.as_f64().filter(|cpu| *cpu > 0.0).ok_or_else(wrong)?);
                }
                "nice" => {
                    let nice = value.as_i64().filter(|nice| (-20..=19).contains(nice));
                    limits.nice = Some(nice.ok_or_else(wrong)? as i32);
                }
                "open_files" => limits.open_files = Some(value.as_u64().ok_or_else(wrong)?),
                // The database has already turned it into the run's output_limit.
                "output" => {}
                _ => return Err(Fault::Policy(format!("limit {name:?} is not known to this host"))),
            }
        }
        Ok(limits)
    }

    /// The same where no control group counts the memory of a run as a whole.
    pub(super) fn process_by_process(self) -> Self {
        Self { data: self.memory, ..self }
    }

    /// Sets for this process what is set process by process; `check` sees the result of each call.
    ///
    /// # Safety
    /// Made for a child between fork and exec: plain system calls only.
    pub(super) unsafe fn apply(&self, inherited_files: &libc::rlimit, check: impl Fn(Result<usize, Errno>)) {
        let set = |resource: u32, limit: &libc::rlimit| {
            // SAFETY: numbers and a pointer to a limit that outlives the call.
            check(unsafe { syscall!(Sysno::prlimit64, 0, resource, std::ptr::from_ref(limit), 0) });
        };
        let at_most = |most| libc::rlimit { rlim_cur: most, rlim_max: most };
        set(libc::RLIMIT_NOFILE, &self.open_files.map_or(*inherited_files, at_most));
        if let Some(bytes) = self.data {
            set(libc::RLIMIT_DATA, &at_most(bytes));
        }
        if let Some(nice) = self.nice {
            // SAFETY: numbers.
            check(unsafe { syscall!(Sysno::setpriority, libc::PRIO_PROCESS, 0, nice) });
        }
    }
}
