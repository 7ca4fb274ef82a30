//! Data and attributes of files.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};

use rustix::fs::FlockOperation;

use super::harness::{Bed, entries, no_spawning, put, read};
use super::os::{self, Map, errno, open_append, open_rw};

/// Bytes that look random and are the same every time.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        })
        .collect()
}

#[test]
fn lower_files_are_read() {
    let data = noise(5_000_000, 1);
    let bed = Bed::new(|l| {
        put(l, "big", &data);
        put(l, "empty", "");
    });
    assert!(fs::read(bed.p("big")).unwrap() == data);
    assert_eq!(fs::read(bed.p("empty")).unwrap(), b"");
    let file = File::open(bed.p("big")).unwrap();
    for at in [0, 1, 4095, 4096, 131_071, 4_999_999, 5_000_000, 6_000_000] {
        let mut buffer = [0; 10_000];
        let n = file.read_at(&mut buffer, at as u64).unwrap();
        let want = &data[at.min(data.len())..(at + 10_000).min(data.len())];
        assert!(buffer[..n] == *want, "at {at}");
    }
    assert_eq!(entries(&bed.upper), [""; 0]);
}

#[test]
fn new_files_go_to_upper() {
    let mut bed = Bed::new(|_| {});
    let data = noise(3_000_000, 2);
    fs::write(bed.p("new"), &data).unwrap();
    assert!(fs::read(bed.p("new")).unwrap() == data);
    bed.unmount();
    assert!(fs::read(bed.u("new")).unwrap() == data);
}

#[test]
fn a_part_is_overwritten() {
    let mut data = noise(1_000_000, 3);
    let mut bed = Bed::new(|l| put(l, "d/f", &data));
    open_rw(&bed.p("d/f")).write_all_at(b"CHANGED", 500_000).unwrap();
    data[500_000..500_007].copy_from_slice(b"CHANGED");
    assert!(fs::read(bed.p("d/f")).unwrap() == data);
    bed.remount();
    assert!(fs::read(bed.p("d/f")).unwrap() == data);
    assert!(fs::read(bed.u("d/f")).unwrap() == data);
}

#[test]
fn appending() {
    let mut bed = Bed::new(|l| put(l, "log", "one\n"));
    let mut first = open_append(&bed.p("log"));
    let mut second = open_append(&bed.p("log"));
    first.write_all(b"two\n").unwrap();
    second.write_all(b"three\n").unwrap();
    first.write_all(b"four\n").unwrap();
    assert_eq!(read(&bed.p("log")), "one\ntwo\nthree\nfour\n");
    drop((first, second));
    bed.remount();
    assert_eq!(read(&bed.p("log")), "one\ntwo\nthree\nfour\n");
}

#[test]
fn truncating() {
    let data = noise(100_000, 4);
    let mut bed = Bed::new(|l| {
        for name in ["shrink", "grow", "zero", "open", "path"] {
            put(l, name, &data);
        }
    });
    open_rw(&bed.p("shrink")).set_len(10_000).unwrap();
    open_rw(&bed.p("grow")).set_len(200_000).unwrap();
    open_rw(&bed.p("zero")).set_len(0).unwrap();
    File::create(bed.p("open")).unwrap().write_all(b"short").unwrap();
    bed.sh("truncate -s 12345 path");
    let check = |bed: &Bed| {
        assert!(fs::read(bed.p("shrink")).unwrap() == data[..10_000]);
        let grown = fs::read(bed.p("grow")).unwrap();
        assert!(grown[..100_000] == data && grown[100_000..] == [0; 100_000]);
        assert_eq!(fs::metadata(bed.p("zero")).unwrap().len(), 0);
        assert_eq!(read(&bed.p("open")), "short");
        assert!(fs::read(bed.p("path")).unwrap() == data[..12_345]);
    };
    check(&bed);
    bed.remount();
    check(&bed);
}

