//! `laminafs demo`: a small stack, mounted for real, changed, and shown from all sides.

mod digest;
mod stack;

use super::{output, umount};
use crate::sys::process;
use anyhow::{Context, ensure};
use clap::Args;
use stack::{LAYERS, Stack};
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

/// Arguments of `laminafs demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Leave the layers and the upper directory behind, to look at
    #[arg(long)]
    keep: bool,
}

/// Runs the demonstration.
///
/// The mount and the temporary directory are gone afterwards, however it ends.
pub fn run(args: &DemoArgs) -> anyhow::Result<()> {
    // An interruption waits until everything is cleaned up.
    let signals = process::hold_termination_signals()?;
    let mut stack = Stack::build().with_context(|| {
        let place = std::env::temp_dir();
        format!("demo: cannot build the layers in {} (TMPDIR names another directory for it)", place.display())
    })?;
    let mut out = Page::new();
    let result = show(&stack, &mut out);
    if args.keep {
        let kept = stack.keep();
        out.title("Kept")?;
        out.line(&format!("{}", kept.display()))?;
        out.line("Mount it again with:")?;
        out.line(&format!("  laminafs mount {}", stack.arguments().join(" ")))?;
    }
    let removed = stack.close().context("demo: cannot remove the temporary directory");
    drop(signals);
    result.and(removed)
}

/// The whole story; on return nothing is mounted.
fn show(stack: &Stack, out: &mut Page) -> anyhow::Result<()> {
    out.title("The layers on disk, topmost first")?;
    for layer in LAYERS {
        out.line(&format!("{layer}/"))?;
        stack::list(&stack.path(layer), &mut |row| out.line(&format!("  {row}")))?;
    }
    let before = digest::of(&stack.lowers())?;

    let mount = Mount::new(stack)?;
    let merged = stack.path("merged");
    out.title("Mounted: the merged tree, and the layer that each entry comes from")?;
    for path in stack::walk(&merged)? {
        let shown = path.strip_prefix(&merged)?;
        out.line(&format!("  {:<24} {}", shown.display(), stack.layers_of(shown).join(" over ")))?;
    }

    out.title("Changes made through the mount")?;
    change(&merged, out)?;

    out.title("The merged tree now")?;
    stack::list(&merged, &mut |row| out.line(&format!("  {row}")))?;
    mount.end()?;

    out.title("What landed in the upper directory")?;
    stack::list(&stack.path("upper"), &mut |row| out.line(&format!("  {row}")))?;

    out.title("The layers below")?;
    let after = digest::of(&stack.lowers())?;
    out.line(&format!("  sha256 before  {before}"))?;
    out.line(&format!("  sha256 after   {after}"))?;
    ensure!(before == after, "demo: the layers have changed, which must never happen");
    out.line("  unchanged; unmounted")
}

/// Writes, deletes and renames.
fn change(merged: &Path, out: &mut Page) -> anyhow::Result<()> {
    let at = |path: &str| merged.join(path);
    let append = |path: &str, text: &str| -> io::Result<()> {
        fs::OpenOptions::new().append(true).open(at(path))?.write_all(text.as_bytes())
    };
    out.step("write etc/new.conf", "", fs::write(at("etc/new.conf"), "made in the mount\n"))?;
    out.step("append to etc/app.conf", "copied up first", append("etc/app.conf", "level = 3\n"))?;
    out.step("append to bin/tool", "bin/tool-link shows it too: one file", append("bin/tool", "echo changed\n"))?;
    let (one, other) = (at("bin/tool"), at("bin/tool-link"));
    ensure!(fs::read(&one)? == fs::read(&other)?, "demo: the two names of a hard link differ");
    let same = fs::metadata(&one)?.ino() == fs::metadata(&other)?.ino();
    ensure!(same, "demo: the two names of a hard link are two files");
    out.step("delete etc/motd", "", fs::remove_file(at("etc/motd")))?;
    out.step("rename share to common", "a directory of lower layers", fs::rename(at("share"), at("common")))?;
    let again = fs::remove_dir_all(at("cache")).and_then(|()| fs::create_dir(at("cache")));
    out.step("remove cache, make it again", "", again)
}

/// The mounted stack; unmounted on drop if [`Mount::end`] was not reached.
struct Mount<'a>(Option<&'a Stack>);

impl<'a> Mount<'a> {
    /// Runs this program as a user would; it returns when the mount answers.
    fn new(stack: &'a Stack) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("demo: cannot find this program")?;
        let output = Command::new(program).arg("mount").args(stack.arguments()).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "demo: {}", said.trim().trim_start_matches("laminafs: "));
        Ok(Self(Some(stack)))
    }

    fn end(mut self) -> anyhow::Result<()> {
        let Some(stack) = self.0.take() else { return Ok(()) };
        umount::unmount_and_wait(&stack.path("merged"), false).inspect_err(|_| self.0 = Some(stack))
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let Some(stack) = self.0 else { return };
        let merged = stack.path("merged");
        if let Err(e) = crate::fuse::unmount(&merged, true) {
            super::complain(&format!("cannot unmount {}: {e}", merged.display()));
        }
    }
}

/// Standard output, with headings that stand out on a terminal.
struct Page {
    styled: bool,
}

impl Page {
    fn new() -> Self {
        let styled = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { styled }
    }

    fn title(&mut self, text: &str) -> anyhow::Result<()> {
        let (on, off) = if self.styled { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        output::print(&format!("\n{on}{text}{off}\n"))
    }

    /// One change that was made, and a remark.
    fn step(&mut self, what: &str, remark: &str, done: io::Result<()>) -> anyhow::Result<()> {
        done.with_context(|| format!("demo: {what}"))?;
        self.line(format!("  {what:<30} {remark}").trim_end())
    }

    fn line(&mut self, text: &str) -> anyhow::Result<()> {
        output::print(&format!("{text}\n"))
    }
}
