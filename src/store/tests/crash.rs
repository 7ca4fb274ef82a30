//! Every change is killed before each of its system calls, and each of those is made to fail (`sys::seam`).

use super::*;
use crate::store::{Error, Prune, Result};
use crate::sys::Errno;
use crate::sys::seam::{Plan, plan, take};

/// What the store of a scenario was before, and must still be when the change did not happen.
fn prepare(place: &TempDir) -> Store {
    let (a, b) = two();
    let store = open(place);
    a.load(&store, &["a", "keep"]);
    b.load(&store, &["b"]);
    store.create_writable(&b.id(), None, Some("old")).unwrap();
    std::fs::write(store.path().join("writable/old/upper/precious"), "x").unwrap();
    store
}

/// One change, and whether it is there.
struct Scenario {
    name: &'static str,
    prepare: fn(&TempDir) -> Store,
    change: fn(&Store) -> Result<()>,
    done: fn(&Store) -> bool,
    /// What this change does not touch must be there in any case.
    keeps: fn(&Store) -> bool,
}

fn third() -> Sample {
    Sample::new("c", &[BASE, APP, DATA, &[("more/", ""), ("more/x", "y")]])
}

fn keeps_all(store: &Store) -> bool {
    store.find("keep").is_ok() && keeps_old(store)
}

fn keeps_old(store: &Store) -> bool {
    let lease = store.lease("old").unwrap();
    store.path().join("writable/old/upper/precious").exists() && lease.lower().iter().all(|dir| dir.is_dir())
}

fn without_image_a(store: &Store) -> bool {
    let (a, _) = two();
    store.find("a").is_err() && store.find(&a.id().to_string()).is_err()
}

fn scenarios() -> impl Iterator<Item = Scenario> {
    adding().into_iter().chain(removing())
}

fn adding() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "first command",
            prepare: |place| Store::open_unswept(&place.path().join("other")).unwrap(),
            change: |store| Store::open(&store.path().with_file_name("new")).map(drop),
            done: |store| store.path().with_file_name("new").join("format").exists(),
            keeps: |_| true,
        },
        Scenario {
            name: "load",
            prepare,
            change: |store| store.load(third().incoming(&["c", "b"]), None).map(drop),
            done: |store| ["b", "c"].iter().all(|n| store.find(n).is_ok_and(|i| i.record.id == third().id())),
            keeps: keeps_all,
        },
        Scenario {
            name: "load into a new store",
            prepare: open,
            change: |store| store.load(third().incoming(&["c"]), None).map(drop),
            done: |store| store.find("c").is_ok(),
            keeps: |_| true,
        },
        Scenario {
            name: "tag",
            prepare,
            change: |store| store.tag(&two().0.id(), &"b".parse().unwrap()).map(drop),
            done: |store| store.find("b").unwrap().record.id == two().0.id(),
            // The name is always that of one of the two.
            keeps: |store| keeps_all(store) && store.find("b").is_ok(),
        },
        Scenario {
            name: "create a writable layer",
            prepare,
            change: |store| store.create_writable(&two().0.id(), None, Some("new")).map(drop),
            done: |store| store.lease("new").is_ok(),
            keeps: keeps_all,
        },
        Scenario {
            name: "lease",
            prepare,
            change: |store| store.lease("old").and_then(|l| l.mounted(Path::new("/mnt"), false)),
            done: |_| true,
            keeps: keeps_all,
        },
        Scenario {
            name: "put a blob",
            prepare,
            change: |store| store.put_blob(&mut &b"orphan"[..], None).map(drop),
            done: |store| store.blob(&Digest::of(b"orphan")).is_ok(),
            keeps: keeps_all,
        },
    ]
}

fn removing() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "untag",
            prepare,
            change: |store| store.remove_image("a", false).map(drop),
            done: |store| store.find("a").is_err(),
            keeps: keeps_all,
        },
        Scenario {
            name: "rmi",
            prepare,
            change: |store| store.remove_image(&two().0.id().to_string(), true).map(drop),
            done: without_image_a,
            keeps: keeps_old,
        },
        Scenario {
            name: "prune",
            prepare,
            change: |store| store.prune(Prune { all: true, writable: false }).map(drop),
            done: |store| without_image_a(store) && counts(store) == (1, 2, 4),
            keeps: |store| keeps_old(store) && store.find("b").is_ok(),
        },
        Scenario {
            name: "prune with writable layers",
            prepare,
            change: |store| store.prune(Prune { all: true, writable: true }).map(drop),
            done: |store| counts(store) == (0, 0, 0) && store.writable("old").is_err(),
            keeps: |_| true,
        },
        Scenario {
            name: "remove a writable layer",
            prepare,
            change: |store| store.remove_writable("old"),
            done: |store| store.writable("old").is_err(),
            keeps: |store| store.find("keep").is_ok(),
        },
    ]
}