/// A file made smaller and then larger again has no old data.
#[test]
fn truncated_data_does_not_come_back() {
    let bed = Bed::new(|l| put(l, "f", noise(50_000, 5)));
    let file = open_rw(&bed.p("f"));
    file.set_len(100).unwrap();
    file.set_len(50_000).unwrap();
    let data = fs::read(bed.p("f")).unwrap();
    assert!(data[..100] == noise(50_000, 5)[..100] && data[100..].iter().all(|&b| b == 0));
}

/// fuse-overlayfs issue 475: rewritten small files became old content with zeros.
#[test]
fn small_files_rewritten_again_and_again() {
    let names: Vec<String> = (0..50).map(|n| format!("f{n}")).collect();
    let mut bed = Bed::new(|l| names.iter().for_each(|n| put(l, n, "old content ".repeat(5))));
    for round in 0..10 {
        for name in &names {
            let text = format!("{round} {name} ").repeat(1 + (round * 7) % 11);
            fs::write(bed.p(name), &text).unwrap();
            assert_eq!(read(&bed.p(name)), text);
        }
    }
    bed.remount();
    names.iter().for_each(|n| assert_eq!(read(&bed.p(n)), format!("9 {n} ").repeat(9)));
}

/// Many small writes, as a database makes them, over a copied-up file, compared with a model in memory.
#[test]
fn a_database_like_file() {
    let mut model = noise(4 << 20, 6);
    let mut bed = Bed::new(|l| put(l, "db", &model));
    let files = [open_rw(&bed.p("db")), open_rw(&bed.p("db"))];
    let random = noise(30_000, 7);
    for (n, chunk) in random.chunks_exact(10).enumerate() {
        let at = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], 0]) as usize % ((4 << 20) - 5000);
        let len = 1 + usize::from(chunk[4]) * 16;
        let data = noise(len, n as u64);
        let file = &files[n % 2];
        match chunk[5] % 16 {
            0 => file.sync_data().unwrap(),
            1 => {
                let mut buffer = vec![0; len];
                file.read_exact_at(&mut buffer, at as u64).unwrap();
                assert!(buffer == model[at..at + len], "step {n}");
            }
            _ => {
                file.write_all_at(&data, at as u64).unwrap();
                model[at..at + len].copy_from_slice(&data);
            }
        }
    }
    assert!(fs::read(bed.p("db")).unwrap() == model);
    drop(files);
    bed.remount();
    assert!(fs::read(bed.p("db")).unwrap() == model);
}

#[test]
fn shared_mappings_are_written() {
    let mut bed = Bed::new(|l| put(l, "f", noise(20_000, 8)));
    let file = open_rw(&bed.p("f"));
    let mut map = Map::new(&file, 20_000, true, true).unwrap();
    map.write(9_000, b"through the mapping");
    assert_eq!(map.read(9_000, 19), b"through the mapping");
    let mut buffer = [0; 19];
    File::open(bed.p("f")).unwrap().read_exact_at(&mut buffer, 9_000).unwrap();
    assert_eq!(&buffer, b"through the mapping");
    map.sync().unwrap();
    file.write_all_at(b"by write", 9_000).unwrap();
    assert_eq!(map.read(9_000, 8), b"by write");
    drop((map, file));
    bed.remount();
    let mut want = noise(20_000, 8);
    want[9_000..9_019].copy_from_slice(b"through the mapping");
    want[9_000..9_008].copy_from_slice(b"by write");
    assert!(fs::read(bed.p("f")).unwrap() == want);
}

#[test]
fn private_mappings_stay_private() {
    let bed = Bed::new(|l| put(l, "f", noise(10_000, 9)));
    let file = File::open(bed.p("f")).unwrap();
    let mut map = Map::new(&file, 10_000, true, false).unwrap();
    map.write(0, b"mine");
    assert_eq!(map.read(0, 4), b"mine");
    assert!(fs::read(bed.p("f")).unwrap() == noise(10_000, 9));
    assert_eq!(entries(&bed.upper), [""; 0]);
}

