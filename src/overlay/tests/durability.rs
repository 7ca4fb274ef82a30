//! What is synced, and in which order: docs/SEMANTICS.md section 3.1 and 3.4. The calls are counted at the seam.

use super::harness::{Fs, Stack};
use crate::overlay::{ROOT, RenameMode, Result};
use crate::sys::seam::{self, Plan};

/// A change, and what it is.
type Change = (&'static str, fn(&Fs) -> Result<()>);

fn stack() -> Stack {
    let s = Stack::new(1);
    s.lower(1).file("f", "content").file("a/b/c/f", "content").file("h", "linked").link("h", "a/h2");
    s.lower(1).file("gone", "").file("dir/x", "").dir("d");
    s
}

/// The calls that change the disk, or make changes last.
fn calls(act: impl FnOnce() -> Result<()>) -> Vec<&'static str> {
    seam::plan(Plan::Count);
    let result = act();
    let trace = seam::take().trace;
    result.unwrap();
    trace
}

fn syncs(act: impl FnOnce() -> Result<()>) -> Vec<&'static str> {
    calls(act).into_iter().filter(|c| c.contains("sync")).collect()
}

fn fsync(fs: &Fs, path: &str) -> Vec<&'static str> {
    syncs(|| fs.overlay.fsync(fs.ino(path).unwrap(), false))
}

fn fsync_dir(fs: &Fs, path: &str) -> Vec<&'static str> {
    syncs(|| fs.overlay.fsync_dir(fs.ino(path).unwrap()))
}

/// fuse-overlayfs defect A17: after a crash of the machine an empty or half copy is in front of good data.
#[test]
fn copied_data_is_synced_before_it_gets_its_name() {
    let changes: [Change; 5] = [
        ("write", |fs| fs.write("f", 0, "x")),
        ("chmod", |fs| fs.chmod("a/b/c/f", 0o600).map(drop)),
        ("truncate", |fs| fs.truncate("f", 3).map(drop)),
        ("attribute", |fs| fs.set_xattr("f", "user.a", "b")),
        ("rename", |fs| fs.rename("f", "g")),
    ];
    for (what, change) in changes {
        let s = stack();
        let fs = s.mount();
        let trace = calls(|| change(&fs));
        // Directories on the way get their names before, and are not synced.
        let synced = trace.iter().position(|c| *c == "fsync").unwrap_or_else(|| panic!("{what}: {trace:?}"));
        let made = trace[..synced].iter().rposition(|c| *c == "openat").unwrap();
        let copied = trace[made..synced].iter().any(|c| ["FICLONE", "copy_file_range"].contains(c));
        let is_rename = |c: &&str| c.starts_with("rename");
        let named = !trace[made..synced].iter().any(is_rename) && trace[synced..].iter().any(is_rename);
        assert!(copied && named, "{what}: {trace:?}");
        assert_eq!(trace.iter().filter(|c| c.contains("sync")).count(), 1, "{what}: {trace:?}");
    }
}

#[test]
fn the_copy_of_a_file_with_several_names_is_synced_before_it_is_in_the_index() {
    let s = stack();
    let fs = s.mount();
    let trace = calls(|| fs.write("a/h2", 0, "x"));
    let [synced, named] = ["fsync", "link"].map(|n| trace.iter().position(|c| c.starts_with(n)));
    assert!(synced.unwrap() < named.unwrap(), "{trace:?}");
}

/// A whole tree copied up and a file made in it: everything on the way is synced, once.
#[test]
fn fsync_of_a_file_syncs_the_way_to_it() {
    let s = stack();
    let fs = s.mount();
    fs.create("a/b/c/new").unwrap();
    fs.write("a/b/c/new", 0, "data").unwrap();
    // The file, and four directories: c has a new entry, and so have b, a and the root.
    assert_eq!(fsync(&fs, "a/b/c/new"), ["fsync"; 5]);
    // Nothing but the data is new then.
    fs.write("a/b/c/new", 0, "more").unwrap();
    assert_eq!(fsync(&fs, "a/b/c/new"), ["fsync"]);
    let ino = fs.ino("a/b/c/new").unwrap();
    assert_eq!(syncs(|| fs.overlay.fsync(ino, true)), ["fdatasync"]);
    // A sibling is a new entry of its directory only.
    fs.create("a/b/c/next").unwrap();
    assert_eq!(fsync(&fs, "a/b/c/next"), ["fsync"; 2]);
    // Who only reads has nothing to sync.
    assert_eq!(fsync(&fs, "f"), [""; 0]);
}

#[test]
fn fsync_after_a_copy_up_syncs_the_names_it_made() {
    let s = stack();
    let fs = s.mount();
    fs.write("a/b/c/f", 0, "new").unwrap();
    assert_eq!(fsync(&fs, "a/b/c/f"), ["fsync"; 5]);
    assert_eq!(fsync(&fs, "a/b/c/f"), ["fsync"]);
    // The index has the file with several names.
    fs.write("h", 0, "new").unwrap();
    let way = fsync(&fs, "h").len();
    assert!(way >= 3, "the file, the index and the root: {way}");
}

