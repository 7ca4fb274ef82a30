//! `diff` of two targets: lines, bytes, texts.

use super::harness::Bed;
use super::layered::bed;
use super::sample::{Entry, Sample, docker_archive};
use serde_json::json;
use std::fs;

#[test]
fn two_targets_differ_in_lines_bytes_and_texts() {
    let (bed, _) = bed();
    let expected = "C /app\nD /app/run\nC /etc\nC /etc/os\n";
    assert_eq!(bed.ok("diff web:1@2 web:1"), expected);
    assert_eq!(bed.ok("diff docker-archive:web.tar@2 oci:layout"), expected);
    assert_eq!(bed.ok("diff web:1 docker-archive:web.tar"), "");
    let stat = bed.ok("diff --stat web:1@2 web:1");
    assert!(stat.ends_with("0 added (0B), 1 changed (+1B), 1 deleted (-8B): -7B\n"), "{stat}");
    let content = bed.ok("diff --content web:1@2 docker-archive:web.tar");
    assert!(content.contains("--- a/app/run\n+++ /dev/null\n") && content.contains("\n-one\n"), "{content}");
    assert!(content.contains("\n+two!\n"), "{content}");
    for target in ["web:1", "docker-archive:web.tar", "oci:layout"] {
        assert_eq!(bed.ok(&format!("diff {target}@2 {target}@3")), expected, "{target}");
        assert_eq!(bed.ok(&format!("diff {target} {target}@2")), "C /app\nA /app/run\nC /etc\nC /etc/os\n", "{target}");
        assert_eq!(
            bed.ok(&format!("diff {target}#2 {target}")),
            bed.ok(&format!("diff {target}#2 {target}@3")),
            "{target}"
        );
        assert_eq!(bed.ok(&format!("diff {target}@1#1 {target}@1")), "", "{target}");
        for wrong in ["diff {}@4 {}", "diff {} {}@4", "diff {}@1#2 {}@1"] {
            let why = bed.fails(&wrong.replace("{}", target));
            assert!(why.contains("layer"), "{why}");
        }
    }
    let alone = bed.ok("diff web:1#1 web:1#3");
    assert_eq!(alone, "A /app\nA /app/run\nC /etc\nC /etc/os\n");
    let document = bed.json("diff --json web:1@2 web:1");
    assert_eq!(document["changes"][1]["kind"], "deleted");
    assert_eq!(document["changes"][3]["differs"], json!(["content"]));
    assert_eq!(document["changes"][3]["before"]["layer"], 1);
    fs::create_dir_all(bed.p("a")).unwrap();
}

#[test]
fn bytes_of_directories_that_files_replace_and_the_other_way_round() {
    let base: &[Entry] = &[("d/", ""), ("d/a", "12345"), ("d/b", "12"), ("f", "1234"), ("same", "x")];
    let top: &[Entry] = &[("d", "1"), ("f/", ""), ("f/x", "123")];
    let bed = Bed::with(&[(&Sample::new(3, &[base, top]), &["web:1"])]);
    bed.write("web.tar", &docker_archive(&[(&Sample::new(3, &[base, top]), &["web:1"])]));
    for target in ["web:1", "docker-archive:web.tar"] {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
        let stat: Vec<String> = bed.ok(&format!("diff --stat {target}@1 {target}")).lines().map(words).collect();
        // d had 7 bytes in all.
        let sum = "1 added (+3B), 2 changed (-10B), 0 deleted (0B): -7B";
        assert_eq!(stat, ["C -6B /d", "C -4B /f", "A +3B /f/x", sum], "{target}");
        let stat: Vec<String> = bed.ok(&format!("diff --stat {target} {target}@1")).lines().map(words).collect();
        let sum = "2 added (+7B), 2 changed (0B), 0 deleted (0B): +7B";
        assert_eq!(stat, ["C -1B /d", "A +5B /d/a", "A +2B /d/b", "C +1B /f", sum], "{target}");
    }
}

#[test]
fn texts_come_through_a_diff_as_they_are_and_names_forge_none() {
    let base: &[Entry] = &[("script", "all:\n\tmake\r\n")];
    let top: &[Entry] = &[("script", "all:\n\tmake\n\tdone\n"), ("n\n--- a/etc/passwd\n+++ b/etc/passwd", "evil\n")];
    let bed = Bed::with(&[(&Sample::new(3, &[base, top]), &["web:1"])]);
    let content = bed.ok("diff --content web:1@1 web:1");
    let forged = r#"+++ "b/n\n--- a/etc/passwd\n+++ b/etc/passwd""#;
    let expected = [
        "--- /dev/null",
        forged,
        "@@ -0,0 +1 @@",
        "+evil",
        "--- a/script",
        "+++ b/script",
        "@@ -1,2 +1,3 @@",
        " all:",
        "-\tmake\r",
        "+\tmake",
        "+\tdone",
    ];
    assert_eq!(content.split_terminator('\n').collect::<Vec<_>>(), expected);
    let (code, _, shown) = bed.on_terminal("diff --content web:1@1 web:1", "", true);
    assert!(code == Some(0) && shown.contains("\n+\tdone\r\n") && shown.contains("\n-\tmake\\r\r\n"), "{shown:?}");
}
