//! The whole private house: server, schema, guardians; started in order and stopped in the reverse one.

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::Deserialize;

pub use super::daemon::Log;
use super::{
    cluster::{Cluster, Durability, SUPERUSER},
    daemon::Daemon,
};
use crate::{
    config::Connection,
    db::client::{Call, Session},
    error::{Error, ErrorKind, Result},
    migrate,
};

const CREATE_DATABASE: &str = include_str!("../../sql/dev/create_database.sql");
const DROP_DATABASE: &str = include_str!("../../sql/dev/drop_database.sql");
const DATABASE_EXISTS: &str = include_str!("../../sql/dev/database_exists.sql");
const HOSTS: &str = include_str!("../../sql/dev/hosts.sql");
const RUNNING: &str = include_str!("../../sql/dev/running.sql");

/// For a guardian to be seen in the fleet, and, above their own grace, for jobs to end.
const PATIENCE: Duration = Duration::from_secs(30);
const GLANCE: Duration = Duration::from_millis(100);

/// What to start.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// Where everything is kept.
    pub data_dir: &'a Path,
    /// The database that holds the schema.
    pub database: &'static str,
    /// Whether the database is made anew.
    pub fresh: bool,
    /// A guardian for each.
    pub hosts: &'a [&'a str],
    /// Where the guardians log to.
    pub log: Log,
}

/// A running house. [`House::stop`] ends it in order; one that is dropped leaves the server and the keepers.
#[derive(Debug)]
pub struct House {
    cluster: Cluster,
    database: &'static str,
    log: Log,
    session: Session,
    daemons: Vec<Daemon>,
}

#[derive(Deserialize)]
struct HostState {
    host: String,
    state: String,
    problem: Option<String>,
}

/// A run that a host is at work on.
#[derive(Debug, Deserialize)]
pub struct Running {
    /// Its number.
    pub run_id: i64,
    /// Its job, if it has one.
    pub job: Option<String>,
    /// The host.
    pub host: String,
}

impl House {
    /// Starts what is planned, unless `cancelled` comes first; returns when every host is ready to work.
    pub async fn start(plan: Plan<'_>, cancelled: impl Future<Output = ()>) -> Result<Self> {
        let cluster = Cluster::start(plan.data_dir, Durability::Full)?;
        let furnished = tokio::select! {
            furnished = Self::furnish(&cluster, plan) => furnished,
            () = cancelled => Err(Error::new(ErrorKind::Failed, "stopped while it was starting")),
        };
        match furnished {
            Ok((session, daemons)) => {
                Ok(Self { cluster, database: plan.database, log: plan.log, session, daemons })
            }
            Err(error) => {
                // What went wrong is worth more than whether the server could be stopped.
                cluster.stop().ok();
                Err(error)
            }
        }
    }

    async fn furnish(cluster: &Cluster, plan: Plan<'_>) -> Result<(Session, Vec<Daemon>)> {
        make_database(cluster, plan.database, plan.fresh).await?;
        let mut session = open(cluster, plan.database).await?;
        migrate::migrate(session.client_mut()).await?;
        let mut daemons = Vec::new();
        for host in plan.hosts {
            daemons.push(Daemon::start(cluster, plan.database, host, plan.log)?);
        }
        tokio::select! {
            ready = wait_ready(&session, plan.hosts) => ready?,
            error = first_ended(&mut daemons) => return Err(error),
        }
        Ok((session, daemons))
    }

    /// A session on the database, as the superuser.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The server.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// A connection string for the database.
    pub fn url(&self) -> String {
        self.cluster.url(self.database)
    }

    /// How to look into the database with psql.
    pub fn psql(&self) -> String {
        format!("psql -h {} -U {SUPERUSER} {}", self.cluster.dir().display(), self.database)
    }

