//! In which form owners, devices and markers are kept: what this process may do on this file system decides.

use super::Result;
use crate::layer::xattr::{Marker, Namespace};
use crate::sys::{self, At, Fd};
use std::ffi::{CStr, OsStr};
use std::os::fd::AsFd;

/// The attribute in which rootless tools keep owner, mode and type.
pub use crate::layer::override_stat::NAME as OVERRIDE_STAT;

/// How owner, mode and device numbers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// As the file system has them.
    Native,
    /// In [`OVERRIDE_STAT`]: files belong to the caller, with modes 0600 or 0700; devices and FIFOs are empty files.
    ///
    /// Symbolic links cannot carry that attribute; theirs is lost, as with other rootless tools.
    OverrideStat,
}

/// In which form a layer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Where the markers of the layer format live.
    pub namespace: Namespace,
    /// How owners and modes are kept.
    pub owners: Owners,
    /// Whether a whiteout is the character device 0:0; else an empty file with `overlay.whiteout`.
    pub device_whiteouts: bool,
}

/// On a directory that no entry has described yet.
const IMPLIED: [&CStr; 2] = [c"trusted.overlay.laminafs.implied", c"user.overlay.laminafs.implied"];

const PROBE: &str = ".laminafs-probe";

impl Form {
    /// Finds out what this process may do in `dir`, by trying on an object that is removed again.
    ///
    /// # Errors
    /// [`super::Error::System`] when not even a directory can be made, or it takes no extended attributes at all.
    pub fn probe(dir: Fd<'_>) -> Result<Self> {
        let name = OsStr::new(PROBE);
        sys::mkdir(dir, name, 0o700)?;
        let found = sys::open_dir(dir, name).and_then(|inner| probe_in(inner.as_fd()));
        sys::rmdir(dir, name)?;
        Ok(found?)
    }

    /// The attribute on a directory that no entry has described yet; gone when the layer is complete.
    pub(super) fn implied(self) -> &'static CStr {
        IMPLIED[usize::from(self.namespace == Namespace::User)]
    }
}

fn probe_in(dir: Fd<'_>) -> sys::Result<Form> {
    let at = At::Fd(dir);
    let namespace = match sys::xattr::set(at, Namespace::Trusted.name(Marker::Opaque), b"y", 0) {
        Ok(()) => Namespace::Trusted,
        Err(_) => {
            sys::xattr::set(at, Namespace::User.name(Marker::Opaque), b"y", 0)?;
            Namespace::User
        }
    };
    let name = OsStr::new("p");
    let device = |major, minor| {
        let made = sys::mknod(dir, name, libc::S_IFCHR | 0o600, major, minor);
        made.is_ok() && sys::unlink(dir, name).is_ok()
    };
    let device_whiteouts = device(0, 0);
    let native = device(1, 3) && sys::chown(at, Some(1), Some(1)).is_ok();
    if native {
        sys::chown(at, Some(0), Some(0))?;
    }
    let owners = if native { Owners::Native } else { Owners::OverrideStat };
    Ok(Form { namespace, owners, device_whiteouts })
}
