//! One layer, on top of those made before.

use super::super::ops::{Op, Step};
use super::super::text::{
    Acl, AclEntry, AclKind, Bytes, Data, Id, Kind, Link, Mode, OpenFlags, Place, When, XattrFlags,
};
use super::{Generator, Links, Thing, below, parent, root};

impl Generator {
    /// The steps that make a layer: whiteouts and opaque directories in every form, links, special files, odd names,
    /// attributes of all kinds.
    pub(super) fn layer(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut here = Vec::new();
        for _ in 0..3 + self.rng.below(14) {
            let path = if self.rng.chance(40) { self.any() } else { self.fresh() };
            if self.ancestors(&mut steps, &mut here, &path) {
                self.element(&mut steps, &mut here, &path);
            }
        }
        steps
    }

    /// The directories above a path, in this layer. False if one of them is something else here.
    fn ancestors(&mut self, steps: &mut Vec<Step>, here: &mut Vec<(Vec<u8>, Thing)>, path: &[u8]) -> bool {
        let above = parent(path).to_vec();
        if above.is_empty() {
            return true;
        }
        match here.iter().find(|(p, _)| *p == above) {
            Some((_, thing)) => *thing == Thing::Directory,
            None => self.ancestors(steps, here, &above) && self.new_directory(steps, here, &above),
        }
    }

    fn new_directory(&mut self, steps: &mut Vec<Step>, here: &mut Vec<(Vec<u8>, Thing)>, path: &[u8]) -> bool {
        let mode = self.directory_mode();
        steps.push(root(Op::Mkdir { path: Place::new(path), mode }));
        steps.push(root(Op::Chmod { path: Place::new(path), mode }));
        if self.rng.chance(30) {
            let user = Id(Some(1000));
            steps.push(root(Op::Chown { path: Place::new(path), user, group: user, link: Link::Itself }));
        }
        if !self.is_directory(path) {
            self.drop_tree(path);
        }
        here.push((path.to_vec(), Thing::Directory));
        self.put(path, Thing::Directory);
        true
    }

    /// Something new at a path whose directory is in this layer.
    fn element(&mut self, steps: &mut Vec<Step>, here: &mut Vec<(Vec<u8>, Thing)>, path: &[u8]) {
        let place = Place::new(path);
        if here.iter().any(|(p, _)| p == path) {
            return self.decorate(steps, path, here);
        }
        let other = here.iter().find(|(p, t)| *t == Thing::File && p != path).map(|(p, _)| p.clone());
        let thing = match self.rng.below(20) {
            0..=4 => {
                self.new_directory(steps, here, path);
                return;
            }
            5..=6 => return self.opaque(steps, here, path),
            7..=8 => return self.whiteout(steps, here, path),
            9..=10 if other.is_some() && self.links == Links::Everywhere => {
                let from = Place::new(other.unwrap_or_default());
                steps.push(root(Op::Link { from, to: place, link: Link::Itself }));
                Thing::File
            }
            11 => {
                let target = self.target();
                steps.push(root(Op::Symlink { path: place, target }));
                Thing::Other
            }
            12 => {
                let kind = *self.rng.pick(&[Kind::Fifo, Kind::Socket, Kind::Char(1, 3), Kind::Block(240, 7)]);
                steps.push(root(Op::Mknod { path: place, kind, mode: Mode(0o644) }));
                Thing::Other
            }
            _ => {
                let flags = OpenFlags(libc::O_WRONLY | libc::O_CREAT);
                let (offset, data) =
                    if self.rng.chance(15) { (262_144, Data { len: 100, seed: 1 }) } else { (0, self.data()) };
                steps.push(root(Op::Write { path: place, flags, offset, data }));
                Thing::File
            }
        };
        self.drop_tree(path);
        here.push((path.to_vec(), thing));
        self.put(path, thing);
        self.decorate(steps, path, here);
    }

    pub(super) fn target(&mut self) -> Bytes {
        let path = if self.rng.chance(70) { self.any() } else { b"nowhere".to_vec() };
        // From where the link is that path is somewhere else, unless the link is in the root: both are wanted.
        if self.rng.chance(20) { Bytes([b"../".as_slice(), &path].concat()) } else { Bytes(path) }
    }

