//! Processor time by part, from /proc.

use std::{collections::BTreeMap, fs, ops::Sub};

/// Seconds of user and system time that a process has used, and those of its children that it has reaped.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used {
    pub(crate) own: f64,
    pub(crate) reaped: f64,
}

/// A part of the machine and what it has used since some moment.
pub(crate) type Parts = BTreeMap<&'static str, f64>;

/// What a process has used so far; nothing when it is gone.
pub(crate) fn of(pid: u32) -> Used {
    let used = fields(pid).map(|(_, used)| used).unwrap_or_default();
    Used { own: exactly(pid).unwrap_or(used.own), ..used }
}

/// What the threads of a process have used, in nanoseconds and not in ticks, where the kernel counts that.
fn exactly(pid: u32) -> Option<f64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    let nanoseconds = threads.map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    Some(nanoseconds.sum::<Option<f64>>()? / 1e9)
}

/// A server and all its processes, those that have ended as well.
pub(crate) fn of_tree(root: u32) -> f64 {
    let own = of(root);
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let children: f64 =
        pids.filter_map(fields).filter(|(parent, _)| *parent == root).map(|(_, used)| used.own).sum();
    own.own + own.reaped + children
}

/// The whole machine, idle time left out.
pub(crate) fn of_machine() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap();
    let ticks = text.lines().next().unwrap().split_ascii_whitespace().skip(1);
    let ticks: Vec<f64> = ticks.map(|field| field.parse().unwrap()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal
    (ticks[..3].iter().sum::<f64>() + ticks[5..7].iter().sum::<f64>()) / per_second()
}

/// What was used between two looks.
pub(crate) fn between(before: &Parts, after: &Parts) -> Parts {
    after.iter().map(|(part, used)| (*part, used.sub(before[part]))).collect()
}

/// The child of a process that has this name.
pub(crate) fn child_named(parent: u32, name: &str) -> Option<u32> {
    let list = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).find(|pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
    })
}

fn fields(pid: u32) -> Option<(u32, Used)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let seconds = |from: usize| {
        let ticks = fields[from..from + 2].iter().map(|field| field.parse::<f64>().unwrap_or(0.0));
        ticks.sum::<f64>() / per_second()
    };
    Some((fields[1].parse().ok()?, Used { own: seconds(11), reaped: seconds(13) }))
}

fn per_second() -> f64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).unwrap().unwrap() as f64
}
