//! Who may do what, who owns what is made, and what a change clears.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use super::harness::{Bed, Setup, exists, has, is_whiteout, mkdir, put, read};
use super::os;
use super::posix_acl::{ACCESS, DEFAULT, GROUP_OBJ, NAMED_USER, NOBODY, OTHERS, modify, text};

fn mode(path: &std::path::Path) -> u32 {
    path.symlink_metadata().unwrap().mode() & 0o7777
}

fn owner(path: &std::path::Path) -> (u32, u32) {
    let m = path.symlink_metadata().unwrap();
    (m.uid(), m.gid())
}

fn set_mode(path: &std::path::Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A lower layer with a directory that anybody can write.
fn open_bed() -> Bed {
    Bed::new(|l| {
        mkdir(l, "open");
        set_mode(&l.join("open"), 0o777);
        put(l, "open/gone", "x");
    })
}

#[test]
fn new_objects_get_the_callers_ids_and_umask() {
    let mut bed = open_bed();
    bed.sh_ok_as(1000, 2000, "umask 027; cd open; echo >f; mkdir d; ln -s x l; mkfifo p; echo >gone2; chmod 666 gone2");
    bed.sh("cd open; (umask 0; echo >root0; mkdir rootd0); (umask 077; echo >root7)");
    // Over a whiteout too.
    bed.sh("rm open/gone");
    bed.sh_ok_as(1000, 2000, "umask 027; echo >open/gone");
    let check = |bed: &Bed| {
        for (name, ids, bits) in [
            ("f", (1000, 2000), 0o640),
            ("d", (1000, 2000), 0o750),
            ("l", (1000, 2000), 0o777),
            ("p", (1000, 2000), 0o640),
            ("gone", (1000, 2000), 0o640),
            ("gone2", (1000, 2000), 0o666),
            ("root0", (0, 0), 0o666),
            ("rootd0", (0, 0), 0o777),
            ("root7", (0, 0), 0o600),
        ] {
            let path = bed.p("open").join(name);
            assert_eq!((owner(&path), mode(&path)), (ids, bits), "{name}");
        }
    };
    check(&bed);
    bed.remount();
    check(&bed);
    assert_eq!(owner(&bed.u("open/f")), (1000, 2000));
}

#[test]
fn directories_with_setgid() {
    let bed = Bed::new(|l| {
        mkdir(l, "shared");
        chown(l.join("shared"), Some(0), Some(500)).unwrap();
        set_mode(&l.join("shared"), 0o2777);
    });
    bed.sh("cd shared; echo >rf; mkdir rd");
    bed.sh_ok_as(1000, 1000, "umask 022; cd shared; echo >f; mkdir d; mkdir d/dd; ln -s x l; echo >d/f");
    for (name, uid, bits) in [
        ("rf", 0, 0o644),
        ("rd", 0, 0o2755),
        ("f", 1000, 0o644),
        ("d", 1000, 0o2755),
        ("d/dd", 1000, 0o2755),
        ("d/f", 1000, 0o644),
        ("l", 1000, 0o777),
    ] {
        let path = bed.p("shared").join(name);
        assert_eq!((owner(&path), mode(&path)), ((uid, 500), bits), "{name}");
    }
}

#[test]
fn permissions_are_checked() {
    let bed = Bed::new(|l| {
        put(l, "secret", "s");
        set_mode(&l.join("secret"), 0o600);
        put(l, "public", "p");
        put(l, "closed/f", "x");
        set_mode(&l.join("closed"), 0o700);
        put(l, "sticky/f", "x");
        set_mode(&l.join("sticky"), 0o1777);
    });
    let denied = |script: &str| {
        let output = bed.sh_as(1000, 1000, script);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "allowed: {script}");
        assert!(said.contains("ermission denied") || said.contains("not permitted"), "{script}: {said}");
    };
    for script in [
        "cat secret",
        "echo x >public",
        "echo x >>public",
        "echo x >new",
        "mkdir new",
        "rm -f public",
        "mv public other",
        "ln public other",
        "cat closed/f",
        "ls closed",
        "rm -f sticky/f",
        "mv sticky/f sticky/g",
        "chmod 777 public",
        "chown 1000 public",
        "touch -d 2000-01-01 public",
        "truncate -s 0 public",
    ] {
        denied(script);
    }
    let refused = os::as_user(1000, 1000, || os::errno(os::set_xattr(&bed.p("public"), "user.a", b"b")));
    assert_eq!(refused, libc::EACCES);
    assert_eq!(bed.sh_ok_as(1000, 1000, "cat public; stat -c %n secret"), "psecret");
    bed.sh_ok_as(1000, 1000, "cd sticky; echo >mine; mv mine mine2; rm mine2");
    assert_eq!(super::harness::entries(&bed.upper), ["sticky"]);
}

