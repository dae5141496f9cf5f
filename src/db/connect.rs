//! Getting in: each server in turn, each step within a time, encrypted as `sslmode` says.

use std::{
    fmt::Display,
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream, lookup_host},
    time::{Instant, timeout_at},
};
use tokio_postgres::{
    Client, Config, SimpleQueryMessage,
    config::{SslMode as DriverSslMode, SslNegotiation},
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use super::{
    tls,
    wire::{Encrypted, Wire},
};
use crate::{
    config::{Connection, Endpoint, KeepAlive, Place, SslMode},
    error::{Error, ErrorKind, Result},
    sqlstate,
};

/// The driver's half of a session; nothing happens unless somebody polls it.
pub(super) type Driver = tokio_postgres::Connection<Wire, Wire>;

/// The message that asks a server to go on in TLS.
const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// Opens a session with the first server that lets us in and takes writes, if those are wanted.
pub(crate) async fn connect(to: &Connection) -> Result<(Client, Driver)> {
    let mut endpoints: Vec<&Endpoint> = to.endpoints.iter().collect();
    if to.shuffle {
        fastrand::shuffle(&mut endpoints);
    }
    let mut refusals = Vec::new();
    for endpoint in endpoints {
        match connect_endpoint(to, endpoint).await {
            Ok(session) => return Ok(session),
            Err(err) => refusals.push((endpoint, err)),
        }
    }
    Err(not_connected(to, refusals))
}

/// Tries the addresses of a server in turn.
async fn connect_endpoint(to: &Connection, endpoint: &Endpoint) -> Result<(Client, Driver)> {
    let targets = targets(to, endpoint).await?;
    let mut last = None;
    for target in targets {
        let visit = Visit { to, endpoint, target, until: Instant::now() + to.connect_timeout };
        // Boxed: the driver's handshake is a large future.
        match Box::pin(visit.pay()).await {
            Ok(session) => return Ok(session),
            Err(err) => last = Some(err),
        }
    }
    Err(last.unwrap_or_else(|| {
        Error::new(ErrorKind::Unreachable, format!("host name {} has no address", endpoint.place.name()))
    }))
}

#[derive(Debug, Clone)]
enum Target {
    Socket(PathBuf),
    Address(SocketAddr),
}

async fn targets(to: &Connection, endpoint: &Endpoint) -> Result<Vec<Target>> {
    let port = endpoint.port;
    let address = |ip: IpAddr| Target::Address(SocketAddr::new(ip, port));
    match &endpoint.place {
        Place::Socket(directory) => Ok(vec![Target::Socket(directory.join(format!(".s.PGSQL.{port}")))]),
        Place::Network(_, Some(ip)) => Ok(vec![address(*ip)]),
        Place::Network(name, None) => {
            let until = Instant::now() + to.connect_timeout;
            let found = within(until, to.connect_timeout, format!("looking up host name {name}"), async {
                lookup_host((name.as_str(), port)).await.map_err(|err| {
                    Error::new(ErrorKind::Unreachable, format!("host name {name} cannot be resolved"))
                        .source(err)
                })
            });
            let mut found: Vec<Target> = found.await?.map(Target::Address).collect();
            if to.shuffle {
                fastrand::shuffle(&mut found);
            }
            Ok(found)
        }
    }
}

/// How one attempt is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cover {
    Plain,
    /// When the server can.
    Tried,
    Tls,
}

/// The attempts at one address, within one time.
struct Visit<'a> {
    to: &'a Connection,
    endpoint: &'a Endpoint,
    target: Target,
    until: Instant,
}

/// Why an attempt failed, and whether another cover may help.
struct Refusal {
    error: Error,
    encrypted: bool,
    /// The handshake failed, or the server's rules do not admit this kind of connection.
    for_cover: bool,
}

