//! Owners, modes and devices that an ordinary user's daemon keeps in `user.containers.override_stat`, seen and changed by
//! root and others through its mount.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use super::harness::{Bed, PROGRAM, Setup, has, mkdir, mount_line, put, sh_in};
use super::os::{self, errno, get_xattr, set_xattr};
use super::posix_acl::{ACCESS, DEFAULT, GROUP_OBJ, MASK, NAMED_USER, NOBODY, modify, text};

const OVERRIDE: &str = "user.containers.override_stat";

const OPTIONS: &str = "lowerdir=lower/1,upperdir=upper,workdir=work,xattr_permissions=2,allow_other";

/// Runs the test where user 1000 may mount for others too.
fn with_user(test: impl FnOnce(&mut Bed) + Send) {
    let mut bed = Bed::unmounted(Setup::default(), |l| layer(&l[0]));
    fs::copy(PROGRAM, bed.dir.join("program")).unwrap();
    for path in [&bed.upper, &bed.work, &bed.m] {
        chown(path, Some(1000), Some(1000)).unwrap();
    }
    put(&bed.dir, "fuse.conf", "user_allow_other\n");
    os::with_own_mounts(|| {
        let devices = "mount -t tmpfs none /dev; mknod -m 666 /dev/fuse c 10 229; mknod -m 666 /dev/null c 1 3";
        sh_in(&bed.dir, &format!("{devices}; touch /etc/fuse.conf; mount --bind fuse.conf /etc/fuse.conf"));
        test(&mut bed);
    });
}

/// Runs a shell script as root, in which `as ID COMMAND` runs it as that user.
fn sh(dir: &Path, script: &str) -> String {
    let functions = "as() { id=$1; shift; setpriv --reuid=$id --regid=$id --clear-groups \"$@\"; }";
    sh_in(dir, &format!("{functions}; {script}"))
}

/// The user mounts.
fn mount(bed: &mut Bed) {
    sh(&bed.dir, &format!("as 1000 ./program mount -o {OPTIONS} m"));
    bed.mounted();
}

/// The user unmounts.
fn unmount(bed: &mut Bed) {
    sh(&bed.dir, "as 1000 ./program umount m");
    bed.pid = None;
    assert_eq!(mount_line(&bed.m), None);
}

/// A layer as `laminafs load` unpacks it without privileges.
fn layer(l: &Path) {
    for (path, value) in [
        ("secret", "0:0:0600:file"),
        ("public", "0:42:0644:file"),
        ("su", "0:0:4755:file"),
        ("dev/null", "0:0:0666:char-1-3"),
        ("dev/sda", "0:6:0660:block-8-0"),
        ("dev/initctl", "0:0:0600:pipe"),
        ("dev/zero", "0:0:0644:char-0-0"),
    ] {
        put(l, path, if value.ends_with("file") { path } else { "" });
        sh_in(l, &format!("chmod 600 {path}"));
        set_xattr(&l.join(path), OVERRIDE, value.as_bytes()).unwrap();
    }
    mkdir(l, "tmp");
    for (path, value) in [("tmp", "0:0:1777:dir"), ("", "0:0:0755:dir"), ("dev", "0:0:0755:dir")] {
        set_xattr(&l.join(path), OVERRIDE, value.as_bytes()).unwrap();
    }
    sh_in(l, "ln -s public link; chmod 700 dev tmp");
    sh_in(l, "chown -Rh 1000:1000 .; chmod 700 .");
}

#[test]
fn an_ordinary_users_mount_shows_owners_and_devices() {
    let script = r"find . -type c -o -type b -o -type p | LC_ALL=C sort | tr '\n' ' '; echo
        stat -c '%n %A %u:%g %t,%T' . secret public su dev/null dev/sda dev/initctl dev/zero tmp link
        cat secret; echo; as 1000 cat public; echo; ! as 1000 cat secret 2>/dev/null; ! as 1000 touch new 2>/dev/null
        as 2000 sh -c 'echo mine >tmp/mine; stat -c %u:%g:%a tmp/mine'; ! as 1000 rm -f tmp/mine 2>/dev/null";
    let want = "\
./dev/initctl ./dev/null ./dev/sda ./dev/zero\u{20}
. drwxr-xr-x 0:0 0,0
secret -rw------- 0:0 0,0
public -rw-r--r-- 0:42 0,0
su -rwsr-xr-x 0:0 0,0
dev/null crw-rw-rw- 0:0 1,3
dev/sda brw-rw---- 0:6 8,0
dev/initctl prw------- 0:0 0,0
dev/zero crw-r--r-- 0:0 0,0
tmp drwxrwxrwt 0:0 0,0
link lrwxrwxrwx 1000:1000 0,0
secret
public
2000:2000:644";
    with_user(|bed| {
        mount(bed);
        assert_eq!(sh(&bed.m, script), want);
        for name in ["su", "dev", "tmp", ""] {
            assert_eq!(os::xattr_names(&bed.p(name)), [""; 0], "{name}");
        }
        unmount(bed);
        let mine = bed.u("tmp/mine").metadata().unwrap();
        assert_eq!((mine.uid(), mine.gid(), mine.mode() & 0o7777), (1000, 1000, 0o600));
    });
}

