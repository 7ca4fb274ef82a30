//! The entries of a layer tar, told one after the other, with nothing written.

use super::api::{Digests, Expected, Limits};
use super::entry::{Entry, Reader};
use super::error::{Error, Result};
use super::names::{self, Kind};
use std::io::Read;

/// The data of the entry that is being told. What is not read of them is skipped.
pub struct Data<'r, 'l> {
    entry: &'r Entry,
    reader: &'r mut Reader<'l>,
}

impl Data<'_, '_> {
    /// Calls `each` with every piece of the data and its offset in the file, in order. Holes of sparse files are left out.
    ///
    /// # Errors
    /// Those of `each`, and [`Error::Entry`] when there are less data than the entry says.
    pub fn pieces(&mut self, each: &mut dyn FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        match &self.entry.sparse {
            None => piece(self.entry, self.reader, 0, self.entry.size, each),
            Some(pieces) => {
                pieces.iter().try_for_each(|(offset, len)| piece(self.entry, self.reader, *offset, *len, each))
            }
        }
    }

    /// Bytes in the holes of a sparse file.
    #[must_use]
    pub fn holes(&self) -> u64 {
        let stored = |pieces: &super::sparse::Pieces| pieces.iter().map(|(_, len)| len).sum::<u64>();
        self.entry.sparse.as_ref().map_or(0, |pieces| self.entry.size.saturating_sub(stored(pieces)))
    }
}

fn piece(
    entry: &Entry,
    reader: &mut Reader<'_>,
    mut offset: u64,
    mut len: u64,
    each: &mut dyn FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    while len > 0 {
        let piece = reader.data(len)?;
        if piece.is_empty() {
            return Err(Error::entry(&entry.name, "has less data than it says"));
        }
        let read = piece.len() as u64;
        each(offset, piece)?;
        (offset, len) = (offset + read, len - read);
    }
    Ok(())
}

/// Takes entries: the number of the entry in the stream, the entry, what its name says, and its data.
pub type Each<'a> = &'a mut dyn FnMut(u64, &Entry, Kind<'_>, &mut Data<'_, '_>) -> Result<()>;

/// Calls `each` for every entry that [`super::unpack`] would apply, in the order of the stream.
///
/// # Errors
/// As [`super::unpack`], and those of `each`. When the blob has the wrong digest, that is the error, whatever else was
/// wrong with its contents.
pub fn entries(blob: impl Read + Send, expected: Expected, limits: &Limits, each: Each<'_>) -> Result<Digests> {
    let consume = |stream| {
        let mut reader = Reader::new(stream, limits);
        let mut number = 0;
        while let Some(entry) = reader.next()? {
            let kind = names::classify(&entry.path).map_err(|what| Error::entry(&entry.name, what))?;
            if kind != Kind::Leftover {
                each(number, &entry, kind, &mut Data { entry: &entry, reader: &mut reader })?;
            }
            number += 1;
        }
        Ok(((), reader.into_stream()?))
    };
    super::stream::run(blob, expected, limits, None, consume).map(|((), digests)| digests)
}