#[test]
fn allocating() {
    let bed = Bed::new(|l| put(l, "f", noise(100_000, 10)));
    let file = open_rw(&bed.p("f"));
    os::fallocate(&file, libc::FALLOC_FL_KEEP_SIZE, 0, 1_000_000).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 100_000);
    os::fallocate(&file, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, 8192, 8192).unwrap();
    // Not every file system can (tmpfs cannot); the mount says so then, and changes nothing.
    let zeroed = os::fallocate(&file, libc::FALLOC_FL_ZERO_RANGE, 40_960, 4096).map_err(|e| e.raw_os_error());
    let below = os::fallocate(&open_rw(&bed.u("f")), libc::FALLOC_FL_ZERO_RANGE, 40_960, 4096);
    assert_eq!(zeroed, below.map_err(|e| e.raw_os_error()));
    assert!([Ok(()), Err(Some(libc::EOPNOTSUPP))].contains(&zeroed), "{zeroed:?}");
    os::fallocate(&file, 0, 0, 300_000).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 300_000);
    let data = fs::read(bed.p("f")).unwrap();
    let mut want = noise(100_000, 10);
    want.resize(300_000, 0);
    want[8192..16_384].fill(0);
    if zeroed.is_ok() {
        want[40_960..45_056].fill(0);
    }
    assert!(data == want);
    assert_eq!(errno(os::fallocate(&file, 0, 0, 0)), libc::EINVAL);
}

/// Extents of data: (start, end), from SEEK_DATA and SEEK_HOLE.
fn extents(file: &File) -> Vec<(i64, i64)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Ok(start) = os::seek(file, at, libc::SEEK_DATA) {
        at = os::seek(file, start, libc::SEEK_HOLE).unwrap();
        found.push((start, at));
    }
    found
}

#[test]
fn holes_are_found_and_kept() {
    let mut bed = Bed::new(|l| {
        let file = File::create(l.join("sparse")).unwrap();
        file.write_all_at(&[1; 65_536], 1 << 20).unwrap();
        file.write_all_at(&[2; 65_536], 8 << 20).unwrap();
        file.set_len(16 << 20).unwrap();
    });
    let want = [(1 << 20, (1 << 20) + 65_536), (8 << 20, (8 << 20) + 65_536)];
    let file = File::open(bed.p("sparse")).unwrap();
    assert_eq!(extents(&file), want);
    assert_eq!(errno(os::seek(&file, 16 << 20, libc::SEEK_DATA)), libc::ENXIO);
    assert_eq!(os::seek(&file, 0, libc::SEEK_HOLE).unwrap(), 0);
    drop(file);
    let blocks = fs::metadata(bed.l("sparse")).unwrap().blocks();
    open_rw(&bed.p("sparse")).write_all_at(b"x", 8 << 20).unwrap();
    assert_eq!(extents(&File::open(bed.p("sparse")).unwrap()), want);
    bed.remount();
    let file = File::open(bed.p("sparse")).unwrap();
    assert_eq!(extents(&file), want);
    assert_eq!(file.metadata().unwrap().len(), 16 << 20);
    assert!(fs::metadata(bed.u("sparse")).unwrap().blocks() <= blocks + 16, "holes were filled by copy-up");
}

/// Data that another descriptor wrote and that is still in the page cache is not taken for a hole.
#[test]
fn unwritten_pages_are_no_holes() {
    let bed = Bed::new(|l| {
        let file = File::create(l.join("lower")).unwrap();
        file.set_len(1 << 20).unwrap();
    });
    for name in ["new", "lower"] {
        let writer = OpenOptions::new().write(true).create(true).truncate(false).open(bed.p(name)).unwrap();
        writer.set_len(1 << 20).unwrap();
        let reader = File::open(bed.p(name)).unwrap();
        writer.write_all_at(&[7; 4096], 262_144).unwrap();
        assert_eq!(os::seek(&reader, 0, libc::SEEK_DATA).unwrap(), 262_144, "{name}");
        assert_eq!(os::seek(&reader, 262_144, libc::SEEK_HOLE).unwrap(), 266_240, "{name}");
        let rw = open_rw(&bed.p(name));
        let mut map = Map::new(&rw, 1 << 20, true, true).unwrap();
        map.write(524_288, &[8; 100]);
        let mut found = os::seek(&reader, 266_240, libc::SEEK_DATA);
        if os::kernel() < (6, 16) {
            // There nobody waits for what a sync, which other tests call, has begun to write (README, known limits).
            for _ in 0..2400 {
                if found.is_ok() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(50));
                found = os::seek(&reader, 266_240, libc::SEEK_DATA);
            }
        }
        assert_eq!(found.unwrap(), 524_288, "{name}: mapped");
        assert_eq!(reader.metadata().unwrap().len(), 1 << 20);
    }
}

