//! The comparison with kernel overlayfs: arguments, jobs, what is done with failures.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::case::Case;
use super::ops::Step;
use super::run::{self, Failure};
use super::{generate, shrink, stack};
use crate::call;

/// Cases that failed once, named after what was seen.
pub const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/differential/cases");

/// What the command line says.
#[derive(Clone)]
struct Arguments {
    sequences: u64,
    seed: u64,
    length: usize,
    jobs: u64,
    scratch: PathBuf,
    failures: PathBuf,
    /// More options for mounting laminafs.
    options: String,
    replay: Vec<PathBuf>,
    /// This process is job number so-and-so.
    job: Option<u64>,
    shrink: usize,
    stop_after: usize,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let mut arguments = Self {
            sequences: 300,
            seed: clock,
            length: 40,
            jobs: 2,
            scratch: std::env::temp_dir(),
            failures: std::env::temp_dir().join("laminafs-differential"),
            options: String::new(),
            replay: Vec::new(),
            job: None,
            shrink: 400,
            stop_after: 5,
        };
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(|| format!("{word}: the value is missing"))?;
            let number = || value.parse::<u64>().map_err(|e| format!("{word} {value}: {e}"));
            match word.as_str() {
                "--sequences" => arguments.sequences = number()?,
                "--seed" => arguments.seed = number()?,
                "--length" => arguments.length = number()? as usize,
                "--jobs" => arguments.jobs = number()?.max(1),
                "--job" => arguments.job = Some(number()?),
                "--shrink" => arguments.shrink = number()? as usize,
                "--stop-after" => arguments.stop_after = number()? as usize,
                "--scratch" => arguments.scratch = value.into(),
                "--options" => arguments.options = value,
                "--failures" => arguments.failures = value.into(),
                "--replay" => arguments.replay.push(value.into()),
                _ => return Err(format!("{word} is not an argument")),
            }
        }
        Ok(arguments)
    }

    fn words(&self) -> Vec<String> {
        let text = |path: &Path| path.display().to_string();
        [
            ("--sequences", self.sequences.to_string()),
            ("--seed", self.seed.to_string()),
            ("--length", self.length.to_string()),
            ("--jobs", self.jobs.to_string()),
            ("--shrink", self.shrink.to_string()),
            ("--stop-after", self.stop_after.to_string()),
            ("--scratch", text(&self.scratch)),
            ("--failures", text(&self.failures)),
            ("--options", self.options.clone()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect()
    }
}

pub fn main(words: impl Iterator<Item = String>) -> ExitCode {
    let arguments = match Arguments::parse(words) {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("differential: {message}");
            return ExitCode::from(2);
        }
    };
    if !arguments.options.is_empty() {
        stack::MORE_OPTIONS.get_or_init(|| format!(",{}", arguments.options));
    }
    if call!(geteuid()) != Ok(0) {
        eprintln!("differential: mounting kernel overlayfs needs root");
        return ExitCode::from(2);
    }
    let good = match arguments.job {
        Some(0) => {
            let mut job = Job::new(&arguments, 0);
            job.replay_kept() & job.sequences()
        }
        Some(number) => Job::new(&arguments, number).sequences(),
        None if !arguments.replay.is_empty() => Job::new(&arguments, 0).replay(&arguments.replay),
        None => all_jobs(&arguments),
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the jobs as processes: each has one umask, one set of mounts, and can be lost without the others.
fn all_jobs(arguments: &Arguments) -> bool {
    println!(
        "{} sequences of {} steps from seed {}, {} jobs",
        arguments.sequences, arguments.length, arguments.seed, arguments.jobs
    );
    let begun = Instant::now();
    let program = std::env::current_exe().expect("this program has a path");
    let start = |job: u64| {
        let mut command = Command::new(&program);
        command.arg("kernel").args(arguments.words()).args(["--job", &job.to_string()]).stdin(Stdio::null());
        command.spawn().expect("a job starts")
    };
    let jobs: Vec<_> = (0..arguments.jobs).map(start).collect();
    let ends: Vec<_> = jobs.into_iter().map(|mut job| job.wait().expect("a job ends").success()).collect();
    let good = !ends.contains(&false);
    let what = if good { "all equal" } else { "differences found" };
    println!("{what} after {:.0} s", begun.elapsed().as_secs_f64());
    good
}

/// Goes up with every step.
static STEPS: AtomicU64 = AtomicU64::new(0);

/// How often each kind of operation was done, and how often it succeeded.
static COUNTS: Mutex<BTreeMap<&str, (u64, u64)>> = Mutex::new(BTreeMap::new());

fn progress(step: &Step, succeeded: bool) {
    STEPS.fetch_add(1, Ordering::Relaxed);
    let mut counts = COUNTS.lock().unwrap();
    let count = counts.entry(step.op.verb()).or_default();
    count.0 += 1;
    count.1 += u64::from(succeeded);
}

fn counts() -> String {
    let counts = COUNTS.lock().unwrap();
    let one = |(verb, (all, good)): (&&str, &(u64, u64))| format!("{verb} {good}/{all}");
    counts.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// A step that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(180);

/// Ends the daemons when nothing moves any more, which ends every call that waits for them with an error.
fn watch() {
    std::thread::spawn(|| {
        let mut last = (STEPS.load(Ordering::Relaxed), Instant::now());
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let steps = STEPS.load(Ordering::Relaxed);
            if steps != last.0 {
                last = (steps, Instant::now());
            } else if last.1.elapsed() > PATIENCE {
                eprintln!("nothing moves for {PATIENCE:?}: the daemons are killed");
                kill_children();
                last.1 = Instant::now();
            }
        }
    });
}

fn kill_children() {
    for thread in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let children = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        for pid in children.split_whitespace().filter_map(|p| p.parse().ok()) {
            call!(kill(pid, libc::SIGKILL)).ok();
        }
    }
}

struct Job<'a> {
    arguments: &'a Arguments,
    number: u64,
    home: tempfile::TempDir,
    runs: u64,
    /// How often each kind of failure came.
    seen: BTreeMap<String, usize>,
}

