//! Steps by path.

use super::super::ops::Op;
use super::super::text::{AclKind, Kind, Link, Place, RenameFlags, When};
use super::paths::Last;
use super::{Caller, Change, Inodes, New, Node, Outcome, Result, Vfs, describe};

/// Groups of Alice besides her own, as in `side`.
const ALICE: (u32, u32) = (1000, 2000);

pub(super) fn done<T>(_: T) -> String {
    String::new()
}

pub(super) fn hex(value: &[u8]) -> String {
    value.iter().map(|b| format!("{b:02x}")).collect()
}

pub(super) fn show_names(mut names: Vec<Vec<u8>>) -> String {
    names.sort();
    names.iter().map(|n| n.escape_ascii().to_string()).collect::<Vec<_>>().join(" ")
}

fn follow(link: Link) -> bool {
    link == Link::Follow
}

pub fn acl_name(kind: AclKind) -> &'static [u8] {
    match kind {
        AclKind::Access => b"system.posix_acl_access",
        AclKind::Default => b"system.posix_acl_default",
    }
}

impl<F: Inodes> Vfs<F> {
    pub(super) fn act(&mut self, op: &Op, caller: Caller) -> Outcome {
        match op {
            Op::Mkdir { .. } | Op::Mknod { .. } | Op::Symlink { .. } => self.make(op, caller),
            Op::Link { from, to, link } => {
                let node = self.find(from, follow(*link))?;
                self.link(node, to)
            }
            Op::LinkSlot { slot, to } => {
                let node = self.held(*slot)?.node;
                self.link(node, to)
            }
            Op::Unlink { path } => {
                let split = self.split(path)?;
                let name = split.name(libc::EISDIR)?;
                self.unlink_at(split.directory, name, split.slash)
            }
            Op::Rmdir { path } => {
                let split = self.split(path)?;
                let errno = if split.last == Last::Dot { libc::EINVAL } else { libc::ENOTEMPTY };
                self.files.rmdir(split.directory, split.name(errno)?).map(done)
            }
            Op::Rename { from, to, flags } => self.rename(from, to, *flags, caller),
            Op::RemoveTree { path } => {
                let mut errors = Vec::new();
                match self.split(path).and_then(|split| Ok((split.directory, split.name(libc::EINVAL)?.to_vec()))) {
                    Ok((directory, name)) => self.remove_tree(directory, &name, &mut errors),
                    Err(errno) => errors.push((path.path.escape_ascii().to_string(), errno)),
                }
                Ok(format!("{errors:?}"))
            }
            Op::Stat { path, link } => {
                let node = self.find(path, follow(*link))?;
                Ok(describe(&self.files.attr(node)?))
            }
            Op::Readlink { path } => {
                let node = self.find(path, false)?;
                Ok(self.files.read_link(node)?.escape_ascii().to_string())
            }
            Op::List { path } => {
                let node = self.find(path, true)?;
                self.needs_directory(node)?;
                let mut entries = self.files.list(node, &F::Cookie::default(), usize::MAX)?;
                entries.sort_by(|a, b| a.name.cmp(&b.name));
                let show = |e: &super::Listed<F::Cookie>| format!("{}:{:o}", e.name.escape_ascii(), e.kind);
                Ok(entries.iter().map(show).collect::<Vec<_>>().join(" "))
            }
            Op::Chmod { .. } | Op::Chown { .. } | Op::Utimens { .. } | Op::Truncate { .. } => {
                self.attributes(op, caller)
            }
            Op::Open { slot, path, flags, mode } => self.open(*slot, path, *flags, mode.0, caller),
            Op::Write { path, flags, offset, data } => {
                let node = self.open_node(path, flags.0, 0o666, caller)?;
                let append = flags.has(libc::O_APPEND);
                let at = if append { self.files.attr(node)?.size } else { *offset };
                self.write_file(node, at, &data.bytes(), caller)
            }
            Op::Read { path, offset, len } => {
                let node = self.open_node(path, libc::O_RDONLY, 0, caller)?;
                self.read_file(node, *offset, *len)
            }
            Op::SyncAll {} => self.files.sync_all().map(done),
            Op::Check {} | Op::Remount {} | Op::Rotate {} | Op::Swap {} => Ok(String::new()),
            _ if super::left_out(op) => Ok(String::new()),
            Op::SetXattr { .. }
            | Op::GetXattr { .. }
            | Op::ListXattr { .. }
            | Op::RemoveXattr { .. }
            | Op::SetAcl { .. }
            | Op::GetAcl { .. }
            | Op::RemoveAcl { .. } => self.extended(op, caller),
            _ => self.on_descriptor(op, caller),
        }
    }

