//! `laminafs mount`: from arguments to a mount that is served.
//!
//! `image` finds the layers of an image, `held` keeps them for as long as the mount lives, `tmpfs` makes upper directories
//! in memory; `serve` is the life of the daemon, `kernel` that of its counterpart beside a mount of kernel overlayfs.

mod held;
pub mod helper;
mod image;
mod kernel;
mod remount;
mod serve;
mod tmpfs;

use super::context::Context;
use super::options::{self, MountOptions};
use super::{Failure, complain, output, with_causes};
use crate::fuse::{self, MountError};
use crate::image::format::printable;
use crate::overlay;
use crate::sys::process::{self, Reporter, Side};
use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Parser};
use held::Held;
use image::{Ground, ImageArgs};
use sd_notify::NotifyState;
use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

/// Names capabilities of the kernel, see [`mask`].
const MASK: &str = "LAMINAFS_TEST_FUSE_MASK";

/// What is mounted, and how.
#[derive(Debug, Args)]
struct Stack {
    /// Options as for mount(8): lowerdir=A:B:C (topmost first), upperdir=, workdir=, ro, nosuid, dev, volatile,
    /// data=auto|cache|passthrough, writeback=1, ...; all of them are in README.md
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
#[command(
    allow_missing_positional = true,
    after_help = "Examples:\n  \
    laminafs mount alpine /mnt                     a new writable layer, whose name is printed\n  \
    laminafs mount --name web alpine /mnt          the same under a name of your own\n  \
    laminafs mount --name web /mnt                 that one again, with its changes\n  \
    laminafs mount --rm alpine@2 /mnt              the lowest 2 layers; the changes go with the mount\n  \
    laminafs mount containers-storage:web /mnt     what podman has, read-only\n  \
    laminafs mount --lower TOP --lower BASE --upper UPPER --work WORK /mnt"
)]
pub struct MountArgs {
    #[command(flatten)]
    stack: Stack,
    #[command(flatten)]
    how: ImageArgs,
    /// An image of the store (a name, an id or the beginning of one), IMAGE@N for its lowest N layers, or
    /// containers-storage:NAME, docker-store:NAME
    image: Option<OsString>,
    /// Where the merged tree appears
    mountpoint: PathBuf,
    /// Shown as the source in /proc/mounts, where the options do not say it
    #[arg(skip)]
    source: Option<OsString>,
    /// What the log has where RUST_LOG does not say it: all there is to say, or warnings.
    #[arg(skip)]
    debug: bool,
}

/// Arguments of the form without a subcommand.
#[derive(Debug, Parser)]
#[command(
    name = "laminafs",
    version,
    about = "Mount layers, as fuse-overlayfs does: the command mount without its name",
    override_usage = "laminafs -o OPTIONS [-f|-d] [SOURCE] MOUNTPOINT"
)]
pub struct BareArgs {
    #[command(flatten)]
    stack: Stack,
    /// As -f, and log all there is to say, as fuse-overlayfs has it
    #[arg(short = 'd', long)]
    debug: bool,
    /// Where the merged tree appears; a word before it is shown as the source in /proc/mounts
    #[arg(value_name = "MOUNTPOINT", num_args = 1..=2, required = true)]
    words: Vec<PathBuf>,
}

impl From<BareArgs> for MountArgs {
    fn from(mut bare: BareArgs) -> Self {
        // There is at least one word, or clap would have complained.
        let mountpoint = bare.words.pop().unwrap_or_default();
        let source = bare.words.pop().map(PathBuf::into_os_string);
        let stack = Stack { foreground: bare.stack.foreground || bare.debug, ..bare.stack };
        Self { stack, how: ImageArgs::default(), image: None, mountpoint, source, debug: bare.debug }
    }
}

/// A mount that was understood, with absolute paths: the daemon changes its working directory.
struct Request {
    layers: overlay::Options,
    mount: fuse::Options,
    /// Kernel overlayfs mounts, and not this program.
    kernel: bool,
    held: Held,
}

/// What logs to standard error as `RUST_LOG` says, or else `level`. Names of the layers are in it, which may hold what steers a terminal.
pub(super) fn logger(level: &str) -> env_logger::Builder {
    let mut logger = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level));
    logger.format(|out, record| {
        let (level, style) = (record.level(), out.default_level_style(record.level()));
        let (time, text) = (out.timestamp(), printable(&record.args().to_string()));
        writeln!(out, "[{time} {style}{level:<5}{style:#} {}] {text}", record.target())
    });
    logger
}

