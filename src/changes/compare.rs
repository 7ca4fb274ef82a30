//! The walk: two trees side by side, through what upper has, and through all only where that is a different directory.
//!
//! A directory that consists of the same lower directories with and without upper can differ only in the names that upper
//! has; anything else there is not even looked at. A directory that was renamed, or made anew over another, is compared
//! name by name.

use super::error::{Error, Result, shown};
use super::links::Names;
use super::same::{Pair, kind};
use super::union::{Tree, Union};
use crate::layer::whiteout;
use crate::overlay::{Attr, Ino};
use std::os::unix::ffi::OsStrExt;

/// What counts as a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// As `docker diff` counts: type, mode, owner, device number and extended attributes; of files also length and time.
    /// Contents are not read. Names come in byte order.
    Docker,
    /// Everything that a layer must say: also contents, times of directories, which names are one file, and the root.
    /// Deleted names come before the others of their directory. Sockets, which no layer can hold, count as not there.
    Exact,
}

/// What happened to a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The tree below does not have it.
    Added,
    /// Both have it. Also said of directories in which something changed.
    Changed,
    /// Only the tree below has it. What was in a directory goes unsaid.
    Deleted,
}

/// One change. Directories come before what is in them.
#[derive(Debug)]
pub struct Change<'a> {
    /// What happened.
    pub kind: Kind,
    /// Relative to the root, which is empty itself.
    pub path: &'a [u8],
    /// The object as it is now; absent when it is deleted.
    pub attr: Option<Attr>,
    /// A directory, of which nothing below may show: a name that was deleted in it is too long for a whiteout. All that is
    /// in it follows as added. Under [`Rule::Exact`] only.
    pub opaque: bool,
}

/// Takes changes in order.
pub(super) type Sink<'a> = &'a mut dyn FnMut(&Change<'_>) -> Result<()>;

/// A name that has to be looked at.
struct Child {
    name: Box<[u8]>,
    deleted: bool,
}

/// A directory on the way, and what is left to do in it.
struct Frame {
    top: Attr,
    base: Option<Ino>,
    /// Length of its path.
    path: usize,
    children: std::vec::IntoIter<Child>,
    /// It has been told, or is not to be.
    told: bool,
    opaque: bool,
}

impl Union {
    /// Tells `sink` all changes.
    ///
    /// # Errors
    /// Those of `sink`, and [`Error::Read`].
    pub fn changes(&self, rule: Rule, sink: &mut dyn FnMut(&Change<'_>) -> Result<()>) -> Result<()> {
        let names = self.other_names(rule)?;
        self.walk(rule, &names, true, sink)
    }

    /// Whether there are any changes of that kind; the walk ends at the first.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn is_changed(&self, rule: Rule) -> Result<bool> {
        match self.changes(rule, &mut |_| Err(Error::Stopped)) {
            Err(Error::Stopped) => Ok(true),
            other => other.map(|()| false),
        }
    }

    /// The walk itself. `names` are looked at wherever they are; contents are read if `deep`.
    pub(super) fn walk(&self, rule: Rule, names: &Names, deep: bool, sink: Sink<'_>) -> Result<()> {
        let mut walk = Walk { union: self, rule, names, deep, sink, path: Vec::new(), frames: Vec::new() };
        let done = walk.run();
        while walk.frames.pop().is_some_and(|frame| walk.leave(&frame)) {}
        done
    }
}

struct Walk<'a, 's> {
    union: &'a Union,
    rule: Rule,
    names: &'a Names,
    deep: bool,
    sink: &'s mut dyn FnMut(&Change<'_>) -> Result<()>,
    path: Vec<u8>,
    /// From the root to where we are.
    frames: Vec<Frame>,
}

