//! The life of a mount: open, mount, answer, end.

use super::{Request, advise, kernel, note_ignored};
use crate::fuse::{self, Session};
use crate::overlay::{self, OpenError, Overlay};
use crate::sys::caller;
use crate::sys::process::{self, HeldSignals};
use anyhow::{Context, anyhow};
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Opens the layers, mounts, calls `started` when the mount answers, and serves it to its end.
pub fn serve(request: &Request, started: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let fd_limit = process::raise_nofile_limit();
    caller::lift_limits()?;
    caller::ignore_user_signals()?;
    if !request.kernel
        && let Err(error) = process::reserve_descriptors(overlay::descriptors(&request.layers))
    {
        log::info!("no room made for descriptors: {error}");
    }
    let stopper = Stopper::start()?;
    if request.kernel {
        return kernel::serve(request, &stopper, started);
    }
    let mountpoint = request.mount.mountpoint.clone();
    process::clear_umask();
    let layers = overlay::Options { fd_limit, ..request.layers.clone() };
    let overlay = Overlay::open(&layers).map_err(advise_layers)?;
    // What the caller has mounted is the caller's to unmount, and a signal ends the process.
    let made_here = fuse::handed_down(&mountpoint).is_none();
    if made_here {
        stopper.mounting();
    }
    let session = Session::mount(overlay, &request.mount).map_err(advise)?;
    note_ignored(session.ignored());
    if let Err(error) = request.held.mounted(&mountpoint, false).and_then(|()| started()) {
        session.unmounter().unmount()?;
        return Err(error);
    }
    log::info!("mounted on {}", mountpoint.display());
    let unmounter = session.unmounter();
    if made_here {
        stopper.mounted(move |lazy| if lazy { unmounter.detach() } else { unmounter.unmount() });
    }
    session.run().context("the mount broke down")
}

/// Adds what to do.
fn advise_layers(error: OpenError) -> anyhow::Error {
    match &error {
        OpenError::Directory { source, .. }
            if source.kind() == io::ErrorKind::PermissionDenied && !process::is_root() =>
        {
            anyhow!("{error}; mount as a user who may read it and reach it through the directories above")
        }
        _ => error.into(),
    }
}

/// Ends the mount when a signal asks for it: the first one unmounts, or where somebody uses the mount takes it out of the tree,
/// and the daemon serves the last user to the end. A later one takes it out of the tree in any case and ends the process at
/// once, which goes on where that fails: without it the mount would be dead, and in everybody's way.
pub struct Stopper(Arc<Mutex<Stage>>);

/// Signals within this time are one request: timeout(1) signals its child and then the whole group, and a terminal that is
/// closed often sends more than SIGHUP.
const ONE_REQUEST: Duration = Duration::from_secs(1);

/// Takes the mount away unless that has happened; with `true` also while it is in use.
type End = Arc<dyn Fn(bool) -> io::Result<()> + Send + Sync>;

enum Stage {
    /// Nothing to undo: a signal ends the process.
    Opening,
    /// The mount may or may not exist already: signals wait for it.
    Mounting {
        asked: bool,
    },
    Mounted(End),
    /// It was asked to end at that time.
    Stopping(End, Instant),
}

impl Stopper {
    /// From here on signals are held back from all threads and wait for one of their own.
    fn start() -> anyhow::Result<Self> {
        let signals = process::hold_termination_signals()?;
        let stage = Arc::new(Mutex::new(Stage::Opening));
        let stopper = Self(Arc::clone(&stage));
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || watch(&signals, &stage))?;
        Ok(stopper)
    }

    /// The mount is about to exist.
    pub fn mounting(&self) {
        *self.0.lock() = Stage::Mounting { asked: false };
    }

    /// It exists, and this ends it: unless it is gone already, and with `true` also while it is in use.
    pub fn mounted(&self, end: impl Fn(bool) -> io::Result<()> + Send + Sync + 'static) {
        let mut stage = self.0.lock();
        let asked = matches!(*stage, Stage::Mounting { asked: true });
        *stage = Stage::Mounted(Arc::new(end));
        if asked {
            stop(&mut stage);
        }
    }
}

fn watch(signals: &HeldSignals, stage: &Mutex<Stage>) {
    loop {
        match signals.wait() {
            Ok(signal) => log::info!("signal {signal}"),
            Err(e) => return log::error!("signals cannot be waited for: {e}"),
        }
        stop(&mut stage.lock());
    }
}

/// What one signal does.
fn stop(stage: &mut Stage) {
    match stage {
        Stage::Opening => process::exit_now(1),
        Stage::Mounting { asked } => *asked = true,
        Stage::Mounted(end) => {
            let end = Arc::clone(end);
            *stage = Stage::Stopping(Arc::clone(&end), Instant::now());
            // In a thread of its own, so that the next signal is heard while this one waits.
            let unmount = move || tell(end(false).or_else(|_| end(true)));
            tell(std::thread::Builder::new().name("unmount".to_owned()).spawn(unmount).map(drop));
        }
        Stage::Stopping(_, since) if since.elapsed() < ONE_REQUEST => {}
        Stage::Stopping(end, _) => match end(true) {
            Ok(()) => process::exit_now(1),
            failed => tell(failed),
        },
    }
}

fn tell(done: io::Result<()>) {
    if let Err(e) = done {
        log::error!("cannot unmount, and so goes on: {e}");
    }
}
