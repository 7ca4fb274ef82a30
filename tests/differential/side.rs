//! One step with real system calls under a mounted root, and what came of it in words that can be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::calls::{self, Entry, Errno, Mapped, Result, c};
use super::generate::SLOTS;
use super::ops::{Op, Step};
use super::text::{AclKind, Kind, Link, OpenFlags, Place, Slot, When, Whence, Who};
use crate::call;

/// What a step gave: some words, or an errno.
pub type Outcome = std::result::Result<String, Errno>;

/// For people.
pub fn show(outcome: &Outcome) -> String {
    match outcome {
        Ok(text) => format!("ok {text}"),
        Err(errno) => std::io::Error::from_raw_os_error(*errno).to_string(),
    }
}

/// A descriptor that is held.
struct Held {
    fd: OwnedFd,
    ino: u64,
    /// For directories: what was there when reading began, and what was read.
    listing: Option<Listing>,
}

#[derive(Default)]
struct Listing {
    before: BTreeSet<(Vec<u8>, u64)>,
    seen: Vec<Entry>,
    queue: Vec<Entry>,
    ended: bool,
}

/// Which times can be compared.
#[derive(Clone, Default)]
pub struct Times {
    /// Seconds; times from then on are just "now".
    pub started: i64,
    /// Inode numbers of files that were written through a map.
    pub mapped: BTreeSet<u64>,
    /// Of files that had a map that can be written: on tmpfs reading through it fills holes.
    pub filled: BTreeSet<u64>,
}

impl Times {
    /// After a rotation objects may have other numbers: those of the same paths are noted.
    pub fn renumber(&mut self, before: &BTreeMap<Vec<u8>, u64>, after: &BTreeMap<Vec<u8>, u64>) {
        for set in [&mut self.mapped, &mut self.filled] {
            let paths = before.iter().filter(|(_, number)| set.contains(number)).map(|(path, _)| path);
            let numbers: Vec<_> = paths.filter_map(|path| after.get(path)).copied().collect();
            set.extend(numbers);
        }
    }
}

/// A mounted tree, or a bare directory, with the descriptors that are held in it.
pub struct Side {
    root: OwnedFd,
    slots: [Option<Held>; SLOTS as usize],
    maps: [Option<Mapped>; SLOTS as usize],
    /// What was listed last.
    listed: Vec<Entry>,
    pub times: Times,
}

/// An argument of the system calls: where a path starts, and the path.
type At = (RawFd, CString);

fn nofollow(link: Link) -> i32 {
    if link == Link::Itself { libc::AT_SYMLINK_NOFOLLOW } else { 0 }
}

fn done<T>(_: T) -> String {
    String::new()
}

/// Content in a few words.
pub fn summary(data: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    data.hash(&mut hasher);
    format!("{} bytes {:016x}", data.len(), hasher.finish())
}

pub fn kind_of(mode: u32) -> &'static str {
    match mode & libc::S_IFMT {
        libc::S_IFREG => "file",
        libc::S_IFDIR => "dir",
        libc::S_IFLNK => "symlink",
        libc::S_IFIFO => "fifo",
        libc::S_IFSOCK => "socket",
        libc::S_IFCHR => "char",
        libc::S_IFBLK => "block",
        _ => "unknown",
    }
}

/// Attributes that must agree. Sizes and link counts of directories, blocks, inode numbers, ctime and atime are left
/// out (see `differences`).
///
/// When a write through a map shows in mtime is up to the file system until msync(2), and tmpfs does not show all of them: of
/// files that were written so it is not compared.
pub fn describe(stat: &libc::stat, times: &Times) -> String {
    let kind = kind_of(stat.st_mode);
    let now = stat.st_mtime >= times.started && stat.st_mtime < times.started + 86_400;
    let time = match now {
        _ if times.mapped.contains(&stat.st_ino) => "any".to_owned(),
        true => "now".to_owned(),
        false => format!("{}:{}", stat.st_mtime, stat.st_mtime_nsec),
    };
    let mut text = format!("{kind} {:04o} {}:{} mtime={time}", stat.st_mode & 0o7777, stat.st_uid, stat.st_gid);
    if kind != "dir" {
        text += &format!(" size={} nlink={}", stat.st_size, stat.st_nlink);
    }
    if matches!(kind, "char" | "block") {
        text += &format!(" rdev={:x}", stat.st_rdev);
    }
    text
}

