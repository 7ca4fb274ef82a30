//! The waste view: files that nobody can see, the largest first.

use super::cursor::{Cursor, Motion};
use crate::provenance::{Hidden, Merged, Reason, Waste};
use std::cmp::Reverse;

/// The waste view.
#[derive(Debug)]
pub struct WastePane {
    /// The files. Until [`WastePane::waste`] is known, those that were replaced by the same content are not told apart.
    pub files: Vec<Hidden>,
    /// All of it with reasons, or a sentence why it is not known; `None` until it was found out.
    pub waste: Option<Result<Waste, String>>,
    pub cursor: Cursor,
    asked: bool,
}

impl WastePane {
    pub fn new(merged: &Merged) -> Self {
        let mut pane = Self { files: merged.hidden(), waste: None, cursor: Cursor::default(), asked: false };
        pane.sort();
        pane
    }

    /// Whether the reasons have to be found out; true once.
    pub fn asks(&mut self) -> bool {
        !std::mem::replace(&mut self.asked, true)
    }

    /// Takes the reasons.
    pub fn take(&mut self, waste: Result<Waste, String>) {
        if let Ok(waste) = &waste {
            self.files.clone_from(&waste.hidden);
            self.sort();
        }
        self.waste = Some(waste);
    }

    fn sort(&mut self) {
        self.files.sort_by_key(|file| Reverse(file.bytes));
    }

    /// Bytes and files for each reason that there is.
    pub fn reasons(&self) -> Vec<(Reason, u64, usize)> {
        let of = |reason| {
            let files = self.files.iter().filter(|file| file.reason == reason);
            files.fold((reason, 0, 0), |(reason, bytes, count), file| (reason, bytes + file.bytes, count + 1))
        };
        let mut reasons: Vec<_> = Reason::ALL.into_iter().map(of).filter(|(.., count)| *count > 0).collect();
        reasons.sort_by_key(|(_, bytes, _)| Reverse(*bytes));
        reasons
    }

    pub fn selected(&self) -> Option<Hidden> {
        self.files.get(self.cursor.at).copied()
    }

    pub fn fit(&mut self, height: usize) {
        self.cursor.fit(self.files.len(), height);
    }

    pub fn go(&mut self, motion: Motion) {
        self.cursor.go(motion, self.files.len());
    }
}

/// What a reason means, in a few words.
pub fn words(reason: Reason) -> &'static str {
    match reason {
        Reason::Superseded => "replaced",
        Reason::MetadataOnly => "same content",
        Reason::Identical => "all the same",
        Reason::Deleted => "deleted",
        Reason::ParentOpaque => "parent opaque",
        Reason::ParentDeleted => "parent deleted",
        Reason::ParentReplaced => "parent replaced",
    }
}
