//! Files that hold metadata only (`overlay.metacopy`): which file of a layer below has their data.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use super::Overlay;
use super::dir::Namespace;
use super::error::{Error, Result};
use super::find::Found;
use super::inode::{Inode, LayerIndex};
use super::merge::{Next, Probe, has_aufs_whiteout, join};
use crate::layer::markers::{self, FileMarkers};
use crate::layer::redirect::Redirect;
use crate::sys::{self, At, Errno};

/// What a layer below has of a metacopy file.
enum Below {
    Nothing,
    /// Something that ends the search, or hides what is further down.
    Stop,
    /// Something of this path.
    At(OwnedFd, Arc<OsStr>),
}

impl Overlay {
    pub(super) fn has_data_layers(&self) -> bool {
        self.lowers.last().is_some_and(|l| l.data_only)
    }

    /// Where the data of a file of a lower layer is, if `fd`, which was opened to read it, holds metadata only. A lookup finds this
    /// in directories that copied-up files are marked for (`impure`) or above data-only layers, where most such files are; but
    /// whoever puts layers together by hand may leave that marker out, and what would be read is zeros.
    pub(super) fn data_below(&self, inode: &Inode, fd: BorrowedFd<'_>) -> Result<Option<(LayerIndex, Arc<OsStr>)>> {
        let at = At::Fd(fd);
        if inode.original.size == 0 {
            return Ok(None);
        }
        let markers = markers::read_file_markers(at)?;
        let link = inode.state.lock().links.first().cloned();
        let (true, Some(link)) = (markers.believed_metacopy(self.believes_users), link) else { return Ok(None) };
        let dir = link.parent.dir.as_ref().ok_or(Error::NotDirectory)?;
        let mut found = Found::new(inode.ino, link.layer, sys::stat(at)?);
        self.attach_data(&dir.ns.read_recursive(), &link.name, &mut found, &markers)?;
        let Some(data) = found.extra.and_then(|extra| extra.data) else { return Ok(None) };
        let mut state = inode.state.lock();
        // Copied up meanwhile, it has its data.
        if state.upper.is_none() {
            state.extra_mut().data = Some(data.clone());
        }
        Ok(Some(data))
    }

    /// Finds the data of a file that holds metadata only. Without a redirect, or with one that is a name, they are in the
    /// directories below that its own consists of; a path is one of the layers below, in which directories may have been
    /// moved as well.
    pub(super) fn attach_data(
        &self,
        ns: &Namespace,
        name: &OsStr,
        found: &mut Found<'_>,
        markers: &FileMarkers,
    ) -> Result<()> {
        let all = self.believes_users;
        if !markers.believed_metacopy(all) || !found.stat.is_file() {
            return Ok(());
        }
        let mut next = markers.believed_redirect(all).map_or_else(|| Next::Name(name.into()), |r| Next::of(r.clone()));
        for layer in (1..).take(self.lowers.len()).skip(usize::from(found.layer)) {
            let (fd, path) = match self.below(ns, layer, &mut next)? {
                Below::Nothing => continue,
                Below::Stop => break,
                Below::At(fd, path) => (fd, path),
            };
            if !sys::stat(At::Fd(fd.as_fd()))?.is_file() {
                break;
            }
            let below = markers::read_file_markers(At::Fd(fd.as_fd()))?;
            if !below.believed_metacopy(all) {
                found.extra.get_or_insert_default().data = Some((layer, path));
                return Ok(());
            }
            next = match (next, below.believed_redirect(all)) {
                (next, None) => next,
                // Another name in the directory where it was found.
                (Next::Path(path), Some(Redirect::Name(name))) => {
                    Next::Path(join(split(&path).0, OsStr::from_bytes(name)))
                }
                (_, Some(redirect)) => Next::of(redirect.clone()),
            };
        }
        log::error!("no lower layer holds the data of the metacopy file {}", name.display());
        Err(sys::Error { call: "metacopy", errno: Errno::IO }.into())
    }

    /// What a layer has there; `next` is moved on to where the next layer has it.
    fn below(&self, ns: &Namespace, layer: LayerIndex, next: &mut Next) -> Result<Below> {
        let data_only = self.layer(layer)?.data_only;
        match next {
            Next::Path(path) if data_only => self.at_path(layer, path.clone()),
            Next::Name(name) => match ns.lowers.iter().find(|lower| lower.layer == layer) {
                Some(lower) => self.at_path(layer, join(&lower.path, name)),
                None => Ok(Below::Nothing),
            },
            Next::Path(path) => {
                let own = path.clone();
                let (dir, name) = split(&own);
                match self.probe(layer, dir)? {
                    Probe::Stop => Ok(Below::Stop),
                    Probe::Nothing { next } => {
                        *path = join(&next, name);
                        Ok(Below::Nothing)
                    }
                    Probe::Directory { covered, next, .. } => {
                        *path = join(&next, name);
                        match self.at_path(layer, own.clone())? {
                            Below::Nothing if covered => Ok(Below::Stop),
                            found => Ok(found),
                        }
                    }
                }
            }
        }
    }

    fn at_path(&self, layer: LayerIndex, path: Arc<OsStr>) -> Result<Below> {
        let root = self.layer(layer)?.root.as_fd();
        match sys::open_path_rel(root, &path) {
            Ok(fd) => return Ok(Below::At(fd, path)),
            Err(e) if e.is(Errno::NOENT) || e.is(Errno::NOTDIR) => {}
            Err(e) => return Err(e.into()),
        }
        let (dir, name) = split(&path);
        match sys::open_dir_path(root, dir) {
            Ok(dir) if has_aufs_whiteout(dir.as_fd(), name)? => Ok(Below::Stop),
            Ok(_) => Ok(Below::Nothing),
            Err(e) if e.is(Errno::NOENT) || e.is(Errno::NOTDIR) => Ok(Below::Nothing),
            Err(e) => Err(e.into()),
        }
    }
}

/// The directory and the name of a path that is not the root.
fn split(path: &OsStr) -> (&OsStr, &OsStr) {
    let path = Path::new(path);
    let dir = path.parent().unwrap_or(Path::new(""));
    (dir.as_os_str(), path.file_name().unwrap_or_default())
}
