//! The jobs of the fleet, and how they get into the database and their history out of it.

use tokio_postgres::{Client, Row as SqlRow};

use super::{
    records::{Job, Row, SECOND},
    witness::Witness,
};

/// One of each kind.
pub(super) const JOBS: [Job; 15] = [
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
    Job {
        name: "changing",
        period: Some(2),
        changing: true,
        ttl: Some(6),
        missed: "all",
        retries: 1,
        retry_on_lost: true,
        work: [1, 25, 20, 0],
        ..Job::PLAIN
    },
    Job {
        name: "changing_alone",
        period: Some(2),
        changing: true,
        overlap: "queue",
        work: [1, 15, 0, 0],
        ..Job::PLAIN
    },
    Job {
        name: "changing_everywhere",
        period: Some(2),
        changing: true,
        all: true,
        overlap: "skip",
        ttl: Some(4),
        work: [1, 10, 0, 0],
        ..Job::PLAIN
    },
];

/// How long a host may be silent, in seconds.
pub(super) const LEASE: i64 = 5;
/// How far ahead of its time a run is claimed and planned, in seconds.
pub(super) const AHEAD: [i64; 2] = [1, 3];

/// Short rhythms and a short lease, so that much happens.
pub(super) async fn hurry(client: &Client) {
    let lease = format!("{LEASE} s");
    let [claim, plan] = AHEAD.map(|seconds| format!("{seconds} s"));
    let settings =
        [("heartbeat", "500 ms"), ("claim_ahead", &claim), ("lease_timeout", &lease), ("plan_ahead", &plan)];
    for (name, value) in settings {
        client.query("select sisyphus.set_setting($1, $2)", &[&name, &value]).await.unwrap();
    }
}

/// The call that schedules a job from one moment on, before another: $1 is its name, $3 when, $4 its environment.
pub(super) fn definition(job: &Job, witness: &Witness, span: (i64, i64)) -> String {
    let seconds = |number: Option<i64>| number.map_or("null".to_owned(), |n| format!("interval '{n} s'"));
    let argv: Vec<String> = witness.argv(job).iter().map(|word| format!("'{word}'")).collect();
    format!(
        "sisyphus.schedule($1, $3, env => $4, argv => array[{}], timezone => 'UTC', run_on => '{}', overlap => '{}',
                ttl => {}, missed => '{}', max_runtime => {}, grace => '1 s', retries => {}, retry_delay => '{} s',
                retry_on_lost => {}, fenced => {}, starts_at => to_timestamp({}), ends_at => to_timestamp({}))",
        argv.join(", "),
        if job.all { "all" } else { "any" },
        job.overlap,
        seconds(job.ttl),
        job.missed,
        seconds(job.max_runtime),
        job.retries,
        job.retry_delay,
        job.retry_on_lost,
        job.fenced,
        span.0 / SECOND,
        span.1 / SECOND
    )
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
                occurrences, late_exit_code, (payload ->> 'n')::bigint as token,
                (select (d.definition -> 'env' ->> 'CHAOS_DEFINITION')::bigint
                   from sisyphus.job_definition d join sisyphus.job j using (job_id)
                  where j.name = h.job and d.version = h.job_version) as definition
           from sisyphus.history h order by recorded_at, run_id"
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
        definition: row.get("definition"),
    }
}
