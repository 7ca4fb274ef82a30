//! `laminafs waste`: bytes that nobody can see.

use super::context::Context;
use super::entries::{absolute, shown};
use super::layers::made_by;
use super::output::{self, SCHEMA, Table};
use super::target::{TARGETS, TargetArgs};
use super::{Failure, complain};
use crate::image::format::{ellipsis, size3, size4};
use crate::provenance::{Hidden, Merged, Reason, Waste};
use clap::Args;
use serde_json::{Value, json};
use std::ffi::OsString;

/// The width of the column with the commands.
const COMMAND_WIDTH: usize = 45;

/// Arguments of `laminafs waste`.
#[derive(Debug, Args)]
#[command(
    override_usage = "laminafs waste [OPTIONS] TARGET[@N]\n       laminafs waste [OPTIONS] --lower DIR[:DIR...]",
    after_help = format!("{TARGETS}\n\n\
    Wasted are the bytes of files that layers hold and the merged view does not show. The efficiency is the part of all \
    bytes that is shown. That of dive is what the program dive computes, which also counts files as wasted that are shown.\n\n\
    Examples:\n  \
    laminafs waste debian:12\n  \
    laminafs waste --max-waste 20MB --min-efficiency 0.95 docker-archive:web.tar\n\n\
    Exit codes: 0 done, 1 failed or a limit was passed, 2 the command line was not understood")
)]
pub struct WasteArgs {
    /// Fail when more bytes than this are wasted: 20MB, 512k, 1.5GiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_waste: Option<u64>,
    /// Fail when the efficiency is below this, from 0 to 1
    #[arg(long, value_name = "SCORE", value_parser = score)]
    min_efficiency: Option<f64>,
    /// How many paths are listed, the largest first
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Print one JSON document (docs/JSON.md)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetArgs,
    /// The target
    #[arg(value_name = "TARGET")]
    words: Vec<OsString>,
}

/// A number with a unit: of 1000 (`kB`, `MB`) or 1024 (`KiB`, `MiB`).
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let (number, unit) = (digits.parse::<f64>(), text[digits.len()..].to_ascii_lowercase());
    let factor = match unit.trim_end_matches('b') {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        "t" => 1e12,
        "ki" => 1024.0,
        "mi" => 1_048_576.0,
        "gi" => 1_073_741_824.0,
        _ => return Err("write it as in 20MB, 512k or 1.5GiB".into()),
    };
    match number {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
        Ok(number) if number >= 0.0 && number * factor < 1e18 => Ok((number * factor) as u64),
        _ => Err("write it as in 20MB, 512k or 1.5GiB".into()),
    }
}

fn score(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|score| (0.0..=1.0).contains(score)).ok_or_else(|| "give a number from 0 to 1".into())
}

/// Prints what is wasted, and fails when it is too much.
pub fn run(args: &WasteArgs, context: &Context) -> Result<(), Failure> {
    let target = args.target.open_alone(&args.words, context)?;
    let merged = &target.merged;
    let waste = merged.waste()?;
    target.check()?;
    let mut largest: Vec<&Hidden> = waste.hidden.iter().collect();
    largest.sort_by_key(|hidden| (std::cmp::Reverse(hidden.bytes), hidden.layer));
    largest.truncate(args.top);
    if args.json {
        output::document(&document(merged, &waste, &largest))?;
    } else {
        print(merged, &waste, &largest)?;
    }
    let mut result = Ok(());
    if let Some(most) = args.max_waste.filter(|most| waste.wasted > *most) {
        complain(&format!("{} wastes {}, more than {}", merged.name, size4(waste.wasted), size4(most)));
        result = Err(Failure::Told);
    }
    if let Some(least) = args.min_efficiency.filter(|least| waste.efficiency() < *least) {
        complain(&format!("{} has an efficiency of {:.4}, less than {least}", merged.name, waste.efficiency()));
        result = Err(Failure::Told);
    }
    result
}

fn label(reason: Reason) -> &'static str {
    match reason {
        Reason::Superseded => "superseded by other content",
        Reason::MetadataOnly => "copied for its attributes",
        Reason::Identical => "written again unchanged",
        Reason::Deleted => "deleted later",
        Reason::ParentOpaque => "in a directory made opaque",
        Reason::ParentDeleted => "in a directory deleted later",
        Reason::ParentReplaced => "in a directory replaced later",
    }
}

fn print(merged: &Merged, waste: &Waste, largest: &[&Hidden]) -> anyhow::Result<()> {
    let mut text = format!(
        "{} of {} wasted, efficiency {:.4} (dive: {:.4})\n",
        size4(waste.wasted),
        size4(waste.total),
        waste.efficiency(),
        waste.efficiency_dive
    );
    if !largest.is_empty() {
        let mut table = Table::new(&["WASTED", "FILES", "REASON"]);
        for reason in Reason::ALL {
            let files = waste.hidden.iter().filter(|hidden| hidden.reason == reason).count();
            if files > 0 {
                table.row([&size3(waste.bytes(reason)), &files.to_string(), label(reason)]);
            }
        }
        text += &format!("\n{}", table.render());
        let mut table = Table::new(&["SIZE", "LAYER", "HIDDEN BY", "REASON", "PATH", "COMMAND OF THE LAYER"]);
        for hidden in largest {
            let command = ellipsis(&made_by(&merged.layer(hidden.layer).facts), COMMAND_WIDTH);
            let path = shown(&merged.path(hidden.node));
            let (layer, by) = (hidden.layer.to_string(), hidden.by.to_string());
            table.row([&size3(hidden.bytes), &layer, &by, label(hidden.reason), &path, &command]);
        }
        text += &format!("\n{}", table.render());
    }
    output::print(&text)
}

fn document(merged: &Merged, waste: &Waste, largest: &[&Hidden]) -> Value {
    let reasons = Reason::ALL.into_iter().map(|reason| (reason.word().to_owned(), waste.bytes(reason).into()));
    let paths = largest.iter().map(|hidden| {
        json!({
            "path": absolute(&merged.path(hidden.node)),
            "layer": hidden.layer.get(),
            "hidden_by": hidden.by.get(),
            "reason": hidden.reason.word(),
            "bytes": hidden.bytes,
            "command": merged.layer(hidden.layer).facts.command,
        })
    });
    json!({
        "schema": SCHEMA,
        "target": merged.name,
        "total_bytes": waste.total,
        "wasted_bytes": waste.wasted,
        "efficiency": waste.efficiency(),
        "efficiency_dive": waste.efficiency_dive,
        "reasons": reasons.collect::<serde_json::Map<String, Value>>(),
        "files": waste.hidden.len(),
        "paths": paths.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_people_write_them() {
        for (text, bytes) in [("0", 0), ("20MB", 20_000_000), ("512k", 512_000), ("1.5GiB", 1_610_612_736), ("7b", 7)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "MB", "-1", "1x", "1e99", "NaN", "inf"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert!(score("0.95").is_ok() && score("1.1").is_err() && score("NaN").is_err());
    }
}
