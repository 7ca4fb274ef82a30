//! The finished layers below the one that is being completed, merged as the union merges them.

use super::names;
use crate::layer::markers::{read_dir_markers, read_file_markers};
use crate::sys::{self, At, Errno, Fd, Result, Stat};
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// A directory in one of the layers.
pub(super) struct Dir {
    /// Which layer, 0 being the topmost.
    pub layer: usize,
    pub fd: OwnedFd,
}

/// Descriptors of merged directories on the way that are kept open, beside those of one directory.
const KEPT: usize = 256;

/// The layers below, and the way to the merged directory that was looked at last.
///
/// What a path has in common with the one before it is not walked again, so that paths in the order of a walk cost no more
/// than the directories that they lead through.
pub(super) struct Below<'a> {
    layers: &'a [Fd<'a>],
    last: Vec<u8>,
    /// The merged directories on the way there, the root first; nothing after a failure.
    way: Vec<Merged>,
}

/// A merged directory.
struct Merged {
    /// The layers that have it, the topmost first.
    layers: Vec<usize>,
    /// Its directories there; none when they were too many to be kept open.
    dirs: Vec<Dir>,
}

impl Merged {
    fn new(dirs: Vec<Dir>) -> Self {
        Self { layers: dirs.iter().map(|dir| dir.layer).collect(), dirs }
    }
}

/// What is visible at a path.
pub(super) struct Visible<'a> {
    /// The directory that has it, in the topmost layer that does.
    pub dir: &'a Dir,
    pub stat: Stat,
}

impl<'a> Below<'a> {
    pub fn new(layers: &'a [Fd<'a>]) -> Self {
        Self { layers, last: Vec::new(), way: Vec::new() }
    }

    /// The directories that merge at `path`, the topmost first; none when it is no directory. No link is followed.
    pub fn dirs(&mut self, path: &[u8]) -> Result<&[Dir]> {
        let same = names::parts(&self.last).zip(names::parts(path)).take_while(|(a, b)| a == b).count();
        // A failure on the way leaves nothing that could be taken for the way to `path`.
        let mut way = std::mem::take(&mut self.way);
        way.truncate(same + 1);
        let mut at = match way.pop() {
            Some(merged) => self.opened(merged, path, same)?,
            None => Merged::new(self.roots()?),
        };
        let mut open: usize = way.iter().map(|merged| merged.dirs.len()).sum();
        for part in names::parts(path).skip(way.len()) {
            let inner = Merged::new(enter(&at.dirs, OsStr::from_bytes(part))?);
            open += at.dirs.len();
            way.push(at);
            at = inner;
            // Directories that no layer has need none, and others come back to the one above them.
            if open > KEPT && !at.dirs.is_empty() {
                way.iter_mut().for_each(|merged| merged.dirs.clear());
                open = 0;
            }
        }
        way.push(at);
        self.last = path.to_vec();
        self.way = way;
        Ok(self.way.last().map_or(&[], |merged| &merged.dirs))
    }

    /// Opens the directories again that were closed, of the first `depth` parts of `path`.
    fn opened(&self, mut merged: Merged, path: &[u8], depth: usize) -> Result<Merged> {
        if merged.dirs.is_empty() && !merged.layers.is_empty() {
            let path = names::parts(path).take(depth).collect::<Vec<_>>().join(&b'/');
            for &layer in &merged.layers {
                let fd = sys::open_dir_path(self.layers[layer], OsStr::from_bytes(&path))?;
                merged.dirs.push(Dir { layer, fd });
            }
        }
        Ok(merged)
    }

    /// What the layers below show at `path`, which is not the root.
    pub fn lookup(&mut self, path: &[u8]) -> Result<Option<Visible<'_>>> {
        let Some((parent, name)) = names::split(path) else { return Ok(None) };
        let name = OsStr::from_bytes(name);
        for dir in self.dirs(parent)? {
            match look(dir, name)? {
                Seen::Nothing => {}
                Seen::Whiteout => return Ok(None),
                Seen::Object(stat) => return Ok(Some(Visible { dir, stat })),
            }
        }
        Ok(None)
    }

    fn roots(&self) -> Result<Vec<Dir>> {
        let mut dirs = Vec::new();
        for (layer, root) in self.layers.iter().enumerate() {
            let fd = sys::open_dir_path(*root, OsStr::new(""))?;
            let opaque = read_dir_markers(fd.as_fd())?.opaque;
            dirs.push(Dir { layer, fd });
            if opaque {
                break;
            }
        }
        Ok(dirs)
    }
}

enum Seen {
    Nothing,
    Whiteout,
    Object(Stat),
}

fn look(dir: &Dir, name: &OsStr) -> Result<Seen> {
    let at = At::Name(dir.fd.as_fd(), name);
    let stat = match sys::stat(at) {
        Ok(stat) => stat,
        Err(e) if e.is(Errno::NOENT) => return Ok(Seen::Nothing),
        Err(e) => return Err(e),
    };
    let by_attribute = || -> Result<bool> {
        let empty = stat.is_file() && stat.size == 0;
        Ok(empty && read_dir_markers(dir.fd.as_fd())?.xwhiteouts && read_file_markers(at)?.whiteout)
    };
    if stat.is_whiteout_dev() || by_attribute()? {
        return Ok(Seen::Whiteout);
    }
    Ok(Seen::Object(stat))
}

fn enter(dirs: &[Dir], name: &OsStr) -> Result<Vec<Dir>> {
    let mut found = Vec::new();
    for dir in dirs {
        match look(dir, name)? {
            Seen::Nothing => continue,
            Seen::Object(stat) if stat.is_dir() => {}
            Seen::Object(_) | Seen::Whiteout => break,
        }
        let fd = sys::open_dir(dir.fd.as_fd(), name)?;
        let opaque = read_dir_markers(fd.as_fd())?.opaque;
        found.push(Dir { layer: dir.layer, fd });
        if opaque {
            break;
        }
    }
    Ok(found)
}
