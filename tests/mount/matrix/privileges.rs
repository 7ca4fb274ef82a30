//! Set-user-id and set-group-id bits and file capabilities: what takes them away, and what does not.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;

use super::super::harness::{Bed, has, passthrough};
use super::super::os::{self, Map};
use super::{Case, GROUP, OWNER, Stage, Tree, USERS, USUAL, check_with, code, codes, everybody, open_write};

/// `cap_net_raw+ep` as the kernel stores it (`struct vfs_cap_data`, revision 2).
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Anybody may write them; what is set besides.
const FILES: [(&str, u32, bool); 6] = [
    ("both", 0o6777, false),
    ("locking", 0o2767, false),
    ("plain", 0o4666, false),
    ("capable", 0o777, true),
    ("all", 0o6777, true),
    ("none", 0o666, false),
];

fn privileged(t: &Tree) -> &Tree {
    for (name, mode, capable) in FILES {
        t.file(name, mode);
        if capable {
            t.xattr(name, "security.capability", &CAPABILITY);
        }
    }
    t.file("source", 0o644)
}

/// One call on each file by the user.
fn each(s: &Stage, call: impl Fn(&Path) -> io::Result<()> + Sync) -> String {
    s.user(|p| FILES.map(|(name, ..)| code(call(&p.join(name)))).join(", "))
}

/// One call on each file through a descriptor that root opened when the file had no privileges, which it has since got.
fn each_opened_before(s: &Stage, call: impl Fn(&File) -> io::Result<()> + Sync) -> String {
    let files = FILES.map(|(name, mode, capable)| {
        let path = s.path(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let file = os::open_rw(&path);
        file.write_all_at(b"root", 0).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        if capable {
            os::set_xattr(&path, "security.capability", &CAPABILITY).unwrap();
        }
        file
    });
    s.user(|_| files.each_ref().map(|f| code(call(f))).join(", "))
}

fn write(p: &Path) -> io::Result<()> {
    open_write(p)?.write_all_at(b"new", 4)
}

fn write_by_map(file: &File) -> io::Result<()> {
    let mut map = Map::new(file, 10, true, true)?;
    map.write(3, b"mapped");
    map.sync()
}

fn copy_onto(file: &File, from: &Path) -> io::Result<()> {
    let from = File::open(from)?;
    let n = rustix::fs::copy_file_range(from, Some(&mut 0), file, Some(&mut 2), 6)?;
    assert_eq!(n, 6);
    Ok(())
}

fn splice_onto(file: &File) -> io::Result<()> {
    let (reader, writer) = rustix::pipe::pipe()?;
    rustix::io::write(&writer, b"spliced")?;
    rustix::pipe::splice(reader, None, file, Some(&mut 1), 7, rustix::pipe::SpliceFlags::empty())?;
    Ok(())
}

/// Where the file system cannot go around the cache, through it.
fn write_directly(p: &Path) -> io::Result<()> {
    let mut memory = [0u8; 8192];
    let skip = memory.as_ptr().align_offset(4096);
    let page = &mut memory[skip..skip + 4096];
    match OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(p) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => open_write(p)?.write_all_at(page, 0),
        file => file?.write_all_at(page, 0),
    }
}

