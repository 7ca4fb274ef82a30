//! What the writer writes, the reader reads.

use crate::archive::entry::{Entry, Reader};
use crate::archive::stream::run;
use crate::archive::{Compression, Compressor, Digests, Expected, Limits, Meta, What, Writer};
use crate::sys::Time;
use proptest::prelude::*;
use std::ffi::CString;
use std::io::Write;

/// An entry as it goes in and comes out: path, type, attributes, data.
type Item = (Vec<u8>, What, Meta, Vec<u8>);

fn write(items: &[Item], compression: Compression) -> Vec<u8> {
    let mut writer = Writer::new(Compressor::new(Vec::new(), compression).unwrap());
    for (path, what, meta, data) in items {
        writer.entry(path, what, data.len() as u64, meta).unwrap();
        data.chunks(7000).for_each(|piece| writer.data(piece).unwrap());
    }
    writer.finish().unwrap().finish().unwrap()
}

fn read(blob: &[u8]) -> (Vec<Item>, Digests) {
    let limits = Limits::default();
    let consume = |stream| {
        let mut reader = Reader::new(stream, &limits);
        let mut items = Vec::new();
        while let Some(entry) = reader.next()? {
            let mut data = Vec::new();
            while data.len() < usize::try_from(entry.size).unwrap() && entry.what == What::File {
                data.extend_from_slice(reader.data(u64::MAX)?);
            }
            let Entry { path, what, meta, .. } = entry;
            items.push((path, what, meta, data));
        }
        Ok((items, reader.into_stream()?))
    };
    run(blob, Expected::default(), &limits, None, consume).unwrap()
}

fn meta() -> Meta {
    Meta { uid: 1, gid: 2, mode: 0o644, mtime: Time { sec: 1_700_000_000, nsec: 0 }, xattrs: Vec::new() }
}

fn file(path: impl AsRef<[u8]>, data: &str) -> Item {
    (path.as_ref().to_vec(), What::File, meta(), data.into())
}

#[test]
fn what_ustar_can_say_has_no_other_header() {
    let long = format!("{}/{}", "d".repeat(154), "n".repeat(100));
    let link = (b"l".to_vec(), What::Symlink(vec![b't'; 100]), meta(), Vec::new());
    let root = (Vec::new(), What::Directory, Meta { mode: 0o755, ..meta() }, Vec::new());
    let device = (b"d".to_vec(), What::Char(0xfff, 0xf_ffff), meta(), Vec::new());
    let items = [root, device, link, file(&long, "x"), file("\u{fc}", ""), file(vec![0xff; 100], "")];
    let tar = write(&items, Compression::None);
    assert_eq!(tar.len(), 512 * (items.len() + 1 + 2));
    assert_eq!(read(&tar).0, items);
}

#[test]
fn everything_else_goes_into_a_pax_header() {
    let far = Meta { uid: u32::MAX - 1, gid: 1 << 21, mtime: Time { sec: -2, nsec: 750_000_000 }, ..meta() };
    let capability = (CString::from(c"security.capability"), b"\x01\0\n12 a=b\n".to_vec());
    let odd = (CString::from(c"user.a=b%20"), b"\0\xff=".to_vec());
    let with = |meta: Meta| Meta { xattrs: vec![capability.clone(), odd.clone()], ..meta };
    let deep = ["d".repeat(200).as_str(); 5].join("/");
    let items = [
        (deep.clone().into_bytes(), What::Directory, with(far.clone()), Vec::new()),
        (vec![0xfe; 200], What::Link(deep.into_bytes()), far.clone(), Vec::new()),
        (b"s".to_vec(), What::Symlink(vec![b't'; 101]), with(meta()), Vec::new()),
        (b"p".to_vec(), What::Fifo, Meta { mtime: Time { sec: 1 << 33, nsec: 1 }, ..far }, Vec::new()),
        (b"end".to_vec(), What::Block(8, 1), with(meta()), Vec::new()),
    ];
    assert_eq!(read(&write(&items, Compression::None)).0, items);
}

