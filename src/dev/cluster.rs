//! A private PostgreSQL cluster on a Unix socket in a directory of its own.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use super::{account::Account, binaries::Binaries, binaries::Search};
use crate::error::{Error, ErrorKind, Result};

/// The superuser of a private cluster.
pub const SUPERUSER: &str = "postgres";

/// The socket's name in the directory.
pub const SOCKET_NAME: &str = ".s.PGSQL.5432";

/// What `sockaddr_un` holds, less the closing NUL.
const SOCKET_PATH_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// How the server keeps its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Survives a crash of the machine.
    Full,
    /// Fast and lost with the machine: for tests.
    None,
}

/// A running private cluster. Dropping it leaves the server running and frees the directory;
/// [`Cluster::stop`] ends it.
///
/// The directory holds the socket, `lock` (flock, with the pid of who holds it), `server.log` and
/// `postgres` (the data). Only its owner and root get at the socket, so the server trusts who comes.
#[derive(Debug)]
pub struct Cluster {
    dir: PathBuf,
    account: Account,
    binaries: Binaries,
    _lock: File,
}

impl Cluster {
    /// Starts the cluster in `dir`, making it when it is not there. A server that an earlier owner left
    /// running is taken over.
    pub fn start(dir: &Path, durability: Durability) -> Result<Self> {
        let dir = std::path::absolute(dir).map_err(|err| not_writable(dir, err))?;
        check_socket_path(&dir)?;
        let account = Account::choose()?;
        make_dir(&dir, &account)?;
        let lock = take_lock(&dir)?;
        let binaries = Search::here().find(version_of_data(&dir))?;
        let cluster = Self { dir, account, binaries, _lock: lock };
        if !cluster.is_running()? {
            cluster.init()?;
            cluster.write_settings(durability)?;
            cluster.start_server()?;
        }
        Ok(cluster)
    }

    /// Ends the server: sessions are disconnected, data is written out.
    pub fn stop(self) -> Result<()> {
        let output = self.pg_ctl(&["stop", "-w", "-m", "fast"])?;
        if output.success { Ok(()) } else { Err(self.server_error("cannot be stopped", &output.text)) }
    }

    /// The directory, which is also where the socket is (`psql -h <dir>`).
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The account that the server runs as.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The server's programs.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// A connection string for a database, as the superuser.
    pub fn url(&self, database: &str) -> String {
        url(&self.dir, SUPERUSER, database)
    }

    fn data(&self) -> PathBuf {
        self.dir.join("postgres")
    }

    fn init(&self) -> Result<()> {
        if self.data().join("PG_VERSION").exists() {
            return Ok(());
        }
        // Made aside and renamed: an initdb that was interrupted is not taken for a cluster.
        let fresh = self.dir.join("postgres.new");
        fs::remove_dir_all(&fresh).or_else(ignore_missing).map_err(|err| not_writable(&fresh, err))?;
        let mut command = self.command("initdb");
        command.args(["--username", SUPERUSER, "--auth", "trust", "--encoding", "UTF8", "--no-locale"]);
        command.args(["--no-sync", "--pgdata"]).arg(&fresh);
        let output = run(&mut command)?;
        if !output.success {
            return Err(self.server_error("cannot be made by initdb", &output.text));
        }
        let conf = fresh.join("postgresql.conf");
        OpenOptions::new()
            .append(true)
            .open(&conf)
            .and_then(|mut file| file.write_all(b"\ninclude 'sisyphus.conf'\n"))
            .and_then(|()| fs::rename(&fresh, self.data()))
            .map_err(|err| not_writable(&conf, err))
    }

    fn write_settings(&self, durability: Durability) -> Result<()> {
        let mut text = format!(
            "listen_addresses = ''\nunix_socket_directories = '{}'\nport = 5432\nlog_line_prefix = '%m [%p] %q%a '\n",
            self.dir.display().to_string().replace('\'', "''")
        );
        if durability == Durability::None {
            text.push_str(
                "fsync = off\nfull_page_writes = off\nsynchronous_commit = off\ndeadlock_timeout = '100ms'\n\
                 max_connections = 200\ntimezone = 'UTC'\nlog_timezone = 'UTC'\n",
            );
        }
        let path = self.data().join("sisyphus.conf");
        fs::write(&path, text).and_then(|()| self.account.own(&path)).map_err(|err| not_writable(&path, err))
    }

