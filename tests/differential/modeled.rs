//! Random sequences of operations on the core of laminafs and on the model, without a mount.
//!
//! Root runs all that the core can be asked. An ordinary user cannot make devices, give objects away or set trusted
//! attributes: such steps are left out then, markers in layers become `user.` attributes, and everything stays accessible to
//! its owner.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use super::case::Case;
use super::core::Core;
use super::kernel::KEPT;
use super::model::{Model, layers};
use super::ops::{Op, Step};
use super::text::Place;
use super::vfs::{Caller, Inodes, Outcome, Tree, Vfs, left_out};
use super::{abilities, generate, shrink, stack};
use crate::call;

/// Sequences of a plain `cargo test`.
const FEW: u64 = 300;

struct Arguments {
    sequences: u64,
    seed: u64,
    length: usize,
    jobs: usize,
    scratch: PathBuf,
    failures: Option<PathBuf>,
    replay: Vec<PathBuf>,
    stop_after: usize,
}

impl Arguments {
    fn new() -> Self {
        Self {
            sequences: FEW,
            seed: std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs()),
            length: 40,
            jobs: std::thread::available_parallelism().map_or(1, usize::from),
            scratch: std::env::temp_dir(),
            failures: None,
            replay: Vec::new(),
            stop_after: 5,
        }
    }

    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self::new();
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(|| format!("{word}: the value is missing"))?;
            let number = || value.parse::<u64>().map_err(|e| format!("{word} {value}: {e}"));
            match word.as_str() {
                "--sequences" => arguments.sequences = number()?,
                "--seed" => arguments.seed = number()?,
                "--length" => arguments.length = number()? as usize,
                "--jobs" => arguments.jobs = number()?.max(1) as usize,
                "--stop-after" => arguments.stop_after = number()? as usize,
                "--scratch" => arguments.scratch = value.into(),
                "--failures" => arguments.failures = Some(value.into()),
                "--replay" => arguments.replay.push(value.into()),
                _ => return Err(format!("{word} is not an argument")),
            }
        }
        Ok(arguments)
    }
}

/// With arguments from the command line.
pub fn main(words: impl Iterator<Item = String>) -> ExitCode {
    match Arguments::parse(words) {
        Ok(arguments) if run_all(&arguments) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("differential: {message}");
            ExitCode::from(2)
        }
    }
}

/// A few sequences.
pub fn few() -> bool {
    run_all(&Arguments::new())
}

/// Why a case failed.
#[derive(Clone, Debug)]
struct Failure {
    /// The same for failures that are probably one.
    signature: String,
    text: String,
}

impl Failure {
    fn new(signature: impl Into<String>, text: impl Into<String>) -> Self {
        Self { signature: signature.into(), text: text.into() }
    }
}

/// What the jobs share.
struct Shared<'a> {
    arguments: &'a Arguments,
    home: &'a Path,
    next: AtomicU64,
    directories: AtomicUsize,
    steps: AtomicU64,
    succeeded: AtomicU64,
    seen: Mutex<Vec<(String, usize)>>,
}

fn run_all(arguments: &Arguments) -> bool {
    call!(umask(0)).expect("umask");
    let home = tempfile::Builder::new().prefix("laminafs-model-").tempdir_in(&arguments.scratch);
    let home = home.expect("the scratch directory takes a directory");
    let shared = Shared {
        arguments,
        home: home.path(),
        next: AtomicU64::new(0),
        directories: AtomicUsize::new(0),
        steps: AtomicU64::new(0),
        succeeded: AtomicU64::new(0),
        seen: Mutex::default(),
    };
    let begun = Instant::now();
    if arguments.replay.is_empty() {
        kept().iter().for_each(|file| shared.replay(file));
        println!("model: {} sequences of {} steps from seed {}", arguments.sequences, arguments.length, arguments.seed);
        std::thread::scope(|scope| (0..arguments.jobs).for_each(|_| drop(scope.spawn(|| shared.sequences()))));
    } else {
        arguments.replay.iter().for_each(|file| shared.replay(file));
    }
    let (steps, succeeded) = (shared.steps.into_inner(), shared.succeeded.into_inner());
    let seen = shared.seen.into_inner().unwrap();
    for (signature, count) in &seen {
        println!("model: {count} times: {signature}");
    }
    let what = if seen.is_empty() { "all equal" } else { "differences found" };
    println!("model: {what}, {steps} steps ({succeeded} succeeded) in {:.1} s", begun.elapsed().as_secs_f64());
    seen.is_empty()
}

/// The cases that failed once.
fn kept() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(KEPT).unwrap_or_else(|e| panic!("{KEPT}: {e}"));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

