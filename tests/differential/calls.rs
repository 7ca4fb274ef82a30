//! System calls with plain arguments and an errno as the error; nothing is hidden or retried.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

pub type Errno = i32;
pub type Result<T> = std::result::Result<T, Errno>;

pub fn errno() -> Errno {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(-1)
}

/// What a call returned, or the errno if that is negative.
pub fn check<T: TryInto<i64> + Copy>(returned: T) -> Result<T> {
    let number: i64 = returned.try_into().unwrap_or(-1);
    if number < 0 { Err(errno()) } else { Ok(returned) }
}

pub fn c(bytes: &[u8]) -> CString {
    CString::new(bytes).expect("no zero byte in a name")
}

/// A call that returns a number. The C library's varargs take anything.
#[macro_export]
macro_rules! call {
    ($name:ident($($argument:expr),* $(,)?)) => {
        // SAFETY: every pointer argument comes from a living slice or C string of at least the length passed with it.
        $crate::calls::check(unsafe { libc::$name($($argument),*) })
    };
}

pub fn openat(at: RawFd, path: &CStr, flags: i32, mode: u32) -> Result<OwnedFd> {
    let fd = call!(openat(at, path.as_ptr(), flags | libc::O_CLOEXEC, mode))?;
    // SAFETY: the call just returned this descriptor, nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub fn statat(at: RawFd, path: &CStr, flags: i32) -> Result<libc::stat> {
    let mut stat = std::mem::MaybeUninit::uninit();
    call!(fstatat(at, path.as_ptr(), stat.as_mut_ptr(), flags))?;
    // SAFETY: the call succeeded, so it filled the structure.
    Ok(unsafe { stat.assume_init() })
}

pub fn fstat(fd: RawFd) -> Result<libc::stat> {
    statat(fd, c"", libc::AT_EMPTY_PATH)
}

pub fn pread_all(fd: RawFd, offset: u64, len: u64) -> Result<Vec<u8>> {
    let mut data = vec![0u8; len as usize];
    let mut done = 0;
    while done < data.len() {
        let rest = &mut data[done..];
        match call!(pread(fd, rest.as_mut_ptr().cast(), rest.len(), (offset as usize + done) as i64))? {
            0 => break,
            n => done += n as usize,
        }
    }
    data.truncate(done);
    Ok(data)
}

pub fn readlinkat(at: RawFd, path: &CStr) -> Result<Vec<u8>> {
    let mut target = vec![0u8; 4096];
    let n = call!(readlinkat(at, path.as_ptr(), target.as_mut_ptr().cast(), target.len()))?;
    target.truncate(n as usize);
    Ok(target)
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub name: Vec<u8>,
    pub ino: u64,
    pub kind: u8,
}

/// The next entries of a directory, as one call gives them; none at the end.
pub fn getdents(fd: RawFd, size: usize) -> Result<Vec<Entry>> {
    let mut buffer = vec![0u8; size];
    let n = call!(syscall(libc::SYS_getdents64, fd, buffer.as_mut_ptr(), buffer.len()))? as usize;
    let mut entries = Vec::new();
    let mut at = 0;
    while at < n {
        let record = &buffer[at..];
        let len = usize::from(u16::from_ne_bytes([record[16], record[17]]));
        let name = record[19..len].split(|&b| b == 0).next().unwrap_or_default().to_vec();
        let ino = u64::from_ne_bytes(record[..8].try_into().expect("eight bytes"));
        entries.push(Entry { name, ino, kind: record[18] });
        at += len;
    }
    Ok(entries)
}

/// All entries but `.` and `..`, sorted.
pub fn list(fd: RawFd) -> Result<Vec<Entry>> {
    let mut all = Vec::new();
    loop {
        let some = getdents(fd, 32_768)?;
        if some.is_empty() {
            break;
        }
        all.extend(some);
    }
    all.retain(|e| e.name != b"." && e.name != b"..");
    all.sort();
    Ok(all)
}

pub type NameList = Vec<Vec<u8>>;

/// Splits what listxattr(2) gave.
pub fn names(buffer: &[u8]) -> NameList {
    let mut names: Vec<_> = buffer.split(|&b| b == 0).filter(|n| !n.is_empty()).map(<[u8]>::to_vec).collect();
    names.sort();
    names
}

/// Calls something that fills a buffer and returns how much it filled.
pub fn filled(fill: impl FnOnce(*mut libc::c_void, usize) -> Result<isize>) -> Result<Vec<u8>> {
    let mut buffer = vec![0u8; 65_536];
    let n = fill(buffer.as_mut_ptr().cast(), buffer.len())?;
    buffer.truncate(n as usize);
    Ok(buffer)
}

