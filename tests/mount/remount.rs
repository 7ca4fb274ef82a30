//! `-o remount`: by mount(8), which hands over whole lists through the helper, and by users.

use std::fs;
use std::process::Output;

use super::harness::{Bed, Setup, laminafs, mount_line, put, read, text_of};
use super::helper::helper;
use super::os::open_rw;

/// What /proc/mounts has beside the switches.
const OF_THE_KERNEL: &str = "user_id=0,group_id=0,default_permissions,allow_other";

fn bed(options: &str) -> Bed {
    Bed::with(Setup { options: options.into(), ..Setup::default() }, |l| put(&l[0], "f", "lower"))
}

fn switches(bed: &Bed) -> Vec<String> {
    mount_line(&bed.m).unwrap()[3].split(',').map(str::to_owned).collect()
}

fn directly(bed: &Bed, options: &str) -> Output {
    laminafs(["mount", "-o", &format!("remount,{options}"), bed.m.to_str().unwrap()])
}

/// It succeeds without a word; what is mounted has all of `wanted` and none of `unwanted` then.
fn succeeds(bed: &Bed, output: Output, wanted: &[&str], unwanted: &[&str]) {
    assert_eq!((output.status.code(), text_of(output.stderr).as_str()), (Some(0), ""));
    let now = switches(bed);
    for switch in wanted {
        assert!(now.iter().any(|s| s == switch), "{switch}: {now:?}");
    }
    for switch in unwanted {
        assert!(!now.iter().any(|s| s == switch), "{switch}: {now:?}");
    }
}

/// It fails with one line that has all of `words`, and changes nothing.
fn fails(bed: &Bed, output: Output, words: &[&str]) {
    let before = switches(bed);
    let said = text_of(output.stderr);
    assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.starts_with(&format!("laminafs: cannot remount {}: ", bed.m.display())), "{said}");
    for word in words {
        assert!(said.contains(word), "\"{word}\" is not in: {said}");
    }
    assert_eq!(switches(bed), before);
}

#[test]
fn remounting_changes_the_switches() {
    let bed = bed("");
    succeeds(&bed, directly(&bed, "ro,nosuid,noexec"), &["ro", "nosuid", "noexec", "nodev", "allow_other"], &[]);
    assert_eq!(fs::write(bed.p("f"), "changed").unwrap_err().raw_os_error(), Some(libc::EROFS));
    succeeds(&bed, directly(&bed, "rw,suid,dev,exec"), &["rw"], &["ro", "nosuid", "noexec", "nodev"]);
    fs::write(bed.p("f"), "changed").unwrap();
    assert_eq!(read(&bed.u("f")), "changed");
}

#[test]
fn remounting_leaves_switches_that_are_not_named() {
    let bed = bed("nosuid,noexec,noatime");
    succeeds(&bed, directly(&bed, "ro"), &["ro", "nosuid", "noexec", "nodev", "noatime"], &[]);
    succeeds(&bed, directly(&bed, "rw,atime"), &["nosuid", "noexec", "nodev", "relatime"], &[]);
}

#[test]
fn remounting_leaves_what_is_seldom_named() {
    let bed = bed("nosymfollow,nodiratime,strictatime");
    let kept = &["nosymfollow", "nodiratime"];
    assert!(kept.iter().all(|switch| switches(&bed).iter().any(|s| s == switch)), "{:?}", switches(&bed));
    succeeds(&bed, directly(&bed, "ro"), &["ro", "nosymfollow", "nodiratime"], &["relatime", "noatime"]);
    let list = format!("rw,nosymfollow,nodiratime,remount,{OF_THE_KERNEL}");
    succeeds(&bed, helper(&bed, &[], &list), &["rw", "nosymfollow", "nodiratime", "relatime"], &[]);
    succeeds(&bed, directly(&bed, "symfollow,diratime"), &["relatime"], kept);
}

