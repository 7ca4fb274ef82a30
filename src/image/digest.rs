//! Content addresses: the digest of a blob, of an unpacked layer (diff id) and of a stack of layers (chain id).

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

/// Why a text is no [`Digest`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Not of the form `algorithm:encoded`, or `sha256` with other than 64 lower-case hexadecimal digits.
    #[error("'{0}' is not a digest; it should be sha256: and 64 lower-case hexadecimal digits")]
    Malformed(String),
    /// A digest of an algorithm that cannot be verified here.
    #[error("digest '{0}' uses an algorithm that laminafs does not verify; only sha256 is accepted")]
    Algorithm(String),
}

/// The SHA-256 of some bytes: the only kind of content address here, and the only type of which a path may be made.
///
/// Its text is `sha256:` and 64 lower-case hexadecimal digits; nothing else is ever parsed into it, so it holds neither
/// `/` nor `..`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// A digest from its 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// From exactly 64 lower-case hexadecimal digits, as in a file name; nothing for anything else.
    #[must_use]
    pub fn from_hex(hex: &str) -> Option<Self> {
        let digits = hex.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Self(bytes))
    }

    /// The 32 bytes of it.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 64 lower-case hexadecimal digits without the algorithm: a file name.
    #[must_use]
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.0.iter().flat_map(|b| [b >> 4, b & 15]).map(|n| char::from(DIGITS[usize::from(n)])).collect()
    }

    /// The first 12 digits, as Docker shows ids.
    #[must_use]
    pub fn short(&self) -> String {
        let mut hex = self.hex();
        hex.truncate(12);
        hex
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Whether `text` follows the grammar of digests of any algorithm (image specification, descriptor.md).
fn is_any_digest(text: &str) -> bool {
    let Some((algorithm, encoded)) = text.split_once(':') else { return false };
    let component = |c: &str| !c.is_empty() && c.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    algorithm.split(['+', '.', '_', '-']).all(component)
        && !encoded.is_empty()
        && encoded.bytes().all(|b| b.is_ascii_alphanumeric() || b"=_-".contains(&b))
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        if let Some(digest) = text.strip_prefix("sha256:").and_then(Self::from_hex) {
            return Ok(digest);
        }
        let shown: String = text.chars().take(200).collect();
        if is_any_digest(text) && !text.starts_with("sha256:") {
            return Err(DigestError::Algorithm(shown));
        }
        Err(DigestError::Malformed(super::format::printable(&shown)))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A digest where other algorithms than SHA-256 are no error until the blob is wanted: entries of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnyDigest {
    /// One that can be verified.
    Sha256(Digest),
    /// A well-formed digest of another algorithm.
    Other(String),
}

impl AnyDigest {
    /// The digest; [`DigestError::Algorithm`] when it is not SHA-256.
    pub fn sha256(&self) -> Result<Digest, DigestError> {
        match self {
            Self::Sha256(digest) => Ok(*digest),
            Self::Other(text) => Err(DigestError::Algorithm(text.clone())),
        }
    }
}

impl fmt::Display for AnyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(digest) => digest.fmt(f),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl Serialize for AnyDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AnyDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.parse() {
            Ok(digest) => Ok(Self::Sha256(digest)),
            Err(DigestError::Algorithm(_)) => Ok(Self::Other(text)),
            Err(e) => Err(D::Error::custom(e)),
        }
    }
}

macro_rules! digest_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Digest);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = DigestError;

            fn from_str(text: &str) -> Result<Self, DigestError> {
                text.parse().map(Self)
            }
        }
    };
}

digest_newtype! {
    /// The digest of a layer's uncompressed tar stream, to its last byte.
    DiffId
}

digest_newtype! {
    /// The identity of a layer together with all layers below it.
    ChainId
}

impl ChainId {
    /// The chain that consists of `layer` alone.
    #[must_use]
    pub fn base(layer: DiffId) -> Self {
        Self(layer.0)
    }

    /// This chain with `layer` on top.
    #[must_use]
    pub fn with(self, layer: DiffId) -> Self {
        Self(Digest::of(format!("{self} {layer}").as_bytes()))
    }

    /// The chain id at each layer, the lowest layer first.
    #[must_use]
    pub fn of_layers(layers: &[DiffId]) -> Vec<Self> {
        let mut chains: Vec<Self> = Vec::with_capacity(layers.len());
        for layer in layers {
            let chain = chains.last().map_or_else(|| Self::base(*layer), |below| below.with(*layer));
            chains.push(chain);
        }
        chains
    }
}

