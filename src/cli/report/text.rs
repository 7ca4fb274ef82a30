//! Texts of images in a page.

use crate::image::format::{cannot_be_seen, escaped};

/// Characters of a command that are embedded.
const COMMAND: usize = 6000;

/// A command with its lines and tabs; what else [`cannot_be_seen`] stands as Rust writes it. Cut when it is very long.
pub fn command(text: &str) -> String {
    let mut chars = text.chars();
    let begin: String = chars.by_ref().take(COMMAND).collect();
    let shown = escaped(&begin, |c| cannot_be_seen(c) && !matches!(c, '\n' | '\t'));
    match chars.count() {
        0 => shown,
        more => shown + &format!(" … ({more} more characters)"),
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
