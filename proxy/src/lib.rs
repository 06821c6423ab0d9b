//! The sidecar: carries a workload's traffic in and out.
//!
//! Read [`outbound`] and [`inbound`] first: each lists the stages of its direction in order. The proxy learns what to do
//! from xDS only; it never sees YAML or a Kubernetes type.

pub mod outbound;
pub mod inbound;
pub mod accept;
pub mod sniff;
pub mod http;
pub mod opaque;
pub mod protection;
pub mod authorization;
pub mod jwt;
pub mod limit;
pub mod upstream;
pub mod reason;
pub mod snapshot;
pub mod worker;
pub mod alarms;
pub mod telemetry;
pub mod demand;
pub mod xds;
pub mod certificates;
pub mod spiffe;
pub mod state;
pub mod application;
pub mod admin;
pub mod redirect;
pub mod wait;
pub mod flags;
pub mod run;
