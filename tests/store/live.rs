//! The inspecting commands on mounts, writable layers and the storages of engines, beside what a mount shows.

use super::engine;
use super::mounts::Mounts;
use super::sample::digest;
use rustix::fs::XattrFlags;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

/// Kind, size, mode, owner and link target of everything below a directory.
pub fn walk(dir: &Path) -> BTreeMap<String, String> {
    fn enter(top: &Path, dir: &Path, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let kind = match meta.mode() & libc::S_IFMT {
                libc::S_IFDIR => "directory",
                libc::S_IFLNK => "symlink",
                libc::S_IFIFO => "fifo",
                libc::S_IFCHR => "char",
                _ => "file",
            };
            let target = fs::read_link(&path).map(|t| format!("{:?}", t.to_str().unwrap())).unwrap_or_default();
            let size = if kind == "file" || kind == "symlink" { meta.size() } else { 0 };
            let text = format!("{kind} {size} {:04o} {}:{} {target}", meta.mode() & 0o7777, meta.uid(), meta.gid());
            found.insert(format!("/{}", path.strip_prefix(top).unwrap().display()), text);
            if meta.is_dir() {
                enter(top, &path, found);
            }
        }
    }
    let mut found = BTreeMap::new();
    enter(dir, dir, &mut found);
    found
}

/// The same as `ls -R --json` says it.
pub fn listed(document: &Value) -> BTreeMap<String, String> {
    let entries = document["entries"].as_array().unwrap().iter().filter(|entry| entry["path"] != "/");
    let line = |e: &Value| {
        let target = e["target"].as_str().map(|t| format!("{t:?}")).unwrap_or_default();
        let kind = e["kind"].as_str().unwrap();
        format!("{kind} {} {} {}:{} {target}", e["size"], e["mode"].as_str().unwrap(), e["uid"], e["gid"])
    };
    entries.map(|e| (e["path"].as_str().unwrap().to_owned(), line(e))).collect()
}

/// Stacks with whiteouts, opaque directories, links and renamed directories, as a mount leaves them.
const WORK: &str = "cd m; echo 1 > etc/new; rm bin/sh; mkdir -p app/deep/er; echo d > app/deep/er/f; mv etc moved; \
    ln moved/new linked; ln -s ../x app/link; mkfifo pipe; rm -rf app/deep/er; mkdir app/deep/er; chmod 2750 moved; \
    mkdir etc; echo other > etc/os";

#[test]
fn a_walk_of_a_mount_is_what_ls_says() {
    let bed = Mounts::new();
    for kernel in ["", "--kernel "] {
        let name = if kernel.is_empty() { "fuse" } else { "native" };
        bed.ok(&format!("mount {kernel}--name {name} app m"));
        let done = Command::new("sh").args(["-euc", WORK]).current_dir(bed.dir()).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        let seen = walk(&bed.p("m"));
        let place = bed.p("m").display().to_string();
        for target in [name, &place] {
            assert_eq!(listed(&bed.json(&format!("ls -R --json {target}"))), seen, "{name} as {target}");
        }
        let whence = bed.json(&format!("whence --json {place} /moved/new /moved/os /etc/os"));
        let layers: Vec<&Value> = whence["paths"].as_array().unwrap().iter().map(|path| &path["layer"]).collect();
        assert_eq!(layers, [3, 1, 3], "{name}");
        let touches = &whence["paths"][1]["layers"];
        let told = |at: usize, key: &str| touches[at][key].as_str().unwrap_or_default();
        assert_eq!([told(0, "action"), told(0, "at"), told(0, "moved_from")], ["moves_parent", "/moved", "/etc"]);
        assert_eq!([told(1, "action"), told(1, "at")], ["adds", "/etc/os"], "{name}");
        let text = bed.ok(&format!("whence {place} /moved /moved/os /etc"));
        for sentence in ["added, directory moved from /etc\n", "moves /etc to /moved\n", "added, at /etc/os\n"] {
            assert!(text.contains(sentence), "{name}: {text}");
        }
        // What was moved is added, with all that is in it.
        let told = bed.ok(&format!("diff {name}"));
        assert!(told.contains("A /moved\nA /moved/new\nA /moved/os\n"), "{told}");
        let summary = bed.json(&format!("layers --json {place}"))["layers"][2].clone();
        for (letter, key) in [("A ", "added"), ("D ", "deleted")] {
            assert_eq!(summary[key], told.lines().filter(|line| line.starts_with(letter)).count(), "{name}: {told}");
        }
        for place in [place.as_str(), "./m"] {
            assert_eq!(bed.ok(&format!("diff {place}")), told, "{name} as {place}");
        }
        assert!(bed.fails("diff ./etc").contains("cannot look at ./etc"));
        assert_eq!(bed.ok(&format!("cat {place} /etc/os")), "other\n");
        let diff = bed.ok(&format!("diff app {place}"));
        assert!(diff.contains("A /moved/os\n") && diff.contains("D /bin/sh\n"), "{diff}");
        bed.ok("umount m");
        // The other program mounts what the first has written.
        let other = if kernel.is_empty() { "--kernel " } else { "" };
        bed.ok(&format!("mount {other}--name {name} m"));
        assert_eq!(walk(&bed.p("m")), seen, "{name}");
        bed.ok("umount m");
        assert_eq!(listed(&bed.json(&format!("ls -R --json {name}"))), seen, "{name}, not mounted");
    }
    assert!(bed.fails(&format!("ls {}", bed.p("n").display())).contains("is no mount of laminafs"));
}

