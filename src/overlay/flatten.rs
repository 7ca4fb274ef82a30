//! Making a directory independent of the layers below it, so that it can be renamed where a redirect cannot be written.

use std::sync::Arc;

use super::copy_up::restore_times;
use super::dir::InUpper;
use super::error::{Error, Result};
use super::fdcache::Key;
use super::inode::{Inode, Name};
use super::owner::as_owner;
use super::{Overlay, Sink};
use crate::layer::whiteout::beside;
use crate::sys::{self, At};

/// What is copied at the most for one rename; larger directories fail with `EXDEV`, upon which mv(1) copies.
const MAX_ENTRIES: u64 = 10_000;
/// Bytes of file data in the same sense.
const MAX_BYTES: u64 = 256 << 20;
/// Levels of directories, because this walks by recursion.
const MAX_DEPTH: u32 = 200;

#[derive(Default)]
struct Size {
    entries: u64,
    bytes: u64,
}

impl Overlay {
    /// Copies everything under a directory of upper up and makes it opaque. Each step is invisible in the merged view.
    ///
    /// # Errors
    /// [`Error::CrossDevice`], with nothing copied, if there is too much.
    pub(super) fn flatten(&self, dir: &Arc<Inode>) -> Result<()> {
        self.measure(dir, &mut Size::default(), 0)?;
        self.flatten_measured(dir)
    }

    fn visible_names(&self, dir: &Arc<Inode>) -> Result<Vec<Name>> {
        let mut names = Vec::new();
        let sink: Sink<'_> = &mut |e| {
            names.push(Name::from(e.name));
            true
        };
        self.read_dir(dir.ino, super::readdir::DOT_DOT, false, sink)?;
        Ok(names)
    }

    fn measure(&self, dir: &Arc<Inode>, size: &mut Size, depth: u32) -> Result<()> {
        for name in self.visible_names(dir)? {
            let (child, stat) = self.lookup_in(dir, &name)?;
            let measured = stat.map_or_else(|| self.attr(&child).map(|a| a.size), |s| Ok(s.size)).and_then(|bytes| {
                size.entries += 1;
                size.bytes += if child.kind == libc::S_IFREG && !child.in_upper() { bytes } else { 0 };
                if size.entries > MAX_ENTRIES || size.bytes > MAX_BYTES || depth > MAX_DEPTH {
                    return Err(Error::CrossDevice);
                }
                if child.is_dir() { self.measure(&child, size, depth + 1) } else { Ok(()) }
            });
            self.forget(child.ino, 1);
            measured?;
        }
        Ok(())
    }

    fn flatten_measured(&self, dir: &Arc<Inode>) -> Result<()> {
        self.copy_up_dir(dir)?;
        loop {
            for name in self.visible_names(dir)? {
                let (child, _) = match self.lookup_in(dir, &name) {
                    Err(Error::NotFound) => continue, // removed meanwhile
                    found => found?,
                };
                let done =
                    if child.is_dir() { self.flatten_measured(&child) } else { self.bring_up(dir, &name, &child) };
                self.forget(child.ino, 1);
                match done {
                    Ok(()) | Err(Error::NotFound) => {}
                    Err(e) => return Err(e),
                }
            }
            if self.make_opaque(dir)? {
                return Ok(());
            }
        }
    }

    fn bring_up(&self, dir: &Arc<Inode>, name: &Name, child: &Arc<Inode>) -> Result<()> {
        self.copy_up_whole(child)?;
        let link = child.link(dir, name).ok_or(Error::NotFound)?;
        self.link_up(child, &link)
    }

    /// Cuts a directory off from the layers below; false if something of theirs still shows.
    fn make_opaque(&self, inode: &Arc<Inode>) -> Result<bool> {
        let mut names = self.changing(inode)?;
        let Some(index) = &names.ns.index else { return Ok(true) };
        let shows_below = |e: &super::dir::IndexEntry| e.upper == InUpper::Absent && !e.lowers.is_empty();
        if index.entries().any(shows_below) {
            return Ok(false);
        }
        let at = At::Fd(names.fd());
        let hiding: Vec<Name> = index
            .entries()
            .filter_map(|e| match e.upper {
                InUpper::Whiteout => Some(e.name.clone()),
                InUpper::WhiteoutBeside => Some(beside(&e.name).into()),
                InUpper::Absent | InUpper::Present => None,
            })
            .collect();
        self.mark_opaque(at, names.ns.xwhiteouts)?;
        let before = sys::stat(at)?;
        for name in &hiding {
            // They hide nothing any more, and an opaque directory should hold none.
            if let Err(e) = as_owner(At::Fd(names.fd()), || Ok(sys::unlink(names.fd(), name)?)) {
                log::warn!("a whiteout that hides nothing stays: {e}");
            }
        }
        if !hiding.is_empty() {
            restore_times(at, &before);
        }
        for lower in std::mem::take(&mut names.ns.lowers) {
            self.fds.remove(Key::Dir(inode.ino, lower.layer));
        }
        names.ns.index = None;
        Ok(true)
    }
}
