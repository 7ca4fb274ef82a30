//! Process-wide matters: becoming a daemon, limits, signals, waiting for a process, locks.
//!
//! None of these calls changes a file system, so they do not go through the seam.
#![allow(unsafe_code)]

use super::raw::check;
use super::{Errno, Error, Fd, Result};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal, WaitOptions};
use std::fs::File;
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Names the call in the error.
fn call<T>(name: &'static str, result: rustix::io::Result<T>) -> Result<T> {
    result.map_err(|errno| Error { call: name, errno })
}

/// Which side of [`fork_daemon`] this process is.
#[derive(Debug)]
pub enum Side {
    /// The caller's process, which waits for word from the daemon.
    Parent(Waiter),
    /// The new process, which must report.
    Daemon(Reporter),
}

/// The parent's end: learns how the daemon's start went.
#[derive(Debug)]
pub struct Waiter {
    pipe: File,
    daemon: Pid,
}

/// The daemon's end; dropping it without a report counts as a failure to start.
#[derive(Debug)]
pub struct Reporter(File);

/// Number of the capability (capabilities(7)).
const CAP_SYS_ADMIN: u32 = 21;

/// What `/proc/self/ns/user` leads to in the first of all user namespaces (`USER_NS_INIT_INO` of linux/nsfs.h).
const INITIAL_USER_NAMESPACE: &str = "user:[4026531837]";

/// What a daemon says at most about its failure, in bytes.
const LONGEST_REPORT: u64 = 64 * 1024;

/// Forks; the child is to become a daemon and tells the parent when it has started.
///
/// Must be called before the process has a second thread: only the calling thread lives on in the child,
/// and a lock that another one holds would stay locked. `EBUSY` when there is one.
pub fn fork_daemon() -> Result<Side> {
    if std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() > 1) {
        return Err(Error { call: "fork", errno: Errno::BUSY });
    }
    let (read, write) = call("pipe2", rustix::pipe::pipe_with(PipeFlags::CLOEXEC))?;
    // SAFETY: this is the only thread (checked above), so that the child starts with every lock and
    // allocator structure in a consistent state and may go on as an ordinary process.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        return Ok(Side::Daemon(Reporter(File::from(write))));
    }
    match Pid::from_raw(pid) {
        Some(daemon) if pid > 0 => Ok(Side::Parent(Waiter { pipe: File::from(read), daemon })),
        _ => Err(Error { call: "fork", errno: super::raw::errno() }),
    }
}

/// The supplementary groups of a process or thread (`/proc/PID/status`, see proc_pid_status(5)); `None` when it is gone.
#[must_use]
pub fn groups(pid: u32) -> Option<Vec<u32>> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:"))?;
    line.split_whitespace().map(|group| group.parse().ok()).collect()
}

impl Waiter {
    /// Blocks until the daemon has started, or else returns the sentence that says why it has not.
    pub fn wait(self) -> std::result::Result<(), String> {
        let mut word = Vec::new();
        let read = (&self.pipe).take(LONGEST_REPORT).read_to_end(&mut word);
        match (read, word.split_first()) {
            (Ok(_), Some((0, []))) => Ok(()),
            (Ok(_), Some((_, why))) if !why.is_empty() => {
                // Reaped, so that nothing is left of it when this process says that it failed.
                self.reap();
                Err(String::from_utf8_lossy(why).into_owned())
            }
            _ => Err(format!("the daemon ended before the mount answered ({})", self.reap())),
        }
    }

    /// Waits for the end of the daemon and says what it was.
    fn reap(&self) -> String {
        match rustix::process::waitpid(Some(self.daemon), WaitOptions::empty()) {
            Ok(Some((_, status))) => match (status.terminating_signal(), status.exit_status()) {
                (Some(signal), _) => format!("killed by signal {signal}"),
                (None, Some(code)) => format!("exit status {code}"),
                (None, None) => "unknown status".to_owned(),
            },
            Ok(None) | Err(_) => "unknown status".to_owned(),
        }
    }
}

impl Reporter {
    /// Tells the parent that the daemon has started. An error means that nobody waits any more.
    pub fn started(mut self) -> std::io::Result<()> {
        self.0.write_all(&[0])
    }

    /// Tells the parent in one sentence why the daemon has not started.
    pub fn failed(mut self, why: &str) -> std::io::Result<()> {
        self.0.write_all(&[1])?;
        self.0.write_all(why.as_bytes())
    }
}

