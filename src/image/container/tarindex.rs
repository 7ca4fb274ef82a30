//! Where the members of an image archive lie: one pass over the headers of a tar.

use crate::image::error::{Error, Result};
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use tar::{EntryType, Header};

const BLOCK: u64 = 512;
/// The most bytes of a long name or of PAX records for one member.
const EXTENSION_LIMIT: u64 = 1 << 20;
/// The most headers that only describe the next one.
const EXTENSIONS_IN_A_ROW: u32 = 16;
/// An image archive has a few members a layer. Whatever has a header counts. (Tests need not make that many.)
const MEMBERS_LIMIT: usize = if cfg!(test) { 20_000 } else { 200_000 };
const NAME_LIMIT: usize = 4096;
/// The most bytes of all names and link targets together.
const NAMES_LIMIT: usize = 32 << 20;

/// The data of a member: a range of the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub offset: u64,
    pub size: u64,
}

#[derive(Debug)]
enum Member {
    Data(Range),
    /// A symbolic or hard link, by the name in the archive that it leads to; none when that is outside.
    Link(Option<Vec<u8>>),
}

/// The members of a tar by name.
///
/// Names are keys and nothing else: no path of the host is ever made of them.
#[derive(Debug)]
pub(super) struct TarIndex {
    members: HashMap<Vec<u8>, Member>,
}

/// What extension headers say of the next member.
#[derive(Default)]
struct Pending {
    gnu_name: Option<Vec<u8>>,
    gnu_link: Option<Vec<u8>>,
    pax_name: Option<Vec<u8>>,
    pax_link: Option<Vec<u8>>,
    pax_size: Option<u64>,
    sparse: bool,
    count: u32,
}

/// Removes empty and `.` components and resolves `..`; none when that leads outside or nowhere.
pub(super) fn normal_name(name: &[u8]) -> Option<Vec<u8>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join(&b'/'))
}

/// What a tar is read from, front to back.
pub(super) trait Tape {
    /// Fills `buf`, but for the end: how many bytes there were.
    fn fill(&mut self, buf: &mut [u8]) -> Result<usize>;

    /// Goes `count` bytes further, or to the end: how many there were.
    fn pass(&mut self, count: u64) -> Result<u64>;
}

/// A tar that is the whole of a file.
pub(super) struct Whole<'a> {
    file: &'a File,
    name: &'a str,
    len: u64,
    at: u64,
}

impl<'a> Whole<'a> {
    pub fn new(file: &'a File, name: &'a str) -> Result<Self> {
        let len = file.metadata().map_err(Error::io(name))?.len();
        Ok(Self { file, name, len, at: 0 })
    }
}

impl Tape for Whole<'_> {
    fn fill(&mut self, buf: &mut [u8]) -> Result<usize> {
        let have = usize::try_from(self.len - self.at).unwrap_or(usize::MAX).min(buf.len());
        self.file.read_exact_at(&mut buf[..have], self.at).map_err(Error::io(self.name))?;
        self.at += have as u64;
        Ok(have)
    }

    fn pass(&mut self, count: u64) -> Result<u64> {
        let have = count.min(self.len - self.at);
        self.at += have;
        Ok(have)
    }
}

impl TarIndex {
    /// Reads the headers of a tar up to its end; `name` is for errors.
    pub fn read(tape: &mut dyn Tape, name: &str) -> Result<Self> {
        let (pending, members) = (Pending::default(), HashMap::new());
        let mut scan = Scan { tape, name, at: 0, pending, members, headers: 0, names: 0 };
        while let Some(header) = scan.header()? {
            scan.member(&header)?;
        }
        if scan.headers == 0 {
            return Err(Error::container(name, "it is empty"));
        }
        if scan.pending.count > 0 {
            return Err(Error::container(name, "it ends between an extended header and its member"));
        }
        Ok(Self { members: scan.members })
    }

