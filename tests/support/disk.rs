//! File systems of a few megabytes, to be filled up, and such that do not answer.

use std::{
    fs::{self, File},
    io::Write,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::Command,
};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
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

/// A FUSE mount that nobody serves: everything in it hangs until it is dropped.
pub(crate) struct HungDisk(PathBuf, File);

impl HungDisk {
    /// None, loudly, where that cannot be made.
    pub(crate) fn mount(at: &Path) -> Option<Self> {
        let device = File::options().read(true).write(true).open("/dev/fuse");
        let mounted = device.and_then(|device| {
            fs::create_dir(at)?;
            let data = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
            mount(Some("hung"), at, Some("fuse"), MsFlags::empty(), Some(data.as_str()))?;
            Ok(device)
        });
        match mounted {
            Ok(device) => Some(Self(at.to_owned(), device)),
            Err(err) => {
                eprintln!("SKIPPED: no file system that hangs can be made here: {err}");
                None
            }
        }
    }
}

impl Drop for HungDisk {
    fn drop(&mut self) {
        // Who hangs in it still uses it, and goes on once the device is closed.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}
