//! Who may do what: the five group roles, owners, and what the views show to whom.

use std::collections::BTreeMap;

use crate::support::{Play, TestClient, assert_error, assert_sqlstate, db};

const VIEWS: [&str; 13] = [
    "overview",
    "running",
    "upcoming",
    "overdue",
    "history",
    "failures",
    "fleet",
    "calendars",
    "queue_depth",
    "settings",
    "audit_log",
    "metrics",
    "definitions",
];

/// Every public function and who may call it.
const GRANTS: &[(&str, &str)] = &[
    // Own jobs; the functions themselves look at the owner.
    ("alter_job schedule submit unschedule", "admin author"),
    // Own jobs for an author, any job for an operator.
    (
        "assert_current backfill cancel pause rerun resume resume_all run_many run_now suspend suspend_all \
         terminate unpause",
        "admin author operator",
    ),
    ("activate_host drain_host set_slots", "admin operator"),
    ("create_calendar drop_calendar refresh_calendar", "admin author"),
    (
        "add_host adopt_installation bind_guardian create_pool drop_pool forget_host grant_run_as remove_host revoke_run_as set_setting",
        "admin",
    ),
    ("explain explain_run preview", "admin author operator viewer"),
    ("describe_schedule fires next_fire", "admin author guardian operator viewer"),
    (
        "claim_job finish_job maintain note_tick register_guardian release_job sign_off start_job tick",
        "admin guardian",
    ),
];

/// A job of `test_author` that has run once and left output, and the sessions that look at it.
async fn a_job_that_ran() -> Play {
    let play = Play::at("07:00:00").await;
    let author = play.db.client_as("sisyphus_author").await;
    author
        .batch_execute(
            "select sisyphus.schedule('secret', '@hourly', 'echo $KEY', payload => '{\"card\": 4711}',
                                      env => '{\"KEY\": \"hunter2\"}', timezone => 'UTC')",
        )
        .await
        .unwrap();
    let run_id: i64 = author.query_one("select sisyphus.run_now('secret')", &[]).await.unwrap().get(0);
    let guardian = play.guardian("web1", 1).await;
    play.tick().await;
    let claim = play.claim_one(guardian).await;
    assert_eq!(claim.run_id, run_id);
    let finish = "select sisyphus.finish_job($1, array[$2::bigint], array[$3::bigint], array[1],
                  stdouts => '{hunter2}', stderrs => '{hunter2}', results => array['\"hunter2\"'::jsonb])";
    play.client.query(finish, &[&guardian, &claim.run_id, &claim.claim_no]).await.unwrap();
    play
}

/// What a session sees of the output, the payload, the command and the environment of job `secret`.
async fn seen_by(client: &TestClient) -> Vec<Option<String>> {
    let row = client
        .query_one(
            "select h.stdout, h.stderr, h.result::text, h.payload::text, d.command, d.payload::text, d.env::text,
                    (select l.after::text from sisyphus.audit_log l where l.action = 'schedule' and l.object = 'secret')
               from sisyphus.failures h join sisyphus.definitions d on d.job = h.job",
            &[],
        )
        .await
        .unwrap();
    (0..row.len()).map(|column| row.get(column)).collect()
}

