//! The two trees: the one that is shown, and what it would be without its upper directory.

use super::error::{Error, Result};
use super::same::kind;
use crate::overlay::{self, Attr, Caller, Ino, Options, Overlay, ROOT};
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Who asks: `trusted.*` attributes are listed to root only, and belong into a layer.
const ROOT_CALLER: Caller = Caller::new(0, 0, 0);

/// `.` and `..` come before this offset.
const BEHIND_DOTS: u64 = 2;

/// A merged tree, and the one below it that it is compared with.
pub struct Union {
    pub(super) top: Overlay,
    /// Absent when there is nothing below: then everything counts as added.
    pub(super) base: Option<Overlay>,
    /// Where owners are in attributes, which symbolic links cannot have: to whom all is on disk.
    disk_owner: Option<u32>,
}

/// What a merged tree consists of.
#[derive(Clone, Copy, Debug)]
pub struct Stack<'a> {
    /// `upper` and `work` of a writable layer, which may be mounted at the same time.
    pub writable: Option<(&'a Path, &'a Path)>,
    /// The layers below, topmost first.
    pub lower: &'a [PathBuf],
    /// Owners and devices are in an attribute ([`Options::override_stat`]).
    pub override_stat: bool,
    /// How many descriptors may be open.
    pub fd_limit: u64,
}

impl Union {
    /// A tree, to be compared with the layers below its writable one.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn of_changes(stack: &Stack<'_>) -> Result<Self> {
        let half = Stack { fd_limit: stack.fd_limit / 2, ..*stack };
        let below = Stack { writable: None, ..half };
        let base = if stack.lower.is_empty() { None } else { Some(Overlay::open(&options(&below))?) };
        Ok(Self {
            top: Overlay::open(&options(&half))?,
            base,
            disk_owner: disk_owner(stack.lower.first().filter(|_| stack.override_stat))?,
        })
    }

    /// The same for a mount with these options, which goes on.
    ///
    /// # Errors
    /// [`Error::Open`].
    pub fn of_mount(options: &Options) -> Result<Self> {
        let top = Options { frozen: true, fd_limit: options.fd_limit / 2, ..options.clone() };
        let base = Options { upper: None, work: None, frozen: false, ..top.clone() };
        let disk_owner = disk_owner(options.lower.first().filter(|_| options.override_stat))?;
        Ok(Self { top: Overlay::open(&top)?, base: Some(Overlay::open(&base)?), disk_owner })
    }

    /// A tree that is compared with nothing: all of it is told, as added.
    ///
    /// # Errors
    /// [`Error::Open`], also when there is no layer at all.
    pub fn of_all(stack: &Stack<'_>) -> Result<Self> {
        Ok(Self {
            top: Overlay::open(&options(stack))?,
            base: None,
            disk_owner: disk_owner(stack.lower.first().filter(|_| stack.override_stat))?,
        })
    }

    /// The owner that an archive says. A link whose own one is lost is root's, as nearly all links of images are, and not
    /// that of somebody on this machine.
    pub(super) fn owner(&self, attr: &Attr) -> (u32, u32) {
        match kind(attr) {
            libc::S_IFLNK if self.disk_owner == Some(attr.uid) => (0, 0),
            _ => (attr.uid, attr.gid),
        }
    }
}

/// The owner on disk of a layer that holds owners in attributes.
fn disk_owner(layer: Option<&PathBuf>) -> Result<Option<u32>> {
    let Some(path) = layer else { return Ok(None) };
    match path.metadata() {
        // Links that root made have the owner that they were given.
        Ok(metadata) => Ok(Some(metadata.uid()).filter(|uid| *uid != 0)),
        Err(source) => Err(overlay::OpenError::Directory { role: "lower layer", path: path.clone(), source }.into()),
    }
}

fn options(stack: &Stack<'_>) -> Options {
    let mut options = Options { lower: stack.lower.to_vec(), fd_limit: stack.fd_limit, ..Options::default() };
    options.override_stat = stack.override_stat;
    if let Some((upper, work)) = stack.writable {
        (options.upper, options.work, options.frozen) = (Some(upper.into()), Some(work.into()), true);
    }
    options
}

/// A tree and how it is asked: paths are for messages, and every object that is found is to be forgotten.
pub(super) struct Tree<'a>(pub &'a Overlay);

impl Tree<'_> {
    pub fn root(&self) -> Result<Attr> {
        self.0.get_attr(ROOT).map_err(Error::read(b""))
    }

    /// What the tree shows at `name` of `dir`; known until it is forgotten.
    pub fn lookup(&self, dir: Ino, name: &[u8], path: &[u8]) -> Result<Option<Attr>> {
        match self.0.lookup(dir, OsStr::from_bytes(name)) {
            Ok(attr) => Ok(Some(attr)),
            Err(e) if e.errno() == libc::ENOENT => Ok(None),
            Err(e) => Err(Error::read(path)(e)),
        }
    }

    pub fn forget(&self, ino: Ino) {
        if ino != ROOT {
            self.0.forget(ino, 1);
        }
    }

    /// The names in a directory, in byte order.
    pub fn names(&self, dir: Ino, path: &[u8]) -> Result<Vec<Box<[u8]>>> {
        let mut names: Vec<Box<[u8]>> = Vec::new();
        let sink: crate::overlay::Sink<'_> = &mut |entry| {
            names.push(entry.name.as_bytes().into());
            true
        };
        self.0.read_dir(dir, BEHIND_DOTS, false, sink).map_err(Error::read(path))?;
        names.sort_unstable();
        Ok(names)
    }

    /// The attributes that the tree shows, in byte order, without what the system gives by itself.
    pub fn xattrs(&self, ino: Ino, path: &[u8]) -> Result<Vec<(CString, Vec<u8>)>> {
        let list = self.0.list_xattr(ino, ROOT_CALLER).map_err(Error::read(path))?;
        let mut found = Vec::new();
        for name in list.split_inclusive(|b| *b == 0).filter_map(|name| CStr::from_bytes_with_nul(name).ok()) {
            if SYSTEM.contains(&name) {
                continue;
            }
            match self.0.get_xattr(ino, name) {
                Ok(value) => found.push((name.to_owned(), value)),
                // Removed since.
                Err(e) if e.errno() == libc::ENODATA => {}
                Err(e) => return Err(Error::read(path)(e)),
            }
        }
        found.sort_unstable();
        Ok(found)
    }
}

/// Labels and signatures of the machine, not of the image.
const SYSTEM: [&CStr; 3] = [c"security.selinux", c"security.ima", c"security.evm"];
