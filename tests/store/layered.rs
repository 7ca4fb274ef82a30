//! `layers`, `whence`, `ls`, `tree`, `stat`, `cat`, `waste`, `share`.

use super::harness::{Bed, PROGRAM, closed_pipe};
use super::sample::{APP, BASE, DATA, Entry, Sample, digest, docker_archive, oci_archive, oci_layout, short};
use serde_json::{Value, json};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

/// A file with other content, one that is the same again, and one that is deleted.
pub const SECOND: &[Entry] =
    &[("etc/", ""), ("etc/os", "two!"), ("bin/", ""), ("bin/sh", "#!"), ("app/", ""), ("app/.wh.run", "")];

/// An image of three layers, in a store as `web:1`, and in containers beside it.
pub fn bed() -> (Bed, Sample) {
    let image = Sample::new(3, &[BASE, APP, SECOND]);
    let bed = Bed::with(&[(&image, &["web:1"]), (&Sample::new(9, &[BASE, DATA]), &["other:1"])]);
    bed.write("web.tar", &docker_archive(&[(&image, &["web:1"])]));
    bed.write("web-oci.tar", &oci_archive(&[(&image, &["1"])]));
    oci_layout(&bed.p("layout"), &[(&image, &["1"])]);
    (bed, image)
}

const TARGETS: [&str; 4] = ["web:1", "docker-archive:web.tar", "oci-archive:web-oci.tar:1", "oci:layout"];

/// What people try first, and get wrong.
#[test]
fn a_target_that_is_something_else_is_told_what_to_be_called() {
    let (bed, image) = bed();
    for target in ["web.tar", "./web.tar"] {
        let why = bed.fails(&format!("layers {target}"));
        assert!(why.contains(&format!("docker-archive:{target}")), "{why}");
    }
    for (target, hint) in [
        ("layout", "oci:layout"),
        ("./layout", "oci:./layout"),
        ("root", "name a mount as ./root"),
        ("wbe:1", "did you mean web:1?"),
        ("othr", "did you mean other:1?"),
        ("docker-archve:web.tar", "did you mean docker-archive:web.tar?"),
        ("docker://web", "skopeo copy docker://web"),
        ("dir:layout", "skopeo copy dir:layout"),
        ("docker-archive:layout", "name it oci:layout"),
    ] {
        let why = bed.fails(&format!("layers {target}"));
        assert!(why.contains(hint) && why.lines().count() == 1, "{target}: {why}");
    }
    let why = bed.fails("history wbe:1");
    assert_eq!(why.matches("no such image: wbe:1").count(), 1, "{why}");
    assert!(why.ends_with("did you mean web:1?\n"), "{why}");
    for (line, hint) in [
        ("history web.tar", "; bring it in with: laminafs load -i web.tar\n"),
        ("history layout", "; bring it in with: laminafs load oci:layout\n"),
        ("history docker://x", "skopeo copy docker://x oci:layout, then laminafs load oci:layout\n"),
        ("load docker://x", "skopeo copy docker://x oci:layout, then laminafs load oci:layout\n"),
        ("history containers-storage:x:1", "; bring it in with: podman save x:1 | laminafs load\n"),
        ("export docker-store:x:1", "; bring it in with: docker save x:1 | laminafs load\n"),
        ("history root", "; there is a directory, and those are mounted with --lower\n"),
    ] {
        let why = bed.fails(line);
        assert!(why.ends_with(hint), "{line}: {why}");
    }
    for image in ["web:1", "web:1@2", "docker-archive:web.tar"] {
        let why = bed.fails(&format!("diff {image}"));
        assert!(why.ends_with(&format!("laminafs diff OTHER {image}\n")), "{why}");
    }
    assert!(bed.fails("layers --platform linux/s390x web:1").contains("no image for platform linux/s390x"));
    let host = bed.json("inspect web:1")[0]["Architecture"].as_str().unwrap().to_owned();
    bed.ok(&format!("layers --platform linux/{host} web:1"));
    let output = bed.command(["report", "web:1"]).stdout(closed_pipe()).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    fs::write(bed.root().join("images/sha256").join(&image.id()[7..]), b"{").unwrap();
    let why = bed.fails(&format!("layers web@{}", image.id()));
    assert!(why.contains("is damaged") && why.contains("verify --repair"), "{why}");
}

