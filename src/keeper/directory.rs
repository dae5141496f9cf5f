//! The state directory of a host: where guardian and keeper of one host meet.

mod places;

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    unistd::geteuid,
};
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};

/// The longest path that fits `sockaddr_un`.
const MAX_SOCKET_PATH: usize = 107;

const KEEPER_ID: &str = "keeper_id";
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A state directory that exists, is ours, and whose socket path fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDirectory {
    path: PathBuf,
}

impl StateDirectory {
    /// Where the state directory is when nobody says: `/var/lib/sisyphus` for root, else under the XDG
    /// state folder of the user.
    pub fn default_path() -> Result<PathBuf> {
        if nix::unistd::geteuid().is_root() {
            return Ok(PathBuf::from("/var/lib/sisyphus"));
        }
        if let Some(xdg) = std::env::var_os("XDG_STATE_HOME").filter(|dir| Path::new(dir).is_absolute()) {
            return Ok(Path::new(&xdg).join("sisyphus"));
        }
        let home = std::env::var_os("HOME").filter(|dir| Path::new(dir).is_absolute());
        home.map(|home| Path::new(&home).join(".local/state/sisyphus")).ok_or_else(|| {
            Error::new(ErrorKind::Config, "no state directory: HOME is not set")
                .hint("Give one with --state-dir or SISYPHUS_STATE_DIR.")
        })
    }

