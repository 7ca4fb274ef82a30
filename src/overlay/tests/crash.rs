//! The crash order, enumerated: every mutation is killed before each of its system calls, and each of them is made to
//! fail. See docs/SEMANTICS.md for the table that this proves (`LAMINAFS_TRACE=1` prints it).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::harness::{Fs, Stack, difference, lasting};
use super::tree::{Tree, root};
use super::walk::{View, view};
use crate::overlay::{Overlay, Result};
use crate::sys::Errno;
use crate::sys::seam::{self, Plan};

/// System calls that fail with these errors.
pub type Refused = &'static [(&'static str, Errno)];

/// One mutation on one stack.
#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    /// Fills the layers.
    pub build: fn(&mut Stack),
    /// Changes made through a first mount, before the one that is tested.
    pub prepare: Option<fn(&Fs) -> Result<()>>,
    pub run: fn(&Fs) -> Result<()>,
    /// States that may be seen in between, besides old and new, as documented: reached by running this instead.
    pub between: &'static [fn(&Fs) -> Result<()>],
    /// A file's time of change does not count while the state is the old one: data that was below is being filled in.
    pub fills_in: bool,
    /// Owners, modes and devices are in attributes.
    pub overridden: bool,
}

impl Case {
    /// How messages and the table name it.
    fn title(&self) -> String {
        format!("{}{}", self.name, if self.overridden { ", owners in attributes" } else { "" })
    }

    /// Whether the mutation succeeds although this call failed.
    fn is_best_effort(&self, call: &str) -> bool {
        // Bringing a whiteout that a rename has left into its usual form.
        let form = call == "linkat" && self.name.starts_with("rename");
        form || BEST_EFFORT.contains(&call)
            || self.overridden && call == "fchmodat2" && LATE_PERMISSIONS.contains(&self.name)
    }

    fn stack(&self) -> Stack {
        let mut stack = Stack::in_memory(2);
        stack.options.override_stat |= self.overridden;
        (self.build)(&mut stack);
        if let Some(prepare) = self.prepare {
            prepare(&stack.mount()).unwrap_or_else(|e| panic!("{}: prepare: {e}", self.name));
        }
        stack
    }
}

/// System calls whose failure is not the mutation's: putting a parent's times back, cleaning up after the commit, and a
/// faster way for which there is another.
const BEST_EFFORT: [&str; 3] = ["utimensat", "unlinkat", "FICLONE"];

/// With owners in attributes, changes of objects of upper that had none: they get the attribute, which is what is shown, and
/// then other permissions on disk (docs/SEMANTICS.md section 3.3).
const LATE_PERMISSIONS: [&str; 4] =
    ["chmod upper file", "chmod merged directory", "chmod root", "chmod upper metacopy file"];

/// A view in a form that can be compared between runs: numbers are told by the first name that had them before (or, for
/// new objects, has them now), and times of this run are all alike.
pub fn canonical(before: &View, now: &View) -> BTreeMap<String, (String, super::walk::Entry)> {
    let first = |view: &View, ino| view.iter().find(|(_, e)| e.ino == ino).map(|(p, _)| p.clone());
    now.iter()
        .map(|(path, entry)| {
            let known = first(before, entry.ino).map(|p| format!("old {p}"));
            let known = known.filter(|_| lasting(&View::from([(path.clone(), entry.clone())]))[path].ino != 0);
            let id = known.or_else(|| first(now, entry.ino).map(|p| format!("new {p}"))).unwrap();
            let id = if NUMBERS.get() { id } else { String::new() };
            let mut entry = steady(&View::from([(path.clone(), entry.clone())])).remove(path).unwrap();
            entry.ino = 0;
            // As on the kernel's: the real count for a directory of one layer, 1 for a merged one. Copy-up changes it.
            if entry.is_dir() {
                entry.nlink = 0;
            }
            if entry.is_fresh() {
                (entry.mtime.sec, entry.mtime.nsec) = (i64::MAX, 0);
            }
            (path.clone(), (id, entry))
        })
        .collect()
}

pub type Canonical = BTreeMap<String, (String, super::walk::Entry)>;

/// Whose times do not count in a comparison.
#[derive(Clone, Copy)]
pub struct Forgive {
    pub dirs: bool,
    pub files: bool,
}

/// What differs between two states.
pub fn differs(a: &Canonical, b: &Canonical, forgive: Forgive) -> String {
    let mut out = String::new();
    let paths: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
    for path in paths {
        let (mut x, mut y) = (a.get(path).cloned(), b.get(path).cloned());
        for e in
            [&mut x, &mut y].into_iter().flatten().filter(|e| if e.1.is_dir() { forgive.dirs } else { forgive.files })
        {
            (e.1.mtime.sec, e.1.mtime.nsec) = (0, 0);
        }
        if x != y {
            writeln!(out, "      {path:?}: {x:?}\n        instead of {y:?}").unwrap();
        }
    }
    out
}

