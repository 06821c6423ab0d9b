//! Header changes that routes ask for.

use http::{HeaderMap, HeaderName, header};
use outrigger_model::route::HeaderChanges;

/// Applies changes in the order remove, set, add. Framing, hop-by-hop and host fields stay as they are.
pub(crate) fn apply(changes: &HeaderChanges, headers: &mut HeaderMap) {
    if changes.is_empty() {
        return;
    }
    for name in changes.remove.iter().filter(|name| may_change(name)) {
        headers.remove(name);
    }
    for (name, value) in changes.set.iter().filter(|(name, _)| may_change(name)) {
        headers.insert(name.clone(), value.clone());
    }
    for (name, value) in changes.add.iter().filter(|(name, _)| may_change(name)) {
        headers.append(name.clone(), value.clone());
    }
}

fn may_change(name: &HeaderName) -> bool {
    const FIXED: [HeaderName; 7] = [
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::UPGRADE,
        header::TE,
        header::TRAILER,
        header::HOST,
    ];
    !FIXED.contains(name)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn pair(name: &'static str, value: &'static str) -> (HeaderName, HeaderValue) {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    }

    #[test]
    fn changes_are_applied_in_order_and_never_touch_framing() {
        let mut headers = HeaderMap::from_iter([pair("a", "1"), pair("b", "1"), pair("content-length", "3")]);
        let changes = HeaderChanges {
            remove: vec![HeaderName::from_static("a"), header::CONTENT_LENGTH],
            set: vec![pair("b", "2"), pair("transfer-encoding", "chunked")],
            add: vec![pair("b", "3"), pair("c", "4")],
        };
        apply(&changes, &mut headers);
        let mut shown: Vec<String> =
            headers.iter().map(|(n, v)| format!("{n}={}", v.to_str().unwrap())).collect();
        shown.sort();
        assert_eq!(shown, ["b=2", "b=3", "c=4", "content-length=3"]);
    }
}
