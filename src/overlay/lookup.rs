//! From a name to an object.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::{MutexGuard, RwLockReadGuard, RwLockWriteGuard};
use smallvec::smallvec;

use super::Overlay;
use super::attr::Attr;
use super::dir::{InUpper, IndexEntry, LowerDir, Namespace};
use super::error::{Error, Result};
use super::identity::Origin;
use super::inode::{Extra, Ino, Inode, LayerIndex, Link, Name, Original, State, UPPER};
use super::merge::{ShownAs, empty_file, join};
use crate::layer::markers::{self, FileMarkers};
use crate::layer::origin::OverlayHandle;
use crate::layer::redirect::Redirect;
use crate::layer::whiteout;
use crate::sys::{self, At, Errno, Stat};

/// Longest name, as everywhere on Linux.
const NAME_MAX: usize = 255;

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

/// A directory locked for reading.
pub(super) struct Names<'a> {
    pub ns: RwLockReadGuard<'a, Namespace>,
    upper: Option<Arc<OwnedFd>>,
}

impl Names<'_> {
    /// Upper's directory, if there is one.
    pub fn upper(&self) -> Option<BorrowedFd<'_>> {
        self.upper.as_ref().map(|fd| fd.as_fd())
    }
}

/// A directory of upper locked for a change.
pub(super) struct Changing<'a> {
    pub ns: RwLockWriteGuard<'a, Namespace>,
    pub upper: Arc<OwnedFd>,
}

impl Changing<'_> {
    /// Upper's directory.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.upper.as_fd()
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

pub(super) fn check_name(name: &OsStr) -> Result<()> {
    if name.len() > NAME_MAX { Err(Error::NameTooLong) } else { Ok(()) }
}

impl Overlay {
    /// Finds `name` in `parent` and counts a lookup of it, which [`Overlay::forget`] takes back.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the merged view does not show the name.
    pub fn lookup(&self, parent: Ino, name: &OsStr) -> Result<Attr> {
        let parent = self.directory(parent)?;
        let (inode, stat) = self.lookup_in(&parent, name)?;
        let attr = match stat {
            Some(stat) => Ok(self.attr_of(&inode, &stat)),
            None => self.attr(&inode),
        };
        attr.inspect_err(|_| self.forget(inode.ino, 1))
    }

    /// The object, with a lookup counted, and what `stat` said if it was asked.
    pub(super) fn lookup_in(&self, parent: &Arc<Inode>, name: &OsStr) -> Result<(Arc<Inode>, Option<Stat>)> {
        check_name(name)?;
        if whiteout::reserved(name.as_encoded_bytes()) {
            return Err(Error::NotFound);
        }
        let dir = parent.dir.as_ref().ok_or(Error::NotDirectory)?;
        if let Some(inode) = dir.child(name).and_then(|ino| self.table.get_counted(ino)) {
            if inode.link(parent, name).is_some() {
                return Ok((inode, None));
            }
            // Forgotten under this name and known again under another.
            dir.unlearn(name, |ino| ino == inode.ino);
            self.forget(inode.ino, 1);
        }
        let names = self.names(parent)?;
        let found = self.find(parent, &names.ns, names.upper(), name)?.ok_or(Error::NotFound)?;
        let (stat, in_upper) = (found.stat, found.upper.is_some());
        let inode = self.bind(parent, name.into(), found);
        // A further name of a file that is in upper under another: its attributes are those of upper.
        let stat = Some(stat).filter(|_| inode.in_upper() == in_upper);
        Ok((inode, stat))
    }