pub struct Run {
    pub before: View,
    pub result: Result<()>,
    pub report: seam::Report,
    /// What the union that ran it shows then; not after a kill.
    pub live: Option<View>,
    /// What a mount afterwards shows.
    pub after: View,
    pub left: Vec<std::ffi::OsString>,
    /// Running it again on the same union: `Some` if the first time failed.
    again: Option<(Result<()>, View)>,
}

/// Runs the case once under the plan. `warm`: every object is known already.
pub fn run(case: &Case, act: fn(&Fs) -> Result<()>, plan: Plan, warm: bool, again: bool) -> Run {
    let stack = case.stack();
    let before = stack.view();
    let fs = stack.mount();
    if warm {
        fs.view();
    }
    seam::plan(plan);
    let result = act(&fs);
    let killed = matches!(plan, Plan::KillNth { .. });
    if killed {
        drop(fs);
        let report = seam::take();
        let after = view(&Overlay::open(&stack.options).unwrap());
        let left = stack.temporaries();
        stack.check();
        return Run { before, result, report, live: None, after, left, again: None };
    }
    let report = seam::take();
    let left = stack.temporaries();
    if again {
        let second = act(&fs);
        drop(fs);
        let after = view(&Overlay::open(&stack.options).unwrap());
        stack.check();
        let again = Some((second, after.clone()));
        return Run { before, result, report, live: None, after, left, again };
    }
    let live = Some(fs.view());
    drop(fs);
    let after = view(&Overlay::open(&stack.options).unwrap());
    stack.check();
    Run { before, result, report, live, after, left, again: None }
}

/// The states that a case may leave.
struct States {
    old: Canonical,
    new: Canonical,
    /// [`Case::between`].
    between: Vec<Canonical>,
}

/// Runs a case in every way, after failures also once more if `retry`, and returns the line for the table.
pub fn enumerate(case: &Case, retry: bool, problems: &mut Vec<String>) -> String {
    let done = run(case, case.run, Plan::Count, false, false);
    let mut problem = |what: String| problems.push(format!("{}: {what}", case.title()));
    if let Err(e) = done.result {
        problem(format!("fails: {e}"));
        return String::new();
    }
    let trace = &done.report.trace;
    let between = case.between.iter().map(|&act| {
        let run = run(case, act, Plan::Count, false, false);
        canonical(&run.before, &run.after)
    });
    let states = States {
        old: canonical(&done.before, &done.before),
        new: canonical(&done.before, &done.after),
        between: between.collect(),
    };
    if let Some(difference) = unequal(&done.live, &done.after) {
        problem(format!("live and remounted differ\n{difference}"));
    }
    if !done.left.is_empty() {
        problem(format!("left in work/: {:?}", done.left));
    }
    let letters: Vec<char> = (1..=trace.len()).map(|n| kill(case, &states, trace, n, &mut problem)).collect();

    let warm_calls = run(case, case.run, Plan::Count, true, false).report.mutating;
    for n in 1..=trace.len().max(warm_calls) {
        for (errno, warm, again) in [
            (Errno::IO, false, false),
            (Errno::NOSPC, true, false),
            (Errno::IO, true, true),
            (Errno::NOSPC, false, true),
        ] {
            if (!again || retry) && n <= if warm { warm_calls } else { trace.len() } {
                fail(case, &states, Failure { n, errno, warm, again }, &mut problem);
            }
        }
    }
    let marked: Vec<String> = trace.iter().zip(letters).map(|(call, letter)| format!("{letter}:{call}")).collect();
    format!("{:<44} {}\n", case.title(), marked.join(" "))
}

fn unequal(live: &Option<View>, after: &View) -> Option<String> {
    live.as_ref().map(|live| difference(&steady(live), &steady(after))).filter(|d| !d.is_empty())
}

/// Runs a case that is killed before the call `n`. Which state it leaves, as the table has it: `!` for one that may not be.
fn kill(case: &Case, states: &States, trace: &[&str], n: usize, problem: &mut impl FnMut(String)) -> char {
    let killed = run(case, case.run, Plan::KillNth { n }, false, false);
    let state = canonical(&killed.before, &killed.after);
    let call = trace[n - 1];
    // Without attributes directories are cut off by several steps, after which their times are put back.
    let between_times = call == "utimensat" || !NUMBERS.get() && call == "unlinkat";
    let forgive = Forgive { dirs: between_times, files: case.fills_in };
    let (from_old, from_new) = (differs(&state, &states.old, forgive), differs(&state, &states.new, forgive));
    match () {
        () if from_old.is_empty() && states.old == states.new => '=',
        () if from_old.is_empty() => 'o',
        () if from_new.is_empty() => 'n',
        () if states.between.contains(&state) => 'b',
        () => {
            problem(format!("killed at {n} ({call}): neither old\n{from_old}    nor new\n{from_new}"));
            '!'
        }
    }
}

/// One call that fails.
#[derive(Clone, Copy)]
struct Failure {
    n: usize,
    errno: Errno,
    /// See [`run`].
    warm: bool,
    /// The case is run once more.
    again: bool,
}

