//! Whether a file is what root wants it to be: nobody else can have put it or anything above it in its place.

use std::{
    collections::VecDeque,
    ffi::OsString,
    fs,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

use nix::unistd::geteuid;

/// As many links as the kernel follows.
const MOST_LINKS: usize = 40;
const WRITABLE_BY_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// Checks a file and every directory on the way to it, also by links. The error says what is wrong.
///
/// In a directory where everybody may put things but take away only their own, as in /tmp, what belongs to
/// root is safe.
pub(in crate::keeper) fn check(path: &Path) -> Result<(), String> {
    let mut rest: VecDeque<OsString> = names(path);
    let mut at = PathBuf::from("/");
    let mut links = 0;
    check_one(&at, false)?;
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        let found = fs::symlink_metadata(&next).map_err(|err| format!("{next:?}: {err}"))?;
        if !found.file_type().is_symlink() {
            check_one(&next, rest.is_empty())?;
            at = next;
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(format!("{path:?} has too many links"));
        }
        check_owner(&next, &found)?;
        let target = fs::read_link(&next).map_err(|err| format!("{next:?}: {err}"))?;
        if target.is_absolute() {
            at = PathBuf::from("/");
        }
        let mut whole = names(&target);
        whole.append(&mut rest);
        rest = whole;
    }
    Ok(())
}

fn names(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}

fn check_one(path: &Path, is_last: bool) -> Result<(), String> {
    let found = fs::symlink_metadata(path).map_err(|err| format!("{path:?}: {err}"))?;
    check_owner(path, &found)?;
    let is_shared = found.is_dir() && !is_last && found.mode() & STICKY != 0;
    if found.mode() & WRITABLE_BY_OTHERS != 0 && !is_shared {
        return Err(format!("{path:?} is writable by others"));
    }
    Ok(())
}

fn check_owner(path: &Path, found: &fs::Metadata) -> Result<(), String> {
    if found.uid() == 0 || found.uid() == geteuid().as_raw() {
        return Ok(());
    }
    Err(format!("{path:?} belongs to user {}", found.uid()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn open_to(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_that_others_can_replace_is_not_trusted() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("folder");
        let file = folder.join("file");
        fs::create_dir(&folder).unwrap();
        open_to(&folder, 0o755);
        fs::write(&file, "").unwrap();
        open_to(&file, 0o644);
        assert_eq!(check(&file), Ok(()));
        open_to(&file, 0o664);
        assert!(check(&file).unwrap_err().contains("file\" is writable by others"));
        open_to(&file, 0o644);
        open_to(&folder, 0o775);
        assert!(check(&file).unwrap_err().contains("folder\" is writable by others"));
        assert!(check(&folder.join("none")).is_err());
    }

    #[test]
    fn a_link_is_as_good_as_what_is_on_its_way() {
        let root = tempfile::tempdir().unwrap();
        let (open, safe) = (root.path().join("open"), root.path().join("safe"));
        for folder in [&open, &safe] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("file"), "").unwrap();
            open_to(&folder.join("file"), 0o644);
        }
        symlink("../open/file", safe.join("out")).unwrap();
        symlink("file", safe.join("near")).unwrap();
        symlink("loop", safe.join("loop")).unwrap();
        open_to(&open, 0o777);
        assert_eq!(check(&safe.join("near")), Ok(()));
        assert!(check(&safe.join("out")).unwrap_err().contains("open\" is writable"));
        assert!(check(&safe.join("loop")).unwrap_err().contains("too many links"));
    }

    #[test]
    fn what_belongs_to_another_user_is_not_trusted() {
        if !geteuid().is_root() {
            eprintln!("SKIPPED: only root can give a file away");
            return;
        }
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        open_to(&file, 0o644);
        std::os::unix::fs::chown(&file, Some(12345), None).unwrap();
        assert!(check(&file).unwrap_err().contains("belongs to user 12345"));
    }
}