/// mount(8) leaves `exec`, `suid`, `async` and `atime` out of its list when they are asked for.
#[test]
fn what_a_list_of_mount_leaves_out_has_its_default() {
    let bed = bed("nosuid,noexec,noatime,sync,dev");
    let listed = |switches: &str| helper(&bed, &[], &format!("{switches},remount,{OF_THE_KERNEL}"));
    succeeds(&bed, listed("rw,nosuid,noatime,sync"), &["nosuid", "noatime", "sync", "nodev"], &["noexec"]);
    succeeds(&bed, listed("rw,noatime,sync,noexec"), &["noexec", "noatime", "sync"], &["nosuid"]);
    succeeds(&bed, listed("rw,sync,dev"), &["relatime", "sync"], &["nosuid", "noexec", "nodev"]);
    succeeds(&bed, listed("ro"), &["ro"], &["nosuid", "noexec", "sync"]);
    // What is asked for comes after what there was.
    succeeds(&bed, listed("rw,relatime,noatime"), &["noatime"], &["relatime"]);
    succeeds(&bed, listed("rw,noatime,relatime"), &["relatime"], &["noatime"]);
    succeeds(&bed, listed("rw,noatime,strictatime"), &[], &["noatime"]);
    // The line of fstab by which it was mounted.
    let all = format!("rw,noexec,remount,{}", bed.option_string());
    succeeds(&bed, helper(&bed, &[], &all), &["noexec", "nosuid", "sync"], &["nodev"]);
}

/// Everybody can make files of the one owner.
#[test]
fn squashed_mounts_stay_nosuid() {
    for squash in ["squash_to_root", "squash_to_uid=1000", "squash_to_gid=1000"] {
        let bed = bed(squash);
        succeeds(&bed, directly(&bed, "suid"), &["nosuid"], &[]);
        succeeds(&bed, helper(&bed, &[], &format!("rw,remount,{OF_THE_KERNEL}")), &["nosuid"], &[]);
        succeeds(&bed, directly(&bed, &format!("ro,{squash}")), &["ro", "nosuid"], &[]);
    }
}

#[test]
fn what_remounting_cannot_change_is_named() {
    let bed = bed("fsname=image");
    let lower = bed.dir.join("lower").display().to_string();
    for (option, name) in [
        (format!("lowerdir={lower}"), "lowerdir="),
        (format!("upperdir={lower}"), "upperdir="),
        ("volatile".into(), "volatile"),
        ("writeback=1".into(), "writeback="),
        ("squash_to_root".into(), "squash_to_*="),
        ("uidmapping=0:1000:1".into(), "uidmapping="),
        ("no_allow_other".into(), "allow_other"),
        ("dirsync".into(), "dirsync"),
        ("fsname=other".into(), "fsname="),
        ("index=off,redirect_dir=off".into(), "redirect_dir=, index="),
    ] {
        fails(&bed, directly(&bed, &format!("ro,{option}")), &[name, "unmount"]);
        fails(&bed, helper(&bed, &[], &format!("ro,remount,{option}")), &[name]);
        // Only looking finds it too.
        assert_eq!(helper(&bed, &["-f"], &format!("ro,remount,{option}")).status.code(), Some(1));
    }
    assert_eq!(helper(&bed, &["-f"], "ro,remount").status.code(), Some(0));
    assert!(switches(&bed).contains(&"rw".to_owned()));
    succeeds(&bed, directly(&bed, &format!("ro,{}", bed.option_string())), &["ro"], &[]);
    let one_by_one = bed.option_string().replace("lowerdir=", "lowerdir+=");
    succeeds(&bed, helper(&bed, &[], &format!("ro,fsname=image,remount,{one_by_one}")), &["ro"], &[]);
    fails(&bed, directly(&bed, &format!("rw,{one_by_one},lowerdir+={lower}")), &["lowerdir="]);
    let output = directly(&bed, "rw,nonsense,metacopy=on");
    let said = text_of(output.stderr);
    assert_eq!(
        (output.status.code(), said.as_str()),
        (Some(0), "laminafs: note: options without effect: nonsense, metacopy=on")
    );
    assert!(switches(&bed).contains(&"rw".to_owned()));
    fails(&bed, laminafs(["mount", "--rm", "-o", "remount,ro", "image", bed.m.to_str().unwrap()]), &["nothing else"]);
}

