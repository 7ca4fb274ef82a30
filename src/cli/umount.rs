//! `laminafs umount`: takes a mount away and waits until its daemon has written everything.

use super::complain;
use super::context::Context;
use super::options::NAME;
use crate::fuse::{daemon_of, unmount};
use crate::store::{Error, MountRecord, Store};
use crate::sys::process::{is_root, open_pid, user, wait_readable};
use crate::sys::{self, EndOfMount};
use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Arguments of `laminafs umount`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    laminafs umount web                  the writable layer of this name, wherever it is mounted\n  \
    laminafs umount /mnt                 whatever laminafs has mounted there\n  \
    laminafs umount --lazy /mnt          also while somebody uses it")]
pub struct UmountArgs {
    /// Take the mount out of the tree at once, even in use, and do not wait for its daemon, nor ask it anything
    #[arg(long)]
    lazy: bool,
    /// Where the merged tree is mounted, or the name of a writable layer
    #[arg(value_name = "NAME|MOUNTPOINT")]
    target: PathBuf,
}

/// How long the daemon may take without a word from us.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a file system may still be there after it was unmounted, before it counts as used elsewhere.
const MOMENT: Duration = Duration::from_secs(1);

/// How long the daemon may take after we have told that it takes long.
const LONGEST: Duration = Duration::from_secs(600);

/// The type of our mounts in the table of mounts, unless `subtype=` says another one.
const KIND: &str = "fuse.laminafs";

/// How often the store is asked whether a mount of the kernel has been cleaned up after.
const PAUSE: Duration = Duration::from_millis(10);

/// Unmounts and waits.
pub fn run(args: &UmountArgs, context: &Context) -> anyhow::Result<()> {
    let target = &args.target;
    // What is no path can be a name; a mount of ours in the working directory goes first.
    let here = if args.lazy && is_listed(target) { Ok(true) } else { daemon_of(target).map(|pid| pid.is_some()) };
    let path = target.components().count() > 1 || target.is_absolute() || matches!(here, Ok(true));
    let store = existing_store(context)?;
    if let (false, Some(store), Some(name)) = (path, &store, target.to_str()) {
        match store.writable(name) {
            Ok(writable) => match writable.mount {
                Some(mount) => return unmount_writable(store, name, &mount, args.lazy),
                None if here.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::NotFound) => {
                    bail!("writable layer {name} is not mounted; where a daemon has died, name the mount point")
                }
                None => {}
            },
            Err(e @ Error::NoWritable(_)) if here.is_err_and(|e| e.kind() == io::ErrorKind::NotFound) => {
                return Err(anyhow!(e).context(format!("cannot unmount {name}")));
            }
            Err(Error::NoWritable(_)) => {}
            Err(e) => return Err(e.into()),
        }
    }
    if let Some((store, name, mount)) = store.and_then(|store| kernel_mount(store, target)) {
        return unmount_writable(&store, &name, &mount, args.lazy);
    }
    unmount_and_wait(target, args.lazy)
}

/// The store, if there is one: nothing is made in order to unmount.
fn existing_store(context: &Context) -> anyhow::Result<Option<Store>> {
    match context.root() {
        Ok(root) if root.join("format").exists() => context.store().map(Some),
        _ => Ok(None),
    }
}

/// The writable layer that kernel overlayfs has mounted there.
fn kernel_mount(store: Store, target: &Path) -> Option<(Store, String, MountRecord)> {
    let path = target.canonicalize().ok()?;
    let (all, _) = store.sound_writables().ok()?;
    let found = all.into_iter().find_map(|w| {
        let mount = w.mount.filter(|m| m.kernel && m.mountpoint.canonicalize().is_ok_and(|p| p == path))?;
        Some((w.record.name, mount))
    });
    found.map(|(name, mount)| (store, name, mount))
}

