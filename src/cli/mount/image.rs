//! From an image argument to layers that are held.

use super::held::{Held, Writable};
use super::kernel;
use crate::cli::context::Context;
use crate::cli::engine::Engine;
use crate::cli::hints::with_hint;
use crate::cli::options::MountOptions;
use crate::engine::Found;
use crate::image::location::{ImageArg, Location};
use crate::overlay;
use crate::store::{Lease, NewWritable, Pin, Store};
use anyhow::{anyhow, bail};
use clap::Args;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// How an image is mounted.
#[derive(Debug, Default, PartialEq, Eq, Args)]
pub struct ImageArgs {
    /// The name of the writable layer: a new one for IMAGE; without IMAGE one that there is, with its changes
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Remove the writable layer when the mount ends
    #[arg(long)]
    pub rm: bool,
    /// Mount the layers alone, without a writable one
    #[arg(long, conflicts_with_all = ["name", "rm", "tmpfs_upper"])]
    pub read_only: bool,
    /// Keep changes in memory (of SIZE at most: 64m, 50%) for as long as the mount lives; needs root
    #[arg(long, value_name = "SIZE", num_args = 0..=1, require_equals = true, default_missing_value = "", conflicts_with_all = ["name", "rm"])]
    pub tmpfs_upper: Option<OsString>,
    /// Mount with the overlayfs of the kernel; needs root
    #[arg(long)]
    pub kernel: bool,
    /// Where the engine keeps its images, for containers-storage: and docker-store:
    #[arg(long, value_name = "DIR")]
    pub storage_root: Option<PathBuf>,
}

impl ImageArgs {
    /// Refuses what has no meaning without an image.
    pub fn need_image(&self) -> anyhow::Result<()> {
        for (given, flag) in
            [(self.rm, "--rm"), (self.read_only, "--read-only"), (self.storage_root.is_some(), "--storage-root")]
        {
            if given {
                bail!("{flag} is for images: name one before the mount point");
            }
        }
        Ok(())
    }
}

/// The layers of a mount, and what keeps them.
pub struct Ground {
    /// Lower layers, and upper if there is one.
    pub layers: overlay::Options,
    /// What stays as long as the mount.
    pub held: Held,
    /// Why kernel overlayfs cannot mount these layers.
    pub not_for_kernel: Option<&'static str>,
}

/// Layers of the store that were unpacked without privileges.
pub const OVERRIDE_STAT: &str = "owners and devices are kept in extended attributes, which it does not know";
/// Layers that a FUSE program of an engine wrote.
const OCI_WHITEOUTS: &str = "deleted files are kept as .wh. files, which it does not know";

impl Ground {
    /// Directories that were named one by one.
    pub fn directories(options: &MountOptions) -> anyhow::Result<Self> {
        let all = |paths: &[PathBuf]| paths.iter().map(|path| absolute(path)).collect::<anyhow::Result<Vec<_>>>();
        if options.lower.is_empty() && options.upper.is_none() {
            bail!("nothing to mount: give an image, --name of a writable layer, or layers with lowerdir= or --lower");
        }
        let layers = overlay::Options {
            lower: all(&options.lower)?,
            data_only: all(&options.data_only)?,
            upper: options.upper.as_deref().map(absolute).transpose()?,
            work: options.work.as_deref().map(absolute).transpose()?,
            ..overlay::Options::default()
        };
        Ok(Self { layers, held: Held::default(), not_for_kernel: None })
    }

    /// Adds the upper directory in memory, and refuses what the kernel is to mount and cannot.
    pub fn fit(&mut self, how: &ImageArgs, options: &MountOptions) -> anyhow::Result<()> {
        if let Some(size) = &how.tmpfs_upper {
            self.make_tmpfs(size)?;
        }
        if how.kernel { kernel::check(self, options) } else { Ok(()) }
    }

    fn pinned(pin: Pin) -> Self {
        let (lower, override_stat) = (pin.lower().to_vec(), pin.override_stat());
        let layers = overlay::Options { lower, override_stat, ..overlay::Options::default() };
        let not_for_kernel = override_stat.then_some(OVERRIDE_STAT);
        Self { layers, held: Held { pin: Some(pin), ..Held::default() }, not_for_kernel }
    }

