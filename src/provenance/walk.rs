//! Layer directories: read side by side, one job a directory, by (descriptor, name).
//!
//! A directory says what the union reads in it (docs/SEMANTICS.md section 2): whiteouts of all kinds, opaque directories,
//! redirects, metacopy files, and owners kept in attributes. Extended attributes of files are not read here, but when
//! something asks for them.

use super::entry::{Entry, Kind, NONE, Text};
use super::error::{Error, Result};
use super::layer::{add_text, join_names, parts};
use super::origin::Directory;
use crate::layer::markers::{self, DirMarkers};
use crate::layer::override_stat::Dialect;
use crate::layer::whiteout::{self, NameKind};
use crate::sys::{self, At, Errno, Fd, Stat};
use parking_lot::{Condvar, Mutex};
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// What was read of one.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub entries: Vec<Entry>,
    pub text: Vec<u8>,
    /// Files with several links: device, inode, entry.
    pub links: Vec<(u64, u64, u32)>,
    /// Directories that may not be read, of which nothing is here.
    pub unread: Vec<(u32, sys::Error)>,
}

/// A directory that waits to be read.
struct Job {
    layer: usize,
    entry: u32,
    /// Its parent and name; none for the root.
    place: Option<(Arc<OwnedFd>, Box<[u8]>)>,
}

/// The jobs, and how many workers may still add some.
#[derive(Default)]
struct Queue {
    jobs: Vec<Job>,
    working: usize,
    failed: Option<Error>,
}

struct Walk<'a> {
    directories: &'a [Directory],
    found: Vec<Mutex<Read>>,
    queue: Mutex<Queue>,
    changed: Condvar,
    believes_users: bool,
    data_only: bool,
}

/// A directory's children before they have a place in the layer.
#[derive(Default)]
struct Listing {
    opaque: bool,
    redirect: Vec<u8>,
    entries: Vec<Entry>,
    text: Vec<u8>,
    links: Vec<(u64, u64, u32)>,
}

/// Reads all layers with `threads` threads. With layers below that only hold data, any file may be a metacopy file.
pub(super) fn read(directories: &[Directory], data_only: bool, threads: usize) -> Result<Vec<Read>> {
    let jobs = (0..directories.len()).rev().map(|layer| Job { layer, entry: 0, place: None }).collect();
    let walk = Walk {
        directories,
        found: directories.iter().map(|_| Mutex::default()).collect(),
        queue: Mutex::new(Queue { jobs, ..Queue::default() }),
        changed: Condvar::new(),
        believes_users: believes_users(),
        data_only,
    };
    for (found, directory) in walk.found.iter().zip(directories) {
        let root = read_entry(directory, At::Fd(directory.root.fd()));
        let (_, root) = root.map_err(|source| directory.root.failed(b"", source))?;
        found.lock().entries.push(root);
    }
    std::thread::scope(|scope| {
        let workers: Vec<_> = (1..threads).map(|_| scope.spawn(|| walk.work())).collect();
        walk.work();
        let ended: Vec<_> = workers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        ended.into_iter().all(|e| e.is_ok())
    })
    .then_some(())
    .ok_or(Error::Thread)?;
    if let Some(error) = walk.queue.into_inner().failed {
        return Err(error);
    }
    let found = walk.found.into_iter().map(|found| {
        let mut read = found.into_inner();
        join_names(&mut read.entries, &read.text, read.links.iter().map(|&(dev, ino, entry)| ((dev, ino), entry)));
        read
    });
    Ok(found.collect())
}

/// Redirects and metacopy markers of `user.` attributes are believed, as in a mount that writes such.
pub(super) fn believes_users() -> bool {
    !sys::process::is_root()
}

/// The names that a union of the directories believes: one counts where the root of some layer has it.
pub(super) fn dialects(directories: &[Directory]) -> Result<Vec<Dialect>> {
    let mut found = vec![Dialect::Containers];
    for dialect in Dialect::ALL {
        for directory in directories {
            let value = sys::xattr::get(At::Fd(directory.root.fd()), dialect.name());
            let value = value.map_err(|source| directory.root.failed(b"", source))?;
            if value.is_some() && !found.contains(&dialect) {
                found.push(dialect);
            }
        }
    }
    Ok(found)
}

