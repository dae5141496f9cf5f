//! Pools, hosts, bindings and settings.

use tokio_postgres::Client;

use crate::{
    job::{one, run},
    support::{self, assert_error},
};

async fn register(client: &Client, host: &str, labels: &str) {
    run(client, &format!("select sisyphus.register_guardian('{host}', 4, '{labels}')")).await;
}

/// The hosts of each pool, as the claim sees them after the next tick.
async fn members(client: &Client) -> String {
    run(client, "select sisyphus.tick()").await;
    one(
        client,
        "select string_agg(format('%s: %s', p.name, (select string_agg(h.name, ',' order by h.name)
                                                       from sisyphus.host h where p.pool_id = any(h.lanes))), '; ' order by p.name)
           from sisyphus.pool p",
    )
    .await
}

#[tokio::test]
async fn pools_are_lists_selectors_or_both_and_lanes_follow_each_change() {
    let db = support::db().await;
    let mut client = db.client().await;
    run(&client, "select sisyphus.create_pool('list', '{a,z}'); select sisyphus.create_pool('label', selector => '{\"role\": \"db\"}')").await;
    assert_eq!(client.notices(), ["pool \"list\" lists hosts that have not registered yet: a, z"]);
    register(&client, "a", "{}").await;
    register(&client, "b", "{\"role\": \"db\", \"rack\": 7}").await;
    assert_eq!(members(&client).await, "default: a,b; label: b; list: a");
    assert!(one::<bool>(&client, "select sisyphus.add_host('list', 'b')").await);
    assert!(!one::<bool>(&client, "select sisyphus.add_host('list', 'b')").await);
    assert!(one::<bool>(&client, "select sisyphus.add_host('label', 'a')").await);
    assert_eq!(members(&client).await, "default: a,b; label: a,b; list: a,b");
    assert!(one::<bool>(&client, "select sisyphus.remove_host('list', 'a')").await);
    assert!(!one::<bool>(&client, "select sisyphus.remove_host('list', 'a')").await);
    run(&client, "select sisyphus.add_host('label', 'b'); select sisyphus.remove_host('label', 'b')").await;
    assert_eq!(client.notices(), ["host \"b\" stays in pool \"label\": its labels match the selector"]);
    assert_eq!(members(&client).await, "default: a,b; label: a,b; list: b");
    // Made anew, a pool is what the call says.
    let before: i64 = one(&client, "select pool_id from sisyphus.pool where name = 'list'").await;
    assert_eq!(
        before,
        one::<i64>(&client, "select sisyphus.create_pool('list', selector => '{\"rack\": 7}')").await
    );
    run(&client, "select sisyphus.create_pool('label', '{a}')").await;
    assert_eq!(members(&client).await, "default: a,b; label: a; list: b");
    run(&client, "select sisyphus.drop_pool('label')").await;
    assert_eq!(members(&client).await, "default: a,b; list: b");
}

/// Neither of two open transactions sees the other's row: without the tick the host would never join.
#[tokio::test]
async fn a_host_that_registers_while_a_pool_is_being_made_joins_it_with_the_next_tick() {
    let db = support::db().await;
    let client = db.client().await;
    let maker = db.client().await;
    run(&maker, "begin; select sisyphus.create_pool('p', '{a}')").await;
    register(&client, "a", "{}").await;
    run(&maker, "commit").await;
    assert_eq!(members(&client).await, "default: a; p: a");
}