/// Up to so many bytes.
pub fn filled_up_to(len: usize, fill: impl FnOnce(*mut libc::c_void, usize) -> Result<isize>) -> Result<Vec<u8>> {
    let mut buffer = vec![0u8; len];
    let n = fill(buffer.as_mut_ptr().cast(), len)?;
    buffer.truncate(n as usize);
    Ok(buffer)
}

/// A descriptor that only says where something is.
pub fn path_fd(path: &CStr) -> Result<OwnedFd> {
    openat(libc::AT_FDCWD, path, libc::O_PATH | libc::O_DIRECTORY, 0)
}

/// A map of a file, and a descriptor of it.
pub struct Mapped {
    at: *mut libc::c_void,
    len: usize,
    pub file: OwnedFd,
    pub writable: bool,
}

impl Mapped {
    pub fn new(fd: RawFd, len: usize, write: bool, shared: bool) -> Result<Self> {
        let protection = libc::PROT_READ | if write { libc::PROT_WRITE } else { 0 };
        let kind = if shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
        let copy = call!(fcntl(fd, libc::F_DUPFD_CLOEXEC, 0))?;
        // SAFETY: the call just returned this descriptor, nobody else has it.
        let file = unsafe { OwnedFd::from_raw_fd(copy) };
        // SAFETY: a new map at an address that the kernel chooses.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, kind, fd, 0) };
        if at == libc::MAP_FAILED { Err(errno()) } else { Ok(Self { at, len, file, writable: write }) }
    }

    /// So much of a range as lies in the map and in the file as it is now.
    fn clip(&self, offset: u64, len: usize) -> Result<usize> {
        self.clip_to(&self.file, offset, len)
    }

    /// The same with the length that another descriptor of the file tells.
    pub fn clip_to(&self, file: &OwnedFd, offset: u64, len: usize) -> Result<usize> {
        let end = self.len.min(fstat(file.as_raw_fd())?.st_size as usize);
        Ok(len.min(end.saturating_sub(offset as usize)))
    }

    /// The bytes, moved by the kernel: it answers EFAULT where an access of ours would be a SIGBUS.
    pub fn read(&self, offset: u64, len: u64) -> Result<Vec<u8>> {
        let len = self.clip(offset, len as usize)?;
        let between = memory_file()?;
        if len == 0 {
            return Ok(Vec::new());
        }
        // SAFETY: the range lies within the map.
        let from = unsafe { self.at.add(offset as usize) };
        let n = call!(pwrite(between.as_raw_fd(), from, len, 0))?;
        pread_all(between.as_raw_fd(), 0, n as u64)
    }

    pub fn write(&self, offset: u64, data: &[u8]) -> Result<usize> {
        if !self.writable {
            return Err(libc::EFAULT);
        }
        let len = self.clip(offset, data.len())?;
        let between = memory_file()?;
        if len == 0 {
            return Ok(0);
        }
        call!(pwrite(between.as_raw_fd(), data.as_ptr().cast(), len, 0))?;
        // SAFETY: the range lies within the map.
        let to = unsafe { self.at.add(offset as usize) };
        Ok(call!(pread(between.as_raw_fd(), to, len, 0))? as usize)
    }

    pub fn sync(&self) -> Result<()> {
        call!(msync(self.at, self.len, libc::MS_SYNC)).map(drop)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the map is ours and nothing borrows from it.
        assert_eq!(unsafe { libc::munmap(self.at, self.len) }, 0, "munmap");
    }
}

fn memory_file() -> Result<OwnedFd> {
    let fd = call!(memfd_create(c"between".as_ptr(), libc::MFD_CLOEXEC))?;
    // SAFETY: the call just returned this descriptor, nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Acts as a user for the time of a call: effective ids and groups of this thread only, by the bare system calls (the C
/// library would change all threads).
pub fn with_ids<T>(id: u32, groups: &[u32], act: impl FnOnce() -> T) -> T {
    if id == 0 {
        return act();
    }
    let keep = u32::MAX;
    let set = |call: libc::c_long, id: u32| call!(syscall(call, keep, id, keep)).expect("root changes its ids");
    let become_member =
        |g: &[u32]| call!(syscall(libc::SYS_setgroups, g.len(), g.as_ptr())).expect("root changes its groups");
    become_member(groups);
    set(libc::SYS_setresgid, id);
    set(libc::SYS_setresuid, id);
    let result = act();
    set(libc::SYS_setresuid, 0);
    set(libc::SYS_setresgid, 0);
    become_member(&[]);
    result
}
