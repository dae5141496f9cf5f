//! Finds the programs of a PostgreSQL server.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::error::{Error, ErrorKind, Result};

/// The oldest PostgreSQL that the schema runs on.
pub const OLDEST_MAJOR: u32 = 15;

const PROGRAMS: [&str; 3] = ["initdb", "pg_ctl", "postgres"];

/// Where packages put their servers: the parent, and what follows the version.
const USUAL_PLACES: [(&str, &str, &str); 5] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql@", "bin"),
];

/// A directory with `initdb`, `pg_ctl` and `postgres` of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    dir: PathBuf,
    major: u32,
}

/// Where to look: taken from the environment, or made by a test.
#[derive(Debug, Clone)]
pub struct Search {
    /// The `PATH` to walk; also the one that `pg_config` is taken from.
    pub path: OsString,
    /// The root of the usual places, `/` outside tests.
    pub root: PathBuf,
}

impl Search {
    /// The machine as it is.
    pub fn here() -> Self {
        Self { path: std::env::var_os("PATH").unwrap_or_default(), root: "/".into() }
    }

    /// Finds a server: on `PATH`, by `pg_config`, in the usual places newest first. With `major`, only
    /// of that version.
    pub fn find(&self, major: Option<u32>) -> Result<Binaries> {
        let mut passed_over = Vec::new();
        for dir in self.candidates() {
            let Some(found) = Binaries::in_dir(&dir) else { continue };
            if major.unwrap_or(found.major) == found.major && found.major >= OLDEST_MAJOR {
                return Ok(found);
            }
            passed_over.push(format!("{} in {}", found.major, found.dir.display()));
        }
        Err(self.none_found(major, &passed_over))
    }

    fn candidates(&self) -> Vec<PathBuf> {
        let on_path = std::env::split_paths(&self.path).filter(|dir| dir.is_absolute());
        let mut dirs: Vec<PathBuf> = Vec::new();
        for dir in on_path {
            // Debian and people link single programs into the PATH: their home has all of them.
            for program in PROGRAMS {
                if let Ok(real) = dir.join(program).canonicalize() {
                    dirs.extend(real.parent().map(Path::to_path_buf));
                }
            }
        }
        dirs.extend(self.pg_config_bindir());
        for (parent, prefix, bin) in USUAL_PLACES {
            let parent = self.root.join(parent.trim_start_matches('/'));
            dirs.extend(newest_first(&parent, prefix).into_iter().map(|dir| dir.join(bin)));
        }
        dirs
    }

    fn pg_config_bindir(&self) -> Option<PathBuf> {
        let program = std::env::split_paths(&self.path).map(|d| d.join("pg_config")).find(|p| p.is_file())?;
        let output = Command::new(program).arg("--bindir").output().ok()?;
        let dir = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
        dir.is_absolute().then_some(dir)
    }

    fn none_found(&self, major: Option<u32>, passed_over: &[String]) -> Error {
        let wanted = major.map_or(format!("{OLDEST_MAJOR} or newer"), |m| m.to_string());
        let mut message = format!("no PostgreSQL {wanted} server found");
        if !passed_over.is_empty() {
            message = format!("{message}, only {}", passed_over.join(", "));
        }
        Error::new(ErrorKind::Config, message).hint(self.install_hint(major))
    }

    fn install_hint(&self, major: Option<u32>) -> String {
        let release = fs::read_to_string(self.root.join("etc/os-release")).unwrap_or_default();
        let like = |id: &str| release.lines().any(|l| l.starts_with("ID") && l.contains(id));
        let exact = |prefix: &str| major.map_or(String::new(), |m| format!("{prefix}{m}"));
        if like("debian") {
            format!("install it: apt-get install postgresql{}", exact("-"))
        } else if like("fedora") || like("rhel") {
            format!("install it: dnf install postgresql{}-server", exact(""))
        } else if cfg!(target_os = "macos") {
            format!("install it: brew install postgresql@{}", major.unwrap_or(17))
        } else {
            "install the PostgreSQL server, or put its bin directory (initdb, pg_ctl, postgres) on the PATH"
                .into()
        }
    }
}

impl Binaries {
    /// The server in this directory, when all of its programs are there and say their version.
    pub fn in_dir(dir: &Path) -> Option<Self> {
        if !PROGRAMS.iter().all(|program| dir.join(program).is_file()) {
            return None;
        }
        let output = Command::new(dir.join("postgres")).arg("--version").output().ok()?;
        let major = major_of(&String::from_utf8_lossy(&output.stdout))?;
        Some(Self { dir: dir.to_path_buf(), major })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The major version.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The path of one program.
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// 15 of `postgres (PostgreSQL) 15.18 (Debian …)`, also of `18beta1`.
fn major_of(version: &str) -> Option<u32> {
    let number = version.split_once("(PostgreSQL) ")?.1;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn newest_first(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?;
            Some((version, entry.path()))
        })
        .collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, path)| path).collect()
}
