//! Random lives of a small fleet, checked against a model after each step.
//!
//! Time is virtual. Guardians, keepers and processes are played: they claim, start, end, crash, lose replies and
//! come back, while people define, suspend, run, terminate and cancel. The model knows when each schedule fires,
//! which processes live, and what each result was; the database must agree.
//!
//! `SISYPHUS_MODEL_SEED=… SISYPHUS_MODEL_STEPS=… cargo nextest run -E 'test(model::)'` replays a life.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::support::{Claim, Play};

const START: i64 = 1_772_434_800; // Monday 2 March 2026, 07:00 UTC
const HOSTS: usize = 3;
const JOBS: usize = 5;
const SLOTS: usize = 3;
const PERIODS: [i64; 5] = [5, 10, 15, 20, 30];

macro_rules! lives {
    ($($name:ident: $number:literal,)*) => {
        $(#[tokio::test]
        async fn $name() {
            live($number).await;
        })*
    };
}

// Eight lives side by side rather than one long one: 20,000 steps in all.
lives! {
    a_fleet_keeps_its_promises_in_life_1: 1,
    a_fleet_keeps_its_promises_in_life_2: 2,
    a_fleet_keeps_its_promises_in_life_3: 3,
    a_fleet_keeps_its_promises_in_life_4: 4,
    a_fleet_keeps_its_promises_in_life_5: 5,
    a_fleet_keeps_its_promises_in_life_6: 6,
    a_fleet_keeps_its_promises_in_life_7: 7,
    a_fleet_keeps_its_promises_in_life_8: 8,
}

async fn live(number: u64) {
    let from_env = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seed = from_env("SISYPHUS_MODEL_SEED").unwrap_or(20_261_124 * number);
    let steps = from_env("SISYPHUS_MODEL_STEPS").unwrap_or(2_500);
    eprintln!("replay with SISYPHUS_MODEL_SEED={seed} SISYPHUS_MODEL_STEPS={steps}");
    let mut world = World::new(seed).await;
    for _ in 0..steps {
        world.step().await;
    }
    world.settle().await;
}

/// A claim that a guardian knows of.
#[derive(Debug, Clone)]
struct Held {
    claim: Claim,
    starts_at: f64,
    started: bool,
    reported: bool,
    terminate: bool,
    ended: Option<i32>,
}

#[derive(Debug)]
struct Guardian {
    id: Option<i64>,
    host: String,
    keeper: u32,
    held: Vec<Held>,
    acknowledged: Vec<i64>,
}

/// What the model knows of a job: since when its schedule fires how, and what it may not do.
#[derive(Debug, Default)]
struct Job {
    period: Option<i64>,
    exclusive: bool,
    suspended: bool,
    deleted: bool,
    eras: Vec<Era>,
}

/// From one change of a job's schedule to the next.
#[derive(Debug)]
struct Era {
    period: i64,
    from: f64,
    to: f64,
    /// The last tick that met the job with this schedule: so far everything must be explained.
    ticked: f64,
}

impl Era {
    /// When it is due between two moments, the first one excluded.
    fn fires(&self, after: f64, until: f64) -> impl Iterator<Item = i64> {
        let after = (after.max(self.from) / self.period as f64).floor() as i64;
        let until = (until.min(self.to) / self.period as f64).floor() as i64;
        (after + 1..=until).map(|number| number * self.period)
    }
}

struct World {
    play: Play,
    random: fastrand::Rng,
    now: f64,
    guardians: Vec<Guardian>,
    jobs: Vec<Job>,
    claims_seen: HashSet<i64>,
    /// Results that were delivered and accepted: what the history must say.
    results: HashMap<(i64, i64), i32>,
    log: Vec<String>,
}

impl World {
    async fn new(seed: u64) -> Self {
        let play = Play::at("07:00:00").await;
        let mut world = Self {
            play,
            random: fastrand::Rng::with_seed(seed),
            now: 0.0,
            guardians: Vec::new(),
            jobs: Vec::new(),
            claims_seen: HashSet::new(),
            results: HashMap::new(),
            log: Vec::new(),
        };
        for number in 0..JOBS {
            world.jobs.push(Job::default());
            world.define(number).await;
        }
        for number in 0..HOSTS {
            let host = format!("web{number}");
            world.guardians.push(Guardian {
                id: None,
                host,
                keeper: 0,
                held: Vec::new(),
                acknowledged: Vec::new(),
            });
            world.register(number).await;
        }
        world.tick().await;
        world
    }

