//! How far the kernel reads ahead.

use std::fs;
use std::io;

/// In KiB. The kernel's own value for every FUSE mount is 128, and each READ costs more than it carries then. More than
/// this gains little, and whoever touches a few pages of a map has as much read around each (docs/PERFORMANCE.md).
const KIB: u64 = 512;

/// Has the kernel read ahead further on the mount with this device number, unless somebody set more.
///
/// INIT cannot do it: the kernel takes the smaller one of its own value and the answer. The attribute in sysfs is for root,
/// and not everybody has one; without it the mount is slower and nothing else.
pub fn widen(device: u64) -> io::Result<()> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let path = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    let now = fs::read_to_string(&path)?;
    if now.trim().parse::<u64>().is_ok_and(|kib| kib >= KIB) {
        return Ok(());
    }
    fs::write(&path, KIB.to_string())
}
