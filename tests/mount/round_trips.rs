//! How often the kernel has to ask. A request costs more than all that the daemon does for it, so these numbers are what
//! speed is made of, and they are the same on every machine.
//!
//! Two of them follow from the kernel, not from us: a directory that was listed and a file that was read through a
//! request have lost their access time in its cache, so that the next `stat` asks; and so has a directory in which
//! something changed, whose permissions are looked at before the next change.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

use super::harness::{Bed, Setup, only_one_drops_caches, put};
use super::os;

/// What the kernel asks while `act` runs, the asking for it left out.
fn requests(bed: &Bed, act: impl FnOnce()) -> BTreeMap<String, u64> {
    let count = || -> BTreeMap<String, u64> { serde_json::from_value(bed.stats()["requests"].clone()).unwrap() };
    let before = count();
    act();
    let mut asked = count();
    asked.retain(|kind, count| {
        *count -= before[kind];
        // A FORGET may come at any time later. The counters are read through `getxattr`.
        *count > 0 && kind != "forget" && kind != "getxattr"
    });
    asked
}

/// How many extended attributes the kernel asks for.
fn attributes_read(bed: &Bed, act: impl FnOnce()) -> u64 {
    let count = || bed.stats()["requests"]["getxattr"].as_u64().unwrap();
    // The looking itself counts.
    let looking = {
        let before = count();
        count() - before
    };
    let before = count();
    act();
    count() - before - looking
}

/// What the counts here stand on. Where the kernel lacks one of them (or a test has it taken for missing) it asks more.
const NEEDED: [&str; 6] =
    ["do_readdirplus", "no_open_support", "no_opendir_support", "handle_killpriv_v2", "posix_acl", "max_pages"];

fn has_all(bed: &Bed) -> bool {
    NEEDED.iter().all(|name| bed.capability(name) == "used")
}

fn want(bed: &Bed, asked: &BTreeMap<String, u64>, wanted: &[(&str, u64)]) {
    let wanted: BTreeMap<String, u64> = wanted.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect();
    match has_all(bed) {
        true => assert_eq!(*asked, wanted),
        false => assert!(asked.values().sum::<u64>() >= wanted.values().sum(), "{asked:?}, with all {wanted:?}"),
    }
}

/// `lstat` of everything below, listed before.
fn walk(dir: &Path) -> u64 {
    let mut directories = 1;
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    for path in names {
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            directories += walk(&path);
        }
    }
    directories
}

/// 31 directories from two layers, one of them with 2,000 names.
fn tree() -> Bed {
    let bed = Bed::layers(2, |l| {
        for d in 0..20 {
            for f in 0..20 {
                put(&l[d % 2], &format!("d{d}/f{f}"), "content");
            }
        }
        for d in 0..10 {
            put(&l[0], &format!("both{d}/above"), "1");
            put(&l[1], &format!("both{d}/below"), "2");
        }
        // From one layer.
        (0..2_000).for_each(|f| put(&l[0], &format!("d0/many{f:04}"), ""));
    });
    // What the kernel learns once for all.
    fs::metadata(bed.p("d1/f1")).unwrap();
    assert_eq!(fs::read(bed.p("d1/f1")).unwrap(), b"content");
    bed
}

#[test]
fn a_walk_asks_for_listings_and_the_next_one_for_directories_only() {
    let _alone = only_one_drops_caches();
    let bed = tree();
    let mut directories = 0;
    let first = requests(&bed, || directories = walk(&bed.m));
    assert_eq!(directories, 31);
    // Attributes come with the names: no lookup, also not in the directory that takes several requests. The end of each
    // directory is one more request.
    let kinds: Vec<_> = first.keys().map(String::as_str).filter(|kind| *kind != "opendir").collect();
    let listings = if bed.capability("do_readdirplus") == "used" { "readdirplus" } else { "readdir" };
    // Linux 6.18 asks for more than a page at a time in large directories, Linux 6.1 does not.
    let most = if os::kernel() < (6, 18) { 160 } else { 100 };
    assert!((62..most).contains(&first[listings]), "{first:?}");
    if has_all(&bed) {
        assert_eq!(kinds, ["readdirplus"]);
    }
    // Listings lost the access times of the directories. All else is known, at last for good.
    let second = requests(&bed, || assert_eq!(walk(&bed.m), 31));
    want(&bed, &second, &[("getattr", 31)]);
    let third = requests(&bed, || assert_eq!(walk(&bed.m), 31));
    want(&bed, &third, &[]);
}

