//! Layers on disk, and what is mounted over them: one side by the kernel, one by laminafs.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::calls::{self, Result, c};
use super::case::Case;
use super::ops::{Op, Step};
use super::side::{Side, Times};
use super::tree::Tree;
use crate::call;

/// Who serves a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    Kernel,
    Laminafs,
}

/// Makes the lower layers of a case below a directory; returns their paths, topmost first.
pub fn build_layers(case: &Case, at: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for (number, steps) in case.layers.iter().enumerate() {
        let path = at.join(format!("lower{number}"));
        fresh_directory(&path);
        let mut bare = Side::new(&path, Times::default()).expect("a new layer opens");
        let (times, others): (Vec<_>, Vec<_>) = steps.iter().partition(|step| matches!(step.op, Op::Utimens { .. }));
        // What fails is left out: see `case`.
        others.iter().for_each(|step| drop(bare.run(step)));
        stamp(&path);
        times.iter().for_each(|step: &&Step| drop(bare.run(step)));
        paths.push(path);
    }
    paths
}

/// A directory that everybody can use, with a time long past.
pub fn fresh_directory(path: &Path) {
    std::fs::create_dir_all(path).expect("a directory is made");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).expect("its mode is set");
    stamp_one(&CString::new(path.as_os_str().as_bytes()).expect("no zero byte"), 0);
}

/// Sets all times to ones that follow from the names.
fn stamp(path: &Path) {
    let tree = Tree::read(path, &Times::default());
    for name in tree.lines.keys().rev() {
        let whole = [path.as_os_str().as_bytes(), b"/", name].concat();
        stamp_one(&c(&whole), name.len());
    }
}

fn stamp_one(path: &CStr, salt: usize) {
    let time = libc::timespec { tv_sec: 1_500_000_000 + salt as i64, tv_nsec: 123_456_789 };
    let times = [time, time];
    call!(utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW)).expect("times are set");
}

/// A writable stack: the layers below, and where changes go.
#[derive(Clone)]
pub struct Stack {
    /// Where its directories are made.
    home: PathBuf,
    lower: Vec<PathBuf>,
    generation: usize,
}

impl Stack {
    pub fn new(home: PathBuf, lower: Vec<PathBuf>) -> Self {
        let stack = Self { home, lower, generation: 0 };
        fresh_directory(&stack.mountpoint());
        stack.make();
        stack
    }

    fn make(&self) {
        fresh_directory(&self.work());
        fresh_directory(&self.upper());
    }

    pub fn mountpoint(&self) -> PathBuf {
        self.home.join("mnt")
    }

    pub fn upper(&self) -> PathBuf {
        self.home.join(format!("upper{}", self.generation))
    }

    fn work(&self) -> PathBuf {
        self.home.join(format!("work{}", self.generation))
    }

    /// Puts the upper directory on top of the lower layers, and a new one over it.
    pub fn rotate(&mut self) {
        self.lower.insert(0, self.upper());
        self.generation += 1;
        self.make();
        // The root of the stack keeps its attributes, as it does for whoever makes an upper directory with care.
        let (from, to) = (self.lower[0].clone(), self.upper());
        copy_root(&from, &to);
    }

    fn options(&self) -> String {
        let lower: Vec<_> = self.lower.iter().map(|l| l.to_str().expect("plain paths")).collect();
        format!("lowerdir={},upperdir={},workdir={}", lower.join(":"), self.upper().display(), self.work().display())
    }
}

/// Mode, owner and time of a layer's root.
fn copy_root(from: &Path, to: &Path) {
    let (from, to) = (c(from.as_os_str().as_bytes()), c(to.as_os_str().as_bytes()));
    let stat = calls::statat(libc::AT_FDCWD, &from, 0).expect("a layer's root");
    call!(chown(to.as_ptr(), stat.st_uid, stat.st_gid)).expect("owner of the root");
    call!(chmod(to.as_ptr(), stat.st_mode & 0o7777)).expect("mode of the root");
    let time = libc::timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec };
    call!(utimensat(libc::AT_FDCWD, to.as_ptr(), [time, time].as_ptr(), 0)).expect("times of the root");
}

