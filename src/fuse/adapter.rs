//! What answers FUSE requests: its parts, who asks, and how replies are made. The operations themselves: `operations.rs`.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fuser::{Errno, Generation, INodeNo, Notifier, ReplyAttr, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyXattr, Request};

use super::capabilities::Capabilities;
use super::convert::{errno, node, shown};
use super::dirty::PageWriter;
use super::ids::{IdMap, Ids, NO_ID};
use super::open::OpenFiles;
use super::requests::Requests;
use super::session::{Data, Options};
use crate::overlay::{Attr, Caller, Error, Overlay, Result};

/// For ever, as far as the kernel's clock goes: see the documentation of `crate::fuse`.
pub(super) const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// The file system as `fuser` sees it.
pub struct Adapter {
    pub(super) overlay: Arc<Overlay>,
    pub(super) requests: Requests,
    pub(super) capabilities: Capabilities,
    /// Set when the session exists.
    pub(super) notifier: Arc<OnceLock<Notifier>>,
    /// For answers that have to wait until dirty pages are written.
    pub(super) pages: Option<PageWriter>,
    /// Asked for; after INIT: in use.
    pub(super) writeback: bool,
    pub(super) check_permissions: bool,
    /// See [`Options::description`].
    pub(super) description: Vec<u8>,
    /// Which owners are shown for those in the layers.
    pub(super) ids: Ids,
    /// The owner and group of what a daemon makes that is not root's and cannot give it away.
    own_user: Option<u32>,
    own_group: Option<u32>,
    /// The files that are open, where the kernel reads and writes what is behind them.
    pub(super) files: Option<OpenFiles>,
}

/// The owner on disk of a chown(2); nobody where all objects show the same one.
pub(super) fn new_owner(map: &IdMap, shown: Option<u32>) -> Result<Option<u32>> {
    shown.filter(|_| map.squash.is_none()).map(|id| map.disk(id, None).ok_or(Error::NotMapped)).transpose()
}

/// Replies to lseek(2).
pub(super) fn found(at: Result<u64>, reply: ReplyLseek) {
    match at {
        Ok(at) => reply.offset(i64::try_from(at).unwrap_or(i64::MAX)),
        Err(e) => reply.error(errno("lseek", e)),
    }
}

/// Replies to an operation without a result.
pub(super) fn done(operation: &str, result: Result<()>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(e) => reply.error(errno(operation, e)),
    }
}

/// Replies with a value or its length, as getxattr(2) and listxattr(2) are asked.
pub(super) fn value(operation: &str, result: Result<Vec<u8>>, size: u32, reply: ReplyXattr) {
    match result {
        Ok(v) if size == 0 => reply.size(u32::try_from(v.len()).unwrap_or(u32::MAX)),
        Ok(v) if v.len() > size as usize => reply.error(Errno::ERANGE),
        Ok(v) => reply.data(&v),
        Err(e) => reply.error(errno(operation, e)),
    }
}

pub(super) fn c_name(name: &OsStr) -> Result<CString> {
    CString::new(name.as_bytes()).map_err(|_| Error::Invalid)
}

impl Adapter {
    pub fn new(overlay: Arc<Overlay>, notifier: Arc<OnceLock<Notifier>>, options: &Options) -> Self {
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        Self {
            overlay,
            requests: Requests::new(),
            capabilities: Capabilities::new(options.mask),
            notifier,
            pages: None,
            writeback: options.writeback,
            check_permissions: options.default_permissions,
            description: options.description.clone(),
            ids: options.ids.clone(),
            own_user: Some(user.as_raw()).filter(|_| !user.is_root()),
            own_group: Some(group.as_raw()).filter(|_| !user.is_root()),
            files: (options.data == Data::Passthrough).then(OpenFiles::default),
        }
    }

    /// Who asks, as in the layers; the owner of what it makes. `EOVERFLOW` for ids to which nothing is mapped, as on idmapped
    /// mounts of the kernel.
    pub(super) fn maker(&self, req: &Request) -> Result<Caller> {
        if self.ids.are_those_on_disk() {
            return Ok(Caller::new(req.uid(), req.gid(), req.pid()));
        }
        let (uid, gid) =
            (self.ids.users.disk(req.uid(), self.own_user), self.ids.groups.disk(req.gid(), self.own_group));
        let (Some(uid), Some(gid)) = (uid, gid) else { return Err(Error::NotMapped) };
        Ok(Caller { uid, gid, pid: 0, is_root: req.uid() == 0 })
    }

    /// Who asks; nobody on disk where nothing is mapped to the ids.
    pub(super) fn caller(&self, req: &Request) -> Caller {
        let nobody = Caller { uid: NO_ID, gid: NO_ID, pid: 0, is_root: req.uid() == 0 };
        self.maker(req).unwrap_or(nobody)
    }

    /// The caller if set-id bits go when it changes data.
    pub(super) fn ordinary_caller(&self, req: &Request) -> Option<Caller> {
        (req.uid() != 0).then(|| self.caller(req))
    }

    /// How long the kernel may go by the attributes of an object.
    pub(super) fn valid(&self, ino: u64) -> &'static Duration {
        if self.files.as_ref().is_some_and(|files| files.changes_unseen(ino)) { &Duration::ZERO } else { &FOR_EVER }
    }

    pub(super) fn entry(&self, operation: &str, result: Result<Attr>, reply: ReplyEntry) {
        match result {
            Ok(attr) => reply.entry(self.valid(attr.ino), &node(&attr, &self.ids), Generation(0)),
            Err(e) => reply.error(errno(operation, e)),
        }
    }

    pub(super) fn attributes(&self, operation: &str, result: Result<Attr>, reply: ReplyAttr) {
        match result {
            Ok(attr) => reply.attr(self.valid(attr.ino), &shown(&attr, &self.ids)),
            Err(e) => reply.error(errno(operation, e)),
        }
    }

    /// Has the kernel ask for the attributes again before it goes by them. That touches no pages, so it cannot wait for us.
    pub(super) fn forget_attributes(&self, ino: INodeNo) {
        if let Some(Err(e)) = self.notifier.get().map(|n| n.inval_inode(ino, -1, 0)) {
            log::debug!("attributes of {ino}: {e}");
        }
    }

    /// Before `writer` changes data: drops set-id bits. The kernel does not expect a write to change the mode, and would run
    /// a program with bits that it no longer has, so it is told to ask for the attributes again.
    pub(super) fn before_write(&self, ino: INodeNo, writer: Option<Caller>) -> Result<()> {
        let Some(writer) = writer else { return Ok(()) };
        if self.overlay.drop_set_id(ino.0, writer)? {
            self.forget_attributes(ino);
        }
        Ok(())
    }
}
