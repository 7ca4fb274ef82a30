//! What the extended attributes of a directory or file in a layer say.
//!
//! The names are listed once and only what is there is read: most objects have no marker, and cost one
//! system call. `trusted.overlay.*` and `user.overlay.*` are both read, and the trusted one believed
//! where both are there.

use super::nlink::NlinkDelta;
use super::override_stat;
use super::redirect::Redirect;
use super::whiteout::AUFS_OPAQUE;
use super::xattr::{Attributes, Marker, Namespace, recognise};
use crate::sys::{self, At, Errno, Error, Fd, Result};
use std::ffi::{CStr, OsStr};

/// What fuse-overlayfs wrote on an opaque directory, beside or instead of the kernel's marker.
const FUSE_OVERLAYFS_OPAQUE: &CStr = c"user.fuseoverlayfs.opaque";

/// What is remembered of a lower object for those who cannot open its handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    /// Inode number in its layer.
    pub ino: u64,
    /// Link count.
    pub nlink: u32,
}

impl Number {
    /// The stored form: both little endian.
    pub fn encode(self) -> Vec<u8> {
        [&self.ino.to_le_bytes()[..], &self.nlink.to_le_bytes()].concat()
    }

    /// Reads the stored form.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (ino, nlink) = value.split_first_chunk()?;
        Some(Self { ino: u64::from_le_bytes(*ino), nlink: u32::from_le_bytes(nlink.try_into().ok()?) })
    }
}

/// The markers of a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirMarkers {
    /// Nothing of the layers below shows through.
    pub opaque: bool,
    /// Empty files in it may be whiteouts by attribute: `opaque` is `x`, or, of a directory that became opaque since,
    /// it has [`Marker::Whiteout`] itself.
    pub xwhiteouts: bool,
    /// Where its lower parts lie.
    pub redirect: Option<Redirect>,
    /// That was said by a `trusted.` attribute; a `user.` one can be set by whoever owns the directory.
    pub trusted_redirect: bool,
    /// It holds objects that were copied up, so that these have an origin worth reading.
    pub impure: bool,
    /// The stored handle of the lower directory that it was copied from; may be empty.
    pub origin: Option<Vec<u8>>,
    /// Which object that is.
    pub number: Option<Number>,
    /// It has a default access control list, which new entries inherit.
    pub default_acl: bool,
    /// The same, kept aside ([`override_stat`]).
    pub default_acl_aside: bool,
    /// Empty files in it may be whiteouts of an overlay inside the mount.
    pub nested: bool,
}

impl DirMarkers {
    /// Whether new entries inherit an access control list, where those that are kept aside count if `aside`.
    pub fn has_default_acl(&self, aside: bool) -> bool {
        self.default_acl || aside && self.default_acl_aside
    }
}

/// The markers of anything that is not a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileMarkers {
    /// Its data are in a lower layer.
    pub metacopy: bool,
    /// That was said by a `trusted.` attribute; a `user.` one can be set by whoever owns the file.
    pub trusted_metacopy: bool,
    /// Where those lie.
    pub redirect: Option<Redirect>,
    /// The same of this.
    pub trusted_redirect: bool,
    /// The stored handle of the lower file that it was copied from; may be empty.
    pub origin: Option<Vec<u8>>,
    /// Which object that is.
    pub number: Option<Number>,
    /// It is a whiteout, if it is an empty regular file in a directory with `xwhiteouts`.
    pub whiteout: bool,
    /// It is shown as the character device 0:0, if it is an empty regular file.
    pub nested: bool,
    /// How its link count differs; `None` also when the value makes no sense.
    pub nlink: Option<NlinkDelta>,
}

impl FileMarkers {
    /// Whether its data are in a lower layer, believing `user.` attributes only if `all`.
    pub fn believed_metacopy(&self, all: bool) -> bool {
        self.metacopy && (all || self.trusted_metacopy)
    }

    /// Where those lie, in the same sense.
    pub fn believed_redirect(&self, all: bool) -> Option<&Redirect> {
        self.redirect.as_ref().filter(|_| all || self.trusted_redirect)
    }
}

/// Whether anything here or in [`override_stat`] looks at the attribute of that name, access control lists aside.
pub fn is_read(name: &[u8]) -> bool {
    recognise(name).is_some()
        || name == FUSE_OVERLAYFS_OPAQUE.to_bytes()
        || override_stat::Dialect::ALL.iter().any(|dialect| dialect.name().to_bytes() == name)
}

/// Reads the markers of a directory. `EINVAL` of `overlay.redirect` when that is malformed, as the kernel has it.
///
/// Whether it is opaque the OCI way is another question: [`has_aufs_opaque`].
pub fn read_dir_markers(fd: Fd<'_>) -> Result<DirMarkers> {
    dir_markers(At::Fd(fd))
}

