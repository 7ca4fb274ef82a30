//! Points in time as image documents write them (RFC 3339).

use jiff::fmt::temporal::Pieces;
use jiff::tz::TimeZone;
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

const SECOND: i128 = 1_000_000_000;

/// The first second of the year 0, and the last that every time zone has in the year 9999: what RFC 3339 can write.
const FIRST: i64 = -62_167_219_200;
const LAST: i64 = 253_402_207_200;

/// A point in time, in UTC with nanoseconds, between the years 0 and 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(jiff::Timestamp);

/// The text is not a time as RFC 3339 writes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a time; write it as in 2024-01-31T12:00:00Z")]
pub struct TimeError(String);

impl Timestamp {
    fn new(seconds: i64, nanos: u32) -> Self {
        let nanos = i128::from(seconds.clamp(FIRST, LAST)) * SECOND + i128::from(nanos);
        Self(jiff::Timestamp::from_nanosecond(nanos).unwrap_or_default())
    }

    /// Seconds since 1970, cut to the years 0 to 9999.
    #[must_use]
    pub fn from_unix(seconds: i64) -> Self {
        Self::new(seconds, 0)
    }

    /// The same with nanoseconds after the second.
    #[must_use]
    pub fn with_nanos(self, nanos: u32) -> Self {
        Self::new(self.unix(), nanos.min(999_999_999))
    }

    /// Seconds since 1970.
    #[must_use]
    pub fn unix(self) -> i64 {
        i64::try_from(self.0.as_nanosecond().div_euclid(SECOND)).unwrap_or_default()
    }

    /// Nanoseconds within the second.
    #[must_use]
    pub fn nanos(self) -> u32 {
        u32::try_from(self.0.as_nanosecond().rem_euclid(SECOND)).unwrap_or_default()
    }

    /// The clock's time.
    #[must_use]
    pub fn now() -> Self {
        Self::from(SystemTime::now())
    }

    /// How long before `now` this was; zero when it is later.
    #[must_use]
    pub fn age(self, now: Self) -> Duration {
        Duration::try_from(now.0.duration_since(self.0)).unwrap_or_default()
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let farthest = if time < SystemTime::UNIX_EPOCH { FIRST } else { LAST };
        let time = jiff::Timestamp::try_from(time).map_or(Self::from_unix(farthest), Self);
        if time.unix() < FIRST { Self::from_unix(FIRST) } else { time }
    }
}

impl fmt::Display for Timestamp {
    /// `2024-01-31T12:00:00.5Z`: fractions without trailing zeros, as Go writes them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Timestamp {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        let wrong = || TimeError(super::format::printable(&text.chars().take(60).collect::<String>()));
        let time = parse(&without_long_fraction(text)).ok_or_else(wrong)?;
        if time.unix() < FIRST { Err(wrong()) } else { Ok(time) }
    }
}

/// A time as RFC 3339 writes it. [`LAST`] stands for those of the year 9999 that are later.
fn parse(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse() {
        return Some(Timestamp(time));
    }
    let pieces = Pieces::parse(text).ok()?;
    let is_whole = pieces.time().is_some() && pieces.offset().is_some();
    let last = jiff::Timestamp::from_second(LAST).ok()?.to_zoned(TimeZone::UTC).date();
    (is_whole && pieces.date() >= last).then(|| Timestamp::from_unix(LAST))
}

/// The text with no more than nanoseconds behind the second: RFC 3339 sets no limit to the digits.
fn without_long_fraction(text: &str) -> Cow<'_, str> {
    let Some((seconds, fraction)) = text.split_once('.') else { return text.into() };
    let (digits, zone) = fraction.split_at(fraction.bytes().take_while(u8::is_ascii_digit).count());
    match digits.get(..9) {
        Some(nanos) => format!("{seconds}.{nanos}{zone}").into(),
        None => text.into(),
    }
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
            ("2024-02-29T23:59:60Z", 1_709_251_199, "2024-02-29T23:59:59Z"),
            ("2024-01-01T01:00:00.500+02:00", 1_704_063_600, "2023-12-31T23:00:00.5Z"),
            ("2024-01-01t00:00:00-05:30", 1_704_087_000, "2024-01-01T05:30:00Z"),
            ("0001-01-01T00:00:00Z", -62_135_596_800, "0001-01-01T00:00:00Z"),
            ("1969-12-31T23:59:59.123456789Z", -1, "1969-12-31T23:59:59.123456789Z"),
            ("9999-12-30T22:00:00Z", LAST, "9999-12-30T22:00:00Z"),
            ("9999-12-31T23:59:59Z", LAST, "9999-12-30T22:00:00Z"),
            ("9999-12-31T23:59:59.9999999999-01:00", LAST, "9999-12-30T22:00:00Z"),
            ("2023-08-07T19:20:20.89414062312345+00:00", 1_691_436_020, "2023-08-07T19:20:20.894140623Z"),
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
            "-000001-01-01T00:00:00Z",
            "9999-12-31T23:59:59",
            "9999-12-31",
            "9999-12-32T23:59:59Z",
            "+010000-01-01T00:00:00Z",
            "2024-01-01T00:00:00.1234567890",
            "2024-01-01T00:00:00Z ",
            "+024-01-01T00:00:00Z",
        ];
        for text in bad {
            assert!(text.parse::<Timestamp>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn ages_are_never_negative() {
        let (old, new) = (Timestamp::from_unix(10), Timestamp::new(12, 1));
        assert_eq!(old.age(new), Duration::new(2, 1));
        assert_eq!(new.age(old), Duration::ZERO);
        assert_eq!(Timestamp::new(11, 999_999_999).age(new), Duration::from_nanos(2));
        assert_eq!(Timestamp::from_unix(i64::MAX).to_string(), "9999-12-30T22:00:00Z");
        let before = Timestamp::from(SystemTime::UNIX_EPOCH - Duration::from_millis(1));
        assert_eq!(before.to_string(), "1969-12-31T23:59:59.999Z");
    }

    proptest! {
        #[test]
        fn round_trip(seconds in -62_167_219_200i64..253_402_207_200, nanos in 0u32..1_000_000_000) {
            let time = Timestamp::new(seconds, nanos);
            prop_assert_eq!(time.to_string().parse::<Timestamp>(), Ok(time));
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,40}", near in "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.Z+-]{0,20}") {
            let _ignored = (text.parse::<Timestamp>().is_ok(), near.parse::<Timestamp>().is_ok());
        }
    }
}
