//! A file system in memory, as small and obvious as it can be: what POSIX and Linux say about objects and names, and
//! nothing of layers. What it starts from is the merged view of a case (`layers`). It shares no code with `src/overlay`.

mod acl;
pub mod layers;

use std::collections::{BTreeMap, BTreeSet};

use super::text::When;
use super::vfs::{Attr, Caller, Change, Inodes, Listed, New, Node, Result, Stamp};

/// Longest name.
const NAME_MAX: usize = 255;

const CAPABILITY: &[u8] = b"security.capability";

#[derive(Clone, Debug)]
enum Body {
    Directory {
        entries: BTreeMap<Vec<u8>, Node>,
        /// `None` once it was removed. The root is in itself.
        above: Option<Node>,
    },
    File(Vec<u8>),
    Symlink(Vec<u8>),
    /// Type, major and minor number.
    Special(u32, u32, u32),
}

#[derive(Clone, Debug)]
struct Inode {
    body: Body,
    /// Permissions.
    mode: u32,
    owner: Caller,
    mtime: Stamp,
    /// Of what is not a directory.
    nlink: u64,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Inode {
    fn kind(&self) -> u32 {
        match self.body {
            Body::Directory { .. } => libc::S_IFDIR,
            Body::File(_) => libc::S_IFREG,
            Body::Symlink(_) => libc::S_IFLNK,
            Body::Special(kind, ..) => kind,
        }
    }

    fn is_dir(&self) -> bool {
        matches!(self.body, Body::Directory { .. })
    }

    fn data(&mut self) -> Result<&mut Vec<u8>> {
        match &mut self.body {
            Body::File(data) => Ok(data),
            Body::Directory { .. } => Err(libc::EISDIR),
            _ => Err(libc::EINVAL),
        }
    }

    /// The data or the owner was changed by `caller`: capabilities go, and for ordinary users set-user-id, and set-group-id of
    /// what the group may execute or of a group that is not theirs (inode(7)).
    fn drop_privileges(&mut self, group: u32, caller: Caller) {
        self.xattrs.remove(CAPABILITY);
        if caller.uid != 0 {
            self.drop_set_id(self.mode & 0o010 != 0 || group != caller.gid);
        }
    }

    fn drop_set_id(&mut self, of_group: bool) {
        self.mode &= !libc::S_ISUID;
        if of_group {
            self.mode &= !libc::S_ISGID;
        }
    }

    /// chmod(2), which an access ACL follows.
    fn chmod(&mut self, mode: u32) {
        self.mode = mode & 0o7777;
        if let Some(acl) = self.xattrs.get_mut(acl::ACCESS) {
            acl::chmod(acl, mode);
        }
    }
}

/// The file system.
pub struct Model {
    /// The root is the first. None is ever freed.
    inodes: Vec<Inode>,
}

impl Model {
    /// An empty root that everybody can use, as `stack::fresh_directory` makes it.
    pub fn new(owner: Caller) -> Self {
        let body = Body::Directory { entries: BTreeMap::new(), above: Some(0) };
        let mtime = layers::stamp(0);
        let root = Inode { body, mode: 0o777, owner, mtime, nlink: 1, xattrs: BTreeMap::new() };
        Self { inodes: vec![root] }
    }

    fn at(&self, node: Node) -> &Inode {
        &self.inodes[node as usize]
    }

    fn at_mut(&mut self, node: Node) -> &mut Inode {
        &mut self.inodes[node as usize]
    }

    fn add(&mut self, inode: Inode) -> Node {
        self.inodes.push(inode);
        self.inodes.len() as Node - 1
    }

    fn entries(&self, directory: Node) -> Result<&BTreeMap<Vec<u8>, Node>> {
        match &self.at(directory).body {
            Body::Directory { entries, .. } => Ok(entries),
            _ => Err(libc::ENOTDIR),
        }
    }

    fn above(&self, directory: Node) -> Option<Node> {
        match self.at(directory).body {
            Body::Directory { above, .. } => above,
            _ => None,
        }
    }

    fn get(&self, directory: Node, name: &[u8]) -> Result<Node> {
        let entries = self.entries(directory)?;
        if name.len() > NAME_MAX {
            return Err(libc::ENAMETOOLONG);
        }
        entries.get(name).copied().ok_or(libc::ENOENT)
    }

