//! Wrong definitions: each is refused with SQLSTATE, message and hint, and changes nothing.

use crate::{
    job::{one, run},
    support::{self, Play, assert_error},
};

/// Arguments of `schedule('b', …)` after the name, the code, and parts of message and hint.
const WRONG_DEFINITIONS: &[(&str, &str, &str, &str)] = &[
    ("'60 * * * *', 'true'", "SY103", "60", ""),
    ("'0 0 31 2 *', 'true'", "SY112", "can never fire", "day of month"),
    (
        "'at 2020-01-01', 'true'",
        "SY201",
        "job \"b\": schedule \"at 2020-01-01\" is never due",
        "Give an instant after",
    ),
    ("'@daily', 'true', ends_at => '2020-01-01'", "SY201", "is never due", "not before ends_at"),
    (
        "'@daily', 'true', timezone => 'Europe/Amsterdm'",
        "22023",
        "Europe/Amsterdm",
        "Did you mean \"Europe/Amsterdam\"?",
    ),
    (
        "null, 'true', timezone => 'Europe/Amsterdm'",
        "22023",
        "Europe/Amsterdm",
        "Did you mean \"Europe/Amsterdam\"?",
    ),
    (
        "'@daily', 'true', pool => 'defalt'",
        "42704",
        "pool \"defalt\" does not exist",
        "Did you mean \"default\"?",
    ),
    ("'@daily', 'true', pool => 'xyz'", "42704", "pool \"xyz\" does not exist", "create_pool('xyz')"),
    ("'@daily'", "SY202", "neither command nor argv", "exactly one"),
    ("'@daily', 'true', argv => '{true}'", "SY202", "both command and argv", "exactly one"),
    ("'@daily', '  '", "22023", "command \"  \" is not allowed", "Give a shell command"),
    ("'@daily', argv => '{}'", "22023", "argv", "array['/bin/echo', 'hello']"),
    ("'@daily', argv => '{\"\",a}'", "22023", "argv", "array["),
    ("'@daily', argv => '{a,null}'", "22023", "argv", "array["),
    ("'@daily', argv => '{{a,b},{c,d}}'", "22023", "argv", "array["),
    ("'@daily', 'true', run_on => 'every'", "22023", "run_on \"every\"", "Give one of any, all."),
    ("'@daily', 'true', missed => 'lastest'", "22023", "missed \"lastest\"", "Did you mean \"latest\"?"),
    (
        "'@daily', 'true', overlap => 'skp'",
        "22023",
        "overlap \"skp\"",
        "Did you mean \"skip\"? Give one of skip, queue, replace, allow.",
    ),
    ("'@daily', 'true', leftovers => 'kil'", "22023", "leftovers \"kil\"", "Did you mean \"kill\"?"),
    ("'@daily', 'true', ttl => '0.5 s'", "22023", "ttl \"500 ms\"", "1 s or more"),
    ("'@daily', 'true', ttl => '-5 s'", "22023", "ttl \"-5 s\"", "1 s or more"),
    ("'@daily', 'true', ttl => '1000 years'", "22023", "ttl", "up to 100 years"),
    ("'@daily', 'true', max_runtime => '0'", "22023", "max_runtime", "more than 0"),
    ("'@daily', 'true', grace => '-1 s'", "22023", "grace", "0 or more"),
    ("'@daily', 'true', retries => -1", "22023", "retries \"-1\"", "0 to 1000"),
    ("'@daily', 'true', retry_delay => '-1 s'", "22023", "retry_delay", "0 or more"),
    ("'@daily', 'true', retry_max_delay => '2 years'", "22023", "retry_max_delay", "up to 1 year"),
    ("'@daily', 'true', retry_backoff => 0.5", "22023", "retry_backoff \"0.5\"", "1 to 100"),
    ("'@daily', 'true', retry_backoff => 'NaN'", "22023", "retry_backoff \"NaN\"", "1 to 100"),
    ("'@daily', 'true', jitter => '-1 s'", "22023", "jitter", "0 or more"),
    ("'@daily', 'true', priority => 10", "22023", "priority \"10\"", "-9 to 9"),
    ("'@daily', 'true', priority => 100000", "22023", "priority \"100000\"", "-9 to 9"),
    ("'@daily', 'true', success_exit_codes => '{}'", "22023", "success_exit_codes", "at least one"),
    ("'@daily', 'true', success_exit_codes => '{0,256}'", "22023", "success_exit_codes", "0 to 255"),
    ("'@daily', 'true', success_exit_codes => '{0,null}'", "22023", "success_exit_codes", "0 to 255"),
    ("'@daily', 'true', no_retry_exit_codes => '{-1}'", "22023", "no_retry_exit_codes", "0 to 255"),
    ("'@daily', 'true', starts_at => 'infinity'", "22023", "starts_at", "Give an instant"),
    ("'@daily', 'true', ends_at => '-infinity'", "22023", "ends_at", "Give an instant"),
    ("'@daily', 'true', starts_at => '4714-11-24 00:00:00+00 BC'", "22023", "starts_at", "years 1 to 9999"),
    ("'@daily', 'true', ends_at => '294276-12-31 00:00:00+00'", "22023", "ends_at", "years 1 to 9999"),
    ("'@daily', 'true', cwd => 'tmp'", "22023", "cwd \"tmp\"", "absolute path"),
    ("'@daily', 'true', tags => '{a,null}'", "22023", "tags", "words"),
    ("'@daily', 'true', tags => '{{a,b},{c,d}}'", "22023", "tags", "words"),
    ("'@daily', argv => '{{a,b},{c,d}}'", "22023", "argv", "the program and its arguments"),
    ("'@daily', 'true', env => '[]'", "22023", "env \"[]\"", "Give an object"),
    ("'@daily', 'true', env => '{\"A\": 1}'", "22023", "env \"A\"", "{\"A\": \"1\"}"),
    ("'@daily', 'true', env => '{\"1A\": \"x\"}'", "22023", "env \"1A\"", "letters, digits"),
    ("'@daily', 'true', env => '{\"SISYPHUS_X\": \"x\"}'", "22023", "env \"SISYPHUS_X\"", "set by Sisyphus"),
    ("'@daily', 'true', limits => '7'", "22023", "limits \"7\"", "memory, cpu, nice, open_files, output"),
    ("'@daily', 'true', limits => '{\"nic\": 1}'", "22023", "limits key \"nic\"", "Did you mean \"nice\"?"),
    ("'@daily', 'true', limits => '{\"nice\": 20}'", "22023", "limits nice \"20\"", "-20 to 19"),
    ("'@daily', 'true', limits => '{\"nice\": null}'", "22023", "limits nice", "-20 to 19"),
    (
        "'@daily', 'true', limits => '{\"open_files\": 1.5}'",
        "22023",
        "limits open_files \"1.5\"",
        "16 to 1048576",
    ),
    (
        "'@daily', 'true', limits => '{\"output\": \"2GB\"}'",
        "22023",
        "limits output \"2GB\"",
        "\"1kB\" to \"1MB\"",
    ),
    ("'@daily', 'true', limits => '{\"output\": 1}'", "22023", "limits output \"1\"", "\"1kB\" to \"1MB\""),
    (
        "'@daily', 'true', retention => '{\"succes\": \"1 day\"}'",
        "22023",
        "retention key \"succes\"",
        "Did you mean \"success\"?",
    ),
    ("'@daily', 'true', retention => '{\"success\": 7}'", "22023", "retention success \"7\"", "\"7 days\""),
    (
        "'@daily', 'true', retention => '{\"failure\": \"long\"}'",
        "22023",
        "retention failure \"long\"",
        "\"forever\"",
    ),
    (
        "'@daily', 'true', retention => '{\"failure\": \"-1 day\"}'",
        "22023",
        "retention failure",
        "\"forever\"",
    ),
    ("'@daily', 'true', missed => 'all'", "SY203", "missed \"all\" needs a ttl", "ttl => '1 day'"),
    ("'@daily', 'true', retry_on_lost => true", "SY203", "retry_on_lost needs retries", "retries => 1"),
    (
        "'@daily', 'true', starts_at => '2027-01-01', ends_at => '2027-01-01'",
        "SY203",
        "ends_at is not after",
        "later ends_at",
    ),
    (
        "'@daily', 'true', limits => '{\"memory\": \"1000kB\"}'",
        "22023",
        "limits memory",
        "from \"1MB\" to \"1024TB\"",
    ),
    ("'@daily', 'true', limits => '{\"memory\": \"much\"}'", "22023", "limits memory", "from \"1MB\""),
    ("'@daily', 'true', limits => '{\"cpu\": \"two\"}'", "22023", "limits cpu", "for example 1.5"),
    ("'@daily', 'true', limits => '{\"cpu\": 0}'", "22023", "limits cpu", "from 0.01 to 1024"),
    ("'@daily', 'true', run_as => '-x'", "22023", "run_as \"-x\"", "an operating system user"),
    (
        "'@daily', 'true', fenced => true, grace => '16 s'",
        "SY203",
        "fenced needs a shorter grace",
        "at most 15 s",
    ),
];

