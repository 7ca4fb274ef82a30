//! A bed for one test: layers in a temporary directory, a mount by the real program, and the certainty that nothing of
//! either is left and that the layers did not change.

use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::sync::{LazyLock, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::os;
use super::own_mounts::leave_common_mounts;
use super::snapshot::{self, Snapshot};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_laminafs");

/// For every call of a program, and for all else that has to come: for what hangs, and not for how fast anything is.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A test that has not ended its mount by then hangs: its daemon is killed, which ends all its waiting calls.
const WATCHDOG: Duration = Duration::from_secs(600);

/// Between fork and exec a child holds copies of all descriptors, locks included. Tests that mind take this for reading.
static SPAWNING: RwLock<()> = RwLock::new(());

/// Dropping caches empties those of all mounts, which a test that measures memory holds back.
static DROPPING: RwLock<()> = RwLock::new(());

/// Nobody else drops caches meanwhile.
pub fn only_one_drops_caches() -> RwLockWriteGuard<'static, ()> {
    DROPPING.write().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Has the kernel forget what it knows of all mounts.
pub fn drop_caches() {
    fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
}

/// No program is started by this process meanwhile.
pub fn no_spawning() -> RwLockReadGuard<'static, ()> {
    SPAWNING.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn spawn(command: &mut Command) -> Child {
    let _alone = SPAWNING.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"))
}

fn read_all(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut data = Vec::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_end(&mut data).unwrap();
        }
        sender.send(data).ok();
    });
    receiver
}

/// Runs a program and waits for its end and that of its output, each within `limit`.
pub fn run_within(command: &mut Command, limit: Duration) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn(command);
    let (out, err) = (read_all(child.stdout.take()), read_all(child.stderr.take()));
    let Some(status) = wait_within(&mut child, limit) else {
        child.kill().unwrap();
        child.wait().unwrap();
        panic!("{command:?} hangs; it said {:?}", err.recv_timeout(Duration::from_secs(1)).map(text_of));
    };
    // The daemon must not keep the caller's pipes open.
    let stdout = out.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{command:?}: standard output stays open"));
    let stderr = err.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{command:?}: standard error stays open"));
    Output { status, stdout, stderr }
}

pub fn wait_within(child: &mut Child, limit: Duration) -> Option<std::process::ExitStatus> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until `done` says so.
pub fn until(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !done() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn run(command: &mut Command) -> Output {
    run_within(command, PATIENCE)
}

pub fn text_of(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).trim_end().to_owned()
}

/// Starts the program without waiting for it.
pub fn start(command: &mut Command) -> Child {
    spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()))
}

/// Runs the program.
pub fn laminafs<I: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = I>) -> Output {
    run(Command::new(PROGRAM).args(args))
}

/// Whether a process runs (a zombie does not).
pub fn alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
    !state.starts_with('Z') && !state.starts_with('X')
}

/// The line of /proc/thread-self/mounts for a mount point, in fields.
pub fn mount_line(at: &Path) -> Option<Vec<String>> {
    let mounts = fs::read_to_string("/proc/thread-self/mounts").unwrap();
    let at = at.to_str().unwrap().replace('\\', "\\134").replace(' ', "\\040");
    mounts.lines().map(|l| l.split(' ').map(str::to_owned).collect::<Vec<_>>()).rev().find(|f| f[1] == at)
}

/// How to mount.
#[derive(Clone, Default)]
pub struct Setup {
    /// Number of lower layers; at least one is made.
    pub lowers: usize,
    /// No upper directory.
    pub no_upper: bool,
    /// More options, behind a comma.
    pub options: String,
    /// The lower layers are seen through a read-only bind mount.
    pub read_only_bind: bool,
    /// Descriptor limit of the daemon.
    pub descriptors: Option<u32>,
}

/// Layers, and a mount of them that ends with this value.
pub struct Bed {
    temporary: Option<TempDir>,
    /// The temporary directory.
    pub dir: PathBuf,
    /// Mount point.
    pub m: PathBuf,
    /// Upper directory.
    pub upper: PathBuf,
    /// Work directory.
    pub work: PathBuf,
    /// Lower directories, topmost first, where they can be looked at.
    pub lowers: Vec<PathBuf>,
    setup: Setup,
    explicit: Option<String>,
    /// Process id of the daemon, while mounted.
    pub pid: Option<u32>,
    before: Vec<Snapshot>,
    watchdog: Option<mpsc::Sender<()>>,
}

