//! suspend() and resume(): what they answer and keep.

use crate::{
    job::{one, run},
    support::{self, assert_error, set_clock},
};

#[tokio::test]
async fn suspend_and_resume_answer_whether_they_changed_something() {
    let db = support::db().await;
    let client = db.client().await;
    set_clock(&client, "2026-01-05 07:00+00").await;
    run(&client, "set timezone = 'UTC'; select sisyphus.schedule('j', '@daily', 'true')").await;
    assert!(!one::<bool>(&client, "select sisyphus.resume('j')").await);
    assert!(one::<bool>(&client, "select sisyphus.suspend('j', reason => 'one')").await);
    set_clock(&client, "2026-01-05 07:30+00").await;
    assert!(
        !one::<bool>(
            &client,
            "select sisyphus.suspend('j', until => '2026-01-05 08:00+00', reason => 'two')"
        )
        .await
    );
    let state = "select format('%s %s %s', suspended_at::time, suspended_until::time, suspend_reason) from sisyphus.job";
    assert_eq!(one::<String>(&client, state).await, "07:00:00 08:00:00 two");
    // It has ended by itself: what comes is a new one.
    set_clock(&client, "2026-01-05 08:00+00").await;
    assert!(one::<bool>(&client, "select sisyphus.suspend('j')").await);
    assert_eq!(one::<String>(&client, state).await, "08:00:00  ");
    assert!(one::<bool>(&client, "select sisyphus.resume('j')").await);
    assert_eq!(one::<String>(&client, state).await, "  ");
    // Neither is a change of the definition, and each tells the planner.
    assert_eq!(one::<i32>(&client, "select version from sisyphus.job").await, 1);
    assert_eq!(
        one::<i64>(&client, "select count(*) from sisyphus.request where replan_from is null").await,
        4
    );
}

#[tokio::test]
async fn a_suspension_ends_in_the_future() {
    let db = support::db().await;
    let client = db.client().await;
    run(&client, "select sisyphus.schedule('j', '@daily', 'true')").await;
    for until in ["2020-01-01", "infinity", "-infinity"] {
        let result = client.query(&format!("select sisyphus.suspend('j', until => '{until}')"), &[]).await;
        assert_error(result, "22023", "job \"j\": until", "Give an instant in the future");
    }
}

#[tokio::test]
async fn suspend_all_takes_a_pool_and_an_author_only_his_own_jobs() {
    let db = support::db().await;
    let client = db.client().await;
    let author = db.client_as("sisyphus_author").await;
    run(
        &client,
        "select sisyphus.create_pool('web'); select sisyphus.schedule('w', null, 'true', pool => 'web');
         select sisyphus.schedule('d', null, 'true')",
    )
    .await;
    run(&author, "select sisyphus.schedule('mine', null, 'true', pool => 'web')").await;
    assert_eq!(one::<i64>(&author, "select sisyphus.suspend_all()").await, 1);
    assert_eq!(one::<i64>(&client, "select sisyphus.suspend_all('web')").await, 1);
    assert_eq!(
        one::<String>(&client, "select string_agg(name, ' ') from sisyphus.job where suspended_at is null")
            .await,
        "d"
    );
    assert_eq!(one::<i64>(&author, "select sisyphus.resume_all('web')").await, 1);
    let result = client.query("select sisyphus.resume_all('wbe')", &[]).await;
    assert_error(result, "42704", "pool \"wbe\" does not exist", "Did you mean \"web\"?");
}
