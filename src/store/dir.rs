//! Directories of the store: small files written atomically, renames, removal of trees; errors that name the path.

use super::error::{Error, Result, io};
use crate::sys::{self, At, Errno, Fd, RenameFlags, Stat};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Longest record that is read, in bytes.
pub(super) const LONGEST_RECORD: u64 = 4 << 20;

/// How far [`Dir::remove`] descends.
const DEPTH: usize = 100;

type MoveUp<'a> = dyn FnMut(&Dir, &OsStr) -> Result<()> + 'a;

/// An open directory of the store and its path, which is for messages and for callers only.
#[derive(Debug)]
pub(super) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl Dir {
    /// Opens the directory that the user named; symbolic links in `path` are followed.
    pub fn open_root(path: &Path) -> Result<Self> {
        let fd = sys::open_root(path).map_err(io("open", path))?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// Opens the directory at the relative path `rel`; no symbolic link is followed.
    pub fn open(&self, rel: impl AsRef<OsStr>) -> Result<Self> {
        let path = self.at(rel.as_ref());
        let fd = sys::open_dir_path(self.fd.as_fd(), rel.as_ref()).map_err(io("open", &path))?;
        Ok(Self { fd, path })
    }

    /// [`Dir::open`] of one name; `None` when it is not there.
    pub fn try_open(&self, name: impl AsRef<OsStr>) -> Result<Option<Self>> {
        match self.open(name) {
            Err(e) if e.is(Errno::NOENT) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Makes the directory `name` and opens it.
    pub fn create(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<Self> {
        let (name, path) = (name.as_ref(), self.at(name.as_ref()));
        sys::mkdir(self.fd(), name, mode).map_err(io("create", &path))?;
        self.open(name)
    }

    pub fn fd(&self) -> Fd<'_> {
        self.fd.as_fd()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of an entry, for messages.
    pub fn at(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.path.join(name.as_ref())
    }

    /// The attributes of `name`; `None` when it is not there.
    pub fn stat(&self, name: impl AsRef<OsStr>) -> Result<Option<Stat>> {
        match sys::stat(At::Name(self.fd(), name.as_ref())) {
            Ok(stat) => Ok(Some(stat)),
            Err(e) if e.is(Errno::NOENT) => Ok(None),
            Err(e) => Err(io("look at", &self.at(name))(e)),
        }
    }

    /// Whether there is an entry `name`.
    pub fn has(&self, name: impl AsRef<OsStr>) -> Result<bool> {
        Ok(self.stat(name)?.is_some())
    }

    /// The names in the directory, in byte order.
    pub fn names(&self) -> Result<Vec<OsString>> {
        let mut names = Vec::new();
        let each = &mut |e: sys::RawEntry<'_>| names.push(OsString::from_vec(e.name.to_vec()));
        sys::read_dir(self.fd(), each).map_err(io("list", &self.path))?;
        names.sort();
        Ok(names)
    }

    /// The contents of a small file; `None` when it is not there.
    pub fn read(&self, name: impl AsRef<OsStr>) -> Result<Option<Vec<u8>>> {
        self.read_up_to(name, LONGEST_RECORD)
    }

    /// The contents of a file of at most `most` bytes; `None` when it is not there.
    pub fn read_up_to(&self, name: impl AsRef<OsStr>, most: u64) -> Result<Option<Vec<u8>>> {
        let (name, path) = (name.as_ref(), self.at(name.as_ref()));
        match self.stat(name)? {
            None => return Ok(None),
            Some(stat) if !stat.is_file() => return Err(Error::damaged(path, "it is not a regular file")),
            Some(stat) if stat.size > most => return Err(Error::damaged(path, "it is too long")),
            Some(_) => {}
        }
        let fd = match sys::open_file(self.fd(), name, sys::Access::Read) {
            Err(e) if e.is(Errno::NOENT) => return Ok(None),
            other => other.map_err(io("open", &path))?,
        };
        let mut data = Vec::new();
        let mut buf = vec![0; if most > LONGEST_RECORD { 1 << 20 } else { 16 << 10 }];
        loop {
            match sys::pread(fd.as_fd(), &mut buf, data.len() as u64).map_err(io("read", &path))? {
                0 => return Ok(Some(data)),
                n => data.extend_from_slice(buf.get(..n).unwrap_or_default()),
            }
            if data.len() as u64 > most {
                return Err(Error::damaged(path, "it is too long"));
            }
        }
    }

    /// Writes the new file `name` and syncs it (not its name).
    pub fn write(&self, name: impl AsRef<OsStr>, data: &[u8]) -> Result<()> {
        let fd = self.write_unsynced(name.as_ref(), data)?;
        sys::fsync(fd.as_fd()).map_err(io("sync", &self.at(name)))
    }

    /// Writes the new file `name`; the caller syncs.
    pub fn write_unsynced(&self, name: impl AsRef<OsStr>, data: &[u8]) -> Result<OwnedFd> {
        let path = self.at(name.as_ref());
        let fd = sys::create_file(self.fd(), name.as_ref(), 0o600).map_err(io("create", &path))?;
        write_all(fd.as_fd(), data, 0, &path)?;
        Ok(fd)
    }

    /// Renames an entry to `to`, replacing what is there.
    pub fn rename(&self, name: impl AsRef<OsStr>, to: &Dir, new: impl AsRef<OsStr>) -> Result<()> {
        self.rename_with(name.as_ref(), to, new.as_ref(), RenameFlags::empty())
    }

    /// Renames an entry to `to`; false when there is something of that name, which stays.
    pub fn rename_new(&self, name: impl AsRef<OsStr>, to: &Dir, new: impl AsRef<OsStr>) -> Result<bool> {
        match self.rename_with(name.as_ref(), to, new.as_ref(), RenameFlags::NOREPLACE) {
            Err(e) if e.is(Errno::EXIST) => Ok(false),
            other => other.map(|()| true),
        }
    }

    fn rename_with(&self, name: &OsStr, to: &Dir, new: &OsStr, flags: RenameFlags) -> Result<()> {
        sys::rename(self.fd(), name, to.fd(), new, flags).map_err(io("rename", &self.at(name)))
    }

    /// Makes the names in this directory durable.
    pub fn sync(&self) -> Result<()> {
        sys::fsync(self.fd()).map_err(io("sync", &self.path))
    }

    /// Removes an entry and all below it; nothing there is no error.
    ///
    /// Descends by descriptor, never through a symbolic link. What is deep down is first moved to the top of what is being
    /// removed, so that neither the stack nor the number of descriptors depends on the tree, and nothing of a removal that
    /// was interrupted is anywhere else.
    pub fn remove(&self, name: impl AsRef<OsStr>) -> Result<()> {
        let name = name.as_ref();
        if self.unlink(name)? {
            return Ok(());
        }
        let top = self.open_removable(name)?;
        let mut made = 0;
        loop {
            let names = top.names()?;
            if names.is_empty() {
                return sys::rmdir(self.fd(), name).map_err(io("remove", &self.at(name)));
            }
            for name in names {
                top.remove_some(&name, DEPTH, &mut |dir, name| {
                    // The tree may have such a name itself.
                    while !dir.rename_new(name, &top, format!("deep-{made}"))? {
                        made += 1;
                    }
                    Ok(())
                })?;
            }
        }
    }

    /// Removes what is not a directory; false when it is one.
    fn unlink(&self, name: &OsStr) -> Result<bool> {
        match sys::unlink(self.fd(), name) {
            Ok(()) => Ok(true),
            Err(e) if e.is(Errno::NOENT) => Ok(true),
            Err(e) if e.is(Errno::ISDIR) => Ok(false),
            Err(e) => Err(io("remove", &self.at(name))(e)),
        }
    }

    /// Removes `name`; directories more than `depth` further down are handed to `move_up`.
    fn remove_some(&self, name: &OsStr, depth: usize, move_up: &mut MoveUp<'_>) -> Result<()> {
        if self.unlink(name)? {
            return Ok(());
        }
        let dir = self.open_removable(name)?;
        let Some(below) = depth.checked_sub(1) else { return move_up(self, name) };
        for name in dir.names()? {
            dir.remove_some(&name, below, move_up)?;
        }
        sys::rmdir(self.fd(), name).map_err(io("remove", &self.at(name)))
    }

    /// Opens a directory that is to be emptied. Its owner may have taken every right from himself.
    fn open_removable(&self, name: &OsStr) -> Result<Self> {
        if !sys::process::is_root() {
            let own = sys::chmod(At::Name(self.fd(), name), 0o700);
            own.map_err(io("change the mode of", &self.at(name)))?;
        }
        self.open(name)
    }
}

/// Writes all of `data` at `off`. Why less was written, the next write tells; a device that takes nothing more is full.
pub(super) fn write_all(fd: Fd<'_>, mut data: &[u8], mut off: u64, path: &Path) -> Result<()> {
    while !data.is_empty() {
        match sys::pwrite(fd, data, off).map_err(io("write", path))? {
            0 => return Err(io("write", path)(sys::Error { call: "pwrite", errno: Errno::NOSPC })),
            n => {
                data = data.get(n..).unwrap_or_default();
                off += n as u64;
            }
        }
    }
    Ok(())
}

/// Whether a name consists of `len` lower-case hex digits.
pub(super) fn is_hex(name: &OsStr, len: usize) -> bool {
    name.len() == len && name.as_bytes().iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