impl Bed {
    /// One lower layer under an upper directory; `fill` makes the content of the lower one.
    pub fn new(fill: impl FnOnce(&Path)) -> Self {
        Self::with(Setup::default(), |l| fill(&l[0]))
    }

    /// Several lower layers, topmost first.
    pub fn layers(count: usize, fill: impl FnOnce(&[PathBuf])) -> Self {
        Self::with(Setup { lowers: count, ..Setup::default() }, fill)
    }

    pub fn with(setup: Setup, fill: impl FnOnce(&[PathBuf])) -> Self {
        let mut bed = Self::unmounted(setup, fill);
        bed.mount();
        bed
    }

    /// The directories without the mount.
    pub fn unmounted(setup: Setup, fill: impl FnOnce(&[PathBuf])) -> Self {
        require();
        let temporary = tempfile::Builder::new().prefix("laminafs-test-").tempdir().unwrap();
        let dir = temporary.path().canonicalize().unwrap();
        fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
        let lowers: Vec<PathBuf> = (1..=setup.lowers.max(1)).map(|n| dir.join(format!("lower/{n}"))).collect();
        for path in lowers.iter().chain(&["upper", "work", "m"].map(|n| dir.join(n))) {
            fs::create_dir_all(path).unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        }
        fill(&lowers);
        lowers.iter().for_each(|l| snapshot::age(l));
        let before = lowers.iter().map(|l| snapshot::of(l)).collect();
        if setup.read_only_bind {
            let path = dir.join("lower");
            sh_in(&dir, &format!("mount --bind {0} {0} && mount -o remount,bind,ro {0}", path.display()));
        }
        Self {
            temporary: Some(temporary),
            m: dir.join("m"),
            upper: dir.join("upper"),
            work: dir.join("work"),
            dir,
            lowers,
            setup,
            explicit: None,
            pid: None,
            before,
            watchdog: None,
        }
    }

    /// The option string.
    pub fn option_string(&self) -> String {
        let lowers: Vec<&str> = self.lowers.iter().map(|l| l.to_str().unwrap()).collect();
        let mut text = self.explicit.clone().unwrap_or_else(|| format!("lowerdir={}", lowers.join(":")));
        if !self.setup.no_upper {
            text += &format!(",upperdir={},workdir={}", self.upper.display(), self.work.display());
        }
        // All tests can be run with other options, such as data=passthrough.
        let all = std::env::var("LAMINAFS_TEST_OPTIONS").unwrap_or_default();
        for options in [&all, &self.setup.options].into_iter().filter(|options| !options.is_empty()) {
            text += &format!(",{options}");
        }
        text
    }

    pub fn mount(&mut self) {
        assert!(self.pid.is_none(), "mounted already");
        let mut command = match self.setup.descriptors {
            None => Command::new(PROGRAM),
            Some(limit) => {
                let mut shell = Command::new("sh");
                shell.arg("-c").arg(format!("ulimit -n {limit} && exec \"$@\"")).arg("sh").arg(PROGRAM);
                shell
            }
        };
        let output = run(command.arg("mount").arg("-o").arg(self.option_string()).arg(&self.m));
        assert!(output.status.success(), "mount: {}", text_of(output.stderr));
        assert!(output.stderr.is_empty(), "mount said: {}", text_of(output.stderr));
        self.mounted();
    }

