//! Which mount is where.

use super::{Error, Result, Stat, reading};
use rustix::fs::{AtFlags, CWD, StatxFlags, makedev, statx};
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// `STATX_MNT_ID_UNIQUE` (Linux 6.8): a number that no other mount gets later. Older kernels give one that may be used again.
const MNT_ID_UNIQUE: u32 = 0x4000;

/// A mount, to be recognised again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MountId {
    /// Device number of its file system, in the encoding of `makedev`.
    pub dev: u64,
    number: u64,
}

/// The mount that is on top at `path`, which is not followed. Its file system is not asked, so that it need not answer.
pub fn mount_at(path: &Path) -> Result<MountId> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let wanted = StatxFlags::MNT_ID | StatxFlags::from_bits_retain(MNT_ID_UNIQUE);
    let found = reading("statx", || statx(CWD, path, flags, wanted))?;
    Ok(MountId { dev: makedev(found.stx_dev_major, found.stx_dev_minor), number: found.stx_mnt_id })
}

/// A line of the table of mounts (proc_pid_mountinfo(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// Device number of the file system, in the encoding of `makedev`.
    pub dev: u64,
    /// Where it is mounted.
    pub place: PathBuf,
    /// Type of the file system, with subtype: `fuse.laminafs`.
    pub kind: OsString,
    /// What is mounted, as the file system says.
    pub source: OsString,
    /// Options of the file system.
    pub options: Vec<OsString>,
}

/// All mounts that this thread sees. Lines that cannot be understood are left out.
pub fn mounts() -> Result<Vec<MountEntry>> {
    mounts_of("thread-self")
}

/// All that a process sees, whose number or `thread-self` is named.
fn mounts_of(process: &str) -> Result<Vec<MountEntry>> {
    let table = std::fs::read(format!("/proc/{process}/mountinfo"));
    let failed = |e: std::io::Error| super::Errno::from_io_error(&e).unwrap_or(super::Errno::IO);
    let table = table.map_err(|e| Error { call: "reading /proc/PID/mountinfo", errno: failed(e) })?;
    Ok(table.split(|b| *b == b'\n').filter_map(entry).collect())
}

/// A process that has something open on the file system of this device number, in whatever mount of it, or sees a mount of it in
/// a mount namespace other than ours, and its name. This one, `not`, and those that the user may not look into are left out.
pub fn user_of(dev: u64, not: u32) -> Option<(u32, String)> {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let mut seen = HashSet::from([namespace("thread-self")]);
    let mut sees = |pid: u32| {
        let pid = pid.to_string();
        seen.insert(namespace(&pid)) && mounts_of(&pid).is_ok_and(|mounts| mounts.iter().any(|m| m.dev == dev))
    };
    let pids = std::fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut others = pids.filter(|pid: &u32| *pid != not && *pid != std::process::id());
    let pid = others.find(|pid| {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd"));
        open.is_ok_and(|mut open| open.any(|fd| fd.is_ok_and(|fd| is_on(&fd.path(), dev)))) || sees(*pid)
    })?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some((pid, name.trim_end().to_owned()))
}

/// Whether what `path` leads to is on that file system, which is not asked.
fn is_on(path: &Path, dev: u64) -> bool {
    let flags = AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let found = reading("statx", || statx(CWD, path, flags, StatxFlags::TYPE));
    found.is_ok_and(|found| makedev(found.stx_dev_major, found.stx_dev_minor) == dev)
}

fn entry(line: &[u8]) -> Option<MountEntry> {
    let mut words = line.split(|b| *b == b' ');
    let (major, minor) = std::str::from_utf8(words.nth(2)?).ok()?.split_once(':')?;
    let place = PathBuf::from(unescape(words.nth(1)?));
    // Optional fields, then a hyphen.
    words.find(|word| *word == b"-")?;
    let (kind, source, options) = (unescape(words.next()?), unescape(words.next()?), words.next()?);
    let options = options.split(|b| *b == b',').map(unescape).collect();
    Some(MountEntry { dev: makedev(major.parse().ok()?, minor.parse().ok()?), place, kind, source, options })
}

/// Undoes `\NNN`, with which the kernel writes what would break the line.
fn unescape(text: &[u8]) -> OsString {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| *first == b'\\');
        match code.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(plain)
}

impl MountEntry {
    /// The value of `NAME=VALUE` among the options of the file system.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&OsStr> {
        let value = |option: &'_ OsString| -> Option<usize> {
            option.as_bytes().strip_prefix(name.as_bytes())?.starts_with(b"=").then_some(name.len() + 1)
        };
        self.options.iter().find_map(|option| option.as_bytes().get(value(option)?..).map(OsStr::from_bytes))
    }

    /// Whether this is a mount of kernel overlayfs that has the directory as its upper or work directory.
    ///
    /// The mount tells paths as they were given to it. One that is not from the root on is looked for from the working directory,
    /// where something else may have that name, so that the mount must be seen to be of that. One that cannot be followed from
    /// here leads nowhere: see [`MountEntry::hides_upper`].
    #[must_use]
    pub fn writes_into(&self, directory: &Stat) -> bool {
        let given = |name| self.option(name).filter(|_| self.kind == OVERLAY);
        let upper = given("upperdir");
        let meant =
            |path: &OsStr| Path::new(path).has_root() || !upper.is_some_and(|upper| self.has_other_upper(upper));
        let is_it = |found: Stat| (found.dev, found.ino) == (directory.dev, directory.ino);
        [upper, given("workdir")].into_iter().flatten().any(|path| followed(path).any(is_it) && meant(path))
    }

    /// Whether its upper directory is certainly not what the path of that leads to from here: the root of a mount has the times of its
    /// upper directory.
    fn has_other_upper(&self, path: &OsStr) -> bool {
        let shown = |found: Stat| (found.mode, found.mtime, found.ctime);
        let there = || followed(path).map(shown).collect::<Vec<_>>();
        let (before, root, after) = (there(), look(self.place.as_os_str()), there());
        // Without a change meanwhile, and with nothing mounted over it.
        let root = root.filter(|root| before == after && root.dev == self.dev);
        root.is_some_and(|root| !before.is_empty() && !before.contains(&shown(root)))
    }

    /// Whether this is a mount of kernel overlayfs whose upper directory was given by descriptor, so that nobody is told which it is.
    #[must_use]
    pub fn hides_upper(&self) -> bool {
        self.kind == OVERLAY && self.option("upperdir").is_some_and(is_descriptor)
    }
}