#[test]
fn a_file_open_for_writing_keeps_a_mount_writable() {
    let bed = bed("");
    let file = open_rw(&bed.p("f"));
    fails(&bed, directly(&bed, "ro"), &["open for writing", &format!("fuser -vm {}", bed.m.display())]);
    drop(file);
    succeeds(&bed, directly(&bed, "ro"), &["ro"], &[]);
}

/// Nothing can be written there whatever the list says.
#[test]
fn a_mount_without_an_upper_directory_stays_read_only() {
    let bed = Bed::with(Setup { no_upper: true, ..Setup::default() }, |l| put(&l[0], "f", "lower"));
    fails(&bed, directly(&bed, "rw,noexec"), &["no upper directory", "mount with upperdir="]);
    let mut output = helper(&bed, &[], &format!("rw,noexec,remount,{OF_THE_KERNEL}"));
    let said = text_of(std::mem::take(&mut output.stderr));
    assert_eq!(said, format!("laminafs: note: {} stays read-only: it has no upper directory", bed.m.display()));
    succeeds(&bed, output, &["ro", "noexec"], &["rw"]);
    succeeds(&bed, directly(&bed, "exec"), &["ro"], &["noexec"]);
}

/// They are more than an extended attribute can hold, so that nobody tells them.
#[test]
fn a_list_with_all_of_very_many_layers_remounts_them() {
    let mut bed = Bed::unmounted(Setup::default(), |_| ());
    let name = "n".repeat(250);
    let deep = (0..14).fold(bed.dir.clone(), |dir, _| dir.join(&name));
    fs::create_dir_all(&deep).unwrap();
    put(&deep, "f", "deep");
    bed.with_options(&format!("lowerdir={}", vec![deep.to_str().unwrap(); 20].join(":")));
    bed.mount();
    assert_eq!(read(&bed.p("f")), "deep");
    let told = text_of(super::os::get_xattr(&bed.m, "user.laminafs.options").unwrap());
    assert!(told.starts_with("upperdir="), "{told}");
    let list = format!("ro,noexec,remount,{}", bed.option_string());
    let mut output = helper(&bed, &[], &list);
    let said = text_of(std::mem::take(&mut output.stderr));
    assert!(said.starts_with("laminafs: note: the lower layers were not compared") && !said.contains('\n'), "{said}");
    succeeds(&bed, output, &["ro", "noexec"], &[]);
    succeeds(&bed, helper(&bed, &[], "ro,noexec,remount"), &["ro", "noexec"], &[]);
    let said = text_of(helper(&bed, &[], &format!("{list},volatile")).stderr);
    assert!(said.contains("not compared") && said.contains("can change volatile: "), "{said}");
}

/// A daemon of an older version, or another program with our library.
#[test]
fn a_mount_that_does_not_tell_its_options_is_told_from_none() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = laminafs::mounted::Mounted::directories([dir.path()]).unwrap();
    let output = laminafs(["mount", "-o", "remount,ro", mounted.path().to_str().unwrap()]);
    let said = text_of(output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("does not tell its options") && said.contains("unmount, and mount"), "{said}");
    mounted.unmount().unwrap();
}

