//! Other hosts and paths: of redirects, and of requests that go on.
//!
//! A segment prefix is two routes on the wire, and so is what replaces it: `/b` where the path is `/a` and nothing more,
//! `/b/` where it starts with `/a/`. Envoy replaces text, so that both give the path that the model says.

use envoy_types::pb::envoy::config::route::v3::route_action::HostRewriteSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::{RouteAction, RouteMatch as WireMatch};
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatchAndSubstitute, RegexMatcher};
use http::uri::Authority;

use crate::codec::fault::{Decoded, Fault, shorten};
use crate::filter::{PathChange, Rewrite};

/// What stands for the whole path where a path is replaced as a whole; understood by every version of Envoy.
const WHOLE_PATH: &str = "^/.*$";

/// The path match that a change of the path stands beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beside {
    /// One of whole paths.
    WholePath,
    /// The half of a segment prefix that is the prefix itself.
    Head,
    /// A prefix that ends with a slash: the other half of a segment prefix, or `/`.
    Slash,
    /// A prefix of whole segments, in one.
    Segments,
    /// Any other prefix.
    Text,
}

impl Beside {
    /// What a match on the wire is; `is_head` says that its route is the first half of a segment prefix.
    pub(super) fn of(matches: Option<&WireMatch>, is_head: bool) -> Self {
        match matches.and_then(|matches| matches.path_specifier.as_ref()) {
            Some(PathSpecifier::Path(_)) if is_head => Self::Head,
            Some(PathSpecifier::Prefix(prefix)) if prefix.is_empty() || prefix == "/" => Self::Slash,
            Some(PathSpecifier::Prefix(prefix)) if is_head && prefix.ends_with('/') => Self::Slash,
            Some(PathSpecifier::Prefix(_)) => Self::Text,
            Some(PathSpecifier::PathSeparatedPrefix(_)) => Self::Segments,
            _ => Self::WholePath,
        }
    }

    /// What a prefix is replaced with on the wire.
    pub(super) fn encode(self, replacement: &str) -> String {
        let bare = replacement.trim_end_matches('/');
        match self {
            Self::Slash => format!("{bare}/"),
            _ if bare.is_empty() => "/".to_owned(),
            _ => bare.to_owned(),
        }
    }

    /// What a replacement on the wire means.
    pub(super) fn decode(self, text: &str) -> Decoded<PathChange> {
        if !text.starts_with('/') {
            return Err(Fault::whole(format!("{:?} does not start with /", shorten(text))));
        }
        let joins = text.ends_with('/');
        match self {
            Self::WholePath => Ok(PathChange::Full(text.into())),
            Self::Slash if !joins => {
                Err(Fault::whole(format!("{:?} does not end with /, as the prefix does", shorten(text))))
            }
            Self::Text => Err(Fault::whole("is not supported beside a prefix that is not of whole segments")),
            Self::Head | Self::Slash | Self::Segments => {
                Ok(PathChange::Prefix(text.trim_end_matches('/').into()))
            }
        }
    }
}

/// A whole path on the wire, where an empty text says nothing.
pub(super) fn whole(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

/// The other half's form of what replaces the first half of a segment prefix.
pub(super) fn head_to_tail(replacement: &mut String) {
    if !replacement.is_empty() && !replacement.ends_with('/') {
        replacement.push('/');
    }
}

pub(super) fn encode(rewrite: &Rewrite, beside: Beside, wire: &mut RouteAction) {
    if let Some(host) = &rewrite.host {
        wire.host_rewrite_specifier = Some(HostRewriteSpecifier::HostRewriteLiteral(host.as_ref().into()));
    }
    match &rewrite.path {
        None => {}
        Some(PathChange::Prefix(replacement)) => wire.prefix_rewrite = beside.encode(replacement),
        Some(PathChange::Full(path)) => {
            let pattern = RegexMatcher { regex: WHOLE_PATH.to_owned(), engine_type: None };
            let substitution = whole(path).replace('\\', "\\\\");
            wire.regex_rewrite = Some(RegexMatchAndSubstitute { pattern: Some(pattern), substitution });
        }
    }
}

pub(super) fn decode(wire: &RouteAction, beside: Beside) -> Decoded<Option<Rewrite>> {
    let host = match &wire.host_rewrite_specifier {
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => {
            Some(read_host(host).map_err(|fault| fault.within("host_rewrite_literal"))?)
        }
        Some(HostRewriteSpecifier::AutoHostRewrite(on)) if !on.value => None,
        Some(_) => return Err(Fault::new("host_rewrite_specifier", "is not supported")),
        None => None,
    };
    let path = decode_path(wire, beside)?;
    let rewrite = Rewrite { host: host.map(Into::into), path };
    Ok((rewrite != Rewrite::default()).then_some(rewrite))
}

/// Reads the name of a host, with or without a port.
pub(super) fn read_host(host: &str) -> Decoded<&str> {
    match host.parse::<Authority>() {
        Ok(authority) if !host.contains('@') && !authority.host().is_empty() => Ok(host),
        _ => Err(Fault::whole(format!("{:?} is not a host", shorten(host)))),
    }
}

/// Envoy refuses two of these fields at once.
fn decode_path(wire: &RouteAction, beside: Beside) -> Decoded<Option<PathChange>> {
    let prefix = Some(&wire.prefix_rewrite).filter(|text| !text.is_empty());
    let whole = Some(&wire.path_rewrite).filter(|text| !text.is_empty());
    match (prefix, &wire.regex_rewrite, whole) {
        (None, None, None) => Ok(None),
        (Some(text), None, None) => {
            beside.decode(text).map(Some).map_err(|fault| fault.within("prefix_rewrite"))
        }
        (None, Some(regex), None) => {
            decode_regex(regex).map(Some).map_err(|fault| fault.within("regex_rewrite"))
        }
        (None, None, Some(text)) if text.contains('%') => {
            Err(Fault::new("path_rewrite", "has a command in it, which is not supported"))
        }
        (None, None, Some(text)) => {
            Beside::WholePath.decode(text).map(Some).map_err(|fault| fault.within("path_rewrite"))
        }
        _ => Err(Fault::new("prefix_rewrite", "is one of several rewrites of the path")),
    }
}

fn decode_regex(wire: &RegexMatchAndSubstitute) -> Decoded<PathChange> {
    let pattern = wire.pattern.as_ref().map(|pattern| pattern.regex.as_str()).unwrap_or_default();
    if pattern != WHOLE_PATH {
        return Err(Fault::new("pattern", format!("only {WHOLE_PATH:?}, the whole path, is supported")));
    }
    let plain = wire.substitution.replace("\\\\", "");
    match plain.contains('\\') {
        true => Err(Fault::new("substitution", "refers to a group, and the pattern has none")),
        false => Beside::WholePath
            .decode(&wire.substitution.replace("\\\\", "\\"))
            .map_err(|fault| fault.within("substitution")),
    }
}