    /// Where the data of `name` lies; none when there is no such member. Follows one link inside the archive.
    pub fn find(&self, name: &str, archive: &str) -> Result<Option<Range>> {
        let fail = |why: &str| Err(Error::container(archive, format!("member {}: {why}", shown(name.as_bytes()))));
        let Some(name) = normal_name(name.as_bytes()) else { return fail("the name leads out of the archive") };
        let target = match self.members.get(&name) {
            None => return Ok(None),
            Some(Member::Data(range)) => return Ok(Some(*range)),
            Some(Member::Link(None)) => return fail("it is a link that leads out of the archive"),
            Some(Member::Link(Some(target))) => target,
        };
        match self.members.get(target) {
            Some(Member::Data(range)) => Ok(Some(*range)),
            Some(Member::Link(_)) => fail("it is a link to a link"),
            None => fail("it is a link to something that is not in the archive"),
        }
    }
}

fn shown(name: &[u8]) -> String {
    format!("'{}'", crate::image::format::name(&name[..name.len().min(200)]))
}

struct Scan<'a> {
    tape: &'a mut dyn Tape,
    name: &'a str,
    /// How far the tape was read.
    at: u64,
    pending: Pending,
    members: HashMap<Vec<u8>, Member>,
    headers: usize,
    /// Bytes of the names and link targets in `members`.
    names: usize,
}

