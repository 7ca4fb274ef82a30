//! Listing directories.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::sync::Arc;

use super::Overlay;
use super::attr::Attr;
use super::dir::{InUpper, IndexEntry, LowerDir};
use super::error::{Error, Result};
use super::inode::{Ino, Inode, UPPER};
use super::names::Names;
use crate::sys::{At, Stat};

/// One entry of a listing.
pub struct Listed<'a> {
    /// The name.
    pub name: &'a OsStr,
    /// `st_ino` of the object.
    pub ino: u64,
    /// `S_IFMT` part of the mode.
    pub kind: u32,
    /// Where to continue behind this entry.
    pub cookie: u64,
    /// The attributes, when they were asked for; a lookup is counted then.
    pub attr: Option<Attr>,
}

/// Takes entries; answers whether this one was taken. After the first refusal none follow.
pub type Sink<'a> = &'a mut dyn FnMut(&Listed<'_>) -> bool;

const DOT: u64 = 1;
/// Offset behind `.` and `..`.
pub const DOT_DOT: u64 = 2;

impl Overlay {
    /// Lists a directory from `offset` on (0, or the cookie of the last entry taken), with attributes if `plus`.
    ///
    /// Entries that exist throughout are listed once; the cookies stay valid whatever changes in between.
    pub fn read_dir(&self, ino: Ino, offset: u64, plus: bool, sink: Sink<'_>) -> Result<()> {
        let inode = self.directory(ino)?;
        if offset < DOT_DOT && !self.list_dots(&inode, offset, sink)? {
            return Ok(());
        }
        let names = match self.indexed_names(&inode) {
            // A removed directory that is still open is empty.
            Err(Error::NotFound) => return Ok(()),
            names => names?,
        };
        let Some(index) = &names.ns.index else { return Ok(()) };
        for (cookie, entry) in index.after(offset) {
            let taken = if plus {
                match self.list_plus(&inode, &names, entry, cookie, sink) {
                    Ok(taken) => taken,
                    // One entry with broken markers must not hide the others; looking it up tells what is wrong.
                    Err(e) => {
                        log::warn!("listing {}: {e}", entry.name.display());
                        let ino = self.plain_ino(&names, entry)?;
                        let kind = u32::from(entry.kind) << 12;
                        sink(&Listed { name: &entry.name, ino, kind, cookie, attr: None })
                    }
                }
            } else {
                let ino = self.listed_ino(&inode, &names, entry)?;
                let kind = self.listed_kind(&inode, &names, entry)?;
                sink(&Listed { name: &entry.name, ino, kind, cookie, attr: None })
            };
            if !taken {
                break;
            }
        }
        Ok(())
    }

    fn list_dots(&self, inode: &Arc<Inode>, offset: u64, sink: Sink<'_>) -> Result<bool> {
        let own = if inode.ino == super::ROOT { self.attr(inode)?.st_ino } else { inode.ino };
        let parent = inode.state.lock().links.first().map(|l| l.parent.clone());
        let above = match parent {
            Some(p) if p.ino == super::ROOT => self.attr(&p)?.st_ino,
            Some(p) => p.ino,
            None => own,
        };
        let kind = libc::S_IFDIR;
        let dots = [(DOT, ".", own), (DOT_DOT, "..", above)];
        Ok(dots
            .into_iter()
            .filter(|d| d.0 > offset)
            .all(|(cookie, name, ino)| sink(&Listed { name: OsStr::new(name), ino, kind, cookie, attr: None })))
    }

    fn list_plus(
        &self,
        inode: &Arc<Inode>,
        names: &Names<'_>,
        entry: &IndexEntry,
        cookie: u64,
        sink: Sink<'_>,
    ) -> Result<bool> {
        let known = inode.dir.as_ref().and_then(|d| d.child(&entry.name)).and_then(|i| self.table.get_counted(i));
        let (child, stat) = if let Some(child) = known {
            let stat = self.stat_known(inode, names, &child, &entry.name).inspect_err(|_| self.forget(child.ino, 1))?;
            (child, stat)
        } else {
            // Vanished from the layer: someone changes it behind our back.
            let Some(found) = self.find(inode, &names.ns, names.upper(), &entry.name)? else { return Ok(true) };
            let stat = found.stat;
            (self.bind(inode, entry.name.clone(), found), stat)
        };
        let attr = self.attr_of(&child, &stat);
        let taken = sink(&Listed { name: &entry.name, ino: child.ino, kind: child.kind, cookie, attr: Some(attr) });
        if !taken {
            self.forget(child.ino, 1);
        }
        Ok(taken)
    }

    /// What `stat` says of a known object, by its name in the directory that is locked.
    fn stat_known(&self, inode: &Arc<Inode>, names: &Names<'_>, child: &Arc<Inode>, name: &OsStr) -> Result<Stat> {
        let layer = match &child.dir {
            Some(dir) => {
                let ns = dir.ns.read();
                if ns.upper { UPPER } else { ns.lowers.first().ok_or(Error::Stale)?.layer }
            }
            None => child.link(inode, name).ok_or(Error::NotFound)?.layer,
        };
        if layer == UPPER {
            return self.stat(At::Name(names.upper().ok_or(Error::Stale)?, name));
        }
        if !child.is_dir() && child.in_upper() {
            return self.stat_in_index(child);
        }
        let lower = names.ns.lowers.iter().find(|l| l.layer == layer).ok_or(Error::Stale)?;
        let dir = self.lower_dir(inode, layer, &lower.path)?;
        self.stat(At::Name(dir.as_fd(), name))
    }

    /// The number that a lookup of the entry would give.
    fn listed_ino(&self, inode: &Arc<Inode>, names: &Names<'_>, entry: &IndexEntry) -> Result<Ino> {
        if let Some(ino) = inode.dir.as_ref().and_then(|d| d.child(&entry.name)) {
            return Ok(ino);
        }
        let in_upper = entry.upper == InUpper::Present;
        let may_have_origin = in_upper && (entry.kind == libc::DT_DIR || names.ns.impure) || self.ids.any_strange();
        if may_have_origin && let Ok(Some(found)) = self.find(inode, &names.ns, names.upper(), &entry.name) {
            return Ok(found.ino);
        }
        self.plain_ino(names, entry)
    }

    /// The type of an entry. A regular file can stand for another type (`override_stat`), which costs a look at one that
    /// is not known.
    fn listed_kind(&self, inode: &Arc<Inode>, names: &Names<'_>, entry: &IndexEntry) -> Result<u32> {
        let kind = u32::from(entry.kind) << 12;
        if !self.override_stat || kind != libc::S_IFREG {
            return Ok(kind);
        }
        let known = inode.dir.as_ref().and_then(|d| d.child(&entry.name)).and_then(|ino| self.table.get(ino));
        if let Some(child) = known {
            return Ok(child.kind);
        }
        let lower;
        let dir = match visible_in(names, entry) {
            Some(l) => {
                lower = self.lower_dir(inode, l.layer, &l.path)?;
                lower.as_fd()
            }
            None => names.upper().ok_or(Error::Stale)?,
        };
        let disk = Stat { mode: kind, ..Stat::default() };
        match self.shown(At::Name(dir, &entry.name), disk) {
            Ok(stat) => Ok(stat.file_type()),
            // Looking it up tells what is wrong.
            Err(e) => {
                log::debug!("listing {}: {e}", entry.name.display());
                Ok(kind)
            }
        }
    }

    /// The number of an entry without an origin.
    fn plain_ino(&self, names: &Names<'_>, entry: &IndexEntry) -> Result<Ino> {
        let layer = visible_in(names, entry).map_or(UPPER, |l| l.layer);
        Ok(self.ids.map(self.layer(layer)?.dev, entry.real_ino))
    }
}

/// The lower directory that a visible entry comes from; `None` for one in upper.
fn visible_in<'a>(names: &'a Names<'_>, entry: &IndexEntry) -> Option<&'a LowerDir> {
    let position = entry.lowers.first().filter(|_| entry.upper != InUpper::Present)?;
    names.ns.lowers.get(usize::from(*position))
}
