//! Instants. The only calendar arithmetic of the project is here, and it is jiff's.
//!
//! Deliberately not here: a clock. `now` is an argument, or comes from a [`Clock`].

use std::fmt;

use jiff::civil;

/// An instant: whole microseconds since 1970-01-01T00:00:00Z, negative before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The instant `us` microseconds after 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn from_micros(us: i64) -> Self {
        Self(us)
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }
}

/// RFC 3339 in UTC with milliseconds, as log lines want it: `2025-01-15T10:00:00.123Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let civil = EPOCH.saturating_add(jiff::SignedDuration::from_micros(self.0));
        let millis = civil.subsec_nanosecond() / 1_000_000;
        write!(f, "{}.{millis:03}Z", civil.strftime("%Y-%m-%dT%H:%M:%S"))
    }
}

/// Where the time of day comes from.
pub trait Clock: Send + Sync {
    /// The current time; may step backwards when the operator or NTP steps it.
    fn now(&self) -> Timestamp;
}

/// An instant with every digit that its sender wrote.
///
/// ISO 8601 sets no limit to the digits of a fraction, and a sender with a nanosecond clock does
/// send nine; [`FRACTION_DIGITS_MAX`] is ours. Order and comparison are exact whatever their number: `finer` holds the decimal
/// digits past the microsecond without trailing zeros, and digit strings of that form sort in byte
/// order just as the fractions that they stand for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExactTime {
    at: Timestamp,
    finer: String,
}

impl ExactTime {
    /// Reads `YYYY-MM-DDTHH:MM:SS[.fraction]Z`, a real date and time of the proleptic Gregorian
    /// calendar, years 0000 to 9999. A leap second (`:60`) has no place on the time line of Unix
    /// time and is refused. A fraction has at most [`FRACTION_DIGITS_MAX`] digits.
    ///
    /// # Errors
    /// [`TimeError`] says which part of the rule is broken.
    pub fn parse_utc(text: &str) -> Result<Self, TimeError> {
        Self::parse_utc_with(text, FRACTION_DIGITS_MAX)
    }

    /// Reads the same with so many digits of fraction.
    pub(crate) fn parse_utc_with(text: &str, fraction_digits_max: usize) -> Result<Self, TimeError> {
        let (local, zone) = split_zone(text)?;
        let time = parse_local(local, 0, fraction_digits_max)?;
        if zone != "Z" {
            return Err(TimeError::NotUtc);
        }
        Ok(time)
    }

    /// Reads the same with `Z` or an offset (`+05:30`, `+0530`) at the end, and converts to UTC.
    ///
    /// # Errors
    /// [`TimeError`] says which part of the rule is broken.
    pub fn parse_offset(text: &str) -> Result<Self, TimeError> {
        let (local, zone) = split_zone(text)?;
        parse_local(local, offset_secs(zone)?, FRACTION_DIGITS_MAX)
    }

    /// The instant `finer` past `at`, as [`at`](Self::at) and [`finer`](Self::finer) tell it.
    ///
    /// # Errors
    /// [`TimeError::Format`] if `finer` is not decimal digits, the last of them no zero.
    pub fn from_parts(at: Timestamp, finer: String) -> Result<Self, TimeError> {
        if finer.ends_with('0') || !finer.bytes().all(|c| c.is_ascii_digit()) {
            return Err(TimeError::Format);
        }
        Ok(Self { at, finer })
    }

    /// The instant, cut to whole microseconds.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// The decimal digits past the microsecond, without trailing zeros; nearly always empty.
    #[must_use]
    pub fn finer(&self) -> &str {
        &self.finer
    }
}

/// Why a text is not a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// The characters are not those of the format.
    #[error("must be ISO 8601, YYYY-MM-DDTHH:MM:SS[.fraction] and a zone")]
    Format,
    /// The zone is another one than `Z`, or missing.
    #[error("must be in UTC and end in a single Z")]
    NotUtc,
    /// The format holds, but the calendar or the day has no such moment.
    #[error("must be a real date and time of day")]
    NoSuchTime,
    /// The fraction has more digits than allowed.
    #[error("must have at most {FRACTION_DIGITS_MAX} digits of fraction")]
    TooManyDigits,
}

/// Most digits of a fraction. No clock has as many; a cursor repeats them, and has to fit into a request's head.
pub const FRACTION_DIGITS_MAX: usize = 30;

const EPOCH: civil::DateTime = civil::DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// `YYYY-MM-DDTHH:MM:SS` has this many bytes.
const LOCAL_BYTES_MIN: usize = 19;

