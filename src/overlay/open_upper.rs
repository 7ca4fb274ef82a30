//! Opening an upper directory and its work directory: what is checked, locked, swept and probed before it is written, or that
//! it is only looked at.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::acl::{ACCESS, DEFAULT};
use super::options::{OpenError, Options, UPPER_ROLE, WORK_ROLE};
use super::overlap::check_overlaps;
use super::owner::as_owner;
use super::probe::{Markers, probe};
use super::stack::{not_around_mountpoint, open_layer, open_root};
use super::work::{self, Work};
use super::{Error, Upper};
use crate::layer::xattr::{Marker, Namespace as XattrNamespace};
use crate::sys::{self, At, Errno, RenameFlags, xattr};

/// How long a mount waits for an upper directory whose last daemon is just leaving.
const LOCK_WAIT: Duration = Duration::from_secs(10);

pub(super) fn open_upper(path: &Path, work_path: &Path, options: &Options) -> Result<(Upper, Markers), OpenError> {
    let mut root = open_root(UPPER_ROLE, path)?;
    let mut work = open_root(WORK_ROLE, work_path)?;
    check_overlaps(path, work_path, options.lower.iter().chain(&options.data_only))?;
    let unsuitable = |what| move |e: sys::Error| OpenError::Unsuitable { path: path.into(), what, source: e.into() };
    same_mount(root.as_fd(), work.as_fd())
        .map_err(unsuitable("comparing it with workdir"))?
        .then_some(())
        .ok_or_else(|| OpenError::OtherFileSystem { work: work_path.into(), upper: path.into() })?;
    let private = private_upper(path, work_path);
    let is_private = private.is_some();
    match private {
        Some(private) => (root, work) = private,
        None => not_around_mountpoint(UPPER_ROLE, path, options)?,
    }
    claim_both(path, root.as_fd(), work_path, work.as_fd())?;

    let dir = subdirectory(work.as_fd(), "work").map_err(unsuitable("making work/ in workdir"))?;
    if let Some(mark) = work::incompatible(dir.as_fd()).map_err(unsuitable("looking for marks in workdir"))? {
        return Err(OpenError::Incompatible { mark: work_path.join("work/incompat").join(mark) });
    }
    work::clear_dir(dir.as_fd()).map_err(unsuitable("sweeping work/ in workdir"))?;
    let index = if options.no_index {
        None
    } else {
        Some(subdirectory(work.as_fd(), "index").map_err(unsuitable("making index/ in workdir"))?)
    };
    let mut work = Work::new(dir, index, work);
    let markers = probe(&mut work, options).map_err(|(what, e)| OpenError::Unsuitable {
        path: path.into(),
        what,
        source: std::io::Error::from_raw_os_error(e.errno()),
    })?;
    if markers.is_none() {
        // Its entries need attributes.
        work.index = None;
    }
    let layer = open_layer(root, false, is_private).map_err(unsuitable("reading it"))?;
    let upper = Upper { layer, work, counting: parking_lot::Mutex::new(()) };
    if let Some(markers) = markers {
        sweep_index(&upper, markers).map_err(|e| OpenError::Unsuitable {
            path: path.into(),
            what: "checking index/ in workdir",
            source: std::io::Error::from_raw_os_error(e.errno()),
        })?;
    }
    Ok((upper, markers))
}

