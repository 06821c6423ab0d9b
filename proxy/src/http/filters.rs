//! What routes do with requests beyond changing their heads, in a fixed order.

use http::request::Parts;

use super::answer::Stop;
use super::exchange::Exchange;
use crate::snapshot::{Filters, Route};

mod fault;
mod limit;
mod redirect;

pub(crate) use limit::limit_inbound;
pub(crate) use redirect::redirect;

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
    _matched: Matched<'_>,
    filters: &Filters,
    parts: &mut Parts,
) -> Result<(), Stop> {
    if let Some(fault) = &filters.config.fault {
        fault::fault(exchange, fault).await?;
    }
    if let Some(limiter) = &filters.rate {
        limit::limit_outbound(exchange, limiter, parts)?;
    }
    if filters.config.cors.is_some() {
        exchange.answer_fields();
    }
    Ok(())
}
