//! A tar written byte by byte, and a layer directory to look at.

use crate::archive::{Error, Expected, Form, Limits, Options, Owners, Unpacked, complete, unpack};
use crate::sys::{self, At, Stat, xattr};
use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr};
use std::fmt::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A header under construction.
#[derive(Clone)]
pub struct Head(pub [u8; 512]);

pub fn head(kind: u8, name: impl AsRef<[u8]>) -> Head {
    let mut head = Head([0; 512]).set(0, name.as_ref()).set(257, b"ustar\x0000");
    head.0[156] = kind;
    head.number(100, 8, if kind == b'5' { 0o755 } else { 0o644 }).number(136, 12, 1_700_000_000)
}

impl Head {
    pub fn set(mut self, at: usize, bytes: &[u8]) -> Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub fn number(self, at: usize, width: usize, value: u64) -> Self {
        self.set(at, format!("{value:0width$o}\0", width = width - 1).as_bytes())
    }

    pub fn mode(self, mode: u64) -> Self {
        self.number(100, 8, mode)
    }

    pub fn owner(self, uid: u64, gid: u64) -> Self {
        self.number(108, 8, uid).number(116, 8, gid)
    }

    pub fn size(self, size: u64) -> Self {
        self.number(124, 12, size)
    }

    pub fn mtime(self, time: u64) -> Self {
        self.number(136, 12, time)
    }

    pub fn link(self, target: impl AsRef<[u8]>) -> Self {
        self.set(157, target.as_ref())
    }

    pub fn device(self, major: u64, minor: u64) -> Self {
        self.number(329, 8, major).number(337, 8, minor)
    }

    fn sealed(mut self) -> [u8; 512] {
        self.0[148..156].fill(b' ');
        let sum: u64 = self.0.iter().map(|b| u64::from(*b)).sum();
        self.set(148, format!("{sum:06o}\0 ").as_bytes()).0
    }
}

/// An archive under construction.
#[derive(Clone, Default)]
pub struct Tar(pub Vec<u8>);

pub fn tar() -> Tar {
    Tar::default()
}

impl Tar {
    /// A header as it is, and nothing after it.
    pub fn raw(mut self, head: Head) -> Self {
        self.0.extend(head.sealed());
        self
    }

    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// A header with that much data.
    pub fn with(self, head: Head, data: &[u8]) -> Self {
        self.raw(head.size(data.len() as u64)).bytes(data)
    }

    pub fn file(self, name: impl AsRef<[u8]>, data: &str) -> Self {
        self.with(head(b'0', name), data.as_bytes())
    }

    pub fn dir(self, name: impl AsRef<[u8]>) -> Self {
        self.raw(head(b'5', name))
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.raw(head(b'2', name).link(target))
    }

    pub fn link(self, name: &str, target: &str) -> Self {
        self.raw(head(b'1', name).link(target))
    }

    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        self.with(head(b'x', "PaxHeader"), &records_of(records))
    }

    /// The archive with its two zero blocks.
    pub fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

pub fn records_of(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in records {
        let body = key.len() + value.len() + 3;
        let len = (1..).map(|digits| body + digits).find(|len| len.to_string().len() == len - body).unwrap();
        out.extend([format!("{len} {key}=").as_bytes(), value, b"\n"].concat());
    }
    out
}

/// A layer directory, beside which nothing may appear.
pub struct Layer {
    outside: tempfile::TempDir,
    pub fd: OwnedFd,
    pub form: Form,
}

impl Layer {
    pub fn new() -> Self {
        let layer = Self::in_form(None);
        assert_eq!(layer.form.owners, Owners::Native, "owners and devices are tested here: run this as root");
        layer
    }

    pub fn in_form(form: Option<Form>) -> Self {
        let outside = tempfile::tempdir().unwrap();
        std::fs::create_dir(outside.path().join("layer")).unwrap();
        std::fs::write(outside.path().join("victim"), "untouched").unwrap();
        let fd = sys::open_root(&outside.path().join("layer")).unwrap();
        let form = form.unwrap_or_else(|| Form::probe(fd.as_fd()).unwrap());
        Self { outside, fd, form }
    }

