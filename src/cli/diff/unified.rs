//! Changes in a text as `diff -u` prints them.

use similar::TextDiff;

/// A file of one side.
pub enum File {
    /// It is not there.
    Absent,
    /// It is too long to be compared line by line.
    Long,
    /// Its content.
    Bytes(Vec<u8>),
}

impl File {
    /// As text; `None` for what is none.
    fn text(&self) -> Option<&str> {
        match self {
            Self::Absent => Some(""),
            Self::Long => None,
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0')),
        }
    }

    fn label(&self, side: char, path: &str) -> String {
        if matches!(self, Self::Absent) { "/dev/null".to_owned() } else { format!("{side}{path}") }
    }
}

/// The lines to print for a path.
pub fn lines(path: &str, old: &File, new: &File) -> Vec<String> {
    let (from, to) = (old.label('a', path), new.label('b', path));
    let (Some(old), Some(new)) = (old.text(), new.text()) else {
        return vec![format!("Binary files {from} and {to} differ")];
    };
    let diff = TextDiff::from_lines(old, new);
    let text = diff.unified_diff().context_radius(3).header(&from, &to).to_string();
    text.lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_diff_prints_it() {
        let bytes = |text: &str| File::Bytes(text.into());
        let shown = lines("/etc/x", &bytes("a\nb\nc\n"), &bytes("a\nB\nc\n"));
        assert_eq!(shown, ["--- a/etc/x", "+++ b/etc/x", "@@ -1,3 +1,3 @@", " a", "-b", "+B", " c"]);
        let shown = lines("/x", &File::Absent, &bytes("new\n"));
        assert_eq!(shown, ["--- /dev/null", "+++ b/x", "@@ -0,0 +1 @@", "+new"]);
        assert_eq!(lines("/x", &bytes("a\0"), &bytes("b")), ["Binary files a/x and b/x differ"]);
        assert_eq!(lines("/x", &File::Long, &File::Absent), ["Binary files a/x and /dev/null differ"]);
    }
}
