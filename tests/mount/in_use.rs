//! Upper directories that another mount has: nobody else may write there.

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::harness::{
    Bed, PATIENCE, PROGRAM, Setup, laminafs, mount_line, put, run, sh_in, start, text_of, until, wait_within,
};
use super::kernel::{bed, mount, said, unmount};
use super::os;

const IN_USE: &str = "is in use by another mount, maybe in another mount namespace; unmount that first";

/// The kernel notices its own mounts only, and the daemon its own. Each refusal takes ten seconds, so they are waited for at once.
#[test]
fn a_directory_that_is_upper_in_another_mount_is_in_use() {
    if os::kernel() < (6, 7) {
        return;
    }
    let refused = |bed: &Bed, kernel: &[&str]| {
        put(&bed.dir, "other/f", "");
        let (options, place) = (bed.option_string(), bed.dir.join("other"));
        let words = ["mount", "-o", &options, place.to_str().unwrap()];
        said(laminafs(words.iter().chain(kernel)), 1)
    };
    let by_the_kernel = || {
        let bed = bed();
        said(mount(&bed, ""), 0);
        let copies = Copies::new();
        unmount(&bed);
        let why = refused(&bed, &[]);
        assert!(why.contains(IN_USE), "{why}");
        drop(copies);
        said(mount(&bed, ""), 0);
        unmount(&bed);
    };
    let by_a_daemon = || {
        let mut bed = bed();
        bed.mount();
        let why = refused(&bed, &["--kernel"]);
        assert!(why.contains(&format!("upperdir {} {IN_USE}", bed.upper.display())), "{why}");
    };
    let by_another_program = || {
        let bed = bed();
        let _elsewhere = mounted_elsewhere(&bed);
        let why = refused(&bed, &["--kernel"]);
        assert!(why.contains("in use by another mount of kernel overlayfs, maybe in another mount namespace"), "{why}");
    };
    std::thread::scope(|scope| {
        scope.spawn(by_the_kernel);
        scope.spawn(by_a_daemon);
        scope.spawn(by_another_program);
    });
}

/// A copy of all mounts, in a namespace that ends with this value.
pub struct Copies(Child);

impl Copies {
    pub fn new() -> Self {
        let mut unshare = Command::new("unshare");
        let unshare = unshare.args(["-m", "--propagation", "private", "sh", "-c", "echo copied; exec cat"]);
        let mut child = unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = [0; 7];
        child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
        Self(child)
    }