/// Hashes and counts the bytes given to it, through [`Write`] or [`Hashing::update`].
#[derive(Debug, Clone, Default)]
pub struct Hashing {
    state: Sha256,
    count: u64,
}

impl Hashing {
    /// Nothing hashed yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.count += bytes.len() as u64;
    }

    /// How many bytes were added.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The digest of all bytes added.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest(self.state.finalize().into())
    }
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A reader that hashes and counts what passes through it.
#[derive(Debug)]
pub struct HashingReader<R> {
    inner: R,
    hashing: Hashing,
}

impl<R: Read> HashingReader<R> {
    /// Hashes what is read from `inner` from now on.
    pub fn new(inner: R) -> Self {
        Self { inner, hashing: Hashing::new() }
    }

    /// How many bytes were read.
    pub fn count(&self) -> u64 {
        self.hashing.count()
    }

    /// The digest and number of the bytes read so far; what the caller did not read is not in them.
    pub fn finish(self) -> (Digest, u64) {
        let count = self.hashing.count();
        (self.hashing.finish(), count)
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.hashing.update(&buf[..n]);
        Ok(n)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digest_of_known_bytes() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        let object = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        assert_eq!(Digest::of(b"{}").hex(), object);
        assert_eq!(Digest::of(b"{}").short(), &object[..12]);
        assert_eq!(Digest::from_hex(object), Some(Digest::of(b"{}")));
    }

    #[test]
    fn only_lower_case_sha256_is_a_digest() {
        assert_eq!(EMPTY.parse::<Digest>().unwrap().to_string(), EMPTY);
        let bad = [
            String::new(),
            "sha256:".into(),
            EMPTY.to_uppercase(),
            EMPTY.replace("e3b0", "E3B0"),
            EMPTY[7..].into(),
            format!("{EMPTY}0"),
            format!("{EMPTY}\n"),
            format!(" {EMPTY}"),
            EMPTY.replace("e3b0", "../."),
            "sha256:../../../../etc/passwd".into(),
            "md5 :x".into(),
            "a:".into(),
        ];
        for text in bad {
            assert!(matches!(text.parse::<Digest>(), Err(DigestError::Malformed(_))), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_digest_does_not_steer_the_terminal() {
        let e = "sha256:\u{7f}\u{1b}[2J".parse::<Digest>().unwrap_err().to_string();
        assert!(!e.contains(char::is_control) && e.contains("[2J"), "{e}");
    }

    #[test]
    fn other_algorithms_are_named_in_the_error() {
        let sha512 = format!("sha512:{}", "ab".repeat(64));
        for text in [sha512.as_str(), "blake3:abc", "sha256+b64u:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564"] {
            assert_eq!(text.parse::<Digest>(), Err(DigestError::Algorithm(text.into())));
            let any: AnyDigest = serde_json::from_str(&format!("\"{text}\"")).unwrap();
            assert_eq!(any.to_string(), text);
            assert!(any.sha256().is_err());
        }
        assert!(serde_json::from_str::<AnyDigest>("\"sha256:../x\"").is_err());
    }

    #[test]
    fn chain_ids_of_a_stack() {
        let a = DiffId(Digest::of(b"a"));
        let b = DiffId(Digest::of(b"b"));
        let chains = ChainId::of_layers(&[a, b, a]);
        assert_eq!(chains[0].0, a.0);
        assert_eq!(chains[1].0, Digest::of(format!("{a} {b}").as_bytes()));
        assert_eq!(chains[2].0, Digest::of(format!("{} {a}", chains[1]).as_bytes()));
        assert!(ChainId::of_layers(&[]).is_empty());
    }

    #[test]
    fn hashing_while_reading_and_writing() {
        let mut reader = HashingReader::new(&b"hello"[..]);
        io::copy(&mut reader, &mut io::sink()).unwrap();
        assert_eq!(reader.finish(), (Digest::of(b"hello"), 5));
        let mut hashing = Hashing::new();
        hashing.write_all(b"hel").unwrap();
        hashing.update(b"lo");
        assert_eq!((hashing.count(), hashing.finish()), (5, Digest::of(b"hello")));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,80}") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.to_string(), text);
            }
        }

        #[test]
        fn round_trip(bytes in any::<[u8; 32]>()) {
            let digest = Digest::from_bytes(bytes);
            prop_assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
            let json = serde_json::to_string(&DiffId(digest)).unwrap();
            prop_assert_eq!(serde_json::from_str::<DiffId>(&json).unwrap(), DiffId(digest));
        }
    }
}