/// Type of the mounts of kernel overlayfs.
const OVERLAY: &str = "overlay";

/// Whether a path leads somewhere else in each process.
fn is_descriptor(path: &OsStr) -> bool {
    ["/proc/self", "/proc/thread-self", "/dev/fd"].iter().any(|place| Path::new(path).starts_with(place))
}

/// What a path, as an option of overlayfs has it, leads to: it may be with backslashes before characters that would mean something there.
fn followed(path: &OsStr) -> impl Iterator<Item = Stat> {
    let plain = path.as_bytes().contains(&b'\\').then(|| without_backslashes(path));
    let found = [look(path), plain.as_deref().and_then(look)];
    found.into_iter().flatten().filter(move |_| !is_descriptor(path))
}

fn look(path: &OsStr) -> Option<Stat> {
    let flags = AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    statx(CWD, path, flags, StatxFlags::BASIC_STATS).ok().map(Stat::from)
}

/// With each character behind a backslash as it is.
fn without_backslashes(path: &OsStr) -> OsString {
    let mut bytes = path.as_bytes().iter();
    let next = || match bytes.next() {
        Some(b'\\') => bytes.next().copied(),
        byte => byte.copied(),
    };
    OsString::from_vec(std::iter::from_fn(next).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        let line = b"36 35 0:42 / /mnt/a\\040b\xff rw,relatime shared:1 - overlay my\\134src rw,lowerdir=/l,upperdir=/s\\075\\054/u";
        let entry = entry(line).unwrap();
        assert_eq!(entry.dev, makedev(0, 42));
        assert_eq!(entry.place.as_os_str().as_bytes(), b"/mnt/a b\xff");
        assert_eq!((entry.kind.to_str(), entry.source.to_str()), (Some("overlay"), Some("my\\src")));
        assert_eq!(entry.option("upperdir"), Some(OsStr::new("/s=,/u")));
        assert_eq!((entry.option("upper"), entry.option("rw")), (None, None));
        assert_eq!(super::entry(b""), None);
        assert_eq!(unescape(b"\\1\\13\\9990\\134040"), OsStr::new("\\1\\13\\9990\\040"));
    }

    #[test]
    fn the_upper_directory_of_an_overlay_is_known_by_any_path() {
        let tmp = tempfile::tempdir().unwrap();
        let path = |name: &str| tmp.path().join(name).to_str().unwrap().to_owned();
        let directory = |name: &str| {
            std::fs::create_dir_all(path(name)).unwrap();
            let found = super::super::open_root(Path::new(&path(name))).unwrap();
            super::super::stat(super::super::At::Fd(std::os::fd::AsFd::as_fd(&found))).unwrap()
        };
        let (upper, other, odd) = (directory("u"), directory("o"), directory("a,:\\b c"));
        std::os::unix::fs::symlink("u", path("link")).unwrap();
        let mount = |kind: &str, options: String| {
            let options = options.replace('\\', "\\134").replace(' ', "\\040");
            entry(format!("36 35 0:42 / /m rw - {kind} none rw,{options}").as_bytes()).unwrap()
        };
        for known in [
            format!("upperdir={}", path("u")),
            format!("lowerdir={},upperdir={}/../link", path("o"), path("o")),
            format!("upperdir={},workdir={}", path("gone"), path("u")),
        ] {
            let mount = mount("overlay", known);
            assert!(mount.writes_into(&upper) && !mount.writes_into(&other) && !mount.hides_upper());
        }
        for odd_name in ["a\\054:\\134b\\040c", "a\\134\\054\\134:\\134\\134b\\040c"] {
            let line = format!("36 35 0:42 / /m rw - overlay none rw,upperdir={}", path(odd_name));
            assert!(entry(line.as_bytes()).unwrap().writes_into(&odd), "{odd_name}");
        }
        for unknown in ["lowerdir", "upper"].map(|name| format!("{name}={}", path("u"))) {
            assert!(!mount("overlay", unknown).writes_into(&upper));
        }
        assert!(!mount("fuse", format!("upperdir={}", path("u"))).writes_into(&upper));
        let open = std::fs::File::open(path("u")).unwrap();
        let by_descriptor =
            mount("overlay", format!("upperdir=/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open)));
        assert!(by_descriptor.hides_upper() && !by_descriptor.writes_into(&upper));
    }

    #[test]
    fn every_mount_has_its_number() {
        let proc = mount_at(Path::new("/proc")).unwrap();
        assert!(mounts().unwrap().iter().any(|m| m.place == Path::new("/proc") && m.dev == proc.dev));
        assert_eq!(mount_at(Path::new("/proc/self")).unwrap(), proc);
        assert_ne!(mount_at(Path::new("/")).unwrap(), proc);
        assert!(mount_at(Path::new("/nowhere")).unwrap_err().is(super::super::Errno::NOENT));
    }
}
