//! Where the contents of a layer are, for those who ask for them later.

use super::error::{Error, Result};
use crate::archive::Limits;
use crate::image::container::{LayerBlob, Source};
use crate::layer::override_stat::Dialect;
use crate::sys::{self, Access, At, Errno, Fd};
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a layer was read from.
#[derive(Debug)]
pub(super) enum Origin {
    /// A directory.
    Directory(Directory),
    /// A blob of a layout or an archive, which is read again from its beginning.
    Blob(Blob),
}

/// A layer in a container of images.
#[derive(Clone, Debug)]
pub(super) struct Blob {
    pub source: Arc<Source>,
    pub layer: LayerBlob,
    pub limits: Limits,
}

/// A layer directory.
#[derive(Debug)]
pub(super) struct Directory {
    pub root: Root,
    /// The names of the attributes that hold owners, modes and types, where it has such.
    pub dialects: Vec<Dialect>,
    /// Of a writable layer: the index of hard links.
    pub index: Option<Root>,
}

/// A directory that is read by descriptor. The path is for messages.
#[derive(Debug)]
pub(super) struct Root {
    fd: OwnedFd,
    path: PathBuf,
}

impl Root {
    /// Opens what a user named.
    pub fn open(path: &Path) -> Result<Self> {
        let fd = sys::open_root(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// A directory in it.
    pub fn directory(&self, name: &str) -> Result<Self> {
        let fd = sys::open_dir(self.fd(), OsStr::new(name)).map_err(|source| self.failed(name.as_bytes(), source))?;
        Ok(Self { fd, path: self.path.join(name) })
    }

    pub fn fd(&self) -> Fd<'_> {
        self.fd.as_fd()
    }

    /// What the user named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The error for something in it, or, with an empty path, for itself.
    pub fn failed(&self, path: &[u8], source: sys::Error) -> Error {
        Error::Read { path: self.shown(path), source }
    }

    /// The path of something in it.
    pub fn shown(&self, path: &[u8]) -> PathBuf {
        if path.is_empty() { self.path.clone() } else { self.path.join(OsStr::from_bytes(path)) }
    }

    /// A descriptor that only stands for something that was listed.
    pub fn find(&self, path: &[u8]) -> Result<OwnedFd> {
        sys::open_path_rel(self.fd(), OsStr::from_bytes(path)).map_err(|source| match source.errno {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Error::Changed { path: self.shown(path) },
            _ => self.failed(path, source),
        })
    }

    /// Opens a file that was a regular one when it was listed. If it was exchanged since, it is not opened: opening a pipe
    /// waits for a writer, and opening a device can do anything.
    pub fn open_file(&self, path: &[u8]) -> Result<OwnedFd> {
        let failed = |source| self.failed(path, source);
        let file = self.find(path)?;
        if !sys::stat(At::Fd(file.as_fd())).map_err(failed)?.is_file() {
            return Err(Error::Changed { path: self.shown(path) });
        }
        sys::reopen(file.as_fd(), Access::Read).map_err(failed)
    }
}
