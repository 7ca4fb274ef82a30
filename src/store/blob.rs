//! Blobs: bytes by digest.

use super::dir::{Dir, write_all};
use super::error::{Error, Result, io};
use super::record;
use super::temp::Temp;
use super::{ImageRecord, LayerRecord, Store};
use crate::image::digest::{ChainId, Digest, Hashing};
use crate::sys::{self, Access, Errno};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

impl Store {
    /// Opens a blob for reading. Stays readable when the blob is removed meanwhile.
    ///
    /// # Errors
    /// [`Error::NoBlob`] when it is not there.
    pub fn blob(&self, digest: &Digest) -> Result<File> {
        let blobs = self.blobs()?;
        match sys::open_file(blobs.fd(), OsStr::new(&digest.hex()), Access::Read) {
            Ok(fd) => Ok(File::from(fd)),
            Err(e) if e.is(Errno::NOENT) => Err(Error::NoBlob(*digest)),
            Err(e) => Err(io("open", &blobs.at(digest.hex()))(e)),
        }
    }

    /// The length of a blob in bytes; `None` when it is not there.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        Ok(self.blobs()?.stat(digest.hex())?.map(|stat| stat.size))
    }

    /// The bytes of a manifest or configuration, at most 4 MiB, verified.
    ///
    /// # Errors
    /// [`Error::NoBlob`]; [`Error::Damaged`] when the bytes have another digest.
    pub fn document(&self, digest: &Digest) -> Result<Vec<u8>> {
        let blobs = self.blobs()?;
        let bytes = blobs.read(digest.hex())?.ok_or(Error::NoBlob(*digest))?;
        if Digest::of(&bytes) != *digest {
            return Err(Error::damaged(blobs.at(digest.hex()), "its digest is another one"));
        }
        Ok(bytes)
    }

    /// The manifest of an image, as it came.
    pub fn manifest(&self, image: &ImageRecord) -> Result<Vec<u8>> {
        self.document(&image.manifest)
    }

    /// The configuration of an image, as it came.
    pub fn config(&self, image: &ImageRecord) -> Result<Vec<u8>> {
        self.document(&image.id)
    }

    /// Stores what `data` gives as one blob and returns its digest and length. Atomic for readers; idempotent.
    ///
    /// Nothing refers to it, so the next `prune` removes it unless an image with it is loaded first.
    ///
    /// # Errors
    /// [`Error::Mismatch`] when it is not `expected`; then nothing is stored.
    pub fn put_blob(&self, data: &mut dyn Read, expected: Option<Digest>) -> Result<(Digest, u64)> {
        let locks = self.locks()?;
        let temp = Temp::new(&self.root, &locks)?;
        let mut file = BlobFile::create(&temp.dir, "blob")?;
        let mut hash = Hashing::new();
        let mut buffer = vec![0; 128 << 10];
        loop {
            let read = data.read(&mut buffer);
            let n = match read {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                other => other.map_err(|source| Error::Io { doing: "read", path: "the blob".into(), source })?,
            };
            let Some(bytes) = buffer.get(..n).filter(|b| !b.is_empty()) else { break };
            hash.update(bytes);
            file.append(bytes)?;
        }
        let (size, digest) = (hash.count(), hash.finish());
        if let Some(expected) = expected.filter(|e| *e != digest) {
            let (expected, found) = (expected.to_string(), digest.to_string());
            return Err(Error::Mismatch { what: "blob".into(), property: "digest", expected, found });
        }
        file.sync()?;
        let blobs = self.blobs()?;
        temp.dir.rename_new("blob", &blobs, digest.hex())?;
        blobs.sync()?;
        Ok((digest, size))
    }

    /// What is recorded of an unpacked layer; `None` when it is not there.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the record cannot be read.
    pub fn layer(&self, chain: &ChainId) -> Result<Option<LayerRecord>> {
        let Some(dir) = self.layers()?.try_open(chain.0.hex())? else { return Ok(None) };
        match record::read(&dir, "layer.json")? {
            Some(record) => Ok(Some(record)),
            None => Err(Error::damaged(dir.path(), "it has no layer.json")),
        }
    }

    /// The directory of an unpacked layer, which need not exist.
    #[must_use]
    pub fn layer_dir(&self, chain: &ChainId) -> PathBuf {
        self.root.path().join("layers/sha256").join(chain.0.hex()).join("diff")
    }
}

/// A blob that is being written.
pub(super) struct BlobFile {
    fd: OwnedFd,
    path: PathBuf,
    length: u64,
}

impl BlobFile {
    pub fn create(dir: &Dir, name: &str) -> Result<Self> {
        let path = dir.at(name);
        let fd = sys::create_file(dir.fd(), OsStr::new(name), 0o600).map_err(io("create", &path))?;
        Ok(Self { fd, path, length: 0 })
    }

    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        write_all(self.fd.as_fd(), bytes, self.length, &self.path)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    pub fn sync(&self) -> Result<()> {
        sys::fsync(self.fd.as_fd()).map_err(io("sync", &self.path))
    }
}
