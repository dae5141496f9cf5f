//! How people write times and amounts.

use chrono::{DateTime, SecondsFormat};

/// `in 5 min`, `3 min ago`; the date when it is more than 60 days away.
pub(super) fn when(timestamp: &str, now: f64) -> String {
    let Ok(at) = DateTime::parse_from_rfc3339(timestamp) else { return timestamp.to_owned() };
    #[allow(clippy::cast_precision_loss, reason = "microseconds of this age of the world fit")]
    let away = at.timestamp_micros() as f64 / 1e6 - now;
    match away {
        _ if away.abs() > 60.0 * 86_400.0 => at.format("%Y-%m-%d").to_string(),
        _ if away.abs() < 1.0 => "now".to_owned(),
        _ if away > 0.0 => format!("in {}", coarse(away)),
        _ => format!("{} ago", coarse(-away)),
    }
}

/// A timestamp to the second with its offset, as people write it.
pub(super) fn instant(timestamp: &str) -> String {
    DateTime::parse_from_rfc3339(timestamp).map_or_else(
        |_| timestamp.to_owned(),
        |at| at.to_rfc3339_opts(SecondsFormat::Secs, false).replacen('T', " ", 1),
    )
}

fn coarse(seconds: f64) -> String {
    match seconds {
        s if s < 100.0 => format!("{s:.0} s"),
        s if s < 100.0 * 60.0 => format!("{:.0} min", s / 60.0),
        s if s < 48.0 * 3600.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} d", s / 86_400.0),
    }
}

/// `0.25 s`, `12 s`, `3 min 5 s`, `2 h 10 min`.
pub(super) fn duration(seconds: f64) -> String {
    let sign = if seconds < 0.0 { "-" } else { "" };
    let seconds = seconds.abs();
    if seconds < 10.0 {
        return format!("{sign}{seconds:.2} s");
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped and not negative")]
    let whole = seconds.round().min(1e15) as u64;
    match whole {
        s if s < 60 => format!("{sign}{s} s"),
        s if s < 3600 => format!("{sign}{} min {} s", s / 60, s % 60),
        s if s < 48 * 3600 => format!("{sign}{} h {} min", s / 3600, s % 3600 / 60),
        s => format!("{sign}{} d {} h", s / 86_400, s % 86_400 / 3600),
    }
}

/// `12 B`, `3.5 MB`.
pub(super) fn size(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut amount = bytes;
    let mut unit = 0;
    while amount >= 1000.0 && unit + 1 < UNITS.len() {
        amount /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{amount:.0} B") } else { format!("{amount:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_distance_from_the_databases_clock() {
        let noon = 1_764_072_000.0; // 2025-11-25 12:00:00 UTC
        assert_eq!(when("2025-11-25T12:05:00+00:00", noon), "in 5 min");
        assert_eq!(when("2025-11-25T12:57:00+01:00", noon), "3 min ago");
        assert_eq!(when("2025-11-25T12:00:00.4+00:00", noon), "now");
        assert_eq!(when("2025-11-27T11:00:00+00:00", noon), "in 47 h");
        assert_eq!(when("2026-03-01T11:00:00+00:00", noon), "2026-03-01");
        assert_eq!(when("infinity", noon), "infinity");
    }

    #[test]
    fn amounts_have_two_units_at_most() {
        assert_eq!(duration(0.25), "0.25 s");
        assert_eq!(duration(59.7), "1 min 0 s");
        assert_eq!(duration(185.0), "3 min 5 s");
        assert_eq!(duration(7800.0), "2 h 10 min");
        assert_eq!(size(3_670_016.0), "3.5 MB");
        assert_eq!(size(12.0), "12 B");
    }
}
