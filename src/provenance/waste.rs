//! Bytes that a stack holds and nobody can see.
//!
//! Counted are the data of regular files as layers hold them when they are unpacked: each file once for each layer,
//! however many names it has there. A file is seen if any of its names is, or if a file of metadata above shows its data.

use super::compare::{Place, compare_attributes, content_differs};
use super::dive;
use super::entry::Kind;
use super::error::{Error, Result};
use super::layer::EntryId;
use super::merged::Merged;
use super::open;
use super::read::Data;
use super::total::total;
use super::tree::{End, NodeId, Number, Occurrence};
use rustc_hash::FxHashMap;

/// Why bytes are not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// A layer above has something else of the same name.
    Superseded,
    /// A layer above has the same content under the same name, and other attributes: chmod, chown or touch.
    MetadataOnly,
    /// A layer above has just the same.
    Identical,
    /// A layer above deletes the name.
    Deleted,
    /// A directory above it is opaque in a layer above.
    ParentOpaque,
    /// A directory above it is deleted in a layer above.
    ParentDeleted,
    /// A directory above it is something else in a layer above.
    ParentReplaced,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Superseded,
        Self::MetadataOnly,
        Self::Identical,
        Self::Deleted,
        Self::ParentOpaque,
        Self::ParentDeleted,
        Self::ParentReplaced,
    ];

    /// The word for it in JSON documents.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Superseded => "superseded",
            Self::MetadataOnly => "metadata_only",
            Self::Identical => "identical",
            Self::Deleted => "deleted",
            Self::ParentOpaque => "parent_opaque",
            Self::ParentDeleted => "parent_deleted",
            Self::ParentReplaced => "parent_replaced",
        }
    }
}

/// A file that nobody can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hidden {
    /// Its path; with several names the one that was seen longest, of those the first.
    pub node: NodeId,
    /// The layer that has it.
    pub layer: Number,
    /// The layer that hides it.
    pub by: Number,
    /// Why.
    pub reason: Reason,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Of files with several names, by layer and first name: the name that was seen longest, the layer that hides it, and how.
type Names = FxHashMap<(Number, EntryId), (NodeId, Number, End)>;

/// A stack's waste.
#[derive(Clone, Debug, PartialEq)]
pub struct Waste {
    /// Every file that nobody can see, in the order of the paths and layers.
    pub hidden: Vec<Hidden>,
    /// Bytes that all layers take.
    pub total: u64,
    /// The part of them in `hidden`.
    pub wasted: u64,
    /// The score that the program dive computes; `dive` says how.
    pub efficiency_dive: f64,
}

impl Waste {
    /// The part of all bytes that can be seen; 1 when there are none.
    #[must_use]
    pub fn efficiency(&self) -> f64 {
        ratio(self.total - self.wasted, self.total)
    }

    /// Wasted bytes for a reason.
    #[must_use]
    pub fn bytes(&self, reason: Reason) -> u64 {
        total(self.hidden.iter().filter(|hidden| hidden.reason == reason).map(|hidden| hidden.bytes))
    }
}

/// Sizes are far below where this loses anything that shows.
#[allow(clippy::cast_precision_loss, reason = "a score")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

impl Merged {
    /// Files that nobody can see in the view of all layers, without telling apart why a file was superseded: no content is
    /// read.
    #[must_use]
    pub fn hidden(&self) -> Vec<Hidden> {
        let mut counted: Vec<Vec<bool>> = self.layers().iter().map(|layer| vec![false; layer.len()]).collect();
        let mut names = Names::default();
        for node in self.nodes() {
            for found in self.occurrences(node) {
                match found.hidden_by() {
                    None => self.see(node, found, &mut counted),
                    Some(by) => self.note_name((node, by), found, &mut names),
                }
            }
        }
        let mut hidden = Vec::new();
        for node in self.nodes() {
            for found in self.occurrences(node) {
                let (bytes, (layer, first)) = (self.entry(found).bytes(), self.first_name(found));
                let (Some(by), true) = (found.hidden_by(), bytes > 0) else { continue };
                let is_first = first == found.entry && found.since() == layer;
                if is_first && !counted[layer.index()][first.index()] {
                    let (node, by, end) = names.get(&(layer, first)).copied().unwrap_or((node, by, found.end));
                    hidden.push(Hidden { node, layer, by, reason: reason(end), bytes });
                }
            }
        }
        hidden.sort_by_key(|file| file.node);
        hidden
    }

