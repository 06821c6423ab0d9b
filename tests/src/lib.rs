//! What the whole-mesh tests share: real counterparts, programs of the workspace as child processes, addresses that
//! no other test uses, an origin that tells what it saw, networks and what is on their wires, a Kubernetes cluster, and the
//! style rules that a test holds.
//!
//! A test of one crate belongs into that crate; here is only what spans several. This library knows how to start and
//! observe things; what a mesh does with them it must not know: every expectation stands in a file of `tests/tests/`.

pub mod client;
pub mod counterparts;
pub mod kube;
pub mod mesh;
pub mod network;
pub mod origin;
pub mod ports;
pub mod process;
pub mod tidy;
pub mod town;

mod wait;

pub use wait::eventually;
