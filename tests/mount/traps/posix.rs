//! What POSIX and Linux promise of any file system, in the places where unions broke it.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, FlockOperation, Mode, RenameFlags};

use super::super::harness::{Bed, Setup, entries, exists, ino, mkdir, no_spawning, put, read, sh_in};
use super::super::os::{self, Map, errno, open_rw};
use super::{Site, everywhere, everywhere_with};

pub fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().mode() & 0o7777
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

pub fn mtime(path: &Path) -> (i64, i64) {
    let m = path.symlink_metadata().unwrap();
    (m.mtime(), m.mtime_nsec())
}

/// fuse-overlayfs issue 470 and defect A11: copied-up directories become readable to all.
#[test]
fn copied_up_directories_have_their_modes_and_owners() {
    const MODES: [u32; 12] = [0, 0o100, 0o400, 0o500, 0o700, 0o711, 0o750, 0o1777, 0o2755, 0o2770, 0o4711, 0o7777];
    let fill = |l: &[PathBuf]| {
        for bits in MODES {
            put(&l[0], &format!("{bits:o}/s/f"), "x");
            for dir in [format!("{bits:o}/s"), format!("{bits:o}")] {
                chown(l[0].join(&dir), Some(7), Some(8)).unwrap();
                set_mode(&l[0].join(&dir), bits);
            }
        }
    };
    everywhere(1, fill, |site| {
        let check = |site: &Site| {
            for bits in MODES {
                for dir in [format!("{bits:o}"), format!("{bits:o}/s")] {
                    for path in [site.p(&dir), site.u(&dir)] {
                        let m = path.metadata().unwrap();
                        assert_eq!((m.mode() & 0o7777, m.uid(), m.gid()), (bits, 7, 8), "{}", path.display());
                    }
                }
            }
        };
        MODES.iter().for_each(|bits| open_rw(&site.p(&format!("{bits:o}/s/f"))).write_all(b"y").unwrap());
        check(site);
        site.bed.remount();
        check(site);
    });
}

/// Defects A9, A10: modes depend on the umask of who started the daemon, and nodes get 0755.
#[test]
fn the_umask_of_the_mounting_program_does_not_count() {
    for umask in ["0777", "0027"] {
        let mut bed = Bed::unmounted(Setup::default(), |l| {
            for dir in ["", "below/it/"] {
                put(&l[0], &format!("{dir}low/f"), "x");
                set_mode(&l[0].join(dir).join("low/f"), 0o666);
                set_mode(&l[0].join(dir).join("low"), 0o777);
            }
        });
        let program = super::super::harness::PROGRAM;
        let script = format!("umask {umask}; {program} mount -o {} {}", bed.option_string(), bed.m.display());
        sh_in(&bed.dir, &script);
        bed.mounted();
        for dir in ["", "below/it"] {
            let at = bed.p(dir);
            sh_in(&at, "umask 0; : >f; mkdir d; mkfifo p; : >>low/f; echo x >>low/f; : >low/g; ln low/f low/h");
            sh_in(&at, "umask 0; rm low/f; : >low/f; umask 077; : >f7; mkdir d7; mkfifo p7");
            let modes = ["f", "d", "p", "low", "low/f", "low/g", "low/h", "f7", "d7", "p7"].map(|n| mode(&at.join(n)));
            assert_eq!(modes, [0o666, 0o777, 0o666, 0o777, 0o666, 0o666, 0o666, 0o600, 0o700, 0o600], "{umask} {dir}");
        }
        bed.remount();
        assert_eq!(mode(&bed.u("below/it/low")), 0o777);
    }
}

