//! Making, moving, linking and removing names.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;

use rustix::fs::{FileType, RenameFlags};

use super::super::os;
use super::{Case, OWNER, Stage, check, codes};

fn make(p: &Path, mode: u32) -> io::Result<()> {
    File::options().write(true).create_new(true).mode(mode).open(p).map(drop)
}

fn mkdir(p: &Path, mode: u32) -> io::Result<()> {
    Ok(rustix::fs::mkdir(p, rustix::fs::Mode::from_raw_mode(mode))?)
}

/// Makes one of each kind in `d`.
fn one_of_each(s: &Stage, umask: u32) -> String {
    s.with_umask(umask, |p| {
        let d = p.join("d");
        codes([
            make(&d.join("file"), 0o666),
            make(&d.join("private"), 0o600),
            make(&d.join("program"), 0o6777),
            mkdir(&d.join("dir"), 0o777),
            mkdir(&d.join("dir2"), 0o1777),
            symlink("nowhere", d.join("link")),
            os::mknod(&d.join("fifo"), FileType::Fifo, 0o666, 0, 0),
            os::mknod(&d.join("socket"), FileType::Socket, 0o777, 0, 0),
            os::mknod(&d.join("node"), FileType::RegularFile, 0o6755, 0, 0),
            os::mknod(&d.join("device"), FileType::CharacterDevice, 0o666, 1, 3),
            fs::hard_link(p.join("f"), d.join("hard")),
        ])
    })
}

/// Removes a file, a directory and a link that others own, and tries to move them.
fn disturb(s: &Stage) -> String {
    s.user(|p| {
        let d = p.join("d");
        codes([
            fs::rename(d.join("moved"), d.join("away")),
            fs::rename(p.join("own/from"), d.join("target")),
            os::rename(&d.join("one"), &p.join("own/two"), RenameFlags::EXCHANGE),
            os::rename(&d.join("kept"), &d.join("new"), RenameFlags::NOREPLACE),
            fs::rename(d.join("out"), p.join("own/out")),
            fs::remove_file(d.join("file")),
            fs::remove_file(d.join("link")),
            fs::remove_dir(d.join("dir")),
            fs::remove_file(p.join("d")),
            fs::remove_dir(p.join("d")),
        ])
    })
}

fn disturbed(t: &super::Tree) -> &super::Tree {
    for name in ["moved", "target", "one", "kept", "out", "file"] {
        t.file(&format!("d/{name}"), 0o644);
    }
    t.symlink("d/link", "x").dir("d/dir", 0o755).dir("own", 0o777).file("own/from", 0o666).file("own/two", 0o666)
}

