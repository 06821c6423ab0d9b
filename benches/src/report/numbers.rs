//! Figures as text.

use crate::figures::Spread;
use crate::measure::Measure;

/// What stands where there is no figure.
pub(super) const NONE: &str = "-";
/// Ratios are near one, or of interest where they are not.
const RATIO_DECIMALS: usize = 2;
/// One more than bounds have, so that what misses a bound narrowly does not look like it.
const JUDGED_DECIMALS: usize = 3;

/// The median and, where there is one, the range.
pub(super) fn spread(measure: Measure, spread: Option<Spread>) -> String {
    let Some(found) = spread else { return NONE.to_owned() };
    ranged(found, measure.decimals(found.median))
}

/// The median ratio of some rounds and, where there is one, the range.
pub(super) fn ratio(spread: Option<Spread>) -> String {
    spread.map_or_else(|| NONE.to_owned(), |found| ranged(found, RATIO_DECIMALS))
}

/// The same where it is held against a bound.
pub(super) fn judged_ratio(spread: Option<Spread>) -> String {
    spread.map_or_else(|| NONE.to_owned(), |found| ranged(found, JUDGED_DECIMALS))
}

fn ranged(Spread { median, low, high }: Spread, decimals: usize) -> String {
    let (median, low, high) = (number(median, decimals), number(low, decimals), number(high, decimals));
    if low == high { median } else { format!("{median} ({low}–{high})") }
}

/// A number with its thousands apart from each other.
pub(super) fn number(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
    let is_zero = text.chars().all(|c| matches!(c, '0' | '.'));
    let mut grouped = if value < 0.0 && !is_zero { "-".to_owned() } else { String::new() };
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        let cases = [
            (0.0, 0, "0"),
            (-0.001, 2, "0.00"),
            (999.5, 0, "1,000"),
            (1234567.891, 1, "1,234,567.9"),
            (-12345.0, 0, "-12,345"),
            (12.345, 2, "12.35"),
        ];
        for (value, decimals, text) in cases {
            // 12.345 is a little more in binary.
            assert_eq!(number(value, decimals), text, "{value}");
        }
    }

    #[test]
    fn a_range_is_shown_where_there_is_one() {
        let of = |figures: &[f64]| Spread::of(figures.iter().copied());
        assert_eq!(spread(Measure::CpuPerRequest, of(&[])), "-");
        assert_eq!(spread(Measure::CpuPerRequest, of(&[9.3125])), "9.31");
        assert_eq!(spread(Measure::CpuPerRequest, of(&[9.0, 10.0, 12.0])), "10.0 (9.0–12.0)");
        assert_eq!(spread(Measure::Requests, of(&[41_000.4, 39_000.0])), "40,000 (39,000–41,000)");
        assert_eq!(ratio(of(&[0.341, 0.344])), "0.34");
        assert_eq!(ratio(of(&[0.3, 0.4, 1.25])), "0.40 (0.30–1.25)");
    }
}
