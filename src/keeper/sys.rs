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

/// The heap of this process, which has one thread.
#[derive(Debug)]
pub(super) struct Heap {
    begin: usize,
}

/// While it is there, a process that is made has no heap.
struct Kept(usize, usize);

impl Heap {
    /// Where it is; none where the C library keeps it elsewhere, or the state of the thread in it.
    pub(super) fn find() -> Option<Self> {
        let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
        let range = maps.lines().find(|line| line.ends_with("[heap]"))?.split(' ').next()?;
        let begin = usize::from_str_radix(range.split_once('-')?.0, 16).ok()?;
        let heap = Self { begin };
        // SAFETY: tells where errno of this thread is.
        let thread = unsafe { libc::__errno_location() } as usize;
        (!(begin..heap.end()).contains(&thread)).then_some(heap)
    }

    fn end(&self) -> usize {
        // SAFETY: only asks.
        unsafe { libc::sbrk(0) as usize }
    }

    /// The kernel copies the page tables of what a child gets, and then each page that one of both writes to.
    fn keep(&self) -> Kept {
        let kept = Kept(self.begin, self.end());
        kept.advise(libc::MADV_DONTFORK);
        kept
    }
}

impl Kept {
    fn advise(&self, advice: i32) {
        // SAFETY: whole pages of our own; what is refused is copied, as ever.
        unsafe { libc::madvise(self.0 as *mut libc::c_void, self.1.saturating_sub(self.0), advice) };
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // Other children go on in Rust, and need it.
        self.advise(libc::MADV_DOFORK);
    }
}

/// What [`make_process`] returns, in either process.
#[derive(Debug)]
pub(super) enum Made {
    /// In the child; whether it is in the group already.
    Child { in_group: bool },
    /// In the parent; the descriptor is that of the child.
    Parent(Pid, OwnedFd),
}

/// Makes a process as fork does, in a control group at once where the kernel can: to be moved there later
/// costs milliseconds.
///
/// # Safety
/// For a process with one thread. The child must end in exec or `_exit`, and has no heap when one is given.
pub(super) unsafe fn make_process(group: Option<BorrowedFd<'_>>, heap: Option<&Heap>) -> Result<Made, Errno> {
    let kept = heap.map(Heap::keep);
    // SAFETY: as ours.
    match unsafe { clone3_anyhow(group) } {
        Ok(made @ Made::Child { .. }) => {
            // The child has nothing that could be given back.
            std::mem::forget(kept);
            return Ok(made);
        }
        // Not allowed in some containers. The C library's own fork may look at the heap.
        Err(Errno::ENOSYS | Errno::EPERM) => drop(kept),
        made => return made,
    }
    // SAFETY: as ours.
    match Errno::result(unsafe { libc::fork() })? {
        0 => Ok(Made::Child { in_group: false }),
        pid => {
            let pid = Pid::from_raw(pid);
            let pidfd = pidfd_open(pid).inspect_err(|_| {
                let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
            });
            Ok(Made::Parent(pid, pidfd?))
        }
    }
}

/// # Safety
/// As [`make_process`].
unsafe fn clone3_anyhow(group: Option<BorrowedFd<'_>>) -> Result<Made, Errno> {
    if let Some(group) = group {
        // Not a control group (tests), a kernel before 5.7, or no right to: the child goes there by itself.
        // SAFETY: as ours.
        if let Ok(made) = unsafe { clone3(Some(group)) } {
            return Ok(made);
        }
    }
    // SAFETY: as ours.
    unsafe { clone3(None) }
}

/// # Safety
/// As [`make_process`]. The C library is not told, which matters to its threads only.
unsafe fn clone3(group: Option<BorrowedFd<'_>>) -> Result<Made, Errno> {
    const CLONE_INTO_CGROUP: u64 = 1 << 33;
    /// `struct clone_args` of the kernel's second version.
    #[repr(C)]
    #[derive(Default)]
    struct Arguments {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
        set_tid: u64,
        set_tid_size: u64,
        cgroup: u64,
    }
    let mut pidfd: i32 = -1;
    let mut arguments = Arguments {
        flags: libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..Arguments::default()
    };
    if let Some(group) = group {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = group.as_raw_fd() as u64;
    }
    // SAFETY: the arguments are as the kernel has them, and the place of the pidfd outlives the call; the
    // memory is not shared, so the child is as after fork.
    unsafe {
        let size = size_of::<Arguments>();
        match Errno::result(libc::syscall(libc::SYS_clone3, &raw const arguments, size))? {
            0 => Ok(Made::Child { in_group: group.is_some() }),
            pid => Ok(Made::Parent(Pid::from_raw(pid as i32), OwnedFd::from_raw_fd(pidfd))),
        }
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
