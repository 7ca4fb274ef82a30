//! Whether directories of a stack lie in each other.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::options::{LOWER_ROLE, OpenError, UPPER_ROLE, WORK_ROLE};

/// A directory of the stack, as far as overlaps are concerned.
struct Place<'a> {
    role: &'static str,
    given: &'a Path,
    real: PathBuf,
    /// Device and inode number: by another path, a bind mount, it is the same directory too.
    id: Option<(u64, u64)>,
}

impl<'a> Place<'a> {
    fn new(role: &'static str, given: &'a Path) -> Result<Self, OpenError> {
        let real = match given.canonicalize() {
            // It was opened, so it is there: no path leads to it (a mount that is known by a descriptor only).
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => given.to_owned(),
            other => other.map_err(|source| OpenError::Directory { role, path: given.into(), source })?,
        };
        let id = std::fs::metadata(&real).map(|m| (m.dev(), m.ino())).ok();
        Ok(Self { role, given, real, id })
    }

    fn is_in(&self, outer: &Self) -> bool {
        self.real.starts_with(&outer.real) || (self.id.is_some() && self.id == outer.id)
    }
}

/// Refuses an upper or work directory that is one of the others, is inside of one or holds one. Lower layers may lie in
/// each other: nobody writes there.
pub(super) fn check_overlaps<'a>(
    upper: &Path,
    work: &Path,
    lowers: impl Iterator<Item = &'a PathBuf>,
) -> Result<(), OpenError> {
    let overlap = |inner: &Place<'_>, outer: &Place<'_>| OpenError::Overlap {
        inner_role: inner.role,
        inner: inner.given.into(),
        outer_role: outer.role,
        outer: outer.given.into(),
    };
    let apart = |a: &Place<'_>, b: &Place<'_>| match (a.is_in(b), b.is_in(a)) {
        (true, _) => Err(overlap(a, b)),
        (_, true) => Err(overlap(b, a)),
        _ => Ok(()),
    };
    let (upper, work) = (Place::new(UPPER_ROLE, upper)?, Place::new(WORK_ROLE, work)?);
    apart(&upper, &work)?;
    for lower in lowers {
        let lower = Place::new(LOWER_ROLE, lower)?;
        apart(&upper, &lower)?;
        apart(&work, &lower)?;
    }
    Ok(())
}
