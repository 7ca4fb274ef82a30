//! Opening, searching and listing.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::super::os;
use super::{Case, Stage, Tree, USERS, check, code, codes, open_write, three_ways};

fn access(p: &Path) -> String {
    let path = std::ffi::CString::new(p.to_str().unwrap()).unwrap();
    [libc::R_OK, libc::W_OK, libc::X_OK]
        .map(|what| {
            let failed = unsafe { libc::access(path.as_ptr(), what) } != 0;
            code(if failed { Err(io::Error::last_os_error()) } else { Ok(()) })
        })
        .join(", ")
}

const CASES: &[Case] = &[
    Case { name: "open 0600", setup: |t| t.file("f", 0o600), run: |s| s.user(|p| three_ways(&p.join("f"))) },
    Case { name: "open 0640", setup: |t| t.file("f", 0o640), run: |s| s.user(|p| three_ways(&p.join("f"))) },
    Case {
        name: "open 0604, which the group may not read",
        setup: |t| t.file("f", 0o604),
        run: |s| s.user(|p| three_ways(&p.join("f"))),
    },
    Case {
        name: "open 0066, which the owner may not read",
        setup: |t| t.file("f", 0o066),
        run: |s| s.user(|p| three_ways(&p.join("f"))),
    },
    Case { name: "open 0222", setup: |t| t.file("f", 0o222), run: |s| s.user(|p| three_ways(&p.join("f"))) },
    Case { name: "open 0000", setup: |t| t.file("f", 0), run: |s| s.user(|p| three_ways(&p.join("f"))) },
    Case {
        name: "open and truncate 0644",
        setup: |t| t.file("f", 0o644),
        run: |s| s.call(|p| File::create(p.join("f"))),
    },
    Case {
        name: "open and truncate 0664",
        setup: |t| t.file("f", 0o664),
        run: |s| s.call(|p| File::create(p.join("f"))),
    },
    Case {
        name: "open for reading and truncate (O_RDONLY|O_TRUNC) 0444",
        setup: |t| t.file("f", 0o444),
        run: |s| {
            s.user(|p| {
                let path = std::ffi::CString::new(p.join("f").to_str().unwrap()).unwrap();
                let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_TRUNC) };
                if fd < 0 {
                    return code::<()>(Err(io::Error::last_os_error()));
                }
                unsafe { libc::close(fd) };
                "ok".into()
            })
        },
    },
    Case {
        name: "append to 0620",
        setup: |t| t.file("f", 0o620),
        run: |s| s.call(|p| io::Write::write_all(&mut File::options().append(true).open(p.join("f"))?, b"more")),
    },
    Case { name: "access 0754", setup: |t| t.file("f", 0o754), run: |s| s.user(|p| access(&p.join("f"))) },
    Case {
        name: "access of a directory 0750",
        setup: |t| t.dir("d", 0o750),
        run: |s| s.user(|p| access(&p.join("d"))),
    },
    Case {
        name: "open without changing the time of access",
        setup: |t| t.file("f", 0o666),
        run: |s| s.call(|p| File::options().read(true).custom_flags(libc::O_NOATIME).open(p.join("f"))),
    },
    Case {
        name: "list 0750",
        setup: |t| t.dir("d", 0o750).file("d/f", 0o644),
        run: |s| s.user(|p| codes([fs::read_dir(p.join("d")).map(drop), File::open(p.join("d/f")).map(drop)])),
    },
    Case {
        name: "search in 0711, which cannot be listed",
        setup: |t| t.dir("d", 0o711).file("d/f", 0o644),
        run: |s| s.user(|p| codes([fs::read_dir(p.join("d")).map(drop), File::open(p.join("d/f")).map(drop)])),
    },
    Case {
        name: "list 0744, which cannot be searched",
        setup: |t| t.dir("d", 0o744).file("d/f", 0o644),
        run: |s| {
            s.user(|p| {
                let names = fs::read_dir(p.join("d")).map(|d| d.count());
                format!("{names:?}, {}", code(p.join("d/f").symlink_metadata()))
            })
        },
    },
    Case {
        name: "a directory on the way that cannot be searched",
        setup: |t| t.dir("d", 0o700).dir("d/e", 0o777).file("d/e/f", 0o666).symlink("d/e/l", "f"),
        run: |s| {
            s.user(|p| {
                codes([
                    open_write(&p.join("d/e/f")).map(drop),
                    p.join("d/e/l").read_link().map(drop),
                    fs::write(p.join("d/e/new"), ""),
                    fs::remove_file(p.join("d/e/f")),
                    p.join("d/e/missing").symlink_metadata().map(drop),
                ])
            })
        },
    },
    Case {
        name: "through a symbolic link of somebody else in a sticky directory",
        setup: |t| t.file("f", 0o666).dir("d", 0o1777).chown("d", 0, 0).symlink("d/l", "../f"),
        run: |s| s.call(|p| open_write(&p.join("d/l"))),
    },
    Case {
        name: "O_CREAT of what exists in a sticky directory",
        setup: |t| t.dir("d", 0o1777).chown("d", 0, 0).file("d/f", 0o666).fifo("d/p", 0o666),
        run: |s| {
            let open = |p: &Path, name: &str| {
                let options = &mut File::options();
                let options = options.read(true).write(true).create(true).truncate(false);
                options.custom_flags(libc::O_NONBLOCK).open(p.join("d").join(name)).map(drop)
            };
            s.user(|p| codes([open(p, "f"), open(p, "p")]))
        },
    },
    Case {
        name: "read and write through a descriptor from before chmod 0000",
        setup: |t| t.file("f", 0o666),
        run: |s| {
            let file = os::open_rw(&s.path("f"));
            fs::set_permissions(s.path("f"), std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
            s.user(|_| {
                let mut data = [0; 4];
                let read = std::os::unix::fs::FileExt::read_exact_at(&file, &mut data, 0);
                let write = std::os::unix::fs::FileExt::write_all_at(&file, b"data", 2);
                format!("{data:?} {}", codes([read, write, file.sync_all()]))
            })
        },
    },
    Case {
        name: "a descriptor of a directory from before chmod 0000",
        setup: |t| t.dir("d", 0o777).file("d/f", 0o644),
        run: |s| {
            let dir = File::open(s.path("d")).unwrap();
            fs::set_permissions(s.path("d"), std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
            s.user(|_| {
                let flags = rustix::fs::OFlags::RDONLY;
                let opened = rustix::fs::openat(&dir, "f", flags, rustix::fs::Mode::empty());
                let listed = rustix::fs::Dir::read_from(&dir).map(|d| d.count());
                format!("{:?} {listed:?}", opened.map(drop))
            })
        },
    },
    Case {
        name: "open again through /proc after chmod",
        setup: |t| t.file("f", 0o644),
        run: |s| {
            let file = File::open(s.path("f")).unwrap();
            let path = std::path::PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file)));
            fs::set_permissions(s.path("f"), std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
            s.user(|_| three_ways(&path))
        },
    },
];

#[test]
fn opening_is_allowed_as_on_a_bare_directory() {
    check(CASES);
}

/// The tables say nothing if all users are one.
#[test]
fn users_of_the_tables_differ() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    Tree(dir.path().into()).file("f", 0o640);
    let open = |user| Stage { root: dir.path().into(), user }.user(|p| three_ways(&p.join("f")));
    let (all, none, read) = ("ok, ok, ok", "error 13, error 13, error 13", "ok, error 13, error 13");
    assert_eq!(USERS.map(open), [all, all, all, read, read, none, none, all]);
}
