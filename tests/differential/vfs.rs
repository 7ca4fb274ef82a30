//! What the kernel does above a file system: paths, descriptors, flags. With it a step runs without a mount, on anything
//! that has [`Inodes`]: the core of laminafs, and the model.
//!
//! Nobody is refused anything here, since permissions are the kernel's to check, in a mount as on any file system. What else
//! lives in the kernel or in the file system below is left out, see [`left_out`].

mod descriptors;
mod paths;
mod steps;

use std::collections::{BTreeMap, BTreeSet};

use super::calls::Errno;
use super::generate::SLOTS;
use super::ops::{Op, Step};
use super::side::{kind_of, summary};
use super::text::{Id, Place, When, Whence, Who};

pub type Result<T> = std::result::Result<T, Errno>;

/// An object, as the file system names it.
pub type Node = u64;

/// Who acts: user and group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
}

/// A modification time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stamp {
    At(i64, u32),
    /// While the case ran.
    Now,
    /// The file system below decides.
    Any,
}

/// Attributes that are compared.
#[derive(Clone, Copy, Debug)]
pub struct Attr {
    /// Type and permissions.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub nlink: u64,
    pub rdev: (u32, u32),
    pub mtime: Stamp,
}

impl Attr {
    pub fn kind(&self) -> u32 {
        self.mode & libc::S_IFMT
    }

    pub fn is_dir(&self) -> bool {
        self.kind() == libc::S_IFDIR
    }
}

/// What to make.
#[derive(Clone, Copy, Debug)]
pub enum New<'a> {
    File,
    Directory,
    Symlink(&'a [u8]),
    /// Type, major and minor number.
    Node(u32, u32, u32),
}

/// What to change; `None` and [`When::Omit`] leave it as it is.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    pub size: Option<u64>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub mode: Option<u32>,
    pub atime: When,
    pub mtime: When,
}

impl Default for Change {
    fn default() -> Self {
        Self { size: None, uid: None, gid: None, mode: None, atime: When::Omit, mtime: When::Omit }
    }
}

/// A file system below its descriptors: objects and names.
pub trait Inodes {
    /// Where the next entries of a listing begin.
    type Cookie: Default + Clone;

