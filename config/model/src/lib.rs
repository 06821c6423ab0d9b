//! The vocabulary of the data plane and its translation to and from xDS.
//!
//! The control plane builds these types from what users wrote, the proxy runs on them, and [`codec`] is the only
//! place where they meet Envoy's protocol buffers. Nothing here does I/O, reads a clock, is async, or knows YAML.

pub mod identity;
pub mod name;
pub mod listener;
pub mod route;
pub mod session;
pub mod filter;
pub mod policy;
pub mod health_check;
pub mod upstream_tls;
pub mod cluster;
pub mod endpoint;
pub mod authorization;
pub mod jwt;
pub mod trust;
pub mod inbound;
pub mod resource;
pub mod codec;
