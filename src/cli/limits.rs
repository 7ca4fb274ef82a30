//! The options that say what is too much in a layer.

use crate::archive::Limits;
use crate::store::Error;
use clap::Args;

const HEADING: &str = "Limits, against layers that are made to fill the disk";

/// Limits for layers that come in.
#[derive(Debug, Args)]
pub struct LimitArgs {
    /// Bytes of one layer, uncompressed [default: 1 TiB]
    #[arg(long, value_name = "BYTES", help_heading = HEADING)]
    max_layer: Option<u64>,
    /// How many times larger than compressed a layer of more than 64 MiB may be [default: 1000]
    #[arg(long, value_name = "TIMES", help_heading = HEADING)]
    max_ratio: Option<u64>,
    /// Files, directories and others in one layer [default: 5000000]
    #[arg(long, value_name = "NUMBER", help_heading = HEADING)]
    max_entries: Option<u64>,
}

impl LimitArgs {
    /// The limits.
    pub fn limits(&self) -> Limits {
        let usual = Limits::default();
        Limits {
            bytes: self.max_layer.unwrap_or(usual.bytes),
            ratio: self.max_ratio.unwrap_or(usual.ratio),
            entries: self.max_entries.unwrap_or(usual.entries),
            ..usual
        }
    }
}

/// Says which options there are when a limit was passed.
pub fn advise(error: Error) -> anyhow::Error {
    match error {
        Error::Layer { source: crate::archive::Error::Limit(_), .. } => {
            anyhow::anyhow!("{error}; if that is as it should be, give --max-layer, --max-ratio or --max-entries")
        }
        other => other.into(),
    }
}
