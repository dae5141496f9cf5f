//! Making the process of a run: everything that may allocate or fail before the fork, little after it.
#![allow(unsafe_code)]

mod child;
mod payload;
mod process;
mod sheet;

use std::{
    ffi::CString,
    fs::File,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    path::PathBuf,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    libc,
    unistd::{Pid, pipe2},
};

pub(super) use self::sheet::Sheet;
use self::{
    child::{ENTERING, EXECUTING, Stage},
    payload::payload,
    process::{Heap, Memory},
    sheet::{Numbers, Sheets, Text},
};
use super::{
    accounts::{Account, Identity},
    cgroup::Cgroup,
    env::Environment,
    limits::Limits,
    protocol::RunSpec,
    state::Fault,
};

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
    sheets: Sheets,
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

/// How messages name what was asked for.
#[derive(Debug)]
#[cfg_attr(test, derive(Default))]
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
    /// What it reads and stands on until then, when that is in the keeper's memory.
    pub(super) sheet: Option<Sheet>,
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
        Ok(Self { ignored, open_files, shielded, null, sheets: Sheets::default(), heap: Heap::find() })
    }

    /// Takes back the sheet of a child that does not look at it any more: it executes its program, or has ended.
    pub(super) fn take_back(&mut self, sheet: Sheet) {
        self.sheets.take_back(sheet);
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
        let stdin = self.stdin.as_ref().unwrap_or(&inheritance.null).as_fd();
        let files = [stdin, child_stdout.as_fd(), child_stderr.as_fd(), child_status.as_fd()];
        let (pid, pidfd, sheet) = self.make(inheritance, group, files.map(|file| file.as_raw_fd()))?;
        Ok(Forked { pid, pidfd, stdout, stderr, status, sheet })
    }

    /// Makes the process; its sheet comes with it while it may look at that.
    fn make(
        &self,
        inheritance: &mut Inheritance,
        group: Option<&Cgroup>,
        files: [RawFd; 4],
    ) -> Result<(Pid, OwnedFd, Option<Sheet>), Errno> {
        let text = Text {
            programs: &self.programs,
            argv: &self.argv,
            env: &self.env,
            cwd: self.cwd.as_ref(),
            home: &self.home,
            groups: self.identity.as_ref().map_or(&[], |it| &it.groups),
            ignored: &inheritance.ignored,
        };
        let numbers = Numbers {
            files,
            to_join: None,
            keeper: Pid::this().as_raw(),
            limits: self.limits,
            open_files: inheritance.open_files,
            umask: self.umask,
            is_shielded: inheritance.shielded,
            identity: self.identity.as_ref().map(|it| (it.uid, it.gid)),
            to_trust: self.to_trust.as_ref().map(std::ptr::from_ref),
        };
        let memory = self.memory(inheritance, group);
        let mut sheet = inheritance.sheets.lend(&text)?;
        let orders = sheet.write(&text, numbers);
        let directory = group.map(Cgroup::directory);
        // To look at a program takes a heap.
        let heap = inheritance.heap.as_ref().filter(|_| self.to_trust.is_none());
        // SAFETY: the keeper has one thread, and takes a sheet back when the child is done with it.
        let made = unsafe { process::make(memory, directory, heap, orders) };
        if memory == Memory::Shared
            && let Ok((pid, pidfd)) = made
        {
            return Ok((pid, pidfd, Some(sheet)));
        }
        inheritance.take_back(sheet);
        made.map(|(pid, pidfd)| (pid, pidfd, None))
    }

    /// Not shared with a child that becomes somebody else, that uses the heap, whose protection from the
    /// out-of-memory killer the kernel would take from all who share, or of which the killer may want to make
    /// room in its group: it kills all who share.
    fn memory(&self, inheritance: &Inheritance, group: Option<&Cgroup>) -> Memory {
        let is_alike = self.identity.is_none() && self.to_trust.is_none() && !inheritance.shielded;
        match group {
            _ if !is_alike => Memory::Copied,
            Some(group) if group.limits_memory() => Memory::Copied,
            _ => Memory::Shared,
        }
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

fn string(text: &str) -> Result<CString, Fault> {
    CString::new(text).map_err(|_| Fault::Spawn(format!("{text:?} holds a NUL byte")))
}