#[tokio::test]
async fn each_function_is_granted_to_whom_it_is_for() {
    let db = db().await;
    let client = db.client().await;
    let query = "
        select p.proname::text,
               (select string_agg(replace(x.grantee::regrole::text, 'sisyphus_', ''), ' ' order by x.grantee::regrole::text)
                  from aclexplode(p.proacl) x where x.grantee <> p.proowner)
          from pg_proc p
         where p.pronamespace = 'sisyphus'::regnamespace and p.proname not like '\\_%'";
    let granted: BTreeMap<String, String> = client
        .query(query, &[])
        .await
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get::<_, Option<String>>(1).unwrap_or_default()))
        .collect();
    let expected: BTreeMap<String, String> = GRANTS
        .iter()
        .flat_map(|(names, roles)| {
            names.split_whitespace().map(|name| (name.to_owned(), (*roles).to_owned()))
        })
        .collect();
    let differing: Vec<_> = granted
        .keys()
        .chain(expected.keys())
        .filter(|name| granted.get(*name) != expected.get(*name))
        .map(|name| format!("{name}: {:?}, should be {:?}", granted.get(name), expected.get(name)))
        .collect();
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[tokio::test]
async fn a_viewer_reads_every_view_and_changes_nothing() {
    let play = a_job_that_ran().await;
    let viewer = play.db.client_as("sisyphus_viewer").await;
    for view in VIEWS {
        viewer
            .query(&format!("select * from sisyphus.{view}"), &[])
            .await
            .unwrap_or_else(|err| panic!("{view}: {err:?}"));
    }
    viewer.query("select sisyphus.explain('secret', now()), sisyphus.explain_run(1)", &[]).await.unwrap();
    for call in [
        "run_now('secret')",
        "suspend('secret')",
        "schedule('mine', null, 'true')",
        "tick()",
        "drain_host('web1')",
    ] {
        assert_sqlstate(viewer.query(&format!("select sisyphus.{call}"), &[]).await, "42501");
    }
}

#[tokio::test]
async fn no_client_reaches_a_table() {
    let db = db().await;
    for group in ["admin", "author", "operator", "viewer", "guardian"] {
        let client = db.client_as(&format!("sisyphus_{group}")).await;
        for table in ["job", "run", "attempt", "setting", "guardian_binding", "audit"] {
            assert_sqlstate(client.query(&format!("select from sisyphus.{table}"), &[]).await, "42501");
            assert_sqlstate(client.execute(&format!("delete from sisyphus.{table}"), &[]).await, "42501");
        }
    }
}

#[tokio::test]
async fn only_owners_their_members_and_admins_see_commands_payloads_and_output() {
    let play = a_job_that_ran().await;
    let owner = play.db.client_as("sisyphus_author").await;
    let member = play.db.login("test_author_member", &["sisyphus_viewer", "test_author"]).await;
    let admin = play.db.client_as("sisyphus_admin").await;
    for client in [&owner, &member, &admin] {
        let seen = seen_by(client).await;
        assert!(seen.iter().all(Option::is_some), "{seen:?}");
    }
    let other = play.db.login("test_author_2", &["sisyphus_author"]).await;
    let operator = play.db.client_as("sisyphus_operator").await;
    let viewer = play.db.client_as("sisyphus_viewer").await;
    for client in [&other, &operator, &viewer] {
        let seen = seen_by(client).await;
        assert!(seen.iter().all(Option::is_none), "{seen:?}");
        let state: String = client.query_one("select state from sisyphus.history", &[]).await.unwrap().get(0);
        assert_eq!(state, "failed");
    }
}

#[tokio::test]
async fn a_role_that_was_set_is_the_caller() {
    let play = a_job_that_ran().await;
    // One login for everybody, as behind a pooler.
    play.db.client_as("sisyphus_viewer").await;
    let pooled = play.db.login("test_pooler", &["test_author", "test_viewer"]).await;
    assert!(seen_by(&pooled).await.iter().all(Option::is_some));
    pooled.batch_execute("set role test_viewer").await.unwrap();
    assert!(seen_by(&pooled).await.iter().all(Option::is_none));
    pooled.batch_execute("set role test_author").await.unwrap();
    assert!(seen_by(&pooled).await.iter().all(Option::is_some));
}

#[tokio::test]
async fn a_leaky_function_in_a_condition_learns_nothing() {
    let play = a_job_that_ran().await;
    play.exec(
        "create schema spy; grant create, usage on schema spy to public; select sisyphus.run_now('secret')",
    )
    .await;
    let mut spy = play.db.client_as("sisyphus_viewer").await;
    // Cheap, so that the planner would like to call it first.
    spy.batch_execute(
        "create function spy.tell(text) returns boolean language plpgsql cost 0.0001
         as $$ begin raise notice 'saw %', $1; return true; end $$",
    )
    .await
    .unwrap();
    for query in [
        "select from sisyphus.history where spy.tell(stdout) and spy.tell(payload::text) and spy.tell(result::text)",
        "select from sisyphus.failures where spy.tell(stderr)",
        "select from sisyphus.live where spy.tell(command)",
        "select from sisyphus.upcoming where spy.tell(command)",
        "select from sisyphus.definitions where spy.tell(command) and spy.tell(env::text) and spy.tell(payload::text)",
        "select from sisyphus.audit_log where spy.tell(after::text) and spy.tell(before::text)",
    ] {
        spy.batch_execute(query).await.unwrap();
        let told = spy.notices();
        assert!(!told.is_empty(), "the spy was not asked: {query}");
        let secret =
            told.iter().find(|told| ["hunter2", "4711", "$KEY"].iter().any(|part| told.contains(part)));
        assert_eq!(secret, None, "{query}");
    }
    spy.batch_execute("drop function spy.tell").await.unwrap();
}

