//! Mounting: by the kernel itself, or through fusermount3 where the right to do that is missing.
//!
//! `fuser` could do it as well, but at the end of a mount it unmounts what is at the path then: what was there before, or
//! what somebody has mounted meanwhile. So the mount is made here, and only this mount is taken away.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

pub use rustix::fs::StatVfsMountFlags as Switches;

use super::session::{MountError, Options};
use super::unmount::{fusermount, outcome, unmount};
use crate::sys::{self, Errno, MountFlags, MountId};

/// `ST_NOSYMFOLLOW` of statfs(2) (Linux 5.10).
pub const NO_SYMFOLLOW: Switches = Switches::from_bits_retain(0x2000);

/// A mount that was made here, or by the caller, who keeps it then.
pub struct Mount {
    /// None where the caller made it.
    made: Option<(PathBuf, MountId)>,
    /// Options that are on and without effect.
    ignored: Vec<&'static str>,
    /// It is known to be gone.
    ended: AtomicBool,
}

impl Mount {
    /// Mounts. The file system is served through the descriptor, and until it is, whoever uses it waits.
    pub fn new(options: &Options, read_only: bool) -> Result<(OwnedFd, Self), MountError> {
        let failed = |source| MountError::Mount { path: options.mountpoint.clone(), source };
        let new = |made, ignored| Self { made, ignored, ended: AtomicBool::new(false) };
        if let Some(number) = handed_down(&options.mountpoint) {
            let device = sys::caller::inherited(number).map_err(|e| failed(e.into()))?;
            return Ok((device, new(None, Vec::new())));
        }
        let path = options.mountpoint.canonicalize().map_err(failed)?;
        let device = open_device()?;
        let (device, ignored) = match mount(&device, &path, options, read_only) {
            Ok(()) => (device.into(), Vec::new()),
            Err(e) if e.raw_os_error() == Some(libc::EPERM) => {
                (mount_as_user(&path, options, read_only).map_err(failed)?, unknown_to_fusermount(options))
            }
            Err(e) => return Err(failed(e)),
        };
        match sys::mount_at(&path) {
            Ok(id) => Ok((device, new(Some((path, id)), ignored))),
            Err(e) => {
                unmount(&path, true).map_err(failed)?;
                Err(failed(e.into()))
            }
        }
    }

    /// Device number of the file system, where it is known.
    pub fn device(&self) -> Option<u64> {
        self.made.as_ref().map(|(_, id)| id.dev)
    }

    /// Options that are on and without effect: those that fusermount3 has no words for, where the mount was made through it.
    pub fn ignored(&self) -> &[&'static str] {
        &self.ignored
    }

    /// Takes the mount away, unless that happened already or the caller made it. `EBUSY` while it is in use; with `lazy` out
    /// of the tree then.
    pub fn unmount(&self, lazy: bool) -> io::Result<()> {
        let Some((path, id)) = &self.made else { return Ok(()) };
        if self.ended.load(Ordering::Acquire) {
            return Ok(());
        }
        if sys::mount_at(path).is_ok_and(|on_top| on_top == *id) {
            return unmount(path, lazy);
        }
        let covered = sys::mounts()?.iter().any(|m| m.place == *path && m.dev == id.dev);
        match covered {
            true => Err(io::Error::other("something else is mounted over it")),
            false => Ok(()),
        }
    }

    /// The file system has ended; its numbers may be those of another one from now on.
    pub fn ended(&self) {
        self.ended.store(true, Ordering::Release);
    }
}

/// The number of the descriptor, where a mount point `/dev/fd/N` names an open /dev/fuse: that is how programs of libfuse are told
/// that the caller has mounted it already (mount.fuse3 with `drop_privileges`, apptainer), since they may not.
pub fn handed_down(mountpoint: &Path) -> Option<i32> {
    /// Major and minor number of /dev/fuse (Documentation/admin-guide/devices.txt).
    const FUSE: (u32, u32) = (10, 229);
    let number = mountpoint.strip_prefix("/dev/fd").or_else(|_| mountpoint.strip_prefix("/proc/self/fd")).ok()?;
    let number = number.to_str()?.parse::<u16>().ok()?;
    let meta = mountpoint.metadata().ok()?;
    let device = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
    (meta.file_type().is_char_device() && device == FUSE).then(|| number.into())
}

fn open_device() -> Result<File, MountError> {
    let device = File::options().read(true).write(true).open("/dev/fuse");
    device.map_err(|e| match e.kind() {
        io::ErrorKind::PermissionDenied => MountError::DevicePermission,
        // ENODEV, ENXIO: a device node without a driver behind it.
        _ => MountError::NoDevice,
    })
}

fn mount(device: &File, path: &Path, options: &Options, read_only: bool) -> io::Result<()> {
    let mut data = vec![
        format!("fd={}", device.as_raw_fd()),
        format!("rootmode={:o}", path.metadata()?.mode()),
        format!("user_id={}", rustix::process::getuid().as_raw()),
        format!("group_id={}", rustix::process::getgid().as_raw()),
    ];
    data.extend(own_options(options));
    let data = std::ffi::CString::new(data.join(","))?;
    Ok(sys::mount(&options.fsname, path, "fuse", flags(options, read_only), &data)?)
}

