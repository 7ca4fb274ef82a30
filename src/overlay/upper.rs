//! New upper directories, and what is in one that was used.

use super::work::BESIDE;
use crate::layer::markers::read_dir_markers;
use crate::layer::root::copy_attributes;
use crate::sys::{self, At, Errno, Fd};
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::Path;

/// Makes the directories `upper` and `work` in `place` for a union whose topmost layer is `top`: the root of the union
/// looks like that of the layer.
///
/// That `top` is missing is for [`super::Overlay::open`] to say.
pub fn make_upper(place: Fd<'_>, top: &Path) -> sys::Result<()> {
    let (upper, work) = (OsStr::new("upper"), OsStr::new("work"));
    sys::mkdir(place, work, 0o700)?;
    sys::mkdir(place, upper, 0o755)?;
    match sys::open_root(top) {
        Err(e) if e.is(Errno::NOENT) => Ok(()),
        top => copy_attributes(top?.as_fd(), sys::open_dir(place, upper)?.as_fd()),
    }
}

/// Whether an upper directory may hold whiteouts that kernel overlayfs does not read there: those that are files with an
/// attribute, which it reads in lower layers, and `.wh.NAME`. To it, what they hide is there.
pub fn hides_from_kernel(upper: &Path, work: &Path) -> sys::Result<bool> {
    if read_dir_markers(sys::open_root(upper)?.as_fd())?.xwhiteouts {
        return Ok(true);
    }
    match sys::stat(At::Name(sys::open_root(work)?.as_fd(), OsStr::new(BESIDE))) {
        Ok(_) => Ok(true),
        Err(e) if e.is(Errno::NOENT) => Ok(false),
        Err(e) => Err(e),
    }
}