/// Not even root may look at it.
#[test]
fn why_root_may_not_remount_the_mount_of_a_user_is_said() {
    let bed = Bed::unmounted(Setup::default(), |l| put(&l[0], "f", "lower"));
    let program = bed.dir.join("program");
    fs::copy(super::harness::PROGRAM, &program).unwrap();
    let script = "mount -t tmpfs none /dev; mknod -m 666 /dev/fuse c 10 229; mknod -m 666 /dev/null c 1 3
        as_user() { setpriv --reuid=1000 --regid=1000 --clear-groups \"$@\"; }
        chown 1000:1000 m
        as_user ./program mount -o nosymfollow,strictatime,nodiratime --lower lower/1 m
        ./program mount -o remount,noexec m || echo code $?
        mkdir -m 700 -p closed/m
        as_user ./program mount -o remount,noexec closed/m || echo code $?
        as_user ./program umount m";
    let unshare = ["-m", "--propagation", "slave", "sh", "-euc", script];
    let output = super::harness::run(std::process::Command::new("unshare").args(unshare).current_dir(&bed.dir));
    let (out, said) = (text_of(output.stdout), text_of(output.stderr));
    let lines: Vec<&str> = said.lines().collect();
    let [ignored, of_user, closed] = lines[..] else { panic!("{said}") };
    assert_eq!(out, "code 1\ncode 1", "{said}");
    assert_eq!(
        ignored, "laminafs: note: options without effect: strictatime, nodiratime, nosymfollow",
        "fusermount3 does not know them"
    );
    for word in ["Permission denied", "allow_other", "user namespace"] {
        assert!(of_user.contains(word), "{said}");
    }
    assert!(closed.contains("Permission denied") && !closed.contains("allow_other"), "no mount is there: {said}");
}

/// Who may mount gets what was asked for, whatever the user id.
#[test]
fn what_fusermount_does_not_know_is_had_by_who_may_mount() {
    let bed = Bed::unmounted(Setup::default(), |l| put(&l[0], "f", "lower"));
    fs::copy(super::harness::PROGRAM, bed.dir.join("program")).unwrap();
    let script = "mount -t tmpfs none /dev; mknod -m 666 /dev/fuse c 10 229; mknod -m 666 /dev/null c 1 3
        chown 1000:1000 m
        setpriv --reuid=1000 --regid=1000 --clear-groups --inh-caps=+sys_admin --ambient-caps=+sys_admin sh -euc '
            ./program mount -o nosymfollow,nodiratime --lower lower/1 m
            grep \" $PWD/m \" /proc/self/mounts
            ./program umount m'";
    let unshare = ["-m", "--propagation", "slave", "sh", "-euc", script];
    let output = super::harness::run(std::process::Command::new("unshare").args(unshare).current_dir(&bed.dir));
    let (out, said) = (text_of(output.stdout), text_of(output.stderr));
    assert!(output.status.success() && said.is_empty(), "{out}{said}");
    assert!(out.contains("nosymfollow") && out.contains("nodiratime"), "{out}");
}

#[test]
fn remounting_what_is_not_mounted_fails() {
    let bed = Bed::unmounted(Setup::default(), |l| put(&l[0], "f", "lower"));
    let output = laminafs(["-o", "remount,ro", bed.m.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text_of(output.stderr).contains("no laminafs mount"));
}

/// As it was mounted, the layers named as the daemon found them.
#[test]
fn the_root_tells_the_options() {
    let setup = Setup { lowers: 2, options: "volatile,squash_to_gid=5".into(), ..Setup::default() };
    let bed = Bed::with(setup, |l| put(&l[0], "f", "lower"));
    let told = text_of(super::os::get_xattr(&bed.m, "user.laminafs.options").unwrap());
    let layers = bed.lowers.iter().map(|l| l.display().to_string()).collect::<Vec<_>>().join(":");
    let (upper, work) = (bed.upper.display(), bed.work.display());
    assert!(
        told.starts_with(&format!("lowerdir={layers},upperdir={upper},workdir={work},index=on,volatile,")),
        "{told}"
    );
    assert!(told.contains(",squash_to_gid=5,") && told.ends_with(",fsname=laminafs,subtype=laminafs"), "{told}");
}
