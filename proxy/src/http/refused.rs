//! Messages that hyper refuses before they are requests: a head that cannot be read, or is too large.
//!
//! hyper answers those itself, on the stream, without asking anybody. Every answer of ours says why (contracts,
//! section 7), so its bytes are replaced on their way out, and the connection is told so that the refusal is counted.

use crate::reason::Reason;

/// A status line and, at most, the few fields hyper adds.
const LONGEST_ANSWER_BYTES: usize = 256;

/// The reason behind bytes that hyper writes while no request is in flight; `None` when they are not its refusal.
pub(super) fn reason(bytes: &[u8]) -> Option<Reason> {
    let status = bytes.strip_prefix(b"HTTP/1.1 ").or_else(|| bytes.strip_prefix(b"HTTP/1.0 "))?.get(..3)?;
    let reason = match status {
        b"400" | b"414" => Reason::BadRequest,
        b"431" => Reason::HeadersTooLarge,
        _ => return None,
    };
    let ours = || bytes.windows(REASON.len()).any(|window| window == REASON);
    (bytes.len() <= LONGEST_ANSWER_BYTES && !ours()).then_some(reason)
}

const REASON: &[u8] = b"x-outrigger-reason";

/// The answer that is sent instead.
pub(super) fn answer(reason: Reason, workload: &str) -> Vec<u8> {
    let (status, word) = (reason.status(), reason.word());
    let length = word.len();
    format!(
        "HTTP/1.1 {} {}\r\ncontent-type: text/plain\r\nx-outrigger-reason: {word}; hop={workload}; object=\r\n\
         connection: close\r\ncontent-length: {length}\r\n\r\n{word}",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hypers_own_refusals_are_replaced() {
        for (bytes, expected) in [
            (
                "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
                Some(Reason::BadRequest),
            ),
            ("HTTP/1.1 431 Request Header Fields Too Large\r\n\r\n", Some(Reason::HeadersTooLarge)),
            ("HTTP/1.1 414 URI Too Long\r\n\r\n", Some(Reason::BadRequest)),
            ("HTTP/1.1 200 OK\r\n\r\n", None),
            ("HTTP/1.1 100 Continue\r\n\r\n", None),
            ("HTTP/1.1 400 Bad Request\r\nx-outrigger-reason: bad_request\r\n\r\n", None),
            ("HTTP", None),
            ("", None),
        ] {
            assert_eq!(reason(bytes.as_bytes()), expected, "{bytes}");
        }
    }

    #[test]
    fn the_answer_says_why_and_ends_the_connection() {
        let answer = String::from_utf8(answer(Reason::HeadersTooLarge, "web-1")).unwrap();
        assert!(answer.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{answer}");
        assert!(answer.contains("x-outrigger-reason: headers_too_large; hop=web-1; object=\r\n"), "{answer}");
        assert!(
            answer.contains("connection: close\r\n") && answer.ends_with("\r\n\r\nheaders_too_large"),
            "{answer}"
        );
    }
}
