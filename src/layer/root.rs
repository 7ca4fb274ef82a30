//! The root of a layer: what the root of the union looks like is decided by the topmost one.

use super::xattr::is_internal;
use crate::sys::{self, At, Errno, Fd, SetTime, xattr};
use std::ffi::CStr;

/// Gives the directory `to` the owner, mode, modification time and attributes of `from`.
///
/// Markers of the layer format are not copied, nor SELinux labels. The owner stays where it may not be changed.
pub fn copy_attributes(from: Fd<'_>, to: Fd<'_>) -> sys::Result<()> {
    let (at, target) = (At::Fd(from), At::Fd(to));
    let stat = sys::stat(at)?;
    match sys::chown(target, Some(stat.uid), Some(stat.gid)) {
        // By an ordinary user, or in a user namespace that does not have the owner: it may be in the attribute that is copied below.
        Err(e) if [Errno::PERM, Errno::INVAL, Errno::OVERFLOW].contains(&e.errno) => {}
        changed => changed?,
    }
    sys::chmod(target, stat.mode)?;
    let list = xattr::list(at)?;
    for name in list.split_inclusive(|b| *b == 0).filter_map(|n| CStr::from_bytes_with_nul(n).ok()) {
        if is_internal(name.to_bytes()) || name.to_bytes() == b"security.selinux" {
            continue;
        }
        let value = xattr::get(at, name)?;
        xattr::set(target, name, &value.unwrap_or_default(), 0)?;
    }
    sys::set_times(target, SetTime::Omit, SetTime::At(stat.mtime))
}