#[test]
fn layers_say_what_they_add_hide_and_share() {
    let (bed, image) = bed();
    let lines: Vec<Vec<String>> =
        bed.ok("layers web:1").lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect();
    let id = |n: usize| short(&digest(&image.layers[n].0)).to_owned();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[1][..2], ["1".to_owned(), id(0)]);
    assert_eq!(lines[1][10], "other:1", "shared");
    for target in TARGETS {
        let document = bed.json(&format!("layers --json {target}"));
        assert_eq!(document["image"], image.id(), "{target}");
        let numbers =
            |key: &str| document["layers"].as_array().unwrap().iter().map(|l| l[key].clone()).collect::<Vec<_>>();
        assert_eq!(numbers("size"), [5, 8, 6], "{target}");
        assert_eq!(numbers("hidden"), [5, 8, 0], "{target}");
        assert_eq!(numbers("added"), [4, 2, 0], "{target}");
        assert_eq!(numbers("changed"), [0, 0, 2], "{target}");
        assert_eq!(numbers("deleted"), [0, 0, 1], "{target}");
        assert_eq!(numbers("images"), [json!(["docker.io/library/other:1"]), json!([]), json!([])], "{target}");
        assert_eq!(numbers("command"), ["COPY layer-0 /", "COPY layer-1 /", "COPY layer-2 /"]);
        assert_eq!(numbers("compressed")[0], image.layers[0].1.len());
        assert_eq!(numbers("blob")[2], digest(&image.layers[2].1));
    }
    assert_eq!(bed.json("layers --json web:1@2")["layers"].as_array().unwrap().len(), 2);
    assert_eq!(bed.json("layers --json docker-archive:web.tar@2")["layers"].as_array().unwrap().len(), 2);
    assert_eq!(bed.json("layers --json oci:layout:1@1")["layers"].as_array().unwrap().len(), 1);
    assert!(bed.fails("layers web:1@4").contains("has 3 layers, not 4"));
    assert!(bed.fails("layers docker-archive:web.tar@4").contains("has 3 layers, not 4"));
    // A number and no name.
    for target in ["docker-archive:web.tar:@2", "oci-archive:web-oci.tar:@2", "oci:layout:@2"] {
        assert_eq!(bed.json(&format!("layers --json {target}"))["layers"].as_array().unwrap().len(), 2, "{target}");
    }
    let one = Sample::new(3, &[BASE]);
    bed.write("one.tar", &docker_archive(&[(&one, &["one:1"])]));
    bed.ok("load -i one.tar");
    fs::create_dir(bed.p("dir")).unwrap();
    for target in ["one:1@2", "docker-archive:one.tar@2", "--lower dir --layer 2"] {
        let command = if target.starts_with("--") { "ls" } else { "layers" };
        let why = bed.fails(&format!("{command} {target}"));
        assert!(why.contains("has 1 layer, not 2"), "{why}");
    }
    bed.run("rmi one:1");
    assert!(bed.fails("layers nothing").contains("no writable layer and no image nothing"));
    bed.run("rmi other:1");
    let untagged = Sample::new(9, &[BASE, DATA]);
    bed.load(&[(&untagged, &[])]);
    assert_eq!(bed.json("layers --json web:1")["layers"][0]["images"], json!([untagged.id()]));
    let text = bed.ok("layers web:1");
    assert!(text.lines().nth(1).unwrap().contains(&format!(" {} ", short(&untagged.id()))), "{text}");
    assert_eq!(bed.run("layers").status.code(), Some(2));
}