    /// Whether a new name can come into a directory.
    fn free(&self, directory: Node, name: &[u8]) -> Result<()> {
        match self.get(directory, name) {
            Ok(_) => Err(libc::EEXIST),
            Err(libc::ENOENT) if self.above(directory).is_some() => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Puts an object under a name, in place of what was there, or takes the name away.
    fn put(&mut self, directory: Node, name: &[u8], node: Option<Node>) {
        let inode = self.at_mut(directory);
        inode.mtime = Stamp::Now;
        if let Body::Directory { entries, .. } = &mut inode.body {
            match node {
                Some(node) => entries.insert(name.to_vec(), node),
                None => entries.remove(name),
            };
        }
        if let Some(node) = node
            && let Body::Directory { above, .. } = &mut self.at_mut(node).body
        {
            *above = Some(directory);
        }
    }

    /// An object lost a name.
    fn unnamed(&mut self, node: Node) {
        let inode = self.at_mut(node);
        inode.nlink -= 1;
        if let Body::Directory { above, .. } = &mut inode.body {
            *above = None;
        }
    }

    /// Whether a directory is `node` or lies below it.
    fn is_in(&self, mut directory: Node, node: Node) -> bool {
        while directory != node {
            match self.above(directory) {
                Some(above) if above != directory => directory = above,
                _ => return false,
            }
        }
        true
    }

    /// What rename(2) refuses. The order matters: several may be true.
    fn check_rename(&self, from: Node, to: Node, source: Node, target: Option<Node>, flags: u32) -> Result<()> {
        let exchange = flags & libc::RENAME_EXCHANGE != 0;
        let Some(target) = target else {
            return match exchange {
                true => Err(libc::ENOENT),
                false if self.is_in(to, source) => Err(libc::EINVAL),
                false if self.above(to).is_none() => Err(libc::ENOENT),
                false => Ok(()),
            };
        };
        if flags & libc::RENAME_NOREPLACE != 0 {
            return Err(libc::EEXIST);
        }
        if self.is_in(to, source) {
            return Err(libc::EINVAL);
        }
        if self.is_in(from, target) {
            return Err(if exchange { libc::EINVAL } else { libc::ENOTEMPTY });
        }
        match (self.at(source).is_dir(), self.at(target).is_dir()) {
            _ if exchange || source == target => Ok(()),
            (false, true) => Err(libc::EISDIR),
            (true, false) => Err(libc::ENOTDIR),
            (_, true) if !self.entries(target)?.is_empty() => Err(libc::ENOTEMPTY),
            _ => Ok(()),
        }
    }

    pub fn clear_xattrs(&mut self, node: Node) {
        self.at_mut(node).xattrs.clear();
    }

    fn set_acl(&mut self, node: Node, name: &[u8], value: &[u8], caller: Caller) -> Result<()> {
        let inode = self.at_mut(node);
        if name == acl::DEFAULT {
            if !inode.is_dir() {
                return Err(libc::EACCES);
            }
            inode.xattrs.insert(name.to_vec(), value.to_vec());
            return Ok(());
        }
        inode.mode = inode.mode & 0o7000 | acl::mode(value);
        if caller.uid != 0 && caller.gid != inode.owner.gid {
            inode.mode &= !libc::S_ISGID;
        }
        if acl::says_more_than_a_mode(value) {
            inode.xattrs.insert(name.to_vec(), value.to_vec());
        } else {
            inode.xattrs.remove(name);
        }
        Ok(())
    }
}

/// Other attributes no file system knows (xattr(7)).
fn check_xattr(name: &[u8]) -> Result<()> {
    let known = [b"user.".as_slice(), b"trusted.", b"security."].iter().any(|prefix| name.starts_with(prefix));
    if known || name == acl::ACCESS || name == acl::DEFAULT { Ok(()) } else { Err(libc::EOPNOTSUPP) }
}

impl Inodes for Model {
    /// The last name that came.
    type Cookie = Vec<u8>;

    fn root(&self) -> Node {
        0
    }

    fn lookup(&mut self, directory: Node, name: &[u8]) -> Result<Node> {
        self.get(directory, name)
    }

    fn attr(&self, node: Node) -> Result<Attr> {
        let inode = self.at(node);
        let Inode { mode, owner, mtime, nlink, .. } = *inode;
        let (size, rdev) = match &inode.body {
            Body::Directory { .. } => (0, (0, 0)),
            Body::File(bytes) | Body::Symlink(bytes) => (bytes.len() as u64, (0, 0)),
            Body::Special(_, major, minor) => (0, (*major, *minor)),
        };
        Ok(Attr { mode: inode.kind() | mode, uid: owner.uid, gid: owner.gid, size, nlink, rdev, mtime })
    }

    fn create(&mut self, at: (Node, &[u8]), new: New<'_>, mode: u32, umask: u32, caller: Caller) -> Result<Node> {
        let (directory, name) = at;
        self.free(directory, name)?;
        let above = self.at(directory);
        let set_gid = above.mode & libc::S_ISGID;
        let default = above.xattrs.get(acl::DEFAULT).cloned();
        let owner = Caller { uid: caller.uid, gid: if set_gid == 0 { caller.gid } else { above.owner.gid } };
        let body = match new {
            New::File => Body::File(Vec::new()),
            New::Directory => Body::Directory { entries: BTreeMap::new(), above: None },
            New::Symlink(target) => Body::Symlink(target.to_vec()),
            New::Node(kind, major, minor) => Body::Special(kind, major, minor),
        };
        let mut inode = Inode { body, mode, owner, mtime: Stamp::Now, nlink: 1, xattrs: BTreeMap::new() };
        match default {
            _ if matches!(new, New::Symlink(_)) => {}
            None => inode.mode &= !umask,
            Some(default) => {
                let (mode, access) = acl::inherit(&default, mode);
                inode.mode = mode;
                inode.xattrs.extend(access.map(|acl| (acl::ACCESS.to_vec(), acl)));
                if inode.is_dir() {
                    inode.xattrs.insert(acl::DEFAULT.to_vec(), default);
                }
            }
        }
        if inode.is_dir() {
            inode.mode |= set_gid;
        }
        let node = self.add(inode);
        self.put(directory, name, Some(node));
        Ok(node)
    }

    fn link(&mut self, node: Node, directory: Node, name: &[u8]) -> Result<()> {
        self.free(directory, name)?;
        if self.at(node).nlink == 0 {
            return Err(libc::ENOENT);
        }
        self.at_mut(node).nlink += 1;
        self.put(directory, name, Some(node));
        Ok(())
    }

    fn unlink(&mut self, directory: Node, name: &[u8]) -> Result<()> {
        let node = self.get(directory, name)?;
        if self.at(node).is_dir() {
            return Err(libc::EISDIR);
        }
        self.put(directory, name, None);
        self.unnamed(node);
        Ok(())
    }

    fn rmdir(&mut self, directory: Node, name: &[u8]) -> Result<()> {
        let node = self.get(directory, name)?;
        if !self.entries(node)?.is_empty() {
            return Err(libc::ENOTEMPTY);
        }
        self.put(directory, name, None);
        self.unnamed(node);
        Ok(())
    }

    fn rename(&mut self, from: (Node, &[u8]), to: (Node, &[u8]), flags: u32, caller: Caller) -> Result<()> {
        let source = self.get(from.0, from.1)?;
        let target = match self.get(to.0, to.1) {
            Ok(target) => Some(target),
            Err(libc::ENOENT) => None,
            Err(errno) => return Err(errno),
        };
        self.check_rename(from.0, to.0, source, target, flags)?;
        if target == Some(source) {
            return Ok(());
        }
        let exchange = flags & libc::RENAME_EXCHANGE != 0;
        self.put(from.0, from.1, target.filter(|_| exchange));
        self.put(to.0, to.1, Some(source));
        if let Some(target) = target.filter(|_| !exchange) {
            self.unnamed(target);
        }
        if flags & libc::RENAME_WHITEOUT != 0 {
            self.create(from, New::Node(libc::S_IFCHR, 0, 0), 0, 0, caller)?;
        }
        Ok(())
    }

    fn change(&mut self, node: Node, change: &Change, caller: Caller) -> Result<()> {
        let inode = self.at_mut(node);
        if let Some(size) = change.size {
            inode.data()?.resize(size as usize, 0);
            inode.mtime = Stamp::Now;
            inode.drop_privileges(inode.owner.gid, caller);
        }
        if change.uid.is_some() || change.gid.is_some() {
            let before = inode.owner.gid;
            inode.owner.uid = change.uid.unwrap_or(inode.owner.uid);
            inode.owner.gid = change.gid.unwrap_or(before);
            if !inode.is_dir() {
                inode.drop_privileges(before, caller);
                // By root as well, but for set-group-id that does not mean execution.
                inode.drop_set_id(inode.mode & 0o010 != 0);
            }
        }
        if let Some(mode) = change.mode {
            inode.chmod(mode);
        }
        match change.mtime {
            When::Omit => {}
            When::Now => inode.mtime = Stamp::Now,
            When::At(seconds, nanoseconds) => inode.mtime = Stamp::At(seconds, nanoseconds),
        }
        Ok(())
    }

    fn read(&self, node: Node, offset: u64, len: u64) -> Result<Vec<u8>> {
        match &self.at(node).body {
            Body::File(data) => {
                let start = data.len().min(offset as usize);
                Ok(data[start..data.len().min(start + len as usize)].to_vec())
            }
            _ => Err(libc::EINVAL),
        }
    }

    fn write(&mut self, node: Node, offset: u64, bytes: &[u8], caller: Caller) -> Result<()> {
        let inode = self.at_mut(node);
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        let data = inode.data()?;
        data.resize(data.len().max(end), 0);
        data[start..end].copy_from_slice(bytes);
        inode.mtime = Stamp::Now;
        inode.drop_privileges(inode.owner.gid, caller);
        Ok(())
    }

    fn fallocate(&mut self, node: Node, mode: i32, offset: u64, len: u64, caller: Caller) -> Result<()> {
        let inode = self.at_mut(node);
        let data = inode.data()?;
        let end = (offset + len) as usize;
        if mode & libc::FALLOC_FL_KEEP_SIZE == 0 {
            data.resize(data.len().max(end), 0);
        }
        if mode & (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE) != 0 {
            let end = data.len().min(end);
            data[(offset as usize).min(end)..end].fill(0);
        }
        inode.mtime = Stamp::Any;
        inode.drop_privileges(inode.owner.gid, caller);
        Ok(())
    }

    fn copy_range(&mut self, from: (Node, u64), to: (Node, u64), len: u64, caller: Caller) -> Result<u64> {
        let bytes = self.read(from.0, from.1, len)?;
        if !bytes.is_empty() {
            self.write(to.0, to.1, &bytes, caller)?;
        }
        Ok(bytes.len() as u64)
    }

    fn sync(&mut self, _node: Node, _data_only: bool) -> Result<()> {
        Ok(())
    }

    fn sync_all(&mut self) -> Result<()> {
        Ok(())
    }

    fn read_link(&self, node: Node) -> Result<Vec<u8>> {
        match &self.at(node).body {
            Body::Symlink(target) => Ok(target.clone()),
            _ => Err(libc::EINVAL),
        }
    }

    fn list(&self, directory: Node, after: &Vec<u8>, count: usize) -> Result<Vec<Listed<Vec<u8>>>> {
        let rest = self.entries(directory)?.iter().filter(|(name, _)| *name > after).take(count);
        let listed = |(name, node): (&Vec<u8>, &Node)| Listed {
            name: name.clone(),
            number: *node,
            kind: self.at(*node).kind(),
            cookie: name.clone(),
        };
        Ok(rest.map(listed).collect())
    }

    fn get_xattr(&self, node: Node, name: &[u8]) -> Result<Vec<u8>> {
        check_xattr(name)?;
        self.at(node).xattrs.get(name).cloned().ok_or(libc::ENODATA)
    }

    fn list_xattr(&self, node: Node, caller: Caller) -> Result<Vec<Vec<u8>>> {
        let names = self.at(node).xattrs.keys();
        Ok(names.filter(|name| caller.uid == 0 || !name.starts_with(b"trusted.")).cloned().collect())
    }

    fn set_xattr(&mut self, node: Node, name: &[u8], value: &[u8], flags: i32, caller: Caller) -> Result<()> {
        check_xattr(name)?;
        if name == acl::ACCESS || name == acl::DEFAULT {
            return self.set_acl(node, name, value, caller);
        }
        let xattrs = &mut self.at_mut(node).xattrs;
        match (flags, xattrs.contains_key(name)) {
            (libc::XATTR_CREATE, true) => Err(libc::EEXIST),
            (libc::XATTR_REPLACE, false) => Err(libc::ENODATA),
            _ => {
                xattrs.insert(name.to_vec(), value.to_vec());
                Ok(())
            }
        }
    }

    fn remove_xattr(&mut self, node: Node, name: &[u8]) -> Result<()> {
        check_xattr(name)?;
        let removed = self.at_mut(node).xattrs.remove(name).is_some();
        // An ACL that is not there can be removed.
        if removed || name == acl::ACCESS || name == acl::DEFAULT { Ok(()) } else { Err(libc::ENODATA) }
    }

    fn settle(&mut self, _held: &BTreeSet<Node>) {}
}
