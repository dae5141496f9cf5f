//! What a daemon does not need any more goes back to the kernel: most of what it has in memory when it begins
//! to wait served only to parse a command line, read settings and connect.
#![allow(unsafe_code)]

use std::fs;

use nix::libc;

/// Gives back free heap, and the parts of the program's files that were looked at so far. Those stay in the page
/// cache, and what is used again is mapped again, so nothing is lost but a few microseconds.
pub(crate) fn give_back() {
    let mapped = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    for (begin, end) in untouched(&mapped) {
        // SAFETY: only ranges that are files, cannot be written to, and have no page of their own: the kernel
        // reads the same bytes again when they are looked at again. A range that is gone is an error.
        unsafe {
            libc::madvise(begin as *mut libc::c_void, end - begin, libc::MADV_DONTNEED);
        }
    }
    drop(mapped);
    // SAFETY: plain numbers in. Allocators other than glibc's keep what they have.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// One heap for all threads: those that look names up would each keep one of their own.
pub(crate) fn share_heap() {
    // SAFETY: plain numbers in.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// The ranges that are a file's bytes and nothing else. Relocated data is private to the process though it cannot be
/// written to any more, and would be lost.
fn untouched(smaps: &str) -> Vec<(usize, usize)> {
    let mut ranges = Vec::new();
    let mut range = None;
    for line in smaps.lines() {
        if let Some(header) = header(line) {
            range = header;
        } else if line.strip_prefix("Anonymous:").is_some_and(|rest| rest.trim() == "0 kB") {
            ranges.extend(range.take());
        }
    }
    ranges
}

/// Of the first line of an entry: the range, when it is a file's that is only read. None: another line.
fn header(line: &str) -> Option<Option<(usize, usize)>> {
    let mut fields = line.split_ascii_whitespace();
    let (begin, end) = fields.next()?.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    let (begin, end) = (number(begin)?, number(end)?);
    let (rights, inode) = (fields.next()?, fields.nth(2)?);
    Some((rights.starts_with("r-") && rights.ends_with('p') && inode != "0").then_some((begin, end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_a_file_and_not_changed_is_given_back() {
        let entry = |range: &str, rights: &str, inode: &str, anonymous: u32| {
            format!(
                "{range} {rights} 00000000 fe:00 {inode}     /usr/bin/sisyphus\nSize: 8 kB\n\
                 Anonymous:     {anonymous:>8} kB\nTHPeligible:           0\n"
            )
        };
        let smaps = [
            entry("1000-3000", "r-xp", "17", 0),
            entry("3000-5000", "r--p", "17", 8),
            entry("5000-7000", "rw-p", "17", 0),
            entry("7000-9000", "r--p", "17", 0),
            entry("9000-b000", "r-xp", "0", 0),
            entry("b000-d000", "r--s", "17", 0),
        ];
        assert_eq!(untouched(&smaps.concat()), [(0x1000, 0x3000), (0x7000, 0x9000)]);
    }

    #[test]
    fn a_process_goes_on_with_less() {
        let resident = || {
            let text = fs::read_to_string("/proc/self/statm").unwrap();
            text.split(' ').nth(1).unwrap().parse::<u64>().unwrap()
        };
        let before = resident();
        give_back();
        let after = resident();
        assert!(after < before, "{before} pages before, {after} after");
        assert_eq!(format!("{:?}", [1.5, 2.0]), "[1.5, 2.0]", "what is used again is there");
    }
}
