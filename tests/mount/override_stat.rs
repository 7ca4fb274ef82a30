//! Owners, modes and devices that an ordinary user's daemon keeps in `user.containers.override_stat`, seen and changed by
//! root and others through its mount.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use super::harness::{Bed, PROGRAM, Setup, mkdir, put, sh_in, text_of};
use super::traps::alone;

const OPTIONS: &str = "lowerdir=lower/1,upperdir=upper,workdir=work,xattr_permissions=2,allow_other";

/// Runs a script as root in the directory of the bed, in namespaces of its own, where `user COMMAND` runs it as user 1000,
/// who may mount for others too. Returns what it prints.
fn with_user(bed: &Bed, script: &str) -> String {
    fs::copy(PROGRAM, bed.dir.join("program")).unwrap();
    for path in [&bed.upper, &bed.work, &bed.m] {
        chown(path, Some(1000), Some(1000)).unwrap();
    }
    put(&bed.dir, "fuse.conf", "user_allow_other\n");
    let script = format!(
        "mount -t tmpfs none /dev; mknod -m 666 /dev/fuse c 10 229; mknod -m 666 /dev/null c 1 3
        cd {}; touch /etc/fuse.conf; mount --bind fuse.conf /etc/fuse.conf
        as() {{ id=$1; shift; setpriv --reuid=$id --regid=$id --clear-groups \"$@\"; }}
        user() {{ as 1000 \"$@\"; }}
        {script}",
        bed.dir.display()
    );
    let output = alone(&[], &script);
    let (out, err) = (text_of(output.stdout), text_of(output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    out
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
        sh_in(l, &format!("chmod 600 {path}; setfattr -n user.containers.override_stat -v {value} {path}"));
    }
    mkdir(l, "tmp");
    sh_in(l, "setfattr -n user.containers.override_stat -v 0:0:1777:dir tmp; ln -s public link; chmod 700 dev tmp");
    sh_in(
        l,
        "setfattr -n user.containers.override_stat -v 0:0:0755:dir .; setfattr -n user.containers.override_stat -v 0:0:0755:dir dev",
    );
    sh_in(l, "chown -Rh 1000:1000 .; chmod 700 .");
}

#[test]
fn an_ordinary_users_mount_shows_owners_and_devices() {
    let bed = Bed::unmounted(Setup::default(), |l| layer(&l[0]));
    let script = format!(
        r"user ./program mount -o {OPTIONS} m; cd m
        find . -type c -o -type b -o -type p | LC_ALL=C sort | tr '\n' ' '; echo
        stat -c '%n %A %u:%g %t,%T' . secret public su dev/null dev/sda dev/initctl dev/zero tmp link
        getfattr -d -m - su dev tmp .
        cat secret; echo; user cat public; echo; ! user cat secret 2>/dev/null; ! user touch new 2>/dev/null
        as 2000 sh -c 'echo mine >tmp/mine; stat -c %u:%g:%a tmp/mine'; ! user rm -f tmp/mine 2>/dev/null
        cd ..; user ./program umount m"
    );
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
    assert_eq!(with_user(&bed, &script), want);
    let mine = bed.u("tmp/mine").metadata().unwrap();
    assert_eq!((mine.uid(), mine.gid(), mine.mode() & 0o7777), (1000, 1000, 0o600));
}

/// What unpacking an archive, installing a package and starting a container do.
#[test]
fn changes_by_root_through_an_ordinary_users_mount_last() {
    let bed = Bed::unmounted(Setup::default(), |l| layer(&l[0]));
    let show = r"find . -printf '%p %M %U:%G %s\n' | LC_ALL=C sort; stat -c '%n %t,%T' d/tty dev/null
        getfattr -d -m - d/f | grep user; getcap d/f; getfacl -cpn d/f d/acl | tr '\n' ' '; cat d/f public";
    let script = format!(
        r"user ./program mount -o {OPTIONS} m; cd m
        mkdir -m 2750 d; chown 5:6 d; echo text >d/f; chown 7:8 d/f; chmod 4711 d/f; setfattr -n user.a -v b d/f
        setcap cap_net_raw+ep d/f; mknod -m 620 d/tty c 4 1; chown 9 d/tty; mkfifo d/p; mknod d/0 c 0 0; ln -s f d/l
        chown -h 3:4 d/l; echo more >>public; chown 1:1 su; chmod 600 dev/null; ln dev/null d/null; mv dev/sda d/
        setfacl -m u:77:r,g::-,m::rwx d/f; mkdir d/acl; setfacl -d -m u:77:rwx d/acl; (umask 077; echo x >d/acl/inherits)
        rm dev/zero; rm -r tmp; mkdir tmp; tar -cf - d | tar -C tmp --numeric-owner --same-owner --acls -xpf -
        ({show}) >../before
        for n in user.containers.override_stat user.containers.override_x; do ! setfattr -n $n -v x d/f 2>/dev/null; done
        cd ..; user ./program umount m; user ./program mount -o {OPTIONS} m; cd m
        ({show}) >../after; diff ../before ../after; cat ../before; echo x >>d/f; echo now: $(getcap d/f) $(stat -c %a d/f)
        as 2000 sh -c '! cat d/f' 2>/dev/null; chmod 755 d; as 77 cat d/f | tail -1
        cd ..; user ./program umount m"
    );
    let out = with_user(&bed, &script);
    for line in [
        "./d drwxr-s--- 5:6 ",
        "./d/f -rwsrwx--x 7:8 ",
        "./d/tty crw--w---- 9:6 ",
        "./d/p prw-r--r-- 0:6 ",
        "./d/0 crw-r--r-- 0:6 ",
        "./d/l lrwxrwxrwx 1000:1000 ",
        "./d/null crw------- 0:0 ",
        "./d/sda brw-rw---- 0:6 ",
        "./d/acl/inherits -rw-rw-r-- 0:6 ",
        "./su -rwxr-xr-x 1:1 ",
        "now: 4771",
        "./tmp/d/f -rwsrwx--x 7:8 ",
        "./tmp/d/tty crw--w---- 9:6 ",
        "d/tty 4,1",
        "user.a=\"b\"",
        "d/f cap_net_raw=ep",
        "user::rwx user:77:r-- group::--- mask::rwx other::--x ",
    ] {
        assert!(out.lines().any(|l| l.starts_with(line)), "no line {line:?} in\n{out}");
    }
    assert!(!out.contains("dev/zero"), "{out}");
    // On disk there is nothing of all that.
    let odd = "find . -mindepth 1 ! -type l ! -user 1000 -o -perm /7077 ! -type l ! -type c -o ! -type f ! -type d ! -type l ! -type c";
    assert_eq!(sh_in(&bed.upper, odd), "");
}
