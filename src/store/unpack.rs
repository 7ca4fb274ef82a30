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
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Calls `job` with 0 to `count - 1`, on up to `threads` threads, and returns the results in that order.
///
/// After an error nothing new is begun. Of several errors that of the lowest number is returned, [`Error::GivenUp`] last.
/// With one thread all is done by the caller's.
pub(super) fn in_parallel<T: Send>(
    threads: usize,
    count: usize,
    job: &(dyn Fn(usize) -> Result<T> + Sync),
) -> Result<Vec<T>> {
    if threads.min(count) <= 1 {
        return (0..count).map(job).collect();
    }
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = || {
        let mut done = Vec::new();
        while !failed.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                break;
            }
            let result = job(number);
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
            done.push((number, result));
        }
        done
    };
    let mut done = Vec::new();
    std::thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..threads.min(count)).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            done.extend(worker.join().map_err(|_| Error::Thread)?);
        }
        Ok(())
    })?;
    done.sort_by_key(|(number, result)| (matches!(result, Err(Error::GivenUp)), *number));
    done.into_iter().map(|(_, result)| result).collect()
}

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
        if self.failed.load(Ordering::Relaxed) || self.stop.check().is_err() {
            *self.fault.lock() = Some(Error::GivenUp);
            return Err(io::Error::other(Error::GivenUp.to_string()));
        }
        let n = self.stream.read(buf)?;
        let bytes = buf.get(..n).unwrap_or_default();
        if let Some(Err(e)) = self.file.as_mut().filter(|_| n > 0).map(|file| file.append(bytes)) {
            let told = io::Error::other(e.to_string());
            *self.fault.lock() = Some(e);
            return Err(told);
        }
        Ok(n)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_and_errors_stop() {
        for threads in [1, 3] {
            let squares = in_parallel(threads, 10, &|n| Ok(n * n)).unwrap();
            assert_eq!(squares, (0..10).map(|n| n * n).collect::<Vec<_>>());
            let begun = AtomicUsize::new(0);
            let failing = in_parallel(threads, 1000, &|n| {
                begun.fetch_add(1, Ordering::Relaxed);
                if n == 2 { Err(Error::NoImage("x".into())) } else { Ok(()) }
            });
            assert!(matches!(failing, Err(Error::NoImage(_))));
            assert!(begun.load(Ordering::Relaxed) < 1000);
        }
        assert!(in_parallel::<()>(4, 0, &|_| Err(Error::Thread)).unwrap().is_empty());
    }
}
