//! What a child reads and stands on between fork and exec. It may share the memory of the keeper, which goes on
//! meanwhile; where it does not, pages of the heap would be copied one by one as the keeper goes on.

use std::{ffi::CString, os::fd::RawFd, path::PathBuf, ptr, slice};

use nix::{errno::Errno, libc};

use crate::keeper::limits::Limits;

/// Bytes of stack for a child. It needs less than 4 KiB; what is not touched costs nothing.
pub(super) const STACK: usize = 32 << 10;
/// Below the stack, so that what overruns it ends the child and touches nothing.
const GUARD: usize = 4 << 10;
/// Bytes of text that most orders have room in.
const USUAL: usize = 28 << 10;
/// Sheets kept for the next children.
const MOST_SPARE: usize = 32;

/// Sheets for the next children.
#[derive(Debug, Default)]
pub(super) struct Sheets {
    spare: Vec<Sheet>,
}

/// A guard page, a stack and room for the orders, in a mapping of their own. Not freed when it is dropped: a
/// child may be on it.
#[derive(Debug)]
pub(in crate::keeper) struct Sheet {
    begin: *mut u8,
    length: usize,
}

/// What a child is to do, and where on its sheet it finds what.
#[derive(Debug)]
pub(super) struct Orders {
    /// Programs to try, null-terminated like the next two.
    pub(super) programs: *const *const libc::c_char,
    pub(super) argv: *const *const libc::c_char,
    pub(super) env: *const *const libc::c_char,
    /// The directory asked for, or null.
    pub(super) cwd: *const libc::c_char,
    pub(super) home: *const libc::c_char,
    pub(super) groups: (*const libc::gid_t, usize),
    pub(super) ignored: (*const i32, usize),
    pub(super) numbers: Numbers,
    /// The lowest byte of the stack.
    pub(super) stack: *mut u8,
}

/// The orders that are no text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers {
    /// Standard input, output and error, and the status pipe.
    pub(super) files: [RawFd; 4],
    /// A control group that the child has to join by itself.
    pub(super) to_join: Option<RawFd>,
    pub(super) keeper: i32,
    pub(super) limits: Limits,
    pub(super) open_files: libc::rlimit,
    pub(super) umask: u32,
    pub(super) is_shielded: bool,
    /// User and group to become.
    pub(super) identity: Option<(libc::uid_t, libc::gid_t)>,
    /// A program to look at first; in the heap.
    pub(super) to_trust: Option<*const PathBuf>,
}

/// What is to be written.
#[derive(Debug)]
pub(super) struct Text<'a> {
    pub(super) programs: &'a [CString],
    pub(super) argv: &'a [CString],
    pub(super) env: &'a [CString],
    pub(super) cwd: Option<&'a CString>,
    pub(super) home: &'a CString,
    pub(super) groups: &'a [libc::gid_t],
    pub(super) ignored: &'a [i32],
}

impl Sheets {
    /// One that has room for this text.
    pub(super) fn lend(&mut self, text: &Text<'_>) -> Result<Sheet, Errno> {
        let wanted = size_of::<Orders>() + text.length();
        match self.spare.pop() {
            Some(sheet) if wanted <= sheet.room() => Ok(sheet),
            small => {
                small.into_iter().for_each(Sheet::free);
                Sheet::new(wanted)
            }
        }
    }

    /// To be lent again, or given up.
    pub(super) fn take_back(&mut self, sheet: Sheet) {
        if self.spare.len() < MOST_SPARE && sheet.room() <= USUAL {
            self.spare.push(sheet);
        } else {
            sheet.free();
        }
    }
}

impl Sheet {
    fn new(wanted: usize) -> Result<Self, Errno> {
        let length = GUARD + STACK + wanted.max(USUAL).next_multiple_of(GUARD);
        // SAFETY: a new mapping of our own.
        unsafe {
            let rights = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let begin = libc::mmap(ptr::null_mut(), length, rights, flags, -1, 0);
            if begin == libc::MAP_FAILED {
                return Err(Errno::last());
            }
            if libc::mprotect(begin, GUARD, libc::PROT_NONE) != 0 {
                let errno = Errno::last();
                libc::munmap(begin, length);
                return Err(errno);
            }
            Ok(Self { begin: begin.cast(), length })
        }
    }

    /// Writes the orders of a child, in place of those before.
    pub(super) fn write(&mut self, text: &Text<'_>, numbers: Numbers) -> &mut Orders {
        // SAFETY: there is room for all of it, and the mapping is as aligned as a page.
        unsafe {
            let stack = self.begin.add(GUARD);
            let mut pen = Pen { at: stack.add(STACK) };
            let place = pen.reserve::<Orders>(1);
            // Numbers and pointers first: what follows has no alignment.
            let programs = pen.reserve::<*const libc::c_char>(text.programs.len() + 1);
            let argv = pen.reserve::<*const libc::c_char>(text.argv.len() + 1);
            let env = pen.reserve::<*const libc::c_char>(text.env.len() + 1);
            let groups = pen.copy(text.groups);
            let ignored = pen.copy(text.ignored);
            pen.list(programs, text.programs);
            pen.list(argv, text.argv);
            pen.list(env, text.env);
            let cwd = text.cwd.map_or(ptr::null(), |cwd| pen.string(cwd));
            let home = pen.string(text.home);
            place.write(Orders {
                programs,
                argv,
                env,
                cwd,
                home,
                groups: (groups, text.groups.len()),
                ignored: (ignored, text.ignored.len()),
                numbers,
                stack,
            });
            &mut *place
        }
    }

