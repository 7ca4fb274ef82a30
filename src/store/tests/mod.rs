//! Tests of the whole store, on directories in memory where there are such.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod crash;
mod images;
mod parallel;
mod places;
mod remove;
mod repair;
mod writable;

use super::{Documents, Incoming, IncomingLayer, Loaded, Store};
use crate::archive::Limits;
use crate::image::digest::{ChainId, DiffId, Digest};
use crate::image::{Descriptor, Manifest, Reference};
use parking_lot::RwLock;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;

/// Held for writing while a child is started, and for reading where a lock that stays for a moment would be taken for somebody's: until
/// its exec a child has copies of all descriptors, and the locks with them.
static STARTING: RwLock<()> = RwLock::new(());

/// A directory for a store.
pub fn place() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// A store, all of whose work is done by the calling thread.
pub fn open(place: &TempDir) -> Store {
    let mut store = Store::open(&place.path().join("store")).unwrap();
    store.threads = 1;
    store
}

/// An entry of a layer: path and contents; a path that ends with `/` is a directory.
pub type Entry = (&'static str, &'static str);

/// A layer's tar stream.
pub fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, contents) in entries {
        let mut header = tar::Header::new_gnu();
        let directory = path.ends_with('/');
        header.set_entry_type(if directory { tar::EntryType::Directory } else { tar::EntryType::Regular });
        header.set_mode(if directory { 0o755 } else { 0o644 });
        header.set_mtime(1_700_000_000);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(contents.len() as u64);
        builder.append_data(&mut header, path, contents.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::read::GzEncoder::new(data, flate2::Compression::fast());
    let mut out = Vec::new();
    encoder.read_to_end(&mut out).unwrap();
    out
}

/// An image: its documents and blobs, and how often each blob was asked for.
pub struct Sample {
    pub manifest: Vec<u8>,
    pub config: Vec<u8>,
    pub layers: Vec<(DiffId, Vec<u8>)>,
    pub asked: AtomicUsize,
}

impl Sample {
    /// An image of these layers, compressed; `label` makes images with the same layers differ.
    pub fn new(label: &str, layers: &[&[Entry]]) -> Self {
        Self::of_blobs(label, layers.iter().map(|entries| (tar(entries), gzip(&tar(entries)))).collect())
    }

    /// An image of (tar stream, blob).
    pub fn of_blobs(label: &str, layers: Vec<(Vec<u8>, Vec<u8>)>) -> Self {
        let layers: Vec<(DiffId, Vec<u8>)> =
            layers.into_iter().map(|(tar, blob)| (DiffId(Digest::of(&tar)), blob)).collect();
        let diff_ids: Vec<String> = layers.iter().map(|(diff_id, _)| diff_id.to_string()).collect();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "created": "2024-05-01T00:00:00Z", "author": label,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = serde_json::to_vec(&config).unwrap();
        let describe = |bytes: &[u8], media| Descriptor::new(media, Digest::of(bytes), bytes.len() as u64);
        let blobs = layers.iter().map(|(_, blob)| describe(blob, "application/vnd.oci.image.layer.v1.tar+gzip"));
        let config_descriptor = describe(&config, "application/vnd.oci.image.config.v1+json");
        let manifest = Manifest::make(config_descriptor, blobs.collect()).unwrap().bytes().to_vec();
        Self { manifest, config, layers, asked: AtomicUsize::new(0) }
    }

    pub fn id(&self) -> Digest {
        Digest::of(&self.config)
    }

    pub fn chains(&self) -> Vec<ChainId> {
        ChainId::of_layers(&self.layers.iter().map(|(diff_id, _)| *diff_id).collect::<Vec<_>>())
    }

    pub fn blob(&self, layer: usize) -> Digest {
        Digest::of(&self.layers[layer].1)
    }

    pub fn incoming(&self, names: &[&str]) -> Incoming<'_> {
        let layer = |(diff_id, blob): &'_ (DiffId, Vec<u8>)| (*diff_id, Digest::of(blob), blob.len() as u64);
        let open = |n: usize| {
            move || {
                self.asked.fetch_add(1, Ordering::Relaxed);
                Ok(Box::new(self.layers[n].1.as_slice()) as Box<dyn Read + Send>)
            }
        };
        let layers = self.layers.iter().map(layer).enumerate().map(|(n, (diff_id, blob, size))| IncomingLayer {
            diff_id: Some(diff_id),
            blob: Some(blob),
            size: Some(size),
            open: Box::new(open(n)),
        });
        Incoming {
            documents: Documents::Given { manifest: self.manifest.clone(), config: self.config.clone() },
            layers: layers.collect(),
            references: names.iter().map(|n| n.parse::<Reference>().unwrap()).collect(),
            limits: Limits::default(),
        }
    }

    pub fn load(&self, store: &Store, names: &[&str]) -> Loaded {
        store.load(self.incoming(names), None).unwrap()
    }

    /// How often a blob was asked for since the last call.
    pub fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::Relaxed)
    }
}

pub const BASE: &[Entry] = &[("etc/", ""), ("etc/os", "one"), ("bin/", ""), ("bin/sh", "#!")];
pub const APP: &[Entry] = &[("app/", ""), ("app/run", "go go go")];
pub const DATA: &[Entry] = &[("etc/", ""), ("etc/.wh.os", ""), ("data", "0123456789")];

/// Two images that share their lowest layer.
pub fn two() -> (Sample, Sample) {
    (Sample::new("a", &[BASE, APP]), Sample::new("b", &[BASE, DATA]))
}

/// Nothing is wrong and nothing is left over.
pub fn assert_sound(store: &Store) {
    let verified = store.verify().unwrap();
    assert_eq!(verified.faults, [], "{verified:?}");
    assert_eq!(verified.leftovers, 0);
}

/// The number of (images, layers, blobs).
pub fn counts(store: &Store) -> (usize, usize, usize) {
    (store.image_ids().unwrap().len(), store.layer_ids().unwrap().len(), store.blob_ids().unwrap().len())
}
