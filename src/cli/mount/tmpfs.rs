//! Upper directories in memory, which end with their mount.

use super::image::Ground;
use crate::overlay;
use crate::sys::{self, Errno, MountAttrFlags, Parameter};
use anyhow::{Context, anyhow, bail};
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

impl Ground {
    /// Adds an upper directory on a tmpfs that belongs to this mount alone; `size` is its limit as tmpfs(5) reads it, or
    /// empty for half of the memory.
    ///
    /// No path leads to the tmpfs. It ends with the last process that has it open, however that ends.
    pub fn make_tmpfs(&mut self, size: &OsString) -> anyhow::Result<()> {
        if self.layers.upper.is_some() {
            bail!("--tmpfs-upper makes the upper directory: leave out upperdir= and workdir=");
        }
        let limit = [Parameter::Text("size", size)];
        let parameters = if size.is_empty() { &limit[..0] } else { &limit[..] };
        let tmpfs = sys::new_mount("tmpfs", parameters, MountAttrFlags::empty()).map_err(|refusal| {
            match refusal.error {
                e if e.is(Errno::PERM) => anyhow!(
                    "--tmpfs-upper: an ordinary user may not mount a tmpfs; for an image of the store there is --rm, whose \
                     changes go with the mount too, and for directories --upper and --work"
                ),
                _ => anyhow!("--tmpfs-upper: cannot make a tmpfs: {refusal}"),
            }
        })?;
        if let Some(top) = self.layers.lower.first() {
            overlay::make_upper(tmpfs.as_fd(), top).context("--tmpfs-upper: cannot make the upper directory")?;
        }
        let place = PathBuf::from(format!("/proc/self/fd/{}", tmpfs.as_raw_fd()));
        (self.layers.upper, self.layers.work) = (Some(place.join("upper")), Some(place.join("work")));
        self.held.tmpfs = Some(tmpfs);
        Ok(())
    }
}
