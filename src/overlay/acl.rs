//! Inheriting a default ACL (acl(5), "Object creation and default ACLs") for objects that are made aside and moved into place.

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

/// Gives `to` the ACLs that an object made with `mode` in the directory `parent` inherits; returns its mode.
pub fn inherit(parent: At<'_>, to: At<'_>, mode: u32, is_dir: bool) -> Result<u32> {
    let Some(default) = xattr::get(parent, DEFAULT)? else { return Ok(mode) };
    let (access, mode) = access_acl(&default, mode).ok_or(Error::Invalid)?;
    if access.len() > HEADER + 3 * ENTRY {
        xattr::set(to, ACCESS, &access, 0)?;
    }
    if is_dir {
        xattr::set(to, DEFAULT, &default, 0)?;
    }
    Ok(mode)
}

/// The access ACL and the mode of a new object: what the default ACL grants, less what the mode does not ask for.
fn access_acl(default: &[u8], mode: u32) -> Option<(Vec<u8>, u32)> {
    let mut acl = default.to_vec();
    let tags: Vec<u16> = acl.get(HEADER..)?.chunks_exact(ENTRY).map(|e| u16::from_le_bytes([e[0], e[1]])).collect();
    let group_tag = if tags.contains(&MASK) { MASK } else { GROUP_OBJ };
    let mut granted = mode & 0o7000;
    for (entry, tag) in acl.get_mut(HEADER..)?.chunks_exact_mut(ENTRY).zip(tags) {
        let shift = match tag {
            USER_OBJ => 6,
            OTHER => 0,
            t if t == group_tag => 3,
            _ => continue,
        };
        let allowed = u32::from(u16::from_le_bytes([entry[2], entry[3]])) & (mode >> shift) & 7;
        granted |= allowed << shift;
        entry[2..4].copy_from_slice(&(allowed as u16).to_le_bytes());
    }
    Some((acl, granted))
}
