//! The command line: one file a subcommand, and here what they share.
//!
//! Exit codes: 0 done, 1 failed (one line on standard error says what, where, and what to do), 2 the command line
//! could not be understood. Only `complain` writes messages, and only `output` writes to standard output.

mod cat;
mod commit;
mod completion;
mod context;
mod demo;
mod df;
mod diff;
mod engine;
mod entries;
mod export;
mod hints;
mod history;
mod images;
mod import;
mod inspect;
mod interrupt;
mod layers;
mod limits;
mod load;
mod ls;
mod man;
mod mount;
mod mounted;
mod names;
pub mod options;
mod output;
mod place;
mod progress;
mod prune;
mod ps;
mod reading;
mod report;
mod rm;
mod rmi;
mod save;
mod share;
mod stat;
mod stats;
mod tag;
mod target;
mod tree;
mod ui;
mod umount;
mod verify;
mod waste;
mod whence;

use crate::image::format::{escaped, printable, steers_terminal};
use crate::sys::caller;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use context::Context;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;

/// Stacks read-only directories under a writable one and shows them as one file system
#[derive(Debug, Parser)]
#[command(name = "laminafs", version, arg_required_else_help = true, after_help = BARE_FORM)]
struct Cli {
    /// The image store [env: LAMINAFS_ROOT] [default: /var/lib/laminafs for root, else $XDG_DATA_HOME/laminafs or
    /// ~/.local/share/laminafs]
    #[arg(long, global = true, value_name = "DIR", display_order = 900)]
    root: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

/// What the help says about the form that mount(8) and container engines use.
const BARE_FORM: &str = "Without a subcommand, as mount helpers are called:\n  \
    laminafs -o lowerdir=A:B[,upperdir=U,workdir=W][,OPTION...] [SOURCE] MOUNTPOINT";

#[derive(Debug, Subcommand)]
enum Command {
    /// Mount an image, or a stack of directories
    Mount(mount::MountArgs),
    /// Unmount and wait until the daemon has written everything and is gone
    Umount(umount::UmountArgs),
    /// List writable layers and where they are mounted
    Ps(ps::PsArgs),
    /// Show what a mount holds in memory and what the kernel asked it
    Stats(stats::StatsArgs),
    /// Remove writable layers
    Rm(rm::RmArgs),
    /// Load images from an archive or a layout into the store
    Load(load::LoadArgs),
    /// Write images into an archive
    Save(save::SaveArgs),
    /// Make an image from a tar of a root file system
    Import(import::ImportArgs),
    /// Print what changed in a writable layer, or between two images
    Diff(diff::DiffArgs),
    /// Make an image of the changes in a writable layer
    Commit(commit::CommitArgs),
    /// Write a merged tree into a tar
    Export(export::ExportArgs),
    /// List images
    Images(images::ImagesArgs),
    /// Give an image a further name
    Tag(tag::TagArgs),
    /// Remove images, or some of their names
    Rmi(rmi::RmiArgs),
    /// Show how an image came about, layer by layer
    History(history::HistoryArgs),
    /// Write a page that shows an image layer by layer
    Report(report::ReportArgs),
    /// Show everything about images and writable layers
    Inspect(inspect::InspectArgs),
    /// List the layers of an image or a stack: sizes, changes, what is hidden later
    Layers(layers::LayersArgs),
    /// Tell which layer gives a path, and what the others do to it
    Whence(whence::WhenceArgs),
    /// List what a merged view shows, and which layer gives it
    Ls(ls::LsArgs),
    /// Show a merged view as a tree, with sizes
    Tree(tree::TreeArgs),
    /// Show everything about a path in a merged view
    Stat(stat::StatArgs),
    /// Write the content of files in a merged view
    Cat(cat::CatArgs),
    /// Find bytes in layers that nobody can see
    Waste(waste::WasteArgs),
    /// List the layers that several images of the store have
    Share(share::ShareArgs),
    /// Browse layers and the merged tree in the terminal
    Ui(ui::UiArgs),
    /// Remove what nothing uses
    Prune(prune::PruneArgs),
    /// Show what the store takes on disk
    Df(df::DfArgs),
    /// Check that the store is sound
    Verify(verify::VerifyArgs),
    /// Build a small stack, mount it, change it, and show what happened where
    Demo(demo::DemoArgs),
    /// Print what a shell needs to complete arguments
    Completion(completion::CompletionArgs),
    /// Write the manual pages
    Man(man::ManArgs),
}

/// Ends every help text.
const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 the command line was not understood";

/// The definition of the command line, for parsing, help, completions and manual pages.
fn definition() -> clap::Command {
    let with_exit_codes = |command: clap::Command| {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        // `verify` says more exactly what they mean.
        let own = help.contains("Exit code");
        command.after_help(if own { help } else { format!("{help}\n\n{EXIT_CODES}").trim_start().to_owned() })
    };
    with_exit_codes(Cli::command().mut_subcommands(with_exit_codes))
}

/// Why the program does not end with exit code 0.
#[derive(Debug)]
pub enum Failure {
    /// The command line was not understood, or asked for help or the version.
    Usage(clap::Error),
    /// What was asked for failed.
    Failed(anyhow::Error),
    /// What was asked for failed, and the user has been told.
    Told,
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(e: E) -> Self {
        match e.into().downcast::<clap::Error>() {
            Ok(usage) => Self::Usage(usage),
            Err(other) => Self::Failed(other),
        }
    }
}

impl Failure {
    /// Tells the user, and chooses the exit code.
    #[must_use]
    pub fn report(self) -> ExitCode {
        match self {
            // As the programs that it stands in for say it: engines look for the word "version" in the first line.
            Self::Usage(e) if e.kind() == clap::error::ErrorKind::DisplayVersion => {
                let version = concat!("laminafs: version ", env!("CARGO_PKG_VERSION"), "\n");
                printed(std::io::stdout().write_all(version.as_bytes()))
            }
            Self::Usage(e) if !e.use_stderr() => printed(e.print()),
            Self::Usage(e) => {
                // It repeats words as they were typed, or as a shell made them of names; as text it is without colours.
                let steers = |c| c != '\n' && steers_terminal(c);
                let printed = match std::env::args_os().any(|word| word.to_string_lossy().contains(steers)) {
                    true => io::stderr().write_all(escaped(&e.render().to_string(), steers).as_bytes()),
                    false => e.print(),
                };
                // With standard output or error closed there is nobody left to tell.
                printed.unwrap_or_default();
                u8::try_from(e.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
            }
            Self::Failed(e) => {
                complain(&with_causes(&e));
                ExitCode::FAILURE
            }
            Self::Told => ExitCode::FAILURE,
        }
    }
}

/// The exit code after what was asked for has been printed. A reader that goes away is no failure.
fn printed(result: io::Result<()>) -> ExitCode {
    match result {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

/// An error and its causes, without those that stand in the text before them already.
fn with_causes(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| match text.is_empty() {
        true => cause,
        false if text.contains(&cause) => text,
        false => format!("{text}: {cause}"),
    })
}

/// One line to the user on standard error. Where that cannot be written nobody learns it, and what was asked for goes on.
fn complain(sentence: &str) {
    let line = format!("laminafs: {}\n", printable(sentence.trim_end()));
    io::stderr().write_all(line.as_bytes()).unwrap_or_default();
}

/// Does something for each of several arguments; after a failure it goes on with the next, as Docker does.
fn for_each<T>(items: &[T], mut act: impl FnMut(&T) -> anyhow::Result<()>) -> Result<(), Failure> {
    let mut result = Ok(());
    for item in items {
        if let Err(e) = act(item) {
            complain(&with_causes(&e));
            result = Err(Failure::Told);
        }
    }
    result
}

/// After a listing: tells what had to be left out, and fails then.
fn tell_damaged(damaged: &[crate::store::Error]) -> Result<(), Failure> {
    // A layer is met with every image that has it.
    let sentences: BTreeSet<String> = damaged.iter().map(ToString::to_string).collect();
    sentences.iter().for_each(|sentence| complain(sentence));
    if damaged.is_empty() { Ok(()) } else { Err(Failure::Told) }
}

/// Runs the program with its arguments, the program's name first.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Result<(), Failure> {
    caller::settle_signals()?;
    let args: Vec<OsString> = args.into_iter().collect();
    if args.first().is_some_and(|program| mount::helper::is_called(program)) {
        return mount::helper::run(mount::helper::HelperArgs::try_parse_from(&args)?, &Context::default());
    }
    if is_bare_mount(args.get(1..).unwrap_or_default()) {
        return mount::run(mount::BareArgs::try_parse_from(&args)?.into(), &Context::default());
    }
    let cli = Cli::from_arg_matches(&definition().try_get_matches_from(&args)?)?;
    let context = Context { root: cli.root };
    // A mount has a log of its own, and the browser the terminal for itself.
    if !matches!(cli.command, Command::Mount(_) | Command::Ui(_)) {
        mount::logger("off").try_init()?;
    }
    match cli.command {
        Command::Mount(args) => mount::run(args, &context),
        Command::Umount(args) => Ok(umount::run(&args, &context)?),
        Command::Stats(args) => Ok(stats::run(&args)?),
        Command::Ps(args) => ps::run(&args, &context),
        Command::Rm(args) => rm::run(&args, &context),
        Command::Load(args) => load::run(&args, &context),
        Command::Tag(args) => Ok(tag::run(&args, &context)?),
        Command::Rmi(args) => rmi::run(&args, &context),
        Command::History(args) => Ok(history::run(&args, &context)?),
        Command::Report(args) => Ok(report::run(&args, &context)?),
        Command::Inspect(args) => inspect::run(&args, &context),
        Command::Layers(args) => Ok(layers::run(&args, &context)?),
        Command::Whence(args) => whence::run(&args, &context),
        Command::Ls(args) => ls::run(&args, &context),
        Command::Tree(args) => Ok(tree::run(&args, &context)?),
        Command::Stat(args) => stat::run(&args, &context),
        Command::Cat(args) => cat::run(&args, &context),
        Command::Share(args) => share::run(&args, &context),
        Command::Ui(args) => ui::run(&args, &context),
        Command::Waste(args) => waste::run(&args, &context),
        Command::Prune(args) => Ok(prune::run(&args, &context)?),
        Command::Df(args) => df::run(&args, &context),
        Command::Verify(args) => verify::run(&args, &context),
        Command::Save(args) => Ok(save::run(&args, &context)?),
        Command::Import(args) => Ok(import::run(&args, &context)?),
        Command::Diff(args) => Ok(diff::run(&args, &context)?),
        Command::Commit(args) => Ok(commit::run(&args, &context)?),
        Command::Export(args) => Ok(export::run(&args, &context)?),
        Command::Images(args) => images::run(&args, &context),
        Command::Demo(args) => Ok(demo::run(&args)?),
        Command::Completion(args) => Ok(completion::run(&args, definition())?),
        Command::Man(args) => Ok(man::run(&args, definition())?),
    }
}

/// Whether these are the arguments of a mount without a subcommand: an `-o` names layers, whatever the first word is
/// (`mount` aside), or there is an `-o` and the first word is no subcommand.
fn is_bare_mount(args: &[OsString]) -> bool {
    let args = match args {
        [root] if root == "--root" => return false,
        [root, _, rest @ ..] if root == "--root" => rest,
        [root, rest @ ..] if root.as_bytes().starts_with(b"--root=") => rest,
        all => all,
    };
    let Some(first) = args.first() else { return false };
    if first == "mount" {
        return false;
    }
    let general = ["-h", "--help", "-V", "--version"].iter().any(|option| first == option);
    let subcommand = Cli::command().get_subcommands().any(|c| first == c.get_name());
    (first.as_bytes().starts_with(b"-") && !general)
        || (!subcommand && option_strings(args).next().is_some())
        || option_strings(args).any(options::names_layers)
}

/// The values of all `-o` among the arguments: `-o X`, `-oX`, and `-fo X` or `-do X`.
fn option_strings(args: &[OsString]) -> impl Iterator<Item = &OsStr> {
    let end = args.iter().position(|a| a == "--").unwrap_or(args.len());
    args[..end].iter().enumerate().filter_map(move |(at, arg)| {
        let flags = arg.as_bytes().strip_prefix(b"-").filter(|flags| !flags.starts_with(b"-"))?;
        let o = flags.iter().take_while(|flag| b"fd".contains(flag)).count();
        match flags.get(o..)? {
            b"o" => args[..end].get(at + 1).map(OsString::as_os_str),
            [b'o', value @ ..] => Some(OsStr::from_bytes(value.strip_prefix(b"=").unwrap_or(value))),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bare(line: &str) -> bool {
        is_bare_mount(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn definitions_are_consistent() {
        definition().debug_assert();
        mount::BareArgs::command().debug_assert();
    }

    #[test]
    fn an_option_string_with_layers_selects_the_mount_form() {
        assert!(bare("-o lowerdir=a /mnt"));
        assert!(bare("overlay /mnt -o ro,lowerdir=a"));
        assert!(bare("umount /mnt -olowerdir=a"));
        assert!(bare("demo -fo lowerdir=a /mnt"));
        assert!(bare("demo -do lowerdir=a /mnt"));
        assert!(bare("-d -o lowerdir=a /mnt"));
        assert!(bare("none /mnt -o ro -o lowerdir=a"));
        assert!(bare("laminafs /mnt -o rw,remount"));
        assert!(bare("-o upperdir=a /mnt"));
        assert!(bare("--lower a /mnt"));
        assert!(bare("-f --lower a /mnt"));
    }

    #[test]
    fn subcommands_are_left_alone() {
        assert!(!bare("mount -o lowerdir=a /mnt"));
        assert!(!bare("mount --lower a /mnt"));
        assert!(!bare("umount --lazy /mnt"));
        assert!(!bare("umount -- -o lowerdir=a"));
        assert!(!bare("--help"));
        assert!(!bare("-V"));
        assert!(!bare("--root"));
        assert!(!bare("--root /s images"));
        assert!(!bare("--root=/s images -q"));
        assert!(bare("--root /s -o lowerdir=a /mnt"));
        assert!(!is_bare_mount(&[]));
    }

    #[test]
    fn causes_are_said_once() {
        let cause = std::io::Error::from_raw_os_error(libc::EACCES);
        let error = anyhow::Error::from(cause).context("open /a").context("cannot start");
        assert_eq!(with_causes(&error), "cannot start: open /a: Permission denied (os error 13)");
        let source = std::io::Error::from_raw_os_error(libc::EACCES);
        let error = crate::image::Error::Io { what: "open /a".into(), source };
        assert_eq!(with_causes(&error.into()), "open /a: Permission denied (os error 13)");
    }

    #[test]
    fn usage_errors_are_told_apart() {
        let failure = |line: &str| run(line.split(' ').map(OsString::from)).err();
        assert!(matches!(failure("laminafs mount"), Some(Failure::Usage(_))));
        assert!(matches!(failure("laminafs frobnicate"), Some(Failure::Usage(_))));
        assert!(matches!(failure("laminafs -o lowerdir=a"), Some(Failure::Usage(_))));
        assert!(matches!(failure("laminafs --version"), Some(Failure::Usage(_))));
        // Of the commands that fail, one that does not set up the log: other tests have theirs.
        assert!(matches!(failure("laminafs mount -o remount /nowhere/at/all"), Some(Failure::Failed(_))));
    }
}
