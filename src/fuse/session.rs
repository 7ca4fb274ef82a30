//! A mount and the threads that answer for it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use fuser::{Config, SessionACL};

use super::adapter::Adapter;
use super::capabilities::Mask;
use super::ids::Ids;
use super::mount::{Mount, handed_down};
use super::read_ahead;
use crate::overlay::Overlay;
use crate::sys;

/// The way that the data of files takes (`-o data=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Data {
    /// What suits most mounts: [`Data::Cache`].
    #[default]
    Auto,
    /// Through the page cache of the mount; files are opened and closed without a request.
    Cache,
    /// The kernel reads and writes the files of upper, and without an upper directory those of the lower layers, itself.
    /// Each open is a request. Needs `CAP_SYS_ADMIN` in the initial user namespace and Linux 6.9.
    Passthrough,
}

/// How to mount.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where. `/dev/fd/N` for a file system that the caller has mounted, and serves through descriptor N ([`handed_down`]): the
    /// switches of the mount are the caller's then, and so is unmounting.
    pub mountpoint: PathBuf,
    /// Source shown in /proc/mounts.
    pub fsname: String,
    /// The part of the type behind `fuse.`; empty for plain `fuse`.
    pub subtype: String,
    /// Users other than the mounting one may use the mount.
    pub allow_other: bool,
    /// The kernel checks permissions.
    pub default_permissions: bool,
    /// Set-id bits count.
    pub suid: bool,
    /// Device nodes work.
    pub dev: bool,
    /// Programs can be run.
    pub exec: bool,
    /// Nothing can be changed.
    pub read_only: bool,
    /// No access times (`noatime`); the union does not change them anyway.
    pub no_atime: bool,
    /// Access times of every access (`strictatime`), as far as the mount is concerned. See [`Session::ignored`].
    pub strict_atime: bool,
    /// No access times of directories (`nodiratime`). See [`Session::ignored`].
    pub no_dir_atime: bool,
    /// Symbolic links are not followed (`nosymfollow`). See [`Session::ignored`].
    pub no_symfollow: bool,
    /// Changes of directories are synchronous (`dirsync`).
    pub dir_sync: bool,
    /// All writes are synchronous (`sync`).
    pub sync: bool,
    /// The kernel collects writes and hands them over later. Small writes are several times faster then, but a full
    /// disk or a copy-up that fails shows only at fsync or close, not at the write.
    pub writeback: bool,
    /// How data is read and written; [`Data::Passthrough`] and `writeback` exclude each other.
    pub data: Data,
    /// Owners that are shown in place of those in the layers.
    pub ids: Ids,
    /// Capabilities of the kernel that are not used; for tests.
    pub mask: Mask,
    /// What the root tells in `user.laminafs.options`; nothing when it is empty.
    pub description: Vec<u8>,
    /// Number of threads; at least two are used.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        let root = rustix::process::geteuid().is_root();
        Self {
            mountpoint: PathBuf::new(),
            fsname: "laminafs".into(),
            subtype: "laminafs".into(),
            allow_other: root,
            default_permissions: true,
            suid: root,
            dev: false,
            exec: true,
            read_only: false,
            no_atime: false,
            strict_atime: false,
            no_dir_atime: false,
            no_symfollow: false,
            dir_sync: false,
            sync: false,
            writeback: false,
            data: Data::Auto,
            ids: Ids::default(),
            mask: Mask::default(),
            description: Vec::new(),
            threads: std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8)),
        }
    }
}

/// Why a mount failed, as a sentence for the user.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The place to mount on cannot be used.
    #[error("mount point {path}: {source}", path = path.display())]
    MountPoint {
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// `/dev/fuse` does not exist.
    #[error("/dev/fuse does not exist; load the module (modprobe fuse), or give the container the device")]
    NoDevice,
    /// `/dev/fuse` may not be opened.
    #[error("no permission to open /dev/fuse; it should have mode 0666, or run as root")]
    DevicePermission,
    /// [`Data::Passthrough`] was asked for, and the kernel lacks it or grants it to others only.
    #[error(
        "data=passthrough needs root in the initial user namespace (CAP_SYS_ADMIN), and Linux 6.9 or later with \
         CONFIG_FUSE_PASSTHROUGH; mount with data=auto"
    )]
    NoPassthrough,
    /// [`Data::Passthrough`] was asked for, and writes from a cache as well.
    #[error("data=passthrough and writeback=1 exclude each other in the kernel; leave one of them out")]
    PassthroughAndWriteback,
    /// Anything else.
    #[error("mounting on {path}: {source}", path = path.display())]
    Mount {
        /// The mount point.
        path: PathBuf,
        /// What the kernel or fusermount3 said.
        source: io::Error,
    },
}

