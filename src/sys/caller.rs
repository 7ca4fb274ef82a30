//! What a process has of its caller and must not depend on: how signals are treated, limits, open descriptors.
#![allow(unsafe_code)]

use super::{Error, Result};
use rustix::process::{Resource, Rlimit, Signal};

/// Has children waited for also where the caller ignores SIGCHLD, which is inherited: wait(2) fails with `ECHILD` then, here
/// and in programs that are started.
pub fn wait_for_children() -> Result<()> {
    dispose(Signal::CHILD, libc::SIG_DFL)
}

/// Lets files grow as far as this process is allowed to at all: the soft limit of file sizes becomes the hard one, and what
/// goes beyond it fails with `EFBIG`, where SIGXFSZ would end the process.
pub fn lift_file_size_limit() -> Result<()> {
    dispose(Signal::XFSZ, libc::SIG_IGN)?;
    let Rlimit { maximum, .. } = rustix::process::getrlimit(Resource::Fsize);
    let raised = Rlimit { current: maximum, maximum };
    rustix::process::setrlimit(Resource::Fsize, raised).map_err(|errno| Error { call: "setrlimit", errno })
}

fn dispose(signal: Signal, what: libc::sighandler_t) -> Result<()> {
    // SAFETY: neither the default effect nor ignoring the signal runs code of this process.
    match unsafe { libc::signal(signal.as_raw(), what) } {
        libc::SIG_ERR => Err(Error { call: "signal", errno: super::raw::errno() }),
        _ => Ok(()),
    }
}
