//! The steps that run over the mounted stack.

use super::super::ops::{Op, Step};
use super::super::text::{
    Access, AclKind, AllocFlags, Bytes, Id, InodeFlags, Kind, Link, MapFlags, Mode, OpenFlags, Place, RenameFlags,
    Slot, Whence, XattrFlags,
};
use super::{Generator, Links, Thing, join, parent};

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
            0..=33 => vec![self.names()],
            34..=45 => vec![self.attributes()],
            46..=53 => vec![self.extended()],
            54..=61 => vec![self.data_by_path()],
            62..=68 => vec![self.looking()],
            69..=74 => vec![self.opening()],
            75..=92 => vec![self.held()],
            93 => vec![Op::SyncAll {}],
            94..=95 => vec![Op::Check {}],
            96 => self.whole_tree(),
            _ => self.idiom(),
        };
        ops.into_iter().map(|op| Step { who, op }).collect()
    }

    fn whole_tree(&mut self) -> Vec<Op> {
        self.slots = [None; super::SLOTS as usize];
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
        match self.rng.below(3) {
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
                self.slots[usize::from(slot.0)] = Some(Thing::File);
                self.drop_tree(&path);
                vec![
                    Op::Open { slot, path: Place::new(&path), flags: OpenFlags(libc::O_RDWR), mode: Mode(0) },
                    Op::Unlink { path: Place::new(&path) },
                    Op::Fstat { slot },
                    Op::Pwrite { slot, offset: 3, data },
                    Op::Pread { slot, offset: 0, len: 100_000 },
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
            12 if self.links != Links::Never => {
                let to = self.fresh();
                Op::LinkSlot { slot: self.slot(), to: self.place(to) }
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
        let name = *self.rng.pick(XATTR_NAMES);
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
        let path = self.any();
        let path = self.place(path);
        let (name, value) = self.xattr();
        let kind = *self.rng.pick(&[AclKind::Access, AclKind::Default]);
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
        let kept = &mut self.slots[usize::from(slot.0)];
        if self.rng.chance(30) {
            *kept = Some(Thing::Directory);
            let path = self.directory();
            let flags = OpenFlags(libc::O_DIRECTORY | if self.rng.chance(15) { libc::O_PATH } else { 0 });
            return Op::Open { slot, path: self.place(path), flags, mode: Mode(0) };
        }
        *kept = Some(Thing::File);
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
        let path = if extra & libc::O_CREAT != 0 { self.fresh() } else { self.file() };
        if extra & libc::O_CREAT != 0 {
            self.things.entry(path.clone()).or_insert(Thing::File);
        }
        Op::Open { slot, path: self.place(path), flags: OpenFlags(access | extra), mode: self.file_mode() }
    }

    fn held(&mut self) -> Op {
        match self.rng.below(10) {
            0..=1 if self.slots.contains(&Some(Thing::Directory)) => self.held_directory(),
            2..=4 => self.held_attributes(),
            _ => self.held_data(),
        }
    }

    fn held_directory(&mut self) -> Op {
        let slot = self.slot_of(|t| t == Thing::Directory).unwrap_or(Slot(0));
        match self.rng.below(5) {
            0 => Op::Rewind { slot },
            1 => Op::Fstat { slot },
            _ => Op::ReadDirectory { slot, count: *self.rng.pick(&[1, 2, 5, 1000]) },
        }
    }

    fn held_attributes(&mut self) -> Op {
        let slot = self.slot_of(|_| true).unwrap_or(Slot(0));
        let (name, value) = self.xattr();
        match self.rng.below(12) {
            0..=2 => Op::Fstat { slot },
            3 => Op::Fchmod { slot, mode: self.file_mode() },
            4 => Op::Fchown { slot, user: self.id(), group: self.id() },
            5 => Op::Futimens { slot, access: self.when(), modification: self.when() },
            6 => Op::FsetXattr { slot, name, value, flags: self.xattr_flags() },
            7 => Op::FgetXattr { slot, name },
            8 => Op::FlistXattr { slot },
            9 => Op::FremoveXattr { slot, name },
            10 => Op::Fsync { slot },
            _ => Op::Fdatasync { slot },
        }
    }

    fn held_data(&mut self) -> Op {
        let slot = self.slot_of(|t| t == Thing::File).unwrap_or(Slot(0));
        let (offset, data, len) = (self.offset(), self.data(), *self.rng.pick(&[1, 100, 5000, 200_000]));
        match self.rng.below(26) {
            0..=2 => Op::Pread { slot, offset, len },
            3..=5 => Op::Pwrite { slot, offset, data },
            6 => Op::ReadNext { slot, len },
            7..=8 => Op::WriteNext { slot, data },
            9..=10 => {
                let whence = *self.rng.pick(Whence::ALL);
                Op::Seek { slot, whence, offset }
            }
            11..=12 => Op::Ftruncate { slot, len: offset },
            13..=14 => {
                let modes = [
                    0,
                    libc::FALLOC_FL_KEEP_SIZE,
                    libc::FALLOC_FL_KEEP_SIZE | libc::FALLOC_FL_PUNCH_HOLE,
                    libc::FALLOC_FL_PUNCH_HOLE,
                    libc::FALLOC_FL_COLLAPSE_RANGE,
                ];
                Op::Fallocate { slot, flags: AllocFlags(*self.rng.pick(&modes)), offset, len }
            }
            15 => Op::Close { slot },
            16..=17 => Op::CopyRange { from: slot, offset, to: self.slot(), at: self.offset(), len },
            18..=19 => Op::Map { slot, flags: MapFlags(self.rng.below(4) as u8), len: 100_000 },
            20..=21 => Op::MapRead { slot, offset, len },
            22..=23 => Op::MapWrite { slot, offset, data },
            24 => Op::MapSync { slot },
            _ => Op::Unmap { slot },
        }
    }
}