/// Splits into date, time and fraction on the one side and the zone on the other.
fn split_zone(text: &str) -> Result<(&str, &str), TimeError> {
    if !text.is_ascii() || text.len() < LOCAL_BYTES_MIN {
        return Err(TimeError::Format);
    }
    let is_local = |c: char| c.is_ascii_digit() || c == '.';
    let zone_start =
        text[LOCAL_BYTES_MIN..].find(|c| !is_local(c)).map_or(text.len(), |i| LOCAL_BYTES_MIN + i);
    Ok(text.split_at(zone_start))
}

fn offset_secs(zone: &str) -> Result<i64, TimeError> {
    if zone == "Z" {
        return Ok(0);
    }
    let bytes = zone.as_bytes();
    let (sign, hours, minutes) = match bytes {
        [sign, h1, h2, b':', m1, m2] | [sign, h1, h2, m1, m2] => {
            (*sign, digits(&[*h1, *h2])?, digits(&[*m1, *m2])?)
        }
        _ => return Err(TimeError::Format),
    };
    if hours > 23 || minutes > 59 {
        return Err(TimeError::NoSuchTime);
    }
    let secs = i64::from(hours) * 3600 + i64::from(minutes) * 60;
    match sign {
        b'+' => Ok(secs),
        b'-' => Ok(-secs),
        _ => Err(TimeError::Format),
    }
}

fn parse_local(local: &str, offset_secs: i64, fraction_digits_max: usize) -> Result<ExactTime, TimeError> {
    let b = local.as_bytes();
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|&(i, c)| b[i] != c) {
        return Err(TimeError::Format);
    }
    let part = |from: usize, to: usize| digits(&b[from..to]);
    let small = |n: u16| i8::try_from(n).map_err(|_| TimeError::NoSuchTime);
    let (year, month, day) = (part(0, 4)?, part(5, 7)?, part(8, 10)?);
    let (hour, minute, second) = (part(11, 13)?, part(14, 16)?, part(17, 19)?);
    let fraction = match &local[LOCAL_BYTES_MIN..] {
        "" => "",
        rest => match rest.strip_prefix('.') {
            Some(f) if !f.is_empty() && f.bytes().all(|c| c.is_ascii_digit()) => f,
            _ => return Err(TimeError::Format),
        },
    };
    if fraction.len() > fraction_digits_max {
        return Err(TimeError::TooManyDigits);
    }

    let year = i16::try_from(year).map_err(|_| TimeError::NoSuchTime)?;
    let civil = civil::DateTime::new(
        year,
        small(month)?,
        small(day)?,
        small(hour)?,
        small(minute)?,
        small(second)?,
        0,
    )
    .map_err(|_| TimeError::NoSuchTime)?;
    let secs = civil.duration_since(EPOCH).as_secs() - offset_secs;

    let (micros, finer) = fraction.split_at(fraction.len().min(6));
    let micros =
        micros.bytes().chain(std::iter::repeat(b'0')).take(6).fold(0, |n, c| n * 10 + i64::from(c - b'0'));
    Ok(ExactTime {
        at: Timestamp::from_micros(secs * 1_000_000 + micros),
        finer: finer.trim_end_matches('0').to_owned(),
    })
}

