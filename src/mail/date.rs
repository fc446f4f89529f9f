//! Points in time and the forms in which mail writes them: RFC 5322 section 3.3 in headers, RFC 3339 for people and JSON.
//!
//! Time always comes from outside as a value; nothing here reads a clock. Only UTC is written.

use std::fmt;

use nanoserde::{DeBin, SerBin};

const SECONDS_A_DAY: i64 = 86_400;
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Seconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, SerBin, DeBin)]
pub struct UnixTime(pub i64);

/// A date of the proleptic Gregorian calendar with its time of day, UTC.
struct Civil {
    year: i64,
    month: usize,
    day: i64,
    second_of_day: i64,
}

impl UnixTime {
    /// RFC 5322 form in UTC: `Mon, 23 Nov 2026 16:43:14 +0000`.
    pub fn rfc5322(self) -> String {
        let date = self.civil();
        let weekday = WEEKDAYS[usize::try_from(self.0.div_euclid(SECONDS_A_DAY).rem_euclid(7)).unwrap_or(0)];
        let (h, m, s) = (date.second_of_day / 3600, date.second_of_day / 60 % 60, date.second_of_day % 60);
        format!("{weekday}, {} {} {:04} {h:02}:{m:02}:{s:02} +0000", date.day, MONTHS[date.month - 1], date.year)
    }

    /// Adds seconds, staying at the ends of the range instead of wrapping.
    pub fn plus(self, seconds: i64) -> UnixTime {
        UnixTime(self.0.saturating_add(seconds))
    }

    /// From a calendar date in UTC. `None` for a date that does not exist.
    pub fn from_civil(year: i64, month: u32, day: u32, second_of_day: i64) -> Option<UnixTime> {
        if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) || !(0..=SECONDS_A_DAY).contains(&second_of_day) {
            return None;
        }
        if !(-9999..=9999).contains(&year) {
            return None;
        }
        Some(UnixTime(days_from_civil(year, i64::from(month), i64::from(day)) * SECONDS_A_DAY + second_of_day))
    }

    fn civil(self) -> Civil {
        // Days are counted from 0000-03-01, so that the leap day ends a year; 146,097 days are 400 years.
        let days = self.0.div_euclid(SECONDS_A_DAY) + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        Civil {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month: usize::try_from(month).unwrap_or(1),
            day: day_of_year - (153 * shifted + 2) / 5 + 1,
            second_of_day: self.0.rem_euclid(SECONDS_A_DAY),
        }
    }
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// RFC 3339 in UTC: `2026-11-23T16:43:14Z`.
impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = self.civil();
        let (h, m, s) = (date.second_of_day / 3600, date.second_of_day / 60 % 60, date.second_of_day % 60);
        write!(f, "{:04}-{:02}-{:02}T{h:02}:{m:02}:{s:02}Z", date.year, date.month, date.day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        assert_eq!(UnixTime(0).rfc5322(), "Thu, 1 Jan 1970 00:00:00 +0000");
        assert_eq!(UnixTime(1_795_452_194).rfc5322(), "Mon, 23 Nov 2026 16:43:14 +0000");
        assert_eq!(UnixTime(951_782_400).to_string(), "2000-02-29T00:00:00Z");
        assert_eq!(UnixTime(-1).to_string(), "1969-12-31T23:59:59Z");
        assert_eq!(UnixTime::from_civil(2026, 11, 23, 60_194), Some(UnixTime(1_795_452_194)));
        assert_eq!(UnixTime::from_civil(2026, 2, 29, 0), None);
    }

    #[test]
    fn every_day_of_eight_centuries_survives_the_round_trip() {
        for day in -146_097..146_097 {
            let time = UnixTime(day * SECONDS_A_DAY + 1);
            let date = time.civil();
            let back = UnixTime::from_civil(date.year, date.month as u32, date.day as u32, date.second_of_day);
            assert_eq!(back, Some(time));
        }
    }
}
