//! Names of images, as Docker reads them.

use super::digest::{Digest, DigestError};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

const DEFAULT_REGISTRY: &str = "docker.io";
const OFFICIAL: &str = "library";
const DEFAULT_TAG: &str = "latest";
/// The registry of images that were loaded under a bare tag.
const LOCAL_REGISTRY: &str = "localhost";
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// Why a text is no [`Reference`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{name}' is not an image name: {why}")]
pub struct ReferenceError {
    /// The text, shortened.
    pub name: String,
    /// Which rule it breaks.
    pub why: String,
}

/// The name of an image: registry, repository, and a tag or digest.
///
/// `alpine` is `docker.io/library/alpine:latest`. [`Display`](fmt::Display) writes the whole name,
/// [`Reference::familiar`] the short one that Docker shows. A name is not an image id: whether `deadbeef` means an id is
/// for the store to find out, before or after it is read as a name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The registry, with its port: `docker.io`, `localhost:5000`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository in its registry: `library/alpine`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Registry and repository: `docker.io/library/alpine`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The tag. Without it there is a digest.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest after `@`: that of a manifest or an index, not an image id.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The name without registry and `library/` where those are the defaults: `alpine`, `quay.io/a/b`.
    #[must_use]
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return self.name();
        }
        let official = self.repository.strip_prefix("library/").filter(|rest| !rest.contains('/'));
        let short = official.unwrap_or(&self.repository);
        // docker.io/a.b/c must not become a.b/c, which is another registry.
        let same = split_registry(short) == (DEFAULT_REGISTRY, self.repository.clone());
        if same { short.to_owned() } else { self.name() }
    }

    /// The short form that Docker shows: `alpine:latest`. Parsing it gives the same reference.
    #[must_use]
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    fn with_suffix(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = self.digest {
            name.push('@');
            name.push_str(&digest.to_string());
        }
        name
    }

    /// The name of an image in an OCI layout or archive from its `org.opencontainers.image.ref.name`.
    ///
    /// A value with `/`, `:` or `@` is a name like any other. A bare word is a tag, and `container` (the directory or
    /// archive) gives the repository: `oci:/srv/Busy Box:test` is `localhost/busy-box:test`.
    pub fn from_ref_name(value: &str, container: &Path) -> Result<Self, ReferenceError> {
        if value.contains(['/', ':', '@']) {
            return value.parse();
        }
        check_tag(value).map_err(|why| error(value, why))?;
        Ok(Self {
            registry: LOCAL_REGISTRY.into(),
            repository: repository_of(container),
            tag: Some(value.into()),
            digest: None,
        })
    }
}

/// A repository name from the last component of a path, without the suffixes of archives.
fn repository_of(container: &Path) -> String {
    let name = container.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
    let mut stem = name.as_str();
    for suffix in [".gz", ".tgz", ".zst", ".tar", ".oci"] {
        stem = stem.strip_suffix(suffix).filter(|s| !s.is_empty()).unwrap_or(stem);
    }
    let mut repository = String::new();
    for c in stem.chars() {
        if c.is_ascii_alphanumeric() {
            repository.push(c);
        } else if repository.ends_with(|last: char| last.is_ascii_alphanumeric()) {
            repository.push(if c == '_' || c == '.' { c } else { '-' });
        }
    }
    repository.truncate(MAX_NAME - LOCAL_REGISTRY.len() - 1);
    let trimmed = repository.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
    if trimmed.is_empty() { "image".into() } else { trimmed.into() }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(self.name()))
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        parse(text).map_err(|why| error(text, why))
    }
}

