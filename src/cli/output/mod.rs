//! What commands print on standard output: lines, tables, JSON.
//!
//! A reader that goes away (`laminafs images | head -1`) is no failure: what it does not read goes nowhere, and a command
//! that changes something goes on changing it. Text that may come from an image passes [`printable`] first; [`Table`]
//! and the JSON functions see to it themselves.

mod args;
mod file;
mod json;
mod stream;
mod table;

pub use args::{ListArgs, Shape, ShapeArgs};
pub use file::{Kind, OutputFile};
pub use json::{SCHEMA, document, indented, object_lines};
pub use stream::{Pieces, Stream};
pub use table::Table;

use crate::image::format::printable;
use crate::image::time::Timestamp;
use anyhow::{Context, bail};
use std::io::{self, Write};

/// Prints text as it is.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// Prints a line, with control characters made visible.
pub fn line(text: &str) -> anyhow::Result<()> {
    print(&(printable(text) + "\n"))
}

/// Prints lines, all at once.
pub fn lines<T: AsRef<str>>(lines: impl IntoIterator<Item = T>) -> anyhow::Result<()> {
    print(&lines.into_iter().map(|text| printable(text.as_ref()) + "\n").collect::<String>())
}

/// A time of the store's records as JSON documents have it: RFC 3339, UTC.
pub fn time(unix: u64) -> String {
    Timestamp::from_unix(i64::try_from(unix).unwrap_or(i64::MAX)).to_string()
}

/// A time as Docker's JSON objects have it (Go's `Time.String`), in UTC.
pub fn docker_time(time: Timestamp) -> String {
    let text = Timestamp::from_unix(time.unix()).to_string();
    text.replace('T', " ").replace('Z', " +0000 UTC")
}

/// The time that new images get instead of that of the clock, so that they come out the same again: `SOURCE_DATE_EPOCH`
/// (reproducible-builds.org), in seconds since 1970.
pub fn source_date() -> anyhow::Result<Option<Timestamp>> {
    let Some(text) = std::env::var_os("SOURCE_DATE_EPOCH").filter(|text| !text.is_empty()) else { return Ok(None) };
    let seconds = text.to_str().and_then(|text| text.parse().ok()).filter(|seconds| *seconds >= 0);
    let Some(seconds) = seconds else {
        bail!("SOURCE_DATE_EPOCH is '{}', which is not a number of seconds since 1970", text.to_string_lossy());
    };
    Ok(Some(Timestamp::from_unix(seconds)))
}
