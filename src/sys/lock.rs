//! Locks on bytes of a file, which belong to the open file description.
//!
//! They end when the last descriptor of the description is closed, so also when its process is killed; a child
//! inherits them with the descriptor. For the seam they are reading calls: nothing on disk changes.
#![allow(unsafe_code)]

use super::raw::check;
use super::{Errno, Fd, Result, reading};
use std::os::fd::AsRawFd;

/// What a lock allows others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// Others may hold it shared as well.
    Shared,
    /// Nobody else holds it.
    Exclusive,
}

/// Locks the byte at `offset`, or changes the lock that this description holds there.
///
/// False when another description is in the way; with `wait` that cannot be, the call then sleeps. Nothing notices a
/// deadlock. `EBADF` when `fd` is not open for writing (exclusive) or reading (shared). A change of the kind is not
/// atomic: somebody who waits may have the lock in between.
pub fn lock_byte(fd: Fd<'_>, offset: u64, kind: LockKind, wait: bool) -> Result<bool> {
    let command = if wait { libc::F_OFD_SETLKW } else { libc::F_OFD_SETLK };
    reading("fcntl(F_OFD_SETLK)", || match set(fd, command, offset, Some(kind)) {
        Ok(_) => Ok(true),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(false),
        Err(e) => Err(e),
    })
}

/// Lets the byte at `offset` go.
pub fn unlock_byte(fd: Fd<'_>, offset: u64) -> Result<()> {
    reading("fcntl(F_OFD_SETLK)", || set(fd, libc::F_OFD_SETLK, offset, None).map(drop))
}

/// Whether another description has a lock on the byte at `offset` that would keep this one from locking it.
pub fn byte_is_locked(fd: Fd<'_>, offset: u64, kind: LockKind) -> Result<bool> {
    reading("fcntl(F_OFD_GETLK)", || {
        let found = set(fd, libc::F_OFD_GETLK, offset, Some(kind))?;
        Ok(found != libc::F_UNLCK as libc::c_short)
    })
}

/// Makes the call and returns the type that it leaves in the argument.
fn set(fd: Fd<'_>, command: i32, offset: u64, kind: Option<LockKind>) -> rustix::io::Result<libc::c_short> {
    let l_type = match kind {
        Some(LockKind::Shared) => libc::F_RDLCK,
        Some(LockKind::Exclusive) => libc::F_WRLCK,
        None => libc::F_UNLCK,
    };
    let l_start = libc::off_t::try_from(offset).map_err(|_| Errno::OVERFLOW)?;
    // SAFETY: `flock` is a plain structure of numbers.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    (lock.l_type, lock.l_whence) = (l_type as libc::c_short, libc::SEEK_SET as libc::c_short);
    (lock.l_start, lock.l_len) = (l_start, 1);
    loop {
        // SAFETY: the argument of these commands is a pointer to a `struct flock`, which outlives the call.
        match check(unsafe { libc::fcntl(fd.as_raw_fd(), command, &raw mut lock) }.into()) {
            Err(Errno::INTR) => {}
            other => return other.map(|_| lock.l_type),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::LockKind::{Exclusive, Shared};
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;

    #[test]
    fn descriptions_exclude_each_other_byte_by_byte() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("lock");
        File::create(&path).unwrap();
        let open = || File::options().read(true).write(true).open(&path).unwrap();
        let (a, b) = (open(), open());
        assert!(lock_byte(a.as_fd(), 7, Shared, true).unwrap());
        assert!(lock_byte(b.as_fd(), 7, Shared, false).unwrap());
        assert!(!lock_byte(b.as_fd(), 7, Exclusive, false).unwrap());
        assert!(byte_is_locked(b.as_fd(), 7, Exclusive).unwrap());
        assert!(!byte_is_locked(b.as_fd(), 7, Shared).unwrap());
        assert!(lock_byte(b.as_fd(), 8, Exclusive, false).unwrap());
        assert!(lock_byte(b.as_fd(), (1 << 63) - 2, Exclusive, false).unwrap());
        unlock_byte(a.as_fd(), 7).unwrap();
        assert!(lock_byte(b.as_fd(), 7, Exclusive, false).unwrap());
        assert!(byte_is_locked(a.as_fd(), 7, Shared).unwrap());
        let waiter = std::thread::spawn(move || lock_byte(a.as_fd(), 7, Exclusive, true).unwrap());
        drop(b);
        assert!(waiter.join().unwrap());
    }
}