/// Runs a case in which one call fails.
fn fail(case: &Case, states: &States, failure: Failure, problem: &mut impl FnMut(String)) {
    let Failure { n, errno, warm, again } = failure;
    let failed = run(case, case.run, Plan::FailNth { n, errno }, warm, again);
    let call = failed.report.trace[n - 1];
    let at = format!("{call} failing as call {n} with {errno:?} (warm: {warm}, again: {again})");
    let forgive = Forgive { dirs: call == "utimensat", files: case.fills_in && call == "utimensat" };
    if !failed.left.is_empty() && call != "unlinkat" {
        problem(format!("{at}: left in work/: {:?}", failed.left));
    }
    if let Some((second, view)) = &failed.again {
        let from_new = differs(&canonical(&failed.before, view), &states.new, forgive);
        if failed.result.is_err() && second.is_err() {
            problem(format!("{at}: does not work afterwards: {second:?}"));
        }
        if failed.result.is_err() && !from_new.is_empty() {
            problem(format!("{at}: not the new state afterwards\n{from_new}"));
        }
        return;
    }
    let state = canonical(&failed.before, &failed.after);
    let (from_old, from_new) = (differs(&state, &states.old, forgive), differs(&state, &states.new, forgive));
    match failed.result {
        Err(e) if e.errno() != errno.raw_os_error() => problem(format!("{at}: reported as {e}")),
        Err(_) if from_old.is_empty() || states.between.contains(&state) => {}
        Err(_) => problem(format!("{at}: not the old state\n{from_old}")),
        Ok(()) if !case.is_best_effort(call) => problem(format!("{at}: not reported")),
        Ok(()) if from_new.is_empty() => {}
        Ok(()) => problem(format!("{at}: not the new state\n{from_new}")),
    }
    if let Some(difference) = unequal(&failed.live, &failed.after) {
        problem(format!("{at}: live and remounted differ\n{difference}"));
    }
}

/// Enumerates the cases where these calls are refused. Without `numbers` the file system keeps none for what is copied up,
/// and no attributes.
pub fn enumerate_forms(title: &str, cases: &[Case], refused: Refused, numbers: bool) {
    let _refused = seam::deny(refused);
    NUMBERS.set(numbers);
    let (mut problems, mut table) = (Vec::new(), format!("{title}\n"));
    for case in cases {
        table += &enumerate(case, false, &mut problems);
    }
    NUMBERS.set(true);
    if std::env::var_os("LAMINAFS_TRACE").is_some() {
        println!("{table}");
    }
    assert!(problems.is_empty(), "{}\n{} problems", problems.join("\n"), problems.len());
}

thread_local! {
    /// Whether objects keep their numbers and attributes through copy-up and remounting.
    static NUMBERS: std::cell::Cell<bool> = const { std::cell::Cell::new(true) };
}

/// A view of which all has to be the same after a remount.
fn steady(view: &View) -> View {
    let mut view = lasting(view);
    if !NUMBERS.get() {
        for entry in view.values_mut() {
            entry.ino = 0;
            entry.xattrs.clear();
        }
    }
    view
}

/// Enumerates the cases, with owners on disk and with owners in attributes; prints their table with `LAMINAFS_TRACE=1`.
pub fn enumerate_all(group: &str, cases: &[Case]) {
    let (mut problems, mut table) = (Vec::new(), format!("{group}\n"));
    for case in cases {
        table += &enumerate(case, true, &mut problems);
        if !case.overridden {
            // What a second try does depends on what is known in memory, which is the same in both forms.
            table += &enumerate(&Case { overridden: true, ..*case }, false, &mut problems);
        }
    }
    if std::env::var_os("LAMINAFS_TRACE").is_some() {
        println!("{table}");
    }
    assert!(problems.is_empty(), "{}\n{} problems", problems.join("\n"), problems.len());
}

/// The layers that most cases start from.
pub fn common(stack: &mut Stack) {
    let (upper, top, low) = (stack.upper(), stack.lower(1), stack.lower(2));
    upper.file("u", "upper").dir("ud").file("ud/f", "in ud").file("ud2/f", "in ud2").dir("uempty");
    upper.file("over", "over lower").dir("m").file("m/u", "upper in merged").whiteout("wh");
    low.file("over", "hidden").file("wh", "deleted").file("m/a", "a").file("m/sub/x", "x");
    top.file("f", "lower file").mtime("f", -86_400, 5).file("deep/er/f", "deep").chmod("deep/er", 0o2751);
    top.dir("lempty")
        .chmod("lempty", 0o700)
        .file("ld/f", "in ld")
        .file("ld/g", "g")
        .symlink("s", "target")
        .fifo("pipe");
    low.file("h1", "hard").link("h1", "h2").link("h1", "hd/h3").file("l2/f", "in l2");
    top.device("node").xattr("f", "user.colour", b"red").xattr("deep", "user.colour", b"blue");
    // A directory that is empty in the merged view only, and one that is so in upper.
    low.file("gone/x", "x").file("gone/y", "y");
    upper.whiteout("gone/x").whiteout("gone/y");
    top.chown("f", 10, 20).chown("deep", 30, 40);
    low.chown("h1", 50, 60);
    special(&upper);
}

fn special(upper: &Tree) {
    if root() {
        upper.xattr("u", "trusted.mine", b"1");
    }
}
