//! One method for each FUSE operation.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileAttr, FileHandle, FopenFlags, Generation, INodeNo, InitFlags,
    IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
    Request, TimeOrNow, WriteFlags,
};

use super::about;
use super::adapter::{Adapter, FOR_EVER, c_name, done, found, new_owner, value};
use super::convert::{errno, file_type, major_minor, no_node, node, set_time, shown};
use super::ioctl;
use super::open::{Way, Wish};
use super::requests::Kind;
use crate::overlay::{Change, Error, Listed, New, RenameMode};

/// Files are known by their inodes, also where they are opened by us.
const NO_HANDLE: FileHandle = FileHandle(0);

/// Files are opened like this through the page cache. Pages are right whenever there are any: where others write behind them,
/// opening drops them. Nothing is to be done at a close.
const CACHED: FopenFlags = FopenFlags::FOPEN_KEEP_CACHE.union(FopenFlags::FOPEN_NOFLUSH);

/// And like this for passthrough.
const PASSED_THROUGH: FopenFlags = FopenFlags::FOPEN_NOFLUSH;

/// Directories, where the kernel does not open them by itself, as it would.
const DIRECTORY: FopenFlags = FopenFlags::FOPEN_KEEP_CACHE.union(FopenFlags::FOPEN_CACHE_DIR);

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl fuser::Filesystem for Adapter {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        self.agree(config)
    }

    fn destroy(&mut self) {
        if let Err(e) = self.overlay.end() {
            log::error!("tidying up and writing upper to the disk at unmount: {e}");
        }
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.requests.count(Kind::Lookup);
        match self.overlay.lookup(parent.0, name) {
            Err(Error::NotFound) => reply.entry(&FOR_EVER, &no_node(), Generation(0)),
            result => self.entry("lookup", result, reply),
        }
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.requests.count(Kind::Forget);
        if let Some(files) = &self.files {
            files.forget(ino.0);
        }
        self.overlay.forget(ino.0, nlookup);
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        self.requests.count(Kind::GetAttr);
        self.attributes("getattr", self.overlay.get_attr(ino.0), reply);
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.requests.count(Kind::SetAttr);
        let (Ok(uid), Ok(gid)) = (new_owner(&self.ids.users, uid), new_owner(&self.ids.groups, gid)) else {
            return reply.error(errno("setattr", Error::NotMapped));
        };
        let change = Change { mode, uid, gid, size, atime: atime.map(set_time), mtime: mtime.map(set_time) };
        let unseen = change.is_empty() && self.files.as_ref().is_some_and(|files| files.written_unseen(ino.0));
        let caller = self.caller(req);
        if unseen {
            return self.attributes("setattr", self.overlay.before_unseen_write(ino.0, caller), reply);
        }
        match &self.pages {
            // Where writes are collected the kernel writes them before it asks.
            Some(pages) if !self.writeback && change.sets_mtime() && self.overlay.may_have_pages(ino.0) => {
                if let Err(e) = self.overlay.prepare_set_attr(ino.0) {
                    return reply.error(errno("setattr", e));
                }
                let ids = self.ids.clone();
                // A file can be opened to be written unseen meanwhile.
                let valid = if self.files.is_some() { &Duration::ZERO } else { &FOR_EVER };
                pages.after_writing(ino, &self.overlay, move |overlay| {
                    match overlay.set_attr(ino.0, &change, caller) {
                        Ok(attr) => reply.attr(valid, &shown(&attr, &ids)),
                        Err(e) => reply.error(errno("setattr", e)),
                    }
                });
            }
            _ => self.attributes("setattr", self.overlay.set_attr(ino.0, &change, caller), reply),
        }
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        self.requests.count(Kind::ReadLink);
        match self.overlay.read_link(ino.0) {
            Ok(target) => reply.data(&target),
            Err(e) => reply.error(errno("readlink", e)),
        }
    }

    fn mknod(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, rdev: u32, reply: ReplyEntry) {
        self.requests.count(Kind::Mknod);
        let kind = mode & libc::S_IFMT;
        let (major, minor) = major_minor(rdev);
        let new = if kind == libc::S_IFREG { New::File } else { New::Node(kind, major, minor) };
        let made = self.maker(req).and_then(|maker| self.overlay.create(parent.0, name, new, mode, umask, maker));
        self.entry("mknod", made, reply);
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        self.requests.count(Kind::Mkdir);
        let new = New::Directory;
        let made = self.maker(req).and_then(|maker| self.overlay.create(parent.0, name, new, mode, umask, maker));
        self.entry("mkdir", made, reply);
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.requests.count(Kind::Unlink);
        done("unlink", self.overlay.unlink(parent.0, name), reply);
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.requests.count(Kind::Rmdir);
        done("rmdir", self.overlay.rmdir(parent.0, name), reply);
    }

    fn symlink(&self, req: &Request, parent: INodeNo, link_name: &OsStr, target: &Path, reply: ReplyEntry) {
        self.requests.count(Kind::Symlink);
        let new = New::Symlink(target.as_os_str());
        let made = self.maker(req).and_then(|maker| self.overlay.create(parent.0, link_name, new, 0o777, 0, maker));
        self.entry("symlink", made, reply);
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        self.requests.count(Kind::Rename);
        let whiteout = flags.contains(RenameFlags::RENAME_WHITEOUT);
        let mode = match flags - RenameFlags::RENAME_WHITEOUT {
            RenameFlags::RENAME_NOREPLACE => RenameMode::NoReplace,
            RenameFlags::RENAME_EXCHANGE if !whiteout => RenameMode::Exchange,
            rest if rest.is_empty() => RenameMode::Replace,
            _ => return reply.error(Errno::EINVAL),
        };
        let renamed = if whiteout {
            let (old, new) = ((parent.0, name), (newparent.0, newname));
            self.maker(req).and_then(|maker| self.overlay.rename_leaving_whiteout(old, new, mode, maker))
        } else {
            self.overlay.rename(parent.0, name, newparent.0, newname, mode)
        };
        done("rename", renamed, reply);
    }

    fn link(&self, _req: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        self.requests.count(Kind::Link);
        self.entry("link", self.overlay.link(ino.0, newparent.0, newname), reply);
    }

    fn open(&self, req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.requests.count(Kind::Open);
        let Some(files) = &self.files else {
            return match self.capabilities.used(InitFlags::FUSE_NO_OPEN_SUPPORT) {
                // From now on the kernel opens files without asking.
                true => reply.error(Errno::ENOSYS),
                false => reply.opened(NO_HANDLE, CACHED),
            };
        };
        let way = files.open(&self.overlay, ino.0, flags.into(), self.caller(req), |fd| reply.open_backing(fd));
        if matches!(way, Ok(Way::Passthrough(_))) && files.changes_unseen(ino.0) {
            self.forget_attributes(ino);
        }
        match way {
            Ok(Way::Passthrough(id)) => reply.opened_passthrough(NO_HANDLE, PASSED_THROUGH, &id),
            Ok(Way::Cached) => reply.opened(NO_HANDLE, CACHED),
            Err(e) => reply.error(errno("open", e)),
        }
    }

    fn release(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.requests.count(Kind::Release);
        if self.files.as_ref().is_some_and(|files| files.release(ino.0, flags)) {
            self.forget_attributes(ino);
        }
        reply.ok();
    }

    fn opendir(&self, _req: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.requests.count(Kind::OpenDir);
        match self.capabilities.used(InitFlags::FUSE_NO_OPENDIR_SUPPORT) {
            true => reply.error(Errno::ENOSYS),
            false => reply.opened(NO_HANDLE, DIRECTORY),
        }
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        self.requests.count(Kind::Create);
        let Some(files) = &self.files else {
            // The kernel makes files with MKNOD then: one round trip, and no handle to release.
            return reply.error(Errno::ENOSYS);
        };
        let made = self.maker(req).and_then(|maker| {
            let attr = self.overlay.create(parent.0, name, New::File, mode, umask, maker)?;
            let wish = Wish::from(OpenFlags(flags)).of_new();
            let way = files.open(&self.overlay, attr.ino, wish, maker, |fd| reply.open_backing(fd));
            // The kernel never learns of the file then; it stays, as it does where opening a new file fails elsewhere.
            Ok((attr, way.inspect_err(|_| self.overlay.forget(attr.ino, 1))?))
        });
        match made {
            Ok((attr, way)) => {
                let (valid, attr, none) = (self.valid(attr.ino), node(&attr, &self.ids), Generation(0));
                match way {
                    Way::Passthrough(id) => {
                        reply.created_passthrough(valid, &attr, none, NO_HANDLE, PASSED_THROUGH, &id);
                    }
                    Way::Cached => reply.created(valid, &attr, none, NO_HANDLE, CACHED),
                }
            }
            Err(e) => reply.error(errno("create", e)),
        }
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.requests.count(Kind::Read);
        BUFFER.with_borrow_mut(|buffer| {
            if buffer.len() < size as usize {
                buffer.resize(size as usize, 0);
            }
            match self.overlay.read(ino.0, offset, &mut buffer[..size as usize]) {
                Ok(n) => reply.data(&buffer[..n]),
                Err(e) => reply.error(errno("read", e)),
            }
        });
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.requests.count(Kind::Write);
        // Where the kernel does not say whether bits have to go it takes away most of them itself.
        let told = self.capabilities.used(InitFlags::FUSE_HANDLE_KILLPRIV_V2);
        let writer = match told {
            true => write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID).then(|| self.caller(req)),
            false => self.ordinary_caller(req),
        };
        if write_flags.contains(WriteFlags::FUSE_WRITE_CACHE) {
            self.overlay.note_pages(ino.0);
        }
        match self.before_write(ino, writer).and_then(|()| self.overlay.write(ino.0, offset, data)) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(e) => reply.error(errno("write", e)),
        }
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        self.requests.count(Kind::Flush);
        // Dirty pages were written before; there is nothing else to do at a close, so the kernel need not ask.
        reply.error(Errno::ENOSYS);
    }

    fn fsync(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, datasync: bool, reply: ReplyEmpty) {
        self.requests.count(Kind::Fsync);
        done("fsync", self.overlay.fsync(ino.0, datasync), reply);
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        self.requests.count(Kind::ReadDir);
        let listed = self.overlay.read_dir(ino.0, offset, false, &mut |e: &Listed<'_>| {
            !reply.add(INodeNo(e.ino), e.cookie, file_type(e.kind), e.name)
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(errno("readdir", e)),
        }
    }

    fn readdirplus(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        self.requests.count(Kind::ReadDirPlus);
        let listed = self.overlay.read_dir(ino.0, offset, true, &mut |e: &Listed<'_>| {
            let attr = match &e.attr {
                Some(attr) => node(attr, &self.ids),
                // `.` and `..`: the kernel takes no node from these.
                None => FileAttr { ino: INodeNo(e.ino), kind: file_type(e.kind), ..no_node() },
            };
            !reply.add(INodeNo(e.ino), e.cookie, e.name, self.valid(e.ino), &attr, Generation(0))
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(errno("readdirplus", e)),
        }
    }

    fn fsyncdir(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.requests.count(Kind::FsyncDir);
        done("fsyncdir", self.overlay.fsync_dir(ino.0), reply);
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        self.requests.count(Kind::StatFs);
        match self.overlay.statfs() {
            Ok(s) => reply.statfs(s.blocks, s.bfree, s.bavail, s.files, s.ffree, s.bsize, s.namelen, s.frsize),
            Err(e) => reply.error(errno("statfs", e)),
        }
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        self.requests.count(Kind::SetXattr);
        if about::is_about(ino.0, name.as_bytes()) {
            return reply.error(Errno::EPERM);
        }
        let set = c_name(name).and_then(|name| {
            let value = self.ids.acl(name.to_bytes(), value, true).ok_or(Error::NotMapped)?;
            self.overlay.set_xattr(ino.0, &name, &value, flags, self.caller(req))
        });
        done("setxattr", set, reply);
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        self.requests.count(Kind::GetXattr);
        let about = about::value(ino.0, name.as_bytes(), self);
        let stored = || {
            let name = c_name(name)?;
            let value = self.overlay.get_xattr(ino.0, &name)?;
            Ok(self.ids.acl(name.to_bytes(), &value, false).map(Cow::into_owned).unwrap_or(value))
        };
        value("getxattr", about.map_or_else(stored, Ok), size, reply);
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.requests.count(Kind::ListXattr);
        value("listxattr", self.overlay.list_xattr(ino.0, self.caller(req)), size, reply);
    }

    fn removexattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.requests.count(Kind::RemoveXattr);
        done("removexattr", c_name(name).and_then(|name| self.overlay.remove_xattr(ino.0, &name)), reply);
    }

    fn fallocate(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.requests.count(Kind::Fallocate);
        let allocated = self
            .before_write(ino, self.ordinary_caller(req))
            .and_then(|()| self.overlay.fallocate(ino.0, mode, offset, length));
        done("fallocate", allocated, reply);
    }

    fn lseek(&self, _req: &Request, ino: INodeNo, _fh: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        self.requests.count(Kind::Lseek);
        let Some(pages) = &self.pages else { return found(self.overlay.seek(ino.0, offset, whence), reply) };
        // With collected writes the file can be longer than it is below.
        if !self.writeback
            && let Ok(Some(at)) = self.overlay.seek_despite_pages(ino.0, offset, whence)
        {
            return found(Ok(at), reply);
        }
        pages.after_writing(ino, &self.overlay, move |overlay| found(overlay.seek(ino.0, offset, whence), reply));
    }

    fn copy_file_range(
        &self,
        req: &Request,
        ino_in: INodeNo,
        _fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        _fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        self.requests.count(Kind::CopyFileRange);
        let (from, to) = ((ino_in.0, offset_in), (ino_out.0, offset_out));
        let copied =
            self.before_write(ino_out, self.ordinary_caller(req)).and_then(|()| self.overlay.copy_range(from, to, len));
        match copied {
            Ok(n) => reply.written(u32::try_from(n).unwrap_or(u32::MAX)),
            Err(e) => reply.error(errno("copy_file_range", e)),
        }
    }

    fn ioctl(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        cmd: u32,
        in_data: &[u8],
        out_size: u32,
        reply: ReplyIoctl,
    ) {
        self.requests.count(Kind::Ioctl);
        ioctl::answer(&self.overlay, ino.0, cmd, in_data, out_size, reply);
    }
}
