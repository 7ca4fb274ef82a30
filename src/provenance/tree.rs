//! The merged tree: every path that any layer has, with all that any layer says about it.
//!
//! Built once from the root down. A directory of the merged tree is a list of directories of layers; their children,
//! sorted by name and layer, are its nodes, and each child of a layer is an [`Occurrence`] of the node. An occurrence is
//! what one sees in the views up to layer N for all N of an interval: from the layer that has it, until the layer that
//! hides it. So the tree holds the merged views of all prefixes of the stack at once.

use super::follow;
use super::index::Index;
use super::layer::{EntryId, Layer};
use super::{Error, Result};
use rustc_hash::FxHashMap;
use std::fmt;
use std::num::NonZeroU16;

/// The number of a layer: 1 is the lowest, as in `IMAGE@N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Number(NonZeroU16);

impl Number {
    /// Behind all layers: until when what is never hidden is seen.
    const NEVER: u16 = u16::MAX;

    /// The layer at `index` of [`super::Merged::layers`].
    pub(super) fn at(index: u16) -> Self {
        Self(NonZeroU16::MIN.saturating_add(index))
    }

    /// From what a user says; `None` for 0 and what is larger than any stack.
    #[must_use]
    pub fn new(number: usize) -> Option<Self> {
        u16::try_from(number).ok().filter(|n| *n < Self::NEVER).and_then(NonZeroU16::new).map(Self)
    }

    /// As a number.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0.get()
    }

    /// The layer below; `None` for the lowest.
    #[must_use]
    pub fn below(self) -> Option<Self> {
        NonZeroU16::new(self.get() - 1).map(Self)
    }

    /// The place in [`super::Merged::layers`].
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.get() - 1)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A path of the merged tree. Parents have smaller ids than what is in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(super) u32);

impl NodeId {
    /// The root.
    pub const ROOT: Self = Self(0);

    /// The place in an array that has something for each node.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Why an occurrence is not seen any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// It is seen in the view of all layers.
    Never,
    /// A layer above has the same name: another object, or an opaque directory.
    Superseded,
    /// A layer above has a directory of the same name: its attributes are shown, the contents merge.
    Merged,
    /// A layer above has a whiteout of the name.
    Deleted,
    /// A directory it is in is opaque in a layer above.
    ParentOpaque,
    /// A directory it is in is deleted by a layer above.
    ParentDeleted,
    /// A directory it is in is something else in a layer above, or one that was moved there.
    ParentReplaced,
}

impl End {
    /// Whether a directory above is to blame, not the path itself.
    #[must_use]
    pub fn is_by_parent(self) -> bool {
        matches!(self, Self::ParentOpaque | Self::ParentDeleted | Self::ParentReplaced)
    }
}

/// What one layer has at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occurrence {
    /// The entry in its layer.
    pub entry: EntryId,
    layer: u16,
    from: u16,
    until: u16,
    by: u16,
    /// Why it ends to be seen.
    pub end: End,
    copy: bool,
}

impl Occurrence {
    /// Which layer has it.
    #[must_use]
    pub fn layer(&self) -> Number {
        Number::at(self.layer)
    }

    /// The layer that hides it; `None` when none does.
    #[must_use]
    pub fn hidden_by(&self) -> Option<Number> {
        (self.until != Number::NEVER).then(|| Number::at(self.by))
    }

    /// The lowest layer with which it is not seen here any more. That is the one that hides it; but what was hidden in a
    /// directory already when that was moved here is never seen here, so it ends with the layer that moved the directory.
    #[must_use]
    pub fn until(&self) -> Option<Number> {
        (self.until != Number::NEVER).then(|| Number::at(self.until))
    }

    /// The lowest layer with which it is seen here: its own, or the one that moved its directory here.
    #[must_use]
    pub fn since(&self) -> Number {
        Number::at(self.from)
    }

    /// Whether the layer has nothing of this name: a file of a layer below was copied up under another of its names, so that
    /// this one shows the copy too. `entry` is that of the copy's first name.
    #[must_use]
    pub fn is_by_index(&self) -> bool {
        self.copy
    }

    /// Whether it is what the view up to a layer consults for this path. A whiteout is never *shown*, but is said to be in
    /// force by this.
    #[must_use]
    pub fn holds_at(&self, number: Number) -> bool {
        let at = number.get() - 1;
        self.from <= at && at < self.until
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    parent: u32,
    children: (u32, u32),
    occurrences: (u32, u32),
}

/// What an entry of a layer takes in the tree at most: a path of its own.
pub(super) const BYTES_PER_ENTRY: usize = size_of::<Node>() + size_of::<Occurrence>();

/// The nodes and occurrences; the layers are needed to read it.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    occurrences: Vec<Occurrence>,
    moves: FxHashMap<(u16, EntryId), (u16, EntryId)>,
}

