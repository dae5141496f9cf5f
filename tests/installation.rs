//! The installation guard: a database that was copied, restored or promoted, and what it takes to go on there.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use sisyphus::{
    dev::cluster::{Cluster, Durability},
    migrate,
};
use tempfile::TempDir;

use crate::support::{self, Play, TestClient, TestDb, assert_error, assert_sqlstate};

/// A job, a host and a run that is due there: what must not go on in a copy.
const FLEET: &str = "
    select sisyphus.schedule('job', '* * * * *', 'true', timezone => 'UTC');
    select sisyphus.register_guardian('a', 4, host_key => md5('a')::uuid);
    select sisyphus.run_now('job');
    select sisyphus.tick()";

async fn value<T: tokio_postgres::types::FromSqlOwned>(client: &TestClient, sql: &str) -> T {
    client.query_one(sql, &[]).await.unwrap_or_else(|err| panic!("{sql}: {err:?}")).get(0)
}

async fn run(client: &TestClient, sql: &str) {
    client.batch_execute(sql).await.unwrap_or_else(|err| panic!("{sql}: {err:?}"));
}

/// Everything that would run a job is refused, and everything that explains says why.
async fn assert_refused(client: &TestClient, why: &str) {
    for call in [
        "update sisyphus.planner set next_tick_at = '-infinity'; select sisyphus.tick()",
        "select sisyphus.register_guardian('a', 4, host_key => md5('a')::uuid)",
        "select sisyphus.claim_job(1, 4, 4)",
        "select sisyphus.start_job(1, array[1::bigint], array[1::bigint])",
        "select sisyphus.finish_job(1, array[1::bigint], array[1::bigint], array[0])",
    ] {
        assert_error(client.batch_execute(call).await, "SY001", why, "adopt_installation()");
    }
    for text in [
        "select sisyphus.explain_run(min(run_id)) from sisyphus.run",
        "select sisyphus.explain('job', date_trunc('minute', sisyphus._clock()) + interval '1 min')",
        "select problem from sisyphus.overview",
        "select problem from sisyphus.fleet",
    ] {
        let text: String = value(client, text).await;
        assert!(text.contains("installation not adopted") && text.contains(why), "{text}");
    }
    let adopted: f64 =
        value(client, "select value from sisyphus.metrics where name = 'sisyphus_installation_adopted'")
            .await;
    assert!(adopted < 1.0);
}

async fn adopt(client: &TestClient) {
    let before: i64 = last_claim_no(client).await;
    run(client, "select sisyphus.adopt_installation()").await;
    assert_adopted(client, before).await;
}

async fn last_claim_no(client: &TestClient) -> i64 {
    value(client, "select last_value from sisyphus.claim_no_seq").await
}

/// Once it is adopted, the run that waited is claimed, under numbers that the original never gave.
async fn assert_adopted(client: &TestClient, before: i64) {
    assert!(!value::<bool>(client, "select sisyphus.adopt_installation()").await, "there is nothing left");
    run(
        client,
        "select sisyphus.register_guardian('a', 4, host_key => md5('a')::uuid); select sisyphus.tick()",
    )
    .await;
    let claim = "select claim_no from sisyphus.guardian g, sisyphus.claim_job(g.guardian_id, 4, 4)
                  where g.ended_at is null and kind = 'run'";
    let claim_no: i64 = value(client, claim).await;
    assert!(claim_no >= before + 1_000_000, "{claim_no} after {before}");
    let audited = "select before ->> 'problem' from sisyphus.audit_log where action = 'adopt_installation'";
    assert!(value::<String>(client, audited).await.starts_with("installation not adopted"));
}

#[tokio::test]
async fn a_copy_in_the_same_cluster_runs_nothing_before_it_is_adopted() {
    let db = support::db().await;
    let client = db.client().await;
    run(&client, FLEET).await;
    client.close().await;
    let copy = db.copy().await;
    let client = copy.client().await;
    assert_refused(&client, &format!("copy of database \"{}\"", db.name())).await;
    // The original is what it was.
    run(&db.client().await, "select sisyphus.claim_job(1, 4, 4)").await;
    adopt(&client).await;
}

#[tokio::test]
async fn a_renamed_database_is_no_copy() {
    let db = support::db().await;
    let client = db.client().await;
    run(&client, FLEET).await;
    run(&client, "update sisyphus.installation set database_name = 'earlier', server_started_at = 'epoch'")
        .await;
    run(&client, "select sisyphus.claim_job(1, 4, 4)").await;
    let name: String = value(&client, "select database_name::text from sisyphus.installation").await;
    assert_eq!(name, db.name());
}

