//! What a directory of a layer holds: names that stand for something else, marks, and what the objects show.

use super::entry::{Entry, Kind, NONE, Text};
use super::origin::Directory;
use crate::layer::markers::{self, DirMarkers};
use crate::layer::override_stat::Dialect;
use crate::layer::whiteout::{self, NameKind};
use crate::layer::xattr::Attributes;
use crate::store;
use crate::sys::{self, At, Errno, Fd, Stat};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// An object of a directory, wherever it is read.
pub(super) trait Object {
    fn name(&self) -> &[u8];
    fn stat(&self) -> sys::Result<Stat>;
    fn attributes(&self) -> impl Attributes;
    /// The target of a symbolic link.
    fn target(&self) -> sys::Result<Vec<u8>>;
}

/// An object on disk: its directory, and its name.
pub(super) struct OnDisk<'a>(pub Fd<'a>, pub Box<[u8]>);

impl OnDisk<'_> {
    fn at(&self) -> At<'_> {
        At::Name(self.0, OsStr::from_bytes(&self.1))
    }
}

impl Object for OnDisk<'_> {
    fn name(&self) -> &[u8] {
        &self.1
    }

    fn stat(&self) -> sys::Result<Stat> {
        sys::stat(self.at())
    }

    fn attributes(&self) -> impl Attributes {
        self.at()
    }

    fn target(&self) -> sys::Result<Vec<u8>> {
        sys::readlink(self.0, OsStr::from_bytes(&self.1))
    }
}

impl Object for store::RecordedObject<'_> {
    fn name(&self) -> &[u8] {
        self.name
    }

    fn stat(&self) -> sys::Result<Stat> {
        Ok(self.stat)
    }

    fn attributes(&self) -> impl Attributes {
        self.attributes
    }

    fn target(&self) -> sys::Result<Vec<u8>> {
        Ok(self.target.to_vec())
    }
}

/// What is believed of a layer.
#[derive(Clone, Copy)]
pub(super) struct Belief<'a> {
    /// The names of the attributes that hold owners, modes and types.
    pub dialects: &'a [Dialect],
    /// Redirects and metacopy marks of `user.` attributes.
    pub users: bool,
    /// Any file may be a metacopy file.
    pub data_only: bool,
}

/// A directory's children before they have a place in the layer.
#[derive(Default)]
pub(super) struct Listing {
    pub opaque: bool,
    pub redirect: Vec<u8>,
    pub entries: Vec<Entry>,
    pub text: Vec<u8>,
    /// Files with several links: device, inode, place in `entries`.
    pub links: Vec<(u64, u64, u32)>,
}

impl Listing {
    /// What is in a directory with these objects and marks, sorted by name.
    pub fn of<O: Object>(objects: Vec<O>, marks: &DirMarkers, belief: Belief<'_>) -> sys::Result<Self> {
        let (mut plain, mut hidden) = (Vec::with_capacity(objects.len()), Vec::<Box<[u8]>>::new());
        let mut listing = Self::default();
        for object in objects {
            match whiteout::classify(object.name()) {
                NameKind::Plain => plain.push(object),
                NameKind::Whiteout(name) => hidden.push(name.into()),
                NameKind::OpaqueMarker => listing.opaque = true,
                NameKind::AufsInternal => {}
            }
        }
        plain.sort_unstable_by(|a, b| a.name().cmp(b.name()));
        hidden.sort_unstable();
        listing.opaque |= marks.opaque;
        let believed = belief.users || marks.trusted_redirect;
        if let Some(redirect) = marks.redirect.as_ref().filter(|_| believed) {
            listing.redirect = redirect.encode();
        }
        let mut whiteouts = hidden.into_iter().peekable();
        for object in plain {
            while let Some(hidden) = whiteouts.next_if(|hidden| **hidden < *object.name()) {
                listing.add(Entry::new(Kind::Whiteout), &hidden, &[]);
            }
            // A marker acts on the layers below, never on its own.
            let covers = whiteouts.next_if(|hidden| **hidden == *object.name()).is_some();
            let mut add = || listing.child(&object, marks, covers, belief);
            let added = match add() {
                // A symbolic link that is none any more is looked at again.
                Err(e) if was_link(&e) => add(),
                added => added,
            };
            match added {
                Err(e) if is_gone(&e) || was_link(&e) => {}
                other => other?,
            }
        }
        whiteouts.for_each(|hidden| listing.add(Entry::new(Kind::Whiteout), &hidden, &[]));
        Ok(listing)
    }

