//! Access control lists as acl(5) has them, on the bytes of the attribute: a version of four bytes, then for each entry tag
//! (2), permissions (2) and id (4).

pub const ACCESS: &[u8] = b"system.posix_acl_access";
pub const DEFAULT: &[u8] = b"system.posix_acl_default";

const OWNER: u8 = 1;
const GROUP: u8 = 4;
const MASK: u8 = 16;
const OTHERS: u8 = 32;

fn permissions(acl: &[u8], tag: u8) -> Option<u32> {
    acl[4..].chunks(8).find(|entry| entry[0] == tag).map(|entry| u32::from(entry[2]))
}

fn set(acl: &mut [u8], tag: u8, permissions: u32) {
    if let Some(entry) = acl[4..].chunks_mut(8).find(|entry| entry[0] == tag) {
        entry[2] = permissions as u8;
    }
}

/// Whose permissions stand in the place of the group's in the mode.
fn group_class(acl: &[u8]) -> u8 {
    if permissions(acl, MASK).is_some() { MASK } else { GROUP }
}

/// The permissions that stat(2) shows for a file with this list.
pub fn mode(acl: &[u8]) -> u32 {
    let class = |tag| permissions(acl, tag).unwrap_or(0);
    class(OWNER) << 6 | class(group_class(acl)) << 3 | class(OTHERS)
}

/// Entries for the owner, the group and others alone are a mode.
pub fn says_more_than_a_mode(acl: &[u8]) -> bool {
    acl[4..].chunks(8).any(|entry| ![OWNER, GROUP, OTHERS].contains(&entry[0]))
}

/// The list follows a new mode.
pub fn chmod(acl: &mut [u8], mode: u32) {
    set(acl, OWNER, mode >> 6 & 7);
    set(acl, group_class(acl), mode >> 3 & 7);
    set(acl, OTHERS, mode & 7);
}

/// Mode and access list of a new object that asks for `asked` in a directory with this default list.
pub fn inherit(default: &[u8], asked: u32) -> (u32, Option<Vec<u8>>) {
    let granted = asked & 0o7000 | asked & mode(default);
    let mut access = default.to_vec();
    chmod(&mut access, granted);
    (granted, says_more_than_a_mode(default).then_some(access))
}
