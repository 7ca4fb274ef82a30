//! Owner, mode, extended attributes and times of an object, in the form of the layer.

use super::entry::Meta;
use super::form::{Form, Owners};
use crate::layer::override_stat::{self, OverrideStat};
use crate::layer::xattr::{escape, is_internal};
use crate::sys::{self, At, Errno, SetTime, Time, xattr};
use std::ffi::{CStr, CString};

/// What new entries of a directory inherit. Set last, so that those of the layer do not.
pub(super) const DEFAULT_ACL: &CStr = c"system.posix_acl_default";

/// The type of an object, as far as its attributes differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    File,
    Directory,
    Symlink,
    Fifo,
    Char(u32, u32),
    Block(u32, u32),
}

impl Type {
    /// Type bits, major and minor number.
    fn numbers(self) -> (u32, u32, u32) {
        match self {
            Type::File => (libc::S_IFREG, 0, 0),
            Type::Directory => (libc::S_IFDIR, 0, 0),
            Type::Symlink => (libc::S_IFLNK, 0, 0),
            Type::Fifo => (libc::S_IFIFO, 0, 0),
            Type::Char(major, minor) => (libc::S_IFCHR, major, minor),
            Type::Block(major, minor) => (libc::S_IFBLK, major, minor),
        }
    }
}

/// Gives a new object its attributes; the number of extended attributes that were lost.
///
/// Directories do not get their time, which what is made in them would change.
pub(super) fn set_all(form: Form, at: At<'_>, kind: Type, meta: &Meta) -> sys::Result<u64> {
    match form.owners {
        Owners::Native => {
            sys::chown(at, Some(meta.uid), Some(meta.gid))?;
            if kind != Type::Symlink {
                sys::chmod(at, meta.mode)?;
            }
        }
        Owners::OverrideStat => {
            if !matches!(kind, Type::Symlink | Type::Directory) {
                sys::chmod(at, if meta.mode & 0o111 != 0 { 0o700 } else { 0o600 })?;
            }
            override_stat(at, kind, meta.uid, meta.gid, meta.mode)?;
        }
    }
    let mut lost = 0;
    for (name, value) in &meta.xattrs {
        let deferred = kind == Type::Directory && name.as_c_str() == DEFAULT_ACL && form.owners == Owners::Native;
        if !deferred {
            lost += u64::from(!set_one(form, at, name, value)?);
        }
    }
    if kind != Type::Directory {
        set_time(at, meta.mtime)?;
    }
    Ok(lost)
}

/// Keeps owner, mode and type in an attribute. Symbolic links cannot have one.
pub(super) fn override_stat(at: At<'_>, kind: Type, uid: u32, gid: u32, mode: u32) -> sys::Result<()> {
    if kind == Type::Symlink {
        return Ok(());
    }
    let value = OverrideStat { uid, gid, mode, kind: Some(kind.numbers()) }.to_string();
    xattr::set(at, override_stat::NAME, value.as_bytes(), 0)
}

/// Sets the times of last access and change.
pub(super) fn set_time(at: At<'_>, time: Time) -> sys::Result<()> {
    sys::set_times(at, SetTime::At(time), SetTime::At(time))
}

/// Sets an attribute under the name that it has in a layer; false when it cannot be kept.
fn set_one(form: Form, at: At<'_>, name: &CStr, value: &[u8]) -> sys::Result<bool> {
    let Some(stored) = stored_name(form, name) else {
        log::warn!("attribute {name:?} means something in a layer and is left out");
        return Ok(false);
    };
    match xattr::set(at, &stored, value, 0) {
        Ok(()) => Ok(true),
        Err(e) if e.is(Errno::OPNOTSUPP) || e.is(Errno::PERM) => {
            log::warn!("attribute {name:?} is left out: {e}");
            Ok(false)
        }
        Err(e) => Err(e),
    }
}

/// Under which name an attribute is stored.
///
/// Those of overlayfs are escaped, as mounts do it, so that they mean something to an overlay inside the image and
/// nothing to us. Those of fuse-overlayfs and of rootless tools have no such form; an archive that could set them would
/// set whiteouts, owners and modes past all checks, so they are refused.
fn stored_name(form: Form, name: &CStr) -> Option<CString> {
    if let Some(escaped) = escape(name.to_bytes()) {
        return Some(escaped);
    }
    if is_internal(name.to_bytes()) || override_stat::is_own(name.to_bytes()) {
        return None;
    }
    if form.owners == Owners::OverrideStat
        && let Some(aside) = override_stat::Dialect::Containers.aside(name.to_bytes())
    {
        // The real ones would act on the real owner, or may not be set.
        return Some(aside);
    }
    Some(name.into())
}

/// Takes the attributes of an earlier entry off a directory, markers excepted.
pub(super) fn clear(at: At<'_>, implied: &CStr) -> sys::Result<()> {
    let list = xattr::list(at)?;
    for name in list.split_inclusive(|b| *b == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        if name != implied && is_internal(name.to_bytes()) {
            continue;
        }
        match xattr::remove(at, name) {
            // Labels that the system itself gives cannot be taken off.
            Err(e) if e.is(Errno::PERM) || e.is(Errno::OPNOTSUPP) || e.is(Errno::NODATA) || e.is(Errno::ACCESS) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Gives `to` owner, mode, attributes and times of `from`, which is in another layer of the same form.
pub(super) fn copy(from: At<'_>, to: At<'_>, stat: &sys::Stat) -> sys::Result<()> {
    sys::chown(to, Some(stat.uid), Some(stat.gid))?;
    if !stat.is_symlink() {
        sys::chmod(to, stat.mode)?;
    }
    let list = xattr::list(from)?;
    for name in list.split_inclusive(|b| *b == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        if is_internal(name.to_bytes()) {
            continue;
        }
        let Some(value) = xattr::get(from, name)? else { continue };
        match xattr::set(to, name, &value, 0) {
            // Labels that the system itself gives; what the layer below could keep, this one can.
            Err(e) if e.is(Errno::PERM) || e.is(Errno::OPNOTSUPP) => {}
            other => other?,
        }
    }
    sys::set_times(to, SetTime::At(stat.mtime), SetTime::At(stat.mtime))
}
