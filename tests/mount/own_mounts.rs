//! A mount namespace for each test.

use std::path::PathBuf;
use std::sync::OnceLock;

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Has the test that runs in this thread see its own mounts only, as do the threads and programs that it starts from then on.
///
/// What starts with `unshare -m` copies all mounts that it finds. A file system that is unmounted lives on in such copies: its
/// daemon does not end, and kernel overlayfs does not take its upper directory again (`EBUSY`).
pub fn leave_common_mounts() {
    if *COMMON.get_or_init(here) == here() {
        leave_mounts();
    }
}

/// The namespace in which all tests begin.
static COMMON: OnceLock<PathBuf> = OnceLock::new();

fn here() -> PathBuf {
    std::fs::read_link("/proc/thread-self/ns/mnt").unwrap()
}

/// From here on mounts of this thread are its own, as are those of the programs that it starts.
pub fn leave_mounts() {
    COMMON.get_or_init(here);
    // SAFETY: no descriptors are unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.unwrap();
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC).unwrap();
}
