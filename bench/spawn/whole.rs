//! All of it: runs in the database, a guardian, its keeper, results in the history.

use std::time::{Duration, Instant};

use sisyphus::{dev::cluster::Cluster, migrate};
use tokio_postgres::Client;

use super::{
    Measured,
    support::{self, cpu, host::Host},
};

/// Longer than any machine takes.
const PATIENCE: Duration = Duration::from_secs(300);

/// Between two looks at what is left; each costs the server a fraction of a millisecond.
const GLANCE: Duration = Duration::from_millis(20);

/// A server with the schema and one job.
pub(crate) struct House<'a> {
    cluster: &'a Cluster,
    client: Client,
    postmaster: u32,
}

impl<'a> House<'a> {
    pub(crate) async fn furnish(cluster: &'a Cluster) -> Self {
        let mut client = support::connect(&cluster.url("postgres")).await;
        migrate::migrate(&mut client).await.unwrap();
        let sql = "select sisyphus.schedule('true', null, argv => array['/bin/true'], overlap => 'allow')";
        client.query(sql, &[]).await.unwrap();
        Self { cluster, client, postmaster: support::postmaster(cluster) }
    }

    /// Counted from the commit that makes the runs to the moment at which the history has all of them.
    pub(crate) async fn measure(&mut self, runs: usize, slots: usize) -> Measured {
        let mut host = Host::new();
        host.join(&self.cluster.url("postgres"), &self.client, "bench", slots).await;
        for settled in ["vacuum analyze", "checkpoint"] {
            self.client.batch_execute(settled).await.unwrap();
        }
        let known = self.succeeded().await;
        let making = self.client.transaction().await.unwrap();
        let sql = format!("select sisyphus.run_many('true', array_fill(null::jsonb, array[{runs}]))");
        making.query(&sql, &[]).await.unwrap();
        let before = used(&host, self.postmaster);
        let begun = Instant::now();
        making.commit().await.unwrap();
        while self.are_left().await {
            assert!(begun.elapsed() < PATIENCE, "{} of {runs} runs", self.succeeded().await - known);
            tokio::time::sleep(GLANCE).await;
        }
        let seconds = begun.elapsed().as_secs_f64();
        let used = cpu::between(&before, &used(&host, self.postmaster));
        assert_eq!(self.succeeded().await - known, runs as i64, "each has its result in the history");
        Measured { seconds, used }
    }

    async fn are_left(&self) -> bool {
        let sql = "select exists (select from sisyphus.run)";
        self.client.query_one(sql, &[]).await.unwrap().get(0)
    }

    async fn succeeded(&self) -> i64 {
        let sql = "select count(*) from sisyphus.history where is_final and state = 'succeeded'";
        self.client.query_one(sql, &[]).await.unwrap().get(0)
    }
}

fn used(host: &Host, postmaster: u32) -> cpu::Parts {
    let mut parts = host.used();
    parts.insert("postgres", cpu::of_tree(postmaster));
    parts
}