/// inode(7), write(2), chown(2), truncate(2): what ordinary users change loses its set-id bits.
#[test]
fn set_id_bits_are_cleared() {
    let bed = Bed::new(|l| {
        for name in ["write", "append", "truncate", "open", "alloc", "chown", "chgrp", "root", "mmap", "rootchown"] {
            put(l, name, "content");
            // chmod after chown, which clears.
            chown(l.join(name), Some(1000), Some(1000)).unwrap();
            set_mode(&l.join(name), 0o6777);
        }
        put(l, "noexec", "x");
        chown(l.join("noexec"), Some(1000), Some(1000)).unwrap();
        set_mode(&l.join("noexec"), 0o6767);
    });
    let bits = |name: &str| mode(&bed.p(name));
    for name in ["write", "append", "root", "open"] {
        assert_eq!(bits(name), 0o6777, "{name}");
    }
    // By someone else who may write.
    bed.sh_ok_as(
        3000,
        3000,
        "echo x 1<>write; echo x >>append; truncate -s 3 truncate; echo x >open; echo x 1<>noexec",
    );
    bed.sh_ok_as(3000, 3000, "fallocate -l 10000 alloc");
    for name in ["write", "append", "truncate", "open", "alloc"] {
        assert_eq!(bits(name), 0o777, "{name}");
    }
    assert_eq!(bits("noexec") & 0o4000, 0, "noexec");
    bed.sh_ok_as(1000, 1000, "chgrp 1000 chgrp; chown 1000 chown");
    assert_eq!((bits("chown"), bits("chgrp")), (0o777, 0o777));
    // root keeps them when it writes (CAP_FSETID), not when it gives the file away.
    bed.sh("echo x 1<>root; chown 5:5 rootchown");
    assert_eq!((bits("root"), bits("rootchown")), (0o6777, 0o777));
    bed.sh("chmod 4711 write");
    assert_eq!(bits("write"), 0o4711);
    // On disk as well.
    assert_eq!((mode(&bed.u("append")), mode(&bed.u("truncate"))), (0o777, 0o777));
}

/// The same for files that are in upper already, and written through a page cache that knows nothing of it.
#[test]
fn set_id_bits_are_cleared_in_upper() {
    let bed = open_bed();
    bed.sh("cd open; for f in a b c; do echo content >$f; chown 1000:1000 $f; chmod 6777 $f; done");
    bed.sh_ok_as(3000, 3000, "cd open; echo x 1<>a; truncate -s 3 b; : >c");
    for name in ["open/a", "open/b", "open/c"] {
        assert_eq!((mode(&bed.p(name)), mode(&bed.u(name))), (0o777, 0o777), "{name}");
    }
}

