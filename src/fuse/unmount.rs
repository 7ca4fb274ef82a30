//! Taking a mount away from outside, and finding the daemon behind it.

use std::ffi::OsStr;
use std::io;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use super::about;
use crate::sys::process::is_root;
use crate::sys::{self, Errno};

/// The process that serves the laminafs mount at `path`; `None` when nothing of ours is mounted there.
///
/// `ENOTCONN` when its daemon has died.
pub fn daemon_of(path: &Path) -> io::Result<Option<u32>> {
    let value = about::read(path, about::PID)?;
    Ok(value.and_then(|value| std::str::from_utf8(&value).ok()?.parse().ok()))
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
    let mut args = vec![OsStr::new("-u"), OsStr::new("--"), path.as_os_str()];
    if lazy {
        args.insert(1, OsStr::new("-z"));
    }
    let child = fusermount(|command| command.args(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn())?;
    let (status, said) = outcome(child)?;
    // It says nothing when all went well.
    match status.map_or(said.is_empty(), |status| status.success()) {
        true => Ok(()),
        false if said.contains("busy") => Err(io::Error::from_raw_os_error(libc::EBUSY)),
        false => Err(io::Error::other(said)),
    }
}

/// How a program ended, and what it said on standard error. A process that ignores SIGCHLD does not learn the former.
pub(super) fn outcome(mut child: Child) -> io::Result<(Option<ExitStatus>, String)> {
    let mut said = Vec::new();
    if let Some(mut pipe) = child.stderr.take() {
        pipe.read_to_end(&mut said)?;
    }
    let status = match child.wait() {
        Err(e) if e.raw_os_error() == Some(libc::ECHILD) => None,
        status => Some(status?),
    };
    Ok((status, String::from_utf8_lossy(&said).trim().to_owned()))
}

/// Starts the program that mounts and unmounts for ordinary users, under the name that it has here.
pub(super) fn fusermount<T>(mut start: impl FnMut(&mut Command) -> io::Result<T>) -> io::Result<T> {
    for program in ["fusermount3", "fusermount"] {
        match start(Command::new(program).env("LC_ALL", "C")) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "fusermount3 is not installed (package fuse3)"))
}
