//! Who this host is: the lock on its state directory and what is written there.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    str::FromStr,
};

use nix::fcntl::Flock;
use uuid::Uuid;

use crate::{
    db::messages::SeenTick,
    error::{Error, ErrorKind, Result},
    keeper::{StateDirectory, clock},
};

const SEEN_TICK: &str = "seen_tick";
const SETTLED: &str = "settled";
const KEEP_EVERY_US: i64 = 60_000_000;

/// The state directory, locked for this guardian until dropped.
#[derive(Debug)]
pub(super) struct Identity {
    /// The directory.
    pub(super) directory: StateDirectory,
    /// Random, made with the directory: tells cloned machines apart.
    pub(super) host_key: Uuid,
    /// Raised by each guardian: the keeper listens to the highest alone. Microseconds since 1970 or more, for the keeper
    /// may live on when this directory is lost.
    pub(super) epoch: u64,
    /// The installation that this host last served.
    pub(super) installation: Option<Uuid>,
    /// The newest tick of that installation, microseconds since 1970, and what of it is on disk.
    seen_tick_us: Option<i64>,
    kept_tick_us: Option<i64>,
    /// The server that has every result which was acknowledged, as it was when it had the last of them.
    settled: Option<String>,
    _lock: Flock<File>,
}

impl Identity {
    /// Locks the directory and raises the epoch; none when another guardian has the lock.
    pub(super) fn take(directory: StateDirectory) -> Result<Option<Self>> {
        let Some(lock) = directory.try_lock("lock")? else { return Ok(None) };
        let host_key = match read(&directory, "host_key")? {
            Some(key) => key,
            None => {
                let key = Uuid::new_v4();
                write(&directory, "host_key", &key.to_string())?;
                key
            }
        };
        let last = read::<u64>(&directory, "epoch")?.unwrap_or(0);
        let epoch = u64::try_from(clock::now().realtime_us).unwrap_or(0).max(last + 1);
        write_over(&directory, "epoch", &format!("{epoch:020}"))?;
        let installation = read(&directory, "installation")?;
        let tick = read(&directory, SEEN_TICK)?;
        let settled = read(&directory, SETTLED)?;
        Ok(Some(Self {
            directory,
            host_key,
            epoch,
            installation,
            seen_tick_us: tick,
            kept_tick_us: tick,
            settled,
            _lock: lock,
        }))
    }

    /// Remembers the installation; returns whether it was another one or none before.
    pub(super) fn serve(&mut self, installation: Uuid) -> Result<bool> {
        if self.installation == Some(installation) {
            return Ok(false);
        }
        // First the tick: left beside another installation it would speak of that one.
        write(&self.directory, SEEN_TICK, "")?;
        (self.seen_tick_us, self.kept_tick_us) = (None, None);
        write(&self.directory, "installation", &installation.to_string())?;
        self.installation = Some(installation);
        Ok(true)
    }

    /// Whether this server, as it runs now, surely has all that was acknowledged: also by guardians before this one.
    pub(super) fn is_settled_with(&self, server: &str) -> bool {
        self.settled.as_deref() == Some(server)
    }

    /// Whether a server is known that has all that was acknowledged.
    pub(super) fn was_settled(&self) -> bool {
        self.settled.is_some()
    }

    /// From now on another server may be the one that acknowledges. Before anything is delivered to it, so that the
    /// earlier one is not trusted again when this guardian dies.
    pub(super) fn unsettle(&mut self) -> Result<()> {
        self.settled = None;
        let path = self.directory.path().join(SETTLED);
        match fs::remove_file(&path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                Err(broken(&path, "cannot be removed").source(err))
            }
            _ => Ok(()),
        }
    }

    /// Remembers that this server has all. Not waited for: what is not on disk is offered once more.
    pub(super) fn settle(&mut self, server: String) {
        if let Err(err) = self.directory.replace(SETTLED, &server, |_| Ok(())) {
            tracing::debug!(error = %super::told(&err), "the server that has all results is not on disk");
        }
        self.settled = Some(server);
    }

    /// Remembers the newest tick: a database that does not know it was restored from before. To disk once a
    /// minute, which is exact enough, for a host that is started anew together with its database.
    pub(super) fn saw_tick(&mut self, at_us: i64) {
        let newest = at_us.max(self.seen_tick_us.unwrap_or(at_us));
        self.seen_tick_us = Some(newest);
        if self.kept_tick_us.is_none_or(|kept| newest - kept >= KEEP_EVERY_US) {
            // Even when it cannot be written: a full disk is told elsewhere.
            self.kept_tick_us = Some(newest);
            // Not waited for: a busy disk takes its time, and runs are due.
            let text = newest.to_string();
            if let Err(err) = self.directory.replace(SEEN_TICK, &text, |_| Ok(())) {
                tracing::debug!(error = %super::told(&err), "the newest tick is not on disk");
            }
        }
    }

    /// What [`Self::saw_tick`] remembers.
    pub(super) fn seen_tick(&self) -> Option<SeenTick> {
        Some(SeenTick { installation: self.installation?, at_us: self.seen_tick_us? })
    }
}

