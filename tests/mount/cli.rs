//! The command line, as people and programs call it.

use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use super::harness::{
    Bed, PATIENCE, PROGRAM, Setup, entries, exists, laminafs, mkdir, mount_line, put, read, run, start, text_of, until,
    wait_within,
};

/// Directories without a mount.
pub fn bed() -> Bed {
    Bed::unmounted(Setup::default(), |l| put(&l[0], "f", "lower"))
}

pub fn failure(output: Output, code: i32) -> String {
    let said = text_of(output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(output.stdout.is_empty());
    said
}

/// Exit code 1 and one line that says all of `words`; nothing is mounted.
fn refused(bed: &Bed, output: Output, words: &[&str]) {
    let said = failure(output, 1);
    assert_eq!(said.lines().count(), 1, "more than one line: {said}");
    assert!(said.starts_with("laminafs: "), "{said}");
    for word in words {
        assert!(said.contains(word), "\"{word}\" is not in: {said}");
    }
    assert_eq!(mount_line(&bed.m), None);
}

pub fn mount(bed: &Bed, options: &str) -> Output {
    laminafs(["mount", "-o", options, bed.m.to_str().unwrap()])
}

#[test]
fn a_mount_answers_when_the_command_returns() {
    let bed = Bed::new(|l| put(l, "f", "x"));
    let pid = bed.pid.unwrap();
    assert_eq!(read(&bed.p("f")), "x");
    // The daemon has let go of what the caller gave it.
    for n in 0..3 {
        assert_eq!(fs::read_link(format!("/proc/{pid}/fd/{n}")).unwrap(), Path::new("/dev/null"), "descriptor {n}");
    }
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), Path::new("/"));
    let names_it = |pid: &str| {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.split(|&b| b == 0).any(|argument| argument == bed.m.as_os_str().as_encoded_bytes())
    };
    let processes = entries(Path::new("/proc")).into_iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
    let found: Vec<_> = processes.filter(|pid| names_it(pid)).collect();
    assert_eq!(found, [pid.to_string()], "one process a mount, found by its arguments");
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    let arguments: Vec<_> = arguments.split(|&b| b == 0).map(|a| String::from_utf8_lossy(a).into_owned()).collect();
    assert_eq!(arguments[..4], [PROGRAM, "mount", "-o", &bed.option_string()]);
    let session = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = session.rsplit(')').next().unwrap().split_whitespace().collect();
    assert_ne!(fields[3], std::process::id().to_string(), "a session of its own");
    assert_eq!(fields[4], "0", "no terminal");
}

#[test]
fn what_proc_mounts_shows() {
    let bed = Bed::new(|_| {});
    let line = mount_line(&bed.m).unwrap();
    assert_eq!((line[0].as_str(), line[2].as_str()), ("laminafs", "fuse.laminafs"));
    let options: Vec<&str> = line[3].split(',').collect();
    for option in ["rw", "nodev", "default_permissions", "allow_other"] {
        assert!(options.contains(&option), "{option}: {}", line[3]);
    }
    for option in ["nosuid", "noexec"] {
        assert!(!options.contains(&option), "{option}: {}", line[3]);
    }
}

#[test]
fn every_default_has_its_opposite() {
    let options = "no_default_permissions,no_allow_other,nosuid,dev,noexec,noatime,ro";
    let bed = Bed::with(Setup { options: options.into(), ..Setup::default() }, |_| {});
    let line = mount_line(&bed.m).unwrap();
    let shown: Vec<&str> = line[3].split(',').collect();
    for option in ["ro", "nosuid", "noexec", "noatime"] {
        assert!(shown.contains(&option), "{option}: {}", line[3]);
    }
    for option in ["nodev", "default_permissions", "allow_other"] {
        assert!(!shown.contains(&option), "{option}: {}", line[3]);
    }
}

