//! `laminafs umount`: takes a mount away and waits until its daemon has written everything.

use super::complain;
use crate::fuse::about;
use crate::sys::process::{is_root, open_pid, wait_pid};
use crate::sys::{self, At, Errno};
use anyhow::{Context, anyhow, bail};
use clap::Args;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Arguments of `laminafs umount`.
#[derive(Debug, Args)]
pub struct UmountArgs {
    /// Take the mount out of the tree at once, even in use, and do not wait for its daemon
    #[arg(long)]
    lazy: bool,
    /// Where the merged tree is mounted
    mountpoint: PathBuf,
}

/// How long the daemon may take without a word from us.
const PATIENCE: Duration = Duration::from_secs(5);

/// Unmounts and waits.
pub fn run(args: &UmountArgs) -> anyhow::Result<()> {
    unmount_and_wait(&args.mountpoint, args.lazy)
}

/// Unmounts and, unless `lazy`, returns when the daemon is gone.
pub fn unmount_and_wait(mountpoint: &Path, lazy: bool) -> anyhow::Result<()> {
    let failed = || format!("cannot unmount {}", mountpoint.display());
    let path = resolve(mountpoint).with_context(failed)?;
    let daemon = find_daemon(&path).with_context(failed)?;
    unmount(&path, lazy).map_err(|e| explain(e, &path)).with_context(failed)?;
    let Some(daemon) = daemon.filter(|_| !lazy) else { return Ok(()) };
    if !wait_pid(daemon.as_fd(), Some(PATIENCE))? {
        let path = path.display();
        complain(&format!("note: {path} is unmounted; its daemon is still writing, or is mounted elsewhere too"));
        wait_pid(daemon.as_fd(), None)?;
    }
    Ok(())
}

/// A descriptor for the daemon of the mount at `path`; `None` when it has died.
fn find_daemon(path: &Path) -> anyhow::Result<Option<OwnedFd>> {
    match daemon_of(path) {
        Ok(Some(pid)) => Ok(open_pid(pid)?),
        Ok(None) => bail!("it is not the mount point of a laminafs mount"),
        Err(e) if e.raw_os_error() == Some(libc::ENOTCONN) => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            bail!("it is another user's mount, closed to others; run this as that user")
        }
        Err(e) => Err(e.into()),
    }
}

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

/// Adds what to do.
fn explain(e: io::Error, path: &Path) -> anyhow::Error {
    if e.raw_os_error() == Some(libc::EBUSY) {
        let path = path.display();
        return anyhow!("it is in use (by whom: fuser -vm {path}); end that first, or use --lazy");
    }
    e.into()
}

/// The real path of a mount point, also of one whose daemon has died.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match path.canonicalize() {
        Err(e) if e.raw_os_error() == Some(libc::ENOTCONN) => std::path::absolute(path),
        other => other,
    }
}
