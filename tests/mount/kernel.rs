//! Directories mounted with `--kernel`: what kernel overlayfs wants, and how such a mount is known again.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::harness::{Bed, PROGRAM, Setup, exists, laminafs, mount_line, put, read, sh_in, text_of};
use super::os;

pub fn bed() -> Bed {
    Bed::unmounted(Setup::default(), |l| put(&l[0], "f", "lower"))
}

pub fn mount(bed: &Bed, options: &str) -> Output {
    let options = format!("{}{options}", bed.option_string());
    laminafs(["mount", "--kernel", "-o", &options, bed.m.to_str().unwrap()])
}

pub fn said(output: Output, code: i32) -> String {
    let said = text_of(output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

/// Whether the kernel is new enough; it is said that it is not.
fn is_known(bed: &Bed) -> bool {
    let known = os::kernel() >= (6, 7);
    if !known {
        let why = said(mount(bed, ""), 1);
        assert!(why.contains("--kernel needs Linux 6.7") && mount_line(&bed.m).is_none(), "{why}");
    }
    known
}

pub fn unmount(bed: &Bed) {
    assert_eq!(said(laminafs(["umount", bed.m.to_str().unwrap()]), 0), "");
    assert_eq!(mount_line(&bed.m), None);
}

/// The source is what `umount` knows the mount by.
#[test]
fn a_kernel_mount_with_a_name_can_be_unmounted() {
    let bed = bed();
    if !is_known(&bed) {
        return;
    }
    let options = ",fsname=web,data=passthrough";
    assert_eq!(said(mount(&bed, options), 0), "laminafs: note: options without effect: fsname=web, data=passthrough");
    let line = mount_line(&bed.m).unwrap();
    assert_eq!((line[0].as_str(), line[2].as_str()), ("laminafs", "overlay"));
    assert_eq!(read(&bed.p("f")), "lower");
    unmount(&bed);
}

#[test]
fn what_a_volatile_kernel_mount_leaves_is_named() {
    let bed = bed();
    if !is_known(&bed) {
        return;
    }
    said(mount(&bed, ",volatile"), 0);
    unmount(&bed);
    let mark = bed.work.join("work/incompat/volatile");
    assert!(exists(&mark));
    let why = said(mount(&bed, ""), 1);
    assert!(why.contains("volatile before") && why.contains(&format!("directory {} and", mark.display())), "{why}");
    let why = said(laminafs(["mount", "-o", &bed.option_string(), bed.m.to_str().unwrap()]), 1);
    assert!(why.contains("volatile") && why.contains(&format!("mark {}:", mark.display())), "{why}");
    assert!(exists(&mark), "who does not know it does not sweep it away");
    std::fs::remove_dir_all(mark).unwrap();
    said(mount(&bed, ""), 0);
    unmount(&bed);
}

/// Left by another program, without the note in the work directory that ours leaves: what is deleted would be back.
#[test]
fn whiteouts_that_the_kernel_does_not_know_are_refused_in_every_directory() {
    for (in_lower, name) in [(false, "d/e/.wh.f"), (false, "d/.wh..wh..opq"), (true, "d/e/.wh.f")] {
        let setup = Setup { lowers: 2, ..Setup::default() };
        let mut bed = Bed::unmounted(setup, |l| {
            put(&l[1], "d/e/f", "lower");
            put(&l[0], if in_lower { name } else { "other" }, "");
        });
        if !in_lower {
            put(&bed.upper, name, "");
        }
        let path = if in_lower { bed.l(name) } else { bed.u(name) };
        let why = said(mount(&bed, ""), 1);
        assert!(why.contains(&format!(" show {} as a file", path.display())), "{why}");
        assert!(why.ends_with("mount without --kernel") && mount_line(&bed.m).is_none(), "{why}");
        bed.mount();
        assert!(!exists(&bed.p("d/e/f")), "{name} hides it");
    }
}

/// The kernel reads the attributes of one name only, ours all that say that something is hidden.
#[test]
fn marks_that_the_kernel_does_not_read_are_refused_in_every_directory() {
    let (trusted, user) = ("trusted.overlay.opaque", "user.overlay.opaque");
    for (mark, options, in_lower) in [
        (user, "", false),
        (user, "", true),
        ("user.fuseoverlayfs.opaque", "", false),
        (trusted, ",userxattr", false),
        ("trusted.overlay.redirect", ",userxattr", true),
    ] {
        let setup = Setup { lowers: 2, ..Setup::default() };
        let set = |dir: &Path, name: &str| {
            std::fs::create_dir_all(dir).unwrap();
            let value: &[u8] = if name.ends_with("redirect") { b"d" } else { b"y" };
            os::set_xattr(dir, name, value).unwrap();
        };
        let mut bed = Bed::unmounted(setup, |l| {
            put(&l[1], "d/e/f", "lower");
            if in_lower {
                set(&l[0].join("d/e"), mark);
            }
        });
        if !in_lower {
            set(&bed.u("d/e"), mark);
        }
        let dir = if in_lower { bed.l("d/e") } else { bed.u("d/e") };
        let why = said(mount(&bed, options), 1);
        assert!(why.contains(&format!("the mark {mark} of {}, and show", dir.display())), "{why}");
        assert!(why.ends_with("mount without --kernel") && mount_line(&bed.m).is_none(), "{why}");
        bed.mount();
        assert!(!exists(&bed.p("d/e/f")), "{mark} counts");
        bed.unmount();
        // Whoever reads either finds the same.
        if mark == user && !in_lower && is_known(&bed) {
            set(&dir, trusted);
            said(mount(&bed, ""), 0);
            assert!(!exists(&bed.p("d/e/f")));
            unmount(&bed);
        }
    }
}

/// Whiteouts by attribute, in a directory that says in one namespace that it has such, and on a file in the other.
#[test]
fn whiteouts_by_attributes_that_the_kernel_does_not_read_are_refused() {
    let bed = |marks: &[&str]| {
        Bed::unmounted(Setup { lowers: 2, ..Setup::default() }, |l| {
            put(&l[1], "d/f", "lower");
            put(&l[0], "d/f", "");
            os::set_xattr(&l[0], "trusted.overlay.opaque", b"x").unwrap();
            os::set_xattr(&l[0].join("d"), "trusted.overlay.opaque", b"x").unwrap();
            marks.iter().for_each(|mark| os::set_xattr(&l[0].join("d/f"), mark, b"y").unwrap());
        })
    };
    let (user, trusted) = ("user.overlay.whiteout", "trusted.overlay.whiteout");
    let mut unread = bed(&[user]);
    let why = said(mount(&unread, ""), 1);
    assert!(why.contains(&format!("{user} of {}, and show", unread.l("d/f").display())), "{why}");
    unread.mount();
    assert!(!exists(&unread.p("d/f")));
    let read = bed(&[user, trusted]);
    if is_known(&read) {
        said(mount(&read, ""), 0);
        assert!(!exists(&read.p("d/f")));
        unmount(&read);
    }
}

/// What is mounted in a layer is not seen through overlayfs.
#[test]
fn names_like_whiteouts_in_no_layer_do_not_matter_to_the_kernel() {
    let setup = Setup { no_upper: true, ..Setup::default() };
    let bed = Bed::unmounted(setup, |l| {
        put(&l[0], "d/a.wh.f", "lower");
        put(&l[0], "on/f", "lower");
    });
    if !is_known(&bed) {
        return;
    }
    put(&bed.dir, "other/.wh.d", "");
    let on = bed.l("on");
    sh_in(&bed.dir, &format!("mount --bind other {}", on.display()));
    let output = mount(&bed, "");
    sh_in(&bed.dir, &format!("umount {}", on.display()));
    said(output, 0);
    assert!(exists(&bed.p("d/a.wh.f")) && exists(&bed.p("on/f")));
    unmount(&bed);
}

/// Root of a user namespace may not read what belongs to the root of the machine, nor may the kernel for it.
#[test]
fn directories_that_who_mounts_may_not_read_are_no_hindrance() {
    for mode in ["700", "711"] {
        let setup = Setup { lowers: 2, ..Setup::default() };
        let bed = Bed::unmounted(setup, |l| {
            put(&l[1], "closed/f", "lower");
            put(&l[0], "closed/.wh.f", "");
            put(&l[0], "g", "lower");
            sh_in(&l[0], &format!("chmod {mode} closed"));
        });
        if os::kernel() < (6, 7) {
            return;
        }
        std::fs::copy(PROGRAM, bed.dir.join("program")).unwrap();
        let inside = "
            ./program mount --kernel -o userxattr,lowerdir=lower/1:lower/2,upperdir=upper,workdir=work m
            cat m/g; echo; echo new >m/new; ls m
            cat m/closed/f 2>&1 && echo SEEN; ls m/closed >/dev/null 2>&1 && echo LISTED
            ./program umount m";
        let script = "chown 1000:1000 upper work m; setpriv --reuid=1000 --regid=1000 --clear-groups unshare -Urm sh -euc \"$1\"";
        let unshare = ["-m", "--propagation", "slave", "sh", "-euc", script, "-", inside];
        let output = Command::new("unshare").args(unshare).current_dir(&bed.dir).env("LC_ALL", "C").output().unwrap();
        let done = output.status.success();
        let (out, err) = (text_of(output.stdout), text_of(output.stderr));
        if mode == "700" {
            assert!(done && err.is_empty(), "{out}\n{err}");
            assert_eq!(out, "lower\nclosed\ng\nnew\ncat: m/closed/f: Permission denied");
        } else {
            // By name the kernel would find what is deleted.
            assert!(!done && out.is_empty(), "{out}");
            assert!(err.contains("/closed for what kernel overlayfs") && err.contains("ermission denied"), "{err}");
        }
    }
}

#[test]
fn what_is_no_directory_is_called_that_as_without_the_kernel() {
    let mut bed = bed();
    put(&bed.dir, "file", "");
    let file = bed.dir.join("file");
    let (lower, upper, work) = (bed.lowers[0].clone(), bed.upper.clone(), bed.work.clone());
    for (role, place) in [("lower layer", 0), ("upperdir", 1), ("workdir", 2)] {
        let paths = [&lower, &upper, &work].map(PathBuf::clone);
        (bed.lowers[0], bed.upper, bed.work) = paths.into();
        *[&mut bed.lowers[0], &mut bed.upper, &mut bed.work][place] = file.clone();
        let named = format!("{role} {}: Not a directory", file.display());
        let plain = said(laminafs(["mount", "-o", &bed.option_string(), bed.m.to_str().unwrap()]), 1);
        assert!(plain.contains(&named), "{plain}");
        assert_eq!(said(mount(&bed, ""), 1), plain);
    }
    (bed.lowers[0], bed.upper, bed.work) = (lower, upper, work);
}
