//! Mounting in odd places and on odd layers, what a crash left, and what an ordinary user's daemon can and cannot do.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::Command;

use super::super::harness::{Bed, PROGRAM, Setup, entries, exists, is_whiteout, mkdir, put, read, run, sh_in, text_of};
use super::super::os::{self, errno, set_xattr};
use super::super::posix_acl::{ACCESS, NAMED_USER, modify, text};
use super::{alone, everywhere};

/// fuse-overlayfs issues 277, 318, 344, 364, 382, 393, mergerfs issue 1319: mounted over a part of a layer, or over all
/// of them and the work directory, it hangs or finds itself.
#[test]
fn mount_points_inside_and_above_the_layers() {
    for at in ["lower/1/sub", "lower/1/sub/inner", "lower", "upper/sub", "work", "."] {
        let mut bed = Bed::unmounted(Setup { lowers: 2, ..Setup::default() }, |l| {
            put(&l[0], "sub/inner/f", "lower");
            put(&l[1], "sub/g", "lower");
        });
        mkdir(&bed.upper, "sub");
        bed.m = bed.dir.join(at).canonicalize().unwrap();
        bed.mount();
        assert_eq!(entries(&bed.m), ["sub"], "{at}");
        assert_eq!(
            bed.sh("find . | LC_ALL=C sort | tr '\\n' ' '"),
            ". ./sub ./sub/g ./sub/inner ./sub/inner/f",
            "{at}"
        );
        bed.sh("echo more >>sub/inner/f; mv sub/inner moved; rm sub/g; mkdir sub/inner; echo new >sub/inner/new");
        bed.remount();
        assert_eq!(read(&bed.p("moved/f")), "lowermore\n", "{at}");
        assert_eq!(entries(&bed.p("sub/inner")), ["new"], "{at}");
        bed.unmount();
        assert_eq!(read(&bed.u("moved/f")), "lowermore\n", "{at}");
    }
}

/// Defects A7, A8: the work directory is not emptied; temporary names collide with what is left in it, and a longer left-over
/// gives a copied-up file stale bytes at its end.
#[test]
fn what_a_crash_left_in_the_work_directory_is_in_nobodys_way() {
    let mut bed = Bed::unmounted(Setup::default(), |l| {
        for dir in ["", "below/it/"] {
            (0..20).for_each(|n| put(&l[0], &format!("{dir}f{n}"), "short"));
            put(&l[0], &format!("{dir}d/x"), "x");
        }
    });
    for name in (0..200).flat_map(|n| [format!("#{n:x}"), format!("{n}")]) {
        if name.ends_with(['3', '7', 'b']) {
            put(&bed.work, &format!("work/{name}/deep/er"), "left");
            os::mknod(&bed.work.join(format!("work/{name}/gone")), rustix::fs::FileType::CharacterDevice, 0, 0, 0)
                .unwrap();
        } else {
            put(&bed.work, &format!("work/{name}"), vec![b'S'; 100_000]);
        }
    }
    put(&bed.work, "work/#whiteout", "no whiteout");
    bed.mount();
    for dir in ["", "below/it"] {
        sh_in(
            &bed.p(dir),
            "for n in 0 1 2 3 4; do chmod 600 f$n; echo x >>f1$n; mkdir new$n; rm f$((n+5)); done; rm -r d; mkdir d",
        );
        assert_eq!(read(&bed.p(dir).join("f0")), "short");
        assert_eq!(read(&bed.p(dir).join("f12")), "shortx\n");
        assert!(is_whiteout(&bed.u(dir).join("f5")));
        assert_eq!(entries(&bed.p(dir).join("new3")), [""; 0]);
    }
    bed.remount();
    assert_eq!((entries(&bed.p("d")), exists(&bed.p("f6"))), (vec![], false));
    // That the work directory is empty afterwards is looked at by the bed.
}

