//! What a guardian shows of itself: numbers for Prometheus, and whether it is ready for work.

use std::{fmt::Write as _, fs, time::Duration};

use super::{
    actor::{Guardian, Keeper, Membership},
    moment::Boot,
    runs::Stages,
};
use crate::observe::{Metric, metric};

/// Upper ends of the buckets of a lateness, in seconds.
const BUCKETS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// What has been counted since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) connects: u64,
    pub(super) claims: u64,
    pub(super) claim_time: Duration,
    pub(super) claimed: u64,
    pub(super) started: u64,
    pub(super) not_started: u64,
    pub(super) released: u64,
    pub(super) recorded: u64,
    pub(super) lateness: Histogram,
}

#[derive(Debug, Default)]
pub(super) struct Histogram {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

impl Histogram {
    pub(super) fn add(&mut self, seconds: f64) {
        self.count += 1;
        self.sum += seconds;
        if let Some(at) = BUCKETS.iter().position(|end| seconds <= *end) {
            self.buckets[at] += 1;
        }
    }
}

/// The guardian as it is at a moment.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// What is missing, if anything.
    pub(super) not_ready: Option<String>,
    /// The numbers, in Prometheus' text format.
    pub(super) metrics: String,
}

impl Guardian {
    pub(super) fn snapshot(&mut self, now: Boot) -> Snapshot {
        let unfit = self.health.look(now).map(str::to_owned);
        let missing = [
            (self.leaving.is_some(), "it is stopping"),
            (self.session.is_none(), "the database is out of reach"),
            (matches!(self.keeper, Keeper::Away), "the keeper is gone"),
            (!matches!(self.membership, Membership::Member(_)), "it is not registered"),
            (self.draining, "the host is draining"),
        ];
        let missing = missing.iter().find(|(missing, _)| *missing).map(|(_, what)| (*what).to_owned());
        let fit = unfit.is_none();
        let not_ready = missing.or(unfit);
        let metrics = self.render(not_ready.is_none(), fit, now);
        Snapshot { not_ready, metrics }
    }

    fn render(&self, ready: bool, fit: bool, now: Boot) -> String {
        let mut page = Page::default();
        let counters = &self.counters;
        page.labelled(&metric::BUILD, &[("version", env!("CARGO_PKG_VERSION"), 1.0)]);
        page.number(&metric::READY, flag(ready));
        page.number(&metric::CONNECTED, flag(self.session.is_some()));
        page.number(&metric::KEEPER, flag(!matches!(self.keeper, Keeper::Away)));
        page.number(&metric::FIT, flag(fit));
        page.number(&metric::SLOTS, self.slots as f64);
        let Stages { waiting, starting, running, ending, ended, releasing } = self.runs.stages();
        let stages = [
            ("stage", "waiting", waiting as f64),
            ("stage", "starting", starting as f64),
            ("stage", "running", running as f64),
            ("stage", "ended", (ending + ended) as f64),
            ("stage", "releasing", releasing as f64),
        ];
        page.labelled(&metric::RUNS, &stages);
        if let Some(age) = self.member().and_then(|member| member.pace.confirmed_before(now)) {
            page.number(&metric::CLAIM_AGE, age.as_secs_f64());
        }
        if let Some(offset) = self.clock.offset_ms() {
            page.number(&metric::CLOCK_OFFSET, offset / 1e3);
        }
        page.number(&metric::CONNECTS, counters.connects as f64);
        page.number(&metric::CLAIMS, counters.claims as f64);
        page.number(&metric::CLAIM_SECONDS, counters.claim_time.as_secs_f64());
        page.number(&metric::CLAIMED, counters.claimed as f64);
        page.number(&metric::STARTED, counters.started as f64);
        page.number(&metric::REFUSED, counters.not_started as f64);
        page.number(&metric::RELEASED, counters.released as f64);
        page.number(&metric::RECORDED, counters.recorded as f64);
        page.histogram(&metric::LATENESS, &counters.lateness);
        page.process();
        page.0
    }
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

/// The text, as it grows.
#[derive(Default)]
struct Page(String);

impl Page {
    fn head(&mut self, metric: &Metric) {
        let Metric { name, kind, help } = metric;
        // Writing to a string cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn line(&mut self, name: &str, labels: &str, value: f64) {
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn number(&mut self, metric: &Metric, value: f64) {
        self.head(metric);
        self.line(metric.name, "", value);
    }

    fn labelled(&mut self, metric: &Metric, lines: &[(&str, &str, f64)]) {
        self.head(metric);
        for (label, name, value) in lines {
            self.line(metric.name, &format!("{{{label}=\"{name}\"}}"), *value);
        }
    }

    fn histogram(&mut self, metric: &Metric, histogram: &Histogram) {
        self.head(metric);
        let mut below = 0;
        let bucket = format!("{}_bucket", metric.name);
        for (end, count) in BUCKETS.iter().zip(histogram.buckets) {
            below += count;
            self.line(&bucket, &format!("{{le=\"{end}\"}}"), below as f64);
        }
        self.line(&bucket, "{le=\"+Inf\"}", histogram.count as f64);
        self.line(&format!("{}_sum", metric.name), "", histogram.sum);
        self.line(&format!("{}_count", metric.name), "", histogram.count as f64);
    }

    /// The numbers that every exporter shows of its own process.
    fn process(&mut self) {
        use nix::unistd::{SysconfVar, sysconf};
        let per = |var, default: i64| sysconf(var).ok().flatten().unwrap_or(default) as f64;
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The name of the program stands in parentheses and may hold blanks; user and system time come 12th
        // and 13th after it.
        let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
        self.number(&metric::CPU, ticks / per(SysconfVar::CLK_TCK, 100));
        let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = statm.split(' ').nth(1).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
        self.number(&metric::MEMORY, pages * per(SysconfVar::PAGE_SIZE, 4096));
        let files = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        self.number(&metric::FILES, files as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_what_lies_below_each_end() {
        let mut histogram = Histogram::default();
        for seconds in [0.0004, 0.0005, 0.003, 60.0] {
            histogram.add(seconds);
        }
        let mut page = Page::default();
        page.histogram(&metric::LATENESS, &histogram);
        let name = metric::LATENESS.name;
        for line in ["_bucket{le=\"0.0005\"} 2", "_bucket{le=\"5\"} 3", "_bucket{le=\"+Inf\"} 4", "_count 4"]
        {
            assert!(page.0.contains(&format!("{name}{line}\n")), "{line} in {}", page.0);
        }
    }
}
