//! Which system calls an operation makes: the same on every machine, so that a needless one is noticed. docs/PERFORMANCE.md has
//! the table, which `LAMINAFS_TRACE=1` prints.
//!
//! Objects are known and their directories in use, as is usual when a request comes. `close(2)` is not announced at the seam:
//! one more for each descriptor that is opened and not kept.

use super::harness::{Fs, OTHER, Stack, errno, me};
use super::tree::root;
use crate::overlay::{Attr, Caller, Change, Ino, New, Overlay, RenameMode, Result};
use crate::sys::seam::{self, Plan};
use crate::sys::{SetTime, Time};
use std::ffi::OsStr;

/// The calls of each operation, in order.
struct Table(Vec<(&'static str, String)>);

impl Table {
    fn add<T>(&mut self, what: &'static str, act: impl FnOnce() -> Result<T>) -> T {
        seam::plan(Plan::Count);
        let result = act();
        let calls = seam::take().calls;
        self.0.push((what, calls.join(" ")));
        result.unwrap_or_else(|e| panic!("{what}: {e}"))
    }

    fn want(&self, wanted: &[(&str, &str)]) {
        if std::env::var_os("LAMINAFS_TRACE").is_some() {
            self.0.iter().for_each(|(what, calls)| println!("{what:<44} {calls}"));
        }
        let found: Vec<(&str, &str)> = self.0.iter().map(|(what, calls)| (*what, calls.as_str())).collect();
        let wrong: Vec<_> = found.iter().zip(wanted).filter(|(found, wanted)| found != wanted).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert_eq!(found.len(), wanted.len());
    }
}

fn os(name: &str) -> &OsStr {
    OsStr::new(name)
}

/// `d` is merged from two layers, `one` comes from one only, `new` is in upper only. The first change in a directory brings
/// it to upper and reads it; that is done here, so that it is not counted.
fn mounted() -> (Stack, Fs) {
    let stack = Stack::new(2);
    for (n, layer) in [(1, stack.lower(1)), (2, stack.lower(2))] {
        layer.file(&format!("d/in{n}"), "content").file("d/both", "content");
    }
    let low = stack.lower(2);
    for name in ["gone", "away", "read"] {
        low.file(&format!("d/{name}"), "content");
    }
    low.file("one/read", "content").dir("d/empty");
    let fs = stack.mount();
    fs.mkdir("new").unwrap();
    for dir in ["d", "one", "new"] {
        fs.create(&format!("{dir}/first")).unwrap();
        fs.unlink(&format!("{dir}/first")).unwrap();
    }
    // The whiteout that all share is made with the first.
    fs.unlink("d/in1").unwrap();
    (stack, fs)
}

fn create(o: &Overlay, dir: Ino, name: &str, new: New<'_>) -> Result<Attr> {
    o.create(dir, os(name), new, 0o755, 0o022, me())
}

fn change(o: &Overlay, ino: Ino, change: Change) -> Result<Attr> {
    // An ordinary user may lose set-id bits, which costs a look.
    o.set_attr(ino, &change, Caller::new(0, 0, 0))
}

fn rename(o: &Overlay, from: (Ino, &str), to: (Ino, &str)) -> Result<()> {
    o.rename(from.0, os(from.1), to.0, os(to.1), RenameMode::Replace)
}

#[test]
fn making_writing_and_changing_what_is_in_upper() {
    let (_stack, fs) = mounted();
    let (o, dir, merged) = (&fs.overlay, fs.ino("new").unwrap(), fs.ino("d").unwrap());
    let time = SetTime::At(Time { sec: 1, nsec: 2 });
    let mut t = Table(Vec::new());

    let f = t.add("create", || create(o, dir, "f", New::File)).ino;
    t.add("create in a merged directory", || create(o, merged, "f", New::File));
    t.add("mkdir", || create(o, dir, "sub", New::Directory));
    t.add("symlink", || create(o, dir, "s", New::Symlink(os("target"))));
    // What the work directory is like is found out once.
    create(o, merged, "in2", New::File).unwrap_err();
    o.unlink(merged, os("in2")).unwrap();
    create(o, merged, "in2", New::File).unwrap();
    t.add("create over a whiteout", || create(o, merged, "in1", New::File));
    t.add("first write", || o.write(f, 0, &[1; 4096]));
    t.add("write", || o.write(f, 4096, &[1; 4096]));
    t.add("first write of an ordinary user", || {
        o.drop_set_id(f, OTHER)?;
        o.write(f, 4096, &[1; 4096])
    });
    t.add("read", || o.read(f, 0, &mut [0; 4096]));
    t.add("read past the end", || o.read(f, 4096, &mut [0; 8192]));
    t.add("getattr", || o.get_attr(f));
    t.add("chmod", || change(o, f, Change { mode: Some(0o640), ..Change::default() }));
    t.add("chown", || change(o, f, Change { uid: Some(me().uid), ..Change::default() }));
    t.add("utimensat", || change(o, f, Change { atime: Some(time), mtime: Some(time), ..Change::default() }));
    t.add("truncate", || change(o, f, Change { size: Some(10), ..Change::default() }));
    t.add("set an attribute", || o.set_xattr(f, c"user.a", b"b", 0, me()));
    t.add("link", || o.link(f, dir, os("g")));
    t.add("link in another directory", || o.link(f, merged, os("g")));
    t.add("unlink one of two names", || o.unlink(dir, os("g")));
    o.unlink(merged, os("g")).unwrap();
    t.add("rename", || rename(o, (dir, "f"), (dir, "h")));
    t.add("rename to another directory", || rename(o, (dir, "h"), (merged, "h")));
    t.add("rename onto a file", || rename(o, (merged, "h"), (merged, "f")));
    t.add("unlink", || o.unlink(merged, os("f")));
    create(o, dir, "t", New::Symlink(os("target"))).unwrap();
    t.add("unlink of what was not used", || o.unlink(dir, os("t")));
    t.add("rmdir of what was not used", || o.rmdir(dir, os("sub")));
    let sub = create(o, dir, "sub", New::Directory).unwrap().ino;
    create(o, sub, "f", New::File).unwrap();
    o.unlink(sub, os("f")).unwrap();
    t.add("rmdir", || o.rmdir(dir, os("sub")));
    t.want(&[
        // The descriptor is kept, so that writing begins at once.
        ("create", "openat statx"),
        ("create in a merged directory", "openat statx"),
        ("mkdir", "mkdirat statx"),
        ("symlink", "symlinkat statx"),
        // The first `statx` is about the directory: whether its group is inherited.
        ("create over a whiteout", "statx openat renameat2 statx"),
        ("first write", "pwrite"),
        ("write", "pwrite"),
        ("first write of an ordinary user", "pwrite"),
        ("read", "pread"),
        // Only an empty read tells that the end was no error.
        ("read past the end", "pread pread"),
        ("getattr", "statx"),
        ("chmod", "fchmodat2 statx"),
        ("chown", "fchownat statx"),
        ("utimensat", "utimensat statx"),
        ("truncate", "ftruncate statx"),
        ("set an attribute", "setxattr"),
        ("link", "linkat statx"),
        ("link in another directory", "openat linkat statx"),
        ("unlink one of two names", "unlinkat"),
        ("rename", "renameat2"),
        ("rename to another directory", "renameat2"),
        ("rename onto a file", "renameat2"),
        ("unlink", "unlinkat"),
        // Who has it open goes on with the descriptor.
        ("unlink of what was not used", "openat unlinkat"),
        ("rmdir of what was not used", "openat unlinkat"),
        ("rmdir", "unlinkat"),
    ]);
}

#[test]
fn changing_what_a_lower_layer_has() {
    let (_stack, fs) = mounted();
    let (o, dir) = (&fs.overlay, fs.ino("d").unwrap());
    for name in ["gone", "empty"] {
        fs.ino(&format!("d/{name}")).unwrap();
    }
    fs.write("d/both", 0, "x").unwrap();
    let mut t = Table(Vec::new());
    t.add("unlink of a lower file", || o.unlink(dir, os("gone")));
    t.add("unlink of a file in upper and below", || o.unlink(dir, os("both")));
    t.add("rmdir of a lower directory", || o.rmdir(dir, os("empty")));
    t.want(&[
        ("unlink of a lower file", "linkat"),
        // The whiteout that all share gets a name in the work directory, and goes from there over the file.
        ("unlink of a file in upper and below", "linkat renameat2"),
        // Opened to be kept, and read to see that it is empty.
        ("rmdir of a lower directory", "openat2 lseek getdents64 getdents64 listxattr linkat"),
    ]);
}

#[test]
fn looking() {
    let (_stack, fs) = mounted();
    let o = &fs.overlay;
    let (one, merged) = (fs.ino("one").unwrap(), fs.ino("d").unwrap());
    let mut t = Table(Vec::new());
    let f = t.add("lookup of a lower file", || o.lookup(one, os("read"))).ino;
    t.add("lookup again", || o.lookup(one, os("read")));
    t.add("lookup in a merged directory", || o.lookup(merged, os("read")));
    assert!(t.add("lookup of a missing name", || Ok(o.lookup(merged, os("none")).is_err())));
    assert!(t.add("lookup of a missing name, one layer", || Ok(o.lookup(one, os("none")).is_err())));
    t.add("getattr", || o.get_attr(f));
    t.add("first read", || o.read(f, 0, &mut [0; 4096]));
    t.add("read", || o.read(f, 0, &mut [0; 7]));
    t.add("read past the end", || o.read(f, 0, &mut [0; 4096]));
    let entries = 6;
    t.add("listing", || o.read_dir(merged, 2, true, &mut |e| e.attr.is_some()));
    t.add("getattr of a directory", || o.get_attr(merged));
    let listing = vec!["statx"; entries].join(" ");
    t.want(&[
        ("lookup of a lower file", "statx"),
        ("lookup again", "statx"),
        ("lookup in a merged directory", "statx"),
        ("lookup of a missing name", ""),
        ("lookup of a missing name, one layer", ""),
        ("getattr", "statx"),
        // Whether it has data of its own is asked; it ends where the file was known to end.
        ("first read", "openat listxattr pread"),
        ("read", "pread"),
        ("read past the end", "pread"),
        ("listing", &listing),
        ("getattr of a directory", "statx"),
    ]);
}

#[test]
fn making_for_another_user() {
    let (_stack, fs) = mounted();
    let dir = fs.ino("new").unwrap();
    let make = |name: &str| fs.overlay.create(dir, os(name), New::File, 0o644, 0, OTHER);
    // What the work directory is like is found out once.
    assert_eq!(errno(make("first")), if root() { 0 } else { libc::EPERM });
    if root() {
        let mut t = Table(Vec::new());
        t.add("create", || make("f"));
        t.want(&[("create", "statx openat fchownat renameat2 statx")]);
    }
}
