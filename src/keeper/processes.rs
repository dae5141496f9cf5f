//! What /proc says about processes: who is whose child, in which session, of which run.

use std::{collections::HashMap, fs, io::Read, os::fd::AsFd};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use uuid::Uuid;

use super::sys;

/// The longest environment that is looked through for our marks.
const ENVIRON_LIMIT: u64 = 4 << 20;

/// One line of /proc/PID/stat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) state: u8,
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) session: i32,
    /// Clock ticks since boot; with the pid it names a process for ever.
    pub(super) start_ticks: u64,
}

/// What a process of a job carries in its environment from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) keeper: Uuid,
    pub(super) run_id: i64,
    pub(super) claim_no: i64,
}

impl Stat {
    /// Of a process; none when there is none.
    pub(super) fn of(pid: i32) -> Option<Self> {
        Self::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Whether it has ended and only waits to be reaped.
    pub(super) fn is_zombie(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }

    fn parse(line: &[u8]) -> Option<Self> {
        // The name may hold anything, also ") R 1": the fields begin after the last parenthesis.
        let end = line.iter().rposition(|&byte| byte == b')')?;
        let fields = std::str::from_utf8(&line[end + 1..]).ok()?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        Some(Self {
            state: *fields.first()?.as_bytes().first()?,
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            start_ticks: fields.get(19)?.parse().ok()?,
        })
    }
}

impl Mark {
    /// Of a process; none when it carries none, or may not be looked at.
    pub(super) fn of(pid: i32) -> Option<Self> {
        let mut environ = Vec::new();
        fs::File::open(format!("/proc/{pid}/environ"))
            .ok()?
            .take(ENVIRON_LIMIT)
            .read_to_end(&mut environ)
            .ok()?;
        Self::parse(&environ)
    }

    fn parse(environ: &[u8]) -> Option<Self> {
        let (mut keeper, mut run_id, mut claim_no) = (None, None, None);
        for variable in environ.split(|&byte| byte == 0) {
            let Some(mark) = variable.strip_prefix(b"SISYPHUS_") else { continue };
            let Ok(mark) = std::str::from_utf8(mark) else { continue };
            match mark.split_once('=') {
                Some(("KEEPER", value)) => keeper = value.parse().ok(),
                Some(("RUN_ID", value)) => run_id = value.parse().ok(),
                Some(("CLAIM", value)) => claim_no = value.parse().ok(),
                _ => {}
            }
        }
        Some(Self { keeper: keeper?, run_id: run_id?, claim_no: claim_no? })
    }
}

/// The pids of all processes.
pub(super) fn all() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The children of this process, which has one thread.
pub(super) fn own_children() -> Vec<i32> {
    let own = std::process::id();
    match fs::read_to_string(format!("/proc/self/task/{own}/children")) {
        Ok(list) => list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect(),
        // A kernel without CONFIG_PROC_CHILDREN.
        Err(_) => {
            snapshot().into_iter().filter(|(_, stat)| stat.parent == own as i32).map(|it| it.0).collect()
        }
    }
}

/// All processes as they are at about this moment.
pub(super) fn snapshot() -> HashMap<i32, Stat> {
    all().into_iter().filter_map(|pid| Some((pid, Stat::of(pid)?))).collect()
}

/// Of a snapshot, the living processes that belong to a job: in the session or group of its first
/// process, one of `roots`, or a descendant of any of these.
pub(super) fn family(snapshot: &HashMap<i32, Stat>, leader: i32, roots: &[i32]) -> Vec<i32> {
    let belongs = |mut pid: i32| {
        // The chain of parents is as long as the tree is deep; a bound, since the snapshot may hold a loop.
        for _ in 0..snapshot.len() {
            let Some(stat) = snapshot.get(&pid) else { return false };
            if pid == leader || stat.session == leader || stat.group == leader || roots.contains(&pid) {
                return true;
            }
            pid = stat.parent;
        }
        false
    };
    snapshot.iter().filter(|(pid, stat)| !stat.is_zombie() && belongs(**pid)).map(|(pid, _)| *pid).collect()
}

/// Signals a process if it is still the one that `stat` was read of; its pid may have been used again.
pub(super) fn signal(pid: i32, stat: Stat, signal: Signal) -> Result<(), Errno> {
    let pidfd = match sys::pidfd_open(Pid::from_raw(pid)) {
        Ok(pidfd) => pidfd,
        Err(Errno::ESRCH) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    // Looked at after the descriptor was opened: if the start time is the same now, the descriptor is it.
    if Stat::of(pid).is_none_or(|now| now.start_ticks != stat.start_ticks) {
        return Ok(());
    }
    match sys::pidfd_kill(pidfd.as_fd(), signal as i32) {
        Err(Errno::ESRCH) => Ok(()),
        done => done,
    }
}

/// Signals the process group of a child that is not reaped, so that the number is surely still its own.
pub(super) fn signal_group(leader: i32, signal: Signal) {
    // 0 and 1 would be this process's own group, and everybody.
    if leader <= 1 {
        return;
    }
    let leader = Pid::from_raw(leader);
    // A child that has not reached setsid yet leads no group.
    if killpg(leader, signal) == Err(Errno::ESRCH) {
        let _ = kill(leader, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(parent: i32, group: i32, session: i32) -> Stat {
        Stat { state: b'S', parent, group, session, start_ticks: 1 }
    }

    #[test]
    fn a_name_full_of_parentheses_does_not_confuse() {
        let line = b"7 (a) R 1 (b)) S 5 6 7 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.state, stat.parent, stat.group, stat.session), (b'S', 5, 6, 7));
        assert_eq!(stat.start_ticks, 4711);
    }

    #[test]
    fn own_stat_is_that_of_this_process() {
        let own = Stat::of(std::process::id() as i32).unwrap();
        assert_eq!(own.parent, nix::unistd::getppid().as_raw());
        assert!(!own.is_zombie());
    }

    #[test]
    fn a_mark_needs_all_three() {
        let keeper = Uuid::from_u128(5);
        let environ = format!("A=b\0SISYPHUS_KEEPER={keeper}\0SISYPHUS_RUN_ID=3\0SISYPHUS_CLAIM=4\0");
        assert_eq!(Mark::parse(environ.as_bytes()), Some(Mark { keeper, run_id: 3, claim_no: 4 }));
        assert_eq!(Mark::parse(b"SISYPHUS_RUN_ID=3\0SISYPHUS_CLAIM=4\0"), None);
    }

    #[test]
    fn a_family_is_session_group_and_descendants() {
        let snapshot = HashMap::from([
            (10, stat(1, 10, 10)),
            (11, stat(10, 11, 10)),
            (12, stat(11, 12, 12)),
            (13, stat(12, 13, 13)),
            (20, stat(1, 20, 20)),
            (21, stat(20, 21, 21)),
            (30, stat(1, 30, 30)),
        ]);
        let mut members = family(&snapshot, 10, &[20]);
        members.sort_unstable();
        assert_eq!(members, [10, 11, 12, 13, 20, 21]);
    }
}
