//! One PostgreSQL server for the test run, shared by all test processes and kept for the next run.

use std::{
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use sisyphus::dev::{
    account::Account,
    binaries::Search,
    cluster::{Cluster, Durability, SOCKET_NAME, SUPERUSER, url},
};

use super::assertions::told;

/// The socket directory of the running server.
pub(crate) fn server() -> &'static Path {
    static SERVER: OnceLock<PathBuf> = OnceLock::new();
    SERVER.get_or_init(start)
}

/// A connection string for a database of the test server, as the superuser.
pub(crate) fn server_url(database: &str) -> String {
    url(server(), SUPERUSER, database)
}

/// A lock that test processes take in turns; freed when the file is dropped.
pub(super) fn turn(name: &str) -> fs::File {
    let path = target().join(name);
    let file =
        fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path).expect("lock file");
    file.lock().expect("flock");
    file
}

fn start() -> PathBuf {
    let _turn = turn("test-server.lock");
    let dir = place();
    if UnixStream::connect(dir.join(SOCKET_NAME)).is_err() {
        // No server: what lies there is of an earlier run, and without fsync a crash may have torn it.
        fs::remove_dir_all(&dir).ok();
    }
    // Dropping the cluster leaves the server running: nextest gives each test a process of its own.
    let cluster = Cluster::start(&dir, Durability::None).unwrap_or_else(|err| panic!("{}", told(&err)));
    // `make stop-test-server` reads where it is.
    fs::write(target().join("test-server"), cluster.dir().as_os_str().as_encoded_bytes()).expect("target/");
    cluster.dir().to_path_buf()
}

/// In target/, or under /tmp where that is closed to the server's user or too deep for a socket.
fn place() -> PathBuf {
    let major = Search::here().find(None).map_or(0, |found| found.major());
    let name = format!("test-pg{major}");
    let wanted = target().join(&name);
    let closed = Account::choose().is_ok_and(|account| account.barrier(&target()).is_some());
    if !closed && wanted.as_os_str().len() < 90 {
        return wanted;
    }
    let mut hasher = DefaultHasher::new();
    target().hash(&mut hasher);
    env::temp_dir().join(format!("sisyphus-{:x}-{name}", hasher.finish()))
}

/// The directory that cargo builds into.
fn target() -> PathBuf {
    let mut dir = env::current_exe().expect("own path");
    while dir.file_name().is_some_and(|name| name != "target") {
        dir.pop();
    }
    if dir.parent().is_none() { Path::new(env!("CARGO_MANIFEST_DIR")).join("target") } else { dir }
}
