//! Signals that end the program while it makes something in the store: what is unfinished is removed first.

use crate::store::{Stop, Store};
use crate::sys;
use crate::sys::process::{HeldSignals, hold_heeded_termination_signals, raise_held, wait_readable};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

/// How long it may take until a load hears that it is to give up. One that waits for another process never does, and whoever
/// pressed Ctrl-C waits with it.
const HEARING: Duration = Duration::from_secs(1);
/// How long it may then take to remove what it had made. The next command that uses the store removes the rest.
const REMOVING: Duration = Duration::from_secs(30);

/// As long as this lives, SIGTERM, SIGINT, SIGHUP and SIGQUIT have loads of a store give up, and have their effect later: when the load has
/// failed ([`Interrupt::heed`]), when that takes too long, or at once if a second one comes.
#[derive(Debug)]
pub struct Interrupt {
    signal: Arc<AtomicI32>,
    _held: HeldSignals,
}

impl Interrupt {
    /// Begins. To be called before other threads are started.
    pub fn watch(store: &Store) -> anyhow::Result<Self> {
        let _held = hold_heeded_termination_signals()?;
        let (stop, signal) = (store.stop(), Arc::new(AtomicI32::new(0)));
        let seen = Arc::clone(&signal);
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            if let Err(e) = wait(&stop, &seen) {
                log::debug!("signals are not heeded: {e}");
            }
        })?;
        Ok(Self { signal, _held })
    }

    /// The result of a load; or the end of the program, when a signal had it give up.
    pub fn heed<T, E>(&self, loaded: Result<T, E>) -> anyhow::Result<Result<T, E>> {
        match self.signal.load(Ordering::Relaxed) {
            signal if signal != 0 && loaded.is_err() => raise_held(signal)?,
            _ => {}
        }
        Ok(loaded)
    }
}

fn wait(stop: &Stop, seen: &AtomicI32) -> sys::Result<()> {
    let held = hold_heeded_termination_signals()?;
    let first = held.wait()?;
    seen.store(first, Ordering::Relaxed);
    stop.ask();
    let mut second = held.wait_for(HEARING)?;
    if second.is_none() && stop.is_heard() {
        second = held.wait_for(REMOVING)?;
    }
    raise_held(second.unwrap_or(first))
}

/// How often a load that waits for its input looks whether it is to give up.
const TICK: Duration = Duration::from_millis(50);

/// Input that may be long in coming, such as a pipe: reading ends with `ErrorKind::Interrupted` now and then while nothing comes.
#[derive(Debug)]
pub struct SlowInput(pub File);

impl Read for SlowInput {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match wait_readable(self.0.as_fd(), Some(TICK))? {
            true => self.0.read(buf),
            false => Err(io::ErrorKind::Interrupted.into()),
        }
    }
}
