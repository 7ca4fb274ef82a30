//! What the inspecting commands look into: an image wherever it is, a writable layer, a mount, or plain directories.

use super::context::{Context, allow_descriptors};
use super::engine::Engine;
use super::hints::nothing_named;
use super::mounted::Mounted;
use super::options::layers;
use super::place::{At, Place};
use super::reading::WritableTree;
use crate::archive::Limits;
use crate::image::container::{Format, ImageInSource, Source, Spool, Wanted};
use crate::image::format::printable;
use crate::image::location::Location;
use crate::image::{Config, Document, Platform, Reference};
use crate::provenance::{Facts, LayerDirectory, Merged, Stack, facts};
use crate::store::{Error, Image, Pin, Store};
use anyhow::{Context as _, bail};
use clap::Args;
use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What directories that are given with `--lower` are called.
pub const STACK: &str = "the stack";

/// What the help of every inspecting command says about TARGET.
pub const TARGETS: &str = "TARGET is a writable layer, an image, docker-archive:FILE[:NAME], oci:DIR[:NAME] or \
    oci-archive:FILE[:NAME] (read without loading), containers-storage:NAME or docker-store:NAME, or the path of a mount. \
    TARGET@N is the view up to layer N; layer 1 is the lowest. --lower A:B takes directories instead.";

/// The options that say how the target is read.
#[derive(Clone, Debug, Args)]
pub struct TargetArgs {
    /// Look into these directories instead of TARGET; topmost first, separated by colons, may be repeated
    #[arg(long, value_name = "DIR[:DIR...]", help_heading = "Where to look")]
    lower: Vec<OsString>,
    /// With --lower: the writable directory on top of them
    #[arg(long, value_name = "DIR", requires = "lower", help_heading = "Where to look")]
    upper: Option<PathBuf>,
    /// With --upper: its work directory, which knows the hard links
    #[arg(long, value_name = "DIR", requires = "upper", help_heading = "Where to look")]
    work: Option<PathBuf>,
    #[command(flatten)]
    places: PlaceArgs,
}

/// The options that say more about a place.
#[derive(Clone, Debug, Args)]
pub struct PlaceArgs {
    /// Take the image for this platform (os/architecture[/variant]) instead of that for this machine
    #[arg(long, value_name = "PLATFORM", help_heading = "Where to look")]
    platform: Option<Platform>,
    /// Where the engine keeps its images, for containers-storage: and docker-store:
    #[arg(long, value_name = "DIR", help_heading = "Where to look")]
    storage_root: Option<PathBuf>,
}

/// What keeps the layers from being removed while they are read.
#[derive(Debug)]
enum Held {
    Nothing,
    Pin { _pin: Pin },
    Writable { store: Store, tree: Box<WritableTree> },
}

/// A target that was read.
#[derive(Debug)]
pub struct Target {
    /// Its layers, up to the one that was asked for.
    pub merged: Merged,
    /// The configuration of the image, if there is one.
    pub config: Option<Document<Config>>,
    held: Held,
}

impl Target {
    fn new(merged: Merged) -> Self {
        Self { merged, config: None, held: Held::Nothing }
    }

    /// The target, if all of it could be read.
    pub fn whole(self) -> anyhow::Result<Self> {
        self.merged.check_all()?;
        Ok(self)
    }

    /// Whether the writable layer that was read is still there: else what was read was just being deleted.
    pub fn check(&self) -> anyhow::Result<()> {
        match &self.held {
            Held::Writable { store, tree } => Ok(store.still_there(tree.reading())?),
            Held::Pin { .. } | Held::Nothing => Ok(()),
        }
    }
}

impl TargetArgs {
    /// Reads the target that stands first in `words`, unless there is `--lower`; and the words after it, which must be as
    /// many as `paths` says. For commands that are about some paths, and check whether all was read that they need
    /// ([`Merged::check_read`]; [`super::ls::find`] does it for the way to a path).
    pub fn open_partly<'a>(
        &self,
        words: &'a [OsString],
        paths: RangeInclusive<usize>,
        context: &Context,
    ) -> anyhow::Result<(Target, &'a [OsString])> {
        let (target, rest) = match words.split_first() {
            _ if !self.lower.is_empty() => (None, words),
            Some((target, rest)) => (Some(target), rest),
            None => return Err(usage("no TARGET given: name an image, a writable layer or a mount, or give --lower")),
        };
        if rest.len() < *paths.start() {
            return Err(usage("no PATH given: name one after the target"));
        }
        if let Some(word) = rest.get(*paths.end()) {
            return Err(usage(&format!("{} is one argument too many", word.display())));
        }
        Ok((
            target.map_or_else(|| self.directories(), |target| self.places.read(&Place::parse(target)?, context))?,
            rest,
        ))
    }

    /// The same for commands that take nothing else, and need all of it.
    pub fn open_alone(&self, words: &[OsString], context: &Context) -> anyhow::Result<Target> {
        let (target, _) = self.open_partly(words, 0..=0, context)?;
        target.whole()
    }

    fn directories(&self) -> anyhow::Result<Target> {
        let text = self.lower.iter().map(|text| text.as_bytes()).collect::<Vec<_>>().join(&b':');
        let (lower, data_only) = layers(&text)?;
        let (upper, work) = (self.upper.as_deref(), self.work.as_deref());
        directories(STACK, Stack { lower: &lower, data_only: &data_only, upper, work, ..Stack::default() }, None)
    }
}

/// The command line was not understood.
pub fn usage(sentence: &str) -> anyhow::Error {
    let sentence = format!("{}\n", printable(sentence));
    clap::Error::raw(clap::error::ErrorKind::WrongNumberOfValues, sentence).into()
}

