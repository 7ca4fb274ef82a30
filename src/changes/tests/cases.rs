//! One thing at a time, and what once went wrong.

use super::apply::{check_round_trip, lasting, pack, union, unpack};
use super::differ::{self, diff};
use super::fixture::stack;
use crate::changes::{self, Rule, Union};
use crate::overlay::tests::harness::{Stack, me};
use crate::overlay::tests::tree::{marker, root};
use crate::overlay::tests::walk::{digest, view};
use crate::overlay::{New, Options, Overlay};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A new empty upper directory over `layer` and what was below.
pub fn put_under(stack: &mut Stack, layer: &Path) {
    // Reads everything, so that times of access do not change any more (relatime).
    drop(digest(layer));
    stack.commit();
    stack.options.lower[0] = layer.into();
}

fn told(stack: &Stack) -> Vec<String> {
    diff(stack).into_iter().map(|(path, letter)| format!("{letter} /{path}")).collect()
}

fn both(stack: &Stack) {
    check_round_trip(stack);
    differ::check(stack);
}

#[test]
fn nothing_was_done() {
    let stack = stack();
    drop(stack.mount());
    let union = union(&stack);
    assert!(!union.is_changed(Rule::Docker).unwrap());
    assert_eq!(told(&stack), [""; 0]);
}

#[test]
fn as_docker_diff_tells() {
    let stack = stack();
    let fs = stack.mount();
    fs.write("b/f", 0, "!").unwrap();
    fs.create("a/d/deep/new").unwrap();
    fs.unlink("c/d/y").unwrap();
    fs.rmdir("c/d").unwrap();
    drop(fs);
    assert_eq!(told(&stack), ["C /a", "C /a/d", "C /a/d/deep", "A /a/d/deep/new", "C /b", "C /b/f", "C /c", "D /c/d"]);
    both(&stack);
}

#[test]
fn a_renamed_directory_is_whole_and_gone_from_its_old_place() {
    let stack = stack();
    let fs = stack.mount();
    fs.rename("a/d", "b/moved").unwrap();
    drop(fs);
    let want = ["C /a", "D /a/d", "C /b", "A /b/moved", "A /b/moved/deep", "A /b/moved/deep/x", "A /b/moved/deep/y"];
    assert_eq!(told(&stack), want);
    both(&stack);
}

#[test]
fn a_change_of_one_name_is_one_of_all() {
    let stack = stack();
    let fs = stack.mount();
    fs.write("a/h", 0, "L").unwrap();
    drop(fs);
    // Upper has only a/h; the others show it through the index.
    assert!(!stack.upper().has("b/h"));
    assert_eq!(told(&stack), ["C /a", "C /a/h", "C /a/h2", "C /b", "C /b/h"]);
    both(&stack);
}

#[test]
fn the_name_by_which_a_file_was_changed_is_gone() {
    let stack = stack();
    let fs = stack.mount();
    fs.chmod("a/h2", 0o600).unwrap();
    fs.unlink("a/h2").unwrap();
    drop(fs);
    assert_eq!(told(&stack), ["C /a", "C /a/h", "D /a/h2", "C /b", "C /b/h"]);
    both(&stack);
}

#[test]
fn only_one_name_is_left_of_a_file_that_was_changed_by_another() {
    let stack = stack();
    let fs = stack.mount();
    fs.write("a/h", 0, "L").unwrap();
    fs.unlink("a/h").unwrap();
    fs.unlink("a/h2").unwrap();
    drop(fs);
    assert_eq!(told(&stack), ["C /a", "D /a/h", "D /a/h2", "C /b", "C /b/h"]);
    both(&stack);
}

#[test]
fn a_name_that_moves_away_stays_a_link() {
    let stack = stack();
    let fs = stack.mount();
    fs.mkdir("n").unwrap();
    fs.rename("a", "n/a").unwrap();
    drop(fs);
    both(&stack);
}

