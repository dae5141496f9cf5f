//! The keepers of a host: the one that starts the runs, and older ones that stay for the runs they have.
//!
//! To the guardian they are one. A request about a run goes to all of them: whoever does not have it ignores it.

use std::{future::poll_fn, path::PathBuf, pin::pin, sync::Arc, task::Poll, time::Duration};

use tokio::{sync::mpsc, task::JoinSet, time::Instant};
use uuid::Uuid;

use super::{
    silent::{PATIENCE, Silent},
    told,
};
use crate::{
    error::{Error, ErrorKind, Result},
    keeper::{
        Found, KeeperClient, StateDirectory,
        client::KeeperReceiver,
        program,
        protocol::{Event, Held, KeeperHello, Request},
    },
    observe::event,
};

/// How long a keeper that has left may need to let go of its place.
const PARTING: Duration = Duration::from_millis(500);
/// How long one more keeper may take to answer where others have used up the time.
const GLANCE: Duration = Duration::from_millis(200);
/// With more that it has not taken yet a keeper is told no deadlines, which each claim tells anew. More than the runs of
/// a host, of which one claim tells.
const MOST_UNTOLD: usize = 100_000;

/// Where the keepers of the host are.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) directory: StateDirectory,
    /// Where a unit runs a keeper: then this guardian starts none for new runs.
    pub(super) keeper_dir: Option<StateDirectory>,
    /// For the keepers that it has to start.
    pub(super) policy: Option<PathBuf>,
    pub(super) epoch: u64,
}

/// All keepers of a host, greeted but for those that do not answer. The first starts the runs.
#[derive(Debug)]
pub(super) struct Crew {
    peers: Vec<Peer>,
    silent: Vec<Silent>,
    /// Whether a list of all is awaited.
    listing: bool,
    /// Whether results are offered again, and the end of that is awaited.
    offering: bool,
    /// What was said after its sayer's list, until the lists of the others are there.
    held_back: Vec<Event>,
}

#[derive(Debug)]
struct Peer {
    place: StateDirectory,
    hello: KeeperHello,
    requests: mpsc::UnboundedSender<(Request, Arc<()>)>,
    /// A clone of it goes with each request that is not told yet.
    untold: Arc<()>,
    /// Writes the requests. One that does not read them must not keep the others waiting, nor who notices that.
    _writer: JoinSet<()>,
    receiver: KeeperReceiver,
    lists_due: usize,
    listed: Vec<Held>,
    offers_due: usize,
    retired: bool,
    /// When it was asked or heard last.
    stirred: Instant,
}

/// What a crew makes of something that one of its keepers has said.
#[derive(Debug)]
pub(super) enum Heard {
    /// These, in this order.
    Events(Vec<Event>),
    /// An older keeper has left, with nothing undone; its list may have been the last to wait for.
    Left(Uuid, Vec<Event>),
    /// The one that starts the runs has left as it was asked to.
    Replaced,
}

impl Site {
    /// Connects to every keeper that is alive, and starts what is missing: one for new runs, and one wherever
    /// a dead one left something. A keeper that starts first ends what a dead one left running.
    pub(super) async fn gather(&self) -> Result<Crew> {
        let (mut alive, mut vacant, mut silent) = (Vec::new(), Vec::new(), Vec::new());
        let by = Instant::now() + PATIENCE;
        for place in self.own_places()? {
            let patience = by.saturating_duration_since(Instant::now()).max(GLANCE);
            match KeeperClient::find(&place, self.epoch, patience).await? {
                Found::Answers(client) => alive.push(Peer::new(place, *client)),
                Found::Silent => silent.push(Silent::in_place(place)?),
                Found::Nobody => vacant.push(place),
            }
        }
        let current = self.current(&mut alive, &mut vacant).await?;
        for place in vacant {
            alive.extend(self.wake(place).await?);
        }
        for older in &alive {
            older.send(Request::Retire { if_idle: false }).ok();
        }
        let peers = std::iter::once(current).chain(alive).collect();
        Ok(Crew { peers, silent, listing: false, offering: false, held_back: Vec::new() })
    }