impl<'a> Walk<'a, '_> {
    fn top(&self) -> Tree<'a> {
        Tree(&self.union.top)
    }

    fn base(&self) -> Option<Tree<'a>> {
        self.union.base.as_ref().map(Tree)
    }

    fn run(&mut self) -> Result<()> {
        let top = self.top().root()?;
        let base = self.base().map(|tree| tree.root()).transpose()?;
        let differs = match &base {
            _ if self.rule == Rule::Docker => false,
            Some(base) => self.differs(&top, base)?,
            None => true,
        };
        self.enter(top, base.map(|b| b.ino), None)?;
        if self.rule == Rule::Docker {
            self.told();
        }
        if differs {
            self.tell_parents()?;
        }
        while let Some(frame) = self.frames.last_mut() {
            let (length, dir, base) = (frame.path, frame.top.ino, frame.base);
            self.path.truncate(length);
            match frame.children.next() {
                Some(child) => {
                    if length > 0 {
                        self.path.push(b'/');
                    }
                    self.path.extend_from_slice(&child.name);
                    self.visit(dir, base, &child)?;
                }
                None => {
                    if let Some(frame) = self.frames.pop() {
                        self.leave(&frame);
                    }
                }
            }
        }
        Ok(())
    }

    fn told(&mut self) {
        if let Some(frame) = self.frames.last_mut() {
            frame.told = true;
        }
    }

    /// The directory is done with; true, for loops.
    fn leave(&self, frame: &Frame) -> bool {
        self.top().forget(frame.top.ino);
        if let (Some(tree), Some(ino)) = (self.base(), frame.base) {
            tree.forget(ino);
        }
        true
    }

    fn differs(&self, top: &Attr, base: &Attr) -> Result<bool> {
        self.union.differs(Pair { path: &self.path, top, base }, self.rule, self.deep)
    }

    fn visit(&mut self, dir: Ino, base_dir: Option<Ino>, child: &Child) -> Result<()> {
        if child.deleted {
            return self.tell(Kind::Deleted, None);
        }
        let found = self.top().lookup(dir, &child.name, &self.path)?;
        let found = match found {
            Some(attr) if kind(&attr) == libc::S_IFSOCK && self.rule == Rule::Exact => {
                self.top().forget(attr.ino);
                if self.deep {
                    log::warn!("/{} is a socket, which a layer cannot hold: left out", shown(&self.path));
                }
                None
            }
            found => found,
        };
        let base = match (self.base(), base_dir) {
            (Some(tree), Some(dir)) => tree.lookup(dir, &child.name, &self.path)?,
            _ => None,
        };
        let entered = match self.compare(found, base) {
            // Gone since it was looked up. A layer must not be made of that: it may have come back elsewhere.
            Err(Error::Gone { .. }) if self.rule == Rule::Docker => self.compare(None, base),
            compared => compared,
        };
        // A directory that was entered is forgotten when it is left.
        if !matches!(entered, Ok(true)) {
            found.iter().for_each(|attr| self.top().forget(attr.ino));
            if let (Some(tree), Some(attr)) = (self.base(), base) {
                tree.forget(attr.ino);
            }
        }
        entered.map(drop)
    }

    /// Compares what the two trees have at the current path; true when it was entered.
    fn compare(&mut self, top: Option<Attr>, base: Option<Attr>) -> Result<bool> {
        let Some(top) = top else {
            // Gone since it was listed, as if it had been deleted before.
            return if base.is_some() { self.tell(Kind::Deleted, None).map(|()| false) } else { Ok(false) };
        };
        let is_dir = |attr: &Attr| kind(attr) == libc::S_IFDIR;
        let Some(base) = base else {
            if !is_dir(&top) {
                return self.tell(Kind::Added, Some(top)).map(|()| false);
            }
            self.enter(top, None, Some(Kind::Added))?;
            return Ok(true);
        };
        if is_dir(&top) && is_dir(&base) {
            if self.is_untouched(&top, &base)? {
                return Ok(false);
            }
            let differs = self.differs(&top, &base)?;
            self.enter(top, Some(base.ino), differs.then_some(Kind::Changed))?;
            return Ok(true);
        }
        if is_dir(&top) {
            self.enter_over_other(top, &base)?;
            return Ok(true);
        }
        let same_kind = kind(&top) == kind(&base);
        let forced = self.rule == Rule::Exact && self.names.has(&self.path);
        if !same_kind || forced || self.differs(&top, &base)? {
            self.tell(Kind::Changed, Some(top))?;
        }
        Ok(false)
    }

    /// A directory where the tree below has something else; that one is of no further use.
    fn enter_over_other(&mut self, top: Attr, base: &Attr) -> Result<()> {
        self.enter(top, None, Some(Kind::Changed))?;
        if let Some(tree) = self.base() {
            tree.forget(base.ino);
        }
        Ok(())
    }

    /// Whether a directory is one and the same in both trees, with all that is in it.
    fn is_untouched(&self, top: &Attr, base: &Attr) -> Result<bool> {
        let Some(below) = &self.union.base else { return Ok(false) };
        let ours = self.union.top.parts(top.ino).map_err(Error::read(&self.path))?;
        let theirs = below.parts(base.ino).map_err(Error::read(&self.path))?;
        Ok(ours == theirs && !self.names.any_below(&self.path))
    }

    /// Goes on in a directory; it is told at once if `kind` says what happened to it, else with the first change in it.
    fn enter(&mut self, top: Attr, base: Option<Ino>, kind: Option<Kind>) -> Result<()> {
        let (children, opaque) = self.children(&top, base)?;
        let base_for_children = base.filter(|_| !opaque);
        if let (true, Some(tree), Some(ino)) = (opaque, self.base(), base) {
            tree.forget(ino);
        }
        if let Some(kind) = kind {
            self.tell_parents()?;
            (self.sink)(&Change { kind, path: &self.path, attr: Some(top), opaque })?;
        }
        let children = children.into_iter();
        let frame =
            Frame { top, base: base_for_children, path: self.path.len(), children, told: kind.is_some(), opaque };
        self.frames.push(frame);
        if opaque { self.tell_parents() } else { Ok(()) }
    }

    /// What has to be looked at in a directory, in order, and whether it has to be opaque.
    fn children(&self, top: &Attr, base: Option<Ino>) -> Result<(Vec<Child>, bool)> {
        let (Some(below), Some(base)) = (&self.union.base, base) else {
            return Ok((self.all_names(top)?, false));
        };
        let ours = self.union.top.parts(top.ino).map_err(Error::read(&self.path))?;
        let theirs = below.parts(base).map_err(Error::read(&self.path))?;
        let mut children = if ours.lowers == theirs.lowers {
            self.names_of_upper(top, ours.upper)?
        } else {
            self.names_of_both(top, base)?
        };
        if self.rule == Rule::Exact {
            for child in children.iter().filter(|child| !whiteout::fits(&child.name)) {
                if child.deleted || self.is_socket_over_other(top.ino, base, &child.name)? {
                    return Ok((self.all_names(top)?, true));
                }
            }
            // Stable: both parts stay in byte order.
            children.sort_by_key(|child| !child.deleted);
        }
        Ok((children, false))
    }

    /// Whether a name is a socket, which counts as not there, and was something else below.
    fn is_socket_over_other(&self, top: Ino, base: Ino, name: &[u8]) -> Result<bool> {
        let look = |tree: Tree<'_>, dir: Ino| -> Result<Option<u32>> {
            let found = tree.lookup(dir, name, &self.path)?;
            found.iter().for_each(|attr| tree.forget(attr.ino));
            Ok(found.map(|attr| kind(&attr)))
        };
        let is_socket = look(self.top(), top)? == Some(libc::S_IFSOCK);
        Ok(is_socket && self.base().map_or(Ok(None), |tree| look(tree, base))?.is_some())
    }

    fn all_names(&self, top: &Attr) -> Result<Vec<Child>> {
        let names = self.top().names(top.ino, &self.path)?;
        Ok(names.into_iter().map(|name| Child { name, deleted: false }).collect())
    }

    fn names_of_upper(&self, top: &Attr, upper: bool) -> Result<Vec<Child>> {
        let mut children: Vec<Child> =
            self.names.next_below(&self.path).map(|name| Child { name: name.into(), deleted: false }).collect();
        if upper {
            let read = self.union.top.names_in_upper(top.ino, &mut |name| {
                if !name.whiteout || name.below {
                    children.push(Child { name: name.name.as_bytes().into(), deleted: name.whiteout });
                }
            });
            read.map_err(Error::read(&self.path))?;
        }
        children.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        children.dedup_by(|a, b| a.name == b.name);
        Ok(children)
    }

    fn names_of_both(&self, top: &Attr, base: Ino) -> Result<Vec<Child>> {
        let mut children = self.all_names(top)?;
        let Some(tree) = self.base() else { return Ok(children) };
        let ours: Vec<Box<[u8]>> = children.iter().map(|child| child.name.clone()).collect();
        let theirs = tree.names(base, &self.path)?.into_iter();
        let gone = theirs.filter(|name| ours.binary_search(name).is_err());
        children.extend(gone.map(|name| Child { name, deleted: true }));
        children.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(children)
    }

    /// Tells the change at the current path, after the directories that it is in.
    fn tell(&mut self, kind: Kind, attr: Option<Attr>) -> Result<()> {
        self.tell_parents()?;
        (self.sink)(&Change { kind, path: &self.path, attr, opaque: false })
    }

    /// Tells the directories on the way that were not told yet.
    fn tell_parents(&mut self) -> Result<()> {
        for frame in self.frames.iter_mut().filter(|frame| !frame.told) {
            frame.told = true;
            let path = &self.path[..frame.path];
            let kind = if self.union.base.is_some() { Kind::Changed } else { Kind::Added };
            (self.sink)(&Change { kind, path, attr: Some(frame.top), opaque: frame.opaque })?;
        }
        Ok(())
    }
}
