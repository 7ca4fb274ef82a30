//! Opening a stack of layers: what is checked, locked and cleaned before the union exists.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::acl::{ACCESS, DEFAULT};
use super::dialects::{dialects, seed_root};
use super::dir::{LowerDir, Namespace};
use super::inode::{Inode, LayerIndex, ROOT, State, Table};
use super::overlap::check_overlaps;
use super::owner::as_owner;
use super::probe::{Markers, probe};
use super::work::{self, Work};
use super::{Error, Layer, Overlay, Upper, fdcache, features, identity, merge};
use crate::layer::markers;
use crate::layer::xattr::{Marker, Namespace as XattrNamespace};
use crate::sys::{self, At, Errno, RenameFlags, xattr};

/// Whether directories of lower layers can be renamed, and whether what was renamed is followed (`redirect_dir=`, as in
/// the documentation of kernel overlayfs).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RedirectMode {
    /// Redirects are made where markers are `trusted.*` attributes, and followed. Elsewhere, and where the path is too
    /// long for a redirect, a directory of moderate size is copied up with all that is in it.
    #[default]
    Auto,
    /// Made and followed.
    On,
    /// Followed, not made.
    Follow,
    /// Neither.
    NoFollow,
    /// Not made; followed, as the kernel does by default.
    Off,
}

/// What to stack.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Lower layers, topmost first.
    pub lower: Vec<PathBuf>,
    /// Layers below those that only provide data to metacopy files (`::`).
    pub data_only: Vec<PathBuf>,
    /// The writable directory; without it the union is read-only.
    pub upper: Option<PathBuf>,
    /// Its work directory, on the same file system.
    pub work: Option<PathBuf>,
    /// Upper and work are only looked at: nothing is locked, swept or written, so that a mount may have them at the same
    /// time. What that mount changes meanwhile may be seen or not; a name that goes is found missing.
    pub frozen: bool,
    /// See [`RedirectMode`].
    pub redirect: RedirectMode,
    /// No `overlay.index`: hard links of lower layers are broken by copy-up.
    pub no_index: bool,
    /// Owner, mode, type and device numbers are those that the attribute `user.containers.override_stat` says, where an
    /// object has it, and are written there: layers unpacked without privileges, and mounts by ordinary users.
    pub override_stat: bool,
    /// The same in `security.fuseoverlayfs.override_stat`, which only root can set; for what fuse-overlayfs wrote with
    /// `xattr_permissions=1`. Only with `override_stat`.
    pub privileged_stat: bool,
    /// Markers are `user.overlay.*` attributes (`userxattr`), of which redirects and metacopy markers are neither written
    /// nor believed: whoever owns a file can set them.
    pub userxattr: bool,
    /// Nothing is ever synced: after a crash of the machine upper is lost.
    pub volatile: bool,
    /// Number of descriptors that the process may have open.
    pub fd_limit: u64,
    /// Where the union will be mounted. Inside of a layer that cannot be held privately the union would find itself.
    pub mountpoint: Option<PathBuf>,
}

/// Why a stack cannot be opened, as a sentence for the user.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A directory cannot be opened.
    #[error("{role} {path}: {source}", path = path.display())]
    Directory {
        /// What the directory is for.
        role: &'static str,
        /// Its path as given.
        path: PathBuf,
        /// What opening it failed with.
        source: std::io::Error,
    },
    /// Nothing to stack.
    #[error("no lower layer given; use lowerdir= or --lower")]
    NoLayers,
    /// `upperdir=` without `workdir=`.
    #[error("upperdir= needs workdir=, an empty directory on the same file system")]
    NoWork,
    /// `workdir=` without `upperdir=`.
    #[error("workdir= makes sense only with upperdir=")]
    NoUpper,
    /// Too many layers for the descriptor limit.
    #[error("{layers} layers need more than the {limit} descriptors allowed; raise the limit (ulimit -n)")]
    TooManyLayers {
        /// Number of layers.
        layers: usize,
        /// Limit in force.
        limit: u64,
    },
    /// Upper and work are on different file systems or mounts.
    #[error("workdir {work} must be on the same file system and mount as upperdir {upper}", work = work.display(), upper = upper.display())]
    OtherFileSystem {
        /// The work directory.
        work: PathBuf,
        /// The upper directory.
        upper: PathBuf,
    },
    /// One directory is inside the other, or both are the same.
    #[error("{inner_role} {inner} must not be inside {outer_role} {outer}", inner = inner.display(), outer = outer.display())]
    Overlap {
        /// What the inner directory is for.
        inner_role: &'static str,
        /// The inner directory.
        inner: PathBuf,
        /// What the outer directory is for.
        outer_role: &'static str,
        /// The outer directory.
        outer: PathBuf,
    },
    /// The union would find itself on the way through its own layer.
    #[error("the mount point must not be inside {role} {path}, unless root mounts", path = path.display())]
    MountpointInside {
        /// What the directory is for.
        role: &'static str,
        /// Its path.
        path: PathBuf,
    },
    /// Another mount uses it.
    #[error("{role} {path} is in use by another mount; unmount that first", path = path.display())]
    InUse {
        /// What the directory is for.
        role: &'static str,
        /// Its path.
        path: PathBuf,
    },
    /// A mount left a mark by which those that do not know it are to leave upper alone (`workdir/work/incompat`).
    #[error("the last mount of the upper directory left the mark {mark}: kernel overlayfs with volatile, after which a crash of \
             the machine may have ruined the directory; if there was none, remove the mark and mount again", mark = mark.display())]
    Incompatible {
        /// The mark.
        mark: PathBuf,
    },
    /// The file system of upper lacks something.
    #[error("upperdir {path} cannot be used: {what}: {source}", path = path.display())]
    Unsuitable {
        /// The upper directory.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// How it failed.
        source: std::io::Error,
    },
}