    async fn step(&mut self) {
        let guardian = self.random.usize(..HOSTS);
        let job = self.random.usize(..JOBS);
        match self.random.u32(..1000) {
            0..=349 => self.pass().await,
            350..=549 => self.claim(guardian).await,
            550..=699 => self.start(guardian).await,
            700..=829 => self.end_and_deliver(guardian).await,
            830..=889 => self.run_by_hand(job).await,
            890..=909 => self.ask_about_a_run().await,
            910..=929 => self.define(job).await,
            930..=944 => self.suspend_or_resume(job).await,
            945..=952 => self.unschedule(job).await,
            953..=967 => self.crash(guardian),
            968..=975 => self.sign_off(guardian).await,
            976..=985 => self.drain_or_activate(guardian).await,
            986..=992 => self.outage().await,
            _ => self.set_back_and_forth().await,
        }
        self.check().await;
    }

    fn note(&mut self, what: String) {
        self.log.push(format!("{:9.3} {what}", self.now));
    }

    fn fail(&self, why: &str) -> ! {
        let last = self.log.len().saturating_sub(40);
        panic!("{why}\nafter:\n{}", self.log[last..].join("\n"));
    }

    async fn set_now(&mut self, now: f64) {
        self.now = now;
        let sql = format!("update test_clock.moment set at = to_timestamp({START} + {now})");
        self.play.exec(&sql).await;
    }

    async fn pass(&mut self) {
        let by = f64::from(self.random.u32(1..3000)) / 1000.0;
        self.set_now(self.now + by).await;
        if self.random.u32(..10) < 9 {
            self.tick().await;
        }
    }

    async fn tick(&mut self) {
        self.play.tick().await;
        self.note("tick".to_owned());
        for job in self.jobs.iter_mut().filter(|job| !job.deleted) {
            if let Some(era) = job.eras.last_mut() {
                era.ticked = self.now;
            }
        }
    }

    /// Nobody ticks, nobody claims.
    async fn outage(&mut self) {
        let by = f64::from(self.random.u32(20..400));
        self.note(format!("outage of {by} s"));
        self.set_now(self.now + by).await;
        self.tick().await;
    }

    /// The server's clock is stepped by a little, as ntpd does.
    async fn set_back_and_forth(&mut self) {
        let by = f64::from(self.random.u32(1..900)) / 1000.0;
        self.note(format!("clock set back by {by} s"));
        self.set_now(self.now - by).await;
    }

