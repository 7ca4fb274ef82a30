//! A case from its layers to the last comparison.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::case::Case;
use super::differences::{self, Context, Verdict};
use super::ops::{Op, Step};
use super::side::{Outcome, Side, Times, show};
use super::stack::{self, Mount, Server, Stack};
use super::text::Place;
use super::tree::{self, Tree};
use crate::call;

/// Why a case failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The same for failures that are probably one: what differed, without names.
    pub signature: String,
    pub text: String,
}

fn fail<T>(signature: impl Into<String>, text: impl Into<String>) -> Result<T, Failure> {
    Err(Failure { signature: signature.into(), text: text.into() })
}

fn none(signature: &str, found: &[String]) -> Result<(), Failure> {
    if found.is_empty() { Ok(()) } else { fail(signature, found.join("\n")) }
}

/// One implementation with its stack.
struct Half {
    server: Server,
    stack: Stack,
    /// The descriptors go before the mount.
    mounted: Option<(Side, Mount)>,
    times: Times,
}

impl Half {
    fn mount(&mut self) -> Result<(), Failure> {
        let broken = |text| Failure { signature: format!("{:?} mounts", self.server), text };
        let mount = Mount::new(self.server, &self.stack).map_err(broken)?;
        let side = Side::new(&self.stack.mountpoint(), self.times.clone())
            .map_err(|errno| broken(format!("the root does not open: errno {errno}")))?;
        self.mounted = Some((side, mount));
        Ok(())
    }

    fn unmount(&mut self) -> Result<(), Failure> {
        let Some((side, mount)) = self.mounted.take() else { return Ok(()) };
        self.times.clone_from(&side.times);
        drop(side);
        mount.end().map_err(|text| Failure { signature: format!("{:?} unmounts", self.server), text })
    }

    fn run(&mut self, step: &Step) -> Outcome {
        let Some((side, _)) = &mut self.mounted else { return Err(libc::ENOTCONN) };
        match &step.op {
            Op::Rename { from, .. } if self.server == Server::Kernel => {
                let before = side.parent_mtime(from);
                let outcome = side.run(step);
                differences::failed_rename(side, from, before, &outcome);
                outcome
            }
            _ => side.run(step),
        }
    }

    fn renumber(&mut self, before: &BTreeMap<Vec<u8>, u64>) {
        let after = self.tree().numbers;
        if let Some((side, _)) = &mut self.mounted {
            side.times.renumber(before, &after);
        }
    }

    fn tree(&self) -> Tree {
        let times = self.mounted.as_ref().map_or(&self.times, |(side, _)| &side.times);
        Tree::read(&self.stack.mountpoint(), times)
    }
}

/// A directory that is removed with everything in it.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{}: {e}", self.0.display());
        }
    }
}

struct Run {
    kernel: Half,
    laminafs: Half,
    /// Told of every step and whether it succeeded.
    progress: fn(&Step, bool),
    attribute_whiteouts: bool,
    long_names: bool,
    watch: bool,
    /// They went different ways on purpose.
    parted: bool,
}

/// Runs a case in a directory that does not exist yet.
pub fn run(case: &Case, at: &Path, progress: fn(&Step, bool)) -> Result<(), Failure> {
    let scratch = Scratch(at.to_owned());
    let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()) as i64 - 1;
    call!(umask(0)).expect("umask");
    stack::fresh_directory(&scratch.0);
    let lower = stack::build_layers(case, &scratch.0);
    let before: Vec<_> = lower.iter().map(|path| Tree::read(path, &Times::default())).collect();
    let half = |server, name| Half {
        server,
        stack: Stack::new(scratch.0.join(name), lower.clone()),
        mounted: None,
        times: Times { started, ..Times::default() },
    };
    let (kernel, laminafs) = (half(Server::Kernel, "kernel"), half(Server::Laminafs, "laminafs"));
    let mut layer_steps = case.layers.iter().flatten();
    let attribute_whiteouts =
        layer_steps.any(|step| matches!(&step.op, Op::SetXattr { name, .. } if name.0 == b"trusted.overlay.whiteout"));
    let long_names = case.to_string().contains("{2");
    let mut run = Run { kernel, laminafs, progress, attribute_whiteouts, long_names, watch: case.watch, parted: false };
    call!(umask(case.umask)).expect("umask");
    let result = run.all(&case.steps);
    drop(run);
    call!(umask(0o022)).expect("umask");
    result?;
    for (path, before) in lower.iter().zip(&before) {
        let after = Tree::read(path, &Times::default());
        none("a lower layer changed", &tree::differences(("before", before), ("after", &after)))?;
    }
    Ok(())
}

impl Run {
    fn all(&mut self, steps: &[Step]) -> Result<(), Failure> {
        self.kernel.mount()?;
        self.laminafs.mount()?;
        for (number, step) in steps.iter().enumerate() {
            self.step(step).map_err(|f| Failure { text: format!("step {number}, {step}:\n{}", f.text), ..f })?;
            if matches!(step.op, Op::Check {} | Op::Remount {} | Op::Rotate {} | Op::Swap {}) {
                (self.progress)(step, true);
            }
            if self.parted {
                self.kernel.unmount()?;
                return self.laminafs.unmount();
            }
        }
        self.end()
    }

