//! `images`, and the forms in which lists are printed.

use super::harness::{Bed, closed_pipe};
use super::sample::{APP, BASE, DATA, Sample, short};
use serde_json::{Value, json};

#[test]
fn images_are_listed_newest_first_with_a_row_for_each_name() {
    let (old, new) = (Sample::new(30, &[BASE]), Sample::new(3, &[BASE, APP]));
    let bed = Bed::with(&[(&old, &["base:1"]), (&new, &["quay.io/a/app:2", "app:latest"])]);
    let (a, b) = (old.id(), new.id());
    let (a, b) = (short(&a), short(&b));
    let expected = format!(
        "REPOSITORY      TAG       IMAGE ID       CREATED       SIZE\n\
         app             latest    {b}   3 days ago    13B\n\
         quay.io/a/app   2         {b}   3 days ago    13B\n\
         base            1         {a}   4 weeks ago   5B\n"
    );
    assert_eq!(bed.ok("images"), expected);
    assert_eq!(bed.ok("images -q"), format!("{b}\n{a}\n"));
    assert_eq!(bed.ok("images -q --no-trunc"), format!("{}\n{}\n", new.id(), old.id()));
}

#[test]
fn a_name_selects_a_repository_or_one_tag_exactly() {
    let (a, b) = (Sample::new(1, &[BASE]), Sample::new(2, &[DATA]));
    let bed = Bed::with(&[(&a, &["java:8", "java:11"]), (&b, &["javascript:1"])]);
    let names = |line: &str| {
        let text = bed.ok(line);
        let cells = text.lines().skip(1).map(|l| l.split_whitespace().take(2).collect::<Vec<_>>().join(":"));
        cells.collect::<Vec<_>>()
    };
    assert_eq!(names("images java"), ["java:11", "java:8"]);
    assert_eq!(names("images docker.io/library/java:8"), ["java:8"]);
    assert_eq!(names("images java:latest"), [""; 0]);
    assert_eq!(names("images ja"), [""; 0]);
    assert!(bed.fails("images JAVA").contains("'JAVA' is not an image name"));
}

#[test]
fn images_without_a_name_are_shown_on_request() {
    let image = Sample::new(1, &[BASE]);
    let bed = Bed::with(&[(&image, &[])]);
    assert_eq!(bed.ok("images"), "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n");
    assert_eq!(bed.ok("images -q"), "");
    let all = bed.ok("images -a --no-trunc --digests");
    let row: Vec<&str> = all.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..4], ["<none>", "<none>", &image.manifest_digest(), &image.id()]);
}

#[test]
fn objects_of_docker_are_one_a_line() {
    let image = Sample::new(3, &[BASE]);
    let bed = Bed::with(&[(&image, &["a:1", "a:2"])]);
    let text = bed.ok("images --format json");
    let rows: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(rows.len(), 2);
    let row = &rows[1];
    assert_eq!((&row["Repository"], &row["Tag"], &row["Size"]), (&json!("a"), &json!("2"), &json!("5B")));
    assert_eq!((&row["ID"], &row["CreatedSince"]), (&json!(short(&image.id())), &json!("3 days ago")));
    assert!(row["CreatedAt"].as_str().unwrap().ends_with(" +0000 UTC"), "{row}");
}

#[test]
fn the_document_has_each_image_once_with_numbers() {
    let image = Sample::new(3, &[BASE, APP]);
    let bed = Bed::with(&[(&image, &["a:1", "a:2"])]);
    let document = bed.json("images --json");
    assert_eq!(document["schema"], 1);
    let images = document["images"].as_array().unwrap();
    assert_eq!(images.len(), 1);
    let found = &images[0];
    assert_eq!(found["id"], image.id());
    assert_eq!(found["names"], json!(["docker.io/library/a:1", "docker.io/library/a:2"]));
    assert_eq!(found["manifest"], image.manifest_digest());
    assert_eq!(found["size"], 13);
    assert_eq!(found["layers"][1]["blob_size"], image.layers[1].1.len());
    assert!(found["loaded"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn forms_exclude_each_other() {
    let bed = Bed::new();
    for line in ["images -q --json", "images --json --format json", "images -q --format json", "images --format x"] {
        assert_eq!(bed.run(line).status.code(), Some(2), "{line}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let image = Sample::new(3, &[BASE]);
    let bed = Bed::with(&[(&image, &["a:1"])]);
    let output = bed.command(["images"]).stdout(closed_pipe()).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    // A full disk is one.
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = bed.command(["images"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot write to standard output: No space left"));
}
