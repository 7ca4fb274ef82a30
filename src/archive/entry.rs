//! From the tar stream to entries: everything that stands before an entry's data is taken together here.

use super::api::Limits;
use super::error::{Error, Result, shown};
use super::header::{BLOCK, Header};
use super::names;
use super::pax::Extensions;
use super::sparse::{self, Pieces};
use super::stream::Stream;
use crate::sys::Time;
use std::ffi::CString;

/// What an entry makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, with its target as it stands.
    Symlink(Vec<u8>),
    /// A hard link, with the normalised path of its target.
    Link(Vec<u8>),
    /// A character device: major and minor number.
    Char(u32, u32),
    /// A block device: major and minor number.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}

/// Attributes of an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits only.
    pub mode: u32,
    /// Time of the last change.
    pub mtime: Time,
    /// Extended attributes under the names that users see.
    pub xattrs: Vec<(CString, Vec<u8>)>,
}

/// One entry of a layer tar.
#[derive(Debug)]
pub struct Entry {
    /// As it stands in the archive, for messages.
    pub name: Vec<u8>,
    /// Relative to the layer, without `.` and `..`.
    pub path: Vec<u8>,
    /// What it makes.
    pub what: What,
    /// Its attributes.
    pub meta: Meta,
    /// Length of the file in bytes, holes included.
    pub size: u64,
    /// Where the data of a sparse file go.
    pub(super) sparse: Option<Pieces>,
}

/// Reads entry after entry.
pub(super) struct Reader<'a> {
    stream: Stream,
    limits: &'a Limits,
    entries: u64,
    /// Bytes of the current entry's data not yet read, and of the padding after them.
    left: u64,
    padding: u64,
    /// A block that was looked at too early.
    peeked: Option<Header>,
}

impl<'a> Reader<'a> {
    pub fn new(stream: Stream, limits: &'a Limits) -> Self {
        Self { stream, limits, entries: 0, left: 0, padding: 0, peeked: None }
    }

    /// The stream at its end: what follows the archive is part of the blob, too.
    pub fn into_stream(mut self) -> Result<Stream> {
        let end = self.stream.position();
        while self.stream.pass() {
            if self.stream.position() - end > self.limits.padding {
                let what = format!("goes on for more than {} bytes behind its end", self.limits.padding);
                return Err(Error::Malformed { at: end, what: what.into() });
            }
        }
        Ok(self.stream)
    }

    /// The next entry; `None` at the end of the archive.
    pub fn next(&mut self) -> Result<Option<Entry>> {
        self.stream.skip(self.left)?;
        self.stream.skip_padding(self.padding)?;
        (self.left, self.padding) = (0, 0);
        let mut ext = Extensions::default();
        let (mut headers, mut metadata) = (0, 0);
        loop {
            let Some(header) = self.header()? else {
                let nothing = headers == 0;
                return if nothing { Ok(None) } else { Err(self.malformed("ends after an extension header")) };
            };
            match header.kind() {
                b'x' | b'X' | b'g' | b'L' | b'K' => {
                    headers += 1;
                    if headers > self.limits.headers {
                        return Err(Error::entry(&header.name(), "has too many extension headers"));
                    }
                    self.extension(&header, &mut ext, &mut metadata)?;
                }
                // The label of a volume, which is not a file.
                b'V' => self.skip_data(&header)?,
                _ => return self.entry(&header, ext).map(Some),
            }
        }
    }

    /// The next piece of the current entry's data, at most `most` bytes; empty at its end.
    pub fn data(&mut self, most: u64) -> Result<&[u8]> {
        let most = most.min(self.left);
        if most == 0 {
            return Ok(&[]);
        }
        let piece = self.stream.take(most)?;
        self.left -= piece.len() as u64;
        Ok(piece)
    }

    fn malformed(&self, what: &'static str) -> Error {
        Error::Malformed { at: self.stream.position(), what: what.into() }
    }

    /// A header that is not zero; `None` at the end, with or without the two zero blocks.
    fn header(&mut self) -> Result<Option<Header>> {
        let header = match self.peeked.take() {
            Some(header) => header,
            None => match self.block()? {
                Some(header) => header,
                None => return Ok(None),
            },
        };
        if header.is_zero() {
            return match self.block()? {
                Some(second) if !second.is_zero() => Err(self.malformed("goes on after a single zero block")),
                _ => Ok(None),
            };
        }
        if !header.is_valid() {
            return Err(self.malformed("header with a wrong checksum"));
        }
        Ok(Some(header))
    }

    fn block(&mut self) -> Result<Option<Header>> {
        let mut block = [0; BLOCK];
        Ok(self.stream.read_exact_or_end(&mut block)?.then_some(Header(block)))
    }

