//! Opening a session: each host with its own time limit, and settings that bound every wait.

use std::time::Duration;

use deadpool_postgres::Connect;
use futures_util::future::BoxFuture;
use tokio::{runtime::Handle, task::JoinHandle, time::timeout};
use tokio_postgres::{
    Client, Config, Connection, Socket,
    config::{Host, LoadBalanceHosts, TargetSessionAttrs},
    tls::{NoTls, NoTlsStream},
    types::Type,
};

use crate::error::{Error, ErrorKind, Result};

/// The driver's own limit covers the TCP handshake alone; name look-up, authentication and the question
/// whether the server takes writes hang for ever in a black hole.
const LONGEST_CONNECT: Duration = Duration::from_secs(5);
/// How long the server works on a statement. Below [`CALL_TIMEOUT`], so that a statement whose client has
/// given up does not commit later.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);
const LOCK_TIMEOUT: Duration = Duration::from_secs(3);
const IDLE_IN_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a caller waits for the answer to one call.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(12);

/// PostgreSQL cuts longer names.
const LONGEST_NAME: usize = 63;

/// The driver's half of a session; nothing happens unless somebody polls it.
pub type Driver = Connection<Socket, NoTlsStream>;

/// Opens sessions of one role (what they are for) of one guardian.
#[derive(Debug, Clone)]
pub struct Sessions {
    config: Config,
    application_name: String,
}

