//! Ordinary users whose file system does not let them make whiteouts as the kernel does: through fusermount3, and as root of a
//! user namespace of their own. The upper directory is on kernel overlayfs, which makes no device 0:0, and which has no
//! attributes either where its own upper directory is on a ramfs.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use super::harness::{Bed, PROGRAM, Setup, put, run, text_of};
use super::os;

/// `under`: what the user's upper directory is on; `$1`: further options of that.
const PREPARE: &str = "prepare() {
    test $form = attribute || mount -t ramfs none on
    mkdir on/u on/w under
    mount -t overlay none -o lowerdir=empty,upperdir=on/u,workdir=on/w$1 under
    mkdir under/upper under/work
}";

/// What the user does, and a line for each thing that is seen of it.
const STEPS: &str = r#"
    names() { (cd $1; echo $2 $(find . -mindepth 1 | LC_ALL=C sort)); }
    options=lowerdir=lower/1,upperdir=under/upper,workdir=under/work
    ./program mount -o $options m
    ./program stats --json m | sed -n 's/.*"whiteouts": *"\([a-z]*\)".*/form \1/p'
    rm m/f; mv m/g m/d/sub/y; mv m/low m/moved; rm -r m/d; mkdir m/d; echo n >m/d/n; echo again >m/f; rm m/f
    names m now
    ./program umount m
    names under/upper upper
    ./program mount -o $options m
    names m later
    rm -r m/moved; echo f >m/f; mkdir m/low
    names m last
    ./program umount m"#;

/// Runs the steps, and tells what was seen.
fn seen(form: &str, in_namespace: bool) -> BTreeMap<String, String> {
    let bed = Bed::unmounted(Setup::default(), |l| {
        for name in ["f", "g", "d/x", "d/sub/y", "low/z"] {
            put(&l[0], name, name);
        }
        super::harness::sh_in(&l[0], "chown -R 1000:1000 .");
    });
    fs::copy(PROGRAM, bed.dir.join("program")).unwrap();
    // The user may mount what it owns.
    let script = format!(
        "mount -t tmpfs none /dev; mknod -m 666 /dev/fuse c 10 229; mknod -m 666 /dev/null c 1 3
        form={form}; mkdir on empty; chmod 777 .; chown 1000:1000 m on empty
        as_user() {{ setpriv --reuid=1000 --regid=1000 --clear-groups \"$@\"; }}
        {}",
        match in_namespace {
            true => format!(
                "as_user unshare -Urm sh -euc 'form={form}; {PREPARE}\nprepare ,userxattr\n{}'",
                STEPS.replace('\'', "'\\''")
            ),
            false => format!(
                "{PREPARE}\nprepare ''; chown 1000:1000 under/upper under/work; as_user sh -euc '{}'",
                STEPS.replace('\'', "'\\''")
            ),
        }
    );
    let unshare = ["-m", "--propagation", "slave", "sh", "-euc", &script];
    let output = run(Command::new("unshare").args(unshare).current_dir(&bed.dir).env("LC_ALL", "C"));
    let (out, err) = (text_of(output.stdout), text_of(output.stderr));
    assert!(output.status.success() && err.is_empty(), "{form}, namespace: {in_namespace}\n{out}\n{err}");
    let pair = |line: &str| line.split_once(' ').map(|(what, names)| (what.to_owned(), names.to_owned()));
    out.lines().map(|line| pair(line).unwrap()).collect()
}

#[test]
fn what_users_delete_stays_deleted_where_the_kernels_whiteouts_cannot_be_made() {
    for form in ["attribute", "beside"] {
        for in_namespace in [false, true] {
            let seen = seen(form, in_namespace);
            // Before 6.7 an overlay with userxattr keeps attributes of this name to itself.
            let refused = in_namespace && os::kernel() < (6, 7);
            let (form, upper) = match form {
                "attribute" if !refused => (form, "./d ./d/n ./f ./g ./low ./moved"),
                _ => ("beside", "./.wh.d ./.wh.f ./.wh.g ./.wh.low ./d ./d/n"),
            };
            let which = format!("{form}, namespace: {in_namespace}: {seen:?}");
            assert_eq!(seen["form"], form, "{which}");
            assert_eq!(seen["now"], "./d ./d/n ./moved ./moved/z", "{which}");
            assert_eq!(seen["later"], seen["now"], "{which}");
            assert_eq!(seen["last"], "./d ./d/n ./f ./low", "{which}");
            assert!(seen["upper"].starts_with(upper), "{which}");
        }
    }
}

/// The root below belongs to somebody whom the namespace does not have.
#[test]
fn changes_in_memory_over_a_layer_of_somebody_else() {
    let bed = Bed::unmounted(Setup::default(), |l| {
        put(&l[0], "f", "lower");
        super::harness::sh_in(&l[0], "chown 1234:1234 .; chmod 755 .");
    });
    fs::copy(PROGRAM, bed.dir.join("program")).unwrap();
    let script =
        "mount -t tmpfs none /dev; mknod -m 666 /dev/fuse c 10 229; mknod -m 666 /dev/null c 1 3; chown 1000:1000 m
        exec setpriv --reuid=1000 --regid=1000 --clear-groups unshare -Urm sh -euc '
            ./program mount --tmpfs-upper --lower lower/1 m
            cat m/f; echo; echo new >m/new; stat -c %u:%a m; ls m
            ./program umount m'";
    let unshare = ["-m", "--propagation", "slave", "sh", "-euc", script];
    let output = run(Command::new("unshare").args(unshare).current_dir(&bed.dir).env("LC_ALL", "C"));
    let (out, err) = (text_of(output.stdout), text_of(output.stderr));
    assert!(output.status.success() && err.is_empty(), "{out}\n{err}");
    assert_eq!(out, "lower\n0:755\nf\nnew");
}
