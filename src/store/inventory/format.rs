//! How the objects of a layer are written, a block for each directory: first one with nothing but the root, then that of the root. Behind
//! the block of a directory come those of the directories in it, in the order of their names, each followed by what is in it.

use crate::layer::markers::is_read;
use crate::layer::xattr::Attributes;
use crate::sys::{self, Stat, Time};
use std::ffi::{CStr, CString};

/// Shortest record of an object, in bytes.
const SHORTEST: usize = 8;

/// More names of attributes than there are to be listed. An object has each of them once at most, so that looking for one takes no
/// time to speak of, whatever the bytes are.
const MOST_NAMES: u64 = 64;

/// An object of a directory, as it was when the layer was unpacked.
#[derive(Clone, Copy, Debug)]
pub struct RecordedObject<'a> {
    /// Its name in its directory.
    pub name: &'a [u8],
    /// Type, mode, owner, device number and modification time; of a regular file also the length. One that has several names in the layer has
    /// 2 links, and under all of them the same `ino`. The rest is 0.
    pub stat: Stat,
    /// The target of a symbolic link.
    pub target: &'a [u8],
    /// The attributes that belong to the format of layers.
    pub attributes: RecordedAttributes<'a>,
}

/// Recorded attributes.
#[derive(Clone, Copy, Debug)]
pub struct RecordedAttributes<'a> {
    names: &'a [Vec<u8>],
    pairs: &'a [u8],
}

/// What is left to be read of an inventory.
#[derive(Debug)]
pub struct Blocks<'a> {
    names: &'a [Vec<u8>],
    rest: Cursor<'a>,
    is_first: bool,
}

/// The names of attributes, by their numbers, and where the blocks begin.
pub(super) fn names(listing: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
    let mut rest = Cursor(listing);
    let count = rest.number().filter(|count| *count <= MOST_NAMES)?;
    let names = (0..count).map(|_| rest.piece().map(<[u8]>::to_vec)).collect::<Option<_>>()?;
    Some((names, listing.len() - rest.0.len()))
}

impl<'a> Blocks<'a> {
    pub(super) fn new(names: &'a [Vec<u8>], blocks: &'a [u8]) -> Self {
        Self { names, rest: Cursor(blocks), is_first: true }
    }

    /// What is in the next directory, in the byte order of the names; `None` when that makes no sense.
    #[allow(clippy::should_implement_trait, reason = "the end is no error, and is_at_end")]
    pub fn next(&mut self) -> Option<Vec<RecordedObject<'a>>> {
        let count = usize::try_from(self.rest.number()?).ok()?;
        let mut objects: Vec<RecordedObject<'a>> = Vec::with_capacity(count.min(self.rest.0.len() / SHORTEST));
        let (mut time, is_root) = (0, std::mem::replace(&mut self.is_first, false));
        for _ in 0..count {
            let object = self.object(&mut time)?;
            if object.name.is_empty() != is_root || objects.last().is_some_and(|last| last.name >= object.name) {
                return None;
            }
            objects.push(object);
        }
        Some(objects)
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.rest.0.is_empty()
    }

    fn object(&mut self, time: &mut i64) -> Option<RecordedObject<'a>> {
        let rest = &mut self.rest;
        let name = rest.piece().filter(|name| is_name(name))?;
        let (mode, uid, gid) = (rest.half()?, rest.half()?, rest.half()?);
        let delta = rest.number()?;
        *time = time.wrapping_add((delta >> 1).cast_signed() ^ -(delta & 1).cast_signed());
        let mtime = Time { sec: *time, nsec: rest.half().filter(|nsec| *nsec < 1_000_000_000)? };
        let ino = rest.number()?;
        let nlink = if ino == 0 { 1 } else { 2 };
        let mut stat = Stat { mode, uid, gid, mtime, ino, nlink, ..Stat::default() };
        let mut target: &[u8] = &[];
        match stat.file_type() {
            libc::S_IFREG => stat.size = rest.number()?,
            libc::S_IFLNK => target = rest.piece()?,
            libc::S_IFCHR | libc::S_IFBLK => (stat.rdev_major, stat.rdev_minor) = (rest.half()?, rest.half()?),
            libc::S_IFDIR | libc::S_IFIFO | libc::S_IFSOCK => {}
            _ => return None,
        }
        let count = rest.number().filter(|count| *count <= self.names.len() as u64)?;
        let before = rest.0;
        for _ in 0..count {
            self.names.get(usize::try_from(rest.number()?).ok()?)?;
            rest.piece()?;
        }
        let pairs = before.get(..before.len() - rest.0.len())?;
        Some(RecordedObject { name, stat, target, attributes: RecordedAttributes { names: self.names, pairs } })
    }
}

/// Whether it can be the name of an entry, or is that of the root.
fn is_name(name: &[u8]) -> bool {
    name.len() <= 255 && !matches!(name, b"." | b"..") && !name.iter().any(|byte| matches!(byte, b'/' | 0))
}