fn truncate(p: &Path, len: u64) -> io::Result<()> {
    let path = std::ffi::CString::new(p.to_str().unwrap()).unwrap();
    let failed = unsafe { libc::truncate(path.as_ptr(), len as i64) } != 0;
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

const WHOLE: u64 = 27;

const WRITES: &[Case] = &[
    Case { name: "write", setup: privileged, run: |s| each(s, write) },
    Case { name: "write nothing", setup: privileged, run: |s| each(s, |p| open_write(p)?.write_all_at(b"", 0)) },
    Case {
        name: "append",
        setup: privileged,
        run: |s| each(s, |p| io::Write::write_all(&mut File::options().append(true).open(p)?, b"more")),
    },
    Case { name: "write around the cache", setup: privileged, run: |s| each(s, write_directly) },
    Case { name: "splice", setup: privileged, run: |s| each(s, |p| splice_onto(&open_write(p)?)) },
    Case {
        name: "write twice, with the privileges given back in between",
        setup: privileged,
        run: |s| {
            let first = each(s, write);
            for (name, mode, capable) in FILES {
                fs::set_permissions(s.path(name), fs::Permissions::from_mode(mode)).unwrap();
                if capable {
                    os::set_xattr(&s.path(name), "security.capability", &CAPABILITY).unwrap();
                }
            }
            first + &each(s, write)
        },
    },
    Case {
        name: "write after a change of the mode, which copied it up",
        setup: privileged,
        run: |s| {
            for (name, mode, _) in FILES {
                fs::set_permissions(s.path(name), fs::Permissions::from_mode(mode & !0o100)).unwrap();
            }
            each(s, write)
        },
    },
    Case {
        name: "write through another name",
        setup: privileged,
        run: |s| {
            FILES.iter().for_each(|(n, ..)| fs::hard_link(s.path(n), s.path(&format!("{n}.link"))).unwrap());
            each(s, |p| write(&p.with_extension("link")))
        },
    },
    Case { name: "held: write", setup: privileged, run: |s| each_opened_before(s, |f| f.write_all_at(b"new", 4)) },
    Case { name: "held: splice", setup: privileged, run: |s| each_opened_before(s, splice_onto) },
];

/// For these FUSE does not say whether the caller has `CAP_FSETID`; user id 0 counts as having it, others as not.
const LENGTHS: &[Case] = &[
    Case {
        name: "copy_file_range",
        setup: privileged,
        run: |s| each(s, |p| copy_onto(&open_write(p)?, &p.with_file_name("source"))),
    },
    Case { name: "open and truncate", setup: privileged, run: |s| each(s, |p| File::create(p).map(drop)) },
    Case { name: "truncate to less", setup: privileged, run: |s| each(s, |p| truncate(p, 3)) },
    Case { name: "truncate to the same", setup: privileged, run: |s| each(s, |p| truncate(p, WHOLE)) },
    Case { name: "truncate to more", setup: privileged, run: |s| each(s, |p| truncate(p, 5000)) },
    Case { name: "ftruncate", setup: privileged, run: |s| each(s, |p| open_write(p)?.set_len(3)) },
    Case { name: "fallocate", setup: privileged, run: |s| each(s, |p| os::fallocate(&open_write(p)?, 0, 0, 9000)) },
    Case {
        name: "fallocate and keep the size",
        setup: privileged,
        run: |s| each(s, |p| os::fallocate(&open_write(p)?, libc::FALLOC_FL_KEEP_SIZE, 0, 9000)),
    },
    Case {
        name: "punch a hole",
        setup: privileged,
        run: |s| {
            let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            each(s, |p| os::fallocate(&open_write(p)?, mode, 0, 9))
        },
    },
    Case { name: "held: ftruncate", setup: privileged, run: |s| each_opened_before(s, |f| f.set_len(3)) },
    Case {
        name: "held: fallocate",
        setup: privileged,
        run: |s| each_opened_before(s, |f| os::fallocate(f, 0, 0, 9000)),
    },
    Case {
        name: "held: copy_file_range",
        setup: privileged,
        run: |s| {
            let source = s.path("source");
            each_opened_before(s, |f| copy_onto(f, &source))
        },
    },
    Case {
        name: "held: set the mode, the owner and an attribute",
        setup: privileged,
        run: |s| {
            each_opened_before(s, |f| f.set_permissions(fs::Permissions::from_mode(0o6711)))
                + &each_opened_before(s, |f| std::os::unix::fs::fchown(f, Some(OWNER), Some(GROUP)))
        },
    },
];

/// Written by the page cache later, in nobody's name.
const MAPPED: &[Case] = &[
    Case { name: "mmap", setup: privileged, run: |s| each(s, |p| write_by_map(&os::open_flags(p, 0)?)) },
    Case { name: "held: mmap", setup: privileged, run: |s| each_opened_before(s, write_by_map) },
];

const OTHERS: &[Case] = &[
    Case { name: "chown to the same", setup: privileged, run: |s| each(s, |p| chown(p, Some(OWNER), None)) },
    Case { name: "chown to another", setup: privileged, run: |s| each(s, |p| chown(p, Some(77), None)) },
    Case { name: "chgrp", setup: privileged, run: |s| each(s, |p| chown(p, None, Some(GROUP))) },
    Case { name: "chgrp to the primary group", setup: privileged, run: |s| each(s, |p| chown(p, None, Some(1000))) },
    Case {
        name: "chmod",
        setup: privileged,
        run: |s| each(s, |p| fs::set_permissions(p, fs::Permissions::from_mode(0o6755))),
    },
    Case { name: "times", setup: privileged, run: |s| each(s, |p| os::set_times(p, (5, 0), (5, 0))) },
    Case { name: "attribute", setup: privileged, run: |s| each(s, |p| os::set_xattr(p, "user.a", b"x")) },
    Case {
        name: "remove the capability, and set one",
        setup: privileged,
        run: |s| {
            each(s, |p| Ok(rustix::fs::lremovexattr(p, "security.capability")?))
                + &each(s, |p| os::set_xattr(p, "security.capability", &CAPABILITY))
        },
    },
    Case {
        name: "open for writing, sync and close",
        setup: privileged,
        run: |s| each(s, |p| open_write(p)?.sync_all()),
    },
    Case {
        name: "rename and link",
        setup: |t| privileged(t.dir("d", 0o777)),
        run: |s| {
            fs::set_permissions(s.path(""), fs::Permissions::from_mode(0o777)).unwrap();
            each(s, |p| fs::rename(p, p.with_extension("moved")))
                + &each(s, |p| fs::hard_link(p.with_extension("moved"), p))
        },
    },
    Case {
        name: "chown of directories, pipes and links with bits",
        setup: |t| t.dir("d", 0o6777).fifo("p", 0o6777).symlink("l", "x"),
        run: |s| s.user(|p| codes(["d", "p", "l"].map(|n| std::os::unix::fs::lchown(p.join(n), None, Some(GROUP))))),
    },
];

/// Defect A18: the file system promises to clear these bits and does not.
#[test]
fn privileges_of_files_are_lost_with_writes_as_on_a_bare_directory() {
    check_with("", &everybody(), WRITES, str::to_owned);
}

#[test]
fn privileges_of_files_are_lost_with_truncation_and_allocation_as_on_a_bare_directory() {
    check_with("", &USUAL, LENGTHS, str::to_owned);
}

#[test]
fn privileges_of_files_and_mappings() {
    // The daemon writes the pages with write(2), which takes capabilities away; on a bare directory nothing does.
    check_with("", &USERS, MAPPED, |bare| bare.replace(&format!(" security.capability={CAPABILITY:x?}"), ""));
}

#[test]
fn privileges_of_files_are_lost_with_their_attributes_as_on_a_bare_directory() {
    check_with("", &USUAL, OTHERS, str::to_owned);
}

/// The same when the kernel collects writes. It then leaves the time alone where a truncation changes no length.
#[test]
fn privileges_of_files_with_collected_writes() {
    // Without the capability the kernel leaves set-group-id of files without execution for the group alone, and nobody
    // else knows who has written.
    let mut users = everybody();
    if !has(&["handle_killpriv_v2"]) {
        users.retain(|user| user.gid == GROUP || user.groups.contains(&GROUP));
    }
    check_with("writeback=1", &users, WRITES, str::to_owned);
    let lengths = LENGTHS.iter().filter(|c| c.name != "truncate to the same");
    check_with("writeback=1", &USUAL, lengths, str::to_owned);
}

/// The same when the kernel writes by itself: it asks before, but not on behalf of which capabilities, which tells for
/// callers whose capabilities are not those of their user id.
#[test]
fn privileges_of_files_that_are_passed_through() {
    // What is not passed through: `privileges_of_files_and_mappings`.
    let mapped = if passthrough() == "data=passthrough" { MAPPED } else { &[] };
    check_with(passthrough(), &USUAL, WRITES.iter().chain(mapped).chain(LENGTHS).chain(OTHERS), str::to_owned);
}

/// chown(2) that changes neither owner nor group comes to the daemon as what a write sends too, without a check. On a
/// bare directory it takes bits away and is refused to others; here nobody may strip a program of others by it.
#[test]
fn a_change_of_nothing_strips_no_programs_of_others() {
    let bed = Bed::new(|l| drop(privileged(&Tree(l.to_path_buf())).path("")));
    // Without the capability the kernel takes the bits away by itself, and asks for what the caller may do.
    for user in everybody().into_iter().filter(|u| u.uid != 0 && u.uid != OWNER) {
        let stage = Stage { root: bed.m.clone(), user };
        each(&stage, |p| chown(p, None, None));
        for (name, mode, _) in FILES {
            assert_eq!(bed.p(name).metadata().unwrap().permissions().mode() & 0o7777, mode, "{name}");
        }
    }
}
