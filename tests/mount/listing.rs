//! Listing directories, also while they change.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self};

use super::harness::{Bed, entries, exists, mkdir, put};
use super::os::errno;

/// Listing goes on where it was, with entries vanishing under it: none twice, none that stays is missed.
#[test]
fn listing_while_deleting() {
    let bed = Bed::new(|l| (0..2000).for_each(|n| put(l, &format!("d/lower-{n}"), "")));
    for n in 0..2000 {
        File::create(bed.p(&format!("d/upper-{n}"))).unwrap();
    }
    let mut seen = BTreeSet::new();
    for (n, entry) in fs::read_dir(bed.p("d")).unwrap().enumerate() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(seen.insert(name.clone()), "{name} twice");
        if n % 2 == 0 {
            fs::remove_file(bed.p("d").join(&name)).unwrap();
        }
    }
    assert_eq!(seen.len(), 4000);
    assert_eq!(entries(&bed.p("d")).len(), 2000);
    // rm -rf's way: delete everything that a listing gives.
    fs::remove_dir_all(bed.p("d")).unwrap();
    assert!(!exists(&bed.p("d")));
}

/// A listing shows what was made before it was rewound, and positions can be returned to.
#[test]
fn listings_seek_and_rewind() {
    let bed = Bed::new(|l| (0..300).for_each(|n| put(l, &format!("lower-{n}"), "")));
    let path = std::ffi::CString::new(bed.m.to_str().unwrap()).unwrap();
    let next = |dir: *mut libc::DIR| {
        let entry = unsafe { libc::readdir(dir) };
        (!entry.is_null())
            .then(|| unsafe { std::ffi::CStr::from_ptr((*entry).d_name.as_ptr()) }.to_str().unwrap().to_owned())
    };
    let dir = unsafe { libc::opendir(path.as_ptr()) };
    assert!(!dir.is_null());
    let mut all = Vec::new();
    let mut places = Vec::new();
    loop {
        places.push(unsafe { libc::telldir(dir) });
        let Some(name) = next(dir) else { break };
        all.push(name);
    }
    assert_eq!(all.len(), 302);
    for n in [250, 3, 100, 301, 0] {
        unsafe { libc::seekdir(dir, places[n]) };
        assert_eq!(next(dir).as_ref(), Some(&all[n]));
    }
    fs::write(bed.p("fresh"), "").unwrap();
    fs::remove_file(bed.p("lower-7")).unwrap();
    unsafe { libc::rewinddir(dir) };
    let mut again = Vec::new();
    while let Some(name) = next(dir) {
        again.push(name);
    }
    unsafe { libc::closedir(dir) };
    assert!(again.contains(&"fresh".to_owned()) && !again.contains(&"lower-7".to_owned()));
    assert_eq!(again.len(), 302);
}

/// What was looked for in vain is seen once it is there.
#[test]
fn missing_names_appear() {
    let bed = Bed::new(|l| mkdir(l, "d"));
    let p = bed.p("d/n");
    let missing = |result: io::Result<fs::Metadata>| assert_eq!(errno(result), libc::ENOENT);
    missing(fs::metadata(&p));
    fs::write(&p, "").unwrap();
    fs::metadata(&p).unwrap();
    fs::remove_file(&p).unwrap();
    missing(fs::metadata(&p));
    fs::write(bed.p("x"), "").unwrap();
    fs::rename(bed.p("x"), &p).unwrap();
    fs::metadata(&p).unwrap();
    missing(fs::metadata(bed.p("x")));
}

/// A directory of 30,000 names in each layer is listed completely, every name once.
#[test]
fn big_directories_are_listed() {
    let bed = Bed::new(|l| {
        mkdir(l, "d");
        (0..30_000).for_each(|n| drop(File::create(l.join(format!("d/lower-{n}"))).unwrap()));
    });
    (0..3_000).for_each(|n| drop(File::create(bed.p(&format!("d/upper-{n}"))).unwrap()));
    for n in (0..30_000).step_by(10) {
        fs::remove_file(bed.p(&format!("d/lower-{n}"))).unwrap();
    }
    let names = entries(&bed.p("d"));
    let distinct: BTreeSet<_> = names.iter().collect();
    assert_eq!((names.len(), distinct.len()), (30_000, 30_000));
    // The same with attributes, and counted by another program.
    assert_eq!(bed.sh("ls -lU d | wc -l; find d -type f | wc -l"), "30001\n30000");
}
