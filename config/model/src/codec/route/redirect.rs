//! Answers that send the client elsewhere.

use envoy_types::pb::envoy::config::route::v3::RedirectAction as Wire;
use envoy_types::pb::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use http::StatusCode;

use super::rewrite::{self, Beside};
use crate::codec::fault::{Decoded, Fault, refuse, shorten};
use crate::codec::wire;
use crate::filter::{PathChange, Redirect, Scheme};

pub(super) fn encode(redirect: &Redirect, beside: Beside) -> Wire {
    let scheme = redirect.scheme.map(|scheme| match scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    });
    let path = redirect.path.as_ref().map(|path| match path {
        PathChange::Full(path) => PathRewriteSpecifier::PathRedirect(rewrite::whole(path)),
        PathChange::Prefix(replacement) => PathRewriteSpecifier::PrefixRewrite(beside.encode(replacement)),
    });
    Wire {
        host_redirect: redirect.host.as_deref().unwrap_or_default().to_owned(),
        port_redirect: redirect.port.unwrap_or_default().into(),
        response_code: encode_status(redirect.status).into(),
        scheme_rewrite_specifier: scheme
            .map(|scheme| SchemeRewriteSpecifier::SchemeRedirect(scheme.to_owned())),
        path_rewrite_specifier: path,
        ..Wire::default()
    }
}

/// Any other status than those of the model means what 302 does to a client: go there.
fn encode_status(status: StatusCode) -> RedirectResponseCode {
    match status {
        StatusCode::MOVED_PERMANENTLY => RedirectResponseCode::MovedPermanently,
        StatusCode::SEE_OTHER => RedirectResponseCode::SeeOther,
        StatusCode::TEMPORARY_REDIRECT => RedirectResponseCode::TemporaryRedirect,
        StatusCode::PERMANENT_REDIRECT => RedirectResponseCode::PermanentRedirect,
        _ => RedirectResponseCode::Found,
    }
}

pub(super) fn decode(wire: &Wire, beside: Beside) -> Decoded<Redirect> {
    refuse(&[("strip_query", wire.strip_query)])?;
    let scheme = match &wire.scheme_rewrite_specifier {
        None | Some(SchemeRewriteSpecifier::HttpsRedirect(false)) => None,
        Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => Some(Scheme::Https),
        Some(SchemeRewriteSpecifier::SchemeRedirect(word)) => decode_scheme(word)?,
    };
    let host = Some(wire.host_redirect.as_str()).filter(|host| !host.is_empty());
    let host = host.map(rewrite::read_host).transpose().map_err(|fault| fault.within("host_redirect"))?;
    let port = Some(wire.port_redirect).filter(|port| *port != 0);
    Ok(Redirect {
        scheme,
        host: host.map(Into::into),
        port: port.map(|port| wire::port("port_redirect", port)).transpose()?,
        path: decode_path(wire.path_rewrite_specifier.as_ref(), beside)?,
        status: decode_status(wire.response_code)?,
    })
}

fn decode_scheme(word: &str) -> Decoded<Option<Scheme>> {
    match word {
        "" => Ok(None),
        "http" => Ok(Some(Scheme::Http)),
        "https" => Ok(Some(Scheme::Https)),
        other => Err(Fault::new("scheme_redirect", format!("{:?} is not supported", shorten(other)))),
    }
}

fn decode_path(wire: Option<&PathRewriteSpecifier>, beside: Beside) -> Decoded<Option<PathChange>> {
    match wire {
        None => Ok(None),
        Some(PathRewriteSpecifier::PathRedirect(path) | PathRewriteSpecifier::PrefixRewrite(path))
            if path.is_empty() =>
        {
            Ok(None)
        }
        Some(PathRewriteSpecifier::PathRedirect(path)) if path.contains('?') => {
            Err(Fault::new("path_redirect", "has a query, which is not supported"))
        }
        Some(PathRewriteSpecifier::PathRedirect(path)) => {
            Beside::WholePath.decode(path).map(Some).map_err(|fault| fault.within("path_redirect"))
        }
        Some(PathRewriteSpecifier::PrefixRewrite(text)) => {
            beside.decode(text).map(Some).map_err(|fault| fault.within("prefix_rewrite"))
        }
        Some(_) => Err(Fault::new("path_rewrite_specifier", "is not supported")),
    }
}

fn decode_status(code: i32) -> Decoded<StatusCode> {
    match RedirectResponseCode::try_from(code) {
        Ok(RedirectResponseCode::MovedPermanently) => Ok(StatusCode::MOVED_PERMANENTLY),
        Ok(RedirectResponseCode::Found) => Ok(StatusCode::FOUND),
        Ok(RedirectResponseCode::SeeOther) => Ok(StatusCode::SEE_OTHER),
        Ok(RedirectResponseCode::TemporaryRedirect) => Ok(StatusCode::TEMPORARY_REDIRECT),
        Ok(RedirectResponseCode::PermanentRedirect) => Ok(StatusCode::PERMANENT_REDIRECT),
        Err(unknown) => Err(Fault::new("response_code", format!("{} is not known here", unknown.0))),
    }
}

/// Makes the other half of what stands beside the first half of a segment prefix.
pub(super) fn head_to_tail(wire: &mut Wire) {
    if let Some(PathRewriteSpecifier::PrefixRewrite(text)) = &mut wire.path_rewrite_specifier {
        rewrite::head_to_tail(text);
    }
}
