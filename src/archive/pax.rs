//! PAX extended headers: `LENGTH KEY=VALUE\n` records, taken apart by their length alone (POSIX pax, "Extended Header").

use crate::sys::Time;
use std::ffi::CString;

/// What extension headers say about the entry that follows them. An empty value takes an earlier one back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Extensions {
    pub path: Option<Vec<u8>>,
    pub linkpath: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<Time>,
    pub xattrs: Vec<(CString, Vec<u8>)>,
    /// Bytes of all their names, repeated ones too: no file system holds more than 64 KiB (`XATTR_LIST_MAX`).
    xattr_names: usize,
    /// The name of a GNU long name header.
    pub gnu_path: Option<Vec<u8>>,
    /// The target of a GNU long link header.
    pub gnu_linkpath: Option<Vec<u8>>,
    pub sparse: Sparse,
}

/// The records of GNU sparse files, formats 0.0, 0.1 and 1.0 (GNU tar manual, "PAX headers").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sparse {
    pub major: Option<u64>,
    pub minor: Option<u64>,
    pub name: Option<Vec<u8>>,
    pub size: Option<u64>,
    /// Offset and length in turns, from either of the formats 0.x.
    pub map: Vec<u64>,
    /// An entry of the map must have both numbers; this one has its offset.
    half: bool,
}

impl Sparse {
    /// Whether any record says that the file is sparse.
    pub(super) fn is_any(&self) -> bool {
        self.major.is_some() || self.size.is_some() || !self.map.is_empty()
    }
}

impl Extensions {
    /// Adds the records in `data`; `most` is the number of entries in a sparse map.
    pub(super) fn parse(&mut self, mut data: &[u8], most: usize) -> Result<(), &'static str> {
        while !data.is_empty() {
            let (key, value, rest) = record(data).ok_or("has a malformed PAX header")?;
            self.record(key, value, most)?;
            data = rest;
        }
        if self.sparse.half {
            return Err("has a sparse map with an offset but no length");
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8], most: usize) -> Result<(), &'static str> {
        match key {
            b"path" => self.path = text(value)?,
            b"linkpath" => self.linkpath = text(value)?,
            b"size" => self.size = number(value)?,
            b"uid" => self.uid = number(value)?,
            b"gid" => self.gid = number(value)?,
            b"mtime" => self.mtime = time(value)?,
            _ if key.starts_with(b"GNU.sparse.") => self.sparse.record(&key[11..], value, most)?,
            _ => self.xattr(key, value)?,
        }
        Ok(())
    }

    /// Attributes in the forms of star (raw bytes) and of libarchive (base64); other keys mean nothing to us.
    fn xattr(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let (name, value) = if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            (name.to_vec(), Some(value.to_vec()))
        } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
            (percent(name).ok_or("has a malformed attribute name")?, base64(value))
        } else {
            return Ok(());
        };
        let value = value.ok_or("has an attribute that is not base64")?;
        let name = CString::new(name).map_err(|_| "has a NUL byte in the name of an attribute")?;
        if name.is_empty() || name.as_bytes().len() > 255 {
            return Err("has an attribute with an empty or overlong name");
        }
        if value.len() > 64 << 10 {
            return Err("has an attribute of more than 64 KiB");
        }
        self.xattr_names += name.as_bytes_with_nul().len();
        if self.xattr_names > 64 << 10 {
            return Err("has attributes with names of more than 64 KiB");
        }
        match self.xattrs.iter_mut().find(|(known, _)| *known == name) {
            // Both forms of one attribute hold the same; the raw one is believed.
            Some(_) if key.starts_with(b"LIBARCHIVE") => {}
            Some((_, known)) => *known = value,
            None => self.xattrs.push((name, value)),
        }
        Ok(())
    }
}