/// Leaves the caller's session, working directory, descriptors and standard streams, which become `/dev/null`.
///
/// Afterwards nobody who reads the caller's output has to wait for this process.
pub fn detach() -> Result<()> {
    match rustix::process::setsid() {
        // EPERM: leads a process group, and so was never attached to the caller's.
        Ok(_) | Err(Errno::PERM) => {}
        Err(errno) => return Err(Error { call: "setsid", errno }),
    }
    call("chdir", rustix::process::chdir("/"))?;
    let null = call("open", rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()))?;
    call("dup2", rustix::stdio::dup2_stdin(&null))?;
    call("dup2", rustix::stdio::dup2_stdout(&null))?;
    call("dup2", rustix::stdio::dup2_stderr(&null))?;
    super::caller::close_inherited()
}

/// Whether the effective user is root (euid 0), also in a user namespace.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The effective user, who owns the files that are made.
#[must_use]
pub fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The real user.
#[must_use]
pub fn user() -> u32 {
    rustix::process::getuid().as_raw()
}

/// The effective user is root, and not only inside of a user namespace, whose root may do no more than whoever made it.
pub fn is_root_of_the_machine() -> bool {
    // user_namespaces(7): three numbers, which map all ids to themselves in the initial one only.
    let maps_all = |map: String| map.split_whitespace().eq(["0", "0", "4294967295"]);
    is_root() && std::fs::read_to_string("/proc/self/uid_map").is_ok_and(maps_all)
}

/// What decides which ids and which attributes of files this process sees: the maps of its user namespace (user_namespaces(7))
/// and `CAP_SYS_ADMIN` in the initial one, without which `trusted.*` is not listed (xattr(7)). Another one can map all ids to
/// themselves, too. Without `/proc`, nothing of it.
#[must_use]
pub fn view() -> Vec<u8> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
    let status = read("status");
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    let is_initial =
        std::fs::read_link("/proc/self/ns/user").is_ok_and(|link| link.as_os_str() == INITIAL_USER_NAMESPACE);
    let trusted = u8::from(is_initial && effective >> CAP_SYS_ADMIN & 1 == 1);
    format!("{}{}{trusted}", read("uid_map"), read("gid_map")).into_bytes()
}

/// Makes new files carry exactly the mode that they are created with.
pub fn clear_umask() {
    rustix::process::umask(Mode::empty());
}

/// Gives the calling thread, and those that it starts from now on, a file mode mask (empty), working directory and root
/// directory of their own; the rest of the process keeps its own.
pub fn own_empty_umask() -> Result<()> {
    // SAFETY: only the table of descriptors can break others when it is unshared, and it stays shared.
    call("unshare", unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FS) })?;
    clear_umask();
    Ok(())
}

/// The soft limit of open descriptors.
#[must_use]
pub fn nofile_limit() -> u64 {
    rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Raises the soft limit of open descriptors to the hard one; returns the limit now in force.
#[must_use]
pub fn raise_nofile_limit() -> u64 {
    let Rlimit { current, maximum } = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    let now = if rustix::process::setrlimit(Resource::Nofile, raised).is_ok() { maximum } else { current };
    now.unwrap_or(u64::MAX)
}

/// Makes room for `count` descriptors (not more than the limit) before there are threads.
///
/// The kernel doubles the table of descriptors when it is full, and where threads share it waits for an RCU grace period
/// each time: some milliseconds, on a busy machine a tenth of a second.
pub fn reserve_descriptors(count: u64) -> Result<()> {
    let last = i32::try_from(count.min(nofile_limit())).unwrap_or(i32::MAX) - 1;
    let any =
        File::open("/").map_err(|e| Error { call: "open", errno: Errno::from_io_error(&e).unwrap_or(Errno::IO) })?;
    let reserved = rustix::io::fcntl_dupfd_cloexec(&any, last);
    reserved.map(drop).map_err(|errno| Error { call: "fcntl", errno })
}

/// Takes an exclusive lock on an open file or directory; false when another description holds it.
///
/// Released with the last descriptor of this description.
pub fn flock(fd: Fd<'_>) -> Result<bool> {
    match rustix::fs::flock(fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(Error { call: "flock", errno }),
    }
}

/// A descriptor for the process `pid`, or `None` when there is no such process (any more).
///
/// `ENOSYS` before Linux 5.3.
pub fn open_pid(pid: u32) -> Result<Option<OwnedFd>> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(Error { call: "pidfd_open", errno: Errno::INVAL })?;
    match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::SRCH) => Ok(None),
        Err(errno) => Err(Error { call: "pidfd_open", errno }),
    }
}