fn timespec(when: When) -> libc::timespec {
    let (tv_sec, tv_nsec) = match when {
        When::Now => (0, libc::UTIME_NOW),
        When::Omit => (0, libc::UTIME_OMIT),
        When::At(seconds, nanoseconds) => (seconds, i64::from(nanoseconds)),
    };
    libc::timespec { tv_sec, tv_nsec }
}

fn acl_name(kind: AclKind) -> &'static [u8] {
    match kind {
        AclKind::Access => b"system.posix_acl_access",
        AclKind::Default => b"system.posix_acl_default",
    }
}

fn hex(value: &[u8]) -> String {
    value.iter().map(|b| format!("{b:02x}")).collect()
}

impl Side {
    pub fn new(root: &std::path::Path, times: Times) -> Result<Self> {
        let root = calls::path_fd(&c(root.as_os_str().as_encoded_bytes()))?;
        Ok(Self { root, slots: Default::default(), maps: Default::default(), listed: Vec::new(), times })
    }

    /// Does a step. Those that concern the whole tree are somebody else's.
    pub fn run(&mut self, step: &Step) -> Outcome {
        let (id, groups): (u32, &[u32]) = match step.who {
            Who::Root => (0, &[]),
            Who::Alice => (1000, &[2000]),
            Who::Bob => (1001, &[]),
        };
        calls::with_ids(id, groups, || self.act(&step.op))
    }

    fn act(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Mkdir { .. }
            | Op::Mknod { .. }
            | Op::Symlink { .. }
            | Op::Link { .. }
            | Op::LinkSlot { .. }
            | Op::Unlink { .. }
            | Op::Rmdir { .. }
            | Op::Rename { .. }
            | Op::RemoveTree { .. } => self.names(op),
            Op::Stat { .. } | Op::Access { .. } | Op::Readlink { .. } | Op::List { .. } => self.looking(op),
            Op::Chmod { .. }
            | Op::Chown { .. }
            | Op::Utimens { .. }
            | Op::Truncate { .. }
            | Op::SetInodeFlags { .. }
            | Op::GetInodeFlags { .. } => self.attributes(op),
            Op::SetXattr { .. }
            | Op::GetXattr { .. }
            | Op::ListXattr { .. }
            | Op::RemoveXattr { .. }
            | Op::SetAcl { .. }
            | Op::GetAcl { .. }
            | Op::RemoveAcl { .. } => self.extended(op),
            Op::Write { .. } | Op::Read { .. } => self.data_by_path(op),
            Op::Open { slot, path, flags, mode } => self.open(*slot, path, *flags, mode.0),
            Op::Close { slot } => self.slots[usize::from(slot.0)].take().map(done).ok_or(libc::EBADF),
            Op::ReadDirectory { slot, count } => self.read_directory(*slot, *count),
            Op::Rewind { slot } => self.rewind(*slot),
            Op::Map { .. } | Op::MapRead { .. } | Op::MapWrite { .. } | Op::MapSync { .. } | Op::Unmap { .. } => {
                self.maps(op)
            }
            Op::SyncAll {} => {
                let root = calls::openat(self.root.as_raw_fd(), c".", libc::O_RDONLY, 0)?;
                call!(syncfs(root.as_raw_fd())).map(done)
            }
            Op::Check {} | Op::Remount {} | Op::Rotate {} | Op::Swap {} => Ok(String::new()),
            _ => self.held(op),
        }
    }

    fn fd(&self, slot: Slot) -> Result<RawFd> {
        self.slots[usize::from(slot.0)].as_ref().map(|held| held.fd.as_raw_fd()).ok_or(libc::EBADF)
    }

    fn at(&self, place: &Place) -> Result<At> {
        let start = place.slot.map_or(Ok(self.root.as_raw_fd()), |slot| self.fd(slot))?;
        Ok((start, c(&place.path)))
    }

    /// A path that the calls without a directory argument take.
    fn full(&self, place: &Place) -> Result<CString> {
        if place.path.is_empty() {
            return Ok(c(b""));
        }
        let (start, path) = self.at(place)?;
        Ok(c(&[format!("/proc/self/fd/{start}/").as_bytes(), path.as_bytes()].concat()))
    }

    fn open_at(&self, place: &Place, flags: i32) -> Result<OwnedFd> {
        let (at, path) = self.at(place)?;
        calls::openat(at, &path, flags | libc::O_NONBLOCK, 0o666)
    }
}