impl Visit<'_> {
    /// libpq's order: what `allow` and `prefer` do when the first attempt is not liked.
    async fn pay(&self) -> Result<(Client, Driver)> {
        let mode = match self.target {
            // A socket is not encrypted, whatever is asked for.
            Target::Socket(_) => SslMode::Disable,
            Target::Address(_) => self.to.tls.mode,
        };
        let (first, then) = match mode {
            SslMode::Disable => (Cover::Plain, None),
            SslMode::Allow => (Cover::Plain, Some(Cover::Tls)),
            SslMode::Prefer => (Cover::Tried, Some(Cover::Plain)),
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => (Cover::Tls, None),
        };
        match (self.attempt(first).await, then) {
            (Ok(session), _) => Ok(session),
            (Err(refused), Some(other))
                if refused.for_cover && refused.encrypted == (other == Cover::Plain) =>
            {
                self.attempt(other).await.map_err(|refused| refused.error)
            }
            (Err(refused), _) => Err(refused.error),
        }
    }

    async fn attempt(&self, cover: Cover) -> Result<(Client, Driver), Refusal> {
        let refuse = |encrypted, for_cover| move |error| Refusal { error, encrypted, for_cover };
        let wire = self.reach().await.map_err(refuse(false, false))?;
        let wire = match (wire, cover) {
            (Wire::Tcp(stream), Cover::Tried | Cover::Tls) => {
                match self.negotiate(stream, cover).await.map_err(refuse(false, false))? {
                    Negotiated::Plain(stream) => Wire::Tcp(stream),
                    Negotiated::Tls(stream) => self.encrypt(stream).await.map_err(|err| Refusal {
                        for_cover: err.kind() == ErrorKind::Config,
                        encrypted: true,
                        error: err,
                    })?,
                }
            }
            (wire, _) => wire,
        };
        let encrypted = wire.is_encrypted();
        self.log_in(wire).await.map_err(|error| {
            let for_cover = error.code().is_some_and(|code| code == sqlstate::INVALID_AUTHORIZATION)
                || error.kind() == ErrorKind::Config && error.code().is_none() && encrypted;
            Refusal { error, encrypted, for_cover }
        })
    }

    /// Runs a step within what is left of the time.
    async fn step<T>(&self, what: &str, step: impl Future<Output = Result<T>>) -> Result<T> {
        within(self.until, self.to.connect_timeout, format!("{what} {}", self.endpoint), step).await
    }

    async fn reach(&self) -> Result<Wire> {
        let reaching = async { reach(&self.target, &self.to.keepalive).await.map_err(unreachable) };
        self.step("reaching", reaching).await
    }

    /// Asks the server for TLS.
    async fn negotiate(&self, mut stream: TcpStream, cover: Cover) -> Result<Negotiated> {
        if self.to.tls.direct {
            return Ok(Negotiated::Tls(stream));
        }
        let asking = async {
            stream.write_all(&TLS_REQUEST).await.map_err(unreachable)?;
            let answer = stream.read_u8().await.map_err(unreachable)?;
            match answer {
                b'S' => Ok(Negotiated::Tls(stream)),
                b'N' if cover == Cover::Tried => Ok(Negotiated::Plain(stream)),
                b'N' => Err(Error::new(
                    ErrorKind::Config,
                    format!("the server at {} does not encrypt connections", self.endpoint),
                )
                .hint("turn on `ssl` in its configuration, or take a weaker sslmode")),
                // A server without room for another process says so before it has read anything.
                b'E' => Err(Error::new(ErrorKind::Unreachable, "the server refused the connection at once")),
                _ => Err(Error::new(
                    ErrorKind::Config,
                    format!("what answers at {} is no PostgreSQL server", self.endpoint),
                )),
            }
        };
        self.step("the request for TLS to", asking).await
    }

    async fn encrypt(&self, stream: TcpStream) -> Result<Wire> {
        let connector = TlsConnector::from(Arc::new(tls::client_config(&self.to.tls)?));
        let name = self.endpoint.place.name();
        let server = ServerName::try_from(name.clone()).map_err(|err| {
            Error::new(ErrorKind::Config, format!("no certificate can be made out to {name:?}")).source(err)
        })?;
        let shaking = async {
            let stream = connector
                .connect(server, stream)
                .await
                .map_err(|err| tls::refused(self.endpoint, &err).unwrap_or_else(|| unreachable(err)))?;
            Ok(Wire::Tls(Box::new(stream)))
        };
        self.step("the TLS handshake with", shaking).await
    }

    async fn log_in(&self, wire: Wire) -> Result<(Client, Driver)> {
        let config = self.driver_config(wire.is_encrypted());
        let logging_in = async {
            let (client, mut driver) =
                config.connect_raw(wire, Encrypted).await.map_err(|err| self.log_in_failed(err))?;
            if self.to.writable {
                check_writable(&client, &mut driver).await?;
            }
            Ok((client, driver))
        };
        self.step("logging in at", logging_in).await
    }

    fn driver_config(&self, encrypted: bool) -> Config {
        let mut config = Config::new();
        config
            .user(&self.to.user)
            .dbname(&self.to.dbname)
            .application_name(&self.to.application_name)
            .channel_binding(self.to.channel_binding)
            // Negotiated already: what the driver calls direct hands the stream to `Encrypted` as it is.
            .ssl_negotiation(SslNegotiation::Direct)
            .ssl_mode(if encrypted { DriverSslMode::Require } else { DriverSslMode::Disable });
        // The driver wants a name when it believes to make TLS.
        config.host(self.endpoint.place.name());
        if let Some(options) = &self.to.options {
            config.options(options);
        }
        if let Some(password) = &self.endpoint.password {
            config.password(&password.0);
        }
        config
    }

    fn log_in_failed(&self, err: tokio_postgres::Error) -> Error {
        // Since TLS 1.3 a server judges the client's certificate when the handshake is over.
        if let Some(refused) = std::error::Error::source(&err).and_then(|io| tls::refused(self.endpoint, io))
        {
            return refused;
        }
        let err = Error::from(err);
        if err.code().is_some() || err.kind() == ErrorKind::Unreachable {
            return err;
        }
        let err = err.with_kind(ErrorKind::Config);
        if self.endpoint.password.is_none() {
            return err.hint("give the password in PGPASSWORD, in the connection string, or in ~/.pgpass");
        }
        err
    }
}