#[test]
fn names_in_proc_mounts() {
    for (options, source, kind) in [
        ("fsname=mine", "mine", "fuse.laminafs"),
        ("fsname=a b", "a\\040b", "fuse.laminafs"),
        ("fsname=a\\,b\\\\c", "a,b\\134c", "fuse.laminafs"),
        ("subtype=other", "laminafs", "fuse.other"),
        ("subtype=", "laminafs", "fuse"),
    ] {
        let bed = Bed::with(Setup { options: options.into(), ..Setup::default() }, |_| {});
        let line = mount_line(&bed.m).unwrap();
        assert_eq!((line[0].as_str(), line[2].as_str()), (source, kind), "{options}");
    }
}

#[test]
fn errors_about_layers() {
    let bed = bed();
    let d = |name: &str| bed.dir.join(name).display().to_string();
    let (l, u, w) = (bed.lowers[0].display().to_string(), d("upper"), d("work"));
    put(&bed.dir, "file", "");
    mkdir(&bed.dir, "upper/inside");
    mkdir(&bed.dir, "work/inside");
    mkdir(&bed.dir, "other/inside");
    let shm = tempfile::Builder::new().prefix("laminafs-test-").tempdir_in("/dev/shm").unwrap();
    let shm = shm.path().display();
    let cases: Vec<(String, Vec<&str>)> = vec![
        (format!("lowerdir={}", d("none")), vec!["none", "No such file"]),
        (format!("lowerdir={l}:{}", d("none")), vec!["none", "No such file"]),
        (format!("lowerdir={}", d("file")), vec!["file", "Not a directory"]),
        (format!("lowerdir={l},upperdir={u}"), vec!["workdir="]),
        (format!("lowerdir={l},workdir={w}"), vec!["upperdir="]),
        (format!("upperdir={u},workdir={w}"), vec!["lower"]),
        ("ro".into(), vec!["lower"]),
        (format!("lowerdir={l},upperdir={},workdir={w}", d("none")), vec!["upperdir", "none", "No such file"]),
        (format!("lowerdir={l},upperdir={u},workdir={}", d("none")), vec!["workdir", "none", "No such file"]),
        (format!("lowerdir={l},upperdir={},workdir={w}", d("file")), vec!["upperdir", "file", "Not a directory"]),
        (format!("lowerdir={l},upperdir={u},workdir={}", d("file")), vec!["workdir", "file", "Not a directory"]),
        (format!("lowerdir={l},upperdir={u},workdir={shm}"), vec!["workdir", "same file system"]),
        (format!("lowerdir={l},upperdir={u},workdir={u}/inside"), vec!["workdir", "inside", "upperdir"]),
        (format!("lowerdir={l},upperdir={w}/inside,workdir={w}"), vec!["upperdir", "inside", "workdir"]),
        (format!("lowerdir={l},upperdir={u},workdir={u}"), vec!["workdir", "upperdir"]),
        (format!("lowerdir={u},upperdir={u},workdir={w}"), vec!["upperdir", "lower layer"]),
        (format!("lowerdir={u}/inside,upperdir={u},workdir={w}"), vec!["lower layer", "inside", "upperdir"]),
        (
            format!("lowerdir={},upperdir={}/inside,workdir={w}", d("other"), d("other")),
            vec!["upperdir", "inside", "lower"],
        ),
        (format!("lowerdir={l}:{},upperdir={u},workdir={w}", d("work/inside")), vec!["workdir", "lower"]),
        (format!("lowerdir={l}::"), vec!["empty layer"]),
        (format!("lowerdir={l},verity=on"), vec!["verity", "not implemented"]),
        (format!("lowerdir={l},redirect_dir=perhaps"), vec!["redirect_dir", "nofollow"]),
    ];
    for (options, words) in cases {
        refused(&bed, mount(&bed, &options), &words);
    }
    assert_eq!(entries(&bed.work), ["inside"], "a failed mount leaves nothing");
}

#[test]
fn errors_about_the_mount_point() {
    let bed = bed();
    put(&bed.dir, "file", "");
    let options = bed.option_string();
    let at = |name: &str| laminafs(["mount", "-o", &options, bed.dir.join(name).to_str().unwrap()]);
    refused(&bed, at("none"), &["none", "does not exist", "mkdir"]);
    refused(&bed, at("file"), &["file", "Not a directory"]);
}

