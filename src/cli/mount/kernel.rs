//! `--kernel`: the same layers through the overlayfs of the kernel.
//!
//! Nobody needs to serve such a mount. A process stays all the same, asleep until the file system ends: it keeps the
//! layers from being removed, and afterwards does what is to be done with the writable layer.

use super::Request;
use super::image::{Ground, OVERRIDE_STAT};
use super::serve::Stopper;
use crate::cli::options::{MountOptions, NAME};
use crate::fuse::Ids;
use crate::image::format;
use crate::overlay::{OpenError, RedirectMode, Unread, hides_from_kernel, reserve_upper, unread_by_kernel};
use crate::sys::process::is_root;
use crate::sys::{self, EndOfMount, Errno, MountAttrFlags, MountId, Parameter, Refusal};
use anyhow::{Context as _, anyhow, bail};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// Most lower layers that kernel overlayfs takes (`OVL_MAX_STACK`).
const MOST_LAYERS: usize = 500;

/// Longest value of one parameter, in bytes.
const LONGEST: usize = 255;

/// How long an upper directory is waited for whose last mount is just ending, and how often it is tried.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

/// Refuses what the kernel cannot do, before anything is made.
pub fn check(ground: &Ground, options: &MountOptions) -> anyhow::Result<()> {
    if !is_root() {
        bail!("--kernel needs root: ordinary users cannot mount overlayfs; mount without it");
    }
    let kept = options.override_stat.then_some(OVERRIDE_STAT);
    if let Some(why) = ground.not_for_kernel.or(kept) {
        bail!("kernel overlayfs cannot mount these layers: {why}; mount without --kernel");
    }
    if !options.allow_other || !options.default_permissions {
        bail!("no_allow_other and no_default_permissions are not possible with --kernel");
    }
    if options.ids != Ids::default() {
        bail!("uidmapping=, gidmapping= and squash_to_*= are not possible with --kernel; mount without it");
    }
    if let (Some(upper), Some(work)) = (&ground.layers.upper, &ground.layers.work)
        // What is not there, or no directory, is named below or when it is mounted.
        && hides_from_kernel(upper, work).or_else(|e| match e.errno {
            Errno::NOENT | Errno::NOTDIR => Ok(false),
            _ => Err(e),
        })?
    {
        bail!(
            "kernel overlayfs would show again what was deleted in {}: its whiteouts were made where the kernel's own form \
             could not be; mount without --kernel",
            upper.display()
        );
    }
    let layers = ground.layers.lower.len() + ground.layers.data_only.len();
    if layers > MOST_LAYERS {
        bail!("kernel overlayfs takes {MOST_LAYERS} layers at most, there are {layers}; mount without --kernel");
    }
    // Layers of the store have only what the kernel reads.
    let lower = if ground.held.is_of_store() { &[][..] } else { &ground.layers.lower };
    let upper = ground.layers.upper.iter().map(|upper| ("upperdir", upper));
    let lower = lower.iter().map(|lower| ("lower layer", lower));
    upper.chain(lower).try_for_each(|(role, layer)| check_layer(role, layer, options.userxattr))
}

/// Refuses a directory in which something is said, by whatever program, that the kernel does not read: what is deleted would be
/// there again.
fn check_layer(role: &'static str, layer: &Path, userxattr: bool) -> anyhow::Result<()> {
    match unread_by_kernel(layer, userxattr) {
        Ok(None) => Ok(()),
        Ok(Some(Unread::Mark(dir, mark))) => bail!(
            "kernel overlayfs would not read the mark {} of {}, and show what it hides or lose what it leads to; mount without \
             --kernel",
            mark.to_string_lossy(),
            format::path(&layer.join(dir))
        ),
        Ok(Some(Unread::Name(name))) => bail!(
            "kernel overlayfs would show {} as a file, and with it what it says is deleted: to it .wh. is the beginning of a \
             name like any other; mount without --kernel",
            format::path(&layer.join(name))
        ),
        Err((dir, e)) if e.is(Errno::NOTDIR) && dir.as_os_str().is_empty() => {
            Err(OpenError::Directory { role, path: layer.into(), source: e.into() }.into())
        }
        Err((dir, e)) => bail!(
            "looking in {} for what kernel overlayfs does not read, and would show what it hides: {e}; mount without --kernel",
            format::path(&layer.join(dir))
        ),
    }
}

