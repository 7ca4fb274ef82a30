//! Entries of layers as the inspecting commands print them.

use crate::image::format;
use crate::image::time::Timestamp;
use crate::provenance::{Entry, Kind, Merged, NodeId, Occurrence};
use crate::sys::Time;
use serde::Serialize;
use std::borrow::Cow;

/// A path with a slash in front, as JSON documents have it: bytes that are no text are replaced.
pub fn absolute(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

/// The same as people see it ([`format::name`]).
pub fn shown(path: &[u8]) -> String {
    format!("/{}", format::name(path))
}

/// `-rwxr-xr-x`, as `ls -l` has it.
pub fn mode_text(entry: &Entry) -> String {
    mode_letters(entry).into_iter().collect()
}

/// The same, letter by letter.
pub fn mode_letters(entry: &Entry) -> [char; 10] {
    let bit = |shift: u16, letter| if entry.mode >> shift & 1 == 1 { letter } else { '-' };
    let special = |shift: u16, execute: u16, letter: char| match (entry.mode >> shift & 1, entry.mode >> execute & 1) {
        (0, 0) => '-',
        (0, _) => 'x',
        (_, 0) => letter.to_ascii_uppercase(),
        _ => letter,
    };
    [
        entry.kind.letter(),
        bit(8, 'r'),
        bit(7, 'w'),
        special(11, 6, 's'),
        bit(5, 'r'),
        bit(4, 'w'),
        special(10, 3, 's'),
        bit(2, 'r'),
        bit(1, 'w'),
        special(9, 0, 't'),
    ]
}

/// A time as JSON documents have it.
pub fn time(time: Time) -> String {
    Timestamp::from_unix(time.sec).with_nanos(time.nsec).to_string()
}

/// A time as tables have it: `2024-01-31 12:00`.
pub fn short_time(time: Time) -> String {
    let mut text = Timestamp::from_unix(time.sec).to_string();
    text.truncate("2024-01-31".len() + "T12:00".len());
    text.replace_range(10..11, " ");
    text
}

/// The length of a file or link; the numbers of a device.
pub fn size_text(entry: &Entry) -> String {
    match entry.kind {
        Kind::Char | Kind::Block => format!("{},{}", entry.device.0, entry.device.1),
        _ => entry.size.to_string(),
    }
}

/// A name, fit for a terminal, with what `ls -l` puts behind it.
pub fn name_text<'a>(merged: &Merged, name: &'a [u8], found: &Occurrence) -> Cow<'a, str> {
    let target = merged.layer(found.layer()).target(found.entry);
    let name = format::name(name);
    match merged.entry(found).kind {
        Kind::Symlink => Cow::Owned(format!("{name} -> {}", format::name(target))),
        _ => name,
    }
}

/// An entry in JSON documents (docs/JSON.md, "Entries").
#[derive(Debug, Serialize)]
pub struct EntryObject {
    path: String,
    layer: Option<u16>,
    kind: &'static str,
    size: u64,
    mode: String,
    uid: u32,
    gid: u32,
    mtime: String,
    target: Option<String>,
    device: Option<[u32; 2]>,
    hard_link: Option<String>,
    opaque: bool,
}

impl EntryObject {
    /// The root of a stack without layers: an empty directory of root, as archives have it for directories that nothing
    /// describes.
    pub fn of_no_layers() -> Self {
        Self {
            path: "/".into(),
            layer: None,
            kind: Kind::Directory.word(),
            size: 0,
            mode: "0755".into(),
            uid: 0,
            gid: 0,
            mtime: time(Time::default()),
            target: None,
            device: None,
            hard_link: None,
            opaque: false,
        }
    }

    /// The entry of an occurrence at a path.
    pub fn new(merged: &Merged, node: NodeId, found: &Occurrence) -> Self {
        Self::at(merged, absolute(&merged.path(node)), found)
    }

    /// The same where the path is at hand.
    pub fn at(merged: &Merged, path: String, found: &Occurrence) -> Self {
        let (entry, layer) = (merged.entry(found), merged.layer(found.layer()));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            path,
            layer: Some(found.layer().get()),
            kind: entry.kind.word(),
            size: entry.size,
            mode: format!("{:04o}", entry.mode),
            uid: entry.uid,
            gid: entry.gid,
            mtime: time(entry.mtime),
            target: (entry.kind == Kind::Symlink).then(|| text(layer.target(found.entry))),
            device: matches!(entry.kind, Kind::Char | Kind::Block).then_some([entry.device.0, entry.device.1]),
            hard_link: merged.hard_link(found).map(|path| absolute(&path)),
            opaque: entry.opaque,
        }
    }
}
