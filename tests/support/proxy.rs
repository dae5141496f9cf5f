//! A wire between a program and its database that delays, swallows, cuts and loses.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use sisyphus::dev::cluster::SOCKET_NAME;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
    task::JoinSet,
    time::sleep,
};

use super::cluster;

/// Forwards bytes until told otherwise. Its connections end with it.
pub(crate) struct Proxy {
    address: SocketAddr,
    wire: Wire,
    _tasks: JoinSet<()>,
}

/// Where the other end is.
#[derive(Clone)]
pub(crate) enum Server {
    Socket(PathBuf),
    Port(u16),
}

#[derive(Clone)]
struct Wire {
    server: Arc<Mutex<Server>>,
    /// The reply to the next statement with this text is lost, and its connection with it.
    lose: Arc<Mutex<Option<&'static str>>>,
    /// Nothing goes through, and nobody is told.
    cut: watch::Sender<bool>,
    /// Counts the calls that end all connections.
    reset: watch::Sender<u32>,
    /// Counts the calls that leave all connections without anybody at the other end.
    strand: watch::Sender<u32>,
    delay: Arc<Mutex<Duration>>,
}

impl Proxy {
    /// A proxy for the server that the tests share.
    pub(crate) async fn start() -> Self {
        Self::to(Server::Socket(cluster::server().join(SOCKET_NAME))).await
    }

    /// A proxy for this server.
    pub(crate) async fn to(server: Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wire = Wire {
            server: Arc::new(Mutex::new(server)),
            lose: Arc::default(),
            cut: watch::Sender::new(false),
            reset: watch::Sender::new(0),
            strand: watch::Sender::new(0),
            delay: Arc::default(),
        };
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, wire.clone()));
        Self { address, wire, _tasks: tasks }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgresql://postgres@{}/{database}", self.address)
    }

    /// Loses the reply to the next statement that contains this text, after the server has given it.
    pub(crate) fn lose_reply_to(&self, text: &'static str) {
        *self.wire.lose.lock().unwrap() = Some(text);
    }

    /// Whether the reply has been lost.
    pub(crate) fn has_lost(&self) -> bool {
        self.wire.lose.lock().unwrap().is_none()
    }

    /// Swallows everything from now on, as a broken network does.
    pub(crate) fn cut(&self) {
        self.wire.cut.send_replace(true);
    }

    /// Lets everything through again.
    pub(crate) fn mend(&self) {
        self.wire.cut.send_replace(false);
    }

    /// Ends all connections that there are.
    pub(crate) fn reset(&self) {
        self.wire.reset.send_modify(|count| *count += 1);
    }

    /// Swallows what comes over the connections that there are, for ever; new ones are served. So does a
    /// firewall that has been restarted.
    pub(crate) fn strand(&self) {
        self.wire.strand.send_modify(|count| *count += 1);
    }

    /// Leads new connections to another server.
    pub(crate) fn lead_to(&self, server: Server) {
        *self.wire.server.lock().unwrap() = server;
    }

    /// Holds each piece back for so long, in both directions.
    pub(crate) fn delay(&self, delay: Duration) {
        *self.wire.delay.lock().unwrap() = delay;
    }
}

async fn accept(listener: TcpListener, wire: Wire) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        client.set_nodelay(true).ok();
        let wire = wire.clone();
        connections.spawn(async move {
            let mut reset = wire.reset.subscribe();
            tokio::select! {
                _ = reset.changed() => {}
                () = serve(client, &wire) => {}
            }
        });
    }
}

async fn serve(client: TcpStream, wire: &Wire) {
    until(&mut wire.cut.subscribe(), false).await;
    let server = wire.server.lock().unwrap().clone();
    match server {
        Server::Socket(path) => {
            if let Ok(server) = UnixStream::connect(path).await {
                forward(client, server, wire).await;
            }
        }
        Server::Port(port) => {
            if let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await {
                server.set_nodelay(true).ok();
                forward(client, server, wire).await;
            }
        }
    }
}

async fn forward(mut client: TcpStream, mut server: impl AsyncRead + AsyncWrite + Unpin, wire: &Wire) {
    let (mut cut, mut strand) = (wire.cut.subscribe(), wire.strand.subscribe());
    let (mut up, mut down) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut losing = false;
    loop {
        until(&mut cut, false).await;
        tokio::select! {
            () = until(&mut cut, true) => {}
            _ = strand.changed() => return swallow(client, server).await,
            read = client.read(&mut up) => {
                let Ok(length @ 1..) = read else { return };
                losing = losing || is_asked_for(wire, &up[..length]);
                hold_back(wire).await;
                if server.write_all(&up[..length]).await.is_err() { return }
            }
            read = server.read(&mut down) => {
                let Ok(length @ 1..) = read else { return };
                // The server answers after its commit: the client never learns of it.
                if losing { return }
                hold_back(wire).await;
                if client.write_all(&down[..length]).await.is_err() { return }
            }
        }
    }
}

/// The connection to the server stays open until the client gives up.
async fn swallow(mut client: TcpStream, _server: impl AsyncRead) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(1..) = client.read(&mut bytes).await {}
}

async fn hold_back(wire: &Wire) {
    let delay = *wire.delay.lock().unwrap();
    if !delay.is_zero() {
        sleep(delay).await;
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
