//! The reader of image data: documents, names, arguments, and containers put together from documents.
//!
//! The first byte of the input says what the rest is. Containers are made here from parts that a NUL byte ends, in which
//! `@1d`, `@1s` and `@1h` stand for digest, size and hex digits of part 1: so that the fuzzer can change a document without
//! losing the way to it.

#![no_main]

use laminafs::image::container::{Format, Source, Spool, Wanted};
use laminafs::image::document::{ManifestOrIndex, parse_archive_manifest};
use laminafs::image::location::ImageArg;
use laminafs::image::time::Timestamp;
use laminafs::image::{Config, Digest, Document, Platform, Reference, format};
use libfuzzer_sys::{Corpus, fuzz_target};
use std::ffi::OsStr;
use std::io::Cursor;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((kind, rest)) = data.split_first() else { return Corpus::Reject };
    match kind {
        b'm' => document(rest),
        b'c' => config(rest),
        b'd' => drop(parse_archive_manifest(rest).map_err(|e| shown(&e.to_string()))),
        b'a' => drop(ImageArg::parse(OsStr::from_bytes(rest))),
        b't' => texts(&String::from_utf8_lossy(rest)),
        b'A' => container(rest),
        b'O' => container(&oci(rest)),
        b'D' => container(&docker(rest)),
        _ => return Corpus::Reject,
    }
    Corpus::Keep
});

/// What a message shows of an image must not steer the terminal. (What the user typed himself is escaped by the command line.)
fn shown(message: &str) {
    assert!(!message.chars().any(|c| c.is_control() && c != '\n'), "{message:?}");
}

fn document(bytes: &[u8]) {
    for media_type in ["", "application/vnd.oci.image.index.v1+json"] {
        match ManifestOrIndex::parse(bytes.to_vec(), media_type, "the document") {
            Err(e) => shown(&e.to_string()),
            Ok(ManifestOrIndex::Manifest(manifest)) => {
                assert_eq!((manifest.digest(), manifest.bytes()), (Digest::of(bytes), bytes));
                let again = laminafs::image::Manifest::make(manifest.config.clone(), manifest.layers.clone());
                let again = again.expect("what was read can be written");
                assert_eq!(again.layers, manifest.layers);
            }
            Ok(ManifestOrIndex::Index(index)) => assert_eq!(index.digest(), Digest::of(bytes)),
        }
    }
}

fn config(bytes: &[u8]) {
    let config = match Document::<Config>::parse_config(bytes.to_vec()) {
        Err(e) => return shown(&e.to_string()),
        Ok(config) => config,
    };
    let layers = config.rootfs.diff_ids.len();
    assert_eq!(config.chain_ids().len(), layers);
    assert_eq!(config.layers(&[]).len(), layers);
    assert!(config.steps(&[]).len() >= layers.min(config.history.as_ref().map_or(0, Vec::len)));
    let again = Document::make((*config).clone()).expect("what was read can be written");
    let back = Document::<Config>::parse_config(again.bytes().to_vec()).expect("what was written can be read");
    assert_eq!(*back, *config);
    shown(&format::ago(config.created(), Timestamp::from_unix(1_700_000_000)));
}

fn texts(text: &str) {
    if let Ok(reference) = text.parse::<Reference>() {
        for form in [reference.to_string(), reference.familiar()] {
            assert_eq!(form.parse::<Reference>().as_ref(), Ok(&reference), "{form:?}");
            shown(&form);
        }
    }
    if let Ok(reference) = Reference::from_ref_name(text, Path::new(text)) {
        assert_eq!(reference.to_string().parse::<Reference>(), Ok(reference));
    }
    if let Ok(platform) = text.parse::<Platform>() {
        assert!(platform.distance(&platform).is_some(), "{platform}");
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        shown(&format::ago(Some(time), Timestamp::from_unix(0)));
        assert_eq!(time.to_string().parse::<Timestamp>(), Ok(time), "{time}");
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    shown(&format::printable(text));
    shown(&format::ellipsis(&format::printable(text), 10));
}

/// Reads all there is in an archive, as `load` does.
fn container(archive: &[u8]) {
    let dir = Path::new("/dev/shm");
    let spool = Spool { dir, limit: 4 << 20 };
    for format in [None, Some(Format::Docker)] {
        let source = match Source::from_reader(&mut Cursor::new(archive), Path::new("a b.tar"), format, spool) {
            Err(e) => return shown(&e.to_string()),
            Ok(source) => source,
        };
        let images = match source.images(Wanted::default()) {
            Err(e) => return shown(&e.to_string()),
            Ok(images) => images,
        };
        assert!(!images.is_empty());
        for image in images {
            assert_eq!(image.layers.len(), image.config.rootfs.diff_ids.len());
            for layer in &image.layers {
                match source.open_layer(layer) {
                    Err(e) => shown(&e.to_string()),
                    Ok(mut reader) => {
                        let read = std::io::copy(&mut reader, &mut std::io::sink()).expect("a range of the archive");
                        assert_eq!(read, layer.size);
                    }
                }
            }
            if let Some(manifest) = &image.manifest {
                assert_eq!(manifest.layers.len(), image.layers.len());
            }
        }
    }
}

/// The parts, with what stands for digests and sizes of later ones filled in.
fn parts(data: &[u8]) -> Vec<Vec<u8>> {
    let mut parts: Vec<Vec<u8>> = data.split(|b| *b == 0).take(10).map(<[u8]>::to_vec).collect();
    for at in (0..parts.len()).rev() {
        parts[at] = filled(&parts[at], &parts[at + 1..], at + 1);
    }
    parts
}

fn filled(text: &[u8], later: &[Vec<u8>], first: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, more)) = rest.split_first() {
        rest = more;
        let known = match (byte, more) {
            (b'@', [number @ b'0'..=b'9', what, ..]) => {
                let part = usize::from(number - b'0').checked_sub(first).and_then(|at| later.get(at));
                part.and_then(|part| match what {
                    b'd' => Some(Digest::of(part).to_string()),
                    b's' => Some(part.len().to_string()),
                    b'h' => Some(Digest::of(part).hex()),
                    _ => None,
                })
            }
            _ => None,
        };
        match known {
            Some(text) => {
                out.extend(text.bytes());
                rest = &more[2..];
            }
            None => out.push(*byte),
        }
    }
    out
}

/// Part 0 is the index, the others are blobs.
fn oci(data: &[u8]) -> Vec<u8> {
    let parts = parts(data);
    let mut tar = Vec::new();
    member(&mut tar, "oci-layout", br#"{"imageLayoutVersion": "1.0.0"}"#);
    for (at, part) in parts.iter().enumerate() {
        let name = if at == 0 { "index.json".into() } else { format!("blobs/sha256/{}", Digest::of(part).hex()) };
        member(&mut tar, &name, part);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// Part 0 is the manifest, the others are files, each under several names.
fn docker(data: &[u8]) -> Vec<u8> {
    let parts = parts(data);
    let mut tar = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        if at == 0 {
            member(&mut tar, "manifest.json", part);
        } else {
            member(&mut tar, &format!("{}.json", Digest::of(part).hex()), part);
            member(&mut tar, &format!("{at}/layer.tar"), part);
        }
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

fn member(tar: &mut Vec<u8>, name: &str, data: &[u8]) {
    let mut header = [0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[124..135].copy_from_slice(format!("{:011o}", data.len()).as_bytes());
    header[156] = b'0';
    header[148..156].fill(b' ');
    let sum: u64 = header.iter().map(|b| u64::from(*b)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    tar.extend(header);
    tar.extend(data);
    tar.resize(tar.len().next_multiple_of(512), 0);
}