/// The same of attributes that were recorded; access control lists are not.
pub fn dir_markers(at: impl Attributes) -> Result<DirMarkers> {
    let mut found = DirMarkers::default();
    at.each_name(&mut |name| {
        match recognise(name) {
            Some((ns, Marker::Opaque)) => note_opaque(at, ns.name(Marker::Opaque), &mut found)?,
            Some((ns, Marker::Redirect)) => {
                read_redirect(at, ns, &mut found.redirect)?;
                found.trusted_redirect |= ns == Namespace::Trusted;
            }
            Some((ns, Marker::Origin)) => read_value(at, ns, Marker::Origin, &mut found.origin)?,
            Some((ns, Marker::Number)) => read_number(at, ns, &mut found.number)?,
            Some((_, Marker::Impure)) => found.impure = true,
            Some((_, Marker::Nested)) => found.nested = true,
            Some((_, Marker::Whiteout)) => found.xwhiteouts = true,
            Some(_) => {}
            None if name == b"system.posix_acl_default" => found.default_acl = true,
            None if override_stat::DEFAULT_ACLS.iter().any(|acl| acl.to_bytes() == name) => {
                found.default_acl_aside = true
            }
            None if name == FUSE_OVERLAYFS_OPAQUE.to_bytes() => note_opaque(at, FUSE_OVERLAYFS_OPAQUE, &mut found)?,
            None => {}
        }
        Ok(())
    })?;
    Ok(found)
}

/// What the attributes of a directory say that is not read by kernel overlayfs, or read in a way of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForKernel {
    /// One by which it hides what is below it, or says that it lies elsewhere, and which the kernel does not look for. None where one
    /// that is looked for says the same.
    pub unread: Option<&'static CStr>,
    /// [`DirMarkers::xwhiteouts`].
    pub xwhiteouts: bool,
}

/// Looks for what kernel overlayfs, whose markers are in `read`, does not read.
pub fn read_for_kernel(fd: Fd<'_>, read: Namespace) -> Result<ForKernel> {
    let at = At::Fd(fd);
    let mut found = ForKernel::default();
    at.each_name(&mut |listed| {
        let (name, marker, ns) = match recognise(listed) {
            Some((ns, marker @ Marker::Opaque)) => (ns.name(marker), marker, Some(ns)),
            // A redirect of users is not believed here either.
            Some((ns @ Namespace::Trusted, marker @ Marker::Redirect)) => (ns.name(marker), marker, Some(ns)),
            Some((_, Marker::Whiteout)) => {
                found.xwhiteouts = true;
                return Ok(());
            }
            None if listed == FUSE_OVERLAYFS_OPAQUE.to_bytes() => (FUSE_OVERLAYFS_OPAQUE, Marker::Opaque, None),
            _ => return Ok(()),
        };
        let value = sys::xattr::get(at, name)?;
        let value_of_opaque = value.as_deref().filter(|_| marker == Marker::Opaque);
        found.xwhiteouts |= value_of_opaque == Some(b"x");
        let says = marker == Marker::Redirect || value_of_opaque.is_some_and(|value| matches!(value, b"x" | b"y"));
        if ns != Some(read) && says && sys::xattr::get(at, read.name(marker))? != value {
            found.unread = Some(name);
        }
        Ok(())
    })?;
    Ok(found)
}

