//! Maps of sparse files: which pieces of the file the archive holds.

use super::pax::decimal;

/// Offset and length of each piece, in order and apart from each other.
pub(super) type Pieces = Vec<(u64, u64)>;

pub(super) const TOO_MANY: &str = "has too many pieces in its sparse map";

/// Checks a map against the length of the file and of the data in the archive; empty pieces are dropped.
pub(super) fn check(pieces: Pieces, size: u64, data: u64) -> Result<Pieces, &'static str> {
    let (mut end, mut sum) = (0u64, 0u64);
    for (offset, len) in &pieces {
        if *offset < end {
            return Err("has a sparse map whose pieces overlap or are out of order");
        }
        end = offset.checked_add(*len).filter(|end| *end <= size).ok_or("has a sparse map beyond its length")?;
        sum += len;
    }
    if sum != data {
        return Err("has a sparse map that does not fit its data");
    }
    Ok(pieces.into_iter().filter(|(_, len)| *len > 0).collect())
}

/// Reads the map of format 1.0: the number of pieces, then offset and length of each, a line a number.
pub(super) struct MapReader {
    most: usize,
    line: Vec<u8>,
    count: Option<usize>,
    numbers: Vec<u64>,
}

impl MapReader {
    pub fn new(most: usize) -> Self {
        Self { most, line: Vec::new(), count: None, numbers: Vec::new() }
    }

    /// Takes a block; the map when this was the last of it, the rest of the block being padding.
    pub fn feed(&mut self, block: &[u8]) -> Result<Option<Pieces>, &'static str> {
        for byte in block {
            if *byte != b'\n' {
                if self.line.len() >= 20 {
                    return Err("has a malformed sparse map");
                }
                self.line.push(*byte);
                continue;
            }
            let number = decimal(&self.line).ok_or("has a malformed sparse map")?;
            self.line.clear();
            match self.count {
                None => {
                    let count = usize::try_from(number).ok().filter(|n| *n <= self.most).ok_or(TOO_MANY)?;
                    self.count = Some(count);
                }
                Some(_) => self.numbers.push(number),
            }
            if self.count.is_some_and(|count| self.numbers.len() == 2 * count) {
                return Ok(Some(self.numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn maps_must_fit() {
        assert_eq!(check(vec![(0, 2), (5, 0), (5, 3)], 8, 5).unwrap(), [(0, 2), (5, 3)]);
        assert_eq!(check(vec![], 8, 0).unwrap(), []);
        for (pieces, size, data) in [
            (vec![(5, 2), (0, 2)], 9, 4),
            (vec![(0, 3), (2, 2)], 9, 5),
            (vec![(0, 10)], 9, 10),
            (vec![(u64::MAX, 2)], 9, 2),
            (vec![(0, 2)], 9, 3),
        ] {
            assert!(check(pieces, size, data).is_err());
        }
    }

    #[test]
    fn maps_in_the_data() {
        let mut map = MapReader::new(10);
        assert_eq!(map.feed(b"2\n0\n1").unwrap(), None);
        assert_eq!(map.feed(b"0\n20\n5\n\0\0\0").unwrap(), Some(vec![(0, 10), (20, 5)]));
        assert_eq!(MapReader::new(10).feed(b"0\n").unwrap(), Some(vec![]));
        for wrong in [&b"x\n"[..], b"11\n", b"-1\n", b"\n", b"000000000000000000000000"] {
            assert!(MapReader::new(10).feed(wrong).is_err());
        }
    }
}
