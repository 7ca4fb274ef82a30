//! `-o remount`: other switches for a mount that is there.
//!
//! mount(8) hands over a whole list, of fstab or of what is mounted, in which the word for the usual state of a switch
//! (`exec`, `suid`, `async`) is left out: a switch that is not named has its default. Who calls us directly names what is
//! to change, and all else stays. What is no switch can be in a list as it is in the mount, or it is an error.

use super::image::ImageArgs;
use super::{MountArgs, note_ignored, session};
use crate::cli::complain;
use crate::cli::options::{self, MountOptions};
use crate::fuse::{self, about};
use crate::sys;
use anyhow::{anyhow, bail};
use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What /proc/mounts has that is the kernel's.
const OF_THE_KERNEL: &[&str] = &["user_id", "group_id", "rootmode", "fd", "max_read", "blksize", "seclabel"];

/// Remounts; with `fake` only looks whether that is possible.
pub fn run(args: &MountArgs, fake: bool) -> anyhow::Result<()> {
    let stack = &args.stack;
    let layers = !stack.lower.is_empty() || stack.upper.is_some() || stack.work.is_some();
    if layers || args.image.is_some() || args.how != ImageArgs::default() {
        bail!("remounting takes options and the mount point, and nothing else");
    }
    let place = args.mountpoint.canonicalize().map_err(|e| hint(e, &args.mountpoint))?;
    let mut own = MountOptions::defaults(true);
    own.apply(OsStr::from_bytes(&told_by(&place)?))?;
    let mut asked = own.clone();
    // Only those who hand over whole lists name a source.
    if args.source.is_none() {
        asked.start_from(&fuse::switches(&place)?);
    }
    if stack.options.iter().any(|text| options::names_layers(text)) {
        // All of them: they may come one by one (`lowerdir+=`).
        (asked.lower, asked.data_only) = (Vec::new(), Vec::new());
    }
    stack.options.iter().try_for_each(|text| asked.apply(text))?;
    for path in asked.lower.iter_mut().chain(&mut asked.data_only).chain(&mut asked.upper).chain(&mut asked.work) {
        *path = std::path::absolute(&path)?;
    }
    if own.lower.is_empty() {
        // Too many to be told.
        if !asked.lower.is_empty() || !asked.data_only.is_empty() {
            complain("note: the lower layers were not compared: those of the mount are too many for it to tell");
        }
        (own.lower, own.data_only) = (asked.lower.clone(), asked.data_only.clone());
    }
    let differences = own.fixed_differences(&asked);
    if !differences.is_empty() {
        bail!("only a new mount can change {}: unmount, and mount with the new options", differences.join(", "));
    }
    let ignored: Vec<_> = asked.ignored.iter().filter(|o| !is_of_the_kernel(o)).map(String::as_str).collect();
    note_ignored(&ignored);
    if asked.upper.is_none() && !asked.read_only {
        // The kernel refuses it too. A whole list has `rw` also where nobody asked for it.
        if args.source.is_none() {
            bail!(
                "it has no upper directory, so that it cannot be written: unmount, and mount with upperdir= and workdir="
            );
        }
        complain(&format!("note: {} stays read-only: it has no upper directory", place.display()));
        asked.read_only = true;
    }
    if is_of_an_ordinary_user(&place)? {
        // The kernel leaves it to root what it allows there: the files are that user's.
        (asked.suid, asked.dev) = (false, false);
    }
    let read_only = asked.read_only;
    let options = session(asked, place);
    if fake { Ok(()) } else { fuse::remount(&options).map_err(|e| explain(e, read_only, &options.mountpoint)) }
}

/// The options that the mount at `place` tells.
fn told_by(place: &Path) -> anyhow::Result<Vec<u8>> {
    if let Some(told) = about::options(place).map_err(|e| hint(e, place))? {
        return Ok(told);
    }
    match fuse::daemon_of(place)? {
        Some(_) => bail!(
            "the mount does not tell its options (it is served by an older version, or by another program): unmount, and mount \
             with the new options"
        ),
        None => bail!("no laminafs mount is there to be remounted"),
    }
}

/// Adds what to do about a mount that not even root may look at.
fn hint(error: io::Error, place: &Path) -> anyhow::Error {
    match error.kind() {
        ErrorKind::PermissionDenied if is_fuse_mount(place) => anyhow!(
            "{error}: a mount that another user made without allow_other, or in another user namespace, is open to nobody else; \
             who has made it can unmount, and mount with the new options"
        ),
        _ => error.into(),
    }
}

/// Whether a FUSE file system is mounted there, which itself need not be open to us. Where that cannot be seen there is none.
fn is_fuse_mount(place: &Path) -> bool {
    let parent = std::path::absolute(place).and_then(|place| place.parent().unwrap_or(&place).canonicalize());
    let (Ok(parent), Some(name), Ok(mounts)) = (parent, place.file_name(), sys::mounts()) else { return false };
    let place = parent.join(name);
    mounts.iter().any(|mount| {
        let kind = mount.kind.as_bytes();
        mount.place == place && (kind == b"fuse" || kind.starts_with(b"fuse."))
    })
}

fn is_of_the_kernel(option: &str) -> bool {
    OF_THE_KERNEL.contains(&option.split('=').next().unwrap_or_default())
}

/// Whether somebody else than root has mounted what is at `place`. The kernel says so, and not the daemon, which is that user's.
fn is_of_an_ordinary_user(place: &Path) -> anyhow::Result<bool> {
    let mounts = sys::mounts()?;
    let on_top = mounts.iter().rfind(|mount| mount.place == *place);
    Ok(on_top.and_then(|mount| mount.option("user_id")).is_none_or(|user| user != "0"))
}

/// Adds what to do.
fn explain(error: io::Error, read_only: bool, place: &Path) -> anyhow::Error {
    match error.kind() {
        ErrorKind::PermissionDenied => anyhow!("only root can remount; unmount, and mount with the new options"),
        ErrorKind::ResourceBusy if read_only => {
            anyhow!("a file is open for writing (whose: fuser -vm {}); close it before ro", place.display())
        }
        _ => error.into(),
    }
}
