//! Layers in archives: the tree that unpacking a tar would make, in memory.
//!
//! Entries come from the reader of `crate::archive`, and mean here what its `apply` and `complete` make of them: later
//! entries replace earlier ones of their name, links on the way are resolved inside of the layer, a marker acts on the
//! layers below only. What depends on those is left for [`super::settle`].

mod budget;
mod finish;
mod way;

pub(super) use budget::{Budget, DIGEST};

use super::contents::{Content, xattrs_digest};
use super::entry::{Entry, Kind, NONE};
use super::layer::EntryId;
use crate::archive::{self, Error, Expected, Kind as NameKind, Limits, Result, What, join, split};
use crate::image::digest::Digest;
use std::collections::BTreeMap;
use std::io::Read;
use way::Walk;

/// A layer that was read from a tar; what is said of layers below is still to be settled.
pub(super) struct Unsettled {
    pub entries: Vec<Entry>,
    pub text: Vec<u8>,
    pub digests: Vec<Digest>,
    /// First name of a file, and the path in the layers below that it is a hard link to.
    pub links: Vec<(EntryId, Vec<u8>)>,
    pub read: archive::Digests,
}

/// Reads a layer. What it takes in memory is taken from `budget`.
pub(super) fn read(blob: impl Read + Send, expected: Expected, limits: &Limits, budget: &Budget) -> Result<Unsettled> {
    let mut making = Making::new(limits, budget)?;
    let read = archive::entries(blob, expected, limits, &mut |number, entry, kind, data| {
        let mut content = Content::default();
        if entry.what == What::File && kind == NameKind::Plain {
            content = Content::of_entry(entry.size, data)?;
        }
        making.apply(u32::try_from(number).unwrap_or(NONE), entry, kind, content.digest())
    })?;
    making.finish(read)
}

/// What an object of the layer is while it is being made.
struct Object {
    entry: Entry,
    /// Index of the directory's children.
    children: usize,
    target: Vec<u8>,
    state: State,
}

/// Whether a hard link has found its target.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Made,
    /// The target was not there yet.
    Waiting,
    /// The target is in a layer below.
    Below,
}

type Children = BTreeMap<Box<[u8]>, u32>;

struct Making<'a> {
    limits: &'a Limits,
    objects: Vec<Object>,
    directories: Vec<Children>,
    digests: Vec<Digest>,
    whiteouts: Vec<Vec<u8>>,
    opaque: Vec<Vec<u8>>,
    /// Links whose target was not there: the object, its name for messages, the target.
    waiting: Vec<(u32, Vec<u8>, Vec<u8>)>,
    /// Parts of the targets of links gone through so far.
    linked: u64,
    /// Directories that no entry had described when they were needed.
    implied: u64,
    budget: &'a Budget,
    /// What was taken from the budget.
    taken: usize,
    /// The directory that was entered last, by its path without links.
    last: Option<(Vec<u8>, u32)>,
}

const TO_DIRECTORY: &str = "is a hard link to a directory";

impl<'a> Making<'a> {
    fn new(limits: &'a Limits, budget: &'a Budget) -> Result<Self> {
        let mut making = Self {
            limits,
            objects: Vec::new(),
            directories: Vec::new(),
            digests: Vec::new(),
            whiteouts: Vec::new(),
            opaque: Vec::new(),
            waiting: Vec::new(),
            linked: 0,
            implied: 0,
            budget,
            taken: 0,
            last: None,
        };
        making.directory(0)?;
        Ok(making)
    }

    /// Takes bytes from the budget.
    fn take(&mut self, bytes: usize) -> Result<()> {
        self.taken += bytes;
        self.budget.take(bytes)
    }

    /// A new directory that no entry describes.
    fn directory(&mut self, parent: u32) -> Result<u32> {
        self.take(budget::DIRECTORY)?;
        let children = self.directories.len();
        self.directories.push(Children::new());
        let entry = Entry { implied: true, parent, ..Entry::new(Kind::Directory) };
        self.object(Object { entry, children, target: Vec::new(), state: State::Made })
    }

    fn object(&mut self, object: Object) -> Result<u32> {
        // The target stands in the text of the layer, too.
        self.take(budget::OBJECT + 2 * object.target.len())?;
        self.objects.push(object);
        Ok(u32::try_from(self.objects.len() - 1).unwrap_or(NONE))
    }

    fn get(&self, id: u32) -> &Object {
        &self.objects[id as usize]
    }

    fn child(&self, dir: u32, name: &[u8]) -> Option<u32> {
        self.directories[self.get(dir).children].get(name).copied()
    }

    /// Puts an object into a directory, in place of whatever has its name.
    fn put(&mut self, dir: u32, name: &[u8], id: u32) -> Result<()> {
        // The name stands in the text of the layer, too, before the map is gone.
        self.take(budget::NAME + 2 * name.len())?;
        let children = self.get(dir).children;
        if self.directories[children].insert(name.into(), id).is_some() {
            self.last = None;
        }
        self.objects[id as usize].entry.parent = dir;
        Ok(())
    }

