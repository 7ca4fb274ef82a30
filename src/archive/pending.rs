//! What is left to do once all entries are in place: a list on disk, in the order of the entries.

use super::{Error, Result, names};
use crate::sys::{Fd, Time};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use tempfile::SpooledTempFile;

/// A list up to this long stays in memory.
const IN_MEMORY: usize = 256 << 10;

/// One thing to do. Paths are relative to the layer, without `.` and `..`; the root is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// A directory that only the names of other entries imply.
    Implied(Vec<u8>),
    /// The time of a directory, and what new entries would inherit from it.
    Directory { path: Vec<u8>, mtime: Time, default_acl: Option<Vec<u8>> },
    /// A name of the layers below is deleted.
    Whiteout(Vec<u8>),
    /// Nothing of the layers below shows through this directory.
    Opaque(Vec<u8>),
    /// A hard link whose target was not there; `number` is on its placeholder.
    Link { path: Vec<u8>, target: Vec<u8>, number: i64 },
}

impl Task {
    /// What it is about.
    pub(super) fn path(&self) -> &[u8] {
        match self {
            Self::Implied(path) | Self::Whiteout(path) | Self::Opaque(path) => path,
            Self::Directory { path, .. } | Self::Link { path, .. } => path,
        }
    }

    /// The path of a directory that is implied.
    pub(super) fn implied(&self) -> Option<&[u8]> {
        matches!(self, Self::Implied(_)).then(|| self.path())
    }

    /// The path of a whiteout.
    pub(super) fn whiteout(&self) -> Option<&[u8]> {
        matches!(self, Self::Whiteout(_)).then(|| self.path())
    }

    /// The target of a hard link.
    pub(super) fn target(&self) -> Option<&[u8]> {
        if let Self::Link { target, .. } = self { Some(target) } else { None }
    }
}

/// What [`super::complete`] has to do for a layer: kept in a temporary file when it is long.
#[derive(Debug)]
pub struct Pending {
    file: BufWriter<SpooledTempFile>,
    links: u64,
    default_acls: bool,
}

const IMPLIED: u8 = 1;
const DIRECTORY: u8 = 2;
const WHITEOUT: u8 = 3;
const OPAQUE: u8 = 4;
const LINK: u8 = 5;

impl Pending {
    /// A long list goes into a file without a name in the file system of `layer`, where there is room for layers; that
    /// must stay open until everything has been added.
    pub(super) fn new(layer: Fd<'_>) -> Self {
        let dir = format!("/proc/self/fd/{}", layer.as_raw_fd());
        let file = BufWriter::with_capacity(16 << 10, SpooledTempFile::new_in(IN_MEMORY, dir));
        Self { file, links: 0, default_acls: false }
    }

    /// How many hard links wait for their target.
    pub(super) fn links(&self) -> u64 {
        self.links
    }

    /// Whether any directory has a default access control list.
    pub(super) fn has_default_acls(&self) -> bool {
        self.default_acls
    }

    pub(super) fn add(&mut self, task: &Task) -> Result<()> {
        match task {
            Task::Directory { default_acl, .. } => self.default_acls |= default_acl.is_some(),
            Task::Link { .. } => self.links += 1,
            Task::Implied(_) | Task::Whiteout(_) | Task::Opaque(_) => {}
        }
        write_task(&mut self.file, task).map_err(Error::Spool)
    }

    /// Calls `each` for every task in the order in which they were added.
    pub(super) fn each(&mut self, mut each: impl FnMut(Task) -> Result<()>) -> Result<()> {
        self.file.flush().map_err(Error::Spool)?;
        let file = self.file.get_mut();
        let end = file.seek(SeekFrom::End(0)).map_err(Error::Spool)?;
        file.rewind().map_err(Error::Spool)?;
        let mut reader = BufReader::with_capacity(16 << 10, file.take(end));
        while let Some(task) = read_task(&mut reader).map_err(Error::Spool)? {
            each(task)?;
        }
        Ok(())
    }
}

/// Tasks that are sorted at a time, and the bytes of their paths.
const BATCH: (usize, usize) = (64 << 10, 32 << 20);

