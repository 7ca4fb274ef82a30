//! Digests of contents and of extended attributes, and the contents themselves.

use super::entry::Kind;
use super::error::{Error, Result};
use super::layer::{EntryId, Layer};
use super::origin::{Directory, Origin, Root};
use crate::archive::{self, Data};
use crate::image::digest::{Digest, Hashing};
use crate::layer::{override_stat, xattr};
use crate::sys::{self, At};
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// Files with more bytes of holes get no digest: hashing the zeros of a few bytes of archive could take hours.
const HOLES: u64 = 1 << 30;
const PIECE: usize = 256 << 10;

/// The content of a file while it is being hashed.
#[derive(Default)]
pub(super) struct Content(Option<Hashing>);

impl Content {
    /// Hashes the data of an entry of an archive.
    pub fn of_entry(size: u64, data: &mut Data<'_, '_>) -> archive::Result<Self> {
        if data.holes() > HOLES {
            return Ok(Self(None));
        }
        let mut hashing = Hashing::new();
        data.pieces(&mut |offset, piece| {
            zeros(&mut hashing, offset);
            hashing.update(piece);
            Ok(())
        })?;
        zeros(&mut hashing, size);
        Ok(Self(Some(hashing)))
    }

    /// The sha256 of the whole content.
    pub fn digest(self) -> Option<Digest> {
        self.0.map(Hashing::finish)
    }
}

/// Hashes zeros until `to` bytes were hashed.
fn zeros(hashing: &mut Hashing, to: u64) {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    while hashing.count() < to {
        let len = usize::try_from(to - hashing.count()).unwrap_or(usize::MAX).min(ZEROS.len());
        hashing.update(&ZEROS[..len]);
    }
}

/// A digest of extended attributes as users see them, in whatever order they come; `None` when there are none.
pub(super) fn xattrs_digest<'a>(all: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Option<Digest> {
    let mut all: Vec<_> = all.filter(|(name, _)| *name != b"security.selinux").collect();
    if all.is_empty() {
        return None;
    }
    all.sort_unstable();
    let mut hashing = Hashing::new();
    for (name, value) in all {
        for part in [name, value] {
            hashing.update(&(part.len() as u64).to_le_bytes());
            hashing.update(part);
        }
    }
    Some(hashing.finish())
}

impl Layer {
    /// The sha256 of a regular file's content; `None` for anything else, for a file without data of its own, and for one
    /// that is mostly holes. Of a layer directory the file is read now.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn content(&self, id: EntryId) -> Result<Option<Digest>> {
        let entry = self.entry(id);
        let Origin::Directory(_) = &self.origin else { return Ok(self.digest(entry.content)) };
        if entry.kind != Kind::File || entry.metacopy {
            return Ok(None);
        }
        if entry.size == 0 {
            return Ok(Some(Digest::of(&[])));
        }
        let Some(file) = self.open(id)? else { return Ok(None) };
        hash(&file).map_err(|source| self.failed(id, source))
    }

    /// Opens a regular file of a layer directory.
    pub(super) fn open(&self, id: EntryId) -> Result<Option<OwnedFd>> {
        let Origin::Directory(directory) = &self.origin else { return Ok(None) };
        self.root_of(directory, id).open_file(&self.path(id)).map(Some)
    }

    /// A digest of the extended attributes as users see them, SELinux labels aside; `None` when there are none. Of a layer
    /// directory they are read now.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn xattrs(&self, id: EntryId) -> Result<Option<Digest>> {
        let directory = match &self.origin {
            Origin::Blob(_) => return Ok(self.digest(self.entry(id).xattrs)),
            Origin::Directory(directory) => directory,
        };
        let (root, path, aside) = (self.root_of(directory, id), self.path(id), !directory.dialects.is_empty());
        let fd = root.find(&path)?;
        read_xattrs(At::Fd(fd.as_fd()), aside).map_err(|source| root.failed(&path, source))
    }

    /// The error of reading the content of an entry.
    pub(super) fn failed(&self, id: EntryId, source: sys::Error) -> Error {
        let path = self.path(id);
        match &self.origin {
            Origin::Directory(directory) => self.root_of(directory, id).failed(&path, source),
            Origin::Blob(_) => Error::Read { path: OsStr::from_bytes(&path).into(), source },
        }
    }

    /// The directory in which [`Layer::path`] leads to an entry.
    fn root_of<'a>(&self, directory: &'a Directory, id: EntryId) -> &'a Root {
        directory.index.as_ref().filter(|_| !self.is_named(id)).unwrap_or(&directory.root)
    }
}

/// The sha256 of a file as long as it is now; `None` if it is mostly holes.
pub(super) fn hash(file: &OwnedFd) -> sys::Result<Option<Digest>> {
    let stat = sys::stat(At::Fd(file.as_fd()))?;
    if stat.size.saturating_sub(stat.blocks * 512) > HOLES {
        return Ok(None);
    }
    // Most files are small, and a large buffer is new memory each time.
    let len = usize::try_from(stat.size).unwrap_or(PIECE).clamp(1, PIECE);
    let (mut hashing, mut buffer) = (Hashing::new(), vec![0; len]);
    while hashing.count() < stat.size {
        match sys::pread(file.as_fd(), &mut buffer, hashing.count())? {
            0 => break,
            n => hashing.update(&buffer[..n]),
        }
    }
    Ok(Some(hashing.finish()))
}

fn read_xattrs(at: At<'_>, aside: bool) -> sys::Result<Option<Digest>> {
    let mut all: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for stored in sys::xattr::list(at)?.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let name = match xattr::show(stored) {
            xattr::Shown::Hidden => continue,
            xattr::Shown::AsIs if aside && override_stat::is_own(stored) => match override_stat::shown(stored) {
                Some(name) => name.to_vec(),
                None => continue,
            },
            xattr::Shown::AsIs => stored.to_vec(),
            xattr::Shown::Unescaped(name) => name,
        };
        let Ok(stored) = CString::new(stored) else { continue };
        if let Some(value) = sys::xattr::get(at, &stored)? {
            all.push((name, value));
        }
    }
    Ok(xattrs_digest(all.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))))
}
