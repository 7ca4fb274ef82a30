//! Names of the extended attributes that carry the format.
//!
//! They live in `trusted.overlay.` or, written by mounts without privilege, in `user.overlay.`. A program
//! that itself sets such a name through a mount (an overlay within the overlay does) gets it stored with
//! one more `overlay.`, and sees it without; each level of nesting adds one (kernel documentation,
//! overlayfs.rst, "Nesting overlayfs mounts"). `user.fuseoverlayfs.` holds the markers of fuse-overlayfs.

use crate::sys::{self, At, Errno, Result};
use std::ffi::{CStr, CString};

const TRUSTED: &[u8] = b"trusted.overlay.";
const USER: &[u8] = b"user.overlay.";
const FUSE_OVERLAYFS: &[u8] = b"user.fuseoverlayfs.";
const ESCAPE: &[u8] = b"overlay.";

/// Which attributes a mount writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// `trusted.overlay.*`, which needs `CAP_SYS_ADMIN` in the initial user namespace.
    Trusted,
    /// `user.overlay.*`.
    User,
}

/// What an attribute of the format says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// `y`: nothing below this directory shows through; `x`: it may hold whiteouts marked by [`Marker::Whiteout`].
    Opaque,
    /// The lower parts lie under another name.
    Redirect,
    /// The file has attributes only; its data are in a lower layer.
    Metacopy,
    /// Handle of the lower object that this one was copied from.
    Origin,
    /// The directory holds objects with an origin.
    Impure,
    /// Difference between the link count of the inode and the one to show.
    Nlink,
    /// Handle of the upper directory, on an entry of the index.
    Upper,
    /// Identity of the mount, on the root of the upper layer.
    Uuid,
    /// The empty file is a whiteout; the directory may hold such, where [`Marker::Opaque`] is taken for saying `y`.
    Whiteout,
    /// Inode flags that the inode itself cannot carry.
    Protattr,
    /// Our own, beside [`Marker::Origin`], where handles cannot be opened: number and link count of the lower object.
    Number,
    /// Our own: the empty file is shown as the character device 0:0, the whiteout of an overlay inside the mount; on a
    /// directory, that it may hold such files.
    Nested,
}

const MARKERS: [(Marker, &CStr, &CStr); 12] = [
    (Marker::Opaque, c"trusted.overlay.opaque", c"user.overlay.opaque"),
    (Marker::Redirect, c"trusted.overlay.redirect", c"user.overlay.redirect"),
    (Marker::Metacopy, c"trusted.overlay.metacopy", c"user.overlay.metacopy"),
    (Marker::Origin, c"trusted.overlay.origin", c"user.overlay.origin"),
    (Marker::Impure, c"trusted.overlay.impure", c"user.overlay.impure"),
    (Marker::Nlink, c"trusted.overlay.nlink", c"user.overlay.nlink"),
    (Marker::Upper, c"trusted.overlay.upper", c"user.overlay.upper"),
    (Marker::Uuid, c"trusted.overlay.uuid", c"user.overlay.uuid"),
    (Marker::Whiteout, c"trusted.overlay.whiteout", c"user.overlay.whiteout"),
    (Marker::Protattr, c"trusted.overlay.protattr", c"user.overlay.protattr"),
    (Marker::Number, c"trusted.overlay.laminafs.number", c"user.overlay.laminafs.number"),
    (Marker::Nested, c"trusted.overlay.laminafs.nested", c"user.overlay.laminafs.nested"),
];

impl Namespace {
    /// That of mounts with the option `userxattr`, or without.
    pub fn of_mount(userxattr: bool) -> Self {
        if userxattr { Self::User } else { Self::Trusted }
    }

    /// The full name of an attribute.
    #[inline]
    pub fn name(self, marker: Marker) -> &'static CStr {
        let (_, trusted, user) = MARKERS[marker as usize];
        match self {
            Namespace::Trusted => trusted,
            Namespace::User => user,
        }
    }
}

/// The extended attributes of an object: on disk ([`At`]), or as they were recorded.
pub trait Attributes: Copy {
    /// Hands out the stored names.
    fn each_name(self, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()>;

    /// A value; `None` when there is no such attribute.
    fn get(self, name: &CStr) -> Result<Option<Vec<u8>>>;

    /// Reads a value into `buf` and returns its length; `ERANGE` when it is longer.
    fn get_into(self, name: &CStr, buf: &mut [u8]) -> Result<Option<usize>> {
        let Some(value) = self.get(name)? else { return Ok(None) };
        let place = buf.get_mut(..value.len()).ok_or(sys::Error { call: "getxattr", errno: Errno::RANGE })?;
        place.copy_from_slice(&value);
        Ok(Some(value.len()))
    }
}

/// A list of names that is longer than this is read a second time.
const LIST: usize = 1024;

impl Attributes for At<'_> {
    fn each_name(self, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut on_stack = [0; LIST];
        let on_heap;
        let list = match sys::xattr::list_into(self, &mut on_stack) {
            Ok(len) => &on_stack[..len],
            Err(e) if e.is(Errno::RANGE) => {
                on_heap = sys::xattr::list(self)?;
                &on_heap
            }
            Err(e) => return Err(e),
        };
        list.split(|b| *b == 0).filter(|name| !name.is_empty()).try_for_each(each)
    }