#[tokio::test]
async fn wrong_pools_are_refused() {
    let db = support::db().await;
    let client = db.client().await;
    run(&client, "select sisyphus.create_pool('web')").await;
    for (call, code, message, hint) in [
        ("create_pool('')", "22023", "pool name \"\"", "1 to 63 printable"),
        ("create_pool(null)", "22023", "pool name \"\"", "1 to 63 printable"),
        ("create_pool('default')", "55000", "pool \"default\" always has every host", "another name"),
        ("create_pool('p', selector => '[]')", "22023", "selector \"[]\"", "{\"role\": \"web\"}"),
        ("create_pool('p', selector => '{}')", "22023", "selector \"{}\"", "{\"role\": \"web\"}"),
        ("create_pool('p', '{a,null}')", "22023", "host \"null\"", "1 to 63 printable"),
        ("add_host('web', ' a')", "22023", "host \" a\"", "1 to 63 printable"),
        ("add_host('wbe', 'a')", "42704", "pool \"wbe\" does not exist", "Did you mean \"web\"?"),
        ("add_host('default', 'a')", "55000", "always has every host", "another pool"),
        ("remove_host('default', 'a')", "55000", "always has every host", "another pool"),
        ("drop_pool('default')", "55000", "cannot be dropped", "Every host"),
        ("drop_pool('wbe')", "42704", "pool \"wbe\" does not exist", "Did you mean \"web\"?"),
    ] {
        assert_error(client.query(&format!("select sisyphus.{call}"), &[]).await, code, message, hint);
    }
}

#[tokio::test]
async fn a_pool_is_dropped_when_nothing_uses_it_and_never_under_an_open_definition() {
    let db = support::db().await;
    let client = db.client().await;
    run(
        &client,
        "select sisyphus.create_pool('web'); select sisyphus.schedule('j', null, 'true', pool => 'web')",
    )
    .await;
    let run_id: i64 = one(&client, "select sisyphus.run_now('j')").await;
    let drop = "select sisyphus.drop_pool('web')";
    let err = support::error_of(client.query(drop, &[]).await);
    assert_eq!(
        (err.code().code(), err.message(), err.detail()),
        ("2BP01", "pool \"web\" is in use", Some("Jobs: \"j\"."))
    );
    run(&client, "select sisyphus.alter_job('j', pool => 'default')").await;
    assert_error(client.query(drop, &[]).await, "2BP01", "pool \"web\" is in use", "Wait for them");
    run(&client, &format!("select sisyphus.cancel({run_id}); select sisyphus.tick()")).await;

    let author = db.client().await;
    run(&author, "begin; select sisyphus.schedule('k', null, 'true', pool => 'web')").await;
    assert_error(client.query(drop, &[]).await, "55006", "used by an open transaction", "Try again");
    run(&author, "rollback").await;
    run(&client, &format!("begin; {drop}")).await;
    let result = author.query("select sisyphus.schedule('k', null, 'true', pool => 'web')", &[]).await;
    assert_error(result, "55006", "pool \"web\" is being dropped", "try again");
    run(&client, "commit").await;
}

#[tokio::test]
async fn drain_activate_and_slots_are_kept_over_registrations() {
    let db = support::db().await;
    let client = db.client().await;
    register(&client, "web1", "{}").await;
    assert!(one::<bool>(&client, "select sisyphus.drain_host('web1')").await);
    assert!(!one::<bool>(&client, "select sisyphus.drain_host('web1')").await);
    run(&client, "select sisyphus.set_slots('web1', 9)").await;
    register(&client, "web1", "{}").await;
    let host = "select format('%s %s', h.state, h.slots) from sisyphus.host h";
    assert_eq!(one::<String>(&client, host).await, "draining 9");
    assert!(one::<bool>(&client, "select sisyphus.activate_host('web1')").await);
    assert!(!one::<bool>(&client, "select sisyphus.activate_host('web1')").await);
    run(&client, "select sisyphus.set_slots('web1', null)").await;
    register(&client, "web1", "{}").await;
    assert_eq!(one::<String>(&client, host).await, "active 4");
    for call in ["drain_host('web2')", "activate_host('web2')", "set_slots('web2', 1)", "forget_host('web2')"]
    {
        let result = client.query(&format!("select sisyphus.{call}"), &[]).await;
        assert_error(result, "42704", "host \"web2\" does not exist", "Did you mean \"web1\"?");
    }
    for n in [-1, 10001] {
        let result = client.query(&format!("select sisyphus.set_slots('web1', {n})"), &[]).await;
        assert_error(result, "22023", &format!("host \"web1\": n \"{n}\""), "0 to 10000");
    }
}

