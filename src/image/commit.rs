//! The documents of a commit: those of the image below, and what is new.

use super::change::{self, ChangeError};
use super::config::{Config, History, RootFs};
use super::digest::{DiffId, Digest};
use super::document::{Descriptor, Document, Manifest, media};
use super::error::Result;
use super::time::Timestamp;
use serde_json::Map;

/// What `history` says made the new layer.
const CREATED_BY: &str = "laminafs commit";

/// Fields of Docker's configurations that say how the image below was made.
const OF_THE_OLD_ONE: [&str; 4] = ["container", "container_config", "id", "parent"];

/// What goes into the new image besides a layer.
#[derive(Debug, Clone)]
pub struct Commit {
    /// When it was made.
    pub created: Timestamp,
    /// Who made it.
    pub author: Option<String>,
    /// What for.
    pub comment: Option<String>,
}

/// The layer that a commit adds.
#[derive(Debug, Clone, Copy)]
pub struct NewLayer {
    /// Digest of its tar stream.
    pub diff_id: DiffId,
    /// Digest of its blob.
    pub blob: Digest,
    /// Length of the blob in bytes.
    pub size: u64,
    /// Its kind, in OCI's words.
    pub media_type: &'static str,
}

impl Commit {
    /// The configuration of the new image but for its layer: that of the first `layers` layers of `base`, with the
    /// instructions `changes` followed and one step more, which is `empty` when it adds no layer.
    ///
    /// # Errors
    /// For an instruction that cannot be followed.
    pub fn config<T: AsRef<str>>(
        &self,
        base: &Config,
        layers: usize,
        changes: &[T],
        empty: bool,
    ) -> std::result::Result<Config, ChangeError> {
        let mut config = base.clone();
        let mut run = config.config.unwrap_or_default();
        change::apply(&mut run, changes)?;
        config.config = Some(run);
        let created = Some(self.created.to_string());
        let mut history = steps(base, layers);
        history.push(History {
            created: created.clone(),
            author: self.author.clone(),
            created_by: Some(CREATED_BY.into()),
            comment: self.comment.clone(),
            empty_layer: empty,
            extra: Map::new(),
        });
        config.history = Some(history);
        config.rootfs.diff_ids.truncate(layers);
        OF_THE_OLD_ONE.iter().for_each(|field| drop(config.extra.remove(*field)));
        Ok(Config { created, author: self.author.clone(), ..config })
    }
}

/// Manifest and configuration (in this order) of the new image, whose configuration lacks only `layer`.
///
/// The manifest is of the kind of `base`: Docker's or OCI's. Docker has no word for zstd; then it is OCI's.
pub fn documents(base: &Manifest, config: Config, layer: Option<NewLayer>) -> Result<(Vec<u8>, Vec<u8>)> {
    let mut rootfs = RootFs { diff_ids: config.rootfs.diff_ids.clone(), ..config.rootfs.clone() };
    let mut layers: Vec<Descriptor> = base.layers.iter().take(rootfs.diff_ids.len()).cloned().collect();
    let mut docker = base.media_type == media::DOCKER_MANIFEST;
    if let Some(new) = layer {
        let media_type = if docker { media::of_docker(new.media_type) } else { Some(new.media_type) };
        docker &= media_type.is_some();
        layers.push(Descriptor::new(media_type.unwrap_or(new.media_type), new.blob, new.size));
        rootfs.diff_ids.push(new.diff_id);
    }
    if !docker {
        layers.iter_mut().for_each(|layer| {
            if let Some(oci) = media::of_oci(&layer.media_type) {
                layer.media_type = oci.into();
            }
        });
    }
    let config = Document::make(Config { rootfs, ..config })?;
    let manifest = if docker {
        Manifest::make_docker(config.descriptor(media::DOCKER_CONFIG), layers)?
    } else {
        Manifest::make(config.descriptor(media::OCI_CONFIG), layers)?
    };
    Ok((manifest.bytes().to_vec(), config.bytes().to_vec()))
}

