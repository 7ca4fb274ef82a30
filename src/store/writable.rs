//! Writable layers: what changes on top of an image, by name, and where it is mounted.

use super::Store;
use super::dir::Dir;
use super::error::{Error, Result, io};
use super::lease::NewWritable;
use super::lock::{Key, Lock, Locks};
use super::names;
use super::record::{self, OnDamage, SCHEMA, now, sound, unless_damaged};
use super::temp::{Trash, random_hex};
use crate::image::digest::{ChainId, Digest};
use crate::layer::root;
use crate::sys::{self, At, Errno, MountEntry};
use serde::{Deserialize, Serialize};
use std::os::fd::AsFd;
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
    /// It goes with its mount (`--rm`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ephemeral: bool,
}

/// Where a writable layer is mounted (`mount.json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRecord {
    pub(super) schema: u32,
    /// The mount point.
    #[serde(serialize_with = "record::write_path", deserialize_with = "record::read_path")]
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

impl Writable {
    /// Whether the kernel's mount of it is what one sees at its mount point, with nothing mounted over it.
    ///
    /// # Errors
    /// When the mounts cannot be seen.
    pub fn is_kernel_mount_on_top(&self) -> Result<bool> {
        let Some(mount) = &self.mount else { return Ok(false) };
        let top = sys::mount_at(&mount.mountpoint).map_err(io("look at", &mount.mountpoint))?;
        Ok(kernel_mounts(&mount.mountpoint, &self.upper)?.iter().any(|m| m.dev == top.dev))
    }
}

impl Store {
    /// Makes a writable layer on `chains`, with a generated name if none is given, and returns its name.
    ///
    /// `hold` takes the lock of a name before it can be seen. The caller shares the store.
    pub(super) fn place_new(
        &self,
        temp: &Dir,
        image: &Digest,
        chains: &[ChainId],
        new: NewWritable<'_>,
        hold: impl Fn(&str) -> Result<Option<Lock>>,
    ) -> Result<String> {
        let mut record = WritableRecord {
            schema: SCHEMA,
            name: String::new(),
            id: random_hex(64)?,
            image: *image,
            layers: chains.len(),
            chain: chains.last().copied(),
            created: now(),
            ephemeral: new.ephemeral,
        };
        if let Some(name) = new.name.filter(|name| !names::is_valid(name)) {
            return Err(Error::BadName(name.to_owned()));
        }
        self.make_directories(temp, record.chain)?;
        for attempt in 0.. {
            record.name = new.name.map_or_else(|| names::generate(attempt), |n| Ok(n.to_owned()))?;
            if let Some(lock) = hold(&record.name)?
                && self.place_writable(temp, &record)?
            {
                lock.until_closed();
                break;
            }
            if new.name.is_some() || attempt > 100 {
                return Err(Error::NameTaken(record.name));
            }
        }
        Ok(record.name)
    }

    fn make_directories(&self, temp: &Dir, chain: Option<ChainId>) -> Result<()> {
        let new = temp.create("new", 0o700)?;
        let upper = new.create("upper", 0o755)?;
        new.create("work", 0o700)?;
        if let Some(chain) = chain {
            let top = self.layers()?.open(format!("{}/diff", chain.0.hex()))?;
            root::copy_attributes(top.fd(), upper.fd())
                .map_err(io("copy the attributes of a layer to", upper.path()))?;
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
        let mount = match mount {
            Some(m) if m.kernel => (!kernel_mounts(&m.mountpoint, &dir.at("upper"))?.is_empty()).then_some(m),
            other => other.filter(|_| busy),
        };
        Ok(Writable { record, busy: busy || mount.is_some(), mount, upper: dir.at("upper"), work: dir.at("work") })
    }

    /// All writable layers, the newest first; those made in the same second in the order of their names.
    ///
    /// # Errors
    /// [`Error::Damaged`] for a record that cannot be read.
    pub fn writables(&self) -> Result<Vec<Writable>> {
        self.list_writables(&mut Err)
    }

    /// The same without those whose records are damaged; an error tells of each of these.
    pub fn sound_writables(&self) -> Result<(Vec<Writable>, Vec<Error>)> {
        sound(|damaged| self.list_writables(damaged))
    }

    pub(super) fn list_writables(&self, damaged: OnDamage<'_>) -> Result<Vec<Writable>> {
        let mut all = Vec::new();
        for name in self.writable_dir()?.names()? {
            match self.writable(&name.to_string_lossy()) {
                Err(Error::NoWritable(_)) => {}
                found => all.extend(unless_damaged(found.map(Some), damaged)?),
            }
        }
        all.sort_by(|a, b| b.record.created.cmp(&a.record.created).then_with(|| a.record.name.cmp(&b.record.name)));
        Ok(all)
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

    /// Removes the writable layers that were to go with mounts that ended without doing it.
    ///
    /// What cannot be read or removed is logged and stays.
    pub(super) fn sweep_writable(&self, locks: &Locks) -> Result<()> {
        for name in self.writable_dir()?.names()? {
            let name = name.to_string_lossy();
            let left = match self.writable(&name) {
                Ok(found) => found.record.ephemeral && !found.busy,
                Err(Error::NoWritable(_)) => false,
                Err(e) => {
                    log::debug!("{e}");
                    false
                }
            };
            if !left {
                continue;
            }
            match self.hold_writable(locks, &name).and_then(|_lock| self.take_writable(locks, &name)) {
                // Another process does the same.
                Ok(()) | Err(Error::Busy { .. } | Error::NoWritable(_)) => {}
                Err(e) => log::warn!("cannot clean up: {e}"),
            }
        }
        Ok(())
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

/// The mounts of kernel overlayfs there with this upper directory, as far as this process sees mounts.
///
/// # Errors
/// When the mounts cannot be seen: what may be mounted must not be taken for unused.
fn kernel_mounts(mountpoint: &Path, upper: &Path) -> Result<Vec<MountEntry>> {
    let stat = match sys::open_root(upper).and_then(|fd| sys::stat(At::Fd(fd.as_fd()))) {
        Err(e) if e.is(Errno::NOENT) => return Ok(Vec::new()),
        stat => stat.map_err(io("look at", upper))?,
    };
    let mut mounts = sys::mounts().map_err(io("look at", Path::new("/proc/self/mountinfo")))?;
    mounts.retain(|mount| mount.place == mountpoint && (mount.hides_upper() || mount.writes_into(&stat)));
    Ok(mounts)
}
