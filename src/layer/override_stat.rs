//! Owner, mode and type kept in an attribute, by programs that may neither chown(2) nor mknod(2).
//!
//! The form is that of rootless container tools (`idtools` of containers/storage, fuse-overlayfs): on a regular file or
//! directory, `user.containers.override_stat` = `UID:GID:MODE[:TYPE]`, numbers decimal, the mode octal, and TYPE one of
//! `file`, `dir`, `symlink`, `pipe`, `socket`, `block-MAJOR-MINOR`, `char-MAJOR-MINOR`. Attributes that would act on the
//! real owner, or may not be set, are beside it under `user.containers.override_` and their own name. fuse-overlayfs
//! writes the same under other names: see [`Dialect`].

use super::xattr::Attributes;
use crate::sys::{self, At, Errno, Stat};
use std::ffi::{CStr, CString};
use std::fmt;

/// The attribute.
pub const NAME: &CStr = Dialect::Containers.name();

/// The default access control list of a directory, kept aside, in each form.
pub const DEFAULT_ACLS: [&CStr; 2] =
    [c"user.containers.override_system.posix_acl_default", c"security.fuseoverlayfs.override_system.posix_acl_default"];

const CONTAINERS: &[u8] = b"user.containers.override_";
const PRIVILEGED: &[u8] = b"security.fuseoverlayfs.override_";

/// Under which name the attribute is stored. A layer's root tells which one its objects have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `security.fuseoverlayfs.override_stat`: fuse-overlayfs with `xattr_permissions=1`. Only root can set it, on objects
    /// of every type.
    Privileged,
    /// `user.containers.override_stat`: rootless container tools, fuse-overlayfs from version 1.14 on.
    Containers,
    /// `user.fuseoverlayfs.override_stat`: fuse-overlayfs before, with `xattr_permissions=2`.
    FuseOverlayfs,
}

impl Dialect {
    /// All of them; the one that is believed first where a root has several.
    pub const ALL: [Self; 3] = [Self::Privileged, Self::Containers, Self::FuseOverlayfs];

    /// The name of the attribute.
    pub const fn name(self) -> &'static CStr {
        match self {
            Self::Privileged => c"security.fuseoverlayfs.override_stat",
            Self::Containers => c"user.containers.override_stat",
            Self::FuseOverlayfs => c"user.fuseoverlayfs.override_stat",
        }
    }

    /// Whether an object can have it: `user.*` attributes exist on regular files and directories only (xattr(7)).
    pub fn can_be_on(self, disk: &Stat) -> bool {
        disk.is_file() || disk.is_dir() || self == Self::Privileged
    }

    /// What an object that is `disk` shows with the attribute; `None` where it has none.
    ///
    /// # Errors
    /// `EINVAL` of the attribute's name when it makes no sense, or has a type that the object cannot stand for: nobody may be
    /// given permissions that it was to take away.
    pub fn shown(self, at: impl Attributes, disk: Stat) -> sys::Result<Option<Stat>> {
        match self.read(at, &disk)? {
            Some(kept) => kept.apply(disk).ok_or(self.malformed()).map(Some),
            None => Ok(None),
        }
    }

    fn malformed(self) -> sys::Error {
        sys::Error { call: self.name().to_str().unwrap_or("override_stat"), errno: Errno::INVAL }
    }

    fn read(self, at: impl Attributes, disk: &Stat) -> sys::Result<Option<OverrideStat>> {
        if !self.can_be_on(disk) {
            return Ok(None);
        }
        let mut value = [0; MAX_LEN];
        match at.get_into(self.name(), &mut value) {
            Ok(Some(len)) => OverrideStat::parse(&value[..len]).ok_or(self.malformed()).map(Some),
            Ok(None) => Ok(None),
            // Not even the owner may read it: made by another program, or somebody else's.
            Err(e) if e.is(Errno::ACCESS) => Ok(None),
            Err(e) if e.is(Errno::RANGE) => Err(self.malformed()),
            Err(e) => Err(e),
        }
    }

    /// The name under which an attribute is kept aside; `None` for one that is stored under its own.
    pub fn aside(self, name: &[u8]) -> Option<CString> {
        let prefix = if self == Self::Privileged { PRIVILEGED } else { CONTAINERS };
        let kept = [&b"security."[..], b"system.posix_acl_"].iter().any(|kind| name.starts_with(kind));
        if kept && !is_own(name) { CString::new([prefix, name].concat()).ok() } else { None }
    }
}

/// Longest value that makes sense: four numbers of ten digits and the longest word are less.
pub const MAX_LEN: usize = 80;

