//! `strftime` of C in its own locale.

use std::fmt::Write;

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

/// Formats a moment, in seconds since 1970 UTC, with the directives of C's `strftime` in its
/// own locale. A directive not listed here stays as it is.
pub(super) fn strftime(format: &str, seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86400), seconds.rem_euclid(86400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let weekday = (days + 4).rem_euclid(7);
    let hour12 = (hour + 11) % 12 + 1;
    let of_year = days - days_before(year);
    let (week_year, week) = iso_week(days, weekday);
    let month_name = MONTHS[month as usize - 1];
    let day_name = DAYS[weekday as usize];
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut directive = chars.next();
        // Those that stand for several.
        let several = match directive {
            Some('D' | 'x') => Some("%m/%d/%y"),
            Some('R') => Some("%H:%M"),
            Some('X') => Some("%H:%M:%S"),
            Some('r') => Some("%I:%M:%S %p"),
            Some('c') => Some("%a %b %e %H:%M:%S %Y"),
            _ => None,
        };
        if let Some(several) = several {
            out.push_str(&strftime(several, seconds));
            continue;
        }
        let pad = if directive == Some('-') {
            directive = chars.next();
            1
        } else {
            2
        };
        let number = |out: &mut String, value: i64, width: usize| {
            let width = if pad == 1 { 1 } else { width };
            let _ = write!(out, "{value:0width$}");
        };
        match directive {
            Some('Y') => number(&mut out, year, 4),
            Some('y') => number(&mut out, year.rem_euclid(100), 2),
            Some('m') => number(&mut out, month, 2),
            Some('d') => number(&mut out, day, 2),
            Some('e') => drop(write!(out, "{day:2}")),
            Some('H') => number(&mut out, hour, 2),
            Some('I') => number(&mut out, hour12, 2),
            Some('M') => number(&mut out, minute, 2),
            Some('S') => number(&mut out, second, 2),
            Some('j') => number(&mut out, of_year + 1, 3),
            Some('w') => number(&mut out, weekday, 1),
            Some('s') => number(&mut out, seconds, 1),
            Some('B') => out.push_str(month_name),
            Some('b' | 'h') => out.push_str(&month_name[..3]),
            Some('A') => out.push_str(day_name),
            Some('a') => out.push_str(&day_name[..3]),
            Some('p') => out.push_str(if hour < 12 { "AM" } else { "PM" }),
            Some('C') => number(&mut out, year.div_euclid(100), 2),
            Some('u') => number(&mut out, (weekday + 6) % 7 + 1, 1),
            // Weeks that begin on a Sunday, and on a Monday.
            Some('U') => number(&mut out, (of_year + 7 - weekday) / 7, 2),
            Some('W') => number(&mut out, (of_year + 7 - (weekday + 6) % 7) / 7, 2),
            Some('V') => number(&mut out, week, 2),
            Some('G') => number(&mut out, week_year, 4),
            Some('g') => number(&mut out, week_year.rem_euclid(100), 2),
            Some('k') => drop(write!(out, "{hour:2}")),
            Some('l') => drop(write!(out, "{hour12:2}")),
            Some('P') => out.push_str(if hour < 12 { "am" } else { "pm" }),
            // Python's, and none of C's: microseconds, which the clock here does not count.
            Some('f') => out.push_str("000000"),
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('F') => drop(write!(out, "{year:04}-{month:02}-{day:02}")),
            Some('T') => drop(write!(out, "{hour:02}:{minute:02}:{second:02}")),
            Some('Z') => out.push_str("UTC"),
            Some('z') => out.push_str("+0000"),
            Some('%') => out.push('%'),
            other => {
                out.push_str(if pad == 1 { "%-" } else { "%" });
                out.extend(other);
            }
        }
    }
    out
}

/// The year and the week that a day is in, counted from the week with the year's first Thursday.
fn iso_week(days: i64, weekday: i64) -> (i64, i64) {
    let thursday = days - (weekday + 6) % 7 + 3;
    let (year, ..) = civil(thursday);
    (year, (thursday - days_before(year)) / 7 + 1)
}

/// Days from 1970-01-01 to the first day of a year of the Gregorian calendar.
fn days_before(year: i64) -> i64 {
    let y = year - 1;
    y * 365 + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) - 719_162
}

/// Year, month and day of a day counted from 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    // Far outside any calendar; keeps the arithmetic in range.
    let days = days.clamp(-1_000_000_000, 1_000_000_000);
    let mut year = 1970 + days.div_euclid(366);
    while days_before(year + 1) <= days {
        year += ((days - days_before(year)) / 366).max(1);
    }
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut rest = days - days_before(year);
    let lengths = [31, 28 + i64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while rest >= lengths[month] {
        rest -= lengths[month];
        month += 1;
    }
    (year, month as i64 + 1, rest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let all = "%Y-%m-%d %H:%M:%S %j %a %A %b %B %y %I%p %-d %e %% %q";
        assert_eq!(strftime(all, 0), "1970-01-01 00:00:00 001 Thu Thursday Jan January 70 12AM 1  1 % %q");
        assert_eq!(strftime("%d %b %Y %T", 1_709_251_199), "29 Feb 2024 23:59:59");
        assert_eq!(strftime("%F %j", 1_735_689_599), "2024-12-31 366");
        assert_eq!(strftime("%F", -1), "1969-12-31");
        // What Python has for these moments.
        let weeks = "%U %W %V %G %g %u %C %k %l %P %f %D %R %X %r %c";
        assert_eq!(
            strftime(weeks, 1_741_529_106),
            "10 09 10 2025 25 7 20 14  2 pm 000000 03/09/25 14:05 14:05:06 02:05:06 PM Sun Mar  9 14:05:06 2025"
        );
        assert_eq!(strftime("%U %W %V %G", 1_735_603_200), "52 53 01 2025");
        assert_eq!(strftime("%U %W %V %G", 1_609_459_200), "00 00 53 2020");
        assert_eq!(strftime("%F", 4_107_542_400), "2100-03-01");
        assert!(!strftime("%F%j", i64::MAX).is_empty() && !strftime("%F%j", i64::MIN).is_empty());
    }
}
