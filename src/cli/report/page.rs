//! The page: a template and its parts, put together so that nothing from an image can become markup or script.

use super::{colours, text};
use base64::Engine;
use serde::Serialize;
use sha2::{Digest, Sha256};

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
/// One script, in the order in which the parts need each other.
const SCRIPTS: [&str; 5] = [
    include_str!("model.js"),
    include_str!("layers.js"),
    include_str!("treemap.js"),
    include_str!("paths.js"),
    include_str!("start.js"),
];

/// The whole page. `data` is what model.js reads.
pub fn page(title: &str, data: &impl Serialize) -> serde_json::Result<String> {
    let style = colours::properties() + STYLE;
    let script = format!("(() => {{\n\"use strict\";\n{}}})();\n", SCRIPTS.concat());
    // Nothing is loaded from anywhere, and no other script or style is run.
    let policy = format!(
        "default-src 'none'; script-src {}; style-src {}; img-src data:; base-uri 'none'; form-action 'none'",
        hash_source(&script),
        hash_source(&style),
    );
    let data = text::json_in_script(&serde_json::to_string(data)?);
    let part = |name: &str| match name {
        "title" => text::markup(title),
        "csp" => policy.clone(),
        "style" => style.clone(),
        "script" => script.clone(),
        "data" => data.clone(),
        _ => String::new(),
    };
    Ok(fill(TEMPLATE, part))
}

/// Replaces each `{{name}}` of a template; what is put in is not looked at again.
fn fill(template: &str, part: impl Fn(&str) -> String) -> String {
    let mut pieces = template.split("{{");
    let mut page = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (name, rest) = piece.split_once("}}").unwrap_or((piece, ""));
        page += &part(name);
        page += rest;
    }
    page
}

/// How a Content-Security-Policy names what stands in the page itself.
fn hash_source(text: &str) -> String {
    format!("'sha256-{}'", base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_is_not_a_template() {
        assert_eq!(fill("a{{x}}b{{y}}c", |name| format!("<{name}{{{{y}}}}>")), "a<x{{y}}>b<y{{y}}>c");
    }

    #[test]
    fn the_script_can_stand_in_a_page() {
        for script in SCRIPTS {
            assert!(!script.contains("</") && !script.contains("<!--"), "would end the element");
            assert!(!script.contains("innerHTML"), "text of an image is set as text only");
        }
        for name in TEMPLATE.split("{{").skip(1).filter_map(|piece| piece.split("}}").next()) {
            assert!(["title", "csp", "style", "script", "data"].contains(&name), "{name}");
        }
    }

    #[test]
    fn hashes_are_those_of_the_specification() {
        // W3C Content Security Policy Level 3, section "Hash usage for scripts".
        let script = "alert('Hello, world.');";
        assert_eq!(hash_source(script), "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='");
    }
}
