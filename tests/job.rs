//! schedule(), alter_job() and unschedule(): what a definition call writes, and what it leaves alone.

use tokio_postgres::{Client, types::FromSqlOwned};

use crate::support::{self, advance_clock, assert_error, set_clock};

/// The one value of a query.
pub(crate) async fn one<T: FromSqlOwned>(client: &Client, query: &str) -> T {
    client.query_one(query, &[]).await.unwrap_or_else(|err| panic!("{query}: {err:?}")).get(0)
}

/// Runs a statement that should succeed.
pub(crate) async fn run(client: &Client, text: &str) {
    client.batch_execute(text).await.unwrap_or_else(|err| panic!("{text}: {err:?}"));
}

async fn version(client: &Client) -> i32 {
    one(client, "select version from sisyphus.job where name = 'j'").await
}

/// The request of the last definition call; none when it made none.
async fn last_request(client: &Client) -> Option<String> {
    let text = "with taken as (delete from sisyphus.request returning request_id, replan_from)
                select coalesce(replan_from::text, 'stays') from taken order by request_id desc limit 1";
    client.query_opt(text, &[]).await.unwrap().map(|row| row.get(0))
}

#[tokio::test]
async fn schedule_stores_the_job_its_first_version_a_request_and_an_audit_entry() {
    let db = support::db().await;
    let client = db.client().await;
    set_clock(&client, "2026-01-05 07:00+00").await;
    let job_id: i64 = one(
        &client,
        "select sisyphus.schedule('j', '0 7 * * *', 'echo hello', timezone => 'Europe/Amsterdam',
             ttl => '10 min', max_runtime => '1 h', env => '{\"A\": \"b\"}', payload => '{\"deep\": null}',
             limits => '{\"output\": \"128kB\", \"nice\": 5, \"memory\": \"2 GB\", \"cpu\": 1.5}', retention => '{\"success\": \"8 days\"}')",
    )
    .await;
    let row = client
        .query_one(
            "select j.job_id, j.version, j.owner::text, j.spec::text, j.retain_success, coalesce(j.retain_failure, -1),
                    j.payload::text, d.definition ->> 'schedule', d.definition ->> 'pool', d.changed_by::text,
                    q.action, q.replan_from = j.changed_at, a.action, a.after ->> 'command', a.after ->> 'ttl'
               from sisyphus.job j
               join sisyphus.job_definition d using (job_id)
               join sisyphus.request q using (job_id)
               join sisyphus.audit a on a.object = j.name",
            &[],
        )
        .await
        .unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i32>(1)), (job_id, 1));
    assert_eq!(row.get::<_, &str>(2), "postgres");
    let spec = row.get::<_, &str>(3);
    for part in [
        "\"grace\": 10,",
        "\"max_runtime\": 3600,",
        "\"output_limit\": 131072",
        "\"nice\": 5",
        "\"memory\": 2147483648",
        "\"cpu\": 1.5",
        "echo hello",
    ] {
        assert!(spec.contains(part), "{part} should be in {spec}");
    }
    assert!(!spec.contains("128kB"), "{spec}");
    assert_eq!((row.get::<_, i32>(4), row.get::<_, i32>(5)), (30, -1));
    assert_eq!(row.get::<_, &str>(6), "{\"deep\": null}");
    assert_eq!((row.get::<_, &str>(7), row.get::<_, &str>(8)), ("0 7 * * *", "default"));
    assert_eq!((row.get::<_, &str>(9), row.get::<_, &str>(10)), ("postgres", "define"));
    assert!(row.get::<_, bool>(11));
    // The audit log has readers who may not see commands.
    let audit = (row.get::<_, &str>(12), row.get::<_, &str>(13), row.get::<_, &str>(14));
    assert_eq!(audit, ("schedule", "(private)", "00:10:00"));
}

#[tokio::test]
async fn the_same_definition_again_leaves_an_audit_entry_and_nothing_else() {
    let db = support::db().await;
    let client = db.client().await;
    let call = "select sisyphus.schedule('j', 'every 90 seconds', 'true', retry_backoff => 1.5, starts_at => '2020-01-01 00:00+00')";
    let first: i64 = one(&client, call).await;
    last_request(&client).await;
    let before: String = one(&client, "select j::text from sisyphus.job j").await;
    let second: i64 = one(&client, call).await;
    assert_eq!(first, second);
    assert_eq!(before, one::<String>(&client, "select j::text from sisyphus.job j").await);
    assert_eq!(last_request(&client).await, None);
    assert_eq!(one::<i64>(&client, "select count(*) from sisyphus.job_definition").await, 1);
    assert_eq!(one::<i64>(&client, "select count(*) from sisyphus.audit").await, 2);
}