/// Mounts, calls `started`, and waits for the end of the mount.
pub fn serve(request: &Request, stopper: &Stopper, started: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mountpoint = request.mount.mountpoint.clone();
    let layers = &request.layers;
    // For as long as this process lives: the kernel notices its own mounts only, and ours no mounts of the kernel.
    let _reserved =
        layers.upper.as_deref().zip(layers.work.as_deref()).map(|(u, w)| reserve_upper(u, w)).transpose()?;
    // With an upper directory making the mount can take long, and leaves nothing; without one there is a directory to be removed.
    if layers.upper.is_none() {
        stopper.mounting();
    }
    // Without an upper directory the kernel wants two lower ones. It stays as long as the mount: the kernel lists no
    // directory that was removed.
    let empty = (layers.upper.is_none() && layers.lower.len() == 1)
        .then(|| tempfile::Builder::new().prefix("laminafs-empty-").tempdir().context("making an empty directory"))
        .transpose()?;
    // The descriptor of the mount is closed at once: it would keep the mount busy.
    let empty_path = empty.as_ref().map(tempfile::TempDir::path);
    let made = make(request, empty_path)?;
    if layers.upper.is_some() {
        stopper.mounting();
    }
    sys::attach(made.as_fd(), &mountpoint)?;
    drop(made);
    let up = EndOfMount::watch(&mountpoint).map_err(anyhow::Error::from).and_then(|end| {
        request.held.mounted(&mountpoint, true)?;
        let mount = sys::mount_at(&mountpoint)?;
        started()?;
        Ok((end, mount))
    });
    let (end, mount) = up.or_else(|error| {
        sys::umount(&mountpoint, true)?;
        Err(error)
    })?;
    stopper.mounted(move |lazy| unmount(&mountpoint, mount, lazy));
    Ok(end.wait()?)
}

/// Unmounts that mount where it is on top, with `lazy` also while it is in use.
fn unmount(mountpoint: &Path, mount: MountId, lazy: bool) -> io::Result<()> {
    if sys::mount_at(mountpoint).is_ok_and(|on_top| on_top == mount) {
        sys::umount(mountpoint, lazy)?;
    }
    Ok(())
}

fn make(request: &Request, empty: Option<&Path>) -> anyhow::Result<OwnedFd> {
    let layers = &request.layers;
    let mut paths = Paths::default();
    let mut texts: Vec<(&str, OsString)> = vec![("source", NAME.into())];
    for path in &layers.lower {
        texts.push(("lowerdir+", paths.short(path)?));
    }
    if let Some(empty) = empty {
        texts.push(("lowerdir+", paths.short(empty)?));
    }
    for path in &layers.data_only {
        texts.push(("datadir+", paths.short(path)?));
    }
    let redirect = match layers.redirect {
        RedirectMode::Auto | RedirectMode::On if layers.upper.is_some() => "on",
        RedirectMode::Auto | RedirectMode::On | RedirectMode::Follow => "follow",
        RedirectMode::NoFollow => "nofollow",
        RedirectMode::Off => "off",
    };
    // With userxattr the kernel has neither, and does not want to be asked.
    if !layers.userxattr {
        texts.push(("redirect_dir", redirect.into()));
    }
    texts.push(("metacopy", if layers.data_only.is_empty() { "off" } else { "on" }.into()));
    if let (Some(upper), Some(work)) = (&layers.upper, &layers.work) {
        texts.push(("upperdir", paths.escaped(upper)?));
        texts.push(("workdir", paths.escaped(work)?));
        texts.push(("index", if layers.no_index { "off" } else { "on" }.into()));
    }
    let flags = [
        (layers.volatile && layers.upper.is_some(), "volatile"),
        (layers.userxattr, "userxattr"),
        (request.mount.sync, "sync"),
        (request.mount.dir_sync, "dirsync"),
        (request.mount.read_only, "ro"),
    ];
    let mut parameters: Vec<Parameter<'_>> = texts.iter().map(|(name, value)| Parameter::Text(name, value)).collect();
    parameters.extend(flags.iter().filter(|(on, _)| *on).map(|(_, name)| Parameter::Flag(name)));
    let deadline = Instant::now() + PATIENCE;
    loop {
        match sys::new_mount("overlay", &parameters, attributes(request)) {
            Err(refusal) if refusal.error.is(Errno::BUSY) && Instant::now() < deadline => std::thread::sleep(PAUSE),
            made => return made.map_err(|refusal| explain(refusal, layers.work.as_deref())),
        }
    }
}

