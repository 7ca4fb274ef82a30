//! `laminafs man`: the manual pages, from the same definitions as `--help`.

use anyhow::Context;
use clap::{Args, Command};
use std::fs;
use std::path::PathBuf;

/// Arguments of `laminafs man`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  laminafs man /usr/share/man/man1")]
pub struct ManArgs {
    /// Where the pages are written: laminafs.1 and one for each command, laminafs-COMMAND.1
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// Writes the pages of `program`.
pub fn run(args: &ManArgs, program: Command) -> anyhow::Result<()> {
    let failed = || format!("cannot write manual pages into {}", args.dir.display());
    fs::create_dir_all(&args.dir).with_context(failed)?;
    clap_mangen::generate_to(program.disable_help_subcommand(true), &args.dir).with_context(failed)
}
