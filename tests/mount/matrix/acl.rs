//! POSIX access control lists, as raw attributes: what they allow, what changes them, and what new objects inherit.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::Path;

use rustix::fs::FileType;

use super::super::harness::has;
use super::super::os;
use super::super::posix_acl::{
    ACCESS, DEFAULT, GROUP_OBJ, MASK, NAMED_GROUP, NAMED_USER, NOBODY, OTHERS, USER_OBJ, acl,
};
use super::{
    Case, GROUP, NAMED, OWNER, Stage, TEAM, Tree, USUAL, User, check_with, code, codes, everybody, open_write,
    three_ways,
};

/// A list with an entry for a user and for a group.
fn list(owner: u16, user: u16, group: u16, team: u16, mask: u16, others: u16) -> Vec<u8> {
    acl(&[
        (USER_OBJ, owner, NOBODY),
        (NAMED_USER, user, NAMED),
        (GROUP_OBJ, group, NOBODY),
        (NAMED_GROUP, team, TEAM),
        (MASK, mask, NOBODY),
        (OTHERS, others, NOBODY),
    ])
}

/// A list that says no more than a mode.
fn minimal(owner: u16, group: u16, others: u16) -> Vec<u8> {
    acl(&[(USER_OBJ, owner, NOBODY), (GROUP_OBJ, group, NOBODY), (OTHERS, others, NOBODY)])
}

fn chmod(p: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(p, fs::Permissions::from_mode(mode))
}

fn remove(p: &Path, name: &str) -> io::Result<()> {
    Ok(rustix::fs::lremovexattr(p, name)?)
}

const ENFORCED: &[Case] = &[
    Case {
        name: "a list that gives a user and a group more than others",
        setup: |t| t.file("f", 0o600).xattr("f", ACCESS, &list(6, 6, 4, 2, 6, 0)),
        run: |s| s.user(|p| three_ways(&p.join("f"))),
    },
    Case {
        name: "a list that gives a user and a group less than others",
        setup: |t| t.file("f", 0o600).xattr("f", ACCESS, &list(6, 0, 4, 0, 6, 6)),
        run: |s| s.user(|p| three_ways(&p.join("f"))),
    },
    Case {
        name: "a mask that takes away",
        setup: |t| t.file("f", 0o600).xattr("f", ACCESS, &list(6, 6, 6, 6, 4, 2)),
        run: |s| s.user(|p| three_ways(&p.join("f"))),
    },
    Case {
        name: "a mask that takes all away",
        setup: |t| t.file("f", 0o600).xattr("f", ACCESS, &list(0, 7, 7, 7, 0, 7)),
        run: |s| s.user(|p| three_ways(&p.join("f"))),
    },
    Case {
        name: "a list of a directory",
        setup: |t| t.dir("d", 0o700).file("d/f", 0o666).xattr("d", ACCESS, &list(7, 7, 5, 3, 7, 1)),
        run: |s| {
            s.user(|p| {
                let d = p.join("d");
                codes([
                    fs::read_dir(&d).map(drop),
                    File::open(d.join("f")).map(drop),
                    fs::write(d.join("new"), "x"),
                    fs::remove_file(d.join("f")),
                ])
            })
        },
    },
    Case {
        name: "removing in a sticky directory with a list",
        setup: |t| {
            t.dir("d", 0o1700).chown("d", 0, 0).chmod("d", 0o1700).file("d/f", 0o666).file("d/g", 0o666);
            t.chown("d/g", NAMED, 1).xattr("d", ACCESS, &list(7, 7, 7, 7, 7, 0))
        },
        run: |s| s.user(|p| codes([fs::remove_file(p.join("d/f")), fs::remove_file(p.join("d/g"))])),
    },
    Case {
        name: "a list set meanwhile, with everything known to the kernel",
        setup: |t| t.file("f", 0o666),
        run: |s| {
            let before = s.user(|p| three_ways(&p.join("f")));
            os::set_xattr(&s.path("f"), ACCESS, &list(6, 0, 4, 2, 6, 0)).unwrap();
            let with = s.user(|p| three_ways(&p.join("f")));
            remove(&s.path("f"), ACCESS).unwrap();
            [before, with, s.user(|p| three_ways(&p.join("f")))].join("; ")
        },
    },
    Case {
        name: "chmod of a file with a list changes the mask",
        setup: |t| t.file("f", 0o600).xattr("f", ACCESS, &list(6, 6, 4, 6, 6, 0)),
        run: |s| {
            chmod(&s.path("f"), 0o640).unwrap();
            let less = s.user(|p| three_ways(&p.join("f")));
            chmod(&s.path("f"), 0o770).unwrap();
            less + "; " + &s.user(|p| three_ways(&p.join("f")))
        },
    },
];