enum Negotiated {
    Plain(TcpStream),
    Tls(TcpStream),
}

async fn reach(target: &Target, keepalive: &KeepAlive) -> io::Result<Wire> {
    match target {
        Target::Socket(path) => UnixStream::connect(path).await.map(Wire::Unix),
        Target::Address(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            watch_over(&stream, keepalive)?;
            Ok(Wire::Tcp(stream))
        }
    }
}

/// Has the kernel notice a network that is broken.
fn watch_over(stream: &TcpStream, keepalive: &KeepAlive) -> io::Result<()> {
    setsockopt(stream, sockopt::TcpUserTimeout, &keepalive.user_timeout)?;
    if keepalive.on {
        setsockopt(stream, sockopt::KeepAlive, &true)?;
        setsockopt(stream, sockopt::TcpKeepIdle, &keepalive.idle)?;
        setsockopt(stream, sockopt::TcpKeepInterval, &keepalive.interval)?;
        setsockopt(stream, sockopt::TcpKeepCount, &keepalive.count)?;
    }
    Ok(())
}

/// A standby cannot be of use, and neither can a database that was made read-only.
async fn check_writable(client: &Client, driver: &mut Driver) -> Result<()> {
    let messages = tokio::select! {
        answer = client.simple_query("show transaction_read_only") => answer?,
        ended = driver => {
            let closed = Error::new(ErrorKind::Unreachable, "the server closed the connection");
            return Err(match ended {
                Err(err) => closed.source(err),
                Ok(()) => closed,
            });
        }
    };
    let read_only = messages.iter().any(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0) == Some("on"),
        _ => false,
    });
    if read_only {
        return Err(Error::new(
            ErrorKind::Unreachable,
            "the server takes no writes: it is a standby or read-only",
        ));
    }
    Ok(())
}

async fn within<T>(
    until: Instant,
    limit: Duration,
    what: impl Display,
    step: impl Future<Output = Result<T>>,
) -> Result<T> {
    timeout_at(until, step).await.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Unreachable, format!("{what} did not come to an end within {limit:?}")))
    })
}

fn unreachable(err: io::Error) -> Error {
    Error::new(ErrorKind::Unreachable, err.to_string())
}

/// One error for all servers that were tried. As long as one of them was merely out of reach, it may pass.
fn not_connected(to: &Connection, mut refusals: Vec<(&Endpoint, Error)>) -> Error {
    let may_pass = refusals.iter().any(|(_, err)| err.kind() == ErrorKind::Unreachable);
    let context = format!("cannot connect to the database at {}", to.hosts());
    let error = if refusals.len() == 1 {
        refusals.remove(0).1.within(context)
    } else {
        let told = |(endpoint, err): &(&Endpoint, Error)| format!("{endpoint}: {}", err.in_a_line());
        let each: Vec<String> = refusals.iter().map(told).collect();
        let kind = refusals.last().map_or(ErrorKind::Unreachable, |(_, err)| err.kind());
        Error::new(kind, context).source(each.join("; "))
    };
    let error = if may_pass { error.with_kind(ErrorKind::Unreachable) } else { error };
    if error.hint_text().is_some() {
        return error;
    }
    let hint = if error.kind() == ErrorKind::Unreachable {
        "is PostgreSQL running there? `sisyphus config show` says where each setting comes from"
    } else {
        "check user, password and database name; `sisyphus config show` says where each comes from"
    };
    error.hint(hint)
}
