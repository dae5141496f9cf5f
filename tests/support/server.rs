//! A PostgreSQL server of a test's own, on a port: to encrypt, restart, fill up and fail over.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use sisyphus::dev::cluster::{Cluster, Durability};
use tempfile::TempDir;

use super::assertions::told;

/// It ends with the value.
pub(crate) struct OwnServer {
    cluster: Option<Cluster>,
    dir: TempDir,
    port: u16,
}

impl OwnServer {
    /// Starts one with these lines of configuration. `hba` replaces the rules of who may connect.
    pub(crate) fn start(settings: &str, hba: Option<&str>) -> Self {
        Self::start_in(folder(), settings, hba)
    }

    /// Starts one in this directory.
    pub(crate) fn start_in(dir: TempDir, settings: &str, hba: Option<&str>) -> Self {
        let mut server = Self { cluster: None, dir, port: free_port() };
        server.boot();
        server.halt();
        server.configure(settings);
        if let Some(rules) = hba {
            fs::write(server.file("pg_hba.conf"), rules).unwrap();
        }
        server.boot();
        server
    }

    /// A standby that follows this server.
    pub(crate) fn standby(&self) -> Self {
        let mut standby = Self { cluster: None, dir: folder(), port: free_port() };
        self.base_backup(&standby.path(), &["-R"]);
        // Marks a directory that may be used.
        fs::write(standby.path().join("lock"), "").unwrap();
        standby.configure("");
        standby.boot();
        standby
    }

    /// A copy of its files while it runs.
    pub(crate) fn backup(&self) -> TempDir {
        let backup = folder();
        self.base_backup(&backup.path().join("pg"), &[]);
        backup
    }

    /// Ends it and starts it again on the files of a backup, in the same place.
    pub(crate) fn restore(&mut self, backup: &TempDir, settings: &str) {
        self.crash();
        let data = self.file("");
        fs::remove_dir_all(&data).unwrap();
        let copied =
            Command::new("cp").arg("-a").arg(backup.path().join("pg/postgres")).arg(&data).status().unwrap();
        assert!(copied.success());
        self.configure(settings);
        self.boot();
    }

    fn base_backup(&self, place: &Path, args: &[&str]) {
        let cluster = self.cluster();
        fs::create_dir_all(place).unwrap();
        cluster.account().own(place).unwrap();
        let mut copy = cluster.account().command(&cluster.binaries().program("pg_basebackup"), place);
        copy.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "postgres", "-c", "fast", "-N"])
            .args(args);
        let done = copy.args(["-X", "stream", "-D"]).arg(place.join("postgres")).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// A client program of its version, such as pg_dump; none where only a server is installed.
    pub(crate) fn client_program(&self, name: &str) -> Option<PathBuf> {
        let path = self.cluster().binaries().program(name);
        if !path.exists() {
            eprintln!("SKIPPED: this server came without {name}");
        }
        path.exists().then_some(path)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// A file in its data directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join("postgres").join(name)
    }

    /// Writes a file that the server's account can read and nobody else.
    pub(crate) fn put(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.file(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        self.cluster().account().own(&path).unwrap();
        path
    }

    /// Makes a standby the primary.
    pub(crate) fn promote(&self) {
        let cluster = self.cluster();
        let mut promote = cluster.account().command(&cluster.binaries().program("pg_ctl"), &self.path());
        let done = promote.args(["promote", "-w", "-D"]).arg(self.file("")).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
    }

    /// Ends it as a crash does: nothing is flushed, nobody is told.
    pub(crate) fn crash(&mut self) {
        let cluster = self.cluster.take().expect("it runs");
        let mut stop = cluster.account().command(&cluster.binaries().program("pg_ctl"), &self.path());
        stop.args(["stop", "-m", "immediate", "-D"]).arg(self.file("")).output().unwrap();
    }

    /// Ends it in order.
    pub(crate) fn halt(&mut self) {
        let cluster = self.cluster.take().expect("it runs");
        cluster.stop().unwrap_or_else(|err| panic!("{}", told(&err)));
    }

    /// Starts it again.
    pub(crate) fn boot(&mut self) {
        let cluster = Cluster::start(&self.path(), Durability::None).unwrap_or_else(|err| {
            let log = fs::read_to_string(self.path().join("server.log")).unwrap_or_default();
            panic!("{}\n{log}", told(&err));
        });
        self.cluster = Some(cluster);
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path().join("server.log")).unwrap_or_default()
    }

    fn cluster(&self) -> &Cluster {
        self.cluster.as_ref().expect("it runs")
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("pg")
    }

    /// Read last of all files of configuration, and at a reload.
    pub(crate) fn configure(&self, settings: &str) {
        let path = self.file("postgresql.auto.conf");
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        // Such a server may be crashed: what it has acknowledged must be in its log then.
        let text = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nsynchronous_commit = on\n{settings}\n",
            self.port
        );
        file.write_all(text.as_bytes()).unwrap();
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        if self.cluster.is_some() {
            self.crash();
        }
    }
}

/// In a place that the server's account can enter.
pub(crate) fn folder() -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::Builder::new().prefix("sis").tempdir_in("/tmp").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// One that nobody had a moment ago.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Whether a program of the system is there; says so when it is not.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let found = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists());
    if found.is_none() {
        eprintln!("SKIPPED: {name} is not installed; `scripts/need {name}` installs it");
    }
    found
}
