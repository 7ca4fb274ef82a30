//! The adapter from FUSE to [`crate::overlay`]: each operation decodes, calls the core, replies. The only place that
//! names the `fuser` crate.
//!
//! Nothing but this mount changes the merged view, so the kernel may keep entries (missing ones too), attributes, links
//! and listings for ever. Files and directories have no handles (OPEN and OPENDIR are answered with ENOSYS): the kernel
//! opens them without asking, and its page cache belongs to the inode. With [`Data::Passthrough`] files are opened by us,
//! see `open.rs`.

pub mod about;
mod adapter;
mod capabilities;
mod convert;
mod dirty;
mod ids;
mod init;
mod ioctl;
mod mount;
mod open;
mod operations;
mod read_ahead;
mod requests;
mod session;
mod unmount;

pub use capabilities::{Mask, NotMaskable};
pub use ids::{IdMap, IdRange, Ids};
pub use mount::{NO_SYMFOLLOW, Switches, handed_down, remount, switches};
pub use session::{Data, MountError, Options, Session, Unmounter, check_mountpoint};
pub use unmount::{daemon_of, unmount};