/// fuse-overlayfs issues 232 and 299: messages that did not say what was missing.
#[test]
fn errors_about_permissions_and_the_device() {
    let bed = bed();
    let shell = |setup: &str, options: &str| {
        let script = format!("{setup} \"$@\"");
        let args = ["mount", "-o", options, bed.m.to_str().unwrap()];
        run(Command::new("unshare")
            .args(["-m", "--propagation", "slave", "sh", "-euc", &script, "sh", PROGRAM])
            .args(args))
    };
    // The program itself must be reachable for another user.
    let copy = bed.dir.join("program");
    fs::copy(PROGRAM, &copy).unwrap();
    let as_user = "shift; exec setpriv --reuid=1000 --regid=1000 --clear-groups";
    let user = |setup: &str, options: &str| shell(&format!("{setup} {as_user} {}", copy.display()), options);
    let options = format!("lowerdir={}", bed.lowers[0].display());
    let closed = "mount -t tmpfs none /dev; mknod -m 600 /dev/fuse c 10 229; mknod -m 666 /dev/null c 1 3;";
    refused(&bed, user(closed, &options), &["permission", "/dev/fuse"]);
    let private = bed.dir.join("private");
    fs::create_dir(&private).unwrap();
    fs::set_permissions(&private, Permissions::from_mode(0o700)).unwrap();
    let unreadable = format!("lowerdir={}", private.display());
    refused(&bed, user("", &unreadable), &["private", "Permission denied"]);
    refused(&bed, shell("mount -t tmpfs none /dev;", &options), &["/dev/fuse", "does not exist"]);
}

