//! Every pair of the calls that meet in a fleet, at the same moment over two sessions.
//!
//! A wrong lock order, a lock that is waited for while others are held, or a row that is looked at before it is
//! locked shows as a deadlock (found after 10 ms here), as a wait of seconds, as a unique violation, or as a broken
//! promise. Both sessions wait at a barrier in the database and pass it together.

use std::time::Duration;

use crate::support::{Play, TestClient, wait_until};

const ROUNDS: usize = 12;
const JOBS: [&str; 4] = ["allow", "skip", "queue", "replace"];
const CALLS: [Call; 10] = [
    Call::Tick,
    Call::Claim,
    Call::Finish,
    Call::FinishAndClaim,
    Call::Terminate,
    Call::Suspend,
    Call::Alter,
    Call::Reap,
    Call::Drain,
    Call::Register,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Tick,
    Claim,
    Finish,
    /// In one statement, as guardians do it.
    FinishAndClaim,
    Terminate,
    Suspend,
    Alter,
    /// A tick that finds a guardian whose lease ran out.
    Reap,
    Drain,
    Register,
}

macro_rules! races {
    ($($name:ident: $first:ident,)*) => {
        $(#[tokio::test]
        async fn $name() {
            race_all(Call::$first).await;
        })*
    };
}

races! {
    tick_and_any_other_call_end_well: Tick,
    claim_and_any_other_call_end_well: Claim,
    finish_and_any_other_call_end_well: Finish,
    finish_and_claim_in_one_and_any_other_call_end_well: FinishAndClaim,
    terminate_and_any_other_call_end_well: Terminate,
    suspend_and_any_other_call_end_well: Suspend,
    alter_and_any_other_call_end_well: Alter,
    reap_and_any_other_call_end_well: Reap,
    drain_and_any_other_call_end_well: Drain,
    register_and_any_other_call_end_well: Register,
}

/// The call with itself and with those behind it in the list: each pair once.
async fn race_all(first: Call) {
    let race = Race::new().await;
    let from = CALLS.iter().position(|call| *call == first).unwrap();
    for second in &CALLS[from..] {
        for round in 0..ROUNDS {
            race.prepare(round, [first, *second]).await;
            race.run(round, first, *second).await;
            let broken = race.play.broken_promises().await;
            assert!(broken.is_empty(), "{first:?} and {second:?}, round {round}:\n{}", broken.join("\n"));
        }
    }
    race.settle().await;
}

struct Race {
    play: Play,
    gate: TestClient,
    actors: [TestClient; 2],
}

