//! The mutations that [`super::crash`] enumerates.

use super::crash::{Case, common, enumerate_all};
use super::harness::{Fs, OTHER, errno, me};
use super::tree::root;
use crate::overlay::{Caller, Change, New, ROOT, RenameMode, Result};
use crate::sys::{SetTime, Time};

const fn case(name: &'static str, run: fn(&Fs) -> Result<()>) -> Case {
    Case { name, build: common, prepare: None, run, between: &[], fills_in: false, overridden: false }
}

const fn after(name: &'static str, prepare: fn(&Fs) -> Result<()>, run: fn(&Fs) -> Result<()>) -> Case {
    Case { name, build: common, prepare: Some(prepare), run, between: &[], fills_in: false, overridden: false }
}

/// Somebody else; an ordinary user cannot give files away and stays itself.
fn other() -> Caller {
    if root() { OTHER } else { me() }
}

fn make(fs: &Fs, path: &str, new: New<'_>, caller: Caller) -> Result<()> {
    fs.make(path, new, 0o2775, 0o022, caller).map(drop)
}

const FIFO: New<'_> = New::Node(libc::S_IFIFO, 0, 0);
const WHITEOUT: New<'_> = New::Node(libc::S_IFCHR, 0, 0);

/// What is left where the whiteout could not be made: names as before, times new.
fn there_and_back(fs: &Fs, name: &str) -> Result<()> {
    fs.rename(name, "new")?;
    fs.rename("new", name)
}

/// What the first try did already, a second one does not.
fn unlink_if_there(fs: &Fs, path: &str) -> Result<()> {
    match fs.attr(path) {
        Err(e) if e.errno() == libc::ENOENT => Ok(()),
        Err(e) => Err(e),
        Ok(_) => fs.unlink(path),
    }
}

/// Renames in the root, with `RENAME_WHITEOUT`.
fn leave(fs: &Fs, old: &str, new: &str) -> Result<()> {
    fs.overlay.rename_leaving_whiteout((ROOT, old.as_ref()), (ROOT, new.as_ref()), RenameMode::Replace, me())
}

fn target() -> New<'static> {
    New::Symlink(std::ffi::OsStr::new("target"))
}

#[test]
fn create_is_old_or_new_at_every_crash_and_failure() {
    enumerate_all(
        "create",
        &[
            case("create file", |fs| make(fs, "new", New::File, me())),
            case("create file in lower directory", |fs| make(fs, "deep/er/new", New::File, me())),
            case("create file, other caller", |fs| make(fs, "new", New::File, other())),
            case("create file over whiteout", |fs| make(fs, "wh", New::File, me())),
            case("create file over whiteout, other caller", |fs| make(fs, "wh", New::File, other())),
            case("mkdir", |fs| make(fs, "new", New::Directory, me())),
            case("mkdir, other caller", |fs| make(fs, "new", New::Directory, other())),
            case("mkdir over whiteout", |fs| make(fs, "wh", New::Directory, me())),
            case("mkdir over whiteout, other caller", |fs| make(fs, "wh", New::Directory, other())),
            after(
                "mkdir over whiteout of directory",
                |fs| {
                    fs.unlink("ld/f")?;
                    fs.unlink("ld/g")?;
                    fs.rmdir("ld")
                },
                |fs| make(fs, "ld", New::Directory, me()),
            ),
            case("symlink", |fs| make(fs, "new", target(), me())),
            case("symlink, other caller", |fs| make(fs, "new", target(), other())),
            case("symlink over whiteout", |fs| make(fs, "wh", target(), me())),
            case("mknod", |fs| make(fs, "new", FIFO, me())),
            case("mknod, other caller", |fs| make(fs, "new", FIFO, other())),
            case("mknod over whiteout", |fs| make(fs, "wh", FIFO, me())),
            case("mknod 0:0", |fs| make(fs, "new", WHITEOUT, me())),
            case("mknod 0:0 in lower directory, over whiteout", |fs| {
                unlink_if_there(fs, "deep/er/f")?;
                make(fs, "deep/er/f", WHITEOUT, me())
            })
            .between_states(&[|fs| fs.unlink("deep/er/f")]),
        ],
    );
}