/// What the attribute says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverrideStat {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits, set-id and sticky ones included.
    pub mode: u32,
    /// Type bits (`S_IFMT`) with major and minor number of a device; `None` where the object says it itself.
    pub kind: Option<(u32, u32, u32)>,
}

impl OverrideStat {
    /// Reads a value; `None` when it makes no sense.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let mut fields = std::str::from_utf8(value).ok()?.splitn(4, ':');
        let uid = owner(fields.next()?)?;
        let gid = owner(fields.next()?)?;
        let mode = u32::from_str_radix(digits(fields.next()?)?, 8).ok()? & 0o7777;
        let kind = match fields.next() {
            Some(word) => Some(kind(word)?),
            None => None,
        };
        Some(Self { uid, gid, mode, kind })
    }

    /// What an object that is `disk` shows with the attribute; `None` for a type that the object cannot stand for.
    pub fn apply(self, disk: Stat) -> Option<Stat> {
        let Self { uid, gid, mode, kind } = self;
        let mut stat = Stat { uid, gid, mode: disk.file_type() | mode, ..disk };
        if let Some((kind, major, minor)) = kind.filter(|k| k.0 != disk.file_type()) {
            // A regular file can stand for anything that has no content of its own.
            if !disk.is_file() || kind == libc::S_IFDIR || kind == libc::S_IFLNK {
                return None;
            }
            stat.mode = kind | mode;
            (stat.rdev_major, stat.rdev_minor) = (major, minor);
        }
        Some(stat)
    }
}

/// What an object that is `disk` shows in a layer of rootless container tools.
///
/// # Errors
/// As [`Dialect::shown`].
pub fn shown_stat(at: At<'_>, disk: Stat) -> sys::Result<Stat> {
    Ok(Dialect::Containers.shown(at, disk)?.unwrap_or(disk))
}

/// The value.
impl fmt::Display for OverrideStat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uid, gid, mode, kind } = *self;
        write!(f, "{uid}:{gid}:{mode:04o}")?;
        match kind {
            None => Ok(()),
            Some((libc::S_IFDIR, ..)) => f.write_str(":dir"),
            Some((libc::S_IFLNK, ..)) => f.write_str(":symlink"),
            Some((libc::S_IFIFO, ..)) => f.write_str(":pipe"),
            Some((libc::S_IFSOCK, ..)) => f.write_str(":socket"),
            Some((libc::S_IFBLK, major, minor)) => write!(f, ":block-{major}-{minor}"),
            Some((libc::S_IFCHR, major, minor)) => write!(f, ":char-{major}-{minor}"),
            Some(_) => f.write_str(":file"),
        }
    }
}

fn kind(word: &str) -> Option<(u32, u32, u32)> {
    let plain = |kind| Some((kind, 0, 0));
    match word {
        "file" => plain(libc::S_IFREG),
        "dir" => plain(libc::S_IFDIR),
        "symlink" => plain(libc::S_IFLNK),
        "pipe" => plain(libc::S_IFIFO),
        "socket" => plain(libc::S_IFSOCK),
        _ => {
            let mut parts = word.split('-');
            let kind = match parts.next()? {
                "block" => libc::S_IFBLK,
                "char" => libc::S_IFCHR,
                _ => return None,
            };
            // What the kernel's 32 bits of a device number hold.
            let number = |part: &str, bits: u32| digits(part)?.parse().ok().filter(|n: &u32| *n < 1 << bits);
            let (major, minor) = (number(parts.next()?, 12)?, number(parts.next()?, 20)?);
            parts.next().is_none().then_some((kind, major, minor))
        }
    }
}

/// `u32::MAX` is no owner: chown(2) takes it for "as it is".
fn owner(text: &str) -> Option<u32> {
    digits(text)?.parse().ok().filter(|id| *id != u32::MAX)
}

/// Numbers have no sign.
fn digits(text: &str) -> Option<&str> {
    text.bytes().all(|b| b.is_ascii_digit()).then_some(text)
}

/// Whether a stored name belongs to this form, in any dialect (those of `user.fuseoverlayfs.` are never shown).
pub fn is_own(name: &[u8]) -> bool {
    [CONTAINERS, PRIVILEGED].iter().any(|prefix| name.starts_with(prefix))
}

