//! Counting the requests that the kernel sends: round trips are what a FUSE file system costs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Declares [`Kind`] and the names under which its values are shown.
macro_rules! kinds {
    ($($kind:ident $name:literal,)*) => {
        /// What a request asks for, by the names of the FUSE protocol (`FUSE_*` in `linux/fuse.h`).
        #[derive(Clone, Copy)]
        pub enum Kind { $($kind,)* }

        const NAMES: &[&str] = &[$($name,)*];
    };
}

kinds! {
    CopyFileRange "copy_file_range",
    Create "create",
    Fallocate "fallocate",
    Flush "flush",
    Forget "forget",
    Fsync "fsync",
    FsyncDir "fsyncdir",
    GetAttr "getattr",
    GetXattr "getxattr",
    Ioctl "ioctl",
    Link "link",
    ListXattr "listxattr",
    Lookup "lookup",
    Lseek "lseek",
    Mkdir "mkdir",
    Mknod "mknod",
    Open "open",
    OpenDir "opendir",
    Read "read",
    ReadDir "readdir",
    ReadDirPlus "readdirplus",
    ReadLink "readlink",
    Release "release",
    RemoveXattr "removexattr",
    Rename "rename",
    Rmdir "rmdir",
    SetAttr "setattr",
    SetXattr "setxattr",
    StatFs "statfs",
    Symlink "symlink",
    Unlink "unlink",
    Write "write",
}

/// How many requests of each kind came since the mount began.
pub struct Requests([AtomicU64; NAMES.len()]);

impl Requests {
    pub fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }

    /// Counts one.
    pub fn count(&self, kind: Kind) {
        if let Some(counter) = self.0.get(kind as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counts by name, those that are zero included.
    pub fn by_name(&self) -> BTreeMap<String, u64> {
        NAMES.iter().zip(&self.0).map(|(name, count)| ((*name).to_owned(), count.load(Ordering::Relaxed))).collect()
    }
}
