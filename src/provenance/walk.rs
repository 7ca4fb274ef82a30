//! Layer directories: read side by side, one job a directory, by (descriptor, name). Layers of the store have an inventory, which
//! is read instead, one job a layer.
//!
//! A directory says what the union reads in it (docs/SEMANTICS.md section 2): whiteouts of all kinds, opaque directories,
//! redirects, metacopy files, and owners kept in attributes. Extended attributes of files are not read here, but when
//! something asks for them.

use super::entry::{Entry, NONE};
use super::error::{Error, Result};
use super::layer::{add_text, join_names, parts};
use super::listing::{Belief, Listing, OnDisk, is_gone, read_entry};
use super::origin::Directory;
use crate::layer::markers;
use crate::layer::override_stat::Dialect;
use crate::store::{Inventory, RecordedAttributes};
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
    /// Their own attributes.
    roots: Vec<Stat>,
    found: Vec<Mutex<Read>>,
    queue: Mutex<Queue>,
    changed: Condvar,
    believes_users: bool,
    data_only: bool,
}

/// Reads all layers with `threads` threads. With layers below that only hold data, any file may be a metacopy file.
pub(super) fn read(directories: &[Directory], data_only: bool, threads: usize) -> Result<Vec<Read>> {
    let jobs = (0..directories.len()).rev().map(|layer| Job { layer, entry: 0, place: None }).collect();
    let mut walk = Walk {
        directories,
        roots: Vec::new(),
        found: directories.iter().map(|_| Mutex::default()).collect(),
        queue: Mutex::new(Queue { jobs, ..Queue::default() }),
        changed: Condvar::new(),
        believes_users: believes_users(),
        data_only,
    };
    for (found, directory) in walk.found.iter().zip(directories) {
        let root = read_entry(directory, At::Fd(directory.root.fd()));
        let (disk, root) = root.map_err(|source| directory.root.failed(b"", source))?;
        found.lock().entries.push(root);
        walk.roots.push(disk);
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

    /// Reads one directory, or a layer that has an inventory, and puts what is in it into the layer.
    fn directory(&self, job: &Job) -> sys::Result<Result<Vec<Job>>> {
        let directory = &self.directories[job.layer];
        let fd = match &job.place {
            None => match self.inventory(job.layer) {
                Some(Ok(())) => return Ok(Ok(Vec::new())),
                Some(Err(error)) => return Ok(Err(error)),
                None => sys::open_dir_path(directory.root.fd(), OsStr::new(""))?,
            },
            Some((parent, name)) => match sys::open_dir(parent.as_fd(), OsStr::from_bytes(name)) {
                Err(e) if is_gone(&e) => return Ok(Ok(Vec::new())),
                opened => opened?,
            },
        };
        let listing = match self.list(directory, fd.as_fd()) {
            Err(e) if is_gone(&e) => return Ok(Ok(Vec::new())),
            listing => listing?,
        };
        let fd = Arc::new(fd);
        let put = self.put(job.layer, job.entry, listing);
        let jobs = |found: Vec<(u32, Box<[u8]>)>| {
            let job = |(entry, name)| Job { layer: job.layer, entry, place: Some((fd.clone(), name)) };
            found.into_iter().map(job).collect()
        };
        Ok(put.map(jobs))
    }

    /// What is in a directory, sorted by name.
    fn list(&self, directory: &Directory, fd: Fd<'_>) -> sys::Result<Listing> {
        let mut objects = Vec::new();
        sys::read_dir_itself(fd, &mut |entry: sys::RawEntry<'_>| objects.push(OnDisk(fd, entry.name.into())))?;
        Listing::of(objects, &markers::read_dir_markers(fd)?, self.belief(directory))
    }

    fn belief<'d>(&self, directory: &'d Directory) -> Belief<'d> {
        Belief { dialects: &directory.dialects, users: self.believes_users, data_only: self.data_only }
    }

    /// Reads a layer from its inventory; `None` when it has none that can be used.
    fn inventory(&self, layer: usize) -> Option<Result<()>> {
        let (directory, root) = (&self.directories[layer], self.found[layer].lock().entries[0]);
        let inventory = match Inventory::of_layer(directory.root.path(), &self.roots[layer]) {
            Ok(inventory) => inventory?,
            Err(error) => {
                log::warn!("{error}; the directory is read instead");
                return None;
            }
        };
        let read = self.read_inventory(layer, &inventory).transpose();
        if read.is_none() {
            let path = directory.root.path().display();
            log::warn!("the inventory of {path} makes no sense; the directory is read instead");
            *self.found[layer].lock() = Read { entries: vec![root], ..Read::default() };
        }
        read
    }

    /// `None` inside of the result when the inventory makes no sense.
    fn read_inventory(&self, layer: usize, inventory: &Inventory) -> Result<Option<()>> {
        let directory = &self.directories[layer];
        let mut blocks = inventory.blocks();
        let Some(root) = blocks.next().and_then(|block| block.first().copied()) else { return Ok(None) };
        // Directories whose names stand for something else have no entry.
        let mut waiting: Vec<(Option<u32>, RecordedAttributes<'_>)> = vec![(Some(0), root.attributes)];
        while let Some((entry, attributes)) = waiting.pop() {
            let Some(mut objects) = blocks.next() else { return Ok(None) };
            objects.iter_mut().for_each(|object| object.stat.dev = self.roots[layer].dev);
            let inside = objects.iter().filter(|object| object.stat.is_dir());
            let inside: Vec<_> = inside.map(|object| (object.name, object.attributes)).collect();
            let mut entries = match entry {
                None => Vec::new(),
                Some(entry) => {
                    let listing = markers::dir_markers(attributes)
                        .and_then(|marks| Listing::of(objects, &marks, self.belief(directory)))
                        .map_err(|source| self.failed(&Job { layer, entry, place: None }, source))?;
                    self.put(layer, entry, listing)?
                }
            }
            .into_iter()
            .peekable();
            let start = waiting.len();
            for (name, attributes) in inside {
                let entry = entries.next_if(|(_, shown)| **shown == *name).map(|(entry, _)| entry);
                waiting.push((entry, attributes));
            }
            waiting[start..].reverse();
        }
        Ok(blocks.is_at_end().then_some(()))
    }

    /// Puts what is in the directory `parent` into its layer. Returns the directories among it, in the order of their names.
    fn put(&self, layer: usize, parent: u32, listing: Listing) -> Result<Vec<(u32, Box<[u8]>)>> {
        let Listing { opaque, redirect, entries, text, links } = listing;
        let mut read = self.found[layer].lock();
        let Read { entries: all, text: all_text, links: all_links, .. } = &mut *read;
        let too_many = || Error::TooLarge("a layer has more than 4 billion entries");
        let start = u32::try_from(all.len()).map_err(|_| too_many())?;
        let len = u32::try_from(entries.len()).ok().filter(|len| *len < NONE - start).ok_or_else(too_many)?;
        let base = all_text.len();
        let shift = u32::try_from(base + text.len() + redirect.len()).ok().filter(|end| *end < NONE - (1 << 16));
        let shift = shift.map(|_| u32::try_from(base).unwrap_or(0));
        let shift = shift.ok_or(Error::TooLarge("the names in one layer are longer than 4 GiB together"))?;
        all_text.extend_from_slice(&text);
        let own = &mut all[parent as usize];
        (own.children, own.opaque) = ((start, len), own.opaque || opaque);
        if !redirect.is_empty() {
            own.target = add_text(all_text, &redirect)?;
        }
        all_links.extend(links.into_iter().map(|(dev, ino, entry)| (dev, ino, start + entry)));
        let mut directories = Vec::new();
        for (at, mut entry) in (start..).zip(entries) {
            if entry.is_dir() {
                directories.push((at, super::layer::piece(&text, entry.name).into()));
            }
            entry.parent = parent;
            entry.name.start += shift;
            if entry.target.len > 0 {
                entry.target.start += shift;
            }
            all.push(entry);
        }
        Ok(directories)
    }
}
