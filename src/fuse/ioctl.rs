//! Inode flags, as chattr(1) and lsattr(1) ask for them (ioctl_iflags(2)).

use fuser::{Errno, ReplyIoctl};

use super::convert::errno;
use crate::overlay::{Ino, Overlay};

const FS_IOC_GETFLAGS: u32 = 0x8008_6601;
const FS_IOC_SETFLAGS: u32 = 0x4008_6602;
/// The kernel asks for this before it sets flags.
const FS_IOC_FSGETXATTR: u32 = 0x801c_581f;

/// A `struct fsxattr` (ioctl_fsgetxattr in linux/fs.h) that says what the inode flags say.
fn fsxattr(flags: u32) -> [u8; 28] {
    // FS_*_FL and FS_XFLAG_*: sync, immutable, append, no dump, no atime.
    const PAIRS: [(u32, u32); 5] = [(0x8, 0x20), (0x10, 0x8), (0x20, 0x10), (0x40, 0x80), (0x80, 0x40)];
    let shown = PAIRS.iter().filter(|p| flags & p.0 != 0).fold(0, |all, p| all | p.1);
    let mut value = [0; 28];
    value[..4].copy_from_slice(&u32::to_ne_bytes(shown));
    value
}

/// Answers an ioctl on the object; what is not about inode flags is `ENOTTY`, and so are their numbers for 32-bit programs:
/// the kernel translates those and checks the owner, but hands them on unchecked when a 64-bit program uses them.
pub fn answer(overlay: &Overlay, ino: Ino, cmd: u32, in_data: &[u8], out_size: u32, reply: ReplyIoctl) {
    match cmd {
        FS_IOC_GETFLAGS => match overlay.get_flags(ino) {
            // The number says eight bytes, the kernel takes four (`fuse_fileattr_get`).
            Ok(flags) if out_size >= 8 => reply.ioctl(0, &u64::from(flags).to_ne_bytes()),
            Ok(flags) => reply.ioctl(0, &flags.to_ne_bytes()),
            Err(e) => reply.error(errno("ioctl", e)),
        },
        FS_IOC_FSGETXATTR => match overlay.get_flags(ino) {
            Ok(flags) => reply.ioctl(0, &fsxattr(flags)),
            Err(e) => reply.error(errno("ioctl", e)),
        },
        FS_IOC_SETFLAGS => {
            let Some(&[a, b, c, d]) = in_data.first_chunk::<4>() else { return reply.error(Errno::EINVAL) };
            match overlay.set_flags(ino, u32::from_ne_bytes([a, b, c, d])) {
                Ok(()) => reply.ioctl(0, &[]),
                Err(e) => reply.error(errno("ioctl", e)),
            }
        }
        _ => reply.error(Errno::ENOTTY),
    }
}
