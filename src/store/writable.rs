//! Writable layers: what changes on top of an image, by name, and where it is mounted.

use super::Store;
use super::dir::Dir;
use super::error::{Error, Result, io};
use super::lock::{Key, Lock, Locks};
use super::names;
use super::record::{self, ImageRecord, SCHEMA, now};
use super::temp::{Temp, Trash, random_hex};
use crate::image::digest::{ChainId, Digest};
use crate::layer::xattr::is_internal;
use crate::sys::{self, At, Errno, LockKind, SetTime, xattr};
use serde::{Deserialize, Serialize};
use std::ffi::CStr;
use std::path::{Path, PathBuf};

/// What is known of a writable layer (`writable.json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WritableRecord {
    schema: u32,
    /// Its name.
    pub name: String,
    /// 64 random hex digits that no other writable layer has.
    pub id: String,
    /// The image that it stands on.
    pub image: Digest,
    /// On how many of the image's layers.
    pub layers: usize,
    /// The topmost of them; absent when it stands on none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<ChainId>,
    /// When it was made, in seconds since 1970.
    pub created: u64,
}

/// Where a writable layer is mounted (`mount.json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRecord {
    schema: u32,
    /// The mount point.
    pub mountpoint: PathBuf,
    /// The process that serves it, or made it.
    pub pid: u32,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// It is a mount of kernel overlayfs, which no process serves.
    pub kernel: bool,
}

/// A writable layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writable {
    /// What is recorded of it.
    pub record: WritableRecord,
    /// Somebody mounts, changes or removes it at this moment.
    pub busy: bool,
    /// Where it is mounted.
    pub mount: Option<MountRecord>,
    /// Its `upper` directory.
    pub upper: PathBuf,
    /// Its `work` directory.
    pub work: PathBuf,
}

impl Store {
    /// Makes a writable layer on the first `layers` layers of an image (all for `None`), with a generated name if none is given.
    ///
    /// Atomic for readers. From then on the image cannot be removed.
    ///
    /// # Errors
    /// [`Error::NameTaken`], [`Error::BadName`], [`Error::NoImage`], [`Error::FewerLayers`], [`Error::NoLayer`].
    pub fn create_writable(&self, image: &Digest, layers: Option<usize>, name: Option<&str>) -> Result<Writable> {
        if let Some(name) = name.filter(|name| !names::is_valid(name)) {
            return Err(Error::BadName(name.to_owned()));
        }
        let locks = self.locks()?;
        let temp = Temp::new(&self.root, &locks)?;
        let _publishing = locks.lock(Key::STORE, LockKind::Shared)?;
        let image = self.image_record(image)?.ok_or_else(|| Error::NoImage(image.to_string()))?;
        let chains = self.first_layers(&image, layers)?;
        for chain in &chains {
            self.layer(chain)?.ok_or(Error::NoLayer(*chain))?;
        }
        let chain = chains.last().copied();
        let mut record = WritableRecord {
            schema: SCHEMA,
            name: String::new(),
            id: random_hex(64)?,
            image: image.id,
            layers: chains.len(),
            chain,
            created: now(),
        };
        self.make_directories(&temp.dir, chain)?;
        for attempt in 0.. {
            record.name = name.map_or_else(|| names::generate(attempt), |n| Ok(n.to_owned()))?;
            if self.place_writable(&temp.dir, &record)? {
                break;
            }
            if name.is_some() || attempt > 100 {
                return Err(Error::NameTaken(record.name));
            }
        }
        self.writable(&record.name)
    }

    fn make_directories(&self, temp: &Dir, chain: Option<ChainId>) -> Result<()> {
        let new = temp.create("new", 0o700)?;
        let upper = new.create("upper", 0o755)?;
        new.create("work", 0o700)?;
        if let Some(chain) = chain {
            copy_attributes(&self.layers()?.open(format!("{}/diff", chain.0.hex()))?, &upper)?;
        }
        upper.sync()
    }

    /// False when there is one of this name.
    fn place_writable(&self, temp: &Dir, record: &WritableRecord) -> Result<bool> {
        let (new, all) = (temp.open("new")?, self.writable_dir()?);
        new.remove("writable.json")?;
        new.write("writable.json", &record::bytes(&new, record)?)?;
        new.sync()?;
        let placed = temp.rename_new("new", &all, &record.name)?;
        all.sync()?;
        Ok(placed)
    }

