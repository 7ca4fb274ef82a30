//! What a mount tells of the features below it, each compared with what the test finds out by itself; and mounts that are
//! made to do without capabilities of the kernel.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Command, Output};

use rustix::fs::RenameFlags;

use super::harness::{Bed, PROGRAM, Setup, entries, put, run, text_of};
use super::os;

/// Every capability that can be masked but that by which data goes, which decides whether there is a mount at all.
const MASK: &str = "do_readdirplus,parallel_dirops,async_dio,cache_symlinks,no_open_support,no_opendir_support,\
                    has_ioctl_dir,dont_mask,handle_killpriv_v2,posix_acl,writeback_cache,atomic_o_trunc,max_pages";

fn layers(bed: &Bed, name: &str) -> String {
    bed.stats()["features"]["layers"][name].as_str().unwrap_or_else(|| panic!("{name}: not told")).to_owned()
}

fn word(there: bool) -> &'static str {
    if there { "used" } else { "missing" }
}

/// A script in which `cp --reflink=always`, `O_TMPFILE` and the like are tried where the upper directory is.
fn tried(bed: &Bed, act: impl FnOnce(&Path) -> bool) -> bool {
    let place = bed.dir.join("tried");
    fs::create_dir(&place).unwrap();
    let worked = act(&place);
    fs::remove_dir_all(&place).unwrap();
    worked
}

#[test]
fn features_of_the_layers_are_what_they_are_said_to_be() {
    let bed = Bed::layers(2, |l| {
        put(&l[0], "f", vec![7; 8192]);
        put(&l[1], "d/below", "x");
    });
    assert_eq!(layers(&bed, "reflink"), "untried");
    bed.sh("echo more >> f; rm -r d; mkdir d");
    let reflinks = tried(&bed, |place| {
        let mut command = Command::new("cp");
        run(command.arg("--reflink=always").arg(bed.l("f")).arg(place.join("copy"))).status.success()
    });
    assert_eq!(layers(&bed, "reflink"), word(reflinks));

    let renames = tried(&bed, |place| {
        fs::write(place.join("a"), "").unwrap();
        os::rename(&place.join("a"), &place.join("b"), RenameFlags::WHITEOUT).is_ok()
    });
    assert_eq!(layers(&bed, "rename_whiteout"), word(renames));
    let nameless = tried(&bed, |place| File::options().write(true).custom_flags(libc::O_TMPFILE).open(place).is_ok());
    assert_eq!(layers(&bed, "o_tmpfile"), if nameless { "unused" } else { "missing" });

    // What a copy was made of is written down if there are handles, and opaque directories are marked.
    let names = |path: &str| os::xattr_names(&bed.u(path));
    let markers = layers(&bed, "markers");
    assert!(names("d").contains(&format!("{markers}.overlay.opaque")), "{markers}: {:?}", names("d"));
    let origin = names("f").contains(&format!("{markers}.overlay.origin"));
    assert_eq!(layers(&bed, "file_handles"), word(origin));
    bed.sh("rm f");
    assert_eq!((layers(&bed, "whiteouts").as_str(), bed.u("f").symlink_metadata().unwrap().rdev()), ("device", 0));
    assert_eq!(layers(&bed, "index"), "used");
    // The tests are root's.
    assert_eq!(layers(&bed, "private_mounts"), "used");
    // Asking leaves nothing.
    assert_eq!(entries(&bed.work.join("work")), ["#whiteout"]);
}

#[test]
fn what_a_mount_without_upper_directory_tells() {
    let setup = Setup { no_upper: true, ..Setup::default() };
    let bed = Bed::with(setup, |l| put(&l[0], "f", "x"));
    let features = bed.stats()["features"]["layers"].clone();
    let names: Vec<&str> = features.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["file_handles", "private_mounts", "reflink"]);
    assert_eq!((&features["private_mounts"], &features["reflink"]), (&"used".into(), &"untried".into()));
    assert_ne!(features["file_handles"], "used");
}

#[test]
fn features_as_text() {
    let bed = Bed::new(|l| put(l, "f", "x"));
    let text = text_of(run(Command::new(PROGRAM).arg("stats").arg(&bed.m)).stdout);
    let has = |name: &str, word: &str| text.lines().any(|line| line.split_whitespace().eq([name, word]));
    for header in [("KERNEL", "STATE"), ("LAYERS", "STATE"), ("HELD", "COUNT"), ("REQUEST", "COUNT")] {
        assert!(has(header.0, header.1), "{text}");
    }
    assert!(has("data", &bed.capability("data")) && has("dont_mask", &bed.capability("dont_mask")), "{text}");
    assert!(has("whiteouts", "device") && has("reflink", "untried") && has("export_support", "unused"), "{text}");
}

fn mount_with(bed: &Bed, mask: &str) -> Output {
    let options = format!("{},data=cache", bed.option_string());
    let mut command = Command::new(PROGRAM);
    // Beside what all tests do without.
    let mask = format!("{mask},{}", std::env::var("LAMINAFS_TEST_FUSE_MASK").unwrap_or_default());
    run(command.env("LAMINAFS_TEST_FUSE_MASK", mask).args(["mount", "-o", &options]).arg(&bed.m))
}

/// All at once; one at a time, with more tests: `tests/tier2/masks.py`.
#[test]
fn a_mount_works_without_what_the_kernel_may_lack() {
    let mut bed = Bed::unmounted(Setup { lowers: 2, ..Setup::default() }, |l| {
        (0..300).for_each(|n| put(&l[n % 2], &format!("d/{n:03}"), n.to_string()));
        put(&l[1], "set-id", vec![1; 300_000]);
        std::os::unix::fs::symlink("d/001", l[0].join("link")).unwrap();
    });
    let output = mount_with(&bed, MASK);
    assert!(output.status.success(), "{}", text_of(output.stderr));
    bed.mounted();
    for name in MASK.split(',') {
        assert!(["masked", "missing"].contains(&bed.capability(name).as_str()), "{name}: {}", bed.capability(name));
    }
    let numbers = bed.sh("for f in d/*; do cat $f; echo; done | sort -n | tr '\\n' ' '");
    assert_eq!(numbers, (0..300).map(|n| format!("{n} ")).collect::<String>().trim());
    assert_eq!(fs::read(bed.p("link")).unwrap(), b"1");
    bed.sh("chmod 6777 set-id; umask 027; mkdir made; echo x > made/f; rm d/1*; mv d e");
    assert_eq!(bed.p("made/f").metadata().unwrap().mode() & 0o777, 0o640);
    bed.sh_ok_as(1000, 1000, "echo more >> set-id");
    let written = bed.p("set-id").metadata().unwrap();
    assert_eq!((written.mode() & 0o7777, written.len()), (0o777, 300_005));
    assert_eq!(entries(&bed.p("e")).len(), 200);
    let asked = bed.stats()["requests"].clone();
    let count = |kind: &str| asked[kind].as_u64().unwrap();
    assert!(count("readdir") > 0 && count("readdirplus") == 0, "{asked}");
    assert!(count("open") >= 300 && count("release") > 0 && count("opendir") > 1, "{asked}");
}

#[test]
fn a_mask_that_is_none_is_an_error() {
    let bed = Bed::unmounted(Setup::default(), |_| ());
    let output = mount_with(&bed, "do_readdirplus,teleport");
    assert!(!output.status.success());
    let said = text_of(output.stderr);
    assert!(said.contains("teleport is no FUSE capability that can be masked; these can: "), "{said}");
}