/// Upper and the index of its work directory, to be looked at.
pub(super) fn open_frozen(path: &Path, work_path: &Path) -> Result<(Upper, XattrNamespace), OpenError> {
    let failed = |role, path: &Path| {
        let path = path.to_owned();
        move |e: sys::Error| OpenError::Directory { role, path, source: e.into() }
    };
    let public = open_root(UPPER_ROLE, path)?;
    // Private and read-only where we may have it so, like a lower layer.
    let private = sys::private_clone(public.as_fd(), true).map(|clone| clone.root);
    let is_private = private.is_ok();
    let root = private.unwrap_or(public);
    let work = open_root(WORK_ROLE, work_path)?;
    let index = match sys::open_dir(work.as_fd(), OsStr::new("index")) {
        Ok(fd) => Some(fd),
        Err(e) if e.is(Errno::NOENT) => None,
        Err(e) => return Err(failed(WORK_ROLE, work_path)(e)),
    };
    let markers = markers_written(work.as_fd());
    let unused = sys::open_dir_path(root.as_fd(), OsStr::new("")).map_err(failed(UPPER_ROLE, path))?;
    let layer = open_layer(root, false, is_private).map_err(failed(UPPER_ROLE, path))?;
    let work = Work::new(unused, index, work);
    Ok((Upper { layer, work, counting: parking_lot::Mutex::new(()) }, markers))
}

/// Which attributes a mount would write here, tried on a file that never has a name.
fn markers_written(work: BorrowedFd<'_>) -> XattrNamespace {
    let trusted = sys::nameless_file(work)
        .and_then(|file| xattr::set(At::Fd(file.as_fd()), XattrNamespace::Trusted.name(Marker::Opaque), b"y", 0));
    let root = |e: sys::Error| !e.is(Errno::PERM) && !e.is(Errno::OPNOTSUPP) && sys::process::is_root();
    if trusted.map_or_else(root, |()| true) { XattrNamespace::Trusted } else { XattrNamespace::User }
}

/// Whether names can be moved between the two. Renaming what does not exist tells, and changes nothing.
fn same_mount(a: BorrowedFd<'_>, b: BorrowedFd<'_>) -> sys::Result<bool> {
    let name = OsStr::new("#laminafs-does-not-exist");
    match sys::rename(b, name, a, name, RenameFlags::NOREPLACE) {
        Err(e) if e.is(Errno::XDEV) => Ok(false),
        Err(e) if e.is(Errno::NOENT) => Ok(true),
        other => other.map(|()| true),
    }
}

/// Claims both for a mount that the kernel serves, as a mount of this union does: nobody else takes them as long as what is
/// returned is open.
pub fn reserve_upper(path: &Path, work_path: &Path) -> Result<[OwnedFd; 2], OpenError> {
    let (upper, work) = (open_root(UPPER_ROLE, path)?, open_root(WORK_ROLE, work_path)?);
    claim_both(path, upper.as_fd(), work_path, work.as_fd())?;
    Ok([upper, work])
}

fn claim_both(upper: &Path, upper_fd: BorrowedFd<'_>, work: &Path, work_fd: BorrowedFd<'_>) -> Result<(), OpenError> {
    let deadline = Instant::now() + LOCK_WAIT;
    lock(UPPER_ROLE, upper, upper_fd, deadline)?;
    lock(WORK_ROLE, work, work_fd, deadline)?;
    not_mounted_by_kernel([(UPPER_ROLE, upper, upper_fd), (WORK_ROLE, work, work_fd)])
}

/// Refuses what kernel overlayfs writes, as far as this process sees mounts: it heeds no locks. Where `--kernel` has mounted it the
/// process beside the mount holds ours, unless it was killed, so they are taken before the mounts are looked at.
fn not_mounted_by_kernel(directories: [(&'static str, &Path, BorrowedFd<'_>); 2]) -> Result<(), OpenError> {
    let mounts = sys::mounts().map_err(|source| OpenError::Directory {
        role: "table of mounts",
        path: "/proc/self/mountinfo".into(),
        source: source.into(),
    })?;
    for (role, path, fd) in directories {
        let stat = sys::stat(At::Fd(fd));
        let stat = stat.map_err(|e| OpenError::Directory { role, path: path.into(), source: e.into() })?;
        if let Some(mount) = mounts.iter().find(|mount| mount.writes_into(&stat)) {
            return Err(OpenError::InUseByKernel { role, path: path.into(), place: mount.place.clone() });
        }
    }
    Ok(())
}

