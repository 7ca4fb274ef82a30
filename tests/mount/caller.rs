//! What a caller hands down to the program without meaning to: signals that it ignores or sends twice, limits, descriptors,
//! a standard error that nobody reads.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::thread::{CapabilitySet, capabilities};

use super::harness::{
    Bed, PATIENCE, PROGRAM, Setup, alive, entries, laminafs, mkdir, mount_line, put, read, run, sh_in, start, text_of,
    until, wait_within,
};
use super::os;

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

fn signal(pid: u32, signal: i32) {
    assert_eq!(unsafe { libc::kill(pid as i32, signal) }, 0);
}

/// timeout(1) signals its child, and then the group that it is in.
#[test]
fn two_signals_at_once_are_one() {
    let bed = Bed::unmounted(Setup::default(), |l| put(&l[0], "f", "lower"));
    for _ in 0..10 {
        let arguments = ["mount", "-f", "-o", &bed.option_string()];
        let mut child = start(Command::new(PROGRAM).args(arguments).arg(&bed.m));
        until("mounted", PATIENCE, || os::get_xattr(&bed.m, "user.laminafs.pid").is_ok());
        signal(child.id(), libc::SIGTERM);
        signal(child.id(), libc::SIGHUP);
        assert!(wait_within(&mut child, PATIENCE).expect("ends").success());
        assert_eq!(mount_line(&bed.m), None);
    }
}

#[test]
fn a_later_signal_ends_the_daemon_and_leaves_no_dead_mount() {
    let mut bed = Bed::new(|l| put(l, "f", "x"));
    let pid = bed.pid.take().unwrap();
    let later = std::time::Duration::from_millis(1100);
    let held = fs::File::open(bed.p("f")).unwrap();
    // Neither unmounts what is below.
    sh_in(&bed.dir, "mount -t tmpfs none m");
    for _ in 0..2 {
        signal(pid, libc::SIGTERM);
        std::thread::sleep(later);
        assert!(alive(pid), "it would leave a dead mount");
    }
    sh_in(&bed.dir, "umount m");
    assert_eq!(read(&bed.p("f")), "x");
    signal(pid, libc::SIGTERM);
    until("the daemon ends although its mount is in use", PATIENCE, || !alive(pid));
    assert_eq!(mount_line(&bed.m), None);
    drop(held);
}

/// The daemon works for others too, whose files are no concern of the limit that its caller has set for itself.
#[test]
fn a_limit_of_the_size_of_files_is_not_the_daemons() {
    let mut bed = Bed::unmounted(Setup::default(), |_| {});
    let mount = format!("\"{PROGRAM}\" mount -o {} m", bed.option_string());
    sh_in(&bed.dir, &format!("ulimit -S -f 1; {mount}"));
    bed.mounted();
    fs::write(bed.p("x"), vec![1; 3 << 20]).unwrap();
    bed.unmount();
    // What it is not allowed to do at all is an error like any other.
    sh_in(&bed.dir, &format!("ulimit -f 1; {mount}"));
    bed.mounted();
    assert_eq!(fs::write(bed.p("y"), vec![1; 3 << 20]).unwrap_err().raw_os_error(), Some(libc::EFBIG));
    fs::write(bed.p("z"), "small").unwrap();
    assert_eq!((read(&bed.p("z")), fs::metadata(bed.p("x")).unwrap().len()), ("small".to_owned(), 3 << 20));
}

/// A dead mount would be all that is left. Only the hard limit of an ordinary user's caller cannot be lifted.
#[test]
fn a_limit_of_processor_time_is_not_the_daemons() {
    let mut bed = Bed::unmounted(Setup::default(), |_| {});
    let mount = format!("\"{PROGRAM}\" mount -o {} m", bed.option_string());
    let limit = |pid: u32| {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max cpu time")).unwrap();
        line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    };
    // Root of a container often may not.
    let may_lift = capabilities(None).unwrap().effective.contains(CapabilitySet::SYS_RESOURCE);
    sh_in(&bed.dir, &format!("ulimit -S -t 7; ulimit -H -t 999; {mount}"));
    bed.mounted();
    let pid = bed.pid.unwrap();
    assert_eq!(limit(pid), if may_lift { "unlimited unlimited" } else { "999 999" });
    signal(pid, libc::SIGXCPU);
    fs::write(bed.p("x"), "still there").unwrap();
    bed.unmount();
    sh_in(&bed.dir, &format!("ulimit -S -t 7; ulimit -H -t 999; setpriv --bounding-set=-sys_resource {mount}"));
    bed.mounted();
    assert_eq!(limit(bed.pid.unwrap()), "999 999");
}

/// What cannot be said is left out; what was asked for is done, and the exit code is that of every other time.
#[test]
fn a_standard_error_that_cannot_be_written() {
    let bed = Bed::unmounted(Setup::default(), |l| put(&l[0], "f", "lower"));
    let script = format!(
        "l=\"{PROGRAM} --root $PWD/store\"; code() {{ c=0; \"$@\" || c=$?; echo $c; }}
        for to in /dev/full reader; do
            case $to in reader) exec 4> >(:); sleep .1;; *) exec 4>$to;; esac
            exec 2>&4
            code $l mount -o {},frobnicate=7 m; ls m
            code $l umount m
            code $l umount none
            code $l frobnicate
            code $l rmi none; code $l stats none
        done",
        bed.option_string()
    );
    let output = run(Command::new("bash").args(["-uc", &script]).current_dir(&bed.dir));
    let codes = "0\nf\n0\n1\n2\n1\n1\n";
    assert_eq!(text_of(output.stdout), codes.repeat(2).trim_end());
}