    fn extension(&mut self, header: &Header, ext: &mut Extensions, metadata: &mut u64) -> Result<()> {
        let wrong = |what: &'static str| Error::entry(&header.name(), what);
        let size = unsigned(header.size()).map_err(wrong)?;
        *metadata += size.min(self.limits.metadata + 1);
        if *metadata > self.limits.metadata {
            return Err(wrong("has extension headers that are too long"));
        }
        if header.kind() == b'g' {
            log::debug!("a global PAX header is ignored");
            return self.stream.skip(padded(size));
        }
        let mut data = vec![0; usize::try_from(size).map_err(|_| wrong("is too long"))?];
        if size > 0 && !self.stream.read_exact_or_end(&mut data)? {
            return Err(wrong("is cut off"));
        }
        self.stream.skip(padded(size) - size)?;
        match header.kind() {
            b'L' => ext.gnu_path = Some(without_nul(data)),
            b'K' => ext.gnu_linkpath = Some(without_nul(data)),
            _ => ext.parse(&data, self.limits.sparse).map_err(wrong)?,
        }
        Ok(())
    }

    fn skip_data(&mut self, header: &Header) -> Result<()> {
        let size = unsigned(header.size()).map_err(|what| Error::entry(&header.name(), what))?;
        self.stream.skip(padded(size))
    }

    fn entry(&mut self, header: &Header, mut ext: Extensions) -> Result<Entry> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(Error::Limit(format!("more than {} entries", self.limits.entries).into()));
        }
        let is_file = matches!(header.kind(), 0 | b'0' | b'7' | b'S');
        let name = one_of(ext.gnu_path.take(), ext.path.take()).map_err(|what| Error::entry(&header.name(), what))?;
        let name = match ext.sparse.name.take().filter(|_| is_file) {
            Some(real) => real,
            None => name.unwrap_or_else(|| header.name()),
        };
        let wrong = |what: &'static str| Error::entry(&name, what);
        let path = names::normalise(&name, self.limits).map_err(wrong)?;
        let size = ext.size.map_or_else(|| unsigned(header.size()), Ok).map_err(wrong)?;
        self.check_size(&name, size)?;
        let link = one_of(ext.gnu_linkpath.take(), ext.linkpath.take()).map_err(wrong)?;
        let link = || link.clone().unwrap_or_else(|| header.link());
        let what = match header.kind() {
            // As archives of the seventh edition have directories.
            0 | b'0' if name.ends_with(b"/") => What::Directory,
            0 | b'0' | b'7' | b'S' => What::File,
            b'1' => What::Link(names::normalise(&link(), self.limits).map_err(|_| wrong(BAD_TARGET))?),
            b'2' => What::Symlink(symlink_target(link()).map_err(wrong)?),
            b'3' => device(header).map(|(major, minor)| What::Char(major, minor)).map_err(wrong)?,
            b'4' => device(header).map(|(major, minor)| What::Block(major, minor)).map_err(wrong)?,
            b'5' | b'D' => What::Directory,
            b'6' => What::Fifo,
            _ => return Err(wrong("is of an unknown type")),
        };
        let meta = meta(header, &mut ext).map_err(wrong)?;
        let mut entry = Entry { name: name.clone(), path, what, meta, size, sparse: None };
        (self.left, self.padding) = (size, padded(size) - size);
        if entry.what == What::File {
            self.sparse(header, &ext, &mut entry)?;
        } else if header.kind() != b'D' {
            self.data_of_no_file(size)?;
        }
        Ok(entry)
    }

    fn check_size(&self, name: &[u8], size: u64) -> Result<()> {
        let most = self.limits.bytes;
        if size <= most {
            return Ok(());
        }
        Err(Error::Limit(format!("entry '{}' has {size} bytes, more than {most}", shown(name)).into()))
    }

    /// Whether anything but a file has data is told apart by what follows: some programs give the length of the file
    /// that a hard link points to, without data; others do write them again.
    fn data_of_no_file(&mut self, size: u64) -> Result<()> {
        (self.left, self.padding) = (0, 0);
        if size == 0 {
            return Ok(());
        }
        match self.block()? {
            Some(next) if next.is_zero() || next.is_valid() => self.peeked = Some(next),
            Some(_) => self.stream.skip(padded(size) - BLOCK as u64)?,
            None => {}
        }
        Ok(())
    }

    fn sparse(&mut self, header: &Header, ext: &Extensions, entry: &mut Entry) -> Result<()> {
        let limit = self.limits.sparse;
        let wrong = |what: &'static str| Error::entry(&entry.name, what);
        let mut pieces = Vec::new();
        if header.kind() == b'S' {
            entry.size = unsigned(header.sparse_size()).map_err(wrong)?;
            let (mut found, mut more) = header.sparse_pieces(false).map_err(wrong)?;
            loop {
                for (offset, len) in found {
                    let piece = (unsigned(Ok(offset)).map_err(wrong)?, unsigned(Ok(len)).map_err(wrong)?);
                    pieces.push(piece);
                }
                if pieces.len() > limit {
                    return Err(wrong(sparse::TOO_MANY));
                }
                if !more {
                    break;
                }
                let block = self.block()?.ok_or_else(|| wrong("is cut off"))?;
                (found, more) = block.sparse_pieces(true).map_err(wrong)?;
                if found.is_empty() && more {
                    return Err(wrong("has an empty piece of a sparse map"));
                }
            }
        } else if ext.sparse.is_any() {
            if let Some(size) = ext.sparse.size {
                entry.size = size;
            }
            if ext.sparse.major.unwrap_or(0) > 0 || ext.sparse.minor.unwrap_or(0) > 1 {
                if (ext.sparse.major, ext.sparse.minor.unwrap_or(0)) != (Some(1), 0) {
                    return Err(wrong("is sparse in an unknown format"));
                }
                pieces = self.map_in_data(&entry.name)?;
            } else {
                pieces = ext.sparse.map.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
            }
        } else {
            return Ok(());
        }
        self.check_size(&entry.name, entry.size)?;
        entry.sparse = Some(sparse::check(pieces, entry.size, self.left).map_err(wrong)?);
        Ok(())
    }

    /// The map of format 1.0: decimal numbers, a line each, at the start of the data, padded to a block.
    fn map_in_data(&mut self, name: &[u8]) -> Result<Vec<(u64, u64)>> {
        let mut map = sparse::MapReader::new(self.limits.sparse);
        loop {
            if self.left < BLOCK as u64 {
                return Err(Error::entry(name, "has a sparse map that does not end"));
            }
            let block = self.block()?.ok_or_else(|| Error::entry(name, "is cut off"))?;
            self.left -= BLOCK as u64;
            if let Some(pieces) = map.feed(&block.0).map_err(|what| Error::entry(name, what))? {
                return Ok(pieces);
            }
        }
    }
}

