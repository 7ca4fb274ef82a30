//! gzip, zstd and bare blobs; digests, sizes, limits, and what follows the archive.

use super::build::{Layer, head, tar};
use crate::archive::{Compression, Error, Expected, Limits, Options, digests, unpack};
use crate::image::digest::{DiffId, Digest};
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

fn stream() -> Vec<u8> {
    let noise: Vec<u8> = (0..150_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let mut stream = tar().file("a", "a").with(head(b'0', "noise"), &noise).end();
    // What follows the two zero blocks belongs to the digest.
    stream.extend([0; 9000]);
    stream.extend(b"trailing");
    stream
}

fn forms(stream: &[u8]) -> Vec<(Vec<u8>, Compression)> {
    let (left, right) = stream.split_at(stream.len() / 2);
    let skippable = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    vec![
        (stream.to_vec(), Compression::None),
        (gzip(stream), Compression::Gzip),
        ([gzip(left), gzip(b""), gzip(right)].concat(), Compression::Gzip),
        ([gzip(stream), vec![0; 5000]].concat(), Compression::Gzip),
        (zstd(stream), Compression::Zstd),
        ([skippable.clone(), zstd(left), skippable.clone(), zstd(right), skippable].concat(), Compression::Zstd),
    ]
}

#[test]
fn every_compression_gives_the_same_layer_and_diff_id() {
    let stream = stream();
    for (blob, compression) in forms(&stream) {
        let layer = Layer::new();
        let unpacked = layer.unpack(&blob).unwrap();
        let found = unpacked.digests;
        assert_eq!((found.compression, found.size), (compression, blob.len() as u64));
        assert_eq!((found.blob, found.diff_id), (Digest::of(&blob), DiffId(Digest::of(&stream))));
        assert_eq!(found.tar_size, stream.len() as u64);
        assert_eq!(layer.read("noise").len(), 600_000);
        assert_eq!(digests(&blob[..], Expected::default(), &Limits::default()).unwrap(), found);
    }
}

#[test]
fn layers_for_lazy_pulling_are_tars_like_any_other() {
    // eStargz: a member an entry, its own files, and a footer with an extra field and no data.
    let entries = [tar().dir("d"), tar().file("d/f", "data"), tar().file(".prefetch.landmark", "\u{f}")];
    let toc = tar().file("stargz.index.json", "{\"version\":1,\"entries\":[]}").end();
    let footer = [&[0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 26, 0][..], b"SG\x16\x000000000000000000STARGZ"].concat();
    let footer = [&footer[..], &[1, 0, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
    let members = entries.iter().map(|tar| gzip(&tar.0)).chain([gzip(&toc), footer]);
    let layer = Layer::new();
    layer.apply(&members.collect::<Vec<_>>().concat(), &[]).unwrap();
    let json = "{\\\"version\\\":1,\\\"entries\\\":[]}";
    layer.assert_tree(&[(".prefetch.landmark", "\\x0f"), ("d", "dir"), ("d/f", "data"), ("stargz.index.json", json)]);
    // zstd:chunked: its table of contents, in a frame that decoders skip, says something else than the tar.
    let toc = zstd(b"{\"version\":1,\"entries\":[{\"type\":\"reg\",\"name\":\"evil\",\"size\":4}]}");
    let mut frame = vec![0x50, 0x2a, 0x4d, 0x18];
    frame.extend((toc.len() as u32).to_le_bytes());
    let blob = [zstd(&tar().file("good", "data").end()), frame, toc].concat();
    let layer = Layer::new();
    layer.apply(&blob, &[]).unwrap();
    layer.assert_tree(&[("good", "data")]);
}

#[test]
fn an_empty_blob_is_an_empty_layer() {
    for blob in [vec![], gzip(b""), vec![0; 1024], gzip(&[0; 1024])] {
        let layer = Layer::new();
        layer.apply(&blob, &[]).unwrap();
        layer.assert_tree(&[]);
    }
}

fn with(blob: &[u8], expected: Expected, limits: &Limits) -> Result<u64, Error> {
    let layer = Layer::new();
    let count = AtomicU64::new(0);
    let progress = |read| count.store(read, Ordering::Relaxed);
    let options = Options { expected, progress: Some(&progress), ..layer.options(limits) };
    drop(unpack(blob, layer.fd.as_fd(), &options)?);
    Ok(count.into_inner())
}

#[test]
fn digests_and_sizes_are_compared() {
    let stream = stream();
    let blob = gzip(&stream);
    let right = Expected {
        blob: Some(Digest::of(&blob)),
        size: Some(blob.len() as u64),
        diff_id: Some(DiffId(Digest::of(&stream))),
    };
    let limits = Limits::default();
    assert_eq!(with(&blob, right, &limits).unwrap(), blob.len() as u64);
    let other = Digest::of(b"other");
    let size = |size| Expected { size: Some(size), ..right };
    let message = |expected| with(&blob, expected, &limits).unwrap_err().to_string();
    let found = format!("expected {other}, found {}", Digest::of(&blob));
    assert_eq!(message(Expected { blob: Some(other), ..right }), format!("digest mismatch: {found}"));
    let found = format!("expected {other}, found {}", Digest::of(&stream));
    assert_eq!(message(Expected { diff_id: Some(DiffId(other)), ..right }), format!("diff_id mismatch: {found}"));
    let len = blob.len() as u64;
    assert_eq!(message(size(len - 1)), format!("size mismatch: expected {} bytes, found more", len - 1));
    assert_eq!(message(size(len + 1)), format!("size mismatch: expected {} bytes, found {len}", len + 1));
    assert_eq!(message(size(0)), "size mismatch: expected 0 bytes, found more");
    assert!(with(&blob, size(u64::MAX), &limits).is_err());
}

/// As `umoci insert` writes them.
#[test]
fn a_stream_with_the_right_digest_may_end_behind_the_last_byte_of_data() {
    let whole = tar().file("a", "data").end();
    let with_its_digest = |stream: &[u8]| {
        let expected = Expected { diff_id: Some(DiffId(Digest::of(stream))), ..Expected::default() };
        with(&gzip(stream), expected, &Limits::default())
    };
    with_its_digest(&whole[..516]).unwrap();
    with_its_digest(&whole[..1023]).unwrap();
    let e = with_its_digest(&whole[..515]).unwrap_err().to_string();
    assert!(e.contains("cut off"), "{e}");
    let e = with(&gzip(&whole[..516]), Expected::default(), &Limits::default()).unwrap_err().to_string();
    assert!(e.contains("cut off"), "{e}");
}

#[test]
fn reading_stops_one_byte_after_the_expected_end() {
    struct Counted(u64);
    impl std::io::Read for Counted {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            buf.fill(0);
            self.0 += buf.len() as u64;
            Ok(buf.len())
        }
    }
    let layer = Layer::new();
    let mut endless = Counted(0);
    let expected = Expected { size: Some(1_000_000), ..Expected::default() };
    let limits = Limits::default();
    let options = Options { expected, ..layer.options(&limits) };
    let e = unpack(&mut endless, layer.fd.as_fd(), &options).unwrap_err();
    assert!(matches!(e, Error::Size { expected: 1_000_000, found: 1_000_001, more: true }), "{e}");
    assert_eq!(endless.0, 1_000_001);
}

#[test]
fn a_damaged_blob_is_told_by_its_digest() {
    let stream = stream();
    for (good, _) in forms(&stream) {
        let expected = Expected { blob: Some(Digest::of(&good)), ..Expected::default() };
        for at in [0, 100, 300, good.len() / 2] {
            let mut bad = good.clone();
            bad[at] ^= 0x55;
            let e = with(&bad, expected, &Limits::default()).unwrap_err();
            assert!(matches!(e, Error::Digest { what: "digest", .. }), "byte {at}: {e}");
        }
        let e = with(&good[..good.len() / 2], expected, &Limits::default()).unwrap_err();
        assert!(matches!(e, Error::Digest { what: "digest", .. }), "{e}");
    }
}

#[test]
fn cut_off_blobs() {
    let stream = stream();
    for (blob, compression) in forms(&stream).into_iter().take(2).chain([(zstd(&stream), Compression::Zstd)]) {
        let e = with(&blob[..blob.len() / 2], Expected::default(), &Limits::default()).unwrap_err();
        assert!(e.to_string().contains("cut off"), "{compression:?}: {e}");
    }
    let e = with(&[gzip(&stream), b"rubbish".to_vec()].concat(), Expected::default(), &Limits::default());
    assert!(e.unwrap_err().to_string().contains("follows the gzip data"));
    for (magic, name) in [(&b"BZh91AY"[..], "bzip2"), (b"\xfd7zXZ\0\0", "xz"), (b"\x04\x22\x4d\x18xx", "lz4")] {
        let e = with(magic, Expected::default(), &Limits::default()).unwrap_err().to_string();
        assert!(e.contains(name), "{e}");
    }
}

#[test]
fn a_failing_reader_is_the_error() {
    struct Broken;
    impl std::io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the line went dead"))
        }
    }
    let blob = gzip(&stream());
    let broken = std::io::Read::chain(&blob[..blob.len() / 2], Broken);
    let layer = Layer::new();
    let limits = Limits::default();
    let e = unpack(broken, layer.fd.as_fd(), &layer.options(&limits)).unwrap_err();
    assert_eq!(e.to_string(), "reading the layer: the line went dead");
}

