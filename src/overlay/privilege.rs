//! Set-id bits that a change takes away.
//!
//! The kernel leaves this to us (`FUSE_HANDLE_KILLPRIV_V2`), and the daemon of root may do everything, so that the file
//! system below does not do it either. File capabilities are removed by the file system below at every write.

use std::os::fd::AsFd;
use std::sync::Arc;

use super::error::Result;
use super::inode::{Ino, Inode};
use super::{Attr, Caller, Overlay};
use crate::sys::{self, At};

/// Set-user-id and set-group-id.
pub(super) const SET_ID: u32 = libc::S_ISUID | libc::S_ISGID;

impl Caller {
    /// Whether the caller is a member of the group (`in_group_p` of the kernel). A process that is gone, or is not seen
    /// from here, is in no group but that of the request.
    fn is_in(self, gid: u32) -> bool {
        self.gid == gid || sys::process::groups(self.pid).is_some_and(|groups| groups.contains(&gid))
    }

    /// User 0 of the machine counts as having `CAP_FSETID`: FUSE does not tell.
    pub(super) fn keeps_set_id(self) -> bool {
        self.is_root
    }
}

impl Overlay {
    /// Clears set-user-id, and set-group-id of an executable file or of one whose group the caller is not in, before a write
    /// by an ordinary user (inode(7), `setattr_should_drop_sgid` of the kernel): a write that fails half-way has changed
    /// the file too. True if there were any: what the caller knows of the mode is wrong then.
    pub fn drop_set_id(&self, ino: Ino, caller: Caller) -> Result<bool> {
        self.writable()?;
        let inode = self.inode(ino)?;
        let before = inode.state.lock().no_set_id;
        if before.is_known() {
            return Ok(false);
        }
        let fd = self.data_for_writing(&inode)?;
        let at = At::Fd(fd.as_fd());
        let stat = self.stat(at)?;
        if stat.mode & SET_ID == 0 {
            inode.state.lock().no_set_id.learn(before);
        }
        self.drop_set_id_of(at, &stat, caller)
    }

    /// The same for an object whose attributes were `before`: its old group counts when that is what changes.
    pub(super) fn drop_set_id_of(&self, at: At<'_>, before: &sys::Stat, caller: Caller) -> Result<bool> {
        let kept = without_set_id(before, || caller.is_in(before.gid));
        if kept != before.mode {
            self.chmod(at, kept & 0o7777)?;
        }
        Ok(kept != before.mode)
    }

    /// After an access ACL was set: the mode it implies has no set-group-id if an ordinary caller is not in the group
    /// (`posix_acl_update_mode` of the kernel).
    pub(super) fn drop_set_gid(&self, at: At<'_>, caller: Caller) -> Result<()> {
        let stat = self.stat(at)?;
        if stat.mode & libc::S_ISGID != 0 && !caller.keeps_set_id() && !caller.is_in(stat.gid) {
            self.chmod(at, stat.mode & 0o7777 & !libc::S_ISGID)?;
        }
        Ok(())
    }

    /// What the kernel asks for before it writes a file by itself, on behalf of `caller`. It asks when set-id bits have to
    /// go, and when it has removed capabilities; if both may be meant, only root keeps the bits.
    pub fn before_unseen_write(&self, ino: Ino, caller: Caller) -> Result<Attr> {
        let inode = self.inode(ino)?;
        let capabilities = inode.state.lock().extra.as_mut().is_some_and(|e| std::mem::take(&mut e.lost_capabilities));
        if !capabilities || !caller.keeps_set_id() {
            self.drop_set_id(ino, caller)?;
        }
        self.attr(&inode)
    }

    /// A change of nothing: chown(2) to nobody new takes set-id bits away, and so does the kernel on behalf of somebody
    /// who writes. It does not say which, so that only the owner's and root's count; the write itself takes them away too.
    pub(super) fn change_nothing(&self, inode: &Arc<Inode>, caller: Caller) -> Result<()> {
        let stat = self.at(inode, |at| self.stat(at))?;
        let allowed = caller.uid == stat.uid || caller.is_root;
        let kept = without_set_id(&stat, || caller.keeps_set_id() || caller.is_in(stat.gid));
        if inode.is_dir() || !allowed || kept == stat.mode {
            return Ok(());
        }
        // For root the kernel asks before a write only after it removed capabilities.
        let before_write = inode.state.lock().extra.as_mut().is_some_and(|e| std::mem::take(&mut e.lost_capabilities));
        if before_write && caller.keeps_set_id() {
            return Ok(());
        }
        self.copy_up(inode)?;
        self.at(inode, |at| self.chmod(at, kept & 0o7777))
    }
}

/// The mode without the bits that a change takes away.
pub(super) fn without_set_id(stat: &sys::Stat, keeps_group: impl FnOnce() -> bool) -> u32 {
    let mut kept = stat.mode & !libc::S_ISUID;
    let of_group = stat.mode & libc::S_IXGRP != 0;
    if stat.mode & libc::S_ISGID != 0 && (of_group || !keeps_group()) {
        kept &= !libc::S_ISGID;
    }
    kept
}
