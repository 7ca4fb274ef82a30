//! Modes, owners, times, sizes and extended attributes.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, fchown, lchown};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, XattrFlags};

use super::super::os;
use super::{Case, GROUP, OWNER, TEAM, USUAL, check, check_with, codes, open_write};

fn chmod(p: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(p, fs::Permissions::from_mode(mode))
}

fn utimens(p: &Path, atime: (i64, i64), mtime: (i64, i64)) -> io::Result<()> {
    let time = |t: (i64, i64)| Timespec { tv_sec: t.0, tv_nsec: t.1 as _ };
    let times = Timestamps { last_access: time(atime), last_modification: time(mtime) };
    Ok(rustix::fs::utimensat(CWD, p, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

const NOW: (i64, i64) = (0, UTIME_NOW);
const OMIT: (i64, i64) = (0, UTIME_OMIT);
const OLD: (i64, i64) = (-77_000, 123_456_789);

fn truncate(p: &Path, len: i64) -> io::Result<()> {
    let path = std::ffi::CString::new(p.to_str().unwrap()).unwrap();
    let failed = unsafe { libc::truncate(path.as_ptr(), len) } != 0;
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets, reads, lists, replaces and removes an attribute.
fn attribute(p: &Path, name: &str) -> String {
    let listed = rustix::fs::llistxattr(p, &mut [0u8; 4096][..]);
    let mut value = [0; 100];
    let read = |v: &mut [u8]| rustix::fs::lgetxattr(p, name, v).map(drop).map_err(io::Error::from);
    let set = |flags| rustix::fs::lsetxattr(p, name, b"new value", flags).map_err(io::Error::from);
    codes([
        read(&mut value),
        set(XattrFlags::CREATE),
        set(XattrFlags::REPLACE),
        set(XattrFlags::empty()),
        read(&mut value),
        rustix::fs::lremovexattr(p, name).map_err(io::Error::from),
        read(&mut value),
    ]) + &format!(" {listed:?}")
}

const CASES: &[Case] = &[
    Case {
        name: "chmod",
        setup: |t| t.file("f", 0o644).dir("d", 0o755).fifo("p", 0o600),
        run: |s| s.user(|p| codes(["f", "d", "p"].map(|n| chmod(&p.join(n), 0o751)))),
    },
    Case {
        name: "chmod of all bits",
        setup: |t| t.file("f", 0o644).dir("d", 0o755).fifo("p", 0o600),
        run: |s| s.user(|p| codes(["f", "d", "p"].map(|n| chmod(&p.join(n), 0o7777)))),
    },
    Case {
        name: "chmod of set-group-id with a foreign group and with the own one",
        setup: |t| t.file("f", 0o755).file("g", 0o755).chown("g", OWNER, 1000).dir("d", 0o2755),
        run: |s| {
            s.user(|p| codes([chmod(&p.join("f"), 0o2755), chmod(&p.join("g"), 0o2755), chmod(&p.join("d"), 0o2700)]))
        },
    },
    Case {
        name: "chmod through a descriptor and through a symbolic link",
        setup: |t| t.file("f", 0o666).symlink("l", "f"),
        run: |s| {
            let file = File::open(s.path("f")).unwrap();
            let set = |p: &Path| {
                let mode = fs::Permissions::from_mode;
                codes([chmod(&p.join("l"), 0o711), file.set_permissions(mode(0o6750))])
            };
            s.user(set)
        },
    },
    Case {
        name: "give away",
        setup: |t| t.file("f", 0o666).dir("d", 0o777).symlink("l", "f"),
        run: |s| s.user(|p| codes(["f", "d", "l"].map(|n| lchown(p.join(n), Some(77), None)))),
    },
    Case {
        name: "take",
        setup: |t| t.file("f", 0o666),
        run: |s| {
            let uid = s.user.uid;
            s.user(|p| codes([chown(p.join("f"), Some(uid), None)]))
        },
    },
    Case {
        name: "give to the owner again, which changes nothing",
        setup: |t| t.file("f", 0o6755),
        run: |s| s.user(|p| codes([chown(p.join("f"), Some(OWNER), Some(GROUP))])),
    },
    Case {
        name: "change the group to the primary, a supplementary and a foreign one",
        setup: |t| t.file("f", 0o666).file("g", 0o666).file("h", 0o666).file("i", 0o666),
        run: |s| {
            let own = s.user.gid;
            let groups = [("f", own), ("g", GROUP), ("h", TEAM), ("i", 4000)];
            s.user(|p| codes(groups.map(|(n, g)| lchown(p.join(n), None, Some(g)))))
        },
    },
    Case {
        name: "change the group of a directory and of a link",
        setup: |t| t.dir("d", 0o2777).chown("d", OWNER, 1).symlink("l", "nowhere").chown("l", OWNER, 1),
        run: |s| s.user(|p| codes(["d", "l"].map(|n| lchown(p.join(n), None, Some(GROUP))))),
    },
    Case {
        name: "change owner and mode through a descriptor for reading",
        setup: |t| t.file("f", 0o644),
        run: |s| {
            let file = File::open(s.path("f")).unwrap();
            s.user(|_| {
                let mode = fs::Permissions::from_mode(0o600);
                codes([file.set_permissions(mode), fchown(&file, Some(OWNER), Some(1000))])
            })
        },
    },
    Case {
        name: "times to now, of what one may write or not",
        setup: |t| t.file("f", 0o644).file("g", 0o666).dir("d", 0o755).symlink("l", "x"),
        run: |s| s.user(|p| codes(["f", "g", "d", "l"].map(|n| utimens(&p.join(n), NOW, NOW)))),
    },
    Case {
        name: "times to some moment",
        setup: |t| t.file("f", 0o666).dir("d", 0o777).symlink("l", "x").fifo("p", 0o666),
        run: |s| s.user(|p| codes(["f", "d", "l", "p"].map(|n| utimens(&p.join(n), OLD, OLD)))),
    },
    Case {
        name: "one of the times",
        setup: |t| t.file("f", 0o666).file("g", 0o666).file("h", 0o666).file("i", 0o666),
        run: |s| {
            s.user(|p| {
                codes([
                    utimens(&p.join("f"), OMIT, OLD),
                    utimens(&p.join("g"), OMIT, NOW),
                    utimens(&p.join("h"), NOW, OMIT),
                    utimens(&p.join("i"), OMIT, OMIT),
                ])
            })
        },
    },
    Case {
        name: "now for one time, some moment for the other",
        setup: |t| t.file("f", 0o666),
        run: |s| s.user(|p| codes([utimens(&p.join("f"), NOW, OLD)])),
    },
    Case {
        name: "times through a descriptor from before chmod",
        setup: |t| t.file("f", 0o666),
        run: |s| {
            let file = os::open_rw(&s.path("f"));
            chmod(&s.path("f"), 0o400).unwrap();
            s.user(|_| {
                let moment = std::time::UNIX_EPOCH + std::time::Duration::from_secs(5);
                codes([file.set_modified(moment)])
            })
        },
    },
    Case {
        name: "truncate by path",
        setup: |t| t.file("f", 0o644).file("g", 0o664).file("h", 0o446).dir("d", 0o777),
        run: |s| s.user(|p| codes(["f", "g", "h", "d"].map(|n| truncate(&p.join(n), 3)))),
    },
    Case {
        name: "extend by path",
        setup: |t| t.file("f", 0o664),
        run: |s| s.user(|p| codes([truncate(&p.join("f"), 100_000), truncate(&p.join("f"), -1)])),
    },
    Case {
        name: "truncate by descriptor",
        setup: |t| t.file("f", 0o664),
        run: |s| {
            s.user(|p| codes([open_write(&p.join("f")).and_then(|f| f.set_len(3)), fs::read(p.join("f")).map(drop)]))
        },
    },
    Case {
        name: "truncate by a descriptor from before chmod",
        setup: |t| t.file("f", 0o666),
        run: |s| {
            let file = open_write(&s.path("f")).unwrap();
            chmod(&s.path("f"), 0).unwrap();
            s.user(|_| codes([file.set_len(3), os::fallocate(&file, 0, 0, 9000)]))
        },
    },
    Case {
        name: "user attributes of a file 0664",
        setup: |t| t.file("f", 0o664),
        run: |s| s.user(|p| attribute(&p.join("f"), "user.a")),
    },
    Case {
        name: "user attributes of a file 0622 that cannot be read",
        setup: |t| t.file("f", 0o622).xattr("f", "user.b", b"x"),
        run: |s| s.user(|p| attribute(&p.join("f"), "user.a") + &attribute(&p.join("f"), "user.b")),
    },
    Case {
        name: "user attributes of a file 0444",
        setup: |t| t.file("f", 0o444).xattr("f", "user.a", b"x"),
        run: |s| s.user(|p| attribute(&p.join("f"), "user.a")),
    },
    Case {
        name: "user attributes of a directory 0775",
        setup: |t| t.dir("d", 0o775),
        run: |s| s.user(|p| attribute(&p.join("d"), "user.a")),
    },
    Case {
        name: "user attributes of a sticky directory",
        setup: |t| t.dir("d", 0o1777),
        run: |s| s.user(|p| attribute(&p.join("d"), "user.a")),
    },
    Case {
        name: "user attributes of a symbolic link and a pipe",
        setup: |t| t.symlink("l", "x").fifo("p", 0o666),
        run: |s| s.user(|p| attribute(&p.join("l"), "user.a") + &attribute(&p.join("p"), "user.a")),
    },
    Case {
        name: "security attributes",
        setup: |t| t.file("f", 0o666),
        run: |s| s.user(|p| attribute(&p.join("f"), "security.a")),
    },
    Case {
        name: "attributes without a known prefix, and with odd names and sizes",
        setup: |t| t.file("f", 0o666),
        run: |s| {
            let long = format!("user.{}", "n".repeat(250));
            let too_long = format!("user.{}", "n".repeat(251));
            s.user(|p| {
                let f = p.join("f");
                let set = |name: &str, value: &[u8]| os::set_xattr(&f, name, value);
                codes([
                    set("other.a", b"x"),
                    set("user.", b"x"),
                    set("user", b"x"),
                    set(&long, b"x"),
                    set(&too_long, b"x"),
                    set("user.empty", b""),
                    set("user.big", &[1; 70_000]),
                    set("user.some", &[1; 3000]),
                ])
            })
        },
    },
    Case {
        name: "attributes through a descriptor from before chmod",
        setup: |t| t.file("f", 0o666),
        run: |s| {
            let file = os::open_rw(&s.path("f"));
            chmod(&s.path("f"), 0o400).unwrap();
            s.user(|_| {
                let set = rustix::fs::fsetxattr(&file, "user.a", b"x", XattrFlags::empty());
                let read = rustix::fs::fgetxattr(&file, "user.a", &mut [0u8; 10][..]);
                codes([set.map_err(io::Error::from), read.map(drop).map_err(io::Error::from)])
            })
        },
    },
    Case {
        name: "inode flags",
        setup: |t| t.file("f", 0o666),
        run: |s| {
            s.user(|p| {
                let file = File::open(p.join("f"));
                codes([file.and_then(|f| os::set_inode_flags(&f, os::inode_flags(&f)? | 0x40))])
            })
        },
    },
];

/// Who has `CAP_SYS_ADMIN` is told by the user id only.
const TRUSTED: &[Case] = &[Case {
    name: "trusted attributes",
    setup: |t| t.file("f", 0o666).xattr("f", "trusted.b", b"x").symlink("l", "x"),
    run: |s| s.user(|p| ["f", "l"].map(|n| attribute(&p.join(n), "trusted.a")).join(" ")),
}];

#[test]
fn attributes_are_changed_as_on_a_bare_directory() {
    check(CASES);
    check_with("", &USUAL, TRUSTED, str::to_owned);
}