/// The program under test: that of this build, or the one that the environment names.
fn program() -> std::ffi::OsString {
    std::env::var_os("LAMINAFS").unwrap_or_else(|| env!("CARGO_BIN_EXE_laminafs").into())
}

/// A mount, gone when this is dropped.
pub struct Mount {
    at: PathBuf,
    server: Server,
    mounted: bool,
}

/// Options of laminafs beside the usual ones, each behind a comma.
pub static MORE_OPTIONS: OnceLock<String> = OnceLock::new();

const KERNEL_OPTIONS: &str = "index=on,redirect_dir=on,metacopy=off,xino=auto";

impl Mount {
    pub fn new(server: Server, stack: &Stack) -> std::result::Result<Self, String> {
        let at = stack.mountpoint();
        match server {
            Server::Kernel => {
                let options = c(format!("{},{KERNEL_OPTIONS}", stack.options()).as_bytes());
                let target = c(at.as_os_str().as_bytes());
                call!(mount(
                    c"differential".as_ptr(),
                    target.as_ptr(),
                    c"overlay".as_ptr(),
                    0,
                    options.as_ptr().cast()
                ))
                .map_err(|errno| format!("the kernel does not mount it: errno {errno}"))?;
            }
            Server::Laminafs => {
                let more = MORE_OPTIONS.get().map_or("", String::as_str);
                let options = format!("{},dev,suid{more}", stack.options());
                let mut command = Command::new(program());
                command.args(["mount", "-o", &options]).arg(&at).stdin(Stdio::null()).stdout(Stdio::null());
                let output = command.output().map_err(|e| format!("laminafs does not start: {e}"))?;
                if !output.status.success() {
                    return Err(format!("laminafs does not mount it: {}", String::from_utf8_lossy(&output.stderr)));
                }
            }
        }
        Ok(Self { at, server, mounted: true })
    }

    /// Unmounts, and waits for the daemon if there is one.
    pub fn end(mut self) -> std::result::Result<(), String> {
        self.mounted = false;
        let unmounted = self.unmount(0);
        if unmounted.is_err() {
            self.unmount(libc::MNT_DETACH).map_err(|errno| format!("a mount does not go: errno {errno}"))?;
        }
        if self.server == Server::Laminafs {
            reap_daemon()?;
        }
        unmounted.map_err(|errno| format!("{:?}: unmounting: errno {errno}", self.server))
    }

    fn unmount(&self, flags: i32) -> Result<()> {
        call!(umount2(c(self.at.as_os_str().as_bytes()).as_ptr(), flags)).map(drop)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.mounted {
            self.unmount(libc::MNT_DETACH).ok();
            if self.server == Server::Laminafs {
                reap_daemon().ok();
            }
        }
    }
}

/// The daemon is a child of this process (a subreaper) once the process that started it has ended.
fn reap_daemon() -> std::result::Result<(), String> {
    let mut status = 0;
    call!(waitpid(-1, &raw mut status, 0)).map_err(|errno| format!("there is no daemon to wait for: errno {errno}"))?;
    if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 {
        Ok(())
    } else {
        Err(format!("the daemon ended with wait status {status:#x}"))
    }
}

/// Daemons whose starters ended become children of this process.
pub fn adopt_orphans() {
    call!(prctl(libc::PR_SET_CHILD_SUBREAPER, 1)).expect("PR_SET_CHILD_SUBREAPER");
}

/// What this process mounts is seen by it and its children only: a mount that somebody else's namespace had a copy of would
/// not go when it is unmounted here.
pub fn hide_mounts() {
    call!(unshare(libc::CLONE_NEWNS)).expect("a mount namespace of its own");
    let (none, slave) = (std::ptr::null(), libc::MS_REC | libc::MS_SLAVE);
    call!(mount(none, c"/".as_ptr(), none, slave, none.cast())).expect("mounts that are not shared");
}
