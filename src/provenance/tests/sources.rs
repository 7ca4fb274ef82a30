//! The same layers as directories and as an archive.

use crate::archive::{Expected, Form, Limits, Options, complete, unpack};
use crate::image::container::{ImageInSource, Source, Spool, Wanted};
use crate::image::digest::Digest;
use crate::provenance::{LayerDirectory, Merged};
use crate::sys;
use serde_json::json;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

/// Unpacks layers as the store does, and reads the directories.
pub fn directories(dir: &Path, tars: &[Vec<u8>]) -> Merged {
    let (mut roots, mut layers) = (Vec::new(), Vec::new());
    for (n, tar) in tars.iter().enumerate() {
        let path = dir.join(n.to_string());
        std::fs::create_dir(&path).unwrap();
        let root = sys::open_root(&path).unwrap();
        let form = Form::probe(root.as_fd()).unwrap();
        let options = Options { form, expected: Expected::default(), limits: &Limits::default(), progress: None };
        let unpacked = unpack(tar.as_slice(), root.as_fd(), &options).unwrap();
        let below: Vec<_> = roots.iter().rev().map(AsFd::as_fd).collect();
        complete(root.as_fd(), &below, form, unpacked.pending).unwrap();
        roots.push(root);
        layers.push(LayerDirectory::new(path));
    }
    Merged::of_directories("directories", None, layers).unwrap()
}

/// Writes a docker-archive, and reads that.
pub fn archive(dir: &Path, tars: &[Vec<u8>]) -> Merged {
    archive_within(dir, tars, &Limits::default())
}

/// The same with other limits.
pub fn archive_within(dir: &Path, tars: &[Vec<u8>], limits: &Limits) -> Merged {
    let (source, image) = image(dir, tars);
    Merged::of_image_in("archive", &source, &image, None, limits).unwrap()
}

/// The image in a docker-archive of these layers.
pub fn image(dir: &Path, tars: &[Vec<u8>]) -> (Arc<Source>, ImageInSource) {
    let ids: Vec<String> = tars.iter().map(|tar| Digest::of(tar).to_string()).collect();
    let history: Vec<_> = (1..=tars.len()).map(|n| json!({"created_by": format!("step {n}")})).collect();
    let rootfs = json!({"type": "layers", "diff_ids": ids});
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": rootfs, "history": history}).to_string();
    let names: Vec<String> = (0..tars.len()).map(|n| format!("{n}.tar")).collect();
    let manifest = json!([{"Config": "config.json", "RepoTags": ["a:b"], "Layers": names}]).to_string();
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, name, bytes).unwrap();
    };
    add("manifest.json", manifest.as_bytes());
    let config_name = "config.json";
    add(config_name, config.as_bytes());
    names.iter().zip(tars).for_each(|(name, tar)| add(name, tar));
    let path = dir.join("image.tar");
    std::fs::write(&path, builder.into_inner().unwrap()).unwrap();
    let source = Arc::new(Source::open(&path, None, Spool::new(dir)).unwrap());
    let image = source.images(Wanted::default()).unwrap().remove(0);
    (source, image)
}
