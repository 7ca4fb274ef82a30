//! A mount that is named by its path.

use super::context::Context;
use super::hints::is_layout;
use super::options::{MountOptions, NAME};
use crate::fuse::about;
use crate::store::Writable;
use crate::sys;
use anyhow::{Context as _, bail};
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What is mounted there.
#[derive(Debug)]
pub enum Mounted {
    /// A writable layer of the store, by its name.
    Writable(String),
    /// Anything else: the options that say which layers it has. What the kernel holds back is written.
    Other(Box<MountOptions>),
}

/// Whether a word is a path, and no name: names do not begin so.
pub fn is_path(word: &OsStr) -> bool {
    matches!(word.as_bytes().first(), Some(b'/' | b'.'))
}

impl Mounted {
    /// Looks at the mount at a path.
    pub fn at(path: &Path, context: &Context) -> anyhow::Result<Self> {
        let place = path.canonicalize().with_context(|| format!("cannot look at {}", path.display()))?;
        if place.is_file() {
            bail!("{} is a file: name an archive as docker-archive:{0} or oci-archive:{0}", path.display());
        }
        if let Some(store) = context.store_if_there()? {
            let here = |writable: &Writable| writable.mount.as_ref().is_some_and(|mount| mount.mountpoint == place);
            if let Some(writable) = store.sound_writables()?.0.into_iter().find(here) {
                return Ok(Self::Writable(writable.record.name));
            }
        }
        let told = about::options(&place).with_context(|| format!("cannot ask the mount at {}", path.display()))?;
        let Some(told) = told else { bail!(nothing_told(path, &place)) };
        let mut options = MountOptions::defaults(true);
        options.apply(OsStr::from_bytes(&told))?;
        refuse_its_own(&options, path)?;
        let synced = sys::open_root(&place).and_then(|root| sys::syncfs(root.as_fd()));
        synced.with_context(|| format!("cannot have {} written out", path.display()))?;
        Ok(Self::Other(Box::new(options)))
    }
}

/// Refuses directories that the mount names by descriptors of its own: here such a path leads elsewhere, or nowhere.
fn refuse_its_own(options: &MountOptions, path: &Path) -> anyhow::Result<()> {
    let is_its_own = |dir: &PathBuf| dir.starts_with("/proc/self");
    if options.upper.iter().chain(&options.work).any(is_its_own) {
        bail!(
            "the changes of the mount at {} are in a file system that only the mount itself has open (--tmpfs-upper), and \
             cannot be looked at; the layers below can, as the image or with --lower",
            path.display()
        );
    }
    match options.lower.iter().chain(&options.data_only).find(|dir| is_its_own(dir)) {
        Some(dir) => bail!("the mount at {} has {}, which no other process can open", path.display(), dir.display()),
        None => Ok(()),
    }
}

/// Why what is mounted at `place` does not tell of itself.
fn nothing_told(path: &Path, place: &Path) -> String {
    let mounts = sys::mounts().unwrap_or_default();
    let on_top = mounts.iter().rfind(|mount| mount.place == place);
    if on_top.is_some_and(|mount| mount.kind == "overlay" && mount.source == NAME) {
        return format!(
            "{} is a mount of the kernel (mount --kernel), which does not say what it consists of; name its image, or give \
             its directories with --lower and --upper",
            path.display()
        );
    }
    if is_layout(place) {
        return format!("{} is an OCI image layout: name it oci:{0}", path.display());
    }
    format!("{} is no mount of laminafs; directories are given with --lower", path.display())
}
