//! The application beside the proxy, as the kubelet and Prometheus see it.
//!
//! Both come in plaintext and from outside the mesh, so under Strict they would be refused at the application's own port. They
//! ask the proxy instead, which asks the application on their behalf: its metrics are added to ours ([`metrics`]), and its
//! probes are answered as the application answers them ([`probes`]). What is asked is written into the pod when the sidecar is
//! injected; nothing a caller sends decides where the proxy connects to. All of this lives on the control thread.

pub mod metrics;
pub mod probes;

mod ask;
mod grpc;

pub(crate) use ask::{Question, ask};
