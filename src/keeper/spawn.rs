//! Making the process of a run: everything that may allocate or fail before the fork, little after it.
#![allow(unsafe_code)]

mod payload;
mod sheet;

use std::{
    ffi::{CStr, CString},
    fs::File,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    libc,
    unistd::{Pid, pipe2},
};

use self::{
    payload::payload,
    sheet::{Orders, Sheet, Text},
};
use super::{
    accounts::{Account, Identity},
    cgroup::Cgroup,
    env::Environment,
    limits::Limits,
    policy::trust,
    protocol::RunSpec,
    state::Fault,
    sys::{self, Heap, Made},
};

/// The status pipe's number in the child.
const STATUS_FD: i32 = 3;
/// The longest message through it; a pipe takes so much at once.
pub(super) const MESSAGE: usize = 1024;

/// What the child inherits that must be put right, found out once.
#[derive(Debug)]
pub(super) struct Inheritance {
    /// Signals this process ignores; exec would hand that on.
    ignored: Vec<i32>,
    /// The limit of open files before the keeper raised its own.
    open_files: libc::rlimit,
    /// Whether the keeper's protection from the out-of-memory killer must be taken from the jobs.
    shielded: bool,
    null: OwnedFd,
    /// What the next child is to read, and what it need not have.
    sheet: Sheet,
    heap: Option<Heap>,
}

/// A run ready to be forked.
#[derive(Debug)]
pub(super) struct Launch {
    /// Tried in this order, as execvp does.
    programs: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
    names: Names,
    /// The directory asked for; without one, home, and the root when that is not there.
    cwd: Option<CString>,
    home: CString,
    stdin: Option<OwnedFd>,
    limits: Limits,
    /// To be changed to; none: as the keeper.
    identity: Option<Identity>,
    umask: u32,
    /// The program, when nobody but root may be able to change it.
    to_trust: Option<PathBuf>,
}

/// The names of a process in whose stead a file system may hang.
const ENTERING: &CStr = c"sisyphus:enter";
const EXECUTING: &CStr = c"sisyphus:exec";

/// How messages name what was asked for.
#[derive(Debug)]
pub(super) struct Names {
    program: String,
    directory: String,
    user: String,
}

/// A process that was forked.
#[derive(Debug)]
pub(super) struct Forked {
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    /// Ends empty when the program executes, holds a `Failure` when it could not be.
    pub(super) status: OwnedFd,
}

/// Why a forked child could not execute its program, in the bytes it wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Stage {
    Set = 1,
    Limit,
    Trust,
    Become,
    Enter,
    Execute,
}

impl Inheritance {
    /// Raises this process's own limit of open files, and remembers what children get instead.
    pub(super) fn take() -> Result<Self, Errno> {
        let null = File::options().read(true).write(true).open("/dev/null");
        let null = null.map_err(|err| Errno::from_raw(err.raw_os_error().unwrap_or(libc::EIO)))?.into();
        let mut open_files = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the out pointers are valid; sigaction with a null action only reads.
        let ignored = unsafe {
            Errno::result(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut open_files))?;
            let raised = libc::rlimit { rlim_cur: open_files.rlim_max, ..open_files };
            Errno::result(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised))?;
            let is_ignored = |signal: &i32| {
                let mut action = std::mem::zeroed::<libc::sigaction>();
                libc::sigaction(*signal, std::ptr::null(), &raw mut action) == 0
                    && action.sa_sigaction == libc::SIG_IGN
            };
            (1..=libc::SIGRTMAX()).filter(is_ignored).collect()
        };
        let score = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
        let shielded = score.trim().starts_with('-');
        Ok(Self { ignored, open_files, shielded, null, sheet: Sheet::new(), heap: Heap::find() })
    }
}

impl Launch {
    /// Builds everything the child needs, so that it has nothing left to allocate.
    pub(super) fn prepare(
        spec: &RunSpec,
        limits: Limits,
        environment: &Environment,
        account: &Account,
        only_trusted: bool,
    ) -> Result<Self, Fault> {
        let arguments = match (&spec.command, &spec.argv) {
            (Some(command), None) => vec!["/bin/sh".to_owned(), "-c".to_owned(), command.clone()],
            (None, Some(argv)) if !argv.is_empty() => argv.clone(),
            _ => return Err(Fault::Spawn("exactly one of command and argv must be given".to_owned())),
        };
        let program = arguments[0].clone();
        let programs = if program.contains('/') {
            vec![string(&program)?]
        } else {
            let directories = environment.path().split(':').map(|dir| if dir.is_empty() { "." } else { dir });
            directories.map(|dir| string(&format!("{dir}/{program}"))).collect::<Result<_, _>>()?
        };
        Ok(Self {
            programs,
            argv: arguments.iter().map(|argument| string(argument)).collect::<Result<_, _>>()?,
            env: environment.to_strings()?,
            to_trust: only_trusted.then(|| PathBuf::from(&program)),
            names: Names {
                program,
                directory: spec.cwd.clone().unwrap_or_else(|| "/".to_owned()),
                user: account.name.clone(),
            },
            cwd: spec.cwd.as_deref().map(string).transpose()?,
            home: string(&account.home)?,
            stdin: payload(spec)?,
            limits,
            identity: account.identity.clone(),
            umask: account.umask,
        })
    }

