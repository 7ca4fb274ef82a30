//! `laminafs verify`: whether the store is what it should be.

use super::context::{Context, allow_descriptors};
use super::output::{self, SCHEMA};
use super::{Failure, complain};
use crate::store::{Fault, Repaired, Verified};
use clap::Args;
use serde_json::{Value, json};

/// Arguments of `laminafs verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Reads every blob and every layer. Repair deletes nothing: what is damaged goes to the directory \
    quarantine of the store, layers whose blobs are good are unpacked again, writable layers are left alone. Layers without an inventory get one.\n\n\
    Examples:\n  \
    laminafs verify\n  \
    laminafs verify --repair\n\n\
    Exit code 0: the store is sound (with --repair: now). 1: it is not, or could not be looked at."
)]
pub struct VerifyArgs {
    /// Take out what is damaged, and unpack layers again where that is possible
    #[arg(long)]
    repair: bool,
    /// Print one JSON document (docs/JSON.md)
    #[arg(long)]
    json: bool,
}

/// Tells what is wrong, a line each, and fails if anything is.
pub fn run(args: &VerifyArgs, context: &Context) -> Result<(), Failure> {
    allow_descriptors();
    let repaired = match context.store_to_list()? {
        None => Repaired::default(),
        Some(store) if args.repair => store.repair()?,
        Some(store) => Repaired { left: store.verify()?, ..Repaired::default() },
    };
    match args.json {
        true => output::document(&document(&repaired))?,
        false => output::lines(report(&repaired))?,
    }
    if repaired.left.is_sound() {
        return Ok(());
    }
    let advice = match args.repair {
        true => "; it could not all be repaired: load the images again that are missing something",
        false => "; `laminafs verify --repair` takes out what is damaged",
    };
    complain(&format!("the store {} is not sound{advice}", context.root()?.display()));
    Err(Failure::Told)
}

fn report(repaired: &Repaired) -> Vec<String> {
    let mut lines: Vec<String> = repaired.faults.iter().map(|fault| format!("Found: {fault}")).collect();
    lines.extend(repaired.rebuilt.iter().map(|chain| format!("Unpacked again: {chain}")));
    lines.extend(repaired.inventories.iter().map(|chain| format!("Made the inventory of {chain}")));
    lines.extend(repaired.quarantine.iter().map(|path| format!("Put away: {}", path.display())));
    let left = &repaired.left;
    lines.extend(left.faults.iter().map(|fault| format!("Wrong: {fault}")));
    let count = |number: usize, one: &str| format!("{number} {one}{}", if number == 1 { "" } else { "s" });
    let parts = [
        (left.blobs, "blob"),
        (left.layers, "layer"),
        (left.images, "image"),
        (left.references, "name"),
        (left.writable, "writable layer"),
    ];
    let looked_at = parts.map(|(number, one)| count(number, one)).join(", ");
    lines.push(format!(
        "Verified {looked_at}: {}",
        match left.faults.len() {
            0 => "sound".to_owned(),
            number => count(number, "fault"),
        }
    ));
    if left.unreferenced > 0 {
        let number = left.unreferenced;
        lines.push(format!("Layers and blobs of no image: {number}; `laminafs prune` removes them"));
    }
    lines
}

fn document(repaired: &Repaired) -> Value {
    let faults = |faults: &[Fault]| -> Vec<Value> {
        faults.iter().map(|fault| json!({ "path": fault.path.to_string_lossy(), "what": fault.what })).collect()
    };
    let left: &Verified = &repaired.left;
    json!({
        "schema": SCHEMA,
        "sound": left.is_sound(),
        "faults": faults(&left.faults),
        "blobs": left.blobs,
        "layers": left.layers,
        "images": left.images,
        "names": left.references,
        "writable": left.writable,
        "unreferenced": left.unreferenced,
        "leftovers": left.leftovers,
        "repair": {
            "found": faults(&repaired.faults),
            "unpacked": repaired.rebuilt,
            "inventories": repaired.inventories,
            "quarantine": repaired.quarantine.as_ref().map(|path| path.to_string_lossy()),
        },
    })
}
