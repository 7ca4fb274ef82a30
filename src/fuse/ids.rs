//! Owners that the mount shows in place of those in the layers: `uidmapping=`, `gidmapping=`, `squash_to_*=`.
//!
//! Ids "on disk" are those of the layers (with `xattr_permissions=2`, those in the attribute), ids "shown" those that users
//! of the mount see, and have. Container engines map an image, on disk as it was packed, to the ids of a user namespace.

use std::borrow::Cow;

/// Shown where an id on disk is not mapped. The kernel takes it for no id at all: stat(2) says 65534, and nobody owns the object,
/// not even the user of that number.
pub const NO_ID: u32 = u32::MAX;

/// A run of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// The first one on disk.
    pub disk: u32,
    /// The one shown for it.
    pub shown: u32,
    /// How many.
    pub count: u32,
}

/// How ids on disk and shown ids belong together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdMap {
    /// All objects show this one.
    pub squash: Option<u32>,
    /// What is mapped; nothing means that all ids are as on disk.
    pub ranges: Vec<IdRange>,
}

impl IdMap {
    /// What is shown for an id on disk.
    #[must_use]
    pub fn shown(&self, disk: u32) -> u32 {
        match self.squash {
            Some(id) => id,
            None if self.ranges.is_empty() => disk,
            None => find(&self.ranges, |r| (r.disk, r.shown), disk).unwrap_or(NO_ID),
        }
    }

    /// What is on disk for an id of a user of the mount; `None` when nothing is mapped to it.
    ///
    /// Root of the machine, where it is not mapped itself, is the user 0 of the layers: engines prepare a container as root. A
    /// squashed object has the owner that is shown, or that of the daemon where only that is possible: `own` is that one, unless it is root's.
    #[must_use]
    pub fn disk(&self, shown: u32, own: Option<u32>) -> Option<u32> {
        match self.squash {
            Some(id) => Some(own.unwrap_or(id)),
            None if self.ranges.is_empty() => Some(shown),
            None => find(&self.ranges, |r| (r.shown, r.disk), shown).or_else(|| (shown == 0).then_some(0)),
        }
    }
}

fn find(ranges: &[IdRange], sides: impl Fn(&IdRange) -> (u32, u32), id: u32) -> Option<u32> {
    ranges.iter().find_map(|range| {
        let (from, to) = sides(range);
        let at = id.checked_sub(from).filter(|&at| at < range.count)?;
        to.checked_add(at)
    })
}

// Layout of an access control list: a version, then entries of tag (2), permissions (2), id (4), little endian.
const HEADER: usize = 4;
const ENTRY: usize = 8;
const USER: u16 = 0x02;
const GROUP: u16 = 0x08;

/// The maps of a mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// Of users.
    pub users: IdMap,
    /// Of groups.
    pub groups: IdMap,
}

impl Ids {
    /// Whether there is nothing to map.
    #[must_use]
    pub fn are_those_on_disk(&self) -> bool {
        [&self.users, &self.groups].iter().all(|map| map.squash.is_none() && map.ranges.is_empty())
    }

    /// Whether all objects show one owner, whoever made them: set-id bits would be that one's.
    #[must_use]
    pub fn are_squashed(&self) -> bool {
        self.users.squash.is_some() || self.groups.squash.is_some()
    }

    /// The named entries of an access control list (acl(5)), mapped: from disk to be shown, or back. A list that makes no
    /// sense is left to those who read it, and squashed ids are those on disk. `None` when an id is not mapped.
    pub fn acl<'a>(&self, name: &[u8], value: &'a [u8], to_disk: bool) -> Option<Cow<'a, [u8]>> {
        if self.are_those_on_disk() || !name.starts_with(b"system.posix_acl_") {
            return Some(Cow::Borrowed(value));
        }
        let mut mapped = value.to_vec();
        for entry in mapped.get_mut(HEADER..).unwrap_or_default().chunks_exact_mut(ENTRY) {
            let map = match u16::from_le_bytes([entry[0], entry[1]]) {
                USER => &self.users,
                GROUP => &self.groups,
                _ => continue,
            };
            if map.squash.is_some() {
                continue;
            }
            let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
            let id = if to_disk { map.disk(id, None)? } else { map.shown(id) };
            entry[4..].copy_from_slice(&id.to_le_bytes());
        }
        Some(Cow::Owned(mapped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container() -> IdMap {
        let range = |disk, shown, count| IdRange { disk, shown, count };
        IdMap { squash: None, ranges: vec![range(0, 100_000, 1000), range(1000, 5, 1)] }
    }

    #[test]
    fn without_a_map_ids_are_themselves() {
        let map = IdMap::default();
        assert_eq!((map.shown(7), map.disk(7, None)), (7, Some(7)));
    }

    #[test]
    fn ranges_map_both_ways() {
        let map = container();
        assert_eq!((map.shown(0), map.shown(999), map.shown(1000), map.shown(1001)), (100_000, 100_999, 5, NO_ID));
        assert_eq!(
            (map.disk(100_000, None), map.disk(100_999, None), map.disk(5, None)),
            (Some(0), Some(999), Some(1000))
        );
        assert_eq!((map.disk(101_000, None), map.disk(99_999, None), map.disk(7, None)), (None, None, None));
        assert_eq!(map.disk(0, None), Some(0), "root of the machine");
    }

    #[test]
    fn squashing_wins() {
        let map = IdMap { squash: Some(9), ..container() };
        assert_eq!((map.shown(0), map.shown(77)), (9, 9));
        assert_eq!((map.disk(4, None), map.disk(4, Some(1000))), (Some(9), Some(1000)));
    }

    #[test]
    fn lists_are_mapped() {
        let ids = Ids { users: container(), groups: IdMap::default() };
        let entry = |tag: u16, id: u32| [&tag.to_le_bytes()[..], &[7, 0], &id.to_le_bytes()].concat();
        let list = |user| [vec![2, 0, 0, 0], entry(0x01, u32::MAX), entry(0x02, user), entry(0x08, 3)].concat();
        let name = b"system.posix_acl_access";
        assert_eq!(ids.acl(name, &list(3), false).as_deref(), Some(&list(100_003)[..]));
        assert_eq!(ids.acl(name, &list(100_003), true).as_deref(), Some(&list(3)[..]));
        assert_eq!(ids.acl(name, &list(77), true), None);
        assert_eq!(ids.acl(b"user.a", &list(77), true).as_deref(), Some(&list(77)[..]));
        assert_eq!(ids.acl(name, b"odd", true).as_deref(), Some(&b"odd"[..]));
    }
}
