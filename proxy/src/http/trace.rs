//! W3C trace context: a `traceparent` that is there and valid is kept, otherwise a trace is started.
//! Source: W3C Trace Context, level 1, sections 3.2 and 4.3.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::hygiene::Fields;

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Length of a version 00 `traceparent`, in bytes.
const LENGTH: usize = 55;

/// Makes sure the request belongs to a trace. A new one is not sampled: nobody exports spans of it yet. `fields` are those the
/// head came with.
pub(crate) fn keep_or_start(headers: &mut HeaderMap, fields: Fields, rng: &mut fastrand::Rng) {
    if !fields.have(Fields::TRACE) {
        headers.insert(TRACEPARENT, start(rng));
        return;
    }
    let mut values = headers.get_all(TRACEPARENT).iter();
    let first = values.next();
    let single = values.next().is_none();
    if first.is_some_and(|value| single && is_valid(value.as_bytes())) {
        return;
    }
    headers.remove(TRACESTATE);
    headers.insert(TRACEPARENT, start(rng));
}

fn start(rng: &mut fastrand::Rng) -> HeaderValue {
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    for place in [3, 19, 36] {
        // An id of zeros only is invalid.
        text[place..place + 16].copy_from_slice(&hexadecimal(rng.u64(1..)));
    }
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static(""))
}

/// Sixteen digits, eight at a time: each half-byte in a byte of its own, and to those above nine what lies between `9` and `a`.
fn hexadecimal(number: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    for (half, place) in [(number >> 32, 0), (number & 0xffff_ffff, 8)] {
        let spread = (half | half << 16) & 0x0000_ffff_0000_ffff;
        let spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
        let spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
        let above_nine = ((spread + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
        let text = spread + 0x3030_3030_3030_3030 + above_nine * u64::from(b'a' - b'9' - 1);
        digits[place..place + 8].copy_from_slice(&text.to_be_bytes());
    }
    digits
}

/// Whether a value can be passed on: known shape, lower-case hexadecimal, ids that are not all zeros.
fn is_valid(value: &[u8]) -> bool {
    let hex = |part: &[u8]| part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let set = |part: &[u8]| part.iter().any(|b| *b != b'0');
    if value.len() < LENGTH || value[2] != b'-' || value[35] != b'-' || value[52] != b'-' {
        return false;
    }
    let (version, trace, parent, flags) = (&value[..2], &value[3..35], &value[36..52], &value[53..55]);
    let length =
        if version == b"00" { value.len() == LENGTH } else { value.get(LENGTH).is_none_or(|b| *b == b'-') };
    length
        && version != b"ff"
        && hex(version)
        && hex(trace)
        && hex(parent)
        && hex(flags)
        && set(trace)
        && set(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn ensure(headers: &mut HeaderMap, rng: &mut fastrand::Rng) {
        let fields = Fields::of(headers);
        keep_or_start(headers, fields, rng);
    }

    #[test]
    fn a_valid_trace_is_kept_and_an_invalid_one_replaced() {
        for (given, kept) in [
            (GOOD, true),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", true),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", false),
            ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false),
            ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false),
            ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false),
            ("rubbish", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, HeaderValue::from_static(given));
            headers.insert(TRACESTATE, HeaderValue::from_static("a=1"));
            ensure(&mut headers, &mut fastrand::Rng::with_seed(1));
            assert_eq!(headers[TRACEPARENT] == given, kept, "{given}");
            assert_eq!(headers.contains_key(TRACESTATE), kept, "{given}");
            assert!(is_valid(headers[TRACEPARENT].as_bytes()));
        }
    }

    #[test]
    fn numbers_are_written_in_hexadecimal() {
        for number in [0, 1, 0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, u64::MAX, 0x9a9a_9a9a_0f0f_a9a9] {
            assert_eq!(hexadecimal(number), format!("{number:016x}").as_bytes(), "{number:x}");
        }
    }

    #[test]
    fn two_values_are_not_a_trace_and_none_starts_one() {
        let mut headers = HeaderMap::new();
        ensure(&mut headers, &mut fastrand::Rng::with_seed(1));
        assert!(is_valid(headers[TRACEPARENT].as_bytes()));
        headers.append(TRACEPARENT, HeaderValue::from_static(GOOD));
        ensure(&mut headers, &mut fastrand::Rng::with_seed(2));
        assert_eq!(headers.get_all(TRACEPARENT).iter().count(), 1);
    }
}
