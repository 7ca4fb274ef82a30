//! JSON on standard output. Characters that could steer a terminal are written as `\uXXXX`.

use crate::image::format::steers_terminal;
use serde::Serialize;
use serde_json::ser::PrettyFormatter;

/// The `schema` of our own documents (docs/JSON.md).
pub const SCHEMA: u32 = 1;

/// Prints one document, indented by 2.
pub fn document(value: &impl Serialize) -> anyhow::Result<()> {
    super::stream::write(value)
}

/// Prints one document as Docker does, indented by 4.
pub fn indented(value: &impl Serialize) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    let mut out = serde_json::Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(b"    "));
    value.serialize(&mut out)?;
    super::print(&(escape(&String::from_utf8(bytes)?) + "\n"))
}

/// Prints an object a line.
pub fn object_lines<T: Serialize>(values: impl IntoIterator<Item = T>) -> anyhow::Result<()> {
    let mut text = String::new();
    for value in values {
        text += &escape(&serde_json::to_string(&value)?);
        text.push('\n');
    }
    super::print(&text)
}

/// In JSON these characters can only stand in strings; there the escape means the same.
fn escape(json: &str) -> String {
    if !json.contains(|c| steers_terminal(c) && c != '\n') {
        return json.to_owned();
    }
    json.chars().fold(String::with_capacity(json.len()), |mut text, c| {
        if steers_terminal(c) && c != '\n' {
            text += &format!("\\u{:04x}", u32::from(c));
        } else {
            text.push(c);
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_json_means_the_same() {
        let text = "a\u{9b}31m\u{202e}\u{7f}é…";
        let json = escape(&serde_json::to_string(text).unwrap_or_default());
        assert_eq!(json, r#""a\u009b31m\u202e\u007fé…""#);
        assert_eq!(serde_json::from_str::<String>(&json).ok().as_deref(), Some(text));
    }
}
