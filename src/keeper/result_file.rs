//! The directory of a live run, and the result that the job may write there.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    unistd::{Uid, geteuid},
};
use serde_json::value::RawValue;

use super::{accounts::Identity, protocol::RunKey, sys};

/// The largest result that is stored.
const LIMIT: u64 = 1 << 20;
const NAME: &str = "result";

/// A directory that is there exactly as long as its run is live. Whoever ends what a dead keeper left
/// tells by it a running job from a leftover that was to be left.
#[derive(Debug)]
pub(super) struct RunDirectory {
    path: PathBuf,
    owner: Uid,
}

impl RunDirectory {
    /// Makes it, mode 0700, for this user or the keeper's own.
    pub(super) fn make(runs: &Path, key: RunKey, user: Option<&Identity>) -> io::Result<Self> {
        let path = Self::path_of(runs, key.run_id, key.claim_no);
        DirBuilder::new().mode(0o700).create(&path)?;
        let Some(Identity { uid, gid, .. }) = user else { return Ok(Self { path, owner: geteuid() }) };
        if let Err(err) = std::os::unix::fs::chown(&path, Some(*uid), Some(*gid)) {
            let _ = fs::remove_dir(&path);
            return Err(err);
        }
        Ok(Self { path, owner: Uid::from_raw(*uid) })
    }

    /// Where the directory of a run is while it is live.
    pub(super) fn path_of(runs: &Path, run_id: i64, claim_no: i64) -> PathBuf {
        runs.join(format!("{run_id}-{claim_no}"))
    }

    /// The value of `SISYPHUS_RESULT_FILE`.
    pub(super) fn result_file(&self) -> PathBuf {
        self.path.join(NAME)
    }

    /// Reads the result, removes the directory, and says what was wrong with the result.
    pub(super) fn collect(self) -> (Option<Box<RawValue>>, Option<String>) {
        let outcome = self.read();
        self.remove();
        match outcome {
            Ok(result) => (result, None),
            Err(reason) => (None, Some(format!("result file ignored: {reason}"))),
        }
    }

    /// Removes the directory and what a job may have put there.
    pub(super) fn remove(self) {
        let _ = fs::remove_file(self.result_file());
        if fs::remove_dir(&self.path).is_ok() {
            return;
        }
        // A job may leave a deep tree here. The name must be gone now, the rest may take its time.
        let gone = self.path.with_extension("gone");
        if fs::rename(&self.path, &gone).is_ok() {
            let _ = sys::fork_into(|| {
                // Neither the keeper's lock nor anybody's pipe may be held open by this.
                let _ = sys::close_all_but(&[]);
                i32::from(fs::remove_dir_all(&gone).is_err())
            });
        }
    }

    fn read(&self) -> Result<Option<Box<RawValue>>, String> {
        let opened = File::open(&self.path).and_then(|directory| {
            let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
            let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
            Ok(File::from(openat2(directory, NAME, OpenHow::new().flags(flags).resolve(resolve))?))
        });
        let file = match opened {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|err| err.to_string())?,
        };
        let found = file.metadata().map_err(|err| err.to_string())?;
        if !found.is_file() || found.nlink() != 1 || found.uid() != self.owner.as_raw() {
            return Err("it is not a plain file of the job's user".to_owned());
        }
        if found.len() > LIMIT {
            return Err(format!("it has {} bytes, at most {LIMIT} are stored", found.len()));
        }
        let mut text = Vec::new();
        file.take(LIMIT + 1).read_to_end(&mut text).map_err(|err| err.to_string())?;
        if text.len() as u64 > LIMIT {
            return Err(format!("it grew over {LIMIT} bytes"));
        }
        if text.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        // JSON allows a line end between its parts only, where a blank does as well; ours is one line.
        text.iter_mut().filter(|byte| matches!(**byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
        let text = String::from_utf8(text).map_err(|_| "it is not UTF-8".to_owned())?;
        RawValue::from_string(text).map(Some).map_err(|err| format!("it is not JSON: {err}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collected(prepare: impl FnOnce(&Path)) -> (Option<String>, Option<String>) {
        let root = tempfile::tempdir().unwrap();
        let key = RunKey { installation: uuid::Uuid::nil(), run_id: 1, claim_no: 2 };
        let directory = RunDirectory::make(root.path(), key, None).unwrap();
        prepare(&directory.result_file());
        let (result, note) = directory.collect();
        assert!(!RunDirectory::path_of(root.path(), 1, 2).exists());
        (result.map(|json| json.get().to_owned()), note)
    }

    #[test]
    fn what_was_written_is_the_result_on_one_line() {
        let (result, note) = collected(|file| fs::write(file, "{\n\"a\": 1.50\n}").unwrap());
        assert_eq!((result.as_deref(), note), (Some("{ \"a\": 1.50 }"), None));
        assert_eq!(collected(|_| ()), (None, None));
        assert_eq!(collected(|file| fs::write(file, " \n").unwrap()), (None, None));
    }

    #[test]
    fn what_is_no_plain_file_is_not_read() {
        let link = |file: &Path| std::os::unix::fs::symlink("/etc/hostname", file).unwrap();
        let fifo = |file: &Path| nix::unistd::mkfifo(file, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let folder = |file: &Path| fs::create_dir_all(file.join("deep/er")).unwrap();
        let sparse = |file: &Path| File::create(file).unwrap().set_len(1 << 40).unwrap();
        let second_name = |file: &Path| {
            fs::write(file, "1").unwrap();
            fs::hard_link(file, file.with_file_name("other")).unwrap();
        };
        let prepares: [&dyn Fn(&Path); 5] = [&link, &fifo, &folder, &sparse, &second_name];
        for prepare in prepares {
            let (result, note) = collected(prepare);
            assert_eq!(result, None);
            assert!(note.unwrap().starts_with("result file ignored: "));
        }
        let (_, note) = collected(|file| fs::write(file, "{\"a\":").unwrap());
        assert!(note.unwrap().starts_with("result file ignored: it is not JSON"));
    }
}
