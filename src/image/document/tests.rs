//! Manifests and indexes as tools write them, and as nobody should.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use proptest::prelude::*;

const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn parse(text: &str, media_type: &str) -> Result<ManifestOrIndex> {
    ManifestOrIndex::parse(text.as_bytes().to_vec(), media_type, "the manifest")
}

fn manifest(text: &str) -> Document<Manifest> {
    match parse(text, "").unwrap() {
        ManifestOrIndex::Manifest(m) => m,
        ManifestOrIndex::Index(_) => unreachable!("an index"),
    }
}

#[test]
fn manifest_of_docker() {
    let text = format!(
        r#"{{
   "schemaVersion": 2,
   "mediaType": "{}",
   "config": {{"mediaType": "{}", "size": 1469, "digest": "{D}"}},
   "layers": [{{"mediaType": "{}", "size": 3401613, "digest": "{D}", "urls": null}}]
}}"#,
        media::DOCKER_MANIFEST,
        media::DOCKER_CONFIG,
        media::DOCKER_LAYER_GZIP
    );
    let document = manifest(&text);
    assert_eq!(document.bytes(), text.as_bytes());
    assert_eq!(document.digest(), Digest::of(text.as_bytes()));
    assert_eq!((document.config.size, document.layers.len()), (1469, 1));
    assert!(document.is_image());
}

#[test]
fn manifest_of_buildah_without_media_type() {
    let text = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"{}","digest":"{D}","size":2}},"layers":null,
        "annotations":{{"a":"b"}},"subject":null,"new":[1]}}"#,
        media::OCI_CONFIG
    );
    let document = manifest(&text);
    assert!(document.media_type.is_empty() && document.layers.is_empty());
    assert!(document.extra.contains_key("new"));
}

#[test]
fn index_of_buildkit_with_attestation_and_other_algorithms() {
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[
        {{"mediaType":"{m}","digest":"{D}","size":9,"platform":{{"architecture":"arm64","os":"linux","variant":"v8"}}}},
        {{"mediaType":"{m}","digest":"{D}","size":9,"annotations":{{"vnd.docker.reference.type":"attestation-manifest"}},
          "platform":{{"architecture":"unknown","os":"unknown"}}}},
        {{"mediaType":"{m}","digest":"sha512:{}","size":9,"platform":null}}]}}"#,
        media::OCI_INDEX,
        "ab".repeat(64),
        m = media::OCI_MANIFEST,
    );
    let ManifestOrIndex::Index(index) = parse(&text, media::OCI_INDEX).unwrap() else { unreachable!() };
    let platform = index.manifests[0].platform.as_ref().unwrap();
    assert_eq!(platform.to_string(), "linux/arm64/v8");
    assert!(index.manifests[1].platform.as_ref().unwrap().is_unknown());
    assert!(index.manifests[2].digest.sha256().is_err());
}

#[test]
fn documents_that_could_be_read_in_two_ways_are_refused() {
    let config = format!(r#""config":{{"digest":"{D}","size":2}}"#);
    let both = format!(r#"{{"schemaVersion":2,{config},"layers":[],"manifests":[]}}"#);
    let index = r#"{"schemaVersion":2,"manifests":[]}"#;
    let layers_only = r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#;
    let lies = format!(r#"{{"schemaVersion":2,"mediaType":"{}",{config}}}"#, media::OCI_INDEX);
    let plain = format!(r#"{{"schemaVersion":2,"mediaType":"{}",{config}}}"#, media::OCI_MANIFEST);
    let twice = format!(r#"{{"schemaVersion":2,{config},{config}}}"#);
    assert!(parse(&both, "").unwrap_err().to_string().contains("at once"));
    assert!(parse(layers_only, media::OCI_INDEX).is_err());
    assert!(parse(index, media::OCI_MANIFEST).is_err());
    assert!(parse(&lies, "").is_err());
    assert!(parse(&plain, media::DOCKER_MANIFEST).unwrap_err().to_string().contains("announced"));
    assert!(parse(&twice, "").is_err());
    assert!(parse(&plain, media::OCI_MANIFEST).is_ok());
    assert!(parse(index, "").is_ok());
}

#[test]
fn hostile_documents() {
    let with = |config: &str| format!(r#"{{"schemaVersion":2,"config":{config}}}"#);
    let bad = [
        with(&format!(r#"{{"digest":"{D}","size":-1}}"#)),
        with(&format!(r#"{{"digest":"{D}","size":99999999999999999999}}"#)),
        with(&format!(r#"{{"digest":"{D}","size":1.5}}"#)),
        with(&format!(r#"{{"digest":"{D}","size":"1"}}"#)),
        with(&format!(r#"{{"digest":"{D}"}}"#)),
        with(r#"{"digest":"sha256:../../../etc/passwd","size":1}"#),
        with(r#"{"digest":null,"size":1}"#),
        with("[]"),
        "[]".into(),
        "null".into(),
        "{".into(),
        String::new(),
        r#"{"schemaVersion":"2"}"#.into(),
        r#"{"schemaVersion":1,"fsLayers":[]}"#.into(),
        "[".repeat(100_000),
    ];
    for text in bad {
        assert!(parse(&text, "").is_err(), "{}", &text[..text.len().min(100)]);
    }
    let negative = parse(&with(&format!(r#"{{"digest":"{D}","size":-1}}"#)), "").unwrap_err();
    assert!(negative.to_string().contains("size -1 is negative"), "{negative}");
    let big = " ".repeat(DOCUMENT_LIMIT as usize + 1);
    assert!(matches!(parse(&big, ""), Err(Error::TooLarge { .. })));
}

#[test]
fn archive_manifest_of_docker_and_podman() {
    let text = r#"[{"Config":"abc.json","RepoTags":null,"Layers":["x/layer.tar"]},
        {"Config":"blobs/sha256/x","RepoTags":["a:1","b:2"],"Layers":null,"Parent":"p","LayerSources":null}]"#;
    let images = parse_archive_manifest(text.as_bytes()).unwrap();
    assert!(images[0].repo_tags.is_empty());
    assert_eq!(images[1].repo_tags, ["a:1", "b:2"]);
    let long = " ".repeat(ARCHIVE_MANIFEST_LIMIT as usize + 1);
    assert!(parse_archive_manifest(long.as_bytes()).is_err());
    assert!(parse_archive_manifest(b"{}").is_err());
}

#[test]
fn made_manifests_are_reproducible() {
    let digest = Digest::of(b"x");
    let make = || {
        let layers = vec![Descriptor::new(media::OCI_LAYER, digest, 1)];
        Manifest::make(Descriptor::new(media::OCI_CONFIG, digest, 2), layers).unwrap()
    };
    assert_eq!(make().bytes(), make().bytes());
    let text = String::from_utf8(make().bytes().to_vec()).unwrap();
    assert_eq!(manifest(&text), make());
}

proptest! {
    #[test]
    fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ignored = ManifestOrIndex::parse(bytes.clone(), "", "x").is_ok();
        let _ignored = parse_archive_manifest(&bytes).is_ok();
    }

    #[test]
    fn fields_of_any_type_never_panic(
        fields in proptest::collection::vec(("schemaVersion|mediaType|config|layers|manifests|annotations", "null|1|-1|\"x\"|\\[\\]|\\{\\}|\\[1\\]|2"), 0..6)
    ) {
        let body: Vec<String> = fields.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect();
        let _ignored = parse(&format!("{{{}}}", body.join(",")), "").is_ok();
    }
}
