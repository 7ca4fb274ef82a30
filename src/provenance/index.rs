//! The index of hard links (docs/SEMANTICS.md section 2): of a lower file with several names that was copied up through one
//! of them, the mount shows the copy under all. Those that are not in upper go by the handle of the lower file.

use super::entry::{Entry, NONE};
use super::error::{Error, Result};
use super::layer::{EntryId, Layer, add_text, parts};
use super::listing;
use super::origin::Directory;
use super::walk::{self, Read};
use crate::layer::markers;
use crate::layer::origin::OverlayHandle;
use crate::sys::{self, At, Errno};
use rustc_hash::FxHashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

/// The copies in the index of a writable layer, and the names of lower files that show them.
#[derive(Debug, Default)]
pub(super) struct Index {
    copies: Vec<Copied>,
    /// For a lower layer, counted from 0, and a name in it: the copy.
    names: FxHashMap<(u16, EntryId), usize>,
    /// How many entries the writable layer has. Those of copies without a name in it come behind, once they are seen.
    entries: usize,
    nameless: Vec<usize>,
}

/// A copy.
#[derive(Debug)]
struct Copied {
    /// Its entry in the writable layer: that of its first name there.
    id: Option<EntryId>,
    seen: bool,
    entry: Entry,
    handle: OsString,
}

impl Index {
    /// Reads the index of the last of `directories`, if it has one. `read` is what was read of each of them.
    pub fn of(directories: &[Directory], read: &[Read]) -> Result<Self> {
        let (Some((upper, lowers)), Some((own, _))) = (directories.split_last(), read.split_last()) else {
            return Ok(Self::default());
        };
        let mut index = Self { entries: own.entries.len(), ..Self::default() };
        let by_handle = index.read(upper, own)?;
        if by_handle.is_empty() {
            return Ok(index);
        }
        let systems = lowers.iter().map(FileSystem::of).collect::<Result<Vec<_>>>()?;
        for (number, (lower, system)) in (0..).zip(lowers.iter().zip(&systems)) {
            // As in a mount: of file systems that cannot be told apart a handle says nothing.
            if systems.iter().all(|other| other.dev == system.dev || other.uuid != system.uuid) {
                index.add_names(number, lower, system, &read[usize::from(number)], &by_handle)?;
            }
        }
        Ok(index)
    }

    /// Reads the copies, and returns them by the names of their entries in the index.
    fn read(&mut self, upper: &Directory, own: &Read) -> Result<FxHashMap<OsString, usize>> {
        let mut by_handle = FxHashMap::default();
        let Some(root) = &upper.index else { return Ok(by_handle) };
        let failed = |source| root.failed(b"", source);
        let mut handles = Vec::new();
        let each = &mut |entry: sys::RawEntry<'_>| handles.push(OsStr::from_bytes(entry.name).to_owned());
        sys::read_dir_itself(root.fd(), each).map_err(failed)?;
        if handles.is_empty() {
            return Ok(by_handle);
        }
        let in_upper: FxHashMap<(u64, u64), u32> = own.links.iter().map(|(dev, ino, at)| ((*dev, *ino), *at)).collect();
        for handle in handles {
            let Some((inode, entry)) = read_copy(upper, At::Name(root.fd(), &handle)).map_err(failed)? else {
                continue;
            };
            let id = in_upper.get(&inode).map(|at| match own.entries[*at as usize].first {
                NONE => EntryId(*at),
                first => EntryId(first),
            });
            by_handle.insert(handle.clone(), self.copies.len());
            self.copies.push(Copied { id, seen: false, entry, handle });
        }
        Ok(by_handle)
    }

