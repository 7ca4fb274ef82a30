//! From a path to the directory it means inside of the layer, as `crate::archive`'s `tree` walks it on disk.

use super::Making;
use crate::archive::{self, Error, MAX_LINKS, Result, parts, split};
use crate::layer::whiteout::AUFS_PREFIX;
use crate::provenance::entry::Kind;
use std::collections::VecDeque;

/// How far a walk came.
pub(super) enum Walk {
    Arrived(u32),
    Missing,
    Replaced,
}

impl Making<'_> {
    /// What is at `path` in the layer, with all components but the last resolved.
    pub(super) fn find(&mut self, path: &[u8], entry: &[u8]) -> Result<Option<u32>> {
        let (dir, name) = split(path).unwrap_or_default();
        let Walk::Arrived(dir) = self.walk(dir, entry, true, false)? else { return Ok(None) };
        Ok(self.child(dir, name))
    }

    pub(super) fn enter(&mut self, path: &[u8], entry: &[u8], follow: bool) -> Result<Walk> {
        if let Some((last, dir)) = &self.last
            && last == path
        {
            return Ok(Walk::Arrived(*dir));
        }
        self.walk(path, entry, follow, true)
    }

    /// Walks to `path`; makes what is missing of the way if `make`.
    fn walk(&mut self, path: &[u8], entry: &[u8], follow: bool, make: bool) -> Result<Walk> {
        let mut todo: VecDeque<Vec<u8>> = parts(path).map(<[u8]>::to_vec).collect();
        let (mut way, mut links) = (vec![0], 0);
        while let Some(part) = todo.pop_front() {
            if part == b".." {
                if way.len() > 1 {
                    way.pop();
                }
                continue;
            }
            if way.len() > self.limits.depth || part.len() > 255 {
                return Err(Error::entry(entry, "is nested too deeply, or below an overlong name"));
            }
            let here = way.last().copied().unwrap_or(0);
            let Some(child) = self.child(here, &part) else {
                if part.starts_with(AUFS_PREFIX.as_bytes()) {
                    return Err(Error::entry(entry, "leads through a link to a name that begins with '.wh.'"));
                }
                if !make {
                    return Ok(Walk::Missing);
                }
                self.implied += 1;
                self.limits.check_implied(self.implied)?;
                let made = self.directory(here)?;
                self.put(here, &part, made)?;
                way.push(made);
                continue;
            };
            match self.get(child).entry.kind {
                Kind::Directory => way.push(child),
                _ if !follow => return Ok(Walk::Replaced),
                Kind::Symlink => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Error::entry(entry, "leads through too many symbolic links"));
                    }
                    let target = self.get(child).target.clone();
                    if target.starts_with(b"/") {
                        way.truncate(1);
                    }
                    for part in parts(&target).rev() {
                        self.linked += 1;
                        todo.push_front(part.to_vec());
                    }
                    self.limits.check_links(self.linked, entry)?;
                }
                _ => {
                    let what = format!("lies below '{}', which this layer has as a file", archive::shown(&part));
                    return Err(Error::entry(entry, what));
                }
            }
        }
        let here = way.last().copied().unwrap_or(0);
        if links == 0 && make {
            self.last = Some((path.to_vec(), here));
        }
        Ok(Walk::Arrived(here))
    }

    /// The object at a path without links.
    pub(super) fn at(&self, path: &[u8]) -> Option<u32> {
        parts(path).try_fold(0, |dir, part| {
            let here = Some(dir).filter(|dir| self.get(*dir).entry.is_dir())?;
            self.child(here, part)
        })
    }
}
