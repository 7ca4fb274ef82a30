//! The work directory: temporary names that a crash may leave, the shared whiteout, the hard link index.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::error::Result;
use crate::layer::whiteout::{self, Form, beside};
use crate::sys::{self, At, Errno, RenameFlags};

const SHARED_WHITEOUT: &str = "#whiteout";

/// How many names that could not be removed are tried again with the next one: enough for them to become fewer, and of a disk on
/// which nothing can be removed no more is asked for the thousandth name than for the third.
const RETRIES: usize = 2;

/// `<workdir>/beside`: an empty file from when upper may hold whiteouts `.wh.NAME`, which the kernel does not read.
pub const BESIDE: &str = "beside";

/// How names are hidden in this upper directory, as a probe at mount found it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whiteouts {
    /// What is made.
    pub form: Form,
    /// A rename can leave one, in the same step (`RENAME_WHITEOUT`).
    pub by_rename: bool,
}

/// `<workdir>/work` and `<workdir>/index` on the file system of upper.
pub struct Work {
    /// `<workdir>/work`; emptied at mount, so whatever a crash leaves in it is gone then.
    pub dir: OwnedFd,
    /// `<workdir>/index`; `None` with `index=off`.
    pub index: Option<OwnedFd>,
    /// See [`Whiteouts`].
    pub whiteouts: Whiteouts,
    /// The root of upper says by now whether there are whiteouts by attribute.
    pub root_marked: OnceLock<()>,
    next: AtomicU64,
    /// See [`super::Overlay::work_adds_nothing`]; found out when it is asked for.
    pub adds_nothing: OnceLock<bool>,
    /// The work directory itself: holds the lock.
    lock: OwnedFd,
    /// [`BESIDE`] is there.
    noted: OnceLock<()>,
    /// Held while the shared whiteout is made or replaced.
    sharing: Mutex<()>,
    /// Temporary names that could not be removed yet, those first whose turn it is.
    left: Mutex<VecDeque<OsString>>,
}

impl Work {
    /// Takes over the two directories and the locked one that they are in.
    pub fn new(dir: OwnedFd, index: Option<OwnedFd>, lock: OwnedFd) -> Self {
        Self {
            dir,
            index,
            whiteouts: Whiteouts { form: Form::Device, by_rename: true },
            root_marked: OnceLock::new(),
            next: AtomicU64::new(1),
            adds_nothing: OnceLock::new(),
            lock,
            noted: OnceLock::new(),
            sharing: Mutex::new(()),
            left: Mutex::default(),
        }
    }

    /// The directory for temporary names.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// A name that nothing in the directory has.
    pub fn temporary(&self) -> OsString {
        format!("#{:x}", self.next.fetch_add(1, Ordering::Relaxed)).into()
    }

    /// Puts a whiteout at a free name, as a link to the one whiteout that all share (as kernel overlayfs does).
    ///
    /// One system call in the usual case; it is the one that commits.
    pub fn place_whiteout(&self, dir: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
        let shared = OsStr::new(SHARED_WHITEOUT);
        match sys::link(self.fd(), shared, dir, name) {
            Ok(()) => return Ok(()),
            Err(e) if e.is(Errno::NOENT) || e.is(Errno::MLINK) => {}
            // A file system without hard links.
            Err(e) if e.is(Errno::PERM) || e.is(Errno::OPNOTSUPP) => return self.make_whiteout(dir, name),
            Err(e) => return Err(e.into()),
        }
        let _making = self.sharing.lock();
        match sys::link(self.fd(), shared, dir, name) {
            Ok(()) => return Ok(()),
            Err(e) if e.is(Errno::MLINK) => sys::unlink(self.fd(), shared)?,
            Err(e) if e.is(Errno::NOENT) => {}
            Err(e) => return Err(e.into()),
        }
        self.make_whiteout(self.fd(), shared)?;
        Ok(sys::link(self.fd(), shared, dir, name)?)
    }

    /// Makes one that is no link; what takes more than one call is made aside.
    fn make_whiteout(&self, dir: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
        if self.whiteouts.form == Form::Device {
            return Ok(whiteout::create(dir, name, Form::Device)?);
        }
        let temporary = self.temporary();
        let made = whiteout::create(self.fd(), &temporary, self.whiteouts.form)
            .and_then(|()| sys::rename(self.fd(), &temporary, dir, name, RenameFlags::NOREPLACE));
        Ok(made.inspect_err(|_| self.discard(&temporary))?)
    }

    /// Forgets the shared whiteout, to be made in another form.
    pub fn drop_shared_whiteout(&self) -> sys::Result<()> {
        remove_tree(self.fd(), OsStr::new(SHARED_WHITEOUT))
    }

