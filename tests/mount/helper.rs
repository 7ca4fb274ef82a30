//! mount(8) and service managers as callers.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Output};

use super::cli::failure;
use super::harness::{
    Bed, PATIENCE, PROGRAM, Setup, alive, mount_line, put, read, run, sh_in, start, text_of, until, wait_within,
};

/// Directories without a mount.
fn bed() -> Bed {
    Bed::unmounted(Setup::default(), |l| put(&l[0], "f", "lower"))
}

/// Calls the helper as mount(8) does: source, mount point, flags, options, and the type.
pub fn helper(bed: &Bed, flags: &[&str], options: &str) -> Output {
    let program = bed.dir.join("mount.laminafs");
    if fs::symlink_metadata(&program).is_err() {
        symlink(PROGRAM, &program).unwrap();
    }
    let mut command = Command::new(program);
    command.arg("image").arg(&bed.m).args(flags);
    run(command.args(["-o", options, "-t", "laminafs"]))
}

#[test]
fn the_helper_of_mount() {
    let mut bed = bed();
    let output = helper(&bed, &["-s", "-n", "-v"], &format!("rw,noauto,nofail,{}", bed.option_string()));
    assert_eq!((output.status.code(), text_of(output.stderr).as_str()), (Some(0), ""));
    bed.mounted();
    let line = mount_line(&bed.m).unwrap();
    assert_eq!((line[0].as_str(), line[2].as_str()), ("image", "fuse.laminafs"));
    assert_eq!(read(&bed.p("f")), "lower");
}

#[test]
fn the_helper_only_looks_with_f() {
    let bed = bed();
    assert!(helper(&bed, &["-f"], &bed.option_string()).status.success());
    assert_eq!(mount_line(&bed.m), None);
    let output = helper(&bed, &["-f"], "lowerdir=/a,verity=require");
    assert_eq!(output.status.code(), Some(1));
    assert!(text_of(output.stderr).contains("verity=require"));
    let output = helper(&bed, &["-N", "/proc/1/ns/mnt"], &bed.option_string());
    assert_eq!(output.status.code(), Some(1));
    assert!(text_of(output.stderr).contains("nsenter"));
}

/// Engines open the mount point, and name the descriptor.
#[test]
fn a_descriptor_as_mount_point() {
    let mut bed = bed();
    let script = "exec 9<\"$3\"; exec \"$1\" -o \"$2\" /dev/fd/9";
    let mut command = Command::new("sh");
    let output = run(command.args(["-c", script, "sh", PROGRAM, &bed.option_string()]).arg(&bed.m));
    assert_eq!((output.status.code(), text_of(output.stderr).as_str()), (Some(0), ""));
    bed.mounted();
    assert_eq!(read(&bed.p("f")), "lower");
}

/// What mount.fuse3 does with `drop_privileges`: the program serves a mount that is there, and leaves it to who made it. The device
/// that it is handed is the only one that it has.
#[test]
fn an_open_device_that_is_mounted_already() {
    let mut bed = bed();
    let script = "exec 9<>/dev/fuse
        mount -i -t fuse.laminafs -o fd=9,rootmode=40000,user_id=0,group_id=0,allow_other image m
        unshare -m sh -euc 'mount --bind /dev/null /dev/fuse; exec \"$@\"' sh \"$1\" -o \"$2\" /dev/fd/9";
    let mut command = Command::new("sh");
    let output = run(command.args(["-euc", script, "sh", PROGRAM, &bed.option_string()]).current_dir(&bed.dir));
    assert_eq!((output.status.code(), text_of(output.stderr).as_str()), (Some(0), ""));
    bed.mounted();
    assert_eq!(mount_line(&bed.m).unwrap()[0], "image");
    fs::write(bed.p("new"), "new").unwrap();
    assert_eq!((read(&bed.p("f")), read(&bed.u("new"))), ("lower".to_owned(), "new".to_owned()));
    bed.sh("install -m 600 /dev/null secret");
    assert!(!bed.sh_as(1000, 1000, "cat secret").status.success(), "permissions are checked");
    // The mount is not the daemon's to take away.
    let pid = bed.pid.take().unwrap();
    assert_eq!(unsafe { libc::kill(pid as i32, libc::SIGTERM) }, 0);
    until("the daemon ends", PATIENCE, || !alive(pid));
    assert!(mount_line(&bed.m).is_some());
    sh_in(&bed.dir, "umount m");
}

#[test]
fn an_open_device_is_for_directories() {
    let bed = bed();
    // The last one would do, if it were mounted.
    for what in ["image:1", "--name=x", "--kernel --lower=/usr", "--lower=/usr"] {
        let script = format!("exec 9<>/dev/fuse; exec {PROGRAM} mount {what} /dev/fd/9");
        let why = failure(run(Command::new("sh").args(["-euc", &script]).current_dir(&bed.dir)), 1);
        assert!(why.contains("name a directory to mount on"), "{what}: {why}");
    }
}

/// systemd.service(5), Type=notify, and sd_notify(3).
#[test]
fn a_service_manager_is_told_when_the_mount_answers() {
    let mut bed = bed();
    let socket = UnixDatagram::bind(bed.dir.join("notify")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["mount", "-f", "-o", &bed.option_string()]).arg(&bed.m);
    let mut child = start(command.env("NOTIFY_SOCKET", bed.dir.join("notify")));
    let mut message = [0; 100];
    let length = socket.recv(&mut message).unwrap();
    assert_eq!(&message[..length], b"READY=1\n");
    assert_eq!(read(&bed.p("f")), "lower");
    bed.mounted();
    bed.unmount();
    assert!(wait_within(&mut child, PATIENCE).expect("ends").success());
}
