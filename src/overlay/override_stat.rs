//! What an object shows of owner, mode and type, and changing that: in the file system, or with
//! [`Options::override_stat`](super::Options::override_stat) in an attribute ([`crate::layer::override_stat`]).
//!
//! In the latter form the objects of upper belong to the daemon's user, and their permissions on disk are what that user
//! needs; what is shown, and checked by the kernel, is the attribute. Without it an object shows what is on disk.
//! Everything that is not a directory or a symbolic link is a regular file, because nothing else can have `user.*`
//! attributes. Access control lists and `security.*` attributes are kept aside, where they act on nobody here.

use std::ffi::{CStr, CString, OsStr};

use parking_lot::Mutex;

use super::Overlay;
use super::acl::{self, ACCESS};
use super::error::{Error, Result};
use super::owner::as_owner;
use crate::layer::override_stat::{self as form, Dialect, OverrideStat};
use crate::layer::xattr::{escape, is_internal};
use crate::sys::{self, At, Errno, Fd, Stat, xattr};

/// Held from reading the attribute to writing it, or of two changes one could be lost.
static CHANGING: Mutex<()> = Mutex::new(());

impl Overlay {
    /// `stat(2)` with what the object shows. Of symbolic links and of what other programs made that is what is on disk.
    pub(super) fn stat(&self, at: At<'_>) -> Result<Stat> {
        let stat = sys::stat(at)?;
        self.shown(at, stat)
    }

    /// The same when `stat(2)` was asked already.
    ///
    /// # Errors
    /// `EINVAL` for an attribute that makes no sense: nobody may be given permissions that it was to take away.
    pub(super) fn shown(&self, at: At<'_>, disk: Stat) -> Result<Stat> {
        if !self.override_stat {
            return Ok(disk);
        }
        Ok(self.shown_by(at, disk)?.unwrap_or(disk))
    }

    /// What is shown by the attribute, under the first name that the object has; `None` where it has none.
    fn shown_by(&self, at: At<'_>, disk: Stat) -> Result<Option<Stat>> {
        for dialect in &self.dialects {
            let shown = dialect.shown(at, disk)?;
            if shown.is_some() {
                return Ok(shown);
            }
        }
        Ok(None)
    }

    /// Under which name it is written.
    fn dialect(&self) -> Dialect {
        self.dialects.first().copied().unwrap_or(Dialect::Containers)
    }