/// A reader that goes away is no failure, a full disk is one.
#[test]
fn a_standard_output_that_cannot_be_written() {
    let bed = Bed::unmounted(Setup::default(), |_| {});
    let script = format!(
        "export TMPDIR=$PWD/temporary; mkdir temporary; l=\"{PROGRAM} --root $PWD/store\"
        $l demo 2>&1 | sed 1q >/dev/null; echo ${{PIPESTATUS[0]}}
        for what in demo images --help --version 'umount --help'; do $l $what >/dev/full 2>&1; echo $?; done
        ls temporary"
    );
    let output = run(Command::new("bash").args(["-uc", &script]).current_dir(&bed.dir));
    assert_eq!(text_of(output.stdout), "0\n1\n1\n1\n1\n1");
}

/// Descriptors that layers and mount point are named by are needed no more when the mount answers.
#[test]
fn descriptors_of_the_caller_are_closed() {
    let mut bed = Bed::unmounted(Setup::default(), |l| put(&l[0], "f", "lower"));
    let options = format!("lowerdir=/proc/self/fd/7,upperdir={},workdir=/dev/fd/8", bed.upper.display());
    let script = format!("exec 7<lower/1 8<work 9<m 300>lock; flock 300; \"{PROGRAM}\" mount -o {options} /dev/fd/9");
    sh_in(&bed.dir, &format!("bash -euc '{script}'"));
    bed.mounted();
    sh_in(&bed.dir, "flock -n lock true");
    bed.sh("cat f; echo more >>f; echo new >g");
    assert_eq!((read(&bed.u("f")), read(&bed.u("g"))), ("lowermore\n".to_owned(), "new\n".to_owned()));
    bed.unmount();
}

/// Nothing is asked of the daemon, which need not answer.
#[test]
fn a_lazy_umount_of_a_suspended_daemon() {
    let mut bed = Bed::new(|l| put(l, "f", "x"));
    let pid = bed.pid.take().unwrap();
    signal(pid, libc::SIGSTOP);
    let output = laminafs([Path::new("umount"), Path::new("--lazy"), &bed.m]);
    signal(pid, libc::SIGCONT);
    assert!(output.status.success(), "{}", text_of(output.stderr));
    assert_eq!(mount_line(&bed.m), None);
    until("the daemon ends", PATIENCE, || !alive(pid));
    let user = users_bed();
    let script = "./program mount -f -o lowerdir=lower/1 m & pid=$!; until test -e m/f; do sleep .02; done
        kill -STOP $pid; timeout 10 ./program umount --lazy m; kill -CONT $pid; wait $pid; ls m";
    assert_eq!(as_user(&user, script), "");
}

/// As with kernel overlayfs the unmount is done; the daemon goes on for the mount above.
#[test]
fn umount_of_a_layer_of_another_mount() {
    let mut below = Bed::new(|l| put(l, "f", "x"));
    let mut above = Bed::unmounted(Setup::default(), |_| {});
    above.with_options(&format!("lowerdir={}", below.m.display()));
    above.mount();
    let output = laminafs([Path::new("umount"), &below.m]);
    let said = text_of(output.stderr);
    assert!(output.status.success() && said.contains("layer") && said.lines().count() == 1, "{said}");
    let pid = below.pid.take().unwrap();
    assert_eq!((mount_line(&below.m), alive(pid), read(&above.p("f"))), (None, true, "x".to_owned()));
    above.unmount();
    until("the daemon ends with its last user", PATIENCE, || !alive(pid));
}

#[test]
fn errors_say_what_to_do() {
    let mut bed = Bed::new(|l| mkdir(l, "below"));
    fs::copy(PROGRAM, bed.dir.join("program")).unwrap();
    let says = |script: &str, words: &[&str]| {
        let user = "as_user() { setpriv --reuid=1000 --regid=1000 --clear-groups \"$@\"; }";
        let script = format!("{user}; {script}");
        let output = run(Command::new("bash").args(["-uc", &script]).current_dir(&bed.dir));
        let said = text_of(output.stderr);
        assert!(output.status.code() == Some(1) && said.lines().count() == 1, "{script}: {said}");
        words.iter().for_each(|word| assert!(said.contains(word), "{script}: {said}"));
    };
    says("as_user ./program umount m", &["root has mounted it"]);
    says("as_user ./program umount --lazy m", &["root has mounted it"]);
    sh_in(&bed.dir, "mkdir -m 700 private; mkdir -m 555 fixed; mkdir -m 777 on gone; mount -t tmpfs none m/below");
    says("./program umount m", &["m/below is mounted below it"]);
    sh_in(&bed.dir, "umount m/below");
    says(
        "as_user ./program mount --lower private on",
        &["private: Permission denied", "mount as a user who may read it"],
    );
    says("TMPDIR=fixed as_user ./program demo", &["in fixed", "TMPDIR"]);
    says("cd gone; rmdir ../gone; ../program mount -o lowerdir=l m", &["the working directory has been removed"]);
    bed.unmount();
}
