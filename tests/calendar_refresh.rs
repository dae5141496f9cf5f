//! Calendars as objects: who may ask a query and with whose rights, what queries may yield, locks, and names.

use crate::support::{self, TestClient, TestDb, assert_error, assert_sqlstate};

/// A database with a table of holidays and two authors; the first one may read it.
async fn authors() -> (TestDb, TestClient, TestClient) {
    let db = support::db().await;
    let alice = db.login("test_alice", &["sisyphus_author"]).await;
    let bob = db.login("test_bob", &["sisyphus_author"]).await;
    db.client()
        .await
        .batch_execute(
            "create table public.holiday (day date, name text);
             insert into public.holiday values ('2026-12-25', 'x'), ('2026-12-26', 'y'), ('2027-01-01', 'z');
             grant select on public.holiday to test_alice",
        )
        .await
        .unwrap();
    (db, alice, bob)
}

async fn number(client: &TestClient, call: &str) -> Result<i64, tokio_postgres::Error> {
    client.query_one(&format!("select sisyphus.{call}"), &[]).await.map(|row| row.get(0))
}

const CREATE: &str = "create_calendar('holidays', 'select day, name from public.holiday')";
const REFRESH: &str = "refresh_calendar('holidays')";

#[tokio::test]
async fn a_calendar_shows_what_it_holds_and_how_old_that_is() {
    let (db, alice, bob) = authors().await;
    assert_eq!(number(&alice, CREATE).await.unwrap(), 2, "two days in a row are one range");
    let admin = db.client().await;
    support::set_clock(&admin, "2026-11-01 12:00+00").await;
    assert_eq!(number(&alice, REFRESH).await.unwrap(), 2);
    support::set_clock(&admin, "2026-11-02 12:00:30+00").await;
    let shown = "select format('%s %s %s %s %s %s %s %s', calendar, owner, kind, ranges, starts_at, ends_at, age_seconds,
                               query) from sisyphus.calendars";
    let row = alice.query_one(shown, &[]).await.unwrap();
    assert_eq!(
        row.get::<_, String>(0),
        "holidays test_alice dates 2 2026-12-25 00:00:00 2027-01-02 00:00:00 86430 select day, name from public.holiday"
    );
    let query = "select query from sisyphus.calendars";
    assert_eq!(bob.query_one(query, &[]).await.unwrap().get::<_, Option<String>>(0), None);
}

#[tokio::test]
async fn nobody_but_the_owner_itself_asks_the_query() {
    let (db, alice, bob) = authors().await;
    number(&alice, CREATE).await.unwrap();
    let admin = db.login("test_boss", &["sisyphus_admin", "test_alice"]).await;
    let superuser = db.client().await;
    for client in [&bob, &admin, &superuser] {
        for call in [REFRESH, "create_calendar('holidays', 'values (date ''2026-01-01'')')"] {
            assert_error(
                number(client, call).await,
                "42501",
                "calendar \"holidays\" belongs to role test_alice",
                "set role test_alice",
            );
        }
    }
    // The effective role counts, whoever logged in.
    for client in [&admin, &superuser] {
        client.batch_execute("set role test_alice").await.unwrap();
        assert_eq!(number(client, REFRESH).await.unwrap(), 2);
    }
    for group in ["sisyphus_operator", "sisyphus_viewer", "sisyphus_guardian"] {
        let client = db.client_as(group).await;
        assert_sqlstate(number(&client, REFRESH).await, "42501");
    }
    // The function behind it looks at the owner again.
    let store = "_store_calendar('holidays', null, 'date', '{2026-01-01}', null)";
    assert_error(number(&bob, store).await, "42501", "belongs to role test_alice", "set role test_alice");
}

#[tokio::test]
async fn a_query_finds_no_way_to_the_rights_of_an_admin_who_became_its_owner() {
    let (db, alice, _) = authors().await;
    db.client()
        .await
        .batch_execute("create schema trap; grant create, usage on schema trap to public")
        .await
        .unwrap();
    alice
        .batch_execute(
            "create function trap.spring() returns date language plpgsql volatile
             as $$ begin perform set_config('role', 'none', true); create role test_evil superuser; return now()::date; end $$;
             create function trap.known() returns date language plpgsql immutable
             as $$ begin perform set_config('role', 'none', true); create role test_evil superuser; return now()::date; end $$;
             create function trap.count() returns bigint language sql
             as $$ select sisyphus.refresh_calendar('mine') $$",
        )
        .await
        .unwrap();
    let superuser = db.client().await;
    superuser.batch_execute("set role test_alice").await.unwrap();
    for function in ["spring", "known"] {
        let create = format!("create_calendar('mine', 'select trap.{function}()')");
        assert_error(number(&superuser, &create).await, "42501", "cannot set parameter \"role\"", "");
    }
    // Nor does a definer function of somebody else lend its rights to the query.
    number(&alice, "create_calendar('mine', 'select day from public.holiday')").await.unwrap();
    superuser.batch_execute("reset role; alter function trap.count() owner to test_bob; alter function trap.count() security definer").await.unwrap();
    assert_error(
        alice.query("select trap.count()", &[]).await,
        "42501",
        "refreshed by its owner itself",
        "not from a security definer function",
    );
}

