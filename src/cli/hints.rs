//! What may have been meant by a name that names nothing.

use crate::image::location::Location;
use crate::store::{Error, Store};
use anyhow::anyhow;
use similar::TextDiff;
use std::path::Path;

/// How much of two names must be the same, from 0 to 1: of six letters two that changed places, say.
const ALIKE: f32 = 0.7;

/// So many names are proposed.
const MOST: usize = 3;

/// The transports whose places are paths.
const IN_FILES: [&str; 3] = ["docker-archive", "oci-archive", "oci"];

/// What skopeo can copy from, and nothing here reads.
const ELSEWHERE: [&str; 3] = ["docker://", "docker-daemon:", "dir:"];

/// There is neither a writable layer nor an image of this name: says so, and what there is instead.
pub fn nothing_named(name: &str, store: Option<&Store>) -> anyhow::Error {
    let path = Path::new(name);
    if path.is_file() {
        return anyhow!(
            "there is no image {name}, but a file: name an archive as docker-archive:{name} or oci-archive:{name}"
        );
    }
    if is_layout(path) {
        return anyhow!("there is no image {name}, but an OCI image layout: name it oci:{name}");
    }
    if let Some(why) = elsewhere(name) {
        return anyhow!("{why}, then name it oci:layout");
    }
    let hint = transport(name).map(|meant| format!("; did you mean {meant}?"));
    match hint.or_else(|| did_you_mean(name, images(store?)?.chain(writables(store?)?))) {
        None if path.is_dir() => {
            anyhow!("there is no image {name}, but a directory: name a mount as ./{name}, layers with --lower")
        }
        hint => anyhow!(
            "there is no writable layer and no image {name}; `laminafs ps -a` and `laminafs images` list what there is{}",
            hint.unwrap_or_default()
        ),
    }
}

/// Whether a directory is an OCI image layout.
pub fn is_layout(path: &Path) -> bool {
    path.join("oci-layout").is_file()
}

/// Why what skopeo can copy from is of no use here, and that it can.
pub fn elsewhere(name: &str) -> Option<String> {
    let transport = ELSEWHERE.iter().find(|transport| name.starts_with(**transport))?;
    Some(format!("{transport} is not read here: try skopeo copy {name} oci:layout"))
}

/// What is not in the store, but elsewhere.
pub fn not_in_store(text: &str, place: &Location) -> anyhow::Error {
    let engine = |engine, name| format!("{engine} save {name} | laminafs load");
    let (but, command) = match place {
        Location::ContainersStorage(name) => (", but can be mounted and looked into", engine("podman", name)),
        Location::DockerStore(name) => (", but can be mounted and looked into", engine("docker", name)),
        _ => ("", format!("laminafs load {text}")),
    };
    anyhow!("{text} is not in the store{but}; bring it in with: {command}")
}

/// An error of a command for images of the store, which may say that there is no such image: with images that have names like it, or
/// how what there is of that name becomes one.
pub fn with_hint(error: Error, store: &Store) -> anyhow::Error {
    let hint = match &error {
        Error::NoImage(name) => images(store).and_then(|known| did_you_mean(name, known)).or_else(|| what_it_is(name)),
        _ => None,
    };
    let Some(hint) = hint else { return error.into() };
    // The error itself stays at hand for who looks for it, and is not told twice.
    let text = format!("{error}{hint}");
    anyhow::Error::from(error).context(text)
}

fn what_it_is(name: &str) -> Option<String> {
    let path = Path::new(name);
    let load = |place: &str| format!("; bring it in with: laminafs load {place}");
    match elsewhere(name) {
        Some(why) => Some(format!("; {why}, then laminafs load oci:layout")),
        None if path.is_file() => Some(load(&format!("-i {name}"))),
        None if is_layout(path) => Some(load(&format!("oci:{name}"))),
        None if path.is_dir() => Some("; there is a directory, and those are mounted with --lower".to_owned()),
        None => None,
    }
}

/// Names of images. What cannot be listed is not proposed.
fn images(store: &Store) -> Option<impl Iterator<Item = String>> {
    let images = store.sound_images().ok()?.0;
    Some(images.into_iter().flat_map(|image| image.tags.into_iter().map(|tag| tag.name.familiar())))
}

/// The same of writable layers.
fn writables(store: &Store) -> Option<impl Iterator<Item = String>> {
    Some(store.sound_writables().ok()?.0.into_iter().map(|writable| writable.record.name))
}

/// Names that are like another one.
fn did_you_mean(name: &str, names: impl Iterator<Item = String>) -> Option<String> {
    let mut alike: Vec<_> =
        names.map(|known| (likeness(name, &known), known)).filter(|(how, _)| *how >= ALIKE).collect();
    alike.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let names: Vec<String> = alike.into_iter().take(MOST).map(|(_, name)| name).collect();
    match names.as_slice() {
        [] => None,
        [name] => Some(format!("; did you mean {name}?")),
        several => Some(format!("; did you mean one of {}?", several.join(", "))),
    }
}

fn likeness(name: &str, known: &str) -> f32 {
    let name = name.to_lowercase();
    if name.len() > 2 && known.contains(&name) {
        return 1.0;
    }
    // A tag that was left out is no difference.
    let known = known.rsplit_once(':').filter(|_| !name.contains(':')).map_or(known, |(bare, _)| bare);
    TextDiff::from_chars(name.as_str(), known).ratio()
}

/// The transport that a word before a colon is nearly.
fn transport(name: &str) -> Option<String> {
    let (word, place) = name.split_once(':')?;
    let alike = |known: &&&str| word != **known && TextDiff::from_chars(word, **known).ratio() > 0.85;
    let meant = IN_FILES.iter().find(alike)?;
    Some(format!("{meant}:{place}"))
}

#[cfg(test)]
mod tests {
    use super::{ALIKE, likeness, transport};

    #[test]
    fn names_that_are_alike() {
        for (name, known) in
            [("debain:12", "debian:12"), ("debain", "debian:12"), ("Web", "web:1"), ("web", "ghcr.io/a/web:2")]
        {
            assert!(likeness(name, known) >= ALIKE, "{name} {known}");
        }
        for (name, known) in [("nope", "alpine:3"), ("a", "alpine"), ("redis:7", "debian:12")] {
            assert!(likeness(name, known) < ALIKE, "{name} {known}");
        }
        assert_eq!(transport("docker-archve:a.tar").as_deref(), Some("docker-archive:a.tar"));
        assert_eq!(transport("oci_archive:a.tar:x").as_deref(), Some("oci-archive:a.tar:x"));
        assert_eq!((transport("web:1"), transport("web")), (None, None));
    }
}