#[test]
fn whence_names_the_layer_and_what_hides_the_others() {
    let (bed, _) = bed();
    for target in TARGETS {
        let document = bed.json(&format!("whence --json {target} /etc/os app/run /bin/sh /etc"));
        let paths = document["paths"].as_array().unwrap();
        let layers: Vec<&Value> = paths.iter().map(|path| &path["layer"]).collect();
        assert_eq!(layers, [&json!(3), &Value::Null, &json!(3), &json!(3)], "{target}");
        let actions = |n: usize| -> Vec<(u64, String)> {
            let touches = paths[n]["layers"].as_array().unwrap().iter();
            touches.map(|t| (t["layer"].as_u64().unwrap(), t["action"].as_str().unwrap().to_owned())).collect()
        };
        assert_eq!(actions(0), [(3, "changes_content".into()), (1, "adds".into())]);
        assert_eq!(actions(1), [(3, "deletes".into()), (2, "adds".into())]);
        assert_eq!(actions(2), [(3, "repeats".into()), (1, "adds".into())]);
        assert_eq!(paths[0]["layers"][0]["digest"], digest(b"two!"));
        assert_eq!(paths[0]["layers"][1]["hidden_by"], 3);
        assert_eq!(paths[1]["layers"][1]["hidden_how"], "deleted");
    }
    let text = bed.ok("whence web:1 /etc/os");
    assert!(text.starts_with("/etc/os: from layer 3\n"), "{text}");
    assert!(text.contains("3*") && text.contains("superseded by layer 3"), "{text}");
    let output = bed.run("whence web:1 /etc/os /no/such");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("no layer of web:1 has /no/such"));
    assert!(!output.stdout.is_empty());
    for command in ["whence", "stat", "ls", "cat"] {
        let why = bed.fails(&format!("{command} web:1 /etc/os/"));
        assert_eq!(why, "laminafs: /etc/os/: /etc/os is not a directory\n", "{command}");
    }
    assert_eq!(bed.run("whence web:1").status.code(), Some(2));
}

#[test]
fn a_parent_directory_that_is_to_blame_is_named() {
    let bed = Bed::new();
    for (path, content) in
        [("1/d/e/f", "x"), ("1/g/h", "y"), ("2/d/.wh.e", ""), ("2/g/.wh..wh..opq", ""), ("3/d/e/n", "z")]
    {
        fs::create_dir_all(bed.p(path).parent().unwrap()).unwrap();
        bed.write(path, content.as_bytes());
    }
    let text = bed.ok("whence --lower 3:2:1 /d/e/f /g/h");
    assert!(text.contains("layer 2 deletes /d/e") && text.contains("deletes /d/e\n"), "{text}");
    assert!(text.contains("/g is opaque in layer 2") && text.contains("makes /g opaque"), "{text}");
    assert_eq!(bed.ok("cat --lower 3:2:1 d/e/n"), "z");
    let hint = "is hidden since layer 2; try: laminafs whence --lower DIR[:DIR...] /d/e/f\n";
    assert!(bed.fails("cat --lower 3:2:1 d/e/f").ends_with(hint));
    // Behind a link that has taken the place of a directory.
    fs::create_dir_all(bed.p("4/lib")).unwrap();
    fs::create_dir_all(bed.p("5/usr/lib")).unwrap();
    bed.write("4/lib/gone", b"");
    std::os::unix::fs::symlink("usr/lib", bed.p("5/lib")).unwrap();
    for command in ["cat", "stat", "ls"] {
        let why = bed.fails(&format!("{command} --lower 5:4 /lib/gone"));
        assert!(why.contains("/lib/gone is hidden since layer 2"), "{why}");
    }
    bed.write("5/usr/lib/gone", b"new");
    let line = "--lower 5:4 /lib/gone /lib";
    for line in [line.to_owned(), format!("-L {line}")] {
        let text = bed.ok(&format!("whence {line}"));
        let itself = "\n/lib/gone itself, without following links: not seen in the stack\n";
        assert!(text.starts_with("/usr/lib/gone: from layer 2\n") && text.contains(itself), "{text}");
        assert!(text.contains("added; hidden: layer 2 replaces /lib\n"), "{text}");
        let document = bed.json(&format!("whence --json {line}"));
        let paths = document["paths"].as_array().unwrap();
        assert_eq!((&paths[0]["path"], &paths[0]["layer"]), (&json!("/usr/lib/gone"), &json!(2)));
        assert_eq!(paths[0]["literal"]["path"], "/lib/gone");
        let layers = paths[0]["literal"]["layers"].as_array().unwrap();
        let told = |touch: &Value| (touch["layer"].clone(), touch["action"].clone(), touch["hidden_at"].clone());
        let wanted = [(json!(2), json!("hides_parent"), Value::Null), (json!(1), json!("adds"), json!("/lib"))];
        assert_eq!(layers.iter().map(told).collect::<Vec<_>>(), wanted);
        assert_eq!(paths[1]["literal"], Value::Null, "what is seen is no hidden path");
    }
    assert!(!bed.root().exists(), "directories need no store");
}