    /// The writable layer `name`, and where it is mounted.
    ///
    /// # Errors
    /// [`Error::NoWritable`].
    pub fn writable(&self, name: &str) -> Result<Writable> {
        let missing = || Error::NoWritable(name.to_owned());
        if !names::is_valid(name) {
            return Err(missing());
        }
        let dir = self.writable_dir()?.try_open(name)?.ok_or_else(missing)?;
        let record: WritableRecord = match record::read(&dir, "writable.json")? {
            Some(record) => record,
            // It went between the two looks, or it is damaged.
            None if !self.writable_dir()?.has(name)? => return Err(missing()),
            None => return Err(Error::damaged(dir.path(), "it has no writable.json")),
        };
        let busy = self.locks()?.is_held(Key::writable(name))?;
        let mount: Option<MountRecord> = record::read(&dir, "mount.json").unwrap_or(None);
        let mount = mount.filter(|m| if m.kernel { is_kernel_mount(&m.mountpoint, &dir.at("upper")) } else { busy });
        Ok(Writable { record, busy: busy || mount.is_some(), mount, upper: dir.at("upper"), work: dir.at("work") })
    }

    /// All writable layers, the newest first; those made in the same second in the order of their names.
    pub fn writables(&self) -> Result<Vec<Writable>> {
        let mut all = Vec::new();
        for name in self.writable_dir()?.names()? {
            match self.writable(&name.to_string_lossy()) {
                Err(Error::NoWritable(_)) => {}
                other => all.push(other?),
            }
        }
        all.sort_by(|a, b| b.record.created.cmp(&a.record.created).then_with(|| a.record.name.cmp(&b.record.name)));
        Ok(all)
    }

    /// Takes a writable layer for mounting or changing it, with all layers below pinned.
    ///
    /// # Errors
    /// [`Error::Busy`] when somebody has it, with the mount point; [`Error::NoWritable`]; [`Error::NoLayer`].
    pub fn lease(&self, name: &str) -> Result<Lease> {
        let locks = self.locks()?;
        self.hold_writable(&locks, name)?.until_closed();
        let dir = self.writable_dir()?.open(name)?;
        // Of a process that ended without removing it.
        dir.remove("mount.json")?;
        let writable = self.writable(name)?;
        locks.lock(Key::image(&writable.record.image), LockKind::Shared)?.until_closed();
        let mut below = Vec::new();
        let mut next = writable.record.chain;
        while let Some(chain) = next {
            locks.lock(Key::layer(&chain), LockKind::Shared)?.until_closed();
            below.push(chain);
            next = self.layer(&chain)?.ok_or(Error::NoLayer(chain))?.parent;
        }
        let lower = below.iter().map(|chain| self.layer_dir(chain)).collect();
        Ok(Lease { writable, dir, pin: Pin { lower, locks } })
    }

    /// Pins an image and its first `layers` layers (all for `None`) for a mount without a writable layer.
    ///
    /// # Errors
    /// [`Error::NoImage`], [`Error::FewerLayers`], [`Error::NoLayer`].
    pub fn pin(&self, image: &Digest, layers: Option<usize>) -> Result<Pin> {
        let locks = self.locks()?;
        locks.lock(Key::image(image), LockKind::Shared)?.until_closed();
        let record: ImageRecord = self.image_record(image)?.ok_or_else(|| Error::NoImage(image.to_string()))?;
        for chain in self.first_layers(&record, layers)? {
            locks.lock(Key::layer(&chain), LockKind::Shared)?.until_closed();
        }
        let lower = self.layer_dirs(&record, layers)?;
        Ok(Pin { lower, locks })
    }

    /// Removes a writable layer and what was written into it.
    ///
    /// # Errors
    /// [`Error::Busy`] when it is mounted; [`Error::NoWritable`].
    pub fn remove_writable(&self, name: &str) -> Result<()> {
        let locks = self.locks()?;
        let _lock = self.hold_writable(&locks, name)?;
        self.take_writable(&locks, name)
    }

    /// Takes the lock of a writable layer, which also keeps it from being removed.
    pub(super) fn hold_writable(&self, locks: &Locks, name: &str) -> Result<Lock> {
        let lock = locks.try_lock(Key::writable(name), LockKind::Exclusive)?;
        let mount = self.writable(name)?.mount;
        match lock {
            Some(lock) if !mount.as_ref().is_some_and(|m| m.kernel) => Ok(lock),
            _ => Err(Error::Busy { name: name.to_owned(), mountpoint: mount.map(|m| m.mountpoint) }),
        }
    }

    /// Removes a writable layer whose lock the caller holds.
    pub(super) fn take_writable(&self, locks: &Locks, name: &str) -> Result<()> {
        let (all, mut trash) = (self.writable_dir()?, Trash::new(&self.root, locks)?);
        match trash.take(&all, name) {
            Err(e) if e.is(Errno::NOENT) => return Err(Error::NoWritable(name.to_owned())),
            taken => taken?,
        }
        all.sync()?;
        trash.empty();
        Ok(())
    }
}

/// Layers that stay as long as this lives, also in a child process that was forked meanwhile.
#[derive(Debug)]
pub struct Pin {
    lower: Vec<PathBuf>,
    locks: Locks,
}

