//! The colours of layers: 36, twelve hues in three tones (OKLCH), those that follow each other far apart. Layers beyond begin again;
//! as colour is never the only mark, everything carries the number as well.

use std::fmt::Write;

/// On a light ground.
const LIGHT: [&str; 36] = [
    "#6db0f4", "#eb9070", "#2ac3bb", "#dd8cc3", "#92ba66", "#9ca2f5", "#db9d4f", "#39bcdf", "#eb8a99", "#5dc291",
    "#c295e3", "#bdac4a", "#acc7ff", "#f3b992", "#81d8e2", "#f5b1ca", "#a5d6a6", "#cbbdf9", "#e1c487", "#90d1f7",
    "#fab2ac", "#8adac4", "#e4b5e6", "#c5ce8e", "#6791cc", "#c17b59", "#2ca2a4", "#bc769b", "#729d60", "#8b85c9",
    "#b18743", "#409bbe", "#c57579", "#48a382", "#a87cb8", "#969346",
];

/// On a dark ground.
const DARK: [&str; 36] = [
    "#5897d6", "#cd785a", "#00a8a2", "#c175a8", "#7ba051", "#858ad7", "#bf853a", "#1ca2c3", "#ce7382", "#47a87a",
    "#a87dc7", "#a39335", "#95aee1", "#d6a17d", "#6cbdc6", "#d799b0", "#8ebc8f", "#b1a4dc", "#c5aa72", "#7bb7da",
    "#dc9a94", "#75bfab", "#c89dca", "#acb479", "#5e85bc", "#b27150", "#259497", "#ad6b8e", "#689157", "#7f7ab9",
    "#a37b3c", "#398eaf", "#b56b6f", "#419577", "#9a71a9", "#8a873e",
];

/// The colours of a layer, 0 being the lowest: on a light ground, and on a dark one.
pub fn of(layer: usize) -> (&'static str, &'static str) {
    (LIGHT[layer % LIGHT.len()], DARK[layer % DARK.len()])
}

/// The palette as custom properties, `--c0` and so on.
pub fn properties() -> String {
    let mut css = String::new();
    let mut block = |head: &str, colours: &[&str], tail: &str| {
        css += head;
        for (n, colour) in colours.iter().enumerate() {
            // Writing to a string does not fail.
            write!(css, "--c{n}:{colour};").unwrap_or_default();
        }
        css += tail;
    };
    block(":root{", &LIGHT, "}\n");
    block("@media screen and (prefers-color-scheme: dark){:root{", &DARK, "}}\n");
    css
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Relative luminance (WCAG 2.2).
    fn luminance(hex: &str) -> f64 {
        let part = |at: usize| {
            let c = f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap()) / 255.0;
            if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
    }

    fn contrast(a: &str, b: &str) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn numbers_can_be_read_on_every_colour() {
        for layer in 0..36 {
            let (light, dark) = of(layer);
            assert!(contrast(light, "#15130f") >= 4.5, "{light}");
            assert!(contrast(dark, "#0d0c0a") >= 4.5, "{dark}");
            assert!(contrast(dark, "#141518") >= 3.0, "{dark}");
        }
    }

    #[test]
    fn no_two_of_the_colours_are_the_same() {
        let all: std::collections::BTreeSet<_> = (0..36).map(of).collect();
        assert_eq!(all.len(), 36);
        assert_eq!(of(36), of(0));
    }
}
