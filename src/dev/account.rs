//! Who the private server runs as.

use std::{
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use nix::unistd::{Uid, User, geteuid};

use crate::error::{Error, ErrorKind, Result};

/// The operating system account of the server, its guardians, keepers and jobs.
///
/// PostgreSQL refuses to run as root, so root drops to `postgres`, else to `nobody`; anybody else stays
/// who they are.
#[derive(Debug, Clone)]
pub struct Account {
    user: User,
    drops_root: bool,
}

impl Account {
    /// Chooses the account for the calling user.
    pub fn choose() -> Result<Self> {
        let me = geteuid();
        let user = if me.is_root() {
            by_name("postgres")?.or(by_name("nobody")?).ok_or_else(|| {
                Error::new(ErrorKind::Config, "no user for PostgreSQL, which refuses to run as root")
                    .hint("create one: useradd --system postgres")
            })?
        } else {
            by_uid(me)?
        };
        Ok(Self { user, drops_root: me.is_root() })
    }

    /// The account's name.
    pub fn name(&self) -> &str {
        &self.user.name
    }

    /// Whether the caller is root and the account is not.
    pub fn drops_root(&self) -> bool {
        self.drops_root
    }

    /// A command that runs as this account with an environment made from nothing.
    pub fn command(&self, program: &Path, home: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into()))
            .env("HOME", home)
            .env("USER", self.name())
            .env("LOGNAME", self.name())
            .env("LC_ALL", "C")
            .current_dir(home);
        if self.drops_root {
            // With a uid set and root calling, std clears the supplementary groups as well.
            command.uid(self.user.uid.as_raw()).gid(self.user.gid.as_raw());
        }
        command
    }

    /// Gives a file or directory to the account; nothing to do where root is not dropped.
    pub fn own(&self, path: &Path) -> std::io::Result<()> {
        if self.drops_root {
            std::os::unix::fs::chown(path, Some(self.user.uid.as_raw()), Some(self.user.gid.as_raw()))?;
        }
        Ok(())
    }

    /// The first directory on the way to `path` (or `path` itself) that the account may not pass.
    pub fn barrier(&self, path: &Path) -> Option<PathBuf> {
        if !self.drops_root {
            return None;
        }
        let mut ancestors: Vec<_> = path.ancestors().filter(|p| p.exists()).collect();
        ancestors.reverse();
        ancestors.into_iter().find(|p| !self.may_pass(p)).map(Path::to_path_buf)
    }

    fn may_pass(&self, path: &Path) -> bool {
        path.metadata().is_ok_and(|meta| {
            let bit = if meta.uid() == self.user.uid.as_raw() {
                0o100
            } else if meta.gid() == self.user.gid.as_raw() {
                0o010
            } else {
                0o001
            };
            meta.mode() & bit != 0
        })
    }
}

fn by_name(name: &str) -> Result<Option<User>> {
    User::from_name(name).map_err(|errno| unknown(name, errno))
}

fn by_uid(uid: Uid) -> Result<User> {
    User::from_uid(uid).map_err(|errno| unknown(&format!("uid {uid}"), errno))?.ok_or_else(|| {
        Error::new(ErrorKind::Config, format!("uid {uid} has no user name, which PostgreSQL needs"))
            .hint(format!("add it to /etc/passwd: echo 'dev:x:{uid}:{uid}::/tmp:/bin/sh' >> /etc/passwd"))
    })
}

fn unknown(who: &str, errno: nix::Error) -> Error {
    Error::new(ErrorKind::Config, format!("{who} cannot be looked up among the users")).source(errno)
}