    /// Notes the names of a lower layer that show a copy.
    fn add_names(
        &mut self,
        number: u16,
        lower: &Directory,
        system: &FileSystem,
        read: &Read,
        by_handle: &FxHashMap<OsString, usize>,
    ) -> Result<()> {
        let mut known: FxHashMap<u64, Option<usize>> = FxHashMap::default();
        for (_, ino, at) in read.links.iter().filter(|(dev, ..)| *dev == system.dev) {
            let copy = match known.get(ino) {
                Some(copy) => *copy,
                None => {
                    let path = parts(&read.entries, &read.text, *at).join(&b'/');
                    let handle = handle(lower, OsStr::from_bytes(&path), system)
                        .map_err(|source| lower.root.failed(&path, source))?;
                    *known.entry(*ino).or_insert(handle.and_then(|handle| by_handle.get(&handle.index_name()).copied()))
                }
            };
            self.names.extend(copy.map(|copy| ((number, EntryId(*at)), copy)));
        }
        Ok(())
    }

    /// Whether no lower name shows a copy.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The entry of the writable layer that is seen where the lower file `id` of a layer, counted from 0, would be.
    pub fn copy_of(&mut self, layer: u16, id: EntryId) -> Result<Option<EntryId>> {
        let Some(at) = self.names.get(&(layer, id)).copied() else { return Ok(None) };
        let copy = &mut self.copies[at];
        copy.seen = true;
        if copy.id.is_none() {
            let id = u32::try_from(self.entries + self.nameless.len()).ok().filter(|id| *id != NONE);
            copy.id = Some(EntryId(id.ok_or(Error::TooLarge("a layer has more than 4 billion entries"))?));
            self.nameless.push(at);
        }
        Ok(copy.id)
    }

    /// Puts what is seen into the writable layer.
    pub fn complete(self, layer: &mut Layer) -> Result<()> {
        layer.named = layer.entries.len();
        for copy in self.nameless.iter().map(|at| &self.copies[*at]) {
            let name = add_text(&mut layer.text, copy.handle.as_bytes())?;
            layer.entries.push(Entry { name, ..copy.entry });
        }
        for id in self.copies.iter().filter(|copy| copy.seen).filter_map(|copy| copy.id) {
            // It has further names, in layers below.
            let first = &mut layer.entries[id.index()].first;
            *first = if *first == NONE { id.0 } else { *first };
        }
        Ok(())
    }
}

/// The file system of a layer.
struct FileSystem {
    dev: u64,
    uuid: Option<[u8; 16]>,
}

impl FileSystem {
    fn of(layer: &Directory) -> Result<Self> {
        let failed = |source| layer.root.failed(b"", source);
        let fd = layer.root.fd();
        let dev = sys::stat(At::Fd(fd)).map_err(failed)?.dev;
        Ok(Self { dev, uuid: sys::fs_uuid(fd).map_err(failed)? })
    }
}

/// Device and inode number of a copy, and what it shows; `None` when it is none: the kernel keeps directories in the index
/// too, and whiteouts for what is gone.
fn read_copy(upper: &Directory, at: At<'_>) -> sys::Result<Option<((u64, u64), Entry)>> {
    let read = listing::read_entry(upper, at).and_then(|(disk, mut entry)| {
        if disk.is_file() {
            entry.metacopy = markers::read_file_markers(at)?.believed_metacopy(walk::believes_users());
        }
        Ok((!disk.is_dir() && !disk.is_whiteout_dev()).then_some(((disk.dev, disk.ino), entry)))
    });
    match read {
        // Of a live mount: its last name went.
        Err(e) if e.is(Errno::NOENT) => Ok(None),
        read => read,
    }
}

/// The handle of a lower file as the index has it; `None` where there are none, or nobody may see them.
fn handle(lower: &Directory, path: &OsStr, system: &FileSystem) -> sys::Result<Option<OverlayHandle>> {
    let handle = sys::open_path_rel(lower.root.fd(), path).and_then(|fd| sys::handle(At::Fd(fd.as_fd())));
    match handle {
        Ok(handle) => Ok(Some(OverlayHandle::encode(&handle, system.uuid, false))),
        Err(e) if [Errno::OPNOTSUPP, Errno::OVERFLOW, Errno::PERM].contains(&e.errno) => Ok(None),
        Err(e) => Err(e),
    }
}
