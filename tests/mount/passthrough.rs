//! `data=passthrough`: the kernel reads and writes the files of upper itself. What that could break: lower layers written,
//! two files behind one inode, pages and attributes that nobody invalidates, set-id bits that nobody takes away.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::harness::{Bed, Setup, exists, laminafs, passthrough, put, sh_in, text_of};
use super::os::{self, Map, open_append, open_rw};

fn setup() -> Setup {
    Setup { options: passthrough().into(), ..Setup::default() }
}

fn bed(fill: impl FnOnce(&Path)) -> Bed {
    Bed::with(setup(), |l| fill(&l[0]))
}

/// The text of a file, without the end of its last line.
fn read(path: &Path) -> String {
    super::harness::read(path).trim_end().to_owned()
}

fn requests(bed: &Bed, kind: &str) -> u64 {
    bed.stats()["requests"][kind].as_u64().unwrap()
}

/// What the kernel reads and writes through us.
fn data_requests(bed: &Bed) -> u64 {
    requests(bed, "read") + requests(bed, "write")
}

/// So many requests of data as there were, or more where nothing is passed through.
fn want_unseen(bed: &Bed, before: u64, now: u64) {
    match bed.capability("data").as_str() {
        "passthrough" => assert_eq!(before, now),
        _ => assert!(before <= now),
    }
}

fn open_read(path: PathBuf) -> File {
    File::open(path).unwrap()
}

