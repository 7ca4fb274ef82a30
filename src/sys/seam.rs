//! The fault seam: one place through which every system call of [`crate::sys`] passes.
//!
//! In a normal build [`enter`] is an inlined no-op. Under `cfg(test)` the current thread can carry a
//! `Plan` that makes the n-th call that changes the file system fail, or the n-th that reads it, or that stops everything from
//! the n-th such call on, which is what a `kill -9` at that moment leaves behind on disk.

use super::Result;

/// What a system call does to the file system, as far as the seam cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Changes files, directories or what is durable of them (includes `fsync`).
    Mutating,
    /// Leaves the file system as it is.
    Reading,
}

/// Announces the system call `call`; an error means that the caller must not make it.
#[cfg(not(test))]
#[inline(always)]
pub fn enter(_call: &'static str, _kind: Kind) -> Result<()> {
    Ok(())
}

#[cfg(test)]
pub use planned::{Plan, Report, deny, enter, plan, take};

#[cfg(test)]
mod planned {
    use super::super::{Errno, Error};
    use super::{Kind, Result};
    use std::cell::RefCell;

    /// What should happen to the mutating calls of this thread; `n` counts from 1.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Plan {
        /// Only count.
        Count,
        /// The n-th mutating call does nothing and fails with `errno`; all others work.
        FailNth {
            /// Which mutating call, from 1.
            n: usize,
            /// What it fails with.
            errno: Errno,
        },
        /// The n-th reading call does nothing and fails with `errno`; all others work.
        FailNthReading {
            /// Which reading call, from 1.
            n: usize,
            /// What it fails with.
            errno: Errno,
        },
        /// The n-th mutating call and every later call of any kind do nothing and fail with `EIO`.
        KillNth {
            /// Which mutating call, from 1.
            n: usize,
        },
    }

    /// What happened under a [`Plan`].
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Report {
        /// How many mutating calls were announced (including those that were made to fail).
        pub mutating: usize,
        /// The names of those calls, in order.
        pub trace: Vec<&'static str>,
        /// The names of the calls that only read, in order.
        pub readings: Vec<&'static str>,
        /// Both kinds, in order.
        pub calls: Vec<&'static str>,
    }

    struct Running {
        plan: Plan,
        dead: bool,
        report: Report,
    }

    thread_local! {
        static DENIED: RefCell<Vec<(&'static str, Errno)>> = const { RefCell::new(Vec::new()) };
        static RUNNING: RefCell<Option<Running>> = const { RefCell::new(None) };
    }

    /// Ends what [`deny`] has begun.
    #[must_use]
    pub struct Denied(());

    impl Drop for Denied {
        fn drop(&mut self) {
            DENIED.take();
        }
    }

    /// From now on these calls do nothing on this thread and fail, as a file system or a filter of system calls has it,
    /// whatever is planned besides.
    pub fn deny(calls: &[(&'static str, Errno)]) -> Denied {
        DENIED.with_borrow_mut(|denied| *denied = calls.to_vec());
        Denied(())
    }

    /// Starts `plan` on this thread, in place of one that may be running.
    pub fn plan(plan: Plan) {
        let report = Report::default();
        RUNNING.with_borrow_mut(|r| *r = Some(Running { plan, dead: false, report }));
    }

    /// Ends the plan of this thread and tells what happened; empty when there was none.
    pub fn take() -> Report {
        RUNNING.take().map(|r| r.report).unwrap_or_default()
    }

    /// Announces the system call `call`; an error means that the caller must not make it.
    pub fn enter(call: &'static str, kind: Kind) -> Result<()> {
        RUNNING.with_borrow_mut(|running| running.as_mut().map_or(Ok(()), |r| r.step(call, kind)))?;
        let denied =
            DENIED.with_borrow(|denied| denied.iter().find(|(name, _)| *name == call).map(|(_, errno)| *errno));
        denied.map_or(Ok(()), |errno| Err(Error { call, errno }))
    }

    impl Running {
        fn step(&mut self, call: &'static str, kind: Kind) -> Result<()> {
            let killed = Err(Error { call, errno: Errno::IO });
            if self.dead {
                return killed;
            }
            self.report.calls.push(call);
            if kind == Kind::Reading {
                self.report.readings.push(call);
                return match self.plan {
                    Plan::FailNthReading { n, errno } if n == self.report.readings.len() => Err(Error { call, errno }),
                    _ => Ok(()),
                };
            }
            self.report.mutating += 1;
            self.report.trace.push(call);
            match self.plan {
                Plan::FailNth { n, errno } if n == self.report.mutating => Err(Error { call, errno }),
                Plan::KillNth { n } if n <= self.report.mutating => {
                    self.dead = true;
                    killed
                }
                Plan::Count | Plan::FailNth { .. } | Plan::FailNthReading { .. } | Plan::KillNth { .. } => Ok(()),
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{At, Errno, mkdir, open_root, stat, unlink};
    use super::{Plan, plan, take};
    use std::ffi::OsStr;
    use std::os::fd::AsFd;

    #[test]
    fn fail_nth_fails_one_call_and_does_nothing() {
        let tmp = tempfile::tempdir().unwrap();
        let root = open_root(tmp.path()).unwrap();
        plan(Plan::FailNth { n: 2, errno: Errno::NOSPC });
        mkdir(root.as_fd(), OsStr::new("a"), 0o755).unwrap();
        let e = mkdir(root.as_fd(), OsStr::new("b"), 0o755).unwrap_err();
        assert!(e.is(Errno::NOSPC));
        mkdir(root.as_fd(), OsStr::new("c"), 0o755).unwrap();
        let report = take();
        assert_eq!(report.mutating, 3);
        assert_eq!(report.trace, ["mkdirat", "mkdirat", "mkdirat"]);
        assert!(!tmp.path().join("b").exists());
        assert!(tmp.path().join("c").exists());
    }

    #[test]
    fn kill_nth_stops_reading_calls_as_well() {
        let tmp = tempfile::tempdir().unwrap();
        let root = open_root(tmp.path()).unwrap();
        plan(Plan::KillNth { n: 2 });
        mkdir(root.as_fd(), OsStr::new("a"), 0o755).unwrap();
        stat(At::Fd(root.as_fd())).unwrap();
        assert!(mkdir(root.as_fd(), OsStr::new("b"), 0o755).unwrap_err().is(Errno::IO));
        assert!(stat(At::Fd(root.as_fd())).unwrap_err().is(Errno::IO));
        assert!(unlink(root.as_fd(), OsStr::new("a")).unwrap_err().is(Errno::IO));
        assert_eq!(take().mutating, 2);
        stat(At::Name(root.as_fd(), OsStr::new("a"))).unwrap();
        assert_eq!(take().mutating, 0);
    }
}
