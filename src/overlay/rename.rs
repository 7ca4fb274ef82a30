//! Renaming, in all its variants, each with one system call that commits. What is done before: `redirects.rs`; a
//! directory onto another: `rename_dir.rs`.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::sync::Arc;

use super::Overlay;
use super::create::is_stray_whiteout;
use super::dir::InUpper;
use super::error::{Error, Result};
use super::inode::{Ino, Inode, Link, Name, UPPER};
use super::lookup::check_name;
use super::names::Changing;
use crate::layer::whiteout;
use crate::sys::{self, Errno, RenameFlags};

/// What happens to the new name if it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// It is replaced.
    Replace,
    /// The call fails.
    NoReplace,
    /// The two names change places.
    Exchange,
}

/// One side of a rename.
pub(super) struct Side<'a> {
    pub parent: &'a Arc<Inode>,
    pub name: &'a OsStr,
}

/// Two directories locked for a change, or one if they are the same.
pub(super) struct Pair<'a> {
    first: Changing<'a>,
    second: Option<Changing<'a>>,
    swapped: bool,
}

impl<'a> Pair<'a> {
    pub fn from(&mut self) -> &mut Changing<'a> {
        match &mut self.second {
            Some(second) if self.swapped => second,
            _ => &mut self.first,
        }
    }

    pub fn to(&mut self) -> &mut Changing<'a> {
        match &mut self.second {
            Some(second) if !self.swapped => second,
            _ => &mut self.first,
        }
    }
}

impl Overlay {
    /// Renames `old_name` in `old_parent` to `new_name` in `new_parent`.
    ///
    /// # Errors
    /// [`Error::CrossDevice`] for a directory of a lower layer when redirects are off or the path is too long; callers
    /// such as mv(1) then copy.
    pub fn rename(
        &self,
        old_parent: Ino,
        old_name: &OsStr,
        new_parent: Ino,
        new_name: &OsStr,
        mode: RenameMode,
    ) -> Result<()> {
        self.writable()?;
        check_name(new_name)?;
        if whiteout::reserved(new_name.as_encoded_bytes()) {
            return Err(Error::Reserved);
        }
        let (old_parent, new_parent) = (self.directory(old_parent)?, self.directory(new_parent)?);
        let old = Side { parent: &old_parent, name: old_name };
        let new = Side { parent: &new_parent, name: new_name };
        let mut tries = 0;
        loop {
            // Who renames has asked for the new name just before: in a directory of upper alone it is free if nothing is known
            // of it, or the system call says otherwise. Later tries look.
            let assume = tries == 0 && mode != RenameMode::Exchange;
            match self.rename_once(&old, &new, mode, assume) {
                // Somebody made the new name meanwhile.
                Err(Error::Exists) if mode == RenameMode::Replace && tries < 100 => tries += 1,
                done => return done,
            }
        }
    }

    fn rename_once(&self, old: &Side<'_>, new: &Side<'_>, mode: RenameMode, assume: bool) -> Result<()> {
        let (source, _) = self.lookup_in(old.parent, old.name)?;
        let target = if assume && new.parent.dir.as_ref().is_some_and(|dir| dir.seems_free(new.name)) {
            Ok(None)
        } else {
            match self.lookup_in(new.parent, new.name) {
                Ok((target, _)) => Ok(Some(target)),
                Err(Error::NotFound) => Ok(None),
                Err(e) => Err(e),
            }
        };
        let done = target
            .as_ref()
            .map_err(|&e| e)
            .and_then(|target| self.rename_objects(old, new, &source, target.as_ref(), mode));
        self.forget(source.ino, 1);
        if let Ok(Some(target)) = target {
            self.forget(target.ino, 1);
        }
        done
    }

