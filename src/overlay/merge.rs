//! Which lower directories a directory is merged from, and reading them all into its index.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::Overlay;
use super::dir::{EntryMarks, InUpper, Index, IndexEntry, LowerDir, Namespace, Open};
use super::error::{Error, Result};
use super::inode::{Inode, LayerIndex, Name, UPPER};
use crate::layer::markers::{self, DirMarkers};
use crate::layer::redirect::Redirect;
use crate::layer::whiteout::{self, NameKind};
use crate::sys::{self, At, Errno};

/// `dir/name` as a path in a layer.
pub fn join(dir: &OsStr, name: &OsStr) -> Arc<OsStr> {
    if dir.is_empty() {
        return name.into();
    }
    let mut path = dir.as_bytes().to_vec();
    path.push(b'/');
    path.extend_from_slice(name.as_bytes());
    std::ffi::OsString::from_vec(path).into()
}

/// What a layer holds at a path, as far as merging directories goes.
pub(super) enum Probe {
    /// Nothing; the layers below are asked for the path `next`, which differs if a directory on the way has a redirect.
    Nothing { next: Arc<OsStr> },
    /// A whiteout or something that is not a directory: nothing below it is merged.
    Stop,
    /// A directory. `covered`: it, or a directory above it, hides what is below.
    Directory { marks: EntryMarks, covered: bool, next: Arc<OsStr>, redirect: Option<Redirect> },
}

/// Where to look in the next layer.
pub(super) enum Next {
    /// In the parent's directories, from this position on.
    Name(Name),
    /// In every layer, by path.
    Path(Arc<OsStr>),
}

impl Next {
    pub fn of(redirect: Redirect) -> Self {
        match redirect {
            Redirect::Absolute(path) => Self::Path(OsStr::from_bytes(&path).into()),
            Redirect::Name(name) => Self::Name(OsStr::from_bytes(&name).into()),
        }
    }
}

impl Overlay {
    /// Finds the lower directories that merge under the name `name` of a directory consisting of `ns`.
    ///
    /// `upper` holds the markers of upper's directory there, if there is one; `positions` the lower directories of the
    /// parent that are known to have the name (from the index). Follows redirects as kernel overlayfs does
    /// ("redirect_dir" in its documentation).
    pub(super) fn lower_dirs(
        &self,
        ns: &Namespace,
        name: &OsStr,
        upper: Option<&DirMarkers>,
        positions: &[u16],
    ) -> Result<Vec<LowerDir>> {
        let mut found = Vec::new();
        let mut redirect = None;
        if let Some(markers) = upper {
            if markers.opaque {
                return Ok(found);
            }
            redirect = self.followed(markers);
        }
        if redirect.is_none() {
            for (n, &position) in positions.iter().enumerate() {
                let lower = &ns.lowers[usize::from(position)];
                let path = join(&lower.path, name);
                found.push(LowerDir { layer: lower.layer, path: path.clone(), marks: None });
                if self.is_lowest(lower.layer) {
                    return Ok(found);
                }
                let last = n + 1 == positions.len();
                let fd = sys::open_dir_path(self.layer(lower.layer)?.root.as_fd(), &path)?;
                let markers = markers::read_dir_markers(fd.as_fd())?;
                redirect = self.followed(&markers);
                if let Some(dir) = found.last_mut() {
                    dir.marks = Some((&markers).into());
                }
                if markers.opaque || (!last && markers::has_aufs_opaque(fd.as_fd())?) {
                    return Ok(found);
                }
                if redirect.is_some() {
                    break;
                }
            }
        }
        if let Some(redirect) = redirect {
            self.follow(ns, redirect, &mut found)?;
        }
        Ok(found)
    }

    fn followed(&self, markers: &DirMarkers) -> Option<Redirect> {
        // Those of ordinary users do not lead a daemon with more rights into other directories.
        let believed = markers.trusted_redirect || self.believes_users;
        markers.redirect.clone().filter(|_| self.follow && believed)
    }