#[test]
fn a_file_that_was_read_is_opened_and_read_without_a_request() {
    let _alone = only_one_drops_caches();
    let bed = tree();
    let path = bed.p("d2/f2");
    let read = || {
        let mut content = String::new();
        File::open(&path).unwrap().read_to_string(&mut content).unwrap();
        assert_eq!(content, "content");
    };
    fs::metadata(&path).unwrap();
    // `read_to_string` asks for the length first, which is known.
    want(&bed, &requests(&bed, read), &[("read", 1)]);
    // What was read has a new access time, as far as the kernel knows.
    want(&bed, &requests(&bed, read), &[("getattr", 1)]);
    want(&bed, &requests(&bed, || (0..100).for_each(|_| read())), &[]);
}

#[test]
fn a_name_that_is_missing_is_asked_for_once() {
    let _alone = only_one_drops_caches();
    let bed = tree();
    let miss = || assert!(fs::symlink_metadata(bed.p("d3/no such name")).is_err());
    fs::metadata(bed.p("d3")).unwrap();
    want(&bed, &requests(&bed, miss), &[("lookup", 1)]);
    want(&bed, &requests(&bed, || (0..100).for_each(|_| miss())), &[]);
}

/// grep(1) looks for the end of the data in what is larger than its buffer.
#[test]
fn looking_for_holes_where_there_are_none_keeps_the_pages() {
    let _alone = only_one_drops_caches();
    let bed = Bed::layers(1, |l| put(&l[0], "dense", "0123456789abcdef".repeat(64 << 10)));
    let file = File::open(bed.p("dense")).unwrap();
    let end = 1 << 20;
    assert_eq!(fs::read(bed.p("dense")).unwrap().len(), end);
    let seek = || {
        assert_eq!(os::seek(&file, 32 << 10, libc::SEEK_HOLE).unwrap(), end as i64);
        assert_eq!(os::seek(&file, 32 << 10, libc::SEEK_DATA).unwrap(), 32 << 10);
    };
    want(&bed, &requests(&bed, seek), &[("lseek", 2)]);
    let mut buffer = vec![0; end];
    want(&bed, &requests(&bed, || file.read_exact_at(&mut buffer, 0).unwrap()), &[]);
}

/// The kernel reads 128 KiB ahead unless it is told otherwise in sysfs, which is for root and not everywhere to be written.
#[test]
fn a_large_file_is_read_in_large_pieces() {
    let _alone = only_one_drops_caches();
    let bed = Bed::layers(1, |l| put(&l[0], "large", "0123456789abcdef".repeat(512 << 10)));
    let device = fs::metadata(&bed.m).unwrap().dev();
    let setting = format!("/sys/class/bdi/{}:{}/read_ahead_kb", libc::major(device), libc::minor(device));
    let may_set = File::options().write(true).open(&setting).is_ok();
    let wanted = if may_set { 512 } else { 128 };
    let set = fs::read_to_string(&setting).unwrap_or_else(|_| "128".to_owned());
    assert!(set.trim().parse::<u64>().unwrap() >= wanted, "{set}");
    let asked = requests(&bed, || assert_eq!(fs::read(bed.p("large")).unwrap().len(), 8 << 20));
    // Read-ahead begins with less.
    let fewest = (8 << 10) / wanted;
    let fewest = if bed.capability("max_pages") == "used" { fewest } else { (8 << 10) / 128 };
    assert!(asked["read"] <= fewest + 8, "{asked:?}");
}

