//! The contents of files, written out.

use super::entry::Kind;
use super::error::{Error, Result};
use super::follow;
use super::layer::{EntryId, Layer};
use super::merged::Merged;
use super::origin::{Blob, Origin, Root};
use super::tree::{NodeId, Number, Occurrence};
use super::walk;
use crate::archive;
use crate::image::digest::Hashing;
use crate::layer::markers::{self, FileMarkers};
use crate::layer::redirect::Redirect;
use crate::sys::{self, At, Errno, Stat};
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

const PIECE: usize = 256 << 10;

/// Where the data of a file are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    /// A file of a layer.
    Layer(Number, EntryId),
    /// A path in one of [`Merged::data_only`].
    DataOnly(usize, Vec<u8>),
}

impl Merged {
    /// Writes the content of the regular file that an occurrence at `node` is. Of a layer in an archive the blob is read
    /// again up to the file.
    ///
    /// # Errors
    /// [`Error::Write`] for those of `out`; [`Error::Read`] and [`Error::Layer`].
    pub fn write_content(&self, node: NodeId, occurrence: &Occurrence, out: &mut dyn Write) -> Result<()> {
        self.write_some(node, occurrence, u64::MAX, out)
    }

    /// The same, of a layer directory at most `most` bytes: somebody may add to the file since it was listed.
    pub(super) fn write_some(
        &self,
        node: NodeId,
        occurrence: &Occurrence,
        most: u64,
        out: &mut dyn Write,
    ) -> Result<()> {
        let file = match self.data(node, occurrence)? {
            Data::Layer(number, id) => match &self.layer(number).origin {
                Origin::Blob(blob) => return write_from_blob(blob, self.layer(number), id, out),
                Origin::Directory(_) => self.layer(number).open(id)?,
            },
            Data::DataOnly(layer, path) => Some(self.data_only()[layer].open_file(&path)?),
        };
        file.map_or(Ok(()), |file| self.write_file(node, &file, most, out))
    }

    fn write_file(&self, node: NodeId, file: &OwnedFd, most: u64, out: &mut dyn Write) -> Result<()> {
        let (mut buffer, mut at) = (vec![0; PIECE], 0);
        loop {
            let len = usize::try_from(most - at).unwrap_or(PIECE).min(PIECE);
            let read = sys::pread(file.as_fd(), &mut buffer[..len], at);
            match read.map_err(|source| Error::Read { path: OsStr::from_bytes(&self.path(node)).into(), source })? {
                0 => return Ok(()),
                n => {
                    out.write_all(&buffer[..n]).map_err(Error::Write)?;
                    at += n as u64;
                }
            }
        }
    }

    /// Of a file that holds metadata only: the layer with its data, and their path there; or without a layer the path of
    /// the file itself, if its layer is one that only holds data.
    ///
    /// # Errors
    /// [`Error::NoData`] when no layer has them.
    pub fn data_of_metacopy(&self, node: NodeId, found: &Occurrence) -> Result<Option<(Option<Number>, Vec<u8>)>> {
        if !self.entry(found).metacopy {
            return Ok(None);
        }
        Ok(Some(match self.data(node, found)? {
            Data::Layer(number, id) => (Some(number), [b"/", &*self.layer(number).path(id)].concat()),
            Data::DataOnly(layer, path) => (None, self.data_only()[layer].shown(&path).into_os_string().into_vec()),
        }))
    }

    /// Where the data of a file are.
    ///
    /// # Errors
    /// [`Error::Entry`] when it is no regular file; [`Error::NoData`] when it holds metadata only and its data are in no layer.
    pub(super) fn data(&self, node: NodeId, occurrence: &Occurrence) -> Result<Data> {
        let entry = self.entry(occurrence);
        let own = (occurrence.layer(), occurrence.entry);
        let path = || format!("/{}", archive::shown(&self.path(node)));
        if entry.kind != Kind::File {
            return Err(Error::Entry { path: path(), what: "is no regular file".into() });
        }
        if !entry.metacopy {
            let (number, id) = self.source_of_copy(own);
            return Ok(Data::Layer(number, id));
        }
        let missing = || Error::NoData { path: path() };
        if occurrence.is_by_index() {
            // The redirect of the copy says where its other name was.
            let lower = self.occurrences(node).iter().rev().find(|found| found.hidden_by() == Some(own.0));
            return self.data(node, lower.ok_or_else(missing)?);
        }
        // The directory as it is where the file is seen first: it may have been moved since the layer of the file.
        let view = &self.layers()[..=occurrence.since().index()];
        let dirs = follow::directories(view, &self.path(self.parent(node)));
        match follow::data(view, &dirs, own.0.index(), own.1) {
            Ok((layer, id)) => Number::new(layer + 1).map(|number| Data::Layer(number, id)).ok_or_else(missing),
            Err(Some(path)) => self.in_data_only(path)?.ok_or_else(missing),
            Err(None) => Err(missing()),
        }
    }

    /// Looks for data in the layers that hold nothing else.
    fn in_data_only(&self, mut path: Vec<u8>) -> Result<Option<Data>> {
        for (layer, root) in self.data_only().iter().enumerate() {
            let found = look(root, &path).map_err(|source| root.failed(&path, source))?;
            let Some((disk, marks)) = found else { continue };
            match marks.believed_redirect(walk::believes_users()) {
                _ if !disk.is_file() => return Ok(None),
                _ if !marks.believed_metacopy(walk::believes_users()) => return Ok(Some(Data::DataOnly(layer, path))),
                Some(Redirect::Absolute(further)) => path.clone_from(further),
                _ => {}
            }
        }
        Ok(None)
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

/// What is at a path, and how it is marked.
fn look(root: &Root, path: &[u8]) -> sys::Result<Option<(Stat, FileMarkers)>> {
    let fd = match sys::open_path_rel(root.fd(), OsStr::from_bytes(path)) {
        Err(e) if e.is(Errno::NOENT) || e.is(Errno::NOTDIR) => return Ok(None),
        opened => opened?,
    };
    let at = At::Fd(fd.as_fd());
    Ok(Some((sys::stat(at)?, markers::read_file_markers(at)?)))
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
