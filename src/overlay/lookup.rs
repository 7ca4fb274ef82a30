//! From a name to an object that is known, and forgetting it. What is on disk under a name: `find.rs`.

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use smallvec::smallvec;

use super::Overlay;
use super::attr::Attr;
use super::dir::LowerDir;
use super::error::{Error, Result};
use super::fdcache::Key;
use super::find::Found;
use super::inode::{Ino, Inode, Link, Name, Original, State, UPPER};
use crate::layer::whiteout;
use crate::sys::Stat;

/// Longest name, as everywhere on Linux.
const NAME_MAX: usize = 255;

pub(super) fn check_name(name: &OsStr) -> Result<()> {
    if name.len() > NAME_MAX { Err(Error::NameTooLong) } else { Ok(()) }
}

impl Overlay {
    /// Finds `name` in `parent` and counts a lookup of it, which [`Overlay::forget`] takes back.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the merged view does not show the name.
    pub fn lookup(&self, parent: Ino, name: &OsStr) -> Result<Attr> {
        let parent = self.directory(parent)?;
        let (inode, stat) = self.lookup_in(&parent, name)?;
        let attr = match stat {
            Some(stat) => Ok(self.attr_of(&inode, &stat)),
            None => self.attr(&inode),
        };
        attr.inspect_err(|_| self.forget(inode.ino, 1))
    }

    /// The object, with a lookup counted, and what `stat` said if it was asked.
    pub(super) fn lookup_in(&self, parent: &Arc<Inode>, name: &OsStr) -> Result<(Arc<Inode>, Option<Stat>)> {
        check_name(name)?;
        if whiteout::reserved(name.as_encoded_bytes()) {
            return Err(Error::NotFound);
        }
        let dir = parent.dir.as_ref().ok_or(Error::NotDirectory)?;
        if let Some(inode) = dir.child(name).and_then(|ino| self.table.get_counted(ino)) {
            if inode.link(parent, name).is_some() {
                return Ok((inode, None));
            }
            // Forgotten under this name and known again under another.
            dir.unlearn(name, |ino| ino == inode.ino);
            self.forget(inode.ino, 1);
        }
        let names = self.names(parent)?;
        let found = self.find(parent, &names.ns, names.upper(), name)?.ok_or(Error::NotFound)?;
        let (stat, in_upper) = (found.stat, found.upper.is_some());
        let inode = self.bind(parent, name.into(), found);
        // A further name of a file that is in upper under another: its attributes are those of upper.
        let stat = Some(stat).filter(|_| inode.in_upper() == in_upper);
        Ok((inode, stat))
    }

    /// Makes what was found known under `name` and counts a lookup.
    pub(super) fn bind(&self, parent: &Arc<Inode>, name: Name, found: Found<'_>) -> Arc<Inode> {
        let Found { mut ino, layer, stat, upper, mut ns, mut extra, counting: _counting } = found;
        // Found through the index: if the object is known as a lower one, its copy is just being noted.
        let linked_copy = extra.as_ref().is_some_and(|e| e.index.is_some());
        let inode = loop {
            let (inode, new) = self.table.get_or_insert(ino, || {
                let links = smallvec![Link { parent: parent.clone(), name: name.clone(), layer }];
                let state = State { links, upper, extra: extra.take(), ..State::default() };
                let original = Original { size: stat.size, nlink: stat.nlink };
                Inode::new(ino, stat.mode & libc::S_IFMT, state, ns.take()).with(original)
            });
            let same = new || {
                let state = inode.state.lock();
                // A name that only a lower layer has is not connected with a copy outside the index (`index=off`).
                let copied = state.upper.is_some() && state.extra.as_ref().is_none_or(|e| e.index.is_none());
                let is_here = |l: &Link| Arc::ptr_eq(&l.parent, parent) && l.name == name;
                let same_place = !state.links.is_empty() && state.links.iter().all(is_here);
                let same_file = match (upper, state.upper) {
                    // Not every file system has unique numbers.
                    (None, None) => stat.nlink > 1 || same_place,
                    (None, Some(_)) => stat.nlink > 1 && !copied,
                    (Some(_), None) => linked_copy,
                    (Some(a), Some(b)) => a == b,
                };
                inode.kind == stat.mode & libc::S_IFMT && if inode.is_dir() { same_place } else { same_file }
            };
            if same {
                break inode;
            }
            // Two upper files claim one origin, or a number is in use for something else: the later one goes by a
            // number of its own for the life of the mount.
            self.forget(ino, 1);
            ino = self.ids.fresh();
        };
        let nameless = {
            let mut state = inode.state.lock();
            let nameless = state.links.is_empty();
            let known = state.links.iter().any(|l| Arc::ptr_eq(&l.parent, parent) && l.name == name);
            if !known {
                state.links.push(Link { parent: parent.clone(), name: name.clone(), layer });
            }
            nameless
        };
        if nameless {
            self.release(&inode); // a further name of a file whose known names were all removed
        }
        if let Some(dir) = &parent.dir {
            dir.learn(name, inode.ino);
        }
        inode
    }

    /// Takes back `count` lookups; the object is dropped when none remain.
    pub fn forget(&self, ino: Ino, count: u64) {
        let mut gone: Vec<Arc<Inode>> = self.table.forget(ino, count).into_iter().collect();
        while let Some(inode) = gone.pop() {
            let links = std::mem::take(&mut inode.state.lock().links);
            self.release(&inode);
            self.close_cached(&inode);
            if inode.dir.as_ref().is_some_and(|d| d.unsynced.load(Ordering::Relaxed)) {
                self.lost_marks.store(true, Ordering::Relaxed);
            }
            for link in links {
                let Some(dir) = &link.parent.dir else { continue };
                // It may be known again meanwhile, under this name or others only.
                let again = |ino| self.table.get(ino).is_some_and(|now| now.link(&link.parent, &link.name).is_some());
                dir.unlearn(&link.name, |ino| ino == inode.ino && !again(ino));
                gone.extend(self.table.forget(link.parent.ino, 0));
            }
            drop(inode);
            self.table.freed();
        }
    }

    fn close_cached(&self, inode: &Inode) {
        let Some(dir) = &inode.dir else {
            self.fds.remove(Key::LowerData(inode.ino));
            self.fds.remove(Key::UpperData(inode.ino));
            self.fds.remove(Key::UpperRead(inode.ino));
            return;
        };
        let lowers: Vec<LowerDir> = dir.ns.read().lowers.to_vec();
        self.fds.remove(Key::Dir(inode.ino, UPPER));
        lowers.iter().for_each(|l| self.fds.remove(Key::Dir(inode.ino, l.layer)));
    }
}