#[test]
fn a_size_beyond_the_header_is_in_the_pax_header() {
    let mut writer = Writer::new(Vec::new());
    writer.entry(b"big", &What::File, 1 << 33, &meta()).unwrap();
    assert!(writer.entry(b"next", &What::Fifo, 0, &meta()).is_err());
    assert!(writer.finish().is_err());
    let mut writer = Writer::new(Vec::new());
    writer.entry(b"small", &What::File, 1, &meta()).unwrap();
    assert!(writer.data(b"ab").is_err());
    struct Start(Vec<u8>);
    impl Write for Start {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let room = (4096 - self.0.len()).min(bytes.len());
            self.0.extend(&bytes[..room]);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut start = Start(Vec::new());
    Writer::new(&mut start).entry(b"big", &What::File, 1 << 33, &meta()).unwrap();
    assert!(start.0.windows(15).any(|w| w == b" size=858993459"), "no size in the PAX header");
}

#[test]
fn markers() {
    let mut writer = Writer::new(Vec::new());
    writer.whiteout(b"a/gone").unwrap();
    writer.whiteout(b"gone").unwrap();
    writer.opaque(b"d/e").unwrap();
    writer.opaque(b"").unwrap();
    let (items, _) = read(&writer.finish().unwrap());
    let paths: Vec<_> = items.iter().map(|(path, ..)| String::from_utf8_lossy(path)).collect();
    assert_eq!(paths, ["a/.wh.gone", ".wh.gone", "d/e/.wh..wh..opq", ".wh..wh..opq"]);
    assert!(items.iter().all(|(_, what, meta, _)| *what == What::File && *meta == Meta::default()));
}

#[test]
fn the_same_stream_gives_the_same_blob() {
    let items = [file("a", &"text ".repeat(50_000)), file("b", "")];
    let plain = write(&items, Compression::None);
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let blob = write(&items, compression);
        assert_eq!(blob, write(&items, compression));
        let (read, digests) = read(&blob);
        assert_eq!((read.as_slice(), digests.compression), (items.as_slice(), compression));
        assert_eq!(digests.diff_id.0, crate::image::digest::Digest::of(&plain));
    }
    let gzip = write(&items, Compression::Gzip);
    // No flags (so no name), no time, no system.
    assert_eq!((&gzip[3..8], gzip[9]), (&[0; 5][..], 255));
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    let part = prop::collection::vec(prop_oneof![Just(b'a'), Just(0xff), Just(b' '), Just(b'\n')], 1..120);
    prop::collection::vec(part, 1..6).prop_map(|parts| parts.join(&b'/'))
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        Just(What::File),
        Just(What::Directory),
        Just(What::Fifo),
        path().prop_map(What::Symlink),
        path().prop_map(What::Link),
        (0u32..0x1000, 0u32..0x10_0000).prop_map(|(a, b)| What::Char(a, b)),
        (0u32..0x1000, 0u32..0x10_0000).prop_map(|(a, b)| What::Block(a, b)),
    ]
}

fn any_meta() -> impl Strategy<Value = Meta> {
    let ids = prop_oneof![0u32..4, (1u32 << 21) - 2..(1 << 21) + 2, Just(u32::MAX - 1)];
    let time = (prop_oneof![-3i64..3, (1i64 << 33) - 2..(1 << 33) + 2, -(1i64 << 40)..1 << 40], 0u32..1_000_000_000);
    let name = "(user|security)\\.[a-c=%\n]{1,5}".prop_map(|name| CString::new(name).unwrap());
    let xattrs = prop::collection::btree_map(name, prop::collection::vec(any::<u8>(), 0..40), 0..3);
    (ids.clone(), ids, 0u32..0o10000, time, any::<bool>(), xattrs).prop_map(
        |(uid, gid, mode, (sec, nsec), whole, x)| {
            let mtime = Time { sec, nsec: if whole { 0 } else { nsec } };
            Meta { uid, gid, mode, mtime, xattrs: x.into_iter().collect() }
        },
    )
}

proptest! {
    #[test]
    fn entries_at_random_come_back(
        items in prop::collection::vec((path(), what(), any_meta(), prop::collection::vec(any::<u8>(), 0..2000)), 0..6),
        gzip in any::<bool>(),
    ) {
        let keep_data = |(path, what, meta, data): Item| {
            let data = if what == What::File { data } else { Vec::new() };
            (path, what, meta, data)
        };
        let items: Vec<Item> = items.into_iter().map(keep_data).collect();
        let (read, _) = read(&write(&items, if gzip { Compression::Gzip } else { Compression::Zstd }));
        prop_assert_eq!(read, items);
    }
}