impl Pin {
    /// The layer directories, topmost first.
    #[must_use]
    pub fn lower(&self) -> &[PathBuf] {
        &self.lower
    }
}

/// A writable layer that is the holder's alone, until this is dropped.
///
/// After a fork it is held until both processes have dropped it or ended.
#[derive(Debug)]
pub struct Lease {
    writable: Writable,
    dir: Dir,
    pin: Pin,
}

impl Lease {
    /// What is held.
    #[must_use]
    pub fn writable(&self) -> &Writable {
        &self.writable
    }

    /// The layer directories below, topmost first.
    #[must_use]
    pub fn lower(&self) -> &[PathBuf] {
        self.pin.lower()
    }

    /// Records where the layer is mounted, for `ps` and for messages. Atomic.
    pub fn mounted(&self, mountpoint: &Path, kernel: bool) -> Result<()> {
        let pid = std::process::id();
        let record = MountRecord { schema: SCHEMA, mountpoint: mountpoint.to_owned(), pid, since: now(), kernel };
        self.dir.remove("mount.new")?;
        self.dir.write("mount.new", &record::bytes(&self.dir, &record)?)?;
        self.dir.rename("mount.new", &self.dir, "mount.json")
    }

    /// Removes the record of the mount. Without it (after a crash) the record counts for nothing, as nobody holds the lock.
    pub fn unmounted(&self) -> Result<()> {
        self.dir.remove("mount.json")
    }

    /// Removes the writable layer (`--rm`). The mount must be gone.
    pub fn remove(self, store: &Store) -> Result<()> {
        store.take_writable(&self.pin.locks, &self.writable.record.name)
    }
}

/// Gives `to` owner, mode, times and attributes of `from`, so that the root of the union looks like that of the image.
fn copy_attributes(from: &Dir, to: &Dir) -> Result<()> {
    let (at, target) = (At::Fd(from.fd()), At::Fd(to.fd()));
    let stat = sys::stat(at).map_err(io("look at", from.path()))?;
    match sys::chown(target, Some(stat.uid), Some(stat.gid)) {
        // Then the owner is in the attribute that is copied below.
        Err(e) if e.is(Errno::PERM) => {}
        changed => changed.map_err(io("change the owner of", to.path()))?,
    }
    sys::chmod(target, stat.mode).map_err(io("change the mode of", to.path()))?;
    let list = xattr::list(at).map_err(io("read the attributes of", from.path()))?;
    for name in list.split_inclusive(|b| *b == 0).filter_map(|n| CStr::from_bytes_with_nul(n).ok()) {
        if is_internal(name.to_bytes()) || name.to_bytes() == b"security.selinux" {
            continue;
        }
        let value = xattr::get(at, name).map_err(io("read the attributes of", from.path()))?;
        xattr::set(target, name, &value.unwrap_or_default(), 0).map_err(io("set the attributes of", to.path()))?;
    }
    sys::set_times(target, SetTime::Omit, SetTime::At(stat.mtime)).map_err(io("set the times of", to.path()))
}

/// Whether kernel overlayfs is mounted there with this upper directory, as far as this process sees mounts.
fn is_kernel_mount(mountpoint: &Path, upper: &Path) -> bool {
    let Ok(mounts) = std::fs::read_to_string("/proc/self/mountinfo") else { return false };
    mounts.lines().any(|line| is_overlay_line(line, mountpoint, upper))
}

/// Whether a line of mountinfo (proc_pid_mountinfo(5)) is about that mount.
fn is_overlay_line(line: &str, mountpoint: &Path, upper: &Path) -> bool {
    let Some((mount, file_system)) = line.split_once(" - ") else { return false };
    let place = mount.split(' ').nth(4).map(unescape);
    let mut words = file_system.splitn(3, ' ');
    let (kind, options) = (words.next(), words.nth(1).unwrap_or_default());
    let upper = format!("upperdir={}", upper.display());
    kind == Some("overlay")
        && place.is_some_and(|p| Path::new(&p) == mountpoint)
        && options.split(',').map(unescape).any(|option| option == upper)
}

/// Undoes the octal escapes of white space and backslashes.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlay_mounts_are_recognised() {
        let line = "36 35 0:42 / /mnt/a\\040b rw,relatime shared:1 - overlay overlay rw,lowerdir=/l,upperdir=/s/u,workdir=/s/w";
        let (place, upper) = (Path::new("/mnt/a b"), Path::new("/s/u"));
        assert!(is_overlay_line(line, place, upper));
        assert!(!is_overlay_line(line, Path::new("/mnt/a"), upper));
        assert!(!is_overlay_line(line, place, Path::new("/s/w")));
        assert!(!is_overlay_line("", place, upper));
    }
}
