//! The certificate authority API `istio.v1.auth.IstioCertificateService`: client and server, generated.
//!
//! The proxy calls it to get its certificate, the control plane serves it (contracts, section 3). Generated code only:
//! who may have which identity is decided by the control plane.

#![allow(missing_docs, unreachable_pub, clippy::all)]

tonic::include_proto!("istio.v1.auth");
