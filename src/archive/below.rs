//! The finished layers below the one that is being completed, merged as the union merges them.

use super::names;
use crate::layer::markers::{read_dir_markers, read_file_markers};
use crate::sys::{self, At, Errno, Fd, Result, Stat};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// A directory in one of the layers.
pub(super) struct Dir {
    /// Which layer, 0 being the topmost.
    pub layer: usize,
    pub fd: OwnedFd,
}

/// Descriptors of merged directories that are kept open, beside those of the last.
const KEPT: usize = 256;

/// The layers below, and the way to the merged directory that was looked at last.
///
/// What a path has in common with the one before it is not walked again, so that paths in the order of a walk cost no more
/// than the directories that they lead through.
pub(super) struct Below<'a> {
    layers: &'a [Fd<'a>],
    last: Vec<u8>,
    /// The merged directories on the way there, the deepest last: not those near the root when that were too many.
    way: VecDeque<Vec<Dir>>,
}

/// What is visible at a path.
pub(super) struct Visible<'a> {
    /// The directory that has it, in the topmost layer that does.
    pub dir: &'a Dir,
    pub stat: Stat,
}

impl<'a> Below<'a> {
    pub fn new(layers: &'a [Fd<'a>]) -> Self {
        Self { layers, last: Vec::new(), way: VecDeque::new() }
    }

    /// The directories that merge at `path`, the topmost first; none when it is no directory. No link is followed.
    pub fn dirs(&mut self, path: &[u8]) -> Result<&[Dir]> {
        let depth = names::parts(&self.last).count();
        let same = names::parts(&self.last).zip(names::parts(path)).take_while(|(a, b)| a == b).count();
        let mut at = same;
        self.way.truncate(self.way.len().saturating_sub(depth - same));
        // A failure on the way leaves nothing that could be taken for the way to `path`.
        let mut way = std::mem::take(&mut self.way);
        if way.is_empty() {
            way.push_back(self.roots()?);
            at = 0;
        }
        let mut open: usize = way.iter().map(Vec::len).sum();
        for part in names::parts(path).skip(at) {
            let dirs = way.back().map_or_else(|| Ok(Vec::new()), |dirs| enter(dirs, OsStr::from_bytes(part)))?;
            open += dirs.len();
            way.push_back(dirs);
            while open > KEPT && way.len() > 1 {
                open -= way.pop_front().map_or(0, |dirs| dirs.len());
            }
        }
        self.last = path.to_vec();
        self.way = way;
        Ok(self.way.back().map_or(&[], Vec::as_slice))
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