/// Who may not read all of a layer is told what the question does not need that for, and else what is missing.
#[test]
fn what_may_not_be_read_is_an_error_where_it_is_asked_for() {
    let bed = Bed::new();
    fs::set_permissions(bed.dir(), Permissions::from_mode(0o755)).unwrap();
    for (path, content) in [
        ("1/etc/os", "one"),
        ("1/root/key", "secret"),
        ("2/root/seen", "two"),
        ("2/etc/new", "new"),
        ("3/root/later", "three"),
    ] {
        fs::create_dir_all(bed.p(path).parent().unwrap()).unwrap();
        bed.write(path, content.as_bytes());
    }
    rustix::fs::setxattr(bed.p("3/root"), "user.overlay.opaque", b"y", rustix::fs::XattrFlags::empty()).unwrap();
    std::os::unix::fs::symlink("root", bed.p("1/home")).unwrap();
    fs::set_permissions(bed.p("1/root"), Permissions::from_mode(0o700)).unwrap();
    let run = |line: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(reachable(&bed)).current_dir(bed.dir());
        let output = command.args(line.split(' ')).env("LAMINAFS_ROOT", "/nonexistent").output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    for (line, shown) in [
        ("cat --lower 2:1 /etc/os", "one"),
        ("ls --lower 2:1 /", " root\n"),
        ("ls -R --depth 1 --lower 2:1", " /root\n"),
        ("ls -R --cumulative --lower 2:1 /etc", " /etc/os\n"),
        ("ls --lower 2:1 --layer 2 /root", " seen\n"),
        ("stat --lower 2:1 /root", "directory"),
        ("tree --lower 2:1 /etc", "os  3B [1]"),
        ("tree --lower 2:1 --layer 2", "seen  3B [2]"),
        ("whence --lower 2:1 /etc/os /root /home", "/root: a directory"),
        ("ls --lower 3:2:1 /root", " later\n"),
        ("cat --lower 3:2:1 /home/later", "three"),
        ("tree --lower 3:2:1", "later  5B [3]"),
        ("ls -R --cumulative --lower 3:1", " /root/later\n"),
    ] {
        let (code, text, said) = run(line);
        assert!(code == Some(0) && said.is_empty() && text.contains(shown), "{line}: {text}{said}");
    }
    for line in [
        "ls --lower 2:1 /root",
        "ls -R --lower 2:1",
        "ls --cumulative --lower 2:1",
        "ls --lower 2:1 --layer 1 /root",
        "tree --lower 2:1",
        "stat --lower 2:1 /root/key",
        "cat --lower 2:1 /home/key",
        "cat --lower 2:1 --layer 1 /root/key",
        "whence --lower 2:1 /root/seen",
        "whence --lower 2:1 /home/key",
        "ls --lower 3:2:1 --layer 1 /root",
        "cat --lower 3:2:1 /root/key",
        "whence --lower 3:2:1 /root/later",
        "whence --lower 3:2:1 /home/later",
        "layers --lower 2:1",
        "waste --lower 2:1",
    ] {
        let (code, _, said) = run(line);
        assert!(code == Some(1) && said.contains("1/root: ") && said.contains("Permission denied"), "{line}: {said}");
    }
}

/// A copy of the program where everybody can run it.
fn reachable(bed: &Bed) -> PathBuf {
    let path = bed.p("laminafs");
    if !path.exists() {
        fs::copy(PROGRAM, &path).unwrap();
    }
    path
}

