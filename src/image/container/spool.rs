//! Turning what cannot be read at any place - streams and compressed archives - into a file that can.

use super::tarindex::{Tape, TarIndex};
use crate::image::error::{Error, Result};
use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

/// An archive shorter than this may be any number of times longer than what it was compressed to: zeros compress well.
const FREE: u64 = 64 << 20;

/// How many times longer a longer one may be, as with layers.
const RATIO: u64 = 1000;

/// The most bytes that are read behind the end of an archive.
const MOST_PADDING: u64 = 64 << 20;

/// Where archives are put that come as a stream or compressed.
#[derive(Debug, Clone, Copy)]
pub struct Spool<'a> {
    /// The directory for the temporary file, which never has a name there and goes with the last descriptor.
    pub dir: &'a Path,
    /// The most bytes that are written, after decompression.
    pub limit: u64,
}

impl<'a> Spool<'a> {
    /// A spool in `dir` with the usual limit of 1 TiB.
    #[must_use]
    pub fn new(dir: &'a Path) -> Self {
        Self { dir, limit: 1 << 40 }
    }

    /// The archive that `reader` begins with, decompressed, in a temporary file, and where its members are.
    ///
    /// Headers are looked at before anything behind them is written, so that no more is than an archive has: a stream
    /// of anything else, endless or not, fails with its first block, and one of zeros ends with its second.
    pub(super) fn take(self, reader: &mut dyn Read, name: &str) -> Result<(File, TarIndex)> {
        let file = tempfile::tempfile_in(self.dir).map_err(self.failed(name))?;
        let mut start = [0; 6];
        let have = fill(reader, &mut start).map_err(Error::io(name))?;
        let start = &start[..have];
        let packing = Packing::of(start).map_err(|why| Error::container(name, why))?;
        let read = Cell::new(0);
        let input = Counted { inner: start.chain(reader), count: &read };
        let input: Box<dyn Read + '_> = match packing {
            Packing::None => Box::new(input),
            Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(buffered(input))),
            Packing::Zstd => {
                Box::new(zstd::stream::read::Decoder::with_buffer(buffered(input)).map_err(Error::io(name))?)
            }
        };
        let input = BufReader::with_capacity(256 << 10, input);
        let mut spooling = Spooling { spool: self, input, read: &read, file, count: 0, name };
        let index = TarIndex::read(&mut spooling, name)?;
        spooling.drain()?;
        Ok((spooling.file, index))
    }

    /// The error of the temporary file.
    fn failed(self, name: &str) -> impl FnOnce(io::Error) -> Error {
        let what = format!("{name}: writing a temporary file in {}", self.dir.display());
        move |e| match e.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                let hint = "an archive that is compressed, or no file, needs room there for all of it, unpacked";
                Error::container(what, format!("{e}; {hint}"))
            }
            _ => Error::io(what)(e),
        }
    }
}

/// An archive on its way into the temporary file.
struct Spooling<'a, R> {
    spool: Spool<'a>,
    input: BufReader<R>,
    /// How many bytes were read before decompression.
    read: &'a Cell<u64>,
    file: File,
    /// How many there are in the file.
    count: u64,
    name: &'a str,
}

impl<R: Read> Spooling<'_, R> {
    /// What comes next; empty at the end.
    fn next(&mut self) -> Result<&[u8]> {
        while let Err(e) = self.input.fill_buf() {
            if e.kind() != io::ErrorKind::Interrupted {
                return Err(self.unread(e));
            }
        }
        Ok(self.input.buffer())
    }

    fn unread(&self, source: io::Error) -> Error {
        Error::Io { what: format!("{}: reading the archive", self.name), source }
    }

    /// Counts what is about to be written.
    fn grow(&mut self, bytes: usize) -> Result<()> {
        self.count += bytes as u64;
        if self.count > FREE && self.count / RATIO > self.read.get() {
            let why = format!("it is a bomb: unpacked it is more than {RATIO} times longer");
            return Err(Error::container(self.name, why));
        }
        Ok(())
    }

    /// Whether so many more bytes are too many.
    fn check(&self, more: u64) -> Result<()> {
        let (limit, size) = (self.spool.limit, self.count.saturating_add(more));
        if size > limit {
            return Err(Error::TooLarge { what: format!("{} (unpacked)", self.name), size, limit });
        }
        Ok(())
    }

    /// Reads what follows the archive: whoever writes it would otherwise be told that nobody wants it, and how a
    /// compressed one ends says whether it is sound. Of much more than programs write as padding nothing is read.
    fn drain(&mut self) -> Result<()> {
        let mut left = MOST_PADDING;
        while left > 0 {
            match self.next()?.len() {
                0 => break,
                n => {
                    self.input.consume(n);
                    left = left.saturating_sub(n as u64);
                }
            }
        }
        Ok(())
    }
}

impl<R: Read> Tape for Spooling<'_, R> {
    fn fill(&mut self, buf: &mut [u8]) -> Result<usize> {
        self.check(buf.len() as u64)?;
        let have = fill(&mut self.input, buf).map_err(|e| self.unread(e))?;
        self.grow(have)?;
        self.file.write_all(&buf[..have]).map_err(self.spool.failed(self.name))?;
        Ok(have)
    }

    fn pass(&mut self, count: u64) -> Result<u64> {
        self.check(count)?;
        let mut left = count;
        while left > 0 {
            let n = self.next()?.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if n == 0 {
                break;
            }
            self.grow(n)?;
            self.file.write_all(&self.input.buffer()[..n]).map_err(self.spool.failed(self.name))?;
            self.input.consume(n);
            left -= n as u64;
        }
        Ok(count - left)
    }
}

/// Counts what is read.
struct Counted<'a, R> {
    inner: R,
    count: &'a Cell<u64>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.count.set(self.count.get() + n as u64);
        Ok(n)
    }
}

fn buffered<R: Read>(input: R) -> BufReader<R> {
    BufReader::with_capacity(128 << 10, input)
}

/// Reads until `buf` is full or the input ends.
fn fill(reader: &mut dyn Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while have < buf.len() {
        match reader.read(&mut buf[have..]) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(have)
}

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    None,
    Gzip,
    Zstd,
}

impl Packing {
    /// From the first bytes; an error for what is compressed in a way that is not read here.
    pub fn of(start: &[u8]) -> std::result::Result<Self, &'static str> {
        match start {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0] => Err("it is compressed with xz; only gzip and zstd are read"),
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41] => {
                Err("it is compressed with bzip2; only gzip and zstd are read")
            }
            _ => Ok(Self::None),
        }
    }
}
