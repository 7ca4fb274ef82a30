//! The value of `overlay.nlink`: the link count to show for a copied-up hard link, as a difference.
//!
//! It is kept relative to an inode, since a crash between changing the links and changing the attribute
//! must not leave a wrong number behind.

use std::fmt;

/// The union's link count less that of one of the two inodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NlinkDelta {
    /// To be added to the link count of the lower inode.
    Lower(i32),
    /// To be added to the link count of the upper inode.
    Upper(i32),
}

impl NlinkDelta {
    /// Reads a stored value: `L` or `U`, a sign, and decimal digits.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (base, number) = value.split_first()?;
        if !matches!(number.first(), Some(b'+' | b'-')) {
            return None;
        }
        let number = std::str::from_utf8(number).ok()?.parse().ok()?;
        match base {
            b'L' => Some(NlinkDelta::Lower(number)),
            b'U' => Some(NlinkDelta::Upper(number)),
            _ => None,
        }
    }

    /// The value to store, such as `U+0`.
    pub fn encode(self) -> Vec<u8> {
        self.to_string().into_bytes()
    }
}

impl fmt::Display for NlinkDelta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NlinkDelta::Lower(n) => write!(f, "L{n:+}"),
            NlinkDelta::Upper(n) => write!(f, "U{n:+}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for (value, delta) in [
            (&b"L+0"[..], NlinkDelta::Lower(0)),
            (b"U-1", NlinkDelta::Upper(-1)),
            (b"U+17", NlinkDelta::Upper(17)),
            (b"L-2147483648", NlinkDelta::Lower(i32::MIN)),
        ] {
            assert_eq!(NlinkDelta::parse(value), Some(delta));
            assert_eq!(delta.encode(), value);
        }
    }

    #[test]
    fn refused() {
        for value in ["", "L", "L0", "+1", "X+1", "L+", "L+-1", "L++1", "L+1 ", "L+2147483648", "l+1"] {
            assert_eq!(NlinkDelta::parse(value.as_bytes()), None, "{value:?}");
        }
    }
}
