//! One host: a keeper and its guardian, as their units start them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tokio_postgres::Client;

use super::cpu;

/// For a guardian to register, for a keeper to listen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A host whose processes end with it.
pub(crate) struct Host {
    dir: tempfile::TempDir,
    pub(crate) keeper: Child,
    pub(crate) guardian: Option<Child>,
}

impl Host {
    /// A host with a keeper alone.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("sisyphus-bench").tempdir().unwrap();
        let policy = dir.path().join("policy.toml");
        // Jobs run as the user of the bench, also when that is root.
        let own = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
        fs::write(&policy, format!("users = [{own:?}]\nshell = true\n")).unwrap();
        let mut keeper = program();
        keeper.args(["keeper", "--state-dir"]).arg(dir.path().join("state")).arg("--policy").arg(policy);
        let keeper = keeper.spawn().unwrap();
        let host = Self { dir, keeper, guardian: None };
        let begun = Instant::now();
        while !host.socket().exists() {
            assert!(begun.elapsed() < PATIENCE, "the keeper does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        host
    }

    /// Starts the guardian and waits until the database knows it.
    pub(crate) async fn join(&mut self, url: &str, client: &Client, name: &str, slots: usize) {
        let mut guardian = program();
        guardian.args(["--database-url", url, "guardian", "--host", name, "--slots", &slots.to_string()]);
        guardian.arg("--state-dir").arg(self.state_dir());
        self.guardian = Some(guardian.spawn().unwrap());
        let begun = Instant::now();
        let sql = "select exists (select from sisyphus.fleet where host = $1 and state = 'active')";
        while !client.query_one(sql, &[&name]).await.unwrap().get::<_, bool>(0) {
            assert!(begun.elapsed() < PATIENCE, "the guardian does not register");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Where guardian and keeper meet.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// The keeper's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.state_dir().join("keeper.sock")
    }

    /// A file for jobs to write to.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What its parts have used so far. Jobs count once their keeper has reaped them.
    pub(crate) fn used(&self) -> cpu::Parts {
        let keeper = cpu::of(self.keeper.id());
        let writer = cpu::child_named(self.keeper.id(), "sisyphus-writer").map(cpu::of);
        let guardian = self.guardian.as_ref().map(|it| cpu::of(it.id()));
        cpu::Parts::from([
            ("jobs", keeper.reaped),
            ("keeper", keeper.own),
            ("writer", writer.unwrap_or_default().own),
            ("guardian", guardian.unwrap_or_default().own),
        ])
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for child in self.guardian.iter_mut().chain([&mut self.keeper]) {
            let pid = nix::unistd::Pid::from_raw(child.id() as i32);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).ok();
            child.wait().ok();
        }
    }
}

/// The program that is measured: that of `SISYPHUS_BIN`, else the one that was built with the bench.
fn program() -> Command {
    let built = Path::new(env!("CARGO_BIN_EXE_sisyphus"));
    let path = std::env::var_os("SISYPHUS_BIN").map_or_else(|| built.to_owned(), PathBuf::from);
    let mut command = Command::new(path);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("SISYPHUS_LOG", "warn").stdin(Stdio::null());
    command
}

/// Memory of a process in KiB, as a field of /proc/PID/smaps_rollup says it.
pub(crate) fn memory(pid: u32, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}
