//! `mount` of images, `ps`, `umount`, `rm`: through real mounts. Needs root and `/dev/fuse`, as the mount tests do.

use super::harness::PROGRAM;
use super::mounts::{Mounts, alive, mounts_below, sh, signal, until};
use super::sample::{APP, BASE, Sample, short};
use serde_json::json;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

impl Drop for Mounts {
    fn drop(&mut self) {
        let mut left = mounts_below(self.dir());
        for place in left.iter().rev() {
            Command::new("umount").arg("-l").arg(place).status().unwrap();
        }
        left.retain(|place| !place.ends_with("expected"));
        assert!(left.is_empty() || std::thread::panicking(), "mounts were left: {left:?}");
    }
}

#[test]
fn changes_stay_with_the_name() {
    let bed = Mounts::new();
    let name = bed.ok("mount app m");
    let name = name.trim_end();
    assert!(name.contains('_') && bed.writable() == [name], "{name}");
    assert_eq!((bed.read("m/app/run"), bed.read("m/etc/os")), ("go go go".into(), "one".into()));
    bed.write("m/etc/os", "two");
    fs::remove_file(bed.p("m/bin/sh")).unwrap();
    assert_eq!(bed.ok("umount m"), "");
    assert_eq!(bed.ok(&format!("mount --name {name} n")), format!("{name}\n"));
    assert_eq!(bed.read("n/etc/os"), "two");
    assert!(!bed.p("n/bin/sh").exists());
    assert_eq!(bed.ok(&format!("umount {name}")), "");
    assert_eq!(bed.ok("mount --name own base:1 m"), "own\n");
    assert_eq!(bed.read("m/etc/os"), "one");
    bed.ok("umount own");
    assert_eq!(bed.ok(&format!("rm own {name}")), format!("own\n{name}\n"));
    assert!(bed.writable().is_empty());
}

#[test]
fn images_by_id_digest_and_number_of_layers() {
    let bed = Mounts::new();
    let app = Sample::new(3, &[BASE, APP]);
    let id = bed.json("images --json app")["images"][0]["id"].as_str().unwrap().to_owned();
    for image in [short(&id), &id, &format!("app@{id}"), "quay.io/a/app:2", "docker.io/library/app"] {
        bed.ok(&format!("mount --read-only {image} m"));
        assert_eq!(bed.read("m/app/run"), "go go go", "{image}");
        bed.ok("umount m");
    }
    drop(app);
    bed.ok("mount --name one app@1 m");
    assert!(bed.p("m/bin/sh").exists() && !bed.p("m/app").exists());
    assert!(bed.ok("ps").contains("app:latest@1"), "{}", bed.ok("ps"));
    bed.ok("umount one");
    assert!(bed.fails("mount app@3 m").contains("has 2 layers, not 3"));
    assert!(bed.fails("mount nothing m").contains("no such image: nothing"));
    assert!(bed.fails("mount oci:dir m").contains("laminafs load oci:dir"));
    assert_eq!(bed.writable(), ["one"]);
}

#[test]
fn what_a_killed_daemon_wrote_is_found_again() {
    let bed = Mounts::new();
    bed.ok("mount --name web app m");
    bed.write("m/new", "kept");
    fs::File::open(bed.p("m/new")).unwrap().sync_all().unwrap();
    bed.kill("web");
    assert!(bed.ok("ps -a").contains("Not mounted"));
    let message = bed.fails("mount --name web m");
    assert!(message.contains("laminafs umount"), "{message}");
    assert!(bed.fails("umount web").contains("is not mounted"));
    bed.ok("umount m");
    assert_eq!(bed.ok("mount --name web m"), "web\n");
    assert_eq!(bed.read("m/new"), "kept");
    bed.ok("umount m");
    assert_eq!(bed.ok("verify"), bed.ok("verify"));
}

