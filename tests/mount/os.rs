//! System calls that the standard library lacks, for tests.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, RenameFlags, XattrFlags};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::own_mounts::leave_mounts;

/// The errno of a failed call.
pub fn errno<T>(result: io::Result<T>) -> i32 {
    match result {
        Ok(_) => 0,
        Err(e) => e.raw_os_error().unwrap_or(-1),
    }
}

pub fn open_rw(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

pub fn open_append(path: &Path) -> File {
    OpenOptions::new().append(true).open(path).unwrap()
}

pub fn open_flags(path: &Path, flags: i32) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
}

pub fn rename(from: &Path, to: &Path, flags: RenameFlags) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(CWD, from, CWD, to, flags)?)
}

pub fn mknod(path: &Path, kind: FileType, mode: u32, major: u32, minor: u32) -> io::Result<()> {
    let dev = rustix::fs::makedev(major, minor);
    Ok(rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(mode), dev)?)
}

pub fn set_xattr(path: &Path, name: &str, value: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())?)
}

pub fn get_xattr(path: &Path, name: &str) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 65_536];
    let n = rustix::fs::lgetxattr(path, name, &mut buffer[..])?;
    buffer.truncate(n);
    Ok(buffer)
}

pub fn remove_xattr(path: &Path, name: &str) -> io::Result<()> {
    Ok(rustix::fs::lremovexattr(path, name)?)
}

/// The attribute of a program's capabilities.
pub const CAPABILITY: &str = "security.capability";

/// `cap_net_raw=ep` as its value: of revision 2, and in force at once; then the 32 lower permitted and inheritable ones, and
/// the 32 upper ones (`struct vfs_cap_data` in `include/uapi/linux/capability.h`).
pub const NET_RAW: [u8; 20] = {
    let mut value = [0; 20];
    (value[0], value[3]) = (1, 2);
    // Number 13.
    value[5] = 1 << 5;
    value
};

/// Names and values, sorted.
pub fn xattrs(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut buffer = vec![0u8; 65_536];
    let n = rustix::fs::llistxattr(path, &mut buffer[..]).unwrap();
    let mut found: Vec<_> = buffer[..n]
        .split(|&b| b == 0)
        .filter(|n| !n.is_empty())
        .map(|n| (n.to_vec(), get_xattr(path, std::str::from_utf8(n).unwrap()).unwrap()))
        .collect();
    found.sort();
    found
}

/// Names only, without what the system adds by itself.
pub fn xattr_names(path: &Path) -> Vec<String> {
    xattrs(path).into_iter().map(|(n, _)| String::from_utf8(n).unwrap()).collect()
}

pub fn set_times(path: &Path, atime: (i64, i64), mtime: (i64, i64)) -> io::Result<()> {
    let time = |t: (i64, i64)| rustix::fs::Timespec { tv_sec: t.0, tv_nsec: t.1 as _ };
    let times = rustix::fs::Timestamps { last_access: time(atime), last_modification: time(mtime) };
    Ok(rustix::fs::utimensat(CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?)
}

/// A mapping of a file's first bytes.
pub struct Map {
    at: *mut u8,
    len: usize,
}

impl Map {
    pub fn new(file: &File, len: usize, write: bool, shared: bool) -> io::Result<Self> {
        let protection = libc::PROT_READ | if write { libc::PROT_WRITE } else { 0 };
        let flags = if shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
        let at = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, file.as_raw_fd(), 0) };
        if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self { at: at.cast(), len }) }
    }

    pub fn read(&self, offset: usize, len: usize) -> Vec<u8> {
        assert!(offset + len <= self.len);
        (0..len).map(|n| unsafe { self.at.add(offset + n).read_volatile() }).collect()
    }

    pub fn write(&mut self, offset: usize, data: &[u8]) {
        assert!(offset + data.len() <= self.len);
        for (n, byte) in data.iter().enumerate() {
            unsafe { self.at.add(offset + n).write_volatile(*byte) };
        }
    }

    pub fn sync(&self) -> io::Result<()> {
        let failed = unsafe { libc::msync(self.at.cast(), self.len, libc::MS_SYNC) } != 0;
        if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        unsafe { libc::munmap(self.at.cast(), self.len) };
    }
}

