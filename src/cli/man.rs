//! `laminafs man`: the manual pages, from the same definitions as `--help`.

use anyhow::Context;
use clap::{Args, Command};
use clap_mangen::Man;
use std::path::{Path, PathBuf};
use std::{fs, io};

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
    let mut program = program.disable_help_subcommand(true);
    program.build();
    write(&program, &args.dir).with_context(failed)
}

fn write(command: &Command, dir: &Path) -> io::Result<()> {
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        write(command, dir)?;
    }
    let man = Man::new(command.clone());
    fs::write(dir.join(man.get_filename()), page(&man, command)?)
}

/// As [`Man::render`] does it, but with the usage that `--help` shows, and with examples that stay as they are.
fn page(man: &Man, command: &Command) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").lines().map(|line| format!("  {}", line.trim()));
    out.extend(section("SYNOPSIS", &usage.collect::<Vec<_>>().join("\n")).into_bytes());
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut out)?;
    }
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let mut last = "";
    for paragraph in help.split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
        let (name, text) = match paragraph.split_once('\n') {
            Some(("Example:" | "Examples:", lines)) => ("EXAMPLES", lines),
            _ if paragraph.starts_with("Exit code") => ("EXIT STATUS", paragraph),
            _ => ("NOTES", paragraph),
        };
        out.extend(if name == last { body(text) } else { section(name, text) }.into_bytes());
        last = name;
    }
    if command.get_version().is_some() {
        man.render_version_section(&mut out)?;
    }
    Ok(out)
}

fn section(name: &str, text: &str) -> String {
    format!(".SH {name:?}\n{}", body(text))
}

/// A paragraph. Lines that are indented are not filled.
fn body(text: &str) -> String {
    let line = |line: &str| {
        let escaped = line.trim_start().replace('\\', "\\e").replace('-', "\\-");
        let guard = if escaped.starts_with(['.', '\'']) { "\\&" } else { "" };
        match line.starts_with("  ") {
            true => format!(".nf\n{guard}{escaped}\n.fi\n"),
            false => format!("{guard}{escaped}\n"),
        }
    };
    format!(".PP\n{}", text.lines().map(line).collect::<String>())
}
