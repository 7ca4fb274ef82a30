//! Bytes at random, archives with bytes changed, and entries put together at random: no panic, nothing outside.

use super::build::{Layer, Tar, head, tar};
use proptest::prelude::*;

/// Names that have to do with each other, and names with a meaning.
fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "a",
        "b",
        "a/b",
        "a/b/c",
        "b/a",
        "./",
        "/",
        "..",
        "../victim",
        "a/../b",
        "a/../../victim",
        "l",
        "l/x",
        "l/l",
        ".wh.a",
        "a/.wh.b",
        ".wh..wh..opq",
        "a/.wh..wh..opq",
        ".wh.",
        ".wh...",
        ".wh..wh.plnk/1",
        "a/",
        "a//b",
        "",
    ])
}

fn target() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "a/b", "/", "..", "../victim", "../..", "/victim", "l", "l/x", ".wh.a", ""])
}

fn entry() -> impl Strategy<Value = (u8, &'static str, &'static str, u8)> {
    (prop::sample::select(b"0012345567xLS\0".to_vec()), name(), target(), any::<u8>())
}

fn archive(entries: &[(u8, &str, &str, u8)]) -> Tar {
    entries.iter().fold(tar(), |tar, (kind, name, target, extra)| {
        let head = head(*kind, name).link(target).device(u64::from(extra & 1), u64::from(extra & 3));
        match kind {
            b'x' => {
                tar.pax(&[("path", name.as_bytes()), ("size", &[b'0' + extra % 10]), ("linkpath", target.as_bytes())])
            }
            b'L' => tar.with(head, name.as_bytes()),
            b'0' => tar.with(head, &vec![b'.'; usize::from(*extra) * 9]),
            _ => tar.raw(head),
        }
    })
}

/// Whatever it is, it is unpacked or refused; both layers are of no interest.
fn survive(blob: &[u8]) {
    let below = Layer::in_form(None);
    below.apply(&tar().dir("a").file("a/b", "b").file("l", "").symlink("x", "/").end(), &[]).unwrap();
    let layer = Layer::in_form(None);
    if layer.apply(blob, &[&below]).is_ok() {
        let leftover = |what: &String| what.contains("implied") || what.contains("type 14");
        assert!(!layer.tree().values().any(leftover), "{:?}", layer.tree());
    }
    layer.check_outside();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn entries_at_random(entries in prop::collection::vec(entry(), 0..12)) {
        survive(&archive(&entries).end());
    }

    #[test]
    fn changed_bytes(
        entries in prop::collection::vec(entry(), 1..6),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut blob = archive(&entries).end();
        for (at, byte) in changes {
            let at = at.index(blob.len());
            blob[at] = byte;
            // Mostly in a header: make its checksum right again, or nothing else would be found.
            let block = at / 512 * 512;
            let header: [u8; 512] = blob[block..block + 512].try_into().unwrap();
            if header[257..262] == *b"ustar" {
                blob[block..block + 512].copy_from_slice(&tar().raw(super::build::Head(header)).0);
            }
        }
        survive(&blob);
    }

    #[test]
    fn bytes_at_random(mut blob in prop::collection::vec(any::<u8>(), 0..3000), magic in 0..3) {
        match magic {
            1 => blob.splice(0..0, [0x1f, 0x8b, 8]).for_each(drop),
            2 => blob.splice(0..0, [0x28, 0xb5, 0x2f, 0xfd]).for_each(drop),
            _ => {}
        }
        survive(&blob);
    }

    #[test]
    fn pax_records_at_random(records in prop::collection::vec(any::<u8>(), 0..200), name in "[a-zA-Z.]{1,20}") {
        let known = super::build::records_of(&[(&name, &records)]);
        let sparse = super::build::records_of(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0")]);
        for data in [&records, &known, &sparse] {
            survive(&tar().with(head(b'x', "x"), data).with(head(b'0', "f"), &records).end());
        }
    }
}
