//! Whiteouts in each form that a mount can be left to (docs/SEMANTICS.md section 2.2): the view is the same in all, also
//! where the forms are mixed, and every form is told as a deletion.

use super::crash::{Case, Refused, common, enumerate_forms};
use super::harness::{Fs, Stack, errno, me, warnings};
use super::tree::{marker, root};
use super::walk::View;
use crate::layer::whiteout::Form;
use crate::layer::xattr::Namespace;
use crate::overlay::{New, Overlay, RenameMode, Result};
use crate::sys::Errno;
use crate::sys::seam;

/// Kernel overlayfs below, a filter of system calls: no device 0:0.
const NO_DEVICES: Refused = &[("mknodat 0:0", Errno::PERM)];
/// ramfs, kernel overlayfs: no rename that leaves a whiteout.
const NO_RENAME: Refused = &[("renameat2 WHITEOUT", Errno::INVAL)];
/// Older tmpfs for ordinary users, ramfs.
const NO_ATTRIBUTES: Refused = &[("setxattr", Errno::OPNOTSUPP)];
/// The same, in a container.
const NOTHING: Refused = &[("mknodat 0:0", Errno::PERM), ("setxattr", Errno::OPNOTSUPP)];

const ALL: [Refused; 5] = [&[], NO_DEVICES, NO_RENAME, NO_ATTRIBUTES, NOTHING];

fn ours() -> Namespace {
    if root() { Namespace::Trusted } else { Namespace::User }
}

/// Without numbers and other attributes, which need attributes to be lasting, and times, which are the matter of the crash
/// tests.
fn seen(view: &View) -> View {
    let mut view = view.clone();
    for entry in view.values_mut() {
        entry.ino = 0;
        if entry.is_dir() {
            entry.nlink = 0;
        }
        (entry.mtime.sec, entry.mtime.nsec) = (0, 0);
        entry.xattrs.clear();
    }
    view
}

fn same(a: &View, b: &View, what: &str) {
    let difference = super::harness::difference(&seen(a), &seen(b));
    assert!(difference.is_empty(), "{what}\n{difference}");
}

/// Everything that makes, replaces, moves or removes a whiteout, in parts between which a union can be opened anew.
const STEPS: &[fn(&Fs) -> Result<()>] = &[
    |fs| fs.unlink("f"),
    |fs| fs.unlink("over"),
    |fs| fs.unlink("deep/er/f"),
    |fs| fs.create("deep/er/f").map(drop),
    |fs| fs.unlink("deep/er/f"),
    |fs| fs.rmdir("deep/er"),
    |fs| fs.mkdir("deep/er").map(drop),
    |fs| fs.create("deep/er/own").map(drop),
    |fs| fs.rename("ld/f", "ld/new"),
    |fs| fs.rename("ld/g", "m/a"),
    |fs| fs.rename("m/a", "f"),
    |fs| fs.mkdir("ld/f").map(drop),
    |fs| fs.rename("ld/f", "m/a"),
    |fs| fs.rename("s", "wh"),
    |fs| fs.rename("uempty", "s"),
    |fs| fs.rename("ud", "gone"),
    |fs| fs.rename("m/sub", "lempty"),
    |fs| fs.mkdir("m/sub").map(drop),
    |fs| fs.rename("m", "ud"),
    |fs| fs.rmdir("ud/a"),
    |fs| fs.symlink("x", "m").map(drop),
    |fs| fs.link("wh", "over").map(drop),
    |fs| fs.unlink("over"),
    |fs| fs.unlink("l2/f"),
    |fs| fs.rename("l2", "ld/l2"),
    |fs| fs.create("l2").map(drop),
    |fs| fs.rename("l2", "ld/l2/f"),
    // From an opaque directory.
    |fs| fs.mkdir("deep/er/leaving").map(drop),
    |fs| fs.rename("deep/er/leaving", "ld/come"),
    |fs| fs.exchange("ld", "m"),
];

fn stack() -> Stack {
    let mut stack = Stack::new(2);
    stack.options.redirect = crate::overlay::RedirectMode::Auto;
    common(&mut stack);
    stack
}