    /// chown(2) of an object of upper. As everywhere it takes set-id bits off what is not a directory.
    pub(super) fn chown(&self, at: At<'_>, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        if !self.override_stat {
            return Ok(sys::chown(at, uid, gid)?);
        }
        self.change(at, |shown| {
            (shown.uid, shown.gid) = (uid.unwrap_or(shown.uid), gid.unwrap_or(shown.gid));
            if !shown.is_dir() {
                shown.mode = super::privilege::without_set_id(shown, || true);
            }
        })
    }

    /// chmod(2) of an object of upper, with its access control list.
    pub(super) fn chmod(&self, at: At<'_>, mode: u32) -> Result<()> {
        if !self.override_stat {
            return Ok(sys::chmod(at, mode)?);
        }
        if let Some(acl) = self.get_acl(at, ACCESS)? {
            let acl = acl::with_mode(&acl, mode).ok_or(Error::Invalid)?;
            set(at, &self.acl_aside(ACCESS)?, &acl, 0)?;
        }
        self.change(at, |shown| shown.mode = shown.file_type() | mode & 0o7777)
    }

    fn change(&self, at: At<'_>, change: impl FnOnce(&mut Stat)) -> Result<()> {
        let _alone = CHANGING.lock();
        let disk = sys::stat(at)?;
        let kept = self.shown_by(at, disk)?;
        let mut shown = kept.unwrap_or(disk);
        change(&mut shown);
        if !self.dialect().can_be_on(&disk) || kept.is_some() {
            return self.give(at, &disk, &shown);
        }
        // Until the attribute is there, what is on disk is shown.
        self.write_kept(at, &shown)?;
        if let Err(e) = fit_disk(at, &disk, &shown) {
            log::warn!("an object of upper keeps its permissions on disk ({:o}): {e}", disk.mode & 0o7777);
        }
        Ok(())
    }

    /// Has an object of upper, which is `disk`, show owner, mode and type of `shown`. The attribute commits: the object
    /// has one already, or nobody sees it yet.
    pub(super) fn give(&self, at: At<'_>, disk: &Stat, shown: &Stat) -> Result<()> {
        let can_have = self.dialect().can_be_on(disk);
        if disk.is_symlink() && !can_have {
            // Only root can keep the owner of one.
            return match sys::chown(at, Some(shown.uid), Some(shown.gid)) {
                Err(e) if [Errno::PERM, Errno::INVAL, Errno::OVERFLOW].contains(&e.errno) => Ok(()),
                done => Ok(done?),
            };
        }
        if !can_have {
            // Made by another program as what it is.
            sys::chown(at, Some(shown.uid), Some(shown.gid))?;
            return Ok(sys::chmod(at, shown.mode & 0o7777)?);
        }
        fit_disk(at, disk, shown)?;
        self.write_kept(at, shown)
    }

    fn write_kept(&self, at: At<'_>, shown: &Stat) -> Result<()> {
        let Stat { uid, gid, mode, rdev_major, rdev_minor, .. } = *shown;
        let kind = Some((shown.file_type(), rdev_major, rdev_minor));
        // Links have no permissions of their own.
        let mode = if shown.is_symlink() { 0o777 } else { mode & 0o7777 };
        let value = OverrideStat { uid, gid, mode, kind }.to_string();
        set(at, self.dialect().name(), value.as_bytes(), 0)
    }

    /// The name under which upper stores what the caller calls `name`.
    pub(super) fn stored_name(&self, name: &CStr) -> Result<CString> {
        let bytes = name.to_bytes();
        if let Some(escaped) = escape(bytes) {
            return Ok(escaped);
        }
        if is_internal(bytes) || self.override_stat && form::is_own(bytes) {
            return Err(Error::Reserved);
        }
        Ok(self.aside(name).unwrap_or_else(|| name.to_owned()))
    }

    /// The name under which an attribute is kept aside, if it is.
    pub(super) fn aside(&self, name: &CStr) -> Option<CString> {
        if self.override_stat { self.dialect().aside(name.to_bytes()) } else { None }
    }

    /// The stored name of an access control list.
    fn acl_aside(&self, name: &CStr) -> Result<CString> {
        self.aside(name).ok_or(Error::Invalid)
    }

    /// The name under which the copy of an object gets its attribute `name`, one of `list`; `None` if it does not.
    pub(super) fn copied_as(&self, name: &CStr, list: &[u8]) -> Option<CString> {
        if !self.override_stat {
            return Some(name.to_owned());
        }
        if form::is_own(name.to_bytes()) {
            // Owner and mode are given otherwise; what is kept aside stays so.
            return form::shown(name.to_bytes()).and_then(|shown| self.dialect().aside(shown));
        }
        let Some(aside) = self.aside(name) else { return Some(name.to_owned()) };
        // The label of the lower file is that of this machine, not of what is shown.
        let is_label = name == c"security.selinux";
        let there = |dialect: &Dialect| {
            dialect.aside(name.to_bytes()).is_some_and(|aside| list.split(|&b| b == 0).any(|n| n == aside.to_bytes()))
        };
        let kept = self.dialects.iter().any(there);
        Some(aside).filter(|_| !is_label && !kept)
    }

    /// An attribute that the object shows under `name`, stored under `stored`. What is not kept aside is what another
    /// program left on disk.
    pub(super) fn shown_xattr(&self, at: At<'_>, name: &CStr, stored: &CStr) -> Result<Option<Vec<u8>>> {
        if !form::is_own(stored.to_bytes()) || !self.override_stat {
            return Ok(xattr::get(at, stored)?);
        }
        for aside in self.dialects.iter().filter_map(|dialect| dialect.aside(name.to_bytes())) {
            match xattr::get(at, &aside) {
                Ok(None) => {}
                // As with the attribute itself.
                Err(e) if e.is(Errno::ACCESS) => {}
                value => return Ok(value?),
            }
        }
        Ok(xattr::get(at, name)?)
    }

    /// Removes an attribute that was found, from all places where it is.
    pub(super) fn remove_shown_xattr(&self, at: At<'_>, name: &CStr, stored: &CStr) -> Result<()> {
        let mut places = vec![stored.to_owned()];
        if self.override_stat && form::is_own(stored.to_bytes()) {
            places = self.dialects.iter().filter_map(|dialect| dialect.aside(name.to_bytes())).collect();
            places.push(name.to_owned());
            places.dedup();
        }
        let mut found = false;
        for (n, place) in places.iter().enumerate() {
            // Without the right to remove it, one that is not there is EPERM: asked for first.
            if n > 0 && xattr::get(at, place)?.is_none() {
                continue;
            }
            match xattr::remove(at, place) {
                Err(e) if e.is(Errno::NODATA) => {}
                removed => {
                    removed?;
                    found = true;
                }
            }
        }
        if found { Ok(()) } else { Err(Error::NoAttribute) }
    }

    /// An access control list.
    pub(super) fn get_acl(&self, at: At<'_>, name: &CStr) -> Result<Option<Vec<u8>>> {
        match self.aside(name) {
            Some(stored) => self.shown_xattr(at, name, &stored),
            None => Ok(xattr::get(at, name)?),
        }
    }

    /// Sets an access control list and, where the file system does not do it, the mode that an access one implies. One
    /// that says no more than a mode does is not kept. In no moment is anybody allowed what neither the old nor the new
    /// one allows.
    pub(super) fn set_acl(&self, at: At<'_>, name: &CStr, value: &[u8], flags: i32) -> Result<()> {
        let stored = match self.aside(name) {
            Some(stored) if name == ACCESS => stored,
            Some(stored) => return set(at, &stored, value, flags),
            None => return Ok(xattr::set(at, name, value, flags)?),
        };
        let bits = acl::mode_of(value).ok_or(Error::Invalid)?;
        let set_mode = || self.change(at, |shown| shown.mode = shown.mode & !0o777 | bits);
        if acl::is_minimal(value) {
            set_mode()?;
            return match self.remove_shown_xattr(at, name, &stored) {
                Err(Error::NoAttribute) => Ok(()),
                done => done,
            };
        }
        set(at, &stored, value, flags)?;
        set_mode()
    }
}

