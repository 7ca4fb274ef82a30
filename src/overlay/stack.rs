//! Opening a stack of layers. Its writable part is opened by `open_upper.rs`.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use super::dialects::{dialects, seed_root};
use super::dir::{LowerDir, Namespace};
use super::inode::{Inode, LayerIndex, ROOT, State, Table};
use super::open_upper::{open_frozen, open_upper};
use super::options::{LOWER_ROLE, OpenError, Options, RedirectMode};
use super::{Error, Layer, Overlay, Upper, fdcache, features, identity, merge};
use crate::layer::markers;
use crate::layer::xattr::Namespace as XattrNamespace;
use crate::sys::{self, At};

/// Descriptors kept out of the caches: layers, the FUSE device, what operations open for a moment.
const RESERVED_FDS: u64 = 40;

/// Descriptors in the caches and of objects without a name, however many are allowed.
const MAX_FREE: usize = 16_384;

/// For how many descriptors of a union of these layers it pays to make room.
pub fn descriptors(options: &Options) -> u64 {
    // One more than a power of two would double the kernel's table, 8 bytes each.
    let count = options.lower.len() + options.data_only.len() + MAX_FREE;
    (count as u64 + RESERVED_FDS).min(MAX_FREE as u64)
}

impl Overlay {
    /// Opens a stack: checks it, takes the locks, sweeps what a crash left in the work directory.
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        if options.lower.is_empty() && !options.frozen {
            return Err(OpenError::NoLayers);
        }
        let layers = options.lower.len() + options.data_only.len();
        let limit = if options.fd_limit == 0 { 1024 } else { options.fd_limit };
        if limit < layers as u64 + RESERVED_FDS + 16 {
            return Err(OpenError::TooManyLayers { layers, limit });
        }
        let free = usize::try_from(limit - layers as u64 - RESERVED_FDS).unwrap_or(usize::MAX).min(MAX_FREE);
        let mut lowers = open_lowers(options, free / 2)?;
        let known: Vec<_> = lowers.iter().map(|l| (l.dev, l.uuid.unwrap_or_default())).collect();
        for (layer, &(dev, uuid)) in lowers.iter_mut().zip(&known) {
            layer.handles = known.iter().all(|&(d, u)| d == dev || u != uuid);
        }
        let (upper, markers) = open_writable(options)?;
        let (attributes, markers) = (markers.is_some(), markers.unwrap_or(XattrNamespace::User));
        // A daemon with all rights would be led by them to where their writer may not look.
        let believes_users =
            markers == XattrNamespace::User && !options.userxattr && !sys::process::is_root_of_the_machine();
        let dialects = dialects(options, upper.as_ref(), &lowers).map_err(|e| OpenError::Directory {
            role: "attributes of the layers' roots",
            path: options.upper.clone().unwrap_or_else(|| options.lower[0].clone()),
            source: e.into(),
        })?;
        if let Some(upper) = upper.as_ref().filter(|_| options.override_stat && !options.frozen) {
            seed_root(upper, &lowers, &dialects).map_err(|e| OpenError::Unsuitable {
                path: options.upper.clone().unwrap_or_default(),
                what: "giving it the owner of the root below",
                source: e.into(),
            })?;
        }
        let root = root_inode(&lowers, upper.as_ref(), options.override_stat).map_err(|e| OpenError::Directory {
            role: "root of the merged tree",
            path: options.upper.clone().unwrap_or_else(|| options.lower[0].clone()),
            source: std::io::Error::from_raw_os_error(e.errno()),
        })?;
        let devices = upper.iter().map(|u| &u.layer).chain(&lowers).map(|l| l.dev);
        Ok(Self {
            ids: identity::Ids::new(devices),
            lowers,
            upper,
            redirect: match options.redirect {
                RedirectMode::Auto => markers == XattrNamespace::Trusted,
                mode => {
                    mode == RedirectMode::On && attributes && (markers == XattrNamespace::Trusted || believes_users)
                }
            },
            flatten: matches!(options.redirect, RedirectMode::Auto | RedirectMode::On),
            follow: options.redirect != RedirectMode::NoFollow,
            frozen: options.frozen,
            markers,
            attributes,
            believes_users,
            override_stat: options.override_stat,
            dialects,
            volatile: options.volatile,
            euid: rustix::process::geteuid().as_raw(),
            egid: rustix::process::getegid().as_raw(),
            table: Table::new(),
            root: Arc::new(root),
            fds: fdcache::FdCache::new(free / 2),
            indexes: merge::IndexBudget::default(),
            tried: features::Tried::default(),
            keeps_times: false.into(),
            lost_marks: false.into(),
            pins: 0.into(),
            max_pins: free / 4,
        })
    }
}