#[tokio::test]
async fn schedule_resets_what_is_not_given_and_keeps_suspension_and_owner() {
    let db = support::db().await;
    let client = db.client().await;
    let author = db.client_as("sisyphus_author").await;
    run(&author, "select sisyphus.schedule('j', '@daily', 'true', ttl => '1 h', tags => '{a}')").await;
    run(&author, "select sisyphus.suspend('j', reason => 'later')").await;
    run(&client, "select sisyphus.schedule('j', '@hourly', 'false')").await;
    let row = client
        .query_one(
            "select ttl is null, tags = '{}', suspend_reason, owner::text, version from sisyphus.job",
            &[],
        )
        .await
        .unwrap();
    assert!(row.get::<_, bool>(0) && row.get::<_, bool>(1));
    assert_eq!((row.get::<_, &str>(2), row.get::<_, &str>(3)), ("later", "test_author"));
    assert_eq!(row.get::<_, i32>(4), 2);
}

/// The defaults stand in the signature, where people look, and once more for reset and for null.
#[tokio::test]
async fn nulls_and_reset_mean_the_defaults_of_the_signature() {
    let db = support::db().await;
    let client = db.client().await;
    let arguments: Vec<String> = client
        .query("select unnest(proargnames) from pg_proc where oid = 'sisyphus.schedule'::regproc", &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get::<_, String>(0))
        .filter(|name| !["name", "schedule", "command"].contains(&name.as_str()))
        .collect();
    let nulls: Vec<String> = arguments.iter().map(|name| format!("{name} => null")).collect();
    run(&client, "select sisyphus.schedule('a', '@daily', 'true')").await;
    run(&client, &format!("select sisyphus.schedule('b', '@daily', 'true', {})", nulls.join(", "))).await;
    run(
        &client,
        "select sisyphus.schedule('c', '@daily', 'true', ttl => '1 h', missed => 'all', overlap => 'allow',
             run_on => 'all', max_runtime => '1 h', grace => '1 s', retries => 3, retry_delay => '1 s',
             retry_backoff => 1, retry_max_delay => '2 s', retry_on_lost => true, success_exit_codes => '{0,1}',
             no_retry_exit_codes => '{2}', priority => 3, jitter => '1 s', ends_at => '2100-01-01 00:00+00',
             payload => '1', env => '{}', cwd => '/', limits => '{}', leftovers => 'leave', retention => '{}',
             description => 'x', tags => '{y}', timezone => 'Asia/Tokyo')",
    )
    .await;
    run(&client, &format!("select sisyphus.alter_job('c', reset => '{{{}}}')", arguments.join(","))).await;
    let definitions = "select count(distinct sisyphus._job_definition(j)) from sisyphus.job j";
    assert_eq!(one::<i64>(&client, definitions).await, 1);
}

#[tokio::test]
async fn the_version_grows_with_what_matters_to_a_run_and_the_watermark_moves_with_the_calendar_alone() {
    let db = support::db().await;
    let client = db.client().await;
    set_clock(&client, "2026-01-05 07:00+00").await;
    run(&client, "select sisyphus.schedule('j', '@daily', 'true')").await;
    assert!(last_request(&client).await.unwrap().starts_with("2026-01-05 07:00"));
    for (change, raises, replans) in [
        ("description => 'x'", false, false),
        ("tags => '{a,b}'", false, false),
        ("retention => '{\"failure\": \"1 year\"}'", false, false),
        ("command => 'false'", true, false),
        ("argv => '{true}'", true, false),
        ("ttl => '1 h'", true, false),
        ("overlap => 'queue'", true, false),
        ("retries => 3", true, false),
        ("priority => 1", true, false),
        ("env => '{\"A\": \"b\"}'", true, false),
        ("payload => '[1]'", true, false),
        ("limits => '{\"nice\": 1}'", true, false),
        ("schedule => '@hourly'", true, true),
        ("timezone => 'Asia/Tokyo'", true, true),
        ("jitter => '5 s'", true, false),
        ("starts_at => '2026-01-06 00:00+00'", true, true),
        ("ends_at => '2030-01-06 00:00+00'", true, false),
        ("reset => '{ends_at}'", true, false),
        ("reset => '{ttl}'", true, false),
        ("reset => '{description}'", false, false),
        // What is so already is no change.
        ("retries => 3", false, false),
    ] {
        advance_clock(&client, "1 second").await;
        let before = version(&client).await;
        run(&client, &format!("select sisyphus.alter_job('j', {change})")).await;
        assert_eq!(version(&client).await - before, i32::from(raises), "{change}");
        let request = last_request(&client).await;
        assert_eq!(request.is_some(), raises, "{change}");
        assert_eq!(request.is_some_and(|from| from != "stays"), replans, "{change}");
    }
    // Every version can be looked up.
    let versions: i64 = one(&client, "select count(*) from sisyphus.job_definition").await;
    assert_eq!(versions, i64::from(version(&client).await));
}