    fn leased(store: Store, lease: Lease, made: bool) -> Self {
        let layers = overlay::Options {
            lower: lease.lower().to_vec(),
            upper: Some(lease.writable().upper.clone()),
            work: Some(lease.writable().work.clone()),
            override_stat: lease.pin().override_stat(),
            ..overlay::Options::default()
        };
        let not_for_kernel = lease.pin().override_stat().then_some(OVERRIDE_STAT);
        let writable = Some(Writable { store, lease, made });
        Self { layers, held: Held { writable, ..Held::default() }, not_for_kernel }
    }

    fn of_engine(found: Found) -> Self {
        let not_for_kernel = match &found {
            found if found.override_stat => Some(OVERRIDE_STAT),
            found if found.oci_whiteouts => Some(OCI_WHITEOUTS),
            _ => None,
        };
        let Found { lower, override_stat, .. } = found;
        let layers = overlay::Options { lower, override_stat, ..overlay::Options::default() };
        Self { layers, held: Held::default(), not_for_kernel }
    }
}

/// The path from the root on.
pub fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).map_err(|e| match e.kind() {
        ErrorKind::NotFound if !path.as_os_str().is_empty() => {
            anyhow!(
                "{} cannot be found, as the working directory has been removed; change to another one",
                path.display()
            )
        }
        _ => e.into(),
    })
}

/// Finds and holds what `image`, or without one the writable layer of `--name`, consists of.
pub fn find(
    image: Option<&OsStr>,
    how: &ImageArgs,
    read_only: bool,
    mountpoint: &Path,
    context: &Context,
) -> anyhow::Result<Ground> {
    let Some(image) = image else {
        let name = how.name.as_deref().unwrap_or_default();
        if how.rm {
            bail!("--rm is for new writable layers; remove {name} afterwards with: laminafs rm {name}");
        }
        how.need_image()?;
        let store = open(context, mountpoint)?;
        let lease = store.lease(name)?;
        return Ok(Ground::leased(store, lease, false));
    };
    let ImageArg { location, layers } = ImageArg::parse(image)?;
    match location {
        Location::Store(_) if how.storage_root.is_some() => {
            bail!("--storage-root is for containers-storage: and docker-store:; the store is given with --root")
        }
        Location::Store(name) => from_store(&name, layers, how, read_only, open(context, mountpoint)?),
        Location::ContainersStorage(name) => from_engine(how, Engine::Containers, &name, layers),
        Location::DockerStore(name) => from_engine(how, Engine::Docker, &name, layers),
        Location::Oci { .. } | Location::OciArchive { .. } | Location::DockerArchive { .. } => {
            let image = image.to_string_lossy();
            bail!("{image} must be unpacked first; load it with: laminafs load {image}")
        }
    }
}

fn from_engine(how: &ImageArgs, engine: Engine, name: &str, layers: Option<usize>) -> anyhow::Result<Ground> {
    if how.name.is_some() || how.rm {
        bail!("an engine's layers are mounted read-only, or with --tmpfs-upper; load the image for a writable layer");
    }
    let found = engine.find(how.storage_root.as_deref(), name, layers)?;
    if found.lower.is_empty() {
        bail!("there are no layers, so that there is nothing to mount");
    }
    Ok(Ground::of_engine(found))
}

/// Opens the store, unless the mount would hide it or lie in it.
fn open(context: &Context, mountpoint: &Path) -> anyhow::Result<Store> {
    let store = context.store()?;
    let (inner, outer) = (mountpoint.canonicalize()?, store.path().canonicalize()?);
    if inner.starts_with(&outer) {
        bail!("the mount point is inside the image store {}; choose one elsewhere", outer.display());
    }
    if outer.starts_with(&inner) {
        bail!("a mount here would hide the image store {}; choose another mount point", outer.display());
    }
    Ok(store)
}

fn from_store(
    name: &str,
    layers: Option<usize>,
    how: &ImageArgs,
    read_only: bool,
    store: Store,
) -> anyhow::Result<Ground> {
    let image = store.find(name).map_err(|error| with_hint(error, &store))?.record;
    if image.layers.is_empty() {
        bail!("image {name} has no layers, so that there is nothing to mount");
    }
    let named = how.name.is_some() || how.rm;
    if how.read_only || how.tmpfs_upper.is_some() || (read_only && !named) {
        return Ok(Ground::pinned(store.pin(&image.id, layers)?));
    }
    let new = NewWritable { layers, name: how.name.as_deref(), ephemeral: how.rm };
    let lease = store.lease_new(&image.id, new)?;
    Ok(Ground::leased(store, lease, true))
}
