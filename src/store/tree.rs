//! Measuring a layer directory: entries, bytes, a digest of all that a mount would show of it, and its inventory.

use super::dir::Dir;
use super::error::{Result, io};
use super::inventory::{Entry, Writer};
use super::stop::Stop;
use crate::image::digest::{Digest, Hashing};
use crate::sys::{self, Access, At, Fd, Stat, xattr};
use rustc_hash::FxHashMap;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

/// What a directory is made of. Every inode counts once, every name is an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// Names below the root.
    pub entries: u64,
    /// Bytes in regular files.
    pub content: u64,
    /// Bytes allocated, the root included.
    pub disk: u64,
    /// The digest of the canonical form (docs/STORE.md section 6).
    pub tree: Digest,
    /// What is in it, as its inventory lists it.
    pub listing: Vec<u8>,
}

/// Attributes that the system sets by itself.
const SYSTEM: [&[u8]; 3] = [b"security.selinux", b"security.ima", b"security.evm"];

/// Size of the buffer for contents, in bytes.
const BUFFER: usize = 128 << 10;

/// Walks `dir` and reads every file in it.
pub(super) fn facts(dir: &Dir, stop: &Stop) -> Result<Facts> {
    let mut walk = Walk {
        hash: Some(Hashing::new()),
        inventory: Writer::default(),
        stop,
        seen: FxHashMap::default(),
        buffer: vec![0; BUFFER],
        entries: 0,
        content: 0,
        disk: 0,
    };
    let stat = sys::stat(At::Fd(dir.fd())).map_err(io("look at", dir.path()))?;
    let attributes = walk.object(At::Fd(dir.fd()), b"", &stat, dir)?;
    let root = walk.inventory.directory();
    walk.inventory.add(root, &Entry { name: b"", stat: &stat, link: 0, target: b"", attributes: &attributes });
    walk.directory(dir, &mut Vec::new())?;
    let tree = walk.hash.take().unwrap_or_default().finish();
    let listing = walk.inventory.finish();
    Ok(Facts { entries: walk.entries, content: walk.content, disk: walk.disk, tree, listing })
}

/// The bytes allocated for a directory and all in it, each inode once; contents are not read.
pub(super) fn disk(dir: &Dir) -> Result<u64> {
    let stop = &Stop::default();
    let mut walk = Walk {
        hash: None,
        inventory: Writer::default(),
        stop,
        seen: FxHashMap::default(),
        buffer: Vec::new(),
        entries: 0,
        content: 0,
        disk: 0,
    };
    let stat = sys::stat(At::Fd(dir.fd())).map_err(io("look at", dir.path()))?;
    walk.disk = stat.blocks * 512;
    walk.directory(dir, &mut Vec::new())?;
    Ok(walk.disk)
}

/// The digest of a file's contents without its blocks of zeros, each other one after its offset.
///
/// Blocks have the size of `buffer`. Holes are jumped over: a file of a few bytes can claim to be of any length. It makes no
/// difference where the file system has holes and where it has zeros.
fn content(file: Fd<'_>, buffer: &mut [u8]) -> sys::Result<Digest> {
    let size = buffer.len() as u64;
    let (mut hash, mut next) = (Hashing::new(), Some(0));
    while let Some(at) = next {
        let read = read_block(file, buffer, at)?;
        let block = buffer.get(..read).unwrap_or_default();
        let zeros = block.chunks(64).all(|part| part.iter().fold(0, |sum, byte| sum | byte) == 0);
        if !zeros {
            hash.update(&at.to_le_bytes());
            hash.update(block);
        }
        next = match zeros {
            _ if read < buffer.len() => None,
            true => sys::seek_data(file, at + size)?.map(|data| data - data % size),
            false => Some(at + size),
        };
    }
    Ok(hash.finish())
}

/// Reads until the buffer is full or the file ends.
fn read_block(file: Fd<'_>, buffer: &mut [u8], at: u64) -> sys::Result<usize> {
    let mut have = 0;
    while let Some(room) = buffer.get_mut(have..).filter(|room| !room.is_empty()) {
        match sys::pread(file, room, at + have as u64)? {
            0 => break,
            n => have += n,
        }
    }
    Ok(have)
}

struct Walk<'a> {
    /// Absent when only sizes are wanted.
    hash: Option<Hashing>,
    /// Used where `hash` is.
    inventory: Writer,
    stop: &'a Stop,
    /// Files with several names, by device and inode: the number of the entry that was first.
    seen: FxHashMap<(u64, u64), u64>,
    buffer: Vec<u8>,
    entries: u64,
    content: u64,
    disk: u64,
}