/// What the kernel's form gives after each step.
fn wanted() -> Vec<View> {
    let stack = stack();
    STEPS
        .iter()
        .enumerate()
        .map(|(n, step)| {
            let fs = stack.mount();
            step(&fs).unwrap_or_else(|e| panic!("step {n}: {e}"));
            fs.view()
        })
        .collect()
}

#[test]
fn the_form_is_what_can_be_made_and_read_back_and_is_told() {
    let forms = [
        (&[][..], Form::Device, true, ["device", "used"]),
        (NO_DEVICES, Form::Attribute(ours()), false, ["attribute", "missing"]),
        (NO_RENAME, Form::Device, false, ["device", "missing"]),
        (NO_ATTRIBUTES, Form::Device, true, ["device", "used"]),
        (NOTHING, Form::Beside, false, ["beside", "missing"]),
    ];
    for (refused, form, by_rename, told) in forms {
        let stack = stack();
        let _refused = seam::deny(refused);
        let fs = stack.mount();
        let found = fs.overlay.upper.as_ref().unwrap().work.whiteouts;
        assert_eq!((found.form, found.by_rename), (form, by_rename), "{refused:?}");
        let features = fs.overlay.features();
        assert_eq!(["whiteouts", "rename_whiteout"].map(|name| features[name]), told, "{refused:?}");
    }
    // No room is no reason to take another form.
    let stack = stack();
    let _refused = seam::deny(&[("mknodat 0:0", Errno::NOSPC)]);
    let error = Overlay::open(&stack.options).err().unwrap().to_string();
    assert!(error.contains("making a whiteout in workdir: No space left on device"), "{error}");
}

#[test]
fn the_view_is_the_same_in_every_form() {
    let wanted = wanted();
    for refused in ALL {
        for remounting in [false, true] {
            let mut stack = stack();
            let denied = seam::deny(refused);
            let mut fs = stack.mount();
            for (n, step) in STEPS.iter().enumerate() {
                step(&fs).unwrap_or_else(|e| panic!("step {n} under {refused:?}: {e}"));
                same(&fs.view(), &wanted[n], &format!("step {n} under {refused:?}, remounting: {remounting}"));
                if remounting {
                    drop(fs);
                    fs = stack.mount();
                    same(&fs.view(), &wanted[n], &format!("step {n} under {refused:?}, remounted"));
                }
            }
            drop(fs);
            drop(denied);
            same(&stack.view(), wanted.last().unwrap(), "read by a mount that makes devices");
            stack.commit();
            same(&stack.view(), wanted.last().unwrap(), &format!("as a lower layer, after {refused:?}"));
        }
    }
}

#[test]
fn an_upper_directory_may_hold_all_forms() {
    let wanted = wanted();
    for first in 0..ALL.len() {
        let stack = stack();
        for (n, step) in STEPS.iter().enumerate() {
            let refused = seam::deny(ALL[(n + first) % ALL.len()]);
            let mut fs = stack.mount();
            match step(&fs) {
                // A whiteout by attribute cannot be moved without attributes.
                Err(e) if e.errno() == libc::EXDEV && !fs.overlay.attributes => {
                    drop((fs, refused));
                    fs = stack.mount();
                    step(&fs).unwrap();
                }
                done => done.unwrap_or_else(|e| panic!("step {n} from {first}: {e}")),
            }
            same(&fs.view(), &wanted[n], &format!("step {n} from {first}"));
            drop(fs);
            same(&stack.view(), &wanted[n], &format!("step {n} from {first}, remounted"));
        }
    }
}

#[test]
fn a_directory_says_that_it_holds_whiteouts_by_attribute_before_it_does() {
    let stack = stack();
    let _refused = seam::deny(NO_DEVICES);
    let fs = stack.mount();
    fs.unlink("ld/f").unwrap();
    assert_eq!(stack.upper().get_xattr("ld", &marker("opaque")).unwrap(), b"x");
    assert_eq!(stack.upper().get_xattr("ld/f", &marker("whiteout")).unwrap(), b"y");
    assert!(stack.upper().get_xattr("uempty", &marker("opaque")).is_none());
    // The kernel looks for them in layers whose root says so.
    assert_eq!(stack.upper().get_xattr("", &marker("opaque")).unwrap(), b"x");
    // Moved by the exchange of a rename, to a directory that has none yet.
    fs.rename("over", "ld/f").unwrap();
    fs.create("ud/new").unwrap();
    fs.rename("ud/new", "over").unwrap();
    assert!(!fs.exists("ud/new") && fs.exists("over"));
}

