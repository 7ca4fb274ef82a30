//! What a TARGET argument says: where something is, and how many of its layers are meant.

use super::mounted::is_path;
use crate::image::location::{ImageArg, Location};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What the text of a target says, before anything is looked at.
#[derive(Debug)]
pub struct Place {
    /// As it was given.
    pub text: String,
    /// Where that is.
    pub at: At,
    /// How many layers are wanted, the lowest; all of them for `None`.
    pub layers: Option<usize>,
}

/// Where something is to be found.
#[derive(Debug, PartialEq, Eq)]
pub enum At {
    /// The path of a mount.
    Mount(PathBuf),
    /// Anything with a name.
    Image(Location),
}

impl Place {
    /// Reads the text.
    pub fn parse(text: &OsStr) -> anyhow::Result<Self> {
        let (at, layers) = if is_path(text) {
            let (path, layers) = first_layers(Path::new(text));
            (At::Mount(path), layers)
        } else {
            let ImageArg { mut location, mut layers } = ImageArg::parse(text)?;
            if let Location::Oci { path, reference }
            | Location::OciArchive { path, reference }
            | Location::DockerArchive { path, reference } = &mut location
            {
                layers = first_layers_in_archive(path, reference);
            }
            (At::Image(location), layers)
        };
        Ok(Self { text: text.to_string_lossy().into_owned(), at, layers })
    }

    /// Whether it is the same as another but for the layers.
    pub fn is_beside(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

/// Takes the number off `FILE[:NAME]@N`.
fn first_layers_in_archive(path: &mut PathBuf, reference: &mut Option<String>) -> Option<usize> {
    let (file, of_file) = first_layers(path);
    *path = file;
    let numbered = reference.as_deref().and_then(|text| text.rsplit_once('@'));
    let numbered = numbered.and_then(|(name, number)| Some((name, number.parse().ok().filter(|number| *number > 0)?)));
    let Some((name, number)) = numbered else { return of_file };
    *reference = Some(name.to_owned()).filter(|name| !name.is_empty());
    Some(number)
}

/// `FILE@N` or `MOUNTPOINT@N`, unless there is a file of that very name.
fn first_layers(path: &Path) -> (PathBuf, Option<usize>) {
    let bytes = path.as_os_str().as_bytes();
    let parsed = bytes.iter().rposition(|b| *b == b'@').and_then(|at| {
        let number = std::str::from_utf8(&bytes[at + 1..]).ok()?.parse().ok().filter(|number| *number > 0)?;
        Some((PathBuf::from(OsStr::from_bytes(&bytes[..at])), number))
    });
    match parsed {
        Some((file, number)) if !path.exists() => (file, Some(number)),
        _ => (path.to_owned(), None),
    }
}
