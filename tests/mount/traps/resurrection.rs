//! What was deleted or hidden comes back, or what is there vanishes: the worst class. After each script a mount must
//! look as a plain directory on which the same script ran, at once, without caches, and after a remount.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::super::harness::{Bed, Setup, entries, exists, mkdir, put, sh_in};
use super::super::os;
use super::{Site, assert_whiteouts_needed, everywhere, tree};

fn layers(l: &[PathBuf]) {
    put(&l[1], "f", "lower 2");
    put(&l[0], "f", "lower 1");
    put(&l[1], "g", "g");
    put(&l[1], "d/a", "a");
    put(&l[1], "d/s/a", "sa");
    put(&l[0], "e/top", "top");
    put(&l[1], "e/bottom", "bottom");
    put(&l[1], "e/s/bottom", "bottom");
    mkdir(&l[0], "p/d");
    put(&l[1], "p/d/old", "old");
    put(&l[1], "p/d/q/old", "old");
    put(&l[1], "p/keep", "keep");
    mkdir(&l[1], "hollow");
}

/// Runs each script on a mount of its own at the root, and all of them in directories of one mount.
fn same_as_a_plain_directory(scripts: &[&str]) {
    for script in scripts {
        let mut bed = Bed::layers(2, layers);
        let model = model_of(&mut bed);
        bed.sh(script);
        sh_in(&model, script);
        let want = tree(&model);
        assert_eq!(tree(&bed.m), want, "{script}");
        bed.remount();
        assert_eq!(tree(&bed.m), want, "{script}, after a remount");
        bed.unmount();
        assert_whiteouts_needed(&bed.upper, &bed.lowers, script);
    }
    let dir = |n: usize| format!("below/{n}");
    let mut bed = Bed::layers(2, |l| {
        for n in 0..scripts.len() {
            layers(&l.iter().map(|l| l.join(dir(n))).collect::<Vec<_>>());
        }
    });
    let model = model_of(&mut bed);
    for (n, script) in scripts.iter().enumerate() {
        sh_in(&bed.p(&dir(n)), script);
        sh_in(&model.join(dir(n)), script);
        assert_eq!(tree(&bed.p(&dir(n))), tree(&model.join(dir(n))), "{script}, below");
    }
    bed.drop_caches();
    assert_eq!(tree(&bed.m), tree(&model));
    bed.remount();
    assert_eq!(tree(&bed.m), tree(&model));
    bed.unmount();
    assert_whiteouts_needed(&bed.upper, &bed.lowers, "below");
}

/// A plain copy of what the mount shows, which then knows nothing of having been read.
fn model_of(bed: &mut Bed) -> PathBuf {
    sh_in(&bed.dir, "cp -a m model");
    bed.remount();
    bed.dir.join("model")
}

/// fuse-overlayfs defect A2.
#[test]
fn a_deleted_file_stays_deleted_whatever_comes_and_goes_under_its_name() {
    same_as_a_plain_directory(&[
        "rm f; touch f; rm f",
        "rm f; ln -s x f; rm f",
        "rm f; mkdir f; rmdir f",
        "rm f; mkfifo f; rm f",
        "rm f; mkdir f; touch f/x; rm -r f",
        "rm f; touch n; mv n f; rm f",
        "rm f; touch n; ln n f; rm f n",
        "rm f; ln g f; rm f g",
        "mv f n; rm n",
        "mv f n; mv n f; rm f",
        "ln f n; rm f; mv n f; rm f",
        "echo new >>f; rm f; : >f; rm f",
        "cd p/d; rm old; touch old; rm old; mkdir old; rmdir old",
    ]);
}

