//! Names for writable layers that were given none.

use super::error::Result;
use super::temp::random_hex;

/// What a thing can be like.
const ADJECTIVES: [&str; 64] = [
    "amber", "bold", "brave", "breezy", "bright", "brisk", "calm", "candid", "cheerful", "clear", "clever", "cosy",
    "crisp", "curious", "daring", "deft", "eager", "early", "earnest", "fair", "fleet", "fond", "fresh", "gentle",
    "glad", "golden", "grand", "hardy", "honest", "humble", "jolly", "keen", "kind", "lively", "lucid", "lucky",
    "mellow", "merry", "mild", "modest", "neat", "nimble", "noble", "patient", "placid", "plucky", "polite", "proud",
    "quick", "quiet", "ready", "serene", "sharp", "silver", "sincere", "smart", "steady", "sturdy", "sunny", "swift",
    "tidy", "vivid", "warm", "wise",
];

/// Things: stones, plants, animals, and what a workshop has.
const NOUNS: [&str; 64] = [
    "acorn", "agate", "alder", "anvil", "aspen", "badger", "basalt", "beech", "birch", "bison", "brook", "cedar",
    "chalk", "clover", "comet", "coral", "crane", "delta", "dune", "falcon", "fern", "finch", "fjord", "flint",
    "garnet", "glacier", "granite", "harbor", "hazel", "heron", "ibex", "iris", "jasper", "juniper", "kestrel",
    "lagoon", "lantern", "larch", "linden", "lynx", "maple", "marble", "meadow", "mica", "moss", "oak", "onyx", "opal",
    "otter", "pebble", "pine", "plover", "quartz", "raven", "reef", "ridge", "robin", "sable", "shale", "slate",
    "spruce", "tern", "willow", "wren",
];

/// A random `adjective_noun`, with a number behind it when `attempt` is past the first few.
pub(super) fn generate(attempt: u32) -> Result<String> {
    let random = u64::from_str_radix(&random_hex(12)?, 16).unwrap_or_default();
    let pick = |words: &[&'static str; 64], shift: u32| {
        words.get(usize::try_from((random >> shift) & 63).unwrap_or_default()).copied().unwrap_or("plain")
    };
    let name = format!("{}_{}", pick(&ADJECTIVES, 0), pick(&NOUNS, 6));
    Ok(if attempt < 4 { name } else { format!("{name}{}", (random >> 12) & 0xffff) })
}

/// Whether a writable layer can have this name, which becomes that of a directory.
pub(super) fn is_valid(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() <= 128
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(b))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn generated_names_are_valid_and_differ() {
        let names: HashSet<String> = (0..200).map(|n| generate(n % 8).unwrap()).collect();
        assert!(names.len() > 150);
        assert!(names.iter().all(|n| is_valid(n) && n.contains('_')));
        assert_eq!(ADJECTIVES.iter().chain(&NOUNS).collect::<HashSet<_>>().len(), 128);
    }

    #[test]
    fn names_cannot_leave_their_directory() {
        for bad in ["", ".", "..", "a/b", "-rf", ".hidden", "a b", "a\nb", "é", &"x".repeat(129)] {
            assert!(!is_valid(bad), "{bad:?}");
        }
        for good in ["web", "a", "9", "A.b-c_d", &"x".repeat(128)] {
            assert!(is_valid(good), "{good:?}");
        }
    }
}