impl Race {
    async fn new() -> Self {
        let play = Play::at("07:00:00").await;
        for job in JOBS {
            play.exec(&format!(
                "select sisyphus.schedule('{job}', 'every 2 seconds', 'true', timezone => 'UTC', overlap => '{job}',
                     ttl => '20 s', retries => 2, retry_delay => '1 s', retry_on_lost => true)"
            ))
            .await;
        }
        let gate = play.db.client().await;
        let actors = [play.db.client().await, play.db.client().await];
        for actor in &actors {
            let patience = "set deadlock_timeout = '10ms'; set lock_timeout = '10s'";
            actor.batch_execute(patience).await.unwrap();
        }
        Self { play, gate, actors }
    }

    /// Two guardians that hold runs, others that are due, and a planner that has something to do.
    async fn prepare(&self, round: usize, calls: [Call; 2]) {
        let play = &self.play;
        play.exec(
            "update test_clock.moment set at = at + '3 s';
             select sisyphus.resume_all(); select sisyphus.activate_host(name) from sisyphus.host;
             select sisyphus.run_now('allow') from generate_series(1, 6); select sisyphus.run_now('queue');
             select sisyphus.run_many('skip', array['1', '2']::jsonb[])",
        )
        .await;
        // A guardian whose lease ran out was not given up while a call of its own held its row.
        play.tick().await;
        for host in ["h0", "h1"] {
            let guardian = "select 1 from sisyphus.guardian g join sisyphus.host h using (host_id)
                             where h.name = $1 and g.ended_at is null";
            if play.client.query_opt(guardian, &[&host]).await.unwrap().is_none() {
                play.exec(&register(host)).await;
            }
        }
        play.tick().await;
        for index in 0..2 {
            play.exec(&claim(index, 6)).await;
        }
        // What they have had since the last round ends, a part of it: tables stay small, retries wait.
        if round % 3 == 2 {
            play.exec(&finish(0)).await;
            play.exec(&finish(1)).await;
        }
        // Something is asked of runs that are held, and nobody has been told yet.
        play.exec(
            "select sisyphus.terminate(r.run_id) from (
                 select run_id from sisyphus.run where guardian_id is not null order by run_id desc limit 4) r;
             select sisyphus.tick();
             update test_clock.moment set at = at + '2 s'",
        )
        .await;
        if calls.contains(&Call::Reap) {
            play.exec(&format!(
                "update sisyphus.guardian g set lease_until = sisyphus._clock() - interval '1 s'
                   from sisyphus.host h where h.host_id = g.host_id and h.name = 'h{}' and g.ended_at is null",
                round % 2
            ))
            .await;
        }
        play.exec("update sisyphus.planner set next_tick_at = '-infinity'").await;
    }

    /// In even rounds both calls are about the same guardian and job.
    async fn run(&self, round: usize, first: Call, second: Call) {
        self.gate.batch_execute("select pg_advisory_lock(1)").await.unwrap();
        let [one, two] = &self.actors;
        let open = async {
            wait_until("both wait at the barrier", Duration::from_secs(20), async || {
                let waiting = "select count(*) from pg_locks l join pg_database d on d.oid = l.database
                                where d.datname = current_database() and locktype = 'advisory' and not granted";
                let waiting: i64 = self.gate.query_one(waiting, &[]).await.unwrap().get(0);
                if waiting == 2 { Ok(()) } else { Err(format!("{waiting} wait")) }
            })
            .await;
            self.gate.batch_execute("select pg_advisory_unlock(1)").await.unwrap();
        };
        let (left, right, ()) =
            tokio::join!(act(one, first, round, 0), act(two, second, round, round % 2), open);
        for (call, outcome) in [(first, left), (second, right)] {
            if let Err(code) = outcome {
                // The guardian was given up, or the run had ended: they are told so.
                let expected = matches!(
                    (call, code.as_str()),
                    (Call::Claim | Call::Finish | Call::FinishAndClaim, "SY401")
                        | (Call::Terminate, "42704" | "55000")
                );
                assert!(expected, "{call:?} of {first:?} and {second:?}, round {round}: {code}");
            }
        }
    }

    /// Nothing was lost on the way: all that is live comes to its end.
    async fn settle(&self) {
        let play = &self.play;
        play.exec("select sisyphus.resume_all(); select sisyphus.activate_host(name) from sisyphus.host")
            .await;
        for job in JOBS {
            play.exec(&format!("select sisyphus.alter_job('{job}', retries => 0, retry_on_lost => false)"))
                .await;
            play.exec(&format!("select sisyphus.unschedule('{job}')")).await;
        }
        play.exec(&register("h0")).await;
        play.exec(&register("h1")).await;
        for _ in 0..400 {
            play.exec("update test_clock.moment set at = at + '2 s'").await;
            play.tick().await;
            for index in 0..2 {
                play.exec(&claim(index, 100)).await;
                play.exec(&finish(index)).await;
            }
            if play.value::<i64>("select count(*) from sisyphus.run", &[]).await == 0 {
                assert!(play.broken_promises().await.is_empty());
                return;
            }
        }
        panic!("not settled:\n{}", play.live().await.join("\n"));
    }
}

