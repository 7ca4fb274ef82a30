//! Removing names.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use super::Overlay;
use super::dir::InUpper;
use super::error::{Error, Result};
use super::inode::{Ino, Inode};
use super::names::Changing;
use super::owner::as_owner;
use crate::sys::{self, At, Errno, RenameFlags};

impl Overlay {
    /// Removes a name of something other than a directory. The object stays usable by its number until it is forgotten.
    pub fn unlink(&self, parent: Ino, name: &OsStr) -> Result<()> {
        let parent = self.directory(parent)?;
        self.writable()?;
        let (child, _) = self.lookup_in(&parent, name)?;
        let done = if child.is_dir() { Err(Error::IsDirectory) } else { self.unlink_child(&parent, name, &child) };
        self.forget(child.ino, 1);
        done
    }

    fn unlink_child(&self, parent: &Arc<Inode>, name: &OsStr, child: &Arc<Inode>) -> Result<()> {
        let link = child.link(parent, name).ok_or(Error::NotFound)?;
        self.bring_link_up(child, &link)?;
        let mut names = self.changing(parent)?;
        let link = child.link(parent, name).ok_or(Error::NotFound)?;
        let _counting = self.counting(Some(child))?;
        self.keep(child, &names.ns, names.fd(), &link)?;
        let done = self.count_by_upper(child).and_then(|()| self.vanish(&mut names, parent, name));
        if let Err(e) = done {
            self.release(child);
            return Err(e);
        }
        self.drop_link(child, parent, name);
        self.counted(child, -1);
        Ok(())
    }

    /// Makes `name`, which is not a directory in upper, disappear from the merged view in one step.
    fn vanish(&self, names: &mut Changing<'_>, parent: &Inode, name: &OsStr) -> Result<()> {
        let work = &self.writable()?.work;
        let slot = names.ns.slot(name);
        let in_upper = slot.upper == InUpper::Present || names.ns.index.is_none();
        let left = match (in_upper, slot.below) {
            (true, false) => {
                sys::unlink(names.fd(), name)?;
                InUpper::Absent
            }
            (false, _) => self.place_whiteout(names, name)?,
            (true, true) if self.hides_beside()? => {
                self.hide_ahead(names, name)?;
                sys::unlink(names.fd(), name).inspect_err(|_| self.unhide(names, name))?;
                InUpper::WhiteoutBeside
            }
            (true, true) => {
                self.admit_whiteouts(names)?;
                let whiteout = work.temporary_whiteout()?;
                if let Err(e) = sys::rename(work.fd(), &whiteout, names.fd(), name, RenameFlags::empty()) {
                    work.discard(&whiteout);
                    return Err(e.into());
                }
                InUpper::Whiteout
            }
        };
        self.note_upper(names, parent, name, left, 0, 0);
        Ok(())
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, parent: Ino, name: &OsStr) -> Result<()> {
        let parent = self.directory(parent)?;
        self.writable()?;
        let (child, _) = self.lookup_in(&parent, name)?;
        let done = if child.is_dir() { self.rmdir_child(&parent, name, &child) } else { Err(Error::NotDirectory) };
        self.forget(child.ino, 1);
        done
    }

    fn rmdir_child(&self, parent: &Arc<Inode>, name: &OsStr, child: &Arc<Inode>) -> Result<()> {
        // Opened now: opening takes locks, and the directory must stay readable for those who have it open.
        let dir = child.dir.as_ref().ok_or(Error::NotDirectory)?;
        let in_upper = dir.ns.read().upper;
        let kept = self.top_dir(child)?;
        let mut names = self.changing(parent)?;
        if child.link(parent, name).is_none() {
            return Err(Error::NotFound);
        }
        let mut content = dir.ns.write();
        if content.upper != in_upper {
            drop((content, names));
            return self.rmdir_child(parent, name, child);
        }
        // What upper alone has need not be read to know whether it is empty.
        let plain = in_upper && content.lowers.is_empty() && !names.ns.slot(name).below;
        if !(plain && self.remove_if_empty(&mut names, parent, name, InUpper::Absent)?) {
            self.fill_index(child, &mut content, in_upper.then(|| kept.as_fd()))?;
            if !content.index.as_ref().is_some_and(|i| i.is_empty()) {
                return Err(Error::NotEmpty);
            }
            self.remove_dir_in_upper(&mut names, parent, name, content.upper.then(|| kept.as_fd()))?;
        }
        content.removed = true;
        content.index = None;
        drop(content);
        self.keep_dir(child, kept);
        self.drop_link(child, parent, name);
        Ok(())
    }

    /// Removes a directory with nothing below it that shows, unless there is something in it, which nobody may see. `left`
    /// is what remains.
    fn remove_if_empty(&self, names: &mut Changing<'_>, parent: &Inode, name: &OsStr, left: InUpper) -> Result<bool> {
        match sys::rmdir(names.fd(), name) {
            Ok(()) => {
                self.note_upper(names, parent, name, left, 0, 0);
                Ok(true)
            }
            Err(e) if e.is(Errno::NOTEMPTY) || e.is(Errno::EXIST) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    fn remove_dir_in_upper(
        &self,
        names: &mut Changing<'_>,
        parent: &Inode,
        name: &OsStr,
        in_upper: Option<BorrowedFd<'_>>,
    ) -> Result<()> {
        let work = &self.writable()?.work;
        let below = names.ns.slot(name).below;
        let mut left = InUpper::Absent;
        match in_upper {
            None => left = self.place_whiteout(names, name)?,
            Some(fd) if below && self.hides_beside()? => {
                left = InUpper::WhiteoutBeside;
                self.hide_ahead(names, name)?;
                let removed = self.remove_dir_alone(names, parent, name, fd, left);
                return removed.inspect_err(|_| self.unhide(names, name));
            }
            Some(fd) if below => {
                self.admit_whiteouts(names)?;
                let whiteout = work.temporary_whiteout()?;
                let swapped = as_owner(At::Fd(fd), || {
                    Ok(sys::rename(work.fd(), &whiteout, names.fd(), name, RenameFlags::EXCHANGE)?)
                });
                work.discard(&whiteout);
                swapped?;
                left = InUpper::Whiteout;
            }
            Some(fd) => return self.remove_dir_alone(names, parent, name, fd, left),
        }
        self.note_upper(names, parent, name, left, 0, 0);
        Ok(())
    }

    /// Removes a directory of upper that shows nothing. `left` is what remains.
    fn remove_dir_alone(
        &self,
        names: &mut Changing<'_>,
        parent: &Inode,
        name: &OsStr,
        fd: BorrowedFd<'_>,
        left: InUpper,
    ) -> Result<()> {
        if self.remove_if_empty(names, parent, name, left)? {
            return Ok(());
        }
        // It holds whiteouts, which nobody sees.
        let work = &self.writable()?.work;
        let aside = work.temporary();
        as_owner(At::Fd(fd), || Ok(sys::rename(names.fd(), name, work.fd(), &aside, RenameFlags::NOREPLACE)?))?;
        work.discard(&aside);
        self.note_upper(names, parent, name, left, 0, 0);
        Ok(())
    }
}
