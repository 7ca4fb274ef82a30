//! `tag` and `rmi`.

use super::harness::Bed;
use super::sample::{APP, BASE, DATA, Sample, short};

#[test]
fn names_are_given_and_moved_without_a_word() {
    let (a, b) = (Sample::new(1, &[BASE]), Sample::new(2, &[DATA]));
    let bed = Bed::with(&[(&a, &["a:1"]), (&b, &["b:1"])]);
    assert_eq!(bed.ok("tag a:1 quay.io/x/y"), "");
    assert_eq!(bed.ok(&format!("tag {} x", short(&b.id()))), "");
    assert_eq!(bed.ok("tag a:1 b:1"), "");
    let names = |image: usize| bed.json("images -a --json")["images"][image]["names"].to_string();
    assert_eq!(names(0), r#"["docker.io/library/a:1","docker.io/library/b:1","quay.io/x/y:latest"]"#);
    assert_eq!(names(1), r#"["docker.io/library/x:latest"]"#);
    assert!(bed.fails("tag nothing x").contains("no such image: nothing"));
    assert!(bed.fails("tag a:1 X").contains("'X' is not an image name"));
    assert!(bed.fails("tag a:1 oci:x").contains("is a transport"));
    assert!(bed.fails("tag a:1 sha256:abc").contains("taken for an id"));
    assert!(bed.fails("tag oci:x y").contains("laminafs load oci:x"));
    assert!(bed.fails("tag a:1@1 y").contains("leave a:1") || bed.fails("tag a:1@1 y").contains("number of layers"));
}

#[test]
fn an_image_goes_with_its_last_name() {
    let (a, b) = (Sample::new(1, &[BASE, APP]), Sample::new(2, &[BASE, DATA]));
    let bed = Bed::with(&[(&a, &["a:1", "a:2"]), (&b, &["b:1"])]);
    assert_eq!(bed.ok("rmi a:1"), "Untagged: a:1\n");
    let said = bed.ok("rmi a:2");
    let lines: Vec<&str> = said.lines().collect();
    // Its own layer goes, the shared one stays.
    assert_eq!(lines[..2], ["Untagged: a:2", &format!("Deleted: {}", a.id())]);
    assert!(lines.len() == 3 && lines[2].starts_with("Deleted: sha256:"), "{lines:?}");
    assert_eq!(bed.ok("rmi -f b:1").lines().count(), 4);
    assert_eq!(bed.ok("images -aq"), "");
}

#[test]
fn several_are_removed_and_failures_told_at_the_end() {
    let (a, b) = (Sample::new(1, &[BASE]), Sample::new(2, &[DATA]));
    let bed = Bed::with(&[(&a, &["a:1"]), (&b, &["b:1", "c:1"])]);
    let output = bed.run("rmi nothing a:1");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("Untagged: a:1\n"));
    assert!(String::from_utf8(output.stderr).unwrap().contains("no such image: nothing"));
    let by_id = format!("rmi {}", short(&b.id()));
    assert!(bed.fails(&by_id).contains("names in several repositories: b:1, c:1"));
    let output = bed.run(&format!("rmi -f nothing {}", b.id()));
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("Untagged: b:1\nUntagged: c:1\nDeleted: "));
    assert!(String::from_utf8(output.stderr).unwrap().contains("note: no such image: nothing"));
}

#[test]
fn an_image_in_use_only_loses_names() {
    let image = Sample::new(1, &[BASE]);
    let bed = Bed::with(&[(&image, &["a:1"])]);
    let store = laminafs::store::Store::open(&bed.root()).unwrap();
    store.create_writable(&store.find("a:1").unwrap().record.id, None, Some("web")).unwrap();
    let said = bed.fails("rmi a:1");
    assert!(said.contains("in use by writable layer web") && said.contains("use -f"), "{said}");
    assert_eq!(bed.ok("rmi -f a:1"), "Untagged: a:1\n");
    assert_eq!(bed.ok("images -aq --no-trunc").trim(), image.id());
}
