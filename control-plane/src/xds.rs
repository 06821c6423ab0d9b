//! Discovery (xDS v3): tells each client what it asked for, and what changed of it since.
//!
//! [`Hub`] holds the world in force and the encoded resources that anybody subscribes to, each computed once for all
//! streams. [`Discovery`] is the gRPC `service`: one `session` a stream, which speaks either the incremental (`delta`)
//! or the state-of-the-world (`sotw`) variant of the protocol. What a resource contains is `translate`'s business;
//! nothing here looks into one.

mod board;
mod cache;
mod connections;
mod delta;
mod encoded;
mod hub;
mod node;
mod service;
mod session;
mod sotw;
mod subscription;

pub use connections::{Follower, Nack, ProxyStatus, TypeStatus};
pub use hub::Hub;
pub use service::Discovery;

/// The largest request, in bytes.
pub const MAX_REQUEST_BYTES: usize = 4 * 1024 * 1024;
/// Names one stream may subscribe to.
pub const MAX_NAMES_PER_STREAM: usize = 10_000;
/// The longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 512;
/// Streams at a time.
pub const MAX_STREAMS: usize = 20_000;

#[cfg(test)]
mod tests;
