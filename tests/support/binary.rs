//! The real binary, in an environment made from nothing.

use std::{
    fs::File,
    io::Read,
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, LazyLock, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::{
    pty::{Winsize, openpty},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::comes_true;

/// No command of a test runs longer, unless the test says so.
const LONGEST: Duration = Duration::from_secs(60);

/// What a command that ended has said.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A running command, killed when this is dropped. Its output is read as it comes.
pub(crate) struct Spawned {
    child: Child,
    stdout: Option<Reader>,
    stderr: Option<Reader>,
}

/// Reads a pipe as it fills.
struct Reader {
    read: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

/// The binary with these arguments, nothing from the environment, UTC and 100 columns.
pub(crate) fn command(args: &[&str]) -> Command {
    command_of(Path::new(env!("CARGO_BIN_EXE_sisyphus")), args)
}

/// As [`command`], of another build of the binary.
pub(crate) fn command_of(program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(args)
        .env_clear()
        .envs([("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/nonexistent"), ("LANG", "C.UTF-8")])
        .envs([("TZ", "UTC"), ("COLUMNS", "100"), ("NO_COLOR", "1")])
        .stdin(Stdio::null());
    if let Some(policy) = policy() {
        command.env("SISYPHUS_POLICY", policy);
    }
    command
}

/// A policy that lets a keeper of root run jobs as root, as a keeper of anybody else does without one.
pub(crate) fn policy() -> Option<&'static Path> {
    static POLICY: LazyLock<PathBuf> = LazyLock::new(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("policy.toml");
        // As a whole: tests that run at the same time read it.
        let draft = path.with_extension(std::process::id().to_string());
        std::fs::write(&draft, "users = [\"root\"]\nshell = true\n").unwrap();
        std::fs::rename(draft, &path).unwrap();
        path
    });
    nix::unistd::geteuid().is_root().then(|| POLICY.as_path())
}

/// Runs the binary to its end.
pub(crate) fn run(args: &[&str]) -> Finished {
    finish(command(args))
}

/// Runs a command, mostly one of [`command`] with more in its environment, to its end.
pub(crate) fn finish(command: Command) -> Finished {
    spawn(command).wait()
}

/// Runs a command on a terminal of its own, and gives what it has drawn there.
pub(crate) fn on_terminal(mut command: Command, rows: u16, columns: u16) -> String {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(Some(&size), None).unwrap();
    let end = || pty.slave.as_fd().try_clone_to_owned().unwrap();
    let mut child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
    // The screen ends with the last end that is open.
    drop((command, pty.slave));
    let (mut screen, mut drawn, mut piece) = (File::from(pty.master), Vec::new(), [0; 8192]);
    while let Ok(length @ 1..) = screen.read(&mut piece) {
        drawn.extend_from_slice(&piece[..length]);
    }
    child.wait().unwrap();
    String::from_utf8_lossy(&drawn).replace("\r\n", "\n")
}

/// Starts a command.
pub(crate) fn spawn(mut command: Command) -> Spawned {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|err| panic!("{command:?}: {err}"));
    let stdout = child.stdout.take().map(read_all);
    let stderr = child.stderr.take().map(read_all);
    Spawned { child, stdout, stderr }
}

impl Finished {
    /// The exit code; none when a signal ended it.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Asserts success and gives stdout.
    #[track_caller]
    pub(crate) fn success(self) -> String {
        assert!(self.status.success(), "{}\n{}{}", self.status, self.stdout, self.stderr);
        self.stdout
    }

    /// Asserts an exit code and texts on stderr.
    #[track_caller]
    pub(crate) fn failure(self, code: i32, texts: &[&str]) {
        assert_eq!(self.code(), Some(code), "{}\n{}{}", self.status, self.stdout, self.stderr);
        for text in texts {
            assert!(self.stderr.contains(text), "stderr should contain {text:?}:\n{}", self.stderr);
        }
    }
}

impl Spawned {
    /// Its process id.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("not yet reaped");
    }

    /// What it has written to stdout until now.
    pub(crate) fn stdout_so_far(&self) -> String {
        self.stdout.as_ref().map_or_else(String::new, Reader::so_far)
    }

    /// What it has written to stderr until now.
    pub(crate) fn stderr_so_far(&self) -> String {
        self.stderr.as_ref().map_or_else(String::new, Reader::so_far)
    }

    /// Whether it has not ended.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("own child").is_none()
    }

    /// Waits for its end, at most a minute.
    pub(crate) fn wait(self) -> Finished {
        self.wait_for(LONGEST)
    }

    /// Waits for its end, at most so long.
    pub(crate) fn wait_for(mut self, longest: Duration) -> Finished {
        let mut status = None;
        comes_true(longest, || {
            status = self.child.try_wait().expect("own child");
            status.is_some()
        });
        let Some(status) = status else {
            self.child.kill().ok();
            let said = [self.stdout.take(), self.stderr.take()].map(text_of).concat();
            panic!("still running after {longest:?}:\n{said}");
        };
        Finished { status, stdout: text_of(self.stdout.take()), stderr: text_of(self.stderr.take()) }
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn read_all(mut pipe: impl Read + Send + 'static) -> Reader {
    let read = Arc::new(Mutex::new(Vec::new()));
    let bytes = Arc::clone(&read);
    let thread = thread::spawn(move || {
        let mut piece = [0; 8192];
        while let Ok(length @ 1..) = pipe.read(&mut piece) {
            bytes.lock().expect("no reader panics").extend_from_slice(&piece[..length]);
        }
    });
    Reader { read, thread }
}

impl Reader {
    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.read.lock().expect("no reader panics")).into_owned()
    }
}

fn text_of(reader: Option<Reader>) -> String {
    let Some(Reader { read, thread }) = reader else { return String::new() };
    thread.join().ok();
    String::from_utf8_lossy(&read.lock().expect("no reader panics")).into_owned()
}
