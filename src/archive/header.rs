//! The 512 bytes before every entry: V7, POSIX ustar and GNU.

use std::ops::Range;

/// Size of a block, to which everything in an archive is padded.
pub(super) const BLOCK: usize = 512;

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const TYPE: usize = 156;
const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..265;
const MAJOR: Range<usize> = 329..337;
const MINOR: Range<usize> = 337..345;
const PREFIX: Range<usize> = 345..500;
/// Four entries of a sparse map in an old GNU header, and 21 in each block that continues it.
const SPARSE: Range<usize> = 386..482;
const SPARSE_MORE: usize = 482;
const SPARSE_SIZE: Range<usize> = 483..495;
const CONTINUED: Range<usize> = 0..504;
const CONTINUED_MORE: usize = 504;

/// Offset and length of a piece of a sparse file.
type Piece = (i128, i128);

/// A header block.
#[derive(Clone, Copy)]
pub(super) struct Header(pub [u8; BLOCK]);

impl Header {
    /// Whether this is one of the zero blocks that end an archive.
    pub fn is_zero(&self) -> bool {
        self.0.iter().all(|b| *b == 0)
    }

    /// Whether the checksum is right, computed with unsigned or, as some old programs did, with signed bytes.
    pub fn is_valid(&self) -> bool {
        let Ok(Some(sum)) = self.number(CHECKSUM).map(|n| i64::try_from(n).ok()) else { return false };
        let (mut unsigned, mut signed) = (0i64, 0i64);
        for (at, byte) in self.0.iter().enumerate() {
            let byte = if CHECKSUM.contains(&at) { b' ' } else { *byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        sum == unsigned || sum == signed
    }

    /// The type flag.
    pub fn kind(&self) -> u8 {
        self.0[TYPE]
    }

    /// The name, with the prefix that only POSIX headers have.
    pub fn name(&self) -> Vec<u8> {
        let name = until_nul(&self.0[NAME]);
        let prefix = if self.0[MAGIC].starts_with(b"ustar\0") { until_nul(&self.0[PREFIX]) } else { b"" };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    /// The target of a link.
    pub fn link(&self) -> Vec<u8> {
        until_nul(&self.0[LINK]).to_vec()
    }

    pub fn mode(&self) -> Result<i128, &'static str> {
        self.number(MODE)
    }

    pub fn uid(&self) -> Result<i128, &'static str> {
        self.number(UID)
    }

    pub fn gid(&self) -> Result<i128, &'static str> {
        self.number(GID)
    }

    pub fn size(&self) -> Result<i128, &'static str> {
        self.number(SIZE)
    }

    pub fn mtime(&self) -> Result<i128, &'static str> {
        self.number(MTIME)
    }

    pub fn device(&self) -> Result<(i128, i128), &'static str> {
        Ok((self.number(MAJOR)?, self.number(MINOR)?))
    }

    /// Length of a sparse file, from an old GNU header.
    pub fn sparse_size(&self) -> Result<i128, &'static str> {
        self.number(SPARSE_SIZE)
    }

    /// The pieces in the sparse map of this header, or of the block that continues one, and whether more follow.
    pub fn sparse_pieces(&self, continued: bool) -> Result<(Vec<Piece>, bool), &'static str> {
        let (all, more) = if continued { (CONTINUED, CONTINUED_MORE) } else { (SPARSE, SPARSE_MORE) };
        let mut pieces = Vec::new();
        for at in all.step_by(24) {
            if self.0[at] == 0 {
                break;
            }
            pieces.push((self.number(at..at + 12)?, self.number(at + 12..at + 24)?));
        }
        Ok((pieces, self.0[more] != 0))
    }

    /// An octal number, or a binary one, which may be negative, when the first bit is set; nothing at all is 0.
    fn number(&self, field: Range<usize>) -> Result<i128, &'static str> {
        let field = &self.0[field];
        if field[0] & 0x80 != 0 {
            // The second bit is the sign.
            let first = i128::from((field[0] << 1).cast_signed() >> 1);
            return Ok(field[1..].iter().fold(first, |n, b| n << 8 | i128::from(*b)));
        }
        let digits = field.trim_ascii_start();
        let end = digits.iter().position(|b| matches!(b, 0 | b' ')).unwrap_or(digits.len());
        if digits[end..].iter().any(|b| !matches!(b, 0 | b' ')) {
            return Err("has a malformed number in its header");
        }
        digits[..end].iter().try_fold(0, |n, b| match b {
            b'0'..=b'7' => Ok(n << 3 | i128::from(b - b'0')),
            _ => Err("has a malformed number in its header"),
        })
    }
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.iter().position(|b| *b == 0).map_or(field, |end| &field[..end])
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn with(field: Range<usize>, bytes: &[u8]) -> Header {
        let mut header = Header([0; BLOCK]);
        header.0[field][..bytes.len()].copy_from_slice(bytes);
        header
    }

    #[test]
    fn numbers() {
        for (bytes, want) in [
            (&b"0000644\0"[..], 0o644),
            (b"   644 \0", 0o644),
            (b"", 0),
            (b"7777777", 0o7777777),
            (b"12345670", 0o12345670),
            (b"\x80\0\0\0\0\x20\0\0", 1 << 21),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", -2),
        ] {
            assert_eq!(with(UID, bytes).uid().unwrap(), want, "{bytes:?}");
        }
        for bytes in [&b"8"[..], b"-1", b"1 1", b"0x1", b"1\x001"] {
            assert!(with(UID, bytes).uid().is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn names_and_prefixes() {
        let mut header = with(NAME, b"name");
        header.0[PREFIX][..3].copy_from_slice(b"dir");
        assert_eq!(header.name(), b"name");
        header.0[MAGIC].copy_from_slice(b"ustar\x0000");
        assert_eq!(header.name(), b"dir/name");
        header.0[MAGIC].copy_from_slice(b"ustar  \0");
        assert_eq!(header.name(), b"name");
        assert_eq!(with(NAME, &[b'x'; 100]).name().len(), 100);
    }

    #[test]
    fn agrees_with_the_tar_crate() {
        let mut built = tar::Header::new_gnu();
        built.set_path("some/name").unwrap();
        built.set_uid(1 << 30);
        built.set_size(12345);
        built.set_mtime(1 << 40);
        built.set_cksum();
        let header = Header(*built.as_bytes());
        assert!(header.is_valid() && !header.is_zero());
        assert_eq!((header.uid(), header.size(), header.mtime()), (Ok(1 << 30), Ok(12345), Ok(1 << 40)));
        let mut wrong = header;
        wrong.0[0] += 1;
        assert!(!wrong.is_valid());
    }
}
