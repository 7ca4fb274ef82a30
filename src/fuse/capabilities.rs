//! Which capabilities the kernel offers at INIT, and which of them are used.

use std::str::FromStr;

use fuser::{InitFlags, KernelConfig};

use crate::overlay::State;

/// `fuser` asks for these by itself.
const ALWAYS: InitFlags = InitFlags::FUSE_ASYNC_READ.union(InitFlags::FUSE_BIG_WRITES).union(InitFlags::FUSE_MAX_PAGES);

/// What is told about: all that a mount may ask for, and two that none does: handles that outlive what the kernel remembers
/// (NFS), and mounts of this one that show other owners.
const SHOWN: InitFlags = ALWAYS
    .union(InitFlags::FUSE_DO_READDIRPLUS)
    .union(InitFlags::FUSE_PARALLEL_DIROPS)
    .union(InitFlags::FUSE_ASYNC_DIO)
    .union(InitFlags::FUSE_CACHE_SYMLINKS)
    .union(InitFlags::FUSE_NO_OPEN_SUPPORT)
    .union(InitFlags::FUSE_NO_OPENDIR_SUPPORT)
    .union(InitFlags::FUSE_HAS_IOCTL_DIR)
    .union(InitFlags::FUSE_DONT_MASK)
    .union(InitFlags::FUSE_HANDLE_KILLPRIV_V2)
    .union(InitFlags::FUSE_POSIX_ACL)
    .union(InitFlags::FUSE_WRITEBACK_CACHE)
    .union(InitFlags::FUSE_ATOMIC_O_TRUNC)
    .union(InitFlags::FUSE_PASSTHROUGH)
    .union(InitFlags::FUSE_EXPORT_SUPPORT)
    .union(InitFlags::FUSE_ALLOW_IDMAP);

/// The name of a capability: that in `linux/fuse.h`, in lower case and without `FUSE_` in front.
fn names(flags: InitFlags) -> Vec<(String, InitFlags)> {
    flags.iter_names().map(|(name, flag)| (name.trim_start_matches("FUSE_").to_ascii_lowercase(), flag)).collect()
}

/// Capabilities that are taken for missing whatever the kernel offers: a test of how it goes without them.
#[derive(Clone, Copy, Debug)]
pub struct Mask(InitFlags);

impl Default for Mask {
    fn default() -> Self {
        Self(InitFlags::empty())
    }
}

/// A name in a [`Mask`] that is none.
#[derive(Debug, thiserror::Error)]
#[error("{name} is no FUSE capability that can be masked; these can: {}", known.join(", "))]
pub struct NotMaskable {
    name: String,
    known: Vec<String>,
}

impl FromStr for Mask {
    type Err = NotMaskable;

    /// Names as `laminafs stats` shows them, with commas between.
    fn from_str(text: &str) -> Result<Self, NotMaskable> {
        // `fuser` asks for these two whatever we say. It does for MAX_PAGES too, but then small requests come to the same.
        let maskable = SHOWN - InitFlags::FUSE_ASYNC_READ - InitFlags::FUSE_BIG_WRITES;
        let flag = |name: &str| names(maskable).into_iter().find(|(known, _)| known == name).map(|(_, flag)| flag);
        let unknown = |name: &str| NotMaskable {
            name: name.to_owned(),
            known: names(maskable).into_iter().map(|(known, _)| known).collect(),
        };
        let flags = text.split(',').filter(|name| !name.is_empty()).map(|name| flag(name).ok_or_else(|| unknown(name)));
        Ok(Self(flags.collect::<Result<_, _>>()?))
    }
}

/// What was agreed on at INIT. Before that nothing is offered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capabilities {
    mask: Mask,
    offered: InitFlags,
    used: InitFlags,
}

impl Capabilities {
    pub fn new(mask: Mask) -> Self {
        Self { mask, offered: InitFlags::empty(), used: InitFlags::empty() }
    }

    /// INIT has come.
    pub fn offered(&mut self, config: &KernelConfig) {
        self.offered = config.capabilities();
        self.used = (ALWAYS & self.offered) - self.mask.0;
    }

    /// Asks for capabilities: all of them are used from now on, or none.
    pub fn ask(&mut self, config: &mut KernelConfig, wanted: InitFlags) -> bool {
        let agreed = !self.mask.0.intersects(wanted) && config.add_capabilities(wanted).is_ok();
        if agreed {
            self.used |= wanted;
        } else {
            log::info!("{}", self.refusal(wanted));
        }
        agreed
    }

    /// Why something is not used.
    fn refusal(&self, wanted: InitFlags) -> String {
        match self.mask.0 & wanted {
            masked if masked.is_empty() => format!("the kernel lacks {:?}", wanted - self.offered),
            masked => format!("{masked:?} is masked"),
        }
    }

    pub fn used(&self, capability: InitFlags) -> bool {
        self.used.contains(capability)
    }

    /// Each by its name, and what became of it.
    pub fn states(&self) -> Vec<(String, State)> {
        names(SHOWN).into_iter().map(|(name, flag)| (name, self.state(flag))).collect()
    }

    fn state(&self, flag: InitFlags) -> State {
        match (self.offered.contains(flag), self.mask.0.contains(flag), self.used.contains(flag)) {
            (false, ..) => State::Missing,
            (_, true, _) => State::Masked,
            (_, _, true) => State::Used,
            _ => State::Unused,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_lists_of_names_that_are_shown() {
        let mask = |text: &str| text.parse::<Mask>().map(|mask| mask.0);
        assert_eq!(mask("").unwrap(), InitFlags::empty());
        let two = InitFlags::FUSE_DO_READDIRPLUS | InitFlags::FUSE_PASSTHROUGH;
        assert_eq!(mask("do_readdirplus,passthrough,").unwrap(), two);
        for wrong in ["readdirplus", "big_writes", "DO_READDIRPLUS", " posix_acl"] {
            let said = mask(wrong).unwrap_err().to_string();
            assert!(said.starts_with(wrong) && said.contains("do_readdirplus, "), "{said}");
        }
        assert_eq!(names(SHOWN).len(), 18);
    }

    #[test]
    fn what_is_masked_is_not_used() {
        let mut capabilities = Capabilities::new("posix_acl".parse().unwrap());
        capabilities.offered = InitFlags::FUSE_POSIX_ACL | InitFlags::FUSE_DONT_MASK | InitFlags::FUSE_ASYNC_DIO;
        capabilities.used = InitFlags::FUSE_ASYNC_DIO;
        let states: std::collections::BTreeMap<_, _> = capabilities.states().into_iter().collect();
        let state = |name: &str| states[name];
        assert_eq!((state("posix_acl"), state("dont_mask")), (State::Masked, State::Unused));
        assert_eq!((state("async_dio"), state("passthrough")), (State::Used, State::Missing));
        let why = |flag: InitFlags| capabilities.refusal(flag);
        assert_eq!(why(InitFlags::FUSE_POSIX_ACL), "InitFlags(FUSE_POSIX_ACL) is masked");
        assert_eq!(why(InitFlags::FUSE_PASSTHROUGH), "the kernel lacks InitFlags(FUSE_PASSTHROUGH)");
    }
}