#[test]
fn every_file_of_a_mount_tells_its_layer() {
    let bed = Mounts::new();
    let layer = |path: &str| {
        let mut value = [0; 20];
        let length = rustix::fs::getxattr(bed.p(path), "user.laminafs.layer", &mut value[..]).unwrap();
        String::from_utf8(value[..length].to_vec()).unwrap()
    };
    bed.ok("mount --name w app m");
    assert_eq!(
        (layer("m/etc/os"), layer("m/app/run"), layer("m/app"), layer("m")),
        ("1".into(), "2".into(), "2".into(), "3".into())
    );
    bed.write("m/etc/os", "changed");
    assert_eq!((layer("m/etc/os"), layer("m/etc"), layer("m/bin/sh")), ("3".into(), "3".into(), "1".into()));
    let mut names = [0; 1000];
    let length = rustix::fs::listxattr(bed.p("m/etc/os"), &mut names[..]).unwrap();
    assert!(!String::from_utf8_lossy(&names[..length]).contains("laminafs.layer"), "not listed");
    let set = rustix::fs::setxattr(bed.p("m/etc/os"), "user.laminafs.layer", b"1", XattrFlags::empty());
    assert_eq!(set, Err(rustix::io::Errno::PERM), "not to be set");
    bed.ok("umount m");
    fs::create_dir_all(bed.p("l1/d")).unwrap();
    fs::create_dir_all(bed.p("l2")).unwrap();
    bed.write("l1/d/f", "1");
    bed.ok("mount --lower l2 --lower l1 m");
    assert_eq!((layer("m/d/f"), layer("m")), ("1".into(), "2".into()));
    let place = bed.p("m").display().to_string();
    assert_eq!(bed.json(&format!("whence --json {place} /d/f"))["paths"][0]["layer"], 1);
    bed.ok("umount m");
}

/// Files of a lower layer with several names, of which some are changed, deleted and moved through one of them.
const LINKS: &str = "printf one > a; ln a b; ln a c; mkdir d d/in; ln a d/in/e; printf two > p; ln p d/q; printf x > x; \
    ln x y; ln x z; printf same > s; ln s t; ln -s to l; ln l k; mkfifo i; ln i j";
const CHANGED: &str = "printf changed > a; rm c; mv d moved; printf longer > moved/q; rm moved/q; chmod 600 y; rm y; rm x; \
    chown -h 7 k; chmod 611 j; ln b new";