/// Everything a program does with a file whose name is gone.
fn use_without_name(site: &Site, mut file: File, content: &str) {
    let mut text = String::new();
    for _ in 0..2 {
        assert_eq!(file.metadata().unwrap().nlink(), 0);
        file.rewind().unwrap();
        text.clear();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, content);
        site.bed.drop_caches();
    }
    file.write_all_at(b"X", 0).unwrap();
    file.set_len(3).unwrap();
    file.set_permissions(Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::fchown(&file, Some(5), Some(6)).unwrap();
    rustix::fs::fsetxattr(&file, "user.a", b"b", rustix::fs::XattrFlags::empty()).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    file.sync_all().unwrap();
    site.bed.drop_caches();
    let m = file.metadata().unwrap();
    assert_eq!((m.len(), m.mode() & 0o7777, m.uid(), m.gid(), m.mtime(), m.nlink()), (3, 0o640, 5, 6, 0, 0));
    let again = format!("/proc/self/fd/{}", file.as_raw_fd());
    assert_eq!(&fs::read(again).unwrap()[..1], b"X");
}

/// fuse-overlayfs issue 175 and defect A12: temporary files that were deleted right after they were made.
#[test]
fn deleted_files_are_used_on() {
    let fill = |l: &[PathBuf]| {
        for name in ["low", "copied", "over", "swapped", "linked", "moved"] {
            put(&l[0], name, "content");
        }
        fs::hard_link(l[0].join("linked"), l[0].join("linked2")).unwrap();
    };
    type Step = (&'static str, fn(&Site));
    let steps: [Step; 7] = [
        ("low", |s| fs::remove_file(s.p("low")).unwrap()),
        ("copied", |s| {
            set_mode(&s.p("copied"), 0o600);
            fs::remove_file(s.p("copied")).unwrap();
        }),
        ("new", |s| fs::remove_file(s.p("new")).unwrap()),
        ("over", |s| {
            fs::write(s.p("other"), "other").unwrap();
            fs::rename(s.p("other"), s.p("over")).unwrap();
        }),
        ("swapped", |s| {
            fs::write(s.p("other"), "other").unwrap();
            os::rename(&s.p("swapped"), &s.p("other"), RenameFlags::EXCHANGE).unwrap();
            fs::remove_file(s.p("other")).unwrap();
        }),
        ("linked", |s| ["linked", "linked2"].iter().for_each(|n| fs::remove_file(s.p(n)).unwrap())),
        ("moved", |s| {
            fs::create_dir(s.p("d")).unwrap();
            fs::rename(s.p("moved"), s.p("d/moved")).unwrap();
            fs::remove_dir_all(s.p("d")).unwrap();
        }),
    ];
    everywhere(1, fill, |site| {
        fs::write(site.p("new"), "content").unwrap();
        for (name, remove) in steps {
            let file = open_rw(&site.p(name));
            remove(site);
            use_without_name(site, file, "content");
        }
        assert_eq!(site.sh("exec 3<>t; rm t; echo data >&3; stat -Lc %h /dev/fd/3; cat /dev/fd/3"), "0\ndata");
    });
}

/// fuse-overlayfs issue 351 and defect B9: names of more than 251 bytes are refused, too long ones do not exist.
#[test]
fn names_of_255_bytes_can_be_used_for_everything() {
    let name = |c: char| c.to_string().repeat(255);
    let long = |site: &Site, c: char| site.p(&name(c));
    let fill = |l: &[PathBuf]| {
        put(&l[0], &name('f'), "f");
        put(&l[0], &format!("{}/{}", name('d'), name('x')), "x");
        mkdir(&l[0], &name('e'));
        put(&l[0], &format!("{}/low", name('o')), "");
    };
    everywhere(1, fill, |site| {
        fs::write(long(site, 'n'), "n").unwrap();
        fs::hard_link(long(site, 'f'), long(site, 'h')).unwrap();
        symlink(name('f'), long(site, 'l')).unwrap();
        os::mknod(&long(site, 'p'), FileType::Fifo, 0o600, 0, 0).unwrap();
        fs::create_dir(long(site, 'm')).unwrap();
        fs::rename(long(site, 'd'), long(site, 'r')).unwrap();
        fs::remove_dir(long(site, 'e')).unwrap();
        fs::rename(long(site, 'n'), long(site, 'e')).unwrap();
        fs::remove_dir_all(long(site, 'o')).unwrap();
        fs::create_dir(long(site, 'o')).unwrap();
        os::rename(&long(site, 'm'), &long(site, 'f'), RenameFlags::EXCHANGE).unwrap();
        fs::remove_file(long(site, 'r').join(name('x'))).unwrap();
        let check = |site: &Site| {
            assert_eq!(entries(&site.p("")), ['e', 'f', 'h', 'l', 'm', 'o', 'p', 'r'].map(name));
            assert_eq!(
                (read(&long(site, 'e')), read(&long(site, 'm')), read(&long(site, 'h'))),
                ("n".into(), "f".into(), "f".into())
            );
            for dir in ['o', 'r', 'f'] {
                assert_eq!(entries(&long(site, dir)), [""; 0], "{dir}");
            }
            assert_eq!(ino(&long(site, 'm')), ino(&long(site, 'h')));
        };
        check(site);
        site.bed.remount();
        check(site);
    });
}

#[test]
fn names_of_256_bytes_are_too_long() {
    everywhere(
        1,
        |l| put(&l[0], "f", "x"),
        |site| {
            let (long, f) = (site.p(&"n".repeat(256)), site.p("f"));
            let results = [
                fs::metadata(&long).map(drop),
                File::open(&long).map(drop),
                File::create(&long).map(drop),
                fs::create_dir(&long),
                symlink("x", &long),
                os::mknod(&long, FileType::Fifo, 0o600, 0, 0),
                fs::hard_link(&f, &long),
                fs::rename(&f, &long),
                fs::rename(&long, &f),
                fs::remove_file(&long),
                fs::remove_dir(&long),
                fs::metadata(long.join("x")).map(drop),
            ];
            for (n, result) in results.into_iter().enumerate() {
                assert_eq!(errno(result), libc::ENAMETOOLONG, "{n}");
            }
        },
    );
}

/// Tries to get a lock through a new descriptor.
fn is_locked(path: &Path) -> bool {
    let busy = rustix::fs::flock(File::open(path).unwrap(), FlockOperation::NonBlockingLockExclusive);
    assert!(busy.is_ok() || busy == Err(rustix::io::Errno::WOULDBLOCK));
    busy.is_err()
}

/// fuse-overlayfs issue 80: locks in the daemon. They belong to the file, whatever happens to its data and names, and
/// who waits for one stops nobody else.
#[test]
fn locks_stay_with_the_file_and_stop_nobody_else() {
    everywhere(
        1,
        |l| put(&l[0], "f", "x"),
        |site| {
            let holder = File::open(site.p("f")).unwrap();
            let _quiet = no_spawning();
            rustix::fs::flock(&holder, FlockOperation::LockExclusive).unwrap();
            assert!(is_locked(&site.p("f")));
            open_rw(&site.p("f")).write_all(b"copied up").unwrap();
            assert!(is_locked(&site.p("f")));
            fs::rename(site.p("f"), site.p("g")).unwrap();
            fs::hard_link(site.p("g"), site.p("h")).unwrap();
            assert!(is_locked(&site.p("g")) && is_locked(&site.p("h")));
            let path = site.p("h");
            std::thread::scope(|scope| {
                let waiting: Vec<_> = (0..20)
                    .map(|_| {
                        scope.spawn(|| {
                            let file = File::open(&path).unwrap();
                            rustix::fs::flock(&file, FlockOperation::LockExclusive).unwrap();
                        })
                    })
                    .collect();
                // More of them than the daemon has threads, and still it answers.
                fs::write(site.p("other"), "works").unwrap();
                assert_eq!(entries(&site.p("")), ["g", "h", "other"]);
                assert!(is_locked(&site.p("g")));
                rustix::fs::flock(&holder, FlockOperation::Unlock).unwrap();
                waiting.into_iter().for_each(|w| w.join().unwrap());
            });
            assert!(!is_locked(&site.p("g")));
            os::posix_lock(&open_rw(&site.p("g")), libc::F_WRLCK).unwrap();
            fs::remove_file(site.p("g")).unwrap();
            rustix::fs::flock(&holder, FlockOperation::LockExclusive).unwrap();
            assert!(is_locked(&site.p("h")));
        },
    );
}

/// fuse-overlayfs issue 399: copying a file that may only be read fails and leaves an empty one.
#[test]
fn read_only_files_are_copied_by_their_owner() {
    let fill = |l: &[PathBuf]| {
        put(&l[0], "d/f", vec![7; 300_000]);
        set_mode(&l[0].join("d/f"), 0o444);
        sh_in(&l[0], "chown -R 1000:1000 d");
    };
    everywhere(1, fill, |site| {
        let shown = site.sh_as(
            1000,
            "cd d; cp f g; cp -a f h; cp --reflink=never f i; cp --sparse=always f j; install -m 444 f k; mv f l; cp l f; \
             for n in g h i j k l; do cmp f $n; stat -c %a $n; done",
        );
        assert_eq!(shown, "444\n444\n444\n444\n444\n444");
        let from = File::open(site.p("d/g")).unwrap();
        let to = File::from(
            rustix::fs::open(
                site.p("d/new"),
                rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CREATE | rustix::fs::OFlags::EXCL,
                Mode::from_raw_mode(0o444),
            )
            .unwrap(),
        );
        assert_eq!(rustix::fs::copy_file_range(&from, None, &to, None, 200_000), Ok(200_000));
        assert!(fs::read(site.p("d/new")).unwrap() == [7; 200_000]);
        drop((from, to));
        site.bed.remount();
        assert!(fs::read(site.p("d/h")).unwrap() == vec![7; 300_000]);
    });
}

/// fuse-overlayfs issue 378: each mapped file costs the daemon a descriptor, and linkers map thousands.
#[test]
fn mapped_files_cost_the_daemon_no_descriptors() {
    let setup = Setup { descriptors: Some(128), ..Setup::default() };
    let fill = |l: &[PathBuf]| (0..500).for_each(|n| put(&l[0], &format!("o/{n}.o"), format!("object {n:04}")));
    everywhere_with(setup, fill, |site| {
        let mut maps: Vec<Map> =
            (0..500).map(|n| Map::new(&open_rw(&site.p(&format!("o/{n}.o"))), 11, n % 2 == 0, true).unwrap()).collect();
        maps.iter().enumerate().for_each(|(n, m)| assert_eq!(m.read(0, 11), format!("object {n:04}").as_bytes()));
        maps.iter_mut().step_by(2).for_each(|m| m.write(0, b"OBJECT"));
        maps.iter().step_by(2).for_each(|m| m.sync().unwrap());
        assert!(site.bed.descriptors() <= 128, "{}", site.bed.descriptors());
        drop(maps);
        site.bed.remount();
        (0..500).for_each(|n| {
            let want = if n % 2 == 0 { format!("OBJECT {n:04}") } else { format!("object {n:04}") };
            assert_eq!(read(&site.p(&format!("o/{n}.o"))), want);
        });
    });
}

/// fuse-overlayfs issue 273 and defect A15.
#[test]
fn renames_with_flags_know_whiteouts_and_lower_files() {
    let fill = |l: &[PathBuf]| {
        for name in ["a", "b", "c", "gone", "d/f", "e/g"] {
            put(&l[0], name, name);
        }
    };
    everywhere(1, fill, |site| {
        let rename = |from: &str, to: &str, flags| os::rename(&site.p(from), &site.p(to), flags);
        fs::remove_file(site.p("gone")).unwrap();
        assert_eq!(errno(rename("a", "b", RenameFlags::NOREPLACE)), libc::EEXIST);
        assert_eq!(errno(rename("gone", "x", RenameFlags::NOREPLACE)), libc::ENOENT);
        assert_eq!(errno(rename("a", "gone", RenameFlags::EXCHANGE)), libc::ENOENT);
        assert_eq!(errno(rename("a", "b", RenameFlags::EXCHANGE | RenameFlags::NOREPLACE)), libc::EINVAL);
        rename("a", "gone", RenameFlags::NOREPLACE).unwrap();
        rename("b", "c", RenameFlags::EXCHANGE).unwrap();
        rename("d", "gone", RenameFlags::EXCHANGE).unwrap();
        rename("gone", "e", RenameFlags::EXCHANGE).unwrap();
        let check = |site: &Site| {
            assert_eq!(entries(&site.p("")), ["b", "c", "d", "e", "gone"]);
            let found = ["b", "c", "d", "e/f", "gone/g"].map(|n| read(&site.p(n)));
            assert_eq!(found, ["c", "b", "a", "d/f", "e/g"]);
            assert!(!exists(&site.p("a")) && !exists(&site.p("e/g")) && !exists(&site.p("gone/f")));
        };
        check(site);
        site.bed.remount();
        check(site);
    });
}

/// Defect A16: names of whiteouts can be made and hide things then.
#[test]
fn names_of_whiteouts_cannot_be_made() {
    everywhere(
        1,
        |l| put(&l[0], "f", "x"),
        |site| {
            let (bad, f) = (site.p(".wh.f"), site.p("f"));
            let results = [
                File::create(&bad).map(drop),
                OpenOptions::new().write(true).create_new(true).open(&bad).map(drop),
                fs::create_dir(&bad),
                symlink("x", &bad),
                os::mknod(&bad, FileType::RegularFile, 0o600, 0, 0),
                fs::hard_link(&f, &bad),
                fs::rename(&f, &bad),
                fs::write(site.p(".wh..wh..opq"), ""),
            ];
            for (n, result) in results.into_iter().enumerate() {
                assert_eq!(errno(result), libc::EPERM, "{n}");
            }
            assert_eq!(entries(&site.p("")), ["f"]);
            site.bed.remount();
            assert_eq!(entries(&site.p("")), ["f"]);
        },
    );
}

/// Defect A17: attributes by path names end up elsewhere when a part of the path is a symbolic link.
#[test]
fn attributes_are_those_of_the_link_or_of_the_target() {
    let fill = |l: &[PathBuf]| {
        put(&l[0], "target", "x");
        symlink("target", l[0].join("link")).unwrap();
        symlink("/etc/hostname", l[0].join("outside")).unwrap();
        mkdir(&l[0], "d");
        put(&l[0], "d/f", "x");
        symlink("d", l[0].join("dirlink")).unwrap();
    };
    everywhere(1, fill, |site| {
        os::set_xattr(&site.p("link"), "trusted.own", b"of the link").unwrap();
        os::set_xattr(&site.p("outside"), "trusted.own", b"of the link").unwrap();
        os::set_xattr(&site.p("dirlink/f"), "user.a", b"of the file").unwrap();
        rustix::fs::setxattr(site.p("link"), "user.a", b"of the target", rustix::fs::XattrFlags::empty()).unwrap();
        let check = |site: &Site| {
            assert_eq!(os::xattr_names(&site.p("target")), ["user.a"]);
            assert_eq!(os::xattr_names(&site.p("link")), ["trusted.own"]);
            assert_eq!(os::xattr_names(&site.p("outside")), ["trusted.own"]);
            assert_eq!(os::get_xattr(&site.p("d/f"), "user.a").unwrap(), b"of the file");
            assert_eq!(os::xattr_names(&site.p("dirlink")), [""; 0]);
        };
        check(site);
        site.bed.remount();
        check(site);
        assert_eq!(errno::<Vec<u8>>(os::get_xattr(Path::new("/etc/hostname"), "trusted.own")), libc::ENODATA);
    });
}
