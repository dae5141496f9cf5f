//! A control group (version 2) for each run, where the host lets the keeper make them.
//!
//! What is in a group cannot leave it, whatever it does to its session, its parents and its environment:
//! with it a run is ended, stopped and limited as a whole.

mod place;

use std::{
    cell::Cell,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    libc,
    sys::{
        resource::{Resource, getrlimit},
        signal::Signal,
    },
    unistd::Pid,
};
use uuid::Uuid;

pub use self::place::Place;
use super::{limits::Limits, protocol::RunKey, result_file::RunDirectory, sys};
use crate::observe::event;

/// The time over which the kernel counts a share of processors, microseconds.
const CPU_PERIOD_US: f64 = 100_000.0;
/// How long the processes of a dead keeper may take to die of KILL.
const PATIENCE: Duration = Duration::from_secs(5);
/// The file that tells whether anybody is in a group.
const EVENTS: &str = "cgroup.events";
/// The file that tells what those in a group have used.
const STAT: &str = "cpu.stat";
/// More than either of them holds.
const LONGEST: usize = 4096;
/// Groups kept for the next runs: more than are ever needed at once by jobs that end in a moment,
const MOST_SPARE: u64 = 256;
/// or one for each so many files that this process may have open: each has three.
const FILES_FOR_A_SPARE: u64 = 16;
/// Groups of ended runs with something left in them that are tried again at once.
const RETRIES: usize = 4;

/// The groups of one keeper.
#[derive(Debug)]
pub(super) struct Cgroups {
    /// The keeper's own, with one below it for each run.
    root: PathBuf,
    /// Whether the kernel is behind them.
    real: bool,
    memory: bool,
    cpu: bool,
    /// Of ended runs that left something in them.
    lingering: Vec<PathBuf>,
    /// Of ended runs that left nothing, for the next: to make and remove one takes the kernel longer than to make
    /// the process in it.
    spare: Vec<Cgroup>,
    most_spare: usize,
    last: u64,
}

/// The group of a run.
#[derive(Debug)]
pub(super) struct Cgroup {
    path: PathBuf,
    directory: File,
    /// None yet where a plain directory stands in for the group.
    events: Option<File>,
    stat: Option<File>,
    real: bool,
    memory: bool,
    /// Whether other runs may have it later. Not once it was killed: Linux 6.18 kills whoever is made in it then.
    is_reusable: Cell<bool>,
    /// Seconds of user and system time that earlier runs have used in it.
    used_before: (f64, f64),
}

/// What the processes of a group have used together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct GroupUsage {
    pub(super) cpu_user: f64,
    pub(super) cpu_system: f64,
    pub(super) peak_memory: Option<i64>,
    /// Whether the kernel ended some because the group was over its memory limit.
    pub(super) out_of_memory: bool,
}

impl Cgroups {
    /// The groups of a keeper, in the place that this host has for them; none where it has none.
    pub(super) fn open(place: &Place, keeper: Uuid) -> Option<Self> {
        let base = place.find()?;
        match Self::set_up(&base, keeper) {
            Ok(groups) => {
                let Self { root, memory, cpu, .. } = &groups;
                tracing::info!(
                    event = event::KEEPER_GROUPS,
                    ?root,
                    memory,
                    cpu,
                    "a control group for each run"
                );
                Some(groups)
            }
            Err(err) => {
                tracing::info!(event = event::KEEPER_NO_GROUPS, ?base, error = %err, "no control groups");
                None
            }
        }
    }

    fn set_up(base: &Path, keeper: Uuid) -> io::Result<Self> {
        // A group with controllers for those below it may hold no process itself; the tree's root may.
        if base.join("cgroup.type").exists() {
            let own = base.join("keeper");
            make(&own)?;
            write(&own.join("cgroup.procs"), std::process::id())?;
        }
        let root = base.join(format!("sisyphus-{keeper}"));
        let offered = fs::read_to_string(base.join("cgroup.controllers"))?;
        let enabled: Vec<bool> = ["memory", "cpu"]
            .iter()
            .map(|name| {
                offered.split_ascii_whitespace().any(|it| it == *name)
                    && write(&base.join("cgroup.subtree_control"), format!("+{name}")).is_ok()
            })
            .collect();
        make(&root)?;
        let enable = |name| write(&root.join("cgroup.subtree_control"), format!("+{name}")).is_ok();
        let (memory, cpu) = (enabled[0] && enable("memory"), enabled[1] && enable("cpu"));
        let real = root.join(EVENTS).exists();
        let (_, files) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let most_spare = (files / FILES_FOR_A_SPARE).min(MOST_SPARE) as usize;
        let (lingering, spare) = (Vec::new(), Vec::new());
        Ok(Self { root, real, memory, cpu, lingering, spare, most_spare, last: 0 })
    }