pub(super) const UPPER_ROLE: &str = "upperdir";
pub(super) const WORK_ROLE: &str = "workdir";
pub(super) const LOWER_ROLE: &str = "lower layer";

/// How long a mount waits for an upper directory whose last daemon is just leaving.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// Descriptors kept out of the caches: layers, the FUSE device, what operations open for a moment.
const RESERVED_FDS: u64 = 40;

/// Descriptors in the caches and of objects without a name, however many are allowed.
const MAX_FREE: usize = 16_384;

/// For how many descriptors of a union of these layers it pays to make room.
pub fn descriptors(options: &Options) -> u64 {
    // One more than a power of two would double the kernel's table, 8 bytes each.
    let count = options.lower.len() + options.data_only.len() + MAX_FREE;
    (count as u64 + RESERVED_FDS).min(MAX_FREE as u64)
}

impl Overlay {
    /// Opens a stack: checks it, takes the locks, sweeps what a crash left in the work directory.
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        if options.lower.is_empty() && !options.frozen {
            return Err(OpenError::NoLayers);
        }
        let layers = options.lower.len() + options.data_only.len();
        let limit = if options.fd_limit == 0 { 1024 } else { options.fd_limit };
        if limit < layers as u64 + RESERVED_FDS + 16 {
            return Err(OpenError::TooManyLayers { layers, limit });
        }
        let free = usize::try_from(limit - layers as u64 - RESERVED_FDS).unwrap_or(usize::MAX).min(MAX_FREE);
        let mut lowers = open_lowers(options, free / 2)?;
        let known: Vec<_> = lowers.iter().map(|l| (l.dev, l.uuid.unwrap_or_default())).collect();
        for (layer, &(dev, uuid)) in lowers.iter_mut().zip(&known) {
            layer.handles = known.iter().all(|&(d, u)| d == dev || u != uuid);
        }
        let (upper, markers) = match (&options.upper, &options.work) {
            (Some(upper), Some(work)) if options.frozen => {
                let (upper, markers) = open_frozen(upper, work)?;
                (Some(upper), Some(markers))
            }
            (Some(upper), Some(work)) => {
                let (upper, markers) = open_upper(upper, work, options)?;
                (Some(upper), markers)
            }
            (Some(_), None) => return Err(OpenError::NoWork),
            (None, Some(_)) => return Err(OpenError::NoUpper),
            (None, None) if sys::process::is_root() => (None, Some(XattrNamespace::Trusted)),
            (None, None) => (None, Some(XattrNamespace::User)),
        };
        let (attributes, markers) = (markers.is_some(), markers.unwrap_or(XattrNamespace::User));
        // A daemon with all rights would be led by them to where their writer may not look.
        let believes_users =
            markers == XattrNamespace::User && !options.userxattr && !sys::process::is_root_of_the_machine();
        let dialects = dialects(options, upper.as_ref(), &lowers).map_err(|e| OpenError::Directory {
            role: "attributes of the layers' roots",
            path: options.upper.clone().unwrap_or_else(|| options.lower[0].clone()),
            source: e.into(),
        })?;
        if let Some(upper) = upper.as_ref().filter(|_| options.override_stat && !options.frozen) {
            seed_root(upper, &lowers, &dialects).map_err(|e| OpenError::Unsuitable {
                path: options.upper.clone().unwrap_or_default(),
                what: "giving it the owner of the root below",
                source: e.into(),
            })?;
        }
        let root = root_inode(&lowers, upper.as_ref(), options.override_stat).map_err(|e| OpenError::Directory {
            role: "root of the merged tree",
            path: options.upper.clone().unwrap_or_else(|| options.lower[0].clone()),
            source: std::io::Error::from_raw_os_error(e.errno()),
        })?;
        let devices = upper.iter().map(|u| &u.layer).chain(&lowers).map(|l| l.dev);
        Ok(Self {
            ids: identity::Ids::new(devices),
            lowers,
            upper,
            redirect: match options.redirect {
                RedirectMode::Auto => markers == XattrNamespace::Trusted,
                mode => {
                    mode == RedirectMode::On && attributes && (markers == XattrNamespace::Trusted || believes_users)
                }
            },
            flatten: matches!(options.redirect, RedirectMode::Auto | RedirectMode::On),
            follow: options.redirect != RedirectMode::NoFollow,
            frozen: options.frozen,
            markers,
            attributes,
            believes_users,
            override_stat: options.override_stat,
            dialects,
            volatile: options.volatile,
            euid: rustix::process::geteuid().as_raw(),
            egid: rustix::process::getegid().as_raw(),
            table: Table::new(),
            root: Arc::new(root),
            fds: fdcache::FdCache::new(free / 2),
            indexes: merge::IndexBudget::default(),
            tried: features::Tried::default(),
            keeps_times: false.into(),
            lost_marks: false.into(),
            pins: 0.into(),
            max_pins: free / 4,
        })
    }
}