/// fuse-overlayfs issue 324 and defects A2, A3: `ls` is empty, but `stat d/a` works, or the content is back later.
#[test]
fn a_recreated_directory_is_empty() {
    same_as_a_plain_directory(&[
        "rm -rf d; mkdir d; ! stat d/a 2>/dev/null; ! stat d/s/a 2>/dev/null",
        "rm -rf d; mkdir d; rmdir d",
        "rm -rf d; mkdir -p d/s; ! stat d/s/a 2>/dev/null",
        "rm -rf d; mkdir d; touch d/a; rm d/a; ! stat d/a 2>/dev/null; ! stat d/s 2>/dev/null",
        "rm -rf e; mkdir e; touch e/top; rm e/top; ! stat e/bottom 2>/dev/null; rmdir e; mkdir e",
        "rmdir hollow; mkdir hollow; touch hollow/f; rm -r hollow; mkdir hollow",
        "rm -rf p/d; mkdir p/d; touch p/d/a; rm p/d/a; ! stat p/d/old 2>/dev/null; ! stat p/d/q/old 2>/dev/null",
    ]);
}

/// fuse-overlayfs issue 478: a nested opaque directory, removed and made again, shows lower entries; later rmdir says
/// that it is not empty.
#[test]
fn nested_directories_are_removed_and_made_again() {
    same_as_a_plain_directory(&[
        "rm -r p/d; mkdir p/d; rm -r p/d; mkdir p/d; rmdir p/d; mkdir p/d; touch p/d/x; rm p/d/x; rmdir p/d; rm p/keep; rmdir p",
        "rm -r p; mkdir -p p/d/q; rm -r p/d; mkdir p/d; ! stat p/d/q 2>/dev/null; rmdir p/d p",
        "rm -r p; mkdir -p p/d/q; rmdir p/d/q p/d; mkdir p/d; touch p/d/old; rm -r p; mkdir p",
        "rm -r p/d/q; mkdir p/d/q; rm -r p/d; mkdir -p p/d/q; rm -r p/d; rm p/keep; rmdir p",
        "rm -r e; mkdir e; touch e/top; rm -r e; mkdir e; mkdir e/s; rmdir e/s e",
    ]);
}

/// fuse-overlayfs issues 279 (a link over a whiteout vanishes later) and 354 (a rename onto a whiteout loses the one at
/// the old name).
#[test]
fn what_is_put_over_a_whiteout_stays_and_its_old_name_stays_free() {
    same_as_a_plain_directory(&[
        "rm f; ln -s to f",
        "rm f; mkfifo f",
        "rm f; mkdir f",
        "rm f; echo new >f",
        "rm f; mv g f",
        "rm f; ln g f",
        "rm f; mv d f",
        "rm f; mv hollow f",
        "rm g; mv f g; echo back >f; rm f",
        "rm -r d; mv e d",
        "rm -r d; mv p/d d; mkdir p/d",
        "rm -r d; ln -s e d; rm d; ln -s p d",
        "rm -r d; mv f d; mv d f; mkdir d",
    ]);
}

/// Defect A6: a directory moved onto a name that lower layers have merges with what they have there.
#[test]
fn moved_directories_do_not_merge_with_what_was_there() {
    same_as_a_plain_directory(&[
        "mkdir n; touch n/new; rm -r d; mv n d",
        "mkdir n; rm -r d/a d/s; mv -T n d",
        "mkdir n; rm -r p/d; mv n p/d; ! stat p/d/old 2>/dev/null",
        "mv d n; mkdir d; mv n/a d/b; rm -r d; mv n d",
        "mv d n; mv e d; mv n e; rm d/bottom; rm e/a",
        "mv p/d n; mv n p/d; rm p/d/old; mv p n; mv n p",
        "rm -r d; mkdir d; mv d n; mkdir d; rmdir d; mv n d",
        "rm d/a; mv d n; mkdir d; echo a >d/a; rm d/a; rmdir d; mv n d; ! stat d/a 2>/dev/null",
        "mv e n; rm n/top n/bottom; rm -r n/s; rmdir n; mkdir e n",
    ]);
}

/// fuse-overlayfs issues 160, 271: things that cannot be removed; 327 and 306: whiteouts where none belong (what is in
/// upper after each script is looked at in all of these tests).
#[test]
fn everything_can_be_removed() {
    same_as_a_plain_directory(&[
        "rm -rf * .[!.]*",
        "rm -rf *; mkdir d; rm -rf *",
        "touch d/u e/u p/d/u; rm -rf d e p",
        "mv d e/d; mv p e/p; rm -rf e",
        "for n in 1 2 3; do touch n; mv n n2; rm n2; mkdir n; rmdir n; done",
        "chmod 0 f d; rm -rf f d",
        "chown -R 5:6 .; rm -rf p e; mkdir p e",
    ]);
}

