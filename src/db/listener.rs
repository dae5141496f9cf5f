//! The session that listens: it polls the connection itself, because the driver's own future drops
//! notifications.

use std::future::poll_fn;

use tokio::{runtime::Handle, sync::mpsc, task::JoinHandle};
use tokio_postgres::{AsyncMessage, Client};

use super::{Api, connect::Driver, session::Sessions};
use crate::error::Result;

/// What a listening session yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A notification with this payload.
    Wake(String),
    /// The session has ended and notifications may have been missed: read the tables.
    Resync,
}

/// A session for claims and control that yields notices. Dropping it closes it.
#[derive(Debug)]
pub struct ControlSession {
    client: Client,
    notices: mpsc::UnboundedReceiver<Notice>,
    driver: JoinHandle<()>,
}

impl ControlSession {
    /// Opens one.
    pub async fn open(sessions: &Sessions) -> Result<Self> {
        let (sender, notices) = mpsc::unbounded_channel();
        let (client, driver) =
            sessions.open(|connection| Handle::current().spawn(drive(connection, sender))).await?;
        Ok(Self { client, notices, driver })
    }

    /// The functions of the schema.
    pub fn api(&self) -> Api<'_> {
        Api::new(&self.client)
    }

    /// The next notice; [`Notice::Resync`] is the last one. Cancel safe.
    pub async fn notice(&mut self) -> Notice {
        self.notices.recv().await.unwrap_or(Notice::Resync)
    }
}

impl Drop for ControlSession {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn drive(mut connection: Driver, notices: mpsc::UnboundedSender<Notice>) {
    loop {
        match poll_fn(|cx| connection.poll_message(cx)).await {
            // A receiver that is gone ends this task by abort.
            Some(Ok(AsyncMessage::Notification(note))) => {
                let _ = notices.send(Notice::Wake(note.payload().to_owned()));
            }
            Some(Ok(_)) => {}
            Some(Err(err)) => {
                tracing::debug!(error = %err, "the listening connection has ended");
                break;
            }
            None => break,
        }
    }
    let _ = notices.send(Notice::Resync);
}
