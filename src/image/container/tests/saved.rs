//! Archives that are written here, read back.

use super::*;
use crate::image::writer::{ArchiveFormat, ImageToSave, write_archive};

fn refs(names: &[&str]) -> Vec<Reference> {
    names.iter().map(|n| n.parse().unwrap()).collect()
}

/// The members of a tar by name, with what else is in their headers.
fn members(archive: &[u8]) -> Vec<(String, u64, u64, u32)> {
    let mut tar = tar::Archive::new(archive);
    let entries = tar.entries().unwrap().map(|e| e.unwrap());
    let member = |e: tar::Entry<'_, &[u8]>| {
        let header = e.header();
        let owner = header.uid().unwrap() + header.gid().unwrap();
        (
            String::from_utf8(e.path_bytes().into_owned()).unwrap(),
            header.mtime().unwrap(),
            owner,
            header.mode().unwrap(),
        )
    };
    entries.map(member).collect()
}

fn layer_of(descriptor: &Descriptor) -> Result<Cursor<Vec<u8>>> {
    let all: [&[u8]; 2] = [LAYER_1, LAYER_2];
    let layer = all.into_iter().find(|l| Digest::of(l) == descriptor.digest);
    let missing = || Error::Missing { container: "store".into(), what: descriptor.digest.to_string() };
    layer.map(|l| Cursor::new(l.to_vec())).ok_or_else(missing)
}

/// Two images that share a layer, as read from archives.
fn two() -> Vec<ImageInSource> {
    let one = config_for("amd64", &[LAYER_1]);
    let manifest = json!([{"Config": "c", "RepoTags": ["a:1"], "Layers": ["1"]}]);
    let one = TarMaker::default().json("manifest.json", &manifest).file("c", &one).file("1", LAYER_1).end();
    [images(&one).unwrap(), images(&simple_oci("b:1")).unwrap()].concat()
}

fn save(format: ArchiveFormat, images: &[ImageInSource], names: &[Vec<Reference>]) -> Result<Vec<u8>> {
    let images: Vec<ImageToSave<'_>> = images
        .iter()
        .zip(names)
        .map(|(i, names)| ImageToSave { manifest: i.manifest.as_ref().unwrap(), config: &i.config, references: names })
        .collect();
    write_archive(Vec::new(), format, &images, layer_of)
}

#[test]
fn what_is_saved_is_loaded_again() {
    let images = two();
    let names = [refs(&["a:1", "quay.io/x/a:2"]), vec![]];
    for format in [ArchiveFormat::Oci, ArchiveFormat::Docker] {
        let archive = save(format, &images, &names).unwrap();
        assert_eq!(archive, save(format, &images, &names).unwrap(), "not reproducible");
        let source = read(&archive).unwrap();
        let again = source.images(Wanted::default()).unwrap();
        assert_eq!(again.len(), 2);
        for (before, after) in images.iter().zip(&again) {
            assert_eq!(before.config.bytes(), after.config.bytes());
            assert_eq!(before.manifest.as_ref().unwrap().bytes(), after.manifest.as_ref().unwrap().bytes());
        }
        assert_eq!(again[0].references, names[0]);
        assert!(again[1].references.is_empty());
        assert_eq!(content(&source, &again[1].layers[1]), LAYER_2);
        let docker = read_as(&archive, "x", Some(Format::Docker));
        assert_eq!(docker.is_ok(), format == ArchiveFormat::Docker);
        if let Ok(source) = docker {
            let images = source.images(Wanted::default()).unwrap();
            assert_eq!(images[0].references, names[0]);
        }
    }
}

#[test]
fn members_are_sorted_once_and_without_time_or_owner() {
    let archive = save(ArchiveFormat::Docker, &two(), &[refs(&["a:1"]), refs(&["b:1"])]).unwrap();
    let members = members(&archive);
    let names: Vec<&String> = members.iter().map(|m| &m.0).collect();
    assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    // Two configurations, two manifests, two layers of which one is shared; two directories, three documents.
    assert_eq!(members.len(), 11);
    assert!(members.iter().all(|(name, time, owner, mode)| {
        *time == 0 && *owner == 0 && *mode == if name.ends_with('/') { 0o755 } else { 0o644 }
    }));
    assert_eq!(archive.len() % 512, 0);
}

#[test]
fn a_blob_that_is_not_what_it_should_be_is_not_saved() {
    let images = two();
    let manifest = images[0].manifest.as_ref().unwrap();
    let to_save = [ImageToSave { manifest, config: &images[0].config, references: &[] }];
    let table: [(&[u8], &str); 4] =
        [(b"short", "bytes, but has 5"), (&[b'x'; 28], "should have digest"), (&[b'x'; 29], "has 29"), (b"", "has 0")];
    for (bytes, part) in table {
        let e = write_archive(Vec::new(), ArchiveFormat::Oci, &to_save, |_| Ok(bytes)).unwrap_err().to_string();
        assert!(e.contains("layer sha256:") && e.contains(part), "{e}");
    }
    let other = [ImageToSave { manifest, config: &images[1].config, references: &[] }];
    assert!(write_archive(Vec::new(), ArchiveFormat::Oci, &other, layer_of).is_err());
}
