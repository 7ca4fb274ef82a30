//! Ages, sizes and texts as Docker prints them.

use super::time::Timestamp;
use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How long something took or is ago, in Docker's words: `About a minute`, `3 weeks`.
#[must_use]
pub fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    // Hours are rounded, everything else is cut off.
    let hours = seconds.saturating_add(1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".into(),
        () if seconds == 1 => "1 second".into(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".into(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".into(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// `3 weeks ago`, or `N/A` without a time or with one before the year 2000. As with Docker, what an image has of its time
/// beyond whole seconds does not count.
#[must_use]
pub fn ago(time: Option<Timestamp>, now: Timestamp) -> String {
    const YEAR_2000: i64 = 946_684_800;
    match time {
        Some(time) if time.unix() >= YEAR_2000 => {
            format!("{} ago", human_duration(Timestamp::from_unix(time.unix()).age(now)))
        }
        _ => "N/A".into(),
    }
}

/// A number of layers, in words.
#[must_use]
pub fn layer_count(count: usize) -> String {
    if count == 1 { "1 layer".to_owned() } else { format!("{count} layers") }
}

/// A size with 3 significant digits, as in `images` and `history`: `16.4MB`.
#[must_use]
pub fn size3(bytes: u64) -> String {
    size(bytes, 3)
}

/// A size with 4 significant digits, as in `system df` and after `prune`: `16.43MB`.
#[must_use]
pub fn size4(bytes: u64) -> String {
    size(bytes, 4)
}

/// Base 1000. Where Docker prints `1e+03MB`, this is `1GB`.
fn size(bytes: u64, digits: u32) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut unit = 0;
    let mut divisor: u64 = 1;
    while unit + 1 < UNITS.len() && bytes / divisor >= 1000 {
        divisor *= 1000;
        unit += 1;
    }
    let (mut text, carried) = significant(bytes, divisor, digits);
    if carried && unit + 1 < UNITS.len() {
        unit += 1;
        text = "1".into();
    }
    text + UNITS[unit]
}

/// `bytes / divisor` (below 1000 but for the last unit) with so many digits, without trailing zeros; and whether it was
/// rounded up to 1000.
fn significant(bytes: u64, divisor: u64, digits: u32) -> (String, bool) {
    let whole = bytes / divisor;
    let before = whole.checked_ilog10().unwrap_or(0) + 1;
    let after = digits.saturating_sub(before);
    let scale = 10u128.pow(after);
    let scaled = u128::from(bytes) * scale;
    let divisor = u128::from(divisor);
    // Halves go to the even digit, as printf does with numbers that are exact in binary; sizes seldom are halves.
    let (mut rounded, rest) = (scaled / divisor, scaled % divisor);
    if rest * 2 > divisor || (rest * 2 == divisor && rounded % 2 == 1) {
        rounded += 1;
    }
    if rounded >= 1000 * scale {
        return ("1000".into(), true);
    }
    let (whole, part) = (rounded / scale, rounded % scale);
    if part == 0 {
        return (whole.to_string(), false);
    }
    let part = format!("{part:0width$}", width = after as usize);
    (format!("{whole}.{}", part.trim_end_matches('0')), false)
}

/// Whether a character steers a terminal instead of showing there: control characters, and those that turn the direction
/// of writing.
#[must_use]
pub fn steers_terminal(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether text is printable ASCII and nothing else, as nearly all is: that is seen many times faster than the rest.
#[must_use]
pub fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Text from an image on one line: what [`steers_terminal`] stands as Rust writes it, `\n` or `\u{1b}`.
#[must_use]
pub fn printable(text: &str) -> String {
    if is_plain(text) { text.to_owned() } else { escaped(text, steers_terminal) }
}

/// A command or a comment on one line, as Docker prints it: tabs and newlines become blanks, the rest is as in [`printable`].
#[must_use]
pub fn one_line(text: &str) -> String {
    printable(&text.replace(['\t', '\n', '\r'], " "))
}

/// A name or path as text in which nothing is unseen: a backslash is doubled, bytes that are no UTF-8 stand as `\xNN`, and
/// what cannot be seen ([`cannot_be_seen`]) as Rust writes it (`\n`, `\u{a0}`). Two of them are never the same text; letters
/// of different scripts that look alike stay what they are. What it returns passes [`printable`] unchanged.
#[must_use]
pub fn name(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes)
        && is_plain(text)
        && !text.contains('\\')
    {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    for chunk in bytes.utf8_chunks() {
        shown += &escaped(chunk.valid(), |c| c == '\\' || cannot_be_seen(c));
        shown.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    Cow::Owned(shown)
}

/// The same of a path, for messages: layers have names in it that somebody else chose.
#[must_use]
pub fn path(path: &Path) -> Cow<'_, str> {
    name(path.as_os_str().as_encoded_bytes())
}

/// Whether a character does not show as what it is: all that [`steers_terminal`], blanks other than the usual one, what
/// terminals show nothing of, and characters that Unicode gives no meaning.
#[must_use]
pub fn cannot_be_seen(c: char) -> bool {
    let means_nothing = u32::from(c) & 0xfffe == 0xfffe || matches!(c, '\u{fdd0}'..='\u{fdef}');
    // The one of Braille is a pattern without dots.
    let is_blank = (c.is_whitespace() && c != ' ') || c == '\u{2800}';
    steers_terminal(c) || is_blank || is_ignorable(c) || means_nothing
}

/// Characters of no width and no look of their own: Unicode's `Default_Ignorable_Code_Point`, and marks of annotations.
fn is_ignorable(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Text in which some characters stand as Rust writes them.
#[must_use]
pub fn escaped(text: &str, which: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if which(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// Cuts text to `width` columns of a terminal, the last of them `…` when something was cut.
#[must_use]
pub fn ellipsis(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut columns = 0;
    let fits = |c: &char| {
        columns += c.width().unwrap_or(0);
        columns < width
    };
    let mut cut: String = text.chars().take_while(fits).collect();
    if width > 0 {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        const DAY: u64 = 24 * HOUR;
        let table = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (59 * MINUTE + 59, "59 minutes"),
            (HOUR, "About an hour"),
            (89 * MINUTE, "About an hour"),
            (90 * MINUTE, "2 hours"),
            (47 * HOUR, "47 hours"),
            (47 * HOUR + 30 * MINUTE, "2 days"),
            (13 * DAY, "13 days"),
            (14 * DAY, "2 weeks"),
            (59 * DAY, "8 weeks"),
            (60 * DAY, "2 months"),
            (729 * DAY, "24 months"),
            (730 * DAY, "2 years"),
            (u64::MAX, "584942417355 years"),
        ];
        for (seconds, text) in table {
            assert_eq!(human_duration(Duration::from_secs(seconds)), text, "{seconds}");
        }
        assert_eq!(human_duration(Duration::from_millis(999)), "Less than a second");
    }

    #[test]
    fn ages() {
        let now = Timestamp::from_unix(1_700_000_000);
        assert_eq!(ago(Some(Timestamp::from_unix(1_699_999_880)), now), "2 minutes ago");
        assert_eq!(ago(Some(Timestamp::from_unix(1_699_999_997).with_nanos(999_999_999)), now), "3 seconds ago");
        assert_eq!(ago(Some(Timestamp::from_unix(0)), now), "N/A");
        assert_eq!(ago(None, now), "N/A");
        assert_eq!(ago(Some(Timestamp::from_unix(1_700_000_100)), now), "Less than a second ago");
    }

    #[test]
    fn sizes() {
        let table = [
            (0, "0B", "0B"),
            (5, "5B", "5B"),
            (999, "999B", "999B"),
            (1_000, "1kB", "1kB"),
            (1_024, "1.02kB", "1.024kB"),
            (10_000, "10kB", "10kB"),
            (16_430_000, "16.4MB", "16.43MB"),
            (72_849_123, "72.8MB", "72.85MB"),
            (123_456_789, "123MB", "123.5MB"),
            (999_400_000, "999MB", "999.4MB"),
            (999_600_000, "1GB", "999.6MB"),
            (999_960_000, "1GB", "1GB"),
            (2_498_000_000, "2.5GB", "2.498GB"),
            (1_050_000, "1.05MB", "1.05MB"),
            (1_005_000, "1MB", "1.005MB"),
            (u64::MAX, "18.4EB", "18.45EB"),
        ];
        for (bytes, three, four) in table {
            assert_eq!((size3(bytes).as_str(), size4(bytes).as_str()), (three, four), "{bytes}");
        }
    }

    /// The bytes that [`name`] shows so.
    fn unescaped(mut shown: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some((plain, escape)) = shown.split_once('\\') {
            bytes.extend_from_slice(plain.as_bytes());
            let (kind, rest) = escape.split_at(1);
            let (byte, rest) = match kind {
                "t" => (vec![b'\t'], rest),
                "n" => (vec![b'\n'], rest),
                "r" => (vec![b'\r'], rest),
                "x" => (vec![u8::from_str_radix(&rest[..2], 16).unwrap()], &rest[2..]),
                "u" => {
                    let (code, rest) = rest[1..].split_once('}').unwrap();
                    let c = char::from_u32(u32::from_str_radix(code, 16).unwrap()).unwrap();
                    (c.to_string().into_bytes(), rest)
                }
                _ => (kind.as_bytes().to_vec(), rest),
            };
            bytes.extend(byte);
            shown = rest;
        }
        bytes.extend_from_slice(shown.as_bytes());
        bytes
    }

    #[test]
    fn nothing_in_a_name_is_unseen() {
        assert_eq!(name("usr/ordnung-é-日本 x".as_bytes()), "usr/ordnung-é-日本 x");
        assert_eq!(name(b"a\xff\xfeb\n\x1b[31m"), "a\\xff\\xfeb\\n\\u{1b}[31m");
        assert_eq!(name(b"a\\n"), "a\\\\n");
        assert_eq!(path(Path::new("/\\n/\n")), "/\\\\n/\\n");
        assert_eq!(name("\u{a0}\u{fffe}\u{1ffff}\u{fdd0}".as_bytes()), "\\u{a0}\\u{fffe}\\u{1ffff}\\u{fdd0}");
        assert_eq!(name("x\u{202e}gnp.exe\u{2028}".as_bytes()), "x\\u{202e}gnp.exe\\u{2028}");
        for c in "\u{ad}\u{200b}\u{200c}\u{200d}\u{2060}\u{2800}\u{3164}\u{fe0f}\u{feff}\u{e0001}\u{e0061}".chars() {
            assert_eq!(name(format!("a{c}b").as_bytes()), format!("a\\u{{{:x}}}b", u32::from(c)));
        }
    }

    #[test]
    fn texts() {
        assert_eq!(printable("a\tb\u{1b}[31m\u{202e}c é\\"), "a\\tb\\u{1b}[31m\\u{202e}c é\\");
        assert_eq!(one_line("RUN a \\\n\tb\u{7}"), "RUN a \\  b\\u{7}");
        assert_eq!(ellipsis("abcdef", 6), "abcdef");
        assert_eq!(ellipsis("abcdefg", 6), "abcde…");
        assert_eq!(ellipsis("ééé", 2), "é…");
        assert_eq!(ellipsis("abc", 0), "");
        // As docker cuts it: wide characters take two columns, combining marks none.
        assert_eq!(
            ["日本語日本語", "日本語", "e\u{301}e\u{301}e"].map(|text| ellipsis(text, 6)),
            ["日本…", "日本語", "e\u{301}e\u{301}e"]
        );
        assert_eq!(ellipsis("e\u{301}e\u{301}e\u{301}e", 3), "e\u{301}e\u{301}…");
    }

    proptest! {
        #[test]
        fn no_size_is_without_a_unit(bytes: u64) {
            for text in [size3(bytes), size4(bytes)] {
                prop_assert!(text.len() <= 8, "{}", text);
                prop_assert!(text.ends_with('B'));
            }
        }

        #[test]
        fn nothing_printed_steers(text in any::<String>()) {
            prop_assert!(!printable(&text).contains(steers_terminal));
            prop_assert!(!one_line(&text).contains(steers_terminal));
        }

        #[test]
        fn a_name_can_be_read_back(bytes in any::<Vec<u8>>(), text in any::<String>()) {
            for bytes in [bytes.as_slice(), text.as_bytes()] {
                let shown = name(bytes);
                prop_assert_eq!(&printable(&shown), &shown);
                prop_assert_eq!(unescaped(&shown), bytes);
            }
        }
    }
}
