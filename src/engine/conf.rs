//! Where `storage.conf` says that containers/storage keeps images (containers-storage.conf(5)).

use super::{Error, Result};
use serde::Deserialize;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// Longest file that is read, in bytes: those of distributions have a few KiB.
const LONGEST: u64 = 1 << 20;

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
    let mut text = Vec::new();
    match File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut text)) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|source| Error::Io { doing: "read", path: path.to_owned(), source })?,
    };
    let wrong = |why: &str| Error::Damaged { path: path.to_owned(), why: format!("it is no storage.conf: {why}") };
    if text.len() as u64 > LONGEST {
        return Err(wrong("it is too long"));
    }
    let text = String::from_utf8(text).map_err(|_| wrong("it is not UTF-8"))?;
    let tables: Tables = toml::from_str(&text).map_err(|e| wrong(e.message()))?;
    Ok(Some(tables.storage))
}