/// Steps by path.
impl Side {
    fn names(&self, op: &Op) -> Outcome {
        match op {
            Op::Mkdir { path, mode } => {
                let (at, path) = self.at(path)?;
                call!(mkdirat(at, path.as_ptr(), mode.0))
            }
            Op::Mknod { path, kind, mode } => {
                let (at, path) = self.at(path)?;
                let (format, device) = match *kind {
                    Kind::File => (libc::S_IFREG, 0),
                    Kind::Fifo => (libc::S_IFIFO, 0),
                    Kind::Socket => (libc::S_IFSOCK, 0),
                    Kind::Char(major, minor) => (libc::S_IFCHR, libc::makedev(major, minor)),
                    Kind::Block(major, minor) => (libc::S_IFBLK, libc::makedev(major, minor)),
                };
                call!(mknodat(at, path.as_ptr(), format | mode.0, device))
            }
            Op::Symlink { path, target } => {
                let (at, path) = self.at(path)?;
                call!(symlinkat(c(&target.0).as_ptr(), at, path.as_ptr()))
            }
            Op::Link { from, to, link } => {
                let ((from_at, from), (at, to)) = (self.at(from)?, self.at(to)?);
                let flags = if *link == Link::Follow { libc::AT_SYMLINK_FOLLOW } else { 0 };
                call!(linkat(from_at, from.as_ptr(), at, to.as_ptr(), flags))
            }
            Op::LinkSlot { slot, to } => {
                let (at, to) = self.at(to)?;
                call!(linkat(self.fd(*slot)?, c"".as_ptr(), at, to.as_ptr(), libc::AT_EMPTY_PATH))
            }
            Op::Unlink { path } => {
                let (at, path) = self.at(path)?;
                call!(unlinkat(at, path.as_ptr(), 0))
            }
            Op::Rmdir { path } => {
                let (at, path) = self.at(path)?;
                call!(unlinkat(at, path.as_ptr(), libc::AT_REMOVEDIR))
            }
            Op::Rename { from, to, flags } => {
                let ((from_at, from), (at, to)) = (self.at(from)?, self.at(to)?);
                call!(renameat2(from_at, from.as_ptr(), at, to.as_ptr(), flags.0))
            }
            Op::RemoveTree { path } => {
                let (at, path) = self.at(path)?;
                let mut errors = Vec::new();
                remove_tree(at, &path, &mut errors);
                return Ok(format!("{errors:?}"));
            }
            _ => unreachable!("not a step of names: {op:?}"),
        }
        .map(done)
    }

    fn looking(&mut self, op: &Op) -> Outcome {
        match op {
            Op::Stat { path, link } => {
                let (at, path) = self.at(path)?;
                Ok(describe(&calls::statat(at, &path, nofollow(*link))?, &self.times))
            }
            Op::Access { path, bits } => {
                let (at, path) = self.at(path)?;
                call!(syscall(libc::SYS_faccessat2, at, path.as_ptr(), bits.0, libc::AT_EACCESS)).map(done)
            }
            Op::Readlink { path } => {
                let (at, path) = self.at(path)?;
                Ok(calls::readlinkat(at, &path)?.escape_ascii().to_string())
            }
            Op::List { path } => {
                let (at, path) = self.at(path)?;
                let fd = calls::openat(at, &path, libc::O_DIRECTORY, 0)?;
                self.listed = calls::list(fd.as_raw_fd())?;
                let show = |e: &Entry| format!("{}:{}", shown_name(&e.name), e.kind);
                Ok(self.listed.iter().map(show).collect::<Vec<_>>().join(" "))
            }
            _ => unreachable!("not a look: {op:?}"),
        }
    }

