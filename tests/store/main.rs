//! The image store through the program: every test has a store of its own in a temporary directory, fills it with images
//! that it builds, runs the real binary and compares what it prints with what a user should see.

#![allow(
    unsafe_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::undocumented_unsafe_blocks
)]

mod changes;
mod compared;
mod engine;
mod facts;
mod harness;
mod images;
mod kernel;
mod layered;
mod live;
mod load;
mod mount;
mod mounts;
mod names;
#[path = "../mount/own_mounts.rs"]
mod own_mounts;
mod program;
mod random;
mod readme;
mod report;
mod sample;
mod save;
mod space;
mod stacked;
