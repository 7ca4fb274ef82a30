//! What commands that use the store have in common: where it is.

use crate::store::{Error, Store};
use crate::sys::process::{is_root, raise_nofile_limit};
use anyhow::{Context as _, bail};
use std::path::{Path, PathBuf};

/// Where root's store is.
const SYSTEM: &str = "/var/lib/laminafs";

/// The global options.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// `--root`.
    pub root: Option<PathBuf>,
}

impl Context {
    /// The store: `--root`, else `$LAMINAFS_ROOT` if that is not empty, else root's own place or that of the user. Nothing is made.
    pub fn root(&self) -> anyhow::Result<PathBuf> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(root) = self.root.clone().or_else(|| variable("LAMINAFS_ROOT")) {
            return Ok(root);
        }
        if is_root() {
            return Ok(SYSTEM.into());
        }
        // The XDG specification has relative paths ignored.
        if let Some(data) = variable("XDG_DATA_HOME").filter(|path| path.is_absolute()) {
            return Ok(data.join("laminafs"));
        }
        match variable("HOME") {
            Some(home) => Ok(home.join(".local/share/laminafs")),
            None => bail!("where is the image store? HOME is not set; give the directory with --root"),
        }
    }

    /// Opens the store if there is one; nothing is made.
    pub fn store_if_there(&self) -> anyhow::Result<Option<Store>> {
        if self.root()?.join("format").is_file() { self.store().map(Some) } else { Ok(None) }
    }

    /// The same for what lists the store: what cannot be looked at, or is no store, is an error and not an empty one.
    pub fn store_to_list(&self) -> anyhow::Result<Option<Store>> {
        let nothing = match std::fs::read_dir(self.root()?) {
            Ok(mut entries) => entries.next().is_none(),
            Err(e) => e.kind() == std::io::ErrorKind::NotFound,
        };
        if nothing { Ok(None) } else { self.store().map(Some) }
    }

    /// The same for what reads something in it: without a store that is missing, which `missing` says.
    pub fn store_to_read(&self, missing: impl FnOnce() -> Error) -> anyhow::Result<Store> {
        self.store_to_list()?.ok_or_else(|| missing().into())
    }

    /// Opens the store, which is made if there is none.
    pub fn store(&self) -> anyhow::Result<Store> {
        let root = self.root()?;
        Store::open(&root).with_context(|| format!("cannot open the image store {}", Path::display(&root)))
    }
}

/// For what has many layers: each takes a descriptor, and each directory on the way to those that are being read.
pub fn allow_descriptors() {
    // Not inside of the macro, which does nothing where nobody reads the log.
    let limit = raise_nofile_limit();
    log::debug!("up to {limit} descriptors");
}
