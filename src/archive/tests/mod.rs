//! Layers built in memory, header by header, and what becomes of them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod build;
mod compressions;
mod forms;
mod hostile;
mod lower;
mod metadata;
mod random;
mod whiteouts;
mod written;