/// One marker of a directory says that it is opaque, and that it holds such whiteouts.
#[test]
fn an_opaque_directory_shows_no_whiteouts_that_a_crash_left() {
    let stack = stack();
    let _refused = seam::deny(NO_DEVICES);
    let fs = stack.mount();
    fs.rename("ud/f", "ud2/f").unwrap();
    fs.unlink("deep/er/f").unwrap();
    drop(fs);
    // A directory in upper alone that holds one, as if something below had gone.
    let upper = stack.upper();
    upper.dir("alone").file("alone/gone", "").xattr("alone/gone", &marker("whiteout"), b"y");
    upper.xattr("alone", &marker("opaque"), b"x");
    let fs = stack.mount();
    assert_eq!(fs.list("alone"), [""; 0]);
    fs.rename("alone", "m/alone").unwrap();
    assert_eq!(upper.get_xattr("m/alone", &marker("opaque")).unwrap(), b"y");
    assert_eq!(fs.list("m/alone"), [""; 0]);
    drop(fs);
    let fs = stack.mount();
    assert_eq!(fs.list("m/alone"), [""; 0]);
    assert!(!fs.exists("m/alone/gone"));
    fs.create("m/alone/gone").unwrap();
    assert_eq!(fs.list("m/alone"), ["gone"]);
    fs.unlink("m/alone/gone").unwrap();
    fs.rmdir("m/alone").unwrap();
}

/// Nothing was put there that could stay.
#[test]
fn a_rename_that_cannot_hide_what_is_below_warns_of_nothing() {
    let stack = stack();
    let refused = seam::deny(NO_RENAME);
    let fs = stack.mount();
    drop(refused);
    let _full = seam::deny(&[("linkat", Errno::NOSPC)]);
    let warned = warnings(|| {
        assert_eq!(errno(fs.rename("f", "new")), libc::ENOSPC);
        assert_eq!(errno(fs.rename("f", "u")), libc::ENOSPC);
    });
    assert_eq!(warned, [""; 0]);
    assert!(fs.exists("f") && !fs.exists("new"));
    // The warning that there is.
    let _kept = seam::deny(&[("renameat2", Errno::IO), ("unlinkat", Errno::IO)]);
    let warned = warnings(|| assert_eq!(errno(fs.rename("f", "new")), libc::EIO));
    assert!(warned.len() == 1 && warned[0].starts_with("a whiteout that hides nothing stays"), "{warned:?}");
}

#[test]
fn names_of_whiteouts_stay_reserved_in_every_form() {
    for refused in ALL {
        let stack = stack();
        let _refused = seam::deny(refused);
        let fs = stack.mount();
        for name in [".wh.u", "ld/.wh.f", ".wh..wh..opq"] {
            assert_eq!(errno(fs.create(name)), libc::EPERM);
            assert_eq!(errno(fs.rename("u", name)), libc::EPERM);
            assert!(!fs.exists(name));
        }
    }
}

/// `.wh.` and the name must be a name.
#[test]
fn a_name_that_is_too_long_to_be_hidden_beside_stays() {
    let long = "n".repeat(255);
    for refused in ALL {
        let stack = stack();
        stack.lower(1).file(&long, "long");
        let _refused = seam::deny(refused);
        let fs = stack.mount();
        let whiteouts = fs.overlay.upper.as_ref().unwrap().work.whiteouts;
        let beside = whiteouts.form == Form::Beside;
        let refused = if beside { libc::ENAMETOOLONG } else { 0 };
        // mv(1) copies and removes.
        let onto = if beside || whiteouts.by_rename { refused } else { libc::EXDEV };
        assert_eq!(errno(fs.rename(&long, "u")), onto, "{whiteouts:?}");
        if onto == 0 {
            assert_eq!((fs.read("u").unwrap(), fs.exists(&long)), ("long".into(), false));
            continue;
        }
        assert_eq!((fs.read(&long).unwrap(), fs.read("u").unwrap()), ("long".into(), "upper".into()));
        assert_eq!(errno(fs.rename(&long, "ld/short")), refused);
        assert_eq!((fs.exists(&long), fs.exists("ld/short")), (beside, !beside));
        if beside {
            assert_eq!(errno(fs.unlink(&long)), libc::ENAMETOOLONG);
            assert_eq!(fs.read(&long).unwrap(), "long");
        }
        drop(fs);
        let fs = stack.mount();
        assert_eq!((fs.exists(&long), fs.exists("ld/short")), (beside, !beside));
    }
}