    /// Makes the directory (mode 0700) when it is missing, and checks that it can be used, by this user alone: whoever
    /// else may put a socket there is told what the jobs are.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let config = |what: &str| Error::new(ErrorKind::Config, format!("state directory {path:?} {what}"));
        let directory = Self::at(path)?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory.path)
            .map_err(|err| config("cannot be made").source(err))?;
        let found = fs::metadata(&directory.path).map_err(|err| config("cannot be looked at").source(err))?;
        if ![0, geteuid().as_raw()].contains(&found.uid()) {
            return Err(config(&format!("belongs to user {}", found.uid())).hint(format!(
                "give it to this user (chown {} {path:?}), or choose another one with --state-dir",
                geteuid()
            )));
        }
        if found.mode() & WRITABLE_BY_OTHERS != 0 {
            return Err(config("is writable by others").hint(format!(
                "take that from them (chmod go-w {path:?}), or choose another one with --state-dir"
            )));
        }
        nix::unistd::access(&directory.path, nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK)
            .map_err(|err| {
                config("is not writable")
                    .source(err)
                    .hint("Give it to this user, or choose another one with --state-dir.")
            })?;
        Ok(directory)
    }

    /// A directory that is another user's, or not there yet: only its socket is to be used.
    pub fn at(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let absolute = std::path::absolute(path).map_err(|err| {
            Error::new(ErrorKind::Config, format!("state directory {path:?} has no absolute path"))
                .source(err)
        })?;
        let directory = Self { path: absolute };
        let length = directory.socket().as_os_str().len();
        if length > MAX_SOCKET_PATH {
            let message = format!(
                "socket path too long: {:?} has {length} bytes, at most {MAX_SOCKET_PATH} are possible",
                directory.socket()
            );
            return Err(Error::new(ErrorKind::Config, message).hint("Choose a shorter --state-dir."));
        }
        Ok(directory)
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the keeper listens.
    pub fn socket(&self) -> PathBuf {
        self.path.join("keeper.sock")
    }

    /// Whether a keeper, or the writer of its results, still runs: its lock is held. Never judged by a pid.
    pub fn keeper_is_alive(&self) -> Result<bool> {
        Ok(self.try_lock_keeper()?.is_none())
    }

    /// The id of the newest keeper, alive or dead.
    pub fn keeper_id(&self) -> Option<Uuid> {
        fs::read_to_string(self.path.join(KEEPER_ID)).ok()?.trim().parse().ok()
    }

    /// Takes the keeper's lock; none when another keeper has it.
    pub(super) fn try_lock_keeper(&self) -> Result<Option<Flock<File>>> {
        self.try_lock("keeper.lock")
    }

    /// Takes the lock that a file is; none when another process has it.
    pub(crate) fn try_lock(&self, name: &str) -> Result<Option<Flock<File>>> {
        let path = self.path.join(name);
        let fault =
            |err: io::Error| Error::new(ErrorKind::Config, format!("cannot lock {path:?}")).source(err);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(fault)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(fault(errno.into())),
        }
    }

    /// Records the id of the keeper that holds the lock.
    pub(super) fn write_keeper_id(&self, id: Uuid) -> Result<()> {
        self.replace(KEEPER_ID, &id.to_string(), File::sync_data)
    }

    /// Replaces a file as a whole.
    pub(crate) fn replace(
        &self,
        name: &str,
        text: &str,
        sync: impl FnOnce(&File) -> io::Result<()>,
    ) -> Result<()> {
        let path = self.path.join(name);
        let draft = self.path.join(format!("{name}.new"));
        let make = || {
            let mut file =
                OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&draft)?;
            writeln!(file, "{text}")?;
            sync(&file)?;
            fs::rename(&draft, &path)
        };
        make().map_err(|err| Error::new(ErrorKind::Config, format!("cannot write {path:?}")).source(err))
    }

    /// Where the segments of the result log stand.
    pub(super) fn results(&self) -> PathBuf {
        self.path.join("results")
    }

    /// Lets everybody pass, and not look, as far as the directories of runs.
    pub(super) fn let_through(&self) -> io::Result<()> {
        [&self.path, &self.runs()].into_iter().try_for_each(|path| {
            let mode = fs::metadata(path)?.permissions().mode();
            fs::set_permissions(path, fs::Permissions::from_mode(mode | 0o111))
        })
    }

    /// Where each live run has its directory. One that is there marks a run that has not ended.
    pub(super) fn runs(&self) -> PathBuf {
        self.path.join("runs")
    }

    /// Where the keeper that holds the lock has its control groups; none: nowhere.
    pub(super) fn write_groups(&self, root: Option<&Path>) -> Result<()> {
        let path = self.path.join("cgroup");
        let text = root.map(|root| root.as_os_str().as_bytes()).unwrap_or_default();
        fs::write(&path, text)
            .map_err(|err| Error::new(ErrorKind::Config, format!("cannot write {path:?}")).source(err))
    }

    /// Where the newest keeper has or had its control groups.
    pub(super) fn groups(&self) -> Option<PathBuf> {
        let text = fs::read(self.path.join("cgroup")).ok().filter(|text| !text.is_empty())?;
        Some(PathBuf::from(OsString::from_vec(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_path_that_cannot_be_bound_is_refused_by_name() {
        let root = tempfile::tempdir().unwrap();
        let err = StateDirectory::open(root.path().join("x".repeat(100))).unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Config);
        assert!(err.to_string().starts_with("socket path too long: "), "{err}");
    }

    #[test]
    fn a_directory_in_which_others_can_put_a_socket_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let open = || StateDirectory::open(root.path()).map(drop);
        for mode in [0o720, 0o702, 0o1777] {
            fs::set_permissions(root.path(), fs::Permissions::from_mode(mode)).unwrap();
            let err = open().unwrap_err();
            assert!(err.to_string().ends_with("is writable by others"), "{err}");
            assert!(err.hint_text().unwrap().contains("chmod go-w"));
        }
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        open().unwrap();
        if !geteuid().is_root() {
            eprintln!("SKIPPED: only root can give a directory away");
            return;
        }
        std::os::unix::fs::chown(root.path(), Some(12345), None).unwrap();
        let err = open().unwrap_err();
        assert!(err.to_string().ends_with("belongs to user 12345"), "{err}");
        assert!(err.hint_text().unwrap().contains("chown 0 "));
    }

    #[test]
    fn the_lock_tells_whether_a_keeper_lives() {
        let root = tempfile::tempdir().unwrap();
        let directory = StateDirectory::open(root.path().join("state")).unwrap();
        let lock = directory.try_lock_keeper().unwrap().expect("nobody has it");
        assert!(directory.keeper_is_alive().unwrap());
        drop(lock);
        assert!(!directory.keeper_is_alive().unwrap());
    }
}