/// At most four ASCII digits as a number.
fn digits(bytes: &[u8]) -> Result<u16, TimeError> {
    bytes.iter().try_fold(0, |n: u16, c| {
        if c.is_ascii_digit() { Ok(n * 10 + u16::from(c - b'0')) } else { Err(TimeError::Format) }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn utc(text: &str) -> ExactTime {
        ExactTime::parse_utc(text).unwrap()
    }

    #[test]
    fn the_epoch_is_zero_and_fractions_count_in_microseconds() {
        assert_eq!(utc("1970-01-01T00:00:00Z").at().as_micros(), 0);
        assert_eq!(utc("1970-01-01T00:00:01.5Z").at().as_micros(), 1_500_000);
        assert_eq!(utc("1969-12-31T23:59:59.999999Z").at().as_micros(), -1);
        assert_eq!(utc("2025-01-15T10:00:00Z").at().as_micros(), 1_736_935_200_000_000);
    }

    #[test]
    fn the_first_and_the_last_moment_of_the_calendar_are_times() {
        assert!(utc("0000-01-01T00:00:00Z") < utc("9999-12-31T23:59:59.999999999Z"));
    }

    #[test]
    fn digits_past_the_microsecond_still_order() {
        assert!(utc("2025-01-15T10:00:00.0000001Z") < utc("2025-01-15T10:00:00.00000011Z"));
        assert!(utc("2025-01-15T10:00:00.0000009Z") < utc("2025-01-15T10:00:00.000001Z"));
        assert_eq!(utc("2025-01-15T10:00:00.1234567Z"), utc("2025-01-15T10:00:00.123456700Z"));
    }

    #[test]
    fn a_fraction_has_at_most_30_digits() {
        let text =
            |n_digits: usize, zone: &str| format!("2025-01-15T10:00:00.{}{zone}", "1".repeat(n_digits));
        assert_eq!(ExactTime::parse_utc(&text(30, "Z")).unwrap().finer().len(), 24);
        assert!(ExactTime::parse_offset(&text(30, "+05:30")).is_ok());
        assert_eq!(ExactTime::parse_utc(&text(31, "Z")), Err(TimeError::TooManyDigits));
        assert_eq!(ExactTime::parse_offset(&text(31, "+05:30")), Err(TimeError::TooManyDigits));
    }

    #[test]
    fn what_is_not_a_time_in_utc_is_refused() {
        use TimeError::{Format, NoSuchTime, NotUtc};
        for (text, why) in [
            ("", Format),
            ("2025-01-15", Format),
            ("2025-01-15 10:00:00Z", Format),
            ("2025-01-15t10:00:00Z", Format),
            ("2025-1-15T10:00:00Z", Format),
            ("2025-01-15T10:00:00.Z", Format),
            ("2025-01-15T10:00:00.1.2Z", Format),
            ("2025-01-15T10:00:00,5Z", NotUtc),
            ("2025-01-15T10:00:00", NotUtc),
            ("2025-01-15T10:00:00z", NotUtc),
            ("2025-01-15T10:00:00ZZ", NotUtc),
            ("2025-01-15T10:00:00Z ", NotUtc),
            ("2025-01-15T10:00:00Z\n", NotUtc),
            ("2025-01-15T10:00:00+00:00", NotUtc),
            ("2025-01-15T10:00:00+05:30", NotUtc),
            (" 2025-01-15T10:00:00Z", Format),
            ("+025-01-15T10:00:00Z", Format),
            ("٢٠٢٥-01-15T10:00:00Z", Format),
            ("2025-02-29T10:00:00Z", NoSuchTime),
            ("2025-13-01T10:00:00Z", NoSuchTime),
            ("2025-00-01T10:00:00Z", NoSuchTime),
            ("2025-01-15T24:00:00Z", NoSuchTime),
            ("2025-01-15T10:60:00Z", NoSuchTime),
            ("2016-12-31T23:59:60Z", NoSuchTime),
        ] {
            assert_eq!(ExactTime::parse_utc(text), Err(why), "{text:?}");
        }
        assert!(ExactTime::parse_utc("2024-02-29T10:00:00Z").is_ok());
    }

    #[test]
    fn an_offset_is_converted_where_one_is_allowed() {
        let want = utc("2025-01-15T04:30:00Z");
        for text in ["2025-01-15T10:00:00+05:30", "2025-01-15T10:00:00+0530", "2025-01-14T23:30:00-05:00"] {
            assert_eq!(ExactTime::parse_offset(text).unwrap(), want, "{text}");
        }
        for text in [
            "2025-01-15T10:00:00",
            "2025-01-15T10:00:00+5",
            "2025-01-15T10:00:00*05:30",
            "2025-01-15T10:00:00+24:00",
        ] {
            assert!(ExactTime::parse_offset(text).is_err(), "{text}");
        }
    }

    proptest! {
        /// Our reading agrees with jiff's own parser of RFC 3339 wherever that one reaches.
        #[test]
        fn agrees_with_jiff(us in -62_000_000_000_000_000_i64..253_000_000_000_000_000) {
            let theirs = jiff::Timestamp::from_microsecond(us).unwrap();
            let ours = ExactTime::parse_utc(&theirs.to_string()).unwrap();
            prop_assert_eq!(ours.at().as_micros(), us);
            prop_assert_eq!(ours.finer(), "");
        }

        #[test]
        fn a_log_time_round_trips_to_the_millisecond(ms in -62_000_000_000_000_i64..253_000_000_000_000) {
            let shown = Timestamp::from_micros(ms * 1000).to_string();
            prop_assert_eq!(utc(&shown).at().as_micros(), ms * 1000);
        }

        #[test]
        fn order_is_the_order_of_the_fractions(a in "[0-9]{1,12}", b in "[0-9]{1,12}") {
            let padded = |digits: &str| format!("{digits:0<12}").parse::<u64>().unwrap();
            let time = |digits: &str| utc(&format!("2025-01-15T10:00:00.{digits}Z"));
            prop_assert_eq!(time(&a).cmp(&time(&b)), padded(&a).cmp(&padded(&b)));
        }
    }
}