/// A directory of a layer that is part of a merged directory, while it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub layer: u16,
    pub entry: EntryId,
    pub from: u16,
    pub until: u16,
    pub by: u16,
    pub end: End,
}

/// A child of a part.
struct Item<'a> {
    name: &'a [u8],
    part: Part,
}

impl Tree {
    /// Merges layers, the lowest first, of which the topmost may have an index of hard links.
    pub fn new(layers: &[Layer], hard_links: &mut Index) -> Result<Self> {
        if layers.len() >= usize::from(Number::NEVER) {
            return Err(Error::TooLarge("there are more than 65,534 layers"));
        }
        let mut tree = Self { nodes: Vec::new(), occurrences: Vec::new(), moves: FxHashMap::default() };
        let numbers = 0..u16::try_from(layers.len()).unwrap_or(Number::NEVER);
        let roots = numbers.map(|layer| Part {
            layer,
            entry: EntryId::ROOT,
            from: layer,
            until: Number::NEVER,
            by: Number::NEVER,
            end: End::Never,
        });
        let roots: Vec<Item<'_>> = roots.map(|part| Item { name: b"", part }).collect();
        let mut work = vec![tree.add(layers, 0, &roots, &[])?];
        while let Some((node, parts)) = work.pop() {
            let items = items(layers, &parts);
            let start = tree.nodes.len();
            let mut directories = Vec::new();
            for group in items.chunk_by(|a, b| a.name == b.name) {
                let (node, inner) = tree.add(layers, node, group, &parts)?;
                tree.show_copy(layers, hard_links)?;
                if !inner.is_empty() {
                    directories.push((node, inner));
                }
            }
            let len = tree.nodes.len() - start;
            let (start, len) = (index(start)?, index(len)?);
            tree.nodes[node as usize].children = (start, len);
            work.extend(directories.into_iter().rev());
        }
        Ok(tree)
    }

    /// Adds a node, and returns it with the directories that its children come from. `parts` are those of its parent.
    fn add(&mut self, layers: &[Layer], parent: u32, group: &[Item<'_>], parts: &[Part]) -> Result<(u32, Vec<Part>)> {
        let node = index(self.nodes.len())?;
        let start = index(self.occurrences.len())?;
        let mut inner = Vec::new();
        for (at, item) in group.iter().enumerate() {
            let (own, contents) = fates(layers, &group[at..]);
            self.occurrences.push(own);
            if layers[usize::from(item.part.layer)].entry(item.part.entry).is_dir() {
                inner.push(contents);
                let found = redirected(layers, &contents, parts);
                self.moves.extend(found.first().map(|first| ((contents.layer, contents.entry), *first)));
                inner.extend(found.into_iter().map(|(layer, entry)| Part { layer, entry, ..contents }));
            }
        }
        inner.sort_by_key(|part| (part.layer, part.from));
        let occurrences = (start, index(group.len())?);
        self.nodes.push(Node { parent, children: (0, 0), occurrences });
        Ok((node, inner))
    }

    /// Has the last node show the copy of a lower file that was copied up under another name.
    fn show_copy(&mut self, layers: &[Layer], index: &mut Index) -> Result<()> {
        let Some(node) = self.nodes.last_mut().filter(|_| !index.is_empty()) else { return Ok(()) };
        let all = &mut self.occurrences[node.occurrences.0 as usize..];
        let Some(seen) = all.iter_mut().find(|found| found.until == Number::NEVER) else { return Ok(()) };
        let Some(entry) = index.copy_of(seen.layer, seen.entry)? else { return Ok(()) };
        let top = u16::try_from(layers.len() - 1).unwrap_or(Number::NEVER);
        (seen.until, seen.by, seen.end) = (top, top, End::Superseded);
        self.occurrences.push(Occurrence {
            entry,
            layer: top,
            from: top,
            until: Number::NEVER,
            by: Number::NEVER,
            end: End::Never,
            copy: true,
        });
        node.occurrences.1 += 1;
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn parent(&self, node: NodeId) -> NodeId {
        NodeId(self.nodes[node.index()].parent)
    }

    pub fn children(&self, node: NodeId) -> std::ops::Range<u32> {
        let (start, len) = self.nodes[node.index()].children;
        start..start + len
    }

    /// Whether any directory was moved.
    pub fn has_moves(&self) -> bool {
        !self.moves.is_empty()
    }

    /// The directory that the redirect of a directory leads to, the topmost one if it is in several layers.
    pub fn moved_from(&self, directory: (Number, EntryId)) -> Option<(Number, EntryId)> {
        let (number, entry) = directory;
        self.moves.get(&(number.get() - 1, entry)).map(|(layer, entry)| (Number::at(*layer), *entry))
    }

    /// The directory of a layer whose redirect leads to one of these.
    pub fn moved_to(&self, number: Number, from: &[Occurrence]) -> Option<EntryId> {
        let is_from = |place: &(u16, EntryId)| from.iter().any(|found| (found.layer, found.entry) == *place);
        let mut moves = self.moves.iter().filter(|((layer, _), _)| Number::at(*layer) == number);
        moves.find_map(|((_, entry), place)| is_from(place).then_some(*entry))
    }

    pub fn occurrences(&self, node: NodeId) -> &[Occurrence] {
        let (start, len) = self.nodes[node.index()].occurrences;
        &self.occurrences[start as usize..(start + len) as usize]
    }
}

fn index(n: usize) -> Result<u32> {
    u32::try_from(n).map_err(|_| Error::TooLarge("the layers have more than 4 billion entries"))
}

/// The children of directories, sorted by name, then from the lowest layer up.
fn items<'a>(layers: &'a [Layer], parts: &[Part]) -> Vec<Item<'a>> {
    let mut items = Vec::new();
    for part in parts {
        let layer = &layers[usize::from(part.layer)];
        let children = layer.children(part.entry);
        items.extend(children.map(|entry| Item { name: layer.name(entry), part: Part { entry, ..*part } }));
    }
    if parts.len() > 1 {
        items.sort_unstable_by_key(|item| (item.name, item.part.layer, item.part.from));
    }
    items
}