fn open_root(role: &'static str, path: &Path) -> Result<OwnedFd, OpenError> {
    sys::open_root(path).map_err(|e| OpenError::Directory { role, path: path.into(), source: e.into() })
}

/// At most `spare` descriptors more than those of the layers are open at a time.
fn open_lowers(options: &Options, spare: usize) -> Result<Vec<Layer>, OpenError> {
    let mut left_over = Vec::new();
    let merged = options.lower.iter().map(|p| (p, false));
    let data = options.data_only.iter().map(|p| (p, true));
    let layers = merged.chain(data).map(|(path, data_only)| {
        let fd = open_root(LOWER_ROLE, path)?;
        // A private read-only mount, where we may make one: no descriptor from it can ever write.
        let (root, private) = match sys::private_clone(fd.as_fd(), true) {
            Ok(clone) => {
                left_over.push(clone.made_with);
                (clone.root, true)
            }
            Err(_) => not_around_mountpoint(LOWER_ROLE, path, options).map(|()| (fd, false))?,
        };
        if left_over.len() >= spare {
            left_over.clear();
        }
        open_layer(root, data_only, private).map_err(|e| OpenError::Directory {
            role: LOWER_ROLE,
            path: path.clone(),
            source: e.into(),
        })
    });
    let layers = layers.collect();
    close_aside(left_over);
    layers
}

/// Closes in the background what takes its time: the descriptors of 500 layers a third of that of mounting them.
fn close_aside(descriptors: Vec<OwnedFd>) {
    let close = std::thread::Builder::new().name("close".to_owned()).spawn(move || drop(descriptors));
    // Without a thread they are closed by now.
    close.map_or_else(|e| log::debug!("no thread to close descriptors: {e}"), drop);
}

/// For a layer that is reached through the mounts that everybody sees.
fn not_around_mountpoint(role: &'static str, path: &Path, options: &Options) -> Result<(), OpenError> {
    let Some(Ok(mountpoint)) = options.mountpoint.as_ref().map(|p| p.canonicalize()) else { return Ok(()) };
    let inside = path.canonicalize().is_ok_and(|layer| mountpoint != layer && mountpoint.starts_with(layer));
    if inside { Err(OpenError::MountpointInside { role, path: path.into() }) } else { Ok(()) }
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

fn open_layer(root: OwnedFd, data_only: bool, private: bool) -> sys::Result<Layer> {
    let dev = sys::stat(At::Fd(root.as_fd()))?.dev;
    let uuid = sys::fs_uuid(root.as_fd())?;
    Ok(Layer { root, dev, uuid, handles: true, data_only, private })
}

fn open_upper(path: &Path, work_path: &Path, options: &Options) -> Result<(Upper, Markers), OpenError> {
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
    let deadline = Instant::now() + LOCK_WAIT;
    lock(UPPER_ROLE, path, root.as_fd(), deadline)?;
    lock(WORK_ROLE, work_path, work.as_fd(), deadline)?;

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
fn open_frozen(path: &Path, work_path: &Path) -> Result<(Upper, XattrNamespace), OpenError> {
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

fn root_inode(lowers: &[Layer], upper: Option<&Upper>, override_stat: bool) -> Result<Inode, Error> {
    let mut ns = Namespace { upper: upper.is_some(), ..Namespace::default() };
    let mut state = State::default();
    let mut open = true;
    if let Some(upper) = upper {
        let fd = upper.layer.root.as_fd();
        let found = markers::read_dir_markers(fd)?;
        (ns.impure, ns.default_acl) = (found.impure, found.has_default_acl(override_stat));
        ns.xwhiteouts = found.xwhiteouts;
        open = !found.opaque && !markers::has_aufs_opaque(fd)?;
        state.upper = Some(sys::stat(At::Fd(fd))?.ino);
    }
    let mut merged = Vec::new();
    for (n, layer) in lowers.iter().enumerate().filter(|(_, l)| !l.data_only) {
        if !open {
            break;
        }
        let index = LayerIndex::try_from(n + 1).map_err(|_| Error::Invalid)?;
        let fd = layer.root.as_fd();
        let found = markers::read_dir_markers(fd)?;
        merged.push(LowerDir { layer: index, path: OsStr::new("").into(), marks: Some((&found).into()) });
        open = !found.opaque && !markers::has_aufs_opaque(fd)?;
    }
    ns.lowers = merged.into();
    Ok(Inode::new(ROOT, libc::S_IFDIR, state, Some(ns)))
}
