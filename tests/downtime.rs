//! Downtimes from a second to a year, for every policy side by side: what must be told of each occurrence is
//! worked out here, by plain arithmetic, and compared with what the database tells.
//!
//! Hundreds of jobs are defined and ticked once; then nobody ticks for as long as the test says; then one tick, and two
//! guardians do what there is to do. The clock stands still from that tick on.

use std::collections::BTreeMap;

use crate::support::{Claim, Play};

/// When the downtime begins: twenty seconds before Amsterdam's clocks go from two to three on 29 March 2026.
const BEGIN: i64 = 1_774_745_980_000;
const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const DAY: i64 = 86_400 * SECOND;
// The defaults of the settings that matter here.
const PLAN_AHEAD: i64 = 15 * SECOND;
const LEASE_TIMEOUT: i64 = 30 * SECOND;
const MOST_RUNS: usize = 1000;

macro_rules! downtimes {
    ($($name:ident: $length:expr,)*) => {
        $(#[tokio::test]
        async fn $name() {
            downtime($length).await;
        })*
    };
}

downtimes! {
    a_second_is_no_downtime: SECOND,
    a_planned_stretch_without_ticks_is_merely_late: 14 * SECOND,
    just_below_the_lease_timeout_it_is_merely_late: LEASE_TIMEOUT - 1,
    the_lease_timeout_itself_is_merely_late: LEASE_TIMEOUT,
    just_above_the_lease_timeout_it_is_a_downtime: LEASE_TIMEOUT + 1,
    after_three_quarters_of_a_minute_each_occurrence_is_told_once: 45 * SECOND,
    after_ten_minutes_each_occurrence_is_told_once: 10 * MINUTE,
    after_an_hour_each_occurrence_is_told_once: 60 * MINUTE + 7,
    after_a_day_each_occurrence_is_told_once: DAY,
    after_forty_days_each_occurrence_is_told_once: 40 * DAY + 11 * MINUTE,
    after_half_a_year_and_a_clock_change_each_occurrence_is_told_once: 210 * DAY,
    after_a_year_each_occurrence_is_told_once: 365 * DAY,
}

async fn downtime(length: i64) {
    let jobs = jobs();
    let fleet = Fleet::before_the_downtime(&jobs).await;
    // The server's own downtime: a new postmaster that finds itself at home.
    fleet.play.exec("update sisyphus.installation set server_started_at = 'epoch'").await;
    fleet.set_time(BEGIN + length).await;
    fleet.first_tick(&jobs).await;
    // What ran all the time ends after what was due at that instant.
    fleet.set_time(BEGIN + length + if length % SECOND == 0 { 1 } else { 0 }).await;
    fleet.work().await;
    let mut told = fleet.told().await;
    let mut wrong = Vec::new();
    for job in &jobs {
        let mut expected = job.expected(BEGIN + length);
        expected.sort();
        let told = told.remove(&job.name()).unwrap_or_default();
        if told != expected {
            wrong.push(format!(
                "{}\n  expected {}\n  told     {}",
                job.define(),
                lines(&expected),
                lines(&told)
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} jobs are told wrongly:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(12)].join("\n")
    );
    assert!(told.is_empty(), "nobody else has occurrences: {told:?}");
    let broken = fleet
        .play
        .lines("select format('%s %s', job_id, broken) from sisyphus.job_state where broken is not null")
        .await;
    assert!(broken.is_empty(), "{broken:?}");
}

/// At most a few of each end, with offsets from the beginning in seconds.
fn lines(rows: &[Row]) -> String {
    let text = |row: &Row| {
        let (target, first, last) = (row.target, (row.first - BEGIN) / SECOND, (row.last - BEGIN) / SECOND);
        format!(
            "{first}..{last} ×{} {:?}{}",
            row.count,
            row.kind,
            if target > 0 { format!(" on {target}") } else { String::new() }
        )
    };
    let mut shown: Vec<String> = rows.iter().take(30).map(text).collect();
    shown.extend((rows.len() > 30).then(|| format!("and {} more", rows.len() - 30)));
    shown.join(", ")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// It was run, or waits its turn behind others that were missed.
    Run,
    /// Its run was ended by skip, queue or replace.
    Overlap,
    /// It had become a run, which was not started in time.
    Late,
    /// Nobody planned it and it is no longer fresh.
    Stale,
    /// Fresh, and passed over by `missed`.
    Passed,
}

/// One row of what is told: a run of a target, or a number of occurrences of target 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    first: i64,
    last: i64,
    count: i64,
    target: i64,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Schedule {
    EachSecond,
    FiveMinutes,
    NinetySeconds,
    Daily,
    Monthly,
}

/// When a schedule is due: at regular distances, or at the instants of a list.
enum Fires {
    Regular { anchor: i64, step: i64 },
    Listed(Vec<i64>),
}

impl Schedule {
    fn text(self) -> &'static str {
        match self {
            Self::EachSecond => "* * * * * *",
            Self::FiveMinutes => "*/5 * * * *",
            Self::NinetySeconds => "every 90 seconds",
            Self::Daily => "30 2 * * *",
            Self::Monthly => "0 3 29 * *",
        }
    }

    fn fires(self) -> Fires {
        match self {
            Self::EachSecond => Fires::Regular { anchor: 0, step: SECOND },
            Self::FiveMinutes => Fires::Regular { anchor: 0, step: 5 * MINUTE },
            Self::NinetySeconds => Fires::Regular { anchor: BEGIN - 25 * SECOND, step: 90 * SECOND },
            Self::Daily => Fires::Listed(days().map(|day| in_amsterdam(day, 2, 30)).collect()),
            Self::Monthly => {
                let on_29th = |day: &chrono::NaiveDate| chrono::Datelike::day(day) == 29;
                Fires::Listed(days().filter(on_29th).map(|day| in_amsterdam(day, 3, 0)).collect())
            }
        }
    }
}

