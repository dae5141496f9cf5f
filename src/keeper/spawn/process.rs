//! A new process, with or without a memory of its own until it executes its program.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::{errno::Errno, libc, sys::signal::Signal, unistd::Pid};

use super::{
    child::child,
    sheet::{Orders, STACK},
};
use crate::keeper::sys::pidfd_open;

/// Whose memory a child has until it executes its program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    /// The keeper's: nothing is copied, neither page tables now nor pages later. As vfork, but nobody waits.
    Shared,
    /// Its own.
    Copied,
}

/// The heap of this process, which has one thread.
#[derive(Debug)]
pub(super) struct Heap {
    begin: usize,
}

/// While it is there, a process that is made has no heap.
struct Kept(usize, usize);

impl Heap {
    /// Where it is; none where the C library keeps it elsewhere, or the state of the thread in it.
    pub(super) fn find() -> Option<Self> {
        let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
        let range = maps.lines().find(|line| line.ends_with("[heap]"))?.split(' ').next()?;
        let begin = usize::from_str_radix(range.split_once('-')?.0, 16).ok()?;
        let heap = Self { begin };
        // SAFETY: tells where errno of this thread is.
        let thread = unsafe { libc::__errno_location() } as usize;
        (!(begin..heap.end()).contains(&thread)).then_some(heap)
    }

    fn end(&self) -> usize {
        // SAFETY: only asks.
        unsafe { libc::sbrk(0) as usize }
    }

    /// The kernel copies the page tables of what a child gets, and then each page that one of both writes to.
    fn keep(&self) -> Kept {
        let kept = Kept(self.begin, self.end());
        kept.advise(libc::MADV_DONTFORK);
        kept
    }
}

impl Kept {
    fn advise(&self, advice: i32) {
        // SAFETY: whole pages of our own; what is refused is copied, as ever.
        unsafe { libc::madvise(self.0 as *mut libc::c_void, self.1.saturating_sub(self.0), advice) };
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // Other children go on in Rust, and need it.
        self.advise(libc::MADV_DOFORK);
    }
}

/// `struct clone_args` of the kernel's second version.
#[repr(C)]
#[derive(Default)]
struct Arguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Makes a process that follows these orders, in a control group at once where the kernel can: to be moved
/// there later costs milliseconds. A copied memory has no heap when one is given.
///
/// # Safety
/// For a process with one thread. With shared memory the orders stay as they are until the child executes its
/// program or has ended.
pub(super) unsafe fn make(
    memory: Memory,
    group: Option<BorrowedFd<'_>>,
    heap: Option<&Heap>,
    orders: &mut Orders,
) -> Result<(Pid, OwnedFd), Errno> {
    let kept = heap.filter(|_| memory == Memory::Copied).map(Heap::keep);
    let mut made = Err(Errno::ENOSYS);
    if group.is_some() {
        // SAFETY: as ours.
        made = unsafe { clone3(memory, group, orders) };
    }
    if made.is_err() {
        // Not a control group (tests), a kernel before 5.7, or no right to: the child goes there by itself.
        orders.numbers.to_join = group.map(|group| group.as_raw_fd());
        // SAFETY: as ours.
        made = unsafe { clone3(memory, None, orders) };
    }
    // The C library's own fork may look at the heap.
    drop(kept);
    match made {
        // Not allowed in some containers, not known to what stands in for a kernel.
        // SAFETY: as ours.
        Err(Errno::ENOSYS | Errno::EPERM | Errno::EINVAL) => unsafe { fork(orders) },
        made => made,
    }
}

/// # Safety
/// As [`make`].
unsafe fn fork(orders: &Orders) -> Result<(Pid, OwnedFd), Errno> {
    // SAFETY: as ours.
    match Errno::result(unsafe { libc::fork() })? {
        // SAFETY: this is the child.
        0 => unsafe { child(orders) },
        pid => {
            let pid = Pid::from_raw(pid);
            let pidfd = pidfd_open(pid).inspect_err(|_| {
                let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
            });
            Ok((pid, pidfd?))
        }
    }
}

/// # Safety
/// As [`make`]. The C library is not told, which matters to its threads only.
unsafe fn clone3(
    memory: Memory,
    group: Option<BorrowedFd<'_>>,
    orders: &Orders,
) -> Result<(Pid, OwnedFd), Errno> {
    const CLONE_INTO_CGROUP: u64 = 1 << 33;
    let mut pidfd: i32 = -1;
    let mut arguments = Arguments {
        flags: libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..Arguments::default()
    };
    if let Some(group) = group {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = group.as_raw_fd() as u64;
    }
    // SAFETY: the arguments are as the kernel has them, and the place of the pidfd outlives the call. The child
    // never leaves `child`; where it shares the memory it has a stack of its own.
    let pid = unsafe {
        match memory {
            Memory::Shared => {
                arguments.flags |= libc::CLONE_VM as u64;
                (arguments.stack, arguments.stack_size) = (orders.stack as u64, STACK as u64);
                clone3_onto_stack(&arguments, orders)?
            }
            Memory::Copied => {
                let size = size_of::<Arguments>();
                match Errno::result(libc::syscall(libc::SYS_clone3, &raw const arguments, size))? {
                    0 => child(orders),
                    pid => pid as usize,
                }
            }
        }
    };
    // SAFETY: the kernel has made the descriptor for us.
    Ok((Pid::from_raw(pid as i32), unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// The system call clone3; the child begins with `child(orders)` on the new stack. The C library has such a
/// function, but keeps it to itself.
///
/// # Safety
/// As [`clone3`].
#[cfg(target_arch = "x86_64")]
unsafe fn clone3_onto_stack(arguments: &Arguments, orders: &Orders) -> Result<usize, Errno> {
    let done: usize;
    // SAFETY: as ours. The kernel keeps all registers but rax, rcx and r11, in the child as well.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r9",
            "call r8",
            "2:",
            inlateout("rax") libc::SYS_clone3 as usize => done,
            in("rdi") arguments,
            in("rsi") size_of::<Arguments>(),
            in("r8") child as unsafe extern "C" fn(*const Orders) -> !,
            in("r9") orders,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    syscalls::Errno::from_ret(done).map_err(|errno| Errno::from_raw(errno.into_raw()))
}

/// # Safety
/// None needed. The C library's fork does instead.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn clone3_onto_stack(_: &Arguments, _: &Orders) -> Result<usize, Errno> {
    Err(Errno::ENOSYS)
}
