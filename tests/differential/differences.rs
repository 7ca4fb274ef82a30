//! What differs on purpose (docs/SEMANTICS.md section 4), as narrow as it can be said. Anything else that differs is a
//! failure.
//!
//! Never compared: sizes and link counts of directories, allocated blocks, atime, ctime (a copy-up shows in them, and
//! copy-up happens at different moments), the order of readdir. Inode numbers are not compared between the sides but
//! within laminafs: readdir, lstat and fstat agree, and numbers stay through copy-up and remounts.

use super::ops::{Op, Step};
use super::side::{Outcome, Side};
use super::text::{Id, Place, Slot, Who};
use super::tree::{self, Tree};

/// What two outcomes mean for the sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Agree,
    /// One side went on and the other did not, on purpose: there is nothing to compare any more.
    Part,
    /// The same, but only a file without names is concerned, which is to be let go.
    LetGo(Slot),
    Differ,
}

/// What the verdict may depend on.
pub struct Context<'a> {
    pub kernel: &'a Side,
    pub laminafs: &'a Side,
    /// There are whiteouts in the layers that are files with an attribute.
    pub attribute_whiteouts: bool,
    /// There are names in it with which a path can be too long for a redirect.
    pub long_names: bool,
}

/// Whether two outcomes are as they should be.
pub fn judge(step: &Step, kernel: &Outcome, laminafs: &Outcome, context: &Context) -> Verdict {
    let Context { kernel: kernel_side, laminafs: laminafs_side, attribute_whiteouts, long_names } = *context;
    if deleted_special_file(step, kernel, laminafs_side) {
        Verdict::Part
    } else if kernel == laminafs
        || matches!((kernel, laminafs), (Ok(kernel), Ok(laminafs)) if tree::agree(kernel, laminafs))
        || stale_map(step, laminafs, kernel_side)
        || absent_acl(step, kernel, laminafs)
        || listed_whiteouts(step, kernel, laminafs, kernel_side)
        || no_links(step, kernel, laminafs)
        || flags_of_special_files(step, kernel, laminafs)
        || chown_to_nobody(step, kernel, laminafs)
        || holes(step, kernel, laminafs)
        || inherited_flags(step, kernel, laminafs)
        || deleted_lower_directory(step, laminafs, laminafs_side) && not_copied_up(kernel)
    {
        Verdict::Agree
    } else if let Some(slot) = deleted_lower_file(step, kernel, laminafs_side) {
        Verdict::LetGo(slot)
    } else if long_names && long_redirect(step, kernel, laminafs)
        || deleted_lower_directory(step, laminafs, laminafs_side)
        || link_by_old_mode(step, laminafs)
        || attribute_whiteouts && whiteouts_in_the_way(step, kernel, laminafs)
    {
        Verdict::Part
    } else {
        Verdict::Differ
    }
}

/// The link count of a deleted file of a lower layer is 0 here; the kernel shows that of the lower file.
fn no_links(step: &Step, kernel: &Outcome, laminafs: &Outcome) -> bool {
    let (Op::Fstat { .. }, Ok(kernel), Ok(laminafs)) = (&step.op, kernel, laminafs) else { return false };
    let differ: Vec<_> = kernel.split(' ').zip(laminafs.split(' ')).filter(|(a, b)| a != b).collect();
    matches!(differ[..], [(a, "nlink=0")] if a.starts_with("nlink="))
}

/// A deleted file of a lower layer can still be changed here; the kernel cannot copy up what has no name.
fn deleted_lower_file(step: &Step, kernel: &Outcome, laminafs_side: &Side) -> Option<Slot> {
    let slot = attribute_slot(step)?;
    let refused = matches!(kernel, Err(libc::ENOENT | libc::EEXIST | libc::ESTALE));
    (refused && laminafs_side.is_deleted(slot)).then_some(slot)
}

/// A deleted directory of a lower layer cannot be changed, but for a chown to nobody new, which changes nothing; the kernel
/// says so with other errors, or copies up what has come under its name since.
fn deleted_lower_directory(step: &Step, laminafs: &Outcome, laminafs_side: &Side) -> bool {
    let deleted = attribute_slot(step).is_some_and(|slot| laminafs_side.is_deleted(slot));
    let nothing = matches!(step.op, Op::Fchown { user: Id(None), group: Id(None), .. });
    deleted && (*laminafs == Err(libc::ENOENT) || nothing && laminafs.is_ok())
}

