//! Renaming a directory onto an empty one, which may hold whiteouts.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::Overlay;
use super::copy_up::restore_times;
use super::dir::{InUpper, Namespace};
use super::error::{Error, Result};
use super::fdcache::Key;
use super::inode::{Inode, UPPER};
use super::rename::{Pair, Side};
use crate::layer::origin::OverlayHandle;
use crate::sys::{self, At, Errno, RenameFlags, SetTime, Stat};

impl Overlay {
    /// A directory onto an empty one: that is first replaced by one without whiteouts in it.
    pub(super) fn replace_dir(
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
}
