//! The value of `overlay.redirect`: where the lower parts of a renamed directory (or the data of a
//! `metacopy` file) lie.

/// Longest value that is written, in bytes: the kernel's default for its parameter `redirect_max`.
pub const MAX_LEN: usize = 256;

/// Where to look in the layers below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redirect {
    /// The path from the root of a layer, without the slash in front.
    Absolute(Vec<u8>),
    /// Another name in the same parent directory.
    Name(Vec<u8>),
}

impl Redirect {
    /// Reads a stored value; `None` when it is empty or has a component that is empty, `.` or `..`.
    ///
    /// A value longer than [`MAX_LEN`] is read all the same: the limit is the writer's.
    pub fn parse(value: &[u8]) -> Option<Self> {
        match value.strip_prefix(b"/") {
            Some(path) => Self::is_path(path).then(|| Redirect::Absolute(path.to_vec())),
            None => Self::is_name(value).then(|| Redirect::Name(value.to_vec())),
        }
    }

    /// The value to store. The caller does not store one that is longer than [`MAX_LEN`].
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Redirect::Absolute(path) => [b"/", path.as_slice()].concat(),
            Redirect::Name(name) => name.clone(),
        }
    }

    fn is_path(path: &[u8]) -> bool {
        path.split(|b| *b == b'/').all(Self::is_name)
    }

    fn is_name(name: &[u8]) -> bool {
        !matches!(name, b"" | b"." | b"..") && !name.iter().any(|b| matches!(b, b'/' | 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for (value, redirect) in [
            (&b"/a"[..], Redirect::Absolute(b"a".to_vec())),
            (b"/a/b c/\xff", Redirect::Absolute(b"a/b c/\xff".to_vec())),
            (b"name", Redirect::Name(b"name".to_vec())),
            (b"...", Redirect::Name(b"...".to_vec())),
        ] {
            assert_eq!(Redirect::parse(value), Some(redirect.clone()));
            assert_eq!(redirect.encode(), value);
        }
    }

    #[test]
    fn refused() {
        for value in ["", "/", "//a", "/a/", "/a//b", "a/b", "a/", ".", "..", "/..", "/a/../b", "/./a", "a\0", "/a\0"] {
            assert_eq!(Redirect::parse(value.as_bytes()), None, "{value:?}");
        }
    }

    #[test]
    fn length_counts_the_slash_and_does_not_bind_the_reader() {
        let path = [b"d/".repeat(127), b"xy".to_vec()].concat();
        let value = Redirect::Absolute(path.clone()).encode();
        assert_eq!(value.len(), MAX_LEN + 1);
        assert_eq!(Redirect::parse(&value), Some(Redirect::Absolute(path)));
    }
}
