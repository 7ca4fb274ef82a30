//! A store with images, of which some get mounted. Needs root and `/dev/fuse`, as the mount tests do.

use super::harness::Bed;
use super::own_mounts::leave_common_mounts;
use super::sample::{APP, BASE, Sample};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// A bed whose mounts end with it.
pub struct Mounts(Bed);

impl Mounts {
    /// A store with the images `base` (one layer) and `app` (two), and directories `m` and `n` to mount on.
    pub fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests need root; run them as root or in a VM");
        leave_common_mounts();
        let (base, app) = (Sample::new(30, &[BASE]), Sample::new(3, &[BASE, APP]));
        let bed = Bed::with(&[(&base, &["base:1"]), (&app, &["app:latest", "quay.io/a/app:2"])]);
        fs::create_dir(bed.p("m")).unwrap();
        fs::create_dir(bed.p("n")).unwrap();
        Self(bed)
    }

    pub fn mounted(&self, place: &str) -> bool {
        mounts_below(&self.p(place)).len() == 1
    }

    pub fn writable(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.root().join("writable"))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    pub fn daemon(&self, name: &str) -> u32 {
        let document = self.json("ps -a --json");
        let found = document["writable"].as_array().unwrap().iter().find(|w| w["name"] == name).unwrap();
        u32::try_from(found["mount"]["pid"].as_u64().unwrap()).unwrap()
    }

    /// Kills the daemon without warning.
    pub fn kill(&self, name: &str) {
        let pid = self.daemon(name);
        signal(pid, libc::SIGKILL);
        until("the daemon is gone", || !alive(pid));
    }

    pub fn write(&self, path: &str, text: &str) {
        fs::write(self.p(path), text).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.p(path)).unwrap()
    }
}

impl std::ops::Deref for Mounts {
    type Target = Bed;
    fn deref(&self) -> &Bed {
        &self.0
    }
}

pub fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/thread-self/mounts").unwrap();
    mounts.lines().map(|l| PathBuf::from(l.split(' ').nth(1).unwrap())).filter(|p| p.starts_with(dir)).collect()
}

pub fn signal(pid: u32, signal: i32) {
    // SAFETY: the process is a daemon that this test started.
    assert_eq!(unsafe { libc::kill(pid as i32, signal) }, 0);
}

pub fn alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
    !state.starts_with('Z') && !state.starts_with('X')
}

pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(120);
    while !done() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn sh(script: &str, dir: &Path) -> Output {
    Command::new("sh").args(["-euc", script]).current_dir(dir).output().unwrap()
}