    fn attributes(&self, op: &Op) -> Outcome {
        match op {
            Op::Chmod { path, mode } => {
                let (at, path) = self.at(path)?;
                call!(fchmodat(at, path.as_ptr(), mode.0, 0)).map(done)
            }
            Op::Chown { path, user, group, link } => {
                let (at, path) = self.at(path)?;
                let (user, group) = (user.0.unwrap_or(u32::MAX), group.0.unwrap_or(u32::MAX));
                call!(fchownat(at, path.as_ptr(), user, group, nofollow(*link))).map(done)
            }
            Op::Utimens { path, access, modification, link } => {
                let (at, path) = self.at(path)?;
                let times = [timespec(*access), timespec(*modification)];
                call!(utimensat(at, path.as_ptr(), times.as_ptr(), nofollow(*link))).map(done)
            }
            Op::Truncate { path, len: 0 } if self.is_empty(path) => Ok(String::new()),
            Op::Truncate { path, len } => call!(truncate(self.full(path)?.as_ptr(), *len as i64)).map(done),
            Op::SetInodeFlags { path, flags } => {
                let fd = self.open_at(path, libc::O_RDONLY)?;
                let mut all: libc::c_int = 0;
                call!(ioctl(fd.as_raw_fd(), libc::FS_IOC_GETFLAGS, &raw mut all))?;
                // The rest, such as "has extents", is the file system's.
                let ours = 0xc8;
                all = all & !ours | flags.0 as libc::c_int & ours;
                call!(ioctl(fd.as_raw_fd(), libc::FS_IOC_SETFLAGS, &raw const all)).map(done)
            }
            Op::GetInodeFlags { path } => {
                let fd = self.open_at(path, libc::O_RDONLY)?;
                let mut flags: libc::c_int = 0;
                call!(ioctl(fd.as_raw_fd(), libc::FS_IOC_GETFLAGS, &raw mut flags))?;
                Ok(format!("{flags:x}"))
            }
            _ => unreachable!("not an attribute: {op:?}"),
        }
    }

    /// tmpfs does not touch the times of an empty file that is truncated to nothing by path; others do, so that cannot be
    /// compared.
    fn is_empty(&self, path: &Place) -> bool {
        self.at(path).and_then(|(at, path)| calls::statat(at, &path, 0)).is_ok_and(|stat| stat.st_size == 0)
    }

    /// The inode number of a path itself.
    pub fn number(&self, path: &Place) -> Option<u64> {
        let (at, path) = self.at(path).ok()?;
        calls::statat(at, &path, libc::AT_SYMLINK_NOFOLLOW).ok().map(|stat| stat.st_ino)
    }