impl<'a> RecordedAttributes<'a> {
    fn pairs(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let mut rest = Cursor(self.pairs);
        std::iter::from_fn(move || {
            let name = self.names.get(usize::try_from(rest.number()?).ok()?)?;
            Some((name.as_slice(), rest.piece()?))
        })
    }
}

impl Attributes for RecordedAttributes<'_> {
    fn each_name(self, each: &mut dyn FnMut(&[u8]) -> sys::Result<()>) -> sys::Result<()> {
        self.pairs().try_for_each(|(name, _)| each(name))
    }

    fn get(self, name: &CStr) -> sys::Result<Option<Vec<u8>>> {
        Ok(self.pairs().find(|(known, _)| *known == name.to_bytes()).map(|(_, value)| value.to_vec()))
    }
}

/// Bytes that are taken from the front.
#[derive(Clone, Copy, Debug)]
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    /// A number: seven bits a byte, the lowest first, all bytes but the last with the eighth bit.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            number |= bits << shift;
            if bits << shift >> shift != bits {
                return None;
            }
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn half(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    /// A length, and so many bytes.
    fn piece(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (piece, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(piece)
    }
}

/// A listing that is being made. The root is the only object of directory 0.
#[derive(Debug, Default)]
pub(in crate::store) struct Writer {
    directories: Vec<Block>,
    names: Vec<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Block {
    bytes: Vec<u8>,
    count: u64,
    time: i64,
}

/// What is written of an object.
pub(in crate::store) struct Entry<'a> {
    pub name: &'a [u8],
    pub stat: &'a Stat,
    /// Of a file with several names: a number, not 0, that all have and no other file.
    pub link: u64,
    pub target: &'a [u8],
    /// All attributes; only those of the format are kept.
    pub attributes: &'a [(CString, Vec<u8>)],
}

impl Writer {
    /// A further directory. Its parent came before, and so did all in directories before it.
    pub fn directory(&mut self) -> usize {
        self.directories.push(Block::default());
        self.directories.len() - 1
    }

    /// Adds what comes next in a directory, in the byte order of the names.
    pub fn add(&mut self, directory: usize, entry: &Entry<'_>) {
        let Some(block) = self.directories.get_mut(directory) else { return };
        let (bytes, stat) = (&mut block.bytes, entry.stat);
        block.count += 1;
        piece(bytes, entry.name);
        [stat.mode, stat.uid, stat.gid].iter().for_each(|n| number(bytes, u64::from(*n)));
        let delta = stat.mtime.sec.wrapping_sub(block.time);
        block.time = stat.mtime.sec;
        number(bytes, ((delta << 1) ^ (delta >> 63)).cast_unsigned());
        number(bytes, stat.mtime.nsec.into());
        number(bytes, entry.link);
        match stat.file_type() {
            libc::S_IFREG => number(bytes, stat.size),
            libc::S_IFLNK => piece(bytes, entry.target),
            libc::S_IFCHR | libc::S_IFBLK => {
                [stat.rdev_major, stat.rdev_minor].iter().for_each(|n| number(bytes, u64::from(*n)));
            }
            _ => {}
        }
        let kept = || entry.attributes.iter().filter(|(name, _)| is_read(name.to_bytes()));
        number(bytes, kept().count() as u64);
        for (name, value) in kept() {
            let known = self.names.iter().position(|known| known == name.to_bytes());
            number(bytes, known.unwrap_or(self.names.len()) as u64);
            piece(bytes, value);
            if known.is_none() {
                self.names.push(name.to_bytes().to_vec());
            }
        }
    }

    /// The names of attributes, and all blocks.
    pub fn finish(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        number(&mut bytes, self.names.len() as u64);
        self.names.iter().for_each(|name| piece(&mut bytes, name));
        for block in self.directories {
            number(&mut bytes, block.count);
            bytes.extend_from_slice(&block.bytes);
        }
        bytes
    }
}

fn number(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        bytes.push(0x80 | (number & 0x7f) as u8);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn piece(bytes: &mut Vec<u8>, piece: &[u8]) {
    number(bytes, piece.len() as u64);
    bytes.extend_from_slice(piece);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The listing of a root directory with these attributes, by the numbers of their names.
    fn root(names: u64, attributes: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        number(&mut bytes, names);
        (0..names).for_each(|_| piece(&mut bytes, b"trusted.overlay.opaque"));
        bytes.extend([1, 0, 0x80, 0x80, 1, 0, 0, 0, 0, 0, attributes.len() as u8]);
        attributes.iter().for_each(|at| bytes.extend([*at, 1, b'y']));
        bytes
    }

    fn first(listing: &[u8]) -> Option<usize> {
        let (names, at) = names(listing)?;
        Blocks::new(&names, &listing[at..]).next().map(|block| block[0].attributes.pairs().count())
    }

    #[test]
    fn attributes_without_end_are_refused() {
        assert_eq!(
            [first(&root(1, &[0])), first(&root(2, &[1, 0])), first(&root(64, &[63; 64]))],
            [1, 2, 64].map(Some)
        );
        assert_eq!(
            [first(&root(1, &[0, 0])), first(&root(1, &[1])), first(&root(65, &[])), first(&root(0, &[0]))],
            [None; 4]
        );
    }
}
