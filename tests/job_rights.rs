//! Who may do what to a job: owner, members of the owner, admins, operators, and nobody else.

use tokio_postgres::Client;

use crate::{
    job::{one, run},
    support::{self, Play, assert_error, assert_sqlstate},
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

/// A reason names the program that could not be started: that is a part of the command.
#[tokio::test]
async fn who_may_not_see_a_command_does_not_learn_it_from_a_reason() {
    let play = Play::at("07:00:00").await;
    let author = play.db.login("test_alice", &["sisyphus_author"]).await;
    let other = play.db.login("test_bob", &["sisyphus_author"]).await;
    let viewer = play.db.client_as("sisyphus_viewer").await;
    let admin = play.db.client_as("sisyphus_admin").await;
    let guardian = play.guardian("web1", 2).await;
    for (ended_by, reason, masked) in [
        ("spawn", "cannot start \"/opt/se\\\"cret\": No such file", "cannot start \"...\": No such file"),
        (
            "policy",
            "the policy of this host does not allow \"/opt/secret\"",
            "the policy of this host does not allow \"...\"",
        ),
    ] {
        let run_id: i64 = one(&author, "select sisyphus.submit('/opt/secret')").await;
        play.tick().await;
        let claim = play.claim_one(guardian).await;
        assert_eq!(play.finish_by(guardian, &claim, ended_by, reason).await, "accepted");
        let told = format!("select reason from sisyphus.failures where run_id = {run_id}");
        let explained = format!("select split_part(sisyphus.explain_run({run_id}), 'Z: ', 2)");
        for client in [&author, &admin] {
            assert_eq!(one::<String>(client, &told).await, reason);
            assert_eq!(one::<String>(client, &explained).await, reason);
        }
        for client in [&other, &viewer] {
            assert_eq!(one::<String>(client, &told).await, masked);
            assert_eq!(one::<String>(client, &explained).await, masked);
        }
    }
}

#[tokio::test]
async fn a_role_runs_jobs_only_as_users_that_an_admin_has_granted_it() {
    let db = support::db().await;
    let client = db.client().await;
    let admin = db.client_as("sisyphus_admin").await;
    let author = db.login("test_alice", &["sisyphus_author"]).await;
    let schedule = "select sisyphus.schedule('j', '@daily', 'true', run_as => 'etl')";
    for call in [schedule, "select sisyphus.submit('true', run_as => 'etl')"] {
        let refused = author.query(call, &[]).await;
        let hint = "select sisyphus.grant_run_as('test_alice', 'etl')";
        assert_error(refused, "42501", "role \"test_alice\" may not run jobs as user \"etl\"", hint);
    }
    assert_sqlstate(author.query("select sisyphus.grant_run_as('test_alice', 'etl')", &[]).await, "42501");
    run(&admin, "select sisyphus.grant_run_as('test_alice', 'etl')").await;
    run(&admin, "select sisyphus.grant_run_as('test_alice', 'etl')").await;
    run(&author, schedule).await;
    let spec: String = one(&client, "select spec::text from sisyphus.job").await;
    assert!(spec.contains("\"run_as\": \"etl\"") && spec.contains("\"owner\": \"test_alice\""), "{spec}");
    // Nobody is cut off unawares.
    let refused = admin.query("select sisyphus.revoke_run_as('test_alice', 'etl')", &[]).await;
    assert_error(refused, "55000", "job \"j\" of role \"test_alice\" runs as user \"etl\"", "alter_job()");
    run(&author, "select sisyphus.alter_job('j', reset => '{run_as}')").await;
    assert!(one::<bool>(&admin, "select sisyphus.revoke_run_as('test_alice', 'etl')").await);
    assert!(!one::<bool>(&admin, "select sisyphus.revoke_run_as('test_alice', 'etl')").await);
    assert_sqlstate(author.query(schedule, &[]).await, "42501");
    // An admin's own jobs may run as anybody; the host has the last word.
    run(&admin, "select sisyphus.schedule('mine', '@daily', 'true', run_as => 'etl')").await;
    for user in ["null", "''", "'a b'"] {
        let refused = admin.query(&format!("select sisyphus.grant_run_as('test_alice', {user})"), &[]).await;
        assert_error(refused, "22023", "os_user", "operating system user");
    }
    let refused = admin.query("select sisyphus.grant_run_as('nobody_here', 'etl')", &[]).await;
    assert_error(refused, "42704", "role \"nobody_here\" does not exist", "owns jobs");
    let refused = admin.query("select sisyphus.grant_run_as('test_alice', 'a:b')", &[]).await;
    assert_error(refused, "22023", "os_user \"a:b\"", "operating system user");
}

#[tokio::test]
async fn a_grant_to_a_group_is_good_for_its_members() {
    let db = support::db().await;
    let admin = db.client_as("sisyphus_admin").await;
    let member = db.login("test_alice", &["sisyphus_author"]).await;
    run(&admin, "select sisyphus.grant_run_as('sisyphus_author', 'etl')").await;
    run(&member, "select sisyphus.schedule('j', '@daily', 'true', run_as => 'etl')").await;
}
