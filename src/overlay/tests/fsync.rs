//! What fsync(2) writes of the directories on the way, and what it may leave out.

use super::harness::{errno, me, settled};
use super::posix::files;
use crate::overlay::{New, RenameMode};
use crate::sys::seam;

/// Which of the calls that sync were made, in order.
fn syncs(act: impl FnOnce()) -> Vec<&'static str> {
    seam::plan(seam::Plan::Count);
    act();
    seam::take().trace.into_iter().filter(|c| c.contains("sync")).collect()
}

#[test]
fn fsync_writes_each_changed_directory_on_the_way_once() {
    let s = files();
    let fs = s.mount();
    fs.rename("upper", "d/new").unwrap();
    let ino = fs.ino("d/new").unwrap();
    let sync = || fs.overlay.fsync(ino, false).unwrap();
    assert_eq!(syncs(sync), ["fsync", "fsync", "fsync"], "the file, d, the root");
    assert_eq!(syncs(sync), ["fsync"], "nothing changed since but perhaps the file");
    // A directory whose sync failed is not taken for synced.
    fs.create("d/newer").unwrap();
    seam::plan(seam::Plan::FailNth { n: 2, errno: crate::sys::Errno::IO });
    assert_eq!(errno(fs.overlay.fsync(ino, false)), libc::EIO);
    seam::take();
    assert_eq!(syncs(sync), ["fsync", "fsync"], "the file, d");
}

#[test]
fn a_change_in_a_forgotten_directory_is_written_by_the_next_fsync() {
    let s = files();
    let fs = s.mount();
    let other = fs.ino("upper").unwrap();
    let file = fs.create("d/new").unwrap().ino;
    let dir = fs.ino("d").unwrap();
    fs.overlay.forget(file, 1000);
    fs.overlay.forget(dir, 1000);
    assert_eq!(errno(fs.overlay.get_attr(dir)), libc::ESTALE, "it is forgotten");
    // It fails once; the mark must outlast that.
    seam::plan(seam::Plan::FailNth { n: 2, errno: crate::sys::Errno::IO });
    assert_eq!(errno(fs.overlay.fsync(other, false)), libc::EIO);
    assert_eq!(seam::take().trace, ["fsync", "syncfs"]);
    let file = fs.ino("d/new").unwrap();
    assert_eq!(syncs(|| fs.overlay.fsync(file, false).unwrap()), ["fsync", "syncfs"]);
    assert!(!syncs(|| fs.overlay.fsync(file, false).unwrap()).contains(&"syncfs"), "once is enough");
}

#[test]
fn fsync_waits_for_the_sync_of_a_directory_that_another_has_begun() {
    let s = files();
    let fs = s.mount();
    fs.rename("upper", "d/new").unwrap();
    let ino = fs.ino("d/new").unwrap();
    let dir = fs.overlay.directory(fs.ino("d").unwrap()).unwrap();
    let dir = dir.dir.as_ref().unwrap();
    let (ended, wait) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        // As another thread has it that is in the middle of it.
        let syncing = dir.syncing.lock();
        dir.unsynced.store(false, std::sync::atomic::Ordering::Release);
        let overlay = &fs.overlay;
        scope.spawn(move || ended.send(overlay.fsync(ino, false)).unwrap());
        let early = wait.recv_timeout(std::time::Duration::from_millis(200));
        assert!(early.is_err(), "told that it is safe before it is");
        drop(syncing);
        wait.recv().unwrap().unwrap();
    });
}

#[test]
fn no_rename_into_a_directory_is_missed_by_the_fsync_that_follows() {
    let s = files();
    let fs = s.mount();
    let dir = fs.overlay.directory(fs.ino("d").unwrap()).unwrap();
    let (from, to) = (crate::overlay::ROOT, dir.ino);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let overlay = &fs.overlay;
            scope.spawn(move || {
                for n in 0..25 {
                    let name = format!("{thread}-{n}");
                    let name = std::ffi::OsStr::new(&name);
                    let ino = overlay.create(from, name, New::File, 0o644, 0, me()).unwrap().ino;
                    overlay.rename(from, name, to, name, RenameMode::NoReplace).unwrap();
                    overlay.fsync(ino, false).unwrap();
                }
            });
        }
    });
    let unsynced = dir.dir.as_ref().unwrap().unsynced.load(std::sync::atomic::Ordering::Acquire);
    assert!(!unsynced, "the last fsync came after the last rename");
    assert_eq!(fs.list("d").len(), 102);
    settled(&s, fs);
}