impl Sparse {
    fn record(&mut self, key: &[u8], value: &[u8], most: usize) -> Result<(), &'static str> {
        match key {
            b"major" => self.major = number(value)?,
            b"minor" => self.minor = number(value)?,
            b"name" => self.name = text(value)?,
            b"size" | b"realsize" => self.size = number(value)?,
            b"offset" | b"numbytes" => {
                let n = number(value)?.ok_or("has an empty number in its sparse map")?;
                if self.half == (key == b"offset") {
                    return Err("has a sparse map out of order");
                }
                self.half = !self.half;
                self.map.push(n);
            }
            b"map" => {
                self.map.clear();
                for part in value.split(|b| *b == b',').filter(|_| !value.is_empty()) {
                    self.map.push(number(part)?.ok_or("has an empty number in its sparse map")?);
                    if self.map.len() > 2 * most {
                        break;
                    }
                }
                self.half = self.map.len() % 2 == 1;
            }
            // The number of entries follows from the entries.
            _ => {}
        }
        if self.map.len() > 2 * most {
            return Err("has too many pieces in its sparse map");
        }
        Ok(())
    }
}

/// The first record: key, value, and what follows it.
fn record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().take(20).position(|b| *b == b' ')?;
    let len = usize::try_from(decimal(&data[..space])?).ok()?;
    let body = data.get(space + 1..len)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|b| *b == b'=')?;
    (equals > 0).then(|| (&body[..equals], &body[equals + 1..], &data[len..]))
}

/// Decimal digits only: no sign, no spaces.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn number(value: &[u8]) -> Result<Option<u64>, &'static str> {
    if value.is_empty() {
        return Ok(None);
    }
    decimal(value).map(Some).ok_or("has a malformed number in its PAX header")
}

fn text(value: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    if value.contains(&0) {
        return Err("has a NUL byte in a name of its PAX header");
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

/// Seconds since 1970, perhaps negative, perhaps with a fraction; digits after the ninth are cut off, downwards.
fn time(value: &[u8]) -> Result<Option<Time>, &'static str> {
    const WRONG: &str = "has a malformed time in its PAX header";
    if value.is_empty() {
        return Ok(None);
    }
    let negative = value[0] == b'-';
    let value = &value[usize::from(negative)..];
    let dot = value.iter().position(|b| *b == b'.').unwrap_or(value.len());
    let fraction = value.get(dot + 1..).unwrap_or_default();
    let sec = decimal(&value[..dot]).and_then(|s| i64::try_from(s).ok()).ok_or(WRONG)?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(WRONG);
    }
    let digit = |at: usize| fraction.get(at).map_or(0, |b| u32::from(b - b'0'));
    let nsec = (0..9).fold(0, |n, at| n * 10 + digit(at));
    let more = fraction.iter().skip(9).any(|b| *b != b'0');
    if !negative {
        return Ok(Some(Time { sec, nsec }));
    }
    // Downwards: -1.25 is 2 seconds before 1970 and 0.75 after that.
    let nanos = i128::from(sec) * 1_000_000_000 + i128::from(nsec) + i128::from(more);
    let sec = i64::try_from((-nanos).div_euclid(1_000_000_000)).map_err(|_| WRONG)?;
    let nsec = u32::try_from((-nanos).rem_euclid(1_000_000_000)).map_err(|_| WRONG)?;
    Ok(Some(Time { sec, nsec }))
}

fn percent(name: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        if *first != b'%' {
            out.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(more.get(..2)?).ok().filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
        out.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &more[2..];
    }
    Some(out)
}