    /// Forks. Returns at once: whether the program could be executed comes through the status pipe.
    pub(super) fn fork(
        &self,
        inheritance: &mut Inheritance,
        group: Option<&Cgroup>,
    ) -> Result<Forked, Errno> {
        let (stdout, child_stdout) = pipe2(OFlag::O_CLOEXEC)?;
        let (stderr, child_stderr) = pipe2(OFlag::O_CLOEXEC)?;
        let (status, child_status) = pipe2(OFlag::O_CLOEXEC)?;
        for end in [&stdout, &stderr, &status] {
            fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        let orders = inheritance.sheet.write(&Text {
            programs: &self.programs,
            argv: &self.argv,
            env: &self.env,
            cwd: self.cwd.as_ref(),
            home: &self.home,
            groups: self.identity.as_ref().map_or(&[], |it| &it.groups),
            ignored: &inheritance.ignored,
        })?;
        let stdin = self.stdin.as_ref().unwrap_or(&inheritance.null).as_fd();
        let files = [stdin, child_stdout.as_fd(), child_stderr.as_fd(), child_status.as_fd()];
        let keeper = Pid::this();
        let group = group.map(Cgroup::directory);
        // To look at a program takes a heap.
        let heap = inheritance.heap.as_ref().filter(|_| self.to_trust.is_none());
        // SAFETY: between fork and exec the child makes async-signal-safe calls only (see `child`), on
        // its stack, its sheet and, when it has one, the heap; it never returns.
        let (pid, pidfd) = unsafe {
            match sys::make_process(group, heap)? {
                Made::Child { in_group } => {
                    let to_join = group.filter(|_| !in_group);
                    child(self, inheritance, &orders, files, to_join, keeper)
                }
                Made::Parent(pid, pidfd) => (pid, pidfd),
            }
        };
        Ok(Forked { pid, pidfd, stdout, stderr, status })
    }

    /// What is needed once the process is made.
    pub(super) fn into_names(self) -> Names {
        self.names
    }
}

impl Names {
    /// What a child hangs in, for people; `at` is the name that it has given itself.
    pub(super) fn hanging(&self, at: &str) -> Fault {
        let Self { program, directory, .. } = self;
        let what = match at.as_bytes() {
            it if it == ENTERING.to_bytes() => format!("cannot enter {directory:?}"),
            it if it == EXECUTING.to_bytes() => format!("cannot start {program:?}"),
            _ => format!("cannot prepare {program:?}"),
        };
        Fault::Spawn(format!("{what}: the file system does not answer"))
    }

