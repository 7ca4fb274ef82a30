//! Giving an object another name.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::create::is_stray_whiteout;
use super::dir::InUpper;
use super::error::{Error, Result};
use super::inode::{Ino, Inode, Link, UPPER};
use super::lookup::check_name;
use super::names::Changing;
use super::{Attr, Overlay};
use crate::layer::whiteout;
use crate::sys::{self, At, Errno, RenameFlags};

impl Overlay {
    /// Makes `name` in `parent` a further name of the object and counts a lookup of it.
    pub fn link(&self, ino: Ino, parent: Ino, name: &OsStr) -> Result<Attr> {
        let work = &self.writable()?.work;
        check_name(name)?;
        if whiteout::reserved(name.as_encoded_bytes()) {
            return Err(Error::Reserved);
        }
        let (inode, parent) = (self.inode(ino)?, self.directory(parent)?);
        if inode.is_dir() {
            return Err(Error::IsDirectory);
        }
        self.copy_up_whole(&inode)?;
        let beside = inode.upper_name_in(&parent).is_some();
        let object = if beside { None } else { Some(self.open_to_link(&inode)?) };
        let may_have_origin = !beside && may_have_origin(&inode);
        self.copy_up_dir(&parent)?;
        self.mark_nested_for(&inode, self.upper_dir(&parent)?.as_fd())?;
        let mut names = self.changing(&parent)?;
        let slot = names.ns.slot(name);
        if slot.visible() {
            return Err(Error::Exists);
        }
        let old = inode.upper_name_in(&parent);
        if object.is_none() && old.is_none() {
            // Renamed meanwhile: it is not in this directory any more.
            drop(names);
            return self.link(ino, parent.ino, name);
        }
        let upper = names.upper.clone();
        let link = |to: sys::Fd<'_>, new: &OsStr| match (&object, &old) {
            (Some(object), _) => Ok(sys::link_fd(object.as_fd(), to, new)?),
            (None, Some(old)) => Ok(sys::link(upper.as_fd(), old, to, new)?),
            (None, None) => Err(Error::NotFound),
        };
        if may_have_origin {
            self.mark_impure(&mut names)?;
        }
        let _counting = self.counting(Some(&inode))?;
        self.count_by_upper(&inode)?;
        let over_whiteout = |names: &Changing<'_>| -> Result<()> {
            let temporary = work.temporary();
            link(work.fd(), &temporary)?;
            sys::rename(work.fd(), &temporary, names.fd(), name, RenameFlags::empty())
                .inspect_err(|_| work.discard(&temporary))?;
            Ok(())
        };
        if slot.upper == InUpper::Whiteout {
            over_whiteout(&names)?;
        } else {
            match link(names.fd(), name) {
                Err(e) if e.is(Errno::EXIST) && is_stray_whiteout(&names, name)? => over_whiteout(&names)?,
                other => other?,
            }
        }
        let upper = inode.state.lock().upper.unwrap_or_default();
        self.note_upper(&mut names, &parent, name, InUpper::Present, inode.kind, upper);
        self.counted(&inode, 1);
        inode.state.lock().links.push(Link { parent: parent.clone(), name: name.into(), layer: UPPER });
        self.release(&inode);
        if let Some(dir) = &parent.dir {
            dir.learn(name.into(), inode.ino);
        }
        let stat = self.stat(At::Name(names.fd(), name))?;
        self.table.get_counted(ino).ok_or(Error::Stale)?;
        Ok(self.attr_of(&inode, &stat))
    }

    /// A descriptor, because the name an object is reached by may be in a directory that comes first in the lock order.
    fn open_to_link(&self, inode: &Arc<Inode>) -> Result<OwnedFd> {
        self.at(inode, |at| match at {
            At::Name(dir, name) => Ok(sys::open_path(dir, name)?),
            // No name is known, but it can have others.
            At::Fd(fd) if self.attr_of(inode, &self.stat(at)?).nlink > 0 => Ok(sys::dup(fd)?),
            At::Fd(_) => Err(Error::NotFound),
        })
    }
}

/// Whether an object of upper can have been copied up: where it has a name in a directory without the `impure` marker it was
/// not.
fn may_have_origin(inode: &Inode) -> bool {
    let parents: Vec<_> =
        inode.state.lock().links.iter().filter(|l| l.layer == UPPER).map(|l| l.parent.clone()).collect();
    let is_pure = |dir: &Arc<Inode>| dir.dir.as_ref().is_some_and(|d| !d.ns.read().impure);
    !parents.iter().any(is_pure)
}
