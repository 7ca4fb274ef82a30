//! From an entry to the object in the layer. What needs other entries, or other layers, is put on the pending list.

use super::api::{Counts, Limits, Options};
use super::attributes::{self, DEFAULT_ACL, Type};
use super::entry::{Entry, Meta, Reader, What};
use super::error::{Error, Result};
use super::form::{Form, Owners};
use super::names::{self, Kind};
use super::pending::{Pending, Task};
use super::tree::Tree;
use crate::layer::xattr::Marker;
use crate::sys::{self, At, Errno, Fd, Time, xattr};
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

/// What is written at a time.
const WRITE: u64 = 1 << 20;

/// Writes the entries of one layer.
pub(super) struct Applier<'a> {
    tree: Tree<'a>,
    form: Form,
    counts: Counts,
    pending: Pending,
    limits: &'a Limits,
    /// Directories made because names imply them.
    implied: u64,
}

impl<'a> Applier<'a> {
    /// Starts in the empty directory `layer`.
    pub fn new(layer: Fd<'a>, options: &Options<'a>) -> Result<Self> {
        let mut pending = Pending::new(layer);
        xattr::set(At::Fd(layer), options.form.implied(), b"y", 0)?;
        pending.add(&Task::Implied(Vec::new()))?;
        let tree = Tree::new(layer, options.limits);
        let (form, limits) = (options.form, options.limits);
        Ok(Self { tree, form, counts: Counts::default(), pending, limits, implied: 0 })
    }

    pub fn finish(self) -> (Counts, Pending) {
        (self.counts, self.pending)
    }

    /// Applies one entry; `reader` stands at its data.
    pub fn apply(&mut self, entry: Entry, reader: &mut Reader<'_>) -> Result<()> {
        let kind = names::classify(&entry.path).map_err(|what| Error::entry(&entry.name, what))?;
        if kind == Kind::Leftover {
            return Ok(());
        }
        self.counts.entries += 1;
        let Some((dir, name)) = names::split(&entry.path) else { return self.root(&entry) };
        let task = match kind {
            Kind::Leftover => return Ok(()),
            Kind::Plain => {
                self.enter(dir, &entry.name, true)?;
                return self.plain(&entry, OsStr::from_bytes(name), reader);
            }
            Kind::Whiteout(hidden) => Task::Whiteout(names::join(dir, hidden)),
            Kind::Opaque => Task::Opaque(dir.to_vec()),
        };
        self.counts.whiteouts += 1;
        // Where this layer has something else than a directory, that hides all below already. Some writers list what was in it.
        if self.enter(dir, &entry.name, false)? { self.pending.add(&task) } else { Ok(()) }
    }

    /// Goes to a directory, making what is missing of the way; false when it follows no links and there is none.
    fn enter(&mut self, dir: &[u8], entry: &[u8], follow: bool) -> Result<bool> {
        let (pending, implied) = (&mut self.pending, self.form.implied());
        let (limits, count) = (self.limits, &mut self.implied);
        self.tree.enter(dir, entry, follow, &mut |tree, name| {
            *count += 1;
            limits.check_implied(*count)?;
            let path = names::join(&tree.path(), name);
            let name = OsStr::from_bytes(name);
            let made = sys::mkdir(tree.fd(), name, 0o700);
            let made = made.and_then(|()| xattr::set(At::Name(tree.fd(), name), implied, b"y", 0));
            made.map_err(|e| Error::write(entry, e))?;
            pending.add(&Task::Implied(path))
        })
    }

    fn root(&mut self, entry: &Entry) -> Result<()> {
        if entry.what != What::Directory {
            return Err(Error::entry(&entry.name, "would replace the root of the layer by something else"));
        }
        self.describe(At::Fd(self.tree.root()), Vec::new(), entry)
    }

