//! Points in time as image documents write them (RFC 3339).

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: i64 = 86_400;

/// A point in time, in UTC with nanoseconds, between the years 0 and 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    seconds: i64,
    nanos: u32,
}

/// The text is not a time as RFC 3339 writes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a time; write it as in 2024-01-31T12:00:00Z")]
pub struct TimeError(String);

impl Timestamp {
    /// Seconds since 1970, cut to the years 0 to 9999.
    #[must_use]
    pub fn from_unix(seconds: i64) -> Self {
        let least = days_from_date(0, 1, 1) * DAY;
        let most = days_from_date(10_000, 1, 1) * DAY - 1;
        Self { seconds: seconds.clamp(least, most), nanos: 0 }
    }

    /// The same with nanoseconds after the second.
    #[must_use]
    pub fn with_nanos(self, nanos: u32) -> Self {
        Self { nanos: nanos.min(999_999_999), ..self }
    }

    /// Seconds since 1970.
    #[must_use]
    pub fn unix(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds within the second.
    #[must_use]
    pub fn nanos(self) -> u32 {
        self.nanos
    }

    /// The clock's time.
    #[must_use]
    pub fn now() -> Self {
        Self::from(SystemTime::now())
    }

    /// How long before `now` this was; zero when it is later.
    #[must_use]
    pub fn age(self, now: Self) -> Duration {
        let nanos = |t: Self| i128::from(t.seconds) * 1_000_000_000 + i128::from(t.nanos);
        let age = nanos(now) - nanos(self);
        let seconds = u64::try_from(age.div_euclid(1_000_000_000)).unwrap_or(0);
        let rest = if age > 0 { u32::try_from(age.rem_euclid(1_000_000_000)).unwrap_or(0) } else { 0 };
        Duration::new(seconds, rest)
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let signed = |d: Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self { nanos: after.subsec_nanos(), ..Self::from_unix(signed(after)) },
            Err(before) => {
                let before = before.duration();
                match before.subsec_nanos() {
                    0 => Self::from_unix(-signed(before)),
                    n => Self { nanos: 1_000_000_000 - n, ..Self::from_unix(-signed(before) - 1) },
                }
            }
        }
    }
}

/// Days since 1970 of a date; the calendar's years begin in March, so that the leap day comes last.
fn days_from_date(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468
}

/// Year, month and day of a number of days since 1970.
fn date_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

impl fmt::Display for Timestamp {
    /// `2024-01-31T12:00:00.5Z`: fractions without trailing zeros, as Go writes them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date_from_days(self.seconds.div_euclid(DAY));
        let second = self.seconds.rem_euclid(DAY);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if self.nanos > 0 {
            write!(f, ".{}", format!("{:09}", self.nanos).trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

impl FromStr for Timestamp {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        parse(text.as_bytes())
            .ok_or_else(|| TimeError(super::format::printable(&text.chars().take(60).collect::<String>())))
    }
}

/// Takes `count` decimal digits from the front.
fn digits(text: &mut &[u8], count: usize) -> Option<i64> {
    let (number, rest) = text.split_at_checked(count)?;
    let value = number.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))?;
    *text = rest;
    Some(value)
}

fn symbol(text: &mut &[u8], any_of: &[u8]) -> Option<u8> {
    let (first, rest) = text.split_first()?;
    *text = rest;
    any_of.contains(first).then_some(*first)
}

