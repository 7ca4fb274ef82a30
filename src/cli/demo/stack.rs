//! The stack that the demonstration mounts, and how it and what becomes of it are listed.

use super::digest;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The lower layers, topmost first.
pub const LAYERS: [&str; 3] = ["top", "middle", "base"];

/// The directories of the demonstration inside a temporary one, which goes away on drop.
pub struct Stack {
    dir: tempfile::TempDir,
    kept: bool,
}

impl Stack {
    /// Makes the layers, an empty upper and work directory, and the mount point.
    pub fn build() -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("laminafs-demo-").tempdir()?;
        let stack = Self { dir, kept: false };
        for (path, text) in [
            ("base/bin/tool", "#!/bin/sh\n"),
            ("base/etc/app.conf", "colour = blue\n"),
            ("base/etc/motd", "Welcome.\n"),
            ("base/etc/obsolete.conf", "gone = soon\n"),
            ("base/share/doc/chapter-1.txt", "Old.\n"),
            ("base/share/doc/chapter-2.txt", "Old.\n"),
            ("base/share/icon.txt", "+\n"),
            ("base/cache/a", "1\n"),
            // A whiteout, in the form of container images: hides the file of that name below.
            ("middle/etc/.wh.obsolete.conf", ""),
            // The same form of an opaque directory: hides everything that the directory holds below.
            ("middle/share/doc/.wh..wh..opq", ""),
            ("middle/share/doc/manual.txt", "New.\n"),
            ("middle/cache/b", "2\n"),
            // Shadows the file of the base.
            ("top/etc/app.conf", "colour = green\n"),
            ("top/share/logo.txt", "*\n"),
        ] {
            let path = stack.path(path);
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(path, text)?;
        }
        fs::hard_link(stack.path("base/bin/tool"), stack.path("base/bin/tool-link"))?;
        ["upper", "work", "merged"].iter().try_for_each(|name| fs::create_dir(stack.path(name)))?;
        Ok(stack)
    }

    /// A path inside the temporary directory.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.dir.path().join(inside)
    }

    /// The lower layers, topmost first.
    pub fn lowers(&self) -> Vec<PathBuf> {
        LAYERS.iter().map(|layer| self.path(layer)).collect()
    }

    /// What `laminafs mount` is called with.
    pub fn arguments(&self) -> Vec<String> {
        let lowers = LAYERS.iter().map(|layer| ("--lower", *layer));
        let pairs = lowers.chain([("--upper", "upper"), ("--work", "work")]);
        let mut all: Vec<_> =
            pairs.flat_map(|(flag, dir)| [flag.to_owned(), self.path(dir).display().to_string()]).collect();
        all.push(self.path("merged").display().to_string());
        all
    }

    /// The layers that make up an entry of the merged tree in which nothing was changed: all that have a directory, down
    /// to one that is opaque, and the topmost for anything else.
    pub fn layers_of(&self, entry: &Path) -> Vec<&'static str> {
        let mut found = Vec::new();
        for layer in LAYERS {
            let path = self.path(layer).join(entry);
            let Ok(seen) = fs::symlink_metadata(&path) else { continue };
            found.push(layer);
            if !seen.is_dir() || path.join(".wh..wh..opq").exists() {
                break;
            }
        }
        found
    }

    /// Leaves the directories where they are, also on [`Stack::close`] and drop.
    pub fn keep(&mut self) -> &Path {
        self.kept = true;
        self.dir.disable_cleanup(true);
        self.dir.path()
    }

    /// Removes the directories, unless they are kept.
    pub fn close(self) -> io::Result<()> {
        // `close` would remove the directory in either case.
        if self.kept { Ok(()) } else { self.dir.close() }
    }
}

/// All entries below a directory, depth first, sorted by name.
pub fn walk(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut entries = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    let mut all = Vec::new();
    for entry in entries {
        let is_dir = fs::symlink_metadata(&entry)?.is_dir();
        all.push(entry.clone());
        if is_dir {
            all.extend(walk(&entry)?);
        }
    }
    Ok(all)
}

/// One row for each entry below a directory: its path and what it is.
pub fn list(dir: &Path, row: &mut dyn FnMut(String) -> anyhow::Result<()>) -> anyhow::Result<()> {
    for path in walk(dir)? {
        let shown = path.strip_prefix(dir)?.display().to_string();
        let what = describe(&path)?;
        row(format!("{shown:<30} {what}").trim_end().to_owned())?;
    }
    Ok(())
}

/// The type of an entry and the markers on it.
fn describe(path: &Path) -> anyhow::Result<String> {
    let seen = fs::symlink_metadata(path)?;
    let kind = seen.file_type();
    let mut words = Vec::new();
    match path.file_name().and_then(|name| name.to_str()) {
        Some(".wh..wh..opq") => words.push("marks the directory opaque".to_owned()),
        Some(name) if name.starts_with(".wh.") => words.push(format!("whiteout of {}", &name[4..])),
        _ if kind.is_char_device() && seen.rdev() == 0 => words.push("whiteout".to_owned()),
        _ if kind.is_dir() => words.push("directory".to_owned()),
        _ => words.push(format!("{} bytes", seen.len())),
    }
    if kind.is_file() && seen.nlink() > 1 {
        words.push(format!("{} links", seen.nlink()));
    }
    for (name, value) in digest::attributes(path)? {
        let name = name.to_string_lossy();
        match std::str::from_utf8(&value) {
            Ok(text) if !text.contains(char::is_control) => words.push(format!("{name}={text}")),
            _ => words.push(format!("{name} ({} bytes)", value.len())),
        }
    }
    Ok(words.join(", "))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn provenance_of_the_merged_entries() {
        let stack = Stack::build().unwrap();
        let of = |path: &str| stack.layers_of(Path::new(path)).join(" ");
        assert_eq!(of("etc"), "top middle base");
        assert_eq!(of("etc/app.conf"), "top");
        assert_eq!(of("etc/motd"), "base");
        assert_eq!(of("share/doc"), "middle");
        assert_eq!(of("cache"), "middle base");
    }

    #[test]
    fn listing_names_markers() {
        let stack = Stack::build().unwrap();
        let mut rows = Vec::new();
        list(&stack.path("middle"), &mut |row| {
            rows.push(row);
            Ok(())
        })
        .unwrap();
        assert!(rows.iter().any(|r| r.contains(".wh.obsolete.conf") && r.ends_with("whiteout of obsolete.conf")));
        assert!(rows.iter().any(|r| r.ends_with("marks the directory opaque")));
    }

    #[test]
    fn directories_go_away_unless_kept() {
        let stack = Stack::build().unwrap();
        let path = stack.path("");
        drop(stack);
        assert!(!path.exists());
        let mut stack = Stack::build().unwrap();
        let kept = stack.keep().to_path_buf();
        stack.close().unwrap();
        assert!(kept.exists());
        fs::remove_dir_all(kept).unwrap();
    }
}