    /// Bytes for orders.
    fn room(&self) -> usize {
        self.length - GUARD - STACK
    }

    fn free(self) {
        // SAFETY: a mapping of this length, which nobody looks at any more.
        unsafe { libc::munmap(self.begin.cast(), self.length) };
    }
}

impl Text<'_> {
    /// Bytes that are enough.
    fn length(&self) -> usize {
        let lists = [self.programs, self.argv, self.env];
        let strings = lists.iter().copied().flatten().chain(self.cwd).chain([self.home]);
        let pointers: usize = lists.iter().map(|list| list.len() + 1).sum();
        strings.map(|string| string.as_bytes_with_nul().len()).sum::<usize>()
            + pointers * size_of::<*const libc::c_char>()
            + size_of_val(self.groups)
            + size_of_val(self.ignored)
    }
}

struct Pen {
    at: *mut u8,
}

impl Pen {
    /// # Safety
    /// There is room, aligned for `T`.
    unsafe fn reserve<T>(&mut self, count: usize) -> *mut T {
        let begin: *mut T = self.at.cast();
        // SAFETY: as ours.
        self.at = unsafe { self.at.add(count * size_of::<T>()) };
        begin
    }

    /// # Safety
    /// As [`Self::reserve`].
    unsafe fn copy<T: Copy>(&mut self, values: &[T]) -> *const T {
        // SAFETY: as ours.
        unsafe {
            let begin = self.reserve(values.len());
            slice::from_raw_parts_mut(begin, values.len()).copy_from_slice(values);
            begin
        }
    }

    /// # Safety
    /// As [`Self::reserve`].
    unsafe fn string(&mut self, string: &CString) -> *const libc::c_char {
        // SAFETY: as ours.
        unsafe { self.copy(string.as_bytes_with_nul()) }.cast()
    }

    /// # Safety
    /// As [`Self::reserve`]; `into` has room for a pointer to each and one more.
    unsafe fn list(&mut self, into: *mut *const libc::c_char, strings: &[CString]) {
        for (number, string) in strings.iter().enumerate() {
            // SAFETY: as ours.
            unsafe { into.add(number).write(self.string(string)) };
        }
        // SAFETY: as ours.
        unsafe { into.add(strings.len()).write(ptr::null()) };
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    fn strings(texts: &[String]) -> Vec<CString> {
        texts.iter().map(|text| CString::new(text.as_str()).unwrap()).collect()
    }

    fn read(mut list: *const *const libc::c_char) -> Vec<String> {
        let mut texts = Vec::new();
        unsafe {
            while !(*list).is_null() {
                texts.push(CStr::from_ptr(*list).to_str().unwrap().to_owned());
                list = list.add(1);
            }
        }
        texts
    }

    #[test]
    fn what_is_written_is_read_whatever_was_there_before() {
        let mut sheets = Sheets::default();
        for size in [1, 70_000, 3] {
            let words: Vec<String> = (0..size % 100 + 1).map(|n| "x".repeat(size / (n + 1))).collect();
            let argv = strings(&words);
            let (env, home) = (strings(&["A=b".to_owned()]), CString::new("/root").unwrap());
            let text = Text {
                programs: &[],
                argv: &argv,
                env: &env,
                cwd: (size == 3).then_some(&home),
                home: &home,
                groups: &[7, 9, 11],
                ignored: &[13],
            };
            let numbers = Numbers {
                files: [4, 5, 6, 7],
                to_join: None,
                keeper: 1,
                limits: Limits::default(),
                open_files: libc::rlimit { rlim_cur: 1, rlim_max: 2 },
                umask: 0o22,
                is_shielded: false,
                identity: Some((8, 9)),
                to_trust: None,
            };
            let mut sheet = sheets.lend(&text).unwrap();
            let orders = sheet.write(&text, numbers);
            unsafe { orders.stack.write_bytes(0xff, STACK) };
            assert_eq!(read(orders.programs), [""; 0]);
            assert_eq!(read(orders.argv), words);
            assert_eq!(read(orders.env), ["A=b"]);
            assert_eq!(orders.cwd.is_null(), size != 3);
            assert_eq!((orders.numbers.files, orders.numbers.identity), ([4, 5, 6, 7], Some((8, 9))));
            unsafe {
                assert_eq!(CStr::from_ptr(orders.home).to_str().unwrap(), "/root");
                assert_eq!(slice::from_raw_parts(orders.groups.0, orders.groups.1), [7, 9, 11]);
                assert_eq!(slice::from_raw_parts(orders.ignored.0, orders.ignored.1), [13]);
            }
            sheets.take_back(sheet);
            assert!(sheets.spare.iter().all(|sheet| sheet.room() == USUAL), "what is large is not kept");
        }
    }
}