impl serde::Serialize for Reference {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Reference {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

fn error(text: &str, why: String) -> ReferenceError {
    ReferenceError { name: text.chars().take(300).collect(), why }
}

fn parse(text: &str) -> Result<Reference, String> {
    if text.is_empty() {
        return Err("it is empty".into());
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse().map_err(|e: DigestError| e.to_string())?)),
        None => (text, None),
    };
    // A colon before the last slash belongs to the port of the registry.
    let path_start = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match rest[path_start..].rfind(':') {
        Some(colon) => (&rest[..path_start + colon], Some(&rest[path_start + colon + 1..])),
        None => (rest, None),
    };
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    if name.len() == 64 && Digest::from_hex(name).is_some() {
        return Err("64 hexadecimal digits are an image id".into());
    }
    let (registry, repository) = split_registry(name);
    check_registry(registry)?;
    check_repository(&repository)?;
    if registry.len() + 1 + repository.len() > MAX_NAME {
        return Err(format!("it is longer than {MAX_NAME} characters"));
    }
    let tag = match (tag, digest) {
        (None, None) => Some(DEFAULT_TAG.to_owned()),
        (tag, _) => tag.map(str::to_owned),
    };
    Ok(Reference { registry: registry.into(), repository, tag, digest })
}

/// The first component is a registry when it has a dot, a port or an upper-case letter, or is `localhost`.
fn split_registry(name: &str) -> (&str, String) {
    let (registry, repository) = match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':', '[']) || first == LOCAL_REGISTRY || first.to_lowercase() != first =>
        {
            (first, rest)
        }
        _ => (DEFAULT_REGISTRY, name),
    };
    let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
    if registry == DEFAULT_REGISTRY && !repository.contains('/') {
        return (registry, format!("{OFFICIAL}/{repository}"));
    }
    (registry, repository.to_owned())
}

fn check_registry(registry: &str) -> Result<(), String> {
    let bad = || Err(format!("'{registry}' is not a host name with an optional port"));
    let (host, port) = match registry.rfind(':').filter(|colon| !registry[*colon..].contains(']')) {
        Some(colon) => (&registry[..colon], Some(&registry[colon + 1..])),
        None => (registry, None),
    };
    if port.is_some_and(|p| p.is_empty() || p.len() > 5 || !p.bytes().all(|b| b.is_ascii_digit())) {
        return bad();
    }
    if let Some(address) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        let fine = address.parse::<std::net::Ipv6Addr>().is_ok();
        return if fine { Ok(()) } else { bad() };
    }
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if host.split('.').all(label) { Ok(()) } else { bad() }
}

fn check_repository(repository: &str) -> Result<(), String> {
    for component in repository.split('/') {
        if component.is_empty() {
            return Err("a part of it between slashes is empty".into());
        }
        if component.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err("repository names are lower case".into());
        }
        if !is_repository_component(component) {
            return Err(format!(
                "'{component}' may have lower-case letters and digits, joined by '.', '_', '__' or hyphens"
            ));
        }
    }
    Ok(())
}

fn is_repository_component(component: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    if !bytes.first().copied().is_some_and(word) || !bytes.last().copied().is_some_and(word) {
        return false;
    }
    let joints = component.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    joints.into_iter().all(|joint| matches!(joint, "" | "." | "_" | "__") || joint.bytes().all(|b| b == b'-'))
}

