//! Installs and upgrades the schema: migrations hold state and run once, the code bundle is re-applied
//! whenever it differs from what the database holds.

use std::fmt::Write;

use refinery::error::Kind;
use sha2::{Digest, Sha256};
use tokio_postgres::Client;

use crate::{
    error::{Error, ErrorKind, Result},
    observe::event,
    sqlstate,
};

mod embedded {
    #![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]
    refinery::embed_migrations!("sql/migrations");
}

/// The files of `sql/code` in load order: name and text.
pub const CODE: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/bundle.rs"));

/// Where refinery notes what ran.
const HISTORY: &str = "sisyphus.schema_history";

/// One migrator at a time in a database; refinery has no lock of its own. `sql/install.sql` takes it too.
pub const LOCK: i64 = 0x5153_5950_4855_5301_u64 as i64;

/// What a call of [`migrate`] changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The schema's version now.
    pub version: i64,
    /// The migrations that ran, by file name.
    pub migrations: Vec<String>,
    /// Whether functions, views and grants were applied again.
    pub code: bool,
}

/// A migration of this program: version, name and the checksum that refinery stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its number.
    pub version: i64,
    /// Its name without number and ending.
    pub name: String,
    /// Refinery's checksum over name, version and text.
    pub checksum: u64,
}

/// The migrations this program has, in order.
pub fn steps() -> Vec<Step> {
    let mut steps: Vec<Step> = embedded::migrations::runner()
        .get_migrations()
        .iter()
        .map(|m| Step { version: m.version(), name: m.name().to_owned(), checksum: m.checksum() })
        .collect();
    steps.sort_by_key(|step| step.version);
    steps
}

/// The schema version this program installs.
pub fn version() -> i64 {
    steps().last().map_or(0, |step| step.version)
}

/// The sha256 over names and texts of the code bundle, as `sisyphus.installation` keeps it.
pub fn bundle_checksum() -> String {
    let mut hash = Sha256::new();
    for (name, text) in CODE {
        hash.update(name);
        hash.update([0]);
        hash.update(text);
        hash.update([0]);
    }
    hash.finalize().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a String takes it");
        hex
    })
}

/// Brings the database to this program's schema. Safe to call at any time and from several places at once.
///
/// Needs a direct connection (a session lock is held, which a transaction pooler would lose) whose role has
/// `sisyphus_owner`: the first time a superuser, or who owns the database and may create roles.
pub async fn migrate(client: &mut Client) -> Result<Report> {
    lock(client).await?;
    let outcome = migrate_locked(client).await;
    let unlocked = client
        .batch_execute(&format!(
            "reset lock_timeout; reset statement_timeout; reset client_min_messages; \
             select pg_advisory_unlock({LOCK})"
        ))
        .await;
    let report = outcome?;
    unlocked?;
    Ok(report)
}

async fn lock(client: &Client) -> Result<()> {
    let free: bool = client.query_one(&format!("select pg_try_advisory_lock({LOCK})"), &[]).await?.get(0);
    if !free {
        tracing::info!(
            event = event::MIGRATE_WAITING,
            "another migration of this database runs, waiting for its end"
        );
        client.batch_execute(&format!("set lock_timeout = 0; select pg_advisory_lock({LOCK})")).await?;
    }
    // A migration that waits for a table lock makes everybody behind it wait as well.
    client
        .batch_execute(
            "set lock_timeout = '10s'; set statement_timeout = 0; set client_min_messages = warning",
        )
        .await?;
    Ok(())
}

async fn migrate_locked(client: &mut Client) -> Result<Report> {
    match installed_version(client).await? {
        Some(installed) if installed > version() => return Err(newer(installed)),
        Some(_) => {}
        None => create_schema(client).await?,
    }
    let ran = match run_steps(client).await {
        // Roles belong to the cluster: a migrator of another database made them at the same moment.
        Err(error) if error.code().is_some_and(sqlstate::is_catalogue_race) => run_steps(client).await?,
        other => other?,
    };
    let migrations = ran.applied_migrations().iter().map(ToString::to_string).collect();
    let code = apply_code(client).await?;
    Ok(Report { version: version(), migrations, code })
}