impl PlaceArgs {
    /// Reads a target.
    pub fn read(&self, place: &Place, context: &Context) -> anyhow::Result<Target> {
        let Place { text, at, layers } = place;
        let layers = *layers;
        let location = match at {
            At::Mount(path) => return mounted(path, layers, context),
            At::Image(location) => location,
        };
        match location {
            Location::Store(name) => {
                let target = in_store(name, layers, context)?;
                if let (Some(wanted), Some(config)) = (&self.platform, &target.config) {
                    wanted.choose([(&config.platform(), ())]).with_context(|| name.clone())?;
                }
                Ok(target)
            }
            Location::ContainersStorage(name) => self.in_engine(text, Engine::Containers, name, layers),
            Location::DockerStore(name) => self.in_engine(text, Engine::Docker, name, layers),
            Location::Oci { path, reference } | Location::OciArchive { path, reference } => {
                self.in_archive(place, path, Format::Oci, reference.as_deref())
            }
            Location::DockerArchive { path, reference } => {
                self.in_archive(place, path, Format::Docker, reference.as_deref())
            }
        }
    }

    fn in_engine(&self, shown: &str, engine: Engine, name: &str, layers: Option<usize>) -> anyhow::Result<Target> {
        let found = engine.find(self.storage_root.as_deref(), name, layers)?;
        let (upper, lower) = match (&found.work, found.lower.split_first()) {
            (Some(_), Some((upper, lower))) => (Some(upper.as_path()), lower),
            _ => (None, found.lower.as_slice()),
        };
        let (work, override_stat) = (found.work.as_deref(), found.override_stat);
        let mut layers = Stack { lower, upper, work, override_stat, ..Stack::default() }.layers();
        let known = found.config.as_ref().map(facts).unwrap_or_default();
        layers.iter_mut().zip(known).for_each(|(layer, known)| layer.facts = Facts { foreign: true, ..known });
        allow_descriptors();
        let image = found.config.as_ref().map(Document::digest);
        Ok(Target { config: found.config, ..Target::new(Merged::of_directories(shown, image, layers)?) })
    }

    fn in_archive(
        &self,
        place: &Place,
        path: &Path,
        format: Format,
        reference: Option<&str>,
    ) -> anyhow::Result<Target> {
        let name = &place.text;
        let spool_dir = std::env::temp_dir();
        let source = Arc::new(Source::open(path, Some(format), Spool::new(&spool_dir))?);
        let wanted = Wanted { platform: self.platform.as_ref(), reference };
        let images = source.images(wanted)?;
        let [image] = images.as_slice() else {
            let names: Vec<String> = images.iter().map(display).collect();
            bail!("{name} holds several images: add a colon and one of {}", names.join(", "));
        };
        let merged = Merged::of_image_in(name, &source, image, place.layers, &Limits::default())?;
        Ok(Target { config: Some(image.config.clone()), ..Target::new(merged) })
    }
}

fn display(image: &ImageInSource) -> String {
    image.references.first().map_or_else(|| image.config.digest().short(), Reference::familiar)
}

fn directories(name: &str, stack: Stack<'_>, layers: Option<usize>) -> anyhow::Result<Target> {
    allow_descriptors();
    let directories = LayerDirectory::lowest(name, stack.layers(), layers)?;
    Ok(Target::new(Merged::of_directories(name, None, directories)?))
}

/// The layers of a mount: of the store, if it is one of an image, else as the mount itself tells.
fn mounted(path: &Path, layers: Option<usize>, context: &Context) -> anyhow::Result<Target> {
    let options = match Mounted::at(path, context)? {
        Mounted::Writable(name) => return in_store(&name, layers, context),
        Mounted::Other(options) => options,
    };
    let stack = Stack {
        lower: &options.lower,
        data_only: &options.data_only,
        upper: options.upper.as_deref(),
        work: options.work.as_deref().filter(|_| options.index),
        override_stat: options.override_stat,
    };
    let place = path.canonicalize()?;
    directories(&place.to_string_lossy(), stack, layers)
}

fn in_store(name: &str, layers: Option<usize>, context: &Context) -> anyhow::Result<Target> {
    allow_descriptors();
    find_in_store(name, layers, context).map_err(|error| match error.downcast_ref() {
        Some(Error::NoImage(_)) => nothing_named(name, context.store_if_there().unwrap_or_default().as_ref()),
        _ => error,
    })
}

fn find_in_store(name: &str, layers: Option<usize>, context: &Context) -> anyhow::Result<Target> {
    let store = context.store_to_read(|| Error::NoImage(name.to_owned()))?;
    match store.writable(name) {
        Err(Error::NoWritable(_)) => {}
        found => {
            found?;
            let tree = Box::new(WritableTree::open(&store, name)?);
            let merged = Merged::of_writable(name, &store, tree.reading(), layers)?;
            let image = merged.image.map(|id| store.find(&id.to_string())).transpose()?;
            let config = image.map(|image| config(&store, &image)).transpose()?;
            return Ok(Target { merged, config, held: Held::Writable { store, tree } });
        }
    }
    let image = store.find(name)?;
    let pin = store.pin(&image.record.id, layers)?;
    let merged = Merged::of_image(name, &store, &image, layers)?;
    let config = Some(config(&store, &image)?);
    Ok(Target { merged, config, held: Held::Pin { _pin: pin } })
}

fn config(store: &Store, image: &Image) -> anyhow::Result<Document<Config>> {
    Ok(Document::parse_config(store.config(&image.record)?)?)
}
