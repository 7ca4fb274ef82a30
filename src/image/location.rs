//! Where an image argument points: a name in the store, or a transport and a place.

use super::error::{Error, Result};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// An image argument of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageArg {
    /// Where the image is.
    pub location: Location,
    /// `@N`: only the first `N` layers. Not with `oci:` and the archives, where `@` may be part of a path.
    pub layers: Option<usize>,
}

/// Where an image is.
///
/// The words before the first colon are transports, never image names: `oci:tag` is the directory `tag`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// In the store: a name or the beginning of an id, which the store tells apart.
    Store(String),
    /// `oci:DIR[:REF]`: an OCI image layout.
    Oci {
        /// The layout's directory.
        path: PathBuf,
        /// A ref.name or image name in it.
        reference: Option<String>,
    },
    /// `oci-archive:FILE[:REF]`: a tar of an OCI image layout.
    OciArchive {
        /// The archive.
        path: PathBuf,
        /// A ref.name or image name in it.
        reference: Option<String>,
    },
    /// `docker-archive:FILE[:REF]`: what `docker save` writes.
    DockerArchive {
        /// The archive.
        path: PathBuf,
        /// An image name in it.
        reference: Option<String>,
    },
    /// `containers-storage:NAME`: an image in the storage of podman and buildah.
    ContainersStorage(String),
    /// `docker-store:NAME`: an image in Docker's own storage.
    DockerStore(String),
}

impl ImageArg {
    /// Reads an argument. In `TRANSPORT:PATH:REF` the path ends at its first colon.
    pub fn parse(argument: &OsStr) -> Result<Self> {
        let bytes = argument.as_bytes();
        let (word, rest) = match bytes.iter().position(|b| *b == b':') {
            Some(colon) => (&bytes[..colon], &bytes[colon + 1..]),
            None => (&[][..], bytes),
        };
        let location = match word {
            b"oci" => path_and_reference(argument, rest).map(|(path, reference)| Location::Oci { path, reference })?,
            b"oci-archive" => {
                path_and_reference(argument, rest).map(|(path, reference)| Location::OciArchive { path, reference })?
            }
            b"docker-archive" => path_and_reference(argument, rest)
                .map(|(path, reference)| Location::DockerArchive { path, reference })?,
            b"containers-storage" => return named(argument, rest, Location::ContainersStorage),
            b"docker-store" => return named(argument, rest, Location::DockerStore),
            _ => return named(argument, bytes, Location::Store),
        };
        Ok(Self { location, layers: None })
    }
}

fn fail(argument: &OsStr, why: &str) -> Error {
    Error::Location { text: argument.to_string_lossy().into_owned(), why: why.into() }
}

fn path_and_reference(argument: &OsStr, rest: &[u8]) -> Result<(PathBuf, Option<String>)> {
    let (path, reference) = match rest.iter().position(|b| *b == b':') {
        Some(colon) => (&rest[..colon], Some(&rest[colon + 1..])),
        None => (rest, None),
    };
    if path.is_empty() {
        return Err(fail(argument, "the path after the transport is empty"));
    }
    let reference = match reference.map(std::str::from_utf8) {
        None => None,
        Some(Ok("")) => return Err(fail(argument, "the name after the path is empty")),
        Some(Ok(text)) => Some(text.to_owned()),
        Some(Err(_)) => return Err(fail(argument, "the name after the path is not UTF-8")),
    };
    Ok((PathBuf::from(OsStr::from_bytes(path)), reference))
}

fn named(argument: &OsStr, name: &[u8], make: fn(String) -> Location) -> Result<ImageArg> {
    let name = std::str::from_utf8(name).map_err(|_| fail(argument, "it is not UTF-8"))?;
    let (name, layers) = match name.rsplit_once('@') {
        Some((name, count)) if !count.is_empty() && count.bytes().all(|b| b.is_ascii_digit()) => {
            let layers: usize = count.parse().map_err(|_| fail(argument, "the number of layers is too large"))?;
            if layers == 0 {
                return Err(fail(argument, "the number of layers after '@' counts from 1"));
            }
            (name, Some(layers))
        }
        _ => (name, None),
    };
    if name.is_empty() {
        return Err(fail(argument, "the name is empty"));
    }
    Ok(ImageArg { location: make(name.to_owned()), layers })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<ImageArg> {
        ImageArg::parse(OsStr::new(text))
    }

    fn store(name: &str, layers: Option<usize>) -> ImageArg {
        ImageArg { location: Location::Store(name.into()), layers }
    }

    #[test]
    fn names_and_layer_counts() {
        let digest = "a@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(parse("alpine").unwrap(), store("alpine", None));
        assert_eq!(parse("alpine:3@12").unwrap(), store("alpine:3", Some(12)));
        assert_eq!(parse("h:5000/a:t@1").unwrap(), store("h:5000/a:t", Some(1)));
        assert_eq!(parse(digest).unwrap(), store(digest, None));
        assert_eq!(parse(&format!("{digest}@2")).unwrap(), store(digest, Some(2)));
        assert_eq!(parse("ocifant:x").unwrap(), store("ocifant:x", None));
        assert_eq!(parse("a@x3").unwrap(), store("a@x3", None));
        let podman = parse("containers-storage:localhost/web:2@3").unwrap();
        assert_eq!(podman.location, Location::ContainersStorage("localhost/web:2".into()));
        assert_eq!(podman.layers, Some(3));
        assert_eq!(parse("docker-store:web").unwrap().location, Location::DockerStore("web".into()));
    }

    #[test]
    fn transports_with_paths() {
        let oci = |path: &str, reference: Option<&str>| Location::Oci {
            path: path.into(),
            reference: reference.map(str::to_owned),
        };
        assert_eq!(parse("oci:dir").unwrap().location, oci("dir", None));
        assert_eq!(parse("oci:/a/b@3:alpine:3").unwrap().location, oci("/a/b@3", Some("alpine:3")));
        let file = PathBuf::from("f.tar");
        let reference = Some("r".to_owned());
        let archive = Location::OciArchive { path: file.clone(), reference: reference.clone() };
        assert_eq!(parse("oci-archive:f.tar:r").unwrap().location, archive);
        let archive = Location::DockerArchive { path: file, reference };
        assert_eq!(parse("docker-archive:f.tar:r").unwrap().location, archive);
        let raw = ImageArg::parse(OsStr::from_bytes(b"oci:\xff:t")).unwrap().location;
        let Location::Oci { path, .. } = raw else { unreachable!() };
        assert_eq!(path.as_os_str().as_bytes(), b"\xff");
    }

    #[test]
    fn what_names_nothing() {
        for bad in
            ["", "oci:", "oci::x", "oci:d:", "docker-archive:", "@3", "a@0", "docker-store:", "a@99999999999999999999"]
        {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert!(ImageArg::parse(OsStr::from_bytes(b"\xff")).is_err());
    }

    proptest! {
        #[test]
        fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40), text in "(oci|docker-archive|docker-store)?[:@a/0-9]{0,12}") {
            let raw = ImageArg::parse(OsStr::from_bytes(&bytes));
            let worded = ImageArg::parse(OsStr::new(&text));
            prop_assert!(raw.is_ok() || raw.is_err());
            prop_assert!(worded.is_ok() || worded.is_err());
        }
    }
}