#[test]
fn metadata_alone_brings_the_data_along() {
    if !root() {
        return metacopy(false);
    }
    metacopy(true);
}

/// A file with nothing but metadata, as the kernel makes it, under another name than its data.
fn metacopy(trusted: bool) {
    let stack = stack();
    drop(stack.mount());
    let upper = stack.upper();
    upper.file("b/meta", "").chmod("b/meta", 0o640).xattr("b", &marker("impure"), b"y");
    std::fs::File::options().write(true).open(upper.path("b/meta")).unwrap().set_len(3).unwrap();
    upper.xattr("b/meta", &marker("metacopy"), b"").xattr("b/meta", &marker("redirect"), b"/a/f1");
    assert!(marker("metacopy").starts_with("trusted") == trusted);
    assert!(pack(&stack).windows(3).any(|w| w == b"one"));
    both(&stack);
}

#[test]
fn a_name_too_long_for_a_whiteout_makes_its_directory_opaque() {
    let stack = stack();
    let long = "n".repeat(252);
    stack.lower(2).file(&format!("c/{long}"), "long").file("c/stays", "stays");
    let fs = stack.mount();
    fs.unlink(&format!("c/{long}")).unwrap();
    drop(fs);
    let tar = pack(&stack);
    assert!(tar.windows(14).any(|w| w == b"c/.wh..wh..opq"));
    both(&stack);
}

/// A socket counts as not there.
#[test]
fn a_socket_over_a_name_too_long_for_a_whiteout_makes_its_directory_opaque() {
    let stack = stack();
    let long = "n".repeat(252);
    stack.lower(2).file(&format!("c/{long}"), "long").file("c/stays", "stays").file("d/x", "x");
    let fs = stack.mount();
    fs.unlink(&format!("c/{long}")).unwrap();
    for path in [format!("c/{long}"), format!("d/{long}")] {
        fs.make(&path, New::Node(libc::S_IFSOCK, 0, 0), 0o600, 0, me()).unwrap();
    }
    drop(fs);
    let tar = pack(&stack);
    assert!(tar.windows(14).any(|w| w == b"c/.wh..wh..opq"));
    assert!(!tar.windows(14).any(|w| w == b"d/.wh..wh..opq"), "nothing was below it");
}

#[test]
fn contents_count_even_when_everything_else_is_as_before() {
    let stack = stack();
    let fs = stack.mount();
    let before = fs.attr("b/f").unwrap().mtime;
    fs.write("b/f", 0, "B").unwrap();
    let change = crate::overlay::Change { mtime: Some(crate::sys::SetTime::At(before)), ..Default::default() };
    fs.change("b/f", &change).unwrap();
    drop(fs);
    // Docker would not see it; a layer must have it.
    assert_eq!(told(&stack), [""; 0]);
    assert!(union(&stack).is_changed(Rule::Exact).unwrap());
    both(&stack);
}

#[test]
fn marks_of_an_overlay_inside_stay_its_own() {
    let stack = stack();
    let fs = stack.mount();
    fs.mkdir("n").unwrap();
    fs.set_xattr("n", "user.overlay.opaque", "y").unwrap();
    if root() {
        let node = crate::overlay::New::Node(libc::S_IFCHR, 0, 0);
        fs.make("n/gone", node, 0o600, 0, crate::overlay::tests::harness::me()).unwrap();
    }
    drop(fs);
    both(&stack);
}

#[test]
fn a_live_union_goes_on() {
    let stack = stack();
    let fs = stack.mount();
    fs.write("a/h", 0, "L").unwrap();
    fs.rename("c", "n").unwrap();
    let live = lasting(&view(&fs.overlay));
    let frozen = union(&stack);
    assert_eq!(lasting(&view(&frozen.top)), live);
    assert_eq!(frozen.top.unlink(1, "b".as_ref()).unwrap_err().errno(), libc::EROFS);
    fs.write("a/h", 0, "M").unwrap();
    fs.create("later").unwrap();
    drop(fs);
    drop(Overlay::open(&Options { ..stack.options.clone() }).unwrap());
}

