//! The commands of the README's section "Look into an image", and the examples in the help of the inspecting commands and in
//! their manual pages: run as they are written. Needs root and `/dev/fuse`, as the mount tests do.

use super::harness::{Bed, PROGRAM};
use super::layered::SECOND;
use super::mounts::Mounts;
use super::sample::{APP, BASE, DATA, Entry, Sample, docker_archive, oci_layout};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const COMMANDS: [&str; 11] =
    ["layers", "whence", "ls", "tree", "stat", "cat", "waste", "diff", "share", "report", "ui"];

/// Everything that the examples name: images `debian:11`, `debian:12`, `web` and `web:2`, archives and layouts of them,
/// a writable layer `web`, directories.
fn bed() -> Mounts {
    let library = "x".repeat(20_000);
    let base: &[Entry] = &[
        ("bin/", ""),
        ("bin/sh", "#!"),
        ("etc/", ""),
        ("etc/os-release", "NAME=Debian\n"),
        ("etc/passwd", "root\n"),
        ("etc/shadow", "root:*\n"),
        ("usr/", ""),
        ("usr/lib/", ""),
        ("usr/lib/libc.so", &library),
    ];
    let middle: &[Entry] = &[("etc/", ""), ("etc/os-release", "NAME=Debian 12\n"), ("usr/", ""), ("usr/lib/", "")];
    let top: &[Entry] =
        &[("etc/", ""), ("etc/.wh.shadow", ""), ("usr/", ""), ("usr/lib/", ""), ("usr/lib/new.so", "new")];
    let bed = Mounts::new();
    let debian = Sample::new(2, &[base, middle, top]);
    let web = Sample::new(1, &[base, middle, &[("usr/", ""), ("usr/web", "web")]]);
    bed.load(&[
        (&debian, &["debian:12"]),
        (&Sample::new(9, &[base]), &["debian:11"]),
        (&web, &["web:latest", "web:2"]),
    ]);
    for (file, image, name) in [
        ("debian.tar", &debian, "debian:12"),
        ("web.tar", &web, "web:2"),
        ("old.tar", &debian, "web:1"),
        ("new.tar", &web, "web:2"),
    ] {
        fs::write(bed.p(file), docker_archive(&[(image, &[name])])).unwrap();
    }
    oci_layout(&bed.p("layout"), &[(&web, &["web"])]);
    bed.ok("mount --name web debian:12 m");
    bed.write("m/added", "added");
    bed.ok("umount m");
    for dir in ["top", "base"] {
        fs::create_dir(bed.p(dir)).unwrap();
        bed.write(&format!("{dir}/{dir}"), "");
    }
    bed
}

/// Has a shell run a line.
fn shell(bed: &Bed, line: &str) -> Output {
    let here = Path::new(PROGRAM).parent().unwrap().display();
    let path = format!("{here}:{}", std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash");
    shell.args(["-e", "-o", "pipefail", "-c", line]).current_dir(bed.dir()).stdin(Stdio::null());
    shell.envs([("PATH", path.as_str()), ("TZ", "UTC")]).env("LAMINAFS_ROOT", bed.root());
    shell.output().unwrap()
}

/// What a path for jq(1) finds in a document: names and `[]`, as in `.layers[].size`; the examples need no more.
fn select<'a>(document: &'a Value, path: &str) -> Vec<&'a Value> {
    let mut found = vec![document];
    for part in path.strip_prefix('.').unwrap().split('.') {
        let name = part.strip_suffix("[]").unwrap_or(part);
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{path}: not understood here");
        if !name.is_empty() {
            found = found.into_iter().map(|value| &value[name]).collect();
        }
        if part.ends_with("[]") {
            found = found.into_iter().flat_map(|value| value.as_array().unwrap()).collect();
        }
    }
    found
}

/// Runs a line but for jq behind it, which would find something in everything that the line says.
fn run_for_jq(bed: &Bed, line: &str, command: &str, arguments: &str) {
    let output = shell(bed, command);
    assert!(output.status.success() && output.stderr.is_empty(), "{line}: {output:?}");
    let document = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{line}: {e}"));
    let found = select(&document, arguments.trim_start_matches("-r ").trim_matches('\''));
    assert!(!found.is_empty() && !found.contains(&&Value::Null), "{line}: {found:?} in {document}");
}

