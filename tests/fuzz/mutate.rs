//! Changes to an archive that leave it one: entries are put in, taken out, moved; fields of headers are set to what has a
//! meaning; the checksums are made right again.

use crate::place::BASE;
use libfuzzer_sys::fuzzer_mutate;

const BLOCK: usize = 512;

/// Names that have to do with each other, with the layer below, with the outside, or that mean something.
const NAMES: &[&str] = &[
    "a",
    "b",
    "a/b",
    "a/b/c",
    "b/a",
    "d",
    "d/f",
    "d/l",
    "./",
    "/",
    ".",
    "..",
    "a/..",
    "../victim",
    "a/../b",
    "a/../../victim",
    "l",
    "l/x",
    "l/l",
    "l/../victim",
    "a/l/b",
    ".wh.a",
    ".wh.b",
    "a/.wh.b",
    ".wh..wh..opq",
    "a/.wh..wh..opq",
    "d/.wh.f",
    "d/.wh..wh..opq",
    ".wh.",
    ".wh...",
    ".wh..wh.plnk/1",
    "a/",
    "a//b",
    "",
    "./a",
    "/a",
    ".laminafs-probe",
    "\u{fc}\u{1b}[0m",
    "/../victim",
];

/// What links lead to.
const TARGETS: &[&str] = &[
    "a",
    "b",
    "a/b",
    "/",
    ".",
    "..",
    "../victim",
    "../../victim",
    "../..",
    "/victim",
    "l",
    "l/x",
    "../l",
    "d",
    "d/f",
    "d/l",
    ".wh.a",
    "",
    "/proc/self/root",
    "./a/../b",
    "a/",
];

const KINDS: &[u8] = b"001122334555667xgLLKKS\0DVMA";

const KEYS: &[&str] = &[
    "path",
    "linkpath",
    "size",
    "uid",
    "gid",
    "mtime",
    "atime",
    "SCHILY.xattr.user.x",
    "SCHILY.xattr.trusted.overlay.opaque",
    "SCHILY.xattr.trusted.overlay.redirect",
    "SCHILY.xattr.user.overlay.whiteout",
    "SCHILY.xattr.security.capability",
    "SCHILY.xattr.system.posix_acl_access",
    "SCHILY.xattr.system.posix_acl_default",
    "LIBARCHIVE.xattr.user.x",
    "SCHILY.xattr.user.containers.override_stat",
    "GNU.sparse.major",
    "GNU.sparse.minor",
    "GNU.sparse.name",
    "GNU.sparse.realsize",
    "GNU.sparse.size",
    "GNU.sparse.map",
    "GNU.sparse.offset",
    "GNU.sparse.numbytes",
    "GNU.sparse.numblocks",
    "hdrcharset",
    "",
];

const VALUES: &[&str] = &[
    "",
    "0",
    "1",
    "-1",
    "5",
    "512",
    "4096",
    "9223372036854775807",
    "18446744073709551615",
    "4294967295",
    "1.5",
    "-1.5",
    "0,1,5,2",
    "0,0",
    "10,5,0,3",
    "1000:1000:100644",
    "0:0:0:whiteout",
    "y",
    "/a/b",
    "aGk=",
    "a",
    "../victim",
];

const NUMBERS: &[u64] =
    &[0, 1, 2, 5, 511, 512, 513, 1024, 4096, 0o777, 0o4755, 65534, 1 << 21, u32::MAX as u64, (1 << 33) - 1, 1 << 62];

/// Where the numbers of a header are, and how wide they are.
const FIELDS: &[(usize, usize)] = &[
    (100, 8),
    (108, 8),
    (116, 8),
    (124, 12),
    (124, 12),
    (136, 12),
    (329, 8),
    (337, 8),
    (386, 12),
    (398, 12),
    (483, 12),
];

/// The layer below.
pub fn below() -> Vec<u8> {
    let mut tar = Vec::new();
    for (kind, name, target) in [
        (b'5', "a", ""),
        (b'0', "a/b", ""),
        (b'5', "d", ""),
        (b'0', "d/f", ""),
        (b'1', "d/l", "d/f"),
        (b'2', "l", "/"),
        (b'2', "x", "../victim"),
        (b'6', "b", ""),
    ] {
        let mut header = header(kind, name.as_bytes(), target.as_bytes());
        seal(&mut header);
        tar.extend(header);
    }
    tar.resize(tar.len() + 2 * BLOCK, 0);
    tar
}

/// The mutator: changes `data[..size]`, and returns the new size.
pub fn archive(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut random = Random(u64::from(seed) << 1 | 1);
    let is_tar = data[..size].get(257..262) == Some(b"ustar");
    if size == 0 || random.below(if is_tar { 8 } else { 2 }) == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    let mode = data[size - 1];
    let mut tar = data[..size - 1].to_vec();
    for _ in 0..=random.below(3) {
        change(&mut tar, &mut random);
    }
    if random.below(16) != 0 {
        tar.chunks_exact_mut(BLOCK).filter(|block| block[257..262] == *b"ustar").for_each(seal);
    }
    tar.truncate(max_size.min(data.len()) - 1);
    tar.push(if random.below(8) == 0 { mode ^ 1 << random.below(3) } else { mode });
    data[..tar.len()].copy_from_slice(&tar);
    tar.len()
}

