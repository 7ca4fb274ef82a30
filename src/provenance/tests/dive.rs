//! The score of dive, worked out by hand after its code (wagoodman/dive, `efficiency.go`, `file_tree.go`).

use super::sources;
use tar::{Builder, EntryType, Header};

/// Path and content: of directories the path ends with `/`; `=` before a path makes a hard link to it.
fn tar_of(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (path, content) in entries {
        let mut header = Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(0);
        if let Some(target) = content.strip_prefix('=') {
            header.set_entry_type(EntryType::Link);
            builder.append_link(&mut header, path, target).unwrap();
            continue;
        }
        header.set_entry_type(if path.ends_with('/') { EntryType::Directory } else { EntryType::Regular });
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, path, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// The score of an image as its archive has it.
fn score(layers: &[&[(&str, &str)]]) -> f64 {
    let tars: Vec<Vec<u8>> = layers.iter().map(|entries| tar_of(entries)).collect();
    let dir = tempfile::tempdir().unwrap();
    sources::archive(dir.path(), &tars).waste().unwrap().efficiency_dive
}

#[track_caller]
fn assert_score(layers: &[&[(&str, &str)]], part: f64, whole: f64) {
    let found = score(layers);
    assert!((found - part / whole).abs() < 1e-12, "{found} instead of {part}/{whole} = {}", part / whole);
}

const TEN: &str = "0123456789";

#[test]
fn the_entry_with_the_data_of_a_file_has_its_length() {
    // z 10; a 0 and 4.
    assert_score(&[&[("z", TEN), ("a", "=z")], &[("a", "four")]], 10.0, 14.0);
    // z 10 and 4; a 0.
    assert_score(&[&[("z", TEN), ("a", "=z")], &[("z", "four")]], 4.0, 14.0);
    // The link comes first in the archive: z 10; a 0 and 4.
    assert_score(&[&[("a", "=z"), ("z", TEN)], &[("a", "four")]], 10.0, 14.0);
    // What had the data is replaced: z 4; a 0.
    assert_score(&[&[("z", TEN), ("a", "=z"), ("z", "four")]], 4.0, 4.0);
    // A link to a file below is an entry without data: z 10; a 4 and 0.
    assert_score(&[&[("z", TEN), ("a", "four")], &[("a", "=z")]], 10.0, 14.0);
}

#[test]
fn markers_of_opaque_directories_are_not_known() {
    let base: &[(&str, &str)] = &[("d", "ddd")];
    let first: &[(&str, &str)] = &[("d/", ""), ("d/f", TEN)];
    let opaque: &[(&str, &str)] = &[("d/", ""), ("d/.wh..wh..opq", ""), ("d/g", "fives")];
    // d 3, and 15 as f and g are deleted; f 10; g 5.
    assert_score(&[base, first, opaque, &[(".wh.d", "")]], 18.0, 33.0);
    // A directory with nothing but the marker is a leaf: d 3 and 0.
    assert_score(&[base, &[("d/", ""), ("d/.wh..wh..opq", "")]], 0.0, 3.0);
}

#[test]
fn a_whiteout_of_nothing_ends_the_visit_of_its_layer() {
    let base: &[(&str, &str)] = &[("a", TEN), ("b", "fives")];
    // c -1; a 10, and not 4, as .wh.c comes before a; b 5.
    assert_score(&[base, &[(".wh.c", ""), ("a", "four")]], 14.0, 15.0);
    // +x comes before .wh.c: +x 4.
    assert_score(&[base, &[(".wh.c", ""), ("+x", "four"), ("a", "four")]], 18.0, 19.0);
    // The length that c gets later counts: c 2.
    assert_score(&[base, &[(".wh.c", "")], &[("c", "cc")]], 17.0, 17.0);
    // The next layer is visited, and what was not is there for it all the same: a 10 and 0, b 5, c -1, n 0.
    assert_score(&[base, &[(".wh.c", ""), ("n", "four")], &[(".wh.a", ""), (".wh.n", "")]], 4.0, 15.0);
    // In the lowest layer nothing is visited after it, and nothing at all is 1.
    assert_score(&[&[(".wh.c", ""), ("a", TEN)]], 1.0, 1.0);
    assert_score(&[&[(".wh.c", ""), ("a", TEN)], &[("b", TEN)]], 9.0, 10.0);
}

#[test]
fn only_what_an_entry_describes_is_a_directory() {
    let base: &[(&str, &str)] = &[("d", "ddd")];
    // d 3 and 10; f 10.
    assert_score(&[base, &[("d/", ""), ("d/f", TEN)], &[(".wh.d", "")]], 13.0, 23.0);
    // d 3 and 0; f 10.
    assert_score(&[base, &[("d/f", TEN)], &[(".wh.d", "")]], 10.0, 13.0);
    // The entry of a layer below does not help: d 3 and 0; f 10; g 5.
    assert_score(&[base, &[("d/", ""), ("d/f", TEN)], &[("d/g", "fives")], &[(".wh.d", "")]], 15.0, 18.0);
}

#[test]
fn what_is_in_a_directory_stays_when_a_file_takes_its_place() {
    let first: &[(&str, &str)] = &[("d/", ""), ("d/f", TEN)];
    // d 4; f 10 and, as it is there still, 0.
    assert_score(&[first, &[("d", "four")], &[("d/.wh.f", "")]], 4.0, 14.0);
    // It is a directory again, and all of it is deleted: d 4, and f with g 15; f 10; g 5.
    assert_score(&[first, &[("d", "four")], &[("d/", ""), ("d/g", "fives")], &[(".wh.d", "")]], 19.0, 34.0);
}