/// Defect A8: removed directories that held whiteouts stay in the work directory.
#[test]
fn removed_directories_leave_nothing() {
    let fill = |l: &[std::path::PathBuf]| {
        put(&l[1], "d/a", "x");
        put(&l[1], "d/s/b", "x");
        put(&l[0], "aufs/.wh..wh..opq", "");
        put(&l[0], "aufs/.wh.x", "");
        put(&l[1], "aufs/x", "x");
    };
    everywhere(2, fill, |site| {
        site.sh("rm -r d aufs; mkdir d aufs; touch d/a aufs/x; rm -r d aufs; mkdir n; touch n/f; rm -r n");
        site.bed.unmount();
        let left = sh_in(&site.u(""), "find . -mindepth 1 -printf '%P %y\\n' | LC_ALL=C sort");
        assert_eq!(left, "aufs c\nd c");
        assert!(entries(&site.bed.work.join("work")).into_iter().all(|n| n == "#whiteout"));
    });
}

/// fuse-overlayfs issue 324 again, with the daemon killed in between: upper holds all that matters.
#[test]
fn a_killed_daemon_brings_nothing_back() {
    let fill = |l: &[std::path::PathBuf]| {
        put(&l[0], "d/a", "x");
        put(&l[0], "f", "x");
        put(&l[0], "e/s/x", "x");
    };
    everywhere(1, fill, |site| {
        site.sh("rm -r d f; mkdir d; mv e g; touch g/s/new; mkdir e; sync -f .");
        site.bed.kill_daemon();
        site.bed.mount();
        assert_eq!(site.sh("find . -mindepth 1 | LC_ALL=C sort | tr '\\n' ' '"), "./d ./e ./g ./g/s ./g/s/new ./g/s/x");
    });
}

/// Runs a script as user 1000, who may use /dev/fuse, in the directory of the bed, in a mount namespace of its own.
fn as_user(bed: &Bed, script: &str) -> String {
    fs::copy(PROGRAM, bed.dir.join("program")).unwrap();
    for path in [&bed.upper, &bed.work, &bed.m] {
        chown(path, Some(1000), Some(1000)).unwrap();
    }
    let around = format!(
        "mount -t tmpfs none /dev; mknod -m 666 /dev/fuse c 10 229; mknod -m 666 /dev/null c 1 3
        cd {}; exec setpriv --reuid=1000 --regid=1000 --clear-groups sh -euc '{script}'",
        bed.dir.display()
    );
    finished(alone(&[], &around))
}

