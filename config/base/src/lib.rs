//! What every Outrigger process needs: keys, TLS, telemetry, lifecycle.
//!
//! Both planes are built on this crate, so it must not know about either: no xDS, no YAML, no Kubernetes, no user
//! traffic. It offers mechanisms; the binaries choose addresses, names of metrics and what to wait for.

pub mod admin;
pub mod ca;
pub mod flags;
pub mod identity;
pub mod jwks;
pub mod keys;
pub mod lifecycle;
pub mod spiffe;
pub mod telemetry;
pub mod tls;
