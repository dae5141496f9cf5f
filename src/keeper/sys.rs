//! The few system calls of the keeper that nix does not wrap.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString},
    fs::File,
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use nix::{
    errno::Errno,
    libc,
    sys::signal::{SigHandler, Signal},
    unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout},
};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    Code(i32),
    Signal(i32),
}

/// What a process used, itself and the children it waited for.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Usage {
    pub(super) cpu_user: f64,
    pub(super) cpu_system: f64,
    pub(super) peak_memory: i64,
}

/// A descriptor of a process; it stays that process even after the pid is used again.
pub(super) fn pidfd_open(pid: Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: plain numbers in; the descriptor that comes out is new and owned by nobody else.
    unsafe {
        let fd = Errno::result(libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0))?;
        Ok(OwnedFd::from_raw_fd(fd as i32))
    }
}

/// An extended attribute of a file; none when it has none of this name.
pub(super) fn attribute(path: &Path, name: &CStr) -> Option<Vec<u8>> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut value = vec![0; 64];
    // SAFETY: C strings and a buffer of the length that is told.
    let length =
        unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(usize::try_from(length).ok()?);
    Some(value)
}

/// Sends a signal to the process behind the descriptor.
pub(super) fn pidfd_kill(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    // SAFETY: plain numbers and a null siginfo, which means "as kill(2) does".
    let done = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    Errno::result(done).map(drop)
}

/// How the child behind the descriptor ended, leaving it a zombie so that its pid and group stay taken;
/// none while it runs. Not nix's waitid, which refuses real-time signals.
pub(super) fn peek_exit(pidfd: BorrowedFd<'_>) -> Result<Option<Exit>, Errno> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: the zeroed siginfo is valid to read whether or not the kernel fills it; si_pid and si_status
    // are the fields of a SIGCHLD siginfo.
    unsafe {
        let flags = libc::WEXITED | libc::WNOWAIT | libc::WNOHANG;
        let id = pidfd.as_raw_fd() as libc::id_t;
        Errno::result(libc::waitid(libc::P_PIDFD, id, info.as_mut_ptr(), flags))?;
        let info = info.assume_init();
        Ok(match (info.si_pid(), info.si_code) {
            (0, _) => None,
            (_, libc::CLD_EXITED) => Some(Exit::Code(info.si_status())),
            _ => Some(Exit::Signal(info.si_status())),
        })
    }
}

/// Reaps an ended child and tells what it used; none while it runs.
pub(super) fn reap(pid: Pid) -> Result<Option<Usage>, Errno> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both out pointers are valid for the call; rusage is plain numbers, so zeroes are a value.
    let (pid, usage) = unsafe {
        let pid =
            Errno::result(libc::wait4(pid.as_raw(), &raw mut status, libc::WNOHANG, usage.as_mut_ptr()))?;
        (pid, usage.assume_init())
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ok((pid != 0).then(|| Usage {
        cpu_user: seconds(usage.ru_utime),
        cpu_system: seconds(usage.ru_stime),
        peak_memory: usage.ru_maxrss * 1024,
    }))
}

/// Closes every descriptor above standard error but those given, in the child of a fork.
pub(super) fn close_all_but(kept: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut kept: Vec<i32> = kept.iter().map(AsRawFd::as_raw_fd).collect();
    kept.sort_unstable();
    let mut first = 3;
    for last in kept.into_iter().map(|fd| fd - 1).chain([i32::MAX]) {
        if first <= last {
            // SAFETY: plain numbers. The child forgets its copies of the owners of what is closed: it
            // ends by _exit, so none of them is ever dropped.
            Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
        }
        first = last.saturating_add(2);
    }
    Ok(())
}

/// Forks; the child runs `body` and exits with what it returns, never unwinding into the caller.
///
/// For children that go on in Rust. Sound because the keeper has one thread: no lock can be held by
/// another one at the moment of the fork.
pub(super) fn fork_into(body: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: the process has a single thread, so the child may use the heap and every lock.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(101);
            // SAFETY: ends the process without running the parent's exit handlers.
            unsafe { libc::_exit(code) }
        }
    }
}

/// Ignores a signal.
pub(super) fn ignore(signal: Signal) -> Result<(), Errno> {
    // SAFETY: SIG_IGN runs no code.
    unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) }.map(drop)
}

/// Points the three standard files to nowhere.
pub(super) fn silence() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok(())
}

/// Takes the protection from the out-of-memory killer from this process. Async-signal-safe.
///
/// # Safety
/// To be called in a freshly forked child only.
pub(super) unsafe fn unshield() {
    // SAFETY: plain system calls on constant texts.
    unsafe {
        let open = || libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        let mut file = open();
        if file < 0 {
            // What is hidden from others of its user (see `hide`) is root's; so is this file, if not for a moment.
            libc::prctl(libc::PR_SET_DUMPABLE, 1);
            file = open();
            libc::prctl(libc::PR_SET_DUMPABLE, 0);
        }
        if file >= 0 {
            libc::write(file, c"0".as_ptr().cast(), 1);
            libc::close(file);
        }
    }
}