async fn run_steps(client: &mut Client) -> Result<refinery::Report> {
    let mut runner = embedded::migrations::runner();
    runner.set_migration_table_name(HISTORY);
    runner.run_async(client).await.map_err(refused)
}

/// The highest migration that the database has; none when Sisyphus is not installed.
pub async fn installed_version(client: &Client) -> Result<Option<i64>> {
    let sql = format!("select from (values (1)) v where to_regclass('{HISTORY}') is not null");
    if client.query_typed(&sql, &[]).await?.is_empty() {
        return Ok(None);
    }
    let rows = client.query_typed(&format!("select max(version) from {HISTORY}"), &[]).await?;
    Ok(rows.first().and_then(|row| row.get(0)))
}

/// Only when it is missing: `if not exists` would still ask for the right to create one.
async fn create_schema(client: &Client) -> Result<()> {
    let there: bool = client.query_one("select to_regnamespace('sisyphus') is not null", &[]).await?.get(0);
    if !there {
        client.batch_execute("create schema sisyphus").await.map_err(|e| {
            Error::from(e)
                .hint_if_denied("migrate as a superuser, or as a role with CREATEROLE that owns the database")
        })?;
    }
    Ok(())
}

/// Applies the bundle in one transaction when it is not the one that the database holds.
async fn apply_code(client: &mut Client) -> Result<bool> {
    let wanted = bundle_checksum();
    let held: Option<String> = client
        .query_opt("select bundle_checksum from sisyphus.installation", &[])
        .await?
        .and_then(|row| row.get(0));
    if held.as_deref() == Some(wanted.as_str()) {
        return Ok(false);
    }
    let transaction = client.transaction().await?;
    transaction.batch_execute("set local role sisyphus_owner").await?;
    for (name, text) in CODE {
        transaction.batch_execute(text).await.map_err(|e| in_file(name, text, e))?;
    }
    // Files may set their own; the note of what was applied is the owner's business again.
    transaction.batch_execute("set local role sisyphus_owner").await?;
    transaction.execute("update sisyphus.installation set bundle_checksum = $1", &[&wanted]).await?;
    transaction.commit().await?;
    Ok(true)
}

/// Names file and line, which a position in a text of 300 lines does not.
fn in_file(name: &str, text: &str, error: tokio_postgres::Error) -> Error {
    let line = match error.as_db_error().and_then(|db| db.position()) {
        Some(tokio_postgres::error::ErrorPosition::Original(at)) => {
            let before = text.chars().take((*at as usize).saturating_sub(1));
            format!(":{}", before.filter(|c| *c == '\n').count() + 1)
        }
        _ => String::new(),
    };
    Error::from(error).with_kind(ErrorKind::Failed).within(format!("cannot apply sql/code/{name}{line}"))
}

fn newer(installed: i64) -> Error {
    Error::new(
        ErrorKind::Schema,
        format!(
            "the schema of this database is version {installed}, newer than version {} of this program",
            version()
        ),
    )
    .hint("use the sisyphus binary of the release that installed it, or a later one")
}

/// Refinery's errors, said so that a person knows what to do.
fn refused(error: refinery::Error) -> Error {
    let made = match error.kind() {
        Kind::DivergentVersion(applied, _) => Error::new(
            ErrorKind::Schema,
            format!("migration {applied} was applied to this database from another text"),
        )
        .hint("released migrations never change: restore the file, or use the binary that applied it"),
        Kind::MissingVersion(migration) => Error::new(
            ErrorKind::Schema,
            format!("migration {migration} stands between this database and this program"),
        )
        .hint("the database took another path: it lacks an older migration, or has one this program lacks"),
        Kind::Connection(doing, cause) => {
            let db = cause.downcast_ref::<tokio_postgres::Error>().and_then(|e| e.as_db_error());
            if let Some(db) = db {
                return Error::from(db).with_kind(ErrorKind::Failed).within(doing.clone());
            }
            Error::new(ErrorKind::Unreachable, doing.clone())
        }
        _ => Error::new(ErrorKind::Failed, "this program's migrations cannot be used"),
    };
    made.source(error)
}
