//! Paths as model.js reads them.

use crate::cli::whence::words;
use crate::image::format;
use crate::provenance::{Bytes, End, Fate, Kind, Merged, NodeId, Number, Occurrence, Reason, Result};
use rustc_hash::FxHashMap;
use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

/// Mode, owner and group.
pub type Attributes = (u16, u32, u32);

/// A path: its parent, its name, and what layers have there.
#[derive(Debug)]
pub struct Row {
    parent: usize,
    name: String,
    found: Vec<Found>,
}

/// What a layer has at a path: layer, kind, what it does, how it ends to be seen, what became of its bytes, who hides it, how
/// many directories above the one to blame is, bytes, length, attributes, time, target of a link.
#[derive(Debug, Serialize)]
struct Found(
    usize,
    char,
    String,
    u8,
    u8,
    Option<usize>,
    usize,
    u64,
    u64,
    usize,
    Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")] Option<String>,
);

impl Serialize for Row {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut row = serializer.serialize_seq(Some(2 + self.found.len()))?;
        row.serialize_element(&self.parent)?;
        row.serialize_element(&self.name)?;
        self.found.iter().try_for_each(|found| row.serialize_element(found))?;
        row.end()
    }
}

/// Makes rows; owners and modes that many entries have stand once.
pub struct Rows<'a> {
    merged: &'a Merged,
    bytes: &'a Bytes<'a>,
    /// What entries refer to.
    pub attrs: Vec<Attributes>,
    known: FxHashMap<Attributes, usize>,
}

impl<'a> Rows<'a> {
    /// No rows yet.
    pub fn new(merged: &'a Merged, bytes: &'a Bytes<'a>) -> Self {
        Self { merged, bytes, attrs: Vec::new(), known: FxHashMap::default() }
    }

    /// A path; `parent` is the number of the row of its directory.
    pub fn row(&mut self, node: NodeId, parent: usize) -> Result<Row> {
        let found = self.merged.occurrences(node).iter().map(|one| self.found(node, one)).collect::<Result<_>>()?;
        Ok(Row { parent, name: format::name(self.merged.name(node)).into_owned(), found })
    }

    fn found(&mut self, node: NodeId, one: &Occurrence) -> Result<Found> {
        let (layer, entry) = (self.merged.layer(one.layer()), self.merged.entry(one));
        let next = self.attrs.len();
        let attrs = *self.known.entry((entry.mode, entry.uid, entry.gid)).or_insert(next);
        if attrs == next {
            self.attrs.push((entry.mode, entry.uid, entry.gid));
        }
        let (fate, bytes) = self.bytes.of(node, one);
        let mut does = self.does(node, one)?;
        if let Some(path) = self.merged.hard_link(one) {
            does += &format!(", hard link to /{}", format::name(&path));
        }
        let target = layer.target(one.entry);
        Ok(Found(
            one.layer().index(),
            entry.kind.letter(),
            does,
            end(one.end),
            state(fate),
            one.hidden_by().map(Number::index),
            self.blame(node, one),
            bytes,
            entry.size,
            attrs,
            // Directories that no entry of an archive describes were not made in 1970.
            (!(entry.is_whiteout() || entry.is_dir() && entry.mtime.sec == 0)).then_some(entry.mtime.sec),
            (!target.is_empty()).then(|| format::name(target).into_owned()),
        ))
    }

    /// How many directories up the one is that is to blame for the end.
    fn blame(&self, node: NodeId, one: &Occurrence) -> usize {
        let Some((culprit, _)) = self.merged.culprit(node, one) else { return 0 };
        std::iter::successors(Some(node), |at| Some(self.merged.parent(*at))).take_while(|at| *at != culprit).count()
    }

    /// What a layer does at a path.
    fn does(&self, node: NodeId, one: &Occurrence) -> Result<String> {
        let (merged, entry) = (self.merged, self.merged.entry(one));
        let before = merged.before(node, one);
        let merges = entry.is_dir() && !entry.opaque && merged.moved_from(one).is_none();
        if let (true, Some(before)) = (merges, before.map(|before| merged.entry(before))) {
            // Every directory on the way to a change is in a layer again: to compare their extended attributes would take longer
            // than all the rest.
            let same = (before.mode, before.uid, before.gid) == (entry.mode, entry.uid, entry.gid);
            if before.is_dir() {
                return Ok(if same { "has something in it" } else { "attributes changed" }.to_owned());
            }
        }
        // What was compared already is not read again.
        let known = before.and_then(|before| self.bytes.hidden(node, before)).filter(|file| file.by == one.layer());
        match known.map(|file| file.reason) {
            Some(Reason::Identical) => return Ok("the same again".to_owned()),
            Some(Reason::Superseded) if entry.kind == Kind::File => {
                return Ok("content changed".to_owned());
            }
            _ => {}
        }
        Ok(words(&merged.touch(node, one)?))
    }
}

/// As model.js numbers them.
fn end(end: End) -> u8 {
    match end {
        End::Never => 0,
        End::Superseded => 1,
        End::Merged => 2,
        End::Deleted => 3,
        End::ParentOpaque => 4,
        End::ParentDeleted => 5,
        End::ParentReplaced => 6,
    }
}

/// As model.js numbers them.
pub fn state(fate: Fate) -> u8 {
    match fate {
        Fate::Visible => 0,
        Fate::Hidden => 1,
        Fate::Deleted => 2,
    }
}
