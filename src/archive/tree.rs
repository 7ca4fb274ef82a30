//! Where in the layer an entry goes: from directory to directory by descriptor, never out of the layer.
//!
//! A component that is a symbolic link was written by this layer, and is resolved inside the layer, `/` and `..`
//! included. One that is a link in a layer below is not seen here: the layer gets a directory of that name. Whiteouts
//! follow no links at all, because they are about the layers below.

use super::api::Limits;
use super::error::{Error, Result, shown};
use super::names;
use crate::layer::whiteout::AUFS_PREFIX;
use crate::sys::{self, At, Errno, Fd, Stat};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// Symbolic links that one path may go through, as the kernel has it.
pub(crate) const MAX_LINKS: u32 = 40;

/// A layer being written, and the directory in it that was entered last.
pub(super) struct Tree<'a> {
    root: Fd<'a>,
    limits: &'a Limits,
    /// Parts of the targets of links gone through so far.
    linked: u64,
    /// The way from the root to the current directory: real directories, none of them a link.
    way: Vec<(Vec<u8>, OwnedFd)>,
    /// The way to the directory in which something was looked for last: targets of hard links lie side by side as a rule.
    sought: Vec<(Vec<u8>, OwnedFd)>,
}

/// An object of the layer.
pub(super) struct Found {
    /// The directory it is in.
    pub dir: OwnedFd,
    pub name: Vec<u8>,
    pub stat: Stat,
}

/// How far a walk came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Walk {
    Arrived,
    /// Something is missing, and was not made.
    Missing,
    /// There is no directory, but something else, and links were not to be followed.
    Replaced,
}

/// What is in the way of a path.
enum Step {
    Entered,
    Missing,
    Link(Vec<u8>),
    NotADirectory,
}

impl<'a> Tree<'a> {
    pub fn new(root: Fd<'a>, limits: &'a Limits) -> Self {
        Self { root, limits, linked: 0, way: Vec::new(), sought: Vec::new() }
    }

