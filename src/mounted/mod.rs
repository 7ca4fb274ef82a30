//! A mount that lives as long as a value: for integration tests that need a root file system to spoil.
//!
//! The mount is served by threads of the calling process. Nothing is forked, so that it can be used where other threads
//! run, as in tests; no limit, signal handler, mask or directory of the process changes. What is written goes into a
//! directory that is removed with the value.

#[cfg(test)]
mod tests;

use crate::fuse::{self, MountError, Session, Unmounter};
use crate::overlay::{self, OpenError, Overlay, make_upper};
use crate::store::{self, Pin, Store};
use crate::sys;
use crate::sys::process::{nofile_limit, own_empty_umask};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use tempfile::TempDir;

/// Why there is no mount, as a sentence for the user.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The image cannot be had.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The layers cannot be stacked.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The union cannot be mounted.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// Something else failed.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What it failed with.
        source: io::Error,
    },
}

/// A stack of layers under an upper directory of its own, mounted until this is dropped, also by a panic.
///
/// ```no_run
/// # fn main() -> Result<(), laminafs::mounted::Error> {
/// let root = laminafs::mounted::Mounted::directories(["/srv/layers/app", "/srv/layers/base"])?;
/// std::fs::remove_file(root.path().join("etc/hostname")).expect("a file of the layers");
/// assert!(root.upper().join("etc").is_dir());
/// # Ok(()) }
/// ```
///
/// Not unmounted when the process aborts or is killed: `fusermount3 -u` takes such a mount away.
#[derive(Debug)]
pub struct Mounted {
    serving: Option<Serving>,
    mountpoint: PathBuf,
    upper: PathBuf,
    // Removed after the mount is gone.
    _place: TempDir,
}

/// The threads that answer, and how to end them.
struct Serving {
    unmounter: Unmounter,
    thread: JoinHandle<io::Result<()>>,
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serving").finish_non_exhaustive()
    }
}

impl Mounted {
    /// Mounts directories, the topmost first. They are not changed.
    pub fn directories<P: Into<PathBuf>>(lower: impl IntoIterator<Item = P>) -> Result<Self, Error> {
        let lower = lower.into_iter().map(Into::into).collect();
        Self::mount(overlay::Options { lower, ..overlay::Options::default() }, None)
    }

    /// Mounts an image of a store: a name, an id or the beginning of one, as for [`Store::find`].
    ///
    /// The image cannot be removed meanwhile.
    pub fn image(store: &Store, image: &str) -> Result<Self, Error> {
        let pin = store.pin(&store.find(image)?.record.id, None)?;
        let (lower, override_stat) = (pin.lower().to_vec(), pin.override_stat());
        Self::mount(overlay::Options { lower, override_stat, ..overlay::Options::default() }, Some(pin))
    }

    fn mount(layers: overlay::Options, pin: Option<Pin>) -> Result<Self, Error> {
        let (place, overlay) = match open(&layers, &std::env::temp_dir()) {
            // In a container the temporary directory is often on an overlay, which cannot hold an upper directory.
            Err(Error::Open(OpenError::Unsuitable { .. })) => open(&layers, Path::new("/dev/shm"))?,
            other => other?,
        };
        let mountpoint = place.path().join("root");
        let options = fuse::Options { mountpoint: mountpoint.clone(), ..fuse::Options::default() };
        let session = Session::mount(overlay, &options)?;
        let unmounter = session.unmounter();
        let serve = move || {
            // Held as long as the mount lives, which can be longer than the value.
            let _pin = pin;
            // New files get the mode that was asked for, whatever the mask of the process.
            own_empty_umask()?;
            session.run()
        };
        let thread = std::thread::Builder::new().name("laminafs".to_owned()).spawn(serve);
        let thread = thread.map_err(|source| Error::Io { doing: "start a thread", source })?;
        let serving = Some(Serving { unmounter, thread });
        Ok(Self { serving, mountpoint, upper: place.path().join("upper"), _place: place })
    }

    /// The root of the merged tree.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mountpoint
    }

    /// The upper directory: what was changed so far, in the form of kernel overlayfs.
    #[must_use]
    pub fn upper(&self) -> &Path {
        &self.upper
    }

    /// Unmounts now. `EBUSY` when the mount is in use; it is then taken out of the tree, and ends with its last user.
    pub fn unmount(mut self) -> Result<(), Error> {
        self.end().map_err(|source| Error::Io { doing: "unmount", source })
    }

    fn end(&mut self) -> io::Result<()> {
        let Some(Serving { unmounter, thread }) = self.serving.take() else { return Ok(()) };
        if let Err(error) = unmounter.unmount() {
            // Somebody has a file open, perhaps the caller: waiting for him would be for ever.
            unmounter.detach()?;
            return Err(error);
        }
        thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread that served the mount broke down")))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(e) = self.end() {
            log::warn!("{} was not unmounted cleanly: {e}", self.mountpoint.display());
        }
    }
}

/// Makes a place in `parent` and opens the layers with an upper directory in it.
fn open(layers: &overlay::Options, parent: &Path) -> Result<(TempDir, Overlay), Error> {
    let io = |doing| move |source| Error::Io { doing, source };
    let made = tempfile::Builder::new().prefix("laminafs-").tempdir_in(parent);
    let place = made.map_err(io("make a temporary directory"))?;
    let [upper, work, mountpoint] = ["upper", "work", "root"].map(|name| place.path().join(name));
    std::fs::create_dir(&mountpoint).map_err(io("make a directory in the temporary directory"))?;
    if let Some(top) = layers.lower.first() {
        let made = sys::open_root(place.path()).and_then(|place| make_upper(place.as_fd(), top));
        made.map_err(|e| io("make an upper directory")(e.into()))?;
    }
    let options = overlay::Options {
        upper: Some(upper),
        work: Some(work),
        // Nobody needs it after a crash.
        volatile: true,
        fd_limit: nofile_limit(),
        mountpoint: Some(mountpoint),
        ..layers.clone()
    };
    Ok((place, Overlay::open(&options)?))
}
