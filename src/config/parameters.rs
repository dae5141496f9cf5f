//! libpq's connection parameters: their variables, and what becomes of them here.

use std::collections::HashMap;

use super::Env;
use crate::error::{Error, ErrorKind, Result};

/// What becomes of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Support {
    /// It does what it does in libpq.
    Used,
    /// It changes nothing here, and nothing that anybody relies on.
    Ignored,
    /// Somebody relies on it, and it is not there.
    Refused,
}

struct Parameter {
    name: &'static str,
    variable: Option<&'static str>,
    support: Support,
}

const fn used(name: &'static str, variable: &'static str) -> Parameter {
    Parameter { name, variable: Some(variable), support: Support::Used }
}

const fn unnamed(name: &'static str, support: Support) -> Parameter {
    Parameter { name, variable: None, support }
}

const fn other(name: &'static str, variable: &'static str, support: Support) -> Parameter {
    Parameter { name, variable: Some(variable), support }
}

/// All of libpq's, up to version 18.
const PARAMETERS: &[Parameter] = &[
    used("service", "PGSERVICE"),
    used("servicefile", "PGSERVICEFILE"),
    used("host", "PGHOST"),
    used("hostaddr", "PGHOSTADDR"),
    used("port", "PGPORT"),
    used("user", "PGUSER"),
    used("dbname", "PGDATABASE"),
    used("password", "PGPASSWORD"),
    used("passfile", "PGPASSFILE"),
    used("connect_timeout", "PGCONNECT_TIMEOUT"),
    used("application_name", "PGAPPNAME"),
    unnamed("fallback_application_name", Support::Used),
    used("options", "PGOPTIONS"),
    used("target_session_attrs", "PGTARGETSESSIONATTRS"),
    used("load_balance_hosts", "PGLOADBALANCEHOSTS"),
    used("channel_binding", "PGCHANNELBINDING"),
    used("sslmode", "PGSSLMODE"),
    used("sslnegotiation", "PGSSLNEGOTIATION"),
    used("sslrootcert", "PGSSLROOTCERT"),
    used("sslcert", "PGSSLCERT"),
    used("sslkey", "PGSSLKEY"),
    used("sslcertmode", "PGSSLCERTMODE"),
    used("sslcrl", "PGSSLCRL"),
    used("sslsni", "PGSSLSNI"),
    used("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION"),
    used("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION"),
    unnamed("keepalives", Support::Used),
    unnamed("keepalives_idle", Support::Used),
    unnamed("keepalives_interval", Support::Used),
    unnamed("keepalives_count", Support::Used),
    unnamed("tcp_user_timeout", Support::Used),
    used("gssencmode", "PGGSSENCMODE"),
    other("client_encoding", "PGCLIENTENCODING", Support::Ignored),
    other("sslcompression", "PGSSLCOMPRESSION", Support::Ignored),
    other("krbsrvname", "PGKRBSRVNAME", Support::Ignored),
    other("gsslib", "PGGSSLIB", Support::Ignored),
    other("gssdelegation", "PGGSSDELEGATION", Support::Ignored),
    other("min_protocol_version", "PGMINPROTOCOLVERSION", Support::Refused),
    other("max_protocol_version", "PGMAXPROTOCOLVERSION", Support::Ignored),
    other("requirepeer", "PGREQUIREPEER", Support::Refused),
    other("require_auth", "PGREQUIREAUTH", Support::Refused),
    other("sslcrldir", "PGSSLCRLDIR", Support::Refused),
    unnamed("sslpassword", Support::Refused),
    unnamed("sslkeylogfile", Support::Refused),
    unnamed("scram_client_key", Support::Refused),
    unnamed("scram_server_key", Support::Refused),
    unnamed("replication", Support::Refused),
    unnamed("oauth_issuer", Support::Refused),
    unnamed("oauth_client_id", Support::Refused),
    unnamed("oauth_client_secret", Support::Refused),
    unnamed("oauth_scope", Support::Refused),
];