/// The whole life of an ordinary user's mount, in a mount namespace whose /dev/fuse is open to all.
#[test]
fn ordinary_users_mount() {
    let bed = Bed::unmounted(Setup::default(), |l| {
        put(&l[0], "f", "lower\n");
        put(&l[0], "low/d/x", "");
        put(&l[0], "low/keep", "");
        super::harness::sh_in(&l[0], "chown -R 1000:1000 .");
    });
    fs::copy(PROGRAM, bed.dir.join("program")).unwrap();
    for name in ["upper", "work", "m"] {
        std::os::unix::fs::chown(bed.dir.join(name), Some(1000), Some(1000)).unwrap();
    }
    let script = format!(
        r#"mount -t tmpfs none /dev; mknod -m 666 /dev/fuse c 10 229; mknod -m 666 /dev/null c 1 3
        exec setpriv --reuid=1000 --regid=1000 --clear-groups sh -euc '
            cd {dir}
            ./program mount -o {options} m
            grep " $PWD/m " /proc/mounts
            id -u
            cat m/f
            mkdir m/new; echo y >m/new/f; rm m/f; echo again >m/f; rm m/f; ls m
            test ! -e m/f
            rm -r m/low/d; mkdir m/low/d; mv m/low m/moved; ls m/moved/d m/moved
            ./program umount m
            ./program mount --lower lower/1 --upper upper --work work m
            ls m; cat m/new/f; test ! -e m/f; ls m/moved/d
            ./program umount m'"#,
        dir = bed.dir.display(),
        options = bed.option_string()
    );
    let output =
        run(Command::new("unshare").args(["-m", "--propagation", "slave", "sh", "-euc", &script]).env("LC_ALL", "C"));
    let (out, err) = (text_of(output.stdout), text_of(output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    let mut lines = out.lines();
    let mount = lines.next().unwrap();
    assert!(mount.starts_with("laminafs ") && mount.contains(" fuse.laminafs "), "{mount}");
    assert!(mount.contains("nosuid") && mount.contains("nodev") && !mount.contains("allow_other"), "{mount}");
    let rest: Vec<_> = lines.collect();
    assert_eq!(rest, ["1000", "lower", "low", "new", "m/moved:", "d", "keep", "", "m/moved/d:", "moved", "new", "y"]);
}

#[test]
fn usage_errors_have_exit_code_2() {
    require_usage(&["mount"]);
    require_usage(&["frobnicate"]);
    require_usage(&["-o", "lowerdir=/tmp"]);
    require_usage(&["umount"]);
    require_usage(&["mount", "--no-such-flag", "/tmp"]);
    fn require_usage(args: &[&str]) {
        assert!(failure(laminafs(args), 2).contains("Usage"), "{args:?}");
    }
    let help = laminafs(["--help"]);
    assert!(help.status.success() && text_of(help.stdout).contains("lowerdir="));
}

#[test]
fn unknown_options_are_noted_and_ignored() {
    let mut bed = bed();
    let output = mount(&bed, &format!("{},frobnicate=7,lazytime", bed.option_string()));
    assert!(output.status.success());
    let said = text_of(output.stderr);
    assert!(said.contains("frobnicate=7") && said.lines().count() == 1, "{said}");
    bed.mounted();
}

/// As containers/storage calls: one `-o`, one place, empty elements, a quoted comma, a pipe for standard error.
#[test]
fn the_form_of_container_engines() {
    let mut bed = bed();
    let label = r#"context="system_u:object_r:container_file_t:s0:c214,c1021""#;
    let options = format!("{},nodev,,volatile,private,xino=off,{label}", bed.option_string());
    let output = laminafs(["-o", &options, bed.m.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text_of(output.stderr));
    bed.mounted();
    fs::write(bed.p("f"), "changed").unwrap();
    bed.unmount();
    assert_eq!(read(&bed.u("f")), "changed");
}

#[test]
fn the_form_of_mount_helpers() {
    let mut bed = bed();
    for words in [vec!["overlay"], vec![], vec!["none"]] {
        let mut args: Vec<String> = words.into_iter().map(String::from).collect();
        args.extend([bed.m.display().to_string(), "-o".into(), bed.option_string()]);
        let output = laminafs(&args);
        assert!(output.status.success(), "{args:?}: {}", text_of(output.stderr));
        bed.mounted();
        assert_eq!(read(&bed.p("f")), "lower");
        bed.unmount();
    }
}

const ODD: [&str; 4] = ["a:b", "c,d", "e\\f", "g h\\:,"];

fn escaped(path: &Path) -> String {
    path.to_str().unwrap().replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,")
}

/// fuse-overlayfs issues 227 and 440: `\:` and the like in the option string.
#[test]
fn odd_paths_are_escaped() {
    let mut bed = bed();
    let paths: Vec<PathBuf> = ODD.iter().map(|n| bed.dir.join(n)).collect();
    for (path, name) in paths.iter().zip(["one", "two"]) {
        put(path, name, "x");
    }
    mkdir(&paths[2], "x");
    mkdir(&paths[3], "work");
    let options = format!(
        "lowerdir={}:{},upperdir={},workdir={}/work",
        escaped(&paths[0]),
        escaped(&paths[1]),
        escaped(&paths[2]),
        escaped(&paths[3])
    );
    assert!(mount(&bed, &options).status.success());
    bed.mounted();
    assert_eq!(entries(&bed.m), ["one", "two", "x"]);
    fs::write(bed.p("new"), "").unwrap();
    bed.unmount();
    assert!(exists(&paths[2].join("new")));
}

#[test]
fn flags_take_any_path() {
    let mut bed = bed();
    let paths: Vec<PathBuf> = ODD.iter().map(|n| bed.dir.join(n)).collect();
    for (path, name) in paths.iter().zip(["one", "two"]) {
        put(path, name, "x");
    }
    mkdir(&paths[2], "x");
    mkdir(&paths[3], "work");
    let mut command = Command::new(PROGRAM);
    command.arg("mount").arg("--lower").arg(&paths[0]).arg("--lower").arg(&paths[1]);
    command.arg("--upper").arg(&paths[2]).arg("--work").arg(paths[3].join("work")).args(["-o", "nosuid"]).arg(&bed.m);
    let output = run(&mut command);
    assert!(output.status.success(), "{}", text_of(output.stderr));
    bed.mounted();
    assert_eq!(entries(&bed.m), ["one", "two", "x"]);
    assert!(mount_line(&bed.m).unwrap()[3].contains("nosuid"));
    bed.unmount();
}

/// Mount points with spaces and other things that /proc/mounts escapes.
#[test]
fn odd_mount_points() {
    let mut bed = bed();
    bed.m = bed.dir.join("m with \\ space");
    fs::create_dir(&bed.m).unwrap();
    bed.mount();
    assert_eq!(read(&bed.p("f")), "lower");
    bed.remount();
    bed.unmount();
}

#[test]
fn relative_paths_and_symlinks() {
    let mut bed = bed();
    mkdir(&bed.dir, "store/real/diff1");
    put(&bed.dir, "store/real/diff/g", "by way of ..");
    put(&bed.dir, "diff/g", "wrong");
    symlink("store/real/diff1", bed.dir.join("link")).unwrap();
    mkdir(&bed.dir, "links");
    symlink(&bed.lowers[0], bed.dir.join("links/L")).unwrap();
    let args = ["mount", "-o", "lowerdir=links/L:link/../diff,upperdir=upper,workdir=work", "m"];
    let output = run(Command::new(PROGRAM).args(args).current_dir(&bed.dir));
    assert!(output.status.success(), "{}", text_of(output.stderr));
    bed.mounted();
    assert_eq!((read(&bed.p("f")), read(&bed.p("g"))), ("lower".into(), "by way of ..".into()));
    bed.unmount();
}

#[test]
fn many_layers() {
    let mut bed = Bed::unmounted(Setup { lowers: 200, ..Setup::default() }, |l| {
        for (n, l) in l.iter().enumerate() {
            put(l, &format!("d/f{n}"), "x");
            put(l, "d/all", format!("{n}"));
        }
    });
    bed.mount();
    assert_eq!(entries(&bed.p("d")).len(), 201);
    assert_eq!(read(&bed.p("d/all")), "0");
    bed.sh("echo y >>d/f199; mv d e; rm e/all");
    bed.remount();
    assert_eq!(entries(&bed.p("e")).len(), 200);
    assert_eq!(read(&bed.p("e/f199")), "xy\n");
}

/// fuse-overlayfs issue 388: for service managers.
#[test]
fn foreground() {
    let mut bed = bed();
    let mut child = start(Command::new(PROGRAM).args(["mount", "-f", "-o", &bed.option_string()]).arg(&bed.m));
    until("mounted", PATIENCE, || mount_line(&bed.m).is_some());
    bed.mounted();
    assert_eq!(bed.pid, Some(child.id()));
    assert_eq!(read(&bed.p("f")), "lower");
    assert!(child.try_wait().unwrap().is_none(), "it stays in front");
    bed.pid = None;
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    assert!(wait_within(&mut child, PATIENCE).expect("ends").success());
    assert_eq!(mount_line(&bed.m), None);
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "", "nothing to say");
}

/// As programs of libfuse have it: in front, with more to say.
#[test]
fn debugging() {
    let mut bed = bed();
    let mut child =
        start(Command::new(PROGRAM).args(["-d", "-o", &bed.option_string()]).arg(&bed.m).env_remove("RUST_LOG"));
    until("mounted", PATIENCE, || mount_line(&bed.m).is_some());
    bed.mounted();
    assert_eq!((bed.pid, read(&bed.p("f"))), (Some(child.id()), "lower".to_owned()));
    bed.unmount();
    assert!(wait_within(&mut child, PATIENCE).expect("ends").success());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("mounted on"), "{said}");
}

/// The same upper twice: the second one waits ten seconds and is refused.
#[test]
fn an_upper_in_use_is_refused() {
    let bed = Bed::new(|l| put(l, "f", "x"));
    mkdir(&bed.dir, "m2");
    mkdir(&bed.dir, "work2");
    mkdir(&bed.dir, "upper2");
    let second = |options: String, what: &'static str| {
        let at = bed.dir.join("m2");
        let begun = Instant::now();
        let said = failure(laminafs(["mount", "-o", &options, at.to_str().unwrap()]), 1);
        assert!(said.contains(what) && said.contains("in use by another mount") && said.lines().count() == 1, "{said}");
        let waited = begun.elapsed();
        assert!(waited.as_secs() >= 9, "waited {waited:?}");
    };
    let l = bed.lowers[0].display();
    let options = [
        (bed.option_string(), "upperdir"),
        (
            format!("lowerdir={l},upperdir={},workdir={}", bed.upper.display(), bed.dir.join("work2").display()),
            "upperdir",
        ),
        (
            format!("lowerdir={l},upperdir={},workdir={}", bed.dir.join("upper2").display(), bed.work.display()),
            "workdir",
        ),
    ];
    std::thread::scope(|s| options.map(|(o, w)| s.spawn(|| second(o, w))).map(|t| t.join().unwrap()));
    // Lower layers are never locked.
    let other = Bed::unmounted(Setup { no_upper: true, ..Setup::default() }, |_| {});
    let mut other = other;
    other.with_options(&format!("lowerdir={l}"));
    other.mount();
    assert_eq!(read(&other.p("f")), "x");
}