/// Sets, reads and removes both lists of a file and a directory.
const CHANGED: &[Case] = &[
    Case {
        name: "set a list",
        setup: |t| t.file("f", 0o666).dir("d", 0o777).symlink("l", "f").fifo("p", 0o666),
        run: |s| {
            s.user(|p| codes(["f", "d", "l", "p"].map(|n| os::set_xattr(&p.join(n), ACCESS, &list(7, 5, 4, 1, 5, 0)))))
        },
    },
    Case {
        name: "set a default list",
        setup: |t| t.file("f", 0o666).dir("d", 0o777).symlink("l", "f"),
        run: |s| {
            s.user(|p| codes(["f", "d", "l"].map(|n| os::set_xattr(&p.join(n), DEFAULT, &list(7, 5, 4, 1, 5, 0)))))
        },
    },
    Case {
        name: "set a list that says no more than a mode",
        setup: |t| t.file("f", 0o666).xattr("f", ACCESS, &list(7, 5, 4, 1, 5, 0)).dir("d", 0o777),
        run: |s| s.user(|p| codes(["f", "d"].map(|n| os::set_xattr(&p.join(n), ACCESS, &minimal(6, 4, 0))))),
    },
    Case {
        name: "set lists that are wrong",
        setup: |t| t.file("f", 0o666).dir("d", 0o777),
        run: |s| {
            s.user(|p| {
                let set = |value: &[u8]| os::set_xattr(&p.join("f"), ACCESS, value);
                let mut version = minimal(6, 6, 6);
                version[0] = 3;
                codes([
                    set(b""),
                    set(b"nonsense"),
                    set(&version),
                    set(&acl(&[(USER_OBJ, 6, NOBODY)])),
                    set(&acl(&[
                        (USER_OBJ, 6, NOBODY),
                        (NAMED_USER, 6, 5),
                        (GROUP_OBJ, 6, NOBODY),
                        (OTHERS, 6, NOBODY),
                    ])),
                    set(&acl(&[(OTHERS, 6, NOBODY), (USER_OBJ, 6, NOBODY), (GROUP_OBJ, 6, NOBODY)])),
                    set(&minimal(9, 6, 6)),
                    os::set_xattr(&p.join("d"), DEFAULT, &acl(&[])),
                ])
            })
        },
    },
    Case {
        name: "remove lists",
        setup: |t| {
            t.file("f", 0o600).xattr("f", ACCESS, &list(6, 6, 4, 2, 6, 0));
            t.dir("d", 0o770).xattr("d", ACCESS, &list(7, 6, 4, 2, 6, 0)).xattr("d", DEFAULT, &list(7, 6, 4, 2, 6, 0))
        },
        run: |s| {
            s.user(|p| {
                codes([
                    remove(&p.join("f"), ACCESS),
                    remove(&p.join("f"), ACCESS),
                    remove(&p.join("f"), DEFAULT),
                    remove(&p.join("d"), DEFAULT),
                    remove(&p.join("d"), ACCESS),
                ])
            })
        },
    },
    Case {
        name: "read lists",
        setup: |t| {
            t.file("f", 0o600).xattr("f", ACCESS, &list(6, 0, 0, 0, 0, 0)).file("g", 0o600);
            t.dir("d", 0o700).xattr("d", DEFAULT, &list(7, 6, 4, 2, 6, 0)).symlink("l", "f")
        },
        run: |s| {
            let read = |p: &Path, n: &str, a: &str| format!("{:?}", os::get_xattr(&p.join(n), a).map_err(|e| e.kind()));
            s.user(|p| {
                [("f", ACCESS), ("g", ACCESS), ("d", DEFAULT), ("d", ACCESS), ("l", ACCESS)]
                    .map(|(n, a)| read(p, n, a))
                    .join(" ")
            })
        },
    },
    Case {
        name: "chmod with a list",
        setup: |t| {
            t.file("f", 0o600).xattr("f", ACCESS, &list(7, 6, 5, 4, 7, 1));
            t.dir("d", 0o700).xattr("d", ACCESS, &list(7, 6, 5, 4, 7, 1)).xattr("d", DEFAULT, &list(7, 6, 5, 4, 7, 1))
        },
        run: |s| s.user(|p| codes([chmod(&p.join("f"), 0o6421), chmod(&p.join("d"), 0o3124), chmod(&p.join("f"), 0)])),
    },
    Case {
        name: "chown of what has a list",
        setup: |t| t.file("f", 0o600).xattr("f", ACCESS, &list(7, 6, 5, 4, 7, 1)).chmod("f", 0o6775),
        run: |s| s.user(|p| codes([chown(p.join("f"), None, Some(GROUP)), chown(p.join("f"), Some(OWNER), None)])),
    },
    Case {
        name: "write what has a list and set-id bits",
        setup: |t| t.file("f", 0o600).xattr("f", ACCESS, &list(7, 7, 7, 7, 7, 7)).chmod("f", 0o6777),
        run: |s| s.user(|p| codes([open_write(&p.join("f")).and_then(|mut f| io::Write::write_all(&mut f, b"x"))])),
    },
    Case {
        name: "rename and link what has lists",
        setup: |t| {
            t.dir("d", 0o777).file("d/f", 0o600).xattr("d/f", ACCESS, &list(7, 6, 5, 4, 7, 1)).dir("d/s", 0o777);
            t.xattr("d/s", DEFAULT, &list(7, 6, 5, 4, 7, 1)).xattr("d/s", ACCESS, &list(7, 7, 7, 7, 7, 7))
        },
        run: |s| {
            s.user(|p| {
                codes([
                    fs::hard_link(p.join("d/f"), p.join("d/g")),
                    fs::rename(p.join("d/f"), p.join("d/s/f")),
                    fs::rename(p.join("d/s"), p.join("d/t")),
                ])
            })
        },
    },
];