#[tokio::test]
async fn a_query_reads_what_its_owner_may_and_no_more() {
    let (_db, _alice, bob) = authors().await;
    assert_error(
        number(&bob, "create_calendar('mine', 'select day from public.holiday')").await,
        "42501",
        "calendar \"mine\": permission denied for table holiday",
        "",
    );
    assert_error(
        number(&bob, "create_calendar('mine', 'select ends_at::date from sisyphus.job')").await,
        "42501",
        "permission denied for table job",
        "",
    );
}

#[tokio::test]
async fn what_a_query_yields_is_merged_and_checked() {
    let (db, alice, _) = authors().await;
    let mut alice = alice;
    let create = |query: &str| format!("create_calendar('c', $q${query}$q$)");
    for (query, ranges) in [
        ("select day from public.holiday where name = 'x' -- the first;", 1),
        ("table public.holiday;  ", 2),
        ("with d as (select day from public.holiday) select * from d", 2),
        ("values (date '2026-01-01'), ('2026-01-02'), ('2026-01-02'), ('2026-01-04')", 2),
        // Names of our own variables are the query's to use.
        ("select dates from (values (date '2026-01-01', 'a')) v (dates, kind) where kind = 'a'", 1),
        (
            "select tstzrange('2026-01-01 00:00+00', '2026-01-02 00:00+00')
           union all select tstzrange('2026-01-02 00:00+00', '2026-01-03 00:00+00')",
            1,
        ),
        (
            "values (tstzrange(null, '2026-01-01 00:00+00')), ('empty'), (tstzrange('2027-01-01 00:00+00', null))",
            2,
        ),
    ] {
        assert_eq!(
            number(&alice, &create(query)).await.unwrap_or_else(|err| panic!("{query}: {err:?}")),
            ranges,
            "{query}"
        );
    }
    for (query, code, message, hint) in [
        (
            "select day from holiday",
            "42P01",
            "calendar \"c\": relation \"holiday\" does not exist",
            "public.holidays",
        ),
        ("select dya from public.holiday", "42703", "column \"dya\" does not exist", ""),
        ("delete from public.holiday", "42601", "syntax error", ""),
        ("", "22023", "calendar \"c\" has no query", "select day from"),
        (" ; ", "22023", "calendar \"c\" has no query", ""),
        ("select name from public.holiday", "42804", "yields text, not dates or tstzranges", "day::date"),
        ("select day::timestamptz from public.holiday", "42804", "yields timestamp with time zone", ""),
        ("values (date '2026-01-01'), (null)", "22004", "yields a null", "condition"),
        ("values (date 'infinity')", "22004", "infinite date", ""),
        ("values (date '300000-01-01')", "22004", "outside the years 1 to 9999", "leaves it out"),
        (
            "values (tstzrange(now(), '294276-12-31 23:59:59.999999+00', '[]'))",
            "22004",
            "outside the years 1 to 9999",
            "",
        ),
        (
            "select d::date from generate_series(timestamp '2026-01-01', '2310-01-01', '1 day') d",
            "54000",
            "more than 100000 rows",
            "",
        ),
        ("select 1/0 from public.holiday", "22012", "division by zero", ""),
    ] {
        assert_error(number(&alice, &create(query)).await, code, message, hint);
    }
    for name in ["", " x", "x\ty"] {
        let call = format!("create_calendar('{name}', 'table public.holiday')");
        assert_error(number(&alice, &call).await, "22023", "calendar name", "1 to 63 printable characters");
    }
    alice.notices();
    assert_eq!(number(&alice, &create("select day from public.holiday where false")).await.unwrap(), 0);
    assert_eq!(alice.notices(), ["calendar \"c\" is empty"]);
    assert_error(
        number(&alice, "refresh_calendar('d')").await,
        "42704",
        "calendar \"d\" does not exist",
        "Did you mean \"c\"?",
    );
    assert_error(
        number(&db.client().await, "refresh_calendar('holly')").await,
        "42704",
        "does not exist",
        "create_calendar('holly'",
    );
}

