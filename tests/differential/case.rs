//! A case: layers and the steps that run over them, as a text that can be kept, replayed and edited.
//!
//! ```text
//! # comment
//! umask 022
//! watch
//! layer
//! root: mkdir a 0755
//! layer
//! run
//! alice: mkdir a/b 0700
//! ```
//!
//! Layers come topmost first. Their steps are the same operations, done on the bare directory; what fails there is left
//! out, so that a shrunk stack is still a stack. `utimens` steps of a layer are done last, as every other step changes
//! times. `watch` has inode numbers compared before and after each step, which also looks names up before it. A whiteout is `mknod NAME char:0:0 0000`, opaque is an attribute.

use std::fmt::Write;
use std::str::FromStr;

use super::ops::Step;

#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    pub umask: u32,
    /// Whether inode numbers are looked at before and after every step.
    pub watch: bool,
    /// Topmost first.
    pub layers: Vec<Vec<Step>>,
    pub steps: Vec<Step>,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = format!("umask {:03o}\n", self.umask);
        if self.watch {
            text.push_str("watch\n");
        }
        for layer in &self.layers {
            text.push_str("layer\n");
            layer.iter().try_for_each(|step| writeln!(text, "{step}"))?;
        }
        text.push_str("run\n");
        self.steps.iter().try_for_each(|step| writeln!(text, "{step}"))?;
        f.write_str(&text)
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut case = Self { umask: 0o022, watch: false, layers: Vec::new(), steps: Vec::new() };
        let mut running = false;
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            if let Some(mask) = line.strip_prefix("umask ") {
                case.umask = u32::from_str_radix(mask, 8).map_err(|e| format!("{line}: {e}"))?;
            } else if line == "watch" {
                case.watch = true;
            } else if line == "layer" {
                case.layers.push(Vec::new());
            } else if line == "run" {
                running = true;
            } else if running {
                case.steps.push(line.parse()?);
            } else {
                case.layers.last_mut().ok_or("a step before the first layer")?.push(line.parse()?);
            }
        }
        Ok(case)
    }
}
