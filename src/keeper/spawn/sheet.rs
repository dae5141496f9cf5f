//! What a child reads between fork and exec, in memory of its own: the heap stays with the keeper, whose pages
//! would else be copied one by one as it goes on.

use std::{ffi::CString, ptr, slice};

use nix::{errno::Errno, libc};

/// Room for one child's orders, used again for the next: a child has its own copy from the moment of the fork.
#[derive(Debug)]
pub(super) struct Sheet {
    begin: *mut u8,
    length: usize,
}

/// Where a child finds what on its sheet.
#[derive(Debug, Clone, Copy)]
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

impl Sheet {
    /// One with no room yet.
    pub(super) fn new() -> Self {
        Self { begin: ptr::null_mut(), length: 0 }
    }

    /// Writes the orders of the next child, in place of those before.
    pub(super) fn write(&mut self, text: &Text<'_>) -> Result<Orders, Errno> {
        self.make_room(text.length())?;
        let mut pen = Pen { at: self.begin };
        // Numbers and pointers first: what follows has no alignment.
        // SAFETY: there is room for all of it, and the mapping is as aligned as a page.
        unsafe {
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
            Ok(Orders {
                programs,
                argv,
                env,
                cwd,
                home,
                groups: (groups, text.groups.len()),
                ignored: (ignored, text.ignored.len()),
            })
        }
    }

    fn make_room(&mut self, wanted: usize) -> Result<(), Errno> {
        if wanted <= self.length {
            return Ok(());
        }
        let length = wanted.next_multiple_of(64 << 10);
        // SAFETY: a new mapping of our own; the old one has no reader left.
        unsafe {
            let rights = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let begin = libc::mmap(ptr::null_mut(), length, rights, flags, -1, 0);
            if begin == libc::MAP_FAILED {
                return Err(Errno::last());
            }
            self.free();
            (self.begin, self.length) = (begin.cast(), length);
        }
        Ok(())
    }

    /// # Safety
    /// Nothing on the sheet is read any more.
    unsafe fn free(&mut self) {
        if !self.begin.is_null() {
            // SAFETY: it is a mapping of this length.
            unsafe { libc::munmap(self.begin.cast(), self.length) };
        }
    }
}

impl Drop for Sheet {
    fn drop(&mut self) {
        // SAFETY: orders are read in children alone, which have a copy.
        unsafe { self.free() }
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
        let mut sheet = Sheet::new();
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
            let orders = sheet.write(&text).unwrap();
            assert_eq!(read(orders.programs), [""; 0]);
            assert_eq!(read(orders.argv), words);
            assert_eq!(read(orders.env), ["A=b"]);
            assert_eq!(orders.cwd.is_null(), size != 3);
            unsafe {
                assert_eq!(CStr::from_ptr(orders.home).to_str().unwrap(), "/root");
                assert_eq!(slice::from_raw_parts(orders.groups.0, orders.groups.1), [7, 9, 11]);
                assert_eq!(slice::from_raw_parts(orders.ignored.0, orders.ignored.1), [13]);
            }
        }
    }
}