    /// Where they are, for a keeper that comes after this one.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether these limits hold for a group as a whole: memory, processors.
    pub(super) fn controls(&self) -> (bool, bool) {
        (self.memory, self.cpu)
    }

    /// Makes the group of a run. When nothing is to be left of the run (`is_reusable`) and no controller counts in
    /// its group, another run has it later.
    pub(super) fn make(&mut self, key: RunKey, limits: &Limits, is_reusable: bool) -> io::Result<Cgroup> {
        let is_reusable = is_reusable && self.real && !self.memory && !self.cpu;
        if is_reusable && let Some(group) = self.spare.pop() {
            return Ok(group);
        }
        let tried = self.lingering.len().min(RETRIES);
        let again = self.lingering.drain(..tried).collect::<Vec<_>>();
        self.lingering.extend(again.into_iter().filter(|path| is_busy(fs::remove_dir(path))));
        let path = if is_reusable {
            self.last += 1;
            self.root.join(format!("reused{}", self.last))
        } else {
            self.root.join(format!("{}-{}", key.run_id, key.claim_no))
        };
        make(&path)?;
        self.fill(&path, limits, is_reusable).inspect_err(|_| {
            let _ = fs::remove_dir(&path);
        })
    }

    fn fill(&self, path: &Path, limits: &Limits, is_reusable: bool) -> io::Result<Cgroup> {
        if let Some(bytes) = limits.memory.filter(|_| self.memory) {
            write(&path.join("memory.max"), bytes)?;
            // All of it or nothing, and no way around it through the swap. Old kernels lack one or both.
            let _ = write(&path.join("memory.swap.max"), 0);
            let _ = write(&path.join("memory.oom.group"), 1);
        }
        if let Some(processors) = limits.cpu.filter(|_| self.cpu) {
            let quota = (processors * CPU_PERIOD_US).round();
            write(&path.join("cpu.max"), format!("{quota} {CPU_PERIOD_US}"))?;
        }
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        Ok(Cgroup {
            path: path.to_owned(),
            directory: OpenOptions::new().read(true).custom_flags(flags).open(path)?,
            events: File::open(path.join(EVENTS)).ok(),
            stat: File::open(path.join(STAT)).ok(),
            real: self.real,
            memory: self.memory,
            is_reusable: Cell::new(is_reusable),
            used_before: (0.0, 0.0),
        })
    }

    /// Lets go of the group of an ended run; what was left in it keeps it until it ends.
    pub(super) fn release(&mut self, mut group: Cgroup) {
        if group.is_reusable.get() && self.spare.len() < self.most_spare && group.is_as_made() {
            group.used_before = group.used().unwrap_or_default();
            self.spare.push(group);
        } else if is_busy(fs::remove_dir(&group.path)) {
            freeze(&group.path, false);
            self.lingering.push(group.path);
        }
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        self.spare.iter().for_each(|group| drop(fs::remove_dir(&group.path)));
        let _ = fs::remove_dir(&self.root);
    }
}

impl Cgroup {
    /// For a process that is to be made in it.
    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Whether the kernel may have to make room in it.
    pub(super) fn limits_memory(&self) -> bool {
        self.memory
    }

    /// Whether it holds processes, and does not only stand in for one that would.
    pub(super) fn is_real(&self) -> bool {
        self.real
    }

    /// Kills all that is in it.
    pub(super) fn kill(&self) {
        self.is_reusable.set(false);
        kill(&self.path);
    }

    /// Signals all that is in it.
    pub(super) fn signal(&self, signals: &[Signal]) {
        let listed = pids(&self.path);
        let held: Vec<_> = listed
            .into_iter()
            .filter_map(|pid| Some((pid, sys::pidfd_open(Pid::from_raw(pid)).ok()?)))
            .collect();
        // Who is in the list after its descriptor was opened is surely the one behind it.
        let listed = pids(&self.path);
        for (_, pidfd) in held.iter().filter(|(pid, _)| listed.contains(pid)) {
            for signal in signals {
                let _ = sys::pidfd_kill(pidfd.as_fd(), *signal as i32);
            }
        }
    }

