//! `laminafs mount`: from arguments to a daemon that serves one mount.

use super::options::MountOptions;
use super::{Failure, complain, umount};
use crate::fuse::{self, MountError, Session, Unmounter};
use crate::overlay::{self, Overlay};
use crate::sys::process::{self, HeldSignals, Reporter, Side};
use anyhow::{Context, anyhow};
use clap::{Args, Parser};
use parking_lot::Mutex;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is mounted, and how.
#[derive(Debug, Args)]
struct Stack {
    /// Options as for mount(8): lowerdir=A:B:C (topmost first), upperdir=, workdir=, ro, nosuid, dev, volatile, ...
    #[arg(short = 'o', value_name = "OPTIONS")]
    options: Vec<OsString>,
    /// A lower layer; repeat it for each, topmost first
    #[arg(long, value_name = "DIR")]
    lower: Vec<PathBuf>,
    /// The directory that takes all changes; the mount is read-only without
    #[arg(long, value_name = "DIR")]
    upper: Option<PathBuf>,
    /// Where changes are prepared: a directory on the file system of the upper one, and not inside it
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// Stay in the foreground and log to standard error (RUST_LOG, default warn)
    #[arg(short = 'f', long)]
    foreground: bool,
}

/// Arguments of `laminafs mount`.
#[derive(Debug, Args)]
pub struct MountArgs {
    #[command(flatten)]
    stack: Stack,
    /// Where the merged tree appears
    mountpoint: PathBuf,
}

/// Arguments of the form without a subcommand.
#[derive(Debug, Parser)]
#[command(name = "laminafs", version, override_usage = "laminafs -o OPTIONS [-f] [SOURCE] MOUNTPOINT")]
pub struct BareArgs {
    #[command(flatten)]
    stack: Stack,
    /// Where the merged tree appears; a word before it is accepted and has no meaning
    #[arg(value_name = "MOUNTPOINT", num_args = 1..=2, required = true)]
    words: Vec<PathBuf>,
}

impl From<BareArgs> for MountArgs {
    fn from(mut bare: BareArgs) -> Self {
        // There is at least one word, or clap would have complained.
        Self { stack: bare.stack, mountpoint: bare.words.pop().unwrap_or_default() }
    }
}

/// A mount that was understood, with absolute paths: the daemon changes its working directory.
struct Request {
    overlay: overlay::Options,
    fuse: fuse::Options,
}

/// Mounts, and returns when the mount answers (or, in the foreground, when it is gone).
///
/// In the daemon this returns when the mount is gone.
pub fn run(args: MountArgs) -> Result<(), Failure> {
    let foreground = args.stack.foreground;
    let failed = format!("cannot mount on {}", args.mountpoint.display());
    let request = Request::new(args).with_context(|| failed.clone())?;
    if foreground {
        let level = env_logger::Env::default().default_filter_or("warn");
        env_logger::Builder::from_env(level).try_init()?;
        return Ok(serve(request, || Ok(())).context(failed)?);
    }
    match process::fork_daemon().with_context(|| failed.clone())? {
        Side::Parent(waiter) => Ok(waiter.wait().map_err(anyhow::Error::msg).context(failed)?),
        Side::Daemon(reporter) => daemon(request, reporter),
    }
}

/// The life of the daemon. Whatever goes wrong before the mount answers is the parent's to print.
fn daemon(request: Request, reporter: Reporter) -> Result<(), Failure> {
    let mut reporter = Some(reporter);
    let end = serve(request, || {
        process::detach()?;
        reporter.take().map_or(Ok(()), Reporter::started).context("nobody waits for the mount any more")
    });
    let Err(error) = end else { return Ok(()) };
    if let Some(reporter) = reporter {
        reporter.failed(&format!("{error:#}"))?;
    }
    Err(Failure::Told)
}

/// Opens the layers, mounts, calls `started` when the mount answers, and serves it to its end.
fn serve(request: Request, started: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let Request { overlay: mut layers, fuse: options } = request;
    let stopper = Stopper::start()?;
    process::clear_umask();
    layers.fd_limit = process::raise_nofile_limit();
    let overlay = Overlay::open(&layers).map_err(sentence)?;
    stopper.mounting();
    let mut session = Session::mount(overlay, &options).map_err(advise)?;
    if let Err(error) = started() {
        session.unmounter().unmount()?;
        return Err(error);
    }
    log::info!("mounted on {}", options.mountpoint.display());
    stopper.mounted(session.unmounter(), options.mountpoint);
    session.run().context("the mount broke down")
}

impl Request {
    fn new(args: MountArgs) -> anyhow::Result<Self> {
        let MountArgs { stack, mountpoint } = args;
        let mut options = MountOptions::defaults(process::is_root());
        stack.options.iter().try_for_each(|text| options.apply(text))?;
        options.add_flags(stack.lower, stack.upper, stack.work)?;
        if !options.ignored.is_empty() {
            complain(&format!("note: options without effect: {}", options.ignored.join(", ")));
        }
        let mountpoint = std::path::absolute(mountpoint)?;
        let overlay = overlay::Options { mountpoint: Some(mountpoint.clone()), ..layers(&options)? };
        Ok(Self { overlay, fuse: session(options, mountpoint) })
    }
}