/// Waits at the barrier, then calls, in one message to the server; the SQLSTATE when the call failed.
async fn act(actor: &TestClient, call: Call, round: usize, index: usize) -> Result<(), String> {
    let job = JOBS[round / 2 % JOBS.len()];
    let sql = match call {
        Call::Tick | Call::Reap => "select sisyphus.tick()".to_owned(),
        Call::Claim => claim(index, 20),
        Call::Finish => finish(index),
        Call::FinishAndClaim => finish_and_claim(index, 20),
        Call::Terminate => {
            let some = "select array_agg(run_id order by run_id) from (select run_id from sisyphus.run order by random() limit 12) x";
            let runs: Option<Vec<i64>> = actor.query_one(some, &[]).await.unwrap().get(0);
            format!("select sisyphus.terminate(r) from unnest('{:?}'::bigint[]) r", runs.unwrap_or_default())
                .replace("'[", "'{")
                .replace("]'", "}'")
        }
        Call::Suspend => format!("select sisyphus.suspend('{job}')"),
        Call::Alter => format!(
            "select sisyphus.alter_job('{job}', schedule => 'every {} seconds', priority => {})",
            2 + round % 2,
            round % 3
        ),
        Call::Drain => {
            format!("select sisyphus.drain_host('h{index}'); select sisyphus.set_slots('h{index}', 50)")
        }
        // Every other time its keeper goes on with what it has.
        Call::Register if round % 4 > 1 => register_holding(index),
        Call::Register => register(&format!("h{index}")),
    };
    actor
        .batch_execute(
            "begin; select pg_advisory_lock_shared(1); select pg_advisory_unlock_shared(1); commit",
        )
        .await
        .unwrap();
    let outcome = actor.batch_execute(&sql).await;
    outcome.map_err(|err| err.code().map_or_else(|| format!("{err:?}"), |code| code.code().to_owned()))
}

fn register(host: &str) -> String {
    format!(
        "select sisyphus.register_guardian('{host}', 50, host_key => md5('{host}')::uuid,
             keepers => array[md5('{host}')::uuid])"
    )
}

fn guardian(index: usize) -> String {
    format!(
        "select max(g.guardian_id) as id from sisyphus.guardian g join sisyphus.host h using (host_id) where h.name = 'h{index}'"
    )
}

fn register_holding(index: usize) -> String {
    format!(
        "select sisyphus.register_guardian('h{index}', 50, host_key => md5('h{index}')::uuid,
             keepers => array[md5('h{index}')::uuid],
             held => coalesce((select jsonb_agg(jsonb_build_object('run_id', r.run_id, 'claim_no', r.claim_no))
                                 from sisyphus.run r where r.guardian_id = ({})), '[]'))",
        guardian(index)
    )
}

/// Acknowledges what it was asked.
fn claim(index: usize, slots: usize) -> String {
    format!(
        "select c.* from ({}) g, sisyphus.claim_job(g.id, {slots}, {slots},
             acknowledged => array(select q.request_id from sisyphus.request q where q.guardian_id = g.id)) c",
        guardian(index)
    )
}

/// All that the guardian holds, a third of it as failures.
fn finish(index: usize) -> String {
    format!(
        "select f.* from (
             select r.guardian_id as id, array_agg(r.run_id order by r.run_id) as runs,
                    array_agg(r.claim_no order by r.run_id) as claims,
                    array_agg((r.run_id % 3 = 0)::integer order by r.run_id) as codes
               from sisyphus.run r where r.guardian_id = ({}) group by 1) x,
             sisyphus.finish_job(x.id, x.runs, x.claims, x.codes) f",
        guardian(index)
    )
}

fn finish_and_claim(index: usize, slots: usize) -> String {
    format!(
        "select f.answer from ({}) f union all select c.kind from ({}) c",
        finish(index),
        claim(index, slots)
    )
}

