//! Who may do what to a job: owner, members of the owner, admins, operators, and nobody else.

use tokio_postgres::Client;

use crate::{
    job::{one, run},
    support::{self, assert_error, assert_sqlstate},
};

const DEFINITION_CALLS: [&str; 3] =
    ["schedule('j', '@daily', 'false')", "alter_job('j', retries => 1)", "unschedule('j')"];
const CONTROL_CALLS: [&str; 4] =
    ["suspend('j')", "resume('j')", "run_now('j')", "run_many('j', array['1']::jsonb[])"];

async fn try_and_roll_back(client: &Client, call: &str) -> Result<(), tokio_postgres::Error> {
    client.batch_execute("begin").await?;
    let result = client.query(&format!("select sisyphus.{call}"), &[]).await;
    client.batch_execute("rollback").await?;
    result.map(|_| ())
}

#[tokio::test]
async fn another_author_changes_controls_and_stops_nothing_of_mine() {
    let db = support::db().await;
    let mine = db.login("test_alice", &["sisyphus_author"]).await;
    let other = db.login("test_bob", &["sisyphus_author"]).await;
    run(&mine, "select sisyphus.schedule('j', '@daily', 'true')").await;
    let run_id: i64 = one(&mine, "select sisyphus.run_now('j')").await;
    for call in DEFINITION_CALLS {
        let refused = try_and_roll_back(&other, call).await;
        assert_error(refused, "42501", "job \"j\" belongs to role test_alice", "sisyphus_admin");
        try_and_roll_back(&mine, call).await.unwrap_or_else(|err| panic!("{call}: {err:?}"));
    }
    for call in CONTROL_CALLS {
        let refused = try_and_roll_back(&other, call).await;
        assert_error(
            refused,
            "42501",
            "job \"j\" belongs to role test_alice",
            "sisyphus_operator or sisyphus_admin",
        );
        try_and_roll_back(&mine, call).await.unwrap_or_else(|err| panic!("{call}: {err:?}"));
    }
    for call in ["terminate", "cancel", "rerun"] {
        let refused = try_and_roll_back(&other, &format!("{call}({run_id})")).await;
        assert_error(
            refused,
            "42501",
            &format!("run {run_id} belongs to role test_alice"),
            "sisyphus_operator",
        );
    }
    let refused = try_and_roll_back(&other, &format!("assert_current({run_id}, 1)")).await;
    assert_error(refused, "42501", "belongs to role test_alice", "sisyphus_admin");
}

#[tokio::test]
async fn an_operator_controls_every_job_and_defines_none_and_an_admin_does_both() {
    let db = support::db().await;
    let author = db.client_as("sisyphus_author").await;
    let operator = db.client_as("sisyphus_operator").await;
    let admin = db.client_as("sisyphus_admin").await;
    run(&author, "select sisyphus.schedule('j', '@daily', 'true')").await;
    for call in CONTROL_CALLS {
        try_and_roll_back(&operator, call).await.unwrap_or_else(|err| panic!("{call}: {err:?}"));
        try_and_roll_back(&admin, call).await.unwrap_or_else(|err| panic!("{call}: {err:?}"));
    }
    for call in DEFINITION_CALLS {
        assert_sqlstate(try_and_roll_back(&operator, call).await, "42501");
        try_and_roll_back(&admin, call).await.unwrap_or_else(|err| panic!("{call}: {err:?}"));
    }
}

#[tokio::test]
async fn a_viewer_sees_when_but_changes_nothing() {
    let db = support::db().await;
    let author = db.client_as("sisyphus_author").await;
    let viewer = db.client_as("sisyphus_viewer").await;
    run(&author, "select sisyphus.schedule('j', '@daily', 'true')").await;
    try_and_roll_back(&viewer, "preview('j')").await.unwrap();
    for call in DEFINITION_CALLS.iter().chain(&CONTROL_CALLS).chain(&[
        "terminate(1)",
        "drain_host('a')",
        "create_pool('p')",
    ]) {
        assert_sqlstate(try_and_roll_back(&viewer, call).await, "42501");
    }
    for table in ["job", "run", "attempt", "audit", "job_definition", "request"] {
        assert_sqlstate(viewer.query(&format!("select from sisyphus.{table}"), &[]).await, "42501");
    }
}

#[tokio::test]
async fn a_job_made_as_a_group_belongs_to_all_its_members() {
    let db = support::db().await;
    let admin = db.client().await;
    run(
        &admin,
        "do $$ begin
             if not exists (select from pg_roles where rolname = 'test_team') then
                 create role test_team in role sisyphus_author;
             end if;
         end $$",
    )
    .await;
    let member = db.login("test_member", &["test_team"]).await;
    let colleague = db.login("test_colleague", &["test_team"]).await;
    run(&member, "set role test_team; select sisyphus.schedule('j', '@daily', 'true')").await;
    assert_eq!(one::<String>(&admin, "select owner::text from sisyphus.job").await, "test_team");
    // The colleague acts under the login, which is a member.
    run(&colleague, "select sisyphus.alter_job('j', retries => 1)").await;
    let by = "select string_agg(role_name::text, ' ' order by audit_id) from sisyphus.audit";
    assert_eq!(one::<String>(&admin, by).await, "test_team test_colleague");
}

#[tokio::test]
async fn a_name_that_was_freed_belongs_to_who_takes_it_next_but_old_payloads_do_not() {
    let db = support::db().await;
    let admin = db.client().await;
    let mine = db.login("test_alice", &["sisyphus_author"]).await;
    let other = db.login("test_bob", &["sisyphus_author"]).await;
    run(&mine, "select sisyphus.schedule('j', null, 'true')").await;
    let run_id: i64 = one(&mine, "select sisyphus.run_now('j', payload => '\"secret\"')").await;
    run(&mine, &format!("select sisyphus.cancel({run_id})")).await;
    run(&admin, "select sisyphus.tick()").await;
    run(&mine, "select sisyphus.unschedule('j')").await;
    run(&other, "select sisyphus.schedule('j', null, 'cat')").await;
    assert_eq!(one::<String>(&admin, "select owner::text from sisyphus.job").await, "test_bob");
    let refused = try_and_roll_back(&other, &format!("rerun({run_id})")).await;
    assert_error(refused, "42501", "belongs to role test_alice", "sisyphus_admin");
    assert_sqlstate(try_and_roll_back(&mine, "run_now('j')").await, "42501");
}