#[tokio::test]
async fn alter_job_changes_what_is_given_alone_and_one_of_command_and_argv_replaces_the_other() {
    let db = support::db().await;
    let client = db.client().await;
    run(&client, "select sisyphus.schedule('j', '@daily', 'true', ttl => '1 h', retries => 2)").await;
    run(&client, "select sisyphus.alter_job('j', argv => '{/bin/echo,hi}', reset => '{ttl}')").await;
    let now = "select format('%s %s %s %s', command is null, argv, ttl is null, retries) from sisyphus.job";
    assert_eq!(one::<String>(&client, now).await, "t {/bin/echo,hi} t 2");
    run(&client, "select sisyphus.alter_job('j', command => 'false')").await;
    assert_eq!(one::<String>(&client, now).await, "f  t 2");
    run(&client, "select sisyphus.alter_job('j', reset => '{schedule}')").await;
    assert!(one::<bool>(&client, "select schedule is null and compiled is null from sisyphus.job").await);
}

#[tokio::test]
async fn every_keeps_counting_from_where_it_began() {
    let db = support::db().await;
    let client = db.client().await;
    set_clock(&client, "2026-01-05 07:00:00.7+00").await;
    let anchor = "select anchor_at::text from sisyphus.job";
    run(&client, "set timezone = 'UTC'; select sisyphus.schedule('j', 'every 10 minutes', 'true')").await;
    assert_eq!(one::<String>(&client, anchor).await, "2026-01-05 07:00:00+00");
    advance_clock(&client, "95 seconds").await;
    run(&client, "select sisyphus.schedule('j', 'every 10 minutes', 'false')").await;
    run(&client, "select sisyphus.schedule('j', ' EVERY 15 minutes', 'false')").await;
    assert_eq!(one::<String>(&client, anchor).await, "2026-01-05 07:00:00+00");
    run(&client, "select sisyphus.alter_job('j', starts_at => '2026-02-01 00:00+00')").await;
    assert_eq!(one::<String>(&client, anchor).await, "2026-02-01 00:00:00+00");
    run(&client, "select sisyphus.alter_job('j', schedule => '@daily', reset => '{starts_at}')").await;
    run(&client, "select sisyphus.alter_job('j', schedule => 'every 1 minute')").await;
    assert_eq!(one::<String>(&client, anchor).await, "2026-01-05 07:01:35+00");
}

#[tokio::test]
async fn unschedule_frees_the_name_and_schedule_brings_it_back_under_the_same_number() {
    let db = support::db().await;
    let client = db.client().await;
    let first: i64 = one(&client, "select sisyphus.schedule('j', 'every 10 minutes', 'true')").await;
    run(&client, "select sisyphus.suspend('j')").await;
    assert!(one::<bool>(&client, "select sisyphus.unschedule('j')").await);
    assert!(!one::<bool>(&client, "select sisyphus.unschedule('j')").await, "it was removed before");
    for call in
        ["alter_job('j', retries => 1)", "suspend('j')", "resume('j')", "run_now('j')", "preview('j')"]
    {
        let result = client.query(&format!("select sisyphus.{call}"), &[]).await;
        assert_error(result, "42704", "job \"j\" does not exist", "schedule() brings it back");
    }
    last_request(&client).await;
    let again: i64 = one(&client, "select sisyphus.schedule('j', 'every 10 minutes', 'true')").await;
    assert_eq!(first, again);
    assert_ne!(last_request(&client).await.unwrap(), "stays");
    let row = client
        .query_one("select version, suspended_at is null and deleted_at is null, anchor_at > created_at - interval '1 s' from sisyphus.job", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, i32>(0), 2);
    assert!(row.get::<_, bool>(1) && row.get::<_, bool>(2));
}

#[tokio::test]
async fn a_definition_that_is_rolled_back_leaves_nothing() {
    let db = support::db().await;
    let client = db.client().await;
    run(&client, "select sisyphus.schedule('kept', '@daily', 'true'); delete from sisyphus.request").await;
    let state = "select (select string_agg(j::text, ';') from sisyphus.job j)
                     || (select count(*) from sisyphus.request) || (select count(*) from sisyphus.run)
                     || (select count(*) from sisyphus.audit) || (select count(*) from sisyphus.job_definition)";
    let before: String = one(&client, state).await;
    run(
        &client,
        "begin; select sisyphus.schedule('new', '@daily', 'true'); select sisyphus.alter_job('kept', retries => 9);
         select sisyphus.suspend('kept'); select sisyphus.resume('kept'); select sisyphus.run_now('kept');
         select sisyphus.unschedule('kept'); rollback",
    )
    .await;
    assert_eq!(before, one::<String>(&client, state).await);
}