#[test]
fn an_upper_whose_daemon_is_leaving_is_waited_for() {
    let mut bed = Bed::new(|l| put(l, "f", "x"));
    let other = bed.dir.join("m2");
    fs::create_dir(&other).unwrap();
    let mut second = start(Command::new(PROGRAM).args(["mount", "-o", &bed.option_string()]).arg(&other));
    std::thread::sleep(Duration::from_millis(300));
    assert!(second.try_wait().unwrap().is_none(), "it waits");
    // Not by the harness, which looks into the work directory: the second is trying things out there by then.
    let unmounted = laminafs([Path::new("umount"), &bed.m]);
    assert!(unmounted.status.success() && mount_line(&bed.m).is_none(), "{}", text_of(unmounted.stderr));
    assert!(wait_within(&mut second, PATIENCE).expect("mounts").success());
    bed.m = other;
    bed.mounted();
    assert_eq!(read(&bed.p("f")), "x");
}

/// fuse-overlayfs issues 277, 318: mounted over one of its own layers, and over its upper.
#[test]
fn over_its_own_layers() {
    for which in ["lower/1", "upper"] {
        let mut bed = bed();
        bed.m = bed.dir.join(which);
        bed.mount();
        assert_eq!(read(&bed.p("f")), "lower");
        fs::write(bed.p("g"), "new").unwrap();
        bed.sh("mkdir d; mv f d/f; echo more >>d/f; rm g");
        assert_eq!(entries(&bed.m), ["d"]);
        bed.unmount();
        assert_eq!(read(&bed.upper.join("d/f")), "lowermore\n");
    }
}