    pub fn root(&self) -> Fd<'a> {
        self.root
    }

    /// The current directory.
    pub fn fd(&self) -> Fd<'_> {
        self.way.last().map_or(self.root, |(_, fd)| fd.as_fd())
    }

    /// Its path, in which no link is left.
    pub fn path(&self) -> Vec<u8> {
        self.way.iter().map(|(name, _)| name.as_slice()).collect::<Vec<_>>().join(&b'/')
    }

    /// Goes to the directory `path` for the entry `entry`; `make` makes one that is missing, given the tree at its parent.
    ///
    /// False when the layer has something else there and links are not to be followed (`follow`).
    pub fn enter(
        &mut self,
        path: &[u8],
        entry: &[u8],
        follow: bool,
        make: &mut dyn FnMut(&Self, &[u8]) -> Result<()>,
    ) -> Result<bool> {
        let walk = self.walk(path, entry, follow, &mut |tree, name| make(tree, name).map(|()| true))?;
        debug_assert_ne!(walk, Walk::Missing, "what is missing is made");
        Ok(walk == Walk::Arrived)
    }

    /// What is at `path` in the layer, with all components but the last resolved; the root is not found this way.
    pub fn find(&mut self, path: &[u8], entry: &[u8]) -> Result<Option<Found>> {
        let Some((dir, name)) = names::split(path) else { return Ok(None) };
        std::mem::swap(&mut self.way, &mut self.sought);
        let walk = self.walk(dir, entry, true, &mut |_, _| Ok(false));
        let found = walk.and_then(|walk| self.found(walk, name, entry));
        std::mem::swap(&mut self.way, &mut self.sought);
        found
    }

    /// Removes `name` of the current directory, with everything in it.
    pub fn remove(&mut self, name: &OsStr) -> sys::Result<()> {
        // The way may have led through it.
        self.sought.clear();
        remove_all(self.fd(), name)
    }

    fn found(&self, walk: Walk, name: &[u8], entry: &[u8]) -> Result<Option<Found>> {
        if walk != Walk::Arrived {
            return Ok(None);
        }
        let stat = match sys::stat(At::Name(self.fd(), OsStr::from_bytes(name))) {
            Ok(stat) => stat,
            Err(e) if e.is(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(Error::write(entry, e)),
        };
        let dir = sys::open_dir_path(self.fd(), OsStr::new("")).map_err(|e| Error::write(entry, e))?;
        Ok(Some(Found { dir, name: name.to_vec(), stat }))
    }

    /// Walks to `path`; `make` makes what is missing, or says that it does not.
    fn walk(
        &mut self,
        path: &[u8],
        entry: &[u8],
        follow: bool,
        make: &mut dyn FnMut(&Self, &[u8]) -> Result<bool>,
    ) -> Result<Walk> {
        let mut todo: VecDeque<Vec<u8>> = names::parts(path).map(<[u8]>::to_vec).collect();
        // The way consists of directories, so that a path that begins like it leads through the same ones.
        let same = self.way.iter().zip(&todo).take_while(|((name, _), part)| name == *part).count();
        self.way.truncate(same);
        todo.drain(..same);
        let mut links = 0;
        while let Some(part) = todo.pop_front() {
            if part == b".." {
                self.way.pop();
                continue;
            }
            if self.way.len() >= self.limits.depth || part.len() > 255 {
                return Err(Error::entry(entry, "is nested too deeply, or below an overlong name"));
            }
            match self.step(&part).map_err(|e| Error::write(entry, e))? {
                Step::Entered => {}
                Step::Missing => {
                    if part.starts_with(AUFS_PREFIX.as_bytes()) {
                        return Err(Error::entry(entry, "leads through a link to a name that begins with '.wh.'"));
                    }
                    if !make(self, &part)? {
                        return Ok(Walk::Missing);
                    }
                    todo.push_front(part);
                }
                Step::Link(_) | Step::NotADirectory if !follow => return Ok(Walk::Replaced),
                Step::Link(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Error::entry(entry, "leads through too many symbolic links"));
                    }
                    if target.starts_with(b"/") {
                        self.way.clear();
                    }
                    for part in names::parts(&target).rev() {
                        self.linked += 1;
                        todo.push_front(part.to_vec());
                    }
                    self.limits.check_links(self.linked, entry)?;
                }
                Step::NotADirectory => {
                    let what = format!("lies below '{}', which this layer has as a file", shown(&part));
                    return Err(Error::entry(entry, what));
                }
            }
        }
        Ok(Walk::Arrived)
    }

    fn step(&mut self, part: &[u8]) -> sys::Result<Step> {
        let name = OsStr::from_bytes(part);
        match sys::open_dir(self.fd(), name) {
            Ok(fd) => {
                self.way.push((part.to_vec(), fd));
                Ok(Step::Entered)
            }
            Err(e) if e.is(Errno::NOENT) => Ok(Step::Missing),
            Err(e) if e.is(Errno::NOTDIR) || e.is(Errno::LOOP) => match sys::readlink(self.fd(), name) {
                Ok(target) => Ok(Step::Link(target)),
                Err(e) if e.is(Errno::INVAL) => Ok(Step::NotADirectory),
                Err(e) => Err(e),
            },
            Err(e) => Err(e),
        }
    }
}

/// Names of a directory that are held at a time.
const BATCH: usize = 32 << 10;

/// Removes `name` of `dir`, with everything in it. Depth is limited by what [`Tree`] lets in.
fn remove_all(dir: Fd<'_>, name: &OsStr) -> sys::Result<()> {
    match sys::unlink(dir, name) {
        Err(e) if e.is(Errno::ISDIR) || e.is(Errno::PERM) => {}
        Err(e) if e.is(Errno::NOENT) => return Ok(()),
        other => return other,
    }
    let inner = sys::open_dir(dir, name)?;
    let mut failed = Ok(());
    let mut remove = Vec::new();
    loop {
        // A batch at a time: a directory can have any number of entries.
        sys::read_dir(inner.as_fd(), &mut |entry| {
            if remove.len() < BATCH {
                remove.push(entry.name.to_vec());
            }
        })?;
        if remove.is_empty() || failed.is_err() {
            break;
        }
        for entry in remove.drain(..) {
            failed = failed.and_then(|()| remove_all(inner.as_fd(), OsStr::from_bytes(&entry)));
        }
    }
    failed?;
    sys::rmdir(dir, name)
}
