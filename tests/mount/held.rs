//! A lower file that somebody holds while it is changed through the mount: the layer stays as it is, and the holder sees
//! the new data.

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::process::Stdio;

use super::harness::{Bed, ino, put, read};
use super::os::{self, Map, errno, open_append, open_rw};

fn bed() -> Bed {
    Bed::new(|l| put(l, "f", "the old data".repeat(1000)))
}

/// Every way of changing, with what the holder must see at the beginning of the file afterwards.
type Change = (&'static str, fn(&Bed), &'static [u8], u64);

const CHANGES: [Change; 7] = [
    ("write", |b| open_rw(&b.p("f")).write_all_at(b"NEW", 4).unwrap(), b"the NEW data", 12_000),
    ("append", |b| open_append(&b.p("f")).write_all(b"more").unwrap(), b"the old data", 12_004),
    ("truncate", |b| open_rw(&b.p("f")).set_len(12).unwrap(), b"the old data", 12),
    (
        "rename and write",
        |b| {
            fs::rename(b.p("f"), b.p("g")).unwrap();
            open_rw(&b.p("g")).write_all_at(b"NEW", 4).unwrap();
        },
        b"the NEW data",
        12_000,
    ),
    (
        "link and write",
        |b| {
            fs::hard_link(b.p("f"), b.p("g")).unwrap();
            open_rw(&b.p("g")).write_all_at(b"NEW", 4).unwrap();
        },
        b"the NEW data",
        12_000,
    ),
    (
        "chmod and write",
        |b| {
            fs::set_permissions(b.p("f"), Permissions::from_mode(0o600)).unwrap();
            open_rw(&b.p("f")).write_all_at(b"NEW", 4).unwrap();
        },
        b"the NEW data",
        12_000,
    ),
    ("rewrite", |b| fs::write(b.p("f"), "all of it is new").unwrap(), b"all of it is", 16),
];

#[test]
fn open_for_reading() {
    for (what, change, want, len) in CHANGES {
        let bed = bed();
        let file = File::open(bed.p("f")).unwrap();
        let number = file.metadata().unwrap().ino();
        let mut buffer = [0; 12];
        file.read_exact_at(&mut buffer, 0).unwrap();
        change(&bed);
        file.read_exact_at(&mut buffer, 0).unwrap();
        assert_eq!(buffer, want, "{what}");
        let m = file.metadata().unwrap();
        assert_eq!((m.len(), m.ino()), (len, number), "{what}");
        bed.drop_caches();
        file.read_exact_at(&mut buffer, 0).unwrap();
        assert_eq!(buffer, want, "{what}: not from the cache");
    }
}

#[test]
fn mapped() {
    for (what, change, want, len) in CHANGES {
        let bed = bed();
        let file = File::open(bed.p("f")).unwrap();
        let shared = Map::new(&file, 12_000, false, true).unwrap();
        let private = Map::new(&file, 12_000, false, false).unwrap();
        assert_eq!((shared.read(0, 12), private.read(4090, 3)), (b"the old data".to_vec(), shared.read(4090, 3)));
        drop(file);
        change(&bed);
        assert_eq!(shared.read(0, 12), want, "{what}: shared");
        assert_eq!(private.read(0, 12), want, "{what}: private, not written");
        if len >= 12_000 {
            assert_eq!(shared.read(11_996, 4), b"data", "{what}: the end");
        }
    }
}

/// The shell's way: `exec 7<f; echo x >>f`, the reader goes on behind what was there.
#[test]
fn a_shell_follows_a_log() {
    let bed = Bed::new(|l| put(l, "log", "one\n"));
    let shown = bed
        .sh("exec 7<log; read -r a <&7; echo two >>log; read -r b <&7; echo three >>log; read -r c <&7; echo $a $b $c");
    assert_eq!(shown, "one two three");
}

/// fuse-overlayfs defect A1: a reader's descriptor led writers to the lower file.
#[test]
fn writers_after_readers() {
    let bed = Bed::new(|l| put(l, "f", "lower"));
    bed.sh("exec 3<f; echo X >f; cat f >/dev/null; truncate -s 1 f; fallocate -l 100 f; printf Y >f");
    // That the lower file is as it was is looked at when the bed goes.
    assert_eq!(read(&bed.p("f")), "Y");
}