/// A mount as a lower layer of another one (fuse-overlayfs issue 275).
#[test]
fn mounts_on_mounts() {
    let below = Bed::new(|l| put(l, "d/f", "x"));
    fs::write(below.p("d/g"), "y").unwrap();
    let mut above = Bed::unmounted(Setup::default(), |_| {});
    above.with_options(&format!("lowerdir={}", below.m.display()));
    above.mount();
    assert_eq!(entries(&above.p("d")), ["f", "g"]);
    above.sh("echo z >>d/g; mv d e; rm e/f; chown 3 e/g");
    assert_eq!(read(&above.p("e/g")), "yz\n");
    above.remount();
    assert_eq!((entries(&above.p("e")), fs::metadata(above.p("e/g")).unwrap().uid()), (vec!["g".to_owned()], 3));
    above.unmount();
    assert_eq!(read(&below.p("d/g")), "y");
    drop(above);
}

#[test]
fn the_demonstration_works_and_leaves_nothing() {
    let home = tempfile::Builder::new().prefix("laminafs-test-").tempdir().unwrap();
    let output = run(Command::new(PROGRAM).arg("demo").env("TMPDIR", home.path()));
    assert!(output.status.success(), "{}", text_of(output.stderr));
    assert!(text_of(output.stdout).contains("unchanged"));
    assert_eq!(entries(home.path()), [""; 0]);
}
