//! A fleet played by hand: time is set, guardians are calls, and what became of each run is a line of text.

use tokio_postgres::types::{FromSqlOwned, ToSql};

use super::{Finished, Spawned, TestClient, TestDb, command, db, set_clock, spawn};

/// A database with a clock that stands still, and one session that plays everybody.
pub(crate) struct Play {
    pub(crate) db: TestDb,
    pub(crate) client: TestClient,
}

/// A run as a claim reply told it.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) run_id: i64,
    pub(crate) claim_no: i64,
    pub(crate) attempt: i32,
    pub(crate) job: String,
    pub(crate) starts_in: f64,
    pub(crate) spec: serde_json::Value,
    /// Seconds since 1970.
    pub(crate) expires_at: Option<f64>,
    pub(crate) payload: Option<serde_json::Value>,
}

/// What a claim reply asked of a held run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) request_id: i64,
    pub(crate) run_id: i64,
    pub(crate) claim_no: i64,
    pub(crate) action: String,
}

/// A database whose clock goes as usual.
pub(crate) async fn play() -> Play {
    let db = db().await;
    let client = db.client().await;
    Play { db, client }
}

/// Runs the command line on this database, as the superuser, to its end.
pub(crate) fn sisyphus(play: &Play, words: &[&str]) -> Finished {
    play.spawn(words).wait()
}

impl Play {
    /// Starts the command line on this database, as the superuser.
    pub(crate) fn spawn(&self, words: &[&str]) -> Spawned {
        let mut command = command(words);
        command.env("DATABASE_URL", self.db.url());
        spawn(command)
    }

    /// A fresh database whose clock stands at a moment of Monday 2 March 2026, UTC.
    pub(crate) async fn at(time: &str) -> Self {
        let db = db().await;
        let client = db.client().await;
        let play = Self { db, client };
        play.set_time(time).await;
        play
    }

    /// Sets the clock; a bare time is one of Monday 2 March 2026, UTC.
    pub(crate) async fn set_time(&self, time: &str) {
        let moment = if time.len() <= 12 { format!("2026-03-02 {time}+00") } else { time.to_owned() };
        set_clock(&self.client, &moment).await;
    }

    /// Sets the clock and ticks once.
    pub(crate) async fn tick_at(&self, time: &str) {
        self.set_time(time).await;
        self.tick().await;
    }

    /// One pass of the planner, whenever the last one was.
    pub(crate) async fn tick(&self) {
        self.exec("update sisyphus.planner set next_tick_at = '-infinity'").await;
        self.exec("select sisyphus.tick()").await;
    }

