//! `mount.laminafs`: the form in which mount(8) calls the helper of a file system type, "External helpers" there.

use super::{MountArgs, Stack, remount};
use crate::cli::Failure;
use crate::cli::context::Context;
use crate::cli::mount::image::ImageArgs;
use anyhow::anyhow;
use clap::Parser;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Arguments of `mount.laminafs`.
#[derive(Debug, Parser)]
#[command(name = "mount.laminafs", version, override_usage = "mount.laminafs SOURCE MOUNTPOINT [-fnsv] [-o OPTIONS]")]
pub struct HelperArgs {
    /// Shown as the source in /proc/mounts
    source: OsString,
    /// Where the merged tree appears
    mountpoint: PathBuf,
    /// Options, as those of `laminafs mount`
    #[arg(short = 'o', value_name = "OPTIONS")]
    options: Vec<OsString>,
    /// Only look whether the options are understood
    #[arg(short = 'f')]
    fake: bool,
    /// Without effect: there is no /etc/mtab to write
    #[arg(short = 'n')]
    no_mtab: bool,
    /// Without effect: options that are not known are always tolerated
    #[arg(short = 's')]
    sloppy: bool,
    /// Without effect
    #[arg(short = 'v')]
    verbose: bool,
    /// The type as it was asked for; without effect
    #[arg(short = 't', value_name = "TYPE")]
    kind: Option<OsString>,
    /// Another mount namespace; not possible
    #[arg(short = 'N', value_name = "NAMESPACE")]
    namespace: Option<PathBuf>,
}

/// Whether the program was called under the name of the helper.
pub fn is_called(program: &OsStr) -> bool {
    Path::new(program).file_name().is_some_and(|name| name == "mount.laminafs")
}

/// Mounts as mount(8) asks.
pub fn run(args: HelperArgs, context: &Context) -> Result<(), Failure> {
    if args.namespace.is_some() {
        Err(anyhow!("-N: the daemon has to be started inside of the namespace: nsenter --mount=NAMESPACE mount ..."))?;
    }
    let stack = Stack { options: args.options, lower: Vec::new(), upper: None, work: None, foreground: false };
    let mount = MountArgs {
        stack,
        how: ImageArgs::default(),
        image: None,
        mountpoint: args.mountpoint,
        source: Some(args.source),
        debug: false,
    };
    match (args.fake, mount.is_remount()) {
        (true, true) => Ok(remount::run(&mount, true)?),
        (true, false) => Ok(mount.options().map(drop)?),
        (false, _) => super::run(mount, context),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_name_decides() {
        assert!(is_called(OsStr::new("/sbin/mount.laminafs")));
        assert!(is_called(OsStr::new("mount.laminafs")));
        assert!(!is_called(OsStr::new("/usr/bin/laminafs")));
        assert!(!is_called(OsStr::new("")));
    }

    #[test]
    fn what_mount_passes_is_understood() {
        let line = "mount.laminafs name /mnt -sfnv -o rw,lowerdir=/a -t fuse.laminafs";
        let args = HelperArgs::try_parse_from(line.split(' ')).unwrap();
        assert!(args.fake && args.sloppy && args.no_mtab && args.verbose);
        assert_eq!((args.source.to_str(), args.options.len()), (Some("name"), 1));
    }
}