#[test]
fn create_for_another_user_fails_without_privilege_and_leaves_nothing() {
    let mut stack = super::harness::Stack::new(2);
    common(&mut stack);
    let fs = stack.mount();
    let result = make(&fs, "new", New::File, OTHER);
    assert_eq!(errno(result), if root() { 0 } else { libc::EPERM });
    assert_eq!(fs.exists("new"), root());
}

#[test]
fn link_is_old_or_new_at_every_crash_and_failure() {
    enumerate_all(
        "link",
        &[
            case("link upper file", |fs| fs.link("u", "new").map(drop)),
            case("link lower file", |fs| fs.link("f", "new").map(drop)),
            case("link lower file into lower directory", |fs| fs.link("f", "deep/er/new").map(drop)),
            case("link over whiteout", |fs| fs.link("u", "wh").map(drop)),
            case("link lower file over whiteout", |fs| fs.link("f", "wh").map(drop)),
            case("link lower hard link", |fs| fs.link("h1", "new").map(drop)),
            case("link lower hard link over whiteout", |fs| fs.link("hd/h3", "wh").map(drop)),
            after("link copied-up hard link", |fs| fs.write("h1", 0, "H"), |fs| fs.link("h1", "new").map(drop)),
            after("link not yet linked up name", |fs| fs.write("h1", 0, "H"), |fs| fs.link("h2", "new").map(drop)),
            case("link symlink", |fs| fs.link("s", "new").map(drop)),
        ],
    );
}

#[test]
fn unlink_is_old_or_new_at_every_crash_and_failure() {
    enumerate_all(
        "unlink",
        &[
            case("unlink upper file", |fs| fs.unlink("u")),
            case("unlink upper file over lower", |fs| fs.unlink("over")),
            case("unlink lower file", |fs| fs.unlink("f")),
            case("unlink lower file in lower directory", |fs| fs.unlink("deep/er/f")),
            case("unlink upper file in merged directory", |fs| fs.unlink("m/u")),
            after("unlink copied-up file", |fs| fs.write("f", 0, "F"), |fs| fs.unlink("f")),
            case("unlink lower symlink", |fs| fs.unlink("s")),
            case("unlink lower pipe", |fs| fs.unlink("pipe")),
            case("unlink lower hard link", |fs| fs.unlink("h1")),
            case("unlink lower hard link in lower directory", |fs| fs.unlink("hd/h3")),
            after("unlink copied-up hard link", |fs| fs.write("h1", 0, "H"), |fs| fs.unlink("h1")),
            after("unlink not yet linked up name", |fs| fs.write("h1", 0, "H"), |fs| fs.unlink("h2")),
            after(
                "unlink last name of lower hard link",
                |fs| {
                    fs.unlink("h1")?;
                    fs.unlink("h2")
                },
                |fs| fs.unlink("hd/h3"),
            ),
            after("unlink upper hard link", |fs| fs.link("u", "u2").map(drop), |fs| fs.unlink("u")),
        ],
    );
}

#[test]
fn rmdir_is_old_or_new_at_every_crash_and_failure() {
    enumerate_all(
        "rmdir",
        &[
            case("rmdir upper directory", |fs| fs.rmdir("uempty")),
            case("rmdir lower directory", |fs| fs.rmdir("lempty")),
            case("rmdir merged directory with whiteouts", |fs| fs.rmdir("gone")),
            after("rmdir copied-up directory", |fs| fs.chmod("lempty", 0o711).map(drop), |fs| fs.rmdir("lempty")),
            after("rmdir renamed directory with whiteouts", |fs| fs.rename("gone", "away"), |fs| fs.rmdir("away")),
            after(
                "rmdir opaque directory over lower one",
                |fs| {
                    fs.rmdir("gone")?;
                    fs.mkdir("gone").map(drop)
                },
                |fs| fs.rmdir("gone"),
            ),
            case("rmdir lower directory in lower directory", |fs| {
                unlink_if_there(fs, "deep/er/f")?;
                fs.rmdir("deep/er")
            })
            .between_states(&[|fs| fs.unlink("deep/er/f")]),
        ],
    );
}

