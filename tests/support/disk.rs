//! A file system of a few megabytes, to be filled up.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::server::folder;

/// A file system with little room, gone with the value.
pub(crate) struct SmallDisk(TempDir);

impl SmallDisk {
    /// None, loudly, where nothing may be mounted.
    pub(crate) fn mount(megabytes: u32) -> Option<Self> {
        let dir = folder();
        let size = format!("size={megabytes}m,mode=755");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        if done.is_ok_and(|output| output.status.success()) {
            return Some(Self(dir));
        }
        eprintln!("SKIPPED: nothing can be mounted here");
        None
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// A directory on it that may be the server's.
    pub(crate) fn folder(&self) -> TempDir {
        tempfile::Builder::new()
            .prefix("sis")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir_in(self.0.path())
            .unwrap()
    }

    /// Takes all room that is left, and frees it when dropped.
    pub(crate) fn fill(&self) -> Filler {
        let path = self.0.path().join("filler");
        let mut file = fs::File::create(&path).unwrap();
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
        Filler(path)
    }
}

pub(crate) struct Filler(PathBuf);

impl Drop for Filler {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(self.0.path()).output().ok();
    }
}