    /// An executable set-group-id file in a set-group-id directory is not for those outside of its group
    /// (`mode_strip_sgid` of the kernel).
    pub(super) fn strip_set_gid(&self, directory: Node, mode: u32, caller: Caller) -> Result<u32> {
        let above = self.files.attr(directory)?;
        let member = caller.gid == above.gid || (caller.uid, above.gid) == ALICE;
        let strip = mode & 0o2010 == 0o2010 && above.mode & libc::S_ISGID != 0 && !member && caller.uid != 0;
        Ok(if strip { mode & !libc::S_ISGID } else { mode })
    }

    /// Where a new name goes. `slash`: a slash may follow it.
    fn new_name(&mut self, place: &Place, slash: bool) -> Result<(Node, Vec<u8>)> {
        let split = self.split(place)?;
        let name = split.name(libc::EEXIST)?.to_vec();
        if split.slash && !slash {
            return Err(self.child(split.directory, &name).map_or_else(|errno| errno, |_| libc::EEXIST));
        }
        Ok((split.directory, name))
    }

    fn make(&mut self, op: &Op, caller: Caller) -> Outcome {
        let (path, new, mode) = match op {
            // mkdir(2) takes no set-id bits.
            Op::Mkdir { path, mode } => (path, New::Directory, mode.0 & 0o1777),
            Op::Symlink { path, target } => (path, New::Symlink(&target.0), 0o777),
            Op::Mknod { path, kind, mode } => {
                let new = match *kind {
                    Kind::File => New::File,
                    Kind::Fifo => New::Node(libc::S_IFIFO, 0, 0),
                    Kind::Socket => New::Node(libc::S_IFSOCK, 0, 0),
                    Kind::Char(major, minor) => New::Node(libc::S_IFCHR, major, minor),
                    Kind::Block(major, minor) => New::Node(libc::S_IFBLK, major, minor),
                };
                (path, new, mode.0 & 0o7777)
            }
            _ => unreachable!("makes nothing: {op:?}"),
        };
        if matches!(new, New::Symlink(b"")) {
            return Err(libc::ENOENT);
        }
        let (directory, name) = self.new_name(path, matches!(new, New::Directory))?;
        let umask = if matches!(new, New::Symlink(_)) { 0 } else { self.umask };
        let mode = self.strip_set_gid(directory, mode, caller)?;
        self.files.create((directory, &name), new, mode, umask, caller).map(done)
    }

    fn link(&mut self, node: Node, to: &Place) -> Outcome {
        let (directory, name) = self.new_name(to, false)?;
        let attr = self.files.attr(node)?;
        // The new name is looked at first.
        if attr.is_dir() || attr.nlink == 0 {
            return match self.child(directory, &name) {
                Ok(_) => Err(libc::EEXIST),
                Err(libc::ENOENT) if attr.is_dir() => Err(libc::EPERM),
                Err(libc::ENOENT) => self.files.link(node, directory, &name).map(done),
                Err(errno) => Err(errno),
            };
        }
        self.files.link(node, directory, &name).map(done)
    }

    fn unlink_at(&mut self, directory: Node, name: &[u8], slash: bool) -> Outcome {
        if slash {
            let child = self.child(directory, name)?;
            return Err(if self.files.attr(child)?.is_dir() { libc::EISDIR } else { libc::ENOTDIR });
        }
        self.files.unlink(directory, name).map(done)
    }

    /// The calls of rm -r, in the order of names; notes each errno.
    fn remove_tree(&mut self, directory: Node, name: &[u8], errors: &mut Vec<(String, i32)>) {
        let mut note = |result: Result<()>| {
            if let Err(errno) = result {
                errors.push((name.escape_ascii().to_string(), errno));
            }
        };
        match self.files.unlink(directory, name) {
            Err(libc::EISDIR) => {}
            other => return note(other),
        }
        let opened = self.child(directory, name);
        let listed = opened.and_then(|node| Ok((node, self.files.list(node, &F::Cookie::default(), usize::MAX)?)));
        match listed {
            Err(errno) => note(Err(errno)),
            Ok((node, mut entries)) => {
                entries.sort_by(|a, b| a.name.cmp(&b.name));
                entries.iter().for_each(|entry| self.remove_tree(node, &entry.name, errors));
            }
        }
        if let Err(errno) = self.files.rmdir(directory, name) {
            errors.push((name.escape_ascii().to_string(), errno));
        }
    }

