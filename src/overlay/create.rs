//! Making new objects.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::acl::DEFAULT;
use super::dir::{InUpper, Namespace};
use super::error::{Error, Result};
use super::fdcache::Key;
use super::find::Found;
use super::inode::{Ino, Inode, NoSetId, UPPER};
use super::lookup::check_name;
use super::merge::{ShownAs, empty_file};
use super::names::Changing;
use super::override_stat::make_on_disk;
use super::owner::as_owner;
use super::privilege::SET_ID;
use super::{Attr, Caller, Overlay, Upper};
use crate::layer::markers::read_dir_markers;
use crate::layer::whiteout;
use crate::layer::xattr::Marker;
use crate::sys::{self, At, Errno, RenameFlags, Stat, xattr};

/// What to make.
#[derive(Clone, Copy, Debug)]
pub enum New<'a> {
    /// An empty regular file.
    File,
    /// An empty directory.
    Directory,
    /// A symbolic link with this target.
    Symlink(&'a OsStr),
    /// A socket, pipe or device: type bits, major and minor number.
    Node(u32, u32, u32),
}

impl New<'_> {
    fn kind(self) -> u32 {
        match self {
            Self::File => libc::S_IFREG,
            Self::Directory => libc::S_IFDIR,
            Self::Symlink(_) => libc::S_IFLNK,
            Self::Node(kind, ..) => kind,
        }
    }

    /// Major and minor number.
    fn device(self) -> (u32, u32) {
        if let Self::Node(_, major, minor) = self { (major, minor) } else { (0, 0) }
    }

    /// The character device 0:0: what an overlay inside the mount makes as its whiteout. In upper it would be ours, so
    /// an empty file with a marker stands for it.
    fn is_nested_whiteout(self) -> bool {
        matches!(self, Self::Node(libc::S_IFCHR, 0, 0))
    }
}

impl Overlay {
    /// Makes `name` in `parent` and counts a lookup of it. `mode` are the permissions asked for; `umask` is taken off
    /// unless the directory has a default ACL (acl(5)). The object belongs to the caller, or to the group of a
    /// set-group-id directory.
    ///
    /// # Errors
    /// [`Error::Exists`] if the merged view shows the name; [`Error::Reserved`] for names that begin with `.wh.`.
    pub fn create(
        &self,
        parent: Ino,
        name: &OsStr,
        new: New<'_>,
        mode: u32,
        umask: u32,
        caller: Caller,
    ) -> Result<Attr> {
        let upper = self.writable()?;
        check_name(name)?;
        if whiteout::reserved(name.as_encoded_bytes()) {
            return Err(Error::Reserved);
        }
        let parent = self.directory(parent)?;
        let mut names = self.changing(&parent)?;
        let slot = names.ns.slot(name);
        if slot.visible() {
            return Err(Error::Exists);
        }
        let mode = if names.ns.default_acl { mode } else { mode & !umask } & 0o7777;
        let nested = new.is_nested_whiteout() && !self.override_stat;
        let as_made = !self.override_stat || matches!(new, New::Symlink(_));
        let own = caller.uid == self.euid && caller.gid == self.egid && !nested && as_made;
        if nested {
            self.mark_nested(names.fd())?;
        }
        let (mut stray, mut made) = (false, None);
        if own && slot.upper != InUpper::Whiteout {
            match make(names.fd(), name, new, mode) {
                Ok(file) => made = file,
                Err(e) if e.is(Errno::EXIST) && is_stray_whiteout(&names, name)? => stray = true,
                Err(e) => return Err(e.into()),
            }
        }
        if !own || slot.upper == InUpper::Whiteout || stray {
            let over = slot.upper == InUpper::Whiteout || stray;
            made = match self.make_aside(upper, &names, name, new, mode, caller, over) {
                Err(e) if !over && e.is(Errno::EXIST) && is_stray_whiteout(&names, name)? => {
                    self.make_aside(upper, &names, name, new, mode, caller, true)?
                }
                other => other?,
            };
        }
        let stat = self.stat(made.as_ref().map_or(At::Name(names.fd(), name), |file| At::Fd(file.as_fd())));
        // It is there, also if it cannot be looked at now.
        let number = stat.as_ref().map_or(0, |stat| stat.ino);
        self.note_upper(&mut names, &parent, name, InUpper::Present, new.kind(), number);
        let mut stat = stat?;
        stat.mode = new.kind() | stat.mode & !libc::S_IFMT;
        let ns = stat.is_dir().then(|| Namespace { upper: true, default_acl: names.ns.default_acl, ..<_>::default() });
        let found = Found { ns, ..Found::new(self.id(&stat), UPPER, stat) };
        let inode = self.bind(&parent, name.into(), found);
        // Whoever makes a file is about to write it.
        if let Some(file) = made {
            self.fds.insert(Key::UpperData(inode.ino), file);
        }
        if stat.mode & SET_ID == 0 {
            inode.state.lock().no_set_id.learn(NoSetId::default());
        }
        self.note_time(&inode, &stat);
        Ok(self.attr_of(&inode, &stat))
    }