    /// The directory that a path's last name is in.
    fn parent(&self, path: &Place) -> Result<At> {
        let name = path.path.iter().rposition(|&b| b != b'/').unwrap_or(0);
        let end = path.path[..name].iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1);
        self.at(&Place { slot: path.slot, path: [&path.path[..end], b"."].concat() })
    }

    pub fn parent_mtime(&self, path: &Place) -> Option<libc::timespec> {
        let stat = self.parent(path).and_then(|(at, parent)| calls::statat(at, &parent, 0)).ok()?;
        Some(libc::timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec })
    }

    pub fn set_parent_mtime(&self, path: &Place, mtime: libc::timespec) {
        let (at, parent) = self.parent(path).expect("a parent that was there a moment ago");
        let times = [timespec(When::Omit), mtime];
        call!(utimensat(at, parent.as_ptr(), times.as_ptr(), 0)).expect("root may set times");
    }

    fn extended(&self, op: &Op) -> Outcome {
        let set = |path: &Place, name: &[u8], value: &[u8], flags: i32, link: Link| {
            let (path, name) = (self.full(path)?, c(name));
            let value_at = value.as_ptr().cast();
            match link {
                Link::Follow => call!(setxattr(path.as_ptr(), name.as_ptr(), value_at, value.len(), flags)),
                Link::Itself => call!(lsetxattr(path.as_ptr(), name.as_ptr(), value_at, value.len(), flags)),
            }
            .map(done)
        };
        let get = |path: &Place, name: &[u8], link: Link| {
            let (path, name) = (self.full(path)?, c(name));
            let value = calls::filled(|buffer, len| match link {
                Link::Follow => call!(getxattr(path.as_ptr(), name.as_ptr(), buffer, len)),
                Link::Itself => call!(lgetxattr(path.as_ptr(), name.as_ptr(), buffer, len)),
            })?;
            Ok(hex(&value))
        };
        let remove = |path: &Place, name: &[u8], link: Link| {
            let (path, name) = (self.full(path)?, c(name));
            match link {
                Link::Follow => call!(removexattr(path.as_ptr(), name.as_ptr())),
                Link::Itself => call!(lremovexattr(path.as_ptr(), name.as_ptr())),
            }
            .map(done)
        };
        match op {
            Op::SetXattr { path, name, value, flags, link } => set(path, &name.0, &value.0, flags.0, *link),
            Op::GetXattr { path, name, link } => get(path, &name.0, *link),
            Op::RemoveXattr { path, name, link } => remove(path, &name.0, *link),
            Op::SetAcl { path, kind, acl } => set(path, acl_name(*kind), &acl.value(), 0, Link::Follow),
            Op::GetAcl { path, kind } => get(path, acl_name(*kind), Link::Follow),
            Op::RemoveAcl { path, kind } => remove(path, acl_name(*kind), Link::Follow),
            Op::ListXattr { path, link } => {
                let path = self.full(path)?;
                let list = calls::filled(|buffer, len| match link {
                    Link::Follow => call!(listxattr(path.as_ptr(), buffer.cast(), len)),
                    Link::Itself => call!(llistxattr(path.as_ptr(), buffer.cast(), len)),
                })?;
                Ok(show_names(&list))
            }
            _ => unreachable!("not an extended attribute: {op:?}"),
        }
    }

    fn data_by_path(&self, op: &Op) -> Outcome {
        match op {
            Op::Write { path, flags, offset, data } => {
                let fd = self.open_at(path, flags.0)?;
                let bytes = data.bytes();
                let n = if flags.has(libc::O_APPEND) {
                    call!(write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()))?
                } else {
                    call!(pwrite(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), *offset as i64))?
                };
                Ok(n.to_string())
            }
            Op::Read { path, offset, len } => {
                let fd = self.open_at(path, libc::O_RDONLY)?;
                Ok(summary(&calls::pread_all(fd.as_raw_fd(), *offset, *len)?))
            }
            _ => unreachable!("not data: {op:?}"),
        }
    }
}

/// A name without blanks, which part the names in a list.
fn shown_name(name: &[u8]) -> String {
    name.escape_ascii().to_string().replace(' ', "\\x20")
}

