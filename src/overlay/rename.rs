//! Renaming, in all its variants, each with one system call that commits.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::Overlay;
use super::copy_up::restore_times;
use super::create::is_stray_whiteout;
use super::dir::{InUpper, LowerDir, Namespace};
use super::error::{Error, Result};
use super::fdcache::Key;
use super::inode::{Ino, Inode, Link, Name, UPPER};
use super::lookup::{Changing, check_name};
use crate::layer::origin::OverlayHandle;
use crate::layer::redirect::{MAX_LEN, Redirect};
use crate::layer::whiteout;
use crate::layer::xattr::Marker;
use crate::sys::{self, At, Errno, RenameFlags, SetTime, Stat, xattr};

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
struct Side<'a> {
    parent: &'a Arc<Inode>,
    name: &'a OsStr,
}

/// Two directories locked for a change, or one if they are the same.
struct Pair<'a> {
    first: Changing<'a>,
    second: Option<Changing<'a>>,
    swapped: bool,
}

impl<'a> Pair<'a> {
    fn from(&mut self) -> &mut Changing<'a> {
        match &mut self.second {
            Some(second) if self.swapped => second,
            _ => &mut self.first,
        }
    }

    fn to(&mut self) -> &mut Changing<'a> {
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

    /// Brings an object to upper so that its name `from` can become `to`, and for a directory with something below it
    /// records where its lower part is.
    fn prepare_moved(&self, from: &Side<'_>, to: &Side<'_>, object: &Arc<Inode>) -> Result<()> {
        let Some(dir) = &object.dir else {
            self.copy_up_whole(object)?;
            self.copy_up_dir(to.parent)?;
            self.mark_nested_for(object, self.upper_dir(to.parent)?.as_fd())?;
            let link = object.link(from.parent, from.name).ok_or(Error::NotFound)?;
            return self.link_up(object, &link);
        };
        let merged = !dir.ns.read().lowers.is_empty();
        if merged && !self.redirect && !self.flatten {
            return Err(Error::CrossDevice);
        }
        self.copy_up_dir(object)?;
        let fd = self.upper_dir(object)?;
        if merged {
            let same_dir = Arc::ptr_eq(from.parent, to.parent);
            if self.redirect && self.set_redirect(object, from, At::Fd(fd.as_fd()), same_dir)? {
                return Ok(());
            }
            return if self.flatten { self.flatten(object) } else { Err(Error::CrossDevice) };
        }
        // Only in upper: it must not merge with what lies below its new name.
        if !to.parent.dir.as_ref().ok_or(Error::NotDirectory)?.ns.read().lowers.is_empty() {
            let xwhiteouts = dir.ns.read().xwhiteouts;
            self.mark_opaque(At::Fd(fd.as_fd()), xwhiteouts)?;
        }
        Ok(())
    }

    /// Writes `overlay.redirect`: the old name if the directory stays in its parent, else its path from the root of the
    /// layers. Until the rename it points to where the directory is anyway, so a crash in between changes nothing.
    /// False if it is too long, or does not lead back to where the directory is.
    fn set_redirect(&self, object: &Arc<Inode>, from: &Side<'_>, at: At<'_>, same_dir: bool) -> Result<bool> {
        let marker = self.markers.name(Marker::Redirect);
        let known = xattr::get(at, marker)?.and_then(|v| Redirect::parse(&v));
        let redirect = match known {
            Some(Redirect::Absolute(_)) => return Ok(true),
            Some(Redirect::Name(_)) if same_dir => return Ok(true),
            _ if same_dir => Redirect::Name(from.name.as_encoded_bytes().to_vec()),
            _ => Redirect::Absolute(self.path_for_redirect(object)?),
        };
        let value = redirect.encode();
        if value.len() > MAX_LEN || !self.leads_back(object, from, redirect)? {
            return Ok(false);
        }
        self.mark(at, Marker::Redirect, &value)?;
        Ok(true)
    }

    /// Whether following the redirect finds the lower directories that the object has now. It does not where a layer in
    /// between has redirects of its own on the way.
    fn leads_back(&self, object: &Arc<Inode>, from: &Side<'_>, redirect: Redirect) -> Result<bool> {
        let mut found = Vec::new();
        {
            let parent = from.parent.dir.as_ref().ok_or(Error::NotDirectory)?.ns.read();
            self.follow(&parent, redirect, &mut found)?;
        }
        let ns = object.dir.as_ref().ok_or(Error::NotDirectory)?.ns.read();
        let same = |(a, b): (&LowerDir, &LowerDir)| a.layer == b.layer && a.path == b.path;
        Ok(found.len() == ns.lowers.len() && found.iter().zip(&ns.lowers).all(same))
    }

    /// The path under which the layers below know a merged directory. All its lower copies must agree for it to be
    /// found again; they do unless a layer in between has redirects itself, and then the path of the first counts.
    fn path_for_redirect(&self, object: &Arc<Inode>) -> Result<Vec<u8>> {
        let dir = object.dir.as_ref().ok_or(Error::NotDirectory)?;
        let ns = dir.ns.read();
        let first = ns.lowers.first().ok_or(Error::Stale)?;
        Ok(first.path.as_encoded_bytes().to_vec())
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

    /// A directory onto an empty one: that is first replaced by one without whiteouts in it.
    fn replace_dir(
        &self,
        pair: &mut Pair<'_>,
        old: &Side<'_>,
        new: &Side<'_>,
        source: &Arc<Inode>,
        target: &Arc<Inode>,
        kept: Arc<OwnedFd>,
    ) -> Result<()> {
        let dir = target.dir.as_ref().ok_or(Error::NotDirectory)?;
        let mut content = dir.ns.write();
        let in_upper = content.upper;
        self.fill_index(target, &mut content, in_upper.then(|| kept.as_fd()))?;
        let (empty, whiteouts) = content.index.as_ref().map_or((false, false), |i| (i.is_empty(), i.has_whiteouts()));
        if !empty {
            return Err(Error::NotEmpty);
        }
        let from = pair.from().ns.slot(old.name);
        let flags = if from.below { self.leaving_flags()? } else { RenameFlags::empty() };
        let ahead = from.below && flags.is_empty();
        self.carry_impure(pair, false)?;
        if ahead {
            self.hide_ahead(pair.from(), old.name)?;
        }
        let mut kept = kept;
        let done = (|| {
            if content.upper && whiteouts {
                kept = self.clear_target(pair, new, target, &mut content, &kept)?;
            }
            match self.commit(pair, old, new, flags) {
                // It holds what nobody sees: whiteouts that hide nothing, marker files of other programs.
                Err(e) if content.upper && (e.is(Errno::NOTEMPTY) || e.is(Errno::EXIST)) => {
                    kept = self.clear_target(pair, new, target, &mut content, &kept)?;
                    self.commit(pair, old, new, flags)
                }
                committed => committed,
            }
        })();
        if ahead && done.is_err() {
            self.unhide(pair.from(), old.name);
        }
        done?;
        content.removed = true;
        content.index = None;
        drop(content);
        self.keep_dir(target, kept);
        self.drop_link(target, new.parent, new.name);
        let left = self.left_by_rename(pair.from(), old.name, from, false, ahead)?;
        self.moved(pair, old, new, source, left);
        Ok(())
    }

    /// Replaces an empty directory of upper by an equal one that is opaque and holds nothing at all, and opens that.
    /// By its origin it keeps its number.
    fn clear_target(
        &self,
        pair: &mut Pair<'_>,
        new: &Side<'_>,
        target: &Arc<Inode>,
        content: &mut Namespace,
        old: &OwnedFd,
    ) -> Result<Arc<OwnedFd>> {
        let origin = match content.lowers.first() {
            Some(lower) => {
                let fd = self.lower_dir(target, lower.layer, &lower.path)?;
                let at = At::Fd(fd.as_fd());
                let stat = sys::stat(at)?;
                self.handle(self.layer(lower.layer)?, at, &stat)?.zip(Some(stat))
            }
            None => None,
        };
        let ino = self.exchange_for_empty(pair, new, At::Fd(old.as_fd()), origin.as_ref().map(|(h, s)| (h, s)))?;
        // The directory is another one from here on, also if what follows fails.
        self.fds.remove(Key::Dir(target.ino, UPPER));
        content.lowers = Box::default();
        content.index = None;
        content.xwhiteouts = false;
        target.state.lock().upper = Some(ino);
        self.note_upper(pair.to(), new.parent, new.name, InUpper::Present, target.kind, ino);
        Ok(Arc::new(sys::open_dir(pair.to().fd(), new.name)?))
    }

    fn exchange_for_empty(
        &self,
        pair: &mut Pair<'_>,
        new: &Side<'_>,
        at: At<'_>,
        origin: Option<(&OverlayHandle, &Stat)>,
    ) -> Result<u64> {
        let work = &self.writable()?.work;
        let temporary = work.temporary();
        let stat = self.stat(at)?;
        let parent = sys::stat(At::Fd(pair.to().fd()))?;
        let done = (|| -> Result<u64> {
            sys::mkdir(work.fd(), &temporary, 0o700)?;
            let made = At::Name(work.fd(), &temporary);
            self.copy_attributes(at, &stat, made, origin, SetTime::At(stat.mtime))?;
            if self.attributes {
                self.mark_opaque(made, false)?;
            } else {
                // It has to be empty, so the name is cut off from what is below. Nothing of that shows anyway.
                self.hide_ahead(pair.to(), new.name)?;
            }
            let ino = sys::stat(made)?.ino;
            let exchanged = sys::rename(work.fd(), &temporary, pair.to().fd(), new.name, RenameFlags::EXCHANGE);
            if !self.attributes {
                match &exchanged {
                    Ok(()) => pair.to().ns.index.iter_mut().for_each(|index| index.cut_off(new.name)),
                    Err(_) => self.unhide(pair.to(), new.name),
                }
            }
            exchanged?;
            restore_times(At::Fd(pair.to().fd()), &parent);
            Ok(ino)
        })();
        work.discard(&temporary);
        done
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
    fn carry_impure(&self, pair: &mut Pair<'_>, both: bool) -> Result<()> {
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

    fn commit(&self, pair: &mut Pair<'_>, old: &Side<'_>, new: &Side<'_>, flags: RenameFlags) -> Result<()> {
        let (a, b) = (pair.from().upper.clone(), pair.to().upper.clone());
        Ok(sys::rename(a.as_fd(), old.name, b.as_fd(), new.name, flags)?)
    }

    /// Records the move in memory; `left` is what upper has under the old name now.
    fn moved(&self, pair: &mut Pair<'_>, old: &Side<'_>, new: &Side<'_>, source: &Arc<Inode>, left: InUpper) {
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
