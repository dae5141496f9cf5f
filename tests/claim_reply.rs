//! What a claim answers has a size that a guardian can hold, and a lost answer does not add to it.

use crate::support::{Play, assert_error};

#[tokio::test]
async fn what_is_too_large_for_a_reply_is_refused_and_changes_nothing() {
    let play = Play::at("07:00:00").await;
    play.exec("select sisyphus.schedule('job', null, 'true')").await;
    // A megabyte, and a number whose digits are one.
    let fits = "to_jsonb(repeat('x', 1048574))";
    let text = "to_jsonb(repeat('x', 1048575))";
    let number = "(select jsonb_agg('1e131000'::jsonb) from generate_series(1, 9))";
    for large in [text, number] {
        for call in [
            "schedule('other', null, 'true', payload => $large)",
            "alter_job('job', payload => $large)",
            "run_now('job', $large)",
            "run_many('job', array['1', $large])",
            "submit('true', payload => $large)",
        ] {
            let call = format!("select sisyphus.{}", call.replace("$large", large));
            let result = play.client.batch_execute(&call).await;
            assert_error(result, "22023", "payload", "Give at most 1048576 bytes.");
        }
    }
    for (argument, given) in [
        ("command", "command => repeat('x', 1048577)"),
        ("argv", "argv => array[repeat('x', 1048577)]"),
        ("env", "command => 'true', env => jsonb_build_object('A', repeat('x', 1048577))"),
    ] {
        for call in [format!("schedule('other', null, {given})"), format!("submit({given})")] {
            let result = play.client.batch_execute(&format!("select sisyphus.{call}")).await;
            assert_error(result, "22023", argument, "Give at most 1048576 bytes.");
        }
    }
    let reason = "repeat('x', 1001)";
    for call in [format!("suspend('job', reason => {reason})"), format!("suspend_all(reason => {reason})")] {
        let result = play.client.batch_execute(&format!("select sisyphus.{call}")).await;
        assert_error(result, "22023", "reason", "Give at most 1000 bytes.");
    }
    let terminate = format!("select sisyphus.terminate(sisyphus.run_now('job'), {reason})");
    assert_error(play.client.batch_execute(&terminate).await, "22023", "reason", "Give at most 1000 bytes.");
    let left: String =
        play.value("select count(*) || ' jobs, ' || (select count(*) from sisyphus.run) || ' runs' from sisyphus.job", &[]).await;
    assert_eq!(left, "1 jobs, 0 runs");
    play.exec(&format!("select sisyphus.run_now('job', {fits})")).await;
}

#[tokio::test]
async fn a_claim_of_many_large_runs_takes_as_many_as_a_reply_can_hold() {
    let play = Play::at("07:00:00").await;
    play.exec("select sisyphus.schedule('job', null, 'true', overlap => 'allow', payload => to_jsonb(repeat('x', 1000000)))").await;
    play.exec("select sisyphus.schedule('own', null, 'true', overlap => 'allow', priority => 1)").await;
    play.exec("select sisyphus.run_many('job', array_fill(null::jsonb, array[20]))").await;
    play.exec("select sisyphus.run_many('own', array_fill(to_jsonb(repeat('y', 1000000)), array[20]))").await;
    let guardian = play.guardian("web1", 100).await;
    let claim = format!(
        "select concat_ws(' ', count(*) filter (where kind = 'run'), max(starts_in) filter (where kind = 'next'))
           from sisyphus.claim_job({guardian}, max_runs => 100, slots_free => 100)"
    );
    let mut replies = Vec::new();
    for _ in 0..4 {
        replies.extend(play.lines(&claim).await);
    }
    assert_eq!(
        replies,
        ["17 0", "17 0", "6 0", "0 5"],
        "in the order of priorities, and called again at once"
    );
}

#[tokio::test]
async fn a_run_that_is_larger_than_a_reply_goes_alone() {
    let play = Play::at("07:00:00").await;
    play.exec("select sisyphus.schedule('job', null, 'true', overlap => 'allow')").await;
    play.exec("select sisyphus.run_many('job', array_fill(null::jsonb, array[3]))").await;
    play.exec("update sisyphus.run set payload = to_jsonb(repeat('x', 20000000))").await;
    let guardian = play.guardian("web1", 10).await;
    for _ in 0..3 {
        play.claim_one(guardian).await;
    }
}