impl Scan<'_> {
    fn fail<T>(&self, why: impl Into<String>) -> Result<T> {
        Err(Error::container(self.name, why))
    }

    fn fill(&mut self, buf: &mut [u8]) -> Result<usize> {
        let have = self.tape.fill(buf)?;
        self.at += have as u64;
        Ok(have)
    }

    /// The next header, checked; none at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>> {
        let (start, mut block) = (self.at, [0; BLOCK as usize]);
        let have = self.fill(&mut block)?;
        if have == 0 {
            return Ok(None);
        }
        let whole = have == block.len();
        if whole && block.iter().all(|b| *b == 0) {
            return self.end(start);
        }
        let header = Header::from_byte_slice(&block).clone();
        if !whole || !checksum_fits(&header, &block) {
            return match start {
                0 => self.fail("it is not an image archive: it is neither a tar nor compressed with gzip or zstd"),
                _ if whole => self.fail(format!("the tar header at byte {start} is damaged")),
                _ => self.fail("it ends inside a tar header; it was probably cut off"),
            };
        }
        self.headers += 1;
        if self.headers > MEMBERS_LIMIT {
            return self.fail(format!("it has more than {MEMBERS_LIMIT} members"));
        }
        Ok(Some(header))
    }

    /// Two blocks of zeros are the end; whatever follows is not part of the archive.
    fn end(&mut self, start: u64) -> Result<Option<Header>> {
        let mut next = [0; BLOCK as usize];
        let have = self.fill(&mut next)?;
        if have == next.len() && next.iter().any(|b| *b != 0) {
            return self.fail(format!("there is a lone block of zeros at byte {start}"));
        }
        Ok(None)
    }

    /// Takes in what follows a header: the data of a member, or an extension to the next.
    fn member(&mut self, header: &Header) -> Result<()> {
        let Ok(size) = header.entry_size() else {
            return self.fail(format!("the size in the tar header before byte {} is not a number", self.at));
        };
        let kind = header.entry_type();
        match kind {
            EntryType::XGlobalHeader => self.skip(size),
            EntryType::XHeader | EntryType::GNULongName | EntryType::GNULongLink => self.extension(kind, size),
            _ => {
                let pending = std::mem::take(&mut self.pending);
                self.entry(header, pending, size)
            }
        }
    }

    /// Moves past `size` bytes and their padding.
    fn skip(&mut self, size: u64) -> Result<()> {
        let start = self.at;
        self.at += self.tape.pass(size)?;
        self.check_cut(start, size)?;
        self.pad()
    }

    fn check_cut(&self, start: u64, size: u64) -> Result<()> {
        if self.at - start == size {
            return Ok(());
        }
        let len = self.at;
        self.fail(format!(
            "it has {len} bytes, but the member at byte {start} alone has {size}; it was probably cut off"
        ))
    }

    /// Moves past the padding, which the last member may lack.
    fn pad(&mut self) -> Result<()> {
        self.at += self.tape.pass(self.at.next_multiple_of(BLOCK) - self.at)?;
        Ok(())
    }

    fn extension(&mut self, kind: EntryType, size: u64) -> Result<()> {
        self.pending.count += 1;
        if self.pending.count > EXTENSIONS_IN_A_ROW {
            return self.fail(format!("more than {EXTENSIONS_IN_A_ROW} extended headers follow each other"));
        }
        if size > EXTENSION_LIMIT {
            return self.fail(format!("an extended header has {size} bytes, more than {EXTENSION_LIMIT}"));
        }
        let (start, mut data) = (self.at, vec![0; usize::try_from(size).unwrap_or(0)]);
        self.fill(&mut data)?;
        self.check_cut(start, size)?;
        self.pad()?;
        if kind == EntryType::XHeader {
            return self.pax(&data);
        }
        let end = data.iter().position(|b| *b == 0).unwrap_or(data.len());
        data.truncate(end);
        if kind == EntryType::GNULongName {
            self.pending.gnu_name = Some(data);
        } else {
            self.pending.gnu_link = Some(data);
        }
        Ok(())
    }

    /// Records of `LENGTH KEY=VALUE\n`, cut by their length: values may hold newlines.
    fn pax(&mut self, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            let Some((key, value, rest)) = pax_record(data) else {
                return self.fail(format!("the PAX records before byte {} are damaged", self.at));
            };
            let text = || (!value.is_empty()).then(|| value.to_vec());
            match key {
                b"path" => self.pending.pax_name = text(),
                b"linkpath" => self.pending.pax_link = text(),
                b"size" => match decimal(value) {
                    Some(size) => self.pending.pax_size = Some(size),
                    None if value.is_empty() => self.pending.pax_size = None,
                    None => return self.fail(format!("the PAX size before byte {} is not a number", self.at)),
                },
                key if key.starts_with(b"GNU.sparse.") => self.pending.sparse = true,
                _ => {}
            }
            data = rest;
        }
        Ok(())
    }

    fn entry(&mut self, header: &Header, pending: Pending, size: u64) -> Result<()> {
        if (pending.gnu_name.is_some() && pending.pax_name.is_some())
            || (pending.gnu_link.is_some() && pending.pax_link.is_some())
        {
            return self.fail(format!("the member at byte {} has two different long names", self.at));
        }
        let raw = pending.pax_name.or(pending.gnu_name).unwrap_or_else(|| header.path_bytes().into_owned());
        let size = pending.pax_size.unwrap_or(size);
        let range = Range { offset: self.at, size };
        let kind = header.entry_type();
        if kind == EntryType::GNUSparse || pending.sparse {
            return self.fail(format!("member {} is sparse, which image archives are not", shown(&raw)));
        }
        let data = matches!(kind, EntryType::Regular | EntryType::Continuous) && !raw.ends_with(b"/");
        if size > 0 && !data {
            return self.fail(format!("member {} is no file, but has {size} bytes", shown(&raw)));
        }
        self.skip(size)?;
        let link = pending.pax_link.or(pending.gnu_link).or_else(|| header.link_name_bytes().map(|n| n.into_owned()));
        let link = if data { Vec::new() } else { link.unwrap_or_default() };
        self.count_names(&raw, &link)?;
        let member = match kind {
            _ if data => Member::Data(range),
            EntryType::Link => Member::Link(normal_name(&link)),
            EntryType::Symlink => Member::Link(symlink_target(&raw, &link)),
            _ => return Ok(()),
        };
        self.add(&raw, member)
    }

    fn count_names(&mut self, name: &[u8], link: &[u8]) -> Result<()> {
        let longest = name.len().max(link.len());
        if longest > NAME_LIMIT {
            return self.fail(format!("member {}... has a name or target of {longest} bytes", shown(name)));
        }
        self.names += name.len() + link.len();
        if self.names > NAMES_LIMIT {
            return self.fail(format!("its members have names of more than {NAMES_LIMIT} bytes"));
        }
        Ok(())
    }

    fn add(&mut self, raw: &[u8], member: Member) -> Result<()> {
        let Some(name) = normal_name(raw) else {
            return self.fail(format!("member {} has a name that leads out of the archive", shown(raw)));
        };
        // Two readers could take different ones; blobs are checked against their digest, these are not.
        let steers = matches!(&name[..], b"manifest.json" | b"index.json" | b"oci-layout");
        if self.members.insert(name, member).is_some() && steers {
            return self.fail(format!("member {} is there twice", shown(raw)));
        }
        Ok(())
    }
}