/// What becomes of the first of a group that begins with it, and of what is in it if it is a directory.
fn fates(layers: &[Layer], group: &[Item<'_>]) -> (Occurrence, Part) {
    let part = group[0].part;
    let entry = |part: &Part| layers[usize::from(part.layer)].entry(part.entry);
    let is_dir = entry(&part).is_dir();
    let (mut own, mut contents) = (part, part);
    let acts = |above: &&Part| above.layer > part.layer && above.until > part.from;
    for above in group[1..].iter().map(|item| &item.part).filter(acts) {
        let begin = above.from.max(part.from);
        // Two that were moved here at once had their fates before that.
        let by = if above.from == part.from { above.layer } else { begin };
        let other = entry(above);
        let merges = is_dir && other.is_dir() && !other.opaque && !is_moved(layers, above);
        let end = match () {
            () if other.is_whiteout() => End::Deleted,
            () if merges => End::Merged,
            () => End::Superseded,
        };
        // A layer that has the name itself says more with it than with the directory above.
        let says_more = begin == own.until && above.layer == own.by && end == End::Superseded;
        if begin < own.until || says_more {
            (own.until, own.by, own.end) = (begin, by, end);
        }
        if is_dir && !merges && begin < contents.until {
            (contents.until, contents.by) = (begin, by);
            contents.end = match () {
                () if other.is_whiteout() => End::ParentDeleted,
                () if other.is_dir() && other.opaque => End::ParentOpaque,
                () => End::ParentReplaced,
            };
        }
    }
    let Part { layer, entry, from, until, by, end } = own;
    (Occurrence { entry, layer, from, until, by, end, copy: false }, contents)
}

/// The directories of layers below that one continues in by its redirect; `parts` are those that its parent consists of.
fn redirected(layers: &[Layer], part: &Part, parts: &[Part]) -> Vec<(u16, EntryId)> {
    let Some(first) = layers[usize::from(part.layer)].redirect(part.entry) else { return Vec::new() };
    let in_parent = |number: usize| {
        let is_there =
            |other: &&Part| usize::from(other.layer) == number && other.from <= part.from && part.from < other.until;
        parts.iter().find(is_there).map(|other| other.entry)
    };
    let found = follow::redirect(layers, usize::from(part.layer), &first, &in_parent);
    found.into_iter().map(|(layer, entry)| (u16::try_from(layer).unwrap_or(Number::NEVER), entry)).collect()
}

/// Whether a directory continues below under another name, so that what has its own name there does not merge.
fn is_moved(layers: &[Layer], part: &Part) -> bool {
    layers[usize::from(part.layer)].redirect(part.entry).is_some()
}
