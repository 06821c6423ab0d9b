//! Durations as Gateway API writes them (GEP-2257): a subset of Go's that means the same everywhere.

use std::time::Duration;

/// At most so many parts, like the four of `1h2m3s4ms`.
const MAX_PARTS: usize = 4;
/// At most so many digits a part.
const MAX_DIGITS: usize = 5;

/// Parses a duration like `500ms`, `1s` or `1m30s`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("not a duration: {text:?}; write it like 500ms, 1s, 1m30s");
    let mut rest = text;
    let mut total = Duration::ZERO;
    let mut parts = 0;
    while !rest.is_empty() {
        let (part, after) = first_part(rest).ok_or_else(wrong)?;
        total += part;
        rest = after;
        parts += 1;
    }
    match (1..=MAX_PARTS).contains(&parts) {
        true => Ok(total),
        false => Err(wrong()),
    }
}

fn first_part(text: &str) -> Option<(Duration, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    let letters = rest.bytes().take_while(u8::is_ascii_lowercase).count();
    let (unit, rest) = rest.split_at(letters);
    let number: u64 = Some(number).filter(|_| digits <= MAX_DIGITS)?.parse().ok()?;
    let part = match unit {
        "h" => Duration::from_secs(number * 3600),
        "m" => Duration::from_secs(number * 60),
        "s" => Duration::from_secs(number),
        "ms" => Duration::from_millis(number),
        _ => return None,
    };
    Some((part, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_gep_2257() {
        let good = [
            ("0s", 0),
            ("1s", 1000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("1h", 3_600_000),
            ("99999ms", 99_999),
        ];
        for (text, milliseconds) in good {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        let bad =
            ["", "1", "s", "-1s", "1.5s", "100000s", "1s1s1s1s1s", "5 parsecs", "1d", "1us", "١s", " 1s"];
        for text in bad {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
