//! Taking a mount away from outside, and finding the daemon behind it.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;

use super::about;
use crate::sys::process::is_root;
use crate::sys::{self, At, Errno};

/// The process that serves the laminafs mount at `path`; `None` when nothing of ours is mounted there.
///
/// `ENOTCONN` when its daemon has died.
pub fn daemon_of(path: &Path) -> io::Result<Option<u32>> {
    let root = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(path)?;
    match sys::xattr::get(At::Fd(root.as_fd()), about::PID) {
        Ok(value) => Ok(value.and_then(|value| std::str::from_utf8(&value).ok()?.parse().ok())),
        Err(e) if e.is(Errno::OPNOTSUPP) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Takes away what is mounted at `path`, itself as root and through fusermount3 as anybody else.
///
/// `EBUSY` when it is in use; `lazy` takes it out of the tree also then.
pub fn unmount(path: &Path, lazy: bool) -> io::Result<()> {
    if is_root() {
        match sys::umount(path, lazy) {
            // Root without CAP_SYS_ADMIN.
            Err(e) if e.is(Errno::PERM) => {}
            other => return other.map_err(io::Error::from),
        }
    }
    match fusermount("fusermount3", path, lazy) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => fusermount("fusermount", path, lazy),
        other => other,
    }
}

fn fusermount(program: &str, path: &Path, lazy: bool) -> io::Result<()> {
    let mut command = Command::new(program);
    command.arg("-u").args(lazy.then_some("-z")).arg("--").arg(path).env("LC_ALL", "C");
    let output = command.output().map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => io::Error::new(e.kind(), "fusermount3 is not installed (package fuse3)"),
        _ => e,
    })?;
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(()),
        false if said.contains("busy") => Err(io::Error::from_raw_os_error(libc::EBUSY)),
        false => Err(io::Error::other(said.trim().to_owned())),
    }
}
