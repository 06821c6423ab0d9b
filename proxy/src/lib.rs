//! The sidecar: carries a workload's traffic in and out.
//!
//! Read [`outbound`] and [`inbound`] first: each lists the stages of its direction in order. The proxy learns what to do
//! from xDS only; it never sees YAML or a Kubernetes type.

pub mod accept;
pub mod admin;
pub mod certificates;
pub mod demand;
pub mod flags;
pub mod http;
pub mod inbound;
pub mod opaque;
pub mod outbound;
pub mod reason;
pub mod redirect;
pub mod run;
pub mod snapshot;
pub mod sniff;
pub mod telemetry;
pub mod upstream;
pub mod worker;
pub mod xds;
