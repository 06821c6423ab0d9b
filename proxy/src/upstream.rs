//! Towards endpoints: which one takes a request, how many may, and the connections to them.
//!
//! A request leases an endpoint from its [`Cluster`], then takes a connection from the [`Pools`] of its worker. Decisions
//! (`balance`, `outlier`, `budget`) are plain functions of counts, time and chance; statistics are atomics shared by
//! workers; connections belong to one worker. Nothing here knows routes, filters or retry policy: the attempt loop does.

mod arrivals;
mod balance;
mod budget;
mod cluster;
mod connection;
mod dial;
pub mod dns;
mod endpoint;
mod ewma;
mod hash;
pub mod health;
mod hedging;
mod http1;
mod http2;
mod latencies;
mod lease;
mod limits;
mod live;
mod locality;
mod maglev;
mod message;
mod metrics;
mod orca;
mod origin;
mod outlier;
mod pool;
mod received;
mod ring;
mod set;
mod shares;
#[cfg(test)]
mod simulation;
mod slow_start;
mod spill;
#[cfg(test)]
mod support;
mod view;
mod window;

pub use cluster::{Cluster, MAX_ENDPOINTS};
pub use connection::{Connection, SendCause, SendError};
pub use dial::{DialCause, DialError, Stream, dial, dial_plain};
pub use endpoint::Endpoint;
pub(crate) use hash::xxh64;
pub use hedging::Hedging;
pub use http1::Http1Error;
pub use lease::{Affinity, Lease, Outcome, PickContext};
pub use limits::{ConnectionPermit, RetryGuard};
pub use message::Message;
pub use metrics::METRICS;
pub use orca::{Report, is_report, report};
pub use origin::Origin;
pub use pool::{HttpVersion, Pools, Security, Target};
pub use received::{ReceiveError, Received, Switched, Switching};
pub use view::{ClusterView, EndpointStateView, EndpointView, LimitView, LimitsView};