impl Sessions {
    /// `role` and `guardian` are seen in `pg_stat_activity` as `sisyphus:<role>:<guardian>`.
    pub fn new(mut config: Config, role: &str, guardian: &str) -> Self {
        let application_name = clamp(format!("sisyphus:{role}:{guardian}"));
        config.application_name(&application_name);
        if config.get_target_session_attrs() == TargetSessionAttrs::Any {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        Self { config, application_name }
    }

    /// What the sessions connect with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Opens a session. `drive` gets the connection and starts the task that polls it.
    pub async fn open<F>(&self, drive: F) -> Result<(Client, JoinHandle<()>)>
    where
        F: FnOnce(Driver) -> JoinHandle<()>,
    {
        self.try_open(drive).await.map_err(connect_error)
    }

    async fn try_open<F>(&self, drive: F) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error>
    where
        F: FnOnce(Driver) -> JoinHandle<()>,
    {
        let (client, connection) = self.connect_any().await?;
        let driver = drive(connection);
        let set_up = timeout(LONGEST_CONNECT, self.set_up(&client)).await;
        match set_up.unwrap_or_else(|_| Err(tokio_postgres::Error::__private_api_timeout())) {
            Ok(()) => Ok((client, driver)),
            Err(err) => {
                driver.abort();
                Err(err)
            }
        }
    }

    /// Tries the hosts in turn, each within its own limit.
    async fn connect_any(&self) -> Result<(Client, Driver), tokio_postgres::Error> {
        let limit =
            self.config.get_connect_timeout().map_or(LONGEST_CONNECT, |given| LONGEST_CONNECT.min(*given));
        let mut hosts = single_hosts(&self.config);
        if self.config.get_load_balance_hosts() == LoadBalanceHosts::Random {
            fastrand::shuffle(&mut hosts);
        }
        let mut last = None;
        for host in hosts {
            match timeout(limit, host.connect(NoTls)).await {
                Ok(Ok(connected)) => return Ok(connected),
                Ok(Err(err)) => last = Some(err),
                Err(_) => last = Some(tokio_postgres::Error::__private_api_timeout()),
            }
        }
        match last {
            Some(err) => Err(err),
            // Without any host; the driver has the words for it.
            None => self.config.connect(NoTls).await,
        }
    }

    /// Set by a statement and not by start-up options, which poolers refuse. Compiling costs 200 ms in
    /// statements that take one: over the partitions of the history the estimates look dear.
    async fn set_up(&self, client: &Client) -> Result<(), tokio_postgres::Error> {
        let ms = |limit: Duration| limit.as_millis().to_string();
        let (statement, lock, idle) =
            (ms(STATEMENT_TIMEOUT), ms(LOCK_TIMEOUT), ms(IDLE_IN_TRANSACTION_TIMEOUT));
        client
            .query_typed(
                "select set_config('application_name', $1, false), set_config('statement_timeout', $2, false),
                        set_config('lock_timeout', $3, false),
                        set_config('idle_in_transaction_session_timeout', $4, false),
                        set_config('TimeZone', 'UTC', false), set_config('jit', 'off', false)",
                &[
                    (&self.application_name, Type::TEXT),
                    (&statement, Type::TEXT),
                    (&lock, Type::TEXT),
                    (&idle, Type::TEXT),
                ],
            )
            .await
            .map(drop)
    }
}

impl Connect for Sessions {
    fn connect(&self, _: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), tokio_postgres::Error>> {
        Box::pin(self.try_open(|connection| {
            Handle::current().spawn(async move {
                if let Err(err) = connection.await {
                    tracing::debug!(error = %err, "a pooled connection has ended");
                }
            })
        }))
    }
}

/// Whatever the server did not say itself, a timeout included, means that it is out of reach.
pub(super) fn connect_error(err: tokio_postgres::Error) -> Error {
    let said = err.as_db_error().is_some();
    let err = Error::from(err);
    if said { err } else { err.with_kind(ErrorKind::Unreachable) }
}

/// The name, cut at a character when it is too long; what stands first identifies it.
fn clamp(mut name: String) -> String {
    if name.len() > LONGEST_NAME {
        let mut end = LONGEST_NAME;
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name.truncate(end);
    }
    name
}

/// One configuration a host: the driver tries all hosts of a configuration within one future, and one that
/// swallows packets would use up the time of all.
fn single_hosts(config: &Config) -> Vec<Config> {
    let count = config.get_hosts().len().max(config.get_hostaddrs().len());
    if count < 2 {
        return if count == 1 { vec![config.clone()] } else { Vec::new() };
    }
    (0..count).map(|index| single_host(config, index)).collect()
}

fn single_host(config: &Config, index: usize) -> Config {
    let mut single = Config::new();
    match config.get_hosts().get(index) {
        Some(Host::Tcp(name)) => drop(single.host(name)),
        Some(Host::Unix(path)) => drop(single.host_path(path)),
        None => {}
    }
    if let Some(address) = config.get_hostaddrs().get(index) {
        single.hostaddr(*address);
    }
    if let Some(port) = config.get_ports().get(index).or(config.get_ports().first()) {
        single.port(*port);
    }
    if let Some(user) = config.get_user() {
        single.user(user);
    }
    if let Some(password) = config.get_password() {
        single.password(password);
    }
    if let Some(dbname) = config.get_dbname() {
        single.dbname(dbname);
    }
    if let Some(options) = config.get_options() {
        single.options(options);
    }
    if let Some(name) = config.get_application_name() {
        single.application_name(name);
    }
    if let Some(limit) = config.get_connect_timeout() {
        single.connect_timeout(*limit);
    }
    if let Some(limit) = config.get_tcp_user_timeout() {
        single.tcp_user_timeout(*limit);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        single.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        single.keepalives_retries(retries);
    }
    single
        .ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle())
        .target_session_attrs(config.get_target_session_attrs())
        .channel_binding(config.get_channel_binding());
    single
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_cut_at_a_character() {
        let name = clamp(format!("sisyphus:control:{}", "ü".repeat(40)));
        assert_eq!(name.len(), 63);
        assert!(name.ends_with('ü'));
    }

    #[test]
    fn each_host_keeps_its_port_and_the_common_settings() {
        let config: Config = "host=a,b port=1,2 user=u dbname=d".parse().unwrap();
        let sessions = Sessions::new(config, "control", "web1");
        let hosts = single_hosts(sessions.config());
        assert_eq!(hosts.len(), 2);
        assert_eq!(hosts[1].get_hosts(), [Host::Tcp("b".into())]);
        assert_eq!(hosts[1].get_ports(), [2]);
        assert_eq!(hosts[1].get_dbname(), Some("d"));
        assert_eq!(hosts[1].get_application_name(), Some("sisyphus:control:web1"));
        assert_eq!(hosts[1].get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
    }
}