#[tokio::test]
async fn a_host_is_forgotten_when_it_is_gone_and_its_waiting_runs_are_cancelled() {
    let db = support::db().await;
    let client = db.client().await;
    register(&client, "old", "{}").await;
    run(
        &client,
        "select sisyphus.schedule('all', null, 'true', run_on => 'all'); select sisyphus.run_now('all')",
    )
    .await;
    let forget = "select sisyphus.forget_host('old')";
    assert_error(
        client.query(forget, &[]).await,
        "55000",
        "host \"old\" has a living guardian",
        "drain_host()",
    );
    run(&client, "select sisyphus.tick(); select sisyphus.claim_job(1); update sisyphus.guardian set lease_until = '-infinity'")
        .await;
    assert_error(client.query(forget, &[]).await, "55000", "host \"old\" still holds 1 runs", "next tick");
    run(&client, "select sisyphus.release_job(1, array_agg(run_id), array_agg(claim_no)) from sisyphus.run; select sisyphus.sign_off(1)").await;
    run(&client, forget).await;
    run(&client, "select sisyphus.tick()").await;
    let left: i64 = one(&client, "select (select count(*) from sisyphus.host) + (select count(*) from sisyphus.guardian) + (select count(*) from sisyphus.run)").await;
    assert_eq!(left, 0);
    let reason: String = one(&client, "select state || ': ' || reason from sisyphus.attempt").await;
    assert_eq!(reason, "cancelled: host \"old\" was forgotten");
}

#[tokio::test]
async fn a_binding_names_a_role_and_pools_that_exist() {
    let db = support::db().await;
    let mut client = db.client().await;
    run(&client, "select sisyphus.create_pool('web')").await;
    for (arguments, code, message, hint) in [
        (
            "'no such role', 'a'",
            "42704",
            "role \"no such role\" does not exist",
            "create role \"no such role\" login",
        ),
        ("null, 'a'", "42704", "role \"<NULL>\" does not exist", "create role"),
        ("'postgres', ''", "22023", "host \"\"", "1 to 63 printable"),
        ("'postgres', 'a', '{wbe}'", "42704", "pool \"wbe\" does not exist", "Did you mean \"web\"?"),
        ("'postgres', 'a', labels => '[]'", "22023", "labels \"[]\"", "Give an object"),
    ] {
        let result = client.query(&format!("select sisyphus.bind_guardian({arguments})"), &[]).await;
        assert_error(result, code, message, hint);
    }
    db.login("test_unbound", &[]).await;
    client.notices();
    run(&client, "select sisyphus.bind_guardian('test_unbound', 'a')").await;
    assert_eq!(client.notices(), ["role \"test_unbound\" is not a member of sisyphus_guardian"]);
    run(&client, "select sisyphus.bind_guardian('test_unbound', 'a', '{web}', '{\"x\": 1}')").await;
    let binding = "select format('%s %s %s', host_name, pools, labels) from sisyphus.guardian_binding";
    assert_eq!(one::<String>(&client, binding).await, "a {web} {\"x\": 1}");
}

