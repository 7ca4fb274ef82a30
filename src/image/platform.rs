//! Which machine an image is for.

use super::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Operating system, processor architecture and variant, in Go's words (`linux`, `amd64`, `arm64`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`; empty when not known.
    #[serde(default, deserialize_with = "super::document::null_default")]
    pub os: String,
    /// `amd64`; empty when not known.
    #[serde(default, deserialize_with = "super::document::null_default")]
    pub architecture: String,
    /// `v8`; empty for none.
    #[serde(default, deserialize_with = "super::document::null_default", skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Only in images for Windows.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Only in images for Windows.
    #[serde(rename = "os.features", default, skip_serializing_if = "Option::is_none")]
    pub os_features: Option<Vec<String>>,
}

impl Platform {
    /// The platform this program was built for.
    #[must_use]
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "arm" => ("arm", "v7"),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", ""),
            arch => normal_architecture(arch),
        };
        Self { os: "linux".into(), architecture: architecture.into(), variant: variant.into(), ..Self::default() }
    }

    /// Whether this says nothing, as the entries of attestations do (`unknown/unknown`).
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        let unknown = |s: &str| s.is_empty() || s == "unknown";
        unknown(&self.os) && unknown(&self.architecture)
    }

    /// How well an image for `offered` serves someone who wants `self`: 0 is exact, larger is worse, none is not at all.
    ///
    /// Without a wanted variant any will do, the architecture's usual one first. For `arm`, older variants than the wanted
    /// one run as well.
    #[must_use]
    pub fn distance(&self, offered: &Self) -> Option<u32> {
        let (want, want_variant) = self.normal();
        let (have, have_variant) = offered.normal();
        let wanted_os = if self.os.is_empty() { "linux" } else { &self.os };
        if wanted_os != offered.os || want != have {
            return None;
        }
        if want_variant == have_variant {
            return Some(0);
        }
        let number = |v: &str| v.strip_prefix('v').and_then(|n| n.parse::<u32>().ok());
        match (number(want_variant), number(have_variant)) {
            (Some(w), Some(h)) if h < w => Some(w - h),
            (Some(_), None) if have_variant.is_empty() => Some(100),
            _ if self.variant.is_empty() => Some(200),
            _ => None,
        }
    }

    /// Architecture and variant with other spellings and defaults resolved.
    fn normal(&self) -> (&str, &str) {
        let (architecture, implied) = normal_architecture(&self.architecture);
        let variant = match (architecture, self.variant.as_str()) {
            ("arm", "") if !implied.is_empty() => implied,
            ("arm", "") => "v7",
            ("arm64", "" | "8" | "v8") => "v8",
            ("amd64", "v1") => "",
            ("arm", "5") => "v5",
            ("arm", "6") => "v6",
            ("arm", "7") => "v7",
            (_, variant) => variant,
        };
        (architecture, variant)
    }

    /// The best of `offered` for this platform, the first of equals; the error lists what there is.
    pub fn choose<'a, T>(&self, offered: impl IntoIterator<Item = (&'a Self, T)>) -> Result<T> {
        let mut best: Option<(u32, T)> = None;
        let mut names: Vec<String> = Vec::new();
        for (platform, value) in offered {
            let name = platform.to_string();
            if names.len() < 100 && !names.contains(&name) {
                names.push(name);
            }
            if let Some(distance) = self.distance(platform)
                && best.as_ref().is_none_or(|(least, _)| distance < *least)
            {
                best = Some((distance, value));
            }
        }
        let available = if names.is_empty() { "nothing".into() } else { names.join(", ") };
        best.map(|(_, value)| value).ok_or_else(|| Error::NoPlatform { wanted: self.to_string(), available })
    }
}

