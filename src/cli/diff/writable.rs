//! `laminafs diff NAME`: what changed in a writable layer.

use crate::changes::{Change, Error, Kind, Rule, Union};
use crate::cli::context::Context;
use crate::cli::output::{self, SCHEMA};
use crate::cli::reading::WritableTree;
use crate::image::format::printable;
use serde_json::{Value, json};

/// Text is printed in pieces of about this size.
const PIECE: usize = 64 << 10;

/// Prints the changes, in the order of their paths.
pub fn run(name: &str, json: bool, context: &Context) -> anyhow::Result<()> {
    let store = context.store()?;
    let tree = WritableTree::open(&store, name)?;
    let union = Union::of_changes(&tree.stack())?;
    let (mut text, mut list, mut failed) = (String::new(), Vec::new(), None);
    let told = union.changes(Rule::Docker, &mut |change| {
        if json {
            list.push(entry(change));
            return Ok(());
        }
        text += &line(change);
        if text.len() < PIECE {
            return Ok(());
        }
        let printed = output::print(&std::mem::take(&mut text));
        printed.map_err(|e| {
            failed = Some(e);
            Error::Stopped
        })
    });
    failed.map_or(Ok(()), Err)?;
    told?;
    store.still_there(tree.reading())?;
    if json {
        return output::document(&json!({ "schema": SCHEMA, "name": name, "changes": list }));
    }
    output::print(&text)
}

fn line(change: &Change<'_>) -> String {
    let letter = match change.kind {
        Kind::Added => 'A',
        Kind::Changed => 'C',
        Kind::Deleted => 'D',
    };
    format!("{letter} {}\n", printable(&path(change)))
}

fn entry(change: &Change<'_>) -> Value {
    let kind = match change.kind {
        Kind::Added => "added",
        Kind::Changed => "changed",
        Kind::Deleted => "deleted",
    };
    json!({ "kind": kind, "path": path(change) })
}

/// From the root of the tree; bytes that are no text are replaced.
fn path(change: &Change<'_>) -> String {
    format!("/{}", String::from_utf8_lossy(change.path))
}