    fn rename_objects(
        &self,
        old: &Side<'_>,
        new: &Side<'_>,
        source: &Arc<Inode>,
        target: Option<&Arc<Inode>>,
        mode: RenameMode,
    ) -> Result<()> {
        match (target, mode) {
            (Some(_), RenameMode::NoReplace) => return Err(Error::Exists),
            (None, RenameMode::Exchange) => return Err(Error::NotFound),
            (Some(t), _) if Arc::ptr_eq(t, source) => return Ok(()),
            _ if is_in(new.parent, source) => return Err(Error::Invalid),
            (Some(t), RenameMode::Exchange) if is_in(old.parent, t) => return Err(Error::Invalid),
            (Some(t), _) if is_in(old.parent, t) => return Err(Error::NotEmpty),
            (Some(t), RenameMode::Replace) if t.is_dir() && !source.is_dir() => return Err(Error::IsDirectory),
            (Some(t), RenameMode::Replace) if !t.is_dir() && source.is_dir() => return Err(Error::NotDirectory),
            _ => {}
        }
        self.prepare_moved(old, new, source)?;
        if let Some(target) = target {
            if mode == RenameMode::Exchange {
                self.prepare_moved(new, old, target)?;
            } else if !target.is_dir() {
                let link = target.link(new.parent, new.name).ok_or(Error::NotFound)?;
                self.bring_link_up(target, &link)?;
            }
        }
        let kept = match target.filter(|t| t.is_dir() && mode == RenameMode::Replace) {
            Some(target) => Some(self.top_dir(target)?),
            None => None,
        };
        let mut pair = self.changing_two(old.parent, new.parent)?;
        if source.link(old.parent, old.name).is_none() || target.is_some_and(|t| t.link(new.parent, new.name).is_none())
        {
            return Err(Error::NotFound);
        }
        if target.is_none() && pair.to().ns.slot(new.name).visible() {
            return Err(Error::Exists);
        }
        match (mode, target) {
            (RenameMode::Exchange, Some(target)) => self.exchange(&mut pair, old, new, source, target),
            (_, Some(target)) if target.is_dir() => {
                let kept = kept.ok_or(Error::Stale)?;
                self.replace_dir(&mut pair, old, new, source, target, kept)
            }
            (_, target) => self.replace(&mut pair, old, new, source, target),
        }
    }

    fn changing_two<'a>(&self, a: &'a Arc<Inode>, b: &'a Arc<Inode>) -> Result<Pair<'a>> {
        if Arc::ptr_eq(a, b) {
            return Ok(Pair { first: self.changing(a)?, second: None, swapped: false });
        }
        // Copied up and opened before the first lock is taken: both look at ancestors.
        for dir in [a, b] {
            self.copy_up_dir(dir)?;
        }
        let (fd_a, fd_b) = (self.upper_dir(a)?, self.upper_dir(b)?);
        let swapped = must_come_first(b, a);
        let (first, second) = if swapped { ((b, fd_b), (a, fd_a)) } else { ((a, fd_a), (b, fd_b)) };
        let first = self.changing_with(first.0, first.1)?;
        let second = self.changing_with(second.0, second.1)?;
        Ok(Pair { first, second: Some(second), swapped })
    }

    /// The usual rename, onto nothing or a file.
    fn replace(
        &self,
        pair: &mut Pair<'_>,
        old: &Side<'_>,
        new: &Side<'_>,
        source: &Arc<Inode>,
        target: Option<&Arc<Inode>>,
    ) -> Result<()> {
        let from = pair.from().ns.slot(old.name);
        let to = pair.to().ns.slot(new.name);
        if let Some(target) = target {
            let link = target.link(new.parent, new.name).ok_or(Error::NotFound)?;
            let names = pair.to();
            self.keep(target, &names.ns, names.fd(), &link)?;
        }
        let _counting = self.counting(target)?;
        let over_whiteout = to.upper == InUpper::Whiteout;
        let (flags, mut swaps) = match (from.below, over_whiteout) {
            (true, true) => (RenameFlags::EXCHANGE, true),
            (true, false) => (self.leaving_flags()?, false),
            (false, true) if source.is_dir() => (RenameFlags::EXCHANGE, true),
            (false, _) => (RenameFlags::empty(), false),
        };
        let (mut ahead, mut placed, mut flags) = (from.below && flags.is_empty(), false, flags);
        if ahead && target.is_none() && self.is_too_long_beside(old.name)? {
            self.admit_whiteouts(pair.from())?;
            self.place_to_exchange(pair.to(), new.name)?;
            (flags, swaps, ahead, placed) = (RenameFlags::EXCHANGE, true, false, true);
        }
        let (over_whiteout, mut hidden) = (over_whiteout || placed, false);
        let counted = target.map_or(Ok(()), |t| self.count_by_upper(t));
        let committed = counted.and_then(|()| self.carry_impure(pair, false)).and_then(|()| {
            if swaps || source.is_dir() {
                self.carry_xwhiteouts(pair)?;
            }
            if ahead {
                self.hide_ahead(pair.from(), old.name)?;
                hidden = true;
            }
            if target.is_some() || over_whiteout {
                return self.commit(pair, old, new, flags);
            }
            match self.commit(pair, old, new, flags | RenameFlags::NOREPLACE) {
                Err(e) if e.is(Errno::EXIST) && is_stray_whiteout(pair.to(), new.name)? => {
                    swaps = source.is_dir();
                    self.commit(pair, old, new, if swaps { RenameFlags::EXCHANGE } else { flags })
                }
                Err(e) if e.is(Errno::EXIST) => Err(Error::Exists),
                committed => committed,
            }
        });
        if let Err(e) = committed {
            if hidden {
                self.unhide(pair.from(), old.name);
            }
            if placed {
                self.remove_unseen(pair.to(), new.name);
            }
            if let Some(target) = target {
                self.release(target);
            }
            return Err(e);
        }
        if swaps && !from.below {
            // The whiteout that came to the old name hides nothing.
            if let Err(e) = sys::unlink(pair.from().fd(), old.name) {
                log::warn!("a whiteout that hides nothing stays: {e}");
            }
        }
        if let Some(target) = target {
            self.drop_link(target, new.parent, new.name);
            self.counted(target, -1);
        }
        let left = self.left_by_rename(pair.from(), old.name, from, swaps, ahead)?;
        self.moved(pair, old, new, source, left);
        Ok(())
    }