#[test]
fn views_up_to_a_layer_and_layers_alone() {
    let (bed, _) = bed();
    for target in TARGETS {
        let paths = |line: &str| -> Vec<String> {
            let document = bed.json(&format!("ls -R --json {line}"));
            let entries = document["entries"].as_array().unwrap().iter();
            entries.map(|e| format!("{}{}", e["path"].as_str().unwrap(), e["layer"])).skip(1).collect()
        };
        let top = ["/app3", "/bin3", "/bin/sh3", "/etc3", "/etc/os3"];
        assert_eq!(paths(target), top, "{target}");
        assert_eq!(paths(&format!("--layer 2 {target}")), ["/app2", "/app/run2"], "{target}");
        assert_eq!(paths(&format!("--layer 3 {target} /app")), ["/app/run3"], "a whiteout, {target}");
        assert_eq!(bed.ok(&format!("cat --layer 1 {target} /etc/os")), "one");
        assert_eq!(bed.ok(&format!("cat {target} /etc/os /bin/sh")), "two!#!");
        let stat = bed.json(&format!("stat --json {target} /etc/os"));
        assert_eq!(stat["entries"][0]["digest"], digest(b"two!"));
        assert_eq!((&stat["entries"][0]["mode"], &stat["entries"][0]["links"]), (&json!("0644"), &json!(1)));
    }
    assert_eq!(bed.ok("cat web:1@2 /app/run"), "go go go");
    assert!(bed.fails("cat web:1 /app/run").contains("laminafs whence web:1 /app/run"));
    assert!(bed.fails("cat web:1 /etc").contains("/etc is a directory"));
    let tree = bed.ok("tree web:1");
    assert!(tree.starts_with("/  6B [3]\n") && tree.contains("│   └── sh  2B [3]\n"), "{tree}");
    assert_eq!(bed.ok("tree --depth 1 --sort size web:1").lines().nth(1), Some("├── etc  4B [3]"));
    assert_eq!(bed.json("tree --json --depth 1 web:1")["tree"]["children"][2]["cumulative"], 4);
    let listed = bed.ok("ls --cumulative web:1");
    assert!(listed.lines().nth(3).unwrap().contains(" 4 ") && listed.ends_with(" etc\n"), "{listed}");
    let sorted = bed.ok("ls -R --sort size web:1");
    let first = sorted.lines().nth(1).unwrap();
    assert!(first.ends_with(" /etc") && first.contains(" 4 "), "what it is sorted by is shown: {sorted}");
}

#[test]
fn a_path_that_is_not_there_does_not_keep_the_others_from_being_told() {
    let (bed, _) = bed();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = bed.command(["cat", "web:1", "/gone", "/etc/os"]).stdout(full).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.ends_with("cannot write to standard output: No space left on device (os error 28)\n"), "{said}");
    for (command, told) in
        [("cat", "two!"), ("ls", " /etc/os\n"), ("stat", "  File: /etc/os\n"), ("stat --json", "/etc/os")]
    {
        let output = bed.run(&format!("{command} web:1 /gone /etc/os /missing"));
        let [out, said] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        assert!(output.status.code() == Some(1) && out.contains(told), "{command}: {output:?}");
        assert!(said.contains("has /gone\n") && said.contains("has /missing\n"), "{command}: {said}");
        let output = bed.run(&format!("{command} web:1 /gone"));
        assert!(output.status.code() == Some(1) && output.stdout.is_empty(), "{command}: {output:?}");
    }
}

#[test]
fn waste_has_reasons_and_limits() {
    let (bed, _) = bed();
    for target in TARGETS {
        let document = bed.json(&format!("waste --json {target}"));
        assert_eq!((&document["wasted_bytes"], &document["total_bytes"]), (&json!(13), &json!(19)), "{target}");
        let reasons = &document["reasons"];
        assert_eq!(
            (&reasons["superseded"], &reasons["identical"], &reasons["deleted"]),
            (&json!(3), &json!(2), &json!(8))
        );
        assert!((document["efficiency"].as_f64().unwrap() - 6.0 / 19.0).abs() < 1e-9);
        // os 3 of 7, sh 2 of 4, run 0 of 8, as dive counts.
        assert!((document["efficiency_dive"].as_f64().unwrap() - 5.0 / 19.0).abs() < 1e-9, "{document}");
        assert_eq!(document["paths"][0]["path"], "/app/run");
    }
    assert!(bed.ok("waste web:1").starts_with("13B of 19B wasted, efficiency 0.3158"));
    bed.ok("waste --max-waste 13B --min-efficiency 0.3 web:1");
    assert!(bed.fails("waste --max-waste 12B web:1").contains("web:1 wastes 13B, more than 12B"));
    assert!(bed.fails("waste --min-efficiency 0.95 web:1").contains("an efficiency of 0.3158, less than 0.95"));
    assert_eq!(bed.run("waste --max-waste many web:1").status.code(), Some(2));
}

