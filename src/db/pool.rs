//! Sessions for short calls that are kept for the next one: start, finish, release and tick.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::{runtime::Handle, task::JoinHandle};
use tokio_postgres::Client;

use super::{Api, session::Sessions};
use crate::error::Result;

/// Idle sessions. A user of it takes one at a time, so there are never more than users. Cheap to clone; the
/// clones share the sessions.
#[derive(Debug, Clone)]
pub struct Pool {
    sessions: Arc<Sessions>,
    idle: Arc<Mutex<Vec<Kept>>>,
}

#[derive(Debug)]
struct Kept {
    client: Client,
    driver: JoinHandle<()>,
}

/// A session on loan; it goes back when dropped.
#[derive(Debug)]
pub struct PooledSession {
    kept: Option<Kept>,
    pool: Pool,
}

impl Pool {
    /// A pool without sessions; each is opened when it is needed.
    pub fn new(sessions: Sessions) -> Self {
        Self { sessions: Arc::new(sessions), idle: Arc::default() }
    }

    /// Lends a session, opening one when needed.
    pub async fn get(&self) -> Result<PooledSession> {
        let kept = self.idle().pop().filter(|kept| !kept.client.is_closed());
        let kept = match kept {
            Some(kept) => kept,
            None => {
                let (client, driver) = self
                    .sessions
                    .open(|connection| {
                        Handle::current().spawn(async move {
                            if let Err(err) = connection.await {
                                tracing::debug!(error = %err, "a pooled connection has ended");
                            }
                        })
                    })
                    .await?;
                Kept { client, driver }
            }
        };
        Ok(PooledSession { kept: Some(kept), pool: self.clone() })
    }

    /// Drops the sessions that are not on loan: after a failover they may sit on the old primary.
    pub fn drop_idle(&self) {
        self.idle().clear();
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Kept>> {
        // Nothing in here can leave the list half changed.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PooledSession {
    /// The functions of the schema.
    pub fn api(&self) -> Api<'_> {
        Api::new(&self.kept.as_ref().expect("it is here until it is dropped").client)
    }

    /// Closes the session instead of giving it back: its state is not known.
    pub fn discard(mut self) {
        self.kept = None;
    }
}

impl Drop for PooledSession {
    fn drop(&mut self) {
        if let Some(kept) = self.kept.take().filter(|kept| !kept.client.is_closed()) {
            self.pool.idle().push(kept);
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // A driver in a black hole would wait for the answer of a call that nobody waits for any more.
        self.driver.abort();
    }
}
