//! A small pool for short calls: start, finish, release and tick.

use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, RecyclingMethod, Runtime, Timeouts};

use super::{
    Api,
    session::{Sessions, connect_error},
};
use crate::error::{Error, ErrorKind, Result};

/// All hosts of a long list have their turn within it.
const CREATE_TIMEOUT: Duration = Duration::from_secs(15);
const WAIT_TIMEOUT: Duration = Duration::from_secs(15);

/// Pooled sessions. Handles are cheap to clone and share the sessions.
#[derive(Debug, Clone)]
pub struct Pool {
    pool: deadpool_postgres::Pool,
}

/// A session on loan; it goes back when dropped.
#[derive(Debug)]
pub struct PooledSession {
    client: deadpool_postgres::Client,
}

impl Pool {
    /// A pool of at most `size` sessions; none is opened yet.
    pub fn new(sessions: Sessions, size: usize) -> Result<Self> {
        let config = sessions.config().clone();
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool = deadpool_postgres::Pool::builder(Manager::from_connect(config, sessions, recycling))
            .max_size(size)
            .timeouts(Timeouts {
                wait: Some(WAIT_TIMEOUT),
                create: Some(CREATE_TIMEOUT),
                recycle: Some(CREATE_TIMEOUT),
            })
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|err| Error::new(ErrorKind::Failed, "the connection pool cannot be made").source(err))?;
        Ok(Self { pool })
    }

    /// Lends a session, opening one when needed.
    pub async fn get(&self) -> Result<PooledSession> {
        use deadpool_postgres::PoolError;
        match self.pool.get().await {
            Ok(client) => Ok(PooledSession { client }),
            Err(PoolError::Backend(err)) => Err(connect_error(err)),
            Err(err) => {
                Err(Error::new(ErrorKind::Unreachable, "no session with the database was to be had")
                    .source(err))
            }
        }
    }

    /// Drops the sessions that are not on loan: after a failover they may sit on the old primary.
    pub fn drop_idle(&self) {
        self.pool.retain(|_, _| false);
    }
}

impl PooledSession {
    /// The functions of the schema.
    pub fn api(&self) -> Api<'_> {
        Api::new(&self.client)
    }

    /// Closes the session instead of giving it back: its state is not known.
    pub fn discard(self) {
        drop(deadpool_postgres::Client::take(self.client));
    }
}