#[test]
fn bombs() {
    let zeros = vec![0; 65 << 20];
    let gzip = gzip(&zeros);
    let limits = Limits { ratio: 100, ..Limits::default() };
    let e = digests(&gzip[..], Expected::default(), &limits).unwrap_err();
    assert!(matches!(e, Error::Limit(_)), "{e}");
    for blob in [gzip, zstd(&zeros)] {
        let limits = Limits { bytes: 10 << 20, ..Limits::default() };
        assert!(digests(&blob[..], Expected::default(), &limits).is_err());
    }
    let limits = Limits { entries: 2, ..Limits::default() };
    let tar = tar().file("a", "").file("b", "");
    assert!(with(&tar.clone().end(), Expected::default(), &limits).is_ok());
    assert!(
        with(&tar.clone().file("c", "").end(), Expected::default(), &limits)
            .unwrap_err()
            .to_string()
            .contains("entries")
    );
    let behind = [tar.end(), vec![0; 70_000]].concat();
    let limits = Limits { padding: 64 << 10, ..Limits::default() };
    let e = with(&behind, Expected::default(), &limits).unwrap_err().to_string();
    assert_eq!(e, "malformed tar archive at byte 2048: goes on for more than 65536 bytes behind its end");
    assert!(with(&behind, Expected::default(), &Limits::default()).is_ok());
}

#[test]
fn what_has_no_end_is_not_read_for_ever() {
    for (byte, said) in [(0, "behind its end"), (b'y', "wrong checksum")] {
        let layer = Layer::new();
        let limits = Limits { padding: 1 << 20, ..Limits::default() };
        let e = unpack(std::io::repeat(byte), layer.fd.as_fd(), &layer.options(&limits)).unwrap_err();
        assert!(e.to_string().contains(said), "{e}");
    }
}
