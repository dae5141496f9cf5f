//! Which database: from a connection string, a service, libpq's variables or the defaults, with the origin of
//! every value.

mod conninfo;
mod parameters;
mod passfile;
mod resolver;
mod service;
mod tls;

use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

use tokio_postgres::config::ChannelBinding;

pub use self::tls::{CertificateFile, Roots, SslMode, TlsOptions};
use self::{parameters::Parameters, resolver::Resolver};
use crate::error::{Error, ErrorKind, Result};

const DEFAULT_PORT: u16 = 5432;

/// A value that is used and where it came from, for `sisyphus config show`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// libpq's name of the parameter.
    pub name: &'static str,
    /// What is used; the password is never here.
    pub value: String,
    /// A flag, a variable, a file, or `default`.
    pub origin: String,
}

/// A password that no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Where a server may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A socket directory.
    Socket(PathBuf),
    /// A name, or an address that stands for itself; with an address the name is not looked up.
    Network(String, Option<IpAddr>),
}

/// One of the servers to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is.
    pub place: Place,
    /// Its port.
    pub port: u16,
    /// The password for this server.
    pub password: Option<Password>,
}

/// How a broken network is noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepAlive {
    /// Whether the kernel asks at all.
    pub on: bool,
    /// Seconds of silence before the first question.
    pub idle: u32,
    /// Seconds between questions.
    pub interval: u32,
    /// Unanswered questions that end the connection.
    pub count: u32,
    /// Milliseconds that something sent may stay unconfirmed.
    pub user_timeout: u32,
}

/// A database to connect to.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The servers, in the order in which they are tried.
    pub endpoints: Vec<Endpoint>,
    /// The role.
    pub user: String,
    /// The database.
    pub dbname: String,
    /// What a session is called in `pg_stat_activity`.
    pub application_name: String,
    /// Options for the server's command line.
    pub options: Option<String>,
    /// How long a server may take until the session stands.
    pub connect_timeout: Duration,
    /// Whether a server that takes no writes will not do.
    pub writable: bool,
    /// Whether the servers are tried in random order.
    pub shuffle: bool,
    /// Whether the password is bound to the server's certificate.
    pub channel_binding: ChannelBinding,
    /// How a broken network is noticed.
    pub keepalive: KeepAlive,
    /// How it is encrypted.
    pub tls: TlsOptions,
    /// The same for people.
    pub settings: Vec<Setting>,
}

/// Reads one environment variable; tests give their own.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The variables of this process. One that is empty counts as not set, as in libpq.
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Connection {
    /// Settles the connection from `--database-url` or the URL variables, then the service, libpq's variables and
    /// the defaults, for each parameter on its own.
    pub fn resolve(flag: Option<&str>, env: Env) -> Result<Self> {
        let url = match flag {
            Some(url) => Some(("--database-url", url.to_owned())),
            None => ["SISYPHUS_DATABASE_URL", "DATABASE_URL"]
                .into_iter()
                .find_map(|name| Some((name, env(name)?))),
        };
        Self::resolve_url(url.as_ref().map(|(origin, url)| (*origin, url.as_str())), env)
    }

    /// As [`Self::resolve`], with a connection string of this origin.
    pub fn resolve_url(url: Option<(&str, &str)>, env: Env) -> Result<Self> {
        let mut given = Parameters::default();
        if let Some((origin, url)) = url {
            given.take(parse_url(url, origin)?, origin)?;
        }
        let service = given.value("service").map(str::to_owned).or_else(|| env("PGSERVICE"));
        if let Some(name) = &service {
            let file = given.value("servicefile").map(str::to_owned).or_else(|| env("PGSERVICEFILE"));
            let (options, file) = service::look_up(name, file.as_deref(), env)?;
            given.take(options, &format!("service {name} of {file}"))?;
        }
        given.take_variables(env)?;
        Resolver::new(given, env).resolve()
    }

    /// The hosts as a person would write them, with ports other than the usual one, for messages.
    pub fn hosts(&self) -> String {
        let tried: Vec<String> = self.endpoints.iter().map(ToString::to_string).collect();
        tried.join(", ")
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place.name())?;
        if self.port == DEFAULT_PORT { Ok(()) } else { write!(f, " port {}", self.port) }
    }
}

impl Place {
    /// A host as it was given: name, address or socket directory.
    pub fn name(&self) -> String {
        match self {
            Self::Socket(path) => path.display().to_string(),
            Self::Network(name, _) => name.clone(),
        }
    }
}

/// The text is not repeated: it may hold a password.
fn parse_url(url: &str, origin: &str) -> Result<Vec<(String, String)>> {
    conninfo::parse(url).map_err(|why| {
        Error::new(ErrorKind::Config, format!("{origin} is not a connection string that can be used"))
            .hint("for example postgresql://user@host:5432/database, or host=/var/run/postgresql dbname=jobs")
            .source(why)
    })
}
