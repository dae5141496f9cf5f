//! The child between fork and exec.
//!
//! It may share the memory of the keeper, which goes on meanwhile: so it reads its orders, writes to its stack,
//! and calls the kernel without the C library, whose `errno` is that of the keeper's thread as well.

use std::ffi::CStr;

use nix::libc;
use syscalls::{Errno, Sysno, raw_syscall, syscall};

use super::{
    MESSAGE,
    sheet::{Numbers, Orders},
};
use crate::keeper::{policy::trust, sys};

/// The names of a process in whose stead a file system may hang.
pub(super) const ENTERING: &CStr = c"sisyphus:enter";
pub(super) const EXECUTING: &CStr = c"sisyphus:exec";

/// The status pipe's number in the child.
const STATUS_FD: i32 = 3;

/// Why a forked child could not execute its program, in the bytes it wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    Set = 1,
    Limit,
    Trust,
    Become,
    Enter,
    Execute,
}

/// What a child does first and last.
///
/// # Safety
/// To be called in a new child only, with orders that are there as long as it is. Panics nowhere, and touches
/// the heap only to look at a program and the C library only for that and to take its shield off: then it has a
/// memory of its own.
pub(super) unsafe extern "C" fn child(orders: *const Orders) -> ! {
    // SAFETY: as above; every pointer in the orders is to memory that the keeper made before the fork.
    unsafe {
        let orders = &*orders;
        let Numbers { files, keeper, .. } = orders.numbers;
        // The numbers 0 to 2 are taken in the keeper, so no source is overwritten before it is copied.
        for (number, file) in files.iter().enumerate().take(3) {
            check(syscall!(Sysno::dup3, *file, number, 0), files[3], Stage::Set);
        }
        if files[3] != STATUS_FD {
            check(syscall!(Sysno::dup3, files[3], STATUS_FD, libc::O_CLOEXEC), files[3], Stage::Set);
        }
        if let Some(group) = orders.numbers.to_join {
            let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_CLOEXEC;
            let opened = syscall!(Sysno::openat, group, c"cgroup.procs".as_ptr(), flags, 0o600);
            let file = check(opened, STATUS_FD, Stage::Limit);
            check(syscall!(Sysno::write, file, c"0".as_ptr(), 1), STATUS_FD, Stage::Limit);
        }
        check(syscall!(Sysno::close_range, STATUS_FD + 1, u32::MAX, 0), STATUS_FD, Stage::Set);
        check(syscall!(Sysno::setsid), STATUS_FD, Stage::Set);
        raw_syscall!(Sysno::umask, orders.numbers.umask);
        if orders.numbers.is_shielded {
            sys::unshield();
        }
        let Numbers { limits, open_files, .. } = &orders.numbers;
        limits.apply(open_files, |done| {
            check(done, STATUS_FD, Stage::Limit);
        });
        if let Some(program) = orders.numbers.to_trust
            && let Err(why) = trust::check(&*program)
        {
            report(STATUS_FD, Stage::Trust, why.as_bytes());
        }
        if let Some((uid, gid)) = orders.numbers.identity {
            let (groups, count) = orders.groups;
            check(syscall!(Sysno::setgroups, count, groups), STATUS_FD, Stage::Become);
            check(syscall!(Sysno::setresgid, gid, gid, gid), STATUS_FD, Stage::Become);
            check(syscall!(Sysno::setresuid, uid, uid, uid), STATUS_FD, Stage::Become);
        }
        // A change of user takes it back, so not earlier. The keeper has one thread, so the signal comes when
        // the keeper dies and not before.
        check(syscall!(Sysno::prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL), STATUS_FD, Stage::Set);
        if raw_syscall!(Sysno::getppid) != keeper as usize {
            end();
        }
        reset_signals(orders);
        raw_syscall!(Sysno::prctl, libc::PR_SET_NAME, ENTERING.as_ptr());
        if !orders.cwd.is_null() {
            check(syscall!(Sysno::chdir, orders.cwd), STATUS_FD, Stage::Enter);
        } else if syscall!(Sysno::chdir, orders.home).is_err() {
            check(syscall!(Sysno::chdir, c"/".as_ptr()), STATUS_FD, Stage::Enter);
        }
        raw_syscall!(Sysno::prctl, libc::PR_SET_NAME, EXECUTING.as_ptr());
        execute(orders);
    }
}

/// What was ignored is not, and nothing is blocked.
///
/// # Safety
/// As [`child`].
unsafe fn reset_signals(orders: &Orders) {
    /// Bytes of the kernel's set of signals.
    const SET: usize = size_of::<u64>();
    // More than the kernel's struct of any architecture; all zeroes are the default.
    let default = [0_u64; 8];
    let nothing = 0_u64;
    let (ignored, count) = orders.ignored;
    // SAFETY: as ours; pointers to locals.
    unsafe {
        for number in 0..count {
            raw_syscall!(Sysno::rt_sigaction, *ignored.add(number), default.as_ptr(), 0, SET);
        }
        raw_syscall!(Sysno::rt_sigprocmask, libc::SIG_SETMASK, &raw const nothing, 0, SET);
    }
}

/// Tries the programs as execvp does: one that is there but may not be executed decides the message.
///
/// # Safety
/// As [`child`].
unsafe fn execute(orders: &Orders) -> ! {
    let mut failure = Errno::ENOENT;
    let mut next = orders.programs;
    // SAFETY: null-terminated arrays of C strings that outlive the call; the null that ends the list was not
    // reached.
    unsafe {
        while let program = *next
            && !program.is_null()
        {
            next = next.add(1);
            match syscall!(Sysno::execve, program, orders.argv, orders.env) {
                Err(Errno::ENOENT | Errno::ENOTDIR) | Ok(_) => {}
                Err(Errno::EACCES) => failure = Errno::EACCES,
                Err(errno) => {
                    failure = errno;
                    break;
                }
            }
        }
        check(Err(failure), STATUS_FD, Stage::Execute);
    }
    end()
}

/// Ends the child with a message to the keeper when a call has failed, else returns what it gave.
///
/// # Safety
/// As [`child`].
unsafe fn check(done: Result<usize, Errno>, status: i32, stage: Stage) -> usize {
    match done {
        Ok(value) => value,
        // SAFETY: as ours.
        Err(errno) => unsafe { report(status, stage, &errno.into_raw().to_ne_bytes()) },
    }
}

/// Ends the child with a message to the keeper.
///
/// # Safety
/// As [`child`].
unsafe fn report(status: i32, stage: Stage, text: &[u8]) -> ! {
    let mut message = [0_u8; MESSAGE];
    let length = text.len().min(MESSAGE - 1);
    message[0] = stage as u8;
    message[1..=length].copy_from_slice(&text[..length]);
    // SAFETY: a write from the stack.
    unsafe { raw_syscall!(Sysno::write, status, message.as_ptr(), length + 1) };
    end()
}

fn end() -> ! {
    loop {
        // SAFETY: ends the process.
        unsafe { raw_syscall!(Sysno::exit_group, 127) };
    }
}