/// Opening a FIFO waits for who writes, and opening a device does something.
#[test]
fn what_takes_the_place_of_a_file_is_not_opened() {
    let stack = stack();
    stack.mount().write("a/h", 0, "L").unwrap();
    let frozen = union(&stack).top;
    let a = frozen.lookup(1, "a".as_ref()).unwrap().ino;
    let file = frozen.lookup(a, "h".as_ref()).unwrap().ino;
    let path = stack.options.upper.as_ref().unwrap().join("a/h");
    std::fs::remove_file(&path).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let (sender, done) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(frozen.read(file, 0, &mut [0; 9])));
    let read = done.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
    assert_eq!(read.unwrap_err().errno(), libc::ESTALE);
}

#[test]
fn times_after_the_given_one_become_it() {
    let stack = stack();
    let fs = stack.mount();
    fs.create("b/later").unwrap();
    drop(fs);
    let packed = |latest| union(&stack).pack(Vec::new(), latest).unwrap();
    assert_ne!(packed(None).out, packed(Some(1_000_000_000)).out);
    let clamped = packed(Some(1_000_000_000));
    // ./ and b/ and b/later.
    assert_eq!(clamped.entries, 3);
    let octal = format!("{:011o}", 1_000_000_000);
    assert_eq!(clamped.out.windows(11).filter(|w| *w == octal.as_bytes()).count(), 3);
}

#[test]
fn a_link_whose_owner_is_lost_is_roots() {
    if !root() {
        // The layer's owner is who runs the test; the round trips of the others hold it.
        return;
    }
    let mut stack = Stack::new(1);
    stack.options.override_stat = true;
    let layer = stack.lower(1);
    layer.file("f", "f").symlink("lost", "f").symlink("kept", "f");
    for (name, uid, gid) in [("", 1234, 1235), ("lost", 1234, 1235), ("kept", 7, 8)] {
        std::os::unix::fs::lchown(stack.options.lower[0].join(name), Some(uid), Some(gid)).unwrap();
    }
    let whole = changes::Stack { writable: None, lower: &stack.options.lower, override_stat: true, fd_limit: 1024 };
    let layer = unpack(&Union::of_all(&whole).unwrap().pack(Vec::new(), None).unwrap().out, &[]);
    let owner = |name: &str| {
        let found = layer.path().join(name).symlink_metadata().unwrap();
        (found.uid(), found.gid())
    };
    assert_eq!((owner("lost"), owner("kept")), ((0, 0), (7, 8)));
}

/// Where devices, or attributes as well, could not be made.
#[test]
fn deletions_are_told_in_every_form_of_whiteout() {
    use crate::sys::{Errno, seam};
    let devices = ("mknodat 0:0", Errno::PERM);
    let attributes = ("setxattr", Errno::OPNOTSUPP);
    let rename = ("renameat2 WHITEOUT", Errno::INVAL);
    let mut forms = vec![vec![], vec![devices], vec![rename]];
    if root() {
        forms.push(vec![devices, attributes]);
    }
    for refused in forms {
        let stack = stack();
        let denied = seam::deny(&refused);
        let fs = stack.mount();
        fs.unlink("a/f1").unwrap();
        fs.rename("a/s", "b/s").unwrap();
        fs.unlink("c/d/y").unwrap();
        fs.rmdir("c/d").unwrap();
        fs.unlink("t/in").unwrap();
        fs.rmdir("t").unwrap();
        fs.mkdir("t").unwrap();
        drop((fs, denied));
        let tar = pack(&stack);
        for name in ["a/.wh.f1", "a/.wh.s", "c/.wh.d"] {
            assert!(tar.windows(name.len()).any(|w| w == name.as_bytes()), "{refused:?}: {name}");
        }
        both(&stack);
    }
}
