//! How files are opened with `-o data=passthrough`: each one by the kernel itself, or through its page cache and us.
//!
//! The kernel demands that all who have a file open at the same time have it open in the same way, and with the same file
//! behind it (fs/fuse/iomode.c); anything else is `EIO`. So the first one who opens a file decides for those who come
//! before the last one is gone. Counts are right for that: the kernel ends its own account of a handle before it sends
//! RELEASE, and begins it after our answer to OPEN.
//!
//! What is in a lower layer goes through the page cache as long as it could be copied up: who reads it would otherwise
//! stand in the way of who writes it, as the copy is another file. It is never given away for writing: the kernel
//! opens the path of the registered descriptor again, with the flags of whoever opens.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fuser::{BackingId, OpenFlags};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;

use crate::overlay::{Caller, Change, Error, Ino, Overlay, Result, Tries};
use crate::sys::{Access, SetTime};

/// So many files that nobody has open stay registered, for the next time.
const IDLE: usize = 128;

/// How a file is open.
#[derive(Clone)]
pub enum Way {
    /// Through the page cache; the kernel sends READ and WRITE.
    Cached,
    /// The kernel reads and writes the registered file.
    Passthrough(Arc<BackingId>),
}

/// What a file is opened for.
#[derive(Clone, Copy)]
pub struct Wish {
    write: bool,
    /// It can be changed through a map, too.
    map: bool,
    truncate: bool,
}

impl Wish {
    /// The same for a file that was made a moment ago, with nothing to truncate.
    pub fn of_new(self) -> Self {
        Self { truncate: false, ..self }
    }
}

impl From<OpenFlags> for Wish {
    fn from(flags: OpenFlags) -> Self {
        let access = flags.0 & libc::O_ACCMODE;
        let truncate = flags.0 & libc::O_TRUNC != 0;
        Self { write: access != libc::O_RDONLY, map: access == libc::O_RDWR, truncate }
    }
}

/// A file that somebody has open.
struct Open {
    handles: usize,
    writers: usize,
    maps: usize,
    way: Way,
}

#[derive(Default)]
struct Table {
    open: FxHashMap<Ino, Open>,
    /// Registered files that nobody has open, oldest first.
    idle: VecDeque<(Ino, Arc<BackingId>)>,
}

impl Table {
    /// Counts one more handle of a file that is open or registered.
    fn join(&mut self, ino: Ino, wish: Wish) -> Option<Way> {
        if !self.open.contains_key(&ino) {
            let place = self.idle.iter().rposition(|(idle, _)| *idle == ino)?;
            let (_, id) = self.idle.remove(place)?;
            self.open.insert(ino, Open { handles: 0, writers: 0, maps: 0, way: Way::Passthrough(id) });
        }
        let open = self.open.get_mut(&ino)?;
        open.handles += 1;
        open.writers += usize::from(wish.write);
        open.maps += usize::from(wish.map);
        Some(open.way.clone())
    }
}

/// The files of a mount that the kernel has open.
#[derive(Default)]
pub struct OpenFiles {
    table: Mutex<Table>,
    /// Handles by which a file can be changed through a map behind the back of the kernel's FUSE.
    maps: AtomicUsize,
    /// Whether the kernel took the files that it was given.
    pub registered: Tries,
}

impl OpenFiles {
    /// Opens a file: truncates it if that is asked for, brings it to upper if it is to be written and nobody has it open,
    /// and says how it is opened. `register` makes a descriptor known to the kernel.
    pub fn open(
        &self,
        overlay: &Overlay,
        ino: Ino,
        wish: Wish,
        caller: Caller,
        register: impl FnOnce(Arc<OwnedFd>) -> std::io::Result<BackingId>,
    ) -> Result<Way> {
        if (wish.write || wish.truncate) && overlay.read_only() {
            return Err(Error::ReadOnly);
        }
        if wish.truncate {
            let change = Change { size: Some(0), mtime: Some(SetTime::Now), ..Change::default() };
            overlay.set_attr(ino, &change, caller)?;
        }
        if let Some(way) = self.table.lock().join(ino, wish) {
            return Ok(self.opened(wish, way));
        }
        // Not under the lock: this copies a file up.
        let access = if wish.write { Access::ReadWrite } else { Access::Read };
        let backing = overlay.backing(ino, access)?;
        let mut table = self.table.lock();
        let way = match table.join(ino, wish) {
            Some(way) => way,
            None => {
                let way = backing.map_or(Way::Cached, |fd| {
                    let registered = register(fd);
                    self.registered.note(registered.is_ok());
                    match registered {
                        Ok(id) => Way::Passthrough(Arc::new(id)),
                        Err(e) => {
                            log::debug!("{ino} cannot be passed through: {e}");
                            Way::Cached
                        }
                    }
                });
                let (writers, maps) = (usize::from(wish.write), usize::from(wish.map));
                table.open.insert(ino, Open { handles: 1, writers, maps, way: way.clone() });
                way
            }
        };
        Ok(self.opened(wish, way))
    }

    fn opened(&self, wish: Wish, way: Way) -> Way {
        self.maps.fetch_add(usize::from(wish.map), Ordering::Release);
        way
    }

    /// One handle is gone. True if what the kernel knows of the file's times may be wrong, see [`OpenFiles::changes_unseen`].
    pub fn release(&self, ino: Ino, flags: OpenFlags) -> bool {
        let wish = Wish::from(flags);
        let mut table = self.table.lock();
        let Some(open) = table.open.get_mut(&ino) else { return false };
        open.handles = open.handles.saturating_sub(1);
        open.writers = open.writers.saturating_sub(usize::from(wish.write));
        open.maps = open.maps.saturating_sub(usize::from(wish.map));
        self.maps.fetch_sub(usize::from(wish.map), Ordering::Release);
        let unseen = wish.map && matches!(open.way, Way::Passthrough(_));
        if open.handles == 0
            && let Some(Open { way: Way::Passthrough(id), .. }) = table.open.remove(&ino)
        {
            table.idle.push_back((ino, id));
            if table.idle.len() > IDLE {
                table.idle.pop_front();
            }
        }
        unseen
    }

    /// The object is forgotten; its file must not be held, as it may have been removed.
    pub fn forget(&self, ino: Ino) {
        self.table.lock().idle.retain(|(idle, _)| *idle != ino);
    }

    /// Whether the file can be changed through a map of the file behind it. The kernel's FUSE does not learn of that, so
    /// attributes must not be remembered.
    pub fn changes_unseen(&self, ino: Ino) -> bool {
        self.maps.load(Ordering::Acquire) > 0
            && self.table.lock().open.get(&ino).is_some_and(|o| o.maps > 0 && matches!(o.way, Way::Passthrough(_)))
    }

    /// Whether the kernel may write the file without asking; all it asks before is that set-id bits go, by a SETATTR of
    /// nothing (`file_remove_privs`).
    pub fn written_unseen(&self, ino: Ino) -> bool {
        self.table.lock().open.get(&ino).is_some_and(|o| o.writers > 0 && matches!(o.way, Way::Passthrough(_)))
    }
}