    /// Marks a directory of upper as holding files that stand for the device 0:0.
    pub(super) fn mark_nested(&self, dir: sys::Fd<'_>) -> Result<()> {
        self.mark(At::Fd(dir), Marker::Nested, b"y")
    }

    /// The same if the object, wherever it is, is such a file. To be called without a directory's lock.
    pub(super) fn mark_nested_for(&self, inode: &Arc<Inode>, dir: sys::Fd<'_>) -> Result<()> {
        let nested = inode.kind == libc::S_IFCHR && self.at(inode, |at| Ok(self.stat(at)?.is_file()))?;
        if nested { self.mark_nested(dir) } else { Ok(()) }
    }

    /// Makes the device 0:0 in the work directory, to be moved into the directory, and returns its name there.
    pub(super) fn make_nested_whiteout(&self, dir: &Arc<Inode>, caller: Caller) -> Result<OsString> {
        let work = &self.writable()?.work;
        self.copy_up_dir(dir)?;
        let fd = self.upper_dir(dir)?;
        if !self.override_stat {
            self.mark_nested(fd.as_fd())?;
        }
        let above = self.stat(At::Fd(fd.as_fd()))?;
        let gid = if above.mode & libc::S_ISGID != 0 { above.gid } else { caller.gid };
        let name = work.temporary();
        let at = At::Name(work.fd(), &name);
        let made = (|| {
            if self.override_stat {
                let shown = Stat { uid: caller.uid, gid, mode: libc::S_IFCHR, ..Stat::default() };
                let disk = make_on_disk(work.fd(), &name, &shown)?;
                return self.give(at, &disk, &shown);
            }
            drop(make(work.fd(), &name, New::File, 0o600)?);
            xattr::set(at, self.markers.name(Marker::Nested), b"y", 0)?;
            sys::chown(at, Some(caller.uid), Some(gid))?;
            Ok(sys::chmod(at, 0)?)
        })();
        made.inspect_err(|_| work.discard(&name))?;
        Ok(name)
    }

    /// Makes the object `temporary` in the work directory with the owner and mode of `shown`, less what the default ACL of
    /// the directory `names` does not grant.
    fn make_owned(
        &self,
        temporary: &OsStr,
        new: New<'_>,
        mut shown: Stat,
        opaque: bool,
        names: &Changing<'_>,
    ) -> Result<Option<OwnedFd>> {
        let adds_nothing = self.work_adds_nothing()?;
        let work = self.writable()?.work.fd();
        let at = At::Name(work, temporary);
        let (is_dir, is_symlink) = (shown.is_dir(), shown.is_symlink());
        let mode_made = shown.mode & 0o7777 | if is_dir { 0o700 } else { 0 };
        let (mut disk, mut made, mut as_made) = (shown, None, false);
        if self.override_stat && !is_symlink {
            disk = make_on_disk(work, temporary, &shown)?;
        } else if new.is_nested_whiteout() {
            drop(make(work, temporary, New::File, 0o600)?);
            xattr::set(at, self.markers.name(Marker::Nested), b"y", 0)?;
        } else {
            made = make(work, temporary, new, mode_made)?;
            as_made = adds_nothing;
        }
        if opaque {
            self.mark_opaque(at, false)?;
        }
        let ours = shown.uid == self.euid && shown.gid == self.egid;
        let owned = as_made && ours;
        if !self.override_stat && !owned {
            sys::chown(at, Some(shown.uid), Some(shown.gid))?;
        }
        if names.ns.default_acl && !is_symlink {
            let mode = self.inherit_acl(At::Fd(names.fd()), at, shown.mode & 0o7777, is_dir)?;
            shown.mode = shown.file_type() | mode;
        }
        // Bits above the permissions are not always taken when something is made, and go with chown(2).
        let has_mode = as_made && mode_made == shown.mode & 0o777;
        match is_symlink {
            _ if self.override_stat => self.give(at, &disk, &shown)?,
            false if !has_mode => sys::chmod(at, shown.mode & 0o7777)?,
            _ => {}
        }
        Ok(made)
    }