/// Waits until something can be read from `fd` or never will be; of a descriptor of [`open_pid`], until the process has ended. False when
/// `limit` passed first.
pub fn wait_readable(fd: Fd<'_>, limit: Option<Duration>) -> Result<bool> {
    // A limit too long to express is none.
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    loop {
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        // Longer than the kernel can express: as good as for ever.
        let timeout = left.and_then(|left| rustix::event::Timespec::try_from(left).ok());
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error { call: "poll", errno }),
        }
    }
}

/// The signals that ask a process to end, held back from their default effect.
///
/// Threads that are started afterwards hold them back too. On drop this thread gets them again, those that came
/// in between included.
#[derive(Debug)]
pub struct HeldSignals {
    set: libc::sigset_t,
    before: libc::sigset_t,
}

/// Holds back SIGTERM, SIGINT, SIGHUP and SIGQUIT (the last two not where they are ignored, as under nohup(1)) in this thread and
/// all that it starts.
///
/// SIGQUIT too, since whoever holds signals back has something to clean up first, which git(1) does upon it as well: a mount whose
/// daemon died of Ctrl-\ would be dead.
pub fn hold_termination_signals() -> Result<HeldSignals> {
    hold_termination_signals_and(&[])
}

/// The same with further signals.
pub fn hold_termination_signals_and(more: &[i32]) -> Result<HeldSignals> {
    let mut signals = [&[libc::SIGTERM, libc::SIGINT], more].concat();
    signals.extend([libc::SIGHUP, libc::SIGQUIT].into_iter().filter(|signal| !ignored(*signal)));
    hold(&signals)
}

/// The same without those that the process was started to ignore, as shells start what is to run in the background.
pub fn hold_heeded_termination_signals() -> Result<HeldSignals> {
    let mut signals = vec![libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];
    signals.retain(|signal| !ignored(*signal));
    hold(&signals)
}

fn hold(signals: &[i32]) -> Result<HeldSignals> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the whole set that it is given.
    let mut set = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    };
    for &signal in signals {
        // SAFETY: the set is initialised and the number a valid signal.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    let mut before = set;
    // SAFETY: both sets are initialised; only this thread's mask changes.
    let code = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, &raw mut before) };
    if code != 0 {
        return Err(Error { call: "pthread_sigmask", errno: Errno::from_raw_os_error(code) });
    }
    Ok(HeldSignals { set, before })
}

/// Whether the process ignores `signal`.
fn ignored(signal: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null new action only asks; the old one is written to a buffer of its type.
    let code = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: all bytes zero is a valid sigaction, and so is what the kernel wrote over it.
    code == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}

impl HeldSignals {
    /// Waits for the next of the held signals and returns its number.
    pub fn wait(&self) -> Result<i32> {
        let mut signal = 0;
        // SAFETY: the set is initialised and `signal` a place for one int.
        match unsafe { libc::sigwait(&raw const self.set, &raw mut signal) } {
            0 => Ok(signal),
            code => Err(Error { call: "sigwait", errno: Errno::from_raw_os_error(code) }),
        }
    }
}

impl HeldSignals {
    /// The same, for as long as `limit`; none when no signal came. A stop of the program in between does not end it.
    pub fn wait_for(&self, limit: Duration) -> Result<Option<i32>> {
        let begun = Instant::now();
        loop {
            let left = limit.saturating_sub(begun.elapsed());
            let nsec = left.subsec_nanos().into();
            let left = libc::timespec { tv_sec: left.as_secs().try_into().unwrap_or(libc::time_t::MAX), tv_nsec: nsec };
            // SAFETY: the set is initialised, no details are asked for, and the time outlives the call.
            let code = unsafe { libc::sigtimedwait(&raw const self.set, std::ptr::null_mut(), &raw const left) };
            match check(code.into()) {
                Ok(signal) => return Ok(i32::try_from(signal).ok()),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error { call: "sigtimedwait", errno }),
            }
        }
    }
}

