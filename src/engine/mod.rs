//! Layers in the storage of container engines, used where they are: nothing is copied, nothing there is changed.
//!
//! The engine does not know that its layers are in use. It can remove them; a mount that is open keeps what it has open.
//! Everything read there is untrusted: an id becomes a path only after it was checked, no symbolic link is followed
//! below the storage, and files and chains have limits.

mod conf;
mod containers;
mod docker;
mod read;
#[cfg(test)]
mod tests;

use crate::image::format::layer_count;
use crate::image::{Config, Document};
use std::path::PathBuf;

pub use conf::{StorageConf, StorageOptions, docker_data_root, storage_conf};
pub use containers::containers_storage;
pub use docker::docker_store;

/// The layers of an image or a container in an engine's storage.
#[derive(Clone, Debug)]
pub struct Found {
    /// The id of the image or container.
    pub id: String,
    /// The configuration of the image, or of that which the container was made of; `None` where the engine has none for it.
    pub config: Option<Document<Config>>,
    /// Its layer directories, topmost first.
    pub lower: Vec<PathBuf>,
    /// The work directory of the topmost, if that is what a container changed. Mounts that keep hard links together have an
    /// index there.
    pub work: Option<PathBuf>,
    /// Deleted names are `.wh.` files, as FUSE programs of engines leave them; kernel overlayfs does not know them.
    pub oci_whiteouts: bool,
    /// Owners and devices are in `user.containers.override_stat`.
    pub override_stat: bool,
}

/// Why an image of an engine cannot be used. The message is a sentence for the user.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory is not the storage of this engine.
    #[error("{path} is not {what}: it has no {missing}; give the right directory with --storage-root", path = path.display())]
    NoStorage {
        /// The directory.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// What is missing.
        missing: &'static str,
    },
    /// The directory is not there.
    #[error("there is no {path}, where the engine would keep its images; give the right directory with --storage-root", path = path.display())]
    NoDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// Nothing of that name.
    #[error("no image or container {name:?} in {path}; another storage is named with --storage-root", path = path.display())]
    NotFound {
        /// As given.
        name: String,
        /// The storage.
        path: PathBuf,
    },
    /// The name or beginning of an id means several things.
    #[error("{name:?} can be any of {}; give more of it", candidates.join(", "))]
    Ambiguous {
        /// As given.
        name: String,
        /// What it can mean, shown without control characters.
        candidates: Vec<String>,
    },
    /// The image has fewer layers.
    #[error("{name:?} has {}, not {wanted}", layer_count(*has))]
    FewerLayers {
        /// As given.
        name: String,
        /// How many there are.
        has: usize,
        /// How many were asked for.
        wanted: usize,
    },
    /// A file does not hold what it should.
    #[error("{path}: {why}", path = path.display())]
    Damaged {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A system call failed.
    #[error("cannot {doing} {path}: {source}{hint}", path = path.display(), hint = hint(source))]
    Io {
        /// What was done, as a verb.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What it failed with.
        source: std::io::Error,
    },
}

/// The result of looking into an engine's storage.
pub type Result<T> = std::result::Result<T, Error>;

fn hint(source: &std::io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => {
            "; run this as the user to whom the storage belongs (for rootless podman: podman unshare laminafs ...)"
        }
        _ => "",
    }
}

/// Keeps the lowest `wanted` of the layers, which are topmost first.
fn lowest(mut lower: Vec<PathBuf>, wanted: Option<usize>, name: &str) -> Result<Vec<PathBuf>> {
    let (has, wanted) = (lower.len(), wanted.unwrap_or(lower.len()));
    let above = has.checked_sub(wanted).ok_or_else(|| Error::FewerLayers { name: name.to_owned(), has, wanted })?;
    drop(lower.drain(..above));
    Ok(lower)
}

/// The only one of `found` that was meant by `name`; none is for the caller to report.
fn only<T>(name: &str, mut found: Vec<T>, show: impl Fn(&T) -> String) -> Result<Option<T>> {
    if found.len() > 1 {
        let candidates = found.iter().map(|one| show(one).escape_debug().to_string()).collect();
        return Err(Error::Ambiguous { name: name.to_owned(), candidates });
    }
    Ok(found.pop())
}

/// Whether `name` can be the beginning of an id.
fn is_id_prefix(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
