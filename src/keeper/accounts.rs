//! The operating system's users, looked up in a child: a name service that hangs delays only who asked for it.

use std::{
    collections::HashMap,
    ffi::CString,
    fs::{self, File},
    io::{Read, Write},
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    sys::{prctl, signal::Signal},
    unistd::{Uid, User, geteuid, getgrouplist, pipe2},
};
use serde::{Deserialize, Serialize};

use super::sys;

/// How long what was found is good: a change of groups need not restart a keeper.
const GOOD_FOR_US: i64 = 10_000_000;
/// How long a look-up may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The mask of files that are made, unless the user's entry or the host's /etc/login.defs has another one.
const UMASK: u32 = 0o022;

/// Whom a job runs as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) home: String,
    pub(super) umask: u32,
    /// What to change to; none for the keeper's own user.
    pub(super) identity: Option<Identity>,
}

/// The numbers of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
}

/// The users that were looked up, and those that are being looked up. `W` is who waits.
#[derive(Debug)]
pub(super) struct Accounts<W> {
    own: Account,
    known: HashMap<String, (Account, i64)>,
    asked: HashMap<String, LookUp<W>>,
}

#[derive(Debug)]
struct LookUp<W> {
    /// Its process, which may have ended while another one holds its pipe.
    child: Option<OwnedFd>,
    until_us: i64,
    waiting: Vec<W>,
}

/// An answer, or the promise of one.
#[derive(Debug)]
pub(super) enum Found {
    Now(Account),
    /// From this pipe, when it can be read: see [`Accounts::told`]. None: it is being waited for already.
    Later(Option<OwnedFd>),
}

/// What a look-up has come to, and for whom.
pub(super) type Answer<W> = (Result<Account, String>, Vec<W>);

impl<W> Accounts<W> {
    pub(super) fn new() -> Self {
        Self { own: Account::own(), known: HashMap::new(), asked: HashMap::new() }
    }

    /// The user of this process.
    pub(super) fn own(&self) -> &Account {
        &self.own
    }

    /// Who a user is. When that takes time, `who` is kept until it is known.
    pub(super) fn find(&mut self, name: &str, who: impl FnOnce() -> W, now_us: i64) -> Result<Found, Errno> {
        if name == self.own.name {
            return Ok(Found::Now(self.own.clone()));
        }
        if let Some((account, _)) = self.known.get(name).filter(|(_, until_us)| now_us < *until_us) {
            return Ok(Found::Now(account.clone()));
        }
        if let Some(look_up) = self.asked.get_mut(name) {
            look_up.waiting.push(who());
            return Ok(Found::Later(None));
        }
        let (answer, say) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let child = sys::fork_into(|| tell(name, say.as_fd()))
            .map_err(|err| Errno::from_raw(err.raw_os_error().unwrap_or_default()))?;
        let child = sys::pidfd_open(child).ok();
        let until_us = now_us + PATIENCE.as_micros() as i64;
        self.asked.insert(name.to_owned(), LookUp { child, until_us, waiting: vec![who()] });
        Ok(Found::Later(Some(answer)))
    }

    /// A look-up's pipe can be read: the answer, for those who waited.
    pub(super) fn told(&mut self, name: &str, pipe: OwnedFd, now_us: i64) -> Answer<W> {
        let mut text = String::new();
        // Written at once and less than a pipe holds.
        let _ = File::from(pipe).read_to_string(&mut text);
        let answer = serde_json::from_str::<Result<Account, String>>(&text)
            .unwrap_or_else(|_| Err(format!("user {name:?} cannot be looked up")));
        if let Ok(account) = &answer {
            self.known.insert(name.to_owned(), (account.clone(), now_us + GOOD_FOR_US));
        }
        (answer, self.asked.remove(name).map(|look_up| look_up.waiting).unwrap_or_default())
    }

    /// When [`Self::overdue`] has something to do.
    pub(super) fn next_us(&self) -> Option<i64> {
        self.asked.values().map(|look_up| look_up.until_us).min()
    }

    /// Ends the look-ups that have taken too long.
    pub(super) fn overdue(&mut self, now_us: i64) -> Vec<(String, Answer<W>)> {
        let late = self.asked.extract_if(|_, look_up| look_up.until_us <= now_us);
        late.map(|(name, look_up)| {
            // The orphans' reaper takes its zombie.
            if let Some(child) = look_up.child {
                let _ = sys::pidfd_kill(child.as_fd(), Signal::SIGKILL as i32);
            }
            let reason = format!("looking up user {name:?} took longer than {} s", PATIENCE.as_secs());
            (name, (Err(reason), look_up.waiting))
        })
        .collect()
    }

    /// Takes one who waits out.
    pub(super) fn withdraw(&mut self, is_it: impl Fn(&W) -> bool) -> Option<W> {
        self.asked.values_mut().find_map(|look_up| {
            let place = look_up.waiting.iter().position(&is_it)?;
            Some(look_up.waiting.swap_remove(place))
        })
    }
}

