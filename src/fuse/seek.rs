//! Looking for holes while the kernel holds pages that were not written yet.

use std::sync::mpsc::{SendError, Sender, channel};
use std::sync::{Arc, OnceLock};

use fuser::{INodeNo, Notifier, ReplyLseek};

use super::convert::errno;
use crate::overlay::Overlay;

/// A question for holes. The kernel asks it without writing dirty pages first, and would take data that was not written
/// yet for a hole; so the pages are invalidated, which writes them, before it is answered. That waits for WRITE requests
/// to be served, and is therefore done by a thread of its own. The pages have to be read again then, so it is left out where it
/// cannot matter ([`Overlay::seek_despite_pages`]).
pub struct Seek {
    pub ino: INodeNo,
    pub offset: i64,
    pub whence: i32,
    pub reply: ReplyLseek,
}

impl Seek {
    /// Answers from what was written.
    pub fn answer(self, overlay: &Overlay) {
        match overlay.seek(self.ino.0, self.offset, self.whence) {
            Ok(at) => self.reply.offset(i64::try_from(at).unwrap_or(i64::MAX)),
            Err(e) => self.reply.error(errno("lseek", e)),
        }
    }
}

/// The thread that answers seeks; it ends with the file system.
pub struct SeekQueue(Sender<Seek>);

impl SeekQueue {
    /// Starts the thread.
    pub fn start(overlay: Arc<Overlay>, notifier: Arc<OnceLock<Notifier>>) -> std::io::Result<Self> {
        let (queue, seeks) = channel::<Seek>();
        std::thread::Builder::new().name("seek".into()).spawn(move || {
            for seek in seeks {
                if let Some(Err(e)) = notifier.get().map(|n| n.inval_inode(seek.ino, 0, 0)) {
                    log::debug!("writing pages of {}: {e}", seek.ino);
                }
                seek.answer(&overlay);
            }
        })?;
        Ok(Self(queue))
    }

    /// Has the thread answer; if it is gone, answers at once.
    pub fn push(&self, seek: Seek, overlay: &Overlay) {
        if let Err(SendError(seek)) = self.0.send(seek) {
            seek.answer(overlay);
        }
    }
}
