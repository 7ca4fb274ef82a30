//! Under which names owners in attributes are read and written ([`Options::override_stat`]).

use std::os::fd::AsFd;

use super::options::Options;
use super::{Layer, Upper};
use crate::layer::override_stat::Dialect;
use crate::sys::{self, At, xattr};

/// Those that the union reads; the first is the one it writes. A name is believed where the root of some layer has it: who
/// owns a file in a layer can set another, and would own it as somebody else. Those of upper layers count before others:
/// fuse-overlayfs copies up the attribute of a lower layer, and adds its own.
pub fn dialects(options: &Options, upper: Option<&Upper>, lowers: &[Layer]) -> sys::Result<Vec<Dialect>> {
    if !options.override_stat {
        return Ok(Vec::new());
    }
    let in_upper = upper.map_or(Ok(Vec::new()), |upper| of_root(&upper.layer))?;
    // What another program began is gone on with.
    let kept = in_upper.iter().copied().find(|d| options.frozen || *d != Dialect::Privileged);
    let mut found = match upper {
        _ if options.privileged_stat => vec![Dialect::Privileged],
        Some(_) => vec![kept.unwrap_or(Dialect::Containers)],
        None => Vec::new(),
    };
    for layer in lowers.iter().filter(|l| !l.data_only) {
        found.extend(of_root(layer)?);
    }
    found.extend(in_upper);
    if !options.privileged_stat {
        found.push(Dialect::Containers);
    }
    let mut seen = Vec::new();
    found.retain(|dialect| {
        !seen.contains(dialect) && {
            seen.push(*dialect);
            true
        }
    });
    Ok(found)
}

/// The names that a layer's root has.
fn of_root(layer: &Layer) -> sys::Result<Vec<Dialect>> {
    let mut found = Vec::new();
    for dialect in Dialect::ALL {
        if xattr::get(At::Fd(layer.root.as_fd()), dialect.name())?.is_some() {
            found.push(dialect);
        }
    }
    Ok(found)
}

/// Gives an upper directory without the attribute that of the topmost layer which has it, as fuse-overlayfs does: it was
/// made by somebody who may not give directories away.
pub fn seed_root(upper: &Upper, lowers: &[Layer], dialects: &[Dialect]) -> sys::Result<()> {
    let Some(own) = dialects.first() else { return Ok(()) };
    let to = At::Fd(upper.layer.root.as_fd());
    for layer in std::iter::once(&upper.layer).chain(lowers.iter().filter(|l| !l.data_only)) {
        for dialect in dialects {
            let Some(value) = xattr::get(At::Fd(layer.root.as_fd()), dialect.name())? else { continue };
            let is_there = std::ptr::eq(layer, &upper.layer) && dialect == own;
            return if is_there { Ok(()) } else { xattr::set(to, own.name(), &value, 0) };
        }
    }
    Ok(())
}
