//! The steps that run over the mounted stack.

use super::super::ops::{Op, Step};
use super::super::text::{
    Access, AclKind, AllocFlags, Bytes, Id, InodeFlags, Kind, Link, MapFlags, Mode, OpenFlags, Place, RenameFlags,
    Slot, Whence, Who, XattrFlags,
};
use super::{Generator, Held, HeldMap, Links, Thing, join, parent};

const XATTR_NAMES: &[&[u8]] = &[
    b"user.one",
    b"user.one",
    b"user.two",
    b"trusted.note",
    b"security.note",
    b"security.capability",
    b"trusted.overlay.opaque",
    b"trusted.overlay.other",
    b"nonsense",
    b"system.unknown",
];

/// VFS_CAP_REVISION_2, cap_net_raw permitted.
const CAPABILITY: &[u8] = &[0, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

impl Generator {
    /// The next few steps: mostly one, sometimes some that belong together.
    pub(super) fn steps(&mut self) -> Vec<Step> {
        let who = self.who();
        let ops = match self.rng.below(100) {
            0..=30 => vec![self.names()],
            31..=41 => vec![self.attributes()],
            42..=48 => vec![self.extended()],
            49..=56 => vec![self.data_by_path()],
            57..=63 => vec![self.looking()],
            64..=69 => vec![self.opening()],
            70..=91 => vec![self.held()],
            92 => vec![Op::SyncAll {}],
            93..=94 => vec![Op::Check {}],
            95 => self.whole_tree(),
            _ => self.idiom(),
        };
        // When somebody outside the group removes an access ACL, the kernel's overlay clears set-group-id, other file systems
        // do not.
        let strange = |op: &Op| matches!(op, Op::RemoveAcl { kind: AclKind::Access, .. });
        ops.into_iter().map(|op| Step { who: if strange(&op) { Who::Root } else { who }, op }).collect()
    }

    fn whole_tree(&mut self) -> Vec<Op> {
        self.slots = [None; super::SLOTS as usize];
        self.maps = [None; super::SLOTS as usize];
        let rotates = match self.links {
            Links::Everywhere => false,
            Links::Made => self.rotations == 0,
            Links::Never => true,
        };
        vec![match self.rng.below(4) {
            0 if rotates => {
                self.rotations += 1;
                Op::Rotate {}
            }
            1 => Op::Swap {},
            _ => Op::Remount {},
        }]
    }

    /// What programs do in several calls.
    fn idiom(&mut self) -> Vec<Op> {
        let path = self.file();
        match self.rng.below(4) {
            // Safe replacement of a file.
            0 => {
                let (new, offset, data) = (join(parent(&path), b"tmp"), 0, self.data());
                let flags = OpenFlags(libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL);
                vec![
                    Op::Write { path: Place::new(&new), flags, offset, data },
                    Op::Rename { from: Place::new(&new), to: Place::new(&path), flags: RenameFlags(0) },
                ]
            }
            // A deleted file that is still in use.
            1 => {
                let (slot, data) = (self.slot(), self.data());
                self.slots[usize::from(slot.0)] = Some(Held { directory: false, read: true, write: true });
                self.drop_tree(&path);
                vec![
                    Op::Open { slot, path: Place::new(&path), flags: OpenFlags(libc::O_RDWR), mode: Mode(0) },
                    Op::Unlink { path: Place::new(&path) },
                    Op::Fstat { slot },
                    Op::Pwrite { slot, offset: 3, data },
                    Op::Pread { slot, offset: 0, len: 100_000 },
                ]
            }
            // A file that is changed through a map and read in another way, or the other way round.
            2 => {
                let (slot, other) = (self.slot(), self.slot());
                let (offset, data, place) = (self.offset().min(5000), self.data(), Place::new(&path));
                let (read, write) = (true, true);
                self.slots[usize::from(slot.0)] = Some(Held { directory: false, read, write });
                self.maps[usize::from(slot.0)] = Some(HeldMap { write });
                let change = if self.rng.chance(60) {
                    Op::MapWrite { slot, offset, data }
                } else {
                    Op::Write { path: place.clone(), flags: OpenFlags(libc::O_WRONLY), offset, data }
                };
                vec![
                    Op::Open { slot: other, path: place.clone(), flags: OpenFlags(libc::O_RDONLY), mode: Mode(0) },
                    Op::Open { slot, path: place, flags: OpenFlags(libc::O_RDWR), mode: Mode(0) },
                    Op::Map { slot, flags: MapFlags(3), len: 100_000 },
                    change,
                    Op::MapRead { slot, offset: 0, len: 100_000 },
                    Op::Pread { slot: other, offset: 0, len: 100_000 },
                ]
            }
            // A directory that is removed and made again.
            _ => {
                let path = self.existing(|t| t == Thing::Directory).unwrap_or_else(|| b"a".to_vec());
                self.drop_tree(&path);
                self.put(&path, Thing::Directory);
                let place = Place::new(&path);
                let mode = self.directory_mode();
                vec![
                    Op::RemoveTree { path: place.clone() },
                    Op::Mkdir { path: place.clone(), mode },
                    Op::List { path: place },
                ]
            }
        }
    }

    fn names(&mut self) -> Op {
        match self.rng.below(30) {
            0..=4 => {
                let path = self.fresh();
                self.things.entry(path.clone()).or_insert(Thing::Directory);
                Op::Mkdir { path: self.place(path), mode: self.directory_mode() }
            }
            5..=6 => {
                let path = self.fresh();
                self.things.entry(path.clone()).or_insert(Thing::Other);
                let kinds = [Kind::File, Kind::Fifo, Kind::Fifo, Kind::Socket, Kind::Char(1, 3), Kind::Block(240, 7)];
                let kind = *self.rng.pick(&kinds);
                Op::Mknod { path: self.place(path), kind, mode: self.file_mode() }
            }
            7..=8 => {
                let path = self.fresh();
                let target = self.target();
                self.things.entry(path.clone()).or_insert(Thing::Other);
                Op::Symlink { path: self.place(path), target }
            }
            9..=11 if self.links != Links::Never => {
                let (from, to) = (self.file(), self.fresh());
                self.things.entry(to.clone()).or_insert(Thing::File);
                let link = if self.rng.chance(20) { Link::Follow } else { Link::Itself };
                Op::Link { from: self.place(from), to: self.place(to), link }
            }
            13..=16 => {
                let path = if self.rng.chance(80) { self.file() } else { self.any() };
                if !self.is_directory(&path) {
                    self.drop_tree(&path);
                }
                Op::Unlink { path: self.place(path) }
            }
            17..=19 => {
                let path = self.directory();
                if !self.things.keys().any(|p| super::below(p, &path)) {
                    self.drop_tree(&path);
                }
                Op::Rmdir { path: self.place(path) }
            }
            20 => {
                let path = self.any();
                self.drop_tree(&path);
                Op::RemoveTree { path: self.place(path) }
            }
            _ => self.rename(),
        }
    }

    fn rename(&mut self) -> Op {
        let from = self.any();
        let to = if self.rng.chance(50) { self.fresh() } else { self.any() };
        let flags = match self.rng.below(20) {
            0..=2 => libc::RENAME_NOREPLACE,
            3..=5 => libc::RENAME_EXCHANGE,
            6 => libc::RENAME_WHITEOUT | libc::RENAME_EXCHANGE,
            7 => libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE,
            _ => 0,
        };
        let (a, b) = (self.is_directory(&from), self.is_directory(&to));
        let inside = super::below(&to, &from) || super::below(&from, &to) || from == to;
        if !inside && flags == libc::RENAME_EXCHANGE && self.things.contains_key(&to) {
            let (first, second) = (self.take_tree(&from), self.take_tree(&to));
            self.put_tree(&to, first);
            self.put_tree(&from, second);
        } else if !inside && flags == 0 && (a == b || !self.things.contains_key(&to)) {
            self.drop_tree(&to);
            let tree = self.take_tree(&from);
            self.put_tree(&to, tree);
        }
        Op::Rename { from: self.place(from), to: self.place(to), flags: RenameFlags(flags) }
    }

    fn link_choice(&mut self) -> Link {
        if self.rng.chance(70) { Link::Follow } else { Link::Itself }
    }

    fn id(&mut self) -> Id {
        Id(*self.rng.pick(&[None, Some(0), Some(1000), Some(1001), Some(2000)]))
    }

    fn attributes(&mut self) -> Op {
        let path = self.any();
        let mode = if self.is_directory(&path) { self.directory_mode() } else { self.file_mode() };
        let path = self.place(path);
        match self.rng.below(16) {
            0..=4 => Op::Chmod { path, mode },
            5..=7 => Op::Chown { path, user: self.id(), group: self.id(), link: self.link_choice() },
            8..=11 => Op::Utimens { path, access: self.when(), modification: self.when(), link: self.link_choice() },
            12 => Op::SetInodeFlags { path, flags: InodeFlags(*self.rng.pick(&[0, 0x40, 0x80, 0xc0])) },
            13 => Op::GetInodeFlags { path },
            _ => Op::Truncate { path, len: self.offset() },
        }
    }

    fn xattr(&mut self) -> (Bytes, Bytes) {
        let name = if self.rng.chance(40) { b"user.one".as_slice() } else { self.rng.pick(XATTR_NAMES) };
        let value = match name {
            b"security.capability" => CAPABILITY.to_vec(),
            _ => self.rng.pick(&[b"".as_slice(), b"v", b"y", &[7; 300]]).to_vec(),
        };
        (Bytes::new(name), Bytes(value))
    }

    fn xattr_flags(&mut self) -> XattrFlags {
        XattrFlags(*self.rng.pick(&[0, 0, 0, libc::XATTR_CREATE, libc::XATTR_REPLACE]))
    }

    fn extended(&mut self) -> Op {
        let kind = *self.rng.pick(&[AclKind::Access, AclKind::Default]);
        if let Some((path, name)) = self.attribute.clone()
            && self.rng.chance(25)
        {
            let (path, link) = (Place::new(path), Link::Follow);
            let gone = self.rng.chance(50);
            return if gone { Op::RemoveXattr { path, name, link } } else { Op::GetXattr { path, name, link } };
        }
        let path = self.any();
        let (name, value) = self.xattr();
        self.attribute = Some((path.clone(), name.clone()));
        let path = self.place(path);
        match self.rng.below(14) {
            0..=3 => Op::SetXattr { path, name, value, flags: self.xattr_flags(), link: self.link_choice() },
            4..=5 => Op::GetXattr { path, name, link: self.link_choice() },
            6..=7 => Op::ListXattr { path, link: self.link_choice() },
            8..=9 => Op::RemoveXattr { path, name, link: self.link_choice() },
            10..=11 => Op::SetAcl { path, kind, acl: self.acl() },
            12 => Op::GetAcl { path, kind },
            _ => Op::RemoveAcl { path, kind },
        }
    }

    fn data_by_path(&mut self) -> Op {
        if self.rng.chance(25) {
            let path = self.file();
            return Op::Read { path: self.place(path), offset: self.offset(), len: 100_000 };
        }
        let extra = *self.rng.pick(&[
            0,
            0,
            libc::O_APPEND,
            libc::O_TRUNC,
            libc::O_CREAT,
            libc::O_CREAT | libc::O_EXCL,
            libc::O_CREAT | libc::O_TRUNC,
        ]);
        let path = if extra & libc::O_CREAT != 0 { self.fresh() } else { self.file() };
        if extra & libc::O_CREAT != 0 {
            self.things.entry(path.clone()).or_insert(Thing::File);
        }
        let flags = OpenFlags(libc::O_WRONLY | extra);
        Op::Write { path: self.place(path), flags, offset: self.offset(), data: self.data() }
    }

    fn looking(&mut self) -> Op {
        let path = self.any();
        let place = self.place(path);
        match self.rng.below(10) {
            0..=3 => Op::Stat { path: place, link: self.link_choice() },
            4 => Op::Access { path: place, bits: Access(self.rng.below(8) as i32) },
            5 => {
                let path = self.existing(|t| t == Thing::Other).unwrap_or_default();
                Op::Readlink { path: self.place(path) }
            }
            _ => {
                let path = self.directory();
                Op::List { path: self.place(path) }
            }
        }
    }

    fn opening(&mut self) -> Op {
        let slot = self.slot();
        if self.rng.chance(30) {
            return self.open_directory(slot);
        }
        let access = *self.rng.pick(&[libc::O_RDONLY, libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR, libc::O_RDWR]);
        let extra = *self.rng.pick(&[
            0,
            0,
            0,
            libc::O_CREAT,
            libc::O_CREAT | libc::O_EXCL,
            libc::O_TRUNC,
            libc::O_APPEND,
            libc::O_CREAT | libc::O_APPEND,
            libc::O_NOFOLLOW,
            libc::O_PATH,
            libc::O_PATH | libc::O_NOFOLLOW,
            libc::O_NOATIME,
        ]);
        self.open_file(slot, access | extra)
    }

    fn open_directory(&mut self, slot: Slot) -> Op {
        self.slots[usize::from(slot.0)] = Some(Held { directory: true, ..Held::default() });
        let path = self.directory();
        let flags = OpenFlags(libc::O_DIRECTORY | if self.rng.chance(15) { libc::O_PATH } else { 0 });
        Op::Open { slot, path: self.place(path), flags, mode: Mode(0) }
    }

    fn open_file(&mut self, slot: Slot, flags: i32) -> Op {
        let access = flags & libc::O_ACCMODE;
        let (read, write) = (access != libc::O_WRONLY, access != libc::O_RDONLY);
        let usable = flags & libc::O_PATH == 0;
        self.slots[usize::from(slot.0)] = Some(Held { directory: false, read: read && usable, write: write && usable });
        let path = if flags & libc::O_CREAT != 0 { self.fresh() } else { self.file() };
        if flags & libc::O_CREAT != 0 {
            self.things.entry(path.clone()).or_insert(Thing::File);
        }
        Op::Open { slot, path: self.place(path), flags: OpenFlags(flags), mode: self.file_mode() }
    }

    /// Mostly a slot with a file that can be used so; if there is none, what opens one.
    fn file_slot(&mut self, read: bool, write: bool) -> Result<Slot, Op> {
        if self.rng.chance(5) {
            return Ok(self.slot());
        }
        let fits = |held: Held| !held.directory && (held.read || !read) && (held.write || !write);
        if let Some(slot) = self.slot_of(fits) {
            return Ok(slot);
        }
        let slot = self.slot();
        let flags = match (read, write) {
            (_, false) => libc::O_RDONLY,
            (false, true) => *self.rng.pick(&[libc::O_WRONLY, libc::O_RDWR, libc::O_WRONLY | libc::O_APPEND]),
            (true, true) => libc::O_RDWR,
        };
        Err(self.open_file(slot, flags))
    }

    fn held(&mut self) -> Op {
        let made = match self.rng.below(10) {
            0..=1 => self.held_directory(),
            2..=3 => self.held_attributes(),
            4..=5 => self.mapped(),
            _ => self.held_data(),
        };
        made.unwrap_or_else(|opening| opening)
    }

    fn held_directory(&mut self) -> Result<Op, Op> {
        let Some(slot) = self.slot_of(|held| held.directory) else {
            let slot = self.slot();
            return Err(self.open_directory(slot));
        };
        Ok(match self.rng.below(6) {
            0 => Op::Rewind { slot },
            1 => Op::Fstat { slot },
            _ => Op::ReadDirectory { slot, count: *self.rng.pick(&[1, 2, 5, 1000]) },
        })
    }

    fn held_attributes(&mut self) -> Result<Op, Op> {
        let slot = match self.slot_of(|held| held.read || held.write || held.directory) {
            Some(slot) => slot,
            None => self.file_slot(true, false)?,
        };
        let (name, value) = self.xattr();
        Ok(match self.rng.below(13) {
            0..=2 => Op::Fstat { slot },
            3 => Op::Fchmod { slot, mode: self.file_mode() },
            4 => Op::Fchown { slot, user: self.id(), group: self.id() },
            5 => Op::Futimens { slot, access: self.when(), modification: self.when() },
            6..=7 => Op::FsetXattr { slot, name, value, flags: self.xattr_flags() },
            8 => Op::FgetXattr { slot, name },
            9 => Op::FlistXattr { slot },
            10 => Op::FremoveXattr { slot, name },
            11 => Op::Fsync { slot },
            _ => Op::Fdatasync { slot },
        })
    }

    /// Maps; what is written through one is read in other ways, too.
    fn mapped(&mut self) -> Result<Op, Op> {
        let write = self.rng.chance(50);
        let all = 0..super::SLOTS;
        let fit: Vec<_> = all.filter(|&s| self.maps[usize::from(s)].is_some_and(|m| m.write || !write)).collect();
        if fit.is_empty() || self.rng.chance(10) {
            let slot = self.file_slot(true, write)?;
            let flags = MapFlags(u8::from(write) | if self.rng.chance(80) { 2 } else { 0 });
            self.maps[usize::from(slot.0)] = Some(HeldMap { write });
            return Ok(Op::Map { slot, flags, len: 100_000 });
        }
        let slot = Slot(*self.rng.pick(&fit));
        let (offset, len) = (self.offset(), *self.rng.pick(&[1, 100, 5000, 200_000]));
        Ok(match self.rng.below(10) {
            0..=3 if write => Op::MapWrite { slot, offset, data: self.data() },
            8 => Op::MapSync { slot },
            9 => {
                self.maps[usize::from(slot.0)] = None;
                Op::Unmap { slot }
            }
            _ => Op::MapRead { slot, offset, len },
        })
    }

    fn held_data(&mut self) -> Result<Op, Op> {
        let (offset, data, len) = (self.offset(), self.data(), *self.rng.pick(&[1, 100, 5000, 200_000]));
        Ok(match self.rng.below(20) {
            0..=2 => Op::Pread { slot: self.file_slot(true, false)?, offset, len },
            3..=5 => Op::Pwrite { slot: self.file_slot(false, true)?, offset, data },
            6 => Op::ReadNext { slot: self.file_slot(true, false)?, len },
            7..=8 => Op::WriteNext { slot: self.file_slot(false, true)?, data },
            9..=10 => {
                let whence = *self.rng.pick(Whence::ALL);
                Op::Seek { slot: self.file_slot(true, false)?, whence, offset }
            }
            11..=12 => Op::Ftruncate { slot: self.file_slot(false, true)?, len: offset },
            13..=14 => {
                let modes = [
                    0,
                    libc::FALLOC_FL_KEEP_SIZE,
                    libc::FALLOC_FL_KEEP_SIZE | libc::FALLOC_FL_PUNCH_HOLE,
                    libc::FALLOC_FL_KEEP_SIZE | libc::FALLOC_FL_PUNCH_HOLE,
                    libc::FALLOC_FL_PUNCH_HOLE,
                ];
                let flags = AllocFlags(*self.rng.pick(&modes));
                Op::Fallocate { slot: self.file_slot(false, true)?, flags, offset, len }
            }
            15 => {
                let slot = self.file_slot(false, false)?;
                self.slots[usize::from(slot.0)] = None;
                Op::Close { slot }
            }
            16 if self.links != Links::Never => {
                let slot = self.file_slot(true, false)?;
                let to = self.fresh();
                self.things.entry(to.clone()).or_insert(Thing::File);
                Op::LinkSlot { slot, to: self.place(to) }
            }
            _ => {
                let (from, to) = (self.file_slot(true, false)?, self.file_slot(false, true)?);
                Op::CopyRange { from, offset, to, at: self.offset(), len }
            }
        })
    }
}
