//! The score that the program dive computes for an image (wagoodman/dive at 07ce9a28, `dive/filetree`): over all paths, the smallest
//! length that a layer has there, divided by the sum of all lengths.
//!
//! dive makes a tree of each tar and looks at its leaves: files, whiteouts, directories in which the layer has nothing. Only
//! the entry with the data of a file has a length; its further names have none. The whiteout of a directory counts as long as
//! all that is in it then, where dive stacks trees in its own way: markers of opaque directories are not known, what was in
//! a directory stays there when a file takes its place, and what no entry describes is no directory. A whiteout of
//! nothing ends the visit of its layer, and its path counts -1 as the smallest length unless it has another. None of this depends
//! on the order of Go's maps: siblings are visited by name, where a whiteout goes by the name of its marker, and sums are of whole numbers.

use super::entry::Kind;
use super::layer::{EntryId, Layer};
use super::merged::Merged;
use super::origin::Origin;
use super::tree::NodeId;
use crate::layer::whiteout::AUFS_PREFIX;

/// The lengths found at a path.
#[derive(Clone, Copy)]
struct Lengths {
    /// `None` where no leaf was; -1 where no length was found.
    least: Option<i64>,
    all: u64,
}

/// What dive's stacked tree has at a path.
#[derive(Clone, Copy)]
struct Stacked {
    is_dir: bool,
    length: u64,
}

struct Dive<'a> {
    merged: &'a Merged,
    /// For each layer the path of each entry.
    paths: Vec<Vec<NodeId>>,
    lengths: Vec<Lengths>,
    stacked: Vec<Option<Stacked>>,
}

/// The score.
pub(super) fn efficiency(merged: &Merged) -> f64 {
    let mut paths: Vec<Vec<NodeId>> = merged.layers().iter().map(|layer| vec![NodeId::ROOT; layer.len()]).collect();
    for node in merged.nodes() {
        // What a redirect moved is not there for dive, which reads archives only.
        for found in merged.occurrences(node).iter().filter(|found| found.since() == found.layer()) {
            paths[found.layer().index()][found.entry.index()] = node;
        }
    }
    let lengths = vec![Lengths { least: None, all: 0 }; merged.len()];
    let mut dive = Dive { merged, paths, lengths, stacked: vec![None; merged.len()] };
    for (at, layer) in merged.layers().iter().enumerate() {
        let order = order(layer);
        if at == 0 {
            // What the lowest layer deletes is looked for in itself.
            order.iter().filter(|id| !layer.entry(**id).is_whiteout()).for_each(|id| dive.stack(at, layer, *id));
        }
        dive.visit(at, layer, &order);
        order.iter().for_each(|id| dive.stack(at, layer, *id));
    }
    dive.score()
}

/// The entries of a layer as dive visits them: what is in a directory before it, siblings by the names of the tar.
fn order(layer: &Layer) -> Vec<EntryId> {
    let key = |id: &EntryId| {
        let name = layer.name(*id);
        if layer.entry(*id).is_whiteout() { [AUFS_PREFIX.as_bytes(), name].concat() } else { name.to_vec() }
    };
    // Directories before what is in them, siblings from the last on; then all of it backwards.
    let (mut order, mut work) = (Vec::new(), vec![EntryId::ROOT]);
    while let Some(id) = work.pop() {
        order.push(id);
        let mut children: Vec<EntryId> = layer.children(id).collect();
        if children.iter().any(|child| layer.entry(*child).is_whiteout()) {
            children.sort_by_cached_key(key);
        }
        work.extend(children);
    }
    order.reverse();
    order.pop();
    order
}

impl Dive<'_> {
    /// Counts the leaves of a layer.
    fn visit(&mut self, at: usize, layer: &Layer, order: &[EntryId]) {
        for id in order {
            let (entry, path) = (layer.entry(*id), self.paths[at][id.index()]);
            if entry.is_dir() && layer.children(*id).len() > 0 {
                continue;
            }
            let least = self.lengths[path.index()].least;
            self.lengths[path.index()].least = Some(least.unwrap_or(-1));
            let length = match (entry.is_whiteout(), self.stacked[path.index()]) {
                (false, _) => length(layer, *id),
                (true, Some(Stacked { is_dir: true, .. })) => self.below(path),
                (true, Some(_)) => 0,
                (true, None) => return,
            };
            let lengths = &mut self.lengths[path.index()];
            let short = i64::try_from(length).unwrap_or(i64::MAX);
            lengths.least = least.filter(|least| (0..=short).contains(least)).or(Some(short));
            lengths.all = lengths.all.saturating_add(length);
        }
    }

    /// The sum of all lengths at and below a path of the stacked tree.
    fn below(&self, top: NodeId) -> u64 {
        let (mut sum, mut work) = (0_u64, vec![top]);
        while let Some(node) = work.pop() {
            let Some(stacked) = self.stacked[node.index()] else { continue };
            sum = sum.saturating_add(stacked.length);
            work.extend(self.merged.children(node));
        }
        sum
    }

    /// Puts an entry onto the stacked tree.
    fn stack(&mut self, at: usize, layer: &Layer, id: EntryId) {
        let (entry, path) = (layer.entry(id), self.paths[at][id.index()]);
        if !entry.is_whiteout() {
            let is_dir = entry.is_dir() && !entry.implied;
            self.stacked[path.index()] = Some(Stacked { is_dir, length: length(layer, id) });
            return;
        }
        let mut work = vec![path];
        while let Some(node) = work.pop() {
            if self.stacked[node.index()].take().is_some() {
                work.extend(self.merged.children(node));
            }
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "a score")]
    fn score(&self) -> f64 {
        let least: i128 = self.lengths.iter().filter_map(|lengths| lengths.least).map(i128::from).sum();
        let all: u128 = self.lengths.iter().map(|lengths| u128::from(lengths.all)).sum();
        if all == 0 { 1.0 } else { least as f64 / all as f64 }
    }
}

/// The length of an entry in its tar. Of a layer directory the first name of a file, in the order of paths, is taken for
/// the one with the data, which is how Docker writes them.
fn length(layer: &Layer, id: EntryId) -> u64 {
    let entry = layer.entry(id);
    let has_data = match &layer.origin {
        _ if entry.kind != Kind::File || entry.copied => false,
        Origin::Blob(_) => !entry.further,
        Origin::Directory(_) => layer.first_name(id) == id,
    };
    if has_data { entry.size } else { 0 }
}
