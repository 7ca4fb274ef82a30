//! From a tar stream to a blob.

use super::api::Compression;
use flate2::GzBuilder;
use flate2::write::GzEncoder;
use std::io::{self, Write};

/// What gzip does by default.
const GZIP_LEVEL: u32 = 6;
/// What zstd does by default.
const ZSTD_LEVEL: i32 = 3;
/// "Unknown" (RFC 1952): the blob must not tell where it was made.
const NO_SYSTEM: u8 = 255;

/// Compresses what is written to it, in one piece and with fixed settings: the same stream gives the same blob, as long as
/// the compression library is the same.
pub struct Compressor<W: Write>(Kind<W>);

enum Kind<W: Write> {
    None(W),
    Gzip(Box<GzEncoder<W>>),
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Compressor<W> {
    /// Begins a blob.
    pub fn new(out: W, compression: Compression) -> io::Result<Self> {
        Ok(Self(match compression {
            Compression::None => Kind::None(out),
            Compression::Gzip => {
                let builder = GzBuilder::new().mtime(0).operating_system(NO_SYSTEM);
                Kind::Gzip(Box::new(builder.write(out, flate2::Compression::new(GZIP_LEVEL))))
            }
            Compression::Zstd => {
                let mut encoder = zstd::Encoder::new(out, ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                Kind::Zstd(encoder)
            }
        }))
    }

    /// Ends the blob.
    pub fn finish(self) -> io::Result<W> {
        let mut out = match self.0 {
            Kind::None(out) => out,
            Kind::Gzip(encoder) => encoder.finish()?,
            Kind::Zstd(encoder) => encoder.finish()?,
        };
        out.flush()?;
        Ok(out)
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Kind::None(out) => out.write(bytes),
            Kind::Gzip(encoder) => encoder.write(bytes),
            Kind::Zstd(encoder) => encoder.write(bytes),
        }
    }

    /// Does nothing: a flush would end a block and make the blob longer. [`Compressor::finish`] writes everything.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