/// A claim holds its guardian's row and then deletes the requests that the guardian has had; the registration that
/// follows on the same host hands those requests on.
#[tokio::test]
async fn a_registration_waits_for_the_claim_of_the_guardian_before_it_and_holds_nothing_of_it() {
    let race = Race::new().await;
    let play = &race.play;
    play.exec(&register("h0")).await;
    play.exec("select sisyphus.run_now('allow'); select sisyphus.tick()").await;
    play.exec(&claim(0, 20)).await;
    play.exec("select sisyphus.terminate(run_id) from sisyphus.run where guardian_id is not null").await;
    play.exec("select sisyphus.tick()").await;
    let asked: i64 =
        play.value("select count(*) from sisyphus.request where guardian_id is not null", &[]).await;
    assert!(asked > 0);

    let [earlier, next] = &race.actors;
    earlier.batch_execute("begin; select sisyphus.claim_job(1, 0, 0)").await.unwrap();
    let registration = register_holding(0);
    let registered = next.batch_execute(&registration);
    let rest = async {
        wait_until("the registration waits", Duration::from_secs(20), async || {
            let waits = "select exists (select from pg_stat_activity
                                         where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0)";
            play.value::<bool>(waits, &[]).await.then_some(()).ok_or_else(|| "not yet".to_owned())
        })
        .await;
        earlier.batch_execute(&claim(0, 0)).await?;
        earlier.batch_execute("commit").await
    };
    let (registered, rest) = tokio::join!(registered, rest);
    rest.unwrap();
    registered.unwrap();
    play.exec(&finish(0)).await;
    let held: i64 = play.value("select count(*) from sisyphus.run where guardian_id = 1", &[]).await;
    assert_eq!(held, 0);
}

/// A finish holds its guardian's row and may wait for a job, of which a release holds the lock.
#[tokio::test]
async fn a_guardian_that_signs_off_waits_for_its_finish_and_holds_nothing_of_it() {
    let race = Race::new().await;
    let play = &race.play;
    play.exec(&register("h0")).await;
    play.exec("select sisyphus.tick()").await;
    play.exec(&claim(0, 20)).await;
    let ahead = "from sisyphus.run where guardian_id = 1 and due_at > sisyphus._clock()";
    let held: i64 = play.value(&format!("select count(*) {ahead}"), &[]).await;
    assert!(held > 0);

    let [earlier, next] = &race.actors;
    earlier.batch_execute("begin; select sisyphus.finish_job(1, '{}', '{}')").await.unwrap();
    let signed_off = next.batch_execute("select sisyphus.sign_off(1)");
    let rest = async {
        wait_until("it waits", Duration::from_secs(20), async || {
            let waits = "select exists (select from pg_stat_activity
                                         where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0)";
            play.value::<bool>(waits, &[]).await.then_some(()).ok_or_else(|| "not yet".to_owned())
        })
        .await;
        let free = format!("select count(*) from (select {ahead} for update skip locked) r");
        let free = play.value::<i64>(&free, &[]).await;
        earlier.batch_execute("commit").await.unwrap();
        free
    };
    let (signed_off, free) = tokio::join!(signed_off, rest);
    signed_off.unwrap();
    assert_eq!(free, held);
    assert_eq!(play.value::<i64>(&format!("select count(*) {ahead}"), &[]).await, 0);
}

/// As a finish has it, which waits for the others of its batch: a tick that waited for it would have some of those.
#[tokio::test]
async fn a_tick_waits_for_no_job_that_a_finish_has_and_leaves_it_to_the_next() {
    let race = Race::new().await;
    let play = &race.play;
    play.tick().await;
    play.exec("update test_clock.moment set at = at + '3 s'").await;
    let [finish, tick] = &race.actors;
    finish
        .batch_execute(
            "begin; select from sisyphus.job_state s join sisyphus.job j using (job_id) where j.name = 'skip' for update of s",
        )
        .await
        .unwrap();
    play.exec("select sisyphus.alter_job(name, retries => 5) from unnest('{queue,skip,allow}'::text[]) name")
        .await;
    tick.batch_execute("set lock_timeout = '1s'; select sisyphus.tick()").await.unwrap();
    let behind = "select j.name from sisyphus.job_state s join sisyphus.job j using (job_id) where s.version < j.version";
    assert_eq!(play.lines(behind).await, ["skip"]);
    finish.batch_execute("commit").await.unwrap();
    play.tick().await;
    assert_eq!(play.lines(behind).await, [""; 0]);
}