fn parse(mut text: &[u8]) -> Option<Timestamp> {
    let text = &mut text;
    let year = digits(text, 4)?;
    symbol(text, b"-")?;
    let month = digits(text, 2)?;
    symbol(text, b"-")?;
    let day = digits(text, 2)?;
    symbol(text, b"Tt ")?;
    let hour = digits(text, 2)?;
    symbol(text, b":")?;
    let minute = digits(text, 2)?;
    symbol(text, b":")?;
    let second = digits(text, 2)?;
    let nanos = fraction(text)?;
    let offset = match symbol(text, b"Zz+-")? {
        sign @ (b'+' | b'-') => {
            let hours = digits(text, 2)?;
            symbol(text, b":")?;
            let minutes = digits(text, 2)?;
            let seconds = (hours < 24 && minutes < 60).then_some(hours * 3600 + minutes * 60)?;
            if sign == b'-' { -seconds } else { seconds }
        }
        _ => 0,
    };
    let month_fits = (1..=12).contains(&month) && day >= 1;
    // 60 is a leap second; it becomes the next minute.
    if !text.is_empty() || !month_fits || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let days = days_from_date(year, month, day);
    if date_from_days(days) != (year, month, day) {
        return None;
    }
    let seconds = days * DAY + hour * 3600 + minute * 60 + second - offset;
    Some(Timestamp { nanos, ..Timestamp::from_unix(seconds) })
}

/// The nanoseconds of `.123`; digits beyond nanoseconds are cut off. Nothing there is zero.
fn fraction(text: &mut &[u8]) -> Option<u32> {
    if text.first() != Some(&b'.') {
        return Some(0);
    }
    *text = &text[1..];
    let count = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let number = text.get(..count).filter(|n| !n.is_empty())?;
    *text = &text[count..];
    let padded = number.iter().chain(std::iter::repeat(&b'0')).take(9);
    Some(padded.fold(0, |n, b| n * 10 + u32::from(b - b'0')))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_as_tools_write_them() {
        let table = [
            ("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z"),
            ("2023-08-07T19:20:20.894140623Z", 1_691_436_020, "2023-08-07T19:20:20.894140623Z"),
            ("2024-02-29T23:59:60Z", 1_709_251_200, "2024-03-01T00:00:00Z"),
            ("2024-01-01T01:00:00.500+02:00", 1_704_063_600, "2023-12-31T23:00:00.5Z"),
            ("2024-01-01t00:00:00-05:30", 1_704_087_000, "2024-01-01T05:30:00Z"),
            ("0001-01-01T00:00:00Z", -62_135_596_800, "0001-01-01T00:00:00Z"),
            ("1969-12-31T23:59:59.1234567899Z", -1, "1969-12-31T23:59:59.123456789Z"),
            ("9999-12-31T23:59:59Z", 253_402_300_799, "9999-12-31T23:59:59Z"),
        ];
        for (text, unix, shown) in table {
            let time: Timestamp = text.parse().unwrap();
            assert_eq!((time.unix(), time.to_string().as_str()), (unix, shown), "{text}");
        }
    }

    #[test]
    fn what_is_no_time() {
        let bad = [
            "",
            "2024",
            "2024-01-01",
            "2024-01-01T00:00:00",
            "2024-13-01T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "2024-01-00T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:00:61Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00+0200",
            "2024-01-01T00:00:00Z ",
            "+024-01-01T00:00:00Z",
        ];
        for text in bad {
            assert!(text.parse::<Timestamp>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn ages_are_never_negative() {
        let (old, new) = (Timestamp::from_unix(10), Timestamp { seconds: 12, nanos: 1 });
        assert_eq!(old.age(new), Duration::new(2, 1));
        assert_eq!(new.age(old), Duration::ZERO);
        assert_eq!(Timestamp { seconds: 11, nanos: 999_999_999 }.age(new), Duration::from_nanos(2));
        assert_eq!(Timestamp::from_unix(i64::MAX).to_string(), "9999-12-31T23:59:59Z");
        let before = Timestamp::from(UNIX_EPOCH - Duration::from_millis(1));
        assert_eq!(before.to_string(), "1969-12-31T23:59:59.999Z");
    }

    proptest! {
        #[test]
        fn round_trip(seconds in -62_167_219_200i64..253_402_300_800, nanos in 0u32..1_000_000_000) {
            let time = Timestamp { seconds, nanos };
            prop_assert_eq!(time.to_string().parse::<Timestamp>(), Ok(time));
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,40}", near in "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.Z+-]{0,20}") {
            let _ignored = (text.parse::<Timestamp>().is_ok(), near.parse::<Timestamp>().is_ok());
        }
    }
}
