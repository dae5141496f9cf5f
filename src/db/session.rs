//! Opening a session of a guardian: settings that bound every wait.

use std::time::Duration;

use tokio::{sync::watch, task::JoinHandle, time::timeout};
use tokio_postgres::{Client, types::Type};

use super::connect::{Driver, connect};
use crate::{
    config::Connection,
    error::{Error, ErrorKind, Result},
};

/// How long one server may take to let us in. A person may be more patient than a guardian, which tries again
/// anyway and has other servers to try.
const LONGEST_CONNECT: Duration = Duration::from_secs(5);
/// How long the server works on a statement. Below [`CALL_TIMEOUT`], so that a statement whose client has
/// given up does not commit later.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
const LOCK_TIMEOUT: Duration = Duration::from_secs(3);
const IDLE_IN_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a caller waits for the answer to one call.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(12);

/// PostgreSQL cuts longer names.
const LONGEST_NAME: usize = 63;

/// Opens sessions of one role (what they are for) of one guardian.
#[derive(Debug, Clone)]
pub struct Sessions {
    to: watch::Receiver<Connection>,
    application_name: String,
}

impl Sessions {
    /// To the connection as it is when a session is opened. `role` and `guardian` are seen in `pg_stat_activity`
    /// as `sisyphus:<role>:<guardian>`.
    pub fn new(to: watch::Receiver<Connection>, role: &str, guardian: &str) -> Self {
        Self { to, application_name: clamp(format!("sisyphus:{role}:{guardian}")) }
    }

    fn connection(&self) -> Connection {
        let mut to = self.to.borrow().clone();
        to.application_name.clone_from(&self.application_name);
        to.connect_timeout = to.connect_timeout.min(LONGEST_CONNECT);
        // A guardian has nothing to do at a standby.
        to.writable = true;
        to
    }

    /// Opens a session. `drive` gets the connection and starts the task that polls it.
    pub async fn open<F>(&self, drive: F) -> Result<(Client, JoinHandle<()>)>
    where
        F: FnOnce(Driver) -> JoinHandle<()>,
    {
        let (client, connection) = connect(&self.connection()).await?;
        let driver = drive(connection);
        let set_up = timeout(LONGEST_CONNECT, self.set_up(&client)).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Unreachable, "the database did not answer after the log-in"))
        });
        match set_up {
            Ok(()) => Ok((client, driver)),
            Err(err) => {
                driver.abort();
                Err(err)
            }
        }
    }

    /// Set by a statement and not by start-up options, which poolers refuse. What role or database may have
    /// set and would break us is set back. Compiling costs 200 ms in statements that take one: over the
    /// partitions of the history the estimates look dear.
    async fn set_up(&self, client: &Client) -> Result<()> {
        let ms = |limit: Duration| limit.as_millis().to_string();
        let values = serde_json::json!({
            "application_name": self.application_name,
            "statement_timeout": ms(STATEMENT_TIMEOUT),
            "lock_timeout": ms(LOCK_TIMEOUT),
            "idle_in_transaction_session_timeout": ms(IDLE_IN_TRANSACTION_TIMEOUT),
            "idle_session_timeout": "0",
            "transaction_timeout": "0",
            "default_transaction_isolation": "read committed",
            "TimeZone": "UTC",
            "jit": "off",
        });
        // Some servers lack some of them.
        let sql = "select pg_catalog.set_config(s.name, v.value, false)
                     from pg_catalog.jsonb_each_text($1) v join pg_catalog.pg_settings s on s.name = v.key";
        client.query_typed(sql, &[(&values, Type::JSONB)]).await?;
        Ok(())
    }
}

/// The name, cut at a character when it is too long; what stands first identifies it.
fn clamp(mut name: String) -> String {
    if name.len() > LONGEST_NAME {
        let mut end = LONGEST_NAME;
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name.truncate(end);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_cut_at_a_character() {
        let name = clamp(format!("sisyphus:control:{}", "ü".repeat(40)));
        assert_eq!(name.len(), 63);
        assert!(name.ends_with('ü'));
    }
}