#[tokio::test]
async fn lost_replies_do_not_pile_up() {
    let play = Play::at("06:59:55").await;
    play.exec("select sisyphus.schedule('job', null, 'true', overlap => 'allow')").await;
    play.exec("select sisyphus.run_many('job', array_fill(null::jsonb, array[10]))").await;
    let guardian = play.guardian("web1", 4).await;
    let first = play.claim(guardian, 4).await;
    for _ in 0..3 {
        let (again, _) = play.claim_holding(guardian, 4, Some(&[])).await;
        assert_eq!(
            again.iter().map(|claim| claim.claim_no).collect::<Vec<_>>(),
            first.iter().map(|claim| claim.claim_no).collect::<Vec<_>>(),
            "four slots hold what four slots were given"
        );
    }
    let free: i32 = play.value("select slots_free from sisyphus.guardian", &[]).await;
    assert_eq!(free, 0);
}

/// The three that claim last before it is due; should they all vanish, whoever claims next.
#[tokio::test]
async fn of_many_hosts_few_are_told_to_tick_and_one_of_them_comes_in_time() {
    let play = Play::at("07:00:00").await;
    let mut hosts = Vec::new();
    for number in 1..=8 {
        hosts.push(play.guardian(&format!("web{number}"), 1).await);
    }
    let tick_in = async |host: i64, time: &str| -> f64 {
        play.set_time(time).await;
        let claim = "select (spec ->> 'tick_in')::float8 from sisyphus.claim_job($1) where kind = 'next'";
        play.value(claim, &[&host]).await
    };
    // One after the other, and the tick is due after the seventh has claimed again.
    for (number, host) in hosts.iter().enumerate() {
        tick_in(*host, &format!("07:00:0{}", number as f64 * 0.5)).await;
    }
    play.tick_at("07:00:03.25").await;
    let mut told = Vec::new();
    for (number, host) in hosts.iter().enumerate().take(7) {
        let claims_at = 5.0 + number as f64 * 0.5;
        told.push(tick_in(*host, &format!("07:00:0{claims_at}")).await + claims_at);
    }
    assert_eq!(told, [13.25, 13.25, 13.25, 13.25, 8.25, 8.25, 8.25]);
    // None of them has come.
    assert_eq!(tick_in(hosts[7], "07:00:08.5").await, 0.0);
    // Nor does anybody wait for those who were not heard of since.
    play.tick_at("07:00:09").await;
    assert_eq!(tick_in(hosts[0], "07:00:13.75").await, 0.25);
}

#[tokio::test]
async fn what_a_guardian_tells_of_itself_stays_until_it_tells_again() {
    let play = Play::at("07:00:00").await;
    let guardian = play.guardian("web1", 4).await;
    let mut shown = Vec::new();
    for report in [
        r#"'{"running": 3, "problem": "no disk"}'"#,
        "null",
        "'{}'",
        r#"'{"running": 1e300}'"#,
        r#"'{"running": -1e300}'"#,
    ] {
        play.exec(&format!("select sisyphus.claim_job({guardian}, report => {report})")).await;
        shown.extend(play.lines("select concat_ws(' ', running, problem) from sisyphus.guardian").await);
    }
    assert_eq!(shown, ["3 no disk", "3 no disk", "3", "10000", "0"]);
}

/// Behind the one that is taken lie others, which are looked at because somebody may hold the first.
#[tokio::test]
async fn a_claim_of_one_run_reads_one_payload() {
    let play = Play::at("07:00:00").await;
    play.exec("select sisyphus.schedule('job', null, 'true', overlap => 'allow')").await;
    // Not to be compressed: some fifty pieces each.
    let payload = "(select to_jsonb(string_agg(md5(i::text), '')) from generate_series(1, 3200) i)";
    play.exec(&format!("select sisyphus.run_many('job', array_fill({payload}, array[30]))")).await;
    let guardian = play.guardian("web1", 10).await;
    play.tick().await;
    play.exec("select pg_stat_force_next_flush()").await;
    play.exec(&format!("begin; select from sisyphus.claim_job({guardian})")).await;
    let read = "select idx_tup_fetch from pg_stat_xact_all_tables
                 where relid = (select c.reltoastrelid from pg_class c where c.oid = 'sisyphus.run'::regclass)";
    let read: i64 = play.value(read, &[]).await;
    play.exec("commit").await;
    assert!((1..200).contains(&read), "{read} pieces of payloads were read");
}
