//! One keeper, greeted.

use std::sync::Arc;

use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use super::super::told;
use crate::{
    error::{Error, ErrorKind, Result},
    keeper::{
        KeeperClient, KeeperProcess, StateDirectory,
        client::KeeperReceiver,
        protocol::{Held, KeeperHello, Request},
    },
};

/// With more that it has not taken yet a keeper is told no deadlines, which each claim tells anew. More than the runs of
/// a host, of which one claim tells.
const MOST_UNTOLD: usize = 100_000;

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) place: StateDirectory,
    pub(super) hello: KeeperHello,
    pub(super) process: KeeperProcess,
    requests: mpsc::UnboundedSender<(Request, Arc<()>)>,
    /// A clone of it goes with each request that is not told yet.
    untold: Arc<()>,
    /// Writes the requests. One that does not read them must not keep the others waiting, nor who notices that.
    _writer: JoinSet<()>,
    pub(super) receiver: KeeperReceiver,
    pub(super) lists_due: usize,
    pub(super) listed: Vec<Held>,
    pub(super) offers_due: usize,
    pub(super) retired: bool,
    /// When it was asked or heard last.
    pub(super) stirred: Instant,
}

impl Peer {
    pub(super) fn new(place: StateDirectory, client: KeeperClient) -> Self {
        let process = client.process().clone();
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
            process,
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

    pub(super) fn ask(&mut self, request: Request) -> Result<()> {
        if matches!(request, Request::List {}) {
            self.lists_due += 1;
            self.stirred = Instant::now();
        }
        self.send(request)
    }

    pub(super) fn send(&self, request: Request) -> Result<()> {
        if matches!(request, Request::Deadline(_)) && Arc::strong_count(&self.untold) > MOST_UNTOLD {
            return Ok(());
        }
        let broken = |_| Error::new(ErrorKind::Failed, "cannot write to the keeper");
        self.requests.send((request, self.untold.clone())).map_err(broken)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Write},
        os::unix::net::UnixListener,
        thread,
    };

    use uuid::Uuid;

    use super::*;
    use crate::keeper::protocol::{Deadline, Event, PROTOCOL, RunKey};

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