    fn get(self, name: &CStr) -> Result<Option<Vec<u8>>> {
        sys::xattr::get(self, name)
    }

    fn get_into(self, name: &CStr, buf: &mut [u8]) -> Result<Option<usize>> {
        sys::xattr::get_into(self, name, buf)
    }
}

/// Takes a stored name apart; `None` when it is not a marker that this version knows.
pub(super) fn recognise(name: &[u8]) -> Option<(Namespace, Marker)> {
    let namespace = match name {
        n if n.starts_with(TRUSTED) => Namespace::Trusted,
        n if n.starts_with(USER) => Namespace::User,
        _ => return None,
    };
    let same = |marker: &Marker| namespace.name(*marker).to_bytes() == name;
    MARKERS.iter().map(|(marker, ..)| *marker).find(same).map(|marker| (namespace, marker))
}

/// Whether a stored name belongs to the layer format: not shown, not copied up. Escaped names do not.
pub fn is_internal(name: &[u8]) -> bool {
    match own_suffix(name) {
        Some((_, suffix)) => !suffix.starts_with(ESCAPE),
        None => name.starts_with(FUSE_OVERLAYFS),
    }
}

/// The name under which to store (or read, or remove) what a user calls `name`; `None` when it is the same.
///
/// There is no such name for those of fuse-overlayfs: [`is_internal`] is true of them, so refuse.
pub fn escape(name: &[u8]) -> Option<CString> {
    let (prefix, suffix) = own_suffix(name)?;
    CString::new([prefix, ESCAPE, suffix].concat()).ok()
}

/// How a stored name appears in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Not at all: it belongs to the layer format.
    Hidden,
    /// Under its own name.
    AsIs,
    /// Under this name, since the stored one is escaped.
    Unescaped(Vec<u8>),
}

/// How the stored `name` appears in a listing; the inverse of [`escape`].
pub fn show(name: &[u8]) -> Shown {
    let Some((prefix, suffix)) = own_suffix(name) else {
        return if is_internal(name) { Shown::Hidden } else { Shown::AsIs };
    };
    suffix.strip_prefix(ESCAPE).map_or(Shown::Hidden, |rest| Shown::Unescaped([prefix, rest].concat()))
}

fn own_suffix(name: &[u8]) -> Option<(&'static [u8], &[u8])> {
    [TRUSTED, USER].into_iter().find_map(|prefix| Some((prefix, name.strip_prefix(prefix)?)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn table_is_in_order_of_the_enum() {
        for (at, (marker, trusted, user)) in MARKERS.iter().enumerate() {
            assert_eq!(*marker as usize, at);
            let own = if [Marker::Number, Marker::Nested].contains(marker) { "laminafs." } else { "" };
            let short = format!("{own}{marker:?}").to_lowercase();
            assert_eq!(trusted.to_str().unwrap(), format!("trusted.overlay.{short}"));
            assert_eq!(user.to_str().unwrap(), format!("user.overlay.{short}"));
            assert_eq!(recognise(trusted.to_bytes()), Some((Namespace::Trusted, *marker)));
            assert_eq!(recognise(user.to_bytes()), Some((Namespace::User, *marker)));
        }
        for other in ["trusted.overlay.", "trusted.overlay.new", "user.overlay.overlay.opaque", "user.opaque", ""] {
            assert_eq!(recognise(other.as_bytes()), None);
        }
    }

    #[test]
    fn internal_names() {
        for name in ["trusted.overlay.opaque", "user.overlay.x", "trusted.overlay.", "user.fuseoverlayfs.origin"] {
            assert!(is_internal(name.as_bytes()), "{name}");
            assert_eq!(show(name.as_bytes()), Shown::Hidden);
        }
        assert!(is_internal(b"trusted.overlay.overlay"));
        for name in ["user.overlayx", "trusted.x", "security.capability", "user.containers.x", ""] {
            assert!(!is_internal(name.as_bytes()), "{name}");
            assert_eq!(show(name.as_bytes()), Shown::AsIs);
            assert_eq!(escape(name.as_bytes()), None);
        }
        assert!(!is_internal(b"trusted.overlay.overlay.opaque"));
        assert_eq!(escape(b"user.fuseoverlayfs.opaque"), None);
    }

    #[test]
    fn escaping_adds_one_level_and_showing_takes_it_off() {
        assert_eq!(escape(b"trusted.overlay.opaque").unwrap().as_c_str(), c"trusted.overlay.overlay.opaque");
        assert_eq!(escape(b"user.overlay.overlay.x").unwrap().as_c_str(), c"user.overlay.overlay.overlay.x");
        for name in ["trusted.overlay.opaque", "user.overlay.overlay.x", "trusted.overlay."] {
            let stored = escape(name.as_bytes()).unwrap();
            assert!(!is_internal(stored.to_bytes()));
            assert_eq!(show(stored.to_bytes()), Shown::Unescaped(name.as_bytes().to_vec()));
        }
    }
}