#[tokio::test]
async fn an_author_changes_own_jobs_alone() {
    let play = a_job_that_ran().await;
    let other = play.db.login("test_author_2", &["sisyphus_author"]).await;
    for call in [
        "schedule('secret', null, 'true')",
        "alter_job('secret', command => 'true')",
        "unschedule('secret')",
        "suspend('secret')",
        "run_now('secret')",
        "backfill('secret', '2026-03-02', '2026-03-03')",
        "rerun(1)",
    ] {
        let result = other.query(&format!("select sisyphus.{call}"), &[]).await;
        assert_error(result, "42501", "belongs to role test_author", "Act as test_author, or as a member");
    }
    let owner = play.db.client_as("sisyphus_author").await;
    owner.batch_execute("select sisyphus.alter_job('secret', retries => 1)").await.unwrap();
    let admin = play.db.client_as("sisyphus_admin").await;
    admin.batch_execute("select sisyphus.alter_job('secret', retries => 2)").await.unwrap();
    let kept: String =
        play.value("select owner::text from sisyphus.definitions where job = 'secret'", &[]).await;
    assert_eq!(kept, "test_author", "an admin's change does not take the job over");
}

#[tokio::test]
async fn an_operator_controls_any_job_and_defines_none() {
    let play = a_job_that_ran().await;
    let operator = play.db.client_as("sisyphus_operator").await;
    operator
        .batch_execute(
            "select sisyphus.suspend('secret'); select sisyphus.resume('secret'); select sisyphus.run_now('secret');
             select sisyphus.cancel(2); select sisyphus.drain_host('web1'); select sisyphus.activate_host('web1')",
        )
        .await
        .unwrap();
    for call in
        ["alter_job('secret', command => 'true')", "unschedule('secret')", "schedule('mine', null, 'true')"]
    {
        assert_sqlstate(operator.query(&format!("select sisyphus.{call}"), &[]).await, "42501");
    }
}

#[tokio::test]
async fn a_guardian_acts_for_the_host_it_is_bound_to() {
    let play = Play::at("07:00:00").await;
    let guardian = play.db.client_as("sisyphus_guardian").await;
    play.exec("select sisyphus.bind_guardian('test_guardian', 'web1')").await;
    let register =
        "select guardian_id from sisyphus.register_guardian($1, 1, pools => $2, host_key => md5($1)::uuid)";
    let none: Vec<String> = Vec::new();
    let id: i64 = guardian.query_one(register, &[&"web1", &none]).await.unwrap().get(0);
    assert_sqlstate(guardian.query(register, &[&"web2", &none]).await, "42501");
    play.exec("select sisyphus.create_pool('vault')").await;
    assert_sqlstate(guardian.query(register, &[&"web1", &vec!["vault"]]).await, "42501");

    let rogue = play.db.login("test_guardian_2", &["sisyphus_guardian"]).await;
    assert_sqlstate(rogue.query("select * from sisyphus.claim_job($1)", &[&id]).await, "42501");
    assert_sqlstate(
        rogue.query("select * from sisyphus.finish_job($1, '{1}', '{1}')", &[&id]).await,
        "42501",
    );
    for view in VIEWS {
        assert_sqlstate(guardian.query(&format!("select from sisyphus.{view}"), &[]).await, "42501");
    }
    for call in ["run_now('x')", "schedule('x', null, 'true')", "set_slots('web1', 9)"] {
        assert_sqlstate(guardian.query(&format!("select sisyphus.{call}"), &[]).await, "42501");
    }
}

