//! What routes do with requests beyond changing their heads, in a fixed order.

use http::Request;
use http::request::Parts;

use outrigger_model::filter::Rewrite;

use super::Body;
use super::answer::Stop;
use super::exchange::Exchange;
use super::hygiene::Checked;
use crate::snapshot::{Backend, Filters, Route};

mod cors;
mod fault;
mod limit;
mod mirror;
mod redirect;
mod rewrite;
mod token;

pub(crate) use limit::limit_inbound;
pub(super) use mirror::{Channel, Copied, Teed};
pub(crate) use redirect::redirect;
pub(crate) use token::check_token;

/// Where a request is in the configuration.
#[derive(Clone, Copy)]
pub(crate) struct Matched<'a> {
    /// The route it matched.
    pub(crate) route: &'a Route,
    /// The port that was dialled.
    pub(crate) port: u16,
}

/// Applies the filters of a route to a request head, before a backend is chosen.
pub(crate) async fn filter_request(
    exchange: &mut Exchange,
    filters: &Filters,
    parts: &mut Parts,
) -> Result<(), Stop> {
    if let Some(fault) = &filters.config.fault {
        fault::fault(exchange, fault).await?;
    }
    if let Some(limiter) = &filters.rate {
        limit::limit_outbound(exchange, limiter, parts)?;
    }
    if let Some(limit) = &filters.global {
        Box::pin(limit::limit_globally(exchange, limit, parts)).await?;
    }
    if let Some(policy) = &filters.config.cors {
        cors::cors(policy, parts, exchange.answer_fields())?;
    }
    Ok(())
}

/// Applies what is left for a request whose backend is chosen: the backend's own policy for browsers, another host or
/// path, and copies.
pub(crate) fn filter_chosen(
    exchange: &mut Exchange,
    matched: Matched<'_>,
    backend: &Backend,
    (request, asked): (&mut Request<Body>, &Checked),
) -> Result<(), Stop> {
    let of_backend = backend.filters.as_deref();
    let (mut parts, body) = std::mem::take(request).into_parts();
    if let Some(policy) = of_backend.and_then(|filters| filters.config.cors.as_ref()) {
        cors::cors(policy, &parts, exchange.answer_fields())?;
    }
    let rewrites = (rewrite_of(matched.route.filters.as_deref()), rewrite_of(of_backend));
    rewrite::rewrite(rewrites, &matched.route.matches.path, &mut parts)?;
    *request = Request::from_parts(parts, body);
    // What follows a switch of protocols is a conversation, of which nobody else can be a part.
    if *asked == Checked::Plain {
        mirror::mirror(exchange, matched, backend, request);
    }
    Ok(())
}

fn rewrite_of(filters: Option<&Filters>) -> Option<&Rewrite> {
    filters?.config.rewrite.as_ref()
}