#[test]
fn a_wrong_number_of_arguments_is_not_understood() {
    let (bed, _) = bed();
    for (line, sentence) in [
        ("waste web:1 x", "x is one argument too many"),
        ("layers web:1 more", "more is one argument too many"),
        ("report web:1 x", "x is one argument too many"),
        ("layers --lower a web:1", "web:1 is one argument too many"),
        ("tree web:1 a b", "b is one argument too many"),
        ("cat web:1", "no PATH given"),
        ("stat web:1", "no PATH given"),
        ("whence web:1", "no PATH given"),
        ("stat --lower a", ""),
        ("waste", "no TARGET given"),
        ("tree", "no TARGET given"),
        ("diff --stat web", "name a second one behind web"),
        ("diff --content web", "name a second one behind web"),
        ("cat", ""),
        ("stat", ""),
    ] {
        let output = bed.run(line);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}: {said}");
        assert!(said.contains(sentence) && output.stdout.is_empty(), "{line}: {said}");
    }
}

#[test]
fn images_that_share_layers() {
    let (bed, image) = bed();
    let document = bed.json("share --json");
    let layers = document["layers"].as_array().unwrap();
    assert_eq!((layers.len(), &layers[0]["diff_id"]), (1, &json!(digest(&image.layers[0].0))));
    assert_eq!(layers[0]["images"].as_array().unwrap().len(), 2);
    assert_eq!(document["saved"], layers[0]["disk"]);
    assert_eq!(bed.json("share --json web:1"), document);
    assert_eq!(bed.json("share --json web:1 other:1"), document);
    let text = bed.ok("share");
    assert!(text.contains("web:1, other:1") && text.contains("Saved by sharing: "), "{text}");
}

#[test]
fn names_and_commands_never_reach_the_terminal_raw() {
    let bed = Bed::new();
    let history = json!([{"created_by": "RUN \u{1b}[31m"}]);
    let image = Sample::with(&[&[("a\u{1b}[2J", "x")]], json!({"history": history}));
    bed.load(&[(&image, &["evil:1"])]);
    let commands =
        ["layers", "ls", "ls -R --json", "layers --json", "tree", "tree --json", "waste --json", "diff evil:1@1"];
    for command in commands {
        let text = bed.ok(&format!("{command} evil:1"));
        assert!(!text.contains('\u{1b}'), "{command}: {text}");
    }
    let output = bed.command(["whence", "evil:1", "/a\u{1b}[2J", "/\u{1b}[3J"]).output().unwrap();
    assert!(!output.stdout.contains(&0x1b) && !output.stderr.contains(&0x1b));
    for words in [["ls", "--a\u{1b}[2J"], ["stat", "evil\u{1b}[2J"]] {
        // As on a terminal.
        let output = bed.command(words).env("CLICOLOR_FORCE", "1").output().unwrap();
        assert_eq!((output.status.code(), output.stderr.contains(&0x1b)), (Some(2), false), "{words:?}");
    }
}