    /// Whether what is made in the work directory has our group, also where the file system gives it that of the directory
    /// (`grpid`), and the mode that it is made with: no set-group-id and no default ACL there.
    fn work_adds_nothing(&self) -> Result<bool> {
        let work = &self.writable()?.work;
        if let Some(&known) = work.adds_nothing.get() {
            return Ok(known);
        }
        let at = At::Fd(work.fd());
        let stat = sys::stat(at)?;
        let same_group = stat.gid == self.egid && stat.mode & libc::S_ISGID == 0;
        let plain = same_group && xattr::get(at, DEFAULT)?.is_none();
        Ok(*work.adds_nothing.get_or_init(|| plain))
    }

    /// Makes the object in the work directory, complete, and moves it to its place in one step.
    #[expect(clippy::too_many_arguments, reason = "what a new object consists of")]
    fn make_aside(
        &self,
        upper: &Upper,
        names: &Changing<'_>,
        name: &OsStr,
        new: New<'_>,
        mode: u32,
        caller: Caller,
        over_whiteout: bool,
    ) -> Result<Option<OwnedFd>> {
        let work = upper.work.fd();
        let temporary = upper.work.temporary();
        let above = self.stat(At::Fd(names.fd()))?;
        let inherits_group = above.mode & libc::S_ISGID != 0;
        let gid = if inherits_group { above.gid } else { caller.gid };
        let is_dir = matches!(new, New::Directory);
        let mode = if inherits_group && is_dir { mode | libc::S_ISGID } else { mode };
        let placed = (|| {
            let (rdev_major, rdev_minor) = new.device();
            let shown =
                Stat { uid: caller.uid, gid, mode: new.kind() | mode, rdev_major, rdev_minor, ..Stat::default() };
            let made = self.make_owned(&temporary, new, shown, is_dir && over_whiteout, names)?;
            let flags = match (over_whiteout, is_dir) {
                (true, true) => RenameFlags::EXCHANGE,
                (true, false) => RenameFlags::empty(),
                (false, _) => RenameFlags::NOREPLACE,
            };
            let place = || Ok(sys::rename(work, &temporary, names.fd(), name, flags)?);
            match place() {
                // Moving a directory to another parent needs write permission on itself too.
                Err(Error::Sys(e)) if e.is(Errno::ACCESS) && is_dir => {
                    let object = sys::open_path(work, &temporary)?;
                    as_owner(At::Fd(object.as_fd()), place)?;
                }
                placed => placed?,
            }
            Ok(made)
        })();
        let done = placed.is_ok();
        // After an exchange the whiteout is what remains here.
        if !done || (over_whiteout && is_dir) {
            upper.work.discard(&temporary);
        }
        placed
    }
}

/// Makes it, and opens it if it is a file.
fn make(dir: sys::Fd<'_>, name: &OsStr, new: New<'_>, mode: u32) -> sys::Result<Option<OwnedFd>> {
    match new {
        New::File => return sys::create_file(dir, name, mode).map(Some),
        New::Directory => sys::mkdir(dir, name, mode)?,
        New::Symlink(target) => sys::symlink(target, dir, name)?,
        New::Node(_, major, minor) => sys::mknod(dir, name, new.kind() | mode, major, minor)?,
    }
    Ok(None)
}

/// A whiteout with nothing below it, left by another program: in the way, but not visible.
pub(super) fn is_stray_whiteout(names: &Changing<'_>, name: &OsStr) -> Result<bool> {
    let at = At::Name(names.fd(), name);
    let stat: Stat = sys::stat(at)?;
    let empty = stat.is_file() && stat.size == 0;
    Ok(stat.is_whiteout_dev()
        || (empty && empty_file(at, (&read_dir_markers(names.fd())?).into())? == ShownAs::Nothing))
}
