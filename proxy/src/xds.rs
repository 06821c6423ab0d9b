//! Configuration from the control plane: the life of a configuration change, on the proxy's side.
//!
//! One incremental ADS stream ([`Client`]). What it brings is decoded item by item into `held`; `link` makes one complete
//! snapshot of it, which is swapped in before the ACK is sent, so that an ACK means "in force". Subscriptions follow from
//! what is held: destinations name routes, routes name clusters, clusters have endpoints. Losing the control plane
//! changes nothing for traffic. Not here: what a destination's configuration means to a request.

mod backoff;
mod client;
mod control_plane;
mod held;
mod link;
mod node;
mod protocol;
mod refusal;
mod saved;
#[cfg(test)]
pub(crate) mod support;

pub use client::{Client, Currency, METRICS, Parts};
pub use control_plane::{Connection, ControlPlane, ControlPlaneError, TokenError};
pub use node::{Identity, node};

pub(crate) use backoff::Backoff;
