//! What a process has of its caller and must not depend on: how signals are treated, limits, open descriptors.
#![allow(unsafe_code)]

use super::{Errno, Error, Result};
use rustix::process::{Resource, Rlimit, Signal};
use std::os::fd::{FromRawFd as _, OwnedFd};

/// Has children waited for also where the caller ignores SIGCHLD, which is inherited: wait(2) fails with `ECHILD` then, here
/// and in programs that are started. And has writes beyond the caller's limit of file sizes fail with `EFBIG`, where SIGXFSZ
/// would end the process without a word, and leave what it was writing.
pub fn settle_signals() -> Result<()> {
    dispose(Signal::CHILD, libc::SIG_DFL)?;
    dispose(Signal::XFSZ, libc::SIG_IGN)
}

/// Lets files grow as far as this process is allowed to at all, and lets it run as long: the soft limits of file sizes and of
/// processor time become the hard ones.
///
/// With `CAP_SYS_RESOURCE` there is no limit of time any more. Without, the kernel ends the process at the hard one.
pub fn lift_limits() -> Result<()> {
    dispose(Signal::XCPU, libc::SIG_IGN)?;
    let set = |resource, limit| rustix::process::setrlimit(resource, limit);
    let failed = |errno| Error { call: "setrlimit", errno };
    for resource in [Resource::Fsize, Resource::Cpu] {
        let Rlimit { maximum, .. } = rustix::process::getrlimit(resource);
        set(resource, Rlimit { current: maximum, maximum }).map_err(failed)?;
    }
    match set(Resource::Cpu, Rlimit { current: None, maximum: None }) {
        Err(Errno::PERM) => Ok(()),
        done => done.map_err(failed),
    }
}

/// Ignores SIGUSR1 and SIGUSR2. fuse-overlayfs prints figures upon the first (here `laminafs stats` does): who sends it out of
/// habit is not to be left with a dead mount.
pub fn ignore_user_signals() -> Result<()> {
    dispose(Signal::USR1, libc::SIG_IGN)?;
    dispose(Signal::USR2, libc::SIG_IGN)
}

/// Closes what the caller had open besides the standard streams and passed on: a lock or the end of a pipe among it would be
/// held until the daemon ends.
///
/// That is what has no close-on-exec flag: everything that is opened here has it.
pub fn close_inherited() -> Result<()> {
    let failed = |e| Error { call: "reading /proc/self/fd", errno: Errno::from_io_error(&e).unwrap_or(Errno::IO) };
    let names = std::fs::read_dir("/proc/self/fd").map_err(failed)?;
    let open: Vec<i32> = names.flatten().filter_map(|name| name.file_name().to_str()?.parse().ok()).collect();
    for fd in open.into_iter().filter(|fd| *fd > 2) {
        // SAFETY: asking for the flags of a descriptor has no preconditions.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
        // -1: it was that of the listing, and is closed.
        if flags != -1 && flags & libc::FD_CLOEXEC == 0 {
            // SAFETY: it was inherited, so that nothing here owns it.
            unsafe { libc::close(fd) };
        }
    }
    Ok(())
}

/// A descriptor of our own for what the caller passed on under this number. `EBADF` when there is nothing.
pub fn inherited(number: i32) -> Result<OwnedFd> {
    // SAFETY: duplicating a descriptor has no preconditions.
    let own = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if own == -1 {
        return Err(Error { call: "fcntl", errno: super::raw::errno() });
    }
    // SAFETY: it is new, so that nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(own) })
}

fn dispose(signal: Signal, what: libc::sighandler_t) -> Result<()> {
    // SAFETY: neither the default effect nor ignoring the signal runs code of this process.
    match unsafe { libc::signal(signal.as_raw(), what) } {
        libc::SIG_ERR => Err(Error { call: "signal", errno: super::raw::errno() }),
        _ => Ok(()),
    }
}