/// Before it first writes a file, and when the owner changes, the kernel asks for capabilities that it would have to remove.
#[test]
fn capabilities_are_asked_for_twice_for_a_file_that_is_unpacked() {
    let _alone = only_one_drops_caches();
    let bed = tree();
    fs::create_dir(bed.p("new")).unwrap();
    File::create(bed.p("new/first")).unwrap().write_all(b"x").unwrap();
    let unpack = || {
        let mut file = File::create_new(bed.p("new/file")).unwrap();
        file.write_all(b"content").unwrap();
        file.write_all(b"more").unwrap();
        std::os::unix::fs::fchown(&file, Some(1), Some(1)).unwrap();
    };
    // What the kernel asks is its own matter; more than this would be ours.
    let asked = attributes_read(&bed, unpack);
    assert!(asked <= 2 || !has_all(&bed), "{asked}");
}

#[test]
fn what_changes_cost() {
    let _alone = only_one_drops_caches();
    let bed = tree();
    fs::create_dir(bed.p("new")).unwrap();
    // The first file tells the kernel that there are no CREATE and FLUSH.
    File::create(bed.p("new/first")).unwrap().write_all(b"x").unwrap();

    // As tar(1) does it. GETATTR is about the directory, in which something was made before.
    let unpacked = requests(&bed, || {
        let mut file = File::create_new(bed.p("new/file")).unwrap();
        file.write_all(b"content").unwrap();
        std::os::unix::fs::fchown(&file, Some(1), Some(1)).unwrap();
        file.set_permissions(fs::Permissions::from_mode(0o640)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    });
    want(&bed, &unpacked, &[("getattr", 1), ("lookup", 1), ("mknod", 1), ("setattr", 3), ("write", 1)]);

    let made = requests(&bed, || fs::create_dir(bed.p("new/dir")).unwrap());
    want(&bed, &made, &[("getattr", 1), ("lookup", 1), ("mkdir", 1)]);
    let renamed = requests(&bed, || fs::rename(bed.p("new/file"), bed.p("new/other")).unwrap());
    want(&bed, &renamed, &[("getattr", 1), ("lookup", 1), ("rename", 1)]);
    let removed = requests(&bed, || fs::remove_file(bed.p("new/other")).unwrap());
    want(&bed, &removed, &[("getattr", 1), ("unlink", 1)]);
    // Of a lower file: the kernel knows all that it needs, and the copy-up is our business.
    fs::metadata(bed.p("d4/f4")).unwrap();
    let changed = requests(&bed, || fs::set_permissions(bed.p("d4/f4"), fs::Permissions::from_mode(0o600)).unwrap());
    want(&bed, &changed, &[("setattr", 1)]);
    assert_eq!(fs::metadata(bed.p("d4/f4")).unwrap().mode() & 0o777, 0o600);
}

/// Where the kernel collects writes it tells the time at which a file lost its last name, and asked for that the file is not
/// copied up.
#[test]
fn removing_with_collected_writes_copies_nothing_up() {
    let _alone = only_one_drops_caches();
    let bed = Bed::with(Setup { options: "writeback=1".into(), ..Setup::default() }, |l| {
        (0..20).for_each(|n| put(&l[0], &format!("f{n}"), "content"));
    });
    // A copy of what has no name is held by a descriptor.
    let open: Vec<File> = (0..20).map(|n| File::open(bed.p(&format!("f{n}"))).unwrap()).collect();
    let removed = requests(&bed, || (0..20).for_each(|n| fs::remove_file(bed.p(&format!("f{n}"))).unwrap()));
    let collected = bed.capability("writeback_cache") == "used";
    assert_eq!((removed["unlink"], removed.get("setattr")), (20, collected.then_some(&20)));
    assert_eq!(bed.stats()["pinned_descriptors"], 0);
    // What is set by somebody who has it open is seen by all who do.
    open[0].set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(open[0].metadata().unwrap().mtime(), 0);
    open[1].set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!((open[1].metadata().unwrap().mode() & 0o777, open[1].metadata().unwrap().nlink()), (0o600, 0));
    // Without collected writes nobody sets a time but who means it, and it is copied for that too.
    assert_eq!(bed.stats()["pinned_descriptors"], if collected { 1 } else { 2 });
}