/// Gives an object the permissions on disk that go with what it shows.
fn fit_disk(at: At<'_>, disk: &Stat, shown: &Stat) -> sys::Result<()> {
    let mode = mode_on_disk(shown);
    if disk.is_symlink() || disk.mode & 0o7777 == mode { Ok(()) } else { sys::chmod(at, mode) }
}

/// setxattr(2), also where another program left a file without write permission for its owner.
fn set(at: At<'_>, name: &CStr, value: &[u8], flags: i32) -> Result<()> {
    as_owner(at, || Ok(xattr::set(at, name, value, flags)?))
}

/// Permissions on disk of an object that shows `shown`: what the daemon needs, never set-id bits. That a file can be
/// executed is kept for those who look at the layer without the attributes.
fn mode_on_disk(shown: &Stat) -> u32 {
    if shown.is_dir() || shown.is_file() && shown.mode & 0o111 != 0 { 0o700 } else { 0o600 }
}

/// Makes what is to show `shown`, which is no symbolic link, and returns what it is on disk. [`Overlay::give`] must follow
/// before anybody sees it. A device 0:0 is made as any other: a file with an attribute is no whiteout.
pub(super) fn make_on_disk(dir: Fd<'_>, name: &OsStr, shown: &Stat) -> sys::Result<Stat> {
    let kind = if shown.is_dir() { libc::S_IFDIR } else { libc::S_IFREG };
    let mode = mode_on_disk(shown);
    if shown.is_dir() {
        sys::mkdir(dir, name, mode)?
    } else {
        sys::mknod(dir, name, kind | mode, 0, 0)?
    };
    Ok(Stat { mode: kind | mode, ..Stat::default() })
}