const CASES: &[Case] = &[
    Case {
        name: "make one of each in 0755",
        setup: |t| t.dir("d", 0o755).file("f", 0o666),
        run: |s| one_of_each(s, 0o022),
    },
    Case {
        name: "make one of each in 0775, umask 0",
        setup: |t| t.dir("d", 0o775).file("f", 0o666),
        run: |s| one_of_each(s, 0),
    },
    Case {
        name: "make one of each in 0777, umask 077",
        setup: |t| t.dir("d", 0o777).file("f", 0o644),
        run: |s| one_of_each(s, 0o077),
    },
    Case {
        name: "make one of each in 1777",
        setup: |t| t.dir("d", 0o1777).file("f", 0o666),
        run: |s| one_of_each(s, 0o002),
    },
    Case {
        name: "make one of each in a set-group-id directory",
        setup: |t| t.dir("d", 0o2777).file("f", 0o666),
        run: |s| one_of_each(s, 0),
    },
    Case {
        name: "make one of each in a set-group-id directory of a group without permission",
        setup: |t| t.dir("d", 0o2705).file("f", 0o666),
        run: |s| one_of_each(s, 0o022),
    },
    Case {
        name: "make directories in directories with set-group-id",
        setup: |t| t.dir("d", 0o2777),
        run: |s| {
            s.user(|p| {
                codes([
                    mkdir(&p.join("d/a"), 0o777),
                    mkdir(&p.join("d/a/b"), 0o700),
                    make(&p.join("d/a/b/f"), 0o2771),
                    symlink("x", p.join("d/a/b/l")),
                ])
            })
        },
    },
    Case { name: "remove and move in 0755", setup: |t| disturbed(t.dir("d", 0o755)), run: disturb },
    Case { name: "remove and move in 0775", setup: |t| disturbed(t.dir("d", 0o775)), run: disturb },
    Case {
        name: "remove and move in a sticky directory of the owner",
        setup: |t| disturbed(t.dir("d", 0o1777)),
        run: disturb,
    },
    Case {
        name: "remove and move in a sticky directory of root",
        setup: |t| disturbed(t.dir("d", 0o1777).chown("d", 0, 0)),
        run: disturb,
    },
    Case {
        name: "remove and move what is root's in a sticky directory of the owner",
        setup: |t| {
            disturbed(t.dir("d", 0o1777));
            for name in ["moved", "target", "one", "kept", "out", "file", "link", "dir"] {
                t.chown(&format!("d/{name}"), 0, 0);
            }
            t
        },
        run: disturb,
    },
    Case {
        name: "remove and move in a sticky directory of the group",
        setup: |t| disturbed(t.dir("d", 0o1775).chown("d", 0, super::GROUP)),
        run: disturb,
    },
    Case {
        name: "move a directory, whose `..` changes, without permission to write it",
        setup: |t| t.dir("a", 0o777).dir("a/d", 0o755).dir("b", 0o777).dir("a/e", 0o775),
        run: |s| {
            s.user(|p| {
                codes([
                    fs::rename(p.join("a/d"), p.join("a/same")),
                    fs::rename(p.join("a/same"), p.join("b/d")),
                    fs::rename(p.join("a/e"), p.join("b/e")),
                ])
            })
        },
    },
    Case {
        name: "exchange in sticky directories",
        setup: |t| {
            t.dir("a", 0o1777).dir("b", 0o1777).chown("a", 0, 0).chown("b", 0, 0);
            t.file("a/f", 0o666).file("b/f", 0o666).chown("b/f", super::NAMED, 1)
        },
        run: |s| s.call(|p| os::rename(&p.join("a/f"), &p.join("b/f"), RenameFlags::EXCHANGE)),
    },
    Case {
        name: "link what one may not write",
        setup: |t| t.file("f", 0o644).dir("d", 0o777),
        run: |s| s.call(|p| fs::hard_link(p.join("f"), p.join("d/f"))),
    },
    Case {
        name: "link what one may not read",
        setup: |t| t.file("f", 0o622).dir("d", 0o777),
        run: |s| s.call(|p| fs::hard_link(p.join("f"), p.join("d/f"))),
    },
    Case {
        name: "link what one may write",
        setup: |t| t.file("f", 0o666).dir("d", 0o777),
        run: |s| s.call(|p| fs::hard_link(p.join("f"), p.join("d/f"))),
    },
    Case {
        name: "link a set-user-id program",
        setup: |t| t.file("f", 0o4777).dir("d", 0o777),
        run: |s| s.call(|p| fs::hard_link(p.join("f"), p.join("d/f"))),
    },
    Case {
        name: "link a set-group-id program",
        setup: |t| t.file("f", 0o2777).dir("d", 0o777),
        run: |s| s.call(|p| fs::hard_link(p.join("f"), p.join("d/f"))),
    },
    Case {
        name: "link symbolic links, pipes and directories",
        setup: |t| t.symlink("l", "x").fifo("p", 0o666).dir("d", 0o777),
        run: |s| {
            s.user(|p| {
                codes([
                    fs::hard_link(p.join("l"), p.join("d/l")),
                    fs::hard_link(p.join("p"), p.join("d/p")),
                    fs::hard_link(p.join("d"), p.join("d/d")),
                ])
            })
        },
    },
    Case {
        name: "link by descriptor",
        setup: |t| t.file("f", 0o666).dir("d", 0o777),
        run: |s| {
            let file = File::open(s.path("f")).unwrap();
            fs::remove_file(s.path("f")).unwrap();
            let from = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
            s.call(|p| {
                let (at, flags) = (rustix::fs::CWD, rustix::fs::AtFlags::SYMLINK_FOLLOW);
                Ok(rustix::fs::linkat(at, &from, at, p.join("d/f"), flags)?)
            })
        },
    },
    Case {
        name: "errors that come before permissions, or after",
        setup: |t| t.dir("d", 0o755).file("d/f", 0o644).dir("d/full", 0o777).file("d/full/f", 0o644),
        run: |s| {
            s.user(|p| {
                let d = p.join("d");
                codes([
                    make(&d.join("f"), 0o666),
                    mkdir(&d.join("full"), 0o777),
                    symlink("x", d.join("f")),
                    os::mknod(&d.join("f"), FileType::Fifo, 0o666, 0, 0),
                    fs::hard_link(d.join("f"), d.join("full")),
                    fs::remove_file(d.join("none")),
                    fs::remove_dir(d.join("full")),
                    fs::remove_dir(d.join("f")),
                    fs::remove_file(d.join("full")),
                    fs::rename(d.join("none"), d.join("x")),
                    fs::rename(d.join("f"), d.join("full")),
                    fs::rename(d.join("full"), d.join("full/x")),
                    os::rename(&d.join("f"), &d.join("full"), RenameFlags::NOREPLACE),
                    make(&d.join("f/x"), 0o666),
                    make(&d.join("none/x"), 0o666),
                ])
            })
        },
    },
    Case {
        name: "make again what was removed",
        setup: |t| t.dir("d", 0o777).file("d/f", 0o4755).dir("d/s", 0o2750),
        run: |s| {
            s.with_umask(0o027, |p| {
                codes([
                    fs::remove_file(p.join("d/f")),
                    make(&p.join("d/f"), 0o666),
                    fs::remove_dir(p.join("d/s")),
                    mkdir(&p.join("d/s"), 0o777),
                    symlink("x", p.join("d/s/l")),
                ])
            })
        },
    },
    Case {
        name: "devices",
        setup: |t| t.dir("d", 0o777),
        run: |s| {
            s.user(|p| {
                codes([
                    os::mknod(&p.join("d/null"), FileType::CharacterDevice, 0o666, 1, 3),
                    os::mknod(&p.join("d/disk"), FileType::BlockDevice, 0o660, 7, 1),
                    os::mknod(&p.join("d/dir"), FileType::Directory, 0o755, 0, 0),
                ])
            })
        },
    },
    Case {
        name: "a mode that denies the maker himself, open all the same",
        setup: |t| t.dir("d", 0o777),
        run: |s| {
            s.call(|p| {
                let file = File::options().write(true).create_new(true).mode(0o000).open(p.join("d/f"))?;
                io::Write::write_all(&mut &file, b"written")
            })
        },
    },
    Case {
        name: "a directory that its owner may not write",
        setup: |t| t.dir("d", 0o577).file("d/f", 0o666),
        run: |s| {
            s.user(|p| codes([make(&p.join("d/n"), 0o666), fs::remove_file(p.join("d/f")), mkdir(&p.join("d/m"), 0o7)]))
        },
    },
    Case {
        name: "replace a file of others without permission on it",
        setup: |t| t.dir("d", 0o777).file("d/f", 0).file("d/g", 0o600).chown("d/g", OWNER + 50, 1),
        run: |s| {
            s.user(|p| {
                let d = p.join("d");
                codes([fs::rename(d.join("f"), d.join("g")), make(&d.join("f"), 0o600), fs::remove_file(d.join("g"))])
            })
        },
    },
];

#[test]
fn names_are_made_and_removed_as_on_a_bare_directory() {
    check(CASES);
}
