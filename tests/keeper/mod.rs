//! The keeper with real processes, through the real binary, driven as a guardian drives it.

mod ending;
mod faults;
mod group;
mod hang;
mod life;
mod policy;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::Signal,
};
use serde_json::{Value, json};
use sisyphus::keeper::{
    KeeperClient, StateDirectory,
    protocol::{
        Action, Event, Held, Refused, Request, RunKey, RunResult, Signal as Intervention, Start, Started,
    },
};
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::{Finished, Spawned, command, spawn, wait_until};

/// Longer than anything takes here, shorter than anybody waits.
const SOON: Duration = Duration::from_secs(60);
const INSTALLATION: Uuid = Uuid::from_u128(7);

/// A host: its state directory and, while it lives, its keeper.
struct Host {
    root: TempDir,
    directory: StateDirectory,
    keeper: Option<Spawned>,
}

/// A mounted disk, unmounted when this is dropped.
struct Disk(PathBuf);

impl Drop for Disk {
    fn drop(&mut self) {
        // The host may still use it.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// A guardian that is nothing but its connection.
struct Guardian {
    client: KeeperClient,
    started: HashMap<RunKey, Started>,
    results: HashMap<RunKey, RunResult>,
    refusals: Vec<Refused>,
}

impl Host {
    /// With a keeper in the foreground.
    fn new() -> Self {
        let mut host = Self::unstarted();
        host.start_keeper();
        host
    }

    fn unstarted() -> Self {
        let root = tempfile::Builder::new().prefix("keeper").tempdir().unwrap();
        let directory = StateDirectory::open(root.path().join("state")).unwrap();
        Self { root, directory, keeper: None }
    }

    /// With its state directory on a disk of so many bytes; none, said loudly, where nothing may be mounted.
    fn on_a_disk_of(size: &str) -> Option<(Self, Disk)> {
        let root = tempfile::Builder::new().prefix("keeper").tempdir().unwrap();
        let path = root.path().join("state");
        std::fs::create_dir(&path).unwrap();
        let options = format!("size={size},mode=700");
        let mounted = mount(Some("none"), &path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()));
        if let Err(errno) = mounted {
            eprintln!("SKIPPED: a small disk cannot be mounted here: {errno}");
            return None;
        }
        let disk = Disk(path.clone());
        let mut host = Self { root, directory: StateDirectory::open(path).unwrap(), keeper: None };
        host.start_keeper();
        Some((host, disk))
    }

    /// As where control groups cannot be had: what works there works everywhere.
    fn start_keeper(&mut self) {
        self.start_keeper_with(&["--cgroup", "none"]);
    }

    fn start_keeper_with(&mut self, args: &[&str]) {
        let args = [&["keeper", "--state-dir", self.state()], args].concat();
        self.keeper = Some(spawn(command(&args)));
    }

    /// Where the keeper makes its control groups.
    fn groups(&self) -> Option<PathBuf> {
        let text = std::fs::read_to_string(self.directory.path().join("cgroup")).unwrap();
        (!text.is_empty()).then(|| PathBuf::from(text))
    }

    fn state(&self) -> &str {
        self.directory.path().to_str().unwrap()
    }

    fn root(&self) -> &Path {
        self.root.path()
    }

    fn keeper_pid(&self) -> i32 {
        self.keeper.as_ref().unwrap().pid().as_raw()
    }

    fn signal(&self, signal: Signal) {
        self.keeper.as_ref().unwrap().signal(signal);
    }

    /// Waits for the keeper's end.
    fn keeper_ended(&mut self) -> Finished {
        self.keeper.take().unwrap().wait()
    }

    /// Kills the keeper as nothing but a crash does.
    fn crash(&mut self) {
        self.signal(Signal::SIGKILL);
        self.keeper_ended();
    }

    async fn guardian(&self, epoch: u64) -> Guardian {
        let client = wait_until("the keeper listens", SOON, async || {
            let connected = KeeperClient::connect(&self.directory, epoch).await;
            connected.map_err(|err| err.to_string())?.ok_or("nobody listens".to_owned())
        });
        Guardian {
            client: client.await,
            started: HashMap::new(),
            results: HashMap::new(),
            refusals: Vec::new(),
        }
    }

    /// A keeper with a guardian of epoch 1.
    async fn with_guardian() -> (Self, Guardian) {
        let host = Self::new();
        let guardian = host.guardian(1).await;
        (host, guardian)
    }
}

impl Guardian {
    async fn send(&mut self, request: Request) {
        self.client.send(&request).await.unwrap();
    }

