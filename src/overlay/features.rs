//! Which features of the file systems below are there, and which are used: seen where they are needed, or tried when
//! somebody asks, so that a mount does not wait for it.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU8, Ordering};

use super::{Layer, Overlay};
use crate::layer::whiteout::Form;
use crate::layer::xattr::Namespace;
use crate::sys::{self, At, Errno};

/// What is known of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is there and used.
    Used,
    /// It is there, and this union does without.
    Unused,
    /// It is there for some layers or files, and not for others.
    Partly,
    /// It is not there.
    Missing,
    /// A test has it taken for missing.
    Masked,
    /// Nothing has needed it yet.
    Untried,
}

impl State {
    /// The word by which it is shown.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Used => "used",
            Self::Unused => "unused",
            Self::Partly => "partly",
            Self::Missing => "missing",
            Self::Masked => "masked",
            Self::Untried => "untried",
        }
    }
}

/// What attempts at something came to.
#[derive(Debug, Default)]
pub struct Tries(AtomicU8);

impl Tries {
    const WORKED: u8 = 1;
    const REFUSED: u8 = 2;

    /// Notes one.
    pub fn note(&self, worked: bool) {
        let bit = if worked { Self::WORKED } else { Self::REFUSED };
        // Not written when it is known: many threads come here.
        if self.0.load(Ordering::Relaxed) & bit == 0 {
            self.0.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// What all of them say together.
    pub fn state(&self) -> State {
        match self.0.load(Ordering::Relaxed) {
            0 => State::Untried,
            Self::WORKED => State::Used,
            Self::REFUSED => State::Missing,
            _ => State::Partly,
        }
    }
}

impl FromIterator<bool> for Tries {
    fn from_iter<T: IntoIterator<Item = bool>>(worked: T) -> Self {
        let tries = Self::default();
        worked.into_iter().for_each(|worked| tries.note(worked));
        tries
    }
}

/// What the union has tried so far.
#[derive(Debug, Default)]
pub struct Tried {
    /// Sharing the blocks of a lower file with its copy (`FICLONE`).
    pub reflink: Tries,
    o_tmpfile: Tries,
}

impl Overlay {
    /// Each feature of the layers' file systems by its name, and a word for what is known of it: that of its [`State`], or
    /// which of several forms is used.
    ///
    /// The first call tries what only that tells, in the work directory; lower layers are only looked at.
    #[must_use]
    pub fn features(&self) -> BTreeMap<&'static str, &'static str> {
        let layers = || self.upper.iter().map(|u| &u.layer).chain(&self.lowers);
        let mut features = BTreeMap::from([
            ("private_mounts", layers().map(|l| l.private).collect::<Tries>().state().word()),
            ("file_handles", self.file_handles().word()),
            ("reflink", self.tried.reflink.state().word()),
        ]);
        if let Ok(upper) = self.writable() {
            let nameless = &self.tried.o_tmpfile;
            attempt(nameless, || sys::nameless_file(upper.work.fd()).map(drop));
            let nameless = if nameless.state() == State::Used { State::Unused } else { nameless.state() };
            let markers = match self.markers {
                _ if !self.attributes => "none",
                Namespace::Trusted => "trusted",
                Namespace::User => "user",
            };
            let whiteouts = upper.work.whiteouts;
            let form = match whiteouts.form {
                Form::Device => "device",
                Form::Attribute(_) => "attribute",
                Form::Beside => "beside",
            };
            let renaming = if whiteouts.by_rename { State::Used } else { State::Missing };
            features.extend([
                ("markers", markers),
                ("whiteouts", form),
                ("index", if upper.work.index.is_some() { State::Used } else { State::Unused }.word()),
                ("rename_whiteout", renaming.word()),
                ("o_tmpfile", nameless.word()),
            ]);
        }
        features
    }

    /// Whether a copy can tell what it was made of. Without something to write nobody has to.
    fn file_handles(&self) -> State {
        let mut devices: Vec<u64> = Vec::new();
        let mut first = |layer: &&Layer| {
            !devices.contains(&layer.dev) && {
                devices.push(layer.dev);
                true
            }
        };
        let has = |layer: &Layer| layer.handles && sys::handle(At::Fd(layer.root.as_fd())).is_ok();
        match self.lowers.iter().filter(|l| first(l)).map(has).collect::<Tries>().state() {
            State::Used if self.read_only() => State::Unused,
            state => state,
        }
    }
}

/// Tries what was not tried yet. What says nothing about the feature (a full disk) leaves it so.
fn attempt(tries: &Tries, act: impl FnOnce() -> sys::Result<()>) {
    if tries.state() != State::Untried {
        return;
    }
    match act() {
        Ok(()) => tries.note(true),
        Err(e) if [Errno::OPNOTSUPP, Errno::INVAL, Errno::NOSYS, Errno::ISDIR, Errno::PERM].contains(&e.errno) => {
            tries.note(false);
        }
        Err(e) => log::debug!("cannot find out what upper's file system can do: {e}"),
    }
}