impl Walk<'_> {
    /// Works until nothing is left, or something failed.
    fn work(&self) {
        let mut queue = self.queue.lock();
        loop {
            if queue.failed.is_some() {
                return;
            }
            let Some(job) = queue.jobs.pop() else {
                if queue.working == 0 {
                    return;
                }
                self.changed.wait(&mut queue);
                continue;
            };
            queue.working += 1;
            drop(queue);
            let done = match self.directory(&job) {
                Err(source) if source.is(Errno::ACCESS) => {
                    self.found[job.layer].lock().unread.push((job.entry, source));
                    Ok(Ok(Vec::new()))
                }
                done => done.map_err(|source| self.failed(&job, source)),
            };
            queue = self.queue.lock();
            queue.working -= 1;
            match done.and_then(|more| more) {
                Ok(more) => queue.jobs.extend(more),
                Err(error) => queue.failed = queue.failed.take().or(Some(error)),
            }
            self.changed.notify_all();
        }
    }

    fn failed(&self, job: &Job, source: sys::Error) -> Error {
        let read = self.found[job.layer].lock();
        let path = parts(&read.entries, &read.text, job.entry).join(&b'/');
        self.directories[job.layer].root.failed(&path, source)
    }

    /// Reads one directory, and puts its children into the layer.
    fn directory(&self, job: &Job) -> sys::Result<Result<Vec<Job>>> {
        let directory = &self.directories[job.layer];
        let fd = match &job.place {
            None => sys::open_dir_path(directory.root.fd(), OsStr::new(""))?,
            Some((parent, name)) => match sys::open_dir(parent.as_fd(), OsStr::from_bytes(name)) {
                Err(e) if is_gone(&e) => return Ok(Ok(Vec::new())),
                opened => opened?,
            },
        };
        match self.list(directory, fd.as_fd()) {
            Err(e) if is_gone(&e) => Ok(Ok(Vec::new())),
            listing => Ok(self.put(job, Arc::new(fd), listing?)),
        }
    }

    fn put(&self, job: &Job, fd: Arc<OwnedFd>, listing: Listing) -> Result<Vec<Job>> {
        let Listing { opaque, redirect, entries, text, links } = listing;
        let mut read = self.found[job.layer].lock();
        let Read { entries: all, text: all_text, links: all_links, .. } = &mut *read;
        let too_many = || Error::TooLarge("a layer has more than 4 billion entries");
        let start = u32::try_from(all.len()).map_err(|_| too_many())?;
        let len = u32::try_from(entries.len()).ok().filter(|len| *len < NONE - start).ok_or_else(too_many)?;
        let base = all_text.len();
        let shift = u32::try_from(base + text.len() + redirect.len()).ok().filter(|end| *end < NONE - (1 << 16));
        let shift = shift.map(|_| u32::try_from(base).unwrap_or(0));
        let shift = shift.ok_or(Error::TooLarge("the names in one layer are longer than 4 GiB together"))?;
        all_text.extend_from_slice(&text);
        let own = &mut all[job.entry as usize];
        (own.children, own.opaque) = ((start, len), own.opaque || opaque);
        if !redirect.is_empty() {
            own.target = add_text(all_text, &redirect)?;
        }
        all_links.extend(links.into_iter().map(|(dev, ino, entry)| (dev, ino, start + entry)));
        let mut jobs = Vec::new();
        for (at, mut entry) in (start..).zip(entries) {
            if entry.is_dir() {
                let name = super::layer::piece(&text, entry.name).into();
                jobs.push(Job { layer: job.layer, entry: at, place: Some((fd.clone(), name)) });
            }
            entry.parent = job.entry;
            entry.name.start += shift;
            if entry.target.len > 0 {
                entry.target.start += shift;
            }
            all.push(entry);
        }
        Ok(jobs)
    }

    /// What is in a directory, sorted by name.
    fn list(&self, directory: &Directory, fd: Fd<'_>) -> sys::Result<Listing> {
        let (mut names, mut hidden) = (Vec::<Box<[u8]>>::new(), Vec::<Box<[u8]>>::new());
        let mut listing = Listing::default();
        let each = &mut |entry: sys::RawEntry<'_>| match whiteout::classify(entry.name) {
            NameKind::Plain => names.push(entry.name.into()),
            NameKind::Whiteout(name) => hidden.push(name.into()),
            NameKind::OpaqueMarker => listing.opaque = true,
            NameKind::AufsInternal => {}
        };
        sys::read_dir_itself(fd, each)?;
        names.sort_unstable();
        hidden.sort_unstable();
        let marks = markers::read_dir_markers(fd)?;
        listing.opaque |= marks.opaque;
        let believed = self.believes_users || marks.trusted_redirect;
        if let Some(redirect) = marks.redirect.as_ref().filter(|_| believed) {
            listing.redirect = redirect.encode();
        }
        let mut whiteouts = hidden.into_iter().peekable();
        for name in names {
            while let Some(hidden) = whiteouts.next_if(|hidden| **hidden < *name) {
                listing.add(Entry::new(Kind::Whiteout), &hidden, &[]);
            }
            // A marker acts on the layers below, never on its own.
            let covers = whiteouts.next_if(|hidden| **hidden == *name).is_some();
            let mut add = || self.child(directory, fd, &name, &marks, covers, &mut listing);
            let added = match add() {
                // A symbolic link that is none any more is looked at again.
                Err(e) if was_link(&e) => add(),
                added => added,
            };
            match added {
                Err(e) if is_gone(&e) || was_link(&e) => {}
                other => other?,
            }
        }
        whiteouts.for_each(|hidden| listing.add(Entry::new(Kind::Whiteout), &hidden, &[]));
        Ok(listing)
    }

    fn child(
        &self,
        directory: &Directory,
        fd: Fd<'_>,
        name: &[u8],
        marks: &DirMarkers,
        covers: bool,
        listing: &mut Listing,
    ) -> sys::Result<()> {
        let at = At::Name(fd, OsStr::from_bytes(name));
        let (disk, mut entry) = read_entry(directory, at)?;
        if disk.is_whiteout_dev() {
            listing.add(Entry::new(Kind::Whiteout), name, &[]);
            return Ok(());
        }
        entry.opaque = entry.is_dir() && covers;
        let mut target = Vec::new();
        if disk.is_file() && disk.size == 0 && (marks.xwhiteouts || marks.nested) {
            let found = markers::read_empty_file_markers(at)?;
            if marks.xwhiteouts && found.whiteout {
                entry = Entry::new(Kind::Whiteout);
            } else if marks.nested && found.nested {
                entry.kind = Kind::Char;
            }
        } else if disk.is_file() && (marks.impure || self.data_only) {
            let found = markers::read_file_markers(at)?;
            entry.metacopy = found.believed_metacopy(self.believes_users);
            if let Some(redirect) = found.believed_redirect(self.believes_users).filter(|_| entry.metacopy) {
                target = redirect.encode();
            }
        } else if disk.is_symlink() {
            target = sys::readlink(fd, OsStr::from_bytes(name))?;
            entry.size = target.len() as u64;
        }
        if disk.nlink > 1 && !disk.is_dir() && !entry.is_whiteout() {
            listing.links.push((disk.dev, disk.ino, u32::try_from(listing.entries.len()).unwrap_or(NONE)));
        }
        listing.add(entry, name, &target);
        Ok(())
    }
}