/// Mounts, and returns when the mount answers (or, in the foreground, when it is gone).
///
/// In the daemon this returns when the mount is gone.
pub fn run(args: MountArgs, context: &Context) -> Result<(), Failure> {
    let (foreground, debug) = (args.stack.foreground, args.debug);
    if args.is_remount() {
        let failed = format!("cannot remount {}", args.mountpoint.display());
        return Ok(remount::run(&args, false).context(failed)?);
    }
    let failed = format!("cannot mount on {}", args.mountpoint.display());
    let options = args.options().with_context(|| failed.clone())?;
    let request = Request::new(args, options, context).with_context(|| failed.clone())?;
    if foreground {
        logger(if debug { "debug" } else { "warn" }).try_init()?;
        let mut answered = false;
        let end = serve::serve(&request, || {
            answered = true;
            request.held.announce()?;
            // For systemd, Type=notify; nothing is sent where nobody has asked for it.
            if let Err(e) = sd_notify::notify(&[NotifyState::Ready]) {
                log::warn!("cannot tell the service manager that the mount answers: {e}");
            }
            Ok(())
        });
        request.held.end(answered);
        return Ok(end.context(failed)?);
    }
    match process::fork_daemon() {
        Ok(Side::Parent(waiter)) => match waiter.wait() {
            Ok(()) => Ok(request.held.announce()?),
            Err(why) => {
                request.held.end(false);
                Err(anyhow::Error::msg(why).context(failed).into())
            }
        },
        Ok(Side::Daemon(reporter)) => daemon(request, reporter),
        Err(e) => {
            request.held.end(false);
            Err(anyhow::Error::from(e).context(failed).into())
        }
    }
}

/// The life of the daemon. Whatever goes wrong before the mount answers is the parent's to print and to clean up.
fn daemon(request: Request, reporter: Reporter) -> Result<(), Failure> {
    let mut reporter = Some(reporter);
    let mut answered = false;
    let end = serve::serve(&request, || {
        process::detach()?;
        let told = reporter.take().map_or(Ok(()), Reporter::started);
        answered = told.is_ok();
        told.context("nobody waits for the mount any more")
    });
    let cleaned_by_parent = match (reporter, &end) {
        (Some(reporter), Err(error)) => reporter.failed(&with_causes(error)).is_ok(),
        _ => false,
    };
    if !cleaned_by_parent {
        request.held.end(answered);
    }
    end.map_err(|_| Failure::Told)
}

impl MountArgs {
    /// Whether this is about a mount that is there already.
    fn is_remount(&self) -> bool {
        self.stack.options.iter().any(|text| options::asks_to_remount(text))
    }

    /// What the option strings and the flags say together.
    fn options(&self) -> anyhow::Result<MountOptions> {
        let mut options = MountOptions::defaults(process::is_root());
        if let Some(source) = self.source.as_ref().filter(|source| !source.is_empty()) {
            options.fsname = source.to_string_lossy().into_owned();
        }
        self.stack.options.iter().try_for_each(|text| options.apply(text))?;
        options.add_flags(self.stack.lower.clone(), self.stack.upper.clone(), self.stack.work.clone())?;
        options.check()?;
        if self.how.kernel && options.fsname != options::NAME {
            // `umount` knows such a mount by its source.
            options.ignored.push(format!("fsname={}", options.fsname));
        }
        if self.how.kernel {
            let ways =
                [(options.data == fuse::Data::Passthrough, "data=passthrough"), (options.writeback, "writeback=1")];
            options.ignored.extend(ways.iter().filter(|(on, _)| *on).map(|(_, option)| (*option).to_owned()));
        }
        note_ignored(&options.ignored);
        Ok(options)
    }
}

