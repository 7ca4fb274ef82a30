//! Descriptors: how they are opened, and what is done with them.

use std::collections::BTreeSet;

use super::super::ops::Op;
use super::super::side::{kind_of, summary};
use super::super::text::{OpenFlags, Place, Slot, Whence};
use super::steps::done;
use super::{Caller, Change, Held, Inodes, New, Node, Outcome, Reading, Result, Vfs, describe};

impl<F: Inodes> Vfs<F> {
    pub(super) fn held(&self, slot: Slot) -> Result<&Held<F::Cookie>> {
        self.slots[usize::from(slot.0)].as_ref().ok_or(libc::EBADF)
    }

    /// A descriptor for more than saying where something is.
    fn usable(&self, slot: Slot) -> Result<&Held<F::Cookie>> {
        self.held(slot).and_then(|held| if held.flags & libc::O_PATH == 0 { Ok(held) } else { Err(libc::EBADF) })
    }

    fn readable(&self, slot: Slot) -> Result<&Held<F::Cookie>> {
        let held = self.usable(slot)?;
        if held.flags & libc::O_ACCMODE == libc::O_WRONLY { Err(libc::EBADF) } else { Ok(held) }
    }

    fn writable(&self, slot: Slot) -> Result<&Held<F::Cookie>> {
        let held = self.usable(slot)?;
        if held.flags & libc::O_ACCMODE == libc::O_RDONLY { Err(libc::EBADF) } else { Ok(held) }
    }

    /// An object whose attributes can be changed: not a deleted directory, see [`super::left_out`].
    fn changeable(&self, slot: Slot) -> Result<Node> {
        let node = self.usable(slot)?.node;
        let attr = self.files.attr(node)?;
        if attr.is_dir() && attr.nlink == 0 { Err(libc::ENOENT) } else { Ok(node) }
    }

    /// open(2), to the object only.
    pub(super) fn open_node(&mut self, place: &Place, flags: i32, mode: u32, caller: Caller) -> Result<Node> {
        let has = |flag: i32| flags & flag == flag;
        if has(libc::O_PATH) {
            let node = self.find(place, !has(libc::O_NOFOLLOW))?;
            return if has(libc::O_DIRECTORY) { self.needs_directory(node).map(|()| node) } else { Ok(node) };
        }
        let node = if has(libc::O_CREAT) {
            match self.create_for_open(place, flags, mode, caller)? {
                (node, true) => return Ok(node),
                (node, false) => node,
            }
        } else {
            self.find(place, !has(libc::O_NOFOLLOW))?
        };
        let attr = self.files.attr(node)?;
        let changes = flags & (libc::O_ACCMODE | libc::O_TRUNC | libc::O_CREAT) != 0;
        match attr.kind() {
            libc::S_IFLNK => return Err(libc::ELOOP),
            libc::S_IFDIR if changes => return Err(libc::EISDIR),
            libc::S_IFDIR => return Ok(node),
            _ if has(libc::O_DIRECTORY) => return Err(libc::ENOTDIR),
            libc::S_IFREG => {}
            // What opens is the kernel's pipe or device, not anything of ours.
            _ => return Err(libc::ENXIO),
        }
        if has(libc::O_TRUNC) {
            self.files.change(node, &Change { size: Some(0), ..Change::default() }, caller)?;
        }
        Ok(node)
    }

    /// The object, and whether it was made.
    fn create_for_open(&mut self, place: &Place, flags: i32, mode: u32, caller: Caller) -> Result<(Node, bool)> {
        let exclusive = flags & libc::O_EXCL != 0;
        let mut split = self.split(place)?;
        if split.slash {
            return Err(libc::EISDIR);
        }
        if !exclusive && flags & libc::O_NOFOLLOW == 0 {
            split = self.through_links(split)?;
        }
        let name = split.name(libc::EISDIR)?.to_vec();
        match self.child(split.directory, &name) {
            Ok(_) if exclusive => Err(libc::EEXIST),
            Ok(node) => Ok((node, false)),
            Err(libc::ENOENT) if split.slash => Err(libc::EISDIR),
            Err(libc::ENOENT) => {
                let mode = self.strip_set_gid(split.directory, mode, caller)?;
                let at = (split.directory, name.as_slice());
                Ok((self.files.create(at, New::File, mode, self.umask, caller)?, true))
            }
            Err(errno) => Err(errno),
        }
    }

    pub(super) fn open(&mut self, slot: Slot, place: &Place, flags: OpenFlags, mode: u32, caller: Caller) -> Outcome {
        let opened = self.open_node(place, flags.0, mode & 0o7777, caller);
        self.slots[usize::from(slot.0)] = None;
        let node = opened?;
        let attr = self.files.attr(node)?;
        let reading = if attr.is_dir() && !flags.has(libc::O_PATH) { Some(self.start_reading(node)) } else { None };
        self.slots[usize::from(slot.0)] = Some(Held { node, flags: flags.0, position: 0, reading });
        Ok(kind_of(attr.mode).to_owned())
    }

