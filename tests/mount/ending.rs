//! How mounts end: umount, signals, daemons that die, and what else is mounted at the place.

use std::fs::{self};
use std::path::Path;
use std::process::Command;

use super::cli::{bed, failure, mount};
use super::harness::{
    Bed, PATIENCE, PROGRAM, Setup, alive, entries, laminafs, mount_line, put, read, run, text_of, until,
};
use super::in_use::Copies;
use super::kernel::said;
use super::os;

#[test]
fn umount_says_why_it_cannot() {
    let bed = Bed::new(|l| put(l, "f", "x"));
    let umount = |path: &Path| laminafs([Path::new("umount"), path]);
    let held = fs::File::open(bed.p("f")).unwrap();
    let said = failure(umount(&bed.m), 1);
    assert!(said.contains("in use") && said.contains("--lazy") && said.lines().count() == 1, "{said}");
    assert_eq!(read(&bed.p("f")), "x");
    drop(held);
    let said = failure(umount(&bed.dir), 1);
    assert!(said.contains("not the mount point"), "{said}");
    let said = failure(umount(&bed.dir.join("none")), 1);
    assert!(said.contains("No such file"), "{said}");
    let said = failure(umount(&bed.p("f")), 1);
    assert!(said.lines().count() == 1, "{said}");
}

/// Everything written is on disk when umount returns.
#[test]
fn umount_waits_for_the_data() {
    let mut bed = Bed::new(|_| {});
    for n in 0..20 {
        fs::write(bed.p(&format!("f{n}")), vec![n; 2 << 20]).unwrap();
    }
    bed.unmount();
    for n in 0..20 {
        assert!(fs::read(bed.u(&format!("f{n}"))).unwrap() == vec![n; 2 << 20]);
    }
}

#[test]
fn lazy_umount() {
    let mut bed = Bed::new(|l| put(l, "f", "x"));
    let held = os::open_rw(&bed.p("f"));
    let output = laminafs([Path::new("umount"), Path::new("--lazy"), &bed.m]);
    assert!(output.status.success(), "{}", text_of(output.stderr));
    let pid = bed.pid.take().unwrap();
    assert_eq!(mount_line(&bed.m), None);
    assert!(alive(pid));
    std::os::unix::fs::FileExt::write_all_at(&held, b"y", 0).unwrap();
    drop(held);
    until("the daemon ends with its last user", PATIENCE, || !alive(pid));
    assert_eq!(read(&bed.u("f")), "y");
}

/// fuse-overlayfs issue 341: SIGTERM unmounts.
#[test]
fn signals_unmount() {
    // What a script starts in the background ignores it from the start, and so would the daemon.
    unsafe { libc::signal(libc::SIGQUIT, libc::SIG_DFL) };
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT] {
        let mut bed = Bed::new(|l| put(l, "f", "x"));
        fs::write(bed.p("f"), "written").unwrap();
        let pid = bed.pid.take().unwrap();
        unsafe { libc::kill(pid as i32, signal) };
        until("the daemon ends", PATIENCE, || !alive(pid));
        assert_eq!(mount_line(&bed.m), None);
        assert_eq!(read(&bed.u("f")), "written");
    }
}

/// fuse-overlayfs prints figures upon SIGUSR1.
#[test]
fn signals_for_figures_do_not_end_a_mount() {
    let bed = Bed::new(|l| put(l, "f", "x"));
    for signal in [libc::SIGUSR1, libc::SIGUSR2] {
        assert_eq!(unsafe { libc::kill(bed.pid.unwrap() as i32, signal) }, 0);
    }
    fs::write(bed.p("f"), "written").unwrap();
    assert_eq!(read(&bed.u("f")), "written");
}

#[test]
fn a_signal_lets_users_finish() {
    let mut bed = Bed::new(|l| put(l, "f", "x"));
    let held = os::open_rw(&bed.p("f"));
    let pid = bed.pid.take().unwrap();
    unsafe { libc::kill(pid as i32, libc::SIGTERM) };
    until("the mount is taken away", PATIENCE, || mount_line(&bed.m).is_none());
    std::os::unix::fs::FileExt::write_all_at(&held, b"late", 0).unwrap();
    assert!(alive(pid));
    drop(held);
    until("the daemon ends with its last user", PATIENCE, || !alive(pid));
    assert_eq!(read(&bed.u("f")), "late");
}

#[test]
fn other_ways_to_unmount() {
    for program in [vec!["fusermount3", "-u"], vec!["umount"], vec!["umount", "-l"]] {
        let mut bed = Bed::new(|l| put(l, "f", "x"));
        fs::write(bed.p("f"), "written").unwrap();
        let pid = bed.pid.take().unwrap();
        let mut args = program.clone();
        args.push(bed.m.to_str().unwrap());
        until("unmounted", PATIENCE, || run(Command::new(args[0]).args(&args[1..])).status.success());
        until("the daemon ends by itself", PATIENCE, || !alive(pid));
        assert_eq!(read(&bed.u("f")), "written", "{program:?}");
    }
}

