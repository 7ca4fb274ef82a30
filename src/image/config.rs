//! The configuration of an image: what it is for, how it is run, and how its layers came about.

use super::digest::{ChainId, DiffId};
use super::document::{DOCUMENT_LIMIT, Descriptor, Document, check_size, null_default};
use super::error::{Error, Result};
use super::platform::Platform;
use super::time::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// An image's configuration (image specification, config.md). Its digest is the image id.
///
/// Fields that are not known here are kept, so that a commit passes them on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(expecting = "an object")]
pub struct Config {
    /// When the image was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Processor architecture, in Go's words.
    #[serde(default, deserialize_with = "null_default")]
    pub architecture: String,
    /// Operating system.
    #[serde(default, deserialize_with = "null_default")]
    pub os: String,
    /// Version of the operating system (Windows).
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features of the operating system that are needed (Windows).
    #[serde(rename = "os.features", default, skip_serializing_if = "Option::is_none")]
    pub os_features: Option<Vec<String>>,
    /// Variant of the architecture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// How a container is run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<RunConfig>,
    /// The layers.
    pub rootfs: RootFs,
    /// How the image was made, oldest step first. May be missing, or not fit the layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<History>>,
    /// Fields not known here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The `config` part of a configuration: how a container is run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[serde(expecting = "an object")]
pub struct RunConfig {
    /// `user[:group]`, names or numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// `port/protocol` to an empty object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<BTreeMap<String, Value>>,
    /// `NAME=value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// The program.
    #[serde(default, deserialize_with = "words", skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Its default arguments.
    #[serde(default, deserialize_with = "words", skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Path to an empty object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<BTreeMap<String, Value>>,
    /// Where the program starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// The signal that ends the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Windows: the command is escaped already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args_escaped: Option<bool>,
    /// Memory in bytes (Docker, old).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<i64>,
    /// Memory and swap in bytes (Docker, old).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_swap: Option<i64>,
    /// Relative processor time (Docker, old).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_shares: Option<i64>,
    /// How a container's health is found out (Docker).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Value>,
    /// Fields not known here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Docker wrote commands as one string once.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        List(Vec<String>),
        One(String),
    }
    let words = Option::<Words>::deserialize(deserializer)?;
    Ok(words.map(|words| match words {
        Words::List(list) => list,
        Words::One(word) => vec![word],
    }))
}

/// The layers of an image by the digests of their uncompressed tars.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(expecting = "an object")]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The layers, the lowest first.
    #[serde(default, deserialize_with = "null_default")]
    pub diff_ids: Vec<DiffId>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".into(), diff_ids: Vec::new() }
    }
}

/// One step in the making of an image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(expecting = "an object")]
pub struct History {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// A comment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The step made no layer.
    #[serde(default, deserialize_with = "null_default", skip_serializing_if = "is_false")]
    pub empty_layer: bool,
    /// Fields not known here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl Document<Config> {
    /// Reads a configuration. Its bytes are kept: their digest is the image id.
    pub fn parse_config(bytes: Vec<u8>) -> Result<Self> {
        check_size(bytes.len() as u64, DOCUMENT_LIMIT, "the image configuration")?;
        let config: Self = Self::read(bytes, "the image configuration")?;
        if config.rootfs.kind != "layers" {
            let kind = super::format::printable(&config.rootfs.kind);
            return Err(Error::document(
                "the image configuration",
                format!("its rootfs.type is '{kind}', not 'layers'"),
            ));
        }
        Ok(config)
    }
}

/// One row of an image's history: a step, a layer, or both.
#[derive(Debug, Clone, PartialEq)]
pub struct Step<'a> {
    /// The step; none when the configuration tells nothing about this layer (`<missing>`).
    pub history: Option<&'a History>,
    /// The layer it made. None for steps that made none, and for those whose layer is not there.
    pub layer: Option<LayerOf<'a>>,
}

impl Step<'_> {
    /// Whether the history says that there is a layer, but there is none: history and layers do not fit.
    #[must_use]
    pub fn lacks_layer(&self) -> bool {
        self.layer.is_none() && self.history.is_some_and(|h| !h.empty_layer)
    }
}