    /// Steps that read or look.
    pub(super) fn on_descriptor(&mut self, op: &Op, caller: Caller) -> Outcome {
        match op {
            Op::Close { slot } => self.slots[usize::from(slot.0)].take().map(done).ok_or(libc::EBADF),
            Op::Pread { slot, offset, len } => {
                let node = self.readable(*slot)?.node;
                self.read_file(node, *offset, *len)
            }
            Op::ReadNext { slot, len } => {
                let (node, position) = self.readable(*slot).map(|held| (held.node, held.position))?;
                let text = self.read_file(node, position, *len)?;
                let size = self.files.attr(node)?.size;
                self.advance(*slot, position + (*len).min(size.saturating_sub(position)));
                Ok(text)
            }
            Op::Seek { slot, whence, offset } => self.seek(*slot, *whence, *offset),
            Op::Fstat { slot } => Ok(describe(&self.files.attr(self.held(*slot)?.node)?)),
            Op::ReadDirectory { slot, count } => self.read_directory(*slot, *count),
            Op::Rewind { slot } => {
                let held = self.held(*slot)?;
                if held.reading.is_some() {
                    let reading = self.start_reading(held.node);
                    self.held_mut(*slot)?.reading = Some(reading);
                }
                Ok(String::new())
            }
            Op::FgetXattr { slot, name } => {
                Ok(super::steps::hex(&self.files.get_xattr(self.usable(*slot)?.node, &name.0)?))
            }
            Op::FlistXattr { slot } => {
                Ok(super::steps::show_names(self.files.list_xattr(self.usable(*slot)?.node, caller)?))
            }
            _ => self.change_held(op, caller),
        }
    }

    fn change_held(&mut self, op: &Op, caller: Caller) -> Outcome {
        match op {
            Op::Pwrite { slot, offset, data } => {
                let held = self.writable(*slot)?;
                let (node, append) = (held.node, held.flags & libc::O_APPEND != 0);
                let at = if append { self.files.attr(node)?.size } else { *offset };
                self.write_file(node, at, &data.bytes(), caller)
            }
            Op::WriteNext { slot, data } => {
                let held = self.writable(*slot)?;
                let (node, append, position) = (held.node, held.flags & libc::O_APPEND != 0, held.position);
                let at = if append { self.files.attr(node)?.size } else { position };
                let text = self.write_file(node, at, &data.bytes(), caller)?;
                self.advance(*slot, at + data.len as u64);
                Ok(text)
            }
            Op::Ftruncate { slot, len } => {
                self.usable(*slot)?;
                let node = self.writable(*slot).map_err(|_| libc::EINVAL)?.node;
                self.files.change(node, &Change { size: Some(*len), ..Change::default() }, caller).map(done)
            }
            Op::Fallocate { slot, flags, offset, len } => {
                let node = self.writable(*slot)?.node;
                let punch = flags.has(libc::FALLOC_FL_PUNCH_HOLE) && !flags.has(libc::FALLOC_FL_KEEP_SIZE);
                if punch || flags.has(libc::FALLOC_FL_COLLAPSE_RANGE) {
                    return Err(libc::EOPNOTSUPP);
                }
                self.files.fallocate(node, flags.0, *offset, *len, caller).map(done)
            }
            Op::Fchmod { slot, mode } => {
                let node = self.changeable(*slot)?;
                self.files.change(node, &Change { mode: Some(mode.0), ..Change::default() }, caller).map(done)
            }
            Op::Fchown { slot, user, group } => {
                let node = self.changeable(*slot)?;
                self.files.change(node, &Change { uid: user.0, gid: group.0, ..Change::default() }, caller).map(done)
            }
            Op::Futimens { slot, access, modification } => {
                let node = self.changeable(*slot)?;
                self.set_times(node, *access, *modification, caller)
            }
            Op::Fsync { slot } | Op::Fdatasync { slot } => {
                let node = self.usable(*slot)?.node;
                self.files.sync(node, matches!(op, Op::Fdatasync { .. })).map(done)
            }
            Op::CopyRange { from, offset, to, at, len } => self.copy_range((*from, *offset), (*to, *at), *len, caller),
            Op::FsetXattr { slot, name, value, flags } => {
                let node = self.changeable(*slot)?;
                self.files.set_xattr(node, &name.0, &value.0, flags.0, caller).map(done)
            }
            Op::FremoveXattr { slot, name } => {
                let node = self.changeable(*slot)?;
                self.files.remove_xattr(node, &name.0).map(done)
            }
            _ => unreachable!("not a step on a descriptor: {op:?}"),
        }
    }

    fn held_mut(&mut self, slot: Slot) -> Result<&mut Held<F::Cookie>> {
        self.slots[usize::from(slot.0)].as_mut().ok_or(libc::EBADF)
    }