/// What a file says; none when it is not there or empty (the machine stopped before it was on disk).
fn read<T: FromStr>(directory: &StateDirectory, name: &str) -> Result<Option<T>> {
    let path = directory.path().join(name);
    match fs::read_to_string(&path) {
        Ok(text) if text.trim().is_empty() => Ok(None),
        Ok(text) => {
            let value = text.trim().parse().map_err(|_| {
                broken(&path, "does not hold what it should").hint("remove it; the guardian makes a new one")
            })?;
            Ok(Some(value))
        }
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(broken(&path, "cannot be read").source(err)),
    }
}

/// Replaces a file as a whole and makes it durable.
fn write(directory: &StateDirectory, name: &str, text: &str) -> Result<()> {
    directory.replace(name, text, File::sync_data)
}

/// Writes over what a file says, of the same length each time: it needs no room, so a guardian also starts on a full
/// disk. As short as it is it lies in one sector, which is written whole or not at all.
fn write_over(directory: &StateDirectory, name: &str, text: &str) -> Result<()> {
    let path = directory.path().join(name);
    let replace = || {
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path)?;
        file.write_all(format!("{text}\n").as_bytes())?;
        file.sync_data()
    };
    replace().map_err(|err: std::io::Error| broken(&path, "cannot be written").source(err))
}

fn broken(path: &PathBuf, what: &str) -> Error {
    Error::new(ErrorKind::Config, format!("state file {path:?} {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_guardian_a_directory_and_each_with_a_higher_epoch() {
        let root = tempfile::tempdir().unwrap();
        let open = || StateDirectory::open(root.path()).unwrap();
        let first = Identity::take(open()).unwrap().expect("nobody has it");
        assert!(Identity::take(open()).unwrap().is_none());
        let (key, epoch) = (first.host_key, first.epoch);
        drop(first);
        let mut second = Identity::take(open()).unwrap().expect("it is free again");
        assert_eq!(second.host_key, key);
        assert!(second.epoch > epoch);
        let installation = Uuid::new_v4();
        assert!(second.serve(installation).unwrap());
        assert!(!second.serve(installation).unwrap());
    }

    #[test]
    fn a_keeper_listens_to_a_guardian_whose_directory_was_lost() {
        let root = tempfile::tempdir().unwrap();
        let take = || Identity::take(StateDirectory::open(root.path()).unwrap()).unwrap().expect("free");
        drop(take());
        let before = take().epoch;
        fs::remove_file(root.path().join("epoch")).unwrap();
        assert!(take().epoch > before);
        fs::write(root.path().join("epoch"), format!("{:020}", u64::MAX / 2)).unwrap();
        assert_eq!(take().epoch, u64::MAX / 2 + 1, "a clock that was set back changes nothing");
    }

    #[test]
    fn the_newest_tick_of_the_installation_outlives_the_guardian() {
        let root = tempfile::tempdir().unwrap();
        let take = || Identity::take(StateDirectory::open(root.path()).unwrap()).unwrap().expect("free");
        let mut identity = take();
        let installation = Uuid::new_v4();
        identity.serve(installation).unwrap();
        for at_us in [7_000_000, 90_000_000, 30_000_000, 91_000_000] {
            identity.saw_tick(at_us);
        }
        assert_eq!(identity.seen_tick(), Some(SeenTick { installation, at_us: 91_000_000 }));
        drop(identity);
        let mut next = take();
        assert_eq!(next.seen_tick(), Some(SeenTick { installation, at_us: 90_000_000 }));
        next.serve(Uuid::new_v4()).unwrap();
        assert_eq!(next.seen_tick(), None, "ticks of another installation say nothing");
    }

    #[test]
    fn the_server_that_has_all_results_outlives_the_guardian_until_another_one_comes() {
        let root = tempfile::tempdir().unwrap();
        let take = || Identity::take(StateDirectory::open(root.path()).unwrap()).unwrap().expect("free");
        let mut identity = take();
        assert!(!identity.is_settled_with("7 1 2026-01-01 00:00:00+00 local"));
        identity.settle("7 1 2026-01-01 00:00:00+00 local".into());
        drop(identity);
        let mut next = take();
        assert!(next.is_settled_with("7 1 2026-01-01 00:00:00+00 local"));
        assert!(!next.is_settled_with("7 2 2026-01-01 00:00:00+00 local"));
        next.unsettle().unwrap();
        next.unsettle().unwrap();
        drop(next);
        assert!(!take().is_settled_with("7 1 2026-01-01 00:00:00+00 local"));
    }
}
