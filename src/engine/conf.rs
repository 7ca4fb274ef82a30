//! Where the configuration of engines says that they keep images: `storage.conf` (containers-storage.conf(5)) and Docker's
//! `daemon.json`.

use super::{Error, Result};
use serde::Deserialize;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Longest file that is read, in bytes: those of distributions have a few KiB.
const LONGEST: u64 = 1 << 20;

const STORAGE_CONF: &str = "storage.conf";
const DAEMON_JSON: &str = "daemon.json";

/// What a `storage.conf` says of places. Variables in them are not expanded yet.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct StorageConf {
    /// Where images and containers are.
    pub graphroot: Option<String>,
    /// Where those of ordinary users are.
    pub rootless_storage_path: Option<String>,
    /// Where images are, if that is elsewhere; those that were in `graphroot` before are there still.
    pub imagestore: Option<String>,
    /// The table `storage.options`.
    #[serde(default)]
    pub options: StorageOptions,
}

/// What the options of a `storage.conf` say of places.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct StorageOptions {
    /// Further storages with images, which are only read.
    #[serde(default)]
    pub additionalimagestores: Vec<String>,
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
    let Some(text) = read(path, STORAGE_CONF)? else { return Ok(None) };
    let tables: Tables = toml::from_str(&text).map_err(|e| wrong(path, STORAGE_CONF, e.message()))?;
    Ok(Some(tables.storage))
}

#[derive(Deserialize)]
struct DaemonJson {
    #[serde(rename = "data-root")]
    data_root: Option<String>,
    /// What it was called before Docker 17.05.
    graph: Option<String>,
}

/// Where a `daemon.json` says that Docker has its data; none when it does not say, or is not there.
///
/// # Errors
/// [`Error::Damaged`] for what is not JSON, [`Error::Io`].
pub fn docker_data_root(path: &Path) -> Result<Option<String>> {
    let Some(text) = read(path, DAEMON_JSON)?.filter(|text| !text.trim().is_empty()) else { return Ok(None) };
    let conf: DaemonJson = serde_json::from_str(&text).map_err(|e| wrong(path, DAEMON_JSON, &e.to_string()))?;
    Ok(conf.data_root.or(conf.graph).filter(|root| !root.is_empty()))
}

/// The text of a file; none when it is not there. What waits for a writer is not read.
fn read(path: &Path, what: &str) -> Result<Option<String>> {
    let failed = |source| Error::Io { doing: "read", path: path.to_owned(), source };
    let file = match File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let kind = file.metadata().map_err(failed)?.file_type();
    // `/dev/null` is what one names to have none.
    if !kind.is_file() && !kind.is_char_device() {
        return Err(wrong(path, what, "it is not a regular file"));
    }
    let mut text = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > LONGEST {
        return Err(wrong(path, what, "it is too long"));
    }
    String::from_utf8(text).map(Some).map_err(|_| wrong(path, what, "it is not UTF-8"))
}

fn wrong(path: &Path, what: &str, why: &str) -> Error {
    Error::Damaged { path: path.to_owned(), why: format!("it is no {what}: {why}") }
}
