//! The store on disk: blobs, unpacked layers, images, references, writable layers.
//!
//! docs/STORE.md says what is where, which locks there are, and what each change leaves after a crash.
//!
//! | question | module |
//! |---|---|
//! | what is where, which format | `layout` |
//! | which lock is which byte | `lock` |
//! | what do records hold | `record` |
//! | how does an image come in; who unpacks, who waits | `incoming`, `source`, `load`, `unpack` |
//! | blobs | `blob` |
//! | images by name, id and digest; tags | `image` |
//! | writable layers, generated names | `writable`, `names` |
//! | who holds layers while they are mounted | `lease` |
//! | what goes with rmi and prune | `garbage` |
//! | sizes | `usage` |
//! | is everything as recorded; repair | `verify`, `verify_layer`, `repair`, `tree` |
//! | what is in a layer, without its directory | `inventory` |
//! | giving up; several threads | `stop`, `parallel` |
//! | temporaries, and what killed processes left | `temp` |
//!
//! All operations may be called from several threads and processes at once. What is reported done is durable.

mod blob;
mod dir;
mod error;
mod garbage;
mod image;
mod incoming;
mod inventory;
mod layout;
mod lease;
mod load;
mod lock;
mod names;
mod parallel;
mod record;
mod repair;
mod source;
mod stop;
mod temp;
mod tree;
mod unpack;
mod usage;
mod verify;
mod verify_layer;
mod writable;

#[cfg(test)]
mod tests;

pub use error::{Error, Result};
pub use garbage::{Prune, Removed};
pub use image::{Image, Tag};
pub use incoming::{Documents, FoundLayer, Incoming, IncomingLayer, MakeDocuments, OpenBlob, Progress, Step};
#[cfg(test)]
pub(crate) use inventory::describe;
pub use inventory::{Blocks, Inventory, RecordedAttributes, RecordedObject};
pub use lease::{Lease, NewWritable, Pin, Reading};
pub use load::Loaded;
pub(crate) use parallel::{Failure, in_parallel};
pub use record::{ImageLayer, ImageRecord, LayerRecord};
pub use repair::Repaired;
pub use stop::Stop;
pub use usage::{ImageUsage, Usage, WritableUsage};
pub use verify::{Fault, Verified};
pub use writable::{MountRecord, Writable, WritableRecord};

use dir::Dir;
use lock::Locks;
use std::path::Path;
use std::sync::Arc;

/// A store that is open.
#[derive(Debug)]
pub struct Store {
    root: Dir,
    /// How many layers are unpacked at once; with 1 all work is done by the calling thread.
    threads: usize,
    stop: Arc<Stop>,
}

impl Store {
    /// Opens the store at `path`; makes one where there is nothing or an empty directory, with its missing parents.
    ///
    /// Deletes what killed processes left, writable layers that were to go with their mounts included. The directory gets mode 0700 if it is open to others.
    /// On a read-only file system it is left as it is, and can be read.
    ///
    /// # Errors
    /// [`Error::NewerFormat`] for the store of a newer program, [`Error::NotAStore`] for a directory with other things.
    pub fn open(path: &Path) -> Result<Self> {
        let store = Self::open_unswept(path)?;
        let locks = store.locks()?;
        if locks.read_only() {
            return Ok(store);
        }
        store.sweep_writable(&locks)?;
        temp::sweep(&store.root, &locks)?;
        Ok(store)
    }

    fn open_unswept(path: &Path) -> Result<Self> {
        let path = std::path::absolute(path);
        let path = path.map_err(|source| Error::Io { doing: "find", path: "the working directory".into(), source })?;
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Ok(Self { root: layout::open(&path)?, threads, stop: Arc::default() })
    }

    /// Where the store is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// By which another thread asks loads to give up.
    #[must_use]
    pub fn stop(&self) -> Arc<Stop> {
        Arc::clone(&self.stop)
    }

    /// A new description of the lock file; see [`Locks`].
    fn locks(&self) -> Result<Locks> {
        Locks::open(&self.root.at("lock"))
    }

    fn blobs(&self) -> Result<Dir> {
        self.root.open("blobs/sha256")
    }

    fn layers(&self) -> Result<Dir> {
        self.root.open("layers/sha256")
    }

    fn images_dir(&self) -> Result<Dir> {
        self.root.open("images/sha256")
    }

    fn refs(&self) -> Result<Dir> {
        self.root.open("refs")
    }

    fn writable_dir(&self) -> Result<Dir> {
        self.root.open("writable")
    }
}
