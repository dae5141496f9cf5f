//! Which database: from a URL, libpq's variables or the defaults, with the origin of every value.

use std::{path::Path, str::FromStr, time::Duration};

use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use crate::{
    error::{Error, ErrorKind, Result},
    passfile,
};

/// Where Debian's servers have their sockets.
const SOCKET_DIRECTORY: &str = "/var/run/postgresql";
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

/// A database to connect to.
#[derive(Debug, Clone)]
pub struct Connection {
    /// What the driver gets.
    pub config: tokio_postgres::Config,
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
    /// Settles the connection from `--database-url`, the URL variables, libpq's variables and the defaults,
    /// in this order and for each parameter on its own.
    pub fn resolve(flag: Option<&str>, env: Env) -> Result<Self> {
        let url = match flag {
            Some(url) => Some(("--database-url", url.to_owned())),
            None => ["SISYPHUS_DATABASE_URL", "DATABASE_URL"]
                .into_iter()
                .find_map(|name| Some((name, env(name)?))),
        };
        let (config, origin) = match url {
            Some((origin, url)) => (parse_url(&url, origin)?, origin),
            None => (tokio_postgres::Config::new(), ""),
        };
        if let Some(service) = env("PGSERVICE") {
            return Err(Error::new(
                ErrorKind::Config,
                format!("PGSERVICE={service}: connection service files are not supported"),
            )
            .hint("unset PGSERVICE and give the database as --database-url or in PGHOST, PGPORT, PGUSER and PGDATABASE"));
        }
        let mut resolver = Resolver { config, origin, env, settings: Vec::new() };
        resolver.host()?;
        resolver.port()?;
        resolver.user()?;
        resolver.database();
        resolver.password()?;
        resolver.session()?;
        resolver.liveliness()?;
        Ok(Self { config: resolver.config, settings: resolver.settings })
    }

    /// The hosts as a person would write them, with ports other than the usual one, for messages.
    pub fn hosts(&self) -> String {
        let ports = self.config.get_ports();
        let tried: Vec<String> = hosts(&self.config)
            .into_iter()
            .enumerate()
            .map(|(at, host)| match ports.get(at).or(ports.first()) {
                Some(&port) if port != DEFAULT_PORT => format!("{host} port {port}"),
                _ => host,
            })
            .collect();
        tried.join(", ")
    }
}

/// Fills in, parameter by parameter, what the URL left open.
struct Resolver<'a> {
    config: tokio_postgres::Config,
    origin: &'static str,
    env: Env<'a>,
    settings: Vec<Setting>,
}