#[test]
fn copying_between_files() {
    let data = noise(3_000_000, 11);
    let mut bed = Bed::new(|l| {
        put(l, "from", &data);
        put(l, "onto", noise(100, 1));
    });
    let copy = |from: &File, mut from_at: u64, to: &File, mut to_at: u64, mut len: usize| {
        while len > 0 {
            let n = rustix::fs::copy_file_range(from, Some(&mut from_at), to, Some(&mut to_at), len).unwrap();
            assert!(n > 0, "copy_file_range stops early");
            len -= n;
        }
    };
    let from = open_rw(&bed.p("from"));
    let to = File::options().read(true).write(true).create_new(true).open(bed.p("to")).unwrap();
    copy(&from, 0, &to, 0, 3_000_000);
    assert!(fs::read(bed.p("to")).unwrap() == data);
    let onto = open_rw(&bed.p("onto"));
    copy(&from, 1000, &onto, 50, 5000);
    let found = fs::read(bed.p("onto")).unwrap();
    assert!(found[..50] == noise(100, 1)[..50] && found[50..] == data[1000..6000]);
    // What is not yet written back is copied too, and what is cached of the target is replaced.
    from.write_all_at(b"fresh", 4096).unwrap();
    to.write_all_at(b"stale", 8192).unwrap();
    copy(&from, 4096, &to, 8192, 5);
    let mut buffer = [0; 5];
    to.read_exact_at(&mut buffer, 8192).unwrap();
    assert_eq!(&buffer, b"fresh");
    drop((from, to, onto));
    bed.remount();
    assert_eq!(&fs::read(bed.p("to")).unwrap()[8192..8197], b"fresh");
}

#[test]
fn whole_file_locks() {
    let bed = Bed::new(|l| put(l, "f", "x"));
    let _quiet = no_spawning();
    let (a, b) = (File::open(bed.p("f")).unwrap(), open_rw(&bed.p("f")));
    rustix::fs::flock(&a, FlockOperation::LockExclusive).unwrap();
    let busy = rustix::fs::flock(&b, FlockOperation::NonBlockingLockShared);
    assert_eq!(busy, Err(rustix::io::Errno::WOULDBLOCK));
    // The lock belongs to the file, not to where its data is.
    b.write_all_at(b"y", 0).unwrap();
    assert_eq!(rustix::fs::flock(&b, FlockOperation::NonBlockingLockShared), Err(rustix::io::Errno::WOULDBLOCK));
    rustix::fs::flock(&a, FlockOperation::Unlock).unwrap();
    rustix::fs::flock(&b, FlockOperation::NonBlockingLockExclusive).unwrap();
}

#[test]
fn record_locks() {
    let bed = Bed::new(|l| put(l, "f", "x"));
    let (a, b) = (open_rw(&bed.p("f")), open_rw(&bed.p("f")));
    assert_eq!(os::lock_in_the_way(&b), libc::F_UNLCK);
    os::posix_lock(&a, libc::F_WRLCK).unwrap();
    assert_eq!(os::lock_in_the_way(&b), libc::F_WRLCK);
    os::posix_lock(&a, libc::F_UNLCK).unwrap();
    assert_eq!(os::lock_in_the_way(&b), libc::F_UNLCK);
    // Between processes.
    bed.sh("flock -x f sh -c '! flock -n f true'; flock -n f true");
}

