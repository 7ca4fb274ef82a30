//! Descriptors and memory.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use super::harness::{
    Bed, PATIENCE, Setup, drop_caches, entries, only_one_drops_caches, put, require, run, run_within, text_of, until,
};

/// Names and sizes of everything below.
fn walk(dir: &Path) -> usize {
    let mut count = 0;
    let mut pending = vec![dir.to_path_buf()];
    while let Some(at) = pending.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let entry = entry.unwrap();
            count += 1;
            let meta = entry.metadata().unwrap();
            assert!(meta.ino() != 0);
            if meta.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    count
}

fn many_files(l: &[std::path::PathBuf]) {
    for d in 0..300 {
        for f in 0..17 {
            put(&l[d % 2], &format!("d{d}/s/f{f}"), format!("{d} {f}"));
        }
    }
}

#[test]
fn a_limit_of_128_descriptors() {
    let setup = Setup { lowers: 2, descriptors: Some(128), ..Setup::default() };
    let mut bed = Bed::with(setup, many_files);
    let total = 300 * 19;
    assert_eq!(walk(&bed.m), total);
    for d in 0..300 {
        for f in 0..17 {
            assert_eq!(fs::read_to_string(bed.p(&format!("d{d}/s/f{f}"))).unwrap(), format!("{d} {f}"));
        }
    }
    assert!(bed.descriptors() <= 128, "{}", bed.descriptors());
    // Many files open at once cost the daemon nothing.
    let open: Vec<_> = (0..300).map(|d| super::os::open_rw(&bed.p(&format!("d{d}/s/f0")))).collect();
    for (d, file) in open.iter().enumerate() {
        std::os::unix::fs::FileExt::write_all_at(file, format!("{d:03} changed").as_bytes(), 0).unwrap();
    }
    assert!(bed.descriptors() <= 128, "{}", bed.descriptors());
    drop(open);
    bed.sh("chown -R 5:5 . && find . -name f16 -delete");
    assert_eq!(walk(&bed.m), total - 300);
    let script = "for n in 1 2 3 4; do (cp -a . ../copy$n) & done; wait; rm -r ../copy1 ../copy2 ../copy3 ../copy4";
    let limit = PATIENCE * 2;
    assert!(run_within(Command::new("sh").args(["-euc", script]).current_dir(&bed.m), limit).status.success());
    assert!(bed.descriptors() <= 128, "{}", bed.descriptors());
    bed.remount();
    assert_eq!(walk(&bed.m), total - 300);
    assert_eq!(fs::read_to_string(bed.p("d299/s/f0")).unwrap(), "299 changed");
}

/// Removed directories cost descriptors only while they are in use, and never all of them.
#[test]
fn removed_directories_with_a_limit_of_128_descriptors() {
    let setup = Setup { descriptors: Some(128), ..Setup::default() };
    let bed = Bed::with(setup, |l| (0..400).for_each(|d| put(&l[0], &format!("d{d}/f"), "x")));
    bed.sh("i=0; while [ $i -lt 400 ]; do mkdir n$i; touch n$i/f d$i/g; i=$((i+1)); done");
    let open: Vec<_> = (0..200)
        .flat_map(|d| [bed.p(&format!("d{d}")), bed.p(&format!("n{d}"))])
        .map(|p| fs::File::open(p).unwrap())
        .collect();
    bed.sh("rm -r d* n*");
    assert_eq!(entries(&bed.m), [""; 0]);
    assert!(bed.descriptors() <= 128, "{}", bed.descriptors());
    bed.sh("mkdir new; echo works >new/f; cat new/f");
    drop(open);
}

/// No descriptor leaks, however often things are opened.
#[test]
fn descriptors_do_not_leak() {
    let bed = Bed::layers(2, many_files);
    walk(&bed.m);
    let round = |bed: &Bed| {
        bed.sh("for i in 1 2 3 4 5; do mkdir x; echo >x/f; cat x/f d1/s/f1 >/dev/null; mv x y; rm -r y; done")
    };
    round(&bed);
    until("deleted files are forgotten", PATIENCE, || {
        bed.drop_caches();
        bed.descriptors() < 700
    });
    bed.sh("find . >/dev/null");
    let before = bed.descriptors();
    (0..20).for_each(|_| drop(round(&bed)));
    // Deleted objects are forgotten in their own time.
    until("descriptors are given back", PATIENCE, || bed.descriptors() <= before + 8);
}