impl Resolver<'_> {
    fn note(&mut self, name: &'static str, value: impl Into<String>, origin: &str) {
        self.settings.push(Setting { name, value: value.into(), origin: origin.to_owned() });
    }

    fn host(&mut self) -> Result<()> {
        let mut origin = self.origin;
        if self.config.get_hosts().is_empty() && self.config.get_hostaddrs().is_empty() {
            if let Some(list) = (self.env)("PGHOST") {
                origin = "PGHOST";
                for host in list.split(',') {
                    self.config.host(host.trim());
                }
            } else if let Some(address) = (self.env)("PGHOSTADDR") {
                origin = "PGHOSTADDR";
                self.config
                    .hostaddr(address.parse().map_err(|e| bad("PGHOSTADDR", &address, "an IP address", e))?);
            } else {
                origin = "default";
                let local = Path::new(SOCKET_DIRECTORY).is_dir();
                self.config.host(if local { SOCKET_DIRECTORY } else { "localhost" });
            }
        }
        let names = hosts(&self.config);
        self.note("host", names.join(","), origin);
        Ok(())
    }

    fn port(&mut self) -> Result<()> {
        let mut origin = self.origin;
        if self.config.get_ports().is_empty() {
            if let Some(list) = (self.env)("PGPORT") {
                origin = "PGPORT";
                for port in list.split(',') {
                    let port = port.trim().parse().map_err(|e| bad("PGPORT", &list, "a port number", e))?;
                    self.config.port(port);
                }
            } else {
                origin = "default";
                self.config.port(DEFAULT_PORT);
            }
        }
        let ports: Vec<String> = self.config.get_ports().iter().map(u16::to_string).collect();
        self.note("port", ports.join(","), origin);
        Ok(())
    }

    fn user(&mut self) -> Result<()> {
        let mut origin = self.origin;
        if self.config.get_user().is_none() {
            if let Some(user) = (self.env)("PGUSER") {
                origin = "PGUSER";
                self.config.user(user);
            } else {
                origin = "operating system user";
                self.config.user(os_user()?);
            }
        }
        self.note("user", self.config.get_user().unwrap_or_default().to_owned(), origin);
        Ok(())
    }

    fn database(&mut self) {
        let mut origin = self.origin;
        if self.config.get_dbname().is_none() {
            if let Some(name) = (self.env)("PGDATABASE") {
                origin = "PGDATABASE";
                self.config.dbname(name);
            } else {
                origin = "default: as the user";
                let user = self.config.get_user().unwrap_or_default().to_owned();
                self.config.dbname(user);
            }
        }
        self.note("dbname", self.config.get_dbname().unwrap_or_default().to_owned(), origin);
    }

    fn password(&mut self) -> Result<()> {
        let mut origin = self.origin.to_owned();
        if self.config.get_password().is_none() {
            if let Some(password) = (self.env)("PGPASSWORD") {
                origin = "PGPASSWORD".to_owned();
                self.config.password(password);
            } else if let Some((password, file)) = passfile::look_up(&self.config, self.env)? {
                origin = file;
                self.config.password(password);
            } else {
                self.note("password", "none", "default");
                return Ok(());
            }
        }
        self.note("password", "(hidden)", &origin);
        Ok(())
    }

    fn session(&mut self) -> Result<()> {
        match (self.env)("PGSSLMODE").as_deref() {
            None => {}
            Some("disable") => drop(self.config.ssl_mode(SslMode::Disable)),
            Some("prefer" | "allow") => drop(self.config.ssl_mode(SslMode::Prefer)),
            Some(mode) => return Err(no_tls(&format!("PGSSLMODE={mode}"))),
        }
        if self.config.get_ssl_mode() == SslMode::Require {
            return Err(no_tls(&format!("sslmode=require in {}", self.origin)));
        }
        self.note("sslmode", "disable", "this program has no TLS yet");

        let mut origin = self.origin;
        if self.config.get_application_name().is_none() {
            let given = (self.env)("PGAPPNAME");
            origin = if given.is_some() { "PGAPPNAME" } else { "default" };
            self.config.application_name(given.unwrap_or_else(|| "sisyphus".to_owned()));
        }
        self.note(
            "application_name",
            self.config.get_application_name().unwrap_or_default().to_owned(),
            origin,
        );

        if let (None, Some(options)) = (self.config.get_options(), (self.env)("PGOPTIONS")) {
            self.config.options(&options);
            self.note("options", options, "PGOPTIONS");
        }
        // Among several hosts only the primary is of use: everything here writes.
        if hosts(&self.config).len() > 1 && self.config.get_target_session_attrs() == TargetSessionAttrs::Any
        {
            self.config.target_session_attrs(TargetSessionAttrs::ReadWrite);
            self.note("target_session_attrs", "read-write", "default with several hosts");
        }
        Ok(())
    }

    /// A host that is gone must be noticed within seconds, not after the kernel's two hours.
    fn liveliness(&mut self) -> Result<()> {
        let mut origin = self.origin;
        if self.config.get_connect_timeout().is_none() {
            let seconds = match (self.env)("PGCONNECT_TIMEOUT") {
                Some(text) => {
                    origin = "PGCONNECT_TIMEOUT";
                    text.trim()
                        .parse()
                        .map_err(|e| bad("PGCONNECT_TIMEOUT", &text, "a number of seconds", e))?
                }
                None => {
                    origin = "default";
                    10
                }
            };
            self.config.connect_timeout(Duration::from_secs(seconds));
        }
        let seconds = self.config.get_connect_timeout().map_or(0, Duration::as_secs);
        self.note("connect_timeout", seconds.to_string(), origin);
        if self.config.get_keepalives_idle() == Duration::from_secs(2 * 60 * 60) {
            self.config.keepalives_idle(Duration::from_secs(10));
        }
        if self.config.get_keepalives_interval().is_none() {
            self.config.keepalives_interval(Duration::from_secs(5));
        }
        if self.config.get_keepalives_retries().is_none() {
            self.config.keepalives_retries(3);
        }
        Ok(())
    }
}

fn parse_url(url: &str, origin: &'static str) -> Result<tokio_postgres::Config> {
    tokio_postgres::Config::from_str(url).map_err(|e| {
        // The driver's "invalid connection string" says nothing; its cause names the option.
        let error = Error::new(
            ErrorKind::Config,
            format!("{origin} is not a connection string that can be used"),
        )
        .hint("for example postgresql://user@host:5432/database, or host=/var/run/postgresql dbname=jobs");
        match e.into_source() {
            Some(cause) => error.source(cause),
            None => error,
        }
    })
}

fn no_tls(what: &str) -> Error {
    Error::new(ErrorKind::Config, format!("{what}: this program cannot encrypt its connection yet"))
        .hint("use sslmode=prefer or disable, and a Unix socket or a tunnel where the network is not trusted")
}

fn bad(
    name: &str,
    value: &str,
    wanted: &str,
    cause: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    Error::new(ErrorKind::Config, format!("{name}={value:?} is not {wanted}")).source(cause)
}

fn os_user() -> Result<String> {
    let uid = nix::unistd::geteuid();
    match nix::unistd::User::from_uid(uid) {
        Ok(Some(user)) => Ok(user.name),
        _ => Err(Error::new(ErrorKind::Config, format!("user id {uid} has no name on this machine"))
            .hint("set PGUSER to the database role to connect as")),
    }
}

/// Host names, socket directories and addresses of a configuration.
pub(crate) fn hosts(config: &tokio_postgres::Config) -> Vec<String> {
    if config.get_hosts().is_empty() {
        return config.get_hostaddrs().iter().map(ToString::to_string).collect();
    }
    config
        .get_hosts()
        .iter()
        .map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        })
        .collect()
}
