//! Writing what marks an object of upper as part of a union.

use std::ffi::OsStr;
use std::os::fd::AsFd;

use super::Overlay;
use super::copy_up::restore_times;
use super::error::Result;
use super::owner::as_owner;
use crate::layer::whiteout::{self, AUFS_OPAQUE, Form};
use crate::layer::xattr::Marker;
use crate::sys::{self, At, Errno, xattr};

impl Overlay {
    /// Sets a marker.
    pub(super) fn mark(&self, at: At<'_>, marker: Marker, value: &[u8]) -> Result<()> {
        as_owner(at, || Ok(xattr::set(at, self.markers.name(marker), value, 0)?))
    }

    /// Makes a directory opaque, in one step. `xwhiteouts`: it can hold whiteouts by attribute, which is said by the same
    /// marker and has to be said otherwise then.
    pub(super) fn mark_opaque(&self, at: At<'_>, xwhiteouts: bool) -> Result<()> {
        if !self.attributes {
            return place_opaque_file(at);
        }
        if xwhiteouts {
            self.mark(at, Marker::Whiteout, b"y")?;
        }
        self.mark(at, Marker::Opaque, b"y")
    }
}

/// The marker of a directory that cannot have attributes.
fn place_opaque_file(dir: At<'_>) -> Result<()> {
    let fd = match dir {
        At::Fd(fd) => sys::open_dir_path(fd, OsStr::new(""))?,
        At::Name(dir, name) => sys::open_dir(dir, name)?,
    };
    let at = At::Fd(fd.as_fd());
    let before = sys::stat(at)?;
    as_owner(at, || match whiteout::create(fd.as_fd(), OsStr::new(AUFS_OPAQUE), Form::Beside) {
        Err(e) if e.is(Errno::EXIST) => Ok(()),
        made => Ok(made?),
    })?;
    restore_times(at, &before);
    Ok(())
}
