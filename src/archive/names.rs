//! Which names an archive may use, and what they mean inside a layer.

use super::api::Limits;
use crate::layer::whiteout::{AUFS_OPAQUE, AUFS_PREFIX};

/// The longest component of a path on every Linux file system.
const COMPONENT: usize = 255;

/// How names of aufs itself begin.
const AUFS_INTERNAL: &[u8] = b".wh..wh.";

/// Turns a name from an archive into a path relative to the layer: no `/` at either end, no `.`, `..` or empty parts.
///
/// `..` is resolved in the name alone. The root is the empty path.
pub(super) fn normalise(name: &[u8], limits: &Limits) -> Result<Vec<u8>, &'static str> {
    if name.is_empty() {
        return Err("has an empty name");
    }
    if name.contains(&0) {
        return Err("has a NUL byte in its name");
    }
    if name.len() > limits.path {
        return Err("has a path that is too long");
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                if parts.pop().is_none() {
                    return Err("leads out of the layer with '..'");
                }
            }
            // Whiteouts are no files, so that one of a long name is longer than a name can be.
            _ if part.strip_prefix(AUFS_PREFIX.as_bytes()).unwrap_or(part).len() > COMPONENT => {
                return Err("has a component of more than 255 bytes in its name");
            }
            _ => parts.push(part),
        }
    }
    if parts.len() > limits.depth {
        return Err("is nested too deeply");
    }
    Ok(parts.join(&b'/'))
}

/// The directory and the last part of a path; the root has neither.
pub(crate) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    match path.iter().rposition(|b| *b == b'/') {
        _ if path.is_empty() => None,
        None => Some((b"", path)),
        Some(at) => Some((&path[..at], &path[at + 1..])),
    }
}

/// The components of a path or of the target of a link, but for those that lead nowhere.
pub(crate) fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|b| *b == b'/').filter(|part| !matches!(*part, b"" | b"."))
}

/// A path with one more component.
pub(crate) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

/// What the last component of a name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// An entry like any other.
    Plain,
    /// This name of the layers below is deleted.
    Whiteout(&'a [u8]),
    /// The directory is opaque.
    Opaque,
    /// A leftover of aufs: skipped.
    Leftover,
}

/// What a normalised path says; an error when it is a whiteout of nothing, or lies inside a whiteout.
pub(super) fn classify(path: &[u8]) -> Result<Kind<'_>, &'static str> {
    let prefix = AUFS_PREFIX.as_bytes();
    let Some((dir, last)) = split(path) else { return Ok(Kind::Plain) };
    if let Some(part) = parts(dir).find(|part| part.starts_with(prefix)) {
        // Such as .wh..wh.plnk/, where aufs kept hard links.
        if part.starts_with(AUFS_INTERNAL) && part != AUFS_OPAQUE.as_bytes() {
            return Ok(Kind::Leftover);
        }
        return Err("lies below a name that begins with '.wh.', which only whiteouts may have");
    }
    match last.strip_prefix(prefix) {
        None => Ok(Kind::Plain),
        Some(_) if last == AUFS_OPAQUE.as_bytes() => Ok(Kind::Opaque),
        Some(b"" | b"." | b"..") => Err("is a whiteout of no name"),
        Some(_) if last.starts_with(AUFS_INTERNAL) => Ok(Kind::Leftover),
        Some(hidden) => Ok(Kind::Whiteout(hidden)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn clean(name: &str) -> Result<String, &'static str> {
        normalise(name.as_bytes(), &Limits::default()).map(|path| String::from_utf8(path).unwrap())
    }

    #[test]
    fn names_become_relative_paths() {
        for (name, path) in [
            ("a", "a"),
            ("/a", "a"),
            ("///a//b/", "a/b"),
            ("./a/./b/.", "a/b"),
            ("a/../b", "b"),
            ("a/b/../../c", "c"),
            (".", ""),
            ("/", ""),
            ("./", ""),
            ("a/..", ""),
            ("...", "..."),
        ] {
            assert_eq!(clean(name).unwrap(), path, "{name}");
        }
    }

    #[test]
    fn names_that_are_refused() {
        for name in ["", "..", "../a", "/..", "a/../../b", "a\0b"] {
            assert!(clean(name).is_err(), "{name}");
        }
        assert!(clean(&"x".repeat(256)).is_err());
        assert!(clean(&format!("{}x", "a/".repeat(256))).is_err());
        assert!(clean(&format!("{}x", "ab/".repeat(1400))).is_err());
        assert!(clean(&"x".repeat(255)).is_ok());
        assert!(clean(&format!(".wh.{}", "x".repeat(255))).is_ok());
        assert!(clean(&format!(".wh.{}", "x".repeat(256))).is_err());
    }

    #[test]
    fn whiteouts_and_leftovers() {
        assert_eq!(classify(b"a/.wh.b"), Ok(Kind::Whiteout(b"b")));
        assert_eq!(classify(b".wh..wh"), Ok(Kind::Whiteout(b".wh")));
        assert_eq!(classify(b".wh...."), Ok(Kind::Whiteout(b"...")));
        assert_eq!(classify(b"a/.wh..wh..opq"), Ok(Kind::Opaque));
        for leftover in [".wh..wh.aufs", "a/.wh..wh.orph", ".wh..wh.plnk/1.2", ".wh..wh..opqx", ".wh..wh."] {
            assert_eq!(classify(leftover.as_bytes()), Ok(Kind::Leftover), "{leftover}");
        }
        for wrong in [".wh.", ".wh..", ".wh...", "a/.wh.", ".wh.a/b", ".wh..wh..opq/b"] {
            assert!(classify(wrong.as_bytes()).is_err(), "{wrong}");
        }
        for plain in ["", "a", ".wh", "x.wh.a"] {
            assert_eq!(classify(plain.as_bytes()), Ok(Kind::Plain));
        }
    }
}
