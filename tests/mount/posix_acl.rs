//! POSIX access control lists as the bytes of their attributes (acl(5), `include/uapi/linux/posix_acl_xattr.h`).

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::os;

pub const ACCESS: &str = "system.posix_acl_access";
pub const DEFAULT: &str = "system.posix_acl_default";

/// Tags of entries (`include/uapi/linux/posix_acl.h`), in the order in which a list has them.
pub const USER_OBJ: u16 = 1;
pub const NAMED_USER: u16 = 2;
pub const GROUP_OBJ: u16 = 4;
pub const NAMED_GROUP: u16 = 8;
pub const MASK: u16 = 16;
pub const OTHERS: u16 = 32;

/// The id of an entry without one.
pub const NOBODY: u32 = u32::MAX;

/// Tag, permissions and id.
pub type Entry = (u16, u16, u32);

/// A whole list as the kernel takes it; sorted by the caller.
pub fn acl(entries: &[Entry]) -> Vec<u8> {
    let mut value = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

/// The entries of a list; without one those that the mode stands for.
fn entries(path: &Path, attribute: &str) -> Vec<Entry> {
    let Ok(value) = os::get_xattr(path, attribute) else {
        let mode = path.symlink_metadata().unwrap().mode() as u16;
        return [(USER_OBJ, 6), (GROUP_OBJ, 3), (OTHERS, 0)].map(|(tag, at)| (tag, mode >> at & 7, NOBODY)).to_vec();
    };
    let (version, rest) = value.split_first_chunk::<4>().unwrap();
    assert_eq!(u32::from_le_bytes(*version), 2);
    let (found, rest) = rest.as_chunks::<8>();
    assert!(rest.is_empty(), "{value:x?}");
    let entry = |e: &[u8; 8]| {
        let [t, u, p, q, id @ ..] = *e;
        (u16::from_le_bytes([t, u]), u16::from_le_bytes([p, q]), u32::from_le_bytes(id))
    };
    found.iter().map(entry).collect()
}

/// Sets entries of a list, as setfacl(1) does with `-m`: the others stay, a list that is not there begins as what the mode
/// stands for, and the mask lets through what the entries give, unless it is among them.
pub fn modify(path: &Path, attribute: &str, changes: &[Entry]) {
    let mut list = entries(path, attribute);
    list.retain(|(tag, _, id)| !changes.iter().any(|(t, _, i)| (t, i) == (tag, id)));
    list.extend(changes);
    if !changes.iter().any(|(tag, ..)| *tag == MASK) {
        list.retain(|(tag, ..)| *tag != MASK);
        let masked = list.iter().filter(|(tag, ..)| [NAMED_USER, GROUP_OBJ, NAMED_GROUP].contains(tag));
        list.push((MASK, masked.fold(0, |all, (_, permissions, _)| all | permissions), NOBODY));
    }
    list.sort_by_key(|(tag, _, id)| (*tag, *id));
    os::set_xattr(path, attribute, &acl(&list)).unwrap_or_else(|e| panic!("{}: {attribute}: {e}", path.display()));
}

/// A list in the words of acl(5), such as `user::rw- user:5:r-- group::--- mask::r-- other::---`; without one what the mode
/// stands for.
pub fn text(path: &Path, attribute: &str) -> String {
    let word = |(tag, permissions, id): Entry| {
        let kind = match tag {
            USER_OBJ | NAMED_USER => "user",
            GROUP_OBJ | NAMED_GROUP => "group",
            MASK => "mask",
            OTHERS => "other",
            _ => panic!("{}: no tag: {tag}", path.display()),
        };
        let id = if [NAMED_USER, NAMED_GROUP].contains(&tag) { id.to_string() } else { String::new() };
        let letter = |bit, letter| if permissions & bit == 0 { '-' } else { letter };
        format!("{kind}:{id}:{}{}{}", letter(4, 'r'), letter(2, 'w'), letter(1, 'x'))
    };
    entries(path, attribute).into_iter().map(word).collect::<Vec<_>>().join(" ")
}