    fn step(&mut self, step: &Step) -> Result<(), Failure> {
        match step.op {
            Op::Check {} => self.check().map(drop),
            Op::Remount {} => {
                let before = self.check()?;
                self.between(|_| ())?;
                none("an inode number changed", &tree::renumbered(&before, &self.check()?))
            }
            Op::Rotate {} => {
                self.check()?;
                let before = (self.kernel.tree().numbers, self.laminafs.tree().numbers);
                self.between(|run| {
                    run.kernel.stack.rotate();
                    run.laminafs.stack.rotate();
                })?;
                self.kernel.renumber(&before.0);
                self.laminafs.renumber(&before.1);
                self.check().map(drop)
            }
            Op::Swap {} => {
                self.check()?;
                self.between(Self::swap)?;
                self.check().map(drop)
            }
            _ => self.ordinary(step),
        }
    }

    fn ordinary(&mut self, step: &Step) -> Result<(), Failure> {
        let before = self.watched(step, |(before, _)| before);
        let (kernel, laminafs) = (self.kernel.run(step), self.laminafs.run(step));
        (self.progress)(step, kernel.is_ok());
        let after = self.watched(step, |(_, after)| after);
        // A path that ends in a slash may name a directory before and something else after.
        if laminafs.is_ok() && before.is_some() && after.is_some() && after != before {
            return fail(format!("inode number, {}", step.op.verb()), format!("    {before:?} became {after:?}"));
        }
        let (Some((one, _)), Some((other, _))) = (&mut self.kernel.mounted, &mut self.laminafs.mounted) else {
            return fail("not mounted", "");
        };
        let Self { attribute_whiteouts, long_names, .. } = *self;
        let context = Context { kernel: &*one, laminafs: &*other, attribute_whiteouts, long_names };
        match differences::judge(step, &kernel, &laminafs, &context) {
            Verdict::LetGo(slot) => {
                one.let_go(slot);
                other.let_go(slot);
                return Ok(());
            }
            Verdict::Agree => return Ok(()),
            Verdict::Part => {
                self.parted = true;
                return Ok(());
            }
            Verdict::Differ => {}
        }
        let class = |o: &Outcome| o.as_ref().map_or_else(|errno| format!("errno {errno}"), |_| "ok".to_owned());
        let what =
            if kernel.is_ok() && laminafs.is_ok() { words_that_differ(&kernel, &laminafs) } else { String::new() };
        let signature = format!("{} {} {}{what}", step.op.verb(), class(&kernel), class(&laminafs));
        fail(signature, format!("    kernel: {}\n    laminafs: {}", show(&kernel), show(&laminafs)))
    }

    /// The inode number of one of the paths of a step, in laminafs.
    fn watched<'a>(&self, step: &'a Step, which: impl Fn((&'a Place, &'a Place)) -> &'a Place) -> Option<u64> {
        let ((side, _), paths) = (self.laminafs.mounted.as_ref()?, step.op.same_object()?);
        if self.watch { side.number(which(paths)) } else { None }
    }

    /// Compares both trees; returns that of laminafs.
    fn check(&self) -> Result<Tree, Failure> {
        let (kernel, laminafs) = (self.kernel.tree(), self.laminafs.tree());
        let found = differences::of_trees(("kernel", &kernel), ("laminafs", &laminafs));
        let first = found.first().map_or(String::new(), |text| line_words(text));
        none(&format!("trees differ{first}"), &found)?;
        none("inode numbers", &laminafs.problems)?;
        Ok(laminafs)
    }

    /// Does something while nothing is mounted.
    fn between(&mut self, act: impl FnOnce(&mut Self)) -> Result<(), Failure> {
        self.kernel.unmount()?;
        self.laminafs.unmount()?;
        act(self);
        self.kernel.mount()?;
        self.laminafs.mount()
    }

    /// Each goes on with what the other has written.
    fn swap(&mut self) {
        std::mem::swap(&mut self.kernel.stack, &mut self.laminafs.stack);
        std::mem::swap(&mut self.kernel.times, &mut self.laminafs.times);
    }

    /// What each has written is what the other reads.
    fn end(&mut self) -> Result<(), Failure> {
        let kernel = self.kernel.tree();
        self.check()?;
        self.between(Self::swap)?;
        let (laminafs_by_kernel, kernel_by_laminafs) = (self.kernel.tree(), self.laminafs.tree());
        let found = differences::of_trees(("kernel", &kernel), ("laminafs' upper by kernel", &laminafs_by_kernel));
        none("what laminafs wrote is not what the kernel reads", &found)?;
        let found = differences::of_trees(("kernel", &kernel), ("kernel's upper by laminafs", &kernel_by_laminafs));
        none("what the kernel wrote is not what laminafs reads", &found)?;
        none("inode numbers", &kernel_by_laminafs.problems)?;
        self.kernel.unmount()?;
        self.laminafs.unmount()
    }
}

/// Which kinds of words differ, without their values.
fn words_that_differ(kernel: &Outcome, laminafs: &Outcome) -> String {
    let (Ok(kernel), Ok(laminafs)) = (kernel, laminafs) else { return String::new() };
    let differ = kernel.split(' ').zip(laminafs.split(' ')).filter(|(a, b)| a != b);
    let word = |(a, _): (&str, &str)| a.split_once('=').map_or(String::new(), |(key, _)| format!(" {key}"));
    differ.map(word).collect()
}

/// The same for two lines of trees.
fn line_words(text: &str) -> String {
    let line =
        |n| text.lines().nth(n).and_then(|l: &str| l.split_once(": ")).map_or(String::new(), |(_, l)| l.to_owned());
    let (a, b) = (line(1), line(2));
    if a.starts_with("does not") || b.starts_with("does not") {
        return format!(" existence {}", a.starts_with("does not"));
    }
    words_that_differ(&Ok(a), &Ok(b))
}
