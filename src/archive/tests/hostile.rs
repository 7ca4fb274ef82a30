//! Archives made to do harm, and archives that are merely broken: a clear error each, nothing outside the layer.

use super::build::{Layer, Tar, head, layer, refused, tar};
use crate::archive::{Limits, unpack};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

#[test]
fn names_that_lead_out() {
    for name in ["../victim", "/../victim", "a/../../victim", "..", "./../victim", "a/b/../../../victim"] {
        let message = refused(tar().file(name, "evil"));
        assert!(message.contains(name) && message.contains("leads out"), "{message}");
    }
    layer(tar().file("/victim", "in the layer"), &[]).assert_tree(&[("victim", "in the layer")]);
}

#[test]
fn links_that_lead_out_stay_inside() {
    for target in ["..", "../..", "/", "/..", "../../../../.."] {
        let tar = tar().symlink("up", target).file("up/victim", "evil").raw(head(b'5', "up/d").mode(0o777));
        let layer = layer(tar, &[]);
        assert_eq!(layer.read("victim"), b"evil");
        assert_eq!(layer.stat("d").mode & 0o777, 0o777);
    }
    let absolute = Layer::new();
    let outside = absolute.path().parent().unwrap().to_str().unwrap().to_owned();
    let tar = tar().symlink("out", &outside).file("out/victim", "evil").file("out/.wh.victim", "");
    absolute.apply(&tar.end(), &[]).unwrap();
    assert_eq!(absolute.read(format!("{outside}/victim").trim_start_matches('/')), b"evil");
}

#[test]
fn the_last_component_is_never_followed() {
    let layer = Layer::new();
    let victim = layer.path().parent().unwrap().join("victim");
    let target = victim.to_str().unwrap();
    let mode = std::fs::metadata(&victim).unwrap().mode();
    let tar = tar()
        .symlink("l", target)
        .pax(&[("SCHILY.xattr.user.a", b"1")])
        .with(head(b'0', "l").mode(0o777).owner(7, 7), b"evil")
        .symlink("m", target)
        .raw(head(b'5', "m").mode(0o777).owner(7, 7))
        .symlink("n", target)
        .link("hard", "n")
        .symlink("o", target)
        .raw(head(b'2', "o").link("x").mode(0o777).owner(7, 7).mtime(1));
    layer.apply(&tar.end(), &[]).unwrap();
    layer.assert_tree(&[
        ("hard", format!("-> {target}").as_str()),
        ("l", "evil"),
        ("m", "dir"),
        ("n", &format!("-> {target}")),
        ("o", "-> x"),
    ]);
    assert_eq!(std::fs::metadata(&victim).unwrap().mode(), mode);
}

#[test]
fn the_root_stays_a_directory() {
    for name in [".", "/", "./.", "/.", "a/.."] {
        for kind in [b'2', b'0', b'1', b'3', b'6'] {
            if kind == b'0' && name.ends_with('/') {
                // That is how a directory looks in old archives.
                continue;
            }
            let message = refused(tar().raw(head(kind, name).link("victim")));
            assert!(message.contains("root of the layer") || message.contains("hard link"), "{message}");
        }
    }
}

#[test]
fn a_slash_at_the_end_follows_no_link() {
    // With host rules `l/` is what the link leads to.
    let layer = Layer::new();
    let outside = layer.path().parent().unwrap().to_owned();
    let mode = std::fs::metadata(&outside).unwrap().mode();
    let tar = tar().symlink("l", outside.to_str().unwrap()).raw(head(b'5', "l/").mode(0o777).owner(7, 7));
    let tar = tar.symlink("m/", outside.to_str().unwrap()).raw(head(b'5', "m/.").mode(0o777)).file("l/victim", "evil");
    layer.apply(&tar.end(), &[]).unwrap();
    layer.assert_tree(&[("l", "dir"), ("l/victim", "evil"), ("m", "dir")]);
    assert_eq!(std::fs::metadata(&outside).unwrap().mode(), mode);
}

