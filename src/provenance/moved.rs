//! Directories that a layer moved (redirects, docs/SEMANTICS.md section 2): from where, to where, and what is in them.

use super::layer::EntryId;
use super::merged::Merged;
use super::tree::{NodeId, Number, Occurrence};

impl Merged {
    /// The path that a directory with a redirect had in the layers below; `None` for all others. Paths in it are seen since
    /// the layer that has it ([`Occurrence::since`]).
    #[must_use]
    pub fn moved_from(&self, found: &Occurrence) -> Option<Vec<u8>> {
        self.source((found.layer(), found.entry)).map(|(number, entry)| self.layer(number).path(entry))
    }

    /// The path in a layer of the directory that it moved there from this one.
    #[must_use]
    pub fn moved_to(&self, node: NodeId, number: Number) -> Option<Vec<u8>> {
        let entry = self.tree().moved_to(number, self.occurrences(node))?;
        Some(self.layer(number).path(entry))
    }

    /// The path where an object is in its layer. It differs where a directory was moved; and a file shown by the index of
    /// hard links is where the copy has its first name or, if it has none, at the paths that show it only.
    #[must_use]
    pub fn path_in_layer(&self, node: NodeId, found: &Occurrence) -> Vec<u8> {
        let layer = self.layer(found.layer());
        if layer.is_named(found.entry) { layer.path(found.entry) } else { self.path(node) }
    }

    /// The directories with redirects that brought an occurrence to this path, the nearest first.
    pub(super) fn movers(&self, node: NodeId, found: &Occurrence) -> Vec<(Number, EntryId)> {
        let (mut movers, mut at) = (Vec::new(), node);
        while at != NodeId::ROOT && found.since() != found.layer() {
            at = self.parent(at);
            let on_the_way = |dir: &&Occurrence| dir.since() == found.since() && dir.layer() > found.layer();
            for dir in self.occurrences(at).iter().filter(on_the_way) {
                let mut place = (dir.layer(), dir.entry);
                // What was moved can have been moved before.
                while let Some(source) = self.source(place).filter(|_| place.0 > found.layer()) {
                    movers.push(place);
                    place = source;
                }
            }
        }
        movers
    }

    /// The directory that the redirect of another leads to.
    pub(super) fn source(&self, directory: (Number, EntryId)) -> Option<(Number, EntryId)> {
        self.tree().moved_from(directory)
    }
}
