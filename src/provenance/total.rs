//! Sums of lengths.

/// A sum of lengths, or the largest number there is: a file of one hole may claim 2^63 bytes, and several of them more than fit.
#[must_use]
pub fn total(lengths: impl IntoIterator<Item = u64>) -> u64 {
    lengths.into_iter().fold(0, u64::saturating_add)
}