#[tokio::test]
async fn a_dump_restored_in_another_cluster_runs_nothing_before_migrate_adopts_it() {
    let db = support::db().await;
    run(&db.client().await, FLEET).await;
    let there = Elsewhere::start("restored");
    let Some(client) = there.restore(&db).await else {
        eprintln!("SKIPPED: this server came without pg_dump");
        return;
    };
    // Transactions have other numbers there: a floor must not wait for one of the old cluster.
    run(&client, "update sisyphus.lane_floor set candidate = 1, candidate_after = '{3/4000000000}'").await;
    assert_refused(&client, "this is a copy in another cluster").await;

    let url = there.cluster().url("jobs");
    let told = support::run(&["--database-url", &url, "migrate"]);
    assert!(
        told.stderr.contains("installation not adopted") && told.stderr.contains("--adopt"),
        "{}",
        told.stderr
    );
    let doctor = support::run(&["--database-url", &url, "doctor"]);
    doctor.failure(1, &[]);
    let before = last_claim_no(&client).await;
    let adopted = support::run(&["--database-url", &url, "migrate", "--adopt"]);
    assert!(adopted.stderr.contains("adopted: the jobs of this database run here"), "{}", adopted.stderr);
    support::run(&["--database-url", &url, "migrate", "--adopt"]).success();
    assert_adopted(&client, before).await;
    let waits: i64 =
        value(&client, "select count(*) from sisyphus.lane_floor where candidate_after = '{3/4000000000}'")
            .await;
    assert_eq!(waits, 0);
    client.close().await;
    there.stop();
}

/// A copy of the files is the same cluster and database to whoever looks: only a guardian that knew the original
/// later can tell, and a new timeline says that it was promoted.
#[tokio::test]
async fn a_copy_of_the_files_goes_on_as_after_a_failover_unless_a_guardian_has_seen_later_ticks() {
    let original = Elsewhere::start("original");
    let client = original.install().await;
    run(&client, FLEET).await;
    let installation: String =
        value(&client, "select installation_id::text from sisyphus.installation").await;
    run(&client, "select nextval('sisyphus.run_id_seq'), nextval('sisyphus.claim_no_seq'); checkpoint").await;
    client.close().await;
    original.halt();

    let promoted = original.copy("promoted");
    fs::write(promoted.data().join("standby.signal"), "").unwrap();
    promoted.go();
    let client = promoted.connect().await;
    run(&client, "select pg_promote()").await;
    let lease: String = value(&client, "select lease_until::text from sisyphus.guardian").await;
    let numbers = "select array[(select last_value from sisyphus.run_id_seq), (select last_value from sisyphus.claim_no_seq)]";
    let before: Vec<i64> = value(&client, numbers).await;
    run(&client, "select sisyphus.claim_job(1, 4, 0)").await;
    let after: Vec<i64> = value(&client, numbers).await;
    for (before, after) in before.iter().zip(after) {
        assert!(after >= before + 1_000_000, "{after} after {before}");
    }
    let renewed = format!("select lease_until > '{lease}' from sisyphus.guardian");
    assert!(value::<bool>(&client, &renewed).await, "leases start anew");
    run(&client, "select sisyphus.claim_job(1, 4, 0); select sisyphus.tick()").await;
    let once: Vec<i64> = value(&client, numbers).await;
    assert!(once[1] < before[1] + 2_000_000, "a failover counts once: {once:?}");

    // Told four minutes of difference, it is still that failover; told six, a backup.
    run(&client, "update sisyphus.planner set newest_tick_at = now() - interval '6 min'").await;
    let note = format!("select sisyphus.note_tick('{installation}', now() - $1::text::interval)");
    let told: bool = client.query_one(&note, &[&"2 min"]).await.unwrap().get(0);
    assert!(!told);
    run(&client, "select sisyphus.claim_job(1, 4, 0)").await;
    let told: bool = client.query_one(&note, &[&"30 s"]).await.unwrap().get(0);
    assert!(told);
    assert_refused(&client, "it was restored").await;
    adopt(&client).await;
    client.close().await;
    promoted.stop();
}

#[tokio::test]
async fn a_restored_backup_is_refused_by_what_a_claim_or_a_tick_brings_along() {
    let play = Play::at("07:00:00").await;
    play.exec(FLEET).await;
    let installation: String =
        play.value("select installation_id::text from sisyphus.installation", &[]).await;
    play.set_time("08:00:00").await;
    let late = "1772438340000000"; // 07:59
    let claim = format!("select sisyphus.claim_job(1, 4, 4, report => '{{\"seen_tick_us\": {late}}}')");
    assert_sqlstate(play.client.batch_execute(&claim).await, "SY001");
    let tick = "select sisyphus.tick('2026-03-02 07:59+00')";
    assert_sqlstate(play.client.batch_execute(tick).await, "SY001");
    // Of another installation, or told for the future, it means nothing: nobody has seen that.
    play.exec("select sisyphus.note_tick(gen_random_uuid(), '2026-03-02 07:59+00')").await;
    assert!(play.value::<Option<String>>("select sisyphus._installation_problem()", &[]).await.is_none());
    let note = format!("select sisyphus.note_tick('{installation}', '2026-03-02 07:59+00')");
    assert!(play.value::<bool>(&note, &[]).await);
    assert_refused(
        &play.client,
        "its last tick was at 2026-03-02 07:00:00 UTC, a guardian has seen one at 2026-03-02 07:59:00 UTC",
    )
    .await;
    adopt(&play.client).await;
}