/// The switches of what is mounted at `path`.
pub fn switches(path: &Path) -> io::Result<Switches> {
    Ok(rustix::fs::statvfs(path)?.f_flag)
}

/// Gives a mount that is served already the switches of `options`: `ro`, `suid`, `dev`, `exec`, `sync`, `nosymfollow` and those
/// of access times, with their opposites. `EPERM` for ordinary users.
pub fn remount(options: &Options) -> io::Result<()> {
    // Without a word on access times the kernel leaves them as they are.
    let usual = !options.no_atime && !options.strict_atime;
    let times = if usual { MountFlags::RELATIME } else { MountFlags::empty() };
    Ok(sys::remount(&options.mountpoint, flags(options, options.read_only) | times)?)
}

fn flags(options: &Options, read_only: bool) -> MountFlags {
    switch_words(options, read_only).into_iter().filter(|(on, ..)| *on).map(|(_, flag, ..)| flag).collect()
}

/// Options that the file system of the kernel reads.
fn own_options(options: &Options) -> Vec<String> {
    let mut own = Vec::new();
    if !options.subtype.is_empty() {
        own.push(format!("subtype={}", options.subtype));
    }
    let switches = [(options.default_permissions, "default_permissions"), (options.allow_other, "allow_other")];
    own.extend(switches.iter().filter(|(on, _)| *on).map(|(_, name)| (*name).to_owned()));
    own
}

/// What every mount has: whether it is on, as a flag, and as words for on and off.
fn switch_words(options: &Options, read_only: bool) -> [(bool, MountFlags, &'static str, &'static str); 10] {
    [
        (!options.suid, MountFlags::NOSUID, "nosuid", "suid"),
        (!options.dev, MountFlags::NODEV, "nodev", "dev"),
        (!options.exec, MountFlags::NOEXEC, "noexec", "exec"),
        (read_only, MountFlags::RDONLY, "ro", "rw"),
        (options.no_atime, MountFlags::NOATIME, "noatime", ""),
        // See `unknown_to_fusermount`.
        (options.strict_atime, MountFlags::STRICTATIME, "", ""),
        (options.no_dir_atime, MountFlags::NODIRATIME, "", ""),
        (options.no_symfollow, MountFlags::NOSYMFOLLOW, "", ""),
        (options.dir_sync, MountFlags::DIRSYNC, "dirsync", ""),
        (options.sync, MountFlags::SYNCHRONOUS, "sync", ""),
    ]
}

/// Options that are on and that fusermount3 has no words for.
fn unknown_to_fusermount(options: &Options) -> Vec<&'static str> {
    let all = [
        (options.strict_atime, "strictatime"),
        (options.no_dir_atime, "nodiratime"),
        (options.no_symfollow, "nosymfollow"),
    ];
    all.into_iter().filter(|(on, _)| *on).map(|(_, word)| word).collect()
}

/// Mounts through fusermount3, which sends the open device through a socket.
fn mount_as_user(path: &Path, options: &Options, read_only: bool) -> io::Result<OwnedFd> {
    let words = switch_words(options, read_only).map(|(is_on, _, on, off)| if is_on { on } else { off });
    // fusermount3 splits at commas that are not escaped.
    let fsname = options.fsname.replace('\\', "\\\\").replace(',', "\\,");
    let mut list = vec![format!("fsname={fsname}")];
    list.extend(own_options(options));
    list.extend(words.iter().filter(|word| !word.is_empty()).map(|word| (*word).to_owned()));
    let list = list.join(",");
    let mut ours = None;
    let child = fusermount(|command| {
        let (socket, theirs) = UnixStream::pair()?;
        ours = Some(socket);
        // The socket is its standard input, so that it is inherited by nobody else.
        command.args(["-o", &list, "--"]).arg(path).env("_FUSE_COMMFD", "0").stdin(OwnedFd::from(theirs));
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()
    })?;
    let device = ours.map(|socket| receive(&socket)).transpose();
    let (status, said) = outcome(child)?;
    match device? {
        // It is sent when the mount is made.
        Some(Some(device)) if status.is_none_or(|status| status.success()) => Ok(device),
        _ => Err(io::Error::other(said)),
    }
}

/// The descriptor that comes through the socket; none when it is closed.
fn receive(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let (mut byte, mut space) = ([0], [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))]);
    let mut messages = RecvAncillaryBuffer::new(&mut space);
    loop {
        let mut data = [IoSliceMut::new(&mut byte)];
        match recvmsg(socket.as_fd(), &mut data, &mut messages, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            received => break received.map(drop)?,
        }
    }
    let descriptor = |message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    };
    Ok(messages.drain().find_map(descriptor))
}