    /// Lets time pass as in a fleet that is up: a tick whenever the last one asked for it, and a heartbeat of
    /// each guardian that is alive, until the clock stands at `time`.
    pub(crate) async fn pass_until(&self, time: &str) {
        let target = if time.len() <= 12 { format!("2026-03-02 {time}+00") } else { time.to_owned() };
        loop {
            self.exec("select sisyphus.tick()").await;
            self.exec(
                "update sisyphus.guardian set seen_at = sisyphus._clock(), lease_until = sisyphus._clock() + '30 s'
                  where ended_at is null",
            )
            .await;
            let done: bool = self
                .value(
                    "with moved as (
                         update test_clock.moment
                            set at = least($1::text::timestamptz, greatest(
                                    (select next_tick_at from sisyphus.planner), at + interval '1 ms'))
                         returning at)
                     select at >= $1::text::timestamptz from moved",
                    &[&target],
                )
                .await;
            if done {
                self.exec("select sisyphus.tick()").await;
                return;
            }
        }
    }

    /// Runs a statement.
    pub(crate) async fn exec(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap_or_else(|err| panic!("{sql}: {err:?}"));
    }

    /// The one value of a query.
    pub(crate) async fn value<T: FromSqlOwned>(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> T {
        self.client.query_one(sql, params).await.unwrap_or_else(|err| panic!("{sql}: {err:?}")).get(0)
    }

    /// The first column of a query, as lines.
    pub(crate) async fn lines(&self, sql: &str) -> Vec<String> {
        let rows = self.client.query(sql, &[]).await.unwrap_or_else(|err| panic!("{sql}: {err:?}"));
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Calls `run_now` and returns the only run.
    pub(crate) async fn run_now(&self, job: &str) -> i64 {
        self.value("select sisyphus.run_now($1)", &[&job]).await
    }

    /// Registers a guardian.
    pub(crate) async fn guardian(&self, host: &str, slots: i32) -> i64 {
        self.value(
            "select guardian_id from sisyphus.register_guardian($1, $2, host_key => md5($1)::uuid,
                 keepers => array[md5('keeper' || $1)::uuid])",
            &[&host, &slots],
        )
        .await
    }

    /// One claim call that tells nothing of what is held.
    pub(crate) async fn claim(&self, guardian: i64, slots_free: i32) -> Vec<Claim> {
        self.claim_holding(guardian, slots_free, None).await.0
    }

    /// One claim call: the runs, and what is asked of held ones.
    pub(crate) async fn claim_holding(
        &self,
        guardian: i64,
        slots_free: i32,
        holding: Option<&[i64]>,
    ) -> (Vec<Claim>, Vec<Request>) {
        let rows = self
            .client
            .query(
                "select kind, run_id, claim_no, attempt, job, starts_in, spec,
                        extract(epoch from expires_at)::float8, payload
                   from sisyphus.claim_job($1, max_runs => 1000, slots_free => $2, holding => $3)",
                &[&guardian, &slots_free, &holding],
            )
            .await
            .unwrap_or_else(|err| panic!("claim: {err:?}"));
        let kind = |wanted: &'static str| rows.iter().filter(move |row| row.get::<_, &str>(0) == wanted);
        assert_eq!(kind("next").count(), 1, "one row says when to call again");
        let runs = kind("run").map(|row| Claim {
            run_id: row.get(1),
            claim_no: row.get(2),
            attempt: row.get(3),
            job: row.get(4),
            starts_in: row.get(5),
            spec: row.get(6),
            expires_at: row.get(7),
            payload: row.get(8),
        });
        let requests = kind("request").map(|row| {
            let spec: serde_json::Value = row.get(6);
            Request {
                request_id: spec["request_id"].as_i64().unwrap(),
                run_id: row.get(1),
                claim_no: row.get(2),
                action: spec["action"].as_str().unwrap().to_owned(),
            }
        });
        (runs.collect(), requests.collect())
    }

    /// The only run that a claim returns.
    pub(crate) async fn claim_one(&self, guardian: i64) -> Claim {
        let mut claims = self.claim(guardian, 10).await;
        assert_eq!(claims.len(), 1, "one run is claimed: {claims:?}\n{}", self.live().await.join("\n"));
        claims.remove(0)
    }

    /// Reports a start.
    pub(crate) async fn start(&self, guardian: i64, claim: &Claim) -> String {
        self.value(
            "select answer from sisyphus.start_job($1, array[$2::bigint], array[$3::bigint], array[4711])",
            &[&guardian, &claim.run_id, &claim.claim_no],
        )
        .await
    }

    /// Reports an end by exit code.
    pub(crate) async fn finish(&self, guardian: i64, claim: &Claim, exit_code: i32) -> String {
        self.value(
            "select answer from sisyphus.finish_job($1, array[$2::bigint], array[$3::bigint], exit_codes => array[$4::int])",
            &[&guardian, &claim.run_id, &claim.claim_no, &exit_code],
        )
        .await
    }

    /// Reports an end by what ended it: timeout, terminate, spawn, ….
    pub(crate) async fn finish_by(
        &self,
        guardian: i64,
        claim: &Claim,
        ended_by: &str,
        reason: &str,
    ) -> String {
        self.value(
            "select answer from sisyphus.finish_job($1, array[$2::bigint], array[$3::bigint],
                 ended_by => array[$4::text], reasons => array[$5::text])",
            &[&guardian, &claim.run_id, &claim.claim_no, &ended_by, &reason],
        )
        .await
    }

    /// A job as the command line shows it to programs.
    pub(crate) fn job(&self, name: &str) -> serde_json::Value {
        serde_json::from_str(&sisyphus(self, &["show", name, "--format", "json"]).success()).unwrap()
    }

    /// Everything that a definition could leave behind.
    pub(crate) async fn traces(&self) -> Vec<String> {
        self.lines(
            "select j.name || ' ' || j.xmin || ' ' || j.version from sisyphus.job j
              union all select 'audit ' || count(*) from sisyphus.audit
              union all select 'request ' || count(*) from sisyphus.request order by 1",
        )
        .await
    }

    /// Gives a run back.
    pub(crate) async fn release(&self, guardian: i64, claim: &Claim) -> String {
        self.value(
            "select answer from sisyphus.release_job($1, array[$2::bigint], array[$3::bigint])",
            &[&guardian, &claim.run_id, &claim.claim_no],
        )
        .await
    }

    /// Live runs, oldest occurrence first: `job 07:00:00 pending`.
    pub(crate) async fn live(&self) -> Vec<String> {
        self.lines(
            "select pg_catalog.format('%s %s %s%s', coalesce(j.name, 'submit'), to_char(r.due_at at time zone 'UTC', 'HH24:MI:SS'), r.state,
                           case when r.target <> 0 then ' on ' || h.name end)
               from sisyphus.run r
               left join sisyphus.job j using (job_id)
               left join sisyphus.host h on h.host_id = r.target
              order by r.due_at, j.name, h.name, r.run_id",
        )
        .await
    }

    /// The history, oldest occurrence first: `job 07:00:00 #1 succeeded: exit code 0`; rows that stand for several
    /// occurrences say how many, attempts that did not end their run have a `+`.
    pub(crate) async fn told(&self) -> Vec<String> {
        self.lines(
            "select pg_catalog.format('%s %s #%s%s %s%s: %s', coalesce(job, 'submit'), to_char(due_at at time zone 'UTC', 'HH24:MI:SS'), attempt,
                           case when not is_final then '+' end, state,
                           case when occurrences > 1 then ' ×' || occurrences end, reason)
               from sisyphus.attempt
              order by due_at, job, host, run_id, attempt",
        )
        .await
    }

    /// What must hold at every moment, whoever does what: a line for each promise that is broken.
    pub(crate) async fn broken_promises(&self) -> Vec<String> {
        let sql = "
            select 'planned twice: job ' || job_id || ' ' || nominal_at
              from (select job_id, nominal_at from sisyphus.run where origin = 'schedule'
                    union all
                    select job_id, nominal_at from sisyphus.attempt
                     where origin = 'schedule' and is_final and occurrences = 1 and state not in ('cancelled', 'skipped')) x
             group by job_id, nominal_at having count(*) > 1
            union all
            select 'two live runs of job ' || job_id from sisyphus.run
             where exclusive and state in ('pending', 'claimed', 'running') group by job_id, target having count(*) > 1
            union all
            select 'two final rows of run ' || run_id from sisyphus.attempt where is_final group by run_id having count(*) > 1
            union all
            select 'live and final: run ' || r.run_id from sisyphus.run r join sisyphus.attempt a using (run_id) where a.is_final
            union all
            select 'attempts out of order: run ' || run_id from sisyphus.attempt
             where attempt > 0 group by run_id having count(*) <> max(attempt) or count(*) <> count(distinct attempt)
            union all
            select 'no reason: run ' || run_id from sisyphus.attempt where reason is null or reason = ''
            union all
            select 'claimed stale: run ' || run_id from sisyphus.run where attempt = 1 and claimed_at >= expires_at
            union all
            select 'started stale: run ' || run_id from sisyphus.attempt
             where attempt = 1 and started_at >= expires_at + interval '1 s'
            union all
            select 'a floor above a pending run ' || r.run_id from sisyphus.run r
              join sisyphus.lane_floor f using (lane_id, priority) where r.state = 'pending' and r.ready_no <= f.floor";
        self.lines(sql).await
    }
}