#[test]
fn an_image_without_layers_is_an_empty_root() {
    let image = Sample::new(3, &[]);
    let bed = Bed::with(&[(&image, &["nothing:1"])]);
    bed.write("nothing.tar", &docker_archive(&[(&image, &["nothing:1"])]));
    for target in ["nothing:1", "docker-archive:nothing.tar"] {
        let listing = bed.ok(&format!("ls -R {target}"));
        assert_eq!((listing.lines().count(), bed.ok(&format!("ls {target} /"))), (1, listing), "{target}");
        assert_eq!(bed.json(&format!("ls --json {target}"))["entries"], json!([]), "{target}");
        assert_eq!(bed.ok(&format!("tree {target}")), "/  0B\n", "{target}");
        assert_eq!(bed.json(&format!("tree --json {target}"))["tree"], Value::Null, "{target}");
        assert!(bed.ok(&format!("waste {target}")).starts_with("0B of 0B wasted"), "{target}");
        assert_eq!(bed.ok(&format!("layers {target}")).lines().count(), 1, "{target}");
        let stat = bed.ok(&format!("stat {target} /"));
        assert!(stat.starts_with("  File: /\n  Type: directory\n") && stat.contains("Layer: none"), "{stat}");
        let entry = bed.json(&format!("stat --json {target} /"))["entries"][0].clone();
        assert_eq!((&entry["path"], &entry["layer"], &entry["mode"]), (&json!("/"), &Value::Null, &json!("0755")));
        for line in ["stat {} /etc", "cat {} /etc", "whence {} /etc"] {
            let why = bed.fails(&line.replace("{}", target));
            assert!(why.contains("no layer of ") && why.contains(" has /"), "{why}");
        }
        assert!(bed.fails(&format!("ls --layer 1 {target}")).contains("has 0 layers"), "{target}");
        let page = bed.ok(&format!("report {target}"));
        assert!(page.contains(r#""nodes":[[0,""]]"#), "{target}");
        assert!(bed.ok(&format!("report --svg {target}")).ends_with("</svg>\n"), "{target}");
    }
    let other = Sample::new(3, &[APP]);
    bed.load(&[(&other, &["other:1"])]);
    assert_eq!(bed.ok("diff nothing:1 other:1"), "A /app\nA /app/run\n");
    assert_eq!(bed.ok("diff other:1 nothing:1"), "D /app\n");
}

#[test]
fn no_two_names_look_alike() {
    let odd: &[Entry] =
        &[("a b", "1"), ("a\nb", "22"), ("a\\nb", "333"), ("a\u{a0}b", "4444"), ("\u{1b}[31m\r", "55555")];
    let gone: &[Entry] = &[(".wh.a\nb", ""), (".wh.a\\nb", "")];
    let bed = Bed::with(&[(&Sample::new(3, &[odd, gone]), &["odd:1"])]);
    let ends = |text: &str| text.lines().map(|line| line.rsplit('/').next().unwrap().to_owned()).collect::<Vec<_>>();
    let all = [r"\u{1b}[31m\r", r"a\nb", "a b", r"a\\nb", r"a\u{a0}b"];
    assert_eq!(ends(&bed.ok("ls -R odd:1@1"))[1..], all);
    let shown: Vec<String> =
        bed.ok("tree odd:1@1").lines().skip(1).map(|l| l[10..].rsplit_once("  ").unwrap().0.to_owned()).collect();
    assert_eq!(shown, all);
    assert_eq!(ends(&bed.ok("diff odd:1@1 odd:1")), [r"a\nb", r"a\\nb"]);
    let waste = bed.ok("waste odd:1");
    assert!(waste.contains(r" /a\nb  ") && waste.contains(r" /a\\nb "), "{waste}");
    let output = bed.command(["whence", "odd:1", "/a\nb", "/a\\nb", "/none\u{1b}"]).output().unwrap();
    let (text, why) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(text.contains("/a\\nb: not seen") && text.contains("/a\\\\nb: not seen"), "{text}");
    assert!(why.contains(r"has /none\u{1b}"), "{why}");
    let stat = bed.command(["stat", "odd:1@1", "/a\nb"]).output().unwrap();
    assert!(String::from_utf8(stat.stdout).unwrap().starts_with("  File: /a\\nb\n"));
    assert!(bed.ok("report odd:1").contains(r#""a\\nb""#));
    let paths: Vec<Value> = bed.json("ls -R --json odd:1@1")["entries"].as_array().unwrap().clone();
    assert!(paths.iter().any(|entry| entry["path"] == "/a\nb") && paths.iter().any(|entry| entry["path"] == "/a\\nb"));
}