    fn root(&self) -> Node;
    /// From now on the object is known by its number until `settle`.
    fn lookup(&mut self, directory: Node, name: &[u8]) -> Result<Node>;
    fn attr(&self, node: Node) -> Result<Attr>;
    fn create(&mut self, at: (Node, &[u8]), new: New<'_>, mode: u32, umask: u32, caller: Caller) -> Result<Node>;
    fn link(&mut self, node: Node, directory: Node, name: &[u8]) -> Result<()>;
    fn unlink(&mut self, directory: Node, name: &[u8]) -> Result<()>;
    fn rmdir(&mut self, directory: Node, name: &[u8]) -> Result<()>;
    fn rename(&mut self, from: (Node, &[u8]), to: (Node, &[u8]), flags: u32, caller: Caller) -> Result<()>;
    fn change(&mut self, node: Node, change: &Change, caller: Caller) -> Result<()>;
    fn read(&self, node: Node, offset: u64, len: u64) -> Result<Vec<u8>>;
    fn write(&mut self, node: Node, offset: u64, data: &[u8], caller: Caller) -> Result<()>;
    fn fallocate(&mut self, node: Node, mode: i32, offset: u64, len: u64, caller: Caller) -> Result<()>;
    /// How much was copied; it may be less than asked for.
    fn copy_range(&mut self, from: (Node, u64), to: (Node, u64), len: u64, caller: Caller) -> Result<u64>;
    fn sync(&mut self, node: Node, data_only: bool) -> Result<()>;
    fn sync_all(&mut self) -> Result<()>;
    fn read_link(&self, node: Node) -> Result<Vec<u8>>;
    /// Up to `count` further entries, without the dots, each with the type and number that the listing tells.
    fn list(&self, directory: Node, after: &Self::Cookie, count: usize) -> Result<Vec<Listed<Self::Cookie>>>;
    fn get_xattr(&self, node: Node, name: &[u8]) -> Result<Vec<u8>>;
    fn list_xattr(&self, node: Node, caller: Caller) -> Result<Vec<Vec<u8>>>;
    fn set_xattr(&mut self, node: Node, name: &[u8], value: &[u8], flags: i32, caller: Caller) -> Result<()>;
    fn remove_xattr(&mut self, node: Node, name: &[u8]) -> Result<()>;
    /// A step has ended; of what was looked up only these are still in use.
    fn settle(&mut self, held: &BTreeSet<Node>);
}

/// An entry of a listing.
#[derive(Clone, Debug)]
pub struct Listed<C> {
    pub name: Vec<u8>,
    pub number: Node,
    pub kind: u32,
    pub cookie: C,
}

/// Steps that a run without a mount leaves out, all in this one place:
///
/// - what the kernel does on its own: permissions (`access`), maps, the page cache;
/// - what the file system below decides: inode flags, where holes are;
/// - chown(2) to nobody new, which FUSE does not tell from the kernel's wish to have set-id bits cleared.
///
/// Pipes, sockets and devices do not open (see `descriptors`), and the attributes of a deleted directory do not change, as
/// whether they can depends on where it was.
pub fn left_out(op: &Op) -> bool {
    match op {
        Op::Access { .. }
        | Op::SetInodeFlags { .. }
        | Op::GetInodeFlags { .. }
        | Op::Map { .. }
        | Op::MapRead { .. }
        | Op::MapWrite { .. }
        | Op::MapSync { .. }
        | Op::Unmap { .. }
        | Op::Seek { whence: Whence::Data | Whence::Hole, .. } => true,
        Op::Chown { user, group, .. } | Op::Fchown { user, group, .. } => (*user, *group) == (Id(None), Id(None)),
        _ => false,
    }
}

/// A descriptor that is held.
struct Held<C> {
    node: Node,
    flags: i32,
    position: u64,
    reading: Option<Reading<C>>,
}

/// A directory that is being read.
struct Reading<C> {
    before: BTreeSet<(Vec<u8>, Node)>,
    seen: Vec<Vec<u8>>,
    after: C,
    ended: bool,
}

/// A file system with descriptors in use.
pub struct Vfs<F: Inodes> {
    pub files: F,
    umask: u32,
    /// Everybody is this one, where only one user can own things.
    only: Option<Caller>,
    slots: [Option<Held<F::Cookie>>; SLOTS as usize],
    /// The directory above each one that was looked up.
    above: BTreeMap<Node, Node>,
}

/// What a step gave: some words, or an errno.
pub type Outcome = Result<String>;

impl<F: Inodes> Vfs<F> {
    pub fn new(files: F, umask: u32, only: Option<Caller>) -> Self {
        Self { files, umask, only, slots: Default::default(), above: BTreeMap::new() }
    }

    /// Does a step. Those that concern the whole tree are somebody else's.
    pub fn run(&mut self, step: &Step) -> Outcome {
        let outcome = self.act(&step.op, self.caller(step.who));
        if matches!(step.op, Op::Unlink { .. } | Op::Rmdir { .. } | Op::Rename { .. } | Op::RemoveTree { .. }) {
            self.note_removals();
        }
        let held = self.slots.iter().flatten().map(|held| held.node).collect();
        self.files.settle(&held);
        outcome
    }

    fn caller(&self, who: Who) -> Caller {
        let id = match who {
            Who::Root => 0,
            Who::Alice => 1000,
            Who::Bob => 1001,
        };
        self.only.unwrap_or(Caller { uid: id, gid: id })
    }

    /// The object at a path itself, outside of a step.
    pub fn look(&mut self, path: &Place) -> Result<Node> {
        self.find(path, false)
    }

    /// Closes all descriptors.
    pub fn close_all(&mut self) {
        self.slots = Default::default();
        self.above.clear();
        self.files.settle(&BTreeSet::new());
    }

