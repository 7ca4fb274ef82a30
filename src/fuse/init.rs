//! What is agreed with the kernel when a mount begins.

use fuser::{InitFlags, KernelConfig};

use super::adapter::Adapter;
use super::seek::SeekQueue;

/// Largest WRITE and READ, in bytes; what the kernel allows by default.
const MAX_IO: u32 = 1 << 20;

impl Adapter {
    /// Answers INIT.
    pub(super) fn agree(&mut self, config: &mut KernelConfig) -> std::io::Result<()> {
        let wanted = [
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_NO_OPENDIR_SUPPORT,
            InitFlags::FUSE_HAS_IOCTL_DIR,
            InitFlags::FUSE_DONT_MASK,
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
        ];
        // The kernel takes ACLs as a wish to check permissions too.
        let acl = self.check_permissions.then_some(InitFlags::FUSE_POSIX_ACL);
        for flag in wanted.into_iter().chain(acl) {
            if config.add_capabilities(flag).is_err() {
                log::info!("the kernel lacks {flag:?}");
            }
        }
        self.agree_on_data(config)?;
        if !self.overlay.read_only() {
            // Pages that are dirty through a map are not written either.
            self.seeks = Some(SeekQueue::start(self.overlay.clone(), self.notifier.clone())?);
        }
        // Values the kernel does not accept are replaced by its own limits.
        if let Err(limit) = config.set_max_write(MAX_IO) {
            log::debug!("largest write is {limit}");
        }
        if let Err(limit) = config.set_max_background(64) {
            log::debug!("background limit is {limit}");
        }
        Ok(())
    }

    /// Agrees with the kernel on the way that data takes.
    fn agree_on_data(&mut self, config: &mut KernelConfig) -> std::io::Result<()> {
        if self.files.is_some() {
            // With a depth of 2 nothing could be stacked on this mount.
            let stacked = self.overlay.is_stacked().map_err(|e| std::io::Error::from_raw_os_error(e.errno()))?;
            let depth = if stacked { 2 } else { 1 };
            let agreed = config.add_capabilities(InitFlags::FUSE_PASSTHROUGH | InitFlags::FUSE_ATOMIC_O_TRUNC).is_ok()
                && config.set_max_stack_depth(depth).is_ok();
            return if agreed { Ok(()) } else { Err(std::io::ErrorKind::Unsupported.into()) };
        }
        if config.add_capabilities(InitFlags::FUSE_NO_OPEN_SUPPORT).is_err() {
            log::info!("the kernel cannot do without OPEN");
        }
        self.writeback = self.writeback
            && !self.overlay.read_only()
            && config.add_capabilities(InitFlags::FUSE_WRITEBACK_CACHE).is_ok();
        if self.writeback {
            self.overlay.caller_keeps_times();
        }
        Ok(())
    }
}