    fn advance(&mut self, slot: Slot, position: u64) {
        if let Some(held) = &mut self.slots[usize::from(slot.0)] {
            held.position = position;
        }
    }

    pub(super) fn read_file(&self, node: Node, offset: u64, len: u64) -> Outcome {
        if self.files.attr(node)?.is_dir() {
            Err(libc::EISDIR)
        } else {
            Ok(summary(&self.files.read(node, offset, len)?))
        }
    }

    /// The kernel does not ask for nothing to be written.
    pub(super) fn write_file(&mut self, node: Node, offset: u64, data: &[u8], caller: Caller) -> Outcome {
        if !data.is_empty() {
            self.files.write(node, offset, data, caller)?;
        }
        Ok(data.len().to_string())
    }

    fn seek(&mut self, slot: Slot, whence: Whence, offset: u64) -> Outcome {
        let held = self.usable(slot)?;
        if held.reading.is_some() {
            return Err(libc::EISDIR);
        }
        let from = match whence {
            Whence::Set => 0,
            Whence::Current => held.position,
            Whence::End => self.files.attr(held.node)?.size,
            Whence::Data | Whence::Hole => return Err(libc::EOPNOTSUPP),
        };
        self.advance(slot, from + offset);
        Ok((from + offset).to_string())
    }

    /// copy_file_range(2): its checks, and its calls until all is copied.
    fn copy_range(&mut self, from: (Slot, u64), to: (Slot, u64), len: u64, caller: Caller) -> Outcome {
        let (source, target) = (self.usable(from.0)?, self.usable(to.0)?);
        let directory = source.reading.is_some() || target.reading.is_some();
        let (source, target, append) = (source.node, target.node, target.flags & libc::O_APPEND != 0);
        if directory {
            return Err(libc::EISDIR);
        }
        self.readable(from.0)?;
        self.writable(to.0)?;
        if append {
            return Err(libc::EBADF);
        }
        let (offset, at) = (from.1, to.1);
        let len = len.min(self.files.attr(source)?.size.saturating_sub(offset));
        if source == target && at < offset + len && offset < at + len {
            return Err(libc::EINVAL);
        }
        let mut copied = 0;
        while copied < len {
            let (rest, from, to) = (len - copied, (source, offset + copied), (target, at + copied));
            match self.files.copy_range(from, to, rest, caller)? {
                0 => break,
                n => copied += n,
            }
        }
        Ok(copied.to_string())
    }
}

/// Directories that are read in parts.
impl<F: Inodes> Vfs<F> {
    fn inventory(&self, node: Node) -> BTreeSet<(Vec<u8>, Node)> {
        let all = self.files.list(node, &F::Cookie::default(), usize::MAX).unwrap_or_default();
        all.into_iter().map(|entry| (entry.name, entry.number)).collect()
    }

    fn start_reading(&self, node: Node) -> Reading<F::Cookie> {
        Reading { before: self.inventory(node), seen: Vec::new(), after: F::Cookie::default(), ended: false }
    }

    /// What was removed, or renamed, was not there all the time, even if it comes back.
    pub(super) fn note_removals(&mut self) {
        for slot in 0..self.slots.len() {
            let reading = |held: &Held<F::Cookie>| held.reading.is_some().then_some(held.node);
            let Some(node) = self.slots[slot].as_ref().and_then(reading) else { continue };
            let now = self.inventory(node);
            if let Some(reading) = self.slots[slot].as_mut().and_then(|held| held.reading.as_mut()) {
                reading.before.retain(|entry| now.contains(entry));
            }
        }
    }

    /// At the end: which of the entries that were there all the time did not come, and how many came twice. Both should be
    /// none; what came and went meanwhile may or may not be seen.
    fn read_directory(&mut self, slot: Slot, count: u64) -> Outcome {
        let held = self.held(slot)?;
        let node = held.node;
        let Some(reading) = &held.reading else {
            return Err(if held.flags & libc::O_PATH == 0 { libc::ENOTDIR } else { libc::EBADF });
        };
        let entries =
            if reading.ended { Vec::new() } else { self.files.list(node, &reading.after.clone(), count as usize)? };
        let now = self.inventory(node);
        let Some(reading) = &mut self.held_mut(slot)?.reading else { return Err(libc::ENOTDIR) };
        reading.ended |= entries.len() < count as usize;
        for entry in entries {
            reading.seen.push(entry.name);
            reading.after = entry.cookie;
        }
        if !reading.ended {
            return Ok(String::new());
        }
        let missing = reading.before.intersection(&now).filter(|(name, _)| !reading.seen.contains(name)).count();
        let twice = reading.seen.len() - reading.seen.iter().collect::<BTreeSet<_>>().len();
        if (missing, twice) == (0, 0) { Ok(String::new()) } else { Ok(format!("{missing} missing, {twice} twice")) }
    }
}
