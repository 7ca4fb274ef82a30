//! Hiding what is below a name of upper, in the form that the mount's probe chose ([`Form`]).

use std::ffi::OsStr;
use std::os::fd::AsFd;

use super::Overlay;
use super::copy_up::restore_times;
use super::create::is_stray_whiteout;
use super::dir::{InUpper, Slot};
use super::error::{Error, Result};
use super::names::Changing;
use crate::layer::whiteout::{Form, beside, fits};
use crate::layer::xattr::{Marker, Namespace};
use crate::sys::{self, At, Errno, RenameFlags, xattr};

impl Overlay {
    /// Hides what is below a name that upper does not have.
    pub(super) fn place_whiteout(&self, names: &mut Changing<'_>, name: &OsStr) -> Result<InUpper> {
        let work = &self.writable()?.work;
        if self.hides_beside()? {
            work.place_beside(names.fd(), name)?;
            return Ok(InUpper::WhiteoutBeside);
        }
        self.admit_whiteouts(names)?;
        work.place_whiteout(names.fd(), name)?;
        Ok(InUpper::Whiteout)
    }

    /// Whether whiteouts are made beside names, so that they can be there before an object goes.
    pub(super) fn hides_beside(&self) -> Result<bool> {
        Ok(self.writable()?.work.whiteouts.form == Form::Beside)
    }

    /// Before the first whiteout by attribute comes to a directory: without the marker it would be an empty file.
    pub(super) fn admit_whiteouts(&self, names: &mut Changing<'_>) -> Result<()> {
        if let Form::Attribute(_) = self.writable()?.work.whiteouts.form {
            self.mark_xwhiteouts(names)?;
        }
        Ok(())
    }

    /// The same whatever the form is.
    ///
    /// # Errors
    /// [`Error::CrossDevice`] where a mount without attributes would have to move one that another has made.
    pub(super) fn mark_xwhiteouts(&self, names: &mut Changing<'_>) -> Result<()> {
        if names.ns.xwhiteouts {
            return Ok(());
        }
        if !self.attributes {
            return Err(Error::CrossDevice);
        }
        self.mark_root()?;
        // What says that a directory is opaque is said by the same marker, and must stay. Kernel overlayfs, which knows `x` only,
        // has no use for it there: nothing is below.
        match names.ns.lowers.is_empty() {
            true => self.mark(At::Fd(names.fd()), Marker::Whiteout, b"y")?,
            false => self.mark(At::Fd(names.fd()), Marker::Opaque, b"x")?,
        }
        names.ns.xwhiteouts = true;
        Ok(())
    }

    /// Kernel overlayfs looks for whiteouts by attribute in layers only whose root says that there are some.
    fn mark_root(&self) -> Result<()> {
        let upper = self.writable()?;
        if upper.work.root_marked.get().is_some() {
            return Ok(());
        }
        let root = At::Fd(upper.layer.root.as_fd());
        let mut said = false;
        for namespace in [Namespace::Trusted, Namespace::User] {
            said |= xattr::get(root, namespace.name(Marker::Opaque))?.is_some();
        }
        if !said {
            self.mark(root, Marker::Opaque, b"x")?;
        }
        upper.work.root_marked.get_or_init(|| ());
        Ok(())
    }

    /// Puts a whiteout at a free name with nothing below, to be exchanged with what has too long a name for
    /// [`Overlay::hide_ahead`]. As there nobody sees a change.
    pub(super) fn place_to_exchange(&self, names: &mut Changing<'_>, name: &OsStr) -> Result<()> {
        self.admit_whiteouts(names)?;
        let at = At::Fd(names.fd());
        let before = sys::stat(at)?;
        match self.writable()?.work.place_whiteout(names.fd(), name) {
            // Another program has left one.
            Err(e) if e.is(Errno::EXIST) && is_stray_whiteout(names, name)? => Ok(()),
            placed => placed.map(|()| restore_times(at, &before)),
        }
    }

    /// Whether a name has no room for `.wh.`, where whiteouts under the name itself are made.
    pub(super) fn is_too_long_beside(&self, name: &OsStr) -> Result<bool> {
        Ok(!fits(name.as_encoded_bytes()) && !self.hides_beside()?)
    }

    /// How to rename away what hides something below.
    pub(super) fn leaving_flags(&self) -> Result<RenameFlags> {
        let by_rename = self.writable()?.work.whiteouts.by_rename;
        Ok(if by_rename { RenameFlags::WHITEOUT } else { RenameFlags::empty() })
    }

    /// Before an object goes from `name`, where that leaves no whiteout by itself: hides what is below from then on, and
    /// nothing yet, since it does not act on its own layer. A directory shows nothing from below by now, or has a redirect.
    /// Nobody sees a change: times are put back.
    ///
    /// # Errors
    /// [`Error::CrossDevice`] if the name is too long for that but could be copied and removed.
    pub(super) fn hide_ahead(&self, names: &mut Changing<'_>, name: &OsStr) -> Result<()> {
        self.admit_whiteouts(names)?;
        let at = At::Fd(names.fd());
        let before = sys::stat(at)?;
        match self.writable()?.work.place_beside(names.fd(), name) {
            Err(e) if e.is(Errno::NAMETOOLONG) && !self.hides_beside()? => Err(Error::CrossDevice),
            placed => placed.map(|()| restore_times(at, &before)),
        }
    }

    /// After it could not go.
    pub(super) fn unhide(&self, names: &Changing<'_>, name: &OsStr) {
        self.remove_unseen(names, &beside(name));
    }

    /// Removes a whiteout that hides nothing. Best effort: it does no harm.
    pub(super) fn remove_unseen(&self, names: &Changing<'_>, name: &OsStr) {
        let at = At::Fd(names.fd());
        let done = sys::stat(at).and_then(|before| {
            sys::unlink(names.fd(), name)?;
            restore_times(at, &before);
            Ok(())
        });
        if let Err(e) = done {
            log::warn!("a whiteout that hides nothing stays: {e}");
        }
    }

    /// After a rename of an object that had `slot`: what upper has under its old name. `swapped`: a whiteout has come
    /// there; `ahead`: one is beside it.
    pub(super) fn left_by_rename(
        &self,
        names: &Changing<'_>,
        name: &OsStr,
        slot: Slot,
        swapped: bool,
        ahead: bool,
    ) -> Result<InUpper> {
        if !slot.below {
            return Ok(InUpper::Absent);
        }
        if ahead && !swapped {
            return self.settle_whiteout(names, name);
        }
        if ahead {
            self.unhide(names, name);
        }
        Ok(InUpper::Whiteout)
    }

    /// Replaces the whiteout beside a name by one of the usual form. Where that cannot be made now, it stays.
    fn settle_whiteout(&self, names: &Changing<'_>, name: &OsStr) -> Result<InUpper> {
        let work = &self.writable()?.work;
        if self.hides_beside()? {
            return Ok(InUpper::WhiteoutBeside);
        }
        match work.place_whiteout(names.fd(), name) {
            Ok(()) => {
                self.unhide(names, name);
                Ok(InUpper::Whiteout)
            }
            // One that nobody saw has come there.
            Err(e) if e.is(Errno::EXIST) => Ok(InUpper::Whiteout),
            Err(e) => {
                log::debug!("a whiteout stays in the form .wh.NAME: {e}");
                Ok(InUpper::WhiteoutBeside)
            }
        }
    }
}
