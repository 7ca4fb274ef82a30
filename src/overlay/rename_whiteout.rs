//! Renaming with `RENAME_WHITEOUT`, which an overlay inside the mount asks for.

use std::ffi::OsStr;
use std::sync::Arc;

use super::dir::InUpper;
use super::error::{Error, Result};
use super::inode::{Ino, Inode};
use super::{Caller, Overlay, RenameMode};
use crate::sys::{self, At, Errno, RenameFlags};

impl Overlay {
    /// Renames and leaves the character device 0:0 under the old name (`RENAME_WHITEOUT` of rename(2)): two steps, each
    /// whole in itself. The device is made before, so that little can fail after the first.
    ///
    /// # Errors
    /// When the device cannot be put there, the rename is undone if the new name was free; else the object has its new
    /// name, and the error is `EINTR`, upon which the kernel asks for both names again.
    pub fn rename_leaving_whiteout(
        &self,
        (old_parent, old_name): (Ino, &OsStr),
        (new_parent, new_name): (Ino, &OsStr),
        mode: RenameMode,
        caller: Caller,
    ) -> Result<()> {
        let number = |parent, name| {
            let found = self.lookup(parent, name);
            found.map(|attr| {
                self.forget(attr.ino, 1);
                attr.ino
            })
        };
        let source = number(old_parent, old_name)?;
        let target = match number(new_parent, new_name) {
            Err(Error::NotFound) => None,
            found => Some(found?),
        };
        if target == Some(source) {
            return Ok(()); // two names of one file: rename(2) does nothing
        }
        let parent = self.directory(old_parent)?;
        let node = self.make_nested_whiteout(&parent, caller)?;
        let discard = |_: &Error| self.upper.iter().for_each(|upper| upper.work.discard(&node));
        self.rename(old_parent, old_name, new_parent, new_name, mode).inspect_err(discard)?;
        let placed = self.place_nested_whiteout(&parent, old_name, &node).inspect_err(discard);
        let Err(error) = placed else { return Ok(()) };
        let undone = match target {
            None => self.rename(new_parent, new_name, old_parent, old_name, RenameMode::NoReplace),
            Some(_) => Err(error),
        };
        if undone.is_ok() {
            return Err(error);
        }
        log::error!("{} was renamed, but no device 0:0 is left in its place: {error}", old_name.display());
        Err(sys::Error { call: "rename", errno: Errno::INTR }.into())
    }

    fn place_nested_whiteout(&self, parent: &Arc<Inode>, name: &OsStr, node: &OsStr) -> Result<()> {
        let work = &self.writable()?.work;
        let mut names = self.changing(parent)?;
        let slot = names.ns.slot(name);
        if slot.visible() {
            return Err(Error::Exists); // made by somebody meanwhile
        }
        let over = slot.upper == InUpper::Whiteout;
        let flags = if over { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        let ino = sys::stat(At::Name(work.fd(), node))?.ino;
        sys::rename(work.fd(), node, names.fd(), name, flags)?;
        self.note_upper(&mut names, parent, name, InUpper::Present, libc::S_IFCHR, ino);
        Ok(())
    }
}