    fn child(&mut self, object: &impl Object, marks: &DirMarkers, covers: bool, belief: Belief<'_>) -> sys::Result<()> {
        let (disk, at) = (object.stat()?, object.attributes());
        if disk.is_whiteout_dev() {
            self.add(Entry::new(Kind::Whiteout), object.name(), &[]);
            return Ok(());
        }
        let mut entry = entry_of(&shown(belief.dialects, at, disk)?);
        entry.opaque = entry.is_dir() && covers;
        let mut target = Vec::new();
        if disk.is_file() && disk.size == 0 && (marks.xwhiteouts || marks.nested) {
            let found = markers::read_empty_file_markers(at)?;
            if marks.xwhiteouts && found.whiteout {
                entry = Entry::new(Kind::Whiteout);
            } else if marks.nested && found.nested {
                entry.kind = Kind::Char;
            }
        } else if disk.is_file() && (marks.impure || belief.data_only) {
            let found = markers::read_file_markers(at)?;
            entry.metacopy = found.believed_metacopy(belief.users);
            if let Some(redirect) = found.believed_redirect(belief.users).filter(|_| entry.metacopy) {
                target = redirect.encode();
            }
        } else if disk.is_symlink() {
            target = object.target()?;
            entry.size = target.len() as u64;
        }
        if disk.nlink > 1 && !disk.is_dir() && !entry.is_whiteout() {
            self.links.push((disk.dev, disk.ino, u32::try_from(self.entries.len()).unwrap_or(NONE)));
        }
        self.add(entry, object.name(), &target);
        Ok(())
    }

    fn add(&mut self, mut entry: Entry, name: &[u8], target: &[u8]) {
        entry.name = self.text(name);
        entry.target = self.text(target);
        self.entries.push(entry);
    }

    /// Names and targets are shorter than 64 KiB, and a directory with 4 GiB of them is refused where it is put into its layer.
    fn text(&mut self, piece: &[u8]) -> Text {
        let start = u32::try_from(self.text.len()).unwrap_or(NONE);
        self.text.extend_from_slice(piece);
        Text { start, len: u16::try_from(piece.len()).unwrap_or(u16::MAX) }
    }
}

/// In the upper directory of a live mount: what was listed has gone since, or was exchanged for something else.
pub(super) fn is_gone(error: &sys::Error) -> bool {
    [Errno::NOENT, Errno::NOTDIR, Errno::LOOP].contains(&error.errno)
}

fn was_link(error: &sys::Error) -> bool {
    error.call == "readlinkat" && error.is(Errno::INVAL)
}

/// What is on disk, and what of it is seen.
pub(super) fn read_entry(directory: &Directory, at: At<'_>) -> sys::Result<(Stat, Entry)> {
    let disk = sys::stat(at)?;
    let seen = if disk.is_whiteout_dev() { disk } else { shown(&directory.dialects, at, disk)? };
    Ok((disk, entry_of(&seen)))
}

/// What an object shows of owner, mode and type.
fn shown(dialects: &[Dialect], at: impl Attributes, disk: Stat) -> sys::Result<Stat> {
    for dialect in dialects {
        if let Some(shown) = dialect.shown(at, disk)? {
            return Ok(shown);
        }
    }
    Ok(disk)
}

fn entry_of(stat: &Stat) -> Entry {
    let kind = Kind::of_mode(stat.mode);
    Entry {
        mode: u16::try_from(stat.mode & 0o7777).unwrap_or(0),
        uid: stat.uid,
        gid: stat.gid,
        size: if matches!(kind, Kind::File | Kind::Symlink) { stat.size } else { 0 },
        mtime: stat.mtime,
        device: if matches!(kind, Kind::Char | Kind::Block) { (stat.rdev_major, stat.rdev_minor) } else { (0, 0) },
        ..Entry::new(kind)
    }
}