#[tokio::test]
async fn definer_functions_see_no_schema_of_the_caller() {
    let play = a_job_that_ran().await;
    let author = play.db.client_as("sisyphus_author").await;
    // A temp table or operator in front of the path would run with the rights of the owner.
    author
        .batch_execute(
            "create temp table job as select 1 as job_id; create temp table pg_roles (rolname name);
             set search_path = pg_temp, sisyphus;
             select sisyphus.suspend('secret'); select sisyphus.resume('secret'); select count(*) from sisyphus.history",
        )
        .await
        .unwrap();
}

#[tokio::test]
async fn what_is_done_stands_in_the_audit_log_with_who_did_it() {
    let play = a_job_that_ran().await;
    let operator = play.db.client_as("sisyphus_operator").await;
    operator.batch_execute("select sisyphus.suspend('secret', reason => 'invoice run')").await.unwrap();
    let log = play
        .lines("select format('%s %s %s', role, action, object) from sisyphus.audit_log order by at, action")
        .await;
    for entry in ["test_author schedule secret", "test_operator suspend secret"] {
        assert!(log.iter().any(|line| line == entry), "{entry} is missing: {log:?}");
    }
}

#[tokio::test]
async fn the_audit_log_of_a_job_is_its_owners_of_that_time_and_a_name_opens_no_other_entry() {
    let play = Play::at("07:00:00").await;
    let alice = play.db.login("test_alice", &["sisyphus_author"]).await;
    let bob = play.db.login("test_bob", &["sisyphus_author"]).await;
    alice
        .batch_execute("select sisyphus.schedule('hers', null, 'true', cwd => '/srv/hunter2')")
        .await
        .unwrap();
    play.exec(
        "select sisyphus.suspend('hers', reason => 'hunter2'); select sisyphus.set_setting('heartbeat', '4 s');
         select sisyphus.create_pool('web', description => 'hunter2'); select sisyphus.unschedule('hers')",
    )
    .await;
    play.tick().await;
    for name in ["heartbeat", "web", "hers"] {
        bob.execute("select sisyphus.schedule($1, null, 'true')", &[&name]).await.unwrap();
    }
    let seen = "select coalesce(string_agg(action, ' ' order by at, action), '') from sisyphus.audit_log
                 where coalesce(before, after) is not null and object in ('heartbeat', 'web', 'hers')";
    let told: String = bob.query_one(seen, &[]).await.unwrap().get(0);
    assert_eq!(told, "schedule schedule schedule");
    let told: String = alice.query_one(seen, &[]).await.unwrap().get(0);
    assert_eq!(told, "schedule suspend unschedule");
    let hidden = "select count(*) from sisyphus.audit_log where after::text like '%/srv/hunter2%'";
    let count: i64 = play.client.query_one(hidden, &[]).await.unwrap().get(0);
    assert_eq!(count, 0);
}

#[tokio::test]
async fn what_an_operator_does_to_a_run_is_told_to_its_owner_and_to_no_other_author() {
    let play = Play::at("07:00:00").await;
    let alice = play.db.login("test_alice", &["sisyphus_author"]).await;
    let bob = play.db.login("test_bob", &["sisyphus_author"]).await;
    let operator = play.db.client_as("sisyphus_operator").await;
    alice.batch_execute("select sisyphus.schedule('hers', null, 'true')").await.unwrap();
    for submit in ["sisyphus.run_now('hers')", "sisyphus.submit('true')"] {
        let run_id: i64 = alice.query_one(&format!("select {submit}"), &[]).await.unwrap().get(0);
        operator.execute("select sisyphus.cancel($1)", &[&run_id]).await.unwrap();
        play.tick().await;
        let told = "select count(before) || ' ' || count(after) from sisyphus.audit_log
                     where action = 'cancel' and object = $1::bigint::text";
        assert_eq!(alice.query_one(told, &[&run_id]).await.unwrap().get::<_, String>(0), "1 1", "{submit}");
        assert_eq!(bob.query_one(told, &[&run_id]).await.unwrap().get::<_, String>(0), "0 0", "{submit}");
    }
}