impl Shared<'_> {
    fn sequences(&self) {
        let Arguments { sequences, seed, length, stop_after, .. } = *self.arguments;
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= sequences || self.seen.lock().unwrap().len() >= stop_after {
                return;
            }
            let case = generate::case(seed + number, length);
            if let Err(failure) = self.run(&case) {
                self.failed(&format!("seed {}", seed + number), &case, &failure);
            }
        }
    }

    fn replay(&self, file: &Path) {
        let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let case: Case = text.parse().unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        if let Err(failure) = self.run(&case) {
            println!("FAILED: {}\n{}\n{}", file.display(), failure.signature, failure.text);
            self.seen.lock().unwrap().push((failure.signature, 1));
        }
    }

    /// Shrinks and prints the first failure of each kind.
    fn failed(&self, name: &str, case: &Case, failure: &Failure) {
        {
            let mut seen = self.seen.lock().unwrap();
            if let Some((_, count)) = seen.iter_mut().find(|(signature, _)| *signature == failure.signature) {
                *count += 1;
                return;
            }
            seen.push((failure.signature.clone(), 1));
        }
        let mut last = failure.clone();
        let small = shrink::shrink(case, 1500, &mut |smaller| match self.run(smaller) {
            Err(other) if other.signature == failure.signature => {
                last = other;
                true
            }
            _ => false,
        });
        let comment: String = last.text.lines().map(|line| format!("# {line}\n")).collect();
        let text = format!("# model, {name}: {}\n{comment}{small}", last.signature);
        println!("FAILED, shrunk to:\n{text}");
        if let Some(directory) = &self.arguments.failures {
            let file = directory.join(format!("model-{}.txt", name.replace(' ', "-")));
            let kept = std::fs::create_dir_all(directory).and_then(|()| std::fs::write(&file, text));
            println!("{}", kept.map_or_else(|e| format!("{}: {e}", file.display()), |()| file.display().to_string()));
        }
    }

    /// Runs a case in a directory of its own.
    fn run(&self, case: &Case) -> Result<(), Failure> {
        let at = self.home.join(self.directories.fetch_add(1, Ordering::Relaxed).to_string());
        let case = &abilities::for_filtered_process(case);
        let user = Caller { uid: call!(geteuid()).unwrap_or(0), gid: call!(getegid()).unwrap_or(0) };
        let result = if user.uid == 0 {
            Run::new(case, &at, user, None).and_then(|run| run.all(self, &case.steps))
        } else {
            let case = abilities::for_ordinary_user(case);
            Run::new(&case, &at, user, Some(user)).and_then(|run| run.all(self, &case.steps))
        };
        std::fs::remove_dir_all(&at).expect("the directory of a case goes");
        result
    }
}

/// One case.
struct Run {
    core: Vfs<Core>,
    model: Vfs<Model>,
    lower: Vec<PathBuf>,
    umask: u32,
    only: Option<Caller>,
    /// Inode numbers are looked at around every step.
    watch: bool,
}

impl Run {
    fn new(case: &Case, at: &Path, owner: Caller, only: Option<Caller>) -> Result<Self, Failure> {
        stack::fresh_directory(at);
        let lower = stack::build_layers(case, at);
        // A sixth with all the calls of fsync, which take time.
        let synced = case.umask == 0o077;
        let core = Core::new(at, lower.clone(), synced, case.watch).map_err(|text| Failure::new("opening", text))?;
        let model = layers::merged(case, owner, only);
        let (core, model) = (Vfs::new(core, case.umask, only), Vfs::new(model, case.umask, only));
        Ok(Self { core, model, lower, umask: case.umask, only, watch: case.watch })
    }

    fn all(mut self, shared: &Shared<'_>, steps: &[Step]) -> Result<(), Failure> {
        let before = self.lower_trees();
        self.check()?;
        for (number, step) in steps.iter().enumerate().filter(|(_, step)| !left_out(&step.op)) {
            let context = |f: Failure| Failure { text: format!("step {number}, {step}:\n{}", f.text), ..f };
            match step.op {
                Op::Check {} => self.check().map_err(context)?,
                Op::Remount {} | Op::Swap {} => self = self.reopen(Core::remount).map_err(context)?,
                Op::Rotate {} => {
                    self = self.reopen(Core::rotate).map_err(context)?;
                    self.model.files.forget_attributes_of_root();
                }
                _ => {
                    shared.steps.fetch_add(1, Ordering::Relaxed);
                    let succeeded = self.step(step).map_err(context)?;
                    shared.succeeded.fetch_add(u64::from(succeeded), Ordering::Relaxed);
                }
            }
        }
        self.check()?;
        self = self.reopen(Core::remount)?;
        self.check()?;
        let left = self.core.files.leftovers();
        if !left.is_empty() {
            return Err(Failure::new("left in work/", left.join("\n")));
        }
        if self.lower_trees() != before {
            return Err(Failure::new("a lower layer changed", ""));
        }
        Ok(())
    }