/// Runs a line, which must succeed and print something, to its file if it names one.
fn run(bed: &Bed, line: &str) {
    if let Some((command, arguments)) = line.split_once(" | jq ") {
        return run_for_jq(bed, line, command, arguments);
    }
    if line.starts_with("laminafs ui ") {
        let (code, _, shown) = bed.on_terminal(line.strip_prefix("laminafs ").unwrap(), "q", true);
        // What it shows is tested in tmux (tests/tier2/ui.py); here it takes the whole screen and gives it back.
        assert!(code == Some(0) && shown.contains("[?1049h") && shown.contains("[?1049l"), "{line}: {shown:?}");
        return;
    }
    let output = shell(bed, line);
    assert!(output.status.success() && output.stderr.is_empty(), "{line}: {output:?}");
    let words: Vec<&str> = line.split(' ').collect();
    let file = words.iter().position(|word| ["-o", ">"].contains(word)).map(|at| words[at + 1]);
    match file {
        Some(file) => assert!(fs::metadata(bed.p(file)).unwrap().len() > 500, "{line}"),
        None => assert!(!output.stdout.is_empty(), "{line} prints nothing"),
    }
}

fn section(title: &str) -> String {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let (_, rest) = readme.split_once(&format!("\n## {title}\n")).unwrap();
    rest.split("\n## ").next().unwrap().to_owned()
}

#[test]
fn the_readme_looks_into_an_image() {
    let (bed, text) = (bed(), section("Look into an image"));
    let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    let commands: Vec<&&str> = lines.iter().filter(|line| line.starts_with("laminafs ")).collect();
    assert!(commands.len() >= 8, "{commands:?}");
    commands.iter().for_each(|line| run(&bed, line));
}

/// What the README says that a command prints is what it prints.
#[test]
fn the_readme_shows_what_is_printed() {
    let bed = Bed::with(&[
        (&Sample::new(3, &[BASE, APP, SECOND]), &["web:1"]),
        (&Sample::new(9, &[BASE, DATA]), &["other:1"]),
    ]);
    let text = section("Look into an image");
    let mut shown = 0;
    for block in text.split("\n    $ ").skip(1) {
        let (command, rest) = block.split_once('\n').unwrap();
        // Up to the next line that is not indented; empty ones in between belong to it.
        let end =
            rest.lines().take_while(|line| line.is_empty() || line.starts_with("    ")).collect::<Vec<_>>().join("\n");
        let expected: Vec<&str> =
            end.trim_end().lines().map(|line| line.strip_prefix("    ").unwrap_or(line)).collect();
        let output = shell(&bed, command);
        assert!(output.stderr.is_empty(), "{command}: {output:?}");
        let printed = String::from_utf8(output.stdout).unwrap();
        assert_eq!(printed.lines().map(str::trim_end).collect::<Vec<_>>(), expected, "{command}");
        shown += 1;
    }
    assert_eq!(shown, 1);
}

/// The examples of a help text.
fn examples(help: &str) -> Vec<String> {
    let (_, rest) = help.split_once("\nExamples:\n").unwrap();
    rest.lines().map_while(|line| line.strip_prefix("  ")).map(str::to_owned).collect()
}

#[test]
fn examples_in_the_help_run_as_they_are_written() {
    let bed = bed();
    for command in COMMANDS {
        let examples = examples(&bed.ok(&format!("{command} --help")));
        assert!(examples.len() >= 2, "{command}: {examples:?}");
        examples.iter().for_each(|line| run(&bed, line));
    }
}

/// Those of the other commands are not all for the images here.
#[test]
fn what_the_help_has_jq_look_for_is_there() {
    let bed = bed();
    for command in ["df", "images", "inspect"] {
        let examples = examples(&bed.ok(&format!("{command} --help")));
        let lines: Vec<_> = examples.iter().filter(|line| line.contains(" | jq ")).collect();
        assert_eq!(lines.len(), 1, "{command}: {examples:?}");
        run(&bed, lines[0]);
    }
}

/// The manual pages have the same examples, as `man` shows them.
#[test]
fn manual_pages_have_the_examples_of_the_help() {
    let bed = Bed::new();
    bed.ok("man pages");
    for command in COMMANDS {
        let page = fs::read_to_string(bed.p(&format!("pages/laminafs-{command}.1"))).unwrap();
        let plain = page
            .replace("\\-", "-")
            .replace("\\&", "")
            .replace("\\(aq", "'")
            .replace("\\*(Aq", "'")
            .replace("\\\\", "\\");
        for line in examples(&bed.ok(&format!("{command} --help"))) {
            assert!(plain.contains(&line), "{line} is not in the page of {command}: {plain}");
        }
    }
}
