//! A guardian of the private house, as a child process, and the keeper that it starts.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    net::UnixStream,
    process::{Child, Command},
    time::timeout,
};

use super::cluster::Cluster;
use crate::{
    error::{Error, ErrorKind, Result},
    keeper::{KeeperProcess, StateDirectory},
    observe::LOG_VARIABLE,
};

/// Time for a guardian to release and deliver what it has, and for a keeper to leave after it.
const PATIENCE: Duration = Duration::from_secs(20);
const GLANCE: Duration = Duration::from_millis(20);

/// Where a guardian's log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// To stderr of this process.
    Stderr,
    /// To `<host>.log` in the data directory: the terminal shows something else.
    File,
}

/// A running guardian.
#[derive(Debug)]
pub(super) struct Daemon {
    host: String,
    state: PathBuf,
    child: Child,
}

impl Daemon {
    /// Starts the guardian of a host: this program again, as the cluster's account, its state in
    /// `<data directory>/<host>`.
    pub(super) fn start(cluster: &Cluster, database: &str, host: &str, log: Log) -> Result<Self> {
        let state = cluster.dir().join(host);
        end_stray(&state)?;
        // Not the path of this program: the account may not be able to reach it (a checkout under /root).
        let program = if cfg!(target_os = "linux") {
            PathBuf::from("/proc/self/exe")
        } else {
            std::env::current_exe().map_err(|err| cannot_start(host, err))?
        };
        let mut command = cluster.account().command(&program, cluster.dir());
        command.arg0("sisyphus");
        command.args(["guardian", "--host", host, "--slots", "8", "--state-dir"]).arg(&state);
        command.env("SISYPHUS_DATABASE_URL", cluster.url(database));
        if let Some(filter) = std::env::var_os(LOG_VARIABLE) {
            command.env(LOG_VARIABLE, filter);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let path = state.with_extension("log");
        // That of an earlier start would be taken for this one's.
        fs::remove_file(&path).ok();
        if log == Log::File {
            command.stderr(File::create(path).map_err(|err| cannot_start(host, err))?);
        }
        // A Ctrl-C in the terminal is for this process alone: it ends the guardian when the jobs have ended.
        command.process_group(0);
        let child =
            Command::from(command).kill_on_drop(true).spawn().map_err(|err| cannot_start(host, err))?;
        let daemon = Self { host: host.to_owned(), state, child };
        daemon.note_pid(cluster)?;
        Ok(daemon)
    }

    /// The host it serves.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Waits until it ends by itself, which it should not. Cancel safe.
    pub(super) async fn ended(&mut self) -> Error {
        let status = match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(err) => err.to_string(),
        };
        let error = Error::new(
            ErrorKind::Failed,
            format!("the guardian of {} ended by itself ({status})", self.host),
        );
        let log = self.state.with_extension("log");
        match fs::read_to_string(&log) {
            Ok(text) => error.source(tail(&text)).hint(format!("all of its log is in {}", log.display())),
            Err(_) => error.hint("its log is above"),
        }
    }

    /// Ends the guardian, then its keeper.
    pub(super) async fn stop(mut self) -> Result<()> {
        if let Some(pid) = self.child.id() {
            // Ended since: then there is nobody to signal.
            kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM).ok();
        }
        if timeout(PATIENCE, self.child.wait()).await.is_err() {
            self.child.kill().await.ok();
            return Err(Error::new(
                ErrorKind::Drained,
                format!("the guardian of {} had to be killed", self.host),
            ));
        }
        // One that was started by an earlier build may still be at work beside the newer one.
        for place in StateDirectory::at(&self.state)?.places()? {
            end_keeper(&self.host, &place).await?;
        }
        fs::remove_file(self.state.with_extension("pid")).ok();
        Ok(())
    }

    /// Kills the guardian as a crash does, and says which process it was. Its keeper and jobs go on.
    pub(super) async fn kill(&mut self) -> Result<u32> {
        let pid = self.child.id().unwrap_or_default();
        let killed = self.child.kill().await;
        killed.map(|()| pid).map_err(|err| {
            Error::new(ErrorKind::Failed, format!("the guardian of {} cannot be killed", self.host))
                .source(err)
        })
    }

    fn note_pid(&self, cluster: &Cluster) -> Result<()> {
        let pid = self.child.id().map_or(String::new(), |pid| pid.to_string());
        let path = cluster.dir().join(format!("{}.pid", self.host));
        fs::write(path, pid).map_err(|err| cannot_start(&self.host, err))
    }
}

/// Left alone, an idle keeper would wait a minute for another guardian.
async fn end_keeper(host: &str, state: &StateDirectory) -> Result<()> {
    if let Ok(socket) = UnixStream::connect(state.socket()).await {
        KeeperProcess::at(&socket).signal(Signal::SIGTERM).ok();
    }
    let begun = Instant::now();
    while state.keeper_is_alive()? {
        if begun.elapsed() > PATIENCE {
            return Err(Error::new(ErrorKind::Drained, format!("the keeper of {host} has not left"))
                .hint("its jobs are ending; the next `sisyphus dev` takes it over"));
        }
        tokio::time::sleep(GLANCE).await;
    }
    Ok(())
}

/// Ends the guardian that a killed `sisyphus dev` left behind. Its keeper and jobs go on, as after any
/// restart of a guardian.
fn end_stray(state: &Path) -> Result<()> {
    let Ok(text) = fs::read_to_string(state.with_extension("pid")) else { return Ok(()) };
    let Ok(pid) = text.trim().parse::<i32>() else { return Ok(()) };
    let command_line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut args = command_line.split(|byte| *byte == 0);
    // The number may be another process's by now.
    if pid <= 1 || !args.any(|arg| arg == state.as_os_str().as_encoded_bytes()) {
        return Ok(());
    }
    let pid = Pid::from_raw(pid);
    let begun = Instant::now();
    while kill(pid, Signal::SIGTERM) != Err(Errno::ESRCH) {
        if begun.elapsed() > PATIENCE {
            return Err(Error::new(
                ErrorKind::Config,
                format!("guardian {pid} of an earlier run does not end"),
            )
            .hint(format!("kill -9 {pid}")));
        }
        std::thread::sleep(GLANCE);
    }
    Ok(())
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(3)..].join("\n")
}

fn cannot_start(host: &str, err: std::io::Error) -> Error {
    Error::new(ErrorKind::Config, format!("the guardian of {host} cannot be started")).source(err)
}
