//! A server and the synchronous standby that takes its place, again and again.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::support::{self, OwnServer, TestClient, wait_until};

/// Restarting a server, copying one and following it take their time on a busy machine.
const SOON: Duration = Duration::from_secs(60);
const SETTINGS: &str = "wal_retrieve_retry_interval = '100ms'\nmax_connections = 100";

/// Which of two ports leads to which changes with each failover.
pub(super) struct Servers {
    primary: OwnServer,
    standby: OwnServer,
    /// Which of the two wires of each host leads to the primary.
    pub(super) side: usize,
}

impl Servers {
    /// Both, with the schema in database `jobs`.
    pub(super) async fn start() -> Self {
        let primary = OwnServer::start(SETTINGS, None);
        let client = support::connect(&primary.url("postgres")).await;
        client.batch_execute("create database jobs").await.unwrap();
        client.close().await;
        support::run(&["--database-url", &primary.url("jobs"), "migrate"]).success();
        let standby = primary.standby();
        let servers = Self { primary, standby, side: 0 };
        servers.be_synchronous().await;
        servers
    }

    /// Of the primary and the standby.
    pub(super) fn ports(&self) -> [u16; 2] {
        [self.primary.port(), self.standby.port()]
    }

    pub(super) fn url(&self) -> String {
        self.primary.url("jobs")
    }

    /// A session with the primary, if it answers.
    pub(super) async fn reach(&self) -> Option<TestClient> {
        timeout(Duration::from_secs(3), support::reach(&self.url())).await.ok()?.ok()
    }

    /// Ends the primary, in order or as a crash does, and starts it again after a pause.
    pub(super) async fn restart(&mut self, crash: bool, pause: Duration) {
        if crash {
            self.primary.crash();
        } else {
            self.primary.halt();
        }
        sleep(pause).await;
        self.primary.boot();
    }

    /// Crashes the primary, promotes the standby, and gives it a standby of its own. What was committed while the
    /// primary was `alone` is lost.
    pub(super) async fn fail_over(&mut self, alone: Option<Duration>, pause: Duration) {
        self.until_it_follows().await;
        if let Some(alone) = alone {
            self.part().await;
            sleep(alone).await;
        }
        self.primary.crash();
        sleep(pause).await;
        self.standby.promote();
        let next = self.standby.standby();
        std::mem::swap(&mut self.primary, &mut self.standby);
        self.standby = next;
        self.side = 1 - self.side;
        self.be_synchronous().await;
    }

    /// The primary does not wait for the standby, and the standby hears nothing more.
    async fn part(&self) {
        let client = support::connect(&self.url()).await;
        client.batch_execute("alter system reset synchronous_standby_names").await.unwrap();
        client.batch_execute("select pg_reload_conf()").await.unwrap();
        let standby = support::connect(&self.standby.url("jobs")).await;
        standby.batch_execute("alter system reset primary_conninfo").await.unwrap();
        standby.batch_execute("select pg_reload_conf()").await.unwrap();
        wait_until("they have parted", SOON, async || {
            let sql = "select count(*) from pg_stat_replication";
            let count: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
            if count == 0 { Ok(()) } else { Err(count.to_string()) }
        })
        .await;
    }

    async fn be_synchronous(&self) {
        let client = support::connect(&self.url()).await;
        client.batch_execute("alter system set synchronous_standby_names = '*'").await.unwrap();
        client.batch_execute("select pg_reload_conf()").await.unwrap();
        self.until_it_follows().await;
    }

    /// Nothing that is acknowledged from here on is lost with the primary.
    async fn until_it_follows(&self) {
        let sql = "select count(*) from pg_stat_replication
                    where sync_state = 'sync' and flush_lsn >= pg_current_wal_flush_lsn()";
        wait_until("the standby follows", SOON, async || {
            let Some(client) = self.reach().await else { return Err("nobody answers".to_owned()) };
            match client.query_one(sql, &[]).await {
                Ok(row) if row.get::<_, i64>(0) > 0 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
}
