//! The SPIFFE Workload API, as far as X.509 identities go: client and server, generated.
//!
//! The proxy calls it when its identity comes from an agent on the host instead of the control plane. Generated code only.

#![allow(missing_docs, unreachable_pub, clippy::all)]

tonic::include_proto!("_");