/// lseek(2) with any `whence`.
pub fn seek(file: &File, offset: i64, whence: i32) -> io::Result<i64> {
    let at = unsafe { libc::lseek(file.as_raw_fd(), offset, whence) };
    if at < 0 { Err(io::Error::last_os_error()) } else { Ok(at) }
}

pub fn fallocate(file: &File, mode: i32, offset: i64, len: i64) -> io::Result<()> {
    let failed = unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, len) } != 0;
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

pub fn statfs(path: &Path) -> libc::statfs {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let mut buffer = unsafe { std::mem::zeroed() };
    assert_eq!(unsafe { libc::statfs(path.as_ptr(), &mut buffer) }, 0);
    buffer
}

/// Asks for a lock of the open file description (`F_OFD_GETLK`): the type of the lock in the way, `F_UNLCK` for none.
pub fn lock_in_the_way(file: &File) -> i32 {
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as _;
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &mut lock) }, 0);
    i32::from(lock.l_type)
}

/// Sets or, with `F_UNLCK`, removes a POSIX lock of the process on the whole file.
pub fn posix_lock(file: &File, kind: i32) -> io::Result<()> {
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as _;
    let failed = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &lock) } != 0;
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `FS_IOC_GETFLAGS`.
pub fn inode_flags(file: &File) -> io::Result<i64> {
    let mut flags: libc::c_long = 0;
    let failed = unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_GETFLAGS, &mut flags) } != 0;
    if failed { Err(io::Error::last_os_error()) } else { Ok(flags) }
}

/// `FS_IOC_SETFLAGS`.
pub fn set_inode_flags(file: &File, flags: i64) -> io::Result<()> {
    let flags: libc::c_long = flags;
    let failed = unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_SETFLAGS, &flags) } != 0;
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether the file system answers `FS_IOC_GETFSUUID`.
pub fn tells_its_uuid(path: &Path) -> bool {
    const GETFSUUID: libc::c_ulong = 0x8011_1500;
    let (directory, mut uuid) = (File::open(path).unwrap(), [0u8; 17]);
    unsafe { libc::ioctl(directory.as_raw_fd(), GETFSUUID as _, uuid.as_mut_ptr()) == 0 }
}

/// Changes the ids of this thread only, which the wrappers of the C library do not. It gets an umask of its own too.
pub fn become_user(uid: u32, gid: u32, groups: &[u32], capable: bool) {
    let changed = |result: libc::c_long| assert_eq!(result, 0, "{}", io::Error::last_os_error());
    unsafe {
        changed(libc::unshare(libc::CLONE_FS).into());
        changed(libc::prctl(libc::PR_SET_KEEPCAPS, libc::c_ulong::from(capable), 0, 0, 0).into());
        changed(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()));
        changed(libc::syscall(libc::SYS_setresgid, gid, gid, gid));
        changed(libc::syscall(libc::SYS_setresuid, uid, uid, uid));
    }
    let none = CapabilitySets { effective: CapabilitySet::empty(), ..rustix::thread::capabilities(None).unwrap() };
    let sets = if capable { CapabilitySets { effective: none.permitted, ..none } } else { none };
    rustix::thread::set_capabilities(None, sets).unwrap();
}

/// Runs `work` as a user without capabilities and other groups.
pub fn as_user<T: Send>(uid: u32, gid: u32, work: impl FnOnce() -> T + Send) -> T {
    in_a_thread(|| {
        become_user(uid, gid, &[], false);
        work()
    })
}

/// Runs `work` where mounts are its own, as are those of the programs that it starts.
pub fn with_own_mounts<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    in_a_thread(|| {
        leave_mounts();
        work()
    })
}

fn in_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let done = std::thread::scope(|scope| scope.spawn(work).join());
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Version of the running kernel.
pub fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}
