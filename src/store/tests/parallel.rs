//! Several at once: descriptors of their own stand for processes of their own. And real processes that are killed.

use super::*;
use crate::store::lock::Key;
use crate::store::{Error, OpenBlob, Prune, Removed};
use crate::sys::LockKind;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

#[test]
fn two_loads_of_one_image_unpack_each_layer_once() {
    for _ in 0..10 {
        let (place, (a, b)) = (place(), two());
        let path = place.path().join("store");
        std::thread::scope(|scope| {
            for sample in [&a, &a, &b, &b] {
                scope.spawn(|| sample.load(&Store::open(&path).unwrap(), &["x"]));
            }
        });
        let store = open(&place);
        // The base layer came from one of them.
        assert_eq!(a.asked() + b.asked(), 3);
        assert_eq!(counts(&store), (2, 3, 7));
        assert_sound(&store);
    }
}

/// A blob whose reading says that it has begun, and goes on when it is told to.
struct Slow<'a> {
    data: &'a [u8],
    begun: Option<mpsc::Sender<()>>,
    go_on: mpsc::Receiver<()>,
}

impl Read for Slow<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if let Some(begun) = self.begun.take() {
            begun.send(()).unwrap();
            self.go_on.recv().unwrap();
        }
        self.data.read(buf)
    }
}

/// Runs `meanwhile` in the middle of a load of `sample` that has locked its layers and begun to read the last one.
fn during_a_load(place: &TempDir, sample: &Sample, meanwhile: &dyn Fn(&Store)) -> Result<Loaded, Error> {
    let (begun, has_begun) = mpsc::channel();
    let (go_on, wait) = mpsc::channel();
    let path = place.path().join("store");
    std::thread::scope(|scope| {
        let load = scope.spawn(move || {
            let mut incoming = sample.incoming(&["slow"]);
            let slow = Slow { data: &sample.layers.last().unwrap().1, begun: Some(begun), go_on: wait };
            let slow = parking_lot::Mutex::new(Some(slow));
            let open: OpenBlob<'_> = Box::new(move || Ok(Box::new(slow.lock().take().unwrap())));
            incoming.layers.last_mut().unwrap().open = open;
            Store::open(&path).unwrap().load(incoming, None)
        });
        has_begun.recv().unwrap();
        meanwhile(&open(place));
        go_on.send(()).unwrap();
        load.join().unwrap()
    })
}

/// Gives its byte again and again, slowly, once the channel says that it may begin; not for ever.
struct Long(mpsc::Receiver<()>, u32);

impl Read for Long {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        // Nobody sends: the other layer, and with it the sender, is gone when it has failed.
        self.0.recv_timeout(Duration::from_secs(120)).unwrap_err();
        std::thread::sleep(Duration::from_millis(5));
        self.1 -= 1;
        let len = if self.1 == 0 { 0 } else { buf.len().min(1000) };
        buf[..len].fill(b'x');
        Ok(len)
    }
}

struct Failing(Option<mpsc::Sender<()>>);

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        drop(self.0.take());
        Err(std::io::Error::other("the disk of the source is broken"))
    }
}

#[test]
fn the_error_that_is_told_is_that_of_the_layer_that_failed() {
    let (place, (sample, _)) = (place(), two());
    let mut store = open(&place);
    store.threads = 2;
    let mut incoming = sample.incoming(&["x"]);
    let (sender, receiver) = mpsc::channel();
    let readers: [Box<dyn Read + Send>; 2] = [Box::new(Long(receiver, 1000)), Box::new(Failing(Some(sender)))];
    for (layer, reader) in incoming.layers.iter_mut().zip(readers) {
        let reader = parking_lot::Mutex::new(Some(reader));
        layer.size = None;
        layer.open = Box::new(move || Ok(reader.lock().take().unwrap()));
    }
    let message = store.load(incoming, None).unwrap_err().to_string();
    assert!(message.contains("layer 2") && message.contains("is broken"), "{message}");
}

#[test]
fn prune_and_rmi_take_nothing_that_a_load_needs() {
    let (place, (a, b)) = (place(), two());
    let store = open(&place);
    // The base layer is there, but nothing will refer to it soon.
    b.load(&store, &["b"]);
    let loaded = during_a_load(&place, &a, &|store| {
        let removed = store.remove_image("b", false).unwrap();
        assert_eq!(removed.layers, b.chains()[1..]);
        let all = Prune { all: true, writable: true };
        assert_eq!(store.prune(all).unwrap(), Removed::default());
        // What it is making is not swept, and what it has is not there yet.
        assert!(matches!(store.find("slow"), Err(Error::NoImage(_))));
        assert_eq!(store.verify().unwrap().faults, []);
    });
    assert_eq!(loaded.unwrap().id, a.id());
    assert_eq!(counts(&store), (1, 2, 4));
    assert_sound(&store);
    assert_eq!(store.prune(Prune { all: true, writable: true }).unwrap().layers.len(), 2);
    assert_eq!(counts(&store), (0, 0, 0));
}

#[test]
fn a_load_of_what_is_there_keeps_it_there() {
    let (place, (a, _)) = (place(), two());
    let store = open(&place);
    a.load(&store, &["a"]);
    std::fs::remove_file(store.path().join("blobs/sha256").join(a.blob(1).hex())).unwrap();
    let loaded = during_a_load(&place, &a, &|store| {
        assert!(matches!(store.remove_image("a", false), Err(Error::ImageInUse { .. })));
        assert_eq!(store.remove_image("a", true).unwrap().images, []);
        assert_eq!(store.prune(Prune { all: true, writable: false }).unwrap(), Removed::default());
    });
    assert_eq!(loaded.unwrap().layers, a.chains().into_iter().map(|c| (c, false)).collect::<Vec<_>>());
    assert_sound(&store);
}

