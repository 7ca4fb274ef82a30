//! From changes to a tar.

use super::compare::{Change, Kind, Rule};
use super::error::{Error, Result, shown};
use super::same::kind;
use super::union::{Tree, Union};
use crate::archive::{Meta, What, Writer};
use crate::layer::whiteout;
use crate::overlay::{Attr, OnDisk};
use crate::sys::Time;
use rustc_hash::FxHashMap;
use std::io::Write;

/// What is read of a file at a time.
const PIECE: usize = 256 << 10;

/// What [`Union::pack`] has written.
#[derive(Debug)]
pub struct Packed<W> {
    /// Where to.
    pub out: W,
    /// Number of entries, whiteouts included.
    pub entries: u64,
}

impl Union {
    /// Writes all changes as the tar of a layer: applied to what is below it gives the tree that is shown. Of a tree that
    /// is compared with nothing that is the whole tree.
    ///
    /// The order is fixed, nothing but the tree goes in: the same tree gives the same bytes. Times after `latest` (seconds
    /// since 1970) are replaced by it.
    ///
    /// # Errors
    /// [`Error::Unsteady`] when the tree is changed meanwhile in a way that leaves no right entry; [`Error::Unwritable`].
    pub fn pack<W: Write>(&self, out: W, latest: Option<i64>) -> Result<Packed<W>> {
        let mut packer = Packer {
            union: self,
            writer: Writer::new(out),
            latest,
            links: FxHashMap::default(),
            buffer: vec![0; PIECE],
            entries: 0,
        };
        self.changes(Rule::Exact, &mut |change| packer.change(change))?;
        Ok(Packed { out: packer.writer.finish().map_err(Error::Write)?, entries: packer.entries })
    }
}

struct Packer<'a, W> {
    union: &'a Union,
    writer: Writer<W>,
    latest: Option<i64>,
    /// Files with several names, as long as not all came: the path of the first, and how many are to come.
    links: FxHashMap<OnDisk, (Box<[u8]>, u32)>,
    buffer: Vec<u8>,
    entries: u64,
}

impl<W: Write> Packer<'_, W> {
    fn change(&mut self, change: &Change<'_>) -> Result<()> {
        let path = change.path;
        self.entries += 1;
        let (Some(attr), false) = (change.attr, change.kind == Kind::Deleted) else { return self.deleted(path) };
        match kind(&attr) {
            libc::S_IFDIR => {
                self.entry(path, &What::Directory, &attr)?;
                if change.opaque {
                    self.entries += 1;
                    self.writer.opaque(path).map_err(Error::Write)?;
                }
                Ok(())
            }
            kind => self.file(path, kind, attr),
        }
    }

    fn deleted(&mut self, path: &[u8]) -> Result<()> {
        let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
        if !whiteout::fits(name) {
            let what = "is deleted, but its name is too long to say so in a layer";
            return Err(Error::Unwritable { path: shown(path), what });
        }
        self.writer.whiteout(path).map_err(Error::Write)
    }

    /// Anything but a directory.
    fn file(&mut self, path: &[u8], kind: u32, mut attr: Attr) -> Result<()> {
        let place = self.union.top.on_disk(attr.ino).map_err(Error::read(path))?;
        if attr.nlink > 1 {
            if let Some((first, left)) = self.links.get_mut(&place) {
                let what = What::Link(first.to_vec());
                *left -= 1;
                if *left == 0 {
                    self.links.remove(&place);
                }
                return self.entry(path, &what, &attr);
            }
            self.links.insert(place, (path.into(), attr.nlink - 1));
        }
        let what = match kind {
            libc::S_IFREG => What::File,
            libc::S_IFLNK => What::Symlink(self.union.top.read_link(attr.ino).map_err(Error::read(path))?),
            libc::S_IFIFO => What::Fifo,
            libc::S_IFCHR => What::Char(attr.rdev.0, attr.rdev.1),
            libc::S_IFBLK => What::Block(attr.rdev.0, attr.rdev.1),
            _ => return Err(Error::Unwritable { path: shown(path), what: "is of a type that no layer can hold" }),
        };
        if place.upper && what == What::File {
            // Once more, now that it is known which file it is.
            attr = self.union.top.get_attr(attr.ino).map_err(Error::read(path))?;
        }
        self.entry(path, &what, &attr)?;
        if what == What::File {
            self.contents(path, &attr)?;
        }
        if place.upper && self.union.top.on_disk(attr.ino).map_err(Error::read(path))? != place {
            return Err(Error::unsteady(path, "was replaced"));
        }
        Ok(())
    }

    fn contents(&mut self, path: &[u8], attr: &Attr) -> Result<()> {
        let mut at = 0;
        while at < attr.size {
            let most = usize::try_from(attr.size - at).unwrap_or(usize::MAX).min(PIECE);
            let read = self.union.top.read(attr.ino, at, &mut self.buffer[..most]).map_err(Error::read(path))?;
            if read == 0 {
                return Err(Error::unsteady(path, "became shorter"));
            }
            self.writer.data(&self.buffer[..read]).map_err(Error::Write)?;
            at += read as u64;
        }
        Ok(())
    }

    fn entry(&mut self, path: &[u8], what: &What, attr: &Attr) -> Result<()> {
        let mtime = match self.latest {
            Some(latest) if attr.mtime > (Time { sec: latest, nsec: 0 }) => Time { sec: latest, nsec: 0 },
            _ => attr.mtime,
        };
        let xattrs = match what {
            // The first name has told them.
            What::Link(_) => Vec::new(),
            _ => Tree(&self.union.top).xattrs(attr.ino, path)?,
        };
        let (uid, gid) = self.union.owner(attr);
        let meta = Meta { uid, gid, mode: attr.mode & 0o7777, mtime, xattrs };
        self.writer.entry(path, what, attr.size, &meta).map_err(Error::Write)
    }
}
