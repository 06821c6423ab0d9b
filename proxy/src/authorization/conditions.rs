//! What is compared one by one: callers, methods, headers and claims.

use http::header::HOST;
use outrigger_model::authorization::{AuthorizationAction, Condition, Source, Subject, TextPattern};

use super::{Call, Caller};

/// Whether a caller is one of these, within a mesh of this trust domain. Without any it is.
pub(super) fn is_from(sources: &[Source], caller: &Caller<'_>, trust_domain: &str) -> bool {
    sources.is_empty() || sources.iter().any(|source| is_source(source, caller, trust_domain))
}

fn is_source(source: &Source, caller: &Caller<'_>, trust_domain: &str) -> bool {
    let one = |patterns: &[TextPattern], text: Option<&str>| {
        patterns.is_empty() || text.is_some_and(|text| patterns.iter().any(|pattern| pattern.matches(text)))
    };
    let own = caller.identity.filter(|identity| identity.trust_domain() == trust_domain);
    one(&source.identities, caller.identity.map(|identity| identity.as_str()))
        && one(&source.namespaces, own.map(|identity| identity.namespace()))
        && (source.networks.is_empty()
            || source.networks.iter().any(|network| network.contains(caller.source)))
}

/// Whether a method is one of these. Without any it is.
pub(super) fn is_method(methods: &[TextPattern], method: &str, action: AuthorizationAction) -> bool {
    let text = Text { bytes: method.as_bytes(), loose: action == AuthorizationAction::Deny };
    methods.is_empty() || methods.iter().any(|pattern| text.is(pattern))
}

/// Whether a reading of a path is one of these, byte by byte.
pub(super) fn is_path(paths: &[TextPattern], reading: &[u8]) -> bool {
    let text = Text { bytes: reading, loose: false };
    paths.iter().any(|pattern| text.is(pattern))
}

/// Whether a request is as a condition says.
pub(super) fn holds(condition: &Condition, call: &Call<'_>, action: AuthorizationAction) -> bool {
    let values = &condition.values;
    match &condition.subject {
        Subject::Claim(names) => call.claims.is_some_and(|claims| {
            claims
                .any(names, |found| values.is_empty() || values.iter().any(|pattern| pattern.matches(found)))
        }),
        Subject::Header(name) => {
            let fields = call.headers.get_all(name);
            let mut found = fields.iter().map(http::HeaderValue::as_bytes).peekable();
            if found.peek().is_none() {
                let host = *name == HOST && !call.authority.is_empty();
                return host && is_value(values, call.authority.as_bytes(), action);
            }
            match action {
                AuthorizationAction::Allow => found.all(|value| is_value(values, value, action)),
                AuthorizationAction::Deny | AuthorizationAction::Audit => {
                    found.any(|value| is_value(values, value, action))
                }
            }
        }
    }
}

/// Whether the value of a field is one of these. Without any it is.
fn is_value(values: &[TextPattern], value: &[u8], action: AuthorizationAction) -> bool {
    let one = |bytes: &[u8]| {
        let text = Text { bytes, loose: action == AuthorizationAction::Deny };
        values.iter().any(|pattern| text.is(pattern))
    };
    let elements = || value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    values.is_empty() || one(value) || (action == AuthorizationAction::Deny && elements().any(one))
}

/// What is compared, without regard to the case of ASCII letters where it is loose.
struct Text<'t> {
    bytes: &'t [u8],
    loose: bool,
}

impl Text<'_> {
    fn is(&self, pattern: &TextPattern) -> bool {
        let same = |one: &[u8], other: &[u8]| {
            if self.loose { one.eq_ignore_ascii_case(other) } else { one == other }
        };
        match pattern {
            TextPattern::Exact(text) => same(self.bytes, text.as_bytes()),
            TextPattern::Prefix(text) => {
                self.bytes.get(..text.len()).is_some_and(|start| same(start, text.as_bytes()))
            }
        }
    }
}
