//! Whiteouts: entries that say that a name of the layers below is deleted.
//!
//! The kernel's form is a character device 0:0 under the name itself ([`crate::sys::Stat::is_whiteout_dev`]).
//! Archives of OCI images, and layers that a mount program has unpacked, have a file `.wh.NAME` beside it
//! (image-spec, layer.md, "Whiteouts"). Who may not make devices can have an empty file with an attribute instead, in
//! a directory that says so (kernel documentation, overlayfs.rst, "Nesting overlayfs mounts").

use super::xattr::{Marker, Namespace};
use crate::sys::{self, At, Fd, Result, mknod};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// How the name of an OCI whiteout begins.
pub const AUFS_PREFIX: &str = ".wh.";

/// The entry that makes its directory opaque in an OCI layer.
pub const AUFS_OPAQUE: &str = ".wh..wh..opq";

/// In which form whiteouts are made. All forms are read, whatever is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The character device 0:0 under the name itself.
    Device,
    /// An empty file with [`Marker::Whiteout`] under the name, in a directory whose [`Marker::Opaque`] is `x`.
    Attribute(Namespace),
    /// A file `.wh.NAME` beside the name.
    Beside,
}

/// What a name in a layer directory means by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind<'a> {
    /// An entry like any other (which may still be a whiteout by its type or attributes).
    Plain,
    /// Hides this name of the layers below, but not of its own layer.
    Whiteout(&'a [u8]),
    /// Makes the directory opaque.
    OpaqueMarker,
    /// Bookkeeping of aufs, or a whiteout of something that cannot be a name: to be ignored.
    AufsInternal,
}

/// Classifies a name that stands in a layer directory.
pub fn classify(name: &[u8]) -> NameKind<'_> {
    let Some(hidden) = name.strip_prefix(AUFS_PREFIX.as_bytes()) else { return NameKind::Plain };
    match hidden {
        _ if name == AUFS_OPAQUE.as_bytes() => NameKind::OpaqueMarker,
        b"" | b"." | b".." => NameKind::AufsInternal,
        _ if reserved(hidden) => NameKind::AufsInternal,
        _ => NameKind::Whiteout(hidden),
    }
}

/// Whether a user may not create this name, since in a layer it would mean something else.
#[inline]
pub fn reserved(name: &[u8]) -> bool {
    name.starts_with(AUFS_PREFIX.as_bytes())
}

/// Whether the OCI whiteout of `name` would be a possible name itself. Where it is not, the whole directory has to be opaque.
#[inline]
pub fn fits(name: &[u8]) -> bool {
    AUFS_PREFIX.len() + name.len() <= 255
}

/// The name of the OCI whiteout of `name`, which may be too long for a name.
pub fn beside(name: &OsStr) -> OsString {
    OsString::from_vec([AUFS_PREFIX.as_bytes(), name.as_bytes()].concat())
}

/// Creates what is a whiteout, of this form, where it lies; `EEXIST` when the name is taken. Not in one step: nobody may
/// see the directory.
pub fn create(dir: Fd<'_>, name: &OsStr, form: Form) -> Result<()> {
    if form == Form::Device {
        return mknod(dir, name, libc::S_IFCHR, 0, 0);
    }
    // To be read by whoever reads the layer.
    mknod(dir, name, libc::S_IFREG | 0o644, 0, 0)?;
    match form {
        Form::Attribute(namespace) => sys::xattr::set(At::Name(dir, name), namespace.name(Marker::Whiteout), b"y", 0),
        Form::Device | Form::Beside => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sys::{At, Errno, open_root, stat};
    use std::os::fd::AsFd;

    #[test]
    fn names() {
        for plain in ["a", ".wh", ".whx", "x.wh.a", ".", ""] {
            assert_eq!(classify(plain.as_bytes()), NameKind::Plain);
            assert!(!reserved(plain.as_bytes()));
        }
        assert_eq!(classify(b".wh.a"), NameKind::Whiteout(b"a"));
        assert_eq!(classify(b".wh.\xff"), NameKind::Whiteout(b"\xff"));
        assert_eq!(classify(b".wh...."), NameKind::Whiteout(b"..."));
        assert_eq!(classify(b".wh..hidden"), NameKind::Whiteout(b".hidden"));
        assert_eq!(classify(b".wh..wh"), NameKind::Whiteout(b".wh"));
        assert_eq!(classify(b".wh..wh..opq"), NameKind::OpaqueMarker);
        for internal in [".wh.", ".wh..", ".wh...", ".wh..wh.", ".wh..wh.plnk", ".wh..wh..opqx", ".wh..wh.aufs"] {
            assert_eq!(classify(internal.as_bytes()), NameKind::AufsInternal, "{internal}");
            assert!(reserved(internal.as_bytes()));
        }
    }

    #[test]
    fn device() {
        let tmp = tempfile::tempdir().unwrap();
        let root = open_root(tmp.path()).unwrap();
        let name = OsStr::new("gone");
        create(root.as_fd(), name, Form::Device).unwrap();
        assert!(stat(At::Name(root.as_fd(), name)).unwrap().is_whiteout_dev());
        assert!(create(root.as_fd(), name, Form::Device).unwrap_err().is(Errno::EXIST));
    }

    #[test]
    fn empty_files() {
        let tmp = tempfile::tempdir().unwrap();
        let root = open_root(tmp.path()).unwrap();
        let [marked, beside] = ["marked", ".wh.gone"].map(OsStr::new);
        create(root.as_fd(), marked, Form::Attribute(Namespace::User)).unwrap();
        create(root.as_fd(), beside, Form::Beside).unwrap();
        for (name, whiteout) in [(marked, true), (beside, false)] {
            let at = At::Name(root.as_fd(), name);
            let stat = stat(at).unwrap();
            assert!(stat.is_file() && stat.size == 0);
            assert_eq!(crate::layer::markers::read_empty_file_markers(at).unwrap().whiteout, whiteout);
        }
        assert_eq!(super::beside(OsStr::new("gone")), beside);
    }
}
