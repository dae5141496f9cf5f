//! A database that goes back in time under a living guardian.

use super::host::{Host, end_of, run, stop, until};
use crate::support;

#[tokio::test]
async fn a_restored_database_gets_no_work_done_before_it_is_adopted() {
    let db = support::db().await;
    let client = db.client().await;
    let host = Host::new("web1", &db.url());
    let guardian = host.start(&client, &[]).await;
    let first = run(&client, "job", "true").await;
    assert_eq!(end_of(&client, first).await, "succeeded");
    until(
        &client,
        "its claims have told it of a tick",
        "exists (select from sisyphus.guardian where seen_at >
              (select newest_tick_at from sisyphus.planner))",
    )
    .await;

    // As a backup of an hour ago, put in the place of the database.
    let restore = "update sisyphus.planner set last_tick_at = last_tick_at - interval '1 h',
                          newest_tick_at = newest_tick_at - interval '1 h', next_tick_at = '-infinity'";
    client.batch_execute(restore).await.unwrap();
    let second = run(&client, "job", "true").await;
    until(&client, "the database knows", "sisyphus._installation_problem() like '%it was restored%'").await;
    let why: String = client.query_one("select sisyphus.explain_run($1)", &[&second]).await.unwrap().get(0);
    assert!(why.contains("installation not adopted: it was restored"), "{why}");

    client.batch_execute("select sisyphus.adopt_installation()").await.unwrap();
    assert_eq!(end_of(&client, second).await, "succeeded");
    stop(guardian);
}
