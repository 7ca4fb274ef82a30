//! What differs on purpose (docs/SEMANTICS.md section 4), as narrow as it can be said. Anything else that differs is a
//! failure.
//!
//! Never compared: sizes and link counts of directories, allocated blocks, atime, ctime (a copy-up shows in them, and
//! copy-up happens at different moments), the order of readdir. Inode numbers are not compared between the sides but
//! within laminafs: readdir, lstat and fstat agree, and numbers stay through copy-up and remounts.

use super::ops::{Op, Step};
use super::side::{Outcome, Side};
use super::tree::{self, Tree};

/// Whether two outcomes are as they should be.
pub fn agree(step: &Step, kernel: &Outcome, laminafs: &Outcome, kernel_side: &Side) -> bool {
    kernel == laminafs || stale_map(step, laminafs, kernel_side)
}

/// A map of a lower file that was made before copy-up shows the old content for ever on the kernel's side, the present
/// one here: one inode has one page cache. Ours must be what the kernel's side shows to a new descriptor.
fn stale_map(step: &Step, laminafs: &Outcome, kernel_side: &Side) -> bool {
    match &step.op {
        Op::MapRead { slot, offset, len } => kernel_side.fresh_content(*slot, *offset, *len) == *laminafs,
        _ => false,
    }
}

/// How two trees differ, in words.
pub fn of_trees(kernel: (&str, &Tree), other: (&str, &Tree)) -> Vec<String> {
    tree::differences(kernel, other).into_iter().filter(|text| !listed_whiteout(text)).collect()
}

/// In a directory that is not merged the kernel lists a whiteout that is a file with an attribute, and then does not find
/// it. Here it is not listed.
fn listed_whiteout(text: &str) -> bool {
    let mut lines = text.lines().skip(1);
    lines.next().is_some_and(|kernel| kernel.ends_with(": cannot be looked at: (Some(2), Some(2))"))
        && lines.next().is_some_and(|other| other.ends_with(": does not exist"))
}