    /// Takes note of a mount that the test made itself.
    pub fn mounted(&mut self) {
        let pid: u32 = text_of(os::get_xattr(&self.m, "user.laminafs.pid").unwrap()).parse().unwrap();
        self.pid = Some(pid);
        // Or the test would not be about what it is run for.
        for name in std::env::var("LAMINAFS_TEST_FUSE_MASK").unwrap_or_default().split(',').filter(|n| !n.is_empty()) {
            let state = self.capability(name);
            assert!(["masked", "missing"].contains(&state.as_str()), "{name} is {state}, not masked");
        }
        let (sender, receiver) = mpsc::channel();
        self.watchdog = Some(sender);
        std::thread::spawn(move || {
            if receiver.recv_timeout(WATCHDOG) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("watchdog: the test hangs; killing daemon {pid}");
                unsafe { libc::kill(pid as i32, libc::SIGKILL) };
            }
        });
    }

    /// Unmounts, and makes sure that the daemon is gone and nothing stays.
    pub fn unmount(&mut self) {
        let Some(pid) = self.pid.take() else { return };
        let end = Instant::now() + PATIENCE;
        loop {
            let output = laminafs([Path::new("umount"), &self.m]);
            if output.status.success() {
                break;
            }
            let said = text_of(output.stderr);
            // A child of another test that has not reached its exec has copies of our descriptors.
            assert!(said.contains("in use") && Instant::now() < end, "umount: {said}");
            std::thread::sleep(Duration::from_millis(20));
        }
        self.watchdog = None;
        assert!(!alive(pid), "umount returned before the daemon was gone");
        assert_eq!(mount_line(&self.m), None, "the mount stays");
        let garbage: Vec<_> = entries(&self.work.join("work")).into_iter().filter(|n| n != "#whiteout").collect();
        assert!(garbage.is_empty(), "left in the work directory: {garbage:?}");
    }

    /// Mounts from now on with this option string, and upper and work.
    pub fn with_options(&mut self, lower: &str) {
        self.explicit = Some(lower.to_owned());
    }

    /// Changes how it is mounted from now on.
    pub fn set(&mut self, setup: Setup) {
        self.setup = setup;
    }

    /// Kills the daemon without warning and takes its dead mount away.
    pub fn kill_daemon(&mut self) {
        let pid = self.pid.take().unwrap();
        self.watchdog = None;
        unsafe { libc::kill(pid as i32, libc::SIGKILL) };
        until("the daemon is gone", PATIENCE, || !alive(pid));
        run(Command::new("umount").arg("-l").arg(&self.m));
        assert_eq!(mount_line(&self.m), None);
    }

    pub fn remount(&mut self) {
        self.unmount();
        self.mount();
    }

    /// A path in the mount.
    pub fn p(&self, path: &str) -> PathBuf {
        self.m.join(path)
    }

    /// A path in upper.
    pub fn u(&self, path: &str) -> PathBuf {
        self.upper.join(path)
    }

    /// A path in the topmost lower layer.
    pub fn l(&self, path: &str) -> PathBuf {
        self.lowers[0].join(path)
    }

    /// Runs a shell script in the mount; returns what it prints.
    pub fn sh(&self, script: &str) -> String {
        sh_in(&self.m, script)
    }

    /// The same as another user without capabilities.
    pub fn sh_as(&self, uid: u32, gid: u32, script: &str) -> Output {
        let ids = [format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".into()];
        let mut command = Command::new("setpriv");
        run(command.args(ids).args(["sh", "-euc", script]).current_dir(&self.m).env("LC_ALL", "C"))
    }

    /// The same, which must succeed.
    pub fn sh_ok_as(&self, uid: u32, gid: u32, script: &str) -> String {
        let output = self.sh_as(uid, gid, script);
        assert!(output.status.success(), "as {uid}: {script}: {}", text_of(output.stderr));
        text_of(output.stdout)
    }

    /// Number of descriptors that the daemon has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid.unwrap())).unwrap().count()
    }

    /// What the daemon tells of itself.
    pub fn stats(&self) -> serde_json::Value {
        serde_json::from_slice(&os::get_xattr(&self.m, "user.laminafs.stats").unwrap()).unwrap()
    }

    /// What became of a capability of the kernel, such as `used`, `unused`, `masked` (`LAMINAFS_TEST_FUSE_MASK`).
    pub fn capability(&self, name: &str) -> String {
        self.stats()["features"]["fuse"][name].as_str().unwrap_or_else(|| panic!("{name}: not told")).to_owned()
    }

    /// Resident memory of the daemon in bytes.
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid.unwrap())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Has the kernel forget what it knows of all mounts.
    pub fn drop_caches(&self) {
        let _shared = DROPPING.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        drop_caches();
    }

    /// Ends the mount, and makes sure that no lower layer changed.
    fn check(&mut self) {
        self.unmount();
        for (n, before) in self.before.iter().enumerate() {
            snapshot::assert_same(&format!("lower layer {}", n + 1), before, &snapshot::of(&self.lowers[n]));
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        let checked =
            if failed { Ok(()) } else { std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.check())) };
        if failed || checked.is_err() {
            run(Command::new("umount").arg("-l").arg(&self.m));
            if let Some(pid) = self.pid.take() {
                let end = Instant::now() + Duration::from_secs(5);
                while alive(pid) && Instant::now() < end {
                    std::thread::sleep(Duration::from_millis(20));
                }
                if alive(pid) {
                    unsafe { libc::kill(pid as i32, libc::SIGKILL) };
                }
            }
        }
        if self.setup.read_only_bind {
            run(Command::new("umount").arg("-l").arg(self.dir.join("lower")));
        }
        if let Some(temporary) = self.temporary.take() {
            // Nothing of it is removed through a mount that is still there.
            if mount_line(&self.m).is_some() { drop(temporary.keep()) } else { temporary.close().unwrap() }
        }
        if let Err(e) = checked {
            std::panic::resume_unwind(e);
        }
    }
}

