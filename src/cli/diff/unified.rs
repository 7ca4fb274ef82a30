//! Changes in a text as `diff -u` prints them.

use crate::image::format::steers_terminal;
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

    fn label(&self, side: &str, path: &[u8]) -> String {
        if matches!(self, Self::Absent) { "/dev/null".to_owned() } else { quoted(&[side.as_bytes(), path].concat()) }
    }
}

/// A name as git and GNU patch write and read it: in quotes when it has characters that could be taken for something else, those
/// as in C.
fn quoted(name: &[u8]) -> String {
    let mut out = String::new();
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out += "\\\"",
                '\\' => out += "\\\\",
                '\t' => out += "\\t",
                '\n' => out += "\\n",
                '\r' => out += "\\r",
                c if steers_terminal(c) => octal(&mut out, c.encode_utf8(&mut [0; 4]).as_bytes()),
                c => out.push(c),
            }
        }
        octal(&mut out, chunk.invalid());
    }
    match () {
        () if out.as_bytes() != name => format!("\"{out}\""),
        // Where the name ends, for who looks for a time behind it.
        () if out.contains(' ') => out + "\t",
        () => out,
    }
}

fn octal(out: &mut String, bytes: &[u8]) {
    out.extend(bytes.iter().map(|byte| format!("\\{byte:03o}")));
}

/// The lines to print for a path, which has no slash in front.
pub fn lines(path: &[u8], old: &File, new: &File) -> Vec<String> {
    let (from, to) = (old.label("a/", path), new.label("b/", path));
    let (Some(old), Some(new)) = (old.text(), new.text()) else {
        return vec![format!("Binary files {} and {} differ", from.trim_end_matches('\t'), to.trim_end_matches('\t'))];
    };
    let diff = TextDiff::from_lines(old, new);
    let text = diff.unified_diff().context_radius(3).header(&from, &to).to_string();
    text.split_terminator('\n').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_forge_no_headers() {
        let header = |name: &[u8]| lines(name, &File::Absent, &File::Bytes(b"x\n".to_vec())).swap_remove(1);
        assert_eq!(header("straße".as_bytes()), "+++ b/straße");
        assert_eq!(header(b"x y"), "+++ b/x y\t");
        assert_eq!(header(b"x\n--- a/etc/passwd"), "+++ \"b/x\\n--- a/etc/passwd\"");
        assert_eq!(header(b"\"\\\t\r\x1b\xff"), r#"+++ "b/\"\\\t\r\033\377""#);
        assert_eq!(header("\u{202e}".as_bytes()), r#"+++ "b/\342\200\256""#);
        let binary = lines(b"a\nb c", &File::Absent, &File::Long);
        assert_eq!(binary, [r#"Binary files /dev/null and "b/a\nb c" differ"#]);
    }

    #[test]
    fn as_diff_prints_it() {
        let bytes = |text: &str| File::Bytes(text.into());
        let shown = lines(b"etc/x", &bytes("a\nb\nc\n"), &bytes("a\nB\nc\n"));
        assert_eq!(shown, ["--- a/etc/x", "+++ b/etc/x", "@@ -1,3 +1,3 @@", " a", "-b", "+B", " c"]);
        let shown = lines(b"x", &File::Absent, &bytes("new\n"));
        assert_eq!(shown, ["--- /dev/null", "+++ b/x", "@@ -0,0 +1 @@", "+new"]);
        assert_eq!(lines(b"x", &bytes("a\0"), &bytes("b")), ["Binary files a/x and b/x differ"]);
        let shown = lines(b"x", &bytes("a\r\nb\tc"), &bytes("a\nb\tc"));
        assert_eq!(shown[3..], ["-a\r", "+a", " b\tc", "\\ No newline at end of file"]);
        assert_eq!(lines(b"x", &File::Long, &File::Absent), ["Binary files a/x and /dev/null differ"]);
    }
}