#[test]
fn capabilities_are_lost_on_write() {
    let bed = Bed::new(|l| {
        for name in ["write", "truncate", "chown", "keep", "copy"] {
            put(l, name, "content");
            set_mode(&l.join(name), 0o777);
        }
        for name in ["write", "truncate", "chown", "keep"] {
            os::set_xattr(&l.join(name), os::CAPABILITY, &os::NET_RAW).unwrap();
        }
    });
    let has = |name: &str| match os::get_xattr(&bed.p(name), os::CAPABILITY) {
        Ok(value) => value == os::NET_RAW,
        Err(e) => e.raw_os_error() != Some(libc::ENODATA),
    };
    assert!(["write", "truncate", "chown", "keep"].iter().all(|n| has(n)));
    bed.sh("chmod 755 keep; touch keep; echo x 1<>write; truncate -s 2 truncate; chown 7 chown");
    assert!(has("keep"), "copy-up keeps capabilities");
    for name in ["write", "truncate", "chown"] {
        assert!(!has(name), "{name}");
    }
    os::set_xattr(&bed.p("copy"), os::CAPABILITY, &os::NET_RAW).unwrap();
    assert!(has("copy"));
    bed.sh_ok_as(3000, 3000, "! test -w copy || true");
    bed.sh("chmod 777 copy");
    os::set_xattr(&bed.p("copy"), os::CAPABILITY, &os::NET_RAW).unwrap();
    bed.sh_ok_as(3000, 3000, "echo x >>copy");
    assert!(!has("copy"));
}

#[test]
fn default_acls_are_inherited() {
    let mut bed = Bed::new(|l| {
        mkdir(l, "d");
        set_mode(&l.join("d"), 0o777);
        modify(&l.join("d"), DEFAULT, &[(NAMED_USER, 7, 1234), (GROUP_OBJ, 5, NOBODY), (OTHERS, 0, NOBODY)]);
        mkdir(l, "plain");
        set_mode(&l.join("plain"), 0o777);
    });
    // Without the capability the kernel takes the umask off before anybody knows of the list.
    let umask = if has(&["dont_mask"]) { "umask 077" } else { "umask 0" };
    bed.sh(&format!("{umask}; cd d; echo >root; mkdir rootdir; rm -f root2; echo >rootdir/inner"));
    bed.sh_ok_as(1000, 1000, &format!("{umask}; cd d; echo >user; mkdir userdir; mkfifo pipe; ln -s x link"));
    let file = "user::rw- user:1234:rwx group::r-x mask::rw- other::---";
    let check = |bed: &Bed| {
        for name in ["d/root", "d/user", "d/pipe", "d/rootdir/inner"] {
            assert_eq!(text(&bed.p(name), ACCESS), file, "{name}");
        }
        for name in ["d/rootdir", "d/userdir"] {
            for list in [ACCESS, DEFAULT] {
                let shown = text(&bed.p(name), list);
                assert!(shown.contains("user:1234:rwx"), "{name}, {list}: {shown}");
            }
            assert_eq!(mode(&bed.p(name)), 0o770, "{name}");
        }
        assert_eq!(mode(&bed.p("d/user")), 0o660);
    };
    check(&bed);
    bed.remount();
    check(&bed);
    // Set through the mount: counts at once, and is enforced.
    modify(&bed.p("plain"), DEFAULT, &[(NAMED_USER, 7, 1234), (OTHERS, 0, NOBODY)]);
    bed.sh(&format!("{umask}; echo secret >plain/f"));
    os::remove_xattr(&bed.p("d"), DEFAULT).unwrap();
    bed.sh("umask 077; echo >d/without");
    assert!(text(&bed.p("plain/f"), ACCESS).contains("user:1234:rwx"));
    assert_eq!(mode(&bed.p("d/without")), 0o600);
    if !has(&["posix_acl"]) {
        return;
    }
    assert_eq!(bed.sh_ok_as(1234, 1, "cat plain/f"), "secret");
    assert!(!bed.sh_as(1235, 1, "cat plain/f").status.success());
}

#[test]
fn acls_are_copied_up() {
    let mut bed = Bed::new(|l| {
        put(l, "f", "x");
        set_mode(&l.join("f"), 0o600);
        modify(&l.join("f"), ACCESS, &[(NAMED_USER, 6, 1234)]);
    });
    let checked = has(&["posix_acl"]);
    bed.sh_ok_as(if checked { 1234 } else { 0 }, 1, "echo y >>f");
    let shown = text(&bed.p("f"), ACCESS);
    assert!(shown.contains("user:1234:rw-") && shown.contains("mask::rw-"), "{shown}");
    bed.remount();
    assert_eq!(text(&bed.p("f"), ACCESS), shown);
    bed.sh("chmod 640 f");
    assert!(!bed.sh_as(1234, 1, "echo z >>f").status.success(), "the mask counts");
}

