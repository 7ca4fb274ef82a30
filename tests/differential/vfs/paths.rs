//! From a path to an object (path_resolution(7)).

use super::super::text::Place;
use super::{Inodes, Node, Result, Vfs};

/// More symbolic links in one path are a loop.
const MAX_LINKS: usize = 40;

/// The last component of a path.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Last {
    Name(Vec<u8>),
    Dot,
    DotDot,
}

/// A path without its last component, which may or may not exist.
#[derive(Clone, Debug)]
pub(super) struct Split {
    pub directory: Node,
    pub last: Last,
    /// There was a slash behind the last component.
    pub slash: bool,
}

impl Split {
    /// The last component, if it is a name; otherwise the errno given.
    pub fn name(&self, otherwise: i32) -> Result<&[u8]> {
        match &self.last {
            Last::Name(name) => Ok(name),
            Last::Dot | Last::DotDot => Err(otherwise),
        }
    }
}

impl<F: Inodes> Vfs<F> {
    fn start(&self, place: &Place) -> Result<Node> {
        place.slot.map_or(Ok(self.files.root()), |slot| Ok(self.held(slot)?.node))
    }

    /// The object at a path; a symbolic link itself unless `follow`.
    pub(super) fn find(&mut self, place: &Place, follow: bool) -> Result<Node> {
        let start = self.start(place)?;
        self.walk(start, &place.path, follow, &mut 0)
    }

    pub(super) fn split(&mut self, place: &Place) -> Result<Split> {
        let start = self.start(place)?;
        self.split_from(start, &place.path)
    }

    /// The same from a directory on.
    pub(super) fn split_from(&mut self, start: Node, path: &[u8]) -> Result<Split> {
        if path.is_empty() {
            return Err(libc::ENOENT);
        }
        let slash = path.ends_with(b"/");
        let end = path.len() - path.iter().rev().take_while(|b| **b == b'/').count();
        let cut = path[..end].iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
        let directory = if cut == 0 { start } else { self.walk(start, &path[..cut], true, &mut 0)? };
        self.needs_directory(directory)?;
        let last = match &path[cut..end] {
            b"." | b"" => Last::Dot,
            b".." => Last::DotDot,
            name => Last::Name(name.to_vec()),
        };
        Ok(Split { directory, last, slash })
    }

    pub(super) fn needs_directory(&self, node: Node) -> Result<()> {
        if self.files.attr(node)?.is_dir() { Ok(()) } else { Err(libc::ENOTDIR) }
    }

    pub(super) fn child(&mut self, directory: Node, name: &[u8]) -> Result<Node> {
        let child = self.files.lookup(directory, name)?;
        if self.files.attr(child)?.is_dir() {
            self.above.insert(child, directory);
        }
        Ok(child)
    }

    fn walk(&mut self, start: Node, path: &[u8], follow: bool, links: &mut usize) -> Result<Node> {
        if path.is_empty() {
            return Err(libc::ENOENT);
        }
        let parts: Vec<_> = path.split(|b| *b == b'/').filter(|part| !part.is_empty()).collect();
        let slash = path.ends_with(b"/");
        let mut at = start;
        for (number, part) in parts.iter().enumerate() {
            self.needs_directory(at)?;
            let last = number + 1 == parts.len() && !slash;
            at = match *part {
                b"." => at,
                b".." => self.above.get(&at).copied().unwrap_or_else(|| self.files.root()),
                name => {
                    let child = self.child(at, name)?;
                    let is_link = self.files.attr(child)?.kind() == libc::S_IFLNK;
                    if is_link && (follow || !last) { self.follow(at, child, links)? } else { child }
                }
            };
        }
        if slash {
            self.needs_directory(at)?;
        }
        Ok(at)
    }

    fn follow(&mut self, directory: Node, link: Node, links: &mut usize) -> Result<Node> {
        *links += 1;
        if *links > MAX_LINKS {
            return Err(libc::ELOOP);
        }
        let target = self.files.read_link(link)?;
        self.walk(directory, &target, true, links)
    }

    /// Where a file that is to be made through a symbolic link goes: the end of the chain of links from a name.
    pub(super) fn through_links(&mut self, mut split: Split) -> Result<Split> {
        for _ in 0..MAX_LINKS {
            let Last::Name(name) = &split.last else { return Ok(split) };
            match self.child(split.directory, &name.clone()) {
                Ok(child) if self.files.attr(child)?.kind() == libc::S_IFLNK => {
                    let target = self.files.read_link(child)?;
                    split = self.split_from(split.directory, &target)?;
                }
                Ok(_) | Err(libc::ENOENT) => return Ok(split),
                Err(errno) => return Err(errno),
            }
        }
        Err(libc::ELOOP)
    }
}