/// The upper directory, if there is one, and the namespace of the markers; none where they cannot be written.
fn open_writable(options: &Options) -> Result<(Option<Upper>, Option<XattrNamespace>), OpenError> {
    Ok(match (&options.upper, &options.work) {
        (Some(upper), Some(work)) if options.frozen => {
            let (upper, markers) = open_frozen(upper, work)?;
            (Some(upper), Some(markers))
        }
        (Some(upper), Some(work)) => {
            let (upper, markers) = open_upper(upper, work, options)?;
            (Some(upper), markers)
        }
        (Some(_), None) => return Err(OpenError::NoWork),
        (None, Some(_)) => return Err(OpenError::NoUpper),
        (None, None) if sys::process::is_root() => (None, Some(XattrNamespace::Trusted)),
        (None, None) => (None, Some(XattrNamespace::User)),
    })
}

pub(super) fn open_root(role: &'static str, path: &Path) -> Result<OwnedFd, OpenError> {
    sys::open_root(path).map_err(|e| OpenError::Directory { role, path: path.into(), source: e.into() })
}

/// At most `spare` descriptors more than those of the layers are open at a time.
fn open_lowers(options: &Options, spare: usize) -> Result<Vec<Layer>, OpenError> {
    let mut left_over = Vec::new();
    let merged = options.lower.iter().map(|p| (p, false));
    let data = options.data_only.iter().map(|p| (p, true));
    let layers = merged.chain(data).map(|(path, data_only)| {
        let fd = open_root(LOWER_ROLE, path)?;
        // A private read-only mount, where we may make one: no descriptor from it can ever write.
        let (root, private) = match sys::private_clone(fd.as_fd(), true) {
            Ok(clone) => {
                left_over.push(clone.made_with);
                (clone.root, true)
            }
            Err(_) => not_around_mountpoint(LOWER_ROLE, path, options).map(|()| (fd, false))?,
        };
        if left_over.len() >= spare {
            left_over.clear();
        }
        open_layer(root, data_only, private).map_err(|e| OpenError::Directory {
            role: LOWER_ROLE,
            path: path.clone(),
            source: e.into(),
        })
    });
    let layers = layers.collect();
    close_aside(left_over);
    layers
}

/// Closes in the background what takes its time: the descriptors of 500 layers a third of that of mounting them.
fn close_aside(descriptors: Vec<OwnedFd>) {
    let close = std::thread::Builder::new().name("close".to_owned()).spawn(move || drop(descriptors));
    // Without a thread they are closed by now.
    close.map_or_else(|e| log::debug!("no thread to close descriptors: {e}"), drop);
}

/// For a layer that is reached through the mounts that everybody sees.
pub(super) fn not_around_mountpoint(role: &'static str, path: &Path, options: &Options) -> Result<(), OpenError> {
    let Some(Ok(mountpoint)) = options.mountpoint.as_ref().map(|p| p.canonicalize()) else { return Ok(()) };
    let inside = path.canonicalize().is_ok_and(|layer| mountpoint != layer && mountpoint.starts_with(layer));
    if inside { Err(OpenError::MountpointInside { role, path: path.into() }) } else { Ok(()) }
}

pub(super) fn open_layer(root: OwnedFd, data_only: bool, private: bool) -> sys::Result<Layer> {
    let dev = sys::stat(At::Fd(root.as_fd()))?.dev;
    let uuid = sys::fs_uuid(root.as_fd())?;
    Ok(Layer { root, dev, uuid, handles: true, data_only, private })
}

fn root_inode(lowers: &[Layer], upper: Option<&Upper>, override_stat: bool) -> Result<Inode, Error> {
    let mut ns = Namespace { upper: upper.is_some(), ..Namespace::default() };
    let mut state = State::default();
    let mut open = true;
    if let Some(upper) = upper {
        let fd = upper.layer.root.as_fd();
        let found = markers::read_dir_markers(fd)?;
        (ns.impure, ns.default_acl) = (found.impure, found.has_default_acl(override_stat));
        ns.xwhiteouts = found.xwhiteouts;
        open = !found.opaque && !markers::has_aufs_opaque(fd)?;
        state.upper = Some(sys::stat(At::Fd(fd))?.ino);
    }
    let mut merged = Vec::new();
    for (n, layer) in lowers.iter().enumerate().filter(|(_, l)| !l.data_only) {
        if !open {
            break;
        }
        let index = LayerIndex::try_from(n + 1).map_err(|_| Error::Invalid)?;
        let fd = layer.root.as_fd();
        let found = markers::read_dir_markers(fd)?;
        merged.push(LowerDir { layer: index, path: OsStr::new("").into(), marks: Some((&found).into()) });
        open = !found.opaque && !markers::has_aufs_opaque(fd)?;
    }
    ns.lowers = merged.into();
    Ok(Inode::new(ROOT, libc::S_IFDIR, state, Some(ns)))
}
