//! Unpacking the layers of one image side by side, with their blobs stored on the way.

use super::blob::BlobFile;
use super::dir::Dir;
use super::error::{Error, Result};
use super::incoming::{IncomingLayer, Progress, Step};
use super::stop::Stop;
use crate::archive::{self, Digests, Expected, Form, Limits, Pending};
use crate::image;
use parking_lot::Mutex;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};

/// What is to be done with one layer of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Task {
    /// Its number in the image, and its name in the temporary directory.
    pub number: usize,
    /// Unpack it; else only the blob is wanted.
    pub tree: bool,
    /// Store its blob.
    pub blob: bool,
    /// Look whether blob and layer belong together, which both other tasks do as well.
    pub check: bool,
}

/// A layer that was read.
pub(super) struct Read1 {
    pub digests: Digests,
    /// What is left to do when it was unpacked.
    pub pending: Option<Pending>,
}

/// How all layers of an image are unpacked.
pub(super) struct Unpacking<'a> {
    pub temp: &'a Dir,
    pub form: Form,
    pub limits: &'a Limits,
    pub progress: Option<Progress<'a>>,
    /// Set when a layer failed: the others give up.
    pub failed: AtomicBool,
    /// All are to give up.
    pub stop: &'a Stop,
}

impl Unpacking<'_> {
    /// Reads a layer: into `N/diff` and `N.blob` of the temporary directory. Nothing is synced.
    pub fn run(&self, task: Task, layer: &IncomingLayer<'_>) -> Result<Read1> {
        let result = self.read(task, layer);
        if result.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        } else {
            self.report(task.number, Step::Read);
        }
        result
    }

    fn read(&self, task: Task, layer: &IncomingLayer<'_>) -> Result<Read1> {
        let what = || layer.describe(task.number);
        let stream = (layer.open)().map_err(|e| match e.downcast::<image::Error>() {
            // It says itself which layer is meant.
            Ok(e) => Error::Image(e),
            Err(e) => Error::Layer { what: what(), source: archive::Error::Read(e) },
        })?;
        let file = if task.blob { Some(BlobFile::create(self.temp, &format!("{}.blob", task.number))?) } else { None };
        let fault = Mutex::new(None);
        let tee = Tee { stream, file, fault: &fault, failed: &self.failed, stop: self.stop };
        let expected = Expected { blob: layer.blob, size: layer.size, diff_id: layer.diff_id };
        let result = if task.tree {
            self.unpack(task.number, layer, tee, expected)?
        } else {
            archive::digests(tee, expected, self.limits).map(|digests| Read1 { digests, pending: None })
        };
        match (fault.into_inner(), result) {
            (Some(fault), _) => Err(fault),
            (None, result) => result.map_err(|source| Error::Layer { what: what(), source }),
        }
    }

    fn unpack(
        &self,
        number: usize,
        layer: &IncomingLayer<'_>,
        tee: Tee<'_>,
        expected: Expected,
    ) -> Result<archive::Result<Read1>> {
        let diff = self.temp.create(number.to_string(), 0o700)?.create("diff", 0o755)?;
        let progress = |done| self.report(number, Step::Reading { done, total: layer.size });
        let options = archive::Options { form: self.form, expected, limits: self.limits, progress: Some(&progress) };
        let unpacked = archive::unpack(tee, diff.fd(), &options);
        Ok(unpacked.map(|u| Read1 { digests: u.digests, pending: Some(u.pending) }))
    }

    fn report(&self, number: usize, step: Step) {
        if let Some(progress) = self.progress {
            progress(number, step);
        }
    }
}

/// Reads a blob and writes what was read to a file.
struct Tee<'a> {
    stream: Box<dyn Read + Send + 'a>,
    file: Option<BlobFile>,
    /// Why writing failed: the reader's error type could not carry it.
    fault: &'a Mutex<Option<Error>>,
    failed: &'a AtomicBool,
    stop: &'a Stop,
}

impl Read for Tee<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = loop {
            if self.failed.load(Ordering::Relaxed) || self.stop.check().is_err() {
                *self.fault.lock() = Some(Error::GivenUp);
                return Err(io::Error::other(Error::GivenUp.to_string()));
            }
            match self.stream.read(buf) {
                // It waits for its input, and lets us look in between.
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        let bytes = buf.get(..n).unwrap_or_default();
        if let Some(Err(e)) = self.file.as_mut().filter(|_| n > 0).map(|file| file.append(bytes)) {
            let told = io::Error::other(e.to_string());
            *self.fault.lock() = Some(e);
            return Err(told);
        }
        Ok(n)
    }
}