#[test]
fn of_two_manifests_for_one_image_the_first_stays() {
    let (place, (a, _)) = (place(), two());
    let store = open(&place);
    // The layers are there, so that neither load waits for the other.
    a.load(&store, &["a"]);
    store.remove_image("a", true).unwrap();
    let orphans = Sample::new("orphans", &[BASE, APP]);
    orphans.load(&store, &["orphans"]);
    let mut other = a.incoming(&["second"]);
    let Documents::Given { manifest, .. } = &mut other.documents else { unreachable!() };
    manifest.push(b'\n');
    let second = Digest::of(manifest);
    let first = Digest::of(&a.manifest);
    // In the middle of the one load, the other one comes and is faster.
    let between = |_, _| drop(a.load(&open(&place), &["first"]));
    let loaded = store.load(other, Some(&between)).unwrap();
    assert_eq!(loaded.id, a.id());
    let image = store.find("second").unwrap();
    assert_eq!(image.record.manifest, first, "not {second}");
    assert_eq!(store.manifest(&image.record).unwrap(), a.manifest);
    store.prune(Prune::default()).unwrap();
    assert_eq!(store.find("first").unwrap().record.manifest, first);
    assert_sound(&store);
}

#[test]
fn a_layer_in_use_keeps_those_below_it() {
    let (place, (a, _)) = (place(), two());
    let store = open(&place);
    a.load(&store, &["a"]);
    let locks = store.locks().unwrap();
    // As a verify does that looks at the upper layer just now.
    let looking = locks.lock(Key::layer(&a.chains()[1]), LockKind::Shared).unwrap();
    let removed = store.remove_image("a", false).unwrap();
    assert_eq!((removed.images.len(), removed.layers.len()), (1, 0));
    assert_sound(&store);
    drop(looking);
    assert_eq!(store.prune(Prune::default()).unwrap().layers.len(), 2);
    assert_sound(&store);
}

#[test]
fn readers_see_whole_images_while_others_come_and_go() {
    let (place, (a, b)) = (place(), two());
    let path = place.path().join("store");
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for (sample, name) in [(&a, "a"), (&b, "b")] {
            let (path, done) = (&path, &done);
            scope.spawn(move || {
                let store = Store::open(path).unwrap();
                for _ in 0..25 {
                    sample.load(&store, &[name]);
                    let writable = store.create_writable(&sample.id(), None, None);
                    store.remove_image(name, true).unwrap();
                    if let Ok(writable) = writable {
                        store.lease(&writable.record.name).unwrap();
                        store.remove_writable(&writable.record.name).unwrap();
                    }
                    // The other one may be pruning as well.
                    store.prune(Prune::default()).unwrap();
                }
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        scope.spawn(|| {
            let store = Store::open(&path).unwrap();
            while done.load(Ordering::Relaxed) < 2 {
                for image in store.images().unwrap() {
                    // It may have gone since, but not by halves.
                    if let Ok(pin) = store.pin(&image.record.id, None) {
                        assert!(pin.lower().iter().all(|dir| dir.join("bin/sh").exists() || dir.is_dir()));
                        assert_eq!(store.verify().unwrap().faults, []);
                    }
                }
            }
        });
    });
    let store = open(&place);
    store.prune(Prune { all: true, writable: true }).unwrap();
    assert_eq!(counts(&store), (0, 0, 0));
    assert_sound(&store);
}

const CHILD: &str = "LAMINAFS_TEST_STORE";

/// What the killed process does: it says what is done, a line each.
#[test]
fn child_of_the_kill_test() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let (a, b) = two();
    let store = Store::open(Path::new(&path)).unwrap();
    let say = |text: String| {
        use std::io::Write;
        writeln!(std::io::stderr(), "done {text}").unwrap();
    };
    for round in 0.. {
        for (sample, name) in [(&a, "a"), (&b, "b")] {
            say(format!("going {name}"));
            sample.load(&store, &[name]);
            say(format!("image {name}"));
            let web = format!("{name}{}-{round}", std::process::id());
            store.create_writable(&sample.id(), None, Some(&web)).unwrap();
            say(format!("writable {web}"));
        }
        say("going a".to_owned());
        store.remove_image("a", true).unwrap();
        store.prune(Prune::default()).unwrap();
    }
}

#[test]
fn killed_processes_leave_a_sound_store() {
    let place = place();
    let path = place.path().join("store");
    for round in 0..25u64 {
        let starting = STARTING.write();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::parallel::child_of_the_kill_test", "--nocapture", "--test-threads=1"])
            .env(CHILD, &path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(starting);
        // The moment of the kill is what is random here; nothing waits for anything.
        std::thread::sleep(Duration::from_millis(20 + (round * 37) % 150));
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!said.contains("panicked"), "{said}");
        let store = open(&place);
        assert_sound(&store);
        for line in said.lines().filter_map(|l| l.strip_prefix("done writable ")) {
            assert!(store.writable(line).is_ok(), "{line} was made and is gone: {said}");
        }
        let last = said.lines().rfind(|l| l.starts_with("done going b") || l.starts_with("done image b"));
        if last == Some("done image b") {
            assert!(store.find("b").is_ok(), "b was loaded and is gone: {said}");
        }
    }
    let store = open(&place);
    store.prune(Prune { all: true, writable: true }).unwrap();
    assert_eq!(counts(&store), (0, 0, 0));
    assert_sound(&store);
}
