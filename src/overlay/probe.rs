//! What the file system of upper lets this process do, found out at mount by doing it in the work directory.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};

use super::error::{Error, Result};
use super::merge::hides;
use super::options::Options;
use super::work::{Whiteouts, Work};
use crate::layer::override_stat::Dialect;
use crate::layer::whiteout::{Form, beside};
use crate::layer::xattr::{Marker, Namespace};
use crate::sys::{self, At, Errno, RenameFlags, xattr};

/// Which attributes can mark objects: `None` where there are none.
pub type Markers = Option<Namespace>;

/// Tries attributes and whiteouts; the latter are set in `work`.
///
/// # Errors
/// What is tried, and how it failed.
pub fn probe(work: &mut Work, options: &Options) -> std::result::Result<Markers, (&'static str, Error)> {
    let name = work.temporary();
    let failed = |what| move |e: sys::Error| (what, e.into());
    sys::mkdir(work.fd(), &name, 0o700).map_err(failed("making a directory in workdir"))?;
    let dir = sys::open_dir(work.fd(), &name).map_err(failed("opening a directory in workdir"))?;
    let tried = (|| {
        let markers = markers(At::Fd(dir.as_fd()), options).map_err(failed("setting attributes in workdir"))?;
        if options.override_stat {
            set_owner(At::Fd(dir.as_fd()), options).map_err(failed("keeping owners in attributes in workdir"))?;
        }
        can_exchange(dir.as_fd()).map_err(failed("exchanging two names in workdir (RENAME_EXCHANGE)"))?;
        work.whiteouts = whiteouts(work, dir.as_fd(), markers).map_err(|e| ("making a whiteout in workdir", e))?;
        Ok(markers)
    })();
    work.discard(&name);
    tried
}

fn markers(dir: At<'_>, options: &Options) -> sys::Result<Markers> {
    let mut found = None;
    let ours = if options.userxattr { &[Namespace::User][..] } else { &[Namespace::Trusted, Namespace::User] };
    for &namespace in ours {
        match xattr::set(dir, namespace.name(Marker::Impure), b"y", 0) {
            Ok(()) => {
                found = Some(namespace);
                break;
            }
            Err(e) if refused(e.errno) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(found)
}

fn set_owner(dir: At<'_>, options: &Options) -> sys::Result<()> {
    let dialect = if options.privileged_stat { Dialect::Privileged } else { Dialect::Containers };
    xattr::set(dir, dialect.name(), b"0:0:0700:dir", 0)
}

/// Whether names can be exchanged, without which a directory cannot be replaced in one step.
fn can_exchange(dir: BorrowedFd<'_>) -> sys::Result<()> {
    let [a, b] = ["a", "b"].map(OsStr::new);
    sys::mkdir(dir, a, 0o700)?;
    sys::mkdir(dir, b, 0o700)?;
    sys::rename(dir, a, dir, b, RenameFlags::EXCHANGE)
}

/// The first form that can be made and is found by what reads directories.
fn whiteouts(work: &mut Work, dir: BorrowedFd<'_>, markers: Markers) -> Result<Whiteouts> {
    let forms = [Some(Form::Device), markers.map(Form::Attribute), Some(Form::Beside)];
    let mut last = sys::Error { call: "readdir", errno: Errno::IO }.into();
    for form in forms.into_iter().flatten() {
        work.whiteouts = Whiteouts { form, by_rename: false };
        match works(work, dir, form) {
            Ok(true) => return Ok(Whiteouts { form, by_rename: form == Form::Device && left_by_rename(dir)? }),
            Ok(false) => {}
            Err(Error::Sys(e)) if refused(e.errno) => last = e.into(),
            Err(e) => return Err(e),
        }
        work.drop_shared_whiteout()?;
    }
    Err(last)
}

fn works(work: &Work, dir: BorrowedFd<'_>, form: Form) -> Result<bool> {
    let name = OsStr::new("gone");
    match form {
        Form::Beside => work.place_whiteout(dir, &beside(name))?,
        Form::Attribute(namespace) => {
            xattr::set(At::Fd(dir), namespace.name(Marker::Opaque), b"x", 0)?;
            work.place_whiteout(dir, name)?;
        }
        Form::Device => work.place_whiteout(dir, name)?,
    }
    let hidden = hides(dir, name)?;
    // Not to be in the way of the next form, and what cannot be removed is of no use.
    match form {
        Form::Beside => sys::unlink(dir, &beside(name))?,
        Form::Device | Form::Attribute(_) => sys::unlink(dir, name)?,
    }
    Ok(hidden)
}

fn left_by_rename(dir: BorrowedFd<'_>) -> Result<bool> {
    let [old, new] = ["a", "renamed"].map(OsStr::new);
    match sys::rename(dir, old, dir, new, RenameFlags::WHITEOUT) {
        Ok(()) => hides(dir, old),
        Err(e) if refused(e.errno) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// The file system or a filter of system calls does not do this, and will not; anything else is a failure to be told.
fn refused(errno: Errno) -> bool {
    [Errno::PERM, Errno::ACCESS, Errno::OPNOTSUPP, Errno::INVAL, Errno::NOSYS].contains(&errno)
}
