//! The bars of the layers as a picture that stands alone.

use super::data::{Data, LayerRow, Totals};
use super::{colours, text};
use crate::image::format::{ellipsis, size3};
use crate::provenance::total;
use std::fmt::Write;

const WIDTH: u32 = 900;
/// Where the first layer begins, and how high one is.
const HEAD: usize = 76;
const ROW: usize = 46;
/// Length of the bar of the largest layer.
const BAR: u64 = 852;

/// Draws the layers, the topmost first.
pub fn bars(data: &Data) -> String {
    let height = HEAD + ROW * data.layers.len() + 12;
    let largest = data.layers.iter().map(|layer| all(&layer.totals)).max().unwrap_or(0).max(1);
    let mut rows = String::new();
    for (at, layer) in data.layers.iter().enumerate().rev() {
        rows += &row(layer, at, HEAD + ROW * (data.layers.len() - 1 - at), largest);
    }
    let name = text::markup(&data.name);
    let (visible, hidden, deleted) = sizes(&data.totals);
    let style = style(data.layers.len());
    let lines = data.layers.iter().enumerate().rev().map(|(at, layer)| {
        let (visible, hidden, deleted) = sizes(&layer.totals);
        format!("Layer {}: {visible} visible, {hidden} hidden, {deleted} deleted.", at + 1)
    });
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="title desc">
<title id="title">Layers of {name}</title>
<desc id="desc">{visible} visible, {hidden} hidden by layers above, {deleted} deleted by layers above. {}</desc>
<style>{style}</style>
<defs>
<pattern id="stripes" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="2.6" height="6" fill="#fff"/></pattern>
<mask id="hatch" maskUnits="userSpaceOnUse" x="0" y="0" width="{WIDTH}" height="{height}"><rect width="{WIDTH}" height="{height}" fill="url(#stripes)"/></mask>
</defs>
<rect class="ground" width="{WIDTH}" height="{height}" rx="12"/>
<text class="head" x="24" y="34">{}</text>
<text class="note" x="24" y="56">{visible} visible, {hidden} hidden by layers above, {deleted} deleted by layers above</text>
{rows}</svg>
"##,
        lines.collect::<Vec<_>>().join(" "),
        text::markup(&ellipsis(&data.name, 70)),
    )
}

fn all(totals: &Totals) -> u64 {
    total([totals.visible, totals.hidden, totals.deleted])
}

fn sizes(totals: &Totals) -> (String, String, String) {
    (size3(totals.visible), size3(totals.hidden), size3(totals.deleted))
}

/// The colours of so many layers; on a dark ground others.
fn style(layers: usize) -> String {
    let (mut light, mut dark) = (String::new(), String::new());
    for layer in 0..layers.min(36) {
        let (on_light, on_dark) = colours::of(layer);
        // Writing to a string does not fail.
        write!(light, ".c{layer}{{fill:{on_light};stroke:{on_light}}}").unwrap_or_default();
        write!(dark, ".c{layer}{{fill:{on_dark};stroke:{on_dark}}}").unwrap_or_default();
    }
    format!(
        "text{{font:13px Inter,system-ui,sans-serif;fill:#1e1c18}}.head{{font-weight:650;font-size:20px}}.note{{fill:#69645a}}\
         .number{{font:650 11.5px ui-monospace,Menlo,Consolas,monospace;fill:#15130f;text-anchor:middle}}\
         .command{{font:12px ui-monospace,Menlo,Consolas,monospace}}.size{{text-anchor:end;font-weight:600}}\
         .ground{{fill:#fffdf8}}.plain{{stroke:none}}.deleted{{fill:none}}{light}\
         @media (prefers-color-scheme:dark){{text{{fill:#ece9e2}}.note{{fill:#a39e93}}.number{{fill:#0d0c0a}}\
         .ground{{fill:#1c1e22}}{dark}}}.deleted{{fill:none}}.plain{{stroke:none}}"
    )
}

fn row(layer: &LayerRow, at: usize, y: usize, largest: u64) -> String {
    let class = format!("c{}", at % 36);
    let command: Vec<&str> = layer.command.split_whitespace().collect();
    let command = text::markup(&ellipsis(&command.join(" "), 92));
    let size = size3(all(&layer.totals));
    let mut out = format!(
        "<g><rect class=\"{class} plain\" x=\"24\" y=\"{}\" width=\"26\" height=\"18\" rx=\"5\"/><text class=\"number\" x=\"37\" y=\"{}\">{}</text>\
         <text class=\"command\" x=\"60\" y=\"{}\">{command}</text><text class=\"size\" x=\"876\" y=\"{}\">{size}</text>",
        y,
        y + 13,
        at + 1,
        y + 13,
        y + 13,
    );
    let mut x = 24.0;
    let Totals { visible, hidden, deleted, .. } = layer.totals;
    for (kind, extra, bytes) in
        [("plain", "", visible), ("plain", " mask=\"url(#hatch)\"", hidden), ("deleted", "", deleted)]
    {
        if bytes == 0 {
            continue;
        }
        // Tenths of a pixel, at least two pixels.
        let tenths = (u128::from(bytes) * u128::from(BAR) * 10 / u128::from(largest)).max(20);
        let width = u32::try_from(tenths).map_or(0.0, f64::from) / 10.0;
        // The line of a frame lies half outside.
        let (left, inner, top, high) =
            if kind == "deleted" { (x + 0.5, width - 1.0, y + 24, 11) } else { (x, width, y + 24, 12) };
        let written = write!(
            out,
            "<rect class=\"{class} {kind}\" x=\"{left:.1}\" y=\"{top}\" width=\"{inner:.1}\" height=\"{high}\"{extra}/>"
        );
        written.unwrap_or_default();
        x += width;
    }
    out + "</g>\n"
}
