//! Two threads: one reads the blob, hashes and inflates it; the other hashes the tar stream, takes it apart and writes.
//!
//! Between them is a queue of a few chunks, which go back and forth, so that nothing grows with the layer.

use super::api::{Compression, Counts, Digests, Expected, Limits, Options, Unpacked};
use super::apply::Applier;
use super::compression::Decoder;
use super::entry::Reader;
use super::error::{Error, Result};
use super::pending::Pending;
use crate::image::digest::{DiffId, Digest, Hashing};
use crate::sys::Fd;
use std::cell::{Cell, RefCell};
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// Size of a chunk of the tar stream.
const CHUNK: usize = 256 << 10;
/// Chunks in the queue.
const QUEUE: usize = 8;
/// A stream shorter than this may be any number of times longer than its blob: zeros compress well.
const FREE: u64 = 64 << 20;

struct Chunk {
    bytes: Vec<u8>,
    /// Whether the other thread has to hash it; a bare tar is hashed as the blob.
    hash: bool,
}

/// The tar stream as the thread that takes it apart sees it.
pub(super) struct Stream {
    chunks: Receiver<Chunk>,
    spare: SyncSender<Vec<u8>>,
    current: Vec<u8>,
    /// What is read of the current chunk.
    at: usize,
    position: u64,
    hashing: Option<Hashing>,
    /// The digest is known, and will be compared.
    is_known: bool,
}

impl Stream {
    /// Offset of what comes next, in bytes.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Fetches the next chunk when the current one is used up; false at the end.
    fn fill(&mut self) -> bool {
        while self.at == self.current.len() {
            let Ok(Chunk { bytes, hash }) = self.chunks.recv() else { return false };
            let used = std::mem::replace(&mut self.current, bytes);
            // The other thread may have ended; then nobody needs it.
            let _unused = self.spare.try_send(used);
            self.at = 0;
            match &mut self.hashing {
                Some(hashing) if hash => hashing.update(&self.current),
                _ => self.hashing = None,
            }
        }
        true
    }

    /// Up to `most` bytes, at least one.
    pub fn take(&mut self, most: u64) -> Result<&[u8]> {
        if !self.fill() {
            return Err(self.cut_off());
        }
        let rest = &self.current[self.at..];
        let len = rest.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        self.at += len;
        self.position += len as u64;
        Ok(&rest[..len])
    }

    /// Fills `buf`, or returns false when the stream has ended before it.
    pub fn read_exact_or_end(&mut self, buf: &mut [u8]) -> Result<bool> {
        if !self.fill() {
            return Ok(false);
        }
        let mut done = 0;
        while done < buf.len() {
            let piece = self.take((buf.len() - done) as u64)?;
            buf[done..done + piece.len()].copy_from_slice(piece);
            done += piece.len();
        }
        Ok(true)
    }

    /// Goes `len` bytes further.
    pub fn skip(&mut self, mut len: u64) -> Result<()> {
        while len > 0 {
            len -= self.take(len)?.len() as u64;
        }
        Ok(())
    }

    /// Goes `len` bytes of padding further. Where a digest says what the stream is, it may end before that: `umoci insert`
    /// (0.4) writes none behind the last entry, and readers written in Go take that for the end of the archive.
    pub fn skip_padding(&mut self, mut len: u64) -> Result<()> {
        while len > 0 && (self.fill() || !self.is_known) {
            len -= self.take(len)?.len() as u64;
        }
        Ok(())
    }

    /// Goes past at least one byte; false at the end.
    pub fn pass(&mut self) -> bool {
        let more = self.fill();
        self.position += (self.current.len() - self.at) as u64;
        self.at = self.current.len();
        more
    }

    fn cut_off(&self) -> Error {
        Error::Malformed { at: self.position, what: "the archive is cut off".into() }
    }

    /// Reads what is left. The length of the stream, and its digest unless it is that of the blob.
    fn finish(mut self) -> (Option<Digest>, u64) {
        while self.pass() {}
        (self.hashing.map(Hashing::finish), self.position)
    }
}

