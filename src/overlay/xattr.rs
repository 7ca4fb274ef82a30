//! Extended attributes of the merged view. The union's own are hidden; those that an overlay inside the mount makes are
//! stored escaped, as kernel overlayfs does ("Nesting overlayfs mounts" in its documentation).

use std::ffi::{CStr, CString};

use super::acl::{ACCESS, DEFAULT};
use super::error::{Error, Result};
use super::inode::Ino;
use super::sync::mark_unsynced;
use super::{Caller, Overlay};
use crate::layer::xattr::{Shown, escape, is_internal, show};
use crate::sys::{At, Errno, xattr};

/// The name under which an attribute is stored.
fn stored(name: &CStr) -> Result<CString> {
    match escape(name.to_bytes()) {
        Some(escaped) => Ok(escaped),
        None if is_internal(name.to_bytes()) => Err(Error::Reserved),
        None => Ok(name.to_owned()),
    }
}

impl Overlay {
    /// The value of an attribute.
    ///
    /// # Errors
    /// [`Error::NoAttribute`] if the object does not have it.
    pub fn get_xattr(&self, ino: Ino, name: &CStr) -> Result<Vec<u8>> {
        let inode = self.inode(ino)?;
        let name = stored(name).map_err(|_| Error::NoAttribute)?;
        self.at(&inode, |at| xattr::get(at, &name)?.ok_or(Error::NoAttribute))
    }

    /// Names of all attributes, each ended by a zero byte; `trusted.*` are for root only (xattr(7)).
    pub fn list_xattr(&self, ino: Ino, caller: Caller) -> Result<Vec<u8>> {
        let inode = self.inode(ino)?;
        let list = self.at(&inode, |at| Ok(xattr::list(at)?))?;
        let mut shown = Vec::with_capacity(list.len());
        let denied = |name: &[u8]| caller.uid != 0 && name.starts_with(b"trusted.");
        for name in list.split(|&b| b == 0).filter(|n| !n.is_empty() && !denied(n)) {
            match show(name) {
                Shown::Hidden => continue,
                Shown::AsIs => shown.extend_from_slice(name),
                Shown::Unescaped(name) => shown.extend_from_slice(&name),
            }
            shown.push(0);
        }
        Ok(shown)
    }

    /// Sets an attribute; `flags` as in setxattr(2).
    pub fn set_xattr(&self, ino: Ino, name: &CStr, value: &[u8], flags: i32, caller: Caller) -> Result<()> {
        let inode = self.inode(ino)?;
        self.writable()?;
        let stored = stored(name)?;
        self.copy_up(&inode)?;
        self.at(&inode, |at| {
            xattr::set(at, &stored, value, flags)?;
            if name == ACCESS { self.drop_set_gid(at, caller) } else { Ok(()) }
        })?;
        mark_unsynced(&inode);
        self.note_acl(&inode, name);
        Ok(())
    }

    /// Removes an attribute.
    pub fn remove_xattr(&self, ino: Ino, name: &CStr) -> Result<()> {
        let inode = self.inode(ino)?;
        self.writable()?;
        let stored = stored(name).map_err(|_| Error::NoAttribute)?;
        if name == c"security.capability" {
            inode.state.lock().extra_mut().lost_capabilities = true;
        }
        // Not copied up for nothing.
        if self.at(&inode, |at: At<'_>| Ok(xattr::get(at, &stored)?))?.is_none() {
            // An access control list that is not there can be removed (acl_delete_def_file(3) says so).
            return if [ACCESS, DEFAULT].contains(&name) { Ok(()) } else { Err(Error::NoAttribute) };
        }
        self.copy_up(&inode)?;
        self.at(&inode, |at| match xattr::remove(at, &stored) {
            Err(e) if e.is(Errno::NODATA) => Err(Error::NoAttribute),
            other => Ok(other?),
        })?;
        mark_unsynced(&inode);
        self.note_acl(&inode, name);
        Ok(())
    }

    fn note_acl(&self, inode: &std::sync::Arc<super::inode::Inode>, name: &CStr) {
        let Some(dir) = inode.dir.as_ref().filter(|_| name == DEFAULT) else { return };
        let has = self.at(inode, super::copy_up::has_default_acl);
        // Not knowing, ask the file system to decide: with a default ACL the umask is not applied by us.
        dir.ns.write().default_acl = has.unwrap_or(true);
    }
}