/// A mounted union that answers requests once [`Session::run`] is called. Dropped before, it is unmounted.
pub struct Session {
    /// None once it runs.
    session: Option<fuser::Session<Adapter>>,
    mount: Arc<Mount>,
}

/// Unmounts a session from another thread.
#[derive(Clone)]
pub struct Unmounter(Arc<Mount>);

impl Unmounter {
    /// Unmounts unless that happened already. Fails with `EBUSY` while files are in use.
    pub fn unmount(&self) -> io::Result<()> {
        self.0.unmount(false)
    }

    /// Takes the mount out of the tree, also while files are in use; it ends with its last user.
    pub fn detach(&self) -> io::Result<()> {
        self.0.unmount(true)
    }
}

impl Session {
    /// Mounts `overlay`. When this returns, the kernel was answered and the mount can be used as soon as
    /// [`Session::run`] runs; requests wait until then.
    pub fn mount(overlay: Overlay, options: &Options) -> Result<Self, MountError> {
        let mounted_by_caller = handed_down(&options.mountpoint).is_some();
        if !mounted_by_caller {
            check_mountpoint(&options.mountpoint)?;
        }
        let passthrough = options.data == Data::Passthrough;
        if passthrough && options.writeback {
            return Err(MountError::PassthroughAndWriteback);
        }
        let notifier = Arc::new(OnceLock::new());
        let read_only = options.read_only || overlay.read_only();
        let adapter = Adapter::new(Arc::new(overlay), notifier.clone(), options);
        let mut config = Config::default();
        config.n_threads = Some(options.threads.max(2));
        // Each clone opens the device again: who is handed an open one may have none to open, which shows only when it serves.
        config.clone_fd = !mounted_by_caller;
        let acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
        let (device, mount) = Mount::new(options, read_only)?;
        // From here on unmounted when it is dropped.
        let mut this = Self { session: None, mount: Arc::new(mount) };
        let failed = |source| MountError::Mount { path: options.mountpoint.clone(), source };
        let probe = if passthrough { Some(device.try_clone().map_err(failed)?) } else { None };
        let session = fuser::Session::from_fd(adapter, device, acl, config).map_err(|source| match source.kind() {
            io::ErrorKind::Unsupported if passthrough => MountError::NoPassthrough,
            _ => failed(source),
        })?;
        // After INIT, which sets it too.
        if let Some(Err(e)) = this.mount.device().map(read_ahead::widen) {
            log::debug!("read-ahead stays as it is: {e}");
        }
        if let Some(device) = probe
            && !may_register(&device)
        {
            return Err(MountError::NoPassthrough);
        }
        if notifier.set(session.notifier()).is_err() {
            log::debug!("notifier was set before");
        }
        this.session = Some(session);
        Ok(this)
    }

    /// Options that were asked for and have no effect, as mount(8) names them: without the right to mount the mount is made
    /// through fusermount3, which does not know all of them. Who relies on one has to look.
    #[must_use]
    pub fn ignored(&self) -> &[&'static str] {
        self.mount.ignored()
    }

    /// Answers requests until the file system is unmounted.
    pub fn run(mut self) -> io::Result<()> {
        let Some(session) = self.session.take() else { return Ok(()) };
        session.run()?;
        self.mount.ended();
        Ok(())
    }

    /// A handle that unmounts from another thread.
    #[must_use]
    pub fn unmounter(&self) -> Unmounter {
        Unmounter(Arc::clone(&self.mount))
    }
}

/// Whether this process may register files with the kernel: `EPERM` comes before what is wrong with the descriptor, which
/// is no regular file here.
fn may_register(device: &OwnedFd) -> bool {
    fuser::BackingId::create_raw(device, device).is_err_and(|e| e.raw_os_error() != Some(libc::EPERM))
}

impl Drop for Session {
    fn drop(&mut self) {
        // Closes the device first: whoever waits for an answer would keep the mount busy.
        drop(self.session.take());
        if let Err(e) = self.mount.unmount(true) {
            log::error!("cannot unmount: {e}");
        }
    }
}

/// Whether something can be mounted at `path`: it must be a directory.
pub fn check_mountpoint(path: &Path) -> Result<(), MountError> {
    let bad = |source| MountError::MountPoint { path: path.into(), source };
    let meta = std::fs::metadata(path).map_err(bad)?;
    // Attributes can come from the kernel's memory although the daemon of a mount there has died (seen on Linux 6.1).
    match rustix::fs::statvfs(path) {
        Err(e) if e == sys::Errno::NOTCONN => Err(bad(e.into())),
        _ if !meta.is_dir() => Err(bad(sys::Errno::NOTDIR.into())),
        _ => Ok(()),
    }
}