/// What was read of a blob so far. The decoder owns the reader, so this is shared with it.
struct Meter {
    hashing: RefCell<Hashing>,
    failed: Cell<Option<io::Error>>,
    size: Option<u64>,
}

struct Metered<'a, R> {
    blob: &'a mut R,
    meter: &'a Meter,
}

impl Meter {
    fn count(&self) -> u64 {
        self.hashing.borrow().count()
    }

    fn too_long(&self) -> bool {
        self.size.is_some_and(|size| self.count() > size)
    }
}

impl<R: Read> Read for Metered<'_, R> {
    /// Fills the buffer unless the blob ends, so that the first read is enough to recognise what it is.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let meter = self.meter;
        if meter.too_long() {
            return Err(io::Error::other("longer than announced"));
        }
        let most = meter.size.map_or(u64::MAX, |size| size + 1 - meter.count());
        let room = buf.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        let mut done = 0;
        while done < room {
            match self.blob.read(&mut buf[done..room]) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    let kind = e.kind();
                    meter.failed.set(Some(e));
                    return Err(kind.into());
                }
            }
        }
        meter.hashing.borrow_mut().update(&buf[..done]);
        Ok(done)
    }
}

/// What the reading thread found.
struct Fed {
    digest: Digest,
    size: u64,
    compression: Compression,
    result: Result<()>,
}

struct Feeder<'a> {
    expected: Expected,
    limits: &'a Limits,
    progress: Option<&'a (dyn Fn(u64) + Sync)>,
    chunks: SyncSender<Chunk>,
    spare: Receiver<Vec<u8>>,
    /// The other thread has failed, and what is left of the blob could not say why.
    abandoned: &'a AtomicBool,
}

impl Feeder<'_> {
    fn run<R: Read>(self, mut blob: R) -> Fed {
        let size = self.expected.size.map(|size| size.min(u64::MAX - 1));
        let meter = Meter { hashing: RefCell::default(), failed: Cell::new(None), size };
        let mut compression = Compression::None;
        let mut result = self.inflate(Metered { blob: &mut blob, meter: &meter }, &mut compression);
        // What the decoder left is part of the blob; and after a failure the digest tells whether the blob is to blame.
        let mut rest = vec![0; CHUNK];
        let mut metered = Metered { blob: &mut blob, meter: &meter };
        let wanted = result.is_ok() || self.expected.blob.is_some();
        while wanted && !self.abandoned.load(Ordering::Relaxed) && metered.read(&mut rest).is_ok_and(|n| n > 0) {}
        let ended = wanted && !self.abandoned.load(Ordering::Relaxed);
        if let Some(e) = meter.failed.take() {
            result = Err(Error::Read(e));
        } else if let Some(expected) = self.expected.size
            && (meter.too_long() || ended && meter.count() < expected)
        {
            result = Err(Error::Size { expected, found: meter.count(), more: meter.too_long() });
        }
        let size = meter.count();
        let digest = meter.hashing.into_inner().finish();
        let decided = matches!(result, Err(Error::Read(_) | Error::Size { .. } | Error::Limit(_)));
        if let Some(expected) = self.expected.blob
            && ended
            && !decided
            && expected != digest
        {
            result = Err(Error::Digest { what: "digest", expected, found: digest });
        }
        Fed { digest, size, compression, result }
    }

    /// Sends the tar stream until it ends or nobody listens any more.
    fn inflate<R: Read>(&self, blob: Metered<'_, R>, compression: &mut Compression) -> Result<()> {
        let meter = blob.meter;
        let mut decoder = Decoder::new(blob)?;
        *compression = decoder.compression();
        let hash = *compression != Compression::None;
        let mut total = 0;
        loop {
            let mut bytes = self.spare.try_recv().unwrap_or_default();
            bytes.clear();
            bytes.reserve_exact(CHUNK);
            let filled = decoder.fill(&mut bytes);
            total += bytes.len() as u64;
            self.check_length(total, meter.count())?;
            let last = bytes.len() < CHUNK;
            if self.chunks.send(Chunk { bytes, hash }).is_err() {
                return Ok(());
            }
            if let Some(progress) = self.progress {
                progress(meter.count());
            }
            filled?;
            if last {
                return Ok(());
            }
        }
    }

    fn check_length(&self, total: u64, read: u64) -> Result<()> {
        if total > self.limits.bytes {
            return Err(Error::Limit(format!("more than {} bytes uncompressed", self.limits.bytes).into()));
        }
        if total > FREE && total / self.limits.ratio > read {
            let ratio = self.limits.ratio;
            return Err(Error::Limit(format!("the uncompressed data are more than {ratio} times the blob").into()));
        }
        Ok(())
    }
}

