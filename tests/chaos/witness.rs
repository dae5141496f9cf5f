//! The log that each job writes by itself: when it was forked, that it lives, how it ended.

use std::{
    fs,
    path::{Path, PathBuf},
};

use chrono::DateTime;
use nix::{
    sys::stat::Mode,
    unistd::{SysconfVar, mkfifo, sysconf},
};

use super::records::{Job, Process, SECOND};

/// A folder with the program of the jobs and their log.
pub(super) struct Witness(PathBuf);

impl Witness {
    pub(super) fn in_folder(folder: &Path) -> Self {
        fs::write(folder.join("job.sh"), include_str!("job.sh")).unwrap();
        mkfifo(&folder.join("never"), Mode::from_bits_truncate(0o600)).unwrap();
        fs::write(folder.join("witness"), "").unwrap();
        Self(folder.to_owned())
    }

    /// The command line of a job.
    pub(super) fn argv(&self, job: &Job) -> Vec<String> {
        let file = |name| self.0.join(name).to_str().unwrap().to_owned();
        let mut argv = vec!["/bin/bash".to_owned(), file("job.sh"), file("")];
        argv.extend(job.work.map(|number| number.to_string()));
        argv
    }

    /// What has been written so far.
    pub(super) fn text(&self) -> String {
        fs::read_to_string(self.0.join("witness")).unwrap()
    }
}

/// The processes that a log tells of, and the lines that make no sense.
pub(super) fn read(text: &str) -> (Vec<Process>, Vec<String>) {
    let (mut processes, mut odd) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        if take(&words, &mut processes).is_none() {
            odd.push(line.to_owned());
        }
    }
    (processes, odd)
}

fn take(words: &[&str], processes: &mut Vec<Process>) -> Option<()> {
    if words[0] == "start" {
        processes.push(begun(words)?);
        return Some(());
    }
    let (run_id, claim_no) = (words.get(1)?.parse().ok()?, words.get(2)?.parse().ok()?);
    let pid: i32 = words.get(3)?.parse().ok()?;
    let process = processes.iter_mut().rfind(|p| (p.run_id, p.claim_no, p.pid) == (run_id, claim_no, pid))?;
    match *words {
        ["beat", _, _, _, at] => process.seen = micros(at)?,
        ["end", _, _, _, code, at] if process.ended.is_none() => {
            process.seen = micros(at)?;
            process.ended = Some((process.seen, code.parse().ok()?));
        }
        _ => return None,
    }
    Some(())
}

fn begun(words: &[&str]) -> Option<Process> {
    let [_, run_id, claim_no, pid, job, attempt, host, due, before, after, uptime, ticks, token, definition] =
        *words
    else {
        return None;
    };
    // Both count from the start of the machine, in hundredths of a second here and there.
    let age = micros(uptime)? - ticks.parse::<i64>().ok()? * SECOND / ticks_a_second();
    let (before, after) = (micros(before)?, micros(after)?);
    Some(Process {
        job: job.to_owned(),
        run_id: run_id.parse().ok()?,
        attempt: attempt.parse().ok()?,
        claim_no: claim_no.parse().ok()?,
        host: host.to_owned(),
        token: (token != "-").then(|| token.parse()).transpose().ok()?,
        definition: definition.parse().ok()?,
        due: DateTime::parse_from_rfc3339(due).ok()?.timestamp_micros(),
        pid: pid.parse().ok()?,
        began: (before - age, after - age),
        seen: after,
        ended: None,
    })
}

fn ticks_a_second() -> i64 {
    sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100)
}

/// Microseconds of seconds with a fraction.
fn micros(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.')?;
    let fraction = format!("{fraction:0<6}");
    Some(whole.parse::<i64>().ok()? * SECOND + fraction.get(..6)?.parse::<i64>().ok()?)
}

#[test]
fn a_log_tells_of_processes() {
    let text = "start 7 9 44 skip 1 web1 2026-01-05T07:00:00Z 1767596400.250000 1767596400.260000 100.50 10030 12 3\n\
                beat 7 9 44 1767596400.5\n\
                nonsense\n\
                beat 8 1 44 1767596400.5\n\
                end 7 9 44 3 1767596400.750000\n";
    let (processes, odd) = read(text);
    assert_eq!(odd, ["nonsense", "beat 8 1 44 1767596400.5"]);
    let due = 1_767_596_400 * SECOND;
    let process = Process {
        job: "skip".to_owned(),
        run_id: 7,
        attempt: 1,
        claim_no: 9,
        host: "web1".to_owned(),
        token: Some(12),
        definition: 3,
        due,
        pid: 44,
        began: (due + 50_000, due + 60_000),
        seen: due + 750_000,
        ended: Some((due + 750_000, 3)),
    };
    assert_eq!(processes, [process]);
}