/// The rename that replaces a file after its data was synced: the way of editors and databases.
#[test]
fn fsync_of_a_directory_syncs_what_happened_in_it() {
    let changes: [Change; 8] = [
        ("create", |fs| fs.create("d/new").map(drop)),
        ("mkdir", |fs| fs.mkdir("d/new").map(drop)),
        ("symlink", |fs| fs.symlink("x", "d/new").map(drop)),
        ("rename in", |fs| fs.rename("f", "d/f")),
        ("rename out", |fs| fs.create("d/new").and_then(|_| fs.rename("d/new", "new"))),
        ("link", |fs| fs.link("f", "d/f").map(drop)),
        ("unlink", |fs| fs.create("d/new").and_then(|_| fs.unlink("d/new"))),
        ("exchange", |fs| fs.create("d/new").and_then(|_| fs.exchange("d/new", "f"))),
    ];
    for (what, change) in changes {
        let s = stack();
        let fs = s.mount();
        // d is in upper already, and nothing is to be synced.
        fs.chmod("d", 0o700).unwrap();
        fsync_dir(&fs, "d");
        assert_eq!(fsync_dir(&fs, "d"), [""; 0], "{what}");
        change(&fs).unwrap();
        let done = fsync_dir(&fs, "d");
        assert!(!done.is_empty() && done.iter().all(|c| *c == "fsync"), "{what}: {done:?}");
        assert_eq!(fsync_dir(&fs, "d"), [""; 0], "{what}: again");
    }
}

/// What is deleted must stay deleted: whiteouts and opaque directories are names as well.
#[test]
fn fsync_of_a_directory_syncs_whiteouts() {
    let changes: [Change; 4] = [
        ("unlink", |fs| fs.unlink("gone")),
        ("rename away", |fs| fs.rename("gone", "d/gone")),
        ("rmdir", |fs| fs.unlink("dir/x").and_then(|()| fs.rmdir("dir"))),
        ("mkdir again", |fs| {
            fs.unlink("dir/x")?;
            fs.rmdir("dir")?;
            fs.mkdir("dir").map(drop)
        }),
    ];
    for (what, change) in changes {
        let s = stack();
        let fs = s.mount();
        change(&fs).unwrap();
        assert!(!fsync_dir(&fs, "").is_empty(), "{what}");
        assert_eq!(fsync_dir(&fs, ""), [""; 0], "{what}: again");
    }
    let s = stack();
    let fs = s.mount();
    let pid = std::process::id();
    let me = crate::overlay::Caller { pid, ..super::harness::me() };
    let (old, new) = ((ROOT, "gone".as_ref()), (fs.ino("d").unwrap(), "new".as_ref()));
    fs.overlay.rename_leaving_whiteout(old, new, RenameMode::Replace, me).unwrap();
    assert!(!fsync_dir(&fs, "").is_empty());
}

/// A sync that failed is made again by the next one, which must not say that all is well.
#[test]
fn a_failed_sync_is_not_forgotten() {
    // The file, then d, then the root.
    for (n, left) in [(1, 3), (2, 3), (3, 2)] {
        let s = stack();
        let fs = s.mount();
        fs.create("d/new").unwrap();
        let ino = fs.ino("d/new").unwrap();
        seam::plan(Plan::FailNth { n, errno: crate::sys::Errno::IO });
        let result = fs.overlay.fsync(ino, false);
        seam::take();
        assert_eq!(result.unwrap_err().errno(), libc::EIO, "call {n}");
        assert_eq!(fsync(&fs, "d/new").len(), left, "after call {n} failed");
        assert_eq!(fsync(&fs, "d/new").len(), 1, "the file only");
    }
}

#[test]
fn volatile_mounts_sync_nothing() {
    let mut s = stack();
    s.options.volatile = true;
    let fs = s.mount();
    let trace = calls(|| {
        fs.write("a/b/c/f", 0, "x")?;
        fs.write("h", 0, "x")?;
        fs.create("d/new")?;
        fs.rename("d", "e")?;
        fs.unlink("gone")?;
        fs.overlay.fsync(fs.ino("a/b/c/f")?, false)?;
        fs.overlay.fsync(fs.ino("h")?, true)?;
        fs.overlay.fsync_dir(ROOT)?;
        fs.overlay.sync_all()
    });
    assert!(!trace.is_empty() && trace.iter().all(|c| !c.contains("sync")), "{trace:?}");
}

#[test]
fn unmounting_syncs_the_whole_file_system() {
    let s = stack();
    let fs = s.mount();
    fs.write("f", 0, "x").unwrap();
    assert_eq!(syncs(|| fs.overlay.sync_all()), ["syncfs"]);
}
