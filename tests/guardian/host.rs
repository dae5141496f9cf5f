//! A host under test: a state directory, its guardians one after the other, and its keeper.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio_postgres::types::ToSql;

use crate::support::{self, Finished, Spawned, TestClient, comes_true, wait_until};

/// Generous: the machine may be busy with other tests. Nothing waits this long when it works.
pub(crate) const SOON: Duration = Duration::from_secs(40);

/// Its keeper and its jobs end with it.
pub(crate) struct Host {
    pub(crate) name: &'static str,
    url: String,
    state_dir: PathBuf,
    dir: TempDir,
}

impl Host {
    /// A host that connects as the superuser. Nothing is started yet.
    pub(crate) fn new(name: &'static str, url: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("sis").tempdir_in("/tmp").unwrap();
        // Jobs may run as another user and touch files here.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { name, url: url.to_owned(), state_dir: dir.path().join("state"), dir }
    }

    /// A path for a job to touch or to wait for.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.state_dir.clone()
    }

    /// The command line of its guardian.
    pub(crate) fn command(&self, args: &[&str]) -> std::process::Command {
        self.command_of(Path::new(env!("CARGO_BIN_EXE_sisyphus")), args)
    }

    /// As [`Self::command`], of another build of the binary.
    pub(crate) fn command_of(&self, program: &Path, args: &[&str]) -> std::process::Command {
        let state_dir = self.state_dir();
        let mut all = vec!["--database-url", &self.url, "guardian", "--host", self.name, "--state-dir"];
        all.push(state_dir.to_str().unwrap());
        all.extend(args);
        support::command_of(program, &all)
    }

    /// Another build of the binary, that does the same.
    pub(crate) fn other_build(&self) -> PathBuf {
        let path = self.file("sisyphus");
        fs::copy(env!("CARGO_BIN_EXE_sisyphus"), &path).unwrap();
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"x").unwrap();
        path
    }

    /// Its state directory lies there from now on.
    pub(crate) fn keep_state_in(&mut self, dir: &std::path::Path) {
        self.state_dir = dir.join("state");
    }

    /// Starts its guardian.
    pub(crate) fn spawn(&self, args: &[&str]) -> Spawned {
        support::spawn(self.command(args))
    }

    /// Starts its guardian and waits until the database knows it.
    pub(crate) async fn start(&self, client: &TestClient, args: &[&str]) -> Spawned {
        self.start_as(client, self.command(args)).await
    }

    /// Starts a guardian of it with this command line, and waits until the database knows it.
    pub(crate) async fn start_as(&self, client: &TestClient, command: std::process::Command) -> Spawned {
        let before = self.guardian_id(client).await;
        let guardian = support::spawn(command);
        wait_until("the guardian is registered", SOON, async || {
            let now = self.guardian_id(client).await;
            if now > before { Ok(()) } else { Err(format!("guardian {now:?}")) }
        })
        .await;
        guardian
    }

    /// Its living guardian in the database.
    pub(crate) async fn guardian_id(&self, client: &TestClient) -> Option<i64> {
        let sql = "select max(g.guardian_id) from sisyphus.guardian g join sisyphus.host h using (host_id)
                    where h.name = $1 and g.ended_at is null";
        client.query_one(sql, &[&self.name]).await.unwrap().get(0)
    }

    /// Processes whose command line names this host's state directory, or a keeper's place in it, and this word.
    pub(crate) fn processes(&self, word: &str) -> Vec<Pid> {
        let state_dir = self.state_dir().display().to_string();
        let further = format!("{state_dir}/keeper.");
        let of_proc = |entry: std::io::Result<fs::DirEntry>| -> Option<Pid> {
            let entry = entry.ok()?;
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read_to_string(entry.path().join("cmdline")).ok()?;
            let mut words = line.split('\0');
            let matches =
                words.clone().any(|w| w == word) && words.any(|w| w == state_dir || w.starts_with(&further));
            matches.then_some(Pid::from_raw(pid))
        };
        fs::read_dir("/proc").unwrap().filter_map(of_proc).collect()
    }

    /// Its keeper and the keeper's writer.
    pub(crate) fn keepers(&self) -> Vec<Pid> {
        self.processes("keeper")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for keeper in self.keepers() {
            kill(keeper, Signal::SIGTERM).ok();
        }
        // The directory must not vanish under a keeper that is writing.
        comes_true(Duration::from_secs(15), || self.keepers().is_empty());
    }
}

/// Sends SIGTERM and waits for a good end.
pub(crate) fn stop(guardian: Spawned) -> Finished {
    guardian.signal(Signal::SIGTERM);
    let ended = guardian.wait();
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr);
    ended
}

/// The first column of the first row, once the query gives one.
pub(crate) async fn eventually<T>(
    client: &TestClient,
    what: &str,
    sql: &str,
    args: &[&(dyn ToSql + Sync)],
) -> T
where
    T: for<'a> tokio_postgres::types::FromSql<'a>,
{
    let rows = wait_until(what, SOON, async || {
        let rows = client.query(sql, args).await.unwrap();
        if rows.is_empty() { Err(seen(client).await) } else { Ok(rows) }
    })
    .await;
    rows[0].get(0)
}

/// Waits until a condition of one boolean holds.
pub(crate) async fn until(client: &TestClient, what: &str, condition: &str) {
    let sql = format!("select 1 where {condition}");
    let _: i32 = eventually(client, what, &sql, &[]).await;
}

/// Schedules a job on demand and runs it; the run's number.
pub(crate) async fn run(client: &TestClient, name: &str, command: &str) -> i64 {
    client.query("select sisyphus.schedule($1, null, $2)", &[&name, &command]).await.unwrap();
    client.query_one("select sisyphus.run_now($1)", &[&name]).await.unwrap().get(0)
}

/// The schedule, as an expression of SQL, that is due once in so many seconds, on the second.
pub(crate) fn at(seconds: u32) -> String {
    format!(
        r#"to_char((clock_timestamp() + '{seconds} s') at time zone 'UTC', '"at "YYYY-MM-DD"T"HH24:MI:SS"Z"')"#
    )
}

/// The state in which an attempt has ended, once it has.
pub(crate) async fn end_of(client: &TestClient, run_id: i64) -> String {
    let sql = "select state from sisyphus.history where run_id = $1 and is_final";
    eventually(client, "the run has ended", sql, &[&run_id]).await
}

/// All runs, live and ended, for the message of a test that waited in vain.
async fn seen(client: &TestClient) -> String {
    let sql = "select coalesce(string_agg(t.line, '; '), 'no runs') from (
                 select format('run %s %s claim %s guardian %s', run_id, state, claim_no, guardian_id) as line
                   from sisyphus.run
                 union all
                 select format('run %s ended %s: %s', run_id, state, reason) from sisyphus.history
                 union all
                 select format('guardian %s of %s: %s', guardian_id, h.name, coalesce(ended_as, 'alive'))
                   from sisyphus.guardian join sisyphus.host h using (host_id)) t";
    client.query_one(sql, &[]).await.unwrap().get(0)
}