impl Request {
    fn new(args: MountArgs, options: MountOptions, context: &Context) -> anyhow::Result<Self> {
        let MountArgs { how, image, mountpoint, .. } = args;
        // As the kernel names it, so that it is found among the mounts; what cannot be followed is told about below.
        let in_tree = fuse::handed_down(&mountpoint).is_none();
        let mountpoint = match in_tree {
            true => mountpoint.canonicalize().or_else(|_| image::absolute(&mountpoint))?,
            false if image.is_some() || how.name.is_some() || how.kernel => {
                bail!(
                    "an open /dev/fuse is served with directories only, and not with --kernel: name a directory to mount on"
                )
            }
            false => mountpoint,
        };
        let mut ground = if image.is_some() || how.name.is_some() {
            if !options.lower.is_empty() || options.upper.is_some() || options.work.is_some() {
                bail!("an image or --name comes with its own layers: leave out lowerdir=, upperdir= and workdir=");
            }
            if options.override_stat && options.privileged_stat {
                bail!(
                    "xattr_permissions=1 is for directories that fuse-overlayfs wrote; images have xattr_permissions=2"
                );
            }
            fuse::check_mountpoint(&mountpoint).map_err(advise)?;
            image::find(image.as_deref(), &how, options.read_only, &mountpoint, context)?
        } else {
            how.need_image()?;
            Ground::directories(&options)?
        };
        if let Err(error) = ground.fit(&how, &options) {
            ground.held.end(false);
            return Err(error);
        }
        let layers = overlay::Options {
            redirect: options.redirect,
            no_index: !options.index,
            override_stat: options.override_stat || ground.layers.override_stat,
            privileged_stat: options.privileged_stat,
            userxattr: options.userxattr,
            volatile: options.volatile || ground.held.is_volatile(),
            mountpoint: in_tree.then(|| mountpoint.clone()),
            ..ground.layers
        };
        let read_only = options.read_only || layers.upper.is_none();
        let description = describe(&options, &layers);
        let mount = fuse::Options { read_only, description, mask: mask()?, ..session(options, mountpoint) };
        Ok(Self { mount, layers, kernel: how.kernel, held: ground.held })
    }
}

/// Tells of options that have no effect.
fn note_ignored<S: AsRef<str>>(options: &[S]) {
    if !options.is_empty() {
        let names: Vec<&str> = options.iter().map(S::as_ref).collect();
        complain(&format!("note: options without effect: {}", names.join(", ")));
    }
}

/// Capabilities of the kernel that a test wants to do without (CONTRIBUTING.md).
///
/// Only builds with debug assertions look: who mounts for others does it with an environment that came from somewhere, and what
/// a mount relies on must not depend on that.
fn mask() -> anyhow::Result<fuse::Mask> {
    if !cfg!(debug_assertions) {
        return Ok(fuse::Mask::default());
    }
    let names = std::env::var_os(MASK).unwrap_or_default();
    names.to_string_lossy().parse().context(MASK)
}

/// What the mount tells of its options: those that stay, with the layers that were found.
fn describe(options: &MountOptions, layers: &overlay::Options) -> Vec<u8> {
    let overlay::Options { lower, data_only, upper, work, override_stat, volatile, .. } = layers.clone();
    MountOptions { lower, data_only, upper, work, override_stat, volatile, ..options.clone() }.fixed_text()
}

/// The part of the options that is about the mount.
fn session(options: MountOptions, mountpoint: PathBuf) -> fuse::Options {
    fuse::Options {
        mountpoint,
        fsname: options.fsname,
        subtype: options.subtype,
        allow_other: options.allow_other,
        default_permissions: options.default_permissions,
        // With one owner for all, everybody could make programs that run as that one.
        suid: options.suid && !options.ids.are_squashed(),
        dev: options.dev,
        exec: options.exec,
        read_only: options.read_only,
        no_atime: options.no_atime,
        strict_atime: options.strict_atime,
        no_dir_atime: options.no_dir_atime,
        no_symfollow: options.no_symfollow,
        dir_sync: options.dir_sync,
        sync: options.sync,
        writeback: options.writeback,
        data: options.data,
        ids: options.ids,
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
        MountError::Mount { path, source }
            if source.raw_os_error() == Some(libc::EPERM) && fuse::handed_down(path).is_some() =>
        {
            anyhow!(
                "nothing is mounted through the open /dev/fuse yet, which is for its owner to do; or name a directory to mount on"
            )
        }
        _ => error.into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use log::Log;
    use std::sync::mpsc::{Sender, channel};

    struct Lines(Sender<Vec<u8>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(std::io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn debugging_is_in_the_foreground() {
        for (word, both) in [("-d", true), ("--debug", true), ("-f", false)] {
            let args = BareArgs::try_parse_from(["laminafs", word, "-o", "lowerdir=/a", "/m"]).unwrap();
            let args = MountArgs::from(args);
            assert_eq!((args.stack.foreground, args.debug), (true, both), "{word}");
        }
    }

    #[test]
    fn what_is_logged_of_names_does_not_steer_a_terminal() {
        let (sender, lines) = channel();
        let log = logger("warn").target(env_logger::Target::Pipe(Box::new(Lines(sender)))).build();
        let record = log::Record::builder().level(log::Level::Error).args(format_args!("a\u{1b}[2Jb\nc")).build();
        log.log(&record);
        let line = String::from_utf8(lines.try_iter().flatten().collect()).unwrap();
        assert!(line.starts_with('[') && line.ends_with(" ERROR ] a\\u{1b}[2Jb\\nc\n"), "{line:?}");
    }
}