#[test]
fn without_attributes_what_needs_them_fails_and_the_rest_works() {
    let mut stack = stack();
    stack.options.redirect = crate::overlay::RedirectMode::On;
    let _refused = seam::deny(NOTHING);
    let fs = stack.mount();
    assert_eq!(errno(fs.set_xattr("f", "user.a", "1")), libc::EOPNOTSUPP);
    assert_eq!(errno(fs.make("new", New::Node(libc::S_IFCHR, 0, 0), 0o600, 0, me())), libc::EOPNOTSUPP);
    assert!(!fs.exists("new"));
    // A redirect cannot be written: the directory is copied.
    fs.rename("ld", "moved").unwrap();
    assert_eq!(fs.read("moved/g").unwrap(), "g");
    fs.write("h1", 0, "H").unwrap();
    drop(fs);
    let fs = stack.mount();
    assert!(!fs.exists("ld"));
    assert_eq!((fs.read("moved/g").unwrap(), fs.read("h1").unwrap()), ("g".into(), "Hard".into()));
    drop(fs);
    stack.options.override_stat = true;
    let error = Overlay::open(&stack.options).err().unwrap().to_string();
    assert!(error.contains("keeping owners in attributes in workdir: "), "{error}");
}

/// Too long for `.wh.` and it.
const LONG: &str = match std::str::from_utf8(&[b'n'; 255]) {
    Ok(name) => name,
    Err(_) => "",
};

fn with_long_name(stack: &mut Stack) {
    common(stack);
    stack.lower(1).file(LONG, "long");
}

const fn case(name: &'static str, run: fn(&Fs) -> Result<()>) -> Case {
    Case { name, build: with_long_name, prepare: None, run, between: &[], fills_in: false, overridden: false }
}

const CASES: &[Case] = &[
    case("create over whiteout", |fs| fs.create("wh").map(drop)),
    case("mkdir over whiteout", |fs| fs.mkdir("wh").map(drop)),
    case("link over whiteout", |fs| fs.link("u", "wh").map(drop)),
    case("unlink upper file over lower", |fs| fs.unlink("over")),
    case("unlink lower file", |fs| fs.unlink("f")),
    case("unlink lower file in lower directory", |fs| fs.unlink("deep/er/f")),
    case("rmdir lower directory", |fs| fs.rmdir("lempty")),
    case("rmdir merged directory with whiteouts", |fs| fs.rmdir("gone")),
    case("rename upper file over lower", |fs| fs.rename("over", "new")),
    case("rename lower file", |fs| fs.rename("f", "new")),
    case("rename lower file to lower directory", |fs| fs.rename("deep/er/f", "ld/new")),
    case("rename lower file onto whiteout", |fs| fs.rename("f", "wh")),
    case("rename lower file onto upper file", |fs| fs.rename("f", "u")),
    case("rename lower file onto lower file", |fs| fs.rename("f", "ld/g")),
    case("rename lower file, noreplace", |fs| fs.rename_as("f", "new", RenameMode::NoReplace)),
    case("rename lower file with a long name", |fs| fs.rename(LONG, "ld/new")),
    case("rename lower symlink", |fs| fs.rename("s", "new")),
    case("rename upper directory into merged one", |fs| fs.rename("ud", "m/new")),
    case("rename upper directory onto whiteout", |fs| fs.rename("ud", "wh")),
    case("rename upper directory onto empty merged one", |fs| fs.rename("ud", "gone")),
    case("rename lower directory", |fs| fs.rename("ld", "new")),
    case("rename lower directory onto whiteout", |fs| fs.rename("ld", "wh")),
    case("rename lower directory onto empty merged one", |fs| fs.rename("ld", "gone")),
    case("rename merged directory", |fs| fs.rename("m", "new")),
    case("rename merged directory onto empty merged one", |fs| fs.rename("m", "gone")),
    case("exchange merged directories", |fs| fs.exchange("m", "gone")),
];