fn check_tag(tag: &str) -> Result<(), String> {
    let first = tag.bytes().next();
    let fine = first.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        && tag.len() <= MAX_TAG
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if fine {
        return Ok(());
    }
    Err(format!(
        "the tag '{tag}' may have letters, digits, '_', '.' and '-', at most {MAX_TAG}, none of the last two first"
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_as_docker_reads_them() {
        let table = [
            ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("alpine:3.19", "docker.io/library/alpine:3.19", "alpine:3.19"),
            ("library/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("index.docker.io/library/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("user/app", "docker.io/user/app:latest", "user/app:latest"),
            ("library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"),
            ("quay.io/a/b/c:1", "quay.io/a/b/c:1", "quay.io/a/b/c:1"),
            ("localhost/web", "localhost/web:latest", "localhost/web:latest"),
            ("localhost:5000/web:2", "localhost:5000/web:2", "localhost:5000/web:2"),
            ("registry:5000", "docker.io/library/registry:5000", "registry:5000"),
            ("HOST/web", "HOST/web:latest", "HOST/web:latest"),
            ("[2001:db8::1]:5000/web", "[2001:db8::1]:5000/web:latest", "[2001:db8::1]:5000/web:latest"),
            ("[::1]/web", "[::1]/web:latest", "[::1]/web:latest"),
            ("a__b/c--d.e_f", "docker.io/a__b/c--d.e_f:latest", "a__b/c--d.e_f:latest"),
            ("oci-fan/app", "docker.io/oci-fan/app:latest", "oci-fan/app:latest"),
        ];
        for (text, whole, familiar) in table {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), whole, "{text}");
            assert_eq!(reference.familiar(), familiar, "{text}");
        }
    }

    #[test]
    fn digests_in_names() {
        let reference: Reference = format!("alpine@{DIGEST}").parse().unwrap();
        assert_eq!((reference.tag(), reference.digest()), (None, Some(DIGEST.parse().unwrap())));
        assert_eq!(reference.to_string(), format!("docker.io/library/alpine@{DIGEST}"));
        let both: Reference = format!("h:1/a:t@{DIGEST}").parse().unwrap();
        assert_eq!((both.tag(), both.name().as_str()), (Some("t"), "h:1/a"));
        assert_eq!(both.familiar(), format!("h:1/a:t@{DIGEST}"));
    }

    #[test]
    fn what_is_no_name() {
        let long = "a/".repeat(200) + "b";
        let bad = [
            "",
            ":tag",
            "Alpine",
            "a//b",
            "/a",
            "a/",
            "a:",
            "a:b:c",
            "a@",
            "a@3",
            "a@sha256:short",
            "a:-t",
            "a:.t",
            "a b",
            "a/../b",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a._b",
            "a.com:x/b",
            "a.com:/b",
            "-.com/b",
            "[::g]/b",
            "é",
            &DIGEST[7..],
            &long,
            "a\u{0}b",
        ];
        for text in bad {
            assert!(text.parse::<Reference>().is_err(), "{text:?}");
        }
        let e = "a@sha512:00".parse::<Reference>().unwrap_err();
        assert!(e.to_string().contains("only sha256"), "{e}");
        assert!(format!("a:{}", "t".repeat(129)).parse::<Reference>().is_err());
        assert!(format!("a:{}", "t".repeat(128)).parse::<Reference>().is_ok());
    }

    #[test]
    fn bare_tags_take_the_containers_name() {
        let table = [
            ("test", "/srv/busybox", "localhost/busybox:test"),
            ("latest", "Busy Box.tar.gz", "localhost/busy-box:latest"),
            ("1", "/tmp/..", "localhost/image:1"),
            ("1", "/tmp/--x__y..z--", "localhost/x_y.z:1"),
            ("1", ".tar", "localhost/tar:1"),
            ("alpine:3", "dir", "docker.io/library/alpine:3"),
            ("quay.io/a/b", "dir", "quay.io/a/b:latest"),
        ];
        for (value, container, whole) in table {
            let reference = Reference::from_ref_name(value, Path::new(container)).unwrap();
            assert_eq!(reference.to_string(), whole, "{value} in {container}");
            assert_eq!(whole.parse::<Reference>().unwrap(), reference);
        }
        for value in ["", "../x", "a b", "-t", "../../etc:1"] {
            assert!(Reference::from_ref_name(value, Path::new("dir")).is_err(), "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,100}", path in "\\PC{0,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
            }
            if let Ok(reference) = Reference::from_ref_name(&text, Path::new(&path)) {
                prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
            }
        }

        #[test]
        fn round_trip(
            registry in "([a-z0-9]{1,5}(\\.[a-z]{2,3}|:[0-9]{1,4})/)?",
            path in "[a-z0-9]{1,5}(/[a-z0-9]{1,5}([._-][a-z0-9]{1,3}){0,2}){0,3}",
            tag in "(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,20})?",
            digest in any::<Option<[u8; 32]>>(),
        ) {
            let digest = digest.map(|d| format!("@{}", Digest::from_bytes(d))).unwrap_or_default();
            let reference: Reference = format!("{registry}{path}{tag}{digest}").parse().unwrap();
            prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference.clone());
            prop_assert_eq!(reference.familiar().parse::<Reference>().unwrap(), reference.clone());
            let json = serde_json::to_string(&reference).unwrap();
            prop_assert_eq!(serde_json::from_str::<Reference>(&json).unwrap(), reference);
        }
    }
}
