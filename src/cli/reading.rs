//! What `diff`, `commit` and `export` read: a writable layer that may be mounted, or an image.

use crate::changes::Stack;
use crate::store::{Pin, Reading, Store};
use crate::sys::{self, process::raise_nofile_limit};
use anyhow::Context as _;
use std::os::fd::AsFd;

/// A writable layer and what is below it, held in the store.
#[derive(Debug)]
pub struct WritableTree {
    reading: Reading,
}

impl WritableTree {
    /// Takes the writable layer `name` for reading. If it is mounted, what the kernel holds back is written first.
    pub fn open(store: &Store, name: &str) -> anyhow::Result<Self> {
        let reading = store.read_writable(name)?;
        let writable = reading.writable();
        if let Some(mount) = writable.mount.as_ref().filter(|mount| !mount.kernel) {
            let place = mount.mountpoint.display();
            let synced = sys::open_root(&mount.mountpoint).and_then(|root| sys::syncfs(root.as_fd()));
            synced.with_context(|| {
                format!("cannot have {place} written out; unmount it with: laminafs umount {place}")
            })?;
        }
        Ok(Self { reading })
    }

    pub fn reading(&self) -> &Reading {
        &self.reading
    }

    pub fn stack(&self) -> Stack<'_> {
        let writable = self.reading.writable();
        Stack { writable: Some((&writable.upper, &writable.work)), ..stack_of(self.reading.pin()) }
    }
}

/// Pinned layers as a stack.
pub fn stack_of(pin: &Pin) -> Stack<'_> {
    let (lower, override_stat) = (pin.lower(), pin.override_stat());
    Stack { writable: None, lower, override_stat, fd_limit: raise_nofile_limit() }
}