    /// Locks a directory's names for reading, with its index read if it is merged.
    pub(super) fn names<'a>(&self, inode: &'a Arc<Inode>) -> Result<Names<'a>> {
        self.names_if(inode, Namespace::merged)
    }

    /// The same, with the index read in any case.
    pub(super) fn indexed_names<'a>(&self, inode: &'a Arc<Inode>) -> Result<Names<'a>> {
        self.names_if(inode, |_| true)
    }

    fn names_if<'a>(&self, inode: &'a Arc<Inode>, needs_index: fn(&Namespace) -> bool) -> Result<Names<'a>> {
        let dir = inode.dir.as_ref().ok_or(Error::NotDirectory)?;
        loop {
            let in_upper = dir.ns.read().upper;
            // Opened before the lock is taken: opening looks at the names of the ancestors, which come first.
            let upper = if in_upper { Some(self.upper_dir(inode)?) } else { None };
            let mut ns = dir.ns.read();
            if ns.index.is_none() && needs_index(&ns) && ns.upper == in_upper && !ns.removed {
                drop(ns);
                let mut changing = dir.ns.write();
                if changing.upper == in_upper && !changing.removed {
                    self.fill_index(inode, &mut changing, upper.as_ref().map(|fd| fd.as_fd()))?;
                }
                ns = RwLockWriteGuard::downgrade(changing);
            }
            if ns.removed {
                return Err(Error::NotFound);
            }
            if ns.upper == in_upper {
                return Ok(Names { ns, upper });
            }
        }
    }

    /// Locks the names of a directory in upper for a change; the index is read if anything lies below.
    pub(super) fn changing<'a>(&self, inode: &'a Arc<Inode>) -> Result<Changing<'a>> {
        self.copy_up_dir(inode)?;
        let upper = self.upper_dir(inode)?;
        self.changing_with(inode, upper)
    }

    /// The same when the directory is in upper and open already.
    pub(super) fn changing_with<'a>(&self, inode: &'a Arc<Inode>, upper: Arc<OwnedFd>) -> Result<Changing<'a>> {
        let dir = inode.dir.as_ref().ok_or(Error::NotDirectory)?;
        let mut ns = dir.ns.write();
        if ns.removed {
            return Err(Error::NotFound);
        }
        if !ns.lowers.is_empty() {
            self.fill_index(inode, &mut ns, Some(upper.as_fd()))?;
        }
        Ok(Changing { ns, upper })
    }

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

    fn has_data_layers(&self) -> bool {
        self.lowers.last().is_some_and(|l| l.data_only)
    }

    /// Finds the data of a file that holds metadata only.
    fn attach_data(&self, ns: &Namespace, name: &OsStr, found: &mut Found, markers: &FileMarkers) -> Result<()> {
        let all = self.believes_users;
        if !markers.believed_metacopy(all) || !found.stat.is_file() {
            return Ok(());
        }
        let mut redirect = markers.believed_redirect(all).cloned();
        let mut layer = found.layer;
        loop {
            layer += 1;
            if usize::from(layer) > self.lowers.len() {
                log::error!("no lower layer holds the data of the metacopy file {}", name.display());
                return Err(sys::Error { call: "metacopy", errno: Errno::IO }.into());
            }
            let data_only = self.layer(layer)?.data_only;
            let path = match &redirect {
                Some(Redirect::Absolute(path)) => std::os::unix::ffi::OsStrExt::from_bytes(path.as_slice()),
                _ if data_only => continue,
                Some(Redirect::Name(other)) => match ns.lowers.iter().find(|l| l.layer == layer) {
                    Some(l) => &*join(&l.path, std::os::unix::ffi::OsStrExt::from_bytes(other.as_slice())),
                    None => continue,
                },
                None => match ns.lowers.iter().find(|l| l.layer == layer) {
                    Some(l) => &*join(&l.path, name),
                    None => continue,
                },
            };
            let root = self.layer(layer)?.root.as_fd();
            let fd = match sys::open_path_rel(root, path) {
                Ok(fd) => fd,
                Err(e) if e.is(Errno::NOENT) || e.is(Errno::NOTDIR) => continue,
                Err(e) => return Err(e.into()),
            };
            let stat = sys::stat(At::Fd(fd.as_fd()))?;
            if !stat.is_file() {
                return Err(sys::Error { call: "metacopy", errno: Errno::IO }.into());
            }
            let below = markers::read_file_markers(At::Fd(fd.as_fd()))?;
            if below.believed_metacopy(all) {
                redirect = below.believed_redirect(all).cloned().or(redirect);
                continue;
            }
            found.extra.get_or_insert_default().data = Some((layer, path.into()));
            return Ok(());
        }
    }

    /// Makes what was found known under `name` and counts a lookup.
    pub(super) fn bind(&self, parent: &Arc<Inode>, name: Name, found: Found<'_>) -> Arc<Inode> {
        let Found { mut ino, layer, stat, upper, mut ns, mut extra, counting: _counting } = found;
        // Found through the index: if the object is known as a lower one, its copy is just being noted.
        let linked_copy = extra.as_ref().is_some_and(|e| e.index.is_some());
        let inode = loop {
            let (inode, new) = self.table.get_or_insert(ino, || {
                let links = smallvec![Link { parent: parent.clone(), name: name.clone(), layer }];
                let state = State { links, upper, extra: extra.take(), ..State::default() };
                let original = Original { size: stat.size, nlink: stat.nlink };
                Inode::new(ino, stat.mode & libc::S_IFMT, state, ns.take()).with(original)
            });
            let same = new || {
                let state = inode.state.lock();
                // A name that only a lower layer has is not connected with a copy outside the index (`index=off`).
                let copied = state.upper.is_some() && state.extra.as_ref().is_none_or(|e| e.index.is_none());
                let is_here = |l: &Link| Arc::ptr_eq(&l.parent, parent) && l.name == name;
                let same_place = !state.links.is_empty() && state.links.iter().all(is_here);
                let same_file = match (upper, state.upper) {
                    // Not every file system has unique numbers.
                    (None, None) => stat.nlink > 1 || same_place,
                    (None, Some(_)) => stat.nlink > 1 && !copied,
                    (Some(_), None) => linked_copy,
                    (Some(a), Some(b)) => a == b,
                };
                inode.kind == stat.mode & libc::S_IFMT && if inode.is_dir() { same_place } else { same_file }
            };
            if same {
                break inode;
            }
            // Two upper files claim one origin, or a number is in use for something else: the later one goes by a
            // number of its own for the life of the mount.
            self.forget(ino, 1);
            ino = self.ids.fresh();
        };
        let nameless = {
            let mut state = inode.state.lock();
            let nameless = state.links.is_empty();
            let known = state.links.iter().any(|l| Arc::ptr_eq(&l.parent, parent) && l.name == name);
            if !known {
                state.links.push(Link { parent: parent.clone(), name: name.clone(), layer });
            }
            nameless
        };
        if nameless {
            self.release(&inode); // a further name of a file whose known names were all removed
        }
        if let Some(dir) = &parent.dir {
            dir.learn(name, inode.ino);
        }
        inode
    }

    /// Takes back `count` lookups; the object is dropped when none remain.
    pub fn forget(&self, ino: Ino, count: u64) {
        let mut gone: Vec<Arc<Inode>> = self.table.forget(ino, count).into_iter().collect();
        while let Some(inode) = gone.pop() {
            let links = std::mem::take(&mut inode.state.lock().links);
            self.release(&inode);
            self.close_cached(&inode);
            if inode.dir.as_ref().is_some_and(|d| d.unsynced.load(Ordering::Relaxed)) {
                self.lost_marks.store(true, Ordering::Relaxed);
            }
            for link in links {
                let Some(dir) = &link.parent.dir else { continue };
                dir.unlearn(&link.name, |ino| ino == inode.ino && self.table.get(ino).is_none());
                gone.extend(self.table.forget(link.parent.ino, 0));
            }
            drop(inode);
            self.table.freed();
        }
    }

    fn close_cached(&self, inode: &Inode) {
        use super::fdcache::Key;
        let Some(dir) = &inode.dir else {
            self.fds.remove(Key::LowerData(inode.ino));
            self.fds.remove(Key::UpperData(inode.ino));
            self.fds.remove(Key::UpperRead(inode.ino));
            return;
        };
        let lowers: Vec<LowerDir> = dir.ns.read().lowers.to_vec();
        self.fds.remove(Key::Dir(inode.ino, UPPER));
        lowers.iter().for_each(|l| self.fds.remove(Key::Dir(inode.ino, l.layer)));
    }
}