/// The same after the form's own whiteouts are there, in a directory that has them too.
const LATER: &[Case] = &[
    Case { prepare: Some(|fs| fs.unlink("ld/f")), ..case("create over own", |fs| fs.create("ld/f").map(drop)) },
    Case { prepare: Some(|fs| fs.unlink("ld/f")), ..case("mkdir over own", |fs| fs.mkdir("ld/f").map(drop)) },
    Case { prepare: Some(|fs| fs.unlink("ld/f")), ..case("rename file onto own", |fs| fs.rename("f", "ld/f")) },
    Case { prepare: Some(|fs| fs.unlink("ld/f")), ..case("rename directory onto own", |fs| fs.rename("ud", "ld/f")) },
    Case { prepare: Some(|fs| fs.unlink("ld/f")), ..case("unlink a second one", |fs| fs.unlink("ld/g")) },
    Case {
        prepare: Some(|fs| {
            fs.unlink("ld/f")?;
            fs.unlink("ld/g")
        }),
        ..case("rmdir with own", |fs| fs.rmdir("ld"))
    },
    Case {
        prepare: Some(|fs| {
            fs.unlink("ld/f")?;
            fs.unlink("ld/g")
        }),
        ..case("rename onto directory with own", |fs| fs.rename("ud", "ld"))
    },
    Case { prepare: Some(|fs| fs.unlink("ld/f")), ..case("rename directory with own", |fs| fs.rename("ld", "m/ld")) },
];

fn crash(title: &str, refused: Refused, names: fn(&str) -> bool) {
    let cases = [CASES, LATER].into_iter().flatten().filter(|case| names(case.name));
    let numbers = !refused.iter().any(|(call, _)| *call == "setxattr");
    enumerate_forms(title, &cases.copied().collect::<Vec<_>>(), refused, numbers);
}

#[test]
fn changes_are_old_or_new_at_every_crash_without_devices() {
    crash("without devices", NO_DEVICES, |_| true);
}

#[test]
fn renames_are_old_or_new_at_every_crash_without_rename_whiteout() {
    crash("without RENAME_WHITEOUT", NO_RENAME, |name| name.starts_with("rename lower") || name.contains("onto own"));
}

#[test]
fn changes_are_old_or_new_at_every_crash_without_attributes() {
    crash("without attributes", NO_ATTRIBUTES, |name| name.contains("dir"));
}

#[test]
fn changes_are_old_or_new_at_every_crash_without_devices_and_attributes() {
    // `.wh.` has no room before a long name: nothing hides it, and it stays.
    crash("without devices and attributes", NOTHING, |name| !name.contains("long name"));
}

/// What goes while a layer is looked through is passed over, and only that.
#[test]
fn a_directory_that_goes_meanwhile_does_not_end_the_look_for_whiteouts() {
    use crate::overlay::unread_by_kernel;
    use crate::sys::seam::Plan;

    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
        std::fs::write(dir.path().join(name).join(".wh.f"), "").unwrap();
    }
    let look = |plan| {
        seam::plan(plan);
        (unread_by_kernel(dir.path(), false).map_err(|(path, e)| (path, e.errno)), seam::take().readings)
    };
    let calls = look(Plan::Count).1;
    let lists: Vec<_> = (0..calls.len()).filter(|&n| calls[n] == "getdents64").collect();
    // The layer itself is listed from the first to the second, and then its marks are, all at once.
    let [_, end_of_root, first, _] = lists[..] else { panic!("{calls:?}") };
    assert_eq!(calls[end_of_root + 1..first].iter().filter(|call| **call == "listxattr").count(), 1);
    for (n, call) in calls.iter().enumerate().take(first + 1).skip(end_of_root + 2) {
        let (found, _) = look(Plan::FailNthReading { n: n + 1, errno: Errno::NOENT });
        assert!(found.unwrap().is_some(), "{call}");
        let (found, _) = look(Plan::FailNthReading { n: n + 1, errno: Errno::IO });
        let (path, errno) = found.unwrap_err();
        assert!(errno == Errno::IO && ["a", "b"].contains(&path.to_str().unwrap()), "{call}, {path:?}");
    }
    assert_eq!(unread_by_kernel(&dir.path().join("none"), false).unwrap(), None, "for mounting to say");
}