fn rest(file: &mut File) -> String {
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn files_of_upper_are_read_and_written_without_a_request() {
    let bed = bed(|l| put(l, "lower", "lower\n"));
    fs::write(bed.p("new"), "new\n").unwrap();
    open_append(&bed.p("lower")).write_all(b"more\n").unwrap();
    let before = data_requests(&bed);
    for _ in 0..3 {
        assert_eq!(read(&bed.p("new")), "new");
        assert_eq!(read(&bed.p("lower")), "lower\nmore");
        fs::write(bed.p("new"), "new\n").unwrap();
    }
    want_unseen(&bed, before, data_requests(&bed));
    want_unseen(&bed, 0, before + requests(&bed, "flush"));
    assert_eq!(bed.capability("passthrough") == "used", passthrough() == "data=passthrough");
}

/// fuse-overlayfs 2.0 writes into the read-only layer here. The layers are compared when the bed ends.
#[test]
fn a_file_open_for_reading_in_a_lower_layer_is_not_what_is_written() {
    let bed = bed(|l| ["before", "after", "mapped", "both"].iter().for_each(|f| put(l, f, "one\n")));
    let mut reader = open_read(bed.p("before"));
    bed.sh("echo x >> before");
    assert_eq!((rest(&mut reader), read(&bed.p("before"))), ("one\nx\n".into(), "one\nx".into()));

    let mut writer = open_append(&bed.p("after"));
    assert_eq!(rest(&mut open_read(bed.p("after"))), "one\n");
    writer.write_all(b"y\n").unwrap();
    assert_eq!(rest(&mut open_read(bed.p("after"))), "one\ny\n");

    let map = Map::new(&open_read(bed.p("mapped")), 4, false, true).unwrap();
    bed.sh("printf two > mapped");
    assert_eq!(&map.read(0, 3), b"two");
    drop(map);

    // The whole time somebody has it open one way or the other.
    let mut last = open_read(bed.p("both"));
    for n in 0..20 {
        writeln!(open_append(&bed.p("both")), "{n}").unwrap();
        last = open_read(bed.p("both"));
    }
    assert_eq!(rest(&mut last).lines().count(), 21);
}

/// Read through the page cache, then written past it, then read and mapped: in both orders.
#[test]
fn pages_from_before_are_not_seen_again() {
    let old = vec![b'o'; 100_000];
    let bed = bed(|l| put(l, "f", &old));
    assert_eq!(fs::read(bed.p("f")).unwrap(), old);
    drop(Map::new(&open_read(bed.p("f")), old.len(), false, true).unwrap().read(0, old.len()));
    for round in 0..5u8 {
        let file = open_rw(&bed.p("f"));
        file.write_all_at(&[round; 5_000], 50_000).unwrap();
        drop(file);
        assert_eq!(fs::read(bed.p("f")).unwrap()[50_000..55_000], [round; 5_000]);
        let map = Map::new(&open_read(bed.p("f")), old.len(), false, true).unwrap();
        assert_eq!(map.read(50_000, 5_000), [round; 5_000]);
    }
    // While a reader of the lower file is there, writers go through the cache; after it, past it.
    let bed = self::bed(|l| put(l, "g", &old));
    let reader = open_read(bed.p("g"));
    let map = Map::new(&reader, old.len(), false, true).unwrap();
    assert_eq!(map.read(0, 1), b"o");
    open_rw(&bed.p("g")).write_all_at(b"cached", 0).unwrap();
    assert_eq!(&map.read(0, 6), b"cached");
    assert!(requests(&bed, "write") > 0);
    drop((reader, map));
    let writes = requests(&bed, "write");
    open_rw(&bed.p("g")).write_all_at(b"direct", 0).unwrap();
    want_unseen(&bed, writes, requests(&bed, "write"));
    assert_eq!(&fs::read(bed.p("g")).unwrap()[..8], b"directoo");
}

#[test]
fn attributes_follow_what_is_written() {
    let bed = bed(|l| put(l, "f", vec![1; 8192]));
    let len = |f: &str| bed.p(f).metadata().unwrap().size();
    let time = |f: &str| bed.p(f).metadata().map(|m| (m.mtime(), m.mtime_nsec())).unwrap();
    let later = || std::thread::sleep(std::time::Duration::from_millis(30));
    let mut file = open_append(&bed.p("f"));
    for n in 1..4 {
        let before = time("f");
        later();
        file.write_all(&[2; 100]).unwrap();
        assert_eq!(len("f"), 8192 + n * 100);
        assert!(time("f") > before);
    }
    drop(file);
    // Through a map, which the file system of the mount is not told of: at least as in a bare directory (tmpfs notes the
    // first store only; a mount that does not pass through notes all).
    let bare = bed.dir.join("bare");
    fs::write(&bare, [1; 8192]).unwrap();
    let (file, bare) = (open_rw(&bed.p("f")), open_rw(&bare));
    let [mut map, mut bare_map] = [&file, &bare].map(|file| Map::new(file, 4096, true, true).unwrap());
    for n in 0..3 {
        let (before, bare_before) = (time("f"), bare.metadata().unwrap().modified().unwrap());
        later();
        for map in [&mut map, &mut bare_map] {
            map.write(0, b"mapped");
            map.sync().unwrap();
        }
        let noted = bare.metadata().unwrap().modified().unwrap() > bare_before;
        assert!(time("f") > before || !noted, "store {n}");
        assert!(noted || n > 0);
    }
    let before = time("f");
    later();
    map.write(0, b"again");
    drop((map, file));
    assert_eq!(time("f"), before.max(bed.u("f").metadata().map(|m| (m.mtime(), m.mtime_nsec())).unwrap()));
    // Truncation: by opening, by descriptor, by name.
    fs::write(bed.p("f"), "abc").unwrap();
    assert_eq!(len("f"), 3);
    let file = open_rw(&bed.p("f"));
    file.set_len(9000).unwrap();
    assert_eq!((len("f"), file.metadata().unwrap().size()), (9000, 9000));
    bed.sh("truncate -s 2 f");
    assert_eq!((fs::read(bed.p("f")).unwrap(), file.metadata().unwrap().size()), (b"ab".to_vec(), 2));
    os::fallocate(&file, 0, 0, 5000).unwrap();
    assert_eq!(len("f"), 5000);
}

#[test]
fn two_who_append_do_not_overwrite_each_other() {
    let bed = bed(|l| put(l, "log", ""));
    std::thread::scope(|scope| {
        for who in ["a", "b"] {
            let path = bed.p("log");
            scope.spawn(move || {
                let mut file = open_append(&path);
                // One call each: writeln!() makes several.
                (0..500).for_each(|n| file.write_all(format!("{who}{n}\n").as_bytes()).unwrap());
            });
        }
    });
    let mut lines: Vec<String> = read(&bed.p("log")).lines().map(str::to_owned).collect();
    lines.sort();
    lines.dedup();
    assert_eq!(lines.len(), 1000);
}

#[test]
fn by_descriptor_and_by_inode_it_is_one_file() {
    let bed = bed(|l| put(l, "source", "0123456789"));
    let file = open_rw(&bed.p("source"));
    file.write_all_at(b"AB", 2).unwrap();
    let to = File::create_new(bed.p("copy")).unwrap();
    assert_eq!(rustix::fs::copy_file_range(&file, Some(&mut 0), &to, Some(&mut 1), 10).unwrap(), 10);
    assert_eq!(fs::read(bed.p("copy")).unwrap(), b"\x0001AB456789");
    to.sync_all().unwrap();
    to.write_all_at(b"x", 1 << 20).unwrap();
    assert_eq!(os::seek(&to, 0, libc::SEEK_END).unwrap(), (1 << 20) + 1);
    let (data, hole) = (os::seek(&to, 4096, libc::SEEK_DATA), os::seek(&to, 0, libc::SEEK_HOLE));
    assert!(hole.unwrap() <= 1 << 20 && data.unwrap() <= 1 << 20);
    os::fallocate(&to, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, 0, 4096).unwrap();
    assert_eq!(fs::read(bed.p("copy")).unwrap()[..11], [0; 11]);
}

#[test]
fn open_files_outlive_their_names() {
    let mut bed = bed(|l| ["gone", "replaced", "moved"].iter().for_each(|f| put(l, f, "lower")));
    let gone = open_rw(&bed.p("gone"));
    fs::remove_file(bed.p("gone")).unwrap();
    gone.write_all_at(b"after", 0).unwrap();
    let mut text = [0; 5];
    gone.read_exact_at(&mut text, 0).unwrap();
    assert_eq!((&text, gone.metadata().unwrap().nlink()), (b"after", 0));

    let old = open_rw(&bed.p("replaced"));
    fs::write(bed.p("over"), "new").unwrap();
    fs::rename(bed.p("over"), bed.p("replaced")).unwrap();
    old.write_all_at(b"OLD", 0).unwrap();
    assert_eq!(read(&bed.p("replaced")), "new");

    let moved = open_rw(&bed.p("moved"));
    fs::rename(bed.p("moved"), bed.p("elsewhere")).unwrap();
    moved.write_all_at(b"L", 0).unwrap();
    assert_eq!(read(&bed.p("elsewhere")), "Lower");
    drop((gone, old, moved));
    bed.remount();
    assert_eq!(read(&bed.p("elsewhere")), "Lower");
    assert!(!exists(&bed.p("gone")));
}

#[test]
fn names_of_one_file_are_one_file() {
    let bed = bed(|l| {
        put(l, "a", "0123456789");
        fs::hard_link(l.join("a"), l.join("b")).unwrap();
    });
    let mut reader = open_read(bed.p("a"));
    let writer = open_rw(&bed.p("b"));
    writer.write_all_at(b"B", 1).unwrap();
    assert_eq!(rest(&mut reader), "0B23456789");
    drop((reader, writer));
    let (a, b) = (open_rw(&bed.p("a")), open_rw(&bed.p("b")));
    a.write_all_at(b"a", 0).unwrap();
    b.write_all_at(b"b", 9).unwrap();
    assert_eq!((read(&bed.p("a")), read(&bed.p("b"))), ("aB2345678b".into(), "aB2345678b".into()));
}

#[test]
fn a_descriptor_from_before_a_copy_up_sees_the_copy() {
    let bed = bed(|l| put(l, "f", "lower"));
    let mut before = open_read(bed.p("f"));
    fs::set_permissions(bed.p("f"), fs::Permissions::from_mode(0o640)).unwrap();
    assert!(exists(&bed.u("f")));
    open_rw(&bed.p("f")).write_all_at(b"UPPER", 0).unwrap();
    assert_eq!((rest(&mut before), read(&bed.p("f"))), ("UPPER".into(), "UPPER".into()));
}

/// Metadata in upper, data in a lower layer (kernel overlayfs makes such files with `metacopy=on`).
#[test]
fn a_file_of_metadata_is_completed_before_it_is_written() {
    let mut bed = Bed::unmounted(setup(), |l| put(&l[0], "f", "data below"));
    let mounted =
        format!("lowerdir={},upperdir={},workdir={}", bed.lowers[0].display(), bed.upper.display(), bed.work.display());
    sh_in(
        &bed.dir,
        &format!("mount -t overlay o -o metacopy=on,redirect_dir=on,index=on,{mounted} m && chmod 640 m/f; umount m"),
    );
    assert!(os::xattr_names(&bed.u("f")).iter().any(|name| name == "trusted.overlay.metacopy"));
    bed.mount();
    let mut reader = open_read(bed.p("f"));
    open_append(&bed.p("f")).write_all(b" and above").unwrap();
    assert_eq!(rest(&mut reader), "data below and above");
    drop(reader);
    open_append(&bed.p("f")).write_all(b"!").unwrap();
    assert_eq!(read(&bed.p("f")), "data below and above!");
    assert_eq!(read(&bed.u("f")), "data below and above!");
}

#[test]
fn without_an_upper_directory_lower_files_are_passed_through_and_stay_as_they_are() {
    let bed = Bed::with(Setup { no_upper: true, ..setup() }, |l| put(&l[0], "f", "content"));
    assert_eq!(read(&bed.p("f")), "content");
    want_unseen(&bed, 0, data_requests(&bed));
    let reader = open_read(bed.p("f"));
    assert_eq!(os::errno(File::options().write(true).open(bed.p("f"))), libc::EROFS);
    assert_eq!(os::errno(os::open_flags(&bed.p("f"), libc::O_RDONLY | libc::O_TRUNC)), libc::EROFS);
    // Also when somebody takes the flag off the mount.
    sh_in(&bed.dir, &format!("mount -o remount,rw {} || :", bed.m.display()));
    assert_eq!(os::errno(File::options().append(true).open(bed.p("f"))), libc::EROFS);
    drop(reader);
    assert_eq!(os::errno(File::options().append(true).open(bed.p("f"))), libc::EROFS);
}

#[test]
fn owners_in_attributes() {
    let setup = Setup { options: format!("{},xattr_permissions=2", passthrough()), ..Setup::default() };
    let bed = Bed::with(setup, |l| put(&l[0], "f", "lower"));
    bed.sh("echo more >> f; echo new > n; chown 1000:1000 n; chmod 6755 n; echo x >> n");
    assert_eq!((read(&bed.p("f")), read(&bed.p("n"))), ("lowermore".into(), "new\nx".into()));
    let m = bed.p("n").metadata().unwrap();
    assert_eq!((m.uid(), m.gid(), m.mode() & 0o7777), (1000, 1000, 0o6755));
    bed.sh("chmod 6777 n");
    bed.sh_ok_as(2000, 2000, "echo y >> n");
    assert_eq!(bed.p("n").metadata().unwrap().mode() & 0o7777, 0o777);
}

/// No file that was deleted is kept because the kernel might open it again.
#[test]
fn space_of_deleted_files_is_given_back() {
    let bed = bed(|l| put(l, "f", "x"));
    let inodes = || bed.stats()["known_inodes"].as_u64().unwrap();
    let before = inodes();
    for n in 0..50 {
        let path = bed.p(&format!("n{n}"));
        fs::write(&path, vec![7; 4096]).unwrap();
        drop(open_read(path.clone()));
        fs::remove_file(path).unwrap();
    }
    super::harness::until("deleted files are forgotten", super::harness::PATIENCE, || inodes() <= before);
    assert_eq!(bed.stats()["pinned_descriptors"], 0);
}

#[test]
fn what_it_needs_is_said() {
    let bed = Bed::unmounted(Setup::default(), |_| ());
    let layers = bed.option_string();
    let said = |options: &str| {
        let output = laminafs(["mount", "-o", &format!("{layers},{options}"), bed.m.to_str().unwrap()]);
        assert!(!output.status.success());
        text_of(output.stderr)
    };
    assert!(said("data=passthrough,writeback=1").contains("exclude each other"));
    assert!(said("data=direct").contains("use auto, cache or passthrough"));
    let namespace = bed.dir.join("said");
    let program = super::harness::PROGRAM;
    let mount = format!("{program} mount -o {layers},data=passthrough {} 2> {}", bed.m.display(), namespace.display());
    sh_in(&bed.dir, &format!("unshare -Urm sh -c '{mount}' || :"));
    assert!(read(&namespace).contains("needs root in the initial user namespace"), "{}", read(&namespace));
    assert!(super::harness::mount_line(&bed.m).is_none());
}