    fn apply(
        &mut self,
        number: u32,
        entry: &archive::Entry,
        kind: NameKind<'_>,
        content: Option<Digest>,
    ) -> Result<()> {
        let (dir, name) = split(&entry.path).unwrap_or_default();
        match kind {
            NameKind::Leftover => Ok(()),
            NameKind::Plain if entry.path.is_empty() => self.root(entry),
            NameKind::Plain => match self.enter(dir, &entry.name, true)? {
                Walk::Arrived(dir) => self.plain(number, entry, dir, name, content),
                Walk::Missing | Walk::Replaced => Ok(()),
            },
            NameKind::Whiteout(_) | NameKind::Opaque => {
                let Walk::Arrived(_) = self.enter(dir, &entry.name, false)? else { return Ok(()) };
                self.take(budget::PATH + entry.path.len())?;
                match kind {
                    NameKind::Whiteout(hidden) => self.whiteouts.push(join(dir, hidden)),
                    _ => self.opaque.push(dir.to_vec()),
                }
                Ok(())
            }
        }
    }

    fn root(&mut self, entry: &archive::Entry) -> Result<()> {
        if entry.what != What::Directory {
            return Err(Error::entry(&entry.name, "would replace the root of the layer by something else"));
        }
        self.describe(0, entry)
    }

    fn plain(
        &mut self,
        number: u32,
        entry: &archive::Entry,
        dir: u32,
        name: &[u8],
        content: Option<Digest>,
    ) -> Result<()> {
        let made = |kind, target: &[u8]| Object {
            entry: Entry { ordinal: number, ..Entry::new(kind) },
            children: 0,
            target: target.to_vec(),
            state: State::Made,
        };
        let mut object = match &entry.what {
            What::Directory => {
                let known = self.child(dir, name).filter(|id| self.get(*id).entry.is_dir());
                let id = known.map_or_else(|| self.directory(dir), Ok)?;
                if known.is_none() {
                    self.put(dir, name, id)?;
                }
                return self.describe(id, entry);
            }
            What::Link(target) => return self.link(entry, dir, name, target),
            What::File => made(Kind::File, &[]),
            What::Symlink(target) => made(Kind::Symlink, target),
            What::Fifo => made(Kind::Fifo, &[]),
            What::Char(..) => made(Kind::Char, &[]),
            What::Block(..) => made(Kind::Block, &[]),
        };
        match &entry.what {
            What::File => object.entry.size = entry.size,
            What::Symlink(target) => object.entry.size = target.len() as u64,
            What::Char(major, minor) | What::Block(major, minor) => object.entry.device = (*major, *minor),
            _ => {}
        }
        object.entry.content = self.digest(content)?;
        let id = self.object(object)?;
        self.describe(id, entry)?;
        self.put(dir, name, id)
    }

    fn digest(&mut self, digest: Option<Digest>) -> Result<u32> {
        let Some(digest) = digest else { return Ok(NONE) };
        self.take(budget::DIGEST)?;
        self.digests.push(digest);
        Ok(u32::try_from(self.digests.len() - 1).unwrap_or(NONE))
    }

    /// Gives an object the attributes that its entry says.
    fn describe(&mut self, id: u32, entry: &archive::Entry) -> Result<()> {
        let meta = &entry.meta;
        let xattrs = xattrs_digest(meta.xattrs.iter().map(|(name, value)| (name.to_bytes(), value.as_slice())));
        let xattrs = self.digest(xattrs)?;
        let own = &mut self.objects[id as usize].entry;
        own.implied = false;
        own.mode = u16::try_from(meta.mode & 0o7777).unwrap_or(0);
        // Links show the mode that links have on disk.
        if own.kind == Kind::Symlink {
            own.mode = 0o777;
        }
        (own.uid, own.gid, own.mtime, own.xattrs) = (meta.uid, meta.gid, meta.mtime, xattrs);
        Ok(())
    }

    fn link(&mut self, entry: &archive::Entry, dir: u32, name: &[u8], target: &[u8]) -> Result<()> {
        if target.is_empty() {
            return Err(Error::entry(&entry.name, TO_DIRECTORY));
        }
        let found = self.find(target, &entry.name)?.filter(|id| self.get(*id).state != State::Waiting);
        let Some(found) = found else {
            // The target is kept until the layer is settled.
            self.take(2 * (budget::PATH + target.len()) + entry.name.len())?;
            let (entry_of_link, state) = (Entry::new(Kind::Socket), State::Waiting);
            let id = self.object(Object { entry: entry_of_link, children: 0, target: Vec::new(), state })?;
            self.put(dir, name, id)?;
            self.waiting.push((id, entry.name.clone(), target.to_vec()));
            return Ok(());
        };
        if self.get(found).entry.is_dir() {
            return Err(Error::entry(&entry.name, TO_DIRECTORY));
        }
        let own = self.child(dir, name);
        if own.is_some_and(|own| own == found || self.file(own) == self.file(found)) {
            return Ok(());
        }
        if own.is_some_and(|own| self.is_in(found, own)) {
            return Err(Error::entry(&entry.name, "is a hard link to a file that it replaces"));
        }
        let id = self.further_name(found)?;
        self.put(dir, name, id)
    }

    /// Which file a name is of.
    fn file(&self, id: u32) -> u32 {
        let first = self.get(id).entry.first;
        if first == NONE { id } else { first }
    }

    /// Whether an object is in a directory.
    fn is_in(&self, mut id: u32, dir: u32) -> bool {
        while id != 0 {
            if id == dir {
                return true;
            }
            id = self.get(id).entry.parent;
        }
        false
    }

    /// A further name of a file, not yet in a directory.
    fn further_name(&mut self, of: u32) -> Result<u32> {
        let first = self.file(of);
        self.objects[of as usize].entry.first = first;
        let Object { entry, ref target, state, .. } = self.objects[of as usize];
        let target = target.clone();
        self.object(Object { entry, children: 0, target, state })
    }
}
