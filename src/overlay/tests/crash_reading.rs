//! A bad sector, or no descriptors left: every call that only reads fails once. A change that cannot see what is there
//! must not guess.

use super::crash::{Case, Forgive, canonical, common, differs, run};
use super::harness::{Stack, difference, lasting};
use crate::sys::Errno;
use crate::sys::seam::{self, Plan};

/// Fails each reading call of a case with `EIO`: either the error is reported and the state is the old one (or the new
/// one, when only the answer could not be read), or the call was not needed and the state is the new one.
fn enumerate_readings(case: &Case, problems: &mut Vec<String>) {
    let done = run(case, case.run, Plan::Count, false, false);
    let (old, new) = (canonical(&done.before, &done.before), canonical(&done.before, &done.after));
    let between: Vec<_> = case.between.iter().map(|&act| run(case, act, Plan::Count, false, false)).collect();
    let between: Vec<_> = between.iter().map(|run| canonical(&run.before, &run.after)).collect();
    for (n, call) in (1..).zip(&done.report.readings) {
        let failed = run(case, case.run, Plan::FailNthReading { n, errno: Errno::IO }, false, false);
        let mut problem =
            |what: &str| problems.push(format!("{}: {call} failing as reading call {n}: {what}", case.name));
        let forgive = Forgive { dirs: false, files: false };
        let state = canonical(&failed.before, &failed.after);
        let (from_old, from_new) = (differs(&state, &old, forgive), differs(&state, &new, forgive));
        match failed.result {
            Err(e) if e.errno() != libc::EIO => problem(&format!("reported as {e}")),
            Err(_) if from_old.is_empty() || from_new.is_empty() || between.contains(&state) => {}
            Err(_) => problem(&format!("neither old nor new\n{from_old}")),
            Ok(()) if from_new.is_empty() => {}
            Ok(()) => problem(&format!("not reported, and not the new state\n{from_new}")),
        }
        if !failed.left.is_empty() {
            problem(&format!("left in work/: {:?}", failed.left));
        }
        let live = failed.live.map(|live| difference(&lasting(&live), &lasting(&failed.after)));
        if let Some(difference) = live.filter(|d| !d.is_empty()) {
            problem(&format!("live and remounted differ\n{difference}"));
        }
    }
}

/// A copied-up hard link whose origin cannot be read was taken for a file of its own: after the removal of one name the
/// others showed the lower file again, without what had been written.
#[test]
fn hard_links_stay_one_file_when_a_call_that_reads_fails() {
    let case = |name, run| Case {
        name,
        build: common,
        prepare: Some(|fs| fs.write("h1", 0, "H")),
        run,
        between: &[],
        fills_in: false,
        overridden: false,
    };
    let cases = [
        case("unlink", |fs| fs.unlink("h1")),
        case("rename", |fs| fs.rename("h1", "new")),
        case("write", |fs| fs.write("h1", 1, "A")),
    ];
    let mut problems = Vec::new();
    cases.iter().for_each(|case| enumerate_readings(case, &mut problems));
    assert!(problems.is_empty(), "{}\n{} problems", problems.join("\n"), problems.len());
}

/// A removed directory is moved aside when it holds whiteouts, which are removed with it.
#[test]
fn nothing_of_a_removed_directory_stays_when_a_call_that_reads_fails() {
    let mut stayed = 0;
    for n in 1.. {
        let mut stack = Stack::in_memory(2);
        common(&mut stack);
        stack.upper().whiteout("uempty/x");
        let fs = stack.mount();
        seam::plan(Plan::FailNthReading { n, errno: Errno::IO });
        let done = fs.rmdir("uempty");
        let report = seam::take();
        if n > report.readings.len() {
            assert!(done.is_ok() && stayed > 0, "{stayed} of {n}");
            break;
        }
        let call = report.readings[n - 1];
        stayed += usize::from(!stack.temporaries().is_empty());
        drop(fs);
        assert!(stack.temporaries().is_empty(), "{call} failing as reading call {n}: {:?}", stack.temporaries());
    }
}
