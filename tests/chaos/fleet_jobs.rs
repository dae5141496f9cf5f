//! The jobs of the fleet, and how they get into the database and their history out of it.

use tokio_postgres::{Client, Row as SqlRow};

use super::{
    records::{Job, Row},
    witness::Witness,
};

/// One of each kind.
pub(super) const JOBS: [Job; 12] = [
    Job { name: "second", period: Some(1), overlap: "skip", ttl: Some(3), work: [2, 6, 0, 0], ..Job::PLAIN },
    Job { name: "queue", period: Some(2), overlap: "queue", retries: 2, work: [3, 15, 20, 0], ..Job::PLAIN },
    Job { name: "replace", period: Some(3), overlap: "replace", work: [10, 45, 10, 0], ..Job::PLAIN },
    Job {
        name: "beside",
        period: Some(1),
        ttl: Some(10),
        missed: "all",
        work: [1, 20, 10, 20_000],
        ..Job::PLAIN
    },
    Job {
        name: "everywhere",
        period: Some(5),
        all: true,
        overlap: "skip",
        ttl: Some(4),
        work: [5, 20, 0, 100],
        ..Job::PLAIN
    },
    Job {
        name: "again",
        period: Some(5),
        ttl: Some(20),
        missed: "all",
        retries: 2,
        retry_on_lost: true,
        work: [10, 30, 10, 100],
        ..Job::PLAIN
    },
    Job {
        name: "again_alone",
        period: Some(6),
        overlap: "skip",
        retries: 2,
        // Long enough for a host to come back before it is over.
        retry_delay: 4,
        retry_on_lost: true,
        work: [20, 50, 10, 0],
        ..Job::PLAIN
    },
    Job { name: "limited", period: Some(4), max_runtime: Some(1), work: [5, 20, 0, 100], ..Job::PLAIN },
    Job {
        name: "fenced",
        period: Some(5),
        overlap: "skip",
        ttl: Some(3),
        fenced: true,
        work: [10, 20, 0, 0],
        ..Job::PLAIN
    },
    Job {
        name: "not_missed",
        period: Some(2),
        ttl: Some(8),
        missed: "none",
        work: [1, 3, 0, 0],
        ..Job::PLAIN
    },
    Job { name: "many", retries: 1, work: [1, 5, 10, 500], ..Job::PLAIN },
    Job { name: "by_hand", overlap: "queue", work: [2, 6, 0, 0], ..Job::PLAIN },
];

/// How long a host may be silent, in seconds.
pub(super) const LEASE: i64 = 5;

/// Short rhythms and a short lease, so that much happens.
pub(super) async fn hurry(client: &Client) {
    let lease = format!("{LEASE} s");
    let settings =
        [("heartbeat", "500 ms"), ("claim_ahead", "1 s"), ("lease_timeout", &lease), ("plan_ahead", "3 s")];
    for (name, value) in settings {
        client.query("select sisyphus.set_setting($1, $2)", &[&name, &value]).await.unwrap();
    }
}

/// Schedules a job from one moment on, before another.
pub(super) async fn schedule(client: &Client, job: &Job, witness: &Witness, span: (i64, i64)) {
    let seconds = |number: Option<i64>| number.map_or("null".to_owned(), |n| format!("interval '{n} s'"));
    let sql = format!(
        "select sisyphus.schedule($1, $2, argv => $3, timezone => 'UTC', run_on => $4, overlap => $5, ttl => {},
                missed => $6, max_runtime => {}, grace => '1 s', retries => $7, retry_delay => $10 * interval '1 s',
                retry_on_lost => $8, fenced => $9, starts_at => to_timestamp({}), ends_at => to_timestamp({}))",
        seconds(job.ttl),
        seconds(job.max_runtime),
        span.0 / super::records::SECOND,
        span.1 / super::records::SECOND
    );
    let schedule = job.period.map(|period| format!("*/{period} * * * * *"));
    let run_on = if job.all { "all" } else { "any" };
    let (argv, job) = (witness.argv(job), *job);
    client
        .query(
            &sql,
            &[
                &job.name,
                &schedule,
                &argv,
                &run_on,
                &job.overlap,
                &job.missed,
                &job.retries,
                &job.retry_on_lost,
                &job.fenced,
                &f64::from(job.retry_delay),
            ],
        )
        .await
        .unwrap_or_else(|err| panic!("{job:?}: {err:?}"));
}

/// The whole history.
pub(super) async fn history(client: &Client) -> Vec<Row> {
    let times = [
        "due_at",
        "nominal_at",
        "last_due_at",
        "expires_at",
        "claimed_at",
        "started_at",
        "finished_at",
        "recorded_at",
    ]
    .map(|column| format!("(extract(epoch from {column}) * 1000000)::bigint as {column}"))
    .join(", ");
    let sql = format!(
        "select run_id, attempt, claim_no, is_final, origin, job, host, state, reason, exit_code, signal, {times},
                occurrences, late_exit_code, (payload ->> 'n')::bigint as token
           from sisyphus.history order by recorded_at, run_id"
    );
    client.query(&sql, &[]).await.unwrap().iter().map(row).collect()
}

fn row(row: &SqlRow) -> Row {
    Row {
        run_id: row.get("run_id"),
        attempt: row.get("attempt"),
        claim_no: row.get("claim_no"),
        is_final: row.get("is_final"),
        origin: row.get("origin"),
        job: row.get("job"),
        host: row.get("host"),
        state: row.get("state"),
        reason: row.get("reason"),
        exit_code: row.get("exit_code"),
        signal: row.get("signal"),
        due: row.get("due_at"),
        nominal: row.get("nominal_at"),
        last_due: row.get("last_due_at"),
        expires: row.get("expires_at"),
        claimed: row.get("claimed_at"),
        started: row.get("started_at"),
        finished: row.get("finished_at"),
        recorded: row.get("recorded_at"),
        occurrences: row.get("occurrences"),
        late_exit_code: row.get("late_exit_code"),
        token: row.get("token"),
    }
}