/// The server's clock, set forward by mistake and back again, makes no backup of the database.
#[tokio::test]
async fn a_clock_that_is_set_back_is_no_restored_backup() {
    let play = Play::at("07:00:00").await;
    play.exec(FLEET).await;
    play.tick_at("12:00:00").await;
    play.tick_at("07:00:10").await;
    let claim = "select sisyphus.claim_job(1, 4, 4, report => jsonb_build_object('seen_tick_us',
                     extract(epoch from timestamptz '2026-03-02 12:00+00') * 1000000))";
    play.exec(claim).await;
}

/// A cluster of the test's own. Named, because sockets of two must not meet.
struct Elsewhere {
    scratch: TempDir,
    name: &'static str,
    cluster: std::cell::RefCell<Option<Cluster>>,
}

impl Elsewhere {
    fn start(name: &'static str) -> Self {
        let made = Self::new(name);
        made.go();
        made
    }

    fn new(name: &'static str) -> Self {
        let scratch = tempfile::Builder::new().prefix("sisyphus-").tempdir_in("/tmp").unwrap();
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { scratch, name, cluster: None.into() }
    }

    fn dir(&self) -> PathBuf {
        self.scratch.path().join(self.name)
    }

    fn data(&self) -> PathBuf {
        self.dir().join("postgres")
    }

    fn go(&self) {
        *self.cluster.borrow_mut() = Some(Cluster::start(&self.dir(), Durability::None).unwrap());
    }

    fn halt(&self) {
        self.cluster.take().expect("it runs").stop().unwrap();
    }

    fn stop(self) {
        self.halt();
    }

    fn cluster(&self) -> std::cell::Ref<'_, Cluster> {
        std::cell::Ref::map(self.cluster.borrow(), |cluster| cluster.as_ref().expect("it runs"))
    }

    async fn connect(&self) -> TestClient {
        let url = self.cluster().url("jobs");
        support::connect(&url).await
    }

    /// Database jobs with the schema.
    async fn install(&self) -> TestClient {
        self.create().await;
        let mut client = self.connect().await;
        migrate::migrate(&mut client).await.unwrap_or_else(|err| panic!("{}", support::told(&err)));
        client
    }

    async fn create(&self) {
        let url = self.cluster().url("postgres");
        let admin = support::connect(&url).await;
        run(&admin, "create database jobs").await;
        admin.close().await;
    }

    /// What pg_dump makes of a database; none where only a server is installed.
    async fn restore(&self, db: &TestDb) -> Option<TestClient> {
        let dump = self.cluster().binaries().program("pg_dump");
        if !dump.exists() {
            return None;
        }
        let dumped = Command::new(dump).args(["--no-owner", "-d", &db.url()]).output().unwrap();
        assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
        // Roles belong to the cluster; pg_dumpall --roles-only would bring them.
        let roles = ["owner", "admin", "author", "operator", "viewer", "guardian"];
        self.create().await;
        let client = self.connect().await;
        for role in roles {
            run(&client, &format!("create role sisyphus_{role}")).await;
        }
        let file = self.scratch.path().join("dump.sql");
        let text = String::from_utf8(dumped.stdout).unwrap();
        fs::write(&file, format!("set role sisyphus_owner;\n{text}")).unwrap();
        run(
            &client,
            "grant create on database jobs to sisyphus_owner; grant pg_read_all_data to sisyphus_owner",
        )
        .await;
        let psql = self.cluster().binaries().program("psql");
        let restored = Command::new(psql)
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &self.cluster().url("jobs"), "-f"])
            .arg(&file)
            .output()
            .unwrap();
        assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
        Some(client)
    }

    /// The files of this cluster, which is not running, as another one that is not started yet.
    fn copy(&self, name: &'static str) -> Self {
        let copy = Self::new(name);
        copy_tree(&self.dir(), &copy.dir());
        let settings = copy.data().join("sisyphus.conf");
        let text = fs::read_to_string(&settings).unwrap();
        fs::write(
            &settings,
            text.replace(&self.dir().display().to_string(), &copy.dir().display().to_string()),
        )
        .unwrap();
        copy
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        if let Some(cluster) = self.cluster.take() {
            cluster.stop().ok();
        }
    }
}

/// With owners and modes, which the server looks at.
fn copy_tree(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}