impl Account {
    /// The user this keeper runs as.
    fn own() -> Self {
        let uid = geteuid();
        match User::from_uid(uid).ok().flatten() {
            Some(user) => {
                let home = user.dir.to_string_lossy().into_owned();
                Self { umask: umask(&user), name: user.name, home, identity: None }
            }
            None => Self { name: uid.to_string(), home: "/".to_owned(), umask: UMASK, identity: None },
        }
    }

    fn look_up(name: &str) -> Result<Self, String> {
        let fault = |errno: Errno| format!("user {name:?} cannot be looked up: {}", errno.desc());
        let user = User::from_name(name).map_err(fault)?;
        let user = user.ok_or_else(|| format!("user {name:?} does not exist"))?;
        let name_of_user = CString::new(name).map_err(|_| fault(Errno::EINVAL))?;
        let groups = getgrouplist(&name_of_user, user.gid).map_err(fault)?;
        Ok(Self {
            name: name.to_owned(),
            home: user.dir.to_string_lossy().into_owned(),
            umask: umask(&user),
            identity: Some(Identity {
                uid: user.uid.as_raw(),
                gid: user.gid.as_raw(),
                groups: groups.into_iter().map(nix::unistd::Gid::as_raw).collect(),
            }),
        })
    }

    /// The number of the user.
    pub(super) fn uid(&self) -> Uid {
        self.identity.as_ref().map_or_else(geteuid, |identity| Uid::from_raw(identity.uid))
    }
}

/// The child of a look-up.
fn tell(name: &str, say: std::os::fd::BorrowedFd<'_>) -> i32 {
    // Nothing of the keeper's may be held open by a child that hangs.
    if sys::close_all_but(&[say]).is_err() || prctl::set_pdeathsig(Signal::SIGKILL).is_err() {
        return 1;
    }
    let answer = serde_json::to_vec(&Account::look_up(name)).unwrap_or_default();
    let written = say.try_clone_to_owned().and_then(|pipe| File::from(pipe).write_all(&answer));
    i32::from(written.is_err())
}

/// As pam_umask has it: `umask=` in the user's entry, else `UMASK` of the host.
fn umask(user: &User) -> u32 {
    let octal = |text: &str| u32::from_str_radix(text.trim(), 8).ok().filter(|mask| *mask <= 0o777);
    let entry = user.gecos.to_string_lossy();
    let of_user = entry.split(',').find_map(|part| octal(part.strip_prefix("umask=")?));
    of_user.or_else(|| of_host(&fs::read_to_string("/etc/login.defs").ok()?, octal)).unwrap_or(UMASK)
}

fn of_host(text: &str, octal: impl Fn(&str) -> Option<u32>) -> Option<u32> {
    text.lines().find_map(|line| {
        let rest = line.trim_start().strip_prefix("UMASK")?;
        octal(rest.strip_prefix([' ', '\t'])?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_user_is_known_at_once_and_others_are_looked_up_once_for_all_who_wait() {
        let mut accounts = Accounts::new();
        let own = accounts.own().name.clone();
        assert!(
            matches!(accounts.find(&own, || 1, 0), Ok(Found::Now(account)) if account.identity.is_none())
        );
        let name = if own == "daemon" { "bin" } else { "daemon" };
        let Ok(Found::Later(Some(pipe))) = accounts.find(name, || 2, 0) else { panic!("not asked") };
        assert!(matches!(accounts.find(name, || 3, 0), Ok(Found::Later(None))));
        assert_eq!(accounts.withdraw(|who| *who == 2), Some(2));
        let mut ready = [nix::poll::PollFd::new(pipe.as_fd(), nix::poll::PollFlags::POLLIN)];
        nix::poll::poll(&mut ready, 10_000_u16).unwrap();
        let (answer, waiting) = accounts.told(name, pipe, 0);
        assert_eq!(waiting, [3]);
        let account = answer.unwrap();
        assert_eq!((account.name.as_str(), account.uid()), (name, Uid::from_raw(account.uid().as_raw())));
        assert!(matches!(accounts.find(name, || 4, GOOD_FOR_US - 1), Ok(Found::Now(it)) if it == account));
        assert!(matches!(accounts.find(name, || 4, GOOD_FOR_US), Ok(Found::Later(Some(_)))));
        let late = accounts.overdue(GOOD_FOR_US + PATIENCE.as_micros() as i64);
        assert!(
            matches!(&late[..], [(_, (Err(reason), who))] if reason.contains("took longer") && who == &[4])
        );
    }

    #[test]
    fn an_unknown_user_is_named() {
        assert_eq!(
            Account::look_up("nobody-of-that-name"),
            Err("user \"nobody-of-that-name\" does not exist".into())
        );
    }

    #[test]
    fn the_mask_of_the_host_is_a_line_of_its_own() {
        let octal = |text: &str| u32::from_str_radix(text.trim(), 8).ok();
        assert_eq!(of_host("# UMASK 000\nUMASKS 1\nUMASK\t\t027\n", octal), Some(0o027));
        assert_eq!(of_host("", octal), None);
    }
}