/// fuse-overlayfs issue 169 and others: what stays when the daemon was killed, and how it goes.
#[test]
fn a_dead_mount_is_removed() {
    let mut bed = Bed::new(|l| put(l, "f", "x"));
    let pid = bed.pid.take().unwrap();
    unsafe { libc::kill(pid as i32, libc::SIGKILL) };
    until("the daemon is gone", PATIENCE, || !alive(pid));
    let output = mount(&bed, &bed.option_string());
    let said = failure(output, 1);
    assert!(said.contains("laminafs umount"), "{said}");
    let output = laminafs([Path::new("umount"), &bed.m]);
    assert!(output.status.success(), "{}", text_of(output.stderr));
    assert_eq!(mount_line(&bed.m), None);
    bed.mount();
    assert_eq!(read(&bed.p("f")), "x");
}

/// What is mounted at the same place, before and since, is nobody's business: the end of a mount is the end of that one.
#[test]
fn other_mounts_at_the_same_place_stay() {
    for program in [vec![PROGRAM, "umount"], vec!["umount"]] {
        let mut bed = Bed::unmounted(Setup::default(), |l| put(&l[0], "f", "x"));
        let tmpfs = |name: &str| {
            assert!(run(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&bed.m)).status.success());
            fs::write(bed.m.join(name), name).unwrap();
        };
        tmpfs("before");
        let output = run(Command::new(PROGRAM).args(["mount", "-o", &bed.option_string()]).arg(&bed.m));
        assert!(output.status.success(), "{}", text_of(output.stderr));
        let pid = text_of(os::get_xattr(&bed.m, "user.laminafs.pid").unwrap()).parse().unwrap();
        assert_eq!(entries(&bed.m), ["f"]);
        let ended = run(Command::new(program[0]).args(&program[1..]).arg(&bed.m));
        assert!(ended.status.success(), "{}", text_of(ended.stderr));
        tmpfs("since");
        until("the daemon ends", PATIENCE, || !alive(pid));
        assert_eq!(entries(&bed.m), ["since"]);
        for name in ["before", ""] {
            assert!(run(Command::new("umount").arg(&bed.m)).status.success());
            assert_eq!(entries(&bed.m).join(""), name);
        }
        bed.pid = None;
    }
}

/// A signal that cannot unmount, because something else is mounted over it, takes nothing else away.
#[test]
fn a_signal_does_not_unmount_others() {
    let mut bed = Bed::new(|l| put(l, "f", "x"));
    let pid = bed.pid.take().unwrap();
    assert!(run(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&bed.m)).status.success());
    fs::write(bed.m.join("over"), "").unwrap();
    unsafe { libc::kill(pid as i32, libc::SIGTERM) };
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(alive(pid));
    assert_eq!(entries(&bed.m), ["over"]);
    assert!(run(Command::new("umount").arg(&bed.m)).status.success());
    bed.pid = Some(pid);
    bed.unmount();
}

#[test]
fn a_mount_that_lives_on_in_another_namespace_is_told_of() {
    let bed = bed();
    let mount = || laminafs(["mount", "-o", &bed.option_string(), bed.m.to_str().unwrap()]);
    assert_eq!(said(mount(), 0), "");
    let copies = Copies::new();
    let note = said(laminafs(["umount", bed.m.to_str().unwrap()]), 0);
    let why = said(mount(), 1);
    assert!(note.contains(&format!("its daemon goes on: {}", copies.user())), "{note}");
    assert!(why.contains("is in use by another mount, maybe in another mount namespace; unmount that first"), "{why}");
    drop(copies);
    assert_eq!(said(mount(), 0), "");
    assert_eq!(said(laminafs(["umount", bed.m.to_str().unwrap()]), 0), "");
}

/// Without inotify (there are 128 instances a user by default) nobody tells whether the file system has ended, so `umount` looks who
/// uses it. It would wait ten minutes otherwise.
#[test]
fn umount_that_cannot_watch_the_end_looks_who_uses_the_mount() {
    let bed = bed();
    let script = "
        echo 0 >/proc/sys/user/max_inotify_instances
        mkfifo up
        $1 mount -f -o $2 $PWD/m & daemon=$!
        until mountpoint -q m; do sleep 0.01; done
        unshare -m --propagation private sh -c 'echo >up; exec sleep 600' & user=$!
        read -r _ <up
        $1 umount $PWD/m
        kill $user
        wait $daemon
        echo $user";
    let mut unshare = Command::new("unshare");
    unshare.args(["-Urm", "sh", "-euc", script, "-", PROGRAM, &bed.option_string()]).current_dir(&bed.dir);
    let output = run(&mut unshare);
    let user = text_of(output.stdout.clone());
    let goes_on = format!("is unmounted; its daemon goes on: as far as can be told, process {user} (");
    let note = said(output, 0);
    assert!(note.contains(&goes_on) && note.lines().count() == 1, "{note}");
}
