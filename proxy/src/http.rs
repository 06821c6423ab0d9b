//! HTTP on both sides of the proxy: serving connections, what is let through, and how requests are tried.
//!
//! The stages of a request stand in [`crate::outbound`] and [`crate::inbound`]; this module has what both use.

mod affinity;
mod answer;
mod attempt;
mod body;
mod connection;
mod deadline;
mod exchange;
mod filters;
mod forward;
mod headers;
mod hygiene;
mod refused;
mod retry_after;
mod serve;
mod session;
mod trace;
mod tunnel;

pub use body::{Body, BodyError};
pub use connection::{Direction, Downstream, DownstreamSecurity, Held};
pub use serve::serve;

pub(crate) use affinity::{affinity, hash_address, report};
pub(crate) use answer::{REASON, Stop, stop};
pub(crate) use attempt::{Plan, attempts, believe, within_time};
pub(crate) use connection::Connection;
pub(crate) use deadline::{earliest as earliest_deadline, refresh as refresh_deadline};
pub(crate) use exchange::Exchange;
pub(crate) use filters::{Matched, check_token, filter_chosen, filter_request, limit_inbound, redirect};
pub(crate) use forward::{Arrived, Outgoing, send};
pub(crate) use headers::apply;
pub(crate) use hygiene::{
    BodyLength, Checked, FORWARDED_CLIENT_CERT, Fields, check_request, check_response, fit_version,
};
pub(crate) use session::Session;
pub(crate) use trace::{TRACEPARENT, keep_or_start};
pub(crate) use tunnel::{Answered, finish, prepare_switch};