impl Drop for HeldSignals {
    fn drop(&mut self) {
        // SAFETY: the set was filled by pthread_sigmask, which cannot fail with these arguments.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}

/// Told to go on after a stop.
pub const SIGCONT: i32 = libc::SIGCONT;
/// Told to stop, as Ctrl-Z on a terminal does.
pub const SIGTSTP: i32 = libc::SIGTSTP;
/// Told to end, as Ctrl-\ on a terminal does.
pub const SIGQUIT: i32 = libc::SIGQUIT;

/// Sends SIGTSTP to this process and those that were started with it, as Ctrl-Z on a terminal does.
pub fn stop_group() -> Result<()> {
    call("kill", rustix::process::kill_current_process_group(Signal::TSTP))
}

/// Raises a signal that is [held back](HeldSignals) in this thread, with the effect the signal has for programs that know
/// nothing of it. After SIGTSTP it returns when the process is told to go on; at once where nobody could tell it so (POSIX:
/// an orphaned process group).
pub fn raise_held(signal: i32) -> Result<()> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the whole set that it is given; an invalid number is refused by sigaddset.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
    }
    // SAFETY: the set is initialised; only this thread's mask changes, and raise has no preconditions.
    let code = unsafe {
        libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), std::ptr::null_mut());
        let code = libc::raise(signal);
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
        code
    };
    match code {
        0 => Ok(()),
        code => Err(Error { call: "raise", errno: Errno::from_raw_os_error(code) }),
    }
}

/// Ends the process at once: no destructors, no exit handlers.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn lock_excludes_another_description() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (File::open(dir.path()).unwrap(), File::open(dir.path()).unwrap());
        assert!(flock(a.as_fd()).unwrap());
        assert!(flock(a.as_fd()).unwrap());
        assert!(!flock(b.as_fd()).unwrap());
        drop(a);
        assert!(flock(b.as_fd()).unwrap());
    }

    #[test]
    fn waiting_for_a_process() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pid = open_pid(child.id()).unwrap().unwrap();
        assert!(!wait_readable(pid.as_fd(), Some(Duration::from_millis(10))).unwrap());
        drop(child.stdin.take());
        assert!(wait_readable(pid.as_fd(), None).unwrap());
        child.wait().unwrap();
        assert!(open_pid(child.id()).unwrap().is_none());
        assert!(open_pid(0).unwrap_err().is(Errno::INVAL));
    }

    #[test]
    fn held_signals_are_waited_for() {
        // In a thread of its own, as the mask is a thread's; the signal is sent to that thread only.
        std::thread::spawn(|| {
            let held = hold_termination_signals().unwrap();
            // SAFETY: the calling thread exists, and holds the signal back.
            assert_eq!(unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGTERM) }, 0);
            assert_eq!(held.wait().unwrap(), libc::SIGTERM);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn reports_arrive() {
        let waiter = |report: &dyn Fn(Reporter) -> std::io::Result<()>| {
            let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap();
            report(Reporter(File::from(write))).unwrap();
            // A process that exists but is no child of this one: nothing to reap.
            Waiter { pipe: File::from(read), daemon: Pid::INIT }.wait()
        };
        assert_eq!(waiter(&Reporter::started), Ok(()));
        assert_eq!(waiter(&|r| r.failed("no layer")), Err("no layer".to_owned()));
        assert!(waiter(&|_| Ok(())).unwrap_err().contains("before the mount answered"));
    }

    #[test]
    fn fork_is_refused_with_threads() {
        // The test harness has threads.
        let (quit, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || wait.recv());
        assert!(fork_daemon().unwrap_err().is(Errno::BUSY));
        drop(quit);
        assert!(other.join().unwrap().is_err());
    }

    #[test]
    fn a_umask_of_its_own() {
        let umask = || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            status.lines().find_map(|line| line.strip_prefix("Umask:\t").map(str::to_owned)).unwrap()
        };
        let before = umask();
        assert_eq!(std::thread::spawn(move || own_empty_umask().map(|()| umask()).unwrap()).join().unwrap(), "0000");
        assert_eq!(umask(), before);
    }

    #[test]
    fn descriptor_limit_is_the_hard_one() {
        let now = raise_nofile_limit();
        let limit = rustix::process::getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert_eq!(now, limit.maximum.unwrap_or(u64::MAX));
    }
}
