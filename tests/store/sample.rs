//! Small images, and the containers they come in, written without the library.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// An entry of a layer: path and contents; a path that ends with `/` is a directory.
pub type Entry<'a> = (&'a str, &'a str);

pub const BASE: &[Entry] = &[("etc/", ""), ("etc/os", "one"), ("bin/", ""), ("bin/sh", "#!")];
pub const APP: &[Entry] = &[("app/", ""), ("app/run", "go go go")];
pub const DATA: &[Entry] = &[("etc/", ""), ("etc/.wh.os", ""), ("data", "0123456789")];

/// `sha256:...` of some bytes.
pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

/// The 12 digits that Docker shows of `sha256:...`.
pub fn short(digest: &str) -> &str {
    &digest["sha256:".len()..][..12]
}

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
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// RFC 3339 of so many days ago. Ages are counted in whole days, so a test has a day less a second.
pub fn days_ago(days: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    laminafs::image::time::Timestamp::from_unix((now - days * 86_400 - 60) as i64).to_string()
}

/// An image for linux/amd64, its layers compressed with gzip.
pub struct Sample {
    pub config: Vec<u8>,
    pub manifest: Vec<u8>,
    /// Tar stream and blob, the lowest first.
    pub layers: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Sample {
    /// An image of these layers that is `days` old, with a step of history for each layer and an empty one at the end.
    pub fn new(days: u64, layers: &[&[Entry]]) -> Self {
        let created = days_ago(days);
        let step = |n: usize| json!({"created": created, "created_by": format!("COPY layer-{n} /"), "comment": "test"});
        let mut history: Vec<Value> = (0..layers.len()).map(step).collect();
        history.push(json!({"created": created, "created_by": "CMD [\"/bin/sh\"]", "empty_layer": true}));
        Self::with(
            layers,
            json!({"created": created, "history": history, "config": {"Cmd": ["/bin/sh"], "Env": ["A=b"]}}),
        )
    }

    /// An image of these layers with more fields in its configuration, which may replace the usual ones.
    pub fn with(layers: &[&[Entry]], fields: Value) -> Self {
        let layers: Vec<(Vec<u8>, Vec<u8>)> = layers.iter().map(|l| (tar(l), gzip(&tar(l)))).collect();
        let diff_ids: Vec<String> = layers.iter().map(|(tar, _)| digest(tar)).collect();
        let mut config = json!({
            "architecture": "amd64", "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        for (key, value) in fields.as_object().unwrap() {
            config[key] = value.clone();
        }
        let config = serde_json::to_vec(&config).unwrap();
        let describe = |bytes: &[u8], kind: &str| json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest(bytes), "size": bytes.len()});
        let blobs: Vec<Value> = layers.iter().map(|(_, blob)| describe(blob, "layer.v1.tar+gzip")).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": describe(&config, "config.v1+json"), "layers": blobs,
        });
        Self { config, manifest: serde_json::to_vec(&manifest).unwrap(), layers }
    }

    pub fn id(&self) -> String {
        digest(&self.config)
    }

    pub fn manifest_digest(&self) -> String {
        digest(&self.manifest)
    }

    fn blobs(&self) -> impl Iterator<Item = &[u8]> {
        self.layers.iter().map(|(_, blob)| blob.as_slice()).chain([self.config.as_slice(), &self.manifest])
    }
}

/// An image in a container, with its ref.names or tags.
pub type Named<'a> = (&'a Sample, &'a [&'a str]);

/// Writes an OCI layout.
pub fn oci_layout(dir: &Path, images: &[Named<'_>]) {
    for (path, bytes) in oci_members(images) {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// An OCI archive.
pub fn oci_archive(images: &[Named<'_>]) -> Vec<u8> {
    archive(oci_members(images))
}

/// What `docker save` of today writes: an OCI layout with a `manifest.json`.
pub fn docker_archive(images: &[Named<'_>]) -> Vec<u8> {
    let blob = |bytes: &[u8]| format!("blobs/{}", digest(bytes).replace(':', "/"));
    let entries = images.iter().map(|(image, names)| {
        let layers: Vec<String> = image.layers.iter().map(|(_, bytes)| blob(bytes)).collect();
        json!({"Config": blob(&image.config), "RepoTags": names, "Layers": layers})
    });
    let manifest = Value::Array(entries.collect());
    let mut members = oci_members(images);
    members.push(("manifest.json".into(), serde_json::to_vec(&manifest).unwrap()));
    archive(members)
}

fn oci_members(images: &[Named<'_>]) -> Vec<(String, Vec<u8>)> {
    let mut members = vec![("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())];
    let mut entries = Vec::new();
    for (image, names) in images {
        let entry = |name: Option<&&str>| {
            let annotations = name.map(|name| json!({"org.opencontainers.image.ref.name": name}));
            json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json", "annotations": annotations,
                "digest": image.manifest_digest(), "size": image.manifest.len(),
            })
        };
        if names.is_empty() {
            entries.push(entry(None));
        }
        entries.extend(names.iter().map(|name| entry(Some(name))));
        for bytes in image.blobs() {
            members.push((format!("blobs/{}", digest(bytes).replace(':', "/")), bytes.to_vec()));
        }
    }
    members.sort();
    members.dedup();
    let index = json!({"schemaVersion": 2, "manifests": entries});
    members.push(("index.json".into(), serde_json::to_vec(&index).unwrap()));
    members
}

fn archive(members: Vec<(String, Vec<u8>)>) -> Vec<u8> {
    let members: Vec<(String, Vec<u8>)> = members;
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, path, bytes.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// An OCI archive with one name for images of several architectures.
pub fn multi_platform(images: &[(&Sample, &str)]) -> Vec<u8> {
    let unnamed: Vec<Named<'_>> = images.iter().map(|(image, _)| (*image, &[][..])).collect();
    let mut members = oci_members(&unnamed);
    let entries = images.iter().map(|(image, architecture)| {
        json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": image.manifest_digest(),
            "size": image.manifest.len(), "platform": {"os": "linux", "architecture": architecture},
        })
    });
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries.collect::<Vec<_>>(),
    });
    let index = serde_json::to_vec(&index).unwrap();
    let top = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest(&index), "size": index.len(),
        "annotations": {"org.opencontainers.image.ref.name": "multi:1"},
    }]});
    members.retain(|(path, _)| path != "index.json");
    members.push((format!("blobs/{}", digest(&index).replace(':', "/")), index));
    members.push(("index.json".into(), serde_json::to_vec(&top).unwrap()));
    archive(members)
}