#[test]
fn a_directory_that_somebody_exchanges_for_a_link_meanwhile() {
    use crate::sys::{self, RenameFlags};
    use std::ffi::OsStr;
    use std::sync::atomic::{AtomicBool, Ordering};
    let layer = Layer::new();
    let outside = layer.path().parent().unwrap().to_owned();
    let mut tar = tar().dir("d");
    for i in 0..3000 {
        tar = tar.file(format!("d/{i}/victim"), "evil").file("e", "").raw(head(b'5', "d").mode(0o777));
    }
    let blob = tar.end();
    let done = AtomicBool::new(false);
    let exchanged = std::thread::scope(|scope| {
        let exchanging = scope.spawn(|| {
            let (dir, mut count) = (sys::open_root(&layer.path()).unwrap(), 0);
            let names = (OsStr::new("d"), OsStr::new("link"));
            sys::symlink(outside.as_os_str(), dir.as_fd(), names.1).unwrap();
            while !done.load(Ordering::Relaxed) {
                let exchange = sys::rename(dir.as_fd(), names.0, dir.as_fd(), names.1, RenameFlags::EXCHANGE);
                count += u32::from(exchange.is_ok());
            }
            count
        });
        // Unpacked or refused: what matters is `check_outside`, and that nothing was given rights outside.
        drop(layer.unpack(&blob));
        done.store(true, Ordering::Relaxed);
        exchanging.join().unwrap()
    });
    assert!(exchanged > 0);
    layer.check_outside();
    assert_ne!(std::fs::metadata(&outside).unwrap().mode() & 0o777, 0o777);
}

#[test]
fn hard_links_through_links_stay_inside() {
    let layer = Layer::new();
    let outside = layer.path().parent().unwrap().to_str().unwrap().to_owned();
    let tar = tar().symlink("out", &outside).link("l", "out/victim");
    let e = layer.apply(&tar.end(), &[]).unwrap_err().to_string();
    assert!(e.contains("'l'") && e.contains("neither in this layer nor below"), "{e}");
}

#[test]
fn devices_and_fifos_are_not_opened() {
    // Opening the FIFO would block for ever.
    let tar =
        tar().raw(head(b'6', "p")).file("p", "file").raw(head(b'6', "q")).dir("q").raw(head(b'6', "r")).link("s", "r");
    layer(tar, &[]).assert_tree(&[("p", "file"), ("q", "dir"), ("r", "fifo"), ("s", "fifo")]);
    let message = refused(super::build::tar().raw(head(b'6', "p")).file("p/x", ""));
    assert!(message.contains("lies below 'p'"), "{message}");
}

#[test]
fn names_without_end() {
    assert!(refused(tar().pax(&[("path", "x".repeat(256).as_bytes())]).file("a", "")).contains("255"));
    assert!(refused(tar().pax(&[("path", "abc/".repeat(1100).as_bytes())]).file("a", "")).contains("too long"));
    assert!(refused(tar().pax(&[("path", "a/".repeat(300).as_bytes())]).file("a", "")).contains("nested too deeply"));
    let mut deep = tar();
    let half = vec!["a"; 130].join("/");
    deep = deep.pax(&[("path", half.as_bytes())]).dir("x").pax(&[("linkpath", half.as_bytes())]).symlink("l", "x");
    let name = format!("l/{half}/f");
    assert!(refused(deep.pax(&[("path", name.as_bytes())]).file("x", "")).contains("nested too deeply"));
    assert!(refused(tar().pax(&[("linkpath", "x".repeat(4096).as_bytes())]).symlink("l", "x")).contains("too long"));
    assert!(refused(tar().file("", "")).contains("empty name"));
    assert!(refused(tar().pax(&[("path", b"a\0b")]).file("a", "")).contains("NUL"));
    assert!(refused(tar().symlink("l", "")).contains("link to nothing"));
}

#[test]
fn extension_headers_without_end() {
    let mut many = tar();
    for _ in 0..17 {
        many = many.pax(&[("comment", b"x")]);
    }
    assert!(refused(many.file("a", "")).contains("too many extension headers"));
    let huge = vec![b'x'; 600_000];
    let two = tar().pax(&[("comment", &huge)]).pax(&[("comment", &huge)]);
    assert!(refused(two.file("a", "")).contains("too long"));
    let name = tar().raw(head(b'L', "././@LongLink").size(1 << 30));
    assert!(refused(name).contains("too long"));
    let value = vec![b'x'; 70_000];
    assert!(refused(tar().pax(&[("SCHILY.xattr.user.a", &value)]).file("a", "")).contains("64 KiB"));
    let names: Vec<String> = (0..4000).map(|n| format!("SCHILY.xattr.user.attribute-{n:04}")).collect();
    let records: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    assert!(refused(tar().pax(&records).file("a", "")).contains("names of more than 64 KiB"));
    assert!(refused(tar().pax(&[("path", b"a")])).contains("ends after an extension header"));
}

