//! Time that is set, not slept: in the test database alone, `sisyphus._clock()` reads a table.

use tokio_postgres::Client;

/// Sets the database's clock to a moment, where it stands still until it is set again.
pub(crate) async fn set_clock(client: &Client, moment: &str) {
    install(client).await;
    client
        .execute("update test_clock.moment set at = $1::text::timestamptz", &[&moment])
        .await
        .unwrap_or_else(|err| panic!("clock {moment}: {err:?}"));
}

/// Moves a clock that was set, by an interval such as `'90 seconds'`.
pub(crate) async fn advance_clock(client: &Client, by: &str) {
    client
        .execute("update test_clock.moment set at = at + $1::text::interval", &[&by])
        .await
        .unwrap_or_else(|err| panic!("clock by {by}: {err:?}"));
}

async fn install(client: &Client) {
    client
        .batch_execute(
            "create schema if not exists test_clock;
             create table if not exists test_clock.moment (at timestamptz primary key);
             insert into test_clock.moment select 'epoch' where not exists (select from test_clock.moment);
             grant usage on schema test_clock to public;
             grant select on test_clock.moment to public;
             create or replace function sisyphus._clock() returns timestamptz
             language sql volatile parallel unsafe
             set search_path = pg_catalog, pg_temp
             as 'select at from test_clock.moment';",
        )
        .await
        .unwrap_or_else(|err| panic!("sisyphus._clock() cannot be replaced: {err:?}"));
}
