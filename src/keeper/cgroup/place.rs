//! Where on this host control groups may be made.

use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    str::FromStr,
};

use nix::unistd::{AccessFlags, access, geteuid};

use super::super::sys;

/// Where the keeper makes its control groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Place {
    /// In the group that it runs in, when that was given to it.
    #[default]
    Found,
    /// Below this directory.
    Given(PathBuf),
    /// Nowhere.
    Nowhere,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Found),
            "none" => Ok(Self::Nowhere),
            path if path.starts_with('/') => Ok(Self::Given(PathBuf::from(path))),
            other => Err(format!("{other:?} is neither auto, none, nor an absolute path")),
        }
    }
}

impl Place {
    /// The directory; none when there is none to be used.
    pub(super) fn find(&self) -> Option<PathBuf> {
        match self {
            Self::Given(path) => Some(path.clone()),
            Self::Nowhere => None,
            Self::Found => {
                let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
                let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
                let (base, is_top) = own_group(&mounts, &groups)?;
                is_given(&base, is_top).then_some(base)
            }
        }
    }
}

/// The directory of the group that this process is in, and whether no group is above it.
fn own_group(mounts: &str, groups: &str) -> Option<(PathBuf, bool)> {
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        if kind.split(' ').next()? != "cgroup2" {
            return None;
        }
        // A group outside of the mounted tree (another namespace) is not to be had.
        let below = own.strip_prefix(root.trim_end_matches('/'))?;
        if below.contains("/..") || !(below.is_empty() || below.starts_with('/')) {
            return None;
        }
        let base = unescaped(point).join(below.trim_start_matches('/'));
        Some((base, own == "/"))
    })
}

/// Root could write anywhere, and has to keep off groups that a service manager has not handed over.
fn is_given(base: &Path, is_top: bool) -> bool {
    if geteuid().is_root() {
        let marks = [c"trusted.delegate", c"user.delegate"];
        return is_top || marks.iter().any(|mark| sys::attribute(base, mark).as_deref() == Some(b"1"));
    }
    [base.to_owned(), base.join("cgroup.procs")].iter().all(|path| access(path, AccessFlags::W_OK).is_ok())
}

/// A path as mountinfo writes it: blanks and the like as three octal digits.
fn unescaped(text: &str) -> PathBuf {
    let mut rest = text.as_bytes().iter();
    let mut bytes = Vec::with_capacity(text.len());
    while let Some(&byte) = rest.next() {
        let code = (byte == b'\\').then(|| rest.as_slice().get(..3)).flatten();
        let code = code.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        if code.is_some() {
            rest.nth(2);
        }
        bytes.push(code.unwrap_or(byte));
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu
41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw,relatime shared:4 master:1 - cgroup2 cgroup2 rw
";

    #[test]
    fn the_own_group_is_found_below_its_mount() {
        let path = |text: &str| Path::new(text).to_owned();
        assert_eq!(own_group(HYBRID, "4:memory:/x\n0::/\n"), Some((path("/sys/fs/cgroup/uni fied/"), true)));
        let unit = "/system.slice/sisyphus-keeper.service";
        let expected = path("/sys/fs/cgroup/uni fied/system.slice/sisyphus-keeper.service");
        assert_eq!(own_group(HYBRID, &format!("0::{unit}\n")), Some((expected, false)));
        let bound = "9 1 0:5 /docker/ab /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        assert_eq!(own_group(bound, "0::/docker/ab/x\n"), Some((path("/sys/fs/cgroup/x"), false)));
    }

    #[test]
    fn a_group_that_is_out_of_sight_is_not_used() {
        let bound = "9 1 0:5 /docker/ab /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        assert_eq!(own_group(bound, "0::/docker/abc\n"), None);
        assert_eq!(own_group(HYBRID, "0::/../elsewhere\n"), None);
        assert_eq!(own_group(HYBRID, "4:memory:/x\n"), None);
        assert_eq!(own_group("", "0::/\n"), None);
    }

    #[test]
    fn a_place_is_a_word_or_a_path() {
        assert_eq!("auto".parse(), Ok(Place::Found));
        assert_eq!("none".parse(), Ok(Place::Nowhere));
        assert_eq!("/sys/fs/cgroup/x".parse(), Ok(Place::Given("/sys/fs/cgroup/x".into())));
        assert!("x".parse::<Place>().is_err());
    }
}