/// The name and the value of each attribute of an object.
type Attributes = Vec<(CString, Vec<u8>)>;

impl Walk<'_> {
    /// Everything below `dir`, in byte order, parents before their children.
    fn directory(&mut self, dir: &Dir, path: &mut Vec<u8>) -> Result<()> {
        let directory = self.inventory.directory();
        for name in dir.names()? {
            self.stop.check()?;
            let length = path.len();
            path.extend_from_slice(name.as_bytes());
            let at = At::Name(dir.fd(), &name);
            let stat = sys::stat(at).map_err(io("look at", &dir.at(&name)))?;
            self.entries += 1;
            if self.hash.is_some() {
                let attributes = self.object(at, path, &stat, dir)?;
                let target = if stat.is_symlink() {
                    sys::readlink(dir.fd(), &name).map_err(io("read", &dir.at(&name)))?
                } else {
                    Vec::new()
                };
                let link = self.measure(&stat, &name, &target, dir)?;
                let name = name.as_bytes();
                let entry = Entry { name, stat: &stat, link, target: &target, attributes: &attributes };
                self.inventory.add(directory, &entry);
            } else {
                self.measure(&stat, &name, b"", dir)?;
            }
            if stat.is_dir() {
                path.push(b'/');
                self.directory(&dir.open(&name)?, path)?;
            }
            path.truncate(length);
        }
        Ok(())
    }

    /// Hashes the attributes of an object, and returns the extended ones.
    fn object(&mut self, at: At<'_>, path: &[u8], stat: &Stat, dir: &Dir) -> Result<Attributes> {
        let failed = || dir.at(OsStr::from_bytes(path));
        self.field(path);
        let numbers = [stat.mode, stat.uid, stat.gid, stat.rdev_major, stat.rdev_minor, stat.mtime.nsec];
        numbers.iter().for_each(|n| self.add(&n.to_le_bytes()));
        self.add(&stat.mtime.sec.to_le_bytes());
        let list = xattr::list(at).map_err(|e| io("read the attributes of", &failed())(e))?;
        let mut names: Vec<&CStr> =
            list.split_inclusive(|b| *b == 0).filter_map(|n| CStr::from_bytes_with_nul(n).ok()).collect();
        names.retain(|n| !SYSTEM.contains(&n.to_bytes()));
        names.sort_unstable();
        self.add(&(names.len() as u64).to_le_bytes());
        let mut attributes = Vec::new();
        for name in names {
            let value = xattr::get(at, name).map_err(|e| io("read the attributes of", &failed())(e))?;
            let value = value.unwrap_or_default();
            self.field(name.to_bytes());
            self.field(&value);
            attributes.push((name.to_owned(), value));
        }
        Ok(attributes)
    }

    /// Counts an object, and hashes its contents when it is met for the first time. Returns the number of the entry that was
    /// first of a file with several names, else 0.
    fn measure(&mut self, stat: &Stat, name: &OsStr, target: &[u8], dir: &Dir) -> Result<u64> {
        let mut link = 0;
        if !stat.is_dir() && stat.nlink > 1 {
            link = *self.seen.entry((stat.dev, stat.ino)).or_insert(self.entries);
            if link != self.entries {
                self.add(b"link");
                self.add(&link.to_le_bytes());
                return Ok(link);
            }
        }
        self.disk += stat.blocks * 512;
        if stat.is_symlink() {
            self.field(target);
        }
        if stat.is_file() {
            self.content += stat.size;
            self.contents(name, stat.size, dir)?;
        }
        Ok(link)
    }

    fn contents(&mut self, name: &OsStr, size: u64, dir: &Dir) -> Result<()> {
        if self.hash.is_none() {
            return Ok(());
        }
        let file = sys::open_file(dir.fd(), name, Access::Read).map_err(|e| io("open", &dir.at(name))(e))?;
        let digest = content(file.as_fd(), &mut self.buffer).map_err(|e| io("read", &dir.at(name))(e))?;
        self.add(&size.to_le_bytes());
        self.add(digest.hex().as_bytes());
        Ok(())
    }

    /// Hashes a length and that many bytes.
    fn field(&mut self, bytes: &[u8]) {
        self.add(&(bytes.len() as u64).to_le_bytes());
        self.add(bytes);
    }

    fn add(&mut self, bytes: &[u8]) {
        if let Some(hash) = &mut self.hash {
            hash.update(bytes);
        }
    }
}
