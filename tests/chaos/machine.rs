//! A host of the fleet: its program, its guardian, its keepers, its wires to both servers, and the disk of its state
//! directory.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::records::now;
use crate::{
    guardian::host::Host,
    support::{self, Filler, Proxy, Server, SmallDisk, Spawned, comes_true},
};

/// How many runs it takes at once.
pub(super) const SLOTS: &str = "8";
/// Megabytes for the state directory: what a keeper needs to keep is a fraction of it.
const DISK: u32 = 64;
/// Builds of the program that there are.
const BUILDS: u64 = 3;

pub(super) struct Machine {
    pub(super) host: Host,
    /// Where the program lies.
    program: PathBuf,
    build: u64,
    /// How the guardian is ended that the next build replaces.
    pub(super) replaced_by: Signal,
    pub(super) wires: [Proxy; 2],
    pub(super) guardian: Option<Spawned>,
    pub(super) paused: bool,
    pub(super) paused_keepers: Vec<Pid>,
    pub(super) filler: Option<Filler>,
    /// None where nothing may be mounted.
    pub(super) disk: Option<SmallDisk>,
}

impl Machine {
    /// Nothing is started yet.
    pub(super) async fn new(name: &'static str, ports: [u16; 2]) -> Self {
        let wires = [Proxy::to(Server::Port(ports[0])).await, Proxy::to(Server::Port(ports[1])).await];
        let [one, two] = [wires[0].port(), wires[1].port()];
        let url = format!("postgresql://postgres@127.0.0.1:{one},127.0.0.1:{two}/jobs");
        let mut host = Host::new(name, &url);
        let disk = SmallDisk::mount(DISK);
        if let Some(disk) = &disk {
            host.keep_state_in(disk.path());
        }
        let program = host.file("sisyphus");
        install(Path::new(env!("CARGO_BIN_EXE_sisyphus")), &program, 0);
        Self {
            host,
            program,
            build: 0,
            replaced_by: Signal::SIGTERM,
            wires,
            guardian: None,
            paused: false,
            paused_keepers: Vec::new(),
            filler: None,
            disk,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        self.host.name
    }

    pub(super) fn start(&mut self) {
        if self.guardian.is_none() {
            let command = self.host.command_of(&self.program, &["--slots", SLOTS]);
            self.guardian = Some(support::spawn(command));
        }
    }

    /// Another build lies where the program did; `which` of the others, perhaps one that was there before. What executes
    /// goes on with its own.
    pub(super) fn install(&mut self, which: u64) {
        self.build = (self.build + 1 + which % (BUILDS - 1)) % BUILDS;
        install(&self.program, &self.program, self.build);
    }

    /// Whether a keeper of another build is at work beside the newest one.
    pub(super) fn has_older_keepers(&self) -> bool {
        // One, and its writer.
        self.host.keepers().len() > 2
    }

    /// Sends the guardian a signal that ends it; what it said.
    pub(super) fn end(&mut self, signal: Signal) -> Option<crate::support::Finished> {
        self.resume();
        let guardian = self.guardian.take()?;
        guardian.signal(signal);
        Some(guardian.wait())
    }

    pub(super) fn pause(&mut self) {
        if let Some(guardian) = &self.guardian {
            guardian.signal(Signal::SIGSTOP);
            self.paused = true;
        }
    }

    pub(super) fn resume(&mut self) {
        if let (Some(guardian), true) = (&self.guardian, self.paused) {
            guardian.signal(Signal::SIGCONT);
        }
        self.paused = false;
    }

    pub(super) fn pause_keepers(&mut self) {
        self.paused_keepers = self.host.keepers().into_iter().filter(|pid| !is_writer(*pid)).collect();
        for keeper in &self.paused_keepers {
            kill(*keeper, Signal::SIGSTOP).ok();
        }
    }

    pub(super) fn resume_keepers(&mut self) {
        for keeper in self.paused_keepers.drain(..) {
            kill(keeper, Signal::SIGCONT).ok();
        }
    }

    /// Kills the keeper and its writer, and returns when they are gone: from when until when.
    pub(super) fn kill_keeper(&self) -> (i64, i64) {
        let keepers = self.host.keepers();
        let from = now();
        for keeper in &keepers {
            kill(*keeper, Signal::SIGKILL).ok();
        }
        let alive = |pid: &Pid| self.host.keepers().contains(pid);
        comes_true(Duration::from_secs(10), || !keepers.iter().any(alive));
        (from, now())
    }

    pub(super) fn wires(&self, each: impl Fn(&Proxy)) {
        self.wires.iter().for_each(each);
    }

    /// Everything works again.
    pub(super) fn heal(&mut self) {
        self.filler = None;
        self.wires(|wire| {
            wire.mend();
            wire.delay(Duration::ZERO);
        });
        self.resume();
        self.resume_keepers();
        self.start();
    }
}

fn is_writer(keeper: Pid) -> bool {
    fs::read_to_string(format!("/proc/{keeper}/comm")).is_ok_and(|name| name.trim() == "sisyphus-writer")
}

/// Puts a build in a place as package managers do: as a new file, by its name. Two are the same build if version, size and
/// time of their files are.
fn install(from: &Path, place: &Path, build: u64) {
    let draft = place.with_extension("new");
    fs::copy(from, &draft).unwrap();
    let made = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000 + build);
    fs::File::options().write(true).open(&draft).unwrap().set_modified(made).unwrap();
    fs::rename(&draft, place).unwrap();
}