/// An architecture in Go's words, with the variant that its other spelling implies.
fn normal_architecture(architecture: &str) -> (&str, &str) {
    match architecture {
        "x86_64" | "x86-64" => ("amd64", ""),
        "i386" | "i486" | "i586" | "i686" | "x86" => ("386", ""),
        "aarch64" => ("arm64", ""),
        "armhf" => ("arm", "v7"),
        "armel" => ("arm", "v6"),
        "loongarch64" => ("loong64", ""),
        "powerpc64le" => ("ppc64le", ""),
        "powerpc64" => ("ppc64", ""),
        other => (other, ""),
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |w: &str| if w.is_empty() { "unknown".to_owned() } else { super::format::printable(w) };
        write!(f, "{}/{}", word(&self.os), word(&self.architecture))?;
        if !self.variant.is_empty() {
            write!(f, "/{}", word(&self.variant))?;
        }
        Ok(())
    }
}

impl FromStr for Platform {
    type Err = Error;

    /// `os/architecture[/variant]`; a lone architecture is one of Linux.
    fn from_str(text: &str) -> Result<Self> {
        let word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
        let lower = text.to_ascii_lowercase();
        let parts: Vec<&str> = lower.split('/').collect();
        if !parts.iter().all(|p| word(p)) {
            return Err(Error::Platform(text.into()));
        }
        let (os, architecture, variant) = match parts[..] {
            ["linux" | "windows" | "darwin" | "freebsd"] => return Err(Error::Platform(text.into())),
            [architecture] => ("linux", architecture, ""),
            [os, architecture] => (os, architecture, ""),
            [os, architecture, variant] => (os, architecture, variant),
            _ => return Err(Error::Platform(text.into())),
        };
        let (architecture, implied) = normal_architecture(architecture);
        let variant = if variant.is_empty() { implied } else { variant };
        Ok(Self { os: os.into(), architecture: architecture.into(), variant: variant.into(), ..Self::default() })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn platforms_as_they_are_written() {
        let table = [
            ("linux/arm64/v8", "linux/arm64/v8"),
            ("linux/amd64", "linux/amd64"),
            ("Linux/x86_64", "linux/amd64"),
            ("aarch64", "linux/arm64"),
            ("armhf", "linux/arm/v7"),
            ("windows/amd64", "windows/amd64"),
        ];
        for (text, shown) in table {
            assert_eq!(platform(text).to_string(), shown);
        }
        for bad in ["", "/", "linux", "linux/", "linux/arm/v7/x", "a b/c", "../x"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad:?}");
        }
        assert_eq!(Platform::host().os, "linux");
        assert!(!Platform::host().architecture.is_empty());
    }

    #[test]
    fn the_best_variant_is_chosen() {
        let offered =
            ["linux/arm/v5", "linux/arm/v7", "linux/arm64", "linux/arm64/v8", "linux/amd64", "linux/amd64/v3"];
        let offered: Vec<Platform> = offered.iter().map(|t| platform(t)).collect();
        let table = [
            ("linux/arm/v7", Some("linux/arm/v7")),
            ("linux/arm/v6", Some("linux/arm/v5")),
            ("linux/arm", Some("linux/arm/v7")),
            ("linux/arm64", Some("linux/arm64")),
            ("linux/amd64", Some("linux/amd64")),
            ("linux/amd64/v2", Some("linux/amd64")),
            ("linux/amd64/v3", Some("linux/amd64/v3")),
            ("linux/s390x", None),
            ("windows/amd64", None),
        ];
        for (want, expected) in table {
            let chosen = platform(want).choose(offered.iter().map(|p| (p, p.to_string())));
            assert_eq!(chosen.ok().as_deref(), expected, "{want}");
        }
        let e = platform("linux/s390x").choose(offered.iter().map(|p| (p, ()))).unwrap_err();
        assert!(e.to_string().contains("there is: linux/arm/v5, linux/arm/v7, linux/arm64"), "{e}");
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,40}") {
            if let Ok(p) = text.parse::<Platform>() {
                prop_assert_eq!(p.to_string().parse::<Platform>().unwrap(), p);
            }
        }
    }
}