/// chown -R touches everything once and changes no other time than ctime.
#[test]
fn chown_of_a_tree() {
    let mut bed = Bed::new(|l| {
        for name in ["t/a/b/f", "t/a/g", "t/h"] {
            put(l, name, "x");
        }
        std::os::unix::fs::symlink("nowhere", l.join("t/link")).unwrap();
        for name in ["t/a/b/f", "t/a/b", "t/a/g", "t/a", "t/h", "t/link", "t"] {
            os::set_times(&l.join(name), (5000, 0), (5000, 7)).unwrap();
        }
    });
    bed.sh("chown -hR 42:43 t");
    let check = |bed: &Bed| {
        for name in ["t/a/b/f", "t/a/b", "t/a/g", "t/a", "t/h", "t/link", "t"] {
            let m = bed.p(name).symlink_metadata().unwrap();
            assert_eq!((m.uid(), m.gid(), m.mtime(), m.mtime_nsec()), (42, 43, 5000, 7), "{name}");
        }
    };
    check(&bed);
    bed.remount();
    check(&bed);
}

/// Modes of directories on the way are those of the lower layer, not wider (fuse-overlayfs issue 470).
#[test]
fn copied_up_directories_keep_their_modes() {
    let mut bed = Bed::new(|l| {
        put(l, "private/inner/f", "x");
        set_mode(&l.join("private/inner"), 0o1710);
        set_mode(&l.join("private"), 0o700);
        chown(l.join("private"), Some(77), Some(78)).unwrap();
    });
    fs::write(bed.p("private/inner/f"), "y").unwrap();
    for root in [&bed.m, &bed.upper] {
        assert_eq!((mode(&root.join("private")), mode(&root.join("private/inner"))), (0o700, 0o1710));
        assert_eq!(owner(&root.join("private")), (77, 78));
    }
    bed.remount();
    assert_eq!((mode(&bed.p("private")), owner(&bed.p("private"))), (0o700, (77, 78)));
    assert_eq!(read(&bed.p("private/inner/f")), "y");
}

/// A mount by an ordinary user's rules: without allow_other nobody else gets in, with nosuid bits have no effect.
#[test]
fn mounts_closed_to_others() {
    let setup = Setup { options: "no_allow_other".into(), ..Setup::default() };
    let bed = Bed::with(setup, |l| put(&l[0], "f", "x"));
    assert_eq!(read(&bed.p("f")), "x");
    let script = format!("cat {}", bed.p("f").display());
    let output = super::harness::run(
        std::process::Command::new("setpriv")
            .args(["--reuid=1000", "--regid=1000", "--clear-groups", "sh", "-c", &script])
            .env("LC_ALL", "C"),
    );
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("ermission denied"));
}

#[test]
fn set_id_programs() {
    for (options, want) in [("", "0"), ("nosuid", "1000")] {
        let setup = Setup { options: options.into(), ..Setup::default() };
        let bed = Bed::with(setup, |l| {
            fs::copy("/usr/bin/id", l[0].join("id")).unwrap();
            set_mode(&l[0].join("id"), 0o4755);
        });
        assert_eq!(bed.sh_ok_as(1000, 1000, "./id -u"), want, "{options}");
    }
}

/// What one user deletes in a sticky directory leaves a whiteout that belongs to nobody in particular.
#[test]
fn users_delete_what_they_own() {
    let mut bed = Bed::new(|l| {
        put(l, "t/mine", "x");
        chown(l.join("t/mine"), Some(1000), Some(1000)).unwrap();
        set_mode(&l.join("t"), 0o1777);
    });
    bed.sh_ok_as(1000, 1000, "rm t/mine; mkdir t/mine; rmdir t/mine; echo >t/mine; chmod 600 t/mine; rm t/mine");
    bed.remount();
    assert!(!exists(&bed.p("t/mine")) && is_whiteout(&bed.u("t/mine")));
}