impl Case {
    const fn between_states(mut self, states: &'static [fn(&Fs) -> Result<()>]) -> Self {
        self.between = states;
        self
    }
}

/// fuse-overlayfs defect A5: renames in several steps, of which the last may be missing.
#[test]
fn rename_of_files_is_old_or_new_at_every_crash_and_failure() {
    enumerate_all(
        "rename of files",
        &[
            case("rename upper file", |fs| fs.rename("u", "new")),
            case("rename upper file to other directory", |fs| fs.rename("u", "ud/new")),
            case("rename upper file over lower", |fs| fs.rename("over", "new")),
            case("rename upper file, leaving a whiteout", |fs| leave(fs, "u", "new"))
                .between_states(&[|fs| fs.rename("u", "new"), |fs| there_and_back(fs, "u")]),
            case("rename lower file, leaving a whiteout", |fs| leave(fs, "f", "new"))
                .between_states(&[|fs| fs.rename("f", "new"), |fs| there_and_back(fs, "f")]),
            case("rename lower file", |fs| fs.rename("f", "new")),
            case("rename lower file to lower directory", |fs| fs.rename("deep/er/f", "ld/new")),
            case("rename upper file onto whiteout", |fs| fs.rename("u", "wh")),
            case("rename lower file onto whiteout", |fs| fs.rename("f", "wh")),
            case("rename upper file onto upper file", |fs| fs.rename("u", "m/u")),
            case("rename upper file onto lower file", |fs| fs.rename("u", "f")),
            case("rename lower file onto upper file", |fs| fs.rename("f", "u")),
            case("rename lower file onto lower file", |fs| fs.rename("f", "ld/g")),
            case("rename lower file onto file over lower", |fs| fs.rename("f", "over")),
            case("rename lower file, noreplace", |fs| fs.rename_as("f", "new", RenameMode::NoReplace)),
            case("rename lower file onto whiteout, noreplace", |fs| fs.rename_as("f", "wh", RenameMode::NoReplace)),
            case("rename lower symlink", |fs| fs.rename("s", "new")),
            case("rename lower hard link", |fs| fs.rename("h1", "new")),
            case("rename lower hard link into lower directory", |fs| fs.rename("hd/h3", "ld/new")),
            after("rename copied-up hard link", |fs| fs.write("h1", 0, "H"), |fs| fs.rename("h1", "new")),
            case("rename onto lower hard link", |fs| fs.rename("u", "h2")),
            after("rename onto copied-up hard link", |fs| fs.write("h1", 0, "H"), |fs| fs.rename("u", "h1")),
            case("exchange upper files", |fs| fs.exchange("u", "m/u")),
            case("exchange lower files", |fs| fs.exchange("f", "ld/g")),
            case("exchange upper and lower file", |fs| fs.exchange("u", "f")),
            case("exchange with hard link", |fs| fs.exchange("h1", "f")),
        ],
    );
}