fn days() -> impl Iterator<Item = chrono::NaiveDate> {
    chrono::NaiveDate::from_ymd_opt(2026, 3, 28).unwrap().iter_days().take(500)
}

/// Summer time is from the last Sunday of March to that of October, each at 01:00 UTC. What the clock skips in
/// spring comes at three; what it repeats in autumn comes in the first pass.
fn in_amsterdam(day: chrono::NaiveDate, hour: u32, minute: u32) -> i64 {
    use chrono::Datelike;
    let last_sunday = |month| {
        let mut day = chrono::NaiveDate::from_ymd_opt(day.year(), month, 31).unwrap();
        while day.weekday() != chrono::Weekday::Sun {
            day = day.pred_opt().unwrap();
        }
        day
    };
    let (spring, autumn) = (last_sunday(3), last_sunday(10));
    let skipped = day == spring && hour == 2;
    let (hour, minute) = if skipped { (3, 0) } else { (hour, minute) };
    let summer =
        (day > spring && day <= autumn && (day < autumn || hour < 3)) || (day == spring && hour >= 3);
    let local = day.and_hms_opt(hour, minute, 0).unwrap().and_utc().timestamp_millis();
    local - if summer { 120 } else { 60 } * MINUTE
}

impl Fires {
    /// How many after one moment and up to another.
    fn count(&self, after: i64, until: i64) -> i64 {
        match self {
            Self::Regular { anchor, step } => {
                ((until - anchor).div_euclid(*step) - (after - anchor).div_euclid(*step)).max(0)
            }
            Self::Listed(fires) => {
                fires.iter().filter(|fire| **fire > after && **fire <= until).count() as i64
            }
        }
    }

    /// The newest of them, at most so many, oldest first.
    fn last(&self, after: i64, until: i64, most: usize) -> Vec<i64> {
        let mut fires: Vec<i64> = match self {
            Self::Regular { anchor, step } => {
                let newest = (until - anchor).div_euclid(*step);
                (0..)
                    .map(|back| anchor + (newest - back) * step)
                    .take_while(|fire| *fire > after)
                    .take(most)
                    .collect()
            }
            Self::Listed(fires) => fires
                .iter()
                .rev()
                .copied()
                .filter(|fire| *fire > after && *fire <= until)
                .take(most)
                .collect(),
        };
        fires.reverse();
        fires
    }

    fn next(&self, after: i64) -> i64 {
        match self {
            Self::Regular { anchor, step } => anchor + ((after - anchor).div_euclid(*step) + 1) * step,
            Self::Listed(fires) => {
                *fires.iter().find(|fire| **fire > after).expect("the list is long enough")
            }
        }
    }

