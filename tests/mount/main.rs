//! The program through real mounts: every test mounts a stack of its own with the real binary and looks at it as a user
//! does. Needs root, `/dev/fuse`, and an ordinary Linux with coreutils and util-linux; a test that cannot run fails.

#![allow(
    unsafe_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::undocumented_unsafe_blocks
)]

mod caller;
mod cli;
mod concurrency;
mod deleted;
mod dirty;
mod ending;
mod features;
mod files;
mod harness;
mod held;
mod helper;
mod identity;
mod ids;
mod in_use;
mod kernel;
mod limits;
mod listing;
mod matrix;
mod metadata;
mod names;
mod ordinary;
mod os;
mod override_stat;
mod own_mounts;
mod passthrough;
mod permissions;
mod posix_acl;
mod remount;
mod renaming;
mod ro;
mod round_trips;
mod snapshot;
mod times;
mod traps;
mod twins;