    fn whiteout(&mut self, steps: &mut Vec<Step>, here: &mut Vec<(Vec<u8>, Thing)>, path: &[u8]) {
        let place = Place::new(path);
        let above = parent(path).to_vec();
        // Mostly where it hides something: elsewhere the kernel lists it, but does not find it.
        let hides = self.things.contains_key(path);
        if !hides && self.rng.chance(80) {
            return;
        }
        if hides && self.rng.chance(20) && !above.is_empty() {
            let (directory, value) = (Place::new(&above), Bytes::new("x"));
            steps.push(set(directory, b"trusted.overlay.opaque", value));
            let flags = OpenFlags(libc::O_WRONLY | libc::O_CREAT);
            steps.push(root(Op::Write { path: place.clone(), flags, offset: 0, data: Data { len: 0, seed: 0 } }));
            steps.push(set(place, b"trusted.overlay.whiteout", Bytes::new("y")));
        } else {
            steps.push(root(Op::Mknod { path: place, kind: Kind::Char(0, 0), mode: Mode(0) }));
        }
        self.drop_tree(path);
        here.push((path.to_vec(), Thing::Other));
    }

    fn opaque(&mut self, steps: &mut Vec<Step>, here: &mut Vec<(Vec<u8>, Thing)>, path: &[u8]) {
        self.things.retain(|p, _| !below(p, path));
        self.new_directory(steps, here, path);
        steps.push(set(Place::new(path), b"trusted.overlay.opaque", Bytes::new("y")));
    }

    /// Attributes of something that was just made.
    fn decorate(&mut self, steps: &mut Vec<Step>, path: &[u8], here: &[(Vec<u8>, Thing)]) {
        let Some(thing) = here.iter().find(|(p, _)| p == path).map(|(_, t)| *t) else { return };
        let place = Place::new(path);
        let link = Link::Itself;
        match self.rng.below(12) {
            0..=2 if thing != Thing::Other => {
                let mode = if thing == Thing::File { self.file_mode() } else { self.directory_mode() };
                steps.push(root(Op::Chmod { path: place, mode }));
            }
            3..=4 => {
                let (user, group) = (Id(Some(1000)), Id(Some(*self.rng.pick(&[1000, 2000, 0]))));
                steps.push(root(Op::Chown { path: place, user, group, link }));
            }
            5 if thing != Thing::Other => steps.push(set(place, b"user.one", Bytes::new("lower"))),
            6 if thing != Thing::Other => {
                let acl = self.acl();
                let kind =
                    if thing == Thing::Directory && self.rng.chance(50) { AclKind::Default } else { AclKind::Access };
                steps.push(root(Op::SetAcl { path: place, kind, acl }));
            }
            7..=8 => {
                let (access, modification) = (self.when(), self.when());
                steps.push(root(Op::Utimens {
                    path: place,
                    access: fixed(access),
                    modification: fixed(modification),
                    link,
                }));
            }
            9 if thing == Thing::File => steps.push(set(place, b"security.note", Bytes::new("s"))),
            10 => steps.push(set(place, b"trusted.note", Bytes::new("t"))),
            _ => {}
        }
    }

    pub(super) fn acl(&mut self) -> Acl {
        let mut bits = || self.rng.below(8) as u16;
        let mut entries = vec![AclEntry { tag: 1, id: None, bits: bits() | 4 }];
        entries.push(AclEntry { tag: 2, id: Some(1000), bits: bits() });
        entries.push(AclEntry { tag: 4, id: None, bits: bits() });
        entries.push(AclEntry { tag: 8, id: Some(2000), bits: bits() });
        entries.push(AclEntry { tag: 16, id: None, bits: bits() });
        entries.push(AclEntry { tag: 32, id: None, bits: bits() });
        if self.rng.chance(30) {
            entries.retain(|e| !matches!(e.tag, 2 | 8 | 16));
        }
        Acl(entries)
    }
}

fn set(path: Place, name: &[u8], value: Bytes) -> Step {
    root(Op::SetXattr { path, name: Bytes::new(name), value, flags: XattrFlags(0), link: Link::Itself })
}

/// Layers are the same whenever they are made.
fn fixed(when: When) -> When {
    if matches!(when, When::Now) { When::At(1_234_567_890, 123_456_789) } else { when }
}