/// A way to look at directory `d` of `at`, and what it is.
type Look = (&'static str, fn(&Path, &str));

/// Ways to look, each of which fills some cache.
const LOOKS: [Look; 4] = [
    ("lists the directory", |at, d| assert!(!entries(&at.join(d)).contains(&"old".to_owned()))),
    ("looks for what is hidden", |at, d| assert!(!exists(&at.join(d).join("old")))),
    ("looks for what is hidden further down", |at, d| assert!(!exists(&at.join(d).join("s/old")))),
    ("opens what is there", |at, d| assert_eq!(fs::read(at.join(d).join("new")).unwrap(), b"new")),
];

/// All orders of four things.
fn orders() -> Vec<[usize; 4]> {
    let digits = |n: usize| [n / 64, n / 16 % 4, n / 4 % 4, n % 4];
    (0..256).map(digits).filter(|o| (0..4).all(|n| o.contains(&n))).collect()
}

/// A way to mark a directory, and what it is.
type Mark = (&'static str, fn(&Path));

/// How a directory of the middle layer hides what is below.
const HIDING: [Mark; 5] = [
    ("opaque, trusted", |d| os::set_xattr(d, "trusted.overlay.opaque", b"y").unwrap()),
    ("opaque, user", |d| os::set_xattr(d, "user.overlay.opaque", b"y").unwrap()),
    ("opaque, of the other program", |d| os::set_xattr(d, "user.fuseoverlayfs.opaque", b"y").unwrap()),
    ("a file that says so", |d| put(d, ".wh..wh..opq", "")),
    ("a whiteout beside it", |d| {
        put(d.parent().unwrap(), &format!(".wh.{}", d.file_name().unwrap().to_str().unwrap()), "");
    }),
];

/// fuse-overlayfs issues 136, 151, 425 and defects A3, A4: opaque directories and whiteouts of a middle layer, under a
/// copy in the layer above it or not, looked at in every order.
#[test]
fn middle_layers_hide_what_is_below_in_every_order_of_access() {
    let name = |how: usize, order: usize, top: bool| format!("d{how}.{order}.{top}");
    let orders = orders();
    assert_eq!(orders.len(), 24);
    let all: Vec<(usize, usize, bool)> = (0..HIDING.len())
        .flat_map(|how| (0..24).flat_map(move |order| [true, false].map(|top| (how, order, top))))
        .collect();
    let fill = |l: &[PathBuf]| {
        for &(how, order, top) in &all {
            let d = name(how, order, top);
            put(&l[2], &format!("{d}/old"), "old");
            put(&l[2], &format!("{d}/s/old"), "old");
            put(&l[1], &format!("{d}/new"), "new");
            mkdir(&l[1], &format!("{d}/s"));
            HIDING[how].1(&l[1].join(&d));
            if top {
                mkdir(&l[0], &format!("{d}/s"));
            }
        }
    };
    everywhere(3, fill, |site| {
        for pass in ["first", "after a remount"] {
            for &(how, order, top) in &all {
                let d = name(how, order, top);
                println!("{pass}: {}, above it something: {top}", HIDING[how].0);
                for look in orders[order].map(|n| LOOKS[n]) {
                    println!("  {}", look.0);
                    look.1(&site.p(""), &d);
                }
            }
            site.bed.remount();
        }
        // Changes make caches forget.
        for &(how, order, top) in &all {
            let d = name(how, order, top);
            fs::write(site.p(&d).join("made"), "").unwrap();
            fs::remove_file(site.p(&d).join("made")).unwrap();
            LOOKS.iter().for_each(|look| look.1(&site.p(""), &d));
            fs::remove_dir(site.p(&d).join("s")).unwrap();
            fs::remove_file(site.p(&d).join("new")).unwrap();
            fs::remove_dir(site.p(&d)).unwrap_or_else(|e| panic!("{d}: {e}"));
        }
        assert_eq!(entries(&site.p("")).len(), 0);
        site.bed.remount();
        assert_eq!(entries(&site.p("")).len(), 0);
    });
}

/// A whiteout or a file in a middle layer, with a directory above it: what is under it stays under it.
#[test]
fn a_middle_layer_without_the_directory_ends_the_merging() {
    let fill = |l: &[PathBuf]| {
        for kind in ["char", "aufs", "file", "link", "fifo"] {
            for upper in ["listed", "looked up"] {
                let d = format!("{kind} {upper}");
                put(&l[2], &format!("{d}/old"), "old");
                match kind {
                    "char" => os::mknod(&l[1].join(&d), FileType::CharacterDevice, 0, 0, 0).unwrap(),
                    "aufs" => put(&l[1], &format!(".wh.{d}"), ""),
                    "file" => put(&l[1], &d, "file"),
                    "link" => std::os::unix::fs::symlink(".", l[1].join(&d)).unwrap(),
                    _ => os::mknod(&l[1].join(&d), FileType::Fifo, 0o600, 0, 0).unwrap(),
                }
                put(&l[0], &format!("{d}/new"), "new");
            }
        }
    };
    everywhere(3, fill, |site| {
        let check = |site: &Site| {
            for kind in ["char", "aufs", "file", "link", "fifo"] {
                assert_eq!(entries(&site.p(&format!("{kind} listed"))), ["new"], "{kind}");
                assert!(!exists(&site.p(&format!("{kind} looked up/old"))), "{kind}");
                assert!(!exists(&site.p(&format!("{kind} listed/old"))), "{kind}");
                assert_eq!(entries(&site.p(&format!("{kind} looked up"))), ["new"], "{kind}");
            }
        };
        check(site);
        site.sh("for d in *; do touch \"$d/x\"; rm \"$d/x\"; done");
        check(site);
        site.bed.remount();
        check(site);
        site.sh("rm -r *; mkdir 'char listed'");
        site.bed.remount();
        assert_eq!(entries(&site.p("char listed")), [""; 0]);
    });
}

/// fuse-overlayfs issue 151: a whiteout in the root hid the name in all directories.
#[test]
fn a_whiteout_hides_one_path() {
    let fill = |l: &[PathBuf]| {
        for path in ["x", "d/x", "d/d/x", "y", "d/y", "d/d/y"] {
            put(&l[1], path, path);
        }
        put(&l[0], ".wh.x", "");
        mkdir(&l[0], "d");
        os::mknod(&l[0].join("d/y"), FileType::CharacterDevice, 0, 0, 0).unwrap();
    };
    everywhere(2, fill, |site| {
        for _ in 0..2 {
            let seen = ["x", "d/x", "d/d/x", "y", "d/y", "d/d/y"].map(|path| exists(&site.p(path)));
            assert_eq!(seen, [false, true, true, true, false, true]);
            assert_eq!(entries(&site.p("d")), ["d", "x"]);
            assert_eq!(entries(&site.p("d/d")), ["x", "y"]);
            site.bed.remount();
        }
    });
}

/// Two read-only layers without upper, as images are mounted to be read.
#[test]
fn read_only_stacks_hide_in_every_order_of_access() {
    let setup = Setup { lowers: 2, no_upper: true, ..Setup::default() };
    let orders = orders();
    let fill = |l: &[PathBuf]| {
        for order in 0..24 {
            put(&l[1], &format!("d{order}/old"), "old");
            put(&l[1], &format!("d{order}/s/old"), "old");
            put(&l[0], &format!("d{order}/new"), "new");
            mkdir(&l[0], &format!("d{order}/s"));
            put(&l[0], &format!("d{order}/.wh..wh..opq"), "");
        }
    };
    super::everywhere_with(setup, fill, |site| {
        for (n, order) in orders.iter().enumerate() {
            order.iter().for_each(|&look| LOOKS[look].1(&site.p(""), &format!("d{n}")));
        }
        assert_eq!(entries(&site.p("")).len(), 24);
    });
}
