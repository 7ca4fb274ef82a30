//! The life of a mount: open, mount, answer, end.

use super::{Request, advise, kernel};
use crate::fuse::{Session, Unmounter};
use crate::overlay::{self, Overlay};
use crate::sys::process::{self, HeldSignals};
use anyhow::Context;
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;

/// Opens the layers, mounts, calls `started` when the mount answers, and serves it to its end.
pub fn serve(request: &Request, started: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let fd_limit = process::raise_nofile_limit();
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
    let overlay = Overlay::open(&layers)?;
    stopper.mounting();
    let session = Session::mount(overlay, &request.mount).map_err(advise)?;
    if let Err(error) = request.held.mounted(&mountpoint, false).and_then(|()| started()) {
        session.unmounter().unmount()?;
        return Err(error);
    }
    log::info!("mounted on {}", mountpoint.display());
    let unmounter = session.unmounter();
    stopper.mounted(move || unmount(&unmounter, &mountpoint));
    session.run().context("the mount broke down")
}

/// Unmounts, or where somebody uses the mount takes it out of the tree; the daemon serves the last user to the end.
fn unmount(unmounter: &Unmounter, mountpoint: &Path) {
    if let Err(e) = unmounter.unmount().or_else(|_| unmounter.detach()) {
        log::error!("cannot unmount {}: {e}", mountpoint.display());
    }
}

/// Ends the mount when a signal asks for it: the first one unmounts, or detaches what is in use; the second one ends
/// the process at once.
pub struct Stopper(Arc<Mutex<Stage>>);

enum Stage {
    /// Nothing to undo: a signal ends the process.
    Opening,
    /// The mount may or may not exist already: a signal waits for it.
    Mounting {
        asked: bool,
    },
    /// What ends the mount.
    Mounted(Box<dyn FnOnce() + Send>),
    Stopping,
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

    /// It exists, and this ends it.
    pub fn mounted(&self, unmount: impl FnOnce() + Send + 'static) {
        let mut stage = self.0.lock();
        let asked = matches!(*stage, Stage::Mounting { asked: true });
        *stage = Stage::Mounted(Box::new(unmount));
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
    match std::mem::replace(stage, Stage::Stopping) {
        Stage::Mounting { asked: false } => *stage = Stage::Mounting { asked: true },
        Stage::Mounted(unmount) => {
            // In a thread of its own, so that the next signal is heard while this one waits.
            if let Err(e) = std::thread::Builder::new().name("unmount".to_owned()).spawn(unmount) {
                log::error!("cannot unmount: {e}");
                process::exit_now(1);
            }
        }
        Stage::Opening | Stage::Mounting { asked: true } | Stage::Stopping => process::exit_now(1),
    }
}
