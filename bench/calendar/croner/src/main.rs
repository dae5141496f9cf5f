//! Times croner on the starts that `bench.py` hands over: `bench-croner STARTS EXPRESSION…`, one line an expression
//! with the median and the longest call in microseconds, once with the expression parsed before and once with parsing.

use std::{env, fs, hint::black_box, str::FromStr, time::Instant};

use chrono::{DateTime, Utc};
use chrono_tz::Europe::Amsterdam;
use croner::Cron;

/// Each start is timed this often and its fastest time counts: what the machine does besides is not measured.
const ROUNDS: usize = 3;

fn main() {
    let mut args = env::args().skip(1);
    let starts = fs::read_to_string(args.next().expect("file of starts")).expect("readable");
    let starts: Vec<_> = starts
        .lines()
        .map(|line| DateTime::<Utc>::from_timestamp(line.parse().expect("seconds"), 0).expect("in range"))
        .map(|start| start.with_timezone(&Amsterdam))
        .collect();
    for expression in args {
        let cron = Cron::from_str(&expression).expect("valid");
        let compiled = starts.iter().map(|start| best(|| cron.find_next_occurrence(start, false).is_ok()));
        let (compiled, longest) = summary(compiled.collect());
        let parsed = starts.iter().map(|start| {
            best(|| Cron::from_str(&expression).expect("valid").find_next_occurrence(start, false).is_ok())
        });
        let (parsed, longest_parsed) = summary(parsed.collect());
        println!("{expression}\t{compiled:.2}\t{longest:.2}\t{parsed:.2}\t{longest_parsed:.2}");
    }
}

fn best(mut call: impl FnMut() -> bool) -> f64 {
    (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            black_box(call());
            started.elapsed().as_secs_f64() * 1e6
        })
        .fold(f64::INFINITY, f64::min)
}

fn summary(mut times: Vec<f64>) -> (f64, f64) {
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[times.len() - 1])
}
