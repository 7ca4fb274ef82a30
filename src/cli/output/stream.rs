//! Output too long to be put together first.

use crate::image::format::{is_plain, printable, steers_terminal};
use anyhow::Context as _;
use serde::{Serialize, Serializer};
use serde_json::ser::{Formatter, PrettyFormatter};
use std::cell::Cell;
use std::fmt;
use std::io::{self, Write};

/// Text is printed in pieces of about this size.
const PIECE: usize = 64 << 10;

/// Lines that are printed as they come.
#[derive(Debug, Default)]
pub struct Pieces(String);

impl Pieces {
    /// Adds a line, with control characters made visible.
    pub fn line(&mut self, text: &str) -> anyhow::Result<()> {
        if is_plain(text) || !text.contains(steers_terminal) {
            self.0 += text;
        } else {
            self.0 += &printable(text);
        }
        self.0.push('\n');
        if self.0.len() < PIECE { Ok(()) } else { self.end() }
    }

    /// Adds a line whose names are those of [`name`](crate::image::format::name) already.
    pub fn add(&mut self, write: impl FnOnce(&mut String) -> fmt::Result) -> anyhow::Result<()> {
        write(&mut self.0)?;
        self.0.push('\n');
        if self.0.len() < PIECE { Ok(()) } else { self.end() }
    }

    /// Adds a line of the content of a file: as it is, or for a terminal with control characters made visible, tabs aside.
    pub fn content(&mut self, text: &str, terminal: bool) -> anyhow::Result<()> {
        if !terminal || !text.contains(|c| c != '\t' && steers_terminal(c)) {
            self.0 += text;
        } else {
            let pieces: Vec<String> = text.split('\t').map(printable).collect();
            self.0 += &pieces.join("\t");
        }
        self.0.push('\n');
        if self.0.len() < PIECE { Ok(()) } else { self.end() }
    }

    /// Prints what is left.
    pub fn end(&mut self) -> anyhow::Result<()> {
        super::print(&std::mem::take(&mut self.0))
    }
}

/// An array in a JSON document whose elements are made when they are printed. It can be printed once.
pub struct Stream<I>(Cell<Option<I>>);

impl<I: Iterator> Stream<I> {
    /// The elements.
    pub fn new(elements: I) -> Self {
        Self(Cell::new(Some(elements)))
    }
}

impl<I: Iterator<Item: Serialize>> Serialize for Stream<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.take().into_iter().flatten())
    }
}

/// Writes a document to standard output as it is made, indented by 2. A reader that goes away is no failure.
pub fn write(value: &impl Serialize) -> anyhow::Result<()> {
    let mut out = io::BufWriter::with_capacity(PIECE, io::stdout().lock());
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, Plain(PrettyFormatter::new()));
    let written = value.serialize(&mut serializer).map_err(io::Error::from);
    let written = written.and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
    match written {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// [`PrettyFormatter`], with characters that could steer a terminal as `\uXXXX`.
struct Plain<'a>(PrettyFormatter<'a>);

impl Formatter for Plain<'_> {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if is_plain(fragment) {
            return writer.write_all(fragment.as_bytes());
        }
        let mut rest = fragment;
        while let Some(at) = rest.find(steers_terminal) {
            let (before, from) = rest.split_at(at);
            let mut chars = from.chars();
            let code = chars.next().map_or(0, u32::from);
            write!(writer, "{before}\\u{code:04x}")?;
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_streamed_document_is_the_same_as_one_that_was_put_together() {
        let values = ["a\u{9b}31m\u{202e}\u{7f}é…", "", "\u{1b}[1m\n\"\\"];
        let mut out = Vec::new();
        let stream = Stream::new(values.iter());
        let mut serializer = serde_json::Serializer::with_formatter(&mut out, Plain(PrettyFormatter::new()));
        assert!(stream.serialize(&mut serializer).is_ok());
        let text = String::from_utf8(out).unwrap_or_default();
        assert!(!text.contains(|c| steers_terminal(c) && c != '\n'), "{text}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&text).ok(), Some(values.map(str::to_owned).to_vec()));
        assert_eq!(text.lines().nth(1), Some(r#"  "a\u009b31m\u202e\u007fé…","#));
    }
}
