//! Answers that are right only when the kernel has written the dirty pages of a file.
//!
//! Some questions the kernel asks without writing first. It would take data that was not written yet for a hole (lseek(2));
//! and a modification time that was set (utimensat(2)) would be lost when a store through a map, made before it, is
//! written after it. So the pages are invalidated, which writes them, before the answer. That waits for WRITE requests to be
//! served, and is therefore done by a thread of its own. The pages have to be read again then, so it is left out where it
//! cannot matter: [`Overlay::seek_despite_pages`], [`Overlay::may_have_pages`].
//!
//! There is one such thread, and who comes next waits for it. So it is left nothing to do that can take longer than the writing
//! of the pages itself: a lower file is copied up before, in the thread of the request ([`Overlay::prepare_set_attr`]), and does
//! not leave upper again.
//!
//! A time may be set at once only if no page is there that a store made before can be written from. That holds because a file is
//! said to have no pages *after* an invalidation has succeeded, not when it is asked for: whoever comes in between comes after
//! it in the queue. What the kernel has read since the invalidation began counts as being there (`overlay::inode::Pages`), and
//! what it has written. It does not hold for a file that was never invalidated and whose pages all came from write(2): README.

use std::sync::mpsc::{SendError, Sender, channel};
use std::sync::{Arc, OnceLock};

use fuser::{INodeNo, Notifier};

use crate::overlay::Overlay;

/// What is to be done about a file once its pages are written, soon done itself.
struct Job {
    ino: INodeNo,
    act: Box<dyn FnOnce(&Overlay) + Send>,
}

/// The thread that has pages written; it ends with the file system.
pub struct PageWriter(Sender<Job>);

impl PageWriter {
    /// Starts the thread.
    pub fn start(overlay: Arc<Overlay>, notifier: Arc<OnceLock<Notifier>>) -> std::io::Result<Self> {
        let (queue, jobs) = channel::<Job>();
        std::thread::Builder::new().name("pages".into()).spawn(move || {
            for Job { ino, act } in jobs {
                if let Some(notifier) = notifier.get()
                    && let Err(e) = overlay.without_pages(ino.0, || notifier.inval_inode(ino, 0, 0))
                {
                    log::debug!("writing pages of {ino}: {e}");
                }
                act(&overlay);
            }
        })?;
        Ok(Self(queue))
    }

    /// Has `act` done after the dirty pages of a file were written; at once if the thread is gone.
    pub fn after_writing(&self, ino: INodeNo, overlay: &Overlay, act: impl FnOnce(&Overlay) + Send + 'static) {
        if let Err(SendError(job)) = self.0.send(Job { ino, act: Box::new(act) }) {
            (job.act)(overlay);
        }
    }
}