#[test]
fn names_of_one_file_show_what_was_written_through_another() {
    let bed = Mounts::new();
    let sh = |script: &str, dir: &str| {
        let done = Command::new("sh").args(["-euc", script]).current_dir(bed.p(dir)).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    fs::create_dir(bed.p("tree")).unwrap();
    sh(&format!("{LINKS}; tar -cf ../links.tar ."), "tree");
    bed.ok("import links.tar links:1");
    for kernel in ["", "--kernel "] {
        let name = if kernel.is_empty() { "fuse" } else { "native" };
        bed.ok(&format!("mount {kernel}--name {name} links:1 m"));
        sh(CHANGED, "m");
        let place = bed.p("m").display().to_string();
        let seen = walk(&bed.p("m"));
        let files = ["/a", "/b", "/moved/in/e", "/new", "/p", "/z", "/s", "/t"];
        let links = files.map(|file| fs::metadata(bed.p(&format!("m{file}"))).unwrap().nlink());
        let texts = files.map(|file| bed.read(&format!("m{file}")));
        for target in [&place, name] {
            assert_eq!(listed(&bed.json(&format!("ls -R --json {target}"))), seen, "{name} as {target}");
            assert_eq!(files.map(|file| bed.ok(&format!("cat {target} {file}"))), texts, "{name} as {target}");
            let stat = bed.json(&format!("stat --json {target} {}", files.join(" ")));
            let stat: Vec<u64> =
                stat["entries"].as_array().unwrap().iter().map(|e| e["links"].as_u64().unwrap()).collect();
            assert_eq!(stat, links, "{name} as {target}");
            let waste = bed.json(&format!("waste --json {target}"));
            let taken: u64 = ["one", "two", "x", "same", "changed", "longer", "x"].map(|t| t.len() as u64).iter().sum();
            assert_eq!((&waste["total_bytes"], &waste["wasted_bytes"]), (&json!(taken), &json!(7)), "{name}");
        }
        let whence = bed.json(&format!("whence --json {place} /b /p /moved/in/e /s"));
        let of = |n: usize| (&whence["paths"][n]["layer"], &whence["paths"][n]["layers"][0]["action"]);
        let changed = json!("changes_content");
        assert_eq!((of(0), of(1)), ((&json!(2), &changed), (&json!(2), &changed)), "{name}");
        assert_eq!((of(2).0, of(3).0), (&json!(2), &json!(1)), "{name}");
        assert_eq!(whence["paths"][0]["layers"][0]["entry"]["hard_link"], "/a", "{name}");
        let diff = bed.ok(&format!("diff links:1 {place}"));
        assert!(diff.contains("C /b (content") && diff.contains("C /p (content") && !diff.contains("/s"), "{diff}");
        assert_eq!(bed.ok(&format!("cat --layer 1 {place} /b")), "one");
        assert!(bed.fails(&format!("cat --layer 2 {place} /p")).contains("has no /p"));
        bed.ok("umount m");
        assert_eq!(listed(&bed.json(&format!("ls -R --json {name}"))), seen, "{name}, not mounted");
    }
}

#[test]
fn metacopy_files_have_the_data_of_layers_that_hold_nothing_else() {
    let bed = Mounts::new();
    for (path, text) in
        [("data1/in/x", "data"), ("data2/in/x", "not this"), ("data2/y", "other!"), ("low/d/z", "lower")]
    {
        fs::create_dir_all(bed.p(path).parent().unwrap()).unwrap();
        bed.write(path, text);
    }
    for dir in ["top/d", "u", "w"] {
        fs::create_dir_all(bed.p(dir)).unwrap();
    }
    // Metacopy files as tools make them for such layers, in directories without any other mark.
    let sizes = [("low/one", 4), ("low/two", 6), ("top/d/z", 5)];
    for (path, size) in sizes {
        fs::File::create(bed.p(path)).unwrap().set_len(size).unwrap();
        fs::set_permissions(bed.p(path), fs::Permissions::from_mode(0o640)).unwrap();
    }
    let mark = |path: &str, name: &str, value: &str| {
        let name = format!("trusted.overlay.{name}");
        rustix::fs::setxattr(bed.p(path), name, value.as_bytes(), XattrFlags::empty()).unwrap();
    };
    sizes.iter().for_each(|(path, _)| mark(path, "metacopy", ""));
    mark("low/one", "redirect", "/in/x");
    mark("low/two", "redirect", "/y");
    let stack = ["top", "low"].map(|dir| bed.p(dir).display().to_string()).join(":");
    let data = ["data1", "data2"].map(|dir| bed.p(dir).display().to_string());
    let [upper, work, place] = ["u", "w", "m"].map(|dir| bed.p(dir).display().to_string());
    bed.ok(&format!("mount -o lowerdir={stack}::{}::{},upperdir={upper},workdir={work} {place}", data[0], data[1]));
    let seen = walk(&bed.p("m"));
    assert_eq!(listed(&bed.json(&format!("ls -R --json {place}"))), seen);
    assert_eq!(bed.ok(&format!("cat {place} one two d/z")), "dataother!lower");
    let lower = format!("--lower {stack}::{}::{}", data[0], data[1]);
    assert_eq!(bed.ok(&format!("cat {lower} one two d/z")), "dataother!lower");
    assert!(bed.fails(&format!("ls {lower} --lower {}", bed.p("l").display())).contains("data-only"));
    assert_eq!(bed.read("m/one") + &bed.read("m/two") + &bed.read("m/d/z"), "dataother!lower");
    let stat = bed.json(&format!("stat --json {place} one d/z"));
    assert_eq!(stat["entries"][0]["digest"], digest(b"data"));
    assert_eq!(stat["entries"][0]["data"], json!({"layer": null, "path": format!("{}/in/x", data[0])}));
    assert_eq!(stat["entries"][1]["data"], json!({"layer": 1, "path": "/d/z"}));
    let whence = bed.ok(&format!("whence {place} one d/z"));
    assert!(whence.contains(&format!("attributes only, data of {}/in/x", data[0])), "{whence}");
    assert!(whence.contains("changed, attributes only, data of layer 1"), "{whence}");
    // Without the layer that has its data a path is told of all the same. Metacopy files are looked for where a mark says so.
    mark("low", "impure", "y");
    let stat = bed.json(&format!("stat --json --lower {stack} one"));
    assert_eq!(["digest", "data"].map(|key| stat["entries"][0][key].clone()), [json!(null), json!(null)]);
    let whence = bed.ok(&format!("whence --lower {stack} one"));
    assert!(whence.contains("attributes only, its data are in no layer"), "{whence}");
    assert!(bed.fails(&format!("cat --lower {stack} one")).contains("has its data in a layer that is not here"));
    assert_eq!(bed.json(&format!("waste --json {place}"))["total_bytes"], 5);
    assert_eq!(bed.json(&format!("layers --json {place}"))["layers"].as_array().unwrap().len(), 3);
    bed.ok("umount m");
}

#[test]
fn views_up_to_a_layer_of_mounts_and_writable_layers() {
    let bed = Mounts::new();
    bed.ok("mount --name w app m");
    bed.write("m/etc/os", "changed");
    fs::create_dir(bed.p("l1")).unwrap();
    fs::create_dir(bed.p("l2")).unwrap();
    bed.write("l1/f", "one");
    bed.write("l2/f", "two");
    bed.ok("mount --lower l2 --lower l1 n");
    for target in ["w", "./m"] {
        let os = [1, 2, 3].map(|layer| bed.ok(&format!("cat {target}@{layer} /etc/os")));
        assert_eq!(os, ["one", "one", "changed"], "{target}");
        assert_eq!(bed.json(&format!("layers --json {target}@2"))["layers"].as_array().unwrap().len(), 2, "{target}");
        assert_eq!(bed.ok(&format!("diff {target}@2 {target}")), "C /etc\nC /etc/os (content, mtime)\n");
        assert!(bed.fails(&format!("ls {target}@4")).contains("w has 3 layers, not 4"));
    }
    assert_eq!([1, 2].map(|layer| bed.ok(&format!("cat ./n@{layer} f"))), ["one", "two"]);
    assert!(bed.fails("ls ./n@3").contains("/n has 2 layers, not 3"));
    assert!(bed.fails("ls ./n@0").contains("No such file or directory"));
    bed.ok("umount m");
    assert_eq!(bed.ok("cat w@2 /etc/os"), "one", "not mounted");
    // A directory of that very name comes first.
    bed.ok("umount n");
    fs::create_dir(bed.p("n@1")).unwrap();
    bed.ok("mount --lower l2 --lower l1 n@1");
    assert_eq!(bed.ok("cat ./n@1 f"), "two");
    assert_eq!(bed.ok("cat ./n@1@1 f"), "one");
    bed.ok("umount n@1");
}

#[test]
fn every_command_looks_into_mounts_and_the_storages_of_engines() {
    let bed = Mounts::new();
    engine::podman(&bed);
    engine::docker(&bed);
    // The container changes a file with two names through one of them, as where laminafs mounts for the engine.
    let layer = |digit| format!("podman/overlay/{}", engine::id(digit));
    fs::hard_link(bed.p(&format!("{}/diff/etc/os", layer('a'))), bed.p(&format!("{}/diff/etc/name", layer('a'))))
        .unwrap();
    fs::create_dir(bed.p(&format!("{}/work", layer('c')))).unwrap();
    let [a, b, c] = ['a', 'b', 'c'].map(|digit| bed.p(&layer(digit)).display().to_string());
    bed.ok(&format!("mount --lower {b}/diff --lower {a}/diff --upper {c}/diff --work {c}/work m"));
    bed.write("m/etc/os", "changed");
    bed.ok("umount m");
    bed.ok("mount --name w app m");
    bed.write("m/etc/os", "changed");
    bed.ok("mount --lower podman n");
    let targets = [
        ("./m", 3, "/etc/os", "changed"),
        ("w", 3, "/etc/os", "changed"),
        ("./n", 1, "/overlay/.has-mount-program", "false"),
        ("--storage-root podman containers-storage:web:1", 2, "/etc/name", "one"),
        ("--storage-root podman containers-storage:box", 3, "/etc/name", "changed"),
        ("--storage-root podman containers-storage:box@2", 2, "/etc/name", "one"),
        ("--storage-root docker docker-store:web:1", 2, "/etc/os", "one"),
    ];
    for (target, layers, file, content) in targets {
        assert_eq!(bed.ok(&format!("cat {target} {file}")), content, "{target}");
        assert_eq!(
            bed.json(&format!("layers --json {target}"))["layers"].as_array().unwrap().len(),
            layers,
            "{target}"
        );
        let waste = bed.json(&format!("waste --json {target}"));
        let visible = waste["total_bytes"].as_u64().unwrap() - waste["wasted_bytes"].as_u64().unwrap();
        assert_eq!(
            bed.json(&format!("ls -R --json --cumulative {target}"))["entries"][0]["cumulative"],
            json!(visible)
        );
        assert!(bed.ok(&format!("tree {target}")).contains(file.rsplit('/').next().unwrap()), "{target}");
        bed.ok(&format!("report -o page.html {target}"));
        bed.ok(&format!("report --svg -o bars.svg {target}"));
        assert!(fs::read_to_string(bed.p("page.html")).unwrap().contains("</html>"), "{target}");
        assert!(fs::read_to_string(bed.p("bars.svg")).unwrap().contains("</svg>"), "{target}");
        let again = target.rsplit(' ').next().unwrap();
        assert_eq!(bed.ok(&format!("diff {target} {again}")), "", "{target}");
        let (code, _, shown) = bed.on_terminal(&format!("ui {target}"), "q", true);
        assert_eq!(code, Some(0), "{target}: {shown}");
    }
    let images = &bed.json("layers --json w")["layers"][0]["images"];
    assert_eq!(images.as_array().unwrap().len(), 2, "the image below is another than the writable layer: {images}");
    bed.ok("umount m");
    bed.ok("umount n");
}

/// Sets a flag when it goes, also where a test fails: threads that wait for the flag end then.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Files and directories that come and go are told of, and keep nobody from reading the others.
#[test]
fn a_mount_is_compared_while_it_is_written() {
    let bed = Mounts::new();
    ["l", "u", "w"].iter().for_each(|name| fs::create_dir(bed.p(name)).unwrap());
    let (dir, names) = (bed.dir().display().to_string(), 0..40);
    names.clone().for_each(|n| bed.write(&format!("l/{n}"), "one"));
    bed.write("l/stays", "one");
    fs::create_dir(bed.p("l/d0")).unwrap();
    bed.write("l/d0/f", "one");
    bed.ok(&format!("mount -o lowerdir={dir}/l,upperdir={dir}/u,workdir={dir}/w {dir}/n"));
    bed.write("n/stays", "two");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for n in names.clone() {
                    bed.write(&format!("n/{n}"), "two");
                    fs::remove_file(bed.p(&format!("n/{n}"))).unwrap();
                    let dir = bed.p(&format!("n/d{n}"));
                    fs::create_dir_all(dir.join("in/deep")).unwrap();
                    fs::write(dir.join("in/f"), "two").unwrap();
                    fs::remove_dir_all(dir).unwrap();
                }
            }
        });
        let stopping = Stop(&stop);
        let run = |line: &str| (line.to_owned(), bed.run(line));
        let lines = ["diff --content ./n@1 ./n", "waste ./n", "diff ./n", "diff ./n"];
        let all: Vec<_> = (0..10).flat_map(|_| lines).map(run).collect();
        drop(stopping);
        for (line, output) in all {
            assert!(output.status.success(), "{line}: {output:?}");
            let said = String::from_utf8(output.stderr).unwrap();
            let told = |said: &str| said.ends_with("while it was read; its lines are left out");
            assert!(said.lines().all(told), "{line}: {said}");
            let text = String::from_utf8(output.stdout).unwrap();
            let part = match line.as_str() {
                "waste ./n" => "",
                "diff ./n" => "C /stays\n",
                _ => "+++ b/stays\n@@ -1 +1 @@\n-one\n",
            };
            assert!(text.contains(part), "{line}: {text}");
        }
    });
    bed.ok("umount n");
}
