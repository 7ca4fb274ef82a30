//! A tree in a bounded number of bytes: the paths that matter most by name, and sums of all others where they are.

use super::counting::Counting;
use super::entry::Kind;
use super::layer::EntryId;
use super::merged::Merged;
use super::total::total;
use super::tree::{End, NodeId, Number, Occurrence};
use super::waste::{Hidden, Reason};
use rustc_hash::{FxHashMap, FxHashSet};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What became of what a layer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// The view of all layers shows it; of a directory, what is in it merges with what is shown.
    Visible,
    /// Something in a layer above took its place.
    Hidden,
    /// A layer above deletes it, or a directory that it is in.
    Deleted,
}

impl Occurrence {
    /// What became of it.
    #[must_use]
    pub fn fate(&self) -> Fate {
        match self.end {
            End::Never | End::Merged => Fate::Visible,
            End::Superseded | End::ParentOpaque | End::ParentReplaced => Fate::Hidden,
            End::Deleted | End::ParentDeleted => Fate::Deleted,
        }
    }
}

/// Entries of one layer with one fate, added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// Which layer has them.
    pub layer: Number,
    /// What became of them.
    pub fate: Fate,
    /// How many there are.
    pub entries: u64,
    /// The bytes in them.
    pub bytes: u64,
}

/// Bytes of one layer that nobody sees, for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The path that is to blame: what was replaced or deleted.
    pub path: NodeId,
    /// The layer that did it.
    pub by: Number,
    /// The layer that has them.
    pub layer: Number,
    /// Why.
    pub reason: Reason,
    /// How many files there are.
    pub files: u64,
    /// The bytes in them.
    pub bytes: u64,
}

/// What is listed of a tree by name, and what is summed.
#[derive(Debug)]
pub struct Outline {
    /// The paths, parents before what is in them, the root first.
    pub listed: Vec<NodeId>,
    /// What is not listed: the listed directory that it is in, as an index of `listed`, and a sum. In the order of the two.
    pub rest: Vec<(usize, Sum)>,
    /// How many paths are not listed.
    pub unlisted: u64,
    /// The largest losses, largest first; their paths are listed.
    pub losses: Vec<Loss>,
}

/// How much may be in an [`Outline`].
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes that the listed paths may take, as JSON.
    pub cost: u64,
    /// How many sums there may be; unless one path needs more: three a layer.
    pub sums: usize,
    /// How many losses.
    pub losses: usize,
}

/// What an entry counts when paths are weighed, beside its bytes: a block.
const ENTRY: u64 = 4096;
/// What a path counts that layers do not agree on: those are asked about.
const CONTESTED: u64 = 64 << 10;

/// Which bytes count where: those of every file once in its layer, of what is seen as [`Merged::sizes`] counts it; a file
/// that is not seen at the name that was seen longest ([`Hidden::node`]).
#[derive(Debug)]
pub struct Bytes<'a> {
    merged: &'a Merged,
    hidden: FxHashMap<(NodeId, Number), Hidden>,
    /// The first names of those that have several.
    names: FxHashSet<(Number, EntryId)>,
    counting: Counting,
}

impl<'a> Bytes<'a> {
    /// Looks at all files. `hidden` are those that nobody sees ([`Merged::waste`]).
    #[must_use]
    pub fn new(merged: &'a Merged, hidden: &[Hidden]) -> Self {
        let hidden: FxHashMap<_, _> = hidden.iter().map(|file| ((file.node, file.layer), *file)).collect();
        let counting = Counting::of(merged, merged.top());
        let own = |(node, layer): &(NodeId, Number)| {
            merged.occurrences(*node).iter().find(|found| found.layer() == *layer && found.since() == *layer)
        };
        let several = |found: &&Occurrence| merged.layer(found.layer()).has_names(found.entry);
        let names = hidden.keys().filter_map(own).filter(several).map(|found| merged.first_name(found)).collect();
        Self { merged, hidden, names, counting }
    }

    /// The file at a path that nobody sees.
    #[must_use]
    pub fn hidden(&self, node: NodeId, found: &Occurrence) -> Option<&Hidden> {
        let own = found.since() == found.layer();
        self.hidden.get(&(node, found.layer())).filter(|_| own && found.end != End::Never)
    }

    /// The bytes that count at an occurrence, and what became of them. The data of a file can be seen where a layer above
    /// has other attributes for it (kernel overlayfs: metacopy).
    #[must_use]
    pub fn of(&self, node: NodeId, found: &Occurrence) -> (Fate, u64) {
        let bytes = self.merged.entry(found).bytes();
        if bytes == 0 || self.hidden(node, found).is_some() {
            return (found.fate(), bytes);
        }
        let first = self.merged.first_name(found);
        let counts = match found.end {
            End::Never => self.counting.counts(self.merged, node, found),
            _ if self.names.contains(&first) => false,
            _ => !self.counting.has(first) && first == (found.since(), found.entry),
        };
        (Fate::Visible, if counts { bytes } else { 0 })
    }
}

impl Merged {
    /// Chooses what is listed: by the bytes at and below a path, visible or not, and by how much layers have to say
    /// about it. The same tree gives the same outline.
    #[must_use]
    pub fn outline(&self, bytes: &Bytes<'_>, bounds: Bounds) -> Outline {
        let losses = self.losses(bytes, bounds.losses);
        let weights = self.weights(bytes);
        let mut budget = bounds.cost;
        loop {
            let listed = self.choose(&weights, &losses, budget);
            let (rest, unlisted) = self.rest(bytes, &listed);
            if rest.len() <= bounds.sums || budget == 0 {
                return Outline { listed, rest, unlisted, losses };
            }
            budget /= 2;
        }
    }