    /// Stops all that is in it and all that will be, or lets it go on.
    pub(super) fn freeze(&self, frozen: bool) {
        freeze(&self.path, frozen);
    }

    /// Whether a process is in it that has not ended.
    pub(super) fn is_populated(&self) -> bool {
        number_of(&self.text(self.events.as_ref(), EVENTS), "populated") == Some(1)
    }

    /// Whether it is empty, goes on, and has no groups below.
    fn is_as_made(&self) -> bool {
        let events = self.text(self.events.as_ref(), EVENTS);
        ["populated", "frozen"].iter().all(|name| number_of(&events, name).unwrap_or_default() == 0)
            && self.directory.metadata().is_ok_and(|found| found.nlink() == 2)
    }

    /// What its processes have used, this run's and those before.
    fn used(&self) -> Option<(f64, f64)> {
        let text = self.text(self.stat.as_ref(), STAT);
        let seconds = |name| Some(number_of(&text, name)? as f64 / 1e6);
        Some((seconds("user_usec")?, seconds("system_usec")?))
    }

    fn text(&self, file: Option<&File>, name: &str) -> String {
        let Some(file) = file else { return fs::read_to_string(self.path.join(name)).unwrap_or_default() };
        let mut text = vec![0; LONGEST];
        let length = file.read_at(&mut text, 0).unwrap_or_default();
        String::from_utf8_lossy(&text[..length]).into_owned()
    }

    /// What the processes of this run have used.
    pub(super) fn usage(&self) -> Option<GroupUsage> {
        let (user, system) = self.used()?;
        let (mut peak_memory, mut out_of_memory) = (None, false);
        if self.memory {
            let peak = fs::read_to_string(self.path.join("memory.peak")).unwrap_or_default();
            peak_memory = peak.trim().parse().ok();
            let events = fs::read_to_string(self.path.join("memory.events")).unwrap_or_default();
            out_of_memory = number_of(&events, "oom_kill").is_some_and(|killed| killed > 0);
        }
        Some(GroupUsage {
            cpu_user: user - self.used_before.0,
            cpu_system: system - self.used_before.1,
            peak_memory,
            out_of_memory,
        })
    }
}

/// Ends what a dead keeper left in its groups, but for those of runs that are spared, and removes what is empty.
/// Returns how many processes were killed.
pub(super) fn sweep(root: &Path, is_spared: impl Fn((i64, i64)) -> bool) -> usize {
    let groups = subgroups(root);
    let doomed = |path: &&PathBuf| {
        path.file_name().is_some_and(|name| !RunDirectory::claim_of(name).is_some_and(&is_spared))
    };
    let mut killed = 0;
    for path in groups.iter().filter(doomed) {
        killed += pids(path).len();
        kill(path);
    }
    let begun = Instant::now();
    for path in groups.iter().filter(doomed) {
        while is_populated(path) && begun.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(2));
        }
    }
    groups.iter().for_each(|path| drop(fs::remove_dir(path)));
    let _ = fs::remove_dir(root);
    killed
}

fn freeze(path: &Path, frozen: bool) {
    let _ = write(&path.join("cgroup.freeze"), u8::from(frozen));
}

fn kill(path: &Path) {
    let _ = write(&path.join("cgroup.kill"), 1);
}

fn is_populated(path: &Path) -> bool {
    let events = fs::read_to_string(path.join(EVENTS)).unwrap_or_default();
    number_of(&events, "populated") == Some(1)
}

/// Also of groups that a job, run by root, has made below its own.
fn pids(path: &Path) -> Vec<i32> {
    let own = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    let own = own.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).filter(|pid| *pid > 1);
    own.chain(subgroups(path).iter().flat_map(|below| pids(below))).collect()
}

fn subgroups(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|it| it.is_dir())).map(|entry| entry.path()).collect()
}

fn number_of(text: &str, name: &str) -> Option<i64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn is_busy(removed: io::Result<()>) -> bool {
    removed.is_err_and(|err| err.raw_os_error() == Some(libc::EBUSY))
}

fn make(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn write(path: &Path, value: impl ToString) -> io::Result<()> {
    // The kernel has all its files already; where a plain directory stands in for it, they are made.
    let mut file: File = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    file.write_all(value.to_string().as_bytes())
}