    fn rename(&mut self, from: &Place, to: &Place, flags: RenameFlags, caller: Caller) -> Outcome {
        let exchange = flags.has(libc::RENAME_EXCHANGE);
        if exchange && flags.0 != libc::RENAME_EXCHANGE {
            return Err(libc::EINVAL);
        }
        let (from, to) = (self.split(from)?, self.split(to)?);
        let old = from.name(libc::EBUSY)?;
        let taken = if flags.has(libc::RENAME_NOREPLACE) { libc::EEXIST } else { libc::EBUSY };
        let new = to.name(taken)?;
        let source = self.child(from.directory, old)?;
        let target = match self.child(to.directory, new) {
            Ok(target) => Some(target),
            Err(libc::ENOENT) => None,
            Err(errno) => return Err(errno),
        };
        let is_dir = |node: Node| self.files.attr(node).map(|attr| attr.is_dir());
        let slash = (from.slash || !exchange && to.slash) && !is_dir(source)?
            || exchange && to.slash && !target.map_or(Ok(true), is_dir)?;
        if slash && !(flags.has(libc::RENAME_NOREPLACE) && target.is_some()) {
            return Err(libc::ENOTDIR);
        }
        self.files.rename((from.directory, old), (to.directory, new), flags.0, caller)?;
        if self.above.contains_key(&source) && target != Some(source) {
            self.above.insert(source, to.directory);
        }
        if let Some(target) = target.filter(|t| exchange && self.above.contains_key(t)) {
            self.above.insert(target, from.directory);
        }
        Ok(String::new())
    }

    fn attributes(&mut self, op: &Op, caller: Caller) -> Outcome {
        match op {
            Op::Chmod { path, mode } => {
                let node = self.find(path, true)?;
                self.files.change(node, &Change { mode: Some(mode.0), ..Change::default() }, caller).map(done)
            }
            Op::Chown { path, user, group, link } => {
                let node = self.find(path, follow(*link))?;
                self.files.change(node, &Change { uid: user.0, gid: group.0, ..Change::default() }, caller).map(done)
            }
            Op::Utimens { path, access, modification, link } => {
                let node = self.find(path, follow(*link))?;
                self.set_times(node, *access, *modification, caller)
            }
            Op::Truncate { path, len } => {
                let node = self.find(path, true)?;
                match self.files.attr(node)?.kind() {
                    libc::S_IFREG => {}
                    libc::S_IFDIR => return Err(libc::EISDIR),
                    _ => return Err(libc::EINVAL),
                }
                self.files.change(node, &Change { size: Some(*len), ..Change::default() }, caller).map(done)
            }
            _ => unreachable!("not an attribute: {op:?}"),
        }
    }

    pub(super) fn set_times(&mut self, node: Node, atime: When, mtime: When, caller: Caller) -> Outcome {
        if (atime, mtime) != (When::Omit, When::Omit) {
            self.files.change(node, &Change { atime, mtime, ..Change::default() }, caller)?;
        }
        Ok(String::new())
    }

    /// Only files and directories have attributes of users; others answer with the errno given (`xattr_permission` of the
    /// kernel).
    pub(super) fn user_xattr(&self, node: Node, name: &[u8], errno: i32) -> Result<()> {
        let plain = [libc::S_IFREG, libc::S_IFDIR].contains(&self.files.attr(node)?.kind());
        if plain || !name.starts_with(b"user.") { Ok(()) } else { Err(errno) }
    }

    fn extended(&mut self, op: &Op, caller: Caller) -> Outcome {
        match op {
            Op::SetXattr { path, name, value, flags, link } => {
                let node = self.find(path, follow(*link))?;
                self.user_xattr(node, &name.0, libc::EPERM)?;
                self.files.set_xattr(node, &name.0, &value.0, flags.0, caller).map(done)
            }
            Op::GetXattr { path, name, link } => {
                let node = self.find(path, follow(*link))?;
                self.user_xattr(node, &name.0, libc::ENODATA)?;
                Ok(hex(&self.files.get_xattr(node, &name.0)?))
            }
            Op::ListXattr { path, link } => {
                let node = self.find(path, follow(*link))?;
                Ok(show_names(self.files.list_xattr(node, caller)?))
            }
            Op::RemoveXattr { path, name, link } => {
                let node = self.find(path, follow(*link))?;
                self.user_xattr(node, &name.0, libc::EPERM)?;
                self.files.remove_xattr(node, &name.0).map(done)
            }
            Op::SetAcl { path, kind, acl } => {
                let node = self.find(path, true)?;
                self.files.set_xattr(node, acl_name(*kind), &acl.value(), 0, caller).map(done)
            }
            Op::GetAcl { path, kind } => {
                let node = self.find(path, true)?;
                Ok(hex(&self.files.get_xattr(node, acl_name(*kind))?))
            }
            Op::RemoveAcl { path, kind } => {
                let node = self.find(path, true)?;
                self.files.remove_xattr(node, acl_name(*kind)).map(done)
            }
            _ => unreachable!("not an extended attribute: {op:?}"),
        }
    }
}