    /// Everything that can be seen, by path, and where what is listed is not what is found.
    pub fn tree(&mut self) -> Tree {
        let mut tree = Tree::default();
        let root = self.files.root();
        self.grow(&mut tree, root, b".", b"");
        let held = self.slots.iter().flatten().map(|held| held.node).collect();
        self.files.settle(&held);
        tree.link_groups();
        tree
    }

    fn grow(&mut self, tree: &mut Tree, node: Node, path: &[u8], prefix: &[u8]) {
        let line = self.line(node).unwrap_or_else(|errno| format!("cannot be looked at: errno {errno}"));
        let directory = line.starts_with("dir ");
        tree.lines.insert(path.to_vec(), line);
        tree.numbers.insert(path.to_vec(), node);
        if !directory {
            return;
        }
        let entries = match self.files.list(node, &F::Cookie::default(), usize::MAX) {
            Ok(entries) => entries,
            Err(errno) => return tree.problem(path, &format!("cannot be listed: errno {errno}")),
        };
        for entry in entries {
            let whole = [prefix, &entry.name].concat();
            if tree.lines.contains_key(&whole) {
                tree.problem(&whole, "is listed twice");
            }
            match self.files.lookup(node, &entry.name) {
                Err(errno) => tree.problem(&whole, &format!("is listed but not found: errno {errno}")),
                Ok(child) => {
                    let kind = self.files.attr(child).map(|attr| attr.kind());
                    if (child, kind) != (entry.number, Ok(entry.kind)) {
                        let listed = (entry.number, entry.kind);
                        tree.problem(&whole, &format!("listed as {listed:?}, found as {:?}", (child, kind)));
                    }
                    self.grow(tree, child, &whole, &[&whole, b"/".as_slice()].concat());
                }
            }
        }
    }

    fn line(&self, node: Node) -> Outcome {
        let attr = self.files.attr(node)?;
        let mut line = describe(&attr);
        if attr.kind() == libc::S_IFREG {
            line += &format!(" {}", summary(&self.files.read(node, 0, attr.size + 1)?));
        } else if attr.kind() == libc::S_IFLNK {
            line += &format!(" -> {}", self.files.read_link(node)?.escape_ascii());
        }
        let mut names = self.files.list_xattr(node, self.caller(Who::Root))?;
        names.sort();
        for name in names {
            let value = self.files.get_xattr(node, &name)?;
            line += &format!(" {}={}", name.escape_ascii(), steps::hex(&value));
        }
        Ok(line)
    }
}

/// Attributes in words. Sizes and link counts of directories are the file system's.
pub fn describe(attr: &Attr) -> String {
    let kind = kind_of(attr.mode);
    let time = match attr.mtime {
        Stamp::Any => "any".to_owned(),
        Stamp::Now => "now".to_owned(),
        Stamp::At(seconds, nanoseconds) => format!("{seconds}:{nanoseconds}"),
    };
    let mut text = format!("{kind} {:04o} {}:{} mtime={time}", attr.mode & 0o7777, attr.uid, attr.gid);
    if !attr.is_dir() {
        text += &format!(" size={} nlink={}", attr.size, attr.nlink);
    }
    if matches!(kind, "char" | "block") {
        text += &format!(" rdev={}:{}", attr.rdev.0, attr.rdev.1);
    }
    text
}

/// What is seen of a tree.
#[derive(Default)]
pub struct Tree {
    pub lines: BTreeMap<Vec<u8>, String>,
    pub numbers: BTreeMap<Vec<u8>, Node>,
    pub problems: Vec<String>,
}

impl Tree {
    fn problem(&mut self, path: &[u8], what: &str) {
        self.problems.push(format!("{}: {what}", path.escape_ascii()));
    }

    /// Which paths are one object.
    fn link_groups(&mut self) {
        let mut groups: BTreeMap<Node, Vec<Vec<u8>>> = BTreeMap::new();
        for (path, node) in &self.numbers {
            groups.entry(*node).or_default().push(path.clone());
        }
        for paths in groups.values().filter(|paths| paths.len() > 1) {
            for path in paths {
                if let Some(line) = self.lines.get_mut(path) {
                    *line += &format!(" same as {}", paths[0].escape_ascii());
                }
            }
        }
    }
}