fn lock(role: &'static str, path: &Path, fd: BorrowedFd<'_>, deadline: Instant) -> Result<(), OpenError> {
    loop {
        match sys::process::flock(fd) {
            Ok(true) => return Ok(()),
            Ok(false) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            Ok(false) => return Err(OpenError::InUse { role, path: path.into() }),
            Err(source) => return Err(OpenError::Directory { role, path: path.into(), source: source.into() }),
        }
    }
}

fn subdirectory(dir: BorrowedFd<'_>, name: &str) -> sys::Result<OwnedFd> {
    let name = OsStr::new(name);
    match sys::mkdir(dir, name, 0o700) {
        Err(e) if e.is(Errno::EXIST) => {}
        other => other?,
    }
    let fd = sys::open_dir(dir, name)?;
    let at = At::Fd(fd.as_fd());
    // What is made here must not inherit from here.
    for acl in [ACCESS, DEFAULT] {
        if xattr::get(at, acl)?.is_some() {
            xattr::remove(at, acl)?;
        }
    }
    sys::chmod(at, 0o700)?;
    Ok(fd)
}

/// Removes index entries whose file lost its last name when the machine went down. Counts that were kept under the other
/// kind of attribute come to ours: of two the one that is not changed any more would be wrong.
fn sweep_index(upper: &Upper, markers: XattrNamespace) -> Result<(), Error> {
    let Some(index) = &upper.work.index else { return Ok(()) };
    let mut names = Vec::new();
    sys::read_dir(index.as_fd(), &mut |e| {
        names.push(OsStr::from_bytes(e.name).to_os_string());
    })?;
    for name in names {
        use crate::layer::nlink::NlinkDelta;
        let at = At::Name(index.as_fd(), &name);
        let stat = sys::stat(at)?;
        let delta = as_owner(at, || take_over_count(at, markers))?;
        if stat.nlink == 1 && delta.as_deref().and_then(NlinkDelta::parse) == Some(NlinkDelta::Upper(-1)) {
            sys::unlink(index.as_fd(), &name)?;
        }
    }
    Ok(())
}

/// The count of an index entry, which is kept under `markers` from then on.
fn take_over_count(at: At<'_>, markers: XattrNamespace) -> Result<Option<Vec<u8>>, Error> {
    let other = match markers {
        XattrNamespace::Trusted => XattrNamespace::User,
        XattrNamespace::User => XattrNamespace::Trusted,
    };
    let (ours, theirs) = (markers.name(Marker::Nlink), other.name(Marker::Nlink));
    let (mut own, foreign) = (xattr::get(at, ours)?, xattr::get(at, theirs)?);
    if own.is_none() && foreign.is_some() {
        xattr::set(at, ours, foreign.as_deref().unwrap_or_default(), 0)?;
        own.clone_from(&foreign);
    }
    if foreign.is_some() {
        xattr::remove(at, theirs)?;
    }
    Ok(own)
}

/// Upper and its work directory inside one private mount of the deepest directory that holds both, so that what is
/// mounted on upper or below, such as this union, is not in the way. `None` where we may not make one.
fn private_upper(upper: &Path, work: &Path) -> Option<(OwnedFd, OwnedFd)> {
    let (upper, work) = (upper.canonicalize().ok()?, work.canonicalize().ok()?);
    let common = work.ancestors().find(|a| upper.starts_with(a))?;
    let tree = sys::private_clone(sys::open_root(common).ok()?.as_fd(), false).ok()?.root;
    let open = |path: &Path| {
        let fd = sys::open_dir_path(tree.as_fd(), path.strip_prefix(common).ok()?.as_os_str()).ok()?;
        // The same directory, not one that a mount further down hides.
        let [public, private] =
            [sys::open_root(path).ok()?, fd].map(|fd| sys::stat(At::Fd(fd.as_fd())).map(|s| (s.dev, s.ino, fd)));
        let (public, private) = (public.ok()?, private.ok()?);
        ((public.0, public.1) == (private.0, private.1)).then_some(private.2)
    };
    Some((open(&upper)?, open(&work)?))
}