    fn start_server(&self) -> Result<()> {
        let log = self.dir.join("server.log");
        let log_arg = log.display().to_string();
        // pg_ctl gives the server a session of its own, so a Ctrl-C meant for us does not reach it.
        let output = self.pg_ctl(&["start", "-w", "-t", "60", "-l", &log_arg])?;
        if output.success {
            return Ok(());
        }
        let said = fs::read_to_string(&log).unwrap_or(output.text);
        Err(self.server_error("cannot be started", &said).hint(format!("see {log_arg}")))
    }

    fn is_running(&self) -> Result<bool> {
        Ok(self.data().join("postmaster.pid").exists() && self.pg_ctl(&["status"])?.success)
    }

    fn pg_ctl(&self, args: &[&str]) -> Result<Said> {
        run(self.command("pg_ctl").args(args).arg("-D").arg(self.data()))
    }

    fn command(&self, program: &str) -> Command {
        self.account.command(&self.binaries.program(program), &self.dir)
    }

    fn server_error(&self, what: &str, said: &str) -> Error {
        let lines: Vec<_> = said.lines().collect();
        let tail = lines[lines.len().saturating_sub(5)..].join("\n");
        Error::new(ErrorKind::Config, format!("private PostgreSQL in {} {what}", self.dir.display()))
            .source(tail)
    }
}

/// A connection string for a socket directory; a directory stands percent-encoded in a URL.
pub fn url(socket_dir: &Path, user: &str, database: &str) -> String {
    let mut host = String::new();
    for byte in socket_dir.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => host.push(*byte as char),
            other => host.push_str(&format!("%{other:02X}")),
        }
    }
    format!("postgresql://{user}@{host}/{database}")
}

struct Said {
    success: bool,
    text: String,
}

fn run(command: &mut Command) -> Result<Said> {
    let program = PathBuf::from(command.get_program());
    let output = command.output().map_err(|err| {
        Error::new(ErrorKind::Config, format!("{} cannot be run", program.display())).source(err)
    })?;
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Ok(Said { success: output.status.success(), text })
}

fn check_socket_path(dir: &Path) -> Result<()> {
    let socket = dir.join(SOCKET_NAME);
    let length = socket.as_os_str().len();
    if length <= SOCKET_PATH_MAX {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Config,
        format!(
            "socket path {} is {length} bytes long, the system allows {SOCKET_PATH_MAX}",
            socket.display()
        ),
    )
    .hint("choose a shorter directory with --data-dir"))
}

fn make_dir(dir: &Path, account: &Account) -> Result<()> {
    fs::create_dir_all(dir).map_err(|err| not_writable(dir, err))?;
    // It is chowned and closed to others below: never a directory that somebody uses for something else.
    let mut entries = fs::read_dir(dir).map_err(|err| not_writable(dir, err))?;
    if !dir.join("lock").exists() && entries.next().is_some() {
        return Err(Error::new(
            ErrorKind::Config,
            format!("directory {} is not empty and holds no private PostgreSQL", dir.display()),
        )
        .hint("choose a new or empty directory with --data-dir"));
    }
    if let Some(barrier) = dir.parent().and_then(|parent| account.barrier(parent)) {
        return Err(Error::new(
            ErrorKind::Config,
            format!("data directory {} cannot be reached by user {}", dir.display(), account.name()),
        )
        .hint(format!(
            "PostgreSQL refuses to run as root, and {} is closed to others: choose another with --data-dir",
            barrier.display()
        )));
    }
    account
        .own(dir)
        .and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(0o700)))
        .map_err(|err| not_writable(dir, err))
}

fn take_lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|err| not_writable(dir, err))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // The pid is for the message alone; the lock is what counts.
            file.read_to_string(&mut pid).ok();
            let pid = pid.trim();
            return Err(Error::new(
                ErrorKind::Config,
                format!("data directory {} is in use by process {pid}", dir.display()),
            )
            .hint(format!("stop that one (kill {pid}), or choose another with --data-dir")));
        }
        Err(TryLockError::Error(err)) => return Err(not_writable(dir, err)),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(|err| not_writable(dir, err))?;
    Ok(file)
}

fn version_of_data(dir: &Path) -> Option<u32> {
    fs::read_to_string(dir.join("postgres/PG_VERSION")).ok()?.trim().parse().ok()
}

fn ignore_missing(err: std::io::Error) -> std::io::Result<()> {
    if err.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(err) }
}

fn not_writable(path: &Path, err: std::io::Error) -> Error {
    Error::new(ErrorKind::Config, format!("data directory {} cannot be written", path.display()))
        .hint("choose another with --data-dir")
        .source(err)
}
