//! What is on disk under a name: in which layer, with which number, and where its data are.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use parking_lot::MutexGuard;

use super::Overlay;
use super::dir::{InUpper, IndexEntry, Namespace};
use super::error::{Error, Result};
use super::identity::Origin;
use super::inode::{Extra, Ino, Inode, LayerIndex, UPPER};
use super::merge::{ShownAs, empty_file, join};
use crate::layer::markers;
use crate::layer::origin::OverlayHandle;
use crate::sys::{self, At, Errno, Stat};

/// An object that was found on disk.
pub(super) struct Found<'a> {
    pub ino: Ino,
    pub layer: LayerIndex,
    pub stat: Stat,
    pub upper: Option<u64>,
    pub ns: Option<Namespace>,
    pub extra: Option<Box<Extra>>,
    /// Held for a file in the index until the object is known, or its number of names could change unseen.
    pub counting: Option<MutexGuard<'a, ()>>,
}

impl Found<'_> {
    /// Something without directory content or extra part.
    pub fn new(ino: Ino, layer: LayerIndex, stat: Stat) -> Self {
        let upper = (layer == UPPER).then_some(stat.ino);
        Self { ino, layer, stat, upper, ns: None, extra: None, counting: None }
    }
}

/// What lies below a name of upper, or at a name of a lower layer.
struct Below<'a> {
    /// Positions in [`Namespace::lowers`], see [`IndexEntry::lowers`].
    positions: &'a [u16],
    /// Whether these are directories.
    dirs: bool,
    /// `DT_*` of the topmost object, if the index has it.
    kind: Option<u8>,
}

impl<'a> Below<'a> {
    fn of(entry: &'a IndexEntry) -> Self {
        Self { positions: &entry.lowers, dirs: entry.lower_kind == libc::DT_DIR, kind: Some(entry.kind) }
    }
}

