//! The layers and their merged tree together, for those who ask.

use super::counting::Counting;
use super::entry::{Entry, Kind};
use super::index::Index;
use super::layer::{EntryId, Layer};
use super::origin::Root;
use super::total::total;
use super::tree::{NodeId, Number, Occurrence, Tree};
use super::unread::Unread;
use super::{Error, Result};
use crate::image::digest::Digest;

/// A stack of layers, and every path that any of them has.
#[derive(Debug)]
pub struct Merged {
    /// What was asked for, as text for messages.
    pub name: String,
    /// The image, if the layers are those of one: the digest of its configuration.
    pub image: Option<Digest>,
    layers: Vec<Layer>,
    data_only: Vec<Root>,
    tree: Tree,
    has_copies: bool,
    pub(super) unread: Unread,
}

/// Which layers one looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The layers up to this one, merged.
    UpTo(Number),
    /// This layer alone, whiteouts included.
    Alone(Number),
}

impl From<Number> for View {
    fn from(number: Number) -> Self {
        Self::UpTo(number)
    }
}

impl Merged {
    /// Merges layers, the lowest first, of which the topmost may have an index of hard links.
    ///
    /// # Errors
    /// [`Error::TooLarge`].
    pub(super) fn new(name: String, image: Option<Digest>, mut layers: Vec<Layer>, mut index: Index) -> Result<Self> {
        let tree = Tree::new(&layers, &mut index)?;
        let has_copies = !index.is_empty();
        if let Some(top) = layers.last_mut() {
            index.complete(top)?;
        }
        Ok(Self { name, image, layers, data_only: Vec::new(), tree, has_copies, unread: Unread::default() })
    }

    /// The same on layers below that only hold data of metacopy files, topmost first. They are no part of the merged tree.
    pub(super) fn on(self, data_only: Vec<Root>) -> Self {
        Self { data_only, ..self }
    }

    /// The nodes and occurrences alone.
    pub(super) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Layers that only hold data.
    pub(super) fn data_only(&self) -> &[Root] {
        &self.data_only
    }

    /// Whether the topmost layer shows files at paths that it does not have ([`Occurrence::is_by_index`]).
    pub(super) fn has_copies(&self) -> bool {
        self.has_copies
    }

    /// The layers, the lowest first.
    #[must_use]
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// A layer by its number.
    #[must_use]
    pub fn layer(&self, number: Number) -> &Layer {
        &self.layers[number.index()]
    }

    /// The numbers of the layers, the lowest first.
    pub fn numbers(&self) -> impl DoubleEndedIterator<Item = Number> + ExactSizeIterator + use<> {
        (0..u16::try_from(self.layers.len()).unwrap_or(0)).map(Number::at)
    }

    /// The topmost layer: the view up to it is that of all. Where there are no layers it is 1, and the view shows nothing.
    #[must_use]
    pub fn top(&self) -> Number {
        self.numbers().next_back().unwrap_or(Number::at(0))
    }

