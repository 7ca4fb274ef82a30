//! What a caller hands down to the program without meaning to: signals that it ignores or sends twice, limits, descriptors,
//! a standard error that nobody reads.

use std::fs;
use std::process::Command;

use super::harness::{Bed, PROGRAM, Setup, entries, mount_line, put, run, sh_in, text_of};

/// A mount point and a lower layer, which an ordinary user may use with the program in the directory.
fn users_bed() -> Bed {
    let bed = Bed::unmounted(Setup::default(), |l| {
        put(&l[0], "f", "lower");
        sh_in(&l[0], "chown 1000:1000 . f");
    });
    fs::copy(PROGRAM, bed.dir.join("program")).unwrap();
    sh_in(&bed.dir, "chmod 777 .; chown 1000:1000 m upper work");
    bed
}

/// Runs a script as an ordinary user in a mount namespace of its own, with nothing on standard error; returns what it prints.
fn as_user(bed: &Bed, script: &str) -> String {
    let prepare = "mount -t tmpfs none /dev; mknod -m 666 /dev/fuse c 10 229; mknod -m 666 /dev/null c 1 3
        exec setpriv --reuid=1000 --regid=1000 --clear-groups bash -euc \"$1\"";
    let unshare = ["-m", "--propagation", "slave", "sh", "-euc", prepare, "sh", script];
    let output = run(Command::new("unshare").args(unshare).current_dir(&bed.dir).env("LC_ALL", "C"));
    let (out, err) = (text_of(output.stdout), text_of(output.stderr));
    assert!(output.status.success() && err.is_empty(), "{script}\n{out}\n{err}");
    out
}

/// Ignored signals are inherited, and with SIGCHLD ignored wait(2) knows no children.
#[test]
fn a_caller_that_ignores_its_children() {
    let bed = users_bed();
    let script = "trap '' CHLD; ./program mount -o lowerdir=lower/1 m; cat m/f; echo
        ./program umount m; ls m; grep -c \"$PWD/m \" /proc/self/mounts || true";
    assert_eq!(as_user(&bed, script), "lower\n0");
    let home = tempfile::Builder::new().prefix("laminafs-test-").tempdir().unwrap();
    let script = "trap '' CHLD; exec \"$0\" demo";
    let output = run(Command::new("bash").args(["-c", script, PROGRAM]).env("TMPDIR", home.path()));
    assert!(output.status.success(), "{}", text_of(output.stderr));
    assert_eq!(entries(home.path()), [""; 0]);
    assert_eq!(mount_line(&bed.m), None);
}
