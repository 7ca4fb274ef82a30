//! What may have to read files, and so is done beside the thread that draws.

use super::details::{self, Touched};
use super::terminal::Happening;
use crate::cli::target::Target;
use crate::provenance::{Merged, NodeId, Waste};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// What is to be found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// What every layer does at a path.
    Touches(NodeId),
    /// Why files are hidden that were replaced by others of the same length.
    Waste,
}

/// What was found out, or a sentence that says why not.
#[derive(Debug)]
pub enum Answer {
    Touches(NodeId, Result<Vec<Touched>, String>),
    Waste(Result<Waste, String>),
}

/// Finds it out.
pub fn answer(merged: &Merged, request: Request) -> Answer {
    match request {
        Request::Touches(node) => {
            let touches = merged.touches(node).map_err(|e| e.to_string());
            Answer::Touches(node, touches.map(|touches| details::touched(merged, node, &touches)))
        }
        Request::Waste => Answer::Waste(merged.waste().map_err(|e| e.to_string())),
    }
}

/// Starts a thread that answers what it is asked until the process ends.
pub fn start(target: Arc<Target>, to: Sender<Happening>) -> io::Result<Sender<Request>> {
    let (requests, asked) = channel();
    let tell = move |answer| to.send(Happening::Answered(answer)).is_ok();
    thread::Builder::new().name("worker".into()).spawn(move || work(&target.merged, &asked, tell))?;
    Ok(requests)
}

/// Answers requests until nobody has any more. Of several paths that wait only the last still matters.
fn work(merged: &Merged, requests: &Receiver<Request>, mut tell: impl FnMut(Answer) -> bool) {
    let mut next = None;
    loop {
        let Some(request) = next.take().or_else(|| requests.recv().ok()) else { return };
        let mut request: Request = request;
        while let (Request::Touches(_), Ok(newer)) = (request, requests.try_recv()) {
            if newer == Request::Waste {
                next = Some(request);
            }
            request = newer;
        }
        if !tell(answer(merged, request)) {
            return;
        }
    }
}
