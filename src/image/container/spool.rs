//! Turning what cannot be read at any place - streams and compressed archives - into a file that can.

use crate::image::error::{Error, Result};
use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// An archive shorter than this may be any number of times longer than what it was compressed to: zeros compress well.
const FREE: u64 = 64 << 20;

/// How many times longer a longer one may be, as with layers.
const RATIO: u64 = 1000;

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

    /// The whole of `reader`, decompressed, in a temporary file.
    pub(super) fn take(self, reader: &mut dyn Read, name: &str) -> Result<File> {
        let what = format!("{name}: writing a temporary file in {}", self.dir.display());
        let mut file = tempfile::tempfile_in(self.dir).map_err(Error::io(&what))?;
        let mut start = [0; 6];
        let have = fill(reader, &mut start).map_err(Error::io(name))?;
        let start = &start[..have];
        let packing = Packing::of(start).map_err(|why| Error::container(name, why))?;
        let read = Cell::new(0);
        let mut input = Counted { inner: start.chain(reader), count: &read };
        let mut copy = |input: &mut dyn Read| self.copy(input, &read, &mut file, name, &what);
        let count = match packing {
            Packing::None => copy(&mut input),
            Packing::Gzip => copy(&mut flate2::bufread::MultiGzDecoder::new(buffered(input))),
            Packing::Zstd => {
                copy(&mut zstd::stream::read::Decoder::with_buffer(buffered(input)).map_err(Error::io(name))?)
            }
        }?;
        if count == 0 {
            return Err(Error::container(name, "it is empty"));
        }
        Ok(file)
    }

    /// Copies to the end; errors tell reading from writing. `read` is how many bytes the input has taken so far.
    fn copy(self, input: &mut dyn Read, read: &Cell<u64>, file: &mut File, name: &str, what: &str) -> Result<u64> {
        let mut buffer = vec![0; 256 << 10];
        let mut count = 0;
        loop {
            let n = match input.read(&mut buffer) {
                Ok(0) => return Ok(count),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Error::Io { what: format!("{name}: reading the archive"), source: e }),
            };
            count += n as u64;
            if count > self.limit {
                let limit = self.limit;
                return Err(Error::TooLarge { what: format!("{name} (unpacked)"), size: count, limit });
            }
            if count > FREE && count / RATIO > read.get() {
                let why = format!("it is a bomb: unpacked it is more than {RATIO} times longer");
                return Err(Error::container(name, why));
            }
            file.write_all(&buffer[..n]).map_err(Error::io(what))?;
        }
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

fn buffered<R: Read>(input: R) -> io::BufReader<R> {
    io::BufReader::with_capacity(128 << 10, input)
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