/// A value and where it came from.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) value: String,
    pub(super) origin: String,
}

/// The parameters that were given, each by the first source that has it.
#[derive(Debug, Default)]
pub(super) struct Parameters(HashMap<&'static str, Given>);

impl Parameters {
    /// Takes the options of a connection string or of a service; an empty value counts as none.
    pub(super) fn take(&mut self, options: Vec<(String, String)>, origin: &str) -> Result<()> {
        // Of a string that names an option twice the last counts, as in libpq.
        let mut these = HashMap::new();
        for (name, value) in options {
            let parameter = PARAMETERS.iter().find(|p| p.name == name).ok_or_else(|| {
                Error::new(ErrorKind::Config, format!("{origin} has the unknown option {name:?}"))
                    .hint(unknown_hint(&name))
            })?;
            these.insert(parameter.name, (parameter, value));
        }
        for (name, (parameter, value)) in these {
            self.add(parameter, name, value, origin)?;
        }
        Ok(())
    }

    /// Takes from libpq's variables what nothing else gave.
    pub(super) fn take_variables(&mut self, env: Env) -> Result<()> {
        // An address in the environment belongs to the host in the environment.
        let host_is_given = self.get("host").is_some();
        for parameter in PARAMETERS {
            let Some(variable) = parameter.variable else { continue };
            if parameter.name == "hostaddr" && host_is_given {
                continue;
            }
            if let Some(value) = env(variable) {
                self.add(parameter, variable, value, variable)?;
            }
        }
        Ok(())
    }

    pub(super) fn get(&self, name: &str) -> Option<&Given> {
        self.0.get(name)
    }

    /// A value, without its origin.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.get(name).map(|given| given.value.as_str())
    }

    /// A value of one of these words.
    pub(super) fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<Option<T>> {
        let Some(given) = self.get(name) else { return Ok(None) };
        match words.iter().find(|(word, _)| *word == given.value) {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => {
                let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                Err(wrong(name, given).hint(format!("it can be {}", words.join(", "))))
            }
        }
    }

    /// A value that is a whole number.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str, what: &str) -> Result<Option<T>> {
        let Some(given) = self.get(name) else { return Ok(None) };
        given.value.trim().parse().map(Some).map_err(|_| wrong(name, given).hint(format!("it is {what}")))
    }

    fn add(&mut self, parameter: &Parameter, named: &str, value: String, origin: &str) -> Result<()> {
        if value.is_empty() || self.0.contains_key(parameter.name) {
            return Ok(());
        }
        match parameter.support {
            Support::Ignored => {}
            Support::Used => {
                self.0.insert(parameter.name, Given { value, origin: origin.to_owned() });
            }
            Support::Refused => {
                let place = if named == origin { String::new() } else { format!(" in {origin}") };
                return Err(Error::new(
                    ErrorKind::Config,
                    format!("{named}{place} is an option of libpq that this program does not have"),
                )
                .hint("leave it out"));
            }
        }
        Ok(())
    }
}

/// A value that cannot be used, named as a person gave it.
pub(super) fn wrong(name: &str, given: &Given) -> Error {
    let Given { value, origin } = given;
    let text = if origin.starts_with("PG") {
        format!("{origin}={value:?} cannot be used")
    } else {
        format!("{name}={value:?} in {origin} cannot be used")
    };
    Error::new(ErrorKind::Config, text)
}

fn unknown_hint(name: &str) -> String {
    let close = PARAMETERS.iter().find(|p| {
        p.support == Support::Used && (p.name.replace('_', "") == name.replace(['_', '-'], "").to_lowercase())
    });
    let alias = match name {
        "database" | "db" => Some("dbname"),
        "username" => Some("user"),
        "hostname" | "server" => Some("host"),
        "timeout" => Some("connect_timeout"),
        _ => close.map(|p| p.name),
    };
    match alias {
        Some(name) => format!("libpq calls it {name}"),
        None => "the names are libpq's: host, port, dbname, user, sslmode, ...".to_owned(),
    }
}
