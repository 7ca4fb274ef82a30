//! Finishing a layer: what needs all of its entries, or the layers below.
//!
//! In this order: hard links, since they make entries; opaque directories; whiteouts, which are written only where there
//! is no entry and something below would show through; then attributes and times of directories, which all that changes.

use super::api::Limits;
use super::apply::{TO_DIRECTORY, is_placeholder};
use super::attributes::{self, DEFAULT_ACL, Type};
use super::below::Below;
use super::error::{Error, Result, shown};
use super::form::{Form, Owners};
use super::names;
use super::pending::{Pending, Task};
use super::tree::Tree;
use crate::layer::markers::read_dir_markers;
use crate::layer::whiteout;
use crate::layer::xattr::Marker;
use crate::sys::{self, Access, At, Errno, Fd, Stat, Time, xattr};
use rustc_hash::FxHashMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// Links to links to links that are resolved.
pub const MAX_CHAIN: u32 = 64;

/// Bytes copied at a time where the kernel does not do it.
const COPY: usize = 256 << 10;

/// [`super::complete`].
pub(super) fn complete(layer: Fd<'_>, below: &[Fd<'_>], form: Form, mut pending: Pending) -> Result<()> {
    let mut work = Work { layer, below: Below::new(below), form, covered: Vec::new() };
    if pending.links() > 0 {
        work.links(&mut pending)?;
    }
    pending.each(|task| match task {
        Task::Opaque(path) if path.is_empty() => work.hide_root(),
        Task::Opaque(path) | Task::Whiteout(path) => work.make_opaque(&path),
        Task::Implied(_) | Task::Directory { .. } | Task::Link { .. } => Ok(()),
    })?;
    pending.sorted(Task::whiteout, |task| work.whiteout(task.path()))?;
    let acls = pending.has_default_acls();
    pending.each(|task| match task {
        Task::Directory { path, mtime, default_acl } => {
            work.directory(&path, mtime, default_acl.as_deref(), acls).map_err(|e| Error::write(&path, e))
        }
        Task::Implied(_) | Task::Whiteout(_) | Task::Opaque(_) | Task::Link { .. } => Ok(()),
    })?;
    // After the others, which tell by its mark that a directory was made again without an entry of its own.
    pending.sorted(Task::implied, |task| work.implied(task.path()))
}

struct Work<'a> {
    layer: Fd<'a>,
    below: Below<'a>,
    form: Form,
    /// The way to the directory that was looked at last: whether each is, or is in, an opaque one of this layer.
    covered: Vec<(Vec<u8>, OwnedFd, bool)>,
}

/// How many links still wait, and the first of them.
#[derive(Default)]
struct Waiting {
    count: u64,
    first: Option<(Vec<u8>, Vec<u8>)>,
}

/// Copies already made of files below, by layer and inode number: the path of the first.
type Copies = FxHashMap<(usize, u64, u64), Box<[u8]>>;

