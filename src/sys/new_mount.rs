//! File systems of the kernel's own: made, mounted, and waited for (`fsopen(2)`, Linux 5.2).

use super::{Error, Fd, Result, reading};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::CWD;
use rustix::fs::inotify;
use rustix::mount::{FsMountFlags, FsOpenFlags, MoveMountFlags};
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

pub use rustix::mount::MountAttrFlags;

/// An option of a file system that is about to be made.
#[derive(Clone, Copy, Debug)]
pub enum Parameter<'a> {
    /// A switch.
    Flag(&'a str),
    /// A name and its value, of at most 255 bytes.
    Text(&'a str, &'a OsStr),
}

/// Why the kernel did not make a file system.
#[derive(Debug)]
pub struct Refusal {
    /// The call that failed.
    pub error: Error,
    /// What the kernel said about it; often nothing.
    pub said: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.said.as_str() {
            "" => write!(f, "{}", self.error),
            said => write!(f, "{said} ({})", self.error),
        }
    }
}

impl std::error::Error for Refusal {}

/// Makes a file system of type `kind` in a mount that no path leads to yet; it goes with the last descriptor.
///
/// Needs `CAP_SYS_ADMIN` over the mount namespace (`EPERM`). `ENODEV` for a type that the kernel lacks.
pub fn new_mount(
    kind: &str,
    parameters: &[Parameter<'_>],
    attributes: MountAttrFlags,
) -> std::result::Result<OwnedFd, Refusal> {
    let silent = |error| Refusal { error, said: String::new() };
    let open = || rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC);
    let fs = reading("fsopen", open).map_err(silent)?;
    let make = || {
        for parameter in parameters {
            reading("fsconfig", || match parameter {
                Parameter::Flag(name) => rustix::mount::fsconfig_set_flag(fs.as_fd(), *name),
                Parameter::Text(name, value) => rustix::mount::fsconfig_set_string(fs.as_fd(), *name, *value),
            })?;
        }
        reading("fsconfig", || rustix::mount::fsconfig_create(fs.as_fd()))?;
        reading("fsmount", || rustix::mount::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes))
    };
    make().map_err(|error| Refusal { error, said: complaints(fs.as_fd()) })
}

/// What the kernel says about a file system that it did not make.
fn complaints(fs: Fd<'_>) -> String {
    let mut said = Vec::new();
    let mut line = [0; 1024];
    // Ends with ENODATA.
    while let Ok(length) = rustix::io::read(fs, &mut line) {
        let text = String::from_utf8_lossy(line.get(..length).unwrap_or_default());
        said.extend(text.strip_prefix("e ").map(|error| error.trim().to_owned()));
    }
    said.join("; ")
}

/// Mounts what [`new_mount`] made at `path`.
pub fn attach(mount: Fd<'_>, path: &Path) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    reading("move_mount", || rustix::mount::move_mount(mount, c"", CWD, path, flags))
}

/// Tells when the file system at a place has ended: no mount of it is left in any namespace, and nobody uses it.
#[derive(Debug)]
pub struct EndOfMount(OwnedFd);

impl EndOfMount {
    /// Begins to watch the file system whose root is at `path`; it can be unmounted all the same.
    pub fn watch(path: &Path) -> Result<Self> {
        let watch = reading("inotify_init1", || inotify::init(inotify::CreateFlags::CLOEXEC))?;
        let flags = inotify::WatchFlags::DELETE_SELF | inotify::WatchFlags::ONLYDIR;
        reading("inotify_add_watch", || inotify::add_watch(&watch, path, flags))?;
        Ok(Self(watch))
    }

    /// Whether that has happened.
    pub fn has_come(&self) -> Result<bool> {
        let mut watch = [PollFd::new(&self.0, PollFlags::IN)];
        Ok(reading("poll", || rustix::event::poll(&mut watch, Some(&Timespec::default())))? > 0)
    }

    /// Blocks until then.
    pub fn wait(&self) -> Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let mut events = inotify::Reader::new(&self.0, &mut buffer);
        loop {
            let event = reading("read", || {
                loop {
                    match events.next() {
                        Err(super::Errno::INTR) => {}
                        other => return other.map(|event| event.events()),
                    }
                }
            })?;
            if event.intersects(inotify::ReadFlags::UNMOUNT | inotify::ReadFlags::IGNORED) {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{Errno, mkdir, open_root, umount};
    use super::*;

    fn root() -> bool {
        rustix::process::geteuid().is_root()
    }

    #[test]
    fn refusals_say_what_the_kernel_says() {
        let wrong = [Parameter::Text("nonsense", OsStr::new("1"))];
        let refusal = new_mount("tmpfs", &wrong, MountAttrFlags::empty()).unwrap_err();
        if !root() {
            assert!(refusal.error.is(Errno::PERM));
            return;
        }
        assert!(refusal.error.is(Errno::INVAL));
        assert!(refusal.to_string().contains("nonsense"), "{refusal}");
        let missing = new_mount("no-such-file-system", &[], MountAttrFlags::empty()).unwrap_err();
        assert!(missing.error.is(Errno::NODEV) && missing.to_string().starts_with("fsopen"), "{missing}");
    }

    #[test]
    fn a_detached_mount_is_used_and_then_attached() {
        if !root() {
            return;
        }
        let size = [Parameter::Text("size", OsStr::new("1m"))];
        let mount = new_mount("tmpfs", &size, MountAttrFlags::MOUNT_ATTR_NODEV).unwrap();
        mkdir(mount.as_fd(), OsStr::new("d"), 0o700).unwrap();
        let tmp = tempfile::tempdir().unwrap();
        attach(mount.as_fd(), tmp.path()).unwrap();
        assert!(tmp.path().join("d").is_dir());
        let [end, asked] = [(); 2].map(|()| EndOfMount::watch(tmp.path()).unwrap());
        let busy = open_root(tmp.path()).unwrap();
        let place = tmp.path().to_owned();
        umount(&place, true).unwrap();
        let waiter = std::thread::spawn(move || end.wait().unwrap());
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!waiter.is_finished() && !asked.has_come().unwrap());
        drop((busy, mount));
        waiter.join().unwrap();
        assert!(asked.has_come().unwrap());
    }
}
