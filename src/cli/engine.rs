//! Images in the storage of a container engine: where that is, and which is meant.

use crate::engine::{self, Found, StorageConf, docker_data_root, storage_conf};
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
    /// The lowest `layers` layers of an image or container (all for none), in this storage or the usual ones.
    pub fn find(self, storage_root: Option<&Path>, name: &str, layers: Option<usize>) -> anyhow::Result<Found> {
        let usual = || match self {
            Self::Containers => containers_roots(),
            Self::Docker => Ok(vec![docker_root()?]),
        };
        let roots = storage_root.map_or_else(usual, |root| Ok(vec![root.to_owned()]))?;
        let roots = roots.iter().map(std::path::absolute).collect::<Result<Vec<_>, _>>()?;
        Ok(match (self, roots.as_slice()) {
            (Self::Docker, [root, ..]) => engine::docker_store(root, name, layers)?,
            _ => engine::containers_storage(&roots, name, layers)?,
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

/// Where Docker's engine has its data: `data-root` of its `daemon.json`.
fn docker_root() -> anyhow::Result<PathBuf> {
    let conf = if is_root() { Some("/etc".into()) } else { config_home(&variable) };
    let said = conf.map_or(Ok(None), |conf| docker_data_root(&conf.join("docker/daemon.json")))?;
    match said {
        Some(root) => Ok(root.into()),
        None if is_root() => Ok("/var/lib/docker".into()),
        None => Ok(data_home(&variable)?.join("docker")),
    }
}

/// Where podman and the others have their storages, as they find out themselves (containers-storage.conf(5)). Images are
/// looked for in the `imagestore`, then where containers are, which had them before, then in `additionalimagestores`.
fn containers_roots() -> anyhow::Result<Vec<PathBuf>> {
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
        None => config_home(&variable).map_or(Ok(None), |conf| storage_conf(&conf.join("containers/storage.conf")))?,
    };
    places(own.unwrap_or_default(), system.unwrap_or_default(), rootless, &variable)
}

fn config_home(variable: Variable<'_>) -> Option<PathBuf> {
    let home = |name| variable(name).map(PathBuf::from);
    home("XDG_CONFIG_HOME").or_else(|| Some(home("HOME")?.join(".config")))
}

/// The same from what the files say: the one that counts, and that of the machine where users have their own.
fn places(
    own: StorageConf,
    system: StorageConf,
    rootless: Option<u32>,
    variable: Variable<'_>,
) -> anyhow::Result<Vec<PathBuf>> {
    let absolute = |path: &&str| path.starts_with('/');
    let images = own.imagestore.as_deref().filter(absolute).map(PathBuf::from);
    let further = own.options.additionalimagestores.iter().flat_map(|stores| stores.split(','));
    let further: Vec<PathBuf> = further.filter(absolute).map(PathBuf::from).collect();
    let of_users = own.rootless_storage_path.or(system.rootless_storage_path).filter(|_| rootless.is_some());
    let said = [own.graphroot, of_users].into_iter().flatten().find(|path| !path.is_empty());
    let graphroot = match (said, rootless) {
        (Some(path), uid) => expanded(&path, uid.unwrap_or(0), variable),
        (None, Some(_)) => data_home(variable)?.join("containers/storage"),
        (None, None) => "/var/lib/containers/storage".into(),
    };
    Ok(images.into_iter().chain([graphroot]).chain(further).collect())
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
            StorageConf { graphroot: said(graphroot), rootless_storage_path: said(rootless), ..StorageConf::default() }
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
            assert_eq!(places(own, system, rootless, &variable).unwrap(), [Path::new(expected)], "{shown}");
        }
        assert!(places(conf("", ""), conf("", ""), Some(7), &|_| None).is_err());
        let mut own = conf("/srv/c", "");
        own.imagestore = Some("/images".into());
        own.options.additionalimagestores = vec!["/a,/b".into(), String::new()];
        // Those of the machine are not for its users.
        let of_user = places(conf("/u", ""), own.clone(), Some(7), &variable).unwrap();
        let all = places(own, conf("", ""), None, &variable).unwrap();
        assert_eq!((all, of_user), (["/images", "/srv/c", "/a", "/b"].map(PathBuf::from).into(), vec!["/u".into()]));
    }
}