/// Written through a shared mapping while another one reads.
#[test]
fn mappings_see_each_other_across_copy_up() {
    let bed = bed();
    let reader = Map::new(&File::open(bed.p("f")).unwrap(), 12_000, false, true).unwrap();
    assert_eq!(reader.read(5000, 3), "the old data".repeat(1000).as_bytes()[5000..5003]);
    let file = open_rw(&bed.p("f"));
    let mut writer = Map::new(&file, 12_000, true, true).unwrap();
    writer.write(5000, b"!!!");
    assert_eq!(reader.read(5000, 3), b"!!!");
    writer.sync().unwrap();
    file.write_all_at(b"???", 6000).unwrap();
    assert_eq!(reader.read(6000, 3), b"???");
    assert_eq!(&fs::read(bed.u("f")).unwrap()[5000..5003], b"!!!");
}

/// A running program cannot be written (ETXTBSY), but replaced, and goes on running.
#[test]
fn executing() {
    let bed = Bed::new(|l| {
        fs::copy("/usr/bin/cat", l.join("cat")).unwrap();
        fs::hard_link(l.join("cat"), l.join("cat2")).unwrap();
    });
    let mut child = std::process::Command::new(bed.p("cat"));
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut say = |text: &[u8]| {
        child.stdin.as_mut().unwrap().write_all(text).unwrap();
        let mut heard = vec![0; text.len()];
        child.stdout.as_mut().unwrap().read_exact(&mut heard).unwrap();
        assert_eq!(heard, text);
    };
    say(b"first");
    assert_eq!(errno(fs::OpenOptions::new().write(true).open(bed.p("cat"))), libc::ETXTBSY);
    fs::set_permissions(bed.p("cat"), Permissions::from_mode(0o700)).unwrap();
    fs::hard_link(bed.p("cat"), bed.p("cat3")).unwrap();
    assert_eq!(ino(&bed.p("cat2")), ino(&bed.p("cat")));
    bed.drop_caches();
    say(b"copied up");
    fs::rename(bed.p("cat"), bed.p("moved")).unwrap();
    say(b"moved");
    fs::write(bed.p("new"), "#!/bin/sh\necho new").unwrap();
    fs::rename(bed.p("new"), bed.p("moved")).unwrap();
    fs::remove_file(bed.p("cat2")).unwrap();
    fs::remove_file(bed.p("cat3")).unwrap();
    bed.drop_caches();
    say(b"deleted");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(read(&bed.p("moved")), "#!/bin/sh\necho new");
}

/// Held and deleted, then something new under its name: two files.
#[test]
fn deleted_and_made_again() {
    let bed = bed();
    let held = File::open(bed.p("f")).unwrap();
    fs::remove_file(bed.p("f")).unwrap();
    fs::write(bed.p("f"), "another file").unwrap();
    let mut buffer = [0; 12];
    held.read_exact_at(&mut buffer, 0).unwrap();
    assert_eq!(&buffer, b"the old data");
    assert_eq!(held.metadata().unwrap().len(), 12_000);
    assert_ne!(held.metadata().unwrap().ino(), ino(&bed.p("f")));
    bed.drop_caches();
    held.read_exact_at(&mut buffer, 11_988).unwrap();
    assert_eq!(&buffer, b"the old data");
}

/// A descriptor from before its directory was moved.
#[test]
fn held_in_a_moved_directory() {
    let bed = Bed::new(|l| put(l, "a/b/f", "content"));
    let held = open_rw(&bed.p("a/b/f"));
    fs::rename(bed.p("a"), bed.p("z")).unwrap();
    held.write_all_at(b"CONTENT", 0).unwrap();
    assert_eq!(read(&bed.p("z/b/f")), "CONTENT");
    fs::rename(bed.p("z/b"), bed.p("b")).unwrap();
    held.set_len(3).unwrap();
    assert_eq!(read(&bed.p("b/f")), "CON");
    os::set_xattr(&bed.p("b/f"), "user.x", b"y").unwrap();
    assert_eq!(held.metadata().unwrap().nlink(), 1);
}
