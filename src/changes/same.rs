//! When two objects are the same.

use super::compare::Rule;
use super::error::{Error, Result};
use super::union::{Tree, Union};
use crate::overlay::{Attr, Overlay};
use crate::sys::Time;

/// What is compared at a time.
const PIECE: usize = 256 << 10;

/// An object and its path.
#[derive(Clone, Copy)]
pub(super) struct Pair<'a> {
    pub path: &'a [u8],
    /// In the tree that is shown, and below.
    pub top: &'a Attr,
    pub base: &'a Attr,
}

pub(super) fn kind(attr: &Attr) -> u32 {
    attr.mode & libc::S_IFMT
}

impl Union {
    /// Whether the object differs from the one below, of which both trees have the type. Contents are read only if
    /// `deep`; else those of files that look alike count as equal.
    pub(super) fn differs(&self, pair: Pair<'_>, rule: Rule, deep: bool) -> Result<bool> {
        let Pair { path, top, base } = pair;
        let Some(below) = &self.base else { return Ok(true) };
        let looks = |a: &Attr| (a.mode, a.uid, a.gid, a.rdev);
        if looks(top) != looks(base) {
            return Ok(true);
        }
        let is_dir = kind(top) == libc::S_IFDIR;
        if !is_dir {
            let places = (self.top.on_disk(top.ino), below.on_disk(base.ino));
            let (here, there) = (places.0.map_err(Error::read(path))?, places.1.map_err(Error::read(path))?);
            // One object, shown by both.
            if !here.upper && (here.dev, here.ino) == (there.dev, there.ino) {
                return Ok(false);
            }
        }
        let same_time = if is_dir && rule == Rule::Docker { true } else { rule.same_time(top.mtime, base.mtime) };
        if !same_time || (!is_dir && top.size != base.size) {
            return Ok(true);
        }
        // Which other names a file has is part of what it is; whoever finds out does it for all of them at once.
        if rule == Rule::Exact && !is_dir && (top.nlink > 1 || base.nlink > 1) {
            return Ok(true);
        }
        if Tree(&self.top).xattrs(top.ino, path)? != Tree(below).xattrs(base.ino, path)? {
            return Ok(true);
        }
        match kind(top) {
            libc::S_IFLNK => {
                let read = |tree: &Overlay, ino| tree.read_link(ino).map_err(Error::read(path));
                Ok(read(&self.top, top.ino)? != read(below, base.ino)?)
            }
            libc::S_IFREG if rule == Rule::Exact && deep => self.contents_differ(below, pair),
            _ => Ok(false),
        }
    }

    fn contents_differ(&self, below: &Overlay, pair: Pair<'_>) -> Result<bool> {
        let (mut ours, mut theirs) = (vec![0; PIECE], vec![0; PIECE]);
        let mut at = 0;
        loop {
            let read =
                |tree: &Overlay, ino, buffer: &mut [u8]| tree.read(ino, at, buffer).map_err(Error::read(pair.path));
            let (a, b) = (read(&self.top, pair.top.ino, &mut ours)?, read(below, pair.base.ino, &mut theirs)?);
            if ours[..a] != theirs[..b] {
                return Ok(true);
            }
            if a == 0 {
                return Ok(false);
            }
            at += a as u64;
        }
    }
}

impl Rule {
    /// Docker compares seconds when one of the times has no more than those: it came from an archive that had no more.
    fn same_time(self, a: Time, b: Time) -> bool {
        match self {
            Rule::Exact => a == b,
            Rule::Docker => a.sec == b.sec && (a.nsec == b.nsec || a.nsec == 0 || b.nsec == 0),
        }
    }
}
