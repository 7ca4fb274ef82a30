//! Containers as docker, podman, skopeo and buildah write them, and as nobody should.

#![allow(clippy::unwrap_used, reason = "tests")]

mod flavours;
mod hostile;
mod saved;

use super::*;
use crate::image::digest::ChainId;
use serde_json::{Value, json};
use std::io::Cursor;

/// A tar in the making, in memory.
#[derive(Default, Clone)]
struct TarMaker(Vec<u8>);

impl TarMaker {
    fn member(mut self, kind: u8, name: &str, link: &str, size: u64, data: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_size(size);
        header.set_mode(0o644);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, data: &[u8]) -> Self {
        self.member(b'0', name, "", data.len() as u64, data)
    }

    fn dir(self, name: &str) -> Self {
        self.member(b'5', name, "", 0, b"")
    }

    fn json(self, name: &str, value: &Value) -> Self {
        self.file(name, value.to_string().as_bytes())
    }

    fn blob(self, data: &[u8]) -> Self {
        self.file(&blob_name(Digest::of(data)), data)
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// Layers that need not be tars here: only their bytes count.
const LAYER_1: &[u8] = b"the bytes of the first layer";
const LAYER_2: &[u8] = b"the bytes of the second layer, which are more";

fn config_for(architecture: &str, layers: &[&[u8]]) -> Vec<u8> {
    let ids: Vec<String> = layers.iter().map(|l| Digest::of(l).to_string()).collect();
    let config = json!({"architecture": architecture, "os": "linux", "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": ids}, "history": null});
    config.to_string().into_bytes()
}

fn descriptor(media_type: &str, data: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(data).to_string(), "size": data.len()})
}

fn manifest_for(config: &[u8], layers: &[&[u8]]) -> Vec<u8> {
    let layers: Vec<Value> = layers.iter().map(|l| descriptor(media::OCI_LAYER_GZIP, l)).collect();
    let config = descriptor(media::OCI_CONFIG, config);
    json!({"schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": config, "layers": layers})
        .to_string()
        .into_bytes()
}

/// An index entry with the annotations given.
fn entry(media_type: &str, data: &[u8], annotations: Value) -> Value {
    let mut entry = descriptor(media_type, data);
    entry["annotations"] = annotations;
    entry
}

fn index(entries: &[Value]) -> Value {
    json!({"schemaVersion": 2, "manifests": entries})
}

fn oci(index: &Value) -> TarMaker {
    TarMaker::default().json("oci-layout", &json!({"imageLayoutVersion": "1.0.0"})).json("index.json", index)
}

/// An OCI archive with one image of two plain layers, for the host, under a ref.name.
fn simple_oci(name: &str) -> Vec<u8> {
    let config = config_for(&Platform::host().architecture, &[LAYER_1, LAYER_2]);
    let manifest = manifest_for(&config, &[LAYER_1, LAYER_2]);
    let index = index(&[entry(media::OCI_MANIFEST, &manifest, json!({"org.opencontainers.image.ref.name": name}))]);
    oci(&index).blob(LAYER_1).blob(LAYER_2).blob(&config).blob(&manifest).end()
}

fn read_as(bytes: &[u8], name: &str, format: Option<Format>) -> Result<Source> {
    let dir = tempfile::tempdir().unwrap();
    Source::from_reader(&mut Cursor::new(bytes), Path::new(name), format, Spool::new(dir.path()))
}

fn read(bytes: &[u8]) -> Result<Source> {
    read_as(bytes, "image.tar", None)
}

fn images(bytes: &[u8]) -> Result<Vec<ImageInSource>> {
    read(bytes)?.images(Wanted::default())
}

fn names(image: &ImageInSource) -> Vec<String> {
    image.references.iter().map(ToString::to_string).collect()
}

fn content(source: &Source, layer: &LayerBlob) -> Vec<u8> {
    let mut bytes = Vec::new();
    source.open_layer(layer).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}
