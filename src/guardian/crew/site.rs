//! Where the keepers of the host are, and how all of them are found or started.

use std::{path::PathBuf, time::Duration};

use tokio::time::Instant;

use super::{
    super::{
        silent::{PATIENCE, Silent},
        told,
    },
    Crew,
    peer::Peer,
};
use crate::{
    error::{Error, ErrorKind, Result},
    keeper::{Found, KeeperClient, StateDirectory, program, protocol::Request},
    observe::event,
};

/// How long one more keeper may take to answer where others have used up the time.
const GLANCE: Duration = Duration::from_millis(200);

/// Where the keepers of the host are.
#[derive(Debug)]
pub(in crate::guardian) struct Site {
    pub(in crate::guardian) directory: StateDirectory,
    /// Where a unit runs a keeper: then this guardian starts none for new runs.
    pub(in crate::guardian) keeper_dir: Option<StateDirectory>,
    /// For the keepers that it has to start.
    pub(in crate::guardian) policy: Option<PathBuf>,
    pub(in crate::guardian) epoch: u64,
}

impl Site {
    /// Connects to every keeper that is alive, and starts what is missing: one for new runs, and one wherever
    /// a dead one left something. A keeper that starts first ends what a dead one left running.
    pub(in crate::guardian) async fn gather(&self) -> Result<Crew> {
        let (mut alive, mut vacant, mut silent) = (Vec::new(), Vec::new(), Vec::new());
        let by = Instant::now() + PATIENCE;
        for place in self.own_places()? {
            let patience = by.saturating_duration_since(Instant::now()).max(GLANCE);
            match KeeperClient::find(&place, self.epoch, patience).await {
                Ok(Found::Answers(client)) => alive.push(Peer::new(place, *client)),
                Ok(Found::Silent) => silent.push(self.silent(place)?),
                Ok(Found::Nobody) => vacant.push(place),
                Err(err) => silent.push(self.broken(place, err)?),
            }
        }
        let current = self.current(&mut alive, &mut vacant, &mut silent).await?;
        for place in vacant {
            match self.wake(place.clone()).await {
                Ok(peer) => alive.extend(peer),
                Err(err) => silent.push(self.broken(place, err)?),
            }
        }
        for older in &alive {
            older.send(Request::Retire { if_idle: false }).ok();
        }
        let peers = std::iter::once(current).chain(alive).collect();
        Ok(Crew { peers, silent, listing: false, offering: false, held_back: Vec::new() })
    }

    fn silent(&self, place: StateDirectory) -> Result<Silent> {
        Silent::in_place(place.clone()).or_else(|err| self.broken(place, err))
    }

    /// The place of an older keeper must not keep the host from working. Without the directory itself it cannot.
    fn broken(&self, place: StateDirectory, err: Error) -> Result<Silent> {
        if place == self.directory { Err(err) } else { Ok(Silent::broken(place, &err)) }
    }

    /// The keeper for new runs: of this guardian's own program, whatever others there are.
    async fn current(
        &self,
        alive: &mut Vec<Peer>,
        vacant: &mut Vec<StateDirectory>,
        silent: &mut Vec<Silent>,
    ) -> Result<Peer> {
        if let Some(place) = &self.keeper_dir {
            let client = KeeperClient::connect_when_there(place, self.epoch).await?;
            return client.map(|client| Peer::new(place.clone(), client)).ok_or_else(|| {
                Error::new(ErrorKind::Failed, format!("no keeper listens in {:?}", place.path()))
                    .hint("its unit is to start it: systemctl status sisyphus-keeper")
            });
        }
        let program = program();
        let usable = |peer: &Peer| !peer.hello.retiring;
        if let Some(at) = alive.iter().position(|peer| usable(peer) && peer.hello.program == program) {
            return Ok(alive.remove(at));
        }
        let mut started = self.start(vacant.first()).await;
        if let Err(err) = &started
            && vacant.first().is_some_and(|place| *place != self.directory)
        {
            silent.push(Silent::broken(vacant.remove(0), err));
            started = self.start(vacant.first()).await;
        }
        match started {
            Ok(peer) => {
                vacant.retain(|place| *place != peer.place);
                Ok(peer)
            }
            // They speak the same protocol: an older one is better than none.
            Err(err) => match alive.iter().position(usable) {
                Some(at) => {
                    tracing::warn!(event = event::KEEPER_OLD, error = %told(&err), "the keeper stays the older one");
                    Ok(alive.remove(at))
                }
                None => Err(err),
            },
        }
    }

    async fn start(&self, vacant: Option<&StateDirectory>) -> Result<Peer> {
        let place = match vacant {
            Some(place) => place.clone(),
            None => self.directory.next_place()?,
        };
        let client = KeeperClient::connect_or_start(&place, self.epoch, self.policy.as_deref()).await?;
        Ok(Peer::new(place, client))
    }

    /// A keeper that delivers what a dead one left in this place, if it left something.
    pub(super) async fn wake(&self, place: StateDirectory) -> Result<Option<Peer>> {
        if place.has_leavings() {
            return self.start(Some(&place)).await.map(Some);
        }
        if place != self.directory {
            place.clear_when_spent()?;
        }
        Ok(None)
    }

    pub(super) fn own_places(&self) -> Result<Vec<StateDirectory>> {
        let mut places = self.directory.places()?;
        // Greeted twice, one keeper would hang up on itself.
        let real = |place: &StateDirectory| std::fs::canonicalize(place.path()).ok();
        if let Some(units) = self.keeper_dir.as_ref().and_then(real) {
            places.retain(|place| real(place).as_ref() != Some(&units));
        }
        Ok(places)
    }
}
