//! Names and commands of images as text that can be shown anywhere.

use crate::image::format::steers_terminal;

/// Characters of a command that are embedded.
const COMMAND: usize = 6000;

/// A name or path. Bytes that are no UTF-8 become `\xNN`, characters that would steer a terminal or turn the direction of
/// writing what Rust writes for them: `\n`, `\u{202e}`.
pub fn name(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        push(&mut text, chunk.valid(), |_| false);
        for byte in chunk.invalid() {
            text += &format!("\\x{byte:02x}");
        }
    }
    text
}

/// A command: as [`name`], but with its lines and tabs, and cut when it is very long.
pub fn command(text: &str) -> String {
    let mut shown = String::new();
    let mut chars = text.chars();
    push(&mut shown, &chars.by_ref().take(COMMAND).collect::<String>(), |c| matches!(c, '\n' | '\t'));
    match chars.count() {
        0 => shown,
        more => shown + &format!(" … ({more} more characters)"),
    }
}

fn push(text: &mut String, piece: &str, keep: impl Fn(char) -> bool) {
    for c in piece.chars() {
        // Line and paragraph separators are none for terminals, but for JavaScript once were.
        if (steers_terminal(c) || matches!(c, '\u{2028}' | '\u{2029}' | '\u{61c}' | '\u{feff}') || !is_in_xml(c))
            && !keep(c)
        {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
}

/// Whether XML 1.0 (section 2.2) and HTML allow a character beyond ASCII: those that Unicode reserves for no character are left
/// out, of which XML forbids two.
fn is_in_xml(c: char) -> bool {
    !matches!(u32::from(c) & 0xffff, 0xfffe | 0xffff) && !matches!(c, '\u{fdd0}'..='\u{fdef}')
}

/// A text in HTML or SVG, also as the value of an attribute.
pub fn markup(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '&' => out += "&amp;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            // XML has no way to write them.
            c if c.is_control() || !is_in_xml(c) => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// JSON for an element `script`: nothing in it can end the element, or begin a comment in it.
pub fn json_in_script(json: &str) -> String {
    let mut out = String::with_capacity(json.len() + json.len() / 64);
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out += &format!("\\u{:04x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_show_what_they_hide() {
        assert_eq!(name("usr/ordnung-é-日本".as_bytes()), "usr/ordnung-é-日本");
        assert_eq!(name(b"a\xff\xfeb\n\x1b[31m"), "a\\xff\\xfeb\\n\\u{1b}[31m");
        assert_eq!(name("\u{fffe}\u{ffff}\u{1fffe}\u{fdd0}".as_bytes()), "\\u{fffe}\\u{ffff}\\u{1fffe}\\u{fdd0}");
        assert_eq!(name("x\u{202e}gnp.exe\u{2028}".as_bytes()), "x\\u{202e}gnp.exe\\u{2028}");
    }

    #[test]
    fn commands_keep_their_lines_and_an_end() {
        assert_eq!(command("RUN a \\\n\tb\u{7}"), "RUN a \\\n\tb\\u{7}");
        let long = command(&"é".repeat(COMMAND + 5));
        assert_eq!(long.chars().count(), COMMAND + " … (5 more characters)".chars().count());
        assert!(long.ends_with("é … (5 more characters)"));
    }

    #[test]
    fn nothing_ends_its_element() {
        let evil = "</script><!--\u{2028}<script>&";
        let json = json_in_script(&serde_json::to_string(evil).unwrap_or_default());
        assert!(!json.contains(['<', '>', '&', '\u{2028}']));
        assert_eq!(serde_json::from_str::<String>(&json).ok().as_deref(), Some(evil));
        assert_eq!(markup("<a href='\"'>&\u{7}"), "&lt;a href=&#39;&quot;&#39;&gt;&amp; ");
        assert_eq!(markup("a\u{fffe}b\u{ffff}"), "a b ");
    }
}
