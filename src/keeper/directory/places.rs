//! Places for several keepers: one that is newer starts beside an older one, in a place of its own.

use std::{collections::HashSet, fs, io, os::unix::fs::MetadataExt, path::PathBuf};

use super::StateDirectory;
use crate::{
    error::{Error, ErrorKind, Result},
    keeper::{
        clock,
        result_file::RunDirectory,
        store::{self, RETENTION_US},
    },
};

/// The name of a further place, before its number.
const PREFIX: &str = "keeper.";

impl StateDirectory {
    /// The places for keepers that there are: the directory itself, then further ones in it, oldest first.
    pub fn places(&self) -> Result<Vec<Self>> {
        let further = self.numbers()?.into_iter().map(|number| self.place(number));
        Ok(std::iter::once(self.clone()).chain(further).collect())
    }

    /// One more place.
    pub fn next_place(&self) -> Result<Self> {
        let next = self.numbers()?.last().map_or(1, |last| last + 1);
        Self::open(self.place(next).path)
    }

    /// Whether a keeper that is gone left something: results, or runs to be ended.
    pub fn has_leavings(&self) -> bool {
        let has_runs = fs::read_dir(self.runs()).is_ok_and(|mut runs| runs.next().is_some());
        has_runs || !self.segments().is_empty()
    }

    /// What the keeper of this place has, without asking it: its live runs, and those whose results nobody has
    /// acknowledged; run and claim. What it has in memory alone is not among them.
    pub fn claims(&self) -> Result<Vec<(i64, i64)>> {
        let fault = |err| {
            let message = format!("what the keeper in {:?} has cannot be read", self.path);
            Error::new(ErrorKind::Failed, message).source(err)
        };
        let there = |read: io::Result<_>| match read {
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(HashSet::new()),
            read => read.map_err(fault),
        };
        let mut claims = there(self.live_claims())?;
        let undelivered = store::undelivered(&self.results())
            .map(|keys| keys.into_iter().map(|key| (key.run_id, key.claim_no)).collect::<HashSet<_>>());
        claims.extend(there(undelivered)?);
        Ok(claims.into_iter().collect())
    }

    fn live_claims(&self) -> io::Result<HashSet<(i64, i64)>> {
        let entries = fs::read_dir(self.runs())?;
        Ok(entries.flatten().filter_map(|entry| RunDirectory::claim_of(&entry.file_name())).collect())
    }

    /// Removes what a keeper that had nothing more to deliver left in this place, once it is too old to be
    /// asked for. The caller lets nobody start a keeper here meanwhile.
    pub fn clear_when_spent(&self) -> Result<()> {
        let now_us = clock::now().realtime_us;
        let fresh = |path: &PathBuf| {
            let written = fs::metadata(path).map(|it| it.mtime() * 1_000_000);
            written.is_ok_and(|at_us| now_us - at_us < RETENTION_US)
        };
        if self.segments().iter().any(fresh) {
            return Ok(());
        }
        let Some(_lock) = self.try_lock_keeper()? else { return Ok(()) };
        let is_further = self.path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
        let doomed = if is_further { self.path.clone() } else { self.results() };
        match fs::remove_dir_all(&doomed) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                Err(Error::new(ErrorKind::Failed, format!("{doomed:?} cannot be removed")).source(err))
            }
            _ => Ok(()),
        }
    }

    fn place(&self, number: u64) -> Self {
        Self { path: self.path.join(format!("{PREFIX}{number}")) }
    }

    fn numbers(&self) -> Result<Vec<u64>> {
        let fault = |err| {
            Error::new(ErrorKind::Config, format!("state directory {:?} cannot be read", self.path))
                .source(err)
        };
        let mut numbers = Vec::new();
        let entries = match fs::read_dir(&self.path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(numbers),
            entries => entries.map_err(fault)?,
        };
        for entry in entries {
            let entry = entry.map_err(fault)?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u64>().ok());
            numbers.extend(number.filter(|_| entry.path().is_dir()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The files that hold results.
    fn segments(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.results()) else { return Vec::new() };
        let paths = entries.flatten().map(|entry| entry.path());
        paths.filter(|path| path.extension().is_some_and(|it| it == "log")).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, time::Duration};

    use super::*;

    fn age(path: &PathBuf, by_us: i64) {
        let file = File::open(path).unwrap();
        let written = file.metadata().unwrap().modified().unwrap();
        file.set_modified(written - Duration::from_micros(by_us.unsigned_abs())).unwrap();
    }

    #[test]
    fn what_a_keeper_has_can_be_seen_without_it() {
        let root = tempfile::tempdir().unwrap();
        let directory = StateDirectory::open(root.path()).unwrap();
        assert_eq!(directory.claims().unwrap(), []);
        for name in ["7-70", "spare-0123456789abcdef-1", "8-80"] {
            fs::create_dir_all(directory.runs().join(name)).unwrap();
        }
        fs::create_dir(directory.results()).unwrap();
        let mut claims = directory.claims().unwrap();
        claims.sort_unstable();
        assert_eq!(claims, [(7, 70), (8, 80)]);
    }

    #[test]
    fn a_place_is_there_until_its_results_are_too_old_to_be_asked_for() {
        let root = tempfile::tempdir().unwrap();
        let directory = StateDirectory::open(root.path()).unwrap();
        assert_eq!(directory.places().unwrap(), std::slice::from_ref(&directory));
        let (first, second) = (directory.next_place().unwrap(), directory.next_place().unwrap());
        assert_eq!(directory.places().unwrap(), [directory.clone(), first.clone(), second.clone()]);
        assert!(!first.has_leavings());
        let segment = first.results().join("results.00000001.log");
        fs::create_dir(first.results()).unwrap();
        fs::write(&segment, "").unwrap();
        age(&segment, RETENTION_US / 2);
        first.clear_when_spent().unwrap();
        assert!(first.has_leavings());
        age(&segment, RETENTION_US * 2);
        let lock = second.try_lock_keeper().unwrap();
        second.clear_when_spent().unwrap();
        first.clear_when_spent().unwrap();
        assert_eq!(
            directory.places().unwrap(),
            [directory.clone(), second.clone()],
            "the lock of one is held"
        );
        drop(lock);
        directory.clear_when_spent().unwrap();
        assert!(directory.path().exists(), "the directory itself stays");
    }
}