/// The attribute that makes a file a whiteout and is not looked for by kernel overlayfs, whose markers are in `read`.
pub fn whiteout_unread_by_kernel(at: At<'_>, read: Namespace) -> Result<Option<&'static CStr>> {
    let (mut unread, mut is_read) = (None, false);
    at.each_name(&mut |name| {
        match recognise(name) {
            Some((ns, Marker::Whiteout)) if ns == read => is_read = true,
            Some((ns, Marker::Whiteout)) => unread = Some(ns.name(Marker::Whiteout)),
            _ => {}
        }
        Ok(())
    })?;
    Ok(unread.filter(|_| !is_read))
}

/// Reads the markers of anything that is not a directory; errors like [`read_dir_markers`].
pub fn read_file_markers(at: impl Attributes) -> Result<FileMarkers> {
    let mut found = FileMarkers::default();
    at.each_name(&mut |name| {
        match recognise(name) {
            Some((ns, Marker::Metacopy)) => {
                found.metacopy = true;
                found.trusted_metacopy |= ns == Namespace::Trusted;
            }
            Some((_, Marker::Whiteout)) => found.whiteout = true,
            Some((_, Marker::Nested)) => found.nested = true,
            Some((ns, Marker::Redirect)) => {
                read_redirect(at, ns, &mut found.redirect)?;
                found.trusted_redirect |= ns == Namespace::Trusted;
            }
            Some((ns, Marker::Origin)) => read_value(at, ns, Marker::Origin, &mut found.origin)?,
            Some((ns, Marker::Number)) => read_number(at, ns, &mut found.number)?,
            Some((ns, Marker::Nlink)) => {
                let mut value = None;
                read_value(at, ns, Marker::Nlink, &mut value)?;
                let parsed = value.as_deref().and_then(NlinkDelta::parse);
                prefer(ns, parsed, &mut found.nlink);
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(found)
}

/// What an empty file is marked as, told by the names of its attributes alone: the values may not be readable.
pub fn read_empty_file_markers(at: impl Attributes) -> Result<FileMarkers> {
    let mut found = FileMarkers::default();
    at.each_name(&mut |name| {
        match recognise(name) {
            Some((_, Marker::Whiteout)) => found.whiteout = true,
            Some((_, Marker::Nested)) => found.nested = true,
            _ => {}
        }
        Ok(())
    })?;
    Ok(found)
}

/// Whether the directory holds the marker `.wh..wh..opq`, with which OCI layers make it opaque.
pub fn has_aufs_opaque(fd: Fd<'_>) -> Result<bool> {
    match sys::stat(At::Name(fd, OsStr::new(AUFS_OPAQUE))) {
        Ok(_) => Ok(true),
        Err(e) if e.is(Errno::NOENT) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Only a value of exactly one byte counts, as with the kernel.
fn note_opaque(at: impl Attributes, name: &CStr, found: &mut DirMarkers) -> Result<()> {
    let mut value = [0; 1];
    match at.get_into(name, &mut value) {
        Ok(Some(1)) => {}
        Ok(_) => return Ok(()),
        Err(e) if e.is(Errno::RANGE) => return Ok(()),
        Err(e) => return Err(e),
    }
    match &value {
        b"y" => found.opaque = true,
        b"x" => found.xwhiteouts = true,
        _ => {}
    }
    Ok(())
}

fn read_redirect(at: impl Attributes, ns: Namespace, found: &mut Option<Redirect>) -> Result<()> {
    let mut value = None;
    read_value(at, ns, Marker::Redirect, &mut value)?;
    let Some(value) = value else { return Ok(()) };
    let redirect = Redirect::parse(&value).ok_or(Error { call: "overlay.redirect", errno: Errno::INVAL })?;
    prefer(ns, Some(redirect), found);
    Ok(())
}

/// Reads a value that was listed; it may have gone since.
fn read_value(at: impl Attributes, ns: Namespace, marker: Marker, found: &mut Option<Vec<u8>>) -> Result<()> {
    prefer(ns, at.get(ns.name(marker))?, found);
    Ok(())
}

fn read_number(at: impl Attributes, ns: Namespace, found: &mut Option<Number>) -> Result<()> {
    let mut value = None;
    read_value(at, ns, Marker::Number, &mut value)?;
    prefer(ns, value.as_deref().and_then(Number::parse), found);
    Ok(())
}

fn prefer<T>(ns: Namespace, value: Option<T>, found: &mut Option<T>) {
    if value.is_some() && (ns == Namespace::Trusted || found.is_none()) {
        *found = value;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sys::{create_file, mkdir, mknod, open_dir, open_root};
    use std::ffi::CString;
    use std::os::fd::{AsFd, OwnedFd};

    fn dir_with(markers: &[(&CStr, &[u8])]) -> (tempfile::TempDir, OwnedFd) {
        let tmp = tempfile::tempdir().unwrap();
        let root = open_root(tmp.path()).unwrap();
        mkdir(root.as_fd(), OsStr::new("d"), 0o755).unwrap();
        let fd = open_dir(root.as_fd(), OsStr::new("d")).unwrap();
        for (name, value) in markers {
            sys::xattr::set(At::Fd(fd.as_fd()), name, value, 0).unwrap();
        }
        (tmp, fd)
    }

    fn markers_of(markers: &[(&CStr, &[u8])]) -> Result<DirMarkers> {
        let (_tmp, fd) = dir_with(markers);
        read_dir_markers(fd.as_fd())
    }

    #[test]
    fn plain_directory() {
        assert_eq!(markers_of(&[]).unwrap(), DirMarkers::default());
        assert_eq!(markers_of(&[(c"user.other", b"y")]).unwrap(), DirMarkers::default());
    }

    #[test]
    fn opaque_in_every_dialect() {
        for name in [c"user.overlay.opaque", c"user.fuseoverlayfs.opaque"] {
            let got = markers_of(&[(name, b"y")]).unwrap();
            assert_eq!(got, DirMarkers { opaque: true, ..DirMarkers::default() });
        }
        let got = markers_of(&[(c"user.overlay.opaque", b"x")]).unwrap();
        assert_eq!(got, DirMarkers { xwhiteouts: true, ..DirMarkers::default() });
        for value in [&b"yes"[..], b"n", b""] {
            assert_eq!(markers_of(&[(c"user.overlay.opaque", value)]).unwrap(), DirMarkers::default());
        }
    }

    #[test]
    fn the_other_markers_of_a_directory() {
        let got = markers_of(&[
            (c"user.overlay.redirect", b"/a/b"),
            (c"user.overlay.impure", b"y"),
            (c"user.overlay.origin", b""),
        ]);
        let want = DirMarkers {
            redirect: Some(Redirect::Absolute(b"a/b".to_vec())),
            impure: true,
            origin: Some(Vec::new()),
            ..DirMarkers::default()
        };
        assert_eq!(got.unwrap(), want);
        let got = markers_of(&[(c"user.overlay.opaque", b"y"), (c"user.overlay.whiteout", b"y")]).unwrap();
        assert_eq!(got, DirMarkers { opaque: true, xwhiteouts: true, ..DirMarkers::default() });
        let e = markers_of(&[(c"user.overlay.redirect", b"../x")]).unwrap_err();
        assert_eq!((e.call, e.errno), ("overlay.redirect", Errno::INVAL));
    }

    #[test]
    fn trusted_is_believed() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let (user, trusted) = ((c"user.overlay.redirect", &b"u"[..]), (c"trusted.overlay.redirect", &b"t"[..]));
        for both in [[user, trusted], [trusted, user]] {
            assert_eq!(markers_of(&both).unwrap().redirect, Some(Redirect::Name(b"t".to_vec())));
        }
    }

    #[test]
    fn default_acl() {
        // struct posix_acl_xattr_header, version 2, then (tag, perm, id): user, group, others.
        let mut acl = vec![2, 0, 0, 0];
        for tag in [1u16, 4, 32] {
            acl.extend(tag.to_le_bytes());
            acl.extend(7u16.to_le_bytes());
            acl.extend([0xff; 4]);
        }
        let got = markers_of(&[(c"system.posix_acl_default", &acl)]).unwrap();
        assert_eq!(got, DirMarkers { default_acl: true, ..DirMarkers::default() });
    }

    #[test]
    fn a_long_list_of_names() {
        let (_tmp, fd) = dir_with(&[]);
        for i in 0..20 {
            let name = CString::new(format!("user.{i:0100}")).unwrap();
            sys::xattr::set(At::Fd(fd.as_fd()), &name, b"", 0).unwrap();
        }
        sys::xattr::set(At::Fd(fd.as_fd()), c"user.overlay.opaque", b"y", 0).unwrap();
        assert!(read_dir_markers(fd.as_fd()).unwrap().opaque);
    }

    #[test]
    fn markers_of_a_file() {
        let tmp = tempfile::tempdir().unwrap();
        let root = open_root(tmp.path()).unwrap();
        let at = At::Name(root.as_fd(), OsStr::new("f"));
        drop(create_file(root.as_fd(), OsStr::new("f"), 0o600).unwrap());
        assert_eq!(read_file_markers(at).unwrap(), FileMarkers::default());
        for (name, value) in [
            (c"user.overlay.metacopy", &b""[..]),
            (c"user.overlay.redirect", b"other"),
            (c"user.overlay.origin", b"bytes"),
            (c"user.overlay.whiteout", b"y"),
            (c"user.overlay.nlink", b"U-1"),
        ] {
            sys::xattr::set(at, name, value, 0).unwrap();
        }
        let mut want = FileMarkers {
            metacopy: true,
            trusted_metacopy: false,
            redirect: Some(Redirect::Name(b"other".to_vec())),
            trusted_redirect: false,
            origin: Some(b"bytes".to_vec()),
            number: None,
            whiteout: true,
            nested: false,
            nlink: Some(NlinkDelta::Upper(-1)),
        };
        assert_eq!(read_file_markers(at).unwrap(), want);
        sys::xattr::set(at, c"user.overlay.nlink", b"nonsense", 0).unwrap();
        want.nlink = None;
        assert_eq!(read_file_markers(at).unwrap(), want);
    }

    #[test]
    fn oci_opaque() {
        let (_tmp, fd) = dir_with(&[]);
        assert!(!has_aufs_opaque(fd.as_fd()).unwrap());
        mknod(fd.as_fd(), OsStr::new(".wh..wh..opq"), 0o644, 0, 0).unwrap();
        assert!(has_aufs_opaque(fd.as_fd()).unwrap());
        assert!(!read_dir_markers(fd.as_fd()).unwrap().opaque);
    }
}