/// A layer in an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerOf<'a> {
    /// Its place, 0 is the lowest.
    pub index: usize,
    /// The digest of its uncompressed tar.
    pub diff_id: DiffId,
    /// The identity of the stack up to it.
    pub chain_id: ChainId,
    /// Its blob; none when the manifest has fewer layers than the configuration.
    pub descriptor: Option<&'a Descriptor>,
}

impl Config {
    /// What the image is for.
    #[must_use]
    pub fn platform(&self) -> Platform {
        Platform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone().unwrap_or_default(),
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
        }
    }

    /// When the image was made; none when it is not said, or not understood.
    #[must_use]
    pub fn created(&self) -> Option<Timestamp> {
        self.created.as_deref()?.parse().ok()
    }

    /// The chain id at each layer, the lowest first.
    #[must_use]
    pub fn chain_ids(&self) -> Vec<ChainId> {
        ChainId::of_layers(&self.rootfs.diff_ids)
    }

    /// The layers, the lowest first, with the blobs of the manifest.
    #[must_use]
    pub fn layers<'a>(&'a self, descriptors: &'a [Descriptor]) -> Vec<LayerOf<'a>> {
        let diff_ids = self.rootfs.diff_ids.iter().zip(self.chain_ids()).enumerate();
        diff_ids
            .map(|(index, (diff_id, chain_id))| LayerOf {
                index,
                diff_id: *diff_id,
                chain_id,
                descriptor: descriptors.get(index),
            })
            .collect()
    }

    /// How the image was made, oldest first: each step that is not empty takes the next layer.
    ///
    /// Nothing is an error here. Layers that are left over come last, without a step; steps that find no layer left have
    /// none ([`Step::lacks_layer`]).
    #[must_use]
    pub fn steps<'a>(&'a self, descriptors: &'a [Descriptor]) -> Vec<Step<'a>> {
        let mut layers = self.layers(descriptors).into_iter();
        let history = self.history.as_deref().unwrap_or_default();
        let mut steps: Vec<Step<'a>> = history
            .iter()
            .map(|entry| Step { history: Some(entry), layer: if entry.empty_layer { None } else { layers.next() } })
            .collect();
        steps.extend(layers.map(|layer| Step { history: None, layer: Some(layer) }));
        steps
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::image::digest::Digest;
    use crate::image::document::media;
    use proptest::prelude::*;

    fn id(n: u8) -> DiffId {
        DiffId(Digest::of(&[n]))
    }

    fn parse(text: &str) -> Result<Document<Config>> {
        Document::parse_config(text.as_bytes().to_vec())
    }

    /// As `docker build` wrote it in the days of its own builder.
    fn docker(history: &str) -> String {
        format!(
            r#"{{"architecture":"amd64","config":{{"Hostname":"","User":"","AttachStdin":false,"Env":["PATH=/bin"],
            "Cmd":["/bin/sh"],"Image":"sha256:x","Volumes":null,"Entrypoint":null,"OnBuild":null,"Labels":null}},
            "container":"e3b0","container_config":{{"Cmd":["/bin/sh","-c"]}},"created":"2023-08-07T19:20:20.894140623Z",
            "docker_version":"20.10.23","history":{history},"os":"linux",
            "rootfs":{{"type":"layers","diff_ids":["{}","{}"]}}}}"#,
            id(1),
            id(2)
        )
    }

    #[test]
    fn config_of_docker() {
        let text = docker("null");
        let config = parse(&text).unwrap();
        assert_eq!(config.digest(), Digest::of(text.as_bytes()));
        assert_eq!(config.platform().to_string(), "linux/amd64");
        assert_eq!(config.created().unwrap().to_string(), "2023-08-07T19:20:20.894140623Z");
        assert_eq!(config.config.as_ref().unwrap().cmd.as_ref().unwrap(), &["/bin/sh"]);
        assert!(config.extra.contains_key("docker_version"));
        assert!(config.config.as_ref().unwrap().extra.contains_key("Hostname"));
    }

    #[test]
    fn fields_not_known_survive_a_new_document() {
        let config = parse(&docker("[]")).unwrap();
        let again = Document::make((*config).clone()).unwrap();
        let value: Value = serde_json::from_slice(again.bytes()).unwrap();
        assert_eq!(value["docker_version"], "20.10.23");
        assert_eq!(value["config"]["Hostname"], "");
        assert!(value["config"].get("User").is_some());
    }

    #[test]
    fn everything_optional_may_be_null() {
        let nulls = r#"{"created":null,"author":null,"architecture":null,"os":null,"os.version":null,"os.features":null,
            "variant":null,"config":{"User":null,"ExposedPorts":null,"Env":null,"Entrypoint":null,"Cmd":null,"Volumes":null,
            "WorkingDir":null,"Labels":null,"StopSignal":null,"ArgsEscaped":null,"Memory":null,"MemorySwap":null,
            "CpuShares":null,"Healthcheck":null},"rootfs":{"type":"layers","diff_ids":null},
            "history":[{"created":null,"author":null,"created_by":null,"comment":null,"empty_layer":null}]}"#;
        let config = parse(nulls).unwrap();
        assert!(config.rootfs.diff_ids.is_empty());
        assert!(config.steps(&[])[0].lacks_layer());
        assert!(parse(r#"{"config":null,"rootfs":{"type":"layers"},"history":null}"#).is_ok());
        let string = r#"{"rootfs":{"type":"layers"},"config":{"Cmd":"/bin/sh","Entrypoint":["a"]}}"#;
        assert_eq!(parse(string).unwrap().config.as_ref().unwrap().cmd.as_ref().unwrap(), &["/bin/sh"]);
    }

    #[test]
    fn what_is_no_configuration() {
        let bad = [
            "{}",
            "[]",
            r#"{"rootfs":null}"#,
            r#"{"rootfs":{"type":"overlay","diff_ids":[]}}"#,
            r#"{"rootfs":{"diff_ids":[]}}"#,
            r#"{"rootfs":{"type":"layers","diff_ids":["../x"]}}"#,
            r#"{"rootfs":{"type":"layers","diff_ids":[1]}}"#,
            r#"{"rootfs":{"type":"layers"},"history":{}}"#,
            r#"{"rootfs":{"type":"layers"},"config":{"Env":{"a":1}}}"#,
        ];
        for text in bad {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn steps_take_layers_in_order() {
        let history = r#"[{"created_by":"ADD"},{"created_by":"CMD","empty_layer":true},{"created_by":"RUN"}]"#;
        let config = parse(&docker(history)).unwrap();
        let blob = Descriptor::new(media::OCI_LAYER, Digest::of(b"blob"), 7);
        let blobs = [blob];
        let steps = config.steps(&blobs);
        assert_eq!(steps.len(), 3);
        let first = steps[0].layer.unwrap();
        assert_eq!((first.index, first.diff_id, first.descriptor.unwrap().size), (0, id(1), 7));
        assert!(steps[1].layer.is_none() && !steps[1].lacks_layer());
        let last = steps[2].layer.unwrap();
        assert_eq!((last.diff_id, last.descriptor), (id(2), None));
        assert_eq!(last.chain_id, ChainId::base(id(1)).with(id(2)));
    }

    #[test]
    fn history_that_does_not_fit_is_shown_as_missing() {
        let short = parse(&docker(r#"[{"created_by":"ADD"}]"#)).unwrap();
        let steps = short.steps(&[]);
        assert_eq!(steps.len(), 2);
        assert!(steps[1].history.is_none() && steps[1].layer.is_some());
        let long = parse(&docker(r#"[{},{},{"created_by":"extra"}]"#)).unwrap();
        let steps = long.steps(&[]);
        assert!(steps[2].lacks_layer() && !steps[1].lacks_layer());
        assert_eq!(parse(&docker("null")).unwrap().steps(&[]).len(), 2);
    }

    proptest! {
        #[test]
        fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), n in 0..6usize) {
            let _ignored = Document::parse_config(bytes).is_ok();
            let history = ["{\"empty_layer\":true}", "{}"].repeat(n).join(",");
            let config = parse(&docker(&format!("[{history}]"))).unwrap();
            let steps = config.steps(&[]);
            let layers = steps.iter().filter(|s| s.layer.is_some()).count();
            prop_assert_eq!(layers, 2);
        }
    }
}