/// What unpacking an archive, installing a package and starting a container do.
fn change(bed: &Bed) {
    let f = bed.p("d/f");
    bed.sh("mkdir -m 2750 d; chown 5:6 d; echo text >d/f; chown 7:8 d/f; chmod 4711 d/f");
    set_xattr(&f, "user.a", b"b").unwrap();
    set_xattr(&f, os::CAPABILITY, &os::NET_RAW).unwrap();
    bed.sh(
        "mknod -m 620 d/tty c 4 1; chown 9 d/tty; mkfifo d/p; mknod d/0 c 0 0; ln -s f d/l; chown -h 3:4 d/l; echo more >>public
        chown 1:1 su; chmod 600 dev/null; ln dev/null d/null; mv dev/sda d/; mkdir d/acl",
    );
    modify(&f, ACCESS, &[(NAMED_USER, 4, 77), (GROUP_OBJ, 0, NOBODY), (MASK, 7, NOBODY)]);
    modify(&bed.p("d/acl"), DEFAULT, &[(NAMED_USER, 7, 77)]);
    bed.sh("(umask 077; echo x >d/acl/inherits); rm dev/zero; rm -r tmp; mkdir tmp
        tar -cf - d | tar -C tmp --numeric-owner --same-owner --acls -xpf -");
}

/// All that there is to see.
fn show(bed: &Bed) -> String {
    let files = r"find . -printf '%p %M %U:%G %s\n' | LC_ALL=C sort; stat -c '%n %t,%T' d/tty dev/null; cat d/f public";
    let mut shown = bed.sh(files);
    for path in ["d/f", "d/acl", "tmp/d/f"].map(|path| bed.p(path)) {
        shown += &format!("\n{}\n{}\n{:?}", text(&path, ACCESS), text(&path, DEFAULT), os::xattrs(&path));
    }
    shown
}

#[test]
fn changes_by_root_through_an_ordinary_users_mount_last() {
    with_user(|bed| {
        mount(bed);
        change(bed);
        let before = show(bed);
        let f = bed.p("d/f");
        for name in [OVERRIDE, "user.containers.override_x"] {
            assert_ne!(errno(set_xattr(&f, name, b"x")), 0, "{name}");
        }
        unmount(bed);
        mount(bed);
        assert_eq!(show(bed), before);
        assert_shown(&before);
        // Without the capability the kernel takes the umask off before anybody knows of the list.
        let inherits = if has(&["dont_mask"]) { "-rw-rw-r--" } else { "-rw-------" };
        assert!(before.contains(&format!("\n./d/acl/inherits {inherits} 0:6 ")), "{before}");
        assert_eq!(get_xattr(&f, "user.a").unwrap(), b"b");
        assert_eq!(get_xattr(&f, os::CAPABILITY).unwrap(), os::NET_RAW);
        assert_eq!(text(&f, ACCESS), "user::rwx user:77:r-- group::--- mask::rwx other::--x");
        let inherited = "user::rwx user:77:rwx group::r-x mask::rwx other::r-x";
        assert_eq!(text(&bed.p("d/acl"), DEFAULT), inherited);
        assert_eq!(bed.sh("echo x >>d/f; stat -c %a d/f"), "4771");
        assert_eq!(errno(get_xattr(&f, os::CAPABILITY)), libc::ENODATA);
        sh(&bed.m, "as 2000 sh -c '! cat d/f' 2>/dev/null; chmod 755 d");
        // Without the capability nobody checks lists.
        if has(&["posix_acl"]) {
            assert_eq!(sh(&bed.m, "as 77 cat d/f"), "text\nx");
        }
        unmount(bed);
        // On disk there is nothing of all that.
        let odd = "find . -mindepth 1 ! -type l ! -user 1000 -o -perm /7077 ! -type l ! -type c -o ! -type f ! -type d ! -type l ! -type c";
        assert_eq!(sh_in(&bed.upper, odd), "");
    });
}

fn assert_shown(out: &str) {
    for line in [
        "./d drwxr-s--- 5:6 ",
        "./d/f -rwsrwx--x 7:8 ",
        "./d/tty crw--w---- 9:6 ",
        "./d/p prw-r--r-- 0:6 ",
        "./d/0 crw-r--r-- 0:6 ",
        "./d/l lrwxrwxrwx 1000:1000 ",
        "./d/null crw------- 0:0 ",
        "./d/sda brw-rw---- 0:6 ",
        "./su -rwxr-xr-x 1:1 ",
        "./tmp/d/f -rwsrwx--x 7:8 ",
        "./tmp/d/tty crw--w---- 9:6 ",
        "d/tty 4,1",
    ] {
        assert!(out.lines().any(|l| l.starts_with(line)), "no line {line:?} in\n{out}");
    }
    assert!(!out.contains("dev/zero"), "{out}");
}
