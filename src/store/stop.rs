//! Asking what takes long to give up.

use super::error::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};

/// Asks loads to give up, from another thread. What they had made by then is removed.
#[derive(Debug, Default)]
pub struct Stop {
    asked: AtomicBool,
    heard: AtomicBool,
}

impl Stop {
    /// Loads of this store give up as soon as they can, those that begin later at once.
    pub fn ask(&self) {
        // What the caller did before is seen by whoever hears.
        self.asked.store(true, Ordering::Release);
    }

    /// Whether one is giving up. One that waits, for another process or for input that does not let it look, does not hear.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// Fails when a load is to give up.
    pub(super) fn check(&self) -> Result<()> {
        if !self.asked.load(Ordering::Acquire) {
            return Ok(());
        }
        self.heard.store(true, Ordering::Relaxed);
        Err(Error::GivenUp)
    }
}
