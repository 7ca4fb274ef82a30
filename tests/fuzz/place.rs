//! A layer directory, what is beside it, and the layers below it.

use laminafs::archive::{Expected, Form, Limits, Options, Owners, complete, unpack};
use laminafs::layer::xattr::Namespace;
use laminafs::sys::{self, At, Fd, xattr};
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A memory file system. The name is fixed because `mutate.rs` has links that lead there.
pub const BASE: &str = "/dev/shm/laminafs-fuzz";

/// Inode number, link count and the time of the last change of anything at all.
type Seen = BTreeMap<PathBuf, (u64, u64, i64, i64)>;

pub struct Place {
    native: Form,
    below_native: OwnedFd,
    below_user: OwnedFd,
    watched: Seen,
}

/// What [`Form::probe`] finds for an ordinary user.
const USER: Form = Form { namespace: Namespace::User, owners: Owners::OverrideStat, device_whiteouts: false };

impl Place {
    pub fn new() -> Self {
        match fs::remove_dir_all(BASE) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => panic!("{BASE}: {e}"),
            _ => {}
        }
        fs::create_dir_all(format!("{BASE}/inner/layer")).expect("a memory file system at /dev/shm");
        for victim in ["victim", "inner/victim"] {
            fs::write(format!("{BASE}/{victim}"), "untouched").expect("space");
        }
        let root = sys::open_root(Path::new(BASE)).expect("a directory");
        let native = Form::probe(root.as_fd()).expect("a form");
        assert_eq!(native.owners, Owners::Native, "run this as root, or owners and devices are not tested");
        let below_native = below("below-native", native);
        let below_user = below("below-user", USER);
        let mut place = Self { native, below_native, below_user, watched: Seen::new() };
        place.watched = place.outside();
        place
    }

    pub fn form(&self, user: bool) -> Form {
        if user { USER } else { self.native }
    }

    pub fn below(&self, form: Form, any: bool) -> Vec<Fd<'_>> {
        let below = if form == USER { &self.below_user } else { &self.below_native };
        if any { vec![below.as_fd()] } else { Vec::new() }
    }

    /// A new, empty layer directory.
    pub fn layer(&self) -> OwnedFd {
        let path = format!("{BASE}/inner/layer");
        fs::remove_dir_all(&path).expect("a layer can be removed");
        fs::create_dir(&path).expect("space");
        sys::open_root(Path::new(&path)).expect("a directory")
    }

    /// No entry is outside, none is gone, none has changed.
    pub fn check_outside(&self) {
        assert_eq!(self.outside(), self.watched, "something outside the layer changed");
    }

    fn outside(&self) -> Seen {
        let mut seen = Seen::new();
        look(Path::new(BASE), &mut seen);
        seen
    }

    /// Nothing half-done is left in a layer that was reported complete.
    pub fn check_layer(&self, form: Form) {
        check(&PathBuf::from(format!("{BASE}/inner/layer")), form);
    }
}

/// A layer with something of every kind, under names that `mutate.rs` uses.
fn below(name: &str, form: Form) -> OwnedFd {
    let path = format!("{BASE}/{name}");
    fs::create_dir(&path).expect("space");
    let fd = sys::open_root(Path::new(&path)).expect("a directory");
    let limits = Limits::default();
    let options = Options { form, expected: Expected::default(), limits: &limits, progress: None };
    let blob = crate::mutate::below();
    let unpacked = unpack(&blob[..], fd.as_fd(), &options).expect("a good layer");
    complete(fd.as_fd(), &[], form, unpacked.pending).expect("a good layer");
    fd
}

fn look(dir: &Path, seen: &mut Seen) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let stat = path.symlink_metadata().expect("attributes");
        let name = path.file_name().expect("a name");
        if name == "inner" || name == "layer" {
            seen.insert(path.clone(), (0, 0, 0, 0));
        } else {
            seen.insert(path.clone(), (stat.ino(), stat.nlink(), stat.ctime(), stat.ctime_nsec()));
        }
        if stat.is_dir() && name != "layer" {
            look(&path, seen);
        }
    }
}

fn check(dir: &Path, form: Form) {
    let fd = sys::open_root(dir).expect("a directory of the layer");
    for attribute in [c"trusted.overlay.laminafs.implied", c"user.overlay.laminafs.implied"] {
        let left = xattr::get(At::Fd(fd.as_fd()), attribute).expect("attributes");
        assert!(left.is_none(), "{} is marked as unfinished", dir.display());
    }
    for entry in fs::read_dir(dir).expect("a directory of the layer") {
        let path = entry.expect("an entry").path();
        let stat = path.symlink_metadata().expect("attributes");
        let kind = stat.file_type();
        assert!(!kind.is_socket(), "{} is the placeholder of a hard link", path.display());
        if form == USER {
            assert!(kind.is_dir() || kind.is_file() || kind.is_symlink(), "{} cannot be kept", path.display());
            assert!((stat.uid(), stat.gid()) == (0, 0), "{} was given away", path.display());
        }
        if kind.is_dir() {
            check(&path, form);
        }
    }
}