/// Who has `CAP_FSETID` is told by the user id only.
const SET_GROUP_ID: &[Case] = &[
    Case {
        name: "a list that takes set-group-id away from an owner outside of the group",
        setup: |t| t.file("f", 0o6755).dir("d", 0o2755),
        run: |s| s.user(|p| codes(["f", "d"].map(|n| os::set_xattr(&p.join(n), ACCESS, &list(7, 5, 5, 5, 5, 5))))),
    },
    Case {
        name: "a minimal list on a file with set-group-id",
        setup: |t| t.file("f", 0o6755).dir("d", 0o2755),
        run: |s| s.user(|p| codes(["f", "d"].map(|n| os::set_xattr(&p.join(n), ACCESS, &minimal(7, 5, 5))))),
    },
];

fn make(p: &Path, mode: u32) -> io::Result<()> {
    File::options().write(true).create_new(true).mode(mode).open(p).map(drop)
}

fn mkdir(p: &Path, mode: u32) -> io::Result<()> {
    Ok(rustix::fs::mkdir(p, rustix::fs::Mode::from_raw_mode(mode))?)
}

/// Makes one of each kind in `d`, some with modes of their own.
fn one_of_each(s: &Stage, umask: u32) -> String {
    s.with_umask(umask, |p| {
        let d = p.join("d");
        codes([
            make(&d.join("file"), 0o666),
            make(&d.join("program"), 0o777),
            make(&d.join("private"), 0o600),
            make(&d.join("nothing"), 0),
            make(&d.join("special"), 0o6751),
            mkdir(&d.join("dir"), 0o777),
            mkdir(&d.join("dir/inner"), 0o1750),
            make(&d.join("dir/inner/file"), 0o644),
            mkdir(&d.join("closed"), 0o700),
            os::mknod(&d.join("fifo"), FileType::Fifo, 0o666, 0, 0),
            os::mknod(&d.join("socket"), FileType::Socket, 0o777, 0, 0),
            os::mknod(&d.join("node"), FileType::RegularFile, 0o640, 0, 0),
            os::mknod(&d.join("device"), FileType::CharacterDevice, 0o666, 1, 3),
            symlink("nowhere", d.join("link")),
            fs::remove_file(d.join("program")),
            make(&d.join("program"), 0o755),
        ])
    })
}

