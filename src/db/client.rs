//! The session of a person's command: named-argument calls that pass only what was given, and rows as JSON.

use std::future::poll_fn;

use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio_postgres::{
    AsyncMessage, Client, Row,
    types::{ToSql, Type},
};

pub use super::call::Call;
use super::connect::{Driver, connect};
use crate::{
    config::Connection,
    error::{Error, ErrorKind, Result},
    migrate,
    sqlstate::DATETIME_FIELD_OVERFLOW,
};

/// What a person's statement may take before the server ends it. Compiling one costs seconds: over the partitions of
/// the history the estimates look dear.
const TIMEOUTS: &str = "set statement_timeout = '60s'; set lock_timeout = '10s'; \
     set idle_in_transaction_session_timeout = '60s'; set intervalstyle = 'postgres'; set jit = off";

/// A session for one command. The server's notices go to stderr; dropping it closes the connection.
#[derive(Debug)]
pub struct Session {
    client: Client,
    _driver: JoinSet<()>,
}

impl Session {
    /// Connects with the timeouts of a person's session.
    pub async fn open(connection: &Connection) -> Result<Self> {
        let session = Self::open_bare(connection).await?;
        session.client.batch_execute(TIMEOUTS).await?;
        Ok(session)
    }

    /// Connects and sets nothing, for `migrate`.
    pub async fn open_bare(connection: &Connection) -> Result<Self> {
        let (client, driver) = connect(connection).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(drive(driver));
        Ok(Self { client, _driver: tasks })
    }

    /// The client, for `migrate`.
    pub fn client_mut(&mut self) -> &mut Client {
        &mut self.client
    }

    /// The schema's version; none when it is not installed.
    pub async fn schema_version(&self) -> Result<Option<i64>> {
        migrate::installed_version(&self.client).await
    }

    /// Why nothing runs in this database before it is adopted; none when all is well.
    pub async fn installation_problem(&self) -> Result<Option<String>> {
        let rows = self.query("select sisyphus._installation_problem()", &[]).await?;
        Ok(rows.first().and_then(|row| row.get(0)))
    }

    /// Runs statements that return nothing, in one transaction.
    pub async fn run_script(&self, text: &str) -> Result<()> {
        Ok(self.client.batch_execute(text).await?)
    }

    /// Begins a transaction, in which the calls of one command stand or fall together.
    pub async fn begin(&self) -> Result<()> {
        self.run_script("begin").await
    }

    /// Makes what was done since [`Self::begin`] last.
    pub async fn commit(&self) -> Result<()> {
        self.run_script("commit").await
    }

    /// Undoes what was done since [`Self::begin`].
    pub async fn roll_back(&self) -> Result<()> {
        self.run_script("rollback").await
    }

    /// Marks a point in the transaction: [`Self::keep`] or [`Self::undo`] follows.
    pub async fn mark(&self) -> Result<()> {
        self.run_script("savepoint mark").await
    }

    /// Takes what was done since [`Self::mark`] as a part of the transaction.
    pub async fn keep(&self) -> Result<()> {
        self.run_script("release savepoint mark").await
    }

    /// Undoes what was done since [`Self::mark`], locks and all.
    pub async fn undo(&self) -> Result<()> {
        self.run_script("rollback to savepoint mark; release savepoint mark").await
    }

    /// Calls a function and returns its results as text, one for each row.
    pub async fn call(&self, call: &Call) -> Result<Vec<Option<String>>> {
        let rows = self.query(&format!("select ({})::text", call.sql()), &call.values()).await;
        let rows = rows.map_err(|error| match error.code().and_then(|code| call.hint(code)) {
            // PostgreSQL's own, "perhaps you need a different datestyle", helps nobody here.
            Some(hint) if error.hint_text().is_none() || error.code() == Some(DATETIME_FIELD_OVERFLOW) => {
                error.hint(hint)
            }
            _ => error,
        })?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Calls a function that returns a table.
    pub async fn call_rows(&self, call: &Call) -> Result<Rows> {
        self.rows(&format!("select * from {}", call.sql()), &call.values()).await
    }

    /// Runs a query and returns its rows as JSON objects whose keys stand in the order of the columns.
    pub(crate) async fn rows(&self, query: &str, values: &[&dyn Typed]) -> Result<Rows> {
        let sql = format!(
            "select row_to_json(t)::text, extract(epoch from clock_timestamp())::float8 from ({query}) t"
        );
        let rows = self.query(&sql, values).await?;
        Ok(Rows {
            now: rows.first().map_or(0.0, |row| row.get(1)),
            objects: rows.iter().map(|row| row.get(0)).collect(),
        })
    }

    /// Nothing is prepared, so that a transaction pooler may stand in between.
    async fn query(&self, sql: &str, values: &[&dyn Typed]) -> Result<Vec<Row>> {
        let typed: Vec<_> = values.iter().map(|value| (value.as_sql(), value.kind())).collect();
        Ok(self.client.query_typed(sql, &typed).await?)
    }
}

/// A parameter whose type is known without asking the server.
pub(crate) trait Typed {
    /// The type in SQL.
    fn kind(&self) -> Type;
    /// The parameter as the driver takes it.
    fn as_sql(&self) -> &(dyn ToSql + Sync);
}

macro_rules! typed {
    ($($rust:ty => $sql:ident),*) => {$(
        impl Typed for $rust {
            fn kind(&self) -> Type {
                Type::$sql
            }
            fn as_sql(&self) -> &(dyn ToSql + Sync) {
                self
            }
        }
    )*};
}

typed!(&str => TEXT, String => TEXT, Option<&str> => TEXT, Option<String> => TEXT, bool => BOOL, f64 => FLOAT8, i64 => INT8,
       Option<i64> => INT8, Option<i32> => INT4, &[i64] => INT8_ARRAY, &[&str] => TEXT_ARRAY, Vec<&str> => TEXT_ARRAY,
       Vec<String> => TEXT_ARRAY);

/// Rows of a view or function.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// The database's clock when it answered, seconds of the epoch.
    pub now: f64,
    /// The rows as JSON text.
    pub objects: Vec<String>,
}

impl Rows {
    /// The rows as values of a type that has some of their columns.
    pub fn read<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        self.objects.iter().map(|text| read_row(text)).collect()
    }
}

/// A row as a value of a type that has some of its columns.
pub fn read_row<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|err| Error::new(ErrorKind::Failed, format!("unexpected row {text}")).source(err))
}

/// Moves messages until the connection ends; a notice is talk, so it goes to stderr.
async fn drive(mut driver: Driver) {
    let mut last = None;
    while let Some(message) = poll_fn(|context| driver.poll_message(context)).await {
        match message {
            // Calls of several jobs have the same to say of their pool.
            Ok(AsyncMessage::Notice(notice))
                if notice.severity() != "DEBUG" && last.as_deref() != Some(notice.message()) =>
            {
                eprintln!("{}: {}", notice.severity().to_lowercase(), notice.message());
                if let Some(hint) = notice.hint() {
                    eprintln!("hint: {hint}");
                }
                last = Some(notice.message().to_owned());
            }
            Ok(_) => {}
            // Whoever waits for an answer gets the error.
            Err(_) => return,
        }
    }
}
