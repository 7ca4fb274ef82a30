//! New upper directories.

use crate::layer::root::copy_attributes;
use crate::sys::{self, Errno, Fd};
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
