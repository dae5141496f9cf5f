//! What tests say about errors, and how they wait.

use std::time::{Duration, Instant};

use tokio_postgres::error::DbError;

/// An error of ours with its causes and its hint, as a person sees it.
pub(crate) fn told(err: &sisyphus::error::Error) -> String {
    let mut text = Vec::new();
    err.report(&mut text).expect("a Vec takes it");
    String::from_utf8_lossy(&text).into_owned()
}

/// The database error of a failed call.
pub(crate) fn error_of<T>(result: Result<T, tokio_postgres::Error>) -> DbError {
    match result {
        Ok(_) => panic!("succeeded, an error was expected"),
        Err(err) => {
            err.as_db_error().cloned().unwrap_or_else(|| panic!("not an error of the database: {err:?}"))
        }
    }
}

/// Asserts that a call failed with this SQLSTATE.
#[track_caller]
pub(crate) fn assert_sqlstate<T>(result: Result<T, tokio_postgres::Error>, code: &str) -> DbError {
    let err = error_of(result);
    assert_eq!(err.code().code(), code, "{err}: {:?}", err.hint());
    err
}

/// Asserts that a call failed with this SQLSTATE, and that message and hint contain these texts.
#[track_caller]
pub(crate) fn assert_error<T>(
    result: Result<T, tokio_postgres::Error>,
    code: &str,
    message: &str,
    hint: &str,
) {
    let err = assert_sqlstate(result, code);
    assert!(err.message().contains(message), "message {:?} should contain {message:?}", err.message());
    let said = err.hint().unwrap_or_default();
    assert!(said.contains(hint), "hint {said:?} should contain {hint:?}");
}

/// Asks `probe` again until it answers `Ok`; after `within` fails with what it last saw.
///
/// ```ignore
/// let run = wait_until("run 1 is running", SECONDS_10, async || {
///     let row = client.query_one("select …", &[]).await.unwrap();
///     if row.get::<_, i64>(0) == 1 { Ok(row) } else { Err(format!("{row:?}")) }
/// }).await;
/// ```
pub(crate) async fn wait_until<T>(
    what: &str,
    within: Duration,
    mut probe: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let started = Instant::now();
    loop {
        let seen = match probe().await {
            Ok(value) => return value,
            Err(seen) => seen,
        };
        assert!(started.elapsed() < within, "{what}: not within {within:?}, last seen: {seen}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whether `probe` says yes within this time; for places that cannot be async, such as a drop.
pub(crate) fn comes_true(within: Duration, mut probe: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    while !probe() {
        if started.elapsed() > within {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// Asks `probe` until it has given the same answer many times in a row: what it counts has come to rest.
pub(crate) async fn wait_until_still<T: PartialEq + std::fmt::Debug>(
    what: &str,
    within: Duration,
    probe: impl AsyncFn() -> T,
) -> T {
    const TIMES: u32 = 25;
    let (mut last, mut times) = (probe().await, 0);
    wait_until(what, within, async || {
        let now = probe().await;
        times = if now == last { times + 1 } else { 0 };
        last = now;
        if times >= TIMES { Ok(()) } else { Err(format!("{last:?}")) }
    })
    .await;
    last
}
