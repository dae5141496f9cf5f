//! From what was given to a connection, parameter by parameter.

use std::{net::IpAddr, path::Path, time::Duration};

use tokio_postgres::config::ChannelBinding;

use super::{
    Connection, DEFAULT_PORT, Endpoint, Env, KeepAlive, Password, Place, Setting, TlsOptions,
    parameters::{Parameters, wrong},
    passfile::PasswordFile,
};
use crate::error::{Error, ErrorKind, Result};

/// Where Debian's servers have their sockets.
const SOCKET_DIRECTORY: &str = "/var/run/postgresql";
/// How long a host may take to let us in. Without a limit a black hole would hold us for ever, so 0, which is
/// libpq's word for none, means this as well.
const CONNECT_TIMEOUT: u64 = 10;

/// Turns what was given into a connection, parameter by parameter.
pub(super) struct Resolver<'a> {
    given: Parameters,
    env: Env<'a>,
    settings: Vec<Setting>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(given: Parameters, env: Env<'a>) -> Self {
        Self { given, env, settings: Vec::new() }
    }

    pub(super) fn resolve(mut self) -> Result<Connection> {
        let places = self.places()?;
        let ports = self.ports(places.len())?;
        let user = self.text("user", || Ok((os_user()?, "operating system user")))?;
        let dbname = self.text("dbname", || Ok((user.clone(), "default: as the user")))?;
        let passwords = self.passwords(&places, &ports, [&dbname, &user])?;
        let endpoints: Vec<Endpoint> = places
            .into_iter()
            .zip(ports)
            .zip(passwords)
            .map(|((place, port), password)| Endpoint { place, port, password })
            .collect();
        let tls = self.tls()?;
        let fallback = self.given.value("fallback_application_name").unwrap_or("sisyphus").to_owned();
        let application_name = self.text("application_name", || Ok((fallback, "default")))?;
        let options = self.given.value("options").map(str::to_owned);
        self.note_given("options");
        let writable = self.writable(endpoints.len())?;
        let shuffle =
            self.given.word("load_balance_hosts", &[("disable", false), ("random", true)])?.unwrap_or(false);
        let connect_timeout = self.connect_timeout()?;
        let (keepalive, channel_binding) = (self.keepalive()?, self.channel_binding()?);
        for name in ["load_balance_hosts", "channel_binding", "tcp_user_timeout"] {
            self.note_given(name);
        }
        Ok(Connection {
            endpoints,
            user,
            dbname,
            application_name,
            options,
            connect_timeout,
            writable,
            shuffle,
            channel_binding,
            keepalive,
            tls,
            settings: self.settings,
        })
    }

    fn note(&mut self, name: &'static str, value: impl Into<String>, origin: &str) {
        self.settings.push(Setting { name, value: value.into(), origin: origin.to_owned() });
    }

    /// Shows a parameter that has no default worth a line.
    fn note_given(&mut self, name: &'static str) {
        if let Some(given) = self.given.get(name).cloned() {
            self.note(name, given.value, &given.origin);
        }
    }

    /// A parameter that is text, or its default with the origin of that.
    fn text(
        &mut self,
        name: &'static str,
        default: impl FnOnce() -> Result<(String, &'static str)>,
    ) -> Result<String> {
        let (value, origin) = match self.given.get(name) {
            Some(given) => (given.value.clone(), given.origin.clone()),
            None => default().map(|(value, origin)| (value, origin.to_owned()))?,
        };
        self.note(name, value.clone(), &origin);
        Ok(value)
    }

    fn places(&mut self) -> Result<Vec<Place>> {
        let local = if Path::new(SOCKET_DIRECTORY).is_dir() { SOCKET_DIRECTORY } else { "localhost" };
        let place = |name: &str, address| {
            let name = if name.is_empty() { local } else { name };
            if name.starts_with(['/', '@']) {
                // A socket without a file, in the kernel's spelling.
                Place::Socket(name.replacen('@', "\0", usize::from(name.starts_with('@'))).into())
            } else {
                Place::Network(name.to_owned(), address)
            }
        };
        let list = |text: &str| text.split(',').map(|item| item.trim().to_owned()).collect::<Vec<_>>();
        let names = self.given.get("host").map(|given| list(&given.value));
        let addresses = match self.given.get("hostaddr") {
            None => Vec::new(),
            Some(given) => list(&given.value)
                .iter()
                .map(|text| text.parse::<IpAddr>())
                .collect::<Result<Vec<_>, _>>()
                .map_err(|e| wrong("hostaddr", given).hint("it is an IP address").source(e))?,
        };
        let places: Vec<Place> = match names {
            Some(names) if addresses.is_empty() => names.iter().map(|name| place(name, None)).collect(),
            Some(names) if names.len() == addresses.len() => {
                names.iter().zip(addresses).map(|(name, at)| place(name, Some(at))).collect()
            }
            Some(names) => {
                let text = format!("{} hosts and {} addresses were given", names.len(), addresses.len());
                return Err(Error::new(ErrorKind::Config, text)
                    .hint("give hostaddr as many addresses as host has names, or leave it out"));
            }
            None if addresses.is_empty() => vec![place("", None)],
            None => addresses.into_iter().map(|at| Place::Network(at.to_string(), Some(at))).collect(),
        };
        let shown: Vec<String> = places.iter().map(Place::name).collect();
        let origin = self.given.get("host").or(self.given.get("hostaddr")).map(|given| given.origin.clone());
        self.note("host", shown.join(","), origin.as_deref().unwrap_or("default"));
        Ok(places)
    }

    /// One port a host.
    fn ports(&mut self, hosts: usize) -> Result<Vec<u16>> {
        let (mut ports, origin) = match self.given.get("port") {
            None => (vec![DEFAULT_PORT], "default".to_owned()),
            Some(given) => {
                let parsed = given.value.split(',').map(|port| match port.trim() {
                    "" => Ok(DEFAULT_PORT),
                    port => port.parse().ok().filter(|port| *port > 0).ok_or(()),
                });
                let ports = parsed.collect::<Result<Vec<u16>, ()>>();
                let ports =
                    ports.map_err(|()| wrong("port", given).hint("it is a port number, 1 to 65535"))?;
                if ports.len() > 1 && ports.len() != hosts {
                    let hint = format!("give one port, or one for each of the {hosts} hosts");
                    return Err(wrong("port", given).hint(hint));
                }
                (ports, given.origin.clone())
            }
        };
        let shown: Vec<String> = ports.iter().map(u16::to_string).collect();
        self.note("port", shown.join(","), &origin);
        if let [single] = ports[..] {
            ports.resize(hosts, single);
        }
        Ok(ports)
    }

    /// One for each host: they may stand on different lines of the password file.
    fn passwords(
        &mut self,
        places: &[Place],
        ports: &[u16],
        [dbname, user]: [&String; 2],
    ) -> Result<Vec<Option<Password>>> {
        if let Some(given) = self.given.get("password").cloned() {
            self.note("password", "(hidden)", &given.origin);
            return Ok(vec![Some(Password(given.value)); places.len()]);
        }
        let found = match PasswordFile::open(self.given.value("passfile"), self.env)? {
            Some(file) => {
                let look = |(place, port): (&Place, &u16)| {
                    file.look_up([&place.name(), &port.to_string(), dbname, user]).map(Password)
                };
                let found: Vec<_> = places.iter().zip(ports).map(look).collect();
                if found.iter().any(Option::is_some) {
                    self.note("password", "(hidden)", &file.path);
                    return Ok(found);
                }
                found
            }
            None => vec![None; places.len()],
        };
        self.note("password", "none", "default");
        Ok(found)
    }

    fn tls(&mut self) -> Result<TlsOptions> {
        let tls = TlsOptions::from(&self.given, self.env)?;
        let origin = self.given.get("sslmode").map(|given| given.origin.clone());
        self.note("sslmode", tls.mode.word(), origin.as_deref().unwrap_or("default"));
        for name in [
            "sslnegotiation",
            "sslrootcert",
            "sslcert",
            "sslkey",
            "sslcertmode",
            "sslcrl",
            "sslsni",
            "ssl_min_protocol_version",
            "ssl_max_protocol_version",
        ] {
            self.note_given(name);
        }
        Ok(tls)
    }

    /// Among several hosts only the primary is of use: everything here writes.
    fn writable(&mut self, hosts: usize) -> Result<bool> {
        let words = [("any", false), ("read-write", true), ("primary", true)];
        let (writable, origin) = match self.given.word("target_session_attrs", &words)? {
            Some(writable) => {
                (writable, self.given.get("target_session_attrs").map(|given| given.origin.clone()))
            }
            None => (hosts > 1, (hosts > 1).then(|| "default with several hosts".to_owned())),
        };
        if let Some(origin) = origin {
            self.note("target_session_attrs", if writable { "read-write" } else { "any" }, &origin);
        }
        Ok(writable)
    }

    fn connect_timeout(&mut self) -> Result<Duration> {
        let given = self.given.number::<i64>("connect_timeout", "a number of seconds")?;
        let seconds = given.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0).unwrap_or(CONNECT_TIMEOUT);
        let origin = self.given.get("connect_timeout").map(|given| given.origin.clone());
        self.note("connect_timeout", seconds.to_string(), origin.as_deref().unwrap_or("default"));
        Ok(Duration::from_secs(seconds))
    }

    /// A host that is gone must be noticed within seconds, not after the kernel's two hours.
    fn keepalive(&self) -> Result<KeepAlive> {
        let number = |name, default: u32| -> Result<u32> {
            let given = self.given.number::<u32>(name, "a whole number; 0 is the default")?;
            Ok(given.filter(|n| *n > 0).unwrap_or(default))
        };
        Ok(KeepAlive {
            on: self.given.word("keepalives", &[("1", true), ("0", false)])?.unwrap_or(true),
            idle: number("keepalives_idle", 10)?,
            interval: number("keepalives_interval", 5)?,
            count: number("keepalives_count", 3)?,
            user_timeout: number("tcp_user_timeout", 30_000)?,
        })
    }

    fn channel_binding(&self) -> Result<ChannelBinding> {
        let words = [
            ("disable", ChannelBinding::Disable),
            ("prefer", ChannelBinding::Prefer),
            ("require", ChannelBinding::Require),
        ];
        Ok(self.given.word("channel_binding", &words)?.unwrap_or(ChannelBinding::Prefer))
    }
}

fn os_user() -> Result<String> {
    let uid = nix::unistd::geteuid();
    match nix::unistd::User::from_uid(uid) {
        Ok(Some(user)) => Ok(user.name),
        _ => Err(Error::new(ErrorKind::Config, format!("user id {uid} has no name on this machine"))
            .hint("set PGUSER to the database role to connect as")),
    }
}
