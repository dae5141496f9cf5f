//! The directory of a live run, and the result that the job may write there.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::{self, DirBuilder, File},
    io::{self, Read},
    os::{
        fd::AsFd,
        unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    unistd::{Uid, geteuid},
};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{accounts::Identity, protocol::RunKey, sys};

/// The largest result that is stored.
const LIMIT: u64 = 1 << 20;
const NAME: &str = "result";
/// Empty directories kept for the next runs: more than are ever needed at once by jobs that end in a moment.
const MOST_SPARE: usize = 256;

/// The directories of the live runs of a keeper, and empty ones for the next. To make and remove one costs a file
/// system such as ext4 ten times what renaming it does, when it happens a thousand times a second.
#[derive(Debug)]
pub(super) struct RunDirectories {
    runs: PathBuf,
    keeper: Uuid,
    spare: HashMap<Uid, Vec<PathBuf>>,
    spares: usize,
    last: u64,
}

/// A directory that is there exactly as long as its run is live. Whoever ends what a dead keeper left
/// tells by it a running job from a leftover that was to be left.
#[derive(Debug)]
pub(super) struct RunDirectory {
    path: PathBuf,
    owner: Uid,
    /// Whether nothing of the run will be left that may still use it.
    is_reusable: bool,
}

impl RunDirectories {
    /// None yet. `keeper` tells them from those of a keeper that leaves.
    pub(super) fn new(runs: PathBuf, keeper: Uuid) -> Self {
        Self { runs, keeper, spare: HashMap::new(), spares: 0, last: 0 }
    }

    /// Where they are.
    pub(super) fn path(&self) -> &Path {
        &self.runs
    }

    /// Makes that of a run, mode 0700, for this user or the keeper's own.
    pub(super) fn make(
        &mut self,
        key: RunKey,
        user: Option<&Identity>,
        is_reusable: bool,
    ) -> io::Result<RunDirectory> {
        let path = RunDirectory::path_of(&self.runs, key.run_id, key.claim_no);
        let owner = user.map_or_else(geteuid, |user| Uid::from_raw(user.uid));
        if let Some(spare) = self.spare.get_mut(&owner).and_then(Vec::pop) {
            self.spares -= 1;
            if fs::rename(spare, &path).is_ok() {
                return Ok(RunDirectory { path, owner, is_reusable });
            }
        }
        DirBuilder::new().mode(0o700).create(&path)?;
        if let Some(Identity { uid, gid, .. }) = user
            && let Err(err) = std::os::unix::fs::chown(&path, Some(*uid), Some(*gid))
        {
            let _ = fs::remove_dir(&path);
            return Err(err);
        }
        Ok(RunDirectory { path, owner, is_reusable })
    }

    /// Reads the result, puts the directory away, and says what was wrong with the result.
    pub(super) fn collect(&mut self, directory: RunDirectory) -> (Option<Box<RawValue>>, Option<String>) {
        // A job of this user may have put something else there, such as a pipe, which is not to be waited for.
        let flags = (OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits();
        let opened = File::options().read(true).custom_flags(flags).open(&directory.path);
        let outcome = opened.as_ref().map_err(ToString::to_string).and_then(|it| directory.read(it));
        let is_unused = matches!(outcome, Ok(None)) && opened.is_ok_and(|it| directory.is_as_made(it));
        if !is_unused || !self.keep(&directory) {
            directory.remove();
        }
        match outcome {
            Ok(result) => (result, None),
            Err(reason) => (None, Some(format!("result file ignored: {reason}"))),
        }
    }

    /// Puts an unused one away for the next run of its user.
    fn keep(&mut self, directory: &RunDirectory) -> bool {
        if self.spares >= MOST_SPARE || !directory.is_reusable {
            return false;
        }
        self.last += 1;
        let spare = self.runs.join(format!("spare-{}-{}", self.keeper.as_simple(), self.last));
        if fs::rename(&directory.path, &spare).is_err() {
            return false;
        }
        self.spares += 1;
        self.spare.entry(directory.owner).or_default().push(spare);
        true
    }
}

impl RunDirectory {
    /// Where the directory of a run is while it is live.
    pub(super) fn path_of(runs: &Path, run_id: i64, claim_no: i64) -> PathBuf {
        runs.join(format!("{run_id}-{claim_no}"))
    }

