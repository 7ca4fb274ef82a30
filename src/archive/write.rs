//! Writing a layer tar: POSIX ustar headers, and a PAX header before an entry when ustar cannot say all of it.
//!
//! The same calls give the same bytes: no names of users, no times but those of the entries, attributes in byte order.

use super::entry::{Meta, What};
use super::header::BLOCK;
use super::names;
use crate::layer::whiteout::{AUFS_OPAQUE, AUFS_PREFIX};
use crate::sys::Time;
use std::io::{self, Write};
use tar::{EntryType, Header};

/// What fits into the seven octal digits of modes, owners and device numbers.
const SEVEN_DIGITS: u64 = 0o7777777;
/// What fits into the eleven of sizes and times.
const ELEVEN_DIGITS: u64 = 0o77777777777;

/// Bytes of a name, of what may stand before it, and of a link's target.
const NAME: usize = 100;
const PREFIX: usize = 155;

/// The name in the header of a PAX header, which nobody looks at.
const PAX_NAME: &[u8] = b"PaxHeader";

/// Writes entry after entry. Nothing grows with what is written.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    /// Bytes of the current entry's data that are still to come, and of the padding after them.
    left: u64,
    padding: usize,
}

impl<W: Write> Writer<W> {
    /// Begins an archive.
    pub fn new(out: W) -> Self {
        Self { out, left: 0, padding: 0 }
    }

    /// Begins an entry at `path` (relative to the layer, without `.` and `..`; empty for its root). All `size` bytes of a
    /// file must follow by [`Writer::data`]; nothing else has a size.
    ///
    /// # Errors
    /// Those of the writer; `InvalidInput` when data of the entry before are missing.
    pub fn entry(&mut self, path: &[u8], what: &What, size: u64, meta: &Meta) -> io::Result<()> {
        if self.left > 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "data of the entry before are missing"));
        }
        let size = if *what == What::File { size } else { 0 };
        let (mut header, records) = header(path, what, size, meta)?;
        if !records.is_empty() {
            self.extension(&records)?;
        }
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        (self.left, self.padding) = (size, padding(size));
        Ok(())
    }

    /// The next bytes of the current file.
    ///
    /// # Errors
    /// Those of the writer; `InvalidInput` when there are more than the entry said.
    pub fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        let len = bytes.len() as u64;
        let left = self.left.checked_sub(len);
        self.left = left.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "more data than announced"))?;
        self.out.write_all(bytes)?;
        if self.left == 0 {
            self.pad()?;
        }
        Ok(())
    }

    /// Says that what the layers below have at `path` is deleted. The name must be short enough
    /// ([`crate::layer::whiteout::fits`]).
    pub fn whiteout(&mut self, path: &[u8]) -> io::Result<()> {
        let (dir, name) = names::split(path).unwrap_or_default();
        self.marker(&names::join(dir, &[AUFS_PREFIX.as_bytes(), name].concat()))
    }

    /// Says that nothing of the layers below shows in the directory at `path`.
    pub fn opaque(&mut self, path: &[u8]) -> io::Result<()> {
        self.marker(&names::join(path, AUFS_OPAQUE.as_bytes()))
    }

    /// Ends the archive.
    pub fn finish(mut self) -> io::Result<W> {
        if self.left > 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "data of the last entry are missing"));
        }
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// An empty file of root from 1970: markers have nothing but a name.
    fn marker(&mut self, path: &[u8]) -> io::Result<()> {
        self.entry(path, &What::File, 0, &Meta::default())
    }

    fn extension(&mut self, records: &[u8]) -> io::Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_mode(0o644);
        put(&mut header, |fields| &mut fields.name, PAX_NAME)?;
        owner_and_time(&mut header, 0, 0, 0);
        header.set_size(records.len() as u64);
        header.set_cksum();
        self.out.write_all(header.as_bytes())?;
        self.out.write_all(records)?;
        self.padding = padding(records.len() as u64);
        self.pad()
    }

    fn pad(&mut self) -> io::Result<()> {
        let padding = std::mem::take(&mut self.padding);
        self.out.write_all(&[0; BLOCK][..padding])
    }
}

fn padding(size: u64) -> usize {
    let block = BLOCK as u64;
    usize::try_from((block - size % block) % block).unwrap_or(0)
}

