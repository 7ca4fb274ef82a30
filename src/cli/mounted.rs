//! A mount that is named by its path.

use super::context::Context;
use super::options::MountOptions;
use crate::fuse::about;
use crate::store::Writable;
use crate::sys;
use anyhow::{Context as _, bail};
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

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
        let Some(told) = told else {
            bail!("{} is no mount of laminafs; directories are given with --lower", path.display());
        };
        let mut options = MountOptions::defaults(true);
        options.apply(OsStr::from_bytes(&told))?;
        let synced = sys::open_root(&place).and_then(|root| sys::syncfs(root.as_fd()));
        synced.with_context(|| format!("cannot have {} written out", path.display()))?;
        Ok(Self::Other(Box::new(options)))
    }
}
