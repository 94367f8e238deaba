//! Timestamps: `ExactTime` agrees with a reading of the calendar that shares no code with it.

use std::cmp::Ordering;

use domain::message::SentAt;
use domain::time::{ExactTime, FRACTION_DIGITS_MAX};

/// Plainest reading of a timestamp.
struct Reading<'a> {
    /// Whole seconds since 1970-01-01T00:00:00Z.
    secs: i64,
    /// The digits of the fraction, as they stand there.
    fraction: &'a str,
}

/// Input: texts, a line each; each alone, and each against the next.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    check_one(text);
    let times: Vec<_> = text.lines().filter_map(check_one).collect();
    for pair in times.windows(2) {
        let [(one, one_read), (other, other_read)] = pair else { unreachable!("windows of two") };
        assert_eq!(one.cmp(other), one_read.cmp(other_read), "order of {one:?} and {other:?}");
    }
}

/// Returns true for a `ts` that the contract allows.
pub(crate) fn is_utc(text: &str) -> bool {
    text.ends_with('Z') && read(text).is_some()
}

fn check_one(text: &str) -> Option<(ExactTime, Reading<'_>)> {
    let time = ExactTime::parse_offset(text).ok();
    let read = read(text);
    assert_eq!(time.is_some(), read.is_some(), "is {text:?} a time?");
    let utc = ExactTime::parse_utc(text).ok();
    assert_eq!(utc, time.clone().filter(|_| text.ends_with('Z')), "{text:?} in UTC");

    let sent_at = SentAt::parse(text.to_owned()).ok();
    assert_eq!(sent_at.as_ref().map(SentAt::as_str), utc.is_some().then_some(text));
    assert_eq!(sent_at.map(|s| s.time().clone()), utc);

    let (time, read) = (time?, read?);
    let digits = format!("{:0<6}", read.fraction);
    let micros: i64 = digits[..6].parse().unwrap();
    assert_eq!(time.at().as_micros(), read.secs * 1_000_000 + micros, "{text:?}");
    assert_eq!(time.finer(), digits[6..].trim_end_matches('0'), "{text:?}");
    if let Some(utc) = utc {
        let logged = ExactTime::parse_utc(&utc.at().to_string()).unwrap();
        let us = utc.at().as_micros();
        assert_eq!(logged.at().as_micros(), us - us.rem_euclid(1000), "{text:?} as a log line has it");
    }
    Some((time, read))
}

impl Reading<'_> {
    /// Fractions are numbers: what is shorter ends in zeros.
    fn cmp(&self, other: &Self) -> Ordering {
        let width = self.fraction.len().max(other.fraction.len());
        let padded = |fraction: &str| format!("{fraction:0<width$}");
        self.secs.cmp(&other.secs).then_with(|| padded(self.fraction).cmp(&padded(other.fraction)))
    }
}

fn read(text: &str) -> Option<Reading<'_>> {
    const PATTERN: &[u8; 19] = b"0000-00-00T00:00:00";
    let fits = |(c, p): (&u8, &u8)| if *p == b'0' { c.is_ascii_digit() } else { c == p };
    let local = text.as_bytes().first_chunk::<19>()?;
    if !local.iter().zip(PATTERN).all(fits) {
        return None;
    }
    let (fraction, zone) = match text[19..].strip_prefix('.') {
        None => ("", &text[19..]),
        Some(rest) => rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())),
    };
    if text[19..].starts_with('.') && !(1..=FRACTION_DIGITS_MAX).contains(&fraction.len()) {
        return None;
    }
    let number = |from: usize, to: usize| text[from..to].parse::<i64>().unwrap();
    let days = days(number(0, 4), number(5, 7), number(8, 10))?;
    let secs = secs(number(11, 13), number(14, 16), number(17, 19))?;
    Some(Reading { secs: days * 86400 + secs - offset_secs(zone)?, fraction })
}

/// Days from 1970-01-01 to this date.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let months = [31, if is_leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before = usize::try_from(month).ok()?.checked_sub(1)?;
    if !(1..=*months.get(before)?).contains(&day) {
        return None;
    }
    // The leap years from 0 to the one before are the years divided by 4, by 100 and by 400, rounded up.
    let before_year = |y: i64| 365 * y + (y + 3) / 4 - (y + 99) / 100 + (y + 399) / 400;
    Some(before_year(year) - before_year(1970) + months[..before].iter().sum::<i64>() + day - 1)
}

fn secs(hours: i64, minutes: i64, secs: i64) -> Option<i64> {
    (hours < 24 && minutes < 60 && secs < 60).then_some(hours * 3600 + minutes * 60 + secs)
}

fn offset_secs(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let (sign, hhmm) = match zone.as_bytes() {
        [sign, h1, h2, b':', m1, m2] | [sign, h1, h2, m1, m2] => (sign, [h1, h2, m1, m2]),
        _ => return None,
    };
    if !hhmm.iter().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let [h1, h2, m1, m2] = hhmm.map(|c| i64::from(c - b'0'));
    let secs = secs(h1 * 10 + h2, m1 * 10 + m2, 0)?;
    match sign {
        b'+' => Some(secs),
        b'-' => Some(-secs),
        _ => None,
    }
}
