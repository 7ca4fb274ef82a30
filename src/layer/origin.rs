//! The value of `overlay.origin`: a file handle of the lower object that an upper one was copied from.
//!
//! It keeps inode numbers over copy-up, and in hexadecimal it names entries of the hard link index.
//! The bytes are the kernel's, so that either can go on with what the other wrote:
//!
//! | offset | what |
//! |---|---|
//! | 0 | version, 0 |
//! | 1 | magic, 0xfb |
//! | 2 | length of all |
//! | 3 | flags: 1 big endian, 2 any endian, 4 handle of an upper object |
//! | 4 | type of the handle |
//! | 5 | UUID of the file system, zeros if it has none |
//! | 21 | the handle |

use crate::sys::FileHandle;
use std::ffi::OsString;

const VERSION: u8 = 0;
const MAGIC: u8 = 0xfb;
const HEADER: usize = 21;

const BIG_ENDIAN: u8 = 1 << 0;
const ANY_ENDIAN: u8 = 1 << 1;
const UPPER: u8 = 1 << 2;
const THIS_CPU: u8 = if cfg!(target_endian = "big") { BIG_ENDIAN } else { 0 };

/// What no file system uses as the type of a handle (`FILEID_INVALID`).
const INVALID_TYPE: u8 = 0xff;

/// A file handle in the form in which overlayfs stores it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OverlayHandle(Vec<u8>);

impl OverlayHandle {
    /// Stores `handle`, which [`crate::sys::handle`] gave, with the UUID of its file system.
    ///
    /// `upper` says that it is an object of the upper layer. An origin never is; the attribute
    /// `overlay.upper` of a directory in the index is.
    pub fn encode(handle: &FileHandle, uuid: Option<[u8; 16]>, upper: bool) -> Self {
        // `sys::handle` gives neither a type past 254 nor more than 128 bytes.
        let kind = u8::try_from(handle.kind).unwrap_or(INVALID_TYPE);
        let fid = &handle.bytes[..handle.bytes.len().min(usize::from(u8::MAX) - HEADER)];
        let flags = if upper { THIS_CPU | UPPER } else { THIS_CPU };
        let mut bytes = Vec::with_capacity(HEADER + fid.len());
        bytes.extend([VERSION, MAGIC, (HEADER + fid.len()) as u8, flags, kind]);
        bytes.extend(uuid.unwrap_or_default());
        bytes.extend(fid);
        OverlayHandle(bytes)
    }