    /// Orders a run with these fields in its spec.
    async fn start(&mut self, run_id: i64, fields: Value) -> RunKey {
        let start = order(run_id, fields);
        let key = start.key();
        self.send(Request::Start(Box::new(start))).await;
        key
    }

    async fn terminate(&mut self, key: RunKey, reason: &str) {
        self.intervene(key, Action::Terminate, reason).await;
    }

    async fn intervene(&mut self, key: RunKey, action: Action, reason: &str) {
        let reason = reason.to_owned();
        self.send(Request::Signal(Intervention { key, action, reason })).await;
    }

    /// Waits until the program of a run is executing.
    async fn started(&mut self, key: RunKey) -> Started {
        while !self.started.contains_key(&key) {
            let event = self.event().await;
            assert!(!self.results.contains_key(&key), "it has ended: {:?}", self.results[&key]);
            assert!(event.is_none(), "{event:?}");
        }
        self.started[&key].clone()
    }

    /// Waits for the result of a run, and acknowledges it.
    async fn result(&mut self, key: RunKey) -> RunResult {
        while !self.results.contains_key(&key) {
            let event = self.event().await;
            assert!(event.is_none(), "{event:?}");
        }
        self.send(Request::Ack(key)).await;
        self.results.remove(&key).unwrap()
    }

    /// Runs something to its end.
    async fn run(&mut self, run_id: i64, fields: Value) -> RunResult {
        let key = self.start(run_id, fields).await;
        self.result(key).await
    }

    async fn list(&mut self) -> Vec<Held> {
        self.send(Request::List {}).await;
        loop {
            if let Some(Event::Listed { runs }) = self.event().await {
                return runs;
            }
        }
    }

    async fn refused(&mut self, key: RunKey) -> Refused {
        loop {
            if let Some(refused) = self.refusals.pop_if(|refused| refused.key == key) {
                return refused;
            }
            self.event().await;
        }
    }

    /// Takes one event; what is said of a run is put aside.
    async fn event(&mut self) -> Option<Event> {
        let event = tokio::time::timeout(SOON, self.client.receive()).await.expect("the keeper is silent");
        match event.unwrap().expect("the keeper has hung up") {
            Event::Started(started) => drop(self.started.insert(started.key, started)),
            Event::Result(result) => drop(self.results.insert(result.key, *result)),
            Event::Refused(refused) => self.refusals.push(refused),
            other => return Some(other),
        }
        None
    }
}

/// A start with these fields in its spec.
fn order(run_id: i64, fields: Value) -> Start {
    let mut spec = json!({"job": "job", "run_id": run_id, "attempt": 1, "claim_no": run_id + 1000,
                          "due_us": 1_767_596_400_000_000_i64, "grace": 10.0});
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let spec = serde_json::from_value(spec).unwrap();
    Start {
        installation: INSTALLATION,
        host: "web1".to_owned(),
        spec,
        database: None,
        deadline_boottime_us: None,
        expires_boottime_us: None,
    }
}

/// How many lines a file has; a job at work makes it longer.
fn lines_of(file: &Path) -> usize {
    std::fs::read_to_string(file).unwrap_or_default().lines().count()
}

/// Waits until a file gets longer.
async fn grows(file: &Path) {
    let before = lines_of(file);
    wait_until("the job works", SOON, async || match lines_of(file) {
        now if now > before => Ok(()),
        now => Err(format!("{now} lines")),
    })
    .await;
}

/// Whether a process is there and not a zombie.
fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

/// Waits for a number that a job writes into a file.
async fn number_in(file: PathBuf) -> i32 {
    wait_until("the job writes a number", SOON, async || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        text.strip_suffix('\n').and_then(|text| text.trim().parse().ok()).ok_or(format!("{text:?}"))
    })
    .await
}

async fn gone(pid: i32) {
    wait_until(
        "a process is gone",
        SOON,
        async || if is_alive(pid) { Err(format!("{pid} lives")) } else { Ok(()) },
    )
    .await;
}