/// The name that a symbolic link leads to, from the directory it is in.
fn symlink_target(name: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    if target.starts_with(b"/") {
        return None;
    }
    let mut path = normal_name(name)?;
    let directory = path.iter().rposition(|b| *b == b'/').map_or(0, |slash| slash + 1);
    path.truncate(directory);
    path.extend_from_slice(target);
    normal_name(&path)
}

/// The sum of the header's bytes, as signed or unsigned ones, with its own field as blanks.
fn checksum_fits(header: &Header, block: &[u8]) -> bool {
    let Ok(expected) = header.cksum() else { return false };
    let at = |i: usize, b: u8| if (148..156).contains(&i) { b' ' } else { b };
    let unsigned: u32 = block.iter().enumerate().map(|(i, b)| u32::from(at(i, *b))).sum();
    let signed: i32 = block.iter().enumerate().map(|(i, b)| i32::from(at(i, *b).cast_signed())).sum();
    expected == unsigned || i64::from(expected) == i64::from(signed)
}

fn decimal(text: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(text).ok().filter(|t| t.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok()
}

/// Key, value and the rest after the first record.
fn pax_record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = data.iter().take(20).position(|b| *b == b' ')?;
    let length = usize::try_from(decimal(&data[..blank])?).ok()?;
    let record = data.get(blank + 1..length)?;
    let (newline, record) = record.split_last()?;
    let equals = record.iter().position(|b| *b == b'=')?;
    (*newline == b'\n').then_some((&record[..equals], &record[equals + 1..], &data[length..]))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const LARGE: u64 = (9 << 30) + 5;

    fn header(name: &str, kind: EntryType, size: u64) -> Header {
        let mut header = Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(size);
        header.set_cksum();
        header
    }

    /// Eleven octal digits end at 8 GiB: then the size is binary, or in a PAX record.
    #[test]
    fn members_of_more_than_8_gib() {
        let record = format!("19 size={LARGE}\n");
        assert_eq!(record.len(), 19);
        let binary = header("large", EntryType::Regular, LARGE).as_bytes().to_vec();
        let mut pax = header("pax", EntryType::XHeader, 19).as_bytes().to_vec();
        pax.extend(record.as_bytes());
        pax.resize(1024, 0);
        pax.extend(header("large", EntryType::Regular, 0).as_bytes());
        for start in [binary, pax] {
            let file = tempfile::tempfile().unwrap();
            let (offset, behind) = (start.len() as u64, start.len() as u64 + LARGE.next_multiple_of(BLOCK));
            file.write_all_at(&start, 0).unwrap();
            file.write_all_at(header("small", EntryType::Regular, 1).as_bytes(), behind).unwrap();
            file.set_len(behind + 4 * BLOCK).unwrap();
            let index = TarIndex::read(&mut Whole::new(&file, "large.tar").unwrap(), "large.tar").unwrap();
            assert_eq!(index.find("large", "large.tar").unwrap(), Some(Range { offset, size: LARGE }));
            assert_eq!(index.find("small", "large.tar").unwrap(), Some(Range { offset: behind + BLOCK, size: 1 }));
        }
    }
}
