//! Access control lists (acl(5)): inheriting a default one, for objects that are made aside and moved into place, and
//! keeping list and mode in step where the file system does not do it.

use super::Overlay;
use super::error::{Error, Result};
use crate::sys::{At, xattr};

/// The attribute that holds the access ACL.
pub const ACCESS: &std::ffi::CStr = c"system.posix_acl_access";
/// The attribute that holds the default ACL of a directory.
pub const DEFAULT: &std::ffi::CStr = c"system.posix_acl_default";

// Layout of the attribute: a version of four bytes, then entries of tag (2), permissions (2), id (4), little endian.
const HEADER: usize = 4;
const ENTRY: usize = 8;
const USER_OBJ: u16 = 0x01;
const GROUP_OBJ: u16 = 0x04;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

impl Overlay {
    /// Gives `to` the ACLs that an object made with `mode` in the directory `parent` inherits; returns its mode.
    pub(super) fn inherit_acl(&self, parent: At<'_>, to: At<'_>, mode: u32, is_dir: bool) -> Result<u32> {
        let Some(default) = self.get_acl(parent, DEFAULT)? else { return Ok(mode) };
        let (access, mode) = access_acl(&default, mode).ok_or(Error::Invalid)?;
        let set = |name, value: &[u8]| xattr::set(to, self.aside(name).as_deref().unwrap_or(name), value, 0);
        if !is_minimal(&access) {
            set(ACCESS, &access)?;
        }
        if is_dir {
            set(DEFAULT, &default)?;
        }
        Ok(mode)
    }
}

/// "Object creation and default ACLs" of acl(5): the access ACL and the mode of a new object are what the default ACL
/// grants, less what the mode does not ask for.
fn access_acl(default: &[u8], mode: u32) -> Option<(Vec<u8>, u32)> {
    let mut granted = mode & 0o7000;
    let acl = each_of_mode(default, |entry, shift| {
        let allowed = entry & (mode >> shift) & 7;
        granted |= allowed << shift;
        allowed
    })?;
    Some((acl, granted))
}

/// The ACL after chmod(2) to `mode`.
pub fn with_mode(acl: &[u8], mode: u32) -> Option<Vec<u8>> {
    each_of_mode(acl, |_, shift| (mode >> shift) & 7)
}

/// The permission bits that an access ACL implies.
pub fn mode_of(acl: &[u8]) -> Option<u32> {
    let mut mode = 0;
    each_of_mode(acl, |entry, shift| {
        mode |= (entry & 7) << shift;
        entry
    })?;
    Some(mode)
}

/// Whether an ACL says no more than a mode does: owner, group and others.
pub fn is_minimal(acl: &[u8]) -> bool {
    acl.len() <= HEADER + 3 * ENTRY
}

/// The ACL with other permissions in the entries that correspond to the three parts of the mode: `change` gets those of
/// the entry and where in the mode they are. `None` for what is no ACL.
fn each_of_mode(acl: &[u8], mut change: impl FnMut(u32, u32) -> u32) -> Option<Vec<u8>> {
    let mut acl = acl.to_vec();
    let tags: Vec<u16> = acl.get(HEADER..)?.chunks_exact(ENTRY).map(|e| u16::from_le_bytes([e[0], e[1]])).collect();
    let group_tag = if tags.contains(&MASK) { MASK } else { GROUP_OBJ };
    for (entry, tag) in acl.get_mut(HEADER..)?.chunks_exact_mut(ENTRY).zip(tags) {
        let shift = match tag {
            USER_OBJ => 6,
            OTHER => 0,
            t if t == group_tag => 3,
            _ => continue,
        };
        let permissions = change(u16::from_le_bytes([entry[2], entry[3]]).into(), shift);
        entry[2..4].copy_from_slice(&(permissions as u16).to_le_bytes());
    }
    Some(acl)
}