/// The inverse of [`Dialect::aside`]: what is shown of a stored name.
pub fn shown(stored: &[u8]) -> Option<&[u8]> {
    let name = [CONTAINERS, PRIVILEGED].iter().find_map(|prefix| stored.strip_prefix(*prefix))?;
    Some(name).filter(|name| Dialect::Containers.aside(name).is_some())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sys::xattr;

    #[test]
    fn values_of_every_type_survive_a_round_trip() {
        for (text, kind) in [
            ("0:0:0755:dir", Some((libc::S_IFDIR, 0, 0))),
            ("1:4294967294:4755:file", Some((libc::S_IFREG, 0, 0))),
            ("1:2:0777:symlink", Some((libc::S_IFLNK, 0, 0))),
            ("1:2:0000:pipe", Some((libc::S_IFIFO, 0, 0))),
            ("1:2:7777:socket", Some((libc::S_IFSOCK, 0, 0))),
            ("1:2:0660:block-8-1", Some((libc::S_IFBLK, 8, 1))),
            ("1:2:0666:char-0-0", Some((libc::S_IFCHR, 0, 0))),
            ("1:2:0666:char-4095-1048575", Some((libc::S_IFCHR, 4095, 1_048_575))),
            ("1:2:0644", None),
        ] {
            let parsed = OverrideStat::parse(text.as_bytes()).unwrap();
            assert_eq!((parsed.kind, parsed.to_string().as_str()), (kind, text));
            assert!(text.len() < MAX_LEN);
        }
        let foreign = OverrideStat::parse(b"0:0:100644").unwrap();
        assert_eq!(foreign, OverrideStat { uid: 0, gid: 0, mode: 0o644, kind: None }, "a mode with its type");
    }

    #[test]
    fn nonsense_is_none() {
        for text in [
            "",
            "0",
            "0:0",
            "0:0:",
            "a:0:0",
            "0:0:8",
            "-1:0:0",
            "+1:0:0",
            " 1:0:0",
            "4294967295:0:0",
            "0:4294967295:0",
            "0:0:0:",
            "0:0:0:device",
            "0:0:0:char",
            "0:0:0:char-1",
            "0:0:0:char-1-",
            "0:0:0:char-1-3-4",
            "0:0:0:char-4096-0",
            "0:0:0:block-0-1048576",
            "0:0:0:file:more",
            "0:0:0:file\n",
        ] {
            assert_eq!(OverrideStat::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(OverrideStat::parse(b"0:0:0:\xff"), None);
    }

    #[test]
    fn names_kept_aside() {
        let name = b"security.capability";
        let aside = |dialect: Dialect| dialect.aside(name).unwrap();
        let [privileged, containers, fuse] = Dialect::ALL.map(aside);
        assert_eq!(containers.as_c_str(), c"user.containers.override_security.capability");
        assert_eq!(privileged.as_c_str(), c"security.fuseoverlayfs.override_security.capability");
        assert_eq!(fuse, containers);
        for kept in [&privileged, &containers] {
            assert_eq!(shown(kept.to_bytes()), Some(&name[..]));
            assert!(is_own(kept.to_bytes()));
            assert_eq!(Dialect::Privileged.aside(kept.to_bytes()), None);
        }
        let acls = [Dialect::Containers, Dialect::Privileged].map(|d| d.aside(b"system.posix_acl_default").unwrap());
        assert_eq!(acls.each_ref().map(CString::as_c_str), DEFAULT_ACLS);
        for other in ["user.a", "trusted.a", "system.other", "user.containers.override_stat"] {
            assert_eq!(Dialect::Containers.aside(other.as_bytes()), None);
        }
        for own in [Dialect::Privileged, Dialect::Containers] {
            assert!(is_own(own.name().to_bytes()));
            assert_eq!(shown(own.name().to_bytes()), None);
        }
        assert!(!is_own(b"user.containers.x"));
        assert_eq!(shown(b"user.containers.override_user.a"), None);
    }

    /// Of three names it is one that is wrong.
    #[test]
    fn errors_name_the_attribute_that_was_read() {
        let tmp = tempfile::NamedTempFile::new().unwrap();
        let at = At::Fd(std::os::fd::AsFd::as_fd(tmp.as_file()));
        let disk = sys::stat(at).unwrap();
        for dialect in [Dialect::Containers, Dialect::FuseOverlayfs] {
            let name = dialect.name().to_str().unwrap();
            for wrong in [&b"nonsense"[..], b"0:0:0755:dir", &[b'0'; MAX_LEN + 1]] {
                xattr::set(at, dialect.name(), wrong, 0).unwrap();
                let error = dialect.shown(at, disk).unwrap_err();
                assert!(error.is(Errno::INVAL) && error.to_string().starts_with(name), "{error}");
            }
            xattr::set(at, dialect.name(), b"1:2:0644", 0).unwrap();
            assert_eq!(dialect.shown(at, disk).unwrap().unwrap().uid, 1);
        }
    }
}
