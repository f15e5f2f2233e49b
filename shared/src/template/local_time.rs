//! The time as a template may ask for it (`strftime_now`). An engine answers with its server's local time: the offset is that of
//! the engine's zone, not ours.

use std::fmt::Write as _;

/// A moment on a wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// Since 1970-01-01T00:00:00Z.
    pub unix_seconds: i64,
    /// How far the clock is ahead of UTC.
    pub utc_offset_seconds: i32,
}

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A wall clock's reading, in the proleptic Gregorian calendar.
struct Reading {
    year: i64,
    /// From 1.
    month: i64,
    /// From 1.
    day: i64,
    /// From 0.
    day_of_year: i64,
    /// Sunday is 0.
    weekday: i64,
    hour: i64,
    minute: i64,
    second: i64,
}

impl LocalTime {
    /// Reads RFC 3339, as in `2026-07-09T18:00:00+02:00`; the offset is kept. Nothing when it is not such a time.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = |from: usize, to: usize| {
            let digits = text.get(from..to).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))?;
            digits.parse::<i64>().ok()
        };
        let letters = [(4, "-"), (7, "-"), (13, ":"), (16, ":")];
        let is_time = letters.iter().all(|&(at, letter)| text.get(at..=at) == Some(letter))
            && text.get(10..11).is_some_and(|letter| matches!(letter, "T" | "t" | " "));
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        let in_range = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
        let zone = text.get(19..)?.trim_start_matches('.').trim_start_matches(|letter: char| letter.is_ascii_digit());
        let utc_offset_seconds = offset(zone)?;
        let shifted_month = (month + 9) % 12;
        let shifted_year = year - i64::from(month <= 2);
        let era_days = 365 * shifted_year + shifted_year / 4 - shifted_year / 100 + shifted_year / 400;
        let days = era_days + (153 * shifted_month + 2) / 5 + day - 1 - 719_468;
        let unix_seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - i64::from(utc_offset_seconds);
        (is_time && in_range).then_some(Self { unix_seconds, utc_offset_seconds })
    }

    /// As C's `strftime` in the C locale. What it does not know stays as it is; microseconds are zero; zone names are empty, as for
    /// Python's naive times.
    #[must_use]
    pub fn format(&self, format: &str) -> String {
        let reading = self.reading();
        let mut out = String::with_capacity(format.len() + 16);
        let mut letters = format.chars();
        while let Some(letter) = letters.next() {
            if letter != '%' {
                out.push(letter);
                continue;
            }
            let mut flag = None;
            let mut directive = letters.next();
            if let Some(given) = directive.filter(|given| matches!(given, '-' | '_' | '0' | '^' | '#')) {
                flag = Some(given);
                directive = letters.next();
            }
            match directive {
                Some(directive) => reading.write(&mut out, directive, flag),
                None => out.push('%'),
            }
        }
        out
    }

    fn reading(&self) -> Reading {
        const DAY: i64 = 86_400;
        let seconds = self.unix_seconds.saturating_add(self.utc_offset_seconds.into());
        let (days, of_day) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
        // Eras of 400 years from 0000-03-01, so that leap days come last.
        let shifted = days + 719_468;
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let day_of_year = if month <= 2 { of_year - 306 } else { of_year + 59 + i64::from(is_leap) };
        Reading {
            year,
            month,
            day,
            day_of_year,
            weekday: (days + 4).rem_euclid(7),
            hour: of_day / 3_600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
        }
    }
}

/// Seconds ahead of UTC, from `Z` or `+02:00`.
fn offset(zone: &str) -> Option<i32> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let (sign, digits) =
        zone.strip_prefix('+').map(|digits| (1, digits)).or_else(|| Some((-1, zone.strip_prefix('-')?)))?;
    let (hours, minutes) = digits.split_once(':').filter(|(hours, minutes)| hours.len() == 2 && minutes.len() == 2)?;
    let (hours, minutes) = (hours.parse::<u8>().ok()?, minutes.parse::<u8>().ok()?);
    (hours < 24 && minutes < 60).then_some(sign * (i32::from(hours) * 3_600 + i32::from(minutes) * 60))
}

