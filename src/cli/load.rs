//! `laminafs load`: images from archives and layouts come into the store.

use super::context::{Context, allow_descriptors};
use super::hints::{elsewhere, not_in_store};
use super::interrupt::Interrupt;
use super::limits::{LimitArgs, advise};
use super::progress::{self, Layers};
use super::{Failure, complain, for_each, output};
use crate::image::container::{Format, ImageInSource, Source, Spool, Wanted};
use crate::image::location::{ImageArg, Location};
use crate::image::{Platform, Reference};
use crate::store::{Loaded, Step, Store};
use anyhow::{Context as _, bail};
use clap::Args;
use clap::error::ErrorKind;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

/// Arguments of `laminafs load`.
#[derive(Debug, Args)]
#[command(
    after_help = "Read are archives of docker, podman and skopeo and OCI archives, also compressed with gzip or zstd.\n\n\
    Examples:\n  \
    docker save alpine | laminafs load\n  \
    laminafs load -i images.tar.gz\n  \
    laminafs load oci:layout:latest\n  \
    laminafs load --platform linux/arm64 oci-archive:multi.tar"
)]
pub struct LoadArgs {
    /// Read this archive or layout; - is standard input, which is also the default
    #[arg(short, long, value_name = "FILE", conflicts_with = "image")]
    input: Option<PathBuf>,
    /// Print the ids of the images only, and no progress
    #[arg(short, long)]
    quiet: bool,
    /// Take the images for this platform (os/architecture[/variant]) instead of those for this machine
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    #[command(flatten)]
    limits: LimitArgs,
    /// oci:DIR[:NAME], oci-archive:FILE[:NAME] or docker-archive:FILE[:NAME]: one image by its name or id, or all that are in there
    #[arg(value_name = "TRANSPORT:PLACE")]
    image: Option<OsString>,
}

/// What to read.
struct Place {
    /// None is standard input.
    path: Option<PathBuf>,
    format: Option<Format>,
    name: Option<String>,
}

/// Loads every image that is asked for; after a failure it goes on with the next.
pub fn run(args: &LoadArgs, context: &Context) -> Result<(), Failure> {
    let place = place(args)?;
    allow_descriptors();
    let store = context.store()?;
    let spool_dir = store.spool_dir();
    let spool = Spool::new(&spool_dir);
    let source = match &place.path {
        Some(path) => Source::open(path, place.format, spool)?,
        None => {
            let mut input = progress::reader(io::stdin().lock(), "reading", progress::wanted(args.quiet));
            Source::from_reader(&mut input, Path::new("standard input"), place.format, spool)?
        }
    };
    let images = source.images(Wanted { platform: args.platform.as_ref(), reference: place.name.as_deref() })?;
    let interrupt = Interrupt::watch(&store)?;
    for_each(&images, |image| {
        let loaded = interrupt.heed(load(&store, &source, image, args))??;
        report(image, &loaded, args.quiet)
    })
}

fn place(args: &LoadArgs) -> anyhow::Result<Place> {
    let Some(argument) = &args.image else {
        let path = args.input.clone().filter(|path| path.as_os_str() != "-");
        if args.input.is_none() && io::stdin().is_terminal() {
            return Err(clap::Error::raw(ErrorKind::MissingRequiredArgument, NOTHING_TO_READ).into());
        }
        return Ok(Place { path, format: None, name: None });
    };
    let (path, format, name) = match ImageArg::parse(argument)?.location {
        Location::Oci { path, reference } | Location::OciArchive { path, reference } => (path, Format::Oci, reference),
        Location::DockerArchive { path, reference } => (path, Format::Docker, reference),
        place @ (Location::ContainersStorage(_) | Location::DockerStore(_)) => {
            return Err(not_in_store(&argument.to_string_lossy(), &place));
        }
        Location::Store(name) => match elsewhere(&name) {
            Some(why) => bail!("{why}, then laminafs load oci:layout"),
            None => bail!(
                "{0} is not a place to load from; a file is given with -i {0}, others as oci:DIR, oci-archive:FILE or \
                 docker-archive:FILE",
                argument.display()
            ),
        },
    };
    Ok(Place { path: Some(path), format: Some(format), name })
}

const NOTHING_TO_READ: &str = "nothing to load: give an archive with -i FILE, a layout as oci:DIR, \
    or pipe an archive into it, as in: docker save alpine | laminafs load\n";

fn load(store: &Store, source: &Source, image: &ImageInSource, args: &LoadArgs) -> anyhow::Result<Loaded> {
    let (names, others): (Vec<&Reference>, Vec<&Reference>) = image.references.iter().partition(|name| is_tag(name));
    let others = others.into_iter().map(Reference::to_string);
    for name in image.unusable_names.iter().cloned().chain(others) {
        complain(&format!(
            "note: image {} is loaded without the name '{name}', which is none that an image can have",
            image.config.digest().short()
        ));
    }
    let names = names.into_iter().cloned().collect();
    let incoming = Store::incoming(source, image, names, args.limits.limits());
    let shown = image.references.first().map_or_else(|| image.config.digest().short(), Reference::familiar);
    let digests = image.layers.iter().map(|layer| layer.digest.or(Some(layer.diff_id.0)));
    let bars = progress::wanted(args.quiet).then(|| Layers::new(digests));
    let step = |layer, step: Step| bars.iter().for_each(|bars| bars.step(layer, step));
    store.load(incoming, Some(&step)).map_err(advise).with_context(|| format!("cannot load {shown}"))
}

/// Only such a name is given to an image.
fn is_tag(name: &Reference) -> bool {
    name.tag().is_some() && name.digest().is_none()
}

fn report(image: &ImageInSource, loaded: &Loaded, quiet: bool) -> anyhow::Result<()> {
    if quiet {
        return output::line(&loaded.id.to_string());
    }
    for (name, old) in &loaded.moved {
        let name = name.familiar();
        output::line(&format!("The image {name} already exists, renaming the old one with ID {old} to empty string"))?;
    }
    let names: Vec<&Reference> = image.references.iter().filter(|name| is_tag(name)).collect();
    if names.is_empty() {
        output::line(&format!("Loaded image ID: {}", loaded.id))?;
    }
    output::lines(names.into_iter().map(|name| format!("Loaded image: {}", name.familiar())))
}