/// Runs `consume` on the tar stream in `blob`; the digests are compared.
pub(super) fn run<T>(
    blob: impl Read + Send,
    expected: Expected,
    limits: &Limits,
    progress: Option<&(dyn Fn(u64) + Sync)>,
    consume: impl FnOnce(Stream) -> Result<(T, Stream)>,
) -> Result<(T, Digests)> {
    let abandoned = AtomicBool::new(false);
    let (chunks, receiver) = sync_channel(QUEUE);
    let (spare, spares) = sync_channel(QUEUE + 2);
    let hashing = Some(Hashing::new());
    let is_known = expected.diff_id.is_some();
    let stream = Stream { chunks: receiver, spare, current: Vec::new(), at: 0, position: 0, hashing, is_known };
    let (consumed, fed) = thread::scope(|scope| {
        let feeder = Feeder { expected, limits, progress, chunks, spare: spares, abandoned: &abandoned };
        let reading = thread::Builder::new().name("inflate".into());
        let reading = reading.spawn_scoped(scope, move || feeder.run(blob)).map_err(Error::Read)?;
        let consumed = consume(stream).map(|(value, stream)| (value, stream.finish()));
        // Where there is no digest that could tell more, the rest of the blob is of no interest; it need not have an end.
        if consumed.as_ref().is_err_and(|e| !e.blames_the_blob() || expected.blob.is_none()) {
            abandoned.store(true, Ordering::Relaxed);
        }
        match reading.join() {
            Ok(fed) => Ok::<_, Error>((consumed, fed)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    let consumed = match consumed {
        Err(e) if !e.blames_the_blob() => return Err(e),
        other => other,
    };
    fed.result?;
    let (value, (diff_id, tar_size)) = consumed?;
    let found = diff_id.filter(|_| fed.compression != Compression::None).unwrap_or(fed.digest);
    if let Some(DiffId(expected)) = expected.diff_id
        && expected != found
    {
        return Err(Error::Digest { what: "diff_id", expected, found });
    }
    let Fed { digest: blob, size, compression, .. } = fed;
    Ok((value, Digests { blob, size, diff_id: DiffId(found), tar_size, compression }))
}

/// [`super::unpack`].
pub(super) fn unpack(blob: impl Read + Send, layer: Fd<'_>, options: &Options<'_>) -> Result<Unpacked> {
    let consume = |stream| -> Result<((Counts, Pending), Stream)> {
        let mut reader = Reader::new(stream, options.limits);
        let mut applier = Applier::new(layer, options)?;
        while let Some(entry) = reader.next()? {
            applier.apply(entry, &mut reader)?;
        }
        Ok((applier.finish(), reader.into_stream()?))
    };
    let ((counts, pending), digests) = run(blob, options.expected, options.limits, options.progress, consume)?;
    Ok(Unpacked { digests, counts, pending })
}

/// [`super::digests`].
pub(super) fn digests(blob: impl Read + Send, expected: Expected, limits: &Limits) -> Result<Digests> {
    run(blob, expected, limits, None, |stream| Ok(((), stream))).map(|((), digests)| digests)
}
