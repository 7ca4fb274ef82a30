//! The contents of many files at once: each layer of an archive is read once for all of them.

use super::entry::Kind;
use super::error::{Error, Result};
use super::layer::EntryId;
use super::merged::Merged;
use super::origin::Origin;
use super::read::Data;
use super::tree::{NodeId, Number, Occurrence};
use crate::archive;
use rustc_hash::FxHashMap;

/// What was read of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// All that is in it.
    Bytes(Vec<u8>),
    /// Nothing: it is longer than the limit, or no regular file.
    Left,
    /// Nothing: it was removed or exchanged since it was listed.
    Changed,
}

impl Merged {
    /// The contents of regular files of at most `limit` bytes by the lengths of their entries: of a file that grew since only
    /// so much is read. The caller takes care that they fit into memory together.
    ///
    /// # Errors
    /// Those of reading.
    pub fn contents(&self, files: &[(NodeId, &Occurrence)], limit: u64) -> Result<Vec<Content>> {
        let mut contents = Vec::new();
        // Of each layer in an archive, the files that are wanted by the number of their tar entry.
        let mut wanted: FxHashMap<Number, FxHashMap<u64, Vec<usize>>> = FxHashMap::default();
        for (at, (node, found)) in files.iter().enumerate() {
            let entry = self.entry(found);
            if entry.kind != Kind::File || entry.size > limit {
                contents.push(Content::Left);
                continue;
            }
            let mut content = Vec::new();
            let read = match self.data(*node, found)? {
                Data::Layer(number, id) if matches!(self.layer(number).origin, Origin::Blob(_)) => {
                    let ordinal = self.ordinal(number, id);
                    wanted.entry(number).or_default().entry(ordinal).or_default().push(at);
                    Ok(())
                }
                _ => self.write_some(*node, found, entry.size, &mut content),
            };
            contents.push(match read {
                Err(Error::Changed { .. }) => Content::Changed,
                read => read.map(|()| Content::Bytes(content))?,
            });
        }
        for (number, files) in wanted {
            self.read_blob(number, files, limit, &mut contents)?;
        }
        Ok(contents)
    }

    fn ordinal(&self, number: Number, id: EntryId) -> u64 {
        let layer = self.layer(number);
        layer.entry(layer.first_name(id)).ordinal.into()
    }

    fn read_blob(
        &self,
        number: Number,
        mut files: FxHashMap<u64, Vec<usize>>,
        limit: u64,
        contents: &mut [Content],
    ) -> Result<()> {
        let Origin::Blob(blob) = &self.layer(number).origin else { return Ok(()) };
        let reader = blob.source.open_layer(&blob.layer)?;
        let read = archive::entries(reader, blob.expected(), &blob.limits, &mut |number, entry, _, data| {
            // The length was looked at when the layer was read; somebody may change the archive under us.
            let places = files.remove(&number).filter(|_| entry.size <= limit);
            let Some(places) = places else { return Ok(()) };
            // Holes are zeros.
            let mut content = vec![0; usize::try_from(entry.size).unwrap_or(0)];
            data.pieces(&mut |offset, piece| {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                if let Some(place) = content.get_mut(start..start.saturating_add(piece.len())) {
                    place.copy_from_slice(piece);
                }
                Ok(())
            })?;
            for place in places {
                contents[place] = Content::Bytes(content.clone());
            }
            if files.is_empty() { Err(archive::Error::Stopped) } else { Ok(()) }
        });
        match read {
            Ok(_) | Err(archive::Error::Stopped) => Ok(()),
            Err(source) => Err(Error::Layer { what: blob.layer.describe(), source }),
        }
    }
}
