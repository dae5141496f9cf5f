//! The guardian's hands: the connection to the keeper, made anew whenever it breaks.

use std::path::PathBuf;

use tokio::sync::mpsc;

use super::{Input, backoff::Backoff};
use crate::{
    error::{Error, ErrorKind, Result},
    keeper::{
        KeeperClient, StateDirectory,
        protocol::{Event, KeeperHello, Request},
    },
};

/// What the hands tell the guardian.
#[derive(Debug)]
pub(super) enum HandsEvent {
    /// A keeper answered; it offers results, and its list comes next.
    Connected(KeeperHello),
    Said(Event),
    /// No keeper is connected; the hands keep trying.
    Lost(Error),
}

/// The guardian's handle.
#[derive(Debug)]
pub(super) struct HandsHandle {
    requests: mpsc::UnboundedSender<Request>,
}

impl HandsHandle {
    /// Sends a request to the keeper; one that is not connected misses it, and its list will tell.
    pub(super) fn send(&self, request: Request) {
        let _ = self.requests.send(request);
    }
}

#[derive(Debug)]
pub(super) struct Hands {
    directory: StateDirectory,
    /// For the keeper that it may have to start.
    policy: Option<PathBuf>,
    epoch: u64,
    inputs: mpsc::UnboundedSender<Input>,
    requests: mpsc::UnboundedReceiver<Request>,
    backoff: Backoff,
}

impl Hands {
    pub(super) fn new(
        directory: StateDirectory,
        policy: Option<PathBuf>,
        epoch: u64,
        inputs: mpsc::UnboundedSender<Input>,
    ) -> (Self, HandsHandle) {
        let (sender, requests) = mpsc::unbounded_channel();
        (
            Self { directory, policy, epoch, inputs, requests, backoff: Backoff::default() },
            HandsHandle { requests: sender },
        )
    }

    pub(super) async fn run(mut self) {
        loop {
            let err = match self.connect().await {
                Ok(client) => match self.serve(client).await {
                    Ok(()) => Error::new(ErrorKind::Failed, "the keeper closed the connection"),
                    Err(err) => err,
                },
                Err(err) => err,
            };
            self.tell(HandsEvent::Lost(err));
            tokio::time::sleep(self.backoff.next()).await;
        }
    }

    /// A keeper that has to be started ends what a dead one left, before it answers.
    async fn connect(&mut self) -> Result<KeeperClient> {
        let client =
            KeeperClient::connect_or_start(&self.directory, self.epoch, self.policy.as_deref()).await?;
        self.backoff.reset();
        // Meant for an earlier connection.
        while self.requests.try_recv().is_ok() {}
        self.tell(HandsEvent::Connected(client.keeper().clone()));
        Ok(client)
    }

    async fn serve(&mut self, client: KeeperClient) -> Result<()> {
        let (_, mut sender, mut receiver) = client.split();
        sender.send(&Request::List {}).await?;
        loop {
            tokio::select! {
                event = receiver.receive() => match event? {
                    Some(event) => self.tell(HandsEvent::Said(event)),
                    None => return Ok(()),
                },
                Some(request) = self.requests.recv() => sender.send(&request).await?,
            }
        }
    }

    fn tell(&self, event: HandsEvent) {
        let _ = self.inputs.send(Input::Hands(event));
    }
}
