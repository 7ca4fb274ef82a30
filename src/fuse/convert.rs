//! Between the types of the core and those of `fuser`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{Errno, FileAttr, FileType, INodeNo, TimeOrNow};

use super::ids::Ids;
use crate::overlay::{Attr, Error};
use crate::sys::{SetTime, Time};

/// The errno of a failure, logged once: what is everyday at trace level, what points at trouble below as a warning.
pub fn errno(operation: &str, e: Error) -> Errno {
    let code = e.errno();
    match code {
        libc::EIO | libc::ESTALE | libc::EMFILE | libc::ENFILE | libc::ENOMEM => log::warn!("{operation}: {e}"),
        _ => log::trace!("{operation}: {e}"),
    }
    Errno::from_i32(code)
}

fn system_time(t: Time) -> SystemTime {
    let whole = Duration::from_secs(t.sec.unsigned_abs());
    let base = if t.sec < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) };
    base.and_then(|b| b.checked_add(Duration::from_nanos(u64::from(t.nsec)))).unwrap_or(UNIX_EPOCH)
}

/// The time of a SETATTR. fuser subtracts the nanoseconds of times before 1970 instead of adding them; this undoes it.
fn from_setattr(t: SystemTime) -> Time {
    match t.duration_since(UNIX_EPOCH) {
        Ok(d) => Time { sec: i64::try_from(d.as_secs()).unwrap_or(i64::MAX), nsec: d.subsec_nanos() },
        Err(e) => {
            let d = e.duration();
            Time { sec: i64::try_from(d.as_secs()).map_or(i64::MIN, |s| -s), nsec: d.subsec_nanos() }
        }
    }
}

/// A time of a SETATTR as the core takes it.
pub fn set_time(t: TimeOrNow) -> SetTime {
    match t {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(t) => SetTime::At(from_setattr(t)),
    }
}

/// The type for a directory entry.
pub fn file_type(mode: u32) -> FileType {
    match mode & libc::S_IFMT {
        libc::S_IFDIR => FileType::Directory,
        libc::S_IFLNK => FileType::Symlink,
        libc::S_IFIFO => FileType::NamedPipe,
        libc::S_IFSOCK => FileType::Socket,
        libc::S_IFCHR => FileType::CharDevice,
        libc::S_IFBLK => FileType::BlockDevice,
        _ => FileType::RegularFile,
    }
}

/// No node: the kernel remembers that the name does not exist (or, in a listing, that it was told nothing).
pub fn no_node() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

/// Attributes for a reply that names the node by [`Attr::ino`].
pub fn node(a: &Attr, ids: &Ids) -> FileAttr {
    FileAttr {
        ino: INodeNo(a.ino),
        size: a.size,
        blocks: a.blocks,
        atime: system_time(a.atime),
        mtime: system_time(a.mtime),
        ctime: system_time(a.ctime),
        crtime: UNIX_EPOCH,
        kind: file_type(a.mode),
        perm: (a.mode & 0o7777) as u16,
        nlink: a.nlink,
        uid: ids.users.shown(a.uid),
        gid: ids.groups.shown(a.gid),
        rdev: device(a.rdev),
        blksize: a.blksize,
        flags: 0,
    }
}

/// Attributes for a reply about a node that the kernel has: with the number to show.
pub fn shown(a: &Attr, ids: &Ids) -> FileAttr {
    FileAttr { ino: INodeNo(a.st_ino), ..node(a, ids) }
}

/// Device number as FUSE packs it (the kernel's `new_encode_dev`).
fn device((major, minor): (u32, u32)) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// The reverse of [`device`].
pub fn major_minor(dev: u32) -> (u32, u32) {
    ((dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xfff00))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_survive_both_ways() {
        let t = Time { sec: -5, nsec: 250_000_000 };
        assert_eq!(system_time(t), UNIX_EPOCH - Duration::from_millis(4750));
        // What fuser makes of (-5, 250_000_000):
        let from_fuser = UNIX_EPOCH - Duration::new(5, 250_000_000);
        assert_eq!(from_setattr(from_fuser), t);
    }

    #[test]
    fn device_numbers_survive_both_ways() {
        for dev in [(1, 3), (8, 0), (259, 70_000)] {
            assert_eq!(major_minor(device(dev)), dev);
        }
    }
}
