//! The contents of files, written out.

use super::entry::Kind;
use super::error::{Error, Result};
use super::layer::{EntryId, Layer};
use super::merged::Merged;
use super::origin::{Blob, Origin};
use super::tree::{NodeId, Number, Occurrence};
use crate::archive;
use crate::image::digest::Hashing;
use crate::layer::redirect::Redirect;
use crate::sys;
use std::io::{self, Write};
use std::os::fd::AsFd;

const PIECE: usize = 256 << 10;

impl Merged {
    /// Writes the content of the regular file that an occurrence at `node` is. Of a layer in an archive the blob is read
    /// again up to the file.
    ///
    /// # Errors
    /// [`Error::Write`] for those of `out`; [`Error::Read`] and [`Error::Layer`].
    pub fn write_content(&self, node: NodeId, occurrence: &Occurrence, out: &mut dyn Write) -> Result<()> {
        let (number, id) = self.data(node, occurrence)?;
        let layer = self.layer(number);
        match &layer.origin {
            Origin::Directory(_) => write_file(layer, id, out),
            Origin::Blob(blob) => write_from_blob(blob, layer, id, out),
        }
    }

    /// The file that holds the data of one: itself, unless it holds metadata only or is a copy of one below.
    pub(super) fn data(&self, node: NodeId, occurrence: &Occurrence) -> Result<(Number, EntryId)> {
        let entry = self.entry(occurrence);
        let own = (occurrence.layer(), occurrence.entry);
        let nothing =
            |what: &str| Error::Entry { path: format!("/{}", archive::shown(&self.path(node))), what: what.into() };
        if entry.kind != Kind::File {
            return Err(nothing("is no regular file"));
        }
        if !entry.metacopy {
            return Ok(self.source_of_copy(own));
        }
        if occurrence.is_by_index() {
            // The redirect of the copy says where its other name was.
            let lower = self.occurrences(node).iter().rev().find(|found| found.hidden_by() == Some(own.0));
            return self.data(node, lower.ok_or_else(|| nothing("has its data in a layer that is not here"))?);
        }
        let (mut from, mut redirect) = (own.0, self.layer(own.0).redirect(own.1));
        loop {
            let below = Number::new(usize::from(from.get()) - 1);
            let found = below.and_then(|below| match &redirect {
                Some(Redirect::Absolute(path)) => self.below(self.find(path)?, below),
                Some(Redirect::Name(name)) => self.below(self.child(self.parent(node), name)?, below),
                None => self.below(node, below),
            });
            let found = found.ok_or_else(|| nothing("has its data in a layer that is not here"))?;
            let (number, id) = (found.layer(), found.entry);
            match self.entry(found) {
                entry if entry.kind != Kind::File => return Err(nothing("has its data in a layer that is not here")),
                entry if entry.metacopy => {
                    redirect = self.layer(number).redirect(id).or(redirect);
                    from = number;
                }
                _ => return Ok((number, id)),
            }
        }
    }

    /// What the layers up to `top` have at a path, hidden by those above or not.
    fn below(&self, node: NodeId, top: Number) -> Option<&Occurrence> {
        self.occurrences(node).iter().rev().find(|found| found.layer() <= top && !self.entry(found).is_whiteout())
    }

    /// The file that a hard link to a layer below was copied from.
    fn source_of_copy(&self, mut at: (Number, EntryId)) -> (Number, EntryId) {
        while let Some((layer, source)) = self.layer(at.0).source(at.1) {
            let Some(number) = Number::new(layer + 1) else { break };
            at = (number, source);
        }
        at
    }
}

fn write_file(layer: &Layer, id: EntryId, out: &mut dyn Write) -> Result<()> {
    let failed = |source| layer.failed(id, source);
    let Some(file) = layer.open(id).map_err(failed)? else { return Ok(()) };
    let (mut buffer, mut at) = (vec![0; PIECE], 0);
    loop {
        match sys::pread(file.as_fd(), &mut buffer, at).map_err(failed)? {
            0 => return Ok(()),
            n => {
                out.write_all(&buffer[..n]).map_err(Error::Write)?;
                at += n as u64;
            }
        }
    }
}

fn write_from_blob(blob: &Blob, layer: &Layer, id: EntryId, out: &mut dyn Write) -> Result<()> {
    let (wanted, known) = (u64::from(layer.entry(layer.first_name(id)).ordinal), layer.content(id)?);
    let reader = blob.source.open_layer(&blob.layer)?;
    let (mut failed, mut hashing) = (None, None);
    let read = archive::entries(reader, blob.expected(), &blob.limits, &mut |number, entry, _, data| {
        if number != wanted {
            return Ok(());
        }
        let mut output = Output { out, at: 0, hashing: Hashing::new(), failed: &mut failed };
        data.pieces(&mut |offset, piece| output.zeros(offset).and_then(|()| output.write(piece)))?;
        output.zeros(entry.size)?;
        hashing = Some(output.hashing);
        Err(archive::Error::Stopped)
    });
    if let Some(error) = failed {
        return Err(Error::Write(error));
    }
    match read {
        Err(archive::Error::Stopped) => {}
        Err(source) => return Err(Error::Layer { what: blob.layer.describe(), source }),
        Ok(_) => {}
    }
    let found = hashing.map(Hashing::finish);
    if found.is_none() || known.is_some_and(|known| Some(known) != found) {
        let path = format!("/{}", archive::shown(&layer.path(id)));
        return Err(Error::Entry { path, what: "is not what it was a moment ago: the archive was changed".into() });
    }
    Ok(())
}

/// Takes the data of an entry, in order.
struct Output<'a> {
    out: &'a mut dyn Write,
    at: u64,
    hashing: Hashing,
    failed: &'a mut Option<io::Error>,
}

impl Output<'_> {
    fn write(&mut self, piece: &[u8]) -> archive::Result<()> {
        self.at += piece.len() as u64;
        self.hashing.update(piece);
        self.out.write_all(piece).map_err(|error| {
            *self.failed = Some(error);
            archive::Error::Stopped
        })
    }

    /// Holes are zeros.
    fn zeros(&mut self, to: u64) -> archive::Result<()> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        while self.at < to {
            let len = usize::try_from(to - self.at).unwrap_or(usize::MAX).min(ZEROS.len());
            self.write(&ZEROS[..len])?;
        }
        Ok(())
    }
}
