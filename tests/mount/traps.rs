//! What users of other union file systems reported and what reading their sources showed: each one is a test here or in
//! the other modules, at the root of the mount, where some only fail, and below it.

mod data;
mod identity;
mod lifecycle;
mod posix;
mod resurrection;
mod times;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::harness::{Bed, Setup, is_whiteout, run, sh_in};
use super::os;

/// A directory of the mount, with the paths that belong to it in the layers.
pub struct Site {
    pub bed: Bed,
    dir: &'static str,
}

/// The root, and a directory that all layers have. The latter is not looked up before the test does.
const SITES: [&str; 2] = ["", "below/it"];

/// Runs the test at the root of a mount and below it; `fill` gets the directories of the lower layers, topmost first.
pub fn everywhere(layers: usize, fill: impl Fn(&[PathBuf]), test: impl Fn(&mut Site)) {
    everywhere_with(Setup { lowers: layers, ..Setup::default() }, fill, test);
}

pub fn everywhere_with(setup: Setup, fill: impl Fn(&[PathBuf]), test: impl Fn(&mut Site)) {
    for dir in SITES {
        let bed = Bed::with(setup.clone(), |lowers| {
            let lowers: Vec<PathBuf> = lowers.iter().map(|l| l.join(dir)).collect();
            lowers.iter().for_each(|l| fs::create_dir_all(l).unwrap());
            fill(&lowers);
        });
        test(&mut Site { bed, dir });
    }
}

impl Site {
    /// A path in the mount.
    pub fn p(&self, path: &str) -> PathBuf {
        self.bed.m.join(self.dir).join(path)
    }

    /// A path in upper.
    pub fn u(&self, path: &str) -> PathBuf {
        self.bed.upper.join(self.dir).join(path)
    }

    /// Runs a shell script in the directory.
    pub fn sh(&self, script: &str) -> String {
        sh_in(&self.bed.m.join(self.dir), script)
    }

    /// The same as another user without capabilities, which must succeed.
    pub fn sh_as(&self, uid: u32, script: &str) -> String {
        let dir = if self.dir.is_empty() { "." } else { self.dir };
        self.bed.sh_ok_as(uid, uid, &format!("cd {dir}; {script}"))
    }
}

/// Runs a shell script with mounts and processes of its own, which end with it, in more namespaces if so.
pub fn alone(namespaces: &[&str], script: &str) -> Output {
    let mut command = Command::new("unshare");
    command.args(namespaces).args([
        "--mount",
        "--propagation",
        "slave",
        "--pid",
        "--fork",
        "--mount-proc",
        "--kill-child",
    ]);
    run(command.args(["sh", "-euc", script]).env("LC_ALL", "C"))
}

/// Everything below a directory, with what a user sees of it: kind, mode, link count and target or content.
pub fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let m = path.symlink_metadata().unwrap_or_else(|e| panic!("listed, but: {}: {e}", path.display()));
            let mut line = format!("{:o}", m.mode());
            if m.is_dir() {
                pending.push(path.clone());
            } else {
                write!(line, " links {}", m.nlink()).unwrap();
            }
            if m.is_file() {
                write!(line, " {:?}", String::from_utf8_lossy(&fs::read(&path).unwrap())).unwrap();
            } else if m.is_symlink() {
                write!(line, " -> {}", path.read_link().unwrap().display()).unwrap();
            }
            found.insert(path.strip_prefix(root).unwrap().display().to_string(), line);
        }
    }
    found
}

/// Whiteouts of an upper directory hide something, and none is in an opaque directory. Where a directory was renamed,
/// what is below its old name is not looked for.
pub fn assert_whiteouts_needed(upper: &Path, lowers: &[PathBuf], what: &str) {
    let has = |dir: &Path, name: &str| os::get_xattr(dir, &format!("trusted.overlay.{name}")).is_ok();
    let mut pending = vec![(upper.to_path_buf(), false)];
    while let Some((dir, moved)) = pending.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(upper).unwrap();
            if is_whiteout(&path) {
                assert!(!has(&dir, "opaque"), "{what}: whiteout in an opaque directory: {}", name.display());
                let hides = lowers.iter().any(|l| l.join(name).symlink_metadata().is_ok());
                assert!(hides || moved, "{what}: whiteout that hides nothing: {}", name.display());
            } else if path.symlink_metadata().unwrap().is_dir() {
                let moved = moved || has(&path, "redirect");
                pending.push((path, moved));
            }
        }
    }
}
