//! What is where, which format it has, and how a store comes to be.

use super::dir::Dir;
use super::error::{Error, Result, io};
use super::temp::random_hex;
use crate::sys::{self, At, Errno};
use std::ffi::OsStr;
use std::path::Path;

/// The newest format that is known here, and the one that is written.
pub(super) const FORMAT: u64 = 1;

/// First word of the file `format`.
const MAGIC: &str = "laminafs store ";

/// The directories of a store, parents first.
const DIRECTORIES: [&str; 10] = [
    "blobs",
    "blobs/sha256",
    "layers",
    "layers/sha256",
    "images",
    "images/sha256",
    "refs",
    "writable",
    "tmp",
    "quarantine",
];

/// Whether a name may stand in the root of a store.
pub(super) fn is_known(name: &OsStr) -> bool {
    let fixed = ["format", "lock", "lost+found"];
    DIRECTORIES.iter().chain(&fixed).any(|known| name == OsStr::new(known))
        || name.to_str().is_some_and(|n| n.starts_with(".format-"))
}

/// Opens the store at `path`, or makes one where there is none or only an empty directory.
///
/// Idempotent, also when two processes do it at once: a store is one when it has `format`, which comes last.
pub(super) fn open(path: &Path) -> Result<Dir> {
    let root = match Dir::open_root(path) {
        Err(e) if e.is(Errno::NOENT) => {
            make_root(path)?;
            Dir::open_root(path)?
        }
        other => other?,
    };
    if !root.has("format")? {
        make(&root)?;
    }
    check_format(&root)?;
    keep_private(&root)?;
    Ok(root)
}

/// Makes the directory and those above it that are missing, durably: what is later reported done is in it.
fn make_root(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let missing = path.ancestors().take_while(|dir| !dir.exists()).count();
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| Error::Io { doing: "create", path: path.to_owned(), source })?;
    path.ancestors().skip(1).take(missing).try_for_each(|parent| match Dir::open_root(parent) {
        // One may make directories where one may not look.
        Err(e) if e.is(Errno::ACCESS) => Ok(()),
        parent => parent?.sync(),
    })
}

/// Makes what a killed process or another one at this moment has not made yet.
fn make(root: &Dir) -> Result<()> {
    if let Some(other) = root.names()?.iter().find(|name| !is_known(name)) {
        let why = format!("it holds {}", Path::new(other).display());
        return Err(Error::NotAStore { path: root.path().to_owned(), why });
    }
    for path in DIRECTORIES {
        let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
        let parent = root.open(parent)?;
        match sys::mkdir(parent.fd(), OsStr::new(name), 0o700) {
            Err(e) if e.is(Errno::EXIST) => {}
            made => made.map_err(io("create", &root.at(path)))?,
        }
        parent.sync()?;
    }
    match sys::create_file(root.fd(), OsStr::new("lock"), 0o600) {
        Err(e) if e.is(Errno::EXIST) => {}
        made => drop(made.map_err(io("create", &root.at("lock")))?),
    }
    let temporary = format!(".format-{}", random_hex(14)?);
    root.write(&temporary, format!("{MAGIC}{FORMAT}\n").as_bytes())?;
    root.rename(&temporary, root, "format")?;
    root.sync()
}

fn check_format(root: &Dir) -> Result<()> {
    let bytes = root.read("format")?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let number = text.strip_prefix(MAGIC).and_then(|n| n.trim_end().parse().ok());
    match number {
        Some(FORMAT) => Ok(()),
        Some(found) if found > FORMAT => Err(Error::NewerFormat { path: root.path().to_owned(), found, known: FORMAT }),
        _ => Err(Error::NotAStore { path: root.path().to_owned(), why: "its file `format` is unreadable".into() }),
    }
}

/// Others must not reach the set-user-id programs in layers, nor the files of images.
fn keep_private(root: &Dir) -> Result<()> {
    let stat = sys::stat(At::Fd(root.fd())).map_err(io("look at", root.path()))?;
    if stat.mode & 0o077 == 0 {
        return Ok(());
    }
    match sys::chmod(At::Fd(root.fd()), 0o700) {
        Err(e) if e.is(Errno::ROFS) => Ok(()),
        changed => changed.map_err(io("change the mode of", root.path())),
    }
}