#[tokio::test]
async fn a_wrong_definition_is_refused_by_name_and_changes_nothing() {
    let db = support::db().await;
    let client = db.client().await;
    run(&client, "select sisyphus.schedule('b', '@daily', 'echo before')").await;
    let state = "select (select j::text from sisyphus.job j) || (select count(*) from sisyphus.request)
                     || (select count(*) from sisyphus.audit) || (select count(*) from sisyphus.job_definition)";
    let before: String = one(&client, state).await;
    for (arguments, code, message, hint) in WRONG_DEFINITIONS {
        println!("{arguments}");
        let result = client.query(&format!("select sisyphus.schedule('b', {arguments})"), &[]).await;
        assert_error(result, code, message, hint);
        let after: String = one(&client, state).await;
        assert_eq!(before, after, "{arguments}");
    }
}

/// The databases of the tests have LC_CTYPE C, where regular expressions know the classes of ASCII letters alone.
#[tokio::test]
async fn names_may_be_in_any_script_whatever_the_locale() {
    let db = support::db().await;
    let client = db.client().await;
    let ctype: String =
        one(&client, "select datctype::text from pg_database where datname = current_database()").await;
    assert_eq!(ctype, "C");
    run(&client, "select sisyphus.create_pool('büro', hosts => '{東京1}')").await;
    run(&client, "select sisyphus.create_calendar('праздники', 'select current_date')").await;
    run(&client, "select sisyphus.schedule('日次 レポート', '@daily', 'true', pool => 'büro', except_on => 'праздники')").await;
    run(&client, "select sisyphus.register_guardian('東京1', 1)").await;
    let defined: String = one(
        &client,
        "select concat_ws(', ', job, d.pool, except_on, host) from sisyphus.definitions d, sisyphus.fleet f \
          where 'büro' = any(f.pools)",
    )
    .await;
    assert_eq!(defined, "日次 レポート, büro, праздники, 東京1");
}