    /// libpq's variables for programs that are to use the database.
    pub fn variables(&self) -> [(&'static str, PathBuf); 5] {
        [
            ("PGHOST", self.cluster.dir().to_owned()),
            ("PGPORT", "5432".into()),
            ("PGUSER", SUPERUSER.into()),
            ("PGDATABASE", self.database.into()),
            ("SISYPHUS_DATABASE_URL", self.url().into()),
        ]
    }

    /// Waits until a guardian ends by itself. Cancel safe.
    pub async fn broken(&mut self) -> Error {
        first_ended(&mut self.daemons).await
    }

    /// Kills the guardian of a host with kill -9, and says which process that was.
    pub async fn kill_guardian(&mut self, host: &str) -> Result<u32> {
        match self.daemons.iter_mut().find(|daemon| daemon.host() == host) {
            Some(daemon) => daemon.kill().await,
            None => Err(Error::new(ErrorKind::Failed, format!("no guardian of {host} is here"))),
        }
    }

    /// Starts the guardian of a host anew.
    pub fn start_guardian(&mut self, host: &str) -> Result<()> {
        let started = Daemon::start(&self.cluster, self.database, host, self.log)?;
        let place = self.daemons.iter_mut().find(|daemon| daemon.host() == host);
        *place.expect("it was there to be killed") = started;
        Ok(())
    }

    /// Terminates the jobs and waits for their results (not when `hurry` comes first), then ends guardians,
    /// keepers and server. Every step is taken, whatever became of the one before; the first error is told.
    pub async fn stop(self, hurry: impl Future<Output = ()>) -> Result<()> {
        let ended = tokio::select! {
            ended = self.end_jobs() => ended,
            () = hurry => Err(Error::new(ErrorKind::Drained, "stopped without waiting for the jobs to end")
                .hint("their results are stored by the keeper; the next `sisyphus dev` delivers them")),
        };
        let mut outcomes = vec![ended];
        for daemon in self.daemons {
            outcomes.push(daemon.stop().await);
        }
        drop(self.session);
        outcomes.push(self.cluster.stop());
        outcomes.into_iter().collect()
    }

    async fn end_jobs(&self) -> Result<()> {
        for daemon in &self.daemons {
            self.session.call(&Call::new("drain_host").arg("name", "text", daemon.host())).await?;
        }
        let begun = Instant::now();
        let mut asked = Vec::new();
        loop {
            let running = self.running().await?;
            for run in &running {
                if !asked.contains(&run.run_id) {
                    let of = run.job.as_ref().map_or_else(String::new, |job| format!(" of {job}"));
                    say(&format!("terminating run {}{of} on {}", run.run_id, run.host));
                    let call = Call::new("terminate").arg("run_id", "bigint", run.run_id.to_string());
                    self.session.call(&call.arg("reason", "text", "sisyphus dev was stopped")).await?;
                    asked.push(run.run_id);
                }
            }
            if running.is_empty() {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                return Err(Error::new(ErrorKind::Drained, format!("{} jobs do not end", running.len())));
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// What the hosts of the house are at work on.
    pub async fn running(&self) -> Result<Vec<Running>> {
        let hosts: Vec<&str> = self.daemons.iter().map(Daemon::host).collect();
        self.session.rows(RUNNING, &[&hosts]).await?.read()
    }
}

/// Tells whoever listens. When nobody does, everything is to be ended in order all the same.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

async fn open(cluster: &Cluster, database: &str) -> Result<Session> {
    let nothing = |_: &str| None;
    Session::open(&Connection::resolve(Some(&cluster.url(database)), &nothing)?).await
}

async fn make_database(cluster: &Cluster, database: &'static str, fresh: bool) -> Result<()> {
    let session = open(cluster, "postgres").await?;
    let named = |text: &str| text.replace("{database}", database);
    let there = !session.rows(DATABASE_EXISTS, &[&database]).await?.objects.is_empty();
    if there && fresh {
        session.run_script(&named(DROP_DATABASE)).await?;
    }
    if !there || fresh {
        session.run_script(&named(CREATE_DATABASE)).await?;
    }
    Ok(())
}

/// Waits until the fleet knows each host as active; those that the last stop has drained are let in again.
async fn wait_ready(session: &Session, hosts: &[&str]) -> Result<()> {
    let begun = Instant::now();
    loop {
        let seen: Vec<HostState> = session.rows(HOSTS, &[&hosts]).await?.read()?;
        for host in seen.iter().filter(|host| host.state == "draining") {
            session.call(&Call::new("activate_host").arg("name", "text", &*host.host)).await?;
        }
        if seen.iter().filter(|host| host.state == "active").count() == hosts.len() {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            let told =
                seen.iter().map(|h| format!("{} {} {}", h.host, h.state, h.problem.as_deref().unwrap_or("")));
            let told = told.collect::<Vec<_>>().join(", ");
            return Err(Error::new(ErrorKind::Failed, format!("the guardians are not ready: {told}")));
        }
        tokio::time::sleep(GLANCE).await;
    }
}

/// Ready when the first of them has ended; never without one.
async fn first_ended(daemons: &mut [Daemon]) -> Error {
    if daemons.is_empty() {
        return std::future::pending().await;
    }
    let ends = daemons.iter_mut().map(|daemon| Box::pin(daemon.ended()));
    futures_util::future::select_all(ends).await.0
}