    fn plain(&mut self, entry: &Entry, name: &OsStr, reader: &mut Reader<'_>) -> Result<()> {
        match &entry.what {
            What::File => {
                self.counts.files += 1;
                self.counts.bytes = self.counts.bytes.saturating_add(entry.size);
                self.file(entry, name, reader)
            }
            What::Directory => self.directory(entry, name),
            What::Symlink(target) => {
                self.counts.symlinks += 1;
                let target = OsStr::from_bytes(target);
                self.anew(entry, name, |dir| sys::symlink(target, dir, name))?;
                self.counts.lost_xattrs += self.attributes(entry, At::Name(self.tree.fd(), name), Type::Symlink)?;
                Ok(())
            }
            What::Link(target) => {
                self.counts.links += 1;
                self.link(entry, name, target)
            }
            What::Fifo => self.node(entry, name, Type::Fifo),
            What::Char(major, minor) => self.node(entry, name, Type::Char(*major, *minor)),
            What::Block(major, minor) => self.node(entry, name, Type::Block(*major, *minor)),
        }
    }

    /// Makes an object in the current directory, in place of whatever has its name.
    fn anew<T>(&mut self, entry: &Entry, name: &OsStr, make: impl Fn(Fd<'_>) -> sys::Result<T>) -> Result<T> {
        let made = match make(self.tree.fd()) {
            Err(e) if e.is(Errno::EXIST) => self.tree.remove(name).and_then(|()| make(self.tree.fd())),
            other => other,
        };
        made.map_err(|e| Error::write(&entry.name, e))
    }

    /// Gives a new object its attributes; the number of those that were lost.
    fn attributes(&self, entry: &Entry, at: At<'_>, kind: Type) -> Result<u64> {
        attributes::set_all(self.form, at, kind, &entry.meta).map_err(|e| Error::write(&entry.name, e))
    }

    fn file(&mut self, entry: &Entry, name: &OsStr, reader: &mut Reader<'_>) -> Result<()> {
        let fd = self.anew(entry, name, |dir| sys::create_file(dir, name, 0o600))?;
        match &entry.sparse {
            None => write(fd.as_fd(), 0, entry.size, entry, reader)?,
            Some(pieces) => {
                for (offset, len) in pieces {
                    write(fd.as_fd(), *offset, *len, entry, reader)?;
                }
                sys::truncate(fd.as_fd(), entry.size).map_err(|e| Error::write(&entry.name, e))?;
            }
        }
        self.counts.lost_xattrs += self.attributes(entry, At::Fd(fd.as_fd()), Type::File)?;
        Ok(())
    }

    fn directory(&mut self, entry: &Entry, name: &OsStr) -> Result<()> {
        let wrong = |e| Error::write(&entry.name, e);
        let make = |tree: &Tree<'_>| sys::mkdir(tree.fd(), name, 0o700);
        match make(&self.tree) {
            Err(e) if e.is(Errno::EXIST) => {
                let at = At::Name(self.tree.fd(), name);
                if sys::stat(at).map_err(wrong)?.is_dir() {
                    attributes::clear(at, self.form.implied()).map_err(wrong)?;
                } else {
                    self.tree.remove(name).and_then(|()| make(&self.tree)).map_err(wrong)?;
                }
            }
            other => other.map_err(wrong)?,
        }
        let fd = sys::open_dir(self.tree.fd(), name).map_err(wrong)?;
        let path = names::join(&self.tree.path(), name.as_bytes());
        self.describe(At::Fd(fd.as_fd()), path, entry)
    }

    /// Gives a directory what its entry says; its time and what its entries would inherit come at the end.
    fn describe(&mut self, at: At<'_>, path: Vec<u8>, entry: &Entry) -> Result<()> {
        self.counts.directories += 1;
        if path.is_empty() {
            attributes::clear(at, self.form.implied()).map_err(|e| Error::write(&entry.name, e))?;
        }
        self.counts.lost_xattrs += self.attributes(entry, at, Type::Directory)?;
        let Meta { mtime, xattrs, .. } = &entry.meta;
        let inherited = xattrs.iter().find(|(name, _)| name.as_c_str() == DEFAULT_ACL);
        let default_acl = inherited.filter(|_| self.form.owners == Owners::Native).map(|(_, value)| value.clone());
        self.pending.add(&Task::Directory { path, mtime: *mtime, default_acl })
    }

    /// Devices and FIFOs. What would be a whiteout is stored as mounts do it, as an empty file with a marker.
    fn node(&mut self, entry: &Entry, name: &OsStr, kind: Type) -> Result<()> {
        self.counts.devices += 1;
        let native = self.form.owners == Owners::Native;
        let nested = native && kind == Type::Char(0, 0);
        let (mode, major, minor) = match kind {
            _ if !native || nested => (libc::S_IFREG, 0, 0),
            Type::Char(major, minor) => (libc::S_IFCHR, major, minor),
            Type::Block(major, minor) => (libc::S_IFBLK, major, minor),
            _ => (libc::S_IFIFO, 0, 0),
        };
        self.anew(entry, name, |dir| sys::mknod(dir, name, mode | 0o600, major, minor))?;
        let dir = self.tree.fd();
        if nested {
            let marker = self.form.namespace.name(Marker::Nested);
            let marked = xattr::set(At::Name(dir, name), marker, b"y", 0);
            let marked = marked.and_then(|()| xattr::set(At::Fd(dir), marker, b"y", 0));
            marked.map_err(|e| Error::write(&entry.name, e))?;
        }
        self.counts.lost_xattrs += self.attributes(entry, At::Name(dir, name), kind)?;
        Ok(())
    }

    fn link(&mut self, entry: &Entry, name: &OsStr, target: &[u8]) -> Result<()> {
        if target.is_empty() {
            return Err(Error::entry(&entry.name, TO_DIRECTORY));
        }
        let Some(found) = self.tree.find(target, &entry.name)?.filter(|found| !is_placeholder(&found.stat)) else {
            return self.link_later(entry, name, target);
        };
        if found.stat.is_dir() {
            return Err(Error::entry(&entry.name, TO_DIRECTORY));
        }
        match sys::stat(At::Name(self.tree.fd(), name)) {
            // A link to itself, or one that is there already.
            Ok(own) if (own.dev, own.ino) == (found.stat.dev, found.stat.ino) => return Ok(()),
            _ => {}
        }
        let (from, old) = (found.dir.as_fd(), OsStr::from_bytes(&found.name));
        match self.anew(entry, name, |dir| sys::link(from, old, dir, name)) {
            Err(Error::Write { source, .. }) if source.is(Errno::NOENT) => {
                Err(Error::entry(&entry.name, "is a hard link to a file that it replaces"))
            }
            other => other,
        }
    }

    /// Puts a placeholder where the link will be, so that later entries of that name replace it.
    fn link_later(&mut self, entry: &Entry, name: &OsStr, target: &[u8]) -> Result<()> {
        // Archives hold no sockets; the number tells which of several entries for one name was the last.
        let number = i64::try_from(self.pending.links() + 1).unwrap_or(i64::MAX);
        self.anew(entry, name, |dir| sys::mknod(dir, name, libc::S_IFSOCK | 0o600, 0, 0))?;
        let at = At::Name(self.tree.fd(), name);
        attributes::set_time(at, Time { sec: number, nsec: 0 }).map_err(|e| Error::write(&entry.name, e))?;
        let path = names::join(&self.tree.path(), name.as_bytes());
        self.pending.add(&Task::Link { path, target: target.to_vec(), number })
    }
}

pub(super) const TO_DIRECTORY: &str = "is a hard link to a directory";

/// Whether this is what [`Applier`] puts where a hard link will be.
pub(super) fn is_placeholder(stat: &sys::Stat) -> bool {
    stat.file_type() == libc::S_IFSOCK
}

/// Writes the next `len` bytes of the entry's data at `offset`.
fn write(fd: Fd<'_>, mut offset: u64, mut len: u64, entry: &Entry, reader: &mut Reader<'_>) -> Result<()> {
    while len > 0 {
        let mut piece = reader.data(len.min(WRITE))?;
        if piece.is_empty() {
            return Err(Error::entry(&entry.name, "has less data than it says"));
        }
        len -= piece.len() as u64;
        while !piece.is_empty() {
            let done = sys::pwrite(fd, piece, offset).map_err(|e| Error::write(&entry.name, e))?;
            offset += done as u64;
            piece = &piece[done..];
        }
    }
    Ok(())
}
