//! A store in a temporary directory, and the program on it.

use super::sample::{Named, docker_archive};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_laminafs");

/// A private store, and a directory for files.
pub struct Bed {
    temporary: TempDir,
}

impl Bed {
    /// An empty store.
    pub fn new() -> Self {
        Self { temporary: tempfile::Builder::new().prefix("laminafs-test-").tempdir().unwrap() }
    }

    /// A store with these images.
    pub fn with(images: &[Named<'_>]) -> Self {
        let bed = Self::new();
        bed.load(images);
        bed
    }

    /// The directory of the test.
    pub fn dir(&self) -> &Path {
        self.temporary.path()
    }

    /// A path in it.
    pub fn p(&self, path: &str) -> PathBuf {
        self.dir().join(path)
    }

    /// The store.
    pub fn root(&self) -> PathBuf {
        self.p("root")
    }

    /// The program with this store, run in the test's directory.
    pub fn command<I: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = I>) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(args).env("LAMINAFS_ROOT", self.root()).env("TZ", "UTC").current_dir(self.dir());
        command.env_remove("SOURCE_DATE_EPOCH").env_remove("RUST_LOG").stdin(Stdio::null());
        command
    }

    /// Runs the program with the words of a line.
    pub fn run(&self, line: &str) -> Output {
        self.command(line.split_whitespace()).output().unwrap()
    }

    /// Runs it; it must succeed and complain of nothing. What it printed.
    pub fn ok(&self, line: &str) -> String {
        let mut output = self.run(line);
        let end = Instant::now() + Duration::from_secs(120);
        // A child of another test that has not reached its exec has copies of our descriptors.
        while line.starts_with("umount ") && is_busy(&output) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
            output = self.run(line);
        }
        assert!(output.status.success() && output.stderr.is_empty(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it; it must end with exit code 1. What it said on standard error.
    pub fn fails(&self, line: &str) -> String {
        let output = self.run(line);
        assert_eq!(output.status.code(), Some(1), "{line}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// What it printed, as JSON.
    pub fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ok(line)).unwrap()
    }

    /// Runs it with something on standard input; it must succeed.
    pub fn ok_with_input(&self, line: &str, input: &[u8]) -> String {
        let mut command = self.command(line.split_whitespace());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it with standard input and error, and with `stdout` also output, on a terminal, where `typed` is typed.
    /// The exit code, what it printed elsewhere, and what the terminal shows.
    pub fn on_terminal(&self, line: &str, typed: &str, stdout: bool) -> (Option<i32>, String, String) {
        let (mut master, slave) = terminal();
        let mut command = self.command(line.split_whitespace());
        command.env("TERM", "xterm").stdin(slave.try_clone().unwrap()).stderr(slave.try_clone().unwrap());
        command.stdout(if stdout { Stdio::from(slave.try_clone().unwrap()) } else { Stdio::piped() });
        let child = command.spawn().unwrap();
        drop((command, slave));
        master.write_all(typed.as_bytes()).unwrap();
        let mut shown = Vec::new();
        // It ends with EIO when the other side is closed.
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = master.read(&mut buffer) {
            shown.extend(&buffer[..n]);
        }
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(shown))
    }

    /// Loads images through a docker-archive.
    pub fn load(&self, images: &[Named<'_>]) -> String {
        self.write("images.tar", &docker_archive(images));
        self.ok("load -i images.tar")
    }

    /// Writes a file into the test's directory.
    pub fn write(&self, path: &str, bytes: &[u8]) {
        fs::write(self.p(path), bytes).unwrap();
    }
}

fn is_busy(output: &Output) -> bool {
    String::from_utf8_lossy(&output.stderr).contains("it is in use (by whom")
}

/// A pipe that nobody reads.
pub fn closed_pipe() -> std::io::PipeWriter {
    std::io::pipe().unwrap().1
}

/// Both sides of a new terminal of 100 columns.
fn terminal() -> (fs::File, OwnedFd) {
    let (mut master, mut slave) = (-1, -1);
    let size = libc::winsize { ws_row: 25, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    let null = std::ptr::null_mut();
    assert_eq!(unsafe { libc::openpty(&mut master, &mut slave, null, std::ptr::null(), &size) }, 0);
    unsafe {
        // Children get the other side only where they shall.
        libc::fcntl(master, libc::F_SETFD, libc::FD_CLOEXEC);
        libc::fcntl(slave, libc::F_SETFD, libc::FD_CLOEXEC);
        (fs::File::from(OwnedFd::from_raw_fd(master)), OwnedFd::from_raw_fd(slave))
    }
}
