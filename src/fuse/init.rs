//! What is agreed with the kernel when a mount begins.

use fuser::{InitFlags, KernelConfig};

use super::adapter::Adapter;
use super::dirty::PageWriter;

/// Largest WRITE and READ, in bytes; what the kernel allows by default.
const MAX_IO: u32 = 1 << 20;

/// The same where the kernel cannot be told: 32 pages.
const FIXED_IO: u32 = 128 << 10;

impl Adapter {
    /// Answers INIT.
    pub(super) fn agree(&mut self, config: &mut KernelConfig) -> std::io::Result<()> {
        self.capabilities.offered(config);
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
        for flag in wanted {
            self.capabilities.ask(config, flag);
        }
        // The kernel takes ACLs as a wish to check permissions too.
        if self.check_permissions {
            self.capabilities.ask(config, InitFlags::FUSE_POSIX_ACL);
        }
        self.agree_on_data(config)?;
        if !self.overlay.read_only() {
            // Pages can be dirty through a map also where writes are not collected.
            self.pages = Some(PageWriter::start(self.overlay.clone(), self.notifier.clone())?);
        }
        // Values the kernel does not accept are replaced by its own limits.
        let largest = if self.capabilities.used(InitFlags::FUSE_MAX_PAGES) { MAX_IO } else { FIXED_IO };
        if let Err(limit) = config.set_max_write(largest) {
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
            let agreed =
                self.capabilities.ask(config, InitFlags::FUSE_PASSTHROUGH) && config.set_max_stack_depth(depth).is_ok();
            if !agreed {
                return Err(std::io::ErrorKind::Unsupported.into());
            }
            // Without it the kernel opens first, and a file that is about to be emptied is copied up with all its data.
            self.capabilities.ask(config, InitFlags::FUSE_ATOMIC_O_TRUNC);
            return Ok(());
        }
        // Without it each file is opened and closed by a request.
        self.capabilities.ask(config, InitFlags::FUSE_NO_OPEN_SUPPORT);
        self.writeback = self.writeback
            && !self.overlay.read_only()
            && self.capabilities.ask(config, InitFlags::FUSE_WRITEBACK_CACHE);
        if self.writeback {
            self.overlay.caller_keeps_times();
        }
        Ok(())
    }
}