/// The part of the options that is about layers.
fn layers(options: &MountOptions) -> anyhow::Result<overlay::Options> {
    let all = |paths: &[PathBuf]| paths.iter().map(std::path::absolute).collect::<Result<Vec<_>, _>>();
    Ok(overlay::Options {
        lower: all(&options.lower)?,
        data_only: all(&options.data_only)?,
        upper: options.upper.as_ref().map(std::path::absolute).transpose()?,
        work: options.work.as_ref().map(std::path::absolute).transpose()?,
        redirect: options.redirect,
        no_index: !options.index,
        volatile: options.volatile,
        override_stat: options.override_stat,
        ..overlay::Options::default()
    })
}

/// The part of the options that is about the mount.
fn session(options: MountOptions, mountpoint: PathBuf) -> fuse::Options {
    fuse::Options {
        mountpoint,
        fsname: options.fsname,
        subtype: options.subtype,
        allow_other: options.allow_other,
        default_permissions: options.default_permissions,
        suid: options.suid,
        dev: options.dev,
        exec: options.exec,
        read_only: options.read_only || options.upper.is_none(),
        no_atime: options.no_atime,
        dir_sync: options.dir_sync,
        sync: options.sync,
        writeback: options.writeback,
        ..fuse::Options::default()
    }
}

/// Adds what to do where the session only says what is wrong with the mount point.
fn advise(error: MountError) -> anyhow::Error {
    match &error {
        MountError::MountPoint { source, .. } if source.kind() == ErrorKind::NotFound => {
            anyhow!("the mount point does not exist; create it with mkdir")
        }
        MountError::MountPoint { path, source } if source.raw_os_error() == Some(libc::ENOTCONN) => {
            anyhow!("a mount whose daemon has died is in the way; remove it with: laminafs umount {}", path.display())
        }
        _ => sentence(error),
    }
}

/// An error whose message includes its cause, without the chain that would name the cause again.
fn sentence(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow::Error::msg(error.to_string())
}

/// Ends the mount when a signal asks for it: the first one unmounts, or detaches what is in use; the second one ends
/// the process at once.
struct Stopper(Arc<Mutex<Stage>>);

enum Stage {
    /// Nothing to undo: a signal ends the process.
    Opening,
    /// The mount may or may not exist already: a signal waits for it.
    Mounting {
        asked: bool,
    },
    Mounted(Unmounter, PathBuf),
    Stopping,
}

impl Stopper {
    /// From here on signals are held back from all threads and wait for one of their own.
    fn start() -> anyhow::Result<Self> {
        let signals = process::hold_termination_signals()?;
        let stage = Arc::new(Mutex::new(Stage::Opening));
        let stopper = Self(Arc::clone(&stage));
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || watch(&signals, &stage))?;
        Ok(stopper)
    }

    fn mounting(&self) {
        *self.0.lock() = Stage::Mounting { asked: false };
    }

    fn mounted(&self, unmounter: Unmounter, mountpoint: PathBuf) {
        let mut stage = self.0.lock();
        let asked = matches!(*stage, Stage::Mounting { asked: true });
        *stage = Stage::Mounted(unmounter, mountpoint);
        if asked {
            stop(&mut stage);
        }
    }
}

fn watch(signals: &HeldSignals, stage: &Mutex<Stage>) {
    loop {
        match signals.wait() {
            Ok(signal) => log::info!("signal {signal}"),
            Err(e) => return log::error!("signals cannot be waited for: {e}"),
        }
        stop(&mut stage.lock());
    }
}

/// What one signal does.
fn stop(stage: &mut Stage) {
    match std::mem::replace(stage, Stage::Stopping) {
        Stage::Mounting { asked: false } => *stage = Stage::Mounting { asked: true },
        Stage::Mounted(unmounter, mountpoint) => {
            // In a thread of its own, so that the next signal is heard while this one waits.
            let end = move || unmount(&unmounter, &mountpoint);
            if let Err(e) = std::thread::Builder::new().name("unmount".to_owned()).spawn(end) {
                log::error!("cannot unmount: {e}");
                process::exit_now(1);
            }
        }
        Stage::Opening | Stage::Mounting { asked: true } | Stage::Stopping => process::exit_now(1),
    }
}

/// Unmounts, or where somebody uses the mount takes it out of the tree; the daemon serves the last user to the end.
fn unmount(unmounter: &Unmounter, mountpoint: &Path) {
    let Err(error) = unmounter.unmount() else { return };
    // Something else may be mounted there by now.
    let ours = umount::daemon_of(mountpoint).is_ok_and(|pid| pid == Some(std::process::id()));
    let detached = if ours { umount::unmount(mountpoint, true) } else { Err(error) };
    if let Err(e) = detached {
        log::error!("cannot unmount {}: {e}", mountpoint.display());
    }
}