const BAD_TARGET: &str = "is a hard link to an empty, overlong or escaping name";

fn padded(size: u64) -> u64 {
    size.div_ceil(BLOCK as u64) * BLOCK as u64
}

fn without_nul(mut data: Vec<u8>) -> Vec<u8> {
    if let Some(end) = data.iter().position(|b| *b == 0) {
        data.truncate(end);
    }
    data
}

/// A GNU and a PAX name together would be read differently by different programs.
fn one_of(gnu: Option<Vec<u8>>, pax: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, &'static str> {
    match (gnu, pax) {
        (Some(gnu), Some(pax)) if gnu != pax => Err("has two long names, a GNU and a PAX one, that differ"),
        (gnu, pax) => Ok(gnu.or(pax)),
    }
}

fn unsigned(number: Result<i128, &'static str>) -> Result<u64, &'static str> {
    let number = number?;
    // Offsets in files are signed.
    i64::try_from(number).ok().and_then(|n| u64::try_from(n).ok()).ok_or("has a number out of range in its header")
}

fn owner(number: i128) -> Result<u32, &'static str> {
    u32::try_from(number).ok().filter(|id| *id != u32::MAX).ok_or("has an owner or group out of range")
}

fn device(header: &Header) -> Result<(u32, u32), &'static str> {
    const WRONG: &str = "has a device number out of range";
    let (major, minor) = header.device()?;
    let within = |n: i128, bits: u32| u32::try_from(n).ok().filter(|n| *n < 1 << bits).ok_or(WRONG);
    Ok((within(major, 12)?, within(minor, 20)?))
}

fn symlink_target(target: Vec<u8>) -> Result<Vec<u8>, &'static str> {
    match target.len() {
        0 => Err("is a symbolic link to nothing"),
        // PATH_MAX counts the final NUL.
        4096.. => Err("has a target that is too long"),
        _ => Ok(target),
    }
}

fn meta(header: &Header, ext: &mut Extensions) -> Result<Meta, &'static str> {
    let uid = ext.uid.map_or_else(|| header.uid(), |uid| Ok(uid.into()))?;
    let gid = ext.gid.map_or_else(|| header.gid(), |gid| Ok(gid.into()))?;
    let mtime = match ext.mtime {
        Some(time) => time,
        None => Time { sec: i64::try_from(header.mtime()?).map_err(|_| "has a time out of range")?, nsec: 0 },
    };
    let mode = u32::try_from(header.mode()? & 0o7777).unwrap_or(0);
    Ok(Meta { uid: owner(uid)?, gid: owner(gid)?, mode, mtime, xattrs: std::mem::take(&mut ext.xattrs) })
}