/// Prepares a store, runs the change under `fault` and returns the store with what the change said and how many calls it made.
fn run(scenario: &Scenario, fault: Plan) -> (TempDir, Store, Result<()>, usize) {
    let place = place();
    let store = (scenario.prepare)(&place);
    plan(fault);
    let result = (scenario.change)(&store);
    let calls = take().mutating;
    (place, store, result, calls)
}

fn check(scenario: &Scenario, fault: Plan, store: &Store, result: &Result<()>) {
    let context = format!("{}, {fault:?}: {result:?}", scenario.name);
    let verified = store.verify().unwrap();
    assert_eq!(verified.faults, [], "{context}");
    assert!((scenario.keeps)(store), "{context}: lost what it had");
    if result.is_ok() {
        assert!((scenario.done)(store), "{context}: lost what was reported done");
    }
    assert_eq!(verified.leftovers, 0, "{context}");
    // The way is clear for another try.
    let again = (scenario.change)(store);
    let gone = matches!(again, Err(Error::NoImage(_) | Error::NoWritable(_) | Error::NameTaken(_)));
    assert!(again.is_ok() || gone, "{context}: then {again:?}");
    assert!((scenario.done)(store), "{context}: not done by another try");
    assert_eq!(store.verify().unwrap().faults, [], "{context}");
}

#[test]
fn killed_before_every_system_call() {
    for scenario in scenarios() {
        let (_place, store, result, calls) = run(&scenario, Plan::Count);
        result.unwrap();
        assert!((scenario.done)(&store), "{}", scenario.name);
        assert!(calls > 2, "{}: {calls} calls", scenario.name);
        for n in 1..=calls {
            let fault = Plan::KillNth { n };
            let _nobody_starts = STARTING.read();
            let (place, store, result, _) = run(&scenario, fault);
            drop(store);
            // The next start sweeps.
            let store = if scenario.name == "first command" {
                Store::open_unswept(&place.path().join("other")).unwrap()
            } else {
                open(&place)
            };
            check(&scenario, fault, &store, &result);
        }
    }
}

#[test]
fn every_system_call_fails_once() {
    for scenario in scenarios() {
        let (.., calls) = run(&scenario, Plan::Count);
        for n in 1..=calls {
            for errno in [Errno::NOSPC, Errno::IO] {
                let fault = Plan::FailNth { n, errno };
                let _nobody_starts = STARTING.read();
                let (place, store, result, _) = run(&scenario, fault);
                if scenario.name != "first command" {
                    // Deletions that failed are made up for.
                    open(&place);
                }
                check(&scenario, fault, &store, &result);
            }
        }
    }
}

/// Wherever it is told to give up, it fails and leaves nothing behind, or had come through already.
#[test]
fn a_load_that_is_told_to_give_up_leaves_nothing() {
    let (place, (sample, _)) = (place(), two());
    for asked_at in 0.. {
        let store = open(&place);
        let (stop, steps) = (store.stop(), AtomicUsize::new(0));
        let step = |_: usize, _| {
            if steps.fetch_add(1, Ordering::Relaxed) == asked_at {
                stop.ask();
            }
        };
        let loaded = store.load(sample.incoming(&["a"]), Some(&step));
        let left = std::fs::read_dir(place.path().join("store/tmp")).unwrap().count();
        assert_eq!(left, 0, "told at step {asked_at}");
        assert_sound(&store);
        if steps.load(Ordering::Relaxed) <= asked_at {
            loaded.unwrap();
            assert!(asked_at > 1, "the load said nothing");
            break;
        }
        match loaded {
            Err(e) => assert!(matches!(e, Error::GivenUp), "told at step {asked_at}: {e}"),
            Ok(_) => assert!(asked_at > 0, "it did not hear"),
        }
        store.prune(Prune { all: true, writable: true }).unwrap();
        assert_eq!(counts(&store), (0, 0, 0));
    }
}
