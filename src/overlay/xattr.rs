//! Extended attributes of the merged view. The union's own are hidden; those that an overlay inside the mount makes are
//! stored escaped, as kernel overlayfs does ("Nesting overlayfs mounts" in its documentation).

use std::ffi::CStr;

use super::acl::{ACCESS, DEFAULT};
use super::error::{Error, Result};
use super::inode::Ino;
use super::sync::mark_unsynced;
use super::{Caller, Overlay};
use crate::layer::override_stat as form;
use crate::layer::xattr::{Shown, show};
use crate::sys::{At, xattr};

impl Overlay {
    /// The value of an attribute.
    ///
    /// # Errors
    /// [`Error::NoAttribute`] if the object does not have it.
    pub fn get_xattr(&self, ino: Ino, name: &CStr) -> Result<Vec<u8>> {
        let inode = self.inode(ino)?;
        let stored = self.stored_name(name).map_err(|_| Error::NoAttribute)?;
        self.at(&inode, |at| self.shown_xattr(at, name, &stored)?.ok_or(Error::NoAttribute))
    }

    /// Names of all attributes, each ended by a zero byte; `trusted.*` are for root only (xattr(7)).
    pub fn list_xattr(&self, ino: Ino, caller: Caller) -> Result<Vec<u8>> {
        let inode = self.inode(ino)?;
        let list = self.at(&inode, |at| Ok(xattr::list(at)?))?;
        let mut shown = Vec::with_capacity(list.len());
        let denied = |name: &[u8]| !caller.is_root && name.starts_with(b"trusted.");
        for name in list.split(|&b| b == 0).filter(|n| !n.is_empty() && !denied(n)) {
            match show(name) {
                Shown::Hidden => continue,
                Shown::AsIs if self.override_stat => match self.kept_aside(name, &list) {
                    Some(name) => shown.extend_from_slice(name),
                    None => continue,
                },
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
        let stored = self.stored_name(name)?;
        self.copy_up(&inode)?;
        self.at(&inode, |at| {
            if ![ACCESS, DEFAULT].contains(&name) {
                return Ok(xattr::set(at, &stored, value, flags)?);
            }
            self.set_acl(at, name, value, flags)?;
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
        let stored = self.stored_name(name).map_err(|_| Error::NoAttribute)?;
        if name == c"security.capability" {
            inode.state.lock().extra_mut().lost_capabilities = true;
        }
        // Not copied up for nothing.
        if self.at(&inode, |at: At<'_>| self.shown_xattr(at, name, &stored))?.is_none() {
            // An access control list that is not there can be removed (acl_delete_def_file(3) says so).
            return if [ACCESS, DEFAULT].contains(&name) { Ok(()) } else { Err(Error::NoAttribute) };
        }
        self.copy_up(&inode)?;
        self.at(&inode, |at| self.remove_shown_xattr(at, name, &stored))?;
        mark_unsynced(&inode);
        self.note_acl(&inode, name);
        Ok(())
    }

    /// How a stored name appears with [`super::Options::override_stat`]: not at all, as itself, or as what is kept aside
    /// under it. What is kept aside and there under its own name too is one attribute.
    fn kept_aside<'a>(&self, stored: &'a [u8], list: &[u8]) -> Option<&'a [u8]> {
        let there = |name: &[u8]| list.split(|&b| b == 0).any(|n| n == name);
        if form::is_own(stored) {
            // One of the first dialect that has it.
            let name = form::shown(stored)?;
            let first = self.dialects.iter().filter_map(|d| d.aside(name)).find(|aside| there(aside.to_bytes()))?;
            return Some(name).filter(|_| first.to_bytes() == stored);
        }
        let twice = self.dialects.iter().any(|d| d.aside(stored).is_some_and(|aside| there(aside.to_bytes())));
        if twice { None } else { Some(stored) }
    }

    fn note_acl(&self, inode: &std::sync::Arc<super::inode::Inode>, name: &CStr) {
        let Some(dir) = inode.dir.as_ref().filter(|_| name == DEFAULT) else { return };
        let has = self.at(inode, |at| self.has_default_acl(at));
        // Not knowing, ask the file system to decide: with a default ACL the umask is not applied by us.
        dir.ns.write().default_acl = has.unwrap_or(true);
    }
}