/// Unmounts a writable layer and, unless `lazy`, returns when nobody holds it any more.
pub fn unmount_writable(store: &Store, name: &str, mount: &MountRecord, lazy: bool) -> anyhow::Result<()> {
    let failed = || format!("cannot unmount {}", mount.mountpoint.display());
    // Something else may be mounted over it, which is not what was named.
    let on_top = match mount.kernel {
        true => store.writable(name)?.is_kernel_mount_on_top()?,
        false if lazy && is_only_one(&mount.mountpoint) => true,
        false => daemon_of(&mount.mountpoint).map_or(true, |pid| pid == Some(mount.pid)),
    };
    if !on_top {
        return Err(anyhow!("something else is mounted over it; unmount that first")).with_context(failed);
    }
    if !mount.kernel {
        return unmount_and_wait(&mount.mountpoint, lazy);
    }
    unmount(&mount.mountpoint, lazy).map_err(|e| explain(e, &mount.mountpoint)).with_context(failed)?;
    // The process that waited for this may have been killed, and its number been given to another one: only the lock
    // of the writable layer tells.
    let deadline = Instant::now() + PATIENCE;
    while !lazy && store.writable(name).is_ok_and(|writable| writable.busy) {
        if Instant::now() > deadline {
            bail!("{} is unmounted, but is mounted elsewhere too", mount.mountpoint.display());
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Unmounts and, unless `lazy`, returns when the daemon is gone, or is known to go on for the sake of other mounts.
pub fn unmount_and_wait(mountpoint: &Path, lazy: bool) -> anyhow::Result<()> {
    let failed = || format!("cannot unmount {}", mountpoint.display());
    let path = resolve(mountpoint).with_context(failed)?;
    if lazy && is_listed(&path) {
        return unmount(&path, true).map_err(|e| explain(e, &path)).with_context(failed);
    }
    let daemon = find_daemon(&path).with_context(failed)?;
    let dev = sys::mount_at(&path).ok().map(|mount| mount.dev);
    let end = EndOfMount::watch(&path);
    unmount(&path, lazy).map_err(|e| explain(e, &path)).with_context(failed)?;
    let Some((pid, daemon)) = daemon.filter(|_| !lazy) else { return Ok(()) };
    if wait_readable(daemon.as_fd(), Some(MOMENT))? {
        return Ok(());
    }
    // What the daemon does after the last unmount ends by itself. The device number may be another file system's by then.
    let unknown = match end.and_then(|end| end.has_come()) {
        Ok(true) => return wait_for_data(daemon.as_fd(), &path),
        Ok(false) => None,
        Err(why) => Some(why),
    };
    let elsewhere = dev.and_then(|dev| used_elsewhere(dev, pid));
    let why = match (elsewhere, unknown) {
        (None, Some(unknown)) => return wait_blindly(daemon.as_fd(), &path, unknown),
        (Some(why), Some(_)) => format!("as far as can be told, {why}"),
        (Some(why), None) => why,
        (None, None) => "another mount has it as a layer, or it is mounted elsewhere too".to_owned(),
    };
    complain(&format!("note: {} is unmounted; its daemon goes on: {why}", path.display()));
    Ok(())
}

/// Who uses a file system that was unmounted, as far as this process can see it.
fn used_elsewhere(dev: u64, daemon: u32) -> Option<String> {
    if let Some(other) = sys::mounts().ok()?.into_iter().find(|m| m.dev == dev) {
        return Some(format!("it is mounted on {} too", other.place.display()));
    }
    let (pid, name) = sys::user_of(dev, daemon)?;
    Some(format!("process {pid} ({name}) uses it, as a layer of another mount or in another mount namespace"))
}

/// Waits for a daemon that is used by nobody who can be seen, where `why` keeps us from being told whether the file system has ended.
fn wait_blindly(daemon: BorrowedFd<'_>, path: &Path, why: sys::Error) -> anyhow::Result<()> {
    if wait_readable(daemon, Some(PATIENCE))? {
        return Ok(());
    }
    bail!(
        "{} is unmounted, but its daemon has not ended in {} seconds: it is still writing, or used by others that cannot be seen; which \
         of them cannot be told ({why})",
        path.display(),
        (MOMENT + PATIENCE).as_secs()
    )
}

/// Waits for a daemon that has nobody to serve any more, as far as is known.
fn wait_for_data(daemon: BorrowedFd<'_>, path: &Path) -> anyhow::Result<()> {
    if wait_readable(daemon, Some(PATIENCE))? {
        return Ok(());
    }
    let path = path.display();
    complain(&format!(
        "note: {path} is unmounted; its daemon is still writing, or is used by others that cannot be seen"
    ));
    if !wait_readable(daemon, Some(LONGEST))? {
        bail!(
            "{path} is unmounted, but its daemon has not ended in {} seconds: it is still writing, or used by others that \
             cannot be seen",
            LONGEST.as_secs()
        );
    }
    Ok(())
}

/// Whether what is on top at `path` is ours, as far as the table of mounts tells: nobody is asked who might not answer.
fn is_listed(path: &Path) -> bool {
    kinds_at(path).is_ok_and(|kinds| kinds.last().is_some_and(|kind| kind == KIND))
}

/// The same, and there is no other mount of ours below it.
fn is_only_one(path: &Path) -> bool {
    is_listed(path) && kinds_at(path).is_ok_and(|kinds| kinds.iter().filter(|kind| *kind == KIND).count() == 1)
}

/// The types of what is mounted at `path`, what is on top last.
fn kinds_at(path: &Path) -> anyhow::Result<Vec<OsString>> {
    let path = resolve(path)?;
    Ok(sys::mounts()?.into_iter().filter(|m| m.place == path).map(|m| m.kind).collect())
}

/// Number of and descriptor for the daemon of the mount at `path`; `None` when it has died, or when the kernel serves the mount.
fn find_daemon(path: &Path) -> anyhow::Result<Option<(u32, OwnedFd)>> {
    match daemon_of(path) {
        Ok(Some(pid)) => Ok(open_pid(pid)?.map(|fd| (pid, fd))),
        Ok(None) if is_kernel_mount(path)? => Ok(None),
        Ok(None) => bail!("it is not the mount point of a laminafs mount"),
        Err(e) if e.raw_os_error() == Some(libc::ENOTCONN) => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            bail!("it is another user's mount, closed to others; run this as that user")
        }
        Err(e) => Err(e.into()),
    }
}

/// Whether `mount --kernel` made the mount at `path`: its source is always our name.
fn is_kernel_mount(path: &Path) -> anyhow::Result<bool> {
    let mounts = sys::mounts()?;
    Ok(mounts.iter().any(|m| m.place == path && m.kind == "overlay" && m.source == NAME))
}

/// Adds what to do.
fn explain(e: io::Error, path: &Path) -> anyhow::Error {
    let mounts = sys::mounts().unwrap_or_default();
    if e.raw_os_error() == Some(libc::EBUSY) {
        if let Some(below) = mounts.iter().find(|m| m.place != path && m.place.starts_with(path)) {
            let below = below.place.display();
            return anyhow!("it is in use: {below} is mounted below it; unmount that first, or use --lazy");
        }
        let path = path.display();
        return anyhow!("it is in use (by whom: fuser -vm {path}); end that first, or use --lazy");
    }
    let owner = mounts.iter().rfind(|m| m.place == path).and_then(|m| m.option("user_id")?.to_str()?.parse().ok());
    match owner.filter(|owner: &u32| !is_root() && *owner != user()) {
        Some(0) => anyhow!("root has mounted it; run this as root"),
        Some(owner) => anyhow!("user {owner} has mounted it; run this as that user"),
        None => e.into(),
    }
}

/// The real path of a mount point, also of one whose daemon has died.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match path.canonicalize() {
        Err(e) if e.raw_os_error() == Some(libc::ENOTCONN) => std::path::absolute(path),
        other => other,
    }
}
