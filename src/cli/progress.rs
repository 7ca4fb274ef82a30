//! Progress bars on standard error, where that is a terminal; nothing anywhere else.

use crate::image::Digest;
use crate::store::Step;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal, Read};

const LAYER: &str = "{prefix:12} {bar:30} {decimal_bytes:>10} of {decimal_total_bytes}  {msg}";
const LAYER_OF_UNKNOWN_SIZE: &str = "{prefix:12} {decimal_bytes:>10}  {msg}";
const MESSAGE: &str = "{prefix:12} {msg}";

/// Whether progress is to be shown.
pub fn wanted(quiet: bool) -> bool {
    !quiet && io::stderr().is_terminal()
}

/// A bar for each layer of an image. They are gone when this is dropped.
pub struct Layers {
    all: MultiProgress,
    bars: Vec<ProgressBar>,
}

impl Layers {
    /// Bars for layers of these digests (an unknown one has none), the lowest first.
    pub fn new(digests: impl IntoIterator<Item = Option<Digest>>) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let bar = |digest: Option<Digest>| {
            let name = digest.map_or_else(|| "layer".into(), |digest| digest.short());
            let bar = ProgressBar::no_length().with_prefix(name).with_style(style(MESSAGE)).with_message("waiting");
            let bar = all.add(bar);
            bar.tick();
            bar
        };
        Self { bars: digests.into_iter().map(bar).collect(), all }
    }

    /// A layer got further.
    pub fn step(&self, layer: usize, step: Step) {
        let Some(bar) = self.bars.get(layer) else { return };
        match step {
            Step::Present => bar.finish_with_message("already there"),
            Step::Reading { done, total } => {
                if bar.position() == 0 {
                    bar.set_style(style(if total.is_some() { LAYER } else { LAYER_OF_UNKNOWN_SIZE }));
                    bar.set_message("");
                    total.map_or_else(|| bar.unset_length(), |total| bar.set_length(total));
                }
                bar.set_position(done);
            }
            Step::Read => bar.finish_with_message("read and verified"),
        }
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        // The terminal is gone then, and nobody misses the bars.
        self.all.clear().unwrap_or_default();
    }
}

/// A reader that shows how much came through it, if that is wanted.
pub fn reader(inner: impl Read, what: &'static str, wanted: bool) -> impl Read {
    let target = if wanted { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(None, target).with_style(style("{prefix:12} {decimal_bytes:>10}"));
    bar.with_prefix(what).with_finish(indicatif::ProgressFinish::AndClear).wrap_read(inner)
}

/// The templates are constants; one that is wrong would show as the usual bar.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