#[test]
fn rename_of_directories_is_old_or_new_at_every_crash_and_failure() {
    enumerate_all(
        "rename of directories",
        &[
            case("rename upper directory", |fs| fs.rename("ud", "new")),
            case("rename upper directory into merged one", |fs| fs.rename("ud", "m/new")),
            case("rename upper directory onto whiteout", |fs| fs.rename("ud", "wh")),
            case("rename upper directory onto empty upper one", |fs| fs.rename("ud", "uempty")),
            case("rename upper directory onto empty lower one", |fs| fs.rename("ud", "lempty")),
            case("rename upper directory onto empty merged one", |fs| fs.rename("ud", "gone")),
            case("rename lower directory", |fs| fs.rename("ld", "new")),
            case("rename lower directory into lower one", |fs| fs.rename("ld", "deep/er/new")),
            case("rename lower directory onto whiteout", |fs| fs.rename("ld", "wh")),
            case("rename lower directory onto empty upper one", |fs| fs.rename("ld", "uempty")),
            case("rename lower directory onto empty lower one", |fs| fs.rename("ld", "lempty")),
            case("rename lower directory onto empty merged one", |fs| fs.rename("ld", "gone")),
            case("rename merged directory", |fs| fs.rename("m", "new")),
            case("rename merged directory to other directory", |fs| fs.rename("m", "ud/new")),
            case("rename merged directory onto empty merged one", |fs| fs.rename("m", "gone")),
            after("rename renamed directory", |fs| fs.rename("m", "m2"), |fs| fs.rename("m2", "ud/m3")),
            after("rename renamed directory back", |fs| fs.rename("m", "ud/m2"), |fs| fs.rename("ud/m2", "m")),
            case("exchange upper and merged directory", |fs| fs.exchange("ud", "m")),
            case("exchange lower directories", |fs| fs.exchange("ld", "deep/er")),
            case("exchange lower directory and file", |fs| fs.exchange("ld", "f")),
            case("exchange merged directories", |fs| fs.exchange("m", "gone")),
        ],
    );
}

#[test]
fn copy_up_and_set_attr_are_old_or_new_at_every_crash_and_failure() {
    const MODE: Change = Change { mode: Some(0o751), uid: None, gid: None, size: None, atime: None, mtime: None };
    const EMPTY: Change = Change { mode: None, size: Some(0), ..MODE };
    const SHORT: Change = Change { size: Some(3), ..EMPTY };
    const LONG: Change = Change { size: Some(9000), ..EMPTY };
    const TIME: Change =
        Change { size: None, mtime: Some(SetTime::At(Time { sec: -5, nsec: 7 })), atime: Some(SetTime::Now), ..EMPTY };
    const GROUP: Change = Change { mode: None, gid: Some(0), ..MODE };
    enumerate_all(
        "set_attr",
        &[
            case("chmod upper file", |fs| fs.change("u", &MODE).map(drop)),
            case("chmod lower file", |fs| fs.change("f", &MODE).map(drop)),
            case("chmod lower file in lower directory", |fs| fs.change("deep/er/f", &MODE).map(drop)),
            case("chmod lower directory", |fs| fs.change("deep/er", &MODE).map(drop)),
            case("chmod merged directory", |fs| fs.change("m", &MODE).map(drop)),
            case("chmod root", |fs| fs.change("", &MODE).map(drop)),
            case("chmod lower pipe", |fs| fs.change("pipe", &MODE).map(drop)),
            case("chmod lower device", |fs| fs.change("node", &MODE).map(drop)),
            case("chmod lower hard link", |fs| fs.change("h1", &MODE).map(drop)),
            case("chmod lower hard link in lower directory", |fs| fs.change("hd/h3", &MODE).map(drop)),
            after("chmod not yet linked up name", |fs| fs.write("h1", 0, "H"), |fs| fs.change("h2", &MODE).map(drop)),
            case("chgrp lower file", |fs| {
                let gid = if root() { GROUP } else { Change { gid: Some(me().gid), ..GROUP } };
                fs.change("f", &gid).map(drop)
            }),
            case("utimens lower file", |fs| fs.change("f", &TIME).map(drop)),
            case("utimens lower symlink", |fs| fs.change("s", &TIME).map(drop)),
            case("utimens lower directory", |fs| fs.change("ld", &TIME).map(drop)),
            case("truncate upper file", |fs| fs.change("u", &SHORT).map(drop)),
            case("truncate lower file to 0", |fs| fs.change("f", &EMPTY).map(drop)),
            case("truncate lower file", |fs| fs.change("f", &SHORT).map(drop)),
            case("extend lower file", |fs| fs.change("f", &LONG).map(drop)),
            case("truncate lower hard link", |fs| fs.change("h1", &SHORT).map(drop)),
        ],
    );
}

