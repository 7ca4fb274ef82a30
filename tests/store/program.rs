//! What holds for all commands: where the store is, help, completions, manual pages.

use super::harness::{Bed, PROGRAM};
use super::sample::{BASE, Sample};
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

const STORE_COMMANDS: &[&str] =
    &["load", "save", "import", "images", "tag", "rmi", "history", "inspect", "prune", "df", "verify"];

#[test]
fn the_store_is_where_it_was_said_to_be() {
    let bed = Bed::with(&[(&Sample::new(1, &[BASE]), &["a"])]);
    let run = |args: &[&str], root: &str| {
        let output = bed.command(args).env("LAMINAFS_ROOT", root).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().lines().count()
    };
    assert_eq!(run(&["images", "-q"], "root"), 1);
    assert_eq!(run(&["--root", "other", "images", "-q"], "root"), 0);
    assert_eq!(run(&["images", "-q", "--root=root"], "other"), 1);
    assert_eq!(run(&["--root=root", "images", "-q"], ""), 1);
    assert!(!bed.p("other").exists());
    run(&["--root", "other", "verify"], "root");
    assert!(!bed.p("other").exists());
    run(&["--root", "other", "prune", "-f"], "root");
    assert!(bed.p("other/format").is_file());
    let user = |data: Option<&str>| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", PROGRAM, "prune", "-f"]).current_dir("/");
        command.env_clear().env("HOME", "/nonexistent").envs(data.map(|data| ("XDG_DATA_HOME", data)));
        String::from_utf8(command.stdin(Stdio::null()).output().unwrap().stderr).unwrap()
    };
    assert!(user(None).contains("/nonexistent/.local/share/laminafs"), "{}", user(None));
    assert!(user(Some("/none/data")).contains("/none/data/laminafs"));
    assert!(user(Some("relative")).contains("/nonexistent/.local"));
    let said = bed.fails("--root /dev/null images");
    assert!(said.contains("cannot open the image store /dev/null"), "{said}");
    assert_eq!(said.matches("Not a directory").count(), 1, "{said}");
    assert_eq!(bed.run("--root").status.code(), Some(2));
}

#[test]
fn what_is_logged_is_shown_to_who_asks_for_it() {
    let bed = Bed::with(&[(&Sample::new(1, &[BASE]), &["a"])]);
    let layer = fs::read_dir(bed.p("root/layers/sha256")).unwrap().next().unwrap().unwrap();
    fs::write(layer.path().join("inventory"), "").unwrap();
    let said = |level: Option<&str>| {
        let mut command = bed.command(["ls", "a"]);
        command.env_remove("RUST_LOG").envs(level.map(|level| ("RUST_LOG", level)));
        String::from_utf8(command.output().unwrap().stderr).unwrap()
    };
    assert_eq!(said(None), "");
    let warnings = said(Some("warn"));
    assert!(warnings.contains("WARN") && warnings.contains("the directory is read instead"), "{warnings}");
}

/// A user namespace can map all ids to themselves (`PrivateUsers=full` of systemd does) and have all capabilities; `trusted.*`
/// is not seen there all the same.
#[test]
fn another_user_namespace_sees_what_is_in_the_directory() {
    let bed = Bed::with(&[(&Sample::new(1, &[&[("d/", ""), ("d/.wh..wh..opq", ""), ("d/n", "")]]), &["a"])]);
    let inside = || {
        let mut command = Command::new("unshare");
        command.args(["-U", "sh", "-c", "read go; exec \"$@\"", "sh", PROGRAM, "stat", "a", "/d", "--json"]);
        let (root, pipe) = (bed.root(), Stdio::piped);
        let mut child = command.env("LAMINAFS_ROOT", root).stdin(pipe()).stdout(pipe()).spawn().unwrap();
        let proc = |name: &str| format!("/proc/{}/{name}", child.id());
        while fs::read_link(proc("ns/user")).unwrap() == fs::read_link("/proc/self/ns/user").unwrap() {
            std::thread::sleep(Duration::from_millis(1));
        }
        ["uid_map", "gid_map"].iter().for_each(|map| fs::write(proc(map), "0 0 4294967295").unwrap());
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    };
    assert!(bed.ok("stat a /d --json").contains("\"opaque\": true"));
    let with = inside();
    let layer = fs::read_dir(bed.p("root/layers/sha256")).unwrap().next().unwrap().unwrap();
    fs::remove_file(layer.path().join("inventory")).unwrap();
    assert_eq!(with, inside());
    assert!(with.contains("\"opaque\": false"), "{with}");
}

#[test]
fn every_command_has_help_with_exit_codes() {
    let bed = Bed::new();
    for command in STORE_COMMANDS.iter().chain(&[
        "mount",
        "umount",
        "ps",
        "rm",
        "diff",
        "commit",
        "export",
        "layers",
        "whence",
        "ls",
        "tree",
        "stat",
        "cat",
        "waste",
        "share",
        "demo",
        "completion",
        "man",
    ]) {
        let text = bed.ok(&format!("{command} --help"));
        let summary = text.lines().next().unwrap();
        assert!(summary.len() < 80 && text.lines().nth(1) == Some(""), "{command}: {summary}");
        assert!(text.contains("Exit code"), "{command}");
        // The demonstration is an example itself.
        assert!(text.contains("\nExample") || *command == "demo", "{command} has no example");
        assert!(!text.contains('\u{1b}'));
    }
    for line in ["images --frob", "frob", "rmi", "save", "tag a", "inspect", "import", "load -i"] {
        assert_eq!(bed.run(line).status.code(), Some(2), "{line}");
    }
    assert!(!bed.root().exists(), "help made a store");
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let bed = Bed::new();
    for shell in ["bash", "zsh", "fish"] {
        let text = bed.ok(&format!("completion {shell}"));
        assert!(STORE_COMMANDS.iter().all(|command| text.contains(command)), "{shell}");
    }
    bed.write("c.bash", bed.ok("completion bash").as_bytes());
    let script = "source ./c.bash; COMP_WORDS=(laminafs ima); COMP_CWORD=1; _laminafs laminafs ima laminafs; echo ${COMPREPLY[@]}";
    let output = Command::new("bash").args(["-c", script]).current_dir(bed.dir()).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "images\n");
    assert_eq!(bed.ok("man pages"), "");
    for command in STORE_COMMANDS {
        let page = fs::read_to_string(bed.p(&format!("pages/laminafs-{command}.1"))).unwrap();
        assert!(page.contains(".SH \"SYNOPSIS\"") && page.contains("Exit code"), "{command}");
    }
    let page = fs::read_to_string(bed.p("pages/laminafs-waste.1")).unwrap();
    let usage =
        ".nf\nlaminafs waste [OPTIONS] TARGET[@N]\n.fi\n.nf\nlaminafs waste [OPTIONS] \\-\\-lower DIR[:DIR...]\n.fi\n";
    assert!(page.contains(usage), "the usage of --help: {page}");
    let example =
        ".nf\nlaminafs waste \\-\\-max\\-waste 20MB \\-\\-min\\-efficiency 0.95 docker\\-archive:web.tar\n.fi\n";
    assert!(page.contains(example), "examples are not filled: {page}");
    assert!(fs::read_to_string(bed.p("pages/laminafs.1")).unwrap().contains("laminafs\\-images(1)"));
    assert!(bed.fails("man /dev/null").contains("cannot write manual pages into /dev/null"));
}