    /// How many paths there are, the root included: ids are below this.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    /// Whether no layer has anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tree.len() <= 1
    }

    /// All paths; parents come before what is in them.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = NodeId> + use<> {
        (0..u32::try_from(self.tree.len()).unwrap_or(u32::MAX)).map(NodeId)
    }

    /// The directory that a path is in; the root is in itself.
    #[must_use]
    pub fn parent(&self, node: NodeId) -> NodeId {
        self.tree.parent(node)
    }

    /// What any layer has in a directory, in the byte order of the names.
    pub fn children(&self, node: NodeId) -> impl DoubleEndedIterator<Item = NodeId> + ExactSizeIterator + use<> {
        let range = self.tree.children(node);
        range.map(NodeId)
    }

    /// All that layers have at a path, the lowest layer first; never empty if there is a layer.
    #[must_use]
    pub fn occurrences(&self, node: NodeId) -> &[Occurrence] {
        self.tree.occurrences(node)
    }

    /// The entry of an occurrence.
    #[must_use]
    pub fn entry(&self, occurrence: &Occurrence) -> &Entry {
        self.layer(occurrence.layer()).entry(occurrence.entry)
    }

    /// The name of a path in its directory; empty for the root.
    #[must_use]
    pub fn name(&self, node: NodeId) -> &[u8] {
        self.occurrences(node).first().map_or(&[], |first| match node {
            NodeId::ROOT => &[][..],
            _ => self.layer(first.layer()).name(first.entry),
        })
    }

    /// The whole path, without a slash at either end.
    #[must_use]
    pub fn path(&self, node: NodeId) -> Vec<u8> {
        let (mut parts, mut at) = (Vec::new(), node);
        while at != NodeId::ROOT {
            parts.push(self.name(at));
            at = self.parent(at);
        }
        parts.reverse();
        parts.join(&b'/')
    }

    /// The child of that name.
    #[must_use]
    pub fn child(&self, node: NodeId, name: &[u8]) -> Option<NodeId> {
        let mut range = self.tree.children(node);
        while range.start < range.end {
            let middle = range.start + (range.end - range.start) / 2;
            match self.name(NodeId(middle)).cmp(name) {
                std::cmp::Ordering::Equal => return Some(NodeId(middle)),
                std::cmp::Ordering::Less => range.start = middle + 1,
                std::cmp::Ordering::Greater => range.end = middle,
            }
        }
        None
    }

    /// What the view up to a layer shows at a path. For a directory it says the attributes; the contents are merged.
    #[must_use]
    pub fn visible(&self, node: NodeId, at: Number) -> Option<&Occurrence> {
        let holds = self.occurrences(node).iter().rev().find(|occurrence| occurrence.holds_at(at))?;
        (!self.entry(holds).is_whiteout()).then_some(holds)
    }

    /// What a view shows at a path.
    #[must_use]
    pub fn seen(&self, node: NodeId, view: impl Into<View>) -> Option<&Occurrence> {
        match view.into() {
            View::UpTo(number) => self.visible(node, number),
            View::Alone(number) => {
                let own = |found: &&Occurrence| found.layer() == number && found.since() == number;
                self.occurrences(node).iter().find(|found| own(found) && !found.is_by_index())
            }
        }
    }

    /// What a view shows in a directory, in the byte order of the names.
    pub fn seen_children(
        &self,
        node: NodeId,
        view: impl Into<View>,
    ) -> impl DoubleEndedIterator<Item = (NodeId, &Occurrence)> {
        let view = view.into();
        self.children(node).filter_map(move |child| Some((child, self.seen(child, view)?)))
    }

    /// What is to blame for the end of an occurrence: the path itself, or the directory above it that was deleted, replaced
    /// or made opaque, and what the layer that hides it has there. `None` when it never ends.
    #[must_use]
    pub fn culprit(&self, node: NodeId, occurrence: &Occurrence) -> Option<(NodeId, &Occurrence)> {
        let (by, until) = (occurrence.hidden_by()?, occurrence.until()?);
        let itself = !occurrence.end.is_by_parent();
        let mut at = if itself { node } else { self.parent(node) };
        loop {
            let hides = |found: &&Occurrence| {
                let entry = self.entry(found);
                let whole = itself || !entry.is_dir() || entry.opaque || self.source((by, found.entry)).is_some();
                found.layer() == by && found.since() == until && whole
            };
            match self.occurrences(at).iter().find(hides) {
                None if at != NodeId::ROOT => at = self.parent(at),
                found => return Some((at, found?)),
            }
        }
    }

    /// The occurrence that one lies on: what the layers below its own have there. In a directory that was moved those are
    /// what was in it at its old path; else, and where it had nothing, what the view without the layer shows at this path.
    #[must_use]
    pub fn before(&self, node: NodeId, occurrence: &Occurrence) -> Option<&Occurrence> {
        let (layer, since) = (occurrence.layer(), occurrence.since());
        let moved = |found: &&Occurrence| found.since() == since && found.layer() < layer;
        match self.occurrences(node).iter().rev().find(moved) {
            Some(found) => {
                let is_there = found.hidden_by().is_none_or(|by| by >= layer);
                (is_there && !self.entry(found).is_whiteout()).then_some(found)
            }
            None if since == layer => self.visible(node, since.below()?),
            None => None,
        }
    }

    /// For each path the bytes of regular files that a view shows at it and below it. A file with several names counts once:
    /// at the first of them in its layer ([`Merged::hard_link`] gives that for the others), or where the view does not show
    /// that one, at the first that it shows, in the order of a walk.
    #[must_use]
    pub fn sizes(&self, view: impl Into<View>) -> Vec<u64> {
        let view = view.into();
        let mut sizes = vec![0; self.len()];
        let counting = Counting::of(self, view);
        for node in self.nodes() {
            let Some(found) = self.seen(node, view) else { continue };
            let entry = self.entry(found);
            if entry.kind == Kind::File && counting.counts(self, node, found) {
                sizes[node.index()] = entry.size;
            }
        }
        for node in self.nodes().rev().filter(|node| *node != NodeId::ROOT) {
            let parent = self.parent(node).index();
            sizes[parent] = total([sizes[parent], sizes[node.index()]]);
        }
        sizes
    }

    /// Every path that a view shows at and below `top`, depth first, in the byte order of the names, down to `depth`
    /// directories below it (all for `None`). With each path its depth, 0 for `top`.
    pub fn walk(
        &self,
        top: NodeId,
        view: impl Into<View>,
        depth: Option<usize>,
    ) -> impl Iterator<Item = (NodeId, &Occurrence, usize)> {
        let (view, most) = (view.into(), depth.unwrap_or(usize::MAX));
        let mut work = vec![(top, 0)];
        std::iter::from_fn(move || {
            loop {
                let (node, depth) = work.pop()?;
                let Some(found) = self.seen(node, view) else { continue };
                if depth < most && self.entry(found).is_dir() {
                    work.extend(self.children(node).rev().map(|child| (child, depth + 1)));
                }
                return Some((node, found, depth));
            }
        })
    }

    /// A number that a user gave.
    ///
    /// # Errors
    /// [`Error::NoSuchLayer`].
    pub fn number(&self, number: usize) -> Result<Number> {
        let found = Number::new(number).filter(|n| n.index() < self.layers.len());
        found.ok_or_else(|| Error::NoSuchLayer { name: self.name.clone(), has: self.layers.len(), wanted: number })
    }

    /// The first path of the same file in its layer, where that is another one than this.
    #[must_use]
    pub fn hard_link(&self, found: &Occurrence) -> Option<Vec<u8>> {
        let layer = self.layer(found.layer());
        let first = layer.first_name(found.entry);
        let other = first != found.entry || found.is_by_index() && layer.is_named(first);
        other.then(|| layer.path(first))
    }

    /// How many names the same file has in its layer, and by the index of hard links. All names are looked at if it has
    /// several.
    #[must_use]
    pub fn links(&self, found: &Occurrence) -> usize {
        let (number, first) = self.first_name(found);
        let layer = self.layer(number);
        if !layer.has_names(first) {
            return 1;
        }
        let by_index = self.nodes().flat_map(|node| self.occurrences(node)).filter(|other| other.is_by_index());
        layer.ids().filter(|id| layer.first_name(*id) == first).count()
            + by_index.filter(|other| self.first_name(other) == (number, first)).count()
    }

    /// The first name of the same file in its layer: the entry itself unless it is a hard link.
    #[must_use]
    pub fn first_name(&self, occurrence: &Occurrence) -> (Number, EntryId) {
        (occurrence.layer(), self.layer(occurrence.layer()).first_name(occurrence.entry))
    }
}