    /// What a child that could not execute its program said, for people.
    pub(super) fn fault(&self, said: &[u8]) -> Fault {
        let Self { program, directory, user } = self;
        let (stage, errno) = match *said {
            [stage, a, b, c, d] => (stage, Errno::from_raw(i32::from_ne_bytes([a, b, c, d]))),
            [stage, ..] => (stage, Errno::UnknownErrno),
            [] => (0, Errno::UnknownErrno),
        };
        let cause = errno.desc();
        Fault::Spawn(match stage {
            stage if stage == Stage::Trust as u8 => {
                let why = String::from_utf8_lossy(&said[1..]);
                return Fault::Policy(format!("program {program:?} is not to be trusted: {why}"));
            }
            stage if stage == Stage::Limit as u8 => format!("cannot set the limits of {program:?}: {cause}"),
            stage if stage == Stage::Become as u8 => format!("cannot become user {user:?}: {cause}"),
            stage if stage == Stage::Enter as u8 => format!("cannot enter {directory:?}: {cause}"),
            stage if stage == Stage::Execute as u8 => format!("cannot start {program:?}: {cause}"),
            _ => format!("cannot prepare {program:?}: {cause}"),
        })
    }
}

/// The child between fork and exec.
///
/// # Safety
/// To be called in a freshly forked child only. Calls nothing but write, open, openat, close, close_range,
/// dup2, dup3, setsid, umask, prctl, getppid, setpriority, setrlimit, setgroups, setresgid, setresuid, sigaction,
/// sigprocmask, chdir, execve and _exit: all async-signal-safe or plain system calls. Panics nowhere, and
/// touches the heap only to look at a program, which a process that had one thread may do: else it has none.
unsafe fn child(
    launch: &Launch,
    inheritance: &Inheritance,
    orders: &Orders,
    files: [BorrowedFd<'_>; 4],
    to_join: Option<BorrowedFd<'_>>,
    keeper: Pid,
) -> ! {
    // SAFETY: as above; every pointer is to memory that the parent made before the fork.
    unsafe {
        // The numbers 0 to 2 are taken in the keeper, so no source is overwritten before it is copied.
        for (number, file) in (0..).zip(&files[..3]) {
            check(libc::dup2(file.as_raw_fd(), number), files[3].as_raw_fd(), Stage::Set);
        }
        if files[3].as_raw_fd() != STATUS_FD {
            let copied = libc::dup3(files[3].as_raw_fd(), STATUS_FD, libc::O_CLOEXEC);
            check(copied, files[3].as_raw_fd(), Stage::Set);
        }
        if let Some(group) = to_join {
            let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_CLOEXEC;
            let file = libc::openat(group.as_raw_fd(), c"cgroup.procs".as_ptr(), flags, 0o600);
            check(file, STATUS_FD, Stage::Limit);
            check(libc::write(file, c"0".as_ptr().cast(), 1) as i32, STATUS_FD, Stage::Limit);
        }
        let closed = libc::syscall(libc::SYS_close_range, STATUS_FD + 1, u32::MAX, 0);
        check(closed as i32, STATUS_FD, Stage::Set);
        check(libc::setsid(), STATUS_FD, Stage::Set);
        libc::umask(launch.umask as libc::mode_t);
        if inheritance.shielded {
            sys::unshield();
        }
        launch.limits.apply(&inheritance.open_files, |done| check(done, STATUS_FD, Stage::Limit));
        if let Some(why) = launch.to_trust.as_ref().and_then(|program| trust::check(program).err()) {
            report(STATUS_FD, Stage::Trust, why.as_bytes());
        }
        if let Some(Identity { uid, gid, .. }) = &launch.identity {
            check(libc::setgroups(orders.groups.1, orders.groups.0), STATUS_FD, Stage::Become);
            check(libc::setresgid(*gid, *gid, *gid), STATUS_FD, Stage::Become);
            check(libc::setresuid(*uid, *uid, *uid), STATUS_FD, Stage::Become);
        }
        // A change of user takes it back, so not earlier. The keeper has one thread, so the signal comes when
        // the keeper dies and not before.
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL), STATUS_FD, Stage::Set);
        if libc::getppid() != keeper.as_raw() {
            libc::_exit(127);
        }
        let mut default = std::mem::zeroed::<libc::sigaction>();
        default.sa_sigaction = libc::SIG_DFL;
        for number in 0..orders.ignored.1 {
            libc::sigaction(*orders.ignored.0.add(number), &raw const default, std::ptr::null_mut());
        }
        let mut nothing = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut nothing);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const nothing, std::ptr::null_mut());
        libc::prctl(libc::PR_SET_NAME, ENTERING.as_ptr());
        if !orders.cwd.is_null() {
            check(libc::chdir(orders.cwd), STATUS_FD, Stage::Enter);
        } else if libc::chdir(orders.home) != 0 {
            check(libc::chdir(c"/".as_ptr()), STATUS_FD, Stage::Enter);
        }
        libc::prctl(libc::PR_SET_NAME, EXECUTING.as_ptr());
        execute(orders);
    }
}

/// Tries the programs as execvp does: one that is there but may not be executed decides the message.
///
/// # Safety
/// As [`child`].
unsafe fn execute(orders: &Orders) -> ! {
    let mut failure = libc::ENOENT;
    let mut next = orders.programs;
    // SAFETY: null-terminated arrays of C strings that outlive the call.
    while let program = unsafe { *next }
        && !program.is_null()
    {
        // SAFETY: as above; the null that ends the list was not reached.
        let errno = unsafe {
            next = next.add(1);
            libc::execve(program, orders.argv, orders.env);
            *libc::__errno_location()
        };
        match errno {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => failure = errno,
            _ => {
                failure = errno;
                break;
            }
        }
    }
    // SAFETY: ends the child.
    unsafe {
        *libc::__errno_location() = failure;
        check(-1, STATUS_FD, Stage::Execute);
        libc::_exit(127)
    }
}

/// Ends the child with a message to the keeper when a call has failed.
///
/// # Safety
/// As [`child`].
unsafe fn check(done: i32, status: i32, stage: Stage) {
    if done >= 0 {
        return;
    }
    // SAFETY: errno of this thread; the rest as ours.
    unsafe {
        let errno = (*libc::__errno_location()).to_ne_bytes();
        report(status, stage, &errno);
    }
}

/// Ends the child with a message to the keeper.
///
/// # Safety
/// As [`child`].
unsafe fn report(status: i32, stage: Stage, text: &[u8]) -> ! {
    let mut message = [0; MESSAGE];
    let length = text.len().min(MESSAGE - 1);
    message[0] = stage as u8;
    message[1..=length].copy_from_slice(&text[..length]);
    // SAFETY: a write from the stack.
    unsafe {
        libc::write(status, message.as_ptr().cast(), length + 1);
        libc::_exit(127)
    }
}

fn string(text: &str) -> Result<CString, Fault> {
    CString::new(text).map_err(|_| Fault::Spawn(format!("{text:?} holds a NUL byte")))
}
