//! New upper directories, and what is in one that was used.

use super::work::BESIDE;
use crate::layer::markers::{self, ForKernel, read_dir_markers};
use crate::layer::root::copy_attributes;
use crate::layer::whiteout::reserved;
use crate::layer::xattr::Namespace;
use crate::sys::{self, At, Errno, Fd};
use std::ffi::{CStr, OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

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

/// What kernel overlayfs does not take for what it is in a layer directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// A name that begins with `.wh.`, by its path below the layer: it is shown as a file, and what it hides as well.
    Name(PathBuf),
    /// A mark of the directory at this path below the layer: what it hides is shown, what it says to lie elsewhere is not.
    Mark(PathBuf, &'static CStr),
}

/// Looks through a layer directory, which any program may have written, for names and marks that kernel overlayfs, mounted with
/// `userxattr` or without, does not read.
///
/// What is mounted in the layer is left out, as it is by the kernel, and so is a directory that may be neither listed nor
/// searched: the kernel looks into layers with the rights of who mounts, finds nothing there, and says so (`EACCES`). Reads every
/// other directory: about a second for each million of entries that the kernel has in memory. That `layer` is missing is for
/// mounting to say.
///
/// # Errors
/// With the path of the directory below `layer`: `EACCES` for one that may be searched and not listed, since the kernel finds
/// by name what it is asked for there; `ENAMETOOLONG` for one whose path is too long to be opened (4096 bytes).
pub fn unread_by_kernel(layer: &Path, userxattr: bool) -> Result<Option<Unread>, (PathBuf, sys::Error)> {
    let read = Namespace::of_mount(userxattr);
    let public = match sys::open_root(layer) {
        Err(e) if e.is(Errno::NOENT) => return Ok(None),
        public => public.map_err(|e| (PathBuf::new(), e))?,
    };
    // Where there may be no private mount there may be none of overlayfs either, which will say so.
    let root = sys::private_clone(public.as_fd(), true).map_or(public, |clone| clone.root);
    let mut waiting = vec![PathBuf::new()];
    while let Some(dir) = waiting.pop() {
        match find_unread(root.as_fd(), &dir, read, &mut waiting) {
            Ok(None) => {}
            Ok(found) => return Ok(found),
            // Removed meanwhile.
            Err(e) if e.is(Errno::NOENT) => {}
            Err(e) => return Err((dir, e)),
        }
    }
    Ok(None)
}

/// Looks into one directory, and adds those in it to `subdirectories`.
fn find_unread(
    root: Fd<'_>,
    dir: &Path,
    read: Namespace,
    subdirectories: &mut Vec<PathBuf>,
) -> sys::Result<Option<Unread>> {
    let fd = sys::open_dir_path(root, dir.as_os_str())?;
    let (mut found, mut untyped) = (None, Vec::<OsString>::new());
    let listed = sys::read_dir(fd.as_fd(), &mut |entry| {
        let name = OsStr::from_bytes(entry.name);
        match entry.kind {
            _ if reserved(entry.name) => found = Some(Unread::Name(dir.join(name))),
            libc::DT_DIR => subdirectories.push(dir.join(name)),
            libc::DT_UNKNOWN => untyped.push(name.to_owned()),
            _ => {}
        }
    });
    match listed {
        Err(e) if e.is(Errno::ACCESS) => {
            let searched = sys::stat(At::Name(fd.as_fd(), OsStr::new(".")));
            return if searched.is_err_and(|e| e.is(Errno::ACCESS)) { Ok(None) } else { Err(e) };
        }
        listed => listed?,
    }
    for name in untyped {
        match sys::stat(At::Name(fd.as_fd(), &name)) {
            Ok(stat) if stat.is_dir() => subdirectories.push(dir.join(name)),
            Ok(_) => {}
            Err(e) if e.is(Errno::NOENT) => {} // removed meanwhile
            Err(e) => return Err(e),
        }
    }
    if found.is_some() {
        return Ok(found);
    }
    match markers::read_for_kernel(fd.as_fd(), read)? {
        ForKernel { unread: Some(mark), .. } => Ok(Some(Unread::Mark(dir.to_owned(), mark))),
        ForKernel { xwhiteouts: true, .. } => find_unread_whiteout(fd.as_fd(), dir, read),
        ForKernel { .. } => Ok(None),
    }
}

/// Looks at the files of a directory that may hold whiteouts by attribute.
fn find_unread_whiteout(fd: Fd<'_>, dir: &Path, read: Namespace) -> sys::Result<Option<Unread>> {
    let mut names = Vec::<OsString>::new();
    sys::read_dir(fd, &mut |entry| {
        if matches!(entry.kind, libc::DT_REG | libc::DT_UNKNOWN) {
            names.push(OsStr::from_bytes(entry.name).to_owned());
        }
    })?;
    for name in names {
        match markers::whiteout_unread_by_kernel(At::Name(fd, &name), read) {
            Ok(None) => {}
            Ok(Some(mark)) => return Ok(Some(Unread::Mark(dir.join(name), mark))),
            Err(e) if e.is(Errno::NOENT) => {} // removed meanwhile
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}
