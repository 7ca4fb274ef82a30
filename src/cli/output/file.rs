//! Archives and pages as output: a file that appears when it is complete, or standard output.

use crate::sys::process::{exit_now, hold_heeded_termination_signals};
use anyhow::{Context, bail};
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tempfile::{Builder, TempPath};

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An archive; new files are for their owner only, as those of `docker save`.
    Archive,
    /// A page or picture; new files are as the file mode mask has it.
    Page,
}

impl Kind {
    fn what(self) -> &'static str {
        match self {
            Self::Archive => "an archive",
            Self::Page => "a page",
        }
    }

    fn mode(self) -> u32 {
        match self {
            Self::Archive => 0o600,
            Self::Page => 0o666,
        }
    }
}

/// Where an archive or page goes.
#[derive(Debug)]
pub struct OutputFile {
    file: File,
    /// Under which name the file is written, and which one it gets; none for standard output, pipes and devices.
    names: Option<(TempPath, PathBuf)>,
}

impl OutputFile {
    /// `path`, or standard output for none and `-`.
    ///
    /// An existing file stays as it is until [`OutputFile::finish`]; without that, or after a signal that ends the
    /// process, nothing of the new one is left.
    ///
    /// # Errors
    /// When standard output is a terminal.
    pub fn create(path: Option<&Path>, kind: Kind) -> anyhow::Result<Self> {
        let Some(path) = path.filter(|path| path.as_os_str() != "-") else {
            let out = io::stdout();
            if out.is_terminal() {
                let what = kind.what();
                bail!("{what} is nothing for a terminal; give a file with -o FILE, or redirect standard output");
            }
            return Ok(Self { file: out.as_fd().try_clone_to_owned()?.into(), names: None });
        };
        let failed = || format!("cannot write {}", path.display());
        // The file that a symbolic link leads to is replaced, not the link.
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if real.metadata().is_ok_and(|found| !found.is_file()) {
            return Ok(Self { file: File::options().write(true).open(&real).with_context(failed)?, names: None });
        }
        // Not `tempfile_in`, whose errors name the temporary file, which nobody knows.
        let open = |path: &Path| File::options().write(true).create_new(true).mode(kind.mode()).open(path);
        // Before there is anything that a signal would leave. Threads that start later hold signals back as well, so that only the
        // one of `remove_on_signal` gets them.
        let held = hold_heeded_termination_signals()?;
        let temporary = Builder::new().prefix(".laminafs-").make_in(directory_of(&real), open);
        let temporary = temporary.with_context(failed)?;
        let (file, name) = temporary.into_parts();
        remove_on_signal(&name)?;
        std::mem::forget(held);
        Ok(Self { file, names: Some((name, real)) })
    }

    /// It is complete.
    pub fn finish(mut self) -> anyhow::Result<()> {
        self.file.flush()?;
        let Some((temporary, path)) = self.names else { return Ok(()) };
        let failed = || format!("cannot write {}", path.display());
        self.file.sync_all().with_context(failed)?;
        temporary.persist(&path).with_context(failed)?;
        File::open(directory_of(&path)).and_then(|dir| dir.sync_all()).with_context(failed)
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Removes an unfinished file when the process is asked to end by a signal that is held back.
fn remove_on_signal(file: &Path) -> anyhow::Result<()> {
    let file = std::path::absolute(file)?;
    let (sender, started) = std::sync::mpsc::channel();
    std::thread::Builder::new().spawn(move || {
        let held = hold_heeded_termination_signals();
        sender.send(()).unwrap_or_default();
        if let Ok(signal) = held.and_then(|held| held.wait()) {
            // It may have been finished meanwhile, or be gone.
            std::fs::remove_file(&file).unwrap_or_default();
            exit_now(128 + signal);
        }
    })?;
    started.recv()?;
    Ok(())
}
