//! How two entries differ, and what an entry does to the one that was there before.

use super::contents;
use super::entry::{Entry, Kind};
use super::error::{Error, Result};
use super::layer::{EntryId, Layer};
use super::merged::Merged;
use super::read::Data;
use super::tree::{End, NodeId, Number, Occurrence};
use crate::image::digest::Digest;
use std::cmp::Reverse;

/// In what two entries differ. Where the types differ nothing else is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// The type.
    pub kind: bool,
    /// The content of a file, the target of a link, the numbers of a device.
    pub content: bool,
    /// The permission bits.
    pub mode: bool,
    /// Owner or group.
    pub owner: bool,
    /// The time of the last change.
    pub mtime: bool,
    /// The extended attributes.
    pub xattrs: bool,
    /// Of a live mount: one was removed or exchanged while it was read, so that nothing else was compared.
    pub changing: bool,
}

impl Difference {
    /// Whether there is one.
    #[must_use]
    pub fn any(self) -> bool {
        self != Self::default()
    }

    /// What differs, as JSON documents have it: `type`, `content`, `changing` and [`Self::attributes`].
    #[must_use]
    pub fn words(self) -> Vec<&'static str> {
        let all = [(self.kind, "type"), (self.content, "content"), (self.changing, "changing")];
        let words = all.into_iter().filter_map(|(differs, word)| differs.then_some(word));
        words.chain(self.attributes()).collect()
    }

    /// The attributes that differ, as words: `mode`, `owner`, `mtime`, `xattrs`.
    #[must_use]
    pub fn attributes(self) -> Vec<&'static str> {
        let all = [(self.mode, "mode"), (self.owner, "owner"), (self.mtime, "mtime"), (self.xattrs, "xattrs")];
        all.into_iter().filter_map(|(differs, word)| differs.then_some(word)).collect()
    }
}

/// An entry of a stack: at a path, in a layer.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The stack.
    pub merged: &'a Merged,
    /// The path.
    pub node: NodeId,
    /// What is there.
    pub found: &'a Occurrence,
}

impl<'a> Place<'a> {
    fn entry(self) -> &'a Entry {
        self.merged.entry(self.found)
    }

    fn layer(self) -> &'a Layer {
        self.merged.layer(self.found.layer())
    }

    fn content(self) -> Result<Option<Digest>> {
        self.merged.content(self.node, self.found)
    }
}

/// Compares two entries. Contents are read only where they are needed: when two files have the same length and there are
/// no digests yet.
///
/// # Errors
/// Those of reading.
pub fn compare(a: Place<'_>, b: Place<'_>) -> Result<Difference> {
    if a.entry().kind != b.entry().kind {
        return Ok(Difference { kind: true, ..Difference::default() });
    }
    let content = content_differs(a, b);
    match content.and_then(|content| Ok(Difference { content, ..compare_attributes(a, b)? })) {
        Err(Error::Changed { .. }) => Ok(Difference { changing: true, ..Difference::default() }),
        compared => compared,
    }
}

/// Compares what two entries of one type hold.
pub(super) fn content_differs(a: Place<'_>, b: Place<'_>) -> Result<bool> {
    let (one, other) = (a.entry(), b.entry());
    Ok(match one.kind {
        Kind::File => one.size != other.size || !same_data(a, b)? && !same_content(a, b)?,
        Kind::Symlink => a.layer().target(a.found.entry) != b.layer().target(b.found.entry),
        Kind::Char | Kind::Block => one.device != other.device,
        Kind::Directory | Kind::Fifo | Kind::Socket | Kind::Whiteout => false,
    })
}

/// Compares everything but that.
pub(super) fn compare_attributes(a: Place<'_>, b: Place<'_>) -> Result<Difference> {
    let (one, other) = (a.entry(), b.entry());
    Ok(Difference {
        mode: one.mode != other.mode,
        owner: (one.uid, one.gid) != (other.uid, other.gid),
        mtime: one.mtime != other.mtime,
        xattrs: !same_entry(a, b) && a.layer().xattrs(a.found.entry)? != b.layer().xattrs(b.found.entry)?,
        ..Difference::default()
    })
}

/// Whether two entries are known to be one, of a layer that two images have.
fn same_entry(a: Place<'_>, b: Place<'_>) -> bool {
    a.layer().facts.is_same(&b.layer().facts) && a.layer().path(a.found.entry) == b.layer().path(b.found.entry)
}

/// Whether two files are known to have the same data, because there is only one.
fn same_data(a: Place<'_>, b: Place<'_>) -> Result<bool> {
    if a.entry().size == 0 {
        return Ok(true);
    }
    let data = |place: Place<'_>| place.merged.data(place.node, place.found);
    let (one, other) = (data(a)?, data(b)?);
    if std::ptr::eq(a.merged, b.merged) {
        return Ok(one == other);
    }
    // The same layer in two images.
    let (Data::Layer(one, id), Data::Layer(other, same_id)) = (one, other) else { return Ok(false) };
    let (layer, same) = (a.merged.layer(one), b.merged.layer(other));
    Ok(layer.facts.is_same(&same.facts) && layer.path(id) == same.path(same_id))
}

/// Whether two files have the same content; of those that are mostly holes, which are not read, nobody knows.
fn same_content(a: Place<'_>, b: Place<'_>) -> Result<bool> {
    let Some(one) = a.content()? else { return Ok(false) };
    Ok(b.content()? == Some(one))
}