    /// Continues below `found` under another name.
    pub(super) fn follow(&self, ns: &Namespace, first: Redirect, found: &mut Vec<LowerDir>) -> Result<()> {
        let mut layer = found.last().map_or(UPPER, |l| l.layer);
        let mut next = Next::of(first);
        loop {
            layer += 1;
            let path = match &next {
                Next::Path(path) => path.clone(),
                Next::Name(name) => {
                    let Some(dir) = ns.lowers.iter().find(|l| l.layer >= layer) else { return Ok(()) };
                    layer = dir.layer;
                    join(&dir.path, name)
                }
            };
            if usize::from(layer) > self.lowers.len() {
                return Ok(());
            }
            if self.layer(layer)?.data_only {
                continue;
            }
            match self.probe(layer, &path)? {
                Probe::Stop => return Ok(()),
                // The parent's own directories were found by its redirects already: only a path follows those on it.
                Probe::Nothing { next: path } => {
                    if let Next::Path(_) = next {
                        next = Next::Path(path);
                    }
                }
                Probe::Directory { marks, covered, next: below, redirect } => {
                    found.push(LowerDir { layer, path, marks: Some(marks) });
                    if covered {
                        return Ok(());
                    }
                    next = match (next, redirect) {
                        (Next::Path(_), _) => Next::Path(below),
                        (Next::Name(_), Some(redirect)) => Next::of(redirect),
                        (next, None) => next,
                    };
                }
            }
        }
    }

    /// What a layer holds at a path, looking at every directory on the way: one that is opaque hides what is below.
    pub(super) fn probe(&self, layer: LayerIndex, path: &OsStr) -> Result<Probe> {
        let root = self.layer(layer)?.root.as_fd();
        let mut dir = sys::open_dir_path(root, OsStr::new(""))?;
        let mut covered = false;
        let mut marks = EntryMarks { impure: false, xwhiteouts: false, nested: false };
        let mut redirect = None;
        // Where the layers below have what was passed so far.
        let mut below: Arc<OsStr> = OsStr::new("").into();
        let mut parts = path.as_bytes().split(|&b| b == b'/').filter(|part| !part.is_empty());
        while let Some(part) = parts.next() {
            let name = OsStr::from_bytes(part);
            match sys::stat(At::Name(dir.as_fd(), name)) {
                Ok(stat) if stat.is_dir() => {}
                Ok(_) => return Ok(Probe::Stop),
                Err(e) if e.is(Errno::NOENT) => {
                    let hidden = covered || has_aufs_whiteout(dir.as_fd(), name)?;
                    let next = parts.fold(join(&below, name), |p, part| join(&p, OsStr::from_bytes(part)));
                    return Ok(if hidden { Probe::Stop } else { Probe::Nothing { next } });
                }
                Err(e) => return Err(e.into()),
            }
            covered |= has_aufs_whiteout(dir.as_fd(), name)?;
            dir = sys::open_dir(dir.as_fd(), name)?;
            let found = markers::read_dir_markers(dir.as_fd())?;
            covered |= found.opaque || markers::has_aufs_opaque(dir.as_fd())?;
            marks = (&found).into();
            redirect = self.followed(&found);
            below = match &redirect {
                Some(Redirect::Absolute(path)) => OsStr::from_bytes(path).into(),
                Some(Redirect::Name(other)) => join(&below, OsStr::from_bytes(other)),
                None => join(&below, name),
            };
        }
        Ok(Probe::Directory { marks, covered, next: below, redirect })
    }

    /// Whether nothing that merges lies below the layer.
    pub(super) fn is_lowest(&self, layer: LayerIndex) -> bool {
        self.lowers.iter().skip(usize::from(layer)).all(|l| l.data_only)
    }

