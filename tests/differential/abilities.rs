//! Cases as far as the process that runs them can do what is in them.

use super::case::Case;
use super::ops::{Op, Step};
use super::text::{Acl, Bytes, Kind, Mode};

/// The case as far as a process can run it that `tests/tier2/without.py` keeps from some system calls: `LAMINAFS_WITHOUT` has
/// the words that it knows. What is left has the same outcome as everywhere, whatever whiteouts are made of.
pub fn for_filtered_process(case: &Case) -> Case {
    let words = std::env::var("LAMINAFS_WITHOUT").unwrap_or_default();
    let without = |what: &str| words.split(',').any(|word| word == what);
    let is_whiteout = |step: &Step| matches!(step.op, Op::Mknod { kind: Kind::Char(0, 0), .. });
    let is_link = |step: &Step| matches!(step.op, Op::Link { .. } | Op::LinkSlot { .. });
    let sets_attribute = |step: &Step| {
        matches!(step.op, Op::SetXattr { .. } | Op::FsetXattr { .. } | Op::SetAcl { .. })
            || matches!(step.op, Op::RemoveXattr { .. } | Op::FremoveXattr { .. } | Op::RemoveAcl { .. })
    };
    let has_long_name = |step: &Step| step.to_string().contains("{2");
    let links = case.steps.iter().any(is_link);
    // SEMANTICS.md 2.2 has the reasons: without attributes no name can be removed that `.wh.` makes too long, a device 0:0
    // is refused, and hard links of layers are broken (an upper directory with some must not become one); without
    // RENAME_WHITEOUT such a name cannot always be renamed.
    let in_layers = |step: &&Step| {
        !(without("devices") && is_whiteout(step))
            && !(without("attributes") && (sets_attribute(step) || has_long_name(step) || is_link(step)))
    };
    let in_steps = |step: &&Step| {
        let becomes_layer = links && matches!(step.op, Op::Rotate {});
        let needs_attributes = sets_attribute(step) || has_long_name(step) || is_whiteout(step) || becomes_layer;
        let needs_whiteout = has_long_name(step) && matches!(step.op, Op::Rename { .. });
        !(without("attributes") && needs_attributes) && !((without("devices") || without("rename")) && needs_whiteout)
    };
    Case {
        layers: case.layers.iter().map(|steps| steps.iter().filter(in_layers).cloned().collect()).collect(),
        steps: case.steps.iter().filter(in_steps).cloned().collect(),
        ..case.clone()
    }
}

/// The case as far as somebody without privileges can do it.
pub fn for_ordinary_user(case: &Case) -> Case {
    let layers = case.layers.iter().map(|steps| steps.iter().filter_map(unprivileged).collect()).collect();
    let keep = |step: &Step| {
        let marker = |name: &Bytes| name.0.starts_with(b"trusted.overlay.");
        let marks = matches!(&step.op, Op::SetXattr { name, .. } | Op::FsetXattr { name, .. } if marker(name));
        if marks { None } else { unprivileged(step) }
    };
    Case { layers, steps: case.steps.iter().filter_map(keep).collect(), ..case.clone() }
}

fn unprivileged(step: &Step) -> Option<Step> {
    let widen = |mode: &Mode| Mode(mode.0 | 0o700);
    let who = step.who;
    let op = match &step.op {
        Op::Chown { .. } | Op::Fchown { .. } => return None,
        Op::Mknod { kind: Kind::Char(1.., _) | Kind::Block(..), .. } => return None,
        Op::Mkdir { path, mode } => Op::Mkdir { path: path.clone(), mode: widen(mode) },
        Op::Mknod { path, kind, mode } => Op::Mknod { path: path.clone(), kind: *kind, mode: widen(mode) },
        Op::Chmod { path, mode } => Op::Chmod { path: path.clone(), mode: widen(mode) },
        Op::Fchmod { slot, mode } => Op::Fchmod { slot: *slot, mode: widen(mode) },
        Op::Open { slot, path, flags, mode } => {
            Op::Open { slot: *slot, path: path.clone(), flags: *flags, mode: widen(mode) }
        }
        Op::SetAcl { path, kind, acl } => {
            let mut entries = acl.0.clone();
            entries.iter_mut().filter(|entry| entry.tag == 1).for_each(|owner| owner.bits = 7);
            Op::SetAcl { path: path.clone(), kind: *kind, acl: Acl(entries) }
        }
        Op::SetXattr { path, name, value, flags, link } => {
            let marker = name.0.strip_prefix(b"trusted.overlay.");
            let name = marker.map_or(name.clone(), |rest| Bytes([b"user.overlay.".as_slice(), rest].concat()));
            if privileged_name(&name) {
                return None;
            }
            Op::SetXattr { path: path.clone(), name, value: value.clone(), flags: *flags, link: *link }
        }
        Op::FsetXattr { name, .. }
        | Op::GetXattr { name, .. }
        | Op::FgetXattr { name, .. }
        | Op::RemoveXattr { name, .. }
        | Op::FremoveXattr { name, .. }
            if privileged_name(name) =>
        {
            return None;
        }
        other => other.clone(),
    };
    Some(Step { who, op })
}

fn privileged_name(name: &Bytes) -> bool {
    name.0.starts_with(b"trusted.") || name.0.starts_with(b"security.")
}