#[test]
fn a_name_is_mounted_once() {
    let bed = Mounts::new();
    bed.ok("mount --name web app m");
    let message = bed.fails("mount --name web n");
    assert!(
        message.contains(&format!("mounted on {0}; unmount it with: laminafs umount {0}", bed.p("m").display())),
        "{message}"
    );
    let message = bed.fails("mount --name web app n");
    assert!(message.contains("laminafs mount --name web MOUNTPOINT"), "{message}");
    let message = bed.fails("rm web");
    assert!(message.contains("laminafs umount"), "{message}");
    bed.ok("umount web");
    // A record of a mount that ended without removing it counts for nothing.
    let stale = json!({"schema": 1, "mountpoint": bed.p("m"), "pid": 1, "since": 1, "kernel": false});
    fs::write(bed.root().join("writable/web/mount.json"), stale.to_string()).unwrap();
    assert_eq!(bed.ok("ps -q"), "");
    bed.ok("mount --name web n");
    assert_eq!(bed.ok("rm -f web"), "web\n");
    assert!(!bed.mounted("n") && bed.writable().is_empty());
    assert!(bed.fails("rm web").contains("no such writable layer: web"));
    assert!(bed.fails("mount --name web m").contains("no such writable layer: web"));
}

#[test]
fn a_mount_that_fails_leaves_no_writable_layer() {
    let bed = Mounts::new();
    assert!(bed.fails("mount app missing").contains("create it with mkdir"));
    bed.write("file", "");
    assert!(bed.fails("mount app file").contains("Not a directory"));
    let inside = bed.root().join("tmp");
    assert!(bed.fails(&format!("mount app {}", inside.display())).contains("inside the image store"));
    assert!(bed.fails(&format!("mount app {}", bed.dir().display())).contains("would hide the image store"));
    assert!(bed.writable().is_empty());
    assert!(bed.fails("mount --kernel -o no_allow_other app m").contains("not possible with --kernel"));
    assert!(bed.writable().is_empty());
    // After the writable layer was made: not enough descriptors for the layers.
    let limited = |line: &str| {
        let script = format!("ulimit -n 40; exec {PROGRAM} {line}");
        let output =
            Command::new("sh").args(["-c", &script]).env("LAMINAFS_ROOT", bed.root()).current_dir(bed.dir()).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(limited("mount app m").contains("descriptors"));
    assert!(limited("mount -f --name x app m").contains("descriptors"));
    assert!(bed.writable().is_empty(), "{:?}", bed.writable());
    bed.ok("mount --name web app m");
    bed.ok("umount web");
    assert!(limited("mount --name web m").contains("descriptors"));
    assert_eq!(bed.writable(), ["web"]);
    bed.ok("mount --name web m");
    bed.ok("umount m");
}

#[test]
fn mounting_over_what_is_there_hides_it_until_the_unmount() {
    let bed = Mounts::new();
    bed.write("m/mine", "x");
    bed.ok("mount app m");
    assert!(!bed.p("m/mine").exists());
    bed.ok("umount m");
    assert_eq!(bed.read("m/mine"), "x");
}

#[test]
fn with_rm_the_writable_layer_goes_with_the_mount() {
    let bed = Mounts::new();
    for end in ["umount", "signal", "kill"] {
        bed.ok("mount --rm --name gone app m");
        bed.write("m/f", "x");
        let pid = bed.daemon("gone");
        match end {
            "umount" => drop(bed.ok("umount m")),
            "signal" => signal(pid, libc::SIGTERM),
            _ => signal(pid, libc::SIGKILL),
        }
        until("the daemon is gone", || !alive(pid));
        if end == "kill" {
            bed.ok("umount m");
            assert_eq!(bed.writable(), [""; 0], "the next command cleans up");
        }
        assert_eq!(bed.writable(), [""; 0], "{end}");
        assert!(fs::read_dir(bed.root().join("tmp")).unwrap().next().is_none());
    }
    bed.ok("mount --name web app m");
    bed.ok("umount m");
    assert!(bed.fails("mount --rm --name web m").contains("laminafs rm web"));
    assert_eq!(bed.writable(), ["web"]);
}

#[test]
fn read_only_mounts_pin_the_image() {
    let bed = Mounts::new();
    assert_eq!(bed.ok("mount --read-only app m"), "");
    assert!(fs::write(bed.p("m/f"), "").unwrap_err().to_string().contains("Read-only"));
    assert_eq!(bed.ok("mount -o ro,nosuid base:1 n"), "");
    assert!(bed.writable().is_empty());
    bed.ok("umount n");
    bed.ok("mount --name web -o ro,nosuid,noexec app n");
    let mounts = fs::read_to_string("/proc/thread-self/mounts").unwrap();
    let line = mounts.lines().find(|l| l.contains(bed.p("n").to_str().unwrap())).unwrap();
    assert!(line.contains("ro,nosuid,nodev,noexec"), "{line}");
    bed.ok("umount n");
    for usage in ["--read-only --name x", "--read-only --rm", "--tmpfs-upper --name x", "--read-only --tmpfs-upper"] {
        assert_eq!(bed.run(&format!("mount {usage} app n")).status.code(), Some(2), "{usage}");
    }
    assert!(bed.fails("mount --rm n").contains("name one before"));
    assert!(bed.fails("mount n").contains("nothing to mount"));
    assert!(bed.fails("mount --lower m app n").contains("leave out lowerdir="));
    bed.ok("umount m");
}

#[test]
fn a_mounted_image_cannot_be_removed() {
    let bed = Mounts::new();
    bed.ok("mount --name web app m");
    bed.ok("mount --read-only base:1 n");
    assert!(bed.fails("rmi app quay.io/a/app:2").contains("in use by"));
    assert!(bed.fails("rmi base:1").contains("in use by"));
    bed.ok("prune -a -f");
    assert_eq!(bed.read("m/app/run"), "go go go");
    assert_eq!(bed.read("n/bin/sh"), "#!");
    bed.ok("umount n");
    bed.ok("mount --name idle base:1 n");
    bed.ok("umount n");
    bed.ok("prune --writable -f");
    assert_eq!(bed.writable(), ["web"]);
    assert_eq!(bed.read("m/app/run"), "go go go");
    bed.ok("umount m");
    bed.ok("prune -a --writable -f");
    assert!(bed.writable().is_empty());
    assert_eq!(bed.ok("images -aq"), "");
}

#[test]
fn an_upper_in_memory_ends_with_the_mount() {
    let bed = Mounts::new();
    assert_eq!(bed.ok("mount --tmpfs-upper=4m app m"), "");
    bed.write("m/etc/os", "two");
    fs::rename(bed.p("m/etc"), bed.p("m/conf")).unwrap();
    assert_eq!(bed.read("m/conf/os"), "two");
    for line in ["diff ./m", "whence ./m conf/os"] {
        assert!(bed.fails(line).contains("cannot be looked at"), "{line}");
    }
    let big = fs::write(bed.p("m/big"), vec![1; 8 << 20]).unwrap_err();
    assert_eq!(big.raw_os_error(), Some(libc::ENOSPC));
    assert!(bed.writable().is_empty());
    assert!(mounts_below(bed.dir()).len() == 1, "the tmpfs has no path");
    bed.ok("umount m");
    bed.ok("mount --tmpfs-upper app m");
    assert_eq!(bed.read("m/etc/os"), "one");
    bed.ok("umount m");
    bed.ok("mount --kernel --tmpfs-upper app m");
    bed.write("m/etc/os", "two");
    bed.ok("umount m");
    assert!(bed.fails("mount --tmpfs-upper=lots app m").contains("size"));
    // Also under directories that were named one by one.
    bed.ok("mount --lower n --tmpfs-upper m");
    bed.write("m/f", "x");
    bed.ok("umount m");
    assert!(fs::read_dir(bed.p("n")).unwrap().next().is_none());
}

#[test]
fn writable_layers_are_listed_newest_first() {
    let bed = Mounts::new();
    assert_eq!(bed.ok("ps"), "NAME      IMAGE     CREATED   STATUS    MOUNTPOINT\n");
    bed.ok("mount --name b app m");
    bed.ok("umount b");
    bed.ok("mount --name c app m");
    bed.ok("mount --name a base:1 n");
    let created = |name: &str, created: u64| {
        let path = bed.root().join(format!("writable/{name}/writable.json"));
        let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        record["created"] = json!(created);
        fs::write(path, record.to_string()).unwrap();
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    created("c", now - 7300);
    created("a", now - 86_400 * 3 - 60);
    created("b", now - 61);
    assert_eq!(bed.ok("ps -aq"), "b\nc\na\n");
    assert_eq!(bed.ok("ps -q"), "c\na\n");
    let (m, n) = (bed.p("m"), bed.p("n"));
    let lines: Vec<String> = bed
        .ok("ps -a")
        .lines()
        .map(|l| l.split("   ").map(str::trim).filter(|w| !w.is_empty()).collect::<Vec<_>>().join("|"))
        .collect();
    assert_eq!(lines[0], "NAME|IMAGE|CREATED|STATUS|MOUNTPOINT");
    assert_eq!(lines[1], "b|app:latest|About a minute ago|Not mounted");
    assert!(
        lines[2].starts_with("c|app:latest|2 hours ago|Up ") && lines[2].ends_with(m.to_str().unwrap()),
        "{lines:?}"
    );
    assert!(lines[3].starts_with("a|base:1|3 days ago|Up ") && lines[3].ends_with(n.to_str().unwrap()), "{lines:?}");
    let document = bed.json("ps -s --json");
    assert_eq!(document["schema"], 1);
    let found = &document["writable"][0];
    assert_eq!((&found["name"], &found["layers"], &found["busy"]), (&json!("c"), &json!(2), &json!(true)));
    assert_eq!(found["image_names"], json!(["docker.io/library/app:latest", "quay.io/a/app:2"]));
    assert_eq!((&found["mount"]["mountpoint"], &found["mount"]["kernel"]), (&json!(m), &json!(false)));
    assert!(
        found["disk"].as_u64().unwrap() > 0 && alive(u32::try_from(found["mount"]["pid"].as_u64().unwrap()).unwrap())
    );
    assert!(bed.json("ps --json")["writable"][0]["disk"].is_null());
    let object: serde_json::Value = serde_json::from_str(bed.ok("ps --format json").lines().next().unwrap()).unwrap();
    assert_eq!((&object["Names"], &object["State"]), (&json!("c"), &json!("running")));
    // The image's names are gone, the image stays.
    bed.ok("umount c");
    bed.ok("umount n");
}

#[test]
fn a_name_is_looked_up_when_it_is_no_path() {
    let bed = Mounts::new();
    bed.ok("mount --name m app n");
    assert!(bed.p("m").is_dir(), "a directory of the same name, which is no mount point");
    bed.ok("umount m");
    assert!(!bed.mounted("n"));
    bed.ok("mount --name n app m");
    bed.ok("mount --name other app n");
    bed.ok("umount n");
    assert!(bed.mounted("m") && !bed.mounted("n"), "a mount point goes first");
    bed.ok("umount n");
    assert!(!bed.mounted("m"));
    assert!(bed.fails("umount n").contains("n"));
    assert!(bed.fails("umount nothing").contains("cannot unmount nothing: no such writable layer: nothing"));
    assert!(bed.fails("umount ./nothing").contains("No such file"));
    assert!(bed.fails(&format!("umount {}", bed.p("m").display())).contains("not the mount point"));
}

#[test]
fn a_mount_point_need_not_be_utf8() {
    let bed = Mounts::new();
    let place = bed.dir().join(OsStr::from_bytes(b"m\xff"));
    fs::create_dir(&place).unwrap();
    let script = r#""$0" mount --name odd base:1 "$1"; "$0" ps --json; "$0" ps; "$0" umount odd; "$0" rm odd"#;
    let mut command = Command::new("sh");
    command.args(["-euc", script, PROGRAM]).arg(&place).env("LAMINAFS_ROOT", bed.root());
    let output = command.output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(out.contains("/m\u{fffd}\",\n"), "the document: {out}");
    assert!(out.ends_with("/m\u{fffd}\nodd\n"), "the table, and what rm says: {out}");
}

#[test]
fn what_is_not_there_is_no_failure_when_forced() {
    let bed = Mounts::new();
    assert!(bed.fails("rm nobody").contains("no such writable layer: nobody"));
    let forced = bed.run("rm -f nobody");
    assert!(forced.status.success() && forced.stdout.is_empty(), "{forced:?}");
    assert!(String::from_utf8(forced.stderr).unwrap().contains("note: no such writable layer: nobody"));
}

#[test]
fn the_name_is_printed_when_the_mount_answers_in_the_foreground_too() {
    use std::io::{BufRead, BufReader};
    let bed = Mounts::new();
    let mut child = bed
        .command(["mount", "-f", "--rm", "--name", "web", "app", "m"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "web\n");
    assert_eq!(bed.read("m/app/run"), "go go go");
    signal(child.id(), libc::SIGINT);
    assert!(child.wait().unwrap().success());
    assert!(!bed.mounted("m") && bed.writable().is_empty());
}

#[test]
fn modes_and_owners_are_those_of_the_image() {
    let bed = Mounts::new();
    bed.ok("mount --rm app m");
    let root = fs::metadata(bed.p("m")).unwrap();
    assert_eq!((root.mode() & 0o7777, root.uid()), (0o755, 0));
    assert!(sh("umask 0; : > m/f; mkdir m/d", bed.dir()).status.success());
    let mode = |path: &str| fs::metadata(bed.p(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("m/f"), mode("m/d")), (0o666, 0o777));
    bed.ok("umount m");
}

/// The commands of an ordinary user: everything that root can do but what the kernel keeps to itself.
#[test]
fn ordinary_users_have_stores_too() {
    let bed = Mounts::new();
    fs::set_permissions(bed.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(PROGRAM, bed.p("program")).unwrap();
    for name in ["home", "n"] {
        fs::create_dir_all(bed.p(name)).unwrap();
        std::os::unix::fs::chown(bed.p(name), Some(1000), Some(1000)).unwrap();
    }
    let script = format!(
        r#"mount -t tmpfs none /dev; mknod -m 666 /dev/fuse c 10 229; mknod -m 666 /dev/null c 1 3; mknod -m 666 /dev/urandom c 1 9
        exec setpriv --reuid=1000 --regid=1000 --clear-groups env -u LAMINAFS_ROOT -u XDG_DATA_HOME HOME={0}/home sh -euc '
            cd {0}; ./program load -q -i images.tar >/dev/null
            ./program mount --name web app n
            cat n/etc/os; echo; stat -c %u:%a n/etc n/bin/sh; (: >n/etc/os) 2>&- || echo as the image says
            ./program ps | grep -c web
            ./program umount web
            ./program mount -o no_default_permissions --name web n; echo two >n/etc/os; rm n/bin/sh; ./program umount n
            ./program mount --name web n; cat n/etc/os; ls n/bin
            ./program umount n
            unshare -r -m sh -euc "./program --root home/.local/share/laminafs mount --name web n
                echo three >n/etc/os; stat -c %u:%g:%s n/etc/os; ./program umount n"
            ./program mount --rm app n; ./program umount n
            ./program mount --read-only app n; ./program umount n
            for refused in --kernel --tmpfs-upper; do ./program mount $refused app n 2>&1 || echo "exit $?"; done
            ./program mount containers-storage:web n 2>&1 || true
            ./program ps -aq; ./program rm web; ls home/.local/share/laminafs/writable'"#,
        bed.dir().display()
    );
    let mut command = Command::new("unshare");
    let output =
        command.args(["-m", "--propagation", "slave", "sh", "-euc", &script]).env("LC_ALL", "C").output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && err.is_empty(), "{out}\n{err}");
    let (before, rest) = out.split_once("laminafs: cannot mount on n: --kernel needs root").unwrap();
    let lines: Vec<&str> = before.lines().collect();
    assert_eq!(lines[..4], ["web", "one", "0:755", "0:644"], "{out}");
    assert_eq!(lines[4..9], ["as the image says", "1", "web", "web", "two"], "{out}");
    assert_eq!(lines[9..11], ["web", "0:0:6"], "{out}");
    assert_eq!(rest.matches("exit 1").count(), 2, "{out}");
    assert!(rest.contains("an ordinary user may not mount a tmpfs; for an image of the store there is --rm"), "{out}");
    assert!(rest.contains("home/.local/share/containers/storage, where the engine would keep its images"), "{out}");
    assert!(rest.ends_with("web\nweb\n"), "{out}");
}