fn change(tar: &mut Vec<u8>, random: &mut Random) {
    let blocks = tar.len() / BLOCK;
    let at = random.below(blocks + 1) * BLOCK;
    match random.below(8) {
        0..=2 => {
            let entry = entry(random);
            tar.splice(at..at, entry);
        }
        3 => {
            let end = (at + BLOCK * (1 + random.below(3))).min(tar.len());
            tar.drain(at.min(end)..end);
        }
        4 => {
            let end = (at + BLOCK * (1 + random.below(3))).min(tar.len());
            let copy = tar[at.min(end)..end].to_vec();
            let to = random.below(blocks + 1) * BLOCK;
            tar.splice(to..to, copy);
        }
        5 | 6 => {
            if let Some(block) = tar.get_mut(at..at + BLOCK) {
                field(block, random);
            }
        }
        _ => {
            if let Some(block) = tar.get_mut(at..at + BLOCK) {
                fuzzer_mutate(block, BLOCK, BLOCK);
            }
        }
    }
}

fn field(block: &mut [u8], random: &mut Random) {
    match random.below(8) {
        0 => text(&mut block[..100], random.pick(NAMES).as_bytes()),
        1 => text(&mut block[157..257], &target(random)),
        2 => block[156] = *random.pick(KINDS),
        3 => text(&mut block[345..500], random.pick(NAMES).as_bytes()),
        4 => block[257..265].copy_from_slice(if random.below(2) == 0 { b"ustar\x0000" } else { b"ustar  \0" }),
        _ => {
            let (at, width) = *random.pick(FIELDS);
            let number = *random.pick(NUMBERS);
            let field = &mut block[at..at + width];
            if random.below(4) == 0 || number >> (3 * (width - 1)) != 0 {
                // Base 256, sometimes negative.
                field.fill(0);
                field[width - 8..].copy_from_slice(&number.to_be_bytes());
                field[0] = if random.below(3) == 0 { 0xff } else { 0x80 };
            } else {
                text(field, format!("{number:0width$o}", width = width - 1).as_bytes());
            }
        }
    }
}

/// A header, and what belongs to its kind.
fn entry(random: &mut Random) -> Vec<u8> {
    let kind = *random.pick(KINDS);
    let mut header = header(kind, random.pick(NAMES).as_bytes(), &target(random));
    let data = match kind {
        b'x' | b'g' => (0..=random.below(3)).flat_map(|_| record(random)).collect(),
        b'L' | b'K' if random.below(4) == 0 => vec![b'n'; random.below(600)],
        b'L' => [random.pick(NAMES).as_bytes(), b"\0"].concat(),
        b'K' => target(random),
        b'0' | 0 | b'7' => b"1\n0\n5\nsome data of a file\n".repeat(random.below(60)),
        _ => Vec::new(),
    };
    if !data.is_empty() {
        text(&mut header[124..136], format!("{:011o}", data.len()).as_bytes());
    }
    if random.below(3) == 0 {
        field(&mut header, random);
    }
    let mut entry = header.to_vec();
    entry.extend(data);
    entry.resize(entry.len().next_multiple_of(BLOCK), 0);
    entry
}

fn header(kind: u8, name: &[u8], target: &[u8]) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    text(&mut header[..100], name);
    text(&mut header[100..108], b"0000755");
    text(&mut header[157..257], target);
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[156] = kind;
    header
}

fn record(random: &mut Random) -> Vec<u8> {
    let value = match random.below(4) {
        0 => target(random),
        1 => random.pick(NAMES).as_bytes().to_vec(),
        _ => random.pick(VALUES).as_bytes().to_vec(),
    };
    let body = [random.pick(KEYS).as_bytes(), b"=", &value, b"\n"].concat();
    let mut len = body.len() + 2;
    while len != body.len() + 1 + len.to_string().len() {
        len += 1;
    }
    [format!("{len} ").as_bytes(), &body].concat()
}

fn target(random: &mut Random) -> Vec<u8> {
    let target = random.pick(TARGETS);
    match random.below(8) {
        0 => format!("{BASE}/inner/{target}").into_bytes(),
        1 => format!("{BASE}/{target}").into_bytes(),
        _ => target.as_bytes().to_vec(),
    }
}

fn text(field: &mut [u8], text: &[u8]) {
    let len = text.len().min(field.len());
    field.fill(0);
    field[..len].copy_from_slice(&text[..len]);
}

fn seal(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u64 = header.iter().map(|b| u64::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Numbers that follow from the seed (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % end as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}
