//! Reading an engine's storage: by descriptors below its root, no symbolic link followed, nothing endless.

use super::{Error, Result};
use crate::image::MOST_LAYERS;
use crate::image::digest::Digest;
use crate::image::{Config, Document};
use crate::sys::{self, Access, At, Errno};
use serde::de::DeserializeOwned;
use std::ffi::{CStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Longest file that is read, in bytes: lists of all layers of a large machine have a few MiB.
const LONGEST: u64 = 64 << 20;

/// Attribute in which rootless tools keep owners and devices.
const OVERRIDE_STAT: &CStr = c"user.containers.override_stat";

/// The root of an engine's storage.
pub struct Storage {
    root: OwnedFd,
    path: PathBuf,
}

impl Storage {
    /// Opens the directory that the user named.
    pub fn open(path: &Path) -> Result<Self> {
        let root = match sys::open_root(path) {
            Err(e) if e.is(Errno::NOENT) => return Err(Error::NoDirectory { path: path.to_owned() }),
            opened => opened.map_err(io("open", path))?,
        };
        Ok(Self { root, path: path.to_owned() })
    }

    /// Where it is, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The contents of a file; `None` when it is not there.
    pub fn read(&self, rel: &str) -> Result<Option<Vec<u8>>> {
        let path = self.path.join(rel);
        let looked = match sys::open_path_rel(self.root.as_fd(), rel.as_ref()) {
            Err(e) if e.is(Errno::NOENT) => return Ok(None),
            other => other.map_err(io("open", &path))?,
        };
        let stat = sys::stat(At::Fd(looked.as_fd())).map_err(io("look at", &path))?;
        if !stat.is_file() || stat.size > LONGEST {
            let why = if stat.is_file() { "it is too long" } else { "it is not a regular file" };
            return Err(Error::Damaged { path, why: why.to_owned() });
        }
        let file = sys::reopen(looked.as_fd(), Access::Read).map_err(io("open", &path))?;
        let mut data = Vec::new();
        let mut part = vec![0; 64 << 10];
        while data.len() as u64 <= LONGEST {
            match sys::pread(file.as_fd(), &mut part, data.len() as u64).map_err(io("read", &path))? {
                0 => return Ok(Some(data)),
                n => data.extend_from_slice(part.get(..n).unwrap_or_default()),
            }
        }
        Err(Error::Damaged { path, why: "it is too long".to_owned() })
    }

    /// The JSON in a file; `None` when the file is not there.
    pub fn json<T: DeserializeOwned>(&self, rel: &str) -> Result<Option<T>> {
        let Some(bytes) = self.read(rel)? else { return Ok(None) };
        let damaged = |e: serde_json::Error| self.damaged(rel, e);
        serde_json::from_slice(&bytes).map(Some).map_err(damaged)
    }

    /// The configuration of the image `id` in a file; `None` when the file is not there.
    pub fn config(&self, rel: &str, id: Digest) -> Result<Option<Document<Config>>> {
        let Some(bytes) = self.read(rel)? else { return Ok(None) };
        if Digest::of(&bytes) != id {
            return Err(self.damaged(rel, "its digest is not its name"));
        }
        Document::parse_config(bytes).map(Some).map_err(|e| self.damaged(rel, e))
    }

    /// The word in a small file; `None` when the file is not there.
    pub fn word(&self, rel: &str) -> Result<Option<String>> {
        let Some(bytes) = self.read(rel)? else { return Ok(None) };
        String::from_utf8(bytes).map(|text| Some(text.trim().to_owned())).map_err(|e| self.damaged(rel, e))
    }

    /// The names in a directory; none when it is not there.
    pub fn names(&self, rel: &str) -> Result<Vec<String>> {
        let path = self.path.join(rel);
        let dir = match sys::open_dir_path(self.root.as_fd(), rel.as_ref()) {
            Err(e) if e.is(Errno::NOENT) => return Ok(Vec::new()),
            other => other.map_err(io("open", &path))?,
        };
        let mut names = Vec::new();
        let each = &mut |e: sys::RawEntry<'_>| names.extend(OsString::from_vec(e.name.to_vec()).into_string());
        sys::read_dir(dir.as_fd(), each).map_err(io("list", &path))?;
        Ok(names)
    }

    /// The path of a layer's directory, and whether it has `user.containers.override_stat`.
    pub fn layer(&self, rel: &str) -> Result<(PathBuf, bool)> {
        let path = self.path.join(rel);
        let dir = sys::open_dir_path(self.root.as_fd(), rel.as_ref()).map_err(io("open", &path))?;
        let mark = sys::xattr::get(At::Fd(dir.as_fd()), OVERRIDE_STAT).map_err(io("read the attributes of", &path))?;
        Ok((path, mark.is_some()))
    }

    /// The path of a directory; `None` when it is not there.
    pub fn directory(&self, rel: &str) -> Result<Option<PathBuf>> {
        let path = self.path.join(rel);
        match sys::open_dir_path(self.root.as_fd(), rel.as_ref()) {
            Err(e) if e.is(Errno::NOENT) => Ok(None),
            opened => opened.map(|_| Some(path.clone())).map_err(io("open", &path)),
        }
    }

    pub fn damaged(&self, rel: &str, why: impl std::fmt::Display) -> Error {
        Error::Damaged { path: self.path.join(rel), why: why.to_string() }
    }

    pub fn not_found(&self, name: &str) -> Error {
        Error::NotFound { name: name.to_owned(), path: self.path.clone() }
    }
}

/// The ids from `top` down, as `below` leads from one to the next; `list` is the file that says so.
pub fn chain(
    storage: &Storage,
    list: &str,
    top: String,
    mut below: impl FnMut(&str) -> Result<Option<String>>,
) -> Result<Vec<String>> {
    let mut ids = vec![top];
    while let Some(id) = ids.last().map_or(Ok(None), |id| below(id))? {
        if ids.len() >= MOST_LAYERS {
            return Err(storage.damaged(list, format!("more than {MOST_LAYERS} layers, or layers in a circle")));
        }
        ids.push(id);
    }
    Ok(ids)
}

fn io(doing: &'static str, path: &Path) -> impl Fn(sys::Error) -> Error {
    move |source| Error::Io { doing, path: path.to_owned(), source: source.into() }
}