    /// Reads a directory from all its layers. The caller holds its lock and has opened what is not cached.
    fn read_index(&self, inode: &Inode, ns: &Namespace, upper: Option<BorrowedFd<'_>>) -> Result<Index> {
        let mut index = Index::new(self.indexes.entries.clone());
        if let Some(fd) = upper {
            let list = &mut |each: sys::Each<'_>| sys::read_dir(fd, each);
            read_layer(&mut index, fd, None, None, list)?;
        }
        // Most of many layers are not needed again: who asks them for attributes opens them for that.
        let keep = ns.lowers.len() <= MAX_KEPT;
        for (position, lower) in ns.lowers.iter().enumerate() {
            let position = u16::try_from(position).map_err(|_| Error::Invalid)?;
            let dir = match keep {
                true => self.lower_dir(inode, lower.layer, &lower.path)?,
                false => Arc::new(sys::open_dir_path(self.layer(lower.layer)?.root.as_fd(), &lower.path)?),
            };
            let fd = dir.as_fd();
            // Its position in the directory is ours: it is in use for this one directory, whose lock the caller holds.
            let list = &mut |each: sys::Each<'_>| sys::read_dir_itself(fd, each);
            read_layer(&mut index, fd, Some(position), lower.marks, list)?;
        }
        index.prune();
        Ok(index)
    }

    /// Makes sure that the index exists, given the directory's lock; `upper_dir` must have been called before when the
    /// directory is in upper.
    pub(super) fn fill_index(
        &self,
        inode: &Arc<Inode>,
        ns: &mut Namespace,
        upper: Option<BorrowedFd<'_>>,
    ) -> Result<()> {
        if ns.index.is_none() {
            let index = self.read_index(inode, ns, upper)?;
            ns.index = Some(Box::new(index));
            self.indexes.add(inode);
        }
        Ok(())
    }
}