    async fn define(&mut self, number: usize) {
        let period = *self.random.choice(&PERIODS).unwrap();
        let overlap = *self.random.choice(&["skip", "skip", "queue", "replace", "allow"]).unwrap();
        let ttl = *self.random.choice(&["null", "'3 s'", "'20 s'", "'2 min'"]).unwrap();
        let missed =
            if ttl == "null" { "latest" } else { self.random.choice(&["latest", "all", "none"]).unwrap() };
        let retries = self.random.u32(..3);
        let lost = retries > 0 && self.random.bool();
        let schedule = format!("*/{period} * * * * *");
        self.note(format!(
            "schedule job{number} {schedule} {overlap} ttl {ttl} {missed} retries {retries} {lost}"
        ));
        self.play
            .exec(&format!(
                "select sisyphus.schedule('job{number}', '{schedule}', 'true', timezone => 'UTC', overlap => '{overlap}',
                     ttl => {ttl}, missed => '{missed}', retries => {retries}, retry_delay => '2 s', retry_on_lost => {lost})"
            ))
            .await;
        let job = &mut self.jobs[number];
        if job.period != Some(period) || job.deleted {
            if let Some(era) = job.eras.last_mut().filter(|era| era.to.is_infinite()) {
                era.to = self.now;
            }
            job.eras.push(Era { period, from: self.now, to: f64::INFINITY, ticked: self.now });
        }
        job.period = Some(period);
        job.deleted = false;
        job.exclusive = overlap != "allow";
    }

    async fn suspend_or_resume(&mut self, number: usize) {
        if self.jobs[number].deleted {
            return;
        }
        let verb = if self.jobs[number].suspended { "resume" } else { "suspend" };
        self.note(format!("{verb} job{number}"));
        self.play.exec(&format!("select sisyphus.{verb}('job{number}')")).await;
        self.jobs[number].suspended ^= true;
    }

    async fn unschedule(&mut self, number: usize) {
        if self.jobs[number].deleted {
            return;
        }
        self.note(format!("unschedule job{number}"));
        self.play.exec(&format!("select sisyphus.unschedule('job{number}')")).await;
        if let Some(era) = self.jobs[number].eras.last_mut() {
            era.to = self.now;
        }
        self.jobs[number].deleted = true;
        self.jobs[number].suspended = false;
    }

    async fn run_by_hand(&mut self, number: usize) {
        if self.jobs[number].deleted || self.jobs[number].suspended {
            return;
        }
        let call = match self.random.u32(..3) {
            0 => format!("select sisyphus.run_many('job{number}', '{{1,2,3}}')"),
            _ => format!("select sisyphus.run_now('job{number}')"),
        };
        self.note(call.clone());
        self.play.exec(&call).await;
    }

    async fn ask_about_a_run(&mut self) {
        let live = self.play.lines("select run_id::text from sisyphus.run order by run_id").await;
        let Some(run_id) = self.random.choice(&live).cloned() else { return };
        let verb = *self.random.choice(&["terminate", "cancel"]).unwrap();
        self.note(format!("{verb} {run_id}"));
        self.play.exec(&format!("select sisyphus.{verb}({run_id})")).await;
    }

    async fn drain_or_activate(&mut self, number: usize) {
        let verb = if self.random.u32(..3) == 0 { "drain_host" } else { "activate_host" };
        self.note(format!("{verb} web{number}"));
        self.play.exec(&format!("select sisyphus.{verb}('web{number}')")).await;
    }

    async fn register(&mut self, number: usize) {
        let guardian = &self.guardians[number];
        let held: Vec<_> = guardian
            .held
            .iter()
            .filter(|held| held.started)
            .map(|held| {
                serde_json::json!({"run_id": held.claim.run_id, "claim_no": held.claim.claim_no,
                                   "ended": held.ended.is_some()})
            })
            .collect();
        let id: i64 = self
            .play
            .value(
                "select guardian_id from sisyphus.register_guardian($1, 3, host_key => md5($1)::uuid,
                     keepers => array[md5($1 || $2::text)::uuid], held => $3)",
                &[&guardian.host, &guardian.keeper.to_string(), &serde_json::Value::Array(held)],
            )
            .await;
        self.note(format!("web{number} registers as {id}"));
        let guardian = &mut self.guardians[number];
        guardian.id = Some(id);
        guardian.held.retain(|held| held.started);
    }

    /// The guardian dies; its keeper and the processes go on, or die with it.
    fn crash(&mut self, number: usize) {
        let keeper_dies = self.random.u32(..3) == 0;
        self.note(format!("web{number} crashes{}", if keeper_dies { " with its keeper" } else { "" }));
        let guardian = &mut self.guardians[number];
        guardian.id = None;
        guardian.acknowledged.clear();
        if keeper_dies {
            guardian.keeper += 1;
            // What had ended was stored; the rest is gone.
            guardian.held.retain(|held| held.ended.is_some());
        } else {
            guardian.held.retain(|held| held.started);
        }
    }

    async fn sign_off(&mut self, number: usize) {
        if let Some(id) = self.guardians[number].id
            && self.call(number, &format!("select sisyphus.sign_off({id})")).await
        {
            self.note(format!("web{number} signs off"));
            let guardian = &mut self.guardians[number];
            guardian.id = None;
            guardian.held.retain(|held| held.started);
        }
    }

    /// Makes a guardian's call; one that was given up registers anew. False: it has to be called again.
    async fn call(&mut self, number: usize, sql: &str) -> bool {
        match self.play.client.simple_query(sql).await {
            Ok(_) => true,
            Err(err) if err.code().is_some_and(|code| code.code() == "SY401") => {
                self.register(number).await;
                false
            }
            Err(err) => self.fail(&format!("{sql}: {err:?}")),
        }
    }

    async fn claim(&mut self, number: usize) {
        if self.guardians[number].id.is_none() {
            self.register(number).await;
        }
        let guardian = &self.guardians[number];
        let running = guardian.held.iter().filter(|held| held.started && held.ended.is_none()).count();
        let slots_free = SLOTS.saturating_sub(running);
        let holding: Vec<i64> = guardian.held.iter().map(|held| held.claim.claim_no).collect();
        let sql = format!(
            "select kind, run_id, claim_no, attempt, job, starts_in, spec,
                    extract(epoch from expires_at)::float8, payload
               from sisyphus.claim_job({}, 10, {slots_free}, holding => $1, acknowledged => $2)",
            guardian.id.unwrap()
        );
        let answer = self.play.client.query(&sql, &[&holding, &guardian.acknowledged]).await;
        let rows = match answer {
            Ok(rows) => rows,
            Err(err) if err.code().is_some_and(|code| code.code() == "SY401") => {
                return self.register(number).await;
            }
            Err(err) => self.fail(&format!("{sql}: {err:?}")),
        };
        if self.random.u32(..20) == 0 {
            return self.note(format!("web{number} loses a claim reply"));
        }
        self.guardians[number].acknowledged.clear();
        for row in &rows {
            match row.get::<_, &str>(0) {
                "run" => {
                    let claim = Claim {
                        run_id: row.get(1),
                        claim_no: row.get(2),
                        attempt: row.get(3),
                        job: row.get(4),
                        starts_in: row.get(5),
                        spec: row.get(6),
                        expires_at: row.get(7),
                        payload: row.get(8),
                    };
                    self.take(number, claim);
                }
                "request" => self.obey(number, row.get(2), &row.get::<_, serde_json::Value>(6)).await,
                _ => {}
            }
        }
    }

    fn take(&mut self, number: usize, claim: Claim) {
        self.note(format!("web{number} claims {} run {} claim {}", claim.job, claim.run_id, claim.claim_no));
        let repeated = !self.claims_seen.insert(claim.claim_no);
        if repeated
            && self.guardians.iter().any(|g| g.held.iter().any(|h| h.claim.claim_no == claim.claim_no))
        {
            self.fail("a claim that is held was handed out again");
        }
        let starts_at = self.now + claim.starts_in;
        self.guardians[number].held.push(Held {
            claim,
            starts_at,
            started: false,
            reported: false,
            terminate: false,
            ended: None,
        });
    }

    async fn obey(&mut self, number: usize, claim_no: i64, request: &serde_json::Value) {
        let guardian = &mut self.guardians[number];
        guardian.acknowledged.push(request["request_id"].as_i64().unwrap());
        let Some(at) = guardian.held.iter().position(|held| held.claim.claim_no == claim_no) else { return };
        if !guardian.held[at].started {
            let held = guardian.held.remove(at);
            self.release(number, &held).await;
        } else if request["action"] == "terminate" {
            guardian.held[at].terminate = true;
        }
    }

    async fn release(&mut self, number: usize, held: &Held) {
        self.note(format!("web{number} releases run {}", held.claim.run_id));
        let id = self.guardians[number].id.unwrap();
        let sql = format!(
            "select sisyphus.release_job({id}, '{{{}}}', '{{{}}}')",
            held.claim.run_id, held.claim.claim_no
        );
        self.call(number, &sql).await;
    }

    /// Starts one claimed run whose time has come, as a guardian may.
    async fn start(&mut self, number: usize) {
        if self.guardians[number].id.is_none() {
            return;
        }
        let now = self.now;
        let busy =
            self.guardians[number].held.iter().filter(|held| held.started && held.ended.is_none()).count();
        let Some(at) = self.guardians[number].held.iter().position(|h| !h.started && h.starts_at <= now)
        else {
            return;
        };
        let held = self.guardians[number].held[at].clone();
        let expires = held.claim.expires_at.map(|at| at - START as f64);
        let lease_out = self.lease_ran_out(number).await;
        if busy >= SLOTS || expires.is_some_and(|expires| expires <= now) || lease_out {
            self.guardians[number].held.remove(at);
            return self.release(number, &held).await;
        }
        self.check_alone(&held).await;
        self.guardians[number].held[at].started = true;
        self.note(format!("web{number} starts run {}", held.claim.run_id));
        if self.random.bool() {
            let id = self.guardians[number].id.unwrap();
            let sql = format!(
                "select sisyphus.start_job({id}, '{{{}}}', '{{{}}}')",
                held.claim.run_id, held.claim.claim_no
            );
            if self.call(number, &sql).await {
                self.guardians[number].held[at].reported = true;
            }
        }
    }

    /// A guardian starts nothing after its lease ran out by its own count.
    async fn lease_ran_out(&self, number: usize) -> bool {
        let id = self.guardians[number].id.unwrap();
        let sql = "select ended_at is not null or seen_at + '30 s' <= sisyphus._clock() from sisyphus.guardian where guardian_id = $1";
        self.play.value(sql, &[&id]).await
    }

    /// Never twice at once: no other process of an exclusive job whose claim still stands.
    async fn check_alone(&self, held: &Held) {
        let number: usize = held.claim.job.trim_start_matches("job").parse().unwrap();
        if !self.jobs[number].exclusive {
            return;
        }
        for other in self.guardians.iter().flat_map(|guardian| &guardian.held) {
            if other.claim.job == held.claim.job
                && other.claim.claim_no != held.claim.claim_no
                && other.started
                && other.ended.is_none()
            {
                let both: i64 = self
                    .play
                    .value(
                        "select count(*) from sisyphus.run where claim_no in ($1, $2) and exclusive",
                        &[&other.claim.claim_no, &held.claim.claim_no],
                    )
                    .await;
                if both > 1 {
                    self.fail(&format!(
                        "two of {} at once: {} and {}",
                        held.claim.job, other.claim.run_id, held.claim.run_id
                    ));
                }
            }
        }
    }

    /// One process ends, or one result that waits is delivered.
    async fn end_and_deliver(&mut self, number: usize) {
        let exit_code = *self.random.choice(&[0, 0, 0, 1, 7]).unwrap();
        let delivers = self.random.u32(..4) > 0;
        let loses_reply = self.random.u32(..12) == 0;
        let guardian = &mut self.guardians[number];
        let Some(at) = guardian.held.iter().position(|held| held.started) else { return };
        let held = &mut guardian.held[at];
        let exit_code = *held.ended.get_or_insert(exit_code);
        let (run_id, claim_no, terminate) = (held.claim.run_id, held.claim.claim_no, held.terminate);
        let Some(id) = guardian.id else { return };
        if !delivers {
            return self.note(format!("run {run_id} ends with {exit_code}"));
        }
        let ended_by = if terminate { "'terminate'" } else { "null" };
        let sql = format!(
            "select answer from sisyphus.finish_job({id}, '{{{run_id}}}', '{{{claim_no}}}', exit_codes => '{{{exit_code}}}',
                 ended_by => array[{ended_by}])"
        );
        let answer: String = match self.play.client.query_one(&sql, &[]).await {
            Ok(row) => row.get(0),
            Err(err) if err.code().is_some_and(|code| code.code() == "SY401") => {
                return self.register(number).await;
            }
            Err(err) => self.fail(&format!("{sql}: {err:?}")),
        };
        self.note(format!("run {run_id} claim {claim_no} ended with {exit_code}: {answer}"));
        match answer.as_str() {
            "accepted" => {
                self.results.insert((run_id, claim_no), exit_code);
            }
            "already" if self.results.contains_key(&(run_id, claim_no)) => {}
            "superseded" => {}
            _ => self.fail(&format!("a result was answered {answer}")),
        }
        if loses_reply {
            return self.note("… and the reply is lost".to_owned());
        }
        self.guardians[number].held.remove(at);
    }

    /// What must hold at every moment.
    async fn check(&mut self) {
        let wrong = self.play.broken_promises().await;
        if !wrong.is_empty() {
            self.fail(&wrong.join("\n"));
        }
    }

    /// Everybody comes back, everything ends; then the books must balance.
    async fn settle(&mut self) {
        for number in 0..JOBS {
            if self.jobs[number].suspended {
                self.suspend_or_resume(number).await;
            }
            self.unschedule(number).await;
        }
        for number in 0..HOSTS {
            self.play.exec(&format!("select sisyphus.activate_host('web{number}')")).await;
        }
        for _ in 0..400 {
            self.set_now(self.now + 1.0).await;
            self.tick().await;
            for number in 0..HOSTS {
                self.claim(number).await;
                for _ in 0..4 {
                    self.start(number).await;
                    self.end_and_deliver(number).await;
                }
            }
            self.check().await;
            let live: i64 = self.play.value("select count(*) from sisyphus.run", &[]).await;
            let held = self.guardians.iter().map(|guardian| guardian.held.len()).sum::<usize>();
            if live == 0 && held == 0 {
                self.tick().await;
                self.audit().await;
                return self.balance().await;
            }
        }
        self.fail(&format!("not settled:\n{}", self.play.live().await.join("\n")));
    }

    /// Every accepted result stands in the history, as it was.
    async fn audit(&self) {
        let rows = self
            .play
            .client
            .query("select run_id, claim_no, exit_code from sisyphus.attempt where claim_no is not null", &[])
            .await
            .unwrap();
        let told: HashMap<(i64, i64), Option<i32>> =
            rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect();
        for (key, exit_code) in &self.results {
            if told.get(key) != Some(&Some(*exit_code)) {
                self.fail(&format!(
                    "run {} claim {} ended with {exit_code}, told {:?}",
                    key.0,
                    key.1,
                    told.get(key)
                ));
            }
        }
        let requests: i64 = self.play.value("select count(*) from sisyphus.request", &[]).await;
        assert_eq!(requests, 0, "every request was applied and acknowledged");
    }

    /// Each occurrence of each schedule ended in one row, which may stand for several of them; rows of what was
    /// withdrawn by hand or by a change come on top.
    async fn balance(&self) {
        let sql = format!(
            "select job, extract(epoch from nominal_at)::bigint - {START}, extract(epoch from last_due_at)::bigint - {START},
                    occurrences, state, run_id
               from sisyphus.attempt where origin = 'schedule' and is_final order by run_id"
        );
        let rows = self.play.client.query(&sql, &[]).await.unwrap();
        for (number, job) in self.jobs.iter().enumerate() {
            let name = format!("job{number}");
            let mut explained = BTreeSet::new();
            let mut withdrawn = BTreeSet::new();
            for row in rows.iter().filter(|row| row.get::<_, &str>(0) == name) {
                let (first, last, run_id) = (row.get(1), row.get::<_, Option<i64>>(2), row.get::<_, i64>(5));
                let covered: BTreeSet<i64> = match row.get::<_, i64>(3) {
                    1 => [first].into(),
                    _ => {
                        let until = last.expect("several have a last one") as f64;
                        job.eras.iter().flat_map(|era| era.fires(first as f64 - 0.5, until)).collect()
                    }
                };
                if covered.len() as i64 != row.get::<_, i64>(3) {
                    self.fail(&format!(
                        "run {run_id} of {name} stands for {} in {covered:?}",
                        row.get::<_, i64>(3)
                    ));
                }
                let cancelled = row.get::<_, &str>(4) == "cancelled";
                for fire in covered {
                    let once = if cancelled {
                        withdrawn.insert(fire);
                        true
                    } else {
                        explained.insert(fire)
                    };
                    if !once {
                        self.fail(&format!("{name} has two rows for {fire}, one of them run {run_id}"));
                    }
                }
            }
            for era in &job.eras {
                for fire in era.fires(era.from, era.ticked) {
                    if !explained.contains(&fire) && !withdrawn.contains(&fire) {
                        self.fail(&format!("{name} has no row for {fire} of {era:?}"));
                    }
                }
            }
        }
    }
}