fn finished(output: std::process::Output) -> String {
    let (out, err) = (text_of(output.stdout), text_of(output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    out
}

/// fuse-overlayfs issues 135, 307, 349: chmod and rm fail on what its owner may not open.
#[test]
fn an_ordinary_users_mount_with_files_he_may_not_open() {
    let bed = Bed::unmounted(Setup::default(), |l| {
        put(&l[0], "readable", "x");
        put(&l[0], "closed", "x");
        put(&l[0], "d/f", "x");
        put(&l[0], "closed-dir/f", "x");
        sh_in(&l[0], "chmod 444 readable; chmod 0 closed; chmod 555 d; chmod 0 closed-dir; chown -R 1000:1000 .");
    });
    let script = "
        ./program mount -o lowerdir=lower/1,upperdir=upper,workdir=work m; cd m
        chmod 0 readable; chmod 600 readable; echo y >>readable; cat readable; chmod 0 readable; mv readable r; rm -f r
        rm -f closed; test ! -e closed
        chmod 755 d; touch d/g; rm -f d/f; chmod 0 d; chmod 700 d; ls d; rm -r d
        echo n >n; chmod 0 n; mv n o; ln o p; chmod 600 p; cat o; rm o p
        mkdir q; touch q/f; chmod 0 q; chmod 700 q; rm -r q
        mkdir s; mkdir s/t; chmod 500 s; ! touch s/x 2>/dev/null; chmod 0 s; chmod 700 s; rmdir s/t s
        ls; cd ..; ./program umount m; ./program mount -o lowerdir=lower/1,upperdir=upper,workdir=work m; ls m; ./program umount m";
    assert_eq!(as_user(&bed, script), "xy\ng\nn\nclosed-dir\nclosed-dir");
    assert_eq!(entries(&bed.work.join("work")), [""; 0]);
}

/// fuse-overlayfs pull requests 47, 66, 352, and defect A17: what a daemon without privileges cannot set (capabilities,
/// trusted and security attributes) must not stop a copy-up; what the caller asks for and it cannot do must fail.
#[test]
fn an_ordinary_users_mount_of_files_with_attributes_of_root() {
    let bed = Bed::unmounted(Setup::default(), |l| {
        for name in ["capable", "trusted", "plain"] {
            put(&l[0], name, "x");
        }
        sh_in(&l[0], "chown -R 1000:1000 .");
        set_xattr(&l[0].join("capable"), os::CAPABILITY, &os::NET_RAW).unwrap();
        for name in ["trusted.a", "user.a"] {
            set_xattr(&l[0].join("trusted"), name, b"b").unwrap();
        }
    });
    let script = "
        ./program mount -o lowerdir=lower/1,upperdir=upper,workdir=work m; cd m
        chmod 755 capable; echo y >>capable; cat capable; echo y >>trusted; cat trusted; cp --preserve=xattr trusted copy
        ! chown 1001 plain 2>/dev/null; ! chgrp 1001 plain 2>/dev/null; stat -c %u:%g plain; chown 1000:1000 plain
        ! mknod dev c 1 3 2>/dev/null; cd ..; ./program umount m";
    assert_eq!(as_user(&bed, script), "xy\nxy\n1000:1000");
    // What was copied up, and what the copy took of it through the mount.
    for name in ["trusted", "copy"] {
        let mut names = os::xattr_names(&bed.u(name));
        names.retain(|name| !name.starts_with("user.overlay."));
        assert_eq!(names, ["user.a"], "{name}");
        assert_eq!(os::get_xattr(&bed.u(name), "user.a").unwrap(), b"b");
    }
    assert_eq!(bed.u("plain").metadata().unwrap().uid(), 1000);
}

/// The same in a user namespace, whose root has capabilities that reach no further (the kernel says EPERM or EOVERFLOW).
/// Files of owners that the namespace lacks can be read only: the kernel refuses the rest with EOVERFLOW by itself.
#[test]
fn a_mount_in_a_user_namespace() {
    let bed = Bed::unmounted(Setup::default(), |l| {
        put(&l[0], "capable", "x");
        put(&l[0], "foreign", "x");
        put(&l[0], "d/f", "x");
        sh_in(&l[0], "chown 1234:1234 foreign");
        set_xattr(&l[0].join("capable"), os::CAPABILITY, &os::NET_RAW).unwrap();
        set_xattr(&l[0].join("d/f"), "trusted.a", b"b").unwrap();
    });
    let script = format!(
        "cd {}; {PROGRAM} mount -o {} m; cd m
        chmod 700 capable; echo y >>capable; cat capable; echo y >>d/f; cat d/f; stat -c %u:%g d/f
        rm -r d; mkdir d; mv capable d/c; mv d e; touch e/n; stat -c %u:%g foreign; cat foreign; ls . e; cd ..; {PROGRAM} umount m",
        bed.dir.display(),
        bed.option_string()
    );
    let out = finished(alone(&["--user", "--map-root-user"], &script));
    assert_eq!(out, "xy\nxy\n0:0\n65534:65534\nx.:\ne\nforeign\n\ne:\nc\nn");
}

/// fuse-overlayfs issues 304, 336, 367, 479: layers on a file system without access control lists and attributes at all.
#[test]
fn layers_without_attributes() {
    let mut bed = Bed::unmounted(Setup::default(), |l| put(&l[0], "top", "x"));
    mkdir(&bed.dir, "ram");
    let below = bed.dir.join("ram/d/f");
    os::with_own_mounts(|| {
        sh_in(
            &bed.dir,
            "mount -t ramfs none ram; mkdir -p ram/d/s; echo x >ram/d/f; ln -s f ram/d/l; chown 1000 ram/d/f; ln ram/d/f ram/d/h",
        );
        assert_eq!(errno(set_xattr(&below, "user.a", b"b")), libc::EOPNOTSUPP, "the test itself");
        bed.with_options(&format!("lowerdir={}:{}", bed.lowers[0].display(), bed.dir.join("ram").display()));
        bed.mount();
        assert_eq!(bed.sh("find . | LC_ALL=C sort | tr '\\n' ' '"), ". ./d ./d/f ./d/h ./d/l ./d/s ./top");
        assert_eq!(os::xattrs(&bed.p("d/f")), []);
        assert_eq!(text(&bed.p("d/f"), ACCESS), "user::rw- group::r-- other::r--");
        assert_ne!(errno(os::get_xattr(&bed.p("d/f"), "user.a")), 0);
        bed.sh("cp -a d e; setpriv --reuid=1000 --clear-groups sh -c 'echo y >>d/f'");
        assert_eq!(bed.sh("cat d/h"), "x\ny");
        modify(&bed.p("d/f"), ACCESS, &[(NAMED_USER, 6, 5)]);
        set_xattr(&bed.p("d/s"), "user.a", b"b").unwrap();
        bed.sh("rm d/l; mv d g");
        bed.remount();
        assert_eq!(bed.sh("find g | LC_ALL=C sort | tr '\\n' ' '"), "g g/f g/h g/s");
        assert_eq!(text(&bed.p("g/f"), ACCESS), "user::rw- user:5:rw- group::r-- mask::rw- other::r--");
        assert_eq!(os::get_xattr(&bed.p("g/s"), "user.a").unwrap(), b"b");
        bed.unmount();
        assert_eq!(read(&below), "x\n");
    });
}

/// Defect C9: removing, moving away or cutting a lower file copies all its data first. Here upper has no room for that.
#[test]
fn removing_and_cutting_needs_no_room() {
    let bed = Bed::unmounted(Setup::default(), |l| {
        for name in ["remove", "cut", "open", "over", "d/s/big"] {
            put(&l[0], name, vec![7; 3_000_000]);
        }
    });
    mkdir(&bed.dir, "small");
    let script = format!(
        "cd {dir}; mount -t tmpfs -o size=1m none small; mkdir small/upper small/work
        {PROGRAM} mount -o lowerdir=lower/1,upperdir=small/upper,workdir=small/work m; cd m
        rm remove; truncate -s 10 cut; : >open; echo new >n; mv n over; rm -r d; mkdir d
        ls; ls -A d; stat -c %s cut open over; cat over; ls -A ../small/work/work; cd ..; {PROGRAM} umount m",
        dir = bed.dir.display(),
    );
    let out = finished(alone(&[], &script));
    assert_eq!(out, "cut\nd\nopen\nover\n10\n0\n4\nnew\n#whiteout");
}

/// Options that callers of other programs pass (section 1 of their source), some of which made those end.
#[test]
fn options_of_other_programs_are_taken() {
    for options in
        ["timeout=-1", "timeout=nan,threaded=1,fsync=1", "noacl,lazytime,xino=off,ino32_t", ",,private,,volatile,"]
    {
        let mut bed = Bed::unmounted(Setup { options: options.into(), ..Setup::default() }, |l| put(&l[0], "f", "x"));
        let output = run(Command::new(PROGRAM).arg("-o").arg(bed.option_string()).arg(&bed.m));
        assert!(output.status.success(), "{options}: {}", text_of(output.stderr));
        bed.mounted();
        assert_eq!(read(&bed.p("f")), "x");
        fs::write(bed.p("g"), "y").unwrap();
        bed.unmount();
        assert_eq!(read(&bed.u("g")), "y");
    }
}

/// fuse-overlayfs issues 190, 298 and 320: changed layers are not seen while they are mounted, but they are with the next mount.
#[test]
fn layers_that_changed_are_seen_by_the_next_mount() {
    // The bed minds changes of its layers, so this layer is another one.
    let mut bed = Bed::unmounted(Setup::default(), |_| {});
    put(&bed.dir, "image/d/f", "one");
    put(&bed.dir, "image/d/gone", "x");
    bed.with_options(&format!("lowerdir={}", bed.dir.join("image").display()));
    bed.mount();
    assert_eq!(entries(&bed.p("d")), ["f", "gone"]);
    fs::write(bed.p("d/new"), "new").unwrap();
    bed.unmount();
    fs::remove_file(bed.dir.join("image/d/gone")).unwrap();
    put(&bed.dir, "image/d/f", "another");
    put(&bed.dir, "image/d/more", "more");
    bed.mount();
    assert_eq!(entries(&bed.p("d")), ["f", "more", "new"]);
    assert_eq!(read(&bed.p("d/f")), "another");
    assert!(!exists(Path::new(&bed.u("d/f"))));
}
