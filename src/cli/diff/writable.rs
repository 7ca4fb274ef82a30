//! `laminafs diff NAME`: what changed in a writable layer, or in a mount.

use crate::changes::{Change, Error, Kind, Rule, Union};
use crate::cli::context::Context;
use crate::cli::entries::shown;
use crate::cli::mounted::{Mounted, is_path};
use crate::cli::output::{self, SCHEMA};
use crate::cli::reading::WritableTree;
use crate::image::location::{ImageArg, Location};
use crate::overlay;
use crate::store;
use crate::sys::process::raise_nofile_limit;
use anyhow::{anyhow, bail};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::path::Path;

/// Text is printed in pieces of about this size.
const PIECE: usize = 64 << 10;

/// Prints the changes of a writable layer, or of what is mounted at a path.
pub fn run(name: &OsStr, json: bool, context: &Context) -> anyhow::Result<()> {
    let text = name.to_string_lossy();
    if !is_path(name) {
        return of_writable(&text, json, context).map_err(|error| match error.downcast_ref() {
            Some(store::Error::NoWritable(_)) if is_image(name, context) => anyhow!(
                "{text} is an image, which does not change; it is compared with another one by: laminafs diff OTHER {text}"
            ),
            _ => error,
        });
    }
    let options = match Mounted::at(Path::new(name), context)? {
        Mounted::Writable(name) => return of_writable(&name, json, context),
        Mounted::Other(options) => options,
    };
    if options.upper.is_none() {
        bail!("the mount at {text} has no writable layer, so nothing can have changed in it");
    }
    let stack = overlay::Options { fd_limit: raise_nofile_limit(), ..options.stack() };
    print(&text, &Union::of_mount(&stack)?, json, || Ok(()))
}

/// Whether a name is that of an image, wherever that is.
fn is_image(name: &OsStr, context: &Context) -> bool {
    match ImageArg::parse(name).map(|image| image.location) {
        Ok(Location::Store(name)) => {
            context.store_if_there().is_ok_and(|store| store.is_some_and(|store| store.find(&name).is_ok()))
        }
        other => other.is_ok(),
    }
}

fn of_writable(name: &str, json: bool, context: &Context) -> anyhow::Result<()> {
    let store = context.store_to_read(|| store::Error::NoWritable(name.to_owned()))?;
    let tree = WritableTree::open(&store, name)?;
    print(name, &Union::of_changes(&tree.stack())?, json, || Ok(store.still_there(tree.reading())?))
}

/// Prints the changes, in the order of their paths. `check` says whether what was read is still there.
fn print(name: &str, union: &Union, json: bool, check: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
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
    check()?;
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
    format!("{letter} {}\n", shown(change.path))
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