/// What a layer does at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The name was not there.
    Adds,
    /// The name was there as something else.
    ChangesType(Kind),
    /// It has other content, and perhaps other attributes.
    ChangesContent,
    /// The content is the same, attributes differ. Of a directory that was there: its attributes.
    ChangesAttributes,
    /// Nothing differs: the same was written once more.
    Repeats,
    /// A directory, of which nothing shows that was in it: it is opaque, or was moved here.
    Replaces,
    /// A whiteout of what was there.
    Deletes,
    /// A whiteout of nothing.
    DeletesNothing,
    /// The directory of this path, that is the path itself or one above, is deleted, replaced or opaque: so this path is
    /// hidden without being named.
    HidesParent(End),
    /// A directory above was moved here by this layer, with what layers below have in it.
    MovesParent,
}

/// What one layer does at a path.
#[derive(Clone, Debug)]
pub struct Touch<'a> {
    /// The layer.
    pub layer: Number,
    /// What it has there; `None` when it has only something at a directory above.
    pub found: Option<&'a Occurrence>,
    /// The path in the layer where it does it: that of the object, or of the directory above.
    pub at: Vec<u8>,
    /// What it does.
    pub action: Action,
    /// In what it differs from what was there before.
    pub difference: Difference,
    /// Of a directory that it moved: the path in the layers below.
    pub moved_from: Option<Vec<u8>>,
    /// Of a directory that it takes away, and has elsewhere: the path where.
    pub moved_to: Option<Vec<u8>>,
}

impl Merged {
    /// The sha256 of the content of a regular file, wherever its data are; `None` for anything else.
    ///
    /// # Errors
    /// Those of reading.
    pub fn content(&self, node: NodeId, found: &Occurrence) -> Result<Option<Digest>> {
        if self.entry(found).kind != Kind::File {
            return Ok(None);
        }
        match self.data(node, found)? {
            Data::Layer(number, id) => self.layer(number).content(id),
            Data::DataOnly(layer, path) => {
                let root = &self.data_only()[layer];
                contents::hash(&root.open_file(&path)?).map_err(|source| root.failed(&path, source))
            }
        }
    }

    /// What every layer does at a path, the topmost first.
    ///
    /// # Errors
    /// Those of reading, when contents have to be compared.
    pub fn touches(&self, node: NodeId) -> Result<Vec<Touch<'_>>> {
        let mut touches = Vec::new();
        for found in self.occurrences(node) {
            touches.push(self.touch(node, found)?);
            let movers = self.movers(node, found).into_iter();
            touches.extend(movers.map(|directory| self.above(directory, Action::MovesParent, None)));
            if let (true, Some((above, by))) = (found.end.is_by_parent(), self.culprit(node, found)) {
                let (directory, moved_to) = ((by.layer(), by.entry), self.moved_to(above, by.layer()));
                touches.push(self.above(directory, Action::HidesParent(found.end), moved_to));
            }
        }
        let rank = |touch: &Touch<'_>| match touch.action {
            Action::HidesParent(_) => 2,
            Action::MovesParent => 1,
            _ => 0,
        };
        let since = |touch: &Touch<'_>| touch.found.map(Occurrence::since);
        touches.sort_by_key(|touch| (Reverse(touch.layer), rank(touch), Reverse(since(touch))));
        // A layer that says something of the path itself, or moved it here, is not named for its parent too.
        touches.dedup_by(|touch, known| {
            touch.layer == known.layer && (rank(touch) == 2 || rank(touch) == 1 && rank(known) == 1)
        });
        Ok(touches)
    }

    /// What a layer does with its directory above a path.
    fn above(&self, (layer, entry): (Number, EntryId), action: Action, moved_to: Option<Vec<u8>>) -> Touch<'_> {
        let path = |(number, entry): (Number, EntryId)| self.layer(number).path(entry);
        Touch {
            layer,
            found: None,
            at: path((layer, entry)),
            action,
            difference: Difference::default(),
            moved_from: self.source((layer, entry)).map(path),
            moved_to,
        }
    }

    /// What the layer of an occurrence does with it.
    ///
    /// # Errors
    /// Those of reading, when contents have to be compared.
    pub fn touch<'a>(&'a self, node: NodeId, found: &'a Occurrence) -> Result<Touch<'a>> {
        let (entry, before) = (self.entry(found), self.before(node, found));
        let place = |found| Place { merged: self, node, found };
        let moved_from = self.moved_from(found);
        let mut difference = Difference::default();
        let action = match before {
            None if entry.is_whiteout() => Action::DeletesNothing,
            Some(_) if entry.is_whiteout() => Action::Deletes,
            None => Action::Adds,
            Some(before) => {
                difference = compare(place(before), place(found))?;
                match () {
                    () if difference.kind => Action::ChangesType(self.entry(before).kind),
                    () if entry.is_dir() && (entry.opaque || moved_from.is_some()) => Action::Replaces,
                    () if difference.content || difference.changing => Action::ChangesContent,
                    () if difference.any() => Action::ChangesAttributes,
                    () => Action::Repeats,
                }
            }
        };
        let at = self.path_in_layer(node, found);
        let moved_to = self.moved_to(node, found.layer());
        Ok(Touch { layer: found.layer(), found: Some(found), at, action, difference, moved_from, moved_to })
    }
}