impl Overlay {
    /// Looks for `name` in the layers. The caller holds the directory's lock.
    pub(super) fn find(
        &self,
        parent: &Arc<Inode>,
        ns: &Namespace,
        upper: Option<BorrowedFd<'_>>,
        name: &OsStr,
    ) -> Result<Option<Found<'_>>> {
        let Some(index) = &ns.index else {
            let layer = if ns.upper { UPPER } else { ns.lowers.first().map_or(UPPER, |l| l.layer) };
            return self.find_in(parent, ns, upper, name, layer, &Below { positions: &[0], dirs: true, kind: None });
        };
        let Some(entry) = index.get(name) else { return Ok(None) };
        match (entry.upper, entry.lowers.first()) {
            (InUpper::Present, _) => self.find_in(parent, ns, upper, name, UPPER, &Below::of(entry)),
            (InUpper::Absent, Some(&top)) => {
                let layer = ns.lowers[usize::from(top)].layer;
                self.find_in(parent, ns, upper, name, layer, &Below::of(entry))
            }
            (InUpper::Absent, None) | (InUpper::Whiteout | InUpper::WhiteoutBeside, _) => Ok(None),
        }
    }

    /// Looks at `name` in the layer that should have it; `lowers` are the parent's directories that may merge.
    fn find_in(
        &self,
        parent: &Arc<Inode>,
        ns: &Namespace,
        upper: Option<BorrowedFd<'_>>,
        name: &OsStr,
        layer: LayerIndex,
        below: &Below<'_>,
    ) -> Result<Option<Found<'_>>> {
        let lower;
        let dir = match ns.lowers.iter().find(|l| l.layer == layer) {
            Some(l) => {
                lower = self.lower_dir(parent, l.layer, &l.path)?;
                lower.as_fd()
            }
            None => upper.ok_or(Error::Stale)?,
        };
        let at = At::Name(dir, name);
        let disk = match sys::stat(at) {
            Ok(stat) => stat,
            Err(e) if e.is(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        if disk.is_whiteout_dev() {
            return Ok(None);
        }
        let stat = self.shown(at, disk)?;
        if stat.is_dir() {
            let positions = if ns.lowers.is_empty() || !below.dirs { &[] } else { below.positions };
            return self.found_dir(ns, at, name, layer, stat, positions).map(Some);
        }
        let shown_as = match below.kind {
            _ if !disk.is_file() || disk.size != 0 => ShownAs::File,
            Some(libc::DT_CHR) => ShownAs::Node,
            Some(_) => ShownAs::File,
            None => {
                let known = ns.lowers.iter().find(|l| l.layer == layer).and_then(|l| l.marks);
                let marks = known.map_or_else(|| Ok((&markers::read_dir_markers(dir)?).into()), Ok::<_, Error>)?;
                empty_file(at, marks)?
            }
        };
        if shown_as == ShownAs::Nothing {
            return Ok(None);
        }
        let mut found = if layer == UPPER {
            self.found_upper(ns, at, name, stat, below)?
        } else {
            self.found_lower(ns, at, name, layer, stat)?
        };
        if shown_as == ShownAs::Node {
            found.stat.mode = libc::S_IFCHR | found.stat.mode & !libc::S_IFMT;
        }
        Ok(Some(found))
    }

    fn found_dir(
        &self,
        ns: &Namespace,
        at: At<'_>,
        name: &OsStr,
        layer: LayerIndex,
        stat: Stat,
        positions: &[u16],
    ) -> Result<Found<'_>> {
        let mut found = Found::new(self.id(&stat), layer, stat);
        let At::Name(dir, _) = at else { return Err(Error::Invalid) };
        let mut content = Namespace::default();
        if layer == UPPER {
            let fd = sys::open_dir(dir, name)?;
            let markers = markers::read_dir_markers(fd.as_fd())?;
            (content.impure, content.xwhiteouts) = (markers.impure, markers.xwhiteouts);
            content.default_acl = markers.has_default_acl(self.override_stat);
            let aufs_opaque = !positions.is_empty() && markers::has_aufs_opaque(fd.as_fd())?;
            if !aufs_opaque {
                content.lowers = self.lower_dirs(ns, name, Some(&markers), positions)?.into();
            }
            content.upper = true;
            // The number of the topmost lower directory, so that copy-up does not change it.
            if let Some(lower) = content.lowers.first() {
                let fd = sys::open_path_rel(self.layer(lower.layer)?.root.as_fd(), &lower.path)?;
                found.ino = self.id(&sys::stat(At::Fd(fd.as_fd()))?);
            } else if let Some(value) = &markers.origin
                && let Some(origin) = self.origin(value, markers.number)?
            {
                found.ino = origin.ino;
            }
        } else {
            content.lowers = self.lower_dirs(ns, name, None, positions)?.into();
        }
        found.ns = Some(content);
        Ok(found)
    }

    fn found_lower(
        &self,
        ns: &Namespace,
        at: At<'_>,
        name: &OsStr,
        layer: LayerIndex,
        stat: Stat,
    ) -> Result<Found<'_>> {
        let mut found = Found::new(self.id(&stat), layer, stat);
        let impure = ns.lowers.iter().any(|l| l.layer == layer && l.marks.is_some_and(|m| m.impure));
        if impure || self.has_data_layers() {
            let markers = markers::read_file_markers(at)?;
            self.attach_data(ns, name, &mut found, &markers)?;
        }
        let has_index = self.upper.as_ref().is_some_and(|u| u.work.index.is_some());
        if stat.nlink > 1
            && has_index
            && self.indexable(stat.file_type())
            && let Some(handle) = self.handle(self.layer(layer)?, at, &stat)?
        {
            found.counting = Some(self.upper()?.counting.lock());
            let Some(upper) = self.indexed(&handle)? else { return Ok(found) };
            found.upper = Some(upper.ino);
            let metadata_only = self.index_markers(&handle.index_name())?.metacopy;
            let extra = found.extra.get_or_insert_default();
            extra.index = Some(handle.index_name());
            extra.nlink = Some(self.union_nlink(&handle.index_name(), &upper, stat.nlink)?);
            if !metadata_only {
                extra.data = None;
            } else if extra.data.is_none() {
                let lower = ns.lowers.iter().find(|l| l.layer == layer).ok_or(Error::Stale)?;
                extra.data = Some((layer, join(&lower.path, name)));
            }
            found.stat = upper;
        }
        Ok(found)
    }

    fn found_upper(
        &self,
        ns: &Namespace,
        at: At<'_>,
        name: &OsStr,
        stat: Stat,
        below: &Below<'_>,
    ) -> Result<Found<'_>> {
        let mut found = Found::new(self.id(&stat), UPPER, stat);
        if !ns.impure && !self.has_data_layers() {
            return Ok(found);
        }
        let markers = self.as_owner(at, || Ok(markers::read_file_markers(at)?))?;
        self.attach_data(ns, name, &mut found, &markers)?;
        let Some(value) = &markers.origin else { return Ok(found) };
        let origin = match self.origin(value, markers.number)? {
            None if stat.nlink <= 1 => self.origin_by_name(ns, name, value, below)?,
            origin => origin,
        };
        if let Some(origin) = origin.as_ref().filter(|o| o.nlink <= 1) {
            found.ino = origin.ino;
            return Ok(found);
        }
        if origin.is_none() && stat.nlink <= 1 {
            return Ok(found);
        }
        // A lower file with several links: only the one copy in the index has the right to its number.
        let handle = OverlayHandle::from_bytes(value);
        found.counting = Some(self.upper()?.counting.lock());
        if let Some(index) = self.indexed(&handle)?.filter(|i| i.ino == stat.ino) {
            found.ino = origin.as_ref().map_or(found.ino, |o| o.ino);
            found.stat = index;
            // Where the lower file is not to be found, all its names are taken to be in upper, beside the index entry.
            let lower_links = origin.map_or(index.nlink - 1, |o| o.nlink);
            let extra = found.extra.get_or_insert_default();
            extra.index = Some(handle.index_name());
            extra.nlink = Some(self.union_nlink(&handle.index_name(), &index, lower_links)?);
        }
        Ok(found)
    }

    /// Without the right to open handles an origin is still recognised in the lower file of the same name.
    fn origin_by_name(&self, ns: &Namespace, name: &OsStr, value: &[u8], below: &Below<'_>) -> Result<Option<Origin>> {
        let Some(lower) = below.positions.first().and_then(|&p| ns.lowers.get(usize::from(p))) else {
            return Ok(None);
        };
        let layer = self.layer(lower.layer)?;
        let fd = match sys::open_path_rel(layer.root.as_fd(), &join(&lower.path, name)) {
            Ok(fd) => fd,
            Err(e) if e.is(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let at = At::Fd(fd.as_fd());
        let stat = sys::stat(at)?;
        let same = self.handle(layer, at, &stat)?.is_some_and(|h| h.as_bytes() == value);
        if !same {
            return Ok(None);
        }
        Ok(Some(Origin { ino: self.id(&stat), nlink: stat.nlink }))
    }
}
