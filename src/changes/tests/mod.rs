//! Tests on directories, without a mount: as root and as an ordinary user, like those of the union.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod apply;
mod cases;
mod differ;
mod fixture;
mod random;