pub(super) fn has_aufs_whiteout(dir: BorrowedFd<'_>, name: &OsStr) -> Result<bool> {
    let mut marker = whiteout::AUFS_PREFIX.as_bytes().to_vec();
    marker.extend_from_slice(name.as_bytes());
    match sys::stat(At::Name(dir, OsStr::from_bytes(&marker))) {
        Ok(_) => Ok(true),
        Err(e) if e.is(Errno::NOENT) || e.is(Errno::NAMETOOLONG) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Of how many layers a directory may be merged for its descriptors to be kept once it was read.
const MAX_KEPT: usize = 8;

/// Adds one layer's names to the index, as `list` lists them; `position` is `None` for upper. The `marks` are read where
/// they are not known.
fn read_layer(
    index: &mut Index,
    dir: BorrowedFd<'_>,
    position: Option<u16>,
    marks: Option<EntryMarks>,
    list: &mut dyn FnMut(sys::Each<'_>) -> sys::Result<()>,
) -> Result<()> {
    let mut entries: Vec<(Name, u8, u64)> = Vec::new();
    let mut aufs: Vec<Name> = Vec::new();
    list(&mut |e| match whiteout::classify(e.name) {
        NameKind::Plain => entries.push((OsStr::from_bytes(e.name).into(), e.kind, e.ino)),
        NameKind::Whiteout(name) => aufs.push(OsStr::from_bytes(name).into()),
        NameKind::OpaqueMarker | NameKind::AufsInternal => {}
    })?;
    let marks = match marks {
        Some(marks) => marks,
        None => (&markers::read_dir_markers(dir)?).into(),
    };
    let special_files = marks.xwhiteouts || marks.nested;
    for (name, mut kind, ino) in entries {
        if kind == libc::DT_UNKNOWN || kind == libc::DT_CHR || (special_files && kind == libc::DT_REG) {
            let at = At::Name(dir, &name);
            let stat = sys::stat(at)?;
            let empty = stat.is_file() && stat.size == 0;
            let shown_as = if empty { empty_file(at, marks)? } else { ShownAs::File };
            kind = if shown_as == ShownAs::Node { libc::DT_CHR } else { (stat.mode >> 12) as u8 & 0xf };
            if stat.is_whiteout_dev() || shown_as == ShownAs::Nothing {
                match position {
                    None => index.insert(IndexEntry::in_upper(name, kind, ino, InUpper::Whiteout)),
                    Some(_) => hide(index, name),
                }
                continue;
            }
        }
        match position {
            None => index.insert(IndexEntry::in_upper(name, kind, ino, InUpper::Present)),
            Some(position) => add_lower(index, name, kind, ino, position),
        }
    }
    // A marker acts on the layers below, never on its own: it comes after the layer's entries.
    aufs.into_iter().for_each(|name| match index.get(&name).map(|entry| entry.upper) {
        None if position.is_none() => index.insert(IndexEntry::in_upper(name, 0, 0, InUpper::WhiteoutBeside)),
        Some(InUpper::Whiteout) if position.is_none() => {}
        _ => hide(index, name),
    });
    Ok(())
}

/// Whether a lower object called `name` would be hidden if `dir` were the directory of upper over it.
pub fn hides(dir: BorrowedFd<'_>, name: &OsStr) -> Result<bool> {
    let mut index = Index::new(Arc::default());
    read_layer(&mut index, dir, None, None, &mut |each: sys::Each<'_>| sys::read_dir(dir, each))?;
    add_lower(&mut index, name.into(), libc::DT_REG, 0, 0);
    Ok(!index.get(name).is_some_and(IndexEntry::visible))
}

/// What an empty file in a layer stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ShownAs {
    /// Itself.
    File,
    /// A whiteout, in the form for file systems and users that cannot make devices.
    Nothing,
    /// The character device 0:0, which in a layer would be a whiteout.
    Node,
}

/// The same, of an empty file in a directory with these markers.
pub fn empty_file(at: At<'_>, dir: EntryMarks) -> Result<ShownAs> {
    if !dir.xwhiteouts && !dir.nested {
        return Ok(ShownAs::File);
    }
    let markers = markers::read_empty_file_markers(at)?;
    Ok(match (dir.xwhiteouts && markers.whiteout, dir.nested && markers.nested) {
        (true, _) => ShownAs::Nothing,
        (false, true) => ShownAs::Node,
        (false, false) => ShownAs::File,
    })
}

fn add_lower(index: &mut Index, name: Name, kind: u8, real_ino: u64, position: u16) {
    let is_dir = kind == libc::DT_DIR;
    let open = if is_dir { Open::Merging } else { Open::Closed };
    match index.get_mut(&name) {
        None => {
            let lowers = SmallVec::from_slice(&[position]);
            index.insert(IndexEntry { name, kind, real_ino, upper: InUpper::Absent, lowers, lower_kind: kind, open });
        }
        Some(e) => match e.open {
            Open::Free => {
                e.lowers.push(position);
                (e.lower_kind, e.open) = (kind, open);
            }
            Open::Merging if is_dir => e.lowers.push(position),
            Open::Merging => e.open = Open::Closed,
            Open::Closed => {}
        },
    }
}

/// Nothing from further down shows under `name`.
fn hide(index: &mut Index, name: Name) {
    match index.get_mut(&name) {
        Some(e) => e.open = Open::Closed,
        None => {
            let entry = IndexEntry::in_upper(name, 0, 0, InUpper::Absent);
            index.insert(IndexEntry { open: Open::Closed, ..entry });
        }
    }
}

/// How many index entries are kept in all; at some 100 bytes each.
const MAX_ENTRIES: usize = 100_000;

/// Drops indexes, old ones first, when there are too many entries.
#[derive(Default)]
pub struct IndexBudget {
    entries: Arc<AtomicUsize>,
    order: Mutex<VecDeque<Weak<Inode>>>,
}

impl IndexBudget {
    /// Entries of all indexes.
    pub fn entries(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// The directory, whose lock is held for writing, has an index now.
    fn add(&self, inode: &Arc<Inode>) {
        let mut order = self.order.lock();
        order.push_back(Arc::downgrade(inode));
        // Two for one, so that those that were dropped otherwise leave the queue in time.
        for _ in 0..2 {
            let Some(weak) = order.pop_front() else { break };
            let gone = weak.upgrade().is_none_or(|old| {
                old.dir.as_ref().is_none_or(|d| d.ns.try_read().is_some_and(|ns| ns.index.is_none()))
            });
            if !gone {
                order.push_back(weak);
            }
        }
        let mut tries = order.len();
        while self.entries() > MAX_ENTRIES && tries > 1 {
            tries -= 1;
            let Some(weak) = order.pop_front() else { break };
            let Some(old) = weak.upgrade() else { continue };
            match old.dir.as_ref().map(|d| d.ns.try_write()) {
                Some(Some(mut ns)) => ns.index = None,
                _ => order.push_back(weak),
            }
        }
    }
}