#[test]
fn sparse_maps_that_do_not_fit() {
    let sparse = |map: &[u8], size: &[u8]| {
        tar().pax(&[("GNU.sparse.map", map), ("GNU.sparse.size", size)]).with(head(b'0', "s"), b"12345")
    };
    for (map, size) in [("0,10", "100"), ("0,5", "4"), ("5,3,0,2", "10"), ("0,3,2,2", "10"), ("0,5", "99999999999999")]
    {
        let message = refused(sparse(map.as_bytes(), size.as_bytes()));
        assert!(message.contains("'s'"), "{message}");
    }
    let long = "0,0,".repeat(10_001);
    assert!(refused(sparse(long.trim_end_matches(',').as_bytes(), b"10")).contains("too many pieces"));
    let endless = tar().raw(head(b'S', "s").set(257, b"ustar  \0").set(482, &[1]).number(483, 12, 5));
    let mut more = [0; 512];
    more[504] = 1;
    assert!(refused(endless.bytes(&more).bytes(&more)).contains("empty piece"));
}

#[test]
fn malformed_archives() {
    let mut broken = tar().file("a", "data").end();
    broken[3] ^= 1;
    let e = Layer::new().unpack(&broken).unwrap_err().to_string();
    assert!(e.contains("wrong checksum"), "{e}");
    let whole = tar().file("a", "data").end();
    for len in [100, 511, 513, 800] {
        let e = Layer::new().unpack(&whole[..len]).unwrap_err().to_string();
        assert!(e.contains("cut off"), "{len}: {e}");
    }
    // An archive may end without its zero blocks, but not go on after one of them.
    drop(Layer::new().unpack(&whole[..1024]).unwrap());
    drop(Layer::new().unpack(&whole[..1536]).unwrap());
    let single = [tar().file("a", "").0, vec![0; 512], tar().file("b", "").end()].concat();
    assert!(Layer::new().unpack(&single).unwrap_err().to_string().contains("single zero block"));
    assert!(Layer::new().unpack(b"this is no archive at all").is_err());
    let message = refused(tar().raw(head(b'0', "n").set(124, &[0xff; 12])));
    assert!(message.contains("out of range"), "{message}");
    let message = refused(tar().raw(head(b'0', "bell\x07").set(108, b"9999999\0")));
    assert_eq!(message, "entry 'bell\\u{7}': has a malformed number in its header");
}

/// Forty links on the way of each entry, and two thousand names in each link, are more work than an archive shows.
#[test]
fn links_on_the_way_without_end() {
    let limits = Limits { links: 100_000, ..Limits::default() };
    let long = "d/../".repeat(800);
    let mut tar = tar().dir("d").symlink("l0", ".");
    for n in 1..40 {
        tar = tar.pax(&[("linkpath", format!("{long}l{}", n - 1).as_bytes())]).symlink(&format!("l{n}"), "x");
    }
    let few = tar.clone().file("l39/f", "");
    let many = (0..3).fold(tar, |tar, n| tar.file(format!("l39/f{n}"), ""));
    let message = |tar: Tar| {
        let layer = Layer::new();
        unpack(tar.end().as_slice(), layer.fd.as_fd(), &layer.options(&limits)).map(|_| ()).map_err(|e| e.to_string())
    };
    assert_eq!(message(few), Ok(()));
    let said = message(many).unwrap_err();
    assert_eq!(said, "entry 'l39/f1': is one entry too many that leads through symbolic links: more than 100000 steps");
}

/// A name can imply hundreds of directories: they are counted, too.
#[test]
fn implied_directories_without_end() {
    let limits = Limits { entries: 1000, ..Limits::default() };
    let tar = (0..10).fold(tar(), |tar, n| {
        let path = format!("{n}/{}x", "d/".repeat(200));
        tar.pax(&[("path", path.as_bytes())]).file("x", "")
    });
    let tar = tar.end();
    let layer = Layer::new();
    let message = unpack(tar.as_slice(), layer.fd.as_fd(), &layer.options(&limits)).unwrap_err().to_string();
    assert!(message.contains("more than 1000 directories that only the names"), "{message}");
}