    fn losses(&self, bytes: &Bytes<'_>, most: usize) -> Vec<Loss> {
        let mut sums: FxHashMap<(NodeId, Number, Number, Reason), (u64, u64)> = FxHashMap::default();
        let mut above: FxHashMap<(NodeId, Number, Option<Number>), Option<NodeId>> = FxHashMap::default();
        for Hidden { node, layer, by, reason, bytes } in bytes.hidden.values() {
            let found = self.occurrences(*node).iter().find(|found| found.layer() == *layer && found.since() == *layer);
            let Some(found) = found else { continue };
            // What is hidden with its directory is looked for once a directory: trees can be deep.
            let culprit = || self.culprit(*node, found).map(|(path, _)| path);
            let path = match found.end.is_by_parent() {
                true => *above.entry((self.parent(*node), *by, found.until())).or_insert_with(culprit),
                false => culprit(),
            };
            let Some(path) = path else { continue };
            let sum = sums.entry((path, *by, *layer, *reason)).or_default();
            *sum = (sum.0 + 1, total([sum.1, *bytes]));
        }
        let sums = sums.into_iter();
        let loss = |((path, by, layer, reason), (files, bytes))| Loss { path, by, layer, reason, files, bytes };
        let mut losses: Vec<Loss> = sums.map(loss).collect();
        losses.sort_by_key(|loss| (Reverse(loss.bytes), loss.path, loss.by, loss.layer, loss.reason));
        losses.truncate(most);
        losses
    }

    /// For each path what it and all below it count.
    fn weights(&self, bytes: &Bytes<'_>) -> Vec<u64> {
        let mut weights = vec![0u64; self.len()];
        for node in self.nodes().rev() {
            let found = self.occurrences(node);
            let plain = found.iter().filter(|one| !self.entry(one).is_dir()).count();
            let contested = plain > 1 || (plain == 1 && (found.len() > 1 || self.entry(&found[0]).is_whiteout()));
            let own = found.iter().flat_map(|one| [bytes.of(node, one).1, ENTRY]);
            let all = total(own.chain([weights[node.index()], if contested { CONTESTED } else { 0 }]));
            weights[node.index()] = all;
            if node != NodeId::ROOT {
                let parent = self.parent(node).index();
                weights[parent] = total([weights[parent], all]);
            }
        }
        weights
    }

    /// The heaviest paths that fit, and those of the losses whatever they cost; in order.
    fn choose(&self, weights: &[u64], losses: &[Loss], budget: u64) -> Vec<NodeId> {
        let mut listed = vec![false; self.len()];
        listed[NodeId::ROOT.index()] = true;
        for loss in losses {
            let mut at = loss.path;
            while !std::mem::replace(&mut listed[at.index()], true) {
                at = self.parent(at);
            }
        }
        let mut left = budget;
        let mut heap = BinaryHeap::from([(weights[0], Reverse(NodeId::ROOT))]);
        while let Some((_, Reverse(node))) = heap.pop() {
            let Some(now) = left.checked_sub(self.cost(node)) else { break };
            left = now;
            listed[node.index()] = true;
            heap.extend(self.children(node).map(|child| (weights[child.index()], Reverse(child))));
        }
        self.nodes().filter(|node| listed[node.index()]).collect()
    }

    /// About how many bytes a path takes as JSON.
    fn cost(&self, node: NodeId) -> u64 {
        let entry = |one: &Occurrence| 48 + self.layer(one.layer()).target(one.entry).len();
        let entries: usize = self.occurrences(node).iter().map(entry).sum();
        (16 + self.name(node).len() + entries) as u64
    }

    /// What is not listed, by the listed directory that it is in; and how many paths that are.
    fn rest(&self, bytes: &Bytes<'_>, listed: &[NodeId]) -> (Vec<(usize, Sum)>, u64) {
        let mut owners = vec![usize::MAX; self.len()];
        for (at, node) in listed.iter().enumerate() {
            owners[node.index()] = at;
        }
        let mut sums: FxHashMap<(usize, Number, Fate), (u64, u64)> = FxHashMap::default();
        let mut unlisted = 0;
        for node in self.nodes() {
            if owners[node.index()] != usize::MAX {
                continue;
            }
            let owner = owners[self.parent(node).index()];
            owners[node.index()] = owner;
            unlisted += 1;
            let counts = |one: &&Occurrence| one.end != End::Merged && self.entry(one).kind != Kind::Whiteout;
            for one in self.occurrences(node).iter().filter(counts) {
                let (fate, size) = bytes.of(node, one);
                let sum = sums.entry((owner, one.layer(), fate)).or_default();
                *sum = (sum.0 + 1, total([sum.1, size]));
            }
        }
        let sum = |((owner, layer, fate), (entries, bytes))| (owner, Sum { layer, fate, entries, bytes });
        let mut rest: Vec<(usize, Sum)> = sums.into_iter().map(sum).collect();
        rest.sort_unstable_by_key(|(owner, sum)| (*owner, sum.layer, sum.fate));
        (rest, unlisted)
    }
}
