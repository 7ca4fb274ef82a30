//! Changing what its owner may not write.
//!
//! The kernel has checked that the caller may do what it asks. What we do besides (attributes that mark an object, a copy
//! put into a read-only directory) needs write permission as well, and the daemon of an ordinary user has no more than
//! the owner's.

use parking_lot::ReentrantMutex;

use super::Overlay;
use super::error::Result;
use crate::sys::{self, At, Errno};

/// One at a time, or one takes the other's mode for the right one.
static WIDENING: ReentrantMutex<()> = ReentrantMutex::new(());

impl Overlay {
    /// [`as_owner`] for what only looks: a frozen union does not even change modes for a moment.
    pub(super) fn as_owner<T>(&self, at: At<'_>, mut act: impl FnMut() -> Result<T>) -> Result<T> {
        if self.frozen { act() } else { as_owner(at, act) }
    }
}

/// Runs `act`, which changes the object or an entry of it; if that is denied, once more with all permissions for the
/// owner, which are taken back at once.
pub fn as_owner<T>(at: At<'_>, mut act: impl FnMut() -> Result<T>) -> Result<T> {
    match act() {
        Err(denied) if denied.is(Errno::ACCESS) => {
            let _alone = WIDENING.lock();
            let mode = sys::stat(at)?.mode & 0o7777;
            if sys::chmod(at, mode | 0o700).is_err() {
                return Err(denied); // somebody else's
            }
            let done = act();
            if let Err(e) = sys::chmod(at, mode) {
                log::error!("an object of upper keeps more permissions for its owner than it had ({mode:o}): {e}");
            }
            done
        }
        done => done,
    }
}
