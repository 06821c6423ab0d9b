//! Who tries again, where requests cross several proxies: each would multiply the tries of the others, and a destination that
//! fails would get a storm (Google, "Site Reliability Engineering", chapter 22, "Cascading Failures").
//!
//! A proxy whose route tries failures again says so behind it, in a member of `tracestate`, which applications pass on as they
//! pass on `traceparent`; proxies behind do only what is always safe. A client that claims it falsely loses tries of its own
//! requests and nothing else, so it need not be verified. What has been tried in vain is said on the answer.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::http::trace::TRACESTATE;

/// Says on an answer that trying again was in vain. Believed of verified peers only.
pub(super) const RETRIES: HeaderName = HeaderName::from_static("x-outrigger-retries");

const USED_UP: HeaderValue = HeaderValue::from_static("used");

/// Our key in `tracestate`.
const KEY: &str = "outrigger";
/// Our member: failures are tried again by a proxy before.
const MEMBER: &str = "outrigger=r";
/// Members that a `tracestate` may have (W3C Trace Context, section 3.3.1.1).
const MAX_MEMBERS: usize = 32;

/// Whether a proxy before this one tries again what fails.
pub(super) fn is_marked(headers: &HeaderMap) -> bool {
    members(headers).any(|member| member == MEMBER)
}

/// Says so to proxies behind. A changed member comes first, and the last goes when there are too many.
pub(super) fn mark(headers: &mut HeaderMap) {
    let others = members(headers).filter(|member| member.split('=').next() != Some(KEY));
    let all: Vec<&str> = std::iter::once(MEMBER).chain(others).take(MAX_MEMBERS).collect();
    // Members of a valid value make a valid value.
    if let Ok(value) = HeaderValue::try_from(all.join(",")) {
        headers.insert(TRACESTATE, value);
    }
}

/// The field of an answer that was tried in vain.
pub(super) fn used_up() -> (HeaderName, HeaderValue) {
    (RETRIES, USED_UP)
}

/// Whether an answer says that it was tried in vain.
pub(super) fn is_used_up(headers: &HeaderMap) -> bool {
    headers.get(RETRIES) == Some(&USED_UP)
}

fn members(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(TRACESTATE).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|member| !member.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (TRACESTATE, HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn our_member_comes_first_and_once_and_the_others_stay() {
        for (before, after) in [
            (vec![], "outrigger=r"),
            (vec!["a=1"], "outrigger=r,a=1"),
            (vec!["a=1, b=2", "c=3"], "outrigger=r,a=1,b=2,c=3"),
            (vec!["a=1,outrigger=old,,b=2"], "outrigger=r,a=1,b=2"),
            (vec!["outriggers=1"], "outrigger=r,outriggers=1"),
        ] {
            let mut headers = state(&before);
            assert!(!is_marked(&headers), "{before:?}");
            mark(&mut headers);
            let values: Vec<_> = headers.get_all(TRACESTATE).iter().collect();
            assert_eq!(values, [after], "{before:?}");
            assert!(is_marked(&headers));
        }
        let many: Vec<String> = (0..32).map(|number| format!("k{number}=v")).collect();
        let mut headers = state(&[&many.join(",")]);
        mark(&mut headers);
        assert_eq!(members(&headers).count(), 32);
        assert_eq!(members(&headers).last(), Some("k30=v"));
    }
}
