//! Where `storage.conf` says that containers/storage keeps images (containers-storage.conf(5)).

use super::{Error, Result};
use serde::Deserialize;
use std::io::ErrorKind;
use std::path::Path;

/// What a `storage.conf` says of places. Variables in them are not expanded yet.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct StorageConf {
    /// Where images and containers are.
    pub graphroot: Option<String>,
    /// Where those of ordinary users are.
    pub rootless_storage_path: Option<String>,
}

#[derive(Deserialize)]
struct Tables {
    #[serde(default)]
    storage: StorageConf,
}

/// Reads a `storage.conf`; none when it is not there.
///
/// # Errors
/// [`Error::Damaged`] for what is not TOML, [`Error::Io`].
pub fn storage_conf(path: &Path) -> Result<Option<StorageConf>> {
    let text = match std::fs::read_to_string(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|source| Error::Io { doing: "read", path: path.to_owned(), source })?,
    };
    let tables: Tables = toml::from_str(&text).map_err(|e| Error::Damaged {
        path: path.to_owned(),
        why: format!("it is no storage.conf: {}", e.message()),
    })?;
    Ok(Some(tables.storage))
}