    /// The run and the claim of which a directory of this name is; none of a spare one.
    pub(super) fn claim_of(name: &OsStr) -> Option<(i64, i64)> {
        let (run_id, claim_no) = name.to_str()?.split_once('-')?;
        Some((run_id.parse().ok()?, claim_no.parse().ok()?))
    }

    /// The value of `SISYPHUS_RESULT_FILE`.
    pub(super) fn result_file(&self) -> PathBuf {
        self.path.join(NAME)
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
                i32::from(fs::remove_dir_all(&gone).or_else(|_| fs::remove_file(&gone)).is_err())
            });
        }
    }

    /// Whether nothing is in it, and its owner has not opened it to others.
    fn is_as_made(&self, directory: File) -> bool {
        let is_private = directory
            .metadata()
            .is_ok_and(|found| found.uid() == self.owner.as_raw() && found.mode() & 0o7777 == 0o700);
        is_private
            && Dir::from_fd(directory.into()).is_ok_and(|mut directory| {
                directory
                    .iter()
                    .all(|entry| entry.is_ok_and(|it| matches!(it.file_name().to_bytes(), b"." | b"..")))
            })
    }

    fn read(&self, directory: &File) -> Result<Option<Box<RawValue>>, String> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
        let file = match openat2(directory.as_fd(), NAME, OpenHow::new().flags(flags).resolve(resolve)) {
            Err(Errno::ENOENT) => return Ok(None),
            opened => File::from(opened.map_err(|errno| io::Error::from(errno).to_string())?),
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
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn collected(prepare: impl FnOnce(&Path)) -> (Option<String>, Option<String>) {
        let root = tempfile::tempdir().unwrap();
        let mut directories = RunDirectories::new(root.path().to_owned(), Uuid::nil());
        let directory = directories.make(key(1, 2), None, true).unwrap();
        prepare(&directory.result_file());
        let (result, note) = directories.collect(directory);
        assert!(!RunDirectory::path_of(root.path(), 1, 2).exists());
        (result.map(|json| json.get().to_owned()), note)
    }

    fn key(run_id: i64, claim_no: i64) -> RunKey {
        RunKey { installation: Uuid::nil(), run_id, claim_no }
    }

    #[test]
    fn only_a_directory_that_is_as_it_was_made_serves_another_run() {
        let root = tempfile::tempdir().unwrap();
        let mut directories = RunDirectories::new(root.path().to_owned(), Uuid::nil());
        let inode = |directory: &RunDirectory| fs::metadata(&directory.path).unwrap().ino();
        let mut lives = |run_id, is_reusable, use_it: &dyn Fn(&Path)| {
            let directory = directories.make(key(run_id, run_id), None, is_reusable).unwrap();
            let inode = inode(&directory);
            assert_eq!(fs::metadata(&directory.path).unwrap().mode() & 0o7777, 0o700);
            assert_eq!(fs::read_dir(&directory.path).unwrap().count(), 0);
            // It is busy for whoever made it, so that no inode is used again by chance.
            let _open = File::open(&directory.path).unwrap();
            use_it(&directory.path);
            directories.collect(directory);
            let next = directories.make(key(run_id, -run_id), None, true).unwrap();
            let is_same = fs::metadata(&next.path).unwrap().ino() == inode;
            next.remove();
            is_same
        };
        assert!(lives(1, true, &|_| ()));
        assert!(!lives(2, false, &|_| ()), "what is left of the run may still write to it");
        assert!(!lives(3, true, &|path| fs::write(path.join("result"), "1").unwrap()));
        assert!(!lives(4, true, &|path| fs::write(path.join("other"), "1").unwrap()));
        let open_to_all = fs::Permissions::from_mode(0o777);
        assert!(!lives(5, true, &|path| fs::set_permissions(path, open_to_all.clone()).unwrap()));
        // What a job has put there may take its time to go.
        let is_left = |path: &PathBuf| path.extension().is_none_or(|it| it != "gone");
        let left = fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().path()).filter(is_left);
        assert_eq!(left.count(), 0);
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