    pub fn user(&self) -> String {
        // Until it is cat it is the shell.
        format!("process {} (", self.0.id())
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

/// A mount of kernel overlayfs by mount(8), which leaves no lock.
fn mount_by_hand(bed: &Bed) {
    let (l, u, w) = (bed.lowers[0].display(), bed.upper.display(), bed.work.display());
    sh_in(&bed.dir, &format!("mount -t overlay -o index=on,lowerdir={l},upperdir={u},workdir={w} none m"));
}

/// The same, which only another mount namespace has by now.
fn mounted_elsewhere(bed: &Bed) -> Copies {
    mount_by_hand(bed);
    let copies = Copies::new();
    sh_in(&bed.dir, "umount m");
    copies
}

/// Starts `mount --kernel` in the foreground, with these directories.
fn start_kernel_mount(bed: &Bed, upper: &Path, work: &Path) -> Child {
    let mut command = Command::new(PROGRAM);
    command.args(["mount", "-f", "--kernel", "--lower"]).arg(&bed.lowers[0]);
    start(command.arg("--upper").arg(upper).arg("--work").arg(work).arg(&bed.m))
}

/// Kernel overlayfs takes a directory twice with `index=off`, and we any: what two write into one is ruined. The mount is known
/// also when the process beside it was killed, whose locks are gone.
#[test]
fn what_the_kernel_has_mounted_is_in_use_with_nobody_beside_the_mount() {
    if os::kernel() < (6, 7) {
        return;
    }
    let bed = bed();
    put(&bed.dir, "other/f", "");
    std::fs::rename(&bed.upper, bed.dir.join("a,:\\b c\\")).unwrap();
    let (upper, work) = (bed.dir.join("a,:\\b c\\"), bed.work.clone());
    std::os::unix::fs::symlink(&upper, bed.dir.join("link")).unwrap();
    let mut beside = start_kernel_mount(&bed, &upper, &work);
    until("the kernel has mounted", PATIENCE, || mount_line(&bed.m).is_some());
    beside.kill().unwrap();
    beside.wait().unwrap();
    let second = |upper: &Path, work: &Path, more: &[&str]| {
        let mut words = vec!["mount".as_ref(), "--lower".as_ref(), bed.lowers[0].as_os_str(), "--upper".as_ref()];
        words.extend([upper.as_os_str(), "--work".as_ref(), work.as_os_str(), "-o".as_ref(), "index=off".as_ref()]);
        let place = bed.dir.join("other");
        words.push(place.as_os_str());
        laminafs(words.into_iter().chain(more.iter().map(|word| word.as_ref())))
    };
    let by_the_kernel = format!("is in use by kernel overlayfs, which is mounted on {}; unmount that", bed.m.display());
    let (new, link) = (bed.dir.join("new"), bed.dir.join("link"));
    std::fs::create_dir(&new).unwrap();
    for (upper, work, role) in [(&upper, &work, "upperdir"), (&link, &new, "upperdir"), (&new, &work, "workdir")] {
        let named = if role == "upperdir" { upper } else { work };
        for more in [&[][..], &["--kernel"]] {
            let output = second(upper, work, more);
            if output.status.success() {
                sh_in(&bed.dir, "umount other");
            }
            let why = said(output, 1);
            assert!(why.contains(&format!("{role} {} {by_the_kernel}", named.display())), "{why}");
        }
    }
    // As a lower layer it is only read.
    let lower =
        said(laminafs(["mount", "--lower", link.to_str().unwrap(), bed.dir.join("other").to_str().unwrap()]), 0);
    assert_eq!(lower, "");
    sh_in(&bed.dir, "umount other");
    unmount(&bed);
    assert_eq!(said(second(&upper, &work, &[]), 0), "");
    sh_in(&bed.dir, "umount other");
}

/// A mount tells the names of its directories as they were given. Those of another one may be called the same elsewhere.
#[test]
fn directories_of_the_same_names_elsewhere_are_not_in_use() {
    let bed = Bed::unmounted(Setup::default(), |l| put(&l[0], "f", "lower"));
    sh_in(&bed.dir, "mkdir -p a/l a/u a/w a/m b/l b/u b/w b/m; chmod 700 b/u");
    sh_in(&bed.dir.join("a"), "mount -t overlay -o index=off,lowerdir=l,upperdir=u,workdir=w none m");
    let mount = |from: &str, upper: &str, work: &str| {
        let options = format!("lowerdir=l,upperdir={upper},workdir={work}");
        let place = bed.dir.join("b/m");
        run(Command::new(PROGRAM).args(["mount", "-o", &options]).arg(place).current_dir(bed.dir.join(from)))
    };
    assert_eq!(said(mount("b", "u", "w"), 0), "");
    sh_in(&bed.dir, "umount b/m; mkdir a/new");
    for (upper, work, role) in [("u", "new", "upperdir"), ("new", "w", "workdir")] {
        let why = said(mount("a", upper, work), 1);
        assert!(why.contains(&format!("{role} ")) && why.contains("is in use by kernel overlayfs"), "{why}");
    }
    sh_in(&bed.dir, "umount a/m");
}

/// Signals are not held back for as long as an upper directory is waited for.
#[test]
fn a_signal_ends_a_kernel_mount_that_waits_for_its_upper_directory() {
    if os::kernel() < (6, 7) {
        return;
    }
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let bed = bed();
        let elsewhere = mounted_elsewhere(&bed);
        let mut waiting = start_kernel_mount(&bed, &bed.upper, &bed.work);
        let locked = || {
            let upper = std::fs::File::open(&bed.upper).unwrap();
            rustix::fs::flock(&upper, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err()
        };
        until("it has claimed its upper directory", PATIENCE, locked);
        assert_eq!(waiting.try_wait().unwrap(), None);
        unsafe { libc::kill(waiting.id() as i32, signal) };
        let ended = wait_within(&mut waiting, PATIENCE).unwrap();
        // Had it given up by itself, it would say so.
        assert_eq!((ended.code(), text_of(output_of(&mut waiting))), (Some(1), String::new()));
        assert!(!locked() && mount_line(&bed.m).is_none());
        drop(elsewhere);
        said(mount(&bed, ""), 0);
        unmount(&bed);
    }
}

fn output_of(child: &mut Child) -> Vec<u8> {
    let mut said = Vec::new();
    child.stderr.as_mut().unwrap().read_to_end(&mut said).unwrap();
    said
}