    /// The keeper for new runs: of this guardian's own program, whatever others there are.
    async fn current(&self, alive: &mut Vec<Peer>, vacant: &mut Vec<StateDirectory>) -> Result<Peer> {
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
        match self.start(vacant.first()).await {
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
    async fn wake(&self, place: StateDirectory) -> Result<Option<Peer>> {
        if place.has_leavings() {
            return self.start(Some(&place)).await.map(Some);
        }
        if place != self.directory {
            place.clear_when_spent()?;
        }
        Ok(None)
    }

    fn own_places(&self) -> Result<Vec<StateDirectory>> {
        let mut places = self.directory.places()?;
        // Greeted twice, one keeper would hang up on itself.
        let real = |place: &StateDirectory| std::fs::canonicalize(place.path()).ok();
        if let Some(units) = self.keeper_dir.as_ref().and_then(real) {
            places.retain(|place| real(place).as_ref() != Some(&units));
        }
        Ok(places)
    }
}

impl Crew {
    /// Who is there; the first starts the runs.
    pub(super) fn hellos(&self) -> Vec<KeeperHello> {
        self.peers.iter().map(|peer| peer.hello.clone()).collect()
    }

    /// Those that are alive and did not answer.
    pub(super) fn silent(&self) -> &[Silent] {
        &self.silent
    }

    /// When to wait no longer for what one of them was asked for; none: nothing is awaited.
    pub(super) fn patient_until(&self) -> Option<Instant> {
        let awaited =
            |peer: &&Peer| self.listing && peer.lists_due > 0 || self.offering && peer.offers_due > 0;
        self.peers.iter().filter(awaited).map(|peer| peer.stirred + PATIENCE).min()
    }

    /// What the keeper that starts the runs executes.
    pub(super) fn program(&self) -> &str {
        &self.peers[0].hello.program
    }

    /// Sends a request to whom it concerns.
    pub(super) fn send(&mut self, request: &Request) -> Result<()> {
        let for_all = !matches!(request, Request::Start(_) | Request::Retire { .. });
        self.listing |= matches!(request, Request::List {});
        let (current, older) = self.peers.split_first_mut().expect("the first stays to the end");
        current.ask(request.clone())?;
        for peer in older.iter_mut().filter(|_| for_all) {
            // One that has just left says so itself.
            peer.ask(request.clone()).ok();
        }
        Ok(())
    }

    /// Asks the keeper that starts the runs for anything at all. Its answer is no list of all.
    pub(super) fn ask(&mut self) -> Result<()> {
        let current = &mut self.peers[0];
        current.lists_due += 1;
        current.send(Request::List {})
    }

    /// After a failover: also what keepers that have left had delivered before is offered again.
    pub(super) async fn offer_again(&mut self, site: &Site) -> Result<()> {
        for place in site.own_places()? {
            if self.peers.iter().all(|peer| peer.place != place) {
                self.peers.extend(site.wake(place).await?);
            }
        }
        self.offering = true;
        for peer in &mut self.peers {
            (peer.offers_due, peer.stirred) = (1, Instant::now());
        }
        self.send(&Request::Offer {})?;
        for older in &self.peers[1..] {
            older.send(Request::Retire { if_idle: false }).ok();
        }
        Ok(())
    }

    /// Waits until one of them says something. Cancel safe.
    pub(super) async fn receive(&mut self) -> (usize, Result<Option<Event>>) {
        if let [only] = &mut self.peers[..] {
            return (0, only.receiver.receive().await);
        }
        let mut waiting: Vec<_> =
            self.peers.iter_mut().map(|peer| Box::pin(peer.receiver.receive())).collect();
        poll_fn(|context| {
            for (number, receive) in waiting.iter_mut().enumerate() {
                if let Poll::Ready(event) = pin!(receive).poll(context) {
                    return Poll::Ready((number, event));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Makes one of all. An error: a keeper is gone that should be there.
    pub(super) async fn hear(&mut self, number: usize, event: Result<Option<Event>>) -> Result<Heard> {
        let peer = &mut self.peers[number];
        peer.stirred = Instant::now();
        match event {
            Ok(Some(Event::Retired {})) => peer.retired = true,
            Ok(Some(Event::Offered {})) => peer.offers_due = peer.offers_due.saturating_sub(1),
            Ok(Some(Event::Listed { runs })) => {
                peer.lists_due = peer.lists_due.saturating_sub(1);
                peer.listed = runs;
            }
            Ok(Some(event)) if self.listing && peer.lists_due == 0 => self.held_back.push(event),
            Ok(Some(event)) => return Ok(Heard::Events(vec![event])),
            Ok(None) | Err(_) if peer.retired && number == 0 => return Ok(Heard::Replaced),
            Ok(None) | Err(_) if peer.retired => {
                let gone = self.peers.remove(number);
                clear(&gone.place).await;
                return Ok(Heard::Left(gone.hello.keeper_id, self.of_all()));
            }
            Ok(None) => return Err(Error::new(ErrorKind::Failed, "the keeper closed the connection")),
            Err(err) => return Err(err),
        }
        Ok(Heard::Events(self.of_all()))
    }

    /// What is to be said once all have said it.
    fn of_all(&mut self) -> Vec<Event> {
        let mut events = self.list();
        if self.offering && self.peers.iter().all(|peer| peer.offers_due == 0) {
            self.offering = false;
            // Not before the results that were held back.
            let place = if self.listing { &mut self.held_back } else { &mut events };
            place.push(Event::Offered {});
        }
        events
    }

    /// The list of all, once each has told its own, and what was held back for it.
    fn list(&mut self) -> Vec<Event> {
        if !self.listing || self.peers.iter().any(|peer| peer.lists_due > 0) {
            return Vec::new();
        }
        self.listing = false;
        let runs = self.peers.iter_mut().flat_map(|peer| std::mem::take(&mut peer.listed)).collect();
        std::iter::once(Event::Listed { runs }).chain(self.held_back.drain(..)).collect()
    }
}

impl Peer {
    fn new(place: StateDirectory, client: KeeperClient) -> Self {
        let (hello, mut sender, receiver) = client.split();
        let (requests, mut queue) = mpsc::unbounded_channel();
        let mut writer = JoinSet::new();
        writer.spawn(async move {
            while let Some((request, _untold)) = queue.recv().await {
                if let Err(err) = sender.send(&request).await {
                    tracing::debug!(error = %told(&err), "a keeper is told nothing more");
                    return;
                }
            }
        });
        Self {
            place,
            hello,
            requests,
            untold: Arc::default(),
            _writer: writer,
            receiver,
            lists_due: 0,
            listed: Vec::new(),
            offers_due: 0,
            retired: false,
            stirred: Instant::now(),
        }
    }

    fn ask(&mut self, request: Request) -> Result<()> {
        if matches!(request, Request::List {}) {
            self.lists_due += 1;
            self.stirred = Instant::now();
        }
        self.send(request)
    }

    fn send(&self, request: Request) -> Result<()> {
        if matches!(request, Request::Deadline(_)) && Arc::strong_count(&self.untold) > MOST_UNTOLD {
            return Ok(());
        }
        let broken = |_| Error::new(ErrorKind::Failed, "cannot write to the keeper");
        self.requests.send((request, self.untold.clone())).map_err(broken)
    }
}

/// Leaves nothing in the place of a keeper that has left, if it is all old. Otherwise a later guardian does.
async fn clear(place: &StateDirectory) {
    let gone = async {
        while place.keeper_is_alive()? {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        place.clear_when_spent()
    };
    if let Ok(Err(err)) = tokio::time::timeout(PARTING, gone).await {
        tracing::warn!(event = event::KEEPER_PLACE_KEPT, error = %told(&err), "the place of an older keeper stays");
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Write},
        os::unix::net::UnixListener,
        thread,
    };

    use super::*;
    use crate::keeper::protocol::{Deadline, PROTOCOL, RunKey};

    #[tokio::test]
    async fn what_a_keeper_that_hangs_is_not_told_yet_does_not_grow_for_ever() {
        let root = tempfile::tempdir().unwrap();
        let place = StateDirectory::open(root.path()).unwrap();
        let listener = UnixListener::bind(place.socket()).unwrap();
        let hung = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            BufReader::new(&stream).read_line(&mut String::new()).unwrap();
            let hello = Event::Hello(KeeperHello {
                protocol: PROTOCOL,
                keeper_id: Uuid::nil(),
                pid: 1,
                boot_id: String::new(),
                unenforced: Vec::new(),
                program: String::new(),
                retiring: false,
            });
            writeln!(stream, "{}", serde_json::to_string(&hello).unwrap()).unwrap();
            stream
        });
        let peer = Peer::new(place.clone(), KeeperClient::connect(&place, 1).await.unwrap().unwrap());
        let key = RunKey { installation: Uuid::nil(), run_id: 1, claim_no: 1 };
        for boottime_us in 0..2 * MOST_UNTOLD as i64 {
            peer.send(Request::Deadline(Deadline { key, boottime_us })).unwrap();
        }
        assert!(Arc::strong_count(&peer.untold) <= MOST_UNTOLD + 1);
        peer.send(Request::Ack(key)).unwrap();
        assert!(Arc::strong_count(&peer.untold) > MOST_UNTOLD + 1, "what is told once is kept");
        drop(hung.join().unwrap());
    }
}