impl Pending {
    /// Calls `each` for the tasks to which `key` gives a path, in the order of a walk: so that who looks the paths up in the
    /// layers below need not begin at the root each time, in whatever order the archive has them. Of a very long list
    /// that is the order of one piece of it after the other.
    pub(super) fn sorted(
        &mut self,
        key: fn(&Task) -> Option<&[u8]>,
        mut each: impl FnMut(Task) -> Result<()>,
    ) -> Result<()> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut work = |batch: &mut Vec<Task>| {
            batch.sort_by(|a, b| {
                let (a, b) = (key(a).unwrap_or_default(), key(b).unwrap_or_default());
                names::parts(a).cmp(names::parts(b))
            });
            batch.drain(..).try_for_each(&mut each)
        };
        self.each(|task| {
            let Some(path) = key(&task) else { return Ok(()) };
            bytes += path.len() + task.path().len();
            batch.push(task);
            if batch.len() < BATCH.0 && bytes < BATCH.1 {
                return Ok(());
            }
            bytes = 0;
            work(&mut batch)
        })?;
        work(&mut batch)
    }
}

fn write_task(out: &mut impl Write, task: &Task) -> io::Result<()> {
    match task {
        Task::Implied(path) => write_part(out, IMPLIED, path),
        Task::Whiteout(path) => write_part(out, WHITEOUT, path),
        Task::Opaque(path) => write_part(out, OPAQUE, path),
        Task::Directory { path, mtime, default_acl } => {
            write_part(out, DIRECTORY, path)?;
            out.write_all(&mtime.sec.to_le_bytes())?;
            out.write_all(&mtime.nsec.to_le_bytes())?;
            write_part(out, u8::from(default_acl.is_some()), default_acl.as_deref().unwrap_or_default())
        }
        Task::Link { path, target, number } => {
            write_part(out, LINK, path)?;
            write_part(out, 0, target)?;
            out.write_all(&number.to_le_bytes())
        }
    }
}

fn write_part(out: &mut impl Write, tag: u8, bytes: &[u8]) -> io::Result<()> {
    let len = u32::try_from(bytes.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    out.write_all(&[tag])?;
    out.write_all(&len.to_le_bytes())?;
    out.write_all(bytes)
}

fn read_task(from: &mut impl Read) -> io::Result<Option<Task>> {
    let mut tag = [0; 1];
    if from.read(&mut tag)? == 0 {
        return Ok(None);
    }
    let path = read_bytes(from)?;
    Ok(Some(match tag[0] {
        IMPLIED => Task::Implied(path),
        WHITEOUT => Task::Whiteout(path),
        OPAQUE => Task::Opaque(path),
        DIRECTORY => {
            let mtime =
                Time { sec: i64::from_le_bytes(read_array(from)?), nsec: u32::from_le_bytes(read_array(from)?) };
            let [some] = read_array(from)?;
            let acl = read_bytes(from)?;
            Task::Directory { path, mtime, default_acl: (some != 0).then_some(acl) }
        }
        LINK => {
            let [_] = read_array(from)?;
            Task::Link { path, target: read_bytes(from)?, number: i64::from_le_bytes(read_array(from)?) }
        }
        _ => return Err(io::ErrorKind::InvalidData.into()),
    }))
}

fn read_array<const N: usize>(from: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn read_bytes(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let len = u32::from_le_bytes(read_array(from)?);
    let mut bytes = Vec::new();
    from.take(len.into()).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn tasks_come_back_in_order_more_than_once() {
        let dir = tempfile::tempdir().unwrap();
        let layer = std::fs::File::open(dir.path()).unwrap();
        let mut pending = Pending::new(layer.as_fd());
        let long = vec![b'x'; 4000];
        let mut want = vec![
            Task::Implied(Vec::new()),
            Task::Whiteout(b"a\xff".to_vec()),
            Task::Opaque(b"o".to_vec()),
            Task::Link { path: b"p".to_vec(), target: b"t".to_vec(), number: 7 },
        ];
        for i in 0..200 {
            let mtime = Time { sec: -i, nsec: 5 };
            want.push(Task::Directory { path: long.clone(), mtime, default_acl: (i == 3).then(|| vec![2; 28]) });
        }
        for task in &want {
            pending.add(task).unwrap();
        }
        for _ in 0..2 {
            let mut got = Vec::new();
            let keep = |task| {
                got.push(task);
                Ok(())
            };
            pending.each(keep).unwrap();
            assert_eq!(got, want);
        }
        assert_eq!((pending.links(), pending.has_default_acls()), (1, true));
        assert!(pending.file.get_ref().is_rolled());
        let place = std::fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|fd| fd.path().read_link().ok());
        assert!(place.into_iter().any(|file| file.starts_with(dir.path()) && file != dir.path()), "beside the layer");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "without a name");
    }
}