impl Listing {
    fn add(&mut self, mut entry: Entry, name: &[u8], target: &[u8]) {
        entry.name = self.text(name);
        entry.target = self.text(target);
        self.entries.push(entry);
    }

    /// Names and targets are shorter than 64 KiB, and a directory with 4 GiB of them is refused by [`Walk::put`].
    fn text(&mut self, piece: &[u8]) -> Text {
        let start = u32::try_from(self.text.len()).unwrap_or(NONE);
        self.text.extend_from_slice(piece);
        Text { start, len: u16::try_from(piece.len()).unwrap_or(u16::MAX) }
    }
}

/// In the upper directory of a live mount: what was listed has gone since, or was exchanged for something else.
fn is_gone(error: &sys::Error) -> bool {
    [Errno::NOENT, Errno::NOTDIR, Errno::LOOP].contains(&error.errno)
}

fn was_link(error: &sys::Error) -> bool {
    error.call == "readlinkat" && error.is(Errno::INVAL)
}

/// What is on disk, and what of it is seen.
pub(super) fn read_entry(directory: &Directory, at: At<'_>) -> sys::Result<(Stat, Entry)> {
    let disk = sys::stat(at)?;
    let seen = if disk.is_whiteout_dev() { disk } else { shown(&directory.dialects, at, disk)? };
    Ok((disk, entry_of(&seen)))
}

/// What an object shows of owner, mode and type.
fn shown(dialects: &[Dialect], at: At<'_>, disk: Stat) -> sys::Result<Stat> {
    for dialect in dialects {
        if let Some(shown) = dialect.shown(at, disk)? {
            return Ok(shown);
        }
    }
    Ok(disk)
}

fn entry_of(stat: &Stat) -> Entry {
    let kind = Kind::of_mode(stat.mode);
    Entry {
        mode: u16::try_from(stat.mode & 0o7777).unwrap_or(0),
        uid: stat.uid,
        gid: stat.gid,
        size: if matches!(kind, Kind::File | Kind::Symlink) { stat.size } else { 0 },
        mtime: stat.mtime,
        device: if matches!(kind, Kind::Char | Kind::Block) { (stat.rdev_major, stat.rdev_minor) } else { (0, 0) },
        ..Entry::new(kind)
    }
}
