//! The browser without a terminal: keys in, cells out.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod browse;
mod fixture;
mod screen;
mod search;
