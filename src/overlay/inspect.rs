//! What a union is made of, for those who compare it with what is below: [`crate::changes`].

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use super::Overlay;
use super::dir::InUpper;
use super::error::Result;
use super::inode::{Ino, LayerIndex, UPPER};
use crate::sys::{self, At, Errno, Stat};

/// The directories that a merged directory consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Upper has one.
    pub upper: bool,
    /// Layer (1 for the topmost below upper) and path in it, topmost first.
    pub lowers: Vec<(LayerIndex, Arc<OsStr>)>,
}

/// A name that upper has in a directory.
#[derive(Clone, Copy, Debug)]
pub struct UpperName<'a> {
    /// The name.
    pub name: &'a OsStr,
    /// It is a whiteout.
    pub whiteout: bool,
    /// Without it a lower layer would show something here.
    pub below: bool,
}

/// Where the data and attributes of an object are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OnDisk {
    /// In upper: made there or copied up, perhaps under another name of the same file.
    pub upper: bool,
    /// Device that holds it.
    pub dev: u64,
    /// Its inode number there; unlike that of the merged view it is never made up.
    pub ino: u64,
}

impl Overlay {
    /// What a directory consists of.
    pub fn parts(&self, ino: Ino) -> Result<Parts> {
        let inode = self.directory(ino)?;
        let dir = inode.dir.as_ref().ok_or(super::Error::NotDirectory)?;
        let ns = dir.ns.read();
        Ok(Parts { upper: ns.upper, lowers: ns.lowers.iter().map(|l| (l.layer, l.path.clone())).collect() })
    }

    /// Calls `each` for every name that upper has in a directory, in no particular order.
    pub fn names_in_upper(&self, ino: Ino, each: &mut dyn FnMut(UpperName<'_>)) -> Result<()> {
        let inode = self.directory(ino)?;
        let names = self.indexed_names(&inode)?;
        let entries = names.ns.index.iter().flat_map(|index| index.entries());
        for entry in entries.filter(|e| e.upper != InUpper::Absent) {
            let whiteout = entry.upper.is_whiteout();
            each(UpperName { name: &entry.name, whiteout, below: !entry.lowers.is_empty() });
        }
        Ok(())
    }

    /// Calls `each` for every object in the index of hard links, with the number of names that it has in the union: upper
    /// may have none of them. What goes meanwhile, as it does beside a live mount, is left out.
    pub fn indexed_files(&self, each: &mut dyn FnMut(OnDisk, u32)) -> Result<()> {
        let Some(index) = self.upper.as_ref().and_then(|upper| upper.work.index.as_ref()) else { return Ok(()) };
        let mut names = Vec::new();
        sys::read_dir(index.as_fd(), &mut |entry| names.push(OsStr::from_bytes(entry.name).to_os_string()))?;
        for name in names {
            match self.indexed_file(At::Name(index.as_fd(), &name), &name) {
                Err(e) if e.is(Errno::NOENT) => {}
                found => {
                    if let Some((place, names)) = found? {
                        each(place, names);
                    }
                }
            }
        }
        Ok(())
    }

    fn indexed_file(&self, at: At<'_>, name: &OsStr) -> Result<Option<(OnDisk, u32)>> {
        let stat = sys::stat(at)?;
        // The kernel keeps directories there too, and whiteouts for what is gone.
        if stat.is_dir() || stat.is_whiteout_dev() {
            return Ok(None);
        }
        let markers = self.index_markers(name)?;
        let origin = match &markers.origin {
            Some(value) => self.origin(value, markers.number)?,
            None => None,
        };
        let lower = origin.map_or(stat.nlink.saturating_sub(1), |origin| origin.nlink);
        let place = OnDisk { upper: true, dev: stat.dev, ino: stat.ino };
        Ok(Some((place, self.union_nlink(name, &stat, lower)?)))
    }

    /// The layer that provides an object, of a directory its attributes: 1 for the lowest, as `laminafs whence` counts.
    /// Layers that only hold data do not count.
    pub fn layer_number(&self, ino: Ino) -> Result<usize> {
        let inode = self.inode(ino)?;
        let layer = match &inode.dir {
            Some(dir) => {
                let ns = dir.ns.read();
                ns.lowers.first().filter(|_| !ns.upper).map_or(UPPER, |lower| lower.layer)
            }
            None if inode.in_upper() => UPPER,
            None => inode.state.lock().links.first().map_or(UPPER, |link| link.layer),
        };
        let lowers = self.lowers.iter().filter(|layer| !layer.data_only).count();
        Ok((lowers + 1).saturating_sub(usize::from(layer)))
    }

    /// Where an object is.
    pub fn on_disk(&self, ino: Ino) -> Result<OnDisk> {
        let inode = self.inode(ino)?;
        let Stat { dev, ino, .. } = self.at(&inode, |at: At<'_>| Ok(sys::stat(at)?))?;
        let upper = match &inode.dir {
            Some(dir) => dir.ns.read().upper,
            None => inode.in_upper(),
        };
        Ok(OnDisk { upper, dev, ino })
    }
}