/// The kernel's copy-up of what has no name failed. With any other error the call failed after it, and what has come under
/// the name since has been replaced on the disk: the mounted kernel does not show it, the next mount of this upper does.
fn not_copied_up(kernel: &Outcome) -> bool {
    matches!(kernel, Err(libc::ENOENT | libc::ENOTDIR | libc::EIO | libc::ESTALE | libc::EEXIST))
}

/// chown(2) to nobody new of a stranger's set-id file is EPERM. FUSE asks in the same words for the bits to be cleared before
/// a write, which is allowed: here both succeed, and this one changes nothing.
fn chown_to_nobody(step: &Step, kernel: &Outcome, laminafs: &Outcome) -> bool {
    match step.op {
        Op::Chown { user: Id(None), group: Id(None), .. } | Op::Fchown { user: Id(None), group: Id(None), .. } => {
            *kernel == Err(libc::EPERM) && laminafs.is_ok() && step.who != Who::Root
        }
        _ => false,
    }
}

/// Where holes are is up to the file system below: a copy can have others than its source, and on tmpfs a page that was
/// looked at through a map is data from then on.
fn holes(step: &Step, kernel: &Outcome, laminafs: &Outcome) -> bool {
    let is_answer = |outcome: &Outcome| outcome.is_ok() || *outcome == Err(libc::ENXIO);
    matches!(step.op, Op::Seek { .. }) && is_answer(kernel) && is_answer(laminafs)
}

/// What is made by others than the mounting user comes from the work directory and has no inode flags of its directory.
fn inherited_flags(step: &Step, kernel: &Outcome, laminafs: &Outcome) -> bool {
    const INHERITED: u32 = 0x40 | 0x80; // nodump, noatime
    let flags = |outcome: &Outcome| outcome.as_ref().ok().and_then(|text| u32::from_str_radix(text, 16).ok());
    let (Op::GetInodeFlags { .. }, Some(kernel), Some(laminafs)) = (&step.op, flags(kernel), flags(laminafs)) else {
        return false;
    };
    kernel & !INHERITED == laminafs & !INHERITED && laminafs & !kernel == 0
}

/// The kernel copies a deleted node of a lower layer up under the name that it had, and there it is again.
fn deleted_special_file(step: &Step, kernel: &Outcome, laminafs_side: &Side) -> bool {
    kernel.is_ok()
        && attribute_slot(step).is_some_and(|slot| laminafs_side.is_deleted(slot) && laminafs_side.is_special(slot))
}

/// The slot of a step that changes attributes of what is held.
fn attribute_slot(step: &Step) -> Option<Slot> {
    match step.op {
        Op::Fchmod { slot, .. }
        | Op::Fchown { slot, .. }
        | Op::Futimens { slot, .. }
        | Op::FsetXattr { slot, .. }
        | Op::FremoveXattr { slot, .. } => Some(slot),
        _ => None,
    }
}

/// Setting inode flags of a special file fails in any case; FUSE looks at the owner first.
fn flags_of_special_files(step: &Step, kernel: &Outcome, laminafs: &Outcome) -> bool {
    matches!(step.op, Op::SetInodeFlags { .. })
        && *kernel == Err(libc::ENOTTY)
        && *laminafs == Err(libc::EPERM)
        && step.who != Who::Root
}

/// Removing an ACL that is not there succeeds here, as on other file systems; the kernel's overlay says ENODATA as long as
/// the file is not copied up.
fn absent_acl(step: &Step, kernel: &Outcome, laminafs: &Outcome) -> bool {
    matches!(step.op, Op::RemoveAcl { .. }) && *kernel == Err(libc::ENODATA) && laminafs.is_ok()
}

