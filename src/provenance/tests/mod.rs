//! The merged tree against slow and obvious computations, over random stacks of layers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod bombs;
mod brute;
mod cases;
mod dive;
mod generate;
mod inventories;
mod outline;
mod random;
mod sources;