fn inheriting<'a>(t: &'a Tree, mode: u32, value: &[u8]) -> &'a Tree {
    t.dir("d", mode).xattr("d", DEFAULT, value)
}

const INHERITED: &[Case] = &[
    Case {
        name: "a default list, umask 022",
        setup: |t| inheriting(t, 0o777, &list(7, 7, 5, 4, 7, 0)),
        run: |s| one_of_each(s, 0o022),
    },
    Case {
        name: "a default list, umask 077, which has no effect",
        setup: |t| inheriting(t, 0o777, &list(7, 7, 5, 4, 7, 5)),
        run: |s| one_of_each(s, 0o077),
    },
    Case {
        name: "a default list, umask 0",
        setup: |t| inheriting(t, 0o777, &list(6, 7, 7, 7, 5, 7)),
        run: |s| one_of_each(s, 0),
    },
    Case {
        name: "a default list that says no more than a mode, umask 027",
        setup: |t| inheriting(t, 0o777, &minimal(7, 6, 1)),
        run: |s| one_of_each(s, 0o027),
    },
    Case {
        name: "a default list that gives nothing, umask 0",
        setup: |t| inheriting(t, 0o777, &list(0, 0, 0, 0, 0, 0)),
        run: |s| one_of_each(s, 0),
    },
    Case {
        name: "a default list in a set-group-id directory",
        setup: |t| inheriting(t, 0o2777, &list(7, 7, 7, 4, 7, 5)),
        run: |s| one_of_each(s, 0o022),
    },
    Case {
        name: "a default list in a sticky directory that others may not write",
        setup: |t| inheriting(t, 0o1775, &list(7, 7, 7, 4, 7, 5)),
        run: |s| one_of_each(s, 0o022),
    },
    Case {
        name: "an access list only, umask 027",
        setup: |t| t.dir("d", 0o777).xattr("d", ACCESS, &list(7, 7, 7, 7, 7, 7)),
        run: |s| one_of_each(s, 0o027),
    },
    Case {
        name: "a default list set after things were made, then removed",
        setup: |t| t.dir("d", 0o777),
        run: |s| {
            let new = |name: &'static str| s.with_umask(0o077, move |p| code(make(&p.join("d").join(name), 0o666)));
            let first = new("a");
            os::set_xattr(&s.path("d"), DEFAULT, &list(7, 7, 5, 4, 7, 5)).unwrap();
            let second = new("b");
            remove(&s.path("d"), DEFAULT).unwrap();
            [first, second, new("c")].join(" ")
        },
    },
    Case {
        name: "moved out of and into a directory with a default list",
        setup: |t| inheriting(t, 0o777, &list(7, 7, 5, 4, 7, 5)).dir("e", 0o777).file("e/f", 0o600).dir("e/s", 0o777),
        run: |s| {
            s.user(|p| {
                codes([
                    fs::rename(p.join("e/f"), p.join("d/f")),
                    fs::rename(p.join("e/s"), p.join("d/s")),
                    make(&p.join("d/s/f"), 0o666),
                    make(&p.join("d/n"), 0o666),
                    fs::rename(p.join("d/n"), p.join("e/n")),
                ])
            })
        },
    },
];

/// Everybody; where the kernel does not check lists root, whom they do not stop.
fn who() -> Vec<User> {
    if has(&["posix_acl"]) { everybody() } else { USUAL[..1].to_vec() }
}

#[test]
fn access_control_lists_allow_what_they_do_on_a_bare_directory() {
    check_with("", &who(), ENFORCED, str::to_owned);
}

#[test]
fn access_control_lists_are_changed_as_on_a_bare_directory() {
    check_with("", &who(), CHANGED, str::to_owned);
    if has(&["posix_acl"]) {
        check_with("", &USUAL, SET_GROUP_ID, str::to_owned);
    }
}

/// Defect B8: default lists of files, and access lists that do not follow from the default list.
#[test]
fn default_lists_are_inherited_as_on_a_bare_directory() {
    // The kernel takes the umask off itself where it cannot be told not to.
    let told = has(&["dont_mask"]);
    let cases = INHERITED.iter().filter(|case| told || case.name.ends_with("umask 0"));
    check_with("", &who(), cases, str::to_owned);
}
