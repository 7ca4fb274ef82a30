//! What to stack, and why a stack cannot be opened.

use std::path::PathBuf;

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
    #[error("{role} {path} is in use by another mount, maybe in another mount namespace; unmount that first", path = path.display())]
    InUse {
        /// What the directory is for.
        role: &'static str,
        /// Its path.
        path: PathBuf,
    },
    /// Kernel overlayfs has it as its upper or work directory.
    #[error("{role} {path} is in use by kernel overlayfs, which is mounted on {place}; unmount that first", path = path.display(), place = place.display())]
    InUseByKernel {
        /// What the directory is for.
        role: &'static str,
        /// Its path.
        path: PathBuf,
        /// The mount point.
        place: PathBuf,
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