    pub fn options<'a>(&self, limits: &'a Limits) -> Options<'a> {
        Options { form: self.form, expected: Expected::default(), limits, progress: None }
    }

    pub fn unpack(&self, blob: &[u8]) -> Result<Unpacked, Error> {
        let limits = Limits::default();
        let result = unpack(blob, self.fd.as_fd(), &self.options(&limits));
        self.check_outside();
        result
    }

    pub fn apply(&self, blob: &[u8], below: &[&Layer]) -> Result<(), Error> {
        let unpacked = self.unpack(blob)?;
        let below: Vec<_> = below.iter().map(|layer| layer.fd.as_fd()).collect();
        let result = complete(self.fd.as_fd(), &below, self.form, unpacked.pending);
        self.check_outside();
        result
    }

    pub fn check_outside(&self) {
        let mut names: Vec<_> =
            std::fs::read_dir(self.outside.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["layer", "victim"], "something was written outside the layer");
        assert_eq!(std::fs::read_to_string(self.outside.path().join("victim")).unwrap(), "untouched");
        let victim = std::fs::metadata(self.outside.path().join("victim")).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::nlink(&victim), 1);
    }

    pub fn stat(&self, path: impl AsRef<[u8]>) -> Stat {
        let path = OsStr::from_bytes(path.as_ref());
        sys::stat(At::Fd(sys::open_path_rel(self.fd.as_fd(), path).unwrap().as_fd())).unwrap()
    }

    pub fn xattr(&self, path: &str, name: &CStr) -> Option<Vec<u8>> {
        let fd = sys::open_path_rel(self.fd.as_fd(), OsStr::new(path)).unwrap();
        xattr::get(At::Fd(fd.as_fd()), name).unwrap()
    }

    pub fn read(&self, path: impl AsRef<[u8]>) -> Vec<u8> {
        std::fs::read(self.path().join(OsStr::from_bytes(path.as_ref()))).unwrap()
    }

    pub fn path(&self) -> std::path::PathBuf {
        self.outside.path().join("layer")
    }

    /// All entries: contents of files, targets of links, kinds of others; ` (opaque)` at opaque directories.
    pub fn tree(&self) -> BTreeMap<String, String> {
        let mut tree = BTreeMap::new();
        walk(&self.path(), "", &mut tree);
        tree
    }

    pub fn assert_tree(&self, want: &[(&str, &str)]) {
        let want = want.iter().map(|(path, what)| ((*path).to_owned(), (*what).to_owned())).collect();
        assert_eq!(self.tree(), want);
    }
}

fn walk(dir: &Path, prefix: &str, tree: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().as_bytes().escape_ascii().to_string();
        let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        let fd = sys::open_root(path.parent().unwrap()).unwrap();
        let at = At::Name(fd.as_fd(), path.file_name().unwrap());
        let stat = sys::stat(at).unwrap();
        let what = match stat.file_type() {
            libc::S_IFDIR => {
                walk(&path, &name, tree);
                "dir".to_owned()
            }
            libc::S_IFREG => std::fs::read(&path).unwrap().escape_ascii().to_string(),
            libc::S_IFLNK => format!("-> {}", std::fs::read_link(&path).unwrap().display()),
            libc::S_IFIFO => "fifo".into(),
            libc::S_IFCHR if stat.is_whiteout_dev() => "whiteout".into(),
            libc::S_IFCHR => format!("char {}:{}", stat.rdev_major, stat.rdev_minor),
            libc::S_IFBLK => format!("block {}:{}", stat.rdev_major, stat.rdev_minor),
            other => format!("type {other:o}"),
        };
        let mut what = what;
        for (short, marker) in [("opaque", "opaque"), ("xattr whiteout", "whiteout"), ("implied", "laminafs.implied")] {
            for ns in ["trusted", "user"] {
                let attribute = std::ffi::CString::new(format!("{ns}.overlay.{marker}")).unwrap();
                match xattr::get(at, &attribute) {
                    Ok(Some(value)) if value == b"x" => what.push_str(" (has xattr whiteouts)"),
                    Ok(Some(_)) => write!(what, " ({short})").unwrap(),
                    _ => {}
                }
            }
        }
        tree.insert(name, what);
    }
}

/// A finished layer made from an archive, over others, the topmost first.
pub fn layer(tar: Tar, below: &[&Layer]) -> Layer {
    let layer = Layer::new();
    layer.apply(&tar.end(), below).unwrap();
    layer
}

/// The message with which an archive is refused.
pub fn refused(tar: Tar) -> String {
    refused_over(tar, &[])
}

pub fn refused_over(tar: Tar, below: &[&Layer]) -> String {
    match Layer::new().apply(&tar.end(), below) {
        Ok(()) => panic!("the archive was accepted"),
        Err(e) => e.to_string(),
    }
}
