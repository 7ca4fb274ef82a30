//! System calls as safe functions on a directory descriptor and one name.
//!
//! This is the only home of `unsafe`. The functions force the safe flags: every new descriptor is
//! close-on-exec and no symbolic link is ever followed. An [`Error`] carries the name of the call, so
//! that a message reads like a line of strace. The contents of a layer are addressed as
//! (directory descriptor, name) only, never by a host path that somebody could swap.
//!
//! Every function that touches files announces itself to `sys::seam`, where tests inject failures.

pub mod caller;
mod change;
mod data;
mod dirent;
mod handle;
mod lock;
pub mod memory;
mod mount;
mod mountinfo;
mod new_mount;
mod open;
pub mod process;
mod raw;
pub mod seam;
mod stat;
pub mod xattr;

pub use change::{
    RenameFlags, SetTime, chmod, chown, fallocate, fdatasync, fsync, link, link_fd, mkdir, mknod, rename, rmdir,
    set_flags, set_times, symlink, syncfs, truncate, unlink,
};
pub use data::{
    StatFs, clone_file, copy_range, get_flags, pread, pwrite, readlink, readlink_fd, seek, seek_data, seek_hole, statfs,
};
pub use dirent::{Each, RawEntry, read_dir, read_dir_itself};
pub use handle::{FileHandle, fs_uuid, handle, open_handle};
pub use lock::{LockKind, byte_is_locked, lock_byte, unlock_byte};
pub use mount::{MountFlags, PrivateClone, mount, private_clone, remount, umount};
pub use mountinfo::{MountEntry, MountId, mount_at, mounts, user_of};
pub use new_mount::{EndOfMount, MountAttrFlags, Parameter, Refusal, attach, new_mount};
pub use open::{
    create_file, dup, nameless_file, open_dir, open_dir_path, open_file, open_file_path, open_path, open_path_rel,
    open_root, reopen,
};
pub use rustix::io::Errno;
pub use stat::{Stat, Time, stat};

use std::ffi::OsStr;
use std::fmt;
use std::os::fd::BorrowedFd;

/// A borrowed descriptor, as every function here takes it.
pub type Fd<'a> = BorrowedFd<'a>;

/// A system call that failed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Error {
    /// Name of the call, such as `renameat2`.
    pub call: &'static str,
    /// What it failed with.
    pub errno: Errno,
}

/// The result of a system call.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Whether the call failed with `errno`.
    #[inline]
    pub fn is(self, errno: Errno) -> bool {
        self.errno == errno
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, std::io::Error::from(self.errno))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    /// Keeps the errno (`raw_os_error`) and loses the name of the call.
    fn from(e: Error) -> Self {
        e.errno.into()
    }
}

/// The object that a call acts on.
#[derive(Clone, Copy, Debug)]
pub enum At<'a> {
    /// The object behind a descriptor, which may be an `O_PATH` one.
    Fd(Fd<'a>),
    /// The entry of that name in a directory; a symbolic link is meant itself.
    Name(Fd<'a>, &'a OsStr),
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `O_RDONLY`.
    Read,
    /// `O_RDWR`.
    ReadWrite,
}

/// Announces `call` to the seam, makes it, and names it in the error.
#[inline(always)]
fn run<T>(call: &'static str, kind: seam::Kind, make: impl FnOnce() -> rustix::io::Result<T>) -> Result<T> {
    seam::enter(call, kind)?;
    make().map_err(|errno| Error { call, errno })
}

/// [`run`] for a call that leaves the file system as it is.
#[inline(always)]
fn reading<T>(call: &'static str, make: impl FnOnce() -> rustix::io::Result<T>) -> Result<T> {
    run(call, seam::Kind::Reading, make)
}

/// [`run`] for a call that changes the file system.
#[inline(always)]
fn mutating<T>(call: &'static str, make: impl FnOnce() -> rustix::io::Result<T>) -> Result<T> {
    run(call, seam::Kind::Mutating, make)
}

#[cfg(test)]
mod tests {
    use super::{Errno, Error};

    #[test]
    fn error_reads_like_strace() {
        let e = Error { call: "renameat2", errno: Errno::NOSPC };
        assert_eq!(e.to_string(), "renameat2: No space left on device (os error 28)");
        assert_eq!(std::io::Error::from(e).raw_os_error(), Some(28));
        assert!(e.is(Errno::NOSPC) && !e.is(Errno::IO));
    }
}
