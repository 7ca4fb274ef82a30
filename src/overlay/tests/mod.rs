//! Tests of the union on temporary directories, without a mount.
//!
//! They run as root and as an ordinary user. What only root can make (devices, other owners, `trusted.*` attributes) is
//! made by root only, and where that changes what must hold, a test says so for both.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod calls;
mod concurrent;
mod crash;
mod crash_cases;
mod crash_reading;
mod directories;
mod durability;
mod fsync;
pub(crate) mod harness;
mod identity;
mod layers;
mod many_layers;
mod metacopy;
mod nested;
mod override_aside;
mod override_dialects;
mod override_stat;
mod permissions;
mod posix;
mod redirecting;
mod redirects;
mod renamed_dirs;
mod renames;
pub(crate) mod tree;
pub(crate) mod walk;
mod whiteouts;