    fn exchange(
        &self,
        pair: &mut Pair<'_>,
        old: &Side<'_>,
        new: &Side<'_>,
        source: &Arc<Inode>,
        target: &Arc<Inode>,
    ) -> Result<()> {
        self.carry_impure(pair, true)?;
        self.commit(pair, old, new, RenameFlags::EXCHANGE)?;
        let numbers = |i: &Inode| i.state.lock().upper.unwrap_or_default();
        let (source_ino, target_ino) = (numbers(source), numbers(target));
        self.note_upper(pair.to(), new.parent, new.name, InUpper::Present, source.kind, source_ino);
        self.note_upper(pair.from(), old.parent, old.name, InUpper::Present, target.kind, target_ino);
        relink(source, old, new);
        relink(target, new, old);
        for (side, object) in [(new, source), (old, target)] {
            if let Some(dir) = &side.parent.dir {
                dir.learn(side.name.into(), object.ino);
            }
        }
        Ok(())
    }

    /// What moves out of an impure directory may have an origin: the directory it comes to is then impure too.
    pub(super) fn carry_impure(&self, pair: &mut Pair<'_>, both: bool) -> Result<()> {
        if pair.from().ns.impure {
            self.mark_impure(pair.to())?;
        }
        if both && pair.to().ns.impure {
            self.mark_impure(pair.from())?;
        }
        Ok(())
    }

    /// Before an exchange with a whiteout.
    fn carry_xwhiteouts(&self, pair: &mut Pair<'_>) -> Result<()> {
        if pair.to().ns.xwhiteouts { self.mark_xwhiteouts(pair.from()) } else { Ok(()) }
    }

    pub(super) fn commit(&self, pair: &mut Pair<'_>, old: &Side<'_>, new: &Side<'_>, flags: RenameFlags) -> Result<()> {
        let (a, b) = (pair.from().upper.clone(), pair.to().upper.clone());
        Ok(sys::rename(a.as_fd(), old.name, b.as_fd(), new.name, flags)?)
    }

    /// Records the move in memory; `left` is what upper has under the old name now.
    pub(super) fn moved(
        &self,
        pair: &mut Pair<'_>,
        old: &Side<'_>,
        new: &Side<'_>,
        source: &Arc<Inode>,
        left: InUpper,
    ) {
        let ino = source.state.lock().upper.unwrap_or_default();
        self.note_upper(pair.from(), old.parent, old.name, left, 0, 0);
        self.note_upper(pair.to(), new.parent, new.name, InUpper::Present, source.kind, ino);
        if let Some(dir) = &old.parent.dir {
            dir.unlearn(old.name, |ino| ino == source.ino);
        }
        relink(source, old, new);
        if let Some(dir) = &new.parent.dir {
            dir.learn(new.name.into(), source.ino);
        }
    }
}

/// Lock order of two unrelated directories, and of one inside the other.
fn must_come_first(a: &Arc<Inode>, b: &Arc<Inode>) -> bool {
    if is_above(a, b) {
        return true;
    }
    !is_above(b, a) && a.ino < b.ino
}

/// Whether `dir` is `ancestor` or somewhere below it.
fn is_in(dir: &Arc<Inode>, ancestor: &Arc<Inode>) -> bool {
    ancestor.is_dir() && (Arc::ptr_eq(dir, ancestor) || is_above(ancestor, dir))
}

fn is_above(a: &Arc<Inode>, b: &Arc<Inode>) -> bool {
    let mut at = b.clone();
    loop {
        let Some(parent) = at.state.lock().links.first().map(|l| l.parent.clone()) else { return false };
        if Arc::ptr_eq(&parent, a) {
            return true;
        }
        at = parent;
    }
}

fn relink(object: &Inode, from: &Side<'_>, to: &Side<'_>) {
    let mut state = object.state.lock();
    state.links.retain(|l| !(Arc::ptr_eq(&l.parent, from.parent) && &*l.name == from.name));
    state.links.push(Link { parent: to.parent.clone(), name: Name::from(to.name), layer: UPPER });
}