/// The header of an entry, without its checksum, and the PAX records that must stand before it.
fn header(path: &[u8], what: &What, size: u64, meta: &Meta) -> io::Result<(Header, Vec<u8>)> {
    let (mut header, mut records) = (Header::new_ustar(), Vec::new());
    let (kind, device, target) = match what {
        What::File => (EntryType::Regular, None, None),
        What::Directory => (EntryType::Directory, None, None),
        What::Symlink(target) => (EntryType::Symlink, None, Some(target)),
        What::Link(target) => (EntryType::Link, None, Some(target)),
        What::Char(major, minor) => (EntryType::Char, Some((*major, *minor)), None),
        What::Block(major, minor) => (EntryType::Block, Some((*major, *minor)), None),
        What::Fifo => (EntryType::Fifo, None, None),
    };
    header.set_entry_type(kind);
    header.set_mode(meta.mode & 0o7777);
    set_name(&mut header, &written_name(path, what), &mut records)?;
    if let Some(target) = target {
        if target.len() > NAME {
            record(&mut records, b"linkpath", target);
        }
        put(&mut header, |fields| &mut fields.linkname, target)?;
    }
    // Both are there in every header, as POSIX has it.
    let (major, minor) = device.unwrap_or_default();
    header.set_device_major(major)?;
    header.set_device_minor(minor)?;
    let [uid, gid] = [(&b"uid"[..], meta.uid), (b"gid", meta.gid)]
        .map(|(key, id)| in_header(key, id.into(), SEVEN_DIGITS, &mut records));
    header.set_size(in_header(b"size", size, ELEVEN_DIGITS, &mut records));
    let whole = u64::try_from(meta.mtime.sec).ok().filter(|sec| *sec <= ELEVEN_DIGITS);
    if whole.is_none() || meta.mtime.nsec != 0 {
        record(&mut records, b"mtime", decimal(meta.mtime).as_bytes());
    }
    owner_and_time(&mut header, uid, gid, whole.unwrap_or(0));
    let mut xattrs: Vec<_> = meta.xattrs.iter().map(|(name, value)| (name.as_bytes(), value)).collect();
    xattrs.sort_unstable();
    xattrs.iter().for_each(|(name, value)| xattr(&mut records, name, value));
    Ok((header, records))
}

fn owner_and_time(header: &mut Header, uid: u64, gid: u64, mtime: u64) {
    header.set_uid(uid);
    header.set_gid(gid);
    header.set_mtime(mtime);
}

/// Directories end with a slash, so that the root has a name too.
fn written_name(path: &[u8], what: &What) -> Vec<u8> {
    match what {
        What::Directory if path.is_empty() => b"./".to_vec(),
        What::Directory => [path, b"/"].concat(),
        _ => path.to_vec(),
    }
}

fn set_name(header: &mut Header, name: &[u8], records: &mut Vec<u8>) -> io::Result<()> {
    if name.len() <= NAME {
        return put(header, |fields| &mut fields.name, name);
    }
    let splits = |at: &usize| name[*at] == b'/' && (1..=NAME).contains(&(name.len() - at - 1));
    let Some(at) = (1..=PREFIX.min(name.len() - 1)).find(splits) else {
        record(records, b"path", name);
        return put(header, |fields| &mut fields.name, name);
    };
    put(header, |fields| &mut fields.prefix, &name[..at])?;
    put(header, |fields| &mut fields.name, &name[at + 1..])
}

/// Fills a field with as much of the bytes as fits.
fn put<const N: usize>(
    header: &mut Header,
    field: impl FnOnce(&mut tar::UstarHeader) -> &mut [u8; N],
    bytes: &[u8],
) -> io::Result<()> {
    let field = field(header.as_ustar_mut().ok_or_else(|| io::Error::other("not a ustar header"))?);
    let len = bytes.len().min(N);
    field[..len].copy_from_slice(&bytes[..len]);
    Ok(())
}

/// What stands in the header for a number; one that is too large stands in a record, and 0 in the header.
fn in_header(key: &[u8], number: u64, most: u64, records: &mut Vec<u8>) -> u64 {
    if number <= most {
        return number;
    }
    record(records, key, number.to_string().as_bytes());
    0
}

/// Seconds since 1970 with as many digits behind the point as are needed.
fn decimal(time: Time) -> String {
    let nanos = i128::from(time.sec) * 1_000_000_000 + i128::from(time.nsec);
    let sign = if nanos < 0 { "-" } else { "" };
    let (sec, nsec) = (nanos.unsigned_abs() / 1_000_000_000, nanos.unsigned_abs() % 1_000_000_000);
    if nsec == 0 {
        return format!("{sign}{sec}");
    }
    format!("{sign}{sec}.{}", format!("{nsec:09}").trim_end_matches('0'))
}

/// An attribute in the form of star, which everybody reads; one whose name holds `=`, which would end the key, in that of
/// libarchive.
fn xattr(records: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    if !name.contains(&b'=') {
        return record(records, &[b"SCHILY.xattr.", name].concat(), value);
    }
    let mut key = b"LIBARCHIVE.xattr.".to_vec();
    for byte in name {
        match byte {
            b'=' | b'%' => key.extend(format!("%{byte:02X}").bytes()),
            _ => key.push(*byte),
        }
    }
    record(records, &key, base64(value).as_bytes());
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let body = key.len() + value.len() + 3;
    let mut len = body + 1;
    while len != body + digits(len) {
        len = body + digits(len);
    }
    records.extend(len.to_string().bytes());
    records.push(b' ');
    records.extend(key);
    records.push(b'=');
    records.extend(value);
    records.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0u32, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - three.len()));
        for at in 0..=three.len() {
            text.push(char::from(LETTERS[(bits >> (18 - 6 * at) & 63) as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_digits_they_need() {
        for (sec, nsec, text) in
            [(0, 0, "0"), (5, 500_000_000, "5.5"), (-2, 750_000_000, "-1.25"), (-1, 999_999_999, "-0.000000001")]
        {
            assert_eq!(decimal(Time { sec, nsec }), text);
        }
    }

    #[test]
    fn records_count_their_own_length() {
        for len in 0..1200 {
            let mut records = Vec::new();
            record(&mut records, b"key", &vec![b'x'; len]);
            assert!(records.starts_with(format!("{} key=", records.len()).as_bytes()), "{len}");
        }
    }

    #[test]
    fn base64_without_padding() {
        for (bytes, text) in [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