impl<'a> Job<'a> {
    fn new(arguments: &'a Arguments, number: u64) -> Self {
        stack::adopt_orphans();
        stack::hide_mounts();
        watch();
        let home = tempfile::Builder::new().prefix("laminafs-differential-").tempdir_in(&arguments.scratch);
        let home = home.expect("the scratch directory takes a directory");
        stack::fresh_directory(home.path());
        Self { arguments, number, home, runs: 0, seen: BTreeMap::new() }
    }

    fn run(&mut self, case: &Case) -> Result<(), Failure> {
        self.runs += 1;
        let at = self.home.path().join(self.runs.to_string());
        run::run(case, &at, progress)
    }

    /// Every so many seeds is this job's.
    fn sequences(&mut self) -> bool {
        let Arguments { sequences, seed, length, jobs, stop_after, .. } = *self.arguments;
        let begun = Instant::now();
        let mut done = 0;
        for seed in (seed..seed + sequences).skip(self.number as usize).step_by(jobs as usize) {
            let case = generate::case(seed, length);
            if let Err(failure) = self.run(&case) {
                self.failed(seed, &case, &failure);
            }
            if self.seen.len() >= stop_after {
                println!("job {}: enough", self.number);
                break;
            }
            done += 1;
            if done % 500 == 0 {
                println!("job {}: {done} sequences in {:.0} s", self.number, begun.elapsed().as_secs_f64());
            }
        }
        println!("job {}: succeeded of all: {}", self.number, counts());
        for (signature, count) in &self.seen {
            println!("job {}: {count} times: {signature}", self.number);
        }
        self.seen.is_empty()
    }

    /// Shrinks and keeps the first failure of each kind.
    fn failed(&mut self, seed: u64, case: &Case, failure: &Failure) {
        let count = self.seen.entry(failure.signature.clone()).or_default();
        *count += 1;
        if *count > 1 {
            return;
        }
        let mut last = failure.clone();
        let budget = self.arguments.shrink;
        let small = shrink::shrink(case, budget, &mut |smaller| match self.run(smaller) {
            Err(other) if other.signature == failure.signature => {
                last = other;
                true
            }
            _ => false,
        });
        let comment: String = last.text.lines().map(|line| format!("# {line}\n")).collect();
        let text = format!("# seed {seed}: {}\n{comment}{small}", last.signature);
        println!("FAILED, shrunk to:\n{text}");
        let file = self.arguments.failures.join(format!("{seed}.txt"));
        let kept = std::fs::create_dir_all(&self.arguments.failures).and_then(|()| std::fs::write(&file, text));
        match kept {
            Ok(()) => println!("kept as {}", file.display()),
            Err(e) => println!("{}: {e}", file.display()),
        }
    }

    /// Runs the cases that failed once and were kept.
    fn replay_kept(&mut self) -> bool {
        let entries = std::fs::read_dir(KEPT).unwrap_or_else(|e| panic!("{KEPT}: {e}"));
        let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        files.sort();
        self.replay(&files)
    }

    /// Runs cases from files.
    fn replay(&mut self, files: &[PathBuf]) -> bool {
        let mut good = true;
        for file in files {
            let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            let case: Case = text.parse().unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            match self.run(&case) {
                Ok(()) => {}
                Err(failure) => {
                    good = false;
                    println!("FAILED: {}\n{}\n{}", file.display(), failure.signature, failure.text);
                }
            }
        }
        println!("{} cases replayed", files.len());
        good
    }
}