/// A megabyte in a message fills the log of the server, and may hold what nobody else is to read.
#[tokio::test]
async fn an_error_quotes_the_begin_of_a_long_value_only() {
    let db = support::db().await;
    let client = db.client().await;
    let long = "repeat('x', 100000)";
    for call in [
        format!("schedule({long}, null, 'true')"),
        format!("schedule('j', null, 'true', pool => {long})"),
        format!("schedule('j', null, 'true', except_on => {long})"),
        format!("schedule('j', null, 'true', overlap => {long})"),
        format!("schedule('j', null, 'true', env => to_jsonb({long}))"),
        format!("schedule('j', null, 'true', env => jsonb_build_object('A', array[{long}]))"),
        format!("run_now({long})"),
        format!("submit('true', host => {long})"),
        format!("create_pool({long})"),
        format!("add_host({long}, 'a')"),
        format!("create_calendar({long}, 'select current_date')"),
        format!("drop_calendar({long})"),
        format!("set_setting('heartbeat', {long})"),
        format!("register_guardian('a', 1, pools => array[{long}])"),
    ] {
        let err = client.query(&format!("select sisyphus.{call}"), &[]).await.expect_err(&call);
        let err = err.as_db_error().expect(&call);
        let said = [err.message(), err.detail().unwrap_or_default(), err.hint().unwrap_or_default()].concat();
        assert!(said.len() < 700, "{call}: {} bytes", said.len());
        assert!(said.contains("..."), "{call}: {said}");
    }
}

#[tokio::test]
async fn a_wrong_name_is_refused_and_an_unknown_one_gets_the_nearest() {
    let db = support::db().await;
    let client = db.client().await;
    for name in ["''", "null", "' a'", "'a '", "E'a\\nb'", "E'a\\u0085b'", "E'\\u3000a'", "repeat('a', 201)"]
    {
        let result = client.query(&format!("select sisyphus.schedule({name}, null, 'true')"), &[]).await;
        assert_error(result, "22023", "job name", "1 to 200 printable characters");
    }
    run(&client, "select sisyphus.schedule('nightly-backup', null, 'true')").await;
    for call in [
        "alter_job('nightly-bakcup', retries => 1)",
        "unschedule('nightly-bakcup')",
        "suspend('nightly-bakcup')",
        "resume('nightly-bakcup')",
        "preview('nightly-bakcup')",
        "run_now('nightly-bakcup')",
        "run_many('nightly-bakcup', '{}')",
        "backfill('nightly-bakcup', now(), now())",
    ] {
        let result = client.query(&format!("select sisyphus.{call}"), &[]).await;
        assert_error(
            result,
            "42704",
            "job \"nightly-bakcup\" does not exist",
            "Did you mean \"nightly-backup\"?",
        );
    }
    let result = client.query("select sisyphus.suspend('quite another')", &[]).await;
    assert_error(result, "42704", "job \"quite another\" does not exist", "sisyphus.overview");
}