#[test]
fn write_is_old_or_new_at_every_crash_and_failure() {
    enumerate_all(
        "write",
        &[
            case("write upper file", |fs| fs.write("u", 1, "W")),
            case("write lower file", |fs| fs.write("f", 1, "W")),
            case("write lower file in lower directory", |fs| fs.write("deep/er/f", 1, "W")),
            case("write lower hard link", |fs| fs.write("h2", 1, "W")),
            after("write not yet linked up name", |fs| fs.chmod("h1", 0o600).map(drop), |fs| fs.write("h2", 1, "W")),
            case("fallocate lower file", |fs| fs.overlay.fallocate(fs.ino("f")?, 0, 0, 5000)),
            Case {
                build: metacopy,
                fills_in: true,
                ..case("write upper metacopy file", |fs| fs.write("meta", 1, "W"))
            },
            Case { build: metacopy, ..case("chmod upper metacopy file", |fs| fs.chmod("meta", 0o640).map(drop)) },
            Case { build: metacopy, ..case("write lower metacopy file", |fs| fs.write("lmeta", 1, "W")) },
            Case {
                build: metacopy,
                fills_in: true,
                ..case("truncate upper metacopy file", |fs| fs.truncate("meta", 3).map(drop))
            },
        ],
    );
}

/// Files whose data is in the lowest layer only.
fn metacopy(stack: &mut super::harness::Stack) {
    common(stack);
    let data = vec![b'x'; 20_000];
    stack.lower(2).file("meta", &data).file("lmeta", &data);
    for (tree, name) in [(stack.upper(), "meta"), (stack.lower(1), "lmeta")] {
        tree.file(name, "").xattr(name, &super::tree::marker("metacopy"), b"");
        std::fs::OpenOptions::new().write(true).open(tree.path(name)).unwrap().set_len(data.len() as u64).unwrap();
        tree.chmod(name, 0o604).xattr("", &super::tree::marker("impure"), b"y");
    }
}

#[test]
fn xattr_is_old_or_new_at_every_crash_and_failure() {
    const NESTED: &str = "user.overlay.opaque";
    enumerate_all(
        "xattr",
        &[
            case("set xattr of upper file", |fs| fs.set_xattr("u", "user.new", "1")),
            case("set xattr of lower file", |fs| fs.set_xattr("f", "user.new", "1")),
            case("replace xattr of lower file", |fs| fs.set_xattr("f", "user.colour", "1")),
            case("remove xattr of lower file", |fs| fs.remove_xattr("f", "user.colour")),
            case("set xattr of lower directory", |fs| fs.set_xattr("deep/er", "user.new", "1")),
            case("remove xattr of lower directory", |fs| fs.remove_xattr("deep", "user.colour")),
            case("set marker of a nested overlay", |fs| fs.set_xattr("ld", NESTED, "y")),
            case("set xattr of lower hard link", |fs| fs.set_xattr("h1", "user.new", "1")),
        ],
    );
}

#[test]
fn fsync_changes_nothing_at_every_crash_and_failure() {
    enumerate_all(
        "fsync",
        &[
            after("fsync file", |fs| fs.write("deep/er/f", 0, "D"), |fs| fs.overlay.fsync(fs.ino("deep/er/f")?, false)),
            case("write and fsync lower file", |fs| {
                fs.write("deep/er/f", 0, "D")?;
                fs.overlay.fsync(fs.ino("deep/er/f")?, true)
            })
            .between_states(&[|fs| fs.write("deep/er/f", 0, "D")]),
            case("unlink and fsyncdir", |fs| {
                unlink_if_there(fs, "deep/er/f")?;
                fs.overlay.fsync_dir(fs.ino("deep/er")?)
            })
            .between_states(&[|fs| fs.unlink("deep/er/f")]),
        ],
    );
}
