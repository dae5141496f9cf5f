//! The baseline: the least that a queue in PostgreSQL does.

use std::{fs, process::Command};

use sisyphus::dev::cluster::{Cluster, SUPERUSER};
use tokio_postgres::Client;

use crate::{CLIENTS, settle};

const BATCH: usize = 100;

const CLAIM_AND_FINISH: &str = "\
with picked as materialized (
    select id from bare where state = 'pending' order by id limit 100 for update skip locked
), claimed as (
    update bare b set state = 'claimed', claimed_at = clock_timestamp() from picked p where b.id = p.id returning b.id
)
select array_agg(id) as ids from claimed \\gset
update bare set state = 'done', finished_at = clock_timestamp() where id = any(:ids::bigint[]);
";

/// Runs per second from pending to done.
pub(crate) async fn throughput(cluster: &Cluster, client: &Client, runs: usize) -> f64 {
    client
        .batch_execute(&format!(
            "drop table if exists bare;
             create table bare (id bigint generated always as identity primary key, state text not null,
                                claimed_at timestamptz, finished_at timestamptz) with (fillfactor = 70);
             create index bare_pending_idx on bare (id) where state = 'pending';
             insert into bare (state) select 'pending' from generate_series(1, {runs})"
        ))
        .await
        .unwrap();
    settle(client, "bare").await;
    let script = cluster.dir().join("bare.sql");
    fs::write(&script, CLAIM_AND_FINISH).unwrap();
    let per_client = (runs / BATCH / CLIENTS).to_string();
    let clients = CLIENTS.to_string();
    let output = Command::new(pgbench(cluster))
        .args(["-n", "-M", "prepared", "-c", &clients, "-j", &clients, "-t", &per_client, "-f"])
        .arg(&script)
        .args(["-h"])
        .arg(cluster.dir())
        .args(["-U", SUPERUSER, "postgres"])
        .output()
        .unwrap_or_else(|err| panic!("pgbench: {err}; scripts/need pgbench installs it"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let done: i64 =
        client.query_one("select count(*) from bare where state = 'done'", &[]).await.unwrap().get(0);
    assert_eq!(done, i64::try_from(runs).unwrap(), "{said}");
    let tps =
        said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse::<f64>().ok());
    tps.unwrap_or_else(|| panic!("no tps in: {said}")) * f64::from(u32::try_from(BATCH).unwrap())
}

fn pgbench(cluster: &Cluster) -> std::path::PathBuf {
    let beside = cluster.binaries().program("pgbench");
    if beside.exists() { beside } else { "pgbench".into() }
}