/// The history of the first `layers` layers, made to fit them: a layer without a step gets an empty one, and a step
/// without a layer says so. Or the step that follows would be taken for that of another layer.
fn steps(base: &Config, layers: usize) -> Vec<History> {
    let before = |step: &super::config::Step<'_>| step.layer.as_ref().is_none_or(|layer| layer.index < layers);
    let steps = base.steps(&[]).into_iter().take_while(before);
    let fitting =
        steps.map(|step| History { empty_layer: step.layer.is_none(), ..step.history.cloned().unwrap_or_default() });
    fitting.collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::image::config::RunConfig;

    fn id(n: u8) -> DiffId {
        DiffId(Digest::of(&[n]))
    }

    fn step(created_by: &str, empty_layer: bool) -> History {
        History { created_by: Some(created_by.into()), empty_layer, ..History::default() }
    }

    fn base(history: Option<Vec<History>>) -> Config {
        let extra = serde_json::json!({"container_config": {}, "docker_version": "1"}).as_object().unwrap().clone();
        let config = Some(RunConfig { env: Some(vec!["A=a".into()]), ..RunConfig::default() });
        let rootfs = RootFs { diff_ids: vec![id(1), id(2)], ..RootFs::default() };
        Config { rootfs, history, config, extra, author: Some("old".into()), ..Config::default() }
    }

    fn commit() -> Commit {
        Commit { created: Timestamp::from_unix(5), author: None, comment: Some("why".into()) }
    }

    fn new(media_type: &'static str) -> Option<NewLayer> {
        Some(NewLayer { diff_id: id(3), blob: Digest::of(b"blob"), size: 7, media_type })
    }

    fn manifest(docker: bool) -> Document<Manifest> {
        let layer = if docker { media::DOCKER_LAYER_GZIP } else { media::OCI_LAYER_GZIP };
        let layers = [1, 2].map(|n| Descriptor::new(layer, Digest::of(&[n, n]), 1));
        let make = if docker { Manifest::make_docker } else { Manifest::make };
        make(Descriptor::new("", Digest::of(b"c"), 1), layers.into()).unwrap()
    }

    #[test]
    fn what_is_new_comes_behind_what_there_was() {
        let old = base(Some(vec![step("one", false), step("CMD", true), step("two", false)]));
        let config = commit().config(&old, 2, &["ENV B=$A"], false).unwrap();
        assert_eq!(config.config.as_ref().unwrap().env.as_ref().unwrap(), &["A=a", "B=a"]);
        assert_eq!((config.created.as_deref(), config.author.as_deref()), (Some("1970-01-01T00:00:05Z"), None));
        assert!(config.extra.contains_key("docker_version") && !config.extra.contains_key("container_config"));
        let last = config.history.as_ref().unwrap().last().unwrap();
        assert_eq!((last.comment.as_deref(), last.empty_layer), (Some("why"), false));
        let (bytes, _) = documents(&manifest(false), config, new(media::OCI_LAYER_ZSTD)).unwrap();
        let made: Manifest = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(made.layers.len(), 3);
        assert_eq!(made.layers[2].media_type, media::OCI_LAYER_ZSTD);
    }

    #[test]
    fn history_is_made_to_fit() {
        for history in [None, Some(vec![step("one", false)]), Some(vec![step("x", false); 5])] {
            let mut config = commit().config(&base(history), 2, &[""; 0], false).unwrap();
            config.rootfs.diff_ids.push(id(3));
            let steps = config.steps(&[]);
            let last = steps.last().unwrap();
            assert_eq!(last.layer.unwrap().index, 2);
            assert_eq!(last.history.unwrap().created_by.as_deref(), Some(CREATED_BY));
            assert!(!steps.iter().any(super::super::config::Step::lacks_layer));
        }
    }

    #[test]
    fn the_first_layers_only() {
        let old = base(Some(vec![step("one", false), step("CMD", true), step("two", false), step("ENV", true)]));
        let config = commit().config(&old, 1, &[""; 0], true).unwrap();
        let steps: Vec<_> = config.history.as_ref().unwrap().iter().map(|h| h.created_by.as_deref().unwrap()).collect();
        assert_eq!(steps, ["one", "CMD", CREATED_BY]);
        let (bytes, config) = documents(&manifest(false), config, None).unwrap();
        let (made, config): (Manifest, Config) =
            (serde_json::from_slice(&bytes).unwrap(), serde_json::from_slice(&config).unwrap());
        assert_eq!((made.layers.len(), config.rootfs.diff_ids.len()), (1, 1));
    }

    #[test]
    fn the_kind_of_the_image_below_is_kept_where_it_can_be() {
        let made = |media_type| {
            let config = commit().config(&base(None), 2, &[""; 0], false).unwrap();
            let (bytes, _) = documents(&manifest(true), config, new(media_type)).unwrap();
            serde_json::from_slice::<Manifest>(&bytes).unwrap()
        };
        let kinds = |m: &Manifest| m.layers.iter().map(|l| l.media_type.clone()).collect::<Vec<_>>();
        let docker = made(media::OCI_LAYER_GZIP);
        assert_eq!(
            (docker.media_type.as_str(), docker.config.media_type.as_str()),
            (media::DOCKER_MANIFEST, media::DOCKER_CONFIG)
        );
        assert_eq!(kinds(&docker), [media::DOCKER_LAYER_GZIP; 3]);
        let oci = made(media::OCI_LAYER_ZSTD);
        assert_eq!((oci.media_type.as_str(), oci.config.media_type.as_str()), (media::OCI_MANIFEST, media::OCI_CONFIG));
        assert_eq!(kinds(&oci), [media::OCI_LAYER_GZIP, media::OCI_LAYER_GZIP, media::OCI_LAYER_ZSTD]);
    }
}
