//! The files of a container, in a directory or in a tar, read at any place.

use super::spool::Packing;
use super::tarindex::{TarIndex, Whole};
use crate::image::digest::Digest;
use crate::image::document::check_size;
use crate::image::error::{Error, Result};
use crate::sys::{self, Access, At, Errno};
use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// The most bytes of documents that are read from one container: an index of 4 MiB could name thousands of others.
/// (Tests need not hash that much.)
const ALL_DOCUMENTS_LIMIT: u64 = if cfg!(test) { 1 << 20 } else { 64 << 20 };

#[derive(Debug)]
pub(super) struct Files {
    name: String,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Directory(OwnedFd),
    Archive { file: Arc<File>, index: TarIndex },
}

/// A layer's bytes. Readers of the same container do not disturb each other.
#[derive(Debug)]
pub struct LayerReader {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl LayerReader {
    /// How many bytes are left.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.end - self.at
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Read for LayerReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.len()).unwrap_or(usize::MAX).min(buf.len());
        if most == 0 {
            return Ok(0);
        }
        let n = self.file.read_at(&mut buf[..most], self.at)?;
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was read"));
        }
        self.at += n as u64;
        Ok(n)
    }
}

impl Files {
    pub fn directory(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let root = sys::open_root(path).map_err(|e| Error::io(&name)(e.into()))?;
        Ok(Self { name, place: Place::Directory(root) })
    }

    /// A tar that is the whole of `file`.
    pub fn archive(file: File, name: &str) -> Result<Self> {
        let index = TarIndex::read(&mut Whole::new(&file, name)?, name)?;
        Ok(Self::indexed(file, index, name))
    }

    /// A tar whose members are where `index` says.
    pub fn indexed(file: File, index: TarIndex, name: &str) -> Self {
        Self { name: name.into(), place: Place::Archive { file: Arc::new(file), index } }
    }

    /// What to call the container in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn fail(&self, why: &str) -> Error {
        Error::container(&self.name, why)
    }

    /// Opens the regular file `name`; none when there is nothing of that name.
    ///
    /// In a directory no symbolic link is followed: a layout from somewhere must not lead to files of this machine.
    pub fn find(&self, name: &str) -> Result<Option<LayerReader>> {
        match &self.place {
            Place::Directory(root) => self.in_directory(root, name),
            Place::Archive { file, index } => {
                let range = index.find(name, &self.name)?;
                Ok(range.map(|r| LayerReader { file: Arc::clone(file), at: r.offset, end: r.offset + r.size }))
            }
        }
    }

    fn in_directory(&self, root: &OwnedFd, name: &str) -> Result<Option<LayerReader>> {
        let what = format!("{}/{name}", self.name);
        let failed = |e: sys::Error| Error::io(&what)(e.into());
        // Looked at before it is opened: opening a FIFO would block.
        let path = match sys::open_path_rel(root.as_fd(), OsStr::new(name)) {
            Ok(path) => path,
            Err(e) if e.is(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let stat = sys::stat(At::Fd(path.as_fd())).map_err(failed)?;
        if stat.is_symlink() {
            return Err(Error::container(what, "it is a symbolic link; links in image layouts are not followed"));
        }
        if !stat.is_file() {
            return Err(Error::container(what, "it is not a regular file"));
        }
        let file = File::from(sys::reopen(path.as_fd(), Access::Read).map_err(failed)?);
        Ok(Some(LayerReader { file: Arc::new(file), at: 0, end: stat.size }))
    }

    /// All of the file `name`, at most `limit` bytes; none when there is nothing of that name.
    pub fn read(&self, name: &str, limit: u64, budget: &Budget) -> Result<Option<Vec<u8>>> {
        let Some(mut reader) = self.find(name)? else { return Ok(None) };
        let what = format!("{name} in {}", self.name);
        check_size(reader.len(), limit, &what)?;
        budget.take(reader.len(), &self.name)?;
        let mut bytes = Vec::with_capacity(usize::try_from(reader.len()).unwrap_or(0));
        reader.read_to_end(&mut bytes).map_err(Error::io(what))?;
        Ok(Some(bytes))
    }
}

/// What is left of the bytes of documents that may be read.
pub(super) struct Budget(Cell<u64>);

impl Budget {
    pub fn new() -> Self {
        Self(Cell::new(ALL_DOCUMENTS_LIMIT))
    }

    fn take(&self, bytes: u64, name: &str) -> Result<()> {
        let left = self.0.get().checked_sub(bytes).ok_or_else(|| {
            Error::container(name, format!("its documents have more than {ALL_DOCUMENTS_LIMIT} bytes together"))
        })?;
        self.0.set(left);
        Ok(())
    }
}

/// Where a blob lies in a layout.
pub(in crate::image) fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// How a file that is read at any place is compressed.
pub(super) fn packing_of(file: &File, name: &str) -> Result<Packing> {
    let end = file.metadata().map_err(Error::io(name))?.len();
    let mut start = [0; 6];
    let have = usize::try_from(end.min(6)).unwrap_or(6);
    file.read_exact_at(&mut start[..have], 0).map_err(Error::io(name))?;
    Packing::of(&start[..have]).map_err(|why| Error::container(name, why))
}