#[test]
fn direct_io() {
    let data = noise(65_536, 12);
    let mut bed = Bed::new(|l| put(l, "f", &data));
    let mut memory = vec![0u8; 3 * 4096];
    let skip = memory.as_ptr().align_offset(4096);
    let page = &mut memory[skip..skip + 8192];
    let file = os::open_flags(&bed.p("f"), libc::O_DIRECT).unwrap();
    file.read_exact_at(page, 8192).unwrap();
    assert!(page == &data[8192..16_384]);
    page.fill(9);
    file.write_all_at(page, 16_384).unwrap();
    let mut buffer = vec![0; 8192];
    File::open(bed.p("f")).unwrap().read_exact_at(&mut buffer, 16_384).unwrap();
    assert!(buffer.iter().all(|&b| b == 9));
    // Through the cache first, then around it.
    open_rw(&bed.p("f")).write_all_at(b"cached", 0).unwrap();
    file.read_exact_at(page, 0).unwrap();
    assert_eq!(&page[..6], b"cached");
    drop(file);
    bed.remount();
    assert!(fs::read(bed.p("f")).unwrap()[16_384..24_576].iter().all(|&b| b == 9));
}

/// fuser has no TMPFILE operation (FUSE 7.37), so the kernel answers for us; programs fall back to a name.
#[test]
fn files_without_a_name_are_refused_clearly() {
    let bed = Bed::new(|_| {});
    assert_eq!(errno(os::open_flags(&bed.m, libc::O_TMPFILE)), libc::EOPNOTSUPP);
}

#[test]
fn syncing() {
    let bed = Bed::new(|l| put(l, "d/f", "x"));
    let file = open_rw(&bed.p("d/f"));
    file.write_all_at(b"y", 0).unwrap();
    file.sync_all().unwrap();
    assert_eq!(read(&bed.u("d/f")), "y");
    file.write_all_at(b"z", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(read(&bed.u("d/f")), "z");
    File::open(bed.p("d")).unwrap().sync_all().unwrap();
    File::open(&bed.m).unwrap().sync_all().unwrap();
    bed.sh("sync -f .");
}

#[test]
fn programs_run() {
    let bed = Bed::new(|l| {
        fs::copy("/bin/true", l.join("true")).unwrap();
        put(l, "script", "#!/bin/sh\necho ran with $1\n");
        fs::set_permissions(l.join("script"), fs::Permissions::from_mode(0o755)).unwrap();
    });
    assert_eq!(
        bed.sh("./true; ./script me; cp true here; ./here; echo exit 3 >>script; ./script you || echo $?"),
        "ran with me\nran with you\n3"
    );
}

#[test]
fn exclusive_creation_and_open_flags() {
    let bed = Bed::new(|l| {
        put(l, "f", "x");
        mkdir(l);
        std::os::unix::fs::symlink("f", l.join("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", l.join("dangling")).unwrap();
    });
    fn mkdir(l: &std::path::Path) {
        fs::create_dir(l.join("d")).unwrap();
    }
    let new = || OpenOptions::new().write(true).create_new(true).to_owned();
    assert_eq!(errno(new().open(bed.p("f"))), libc::EEXIST);
    assert_eq!(errno(new().open(bed.p("dangling"))), libc::EEXIST);
    assert_eq!(errno(File::open(bed.p("missing"))), libc::ENOENT);
    assert_eq!(errno(File::open(bed.p("f/x"))), libc::ENOTDIR);
    assert_eq!(errno(open(&bed, "d", libc::O_WRONLY)), libc::EISDIR);
    assert_eq!(errno(open(&bed, "link", libc::O_NOFOLLOW)), libc::ELOOP);
    fn open(bed: &Bed, name: &str, flags: i32) -> std::io::Result<File> {
        OpenOptions::new().read(true).write(flags == libc::O_WRONLY).custom_flags(flags).open(bed.p(name))
    }
    fs::write(bed.p("link"), "through the link").unwrap();
    assert_eq!(read(&bed.p("f")), "through the link");
    fs::write(bed.p("dangling"), "made").unwrap();
    assert_eq!(read(&bed.p("nowhere")), "made");
    let file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(bed.p("ro")).unwrap();
    file.write_all_at(b"writable to who made it", 0).unwrap();
}
