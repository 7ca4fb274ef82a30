//! One digest over everything that can be seen of directory trees, to prove that they did not change.

use super::stack;
use crate::sys::{self, At};
use sha2::{Digest, Sha256};
use std::ffi::CString;
use std::fmt::Write;
use std::fs::{self, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// SHA-256, in hexadecimal, over names, types, modes, owners, sizes, link counts, inode numbers, times (not of access),
/// content, link targets and extended attributes of the trees.
pub fn of(trees: &[PathBuf]) -> anyhow::Result<String> {
    let mut hash = Sha256::new();
    for tree in trees {
        add(&mut hash, tree)?;
        for path in stack::walk(tree)? {
            add(&mut hash, &path)?;
        }
    }
    Ok(hash.finalize().iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string cannot fail.
        write!(hex, "{byte:02x}").unwrap_or_default();
        hex
    }))
}

fn add(hash: &mut Sha256, path: &Path) -> anyhow::Result<()> {
    let seen = fs::symlink_metadata(path)?;
    field(hash, path.as_os_str().as_bytes());
    let numbers = [
        seen.ino(),
        u64::from(seen.mode()),
        u64::from(seen.uid()),
        u64::from(seen.gid()),
        seen.nlink(),
        seen.rdev(),
        seen.size(),
        seen.mtime().cast_unsigned(),
        seen.mtime_nsec().cast_unsigned(),
        seen.ctime().cast_unsigned(),
        seen.ctime_nsec().cast_unsigned(),
    ];
    numbers.iter().for_each(|number| hash.update(number.to_le_bytes()));
    if seen.is_file() {
        field(hash, &fs::read(path)?);
    } else if seen.is_symlink() {
        field(hash, fs::read_link(path)?.as_os_str().as_bytes());
    }
    for (name, value) in attributes(path)? {
        field(hash, name.as_bytes());
        field(hash, &value);
    }
    Ok(())
}

/// Length first, so that no two sequences of fields look the same.
fn field(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

/// All extended attributes of an entry, sorted by name.
pub fn attributes(path: &Path) -> anyhow::Result<Vec<(CString, Vec<u8>)>> {
    let entry = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)?;
    let at = At::Fd(entry.as_fd());
    let mut all = Vec::new();
    for name in sys::xattr::list(at)?.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let name = CString::new(name)?;
        let value = sys::xattr::get(at, &name)?.unwrap_or_default();
        all.push((name, value));
    }
    all.sort();
    Ok(all)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_change_shows() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        fs::write(&file, "one").unwrap();
        let trees = [dir.path().to_path_buf()];
        let first = of(&trees).unwrap();
        assert_eq!(first, of(&trees).unwrap());
        assert_eq!(first.len(), 64);
        fs::write(&file, "two").unwrap();
        let second = of(&trees).unwrap();
        assert_ne!(first, second);
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        assert_ne!(second, of(&trees).unwrap());
    }
}