/// Decodes base64, with or without `=` at the end.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    if text.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut bits, mut count) = (0u32, 0);
    for c in text {
        let six = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn rec(key: &str, value: &[u8]) -> Vec<u8> {
        let body = key.len() + value.len() + 3;
        let len = (1..).map(|digits| body + digits).find(|len| len.to_string().len() == len - body).unwrap();
        [format!("{len} {key}=").as_bytes(), value, b"\n"].concat()
    }

    fn parse(data: &[u8]) -> Result<Extensions, &'static str> {
        let mut ext = Extensions::default();
        ext.parse(data, 100).map(|()| ext)
    }

    #[test]
    fn values_are_taken_by_length() {
        let value = b"\x01\n20 path=evil\n\0=x";
        let data = [rec("SCHILY.xattr.security.capability", value), rec("path", b"good"), rec("size", b"12")].concat();
        let ext = parse(&data).unwrap();
        assert_eq!(ext.xattrs, [(c"security.capability".to_owned(), value.to_vec())]);
        assert_eq!((ext.path.unwrap(), ext.size), (b"good".to_vec(), Some(12)));
    }

    #[test]
    fn the_last_record_wins_and_an_empty_one_deletes() {
        let data = [rec("path", b"a"), rec("path", b"b"), rec("uid", b"1"), rec("uid", b"")].concat();
        let ext = parse(&data).unwrap();
        assert_eq!((ext.path.unwrap(), ext.uid), (b"b".to_vec(), None));
    }

    #[test]
    fn malformed_records() {
        for data in [
            &b"x"[..],
            b"6 a=b",
            b"7 a=b\n",
            b"+6 a=b\n",
            b"0 a=b\n",
            b"3 =\n",
            b"99999999999999999999 a=b\n",
            b"5 ab\n",
        ] {
            assert!(parse(data).is_err(), "{:?}", String::from_utf8_lossy(data));
        }
        for (key, value) in [("size", "+1"), ("size", "-1"), ("size", " 1"), ("uid", "0x1"), ("mtime", "1e3")] {
            assert!(parse(&rec(key, value.as_bytes())).is_err(), "{key}={value}");
        }
        assert!(parse(&rec("path", b"a\0b")).is_err());
    }

    #[test]
    fn times() {
        let at = |text: &str| time(text.as_bytes()).unwrap().unwrap();
        assert_eq!(at("12"), Time { sec: 12, nsec: 0 });
        assert_eq!(at("12.5"), Time { sec: 12, nsec: 500_000_000 });
        assert_eq!(at("12.0000000019"), Time { sec: 12, nsec: 1 });
        assert_eq!(at("-1.25"), Time { sec: -2, nsec: 750_000_000 });
        assert_eq!(at("-0.0000000001"), Time { sec: -1, nsec: 999_999_999 });
        assert_eq!(at("-3"), Time { sec: -3, nsec: 0 });
        assert!(time(b"-").is_err() && time(b".5").is_err() && time(b"99999999999999999999").is_err());
    }

    #[test]
    fn attributes_of_libarchive() {
        let data = [rec("LIBARCHIVE.xattr.user.a%20b", b"aGk"), rec("SCHILY.xattr.user.a b", b"raw")].concat();
        assert_eq!(parse(&data).unwrap().xattrs, [(c"user.a b".to_owned(), b"raw".to_vec())]);
        assert_eq!(parse(&rec("LIBARCHIVE.xattr.user.a", b"aGk=")).unwrap().xattrs[0].1, b"hi");
        assert!(parse(&rec("LIBARCHIVE.xattr.user.a", b"?")).is_err());
    }

    #[test]
    fn sparse_maps() {
        let data = [rec("GNU.sparse.offset", b"1"), rec("GNU.sparse.numbytes", b"2"), rec("GNU.sparse.size", b"9")];
        let ext = parse(&data.concat()).unwrap();
        assert_eq!((ext.sparse.map, ext.sparse.size), (vec![1, 2], Some(9)));
        assert_eq!(parse(&rec("GNU.sparse.map", b"0,1,5,2")).unwrap().sparse.map, [0, 1, 5, 2]);
        assert!(parse(&rec("GNU.sparse.map", b"0,1,5")).is_err());
        assert!(parse(&rec("GNU.sparse.numbytes", b"1")).is_err());
        assert!(parse(&rec("GNU.sparse.map", &b"1,".repeat(400))).is_err());
    }
}
