//! Images in the storage of a container engine: where that is, and which is meant.

use crate::engine::{self, Found, StorageConf, storage_conf};
use crate::sys::process::{is_root, user};
use anyhow::{Context, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Whose storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// podman, buildah, CRI-O.
    Containers,
    /// Docker.
    Docker,
}

impl Engine {
    /// The lowest `layers` layers of an image or container (all for none), in this storage or the usual one.
    pub fn find(self, storage_root: Option<&Path>, name: &str, layers: Option<usize>) -> anyhow::Result<Found> {
        let usual = || match self {
            Self::Containers => containers_root(),
            Self::Docker if is_root() => Ok("/var/lib/docker".into()),
            Self::Docker => Ok(data_home(&variable)?.join("docker")),
        };
        let root = std::path::absolute(storage_root.map_or_else(usual, |root| Ok(root.to_owned()))?)?;
        Ok(match self {
            Self::Containers => engine::containers_storage(&root, name, layers)?,
            Self::Docker => engine::docker_store(&root, name, layers)?,
        })
    }
}

/// A variable of the environment.
type Variable<'a> = &'a dyn Fn(&str) -> Option<OsString>;

fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn data_home(variable: Variable<'_>) -> anyhow::Result<PathBuf> {
    let path = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = path("XDG_DATA_HOME").or_else(|| Some(path("HOME")?.join(".local/share")));
    data.context("where is the engine's storage? HOME is not set; give it with --storage-root")
}

/// Where podman and the others have their storage, as they find out themselves (containers-storage.conf(5)).
fn containers_root() -> anyhow::Result<PathBuf> {
    // `podman unshare` runs programs as root of a user namespace, and tells them who they are by this.
    let unshared = variable("_CONTAINERS_ROOTLESS_UID").and_then(|uid| uid.to_str()?.parse().ok());
    let rootless = unshared.or_else(|| Some(user()).filter(|_| !is_root())).filter(|uid| *uid != 0);
    let mut system = None;
    for path in ["/etc/containers/storage.conf", "/usr/share/containers/storage.conf"] {
        if system.is_none() {
            system = storage_conf(Path::new(path))?;
        }
    }
    let own = match variable("CONTAINERS_STORAGE_CONF").map(PathBuf::from) {
        Some(path) => match storage_conf(&path)? {
            None => bail!("there is no {}, which CONTAINERS_STORAGE_CONF names", path.display()),
            found => found,
        },
        None if rootless.is_none() => system.take(),
        None => {
            let home = |name| variable(name).map(PathBuf::from);
            let conf = home("XDG_CONFIG_HOME").or_else(|| Some(home("HOME")?.join(".config")));
            conf.map_or(Ok(None), |conf| storage_conf(&conf.join("containers/storage.conf")))?
        }
    };
    place(own.unwrap_or_default(), system.unwrap_or_default(), rootless, &variable)
}

/// The same from what the files say: the one that counts, and that of the machine where users have their own.
fn place(
    own: StorageConf,
    system: StorageConf,
    rootless: Option<u32>,
    variable: Variable<'_>,
) -> anyhow::Result<PathBuf> {
    let of_users = own.rootless_storage_path.or(system.rootless_storage_path).filter(|_| rootless.is_some());
    let said = [own.graphroot, of_users].into_iter().flatten().find(|path| !path.is_empty());
    match (said, rootless) {
        (Some(path), uid) => Ok(expanded(&path, uid.unwrap_or(0), variable)),
        (None, Some(_)) => Ok(data_home(variable)?.join("containers/storage")),
        (None, None) => Ok("/var/lib/containers/storage".into()),
    }
}

/// A path with what stands for `$UID`, `$HOME` and other variables.
fn expanded(path: &str, uid: u32, variable: Variable<'_>) -> PathBuf {
    let mut parts = path.split('$');
    let mut whole = OsString::from(parts.next().unwrap_or_default());
    for part in parts {
        let (name, rest) = match part.strip_prefix('{').and_then(|part| part.split_once('}')) {
            Some(braced) => braced,
            None => part.split_at(part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(part.len())),
        };
        let value = if name == "UID" { Some(uid.to_string().into()) } else { variable(name) };
        whole.push(value.unwrap_or_default());
        whole.push(rest);
    }
    whole.into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn storages_are_where_the_engine_has_them() {
        let conf = |graphroot: &str, rootless: &str| {
            let said = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            StorageConf { graphroot: said(graphroot), rootless_storage_path: said(rootless) }
        };
        let variable = |name: &str| (name == "HOME").then(|| "/home/u".into());
        let table = [
            (conf("", ""), conf("", ""), None, "/var/lib/containers/storage"),
            (conf("/srv/c", "/users"), conf("", ""), None, "/srv/c"),
            (conf("", "/users"), conf("", ""), None, "/var/lib/containers/storage"),
            (conf("", ""), conf("", ""), Some(7), "/home/u/.local/share/containers/storage"),
            // The graphroot of the machine is root's.
            (conf("", ""), conf("/srv/c", ""), Some(7), "/home/u/.local/share/containers/storage"),
            (conf("", ""), conf("/srv/c", "/srv/$UID/c"), Some(7), "/srv/7/c"),
            (conf("", "${HOME}/c"), conf("", "/srv/$UID/c"), Some(7), "/home/u/c"),
            (conf("$HOME/own", "/x"), conf("", "/y"), Some(7), "/home/u/own"),
            (conf("/a$NONE/b", ""), conf("", ""), None, "/a/b"),
        ];
        for (own, system, rootless, expected) in table {
            let shown = format!("{own:?} {system:?} {rootless:?}");
            assert_eq!(place(own, system, rootless, &variable).unwrap(), Path::new(expected), "{shown}");
        }
        assert!(place(conf("", ""), conf("", ""), Some(7), &|_| None).is_err());
    }
}
