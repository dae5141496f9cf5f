//! A wire between guardian and database that loses replies.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use sisyphus::dev::cluster::SOCKET_NAME;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    sync::watch,
    task::JoinSet,
};

/// Forwards bytes until told otherwise. Its connections end with it.
pub(super) struct Proxy {
    dir: TempDir,
    wire: Wire,
    _tasks: JoinSet<()>,
}

#[derive(Clone)]
struct Wire {
    server: PathBuf,
    /// The reply to the next statement with this text is lost, and its connection with it.
    lose: Arc<Mutex<Option<&'static str>>>,
    /// Nothing goes through, and nobody is told.
    cut: watch::Sender<bool>,
}

impl Proxy {
    /// A proxy for the server whose socket is in this directory.
    pub(super) fn start(server: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("sis").tempdir_in("/tmp").unwrap();
        let listener = UnixListener::bind(dir.path().join(SOCKET_NAME)).unwrap();
        let wire =
            Wire { server: server.join(SOCKET_NAME), lose: Arc::default(), cut: watch::Sender::new(false) };
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, wire.clone()));
        Self { dir, wire, _tasks: tasks }
    }

    pub(super) fn url(&self, database: &str) -> String {
        sisyphus::dev::cluster::url(self.dir.path(), "postgres", database)
    }

    /// Loses the reply to the next statement that contains this text, after the server has given it.
    pub(super) fn lose_reply_to(&self, text: &'static str) {
        *self.wire.lose.lock().unwrap() = Some(text);
    }

    /// Swallows everything from now on, as a broken network does.
    pub(super) fn cut(&self) {
        self.wire.cut.send_replace(true);
    }

    /// Lets everything through again.
    pub(super) fn mend(&self) {
        self.wire.cut.send_replace(false);
    }

    /// Whether the reply has been lost.
    pub(super) fn has_lost(&self) -> bool {
        self.wire.lose.lock().unwrap().is_none()
    }
}

async fn accept(listener: UnixListener, wire: Wire) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(forward(client, wire.clone()));
    }
}

async fn forward(mut client: UnixStream, wire: Wire) {
    let mut cut = wire.cut.subscribe();
    until(&mut cut, false).await;
    let Ok(mut server) = UnixStream::connect(&wire.server).await else { return };
    let (mut up, mut down) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut losing = false;
    loop {
        until(&mut cut, false).await;
        tokio::select! {
            () = until(&mut cut, true) => {}
            read = client.read(&mut up) => {
                let Ok(length @ 1..) = read else { return };
                losing = losing || is_asked_for(&wire, &up[..length]);
                if server.write_all(&up[..length]).await.is_err() { return }
            }
            read = server.read(&mut down) => {
                let Ok(length @ 1..) = read else { return };
                // The server answers after its commit: the client never learns of it.
                if losing { return }
                if client.write_all(&down[..length]).await.is_err() { return }
            }
        }
    }
}

/// Returns no guard, which could not be held across an await.
async fn until(cut: &mut watch::Receiver<bool>, wanted: bool) {
    cut.wait_for(|cut| *cut == wanted).await.ok();
}

fn is_asked_for(wire: &Wire, bytes: &[u8]) -> bool {
    let mut lose = wire.lose.lock().unwrap();
    let hit = lose.is_some_and(|text| bytes.windows(text.len()).any(|window| window == text.as_bytes()));
    if hit {
        *lose = None;
    }
    hit
}