#[tokio::test]
async fn what_a_query_yields_depends_on_no_setting_of_the_session() {
    let (_db, alice, _) = authors().await;
    alice
        .batch_execute(
            "set timezone = 'Asia/Tokyo'; set datestyle = 'German'; set search_path = public;
             set quote_all_identifiers = on",
        )
        .await
        .unwrap();
    number(&alice, "create_calendar('r', $$select tstzrange('2026-04-01 00:00', '2026-04-02 00:00')$$)")
        .await
        .unwrap();
    let starts_at: String = alice
        .query_one("select to_char(starts_at, 'MM-DD HH24') from sisyphus.calendars", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(starts_at, "04-01 00");
}

/// The error arrives before the locks are gone; the next answer comes after.
async fn refused(client: &TestClient, call: &str) -> Result<(), tokio_postgres::Error> {
    let result = client.batch_execute(call).await;
    client.batch_execute("select 1").await.unwrap();
    result
}

#[tokio::test]
async fn a_calendar_in_use_is_not_dropped() {
    let (db, alice, bob) = authors().await;
    number(&alice, CREATE).await.unwrap();
    let drop = "select sisyphus.drop_calendar('holidays')";
    bob.batch_execute("select sisyphus.schedule('j', '@daily', 'true', except_on => 'holidays')")
        .await
        .unwrap();
    assert_error(refused(&alice, drop).await, "2BP01", "calendar \"holidays\" is in use", "reset");
    assert_error(refused(&bob, drop).await, "42501", "belongs to role test_alice", "sisyphus_admin");
    bob.batch_execute("begin; select sisyphus.alter_job('j', reset => '{except_on}')").await.unwrap();
    assert_error(refused(&alice, drop).await, "2BP01", "in use", "");
    bob.batch_execute("commit").await.unwrap();
    // A definition that has not committed is not waited for; nor is a drop.
    bob.batch_execute("begin; select sisyphus.alter_job('j', only_on => 'holidays')").await.unwrap();
    assert_error(refused(&alice, drop).await, "55006", "used by an open transaction", "Try again");
    assert_eq!(number(&alice, REFRESH).await.unwrap(), 2, "a refresh waits for no definition");
    bob.batch_execute("rollback").await.unwrap();
    let admin = db.client_as("sisyphus_admin").await;
    admin.batch_execute(&format!("begin; {drop}")).await.unwrap();
    let define = bob.batch_execute("select sisyphus.alter_job('j', only_on => 'holidays')").await;
    assert_error(define, "55006", "calendar \"holidays\" is being dropped", "try again");
    admin.batch_execute("commit").await.unwrap();
    let define = bob.batch_execute("select sisyphus.alter_job('j', only_on => 'holidays')").await;
    assert_error(define, "42704", "calendar \"holidays\" does not exist", "create_calendar('holidays'");
}

#[tokio::test]
async fn an_open_refresh_holds_up_neither_planner_nor_definitions() {
    let (db, alice, bob) = authors().await;
    number(&alice, CREATE).await.unwrap();
    bob.batch_execute("select sisyphus.schedule('j', 'every 1 second', 'true', except_on => 'holidays')")
        .await
        .unwrap();
    let admin = db.client().await;
    admin.batch_execute("insert into public.holiday values ('2028-01-01')").await.unwrap();
    alice.batch_execute(&format!("begin; select sisyphus.{REFRESH}")).await.unwrap();
    admin
        .batch_execute(
            "set lock_timeout = '1 s'; select sisyphus.tick(); update sisyphus.planner set next_tick_at = '-infinity';
             select sisyphus.tick()",
        )
        .await
        .unwrap();
    bob.batch_execute(
        "set lock_timeout = '1 s'; select sisyphus.schedule('k', '@daily', 'true', except_on => 'holidays')",
    )
    .await
    .unwrap();
    alice.batch_execute("commit").await.unwrap();
}

#[tokio::test]
async fn one_calendar_cannot_be_both_what_is_kept_and_what_is_left_out() {
    let (_db, alice, _) = authors().await;
    number(&alice, CREATE).await.unwrap();
    let define = "schedule('j', '@daily', 'true', except_on => 'holidays', only_on => 'holidays')";
    assert_error(number(&alice, define).await, "SY203", "name the same calendar", "leave one of them out");
}
