//! What can go wrong in an operation on the union, by situation; the errno is chosen here and nowhere else.

use crate::sys;

/// Why an operation on the union failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A system call on a layer failed; its errno is the caller's.
    #[error(transparent)]
    Sys(#[from] sys::Error),
    /// The name does not exist in the merged view, or the object lost its last name.
    #[error("no such entry")]
    NotFound,
    /// The name exists in the merged view.
    #[error("name exists")]
    Exists,
    /// A directory was needed.
    #[error("not a directory")]
    NotDirectory,
    /// Something other than a directory was needed.
    #[error("is a directory")]
    IsDirectory,
    /// The directory shows entries.
    #[error("directory not empty")]
    NotEmpty,
    /// The mount has no upper directory.
    #[error("mounted without an upper directory")]
    ReadOnly,
    /// Names that begin with `.wh.` are whiteouts in OCI layers and cannot be made; attributes of fuse-overlayfs likewise.
    #[error("name is reserved for markers of layers")]
    Reserved,
    /// A name longer than 255 bytes.
    #[error("name too long")]
    NameTooLong,
    /// A directory of a lower layer cannot be moved under the `redirect_dir` mode in force.
    #[error("directory of a lower layer cannot be renamed here")]
    CrossDevice,
    /// Arguments that make no sense together.
    #[error("invalid argument")]
    Invalid,
    /// The attribute does not exist or is not shown.
    #[error("no such attribute")]
    NoAttribute,
    /// An owner has no id in the layers.
    #[error("id is not mapped")]
    NotMapped,
    /// The inode number is not known: the kernel forgot it, or never got it from us.
    #[error("stale inode number")]
    Stale,
}

/// Result of an operation on the union.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The errno that a system call on the mount reports for this situation (errno(3)).
    #[must_use]
    pub fn errno(self) -> i32 {
        match self {
            Self::Sys(e) => e.errno.raw_os_error(),
            Self::NotFound => libc::ENOENT,
            Self::Exists => libc::EEXIST,
            Self::NotDirectory => libc::ENOTDIR,
            Self::IsDirectory => libc::EISDIR,
            Self::NotEmpty => libc::ENOTEMPTY,
            Self::ReadOnly => libc::EROFS,
            Self::Reserved => libc::EPERM,
            Self::NameTooLong => libc::ENAMETOOLONG,
            Self::CrossDevice => libc::EXDEV,
            Self::Invalid => libc::EINVAL,
            Self::NotMapped => libc::EOVERFLOW,
            Self::NoAttribute => libc::ENODATA,
            Self::Stale => libc::ESTALE,
        }
    }

    /// Whether this is the named errno from a system call.
    #[must_use]
    pub fn is(self, errno: sys::Errno) -> bool {
        matches!(self, Self::Sys(e) if e.errno == errno)
    }
}
