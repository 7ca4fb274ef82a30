//! What the wrappers share: errno of a raw call, paths below `/proc/self/fd`, probes for new calls.
#![allow(unsafe_code)]

use super::Errno;
use libc::c_long;
use std::ffi::{CStr, OsStr};
use std::io::Write;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU8, Ordering};

/// `fchmodat2(2)`, Linux 6.6; the number is the same on every architecture but alpha.
pub(super) const SYS_FCHMODAT2: c_long = 452;
/// `setxattrat(2)`, Linux 6.13.
pub(super) const SYS_SETXATTRAT: c_long = 463;
/// `getxattrat(2)`, Linux 6.13.
pub(super) const SYS_GETXATTRAT: c_long = 464;
/// `listxattrat(2)`, Linux 6.13.
pub(super) const SYS_LISTXATTRAT: c_long = 465;
/// `removexattrat(2)`, Linux 6.13.
pub(super) const SYS_REMOVEXATTRAT: c_long = 466;

/// The errno that the last failed libc call of this thread left.
pub(super) fn errno() -> Errno {
    Errno::from_raw_os_error(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

/// Turns the `-1` convention of libc into a result; every other value is a length, descriptor or 0.
#[inline]
pub(super) fn check(ret: c_long) -> rustix::io::Result<usize> {
    usize::try_from(ret).map_err(|_| errno())
}

/// `/proc/self/fd/N` or `/proc/self/fd/N/name`, built on the stack.
pub(super) struct ProcPath([u8; ProcPath::SIZE]);

impl ProcPath {
    /// Prefix, ten digits, a slash, a name of 255 bytes and the final NUL fit.
    const SIZE: usize = 288;

    /// The magic link of a descriptor.
    pub(super) fn of(fd: BorrowedFd<'_>) -> Self {
        let mut buf = [0; Self::SIZE];
        // The longest number leaves most of the buffer free, so that this cannot fail.
        write!(&mut buf[..], "/proc/self/fd/{}", fd.as_raw_fd()).unwrap_or_default();
        ProcPath(buf)
    }

    /// An entry of the directory behind a descriptor; `ENAMETOOLONG` past 255 bytes, `EINVAL` for a NUL.
    pub(super) fn of_name(dir: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<Self> {
        let name = name.as_bytes();
        if name.len() > 255 {
            return Err(Errno::NAMETOOLONG);
        }
        if name.contains(&0) {
            return Err(Errno::INVAL);
        }
        let mut path = Self::of(dir);
        let len = path.as_c_str().to_bytes().len();
        path.0[len] = b'/';
        path.0[len + 1..len + 1 + name.len()].copy_from_slice(name);
        Ok(path)
    }

    pub(super) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or_default()
    }
}

/// Whether the running kernel (and its seccomp filter) has a system call; found out once.
pub(super) struct Probe {
    state: AtomicU8,
    call: fn() -> c_long,
}

const UNKNOWN: u8 = 0;
const ABSENT: u8 = 1;
const PRESENT: u8 = 2;

impl Probe {
    /// `call` makes the system call with descriptor -1, which one that exists answers with `EBADF`.
    const fn new(call: fn() -> c_long) -> Self {
        Probe { state: AtomicU8::new(UNKNOWN), call }
    }

    #[inline]
    pub(super) fn available(&self) -> bool {
        #[cfg(test)]
        if OLD_KERNEL.get() {
            return false;
        }
        match self.state.load(Ordering::Relaxed) {
            PRESENT => true,
            ABSENT => false,
            _ => self.ask(),
        }
    }

    #[cold]
    fn ask(&self) -> bool {
        let present = check((self.call)()) == Err(Errno::BADF);
        self.state.store(if present { PRESENT } else { ABSENT }, Ordering::Relaxed);
        present
    }
}

/// `openat2(2)`, Linux 5.6.
pub(super) static OPENAT2: Probe = Probe::new(|| {
    let how = [0u64; 3];
    // SAFETY: the path is a C string and `how` has the 24 bytes of `struct open_how` that are announced.
    unsafe { libc::syscall(libc::SYS_openat2, -1, c"x".as_ptr(), how.as_ptr(), size_of_val(&how)) }
});

/// `fchmodat2(2)`.
pub(super) static FCHMODAT2: Probe = Probe::new(|| {
    // SAFETY: the path is a C string; the other arguments are numbers.
    unsafe { libc::syscall(SYS_FCHMODAT2, -1, c"x".as_ptr(), 0, 0) }
});

/// The four `*xattrat(2)` calls, which came together.
pub(super) static XATTRAT: Probe = Probe::new(|| {
    // SAFETY: the path is a C string, and a list of size 0 has no buffer that could be written.
    unsafe { libc::syscall(SYS_LISTXATTRAT, -1, c"x".as_ptr(), 0, std::ptr::null_mut::<u8>(), 0usize) }
});

#[cfg(test)]
thread_local! {
    static OLD_KERNEL: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Runs `f` as if the probed calls did not exist, so that the fallbacks are taken.
#[cfg(test)]
pub(super) fn on_an_old_kernel<T>(f: impl FnOnce() -> T) -> T {
    OLD_KERNEL.set(true);
    let out = f();
    OLD_KERNEL.set(false);
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn proc_paths() {
        let f = std::fs::File::open("/").unwrap();
        let n = f.as_raw_fd();
        assert_eq!(ProcPath::of(f.as_fd()).as_c_str().to_str().unwrap(), format!("/proc/self/fd/{n}"));
        let long = "x".repeat(255);
        let path = ProcPath::of_name(f.as_fd(), OsStr::new(&long)).unwrap();
        assert_eq!(path.as_c_str().to_str().unwrap(), format!("/proc/self/fd/{n}/{long}"));
        let too_long = "x".repeat(256);
        assert_eq!(ProcPath::of_name(f.as_fd(), OsStr::new(&too_long)).err(), Some(Errno::NAMETOOLONG));
        assert_eq!(ProcPath::of_name(f.as_fd(), OsStr::new("a\0b")).err(), Some(Errno::INVAL));
    }
}
