//! How many `/bin/true` a second one host runs, results stored in the history of a server on the same machine
//! with full durability; beside it, in the same run, a bare loop of spawn and wait, and the keeper alone. And
//! where the processor time of a run goes: times depend on what else the machine does, these hardly do.
//!
//! `make bench-spawn`; by hand `cargo test --bench spawn -- [RUNS] [SLOTS…]`

#![allow(clippy::unwrap_used, reason = "a benchmark that panics has failed, as it should")]

#[path = "../support/mod.rs"]
mod support;

mod alone;
mod whole;

use std::{
    collections::VecDeque,
    process::{Child, Command, Stdio},
    time::Instant,
};

use nix::sys::resource::{UsageWho, getrusage};
use support::cpu::Parts;

/// Processes at once in the bare loop and in the keeper alone.
const WINDOW: usize = 32;

/// What a contestant has done.
pub(crate) struct Measured {
    seconds: f64,
    /// Processor seconds by part.
    used: Parts,
}

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let (runs, slots) = numbers.split_first().map_or((10_000, [].as_slice()), |(runs, slots)| (*runs, slots));
    let slots = if slots.is_empty() { &[64, 200] } else { slots };
    println!("{}", support::machine());
    println!("{:<24}{:>8}{:>12}   of it", "", "runs/s", "µs CPU each");
    tell("bare spawn and wait", runs, &bare(runs));
    tell("the keeper alone", runs, &alone::measure(runs));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cluster = support::fresh_cluster("bench-spawn");
    runtime.block_on(async {
        let mut house = whole::House::furnish(&cluster).await;
        for &slots in slots {
            let measured = house.measure(runs, slots).await;
            tell(&format!("end to end, {slots} slots"), runs, &measured);
        }
    });
    cluster.stop().unwrap();
    // Anew: what else the machine does changes from one minute to the next.
    tell("bare spawn and wait", runs, &bare(runs));
}

fn tell(what: &str, runs: usize, measured: &Measured) {
    let each = |seconds: f64| seconds * 1e6 / runs as f64;
    let all: f64 = measured.used.values().sum();
    let parts: Vec<String> =
        measured.used.iter().map(|(part, used)| format!("{part} {:.0}", each(*used))).collect();
    let rate = runs as f64 / measured.seconds;
    println!("{what:<24}{rate:>8.0}{:>12.0}   {}", each(all), parts.join(", "));
}

fn bare(runs: usize) -> Measured {
    let used = |who| {
        let usage = getrusage(who).unwrap();
        [usage.user_time(), usage.system_time()]
            .map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6)
            .iter()
            .sum::<f64>()
    };
    let before = (used(UsageWho::RUSAGE_SELF), used(UsageWho::RUSAGE_CHILDREN));
    let begun = Instant::now();
    let mut running: VecDeque<Child> = VecDeque::new();
    for _ in 0..runs {
        if running.len() == WINDOW
            && let Some(mut child) = running.pop_front()
        {
            child.wait().unwrap();
        }
        let mut command = Command::new("/bin/true");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        running.push_back(command.spawn().unwrap());
    }
    for mut child in running {
        child.wait().unwrap();
    }
    Measured {
        seconds: begun.elapsed().as_secs_f64(),
        used: Parts::from([
            ("loop", used(UsageWho::RUSAGE_SELF) - before.0),
            ("jobs", used(UsageWho::RUSAGE_CHILDREN) - before.1),
        ]),
    }
}
