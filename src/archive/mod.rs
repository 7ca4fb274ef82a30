//! A layer as a tar stream, and the same layer as a directory.
//!
//! Unpacking has two steps, because layers are unpacked side by side and some of what a layer says is about those below:
//!
//! 1. [`unpack`] reads the blob once: decompresses it, hashes both forms, and writes the entries into an empty directory.
//!    What depends on other layers, or must be done after all entries, is left in a [`Pending`] list.
//! 2. [`complete`] works that list off, given the finished layers below: hard links, whiteouts, opaque directories, the
//!    attributes of directories that the tar names only implicitly, and the times of directories.
//!
//! After the second step the directory is a layer in the form that kernel overlayfs and [`crate::layer`] read.
//!
//! | question | module |
//! |---|---|
//! | Which compression, where does the stream end? | `compression` |
//! | Who hashes, who inflates, what lies between? | `stream` |
//! | How is an entry read: headers, PAX, sparse maps? | `entry`, `header`, `pax`, `sparse` |
//! | Which names are allowed? | `names` |
//! | Where does an entry go, through which directories? | `tree` |
//! | How is an object made and given its attributes? | `apply`, `attributes`, `form` |
//! | What is left for the end? | `pending`, `complete`, `below` |
//! | What would be unpacked, without doing it? | `list` |
//! | How is a layer tar written, and compressed? | `write`, `compress` |

mod api;
mod apply;
mod attributes;
mod below;
mod complete;
mod compress;
mod compression;
mod entry;
mod error;
mod form;
mod header;
mod list;
mod names;
mod pax;
mod pending;
mod sparse;
mod stream;
#[cfg(test)]
mod tests;
mod tree;
mod write;

pub use api::{Compression, Counts, Digests, Expected, Limits, Options, Unpacked, complete, digests, unpack};
pub(crate) use complete::MAX_CHAIN;
pub use compress::Compressor;
pub use entry::{Entry, Meta, What};
pub(crate) use error::shown;
pub use error::{Error, Result};
pub use form::{Form, OVERRIDE_STAT, Owners};
pub use list::{Data, Each, entries};
pub use names::Kind;
pub(crate) use names::{join, parts, split};
pub use pending::Pending;
pub(crate) use tree::MAX_LINKS;
pub use write::Writer;