#[tokio::test]
async fn reset_takes_names_of_arguments_that_are_not_given_too() {
    let db = support::db().await;
    let client = db.client().await;
    run(&client, "select sisyphus.schedule('b', '@daily', 'true', ttl => '1 h')").await;
    for (arguments, message, hint) in [
        ("reset => '{ttll}'", "reset \"ttll\"", "Did you mean \"ttl\"?"),
        ("reset => '{owner}'", "reset \"owner\"", "arguments of schedule()"),
        ("reset => '{null}'", "reset \"null\"", "arguments of schedule()"),
        ("ttl => '2 h', reset => '{ttl}'", "reset \"ttl\"", "not both"),
    ] {
        let result = client.query(&format!("select sisyphus.alter_job('b', {arguments})"), &[]).await;
        assert_error(result, "22023", message, hint);
    }
    let result = client.query("select sisyphus.alter_job('b', reset => '{command}')", &[]).await;
    assert_error(result, "SY202", "neither command nor argv", "exactly one");
    let result = client.query("select sisyphus.alter_job('b', missed => 'all', reset => '{ttl}')", &[]).await;
    assert_error(result, "SY203", "needs a ttl", "ttl =>");
}

/// A job whose one occurrence has passed can still be described, and declared once more as it is.
#[tokio::test]
async fn an_occurrence_that_has_passed_does_not_spoil_a_definition_that_leaves_it_alone() {
    let db = support::db().await;
    let client = db.client().await;
    support::set_clock(&client, "2026-01-05 07:00+00").await;
    let call = "select sisyphus.schedule('b', 'at 2026-01-05 08:00Z', 'true')";
    run(&client, call).await;
    support::advance_clock(&client, "1 day").await;
    run(&client, call).await;
    run(&client, "select sisyphus.alter_job('b', description => 'done')").await;
    let result =
        client.query("select sisyphus.alter_job('b', schedule => 'at 2026-01-05 09:00Z')", &[]).await;
    assert_error(result, "SY201", "is never due", "run_now()");
}

#[tokio::test]
async fn a_guess_is_near_or_none_is_made() {
    let play = Play::at("07:00:00").await;
    for (word, nearest) in [
        ("nigthly", Some("nightly")),
        ("nihgtyl", Some("nightly")),
        ("wbe", Some("web")),
        ("we", Some("web")),
        ("job", None),
        ("daily", None),
        ("rightful", None),
    ] {
        let guess: Option<String> =
            play.value("select sisyphus._nearest($1, '{nightly,web,fob2,dairies}')", &[&word]).await;
        assert_eq!(guess.as_deref(), nearest, "{word}");
    }
}

#[tokio::test]
async fn what_no_type_can_hold_is_refused_in_words() {
    let play = Play::at("07:00:00").await;
    play.exec("select sisyphus.schedule('j', '@daily', 'true')").await;
    for (call, argument, hint) in [
        ("run_now('j', dedup_key => repeat(md5('x'), 7))", "dedup_key", "200 characters"),
        (
            "run_now('j', dedup_key => string_agg(md5(n::text), '')) from generate_series(1, 500) n",
            "dedup_key",
            "200",
        ),
        ("explain('j', '-infinity')", "due_at", "instant of an occurrence"),
        ("explain('j', '4714-11-24 00:00:00+00 BC')", "due_at", "instant of an occurrence"),
        ("backfill('j', '2026-01-01', '-infinity')", "until", "after since"),
        ("backfill('j', '2026-01-01', '4714-11-24 00:00:00+00 BC')", "until", "after since"),
        ("backfill('j', '-infinity', '2026-01-01')", "since", "first instant"),
        ("register_guardian('web1', 1, held => '[{\"run_id\": \"x\", \"claim_no\": 1}]')", "held", "run_id"),
        ("register_guardian('web1', 1, held => '[{\"run_id\": 1}]')", "held", "run_id"),
        ("register_guardian('web1', 1, held => '[{\"run_id\": 1e30, \"claim_no\": 1}]')", "held", "run_id"),
        ("register_guardian('web1', 1, held => '[7]')", "held", "run_id"),
    ] {
        let refused = play.client.query(&format!("select sisyphus.{call}"), &[]).await;
        assert_error(refused, "22023", argument, hint);
    }
    play.exec("select sisyphus.run_now('j', dedup_key => repeat('ü', 200))").await;
}
