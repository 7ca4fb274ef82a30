//! `mount --kernel` of images and writable layers.

use super::mounts::{Mounts, alive, sh, signal, until};
use super::sample::{APP, BASE, DATA, Sample};
use std::fs;

#[test]
fn kernel_overlayfs_mounts_the_same_layers() {
    let bed = Mounts::new();
    let data = Sample::new(1, &[BASE, DATA]);
    bed.load(&[(&data, &["data:1"])]);
    assert_eq!(bed.ok("mount --kernel --name web data:1 m"), "web\n");
    assert!(
        fs::read_to_string("/proc/thread-self/mounts")
            .unwrap()
            .contains(&format!("laminafs {} overlay rw,nodev", bed.p("m").display()))
    );
    assert!(!bed.p("m/etc/os").exists() && bed.read("m/data") == "0123456789");
    bed.write("m/etc/new", "by the kernel");
    fs::rename(bed.p("m/bin"), bed.p("m/sbin")).unwrap();
    let ps = bed.ok("ps");
    assert!(ps.contains("(kernel)") && ps.contains("web"), "{ps}");
    assert!(bed.fails("rm web").contains("laminafs umount"));
    assert!(bed.fails("mount --name web n").contains("mounted on"));
    assert!(bed.fails("rmi data:1").contains("in use by"));
    let pid = bed.daemon("web");
    bed.ok("umount m");
    assert!(!alive(pid) || !bed.mounted("m"));
    // The other one reads what it has written, and the other way round.
    bed.ok("mount --name web m");
    assert_eq!((bed.read("m/etc/new"), bed.read("m/sbin/sh")), ("by the kernel".into(), "#!".into()));
    fs::rename(bed.p("m/sbin"), bed.p("m/usr")).unwrap();
    bed.ok("umount web");
    bed.ok("mount --kernel --name web m");
    assert_eq!(bed.read("m/usr/sh"), "#!");
    bed.ok("umount web");
    assert_eq!(bed.ok("rm web"), "web\n");
}

#[test]
fn kernel_mounts_end_like_the_others() {
    let bed = Mounts::new();
    bed.ok("mount --kernel --rm --name gone app m");
    let pid = bed.daemon("gone");
    signal(pid, libc::SIGTERM);
    until("the mount ends", || !alive(pid));
    assert!(!bed.mounted("m") && bed.writable().is_empty());
    // By umount(8), which knows nothing of us.
    bed.ok("mount --kernel --rm --name gone app m");
    let pid = bed.daemon("gone");
    assert!(sh("umount m", bed.dir()).status.success());
    until("the keeper ends", || !alive(pid));
    assert!(bed.writable().is_empty());
    // The keeper is killed: the mount stays, is known, and is not taken from under anybody.
    bed.ok("mount --kernel --rm --name left app m");
    bed.kill("left");
    assert!(bed.mounted("m") && bed.fails("rm left").contains("mounted on"));
    bed.ok("umount left");
    assert_eq!(bed.ok("ps -aq"), "");
    assert!(bed.writable().is_empty());
    // Without a writable layer.
    bed.load(&[(&Sample::new(1, &[BASE, DATA]), &["data:1"])]);
    for image in ["data:1", "base:1"] {
        bed.ok(&format!("mount --kernel --read-only {image} m"));
        assert_eq!(bed.read("m/bin/sh"), "#!");
        assert!(fs::write(bed.p("m/f"), "").is_err());
        assert!(bed.fails("ls ./m").contains("is a mount of the kernel"));
        assert!(bed.fails(&format!("rmi {image}")).contains("in use by"));
        bed.ok("umount m");
        until("the keeper ends", || bed.run(&format!("rmi {image}")).status.success());
    }
}

#[test]
fn many_layers_and_long_paths_through_the_kernel() {
    let bed = Mounts::new();
    let names: Vec<String> = (0..120).map(|n| format!("f{n}")).collect();
    let layers: Vec<Vec<(&str, &str)>> = names.iter().map(|n| vec![("./", ""), (n.as_str(), "x")]).collect();
    let layers: Vec<&[(&str, &str)]> = layers.iter().map(Vec::as_slice).collect();
    bed.load(&[(&Sample::new(1, &layers), &["many:1"])]);
    for options in ["--kernel", ""] {
        bed.ok(&format!("mount {options} --name web{} many:1 m", options.len()));
        assert_eq!(fs::read_dir(bed.p("m")).unwrap().count(), 120);
        bed.write("m/f7", "y");
        bed.ok("umount m");
    }
    let deep = bed.p(&format!("{}/{}", "d".repeat(200), "e,:\\".repeat(40)));
    fs::create_dir_all(&deep).unwrap();
    bed.write("images.tar", "");
    let root = deep.join("root");
    let archive = super::sample::docker_archive(&[(&Sample::new(3, &[BASE, APP]), &["app:1"])]);
    fs::write(bed.p("images.tar"), archive).unwrap();
    let run = |args: &[&str]| {
        let output = bed.command(args).env("LAMINAFS_ROOT", &root).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
    };
    run(&["load", "-q", "-i", "images.tar"]);
    run(&["mount", "--kernel", "--name", "web", "app:1", "m"]);
    assert_eq!(bed.read("m/app/run"), "go go go");
    bed.write("m/f", "x");
    run(&["umount", "web"]);
    run(&["rm", "web"]);
}