    /// One row for what is due after one moment and up to another; none when nothing is.
    fn row(&self, after: i64, until: i64, kind: Kind) -> Option<Row> {
        let count = self.count(after, until);
        (count > 0).then(|| Row {
            first: self.next(after),
            last: self.last(after, until, 1)[0],
            count,
            target: 0,
            kind,
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Job {
    schedule: Schedule,
    ttl: Option<i64>,
    missed: &'static str,
    overlap: &'static str,
    run_on: &'static str,
    /// One of its runs is started before the downtime and ends after it.
    busy: bool,
}

fn jobs() -> Vec<Job> {
    let mut jobs = Vec::new();
    for schedule in [
        Schedule::EachSecond,
        Schedule::FiveMinutes,
        Schedule::NinetySeconds,
        Schedule::Daily,
        Schedule::Monthly,
    ] {
        for (ttl, missed) in [
            (None, "latest"),
            (None, "none"),
            (Some(10 * SECOND), "latest"),
            (Some(10 * SECOND), "all"),
            (Some(10 * SECOND), "none"),
            (Some(20 * MINUTE), "latest"),
            (Some(20 * MINUTE), "all"),
            (Some(20 * MINUTE), "none"),
        ] {
            for overlap in ["allow", "skip", "queue", "replace"] {
                let job = Job { schedule, ttl, missed, overlap, run_on: "any", busy: false };
                jobs.extend([job, Job { run_on: "all", ..job }]);
                jobs.extend((overlap != "allow").then_some(Job { busy: true, ..job }));
            }
        }
    }
    // A thousand runs each: not of every kind.
    jobs.retain(|job| !job.is_long() || job.overlap == "allow" || (job.run_on == "any" && !job.busy));
    jobs
}

impl Job {
    /// Whether as many of its runs are made after a downtime as ever are.
    fn is_long(&self) -> bool {
        self.schedule == Schedule::EachSecond && self.ttl > Some(10 * SECOND) && self.missed == "all"
    }

    fn name(&self) -> String {
        let ttl = self.ttl.unwrap_or(0) / SECOND;
        let busy = if self.busy { " busy" } else { "" };
        format!("{:?} {ttl} {} {} {}{busy}", self.schedule, self.missed, self.overlap, self.run_on)
    }

    fn define(&self) -> String {
        let ttl = self.ttl.map_or("null".to_owned(), |ttl| format!("'{} s'", ttl / SECOND));
        let start = match self.schedule {
            Schedule::NinetySeconds => {
                format!(", starts_at => to_timestamp({})", (BEGIN - 25 * SECOND) / SECOND)
            }
            _ => String::new(),
        };
        format!(
            "select sisyphus.schedule('{}', '{}', 'true', timezone => 'Europe/Amsterdam', ttl => {ttl}, missed => '{}',
                 overlap => '{}', run_on => '{}'{start})",
            self.name(),
            self.schedule.text(),
            self.missed,
            self.overlap,
            self.run_on
        )
    }

    fn targets(&self) -> &'static [i64] {
        if self.run_on == "all" { &[1, 2] } else { &[0] }
    }

    /// What must be told at the end, when the first tick after the downtime is at `now`.
    fn expected(&self, now: i64) -> Vec<Row> {
        let fires = self.schedule.fires();
        let ahead_until = BEGIN + PLAN_AHEAD;
        // Up to here runs had been planned before; beyond, it is for the first tick to say.
        let planned = fires.last(BEGIN, ahead_until.min(now), usize::MAX);
        let mut told = Vec::new();
        if now - BEGIN <= LEASE_TIMEOUT {
            let late = fires.last(ahead_until.min(now), now, usize::MAX);
            self.expect_runs(&[planned, late].concat(), now, &mut told);
            return told;
        }
        let fresh_after = match self.ttl {
            Some(ttl) => ahead_until.max(now - ttl),
            // The newest one alone has no successor yet.
            None => fires.last(ahead_until, now, 1).first().map_or(now, |newest| newest - 1),
        };
        let most = match self.missed {
            "all" => MOST_RUNS,
            "latest" => 1,
            _ => 0,
        };
        let runs = fires.last(fresh_after, now, most);
        let passed_until = runs.first().map_or(now, |oldest| oldest - 1);
        told.extend(fires.row(ahead_until, fresh_after, Kind::Stale));
        told.extend(fires.row(fresh_after, passed_until, Kind::Passed));
        if runs.len() > 1 {
            // They wait their turn and are no overlaps.
            for target in self.targets() {
                told.extend(runs.iter().map(|fire| one(*fire, *target, Kind::Run)));
            }
            self.expect_runs(&planned, now, &mut told);
        } else {
            self.expect_runs(&[planned, runs].concat(), now, &mut told);
        }
        told
    }

    /// What becomes of runs that are no longer in time at the first tick, or meet each other there.
    fn expect_runs(&self, runs: &[i64], now: i64, told: &mut Vec<Row>) {
        let fires = self.schedule.fires();
        let expires = |fire: i64| self.ttl.map_or_else(|| fires.next(fire), |ttl| fire + ttl);
        // What is live when one is due, the oldest first; what was started before never expires.
        let mut live: Vec<Option<i64>> = if self.busy { vec![None] } else { vec![] };
        let mut overlaps = Vec::new();
        for fire in runs {
            if self.overlap == "allow" {
                break;
            }
            live.retain(|other| other.is_none_or(|other| expires(other) > *fire));
            let most = match self.overlap {
                "skip" => 1,
                "queue" => 2,
                _ => usize::MAX,
            };
            if live.len() >= most {
                overlaps.push(*fire);
                continue;
            }
            if self.overlap == "replace" {
                overlaps.extend(live.iter().flatten());
                live.retain(Option::is_none);
            }
            live.push(Some(*fire));
        }
        for (fire, target) in
            runs.iter().flat_map(|fire| self.targets().iter().map(move |target| (fire, target)))
        {
            let kind = match overlaps.contains(fire) {
                true => Kind::Overlap,
                false if expires(*fire) <= now => Kind::Late,
                false => Kind::Run,
            };
            told.push(one(*fire, *target, kind));
        }
    }
}

fn one(fire: i64, target: i64, kind: Kind) -> Row {
    Row { first: fire, last: fire, count: 1, target, kind }
}

struct Fleet {
    play: Play,
    guardians: [i64; 2],
    /// Runs that were started before the downtime.
    started: [Vec<Claim>; 2],
}

impl Fleet {
    async fn before_the_downtime(jobs: &[Job]) -> Self {
        let play = Play::at("07:00:00").await;
        play.set_time(&instant(BEGIN)).await;
        let guardians = [play.guardian("web1", 2000).await, play.guardian("web2", 2000).await];
        let mut define: Vec<String> = jobs.iter().map(Job::define).collect();
        define.extend(
            jobs.iter()
                .filter(|job| job.busy)
                .map(|job| format!("select sisyphus.run_now('{}')", job.name())),
        );
        play.exec(&define.join(";")).await;
        play.tick().await;
        let mut fleet = Self { play, guardians, started: [Vec::new(), Vec::new()] };
        // Those that are due: the ones by hand.
        fleet.play.exec("select sisyphus.set_setting('claim_ahead', '0 s')").await;
        for (guardian, started) in guardians.into_iter().zip(&mut fleet.started) {
            let claims = fleet.play.claim(guardian, 1000).await;
            for claim in &claims {
                assert_eq!(fleet.play.start(guardian, claim).await, "accepted");
            }
            *started = claims;
        }
        fleet.play.exec("select sisyphus.set_setting('claim_ahead', '10 s')").await;
        let busy = jobs.iter().filter(|job| job.busy).count();
        assert_eq!(fleet.started.iter().map(Vec::len).sum::<usize>(), busy);
        fleet
    }

    async fn set_time(&self, at: i64) {
        self.play.set_time(&instant(at)).await;
    }

    /// However long nobody was there, the work of the first tick is bounded: by what it calls, not by a clock.
    async fn first_tick(&self, jobs: &[Job]) {
        self.play.exec("update sisyphus.planner set next_tick_at = '-infinity'; begin; set local track_functions = 'all'; select sisyphus.tick()").await;
        let calls: i64 = self
            .play
            .value("select coalesce(sum(calls), 0)::bigint from pg_stat_xact_user_functions", &[])
            .await;
        self.play.exec("commit").await;
        assert!(calls < 2000 * jobs.len() as i64, "{calls} calls of functions for {} jobs", jobs.len());
    }

    /// Both guardians claim and end what there is, until all that has not to wait its turn has ended.
    async fn work(&self) {
        for _ in 0..20 {
            self.play.tick().await;
            for (guardian, started) in self.guardians.iter().zip(&self.started) {
                let holding: Vec<i64> = started.iter().map(|claim| claim.claim_no).collect();
                let (mut claims, requests) = self.play.claim_holding(*guardian, 1000, Some(&holding)).await;
                claims.extend(started.iter().cloned());
                let column = |of: fn(&Claim) -> i64| claims.iter().map(of).collect::<Vec<i64>>();
                let asked = |claim: &Claim| requests.iter().any(|request| request.run_id == claim.run_id);
                let ended_by: Vec<Option<&str>> =
                    claims.iter().map(|claim| asked(claim).then_some("terminate")).collect();
                let finish = "select count(*) from sisyphus.finish_job($1, $2, $3, $5, ended_by => $4)";
                let (runs, numbers) = (column(|claim| claim.run_id), column(|claim| claim.claim_no));
                self.play
                    .client
                    .execute(finish, &[guardian, &runs, &numbers, &ended_by, &vec![0; runs.len()]])
                    .await
                    .unwrap();
            }
            // What is looked at again a heartbeat later is looked at now: this clock stands still.
            self.play.exec("update sisyphus.run set wake_at = sisyphus._clock() where state = 'waiting' and wake_at > sisyphus._clock() and due_at <= sisyphus._clock() and not in_order").await;
            let left: i64 = self
                .play
                .value(
                    "select count(*) from sisyphus.run where due_at <= sisyphus._clock() and not in_order",
                    &[],
                )
                .await;
            if left == 0 {
                return;
            }
        }
        panic!("not settled: {:?}", self.play.live().await.first());
    }

    /// What is told of occurrences up to now, by job.
    async fn told(&self) -> BTreeMap<String, Vec<Row>> {
        let sql = "
            select job, (extract(epoch from first) * 1000)::bigint, (extract(epoch from last) * 1000)::bigint, occurrences, target, state, reason
              from (select j.name as job, r.nominal_at as first, r.nominal_at as last, 1::bigint as occurrences, r.target,
                           'waits its turn' as state, '' as reason
                      from sisyphus.run r join sisyphus.job j using (job_id)
                     where r.origin = 'schedule' and r.in_order
                     union all
                    select a.job, a.nominal_at, coalesce(a.last_due_at, a.nominal_at), a.occurrences, coalesce(h.host_id, 0), a.state, a.reason
                      from sisyphus.attempt a
                      join sisyphus.job j using (job_id)
                      left join sisyphus.host h on h.name = a.host and j.run_on = 'all'
                     where a.origin = 'schedule') x
             where first <= sisyphus._clock()";
        let hosts = self.play.lines("select host_id::text from sisyphus.host order by name").await;
        let mut told: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        for row in self.play.client.query(sql, &[]).await.unwrap() {
            let (state, reason): (&str, &str) = (row.get(5), row.get(6));
            let kind = match state {
                "succeeded" | "waits its turn" => Kind::Run,
                "skipped" if reason.starts_with("overlap: ") => Kind::Overlap,
                "skipped" if reason.starts_with("passed over after a downtime") => Kind::Passed,
                "expired" if reason.starts_with("not started within ") => Kind::Late,
                "expired" if reason.contains("during a downtime") => Kind::Stale,
                _ => panic!("{state}: {reason}"),
            };
            let target = hosts
                .iter()
                .position(|host| *host == row.get::<_, i64>(4).to_string())
                .map_or(0, |at| at as i64 + 1);
            let row_told = Row { first: row.get(1), last: row.get(2), count: row.get(3), target, kind };
            told.entry(row.get(0)).or_default().push(row_told);
        }
        told.values_mut().for_each(|rows| rows.sort());
        told
    }
}

fn instant(at: i64) -> String {
    chrono::DateTime::from_timestamp_millis(at).unwrap().format("%F %T%.3f+00").to_string()
}