    fn lower_trees(&self) -> Vec<std::collections::BTreeMap<Vec<u8>, String>> {
        self.lower.iter().map(|path| super::tree::Tree::read(path, &Default::default()).lines).collect()
    }

    /// Whether the step succeeded.
    fn step(&mut self, step: &Step) -> Result<bool, Failure> {
        let paths = step.op.same_object().filter(|_| self.watch);
        let before = paths.and_then(|(before, _)| self.core.number(before));
        let (model, core) = (self.model.run(step), self.core.run(step));
        let after = paths.and_then(|(_, after)| self.core.number(after));
        // With a slash behind it the new name may not be found.
        if core.is_ok() && before.is_some() && after.is_some() && before != after {
            let text = format!("    {before:?} became {after:?}");
            return Err(Failure::new(format!("inode number, {}", step.op.verb()), text));
        }
        if agree(&model, &core) {
            return Ok(model.is_ok());
        }
        let class = |o: &Outcome| o.as_ref().map_or_else(|errno| format!("errno {errno}"), |_| "ok".to_owned());
        let signature = format!("{}: model {}, core {}", step.op.verb(), class(&model), class(&core));
        Err(Failure::new(signature, format!("    model: {model:?}\n    core: {core:?}")))
    }

    /// Compares the trees.
    fn check(&mut self) -> Result<(), Failure> {
        let (model, core) = (self.model.tree(), self.core.tree());
        if let Some(problem) = core.problems.first() {
            let kind = problem.rsplit_once(": ").map_or("", |(_, kind)| kind);
            let kind: String = kind.chars().filter(|c| !c.is_ascii_digit()).collect();
            return Err(Failure::new(format!("listing, {kind}"), core.problems.join("\n")));
        }
        match first_difference(&model, &core) {
            None => Ok(()),
            Some((path, a, b)) => {
                let words = a.split(' ').zip(b.split(' ')).filter(|(a, b)| !same_word(a, b)).map(|(a, _)| a);
                let keys: Vec<_> = words.filter_map(|a| a.split_once('=')).map(|(key, _)| key).collect();
                let missing = [(&a, "in the model"), (&b, "in the core")].map(|(line, whose)| (line.is_empty(), whose));
                let what = match missing.iter().find(|(missing, _)| *missing) {
                    Some((_, whose)) => format!("missing {whose}"),
                    None if keys.is_empty() => "mode, owner or content".to_owned(),
                    None => keys.join(" "),
                };
                let text = format!("{}\n    model: {a}\n    core:  {b}", path.escape_ascii());
                Err(Failure::new(format!("trees differ: {what}"), text))
            }
        }
    }

    /// Closes everything, and opens the stack again.
    fn reopen(mut self, how: fn(Core) -> Result<Core, String>) -> Result<Self, Failure> {
        self.check()?;
        self.model.close_all();
        self.core.close_all();
        let core = how(self.core.files).map_err(|text| Failure::new("opening again", text))?;
        Ok(Self { core: Vfs::new(core, self.umask, self.only), ..self })
    }
}

/// The first path where two trees differ.
fn first_difference(model: &Tree, core: &Tree) -> Option<(Vec<u8>, String, String)> {
    let paths: std::collections::BTreeSet<_> = model.lines.keys().chain(core.lines.keys()).collect();
    let line = |tree: &Tree, path: &Vec<u8>| tree.lines.get(path).cloned().unwrap_or_default();
    let mut lines = paths.into_iter().map(|path| (path.clone(), line(model, path), line(core, path)));
    lines.find(|(_, a, b)| !same_words(a, b))
}

fn agree(model: &Outcome, core: &Outcome) -> bool {
    match (model, core) {
        (Ok(a), Ok(b)) => same_words(a, b),
        _ => model == core,
    }
}

fn same_words(model: &str, core: &str) -> bool {
    model.split(' ').count() == core.split(' ').count()
        && model.split(' ').zip(core.split(' ')).all(|(a, b)| same_word(a, b))
}

fn same_word(model: &str, core: &str) -> bool {
    model == core || model == "mtime=any" && core.starts_with("mtime=")
}

impl Vfs<Core> {
    /// The number of a path itself.
    fn number(&mut self, path: &Place) -> Option<u64> {
        self.look(path).ok()
    }
}

impl Model {
    /// A new upper directory has the owner, mode and time of the one before, and no attributes.
    fn forget_attributes_of_root(&mut self) {
        self.clear_xattrs(self.root());
    }
}