/// In a directory that comes from one layer only, the kernel lists a whiteout like any other entry, and then does not find
/// it. Here it is not listed.
fn listed_whiteouts(step: &Step, kernel: &Outcome, laminafs: &Outcome, kernel_side: &Side) -> bool {
    match (&step.op, kernel, laminafs) {
        (Op::List { path }, Ok(kernel), Ok(laminafs)) => kernel_side.without_phantoms(path, kernel) == *laminafs,
        (Op::RemoveTree { .. }, Ok(kernel), Ok(laminafs)) => without_missing(kernel) == without_missing(laminafs),
        _ => false,
    }
}

/// The errors of a removal without those that say that an entry does not exist.
fn without_missing(errors: &str) -> Vec<&str> {
    let inside = errors.trim_start_matches('[').trim_end_matches(']');
    let each = inside.split("), (").map(|e| e.trim_start_matches('(').trim_end_matches(')'));
    each.filter(|e| !e.is_empty() && !e.ends_with(", 2")).collect()
}

/// The same in removals: for the kernel a directory with whiteouts that are files with an attribute is not empty.
fn whiteouts_in_the_way(step: &Step, kernel: &Outcome, laminafs: &Outcome) -> bool {
    match (&step.op, kernel, laminafs) {
        (Op::RemoveTree { .. }, Ok(kernel), Ok(laminafs)) => kernel.contains(", 39)") && laminafs.len() < kernel.len(),
        (Op::Rmdir { .. } | Op::Rename { .. }, Err(libc::ENOTEMPTY), Ok(_)) => true,
        _ => false,
    }
}

/// A write of somebody else clears set-id bits. FUSE asks for the new mode at the next permission check, but
/// `protected_hardlinks` looks at the old one before that: the link is refused.
fn link_by_old_mode(step: &Step, laminafs: &Outcome) -> bool {
    matches!(step.op, Op::Link { .. }) && *laminafs == Err(libc::EPERM) && step.who != Who::Root
}

/// The kernel does not record a redirect of more than 256 bytes and says EXDEV; here the directory is copied up.
fn long_redirect(step: &Step, kernel: &Outcome, laminafs: &Outcome) -> bool {
    // The path in the lower layer counts: the names in it may have been others since.
    matches!(step.op, Op::Rename { .. }) && *kernel == Err(libc::EXDEV) && laminafs.is_ok()
}

/// A map of a lower file that was made before copy-up shows the old content for ever on the kernel's side, the present
/// one here: one inode has one page cache. Ours must be what the kernel's side shows to a new descriptor.
fn stale_map(step: &Step, laminafs: &Outcome, kernel_side: &Side) -> bool {
    match &step.op {
        // Also when the file was shorter then: the kernel's old map ends there.
        Op::MapRead { slot, offset, len } => kernel_side.fresh_content(*slot, *offset, *len) == *laminafs,
        _ => false,
    }
}

/// A rename onto a directory that is not empty fails in the kernel's upper directory, which on ext4 has made the whiteout by
/// then: the mtime of the old parent is new. What fails changes nothing here, so the kernel's side gets its time back.
pub fn failed_rename(kernel_side: &Side, from: &Place, mtime: Option<libc::timespec>, kernel: &Outcome) {
    let Some(mtime) = mtime.filter(|_| *kernel == Err(libc::ENOTEMPTY)) else { return };
    let same = |now: &libc::timespec| (now.tv_sec, now.tv_nsec) == (mtime.tv_sec, mtime.tv_nsec);
    // Unchanged times are not set: that would copy up.
    if kernel_side.parent_mtime(from).is_some_and(|now| !same(&now)) {
        kernel_side.set_parent_mtime(from, mtime);
    }
}

/// How two trees differ, in words.
pub fn of_trees(kernel: (&str, &Tree), other: (&str, &Tree)) -> Vec<String> {
    tree::differences(kernel, other).into_iter().filter(|text| !listed_whiteout(text)).collect()
}

/// As `listed_whiteouts`.
fn listed_whiteout(text: &str) -> bool {
    let lines: Vec<_> = text.lines().skip(1).collect();
    let missing = |line: &&str| line.ends_with(": does not exist");
    let listed = |line: &&str| line.contains("kernel") && line.ends_with(": cannot be looked at: (Some(2), Some(2))");
    matches!(&lines[..], [a, b] if listed(a) && missing(b) || missing(a) && listed(b))
}