    /// Puts a whiteout beside a name (`.wh.NAME`), whatever is under the name itself.
    pub fn place_beside(&self, dir: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
        if self.noted.get().is_none() {
            match sys::mknod(self.lock.as_fd(), OsStr::new(BESIDE), libc::S_IFREG | 0o600, 0, 0) {
                Err(e) if e.is(Errno::EXIST) => {}
                made => made?,
            }
            self.noted.get_or_init(|| ());
        }
        match self.place_whiteout(dir, &beside(name)) {
            Err(e) if e.is(Errno::EXIST) => Ok(()),
            placed => placed,
        }
    }

    /// A whiteout under a temporary name, to be moved over something.
    pub fn temporary_whiteout(&self) -> Result<OsString> {
        let name = self.temporary();
        self.place_whiteout(self.fd(), &name)?;
        Ok(name)
    }

    /// Removes a temporary name and what is under it. Best effort: what stays is tried again with the next ones and at the end,
    /// and swept at the next mount.
    pub fn discard(&self, name: &OsStr) {
        self.discard_left(RETRIES);
        if let Err(e) = remove_tree(self.fd(), name) {
            log::warn!("temporary {} stays in the work directory for now: {e}", name.display());
            self.left.lock().push_back(name.to_owned());
        }
    }

    /// Tries up to `count` names again.
    fn discard_left(&self, count: usize) {
        for _ in 0..count {
            // Not held while the disk is waited for.
            let Some(name) = self.left.lock().pop_front() else { return };
            if remove_tree(self.fd(), &name).is_err() {
                self.left.lock().push_back(name);
            }
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let left = self.left.lock().len();
        self.discard_left(left);
    }
}

/// Removes `name` and everything below it. A name that is not there is no error.
pub fn remove_tree(dir: BorrowedFd<'_>, name: &OsStr) -> sys::Result<()> {
    match sys::unlink(dir, name) {
        Ok(()) => return Ok(()),
        Err(e) if e.is(Errno::NOENT) => return Ok(()),
        Err(e) if e.is(Errno::ISDIR) || e.is(Errno::PERM) => {}
        Err(e) => return Err(e),
    }
    if sys::rmdir(dir, name).is_ok() {
        return Ok(());
    }
    let clear = || sys::open_dir(dir, name).and_then(|fd| clear_dir(fd.as_fd()));
    match clear() {
        // An ordinary user made it without permission to change it.
        Err(e) if e.is(Errno::ACCESS) => {
            sys::chmod(At::Name(dir, name), 0o700)?;
            clear()?;
        }
        cleared => cleared?,
    }
    sys::rmdir(dir, name)
}

/// A mark of a mount whose upper directory only those may use who know the mark, as kernel overlayfs with `volatile` leaves it
/// (filesystems/overlayfs.rst, "Volatile mount"; `ovl_workdir_cleanup`, which refuses to sweep `incompat/`).
pub fn incompatible(work: BorrowedFd<'_>) -> sys::Result<Option<OsString>> {
    let mut mark = None;
    match sys::open_dir(work, OsStr::new("incompat")) {
        Ok(marks) => {
            sys::read_dir(marks.as_fd(), &mut |e| mark = Some(OsStr::from_bytes(e.name).to_os_string()))?;
            Ok(mark)
        }
        Err(e) if e.is(Errno::NOENT) || e.is(Errno::NOTDIR) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Removes everything in a directory.
pub fn clear_dir(dir: BorrowedFd<'_>) -> sys::Result<()> {
    let mut names: Vec<OsString> = Vec::new();
    sys::read_dir(dir, &mut |e| names.push(OsStr::from_bytes(e.name).to_os_string()))?;
    names.iter().try_for_each(|n| remove_tree(dir, n))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sys::seam::{Plan, deny, plan, take};

    #[test]
    fn what_cannot_be_removed_is_tried_again_in_turn() {
        let tmp = tempfile::tempdir().unwrap();
        let open = || sys::open_root(tmp.path()).unwrap();
        let work = Work::new(open(), None, open());
        let there = || std::fs::read_dir(tmp.path()).unwrap().count();
        let discard = || {
            let name = work.temporary();
            sys::mkdir(work.fd(), &name, 0o700).unwrap();
            plan(Plan::Count);
            work.discard(&name);
            take().calls.iter().filter(|call| **call == "unlinkat").count()
        };
        let one = discard();
        assert_eq!(there(), 0);
        let failing = deny(&[("unlinkat", Errno::IO)]);
        let tried: Vec<usize> = (0..20).map(|_| discard()).collect();
        assert_eq!((tried[0], there()), (1, 20));
        assert_eq!(tried[RETRIES..], [1 + RETRIES; 18], "the same for each");
        drop(failing);
        assert_eq!(discard(), one * (1 + RETRIES));
        assert_eq!(there(), 20 - RETRIES);
        drop(work);
        assert_eq!(there(), 0);
    }
}
