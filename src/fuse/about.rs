//! What a mount tells about itself: attributes of its root, and one of every object, that are answered but not listed.
//!
//! Reading one is a `getxattr(2)` like any other, so whoever may not use the mount, or not read its root, learns nothing.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::adapter::Adapter;
use crate::overlay::{ROOT, State};
use crate::sys::{self, At, Errno};

/// Process id of the daemon, in decimal.
pub const PID: &CStr = c"user.laminafs.pid";

/// [`Stats`] at this moment, as JSON.
pub const STATS: &CStr = c"user.laminafs.stats";

/// The options that stay as long as the mount, as an option string.
pub const OPTIONS: &CStr = c"user.laminafs.options";

/// Of every object: the number of the layer that provides it, in decimal ([`crate::overlay::Overlay::layer_number`]).
pub const LAYER: &CStr = c"user.laminafs.layer";

/// Counters of a running mount. Programs that read them ignore fields they do not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Objects, the root aside, that the kernel knows or that hold the name of one it knows.
    pub known_inodes: u64,
    /// Names in the indexes of directories, hidden ones included.
    pub indexed_entries: u64,
    /// Descriptors of directories and files that are kept open for the next time.
    pub cached_descriptors: u64,
    /// Descriptors of objects that were deleted and are still in use; some are kept open for the next time too.
    pub pinned_descriptors: u64,
    /// Requests of the kernel since the mount began, by the names of the FUSE protocol.
    pub requests: BTreeMap<String, u64>,
    /// What is there of the kernel and below, and what of it is used.
    #[serde(default)]
    pub features: Features,
}

/// Each feature by its name, and what became of it: the words of [`State`], and for `data`, `markers` and `whiteouts` which
/// way or form is used. Empty where the daemon is of a version that does not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Features {
    /// Of the kernel: capabilities of INIT, by their names in `linux/fuse.h` (lower case, without `FUSE_` in front).
    pub fuse: BTreeMap<String, String>,
    /// Of the layers' file systems.
    pub layers: BTreeMap<String, String>,
}

impl Features {
    fn of(adapter: &Adapter) -> Self {
        let words = |features: BTreeMap<&str, &str>| {
            features.into_iter().map(|(name, word)| (name.to_owned(), word.to_owned())).collect()
        };
        let capabilities = adapter.capabilities.states();
        let mut fuse: BTreeMap<_, _> = capabilities.iter().map(|(name, state)| (name.as_str(), state.word())).collect();
        fuse.insert("data", if adapter.files.is_some() { "passthrough" } else { "cache" });
        // The kernel can refuse each file, although it was agreed on.
        let registered = adapter.files.as_ref().map(|files| files.registered.state());
        if let Some(state) = registered.filter(|state| *state != State::Untried) {
            fuse.insert("passthrough", state.word());
        }
        Self { fuse: words(fuse), layers: words(adapter.overlay.features()) }
    }
}

impl Stats {
    fn of(adapter: &Adapter) -> Self {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let usage = adapter.overlay.usage();
        Self {
            known_inodes: count(usage.inodes),
            indexed_entries: count(usage.index_entries),
            cached_descriptors: count(usage.cached_descriptors),
            pinned_descriptors: count(usage.pinned_descriptors),
            requests: adapter.requests.by_name(),
            features: Features::of(adapter),
        }
    }
}

/// Whether a name is one of these attributes, of the root also one like them that another version may have. They cannot be
/// set.
pub fn is_about(ino: u64, name: &[u8]) -> bool {
    name == LAYER.to_bytes() || ino == ROOT && name.starts_with(b"user.laminafs.")
}

/// The value of such an attribute, if there is one of this name.
pub(super) fn value(ino: u64, name: &[u8], adapter: &Adapter) -> Option<Vec<u8>> {
    if !is_about(ino, name) {
        None
    } else if name == LAYER.to_bytes() {
        adapter.overlay.layer_number(ino).ok().map(|number| number.to_string().into_bytes())
    } else if name == PID.to_bytes() {
        Some(std::process::id().to_string().into_bytes())
    } else if name == STATS.to_bytes() {
        serde_json::to_vec(&Stats::of(adapter)).ok()
    } else if name == OPTIONS.to_bytes() {
        Some(adapter.description.clone()).filter(|text| !text.is_empty())
    } else {
        None
    }
}

/// The counters of the laminafs mount at `path`; `None` when nothing of ours is mounted there.
///
/// `ENOTCONN` when its daemon has died.
pub fn stats(path: &Path) -> io::Result<Option<Stats>> {
    let parse = |value: Vec<u8>| serde_json::from_slice(&value).map_err(io::Error::other);
    read(path, STATS)?.map(parse).transpose()
}

/// The option string of the laminafs mount at `path`; `None` when nothing of ours, or nothing that tells, is mounted there.
///
/// `ENOTCONN` when its daemon has died.
pub fn options(path: &Path) -> io::Result<Option<Vec<u8>>> {
    read(path, OPTIONS)
}

/// One of these attributes of what is mounted at `path`; `None` when nothing of ours is.
pub(super) fn read(path: &Path, name: &CStr) -> io::Result<Option<Vec<u8>>> {
    let root = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(path)?;
    match sys::xattr::get(At::Fd(root.as_fd()), name) {
        Err(e) if e.is(Errno::OPNOTSUPP) => Ok(None),
        value => Ok(value?),
    }
}