/// Memory for each object that the kernel knows, on a tree of 100,000 files, and what comes back when the kernel forgets
/// them; with few descriptors. Pages, and not bytes, are counted, so the start-up costs are taken off with a walk of a
/// part first. The same with a million files: `tests/tier2/memory.py`.
#[test]
fn memory_of_known_objects() {
    const DIRS: usize = 100;
    const FILES: usize = 1000;
    const NAMES: usize = DIRS * (FILES + 1) + 2;
    let setup = Setup { descriptors: Some(128), ..Setup::default() };
    let mut bed = Bed::with(setup, |l| {
        for d in 0..DIRS {
            let dir = l[0].join(format!("part{}/directory{d}", usize::from(d >= 10)));
            fs::create_dir_all(&dir).unwrap();
            (0..FILES).for_each(|f| drop(fs::File::create(dir.join(format!("a-file-name-{f:05}"))).unwrap()));
        }
    });
    let _alone = only_one_drops_caches();
    assert_eq!(walk(&bed.p("part0")), 10 * (FILES + 1));
    let before = bed.memory();
    let known = walk(&bed.p("part1"));
    assert_eq!(known, (DIRS - 10) * (FILES + 1));
    let each = bed.memory().saturating_sub(before) / known as u64;
    println!("{each} bytes of daemon memory for each known object");
    // Names that are listed and then looked up one by one are in an index as well. Linux 6.1: 423 with listings of one page.
    let most = if bed.capability("do_readdirplus") == "used" { 450 } else { 600 };
    assert!(each <= most, "{each} bytes for each known object");
    let full = bed.memory();
    for round in 0..4 {
        assert_eq!(walk(&bed.m), NAMES);
        assert_eq!(bed.stats()["known_inodes"], NAMES);
        assert!(bed.descriptors() <= 128, "{}", bed.descriptors());
        until("what the kernel forgot is forgotten", PATIENCE, || {
            drop_caches();
            // What a directory held is counted off after the directory.
            let stats = bed.stats();
            ["known_inodes", "indexed_entries"].iter().all(|what| stats[what].as_u64().unwrap() < 100)
        });
        println!("round {round}: {}, {} of {full} bytes", bed.stats(), bed.memory());
    }
    // Of 65,536 objects and fewer the memory is kept for the next ones.
    assert!(bed.memory() < full / 5 * 4, "{full} bytes with {NAMES} objects, {} without", bed.memory());
    bed.unmount();
    assert_eq!(entries(&bed.upper), [""; 0]);
}

/// Read by `laminafs umount`, by tests, and by whoever wonders what the daemon is doing.
#[test]
fn what_the_root_tells_of_the_daemon() {
    use super::os::{as_user, errno, get_xattr, set_xattr, xattr_names};
    let bed = Bed::new(|l| put(l, "d/f", "x"));
    let known = |bed: &Bed| bed.stats()["known_inodes"].as_u64().unwrap();
    let none = known(&bed);
    assert_eq!(walk(&bed.m), 2);
    assert_eq!(known(&bed), none + 2);
    // The names of merged directories, here the root and d, are in memory.
    put(&bed.m, "d/g", "y");
    assert_eq!(entries(&bed.p("d")), ["f", "g"]);
    assert_eq!(bed.stats()["indexed_entries"], 3);
    // Not listed, so not copied either; not to be changed; of the root only.
    assert_eq!(xattr_names(&bed.m), [""; 0]);
    for name in ["user.laminafs.pid", "user.laminafs.stats", "user.laminafs.other"] {
        assert_eq!(errno(set_xattr(&bed.m, name, b"1")), libc::EPERM);
        assert_eq!(errno(get_xattr(&bed.p("d"), name)), libc::ENODATA);
    }
    assert_eq!(errno(get_xattr(&bed.m, "user.laminafs.other")), libc::ENODATA);
    // For those who may read the root.
    let asked = |name: &str| as_user(1000, 1000, || get_xattr(&bed.m, name));
    assert!(text_of(asked("user.laminafs.stats").unwrap()).contains("\"known_inodes\":"));
    bed.sh("chmod 0711 .");
    for name in ["user.laminafs.pid", "user.laminafs.stats"] {
        assert_eq!(errno(asked(name)), libc::EACCES);
    }
}

#[test]
fn a_full_upper_fails_the_write_and_hides_nothing() {
    require();
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        r#"set -e
        mkdir small lower merged; mount -t tmpfs -o size=2m none small; mkdir small/upper small/work
        head -c 3000000 /dev/zero >lower/big; echo good >lower/note
        {program} mount -o lowerdir=lower,upperdir=small/upper,workdir=small/work merged
        set +e
        bash -c 'echo more >>merged/big' 2>/dev/null; echo "append $?"
        cmp lower/big merged/big && echo same
        head -c 4000000 /dev/zero >merged/fill 2>/dev/null; echo "fill $?"
        test "$(stat -c %s merged/fill)" = "$(stat -c %s small/upper/fill)" && echo honest
        cat merged/note
        rm merged/fill; echo more >>merged/note; cat merged/note
        ls -A --ignore='#whiteout' small/work/work
        {program} umount merged"#,
        program = env!("CARGO_BIN_EXE_laminafs"),
    );
    let output = run(Command::new("unshare")
        .args(["-m", "--propagation", "slave", "bash", "-c", &script])
        .current_dir(dir.path()));
    let said = text_of(output.stdout);
    assert_eq!(said, "append 1\nsame\nfill 1\nhonest\ngood\ngood\nmore", "{}", text_of(output.stderr));
}
