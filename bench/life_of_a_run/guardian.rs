//! The contestant: what two guardians call, as they call it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sisyphus::dev::cluster::Cluster;
use tokio::{sync::Barrier, task::JoinSet};
use tokio_postgres::{Client, types::ToSql};

use crate::{CLIENTS, connect, settle};

/// Prepared, as the statements of the baseline are, and with what this client reads of the answer: guardians prepare
/// nothing, and read what to run as well.
const CLAIM: &str = "select kind, run_id, claim_no from sisyphus.claim_job($1, max_runs => $2, slots_free => $2, holding => $3)";
const FINISH_AND_CLAIM: &str = "\
    select answer as kind, run_id, claim_no
      from sisyphus.finish_job($1, run_ids => $4, claim_nos => $5, exit_codes => $6, started_at => $7, finished_at => $7,
                               stdouts => $8)
    union all
    select kind, run_id, claim_no from sisyphus.claim_job($1, max_runs => $2, slots_free => $2, holding => $3)";

/// Runs per second from pending to the history.
pub(crate) async fn throughput(cluster: &Cluster, admin: &Client, batch: usize, runs: usize) -> f64 {
    fill(admin, runs).await;
    let before = recorded(admin).await;
    let barrier = Arc::new(Barrier::new(CLIENTS + 1));
    let mut clients = JoinSet::new();
    for number in 1..=CLIENTS {
        let (url, ready) = (cluster.url("postgres"), Arc::clone(&barrier));
        // A guardian is a process with one thread of its own, as a client of pgbench is.
        clients.spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = connect(&url).await;
                let id = register(&client, number).await;
                ready.wait().await;
                ready.wait().await;
                work(&client, id, batch).await
            })
        });
    }
    barrier.wait().await;
    settle(admin, "sisyphus.run").await;
    barrier.wait().await;

    let started = Instant::now();
    let done: usize = tokio::select! {
        counts = clients.join_all() => counts.into_iter().sum(),
        () = keep_ticking(admin) => unreachable!("ticks never end"),
    };
    let took = started.elapsed().as_secs_f64();

    assert_eq!(done, runs, "every run is finished once");
    assert_eq!(
        recorded(admin).await - before,
        i64::try_from(runs).unwrap(),
        "every result is in the history"
    );
    f64::from(u32::try_from(runs).unwrap()) / took
}

/// Pending runs of one job, as the planner leaves them; made directly, because planning is not what is measured.
async fn fill(admin: &Client, runs: usize) {
    admin.execute("select sisyphus.schedule('bench', null, 'true', overlap => 'allow')", &[]).await.unwrap();
    let lane = "insert into sisyphus.lane_floor (lane_id, priority)
                select j.pool_id, 0 from sisyphus.job j where j.name = 'bench' on conflict do nothing";
    admin.execute(lane, &[]).await.unwrap();
    let pending = "insert into sisyphus.run (job_id, lane_id, due_at, nominal_at, job_version, exclusive, state,
                                             ready_no, origin)
                   select j.job_id, j.pool_id, clock_timestamp(), clock_timestamp(), j.version, false, 'pending',
                          nextval('sisyphus.ready_no_seq'), 'run_many'
                     from sisyphus.job j, generate_series(1, $1) where j.name = 'bench'";
    admin.execute(pending, &[&i32::try_from(runs).unwrap()]).await.unwrap();
}

/// As guardians do, when the last tick said: it raises the floor below which claims need not look.
async fn keep_ticking(admin: &Client) {
    let tick = "select extract(epoch from sisyphus.tick() - clock_timestamp())::float8";
    loop {
        let wait: f64 = admin.query_one(tick, &[]).await.unwrap().get(0);
        tokio::time::sleep(Duration::from_secs_f64(wait.clamp(0.01, 5.0))).await;
    }
}

async fn register(client: &Client, number: usize) -> i64 {
    client
        .query_one(
            "select guardian_id from sisyphus.register_guardian('bench' || $1, 10000, '{}', '{}', 'bench',
                 md5('bench' || $1)::uuid, 'boot', '{}', '[]')",
            &[&number.to_string()],
        )
        .await
        .unwrap()
        .get(0)
}

/// Claims and finishes until nothing is left. As a guardian whose jobs end while others wait: each claim says what was
/// claimed last, and takes along the ends of that.
async fn work(client: &Client, guardian: i64, batch: usize) -> usize {
    let claim = client.prepare(CLAIM).await.unwrap();
    let finish_and_claim = client.prepare(FINISH_AND_CLAIM).await.unwrap();
    let max_runs = i32::try_from(batch).unwrap();
    let output = "x".repeat(99) + "\n";
    let now: chrono::DateTime<chrono::FixedOffset> =
        client.query_one("select clock_timestamp()", &[]).await.unwrap().get(0);
    let (mut done, mut held) = (0, Vec::<(i64, i64)>::new());
    loop {
        let (run_ids, claim_nos): (Vec<i64>, Vec<i64>) = held.drain(..).unzip();
        let count = run_ids.len();
        let last: Vec<i64> = claim_nos.iter().copied().max().into_iter().collect();
        let (codes, times, outputs) = (vec![0_i32; count], vec![now; count], vec![&*output; count]);
        let rows = if count == 0 {
            client.query(&claim, &[&guardian, &max_runs, &last]).await
        } else {
            let params: [&(dyn ToSql + Sync); 8] =
                [&guardian, &max_runs, &last, &run_ids, &claim_nos, &codes, &times, &outputs];
            client.query(&finish_and_claim, &params).await
        };
        for row in rows.unwrap() {
            match row.get("kind") {
                "accepted" => done += 1,
                // The claim of another guardian may hold the lock of a run for a moment: busy, send again.
                "run" | "busy" => held.push((row.get("run_id"), row.get("claim_no"))),
                "next" => {}
                other => panic!("{other} after {done} runs"),
            }
        }
        if held.is_empty() {
            return done;
        }
    }
}

async fn recorded(admin: &Client) -> i64 {
    admin.query_one("select count(*) from sisyphus.attempt where job = 'bench'", &[]).await.unwrap().get(0)
}