    /// Takes a stored value as it is, to compare it or to name an index entry by it.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        OverlayHandle(bytes.to_vec())
    }

    /// Takes a stored value apart into the UUID of the file system (zeros if it has none) and the handle.
    ///
    /// `None` when it is malformed, of a later version, or of a machine of the other byte order. An empty
    /// value is too: the kernel writes it when the lower file system has no handles.
    pub fn parse(bytes: &[u8]) -> Option<([u8; 16], FileHandle)> {
        let (header, fid) = bytes.split_first_chunk::<HEADER>()?;
        let [version, magic, len, flags, kind, uuid @ ..] = *header;
        let known = flags & !(BIG_ENDIAN | ANY_ENDIAN | UPPER) == 0;
        let readable = flags & ANY_ENDIAN != 0 || flags & BIG_ENDIAN == THIS_CPU;
        if version != VERSION || magic != MAGIC || usize::from(len) != bytes.len() || !known || !readable {
            return None;
        }
        Some((uuid, FileHandle { kind: kind.into(), bytes: fid.to_vec() }))
    }

    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name of the entry in the index: all bytes in lower-case hexadecimal.
    pub fn index_name(&self) -> OsString {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
        let name: String = self.0.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect();
        name.into()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::layer::markers::{read_dir_markers, read_file_markers};
    use crate::layer::nlink::NlinkDelta;
    use crate::sys::{self, At};
    use rustix::mount::MountFlags;
    use std::ffi::{CString, OsStr};
    use std::os::fd::AsFd;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};

    fn sample() -> FileHandle {
        FileHandle { kind: 1, bytes: vec![0x49, 0x03, 0x99, 0x00, 0x1f, 0x16, 0x2b, 0xfd] }
    }

    #[test]
    fn bytes_of_a_known_kernel() {
        // What Linux 6.18 wrote for a file on ext4 without a UUID.
        let stored = OverlayHandle::encode(&sample(), None, false);
        if cfg!(target_endian = "little") {
            assert_eq!(stored.index_name(), "00fb1d000100000000000000000000000000000000490399001f162bfd");
        }
        assert_eq!(OverlayHandle::parse(stored.as_bytes()), Some(([0; 16], sample())));
        assert_eq!(OverlayHandle::from_bytes(stored.as_bytes()), stored);
    }

    #[test]
    fn uuid_and_upper_flag() {
        let stored = OverlayHandle::encode(&sample(), Some([7; 16]), true);
        assert_eq!(stored.as_bytes()[3] & UPPER, UPPER);
        assert_eq!(OverlayHandle::parse(stored.as_bytes()), Some(([7; 16], sample())));
    }

    #[test]
    fn malformed_values() {
        let good = OverlayHandle::encode(&sample(), None, false);
        for (at, byte) in [(0, 1), (1, 0), (2, 28), (2, 30), (3, 8), (3, THIS_CPU ^ BIG_ENDIAN)] {
            let mut bad = good.as_bytes().to_vec();
            bad[at] = byte;
            assert_eq!(OverlayHandle::parse(&bad), None, "byte {at} is {byte}");
        }
        for len in 0..good.as_bytes().len() {
            assert_eq!(OverlayHandle::parse(&good.as_bytes()[..len]), None);
        }
        let mut any_endian = good.as_bytes().to_vec();
        any_endian[3] = ANY_ENDIAN | (THIS_CPU ^ BIG_ENDIAN);
        assert!(OverlayHandle::parse(&any_endian).is_some());
    }

    struct Mounted(PathBuf);

    impl Mounted {
        /// `None` when this user may not mount.
        fn new(kind: &str, options: &str, at: &Path) -> Option<Self> {
            let options = CString::new(options).unwrap();
            match rustix::mount::mount(kind, at, kind, MountFlags::empty(), options.as_c_str()) {
                Ok(()) => Some(Mounted(at.to_owned())),
                Err(e) => {
                    assert!(!rustix::process::geteuid().is_root(), "mount {kind}: {e}");
                    None
                }
            }
        }
    }

    impl Drop for Mounted {
        fn drop(&mut self) {
            sys::umount(&self.0, true).unwrap();
        }
    }

    /// Lets the kernel copy up a single file, a hard link and a directory in `base`, and compares.
    fn compare_with_kernel(base: &Path) {
        let sub = |name: &str| base.join(name);
        for dir in ["l/d", "u", "w", "m"] {
            std::fs::create_dir_all(sub(dir)).unwrap();
        }
        for file in ["l/single", "l/link", "l/d/inner"] {
            std::fs::write(sub(file), file).unwrap();
        }
        std::fs::hard_link(sub("l/link"), sub("l/other")).unwrap();
        let options = format!(
            "lowerdir={},upperdir={},workdir={},index=on",
            sub("l").display(),
            sub("u").display(),
            sub("w").display()
        );
        let Some(mounted) = Mounted::new("overlay", &options, &sub("m")) else { return };
        for file in ["m/single", "m/link", "m/d/inner"] {
            std::fs::set_permissions(sub(file), std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        drop(mounted);

        let lower = sys::open_root(&sub("l")).unwrap();
        let upper = sys::open_root(&sub("u")).unwrap();
        let uuid = sys::fs_uuid(lower.as_fd()).unwrap();
        let ours = |name: &str| {
            let handle = sys::handle(At::Name(lower.as_fd(), OsStr::new(name))).unwrap();
            OverlayHandle::encode(&handle, uuid, false)
        };
        for name in ["single", "link", "d"] {
            let at = At::Name(upper.as_fd(), OsStr::new(name));
            let theirs = sys::xattr::get(at, c"trusted.overlay.origin").unwrap().unwrap();
            assert_eq!(ours(name).as_bytes(), theirs, "{name}");
            let (their_uuid, handle) = OverlayHandle::parse(&theirs).unwrap();
            assert_eq!(their_uuid, uuid.unwrap_or_default());
            let found = sys::open_handle(lower.as_fd(), &handle).unwrap();
            let stat = |at| sys::stat(at).unwrap().ino;
            assert_eq!(stat(At::Fd(found.as_fd())), stat(At::Name(lower.as_fd(), OsStr::new(name))));
        }

        let index = sys::open_root(&sub("w/index")).unwrap();
        let mut entries = Vec::new();
        sys::read_dir(index.as_fd(), &mut |e| entries.push(e.name.to_vec())).unwrap();
        assert_eq!(entries, [ours("link").index_name().into_encoded_bytes()]);
        let markers = read_file_markers(At::Name(upper.as_fd(), OsStr::new("link"))).unwrap();
        assert_eq!(markers.nlink, Some(NlinkDelta::Upper(0)));
        assert_eq!(markers.origin.as_deref(), Some(ours("link").as_bytes()));
        assert!(read_dir_markers(upper.as_fd()).unwrap().impure);
    }

    #[test]
    fn the_kernel_writes_the_same() {
        let tmp = tempfile::tempdir().unwrap();
        compare_with_kernel(tmp.path());
        let tmpfs = tmp.path().join("tmpfs");
        std::fs::create_dir(&tmpfs).unwrap();
        if let Some(_mounted) = Mounted::new("tmpfs", "size=1m", &tmpfs) {
            compare_with_kernel(&tmpfs);
        }
    }
}