/// Whether mounts here have all these capabilities of the kernel. Where not, they say so.
pub fn has(capabilities: &[&str]) -> bool {
    let bed = Bed::new(|_| ());
    capabilities.iter().all(|name| match bed.capability(name).as_str() {
        "used" => true,
        "masked" | "missing" => false,
        state => panic!("{name} is {state}"),
    })
}

/// The option `data=passthrough`; where the kernel lacks it (or a test has it taken for missing) a mount must refuse it, and
/// what is not passed through must be right as well.
pub fn passthrough() -> &'static str {
    static OPTION: LazyLock<&str> = LazyLock::new(|| {
        let mut bed = Bed::unmounted(Setup { options: "data=passthrough".to_owned(), ..Setup::default() }, |_| ());
        let output = laminafs(["mount", "-o", &bed.option_string(), bed.m.to_str().unwrap()]);
        if output.status.success() {
            bed.mounted();
            return "data=passthrough";
        }
        let said = text_of(output.stderr);
        assert!(said.contains("data=passthrough needs root in the initial user namespace"), "{said}");
        bed.set(Setup { options: "data=cache".to_owned(), ..Setup::default() });
        bed.mount();
        let state = bed.capability("passthrough");
        assert!(["masked", "missing"].contains(&state.as_str()), "refused although it is {state}");
        "data=cache"
    });
    *OPTION
}

/// Fails where mounts cannot be tested.
pub fn require() {
    assert!(rustix::process::geteuid().is_root(), "the mount tests need root; run them as root or in a VM");
    let device = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    assert!(device.is_ok(), "the mount tests need /dev/fuse: {device:?}");
    leave_common_mounts();
}

/// Runs a shell script that must succeed; returns what it prints.
pub fn sh_in(dir: &Path, script: &str) -> String {
    let mut command = Command::new("sh");
    let output = run(command.args(["-euc", script]).current_dir(dir).env("LC_ALL", "C"));
    assert!(output.status.success(), "{script}: {} {}", text_of(output.stdout), text_of(output.stderr));
    text_of(output.stdout)
}

/// Names in a directory, sorted; none if it does not exist.
pub fn entries(dir: &Path) -> Vec<String> {
    let Ok(list) = fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> = list.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Writes a file, with its directories.
pub fn put(root: &Path, path: &str, content: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

pub fn mkdir(root: &Path, path: &str) {
    fs::create_dir_all(root.join(path)).unwrap();
}

/// A whiteout as the kernel has it.
pub fn is_whiteout(path: &Path) -> bool {
    let Ok(m) = path.symlink_metadata() else { return false };
    m.mode() & libc::S_IFMT == libc::S_IFCHR && m.rdev() == 0
}

pub fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

pub fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

pub fn ino(path: &Path) -> u64 {
    path.symlink_metadata().unwrap_or_else(|e| panic!("{}: {e}", path.display())).ino()
}