fn attributes(request: &Request) -> MountAttrFlags {
    let mount = &request.mount;
    let flags = [
        (mount.read_only, MountAttrFlags::MOUNT_ATTR_RDONLY),
        (!mount.suid, MountAttrFlags::MOUNT_ATTR_NOSUID),
        (!mount.dev, MountAttrFlags::MOUNT_ATTR_NODEV),
        (!mount.exec, MountAttrFlags::MOUNT_ATTR_NOEXEC),
        (mount.no_atime, MountAttrFlags::MOUNT_ATTR_NOATIME),
        (mount.strict_atime, MountAttrFlags::MOUNT_ATTR_STRICTATIME),
        (mount.no_dir_atime, MountAttrFlags::MOUNT_ATTR_NODIRATIME),
        (mount.no_symfollow, MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW),
    ];
    flags.iter().filter(|(on, _)| *on).map(|(_, flag)| *flag).collect()
}

/// Adds what to do.
fn explain(refusal: Refusal, work: Option<&Path>) -> anyhow::Error {
    let volatile = work.map(|work| work.join("work/incompat/volatile")).filter(|mark| mark.exists());
    match (refusal.error, volatile) {
        (e, _) if e.is(Errno::NODEV) => {
            anyhow!("this kernel has no overlayfs (modprobe overlay); mount without --kernel")
        }
        (e, _) if e.is(Errno::NOSYS) || refusal.said.contains("lowerdir+") => {
            anyhow!("--kernel needs Linux 6.7 or newer; mount without it")
        }
        (e, _) if e.is(Errno::BUSY) => anyhow!(
            "the upper or work directory is in use by another mount of kernel overlayfs, maybe in another mount namespace; \
             unmount that first"
        ),
        (e, _) if e.is(Errno::PERM) => anyhow!("--kernel needs the right to mount (CAP_SYS_ADMIN); mount without it"),
        // The kernel says so in its log only.
        (e, Some(mark)) if e.is(Errno::INVAL) => anyhow!(
            "the upper directory was mounted with volatile before, and kernel overlayfs does not take it again, since a \
             crash of the machine may have ruined it; if there was none, remove the directory {} and mount again",
            mark.display()
        ),
        // Before 6.5 it takes all parameters as they come, and says nothing.
        (e, None) if e.is(Errno::INVAL) && refusal.said.is_empty() => anyhow!(
            "kernel overlayfs refuses the layers and does not say why ({refusal}); --kernel needs Linux 6.7 or newer; \
             mount without it"
        ),
        _ => anyhow!("kernel overlayfs refuses the layers: {refusal}; mount without --kernel"),
    }
}

/// Paths as parameters can hold them: those that are too long, or have characters with a meaning, by descriptor.
#[derive(Default)]
struct Paths(Vec<OwnedFd>);

impl Paths {
    /// The path of a lower layer.
    fn short(&mut self, path: &Path) -> anyhow::Result<OsString> {
        let bytes = path.as_os_str().as_bytes();
        if bytes.len() <= LONGEST && !bytes.iter().any(|b| b"\\,:".contains(b)) {
            return Ok(path.as_os_str().to_owned());
        }
        self.by_descriptor(path)
    }

    /// That of an upper or work directory, from which the kernel takes backslashes away. The table of mounts is to show it, by which
    /// others know that it is in use.
    fn escaped(&mut self, path: &Path) -> anyhow::Result<OsString> {
        let doubled = |b: &u8| std::iter::repeat_n(*b, if *b == b'\\' { 2 } else { 1 });
        let bytes: Vec<u8> = path.as_os_str().as_bytes().iter().flat_map(doubled).collect();
        if bytes.len() <= LONGEST {
            return Ok(OsString::from_vec(bytes));
        }
        self.by_descriptor(path)
    }

    fn by_descriptor(&mut self, path: &Path) -> anyhow::Result<OsString> {
        let fd = sys::open_root(path).map_err(|e| anyhow!("cannot open {}: {e}", path.display()))?;
        let text = format!("/proc/self/fd/{}", fd.as_raw_fd());
        self.0.push(fd);
        Ok(OsStr::new(&text).to_owned())
    }
}
