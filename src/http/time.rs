//! Times as texts: RFC 3339 in UTC on the way out, with any offset or as a bare date on the way in.

use std::time::SystemTime;

const NANOS: u64 = 1_000_000_000;
const DAY: u64 = 86_400;

/// Nanoseconds since 1970 as RFC 3339 in UTC, such as `2026-01-31T09:08:07.000000123Z`.
pub(super) fn rfc3339(time_ns: u64) -> String {
    let (seconds, nanos) = (time_ns / NANOS, time_ns % NANOS);
    let (days, second) = (seconds / DAY, seconds % DAY);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// Now, by this machine's clock: for people, and never for deciding anything.
pub fn rfc3339_now() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    rfc3339(u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX))
}

/// Year, month and day of a number of days since 1970 in the Gregorian calendar: years start in March so that the leap day is
/// the last, and 400 years have 146,097 days.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// Undoes [`rfc3339`]: a time with an offset or `Z`, or a date, which begins at midnight UTC. From 1970 to 2554.
pub(super) fn parse(text: &str) -> Option<u64> {
    let (date, rest) = text.split_at_checked(10)?;
    let seconds = days(date)?.checked_mul(DAY)?;
    if rest.is_empty() {
        return seconds.checked_mul(NANOS);
    }
    let rest = rest.strip_prefix('T')?;
    let (clock, rest) = rest.split_at_checked(8)?;
    let (hour, clock) = two(clock).filter(|(hour, _)| *hour < 24)?;
    let (minute, clock) = two(clock.strip_prefix(':')?).filter(|(minute, _)| *minute < 60)?;
    let (second, _) = two(clock.strip_prefix(':')?).filter(|(second, _)| *second < 60)?;
    let (nanos, offset) = fraction(rest)?;
    let seconds = seconds + hour * 3600 + minute * 60 + second;
    shifted(seconds, offset)?
        .checked_mul(NANOS)?
        .checked_add(nanos)
}

/// The days since 1970 of `2026-01-31`: the inverse of [`civil`].
fn days(date: &str) -> Option<u64> {
    let (century, rest) = two(date)?;
    let (year, rest) = two(rest)?;
    let (month, rest) = two(rest.strip_prefix('-')?)?;
    let (day, rest) = two(rest.strip_prefix('-')?)?;
    let year = century * 100 + year;
    if !rest.is_empty() || year < 1970 || !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    let (shifted_year, shifted_month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let (era, year_of_era) = (shifted_year / 400, shifted_year % 400);
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * 146_097 + day_of_era).checked_sub(719_468)?;
    // The 31st of a month of 30 days is another day.
    (civil(days) == (year, month, day)).then_some(days)
}

/// Two digits, and what follows.
fn two(text: &str) -> Option<(u64, &str)> {
    let (digits, rest) = text.split_at_checked(2)?;
    let good = digits.bytes().all(|b| b.is_ascii_digit());
    Some((digits.parse().ok().filter(|_| good)?, rest))
}

/// The nanoseconds of `.5Z`, and what follows.
fn fraction(text: &str) -> Option<(u64, &str)> {
    let Some(rest) = text.strip_prefix('.') else {
        return Some((0, text));
    };
    let len = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = rest.split_at(len);
    let nanos = format!("{digits:0<9}");
    ((1..=9).contains(&len)).then(|| Some((nanos.parse().ok()?, rest)))?
}

/// Seconds in UTC of those on a clock that is ahead of it by `offset`.
fn shifted(seconds: u64, offset: &str) -> Option<u64> {
    if offset == "Z" {
        return Some(seconds);
    }
    let (sign, clock) = offset.split_at_checked(1)?;
    let (hours, clock) = two(clock).filter(|(hours, _)| *hours < 24)?;
    let (minutes, rest) = two(clock.strip_prefix(':')?).filter(|(minutes, _)| *minutes < 60)?;
    let ahead = hours * 3600 + minutes * 60;
    match sign {
        _ if !rest.is_empty() => None,
        "+" => seconds.checked_sub(ahead),
        "-" => seconds.checked_add(ahead),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc3339() {
        for (time, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400_000_000_001, "2000-02-29T00:00:00.000000001Z"),
            (1_769_850_487_123_456_789, "2026-01-31T09:08:07.123456789Z"),
            (4_107_542_400_000_000_000, "2100-03-01T00:00:00.000000000Z"),
            (u64::MAX, "2554-07-21T23:34:33.709551615Z"),
        ] {
            assert_eq!(rfc3339(time), text);
            assert_eq!(parse(text), Some(time));
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut last = civil(0);
        for day in 1..200_000 {
            let next = civil(day);
            let same_month = next == (last.0, last.1, last.2 + 1);
            let next_month = next == (last.0, last.1 + 1, 1) && last.2 >= 28;
            let next_year = next == (last.0 + 1, 1, 1) && (last.1, last.2) == (12, 31);
            assert!(
                same_month || next_month || next_year,
                "{last:?} then {next:?}"
            );
            let text = format!("{:04}-{:02}-{:02}", next.0, next.1, next.2);
            assert_eq!(days(&text), Some(day), "{text}");
            last = next;
        }
    }

    #[test]
    fn a_time_may_have_an_offset_or_be_a_date_and_nothing_else() {
        let noon = parse("2026-01-31T12:00:00Z").unwrap();
        assert_eq!(parse("2026-01-31"), Some(noon - 12 * 3600 * NANOS));
        assert_eq!(parse("2026-01-31T13:00:00+01:00"), Some(noon));
        assert_eq!(parse("2026-01-31T06:30:00.0-05:30"), Some(noon));
        assert_eq!(parse("2026-01-31T12:00:00.5Z"), Some(noon + NANOS / 2));
        for bad in [
            "",
            "2026",
            "2026-1-31",
            "2026-02-29",
            "2026-04-31",
            "2026-13-01",
            "2026-00-01",
            "2026-01-00",
            "2026-01-31T",
            "2026-01-31T12:00",
            "2026-01-31T24:00:00Z",
            "2026-01-31T12:60:00Z",
            "2026-01-31T12:00:60Z",
            "2026-01-31T12:00:00",
            "2026-01-31T12:00:00.Z",
            "2026-01-31T12:00:00+1:00",
            "2026-01-31T12:00:00+01:00x",
            "2026-01-31 12:00:00Z",
            "1969-12-31",
            "1970-01-01T00:00:00+01:00",
            "2555-01-01",
            "2026-01-31t12:00:00Z",
            "2026-01-31T12:00:00z",
            "+026-01-31",
            "2026-01-31T12:00:00.1234567890Z",
            "\u{e9}026-01-31",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
