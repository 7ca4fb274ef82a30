//! Mounts: made and taken away, and private clones to hold layers by.
#![allow(unsafe_code)]

use super::raw::check;
use super::{Errno, Fd, Result, reading};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{OpenTreeFlags, UnmountFlags};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

pub use rustix::mount::MountFlags;

const MOUNT_ATTR_RDONLY: u64 = 0x1;
const MOUNT_ATTR_ATIME: u64 = 0x70;
const MOUNT_ATTR_NOATIME: u64 = 0x10;
const MS_PRIVATE: u64 = 1 << 18;

/// `struct mount_attr`.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// A directory inside a mount of its own.
#[derive(Debug)]
pub struct PrivateClone {
    /// The directory, open for reading.
    pub root: OwnedFd,
    /// What the mount was made with. It can go as soon as `root` is there, but closing it waits until no processor looks
    /// at the mount any more (an RCU grace period of some 40 µs).
    pub made_with: OwnedFd,
}

/// The directory `fd` again, inside a mount of its own that no path leads to.
///
/// Mounts below the directory are not in it. Reading never touches access times, and with `read_only`
/// nothing can be written through the result or anything opened from it, by whatever means. It needs
/// `CAP_SYS_ADMIN` over the mount namespace: `EPERM` without, `EINVAL` also where mounts below are
/// locked, `ENOSYS` before Linux 5.12. Whoever holds two clones of one file system cannot rename or
/// link between them (`EXDEV`). The mount goes away with the last descriptor.
pub fn private_clone(fd: Fd<'_>, read_only: bool) -> Result<PrivateClone> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = reading("open_tree", || rustix::mount::open_tree(fd, c"", flags))?;
    let access = if read_only { MOUNT_ATTR_RDONLY } else { 0 };
    let noatime =
        MountAttr { set: access | MOUNT_ATTR_NOATIME, clear: MOUNT_ATTR_ATIME, propagation: MS_PRIVATE, userns_fd: 0 };
    reading("mount_setattr", || match set_attributes(tree.as_fd(), &noatime) {
        // Mounts that a user namespace inherited may have their access time policy locked.
        Err(Errno::PERM) => {
            let plain = MountAttr { set: access, clear: 0, propagation: MS_PRIVATE, userns_fd: 0 };
            set_attributes(tree.as_fd(), &plain)
        }
        other => other,
    })?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = reading("openat", || rustix::fs::openat(&tree, c".", flags, Mode::empty()))?;
    Ok(PrivateClone { root, made_with: tree })
}

fn set_attributes(mount: Fd<'_>, attr: &MountAttr) -> rustix::io::Result<()> {
    // SAFETY: the path is a C string and `attr` a `struct mount_attr` of the size that is announced.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}

/// Mounts a file system of type `kind` at `path`; `data` are its own options, separated by commas.
///
/// `EPERM` without `CAP_SYS_ADMIN` over the mount namespace.
pub fn mount(source: &str, path: &Path, kind: &str, flags: MountFlags, data: &CStr) -> Result<()> {
    reading("mount", || rustix::mount::mount(source, path, kind, flags, data))
}

/// Gives the file system mounted at `path` other flags; those that are not named are taken away.
pub fn remount(path: &Path, flags: MountFlags) -> Result<()> {
    reading("mount", || rustix::mount::mount_remount(path, flags, c""))
}

/// Unmounts what is mounted at `path`, which is not followed; `lazy` detaches it while it is in use.
pub fn umount(path: &Path, lazy: bool) -> Result<()> {
    let lazy = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    reading("umount2", || rustix::mount::unmount(path, UnmountFlags::NOFOLLOW | lazy))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{
        Access, At, chmod, create_file, handle, mkdir, open_dir_path, open_file, open_handle, open_path, open_root,
        reopen, stat,
    };
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn a_clone_can_be_read_but_not_written() {
        let tmp = tempfile::tempdir().unwrap();
        let root = open_root(tmp.path()).unwrap();
        let (d, f) = (OsStr::new("d"), OsStr::new("f"));
        mkdir(root.as_fd(), d, 0o755).unwrap();
        drop(create_file(root.as_fd(), f, 0o644).unwrap());
        if !rustix::process::geteuid().is_root() {
            assert!(private_clone(root.as_fd(), true).unwrap_err().is(Errno::PERM));
            return;
        }
        let clone = private_clone(root.as_fd(), true).unwrap().root;
        let fd = clone.as_fd();
        assert_eq!(stat(At::Fd(fd)).unwrap().ino, stat(At::Fd(root.as_fd())).unwrap().ino);
        open_file(fd, f, Access::Read).unwrap();
        assert!(open_file(fd, f, Access::ReadWrite).unwrap_err().is(Errno::ROFS));
        assert!(mkdir(fd, OsStr::new("n"), 0o755).unwrap_err().is(Errno::ROFS));
        assert!(chmod(At::Name(fd, f), 0).unwrap_err().is(Errno::ROFS));
        let path = open_path(fd, f).unwrap();
        reopen(path.as_fd(), Access::Read).unwrap();
        assert!(reopen(path.as_fd(), Access::ReadWrite).unwrap_err().is(Errno::ROFS));
        let by_handle = open_handle(fd, &handle(At::Fd(path.as_fd())).unwrap()).unwrap();
        assert!(reopen(by_handle.as_fd(), Access::ReadWrite).unwrap_err().is(Errno::ROFS));
        let sub = open_dir_path(fd, d).unwrap();
        assert!(mkdir(sub.as_fd(), OsStr::new("n"), 0o755).unwrap_err().is(Errno::ROFS));
        mkdir(root.as_fd(), OsStr::new("n"), 0o755).unwrap();
    }

    #[test]
    fn a_writable_clone() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let tmp = tempfile::tempdir().unwrap();
        let root = open_root(tmp.path()).unwrap();
        let clone = private_clone(root.as_fd(), false).unwrap().root;
        mkdir(clone.as_fd(), OsStr::new("n"), 0o755).unwrap();
        stat(At::Name(root.as_fd(), OsStr::new("n"))).unwrap();
    }

    #[test]
    fn umount_of_what_is_not_mounted() {
        let tmp = tempfile::tempdir().unwrap();
        let e = umount(tmp.path(), false).unwrap_err();
        assert!(e.is(Errno::INVAL) || e.is(Errno::PERM));
    }
}