#[tokio::test]
async fn what_is_stored_does_not_depend_on_the_settings_of_the_session() {
    let db = support::db().await;
    let client = db.client().await;
    for style in ["postgres", "iso_8601", "sql_standard", "postgres_verbose"] {
        run(
            &client,
            &format!(
                "set intervalstyle = '{style}'; set timezone = 'Asia/Kolkata'; set datestyle = 'SQL, DMY';
                 set standard_conforming_strings = off; set extra_float_digits = -15;
                 select sisyphus.schedule('{style}', 'every 1 hour', 'true', ttl => interval '1 day 02:03:04.5',
                     starts_at => timestamptz '2026-02-01 00:00+00', retry_delay => interval '90 s',
                     retry_backoff => 1.25, max_runtime => interval '3661 s', limits => '{{\"memory\": \"64MB\"}}')"
            ),
        )
        .await;
    }
    let kinds = "select count(distinct (definition, spec)) from sisyphus.job_definition";
    assert_eq!(one::<i64>(&client, kinds).await, 1);
    let ttl = "select definition ->> 'ttl' || ' ' || (definition ->> 'starts_at') from sisyphus.job_definition limit 1";
    assert_eq!(one::<String>(&client, ttl).await, "1 day 02:03:04.5 2026-02-01T00:00:00+00:00");
    let numbers = "select definition ->> 'retry_backoff' || ' ' || (spec ->> 'max_runtime') from sisyphus.job_definition limit 1";
    assert_eq!(one::<String>(&client, numbers).await, "1.25 3661");
}

#[tokio::test]
async fn retention_is_rounded_up_to_a_class() {
    let db = support::db().await;
    let client = db.client().await;
    for (given, days) in [
        ("1 hour", 1),
        ("1 day", 1),
        ("2 days", 7),
        ("31 days", 90),
        ("400 days", 400),
        ("2 years", 0),
        ("forever", 0),
    ] {
        run(
            &client,
            &format!(
                "select sisyphus.schedule('j', null, 'true', retention => '{{\"success\": \"{given}\"}}')"
            ),
        )
        .await;
        assert_eq!(one::<i32>(&client, "select retain_success from sisyphus.job").await, days, "{given}");
        assert!(one::<bool>(&client, "select retain_failure is null from sisyphus.job").await, "{given}");
    }
}

#[tokio::test]
async fn a_pool_without_an_active_host_and_unknown_members_give_a_notice() {
    let db = support::db().await;
    let mut client = db.client().await;
    run(&client, "select sisyphus.schedule('j', '@daily', 'true')").await;
    assert_eq!(client.notices(), ["pool \"default\" has no active host now"]);
    run(&client, "select sisyphus.register_guardian('web1', 4)").await;
    run(&client, "select sisyphus.create_pool('web', '{web1,web2}')").await;
    client.notices();
    run(&client, "select sisyphus.schedule('k', '@daily', 'true')").await;
    assert!(client.notices().is_empty());
    run(&client, "select sisyphus.alter_job('k', pool => 'web')").await;
    assert_eq!(client.notices(), ["pool \"web\" lists hosts that have not registered yet: web2"]);
    run(&client, "select sisyphus.drain_host('web1')").await;
    run(&client, "select sisyphus.schedule('l', '@daily', 'true')").await;
    assert_eq!(client.notices(), ["pool \"default\" has no active host now"]);
}

#[tokio::test]
async fn preview_shows_occurrences_in_the_zone_of_the_job_and_on_each_host() {
    let db = support::db().await;
    let client = db.client().await;
    set_clock(&client, "2026-03-28 12:00+00").await;
    run(
        &client,
        "set timezone = 'UTC'; select sisyphus.register_guardian(h, 1) from unnest(array['a', 'b']) h",
    )
    .await;
    run(&client, "select sisyphus.schedule('any', '30 2 * * *', 'true', timezone => 'Europe/Amsterdam')")
        .await;
    run(&client, "select sisyphus.schedule('all', '@daily', 'true', timezone => 'UTC', run_on => 'all', ends_at => '2026-03-30 00:00+00')").await;
    let shown = async |call: &str| -> String {
        one(&client, &format!("select string_agg(format('%s %s %s', due_at, local_time, host_or_pool), '; ') from sisyphus.{call}")).await
    };
    // On the 29th the clocks skip 02:30.
    assert_eq!(
        shown("preview('any', 2)").await,
        "2026-03-29 01:00:00+00 2026-03-29 03:00:00 default; 2026-03-30 00:30:00+00 2026-03-30 02:30:00 default"
    );
    assert_eq!(
        shown("preview('all')").await,
        "2026-03-29 00:00:00+00 2026-03-29 00:00:00 a; 2026-03-29 00:00:00+00 2026-03-29 00:00:00 b"
    );
    let result = client.query("select sisyphus.preview('any', 0)", &[]).await;
    assert_error(result, "22023", "job \"any\": n \"0\" is not allowed", "1 to 1000");
}