impl Work<'_> {
    /// The directory `path` of this layer; `None` when something else has taken its place.
    fn open(&self, path: &[u8]) -> sys::Result<Option<OwnedFd>> {
        match sys::open_dir_path(self.layer, OsStr::from_bytes(path)) {
            Ok(fd) => Ok(Some(fd)),
            Err(e) if [Errno::NOENT, Errno::NOTDIR, Errno::LOOP].contains(&e.errno) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Resolves hard links until none is left; a link to another that waits is left for the next round. In the order of
    /// the archive, in which a link to a link comes after it as a rule, and then in that of a walk those to files below.
    fn links(&mut self, pending: &mut Pending) -> Result<()> {
        let limits = Limits::default();
        let mut copies = Copies::default();
        let mut before = u64::MAX;
        let mut tree = Tree::new(self.layer, &limits);
        for _ in 0..MAX_CHAIN {
            let mut waiting = Waiting::default();
            pending.each(|task| self.link_if_there(&mut tree, task, None, &mut waiting))?;
            if waiting.first.is_some() {
                waiting = Waiting::default();
                let each = |task| self.link_if_there(&mut tree, task, Some(&mut copies), &mut waiting);
                pending.sorted(Task::target, each)?;
            }
            let Some((path, target)) = waiting.first else { return Ok(()) };
            if waiting.count >= before {
                let what = format!("is a hard link to '{}', which leads back to it", shown(&target));
                return Err(Error::entry(&path, what));
            }
            before = waiting.count;
        }
        Err(Error::Limit(format!("more than {MAX_CHAIN} hard links to each other in a row").into()))
    }

    fn link_if_there(
        &mut self,
        tree: &mut Tree<'_>,
        task: Task,
        copies: Option<&mut Copies>,
        waiting: &mut Waiting,
    ) -> Result<()> {
        let Task::Link { path, target, number } = task else { return Ok(()) };
        if !self.link(tree, &path, &target, number, copies)? {
            waiting.count += 1;
            waiting.first.get_or_insert((path, target));
        }
        Ok(())
    }

    /// Puts a link in the place of its placeholder; false when its target is still one itself, or is not in the layer, and
    /// without `copies`.
    fn link(
        &mut self,
        tree: &mut Tree<'_>,
        path: &[u8],
        target: &[u8],
        number: i64,
        copies: Option<&mut Copies>,
    ) -> Result<bool> {
        let wrong = |e| Error::write(path, e);
        let Some((dir, name)) = names::split(path) else { return Ok(true) };
        let Some(dir) = self.open(dir).map_err(wrong)? else { return Ok(true) };
        let (dir, name) = (dir.as_fd(), OsStr::from_bytes(name));
        match sys::stat(At::Name(dir, name)) {
            Ok(stat) if is_placeholder(&stat) && stat.mtime.sec == number => {}
            // A later entry of this name.
            Ok(_) => return Ok(true),
            Err(e) if e.is(Errno::NOENT) => return Ok(true),
            Err(e) => return Err(wrong(e)),
        }
        if let Some(found) = tree.find(target, path)? {
            if is_placeholder(&found.stat) {
                return Ok(false);
            }
            if found.stat.is_dir() {
                return Err(Error::entry(path, TO_DIRECTORY));
            }
            sys::unlink(dir, name).map_err(wrong)?;
            sys::link(found.dir.as_fd(), OsStr::from_bytes(&found.name), dir, name).map_err(wrong)?;
            return Ok(true);
        }
        let Some(copies) = copies else { return Ok(false) };
        let Some(visible) = self.below.lookup(target).map_err(wrong)? else {
            let what = format!("is a hard link to '{}', which is neither in this layer nor below it", shown(target));
            return Err(Error::entry(path, what));
        };
        if visible.stat.is_dir() {
            return Err(Error::entry(path, TO_DIRECTORY));
        }
        sys::unlink(dir, name).map_err(wrong)?;
        let key = (visible.dir.layer, visible.stat.dev, visible.stat.ino);
        if let Some(first) = copies.get(&key) {
            return link_path(self.layer, first, dir, name).map(|()| true).map_err(wrong);
        }
        let (_, source) = names::split(target).unwrap_or_default();
        copy_object(visible.dir.fd.as_fd(), OsStr::from_bytes(source), &visible.stat, dir, name).map_err(wrong)?;
        copies.insert(key, path.into());
        Ok(true)
    }

    fn make_opaque(&self, path: &[u8]) -> Result<()> {
        let wrong = |e| Error::write(path, e);
        let Some(dir) = self.open(path).map_err(wrong)? else { return Ok(()) };
        xattr::set(At::Fd(dir.as_fd()), self.form.namespace.name(Marker::Opaque), b"y", 0).map_err(wrong)
    }

    /// Kernel overlayfs does not look whether the root of a layer is opaque, so everything below is hidden by name.
    fn hide_root(&mut self) -> Result<()> {
        let mut found = Vec::new();
        for dir in self.below.dirs(b"")? {
            sys::read_dir(dir.fd.as_fd(), &mut |entry| found.push(entry.name.to_vec()))?;
        }
        found.sort_unstable();
        found.dedup();
        for name in found {
            self.make_opaque(&name)?;
            self.whiteout(&name)?;
        }
        Ok(())
    }

    fn whiteout(&mut self, path: &[u8]) -> Result<()> {
        let wrong = |e| Error::write(path, e);
        let Some((parent, name)) = names::split(path) else { return Ok(()) };
        let Some(dir) = self.open(parent).map_err(wrong)? else { return Ok(()) };
        let (dir, name) = (dir.as_fd(), OsStr::from_bytes(name));
        match sys::stat(At::Name(dir, name)) {
            Ok(_) => return Ok(()),
            Err(e) if e.is(Errno::NOENT) => {}
            Err(e) => return Err(wrong(e)),
        }
        if self.is_covered(parent).map_err(wrong)? || self.below.lookup(path).map_err(wrong)?.is_none() {
            return Ok(());
        }
        if self.form.device_whiteouts {
            return whiteout::create(dir, name, whiteout::Form::Device).map_err(wrong);
        }
        let namespace = self.form.namespace;
        whiteout::create(dir, name, whiteout::Form::Attribute(namespace)).map_err(wrong)?;
        xattr::set(At::Fd(dir), namespace.name(Marker::Opaque), b"x", 0).map_err(wrong)
    }

    /// Whether nothing below shows through in the directory `path`, because it or one above it is opaque.
    fn is_covered(&mut self, path: &[u8]) -> sys::Result<bool> {
        let way = self.covered.iter().zip(names::parts(path));
        let same = way.take_while(|((name, ..), part)| name == part).count();
        self.covered.truncate(same);
        for part in names::parts(path).skip(same) {
            let (above, covered) =
                self.covered.last().map_or((self.layer, false), |(_, fd, covered)| (fd.as_fd(), *covered));
            let fd = sys::open_dir(above, OsStr::from_bytes(part))?;
            let covered = covered || read_dir_markers(fd.as_fd())?.opaque;
            self.covered.push((part.to_vec(), fd, covered));
        }
        Ok(self.covered.last().is_some_and(|(.., covered)| *covered))
    }

    /// Gives a directory that no entry describes the attributes of the one below.
    fn implied(&mut self, path: &[u8]) -> Result<()> {
        let wrong = |e| Error::write(path, e);
        let Some(dir) = self.open(path).map_err(wrong)? else { return Ok(()) };
        let at = At::Fd(dir.as_fd());
        if xattr::get(at, self.form.implied()).map_err(wrong)?.is_none() {
            return Ok(());
        }
        xattr::remove(at, self.form.implied()).map_err(wrong)?;
        if let Some(lower) = self.below.dirs(path).map_err(wrong)?.first() {
            let from = At::Fd(lower.fd.as_fd());
            return sys::stat(from).and_then(|stat| attributes::copy(from, at, &stat)).map_err(wrong);
        }
        let set = match self.form.owners {
            Owners::Native => sys::chown(at, Some(0), Some(0)).and_then(|()| sys::chmod(at, 0o755)),
            Owners::OverrideStat => attributes::override_stat(at, Type::Directory, 0, 0, 0o755),
        };
        set.and_then(|()| attributes::set_time(at, Time::default())).map_err(wrong)
    }

    fn directory(&self, path: &[u8], mtime: Time, default_acl: Option<&[u8]>, acls: bool) -> sys::Result<()> {
        let Some(dir) = self.open(path)? else { return Ok(()) };
        let at = At::Fd(dir.as_fd());
        if xattr::get(at, self.form.implied())?.is_some() {
            // Removed and made again without an entry of its own.
            return Ok(());
        }
        match default_acl {
            Some(acl) => match xattr::set(at, DEFAULT_ACL, acl, 0) {
                Err(e) if e.is(Errno::OPNOTSUPP) => log::warn!("{} has no access control lists", shown(path)),
                other => other?,
            },
            // From an earlier entry of this name.
            None if acls => match xattr::remove(at, DEFAULT_ACL) {
                Err(e) if !e.is(Errno::NODATA) && !e.is(Errno::OPNOTSUPP) => return Err(e),
                _ => {}
            },
            None => {}
        }
        attributes::set_time(at, mtime)
    }
}

fn link_path(layer: Fd<'_>, path: &[u8], dir: Fd<'_>, name: &OsStr) -> sys::Result<()> {
    let (parent, old) = names::split(path).unwrap_or_default();
    let from = sys::open_dir_path(layer, OsStr::from_bytes(parent))?;
    sys::link(from.as_fd(), OsStr::from_bytes(old), dir, name)
}

/// Copies an object that is no directory, with all its attributes.
fn copy_object(from: Fd<'_>, old: &OsStr, stat: &Stat, dir: Fd<'_>, name: &OsStr) -> sys::Result<()> {
    match stat.file_type() {
        libc::S_IFREG => {
            let source = sys::open_file(from, old, Access::Read)?;
            let copy = sys::create_file(dir, name, 0o600)?;
            copy_data(source.as_fd(), copy.as_fd(), stat.size)?;
        }
        libc::S_IFLNK => sys::symlink(OsStr::from_bytes(&sys::readlink(from, old)?), dir, name)?,
        kind => sys::mknod(dir, name, kind | 0o600, stat.rdev_major, stat.rdev_minor)?,
    }
    attributes::copy(At::Name(from, old), At::Name(dir, name), stat)
}

fn copy_data(from: Fd<'_>, to: Fd<'_>, size: u64) -> sys::Result<()> {
    if size == 0 || sys::clone_file(from, to).is_ok() {
        return Ok(());
    }
    let mut at = 0;
    while let Some(start) = sys::seek_data(from, at)? {
        let end = sys::seek_hole(from, start)?;
        copy_piece(from, to, start, end)?;
        at = end;
    }
    sys::truncate(to, size)
}

fn copy_piece(from: Fd<'_>, to: Fd<'_>, mut at: u64, end: u64) -> sys::Result<()> {
    let mut buffer = Vec::new();
    while at < end {
        let len = usize::try_from(end - at).unwrap_or(usize::MAX).min(1 << 30);
        if buffer.is_empty() {
            match sys::copy_range(from, at, to, at, len) {
                Ok(0) => return Ok(()),
                Ok(n) => {
                    at += n as u64;
                    continue;
                }
                Err(e) if [Errno::XDEV, Errno::INVAL, Errno::OPNOTSUPP, Errno::NOSYS].contains(&e.errno) => {}
                Err(e) => return Err(e),
            }
            buffer = vec![0; COPY];
        }
        let len = len.min(COPY);
        let read = sys::pread(from, &mut buffer[..len], at)?;
        if read == 0 {
            return Ok(());
        }
        let mut done = 0;
        while done < read {
            done += sys::pwrite(to, &buffer[done..read], at + done as u64)?;
        }
        at += read as u64;
    }
    Ok(())
}
