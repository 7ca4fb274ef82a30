//! From a blob to the tar stream in it. The first bytes decide; media types are wrong too often.

use super::api::Compression;
use super::error::{Error, Result};
use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, BufReader, Read};

/// What is read from the blob at a time.
const READ: usize = 256 << 10;

/// The largest zstd window, as a power of two: 128 MiB, which is also what the format's own tools take at the most.
const WINDOW: u32 = 27;

impl Compression {
    /// How data that begin so are compressed; four bytes are enough.
    #[must_use]
    pub fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            start if is_zstd(start) => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// A stream that yields the tar.
pub(super) enum Decoder<R: Read> {
    Plain(BufReader<R>),
    /// `None` only while one member is exchanged for the next.
    Gzip(Option<Box<GzDecoder<BufReader<R>>>>),
    Zstd(Box<zstd::Decoder<'static, BufReader<R>>>),
}

impl<R: Read> Decoder<R> {
    /// Looks at the first bytes. `blob` must fill the buffers that it is given, unless it ends.
    pub fn new(blob: R) -> Result<Self> {
        let mut blob = BufReader::with_capacity(READ, blob);
        let start = blob.fill_buf().map_err(damaged)?;
        if let Some(name) = unsupported(start) {
            return Err(Error::Compression(format!("compressed with {name}, which is not supported").into()));
        }
        match Compression::of(start) {
            Compression::Gzip => Ok(Self::Gzip(Some(Box::new(GzDecoder::new(blob))))),
            Compression::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(blob).map_err(damaged)?;
                decoder.window_log_max(WINDOW).map_err(damaged)?;
                Ok(Self::Zstd(Box::new(decoder)))
            }
            Compression::None => Ok(Self::Plain(blob)),
        }
    }

    /// Which compression it is.
    pub fn compression(&self) -> Compression {
        match self {
            Self::Plain(_) => Compression::None,
            Self::Gzip(_) => Compression::Gzip,
            Self::Zstd(_) => Compression::Zstd,
        }
    }

    /// Appends to `chunk` up to its capacity; less means that the stream has ended.
    pub fn fill(&mut self, chunk: &mut Vec<u8>) -> Result<()> {
        let mut filled = chunk.len();
        let room = chunk.capacity();
        chunk.resize(room, 0);
        let result = loop {
            if filled == room {
                break Ok(());
            }
            match self.read(&mut chunk[filled..]) {
                Ok(0) => break Ok(()),
                Ok(n) => filled += n,
                Err(e) => break Err(e),
            }
        };
        chunk.truncate(filled);
        result
    }

    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        match self {
            Self::Plain(blob) => blob.read(buf).map_err(damaged),
            Self::Zstd(decoder) => decoder.read(buf).map_err(damaged),
            Self::Gzip(member) => read_gzip(member, buf),
        }
    }
}

/// Reads through all members; zeros may follow the last one, as some writers pad.
fn read_gzip<R: Read>(member: &mut Option<Box<GzDecoder<BufReader<R>>>>, buf: &mut [u8]) -> Result<usize> {
    loop {
        let Some(decoder) = member else { return Ok(0) };
        match decoder.read(buf).map_err(damaged)? {
            0 => {}
            n => return Ok(n),
        }
        let Some(mut blob) = member.take().map(|done| done.into_inner()) else { return Ok(0) };
        let next = blob.fill_buf().map_err(damaged)?;
        if next.first() == Some(&0x1f) {
            *member = Some(Box::new(GzDecoder::new(blob)));
            continue;
        }
        return only_zeros(blob).map(|()| 0);
    }
}

fn only_zeros(mut blob: impl BufRead) -> Result<()> {
    loop {
        let rest = blob.fill_buf().map_err(damaged)?;
        if rest.iter().any(|b| *b != 0) {
            return Err(Error::Compression("something other than zeros follows the gzip data".into()));
        }
        match rest.len() {
            0 => return Ok(()),
            n => blob.consume(n),
        }
    }
}

/// A frame, or one that decoders skip (RFC 8878, 3.1).
fn is_zstd(start: &[u8]) -> bool {
    match start {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => true,
        [first, 0x2a, 0x4d, 0x18, ..] => first & 0xf0 == 0x50,
        _ => false,
    }
}

fn unsupported(start: &[u8]) -> Option<&'static str> {
    let known: [(&[u8], &str); 3] = [(b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"\x04\x22\x4d\x18", "lz4")];
    // A tar file whose first name begins like that has the mark of its header further on.
    let is_tar = start.get(257..262) == Some(b"ustar");
    known.iter().find(|(magic, _)| !is_tar && start.starts_with(magic)).map(|(_, name)| *name)
}

fn damaged(e: io::Error) -> Error {
    if e.kind() == io::ErrorKind::UnexpectedEof {
        return Error::Compression("the compressed data are cut off".into());
    }
    Error::Compression(format!("the compressed data are damaged: {e}").into())
}