#[tokio::test]
async fn a_guardian_that_registers_with_what_no_host_can_have_is_told_so() {
    let db = support::db().await;
    let client = db.client().await;
    for (arguments, message, hint) in [
        ("null, 1", "host \"null\"", "1 to 63 printable"),
        ("E'a\\x01', 1", "host \"a", "1 to 63 printable"),
        ("'a', null", "slots \"null\"", "0 to 10000"),
        ("'a', -1", "slots \"-1\"", "0 to 10000"),
        ("'a', 10001", "slots \"10001\"", "0 to 10000"),
        ("'a', 1, labels => null", "labels \"null\"", "Give an object"),
        ("'a', 1, labels => '[]'", "labels \"[]\"", "Give an object"),
        ("'a', 1, pools => null", "pools \"null\"", "Give an array"),
        ("'a', 1, keepers => null", "keepers \"null\"", "Give the keepers"),
        ("'a', 1, periodic => null", "periodic \"null\"", "Give false"),
        ("'a', 1, held => '{}'", "held \"{}\"", "Give an array of objects"),
        ("'a', 1, held => '[1]'", "held \"[1]\"", "Give an array of objects"),
    ] {
        let result = client.query(&format!("select sisyphus.register_guardian({arguments})"), &[]).await;
        assert_error(result, "22023", message, hint);
    }
    assert_eq!(one::<i64>(&client, "select count(*) from sisyphus.fleet").await, 0);
}

#[tokio::test]
async fn a_setting_counts_for_jobs_that_leave_it_open() {
    let db = support::db().await;
    let client = db.client().await;
    run(
        &client,
        "select sisyphus.schedule('own', null, 'true', limits => '{\"output\": \"2kB\"}', retention => '{\"success\": \"1 day\"}');
         select sisyphus.schedule('open', null, 'true');
         select sisyphus.set_setting('output_limit', '4096');
         select sisyphus.set_setting('retention_success', '40 days');
         select sisyphus.register_guardian('a', 9);
         select sisyphus.run_now('own'); select sisyphus.run_now('open'); select sisyphus.tick()",
    )
    .await;
    let limits: String = one(
        &client,
        // A run of a job that leaves it open takes what the last row says.
        "select string_agg(format('%s %s', coalesce(job, 'otherwise'), spec ->> 'output_limit'), ', ' order by job)
           from sisyphus.claim_job(1, 9, 9)",
    )
    .await;
    assert_eq!(limits, "open , own 2048, otherwise 4096");
    run(
        &client,
        "select sisyphus.finish_job(1, array_agg(run_id), array_agg(claim_no), array_agg(0)) from sisyphus.run",
    )
    .await;
    let days =
        "select string_agg(format('%s %s', job, retention_days), ', ' order by job) from sisyphus.attempt";
    assert_eq!(one::<String>(&client, days).await, "open 90, own 1");
}

#[tokio::test]
async fn a_wrong_setting_is_refused_with_the_rule_it_breaks() {
    let db = support::db().await;
    let client = db.client().await;
    run(&client, "select sisyphus.schedule('guarded', null, 'true', fenced => true, grace => '12 s')").await;
    for (name, value, message, hint) in [
        ("'hearbeat'", "'1 s'", "name \"hearbeat\"", "Did you mean \"heartbeat\"?"),
        ("'only_row'", "'1'", "name \"only_row\"", "Give one of claim_ahead"),
        ("null", "'1'", "name \"null\"", "Give one of claim_ahead"),
        ("'heartbeat'", "null", "heartbeat \"null\"", "sisyphus.settings"),
        ("'heartbeat'", "'soon'", "heartbeat \"soon\"", "Give an interval"),
        ("'heartbeat'", "'1 hour'", "heartbeat \"1 hour\"", "heartbeat <= '00:01:00'"),
        ("'lease_timeout'", "'1 s'", "lease_timeout \"1 s\"", "claim_ahead + heartbeat < lease_timeout"),
        (
            "'lease_timeout'",
            "'20 s'",
            "lease_timeout \"20 s\"",
            "Job \"guarded\" is fenced with a grace of 12 s",
        ),
        ("'output_limit'", "'1'", "output_limit \"1\"", "output_limit >= 1024"),
        ("'output_limit'", "'99999999999'", "output_limit", "a number"),
        ("'retention_failure'", "'-1 day'", "retention_failure \"-1 day\"", "\"30 days\""),
        ("'default_timezone'", "'Mars'", "Mars", ""),
    ] {
        let result = client.query(&format!("select sisyphus.set_setting({name}, {value})"), &[]).await;
        assert_error(result, "22023", message, hint);
    }
}