    /// Notes a name that is hidden, of a file with several, if it was seen longer than the others that are known. Until
    /// then the file was no waste.
    fn note_name(&self, (node, by): (NodeId, Number), found: &Occurrence, names: &mut Names) {
        let (layer, first) = self.first_name(found);
        if !self.layer(layer).has_names(found.entry) || found.since() != layer {
            return;
        }
        let name = names.entry((layer, first)).or_insert((node, by, found.end));
        if by > name.1 || by == name.1 && found.entry == first {
            *name = (node, by, found.end);
        }
    }

    /// Notes what is seen with an occurrence that is.
    fn see(&self, node: NodeId, found: &Occurrence, counted: &mut [Vec<bool>]) {
        let entry = self.entry(found);
        if entry.kind != Kind::File {
            return;
        }
        let (layer, first) = self.first_name(found);
        counted[layer.index()][first.index()] = true;
        // Data that are not there are missed by whoever reads the file.
        if let (true, Ok(Data::Layer(layer, id))) = (entry.metacopy, self.data(node, found)) {
            let first: EntryId = self.layer(layer).first_name(id);
            counted[layer.index()][first.index()] = true;
        }
    }

    /// All waste, with reasons.
    ///
    /// # Errors
    /// Those of reading: of layer directories, the contents of files that were replaced by others of the same length are
    /// read.
    pub fn waste(&self) -> Result<Waste> {
        let mut hidden = self.hidden();
        self.tell_apart(&mut hidden)?;
        let all = total(self.layers().iter().map(|layer| layer.counts().bytes));
        let wasted = total(hidden.iter().map(|file| file.bytes));
        Ok(Waste { hidden, total: all, wasted, efficiency_dive: dive::efficiency(self) })
    }

    /// Finds out which of the superseded files came again, with all processors: it is opening files that takes time.
    fn tell_apart(&self, hidden: &mut [Hidden]) -> Result<()> {
        let len = hidden.len().div_ceil(open::threads()).max(1);
        std::thread::scope(|scope| {
            let work = |part: &mut [Hidden]| {
                for file in part.iter_mut().filter(|file| file.reason == Reason::Superseded) {
                    file.reason = match self.superseded(file) {
                        // What is being changed is not the same again.
                        Err(Error::Changed { .. }) => Reason::Superseded,
                        reason => reason?,
                    };
                }
                Ok(())
            };
            let mut parts = hidden.chunks_mut(len);
            let own = parts.next();
            let workers: Vec<_> = parts.map(|part| scope.spawn(move || work(part))).collect();
            let mut done = own.map_or(Ok(()), work);
            for worker in workers {
                done = done.and(worker.join().unwrap_or(Err(Error::Thread)));
            }
            done
        })
    }

    fn superseded(&self, file: &Hidden) -> Result<Reason> {
        let node = file.node;
        let place = |found| Place { merged: self, node, found };
        let mut all = self.occurrences(node).iter();
        let own = all.clone().find(|found| found.layer() == file.layer);
        let above = all.find(|found| found.since() == file.by);
        let (Some(own), Some(above)) = (own, above) else { return Ok(Reason::Superseded) };
        if self.entry(above).kind != Kind::File || self.entry(above).size != file.bytes {
            return Ok(Reason::Superseded);
        }
        // Attributes are not read where the contents say enough.
        Ok(match () {
            () if content_differs(place(own), place(above))? => Reason::Superseded,
            () if compare_attributes(place(own), place(above))?.any() => Reason::MetadataOnly,
            () => Reason::Identical,
        })
    }
}

fn reason(end: End) -> Reason {
    match end {
        End::Deleted => Reason::Deleted,
        End::ParentOpaque => Reason::ParentOpaque,
        End::ParentDeleted => Reason::ParentDeleted,
        End::ParentReplaced => Reason::ParentReplaced,
        End::Superseded | End::Merged | End::Never => Reason::Superseded,
    }
}
