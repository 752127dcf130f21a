//! Writes moments: RFC 3339 for programs, the time of day for people.

const DAY_S: i64 = 86_400;

/// `2026-11-20T10:00:00.123Z`, from microseconds since the Unix epoch.
pub fn rfc3339(time_us: u64) -> String {
    let ms = time_us / 1000;
    let seconds = (ms / 1000) as i64;
    let (year, month, day) = civil_from_days(seconds / DAY_S);
    let (hour, minute, second) = clock(seconds);
    let ms = ms % 1000;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// `10:00:00`, so many minutes east of UTC.
pub fn time_of_day(time_us: u64, offset_minutes: i32) -> String {
    let seconds = (time_us / 1_000_000) as i64 + i64::from(offset_minutes) * 60;
    let (hour, minute, second) = clock(seconds);
    format!("{hour:02}:{minute:02}:{second:02}")
}

/// Hour, minute and second of the day.
const fn clock(seconds: i64) -> (i64, i64, i64) {
    let second = seconds.rem_euclid(DAY_S);
    (second / 3600, second / 60 % 60, second % 60)
}

/// Year, month and day (Gregorian) of a day counted from 1970-01-01.
///
/// Counts years from 1 March, so that the leap day is the last of its year, in eras of 400 years (146,097 days).
const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    // 0000-03-01 is 719,468 days before 1970-01-01.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March have 31, 30, 31, 30, 31 days over and over: 153 in five.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}