fn show_names(list: &[u8]) -> String {
    calls::names(list).iter().map(|n| n.escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
}

/// Removes what can be removed, in the order of names, and notes each errno.
fn remove_tree(at: RawFd, path: &CString, errors: &mut Vec<(String, Errno)>) {
    let mut note = |result: Result<i32>| {
        if let Err(errno) = result {
            errors.push((path.to_bytes().escape_ascii().to_string(), errno));
        }
    };
    match call!(unlinkat(at, path.as_ptr(), 0)) {
        Err(libc::EISDIR) => {}
        other => return note(other),
    }
    let opened = calls::openat(at, path, libc::O_DIRECTORY | libc::O_NOFOLLOW, 0);
    match opened.and_then(|fd| calls::list(fd.as_raw_fd()).map(|entries| (fd, entries))) {
        Ok((fd, entries)) => entries.iter().for_each(|e| remove_tree(fd.as_raw_fd(), &c(&e.name), errors)),
        Err(errno) => note(Err(errno)),
    }
    if let Err(errno) = call!(unlinkat(at, path.as_ptr(), libc::AT_REMOVEDIR)) {
        errors.push((path.to_bytes().escape_ascii().to_string(), errno));
    }
}

/// Steps on what is held.
impl Side {
    fn open(&mut self, slot: Slot, place: &Place, flags: OpenFlags, mode: u32) -> Outcome {
        let (at, path) = self.at(place)?;
        // A pipe would wait for its other end.
        let opened = calls::openat(at, &path, flags.0 | libc::O_NONBLOCK, mode);
        self.slots[usize::from(slot.0)] = None;
        let fd = opened?;
        let stat = calls::fstat(fd.as_raw_fd())?;
        let directory = kind_of(stat.st_mode) == "dir" && !flags.has(libc::O_PATH);
        let listing = directory.then(|| Listing { before: inventory(fd.as_raw_fd()), ..Listing::default() });
        self.slots[usize::from(slot.0)] = Some(Held { fd, ino: stat.st_ino, listing });
        Ok(kind_of(stat.st_mode).to_owned())
    }

    fn held(&self, op: &Op) -> Outcome {
        match op {
            Op::Pread { slot, offset, len } => Ok(summary(&calls::pread_all(self.fd(*slot)?, *offset, *len)?)),
            Op::Pwrite { slot, offset, data } => {
                let bytes = data.bytes();
                let n = call!(pwrite(self.fd(*slot)?, bytes.as_ptr().cast(), bytes.len(), *offset as i64))?;
                Ok(n.to_string())
            }
            Op::ReadNext { slot, len } => {
                let fd = self.fd(*slot)?;
                Ok(summary(&calls::filled_up_to(*len as usize, |buffer, len| call!(read(fd, buffer, len)))?))
            }
            Op::WriteNext { slot, data } => {
                let bytes = data.bytes();
                Ok(call!(write(self.fd(*slot)?, bytes.as_ptr().cast(), bytes.len()))?.to_string())
            }
            Op::Seek { slot, whence, offset } => {
                let whence = match whence {
                    Whence::Set => libc::SEEK_SET,
                    Whence::Current => libc::SEEK_CUR,
                    Whence::End => libc::SEEK_END,
                    Whence::Data => libc::SEEK_DATA,
                    Whence::Hole => libc::SEEK_HOLE,
                };
                let fd = self.fd(*slot)?;
                if self.slots[usize::from(slot.0)].as_ref().is_some_and(|held| held.listing.is_some()) {
                    return Err(libc::EISDIR);
                }
                if whence >= libc::SEEK_DATA && self.times.filled.contains(&calls::fstat(fd)?.st_ino) {
                    return Ok(String::new());
                }
                Ok(call!(lseek(fd, *offset as i64, whence))?.to_string())
            }
            Op::Fstat { slot } => {
                let stat = calls::fstat(self.fd(*slot)?)?;
                let known = self.slots[usize::from(slot.0)].as_ref().map(|held| held.ino);
                let moved = if known == Some(stat.st_ino) { "" } else { " INODE NUMBER CHANGED" };
                Ok(describe(&stat, &self.times) + moved)
            }
            Op::FsetXattr { slot, name, value, flags } => {
                let (fd, name, bytes) = (self.fd(*slot)?, c(&name.0), &value.0);
                call!(fsetxattr(fd, name.as_ptr(), bytes.as_ptr().cast(), bytes.len(), flags.0)).map(done)
            }
            Op::FgetXattr { slot, name } => {
                let (fd, name) = (self.fd(*slot)?, c(&name.0));
                Ok(hex(&calls::filled(|buffer, len| call!(fgetxattr(fd, name.as_ptr(), buffer, len)))?))
            }
            Op::FlistXattr { slot } => {
                let fd = self.fd(*slot)?;
                Ok(show_names(&calls::filled(|buffer, len| call!(flistxattr(fd, buffer.cast(), len)))?))
            }
            Op::FremoveXattr { slot, name } => call!(fremovexattr(self.fd(*slot)?, c(&name.0).as_ptr())).map(done),
            _ => self.held_changes(op),
        }
    }

    fn held_changes(&self, op: &Op) -> Outcome {
        match op {
            Op::Ftruncate { slot, len } => call!(ftruncate(self.fd(*slot)?, *len as i64)).map(done),
            Op::Fallocate { slot, flags, offset, len } => {
                call!(fallocate(self.fd(*slot)?, flags.0, *offset as i64, *len as i64)).map(done)
            }
            Op::Fchmod { slot, mode } => call!(fchmod(self.fd(*slot)?, mode.0)).map(done),
            Op::Fchown { slot, user, group } => {
                let (user, group) = (user.0.unwrap_or(u32::MAX), group.0.unwrap_or(u32::MAX));
                call!(fchown(self.fd(*slot)?, user, group)).map(done)
            }
            Op::Futimens { slot, access, modification } => {
                let times = [timespec(*access), timespec(*modification)];
                call!(futimens(self.fd(*slot)?, times.as_ptr())).map(done)
            }
            Op::Fsync { slot } => call!(fsync(self.fd(*slot)?)).map(done),
            Op::Fdatasync { slot } => call!(fdatasync(self.fd(*slot)?)).map(done),
            Op::CopyRange { from, offset, to, at, len } => {
                let (from, to) = (self.fd(*from)?, self.fd(*to)?);
                let (mut offset, mut at) = (*offset as i64, *at as i64);
                let n = call!(copy_file_range(from, &raw mut offset, to, &raw mut at, *len as usize, 0))?;
                Ok(n.to_string())
            }
            _ => unreachable!("not a step on a descriptor: {op:?}"),
        }
    }

    fn maps(&mut self, op: &Op) -> Outcome {
        let map = |slot: &Slot| self.maps[usize::from(slot.0)].as_ref().ok_or(libc::EFAULT);
        match op {
            Op::Map { slot, flags, len } => {
                let fd = self.fd(*slot)?;
                let made = Mapped::new(fd, *len as usize, flags.has(1), flags.has(2));
                self.maps[usize::from(slot.0)] = None;
                let map = made?;
                if flags.has(3) {
                    self.times.filled.insert(calls::fstat(fd)?.st_ino);
                }
                self.maps[usize::from(slot.0)] = Some(map);
                Ok(String::new())
            }
            Op::MapRead { slot, offset, len } => Ok(summary(&map(slot)?.read(*offset, *len)?)),
            Op::MapWrite { slot, offset, data } => {
                let map = map(slot)?;
                let n = map.write(*offset, &data.bytes())?;
                let number = calls::fstat(map.file.as_raw_fd())?.st_ino;
                if n > 0 {
                    self.times.mapped.insert(number);
                }
                Ok(n.to_string())
            }
            Op::MapSync { slot } => map(slot)?.sync().map(done),
            Op::Unmap { slot } => self.maps[usize::from(slot.0)].take().map(done).ok_or(libc::EFAULT),
            _ => unreachable!("not a step on a map: {op:?}"),
        }
    }

    /// What `List` showed, without entries that cannot be found.
    pub fn without_phantoms(&self, directory: &Place, list: &str) -> String {
        let found = |word: &&str| {
            let name = word.rsplit_once(':').map_or(*word, |(name, _)| name);
            let named = self.listed.iter().find(|e| shown_name(&e.name) == name);
            let Some(entry) = named else { return true };
            let path = Place { slot: directory.slot, path: [&directory.path, b"/".as_slice(), &entry.name].concat() };
            let stat = self.at(&path).and_then(|(at, path)| calls::statat(at, &path, libc::AT_SYMLINK_NOFOLLOW));
            stat.map(drop) != Err(libc::ENOENT)
        };
        list.split(' ').filter(found).collect::<Vec<_>>().join(" ")
    }

    /// Whether what is held has no name any more.
    pub fn is_deleted(&self, slot: Slot) -> bool {
        self.fd(slot).and_then(calls::fstat).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// Whether what is held is a device, a pipe or a socket.
    pub fn is_special(&self, slot: Slot) -> bool {
        let special = |mode| ![libc::S_IFREG, libc::S_IFDIR, libc::S_IFLNK].contains(&(mode & libc::S_IFMT));
        self.fd(slot).and_then(calls::fstat).is_ok_and(|stat| special(stat.st_mode))
    }

    /// Closes a slot and all that hold the same object.
    pub fn let_go(&mut self, slot: Slot) {
        let Some(number) = self.slots[usize::from(slot.0)].as_ref().map(|held| held.ino) else { return };
        self.slots.iter_mut().filter(|s| s.as_ref().is_some_and(|held| held.ino == number)).for_each(|s| *s = None);
        let same = |map: &Mapped| calls::fstat(map.file.as_raw_fd()).is_ok_and(|stat| stat.st_ino == number);
        self.maps.iter_mut().filter(|m| m.as_ref().is_some_and(same)).for_each(|m| *m = None);
    }

    /// What the file that is mapped in a slot holds now, read by a new descriptor.
    pub fn fresh_content(&self, slot: Slot, offset: u64, len: u64) -> Outcome {
        let map = self.maps[usize::from(slot.0)].as_ref().ok_or(libc::EFAULT)?;
        let path = c(format!("/proc/self/fd/{}", map.file.as_raw_fd()).as_bytes());
        let file = calls::openat(libc::AT_FDCWD, &path, libc::O_RDONLY, 0)?;
        let len = map.clip_to(&file, offset, len as usize)? as u64;
        Ok(summary(&calls::pread_all(file.as_raw_fd(), offset, len)?))
    }
}

fn inventory(fd: RawFd) -> BTreeSet<(Vec<u8>, u64)> {
    let again = calls::openat(fd, c".", libc::O_DIRECTORY, 0);
    let entries = again.and_then(|fd| calls::list(fd.as_raw_fd())).unwrap_or_default();
    entries.into_iter().map(|e| (e.name, e.ino)).collect()
}

/// Directories that are read in parts.
impl Side {
    /// At the end: which of the entries that were there all the time did not come, and which came twice. Both should be
    /// none; what came and went meanwhile may or may not be seen.
    fn read_directory(&mut self, slot: Slot, count: u64) -> Outcome {
        let held = self.slots[usize::from(slot.0)].as_mut().ok_or(libc::EBADF)?;
        let fd = held.fd.as_raw_fd();
        let Some(listing) = held.listing.as_mut() else { return Err(libc::ENOTDIR) };
        for _ in 0..count {
            if listing.queue.is_empty() {
                // The smallest buffer that holds any entry, so that the rest is read later.
                listing.queue = calls::getdents(fd, 560)?;
                listing.ended |= listing.queue.is_empty();
            }
            if listing.ended {
                break;
            }
            listing.seen.push(listing.queue.remove(0));
        }
        if !listing.ended {
            return Ok(String::new());
        }
        let now = inventory(fd);
        let seen: Vec<_> = listing.seen.iter().map(|e| e.name.clone()).collect();
        let missing: Vec<_> = listing.before.intersection(&now).filter(|(name, _)| !seen.contains(name)).collect();
        let twice = seen.len() - seen.iter().collect::<BTreeSet<_>>().len();
        if missing.is_empty() && twice == 0 {
            Ok(String::new())
        } else {
            Ok(format!("missing {missing:?}, {twice} twice"))
        }
    }

    fn rewind(&mut self, slot: Slot) -> Outcome {
        let held = self.slots[usize::from(slot.0)].as_mut().ok_or(libc::EBADF)?;
        let fd = held.fd.as_raw_fd();
        if held.listing.is_some() {
            call!(lseek(fd, 0, libc::SEEK_SET))?;
            held.listing = Some(Listing { before: inventory(fd), ..Listing::default() });
        }
        Ok(String::new())
    }
}