impl Reading {
    fn write(&self, out: &mut String, directive: char, flag: Option<char>) {
        let hour_of_12 = (self.hour + 11) % 12 + 1;
        let (value, width, pad) = match directive {
            'Y' => (self.year, 1, '0'),
            'C' => (self.year / 100, 2, '0'),
            'y' => (self.year.rem_euclid(100), 2, '0'),
            'm' => (self.month, 2, '0'),
            'd' => (self.day, 2, '0'),
            'e' => (self.day, 2, ' '),
            'H' => (self.hour, 2, '0'),
            'k' => (self.hour, 2, ' '),
            'I' => (hour_of_12, 2, '0'),
            'l' => (hour_of_12, 2, ' '),
            'M' => (self.minute, 2, '0'),
            'S' => (self.second, 2, '0'),
            'f' => (0, 6, '0'),
            'j' => (self.day_of_year + 1, 3, '0'),
            'w' => (self.weekday, 1, '0'),
            'u' => ((self.weekday + 6) % 7 + 1, 1, '0'),
            'U' => ((self.day_of_year + 7 - self.weekday) / 7, 2, '0'),
            'W' => ((self.day_of_year + 7 - (self.weekday + 6) % 7) / 7, 2, '0'),
            _ => return self.write_words(out, directive, flag),
        };
        let (width, pad) = match flag {
            Some('-') => (1, pad),
            Some('_') => (width, ' '),
            Some('0') => (width, '0'),
            _ => (width, pad),
        };
        let digits = value.to_string();
        out.extend(std::iter::repeat_n(pad, usize::saturating_sub(width, digits.len())));
        out.push_str(&digits);
    }

    fn write_words(&self, out: &mut String, directive: char, flag: Option<char>) {
        let name = |names: &[&'static str], at: i64| usize::try_from(at).ok().and_then(|at| names.get(at).copied());
        let short = |name: &'static str| name.get(..3).unwrap_or(name);
        let weekday = name(&DAYS, self.weekday).unwrap_or_default();
        let month = name(&MONTHS, self.month - 1).unwrap_or_default();
        let word = match directive {
            'A' => weekday,
            'a' => short(weekday),
            'B' => month,
            'b' | 'h' => short(month),
            'p' => {
                if self.hour < 12 {
                    "AM"
                } else {
                    "PM"
                }
            }
            'P' => {
                if self.hour < 12 {
                    "am"
                } else {
                    "pm"
                }
            }
            'Z' | 'z' => "",
            '%' => "%",
            'n' => "\n",
            't' => "\t",
            _ => return self.write_compound(out, directive, flag),
        };
        if flag == Some('^') { out.push_str(&word.to_uppercase()) } else { out.push_str(word) }
    }

    fn write_compound(&self, out: &mut String, directive: char, flag: Option<char>) {
        let parts = match directive {
            'F' => "Y-m-d",
            'D' | 'x' => "m/d/y",
            'T' | 'X' => "H:M:S",
            'R' => "H:M",
            'r' => "I:M:S p",
            'c' => "a b e T Y",
            _ => {
                let flag = flag.map(String::from).unwrap_or_default();
                let _infallible = write!(out, "%{flag}{directive}");
                return;
            }
        };
        for letter in parts.chars() {
            if letter.is_ascii_alphabetic() { self.write(out, letter, None) } else { out.push(letter) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(unix_seconds: i64, format: &str) -> String {
        LocalTime { unix_seconds, utc_offset_seconds: 0 }.format(format)
    }

    #[test]
    fn dates_are_spelled_as_c_spells_them() {
        // date -u -d @N +FORMAT
        for (seconds, format, text) in [
            (0, "%A %d %B %Y %H:%M:%S %j %U %W %u", "Thursday 01 January 1970 00:00:00 001 00 00 4"),
            (1_709_164_800, "%d %b %Y", "29 Feb 2024"),
            (1_735_603_200, "%Y-%m-%d %j %U %W %y%%", "2024-12-31 366 52 53 24%"),
            (1_740_873_599, "%F %T %I:%M %p %a %w", "2025-03-01 23:59:59 11:59 PM Sat 6"),
            (-1, "%c|%x|%X|%D|%R", "Wed Dec 31 23:59:59 1969|12/31/69|23:59:59|12/31/69|23:59"),
            (1_752_000_000, "%-d|%e|%_H|%^b|%Q|%", "8| 8|18|JUL|%Q|%"),
        ] {
            assert_eq!(at(seconds, format), text);
        }
    }

    #[test]
    fn the_offset_moves_the_day() {
        let time = LocalTime { unix_seconds: 1_709_250_000, utc_offset_seconds: 7_200 };
        assert_eq!(time.format("%d %b"), "01 Mar");
    }

    #[test]
    fn what_is_read_is_written_again() {
        for text in ["2026-07-09T18:00:59+02:00", "1969-12-31T23:59:59-11:30", "2024-02-29T00:00:00Z"] {
            let time = LocalTime::parse(text).unwrap();
            assert_eq!(time.format("%Y-%m-%dT%H:%M:%S"), text[..19], "{text}");
        }
        assert_eq!(LocalTime::parse("2024-02-29T00:00:00.5Z").unwrap().unix_seconds, 1_709_164_800);
        for text in [
            "",
            "2024-02-29",
            "2024-13-01T00:00:00Z",
            "2024-02-29T00:00:00",
            "2024-02-29T00:00:00+2",
            "é024-02-29T00:00:00Z",
        ] {
            assert_eq!(LocalTime::parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_moment_has_a_reading() {
        for seconds in [i64::MIN, i64::MAX] {
            assert!(!at(seconds, "%c %j %U").is_empty());
        }
    }
}
